//! MAC learning: which bundle an address was last seen on, by VLAN.
//!
//! Entries age out after the bridge's `mac-aging-time`, the least recently used makes room when the table is full, and a
//! gratuitous ARP locks its entry against bonds' reflections for five seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::coverage::{Counter, Coverage};
use flow::key::EthAddr;
use flow::time::Instant;

use super::snapshot::{BundleId, VlanSet};

/// Entries that a table has at most, unless configured (`mac-table-size`).
pub const DEFAULT_MAX: usize = 8192;
/// Seconds that entries live unless configured (`mac-aging-time`).
pub const DEFAULT_AGING: u64 = 300;
/// How long a gratuitous ARP keeps an address where it is.
const GRAT_ARP_LOCK: Duration = Duration::from_secs(5);

/// An entry: what is known of an address in a VLAN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub bundle: BundleId,
    /// When it expires; [`Instant::NEVER`] for static ones.
    pub expires: Instant,
    pub locked_until: Instant,
    pub is_static: bool,
}

/// What happened in a table over time (`fdb/stats-show`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    pub learned: u64,
    pub expired: u64,
    pub evicted: u64,
    pub moved: u64,
    pub static_entries: u64,
}

/// One line of `fdb/show`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    pub mac: EthAddr,
    pub vlan: u16,
    pub bundle: BundleId,
    /// Seconds since it was last seen; `None` for static ones.
    pub age: Option<u64>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<(u16, EthAddr), (Entry, u64)>,
    /// Least recently used first, by the stamp in the entry.
    lru: BTreeMap<u64, (u16, EthAddr)>,
    /// The same, of each bundle.
    each: HashMap<BundleId, BTreeMap<u64, (u16, EthAddr)>>,
    shares: Shares,
    next_stamp: u64,
    aging: Duration,
    max: usize,
    no_learning: Option<VlanSet>,
    stats: Stats,
}

/// Events of the tables of all bridges that `coverage/show` shows.
#[derive(Clone, Default, Debug)]
pub struct Counters {
    learned: Counter,
    expired: Counter,
    evicted: Counter,
    moved: Counter,
    /// A packet was from a static address, but came by another port.
    static_none_move: Counter,
}

impl Counters {
    /// Registers them.
    pub fn new(coverage: &mut Coverage) -> Self {
        let mut counter = |name: &str| coverage.counter(&format!("mac_learning_{name}"));
        Self {
            learned: counter("learned"),
            expired: counter("expired"),
            evicted: counter("evicted"),
            moved: counter("moved"),
            static_none_move: counter("static_none_move"),
        }
    }
}

/// What became of an address that a packet was from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learned {
    /// It is new, or was elsewhere.
    Changed,
    /// It was there, or is not to be learned.
    Nothing,
    /// It is a static one of another bundle.
    Static,
}

/// A bridge's table of learned addresses. All methods may be called from any thread.
pub struct MacTable {
    inner: Mutex<Inner>,
    counters: Counters,
    /// Called when something changed that translations depend on.
    changed: Box<dyn Fn() + Send + Sync>,
}

fn is_multicast(mac: EthAddr) -> bool {
    mac[0] & 1 != 0
}

