//! Tunnels between the switch and hosts that speak them with the kernel's own devices.

use crate::Test;
use crate::world::World;

pub const TESTS: &[Test] = &[
    Test::smoke("tunnels::vxlan", vxlan),
    Test::new("tunnels::vxlan_ipv6", vxlan_ipv6),
    Test::new("tunnels::vxlan_keys_by_flow", vxlan_keys_by_flow),
    Test::new("tunnels::vxlan_two_remotes_one_port", vxlan_two_remotes_one_port),
    Test::smoke("tunnels::geneve", geneve),
    Test::new("tunnels::geneve_options", geneve_options),
    Test::new("tunnels::gre", gre),
    Test::new("tunnels::ip6gre", ip6gre),
    Test::new("tunnels::erspan", erspan),
    Test::new("tunnels::tos_ttl_and_csum", tos_ttl_and_csum),
    Test::new("tunnels::appear_and_vanish", appear_and_vanish),
];

/// Bridge br0 (its own address 10.1.1.100), an underlay to namespace `far` (172.31.1.1 there, .100 here), and in `far` the
/// device `tun` with 10.1.1.1. `link` is what makes it, `options` what our side sets.
fn tunnel(world: &World, link: &str, options: &str) {
    world.bridge("br0");
    underlay(world);
    far_device(world, link);
    world.sh(&format!(
        "ip addr add 10.1.1.100/24 dev br0; ovs-vsctl add-port br0 at -- set interface at {options}"
    ));
}

fn underlay(world: &World) {
    world.sh("ip netns add far
         ip link add under type veth peer name eth0 netns far
         ethtool -K under tx off > /dev/null; ip netns exec far ethtool -K eth0 tx off > /dev/null
         ip link set under mtu 1600 up; ip -n far link set eth0 mtu 1600 up; ip -n far link set lo up
         ip addr add 172.31.1.100/24 dev under; ip -n far addr add 172.31.1.1/24 dev eth0
         ip addr add fc00:100::100/64 dev under nodad; ip -n far addr add fc00:100::1/64 dev eth0 nodad");
}

fn far_device(world: &World, link: &str) {
    world.sh(&format!(
        "ip -n far link add tun {link}; ip -n far link set tun mtu 1450 up; ip -n far addr add 10.1.1.1/24 dev tun"
    ));
}

/// Ping and TCP both ways between our bridge and the far end.
fn passes(world: &World) {
    world.ping("far", "10.1.1.100");
    let text = world.sh("ping -q -c 5 -i 0.1 -W 3 10.1.1.1");
    assert!(text.contains(" 0% packet loss"), "{text}");
    let text = world.sh("ping -q -s 1300 -c 3 -i 0.1 -W 3 10.1.1.1");
    assert!(text.contains(" 0% packet loss"), "{text}");
    stream(world);
}

/// TCP from the far end to the bridge's own address.
fn stream(world: &World) {
    let data = "0123456789abcdef".repeat(1 << 14);
    std::fs::write(world.switch.file("stream.in"), &data).expect("the sandbox is writable");
    let mut server = world.spawn("nc -l 5001 > stream.out", "nc.out");
    world.until("the server listens", || world.sh("ss -tln").contains(":5001 "));
    world.sh("ip netns exec far nc -N -w 20 10.1.1.100 5001 < stream.in");
    world.until("the server has everything", || matches!(server.0.try_wait(), Ok(Some(_))));
    assert!(world.read("stream.out") == data, "the stream brought other data");
}

/// One ping from our side, as the underlay sees it.
fn outer(world: &World, filter: &str) -> String {
    world.watch("far", "eth0", filter, || {
        world.sh("ping -q -c 1 -W 3 10.1.1.1");
    })
}

fn vxlan(world: &World) {
    tunnel(
        world,
        "type vxlan id 7 remote 172.31.1.100 dstport 4789",
        "type=vxlan options:remote_ip=172.31.1.1 options:key=7",
    );
    passes(world);
    let seen = outer(world, "udp port 4789");
    assert!(seen.contains("172.31.1.100.") && seen.contains("vni 7"), "{seen}");
    let shown = world.sh("ovs-appctl dpctl/show");
    assert!(shown.contains("vxlan_sys_4789 (vxlan"), "{shown}");
    let held = world.flows();
    assert!(held.contains("tunnel(tun_id=0x7,src=172.31.1.1,dst=172.31.1.100,"), "{held}");
    assert!(held.contains("set(tunnel(tun_id=0x7,dst=172.31.1.1,"), "{held}");
}

fn vxlan_ipv6(world: &World) {
    tunnel(
        world,
        "type vxlan id 7 remote fc00:100::100 dstport 4789 udp6zerocsumtx udp6zerocsumrx",
        "type=vxlan options:remote_ip='\"fc00:100::1\"' options:key=7",
    );
    passes(world);
    let seen = outer(world, "ip6 and udp port 4789");
    assert!(seen.contains("fc00:100::100.") && seen.contains("vni 7"), "{seen}");
}

fn vxlan_keys_by_flow(world: &World) {
    tunnel(
        world,
        "type vxlan id 0x1234 remote 172.31.1.100 dstport 4790",
        "type=vxlan ofport_request=5 options:remote_ip=flow options:key=flow options:dst_port=4790",
    );
    world.sh(
        "ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 'in_port=local,actions=set_field:0x1234->tun_id,set_field:172.31.1.1->tun_dst,output:5'
         ovs-ofctl add-flow br0 'in_port=5,tun_id=0x1234,tun_src=172.31.1.1,actions=local'",
    );
    passes(world);
    let seen = outer(world, "udp port 4790");
    assert!(seen.contains(".4790: "), "{seen}");
    // Another key finds no flow.
    world.sh("ovs-ofctl mod-flows br0 'in_port=local,actions=set_field:0x9999->tun_id,set_field:172.31.1.1->tun_dst,output:5'");
    let ran = world.try_sh("ping -q -c 2 -i 0.2 -W 1 10.1.1.1");
    assert!(ran.stdout.contains("100% packet loss"), "{}", ran.text());
}

fn vxlan_two_remotes_one_port(world: &World) {
    tunnel(
        world,
        "type vxlan id 7 remote 172.31.1.100 dstport 4789",
        "type=vxlan options:remote_ip=172.31.1.1 options:key=7",
    );
    world.sh(
        "ip -n far addr add 172.31.1.2/24 dev eth0
         ip -n far link add tun2 type vxlan id 8 local 172.31.1.2 remote 172.31.1.100 dstport 4789
         ip -n far link set tun2 mtu 1450 up; ip netns add inner; ip -n far link set tun2 netns inner
         ip -n inner link set tun2 up; ip -n inner addr add 10.1.1.2/24 dev tun2
         ovs-vsctl add-port br0 at2 -- set interface at2 type=vxlan options:remote_ip=172.31.1.2 options:key=8",
    );
    passes(world);
    world.ping("inner", "10.1.1.100");
    let shown = world.sh("ovs-appctl dpctl/show");
    assert_eq!(shown.matches("vxlan_sys_4789").count(), 1, "{shown}");
    // What came by one tunnel does not leave by the same; between the two it may pass.
    world.ping("inner", "10.1.1.1");
    let learned = world.sh("ovs-appctl fdb/show br0");
    assert!(learned.lines().count() >= 4, "{learned}");
    world.sh("ovs-vsctl del-port br0 at2");
    world.ping("far", "10.1.1.100");
    world.no_ping("inner", "10.1.1.100");
}

fn geneve(world: &World) {
    tunnel(world, "type geneve id 0 remote 172.31.1.100", "type=geneve options:remote_ip=172.31.1.1");
    passes(world);
    let seen = outer(world, "udp port 6081");
    assert!(seen.contains("Geneve"), "{seen}");
}

/// Runs commands of the switch that stands in namespace `far`.
const FAR: &str = "far() {
    env OVS_RUNDIR=$PWD/far OVS_DBDIR=$PWD/far OVS_SYSCONFDIR=$PWD/far OVS_LOGDIR=$PWD/far ip netns exec far \"$@\"
}
";

