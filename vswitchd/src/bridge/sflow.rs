//! sFlow: a bridge's row of the `sFlow` table, the agent that it makes, and its collectors.
//!
//! Packets come from the datapath's workers, counters and the clock from the main loop: the agent is behind a lock that
//! is held for the time of one sample. Datagrams leave from whoever completed them; a collector that cannot take one
//! loses it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datapath::netdev::{Counters as DeviceCounters, Flags, Netdev, Netdevs};
use flow::id::{DpPort, Ifindex};
use flow::time::Instant;
use ovsdb::idl::{Idl, Record};
use sflow::record::{AppResources, OvsDatapath, UNDEFINED};
use sflow::{Agent, COLLECTOR_PORT, Counters, PortCounters, Settings, TunnelKind};

use super::{Bridge, Bridges, Iface};
use crate::xlate::snapshot::{PacketSampler, Sampled};

/// What the database says.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Options {
    targets: BTreeSet<String>,
    /// An interface, or an address.
    agent: Option<String>,
    /// The address by which a controller is reached.
    control_ip: Option<String>,
    sampling: u32,
    polling: u32,
    header: u32,
    sub_agent: u32,
}

impl Options {
    fn read(idl: &Idl, bridge: Record<'_>, row: Record<'_>, sub_agent: u32) -> Self {
        let number = |column: &str, default| {
            row.integer(column).map_or(default, |value| u32::try_from(value.max(0)).unwrap_or(u32::MAX))
        };
        let controllers = bridge.get("controller").uuids().filter_map(|uuid| idl.row("Controller", uuid));
        let control_ip = controllers.filter_map(|row| row.str("local_ip")).next();
        Self {
            targets: row.get("targets").strings().map(str::to_owned).collect(),
            agent: row.str("agent").filter(|agent| !agent.is_empty()).map(str::to_owned),
            control_ip: control_ip.map(str::to_owned),
            sampling: number("sampling", sflow::DEFAULT_SAMPLING),
            polling: number("polling", sflow::DEFAULT_POLLING),
            header: number("header", sflow::DEFAULT_HEADER),
            sub_agent,
        }
    }

    fn collectors(&self) -> Vec<UdpSocket> {
        self.targets.iter().filter_map(|target| open_collector(target)).collect()
    }

    /// The address that the agent is known by: of the interface named for it, or named itself, or by which a collector
    /// is reached, or a controller.
    fn address(&self, netdevs: &Netdevs) -> Option<IpAddr> {
        let named =
            self.agent.as_deref().and_then(|agent| device_address(netdevs, agent).or(agent.parse().ok()));
        let routed = || self.targets.iter().find_map(|target| source_towards(target_address(target)?));
        let control = || self.control_ip.as_deref()?.parse().ok();
        named.or_else(routed).or_else(control)
    }
}

/// The first address of an interface, IPv4 first: of the one that the switch has open, or the kernel's.
fn device_address(netdevs: &Netdevs, name: &str) -> Option<IpAddr> {
    let open = netdevs.find(name).map(|device| device.addresses()).unwrap_or_default();
    let mut addresses: Vec<IpAddr> = open.iter().map(|address| address.ip).collect();
    if addresses.is_empty() {
        let links = sys::link::Links::new().ok()?;
        let found = links.addresses(links.index(name).ok()?).ok()?;
        addresses = found.into_iter().map(|(ip, _)| ip).collect();
    }
    addresses.iter().find(|ip| ip.is_ipv4()).or(addresses.first()).copied()
}

/// `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
fn target_address(target: &str) -> Option<SocketAddr> {
    let bare = target.trim_start_matches('[').trim_end_matches(']');
    let whole = target.parse().ok();
    whole.or_else(|| Some(SocketAddr::new(bare.parse().ok()?, COLLECTOR_PORT)))
}

/// A socket towards `target`; connecting sends nothing.
fn connect(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The address that packets to `target` leave from.
fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    connect(target).and_then(|socket| socket.local_addr()).ok().map(|address| address.ip())
}

fn open_collector(target: &str) -> Option<UdpSocket> {
    let fail = |why: &str| {
        tracing::warn!(target: "collectors", rl = "1,5", "couldn't open connection to collector {target} ({why})");
    };
    let Some(address) = target_address(target) else {
        fail("Invalid argument");
        return None;
    };
    connect(address).inspect_err(|error| fail(&daemon::error_text(error))).ok()
}

/// The agent of a bridge and its collectors.
#[derive(Debug)]
pub struct Sampler {
    options: Options,
    probability: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    agent: Agent,
    collectors: Vec<UdpSocket>,
    ports: BTreeMap<DpPort, (Option<u32>, TunnelKind)>,
    /// The second of the next tick.
    next_tick: u64,
}

