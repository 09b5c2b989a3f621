//! Fast keys.
//!
//! **Uses** `packets`. **Sets** `keys`, `hashes`, `tcp_flags` and each packet's layout. **Next** `cache`, or `classify` for
//! packets that have no fast key.
//!
//! What is accepted here is a subset of what [`flow::extract`] accepts, with the same meaning; the test holds one against
//! the other.

use flow::extract::Layout;
use sys::cpu;

use crate::user::batch::Packet;
use crate::user::graph::{Node, NodeId};
use crate::user::vector::{FastKey, Vector};
use crate::user::worker::Worker;

/// The node.
pub struct Parse;

impl Node for Parse {
    const ID: NodeId = NodeId::Parse;

    fn process(worker: &mut Worker, vector: &mut Vector) -> usize {
        vector.prepare();
        let vlans = worker.vlan_limit > 0;
        for n in 0..vector.packets.len() {
            if let Some(next) = vector.packets.get(n + 2) {
                cpu::prefetch(&worker.pool.bytes(&next.buffer)[next.start as usize]);
            }
            let packet = &mut vector.packets[n];
            match fast_key(packet.frame(&worker.pool), packet, vlans) {
                Some(parsed) => {
                    packet.layout = parsed.layout;
                    let hash = parsed.key.hash().max(1);
                    worker.cache.prefetch(hash);
                    vector.keys[n] = parsed.key;
                    vector.hashes[n] = hash;
                    vector.tcp_flags[n] = parsed.tcp_flags;
                }
                None => vector.hashes[n] = 0,
            }
        }
        vector.packets.len()
    }
}

/// What [`fast_key`] finds.
pub struct Parsed {
    pub key: FastKey,
    pub layout: Layout,
    pub tcp_flags: u16,
}

const IPV4: u64 = 4;
const IPV6: u64 = 6;
const TAGGED: u64 = 0x80;

#[inline]
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map_or(0, |&word| u64::from_le_bytes(word))
}

/// The fast key of a frame, if it can have one.
#[inline]
pub fn fast_key(frame: &[u8], packet: &Packet, vlans: bool) -> Option<Parsed> {
    let in_port = u16::try_from(packet.meta.in_port).ok()?;
    if frame.len() < 34 || !packet.meta.is_plain() {
        return None;
    }
    let (mut ethertype, mut l3, mut shape, mut tci) = (be16(frame, 12), 14, 0, 0);
    if ethertype == 0x8100 && vlans {
        // A key's tag says by this bit that it is there; the frame's own is not part of the key.
        (ethertype, l3, shape, tci) = (be16(frame, 16), 18, TAGGED, be16(frame, 14) | 0x1000);
    }
    let ip = &frame[l3..];
    let l4 = match ethertype {
        0x0800 => ipv4(ip)?,
        0x86dd => ipv6(ip)?,
        _ => return None,
    };
    let (ports, tcp_flags) = transport(&ip[l4.at..l4.end], l4.protocol)?;
    shape |= if ethertype == 0x0800 { IPV4 } else { IPV6 };
    let mut key = FastKey::default();
    let w = &mut key.0;
    w[0] = u64::from(in_port) | u64::from(packet.meta.recirc_id) << 16 | u64::from(tci) << 48;
    w[1] = shape
        | u64::from(l4.tos) << 8
        | u64::from(l4.ttl) << 16
        | u64::from(l4.protocol) << 24
        | u64::from(l4.label) << 32
        | u64::from(tcp_flags) << 52;
    w[2] = word(frame, 0);
    w[3] = word(frame, 4) >> 32 | u64::from(ports) << 32;
    if ethertype == 0x0800 {
        w[4] = word(ip, 12);
    } else {
        (w[4], w[5], w[6], w[7]) = (word(ip, 8), word(ip, 16), word(ip, 24), word(ip, 32));
    }
    let layout = Layout {
        l2_5: None,
        l3: Some(l3 as u16),
        l4: Some((l3 + l4.at) as u16),
        l2_pad: u16::try_from(ip.len() - l4.end).ok()?,
        malformed: None,
    };
    Some(Parsed { key, layout, tcp_flags })
}

/// What the network header says.
struct Network {
    /// Where the transport header begins and the packet ends, from the network header.
    at: usize,
    end: usize,
    protocol: u8,
    tos: u8,
    ttl: u8,
    label: u32,
}

#[inline]
fn ipv4(ip: &[u8]) -> Option<Network> {
    let (header, total) = (usize::from(ip[0] & 0xf) * 4, usize::from(be16(ip, 2)));
    // Fragments, and lengths that do not fit, are left to the full parser.
    if header < 20 || total < header || total > ip.len() || be16(ip, 6) & 0x3fff != 0 {
        return None;
    }
    Some(Network { at: header, end: total, protocol: ip[9], tos: ip[1], ttl: ip[8], label: 0 })
}

#[inline]
fn ipv6(ip: &[u8]) -> Option<Network> {
    if ip.len() < 40 {
        return None;
    }
    let end = 40 + usize::from(be16(ip, 4));
    let protocol = ip[6];
    if end > ip.len() || !matches!(protocol, 6 | 17) {
        return None;
    }
    let flow = u32::from_be_bytes([ip[0], ip[1], ip[2], ip[3]]);
    Some(Network { at: 40, end, protocol, tos: (flow >> 20) as u8, ttl: ip[7], label: flow & 0xf_ffff })
}

