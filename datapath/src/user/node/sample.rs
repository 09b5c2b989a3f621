//! Actions within actions: `sample`, `clone`, `check_pkt_len`.
//!
//! **Uses** randomness, lengths. **Next** the nested program; then the program's next step with the packet as it was.

use flow::drop::DatapathDrop;

use super::act;
use crate::user::batch::{Packet, free_all};
use crate::user::program::Program;
use crate::user::worker::Worker;

/// Runs a program on a random share of the packets; nothing follows if it is the `last` step.
pub fn sample(
    worker: &mut Worker,
    probability: u32,
    program: &Program,
    last: bool,
    packets: &mut [Packet],
    members: &[u16],
) {
    if probability == u32::MAX {
        nested(worker, program, last, packets, members);
        return;
    }
    let chosen: Vec<u16> = members.iter().copied().filter(|_| worker.random() < probability).collect();
    nested(worker, program, last, packets, &chosen);
}

/// Runs a program within a program: on the packets themselves if nothing follows, else so that they stay as they are.
pub fn nested(worker: &mut Worker, program: &Program, last: bool, packets: &mut [Packet], members: &[u16]) {
    if members.is_empty() {
        return;
    }
    if last {
        act::execute(worker, program, packets, members);
    } else {
        on_copies(worker, program, packets, members);
    }
}

/// Runs a program on the packets in such a way that they stay as they are.
pub fn on_copies(worker: &mut Worker, program: &Program, packets: &mut [Packet], members: &[u16]) {
    if !program.writes {
        let cuts: Vec<u32> = members.iter().map(|&at| packets[usize::from(at)].cut).collect();
        act::execute(worker, program, packets, members);
        for (&at, cut) in members.iter().zip(cuts) {
            packets[usize::from(at)].cut = cut;
        }
        return;
    }
    let mut copies: Vec<Packet> =
        members.iter().filter_map(|&at| packets[usize::from(at)].duplicate(&mut worker.pool)).collect();
    if copies.len() < members.len() {
        worker.stats.no_memory += (members.len() - copies.len()) as u64;
        worker.stats.drop(DatapathDrop::SampleError, members.len() - copies.len());
    }
    let all: Vec<u16> = (0..copies.len() as u16).collect();
    act::execute(worker, program, &mut copies, &all);
    free_all(&mut worker.pool, &mut copies);
}

/// The packets longer than `len`, and the others.
pub fn by_length(len: u16, packets: &[Packet], members: &[u16]) -> [Vec<u16>; 2] {
    let longer = |at: &u16| {
        let packet = &packets[usize::from(*at)];
        let segment = u32::from(packet.offload.gso_size);
        // A frame to be segmented is as long as its segments will be.
        let size = if segment > 0 { packet.len.min(segment + header_len(packet)) } else { packet.len };
        size > u32::from(len)
    };
    let (long, short) = members.iter().copied().partition(longer);
    [long, short]
}

/// Bytes of a frame in front of its transport payload, about: without TCP options.
fn header_len(packet: &Packet) -> u32 {
    packet.layout.l4.map_or(0, |l4| u32::from(l4) + 20)
}
