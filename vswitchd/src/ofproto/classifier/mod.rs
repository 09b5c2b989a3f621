//! The OpenFlow classifier: which rule of a table a packet meets, and which of its bits decided that.
//!
//! Tuple space search: one subtable for each mask, tried by falling priority of their best rules. Readers are
//! never blocked: the list of subtables and the tries are swapped whole, a subtable's rules are in a concurrent map.
//! There is one writer at a time (a mutex, not contended).
//!
//! A lookup that is given a mask to fill notes every bit that it looked at, and takes pains to look at few: stages
//! (metadata, L2, L3, L4), tries of address prefixes that show a subtable to be hopeless, a trie of transport
//! ports. The datapath's megaflows are as wide as that mask, so what is noted is compatible with OVS to the bit:
//! which subtable is looked at before which, and which excuse ends a look, matter.
//!
//! A subtable that a metadata stage excludes is what OVS once called a partition: a packet of another `metadata`
//! or register value leaves it after one index look-up.

mod looked;
mod conjunction;
mod subtable;
mod trie;

use std::collections::{BTreeMap, HashMap};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use flow::key::{Key, Mask};
use zerocopy::IntoBytes;

pub use conjunction::Conjunction;
use conjunction::Soft;
pub use looked::{Free, Looked};
pub use subtable::{Equals, MaskWord};
use subtable::{Subtable, expand};
use trie::{Found, Prefix, Trie};

use super::version::Version;

/// Fields of one table that can have a trie.
pub const TRIES: usize = 4;

/// What a classifier holds.
pub trait Entry: Send + Sync {
    /// The match: its mask's words, and a key in which the masked bits are right.
    fn match_words(&self) -> (Box<[MaskWord]>, Key);
    /// Higher wins.
    fn priority(&self) -> i32;
    /// Whether it is there in `version`.
    fn is_visible(&self, version: Version) -> bool;
    /// Whether it will be removed.
    fn is_ending(&self) -> bool;
    /// The conjunctions that it is part of; none makes it an ordinary rule.
    fn conjunctions(&self) -> &[Conjunction];
    /// A number for the classifier's use: its place in the order of its subtable.
    fn place(&self) -> &AtomicU64;
}

/// A field that can have a prefix trie.
#[derive(Debug)]
pub struct PrefixField {
    /// OpenFlow name.
    pub name: &'static str,
    /// The other name that OVS knows it by, or empty.
    pub alias: &'static str,
    /// Byte offset in [`Key`].
    offset: usize,
    /// Width in bits: 32, 64 or 128.
    width: u8,
    /// Whether a packet has the field.
    present: fn(&Key) -> bool,
}

