//! Compressed keys: what is stored of keys and masks is a bitmap and the words that are not zero.

use std::hash::{Hash, Hasher};

use smallvec::{Array, SmallVec};

use crate::hash;
use crate::key::{Key, Mask};

/// Words that are looked at together.
const RUN: usize = 8;

/// Bitmap words.
const MAPS: usize = Key::WORDS.div_ceil(64);

/// Whether a run has no bit.
fn is_zero(run: &[u64; RUN]) -> bool {
    // Not compared, for that would be a call each time.
    run.iter().fold(0, |any, &word| any | word) == 0
}

/// A key or mask, compressed: which of its words are not zero, and those words in order. As many of them as `A` has need no
/// memory of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compressed<A: Array<Item = u64>> {
    map: [u64; MAPS],
    words: SmallVec<A>,
}

/// For what most rules match.
pub type Mini = Compressed<[u64; 4]>;

/// For what most packets are.
pub type Midi = Compressed<[u64; 8]>;

impl<A: Array<Item = u64>> Default for Compressed<A> {
    fn default() -> Self {
        Self { map: [0; MAPS], words: SmallVec::new() }
    }
}

impl<A: Array<Item = u64>> Compressed<A> {
    /// Compresses a key.
    pub fn new(key: &Key) -> Self {
        // Most words are zero, and most of those in long runs.
        let (mut map, mut words, mut len) = ([0; MAPS], [0; Key::WORDS], 0);
        let mut take = |start: usize, run: &[u64; RUN]| {
            if is_zero(run) {
                return;
            }
            let mut bits = 0;
            for (n, &word) in run.iter().enumerate() {
                bits |= u64::from(word != 0) << n;
            }
            map[start / 64] |= bits << (start % 64);
            while bits != 0 {
                words[len] = run[bits.trailing_zeros() as usize % RUN];
                (len, bits) = (len + 1, bits & (bits - 1));
            }
        };
        let (runs, rest) = key.words().as_chunks::<RUN>();
        for (n, run) in runs.iter().enumerate() {
            take(n * RUN, run);
        }
        let mut last = [0; RUN];
        last[..rest.len()].copy_from_slice(rest);
        take(runs.len() * RUN, &last);
        Self { map, words: SmallVec::from_slice(&words[..len]) }
    }

    /// The key again.
    pub fn expand(&self) -> Key {
        let mut key = Key::default();
        self.expand_to(&mut key);
        key
    }

    /// The key again, where there is an empty one.
    pub fn expand_to(&self, key: &mut Key) {
        let (words, mut stored) = (key.words_mut(), self.words.iter());
        for (at, &map) in self.map.iter().enumerate() {
            let mut map = map;
            while map != 0 {
                if let Some(&word) = stored.next() {
                    words[at * 64 + map.trailing_zeros() as usize] = word;
                }
                map &= map - 1;
            }
        }
    }

    /// Whether every word is zero.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many words are not zero.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Index and value of the words that are not zero, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.indices().zip(self.words.iter().copied())
    }

    /// Indices of the words that are not zero, in order.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        let (mut at, mut map) = (0, self.map[0]);
        std::iter::from_fn(move || {
            while map == 0 {
                at += 1;
                map = *self.map.get(at)?;
            }
            let bit = map.trailing_zeros() as usize;
            map &= map - 1;
            Some(at * 64 + bit)
        })
    }

    /// The words that are not zero, in order.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The word at `index`.
    pub fn get(&self, index: usize) -> u64 {
        let (at, bit) = (index / 64, index % 64);
        if self.map.get(at).is_none_or(|map| map >> bit & 1 == 0) {
            return 0;
        }
        let before: u32 = self.map[..at].iter().map(|map| map.count_ones()).sum();
        self.words[before as usize + (self.map[at] & ((1 << bit) - 1)).count_ones() as usize]
    }

    /// With `self` a mask: whether `a` and `b` agree in its bits.
    pub fn agree(&self, a: &Key, b: &Key) -> bool {
        let (a, b) = (a.words(), b.words());
        self.iter().all(|(index, mask)| (a[index] ^ b[index]) & mask == 0)
    }

    /// Whether the same words are zero in both, and the others equal in the bits of `masks`: one for each of these words, in order.
    pub fn is_like(&self, other: &Self, masks: &[u64]) -> bool {
        let pairs = self.words.iter().zip(&other.words).zip(masks);
        self.map == other.map && pairs.into_iter().all(|((a, b), mask)| (a ^ b) & mask == 0)
    }

    /// Whether every bit of `other` is also in `self`.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(index, word)| word & !self.get(index) == 0)
    }

    /// Whether every bit of `key` is also in `self`.
    pub fn covers_key(&self, key: &Key) -> bool {
        // Most words are zero in both, and most of those in long runs.
        let mut words = self.words.iter();
        let mut covers = |start: usize, run: &[u64; RUN]| {
            let mut bits = self.map.get(start / 64).map_or(0, |map| map >> (start % 64)) as u8;
            if bits == 0 {
                return is_zero(run);
            }
            let mut left = *run;
            while bits != 0 {
                left[bits.trailing_zeros() as usize % RUN] &= !words.next().copied().unwrap_or(0);
                bits &= bits - 1;
            }
            is_zero(&left)
        };
        let (runs, rest) = key.words().as_chunks::<RUN>();
        for (n, run) in runs.iter().enumerate() {
            if !covers(n * RUN, run) {
                return false;
            }
        }
        let mut last = [0; RUN];
        last[..rest.len()].copy_from_slice(rest);
        covers(runs.len() * RUN, &last)
    }

    /// A hash of the whole.
    pub fn hash(&self, basis: u32) -> u32 {
        hash::words(self.iter().flat_map(|(index, word)| [index as u64, word]), basis)
    }
}

