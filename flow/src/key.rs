//! The flow key: what the switch knows of a packet, as zero-padded 64-bit words in OVS's four segments.
//!
//! The segments are metadata, L2, L3 and L4; L4 begins at [`Key::nd_target`]. Staged lookup hashes a rule's key
//! segment by segment, so a field's place decides which later fields a lookup may leave unread. Everything that came
//! from a packet is big-endian, everything of our own making is host-endian; the type says which.
//!
//! A full key is about 800 bytes: it lives on a stack. What is stored is compressed ([`crate::mini`]).

use std::hint::black_box;

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// OpenFlow registers.
pub const REGS: usize = 32;
/// VLAN tags kept in a key.
pub const MAX_VLANS: usize = 2;
/// MPLS labels kept in a key.
pub const MAX_MPLS: usize = 3;
/// Bytes of tunnel option values (Geneve options mapped to `tun_metadata` fields).
pub const TUN_METADATA_BYTES: usize = 256;

/// An Ethernet address.
pub type EthAddr = [u8; 6];
/// An IPv6 address in network order.
pub type Ipv6 = [u8; 16];

/// Tunnel metadata: the outer header of an encapsulated packet.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tunnel {
    pub ip_dst: U32,
    pub ipv6_dst: Ipv6,
    pub ip_src: U32,
    pub ipv6_src: Ipv6,
    pub id: U64,
    /// `tnl_flags::*`.
    pub flags: u16,
    pub tos: u8,
    pub ttl: u8,
    pub tp_src: U16,
    pub tp_dst: U16,
    pub gbp_id: U16,
    pub gbp_flags: u8,
    pub erspan_ver: u8,
    pub erspan_idx: u32,
    pub erspan_dir: u8,
    pub erspan_hwid: u8,
    pub gtpu_flags: u8,
    pub gtpu_msgtype: u8,
    pub pad: [u8; 4],
    /// Which `tun_metadata` fields (bit N: field N) are present.
    pub opt_present: u64,
    /// Values of the mapped options, at the places that the bridge's TLV table gives.
    pub opts: [u8; TUN_METADATA_BYTES],
}

/// Flags of [`Tunnel::flags`].
pub mod tnl_flags {
    pub const OAM: u16 = 1 << 0;
    pub const DONT_FRAGMENT: u16 = 1 << 1;
    pub const CSUM: u16 = 1 << 2;
    pub const KEY: u16 = 1 << 3;
    /// The options are raw Geneve options, [`Tunnel::opt_present`](super::Tunnel::opt_present) their length in bytes:
    /// as the datapath has them, before a TLV table maps them.
    pub const RAW_OPTS: u16 = 1 << 4;
    /// The flags that OpenFlow can match.
    pub const PUBLIC: u16 = OAM;
    pub const ALL: u16 = OAM | DONT_FRAGMENT | CSUM | KEY;
}

/// A VLAN tag; absent where `tci` lacks [`VLAN_CFI`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Vlan {
    pub tpid: U16,
    pub tci: U16,
}

/// The bit of a TCI that says "this tag is present" (the CFI/DEI bit on the wire).
pub const VLAN_CFI: u16 = 0x1000;

/// Network Service Header (RFC 8300).
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Nsh {
    pub flags: u8,
    pub ttl: u8,
    pub mdtype: u8,
    pub np: u8,
    /// Service path id (24 bits) and service index (8 bits).
    pub path_hdr: U32,
    /// MD type 1 context, zero for MD type 2.
    pub context: [U32; 4],
}

/// Values of [`Key::nw_frag`].
pub mod frag {
    /// The packet is a fragment.
    pub const ANY: u8 = 1;
    /// The packet is a fragment other than the first.
    pub const LATER: u8 = 2;
    pub const MASK: u8 = ANY | LATER;
}

