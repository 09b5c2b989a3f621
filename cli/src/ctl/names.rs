//! Tables, columns and rows by the names that people type: abbreviated, in any case, with `-` for `_`.

use std::sync::Arc;

use ovsdb::schema::{ColumnSchema, DatabaseSchema, TableSchema};
use ovsdb::value::{Atom, Datum, Uuid};

use super::db::Db;
use super::show::ShowTable;
use super::syntax::Needs;

/// One way to name a row of a table.
pub struct RowId {
    /// The table and column that hold the name.
    pub name: (&'static str, &'static str),
    /// The name is the value under this key.
    pub key: Option<&'static str>,
    /// A column of the naming row that refers to the row meant; none if the naming row is the one.
    pub refers: Option<&'static str>,
}

/// Rows of names: a table, and the columns that name its rows, with the column that refers to the row meant if the name
/// is another table's.
macro_rules! row_ids {
    ($($table:literal: $($name_table:literal.$column:literal $(-> $refers:literal)?),+;)*) => {
        &[$(($table, &[$($crate::ctl::names::RowId {
            name: ($name_table, $column),
            key: None,
            refers: $crate::ctl::names::row_ids!(@ $($refers)?),
        }),+])),*]
    };
    (@) => { None };
    (@ $refers:literal) => { Some($refers) };
}
pub(crate) use row_ids;

/// What a program knows of its database.
pub struct Naming {
    pub schema: Arc<DatabaseSchema>,
    /// Ways to name rows, by table.
    pub row_ids: &'static [(&'static str, &'static [RowId])],
    pub show: &'static [ShowTable],
}

impl Naming {
    /// The table that `name` abbreviates.
    pub fn table(&self, name: &str) -> Result<&Arc<TableSchema>, String> {
        let names = self.schema.tables.keys().map(|name| &**name);
        match best(names, name).as_slice() {
            [] => Err(format!("unknown table \"{name}\"")),
            [one] => self.schema.table(one).ok_or_else(|| format!("unknown table \"{name}\"")),
            many => Err(format!("\"{name}\" matches multiple table names: {}", many.join(", "))),
        }
    }

    /// The column of `table` that `name` abbreviates.
    pub fn column<'t>(&self, table: &'t TableSchema, name: &str) -> Result<&'t ColumnSchema, String> {
        let names = table.own_columns().map(|(_, column)| &*column.name);
        match best(names, name).as_slice() {
            [] => Err(format!("{} does not contain a column whose name matches \"{name}\"", table.name)),
            [one] => Ok(table.get(one).expect("the name came from this table")),
            many => Err(format!(
                "{} contains more than one column whose name matches \"{name}\": {}",
                table.name,
                many.join(", ")
            )),
        }
    }

    /// Asks for what naming a row of `table` takes.
    pub fn need_rows(&self, table: &str, needs: &mut Needs) {
        needs.table(table);
        for id in self.ids(table) {
            needs.columns(id.name.0, &[id.name.1]);
            needs.columns(id.name.0, id.refers.as_slice());
        }
    }

    /// The row of `table` that `record` names: a UUID or the beginning of one, `.` for the only row, or a name.
    pub fn row(&self, db: &mut Db, table: &TableSchema, record: &str) -> Result<Option<Uuid>, String> {
        let rows = db.rows(&table.name);
        if let Ok(uuid) = record.parse::<Uuid>()
            && rows.contains(&uuid)
        {
            return Ok(Some(uuid));
        }
        if record == "."
            && let [only] = rows.as_slice()
        {
            return Ok(Some(*only));
        }
        for id in self.ids(&table.name) {
            if let Some(row) = row_by_id(db, id, record)? {
                return Ok(Some(row));
            }
        }
        if !is_partial_uuid(record) {
            return Ok(None);
        }
        let mut matching =
            rows.iter().filter(|uuid| uuid.to_string().starts_with(&record.to_ascii_lowercase()));
        match (matching.next(), matching.next()) {
            (Some(a), Some(b)) => Err(format!(
                "{} contains 2 or more rows whose UUIDs begin with {record}: at least {a} and {b}",
                table.name
            )),
            (one, _) => Ok(one.copied()),
        }
    }

    /// Like [`Self::row`], but the row must exist.
    pub fn existing_row(&self, db: &mut Db, table: &TableSchema, record: &str) -> Result<Uuid, String> {
        self.row(db, table, record)?.ok_or_else(|| format!("no row \"{record}\" in table {}", table.name))
    }

    fn ids(&self, table: &str) -> &'static [RowId] {
        self.row_ids.iter().find(|(name, _)| *name == table).map_or(&[], |(_, ids)| ids)
    }
}

/// The names that `text` matches best: exactly, but for case and dashes, or as the longest abbreviation.
fn best<'a>(names: impl Iterator<Item = &'a str>, text: &str) -> Vec<&'a str> {
    let mut score = 1;
    let mut found = Vec::new();
    for name in names {
        let this = likeness(name, text);
        if this > score {
            found.clear();
            score = this;
        }
        if this >= score {
            found.push(name);
        }
    }
    found.sort_unstable();
    found
}

fn likeness(name: &str, text: &str) -> usize {
    let plain = |text: &str| text.replace('-', "_").to_ascii_lowercase();
    if name == text {
        usize::MAX
    } else if plain(name) == plain(text) {
        usize::MAX - 1
    } else if plain(name).starts_with(&plain(text)) {
        text.len()
    } else {
        0
    }
}

/// Whether `text` could be the beginning of a UUID, at least four digits of it.
fn is_partial_uuid(text: &str) -> bool {
    (4..=36).contains(&text.len())
        && text.bytes().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn row_by_id(db: &mut Db, id: &RowId, record: &str) -> Result<Option<Uuid>, String> {
    let (table, column) = id.name;
    let mut found = None;
    for row in db.rows(table) {
        let datum = db.get(table, row, column);
        let name = match id.key {
            None if datum.len() == 1 => datum.first(),
            None => None,
            Some(key) => datum.value(&Atom::from(key)),
        };
        if name.is_some_and(|name| is_named(name, record)) && found.replace(row).is_some() {
            return Err(format!("multiple rows in {table} match \"{record}\""));
        }
    }
    let (Some(row), Some(refers)) = (found, id.refers) else { return Ok(found) };
    db.verify(table, row, refers);
    let reference: Datum = db.get(table, row, refers);
    Ok(if reference.len() == 1 { reference.as_uuid() } else { None })
}

fn is_named(name: &Atom, record: &str) -> bool {
    match name {
        Atom::String(name) if name.parse::<Uuid>().is_ok() => record.len() >= 4 && name.starts_with(record),
        Atom::String(name) => &**name == record,
        Atom::Uuid(uuid) => record.parse::<Uuid>().as_ref() == Ok(uuid),
        Atom::Integer(number) => record.parse::<i64>() == Ok(*number) && !record.starts_with(['+', '-']),
        Atom::Real(_) | Atom::Boolean(_) => false,
    }
}
