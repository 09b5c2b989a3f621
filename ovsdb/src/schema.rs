//! Database schemas (RFC 7047 section 3.2): databases, tables, columns.
//!
//! Columns are numbered within their table: 0 is `_uuid`, 1 is `_version`, the schema's own follow by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::json::Json;
use crate::parser::{Kinds, Parser};
use crate::types::{AtomicType, BaseType, RefType, Type};
use crate::value::is_id;

/// The column `_uuid`.
pub const UUID: usize = 0;
/// The column `_version`.
pub const VERSION: usize = 1;
/// The first column of the schema's own.
pub const FIRST_OWN: usize = 2;

/// A column.
#[derive(Clone, PartialEq, Debug)]
pub struct ColumnSchema {
    /// Its name.
    pub name: Arc<str>,
    /// May change after its row was inserted.
    pub mutable: bool,
    /// Is written to disk: not ephemeral.
    pub persistent: bool,
    /// What it holds.
    pub kind: Type,
}

impl ColumnSchema {
    fn builtin(name: &str) -> Self {
        Self { name: name.into(), mutable: false, persistent: false, kind: Type::scalar(AtomicType::Uuid) }
    }

    /// Parses a `<column-schema>`.
    pub fn from_json(name: &str, value: &Value) -> Result<Self> {
        let mut parser = Parser::new(value, format!("schema for column {name}"));
        let mutable = parser.optional("mutable", Kinds::BOOLEAN).and_then(Value::as_bool);
        let ephemeral = parser.optional("ephemeral", Kinds::BOOLEAN).and_then(Value::as_bool);
        let kind = parser.required("type", Kinds::STRING | Kinds::OBJECT);
        parser.finish()?;
        let kind = Type::from_json(kind.unwrap_or(&Value::Null))?;
        let weak = |base: &BaseType| base.reference().is_some_and(|r| r.kind == RefType::Weak);
        // An immutable weak reference could never be cleared: OVS makes such a column mutable.
        let has_weak = weak(&kind.key) || kind.value.as_ref().is_some_and(weak);
        Ok(Self {
            name: name.into(),
            mutable: mutable.unwrap_or(true) || has_weak,
            persistent: !ephemeral.unwrap_or(false),
            kind,
        })
    }

    /// Its JSON.
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "type": self.kind.to_json() });
        if !self.mutable {
            object["mutable"] = false.into();
        }
        if !self.persistent {
            object["ephemeral"] = true.into();
        }
        object
    }

    /// True for `_uuid` and `_version`.
    pub fn is_builtin(&self) -> bool {
        self.name.starts_with('_')
    }

    /// The references in keys and values, with whether they are the values'.
    pub fn references(&self) -> impl Iterator<Item = (bool, &crate::types::Reference)> {
        let value = self.kind.value.as_ref().and_then(BaseType::reference);
        self.kind.key.reference().map(|r| (false, r)).into_iter().chain(value.map(|r| (true, r)))
    }
}

/// A table.
#[derive(Clone, PartialEq, Debug)]
pub struct TableSchema {
    /// Its name.
    pub name: Arc<str>,
    /// Its columns by number.
    pub columns: Vec<ColumnSchema>,
    /// Its rows may change.
    pub mutable: bool,
    /// Its rows live without references; tells the truth only in a [`DatabaseSchema`].
    pub is_root: bool,
    /// Most rows; `u32::MAX` means unlimited.
    pub max_rows: u32,
    /// Sets of columns whose values no two rows share.
    pub indexes: Vec<Vec<usize>>,
}

