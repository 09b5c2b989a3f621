//! Flows in hardware: the switch on the simulated NIC of `tests/simnic`, with rules that software does not run
//! (`tc-policy=skip_sw`), so that what arrives went through the NIC; but for tunnels, on whose devices the kernel refuses such rules.

use crate::Test;
use crate::simnic::{FILES, counter, hosts, pings, stream};
use crate::world::{World, ip, mac};

pub const TESTS: &[Test] = &[
    Test::offloading("hardware::forwards", forwards),
    Test::offloading("hardware::vlan", vlan),
    Test::offloading("hardware::rewrites", rewrites),
    Test::offloading("hardware::full", full),
];

/// A bridge with the representors of `vfs` VFs as ports 1, 2, …
fn bridge(world: &World, name: &str, vfs: u8, policy: &str) {
    hosts(world, name, vfs);
    world.sh(&format!(
        "ovs-vsctl set open_vswitch . other_config:tc-policy={policy} other_config:hw-offload=true"
    ));
    world.bridge("br0");
    for number in 1..=vfs {
        world.sh(&format!(
            "ovs-vsctl add-port br0 {name}_{index} -- set interface {name}_{index} ofport_request={number}",
            index = number - 1
        ));
    }
}

fn flows(world: &World, kind: &str) -> String {
    world.sh(&format!("ovs-appctl dpctl/dump-flows --names --why type={kind}"))
}

/// Pings until rules of the NIC carry them: three in a row that the NIC alone forwards.
fn settles(world: &World, name: &str, from: &str, to: &str) {
    world.until(&format!("{from} reaches {to} by hardware"), || {
        let before = counter(world, name, "forwarded");
        let ran = world.try_sh(&format!("ip netns exec {from} ping -q -c 3 -i 0.1 -W 1 {to}"));
        ran.status == Some(0) && counter(world, name, "forwarded") >= before + 6
    });
}

fn forwards(world: &World) {
    bridge(world, "hwa", 2, "skip_sw");
    settles(world, "hwa", "h1", &ip(2));
    let shown = flows(world, "offloaded");
    assert!(shown.contains("in_port(hwa_0)") && shown.contains("actions:hwa_1"), "{shown}");
    let before = counter(world, "hwa", "forwarded");
    pings(world, "h1", &ip(2));
    assert_eq!(counter(world, "hwa", "forwarded"), before + 20);
    stream(world, "h1", &ip(2), 5001, "h2", 5001);
    // Counts of hardware reach OpenFlow, packet for packet.
    world.sh("ovs-ofctl del-flows br0; ovs-ofctl add-flow br0 priority=1,actions=normal");
    world.sh(&format!("ovs-ofctl add-flow br0 'priority=9,icmp,nw_dst={},actions=normal'", ip(2)));
    world.settle();
    world.at("h1", &format!("ping -q -c 20 -i 0.02 -W 3 {}", ip(2)));
    world.counts("br0", &format!("icmp,nw_dst={}", ip(2)), 20);
    world.until("idle rules go", || counter(world, "hwa", "rules") == 0);
}

fn vlan(world: &World) {
    bridge(world, "hwb", 2, "skip_sw");
    world.sh(&format!(
        "ovs-vsctl set port hwb_0 tag=7
         ip -n h2 addr flush dev eth0; ip -n h2 link add link eth0 name eth0.7 type vlan id 7
         ip -n h2 link set eth0.7 up; ip -n h2 addr add {}/24 dev eth0.7
         ip -n h2 neigh add {} lladdr {} dev eth0.7 nud permanent",
        ip(2),
        ip(1),
        mac(1)
    ));
    settles(world, "hwb", "h1", &ip(2));
    stream(world, "h1", &ip(2), 5001, "h2", 5001);
    let shown = flows(world, "offloaded");
    assert!(shown.contains("push_vlan(vid=7,pcp=0)") && shown.contains("pop_vlan"), "{shown}");
}

fn rewrites(world: &World) {
    bridge(world, "hwc", 2, "skip_sw");
    world.sh(&format!(
        "ip -n h1 neigh add 10.1.0.99 lladdr {mac} dev eth0 nud permanent
         ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 'in_port=1,ip,nw_dst=10.1.0.99,actions=mod_nw_dst:{b},dec_ttl,output:2'
         ovs-ofctl add-flow br0 'in_port=2,ip,nw_src={b},actions=mod_nw_src:10.1.0.99,output:1'",
        mac = mac(2),
        b = ip(2)
    ));
    settles(world, "hwc", "h1", "10.1.0.99");
    let seen = world.watch("h2", "eth0", "icmp", || pings(world, "h1", "10.1.0.99"));
    assert!(seen.contains("ttl 63,"), "{seen}");
    stream(world, "h1", "10.1.0.99", 5001, "h2", 5001);
}

/// A NIC without room: what it refuses runs in software, and says why.
fn full(world: &World) {
    bridge(world, "hwe", 2, "skip_sw");
    world.sh(&format!("echo 0 > {FILES}/hwe/max_rules"));
    world.ping("h1", &ip(2));
    let shown = flows(world, "ovs");
    assert!(shown.contains("placement:software, why:") && shown.contains("the table is full"), "{shown}");
    assert_eq!(counter(world, "hwe", "rules"), 0);
    for line in flows(world, "all").lines().filter(|line| line.contains("actions:")) {
        assert!(line.contains(", placement:"), "{line}");
    }
}
