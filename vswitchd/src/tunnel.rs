//! Tunnels in translation: which tunnel a received packet came by, and what the outer header of a sent one is.
//!
//! Tunnels of a kind share a datapath port, so that a packet with an outer header is told its OpenFlow port by the
//! header: each tunnel asks for a key, a local and a remote address, or leaves some of them to flows. The more a tunnel
//! asks for, the sooner it is taken: a fixed key goes before a fixed remote address, and that before a local one.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use datapath::netdev::tunnel::{Config, Csum, DEFAULT_TTL, Endpoint, Or, Packets, TunnelKey};
use flow::describe::key_to_string;
use flow::field::{NoNames, dl_type};
use flow::id::DpPort;
use flow::key::{Key, Mask, Tunnel, tnl_flags};
use flow::proto::{PT_NS_ETHERTYPE, ethertype};

use crate::backer::{Backers, Command};

/// The commands of this module.
pub const COMMANDS: &[Command] = &[Command {
    name: "ofproto/list-tunnels",
    usage: "",
    min: 0,
    max: 0,
    run: |backers, _, _| Ok(list(backers)),
}];

const ECN: u8 = 3;
const DSCP: u8 = 0xfc;
/// Congestion experienced, not capable of telling, and capable.
const ECN_CE: u8 = 3;
const ECN_NOT_ECT: u8 = 0;
const ECN_ECT_0: u8 = 2;

/// A tunnel as a port of a bridge.
#[derive(Clone, Debug)]
pub struct TunnelPort {
    pub name: String,
    /// The type of the interface.
    pub kind: &'static str,
    /// The datapath port that it shares; [`DpPort::NONE`] if it has none.
    pub odp: DpPort,
    pub config: Arc<Config>,
}

/// What a tunnel asks of the outer header of the packets that it takes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Match {
    pub odp: DpPort,
    /// `None`: flows look at it.
    key: Option<u64>,
    local: Endpoint,
    /// `None`: flows look at it.
    remote: Option<Ipv6Addr>,
    packets: Packets,
}

impl Match {
    /// That of a tunnel.
    pub fn of(config: &Config, odp: DpPort) -> Self {
        Self {
            odp,
            key: (config.in_key != TunnelKey::Flow).then_some(config.in_key.number()),
            local: config.local,
            remote: match config.remote {
                Endpoint::Flow => None,
                Endpoint::Fixed(ip) => Some(ip),
                Endpoint::Any => Some(Ipv6Addr::UNSPECIFIED),
            },
            packets: config.packets,
        }
    }

    /// Tunnels of a lower class are looked for first.
    fn class(&self) -> usize {
        let local = match self.local {
            Endpoint::Fixed(_) => 0,
            Endpoint::Any => 1,
            Endpoint::Flow => 2,
        };
        6 * usize::from(self.key.is_none()) + 3 * usize::from(self.remote.is_none()) + local
    }

    /// What a tunnel of a class would ask for if it took the packet.
    fn wanted(class: usize, packet: &Key, packets: Packets) -> Self {
        let tunnel = &packet.tunnel;
        Self {
            odp: DpPort(packet.in_port),
            key: (class < 6).then_some(tunnel.id.get()),
            local: match class % 3 {
                0 => Endpoint::Fixed(dst(tunnel)),
                1 => Endpoint::Any,
                _ => Endpoint::Flow,
            },
            remote: (class % 6 < 3).then(|| src(tunnel)),
            packets,
        }
    }
}

/// How many classes there are.
const CLASSES: usize = 12;

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = match self.local {
            Endpoint::Fixed(ip) => ip.to_canonical().to_string(),
            Endpoint::Any => Ipv6Addr::UNSPECIFIED.to_string(),
            Endpoint::Flow => "flow".to_owned(),
        };
        let remote = self.remote.map_or_else(|| "flow".to_owned(), |ip| ip.to_canonical().to_string());
        write!(f, "{local}->{remote}, key=")?;
        match self.key {
            None => f.write_str("flow")?,
            Some(0) => f.write_str("0")?,
            Some(key) => write!(f, "{key:#x}")?,
        }
        let packets = match self.packets {
            Packets::LegacyL2 => "legacy_l2",
            Packets::LegacyL3 => "legacy_l3",
            Packets::Aware => "ptap",
        };
        write!(f, ", {packets}, dp port={}", self.odp)
    }
}

