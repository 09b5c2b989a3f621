//! Actions: packets are grouped by program, and each program runs on its group, step by step.
//!
//! **Uses** `found`, `tcp_flags`. **Sets** flow statistics; what steps set they say. **Next** the node of each step.

use std::sync::Arc;

use flow::drop::DatapathDrop;
use sys::cpu;

use super::{ct, header, meter, recirc, sample, set, tx, userspace};
use crate::user::batch::Packet;
use crate::user::graph::{Node, NodeId};
use crate::user::program::{Op, Program};
use crate::user::vector::Vector;
use crate::user::worker::Worker;

/// Packets of a vector by program, kept from vector to vector.
#[derive(Default)]
pub struct Groups {
    /// By program: the group of the present vector, if `stamp` is the present one.
    place: Vec<(u32, u16)>,
    stamp: u32,
    used: usize,
    groups: Vec<(u32, Vec<u16>)>,
}

impl Groups {
    fn begin(&mut self, programs: usize) {
        self.stamp = self.stamp.wrapping_add(1);
        self.used = 0;
        if self.place.len() < programs {
            self.place.resize(programs, (0, 0));
        }
        if self.stamp == 0 {
            self.place.fill((0, 0));
            self.stamp = 1;
        }
    }

    #[inline]
    fn add(&mut self, program: u32, packet: u16) {
        let place = &mut self.place[program as usize];
        if place.0 != self.stamp {
            *place = (self.stamp, self.used as u16);
            if self.groups.len() == self.used {
                self.groups.push((program, Vec::new()));
            }
            self.groups[self.used].0 = program;
            self.groups[self.used].1.clear();
            self.used += 1;
        }
        self.groups[usize::from(place.1)].1.push(packet);
    }
}

/// The node.
pub struct Act;

impl Node for Act {
    const ID: NodeId = NodeId::Act;

    fn process(worker: &mut Worker, vector: &mut Vector) -> usize {
        // Taken out, for actions may recirculate and come here again.
        let mut groups = std::mem::take(&mut worker.groups);
        groups.begin(worker.flows.programs());
        for (n, packet) in vector.packets.iter().enumerate() {
            let bytes = u64::from(packet.len);
            if let Some(program) =
                worker.flows.credit(vector.found[n], bytes, worker.now, vector.tcp_flags[n])
            {
                groups.add(program, n as u16);
            }
        }
        for (program, members) in &groups.groups[..groups.used] {
            // A program of this vector may have ended its flow by an upcall; its packets are dropped.
            if let Some(program) = worker.flows.program(*program).map(Arc::clone) {
                execute(worker, &program, &mut vector.packets, members);
            }
        }
        worker.groups = groups;
        vector.packets.len()
    }
}

/// Runs a program on the `members` of `packets`.
pub fn execute(worker: &mut Worker, program: &Program, packets: &mut [Packet], members: &[u16]) {
    let mut rest: Vec<u16>;
    let mut members = members;
    for (place, op) in program.ops.iter().enumerate() {
        let began = cpu::tsc();
        let node = node_of(op);
        let last = place + 1 == program.ops.len();
        let mut kept = None;
        match op {
            Op::Output(port) => tx::output(worker, *port, packets, members),
            Op::LbOutput(bond) => tx::bond(worker, *bond, packets, members),
            Op::Userspace(action) => userspace::hand_up(worker, action, program, packets, members),
            Op::Set(field) => set::set(worker, field, packets, members),
            Op::PushVlan { .. } | Op::PopVlan => header::vlan(worker, op, packets, members),
            Op::PushMpls { .. } | Op::PopMpls(_) => header::mpls(worker, op, packets, members),
            Op::PushEth { .. } | Op::PopEth | Op::PushNsh(_) | Op::PopNsh => {
                kept = Some(header::encapsulation(worker, op, packets, members));
            }
            Op::Trunc(len) => set::truncate(*len, packets, members),
            Op::Recirc(id) => recirc::recirculate(worker, *id, last, packets, members),
            Op::Hash { alg, basis } => set::hash(worker, *alg, *basis, packets, members),
            Op::Meter(meter) => kept = meter::police(worker, *meter, packets, members),
            Op::Sample { probability, program } => {
                sample::sample(worker, *probability, program, last, packets, members);
            }
            Op::Clone(program) => sample::nested(worker, program, last, packets, members),
            Op::CheckPktLen { len, greater, less_equal } => {
                let [long, short] = sample::by_length(*len, packets, members);
                sample::nested(worker, greater, last, packets, &long);
                sample::nested(worker, less_equal, last, packets, &short);
            }
            Op::DecTtl(expired) => kept = Some(set::decrement_ttl(worker, expired, packets, members)),
            Op::Ct(action) => ct::track(worker, action, packets, members),
            Op::CtClear => ct::clear(packets, members),
            Op::Drop(reason) => {
                worker.stats.reason(*reason, members.len());
                return;
            }
        }
        worker.graph.count(node, members.len(), began);
        if let Some(kept) = kept {
            rest = kept;
            members = &rest;
            if members.is_empty() {
                return;
            }
        }
    }
}

const fn node_of(op: &Op) -> NodeId {
    match op {
        Op::Output(_) | Op::LbOutput(_) => NodeId::Tx,
        Op::Userspace(_) => NodeId::Userspace,
        Op::Set(_) | Op::Trunc(_) | Op::Hash { .. } | Op::DecTtl(_) => NodeId::Set,
        Op::Ct(_) | Op::CtClear => NodeId::Ct,
        Op::PushVlan { .. } | Op::PopVlan => NodeId::Vlan,
        Op::PushMpls { .. } | Op::PopMpls(_) => NodeId::Mpls,
        Op::PushEth { .. } | Op::PopEth | Op::PushNsh(_) | Op::PopNsh => NodeId::Encap,
        Op::Recirc(_) => NodeId::Recirc,
        Op::Meter(_) => NodeId::Meter,
        Op::Sample { .. } | Op::Clone(_) | Op::CheckPktLen { .. } | Op::Drop(_) => NodeId::Sample,
    }
}

/// Counts packets that an action lost.
pub fn lost(worker: &mut Worker, why: DatapathDrop, packets: usize) {
    worker.stats.drop(why, packets);
}
