//! Samples to collectors, and what people look at.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::Test;
use crate::world::{World, ip};

pub const TESTS: &[Test] = &[
    Test::smoke("watching::sflow", sflow),
    Test::new("watching::dpctl", dpctl),
    Test::new("watching::statistics", statistics),
];

fn sflow(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.ping("a", &ip(2));
    let collector = UdpSocket::bind("127.0.0.1:0").expect("a free port on loopback");
    let port = collector.local_addr().expect("a bound socket has one").port();
    world.sh(&format!(
        "ovs-vsctl -- --id=@s create sflow agent=lo header=128 sampling=2 polling=1 targets='\"127.0.0.1:{port}\"' \
         -- set bridge br0 sflow=@s"
    ));
    collector.set_read_timeout(Some(Duration::from_millis(300))).expect("a valid timeout");
    world.at("a", &format!("ping -q -c 200 -i 0.01 -W 3 {}", ip(2)));
    let held = world.flows();
    let mut got = Samples::default();
    let mut buffer = [0; 4096];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        if let Ok(n) = collector.recv(&mut buffer) {
            got.read(&buffer[..n]).unwrap_or_else(|| panic!("a datagram ends early: {:x?}", &buffer[..n]));
        }
    }
    // 400 packets passed (200 each way); every second one, about, is sampled.
    assert!((120..=280).contains(&got.flows), "{got:?}");
    assert!(got.counters >= 4, "{got:?}");
    assert_eq!(got.rate, 2, "{got:?}");
    assert!(
        held.contains("sample(sample=50.0%,actions(userspace(pid=")
            && held.contains("sFlow(vid=0,pcp=0,output="),
        "{held}"
    );
}

/// What a collector counts: sFlow version 5, samples of format 1 (flow) and 2 (counters).
#[derive(Debug, Default)]
struct Samples {
    flows: u32,
    counters: u32,
    rate: u32,
}

impl Samples {
    fn read(&mut self, datagram: &[u8]) -> Option<()> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(datagram.get(at..at + 4)?.try_into().expect("four bytes")))
        };
        assert_eq!((word(0)?, word(4)?), (5, 1), "version 5, an agent with an IPv4 address");
        let mut at = 28;
        for _ in 0..word(24)? {
            let (format, length) = (word(at)?, word(at + 4)? as usize);
            match format {
                1 => {
                    self.flows += 1;
                    self.rate = word(at + 16)?;
                }
                2 => self.counters += 1,
                other => panic!("sample of format {other}"),
            }
            at += 8 + length;
        }
        assert_eq!(at, datagram.len(), "nothing follows the last sample");
        Some(())
    }
}

fn dpctl(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.ping("a", &ip(2));
    // Who asks, the switch or the stand-alone program, does not matter.
    let of_switch = world.sh("ovs-appctl dpctl/show system@ovs-system");
    let alone = world.sh("ovs-dpctl show");
    let ports = |text: &str| {
        text.lines()
            .filter(|line| line.contains("port "))
            .map(|line| line.trim().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ports(&of_switch), ports(&alone));
    assert_eq!(
        ports(&alone),
        ["port 0: ovs-system (internal)", "port 1: br0 (internal)", "port 2: p-a", "port 3: p-b"]
    );
    assert_eq!(world.sh("ovs-dpctl dump-dps"), "system@ovs-system\n");
    let steady = |text: String| {
        let mut flows: Vec<String> = text
            .lines()
            .map(|line| {
                let (key, rest) = line.split_once(", packets:").unwrap_or((line, ""));
                let actions = rest.split_once("actions:").map_or("", |(_, actions)| actions);
                format!("{key} actions:{actions}")
            })
            .collect();
        flows.sort();
        flows
    };
    world.until("both show the same flows", || {
        world.at("a", &format!("ping -q -c 2 -i 0.2 -W 3 {}", ip(2)));
        let both =
            (steady(world.sh("ovs-dpctl dump-flows")), steady(world.sh("ovs-appctl dpctl/dump-flows")));
        !both.0.is_empty() && both.0 == both.1
    });
    // Flows of one's own in a datapath of one's own.
    world.sh("ovs-dpctl add-dp mine; ip link add d0 type dummy; ip link add d1 type dummy; ovs-dpctl add-if mine d0 d1");
    world.sh("ovs-dpctl add-flow mine 'in_port(1),eth(),eth_type(0x0800),ipv4(src=1.2.3.4)' 2");
    let held = world.sh("ovs-dpctl dump-flows mine");
    assert!(held.contains("ipv4(src=1.2.3.4") && held.contains("actions:2"), "{held}");
    world.sh("ovs-dpctl del-flows mine");
    assert_eq!(world.sh("ovs-dpctl dump-flows mine"), "");
    world.sh("ovs-dpctl del-if mine d0; ovs-dpctl del-dp mine");
    assert_eq!(world.sh("ovs-dpctl dump-dps"), "system@ovs-system\n");
}

fn statistics(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.ping("a", &ip(2));
    world.at("a", &format!("ping -q -c 30 -i 0.02 -W 3 {}", ip(2)));
    world.until("the interface's row counts", || {
        let packets = world.sh("ovs-vsctl get interface p-a statistics:rx_packets");
        packets.trim().parse::<u64>().is_ok_and(|n| n >= 40)
    });
    let ports = world.sh("ovs-ofctl dump-ports br0 p-a");
    assert!(ports.contains("rx pkts=") && ports.contains("tx pkts="), "{ports}");
    assert_eq!(world.sh("ovs-vsctl get interface p-a admin_state link_state"), "up\nup\n");
    assert_eq!(world.sh("ovs-vsctl get interface p-a link_speed duplex mtu"), "10000000000\nfull\n1500\n");
    assert_eq!(
        world.sh("ovs-vsctl get interface p-a mac_in_use"),
        world.sh("printf '\"%s\"\\n' $(cat /sys/class/net/p-a/address)")
    );
    assert_eq!(world.sh("ovs-vsctl get interface p-a ifindex"), world.sh("cat /sys/class/net/p-a/ifindex"));
    assert!(world.sh("ovs-vsctl get interface p-a status").contains("driver_name=veth"));
    let before = world.sh("ovs-vsctl get interface p-a link_resets");
    world.sh("ip -n a link set eth0 down; sleep 1; ip -n a link set eth0 up");
    world.until("link_resets counts", || world.sh("ovs-vsctl get interface p-a link_resets") != before);
}