/// Where a received packet was sent to.
pub fn dst(tunnel: &Tunnel) -> Ipv6Addr {
    address(tunnel.ip_dst.get(), tunnel.ipv6_dst, tunnel)
}

fn src(tunnel: &Tunnel) -> Ipv6Addr {
    address(tunnel.ip_src.get(), tunnel.ipv6_src, tunnel)
}

fn address(v4: u32, v6: [u8; 16], tunnel: &Tunnel) -> Ipv6Addr {
    if tunnel.ip_dst.get() != 0 { Ipv4Addr::from(v4).to_ipv6_mapped() } else { v6.into() }
}

/// Tunnels by what they ask for.
#[derive(Clone, Debug)]
pub struct Tunnels<T> {
    by_match: HashMap<Match, T>,
    /// How many tunnels each class has.
    classes: [usize; CLASSES],
}

impl<T> Default for Tunnels<T> {
    fn default() -> Self {
        Self { by_match: HashMap::new(), classes: [0; CLASSES] }
    }
}

impl<T> Tunnels<T> {
    /// Adds a tunnel.
    ///
    /// # Errors
    /// The one that asks for the same.
    pub fn insert(&mut self, wanted: Match, tunnel: T) -> Result<(), &T> {
        use std::collections::hash_map::Entry;
        let class = wanted.class();
        match self.by_match.entry(wanted) {
            Entry::Occupied(same) => Err(same.into_mut()),
            Entry::Vacant(free) => {
                free.insert(tunnel);
                self.classes[class] += 1;
                Ok(())
            }
        }
    }

    /// Removes a tunnel.
    pub fn remove(&mut self, wanted: &Match) -> Option<T> {
        let gone = self.by_match.remove(wanted)?;
        self.classes[wanted.class()] -= 1;
        Some(gone)
    }

