//! The configuration that translation reads: bridges, ports, bundles and mirrors of one datapath, immutable.
//!
//! `main` builds a [`Snapshot`] from the database and publishes it whole. What changes with packets (learned addresses,
//! counters) hangs in it behind `Arc`s and survives from one snapshot to the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use datapath::conntrack::{PolicyName, timeout};
use datapath::netdev::Netdev;
use datapath::netdev::tunnel::Packets;
use datapath::{Datapath, Features};
use flow::hash;
use flow::id::{DpPort, OfPort, Zone};
use flow::key::Key;
use flow::mini::Match;
use openflow::msg::port::PortConfig;

use super::mac::MacTable;
use crate::bridge::order::Chains;
use crate::ofproto::Tables;
use crate::tunnel::{self, TunnelPort, Tunnels};

/// A bridge's switch, by its UUID: what cookies of userspace actions and frozen translations name it by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct BridgeId(pub [u8; 16]);

/// A bundle, by a number that no other bundle of the process has or had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BundleId(pub u32);

/// Everything that translation for one datapath reads.
#[derive(Clone, Default)]
pub struct Snapshot {
    bridges: HashMap<BridgeId, Arc<Bridge>>,
    ports: BTreeMap<DpPort, (Arc<Bridge>, OfPort)>,
    tunnels: Tunnels<(BridgeId, OfPort)>,
    /// What the datapath can do.
    pub features: Option<Arc<Features>>,
    /// VLAN tags to look at: `other_config:vlan-limit`.
    pub vlan_limit: u8,
    /// Timeout policies of connection-tracking zones, if there are any.
    pub zone_policies: Option<Arc<ZonePolicies>>,
}

/// Which timeout policy each zone has.
pub struct ZonePolicies {
    pub zones: BTreeMap<Zone, u32>,
    /// It names them.
    pub datapath: Arc<dyn Datapath>,
}

impl ZonePolicies {
    /// The name of the policy for packets of an EtherType and a protocol that are tracked in `zone`.
    pub fn name(&self, zone: Zone, ethertype: u16, ip_proto: u8) -> Option<PolicyName> {
        let id = self.zones.get(&zone).filter(|_| timeout::supports(ip_proto))?;
        self.datapath.conntrack()?.timeout_policy_name(*id, ethertype, ip_proto)
    }
}

impl Snapshot {
    /// The snapshot of these bridges.
    pub fn new(
        bridges: impl IntoIterator<Item = Arc<Bridge>>,
        features: Arc<Features>,
        vlan_limit: u8,
    ) -> Self {
        let mut this = Self { features: Some(features), vlan_limit, ..Self::default() };
        for bridge in bridges {
            for port in bridge.ports.values().filter(|port| port.odp != DpPort::NONE) {
                let Some(tunnel) = &port.tunnel else {
                    this.ports.insert(port.odp, (Arc::clone(&bridge), port.ofp));
                    continue;
                };
                // Two that ask for the same are refused before they come here.
                let wanted = tunnel::Match::of(&tunnel.config, tunnel.odp);
                let _ = this.tunnels.insert(wanted, (bridge.id, port.ofp));
            }
            this.bridges.insert(bridge.id, bridge);
        }
        this
    }

    /// Whether packets to tunnels get their outer headers, and lose them, by actions of their own.
    pub fn native_tunnels(&self) -> bool {
        !self.tunnels.is_empty() && self.features.as_ref().is_some_and(|features| features.tnl_push_pop)
    }

    /// Tunnels, by what they ask for.
    pub fn tunnels(&self) -> &Tunnels<(BridgeId, OfPort)> {
        &self.tunnels
    }

    /// The bridge and port of the tunnel that a packet came by.
    pub fn tunnel_of(&self, packet: &Key) -> Option<(&Arc<Bridge>, &Port)> {
        let (bridge, ofp) = self.tunnels.find(packet)?;
        let bridge = self.bridges.get(bridge)?;
        Some((bridge, bridge.ports.get(ofp)?))
    }

    /// The bridge of that UUID.
    pub fn bridge(&self, id: BridgeId) -> Option<&Arc<Bridge>> {
        self.bridges.get(&id)
    }

    /// The bridge of that name.
    pub fn bridge_named(&self, name: &str) -> Option<&Arc<Bridge>> {
        self.bridges.values().find(|bridge| bridge.name == name)
    }

