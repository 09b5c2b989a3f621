//! What translating a packet does besides giving actions; kept with a datapath flow to be done again for its packets.

use std::sync::Arc;

use flow::key::EthAddr;
use flow::proto::tcp;
use flow::time::Instant;
use openflow::msg::flow_mod::FlowMod;
use smallvec::SmallVec;

use super::asked::Asked;
use super::mac::{Learned, MacTable};
use super::snapshot::{BridgeId, BundleId, PatchCounters};
use crate::ofproto::{Group, Rule, Tables};
use flow::id::TableId;

/// Packets that took a way.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    pub packets: u64,
    pub bytes: u64,
    /// When the last of them came.
    pub used: Instant,
    /// All TCP flags that they had.
    pub tcp_flags: u16,
}

/// One effect of a translation.
#[derive(Clone)]
pub enum Effect {
    /// A rule was met that was in no table.
    Rule(Arc<Rule>),
    /// A rule was met in a table.
    Met { rule: Arc<Rule>, tables: Arc<Tables>, table: TableId, asked: Asked },
    /// A table was looked in, in vain.
    Missed { tables: Arc<Tables>, table: TableId, asked: Asked },
    /// Went through a group: by one bucket, or all.
    Group { group: Arc<Group>, bucket: Option<usize> },
    /// A source address was seen.
    Mac { macs: Arc<MacTable>, bundle: BundleId, mac: EthAddr, vlan: u16, gratuitous: bool, bonded: bool },
    /// Went out by one counted port and in by another; either may be absent.
    Patch { tx: Option<Arc<PatchCounters>>, rx: Option<Arc<PatchCounters>> },
    /// A `learn` action's flow is to be there.
    Learn { bridge: BridgeId, request: Arc<FlowMod>, limit: u32 },
    /// `fin_timeout` of a rule.
    FinTimeout { bridge: BridgeId, rule: Arc<Rule>, idle: u16, hard: u16 },
}

/// The effects of a translation, in order.
pub type Effects = SmallVec<[Effect; 4]>;

/// An effect that only the tables' one writer can carry out.
#[derive(Clone)]
pub enum Deferred {
    Learn { bridge: BridgeId, request: Arc<FlowMod>, limit: u32, used: Instant },
    FinTimeout { bridge: BridgeId, rule: Arc<Rule>, idle: u16, hard: u16 },
}

impl Effect {
    /// The rule that was met in a table, if one was.
    pub fn met(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::Met { rule, .. } => Some(rule),
            _ => None,
        }
    }

    /// Whether it holds something of the packet that it was made for.
    pub fn is_of_packet(&self) -> bool {
        matches!(self, Self::Mac { .. } | Self::Learn { .. })
    }

    /// Whether two effects are the same thing.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rule(a), Self::Rule(b)) => Arc::ptr_eq(a, b),
            (
                Self::Met { rule: a, tables: m, table: t, asked: q },
                Self::Met { rule: b, tables: n, table: u, asked: r },
            ) => Arc::ptr_eq(a, b) && Arc::ptr_eq(m, n) && (t, q) == (u, r),
            (
                Self::Missed { tables: a, table: t, asked: q },
                Self::Missed { tables: b, table: u, asked: r },
            ) => Arc::ptr_eq(a, b) && (t, q) == (u, r),
            (Self::Group { group: a, bucket: m }, Self::Group { group: b, bucket: n }) => {
                Arc::ptr_eq(a, b) && m == n
            }
            (Self::Mac { bundle: a, mac: m, vlan: v, .. }, Self::Mac { bundle: b, mac: n, vlan: w, .. }) => {
                (a, m, v) == (b, n, w)
            }
            (Self::Patch { tx: a, rx: m }, Self::Patch { tx: b, rx: n }) => {
                let same = |a: &Option<Arc<PatchCounters>>, b: &Option<Arc<PatchCounters>>| {
                    a.as_ref().map(Arc::as_ptr) == b.as_ref().map(Arc::as_ptr)
                };
                same(a, b) && same(m, n)
            }
            (Self::Learn { request: a, .. }, Self::Learn { request: b, .. }) => a == b,
            (Self::FinTimeout { rule: a, .. }, Self::FinTimeout { rule: b, .. }) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Carries the effect out for `stats`, or gives it to `defer`.
    pub fn apply(&self, stats: &Stats, defer: &mut dyn FnMut(Deferred)) {
        let (packets, bytes) = (stats.packets, stats.bytes);
        match self {
            Self::Rule(rule) => rule.credit(packets, bytes, stats.used),
            Self::Met { rule, tables, table, .. } => {
                rule.credit(packets, bytes, stats.used);
                if let Some(table) = tables.table(*table) {
                    table.credit(packets, 0);
                }
            }
            Self::Missed { tables, table, .. } => {
                if let Some(table) = tables.table(*table) {
                    table.credit(0, packets);
                }
            }
            Self::Group { group, bucket } => group.credit(*bucket, packets, bytes),
            Self::Mac { macs, bundle, mac, vlan, gratuitous, bonded } => {
                if macs.learn(*mac, *vlan, *bundle, *gratuitous, *bonded, stats.used) == Learned::Static {
                    macs.count_static();
                }
            }
            Self::Patch { tx, rx } => {
                if let Some(tx) = tx {
                    tx.tx(packets, bytes);
                }
                if let Some(rx) = rx {
                    rx.rx(packets, bytes);
                }
            }
            Self::Learn { bridge, request, limit } => defer(Deferred::Learn {
                bridge: *bridge,
                request: Arc::clone(request),
                limit: *limit,
                used: stats.used,
            }),
            Self::FinTimeout { bridge, rule, idle, hard } => {
                if stats.tcp_flags & (tcp::FIN | tcp::RST) != 0 {
                    let (rule, idle, hard) = (Arc::clone(rule), *idle, *hard);
                    defer(Deferred::FinTimeout { bridge: *bridge, rule, idle, hard });
                }
            }
        }
    }
}

/// Carries out effects in order.
pub fn apply_all(effects: &[Effect], stats: &Stats, defer: &mut dyn FnMut(Deferred)) {
    for effect in effects {
        effect.apply(stats, defer);
    }
}