const fn row(
    [name, alias]: [&'static str; 2],
    offset: usize,
    width: u8,
    present: fn(&Key) -> bool,
) -> PrefixField {
    PrefixField { name, alias, offset, width, present }
}

const fn always(_: &Key) -> bool {
    true
}

fn ipv4(key: &Key) -> bool {
    key.dl_type.get() == 0x0800
}

fn ipv6(key: &Key) -> bool {
    key.dl_type.get() == 0x86dd
}

/// Bits of `ct_state` of which a valid connection has at least one: new, established, reply.
fn tracked(key: &Key) -> bool {
    key.ct_state & 0x0b != 0
}

/// Every field that can have a trie.
pub static PREFIX_FIELDS: [PrefixField; 13] = [
    row(["tun_id", "tunnel_id"], offset_of!(Key, tunnel.id), 64, always),
    row(["tun_src", ""], offset_of!(Key, tunnel.ip_src), 32, always),
    row(["tun_dst", ""], offset_of!(Key, tunnel.ip_dst), 32, always),
    row(["tun_ipv6_src", ""], offset_of!(Key, tunnel.ipv6_src), 128, always),
    row(["tun_ipv6_dst", ""], offset_of!(Key, tunnel.ipv6_dst), 128, always),
    row(["ct_nw_src", ""], offset_of!(Key, ct_nw_src), 32, tracked),
    row(["ct_nw_dst", ""], offset_of!(Key, ct_nw_dst), 32, tracked),
    row(["ct_ipv6_src", ""], offset_of!(Key, ct_ipv6_src), 128, tracked),
    row(["ct_ipv6_dst", ""], offset_of!(Key, ct_ipv6_dst), 128, tracked),
    row(["ip_src", "nw_src"], offset_of!(Key, nw_src), 32, ipv4),
    row(["ip_dst", "nw_dst"], offset_of!(Key, nw_dst), 32, ipv4),
    row(["ipv6_src", ""], offset_of!(Key, ipv6_src), 128, ipv6),
    row(["ipv6_dst", ""], offset_of!(Key, ipv6_dst), 128, ipv6),
];

/// The fields that a table has tries for unless told otherwise.
pub const DEFAULT_PREFIXES: [&str; TRIES] = ["ip_dst", "ip_src", "ipv6_dst", "ipv6_src"];

impl PrefixField {
    /// The field of that name, if it can have a trie.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        PREFIX_FIELDS.iter().find(|field| field.name == name || !name.is_empty() && field.alias == name)
    }

    /// The fields that a table has tries for unless told otherwise.
    pub fn defaults() -> Vec<&'static Self> {
        DEFAULT_PREFIXES.iter().filter_map(|name| Self::from_name(name)).collect()
    }

    /// The field's value, left-aligned.
    fn value(&self, key: &Key) -> u128 {
        let bytes = &key.as_bytes()[self.offset..][..usize::from(self.width / 8)];
        let mut wide = [0; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        u128::from_be_bytes(wide)
    }

    /// The length of the prefix that `mask` has of this field; 0 if the field is unmasked or not masked by prefix.
    fn prefix_len(&self, mask: &Key) -> u8 {
        let bits = self.value(mask);
        let len = bits.leading_ones();
        if bits.count_ones() == len { u8::try_from(len).expect("at most 128") } else { 0 }
    }

    /// The word of the key in which it begins.
    fn word(&self) -> u16 {
        u16::try_from(self.offset / 8).expect("a key is short")
    }

    /// Adds the first `n` bits of the field to `mask`; tells whether they all were there.
    fn add_bits(&self, mask: &mut Mask, n: u8) {
        let bytes = &mut mask.0.as_mut_bytes()[self.offset..][..usize::from(self.width / 8)];
        for (byte, more) in bytes.iter_mut().zip(first_bits(n)) {
            *byte |= more;
        }
    }

    /// Whether `mask` has the first `n` bits of the field.
    fn has_bits(&self, mask: &Mask, n: u8) -> bool {
        let bits = u128::from_be_bytes(first_bits(n));
        self.value(&mask.0) & bits == bits
    }
}

/// The first `n` bits set, in wire order.
fn first_bits(n: u8) -> [u8; 16] {
    u128::MAX.checked_shl(128 - u32::from(n)).unwrap_or(0).to_be_bytes()
}

/// The trie of one field of one table.
struct FieldTrie {
    field: &'static PrefixField,
    trie: Trie,
}

/// What readers see: swapped whole.
struct Shared<R> {
    /// By falling priority.
    subtables: Box<[Listed<R>]>,
    tries: Arc<[FieldTrie]>,
}

struct Listed<R> {
    /// The highest priority in the subtable.
    priority: i32,
    /// The prefix length that the subtable's mask has of each trie's field.
    prefixes: [u8; TRIES],
    subtable: Arc<Subtable<R>>,
}

impl<R> Clone for Listed<R> {
    fn clone(&self) -> Self {
        Self { priority: self.priority, prefixes: self.prefixes, subtable: Arc::clone(&self.subtable) }
    }
}

/// The rules of one table.
pub struct Classifier<R> {
    shared: ArcSwap<Shared<R>>,
    writer: Mutex<Writer<R>>,
}

/// The writer's books.
struct Writer<R> {
    by_mask: HashMap<Box<[MaskWord]>, Book<R>>,
    /// The list to publish next.
    list: Vec<Listed<R>>,
    tries: Arc<[FieldTrie]>,
    changed: bool,
    next_place: u64,
    n_rules: usize,
}

struct Book<R> {
    subtable: Arc<Subtable<R>>,
    priorities: BTreeMap<i32, usize>,
    /// In the order in which they came.
    rules: BTreeMap<u64, Arc<R>>,
}

/// One lookup that notes the bits it looks at.
pub struct Lookup<'a> {
    version: Version,
    key: &'a Key,
    tries: &'a [FieldTrie],
    found: [Option<Found>; TRIES],
}

