//! The agent of one bridge: one sampler, a poller for each port that the kernel knows, and one for the whole switch.
//!
//! The datapath samples; the agent is told of each sampled packet and adds the sampling rate to the pool, which holds
//! if the datapath's randomness is fair. Counters are polled at their own second each, by [`Agent::tick`].

use crate::exporter::Exporter;
use crate::outputs::Outputs;
use crate::record::*;
use crate::sample::{CountersSample, FlowSample, Sample, Source};
use flow::action::Action;
use flow::id::{DpPort, Ifindex};
use flow::key::Key;
use flow::proto::ip;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// What an agent is told at its beginning. A change of any makes a new agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address that the agent is known by.
    pub address: IpAddr,
    /// Which of the agents at this address.
    pub sub_agent: u32,
    /// One packet in this many; not 0.
    pub sampling: u32,
    /// Seconds between polls, 0 for no polls.
    pub polling: u32,
    /// Bytes of each sampled packet to send.
    pub header: u32,
}

/// Tunnels whose IP protocol is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TunnelKind {
    #[default]
    Unknown,
    Vxlan,
    Gre,
    Geneve,
}

impl TunnelKind {
    /// By an interface's type.
    pub fn from_type(kind: &str) -> Self {
        match kind {
            "vxlan" => Self::Vxlan,
            "gre" => Self::Gre,
            "geneve" => Self::Geneve,
            _ => Self::Unknown,
        }
    }

    fn proto(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Vxlan | Self::Geneve => ip::UDP,
            Self::Gre => ip::GRE,
        }
    }
}

/// A packet that the datapath sampled.
#[derive(Clone, Copy, Debug)]
pub struct Sampled<'a> {
    pub packet: &'a [u8],
    pub key: &'a Key,
    pub in_port: DpPort,
    /// TCI that the packet leaves with, and where to: as in the action's cookie.
    pub vlan_tci: u16,
    pub output: u32,
    /// The flow's actions, if the datapath told them.
    pub actions: Option<&'a [Action]>,
}

/// Counters of a port, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortCounters {
    pub name: String,
    pub datapath_id: u64,
    pub openflow_port: u32,
    pub full_duplex: Option<bool>,
    /// Bits a second, 0 for unknown.
    pub speed: u64,
    pub admin_up: bool,
    pub link_up: bool,
    pub rx_bytes: Option<u64>,
    pub rx_packets: Option<u64>,
    pub rx_multicast: Option<u64>,
    pub rx_broadcast: Option<u64>,
    pub rx_dropped: Option<u64>,
    pub rx_errors: Option<u64>,
    pub tx_bytes: Option<u64>,
    pub tx_packets: Option<u64>,
    pub tx_multicast: Option<u64>,
    pub tx_broadcast: Option<u64>,
    pub tx_dropped: Option<u64>,
    pub tx_errors: Option<u64>,
    pub rx_frame_errors: Option<u64>,
    pub rx_crc_errors: Option<u64>,
    pub rx_oversize_errors: Option<u64>,
    pub lacp: Option<LacpCounters>,
}

/// Where counters come from.
pub trait Counters {
    /// Counters of a port; `None` if it is gone.
    fn port(&mut self, port: DpPort) -> Option<PortCounters>;

    /// Counters of all datapaths together, if this agent is the one to tell them.
    fn datapaths(&mut self) -> Option<OvsDatapath>;

    /// What the program uses, if this agent is the one to tell it.
    fn resources(&mut self) -> Option<AppResources>;
}

#[derive(Debug)]
struct Port {
    /// 0 for a tunnel.
    ifindex: u32,
    tunnel: TunnelKind,
    poller: Option<Poller>,
}

#[derive(Debug)]
struct Poller {
    sequence: u32,
    /// Seconds to the next poll.
    countdown: u32,
}

/// The agent of one bridge.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    boot: u64,
    now: u64,
    exporter: Exporter,
    ports: BTreeMap<DpPort, Port>,
    sequence: u32,
    pool: u32,
    totals: Poller,
    /// Samples that did not fit a datagram.
    too_big: u64,
}

/// Chooses a number below its argument.
pub type Random<'a> = &'a mut dyn FnMut(u32) -> u32;

