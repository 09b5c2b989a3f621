//! Prefix tries: which prefix lengths of a field have rules, and how much of a packet's value tells so.
//!
//! A trie is persistent: the writer builds a changed path and publishes a new root, so that readers are never
//! blocked and see one state. Values are left-aligned in 128 bits (bit 0 is the first bit on the wire).

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// A left-aligned prefix: `len` significant bits of `bits`, 1 to 128; the others are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    bits: u128,
    len: u8,
}

impl Prefix {
    /// The first `len` bits of `value`; `len` is 0 to 128.
    pub fn new(value: u128, len: u8) -> Self {
        Self { bits: value & ones(len), len }
    }

    /// The first `n` bits.
    fn head(self, n: u8) -> Self {
        Self::new(self.bits, n)
    }

    /// What follows the first `n` bits.
    fn tail(self, n: u8) -> Self {
        Self { bits: self.bits.checked_shl(u32::from(n)).unwrap_or(0), len: self.len - n }
    }

    /// Which of two children a walk follows next.
    fn branch(self) -> usize {
        usize::from(self.bits >> 127 != 0)
    }

    /// How many leading bits are equal in both.
    fn common(self, other: Self) -> u8 {
        let equal = u8::try_from((self.bits ^ other.bits).leading_zeros()).expect("at most 128");
        equal.min(self.len).min(other.len)
    }

    /// This prefix followed by `next`.
    fn join(self, next: Self) -> Self {
        let shifted = next.bits.checked_shr(u32::from(self.len)).unwrap_or(0);
        Self { bits: self.bits | shifted, len: self.len + next.len }
    }
}

/// The first `n` bits set; `n` is 0 to 128.
fn ones(n: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(n)).unwrap_or(0)
}

#[derive(Clone)]
struct Node {
    /// Bits from the parent to here; empty for a branching root only.
    prefix: Prefix,
    /// Rules whose prefix ends here.
    rules: u32,
    children: [Option<Arc<Node>>; 2],
}

impl Node {
    fn leaf(prefix: Prefix) -> Arc<Self> {
        Arc::new(Self { prefix, rules: 1, children: [None, None] })
    }

    fn is_leaf(&self) -> bool {
        self.children.iter().all(Option::is_none)
    }
}

/// What a lookup says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Bit N-1: rules may exist whose prefix of N bits is the value's.
    lengths: u128,
    /// How many leading bits of the value must be known for `lengths` to be so.
    pub bits: u8,
}

impl Found {
    /// For a packet that lacks the field: every prefix is possible.
    pub const ANY: Self = Self { lengths: u128::MAX, bits: 0 };

    /// Whether rules with a prefix of `len` bits (at least 1) may match.
    pub fn may_match(self, len: u8) -> bool {
        self.lengths >> (len - 1) & 1 != 0
    }
}

/// A trie, shared by one writer and many readers.
#[derive(Default)]
pub struct Trie(ArcSwapOption<Node>);

impl Trie {
    /// Adds one rule with `prefix`, which is not empty.
    pub fn insert(&self, prefix: Prefix) {
        let root = self.0.load_full();
        self.0.store(Some(inserted(root.as_ref(), prefix)));
    }

    /// Takes away one rule that was inserted with `prefix`.
    pub fn remove(&self, prefix: Prefix) {
        let Some(root) = self.0.load_full() else { return };
        self.0.store(removed(&root, prefix));
    }

    /// What is known of `value`, `width` bits wide.
    pub fn lookup(&self, value: u128, width: u8) -> Found {
        let root = self.0.load();
        let mut found = Found { lengths: 0, bits: 0 };
        let mut rest = Prefix::new(value, width);
        let mut node = root.as_ref();
        let mut branched = false;
        while let Some(here) = node {
            let equal = here.prefix.common(rest);
            found.bits += equal;
            if equal < here.prefix.len {
                // The first bit that differs settles it.
                found.bits += 1;
                return found;
            }
            if here.rules > 0 && found.bits > 0 {
                found.lengths |= 1 << (found.bits - 1);
            }
            if found.bits >= width {
                return found;
            }
            rest = rest.tail(equal);
            branched = !here.is_leaf();
            node = here.children[rest.branch()].as_ref();
        }
        // There is no such branch, but there is the other one: its first bit has to be known to exclude it.
        found.bits += u8::from(branched);
        found
    }
}

