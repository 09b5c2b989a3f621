//! Connection tracking: states, translation of addresses in both directions and families, zones, marks, fragments.

use crate::Test;
use crate::world::{World, ip, ip6, mac};

pub const TESTS: &[Test] = &[
    Test::smoke("ct::replies_only", replies_only),
    Test::new("ct::replies_only_ipv6", replies_only_ipv6),
    Test::smoke("ct::source_nat", source_nat),
    Test::new("ct::source_nat_ipv6", source_nat_ipv6),
    Test::smoke("ct::destination_nat", destination_nat),
    Test::new("ct::destination_nat_ipv6", destination_nat_ipv6),
    Test::new("ct::both_nats_in_two_zones", both_nats_in_two_zones),
    Test::new("ct::both_nats_in_two_zones_ipv6", both_nats_in_two_zones_ipv6),
    Test::new("ct::nat_ranges", nat_ranges),
    Test::new("ct::related_icmp", related_icmp),
    Test::new("ct::mark_and_label", mark_and_label),
    Test::new("ct::fragments", fragments),
    Test::new("ct::force_and_clear", force_and_clear),
    Test::new("ct::zone_limit", zone_limit),
    Test::new("ct::timeout_policy", timeout_policy),
    Test::new("ct::flush", flush),
    Test::new("ct::partial_flush", partial_flush),
    Test::new("ct::zones_of_the_database", zones_of_the_database),
    Test::new("ct::text_is_the_peers", text_is_the_peers),
];

fn two_hosts(world: &World, flows: &str) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
    world.sh("ovs-ofctl del-flows br0");
    replace(world, flows);
}

fn replace(world: &World, flows: &str) {
    world.sh(&format!("ovs-ofctl -O OpenFlow15 replace-flows br0 - << 'END'\n{flows}\nEND"));
}

/// What is tracked, as the kernel's `dump-conntrack` tells it.
fn tracked(world: &World, more: &str) -> String {
    world.sh(&format!("ovs-appctl dpctl/dump-conntrack {more}"))
}

/// Host a may open connections, host b only answer.
const REPLIES_ONLY: &str = "priority=100,arp,actions=normal
priority=100,icmp6,icmp_type=135,actions=normal
priority=100,icmp6,icmp_type=136,actions=normal
priority=50,ct_state=-trk,ip,actions=ct(table=1)
priority=50,ct_state=-trk,ipv6,actions=ct(table=1)
table=1,priority=10,ct_state=+trk+new,in_port=1,ip,actions=ct(commit),output:2
table=1,priority=10,ct_state=+trk+new,in_port=1,ipv6,actions=ct(commit),output:2
table=1,priority=10,ct_state=+trk+est,in_port=1,actions=output:2
table=1,priority=10,ct_state=+trk+est-new+rpl,in_port=2,actions=output:1
table=1,priority=1,actions=drop";

fn replies_only(world: &World) {
    two_hosts(world, REPLIES_ONLY);
    world.ping("a", &ip(2));
    world.no_ping("b", &ip(1));
    world.tcp("a", &ip(2), "b");
    let ran = world.try_sh(&format!("ip netns exec b nc -z -w 1 {} 22", ip(1)));
    assert_ne!(ran.status, Some(0));
    let held = tracked(world, "");
    assert!(held.contains("tcp,orig=(src=10.1.0.1,dst=10.1.0.2,sport="), "{held}");
    assert!(held.contains("reply=(src=10.1.0.2,dst=10.1.0.1,sport=5001,"), "{held}");
    assert!(held.contains("protoinfo=(state="), "{held}");
    world.until("the kernel commits", || {
        world.at("a", &format!("ping -q -c 1 -W 3 {}", ip(2)));
        let flows = world.flows();
        flows.contains("ct(commit)") && flows.contains("recirc(")
    });
}

fn replies_only_ipv6(world: &World) {
    two_hosts(world, REPLIES_ONLY);
    world.ping("a", &ip6(2));
    world.no_ping("b", &ip6(1));
    world.tcp("a", &ip6(2), "b");
    let held = tracked(world, "");
    assert!(held.contains("tcp,orig=(src=fd01::1,dst=fd01::2,sport="), "{held}");
}

