//! How a table was asked about a packet: what tells, of a rule that comes or goes, that no packet of a datapath flow meets it.
//!
//! All packets of a datapath flow take the same way through the tables, for the flow's mask has every bit that decided it. So
//! what a table was asked about is the same for all of them: in bits that actions wrote, since what they wrote came from bits
//! that are masked, and in the packet's own bits that are masked. A rule that wants such a bit otherwise matches none of them.

use std::mem::offset_of;

use flow::id::OfPort;
use flow::key::{Key, frag};
use flow::mini::{Match, Midi};

/// The part of the key that can be told to be the packet's own: from `skb_priority` on. Registers before it never are, and
/// options of tunnels stand elsewhere in a packet's key.
const OWN: std::ops::Range<usize> = offset_of!(Key, skb_priority) / 8..Key::WORDS;
const _: () = assert!(OWN.end - OWN.start <= 32, "a bit a word");

/// Words of it before those of the packet's headers.
const METADATA_WORDS: usize = Key::SEGMENTS[0] - OWN.start;

const METADATA: usize = offset_of!(Key, metadata) / 8;
const IN_PORT: usize = offset_of!(Key, in_port) / 8;
/// Where the input port is in its word.
const IN_PORT_AT: usize = offset_of!(Key, in_port) % 8;

/// What a rule wants of a word of the key.
pub struct Wanted {
    index: usize,
    mask: u64,
    value: u64,
}

impl Wanted {
    /// All that a rule with this match wants.
    pub fn all(matching: &Match) -> Box<[Self]> {
        let wanted = |(index, mask)| Self { index, mask, value: matching.key.get(index) };
        matching.mask.iter().map(wanted).collect()
    }
}

/// The key that a table was asked about, as far as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    metadata: u64,
    /// Words of [`OWN`] that were as in the packet, a bit each.
    own: u32,
    in_port: OfPort,
}

impl Asked {
    /// For a lookup of `key` with this input port, which came of `packet`; `moved`: fields are where they are not usually.
    pub fn new(packet: &Key, key: &Key, in_port: OfPort, moved: bool) -> Self {
        // Fragments are looked up without ports.
        let own = if moved || key.nw_frag & frag::ANY != 0 { 0 } else { own(packet, key) };
        Self { metadata: key.words()[METADATA], own, in_port }
    }

    /// Whether no packet of a datapath flow with this key and mask met a rule that wants this.
    pub fn excludes(&self, rule: &[Wanted], key: &Midi, mask: &Midi) -> bool {
        rule.iter().any(|wanted| match wanted.index {
            METADATA => wanted.mask & (self.metadata ^ wanted.value) != 0,
            IN_PORT => in_port(wanted.mask) & (u32::from(self.in_port.0) ^ in_port(wanted.value)) != 0,
            index if OWN.contains(&index) && self.own >> (index - OWN.start) & 1 != 0 => {
                let differs = wanted.mask & (key.get(index) ^ wanted.value);
                differs != 0 && mask.get(index) & differs != 0
            }
            _ => false,
        })
    }
}

fn in_port(word: u64) -> u32 {
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes([
        bytes[IN_PORT_AT],
        bytes[IN_PORT_AT + 1],
        bytes[IN_PORT_AT + 2],
        bytes[IN_PORT_AT + 3],
    ])
}

/// The words of [`OWN`] in which two keys agree.
fn own(a: &Key, b: &Key) -> u32 {
    let (a, b) = (&a.words()[OWN], &b.words()[OWN]);
    // Headers mostly are as they were.
    let known = if a[METADATA_WORDS..] == b[METADATA_WORDS..] { METADATA_WORDS } else { a.len() };
    let headers = u32::MAX.checked_shl(known as u32).unwrap_or(0) & u32::MAX >> (32 - a.len());
    let pairs = a[..known].iter().zip(&b[..known]).zip(0..);
    pairs.fold(headers, |own, ((a, b), bit)| own | u32::from(a == b) << bit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::key::Mask;
    use flow::mini::FullMatch;

    #[test]
    fn a_rule_is_excluded_by_what_all_packets_have() {
        let mut packet = Key { in_port: 7, nw_proto: 17, nw_ttl: 64, ..Key::default() };
        packet.dl_type = 0x800.into();
        (packet.nw_src, packet.tp_dst) = (0x0a00_0001.into(), 9.into());
        let mut looked = Key { in_port: 1, ..packet };
        looked.metadata = 5.into();
        looked.tp_dst = 80.into();
        let mut mask = Mask::default();
        (mask.0.nw_proto, mask.0.tp_dst, mask.0.nw_src) = (u8::MAX, u16::MAX.into(), 0xff00_0000.into());
        let asked = Asked::new(&packet, &looked, OfPort(1), false);
        let (key, mask) = (Midi::new(&packet), Midi::new(&mask.0));
        let excluded = |set: &dyn Fn(&mut FullMatch)| {
            let mut rule = FullMatch::default();
            set(&mut rule);
            asked.excludes(&Wanted::all(&Match::new(&rule)), &key, &mask)
        };
        assert!(!excluded(&|_| ()));
        assert!(!excluded(&|m| (m.key.in_port, m.mask.0.in_port) = (1, u32::MAX)));
        assert!(excluded(&|m| (m.key.in_port, m.mask.0.in_port) = (7, u32::MAX)));
        assert!(excluded(&|m| (m.key.nw_proto, m.mask.0.nw_proto) = (6, u8::MAX)));
        // Not masked; masked in part; written by an action.
        assert!(!excluded(&|m| (m.key.nw_ttl, m.mask.0.nw_ttl) = (6, u8::MAX)));
        assert!(!excluded(&|m| (m.key.nw_src, m.mask.0.nw_src) = (0x0a00_0002.into(), u32::MAX.into())));
        assert!(excluded(&|m| (m.key.nw_src, m.mask.0.nw_src) = (0x0b00_0002.into(), u32::MAX.into())));
        assert!(!excluded(&|m| (m.key.tp_dst, m.mask.0.tp_dst) = (9.into(), u16::MAX.into())));
        assert!(!excluded(&|m| (m.key.metadata, m.mask.0.metadata) = (5.into(), u64::MAX.into())));
        assert!(excluded(&|m| (m.key.metadata, m.mask.0.metadata) = (4.into(), u64::MAX.into())));
        assert!(!excluded(&|m| (m.key.regs[0], m.mask.0.regs[0]) = (4, u32::MAX)));
        let fragment = Key { nw_frag: frag::ANY, ..packet };
        let asked = Asked::new(&fragment, &fragment, OfPort(1), false);
        assert_eq!((asked.own, Asked::new(&packet, &packet, OfPort(1), true).own), (0, 0));
    }
}