    /// The tunnel that a packet came by, whose `in_port` is the datapath's.
    pub fn find(&self, packet: &Key) -> Option<&T> {
        let l3 = packet.packet_type.get() >> 16 == PT_NS_ETHERTYPE;
        let legacy = if l3 { Packets::LegacyL3 } else { Packets::LegacyL2 };
        let classes = (0..CLASSES).filter(|&class| self.classes[class] != 0);
        let wanted = classes.flat_map(|class| [(class, legacy), (class, Packets::Aware)]);
        wanted.into_iter().find_map(|(class, kind)| self.by_match.get(&Match::wanted(class, packet, kind)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_match.is_empty()
    }

    /// Every tunnel, those of lower classes first.
    fn in_order(&self) -> Vec<(&Match, &T)> {
        let mut all: Vec<_> = self.by_match.iter().collect();
        all.sort_by_cached_key(|(wanted, _)| (wanted.class(), wanted.odp, wanted.to_string()));
        all
    }
}

/// What a translation that begins with a packet from a tunnel looks at.
pub(crate) fn mask_received(packet: &Key, mask: &mut Mask) {
    if !packet.tunnel.is_set() {
        return;
    }
    let m = &mut mask.0.tunnel;
    m.id = u64::MAX.into();
    if packet.tunnel.ip_dst.get() != 0 {
        (m.ip_src, m.ip_dst) = (u32::MAX.into(), u32::MAX.into());
    } else {
        (m.ipv6_src, m.ipv6_dst) = ([0xff; 16], [0xff; 16]);
    }
    // Whether there is a key tells a key of 0 from none.
    (m.flags, m.tos, m.ttl) = (tnl_flags::KEY, u8::MAX, 0);
    (m.tp_src, m.tp_dst) = (0.into(), 0.into());
    if congested(packet) {
        mask.0.nw_tos |= ECN;
    }
}

/// Whether the outer header of an IP packet tells of congestion.
fn congested(packet: &Key) -> bool {
    packet.tunnel.is_set() && packet.tunnel.tos & ECN == ECN_CE && ethertype::is_ip(dl_type(packet))
}

/// Lets the packet tell of the congestion that its outer header tells of (RFC 6040). False if it cannot, and so must
/// be dropped.
pub(crate) fn take_congestion(packet: &mut Key) -> bool {
    if !congested(packet) {
        return true;
    }
    if packet.nw_tos & ECN == ECN_NOT_ECT {
        tracing::warn!(
            target: "tunnel", rl = "1,5",
            "dropping tunnel packet marked ECN CE but is not ECN capable"
        );
        return false;
    }
    packet.nw_tos |= ECN_CE;
    true
}

impl TunnelPort {
    /// Gives a packet the outer header with which it leaves by the tunnel. What of it decides over that becomes
    /// significant in `mask`.
    pub(crate) fn send(&self, packet: &mut Key, mask: &mut Mask) {
        let config = &*self.config;
        let ip = ethertype::is_ip(dl_type(packet));
        let t = &mut packet.tunnel;
        if config.local != Endpoint::Flow {
            (t.ip_src, t.ipv6_src) = split(config.local);
        }
        if config.remote != Endpoint::Flow {
            (t.ip_dst, t.ipv6_dst) = split(config.remote);
        }
        // A port that another tunnel left is none of this one.
        (t.tp_src, t.tp_dst) = (0.into(), config.dst_port.into());
        if config.out_key != TunnelKey::Flow {
            t.id = config.out_key.number().into();
        }
        t.ttl = match config.ttl {
            Or::Fixed(ttl) => ttl,
            Or::Other if ip => {
                mask.0.nw_ttl = u8::MAX;
                packet.nw_ttl
            }
            Or::Other => DEFAULT_TTL,
        };
        t.tos = match config.tos {
            Or::Fixed(tos) => tos,
            Or::Other if ip => {
                mask.0.nw_tos |= DSCP;
                packet.nw_tos & DSCP
            }
            Or::Other => 0,
        };
        if ip {
            mask.0.nw_tos |= ECN;
            let ecn = packet.nw_tos & ECN;
            t.tos |= if ecn == ECN_CE { ECN_ECT_0 } else { ecn };
        }
        self.flags(t);
        self.erspan(t);
        if let Some(mark) = config.egress_mark {
            packet.pkt_mark = mark;
            mask.0.pkt_mark = u32::MAX;
        }
    }

    fn flags(&self, t: &mut Tunnel) {
        let config = &*self.config;
        t.flags &= !tnl_flags::ALL | tnl_flags::PUBLIC;
        let v6 = t.ip_dst.get() == 0;
        for (on, flag) in [
            (config.dont_fragment, tnl_flags::DONT_FRAGMENT),
            (config.out_key != TunnelKey::Absent, tnl_flags::KEY),
            (config.csum == Csum::Enabled || config.csum == Csum::Default && v6, tnl_flags::CSUM),
        ] {
            t.flags |= if on { flag } else { 0 };
        }
    }

    fn erspan(&self, t: &mut Tunnel) {
        let config = &*self.config;
        if let Or::Fixed(version) = config.erspan_version {
            t.erspan_ver = version;
        }
        if let Or::Fixed(index) = config.erspan_index {
            t.erspan_idx = index;
        }
        if let Or::Fixed(direction) = config.erspan_direction {
            t.erspan_dir = direction;
        }
        if let Or::Fixed(hardware) = config.erspan_hardware {
            t.erspan_hwid = hardware;
        }
    }

    /// The line of `ofproto/list-tunnels`.
    fn line(&self, wanted: &Match) -> String {
        let config = &*self.config;
        let mut out = format!("port {}: {} ({}: {wanted}", self.odp, self.name, self.kind);
        let mut put = |text: fmt::Arguments<'_>| _ = out.write_fmt(text);
        if config.in_key != config.out_key {
            match config.out_key {
                TunnelKey::Absent => put(format_args!(", out_key=none")),
                TunnelKey::Flow => put(format_args!(", out_key=flow")),
                TunnelKey::Fixed(0) => put(format_args!(", out_key=0")),
                TunnelKey::Fixed(key) => put(format_args!(", out_key={key:#x}")),
            }
        }
        match config.ttl {
            Or::Other => put(format_args!(", ttl=inherit")),
            Or::Fixed(ttl) => put(format_args!(", ttl={ttl}")),
        }
        match config.tos {
            Or::Other => put(format_args!(", tos=inherit")),
            Or::Fixed(0) => {}
            Or::Fixed(tos) => put(format_args!(", tos={tos:#x}")),
        }
        if !config.dont_fragment {
            put(format_args!(", df=false"));
        }
        match config.csum {
            Csum::Enabled => put(format_args!(", csum=true")),
            Csum::Disabled => put(format_args!(", csum=false")),
            Csum::Default | Csum::Off => {}
        }
        out + ")\n"
    }
}

/// The address as IPv4 or as IPv6, the other zero.
fn split(endpoint: Endpoint) -> (zerocopy::big_endian::U32, [u8; 16]) {
    let Endpoint::Fixed(ip) = endpoint else { return Default::default() };
    match ip.to_ipv4_mapped() {
        Some(v4) if !v4.is_unspecified() => (v4.to_bits().into(), [0; 16]),
        _ => (0.into(), ip.octets()),
    }
}

/// Says that no tunnel takes a packet.
pub(crate) fn warn_not_found(packet: &Key) {
    let text = key_to_string(packet, &NoNames);
    tracing::warn!(target: "tunnel", rl = "1,5", "receive tunnel port not found ({text})");
}

/// `ofproto/list-tunnels`.
fn list(backers: &Backers) -> String {
    let mut out = String::new();
    for backer in backers.0.values() {
        let snapshot = backer.snapshot();
        for (wanted, (bridge, ofp)) in snapshot.tunnels().in_order() {
            let port = snapshot.bridge(*bridge).and_then(|bridge| bridge.ports.get(ofp));
            out.extend(port.and_then(|port| port.tunnel.as_ref()).map(|tunnel| tunnel.line(wanted)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(local: Endpoint, remote: Endpoint, key: TunnelKey, packets: Packets) -> Config {
        let devices = datapath::netdev::Netdevs::new();
        let device = devices.open("t", "gre").unwrap();
        let options = [("remote_ip".to_owned(), "1.1.1.1".to_owned())].into();
        device.set_config(&options).unwrap();
        Config { local, remote, in_key: key, out_key: key, packets, ..(*device.tunnel().unwrap()).clone() }
    }

    fn v4(last: u8) -> Endpoint {
        Endpoint::Fixed(Ipv4Addr::new(1, 1, 1, last).to_ipv6_mapped())
    }

    fn packet(local: u8, remote: u8, key: u64, l3: bool) -> Key {
        let mut packet = Key { in_port: 1, ..Key::default() };
        packet.tunnel.ip_dst = u32::from_be_bytes([1, 1, 1, local]).into();
        packet.tunnel.ip_src = u32::from_be_bytes([1, 1, 1, remote]).into();
        packet.tunnel.id = key.into();
        packet.packet_type = if l3 { 0x1_0800 } else { 0 }.into();
        packet
    }

    /// Whether a tunnel takes a packet, and how much it asks for: key, remote, local, kind of packets.
    fn rank(config: &Config, p: &(u8, u8, u64, bool)) -> Option<[u8; 4]> {
        let key = match config.in_key {
            TunnelKey::Flow => 1,
            key if key.number() == p.2 => 0,
            _ => return None,
        };
        let remote = match config.remote {
            Endpoint::Flow => 1,
            ip if ip == v4(p.1) => 0,
            _ => return None,
        };
        let local = match config.local {
            Endpoint::Flow => 2,
            Endpoint::Any => 1,
            ip if ip == v4(p.0) => 0,
            _ => return None,
        };
        let packets = match config.packets {
            Packets::Aware => 1,
            Packets::LegacyL2 if !p.3 => 0,
            Packets::LegacyL3 if p.3 => 0,
            _ => return None,
        };
        Some([key, remote, local, packets])
    }

    fn endpoints() -> impl Strategy<Value = (Endpoint, Endpoint)> {
        prop_oneof![
            Just((Endpoint::Any, Endpoint::Flow)),
            Just((Endpoint::Flow, Endpoint::Flow)),
            (1..3u8).prop_map(|n| (Endpoint::Any, v4(n))),
            (1..3u8).prop_map(|n| (v4(n), Endpoint::Flow)),
            (1..3u8, 1..3u8).prop_map(|(a, b)| (v4(a), v4(b))),
        ]
    }

    fn configs() -> impl Strategy<Value = Vec<Config>> {
        let key =
            prop_oneof![Just(TunnelKey::Flow), Just(TunnelKey::Absent), (0..3u64).prop_map(TunnelKey::Fixed)];
        let packets = prop_oneof![Just(Packets::LegacyL2), Just(Packets::LegacyL3), Just(Packets::Aware)];
        let one = (endpoints(), key, packets)
            .prop_map(|((local, remote), key, packets)| config(local, remote, key, packets));
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn the_map_finds_what_looking_at_all_finds(
            configs in configs(), packets in proptest::collection::vec((1..4u8, 1..4u8, 0..4u64, any::<bool>()), 8)
        ) {
            let mut map = Tunnels::default();
            let mut kept: Vec<(usize, Config)> = Vec::new();
            for (i, config) in configs.into_iter().enumerate() {
                if map.insert(Match::of(&config, DpPort(1)), i).is_ok() {
                    kept.push((i, config));
                }
            }
            for p in &packets {
                let slow = kept.iter().filter_map(|(i, config)| Some((rank(config, p)?, i))).min();
                prop_assert_eq!(map.find(&packet(p.0, p.1, p.2, p.3)), slow.map(|(_, i)| i));
            }
            for (i, config) in &kept {
                prop_assert_eq!(map.remove(&Match::of(config, DpPort(1))), Some(*i));
            }
            prop_assert!(map.is_empty() && map.classes == [0; CLASSES]);
        }
    }

    #[test]
    fn matches_have_ovs_text() {
        let of = |local, remote, key, packets| {
            Match::of(&config(local, remote, key, packets), DpPort(7)).to_string()
        };
        assert_eq!(
            of(v4(2), v4(1), TunnelKey::Fixed(5), Packets::LegacyL2),
            "1.1.1.2->1.1.1.1, key=0x5, legacy_l2, dp port=7"
        );
        assert_eq!(
            of(Endpoint::Any, Endpoint::Flow, TunnelKey::Flow, Packets::Aware),
            "::->flow, key=flow, ptap, dp port=7"
        );
        assert_eq!(
            of(Endpoint::Flow, Endpoint::Flow, TunnelKey::Absent, Packets::LegacyL3),
            "flow->flow, key=0, legacy_l3, dp port=7"
        );
    }

    #[test]
    fn headers_take_after_the_packet_within() {
        let mut port = TunnelPort {
            name: "t".to_owned(),
            kind: "gre",
            odp: DpPort(1),
            config: Arc::new(config(Endpoint::Any, v4(1), TunnelKey::Fixed(5), Packets::LegacyL2)),
        };
        let mut packet = Key { dl_type: 0x800.into(), nw_tos: 0xb9, nw_ttl: 9, ..Key::default() };
        let mut mask = Mask::default();
        port.send(&mut packet, &mut mask);
        let t = &packet.tunnel;
        assert_eq!((t.ip_dst.get(), t.ip_src.get(), t.id.get(), t.ttl, t.tos), (0x0101_0101, 0, 5, 64, 1));
        assert_eq!(t.flags, tnl_flags::DONT_FRAGMENT | tnl_flags::KEY);
        assert_eq!((mask.0.nw_tos, mask.0.nw_ttl), (3, 0));
        port.config = Arc::new(Config { ttl: Or::Other, tos: Or::Other, ..(*port.config).clone() });
        packet.nw_tos = 0xbb;
        port.send(&mut packet, &mut mask);
        assert_eq!((packet.tunnel.ttl, packet.tunnel.tos), (9, 0xba));
        assert_eq!((mask.0.nw_tos, mask.0.nw_ttl), (0xff, 0xff));
    }

    #[test]
    fn congestion_is_passed_on_or_drops() {
        let mut packet = Key { dl_type: 0x800.into(), nw_tos: 1, ..Key::default() };
        packet.tunnel.ip_dst = 1.into();
        assert!(take_congestion(&mut packet) && packet.nw_tos == 1);
        packet.tunnel.tos = 3;
        assert!(take_congestion(&mut packet) && packet.nw_tos == 3);
        packet.nw_tos = 0;
        assert!(!take_congestion(&mut packet));
    }
}
