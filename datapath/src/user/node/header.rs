//! Headers that come and go: VLAN tags, MPLS labels, Ethernet and NSH.
//!
//! **Uses** layouts. **Sets** headers, layouts, `packet_type`. **Next** the program's next step.

use flow::drop::DatapathDrop;
use flow::packet as edit;

use crate::user::batch::{Edit, Packet};
use crate::user::program::Op;
use crate::user::worker::Worker;

/// Pushes or pops a VLAN tag.
pub fn vlan(worker: &mut Worker, op: &Op, packets: &mut [Packet], members: &[u16]) {
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        let mut layout = packet.layout;
        let mut bytes = Edit { pool: &mut worker.pool, packet };
        if let Op::PushVlan { tpid, tci } = op {
            edit::push_vlan(&mut bytes, &mut layout, *tpid, *tci);
        } else {
            edit::pop_vlan(&mut bytes, &mut layout);
        }
        packet.layout = layout;
    }
}

/// Pushes or pops an MPLS label.
pub fn mpls(worker: &mut Worker, op: &Op, packets: &mut [Packet], members: &[u16]) {
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        let mut layout = packet.layout;
        let mut bytes = Edit { pool: &mut worker.pool, packet };
        match op {
            Op::PushMpls { lse, ethertype, l2 } => {
                edit::push_mpls(&mut bytes, &mut layout, *ethertype, *lse, *l2);
                if !l2 {
                    packet.meta.packet_type = flow::proto::pt_of_ethertype(*ethertype);
                }
            }
            Op::PopMpls(ethertype) => {
                edit::pop_mpls(&mut bytes, &mut layout, *ethertype);
                if packet.meta.packet_type != 0 {
                    pop_from_front(packet, *ethertype);
                }
            }
            _ => {}
        }
        packet.layout = layout;
    }
}

/// What a packet without an Ethernet header is after its label is gone.
fn pop_from_front(packet: &mut Packet, ethertype: u16) {
    // Transparent Ethernet bridging (RFC 1701) says that a whole frame follows.
    packet.meta.packet_type = if ethertype == 0x6558 { 0 } else { flow::proto::pt_of_ethertype(ethertype) };
}

/// Pushes or pops an Ethernet or NSH header; the packets that could be.
pub fn encapsulation(worker: &mut Worker, op: &Op, packets: &mut [Packet], members: &[u16]) -> Vec<u16> {
    let done = |worker: &mut Worker, packet: &mut Packet| {
        let mut layout = packet.layout;
        let ethertype = packet.meta.packet_type as u16;
        let mut bytes = Edit { pool: &mut worker.pool, packet };
        let packet_type = match op {
            Op::PushEth { src, dst } => {
                edit::push_eth(&mut bytes, &mut layout, *dst, *src, ethertype);
                Some(0)
            }
            Op::PopEth => edit::pop_eth(&mut bytes, &mut layout),
            Op::PushNsh(header) => edit::push_nsh(&mut bytes, &mut layout, header),
            _ => edit::pop_nsh(&mut bytes),
        };
        packet.layout = layout;
        let Some(packet_type) = packet_type else { return false };
        packet.meta.packet_type = packet_type;
        worker.locate(packet);
        true
    };
    let mut kept = Vec::with_capacity(members.len());
    for &at in members {
        if done(worker, &mut packets[usize::from(at)]) {
            kept.push(at);
        }
    }
    worker.stats.drop(DatapathDrop::NshDecapError, members.len() - kept.len());
    kept
}
