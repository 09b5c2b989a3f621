//! The field registry: one row a field of OVS's meta-flow, and everything that iterates the rows.
//!
//! A row gives the names, the width, whether a match may be masked, the text form, the prerequisites, whether actions
//! may write the field, which OpenFlow protocols can match it, where it lives in the [`Key`], and its NXM and OXM ids.
//! The wire and text codecs of matches and actions, `learn`, `move`, `load` and the classifier's tries read these rows;
//! nothing else knows where a field is. Irregular places (VLAN parts, OpenFlow 1.1 ports, register pairs, mapped tunnel
//! options) are variants of [`Place`] in the same row.
//!
//! References: `meta-flow(7)` as ovs-fields(7) renders it, OpenFlow 1.5 section 7.2.3.

mod place;
mod prereq;
mod matching;
mod subfield;
mod text;
mod value;

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

pub use place::Place;
pub use prereq::{Prereq, dl_type};
pub use subfield::Subfield;
pub use text::{
    NoNames, PortNames, ct_state_name, format_flags, format_flags_masked, format_packet_type, format_port,
    parse_flags, parse_ipv4, parse_ipv6, parse_mac, parse_port, quote_name, reserved_port_name,
    tcp_flag_name, tnl_flag_name,
};
pub(crate) use text::{put_ethernet, put_ipv4, put_ipv6};
pub use value::Value;

use crate::key::{Key, Mask, VLAN_CFI};
use place::VlanPart;

/// Whether a match on a field may leave some of its bits out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Maskable {
    /// Exactly or not at all.
    Never,
    /// Bit by bit.
    Fully,
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoding {
    Decimal,
    Hexadecimal,
    CtState,
    Ethernet,
    Ipv4,
    Ipv6,
    /// A 16-bit OpenFlow 1.0 port number or name.
    OfpPort,
    /// A 32-bit OpenFlow 1.1 port number or name.
    OfpPortOxm,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Frag,
    TnlFlags,
    TcpFlags,
    /// `(NS,TYPE)`.
    PacketType,
}

/// Which OpenFlow protocols can express a kind of match on a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usable {
    Never,
    /// NXM (OpenFlow 1.0 with extensions) and OXM.
    NxmOxm,
    /// NXM, OpenFlow 1.1 and OXM.
    NxmOf11,
    Any,
}

/// A field's id in NXM or OXM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Oxm {
    /// The experimenter, for class 0xffff; else 0.
    pub experimenter: u32,
    pub class: u16,
    /// The 7-bit field number.
    pub field: u8,
    /// The OpenFlow wire version (1.2 is 3) since which this is the id to use; 0 for always.
    pub since: u8,
    pub name: &'static str,
}

/// What is known of a field.
#[derive(Debug)]
pub struct FieldInfo {
    pub name: &'static str,
    /// The other name, or empty.
    pub extra_name: &'static str,
    /// Bytes of a value; the most there may be, for a mapped tunnel option.
    pub n_bytes: u8,
    pub n_bits: u16,
    pub maskable: Maskable,
    pub decoding: Decoding,
    pub prereq: Prereq,
    /// Whether actions may write the field.
    pub writable: bool,
    /// Whether the classifier can keep a prefix trie over the field.
    pub prefix: bool,
    /// Protocols that can match the whole field, a CIDR prefix of it, or any bits of it.
    pub usable: [Usable; 3],
    pub place: Place,
    /// NXM and OXM ids, in OVS's order.
    pub oxms: &'static [Oxm],
}

macro_rules! fields {
    ($($id:ident: $name:literal $extra:literal, $bytes:literal $bits:literal $maskable:ident $decoding:ident,
        $prereq:ident $access:ident $trie:ident, $exact:ident $cidr:ident $bitwise:ident,
        $place:ident $args:tt, [$($exp:literal $class:literal $field:literal $since:literal $oxm:literal),*];)+) => {
        /// A field of a flow, in the order in which OVS numbers them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Field {
            $($id,)+
        }

        impl Field {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$id),+];
        }

        static ROWS: [FieldInfo; Field::ALL.len()] = [$(FieldInfo {
            name: $name,
            extra_name: $extra,
            n_bytes: $bytes,
            n_bits: $bits,
            maskable: Maskable::$maskable,
            decoding: Decoding::$decoding,
            prereq: Prereq::$prereq,
            writable: access!($access),
            prefix: access!($trie),
            usable: [Usable::$exact, Usable::$cidr, Usable::$bitwise],
            place: place!($place $args),
            oxms: &[$(Oxm { experimenter: $exp, class: $class, field: $field, since: $since, name: $oxm }),*],
        }),+];
    };
}

macro_rules! access {
    (rw) => {
        true
    };
    (ro) => {
        false
    };
    (prefix) => {
        true
    };
    (whole) => {
        false
    };
}

macro_rules! place {
    (be($f:ident $(.$g:ident)* $(+ $add:literal)?, $n:literal)) => {
        Place::word(std::mem::offset_of!(Key, $f $(.$g)*) $(+ $add)?, $n, 0, u64::MAX, false)
    };
    (be_bits($f:ident $(.$g:ident)*, $n:literal, $shift:literal, $mask:literal)) => {
        Place::word(std::mem::offset_of!(Key, $f $(.$g)*), $n, $shift, $mask, false)
    };
    (host($f:ident $(.$g:ident)*, $n:literal)) => {
        Place::word(std::mem::offset_of!(Key, $f $(.$g)*), $n, 0, u64::MAX, true)
    };
    (host_bits($f:ident $(.$g:ident)*, $n:literal, $shift:literal, $mask:literal)) => {
        Place::word(std::mem::offset_of!(Key, $f $(.$g)*), $n, $shift, $mask, true)
    };
    (bytes($f:ident $(.$g:ident)*, $n:literal)) => {
        Place::Bytes { ofs: std::mem::offset_of!(Key, $f $(.$g)*) as u16, len: $n }
    };
    (oxm_port($f:ident)) => { Place::OxmPort { ofs: std::mem::offset_of!(Key, $f) as u16 } };
    (vlan($part:ident)) => { Place::Vlan(VlanPart::$part) };
    (regs($first:literal, $count:literal)) => { Place::Regs { first: $first, count: $count } };
    (tun_metadata($index:literal)) => { Place::TunMetadata($index) };
}

