//! One `OVS_KEY_ATTR_*` attribute, typed, and its netlink codec.
//!
//! The structures are those of `linux/openvswitch.h`: fields from packets are big-endian, the rest host-endian.

use super::tunnel::{self, TunnelAttr};
use crate::attr::{Attr, AttrError, Attrs, MAX_DEPTH, Writer};
use crate::id::DpPort;
use crate::key::{EthAddr, Ipv6};
use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Attribute numbers, `enum ovs_key_attr`.
pub mod code {
    pub const ENCAP: u16 = 1;
    pub const PRIORITY: u16 = 2;
    pub const IN_PORT: u16 = 3;
    pub const ETHERNET: u16 = 4;
    pub const VLAN: u16 = 5;
    pub const ETHERTYPE: u16 = 6;
    pub const IPV4: u16 = 7;
    pub const IPV6: u16 = 8;
    pub const TCP: u16 = 9;
    pub const UDP: u16 = 10;
    pub const ICMP: u16 = 11;
    pub const ICMPV6: u16 = 12;
    pub const ARP: u16 = 13;
    pub const ND: u16 = 14;
    pub const SKB_MARK: u16 = 15;
    pub const TUNNEL: u16 = 16;
    pub const SCTP: u16 = 17;
    pub const TCP_FLAGS: u16 = 18;
    pub const DP_HASH: u16 = 19;
    pub const RECIRC_ID: u16 = 20;
    pub const MPLS: u16 = 21;
    pub const CT_STATE: u16 = 22;
    pub const CT_ZONE: u16 = 23;
    pub const CT_MARK: u16 = 24;
    pub const CT_LABELS: u16 = 25;
    pub const CT_ORIG_TUPLE_IPV4: u16 = 26;
    pub const CT_ORIG_TUPLE_IPV6: u16 = 27;
    pub const NSH: u16 = 28;
    /// Userspace only.
    pub const PACKET_TYPE: u16 = 29;
    /// Userspace only.
    pub const ND_EXTENSIONS: u16 = 30;
    /// Kernel-internal.
    pub const TUNNEL_INFO: u16 = 31;
    /// The last attribute that OVS 3.7 knows.
    pub const MAX: u16 = TUNNEL_INFO;
}

/// Attribute numbers within `OVS_KEY_ATTR_NSH`.
pub mod nsh_code {
    pub const BASE: u16 = 1;
    pub const MD1: u16 = 2;
    pub const MD2: u16 = 3;
}

macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $(pub $field: $ty),* }
    )* };
}

structs! {
    /// `struct ovs_key_ethernet`.
    EthernetKey { src: EthAddr, dst: EthAddr }
    /// `struct ovs_key_ipv4`; `frag` is one of `frag_type`.
    Ipv4Key { src: U32, dst: U32, proto: u8, tos: u8, ttl: u8, frag: u8 }
    /// `struct ovs_key_ipv6`.
    Ipv6Key { src: Ipv6, dst: Ipv6, label: U32, proto: u8, tclass: u8, hlimit: u8, frag: u8 }
    /// `struct ovs_key_tcp`, and of UDP and SCTP.
    PortsKey { src: U16, dst: U16 }
    /// `struct ovs_key_icmp` and `ovs_key_icmpv6`. The protocol's type is `kind`.
    IcmpKey { kind: u8, code: u8 }
    /// `struct ovs_key_arp`.
    ArpKey { sip: U32, tip: U32, op: U16, sha: EthAddr, tha: EthAddr, pad: [u8; 2] }
    /// `struct ovs_key_nd`.
    NdKey { target: Ipv6, sll: EthAddr, tll: EthAddr }
    /// `struct ovs_key_nd_extensions`.
    NdExtKey { reserved: U32, options_type: u8, pad: [u8; 3] }
    /// `struct ovs_key_ct_tuple_ipv4`.
    CtTuple4Key { src: U32, dst: U32, src_port: U16, dst_port: U16, proto: u8, pad: [u8; 3] }
    /// `struct ovs_key_ct_tuple_ipv6`.
    CtTuple6Key { src: Ipv6, dst: Ipv6, src_port: U16, dst_port: U16, proto: u8, pad: [u8; 3] }
    /// `struct ovs_nsh_key_base`.
    NshBase { flags: u8, ttl: u8, mdtype: u8, np: u8, path_hdr: U32 }
}

/// Values of `frag` in [`Ipv4Key`] and [`Ipv6Key`]: `OVS_FRAG_TYPE_*`.
pub mod frag_type {
    pub const NONE: u8 = 0;
    pub const FIRST: u8 = 1;
    pub const LATER: u8 = 2;
}

/// Bits of `OVS_KEY_ATTR_CT_STATE`: `OVS_CS_F_*`.
pub mod ct_state {
    pub const NEW: u32 = 0x01;
    pub const ESTABLISHED: u32 = 0x02;
    pub const RELATED: u32 = 0x04;
    pub const REPLY_DIR: u32 = 0x08;
    pub const INVALID: u32 = 0x10;
    pub const TRACKED: u32 = 0x20;
    pub const SRC_NAT: u32 = 0x40;
    pub const DST_NAT: u32 = 0x80;
}