    /// All bridges, by name.
    pub fn bridges(&self) -> Vec<&Arc<Bridge>> {
        let mut all: Vec<_> = self.bridges.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The tables of each bridge.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Tables>> {
        self.bridges.values().map(|bridge| &bridge.tables)
    }

    /// A number that is another when a table of a bridge has changed.
    pub fn table_changes(&self) -> u64 {
        self.tables().fold(0, |sum, tables| sum.wrapping_add(tables.changes()))
    }

    /// The bridge and port that a datapath port is.
    pub fn port_of(&self, odp: DpPort) -> Option<(&Arc<Bridge>, &Port)> {
        let (bridge, ofp) = self.ports.get(&odp)?;
        Some((bridge, bridge.ports.get(ofp)?))
    }
}

/// A bridge.
pub struct Bridge {
    pub id: BridgeId,
    pub name: String,
    pub tables: Arc<Tables>,
    pub macs: Arc<MacTable>,
    pub ports: BTreeMap<OfPort, Port>,
    /// In the order in which they were made: that in which a flood goes out.
    pub bundles: Vec<Bundle>,
    /// At most 32.
    pub mirrors: Vec<Mirror>,
    /// Forward frames to reserved group addresses (`other_config:forward-bpdu`).
    pub forward_bpdu: bool,
    /// In-band control: DHCP replies also go to the local port.
    pub in_band: bool,
    /// Whether some connection wants packet-ins for misses of tables that are not configured; shared with the connections.
    pub packet_in_on_miss: Arc<AtomicBool>,
    /// Whether a controller is connected: what `watch_port:CONTROLLER` asks.
    pub controller_alive: Arc<AtomicBool>,
    /// Samples of received packets.
    pub sflow: Option<Arc<dyn PacketSampler>>,
    /// Who wants the samples of `sample` actions (an IPFIX exporter by flow).
    pub flow_samples: Option<FlowSamples>,
    /// The datapath meters that throttle packets to userspace and to controllers.
    pub slowpath_meter: Option<u32>,
    pub controller_meter: Option<u32>,
}

/// Who samples a bridge's packets (sFlow).
pub trait PacketSampler: Send + Sync {
    /// How many of `u32::MAX` packets are sampled.
    fn probability(&self) -> u32;

    /// The interface index of a datapath port; 0 if there is none.
    fn ifindex(&self, port: DpPort) -> u32;

    /// Takes a sample.
    fn sampled(&self, sample: &Sampled<'_>);
}

/// A sampled packet.
pub struct Sampled<'a> {
    pub packet: &'a [u8],
    /// Bytes that the packet had before it was cut.
    pub full_len: usize,
    /// The packet's key as the datapath had it.
    pub key: &'a flow::key::Key,
    pub in_port: DpPort,
    /// The TCI with which the packet leaves, and the sFlow output.
    pub vlan_tci: u16,
    pub output: u32,
    /// What the datapath did to the packet.
    pub actions: Option<&'a [flow::action::Action]>,
}

/// The consumer of `sample` actions.
#[derive(Clone, Default)]
pub struct FlowSamples {
    /// The datapath meter that throttles samples.
    pub meter: Option<u32>,
}

impl Bridge {
    /// The bundle of that number.
    pub fn bundle(&self, id: BundleId) -> Option<&Bundle> {
        // Numbers are given in the order in which bundles are made, if a caller kept to it.
        match self.bundles.binary_search_by_key(&id, |bundle| bundle.id) {
            Ok(place) => self.bundles.get(place),
            Err(_) => self.bundles.iter().find(|bundle| bundle.id == id),
        }
    }

    /// The bundle that a port belongs to.
    pub fn bundle_of(&self, port: OfPort) -> Option<&Bundle> {
        self.bundle(self.ports.get(&port)?.bundle?)
    }

    /// The ports in the order in which OVS walks its table of them, which is that of FLOOD and ALL.
    pub fn ports_hashed(&self) -> Vec<&Port> {
        let bundled =
            self.bundles.iter().flat_map(|bundle| &bundle.ports).filter_map(|port| self.ports.get(port));
        let mut all = Chains::default();
        for port in bundled.chain(self.ports.values().filter(|port| port.bundle.is_none())) {
            all.insert(hash::int(port.ofp.0.into(), 0), port);
        }
        all.iter().copied().collect()
    }

    /// Whether a mirror sends to the bundle, which nothing else does then.
    pub fn is_mirror_output(&self, bundle: BundleId) -> bool {
        self.mirrors.iter().any(|mirror| mirror.output == Some(bundle))
    }
}

/// A port.
#[derive(Clone)]
pub struct Port {
    pub ofp: OfPort,
    /// [`DpPort::NONE`] for patch ports.
    pub odp: DpPort,
    pub name: String,
    pub bundle: Option<BundleId>,
    pub config: PortConfig,
    /// Whether failure detection and the link let it carry traffic.
    pub may_enable: bool,
    /// The other end of a patch port.
    pub peer: Option<(BridgeId, OfPort)>,
    /// How the tunnel is configured that this is.
    pub tunnel: Option<TunnelPort>,
    /// What packets have gone through a patch port or a tunnel.
    pub counters: Arc<PatchCounters>,
    /// Queue numbers that have a DSCP to write (`dscp` of the `Queue` table), by skb priority.
    pub queue_dscp: Vec<(u32, u8)>,
    /// Whether packets have Ethernet headers.
    pub packets: Packets,
}

/// Packets through a port that has no datapath port to count them.
#[derive(Default)]
pub struct PatchCounters {
    /// Counts them too, while it is there: what counts for its packets may outlive it.
    device: Option<Weak<dyn Netdev>>,
    pub rx_packets: AtomicU64,
    pub rx_bytes: AtomicU64,
    pub tx_packets: AtomicU64,
    pub tx_bytes: AtomicU64,
}

impl std::fmt::Debug for PatchCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rx, tx) = (&self.rx_packets, &self.tx_packets);
        f.debug_struct("PatchCounters").field("rx", rx).field("tx", tx).finish_non_exhaustive()
    }
}