/// Connections of host a leave with a source of their own; `network` tells the family's words.
fn source(world: &World, protocol: &str, nat: &str, discovery: &str) {
    let flows = format!(
        "priority=100,arp,actions=normal
priority=100,icmp6,icmp_type=135,actions=normal
priority=100,icmp6,icmp_type=136,actions=normal
priority=50,in_port=1,{protocol},actions=ct(commit,zone=1,nat(src={nat}),exec(set_field:1->ct_mark)),output:2
priority=50,in_port=2,{protocol},ct_state=-trk,actions=ct(zone=1,nat,table=1)
table=1,ct_state=+trk+est+rpl,ct_mark=1,actions=output:1"
    );
    two_hosts(world, &flows);
    world.sh(&format!("ip -n b neigh add {discovery} lladdr {} dev eth0", mac(1)));
}

fn source_nat(world: &World) {
    source(world, "ip", "10.1.0.240", "10.1.0.240");
    world.ping("a", &ip(2));
    let seen = world.watch("b", "eth0", "icmp or tcp", || {
        world.at("a", &format!("ping -q -c 1 -W 3 {}", ip(2)));
        world.tcp("a", &ip(2), "b");
    });
    assert!(seen.contains("10.1.0.240 > 10.1.0.2: ICMP echo request"), "{seen}");
    assert!(!seen.contains("10.1.0.1 >") && !seen.contains("10.1.0.1."), "{seen}");
    let held = tracked(world, "zone=1");
    assert!(held.contains("orig=(src=10.1.0.1,dst=10.1.0.2,sport="), "{held}");
    assert!(held.contains("reply=(src=10.1.0.2,dst=10.1.0.240,"), "{held}");
    assert!(held.contains(",zone=1,mark=1"), "{held}");
}

fn source_nat_ipv6(world: &World) {
    source(world, "ipv6", "fd01::240", "fd01::240");
    world.ping("a", &ip6(2));
    let seen = world.watch("b", "eth0", "icmp6 or tcp", || {
        world.at("a", &format!("ping -q -c 1 -W 3 {}", ip6(2)));
        world.tcp("a", &ip6(2), "b");
    });
    assert!(seen.contains("fd01::240 > fd01::2: [icmp6 sum ok] ICMP6, echo request"), "{seen}");
    let held = tracked(world, "zone=1");
    assert!(held.contains("reply=(src=fd01::2,dst=fd01::240,"), "{held}");
}

/// Host b is behind another address.
fn destination(world: &World, protocol: &str, to: &str, real: &str) {
    let flows = format!(
        "priority=100,arp,actions=normal
priority=100,icmp6,icmp_type=135,actions=normal
priority=100,icmp6,icmp_type=136,actions=normal
priority=50,in_port=1,{protocol},{to},actions=ct(commit,zone=1,nat(dst={real})),set_field:{mac}->eth_dst,output:2
priority=50,in_port=2,{protocol},ct_state=-trk,actions=ct(zone=1,nat,table=1)
table=1,ct_state=+trk+est+rpl,actions=output:1",
        mac = mac(2)
    );
    two_hosts(world, &flows);
}

fn destination_nat(world: &World) {
    destination(world, "ip", "nw_dst=10.1.0.64", "10.1.0.2");
    world.sh("ip -n a neigh add 10.1.0.64 lladdr 0e:00:00:00:00:64 dev eth0");
    world.ping("a", "10.1.0.64");
    world.tcp("a", "10.1.0.64", "b");
    let held = tracked(world, "zone=1");
    assert!(held.contains("tcp,orig=(src=10.1.0.1,dst=10.1.0.64,"), "{held}");
    assert!(held.contains("reply=(src=10.1.0.2,dst=10.1.0.1,sport=5001,"), "{held}");
}

