//! The copy and a transaction, read as one.

use std::borrow::Cow;

use super::replica::Replica;
use super::txn::Txn;
use crate::value::{Datum, Uuid};

/// What the rows would be if the transaction were committed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(super) replica: &'a Replica,
    pub(super) txn: &'a Txn,
}

impl<'a> View<'a> {
    /// The rows of a table: those of the copy that are not deleted, then those inserted.
    pub fn rows(&self, table: &'a str) -> impl Iterator<Item = Uuid> + use<'a> {
        let txn = self.txn;
        let kept = self
            .replica
            .rows(table)
            .map(|record| record.uuid())
            .filter(move |&uuid| !txn.is_deleted(table, uuid));
        kept.chain(txn.inserted(table))
    }

    /// True if there is such a row.
    pub fn exists(&self, table: &str, row: Uuid) -> bool {
        !self.txn.is_deleted(table, row)
            && (self.txn.is_inserted(table, row) || self.replica.row(table, row).is_some())
    }

    /// What a column of a row holds; nothing if there is no such row or column.
    pub fn get(&self, table: &str, row: Uuid, column: &str) -> Option<Cow<'a, Datum>> {
        if !self.exists(table, row) {
            return None;
        }
        let schema = self.replica.schema().table(table)?.get(column)?;
        let before = match self.replica.row(table, row) {
            Some(record) => Cow::Borrowed(record.get(column)),
            None if column == "_uuid" => Cow::Owned(Datum::one(row)),
            None => Cow::Owned(Datum::default_of(&schema.kind)),
        };
        Some(self.txn.after(table, row, column, &before).map_or(before, Cow::Owned))
    }
}
