//! What OpenFlow asks of the kernel: fields, meters, fragments, groups, samples to a controller, large packets.

use crate::Test;
use crate::world::{World, ip, ip6, mac};

pub const TESTS: &[Test] = &[
    Test::new("actions::fields", fields),
    Test::new("actions::vlan_and_mpls_tags", vlan_and_mpls_tags),
    Test::smoke("actions::meter", meter),
    Test::new("actions::fragments", fragments),
    Test::new("actions::fragments_by_rule", fragments_by_rule),
    Test::new("actions::groups", groups),
    Test::new("actions::controller", controller),
    Test::new("actions::packet_larger", packet_larger),
    Test::new("actions::truncation", truncation),
    Test::new("actions::learn", learn),
];

/// `br0` with hosts a, b and c, and no flow.
fn three_hosts(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.host("c", "br0", 3);
    world.sh("ovs-ofctl del-flows br0");
}

fn flows(world: &World, text: &str) {
    world.sh(&format!("ovs-ofctl -O OpenFlow15 add-flows br0 - << 'END'\n{text}\nEND"));
}

fn fields(world: &World) {
    three_hosts(world);
    // Host b answers for an address that nobody has: destination there, source back.
    flows(
        world,
        &format!(
            "priority=10,arp,actions=normal
             priority=20,ip,in_port=1,nw_dst=10.1.0.50,actions=set_field:{b}->eth_dst,set_field:10.1.0.2->ip_dst,dec_ttl,mod_nw_tos:32,output:2
             priority=20,ip,in_port=2,nw_dst=10.1.0.1,actions=set_field:10.1.0.50->ip_src,move:eth_src[]->eth_src[],output:1
             priority=30,tcp,in_port=1,nw_dst=10.1.0.50,tp_dst=6000,actions=set_field:{b}->eth_dst,set_field:10.1.0.2->ip_dst,set_field:5001->tcp_dst,output:2
             priority=30,tcp,in_port=2,tp_src=5001,actions=set_field:10.1.0.50->ip_src,set_field:6000->tcp_src,output:1",
            b = mac(2)
        ),
    );
    world.sh(&format!("ip -n a neigh add 10.1.0.50 lladdr {} dev eth0", "0e:00:00:00:00:50"));
    world.sh(&format!("ip -n b neigh add 10.1.0.1 lladdr {} dev eth0", mac(1)));
    world.ping("a", "10.1.0.50");
    let seen = world.watch("b", "eth0", "icmp", || {
        world.at("a", "ping -q -c 1 -W 3 10.1.0.50");
    });
    assert!(seen.contains("tos 0x20, ttl 63"), "{seen}");
    let mut server = world.spawn("ip netns exec b nc -l 5001", "nc.txt");
    world.until("the server listens", || world.at("b", "ss -tln").contains(":5001 "));
    world.sh("echo through | ip netns exec a nc -N -w 10 10.1.0.50 6000");
    world.until("the server ends", || matches!(server.0.try_wait(), Ok(Some(_))));
    assert_eq!(world.read("nc.txt"), "through\n");
    let held = world.flows();
    assert!(
        held.contains("set(ipv4(") || held.contains("set_masked(ipv4(") || held.contains("set(tcp("),
        "{held}"
    );
}

fn vlan_and_mpls_tags(world: &World) {
    three_hosts(world);
    flows(
        world,
        "priority=10,arp,actions=normal
         priority=20,ip,in_port=1,actions=push_vlan:0x8100,set_field:4196->vlan_vid,set_field:3->vlan_pcp,output:3,pop_vlan,output:2
         priority=20,ip,in_port=2,actions=push_mpls:0x8847,set_field:77->mpls_label,output:3,pop_mpls:0x0800,output:1",
    );
    let seen = world.watch("c", "eth0", "", || world.ping("a", &ip(2)));
    assert!(seen.contains("vlan 100, p 3, "), "{seen}");
    assert!(
        seen.contains("label 77") || seen.contains("label: 77") || seen.contains("MPLS (label 77"),
        "{seen}"
    );
}

