//! The table of key attributes: name, length, and the fields that their text shows, in order.
//!
//! One row serves printing, reading, and the question of whether a mask is all ones or all zeros.

use super::attrs::code;

/// How a field within an attribute is written. Each has the width that its kind of value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Eth,
    Ipv4,
    Ipv6,
    /// 20 bits in a big-endian word, hexadecimal.
    Label,
    /// A byte, hexadecimal.
    Hex8,
    /// A byte, decimal.
    Dec8,
    /// A big-endian 16-bit integer, decimal.
    Dec16,
    /// A big-endian 32-bit integer, hexadecimal, printed whatever its mask.
    Hex32,
    /// `no`, `first`, `later`.
    Frag,
}

impl Codec {
    /// Bytes that the field has.
    pub const fn width(self) -> usize {
        match self {
            Self::Eth => 6,
            Self::Ipv4 | Self::Label | Self::Hex32 => 4,
            Self::Ipv6 => 16,
            Self::Hex8 | Self::Dec8 | Self::Frag => 1,
            Self::Dec16 => 2,
        }
    }
}

/// One field of an attribute.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub name: &'static str,
    /// Another name that is read, too.
    pub alias: Option<&'static str>,
    /// Offset in the attribute's payload.
    pub at: usize,
    pub codec: Codec,
}

/// What the text in an attribute's parentheses is.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Parts(&'static [Part]),
    /// A host-endian word, hexadecimal.
    Word,
    /// As [`Shape::Word`], always matched exactly when read.
    ExactWord,
    InPort,
    CtState,
    CtZone,
    CtMark,
    CtLabel,
    Tunnel,
    Encap,
    Vlan,
    Ethertype,
    Mpls,
    TcpFlags,
    PacketType,
    Nsh,
    /// Never on a wire; printed as bytes.
    Opaque,
}

/// How long an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Len {
    Exact(usize),
    Variable,
    Nested,
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub code: u16,
    pub name: &'static str,
    pub len: Len,
    pub shape: Shape,
}

const fn part(name: &'static str, at: usize, codec: Codec) -> Part {
    Part { name, alias: None, at, codec }
}

const fn row(code: u16, name: &'static str, len: Len, shape: Shape) -> Row {
    Row { code, name, len, shape }
}

const PORTS: &[Part] = &[part("src", 0, Codec::Dec16), part("dst", 2, Codec::Dec16)];
const ICMP: &[Part] = &[part("type", 0, Codec::Dec8), part("code", 1, Codec::Dec8)];

/// Every attribute that OVS 3.7 names.
pub const ROWS: &[Row] = &[
    row(code::ENCAP, "encap", Len::Nested, Shape::Encap),
    row(code::PRIORITY, "skb_priority", Len::Exact(4), Shape::Word),
    row(code::IN_PORT, "in_port", Len::Exact(4), Shape::InPort),
    row(
        code::ETHERNET,
        "eth",
        Len::Exact(12),
        Shape::Parts(&[part("src", 0, Codec::Eth), part("dst", 6, Codec::Eth)]),
    ),
    row(code::VLAN, "vlan", Len::Exact(2), Shape::Vlan),
    row(code::ETHERTYPE, "eth_type", Len::Exact(2), Shape::Ethertype),
    row(
        code::IPV4,
        "ipv4",
        Len::Exact(12),
        Shape::Parts(&[
            part("src", 0, Codec::Ipv4),
            part("dst", 4, Codec::Ipv4),
            part("proto", 8, Codec::Dec8),
            part("tos", 9, Codec::Hex8),
            part("ttl", 10, Codec::Dec8),
            part("frag", 11, Codec::Frag),
        ]),
    ),
    row(
        code::IPV6,
        "ipv6",
        Len::Exact(40),
        Shape::Parts(&[
            part("src", 0, Codec::Ipv6),
            part("dst", 16, Codec::Ipv6),
            part("label", 32, Codec::Label),
            part("proto", 36, Codec::Dec8),
            part("tclass", 37, Codec::Hex8),
            part("hlimit", 38, Codec::Dec8),
            part("frag", 39, Codec::Frag),
        ]),
    ),
    row(code::TCP, "tcp", Len::Exact(4), Shape::Parts(PORTS)),
    row(code::UDP, "udp", Len::Exact(4), Shape::Parts(PORTS)),
    row(code::ICMP, "icmp", Len::Exact(2), Shape::Parts(ICMP)),
    row(code::ICMPV6, "icmpv6", Len::Exact(2), Shape::Parts(ICMP)),
    row(
        code::ARP,
        "arp",
        Len::Exact(24),
        Shape::Parts(&[
            part("sip", 0, Codec::Ipv4),
            part("tip", 4, Codec::Ipv4),
            part("op", 8, Codec::Dec16),
            part("sha", 10, Codec::Eth),
            part("tha", 16, Codec::Eth),
        ]),
    ),
    row(
        code::ND,
        "nd",
        Len::Exact(28),
        Shape::Parts(&[
            part("target", 0, Codec::Ipv6),
            part("sll", 16, Codec::Eth),
            part("tll", 22, Codec::Eth),
        ]),
    ),
    row(code::SKB_MARK, "skb_mark", Len::Exact(4), Shape::Word),
    row(code::TUNNEL, "tunnel", Len::Nested, Shape::Tunnel),
    row(code::SCTP, "sctp", Len::Exact(4), Shape::Parts(PORTS)),
    row(code::TCP_FLAGS, "tcp_flags", Len::Exact(2), Shape::TcpFlags),
    row(code::DP_HASH, "dp_hash", Len::Exact(4), Shape::Word),
    row(code::RECIRC_ID, "recirc_id", Len::Exact(4), Shape::ExactWord),
    row(code::MPLS, "mpls", Len::Variable, Shape::Mpls),
    row(code::CT_STATE, "ct_state", Len::Exact(4), Shape::CtState),
    row(code::CT_ZONE, "ct_zone", Len::Exact(2), Shape::CtZone),
    row(code::CT_MARK, "ct_mark", Len::Exact(4), Shape::CtMark),
    row(code::CT_LABELS, "ct_label", Len::Exact(16), Shape::CtLabel),
    row(
        code::CT_ORIG_TUPLE_IPV4,
        "ct_tuple4",
        Len::Exact(16),
        Shape::Parts(&[
            part("src", 0, Codec::Ipv4),
            part("dst", 4, Codec::Ipv4),
            part("proto", 12, Codec::Dec8),
            part("tp_src", 8, Codec::Dec16),
            part("tp_dst", 10, Codec::Dec16),
        ]),
    ),
    row(
        code::CT_ORIG_TUPLE_IPV6,
        "ct_tuple6",
        Len::Exact(40),
        Shape::Parts(&[
            part("src", 0, Codec::Ipv6),
            part("dst", 16, Codec::Ipv6),
            part("proto", 36, Codec::Dec8),
            Part { alias: Some("tp_src"), ..part("src_port", 32, Codec::Dec16) },
            Part { alias: Some("tp_dst"), ..part("dst_port", 34, Codec::Dec16) },
        ]),
    ),
    row(code::NSH, "nsh", Len::Nested, Shape::Nsh),
    row(code::PACKET_TYPE, "packet_type", Len::Exact(4), Shape::PacketType),
    row(
        code::ND_EXTENSIONS,
        "nd_ext",
        Len::Exact(8),
        Shape::Parts(&[part("nd_reserved", 0, Codec::Hex32), part("nd_options_type", 4, Codec::Dec8)]),
    ),
    row(code::TUNNEL_INFO, "<error: kernel-only tunnel_info>", Len::Exact(0), Shape::Opaque),
];