fn destination_nat_ipv6(world: &World) {
    destination(world, "ipv6", "ipv6_dst=fd01::64", "fd01::2");
    world.sh("ip -n a neigh add fd01::64 lladdr 0e:00:00:00:00:64 dev eth0");
    world.ping("a", "fd01::64");
    world.tcp("a", "fd01::64", "b");
    let held = tracked(world, "zone=1");
    assert!(held.contains("orig=(src=fd01::1,dst=fd01::64,"), "{held}");
}

/// A load balancer: the destination in zone 1, then the source in zone 2; back the other way round. `name` is the protocol,
/// and `to` what in a flow's match stands before a destination.
fn both_nats(world: &World, (name, to): (&str, &str), [service, server, inside]: [&str; 3]) {
    let flows = format!(
        "priority=100,arp,actions=normal
priority=100,icmp6,icmp_type=135,actions=normal
priority=100,icmp6,icmp_type=136,actions=normal
priority=50,in_port=1,{name},{to}={service},actions=ct(commit,zone=1,nat(dst={server}),table=1)
table=1,in_port=1,{name},actions=ct(commit,zone=2,nat(src={inside}),table=2)
table=2,in_port=1,{name},actions=set_field:{b}->eth_dst,output:2
priority=50,in_port=2,{name},{to}={inside},actions=ct(zone=2,nat,table=3)
table=3,in_port=2,{name},ct_state=+est,actions=ct(zone=1,nat,table=4)
table=4,in_port=2,{name},ct_state=+est,actions=set_field:{a}->eth_dst,output:1",
        a = mac(1),
        b = mac(2)
    );
    two_hosts(world, &flows);
    world.sh(&format!(
        "ip -n a neigh add {service} lladdr 0e:00:00:00:00:64 dev eth0; ip -n b neigh add {inside} lladdr {} dev eth0",
        mac(1)
    ));
    world.ping("a", service);
    let seen = world.watch("b", "eth0", "tcp", || world.tcp("a", service, "b"));
    assert!(seen.contains(&format!("{inside}.")) && seen.contains(&format!("> {server}.5001: ")), "{seen}");
}

fn both_nats_in_two_zones(world: &World) {
    both_nats(world, ("ip", "nw_dst"), ["10.1.0.64", "10.1.0.2", "10.1.0.240"]);
    let held = tracked(world, "");
    assert!(held.contains("orig=(src=10.1.0.1,dst=10.1.0.64,") && held.contains("zone=1"), "{held}");
    assert!(held.contains("orig=(src=10.1.0.1,dst=10.1.0.2,") && held.contains("zone=2"), "{held}");
}

fn both_nats_in_two_zones_ipv6(world: &World) {
    both_nats(world, ("ipv6", "ipv6_dst"), ["fd01::64", "fd01::2", "fd01::240"]);
    let held = tracked(world, "");
    assert!(held.contains("orig=(src=fd01::1,dst=fd01::64,") && held.contains("zone=1"), "{held}");
    assert!(held.contains("orig=(src=fd01::1,dst=fd01::2,") && held.contains("zone=2"), "{held}");
}

fn nat_ranges(world: &World) {
    source(world, "ip", "10.1.0.240-10.1.0.247:40000-40003,random", "10.1.0.240");
    for last in 241..=247 {
        world.sh(&format!("ip -n b neigh add 10.1.0.{last} lladdr {} dev eth0", mac(1)));
    }
    let seen = world.watch("b", "eth0", "'tcp[tcpflags] == tcp-syn'", || {
        for _ in 0..6 {
            world.try_sh(&format!("ip netns exec a nc -z -w 2 {} 7", ip(2)));
        }
    });
    let syns: Vec<&str> = seen.lines().filter(|line| line.contains("Flags [S]")).collect();
    assert!(syns.len() >= 6, "{seen}");
    for syn in syns {
        let source = syn.split_whitespace().next().unwrap_or_default();
        let (address, port) = source.rsplit_once('.').unwrap_or_default();
        let last: u8 = address.strip_prefix("10.1.0.").and_then(|n| n.parse().ok()).unwrap_or(0);
        assert!((240..=247).contains(&last) && port.starts_with("4000"), "{syn}");
    }
}

