//! Upcalls for packets that match no flow.
//!
//! **Uses** `missed` and `wide`. **Sets** flows, the cache, `found`. **Next** `act` for packets whose flow an earlier packet of the
//! vector installed; for the others the answer is executed here.

use std::sync::Arc;

use flow::drop::DatapathDrop;
use flow::id::DpPort;
use flow::key::{Key, Mask, VLAN_CFI};
use flow::odp::Fitness;
use zerocopy::IntoBytes;

use crate::upcall::{Answer, Handler, Install, Kind, Upcall};
use crate::user::flows::New;
use crate::user::graph::{Node, NodeId};
use crate::user::log;
use crate::user::node::{act, classify};
use crate::user::program::Program;
use crate::user::vector::{DONE, Vector};
use crate::user::worker::Worker;

/// The node.
pub struct Miss;

impl Node for Miss {
    const ID: NodeId = NodeId::Miss;

    fn process(worker: &mut Worker, vector: &mut Vector) -> usize {
        let missed = std::mem::take(&mut vector.missed);
        let wide = std::mem::take(&mut vector.wide);
        let handler = worker.handler();
        for (&at, key) in missed.iter().zip(&wide) {
            let at = usize::from(at);
            // The answer for a packet before this one may have made a flow for it.
            if !classify::find(worker, vector, at, key) {
                vector.found[at] = DONE;
                miss(worker, vector, at, key, handler.as_deref());
            }
        }
        let n = missed.len();
        (vector.missed, vector.wide) = (missed, wide);
        n
    }
}

fn miss(worker: &mut Worker, vector: &mut Vector, at: usize, key: &Key, handler: Option<&dyn Handler>) {
    let ufid = crate::ufid_of(key.as_bytes());
    let packet = &vector.packets[at];
    log::upcall(&worker.shared.name, "miss", key, packet.frame(&worker.pool));
    let upcall = Upcall {
        kind: Kind::Miss,
        packet: packet.frame(&worker.pool),
        full_len: packet.len as usize,
        key,
        raw: None,
        fitness: Fitness::Perfect,
        ufid,
        pmd: worker.id,
        in_port: DpPort(key.in_port),
        hash: u64::from(packet.meta.hash),
        mru: 0,
    };
    let Some(answer) = handler.and_then(|handler| handler.upcall(&upcall)) else {
        worker.stats.lost += 1;
        worker.stats.drop(DatapathDrop::UpcallError, 1);
        return;
    };
    worker.stats.missed += 1;
    let Answer { execute, install } = answer;
    match Program::compile(&execute) {
        Ok(program) => act::execute(worker, &program, &mut vector.packets, &[at as u16]),
        Err(error) => {
            log::refused(&execute, &error);
            worker.stats.drop(DatapathDrop::UpcallError, 1);
        }
    }
    if let Some(install) = install {
        let installed = put(worker, vector, at, key, install);
        if let Some(handler) = handler {
            handler.installed(ufid, worker.id, installed);
        }
    }
}

/// Installs what an answer asks for; whether that went.
fn put(worker: &mut Worker, vector: &Vector, at: usize, key: &Key, install: Install) -> bool {
    let Install { mut mask, actions } = install;
    complete_mask(&mut mask);
    let new = New { ufid: crate::ufid_of(key.as_bytes()), key, mask: &mask, actions: Arc::clone(&actions) };
    match worker.flows.insert(new) {
        Ok(flow) => {
            log::flow_change("flow_add", key, &mask, &actions);
            let hash = vector.hashes[at];
            if hash != 0 && worker.cache_inserts {
                worker.cache.insert(&vector.keys[at], hash, flow, &worker.flows);
            }
            true
        }
        Err(error) => {
            log::refused(&actions, &error);
            false
        }
    }
}

/// Makes significant what datapath flows cannot leave open: the input port, and whether there is a VLAN tag.
pub fn complete_mask(mask: &mut Mask) {
    mask.0.in_port = u32::MAX;
    if mask.0.vlans[0].tci.get() == 0 {
        mask.0.vlans[0].tci = (VLAN_CFI | 0xfff).into();
    }
}
