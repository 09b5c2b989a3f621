//! The database as a command sees it: the rows as last heard of, with what the commands before it changed.

use ovsdb::idl::{Idl, Txn};
use ovsdb::value::{Atom, Datum, Uuid};

/// A copy of the database and the transaction under construction.
pub struct Db {
    pub idl: Idl,
    pub txn: Txn,
    /// The table that has one row, under which everything hangs.
    root_table: &'static str,
    /// New interfaces whose set-up is looked at after the commit, by provisional UUID.
    expected: Vec<Uuid>,
}

impl Db {
    /// `root_table` has a single row, made on demand.
    pub fn new(idl: Idl, root_table: &'static str) -> Self {
        Self { idl, txn: Txn::new(), root_table, expected: Vec::new() }
    }

    /// Forgets all changes.
    pub fn start_over(&mut self) {
        self.txn = Txn::new();
        self.expected.clear();
    }

    /// The rows of `table`.
    pub fn rows(&self, table: &str) -> Vec<Uuid> {
        self.idl.view(&self.txn).rows(table).collect()
    }

    /// The single row of the root table.
    pub fn root(&mut self) -> Uuid {
        match self.rows(self.root_table).first() {
            Some(row) => *row,
            None => self.txn.insert(self.root_table),
        }
    }

    /// What a column holds; empty if there is no such row or column.
    pub fn get(&self, table: &str, row: Uuid, column: &str) -> Datum {
        let found = self.idl.view(&self.txn).get(table, row, column);
        found.map_or_else(Datum::empty_set, std::borrow::Cow::into_owned)
    }

    /// The string that a column holds; empty if it holds none.
    pub fn text(&self, table: &str, row: Uuid, column: &str) -> String {
        self.get(table, row, column).as_str().unwrap_or_default().to_owned()
    }

    /// Sets a column.
    pub fn set(&mut self, table: &str, row: Uuid, column: &str, datum: Datum) {
        self.txn.set(table, row, column, datum);
    }

    /// Adds the reference `member` to a set column.
    pub fn link(&mut self, table: &str, row: Uuid, column: &str, member: Uuid) {
        self.txn.add_elements(table, row, column, &Datum::one(Atom::Uuid(member)));
    }

    /// Removes the reference `member` from a set column.
    pub fn unlink(&mut self, table: &str, row: Uuid, column: &str, member: Uuid) {
        self.txn.remove_elements(table, row, column, &Datum::one(Atom::Uuid(member)));
    }

    /// Inserts a row, under `provisional` if given.
    pub fn insert(&mut self, table: &str, provisional: Option<Uuid>) -> Uuid {
        match provisional {
            Some(uuid) => self.txn.insert_provisionally(table, uuid),
            None => self.txn.insert(table),
        }
    }

    /// Inserts a row that shall keep this UUID.
    pub fn insert_as(&mut self, table: &str, uuid: Uuid) -> Uuid {
        self.txn.insert_as(table, uuid)
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &str, row: Uuid) {
        self.txn.delete(table, row);
    }

    /// Makes the commit fail, to be tried again, if somebody else changes the column meanwhile.
    pub fn verify(&mut self, table: &str, row: Uuid, column: &str) {
        if self.idl.row(table, row).is_some() && !self.txn.is_deleted(table, row) {
            self.txn.verify(table, row, column);
        }
    }

    /// Whether this transaction inserts `row`.
    pub fn is_new(&self, table: &str, row: Uuid) -> bool {
        self.txn.is_inserted(table, row)
    }

    /// Notes a new interface, whose set-up is looked at after the commit.
    pub fn expect_interface(&mut self, row: Uuid) {
        self.expected.push(row);
    }

    /// The interfaces noted, by provisional UUID.
    pub fn expected_interfaces(&self) -> &[Uuid] {
        &self.expected
    }
}
