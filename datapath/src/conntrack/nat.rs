//! Address translation: which addresses and ports a new connection is given.
//!
//! The address comes of a hash, so that a host keeps its address while the range stays; so does the port, unless it shall
//! be random. With `persistent` the hash is of the source address alone and of no secret: it survives restarts. What a choice must
//! not do is to make two connections with the same answers, so choices are offered until one is free.

use super::key::{Key, number};
use ::flow::action::{Nat as NatAction, NatKind};
use ::flow::hash::{add, finish};
use ::flow::proto::ethertype;
use std::net::IpAddr;

/// Ports that are tried in one go, and the fewest after which a new beginning is worth it.
const TRIES: u32 = 128;
const FEW: u32 = 16;

/// The `nat` part of a `ct` action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nat {
    /// Without, translations that are there are applied and none is made.
    pub kind: Option<NatKind>,
    /// Of one family; `None` leaves the address as it is.
    addrs: Option<(IpAddr, IpAddr)>,
    ports: Option<(u16, u16)>,
    persistent: bool,
    random: bool,
}

impl Nat {
    pub fn new(action: &NatAction) -> Self {
        let range = &action.range;
        let given = |addr: &IpAddr| !addr.is_unspecified();
        let addrs = range.ip_min.filter(given).map(|min| (min, range.ip_max.unwrap_or(min)));
        let ports = (range.proto_min.is_some() || range.proto_max.is_some()).then(|| {
            let min = range.proto_min.unwrap_or(0);
            (min, range.proto_max.unwrap_or(min).max(min))
        });
        Self { kind: action.kind, addrs, ports, persistent: action.persistent, random: action.proto_random }
    }

    /// Offers keys of answers to `free` until it takes one.
    ///
    /// `basis` is the tracker's secret, not 0.
    pub fn choose(
        &self,
        kind: NatKind,
        orig: &Key,
        basis: u32,
        random: &mut dyn FnMut() -> u32,
        mut free: impl FnMut(&Key) -> bool,
    ) -> Option<Key> {
        let hash = self.hash(orig, if self.persistent { 0 } else { basis });
        let addr = self.address(kind, orig, hash)?;
        let mut reply = orig.reversed();
        match kind {
            NatKind::Src => reply.dst = addr,
            NatKind::Dst => reply.src = addr,
        }
        if !orig.has_ports() {
            return free(&reply).then_some(reply);
        }
        let offset = if self.random { random() } else { self.hash(orig, basis) };
        if let (NatKind::Dst, Some(range)) = (kind, self.ports) {
            let first = at_offset(range, offset);
            if seek(first, range, random, |port| {
                reply.src_l4 = port.into();
                free(&reply)
            }) {
                return Some(reply);
            }
            reply.src_l4 = first.into();
        }
        // Where the destination is translated the source's port changes only to tell connections apart.
        let (first, range) = match (kind, self.ports) {
            (NatKind::Src, Some(range)) => (at_offset(range, offset), range),
            _ => (orig.src_l4 as u16, like(orig.src_l4 as u16)),
        };
        let found = seek(first, range, random, |port| {
            reply.dst_l4 = port.into();
            free(&reply)
        });
        found.then_some(reply)
    }

    /// The address to translate to; `None` if the range is of the other family.
    fn address(&self, kind: NatKind, orig: &Key, hash: u32) -> Option<u128> {
        /// Addresses beyond these are never chosen.
        const MOST: u128 = 0xffff_fffe;
        let Some((min, max)) = self.addrs else {
            return Some(match kind {
                NatKind::Src => orig.src,
                NatKind::Dst => orig.dst,
            });
        };
        if min.is_ipv6() != orig.v6 || max.is_ipv6() != orig.v6 {
            return None;
        }
        let (min, max) = (number(min), number(max));
        let more =
            if orig.v6 { max.checked_sub(min).unwrap_or(MOST).min(MOST) } else { max.saturating_sub(min) };
        Some(min + u128::from(hash) % (more + 1))
    }

    /// The hash that OVS chooses by.
    fn hash(&self, orig: &Key, basis: u32) -> u32 {
        let (min, max) = self.addrs.map_or((0, 0), |(min, max)| (number(min), number(max)));
        let (min_port, max_port) = self.ports.unwrap_or((0, 0));
        let hash = if basis == 0 {
            add_addr(basis, orig.v6, orig.src)
        } else {
            let src = add_end(basis, orig, orig.src, orig.src_l4);
            add_end(src, orig, orig.dst, orig.dst_l4)
        };
        let hash = add_addr(add_addr(hash, orig.v6, min), orig.v6, max);
        let hash = add(hash, u32::from(max_port) << 16 | u32::from(min_port));
        let dl_type = if orig.v6 { ethertype::IPV6 } else { ethertype::IPV4 };
        let hash = add(hash, u16::from_ne_bytes(dl_type.to_be_bytes()).into());
        finish(add(add(hash, orig.proto.into()), orig.zone.into()), 0)
    }
}

fn add_addr(hash: u32, v6: bool, addr: u128) -> u32 {
    let addr = if v6 { addr } else { addr << 96 };
    let bytes = addr.to_be_bytes();
    bytes.as_chunks::<4>().0.iter().fold(hash, |hash, &word| add(hash, u32::from_ne_bytes(word)))
}

fn add_end(hash: u32, key: &Key, addr: u128, l4: u32) -> u32 {
    let l4 = if key.is_icmp() { l4 } else { l4 << 16 };
    add(add_addr(hash, key.v6, addr), u32::from_ne_bytes(l4.to_be_bytes()))
}

