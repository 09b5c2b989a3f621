//! A bridge's devices and datapath, as requests see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use datapath::flow::Execute;
use datapath::{Datapath, conntrack};
use flow::ct::CtMatch;
use flow::field::Value;
use flow::id::{DpMeter, DpPort, OfPort, Zone};
use flow::key::Key;
use flow::time::Instant;
use openflow::action::OfAction;
use openflow::error::OfError;
use openflow::msg::Age;
use openflow::msg::meter::{BandType, MeterConfig, MeterFeatures, MeterFlags};
use openflow::msg::packet_in::PacketIn;
use openflow::msg::packet_out::PacketOut;
use openflow::msg::port_stats::Counters;
use openflow::msg::queue::QueueStats;

use super::handle::packet_out::key_of;
use super::handle::{Outside, Sending};
use crate::backer::Backer;
use crate::bridge::Port;
use crate::bridge::order::ByHash;
use crate::ofproto::meter::DatapathMeters;
use crate::ofproto::{Ofproto, Pin, Version};
use crate::xlate::effect::Stats;
use crate::xlate::freeze::Metadata;
use crate::xlate::{BridgeId, Frozen, Input, Output, translate};

/// `OFPMF13_*` that datapaths know: rates in kilobits or packets, bursts, and statistics.
const METER_FLAGS: MeterFlags =
    MeterFlags::KBPS.union(MeterFlags::PKTPS).union(MeterFlags::BURST).union(MeterFlags::STATS);

/// The meters of a datapath, which its bridges share.
pub struct DpMeters<'a> {
    datapath: &'a dyn Datapath,
    /// Those in use.
    used: &'a mut BTreeSet<u32>,
}

impl<'a> DpMeters<'a> {
    /// `used` are the numbers of meters in use.
    pub fn new(datapath: &'a dyn Datapath, used: &'a mut BTreeSet<u32>) -> Self {
        Self { datapath, used }
    }
}

impl DatapathMeters for DpMeters<'_> {
    fn features(&self) -> MeterFeatures {
        let datapath::MeterFeatures { max_meters, max_bands } = self.datapath.meter_features();
        if max_meters == 0 {
            return MeterFeatures {
                max_meters: 0,
                band_types: 0,
                capabilities: 0,
                max_bands: 0,
                max_color: 0,
            };
        }
        let capabilities = METER_FLAGS.bits().into();
        MeterFeatures {
            max_meters,
            band_types: 1 << BandType::Drop as u32,
            capabilities,
            max_bands,
            max_color: 0,
        }
    }

    fn set(&mut self, meter: Option<DpMeter>, config: &MeterConfig) -> Result<DpMeter, OfError> {
        let MeterConfig { flags, bands, .. } = config;
        if !METER_FLAGS.contains(*flags) {
            return Err(OfError::MmfcBadFlags);
        }
        if bands.iter().any(|band| band.kind != BandType::Drop) {
            return Err(OfError::MmfcBadBand);
        }
        let max = self.datapath.meter_features().max_meters;
        let free = (0..max).find(|id| !self.used.contains(id));
        let id = meter.or(free.map(DpMeter)).ok_or(OfError::MmfcOutOfMeters)?;
        let bands = bands.iter().map(|band| datapath::MeterBand { rate: band.rate, burst: band.burst_size });
        let config = datapath::MeterConfig {
            pktps: flags.contains(MeterFlags::PKTPS),
            burst: flags.contains(MeterFlags::BURST),
            bands: bands.collect(),
        };
        self.datapath.meter_set(id, &config).map_err(|_| OfError::MmfcUnknown)?;
        self.used.insert(id.0);
        Ok(id)
    }

    fn delete(&mut self, meter: DpMeter) {
        self.used.remove(&meter.0);
        if let Err(error) = self.datapath.meter_del(meter) {
            tracing::warn!(
                target: "ofproto_dpif", rl = "1,5",
                "failed to delete meter {} of the datapath: {error}", meter.0
            );
        }
    }
}

/// A bridge's devices and datapath.
pub struct Place<'a> {
    bridge: BridgeId,
    ports: &'a ByHash<Port>,
    backer: Option<&'a Arc<Backer>>,
    meters: DpMeters<'a>,
    /// Whether actions for debugging are accepted.
    pub debug: bool,
}