impl State {
    fn send(&mut self) {
        for datagram in self.agent.take_datagrams() {
            for collector in &self.collectors {
                if let Err(error) = collector.send(&datagram) {
                    let peer = collector.peer_addr().map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
                    let why = daemon::error_text(&error);
                    tracing::warn!(target: "collectors", rl = "1,5", "{peer}: sending to collector failed ({why})");
                }
            }
        }
    }
}

fn seconds(now: Instant) -> u64 {
    now.millis() / 1000
}

/// A number below `bound`, whatever the kernel gives.
fn random(bound: u32) -> u32 {
    let mut bytes = [0; 4];
    // Without randomness, every first poll is at once.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes) % bound.max(1)
}

impl Sampler {
    fn new(options: Options, address: IpAddr, collectors: Vec<UdpSocket>, now: Instant) -> Self {
        tracing::info!(target: "sflow", "creating sFlow agent {}", options.sub_agent);
        let settings = Settings {
            address,
            sub_agent: options.sub_agent,
            sampling: options.sampling,
            polling: options.polling,
            header: options.header,
        };
        let agent = Agent::new(settings, seconds(now), &mut random);
        let probability = agent.probability();
        let state = State { agent, collectors, ports: BTreeMap::new(), next_tick: seconds(now) + 1 };
        Self { options, probability, state: Mutex::new(state) }
    }

    /// Locks; a panic elsewhere while the lock was held lost a sample at most.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the collectors that could not be opened before.
    fn retry_collectors(&self) {
        let mut state = self.lock();
        if state.collectors.len() < self.options.targets.len() {
            state.collectors = self.options.collectors();
        }
    }

    /// Makes the agent's ports those of the bridge.
    fn set_ports<'a>(&self, ifaces: impl Iterator<Item = &'a Iface>) {
        let wanted: BTreeMap<DpPort, _> = ifaces
            .filter(|iface| iface.odp != DpPort::NONE)
            .map(|iface| (iface.odp, (iface.device.ifindex(), TunnelKind::from_type(&iface.kind))))
            .collect();
        let mut state = self.lock();
        let state = &mut *state;
        for port in state.ports.keys().filter(|port| !wanted.contains_key(port)) {
            state.agent.del_port(*port);
        }
        for (port, (ifindex, kind)) in &wanted {
            if state.ports.get(port) != Some(&(*ifindex, *kind)) {
                state.agent.add_port(*port, ifindex.map(Ifindex), *kind, &mut random);
            }
        }
        state.ports = wanted;
    }

    /// Lets the agent do what each second brings.
    fn run(&self, now: Instant, counters: &mut dyn Counters) {
        let mut state = self.lock();
        let second = seconds(now);
        if second >= state.next_tick {
            state.next_tick = second + 1;
            state.agent.tick(second, counters);
            state.send();
        }
    }

    /// When to [`Sampler::run`] again.
    fn deadline(&self) -> Instant {
        Instant::from_millis(self.lock().next_tick.saturating_mul(1000))
    }
}

impl PacketSampler for Sampler {
    fn probability(&self) -> u32 {
        self.probability
    }

    fn ifindex(&self, port: DpPort) -> u32 {
        self.lock().agent.ifindex(port)
    }

    fn sampled(&self, sample: &Sampled<'_>) {
        let mut state = self.lock();
        state.agent.sample(&sflow::Sampled {
            packet: sample.packet,
            key: sample.key,
            in_port: sample.in_port,
            vlan_tci: sample.vlan_tci,
            output: sample.output,
            actions: sample.actions,
        });
        state.send();
    }
}

/// Counters of a bridge's ports.
struct BridgeCounters<'a> {
    bridge: &'a Bridge,
    /// Counters of every datapath, for the agent that tells them.
    totals: Option<OvsDatapath>,
}

impl Counters for BridgeCounters<'_> {
    fn port(&mut self, port: DpPort) -> Option<PortCounters> {
        let iface = self.bridge.ifaces().find(|iface| iface.odp == port)?;
        Some(port_counters(self.bridge, iface))
    }

    fn datapaths(&mut self) -> Option<OvsDatapath> {
        self.totals.clone()
    }

    fn resources(&mut self) -> Option<AppResources> {
        self.totals.as_ref()?;
        let usage = sys::process::process_usage();
        Some(AppResources {
            user_time: usage.user_ms as u32,
            system_time: usage.system_ms as u32,
            memory_used: sys::process::peak_memory(),
            memory_max: 0,
            fds_open: UNDEFINED,
            fds_max: UNDEFINED,
            connections_open: UNDEFINED,
            connections_max: UNDEFINED,
        })
    }
}

