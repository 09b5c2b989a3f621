//! What was looked at of a packet.
//!
//! All of it belongs into the mask of the packet's datapath flow. Bits that actions only copied to a register are in it too in the
//! end, for whoever looks at the register looks at them. But as long as nobody did, they decided nothing: packets that differ in
//! them alone come to the same result. So they are kept apart until the end, which tells them.

use std::ops::{Deref, DerefMut};

use flow::field::{Field, Place, Subfield, Value};
use flow::key::{Key, Mask};
use smallvec::SmallVec;

/// Copies that are kept apart; more count as looked at.
const MAX_COPIES: usize = 16;

/// Bits of a packet's key that were only copied: words and their bits.
pub type Free = SmallVec<[(usize, u64); 2]>;

/// The bits that were looked at, as a mask, and those that were only copied.
pub struct Looked {
    mask: Box<Mask>,
    /// In the order of the actions.
    copies: SmallVec<[Copied; 2]>,
    veiled: bool,
}

struct Copied {
    src: Subfield,
    /// Of a register.
    dst: Subfield,
}

impl Default for Looked {
    fn default() -> Self {
        Self::new(Mask::boxed())
    }
}

impl Deref for Looked {
    type Target = Mask;

    fn deref(&self) -> &Mask {
        &self.mask
    }
}

impl DerefMut for Looked {
    fn deref_mut(&mut self) -> &mut Mask {
        &mut self.mask
    }
}

impl Looked {
    /// This was looked at.
    pub fn new(mask: Box<Mask>) -> Self {
        Self { mask, copies: SmallVec::new(), veiled: false }
    }

    /// Notes that bits were copied.
    pub fn copy(&mut self, src: &Subfield, dst: &Subfield) {
        let apart = is_register(dst.field) && (is_register(src.field) || is_plain(src.field));
        if apart && self.copies.len() < MAX_COPIES {
            return self.copies.push(Copied { src: *src, dst: *dst });
        }
        src.mask_bits(&mut self.mask);
        self.write(dst);
    }

    /// Notes that bits were set.
    pub fn write(&mut self, dst: &Subfield) {
        if is_kept(dst.field) {
            dst.mask_bits(&mut self.mask);
        }
    }

    /// Notes that those of these bits of a field were set.
    pub fn set(&mut self, field: Field, bits: &Value) {
        if is_kept(field) {
            field.mask_bits(&mut self.mask, bits);
        }
    }

    /// Whether what was looked at is enough for something, with what was copied; which counts as looked at if it takes that.
    pub fn is_enough(&mut self, enough: impl Fn(&Mask) -> bool) -> bool {
        if enough(&self.mask) {
            return true;
        }
        if self.copies.is_empty() {
            return false;
        }
        let mut all = self.mask.clone();
        self.copies.iter().for_each(|copy| copy.src.mask_bits(&mut all));
        let is_enough = enough(&all);
        if is_enough {
            self.mask = all;
            self.copies.clear();
        }
        is_enough
    }

    /// Notes whether bits that are in no mask decided which were looked at to exclude a rule.
    pub fn veil(&mut self, veiled: bool) {
        self.veiled |= veiled;
    }

    /// Whether packets that agree in all that was looked at may have other masks.
    pub fn is_veiled(&self) -> bool {
        self.veiled
    }

    /// Counts as looked at what was copied.
    pub fn unite(&mut self) {
        for copy in self.copies.drain(..) {
            copy.src.mask_bits(&mut self.mask);
        }
    }

    /// Counts as looked at what was copied of fields in which two keys differ.
    pub fn unite_changed(&mut self, key: &Key, base: &Key) {
        let mask = &mut self.mask;
        self.copies.retain(|copy| {
            let src = &copy.src;
            let changed = !is_register(src.field) && src.field.get(key) != src.field.get(base);
            if changed {
                src.mask_bits(mask);
            }
            !changed
        });
    }

    /// At the end: all that was looked at or copied goes into the mask. Gives what of it was only copied, to where nobody looked.
    pub fn finish(&mut self) -> Free {
        let mut free = Free::new();
        if self.copies.is_empty() {
            return free;
        }
        // Who looks at a copy of a copy looks at the copy.
        for at in (0..self.copies.len()).rev() {
            let Copied { src, dst } = &self.copies[at];
            if !dst.get(&self.mask.0).is_zero() {
                src.mask_bits(&mut self.mask);
            }
        }
        for copy in self.copies.drain(..).filter(|copy| !is_register(copy.src.field)) {
            let Some(bytes) = copy.src.field.info().place.be_bytes() else { continue };
            let words = bytes.start / 8..bytes.end.div_ceil(8);
            let before: SmallVec<[u64; 3]> = self.mask.0.words()[words.clone()].into();
            copy.src.mask_bits(&mut self.mask);
            let pairs = words.clone().zip(before).zip(&self.mask.0.words()[words]);
            free.extend(
                pairs.map(|((at, before), &after)| (at, after & !before)).filter(|(_, bits)| *bits != 0),
            );
        }
        free
    }

