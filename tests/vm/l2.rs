//! Bridges: patch ports, VLAN modes, internal ports, mirrors, IPv6, what is learned.

use crate::Test;
use crate::world::{World, ip, ip6, mac};

pub const TESTS: &[Test] = &[
    Test::smoke("l2::two_bridges_and_a_patch", two_bridges_and_a_patch),
    Test::new("l2::streams_and_jumbo_frames", streams_and_jumbo_frames),
    Test::smoke("l2::vlan_access_and_trunk", vlan_access_and_trunk),
    Test::new("l2::vlan_native_modes", vlan_native_modes),
    Test::new("l2::vlan_tunnel", vlan_tunnel),
    Test::new("l2::internal_port", internal_port),
    Test::new("l2::ipv6", ipv6),
    Test::new("l2::mirror_to_a_port", mirror_to_a_port),
    Test::new("l2::mirror_to_a_vlan", mirror_to_a_vlan),
    Test::new("l2::ports_come_and_go", ports_come_and_go),
    Test::new("l2::missing_device", missing_device),
];

fn two_bridges_and_a_patch(world: &World) {
    world.bridge("br0");
    world.bridge("br1");
    world.sh("ovs-vsctl add-port br0 patch0 -- set interface patch0 type=patch options:peer=patch1 \
         -- add-port br1 patch1 -- set interface patch1 type=patch options:peer=patch0");
    world.host("a", "br0", 1);
    world.host("b", "br1", 2);
    world.ping("a", &ip(2));
    world.ping("b", &ip6(1));
    // The kernel forwards: what it holds leads from one host's port to the other's and nowhere else.
    let flows = world.sh("ovs-dpctl dump-flows --names");
    assert!(
        flows.lines().any(|flow| flow.contains("in_port(p-a)") && flow.ends_with("actions:p-b")),
        "{flows}"
    );
    let shown = world.sh("ovs-appctl dpctl/show");
    assert!(shown.starts_with("system@ovs-system:\n"), "{shown}");
    assert!(!shown.contains("patch"), "{shown}");
    let fdb = world.sh("ovs-appctl fdb/show br1");
    assert!(fdb.contains(&mac(1)) && fdb.contains(&mac(2)), "{fdb}");
    // Flows of OpenFlow count what the kernel forwarded, in both bridges.
    for bridge in ["br0", "br1"] {
        world.sh(&format!("ovs-ofctl add-flow {bridge} 'priority=9,icmp,nw_dst={},actions=normal'", ip(2)));
    }
    world.at("a", &format!("ping -q -c 20 -i 0.05 -W 3 {}", ip(2)));
    world.counts("br0", "icmp", 20);
    world.counts("br1", "icmp", 20);
}

fn streams_and_jumbo_frames(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    for name in ["a", "b"] {
        world.sh(&format!("ip link set p-{name} mtu 9000; ip -n {name} link set eth0 mtu 9000"));
    }
    world.until("the internal port follows", || world.sh("cat /sys/class/net/br0/mtu") == "9000\n");
    world.ping("a", &ip(2));
    world.at("a", &format!("ping -q -M do -s 8900 -c 5 -i 0.1 -W 3 {}", ip(2)));
    world.tcp("a", &ip(2), "b");
    world.tcp("b", &ip6(1), "a");
}

