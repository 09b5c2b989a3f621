//! The `userspace` action: packets that a flow hands up.
//!
//! **Uses** layouts, `cut`. **Next** the actions of the answer, on a copy.

use flow::action::Userspace;
use flow::drop::DatapathDrop;
use flow::id::DpPort;
use flow::odp::Fitness;
use zerocopy::IntoBytes;

use super::sample;
use crate::upcall::{Kind, Upcall};
use crate::user::batch::Packet;
use crate::user::csum;
use crate::user::log;
use crate::user::program::Program;
use crate::user::worker::Worker;

/// Hands packets up and executes the answers.
pub fn hand_up(
    worker: &mut Worker,
    action: &Userspace,
    program: &Program,
    packets: &mut [Packet],
    members: &[u16],
) {
    let Some(handler) = worker.handler() else {
        worker.stats.drop(DatapathDrop::UserspaceActionError, members.len());
        return;
    };
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        finish(worker, packet);
        let key = worker.locate(packet);
        log::upcall(&worker.shared.name, "action", &key, packet.frame(&worker.pool));
        let upcall = Upcall {
            kind: Kind::Action {
                userdata: action.userdata.as_deref().unwrap_or_default(),
                actions: action.actions.then_some(&program.actions),
                egress_tunnel: None,
            },
            packet: packet.outgoing(&worker.pool),
            full_len: packet.len as usize,
            key: &key,
            raw: None,
            fitness: Fitness::Perfect,
            ufid: crate::ufid_of(key.as_bytes()),
            pmd: worker.id,
            in_port: DpPort(key.in_port),
            hash: u64::from(packet.meta.hash),
            mru: 0,
        };
        let answer = handler.upcall(&upcall);
        packet.cut = 0;
        let Some(answer) = answer else {
            worker.stats.drop(DatapathDrop::UserspaceActionError, 1);
            continue;
        };
        match Program::compile(&answer.execute) {
            Ok(program) => sample::on_copies(worker, &program, packets, &[at]),
            Err(error) => log::refused(&answer.execute, &error),
        }
    }
}

/// Completes a partial checksum, for who gets the packet now knows nothing of it. A frame to be segmented stays as it is.
fn finish(worker: &mut Worker, packet: &mut Packet) {
    if packet.offload.needs_csum && packet.offload.gso == 0 {
        let offload = packet.offload;
        // A checksum beyond the frame's end cannot be completed and is no worse for that.
        let _ = csum::complete(packet.frame_mut(&mut worker.pool), offload);
        packet.offload.needs_csum = false;
    }
}