impl Lookup<'_> {
    /// Whether some trie shows that no rule can match that has the prefix lengths `prefixes`, of those fields that
    /// begin in `words`. If so, the bits of the field that show it are in `wildcards`; which field that is may follow from
    /// others.
    fn tries_exclude(&mut self, prefixes: [u8; TRIES], words: &[MaskWord], wildcards: &mut Looked) -> bool {
        if prefixes == [0; TRIES] {
            return false;
        }
        let mut may_match = false;
        for (i, FieldTrie { field, trie }) in self.tries.iter().enumerate() {
            let len = prefixes[i];
            if len == 0 || !words.iter().any(|word| word.index == field.word()) {
                continue;
            }
            let key = self.key;
            let found = *self.found[i].get_or_insert_with(|| match (field.present)(key) {
                true => trie.lookup(field.value(key), field.width),
                false => Found::ANY,
            });
            if found.may_match(len) {
                may_match = true;
                continue;
            }
            // The trie is of the whole table and may ask for more bits than this subtable has: then the excuse
            // holds only if those bits were looked at anyway.
            if found.bits <= len {
                wildcards.veil(may_match);
                field.add_bits(wildcards, found.bits);
                return true;
            }
            let is_excuse = wildcards.is_enough(|mask| field.has_bits(mask, found.bits));
            wildcards.veil(may_match || !is_excuse);
            if is_excuse {
                return true;
            }
        }
        false
    }
}

impl<R: Entry> Default for Classifier<R> {
    /// An empty table with the default tries.
    fn default() -> Self {
        let fields: Vec<_> =
            DEFAULT_PREFIXES.iter().filter_map(|name| PrefixField::from_name(name)).collect();
        let tries = new_tries(&fields);
        let shared = Shared { subtables: Box::default(), tries: Arc::clone(&tries) };
        let writer = Writer {
            by_mask: HashMap::new(),
            list: Vec::new(),
            tries,
            changed: false,
            next_place: 0,
            n_rules: 0,
        };
        Self { shared: ArcSwap::from_pointee(shared), writer: Mutex::new(writer) }
    }
}