fn related_icmp(world: &World) {
    two_hosts(
        world,
        "priority=100,arp,actions=normal
priority=50,in_port=1,ip,actions=ct(commit,nat(src=10.1.0.240)),output:2
priority=50,in_port=2,ip,ct_state=-trk,actions=ct(nat,table=1)
table=1,priority=20,ct_state=+trk+rel+rpl,icmp,actions=output:1
table=1,priority=10,ct_state=+trk+est+rpl,actions=output:1",
    );
    world.sh(&format!("ip -n b neigh add 10.1.0.240 lladdr {} dev eth0", mac(1)));
    // No one listens: the refusal comes back as ICMP, about the translated packet, and is translated too.
    let seen = world.watch("a", "eth0", "icmp", || {
        world.sh(&format!("echo x | ip netns exec a nc -u -w 2 -q 1 {} 33333 || true", ip(2)));
    });
    assert!(seen.contains("10.1.0.2 > 10.1.0.1: ICMP 10.1.0.2 udp port 33333 unreachable"), "{seen}");
    assert!(seen.contains("10.1.0.1.") && !seen.contains("10.1.0.240"), "{seen}");
    world.counts("br0", "table=1,icmp,ct_state=+rel+rpl+trk", 1);
}

fn mark_and_label(world: &World) {
    two_hosts(
        world,
        "priority=100,arp,actions=normal
priority=50,in_port=1,ct_state=-trk,ip,actions=ct(zone=7,table=1)
priority=50,in_port=2,ct_state=-trk,ip,actions=ct(zone=7,table=2)
table=1,priority=10,ct_state=+new,ip,actions=ct(commit,zone=7,exec(set_field:0x10/0xf0->ct_mark,set_field:0x1234000000000000000000000005->ct_label)),output:2
table=1,priority=10,ct_state=+est,ip,actions=output:2
table=2,priority=10,ct_state=+est,ct_mark=0x10,ct_label=0x5/0xff,ip,actions=output:1",
    );
    world.ping("a", &ip(2));
    let held = tracked(world, "zone=7");
    assert!(held.contains("mark=16,labels=0x1234000000000000000000000005"), "{held}");
}

fn fragments(world: &World) {
    two_hosts(world, REPLIES_ONLY);
    world.ping("a", &ip(2));
    // The kernel assembles, tracks, and cuts again to the size that came.
    for (command, to) in [("ping", ip(2)), ("ping -6", ip6(2))] {
        let text = world.at("a", &format!("{command} -q -s 4000 -c 5 -i 0.1 -W 3 {to}"));
        assert!(text.contains(" 0% packet loss"), "{text}");
    }
}

fn force_and_clear(world: &World) {
    // Whoever commits by force becomes the connection's opener.
    two_hosts(
        world,
        "priority=100,arp,actions=normal
priority=50,in_port=1,ip,ct_state=-trk,actions=ct(commit,zone=3),output:2
priority=50,in_port=2,ip,ct_state=-trk,actions=ct(force,commit,zone=3),ct(table=1,zone=3)
table=1,ip,ct_state=+trk,actions=ct_clear,resubmit(,2)
table=2,udp,ct_state=-trk,actions=output:1
table=2,icmp,ct_state=-trk,actions=output:1",
    );
    world.at("a", &format!("sh -c 'echo x | nc -u -w 1 -q 1 -p 1000 {} 2000'", ip(2)));
    let held = tracked(world, "zone=3");
    assert!(held.contains("udp,orig=(src=10.1.0.1,dst=10.1.0.2,sport=1000,dport=2000)"), "{held}");
    world.at("b", &format!("sh -c 'echo x | nc -u -w 1 -q 1 -p 2000 {} 1000'", ip(1)));
    let held = tracked(world, "zone=3");
    assert!(held.contains("udp,orig=(src=10.1.0.2,dst=10.1.0.1,sport=2000,dport=1000)"), "{held}");
    // Nobody listens: each host refuses what the other sent, and what host b says comes through the cleared state.
    world.counts("br0", "table=2,udp", 1);
    world.counts("br0", "table=2,icmp", 1);
}

