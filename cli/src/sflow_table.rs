//! sFlow samples as lines of a small table.

use flow::extract::{Metadata, extract};
use flow::key::Key;
use flow::proto::{ethertype, ip};
use flow::text;
use sflow::record::{CounterRecord, FlowRecord, SampledHeader};
use sflow::sample::{CountersSample, Datagram, FlowSample, Sample, Source};
use std::net::Ipv4Addr;

/// The table's head.
pub const HEAD: &str = "AGENT            SEQ  SAMPLE    SOURCE         SEQ    POOL  IN -> OUT     WHAT";

/// One line a sample.
pub fn lines(datagram: &Datagram) -> Vec<String> {
    let agent = format!("{}/{}", datagram.agent, datagram.sub_agent);
    let line = |kind: &str, source: String, rest: String| {
        format!("{agent:<15} {:>4}  {kind:<8}  {source:<12} {rest}", datagram.sequence)
    };
    datagram
        .samples
        .iter()
        .map(|sample| match sample {
            Sample::Flow(sample) => line("flow", source(sample.source), flow_text(sample)),
            Sample::Counters(sample) => line("counters", source(sample.source), counters_text(sample)),
            Sample::Unknown(format, bytes) => {
                line("unknown", String::new(), format!("format {format}, {} bytes", bytes.len()))
            }
        })
        .collect()
}

fn source(source: Source) -> String {
    match source.class {
        0 => format!("if {}", source.index),
        1 => format!("vlan {}", source.index),
        2 => format!("entity {}", source.index),
        class => format!("{class}:{}", source.index),
    }
}

fn output(output: u32) -> String {
    match (output >> 30, output & 0x3fff_ffff) {
        (0, 0) => "?".to_owned(),
        (0, ifindex) => ifindex.to_string(),
        (1, reason) => format!("drop({reason})"),
        (_, 0) => "many".to_owned(),
        (_, count) => format!("{count} ports"),
    }
}

fn flow_text(sample: &FlowSample) -> String {
    let input = if sample.input == 0 { "?".to_owned() } else { sample.input.to_string() };
    let ports = format!("{input} -> {}", output(sample.output));
    let what: Vec<_> = sample.records.iter().filter_map(record_text).collect();
    format!("{:>5} {:>7}  {ports:<12}  {}", sample.sequence, sample.pool, what.join(", "))
}

fn record_text(record: &FlowRecord) -> Option<String> {
    Some(match record {
        FlowRecord::Header(header) => format!("{} {} bytes", packet(header), header.frame_length),
        FlowRecord::ExtendedSwitch(vlan) if vlan.src_vlan == 0 && vlan.dst_vlan == 0 => return None,
        FlowRecord::ExtendedSwitch(vlan) => format!("vlan {} -> {}", vlan.src_vlan, vlan.dst_vlan),
        FlowRecord::ExtendedMpls(mpls) => format!("mpls {:x?} -> {:x?}", mpls.in_stack, mpls.out_stack),
        FlowRecord::Ipv4TunnelEgress(tunnel) => format!("out by {} > {}", tunnel.src_ip, tunnel.dst_ip),
        FlowRecord::Ipv4TunnelIngress(tunnel) => format!("in by {} > {}", tunnel.src_ip, tunnel.dst_ip),
        FlowRecord::VniEgress(vni) => format!("out vni {}", vni.vni),
        FlowRecord::VniIngress(vni) => format!("in vni {}", vni.vni),
        FlowRecord::Unknown(format, _) => format!("record {format}"),
    })
}

/// The longest frame that a sample can tell of: a segment that a network card is yet to cut.
const MAX_FRAME: usize = 1 << 16;

