//! The tables as readers see them: rules, groups, and what a miss leads to.
//!
//! Readers pin a version once a translation ([`Tables::pin`]) and look up in that version.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use flow::id::{DpMeter, GroupId, OfPort, TableId};
use flow::key::{Key, frag};
use flow::mini::Match;
use flow::tlv;
use openflow::msg::flow_mod::FlowMod;
use openflow::msg::switch::FragHandling;
use openflow::msg::table::TableMiss;

use super::classifier::{Classifier, Entry, Looked};
use super::group::{Group, Groups};
use super::journal::Journal;
use super::rule::{Rule, match_words};
use super::version::{Pin, Version, Versions};

/// How many tables a bridge has, the internal one included: every number but [`ALL_TABLES`] is a table's.
pub const N_TABLES: u8 = 255;
/// The table of the switch's own rules: hidden, and not writable by OpenFlow.
pub const INTERNAL: TableId = TableId(254);
/// Every table, or any one.
pub const ALL_TABLES: TableId = TableId(255);

const MISSES: [TableMiss; 4] =
    [TableMiss::Default, TableMiss::Controller, TableMiss::Continue, TableMiss::Drop];
const FRAGS: [FragHandling; 4] =
    [FragHandling::Normal, FragHandling::Drop, FragHandling::Reassemble, FragHandling::NxMatch];

/// A choice among few values that readers see at once.
struct Choice<T: 'static> {
    from: &'static [T],
    index: AtomicU8,
}

impl<T: Copy + PartialEq> Choice<T> {
    const fn first_of(from: &'static [T]) -> Self {
        Self { from, index: AtomicU8::new(0) }
    }

    fn get(&self) -> T {
        self.from[usize::from(self.index.load(Ordering::Relaxed))]
    }

    fn set(&self, value: T) {
        if let Some((index, _)) = (0u8..).zip(self.from).find(|&(_, &choice)| choice == value) {
            self.index.store(index, Ordering::Relaxed);
        }
    }
}

/// One table.
pub struct Table {
    pub(super) classifier: Classifier<Rule>,
    miss: Choice<TableMiss>,
    matched: AtomicU64,
    missed: AtomicU64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            classifier: Classifier::default(),
            miss: Choice::first_of(&MISSES),
            matched: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }
}

impl Table {
    /// What becomes of a packet that no rule matches.
    pub fn miss(&self) -> TableMiss {
        self.miss.get()
    }

    pub(super) fn set_miss(&self, miss: TableMiss) {
        self.miss.set(miss);
    }

    /// The rule of exactly this match and priority in `version`, if it is not part of conjunctions.
    pub fn plain_rule(&self, matching: &Match, priority: i32, version: Version) -> Option<Arc<Rule>> {
        let (mask, key) = match_words(matching);
        let rule = self.classifier.find_exactly(&mask, &key, priority, version)?;
        rule.conjunctions().is_empty().then_some(rule)
    }

    /// Counts lookups: those that found a rule, and those that did not.
    pub fn credit(&self, matched: u64, missed: u64) {
        self.matched.fetch_add(matched, Ordering::Relaxed);
        self.missed.fetch_add(missed, Ordering::Relaxed);
    }

    /// Lookups that found a rule, and those that did not.
    pub fn lookups(&self) -> (u64, u64) {
        (self.matched.load(Ordering::Relaxed), self.missed.load(Ordering::Relaxed))
    }
}

/// A bridge's tables.
pub struct Tables {
    pub(super) versions: Versions,
    tables: Box<[Table]>,
    pub(super) groups: Groups,
    /// OpenFlow meters that the datapath has.
    pub(super) meters: ArcSwap<HashMap<u32, DpMeter>>,
    /// Mapped tunnel options, and whether there are any: most bridges have none, and every translation asks.
    pub(super) tlvs: ArcSwap<tlv::Table>,
    has_tlvs: AtomicBool,
    fragments: Choice<FragHandling>,
    pub(super) journal: Journal,
    pub(super) internal: Internal,
}

/// The switch's own rules, which lookups lead to where no table has one.
#[derive(Default)]
pub(super) struct Internal {
    pub miss: ArcSwapOption<Rule>,
    pub no_packet_in: ArcSwapOption<Rule>,
    pub drop_fragments: ArcSwapOption<Rule>,
}