    /// The mask.
    pub fn into_mask(self) -> Box<Mask> {
        self.mask
    }
}

/// Whether what was in a field decides what a datapath does to set it. Registers it does not know, and outer headers it makes anew.
fn is_kept(field: Field) -> bool {
    !field.is_tunnel() && !is_register(field)
}

fn is_register(field: Field) -> bool {
    matches!(field.info().place, Place::Regs { .. })
}

/// Whether actions set the field by itself, from whole bytes of a packet's header that have no other name.
fn is_plain(field: Field) -> bool {
    use Field::*;
    matches!(
        field,
        EthSrc
            | EthDst
            | Ipv4Src
            | Ipv4Dst
            | Ipv6Src
            | Ipv6Dst
            | ArpSpa
            | ArpTpa
            | ArpSha
            | ArpTha
            | TcpSrc
            | TcpDst
            | UdpSrc
            | UdpDst
            | SctpSrc
            | SctpDst
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(text: &str) -> Subfield {
        Subfield::parse(text).expect("a field")
    }

    /// Words and their bits.
    type Words = Vec<(usize, u64)>;

    /// What is in the mask in the end, and which of it was only copied.
    fn end(mut looked: Looked) -> (Words, Words) {
        let free = looked.finish().into_vec();
        let mut mask = looked.into_mask();
        mask.0.regs = [0; flow::key::REGS];
        let words = mask.0.words().iter().copied().enumerate().filter(|(_, word)| *word != 0);
        (words.collect(), free)
    }

    fn bits(texts: &[&str]) -> Words {
        let mut mask = Looked::default();
        texts.iter().for_each(|text| sub(text).mask_bits(&mut mask));
        end(mask).0
    }

    fn copied(copies: &[(&str, &str)]) -> Looked {
        let mut looked = Looked::default();
        copies.iter().for_each(|(src, dst)| looked.copy(&sub(src), &sub(dst)));
        looked
    }

    #[test]
    fn what_was_only_copied_is_told() {
        let src = bits(&["ip_src"]);
        assert_eq!(end(copied(&[("ip_src", "reg0")])), (src.clone(), src.clone()));
        let ends = [("ipv6_dst[8..71]", "xxreg1[0..63]")];
        assert_eq!(end(copied(&ends)), (bits(&["ipv6_dst[8..71]"]), bits(&["ipv6_dst[8..71]"])));
        // To a header, and from what more than one field names.
        assert_eq!(end(copied(&[("ip_src", "ip_dst")])), (bits(&["ip_src", "ip_dst"]), vec![]));
        assert_eq!(end(copied(&[("ip_dscp", "reg0[0..5]")])), (bits(&["ip_dscp"]), vec![]));
        // Somebody looked at the other half of the register; at this half; at a copy of it.
        let copy = [("ip_src[0..15]", "reg0[0..15]"), ("reg0[0..15]", "reg3[16..31]")];
        let half = bits(&["ip_src[0..15]"]);
        for (seen, free) in [("reg0[16..31]", &*half), ("reg0[15]", &[]), ("reg3[31]", &[]), ("ip_src", &[])]
        {
            let mut looked = copied(&copy);
            sub(seen).mask_bits(&mut looked);
            let all = if seen == "ip_src" { bits(&["ip_src"]) } else { half.clone() };
            assert_eq!(end(looked), (all, free.to_vec()), "{seen}");
        }
        let mut looked = copied(&[("ip_src", "reg0")]);
        looked.unite();
        assert_eq!(end(looked), (src.clone(), vec![]));
        let many = vec![("ip_src", "reg0"); MAX_COPIES + 1];
        assert_eq!(end(copied(&many)), (src.clone(), vec![]));
    }

    #[test]
    fn what_is_relied_on_was_looked_at() {
        let has = |mask: &Mask| mask.0.nw_src.get() >> 24 == 0xff;
        let mut looked = copied(&[("ip_src[0..15]", "reg0[0..15]")]);
        assert!(!looked.is_enough(has));
        assert_eq!(end(looked).1, bits(&["ip_src[0..15]"]));
        let mut looked = copied(&[("ip_src", "reg0"), ("ip_dst", "reg1")]);
        assert!(looked.is_enough(has));
        assert_eq!(end(looked), (bits(&["ip_src", "ip_dst"]), vec![]));
        let (key, mut base) = (Key::default(), Key::default());
        base.nw_src = 1.into();
        let mut looked = copied(&[("ip_src", "reg0"), ("ip_dst", "reg1")]);
        looked.unite_changed(&key, &base);
        assert_eq!(end(looked), (bits(&["ip_src", "ip_dst"]), bits(&["ip_dst"])));
    }
}