impl<A: Array<Item = u64>> Hash for Compressed<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.map.hash(state);
        self.words.hash(state);
    }
}

/// A stored match: the key has no bit that the mask lacks.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Match {
    pub key: Mini,
    pub mask: Mini,
}

impl Match {
    /// Compresses a match.
    pub fn new(full: &FullMatch) -> Self {
        Self { key: Mini::new(&full.mask.apply(&full.key)), mask: Mini::new(&full.mask.0) }
    }

    /// The match again.
    pub fn expand(&self) -> FullMatch {
        FullMatch { key: self.key.expand(), mask: Mask(self.mask.expand()) }
    }

    /// Whether `key` matches.
    pub fn matches(&self, key: &Key) -> bool {
        let words = key.words();
        self.mask.iter().all(|(index, mask)| (words[index] & mask) == self.key.get(index))
    }
}

impl From<&FullMatch> for Match {
    fn from(full: &FullMatch) -> Self {
        Self::new(full)
    }
}

/// A match, not compressed: for the stack. [`Default`] matches every packet.
///
/// Set fields by [`crate::field::Field::set_match`], or the key and the mask directly; keep the key within the mask by
/// [`FullMatch::normalize`].
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct FullMatch {
    pub key: Key,
    pub mask: Mask,
}

impl FullMatch {
    /// A match on all of `mask`'s bits of `key`.
    pub fn new(key: &Key, mask: &Mask) -> Self {
        Self { key: mask.apply(key), mask: *mask }
    }

    /// Clears the key's bits that are not significant.
    pub fn normalize(&mut self) {
        self.key = self.mask.apply(&self.key);
    }

    /// Whether `key` matches.
    pub fn matches(&self, key: &Key) -> bool {
        let pairs = self.key.words().iter().zip(key.words()).zip(self.mask.0.words());
        pairs.into_iter().all(|((&mine, &its), &mask)| (mine ^ its) & mask == 0)
    }

    /// Whether the match is the catch-all.
    pub fn is_catch_all(&self) -> bool {
        self.mask.is_catch_all()
    }
}

impl std::fmt::Debug for FullMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::describe::match_to_string(self, None, &crate::field::NoNames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn compression_is_lossless(set in proptest::collection::vec((0..Key::WORDS, any::<u64>()), 0..20)) {
            let mut key = Key::default();
            for (index, word) in set {
                key.words_mut()[index] = word;
            }
            let mini = Mini::new(&key);
            prop_assert!(mini.expand() == key && Midi::new(&key).expand() == key);
            let mut less = key;
            for (index, &word) in key.words().iter().enumerate() {
                prop_assert_eq!(mini.get(index), word);
                less.words_mut()[index] &= word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let more = |bits| {
                    let mut more = less;
                    more.words_mut()[index] |= bits;
                    mini.covers_key(&more)
                };
                prop_assert!(more(word) && more(!word) == (word == u64::MAX));
            }
        }
    }
}
