//! The key of one direction of a connection: what a tracker finds connections by.

use super::entry::{L4, Tuple};
use ::flow::id::Zone;
use ::flow::proto::ip;
use std::net::IpAddr;

/// One direction of a connection, in its zone.
///
/// Each end is an address and 32 bits of its protocol's: a port, or ICMP's id, type and code. Keys of ICMP name the request
/// at one end and the reply to it at the other, so that turning a key round gives the key of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Key {
    pub src: u128,
    pub dst: u128,
    pub src_l4: u32,
    pub dst_l4: u32,
    pub zone: u16,
    pub proto: u8,
    pub v6: bool,
}

/// Types of ICMP whose messages come in pairs.
pub mod icmp {
    pub const ECHO_REPLY: u8 = 0;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIMESTAMP: u8 = 13;
    pub const TIMESTAMP_REPLY: u8 = 14;
    pub const INFO_REQUEST: u8 = 15;
    pub const INFO_REPLY: u8 = 16;
    pub const V6_ECHO_REQUEST: u8 = 128;
    pub const V6_ECHO_REPLY: u8 = 129;

    const PAIRS: [(bool, u8, u8); 4] = [
        (false, ECHO_REQUEST, ECHO_REPLY),
        (false, TIMESTAMP, TIMESTAMP_REPLY),
        (false, INFO_REQUEST, INFO_REPLY),
        (true, V6_ECHO_REQUEST, V6_ECHO_REPLY),
    ];

    /// The type that answers, or is answered by, another; `None` for those that stand alone.
    pub fn reverse(v6: bool, kind: u8) -> Option<u8> {
        let (_, request, reply) =
            PAIRS.into_iter().find(|&(six, a, b)| six == v6 && (kind == a || kind == b))?;
        Some(if kind == request { reply } else { request })
    }

    /// Whether a type asks.
    pub fn is_request(v6: bool, kind: u8) -> bool {
        PAIRS.into_iter().any(|(six, request, _)| six == v6 && kind == request)
    }
}

/// Where a key is in a table: `shard` is the same for both directions of what is not translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub shard: u8,
    pub hash: u32,
}

/// Random numbers that keep others from choosing where their keys go.
#[derive(Clone, Copy, Debug)]
pub struct Seeds([u64; 6]);

impl Seeds {
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(state)
        }))
    }
}

/// SplitMix64's last step.
pub const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

#[inline]
fn end(addr: u128, l4: u32, seeds: &Seeds) -> u64 {
    let [a, b, c, d, ..] = seeds.0;
    let addr = fold(addr as u64 ^ a, (addr >> 64) as u64 ^ b);
    fold(addr ^ c, u64::from(l4) ^ d)
}

impl Key {
    /// The other direction of what is not translated.
    #[inline]
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, src_l4: self.dst_l4, dst_l4: self.src_l4, ..*self }
    }

    /// Where this key and its reverse are.
    #[inline]
    pub fn places(&self, seeds: &Seeds) -> (Place, Place) {
        let (src, dst) = (end(self.src, self.src_l4, seeds), end(self.dst, self.dst_l4, seeds));
        let rest = u64::from(self.zone) << 16 | u64::from(self.proto) << 8 | u64::from(self.v6) | 1 << 63;
        let pair = fold(src.wrapping_add(dst) ^ seeds.0[4], rest ^ seeds.0[5]);
        let place =
            |first: u64| Place { shard: (pair >> 56) as u8, hash: (pair ^ first.rotate_left(21)) as u32 };
        (place(src), place(dst))
    }

    #[inline]
    pub fn place(&self, seeds: &Seeds) -> Place {
        self.places(seeds).0
    }

    pub const fn has_ports(&self) -> bool {
        matches!(self.proto, ip::TCP | ip::UDP | ip::SCTP)
    }

    /// Whether it is ICMP of its own family.
    pub const fn is_icmp(&self) -> bool {
        self.proto == if self.v6 { ip::ICMPV6 } else { ip::ICMP }
    }

    fn addr(&self, addr: u128) -> IpAddr {
        if self.v6 { IpAddr::from(addr.to_be_bytes()) } else { IpAddr::from((addr as u32).to_be_bytes()) }
    }

    pub fn src_addr(&self) -> IpAddr {
        self.addr(self.src)
    }

    pub fn dst_addr(&self) -> IpAddr {
        self.addr(self.dst)
    }

    /// The two numbers by which flows match the original direction (`ct_tp_src`, `ct_tp_dst`): ports, or ICMP's type and code.
    pub fn matchable_l4(&self) -> (u16, u16) {
        if self.is_icmp() {
            let [_, _, kind, code] = self.src_l4.to_be_bytes();
            (kind.into(), code.into())
        } else {
            (self.src_l4 as u16, self.dst_l4 as u16)
        }
    }

    /// As it is shown.
    pub fn tuple(&self) -> Tuple {
        let l4 = match Tuple::no_l4(self.proto) {
            L4::Icmp { .. } => {
                let [hi, lo, kind, code] = self.src_l4.to_be_bytes();
                L4::Icmp { id: u16::from_be_bytes([hi, lo]), kind, code }
            }
            L4::Ports { .. } => L4::Ports { src: self.src_l4 as u16, dst: self.dst_l4 as u16 },
        };
        Tuple { src: self.src_addr(), dst: self.dst_addr(), ip_proto: self.proto, l4 }
    }

    /// The key of a tuple; `None` if it mixes families or is of a type of ICMP that makes no connections.
    pub fn of(zone: Zone, tuple: &Tuple) -> Option<Self> {
        let v6 = tuple.src.is_ipv6();
        if v6 != tuple.dst.is_ipv6() {
            return None;
        }
        let (src_l4, dst_l4) = match tuple.l4 {
            L4::Icmp { id, kind, code } => icmp_ends(tuple.ip_proto == ip::ICMPV6, id, kind, code)?,
            L4::Ports { src, dst } => (src.into(), dst.into()),
        };
        let (src, dst) = (number(tuple.src), number(tuple.dst));
        Some(Self { src, dst, src_l4, dst_l4, zone: zone.0, proto: tuple.ip_proto, v6 })
    }
}

