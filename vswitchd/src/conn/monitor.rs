//! Flow monitors of a peer, and what they are told.

use std::collections::BTreeMap;

use flow::id::OfPort;
use openflow::action::{self, OfAction};
use openflow::header::Multipart;
use openflow::msg::flow_removed::RemovedReason;
use openflow::msg::monitor::{self, FlowUpdate, MonitorFlags, MonitorRequest, UpdateEvent, reply_raw};

use super::manager::Link;
use super::vconn::Kind;
use crate::ofproto::Rule;
use crate::ofproto::event::{FlowChange, Requester};
use crate::ofproto::monitor::Watched;

/// Updates that may wait to be sent before the peer is told no more for now.
const MAX_BACKLOG: usize = 128 * 1024;

/// A monitor.
#[derive(Clone)]
pub struct Monitor {
    pub flags: MonitorFlags,
    pub watched: Watched,
}

impl Monitor {
    /// What a request asks for.
    pub fn new(request: MonitorRequest) -> Self {
        let MonitorRequest { flags, out_port, out_group, table_id: table, matching, .. } = request;
        Self { flags, watched: Watched { table, matching, out_port, out_group } }
    }

    /// Whether a rule is watched, or was by the actions that it had.
    fn covers(&self, rule: &Rule, old_actions: Option<&[OfAction]>) -> bool {
        if self.watched.covers(rule) {
            return true;
        }
        old_actions.is_some_and(|old| {
            action::outputs_to(old, self.watched.out_port)
                && Watched { out_port: OfPort::NONE, ..self.watched.clone() }.covers(rule)
        })
    }
}

/// The monitors of a peer.
#[derive(Default)]
pub struct Monitors {
    by_id: BTreeMap<u32, Monitor>,
    /// What the peer was last told, if it is told no more for now: a sequence number of the switch.
    pub paused: Option<u64>,
    /// Updates that belong together.
    updates: Option<Multipart>,
    /// Whether they say already that the peer's own request had effects.
    abbreviated: bool,
}

impl Monitors {
    pub fn get(&self, id: u32) -> Option<&Monitor> {
        self.by_id.get(&id)
    }

    pub fn insert(&mut self, id: u32, monitor: Monitor) {
        self.by_id.insert(id, monitor);
    }

    /// Takes a monitor out; says whether it was there.
    pub fn remove(&mut self, id: u32) -> bool {
        self.by_id.remove(&id).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Monitor> {
        self.by_id.values()
    }
}

impl Link {
    /// Notes a change for the peer's monitors.
    pub fn note_change(&mut self, rule: &Rule, change: &FlowChange, by: Option<Requester>) {
        let id = self.id;
        let Some(peer) = self.peer.as_deref_mut().filter(|peer| !peer.monitors.by_id.is_empty()) else {
            return;
        };
        let Some(version) = peer.version() else { return };
        let (event, wanted, old, reason) = parts_of(change);
        let monitors = &mut peer.monitors;
        if monitors.paused.is_some_and(|at| event != UpdateEvent::Removed || rule.added_at() > at) {
            return;
        }
        let flags = monitors
            .iter()
            .filter(|monitor| monitor.flags.contains(wanted) && monitor.covers(rule, old))
            .fold(MonitorFlags::empty(), |flags, monitor| flags | monitor.flags);
        if flags.is_empty() {
            return;
        }
        if monitors.updates.is_none() {
            monitors.abbreviated = false;
        }
        let updates = monitors.updates.get_or_insert_with(|| Multipart::new(reply_raw(version), version, 0));
        match by.filter(|by| by.conn == id) {
            Some(by) if !flags.contains(MonitorFlags::ONLY_OWN) && monitors.paused.is_none() => {
                if !std::mem::replace(&mut monitors.abbreviated, true) {
                    FlowUpdate::Abbrev(by.xid).push(updates);
                }
            }
            _ => full_update(rule, event, reason, flags.contains(MonitorFlags::INSTRUCTIONS)).push(updates),
        }
    }

    /// Sends what was noted. `seqno` is the switch's, in case this is enough for now.
    pub fn flush_updates(&mut self, seqno: u64) {
        let Some(peer) = self.peer.as_deref_mut() else { return };
        let Some(version) = peer.version() else { return };
        let updates = peer.monitors.updates.take().map(Multipart::finish).unwrap_or_default();
        let told = !updates.is_empty();
        updates.into_iter().for_each(|msg| self.send(msg, Kind::Monitor));
        let waiting = self.rconn.vconn.as_ref().map_or(0, |vconn| vconn.backlog(Kind::Monitor).bytes);
        let Some(peer) = self.peer.as_deref_mut() else { return };
        if told && peer.monitors.paused.is_none() && waiting > MAX_BACKLOG {
            peer.monitors.paused = Some(seqno);
            self.send(monitor::pause(true, version), Kind::Monitor);
        }
    }
}

/// The event, the monitors' flag for it, the actions that the rule had, and the reason of a removal.
fn parts_of(change: &FlowChange) -> (UpdateEvent, MonitorFlags, Option<&[OfAction]>, u16) {
    match change {
        FlowChange::Added => (UpdateEvent::Added, MonitorFlags::ADD, None, 0),
        FlowChange::Replaced { old_actions } => {
            (UpdateEvent::Added, MonitorFlags::ADD, old_actions.as_deref(), 0)
        }
        FlowChange::Modified { old_actions } => {
            (UpdateEvent::Modified, MonitorFlags::MODIFY, old_actions.as_deref(), 0)
        }
        FlowChange::Removed(reason) => {
            (UpdateEvent::Removed, MonitorFlags::REMOVED, None, number_of(*reason))
        }
    }
}

fn number_of(reason: RemovedReason) -> u16 {
    u16::from(reason as u8)
}

/// What a monitor is told of a rule.
pub fn full_update(rule: &Rule, event: UpdateEvent, reason: u16, actions: bool) -> FlowUpdate {
    FlowUpdate::Full(Box::new(rule.update(event, reason, actions)))
}
