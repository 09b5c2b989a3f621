//! Monitors (RFC 7047 section 4.1.5 and OVS's `monitor_cond`, `monitor_cond_since`): what a client sees, initially and
//! as the database changes.
//!
//! A [`Spec`] is pure: it turns rows and changes into JSON. Sessions that ask for the same share one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::condition::{Clause, Condition};
use crate::database::{Change, Database, Row, TableId};
use crate::error::{Error, Result};
use crate::parser::{Kinds, Parser};
use crate::schema::{TableSchema, UUID};
use crate::types::Type;
use crate::value::Datum;

/// The dialects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// `monitor`, `update`: old and new values.
    One,
    /// `monitor_cond`, `update2`: differences, conditions.
    Two,
    /// `monitor_cond_since`, `update3`: as two, with transaction ids.
    Three,
}

impl Version {
    /// The version that a method begins.
    pub fn of_method(method: &str) -> Option<Self> {
        match method {
            "monitor" => Some(Self::One),
            "monitor_cond" => Some(Self::Two),
            "monitor_cond_since" => Some(Self::Three),
            _ => None,
        }
    }

    /// The method of its notifications.
    pub fn notification(self) -> &'static str {
        match self {
            Self::One => "update",
            Self::Two => "update2",
            Self::Three => "update3",
        }
    }
}

/// The kinds of changes that a client may or may not want, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Select(u8);

impl Select {
    const INITIAL: Self = Self(1);
    const INSERT: Self = Self(2);
    const DELETE: Self = Self(4);
    const MODIFY: Self = Self(8);
    const ALL: Self = Self(15);
    const NAMES: [(&'static str, Self); 4] = [
        ("initial", Self::INITIAL),
        ("insert", Self::INSERT),
        ("delete", Self::DELETE),
        ("modify", Self::MODIFY),
    ];

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn from_json(table: &TableSchema, value: &Value) -> Result<Self> {
        let mut parser = Parser::new(value, format!("table {} select", table.name));
        let mut select = Self(0);
        for (name, kind) in Self::NAMES {
            if parser.optional(name, Kinds::BOOLEAN) != Some(&Value::Bool(false)) {
                select = select.with(kind);
            }
        }
        parser.finish().map(|()| select)
    }
}

/// What is wanted of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    select: Select,
    columns: Vec<(usize, Select)>,
    /// No clause means every row.
    condition: Condition,
}

impl Wanted {
    fn shows(&self, row: &Row) -> bool {
        shows(&self.condition, row)
    }
}

fn shows(condition: &Condition, row: &Row) -> bool {
    condition.clauses.is_empty() || condition.any_holds(row)
}

/// What a client wants to see of a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    version: Version,
    tables: BTreeMap<TableId, Wanted>,
}

impl Spec {
    /// Parses `<monitor-requests>`.
    pub fn from_json(db: &Database, version: Version, requests: &Value) -> Result<Self> {
        let Some(requests) = requests.as_object() else {
            return Err(Error::syntax(requests, "monitor-requests must be object"));
        };
        let mut tables = BTreeMap::new();
        for (name, request) in requests {
            let Some(id) = db.table_id(name) else {
                return Err(Error::new("syntax error", format!("no table named {name}")));
            };
            let schema = db.table(id).schema();
            let mut wanted =
                Wanted { select: Select(0), columns: Vec::new(), condition: Condition::default() };
            let several = request.as_array().map_or(std::slice::from_ref(request), Vec::as_slice);
            for request in several {
                wanted.add(schema, version, request)?;
            }
            tables.insert(id, wanted);
        }
        Ok(Self { version, tables })
    }

    /// The dialect.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Everything that is to be seen now: `<table-updates>`.
    pub fn initial(&self, db: &Database) -> Value {
        let mut updates = Map::new();
        for (&id, wanted) in &self.tables {
            let table = db.table(id);
            if !wanted.select.has(Select::INITIAL) {
                continue;
            }
            let rows = table.rows().filter(|row| wanted.shows(row));
            let rows: Map<String, Value> = rows
                .map(|row| {
                    (
                        row.uuid().to_string(),
                        self.show(wanted, table.schema(), None, Some(row), Select::INITIAL),
                    )
                })
                .collect();
            if !rows.is_empty() {
                updates.insert(table.schema().name.to_string(), rows.into());
            }
        }
        updates.into()
    }

