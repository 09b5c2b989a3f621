//! Tunnels: interfaces whose other end is an address.
//!
//! A tunnel has no packets of its own. All tunnels of one kind and UDP port share a datapath port
//! ([`Netdev::datapath_port`]), and translation tells them apart by their [`Config`]: it finds the tunnel that a received
//! packet's outer header means, and gives packets that are sent the outer header they shall have.
//!
//! The options are those of ovs-vswitchd.conf.db(5), "Tunnel Options".

mod options;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use flow::key::EthAddr;
use sys::errno::Errno;
use sys::link::Links;

use super::{Counters, Flags, Netdev, Netdevs};
use crate::Error;
use crate::user::port::patch::local_mac;
use crate::user::port::{Counts, Io, Rx, TxFrame};

/// The TTL of outer headers where nothing else is configured.
pub const DEFAULT_TTL: u8 = 64;

/// Which packets a kind of tunnel can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layers {
    L2,
    L3,
    Both,
}

/// A kind of tunnel.
#[derive(Debug)]
pub struct Kind {
    /// The type in the `Interface` table.
    pub name: &'static str,
    /// How the names of its datapath ports begin.
    pub port_prefix: &'static str,
    /// The usual UDP port; `None` for kinds without UDP ports.
    default_port: Option<u16>,
    layers: Layers,
    /// Whether its header or outer UDP header may have a checksum; `None` for none.
    csum: Option<Csum>,
    /// Whether its header may count packets.
    seq: bool,
}

macro_rules! kinds {
    ($($name:literal $prefix:literal $port:expr, $layers:ident, $csum:expr, $seq:literal;)*) => {
        /// Every kind of tunnel.
        pub static KINDS: &[Kind] = &[$(Kind {
            name: $name, port_prefix: $prefix, default_port: $port, layers: Layers::$layers, csum: $csum, seq: $seq,
        },)*];
    };
}

kinds! {
    "geneve"    "genev_sys"     Some(6081), L2,   Some(Csum::Default), false;
    "gre"       "gre_sys"       None,       Both, Some(Csum::Off),     true;
    "vxlan"     "vxlan_sys"     Some(4789), L2,   Some(Csum::Default), false;
    "erspan"    "erspan_sys"    None,       L2,   None,                false;
    "ip6erspan" "ip6erspan_sys" None,       L2,   None,                false;
    "ip6gre"    "ip6gre_sys"    None,       L2,   Some(Csum::Off),     true;
    "gtpu"      "gtpu_sys"      Some(2152), L3,   None,                false;
    "bareudp"   "udp_sys"       Some(0),    L3,   None,                false;
    "srv6"      "srv6_sys"      None,       L3,   None,                false;
}

/// The kind of that name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The kind of tunnel whose datapath ports have names like this.
pub fn kind_of_port(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| name.starts_with(kind.port_prefix))
}

/// Whether a name is, or begins like, that of a datapath port for tunnels.
pub fn is_port_name(name: &str) -> bool {
    kind_of_port(name).is_some()
}

/// An address of the outer header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Endpoint {
    /// Received packets: any. Sent packets: whichever routing gives.
    #[default]
    Any,
    /// Flows match it and set it.
    Flow,
    /// Only this one; IPv4 as mapped into IPv6.
    Fixed(Ipv6Addr),
}

/// A key of the tunnel's header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum TunnelKey {
    /// None, as if it were 0.
    #[default]
    Absent,
    /// Flows match it and set it.
    Flow,
    Fixed(u64),
}

impl TunnelKey {
    /// The key that is configured; 0 for none.
    pub fn number(self) -> u64 {
        if let Self::Fixed(key) = self { key } else { 0 }
    }
}

/// A part of the outer header, or of the tunnel's own, that flows may decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Or<T, const INHERIT: bool> {
    /// Flows set it; with `INHERIT`, that of the packet within.
    Other,
    Fixed(T),
}

/// Given, or as in the packet within.
pub type Inherit<T> = Or<T, true>;
/// Given, or as flows say.
pub type ByFlow<T> = Or<T, false>;

/// Whether outer headers have checksums.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Csum {
    /// Over IPv6 only.
    #[default]
    Default,
    /// No, by nature of the kind.
    Off,
    Enabled,
    Disabled,
}

/// Which packets go in and out (`packet_type`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Packets {
    /// Ethernet frames.
    LegacyL2,
    /// Packets without Ethernet header, which get one of zeros within the switch.
    LegacyL3,
    /// Both, told apart by their packet type.
    Aware,
}