impl<'a> Place<'a> {
    /// `meters` are the numbers of the datapath's meters that are in use.
    pub fn new(
        bridge: BridgeId,
        ports: &'a ByHash<Port>,
        datapath: &'a dyn Datapath,
        backer: Option<&'a Arc<Backer>>,
        meters: &'a mut BTreeSet<u32>,
    ) -> Self {
        Self { bridge, ports, backer, meters: DpMeters::new(datapath, meters), debug: false }
    }

    fn device(&self, port: OfPort) -> Option<&Arc<dyn datapath::netdev::Netdev>> {
        self.ports
            .iter()
            .flat_map(|port| &port.ifaces)
            .find(|iface| iface.ofp == port)
            .map(|iface| &iface.device)
    }

    fn backer(&self) -> Result<Arc<Backer>, OfError> {
        self.backer.cloned().ok_or(OfError::BrcEperm)
    }
}

impl Outside for Place<'_> {
    fn debug(&self) -> bool {
        self.debug
    }

    fn counters(&self, port: OfPort) -> (Counters, Vec<(String, u64)>) {
        let Some(device) = self.device(port) else { return (Counters::default(), Vec::new()) };
        let Ok(counted) = device.counters() else { return (Counters::default(), Vec::new()) };
        let known = |counter: Option<u64>| counter.unwrap_or(u64::MAX);
        let counters = Counters {
            rx_packets: known(counted.rx_packets),
            tx_packets: known(counted.tx_packets),
            rx_bytes: known(counted.rx_bytes),
            tx_bytes: known(counted.tx_bytes),
            rx_dropped: known(counted.rx_dropped),
            tx_dropped: known(counted.tx_dropped),
            rx_errors: known(counted.rx_errors),
            tx_errors: known(counted.tx_errors),
            rx_frame_errors: known(counted.rx_frame_errors),
            rx_over_errors: known(counted.rx_over_errors),
            rx_crc_errors: known(counted.rx_crc_errors),
            collisions: known(counted.collisions),
        };
        (counters, device.custom_counters())
    }

    fn queues(&self, port: OfPort, now: Instant) -> Vec<QueueStats> {
        let Some(device) = self.device(port) else { return Vec::new() };
        if let Some(shaper) = device.shaper() {
            let all = shaper.all_queue_stats(now).unwrap_or_default().into_iter();
            let told = all.map(|(queue, (stats, created))| QueueStats {
                port,
                queue,
                tx_bytes: stats.tx_bytes,
                tx_packets: stats.tx_packets,
                tx_errors: stats.tx_errors,
                age: Age::new(now.since(created)),
            });
            return told.collect();
        }
        // Dummy devices have one queue, to test with.
        let has = device.as_dummy().is_some();
        let unknown = u64::MAX;
        let queue = QueueStats {
            port,
            queue: 0,
            tx_bytes: unknown,
            tx_packets: unknown,
            tx_errors: unknown,
            age: Age::UNKNOWN,
        };
        if has { vec![queue] } else { Vec::new() }
    }

    fn meters(&mut self) -> &mut dyn DatapathMeters {
        &mut self.meters
    }

    fn meter_stats(&self, meter: DpMeter) -> Option<datapath::MeterStats> {
        self.meters.datapath.meter_get(meter).ok()
    }

    fn packet_out(
        &mut self,
        _switch: &Ofproto,
        packet: &PacketOut,
        version: Version,
        now: Instant,
    ) -> Result<Sending, OfError> {
        let backer = self.backer()?;
        let journey = Journey {
            bridge: self.bridge,
            in_port: packet.in_port(),
            key: key_of(packet),
            packet: packet.packet.clone(),
            actions: Some(Arc::clone(&packet.actions)),
            frozen: None,
            pin: Some(Pin::provisional(version)),
        };
        let sent = journey.translate(&backer, now)?;
        Ok(Box::new(move |_| sent.go(&backer, now)))
    }

    fn resume(&mut self, _switch: &mut Ofproto, packet: PacketIn, now: Instant) -> Result<(), OfError> {
        let backer = self.backer()?;
        let PacketIn { packet, table_id, metadata, continuation, .. } = packet;
        let zero = continuation.bridge == [0; 16];
        let bridge = if zero { self.bridge } else { BridgeId(continuation.bridge) };
        if backer.snapshot().bridge(bridge).is_none() {
            return Err(OfError::RStale);
        }
        let out = PacketOut { packet, buffer_id: u32::MAX, metadata, actions: Arc::default() };
        let key = key_of(&out);
        let in_port = out.in_port();
        // Nothing left to do is not the same as to begin with the first table again.
        let mut actions = continuation.actions;
        if actions.is_empty() {
            actions.push(OfAction::Note(Vec::new()));
        }
        let frozen = Frozen {
            bridge,
            table: table_id,
            port: None,
            stack: continuation.stack.iter().rev().map(|value| Value::from_bytes(value)).collect(),
            mirrors: continuation.mirrors,
            conntracked: continuation.conntracked,
            was_mpls: false,
            actions,
            action_set: continuation.action_set,
            metadata: Metadata::of(&key),
            userdata: Vec::new(),
        };
        let frozen = Some(Arc::new(frozen));
        let journey = Journey { bridge, in_port, key, packet: out.packet, actions: None, frozen, pin: None };
        journey.translate(&backer, now)?.go(&backer, now);
        Ok(())
    }

    fn flush_connections(&mut self, zone: Option<Zone>, which: Option<&CtMatch>) -> Result<(), OfError> {
        // Like OVS, the message has no answer that says that the datapath could not.
        if let Err(error) = conntrack::flush::flush(self.meters.datapath, zone, which) {
            tracing::debug!(target: "ct_dpif", "{}: flushing connections failed ({error})", self.meters.datapath.name());
        }
        Ok(())
    }
}

