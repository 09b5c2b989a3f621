//! A rule: an OpenFlow flow as a table holds it.
//!
//! What a rule matches and does never changes: a modification puts a new rule in the old one's place, which shares the
//! old one's counters if they are to be kept. What readers may change are counters, the times of last use and
//! modification, and (by `fin_timeout`) the timeouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use flow::id::{GroupId, OfPort, TableId};
use flow::key::Key;
use flow::mini::Match;
use flow::time::Instant;
use openflow::action::{self, OfAction};
use openflow::msg::flow_mod::FlowFlags;
use openflow::msg::flow_removed::RemovedReason;
pub use openflow::msg::group::ANY_GROUP;

use super::classifier::{Conjunction, Entry, MaskWord};
use super::event::FlowChange;
use super::version::{Span, Version};

/// Priorities above this are the switch's own: such rules are hidden from OpenFlow.
pub const MAX_PRIORITY: i32 = 0xffff;

const NOT_REMOVED: u8 = u8::MAX;

/// The flags that stay with a rule; the others are for the flow mod only.
pub const STATE_FLAGS: FlowFlags = FlowFlags::SEND_FLOW_REM
    .union(FlowFlags::NO_PACKET_COUNTS)
    .union(FlowFlags::NO_BYTE_COUNTS)
    .union(FlowFlags::CHECK_OVERLAP)
    .union(FlowFlags::RESET_COUNTS);

/// What packets have done with a rule. Shared by a rule and those that took its place.
#[derive(Debug, Default)]
pub struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    /// Of those, how many hardware handled.
    offloaded_packets: AtomicU64,
    offloaded_bytes: AtomicU64,
    /// Nanoseconds of [`Instant`].
    used: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    pub packets: u64,
    pub bytes: u64,
    pub offloaded_packets: u64,
    pub offloaded_bytes: u64,
    /// When a packet last met the rule; its creation if none did.
    pub used: Instant,
}

impl Counters {
    fn new(used: Instant) -> Self {
        Self { used: AtomicU64::new(used.nanos()), ..Self::default() }
    }

    fn read(&self) -> Usage {
        Usage {
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            offloaded_packets: self.offloaded_packets.load(Ordering::Relaxed),
            offloaded_bytes: self.offloaded_bytes.load(Ordering::Relaxed),
            used: Instant::from_nanos(self.used.load(Ordering::Relaxed)),
        }
    }
}

/// What makes a rule, before it is known what it replaces.
#[derive(Clone, Debug)]
pub struct Template {
    pub table: TableId,
    pub priority: i32,
    pub matching: Match,
    pub cookie: u64,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub importance: u16,
    pub flags: FlowFlags,
    pub actions: Arc<[OfAction]>,
    /// The `tun_metadata` fields that match and actions use, a bit each.
    pub tlvs: u64,
}

/// An OpenFlow flow.
#[derive(Debug)]
pub struct Rule {
    /// Unlike that of every other rule of the bridge; a later rule has a greater one.
    pub serial: u64,
    pub table: TableId,
    /// 0 to 65535; higher ones are the switch's own.
    pub priority: i32,
    pub matching: Match,
    pub cookie: u64,
    /// For eviction: less important rules go first.
    pub importance: u16,
    pub flags: FlowFlags,
    pub actions: Arc<[OfAction]>,
    /// The `tun_metadata` fields that match and actions use, a bit each.
    pub tlvs: u64,
    /// When the flow was added; modifications keep it.
    pub created: Instant,
    pub(super) span: Span,
    counters: Arc<Counters>,
    conjunctions: Box<[Conjunction]>,
    /// Idle timeout in the high, hard timeout in the low 16 bits, in seconds.
    timeouts: AtomicU32,
    modified: AtomicU64,
    removed: AtomicU8,
    /// For flow monitors: the sequence numbers of addition and of last modification.
    add_seqno: AtomicU64,
    modify_seqno: AtomicU64,
    place: AtomicU64,
}

/// What a new rule takes from the one in whose place it comes.
pub struct Heritage<'a> {
    pub rule: &'a Rule,
    pub keep_counts: bool,
    /// Whether the flow stays the same one: a modification keeps creation time, timeouts, importance and flags.
    pub same_flow: bool,
    pub keep_cookie: bool,
}