fields! {
    DpHash: "dp_hash" "", 4 32 Fully Hexadecimal, Always ro whole, NxmOxm NxmOxm NxmOxm,
        host(dp_hash, 4), [0x2320 0xffff 0 0 "NXOXM_ET_DP_HASH", 0x0 0x1 35 0 "NXM_NX_DP_HASH"];
    RecircId: "recirc_id" "", 4 32 Never Decimal, Always ro whole, NxmOxm Never Never,
        host(recirc_id, 4), [0x0 0x1 36 0 "NXM_NX_RECIRC_ID"];
    PacketType: "packet_type" "", 4 32 Never PacketType, Always ro whole, NxmOxm Never Never,
        be(packet_type, 4), [0x0 0x8000 44 6 "OXM_OF_PACKET_TYPE"];
    ConjId: "conj_id" "", 4 32 Never Decimal, Always ro whole, NxmOxm Never Never,
        host(conj_id, 4), [0x0 0x1 37 0 "NXM_NX_CONJ_ID"];
    TunId: "tun_id" "tunnel_id", 8 64 Fully Hexadecimal, Always rw prefix, NxmOxm NxmOxm NxmOxm,
        be(tunnel.id, 8), [0x0 0x1 16 0 "NXM_NX_TUN_ID", 0x0 0x8000 38 4 "OXM_OF_TUNNEL_ID"];
    TunSrc: "tun_src" "", 4 32 Fully Ipv4, Always rw prefix, NxmOxm NxmOxm NxmOxm,
        be(tunnel.ip_src, 4), [0x0 0x1 31 0 "NXM_NX_TUN_IPV4_SRC"];
    TunDst: "tun_dst" "", 4 32 Fully Ipv4, Always rw prefix, NxmOxm NxmOxm NxmOxm,
        be(tunnel.ip_dst, 4), [0x0 0x1 32 0 "NXM_NX_TUN_IPV4_DST"];
    TunIpv6Src: "tun_ipv6_src" "", 16 128 Fully Ipv6, Always rw prefix, NxmOxm NxmOxm NxmOxm,
        bytes(tunnel.ipv6_src, 16), [0x0 0x1 109 0 "NXM_NX_TUN_IPV6_SRC"];
    TunIpv6Dst: "tun_ipv6_dst" "", 16 128 Fully Ipv6, Always rw prefix, NxmOxm NxmOxm NxmOxm,
        bytes(tunnel.ipv6_dst, 16), [0x0 0x1 110 0 "NXM_NX_TUN_IPV6_DST"];
    TunFlags: "tun_flags" "", 2 1 Fully TnlFlags, Always rw whole, NxmOxm NxmOxm NxmOxm,
        host_bits(tunnel.flags, 2, 0, 0x1), [0x0 0x1 104 0 "NXM_NX_TUN_FLAGS"];
    TunTtl: "tun_ttl" "", 1 8 Never Decimal, Always ro whole, Never Never Never,
        be(tunnel.ttl, 1), [];
    TunTos: "tun_tos" "", 1 8 Never Decimal, Always ro whole, Never Never Never,
        be(tunnel.tos, 1), [];
    TunGbpId: "tun_gbp_id" "", 2 16 Fully Decimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        be(tunnel.gbp_id, 2), [0x0 0x1 38 0 "NXM_NX_TUN_GBP_ID"];
    TunGbpFlags: "tun_gbp_flags" "", 1 8 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        be(tunnel.gbp_flags, 1), [0x0 0x1 39 0 "NXM_NX_TUN_GBP_FLAGS"];
    TunErspanIdx: "tun_erspan_idx" "", 4 20 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        host(tunnel.erspan_idx, 4), [0x2320 0xffff 11 0 "NXOXM_ET_ERSPAN_IDX"];
    TunErspanVer: "tun_erspan_ver" "", 1 4 Fully Decimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        be(tunnel.erspan_ver, 1), [0x2320 0xffff 12 0 "NXOXM_ET_ERSPAN_VER"];
    TunErspanDir: "tun_erspan_dir" "", 1 1 Fully Decimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        be(tunnel.erspan_dir, 1), [0x2320 0xffff 13 0 "NXOXM_ET_ERSPAN_DIR"];
    TunErspanHwid: "tun_erspan_hwid" "", 1 6 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        be(tunnel.erspan_hwid, 1), [0x2320 0xffff 14 0 "NXOXM_ET_ERSPAN_HWID"];
    TunGtpuFlags: "tun_gtpu_flags" "", 1 8 Fully Hexadecimal, Always ro whole, NxmOxm NxmOxm NxmOxm,
        be(tunnel.gtpu_flags, 1), [0x2320 0xffff 15 0 "NXOXM_ET_GTPU_FLAGS"];
    TunGtpuMsgtype: "tun_gtpu_msgtype" "", 1 8 Fully Decimal, Always ro whole, NxmOxm NxmOxm NxmOxm,
        be(tunnel.gtpu_msgtype, 1), [0x2320 0xffff 16 0 "NXOXM_ET_GTPU_MSGTYPE"];
    TunMetadata0: "tun_metadata0" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(0), [0x0 0x1 40 0 "NXM_NX_TUN_METADATA0"];
    TunMetadata1: "tun_metadata1" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(1), [0x0 0x1 41 0 "NXM_NX_TUN_METADATA1"];
    TunMetadata2: "tun_metadata2" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(2), [0x0 0x1 42 0 "NXM_NX_TUN_METADATA2"];
    TunMetadata3: "tun_metadata3" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(3), [0x0 0x1 43 0 "NXM_NX_TUN_METADATA3"];
    TunMetadata4: "tun_metadata4" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(4), [0x0 0x1 44 0 "NXM_NX_TUN_METADATA4"];
    TunMetadata5: "tun_metadata5" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(5), [0x0 0x1 45 0 "NXM_NX_TUN_METADATA5"];
    TunMetadata6: "tun_metadata6" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(6), [0x0 0x1 46 0 "NXM_NX_TUN_METADATA6"];
    TunMetadata7: "tun_metadata7" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(7), [0x0 0x1 47 0 "NXM_NX_TUN_METADATA7"];
    TunMetadata8: "tun_metadata8" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(8), [0x0 0x1 48 0 "NXM_NX_TUN_METADATA8"];
    TunMetadata9: "tun_metadata9" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(9), [0x0 0x1 49 0 "NXM_NX_TUN_METADATA9"];
    TunMetadata10: "tun_metadata10" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(10), [0x0 0x1 50 0 "NXM_NX_TUN_METADATA10"];
    TunMetadata11: "tun_metadata11" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(11), [0x0 0x1 51 0 "NXM_NX_TUN_METADATA11"];
    TunMetadata12: "tun_metadata12" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(12), [0x0 0x1 52 0 "NXM_NX_TUN_METADATA12"];
    TunMetadata13: "tun_metadata13" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(13), [0x0 0x1 53 0 "NXM_NX_TUN_METADATA13"];
    TunMetadata14: "tun_metadata14" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(14), [0x0 0x1 54 0 "NXM_NX_TUN_METADATA14"];
    TunMetadata15: "tun_metadata15" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(15), [0x0 0x1 55 0 "NXM_NX_TUN_METADATA15"];
    TunMetadata16: "tun_metadata16" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(16), [0x0 0x1 56 0 "NXM_NX_TUN_METADATA16"];
    TunMetadata17: "tun_metadata17" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(17), [0x0 0x1 57 0 "NXM_NX_TUN_METADATA17"];
    TunMetadata18: "tun_metadata18" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(18), [0x0 0x1 58 0 "NXM_NX_TUN_METADATA18"];
    TunMetadata19: "tun_metadata19" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(19), [0x0 0x1 59 0 "NXM_NX_TUN_METADATA19"];
    TunMetadata20: "tun_metadata20" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(20), [0x0 0x1 60 0 "NXM_NX_TUN_METADATA20"];
    TunMetadata21: "tun_metadata21" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(21), [0x0 0x1 61 0 "NXM_NX_TUN_METADATA21"];
    TunMetadata22: "tun_metadata22" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(22), [0x0 0x1 62 0 "NXM_NX_TUN_METADATA22"];
    TunMetadata23: "tun_metadata23" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(23), [0x0 0x1 63 0 "NXM_NX_TUN_METADATA23"];
    TunMetadata24: "tun_metadata24" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(24), [0x0 0x1 64 0 "NXM_NX_TUN_METADATA24"];
    TunMetadata25: "tun_metadata25" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(25), [0x0 0x1 65 0 "NXM_NX_TUN_METADATA25"];
    TunMetadata26: "tun_metadata26" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(26), [0x0 0x1 66 0 "NXM_NX_TUN_METADATA26"];
    TunMetadata27: "tun_metadata27" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(27), [0x0 0x1 67 0 "NXM_NX_TUN_METADATA27"];
    TunMetadata28: "tun_metadata28" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(28), [0x0 0x1 68 0 "NXM_NX_TUN_METADATA28"];
    TunMetadata29: "tun_metadata29" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(29), [0x0 0x1 69 0 "NXM_NX_TUN_METADATA29"];
    TunMetadata30: "tun_metadata30" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(30), [0x0 0x1 70 0 "NXM_NX_TUN_METADATA30"];
    TunMetadata31: "tun_metadata31" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(31), [0x0 0x1 71 0 "NXM_NX_TUN_METADATA31"];
    TunMetadata32: "tun_metadata32" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(32), [0x0 0x1 72 0 "NXM_NX_TUN_METADATA32"];
    TunMetadata33: "tun_metadata33" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(33), [0x0 0x1 73 0 "NXM_NX_TUN_METADATA33"];
    TunMetadata34: "tun_metadata34" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(34), [0x0 0x1 74 0 "NXM_NX_TUN_METADATA34"];
    TunMetadata35: "tun_metadata35" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(35), [0x0 0x1 75 0 "NXM_NX_TUN_METADATA35"];
    TunMetadata36: "tun_metadata36" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(36), [0x0 0x1 76 0 "NXM_NX_TUN_METADATA36"];
    TunMetadata37: "tun_metadata37" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(37), [0x0 0x1 77 0 "NXM_NX_TUN_METADATA37"];
    TunMetadata38: "tun_metadata38" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(38), [0x0 0x1 78 0 "NXM_NX_TUN_METADATA38"];
    TunMetadata39: "tun_metadata39" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(39), [0x0 0x1 79 0 "NXM_NX_TUN_METADATA39"];
    TunMetadata40: "tun_metadata40" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(40), [0x0 0x1 80 0 "NXM_NX_TUN_METADATA40"];
    TunMetadata41: "tun_metadata41" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(41), [0x0 0x1 81 0 "NXM_NX_TUN_METADATA41"];
    TunMetadata42: "tun_metadata42" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(42), [0x0 0x1 82 0 "NXM_NX_TUN_METADATA42"];
    TunMetadata43: "tun_metadata43" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(43), [0x0 0x1 83 0 "NXM_NX_TUN_METADATA43"];
    TunMetadata44: "tun_metadata44" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(44), [0x0 0x1 84 0 "NXM_NX_TUN_METADATA44"];
    TunMetadata45: "tun_metadata45" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(45), [0x0 0x1 85 0 "NXM_NX_TUN_METADATA45"];
    TunMetadata46: "tun_metadata46" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(46), [0x0 0x1 86 0 "NXM_NX_TUN_METADATA46"];
    TunMetadata47: "tun_metadata47" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(47), [0x0 0x1 87 0 "NXM_NX_TUN_METADATA47"];
    TunMetadata48: "tun_metadata48" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(48), [0x0 0x1 88 0 "NXM_NX_TUN_METADATA48"];
    TunMetadata49: "tun_metadata49" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(49), [0x0 0x1 89 0 "NXM_NX_TUN_METADATA49"];
    TunMetadata50: "tun_metadata50" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(50), [0x0 0x1 90 0 "NXM_NX_TUN_METADATA50"];
    TunMetadata51: "tun_metadata51" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(51), [0x0 0x1 91 0 "NXM_NX_TUN_METADATA51"];
    TunMetadata52: "tun_metadata52" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(52), [0x0 0x1 92 0 "NXM_NX_TUN_METADATA52"];
    TunMetadata53: "tun_metadata53" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(53), [0x0 0x1 93 0 "NXM_NX_TUN_METADATA53"];
    TunMetadata54: "tun_metadata54" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(54), [0x0 0x1 94 0 "NXM_NX_TUN_METADATA54"];
    TunMetadata55: "tun_metadata55" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(55), [0x0 0x1 95 0 "NXM_NX_TUN_METADATA55"];
    TunMetadata56: "tun_metadata56" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(56), [0x0 0x1 96 0 "NXM_NX_TUN_METADATA56"];
    TunMetadata57: "tun_metadata57" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(57), [0x0 0x1 97 0 "NXM_NX_TUN_METADATA57"];
    TunMetadata58: "tun_metadata58" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(58), [0x0 0x1 98 0 "NXM_NX_TUN_METADATA58"];
    TunMetadata59: "tun_metadata59" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(59), [0x0 0x1 99 0 "NXM_NX_TUN_METADATA59"];
    TunMetadata60: "tun_metadata60" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(60), [0x0 0x1 100 0 "NXM_NX_TUN_METADATA60"];
    TunMetadata61: "tun_metadata61" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(61), [0x0 0x1 101 0 "NXM_NX_TUN_METADATA61"];
    TunMetadata62: "tun_metadata62" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(62), [0x0 0x1 102 0 "NXM_NX_TUN_METADATA62"];
    TunMetadata63: "tun_metadata63" "", 124 992 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        tun_metadata(63), [0x0 0x1 103 0 "NXM_NX_TUN_METADATA63"];
    Metadata: "metadata" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOf11 NxmOf11 NxmOf11,
        be(metadata, 8), [0x0 0x8000 2 3 "OXM_OF_METADATA"];
    InPort: "in_port" "", 2 16 Never OfpPort, Always rw whole, Any Never Never,
        host_bits(in_port, 4, 0, 0xffff), [0x0 0x0 0 0 "NXM_OF_IN_PORT"];
    InPortOxm: "in_port_oxm" "", 4 32 Never OfpPortOxm, Always rw whole, NxmOf11 Never Never,
        oxm_port(in_port), [0x0 0x8000 0 3 "OXM_OF_IN_PORT"];
    ActsetOutput: "actset_output" "", 4 32 Never OfpPortOxm, Always ro whole, NxmOxm Never Never,
        oxm_port(actset_output), [0x4f4e4600 0xffff 43 4 "ONFOXM_ET_ACTSET_OUTPUT", 0x0 0x8000 43 6 "OXM_OF_ACTSET_OUTPUT"];
    SkbPriority: "skb_priority" "", 4 32 Never Hexadecimal, Always ro whole, Never Never Never,
        host(skb_priority, 4), [];
    PktMark: "pkt_mark" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        host(pkt_mark, 4), [0x0 0x1 33 0 "NXM_NX_PKT_MARK"];
    CtState: "ct_state" "", 4 32 Fully CtState, Always ro whole, NxmOxm NxmOxm NxmOxm,
        host(ct_state, 1), [0x0 0x1 105 0 "NXM_NX_CT_STATE"];
    CtZone: "ct_zone" "", 2 16 Never Hexadecimal, Always ro whole, NxmOxm Never Never,
        host(ct_zone, 2), [0x0 0x1 106 0 "NXM_NX_CT_ZONE"];
    CtMark: "ct_mark" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        host(ct_mark, 4), [0x0 0x1 107 0 "NXM_NX_CT_MARK"];
    CtLabel: "ct_label" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        bytes(ct_label, 16), [0x0 0x1 108 0 "NXM_NX_CT_LABEL"];
    CtNwProto: "ct_nw_proto" "", 1 8 Never Decimal, CtValid ro whole, NxmOxm Never Never,
        be(ct_nw_proto, 1), [0x0 0x1 119 0 "NXM_NX_CT_NW_PROTO"];
    CtNwSrc: "ct_nw_src" "", 4 32 Fully Ipv4, CtValid ro prefix, NxmOxm NxmOxm NxmOxm,
        be(ct_nw_src, 4), [0x0 0x1 120 0 "NXM_NX_CT_NW_SRC"];
    CtNwDst: "ct_nw_dst" "", 4 32 Fully Ipv4, CtValid ro prefix, NxmOxm NxmOxm NxmOxm,
        be(ct_nw_dst, 4), [0x0 0x1 121 0 "NXM_NX_CT_NW_DST"];
    CtIpv6Src: "ct_ipv6_src" "", 16 128 Fully Ipv6, CtValid ro prefix, NxmOxm NxmOxm NxmOxm,
        bytes(ct_ipv6_src, 16), [0x0 0x1 122 0 "NXM_NX_CT_IPV6_SRC"];
    CtIpv6Dst: "ct_ipv6_dst" "", 16 128 Fully Ipv6, CtValid ro prefix, NxmOxm NxmOxm NxmOxm,
        bytes(ct_ipv6_dst, 16), [0x0 0x1 123 0 "NXM_NX_CT_IPV6_DST"];
    CtTpSrc: "ct_tp_src" "", 2 16 Fully Decimal, CtValid ro whole, NxmOxm NxmOxm NxmOxm,
        be(ct_tp_src, 2), [0x0 0x1 124 0 "NXM_NX_CT_TP_SRC"];
    CtTpDst: "ct_tp_dst" "", 2 16 Fully Decimal, CtValid ro whole, NxmOxm NxmOxm NxmOxm,
        be(ct_tp_dst, 2), [0x0 0x1 125 0 "NXM_NX_CT_TP_DST"];
    Reg0: "reg0" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(0, 1), [0x0 0x1 0 0 "NXM_NX_REG0"];
    Reg1: "reg1" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(1, 1), [0x0 0x1 1 0 "NXM_NX_REG1"];
    Reg2: "reg2" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(2, 1), [0x0 0x1 2 0 "NXM_NX_REG2"];
    Reg3: "reg3" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(3, 1), [0x0 0x1 3 0 "NXM_NX_REG3"];
    Reg4: "reg4" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(4, 1), [0x0 0x1 4 0 "NXM_NX_REG4"];
    Reg5: "reg5" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(5, 1), [0x0 0x1 5 0 "NXM_NX_REG5"];
    Reg6: "reg6" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(6, 1), [0x0 0x1 6 0 "NXM_NX_REG6"];
    Reg7: "reg7" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(7, 1), [0x0 0x1 7 0 "NXM_NX_REG7"];
    Reg8: "reg8" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(8, 1), [0x0 0x1 8 0 "NXM_NX_REG8"];
    Reg9: "reg9" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(9, 1), [0x0 0x1 9 0 "NXM_NX_REG9"];
    Reg10: "reg10" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(10, 1), [0x0 0x1 10 0 "NXM_NX_REG10"];
    Reg11: "reg11" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(11, 1), [0x0 0x1 11 0 "NXM_NX_REG11"];
    Reg12: "reg12" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(12, 1), [0x0 0x1 12 0 "NXM_NX_REG12"];
    Reg13: "reg13" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(13, 1), [0x0 0x1 13 0 "NXM_NX_REG13"];
    Reg14: "reg14" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(14, 1), [0x0 0x1 14 0 "NXM_NX_REG14"];
    Reg15: "reg15" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(15, 1), [0x0 0x1 15 0 "NXM_NX_REG15"];
    Reg16: "reg16" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(16, 1), [0x2320 0xffff 17 0 "NXOXM_ET_REG16"];
    Reg17: "reg17" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(17, 1), [0x2320 0xffff 18 0 "NXOXM_ET_REG17"];
    Reg18: "reg18" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(18, 1), [0x2320 0xffff 19 0 "NXOXM_ET_REG18"];
    Reg19: "reg19" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(19, 1), [0x2320 0xffff 20 0 "NXOXM_ET_REG19"];
    Reg20: "reg20" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(20, 1), [0x2320 0xffff 21 0 "NXOXM_ET_REG20"];
    Reg21: "reg21" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(21, 1), [0x2320 0xffff 22 0 "NXOXM_ET_REG21"];
    Reg22: "reg22" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(22, 1), [0x2320 0xffff 23 0 "NXOXM_ET_REG22"];
    Reg23: "reg23" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(23, 1), [0x2320 0xffff 24 0 "NXOXM_ET_REG23"];
    Reg24: "reg24" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(24, 1), [0x2320 0xffff 25 0 "NXOXM_ET_REG24"];
    Reg25: "reg25" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(25, 1), [0x2320 0xffff 26 0 "NXOXM_ET_REG25"];
    Reg26: "reg26" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(26, 1), [0x2320 0xffff 27 0 "NXOXM_ET_REG26"];
    Reg27: "reg27" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(27, 1), [0x2320 0xffff 28 0 "NXOXM_ET_REG27"];
    Reg28: "reg28" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(28, 1), [0x2320 0xffff 29 0 "NXOXM_ET_REG28"];
    Reg29: "reg29" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(29, 1), [0x2320 0xffff 30 0 "NXOXM_ET_REG29"];
    Reg30: "reg30" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(30, 1), [0x2320 0xffff 31 0 "NXOXM_ET_REG30"];
    Reg31: "reg31" "", 4 32 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(31, 1), [0x2320 0xffff 32 0 "NXOXM_ET_REG31"];
    XReg0: "xreg0" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(0, 2), [0x0 0x8001 0 4 "OXM_OF_PKT_REG0"];
    XReg1: "xreg1" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(2, 2), [0x0 0x8001 1 4 "OXM_OF_PKT_REG1"];
    XReg2: "xreg2" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(4, 2), [0x0 0x8001 2 4 "OXM_OF_PKT_REG2"];
    XReg3: "xreg3" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(6, 2), [0x0 0x8001 3 4 "OXM_OF_PKT_REG3"];
    XReg4: "xreg4" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(8, 2), [0x0 0x8001 4 4 "OXM_OF_PKT_REG4"];
    XReg5: "xreg5" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(10, 2), [0x0 0x8001 5 4 "OXM_OF_PKT_REG5"];
    XReg6: "xreg6" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(12, 2), [0x0 0x8001 6 4 "OXM_OF_PKT_REG6"];
    XReg7: "xreg7" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(14, 2), [0x0 0x8001 7 4 "OXM_OF_PKT_REG7"];
    XReg8: "xreg8" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(16, 2), [0x0 0x8001 8 4 "OXM_OF_PKT_REG8"];
    XReg9: "xreg9" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(18, 2), [0x0 0x8001 9 4 "OXM_OF_PKT_REG9"];
    XReg10: "xreg10" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(20, 2), [0x0 0x8001 10 4 "OXM_OF_PKT_REG10"];
    XReg11: "xreg11" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(22, 2), [0x0 0x8001 11 4 "OXM_OF_PKT_REG11"];
    XReg12: "xreg12" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(24, 2), [0x0 0x8001 12 4 "OXM_OF_PKT_REG12"];
    XReg13: "xreg13" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(26, 2), [0x0 0x8001 13 4 "OXM_OF_PKT_REG13"];
    XReg14: "xreg14" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(28, 2), [0x0 0x8001 14 4 "OXM_OF_PKT_REG14"];
    XReg15: "xreg15" "", 8 64 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(30, 2), [0x0 0x8001 15 4 "OXM_OF_PKT_REG15"];
    XXReg0: "xxreg0" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(0, 4), [0x0 0x1 111 0 "NXM_NX_XXREG0"];
    XXReg1: "xxreg1" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(4, 4), [0x0 0x1 112 0 "NXM_NX_XXREG1"];
    XXReg2: "xxreg2" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(8, 4), [0x0 0x1 113 0 "NXM_NX_XXREG2"];
    XXReg3: "xxreg3" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(12, 4), [0x0 0x1 114 0 "NXM_NX_XXREG3"];
    XXReg4: "xxreg4" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(16, 4), [0x2320 0xffff 33 0 "NXOXM_ET_XXREG4"];
    XXReg5: "xxreg5" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(20, 4), [0x2320 0xffff 34 0 "NXOXM_ET_XXREG5"];
    XXReg6: "xxreg6" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(24, 4), [0x2320 0xffff 35 0 "NXOXM_ET_XXREG6"];
    XXReg7: "xxreg7" "", 16 128 Fully Hexadecimal, Always rw whole, NxmOxm NxmOxm NxmOxm,
        regs(28, 4), [0x2320 0xffff 36 0 "NXOXM_ET_XXREG7"];
    EthSrc: "eth_src" "dl_src", 6 48 Fully Ethernet, Ethernet rw whole, Any NxmOf11 NxmOf11,
        bytes(dl_src, 6), [0x0 0x0 2 0 "NXM_OF_ETH_SRC", 0x0 0x8000 4 3 "OXM_OF_ETH_SRC"];
    EthDst: "eth_dst" "dl_dst", 6 48 Fully Ethernet, Ethernet rw whole, Any NxmOf11 NxmOf11,
        bytes(dl_dst, 6), [0x0 0x0 1 0 "NXM_OF_ETH_DST", 0x0 0x8000 3 3 "OXM_OF_ETH_DST"];
    EthType: "eth_type" "dl_type", 2 16 Never Hexadecimal, Ethernet ro whole, Any Never Never,
        be(dl_type, 2), [0x0 0x0 3 0 "NXM_OF_ETH_TYPE", 0x0 0x8000 5 3 "OXM_OF_ETH_TYPE"];
    VlanTci: "vlan_tci" "", 2 16 Fully Hexadecimal, Ethernet rw whole, Any NxmOxm NxmOxm,
        vlan(Tci), [0x0 0x0 4 0 "NXM_OF_VLAN_TCI"];
    DlVlan: "dl_vlan" "", 2 12 Never Decimal, Ethernet rw whole, Any Never Never,
        vlan(Vid), [];
    VlanVid: "vlan_vid" "", 2 12 Fully Decimal, Ethernet rw whole, Any NxmOxm NxmOxm,
        vlan(VidCfi), [0x0 0x8000 6 3 "OXM_OF_VLAN_VID"];
    DlVlanPcp: "dl_vlan_pcp" "", 1 3 Never Decimal, Ethernet rw whole, Any Never Never,
        vlan(Pcp), [];
    VlanPcp: "vlan_pcp" "", 1 3 Never Decimal, VlanVid rw whole, Any Never Never,
        vlan(Pcp), [0x0 0x8000 7 3 "OXM_OF_VLAN_PCP"];
    MplsLabel: "mpls_label" "", 4 20 Never Decimal, Mpls rw whole, NxmOf11 Never Never,
        be_bits(mpls_lse, 4, 12, 0xfffff), [0x0 0x8000 34 3 "OXM_OF_MPLS_LABEL"];
    MplsTc: "mpls_tc" "", 1 3 Never Decimal, Mpls rw whole, NxmOf11 Never Never,
        be_bits(mpls_lse, 4, 9, 0x7), [0x0 0x8000 35 3 "OXM_OF_MPLS_TC"];
    MplsBos: "mpls_bos" "", 1 1 Never Decimal, Mpls ro whole, NxmOxm Never Never,
        be_bits(mpls_lse, 4, 8, 0x1), [0x0 0x8000 36 4 "OXM_OF_MPLS_BOS"];
    MplsTtl: "mpls_ttl" "", 1 8 Never Decimal, Mpls rw whole, NxmOxm Never Never,
        be_bits(mpls_lse, 4, 0, 0xff), [0x0 0x1 30 0 "NXM_NX_MPLS_TTL"];
    Ipv4Src: "ip_src" "nw_src", 4 32 Fully Ipv4, Ipv4 rw prefix, Any Any NxmOf11,
        be(nw_src, 4), [0x0 0x0 7 0 "NXM_OF_IP_SRC", 0x0 0x8000 11 3 "OXM_OF_IPV4_SRC"];
    Ipv4Dst: "ip_dst" "nw_dst", 4 32 Fully Ipv4, Ipv4 rw prefix, Any Any NxmOf11,
        be(nw_dst, 4), [0x0 0x0 8 0 "NXM_OF_IP_DST", 0x0 0x8000 12 3 "OXM_OF_IPV4_DST"];
    Ipv6Src: "ipv6_src" "", 16 128 Fully Ipv6, Ipv6 rw prefix, NxmOxm NxmOxm NxmOxm,
        bytes(ipv6_src, 16), [0x0 0x1 19 0 "NXM_NX_IPV6_SRC", 0x0 0x8000 26 3 "OXM_OF_IPV6_SRC"];
    Ipv6Dst: "ipv6_dst" "", 16 128 Fully Ipv6, Ipv6 rw prefix, NxmOxm NxmOxm NxmOxm,
        bytes(ipv6_dst, 16), [0x0 0x1 20 0 "NXM_NX_IPV6_DST", 0x0 0x8000 27 3 "OXM_OF_IPV6_DST"];
    Ipv6Label: "ipv6_label" "", 4 20 Fully Hexadecimal, Ipv6 rw whole, NxmOxm NxmOxm NxmOxm,
        be_bits(ipv6_label, 4, 0, 0xfffff), [0x0 0x1 27 0 "NXM_NX_IPV6_LABEL", 0x0 0x8000 28 3 "OXM_OF_IPV6_FLABEL"];
    IpProto: "nw_proto" "ip_proto", 1 8 Never Decimal, IpAny ro whole, Any Never Never,
        be(nw_proto, 1), [0x0 0x0 6 0 "NXM_OF_IP_PROTO", 0x0 0x8000 10 3 "OXM_OF_IP_PROTO"];
    IpDscp: "nw_tos" "", 1 8 Never Decimal, IpAny rw whole, Any Never Never,
        be_bits(nw_tos, 1, 0, 0xfc), [0x0 0x0 5 0 "NXM_OF_IP_TOS"];
    IpDscpShifted: "ip_dscp" "", 1 6 Never Decimal, IpAny rw whole, Any Never Never,
        be_bits(nw_tos, 1, 2, 0x3f), [0x0 0x8000 8 3 "OXM_OF_IP_DSCP"];
    IpEcn: "nw_ecn" "ip_ecn", 1 2 Never Decimal, IpAny rw whole, NxmOf11 Never Never,
        be_bits(nw_tos, 1, 0, 0x3), [0x0 0x1 28 0 "NXM_NX_IP_ECN", 0x0 0x8000 9 3 "OXM_OF_IP_ECN"];
    IpTtl: "nw_ttl" "", 1 8 Never Decimal, IpAny rw whole, NxmOxm Never Never,
        be(nw_ttl, 1), [0x0 0x1 29 0 "NXM_NX_IP_TTL"];
    IpFrag: "ip_frag" "nw_frag", 1 2 Fully Frag, IpAny ro whole, NxmOxm NxmOxm NxmOxm,
        be_bits(nw_frag, 1, 0, 0x3), [0x0 0x1 26 0 "NXM_NX_IP_FRAG"];
    ArpOp: "arp_op" "", 2 16 Never Decimal, Arp rw whole, Any Never Never,
        be(nw_proto, 1), [0x0 0x0 15 0 "NXM_OF_ARP_OP", 0x0 0x8000 21 3 "OXM_OF_ARP_OP"];
    ArpSpa: "arp_spa" "", 4 32 Fully Ipv4, Arp rw whole, Any Any NxmOf11,
        be(nw_src, 4), [0x0 0x0 16 0 "NXM_OF_ARP_SPA", 0x0 0x8000 22 3 "OXM_OF_ARP_SPA"];
    ArpTpa: "arp_tpa" "", 4 32 Fully Ipv4, Arp rw whole, Any Any NxmOf11,
        be(nw_dst, 4), [0x0 0x0 17 0 "NXM_OF_ARP_TPA", 0x0 0x8000 23 3 "OXM_OF_ARP_TPA"];
    ArpSha: "arp_sha" "", 6 48 Fully Ethernet, Arp rw whole, NxmOxm NxmOxm NxmOxm,
        bytes(arp_sha, 6), [0x0 0x1 17 0 "NXM_NX_ARP_SHA", 0x0 0x8000 24 3 "OXM_OF_ARP_SHA"];
    ArpTha: "arp_tha" "", 6 48 Fully Ethernet, Arp rw whole, NxmOxm NxmOxm NxmOxm,
        bytes(arp_tha, 6), [0x0 0x1 18 0 "NXM_NX_ARP_THA", 0x0 0x8000 25 3 "OXM_OF_ARP_THA"];
    TcpSrc: "tcp_src" "tp_src", 2 16 Fully Decimal, Tcp rw whole, Any NxmOxm NxmOxm,
        be(tp_src, 2), [0x0 0x0 9 0 "NXM_OF_TCP_SRC", 0x0 0x8000 13 3 "OXM_OF_TCP_SRC"];
    TcpDst: "tcp_dst" "tp_dst", 2 16 Fully Decimal, Tcp rw whole, Any NxmOxm NxmOxm,
        be(tp_dst, 2), [0x0 0x0 10 0 "NXM_OF_TCP_DST", 0x0 0x8000 14 3 "OXM_OF_TCP_DST"];
    TcpFlags: "tcp_flags" "", 2 12 Fully TcpFlags, Tcp ro whole, NxmOxm NxmOxm NxmOxm,
        be_bits(tcp_flags, 2, 0, 0xffff), [0x0 0x1 34 0 "NXM_NX_TCP_FLAGS", 0x4f4e4600 0xffff 42 4 "ONFOXM_ET_TCP_FLAGS", 0x0 0x8000 42 6 "OXM_OF_TCP_FLAGS"];
    UdpSrc: "udp_src" "", 2 16 Fully Decimal, Udp rw whole, Any NxmOxm NxmOxm,
        be(tp_src, 2), [0x0 0x0 11 0 "NXM_OF_UDP_SRC", 0x0 0x8000 15 3 "OXM_OF_UDP_SRC"];
    UdpDst: "udp_dst" "", 2 16 Fully Decimal, Udp rw whole, Any NxmOxm NxmOxm,
        be(tp_dst, 2), [0x0 0x0 12 0 "NXM_OF_UDP_DST", 0x0 0x8000 16 3 "OXM_OF_UDP_DST"];
    SctpSrc: "sctp_src" "", 2 16 Fully Decimal, Sctp rw whole, NxmOf11 NxmOxm NxmOxm,
        be(tp_src, 2), [0x0 0x8000 17 3 "OXM_OF_SCTP_SRC"];
    SctpDst: "sctp_dst" "", 2 16 Fully Decimal, Sctp rw whole, NxmOf11 NxmOxm NxmOxm,
        be(tp_dst, 2), [0x0 0x8000 18 3 "OXM_OF_SCTP_DST"];
    Icmpv4Type: "icmp_type" "", 1 8 Never Decimal, Icmpv4 rw whole, Any Never Never,
        be_bits(tp_src, 2, 0, 0xffff), [0x0 0x0 13 0 "NXM_OF_ICMP_TYPE", 0x0 0x8000 19 3 "OXM_OF_ICMPV4_TYPE"];
    Icmpv4Code: "icmp_code" "", 1 8 Never Decimal, Icmpv4 rw whole, Any Never Never,
        be_bits(tp_dst, 2, 0, 0xffff), [0x0 0x0 14 0 "NXM_OF_ICMP_CODE", 0x0 0x8000 20 3 "OXM_OF_ICMPV4_CODE"];
    Icmpv6Type: "icmpv6_type" "", 1 8 Never Decimal, Icmpv6 rw whole, NxmOxm Never Never,
        be_bits(tp_src, 2, 0, 0xffff), [0x0 0x1 21 0 "NXM_NX_ICMPV6_TYPE", 0x0 0x8000 29 3 "OXM_OF_ICMPV6_TYPE"];
    Icmpv6Code: "icmpv6_code" "", 1 8 Never Decimal, Icmpv6 rw whole, NxmOxm Never Never,
        be_bits(tp_dst, 2, 0, 0xffff), [0x0 0x1 22 0 "NXM_NX_ICMPV6_CODE", 0x0 0x8000 30 3 "OXM_OF_ICMPV6_CODE"];
    NdTarget: "nd_target" "", 16 128 Fully Ipv6, Nd rw whole, NxmOxm NxmOxm NxmOxm,
        bytes(nd_target, 16), [0x0 0x1 23 0 "NXM_NX_ND_TARGET", 0x0 0x8000 31 3 "OXM_OF_IPV6_ND_TARGET"];
    NdSll: "nd_sll" "", 6 48 Fully Ethernet, NdSolicit rw whole, NxmOxm NxmOxm NxmOxm,
        bytes(arp_sha, 6), [0x0 0x1 24 0 "NXM_NX_ND_SLL", 0x0 0x8000 32 3 "OXM_OF_IPV6_ND_SLL"];
    NdTll: "nd_tll" "", 6 48 Fully Ethernet, NdAdvert rw whole, NxmOxm NxmOxm NxmOxm,
        bytes(arp_tha, 6), [0x0 0x1 25 0 "NXM_NX_ND_TLL", 0x0 0x8000 33 3 "OXM_OF_IPV6_ND_TLL"];
    NdReserved: "nd_reserved" "", 4 32 Never Decimal, Nd rw whole, NxmOxm Never Never,
        be(igmp_group_ip4, 4), [0x0 0x1000 1 0 "ERICOXM_OF_ICMPV6_ND_RESERVED"];
    NdOptionsType: "nd_options_type" "", 1 8 Never Decimal, Nd rw whole, NxmOxm Never Never,
        be_bits(tcp_flags, 2, 0, 0xffff), [0x0 0x1000 2 0 "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE"];
    NshFlags: "nsh_flags" "", 1 8 Fully Decimal, Nsh rw whole, NxmOxm NxmOxm NxmOxm,
        be(nsh.flags, 1), [0x5ad650 0xffff 1 0 "NXOXM_NSH_FLAGS"];
    NshMdtype: "nsh_mdtype" "", 1 8 Never Decimal, Nsh ro whole, NxmOxm Never Never,
        be(nsh.mdtype, 1), [0x5ad650 0xffff 2 0 "NXOXM_NSH_MDTYPE"];
    NshNp: "nsh_np" "", 1 8 Never Decimal, Nsh ro whole, NxmOxm Never Never,
        be(nsh.np, 1), [0x5ad650 0xffff 3 0 "NXOXM_NSH_NP"];
    NshSpi: "nsh_spi" "nsp", 4 24 Never Hexadecimal, Nsh rw whole, NxmOxm Never Never,
        be_bits(nsh.path_hdr, 4, 8, 0xffffff), [0x5ad650 0xffff 4 0 "NXOXM_NSH_SPI"];
    NshSi: "nsh_si" "nsi", 1 8 Never Decimal, Nsh rw whole, NxmOxm Never Never,
        be_bits(nsh.path_hdr, 4, 0, 0xff), [0x5ad650 0xffff 5 0 "NXOXM_NSH_SI"];
    NshC1: "nsh_c1" "nshc1", 4 32 Fully Hexadecimal, Nsh rw whole, NxmOxm NxmOxm NxmOxm,
        be(nsh.context, 4), [0x5ad650 0xffff 6 0 "NXOXM_NSH_C1"];
    NshC2: "nsh_c2" "nshc2", 4 32 Fully Hexadecimal, Nsh rw whole, NxmOxm NxmOxm NxmOxm,
        be(nsh.context + 4, 4), [0x5ad650 0xffff 7 0 "NXOXM_NSH_C2"];
    NshC3: "nsh_c3" "nshc3", 4 32 Fully Hexadecimal, Nsh rw whole, NxmOxm NxmOxm NxmOxm,
        be(nsh.context + 8, 4), [0x5ad650 0xffff 8 0 "NXOXM_NSH_C3"];
    NshC4: "nsh_c4" "nshc4", 4 32 Fully Hexadecimal, Nsh rw whole, NxmOxm NxmOxm NxmOxm,
        be(nsh.context + 12, 4), [0x5ad650 0xffff 9 0 "NXOXM_NSH_C4"];
    NshTtl: "nsh_ttl" "", 1 8 Never Decimal, Nsh rw whole, NxmOxm Never Never,
        be(nsh.ttl, 1), [0x5ad650 0xffff 10 0 "NXOXM_NSH_TTL"];
}