fn inserted(node: Option<&Arc<Node>>, prefix: Prefix) -> Arc<Node> {
    let Some(node) = node else { return Node::leaf(prefix) };
    let equal = node.prefix.common(prefix);
    let rest = prefix.tail(equal);
    if equal < node.prefix.len {
        let mut below = Node::clone(node);
        below.prefix = node.prefix.tail(equal);
        let side = below.prefix.branch();
        let mut children = [None, None];
        children[side] = Some(Arc::new(below));
        let ends_here = rest.len == 0;
        if !ends_here {
            children[1 - side] = Some(Node::leaf(rest));
        }
        return Arc::new(Node { prefix: node.prefix.head(equal), rules: ends_here.into(), children });
    }
    let mut changed = Node::clone(node);
    if rest.len == 0 {
        changed.rules += 1;
    } else {
        let child = &mut changed.children[rest.branch()];
        *child = Some(inserted(child.as_ref(), rest));
    }
    Arc::new(changed)
}

fn removed(node: &Arc<Node>, prefix: Prefix) -> Option<Arc<Node>> {
    let equal = node.prefix.common(prefix);
    if equal < node.prefix.len {
        return Some(Arc::clone(node));
    }
    let rest = prefix.tail(equal);
    let mut changed = Node::clone(node);
    if rest.len == 0 {
        changed.rules = changed.rules.saturating_sub(1);
    } else {
        let child = &mut changed.children[rest.branch()];
        *child = child.as_ref().and_then(|child| removed(child, rest));
    }
    if changed.rules > 0 {
        return Some(Arc::new(changed));
    }
    match &changed.children {
        [None, None] => None,
        [Some(only), None] | [None, Some(only)] => {
            let mut merged = Node::clone(only);
            merged.prefix = changed.prefix.join(only.prefix);
            Some(Arc::new(merged))
        }
        [Some(_), Some(_)] => Some(Arc::new(changed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: [u8; 4], len: u8) -> Prefix {
        Prefix::new(u128::from(u32::from_be_bytes(text)) << 96, len)
    }

    fn lookup(trie: &Trie, text: [u8; 4]) -> (u8, Vec<u8>) {
        let found = trie.lookup(u128::from(u32::from_be_bytes(text)) << 96, 32);
        (found.bits, (1..=32).filter(|&len| found.may_match(len)).collect())
    }

    #[test]
    fn empty_needs_no_bits() {
        assert_eq!(lookup(&Trie::default(), [1, 2, 3, 4]), (0, vec![]));
    }

    #[test]
    fn nested_prefixes() {
        let trie = Trie::default();
        trie.insert(ip([10, 1, 0, 0], 16));
        trie.insert(ip([10, 1, 2, 0], 24));
        trie.insert(ip([10, 1, 2, 15], 32));
        assert_eq!(lookup(&trie, [10, 1, 2, 15]), (32, vec![16, 24, 32]));
        assert_eq!(lookup(&trie, [10, 1, 2, 16]), (28, vec![16, 24]));
        assert_eq!(lookup(&trie, [10, 1, 3, 16]), (24, vec![16]));
        assert_eq!(lookup(&trie, [11, 1, 3, 16]), (8, vec![]));
        trie.remove(ip([10, 1, 2, 0], 24));
        assert_eq!(lookup(&trie, [10, 1, 2, 16]), (28, vec![16]));
        trie.remove(ip([10, 1, 2, 15], 32));
        assert_eq!(lookup(&trie, [10, 1, 2, 16]), (16, vec![16]));
        trie.remove(ip([10, 1, 0, 0], 16));
        assert!(trie.0.load().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Every length whose prefix is there is told, and no value with the same known bits is told otherwise.
        #[test]
        fn agrees_with_a_list(
            steps in prop::collection::vec((any::<bool>(), 0u8..64, 1u8..=8), 0..60),
            value: u8,
            other: u8,
        ) {
            let trie = Trie::default();
            let mut list: Vec<Prefix> = Vec::new();
            for (add, bits, len) in steps {
                let prefix = Prefix::new(u128::from(bits) << 120, len);
                if add {
                    trie.insert(prefix);
                    list.push(prefix);
                } else if let Some(at) = list.iter().position(|&p| p == prefix) {
                    trie.remove(prefix);
                    list.swap_remove(at);
                }
            }
            let lengths = |value: u8| -> Vec<u8> {
                let value = u128::from(value) << 120;
                (1..=8).filter(|&len| list.contains(&Prefix::new(value, len))).collect()
            };
            let found = trie.lookup(u128::from(value) << 120, 8);
            let told: Vec<u8> = (1..=8).filter(|&len| found.may_match(len)).collect();
            prop_assert_eq!(&told, &lengths(value));
            let known = u8::try_from(ones(found.bits) >> 120).expect("8 bits");
            let twin = value & known | other & !known;
            prop_assert_eq!(told, lengths(twin));
        }
    }
}