impl TableSchema {
    /// The number of the column called `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        // Names differ in length mostly: to look at all is faster than to hash one.
        self.columns.iter().position(|column| *column.name == *name)
    }

    /// The schema's own columns, with their numbers.
    pub fn own_columns(&self) -> impl Iterator<Item = (usize, &ColumnSchema)> {
        self.columns.iter().enumerate().skip(FIRST_OWN)
    }

    /// A column by name.
    pub fn get(&self, name: &str) -> Option<&ColumnSchema> {
        self.column(name).map(|at| &self.columns[at])
    }

    /// Parses a `<table-schema>`.
    pub fn from_json(name: &str, value: &Value) -> Result<Self> {
        let mut parser = Parser::new(value, format!("table schema for table {name}"));
        let columns = parser.required("columns", Kinds::OBJECT);
        let mutable = parser.optional("mutable", Kinds::BOOLEAN).and_then(Value::as_bool);
        let max_rows = parser.optional("maxRows", Kinds::INTEGER);
        let is_root = parser.optional("isRoot", Kinds::BOOLEAN).and_then(Value::as_bool);
        let indexes = parser.optional("indexes", Kinds::ARRAY);
        parser.finish()?;
        let max_rows = match max_rows.map(|max| crate::json::integer(max).unwrap_or_default()) {
            Some(..1) => return Err(Error::syntax(value, "maxRows must be at least 1")),
            Some(max) => u32::try_from(max).unwrap_or(u32::MAX),
            None => u32::MAX,
        };
        let Some(Value::Object(columns)) = columns.filter(|c| c.as_object().is_some_and(|c| !c.is_empty()))
        else {
            return Err(Error::syntax(value, "table must have at least one column"));
        };
        let mut own = Vec::with_capacity(columns.len());
        for (name, column) in columns {
            check_name(name, value)?;
            own.push(ColumnSchema::from_json(name, column)?);
        }
        let mut table = Self::new(name, own);
        table.mutable = mutable.unwrap_or(true);
        table.is_root = is_root.unwrap_or(false);
        table.max_rows = max_rows;
        for index in indexes.and_then(Value::as_array).into_iter().flatten() {
            table.indexes.push(table.index_from_json(index)?);
        }
        Ok(table)
    }

    /// A mutable table with these columns of its own, no index and any number of rows.
    pub fn new(name: &str, own: Vec<ColumnSchema>) -> Self {
        let mut columns = vec![ColumnSchema::builtin("_uuid"), ColumnSchema::builtin("_version")];
        columns.extend(own);
        let is_root = false;
        Self { name: name.into(), columns, mutable: true, is_root, max_rows: u32::MAX, indexes: Vec::new() }
    }

    fn index_from_json(&self, value: &Value) -> Result<Vec<usize>> {
        let columns = self.columns_from_json(Some(value))?;
        if columns.is_empty() {
            return Err(Error::syntax(value, "index must have at least one column"));
        }
        for &at in &columns {
            let column = &self.columns[at];
            if !column.persistent {
                let name = &column.name;
                let details = format!("ephemeral columns (such as {name}) may not be indexed");
                return Err(Error::syntax(value, details));
            }
        }
        Ok(columns)
    }

    /// A set of columns from an array of names: sorted by number; all of them without an array.
    pub fn columns_from_json<'a, J: Json<'a>>(&self, value: Option<J>) -> Result<Vec<usize>> {
        let Some(value) = value else { return Ok((0..self.columns.len()).collect()) };
        let distinct = || Error::syntax(value, "array of distinct column names expected");
        let mut columns = Vec::new();
        if !value.is_array() {
            return Err(distinct());
        }
        for name in value.items() {
            let name = name.as_str().ok_or_else(distinct)?;
            let Some(at) = self.column(name) else {
                return Err(Error::syntax(value, format!("{name} is not a valid column name")));
            };
            if columns.contains(&at) {
                return Err(distinct());
            }
            columns.push(at);
        }
        Ok(columns)
    }

    /// Its JSON; `default_is_root` is what a table is that does not say.
    pub fn to_json(&self, default_is_root: bool) -> Value {
        let columns: Map<String, Value> =
            self.own_columns().map(|(_, column)| (column.name.to_string(), column.to_json())).collect();
        let mut object = json!({ "columns": columns });
        if !self.mutable {
            object["mutable"] = false.into();
        }
        if self.is_root != default_is_root {
            object["isRoot"] = self.is_root.into();
        }
        if self.max_rows != u32::MAX {
            object["maxRows"] = self.max_rows.into();
        }
        if !self.indexes.is_empty() {
            let names = |index: &Vec<usize>| {
                Value::from_iter(index.iter().map(|&at| self.columns[at].name.to_string()))
            };
            object["indexes"] = Value::from_iter(self.indexes.iter().map(names));
        }
        object
    }
}

fn check_name(name: &str, value: &Value) -> Result<()> {
    if name.starts_with('_') {
        return Err(Error::syntax(value, "names beginning with \"_\" are reserved"));
    }
    if !is_id(name) {
        return Err(Error::syntax(value, "name must be a valid id"));
    }
    Ok(())
}

/// A database.
#[derive(Clone, PartialEq, Debug)]
pub struct DatabaseSchema {
    /// Its name.
    pub name: Arc<str>,
    /// `x.y.z`, or empty.
    pub version: String,
    /// The checksum that the schema's author gave, or empty.
    pub cksum: String,
    /// Its tables by name.
    pub tables: BTreeMap<Arc<str>, Arc<TableSchema>>,
}

impl DatabaseSchema {
    /// Parses a `<database-schema>`.
    pub fn from_json(value: &Value) -> Result<Self> {
        let mut parser = Parser::new(value, "database schema");
        let name = parser.required("name", Kinds::ID).and_then(Value::as_str);
        let version = parser.optional("version", Kinds::STRING).and_then(Value::as_str);
        let cksum = parser.optional("cksum", Kinds::STRING).and_then(Value::as_str);
        let tables = parser.required("tables", Kinds::OBJECT).and_then(Value::as_object);
        parser.finish()?;
        let version = version.unwrap_or_default();
        if !version.is_empty() && !is_version(version) {
            return Err(Error::syntax(value, format!("schema version \"{version}\" not in format x.y.z")));
        }
        let mut schema = Self {
            name: name.unwrap_or_default().into(),
            version: version.to_owned(),
            cksum: cksum.unwrap_or_default().to_owned(),
            tables: BTreeMap::new(),
        };
        for (name, table) in tables.into_iter().flatten() {
            check_name(name, value)?;
            let table = TableSchema::from_json(name, table)?;
            schema.tables.insert(table.name.clone(), Arc::new(table));
        }
        schema.check_references()?;
        schema.settle_roots();
        Ok(schema)
    }