/// What the switch knows of a packet. Build with [`Key::default`] (all zero) and set fields.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Key {
    // Metadata.
    pub tunnel: Tunnel,
    pub metadata: U64,
    pub regs: [u32; REGS],
    pub skb_priority: u32,
    pub pkt_mark: u32,
    pub dp_hash: u32,
    /// A datapath port in the datapath, an OpenFlow port above it.
    pub in_port: u32,
    pub recirc_id: u32,
    pub ct_state: u8,
    pub ct_nw_proto: u8,
    pub ct_zone: u16,
    pub ct_mark: u32,
    /// Namespace in the high, type in the low 16 bits; 0 is Ethernet.
    pub packet_type: U32,
    /// Big-endian 128-bit label.
    pub ct_label: [u8; 16],
    pub conj_id: u32,
    /// OpenFlow port of the action set's output, or `OFPP_UNSET`.
    pub actset_output: u32,

    // L2.
    pub dl_dst: EthAddr,
    pub dl_src: EthAddr,
    pub dl_type: U16,
    pub pad1: [u8; 2],
    pub vlans: [Vlan; MAX_VLANS],
    /// Three labels and padding.
    pub mpls_lse: [U32; 4],

    // L3.
    pub nw_src: U32,
    pub nw_dst: U32,
    pub ct_nw_src: U32,
    pub ct_nw_dst: U32,
    pub ipv6_src: Ipv6,
    pub ipv6_dst: Ipv6,
    pub ct_ipv6_src: Ipv6,
    pub ct_ipv6_dst: Ipv6,
    pub ipv6_label: U32,
    /// `frag::*`.
    pub nw_frag: u8,
    pub nw_tos: u8,
    pub nw_ttl: u8,
    /// IP protocol, or the low byte of an ARP opcode.
    pub nw_proto: u8,

    // L4.
    pub nd_target: Ipv6,
    pub arp_sha: EthAddr,
    pub arp_tha: EthAddr,
    /// TCP flags (12 bits), or the ND options type of an ICMPv6 ND packet.
    pub tcp_flags: U16,
    pub pad2: [u8; 2],
    pub nsh: Nsh,
    pub tp_src: U16,
    pub tp_dst: U16,
    pub ct_tp_src: U16,
    pub ct_tp_dst: U16,
    /// IGMP group, or the reserved word of an ICMPv6 ND packet.
    pub igmp_group_ip4: U32,
    pub pad3: [u8; 4],
}

impl Key {
    /// A key of zeros on the heap. It is zeroed there: C libraries give memory that they zero themselves from no cache of theirs.
    pub fn boxed() -> Box<Self> {
        Box::write(black_box(Box::new_uninit()), Self::default())
    }

    /// Length in 64-bit words.
    pub const WORDS: usize = size_of::<Self>() / 8;

    /// Where the L2, L3 and L4 segments begin, and where the last one ends, in words.
    pub const SEGMENTS: [usize; 4] = [
        core::mem::offset_of!(Key, dl_dst) / 8,
        core::mem::offset_of!(Key, nw_src) / 8,
        core::mem::offset_of!(Key, nd_target) / 8,
        Self::WORDS,
    ];

    /// The key as words, in memory order.
    pub fn words(&self) -> &[u64; Self::WORDS] {
        zerocopy::transmute_ref!(self)
    }

    /// The key as words, to change.
    pub fn words_mut(&mut self) -> &mut [u64; Self::WORDS] {
        zerocopy::transmute_mut!(self)
    }
}

const _: () = {
    assert!((size_of::<Key>()).is_multiple_of(8));
    assert!((core::mem::offset_of!(Key, dl_dst)).is_multiple_of(8));
    assert!((core::mem::offset_of!(Key, nw_src)).is_multiple_of(8));
    assert!((core::mem::offset_of!(Key, nd_target)).is_multiple_of(8));
};

impl Default for Key {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

/// Which bits of a [`Key`] matter: a 1-bit is significant. The default matches everything.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Mask(pub Key);

impl Mask {
    /// Every bit significant, padding too.
    pub fn exact() -> Self {
        let mut mask = Self::default();
        mask.0.words_mut().fill(u64::MAX);
        mask
    }

    /// As the default, on the heap: see [`Key::boxed`].
    pub fn boxed() -> Box<Self> {
        Box::write(black_box(Box::new_uninit()), Self::default())
    }

    /// Whether no bit is significant.
    pub fn is_catch_all(&self) -> bool {
        self.0.words().iter().all(|&word| word == 0)
    }

    /// Makes every bit significant that is in `other`.
    pub fn add(&mut self, other: &Self) {
        for (word, &more) in self.0.words_mut().iter_mut().zip(other.0.words()) {
            *word |= more;
        }
    }

    /// `key` with the insignificant bits cleared.
    pub fn apply(&self, key: &Key) -> Key {
        let mut masked = *key;
        for (word, &mask) in masked.words_mut().iter_mut().zip(self.0.words()) {
            *word &= mask;
        }
        masked
    }
}
