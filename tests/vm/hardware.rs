//! Flows in hardware: the switch on the simulated NIC of `tests/simnic`, with rules that software does not run
//! (`tc-policy=skip_sw`), so that what arrives went through the NIC; but for tunnels, on whose devices the kernel refuses such rules.

use crate::Test;
use crate::simnic::{FILES, counter, hosts, pings, stream};
use crate::world::{World, ip, mac};

pub const TESTS: &[Test] = &[
    Test::offloading("hardware::forwards", forwards),
    Test::offloading("hardware::vlan", vlan),
    Test::offloading("hardware::rewrites", rewrites),
    Test::offloading("hardware::vxlan", vxlan),
    Test::offloading("hardware::geneve", geneve),
    Test::offloading("hardware::meter", meter),
    Test::offloading("hardware::mirror", mirror),
    Test::offloading("hardware::sflow", sflow),
    Test::offloading("hardware::full", full),
    Test::offloading("hardware::capabilities", capabilities),
];

/// A bridge with the representors of `vfs` VFs as ports 1, 2, …
pub fn bridge(world: &World, name: &str, vfs: u8, policy: &str) {
    hosts(world, name, vfs);
    for number in 1..=vfs {
        // Nobody but tests is to be counted.
        world.at(&format!("h{number}"), "sh -c 'echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6'");
    }
    switch(world, name, vfs, policy);
}

fn switch(world: &World, name: &str, vfs: u8, policy: &str) {
    world.sh(&format!(
        // On a busy machine, ten seconds may go by between a flow's packets.
        "ovs-vsctl set open_vswitch . other_config:tc-policy={policy} other_config:hw-offload=true other_config:max-idle=60000"
    ));
    world.bridge("br0");
    for number in 1..=vfs {
        world.sh(&format!(
            "ovs-vsctl add-port br0 {name}_{index} -- set interface {name}_{index} ofport_request={number}",
            index = number - 1
        ));
    }
}

/// Pings until rules of the NIC carry them: three in a row that the NIC alone forwards.
pub fn settles(world: &World, name: &str, from: &str, to: &str) {
    world.until(&format!("{from} reaches {to} by hardware"), || {
        let before = counter(world, name, "forwarded");
        let ran = world.try_sh(&format!("ip netns exec {from} ping -q -c 3 -i 0.1 -W 1 {to}"));
        ran.status == Some(0) && counter(world, name, "forwarded") >= before + 6
    });
}

