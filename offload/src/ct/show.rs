//! What commands tell of connections in hardware.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;

use datapath::conntrack::Entry;
use serde::Serialize;

use super::gc::Gc;
use super::nic::Body;
use super::rule::State as RuleState;
use super::table::{Cause, Connection, Rule, Stage, Step, Totals};
use super::worker::{Service, Token};

/// One direction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShownRule {
    pub port: String,
    pub handle: u32,
    pub state: &'static str,
    pub packets: u64,
    pub bytes: u64,
}

/// A connection; without text, what an earlier process left.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShownConnection {
    pub connection: Option<String>,
    pub zone: u16,
    pub stage: Stage,
    pub orig: Option<ShownRule>,
    pub reply: Option<ShownRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl ShownConnection {
    /// A connection that the kernel has in a flow table, or in hardware; `None` of others.
    pub fn of_kernel(entry: &Entry) -> Option<Self> {
        let stage = match entry.status {
            status if status & IPS_HW_OFFLOAD != 0 => Stage::InHardware,
            status if status & IPS_OFFLOAD != 0 => Stage::Pending,
            _ => return None,
        };
        let (connection, zone) = (Some(entry.text(false, false)), entry.zone.0);
        Some(Self { connection, zone, stage, orig: None, reply: None, why: None })
    }
}

/// `offload/ct-show`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Show {
    pub connections: Vec<ShownConnection>,
    #[serde(skip)]
    pub with_why: bool,
}

const fn state_name(state: RuleState) -> &'static str {
    match state {
        RuleState::Wanted(_) => "wanted",
        RuleState::Pushing(..) => "pushing",
        RuleState::Unsure(_) | RuleState::Reading(..) => "unsure",
        RuleState::InHardware => "in_hardware",
        RuleState::Doomed(_) => "doomed",
        RuleState::Deleting(..) => "deleting",
        RuleState::Gone => "gone",
    }
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Pending => "pending",
        Stage::InHardware => "in_hardware",
        Stage::Dying => "dying",
        Stage::Software => "software",
    }
}

fn shown_rule(rule: &Rule<Body>, ports: &BTreeMap<u32, String>) -> ShownRule {
    let port = ports.get(&rule.name.port).cloned().unwrap_or_else(|| rule.name.port.to_string());
    let (handle, state) = (rule.name.handle, state_name(rule.progress.state));
    ShownRule { port, handle, state, packets: rule.packets, bytes: rule.bytes }
}

/// Why directions are in software.
fn in_software(connection: &Connection<Token, Body>) -> Option<String> {
    let why = connection.software.each_ref().map(|software| software.as_ref().map(|(why, _)| why));
    match why {
        [None, None] => None,
        [Some(orig), None] => Some(format!("orig: {orig}")),
        [None, Some(reply)] => Some(format!("reply: {reply}")),
        [Some(orig), Some(reply)] if orig == reply => Some(orig.clone()),
        [Some(orig), Some(reply)] => Some(format!("orig: {orig}; reply: {reply}")),
    }
}