/// What of ICMP goes into the two ends of a key.
pub fn icmp_ends(v6: bool, id: u16, kind: u8, code: u8) -> Option<(u32, u32)> {
    let end = |kind: u8| u32::from(id) << 16 | u32::from(kind) << 8 | u32::from(code);
    Some((end(kind), end(icmp::reverse(v6, kind)?)))
}

/// An address as a number.
pub fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{ports, tuple};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tuples_become_keys_and_come_back() {
        let echo = L4::Icmp { id: 7, kind: 8, code: 0 };
        for tuple in [
            tuple("10.1.1.1", "10.1.1.2", 17, ports(1, 2)),
            tuple("fc00::1", "fc00::2", 6, ports(3, 80)),
            tuple("10.1.1.1", "10.1.1.2", 1, echo),
            tuple("fc00::1", "fc00::2", 58, L4::Icmp { id: 9, kind: 129, code: 0 }),
            tuple("10.1.1.1", "10.1.1.2", 47, ports(0, 0)),
        ] {
            let key = Key::of(Zone(3), &tuple).unwrap();
            assert_eq!(key.tuple(), tuple);
            assert_eq!(key.reversed().reversed(), key);
        }
        let key = Key::of(Zone(0), &tuple("1.0.0.1", "1.0.0.2", 1, echo)).unwrap();
        assert_eq!(key.matchable_l4(), (8, 0));
        assert_eq!(key.reversed().tuple().l4, L4::Icmp { id: 7, kind: 0, code: 0 });
        let unreachable = L4::Icmp { id: 7, kind: 3, code: 0 };
        assert_eq!(Key::of(Zone(0), &tuple("1.0.0.1", "1.0.0.2", 1, unreachable)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn both_directions_share_a_shard(src: u128, dst: u128, src_l4: u32, dst_l4: u32, seed: u64) {
            let key = Key { src, dst, src_l4, dst_l4, zone: 4, proto: 6, v6: true };
            let seeds = Seeds::new(seed);
            let (here, there) = key.places(&seeds);
            prop_assert_eq!(key.reversed().places(&seeds), (there, here));
            prop_assert_eq!(here.shard, there.shard);
        }
    }

    #[test]
    fn keys_spread() {
        let seeds = Seeds::new(1);
        let mut shards = [0u32; 256];
        for n in 0..256 * 64 {
            let key = Key {
                src: 0x0a00_0000 | n,
                dst: 0x0a01_0000,
                src_l4: 1000,
                dst_l4: 80,
                proto: 6,
                ..Key::default()
            };
            shards[usize::from(key.place(&seeds).shard)] += 1;
        }
        let (least, most) = (shards.iter().min().unwrap(), shards.iter().max().unwrap());
        assert!(*least > 20 && *most < 120, "{least} to {most}");
    }
}
