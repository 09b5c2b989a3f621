//! `ovsdb-server/tlog-set` and `tlog-list`: tables of which every changed row is told the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::Server;
use crate::database::{Change, Database};
use crate::text;

/// The tables, by database.
pub(super) type Logged = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

impl Server {
    /// Has changes of the rows of a table told the log, or no longer.
    ///
    /// # Errors
    /// In OVS's words, if there is no such table.
    pub fn log_table(&mut self, name: &str, on: bool) -> Result<(), &'static str> {
        let parts: Vec<&str> = name.split(':').filter(|part| !part.is_empty()).collect();
        let [db, table] = parts.as_slice() else { return Err("invalid DB:TABLE argument") };
        let Some((db, known)) = self.dbs.get_key_value(*db) else { return Err("no such database") };
        let Some((table, _)) = known.data.schema().tables.get_key_value(*table) else {
            return Err("no such table");
        };
        let tables = self.logged.entry(db.clone()).or_default();
        if on {
            tables.insert(table.clone());
        } else {
            tables.remove(table);
        }
        Ok(())
    }

    /// All tables, and whether they are logged, as OVS prints them.
    pub fn logged_tables(&self) -> String {
        let mut out = String::from(
            "database        table                       logging\n--------        -----                       -------\n",
        );
        for (name, db) in &self.dbs {
            let _ = writeln!(out, "{name:<16} ");
            for table in db.data.schema().tables.keys() {
                let on = self.logged.get(name).is_some_and(|tables| tables.contains(table));
                let _ = writeln!(out, "                {table:<27} {}", if on { "ON" } else { "OFF" });
            }
        }
        out
    }

    /// Tells the log of a commit.
    pub(super) fn log_changes(&self, name: &str, changes: &[Change]) {
        let (Some(tables), Some(db)) = (self.logged.get(name), self.dbs.get(name)) else { return };
        for line in changes.iter().filter_map(|change| line(&db.data, tables, change)) {
            tracing::info!(target: "transaction", rate = 30, burst = 60, "{line}");
        }
    }
}

fn line(db: &Database, tables: &BTreeSet<Arc<str>>, change: &Change) -> Option<String> {
    let schema = db.table(change.table).schema();
    if !tables.contains(&schema.name) {
        return None;
    }
    let (row, deed) = match (&change.old, &change.new) {
        (None, Some(new)) => (new, "inserted"),
        (Some(_), Some(new)) => (new, "updated"),
        (Some(old), None) => (old, "deleted"),
        (None, None) => return None,
    };
    let columns: Vec<String> = schema
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{}:{}", column.name, text::datum(&column.kind, row.get(at))))
        .collect();
    Some(format!("table:{},op:{deed},{}", schema.name, columns.join(",")))
}