/// The attributes of `OVS_KEY_ATTR_NSH`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NshKey {
    pub base: Option<NshBase>,
    /// Context of MD type 1.
    pub md1: Option<[U32; 4]>,
    /// TLVs of MD type 2 (only in `push_nsh`).
    pub md2: Option<Vec<u8>>,
}

/// One attribute of a key, or of a mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAttr {
    Encap(Vec<KeyAttr>),
    Priority(u32),
    InPort(DpPort),
    Ethernet(EthernetKey),
    /// The TCI.
    Vlan(U16),
    Ethertype(U16),
    Ipv4(Ipv4Key),
    Ipv6(Ipv6Key),
    Tcp(PortsKey),
    Udp(PortsKey),
    Icmp(IcmpKey),
    Icmpv6(IcmpKey),
    Arp(ArpKey),
    Nd(NdKey),
    SkbMark(u32),
    Tunnel(Vec<TunnelAttr>),
    Sctp(PortsKey),
    TcpFlags(U16),
    DpHash(u32),
    RecircId(u32),
    /// Label stack entries, outermost first.
    Mpls(Vec<U32>),
    CtState(u32),
    CtZone(u16),
    CtMark(u32),
    /// In the kernel's byte order: as 128-bit little-endian on little-endian machines.
    CtLabels([u8; 16]),
    CtTuple4(CtTuple4Key),
    CtTuple6(CtTuple6Key),
    Nsh(NshKey),
    PacketType(U32),
    NdExt(NdExtKey),
    Unknown(u16, Vec<u8>),
}

impl KeyAttr {
    /// The attribute's number.
    pub fn code(&self) -> u16 {
        match self {
            Self::Encap(_) => code::ENCAP,
            Self::Priority(_) => code::PRIORITY,
            Self::InPort(_) => code::IN_PORT,
            Self::Ethernet(_) => code::ETHERNET,
            Self::Vlan(_) => code::VLAN,
            Self::Ethertype(_) => code::ETHERTYPE,
            Self::Ipv4(_) => code::IPV4,
            Self::Ipv6(_) => code::IPV6,
            Self::Tcp(_) => code::TCP,
            Self::Udp(_) => code::UDP,
            Self::Icmp(_) => code::ICMP,
            Self::Icmpv6(_) => code::ICMPV6,
            Self::Arp(_) => code::ARP,
            Self::Nd(_) => code::ND,
            Self::SkbMark(_) => code::SKB_MARK,
            Self::Tunnel(_) => code::TUNNEL,
            Self::Sctp(_) => code::SCTP,
            Self::TcpFlags(_) => code::TCP_FLAGS,
            Self::DpHash(_) => code::DP_HASH,
            Self::RecircId(_) => code::RECIRC_ID,
            Self::Mpls(_) => code::MPLS,
            Self::CtState(_) => code::CT_STATE,
            Self::CtZone(_) => code::CT_ZONE,
            Self::CtMark(_) => code::CT_MARK,
            Self::CtLabels(_) => code::CT_LABELS,
            Self::CtTuple4(_) => code::CT_ORIG_TUPLE_IPV4,
            Self::CtTuple6(_) => code::CT_ORIG_TUPLE_IPV6,
            Self::Nsh(_) => code::NSH,
            Self::PacketType(_) => code::PACKET_TYPE,
            Self::NdExt(_) => code::ND_EXTENSIONS,
            Self::Unknown(code, _) => *code,
        }
    }

    /// Decodes one attribute.
    pub fn decode(attr: &Attr<'_>) -> Result<Self, AttrError> {
        Self::decode_at(attr, 0)
    }

    /// Decodes all attributes of `attrs`.
    pub fn decode_all(attrs: Attrs<'_>) -> Result<Vec<Self>, AttrError> {
        attrs.map(|attr| Self::decode(&attr?)).collect()
    }

