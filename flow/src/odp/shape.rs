//! Masks as attributes, made once for all flows of the same mask whose keys call for the same attributes.
//!
//! A mask has the attributes that its key has. What decides which these are is little of the key ([`Shape`]), and equal for most
//! packets of a protocol. So of many flows that are written together, few masks differ ([`Masks`]).

use core::mem::offset_of;

use super::RawMask;
use crate::key::{Key, MAX_VLANS, Tunnel, Vlan, frag};
use crate::mini::Midi;
use crate::proto::{ethertype, ip};
use crate::recent::Recent;

/// `bytes` at `offset` of a key: the word that they are in, and they in it.
const fn at(offset: usize, bytes: &[u8]) -> (usize, u64) {
    let (mut word, mut n) = ([0; 8], 0);
    while n < bytes.len() {
        word[offset % 8 + n] = bytes[n];
        n += 1;
    }
    (offset / 8, u64::from_ne_bytes(word))
}

const ALL: [u8; 8] = [u8::MAX; 8];
const TUNNEL: usize = offset_of!(Key, tunnel);
const VLANS: usize = offset_of!(Key, vlans);
const TCI: usize = offset_of!(Vlan, tci);

const DL_TYPE: (usize, u64) = at(offset_of!(Key, dl_type), ALL.split_at(2).0);
const PROTO: (usize, u64) = at(offset_of!(Key, nw_proto), ALL.split_at(1).0);
/// ICMP type and code, which tell of neighbor discovery.
const ICMP: (usize, u64) = at(offset_of!(Key, tp_src), ALL.split_at(4).0);
const IPV6: (usize, u64) = at(offset_of!(Key, dl_type), &ethertype::IPV6.to_be_bytes());
const ICMPV6: (usize, u64) = at(offset_of!(Key, nw_proto), &[ip::ICMPV6]);

/// What counts as it is.
const VALUES: [(usize, u64); 8] = [
    at(TUNNEL + offset_of!(Tunnel, flags), ALL.split_at(2).0),
    // A mask has as many options as the key.
    at(TUNNEL + offset_of!(Tunnel, opt_present), &ALL),
    at(offset_of!(Key, packet_type), ALL.split_at(4).0),
    DL_TYPE,
    at(offset_of!(Key, mpls_lse), &ALL),
    at(offset_of!(Key, mpls_lse) + 8, &ALL),
    at(offset_of!(Key, nw_frag), &[frag::LATER]),
    PROTO,
];

/// What counts as being zero or not.
const PRESENT: [(usize, u64); 1 + MAX_VLANS] = [
    at(offset_of!(Key, ct_nw_proto), ALL.split_at(1).0),
    at(VLANS + TCI, ALL.split_at(2).0),
    at(VLANS + size_of::<Vlan>() + TCI, ALL.split_at(2).0),
];

/// All of a key that decides how a mask over it is written, for one datapath.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    values: [u64; VALUES.len()],
    present: [bool; PRESENT.len()],
    icmp: u64,
    vlan_limit: usize,
}

impl Shape {
    /// That of a key, of whose VLAN tags the switch looks at so many.
    pub fn of(key: &Key, vlan_limit: usize) -> Self {
        let words = key.words();
        Self::new(&|index| words[index], vlan_limit)
    }

    /// That of a key that is stored.
    pub fn of_stored(key: &Midi, vlan_limit: usize) -> Self {
        Self::new(&|index| key.get(index), vlan_limit)
    }

    fn new(word: &impl Fn(usize) -> u64, vlan_limit: usize) -> Self {
        let value = |(index, bits): (usize, u64)| word(index) & bits;
        let is_icmpv6 = value(DL_TYPE) == IPV6.1 && value(PROTO) == ICMPV6.1;
        Self {
            values: VALUES.map(value),
            present: PRESENT.map(|place| value(place) != 0),
            icmp: if is_icmpv6 { value(ICMP) } else { 0 },
            vlan_limit,
        }
    }
}

/// Masks that are kept.
const KEPT: usize = 8;

/// The masks that were made last of keys for one datapath; `M` is what a mask is known by.
#[derive(Debug)]
pub struct Masks<M>(Recent<(Shape, M, RawMask), KEPT>);

impl<M> Default for Masks<M> {
    fn default() -> Self {
        Self(Recent::default())
    }
}

impl<M: Clone + PartialEq> Masks<M> {
    /// A mask over a key of this shape, made by `make` if there is none.
    pub fn find(&mut self, shape: &Shape, mask: &M, make: impl FnOnce() -> RawMask) -> RawMask {
        if let Some((.., raw)) = self.0.find(|(its, of, _)| its == shape && of == mask) {
            return raw.clone();
        }
        let raw = make();
        self.0.add((*shape, mask.clone(), raw.clone()));
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(src: u32) -> Key {
        let (dl_type, nw_proto) = (ethertype::IPV4.into(), ip::UDP);
        Key { dl_type, nw_proto, nw_src: src.into(), tp_src: (src as u16).into(), ..Key::default() }
    }

    #[test]
    fn what_a_mask_does_not_show_is_of_no_shape() {
        let shape = |key: &Key| Shape::of_stored(&Midi::new(key), MAX_VLANS);
        let one = datagram(1);
        assert_eq!(shape(&one), shape(&datagram(2)));
        assert_eq!(shape(&one), Shape::of(&one, MAX_VLANS));
        assert_ne!(shape(&one), Shape::of(&one, 1));
        let tagged = |tci: u16| {
            let mut key = one;
            key.vlans[0].tci = tci.into();
            shape(&key)
        };
        assert_eq!(tagged(0x1001), tagged(0x1002));
        assert_ne!(tagged(0x1001), tagged(0));
        let icmp = |dl_type: u16, kind: u16| {
            let mut key = one;
            (key.dl_type, key.nw_proto, key.tp_src) = (dl_type.into(), ip::ICMPV6, kind.into());
            shape(&key)
        };
        assert_ne!(icmp(ethertype::IPV6, 135), icmp(ethertype::IPV6, 1));
        assert_eq!(icmp(ethertype::IPV4, 135), icmp(ethertype::IPV4, 1));
    }

    #[test]
    fn masks_are_made_once_while_they_are_kept() {
        let (mut masks, mut made) = (Masks::default(), Vec::new());
        let shape = Shape::of(&datagram(1), 1);
        let mut find = |mask: usize| {
            let raw = masks.find(&shape, &mask, || {
                made.push(mask);
                RawMask([mask as u8].as_slice().into())
            });
            assert_eq!(*raw.0, [mask as u8]);
        };
        (0..KEPT).chain(0..KEPT).for_each(&mut find);
        // The first made goes first.
        [KEPT, 1, 0, 2, 0, 1].into_iter().for_each(&mut find);
        let expected = (0..=KEPT).chain([0, 1]).collect::<Vec<_>>();
        assert_eq!(made, expected);
    }
}
