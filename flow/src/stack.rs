//! VLAN tags and MPLS labels of a key: counting, pushing and popping.
//!
//! Functions with a mask make significant what their result depends on.

use crate::key::{Key, MAX_MPLS, MAX_VLANS, Mask, VLAN_CFI, Vlan};
use crate::proto::ethertype;
use zerocopy::big_endian::{U16, U32};

/// The bottom-of-stack bit of a label stack entry.
pub const MPLS_BOS: u32 = 0x100;

const EXACT_VLAN: Vlan = Vlan { tpid: U16::MAX_VALUE, tci: U16::MAX_VALUE };

/// VLAN tags of `key`.
pub fn vlans(key: &Key) -> usize {
    key.vlans.iter().take_while(|vlan| vlan.tci.get() & VLAN_CFI != 0).count()
}

/// Makes room for an outer tag, which is absent until it is set.
pub fn push_vlan(key: &mut Key, mask: Option<&mut Mask>) {
    if let Some(mask) = mask {
        mask.0.vlans[..vlans(key)].fill(EXACT_VLAN);
    }
    key.vlans.copy_within(..MAX_VLANS - 1, 1);
    key.vlans[0] = Vlan::default();
}

/// Removes the outer tag, if there is one.
pub fn pop_vlan(key: &mut Key, mask: Option<&mut Mask>) {
    let count = vlans(key);
    if let Some(mask) = mask.filter(|_| count > 1) {
        mask.0.vlans[1..count].fill(EXACT_VLAN);
    }
    key.vlans.copy_within(1.min(count)..count, 0);
    if let Some(last) = count.checked_sub(1) {
        key.vlans[last] = Vlan::default();
    }
}

/// MPLS labels of `key`, as far as the key goes.
pub fn labels(key: &Key, mut mask: Option<&mut Mask>) -> usize {
    if !ethertype::is_mpls(key.dl_type.get()) {
        return 0;
    }
    let mut count = 0;
    for (place, lse) in key.mpls_lse[..MAX_MPLS].iter().enumerate() {
        if let Some(mask) = mask.as_deref_mut() {
            mask.0.mpls_lse[place] |= U32::new(MPLS_BOS);
        }
        if lse.get() & MPLS_BOS != 0 {
            return place + 1;
        }
        count += usize::from(lse.get() != 0);
    }
    count
}

/// How many of the innermost labels of `a` and `b` are equal, of `a_count` and `b_count` that they have.
pub fn common_labels(a: &Key, a_count: usize, b: &Key, b_count: usize, mut mask: Option<&mut Mask>) -> usize {
    let mut common = 0;
    for (place_a, place_b) in (0..a_count).rev().zip((0..b_count).rev()) {
        if let Some(mask) = mask.as_deref_mut() {
            mask.0.mpls_lse[place_a] = U32::MAX_VALUE;
        }
        if a.mpls_lse[place_a] != b.mpls_lse[place_b] {
            break;
        }
        common += 1;
    }
    common
}

/// Pushes a label onto the `count` labels of `key`; it copies the label below, or takes class and TTL from the IP
/// header. Labels beyond [`MAX_MPLS`] are lost. `clear` forgets everything above L2, as a packet's new meaning asks.
pub fn push_label(key: &mut Key, count: usize, dl_type: u16, mask: Option<&mut Mask>, clear: bool) {
    if count > 0 {
        let kept = count.min(MAX_MPLS - 1);
        if let Some(mask) = mask {
            mask.0.mpls_lse[..count.min(MAX_MPLS)].fill(U32::MAX_VALUE);
        }
        key.mpls_lse.copy_within(..kept, 1);
        key.mpls_lse[0] = U32::new(key.mpls_lse[1].get() & !MPLS_BOS);
    } else {
        let label = if key.dl_type.get() == ethertype::IPV6 { 2 } else { 0 };
        let (mut class, mut ttl) = (0, 64);
        if ethertype::is_ip(key.dl_type.get()) {
            class = u32::from(key.nw_tos & 0xfc) >> 2;
            if let Some(mask) = mask {
                mask.0.nw_tos |= 0xfc;
                mask.0.nw_ttl = 0xff;
            }
            if key.nw_ttl != 0 {
                ttl = u32::from(key.nw_ttl);
            }
        }
        key.mpls_lse[0] = U32::new(label << 12 | (class & 7) << 9 | MPLS_BOS | ttl);
        if clear {
            let lse = key.mpls_lse;
            key.words_mut()[Key::SEGMENTS[1]..].fill(0);
            key.mpls_lse = lse;
            key.dp_hash = 0;
        }
    }
    key.dl_type = U16::new(dl_type);
}

/// Pops the outer of `count` labels; what is left has type `dl_type`. False if there is none, or if the key does not
/// know the label that would come into view.
pub fn pop_label(key: &mut Key, count: usize, dl_type: u16, mut mask: Option<&mut Mask>) -> bool {
    let Some(last) = count.checked_sub(1) else { return false };
    if count == MAX_MPLS {
        if let Some(mask) = mask.as_deref_mut() {
            mask.0.mpls_lse[last] |= U32::new(MPLS_BOS);
        }
        if key.mpls_lse[last].get() & MPLS_BOS == 0 {
            return false;
        }
    }
    if let Some(mask) = mask {
        mask.0.mpls_lse[1..count].fill(U32::MAX_VALUE);
    }
    key.mpls_lse.copy_within(1..count, 0);
    key.mpls_lse[last] = U32::ZERO;
    key.dl_type = U16::new(dl_type);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(vid: u16) -> Vlan {
        Vlan { tpid: U16::new(0x8100), tci: U16::new(VLAN_CFI | vid) }
    }

    #[test]
    fn vlan_tags_move() {
        let mut key = Key { vlans: [tag(1), Vlan::default()], ..Key::default() };
        let mut mask = Mask::default();
        push_vlan(&mut key, Some(&mut mask));
        key.vlans[0] = tag(2);
        assert_eq!((key.vlans, vlans(&key)), ([tag(2), tag(1)], 2));
        assert_eq!(mask.0.vlans, [EXACT_VLAN, Vlan::default()]);
        pop_vlan(&mut key, None);
        assert_eq!(key.vlans, [tag(1), Vlan::default()]);
        pop_vlan(&mut key, None);
        pop_vlan(&mut key, None);
        assert_eq!(vlans(&key), 0);
    }

    #[test]
    fn labels_move() {
        let mut key = Key { dl_type: U16::new(0x0800), nw_tos: 0x20, nw_ttl: 7, ..Key::default() };
        push_label(&mut key, 0, 0x8847, None, true);
        assert_eq!((key.mpls_lse[0].get(), key.nw_ttl), (MPLS_BOS | 7, 0));
        push_label(&mut key, 1, 0x8847, None, true);
        assert_eq!((key.mpls_lse[0].get(), labels(&key, None)), (7, 2));
        let other = Key {
            dl_type: U16::new(0x8847),
            mpls_lse: [key.mpls_lse[1], U32::ZERO, U32::ZERO, U32::ZERO],
            ..key
        };
        assert_eq!(common_labels(&key, 2, &other, 1, None), 1);
        assert!(pop_label(&mut key, 2, 0x8847, None) && key.mpls_lse == other.mpls_lse);
        assert!(pop_label(&mut key, 1, 0x0800, None) && !pop_label(&mut key, 0, 0, None));
        key.dl_type = U16::new(0x8847);
        key.mpls_lse = [U32::new(1 << 12); 4];
        assert!(!pop_label(&mut key, 3, 0x0800, None));
    }
}