fn at_offset((min, max): (u16, u16), offset: u32) -> u16 {
    (u32::from(min) + offset % (u32::from(max - min) + 1)) as u16
}

/// Ports that a host expects to be treated as it treats `port`.
const fn like(port: u16) -> (u16, u16) {
    match port {
        ..512 => (1, 511),
        512..1024 => (600, 1023),
        1024.. => (1024, u16::MAX),
    }
}

/// Tries the ports of a range from `first`, which may lie outside of it; in a large range only some of them, then fewer from
/// another place, and so on. Whether one was taken.
fn seek(
    first: u16,
    (min, max): (u16, u16),
    random: &mut dyn FnMut() -> u32,
    mut take: impl FnMut(u16) -> bool,
) -> bool {
    let ports = u32::from(max - min) + 1;
    let mut tries = ports.min(TRIES);
    let mut port = first;
    loop {
        for _ in 0..tries {
            if take(port) {
                return true;
            }
            port = if (min..max).contains(&port) { port + 1 } else { min };
        }
        if tries >= ports || tries < FEW {
            return false;
        }
        tries /= 2;
        port = at_offset((min, max), random());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::frames::key;
    use super::*;
    use ::flow::action::NatRange;
    use proptest::prelude::*;

    fn nat(kind: NatKind, ips: Option<(&str, &str)>, ports: Option<(u16, u16)>) -> Nat {
        let (ip_min, ip_max) = ips.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unzip();
        let (proto_min, proto_max) = ports.unzip();
        let range = NatRange { ip_min, ip_max, proto_min, proto_max };
        Nat::new(&NatAction { kind: Some(kind), range, ..NatAction::default() })
    }

    fn choose(nat: &Nat, orig: &Key, taken: &dyn Fn(&Key) -> bool) -> Option<Key> {
        let mut seed = 5u32;
        let mut random = || {
            seed = seed.wrapping_mul(0x915f_77f5).wrapping_add(1);
            seed
        };
        nat.choose(nat.kind.unwrap(), orig, 77, &mut random, |key| !taken(key))
    }

    #[test]
    fn addresses_are_hashed_into_their_range() {
        let nat = nat(NatKind::Src, Some(("10.1.1.240", "10.1.1.255")), None);
        let mut seen = std::collections::BTreeSet::new();
        for port in 2000..2200 {
            let orig = key("10.1.1.1", port, "10.1.1.2", 80, 6);
            let reply = choose(&nat, &orig, &|_| false).unwrap();
            assert!((0x0a01_01f0..=0x0a01_01ff).contains(&reply.dst), "{reply:?}");
            assert_eq!(reply, Key { dst: reply.dst, ..orig.reversed() });
            seen.insert(reply.dst);
        }
        assert_eq!(seen.len(), 16);
        let six = key("fc00::1", 1, "", 2, 6);
        assert_eq!(choose(&nat, &six, &|_| false), None);
    }

    #[test]
    fn persistent_choices_ignore_ports_and_secrets() {
        let mut nat = nat(NatKind::Src, Some(("fc00::100", "fc00::1ff")), None);
        nat.persistent = true;
        let reply = |port, basis| {
            let orig = key("fc00::1", port, "", 80, 17);
            nat.choose(NatKind::Src, &orig, basis, &mut || 0, |_| true).unwrap().dst
        };
        assert_eq!(reply(1000, 7), reply(2000, 9));
    }

    #[test]
    fn ports_that_are_taken_are_passed_over() {
        let nat_src = nat(NatKind::Src, Some(("10.1.1.240", "10.1.1.240")), Some((1, 4)));
        let orig = key("10.1.1.1", 3000, "10.1.1.2", 80, 17);
        for free in 1..=4 {
            let reply = choose(&nat_src, &orig, &|key| key.dst_l4 != free).unwrap();
            assert_eq!(reply.dst_l4, free);
        }
        assert_eq!(choose(&nat_src, &orig, &|_| true), None);
        // A privileged port stays one; the destination's range is left alone first, then the source's port gives way.
        let nat_dst = nat(NatKind::Dst, Some(("10.1.1.240", "10.1.1.240")), Some((80, 81)));
        let orig = key("10.1.1.1", 511, "10.1.1.2", 8080, 17);
        let reply = choose(&nat_dst, &orig, &|key| key.dst_l4 == 511).unwrap();
        assert!((80..=81).contains(&reply.src_l4) && reply.dst_l4 == 1, "{reply:?}");
        let plain = nat(NatKind::Src, None, None);
        let orig = key("10.1.1.1", 1000, "10.1.1.2", 80, 17);
        assert_eq!(choose(&plain, &orig, &|_| false), Some(orig.reversed()));
        assert_eq!(choose(&plain, &orig, &|key| key.dst_l4 == 1000).unwrap().dst_l4, 1001);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn only_ports_of_the_range_and_not_too_many(first: u16, a: u16, b: u16, seed: u32) {
            let range = (a.min(b), a.max(b));
            let (mut tried, mut random) = (Vec::new(), seed);
            seek(first, range, &mut || { random = random.wrapping_mul(5).wrapping_add(1); random }, |port| {
                tried.push(port);
                false
            });
            prop_assert!(tried.len() <= 128 + 64 + 32 + 16 + 8);
            prop_assert!(tried[1..].iter().all(|port| (range.0..=range.1).contains(port)));
            if range.1 - range.0 < 127 {
                tried.sort_unstable();
                tried.dedup();
                let most = usize::from(range.1 - range.0) + 1;
                prop_assert!(tried.len() >= most - 1);
            }
        }
    }
}
