//! A subtable: all rules of one mask, found by one hash look-up.
//!
//! A lookup that is to know which bits it looked at goes in stages, one a segment of the key that the mask touches
//! (metadata, L2, L3, L4). Each stage but the last has an index of the hashes of all rules' values up to its end; a
//! miss there proves that no rule matches and leaves the later segments unread.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use flow::key::{Key, Mask};
use papaya::{Equivalent, HashMap};
use smallvec::SmallVec;

use super::trie::{Prefix, Trie};
use super::{Entry, Looked, Lookup, TRIES};
use crate::ofproto::version::Version;

/// One word of a mask: its place in the key, and its bits (at least one).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MaskWord {
    pub index: u16,
    pub bits: u64,
}

/// Rules of equal match, by falling priority. At most one of a priority is visible in any version.
///
/// The concurrent map drops what it held at a time of its own choosing, hence the weak references: that nobody uses a
/// removed rule must be known soon, for then its counters are final. The writer's books own the rules.
pub type Equals<R> = Arc<[Weak<R>]>;

/// The values of the masked words, with their hash.
struct Values {
    hash: u64,
    words: Box<[u64]>,
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl Eq for Values {}

impl Hash for Values {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A packet's key seen through a mask, as looked up in a map of [`Values`].
struct Probe<'a> {
    hash: u64,
    key: &'a Key,
    mask: &'a [MaskWord],
}

impl Hash for Probe<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Values> for Probe<'_> {
    fn equivalent(&self, values: &Values) -> bool {
        let words = self.key.words();
        self.mask
            .iter()
            .zip(&values.words)
            .all(|(mask, &value)| words[usize::from(mask.index)] & mask.bits == value)
    }
}

/// Hands on the one `u64` it is given, which is well mixed already.
#[derive(Default)]
pub struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0, u64::from(byte));
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Builds [`Mixed`].
#[derive(Clone, Copy, Default)]
pub struct BuildMixed;

impl BuildHasher for BuildMixed {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed::default()
    }
}