fn port_counters(bridge: &Bridge, iface: &Iface) -> PortCounters {
    let device: &dyn Netdev = &*iface.device;
    let link = device.link().unwrap_or_default();
    let DeviceCounters {
        rx_packets,
        tx_packets,
        rx_bytes,
        tx_bytes,
        rx_dropped,
        tx_dropped,
        rx_errors,
        tx_errors,
        rx_frame_errors,
        rx_crc_errors,
        rx_multicast,
        ..
    } = device.counters().unwrap_or_default();
    PortCounters {
        name: iface.name.clone(),
        datapath_id: bridge.ofproto.datapath_id(),
        openflow_port: iface.ofp.0.into(),
        full_duplex: link.full_duplex,
        speed: u64::from(link.speed) * 1_000_000,
        admin_up: device.flags().is_ok_and(|flags| flags.contains(Flags::UP)),
        link_up: device.carrier(),
        rx_bytes,
        rx_packets,
        rx_multicast,
        rx_broadcast: None,
        rx_dropped,
        rx_errors,
        tx_bytes,
        tx_packets,
        tx_multicast: None,
        tx_broadcast: None,
        tx_dropped,
        tx_errors,
        rx_frame_errors,
        rx_crc_errors,
        rx_oversize_errors: None,
        lacp: None,
    }
}

impl Bridges {
    /// Lets every agent do what is due.
    pub(super) fn run_sflow(&self, now: Instant) {
        for bridge in self.bridges.values().filter(|bridge| bridge.sflow_deadline() <= now) {
            bridge.run_sflow(|| totals(self.bridges.values()), now);
        }
    }
}

impl Bridge {
    /// Makes the agent what the database says. `next` numbers the agents of all bridges.
    pub(super) fn configure_sflow(
        &mut self,
        idl: &Idl,
        row: Record<'_>,
        netdevs: &Netdevs,
        next: &mut u32,
        now: Instant,
    ) {
        let sflow = row.reference("sflow").and_then(|uuid| idl.row("sFlow", uuid));
        let Some(sflow) = sflow else {
            self.sflow = None;
            return;
        };
        let options = Options::read(idl, row, sflow, *next);
        *next += 1;
        if options.targets.is_empty() || options.sampling == 0 {
            self.sflow = None;
            return;
        }
        match &self.sflow {
            Some(sampler) if sampler.options == options => sampler.retry_collectors(),
            _ => self.sflow = make(options, netdevs, now).map(Arc::new),
        }
        if let Some(sampler) = &self.sflow {
            sampler.set_ports(self.ifaces());
        }
    }

    fn run_sflow(&self, totals: impl FnOnce() -> OvsDatapath, now: Instant) {
        if let Some(sampler) = &self.sflow {
            // The first agent tells what all have in common.
            let totals = (sampler.options.sub_agent == 0).then(totals);
            sampler.run(now, &mut BridgeCounters { bridge: self, totals });
        }
    }

    /// When the agent is to be looked after.
    pub(super) fn sflow_deadline(&self) -> Instant {
        self.sflow.as_ref().map_or(Instant::NEVER, |sampler| sampler.deadline())
    }
}

fn make(options: Options, netdevs: &Netdevs, now: Instant) -> Option<Sampler> {
    let collectors = options.collectors();
    if collectors.is_empty() {
        tracing::warn!(target: "sflow", rl = "1,5", "no collectors could be initialized, sFlow disabled");
        return None;
    }
    let Some(address) = options.address(netdevs) else {
        tracing::error!(target: "sflow", "could not determine IP address for sFlow agent");
        return None;
    };
    Some(Sampler::new(options, address, collectors, now))
}

/// Counters of all datapaths together.
fn totals<'a>(bridges: impl Iterator<Item = &'a Bridge>) -> OvsDatapath {
    let datapaths: BTreeMap<&str, _> =
        bridges.map(|bridge| (bridge.datapath.name(), &bridge.datapath)).collect();
    let mut totals = OvsDatapath { hits: 0, misses: 0, lost: 0, mask_hits: 0, flows: 0, masks: 0 };
    for stats in datapaths.values().map(|datapath| datapath.stats()) {
        totals.hits = totals.hits.wrapping_add(stats.hits as u32);
        totals.misses = totals.misses.wrapping_add(stats.misses as u32);
        totals.lost = totals.lost.wrapping_add(stats.lost as u32);
        totals.flows = totals.flows.wrapping_add(stats.flows as u32);
        // What is not counted is all ones, as in the counters of one datapath.
        totals.mask_hits = totals.mask_hits.wrapping_add(stats.mask_hits.unwrap_or(u64::MAX) as u32);
        totals.masks = totals.masks.wrapping_add(stats.masks.unwrap_or(u32::MAX));
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_default_port() {
        let shown = |target: &str| target_address(target).map(|address| address.to_string());
        assert_eq!(shown("10.0.0.1").as_deref(), Some("10.0.0.1:6343"));
        assert_eq!(shown("10.0.0.1:99").as_deref(), Some("10.0.0.1:99"));
        assert_eq!(shown("[::1]:99").as_deref(), Some("[::1]:99"));
        assert_eq!(shown("[::1]").as_deref(), Some("[::1]:6343"));
        assert_eq!(shown("::1").as_deref(), Some("[::1]:6343"));
        assert_eq!(shown("nonsense"), None);
    }
}
