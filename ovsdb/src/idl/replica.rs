//! The copied rows, and updates to them in the formats of `update` and `update2`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::database::Row;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::types::{BaseType, Type};
use crate::value::{Datum, Uuid};

static NOTHING: LazyLock<Datum> = LazyLock::new(Datum::empty_set);

/// A row as the program reads it. A column that the schema or the server lacks holds its default or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    schema: &'a TableSchema,
    row: &'a Arc<Row>,
}

impl<'a> Record<'a> {
    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        self.row.uuid()
    }

    /// Its table.
    pub fn table(&self) -> &'a str {
        &self.schema.name
    }

    /// What a column holds.
    pub fn get(&self, column: &str) -> &'a Datum {
        debug_assert!(self.schema.column(column).is_some(), "{} has no column {column}", self.schema.name);
        self.schema.column(column).map_or(&NOTHING, |at| self.row.get(at))
    }

    /// The string of a column of one or no string.
    pub fn str(&self, column: &str) -> Option<&'a str> {
        self.get(column).as_str()
    }

    /// The integer of a column of one or no integer.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.get(column).as_integer()
    }

    /// The boolean of a column of one or no boolean.
    pub fn bool(&self, column: &str) -> Option<bool> {
        self.get(column).as_bool()
    }

    /// The UUID of a column of one or no UUID.
    pub fn reference(&self, column: &str) -> Option<Uuid> {
        self.get(column).as_uuid()
    }

    /// The string under `key` of a string-to-string map.
    pub fn key(&self, column: &str, key: &str) -> Option<&'a str> {
        self.get(column).get(key)
    }

    /// The shared row.
    pub fn shared(&self) -> &'a Arc<Row> {
        self.row
    }
}

/// What happened to a row.
#[derive(Clone, PartialEq, Debug)]
pub struct RowChange {
    /// Its table.
    pub table: Arc<str>,
    /// Its UUID.
    pub uuid: Uuid,
    /// The row before the first change that was not yet taken, unless it is new.
    pub old: Option<Arc<Row>>,
    /// The row now, unless it is gone.
    pub new: Option<Arc<Row>>,
}

impl RowChange {
    /// Whether the column of this number differs; true for rows that came or went.
    pub fn touches(&self, column: usize) -> bool {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => old.get(column) != new.get(column),
            _ => true,
        }
    }
}

#[derive(Debug)]
struct Table {
    schema: Arc<TableSchema>,
    /// The columns' types without constraints, which are the server's business.
    lax: Vec<Type>,
    quiet: BTreeSet<usize>,
    rows: BTreeMap<Uuid, Arc<Row>>,
}

/// A table and a new row of it.
type Fresh = (Arc<str>, Arc<Row>);
/// A table and what becomes of a row of it: nothing, if it goes.
type Put = (Arc<str>, Option<Arc<Row>>);

/// The copy.
#[derive(Debug)]
pub(super) struct Replica {
    schema: Arc<DatabaseSchema>,
    tables: BTreeMap<Arc<str>, Table>,
    /// Rows changed since the last [`Replica::take_changes`], as they were.
    changed: BTreeMap<(Arc<str>, Uuid), Option<Arc<Row>>>,
}

impl Replica {
    pub(super) fn new(schema: Arc<DatabaseSchema>) -> Self {
        let lax = |kind: &Type| Type {
            key: BaseType::plain(kind.key.kind()),
            value: kind.value.as_ref().map(|value| BaseType::plain(value.kind())),
            ..*kind
        };
        let table = |schema: &Arc<TableSchema>| Table {
            schema: schema.clone(),
            lax: schema.columns.iter().map(|column| lax(&column.kind)).collect(),
            quiet: BTreeSet::new(),
            rows: BTreeMap::new(),
        };
        let tables = schema.tables.iter().map(|(name, schema)| (name.clone(), table(schema))).collect();
        Self { schema, tables, changed: BTreeMap::new() }
    }

    pub(super) fn schema(&self) -> &Arc<DatabaseSchema> {
        &self.schema
    }

    pub(super) fn omit_alert(&mut self, table: &str, column: &str) {
        if let Some(table) = self.tables.get_mut(table)
            && let Some(at) = table.schema.column(column)
        {
            table.quiet.insert(at);
        }
    }

