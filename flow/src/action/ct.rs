//! The `ct` action: connection tracking, commit and NAT.

use crate::id::Zone;
use std::net::IpAddr;

/// Attribute numbers, `enum ovs_ct_attr`.
pub mod code {
    pub const COMMIT: u16 = 1;
    pub const ZONE: u16 = 2;
    pub const MARK: u16 = 3;
    pub const LABELS: u16 = 4;
    pub const HELPER: u16 = 5;
    pub const NAT: u16 = 6;
    pub const FORCE_COMMIT: u16 = 7;
    pub const EVENTMASK: u16 = 8;
    pub const TIMEOUT: u16 = 9;
}

/// Attribute numbers, `enum ovs_nat_attr`.
pub mod nat_code {
    pub const SRC: u16 = 1;
    pub const DST: u16 = 2;
    pub const IP_MIN: u16 = 3;
    pub const IP_MAX: u16 = 4;
    pub const PROTO_MIN: u16 = 5;
    pub const PROTO_MAX: u16 = 6;
    pub const PERSISTENT: u16 = 7;
    pub const PROTO_HASH: u16 = 8;
    pub const PROTO_RANDOM: u16 = 9;
}

/// Sends the packet through the connection tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ct {
    pub commit: bool,
    /// Commit, and drop an existing connection of the other direction.
    pub force: bool,
    /// As the attribute was there; absent means zone 0.
    pub zone: Option<Zone>,
    /// Value and mask.
    pub mark: Option<(u32, u32)>,
    /// Value and mask, in the byte order of [`crate::odp::KeyAttr::CtLabels`].
    pub labels: Option<([u8; 16], [u8; 16])>,
    pub helper: Option<String>,
    /// Mask of the events that the tracker tells.
    pub eventmask: Option<u32>,
    /// Name of a timeout policy.
    pub timeout: Option<String>,
    pub nat: Option<Nat>,
}

/// Address translation within [`Ct`]. Without `kind`, existing translations are applied and none is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    pub kind: Option<NatKind>,
    pub range: NatRange,
    pub persistent: bool,
    pub proto_hash: bool,
    pub proto_random: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    Src,
    Dst,
}

/// Addresses and ports to translate to; an absent maximum equals the minimum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatRange {
    pub ip_min: Option<IpAddr>,
    pub ip_max: Option<IpAddr>,
    pub proto_min: Option<u16>,
    pub proto_max: Option<u16>,
}