impl Field {
    /// The field's row.
    pub fn info(self) -> &'static FieldInfo {
        &ROWS[self as usize]
    }

    /// The field's main name.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Bytes of a value.
    pub fn n_bytes(self) -> usize {
        usize::from(self.info().n_bytes)
    }

    /// Bits of a value.
    pub fn n_bits(self) -> u16 {
        self.info().n_bits
    }

    /// The field of that name or alternate name (`nw_src`, `ip_src`).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| {
            let info = field.info();
            info.name == name || (!info.extra_name.is_empty() && info.extra_name == name)
        })
    }

    /// The field with that NXM or OXM name (`NXM_OF_IN_PORT`, `OXM_OF_IN_PORT`).
    pub fn from_oxm_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.info().oxms.iter().any(|oxm| oxm.name == name))
    }

    /// The field of an NXM or OXM id; `experimenter` is 0 but for class 0xffff.
    pub fn from_oxm(class: u16, number: u8, experimenter: u32) -> Option<Self> {
        type Ids = HashMap<(u16, u8, u32), Field>;
        static IDS: LazyLock<Ids> = LazyLock::new(|| {
            let ids = |field: &'static Field| {
                field.info().oxms.iter().map(|oxm| ((oxm.class, oxm.field, oxm.experimenter), *field))
            };
            // Where fields share an id, the first has it.
            Field::ALL.iter().rev().flat_map(ids).collect()
        });
        IDS.get(&(class, number, experimenter)).copied()
    }

    /// The id to use in a message of the OpenFlow wire version `version`; 0 prefers NXM.
    pub fn oxm(self, version: u8) -> Option<&'static Oxm> {
        let oxms = self.info().oxms;
        oxms.iter().rev().find(|oxm| version >= oxm.since).or(oxms.first())
    }

    /// The field's value in `key`.
    pub fn get(self, key: &Key) -> Value {
        self.info().place.get(key, self.n_bytes())
    }

    /// Gives the field a value. `value` is as long as the field; shorter ones are extended with zeros.
    pub fn set(self, key: &mut Key, value: &Value) {
        self.info().place.set(key, value);
    }

    /// The value as an integer, if the field lies in a word of its length.
    fn get_word(self, key: &Key) -> Option<u64> {
        self.info().place.get_word(key, self.n_bytes())
    }

    /// Sets those of `bits` from `value` if the field lies in a word of its length; whether it does.
    fn put_word(self, key: &mut Key, value: u64, bits: u64) -> bool {
        self.info().place.put_word(key, self.n_bytes(), value, bits)
    }

    /// Sets the bits of the field that are 1 in `mask` from `value`.
    pub fn set_masked(self, key: &mut Key, value: &Value, mask: &Value) {
        if self.put_word(key, value.u64(), mask.u64()) {
            return;
        }
        let merged = self.get(key).merge(value, mask);
        self.set(key, &merged);
    }

    /// Makes the bits of `bits` significant.
    pub fn mask_bits(self, mask: &mut Mask, bits: &Value) {
        if self.put_word(&mut mask.0, bits.u64(), bits.u64()) {
            return;
        }
        let bits = if self == Self::DlVlan { bits.and(&Value::from_u64(0xfff, 2)) } else { bits.clone() };
        let all = self.get(&mask.0).or(&bits);
        self.set(&mut mask.0, &all);
    }

    /// Makes the whole field significant.
    pub fn mask_exact(self, mask: &mut Mask) {
        self.mask_bits(mask, &Value::ones(self.n_bytes()));
    }

    /// Whether the field is not zero in `key`, or for VLAN fields whether a tag is there.
    pub fn is_set(self, key: &Key) -> bool {
        !self.get(key).is_zero()
    }

    /// Whether the field is part of a tunnel's outer header.
    pub fn is_tunnel(self) -> bool {
        (Self::TunId..=Self::TunMetadata63).contains(&self)
    }

    /// Whether the field is a mapped tunnel option.
    pub fn is_tun_metadata(self) -> bool {
        matches!(self.info().place, Place::TunMetadata(_))
    }

    /// Whether the field is kept for a packet outside its bytes (OpenFlow calls these pipeline fields).
    pub fn is_pipeline(self) -> bool {
        self <= Self::XXReg7
            && !matches!(self, Self::DpHash | Self::RecircId | Self::ConjId | Self::SkbPriority)
    }

    /// The register fields' range.
    pub fn is_register(self) -> bool {
        matches!(self.info().place, Place::Regs { .. })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The VLAN part of a key as a match sees it: `vlan_tci` with the tag-present bit.
pub(crate) fn vlan_present(tci: u16) -> bool {
    tci & VLAN_CFI != 0
}