fn vlan_access_and_trunk(world: &World) {
    world.bridge("br0");
    world.host_with("a", "br0", 1, "tag=10");
    world.host_with("b", "br0", 2, "tag=10");
    world.host_with("c", "br0", 3, "tag=20");
    world.host_with("t", "br0", 4, "trunks=10,20");
    world.sh("ip -n t addr flush dev eth0
         ip -n t link add link eth0 name v10 type vlan id 10
         ip -n t link add link eth0 name v20 type vlan id 20
         ip -n t link set v10 up; ip -n t link set v20 up
         ip -n t addr add 10.1.0.4/24 dev v10; ip -n t addr add 10.2.0.4/24 dev v20
         ip -n c addr add 10.2.0.3/24 dev eth0");
    world.ping("a", &ip(2));
    world.no_ping("a", &ip(3));
    world.ping("a", &ip(4));
    world.ping("c", "10.2.0.4");
    let seen = world.watch("t", "eth0", "icmp", || {
        world.at("a", "ping -q -c 1 -W 3 10.1.0.4");
        world.at("c", "ping -q -c 1 -W 3 10.2.0.4");
    });
    assert!(seen.contains("vlan 10, ") && seen.contains("vlan 20, "), "{seen}");
    // A VLAN that the trunk does not carry.
    world.sh("ovs-vsctl set port p-t trunks=20");
    world.no_ping("a", &ip(4));
    world.ping("c", "10.2.0.4");
}

fn vlan_native_modes(world: &World) {
    world.bridge("br0");
    world.host_with("a", "br0", 1, "tag=10");
    world.host_with("u", "br0", 2, "tag=10 vlan_mode=native-untagged");
    world.host_with("t", "br0", 3, "tag=10 vlan_mode=native-tagged");
    world.host_with("c", "br0", 5, "tag=20");
    world.sh("ip -n t addr flush dev eth0
         ip -n t link add link eth0 name v10 type vlan id 10
         ip -n t link set v10 up; ip -n t addr add 10.1.0.3/24 dev v10
         ip -n u link add link eth0 name v20 type vlan id 20
         ip -n u link set v20 up; ip -n u addr add 10.2.0.2/24 dev v20
         ip -n c addr add 10.2.0.5/24 dev eth0");
    world.ping("a", &ip(2));
    world.ping("a", &ip(3));
    world.ping("u", &ip(3));
    // A native port is a trunk as well.
    world.ping("u", "10.2.0.5");
    let seen = world.watch("u", "eth0", "icmp", || {
        world.at("a", "ping -q -c 1 -W 3 10.1.0.2");
    });
    assert!(!seen.contains("vlan 10"), "{seen}");
    let seen = world.watch("t", "eth0", "icmp", || {
        world.at("a", "ping -q -c 1 -W 3 10.1.0.3");
    });
    assert!(seen.contains("vlan 10, "), "{seen}");
}

fn vlan_tunnel(world: &World) {
    world.sh("ovs-vsctl set Open_vSwitch . other_config:vlan-limit=2");
    world.bridge("br0");
    world.host_with("a", "br0", 1, "tag=100 vlan_mode=dot1q-tunnel");
    world.host_with("b", "br0", 2, "tag=100 vlan_mode=dot1q-tunnel");
    world.host_with("t", "br0", 3, "trunks=100");
    for (name, number) in [("a", 1), ("b", 2)] {
        world.sh(&format!(
            "ip -n {name} link add link eth0 name v7 type vlan id 7; ip -n {name} link set v7 up
             ip -n {name} addr add 10.7.0.{number}/24 dev v7"
        ));
    }
    world.ping("a", &ip(2));
    world.ping("a", "10.7.0.2");
    // Broadcast goes out of the trunk as well, with the outer tag over the customer's.
    let seen = world.watch("t", "eth0", "ether broadcast", || {
        world.try_sh("ip netns exec a ping -q -c 2 -W 1 10.7.0.99");
    });
    assert!(seen.contains("802.1Q-QinQ") && seen.contains("vlan 100") && seen.contains("vlan 7"), "{seen}");
}

fn internal_port(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.sh(
        "ip addr add 10.1.0.100/24 dev br0
         ovs-vsctl add-port br0 int0 -- set interface int0 type=internal
         ip netns add h; ip link set int0 netns h; ip -n h link set int0 up; ip -n h addr add 10.1.0.101/24 dev int0",
    );
    world.ping("a", "10.1.0.100");
    world.ping("a", "10.1.0.101");
    world.sh("ovs-vsctl set interface br0 mtu_request=1400 -- set bridge br0 other-config:hwaddr=0e:00:00:00:00:65");
    assert_eq!(world.sh("cat /sys/class/net/br0/address"), "0e:00:00:00:00:65\n");
    world.until("the MTU is set", || world.sh("cat /sys/class/net/br0/mtu") == "1400\n");
    world.until("the MTU is told", || world.sh("ovs-vsctl get interface br0 mtu") == "1400\n");
    world.sh("ovs-vsctl del-port br0 int0");
    world.until("the device is gone", || world.try_sh("ip netns exec h ip link show int0").status != Some(0));
}

fn ipv6(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.host("c", "br0", 3);
    world.checksums("a");
    // Neighbour discovery by fields, addresses by prefix, and a rewritten one.
    world.sh(r#"ovs-ofctl del-flows br0
        ovs-ofctl add-flows br0 - << 'END'
priority=100,icmp6,icmp_type=135,nd_target=fd01::3,actions=drop
priority=90,icmp6,icmp_type=135,actions=normal
priority=90,icmp6,icmp_type=136,actions=normal
priority=50,icmp6,ipv6_dst=fd01::2/127,ipv6_src=fd01::1,actions=set_field:32->nw_ttl,normal
priority=50,icmp6,ipv6_src=fd01::2,actions=normal
priority=50,tcp6,tp_dst=5001,actions=set_field:5002->tcp_dst,normal
END"#);
    world.ping("a", &ip6(2));
    world.no_ping("a", &ip6(3));
    let seen = world.watch("b", "eth0", "icmp6", || {
        world.at("a", &format!("ping -q -c 1 -W 3 {}", ip6(2)));
    });
    assert!(seen.contains("hlim 32"), "{seen}");
    let seen = world.watch("b", "eth0", "tcp", || {
        world.try_sh(&format!("ip netns exec a nc -w 1 {} 5001 < /dev/null", ip6(2)));
    });
    assert!(seen.contains("fd01::2.5002: Flags [S], cksum") && seen.contains("(correct)"), "{seen}");
}

fn mirror_to_a_port(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.host("c", "br0", 3);
    world.ping("a", &ip(2));
    world.sh(
        "ovs-vsctl -- --id=@p get port p-c -- --id=@a get port p-a \
         -- --id=@m create mirror name=m select_src_port=@a select_dst_port=@a output_port=@p -- set bridge br0 mirrors=@m",
    );
    world.settle();
    let traffic = || {
        world.at("a", &format!("ping -q -c 5 -i 0.1 -W 3 {}", ip(2)));
    };
    let seen = world.watch("c", "eth0", "icmp", traffic);
    assert_eq!(seen.matches("ICMP echo request").count(), 5, "{seen}");
    assert_eq!(seen.matches("ICMP echo reply").count(), 5, "{seen}");
    world.until("the mirror counts", || {
        let counted = world.sh("ovs-vsctl get mirror m statistics:tx_packets");
        counted.trim().parse::<u64>().is_ok_and(|n| n >= 10)
    });
    // What is not selected is not mirrored, and the mirror's port gets nothing else.
    world.sh("ovs-vsctl -- --id=@b get port p-b -- set mirror m select_dst_port=@b select_src_port='[]' snaplen=60");
    world.settle();
    let seen = world.watch("c", "eth0", "icmp", traffic);
    assert_eq!(seen.matches("ICMP echo request").count(), 5, "{seen}");
    assert_eq!(seen.matches("ICMP echo reply").count(), 0, "{seen}");
    world.sh("ovs-vsctl clear bridge br0 mirrors");
    world.ping("a", &ip(3));
}

fn mirror_to_a_vlan(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.host_with("t", "br0", 4, "trunks=99");
    world.ping("a", &ip(2));
    world.sh("ovs-vsctl -- --id=@m create mirror name=m select_all=true output_vlan=99 -- set bridge br0 mirrors=@m");
    world.settle();
    let seen = world.watch("t", "eth0", "icmp or vlan", || {
        world.at("a", &format!("ping -q -c 5 -i 0.1 -W 3 {}", ip(2)));
    });
    assert_eq!(seen.matches("ICMP echo request").count(), 5, "{seen}");
    assert!(seen.contains("vlan 99"), "{seen}");
}

fn ports_come_and_go(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.ping("a", &ip(2));
    world.sh("ovs-vsctl del-port br0 p-b");
    world.no_ping("a", &ip(2));
    world.sh("ovs-vsctl add-port br0 p-b -- set interface p-b ofport_request=7");
    assert_eq!(world.sh("ovs-vsctl get interface p-b ofport"), "7\n");
    world.ping("a", &ip(2));
    // The device itself vanishes and comes back.
    world.sh("ip netns del b");
    let error = "\"could not open network device p-b (No such device)\"\n";
    world.until("the loss is told", || world.sh("ovs-vsctl get interface p-b error") == error);
    assert_eq!(world.sh("ovs-vsctl get interface p-b ofport"), "-1\n");
    world.namespace("b", 2);
    world.ping("a", &ip(2));
    assert_eq!(world.sh("ovs-vsctl get interface p-b error ofport"), "[]\n7\n");
    // Taken out by hand, the device is put back.
    world.sh("ovs-dpctl del-if ovs-system p-b");
    world.until("the port is back", || world.sh("ovs-dpctl show").contains(": p-b\n"));
    world.ping("a", &ip(2));
    // Carrier and administrative state.
    world.sh("ip -n b link set eth0 down");
    world.until("the link is down", || world.sh("ovs-vsctl get interface p-b link_state") == "down\n");
    world.sh("ip -n b link set eth0 up");
    world.until("the link is up", || world.sh("ovs-vsctl get interface p-b link_state") == "up\n");
}

fn missing_device(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    let ran = world.try_sh("ovs-vsctl add-port br0 nosuchdev");
    assert_eq!(ran.status, Some(if world.older { 0 } else { 65 }), "{}", ran.text());
    let error = "\"could not open network device nosuchdev (No such device)\"\n";
    assert_eq!(world.sh("ovs-vsctl get interface nosuchdev error"), error);
    world.ping("a", &ip(2));
}