/// How to look a packet up from a table on.
pub struct Start<'a> {
    pub version: Version,
    pub table: TableId,
    /// The input port to look up with; that of the key is for packet-ins.
    pub in_port: OfPort,
    /// Whether a miss may become a packet-in. It does not for packets that a controller sent.
    pub may_packet_in: bool,
    /// Whether a miss follows the table's configuration; else it is the end.
    pub honor_table_miss: bool,
    /// The table was looked in already, in vain.
    pub missed: bool,
    /// Whether some controller wants packet-ins for misses of unconfigured tables.
    pub packet_in_on_miss: &'a dyn Fn() -> bool,
    /// Whether a port exists and lets its misses become packet-ins.
    pub port_sends_misses: &'a dyn Fn(OfPort) -> bool,
    /// Told each table that was looked in, and whether it had a rule.
    pub visited: &'a mut dyn FnMut(TableId, bool),
}

/// What a lookup from a table on leads to.
pub struct Landing {
    pub rule: Arc<Rule>,
    /// The table last looked in.
    pub table: TableId,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            versions: Versions::default(),
            tables: (0..N_TABLES).map(|_| Table::default()).collect(),
            groups: Groups::default(),
            meters: ArcSwap::default(),
            tlvs: ArcSwap::default(),
            has_tlvs: AtomicBool::new(false),
            fragments: Choice::first_of(&FRAGS),
            journal: Journal::default(),
            internal: Internal::default(),
        }
    }
}

impl Tables {
    /// Pins the published version: hold it for one translation.
    pub fn pin(&self) -> Pin {
        self.versions.pin()
    }

    /// The published version.
    pub fn version(&self) -> Version {
        self.versions.current()
    }

    /// The table of that number, if there is one.
    pub fn table(&self, id: TableId) -> Option<&Table> {
        self.tables.get(usize::from(id.0))
    }

    /// All tables, in order.
    pub fn iter(&self) -> impl Iterator<Item = (TableId, &Table)> {
        (0..N_TABLES).map(TableId).zip(&self.tables)
    }

    /// How often anything changed that a translation depends on. One that began at another count may be out of date.
    pub fn changes(&self) -> u64 {
        self.journal.count()
    }

    /// What changed.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Says that something changed that translations depend on.
    pub fn note_change(&self) {
        self.journal.note_any();
    }

    /// The rule of `table` that `key` meets in `version`. Adds to `wildcards` the bits that decided it.
    pub fn lookup(
        &self,
        version: Version,
        table: TableId,
        key: &Key,
        wildcards: Option<&mut Looked>,
    ) -> Option<Arc<Rule>> {
        self.lookup_conjunctive(version, table, key, wildcards, None)
    }

    /// As [`Self::lookup`], and adds to `flows` the conjunctive flows that led to the rule.
    pub fn lookup_conjunctive(
        &self,
        version: Version,
        table: TableId,
        key: &Key,
        wildcards: Option<&mut Looked>,
        flows: Option<&mut Vec<Arc<Rule>>>,
    ) -> Option<Arc<Rule>> {
        self.table(table)?.classifier.lookup(version, key, wildcards, flows)
    }

