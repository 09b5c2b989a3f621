//! `encap`, `decap` and `dec_nsh_ttl`: headers of packet types other than Ethernet.
//!
//! Spec: OpenFlow extension 382 (generic encapsulation) in its Nicira form, RFC 8300.

use std::fmt;

use flow::field::Value;
use flow::proto::{self, ethertype, pt_of_ethertype};

use super::raw::Raw;
use super::{OfAction, Parse};
use crate::error::OfError;
use crate::protocol::Protocols;
use crate::text::{Pairs, Parsed, parse_u8, parse_u16, refuse, scan_hex};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// The packet type of which nothing is known.
pub const PT_UNKNOWN: u32 = 0x0000_ffff;
/// The packet type after decapsulation that the header's next-protocol field tells.
pub const PT_USE_NEXT_PROTO: u32 = 0x0000_fffe;

/// Adds a header.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Encap {
    /// The header's packet type: Ethernet, NSH or MPLS.
    pub packet_type: u32,
    /// The header's size in bytes, 0 for its default.
    pub hdr_size: u16,
    pub props: Vec<Prop>,
}

/// A property of a new header.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Prop {
    /// The NSH metadata type, 1 or 2.
    NshMdType(u8),
    /// An NSH metadata type 2 option.
    NshTlv { class: u16, kind: u8, data: Vec<u8> },
}

/// Removes the outermost header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Decap {
    /// The packet type afterwards, or [`PT_USE_NEXT_PROTO`].
    pub packet_type: u32,
}

const CLASS_NSH: u16 = 4;
const PROP_NSH_MDTYPE: u8 = 1;
const PROP_NSH_TLV: u8 = 2;

/// Headers that can be added, by name.
const HEADERS: [(&str, u32); 4] = [
    ("ethernet", proto::PT_ETH),
    ("nsh", pt_of_ethertype(ethertype::NSH)),
    ("mpls", pt_of_ethertype(ethertype::MPLS)),
    ("mpls_mc", pt_of_ethertype(ethertype::MPLS_MCAST)),
];

pub(super) fn decode(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (hdr_size, packet_type) = (r.u16()?, r.u32()?);
    if !HEADERS.iter().any(|(_, known)| *known == packet_type) {
        return Err(OfError::BacBadHeaderType);
    }
    let mut props = Vec::new();
    while !r.is_empty() {
        props.push(decode_prop(&mut r)?);
    }
    Ok(OfAction::Encap(Box::new(Encap { packet_type, hdr_size, props })))
}

/// A property: class (16), type (8), length without padding (8), payload, padded to a multiple of 8 bytes.
fn decode_prop(r: &mut Reader<'_>) -> Result<Prop, OfError> {
    let bad_len = |_| OfError::BacBadLen;
    let mut ahead = *r;
    let class = ahead.u16().map_err(bad_len)?;
    let kind = ahead.u8().map_err(bad_len)?;
    let len = usize::from(ahead.u8().map_err(bad_len)?);
    let all = r.bytes(len.next_multiple_of(8)).map_err(bad_len)?;
    if len < 4 {
        return Err(OfError::BacBadLen);
    }
    let payload = &all[4..];
    match (class, kind, payload) {
        (CLASS_NSH, PROP_NSH_MDTYPE, &[md_type, ..]) if len <= 8 => Ok(Prop::NshMdType(md_type)),
        (CLASS_NSH, PROP_NSH_TLV, &[c0, c1, kind, tlv_len, ref data @ ..])
            if len == 8 + usize::from(tlv_len).next_multiple_of(8) =>
        {
            let data = data[..usize::from(tlv_len)].to_vec();
            Ok(Prop::NshTlv { class: u16::from_be_bytes([c0, c1]), kind, data })
        }
        (CLASS_NSH, PROP_NSH_MDTYPE | PROP_NSH_TLV, _) => Err(OfError::BacBadEdProp),
        _ => Err(OfError::BacUnknownEdProp),
    }
}

pub(super) fn decode_decap(action: &[u8]) -> Result<OfAction, OfError> {
    if action.len() > 16 {
        return Err(OfError::BacUnknownEdProp);
    }
    let packet_type = Reader::new(&action[12..]).u32()?;
    Ok(OfAction::Decap(Decap { packet_type }))
}

/// These actions are known from OpenFlow 1.3 on; earlier versions have no form for them.
fn exist_in(version: Version) -> bool {
    version >= Version::V13
}

pub(super) fn encode_dec_ttl(version: Version, out: &mut Vec<u8>) {
    if exist_in(version) {
        Raw::DecNshTtl.put(version, out);
    }
}