impl Show {
    fn one(
        connection: &Connection<Token, Body>,
        entry: Option<Entry>,
        ports: &BTreeMap<u32, String>,
    ) -> ShownConnection {
        let [orig, reply] = connection.rules.each_ref();
        let ending = || connection.ending.map(|cause| cause.name().to_owned());
        ShownConnection {
            connection: entry.map(|entry| entry.text(false, false)),
            zone: connection.zone,
            stage: connection.stage(),
            orig: orig.as_ref().map(|rule| shown_rule(rule, ports)),
            reply: reply.as_ref().map(|rule| shown_rule(rule, ports)),
            why: in_software(connection).or_else(ending),
        }
    }
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for connection in &self.connections {
            match &connection.connection {
                Some(text) => write!(f, "{text}")?,
                None => write!(f, "leftover,zone={}", connection.zone)?,
            }
            write!(f, ", {}", stage_name(connection.stage))?;
            for (dir, rule) in [("orig", &connection.orig), ("reply", &connection.reply)] {
                if let Some(rule) = rule {
                    let ShownRule { port, handle, state, packets, bytes } = rule;
                    write!(
                        f,
                        ", {dir}=(port={port},handle={handle:#x},{state},packets={packets},bytes={bytes})"
                    )?;
                }
            }
            if let Some(why) = connection.why.as_ref().filter(|_| self.with_why) {
                write!(f, ", why: {why}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// `offload/ct-stats` of one datapath.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Stats {
    pub connections: BTreeMap<Stage, usize>,
    pub rules: usize,
    pub in_flight: usize,
    #[serde(flatten)]
    pub totals: Totals,
    /// Notes of workers for which there was no room.
    pub notes_dropped: u64,
    pub gc: GcStats,
    /// Directions of connections that stay in software for now, by reason.
    pub software: BTreeMap<String, usize>,
    /// Directions that were not taken so far, by reason.
    pub declined: BTreeMap<String, u64>,
}

/// What the collector did.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct GcStats {
    pub steps: u64,
    pub walks: u64,
    pub missing: u64,
    pub latest: Step,
}

impl From<&Gc> for GcStats {
    fn from(gc: &Gc) -> Self {
        Self { steps: gc.steps, walks: gc.walks, missing: gc.missing, latest: gc.latest }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = |stage| self.connections.get(&stage).copied().unwrap_or(0);
        writeln!(f, "connections: {}", self.connections.values().sum::<usize>())?;
        for of in [Stage::Pending, Stage::InHardware, Stage::Dying, Stage::Software] {
            writeln!(f, "  {}: {}", stage_name(of), stage(of))?;
        }
        writeln!(f, "rules: {} requests: {}", self.rules, self.in_flight)?;
        let totals = &self.totals;
        writeln!(f, "pushed: {} deleted: {} freed: {}", totals.pushed, totals.deleted, totals.freed)?;
        writeln!(f, "refused: {} given up: {}", totals.refused, totals.gave_up)?;
        writeln!(
            f,
            "deletions repeated: {} unanswered: {} late: {}",
            totals.delete_failed, totals.unanswered, totals.late
        )?;
        writeln!(f, "no room: {} notes dropped: {}", totals.full, self.notes_dropped)?;
        let GcStats { steps, walks, missing, latest } = &self.gc;
        writeln!(f, "collector: steps {steps} walks {walks} missing {missing}, {latest}")?;
        writeln!(f, "ended:")?;
        for cause in Cause::ALL {
            let count = totals.ended.get(cause).copied().unwrap_or(0);
            writeln!(f, "  {}: {count}", cause.name())?;
        }
        writeln!(f, "software: {}", self.software.values().sum::<usize>())?;
        self.software.iter().try_for_each(|(why, count)| writeln!(f, "  {count:>7} {why}"))?;
        writeln!(f, "declined: {}", self.declined.values().sum::<u64>())?;
        self.declined.iter().try_for_each(|(why, count)| writeln!(f, "  {count:>7} {why}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { looked, expired, dying, teardown } = self;
        write!(f, "looked {looked} expired {expired} dying {dying} teardown {teardown}")
    }
}

impl Service {
    /// The connections, of one zone if one is given, in the order of their texts.
    pub fn show(&self, zone: Option<u16>, with_why: bool) -> Show {
        let state = self.shared.state();
        let (ports, now) = (state.port_names(), self.shared.now());
        let mut connections: Vec<_> = state
            .table
            .connections()
            .filter(|connection| zone.is_none_or(|zone| zone == connection.zone))
            .map(|connection| {
                let entry = connection.token.as_ref().map(|token| token.0.entry(now));
                Show::one(connection, entry, &ports)
            })
            .collect();
        connections.sort_by(|a, b| a.connection.cmp(&b.connection));
        Show { connections, with_why }
    }

    /// The figures.
    pub fn stats(&self) -> Stats {
        let state = self.shared.state();
        let mut software: BTreeMap<String, usize> = BTreeMap::new();
        for (why, _) in state.table.connections().flat_map(|connection| connection.software.iter().flatten())
        {
            *software.entry(why.clone()).or_default() += 1;
        }
        Stats {
            connections: state.table.stages(),
            rules: state.table.rules(),
            in_flight: state.table.in_flight(),
            totals: state.table.totals.clone(),
            notes_dropped: self.shared.inbox.dropped.load(Ordering::Relaxed),
            gc: GcStats::from(&state.gc),
            software,
            declined: state.declined.clone(),
        }
    }
}

/// Connections that the kernel's tracker has in hardware or in its flow tables (`IPS_HW_OFFLOAD`, `IPS_OFFLOAD`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct KernelStats {
    pub connections: usize,
    pub offloaded: usize,
    pub in_hardware: usize,
}

/// Bits of `ctnetlink`'s status.
pub const IPS_OFFLOAD: u32 = 1 << 14;
pub const IPS_HW_OFFLOAD: u32 = 1 << 15;

impl KernelStats {
    pub fn count(&mut self, entry: &Entry) {
        self.connections += 1;
        self.offloaded += usize::from(entry.status & IPS_OFFLOAD != 0);
        self.in_hardware += usize::from(entry.status & IPS_HW_OFFLOAD != 0);
    }
}

impl fmt::Display for KernelStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, offloaded, in_hardware } = self;
        writeln!(f, "connections: {connections}\n  offloaded: {offloaded}\n  in_hardware: {in_hardware}")
    }
}
