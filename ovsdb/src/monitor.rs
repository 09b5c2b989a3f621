//! Monitors (RFC 7047 section 4.1.5 and OVS's `monitor_cond`, `monitor_cond_since`): what a client sees, initially and
//! as the database changes.
//!
//! A [`Spec`] is pure: it turns rows and changes into JSON. Sessions that ask for the same share one.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::condition::{Clause, Condition};
use crate::database::{Change, Database, Row, TableId};
use crate::error::{Error, Result};
use crate::json::write_string;
use crate::parser::{Kinds, Parser};
use crate::schema::{TableSchema, UUID};
use crate::types::Type;
use crate::value::{Datum, Uuid};

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

    /// Everything that is to be seen now: the text of `<table-updates>`.
    pub fn initial(&self, db: &Database) -> String {
        let mut updates = Updates::new(self, db);
        for (&id, wanted) in self.tables.iter().filter(|(_, wanted)| wanted.select.has(Select::INITIAL)) {
            for row in db.table(id).rows().filter(|row| wanted.shows(row)) {
                updates.add(id, row.uuid(), wanted, (None, Some(row), Select::INITIAL));
            }
        }
        updates.finish().unwrap_or_else(|| "{}".to_owned())
    }

    /// What `changes` change of what is seen, if anything: the text of `<table-updates>`.
    pub fn update(&self, db: &Database, changes: &[Change]) -> Option<String> {
        let mut updates = Updates::new(self, db);
        for change in changes {
            let Some(wanted) = self.tables.get(&change.table) else { continue };
            let old = change.old.as_deref().filter(|row| wanted.shows(row));
            let new = change.new.as_deref().filter(|row| wanted.shows(row));
            if let Some(kind) = wanted.kind_of(old, new) {
                updates.add(change.table, change.uuid(), wanted, (old, new, kind));
            }
        }
        updates.finish()
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
    pub fn difference(&self, before: &Self, db: &Database) -> Option<String> {
        let mut updates = Updates::new(self, db);
        for (&id, wanted) in &self.tables {
            let Some(former) = before.tables.get(&id) else { continue };
            if former.condition == wanted.condition {
                continue;
            }
            for row in db.table(id).rows() {
                let was = shows(&former.condition, row).then_some(&**row);
                let is = wanted.shows(row).then_some(&**row);
                if was.is_some() != is.is_some()
                    && let Some(kind) = wanted.kind_of(was, is)
                {
                    updates.add(id, row.uuid(), wanted, (was, is, kind));
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

    /// What kind of change one sees of a row that was and is as given, if any.
    fn kind_of(&self, old: Option<&Row>, new: Option<&Row>) -> Option<Select> {
        let kind = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => Select::INSERT,
            (Some(_), None) => Select::DELETE,
            (Some(old), Some(new)) => {
                if self.columns.iter().all(|&(at, _)| old.get(at) == new.get(at)) {
                    return None;
                }
                Select::MODIFY
            }
        };
        self.select.has(kind).then_some(kind)
    }

    /// Appends a `<row-update>`.
    fn write_one(&self, out: &mut String, schema: &TableSchema, (old, new, kind): Seen<'_>) {
        out.push('{');
        if let Some(old) = old {
            let changed = |at: usize| new.is_none_or(|new| old.get(at) != new.get(at));
            let columns = self.chosen(kind).filter(|&at| changed(at)).map(|at| (at, old.get(at)));
            out.push_str("\"old\":");
            write_columns(out, schema, columns);
        }
        if let Some(new) = new {
            out.push_str(if old.is_some() { ",\"new\":" } else { "\"new\":" });
            write_columns(out, schema, self.chosen(kind).map(|at| (at, new.get(at))));
        }
        out.push('}');
    }

    /// Appends a `<row-update2>`.
    fn write_two(&self, out: &mut String, schema: &TableSchema, (old, new, kind): Seen<'_>) {
        let Some(new) = new else {
            out.push_str("{\"delete\":null}");
            return;
        };
        out.push_str(match kind {
            Select::INITIAL => "{\"initial\":",
            Select::MODIFY => "{\"modify\":",
            _ => "{\"insert\":",
        });
        match old {
            Some(old) => {
                let differs = self.chosen(kind).filter(|&at| old.get(at) != new.get(at));
                let difference = |at: usize| difference(&schema.columns[at].kind, old.get(at), new.get(at));
                write_columns(out, schema, differs.map(|at| (at, difference(at))));
            }
            None => {
                let said =
                    self.chosen(kind).filter(|&at| !new.get(at).is_default_of(&schema.columns[at].kind));
                write_columns(out, schema, said.map(|at| (at, new.get(at))));
            }
        }
        out.push('}');
    }
}

/// A row before and after, as far as one sees it, and which kind of change that is.
type Seen<'a> = (Option<&'a Row>, Option<&'a Row>, Select);

/// Appends an object of columns.
fn write_columns<D: std::borrow::Borrow<Datum>>(
    out: &mut String,
    schema: &TableSchema,
    columns: impl Iterator<Item = (usize, D)>,
) {
    out.push('{');
    for (i, (at, datum)) in columns.enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(out, &schema.columns[at].name);
        out.push(':');
        datum.borrow().write_json(out);
    }
    out.push('}');
}

/// How `update2` and journals tell that a column changed: columns of one element at most are told whole.
pub fn difference(kind: &Type, old: &Datum, new: &Datum) -> Datum {
    if kind.is_composite() { old.diff(new) } else { new.clone() }
}

/// The inverse of [`difference`].
pub fn patch(kind: &Type, old: &Datum, difference: &Datum) -> Datum {
    if kind.is_composite() { old.patched(difference) } else { difference.clone() }
}

/// `<table-updates>` being written. The updates of a table come together.
struct Updates<'a> {
    spec: &'a Spec,
    db: &'a Database,
    text: String,
    table: Option<TableId>,
}

impl<'a> Updates<'a> {
    fn new(spec: &'a Spec, db: &'a Database) -> Self {
        Self { spec, db, text: String::new(), table: None }
    }

    fn add(&mut self, id: TableId, uuid: Uuid, wanted: &Wanted, seen: Seen<'_>) {
        let schema = self.db.table(id).schema();
        let out = &mut self.text;
        if self.table == Some(id) {
            out.push(',');
        } else {
            out.push_str(if self.table.is_some() { "}," } else { "{" });
            write_string(out, &schema.name);
            out.push_str(":{");
            self.table = Some(id);
        }
        out.push('"');
        uuid.write(out);
        out.push_str("\":");
        if self.spec.version == Version::One {
            wanted.write_one(out, schema, seen);
        } else {
            wanted.write_two(out, schema, seen);
        }
    }

    fn finish(mut self) -> Option<String> {
        self.table?;
        self.text.push_str("}}");
        Some(self.text)
    }
}