    /// What `changes` change of what is seen, if anything.
    pub fn update(&self, db: &Database, changes: &[Change]) -> Option<Value> {
        let mut updates = Updates::default();
        for change in changes {
            let Some(wanted) = self.tables.get(&change.table) else { continue };
            let old = change.old.as_deref().filter(|row| wanted.shows(row));
            let new = change.new.as_deref().filter(|row| wanted.shows(row));
            let schema = db.table(change.table).schema();
            if let Some(update) = self.row_update(wanted, schema, old, new) {
                updates.add(schema, change.uuid().to_string(), update);
            }
        }
        updates.finish()
    }

    fn row_update(
        &self,
        wanted: &Wanted,
        schema: &TableSchema,
        old: Option<&Row>,
        new: Option<&Row>,
    ) -> Option<Value> {
        let kind = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => Select::INSERT,
            (Some(_), None) => Select::DELETE,
            (Some(old), Some(new)) => {
                if wanted.columns.iter().all(|&(at, _)| old.get(at) == new.get(at)) {
                    return None;
                }
                Select::MODIFY
            }
        };
        wanted.select.has(kind).then(|| self.show(wanted, schema, old, new, kind))
    }

    /// `<row-update>` or `<row-update2>`.
    fn show(
        &self,
        wanted: &Wanted,
        schema: &TableSchema,
        old: Option<&Row>,
        new: Option<&Row>,
        kind: Select,
    ) -> Value {
        if self.version == Version::One {
            wanted.show_one(schema, old, new, kind)
        } else {
            wanted.show_two(schema, old, new, kind)
        }
    }

    /// Parses `<monitor-cond-update-requests>` and returns the new spec.
    pub fn with_conditions(&self, db: &Database, requests: &Value) -> Result<Self> {
        let Some(requests) = requests.as_object() else {
            return Err(Error::new("syntax error", "monitor-cond-change-requests must be object"));
        };
        let mut spec = self.clone();
        for (name, several) in requests {
            let fault = |details: String| Err(Error::new("syntax error", details));
            let Some(id) = db.table_id(name) else { return fault(format!("no table named {name}")) };
            let Some(wanted) = spec.tables.get_mut(&id) else {
                return fault(format!("no table named {name} in monitor session"));
            };
            let Some(several) = several.as_array() else {
                return fault(format!("table {name} no monitor-cond-change JSON array"));
            };
            for request in several {
                wanted.change_condition(db.table(id).schema(), request)?;
            }
        }
        Ok(spec)
    }

    /// What one sees more or less of `db` by `self` than by `before`, which differs in conditions only.
    pub fn difference(&self, before: &Self, db: &Database) -> Option<Value> {
        let mut updates = Updates::default();
        for (&id, wanted) in &self.tables {
            let Some(former) = before.tables.get(&id) else { continue };
            if former.condition == wanted.condition {
                continue;
            }
            let table = db.table(id);
            for row in table.rows() {
                let was = shows(&former.condition, row).then_some(&**row);
                let is = wanted.shows(row).then_some(&**row);
                if was.is_some() != is.is_some()
                    && let Some(update) = self.row_update(wanted, table.schema(), was, is)
                {
                    updates.add(table.schema(), row.uuid().to_string(), update);
                }
            }
        }
        updates.finish()
    }
}

impl Wanted {
    fn add(&mut self, schema: &TableSchema, version: Version, request: &Value) -> Result<()> {
        let mut parser = Parser::new(request, format!("table {}", schema.name));
        let condition = if version == Version::One { None } else { parser.optional("where", Kinds::ARRAY) };
        let columns = parser.optional("columns", Kinds::ARRAY);
        let select = parser.optional("select", Kinds::OBJECT);
        parser.finish()?;
        let select = select.map_or(Ok(Select::ALL), |value| Select::from_json(schema, value))?;
        self.select = self.select.with(select);
        match columns {
            None => {
                let all = (0..schema.columns.len()).filter(|&at| at != UUID);
                for at in all {
                    self.add_column(schema, request, at, select)?;
                }
            }
            Some(names) => {
                for name in names.as_array().into_iter().flatten() {
                    let Some(name) = name.as_str() else {
                        return Err(Error::syntax(names, "array of column names expected"));
                    };
                    let Some(at) = schema.column(name) else {
                        return Err(Error::syntax(names, format!("{name} is not a valid column name")));
                    };
                    self.add_column(schema, names, at, select)?;
                }
            }
        }
        if let Some(condition) = condition {
            self.condition.clauses.extend(Condition::from_json(schema, condition, None)?.clauses);
        }
        Ok(())
    }