impl Rule {
    /// A rule visible from `version` on.
    pub fn new(
        template: Template,
        serial: u64,
        version: Version,
        now: Instant,
        old: Option<&Heritage<'_>>,
    ) -> Self {
        let Template { table, priority, matching, cookie, idle_timeout, hard_timeout, .. } = template;
        let mut rule = Self {
            serial,
            table,
            priority,
            matching,
            cookie,
            importance: template.importance,
            flags: template.flags & STATE_FLAGS,
            tlvs: template.tlvs,
            created: now,
            span: Span::since(version),
            counters: Arc::new(Counters::new(now)),
            conjunctions: conjunctions(&template.actions),
            actions: template.actions,
            timeouts: AtomicU32::new(pack(idle_timeout, hard_timeout)),
            modified: AtomicU64::new(now.nanos()),
            removed: AtomicU8::new(NOT_REMOVED),
            add_seqno: AtomicU64::new(0),
            modify_seqno: AtomicU64::new(0),
            place: AtomicU64::new(0),
        };
        if let Some(old) = old {
            rule.inherit(old);
        }
        rule
    }

    fn inherit(&mut self, old: &Heritage<'_>) {
        let Heritage { rule, keep_counts, same_flow, keep_cookie } = *old;
        self.counters = match keep_counts {
            true => Arc::clone(&rule.counters),
            false => Arc::new(Counters::new(rule.usage().used)),
        };
        if same_flow {
            self.add_seqno = AtomicU64::new(rule.added_at());
            self.modify_seqno = AtomicU64::new(rule.modified_at());
            self.created = rule.created;
            self.importance = rule.importance;
            self.flags = rule.flags;
            self.timeouts = AtomicU32::new(rule.timeouts.load(Ordering::Relaxed));
        }
        if keep_cookie {
            self.cookie = rule.cookie;
        }
    }

    /// What made it.
    pub fn template(&self) -> Template {
        Template {
            table: self.table,
            priority: self.priority,
            matching: self.matching.clone(),
            cookie: self.cookie,
            idle_timeout: self.idle_timeout(),
            hard_timeout: self.hard_timeout(),
            importance: self.importance,
            flags: self.flags,
            actions: Arc::clone(&self.actions),
            tlvs: self.tlvs,
        }
    }

    /// Whether OpenFlow does not see it.
    pub fn is_hidden(&self) -> bool {
        self.priority > MAX_PRIORITY
    }

    /// Whether packets that meet it fare as if they met another rule of this table, match and priority.
    pub fn acts_as(&self, other: &Self) -> bool {
        self.cookie == other.cookie && self.actions == other.actions
    }

    /// Whether it is a table's miss entry: matches everything at priority 0.
    pub fn is_table_miss(&self) -> bool {
        self.priority == 0 && self.matching.mask.is_empty()
    }

