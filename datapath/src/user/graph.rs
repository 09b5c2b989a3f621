//! The graph that packets go through: its nodes, what each of them costs, and the trace of single packets.
//!
//! A [`Node`] takes a whole vector at a time; [`run`] is the dispatcher, and the one place here that counts. Two readings of
//! the time-stamp counter a node and vector are all that it costs.

use serde::Serialize;
use sys::cpu;

use super::batch::Packet;
use super::vector::Vector;
use super::worker::Worker;

macro_rules! nodes {
    ($($(#[$doc:meta])* $name:ident, $text:literal => [$($next:ident),*];)*) => {
        /// The nodes.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum NodeId { $($(#[$doc])* $name,)* }

        impl NodeId {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The node's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Where packets go from here.
            pub const fn next(self) -> &'static [Self] {
                match self { $(Self::$name => &[$(Self::$next),*],)* }
            }
        }
    };
}

nodes! {
    /// Frames from a receive queue.
    Rx, "rx" => [Parse];
    /// Fast key, or the decision that the packet needs the full one.
    Parse, "parse" => [Cache, Classify];
    /// The exact-match cache.
    Cache, "cache" => [Act, Classify];
    /// The tuple-space classifier.
    Classify, "classify" => [Act, Miss];
    /// Upcalls.
    Miss, "miss" => [Act];
    /// Groups packets by program and runs the programs.
    Act, "act" => [Tx, Set, Vlan, Mpls, Encap, Ct, Meter, Sample, Recirc, Userspace];
    /// Header fields and metadata.
    Set, "set" => [Act];
    Vlan, "vlan" => [Act];
    Mpls, "mpls" => [Act];
    /// Ethernet and NSH headers.
    Encap, "encap" => [Act];
    /// Connection tracking.
    Ct, "ct" => [Act];
    Meter, "meter" => [Act];
    /// Sample, clone and check_pkt_len: actions within actions.
    Sample, "sample" => [Act];
    Recirc, "recirc" => [Parse];
    Userspace, "userspace" => [Act];
    Tx, "tx" => [];
}

/// What a node has done.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct NodeStats {
    /// Vectors.
    pub calls: u64,
    pub packets: u64,
    /// Cycles of the time-stamp counter, nodes called from within included.
    pub clocks: u64,
}

/// A step of one packet's way, for `engine/trace`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    pub node: &'static str,
    /// The frame's number since tracing began.
    pub packet: u64,
    pub len: u32,
    pub in_port: u32,
    pub recirc_id: u32,
}

/// Steps kept of one trace.
const MAX_STEPS: usize = 1024;

/// Counters of all nodes, and the trace.
#[derive(Default)]
pub struct Graph {
    stats: [NodeStats; NodeId::ALL.len()],
    /// Steps still to be recorded.
    wanted: usize,
    traced: Vec<Step>,
}

impl Graph {
    /// What each node has done.
    pub fn stats(&self) -> impl Iterator<Item = (NodeId, NodeStats)> + '_ {
        NodeId::ALL.iter().map(|&node| (node, self.stats[node as usize]))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.stats = Default::default();
    }

    /// Counts a vector of `packets` that took since `began`.
    #[inline]
    pub fn count(&mut self, node: NodeId, packets: usize, began: u64) {
        let stats = &mut self.stats[node as usize];
        stats.calls += 1;
        stats.packets += packets as u64;
        stats.clocks += cpu::tsc().wrapping_sub(began);
    }

    /// Begins to record the next `steps` steps.
    pub fn trace(&mut self, steps: usize) {
        self.traced.clear();
        self.wanted = steps.min(MAX_STEPS);
    }

    /// The steps recorded so far.
    pub fn traced(&self) -> &[Step] {
        &self.traced
    }

    /// Records that `packets` came to `node`, if a trace is wanted.
    #[inline]
    pub fn visit(&mut self, node: NodeId, packets: &[Packet]) {
        if self.wanted > 0 {
            self.record(node, packets);
        }
    }

    #[cold]
    fn record(&mut self, node: NodeId, packets: &[Packet]) {
        for (n, packet) in packets.iter().enumerate().take(self.wanted) {
            self.traced.push(Step {
                node: node.name(),
                packet: n as u64,
                len: packet.len,
                in_port: packet.meta.in_port,
                recirc_id: packet.meta.recirc_id,
            });
        }
        self.wanted = self.wanted.saturating_sub(packets.len());
    }
}

/// One step of a vector's way.
pub trait Node {
    const ID: NodeId;

    /// Does the step for all packets of the vector that it concerns; how many those were.
    fn process(worker: &mut Worker, vector: &mut Vector) -> usize;
}

/// Runs a node on a vector and counts it.
#[inline]
pub fn run<N: Node>(worker: &mut Worker, vector: &mut Vector) {
    worker.graph.visit(N::ID, &vector.packets);
    let began = cpu::tsc();
    let n = N::process(worker, vector);
    if n > 0 {
        worker.graph.count(N::ID, n, began);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_reached() {
        for node in NodeId::ALL.iter().filter(|&&node| node != NodeId::Rx) {
            assert!(NodeId::ALL.iter().any(|from| from.next().contains(node)), "{}", node.name());
        }
    }
}
