//! QoS and policing: what tc holds, and what it does to traffic.

use crate::Test;
use crate::world::{World, ip};

pub const TESTS: &[Test] = &[
    Test::smoke("shaping::htb_queues", htb_queues),
    Test::new("shaping::hfsc_queues", hfsc_queues),
    Test::new("shaping::classless", classless),
    Test::smoke("shaping::policing", policing),
    Test::new("shaping::policing_packets", policing_packets),
];

fn two_hosts(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.ping("a", &ip(2));
}

/// Kilobits a second that UDP from a reaches b with, out of `offered`, by the receiver's count.
fn udp_rate(world: &World, offered: &str, more: &str) -> u64 {
    let _server = world.spawn("ip netns exec b iperf3 -s -1 -J", "iperf.txt");
    world.until("iperf3 listens", || world.at("b", "ss -tln").contains(":5201 "));
    let text = world.at("a", &format!("iperf3 -c {} -u -b {offered} -l 1000 -t 4 -J {more}", ip(2)));
    let json: serde_json::Value = serde_json::from_str(&text).expect("iperf3 -J prints JSON");
    let sum = &json["end"]["sum"];
    let bits = sum["bits_per_second"].as_f64().expect("iperf3 tells the rate");
    let lost = sum["lost_percent"].as_f64().expect("iperf3 tells the loss");
    let received = bits * (100.0 - lost) / 100.0;
    (received / 1000.0) as u64
}

fn htb_queues(world: &World) {
    two_hosts(world);
    world.sh(
        "ovs-vsctl set port p-b qos=@q -- --id=@q create qos type=linux-htb other-config:max-rate=20000000 queues:0=@q0 queues:1=@q1 \
         -- --id=@q0 create queue other-config:max-rate=20000000 other-config:min-rate=1000000 \
         -- --id=@q1 create queue other-config:max-rate=2000000 other-config:min-rate=1000000 other-config:priority=3 \
         other-config:burst=20000",
    );
    world.until("tc holds the classes", || {
        let classes = world.sh("tc class show dev p-b");
        classes.contains("class htb 1:fffe root")
            && classes.contains("class htb 1:1 parent 1:fffe")
            && classes.contains("class htb 1:2 parent 1:fffe")
            && classes.contains("prio 3")
    });
    let classes = world.sh("tc class show dev p-b");
    assert!(classes.contains("ceil 20Mbit") && classes.contains("ceil 2Mbit"), "{classes}");
    world.sh(&format!(
        "ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 priority=1,actions=normal
         ovs-ofctl add-flow br0 'priority=9,udp,in_port=1,nw_dst={},actions=set_queue:1,normal'",
        ip(2)
    ));
    let rate = udp_rate(world, "6M", "");
    assert!((800..2600).contains(&rate), "{rate} kbit/s through a queue of 2000");
    let shown = world.sh("ovs-appctl qos/show p-b");
    assert!(shown.contains("QoS: p-b linux-htb") && shown.contains("max-rate: 20000000"), "{shown}");
    assert!(shown.contains("Queue 1:") && shown.contains("tx_packets"), "{shown}");
    let stats = world.sh("ovs-ofctl queue-stats br0 2 1");
    assert!(!stats.contains("bytes=0,"), "{stats}");
    // By enqueue as well, then away with it.
    world.sh(&format!("ovs-ofctl mod-flows br0 'udp,in_port=1,nw_dst={},actions=enqueue:2:1'", ip(2)));
    let rate = udp_rate(world, "6M", "");
    assert!((800..2600).contains(&rate), "{rate} kbit/s through a queue of 2000");
    world.sh("ovs-vsctl clear port p-b qos -- --all destroy qos -- --all destroy queue");
    world.until("tc is empty again", || !world.sh("tc qdisc show dev p-b").contains("htb"));
}