/// Ports (ICMP type and code), and TCP flags.
#[inline]
fn transport(l4: &[u8], protocol: u8) -> Option<(u32, u16)> {
    let ports = |least: usize| {
        let first = l4.get(..least)?.first_chunk()?;
        Some(u32::from_le_bytes(*first))
    };
    match protocol {
        6 => {
            let ports = ports(20)?;
            let header = usize::from(l4[12] >> 4) * 4;
            (header >= 20 && header <= l4.len()).then(|| (ports, be16(l4, 12) & 0xfff))
        }
        17 => Some((ports(8)?, 0)),
        1 => Some((ports(8)? & 0xffff, 0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::batch::{Meta, Offload};
    use flow::extract::{Metadata, extract};
    use flow::key::Key;
    use proptest::prelude::*;
    use sys::pool::Pool;

    fn both(frame: &[u8], meta: Meta) -> (Option<FastKey>, Layout, Box<Key>, Layout, u16) {
        let mut pool = Pool::new(1);
        let packet = Packet::new(&mut pool, frame, Offload::default(), meta).unwrap();
        let mut key = Box::new(Key::default());
        let full = extract(frame, &Metadata::from_key(&packet.meta.to_key()), &mut key);
        match fast_key(frame, &packet, true) {
            Some(parsed) => (Some(parsed.key), parsed.layout, key, full, parsed.tcp_flags),
            None => (None, Layout::default(), key, full, 0),
        }
    }

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        // Few values, so that equal keys are met, and all the fields that steer parsing.
        let byte = prop_oneof![Just(0u8), Just(1), Just(0x45), Just(0x50), any::<u8>()];
        let bytes = proptest::collection::vec(byte, 90..100);
        let shape = (0usize..4, prop_oneof![Just(6u8), Just(17), Just(1), Just(58), Just(44)], 0u8..24);
        (bytes, shape).prop_map(|(mut bytes, (shape, protocol, header))| {
            let l3 = if shape % 2 == 1 {
                bytes[12..14].copy_from_slice(&[0x81, 0]);
                18
            } else {
                14
            };
            if shape < 2 {
                bytes[l3 - 2..l3].copy_from_slice(&[8, 0]);
                bytes[l3] = 0x40 | header.min(15);
                bytes[l3 + 2..l3 + 4].copy_from_slice(&[0, 66]);
                bytes[l3 + 6..l3 + 8].copy_from_slice(&[0x40, 0]);
                bytes[l3 + 9] = protocol;
            } else {
                bytes[l3 - 2..l3].copy_from_slice(&[0x86, 0xdd]);
                bytes[l3 + 4..l3 + 6].copy_from_slice(&[0, 30]);
                bytes[l3 + 6] = protocol;
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn equal_fast_keys_mean_equal_keys(frame in frame(), flip in 0usize..90, bit in 0u8..8) {
            let (fast, layout, key, full, flags) = both(&frame, Meta::received(7));
            let mut other = frame.clone();
            other[flip] ^= 1 << bit;
            let (other_fast, _, other_key, _, _) = both(&other, Meta::received(7));
            if let Some(fast) = fast {
                prop_assert_eq!(layout, full);
                prop_assert_eq!(flags, key.tcp_flags.get());
                if other_fast == Some(fast) {
                    prop_assert!(key == other_key);
                }
                if key == other_key && other_fast.is_some() {
                    prop_assert_eq!(other_fast, Some(fast));
                }
            }
        }

        #[test]
        fn any_bytes_are_survived(frame in proptest::collection::vec(any::<u8>(), 0..100)) {
            both(&frame, Meta::received(1));
        }
    }

    #[test]
    fn the_tags_drop_eligible_bit_is_not_in_the_key() {
        let mut frame = vec![0; 90];
        frame[12..14].copy_from_slice(&[0x81, 0]);
        frame[16..18].copy_from_slice(&[0x86, 0xdd]);
        frame[23..25].copy_from_slice(&[30, 17]);
        let clear = both(&frame, Meta::received(7));
        frame[14] |= 0x10;
        let set = both(&frame, Meta::received(7));
        assert!(clear.0.is_some() && clear.2 == set.2);
        assert_eq!(clear.0, set.0);
    }

    #[test]
    fn metadata_tells_apart() {
        let mut frame = vec![2; 60];
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        frame[16..18].copy_from_slice(&[0, 46]);
        frame[20..24].copy_from_slice(&[0, 0, 64, 17]);
        let key = |meta| both(&frame, meta).0;
        let plain = key(Meta::received(1)).unwrap();
        assert_ne!(key(Meta::received(2)), Some(plain));
        assert_ne!(key(Meta { recirc_id: 1, ..Meta::received(1) }), Some(plain));
        assert_eq!(key(Meta { dp_hash: 1, ..Meta::received(1) }), None);
        assert_eq!(key(Meta::received(70_000)), None);
    }
}