bitflags::bitflags! {
    /// Extensions of a kind.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct Exts: u8 {
        /// VXLAN group-based policy.
        const GBP = 1;
        /// VXLAN generic protocol extension.
        const GPE = 2;
        /// Bareudp with several EtherTypes.
        const MULTIPROTO = 4;
    }
}

/// How a tunnel is configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub remote: Endpoint,
    pub local: Endpoint,
    pub in_key: TunnelKey,
    pub out_key: TunnelKey,
    pub ttl: Inherit<u8>,
    /// The DSCP in place.
    pub tos: Inherit<u8>,
    pub dont_fragment: bool,
    pub csum: Csum,
    pub seq: bool,
    /// 0 for kinds without UDP ports.
    pub dst_port: u16,
    pub packets: Packets,
    pub exts: Exts,
    /// The packet mark that sent packets get.
    pub egress_mark: Option<u32>,
    pub erspan_version: ByFlow<u8>,
    pub erspan_index: ByFlow<u32>,
    pub erspan_direction: ByFlow<u8>,
    pub erspan_hardware: ByFlow<u8>,
    /// What bareudp carries.
    pub payload_ethertype: u16,
    pub srv6_segments: Vec<Ipv6Addr>,
    pub srv6_flow_label: FlowLabel,
}

/// The flow label of SRv6's outer header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FlowLabel {
    #[default]
    Copy,
    Zero,
    Compute,
}

impl Config {
    /// That of a tunnel before it is configured.
    fn unconfigured(kind: &Kind, name: &str) -> Self {
        let port = name.strip_prefix(kind.port_prefix).and_then(|rest| rest.strip_prefix('_'));
        let port = port.and_then(|digits| digits.parse().ok()).filter(|&port: &u16| port != 0);
        Self {
            dst_port: kind.default_port.map_or(0, |usual| port.unwrap_or(usual)),
            packets: Packets::Aware,
            ..Self::empty(kind)
        }
    }

    fn empty(kind: &Kind) -> Self {
        Self {
            remote: Endpoint::Any,
            local: Endpoint::Any,
            in_key: TunnelKey::Absent,
            out_key: TunnelKey::Absent,
            ttl: Or::Fixed(DEFAULT_TTL),
            tos: Or::Fixed(0),
            dont_fragment: true,
            csum: kind.csum.unwrap_or(Csum::Off),
            seq: false,
            dst_port: kind.default_port.unwrap_or(0),
            packets: kind.usual_packets(Exts::empty()),
            exts: Exts::empty(),
            egress_mark: None,
            erspan_version: Or::Fixed(0),
            erspan_index: Or::Fixed(0),
            erspan_direction: Or::Fixed(0),
            erspan_hardware: Or::Fixed(0),
            payload_ethertype: 0,
            srv6_segments: Vec::new(),
            srv6_flow_label: FlowLabel::Copy,
        }
    }
}

impl Kind {
    fn layers(&self, exts: Exts) -> Layers {
        if self.name == "vxlan" && exts.contains(Exts::GPE) { Layers::Both } else { self.layers }
    }

    fn usual_packets(&self, exts: Exts) -> Packets {
        if self.layers(exts) == Layers::L3 { Packets::LegacyL3 } else { Packets::LegacyL2 }
    }

    /// The name of the datapath port that tunnels with this UDP port share.
    fn port_name(&self, dst_port: u16) -> String {
        match self.default_port {
            Some(_) => format!("{}_{dst_port}", self.port_prefix),
            None => self.port_prefix.to_owned(),
        }
    }
}

/// Where packets leave the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Egress {
    pub interface: String,
    pub carrier: bool,
}

/// Who knows where packets leave the machine.
pub trait Routes {
    /// The interface by which packets with a mark leave for an address.
    fn egress(&self, to: IpAddr, mark: u32) -> Option<Egress>;
}

/// What the tunnels of a switch share.
#[derive(Default)]
pub struct Shared {
    /// UDP port and use of group-based policy of each configured VXLAN tunnel.
    vxlans: Mutex<BTreeMap<String, (u16, bool)>>,
    changes: AtomicU64,
}

impl Shared {
    /// A number that is another when a tunnel was configured.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Whether another tunnel has the UDP port with the other use of group-based policy, which the kernel cannot mix.
    fn clashes(&self, name: &str, dst_port: u16, gbp: bool) -> bool {
        lock(&self.vxlans).iter().any(|(other, &found)| other != name && found == (dst_port, !gbp))
    }
}

/// A tunnel.
pub struct Tunnel {
    name: String,
    kind: &'static Kind,
    config: ArcSwap<Config>,
    mac: Mutex<EthAddr>,
    egress: Mutex<Option<Egress>>,
    /// Whether the interface of the datapath's port is one of the kernel's.
    in_kernel: AtomicBool,
    seq: AtomicU64,
    received: Counts,
    sent: Counts,
    shared: Arc<Shared>,
}