    /// Counts packets that met the rule, at `used` at the latest.
    pub fn credit(&self, packets: u64, bytes: u64, used: Instant) {
        self.counters.packets.fetch_add(packets, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.used.fetch_max(used.nanos(), Ordering::Relaxed);
    }

    /// Says that hardware handled so many of the packets that were [credited](Self::credit).
    pub fn credit_offloaded(&self, packets: u64, bytes: u64) {
        self.counters.offloaded_packets.fetch_add(packets, Ordering::Relaxed);
        self.counters.offloaded_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The counters.
    pub fn usage(&self) -> Usage {
        self.counters.read()
    }

    /// Seconds without packets after which it goes; 0 for never.
    pub fn idle_timeout(&self) -> u16 {
        unpack(self.timeouts.load(Ordering::Relaxed)).0
    }

    /// Seconds from the last modification after which it goes; 0 for never.
    pub fn hard_timeout(&self) -> u16 {
        unpack(self.timeouts.load(Ordering::Relaxed)).1
    }

    /// Whether it has a timeout.
    pub fn expires(&self) -> bool {
        self.timeouts.load(Ordering::Relaxed) != 0
    }

    /// Brings the timeouts down to at most these, where these are not 0.
    pub fn reduce_timeouts(&self, idle: u16, hard: u16) {
        let reduced = |old: u16, max: u16| if max != 0 && (old == 0 || old > max) { max } else { old };
        let reduce = |packed| {
            let (old_idle, old_hard) = unpack(packed);
            Some(pack(reduced(old_idle, idle), reduced(old_hard, hard)))
        };
        // The closure always gives a value, so this cannot fail.
        let _ = self.timeouts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reduce);
    }

    /// When it was last modified, or refreshed by `learn`.
    pub fn modified(&self) -> Instant {
        Instant::from_nanos(self.modified.load(Ordering::Relaxed))
    }

    /// Restarts the hard timeout.
    pub fn set_modified(&self, at: Instant) {
        self.modified.store(at.nanos(), Ordering::Relaxed);
    }

    /// Why it went; `None` while it is there, or if nobody is to be told.
    pub fn removed(&self) -> Option<RemovedReason> {
        RemovedReason::from_wire(self.removed.load(Ordering::Relaxed))
    }

    pub(super) fn set_removed(&self, reason: Option<RemovedReason>) {
        self.removed.store(reason.map_or(NOT_REMOVED, |reason| reason as u8), Ordering::Relaxed);
    }

    /// Notes a change for flow monitors.
    pub(super) fn note_change(&self, change: &FlowChange, seqno: u64) {
        match change {
            FlowChange::Added | FlowChange::Replaced { .. } => {
                self.add_seqno.store(seqno, Ordering::Relaxed);
                self.modify_seqno.store(seqno, Ordering::Relaxed);
            }
            FlowChange::Modified { .. } => self.modify_seqno.store(seqno, Ordering::Relaxed),
            FlowChange::Removed(_) => {}
        }
    }

    /// The sequence number, for flow monitors, of its addition.
    pub fn added_at(&self) -> u64 {
        self.add_seqno.load(Ordering::Relaxed)
    }

    /// The sequence number, for flow monitors, of its last modification or addition.
    pub fn modified_at(&self) -> u64 {
        self.modify_seqno.load(Ordering::Relaxed)
    }

    /// Whether it is in its table, in the latest version.
    pub fn is_live(&self) -> bool {
        !self.span.is_ending()
    }

    /// The reason to remove it now, if its time is over.
    pub fn overdue(&self, now: Instant) -> Option<RemovedReason> {
        let past = |since: Instant, timeout: u16| now.millis() > since.millis() + u64::from(timeout) * 1000;
        let (idle, hard) = unpack(self.timeouts.load(Ordering::Relaxed));
        if hard != 0 && past(self.modified(), hard) {
            Some(RemovedReason::HardTimeout)
        } else if idle != 0 && past(self.usage().used, idle) {
            Some(RemovedReason::IdleTimeout)
        } else {
            None
        }
    }

    /// Whether some action outputs to `port`; every rule does to [`OfPort::NONE`].
    pub fn outputs_to(&self, port: OfPort) -> bool {
        port == OfPort::NONE || action::outputs_to(&self.actions, port)
    }

    /// Whether some action sends to `group`; every rule does to [`ANY_GROUP`].
    pub fn outputs_to_group(&self, group: GroupId) -> bool {
        group == ANY_GROUP || action::outputs_to_group(&self.actions, group)
    }

    /// The groups that actions name, each once.
    pub fn groups(&self) -> Vec<GroupId> {
        let named = |action: &OfAction| match action {
            OfAction::Group(group) => Some(*group),
            _ => None,
        };
        let mut groups: Vec<_> = action::flattened(&self.actions).filter_map(named).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

fn pack(idle: u16, hard: u16) -> u32 {
    u32::from(idle) << 16 | u32::from(hard)
}

fn unpack(timeouts: u32) -> (u16, u16) {
    let [a, b, c, d] = timeouts.to_be_bytes();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

fn conjunctions(actions: &[OfAction]) -> Box<[Conjunction]> {
    actions
        .iter()
        .filter_map(|action| match action {
            OfAction::Conjunction(c) => {
                Some(Conjunction { id: c.id, clause: c.clause, n_clauses: c.n_clauses })
            }
            _ => None,
        })
        .collect()
}

/// The words of a match as the classifier takes them.
pub fn match_words(matching: &Match) -> (Box<[MaskWord]>, Key) {
    let word =
        |(index, bits): (usize, u64)| MaskWord { index: u16::try_from(index).expect("a key is short"), bits };
    (matching.mask.iter().map(word).collect(), matching.key.expand())
}

impl Entry for Rule {
    fn match_words(&self) -> (Box<[MaskWord]>, Key) {
        match_words(&self.matching)
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn is_visible(&self, version: Version) -> bool {
        self.span.contains(version)
    }

    fn is_ending(&self) -> bool {
        self.span.is_ending()
    }

    fn conjunctions(&self) -> &[Conjunction] {
        &self.conjunctions
    }

    fn place(&self) -> &AtomicU64 {
        &self.place
    }
}