    fn decode_at(attr: &Attr<'_>, depth: usize) -> Result<Self, AttrError> {
        if depth > MAX_DEPTH {
            return Err(AttrError::TooDeep { at: attr.at });
        }
        Ok(match attr.kind {
            code::ENCAP => Self::Encap(
                attr.nested().map(|inner| Self::decode_at(&inner?, depth + 1)).collect::<Result<_, _>>()?,
            ),
            code::PRIORITY => Self::Priority(attr.u32()?),
            code::IN_PORT => Self::InPort(DpPort(attr.u32()?)),
            code::ETHERNET => Self::Ethernet(attr.read()?),
            code::VLAN => Self::Vlan(attr.be16()?),
            code::ETHERTYPE => Self::Ethertype(attr.be16()?),
            code::IPV4 => Self::Ipv4(attr.read()?),
            code::IPV6 => Self::Ipv6(attr.read()?),
            code::TCP => Self::Tcp(attr.read()?),
            code::UDP => Self::Udp(attr.read()?),
            code::ICMP => Self::Icmp(attr.read()?),
            code::ICMPV6 => Self::Icmpv6(attr.read()?),
            code::ARP => Self::Arp(attr.read()?),
            code::ND => Self::Nd(attr.read()?),
            code::SKB_MARK => Self::SkbMark(attr.u32()?),
            code::TUNNEL => Self::Tunnel(TunnelAttr::decode_all(attr.nested())?),
            code::SCTP => Self::Sctp(attr.read()?),
            code::TCP_FLAGS => Self::TcpFlags(attr.be16()?),
            code::DP_HASH => Self::DpHash(attr.u32()?),
            code::RECIRC_ID => Self::RecircId(attr.u32()?),
            code::MPLS => Self::Mpls(labels(attr)?),
            code::CT_STATE => Self::CtState(attr.u32()?),
            code::CT_ZONE => Self::CtZone(attr.u16()?),
            code::CT_MARK => Self::CtMark(attr.u32()?),
            code::CT_LABELS => Self::CtLabels(attr.array()?),
            code::CT_ORIG_TUPLE_IPV4 => Self::CtTuple4(attr.read()?),
            code::CT_ORIG_TUPLE_IPV6 => Self::CtTuple6(attr.read()?),
            code::NSH => Self::Nsh(NshKey::decode(attr.nested())?),
            code::PACKET_TYPE => Self::PacketType(attr.be32()?),
            code::ND_EXTENSIONS => Self::NdExt(attr.read()?),
            unknown => Self::Unknown(unknown, attr.data.to_vec()),
        })
    }

    /// Appends the attribute.
    pub fn encode(&self, writer: &mut Writer) {
        let code = self.code();
        match self {
            Self::Encap(inner) => writer.nest(code, |nest| inner.iter().for_each(|attr| attr.encode(nest))),
            Self::Tunnel(inner) => writer.nest(code, |nest| tunnel::encode_all(inner, nest)),
            Self::Nsh(nsh) => writer.nest(code, |nest| nsh.encode(nest)),
            _ => writer.put(code, self.flat()),
        }
    }

    /// The payload; nests included.
    pub fn payload(&self) -> Vec<u8> {
        match self {
            Self::Encap(_) | Self::Tunnel(_) | Self::Nsh(_) => {
                let mut writer = Writer::new();
                self.encode(&mut writer);
                writer.into_bytes().split_off(crate::attr::HEADER)
            }
            _ => self.flat().to_vec(),
        }
    }

    /// The payload where it is not attributes; empty where it is.
    fn flat(&self) -> &[u8] {
        match self {
            Self::Encap(_) | Self::Tunnel(_) | Self::Nsh(_) => &[],
            Self::Priority(value)
            | Self::InPort(DpPort(value))
            | Self::SkbMark(value)
            | Self::DpHash(value)
            | Self::RecircId(value)
            | Self::CtState(value)
            | Self::CtMark(value) => value.as_bytes(),
            Self::CtZone(value) => value.as_bytes(),
            Self::Vlan(value) | Self::Ethertype(value) | Self::TcpFlags(value) => value.as_bytes(),
            Self::PacketType(value) => value.as_bytes(),
            Self::Ethernet(value) => value.as_bytes(),
            Self::Ipv4(value) => value.as_bytes(),
            Self::Ipv6(value) => value.as_bytes(),
            Self::Tcp(value) | Self::Udp(value) | Self::Sctp(value) => value.as_bytes(),
            Self::Icmp(value) | Self::Icmpv6(value) => value.as_bytes(),
            Self::Arp(value) => value.as_bytes(),
            Self::Nd(value) => value.as_bytes(),
            Self::Mpls(value) => value.as_bytes(),
            Self::CtLabels(value) => value,
            Self::CtTuple4(value) => value.as_bytes(),
            Self::CtTuple6(value) => value.as_bytes(),
            Self::NdExt(value) => value.as_bytes(),
            Self::Unknown(_, value) => value,
        }
    }
}

fn labels(attr: &Attr<'_>) -> Result<Vec<U32>, AttrError> {
    let (labels, rest) = attr.data.as_chunks::<4>();
    if labels.is_empty() || !rest.is_empty() {
        return Err(attr.wrong_size(4));
    }
    Ok(labels.iter().map(|&label| U32::from_bytes(label)).collect())
}

impl NshKey {
    /// Decodes the attributes within `OVS_KEY_ATTR_NSH`.
    pub fn decode(attrs: Attrs<'_>) -> Result<Self, AttrError> {
        let mut nsh = Self::default();
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                nsh_code::BASE => nsh.base = Some(attr.read()?),
                nsh_code::MD1 => nsh.md1 = Some(attr.read()?),
                nsh_code::MD2 => nsh.md2 = Some(attr.data.to_vec()),
                _ => return Err(attr.invalid("unknown NSH attribute")),
            }
        }
        Ok(nsh)
    }

    /// Appends the attributes.
    pub fn encode(&self, writer: &mut Writer) {
        if let Some(base) = &self.base {
            writer.put_struct(nsh_code::BASE, base);
        }
        if let Some(md1) = &self.md1 {
            writer.put_struct(nsh_code::MD1, md1);
        }
        if let Some(md2) = &self.md2 {
            writer.put(nsh_code::MD2, md2);
        }
    }
}
