//! The exact-match cache: fast key to flow.
//!
//! **Uses** `keys` and `hashes`. **Sets** `found`, and `missed` for the rest. **Next** `act`, or `classify`.
//!
//! Two ways: an entry may lie at either of two places that its hash gives. It names a flow by slot and generation; the
//! generation is compared with the slot's on every hit, so that a flow's end invalidates its own entries and no others.

use sys::cpu;

use crate::user::flows::{FlowRef, Flows};
use crate::user::graph::{Node, NodeId};
use crate::user::vector::{FastKey, Vector};
use crate::user::worker::Worker;

/// Entries of a worker's cache. Memory is touched only as entries are used.
pub const ENTRIES: usize = 1 << 18;
/// Of insertions that find both places taken, one in this many throws out an entry.
const REPLACE_ONE_IN: u32 = 8;

struct Entry {
    hash: u32,
    flow: FlowRef,
}

/// A worker's exact-match cache.
pub struct Cache {
    entries: Vec<[u32; 4]>,
    /// Keys by entry, at a multiple of the cache line from `offset` on.
    keys: Vec<u64>,
    offset: usize,
    refused: u32,
}

impl Cache {
    /// An empty cache.
    pub fn new() -> Self {
        let keys = vec![0u64; ENTRIES * 8 + 8];
        let offset = keys.as_ptr().align_offset(64).min(8);
        Self { entries: vec![[0; 4]; ENTRIES], keys, offset, refused: 0 }
    }

    /// The two places of a hash.
    #[inline]
    fn places(hash: u32) -> [usize; 2] {
        let first = hash as usize % ENTRIES;
        [first, (hash.rotate_left(15) as usize ^ first) % ENTRIES]
    }

    #[inline]
    fn entry(&self, place: usize) -> Entry {
        let [hash, slot, generation, _] = self.entries[place];
        Entry { hash, flow: FlowRef { slot, generation } }
    }

    #[inline]
    fn key(&self, place: usize) -> &[u64; 8] {
        let at = self.offset + place * 8;
        self.keys[at..at + 8].first_chunk().unwrap_or(&[0; 8])
    }

    /// Asks for what a look-up of `hash` will read first.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        let [first, _] = Self::places(hash);
        cpu::prefetch(&self.entries[first]);
        cpu::prefetch(self.key(first));
    }

    /// The flow of a key, if the cache knows it and it is still there.
    #[inline]
    pub fn find(&self, key: &FastKey, hash: u32, flows: &Flows) -> Option<u32> {
        for place in Self::places(hash) {
            let entry = self.entry(place);
            if entry.hash == hash && *self.key(place) == key.0 && flows.is_alive(entry.flow) {
                return Some(entry.flow.slot);
            }
        }
        None
    }

    /// Remembers the flow of a key.
    pub fn insert(&mut self, key: &FastKey, hash: u32, flow: FlowRef, flows: &Flows) {
        let places = Self::places(hash);
        let same = |place: &usize| self.entry(*place).hash == hash && *self.key(*place) == key.0;
        let free = |place: &usize| !flows.is_alive(self.entry(*place).flow);
        let place = places.iter().copied().find(same).or_else(|| places.iter().copied().find(free));
        let place = match place {
            Some(place) => place,
            None => {
                self.refused = self.refused.wrapping_add(1);
                if !self.refused.is_multiple_of(REPLACE_ONE_IN) {
                    return;
                }
                places[(self.refused / REPLACE_ONE_IN) as usize % 2]
            }
        };
        self.entries[place] = [hash, flow.slot, flow.generation, 0];
        let at = self.offset + place * 8;
        self.keys[at..at + 8].copy_from_slice(&key.0);
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

/// The node.
pub struct Lookup;

impl Node for Lookup {
    const ID: NodeId = NodeId::Cache;

    fn process(worker: &mut Worker, vector: &mut Vector) -> usize {
        let mut hits = 0;
        for n in 0..vector.packets.len() {
            let hash = vector.hashes[n];
            let found =
                if hash == 0 { None } else { worker.cache.find(&vector.keys[n], hash, &worker.flows) };
            match found {
                Some(slot) => {
                    worker.flows.prefetch(slot);
                    vector.found[n] = slot;
                    hits += 1;
                }
                None => vector.missed.push(n as u16),
            }
        }
        worker.stats.cache_hits += hits;
        vector.packets.len()
    }
}