    pub(super) fn rows<'a>(&'a self, table: &str) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let record = |table: &'a Table| table.rows.values().map(|row| Record { schema: &table.schema, row });
        self.tables.get(table).into_iter().flat_map(record)
    }

    pub(super) fn row(&self, table: &str, uuid: Uuid) -> Option<Record<'_>> {
        let table = self.tables.get(table)?;
        Some(Record { schema: &table.schema, row: table.rows.get(&uuid)? })
    }

    pub(super) fn take_changes(&mut self) -> Vec<RowChange> {
        let changed = std::mem::take(&mut self.changed);
        let change = |((table, uuid), old): ((Arc<str>, Uuid), Option<Arc<Row>>)| {
            let new = self.tables.get(&table).and_then(|t| t.rows.get(&uuid)).cloned();
            (old != new).then_some(RowChange { table, uuid, old, new })
        };
        changed.into_iter().filter_map(change).collect()
    }

    /// Replaces everything by `updates`, in which every row is new. Rows that are the same do not count as changed.
    pub(super) fn reload(&mut self, updates: &Value) -> Result<bool, String> {
        let mut gone: BTreeSet<(Arc<str>, Uuid)> = BTreeSet::new();
        for (name, table) in &self.tables {
            gone.extend(table.rows.keys().map(|&uuid| (name.clone(), uuid)));
        }
        let mut alert = false;
        for (table, uuid, update) in rows_of(updates)? {
            let content = ["new", "initial", "insert"].iter().find_map(|kind| update.get(kind));
            let Some(content) = content else { continue };
            let Some((name, row)) = self.fresh(table, uuid, content)? else { continue };
            gone.remove(&(name.clone(), uuid));
            alert |= self.put(&name, uuid, Some(row));
        }
        for (name, uuid) in gone {
            alert |= self.put(&name, uuid, None);
        }
        Ok(alert)
    }

    /// Applies an `update` or, with `differences`, an `update2`; true if a change matters to the program.
    pub(super) fn update(&mut self, updates: &Value, differences: bool) -> Result<bool, String> {
        let mut alert = false;
        for (table, uuid, update) in rows_of(updates)? {
            let outcome = if differences {
                self.difference(table, uuid, update)?
            } else {
                self.whole(table, uuid, update)?
            };
            if let Some((name, row)) = outcome {
                alert |= self.put(&name, uuid, row);
            }
        }
        Ok(alert)
    }

    fn whole(&self, table: &str, uuid: Uuid, update: &Value) -> Result<Option<Put>, String> {
        let Some(new) = update.get("new") else { return Ok(self.name(table).map(|name| (name, None))) };
        let Some(known) = self.tables.get(table) else { return Ok(None) };
        let mut row = known.rows.get(&uuid).map_or_else(|| new_row(known, uuid), |row| (**row).clone());
        known.fill(&mut row, new, false)?;
        Ok(Some((known.schema.name.clone(), Some(Arc::new(row)))))
    }

    fn difference(&self, table: &str, uuid: Uuid, update: &Value) -> Result<Option<Put>, String> {
        if let Some(content) = update.get("initial").or_else(|| update.get("insert")) {
            return Ok(self.fresh(table, uuid, content)?.map(|(name, row)| (name, Some(row))));
        }
        let Some(content) = update.get("modify") else {
            return Ok(self.name(table).map(|name| (name, None)));
        };
        let Some(known) = self.tables.get(table) else { return Ok(None) };
        let Some(row) = known.rows.get(&uuid) else {
            return Err(format!("cannot modify missing row {uuid} in table {table}"));
        };
        let mut row = (**row).clone();
        known.fill(&mut row, content, true)?;
        Ok(Some((known.schema.name.clone(), Some(Arc::new(row)))))
    }

    fn fresh(&self, table: &str, uuid: Uuid, content: &Value) -> Result<Option<Fresh>, String> {
        let Some(known) = self.tables.get(table) else { return Ok(None) };
        let mut row = new_row(known, uuid);
        known.fill(&mut row, content, false)?;
        Ok(Some((known.schema.name.clone(), Arc::new(row))))
    }

    fn name(&self, table: &str) -> Option<Arc<str>> {
        self.tables.get(table).map(|table| table.schema.name.clone())
    }

    /// Puts a row in place; true if that matters to the program.
    fn put(&mut self, name: &Arc<str>, uuid: Uuid, new: Option<Arc<Row>>) -> bool {
        let Some(table) = self.tables.get_mut(name) else { return false };
        let old = match &new {
            Some(row) => table.rows.insert(uuid, row.clone()),
            None => table.rows.remove(&uuid),
        };
        if old == new {
            return false;
        }
        let alert = match (&old, &new) {
            (Some(old), Some(new)) => {
                (0..table.lax.len()).any(|at| !table.quiet.contains(&at) && old.get(at) != new.get(at))
            }
            _ => true,
        };
        self.changed.entry((name.clone(), uuid)).or_insert(old);
        alert
    }
}

impl Table {
    /// Sets the columns that `content` mentions; with `differences`, applies what it says to what is there.
    fn fill(&self, row: &mut Row, content: &Value, differences: bool) -> Result<(), String> {
        for (name, value) in content.as_object().into_iter().flatten() {
            let Some(at) = self.schema.column(name) else { continue };
            let kind = &self.lax[at];
            let datum = Datum::from_json_any_size(kind, value, None).map_err(|error| {
                format!(
                    "error parsing column {name} in row {} in table {}: {error}",
                    row.uuid(),
                    self.schema.name
                )
            })?;
            // A column that holds one value at most is sent whole.
            let datum = if differences && kind.max > 1 { row.get(at).patched(&datum) } else { datum };
            row.set(at, datum);
        }
        Ok(())
    }
}

fn new_row(table: &Table, uuid: Uuid) -> Row {
    let mut row = Row::new(&table.schema);
    row.set_uuid(uuid);
    row
}

/// The rows of `<table-updates>`: table, UUID, update.
fn rows_of(updates: &Value) -> Result<Vec<(&str, Uuid, &Value)>, String> {
    let tables = updates.as_object().ok_or_else(|| "<table-updates> is not an object".to_owned())?;
    let mut rows = Vec::new();
    for (table, updates) in tables {
        let updates = updates
            .as_object()
            .ok_or_else(|| format!("<table-update> for table {table} is not an object"))?;
        for (uuid, update) in updates {
            let uuid = uuid.parse().map_err(|_| {
                format!("<table-update> for table {table} contains bad UUID \"{uuid}\" as member name")
            })?;
            rows.push((table.as_str(), uuid, update));
        }
    }
    Ok(rows)
}
