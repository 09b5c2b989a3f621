//! Requests of peers, one family a file. What is wrong with a request is told to the peer as an OpenFlow error.

pub mod basic;
pub mod bundle;
pub mod flow_mod;
pub mod flow_stats;
pub mod group;
pub mod meter;
pub mod monitor;
pub mod packet_out;
pub mod port;
pub mod queue;
pub mod table;

use flow::ct::CtMatch;
use flow::id::{DpMeter, OfPort, Zone};
use flow::time::Instant;
use openflow::action::Decode;
use openflow::error::OfError;
use openflow::header::{Header, Type};
use openflow::msg::packet_in::PacketIn;
use openflow::msg::packet_out::PacketOut;
use openflow::msg::port_stats::Counters;
use openflow::msg::queue::QueueStats;
use openflow::msg::role::Role;
use openflow::oxm::TlvLengths;
use openflow::version::Version as Protocol;

use super::manager::{Link, Manager, message_name};
use super::peer::Peer;
use super::vconn::Kind;
use crate::ofproto::event::Requester;
use crate::ofproto::meter::DatapathMeters;
use crate::ofproto::{Ofproto, Version};

/// What remains to be done of a packet-out that was translated.
pub type Sending = Box<dyn FnOnce(&mut Ofproto)>;

/// What requests need besides the switch: devices and the datapath.
pub trait Outside {
    /// A port's counters, and those that only its kind of device has.
    fn counters(&self, port: OfPort) -> (Counters, Vec<(String, u64)>);

    /// A port's queues with their counters.
    fn queues(&self, port: OfPort, now: Instant) -> Vec<QueueStats>;

    /// The datapath's meters.
    fn meters(&mut self) -> &mut dyn DatapathMeters;

    /// A meter's counters, if it has any.
    fn meter_stats(&self, meter: DpMeter) -> Option<datapath::MeterStats>;

    /// Translates a packet-out, as of a version of the tables. Nothing is sent before that is called for.
    ///
    /// # Errors
    ///
    /// Why it cannot be sent.
    fn packet_out(
        &mut self,
        switch: &Ofproto,
        packet: &PacketOut,
        version: Version,
        now: Instant,
    ) -> Result<Sending, OfError>;

    /// Goes on with a packet that waited for a controller.
    ///
    /// # Errors
    ///
    /// Why it cannot go on.
    fn resume(&mut self, switch: &mut Ofproto, packet: PacketIn, now: Instant) -> Result<(), OfError>;

    /// Whether actions for debugging are accepted.
    fn debug(&self) -> bool {
        false
    }

    /// Forgets tracked connections.
    ///
    /// # Errors
    ///
    /// If none are tracked.
    fn flush_connections(&mut self, zone: Option<Zone>, which: Option<&CtMatch>) -> Result<(), OfError>;
}

/// What came of a request that went well: whether an error was told already.
pub type Outcome = Result<(), OfError>;

/// A connection's turn.
pub struct Request<'a> {
    pub manager: &'a mut Manager,
    /// The connection among the manager's.
    pub index: usize,
    pub switch: &'a mut Ofproto,
    pub outside: &'a mut dyn Outside,
    pub now: Instant,
    /// Whether actions for debugging are accepted.
    pub debug: bool,
}