impl Agent {
    /// An agent that begins at `now`, in seconds.
    pub fn new(settings: Settings, now: u64, random: Random<'_>) -> Self {
        let exporter = Exporter::new(settings.address, settings.sub_agent);
        let totals = poller(settings.polling, random);
        Self {
            settings,
            boot: now,
            now,
            exporter,
            ports: BTreeMap::new(),
            sequence: 0,
            pool: 0,
            totals,
            too_big: 0,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How often the datapath shall sample, of `u32::MAX` in `u32::MAX`.
    pub fn probability(&self) -> u32 {
        (u32::MAX / self.settings.sampling.max(1)).max(1)
    }

    /// Samples that did not fit a datagram.
    pub fn too_big(&self) -> u64 {
        self.too_big
    }

    /// Knows a port. One that is neither known to the kernel nor a tunnel is of no interest.
    pub fn add_port(
        &mut self,
        port: DpPort,
        ifindex: Option<Ifindex>,
        tunnel: TunnelKind,
        random: Random<'_>,
    ) {
        self.ports.remove(&port);
        let ifindex = ifindex.map_or(0, |ifindex| ifindex.0);
        if ifindex == 0 && tunnel == TunnelKind::Unknown {
            return;
        }
        let poller = (ifindex != 0).then(|| poller(self.settings.polling, random));
        self.ports.insert(port, Port { ifindex, tunnel, poller });
    }

    pub fn del_port(&mut self, port: DpPort) {
        self.ports.remove(&port);
    }

    /// The interface index of a port, 0 if it has none.
    pub fn ifindex(&self, port: DpPort) -> u32 {
        self.ports.get(&port).map_or(0, |port| port.ifindex)
    }

    fn source(&self) -> Source {
        Source::entity(1000 + self.settings.sub_agent)
    }

    fn uptime(&self) -> u32 {
        (self.now.saturating_sub(self.boot) as u32).wrapping_mul(1000)
    }

    fn export(&mut self, sample: &Sample) {
        let uptime = self.uptime();
        if self.exporter.add(sample, uptime).is_err() {
            self.too_big += 1;
        }
    }

    /// Takes a sampled packet.
    pub fn sample(&mut self, sampled: &Sampled<'_>) {
        self.pool = self.pool.wrapping_add(self.settings.sampling);
        self.sequence = self.sequence.wrapping_add(1);
        let mut records = vec![self.switch_record(sampled), self.header_record(sampled.packet)];
        // Of more than one output, or none, there is no one way that the packet takes.
        if outputs(sampled.output) == 1
            && let Some(actions) = sampled.actions
        {
            self.output_records(&Outputs::of(sampled.key, actions), &mut records);
        }
        self.input_records(sampled, &mut records);
        let sample = Sample::Flow(FlowSample {
            sequence: self.sequence,
            source: self.source(),
            rate: self.settings.sampling,
            pool: self.pool,
            drops: 0,
            input: self.ifindex(sampled.in_port),
            output: sampled.output,
            records,
        });
        self.export(&sample);
    }

    fn switch_record(&self, sampled: &Sampled<'_>) -> FlowRecord {
        let (vid, pcp) = (|tci: u16| u32::from(tci & 0xfff), |tci: u16| u32::from(tci >> 13));
        let src = sampled.key.vlans[0].tci.get();
        FlowRecord::ExtendedSwitch(ExtendedSwitch {
            src_vlan: vid(src),
            src_priority: pcp(src),
            dst_vlan: vid(sampled.vlan_tci),
            dst_priority: pcp(sampled.vlan_tci),
        })
    }

    fn header_record(&self, packet: &[u8]) -> FlowRecord {
        /// Length of the frame check sequence, which the packet has lost already.
        const FCS: u32 = 4;
        let len = packet.len().min(self.settings.header as usize);
        FlowRecord::Header(SampledHeader {
            protocol: 1,
            frame_length: packet.len() as u32 + FCS,
            stripped: FCS,
            header: packet[..len].to_vec(),
        })
    }

    fn output_records(&self, outputs: &Outputs, records: &mut Vec<FlowRecord>) {
        if let Some(out_stack) = outputs.labels() {
            let next_hop = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            records.push(FlowRecord::ExtendedMpls(ExtendedMpls {
                next_hop,
                in_stack: Vec::new(),
                out_stack,
            }));
        }
        let proto_of = |port| self.ports.get(&port).map_or(0, |port| port.tunnel.proto());
        if let Some(tunnel) = outputs.tunnel(proto_of) {
            if tunnel.id != 0 {
                records.push(FlowRecord::VniEgress(VniEgress { vni: tunnel.id as u32 }));
            }
            records.push(FlowRecord::Ipv4TunnelEgress(TunnelEgress {
                length: 0,
                protocol: tunnel.proto.into(),
                src_ip: tunnel.src.into(),
                dst_ip: tunnel.dst.into(),
                src_port: tunnel.src_port.into(),
                dst_port: tunnel.dst_port.into(),
                tcp_flags: 0,
                tos: tunnel.tos.into(),
            }));
        }
    }

    fn input_records(&self, sampled: &Sampled<'_>, records: &mut Vec<FlowRecord>) {
        let tunnel = &sampled.key.tunnel;
        if tunnel.ip_dst.get() == 0 {
            return;
        }
        if tunnel.id.get() != 0 {
            records.push(FlowRecord::VniIngress(VniIngress { vni: tunnel.id.get() as u32 }));
        }
        let proto = self.ports.get(&sampled.in_port).map_or(0, |port| port.tunnel.proto());
        records.push(FlowRecord::Ipv4TunnelIngress(TunnelIngress {
            length: 0,
            protocol: proto.into(),
            src_ip: tunnel.ip_src.get().into(),
            dst_ip: tunnel.ip_dst.get().into(),
            src_port: tunnel.tp_src.get().into(),
            dst_port: tunnel.tp_dst.get().into(),
            tcp_flags: 0,
            tos: tunnel.tos.into(),
        }));
    }

    /// A second has passed: polls what is due, and closes the datagram. `now` is in seconds.
    pub fn tick(&mut self, now: u64, counters: &mut dyn Counters) {
        self.now = now;
        let polling = self.settings.polling;
        let mut samples = Vec::new();
        if self.totals.is_due(polling) {
            let resources = counters.resources().map(CounterRecord::AppResources);
            let datapaths = counters.datapaths().map(CounterRecord::OvsDatapath);
            let records: Vec<_> = [resources, datapaths].into_iter().flatten().collect();
            if !records.is_empty() {
                samples.push((self.totals.next(), self.source(), records));
            }
        }
        for (&number, port) in &mut self.ports {
            if let Some(poller) = port.poller.as_mut().filter(|poller| poller.countdown > 0)
                && poller.is_due(polling)
                && let Some(found) = counters.port(number)
            {
                let records = port_records(port.ifindex, found);
                samples.push((poller.next(), Source::interface(port.ifindex), records));
            }
        }
        for (sequence, source, records) in samples {
            self.export(&Sample::Counters(CountersSample { sequence, source, records }));
        }
        let uptime = self.uptime();
        self.exporter.flush(uptime);
    }

    /// The datagrams to send to each collector.
    pub fn take_datagrams(&mut self) -> Vec<Vec<u8>> {
        self.exporter.take()
    }
}

/// A poller whose first poll is at a random second, so that not all are at once.
fn poller(interval: u32, random: Random<'_>) -> Poller {
    Poller { sequence: 0, countdown: if interval == 0 { 0 } else { 1 + random(interval) } }
}

impl Poller {
    /// Counts a second; true when it is time to poll.
    fn is_due(&mut self, interval: u32) -> bool {
        match self.countdown {
            0 => false,
            1 => {
                self.countdown = interval;
                true
            }
            _ => {
                self.countdown -= 1;
                false
            }
        }
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

/// Outputs that the `output` of a flow sample tells.
fn outputs(output: u32) -> u32 {
    match (output >> 30, output & 0x3fff_ffff) {
        (0, 0) => 0,
        (0, _) => 1,
        (2, count) => count,
        _ => 0,
    }
}

fn port_records(ifindex: u32, found: PortCounters) -> Vec<CounterRecord> {
    /// What an interface of unknown speed is said to have.
    const SPEED: u64 = 100_000_000;
    let count = |value: Option<u64>| value.map_or(UNKNOWN, |value| value as u32);
    let ethernet = EthernetCounters {
        alignment_errors: count(found.rx_frame_errors),
        fcs_errors: count(found.rx_crc_errors),
        single_collisions: UNKNOWN,
        multiple_collisions: UNKNOWN,
        sqe_test_errors: UNKNOWN,
        deferred_transmissions: UNKNOWN,
        late_collisions: UNKNOWN,
        excessive_collisions: UNKNOWN,
        mac_transmit_errors: UNKNOWN,
        carrier_sense_errors: UNKNOWN,
        frame_too_longs: count(found.rx_oversize_errors),
        mac_receive_errors: UNKNOWN,
        symbol_errors: UNKNOWN,
    };
    let interface = IfCounters {
        index: ifindex,
        kind: 6,
        speed: if found.speed == 0 { SPEED } else { found.speed },
        direction: found.full_duplex.map_or(0, |full| if full { 1 } else { 2 }),
        status: u32::from(found.admin_up) | u32::from(found.admin_up && found.link_up) << 1,
        in_octets: found.rx_bytes.unwrap_or(u64::MAX),
        in_unicast: count(found.rx_packets),
        in_multicast: count(found.rx_multicast),
        in_broadcast: count(found.rx_broadcast),
        in_discards: count(found.rx_dropped),
        in_errors: count(found.rx_errors),
        in_unknown_protocols: UNKNOWN,
        out_octets: found.tx_bytes.unwrap_or(u64::MAX),
        out_unicast: count(found.tx_packets),
        out_multicast: count(found.tx_multicast),
        out_broadcast: count(found.tx_broadcast),
        out_discards: count(found.tx_dropped),
        out_errors: count(found.tx_errors),
        promiscuous: 0,
    };
    let openflow = OpenflowPort { datapath_id: found.datapath_id, port: found.openflow_port };
    let mut records = vec![
        CounterRecord::Ethernet(ethernet),
        CounterRecord::OpenflowPort(openflow),
        CounterRecord::PortName(PortName { name: found.name }),
    ];
    records.extend(found.lacp.map(CounterRecord::Lacp));
    records.push(CounterRecord::Interface(interface));
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Datagram;
    use flow::action::parse;
    use flow::odp::NoNames;
    use proptest::prelude::*;

    struct Fixed;

    impl Counters for Fixed {
        fn port(&mut self, port: DpPort) -> Option<PortCounters> {
            let lacp = (port.0 == 2).then_some(LacpCounters {
                actor_system: [1; 6],
                partner_system: [2; 6],
                attached_aggregate: 3,
                port_state: [4, 5, 6, 7],
                lacpdus_rx: 8,
                marker_pdus_rx: UNKNOWN,
                marker_responses_rx: UNKNOWN,
                unknown_rx: UNKNOWN,
                illegal_rx: 9,
                lacpdus_tx: 10,
                marker_pdus_tx: UNKNOWN,
                marker_responses_tx: UNKNOWN,
            });
            let name = format!("p{port}");
            let (rx_bytes, admin_up) = (Some(1000), true);
            Some(PortCounters {
                name,
                openflow_port: port.0,
                rx_bytes,
                admin_up,
                lacp,
                ..PortCounters::default()
            })
        }

        fn datapaths(&mut self) -> Option<OvsDatapath> {
            Some(OvsDatapath { hits: 1, misses: 2, lost: 3, mask_hits: 4, flows: 5, masks: 6 })
        }

        fn resources(&mut self) -> Option<AppResources> {
            None
        }
    }

    fn agent(polling: u32) -> Agent {
        let settings =
            Settings { address: Ipv4Addr::LOCALHOST.into(), sub_agent: 1, sampling: 64, polling, header: 20 };
        let mut agent = Agent::new(settings, 100, &mut |_| 0);
        agent.add_port(DpPort(1), Some(Ifindex(1001)), TunnelKind::Unknown, &mut |_| 1);
        agent.add_port(DpPort(2), Some(Ifindex(1002)), TunnelKind::Unknown, &mut |_| 1);
        agent.add_port(DpPort(3), None, TunnelKind::Vxlan, &mut |_| 0);
        agent.add_port(DpPort(4), None, TunnelKind::Unknown, &mut |_| 0);
        agent
    }

    fn datagrams(agent: &mut Agent) -> Vec<Datagram> {
        agent.take_datagrams().iter().map(|bytes| Datagram::decode(bytes).unwrap()).collect()
    }

    #[test]
    fn flow_samples_count_pool_and_sequence() {
        let mut agent = agent(0);
        let key = Key { in_port: 1, ..Key::default() };
        let packet = [7; 60];
        let sampled = Sampled {
            packet: &packet,
            key: &key,
            in_port: DpPort(1),
            vlan_tci: 0x3005,
            output: 1002,
            actions: None,
        };
        agent.sample(&sampled);
        agent.sample(&Sampled { in_port: DpPort(9), output: 0x8000_0002, ..sampled });
        agent.tick(103, &mut Fixed);
        let sample = |sequence, input, output| {
            Sample::Flow(FlowSample {
                sequence,
                source: Source { class: 2, index: 1001 },
                rate: 64,
                pool: 64 * sequence,
                drops: 0,
                input,
                output,
                records: vec![
                    FlowRecord::ExtendedSwitch(ExtendedSwitch {
                        src_vlan: 0,
                        src_priority: 0,
                        dst_vlan: 5,
                        dst_priority: 1,
                    }),
                    FlowRecord::Header(SampledHeader {
                        protocol: 1,
                        frame_length: 64,
                        stripped: 4,
                        header: vec![7; 20],
                    }),
                ],
            })
        };
        let want = Datagram {
            agent: Ipv4Addr::LOCALHOST.into(),
            sub_agent: 1,
            sequence: 1,
            uptime: 3000,
            samples: vec![sample(1, 1001, 1002), sample(2, 0, 0x8000_0002)],
        };
        assert_eq!(datagrams(&mut agent), [want]);
        assert_eq!(agent.probability(), u32::MAX / 64);
    }

    #[test]
    fn tunnels_and_labels_are_told_of_one_output() {
        let mut agent = agent(0);
        let mut key = Key::default();
        (key.tunnel.ip_src, key.tunnel.ip_dst, key.tunnel.id) = (1.into(), 2.into(), 77.into());
        let text = "set(tunnel(tun_id=0x5,src=1.1.1.1,dst=2.2.2.2,tos=0x4,ttl=9,tp_dst=4789,flags(key))),\
                    push_mpls(label=9,tc=0,ttl=3,bos=1,eth_type=0x8847),3";
        let actions = parse::actions(text, &NoNames).unwrap();
        let sampled = Sampled {
            packet: &[0; 14],
            key: &key,
            in_port: DpPort(3),
            vlan_tci: 0,
            output: 5,
            actions: Some(&actions),
        };
        agent.sample(&sampled);
        agent.sample(&Sampled { output: 0x8000_0003, ..sampled });
        agent.tick(100, &mut Fixed);
        let samples = datagrams(&mut agent).remove(0).samples;
        let formats = |sample: &Sample| match sample {
            Sample::Flow(sample) => sample.records.iter().map(FlowRecord::format).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(formats(&samples[0]), [1001, 1, 1006, 1029, 1023, 1030, 1024]);
        assert_eq!(formats(&samples[1]), [1001, 1, 1030, 1024]);
        let Sample::Flow(first) = &samples[0] else { unreachable!() };
        assert_eq!(
            first.records[2],
            FlowRecord::ExtendedMpls(ExtendedMpls {
                next_hop: Ipv4Addr::UNSPECIFIED.into(),
                in_stack: vec![],
                out_stack: vec![9 << 12 | 0x100 | 3],
            })
        );
        assert_eq!(
            first.records[4],
            FlowRecord::Ipv4TunnelEgress(TunnelEgress {
                length: 0,
                protocol: 17,
                src_ip: Ipv4Addr::new(1, 1, 1, 1),
                dst_ip: Ipv4Addr::new(2, 2, 2, 2),
                src_port: 0,
                dst_port: 4789,
                tcp_flags: 0,
                tos: 4,
            })
        );
    }

    #[test]
    fn pollers_have_their_seconds() {
        let mut agent = agent(3);
        let mut seen = Vec::new();
        for second in 101..=107 {
            agent.tick(second, &mut Fixed);
            for datagram in datagrams(&mut agent) {
                for sample in datagram.samples {
                    let Sample::Counters(sample) = sample else { panic!("{sample:?}") };
                    let formats: Vec<_> = sample.records.iter().map(CounterRecord::format).collect();
                    seen.push((second, sample.sequence, sample.source.class, sample.source.index, formats));
                }
            }
        }
        let total = |second, sequence| (second, sequence, 2, 1001, vec![2207]);
        let p1 = |second, sequence| (second, sequence, 0, 1001, vec![2, 1004, 1005, 1]);
        let p2 = |second, sequence| (second, sequence, 0, 1002, vec![2, 1004, 1005, 7, 1]);
        let want =
            [total(101, 1), p1(102, 1), p2(102, 1), total(104, 2), p1(105, 2), p2(105, 2), total(107, 3)];
        assert_eq!(seen, want);
    }

    #[test]
    fn datagrams_stay_below_their_size() {
        let mut agent = agent(0);
        let key = Key::default();
        let packet = [0; 1500];
        let sampled =
            Sampled { packet: &packet, key: &key, in_port: DpPort(1), vlan_tci: 0, output: 1, actions: None };
        agent.settings.header = 128;
        (0..20).for_each(|_| agent.sample(&sampled));
        agent.settings.header = 1000;
        agent.sample(&sampled);
        agent.tick(100, &mut Fixed);
        let bytes = agent.take_datagrams();
        assert!(bytes.iter().all(|datagram| datagram.len() < 1400));
        let counts: Vec<_> =
            bytes.iter().map(|bytes| Datagram::decode(bytes).unwrap().samples.len()).collect();
        assert_eq!((counts, agent.too_big()), (vec![6, 6, 6, 2], 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in any::<bool>()) {
            let mut bytes = bytes;
            if version {
                bytes.splice(0..0, [0, 0, 0, 5, 0, 0, 0, 1]);
            }
            let _ = Datagram::decode(&bytes);
        }
    }
}
