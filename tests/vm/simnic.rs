//! The simulated NIC of `tests/simnic`, by plain `tc`: that its rules do in hardware what they say, and its faults what they
//! are to play. Rules are `skip_sw` wherever the kernel's software could hide that the NIC did nothing.

use std::time::{Duration, Instant};

use crate::Test;
use crate::world::{World, ip, mac};

pub const TESTS: &[Test] = &[
    Test::nic("simnic::redirect_and_drop", redirect_and_drop),
    Test::nic("simnic::vlan", vlan),
    Test::nic("simnic::mpls", mpls),
    Test::nic("simnic::rewrite", rewrite),
    Test::nic("simnic::vxlan", vxlan),
    Test::nic("simnic::geneve", geneve),
    Test::nic("simnic::chains", chains),
    Test::nic("simnic::connections", connections),
    Test::nic("simnic::translation", translation),
    Test::nic("simnic::police", police),
    Test::nic("simnic::mirror_and_sample", mirror_and_sample),
    Test::nic("simnic::refusals", refusals),
    Test::nic("simnic::slow_insertion", slow_insertion),
    Test::nic("simnic::faults", faults),
    Test::nic("simnic::removal_under_load", removal_under_load),
];

pub const FILES: &str = "/sys/kernel/debug/simnic";

/// A NIC `name` whose VFs are in hosts `h1`, `h2`, … as `eth0`, with address, MAC address and neighbours known; its wire
/// is `eth0` of host `w`. One uplink address: 172.31.1.100/24, and `.1` on the wire.
pub fn hosts(world: &World, name: &str, vfs: u8) {
    world.sh(&format!(
        "mount -t debugfs debugfs /sys/kernel/debug
         echo '{name} {vfs}' > {FILES}/new
         ip netns add w; ip link set {name}w netns w name eth0; ip -n w link set lo up; ip -n w link set eth0 mtu 1600 up
         ip link set {name} mtu 1600 up
         ip addr add 172.31.1.100/24 dev {name}; ip -n w addr add 172.31.1.1/24 dev eth0"
    ));
    for number in 1..=vfs {
        let index = number - 1;
        world.sh(&format!(
            "ip netns add h{number}; ip link set {name}v{index} netns h{number} name eth0 address {}
             ip -n h{number} link set lo up; ip -n h{number} link set eth0 up
             ip -n h{number} addr add {}/24 dev eth0
             ip link set {name}_{index} up",
            mac(number),
            ip(number),
        ));
        for other in (1..=vfs).filter(|other| *other != number) {
            world.sh(&format!(
                "ip -n h{number} neigh add {} lladdr {} dev eth0 nud permanent",
                ip(other),
                mac(other)
            ));
        }
    }
}

/// As [`hosts`]; every representor and the uplink have an ingress block.
fn nic(world: &World, name: &str, vfs: u8) {
    hosts(world, name, vfs);
    world.sh(&format!(
        "tc qdisc add dev {name} ingress; for n in $(seq 0 {}); do tc qdisc add dev {name}_$n ingress; done",
        vfs - 1
    ));
}

/// Adds a filter of priority `prio` for frames from `dev`.
fn filter(world: &World, dev: &str, prio: u32, rest: &str) {
    world.sh(&format!("tc filter add dev {dev} ingress prio {prio} {rest}"));
}

/// Packets that the first action of the filter of `dev` with `prio` counted in software and in hardware.
pub fn counted(world: &World, dev: &str, prio: u32) -> (u64, u64) {
    let text = world.sh(&format!("tc -s filter show dev {dev} ingress prio {prio}"));
    let packets = |word: &str, at: usize| -> Option<u64> {
        let line = text.lines().find(|line| line.trim().starts_with(word))?;
        line.split_whitespace().nth(at)?.parse().ok()
    };
    match (packets("Sent software ", 4), packets("Sent hardware ", 4)) {
        (Some(software), Some(hardware)) => (software, hardware),
        // tc does not tell them apart as long as hardware has none.
        _ => (packets("Sent ", 3).unwrap_or_else(|| panic!("no counts in {text}")), 0),
    }
}

/// One of the NIC's counters.
pub fn counter(world: &World, name: &str, which: &str) -> u64 {
    let text = world.read(&format!("{FILES}/{name}/counters"));
    let line = text.lines().find(|line| line.split(' ').next() == Some(which));
    let value = line.and_then(|line| line.split(' ').nth(1)).and_then(|n| n.parse().ok());
    value.unwrap_or_else(|| panic!("no {which} in {text}"))
}