impl Request<'_> {
    /// The connection.
    pub fn link(&mut self) -> &mut Link {
        &mut self.manager.links[self.index]
    }

    /// The peer.
    ///
    /// # Errors
    ///
    /// If there is none any more.
    fn peer(&mut self) -> Result<&mut Peer, OfError> {
        self.link().peer.as_deref_mut().ok_or(OfError::BrcEperm)
    }

    fn reply(&mut self, msg: Vec<u8>) {
        self.link().send(msg, Kind::Reply);
    }

    fn replies(&mut self, msgs: Vec<Vec<u8>>) {
        msgs.into_iter().for_each(|msg| self.reply(msg));
    }

    /// Tells the peer what is wrong with its message.
    fn refuse(&mut self, msg: &[u8], error: OfError) {
        tracing::info!(
            target: "connmgr", rate = 10, burst = 10,
            "{}: sending {} error reply to {} message",
            self.link().rconn.name(), error.name(), message_name(msg)
        );
        self.reply(error.reply_to(msg));
    }

    fn requester(&mut self, msg: &[u8]) -> Option<Requester> {
        Some(Requester { conn: self.link().id, xid: openflow::header::xid(msg) })
    }

    /// Lengths of mapped tunnel options, for [`Decode`].
    fn lengths(&self) -> TlvLengths {
        self.switch.tlv_lengths()
    }

    /// Secondary controllers may not change anything.
    fn not_secondary(&mut self) -> Outcome {
        if self.peer()?.role == Role::Secondary { Err(OfError::BrcIsSecondary) } else { Ok(()) }
    }

    /// Takes a message: carries it out if it is a whole request.
    pub fn take(&mut self, msg: Vec<u8>) {
        let now = self.now;
        let Some(peer) = self.link().peer.as_deref_mut() else { return };
        match peer.assembler.take(msg.clone(), now) {
            Ok(None) => {}
            Ok(Some(parts)) => self.handle(&parts),
            Err(error) => self.refuse(&msg, error),
        }
    }

    fn handle(&mut self, parts: &[Vec<u8>]) {
        let Some(first) = parts.first() else { return };
        let _matches = flow::tlv::enter(self.switch.tables().tlvs());
        let outcome = match Header::parse(first) {
            Err(error) => Err(error),
            Ok((header, _)) => match header.kind() {
                Type::TableFeaturesStatsRequest => self.table_features(parts),
                Type::FlowMonitorStatsRequest => self.flow_monitors(parts),
                _ if parts.len() > 1 => Err(OfError::BrcBadStat),
                kind => self.handle_one(first, &header, kind),
            },
        };
        if let Err(error) = outcome {
            self.refuse(first, error);
        }
    }

    fn handle_one(&mut self, msg: &[u8], header: &Header, kind: Type) -> Outcome {
        match kind {
            Type::EchoRequest => self.echo(msg, header),
            Type::FeaturesRequest => self.features(header),
            Type::GetConfigRequest => self.get_config(header),
            Type::SetConfig => self.set_config(msg),
            Type::PacketOut => self.packet_out(msg),
            Type::PortMod => self.port_mod(msg),
            Type::FlowMod => self.flow_mod(msg),
            Type::GroupMod => self.group_mod(msg),
            Type::TableMod => self.table_mod(msg),
            Type::MeterMod => self.meter_mod(msg),
            Type::BarrierRequest => self.barrier(header),
            Type::RoleRequest => self.role(msg),
            Type::SetFlowFormat => self.set_flow_format(msg),
            Type::FlowModTableId => self.flow_mod_table_id(msg),
            Type::SetPacketInFormat => self.set_packet_in_format(msg),
            Type::SetControllerId => self.set_controller_id(msg),
            // Ages are always told.
            Type::FlowAge | Type::Hello | Type::Error | Type::EchoReply => Ok(()),
            Type::SetAsyncConfig => self.set_async(msg),
            Type::GetAsyncRequest => self.get_async(header),
            Type::NxtResume => self.resume(msg),
            Type::DescStatsRequest => self.desc(header),
            Type::FlowStatsRequest => self.flow_stats(msg, header),
            Type::AggregateStatsRequest => self.aggregate_stats(msg),
            Type::TableStatsRequest => self.table_stats(header),
            Type::TableDescRequest => self.table_descs(header),
            Type::PortStatsRequest => self.port_stats(msg, header),
            Type::PortDescStatsRequest => self.port_descs(msg, header),
            Type::QueueStatsRequest => self.queue_stats(msg, header),
            Type::QueueGetConfigRequest => self.queue_config(msg),
            Type::GroupStatsRequest => self.group_stats(msg, header),
            Type::GroupDescStatsRequest => self.group_descs(msg, header),
            Type::GroupFeaturesStatsRequest => self.group_features(msg, header),
            Type::MeterStatsRequest => self.meter_stats(msg, header),
            Type::MeterConfigStatsRequest => self.meter_configs(msg, header),
            Type::MeterFeaturesStatsRequest => self.meter_features(header),
            Type::FlowMonitorCancel => self.cancel_monitor(msg),
            Type::BundleControl => self.bundle_control(msg, header),
            Type::BundleAddMessage => self.bundle_add(msg),
            Type::NxtTlvTableMod => self.tlv_mod(msg),
            Type::NxtTlvTableRequest => self.tlv_table(header),
            Type::CtFlushZone => self.ct_flush_zone(msg),
            Type::CtFlush => self.ct_flush(msg),
            Type::IpfixBridgeStatsRequest | Type::IpfixFlowStatsRequest => Err(OfError::StNotConfigured),
            _ if header.raw.is_stat() && !header.raw.is_stat_reply() => Err(OfError::BrcBadStat),
            _ => Err(OfError::BrcBadType),
        }
    }

    /// Does what is due by itself: late parts, idle bundles, reports, paused monitors.
    pub fn look_after(&mut self) {
        let (now, idle) = (self.now, self.manager.bundle_idle);
        let Some(peer) = self.link().peer.as_deref_mut() else { return };
        let late = peer.assembler.overdue(now);
        let idle = bundle::take_idle(&mut peer.bundles, idle, now);
        let report = if now >= peer.mods.deadline() { peer.mods.report(now) } else { None };
        if let Some(report) = report {
            tracing::info!(target: "connmgr", "{}: {report}", self.link().rconn.name());
        }
        for msg in idle {
            self.refuse(&msg, OfError::BfcTimeout);
        }
        if let Some(msg) = late {
            self.reply(OfError::BrcMultipartRequestTimeout.reply_to(&msg));
        }
        self.resume_monitors();
    }
}

/// What decoding a message of a peer needs to know.
fn decode<'a>(header: &Header, lengths: &'a TlvLengths, debug: bool) -> Result<Decode<'a>, OfError> {
    let version: Protocol = header.version()?;
    Ok(Decode { debug, ..Decode::with_lengths(version, lengths) })
}
