//! Frames from a receive queue.
//!
//! **Uses** the port's packet side. **Sets** `packets`. **Next** `parse`.

use sys::cpu;

use crate::user::batch::VECTOR;
use crate::user::graph::NodeId;
use crate::user::ports::Port;
use crate::user::vector::Vector;
use crate::user::worker::Worker;

/// Receives a vector from `queue` of `port`; how many frames there were.
pub fn receive(worker: &mut Worker, port: &Port, queue: usize, vector: &mut Vector) -> usize {
    let began = cpu::tsc();
    let mut rx = crate::user::port::Rx {
        pool: &mut worker.pool,
        packets: &mut vector.packets,
        port: port.number.0,
        dropped: 0,
    };
    let n = port.io.receive(queue, VECTOR, &mut rx);
    let dropped = rx.dropped;
    worker.stats.no_memory += dropped;
    if n > 0 {
        worker.stats.received += vector.packets.len() as u64;
        worker.graph.count(NodeId::Rx, n, began);
    }
    n
}
