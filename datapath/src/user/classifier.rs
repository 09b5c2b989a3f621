//! The tuple-space classifier of one port: one hash table a mask, tried in the order of how often they hit.
//!
//! Flows do not overlap, so the first hit is the answer. The number of masks is bounded ([`MAX_MASKS`]): a stream that makes
//! translation yield ever new masks would otherwise make every look-up slower without end.

use flow::key::Key;
use flow::mini::Mini;

use super::flows::FlowRef;

/// Masks of one port; a flow with another mask is installed with all bits significant instead.
pub const MAX_MASKS: usize = 256;
/// Flows of one port with all bits significant because of [`MAX_MASKS`].
pub const MAX_EXACT: usize = 8192;
/// Look-ups from one sorting of subtables to the next.
const SORT_EVERY: u32 = 1 << 12;

/// The flows of one mask: open addressing, linear probing, at most half full.
struct Subtable {
    mask: Mini,
    words: Box<[u16]>,
    bits: Box<[u64]>,
    /// By place: 0 for free, else the hash.
    tags: Vec<u32>,
    flows: Vec<FlowRef>,
    /// Masked words by place.
    values: Vec<u64>,
    len: usize,
    hits: u64,
}

impl Subtable {
    fn new(mask: &Mini) -> Self {
        let (words, bits): (Vec<u16>, Vec<u64>) =
            mask.iter().map(|(index, bits)| (index as u16, bits)).unzip();
        let n = words.len();
        Self {
            mask: mask.clone(),
            words: words.into(),
            bits: bits.into(),
            tags: vec![0; 8],
            flows: vec![FlowRef::default(); 8],
            values: vec![0; 8 * n],
            len: 0,
            hits: 0,
        }
    }

    /// The hash of a key's masked words; never 0.
    #[inline]
    fn hash(&self, key: &[u64; Key::WORDS]) -> u32 {
        let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
        for (&word, &bits) in self.words.iter().zip(&self.bits) {
            let product = u128::from(hash ^ (key[usize::from(word)] & bits)) * 0xa076_1d64_78bd_642f;
            hash = (product as u64) ^ (product >> 64) as u64;
        }
        ((hash ^ hash >> 32) as u32).max(1)
    }

    #[inline]
    fn matches(&self, place: usize, key: &[u64; Key::WORDS]) -> bool {
        let n = self.words.len();
        let values = &self.values[place * n..(place + 1) * n];
        let masks = self.words.iter().zip(&self.bits);
        values.iter().zip(masks).all(|(&value, (&word, &bits))| key[usize::from(word)] & bits == value)
    }

    #[inline]
    fn place(&self, key: &[u64; Key::WORDS]) -> Option<usize> {
        let hash = self.hash(key);
        let wrap = self.tags.len() - 1;
        let mut place = hash as usize & wrap;
        while self.tags[place] != 0 {
            if self.tags[place] == hash && self.matches(place, key) {
                return Some(place);
            }
            place = (place + 1) & wrap;
        }
        None
    }

    fn insert(&mut self, key: &[u64; Key::WORDS], flow: FlowRef) {
        if let Some(place) = self.place(key) {
            self.flows[place] = flow;
            return;
        }
        if (self.len + 1) * 2 > self.tags.len() {
            self.grow();
        }
        let hash = self.hash(key);
        let masked: Vec<u64> =
            self.words.iter().zip(&self.bits).map(|(&word, &bits)| key[usize::from(word)] & bits).collect();
        self.put(hash, flow, &masked);
        self.len += 1;
    }

    fn put(&mut self, hash: u32, flow: FlowRef, masked: &[u64]) {
        let wrap = self.tags.len() - 1;
        let mut place = hash as usize & wrap;
        while self.tags[place] != 0 {
            place = (place + 1) & wrap;
        }
        self.tags[place] = hash;
        self.flows[place] = flow;
        let n = self.words.len();
        self.values[place * n..(place + 1) * n].copy_from_slice(masked);
    }

    fn grow(&mut self) {
        let (n, size) = (self.words.len(), self.tags.len() * 2);
        let tags = std::mem::replace(&mut self.tags, vec![0; size]);
        let flows = std::mem::replace(&mut self.flows, vec![FlowRef::default(); size]);
        let values = std::mem::replace(&mut self.values, vec![0; size * n]);
        for (place, &tag) in tags.iter().enumerate().filter(|&(_, &tag)| tag != 0) {
            self.put(tag, flows[place], &values[place * n..(place + 1) * n]);
        }
    }

    /// Removes an entry and moves back those behind it that were pushed away from their place.
    fn remove(&mut self, key: &[u64; Key::WORDS]) -> bool {
        let Some(mut hole) = self.place(key) else { return false };
        let (n, wrap) = (self.words.len(), self.tags.len() - 1);
        let mut next = (hole + 1) & wrap;
        while self.tags[next] != 0 {
            let home = self.tags[next] as usize & wrap;
            if next.wrapping_sub(home) & wrap >= next.wrapping_sub(hole) & wrap {
                self.tags[hole] = self.tags[next];
                self.flows[hole] = self.flows[next];
                self.values.copy_within(next * n..(next + 1) * n, hole * n);
                hole = next;
            }
            next = (next + 1) & wrap;
        }
        self.tags[hole] = 0;
        self.len -= 1;
        true
    }
}