impl Tunnel {
    /// Makes a tunnel; its options come with the configuration.
    pub fn open(devices: &Netdevs, name: &str, kind: &'static str) -> Result<Arc<dyn Netdev>, Error> {
        let kind = self::kind(kind).ok_or(Errno::EAFNOSUPPORT)?;
        Ok(Arc::new(Self::new(name, kind, Arc::clone(devices.tunnels()))))
    }

    fn new(name: &str, kind: &'static Kind, shared: Arc<Shared>) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            config: ArcSwap::from_pointee(Config::unconfigured(kind, name)),
            mac: Mutex::new(local_mac(name)),
            egress: Mutex::new(None),
            in_kernel: AtomicBool::new(true),
            seq: AtomicU64::new(1),
            received: Counts::default(),
            sent: Counts::default(),
            shared,
        }
    }

    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        lock(&self.shared.vxlans).remove(&self.name);
    }
}

impl Netdev for Tunnel {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind.name
    }

    fn tunnel(&self) -> Option<Arc<Config>> {
        Some(self.config.load_full())
    }

    fn datapath_port(&self) -> String {
        self.kind.port_name(self.config.load().dst_port)
    }

    fn config(&self) -> BTreeMap<String, String> {
        options::write(self.kind, &self.config.load())
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), Error> {
        let (mut read, mut faults) = options::read(self.kind, &self.name, options);
        if let Ok(config) = &read
            && self.kind.name == "vxlan"
        {
            let gbp = config.exts.contains(Exts::GBP);
            if self.shared.clashes(&self.name, config.dst_port, gbp) {
                faults.push(format!(
                    "{}: VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port",
                    self.name
                ));
                read = Err(Errno::EEXIST);
            } else {
                lock(&self.shared.vxlans).insert(self.name.clone(), (config.dst_port, gbp));
            }
        }
        let text = faults.join("\n");
        if !text.is_empty() {
            tracing::warn!(target: "netdev_vport", "{text}");
        }
        let config = read.map_err(|errno| Error::Config { text, errno })?;
        if **self.config.load() != config {
            self.config.store(Arc::new(config));
            self.shared.changes.fetch_add(1, Ordering::Relaxed);
            self.changed();
        }
        Ok(())
    }

    fn look_for_egress(&self, routes: &dyn Routes) {
        let config = self.config.load();
        let now = match config.remote {
            Endpoint::Fixed(to) => routes.egress(to.to_canonical(), config.egress_mark.unwrap_or(0)),
            Endpoint::Any | Endpoint::Flow => None,
        };
        let mut egress = lock(&self.egress);
        if *egress != now {
            *egress = now;
            self.changed();
        }
    }

    fn port_device(&self) -> Option<Arc<dyn Netdev>> {
        Some(Arc::new(Self::new(&self.datapath_port(), self.kind, Arc::clone(&self.shared))))
    }

    fn io(&self) -> Result<Arc<dyn Io>, Error> {
        Ok(Arc::new(NoPackets))
    }

    fn joined_datapath(&self, in_kernel: bool) {
        self.in_kernel.store(in_kernel, Ordering::Relaxed);
    }

    fn ifindex(&self) -> Option<u32> {
        let in_kernel = self.in_kernel.load(Ordering::Relaxed);
        in_kernel.then(|| Links::new().ok()?.index(&self.datapath_port()).ok()).flatten()
    }

    fn status(&self) -> Result<BTreeMap<String, String>, Error> {
        let egress = lock(&self.egress).clone();
        let rows = egress.into_iter().flat_map(|egress| {
            let carrier = if egress.carrier { "up" } else { "down" };
            [("tunnel_egress_iface", egress.interface), ("tunnel_egress_iface_carrier", carrier.to_owned())]
        });
        Ok(rows.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn mac(&self) -> Result<EthAddr, Error> {
        Ok(*lock(&self.mac))
    }

    fn set_mac(&self, mac: EthAddr) -> Result<(), Error> {
        *lock(&self.mac) = mac;
        self.changed();
        Ok(())
    }

    fn mtu(&self) -> Result<u16, Error> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn set_mtu(&self, _mtu: u16) -> Result<(), Error> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn flags(&self) -> Result<Flags, Error> {
        Ok(Flags::UP | Flags::PROMISC)
    }

    fn update_flags(&self, off: Flags, _on: Flags) -> Result<(), Error> {
        if off.intersects(Flags::UP | Flags::PROMISC) { Err(Errno::EOPNOTSUPP.into()) } else { Ok(()) }
    }

    fn counters(&self) -> Result<Counters, Error> {
        let ((rx_packets, rx_bytes), (tx_packets, tx_bytes)) = (self.received.read(), self.sent.read());
        Ok(Counters {
            rx_packets: Some(rx_packets),
            rx_bytes: Some(rx_bytes),
            tx_packets: Some(tx_packets),
            tx_bytes: Some(tx_bytes),
            ..Counters::default()
        })
    }

    fn credit_rx(&self, packets: u64, bytes: u64) {
        self.received.packets.fetch_add(packets, Ordering::Relaxed);
        self.received.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn credit_tx(&self, packets: u64, bytes: u64) {
        self.sent.packets.fetch_add(packets, Ordering::Relaxed);
        self.sent.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }
}

/// The packet side of a tunnel's port in a userspace datapath, which packets enter and leave by actions of their own.
struct NoPackets;

impl Io for NoPackets {
    fn carries_packets(&self) -> bool {
        false
    }

    fn is_pmd(&self) -> bool {
        false
    }

    fn readable(&self, _queue: usize) -> Option<RawFd> {
        None
    }

    fn receive(&self, _queue: usize, _max: usize, _rx: &mut Rx<'_>) -> usize {
        0
    }

    fn send(&self, _queue: usize, frames: &[TxFrame<'_>]) -> usize {
        frames.len()
    }
}

/// Locks; a panic elsewhere while the lock was held left the value whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneRoute;

    impl Routes for OneRoute {
        fn egress(&self, to: IpAddr, _mark: u32) -> Option<Egress> {
            let known = to == IpAddr::from([1, 1, 1, 1]);
            known.then(|| Egress { interface: "eth7".to_owned(), carrier: true })
        }
    }

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn tunnels_share_ports_by_kind_and_udp_port() {
        let devices = Netdevs::new();
        let port = |name: &str, kind: &str, set: &[(&str, &str)]| {
            let device = devices.open(name, kind).unwrap();
            device.set_config(&options(&[set, &[("remote_ip", "1.1.1.1")]].concat())).unwrap();
            device.datapath_port()
        };
        assert_eq!(port("a", "vxlan", &[]), "vxlan_sys_4789");
        assert_eq!(port("b", "vxlan", &[("dst_port", "8472")]), "vxlan_sys_8472");
        assert_eq!(port("c", "geneve", &[]), "genev_sys_6081");
        assert_eq!(port("d", "gre", &[]), "gre_sys");
        assert_eq!(port("e", "bareudp", &[("dst_port", "6635")]), "udp_sys_6635");
        assert!(is_port_name("vxlan_sys_4789") && !is_port_name("vxlan0"));
    }

    #[test]
    fn group_policy_does_not_mix_on_a_udp_port() {
        let devices = Netdevs::new();
        let plain = devices.open("plain", "vxlan").unwrap();
        plain.set_config(&options(&[("remote_ip", "flow")])).unwrap();
        let gbp = devices.open("gbp", "vxlan").unwrap();
        let wanted = options(&[("remote_ip", "flow"), ("exts", "gbp")]);
        let error = gbp.set_config(&wanted).unwrap_err();
        assert_eq!(error.errno(), Errno::EEXIST);
        let text = "gbp: VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port";
        assert_eq!(error, Error::Config { text: text.to_owned(), errno: Errno::EEXIST });
        drop(plain);
        assert_eq!(gbp.set_config(&wanted), Ok(()));
    }

    #[test]
    fn status_tells_where_packets_leave() {
        let devices = Netdevs::new();
        let device = devices.open("t", "gre").unwrap();
        device.set_config(&options(&[("remote_ip", "1.1.1.1")])).unwrap();
        devices.look_for_egress(&OneRoute);
        let status = options(&[("tunnel_egress_iface", "eth7"), ("tunnel_egress_iface_carrier", "up")]);
        assert_eq!(device.status(), Ok(status));
        let seq = device.change_seq();
        device.set_config(&options(&[("remote_ip", "2.2.2.2")])).unwrap();
        devices.look_for_egress(&OneRoute);
        assert_eq!(device.status(), Ok(BTreeMap::new()));
        assert_ne!(device.change_seq(), seq);
    }

    #[test]
    fn a_port_device_has_its_udp_port_from_its_name() {
        let devices = Netdevs::new();
        let device = devices.open("vxlan_sys_8472", "vxlan").unwrap();
        assert_eq!(device.config(), options(&[("dst_port", "8472"), ("packet_type", "ptap")]));
    }
}