fn set(world: &World, name: &str, knob: &str, value: u32) {
    world.sh(&format!("echo {value} > {FILES}/{name}/{knob}"));
}

/// Ten pings, all answered.
pub fn pings(world: &World, from: &str, to: &str) {
    let text = world.at(from, &format!("ping -q -c 10 -i 0.05 -W 5 {to}"));
    assert!(text.contains("10 packets transmitted, 10 received"), "{text}");
}

/// None of so many pings is answered.
fn no_pings(world: &World, from: &str, to: &str) {
    let ran = world.try_sh(&format!("ip netns exec {from} ping -q -c 3 -i 0.05 -W 1 {to}"));
    assert!(ran.stdout.contains(" 0 received"), "{}", ran.text());
}

/// A TCP stream of 256 KiB from `from` to `port` of address `to`, which is heard at `heard` of host `at`.
pub fn stream(world: &World, from: &str, to: &str, port: u16, at: &str, heard: u16) {
    let data = "0123456789abcdef".repeat(1 << 14);
    std::fs::write(world.switch.file("stream.in"), &data).expect("the sandbox is writable");
    let mut server = world.spawn(&format!("ip netns exec {at} nc -l {heard} > stream.out"), "nc.out");
    world.until("the server listens", || world.at(at, "ss -tln").contains(&format!(":{heard} ")));
    world.sh(&format!("ip netns exec {from} nc -N -w 60 {to} {port} < stream.in"));
    world.until("the server has everything", || matches!(server.0.try_wait(), Ok(Some(_))));
    assert!(world.read("stream.out") == data, "the stream brought other data");
}

fn redirect_and_drop(world: &World) {
    nic(world, "nica", 3);
    let shown = world.sh("ip -d link show nica_0; ip -d link show nica; ethtool -i nica_0");
    assert!(shown.contains("portname pf0vf0") && shown.contains("portname p0"), "{shown}");
    assert!(shown.contains("driver: simnic"), "{shown}");
    let ids: Vec<&str> =
        shown.split("switchid ").skip(1).filter_map(|s| s.split_whitespace().next()).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{shown}");

    filter(world, "nica_0", 1, "protocol ip flower skip_sw action mirred egress redirect dev nica_1");
    filter(world, "nica_1", 1, "protocol ip flower skip_sw action mirred egress redirect dev nica_0");
    pings(world, "h1", &ip(2));
    assert_eq!(counted(world, "nica_0", 1), (0, 10));
    assert_eq!(counted(world, "nica_1", 1), (0, 10));
    stream(world, "h1", &ip(2), 5001, "h2", 5001);
    no_pings(world, "h1", "10.1.0.9");

    // The lower number comes first, whenever it came.
    world.sh("tc filter del dev nica_0 ingress; tc filter del dev nica_1 ingress");
    assert_eq!(counter(world, "nica", "rules"), 0);
    filter(world, "nica_0", 5, "protocol ip flower skip_sw action mirred egress redirect dev nica_1");
    filter(world, "nica_1", 5, "protocol ip flower skip_sw action mirred egress redirect dev nica_0");
    pings(world, "h1", &ip(2));
    filter(world, "nica_0", 3, "protocol ip flower skip_sw ip_proto icmp action drop");
    no_pings(world, "h1", &ip(2));
    assert_eq!(counted(world, "nica_0", 3), (0, 3));
    assert_eq!(counter(world, "nica", "dropped"), 3);
    stream(world, "h1", &ip(2), 5001, "h2", 5001);
    world.sh("tc filter del dev nica_0 ingress prio 3");
    pings(world, "h1", &ip(2));
}