impl PatchCounters {
    /// For a port whose device is to count too.
    pub fn of(device: &Arc<dyn Netdev>) -> Self {
        Self { device: Some(Arc::downgrade(device)), ..Self::default() }
    }

    /// Counts packets received.
    pub fn rx(&self, packets: u64, bytes: u64) {
        self.rx_packets.fetch_add(packets, Ordering::Relaxed);
        self.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(device) = self.device.as_ref().and_then(Weak::upgrade) {
            device.credit_rx(packets, bytes);
        }
    }

    /// Counts packets sent.
    pub fn tx(&self, packets: u64, bytes: u64) {
        self.tx_packets.fetch_add(packets, Ordering::Relaxed);
        self.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(device) = self.device.as_ref().and_then(Weak::upgrade) {
            device.credit_tx(packets, bytes);
        }
    }
}

/// A set of VLANs.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; 64]>);

impl FromIterator<u16> for VlanSet {
    fn from_iter<I: IntoIterator<Item = u16>>(vlans: I) -> Self {
        let mut set = Box::new([0; 64]);
        for vlan in vlans.into_iter().filter(|&vlan| vlan < 4096) {
            set[usize::from(vlan / 64)] |= 1 << (vlan % 64);
        }
        Self(set)
    }
}

impl VlanSet {
    /// Whether the VLAN is in the set.
    pub fn contains(&self, vlan: u16) -> bool {
        self.0.get(usize::from(vlan / 64)).is_some_and(|word| word >> (vlan % 64) & 1 == 1)
    }
}

/// How a bundle treats VLAN tags (`vlan_mode` of the `Port` table).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VlanMode {
    Access,
    Trunk,
    NativeTagged,
    NativeUntagged,
    Dot1qTunnel,
}

/// When frames of VLAN 0 go out with a tag (`other_config:priority-tags`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PriorityTags {
    #[default]
    Never,
    IfNonzero,
    Always,
}

/// A port as the database knows it: one or, for a bond, several OpenFlow ports.
#[derive(Clone)]
pub struct Bundle {
    pub id: BundleId,
    pub name: String,
    pub ports: Vec<OfPort>,
    pub mode: VlanMode,
    /// The VLAN of access ports, the native VLAN, the service VLAN; `None` for trunks.
    pub vlan: Option<u16>,
    /// `None` for all.
    pub trunks: Option<VlanSet>,
    /// Customer VLANs that a dot1q-tunnel takes; `None` for all.
    pub cvlans: Option<VlanSet>,
    /// EtherType of service tags: 0x8100 or 0x88a8.
    pub qinq_ethtype: u16,
    pub priority_tags: PriorityTags,
    /// No port has `no-flood`.
    pub floodable: bool,
    /// Protected bundles do not talk to each other.
    pub protected: bool,
    /// How a bond chooses its member; without, the first port is it.
    pub bond: Option<Arc<dyn Bond>>,
}

/// A bond's choice of members.
pub trait Bond: Send + Sync {
    /// The member to send a packet by; what is looked at is added to `mask`.
    fn choose(
        &self,
        key: &flow::key::Key,
        vlan: u16,
        ports: &[OfPort],
        enabled: &dyn Fn(OfPort) -> bool,
        mask: &mut flow::key::Mask,
    ) -> Option<OfPort>;

    /// Whether a packet received by a member is taken.
    fn admit(&self, port: OfPort, key: &flow::key::Key) -> Admission;
}

/// Whether a bond takes a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    Accept,
    Drop,
    /// Only if its source address was not last seen on another bundle.
    DropIfMoved,
}

/// A mirror.
#[derive(Clone)]
pub struct Mirror {
    pub name: String,
    /// Bundles whose received, and whose sent packets are mirrored.
    pub sources: Vec<BundleId>,
    pub destinations: Vec<BundleId>,
    /// Only packets of these VLANs.
    pub vlans: Option<VlanSet>,
    /// Only packets that match.
    pub filter: Option<Match>,
    pub output: Option<BundleId>,
    /// Without an output bundle: flooded in this VLAN.
    pub output_vlan: Option<u16>,
    /// The most bytes to send; 0 for all.
    pub snaplen: u16,
    pub counters: Arc<PatchCounters>,
}