/// A packet that is to be sent through a bridge.
struct Journey {
    bridge: BridgeId,
    in_port: OfPort,
    key: Key,
    packet: Vec<u8>,
    actions: Option<Arc<[OfAction]>>,
    frozen: Option<Arc<Frozen>>,
    /// The version of the tables; `None` for the published one.
    pin: Option<Pin>,
}

/// A packet that is to be sent, and what becomes of it.
struct Translated {
    key: Key,
    packet: Vec<u8>,
    result: Output,
}

impl Journey {
    fn translate(mut self, backer: &Backer, now: Instant) -> Result<Translated, OfError> {
        let snapshot = backer.snapshot();
        let bridge = snapshot.bridge(self.bridge).ok_or(OfError::BrcEperm)?;
        let odp = bridge.ports.get(&self.in_port).map_or(DpPort::NONE, |port| port.odp);
        self.key.in_port = odp.0;
        let result = translate(&Input {
            snapshot: &snapshot,
            bridge,
            recirc: &backer.recirc,
            key: &self.key,
            in_port: self.in_port,
            packet: Some(&self.packet),
            actions: self.actions.as_deref(),
            rule: None,
            frozen: self.frozen.clone(),
            pin: self.pin.take(),
            side_effects: true,
            caching: false,
            in_packet_out: self.frozen.is_none(),
            trace: false,
            names: false,
            now,
            depth: 0,
            resubmits: 0,
            pid: &|port| backer.datapath.port_pid(port),
        });
        match result.error {
            Some(_) => Err(OfError::FmfcUnknown),
            None => Ok(Translated { key: self.key, packet: self.packet, result }),
        }
    }
}

impl Translated {
    /// Carries out what the translation does, and has the datapath carry the actions out.
    fn go(self, backer: &Backer, now: Instant) {
        let Self { key, packet, result } = self;
        let bytes = u64::try_from(packet.len()).unwrap_or(u64::MAX);
        let stats = Stats { packets: 1, bytes, used: now, tcp_flags: key.tcp_flags.get() };
        backer.apply(&result.effects, &stats);
        if result.actions.is_empty() {
            return;
        }
        let execute =
            Execute { packet: &packet, key: &key, actions: &result.actions, probe: false, mtu: 0, hash: 0 };
        if let Err(error) = backer.datapath.execute(&execute) {
            tracing::warn!(
                target: "dpif", rl = "600,600",
                "{}: failed to execute packet-out: {error}", backer.datapath.name()
            );
        }
    }
}
