//! Changes of header fields as `pedit` and `csum`.
//!
//! One table says where the fields of an attribute are in their header; [`crate::raise`] reads it the other way.

use flow::action::Action;
use flow::attr::{Attrs, Writer};
use flow::odp::KeyAttr;
use flow::odp::attrs::code;
use zerocopy::big_endian::U32;

use super::actions::{Lowering, transport_sum};
use crate::rule::Unsupported;
use crate::tc::action::mpls::Parts;
use crate::tc::action::{Header, Mpls, PeditKey, Spec, csum};

/// A field of an attribute that headers can be given.
pub(crate) struct Place {
    /// `OVS_KEY_ATTR_*`.
    pub attr: u16,
    /// Where in the attribute.
    pub from: usize,
    pub len: usize,
    pub header: Header,
    /// Where in the header.
    pub to: usize,
    /// Bits to the left within the bytes there.
    pub shift: u32,
    pub name: &'static str,
    /// Checksums that cover it.
    pub sums: Sums,
}

/// Which checksums a field is covered by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sums {
    None,
    /// That of the IPv4 header.
    Header,
    /// That of the IPv4 header, and that of what is in the packet.
    Both,
    /// That of what is in the packet.
    Transport,
}

const fn place(
    (attr, from, len): (u16, usize, usize),
    (header, to): (Header, usize),
    name: &'static str,
    sums: Sums,
) -> Place {
    Place { attr, from, len, header, to, shift: 0, name, sums }
}

/// Every field that can be set. The IPv6 traffic class lies across two bytes.
pub(crate) static PLACES: &[Place] = &[
    place((code::ETHERNET, 0, 6), (Header::Eth, 6), "eth_src", Sums::None),
    place((code::ETHERNET, 6, 6), (Header::Eth, 0), "eth_dst", Sums::None),
    place((code::IPV4, 0, 4), (Header::Ipv4, 12), "ip_src", Sums::Both),
    place((code::IPV4, 4, 4), (Header::Ipv4, 16), "ip_dst", Sums::Both),
    place((code::IPV4, 9, 1), (Header::Ipv4, 1), "nw_tos", Sums::Header),
    place((code::IPV4, 10, 1), (Header::Ipv4, 8), "nw_ttl", Sums::Header),
    place((code::IPV6, 0, 16), (Header::Ipv6, 8), "ipv6_src", Sums::Transport),
    place((code::IPV6, 16, 16), (Header::Ipv6, 24), "ipv6_dst", Sums::Transport),
    place((code::IPV6, 33, 3), (Header::Ipv6, 1), "ipv6_label", Sums::None),
    Place { shift: 4, ..place((code::IPV6, 37, 1), (Header::Ipv6, 0), "nw_tos", Sums::None) },
    place((code::IPV6, 38, 1), (Header::Ipv6, 7), "nw_ttl", Sums::None),
    place((code::TCP, 0, 2), (Header::Tcp, 0), "tcp_src", Sums::Transport),
    place((code::TCP, 2, 2), (Header::Tcp, 2), "tcp_dst", Sums::Transport),
    place((code::UDP, 0, 2), (Header::Udp, 0), "udp_src", Sums::Transport),
    place((code::UDP, 2, 2), (Header::Udp, 2), "udp_dst", Sums::Transport),
    place((code::ARP, 0, 4), (Header::Network, 14), "arp_spa", Sums::None),
    place((code::ARP, 4, 4), (Header::Network, 24), "arp_tpa", Sums::None),
    place((code::ARP, 8, 2), (Header::Network, 6), "arp_op", Sums::None),
    place((code::ARP, 10, 6), (Header::Network, 8), "arp_sha", Sums::None),
    place((code::ARP, 16, 6), (Header::Network, 18), "arp_tha", Sums::None),
];

/// Whether an action changes header bytes in ways that [`PLACES`] tells of.
pub(super) fn is_pedit(action: &Action) -> bool {
    let attr = match action {
        Action::Set(attr) | Action::SetMasked(attr, _) => attr,
        _ => return false,
    };
    PLACES.iter().any(|place| place.attr == attr.code())
}

/// The name of an attribute that cannot be set.
pub(super) fn name(attr: &KeyAttr) -> &'static str {
    flow::odp::rows::find(attr.code()).map_or("an unknown field", |row| row.name)
}

/// An attribute of these bytes, if they are one of that number.
pub(crate) fn typed(code: u16, payload: &[u8]) -> Option<KeyAttr> {
    let mut writer = Writer::new();
    writer.put(code, payload);
    let first = Attrs::new(writer.bytes()).next()?.ok()?;
    KeyAttr::decode(&first).ok()
}