impl MacTable {
    /// An empty table. `changed` is called whenever a lookup's result may have become another.
    pub fn new(counters: Counters, changed: impl Fn() + Send + Sync + 'static) -> Self {
        let inner = Inner { aging: Duration::from_secs(DEFAULT_AGING), max: DEFAULT_MAX, ..Inner::default() };
        Self { inner: Mutex::new(inner), counters, changed: Box::new(changed) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the aging time (clamped to 15 s to 1 h), the size (10 to 1 000 000) and the VLANs not to learn in.
    pub fn configure(&self, aging_secs: u64, max: usize, flood_vlans: Option<VlanSet>) {
        let mut inner = self.lock();
        let aging = Duration::from_secs(aging_secs.clamp(15, 3600));
        if aging != inner.aging {
            let old = std::mem::replace(&mut inner.aging, aging);
            for (entry, _) in inner.entries.values_mut().filter(|(entry, _)| !entry.is_static) {
                entry.expires = entry.expires + aging - old;
            }
        }
        inner.max = max.clamp(10, 1_000_000);
        let revalidate = inner.no_learning != flood_vlans;
        inner.no_learning = flood_vlans;
        drop(inner);
        if revalidate {
            (self.changed)();
        }
    }

    /// The bundle behind an address; `None` for flooding.
    pub fn lookup(&self, mac: EthAddr, vlan: u16) -> Option<BundleId> {
        if is_multicast(mac) {
            return None;
        }
        let inner = self.lock();
        if inner.no_learning.as_ref().is_some_and(|set| set.contains(vlan)) {
            return None;
        }
        inner.entries.get(&(vlan, mac)).map(|(entry, _)| entry.bundle)
    }

    /// Whether a gratuitous ARP holds the address where it is.
    pub fn is_locked(&self, mac: EthAddr, vlan: u16, now: Instant) -> bool {
        self.lock().entries.get(&(vlan, mac)).is_some_and(|(entry, _)| entry.locked_until > now)
    }

    /// Learns that `mac` is behind `bundle`.
    pub fn learn(
        &self,
        mac: EthAddr,
        vlan: u16,
        bundle: BundleId,
        gratuitous: bool,
        bonded: bool,
        now: Instant,
    ) -> Learned {
        let mut inner = self.lock();
        if is_multicast(mac) || inner.no_learning.as_ref().is_some_and(|set| set.contains(vlan)) {
            return Learned::Nothing;
        }
        let old = inner.entries.get(&(vlan, mac)).map(|(entry, _)| *entry);
        if let Some(old) = old
            && old.is_static
        {
            return if old.bundle == bundle { Learned::Nothing } else { Learned::Static };
        }
        if old.is_some_and(|old| old.bundle != bundle && bonded && old.locked_until > now) {
            return Learned::Nothing;
        }
        if old.is_none() && inner.entries.len() >= inner.max && inner.evict() {
            self.counters.evicted.inc();
        }
        let locked_until = match old {
            _ if gratuitous && !bonded => now + GRAT_ARP_LOCK,
            Some(old) if old.bundle == bundle => old.locked_until,
            _ => Instant::ZERO,
        };
        let expires = now + inner.aging;
        inner.put(mac, vlan, Entry { bundle, expires, locked_until, is_static: false });
        let changed = match old {
            None => {
                inner.stats.learned += 1;
                self.counters.learned.inc();
                true
            }
            Some(old) if old.bundle != bundle => {
                inner.stats.moved += 1;
                self.counters.moved.inc();
                true
            }
            Some(_) => false,
        };
        drop(inner);
        if changed {
            (self.changed)();
            Learned::Changed
        } else {
            Learned::Nothing
        }
    }

    /// Counts that a packet was from a static address of another bundle.
    pub fn count_static(&self) {
        self.counters.static_none_move.inc();
    }

    /// Adds a static entry, or makes one of a learned one.
    pub fn add_static(&self, mac: EthAddr, vlan: u16, bundle: BundleId) -> bool {
        let mut inner = self.lock();
        if inner.no_learning.as_ref().is_some_and(|set| set.contains(vlan)) {
            return false;
        }
        let old = inner.entries.get(&(vlan, mac)).map(|(entry, _)| *entry);
        if old.is_none() && inner.entries.len() >= inner.max {
            inner.evict();
        }
        if old.is_none_or(|old| !old.is_static) {
            inner.stats.static_entries += 1;
        }
        inner.put(
            mac,
            vlan,
            Entry { bundle, expires: Instant::NEVER, locked_until: Instant::ZERO, is_static: true },
        );
        drop(inner);
        (self.changed)();
        true
    }

    /// Removes a static entry. Returns whether there was one.
    pub fn remove_static(&self, mac: EthAddr, vlan: u16) -> bool {
        let mut inner = self.lock();
        if !inner.entries.get(&(vlan, mac)).is_some_and(|(entry, _)| entry.is_static) {
            return false;
        }
        inner.remove(mac, vlan);
        inner.stats.static_entries -= 1;
        drop(inner);
        (self.changed)();
        true
    }

    /// Forgets everything learned; static entries stay.
    pub fn flush(&self) {
        if !self.forget(|_, entry| !entry.is_static).is_empty() {
            (self.changed)();
        }
    }

    /// Forgets everything about a bundle that becomes another one, or goes. Returns what it was: VLANs and addresses. That
    /// translations come out differently is for whoever publishes the bundles to say: flows are not to follow half of it.
    pub fn flush_bundle(&self, bundle: BundleId) -> Vec<(u16, EthAddr)> {
        self.forget(|_, entry| entry.bundle == bundle)
    }

    /// Forgets addresses, wherever they were, when what was behind a bundle is gone; see [`Self::flush_bundle`].
    pub fn forget_addresses(&self, gone: &[(u16, EthAddr)]) {
        self.forget(|key, _| gone.contains(key));
    }

    fn forget(&self, which: impl Fn(&(u16, EthAddr), &Entry) -> bool) -> Vec<(u16, EthAddr)> {
        let mut inner = self.lock();
        let gone: Vec<_> =
            inner.entries.iter().filter(|(key, (entry, _))| which(key, entry)).map(|(key, _)| *key).collect();
        for &(vlan, mac) in &gone {
            if let Some(true) = inner.remove(mac, vlan).map(|entry| entry.is_static) {
                inner.stats.static_entries -= 1;
            }
        }
        gone
    }

    /// Removes what has expired.
    pub fn expire(&self, now: Instant) {
        let mut inner = self.lock();
        let mut any = false;
        let overdue: Vec<_> = {
            let learned = inner.lru.values().copied();
            learned
                .take_while(|key| inner.entries.get(key).is_some_and(|(entry, _)| entry.expires <= now))
                .collect()
        };
        for (vlan, mac) in overdue {
            inner.remove(mac, vlan);
            inner.stats.expired += 1;
            self.counters.expired.inc();
            any = true;
        }
        drop(inner);
        if any {
            (self.changed)();
        }
    }

    /// When the next entry expires.
    pub fn deadline(&self) -> Instant {
        let inner = self.lock();
        let oldest = inner.lru.values().next().and_then(|key| inner.entries.get(key));
        oldest.map_or(Instant::NEVER, |(entry, _)| entry.expires)
    }

    /// All entries in the order in which `fdb/show` lists them: the most recently used last.
    pub fn rows(&self, now: Instant) -> Vec<Row> {
        let inner = self.lock();
        let mut all: Vec<_> = inner.entries.iter().collect();
        all.sort_by_key(|(_, (_, stamp))| *stamp);
        all.into_iter()
            .map(|(&(vlan, mac), (entry, _))| {
                let left = entry.expires.since(now);
                let age = (!entry.is_static).then(|| inner.aging.saturating_sub(left).as_secs());
                Row { mac, vlan, bundle: entry.bundle, age }
            })
            .collect()
    }

    /// Counters, present entries and the most there may be.
    pub fn stats(&self) -> (Stats, usize, usize) {
        let inner = self.lock();
        (inner.stats, inner.entries.len(), inner.max)
    }

    /// Zeroes the counters but for that of static entries, which are still there.
    pub fn clear_stats(&self) {
        let mut inner = self.lock();
        inner.stats = Stats { static_entries: inner.stats.static_entries, ..Stats::default() };
    }
}

impl Inner {
    fn put(&mut self, mac: EthAddr, vlan: u16, entry: Entry) {
        self.next_stamp += 1;
        let stamp = self.next_stamp;
        let old = self.entries.insert((vlan, mac), (entry, stamp));
        // An entry that stays where it is keeps its bundle's place among the others.
        let stays =
            old.is_some_and(|(old, _)| !old.is_static && !entry.is_static && old.bundle == entry.bundle);
        if let Some((old, stamp)) = old {
            self.unlist(&old, stamp, !stays);
        }
        if !entry.is_static {
            self.lru.insert(stamp, (vlan, mac));
            self.each.entry(entry.bundle).or_default().insert(stamp, (vlan, mac));
            if !stays {
                self.shares.more(entry.bundle);
            }
        }
    }

    fn remove(&mut self, mac: EthAddr, vlan: u16) -> Option<Entry> {
        let (entry, stamp) = self.entries.remove(&(vlan, mac))?;
        self.unlist(&entry, stamp, true);
        Some(entry)
    }

    fn unlist(&mut self, entry: &Entry, stamp: u64, leaves: bool) {
        if self.lru.remove(&stamp).is_none() {
            return;
        }
        if let Some(own) = self.each.get_mut(&entry.bundle) {
            own.remove(&stamp);
            if own.is_empty() && leaves {
                self.each.remove(&entry.bundle);
            }
        }
        if leaves {
            self.shares.fewer(entry.bundle);
        }
    }

    /// Forgets what was used least recently of a bundle that has the most entries: one bundle with many addresses must
    /// not make the switch forget those of the others.
    fn evict(&mut self) -> bool {
        let fullest = self.shares.most();
        let victim = fullest.and_then(|bundle| self.each.get(&bundle)?.values().next().copied());
        if let Some((vlan, mac)) = victim {
            self.remove(mac, vlan);
            self.stats.evicted += 1;
        }
        victim.is_some()
    }
}

/// How many entries each bundle has, as a heap that treats equals as OVS's does.
#[derive(Default)]
struct Shares {
    heap: Vec<(BundleId, u64)>,
    at: HashMap<BundleId, usize>,
}

impl Shares {
    fn most(&self) -> Option<BundleId> {
        self.heap.first().map(|&(bundle, _)| bundle)
    }

    fn more(&mut self, bundle: BundleId) {
        let at = match self.at.get(&bundle) {
            Some(&at) => at,
            None => {
                self.heap.push((bundle, 0));
                self.heap.len() - 1
            }
        };
        self.heap[at].1 += 1;
        self.at.insert(bundle, at);
        self.settle(at);
    }

    fn fewer(&mut self, bundle: BundleId) {
        let Some(&at) = self.at.get(&bundle) else { return };
        self.heap[at].1 -= 1;
        if self.heap[at].1 == 0 {
            self.at.remove(&bundle);
            self.heap.swap_remove(at);
            if at == self.heap.len() {
                return;
            }
            self.at.insert(self.heap[at].0, at);
        }
        self.settle(at);
    }

    /// Moves what is at `at` up, or else down, to where it belongs.
    fn settle(&mut self, mut at: usize) {
        let mut moved = false;
        while at > 0 && self.heap[(at - 1) / 2].1 < self.heap[at].1 {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
            moved = true;
        }
        if moved {
            return;
        }
        loop {
            let mut most = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if self.heap.get(child).is_some_and(|share| share.1 > self.heap[most].1) {
                    most = child;
                }
            }
            if most == at {
                return;
            }
            self.swap(at, most);
            at = most;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.at.insert(self.heap[a].0, a);
        self.at.insert(self.heap[b].0, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    #[test]
    fn addresses_are_learned_moved_and_forgotten() {
        let changes = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&changes);
        let table = MacTable::new(Counters::default(), move || _ = seen.fetch_add(1, Ordering::Relaxed));
        let (a, b) = (BundleId(1), BundleId(2));
        assert_eq!(table.learn([2; 6], 5, a, false, false, at(0)), Learned::Changed);
        assert_eq!(table.learn([2; 6], 5, a, false, false, at(10)), Learned::Nothing);
        assert_eq!(table.learn([2; 6], 5, b, false, false, at(20)), Learned::Changed);
        assert_eq!(table.lookup([2; 6], 5), Some(b));
        assert_eq!(table.lookup([2; 6], 6), None);
        assert_eq!(table.rows(at(25)), [Row { mac: [2; 6], vlan: 5, bundle: b, age: Some(5) }]);
        table.expire(at(319));
        assert_eq!(table.lookup([2; 6], 5), Some(b));
        table.expire(at(320));
        assert_eq!(table.lookup([2; 6], 5), None);
        assert_eq!(changes.load(Ordering::Relaxed), 3);
        let stats = Stats { learned: 1, expired: 1, moved: 1, ..Stats::default() };
        assert_eq!(table.stats(), (stats, 0, DEFAULT_MAX));
    }

    #[test]
    fn a_full_table_evicts_from_the_bundle_with_the_most() {
        let table = MacTable::new(Counters::default(), || ());
        table.configure(300, 10, None);
        for i in 0..10 {
            let at = at(u64::from(i));
            table.learn([2, 0, 0, 0, 0, i], 0, BundleId(u32::from(i / 2) + 1), false, false, at);
        }
        for i in 0..16 {
            table.learn([2, 0, 0, 0, i, 255], 0, BundleId(6), false, false, at(10 + u64::from(i)));
        }
        let mut left: Vec<_> =
            table.rows(at(30)).iter().map(|row| (row.bundle.0, row.mac[4], row.mac[5])).collect();
        left.sort_unstable();
        let old = [(1, 0, 1), (2, 0, 3), (3, 0, 4), (3, 0, 5), (4, 0, 7), (5, 0, 8), (5, 0, 9)];
        assert_eq!(left[..7], old);
        assert_eq!(left[7..], [(6, 13, 255), (6, 14, 255), (6, 15, 255)]);
    }

    #[test]
    fn a_bundle_is_forgotten_without_a_word() {
        let changes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&changes);
        let table = MacTable::new(Counters::default(), move || _ = count.fetch_add(1, Ordering::Relaxed));
        for i in 0..4 {
            table.learn([2, 0, 0, 0, 0, i], 0, BundleId(u32::from(i % 2)), false, false, at(0));
        }
        let before = changes.load(Ordering::Relaxed);
        assert_eq!(table.flush_bundle(BundleId(0)).len(), 2);
        table.forget_addresses(&[(0, [2, 0, 0, 0, 0, 1])]);
        assert_eq!((table.stats().1, changes.load(Ordering::Relaxed)), (1, before));
        table.flush();
        table.flush();
        assert_eq!((table.stats().1, changes.load(Ordering::Relaxed)), (0, before + 1));
    }

    #[test]
    fn static_entries_stay_and_a_full_table_evicts() {
        let table = MacTable::new(Counters::default(), || ());
        table.configure(300, 10, None);
        assert!(table.add_static([2, 0, 0, 0, 0, 99], 0, BundleId(9)));
        for i in 0..12 {
            table.learn([2, 0, 0, 0, 0, i], 0, BundleId(1), false, false, at(u64::from(i)));
        }
        assert_eq!(table.stats().1, 10);
        assert_eq!(table.stats().0.evicted, 3);
        assert_eq!(table.learn([2, 0, 0, 0, 0, 99], 0, BundleId(1), false, false, at(1)), Learned::Static);
        table.flush();
        assert_eq!(table.lookup([2, 0, 0, 0, 0, 99], 0), Some(BundleId(9)));
        assert!(table.remove_static([2, 0, 0, 0, 0, 99], 0));
    }
}
