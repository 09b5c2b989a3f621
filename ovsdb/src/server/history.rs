//! What a relay of a cluster remembers of the last transactions, by the ids that the cluster gave them: a client that comes
//! back is told what has changed since the last one that it saw.

use std::collections::{BTreeMap, VecDeque};

use crate::database::{Change, TableId};
use crate::value::Uuid;

/// Transactions remembered at most, as by OVS.
const TRANSACTIONS: usize = 100;
/// Changed rows remembered at most.
const ROWS: usize = 100_000;

/// The last transactions, oldest first. Of the first one only the id counts: everything before it is forgotten.
#[derive(Debug, Default)]
pub(super) struct History {
    transactions: VecDeque<(Uuid, Vec<Change>)>,
    rows: usize,
}

impl History {
    /// The id of the newest transaction; zero where transactions have none.
    pub(super) fn last(&self) -> Uuid {
        self.transactions.back().map_or(Uuid::ZERO, |(id, _)| *id)
    }

    /// Forgets everything before the transaction `id`.
    pub(super) fn restart(&mut self, id: Uuid) {
        *self = Self::default();
        if id != Uuid::ZERO {
            self.transactions.push_back((id, Vec::new()));
        }
    }

    /// Remembers a transaction.
    pub(super) fn push(&mut self, id: Uuid, changes: &[Change]) {
        if id == Uuid::ZERO || self.transactions.is_empty() {
            return self.restart(id);
        }
        self.rows += changes.len();
        self.transactions.push_back((id, changes.to_vec()));
        while self.transactions.len() > TRANSACTIONS || self.rows > ROWS && self.transactions.len() > 1 {
            self.transactions.pop_front();
            if let Some((_, changes)) = self.transactions.front_mut() {
                self.rows -= changes.len();
                changes.clear();
            }
        }
    }

    /// What has changed since transaction `id`, each row once; nothing if that is not remembered.
    pub(super) fn since(&self, id: Uuid) -> Option<Vec<Change>> {
        let at = self.transactions.iter().rposition(|(known, _)| *known == id)?;
        let mut rows: BTreeMap<(TableId, Uuid), Change> = BTreeMap::new();
        for change in self.transactions.range(at + 1..).flat_map(|(_, changes)| changes) {
            rows.entry((change.table, change.uuid()))
                .and_modify(|row| row.new.clone_from(&change.new))
                .or_insert_with(|| change.clone());
        }
        Some(rows.into_values().filter(|row| row.old.is_some() || row.new.is_some()).collect())
    }
}
