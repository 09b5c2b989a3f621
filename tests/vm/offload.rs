//! Flows as rules of traffic control, in the kernel's own software (`tc-policy=skip_hw`).

use crate::Test;
use crate::world::{World, ip};

pub const TESTS: &[Test] = &[
    Test::smoke("offload::forwards", forwards),
    Test::new("offload::changes", changes),
    Test::new("offload::tracks", tracks),
    Test::new("offload::says_why", says_why),
];

/// Two hosts at a switch that offloads.
fn two_hosts(world: &World) {
    world.sh("ovs-vsctl set open_vswitch . other_config:tc-policy=skip_hw other_config:hw-offload=true");
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
}

/// Rules of a device as `tc` shows them.
fn rules(world: &World, device: &str) -> String {
    world.sh(&format!("tc -s filter show dev {device} ingress"))
}

/// Flows of one kind, with their places.
fn flows(world: &World, kind: &str) -> String {
    world.sh(&format!("ovs-appctl dpctl/dump-flows --names --why type={kind}"))
}

fn forwards(world: &World) {
    two_hosts(world);
    world.ping("a", &ip(2));
    world.tcp("a", &ip(2), "b");
    let shown = flows(world, "tc");
    assert!(shown.contains("in_port(p-a)") && shown.contains("actions:p-b, placement:tc"), "{shown}");
    assert!(rules(world, "p-a").contains("action order 1: mirred (Egress Redirect to device p-b)"));
    // Rules count what went through, and flows of OpenFlow what rules counted.
    world.sh("ovs-ofctl del-flows br0; ovs-ofctl add-flow br0 priority=1,actions=normal");
    world.sh(&format!("ovs-ofctl add-flow br0 'priority=9,icmp,nw_dst={},actions=normal'", ip(2)));
    world.settle();
    world.at("a", &format!("ping -q -c 20 -i 0.02 -W 3 {}", ip(2)));
    world.counts("br0", &format!("icmp,nw_dst={}", ip(2)), 20);
    // Nobody uses them any more.
    world.until("idle rules go", || !flows(world, "tc").contains("icmp"));
    world.sh("ovs-vsctl del-port br0 p-a");
    assert_eq!(world.sh("tc qdisc show dev p-a ingress"), "");
    let shown = world.sh("ovs-appctl dpif/offload/show");
    assert!(shown.starts_with("Globally enabled: true\nDatapaths:\nsystem@ovs-system:\n  tc\n"), "{shown}");
    assert!(shown.contains("  - p-b: port_no: ") && !shown.contains("p-a"), "{shown}");
    world.check_end();
}

fn changes(world: &World) {
    two_hosts(world);
    world.sh(&format!(
        "ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 'in_port=1,ip,nw_dst=10.1.0.99,actions=mod_nw_dst:{b},dec_ttl,output:2'
         ovs-ofctl add-flow br0 'in_port=2,ip,nw_src={b},actions=mod_nw_src:10.1.0.99,output:1'
         ip -n a neigh add 10.1.0.99 lladdr 0e:00:00:00:00:02 dev eth0
         ip -n b neigh add {a} lladdr 0e:00:00:00:00:01 dev eth0",
        a = ip(1),
        b = ip(2)
    ));
    world.ping("a", "10.1.0.99");
    world.tcp("a", "10.1.0.99", "b");
    let shown = rules(world, "p-a");
    assert!(shown.contains("pedit action pipe") && shown.contains("csum (iph, tcp)"), "{shown}");
    let shown = flows(world, "tc");
    assert!(shown.contains(&format!("set(ipv4(dst={}", ip(2))), "{shown}");
    world.check_end();
}

fn tracks(world: &World) {
    two_hosts(world);
    world.sh("ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 arp,actions=normal
         ovs-ofctl add-flow br0 'ip,ct_state=-trk,actions=ct(table=0,zone=7)'
         ovs-ofctl add-flow br0 'ip,in_port=1,ct_state=+trk+new,actions=ct(commit,zone=7),output:2'
         ovs-ofctl add-flow br0 'ip,in_port=1,ct_state=+trk+est,actions=output:2'
         ovs-ofctl add-flow br0 'ip,in_port=2,ct_state=+trk+est,actions=output:1'");
    world.ping("a", &ip(2));
    world.tcp("a", &ip(2), "b");
    // A kernel that does not share recirculation ids has no chains: then flows say so.
    let (rules_shown, shown) = (flows(world, "tc"), flows(world, "ovs"));
    let refused = "why:no action recirc with a kernel that does not share recirculation ids";
    if shown.contains(refused) {
        assert!(!rules_shown.contains("recirc("), "{rules_shown}");
    } else {
        assert!(rules_shown.contains("ct(zone=7),recirc("), "{rules_shown}");
        assert!(rules(world, "p-a").contains("ct_state +trk+est"), "{}", rules(world, "p-a"));
    }
    world.check_end();
}

fn says_why(world: &World) {
    two_hosts(world);
    world.sh("ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 'in_port=1,actions=set_field:5->pkt_mark,resubmit(,1)'
         ovs-ofctl add-flow br0 'table=1,actions=output(port=2,max_len=1400)'
         ovs-ofctl add-flow br0 'in_port=2,actions=output:1'");
    world.ping("a", &ip(2));
    let shown = flows(world, "ovs");
    assert!(shown.contains("placement:software, why:no action trunc"), "{shown}");
    for line in flows(world, "all").lines().filter(|line| line.contains("actions:")) {
        let placed = line.contains(", placement:tc") || line.contains(", placement:software, why:");
        assert!(placed, "{line}");
    }
    let shown = world.sh("ovs-appctl offload/reasons");
    assert!(shown.starts_with("rules: ") && shown.contains(" no action trunc\n"), "{shown}");
    world.check_end();
}