fn geneve_options(world: &World) {
    // Another switch at the far end, for Linux alone neither sets nor reads options.
    world.bridge("br0");
    underlay(world);
    world.sh(&format!(
        "{FAR}
         mkdir far; cp conf.db far/conf.db
         far ovsdb-tool compact far/conf.db
         far ovsdb-server --detach --no-chdir --pidfile --log-file -vconsole:off --remote=punix:$PWD/far/db.sock far/conf.db
         far ovs-vsctl --no-wait emer-reset -- --if-exists del-br br0
         far ovs-vswitchd --detach --no-chdir --pidfile --log-file -vconsole:off unix:$PWD/far/db.sock
         far ovs-vsctl add-br fbr
         ip -n far link set fbr up; ip -n far addr add 10.1.1.1/24 dev fbr; ip addr add 10.1.1.100/24 dev br0
         peer() {{
             \"$1\" ovs-vsctl add-port $2 at -- set interface at type=geneve ofport_request=5 options:key=flow options:remote_ip=$3
             \"$1\" ovs-ofctl add-tlv-map $2 '{{class=0xffff,type=0,len=4}}->tun_metadata0,{{class=0xffff,type=1,len=8}}->tun_metadata1'
             \"$1\" ovs-ofctl del-flows $2
             \"$1\" ovs-ofctl add-flow $2 'in_port=local,actions=set_field:0xcafe->tun_metadata0,set_field:0x1122334455->tun_metadata1,set_field:9->tun_id,output:5'
             \"$1\" ovs-ofctl add-flow $2 'priority=9,in_port=5,tun_id=9,tun_metadata0=0xcafe,tun_metadata1=0x1122334455,actions=local'
         }}
         peer env br0 172.31.1.1; peer far fbr 172.31.1.100"
    ).replace("\\\"", "\""));
    world.ping("far", "10.1.1.100");
    let held = world.flows();
    assert!(held.contains("geneve({class=0xffff,type=0,len=4,0xcafe"), "{held}");
    let mapped = world.sh("ovs-ofctl dump-tlv-map br0");
    assert!(mapped.contains("0xffff") && mapped.contains("tun_metadata1"), "{mapped}");
    let counted = world.sh("ovs-appctl revalidator/wait; ovs-ofctl dump-flows br0 tun_metadata0=0xcafe");
    assert!(counted.contains("n_packets=") && !counted.contains("n_packets=0,"), "{counted}");
    world.sh(&format!(
        "{FAR} far ovs-appctl -t ovs-vswitchd exit --cleanup; kill $(cat far/ovsdb-server.pid)"
    ));
}