    /// The schema of a database of which only the name is known.
    pub fn empty(name: &str) -> Self {
        Self { name: name.into(), version: String::new(), cksum: String::new(), tables: BTreeMap::new() }
    }

    /// Parses a schema file's text; `file` names it in errors.
    pub fn from_text(file: &str, text: &str) -> Result<Self> {
        let value = crate::json::parse(text).map_err(|error| {
            Error::new("failed to read schema", format!("\"{file}\" could not be read as JSON ({error})"))
        })?;
        Self::from_json(&value).map_err(|error| {
            // OVS wraps the reason in a second error whose details it then prints in parentheses.
            Error { details: Some(format!("failed to parse \"{file}\" as ovsdb schema ({error})")), ..error }
        })
    }

    fn check_references(&self) -> Result<()> {
        for table in self.tables.values() {
            for (_, column) in table.own_columns() {
                for (in_value, reference) in column.references() {
                    if !self.tables.contains_key(&reference.table) {
                        let place = if in_value { "value" } else { "key" };
                        let (column, target) = (&column.name, &reference.table);
                        let details = format!("column {column} {place} refers to undefined table {target}");
                        return Err(Error { syntax: None, ..Error::new("syntax error", details) });
                    }
                }
            }
        }
        Ok(())
    }

    /// Where no table says that it is a root, all are.
    fn settle_roots(&mut self) {
        if self.tables.values().any(|table| table.is_root) {
            return;
        }
        for table in self.tables.values_mut() {
            Arc::make_mut(table).is_root = true;
        }
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.tables.get(name)
    }

    /// Its JSON.
    pub fn to_json(&self) -> Value {
        let all_roots = self.tables.values().all(|table| table.is_root);
        let tables: Map<String, Value> =
            self.tables.values().map(|table| (table.name.to_string(), table.to_json(all_roots))).collect();
        let mut object = json!({ "name": &*self.name, "tables": tables });
        if !self.version.is_empty() {
            object["version"] = self.version.as_str().into();
        }
        if !self.cksum.is_empty() {
            object["cksum"] = self.cksum.as_str().into();
        }
        object
    }
}

/// True for `x.y.z` with x, y and z decimal numbers.
pub fn is_version(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(value: Value) -> String {
        DatabaseSchema::from_json(&value).unwrap_err().details.unwrap()
    }

    #[test]
    fn json_round_trips() {
        let text = json!({
            "name": "Db", "version": "1.2.3", "cksum": "1 2",
            "tables": {
                "A": {
                    "columns": {
                        "b": {"type": {"key": {"type": "uuid", "refTable": "B"}, "min": 0}},
                        "name": {"type": "string", "mutable": false},
                        "seen": {"type": "integer", "ephemeral": true}
                    },
                    "isRoot": true, "maxRows": 1, "indexes": [["name"]]
                },
                "B": {"columns": {"x": {"type": "real"}}}
            }
        });
        let schema = DatabaseSchema::from_json(&text).unwrap();
        assert_eq!(schema.to_json(), text);
        let a = schema.table("A").unwrap();
        assert_eq!(
            a.columns.iter().map(|c| &*c.name).collect::<Vec<_>>(),
            ["_uuid", "_version", "b", "name", "seen"]
        );
        assert_eq!((a.column("_version"), a.column("seen"), a.column("nope")), (Some(1), Some(4), None));
        assert!(a.is_root && !schema.table("B").unwrap().is_root);
    }

    #[test]
    fn without_a_root_all_tables_are_roots() {
        let text = json!({"name": "Db", "tables": {"A": {"columns": {"x": {"type": "real"}}}}});
        let schema = DatabaseSchema::from_json(&text).unwrap();
        assert!(schema.table("A").unwrap().is_root);
        assert_eq!(schema.to_json(), text);
    }

    #[test]
    fn faults_are_named() {
        let column = json!({"type": "string"});
        let table = |table: Value| json!({"name": "Db", "tables": {"A": table}});
        assert_eq!(
            fault(json!({"name": "Db"})),
            "Parsing database schema failed: Required 'tables' member is missing."
        );
        assert_eq!(fault(table(json!({"columns": {}}))), "table must have at least one column");
        assert_eq!(
            fault(table(json!({"columns": {"_x": column}}))),
            "names beginning with \"_\" are reserved"
        );
        assert_eq!(fault(table(json!({"columns": {"x y": column}}))), "name must be a valid id");
        assert_eq!(
            fault(table(json!({"columns": {"x": column}, "maxRows": 0}))),
            "maxRows must be at least 1"
        );
        assert_eq!(
            fault(table(json!({"columns": {"x": column}, "indexes": [["y"]]}))),
            "y is not a valid column name"
        );
        assert_eq!(
            fault(table(json!({"columns": {"x": {"type": {"key": {"type": "uuid", "refTable": "Z"}}}}}))),
            "column x key refers to undefined table Z"
        );
        assert_eq!(
            fault(json!({"name": "Db", "version": "1", "tables": {}})),
            "schema version \"1\" not in format x.y.z"
        );
    }
}