/// Changes of words, at most one a word. The last change of a bit counts.
#[derive(Default)]
struct Words(Vec<PeditKey>);

impl Words {
    fn set(&mut self, header: Header, at: usize, value: u8, mask: u8) {
        if mask == 0 {
            return;
        }
        let (word, byte) = ((at & !3) as u32, at & 3);
        let found = self.0.iter().position(|key| key.header == header && key.at == word);
        let found = found.unwrap_or_else(|| {
            self.0.push(PeditKey { header, add: false, at: word, value: [0; 4], mask: [0; 4] });
            self.0.len() - 1
        });
        let key = &mut self.0[found];
        key.value[byte] = key.value[byte] & !mask | value & mask;
        key.mask[byte] |= mask;
    }
}

/// The bytes of `place`, shifted as they are in the header, one more for what a shift moves out.
pub(super) fn spread(place: &Place, bytes: &[u8]) -> [u8; 17] {
    let mut out = [0; 17];
    for (at, byte) in bytes.iter().enumerate() {
        let wide = u16::from(*byte) << (8 - place.shift);
        out[at] |= (wide >> 8) as u8;
        out[at + 1] |= wide as u8;
    }
    out
}

/// The reverse of [`spread`], into `len` bytes.
pub(crate) fn gather(place: &Place, header: impl Fn(usize) -> u8) -> Vec<u8> {
    let at = |at: usize| u16::from(header(place.to + at)) << 8 | u16::from(header(place.to + at + 1));
    (0..place.len).map(|byte| (at(byte) >> (8 - place.shift)) as u8).collect()
}

/// The change that some actions are together, and the checksums that it makes wrong.
pub(super) fn lower(
    lowering: &Lowering<'_>,
    actions: &[Action],
) -> Result<(Vec<PeditKey>, u32), Unsupported> {
    let mut words = Words::default();
    let mut sums = 0;
    for action in actions {
        let (attr, mask) = match action {
            Action::Set(attr) => (attr, None),
            Action::SetMasked(attr, mask) => (attr, Some(mask)),
            _ => continue,
        };
        let value = attr.payload();
        let mut rest = mask.map_or_else(|| vec![0; value.len()], KeyAttr::payload);
        for place in PLACES.iter().filter(|place| place.attr == attr.code()) {
            let range = place.from..place.from + place.len;
            let bits = match mask {
                None => vec![0xff; place.len],
                Some(_) => rest[range.clone()].to_vec(),
            };
            rest[range.clone()].fill(0);
            if bits.iter().all(|byte| *byte == 0) {
                continue;
            }
            let bits = if place.name == "ipv6_label" { vec![bits[0] & 0xf, bits[1], bits[2]] } else { bits };
            let (value, bits) = (spread(place, &value[range]), spread(place, &bits));
            for (at, (value, bits)) in value.iter().zip(bits).enumerate() {
                words.set(place.header, place.to + at, *value, bits);
            }
            sums |= match place.sums {
                Sums::None => 0,
                Sums::Header => csum::IPV4,
                Sums::Both => csum::IPV4 | transport_sum(lowering, place.name)?,
                Sums::Transport => transport_sum(lowering, place.name)?,
            };
        }
        // The highest bits of the label's word are none of the label.
        if attr.code() == code::IPV6 {
            rest[32] = 0;
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Unsupported::Set("a protocol or fragment"));
        }
    }
    Ok((words.0, sums))
}

/// A change of the outermost label stack entry.
pub(super) fn mpls(lses: &[U32], masks: Option<&[U32]>) -> Result<Spec, Unsupported> {
    let ([lse], mask) = (lses, masks.map(|masks| masks.first().map_or(0, |mask| mask.get()))) else {
        return Err(Unsupported::Set("several labels"));
    };
    let (lse, mask) = (lse.get(), mask.unwrap_or(u32::MAX));
    let part = |bits: u32, name| match mask & bits {
        0 => Ok(false),
        found if found == bits => Ok(true),
        _ => Err(Unsupported::Set(name)),
    };
    Ok(Spec::Mpls(Mpls::Modify(Parts {
        label: part(0xffff_f000, "some bits of mpls_label")?.then_some(lse >> 12),
        tc: part(0xe00, "some bits of mpls_tc")?.then_some((lse >> 9 & 7) as u8),
        bos: part(0x100, "mpls_bos")?.then_some((lse >> 8 & 1) as u8),
        ttl: part(0xff, "some bits of mpls_ttl")?.then_some(lse as u8),
    })))
}
