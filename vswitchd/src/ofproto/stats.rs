//! What statistics requests are answered with.

use std::fmt::Write;
use std::sync::Arc;

use flow::describe::match_to_string;
use flow::field::NoNames;
use flow::id::TableId;
use flow::time::Instant;
use openflow::action;
use openflow::names::Names;

use super::rule::{MAX_PRIORITY, Rule, Usage};
use super::switch::Ofproto;

/// The entries that every table claims room for, unless it has fewer.
pub(super) const MAX_ENTRIES: u32 = 1_000_000;

/// The sum over some flows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Aggregate {
    pub packets: u64,
    pub bytes: u64,
    pub flows: u32,
}

/// What table statistics tell of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableStats {
    pub table: TableId,
    /// Empty for none.
    pub name: String,
    pub active: u32,
    pub max_entries: u32,
    pub lookups: u64,
    pub matched: u64,
}

/// A flow's counters and ages at some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowAges {
    pub usage: Usage,
    pub duration: std::time::Duration,
    /// Seconds since a packet last met the flow.
    pub idle: u16,
    /// Seconds since the flow was last modified.
    pub hard: u16,
}

impl Rule {
    /// Counters and ages at `now`.
    pub fn ages(&self, now: Instant) -> FlowAges {
        let usage = self.usage();
        let secs = |since: Instant| {
            u16::try_from(now.millis().saturating_sub(since.millis()) / 1000).unwrap_or(u16::MAX)
        };
        FlowAges {
            duration: age(self.created, now),
            idle: secs(usage.used),
            hard: secs(self.modified()),
            usage,
        }
    }
}

/// How long ago something was made, in whole milliseconds: as messages tell it.
pub(super) fn age(created: Instant, now: Instant) -> std::time::Duration {
    std::time::Duration::from_millis(now.millis().saturating_sub(created.millis()))
}

/// The sum over `rules`.
pub fn aggregate(rules: &[Arc<Rule>]) -> Aggregate {
    let mut sum = Aggregate::default();
    for rule in rules {
        let usage = rule.usage();
        sum.packets = sum.packets.wrapping_add(usage.packets);
        sum.bytes = sum.bytes.wrapping_add(usage.bytes);
        sum.flows += 1;
    }
    sum
}

impl Ofproto {
    /// Statistics of every table that OpenFlow sees. Hidden flows of table 0 are not counted.
    pub fn table_stats(&self) -> Vec<TableStats> {
        self.visible_tables().map(|id| self.stats_of(id)).collect()
    }

    fn stats_of(&self, id: TableId) -> TableStats {
        let book = self.book(id);
        let (matched, missed) = self.tables().table(id).map_or((0, 0), |table| table.lookups());
        let hidden = match id {
            TableId(0) => self.n_hidden(),
            _ => 0,
        };
        TableStats {
            table: id,
            name: book.name.clone().unwrap_or_default(),
            active: book.n_flows.saturating_sub(hidden),
            max_entries: book.max_flows.min(MAX_ENTRIES),
            lookups: matched + missed,
            matched,
        }
    }

    fn n_hidden(&self) -> u32 {
        let hidden = self.rules(TableId(0)).iter().filter(|rule| rule.is_hidden()).count();
        u32::try_from(hidden).unwrap_or(u32::MAX)
    }

    /// The text of `bridge/dump-flows`: every flow, hidden ones and the internal table included.
    pub fn dump_flows(&self, offload: bool, now: Instant) -> String {
        let _matches = flow::tlv::enter(self.tables().tlvs());
        let mut out = String::new();
        for (id, _) in self.tables().iter() {
            for rule in self.rules(id) {
                dump_flow(&rule, offload, now, &mut out);
            }
        }
        out
    }
}

/// One line of `bridge/dump-flows`.
pub fn dump_flow(rule: &Rule, offload: bool, now: Instant, out: &mut String) {
    let usage = rule.usage();
    if rule.cookie != 0 {
        let _ = write!(out, "cookie=0x{:x}, ", rule.cookie);
    }
    if rule.table.0 != 0 {
        let _ = write!(out, "table_id={}, ", rule.table);
    }
    let secs = now.millis().saturating_sub(rule.created.millis()) / 1000;
    let _ = write!(out, "duration={secs}s, n_packets={}, n_bytes={}, ", usage.packets, usage.bytes);
    if offload {
        let (packets, bytes) = (usage.offloaded_packets, usage.offloaded_bytes);
        let _ = write!(out, "n_offload_packets={packets}, n_offload_bytes={bytes}, ");
    }
    out.push_str(&rule_text(rule));
    let _ = writeln!(out, ",actions={}", action::text(&rule.actions, &Names::default()));
}

/// Priority and match as text, ports by number.
pub fn rule_text(rule: &Rule) -> String {
    let full = rule.matching.expand();
    match u16::try_from(rule.priority) {
        Ok(priority) => match_to_string(&full, Some(priority), &NoNames),
        Err(_) => {
            debug_assert!(rule.priority > MAX_PRIORITY || rule.priority < 0);
            let text = match_to_string(&full, None, &NoNames);
            let comma = if text.is_empty() { "" } else { "," };
            format!("priority={}{comma}{text}", rule.priority)
        }
    }
}