fn new_tries(fields: &[&'static PrefixField]) -> Arc<[FieldTrie]> {
    fields.iter().map(|field| FieldTrie { field, trie: Trie::default() }).collect()
}

/// Reading.
impl<R: Entry> Classifier<R> {
    /// The rule of the highest priority that matches `key` and is visible in `version`. Adds to `wildcards` the bits
    /// that decided it, and to `conjunctive` the conjunctive flows that led to it.
    pub fn lookup(
        &self,
        version: Version,
        key: &Key,
        mut wildcards: Option<&mut Looked>,
        conjunctive: Option<&mut Vec<Arc<R>>>,
    ) -> Option<Arc<R>> {
        let mut soft = Vec::new();
        let hard = self.search(version, key, wildcards.as_deref_mut(), &mut |found| soft.push(found));
        if soft.is_empty() {
            return hard;
        }
        self.resolve(version, key, wildcards, soft, hard, conjunctive)
    }

    /// As [`Self::lookup`], but conjunctive flows do not count.
    fn lookup_hard(&self, version: Version, key: &Key, wildcards: Option<&mut Looked>) -> Option<Arc<R>> {
        self.search(version, key, wildcards, &mut |_| ())
    }

    /// The best rule that is not conjunctive; conjunctive ones above it are given to `soft`.
    fn search(
        &self,
        version: Version,
        key: &Key,
        mut wildcards: Option<&mut Looked>,
        soft: &mut dyn FnMut(Soft<R>),
    ) -> Option<Arc<R>> {
        let shared = self.shared.load();
        let mut lookup = Lookup { version, key, tries: &shared.tries, found: [None; TRIES] };
        let mut best: Option<Arc<R>> = None;
        for listed in &shared.subtables {
            let floor = best.as_ref().map(|rule| rule.priority());
            if floor.is_some_and(|floor| listed.priority <= floor) {
                break;
            }
            let found = match wildcards.as_deref_mut() {
                Some(wildcards) => listed.subtable.find_noting(&mut lookup, listed.prefixes, wildcards),
                None => listed.subtable.find(version, key),
            };
            let Some(rule) = found.filter(|rule| floor.is_none_or(|floor| rule.priority() > floor)) else {
                continue;
            };
            if rule.conjunctions().is_empty() {
                best = Some(rule);
            } else {
                soft(Soft { rule, subtable: Arc::clone(&listed.subtable) });
            }
        }
        best
    }
}

/// Writing, and what only the writer asks.
impl<R: Entry> Classifier<R> {
    fn writer(&self) -> std::sync::MutexGuard<'_, Writer<R>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `rule`. One of equal match and priority may be there if it [is ending](Entry::is_ending): the new one
    /// takes its place in the order. Readers see a new mask or priority after [`Self::publish`]. Returns whether the order
    /// changes in which the subtables are tried that were there.
    pub fn insert(&self, rule: Arc<R>) -> bool {
        self.writer().insert(rule)
    }

    /// Takes `rule` out; false if it is not there.
    pub fn remove(&self, rule: &Arc<R>) -> bool {
        self.writer().remove(rule)
    }

    /// Makes insertions and removals since the last time known to readers in full.
    pub fn publish(&self) {
        let mut writer = self.writer();
        if std::mem::take(&mut writer.changed) {
            writer.list.sort_by_key(|listed| std::cmp::Reverse(listed.priority));
            let subtables = writer.list.clone().into_boxed_slice();
            self.shared.store(Arc::new(Shared { subtables, tries: Arc::clone(&writer.tries) }));
        }
    }

    /// Replaces the fields that have tries; at most [`TRIES`] count, duplicates once. Returns whether that changed
    /// anything.
    pub fn set_prefixes(&self, fields: &[&'static PrefixField]) -> bool {
        let mut wanted: Vec<&'static PrefixField> = Vec::new();
        for field in fields {
            if wanted.len() < TRIES && !wanted.iter().any(|have| have.name == field.name) {
                wanted.push(field);
            }
        }
        let mut writer = self.writer();
        if writer.tries.iter().map(|trie| trie.field.name).eq(wanted.iter().map(|field| field.name)) {
            return false;
        }
        writer.retrie(&wanted);
        drop(writer);
        self.publish();
        true
    }

    /// Rules, removed ones that are still here included.
    pub fn len(&self) -> usize {
        self.writer().n_rules
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many masks there are.
    pub fn n_subtables(&self) -> usize {
        self.writer().list.len()
    }

    /// The rule of exactly this match and priority that is visible in `version`.
    pub fn find_exactly(
        &self,
        mask: &[MaskWord],
        key: &Key,
        priority: i32,
        version: Version,
    ) -> Option<Arc<R>> {
        let writer = self.writer();
        let equals = writer.by_mask.get(mask)?.subtable.equals(key)?;
        let mut rules = equals.iter().filter_map(Weak::upgrade);
        rules.find(|rule| rule.priority() == priority && rule.is_visible(version))
    }

    /// Rules visible in `version` whose match is `mask` and `key` or more specific, in order of subtables, and of age
    /// within one.
    pub fn matching(&self, mask: &[MaskWord], key: &Key, version: Version) -> Vec<Arc<R>> {
        let writer = self.writer();
        let wanted = expand(mask);
        let mut all = Vec::new();
        for listed in &writer.list {
            let Some(book) = writer.by_mask.get(listed.subtable.mask()) else { continue };
            let has = expand(listed.subtable.mask());
            if !wanted.words().iter().zip(has.words()).all(|(wanted, has)| wanted & !has == 0) {
                continue;
            }
            let same = |rule: &&Arc<R>| mask.is_empty() || agree(&rule.match_words().1, key, &wanted);
            let visible = book.rules.values().filter(|rule| rule.is_visible(version));
            all.extend(visible.filter(same).cloned());
        }
        all
    }

    /// Whether some rule of the same priority, visible in `version`, can match a packet that `mask` and `key` match.
    pub fn overlaps(&self, mask: &[MaskWord], key: &Key, priority: i32, version: Version) -> bool {
        let writer = self.writer();
        let mine = Mask(expand(mask));
        writer.by_mask.values().filter(|book| book.priorities.contains_key(&priority)).any(|book| {
            let both = mine.apply(&expand(book.subtable.mask()));
            book.rules.values().any(|rule| {
                rule.priority() == priority
                    && rule.is_visible(version)
                    && agree(&rule.match_words().1, key, &both)
            })
        })
    }
}

/// Whether two keys have the same bits where `mask` has any.
fn agree(a: &Key, b: &Key, mask: &Key) -> bool {
    let words = a.words().iter().zip(b.words()).zip(mask.words());
    words.fold(0, |differ, ((a, b), mask)| differ | (a ^ b) & mask) == 0
}

impl<R: Entry> Writer<R> {
    fn insert(&mut self, rule: Arc<R>) -> bool {
        let (mask, key) = rule.match_words();
        let priority = rule.priority();
        let book = self.by_mask.entry(mask).or_insert_with_key(|mask| Book {
            subtable: Arc::new(Subtable::new(mask.clone())),
            priorities: BTreeMap::new(),
            rules: BTreeMap::new(),
        });
        let old = book.subtable.equals(&key);
        let equals = old.as_deref().unwrap_or_default();
        let goes_before = |other: &Weak<R>| {
            let Some(other) = other.upgrade() else { return false };
            priority > other.priority() || priority == other.priority() && !other.is_ending()
        };
        let at = equals.iter().position(goes_before).unwrap_or(equals.len());
        let with: Equals<R> =
            equals[..at].iter().chain([&Arc::downgrade(&rule)]).chain(&equals[at..]).cloned().collect();

        let prefixes = prefixes(&self.tries, &expand(book.subtable.mask()));
        let before = book.priorities.last_key_value().map(|(&priority, _)| priority);
        *book.priorities.entry(priority).or_default() += 1;
        rule.place().store(self.next_place, Ordering::Relaxed);
        book.rules.insert(self.next_place, rule);
        self.next_place += 1;
        self.n_rules += 1;

        if old.is_none() {
            for_tries(&self.tries, prefixes, &key, Trie::insert);
        }
        book.subtable.set_equals(&key, with);
        match before {
            None => self.list.push(Listed { priority, prefixes, subtable: Arc::clone(&book.subtable) }),
            Some(before) if priority > before => set_priority(&mut self.list, &book.subtable, priority),
            Some(_) => return false,
        }
        self.changed = true;
        before.is_some()
    }

    fn remove(&mut self, rule: &Arc<R>) -> bool {
        let (mask, key) = rule.match_words();
        let Some(book) = self.by_mask.get_mut(&mask) else { return false };
        let place = rule.place().load(Ordering::Relaxed);
        if !book.rules.get(&place).is_some_and(|there| Arc::ptr_eq(there, rule)) {
            return false;
        }
        book.rules.remove(&place);
        self.n_rules -= 1;
        let equals = book.subtable.equals(&key).unwrap_or_default();
        let without: Equals<R> =
            equals.iter().filter(|other| other.as_ptr() != Arc::as_ptr(rule)).cloned().collect();
        if book.subtable.set_equals(&key, without) {
            let prefixes = prefixes(&self.tries, &expand(book.subtable.mask()));
            for_tries(&self.tries, prefixes, &key, Trie::remove);
        }
        let priority = rule.priority();
        if let Some(count) = book.priorities.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                book.priorities.remove(&priority);
            }
        }
        match book.priorities.last_key_value().map(|(&highest, _)| highest) {
            None => {
                // The last entry fills the hole, as in OVS: the order of equal priorities is part of what masks
                // come out as.
                if let Some(at) = self.list.iter().position(|l| Arc::ptr_eq(&l.subtable, &book.subtable)) {
                    self.list.swap_remove(at);
                }
                self.by_mask.remove(&mask);
            }
            Some(highest) if highest < priority => set_priority(&mut self.list, &book.subtable, highest),
            Some(_) => return true,
        }
        self.changed = true;
        true
    }

    fn retrie(&mut self, fields: &[&'static PrefixField]) {
        self.tries = new_tries(fields);
        for listed in &mut self.list {
            listed.prefixes = prefixes(&self.tries, &expand(listed.subtable.mask()));
            let Some(book) = self.by_mask.get(listed.subtable.mask()) else { continue };
            for rule in book.rules.values() {
                let (_, key) = rule.match_words();
                let equals = book.subtable.equals(&key);
                if equals.is_some_and(|equals| {
                    equals.first().is_some_and(|first| first.as_ptr() == Arc::as_ptr(rule))
                }) {
                    for_tries(&self.tries, listed.prefixes, &key, Trie::insert);
                }
            }
        }
        self.changed = true;
    }
}

fn set_priority<R>(list: &mut [Listed<R>], subtable: &Arc<Subtable<R>>, priority: i32) {
    if let Some(listed) = list.iter_mut().find(|listed| Arc::ptr_eq(&listed.subtable, subtable)) {
        listed.priority = priority;
    }
}

fn prefixes(tries: &[FieldTrie], mask: &Key) -> [u8; TRIES] {
    let mut lengths = [0; TRIES];
    for (len, trie) in lengths.iter_mut().zip(tries) {
        *len = trie.field.prefix_len(mask);
    }
    lengths
}

fn for_tries(tries: &[FieldTrie], prefixes: [u8; TRIES], key: &Key, change: fn(&Trie, Prefix)) {
    for (FieldTrie { field, trie }, len) in tries.iter().zip(prefixes) {
        if len > 0 {
            change(trie, Prefix::new(field.value(key), len));
        }
    }
}

#[cfg(test)]
mod tests;
