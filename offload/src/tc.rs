//! Traffic control's flower classifier as messages (`linux/pkt_cls.h`, `linux/rtnetlink.h`): from our types to bytes and
//! back. Nothing here decides anything.
//!
//! * [`key`]: what a rule matches; [`options`]: tunnel options within it.
//! * [`action`]: what a rule does.
//! * [`filter`]: whole rules, as they are put, deleted and told.
//! * [`limit`]: limits that rules share.

pub mod key;
pub mod options;
pub mod action;
pub mod filter;
pub mod limit;

pub use datapath::linux::hook::Hook;

/// Bytes of `struct tcmsg`.
pub const HEADER: usize = 20;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;

/// The classes that rules are of (`TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS`).
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// The interface index that says "a block" (`TCM_IFINDEX_MAGIC_BLOCK`).
const BLOCK: u32 = u32::MAX;

/// Any protocol (`ETH_P_ALL`).
pub const ETH_P_ALL: u16 = 3;

/// What rules are on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum On {
    /// A device by its interface index.
    Device(u32),
    /// A block that devices share.
    Block(u32),
}

impl On {
    /// Where the rules of a device are: on it, or in the block that it shares.
    pub const fn of(ifindex: u32, block: Option<u32>) -> Self {
        match block {
            Some(block) => Self::Block(block),
            None => Self::Device(ifindex),
        }
    }
}

/// `struct tcmsg`.
fn header(on: On, hook: Hook, handle: u32, info: u32) -> [u8; HEADER] {
    let (ifindex, parent) = match (on, hook) {
        (On::Device(ifindex), Hook::Ingress) => (ifindex, INGRESS),
        (On::Device(ifindex), Hook::Egress) => (ifindex, EGRESS),
        (On::Block(block), _) => (BLOCK, block),
    };
    let mut bytes = [0; HEADER];
    for (at, word) in [(4, ifindex), (8, handle), (12, parent), (16, info)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// The reverse of [`header`] for interface index and parent.
fn place(ifindex: u32, parent: u32) -> (On, Hook) {
    match (ifindex, parent) {
        (BLOCK, block) => (On::Block(block), Hook::Ingress),
        (ifindex, EGRESS) => (On::Device(ifindex), Hook::Egress),
        (ifindex, _) => (On::Device(ifindex), Hook::Ingress),
    }
}