impl Encap {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if !exist_in(version) {
            return;
        }
        let action = Raw::Encap.start(version, out);
        out.u16(self.hdr_size).u32(self.packet_type);
        for prop in &self.props {
            prop.encode(out);
        }
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            HEADERS.iter().find(|(_, known)| *known == self.packet_type).map_or("UNKNOWN", |(name, _)| name);
        write!(f, "encap({name}")?;
        if !self.props.is_empty() {
            let props: Vec<String> = self.props.iter().map(Prop::to_string).collect();
            write!(f, "({})", props.join(","))?;
        }
        f.write_str(")")
    }
}

impl Prop {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::NshMdType(md_type) => {
                out.u16(CLASS_NSH).u8(PROP_NSH_MDTYPE).u8(5).u8(*md_type).zeros(3);
            }
            Self::NshTlv { class, kind, data } => {
                let padded = data.len().next_multiple_of(8);
                out.u16(CLASS_NSH).u8(PROP_NSH_TLV).u8((8 + padded) as u8);
                out.u16(*class).u8(*kind).u8(data.len() as u8).bytes(data).zeros(padded - data.len());
            }
        }
    }
}

impl fmt::Display for Prop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NshMdType(md_type) => write!(f, "md_type={md_type}"),
            Self::NshTlv { class, kind, data } => {
                write!(f, "tlv({class:#06x},{kind},{})", Value::from_bytes(data).hex())
            }
        }
    }
}

impl Decap {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if exist_in(version) {
            let action = Raw::Decap.start(version, out);
            out.zeros(2).u32(self.packet_type);
            action.end(out);
        }
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.packet_type == PT_USE_NEXT_PROTO {
            return f.write_str("decap()");
        }
        let ns_type = crate::text::alt_hex((self.packet_type & 0xffff).into());
        write!(f, "decap(packet_type(ns={},type={ns_type}))", self.packet_type >> 16)
    }
}

pub(super) fn parse(text: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    cx.usable &= Protocols::OF13_UP;
    let Some((name, props)) = Pairs::new(text).next() else { refuse!("Missing encap hdr: {text}") };
    let Some((_, packet_type)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        refuse!("Encap hdr not supported: {props}");
    };
    let mut encap = Encap { packet_type: *packet_type, hdr_size: 0, props: Vec::new() };
    for (key, value) in Pairs::new(props) {
        encap.props.push(parse_prop(name, key, value)?);
    }
    Ok(OfAction::Encap(Box::new(encap)))
}

fn parse_prop(header: &str, key: &str, value: &str) -> Parsed<Prop> {
    if header != "nsh" || !matches!(key, "md_type" | "tlv") {
        refuse!("Invalid property: {key}");
    }
    if value.is_empty() {
        return Err("Value missing for encap property".into());
    }
    if key == "md_type" {
        return match parse_u8(value, "md_type")? {
            md_type @ 1..=2 => Ok(Prop::NshMdType(md_type)),
            _ => Err("invalid md_type".into()),
        };
    }
    parse_tlv(value).ok_or_else(|| format!("Invalid NSH TLV header: {value}").into())
}

/// `0xCLASS,TYPE,0xDATA`.
fn parse_tlv(text: &str) -> Option<Prop> {
    let mut parts = text.splitn(3, ',');
    let class = u16::from_str_radix(parts.next()?.strip_prefix("0x")?, 16).ok()?;
    let kind = parts.next()?.parse().ok()?;
    let digits = parts.next()?.strip_prefix("0x")?;
    let len = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len()).min(251);
    let (data, _) = scan_hex(&digits[..len & !1])?;
    (len > 0).then_some(Prop::NshTlv { class, kind, data })
}

pub(super) fn parse_decap(text: &str) -> Parsed<OfAction> {
    let Some((key, value)) = Pairs::new(text).next() else {
        return Ok(OfAction::Decap(Decap { packet_type: PT_USE_NEXT_PROTO }));
    };
    if key != "packet_type" {
        refuse!("Invalid decap argument: {key}");
    }
    let mut attributes = Pairs::new(value);
    let Some(("ns", ns)) = attributes.next() else { refuse!("Missing packet_type attribute ns") };
    let ns = parse_u16(ns, "ns")?;
    // Namespaces 0 (ONF) to 3 are defined.
    if ns >= 4 {
        refuse!("Unsupported ns value: {ns}");
    }
    let Some(("type", ns_type)) = attributes.next() else { refuse!("Missing packet_type attribute type") };
    let ns_type = parse_u16(ns_type, "type")?;
    Ok(OfAction::Decap(Decap { packet_type: u32::from(ns) << 16 | u32::from(ns_type) }))
}
