//! What peers are told unasked: what happened in the switch.

use flow::time::Instant;
use openflow::msg::async_config::AsyncType;
use openflow::msg::flow_removed::RemovedReason;
use openflow::msg::group::{GroupCommand, GroupMod};
use openflow::msg::port::{PhyPort, PortReason, PortStatus};
use openflow::msg::request_forward::RequestForward;
use openflow::msg::table::TableStatus;
use openflow::version::Version;

use super::manager::{Link, Manager};
use super::vconn::Kind;
use crate::ofproto::Ofproto;
use crate::ofproto::event::{Event, Requester};
use crate::ofproto::rule::{Rule, Usage};

impl Manager {
    /// Tells peers what happened in the switch since the last time.
    pub fn tell(&mut self, switch: &mut Ofproto, now: Instant) {
        let _matches = flow::tlv::enter(switch.tables().tlvs());
        for event in switch.take_events() {
            self.tell_one(switch, event, now);
        }
    }

    fn tell_one(&mut self, switch: &Ofproto, event: Event, now: Instant) {
        match event {
            Event::FlowRemoved { rule, reason, usage, at } => self.flow_removed(&rule, reason, &usage, at),
            Event::FlowChanged { rule, change, by } => {
                self.links.iter_mut().for_each(|link| link.note_change(&rule, &change, by));
            }
            Event::MonitorFlush => {
                let seqno = switch.monitor_seqno();
                self.links.iter_mut().for_each(|link| link.flush_updates(seqno));
            }
            Event::PortStatus { reason, old, port, by } => self.port_status(reason, old, &port, by),
            Event::TableStatus { table, reason } => {
                let status = TableStatus { reason, desc: switch.table_desc(table) };
                for (link, version) in self.wanting(AsyncType::TableStatus, reason as u8) {
                    if let Some(msg) = status.encode(version, 0) {
                        link.send(msg, Kind::Plain);
                    }
                }
            }
            Event::GroupModded { request, existed, by } => {
                let request = settled(*request, existed);
                self.forward(&RequestForward::GroupMod(request), by);
            }
            Event::MeterModded { request, by } => self.forward(&RequestForward::MeterMod(*request), by),
            Event::Reconnect => self.reconnect(now),
        }
    }

    /// The connections whose peers want messages of a kind and reason.
    fn wanting(&mut self, kind: AsyncType, reason: u8) -> impl Iterator<Item = (&mut Link, Version)> {
        self.links.iter_mut().filter_map(move |link| {
            let peer = link.peer.as_ref()?;
            let version = peer.version().filter(|_| link.rconn.is_connected() && peer.wants(kind, reason))?;
            Some((link, version))
        })
    }

    fn flow_removed(&mut self, rule: &Rule, reason: RemovedReason, usage: &Usage, at: Instant) {
        let removed = rule.removed_message(reason, usage, at);
        for (link, _) in self.wanting(AsyncType::FlowRemoved, reason as u8) {
            let Some(protocol) = link.peer.as_ref().map(|peer| peer.protocol) else { continue };
            link.send(removed.encode(protocol, 0), Kind::Reply);
        }
    }

    fn port_status(
        &mut self,
        reason: PortReason,
        old: Option<PhyPort>,
        port: &PhyPort,
        by: Option<Requester>,
    ) {
        let status = PortStatus { reason, desc: port.clone() };
        let before = old.map(|desc| PortStatus { reason, desc });
        for (link, version) in self.wanting(AsyncType::PortStatus, reason as u8) {
            // Before OpenFlow 1.5, who changed a port knows that it did.
            if version < Version::V15 && by.is_some_and(|by| by.conn == link.id) {
                continue;
            }
            let msg = status.encode(version, 0);
            // A change that the version cannot express is none.
            let same = before.as_ref().is_some_and(|before| before.encode(version, 0) == msg);
            if !(same && reason == PortReason::Modify) {
                link.send(msg, Kind::Plain);
            }
        }
    }

    fn forward(&mut self, request: &RequestForward, by: Requester) {
        for (link, version) in self.wanting(AsyncType::RequestForward, request.reason()) {
            let too_old = matches!(request, RequestForward::MeterMod(_)) && version < Version::V13;
            if link.id == by.conn || too_old {
                continue;
            }
            if let Some(msg) = request.encode(version, by.xid) {
                link.send(msg, Kind::Plain);
            }
        }
    }
}

/// The request in which "add or modify" is the one that it was.
fn settled(request: GroupMod, existed: bool) -> GroupMod {
    let command = match request.command {
        GroupCommand::AddOrModify if existed => GroupCommand::Modify,
        GroupCommand::AddOrModify => GroupCommand::Add,
        command => command,
    };
    GroupMod { command, ..request }
}