    /// Looks a packet up from a table on, as [`Start`] says. `None` only before the internal rules exist.
    pub fn lookup_from(
        &self,
        start: Start<'_>,
        key: &Key,
        mut wildcards: Option<&mut Looked>,
        mut flows: Option<&mut Vec<Arc<Rule>>>,
    ) -> Option<Landing> {
        let received_on = OfPort(u16::try_from(key.in_port).unwrap_or(OfPort::NONE.0));
        let handling = if key.nw_frag & frag::ANY == 0 { FragHandling::NxMatch } else { self.fragments() };
        if matches!(handling, FragHandling::Drop | FragHandling::Reassemble) {
            (start.visited)(start.table, true);
            let rule = self.internal.drop_fragments.load_full()?;
            return Some(Landing { rule, table: start.table });
        }
        // A key is long: most need no copy.
        let mut changed = None;
        if handling == FragHandling::Normal || key.in_port != u32::from(start.in_port.0) {
            let changed = changed.insert(Key { in_port: start.in_port.0.into(), ..*key });
            if handling == FragHandling::Normal {
                (changed.tp_src, changed.tp_dst) = (0.into(), 0.into());
            }
        }
        let key = changed.as_ref().unwrap_or(key);
        let mut last = start.table;
        let mut miss = TableMiss::Continue;
        for table in (start.table.0..N_TABLES).map(TableId).filter(|&id| id != INTERNAL || id == start.table)
        {
            last = table;
            let found = match start.missed && table == start.table {
                true => None,
                false => {
                    let (wildcards, flows) = (wildcards.as_deref_mut(), flows.as_deref_mut());
                    self.lookup_conjunctive(start.version, table, key, wildcards, flows)
                }
            };
            (start.visited)(table, found.is_some());
            if let Some(rule) = found {
                return Some(Landing { rule, table });
            }
            if start.honor_table_miss {
                miss = self.table(table).map_or(TableMiss::Drop, Table::miss);
            }
            if !start.honor_table_miss || miss != TableMiss::Continue {
                break;
            }
        }
        let to_controller = start.may_packet_in
            && match miss {
                TableMiss::Continue | TableMiss::Controller => (start.port_sends_misses)(received_on),
                TableMiss::Default => (start.packet_in_on_miss)(),
                TableMiss::Drop => false,
            };
        let rule = if to_controller { &self.internal.miss } else { &self.internal.no_packet_in };
        Some(Landing { rule: rule.load_full()?, table: last })
    }

    /// Whether a rule is the one that sends table misses to controllers.
    pub fn is_miss_rule(&self, rule: &Arc<Rule>) -> bool {
        self.internal.miss.load().as_ref().is_some_and(|miss| Arc::ptr_eq(miss, rule))
    }

    /// Whether a rule is one of those that end a lookup that found none.
    pub fn is_special(&self, rule: &Arc<Rule>) -> bool {
        let Internal { miss, no_packet_in, drop_fragments } = &self.internal;
        [miss, no_packet_in, drop_fragments]
            .iter()
            .any(|special| special.load().as_ref().is_some_and(|special| Arc::ptr_eq(special, rule)))
    }

    /// Whether a rule is the one that drops fragments where that is what becomes of them.
    pub fn is_drop_fragments_rule(&self, rule: &Arc<Rule>) -> bool {
        self.internal.drop_fragments.load().as_ref().is_some_and(|drop| Arc::ptr_eq(drop, rule))
    }

    /// Whether the flow that a flow mod would add or modify is there, as of now.
    pub fn has_flow(&self, request: &FlowMod) -> bool {
        let (mask, key) = match_words(&request.matching);
        let table = self.table(request.table_id);
        let find = |table: &Table| {
            table.classifier.find_exactly(&mask, &key, request.priority.into(), self.version())
        };
        table.and_then(find).is_some()
    }

    /// How many rules of a table have a cookie in `version`.
    pub fn count_cookie(&self, table: TableId, cookie: u64, version: Version) -> usize {
        let rules = self.table(table).map(|table| table.classifier.matching(&[], &Key::default(), version));
        rules.map_or(0, |rules| rules.iter().filter(|rule| rule.cookie == cookie).count())
    }

    /// The group of that number in `version`.
    pub fn group(&self, version: Version, id: GroupId) -> Option<Arc<Group>> {
        self.groups.find(version, id)
    }

    /// The datapath's meter for an OpenFlow meter.
    pub fn meter(&self, id: u32) -> Option<DpMeter> {
        self.meters.load().get(&id).copied()
    }

    /// Which Geneve option each `tun_metadata` field is.
    pub fn tlvs(&self) -> tlv::Shared {
        match self.has_tlvs.load(Ordering::Acquire) {
            true => self.tlvs.load_full().into(),
            false => tlv::Shared::default(),
        }
    }

    pub(super) fn set_tlvs(&self, table: tlv::Table) {
        let any = table.iter().next().is_some();
        self.tlvs.store(Arc::new(table));
        self.has_tlvs.store(any, Ordering::Release);
    }

    /// What becomes of IP fragments.
    pub fn fragments(&self) -> FragHandling {
        self.fragments.get()
    }

    pub(super) fn set_fragments(&self, fragments: FragHandling) {
        self.fragments.set(fragments);
        self.note_change();
    }
}
