//! The attributes within `OVS_KEY_ATTR_TUNNEL`.

use crate::attr::{Attr, AttrError, Attrs, Writer};
use crate::key::Ipv6;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Attribute numbers, `enum ovs_tunnel_key_attr`.
pub mod code {
    pub const ID: u16 = 0;
    pub const IPV4_SRC: u16 = 1;
    pub const IPV4_DST: u16 = 2;
    pub const TOS: u16 = 3;
    pub const TTL: u16 = 4;
    pub const DONT_FRAGMENT: u16 = 5;
    pub const CSUM: u16 = 6;
    pub const OAM: u16 = 7;
    pub const GENEVE_OPTS: u16 = 8;
    pub const TP_SRC: u16 = 9;
    pub const TP_DST: u16 = 10;
    pub const VXLAN_OPTS: u16 = 11;
    pub const IPV6_SRC: u16 = 12;
    pub const IPV6_DST: u16 = 13;
    pub const PAD: u16 = 14;
    pub const ERSPAN_OPTS: u16 = 15;
    pub const GTPU_OPTS: u16 = 16;
    pub const MAX: u16 = GTPU_OPTS;
    /// Within [`VXLAN_OPTS`].
    pub const VXLAN_EXT_GBP: u16 = 1;
}

/// `struct erspan_metadata`: `version` is host-endian, `data` is a big-endian index (version 1), or timestamp,
/// security group tag and two bytes of hardware id and direction (version 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ErspanOpts {
    pub version: u32,
    pub data: [u8; 8],
}

/// One attribute of a tunnel key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelAttr {
    Id(U64),
    Ipv4Src(U32),
    Ipv4Dst(U32),
    Tos(u8),
    Ttl(u8),
    DontFragment,
    Csum,
    Oam,
    /// Options as on the wire.
    Geneve(Vec<u8>),
    TpSrc(U16),
    TpDst(U16),
    /// Group-based policy: flags in bits 16 to 23, id in the low 16 bits.
    VxlanGbp(u32),
    Ipv6Src(Ipv6),
    Ipv6Dst(Ipv6),
    Pad(Vec<u8>),
    Erspan(ErspanOpts),
    /// Flags and message type.
    Gtpu([u8; 2]),
    Unknown(u16, Vec<u8>),
}

impl TunnelAttr {
    /// The attribute's number.
    pub fn code(&self) -> u16 {
        match self {
            Self::Id(_) => code::ID,
            Self::Ipv4Src(_) => code::IPV4_SRC,
            Self::Ipv4Dst(_) => code::IPV4_DST,
            Self::Tos(_) => code::TOS,
            Self::Ttl(_) => code::TTL,
            Self::DontFragment => code::DONT_FRAGMENT,
            Self::Csum => code::CSUM,
            Self::Oam => code::OAM,
            Self::Geneve(_) => code::GENEVE_OPTS,
            Self::TpSrc(_) => code::TP_SRC,
            Self::TpDst(_) => code::TP_DST,
            Self::VxlanGbp(_) => code::VXLAN_OPTS,
            Self::Ipv6Src(_) => code::IPV6_SRC,
            Self::Ipv6Dst(_) => code::IPV6_DST,
            Self::Pad(_) => code::PAD,
            Self::Erspan(_) => code::ERSPAN_OPTS,
            Self::Gtpu(_) => code::GTPU_OPTS,
            Self::Unknown(code, _) => *code,
        }
    }

    pub fn decode(attr: &Attr<'_>) -> Result<Self, AttrError> {
        Ok(match attr.kind {
            code::ID => Self::Id(attr.be64()?),
            code::IPV4_SRC => Self::Ipv4Src(attr.be32()?),
            code::IPV4_DST => Self::Ipv4Dst(attr.be32()?),
            code::TOS => Self::Tos(attr.u8()?),
            code::TTL => Self::Ttl(attr.u8()?),
            code::DONT_FRAGMENT => attr.flag().map(|()| Self::DontFragment)?,
            code::CSUM => attr.flag().map(|()| Self::Csum)?,
            code::OAM => attr.flag().map(|()| Self::Oam)?,
            code::GENEVE_OPTS => Self::Geneve(attr.data.to_vec()),
            code::TP_SRC => Self::TpSrc(attr.be16()?),
            code::TP_DST => Self::TpDst(attr.be16()?),
            code::VXLAN_OPTS => vxlan(attr)?,
            code::IPV6_SRC => Self::Ipv6Src(attr.array()?),
            code::IPV6_DST => Self::Ipv6Dst(attr.array()?),
            code::PAD => Self::Pad(attr.data.to_vec()),
            code::ERSPAN_OPTS => Self::Erspan(attr.read()?),
            code::GTPU_OPTS => Self::Gtpu(attr.array()?),
            unknown => Self::Unknown(unknown, attr.data.to_vec()),
        })
    }

    pub fn decode_all(attrs: Attrs<'_>) -> Result<Vec<Self>, AttrError> {
        attrs.map(|attr| Self::decode(&attr?)).collect()
    }

    pub fn encode(&self, writer: &mut Writer) {
        let code = self.code();
        match self {
            Self::Id(value) => writer.put_struct(code, value),
            Self::Ipv4Src(value) | Self::Ipv4Dst(value) => writer.put_struct(code, value),
            Self::Tos(value) | Self::Ttl(value) => writer.put_u8(code, *value),
            Self::DontFragment | Self::Csum | Self::Oam => writer.put_flag(code),
            Self::TpSrc(value) | Self::TpDst(value) => writer.put_struct(code, value),
            Self::VxlanGbp(raw) => writer.nest(code, |nest| nest.put_u32(code::VXLAN_EXT_GBP, *raw)),
            Self::Ipv6Src(value) | Self::Ipv6Dst(value) => writer.put(code, value),
            Self::Erspan(value) => writer.put_struct(code, value),
            Self::Gtpu(value) => writer.put(code, value),
            Self::Geneve(value) | Self::Pad(value) | Self::Unknown(_, value) => writer.put(code, value),
        }
    }
}

/// `VXLAN_OPTS` holding exactly the group-based policy is typed; any other content is kept as bytes.
fn vxlan(attr: &Attr<'_>) -> Result<TunnelAttr, AttrError> {
    let mut inner = attr.nested();
    match (inner.next().transpose()?, inner.next()) {
        (Some(gbp), None) if gbp.kind == code::VXLAN_EXT_GBP => gbp.u32().map(TunnelAttr::VxlanGbp),
        _ => Ok(TunnelAttr::Unknown(attr.kind, attr.data.to_vec())),
    }
}

/// Appends `attrs` in order.
pub fn encode_all(attrs: &[TunnelAttr], writer: &mut Writer) {
    for attr in attrs {
        attr.encode(writer);
    }
}