fn zone_limit(world: &World) {
    two_hosts(
        world,
        "priority=100,arp,actions=normal
priority=50,in_port=1,ip,actions=ct(commit,zone=9),output:2",
    );
    world.sh("ovs-appctl dpctl/ct-set-limits default=0 zone=9,limit=3");
    world.at("a", &format!("bash -c 'for n in 1 2 3 4 5 6; do echo x > /dev/udp/{}/300$n; done'", ip(2)));
    let limits = world.sh("ovs-appctl dpctl/ct-get-limits zone=9");
    assert!(limits.contains("zone=9,limit=3,count=3"), "{limits}");
    assert_eq!(tracked(world, "zone=9").matches("orig=").count(), 3);
    world.sh("ovs-appctl dpctl/ct-del-limits zone=9");
    let limits = world.sh("ovs-appctl dpctl/ct-get-limits zone=9");
    assert!(limits.contains("zone=9,limit=0"), "{limits}");
}

fn timeout_policy(world: &World) {
    two_hosts(
        world,
        "priority=100,arp,actions=normal
priority=50,in_port=1,ip,actions=ct(commit,zone=5),output:2
priority=50,in_port=2,ip,actions=ct(zone=5),output:1",
    );
    world.sh(
        "ovs-vsctl -- --id=@d create Datapath datapath_version=0 -- set Open_vSwitch . datapaths:system=@d
         ovs-vsctl add-zone-tp system zone=5 udp_first=9 udp_single=9 udp_multiple=9 icmp_first=9 icmp_reply=9",
    );
    // Without a policy, it would be 30 seconds.
    world.until("a new connection that soon ends", || {
        world.try_sh(&format!("echo x | ip netns exec a nc -u -w 1 -q 0 {} 3001", ip(2)));
        timeouts(&tracked(world, "-s zone=5")).iter().any(|left| *left <= 9)
    });
}

/// Seconds that connections have left.
fn timeouts(held: &str) -> Vec<u32> {
    let seconds = |line: &str| line.split_once("timeout=")?.1.split(',').next()?.parse().ok();
    held.lines().filter_map(seconds).collect()
}

fn flush(world: &World) {
    two_hosts(
        world,
        "priority=100,arp,actions=normal
priority=50,in_port=1,ip,udp,tp_dst=1,actions=ct(commit,zone=1),output:2
priority=50,in_port=1,ip,udp,tp_dst=2,actions=ct(commit,zone=2),output:2",
    );
    for port in [1, 2] {
        world.sh(&format!("echo x | ip netns exec a nc -u -w 0 -q 0 -p 99 {} {port}", ip(2)));
    }
    assert_eq!(tracked(world, "").matches("udp,orig").count(), 2);
    world.sh(&format!(
        "ovs-appctl dpctl/flush-conntrack zone=1 'ct_nw_src=10.1.0.1,ct_nw_dst={},ct_nw_proto=17,ct_tp_src=99,ct_tp_dst=1'",
        ip(2)
    ));
    assert_eq!(tracked(world, "").matches("udp,orig").count(), 1);
    world.sh("ovs-appctl dpctl/flush-conntrack zone=2");
    assert_eq!(tracked(world, "").matches("udp,orig").count(), 0);
}

/// Connections by protocol and zone, each with a mark and a label of its own.
const MARKED: &str = "priority=100,arp,actions=normal
priority=50,in_port=1,ip,udp,tp_dst=1,actions=ct(commit,zone=1,exec(set_field:1->ct_mark)),output:2
priority=50,in_port=1,ip,udp,tp_dst=2,actions=ct(commit,zone=1,exec(set_field:0x12->ct_label)),output:2
priority=50,in_port=1,ip,udp,tp_dst=3,actions=ct(commit,zone=2),output:2";

fn open_three(world: &World) {
    for port in [1, 2, 3] {
        world.sh(&format!("echo x | ip netns exec a nc -u -w 0 -q 0 -p 99 {} {port}", ip(2)));
    }
}

