//! Datapath actions: every `OVS_ACTION_ATTR_*` of kernel 6.12 and those that only the userspace datapath has.
//!
//! One enum for netlink and text; whoever executes or lowers actions matches it without a wildcard arm. What is
//! unknown survives a round trip as [`Action::Unknown`].
//!
//! * [`wire`]: netlink, both ways.
//! * [`ct`]: connection tracking and its NAT.
//! * [`push`]: headers of tunnels that `tnl_push` prepends.
//! * [`mod@format`] prints text, [`parse`] reads it.

pub mod ct;
pub mod push;
pub mod wire;
pub mod format;
pub mod parse;

pub use ct::{Ct, Nat, NatKind, NatRange};
pub use push::TunnelPush;

use crate::drop::DropReason;
use crate::id::{DpMeter, DpPort, RecircId};
use crate::key::{EthAddr, Vlan};
use crate::odp::{KeyAttr, NshKey};
use zerocopy::big_endian::{U16, U32};

/// Action numbers, `enum ovs_action_attr`.
pub mod code {
    pub const OUTPUT: u16 = 1;
    pub const USERSPACE: u16 = 2;
    pub const SET: u16 = 3;
    pub const PUSH_VLAN: u16 = 4;
    pub const POP_VLAN: u16 = 5;
    pub const SAMPLE: u16 = 6;
    pub const RECIRC: u16 = 7;
    pub const HASH: u16 = 8;
    pub const PUSH_MPLS: u16 = 9;
    pub const POP_MPLS: u16 = 10;
    pub const SET_MASKED: u16 = 11;
    pub const CT: u16 = 12;
    pub const TRUNC: u16 = 13;
    pub const PUSH_ETH: u16 = 14;
    pub const POP_ETH: u16 = 15;
    pub const CT_CLEAR: u16 = 16;
    pub const PUSH_NSH: u16 = 17;
    pub const POP_NSH: u16 = 18;
    pub const METER: u16 = 19;
    pub const CLONE: u16 = 20;
    pub const CHECK_PKT_LEN: u16 = 21;
    pub const ADD_MPLS: u16 = 22;
    pub const DEC_TTL: u16 = 23;
    pub const DROP: u16 = 24;
    pub const PSAMPLE: u16 = 25;
    /// Userspace only.
    pub const TUNNEL_PUSH: u16 = 26;
    /// Userspace only.
    pub const TUNNEL_POP: u16 = 27;
    /// Userspace only.
    pub const LB_OUTPUT: u16 = 28;
}

/// Hash algorithms of [`Action::Hash`]: `OVS_HASH_ALG_*`.
pub mod hash_alg {
    pub const L4: u32 = 0;
    /// Userspace only.
    pub const SYM_L4: u32 = 1;
}

/// One datapath action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Output(DpPort),
    Userspace(Userspace),
    Set(KeyAttr),
    /// Value and mask, of the same attribute; bits outside of the mask are zero in the value.
    SetMasked(KeyAttr, KeyAttr),
    /// The TCI has [`crate::key::VLAN_CFI`] set.
    PushVlan(Vlan),
    PopVlan,
    /// With `probability` of `u32::MAX` in `u32::MAX`, runs `actions` on a copy.
    Sample {
        probability: u32,
        actions: Vec<Action>,
    },
    Recirc(RecircId),
    /// Computes `dp_hash`; `alg` is one of [`hash_alg`].
    Hash {
        alg: u32,
        basis: u32,
    },
    PushMpls {
        lse: U32,
        ethertype: U16,
    },
    /// The Ethernet type that remains.
    PopMpls(U16),
    Ct(Ct),
    /// Longest packet that the next output sends.
    Trunc(u32),
    PushEth {
        src: EthAddr,
        dst: EthAddr,
    },
    PopEth,
    CtClear,
    PushNsh(NshKey),
    PopNsh,
    Meter(DpMeter),
    Clone(Vec<Action>),
    CheckPktLen {
        len: u16,
        greater: Vec<Action>,
        less_equal: Vec<Action>,
    },
    /// `flags`: bit 0 says that the label goes in front of the L3 header, not of the Ethernet header.
    AddMpls {
        lse: U32,
        ethertype: U16,
        flags: u16,
    },
    /// What to do with a packet whose TTL was 1 or less.
    DecTtl(Vec<Action>),
    Drop(DropReason),
    Psample {
        group: u32,
        cookie: Vec<u8>,
    },
    TunnelPush(Box<TunnelPush>),
    TunnelPop(DpPort),
    /// Output to a bond, by its hash.
    LbOutput(u32),
    Unknown(u16, Vec<u8>),
}

/// Passes the packet to userspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Userspace {
    /// Netlink port id of the receiver.
    pub pid: u32,
    /// A [`crate::cookie::UserCookie`], or anything else.
    pub userdata: Option<Vec<u8>>,
    /// The tunnel port whose output metadata the upcall shall bring.
    pub egress_tun_port: Option<DpPort>,
    /// Whether the upcall brings the flow's actions.
    pub actions: bool,
}