/// Folds `word` into `hash`: the two halves of a 128-bit product.
fn mix(hash: u64, word: u64) -> u64 {
    let spread = (hash.rotate_left(23) ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let product = u128::from(spread) * 0xf39c_0c99_d1b5_4a33_u128;
    let half = |shift: u32| u64::try_from(product >> shift & u128::from(u64::MAX)).expect("64 bits");
    half(0) ^ half(64)
}

/// The transport ports of rules whose mask has some.
struct Ports {
    /// Where `tp_src` and `tp_dst` are: the word of the key, and its bits as they lie in memory.
    mask: u32,
    len: u8,
    trie: Trie,
}

/// All rules of one mask.
pub struct Subtable<R> {
    mask: Box<[MaskWord]>,
    /// Which mask words each stage reads: all but the last have an index.
    stages: SmallVec<[Range<usize>; 4]>,
    indices: Vec<HashMap<u64, AtomicU32, BuildMixed>>,
    rules: HashMap<Values, Equals<R>, BuildMixed>,
    ports: Option<Ports>,
    /// Whether the last lookup found something: then the next one looks for the rule at once. What is found there would
    /// have been found by stages, and its whole mask noted.
    likely: AtomicBool,
}

/// Byte offset of `tp_src`, followed by `tp_dst`.
const PORTS_AT: usize = core::mem::offset_of!(Key, tp_src);
const _: () = assert!(core::mem::offset_of!(Key, tp_dst) == PORTS_AT + 2 && PORTS_AT.is_multiple_of(4));

fn ports_of(key: &Key) -> u32 {
    u32::from(key.tp_src.get()) << 16 | u32::from(key.tp_dst.get())
}

fn set_ports(key: &mut Key, ports: u32) {
    let [a, b, c, d] = ports.to_be_bytes();
    key.tp_src = u16::from_be_bytes([a, b]).into();
    key.tp_dst = u16::from_be_bytes([c, d]).into();
}

impl<R: Entry> Subtable<R> {
    /// An empty subtable for `mask`, whose words are in order of index.
    pub fn new(mask: Box<[MaskWord]>) -> Self {
        let stages = stages(&mask);
        let full = expand(&mask);
        let ports = ports_of(&full);
        Self {
            indices: (1..stages.len()).map(|_| HashMap::with_hasher(BuildMixed)).collect(),
            stages,
            rules: HashMap::with_hasher(BuildMixed),
            ports: (ports != 0).then(|| Ports {
                mask: ports,
                len: u8::try_from(32 - ports.trailing_zeros()).expect("1 to 32"),
                trie: Trie::default(),
            }),
            likely: AtomicBool::new(true),
            mask,
        }
    }

    /// The mask's words.
    pub fn mask(&self) -> &[MaskWord] {
        &self.mask
    }

    /// The rules whose match is that of `key`.
    pub fn equals(&self, key: &Key) -> Option<Equals<R>> {
        let probe = self.probe(key);
        self.rules.pin().get(&probe).cloned()
    }

    /// Puts `equals` in the place of what was there for `key`; an empty one takes the entry out. Returns whether the
    /// entry is new or gone: then the caller changes its tries too.
    pub fn set_equals(&self, key: &Key, equals: Equals<R>) -> bool {
        let hashes = self.stage_hashes(key);
        let rules = self.rules.pin();
        if equals.is_empty() {
            let gone = rules.remove(&self.probe(key)).is_some();
            if gone {
                self.index(&hashes, false);
                self.change_ports(key, Trie::remove);
            }
            return gone;
        }
        let words = self.mask.iter().map(|mask| key.words()[usize::from(mask.index)] & mask.bits).collect();
        let new = !rules.contains_key(&self.probe(key));
        if new {
            self.change_ports(key, Trie::insert);
            self.index(&hashes, true);
        }
        rules.insert(Values { hash: self.hash(key), words }, equals);
        new
    }

    /// The best rule for `key` that is visible in `version`.
    pub fn find(&self, version: Version, key: &Key) -> Option<Arc<R>> {
        self.find_hashed(version, key, self.hash(key))
    }

    /// As [`Self::find`], and adds to `wildcards` the bits that it looked at.
    pub fn find_noting(
        &self,
        lookup: &mut Lookup<'_>,
        prefixes: [u8; TRIES],
        wildcards: &mut Looked,
    ) -> Option<Arc<R>> {
        let likely = self.likely.load(Ordering::Relaxed);
        if likely {
            let found = self.find(lookup.version, lookup.key);
            if found.is_some() {
                self.note(self.mask.len(), wildcards);
                return found;
            }
        }
        let found = self.find_by_stages(lookup, prefixes, wildcards);
        if found.is_some() != likely {
            self.likely.store(found.is_some(), Ordering::Relaxed);
        }
        found
    }

    fn find_by_stages(
        &self,
        lookup: &mut Lookup<'_>,
        prefixes: [u8; TRIES],
        wildcards: &mut Looked,
    ) -> Option<Arc<R>> {
        let mut hash = 0;
        for (i, stage) in self.stages.iter().enumerate() {
            let words = &self.mask[stage.clone()];
            if lookup.tries_exclude(prefixes, words, wildcards) {
                self.note(stage.start, wildcards);
                return None;
            }
            hash = hash_words(hash, lookup.key, words);
            let known = self.indices.get(i).is_none_or(|index| index.pin().contains_key(&hash));
            if !known {
                self.note(stage.end, wildcards);
                return None;
            }
        }
        let found = self.find_hashed(lookup.version, lookup.key, hash);
        match &self.ports {
            Some(ports) if found.is_none() => {
                // Rather than all of the ports, only so many of their first bits as prove that no rule has them.
                let bits = ports.trie.lookup(u128::from(ports_of(lookup.key) & ports.mask) << 96, 32).bits;
                let kept = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                let needed = ports_of(&wildcards.0) | ports.mask & kept;
                self.note(self.mask.len(), wildcards);
                set_ports(&mut wildcards.0, needed);
            }
            _ => self.note(self.mask.len(), wildcards),
        }
        found
    }

    /// Adds the first `n` mask words.
    fn note(&self, n: usize, wildcards: &mut Mask) {
        let words = wildcards.0.words_mut();
        for mask in &self.mask[..n] {
            words[usize::from(mask.index)] |= mask.bits;
        }
    }

    fn find_hashed(&self, version: Version, key: &Key, hash: u64) -> Option<Arc<R>> {
        let rules = self.rules.pin();
        let equals = rules.get(&Probe { hash, key, mask: &self.mask })?;
        equals.iter().filter_map(Weak::upgrade).find(|rule| rule.is_visible(version))
    }

    /// The next best rule of the same match as `rule`, to which `key` belongs.
    pub fn next_best(&self, version: Version, key: &Key, rule: &R) -> Option<Arc<R>> {
        let rules = self.rules.pin();
        let equals = rules.get(&self.probe(key))?;
        let lower = |other: &Arc<R>| other.priority() < rule.priority() && other.is_visible(version);
        equals.iter().filter_map(Weak::upgrade).find(lower)
    }

    fn probe<'a>(&'a self, key: &'a Key) -> Probe<'a> {
        Probe { hash: self.hash(key), key, mask: &self.mask }
    }

    fn hash(&self, key: &Key) -> u64 {
        hash_words(0, key, &self.mask)
    }

    fn stage_hashes(&self, key: &Key) -> SmallVec<[u64; 4]> {
        let mut hash = 0;
        let hashed = self.stages.iter().map(|stage| {
            hash = hash_words(hash, key, &self.mask[stage.clone()]);
            hash
        });
        hashed.collect()
    }

    fn index(&self, hashes: &[u64], add: bool) {
        for (index, &hash) in self.indices.iter().zip(hashes) {
            let index = index.pin();
            match index.get(&hash) {
                None if add => _ = index.insert(hash, AtomicU32::new(1)),
                None => {}
                Some(count) if add => _ = count.fetch_add(1, Ordering::Relaxed),
                Some(count) if count.fetch_sub(1, Ordering::Relaxed) == 1 => _ = index.remove(&hash),
                Some(_) => {}
            }
        }
    }

    fn change_ports(&self, key: &Key, change: fn(&Trie, Prefix)) {
        if let Some(ports) = &self.ports {
            change(&ports.trie, Prefix::new(u128::from(ports_of(key) & ports.mask) << 96, ports.len));
        }
    }
}

fn hash_words(hash: u64, key: &Key, words: &[MaskWord]) -> u64 {
    let key = key.words();
    words.iter().fold(hash, |hash, mask| mix(hash, key[usize::from(mask.index)] & mask.bits))
}

/// The mask words of each segment that has any; at least one range, which may be empty.
fn stages(mask: &[MaskWord]) -> SmallVec<[Range<usize>; 4]> {
    let mut stages = SmallVec::new();
    let mut start = 0;
    for end in Key::SEGMENTS {
        let upto = mask.partition_point(|word| usize::from(word.index) < end);
        if upto > start {
            stages.push(start..upto);
        }
        start = upto;
    }
    if stages.is_empty() {
        stages.push(0..0);
    }
    stages
}

/// The mask in full.
pub fn expand(mask: &[MaskWord]) -> Key {
    let mut full = Key::default();
    for word in mask {
        full.words_mut()[usize::from(word.index)] = word.bits;
    }
    full
}
