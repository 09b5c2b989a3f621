//! The tuple-space classifier, for packets that the cache did not know.
//!
//! **Uses** `missed`. **Sets** `wide` (full keys), layouts, `found`, and the cache. **Next** `act`, or `miss` for packets that stay in `missed`.

use flow::extract::{Metadata, extract};
use flow::key::Key;

use crate::user::graph::{Node, NodeId};
use crate::user::vector::Vector;
use crate::user::worker::Worker;

/// The node.
pub struct Classify;

impl Node for Classify {
    const ID: NodeId = NodeId::Classify;

    fn process(worker: &mut Worker, vector: &mut Vector) -> usize {
        let n = vector.missed.len();
        let mut missed = std::mem::take(&mut vector.missed);
        missed.retain(|&at| {
            let mut key = Key::default();
            full_key(worker, vector, usize::from(at), &mut key);
            let found = find(worker, vector, usize::from(at), &key);
            if !found {
                vector.wide.push(key);
            }
            !found
        });
        vector.missed = missed;
        n
    }
}

/// Extracts the full key of packet `at`, and its layout.
fn full_key(worker: &Worker, vector: &mut Vector, at: usize, key: &mut Key) {
    let packet = &mut vector.packets[at];
    let mut meta = Metadata::from_key(&packet.meta.to_key());
    meta.vlan_limit = worker.vlan_limit;
    packet.layout = extract(packet.frame(&worker.pool), &meta, key);
    vector.tcp_flags[at] = if key.nw_proto == 6 { key.tcp_flags.get() } else { 0 };
}

/// Looks packet `at` up; whether there is a flow for it.
pub fn find(worker: &mut Worker, vector: &mut Vector, at: usize, key: &Key) -> bool {
    let Some((flow, looked)) = worker.flows.find(key) else { return false };
    worker.stats.masked_hits += 1;
    worker.stats.masked_lookups += looked;
    vector.found[at] = flow.slot;
    if vector.hashes[at] != 0 && worker.cache_inserts {
        worker.cache.insert(&vector.keys[at], vector.hashes[at], flow, &worker.flows);
    }
    true
}