/// What a frame is, in a few words. A sample has its first bytes only; the rest counts as zeros, for a packet shorter
/// than its IP header says would have no addresses.
fn packet(header: &SampledHeader) -> String {
    let mut frame = header.header.clone();
    let len = usize::try_from(header.frame_length).unwrap_or(MAX_FRAME).min(MAX_FRAME);
    frame.resize(len.max(frame.len()), 0);
    let mut key = Key::default();
    extract(&frame, &Metadata::default(), &mut key);
    let (src, dst, ports) = match key.dl_type.get() {
        ethertype::IPV4 | ethertype::ARP => {
            let ip = |word: zerocopy::big_endian::U32| Ipv4Addr::from(word.get()).to_string();
            (ip(key.nw_src), ip(key.nw_dst), key.dl_type.get() == ethertype::IPV4)
        }
        ethertype::IPV6 => (text::ipv6(&key.ipv6_src), text::ipv6(&key.ipv6_dst), true),
        dl_type => {
            return format!("{} > {} type 0x{dl_type:04x}", text::eth(&key.dl_src), text::eth(&key.dl_dst));
        }
    };
    if !ports {
        return format!("{src} > {dst} arp");
    }
    let proto = match key.nw_proto {
        ip::TCP => "tcp",
        ip::UDP => "udp",
        ip::SCTP => "sctp",
        ip::ICMP => return format!("{src} > {dst} icmp"),
        ip::ICMPV6 => return format!("{src} > {dst} icmp6"),
        proto => return format!("{src} > {dst} proto {proto}"),
    };
    format!("{src}:{} > {dst}:{} {proto}", key.tp_src, key.tp_dst)
}

fn counters_text(sample: &CountersSample) -> String {
    let what: Vec<_> = sample.records.iter().filter_map(counter_text).collect();
    format!("{:>5}                        {}", sample.sequence, what.join(", "))
}

fn counter_text(record: &CounterRecord) -> Option<String> {
    Some(match record {
        CounterRecord::Interface(counters) => format!(
            "in {} packets {} bytes, out {} packets {} bytes",
            counters.in_unicast, counters.in_octets, counters.out_unicast, counters.out_octets
        ),
        CounterRecord::PortName(port) => port.name.clone(),
        CounterRecord::OpenflowPort(port) => format!("port {}", port.port),
        CounterRecord::OvsDatapath(datapath) => {
            format!("hits {} misses {} flows {}", datapath.hits, datapath.misses, datapath.flows)
        }
        CounterRecord::AppResources(resources) => {
            format!("cpu {} ms, memory {} KiB", resources.user_time, resources.memory_used >> 10)
        }
        CounterRecord::Lacp(_) => "lacp".to_owned(),
        CounterRecord::Ethernet(_) => return None,
        CounterRecord::Unknown(format, _) => format!("record {format}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sflow::record::{ExtendedSwitch, PortName};

    #[test]
    fn a_frame_is_told_by_its_first_bytes() {
        let header = [
            0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0x1c, 0x7c, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0,
            0, 1, 10, 0, 0, 2, 0x14, 0x51, 0x90, 0x88, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 0,
        ];
        let header = SampledHeader { protocol: 1, frame_length: 7310, stripped: 4, header: header.to_vec() };
        assert_eq!(packet(&header), "10.0.0.1:5201 > 10.0.0.2:37000 tcp");
    }

    #[test]
    fn a_line_a_sample() {
        let frame = [
            0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1,
            10, 0, 0, 2, 0, 7, 0, 9, 0, 8, 0, 0,
        ];
        let datagram = Datagram {
            agent: Ipv4Addr::LOCALHOST.into(),
            sub_agent: 0,
            sequence: 7,
            uptime: 1000,
            samples: vec![
                Sample::Flow(FlowSample {
                    sequence: 3,
                    source: Source::entity(1000),
                    rate: 10,
                    pool: 30,
                    drops: 0,
                    input: 4,
                    output: 0x8000_0002,
                    records: vec![
                        FlowRecord::ExtendedSwitch(ExtendedSwitch {
                            src_vlan: 5,
                            src_priority: 0,
                            dst_vlan: 6,
                            dst_priority: 0,
                        }),
                        FlowRecord::Header(SampledHeader {
                            protocol: 1,
                            frame_length: 64,
                            stripped: 4,
                            header: frame.to_vec(),
                        }),
                    ],
                }),
                Sample::Counters(CountersSample {
                    sequence: 1,
                    source: Source::interface(4),
                    records: vec![CounterRecord::PortName(PortName { name: "p4".to_owned() })],
                }),
            ],
        };
        assert_eq!(
            lines(&datagram),
            [
                "127.0.0.1/0        7  flow      entity 1000      3      30  4 -> 2 ports  \
                 vlan 5 -> 6, 10.0.0.1:7 > 10.0.0.2:9 udp 64 bytes",
                "127.0.0.1/0        7  counters  if 4             1                        p4",
            ]
        );
    }
}