/// The flows of one port.
#[derive(Default)]
pub struct Classifier {
    subtables: Vec<Subtable>,
    lookups: u32,
}

impl Classifier {
    /// The flow of a key, and how many subtables were tried.
    #[inline]
    pub fn find(&mut self, key: &Key) -> Option<(FlowRef, u64)> {
        self.lookups += 1;
        if self.lookups >= SORT_EVERY {
            self.sort();
        }
        let words = key.words();
        for (n, subtable) in self.subtables.iter_mut().enumerate() {
            if let Some(place) = subtable.place(words) {
                subtable.hits += 1;
                return Some((subtable.flows[place], n as u64 + 1));
            }
        }
        None
    }

    /// Puts what hits most to the front, and lets the past count half.
    #[cold]
    fn sort(&mut self) {
        self.lookups = 0;
        self.subtables.sort_by_key(|subtable| std::cmp::Reverse(subtable.hits));
        self.subtables.iter_mut().for_each(|subtable| subtable.hits /= 2);
    }

    /// Whether a flow with this mask may be added: its mask is there, or there is room for one more.
    pub fn has_room(&self, mask: &Mini) -> bool {
        self.subtables.len() < MAX_MASKS || self.subtables.iter().any(|subtable| subtable.mask == *mask)
    }

    /// Flows with this mask.
    pub fn len_of(&self, mask: &Mini) -> usize {
        self.subtables.iter().find(|subtable| subtable.mask == *mask).map_or(0, |subtable| subtable.len)
    }

    /// Adds a flow.
    pub fn insert(&mut self, key: &Key, mask: &Mini, flow: FlowRef) {
        let at = self.subtables.iter().position(|subtable| subtable.mask == *mask);
        let at = at.unwrap_or_else(|| {
            self.subtables.push(Subtable::new(mask));
            self.subtables.len() - 1
        });
        self.subtables[at].insert(key.words(), flow);
    }

    /// Removes the flow of this key and mask.
    pub fn remove(&mut self, key: &Key, mask: &Mini) {
        if let Some(at) = self.subtables.iter().position(|subtable| subtable.mask == *mask) {
            self.subtables[at].remove(key.words());
            if self.subtables[at].len == 0 {
                self.subtables.remove(at);
            }
        }
    }

    /// How many masks there are.
    pub fn masks(&self) -> usize {
        self.subtables.len()
    }

    /// Words that each mask looks at, in the order of look-up, and the mask's flows and recent hits.
    pub fn subtables(&self) -> impl Iterator<Item = (usize, usize, u64)> + '_ {
        self.subtables.iter().map(|subtable| (subtable.words.len(), subtable.len, subtable.hits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::key::Mask;
    use flow::mini::Match;
    use proptest::prelude::*;

    /// The slow twin: a list, searched from front to back.
    #[derive(Default)]
    struct Linear(Vec<(Match, FlowRef)>);

    impl Linear {
        fn find(&self, key: &Key) -> Option<FlowRef> {
            self.0.iter().find(|(matching, _)| matching.matches(key)).map(|&(_, flow)| flow)
        }
    }

    fn key(words: [u8; 3]) -> Key {
        let mut key = Key::default();
        for (at, word) in [3, 50, 90].into_iter().zip(words) {
            key.words_mut()[at] = u64::from(word % 4);
        }
        key
    }

    fn mask(bits: u8) -> Mask {
        let mut mask = Mask::default();
        for (n, at) in [3, 50, 90].into_iter().enumerate() {
            mask.0.words_mut()[at] = if bits >> n & 1 == 1 { u64::MAX } else { 0 };
        }
        mask
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(ops in proptest::collection::vec((any::<bool>(), any::<[u8; 3]>(), 0u8..8), 1..120)) {
            let (mut fast, mut slow) = (Classifier::default(), Linear::default());
            for (n, (add, words, bits)) in ops.into_iter().enumerate() {
                let (key, mask) = (key(words), mask(bits));
                let matching = Match { key: Mini::new(&mask.apply(&key)), mask: Mini::new(&mask.0) };
                let known = slow.0.iter().position(|(other, _)| *other == matching);
                // As in the datapath, a flow that overlaps another is not added.
                if add && known.is_none() && slow.0.iter().all(|(other, _)| !overlap(other, &matching)) {
                    let flow = FlowRef { slot: n as u32, generation: 1 };
                    fast.insert(&key, &matching.mask, flow);
                    slow.0.push((matching, flow));
                } else if let Some(at) = known.filter(|_| !add) {
                    fast.remove(&key, &matching.mask);
                    slow.0.remove(at);
                }
                prop_assert_eq!(fast.find(&key).map(|(flow, _)| flow), slow.find(&key));
            }
            for n in 0..64u8 {
                let key = key([n & 3, n >> 2 & 3, n >> 4]);
                prop_assert_eq!(fast.find(&key).map(|(flow, _)| flow), slow.find(&key));
            }
        }
    }

    fn overlap(a: &Match, b: &Match) -> bool {
        (0..Key::WORDS).all(|at| (a.key.get(at) ^ b.key.get(at)) & a.mask.get(at) & b.mask.get(at) == 0)
    }
}