fn forwards(world: &World) {
    bridge(world, "hwa", 2, "skip_sw");
    settles(world, "hwa", "h1", &ip(2));
    let shown = world.placed("offloaded");
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
    world.sh("ovs-vsctl set open_vswitch . other_config:max-idle=2000");
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
    let shown = world.placed("offloaded");
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

/// Tunnel `kind` from the bridge, whose only VF is h1, to device `tun` of the wire's end, where 10.1.0.9 is.
fn tunnel(world: &World, name: &str, kind: &str, port: u16) {
    bridge(world, name, 1, "none");
    world.sh(&format!(
        "ovs-vsctl add-port br0 tn0 -- set interface tn0 type={kind} options:remote_ip=172.31.1.1 options:key=7 ofport_request=9
         ip -n w link add tun address {} type {kind} id 7 remote 172.31.1.100 dstport {port}
         # Nobody but pings is to be counted.
         ip netns exec w sh -c 'echo 1 > /proc/sys/net/ipv6/conf/tun/disable_ipv6'
         ip netns exec h1 sh -c 'echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6'
         echo 1 > /proc/sys/net/ipv6/conf/br0/disable_ipv6
         ip -n w link set tun up mtu 1450; ip -n w addr add 10.1.0.9/24 dev tun
         ip -n w neigh add {} lladdr {} dev tun nud permanent
         ip -n h1 neigh add 10.1.0.9 lladdr {} dev eth0 nud permanent; ip -n h1 link set eth0 mtu 1450",
        mac(9),
        ip(1),
        mac(1),
        mac(9)
    ));
    // Both directions, and no longer by the kernel's device, which asks for the other end's address first.
    world.until("h1 reaches the other end by hardware", || {
        let before = [counter(world, name, "encapsulated"), counter(world, name, "decapsulated")];
        let ran = world.try_sh("ip netns exec h1 ping -q -c 3 -i 0.1 -W 1 10.1.0.9");
        let after = [counter(world, name, "encapsulated"), counter(world, name, "decapsulated")];
        ran.status == Some(0) && after == before.map(|count| count + 3)
    });
    let before = [counter(world, name, "encapsulated"), counter(world, name, "decapsulated")];
    let all = || {
        let counters = world.sh(&format!("cat {FILES}/{name}/counters"));
        format!("{}\n{}{}", world.sh("date +%T.%N"), world.placed("all"), counters)
    };
    let state = all();
    pings(world, "h1", "10.1.0.9");
    let after = [counter(world, name, "encapsulated"), counter(world, name, "decapsulated")];
    assert_eq!(after, before.map(|count| count + 10), "{state}\n{}", all());
    stream(world, "h1", "10.1.0.9", 5001, "w", 5001);
    assert_eq!(counter(world, name, "broken"), 0);
    let shown = world.placed("offloaded");
    assert!(shown.contains("set(tunnel(tun_id=0x7,dst=172.31.1.1"), "{shown}");
    assert!(shown.contains("tunnel(tun_id=0x7,src=172.31.1.1,dst=172.31.1.100"), "{shown}");
}

fn vxlan(world: &World) {
    tunnel(world, "hwd", "vxlan", 4789);
}

fn geneve(world: &World) {
    tunnel(world, "hwf", "geneve", 6081);
}

/// Datagrams of 1000 bytes for four seconds, at 4 Mbit/s through a meter of 2 Mbit/s.
fn meter(world: &World) {
    bridge(world, "hwg", 2, "skip_sw");
    world.sh("ovs-ofctl -O OpenFlow13 add-meter br0 'meter=5,kbps,burst,stats,bands=type=drop,rate=2000,burst_size=200'
              ovs-ofctl del-flows br0
              ovs-ofctl -O OpenFlow13 add-flow br0 'priority=9,in_port=1,udp,tp_dst=5201,actions=meter:5,output:2'
              ovs-ofctl add-flow br0 'priority=1,in_port=1,actions=output:2'
              ovs-ofctl add-flow br0 'priority=1,in_port=2,actions=output:1'");
    settles(world, "hwg", "h1", &ip(2));
    let _server = world.spawn("ip netns exec h2 iperf3 -s -1 -J", "iperf.txt");
    world.until("iperf3 listens", || world.at("h2", "ss -tln").contains(":5201 "));
    let before = counter(world, "hwg", "policed");
    world.at("h1", &format!("iperf3 -c {} -u -b 4M -l 1000 -t 4", ip(2)));
    let policed = counter(world, "hwg", "policed") - before;
    // Two thousand datagrams, of which a thousand pass, and the burst.
    assert!((500..1500).contains(&policed), "{policed} of 2000 did not pass");
    let shown = world.placed("offloaded");
    assert!(shown.contains("actions:meter("), "{shown}{}", world.placed("ovs"));
    world.until("the meter counts what its policer counts", || {
        let stats = world.sh("ovs-ofctl -O OpenFlow13 meter-stats br0 meter=5");
        let dropped = stats.split("packet_count:").nth(1).and_then(|rest| rest.split_whitespace().next());
        dropped.and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count >= policed)
    });
    // It goes with its bridge.
    let policers = || world.sh(&format!("cat {FILES}/hwg/policers"));
    assert_ne!(policers(), "");
    world.sh("ovs-vsctl --timeout=60 del-br br0");
    assert_eq!(policers(), "");
}

fn mirror(world: &World) {
    bridge(world, "hwh", 3, "skip_sw");
    world.sh("ovs-vsctl -- --id=@p get port hwh_2 -- --id=@m create mirror name=m select_all=true output_port=@p -- set bridge br0 mirrors=@m");
    settles(world, "hwh", "h1", &ip(2));
    let before = counter(world, "hwh", "forwarded");
    let seen = world.watch("h3", "eth0", "icmp", || pings(world, "h1", &ip(2)));
    assert_eq!(seen.matches("ICMP echo ").count(), 20, "{seen}");
    // Ten there and ten back, and a copy of each.
    assert_eq!(counter(world, "hwh", "forwarded"), before + 40);
}

/// Packets that pktgen sends: enough that a sample of one in 64 is one of 15 625, give or take 125.
const SAMPLED: u64 = 1_000_000;

/// One in 64 packets of what the NIC alone forwards comes to collectors: within 5 %, and as `tshark` and nfdump's collector read it.
fn sflow(world: &World) {
    bridge(world, "hwi", 2, "skip_sw");
    world.sh("ovs-ofctl del-flows br0; ovs-ofctl add-flow br0 in_port=1,actions=output:2; ovs-ofctl add-flow br0 in_port=2,actions=output:1
              mkdir nf; modprobe pktgen");
    let capture = world.spawn("tcpdump -i lo -w sflow.pcap -U udp port 6343", "tcpdump.txt");
    world.until("tcpdump listens", || world.read("tcpdump.txt").contains("listening on"));
    let collector = world.spawn("sfcapd -w nf -p 6343 -b 127.0.0.1 -B 8000000", "sfcapd.txt");
    world.until("sfcapd listens", || world.sh("ss -uln").contains("127.0.0.1:6343"));
    world.sh("ovs-vsctl -- --id=@s create sflow agent=lo target='\"127.0.0.1:6343\"' sampling=64 polling=0 -- set bridge br0 sflow=@s");
    settles(world, "hwi", "h1", &ip(2));
    let shown = world.placed("offloaded");
    assert!(shown.contains("actions:sample(sample=1.6%,actions(userspace("), "{shown}");
    let before = counter(world, "hwi", "forwarded");
    let pgctrl = format!(
        "cd /proc/net/pktgen; echo rem_device_all > kpktgend_0; echo add_device eth0 > kpktgend_0
         for s in 'count {SAMPLED}' 'clone_skb 1000' 'pkt_size 100' 'delay 0' 'dst {}' 'dst_mac {}' 'src_min {}' 'src_max {}'
         do echo \"$s\" > eth0; done; echo start > pgctrl; cat eth0",
        ip(2), mac(2), ip(1), ip(1)
    );
    std::fs::write(world.switch.file("pktgen.sh"), pgctrl).expect("the sandbox is writable");
    let told = world.at("h1", "sh pktgen.sh");
    assert!(told.contains("OK:"), "{told}");
    world
        .until("the NIC has forwarded everything", || counter(world, "hwi", "forwarded") >= before + SAMPLED);
    let expected = SAMPLED / 64;
    world.until("all samples are heard", || {
        let told = world.sh("ovs-appctl offload/samples");
        let packets = told.lines().find_map(|line| line.strip_prefix("packets: ")?.parse::<u64>().ok());
        packets.is_some_and(|packets| packets == counter(world, "hwi", "sampled"))
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    let told = world.sh("ovs-appctl offload/samples");
    assert!(told.contains("unknown: 0\nlost: 0\n"), "{told}");
    world.sh(&format!("kill -INT {}; kill -TERM {}; sleep 2", capture.0.id(), collector.0.id()));
    let near = |count: u64| count.abs_diff(expected) * 20 <= expected;
    let rates =
        world.sh("tshark -r sflow.pcap -d udp.port==6343,sflow -T fields -e sflow.flow_sample.sampling_rate");
    let samples = rates.split([',', '\n']).filter(|rate| *rate == "64").count() as u64;
    let bad = world.sh("tshark -r sflow.pcap -d udp.port==6343,sflow -Y _ws.malformed | wc -l");
    assert_eq!(bad.trim(), "0");
    let flows = world.sh("nfdump -q -R nf -o 'fmt:%pkt' 'dst ip 10.1.0.2 and proto udp' | wc -l");
    let collected: u64 = flows.trim().parse().expect("wc prints a number");
    println!("{SAMPLED} packets, {expected} samples expected, tshark {samples}, sfcapd {collected}");
    assert!(near(samples) && near(collected), "of {expected} tshark read {samples}, sfcapd {collected}");
}

/// What a NIC lacks is known before flows ask for it, and is what explanations tell.
fn capabilities(world: &World) {
    hosts(world, "hwj", 2);
    // FLOW_ACTION_SAMPLE.
    world.sh(&format!("echo {} > {FILES}/hwj/refuse_actions", 1 << 21));
    switch(world, "hwj", 2, "skip_sw");
    let told = || world.sh("ovs-appctl offload/capabilities");
    world.until("the NIC was asked", || told().contains("hwj_0") && told().contains("hwj_1"));
    let text = told();
    let missing = |of: &str| {
        let of = format!("  missing: {of}: ");
        text.lines().filter_map(|line| line.strip_prefix(&of)).collect::<Vec<_>>()
    };
    assert_eq!(missing("sample"), ["simnic: firmware level support is missing for an action"; 2], "{text}");
    assert_eq!(missing("set(skb_mark)"), ["act_skbedit: Unsupported skbedit option offload"; 2], "{text}");
    assert!(text.contains("  keys: eth vlan ") && text.contains(" ct ct(commit) ct(nat) meter"), "{text}");
    let json = world.sh("ovs-appctl --format json offload/capabilities");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let of = json.as_array().and_then(|all| all.iter().find(|one| one["name"] == "hwj_0")).expect("hwj_0");
    assert_eq!(of["hardware"], true, "{of}");
    let lacks = of["missing"].as_array().expect("a list of what is missing");
    assert!(lacks.iter().any(|lack| lack["name"] == "sample"), "{of}");
    // Nothing is left of the questions: what rules there are are flows'.
    world.until("rules are those of flows", || {
        let hardware =
            world.placed("all").lines().filter(|flow| flow.ends_with("placement:hardware")).count();
        counter(world, "hwj", "rules") == hardware as u64
    });
    world.sh("ovs-ofctl del-flows br0
              ovs-ofctl add-flow br0 'in_port=1,tcp,actions=dec_ttl,output:2'
              ovs-ofctl add-flow br0 'in_port=1,udp,actions=output(port=2,max_len=100)'");
    let explain = |flow: &str| world.sh(&format!("ovs-appctl offload/explain br0 '{flow}'"));
    let tcp = explain("in_port=1,tcp,nw_ttl=64");
    assert!(tcp.contains("Placement: hardware\nRule: dev hwj_0 chain 0 protocol 0x0800 match "), "{tcp}");
    assert!(tcp.contains(",ip_ttl,ip_flags actions pedit,csum,mirred"), "{tcp}");
    let udp = explain("in_port=1,udp");
    assert!(udp.ends_with("Placement: software\nWhy: no action trunc\n"), "{udp}");
    world.sh("ovs-vsctl -- --id=@s create sflow agent=lo target='\"127.0.0.1:6343\"' sampling=64 -- set bridge br0 sflow=@s");
    let sampled = explain("in_port=1,tcp,nw_ttl=64");
    let why = "Why: missing in hardware: sample: simnic: firmware level support is missing for an action";
    assert!(sampled.contains(why), "{sampled}");
    // Dumps for programs tell as much.
    world.at("h1", &format!("ping -q -c 1 -W 1 {} || true", ip(2)));
    let json = world.sh("ovs-appctl --format json dpctl/dump-flows --names --why");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let all = json.as_array().expect("a list of flows");
    assert!(!all.is_empty());
    for flow in all {
        assert!(flow["placement"] == "hardware" || flow["why"].is_string(), "{flow}");
    }
}

/// A NIC without room: what it refuses runs in software, and says why.
fn full(world: &World) {
    bridge(world, "hwe", 2, "skip_sw");
    // What was there before goes.
    world.sh(&format!(
        "echo 0 > {FILES}/hwe/max_rules; ovs-vsctl set open_vswitch . other_config:max-idle=2000"
    ));
    world.until("no rule is left", || counter(world, "hwe", "rules") == 0);
    // What comes now is to be there for as long as a busy machine takes to look at it.
    world.sh("ovs-vsctl set open_vswitch . other_config:max-idle=60000");
    world.ping("h1", &ip(2));
    let shown = world.placed("ovs");
    assert!(shown.contains("placement:software, why:") && shown.contains("the table is full"), "{shown}");
    assert_eq!(counter(world, "hwe", "rules"), 0);
}