    fn add_column(&mut self, schema: &TableSchema, blame: &Value, at: usize, select: Select) -> Result<()> {
        if self.columns.iter().any(|&(other, _)| other == at) {
            let details = format!("column {} mentioned more than once", schema.columns[at].name);
            return Err(Error::syntax(blame, details));
        }
        self.columns.push((at, select));
        Ok(())
    }

    fn change_condition(&mut self, schema: &TableSchema, request: &Value) -> Result<()> {
        let mut parser = Parser::new(request, format!("table {}", schema.name));
        let columns = parser.optional("columns", Kinds::ARRAY);
        let condition = parser.optional("where", Kinds::ARRAY);
        parser.finish()?;
        if columns.is_some() {
            return Err(Error::syntax(request, "changing columns is unsupported"));
        }
        self.condition = match condition {
            Some(condition) => Condition::from_json(schema, condition, None)?,
            None => Condition { clauses: vec![Clause::Always(true)] },
        };
        Ok(())
    }

    fn chosen(&self, kind: Select) -> impl Iterator<Item = usize> {
        self.columns.iter().filter(move |(_, select)| select.has(kind)).map(|&(at, _)| at)
    }

    fn show_one(&self, schema: &TableSchema, old: Option<&Row>, new: Option<&Row>, kind: Select) -> Value {
        let (mut before, mut after) = (Map::new(), Map::new());
        for at in self.chosen(kind) {
            let name = || schema.columns[at].name.to_string();
            if let Some(old) = old
                && new.is_none_or(|new| old.get(at) != new.get(at))
            {
                before.insert(name(), old.get(at).to_json());
            }
            if let Some(new) = new {
                after.insert(name(), new.get(at).to_json());
            }
        }
        let mut update = Map::new();
        if old.is_some() {
            update.insert("old".to_owned(), before.into());
        }
        if new.is_some() {
            update.insert("new".to_owned(), after.into());
        }
        update.into()
    }

    fn show_two(&self, schema: &TableSchema, old: Option<&Row>, new: Option<&Row>, kind: Select) -> Value {
        let Some(new) = new else { return json!({ "delete": null }) };
        let mut columns = Map::new();
        for at in self.chosen(kind) {
            let column = &schema.columns[at];
            let shown = match old {
                Some(old) if old.get(at) == new.get(at) => continue,
                Some(old) => difference(&column.kind, old.get(at), new.get(at)).to_json(),
                None if *new.get(at) == Datum::default_of(&column.kind) => continue,
                None => new.get(at).to_json(),
            };
            columns.insert(column.name.to_string(), shown);
        }
        let name = match kind {
            Select::INITIAL => "initial",
            Select::MODIFY => "modify",
            _ => "insert",
        };
        json!({ name: columns })
    }
}

/// How `update2` and journals tell that a column changed: columns of one element at most are told whole.
pub fn difference(kind: &Type, old: &Datum, new: &Datum) -> Datum {
    if kind.is_composite() { old.diff(new) } else { new.clone() }
}

/// The inverse of [`difference`].
pub fn patch(kind: &Type, old: &Datum, difference: &Datum) -> Datum {
    if kind.is_composite() { old.patched(difference) } else { difference.clone() }
}

#[derive(Default)]
struct Updates {
    tables: BTreeMap<String, Map<String, Value>>,
}

impl Updates {
    fn add(&mut self, table: &TableSchema, uuid: String, update: Value) {
        self.tables.entry(table.name.to_string()).or_default().insert(uuid, update);
    }

    fn finish(self) -> Option<Value> {
        let tables: Map<String, Value> =
            self.tables.into_iter().map(|(name, rows)| (name, rows.into())).collect();
        (!tables.is_empty()).then_some(tables.into())
    }
}
