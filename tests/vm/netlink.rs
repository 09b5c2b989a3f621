//! The same session on our switch and on the peer's: what they ask of the kernel must be the same.

use std::process::Command;

use crate::record::{self, Entry};
use crate::world::{World, ip, mac};
use crate::{Test, apart};

pub const TESTS: &[Test] = &[Test::bare("netlink::same_requests", same_requests)];

/// Played by [`same_requests`], once on each side.
pub const PARTS: &[Test] = &[Test::bare("netlink::session", session)];

/// The steps: a name, and the shell commands of it.
const STEPS: &[(&str, &str)] = &[
    ("bridge", "ovs-vsctl add-br br0 -- set bridge br0 other-config:hwaddr=0e:00:00:00:00:99"),
    ("ports", "for h in a b c; do ovs-vsctl add-port br0 p-$h; done"),
    ("normal", "ping_from a 10.1.0.2"),
    ("back", "ping_from b 10.1.0.1"),
    ("drop", "ovs-ofctl add-flow br0 priority=5,icmp,actions=drop; no_ping a 10.1.0.3"),
    ("fields", "ovs-ofctl mod-flows br0 icmp,actions=mod_nw_tos:32,dec_ttl,normal; ping_from a 10.1.0.3"),
    ("tags", "ovs-ofctl mod-flows br0 icmp,actions=mod_vlan_vid:9,normal; no_ping a 10.1.0.2"),
    ("access", "ovs-ofctl del-flows br0 icmp; ovs-vsctl set port p-a tag=7 -- set port p-b tag=7; ping_from a 10.1.0.2"),
    ("trunk", "ovs-vsctl clear port p-b tag -- set port p-b trunks=7; no_ping a 10.1.0.2"),
    ("plain again", "ovs-vsctl clear port p-a tag -- clear port p-b trunks; ping_from a 10.1.0.2"),
    ("controller", "ovs-ofctl add-flow br0 priority=5,icmp,actions=controller,normal; ping_from a 10.1.0.2; ovs-ofctl del-flows br0 icmp"),
    ("meter", "ovs-ofctl -O OpenFlow13 add-meter br0 meter=1,kbps,band=type=drop,rate=1000000
        ovs-ofctl -O OpenFlow13 add-flow br0 priority=5,icmp,actions=meter:1,normal; ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp; ovs-ofctl -O OpenFlow13 del-meters br0"),
    ("group", "ovs-ofctl -O OpenFlow15 add-group br0 group_id=1,type=select,selection_method=dp_hash,bucket=output:2
        ovs-ofctl add-flow br0 priority=5,icmp,in_port=1,actions=group:1; ping_from a 10.1.0.2; ovs-ofctl del-flows br0 icmp"),
    ("tracked", "ovs-ofctl add-flow br0 'table=0,priority=5,icmp,ct_state=-trk,actions=ct(table=1,zone=4)'
        ovs-ofctl add-flow br0 'table=1,priority=5,icmp,ct_state=+new,actions=ct(commit,zone=4,exec(load:3->NXM_NX_CT_MARK[])),normal'
        ovs-ofctl add-flow br0 'table=1,priority=5,icmp,ct_state=+est,actions=normal'; ping_from a 10.1.0.2; ovs-ofctl del-flows br0 icmp; ovs-ofctl del-flows br0 table=1"),
    ("translated", "ovs-ofctl add-flow br0 'table=0,priority=5,icmp,in_port=1,actions=ct(commit,zone=5,nat(src=10.1.0.9)),2'
        ovs-ofctl add-flow br0 'table=0,priority=5,icmp,in_port=2,actions=ct(zone=5,nat,table=1)'
        ovs-ofctl add-flow br0 'table=1,priority=5,icmp,ct_state=+est,actions=1'; ping_from a 10.1.0.2; ovs-ofctl del-flows br0 icmp; ovs-ofctl del-flows br0 table=1"),
    ("larger", "ovs-ofctl add-flow br0 'priority=5,icmp,in_port=1,actions=check_pkt_larger(900)->reg0[0],resubmit(,1)'
        ovs-ofctl add-flow br0 'table=1,reg0=1,actions=3'; ovs-ofctl add-flow br0 'table=1,priority=1,actions=2'
        ping_from a 10.1.0.2; ovs-ofctl del-flows br0 icmp; ovs-ofctl del-flows br0 table=1"),
    ("truncated", "ovs-ofctl add-flow br0 'priority=5,icmp,in_port=1,actions=output(port=3,max_len=80),2'; ping_from a 10.1.0.2; ovs-ofctl del-flows br0 icmp"),
    ("clone", "ovs-ofctl add-flow br0 'priority=5,icmp,in_port=1,actions=clone(mod_dl_dst:0e:00:00:00:00:77,3),2'; ping_from a 10.1.0.2; ovs-ofctl del-flows br0 icmp"),
    ("fragments", "big_ping a 10.1.0.2"),
    ("mirror", "ovs-vsctl -- --id=@p get port p-c -- --id=@m create mirror name=m select_all=true output_port=@p -- set bridge br0 mirrors=@m
        ping_from a 10.1.0.2; ovs-vsctl clear bridge br0 mirrors"),
    ("sflow", "ovs-vsctl -- --id=@s create sflow agent=lo header=128 sampling=10 polling=100 'targets=\"127.0.0.1:6343\"' -- set bridge br0 sflow=@s
        ping_from a 10.1.0.2; ovs-vsctl clear bridge br0 sflow"),
    ("tunnel", "ip addr add 172.31.1.100/24 dev p-t; ovs-vsctl add-port br0 vx -- set interface vx type=vxlan options:remote_ip=172.31.1.1 options:key=7 ofport_request=9
        ovs-ofctl add-flow br0 priority=5,icmp,in_port=1,actions=9,2; ping_from a 10.1.0.2; ovs-ofctl del-flows br0 icmp; ovs-vsctl del-port br0 vx"),
    ("patch", "ovs-vsctl add-br br1 -- set bridge br1 other-config:hwaddr=0e:00:00:00:00:98 -- add-port br0 pa -- set interface pa type=patch options:peer=pb \
        -- add-port br1 pb -- set interface pb type=patch options:peer=pa; ping_from a 10.1.0.2; ovs-vsctl del-port br0 pa -- del-br br1"),
    ("away", "ovs-vsctl del-port br0 p-c; ovs-vsctl del-br br0"),
];

const HELPERS: &str = "
    ping_from() { ip netns exec $1 ping -q -c 1 -W 5 $2 > /dev/null; }
    no_ping() { ! ip netns exec $1 ping -q -c 1 -W 1 $2 > /dev/null; }
    big_ping() { ip netns exec $1 ping -q -c 1 -s 2000 -W 5 $2 > /dev/null; }
";

/// Plays the session on this process's daemons; prints what was asked of the kernel.
fn session(world: &World) {
    world.sh("sysctl -q net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        ip link add nlmon0 type nlmon; ip link set nlmon0 up");
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        world.sh(&format!(
            "ip netns add {name}; ip netns exec {name} sysctl -q net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
             ip link add p-{name} type veth peer name eth0 netns {name}; ip link set p-{name} up
             ip -n {name} link set eth0 address {} up; ip -n {name} addr add {}/24 dev eth0",
            mac(number),
            ip(number)
        ));
        for other in [1, 2, 3, 9] {
            let station = if other == 9 { mac(1) } else { mac(other) };
            world.sh(&format!("ip -n {name} neigh replace {} lladdr {station} dev eth0", ip(other)));
        }
    }
    world.sh("ip link add p-t type dummy; ip link set p-t up; ip neigh add 172.31.1.1 lladdr 0e:00:00:00:00:31 dev p-t");
    let mut dump = world.spawn("tcpdump -i nlmon0 -w requests.pcap -U -B 32768 -s 262144", "tcpdump.txt");
    world.until("tcpdump listens", || world.read("tcpdump.txt").contains("listening on"));
    world.switch.start_database();
    // No flow ends because the machine is slow.
    world.sh("ovs-vsctl --no-wait set open_vswitch . other_config:max-idle=100000000");
    world.switch.start_switch(&[]);
    for (name, script) in STEPS {
        world.sh(&format!("ip link set dev lo alias 'step {name}'"));
        world.sh(&format!("{HELPERS}{script}"));
        // Without a bridge there is nothing to wait for.
        world.try_sh("ovs-appctl revalidator/wait; ovs-appctl revalidator/wait");
    }
    world.sh("ip link set dev lo alias 'step end'; sleep 1");
    let _ = Command::new("kill").args(["-INT", &dump.0.id().to_string()]).status();
    world.until("tcpdump ends", || matches!(dump.0.try_wait(), Ok(Some(_))));
    let pcap = std::fs::read(world.switch.file("requests.pcap")).expect("tcpdump wrote it");
    for entry in record::read(&pcap) {
        match entry {
            Entry::Step(name) => println!("{name}"),
            Entry::Request(text) => println!("  {text}"),
        }
    }
}

/// Steps of a record, in order, with their requests; these sorted, for several threads make them. The first step has none
/// about flows and meters: there is no port yet, so that they only find out what the kernel can.
fn steps(record: &str) -> Vec<(&str, Vec<&str>)> {
    let mut steps: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in record.lines() {
        match (line.strip_prefix("step "), steps.last_mut()) {
            (Some(name), _) => steps.push((name, Vec::new())),
            (None, Some((_, requests))) => requests.push(line.trim_start()),
            // Before the first step, both find out what the kernel can.
            (None, None) => {}
        }
    }
    for (name, requests) in &mut steps {
        if *name == STEPS[0].0 {
            requests.retain(|line| !line.starts_with("flow ") && !line.starts_with("meter "));
        }
        requests.sort_unstable();
    }
    steps
}

fn same_requests(world: &World) {
    let [theirs, ours] = ["peer", "ours"].map(|daemons| {
        apart("netlink::session", daemons).unwrap_or_else(|output| panic!("on {daemons} daemons: {output}"))
    });
    if let Some(folder) = std::env::var_os("TURNOUT_VM_KEEP") {
        for (name, text) in [("netlink-theirs.txt", &theirs), ("netlink-ours.txt", &ours)] {
            std::fs::write(std::path::Path::new(&folder).join(name), text).expect("the folder is writable");
        }
    }
    let mut differences = String::new();
    let (theirs, ours) = (steps(&theirs), steps(&ours));
    assert_eq!(theirs.len(), STEPS.len() + 1, "steps recorded on their side");
    assert_eq!(ours.len(), STEPS.len() + 1, "steps recorded on our side");
    for ((name, theirs), (_, ours)) in theirs.iter().zip(&ours) {
        if theirs != ours {
            let missing = theirs.iter().filter(|line| !ours.contains(line)).map(|line| format!("- {line}\n"));
            let extra = ours.iter().filter(|line| !theirs.contains(line)).map(|line| format!("+ {line}\n"));
            let lines: String = missing.chain(extra).collect();
            let order = if lines.is_empty() { "  the same in another number\n" } else { "" };
            differences.push_str(&format!("{name}:\n{lines}{order}"));
        }
    }
    assert!(differences.is_empty(), "{differences}");
    world.switch.start_database();
    world.switch.start_switch(&[]);
}