fn meter(world: &World) {
    three_hosts(world);
    world.sh("ovs-ofctl -O OpenFlow13 add-meter br0 meter=1,pktps,burst,stats,bands=type=drop,rate=10,burst_size=10");
    flows(
        world,
        "priority=10,actions=normal
         priority=20,icmp,in_port=1,icmp_type=8,actions=meter:1,normal",
    );
    world.at("b", "ping -q -c 1 -W 3 10.1.0.1");
    // 300 packets at up to a hundred a second, of which about ten a second pass.
    let text = world.at("a", &format!("sh -c 'ping -q -i 0.01 -c 300 -W 2 {} || true'", ip(2)));
    let received: u64 = text
        .split(" packets transmitted, ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| number.parse().ok())
        .expect("ping tells what it received");
    assert!((10..150).contains(&received), "{text}");
    let stats = world.sh("ovs-ofctl -O OpenFlow13 meter-stats br0");
    let number = |name: &str| -> u64 {
        let rest = stats.split(name).nth(1).unwrap_or_default();
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
    };
    assert_eq!(number("packet_in_count:"), 300, "{stats}");
    assert!(stats.contains(&format!("packet_count:{}", 300 - received)), "{received} received: {stats}");
    // Changed while in use, then gone.
    world.sh("ovs-ofctl -O OpenFlow13 mod-meter br0 meter=1,kbps,stats,bands=type=drop,rate=1000000");
    world.ping("a", &ip(2));
    world.sh("ovs-ofctl -O OpenFlow13 del-meter br0 meter=1");
    let held = world.sh("ovs-ofctl -O OpenFlow13 dump-meters br0");
    assert!(!held.contains("meter=1"), "{held}");
}

fn fragments(world: &World) {
    three_hosts(world);
    flows(world, "actions=normal");
    world.ping("a", &ip(2));
    for (to, more) in [(ip(2), ""), (ip6(2), "-6")] {
        let text = world.at("a", &format!("ping {more} -q -s 4000 -c 5 -i 0.1 -W 3 {to}"));
        assert!(text.contains(" 0% packet loss"), "{text}");
    }
    let held = world.flows();
    assert!(held.contains("frag=first") && held.contains("frag=later"), "{held}");
    // Fragments may be dropped.
    world.sh("ovs-ofctl set-frags br0 drop");
    world.try_sh(&format!("ip netns exec a ping -q -s 4000 -c 2 -i 0.1 -W 1 {}", ip(2)));
    let text = world.try_sh(&format!("ip netns exec a ping -q -s 4000 -c 2 -i 0.1 -W 1 {}", ip(2))).stdout;
    assert!(text.contains("100% packet loss"), "{text}");
    world.ping("a", &ip(2));
}

fn fragments_by_rule(world: &World) {
    three_hosts(world);
    world.sh("ovs-ofctl set-frags br0 nx-match");
    flows(
        world,
        "priority=10,actions=normal
         priority=20,ip,in_port=1,ip_frag=first,actions=normal
         priority=20,ip,in_port=1,ip_frag=not_later,actions=normal
         priority=30,ip,in_port=1,ip_frag=later,actions=normal
         priority=20,ipv6,in_port=1,ip_frag=later,actions=normal",
    );
    world.at("a", &format!("ping -q -s 2000 -c 4 -i 0.1 -W 3 {}", ip(2)));
    world.counts("br0", "ip,in_port=1,ip_frag=later", 4);
    // 3000 bytes are three fragments: two of them come later.
    world.at("a", &format!("ping -6 -q -s 3000 -c 4 -i 0.1 -W 3 {}", ip6(2)));
    world.counts("br0", "ipv6,in_port=1,ip_frag=later", 8);
}

fn groups(world: &World) {
    three_hosts(world);
    world.sh("ovs-ofctl -O OpenFlow15 add-groups br0 - << 'END'
group_id=1,type=all,bucket=actions=output:2,bucket=actions=output:3
group_id=2,type=indirect,bucket=actions=output:1
group_id=3,type=ff,bucket=watch_port:2,actions=output:2,bucket=watch_port:3,actions=output:3
group_id=4,type=select,selection_method=hash,fields(tcp_src),bucket=actions=output:2,bucket=actions=output:3
group_id=5,type=select,selection_method=dp_hash,bucket=actions=output:2,bucket=actions=output:3
END");
    flows(
        world,
        "priority=10,actions=normal
         priority=20,in_port=1,icmp,actions=group:1
         priority=20,in_port=2,icmp,actions=group:2
         priority=20,in_port=1,udp,tp_dst=33,actions=group:3
         priority=20,in_port=1,udp,tp_dst=44,actions=group:4
         priority=20,in_port=1,udp,tp_dst=55,actions=group:5
         priority=20,in_port=1,tcp,tp_dst=66,actions=group:4",
    );
    let seen = world.watch("c", "eth0", "icmp", || world.ping("a", &ip(2)));
    assert!(seen.contains("10.1.0.1 > 10.1.0.2: ICMP echo request"), "{seen}");
    world.sh(&format!("ip -n a neigh replace {} lladdr {} dev eth0", ip(2), mac(2)));
    let send = |port: u16| {
        world.at("a", &format!("bash -c 'for n in {{1..16}}; do echo x > /dev/udp/10.1.0.2/{port}; done'"));
    };
    let seen = world.watch("b", "eth0", "udp", || send(33));
    assert_eq!(seen.matches("10.1.0.2.33: UDP").count(), 16, "{seen}");
    world.sh("ip -n b link set eth0 down");
    world.until("port 2 is seen down", || world.sh("ovs-vsctl get interface p-b link_state") == "down\n");
    let seen = world.watch("c", "eth0", "udp", || send(33));
    assert!(seen.matches("10.1.0.2.33: UDP").count() >= 15, "{seen}");
    world.sh(&format!(
        "ip -n b link set eth0 up; ip -n a neigh replace {} lladdr {} dev eth0",
        ip(2),
        mac(2)
    ));
    // By the datapath's hash, packets spread over both buckets.
    let seen = world.watch("c", "eth0", "udp", || send(55));
    let there = seen.matches("10.1.0.2.55: UDP").count();
    assert!((1..16).contains(&there), "{there} of 16: {seen}");
    let held = world.flows();
    assert!(held.contains("hash(l4(0))") || held.contains("hash(sym_l4(0))"), "{held}");
}

fn controller(world: &World) {
    three_hosts(world);
    flows(
        world,
        "priority=10,actions=normal
         priority=20,icmp,in_port=1,icmp_type=8,actions=controller(max_len=64,userdata=01.02.03),normal",
    );
    let _monitor = world.spawn("ovs-ofctl monitor br0 65534 -P nxt_packet_in2", "packet-ins.txt");
    world.until("the monitor is there", || world.sh("ls").contains("packet-ins.txt"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    world.at("a", &format!("ping -q -c 5 -i 0.1 -W 3 {}", ip(2)));
    world.until("five packets come", || {
        world.read("packet-ins.txt").matches("userdata=01.02.03").count() == 5
    });
    let text = world.read("packet-ins.txt");
    assert!(text.contains("in_port=1") && text.contains("total_len=98"), "{text}");
    // The other way: a packet from the controller.
    let frame = "0e0000000003 0e0000000001 88b5 000102030405060708090a0b0c0d0e0f".replace(' ', "");
    let seen = world.watch("c", "eth0", "ether proto 0x88b5", || {
        world.sh(&format!("ovs-ofctl packet-out br0 in_port=controller,packet={frame},actions=output:3"));
    });
    assert!(seen.contains("0e:00:00:00:00:01 > 0e:00:00:00:00:03, ethertype Unknown (0x88b5)"), "{seen}");
}

fn packet_larger(world: &World) {
    three_hosts(world);
    flows(
        world,
        "priority=10,actions=normal
         priority=20,icmp,in_port=1,actions=check_pkt_larger(500)->reg0[0],resubmit(,1)
         table=1,reg0=0x1/0x1,actions=output:3
         table=1,reg0=0x0/0x1,actions=normal",
    );
    world.ping("a", &ip(2));
    let seen = world.watch("c", "eth0", "icmp", || {
        world.try_sh(&format!("ip netns exec a ping -q -s 1000 -c 3 -i 0.1 -W 1 {}", ip(2)));
    });
    assert_eq!(seen.matches("ICMP echo request").count(), 3, "{seen}");
    let held = world.flows();
    assert!(held.contains("check_pkt_len(size=500,gt("), "{held}");
}

fn truncation(world: &World) {
    three_hosts(world);
    flows(
        world,
        "priority=10,actions=normal
         priority=20,icmp,in_port=1,actions=output(port=3,max_len=100),output:2",
    );
    let seen = world.watch("c", "eth0", "icmp", || {
        world.at("a", &format!("ping -q -s 500 -c 3 -i 0.1 -W 3 {}", ip(2)));
    });
    assert_eq!(seen.matches("length 100: ").count(), 3, "{seen}");
}

fn learn(world: &World) {
    three_hosts(world);
    flows(
        world,
        "priority=10,arp,actions=normal
         priority=20,ip,in_port=1,actions=learn(table=1,idle_timeout=60,priority=5,eth_type=0x800,nw_dst=nw_src,output:in_port[]),output:2
         priority=20,ip,in_port=2,actions=resubmit(,1)",
    );
    world.ping("a", &ip(2));
    let held = world.sh("ovs-ofctl --no-stats dump-flows br0 table=1");
    assert!(
        held.contains("nw_dst=10.1.0.1 actions=output:\"p-a\"")
            || held.contains("nw_dst=10.1.0.1 actions=output:1"),
        "{held}"
    );
}