/// The row of attribute `code`.
pub fn find(code: u16) -> Option<&'static Row> {
    ROWS.get(usize::from(code).checked_sub(1)?)
}

/// Bytes of an attribute that a mask's being all ones or zeros depends on; padding at the end does not.
fn significant(code: u16, mask: &[u8]) -> &[u8] {
    let len = match code {
        code::ARP => 22,
        code::CT_ORIG_TUPLE_IPV4 => 13,
        code::CT_ORIG_TUPLE_IPV6 => 37,
        _ => mask.len(),
    };
    &mask[..len.min(mask.len())]
}

/// Whether every bit of `mask`, of attribute `code`, equals `bit`; attributes that we do not know are neither.
fn is_constant(code: u16, mask: &[u8], bit: bool) -> bool {
    let byte = if bit { 0xff } else { 0 };
    match code {
        code::ENCAP | code::TUNNEL_INFO => false,
        code if find(code).is_none() => false,
        code::TCP_FLAGS => matches!(mask, [high, low] if high & 0xf == byte & 0xf && *low == byte),
        code::IPV6 if mask.len() == 40 => {
            let (front, back) = (&mask[..32], &mask[36..]);
            let label = mask[33] & 0xf == byte & 0xf && mask[34] == byte && mask[35] == byte;
            label && front.iter().chain(back).all(|&part| part == byte)
        }
        _ => significant(code, mask).iter().all(|&part| part == byte),
    }
}

/// Whether `mask` leaves nothing of the attribute to chance.
pub fn is_exact(code: u16, mask: &[u8]) -> bool {
    is_constant(code, mask, true)
}

/// Whether `mask` leaves the whole attribute to chance.
pub fn is_wildcard(code: u16, mask: &[u8]) -> bool {
    is_constant(code, mask, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_at_their_code_and_parts_within_their_attribute() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(usize::from(row.code), place + 1, "{}", row.name);
            if let (Shape::Parts(parts), Len::Exact(len)) = (row.shape, row.len) {
                for part in parts {
                    assert!(part.at + part.codec.width() <= len, "{}.{}", row.name, part.name);
                }
            }
        }
        assert_eq!(ROWS.len(), usize::from(code::MAX));
    }

    #[test]
    fn padding_does_not_make_a_mask_partial() {
        let mut arp = [0xff; 24];
        arp[22..].fill(0);
        assert!(is_exact(code::ARP, &arp));
        assert!(is_exact(code::TCP_FLAGS, &[0x0f, 0xff]));
        assert!(is_wildcard(code::TCP_FLAGS, &[0xf0, 0]));
        assert!(!is_exact(32, &[0xff]) && !is_wildcard(32, &[0]));
    }
}
