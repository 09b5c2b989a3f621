//! One shard of a tracker: entries by key, in open addressing.
//!
//! Slots are probed one after the other from where the hash says, and a removed entry is filled up from behind, so that no
//! tombstones pile up. Keys are unique, those of the dead not counted: an entry whose connection is over makes room for another
//! with its key. Growing moves one shard's entries only, never the whole tracker's.

use super::conn::{Conn, Dir};
use super::key::Key;
use std::sync::Arc;
use sys::cpu;

/// A direction of a connection in its slot.
#[derive(Clone)]
struct Slot {
    conn: Arc<Conn>,
    hash: u32,
    dir: Dir,
}

/// The least slots, and how many of 4 may be in use.
const MIN_SLOTS: usize = 16;
const MAX_LOAD: usize = 3;

/// Entries by key.
#[derive(Default)]
pub struct Table {
    slots: Vec<Option<Slot>>,
    used: usize,
}

impl Table {
    /// Entries; a connection has one or two.
    pub fn len(&self) -> usize {
        self.used
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// Where the entry of a key is, or would be.
    #[inline]
    fn seek(&self, hash: u32, key: &Key) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = hash as usize & self.mask();
        while let Some(slot) = &self.slots[at] {
            if slot.hash == hash && slot.conn.key(slot.dir) == key {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
        None
    }

    /// Asks the processor for what [`Table::find`] will look at first.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        if let Some(slot) = self.slots.get(hash as usize & self.mask()) {
            cpu::prefetch(slot);
        }
    }

    /// The same for the connection, once the slot is there.
    #[inline]
    pub fn prefetch_conn(&self, hash: u32) {
        if let Some(Some(slot)) = self.slots.get(hash as usize & self.mask()) {
            slot.conn.prefetch(slot.dir);
        }
    }

    /// The connection that a key belongs to and which of its directions that is, over or not.
    #[inline]
    pub fn find(&self, hash: u32, key: &Key) -> Option<(&Arc<Conn>, Dir)> {
        let slot = self.slots[self.seek(hash, key)?].as_ref()?;
        Some((&slot.conn, slot.dir))
    }

    /// Puts an entry in. The connection whose entry had the same key, if there was one, is given back.
    pub fn put(&mut self, hash: u32, dir: Dir, conn: Arc<Conn>) -> Option<Arc<Conn>> {
        if let Some(at) = self.seek(hash, conn.key(dir)) {
            return self.slots[at].replace(Slot { conn, hash, dir }).map(|slot| slot.conn);
        }
        if (self.used + 1) * 4 > self.slots.len() * MAX_LOAD {
            self.resize((self.slots.len() * 2).max(MIN_SLOTS));
        }
        self.place(Slot { conn, hash, dir });
        self.used += 1;
        None
    }

    fn place(&mut self, slot: Slot) {
        let mut at = slot.hash as usize & self.mask();
        while self.slots[at].is_some() {
            at = (at + 1) & self.mask();
        }
        self.slots[at] = Some(slot);
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![None; slots]);
        for slot in old.into_iter().flatten() {
            self.place(slot);
        }
    }

    /// Takes out the entry of this very connection, if it is there.
    pub fn remove(&mut self, hash: u32, dir: Dir, conn: &Arc<Conn>) -> bool {
        let Some(at) = self.seek(hash, conn.key(dir)) else { return false };
        let ours = self.slots[at].as_ref().is_some_and(|slot| Arc::ptr_eq(&slot.conn, conn));
        if ours {
            self.remove_at(at);
        }
        ours
    }

    fn remove_at(&mut self, at: usize) {
        let (mut hole, mut next) = (at, at);
        self.slots[hole] = None;
        self.used -= 1;
        loop {
            next = (next + 1) & self.mask();
            let Some(slot) = &self.slots[next] else { return };
            // An entry may fill the hole unless it then lay before the slot where its search begins.
            let home = slot.hash as usize & self.mask();
            if (next.wrapping_sub(home) & self.mask()) >= (next.wrapping_sub(hole) & self.mask()) {
                self.slots.swap(hole, next);
                hole = next;
            }
        }
    }

    /// Looks at up to `budget` slots from `from` and takes out the entries that `goes` says, giving them away. Where to go on;
    /// `None` at the end.
    pub fn sweep(
        &mut self,
        from: usize,
        budget: usize,
        mut goes: impl FnMut(&Arc<Conn>, Dir) -> bool,
    ) -> Option<usize> {
        let end = from.saturating_add(budget).min(self.slots.len());
        let mut at = from;
        while at < end {
            match &self.slots[at] {
                // What fills the hole is looked at next.
                Some(slot) if goes(&slot.conn, slot.dir) => self.remove_at(at),
                _ => at += 1,
            }
        }
        if end < self.slots.len() {
            return Some(end);
        }
        if self.slots.len() > MIN_SLOTS && self.used * 8 < self.slots.len() {
            let least = (self.used * 2).next_power_of_two().max(MIN_SLOTS);
            self.resize(if self.used == 0 { 0 } else { least });
        }
        None
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Conn>, Dir)> {
        self.slots.iter().flatten().map(|slot| (&slot.conn, slot.dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::conn::tests::conn;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(n: u32) -> Key {
        Key { src: n.into(), ..Key::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn a_map_does_the_same(ops in proptest::collection::vec((0u8..4, 0u32..48, 0usize..64), 1..400)) {
            // Few hashes, so that entries crowd; the hash is a function of the key.
            let hash = |n: u32| n % 7 * 5;
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (op, n, at) in ops {
                match op {
                    0 | 1 => {
                        let conn = Arc::new(conn(key(n)));
                        table.put(hash(n), Dir::Orig, Arc::clone(&conn));
                        map.insert(n, conn);
                    }
                    2 => {
                        let found = map.remove(&n);
                        let stranger = Arc::new(conn(key(n)));
                        prop_assert!(!table.remove(hash(n), Dir::Orig, &stranger));
                        let gone = found.as_ref().is_some_and(|conn| table.remove(hash(n), Dir::Orig, conn));
                        prop_assert_eq!(gone, found.is_some());
                    }
                    _ => {
                        // A whole pass in slices.
                        let goes = |conn: &Arc<Conn>, _| conn.orig.src % 3 == u128::from(n % 3);
                        let mut from = Some(0);
                        while let Some(at_slot) = from {
                            from = table.sweep(at_slot, at + 1, goes);
                        }
                        map.retain(|key, _| key % 3 != n % 3);
                    }
                }
                prop_assert_eq!(table.len(), map.len());
            }
            for n in 0..48 {
                let found = table.find(hash(n), &key(n)).map(|(conn, _)| conn);
                prop_assert_eq!(found.map(Arc::as_ptr), map.get(&n).map(Arc::as_ptr));
            }
            prop_assert_eq!(table.iter().count(), map.len());
        }
    }
}