/// By dpctl and by OpenFlow.
fn partial_flush(world: &World) {
    if world.older {
        return;
    }
    two_hosts(world, MARKED);
    let left = || {
        let held = tracked(world, "");
        [1, 2, 3].map(|port| held.contains(&format!("sport=99,dport={port})")))
    };
    for (command, rest) in [
        ("ovs-appctl dpctl/flush-conntrack mark=0x1/0x3", [false, true, true]),
        ("ovs-appctl dpctl/flush-conntrack labels=0x10/0x10", [true, false, true]),
        ("ovs-appctl dpctl/flush-conntrack zone=2 'ct_nw_src=10.1.0.1'", [true, true, false]),
        ("ovs-ofctl ct-flush br0 'ct_nw_dst=10.1.0.2,ct_nw_proto=17,ct_tp_dst=2'", [true, false, true]),
        ("ovs-ofctl ct-flush br0 zone=1 '' 'ct_nw_src=10.1.0.2'", [false, false, true]),
        ("ovs-ofctl ct-flush-zone br0 1", [false, false, true]),
    ] {
        open_three(world);
        world.until("three connections", || left() == [true; 3]);
        world.sh(command);
        world.until(command, || left() == rest);
    }
}

/// Limits and timeout policies come and go with the rows of the database.
fn zones_of_the_database(world: &World) {
    if world.older {
        return;
    }
    two_hosts(world, MARKED);
    world.sh(
        "ovs-vsctl -- --id=@d create Datapath datapath_version=0 -- set Open_vSwitch . datapaths:system=@d
        ovs-vsctl add-zone-tp system zone=1 udp_single=77 -- set-zone-limit system 2 5
        ovs-vsctl set-zone-limit system default 99",
    );
    let limits = || world.sh("ovs-appctl dpctl/ct-get-limits");
    world.until("limits", || limits() == "default limit=99\nzone=2,limit=5,count=0\n");
    assert!(world.sh("ovs-vsctl list-dp-cap system").contains("ct_flush=true"));
    let refused = world.try_sh("ovs-appctl dpctl/ct-set-limits zone=2,limit=3");
    assert_eq!(refused.status, Some(2), "{}", refused.text());
    open_three(world);
    let held = tracked(world, "-s zone=1");
    let timeouts = timeouts(&held);
    assert!(timeouts.len() == 2 && timeouts.iter().all(|secs| (31..=77).contains(secs)), "{held}");
    assert!(world.flows().contains("timeout=ovs_tp_1_udp4"), "{}", world.flows());
    world.sh("ovs-vsctl del-zone-tp system zone=1 -- del-zone-limit system 2");
    world.until("limits", || limits() == "default limit=99\n");
    world.until("no timeout", || {
        open_three(world);
        !world.flows().contains("timeout=")
    });
}

/// The tools of Debian's Open vSwitch say the same of the same kernel.
fn text_is_the_peers(world: &World) {
    two_hosts(world, REPLIES_ONLY);
    world.sh("sysctl -qw net.netfilter.nf_conntrack_acct=1 || true");
    world.ping("a", &ip(2));
    world.tcp("a", &ip(2), "b");
    world.tcp("a", &ip6(2), "b");
    for command in [
        "dump-conntrack",
        "-m dump-conntrack",
        "-m -s dump-conntrack",
        "dump-conntrack zone=5",
        "-m ct-stats-show",
        "ct-bkts",
        "ct-get-limits",
        "dump-dps",
        "show",
        "cache-get-size",
    ] {
        let say = |program: &str| {
            let ran =
                world.try_sh(&format!("{program} {command} | sed 's/timeout=[0-9]*//; s/hit.*//' | sort"));
            (ran.status, ran.text())
        };
        // Flows and connections come and go: what is compared was the same before and after.
        let mut both = None;
        world.until("a moment without changes", || {
            let (before, peer, after) = (say("ovs-dpctl"), say("/usr/bin/ovs-dpctl"), say("ovs-dpctl"));
            both = Some((before.clone(), peer));
            before == after
        });
        let (ours, peer) = both.expect("asked at least once");
        assert_eq!(ours, peer, "{command}");
    }
}