fn gre(world: &World) {
    tunnel(
        world,
        "type gretap remote 172.31.1.100 local 172.31.1.1 key 5",
        "type=gre options:remote_ip=172.31.1.1 options:key=5",
    );
    passes(world);
    let seen = outer(world, "proto gre");
    assert!(seen.contains("GREv0") && seen.contains("key=0x5"), "{seen}");
    let shown = world.sh("ovs-appctl dpctl/show");
    assert!(shown.contains("gre_sys (gre"), "{shown}");
}

fn ip6gre(world: &World) {
    tunnel(
        world,
        "type ip6gretap remote fc00:100::100 local fc00:100::1",
        "type=ip6gre options:remote_ip='\"fc00:100::1\"'",
    );
    passes(world);
    let seen = outer(world, "ip6 proto gre or ip6");
    assert!(seen.contains("GREv0"), "{seen}");
}

fn erspan(world: &World) {
    tunnel(
        world,
        "type erspan seq key 1 erspan_ver 1 erspan 3 remote 172.31.1.100 local 172.31.1.1",
        "type=erspan options:remote_ip=172.31.1.1 options:key=1 options:erspan_ver=1 options:erspan_idx=3",
    );
    passes(world);
    let seen = outer(world, "proto gre");
    assert!(seen.contains("gre-proto-0x88be") || seen.contains("ERSPAN"), "{seen}");
}

fn tos_ttl_and_csum(world: &World) {
    tunnel(
        world,
        "type vxlan id 7 remote 172.31.1.100 dstport 4789",
        "type=vxlan options:remote_ip=172.31.1.1 options:key=7 options:tos=inherit options:ttl=33 options:csum=true options:df_default=false",
    );
    world.ping("far", "10.1.1.100");
    let seen = world.watch("far", "eth0", "udp port 4789", || {
        world.sh("ping -q -c 1 -W 3 -Q 0x20 10.1.1.1");
    });
    let sent: Vec<&str> = seen
        .lines()
        .filter(|line| line.contains("tos 0x20, ttl 33,") && line.contains("flags [none]"))
        .collect();
    assert!(!sent.is_empty(), "{seen}");
    let held = world.flows();
    assert!(held.contains("flags(csum|key)"), "{held}");
}

fn appear_and_vanish(world: &World) {
    world.bridge("br0");
    underlay(world);
    let devices = || {
        world.sh("ip -br link show type vxlan; ip -br link show type geneve; ip -br link show type gretap")
    };
    for (kind, device) in [("vxlan", "vxlan_sys_4789"), ("geneve", "genev_sys_6081"), ("gre", "gre_sys")] {
        world.sh(&format!(
            "ovs-vsctl add-port br0 t1 -- set interface t1 type={kind} options:remote_ip=172.31.1.1 \
             -- add-port br0 t2 -- set interface t2 type={kind} options:remote_ip=172.31.1.2"
        ));
        world.until("the device is there", || devices().contains(device));
        let listed = world.sh("ovs-appctl ofproto/list-tunnels");
        assert!(listed.contains("172.31.1.1") && listed.contains("172.31.1.2"), "{listed}");
        world.sh("ovs-vsctl del-port br0 t1");
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(devices().contains(device));
        world.sh("ovs-vsctl del-port br0 t2");
        world.until("the device is gone", || !devices().contains(device));
    }
    // What cannot be is told in the row.
    let ran = world.try_sh("ovs-vsctl --timeout=10 add-port br0 t3 -- set interface t3 type=vxlan");
    assert_eq!(ran.status, Some(if world.older { 0 } else { 65 }), "{}", ran.text());
    let error = world.sh("ovs-vsctl get interface t3 error");
    let told = if world.older {
        "could not set configuration"
    } else {
        "vxlan type requires valid 'remote_ip' argument"
    };
    assert!(error.contains(told), "{error}");
}