fn vlan(world: &World) {
    nic(world, "nicb", 2);
    world.sh(&format!(
        "ip -n h2 addr flush dev eth0; ip -n h2 link add link eth0 name eth0.7 type vlan id 7
         ip -n h2 link set eth0.7 up; ip -n h2 addr add {}/24 dev eth0.7
         ip -n h2 neigh add {} lladdr {} dev eth0.7 nud permanent",
        ip(2),
        ip(1),
        mac(1)
    ));
    filter(
        world,
        "nicb_0",
        1,
        "protocol ip flower skip_sw action vlan push id 7 priority 3 pipe mirred egress redirect dev nicb_1",
    );
    filter(
        world,
        "nicb_1",
        1,
        "protocol 802.1Q flower skip_sw vlan_id 7 vlan_ethtype ip ip_proto icmp action vlan pop pipe mirred egress redirect dev nicb_0",
    );
    let seen = world.watch("h2", "eth0", "icmp or vlan", || pings(world, "h1", &ip(2)));
    assert!(seen.contains("vlan 7, p 3"), "{seen}");
    assert_eq!((counted(world, "nicb_0", 1), counted(world, "nicb_1", 1)), ((0, 10), (0, 10)));
    // Another tag, changed on the way: what was 9 is 7 behind the NIC.
    world.sh("tc filter del dev nicb_0 ingress");
    world.sh(&format!(
        "ip -n h1 addr flush dev eth0; ip -n h1 link add link eth0 name eth0.9 type vlan id 9
         ip -n h1 link set eth0.9 up; ip -n h1 addr add {}/24 dev eth0.9
         ip -n h1 neigh add {} lladdr {} dev eth0.9 nud permanent
         tc filter del dev nicb_1 ingress",
        ip(1),
        ip(2),
        mac(2)
    ));
    for (dev, other, from, to) in [("nicb_0", "nicb_1", 9, 7), ("nicb_1", "nicb_0", 7, 9)] {
        filter(
            world,
            dev,
            1,
            &format!(
                "protocol 802.1Q flower skip_sw vlan_id {from} action vlan modify id {to} pipe mirred egress redirect dev {other}"
            ),
        );
    }
    pings(world, "h1", &ip(2));
    assert_eq!((counted(world, "nicb_0", 1), counted(world, "nicb_1", 1)), ((0, 10), (0, 10)));
}

