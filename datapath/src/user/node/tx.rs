//! Output.
//!
//! **Uses** ports, `cut`, what is left undone on the frames. **Sets** `cut` to 0. **Next** nothing: what was sent is sent, and the packet goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flow::drop::DatapathDrop;
use flow::id::DpPort;
use smallvec::SmallVec;

use crate::user::batch::{Offload, Packet, VECTOR};
use crate::user::csum;
use crate::user::port::TxFrame;
use crate::user::ports::Port;
use crate::user::worker::Worker;

/// Sends packets out by a port.
pub fn output(worker: &mut Worker, port: DpPort, packets: &mut [Packet], members: &[u16]) {
    let port = worker.ports.get(port).filter(|port| port.io.carries_packets()).map(Arc::clone);
    let Some(port) = port else {
        worker.stats.drop(DatapathDrop::InvalidPort, members.len());
        return;
    };
    if port.steer_by_hash.load(Ordering::Relaxed) {
        return steered(worker, &port, packets, members);
    }
    if port.io.offloads() || members.iter().all(|&at| packets[usize::from(at)].offload.is_done()) {
        whole(worker, &port, packets, members);
    } else {
        members.iter().for_each(|&at| finished(worker, &port, &packets[usize::from(at)]));
    }
    members.iter().for_each(|&at| packets[usize::from(at)].cut = 0);
}

/// Sends each packet by the transmit queue of its hash.
fn steered(worker: &mut Worker, port: &Port, packets: &mut [Packet], members: &[u16]) {
    let own = worker.tx_queue;
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        worker.tx_queue = flow::hash::five_tuple(&worker.locate(packet), 0) as usize;
        if port.io.offloads() || packet.offload.is_done() {
            whole(worker, port, packets, &[at]);
        } else {
            finished(worker, port, &packets[usize::from(at)]);
        }
        packets[usize::from(at)].cut = 0;
    }
    worker.tx_queue = own;
}

/// Sends frames as they are; the port does what is left undone.
fn whole(worker: &mut Worker, port: &Port, packets: &[Packet], members: &[u16]) {
    let mut frames: SmallVec<[TxFrame<'_>; VECTOR]> = SmallVec::new();
    for &at in members {
        let packet = &packets[usize::from(at)];
        // A frame that was cut is not what its header describes any more.
        let offload = if packet.cut == 0 { packet.offload } else { Offload::default() };
        let bytes = packet.outgoing(&worker.pool);
        frames.push(TxFrame { bytes, offload, header_len: header_len(bytes, offload) });
    }
    let dropped = port.io.send(worker.tx_queue, &frames);
    worker.stats.sent_packets += (members.len() - dropped) as u64;
    worker.stats.tx_dropped += dropped as u64;
    worker.stats.sent_batches += 1;
}

/// Where the payload of a frame that is to be segmented begins.
fn header_len(frame: &[u8], offload: Offload) -> u16 {
    if offload.gso == 0 {
        return 0;
    }
    let data_offset = frame.get(usize::from(offload.csum_start) + 12).map_or(5, |byte| byte >> 4);
    offload.csum_start.saturating_add(u16::from(data_offset) * 4)
}

/// Does what is left undone on a frame, and sends what comes of it.
fn finished(worker: &mut Worker, port: &Port, packet: &Packet) {
    let (frame, offload) = (packet.outgoing(&worker.pool), packet.offload);
    let (mut sent, mut dropped) = (0, 0);
    let mut send = |bytes: &[u8]| {
        let frame = TxFrame { bytes, offload: Offload::default(), header_len: 0 };
        dropped += port.io.send(worker.tx_queue, &[frame]) as u64;
        sent += 1;
    };
    if packet.cut > 0 || offload.is_done() {
        send(frame);
    } else if offload.gso != 0 {
        // What cannot be segmented (a kind of segmentation that we do not know) is dropped: nobody could receive it.
        let _ = csum::segment(frame, offload, send);
    } else {
        let mut whole = frame.to_vec();
        let _ = csum::complete(&mut whole, offload);
        send(&whole);
    }
    worker.stats.sent_packets += sent - dropped;
    worker.stats.tx_dropped += dropped;
    worker.stats.sent_batches += 1;
}

/// Sends each packet out by the bond member of its hash bucket.
pub fn bond(worker: &mut Worker, bond: u32, packets: &mut [Packet], members: &[u16]) {
    let Some(bond) = worker.shared.bonds.load().get(&bond).map(Arc::clone) else {
        worker.stats.drop(DatapathDrop::InvalidBond, members.len());
        return;
    };
    for &at in members {
        let packet = &packets[usize::from(at)];
        let bucket = (packet.meta.dp_hash & 0xff) as usize;
        bond.bytes[bucket].fetch_add(u64::from(packet.len), Ordering::Relaxed);
        output(worker, bond.members[bucket], packets, &[at]);
    }
}