fn hfsc_queues(world: &World) {
    two_hosts(world);
    world.sh(
        "ovs-vsctl set port p-b qos=@q -- --id=@q create qos type=linux-hfsc other-config:max-rate=20000000 queues:1=@q1 \
         -- --id=@q1 create queue other-config:max-rate=2000000 other-config:min-rate=1000000",
    );
    world.until("tc holds the classes", || {
        world.sh("tc class show dev p-b").contains("class hfsc 1:2 parent 1:fffe")
    });
    world.sh("ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 priority=1,actions=normal
         ovs-ofctl add-flow br0 priority=9,udp,in_port=1,actions=set_queue:1,normal");
    let rate = udp_rate(world, "6M", "");
    assert!((800..2600).contains(&rate), "{rate} kbit/s through a queue of 2000");
    let shown = world.sh("ovs-appctl qos/show p-b");
    assert!(shown.contains("QoS: p-b linux-hfsc"), "{shown}");
}

fn classless(world: &World) {
    two_hosts(world);
    for (kind, config, told) in [
        ("linux-sfq", "other-config:perturb=7", "sfq 1: root refcnt"),
        ("linux-codel", "other-config:limit=2048 other-config:target=6000", "codel 1: root refcnt"),
        ("linux-fq_codel", "other-config:limit=2048 other-config:flows=512", "fq_codel 1: root refcnt"),
    ] {
        world.sh(&format!("ovs-vsctl set port p-b qos=@q -- --id=@q create qos type={kind} {config}"));
        world.until(&format!("tc holds {told}"), || world.sh("tc qdisc show dev p-b").contains(told));
        world.ping("a", &ip(2));
        world.sh("ovs-vsctl clear port p-b qos -- --all destroy qos");
        world.until("tc is empty again", || !world.sh("tc qdisc show dev p-b").contains(told));
    }
    // linux-noop leaves alone what somebody else set.
    world.sh("tc qdisc replace dev p-b root handle 9: pfifo limit 77");
    world.sh("ovs-vsctl set port p-b qos=@q -- --id=@q create qos type=linux-noop");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let held = world.sh("tc qdisc show dev p-b");
    assert!(held.contains("pfifo 9: root") && held.contains("limit 77p"), "{held}");
    // A type that is none is told, and nothing else suffers.
    world.sh("ovs-vsctl clear port p-b qos -- --all destroy qos; tc qdisc del dev p-b root");
    world.ping("a", &ip(2));
}

fn policing(world: &World) {
    two_hosts(world);
    world.sh("ovs-vsctl set interface p-a ingress_policing_rate=2000 ingress_policing_burst=200");
    world.until("tc polices", || {
        let filters = world.sh("tc -s filter show dev p-a ingress; tc -s filter show dev p-a parent ffff:");
        filters.contains("rate 2Mbit")
    });
    let rate = udp_rate(world, "8M", "");
    assert!((600..3000).contains(&rate), "{rate} kbit/s through a policer of 2000");
    world.sh("ovs-vsctl set interface p-a ingress_policing_rate=0");
    world.until("tc is empty again", || !world.sh("tc qdisc show dev p-a").contains("ingress"));
    world.ping("a", &ip(2));
}

fn policing_packets(world: &World) {
    two_hosts(world);
    world.sh("ovs-vsctl set interface p-a ingress_policing_kpkts_rate=1 ingress_policing_kpkts_burst=1");
    world.until("tc polices", || {
        let filters = world.sh("tc -s filter show dev p-a ingress; tc -s filter show dev p-a parent ffff:");
        filters.contains("police")
    });
    world.ping("a", &ip(2));
    // Datagrams of 1000 bytes: a thousand of them are 8000 kilobits.
    let rate = udp_rate(world, "30M", "");
    assert!((2500..10_000).contains(&rate), "{rate} kbit/s through a policer of 1000 packets a second");
    world.sh("ovs-vsctl set interface p-a ingress_policing_kpkts_rate=0");
    world.until("tc is empty again", || !world.sh("tc qdisc show dev p-a").contains("ingress"));
}