fn mpls(world: &World) {
    nic(world, "nicc", 3);
    // Over the third VF and back: pushed, seen, popped again.
    filter(
        world,
        "nicc_0",
        1,
        "protocol ip flower skip_sw action mpls push protocol mpls_uc label 33 tc 2 ttl 9 pipe mirred egress redirect dev nicc_2",
    );
    let seen = world.watch("h3", "eth0", "mpls", || no_pings(world, "h1", &ip(2)));
    assert!(seen.contains("MPLS (label 33, ") && seen.contains("[S], ttl 9)"), "{seen}");
    assert_eq!(counted(world, "nicc_0", 1), (0, 3));
    // Two representors as one wire: h1's side pushes to the uplink, whose wire sends it back.
    world.sh("ip netns exec w tc qdisc add dev eth0 ingress
              ip netns exec w tc filter add dev eth0 ingress protocol mpls_uc flower action mirred egress redirect dev eth0
              tc filter del dev nicc_0 ingress");
    filter(
        world,
        "nicc_0",
        1,
        "protocol ip flower skip_sw action mpls push protocol mpls_uc label 33 ttl 9 pipe mirred egress redirect dev nicc",
    );
    filter(
        world,
        "nicc",
        1,
        "protocol mpls_uc flower skip_sw mpls_label 33 mpls_bos 1 action mpls pop protocol ip pipe mirred egress redirect dev nicc_1",
    );
    filter(world, "nicc_1", 1, "protocol ip flower skip_sw action mirred egress redirect dev nicc_0");
    pings(world, "h1", &ip(2));
    assert_eq!(counted(world, "nicc", 1), (0, 10));
}

fn rewrite(world: &World) {
    nic(world, "nicd", 2);
    world.sh(&format!("ip -n h1 neigh add 10.1.0.9 lladdr {} dev eth0 nud permanent", mac(9)));
    let there = format!(
        "pedit ex munge eth dst set {} munge ip dst set {} munge ip ttl set 17 pipe csum ip and icmp and tcp and udp",
        mac(2),
        ip(2)
    );
    let back = format!(
        "pedit ex munge eth src set {} munge ip src set 10.1.0.9 pipe csum ip and icmp and tcp and udp",
        mac(9)
    );
    filter(
        world,
        "nicd_0",
        2,
        &format!(
            "protocol ip flower skip_sw dst_ip 10.1.0.9 action {there} pipe mirred egress redirect dev nicd_1"
        ),
    );
    filter(
        world,
        "nicd_1",
        2,
        &format!(
            "protocol ip flower skip_sw src_ip {} action {back} pipe mirred egress redirect dev nicd_0",
            ip(2)
        ),
    );
    let seen = world.watch("h2", "eth0", "icmp", || pings(world, "h1", "10.1.0.9"));
    assert!(seen.contains("ttl 17,"), "{seen}");
    stream(world, "h1", "10.1.0.9", 5001, "h2", 5001);
    let (software, hardware) = counted(world, "nicd_0", 2);
    assert!(software == 0 && hardware > 10, "{software} {hardware}");
    // A port as well.
    filter(
        world,
        "nicd_0",
        1,
        &format!(
            "protocol ip flower skip_sw ip_proto tcp dst_port 5003 action pedit ex munge tcp dport set 5004 pipe {there} pipe \
             mirred egress redirect dev nicd_1"
        ),
    );
    filter(
        world,
        "nicd_1",
        1,
        &format!(
            "protocol ip flower skip_sw ip_proto tcp src_port 5004 action pedit ex munge tcp sport set 5003 pipe {back} pipe \
             mirred egress redirect dev nicd_0"
        ),
    );
    stream(world, "h1", "10.1.0.9", 5003, "h2", 5004);
}

/// Rules that carry h1's frames through tunnel device `tun` to the wire and back. The kernel takes no `skip_sw` rules on devices that
/// only offer theirs to drivers.
fn tunnel_rules(world: &World, name: &str, port: u16, set: &str, matching: &str) {
    filter(
        world,
        &format!("{name}_0"),
        1,
        &format!(
            "protocol ip flower skip_sw action tunnel_key set src_ip 172.31.1.100 dst_ip 172.31.1.1 dst_port {port} id 7 ttl 33 {set} \
             pipe mirred egress redirect dev tun"
        ),
    );
    world.sh("tc qdisc add dev tun ingress");
    filter(
        world,
        "tun",
        1,
        &format!(
            "protocol ip flower enc_key_id 7 enc_src_ip 172.31.1.1 enc_dst_ip 172.31.1.100 enc_dst_port {port} {matching} \
             action tunnel_key unset pipe mirred egress redirect dev {name}_0"
        ),
    );
}

/// h1 reaches 10.1.0.9 behind the tunnel; the first packet may have to ask for the neighbour.
fn tunnel_passes(world: &World, name: &str) {
    world.sh(&format!("ip -n h1 neigh add 10.1.0.9 lladdr {} dev eth0 nud permanent", mac(9)));
    world.until("the other end is known", || {
        world.try_sh("ip netns exec h1 ping -q -c 1 -W 1 10.1.0.9").status == Some(0)
    });
    let before = counter(world, name, "encapsulated");
    let heard = counter(world, name, "decapsulated");
    let outer = world.watch("w", "eth0", "udp", || pings(world, "h1", "10.1.0.9"));
    assert!(outer.contains("172.31.1.100.") && outer.contains("ttl 33,"), "{outer}");
    assert_eq!(counter(world, name, "encapsulated"), before + 10);
    assert_eq!(counter(world, name, "decapsulated"), heard + 10);
    assert_eq!(counted(world, "tun", 1).0, 0);
    stream(world, "h1", "10.1.0.9", 5001, "w", 5001);
}

fn vxlan(world: &World) {
    nic(world, "nice", 1);
    world.sh(&format!(
        "ip link add tun type vxlan external dstport 4789; ip link set tun up
         ip -n w link add tun address {} type vxlan id 7 remote 172.31.1.100 dstport 4789
         ip -n w link set tun up mtu 1500; ip -n w addr add 10.1.0.9/24 dev tun
         ip -n w neigh add {} lladdr {} dev tun nud permanent",
        mac(9),
        ip(1),
        mac(1)
    ));
    tunnel_rules(world, "nice", 4789, "csum", "");
    tunnel_passes(world, "nice");
    // Another key is not for this rule: it goes up.
    world.sh("tc filter del dev tun ingress");
    let missed = counter(world, "nice", "missed");
    no_pings(world, "h1", "10.1.0.9");
    assert!(counter(world, "nice", "missed") >= missed + 3);
}

fn geneve(world: &World) {
    nic(world, "nicf", 1);
    world.sh(&format!(
        "ip link add tun type geneve external dstport 6081; ip link set tun up
         ip -n w link add tun address {} type geneve external dstport 6081
         ip -n w link set tun up mtu 1450; ip -n w addr add 10.1.0.9/24 dev tun
         ip -n w neigh add {} lladdr {} dev tun nud permanent
         ip netns exec w tc qdisc add dev tun clsact
         ip netns exec w tc filter add dev tun egress protocol ip flower action tunnel_key set src_ip 172.31.1.1 \
           dst_ip 172.31.1.100 dst_port 6081 id 7 geneve_opts 0102:80:1122334455667788",
        mac(9),
        ip(1),
        mac(1)
    ));
    // The far end takes what has this option only.
    world.sh("ip netns exec w tc filter add dev tun ingress prio 1 protocol ip flower geneve_opts 0102:80:00aa00bb/ffff:ff:ffffffff action pass
              ip netns exec w tc filter add dev tun ingress prio 2 protocol all flower action drop");
    tunnel_rules(world, "nicf", 6081, "geneve_opts 0102:80:00aa00bb", "geneve_opts 0102:80:1122334455667788");
    tunnel_passes(world, "nicf");
    assert_eq!(counter(world, "nicf", "broken"), 0);
}

fn chains(world: &World) {
    nic(world, "nicg", 2);
    filter(world, "nicg_1", 1, "protocol ip flower skip_sw action mirred egress redirect dev nicg_0");
    filter(
        world,
        "nicg_0",
        1,
        "protocol ip flower action pedit ex munge ip ttl set 40 pipe csum ip pipe goto chain 5",
    );
    filter(
        world,
        "nicg_0",
        2,
        "protocol ip chain 5 flower skip_sw ip_proto icmp ip_ttl 40 action mirred egress redirect dev nicg_1",
    );
    pings(world, "h1", &ip(2));
    assert_eq!(counted(world, "nicg_0", 1), (0, 10));
    assert_eq!(counter(world, "nicg", "restarted"), 0);
    // No rule in the chain: the frame comes up as it was, and software does it all.
    no_stream_rule(world);
    filter(
        world,
        "nicg_0",
        3,
        "protocol ip chain 5 flower skip_hw ip_proto tcp ip_ttl 40 action mirred egress redirect dev nicg_1",
    );
    stream(world, "h1", &ip(2), 5001, "h2", 5001);
    let (software, hardware) = counted(world, "nicg_0", 1);
    assert!(software > 3 && hardware == 10, "software {software}, hardware {hardware}");
    assert_eq!(counter(world, "nicg", "restarted"), software);
}

/// TCP is in no rule of the NIC's chain 5 yet.
fn no_stream_rule(world: &World) {
    let rules = world.sh(&format!("cat {FILES}/nicg/rules"));
    assert_eq!(rules.lines().filter(|line| line.contains("chain 5 ")).count(), 1, "{rules}");
}

/// Rules that track what comes from `dev` in `zone` and send it out of `other`; new connections from it are committed with
/// `commit`, if that is given.
fn tracking(world: &World, dev: &str, other: &str, track: &str, commit: Option<&str>) {
    filter(world, dev, 1, &format!("protocol ip flower ip_proto tcp action {track} pipe goto chain 1"));
    filter(
        world,
        dev,
        2,
        &format!(
            "protocol ip chain 1 flower ip_proto tcp ct_state +trk+est action mirred egress redirect dev {other}"
        ),
    );
    if let Some(commit) = commit {
        filter(
            world,
            dev,
            3,
            &format!(
                "protocol ip chain 1 flower ip_proto tcp ct_state +trk+new action {commit} pipe mirred egress redirect dev {other}"
            ),
        );
    }
}

/// A server that gives back what it hears, and a client that asks 400 times, 50 ms apart.
pub const TALK: &str = r"
import socket, sys, time
if sys.argv[1] == 'server':
    heard = socket.create_server(('0.0.0.0', 5001)).accept()[0]
    while data := heard.recv(100):
        heard.sendall(data)
else:
    talk = socket.create_connection((sys.argv[1], 5001), 60)
    for n in range(400):
        talk.sendall(b'hello')
        assert talk.recv(100) == b'hello'
        time.sleep(0.05)
";

/// TCP from h1 to `to`, which is h2; once the NIC has the connection, software stands still and hardware grows.
fn established_in_hardware(world: &World, name: &str, to: &str) {
    std::fs::write(world.switch.file("talk.py"), TALK).expect("the sandbox is writable");
    let _server = world.spawn("ip netns exec h2 /usr/bin/python3 talk.py server", "server.txt");
    world.until("the server listens", || world.at("h2", "ss -tln").contains(":5001 "));
    let mut client = world.spawn(&format!("ip netns exec h1 /usr/bin/python3 talk.py {to}"), "client.txt");
    let dev = format!("{name}_0");
    world.until("the NIC has both directions", || counter(world, name, "connections") == 2);
    world.until("hardware carries it", || counter(world, name, "ct_hits") > 10);
    let (software, hardware) = counted(world, &dev, 1);
    std::thread::sleep(Duration::from_secs(4));
    let (later, grown) = counted(world, &dev, 1);
    assert!(matches!(client.0.try_wait(), Ok(None)), "the client ended early: {}", world.read("client.txt"));
    assert_eq!(later, software, "software still sees packets");
    assert!(grown > hardware + 5, "hardware counted {hardware}, then {grown}");
    let status = client.0.wait().expect("the client can be waited for");
    assert!(status.success(), "{}", world.read("client.txt"));
}

fn connections(world: &World) {
    nic(world, "nich", 2);
    tracking(world, "nich_0", "nich_1", "ct zone 3", Some("ct commit zone 3 mark 0x5"));
    tracking(world, "nich_1", "nich_0", "ct zone 3", None);
    established_in_hardware(world, "nich", &ip(2));
    let shown = world.sh("cat /proc/net/nf_conntrack 2> /dev/null || true");
    assert!(!shown.contains("[OFFLOAD, packets=0"), "{shown}");
    // With the last rule, the table goes.
    world.sh("for dev in nich_0 nich_1; do tc filter del dev $dev ingress; tc filter del dev $dev ingress chain 1; done");
    world.until("no connection is left in the NIC", || counter(world, "nich", "connections") == 0);
    assert_eq!(counter(world, "nich", "rules"), 0);
}

fn translation(world: &World) {
    nic(world, "nici", 2);
    world.sh(&format!("ip -n h1 neigh add 10.1.0.9 lladdr {} dev eth0 nud permanent", mac(2)));
    tracking(
        world,
        "nici_0",
        "nici_1",
        "ct zone 4 nat",
        Some(&format!("ct commit zone 4 nat dst addr {}", ip(2))),
    );
    tracking(world, "nici_1", "nici_0", "ct zone 4 nat", None);
    established_in_hardware(world, "nici", "10.1.0.9");
}

fn police(world: &World) {
    nic(world, "nicj", 2);
    filter(world, "nicj_0", 2, "protocol ip flower skip_sw action mirred egress redirect dev nicj_1");
    filter(world, "nicj_1", 2, "protocol ip flower skip_sw action mirred egress redirect dev nicj_0");
    world.sh("tc actions add action police rate 2mbit burst 20k conform-exceed drop/pipe index 77 skip_sw");
    filter(
        world,
        "nicj_0",
        1,
        "protocol ip flower skip_sw ip_proto udp action police index 77 pipe mirred egress redirect dev nicj_1",
    );
    let _server = world.spawn("ip netns exec h2 iperf3 -s -1 -J", "iperf.txt");
    world.until("iperf3 listens", || world.at("h2", "ss -tln").contains(":5201 "));
    world.at("h1", &format!("iperf3 -c {} -u -b 8M -l 1000 -t 4 -J", ip(2)));
    let policers = world.sh(&format!("cat {FILES}/nicj/policers"));
    assert!(policers.contains("index 77 rate 250000 "), "{policers}");
    let (software, hardware) = counted(world, "nicj_0", 1);
    let policed = counter(world, "nicj", "policed");
    assert_eq!(software, 0);
    // Four seconds at 2 Mbit/s are 1000 datagrams, with the burst 1020.
    let passed = hardware - policed;
    assert!(policed > 200 && (500..2000).contains(&passed), "{passed} passed, {policed} did not");
    let shown = world.sh("tc -s actions get action police index 77");
    assert!(shown.contains("in_hw"), "{shown}");
    world.sh("tc filter del dev nicj_0 ingress; tc actions del action police index 77");
    assert_eq!(world.sh(&format!("cat {FILES}/nicj/policers")), "");
}

/// Writes what the kernel multicasts as samples, a length and a message each.
const LISTEN: &str = r"
import socket, struct, sys
def attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack('HH', data[:4])
        yield kind & 0x3fff, data[4:length]
        data = data[(length + 3) & ~3:]
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
name = struct.pack('HH', 12, 2) + b'psample\0'
link.send(struct.pack('IHHIIBBH', 20 + len(name), 16, 1, 1, 0, 3, 1, 0) + name)
groups = dict(attributes(link.recv(65536)[20:]))[7]
for _, group in attributes(groups):
    group = dict(attributes(group))
    if group[1].startswith(b'packets'):
        link.setsockopt(270, 1, struct.unpack('I', group[2])[0])
print('listening', file=sys.stderr, flush=True)
while message := link.recv(65536):
    print(message.hex(), flush=True)
";

fn mirror_and_sample(world: &World) {
    nic(world, "nick", 3);
    filter(
        world,
        "nick_0",
        1,
        "protocol ip flower skip_sw action sample rate 2 group 5 trunc 90 pipe mirred egress mirror dev nick_2 pipe \
         mirred egress redirect dev nick_1",
    );
    filter(world, "nick_1", 1, "protocol ip flower skip_sw action mirred egress redirect dev nick_0");
    std::fs::write(world.switch.file("listen.py"), LISTEN).expect("the sandbox is writable");
    let _listener = world.spawn("/usr/bin/python3 listen.py", "samples.txt");
    world.until("samples are listened to", || world.read("samples.txt").contains("listening"));
    let seen = world.watch("h3", "eth0", "icmp", || {
        let text = world.at("h1", &format!("ping -q -c 100 -i 0.01 -W 5 -p a5b6c7d8a5b6c7d8 {}", ip(2)));
        assert!(text.contains(" 100 received"), "{text}");
    });
    assert_eq!(seen.matches("ICMP echo request").count(), 100);
    assert_eq!(counted(world, "nick_0", 1), (0, 100));
    let sampled = counter(world, "nick", "sampled");
    assert!((20..80).contains(&sampled), "{sampled} of 100 at 1 in 2");
    // The pattern ends where the sample does: 90 bytes are 42 of headers, 16 of time and 32 of pattern.
    let pattern = "a5b6c7d8".repeat(8);
    world.until("every sample is heard", || {
        world.read("samples.txt").lines().filter(|line| line.contains(&pattern)).count() as u64 == sampled
    });
    assert!(!world.read("samples.txt").contains(&"a5b6c7d8".repeat(9)), "a sample is too long");
}

/// What tc says when it cannot add this filter.
fn refused(world: &World, dev: &str, rest: &str) -> String {
    let ran = world.try_sh(&format!("tc filter add dev {dev} ingress {rest}"));
    assert_ne!(ran.status, Some(0), "taken: {rest}");
    ran.stderr
}

fn refusals(world: &World) {
    nic(world, "nicl", 2);
    world.sh("ip link add other type dummy");
    for (rest, why) in [
        (
            "protocol ip flower skip_sw action mirred egress redirect dev other",
            "the output device is not one of this NIC",
        ),
        (
            "protocol ip flower skip_sw action pedit ex munge ip ttl set 3",
            "does not say what becomes of a packet",
        ),
        (
            "protocol ip flower skip_sw ip_proto tcp dst_port 5-9 action drop",
            "a field of the match is not supported",
        ),
    ] {
        let text = refused(world, "nicl_0", &format!("prio 1 {rest}"));
        assert!(text.contains("simnic: ") && text.contains(why), "{rest}: {text}");
    }
    // What the NIC does not do, software does.
    filter(world, "nicl_0", 1, "protocol ip flower ip_proto tcp dst_port 5-9 action drop");
    assert!(world.sh("tc filter show dev nicl_0 ingress").contains("not_in_hw"));
    world.sh("tc filter del dev nicl_0 ingress");

    set(world, "nicl", "max_rules", 2);
    let rule = |n: u32| format!("prio 1 protocol ip flower skip_sw dst_ip 10.9.0.{n} action drop");
    world.sh(&format!(
        "tc filter add dev nicl_0 ingress {}; tc filter add dev nicl_1 ingress {}",
        rule(1),
        rule(1)
    ));
    let text = refused(world, "nicl_0", &rule(2));
    assert!(text.contains("simnic: the table is full"), "{text}");
    set(world, "nicl", "max_rules", 3);
    world.sh(&format!("tc filter add dev nicl_0 ingress {}", rule(2)));
    assert_eq!(counter(world, "nicl", "rules"), 3);
    world.sh("tc filter del dev nicl_0 ingress");

    set(world, "nicl", "refuse_permille", 1000);
    let text = refused(world, "nicl_0", &rule(3));
    assert!(text.contains("simnic: refused by the firmware"), "{text}");
    set(world, "nicl", "refuse_permille", 0);
    // FLOW_ACTION_DROP is action 1.
    set(world, "nicl", "refuse_actions", 2);
    let text = refused(world, "nicl_0", &rule(3));
    assert!(text.contains("simnic: firmware level support is missing for an action"), "{text}");
}

fn slow_insertion(world: &World) {
    nic(world, "nicm", 4);
    set(world, "nicm", "delay_us", 20_000);
    for port in 0..4 {
        let lines: String = (1..=25)
            .map(|n| format!("filter add dev nicm_{port} ingress prio 1 protocol ip flower skip_sw dst_ip 10.9.0.{n} action drop\n"))
            .collect();
        std::fs::write(world.switch.file(&format!("batch{port}")), lines).expect("the sandbox is writable");
    }
    let start = Instant::now();
    world.sh("for n in 0 1 2 3; do tc -batch batch$n; done");
    let serial = start.elapsed();
    assert!(serial >= Duration::from_secs(2), "100 rules at 20 ms each took {serial:?}");
    assert_eq!(counter(world, "nicm", "rules"), 100);
    world.sh("for n in 0 1 2 3; do tc filter del dev nicm_$n ingress; done");
    let start = Instant::now();
    world.sh("for n in 0 1 2 3; do tc -batch batch$n & done; wait");
    let parallel = start.elapsed();
    assert_eq!(counter(world, "nicm", "rules"), 100);
    assert!(parallel < serial, "four at a time: {parallel:?}, one by one: {serial:?}");
    println!("100 rules at 20 ms: one by one {serial:.2?}, four at a time {parallel:.2?}");
}

fn faults(world: &World) {
    nic(world, "nicn", 2);
    let both = || {
        filter(world, "nicn_0", 1, "protocol ip flower skip_sw action mirred egress redirect dev nicn_1");
        filter(world, "nicn_1", 1, "protocol ip flower skip_sw action mirred egress redirect dev nicn_0");
    };
    both();
    set(world, "nicn", "stats_stuck", 1);
    pings(world, "h1", &ip(2));
    assert_eq!(counted(world, "nicn_0", 1), (0, 0));
    set(world, "nicn", "stats_stuck", 0);
    assert_eq!(counted(world, "nicn_0", 1), (0, 10));
    set(world, "nicn", "stats_rewind", 4);
    assert_eq!(counted(world, "nicn_0", 1), (0, 6));
    pings(world, "h1", &ip(2));
    assert_eq!(counted(world, "nicn_0", 1), (0, 16));

    // Deletions that the NIC does not hear: it goes on.
    set(world, "nicn", "lose_deletes_permille", 1000);
    world.sh("tc filter del dev nicn_0 ingress; tc filter del dev nicn_1 ingress");
    set(world, "nicn", "lose_deletes_permille", 0);
    assert_eq!((counter(world, "nicn", "rules"), counter(world, "nicn", "rules_lost")), (2, 2));
    pings(world, "h1", &ip(2));

    // A NIC that does not answer, and one that does again.
    set(world, "nicn", "answer_timeout_ms", 300);
    set(world, "nicn", "answering", 0);
    let text = refused(world, "nicn_0", "prio 1 protocol ip flower skip_sw action drop");
    assert!(text.contains("simnic: the NIC does not answer"), "{text}");
    set(world, "nicn", "answering", 1);
    both();
    pings(world, "h1", &ip(2));
    assert_eq!(counted(world, "nicn_0", 1), (0, 10));
}

fn removal_under_load(world: &World) {
    nic(world, "nico", 2);
    world.sh(
        "ip link add tun type vxlan external dstport 4789; ip link set tun up; tc qdisc add dev tun ingress",
    );
    filter(
        world,
        "tun",
        1,
        "protocol ip flower enc_key_id 7 enc_dst_port 4789 action mirred egress redirect dev nico_0",
    );
    filter(world, "nico_0", 1, "protocol ip flower action ct zone 9 pipe goto chain 1");
    filter(
        world,
        "nico_0",
        2,
        "protocol ip chain 1 flower action sample rate 2 group 9 pipe mirred egress redirect dev nico_1",
    );
    filter(world, "nico_1", 1, "protocol ip flower skip_sw action mirred egress redirect dev nico_0");
    let _flood = world.spawn(&format!("ip netns exec h1 ping -q -f {}", ip(2)), "flood.txt");
    let _rules = world.spawn(
        "bash -c 'n=0; while tc filter add dev nico_1 ingress prio 7 protocol ip flower dst_ip 10.8.0.$((n++ % 250)) action drop; do \
           tc filter del dev nico_1 ingress prio 7; done'",
        "rules.txt",
    );
    std::thread::sleep(Duration::from_secs(1));
    world.sh(&format!("echo nico > {FILES}/del"));
    assert!(!world.sh("ip -br link").contains("nico"));
    assert!(world.try_sh(&format!("ls {FILES}/nico")).status != Some(0));
    // And again, by the end of its namespace: the test's own.
    world.sh(&format!("echo 'nico 2' > {FILES}/new"));
}
