//! The same session on our switch and on the peer's: what they ask of the kernel must be the same, and what `ovs-dpctl` tells
//! of the kernel's flows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use ::tests::kit::Kit;

use crate::record::{self, Entry};
use crate::world::{World, ip, mac};
use crate::{Test, apart};

pub const TESTS: &[Test] = &[
    Test::bare("netlink::same_requests", same_requests),
    Test::bare("netlink::same_dumps", same_dumps),
    Test::new("netlink::same_dumps_of_all_keys", same_dumps_of_all_keys),
];

/// Played by [`same_requests`] and [`same_dumps`], on each side.
pub const PARTS: &[Test] = &[Test::bare("netlink::session", session), Test::bare("netlink::dumps", dumps)];

/// The steps: a name, and the shell commands of it, a line each. After each, the kernel's flows are given time to follow.
const STEPS: &[(&str, &str)] = &[
    // A miss in table 1 would be a matter of who is connected at the moment.
    ("bridge", "ovs-vsctl add-br br0 -- set bridge br0 other-config:hwaddr=0e:00:00:00:00:99 other-config:mac-aging-time=3600
        ovs-ofctl add-flow br0 table=1,priority=0,actions=drop"),
    ("ports", "ovs-vsctl add-port br0 p-a
        ovs-vsctl add-port br0 p-b
        ovs-vsctl add-port br0 p-c"),
    ("normal", "ping_from a 10.1.0.2
        ping_from b 10.1.0.1
        ping_from c 10.1.0.1"),
    ("drop", "ovs-ofctl add-flow br0 priority=5,icmp,actions=drop
        no_ping a 10.1.0.3"),
    ("fields", "ovs-ofctl mod-flows br0 icmp,actions=mod_nw_tos:32,dec_ttl,normal
        ping_from a 10.1.0.3"),
    ("tags", "ovs-ofctl mod-flows br0 icmp,actions=mod_vlan_vid:9,normal
        no_ping a 10.1.0.2
        ovs-ofctl del-flows br0 icmp"),
    ("access", "ovs-vsctl set port p-a tag=7 -- set port p-b tag=7
        ping_from a 10.1.0.2"),
    ("trunk", "ovs-vsctl clear port p-b tag -- set port p-b trunks=7
        no_ping a 10.1.0.2"),
    ("plain again", "ovs-vsctl clear port p-a tag -- clear port p-b trunks
        ping_from a 10.1.0.2"),
    ("controller", "ovs-ofctl add-flow br0 priority=5,icmp,actions=controller,normal
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp"),
    ("meter", "ovs-ofctl -O OpenFlow13 add-meter br0 meter=1,kbps,band=type=drop,rate=1000000
        ovs-ofctl -O OpenFlow13 add-flow br0 priority=5,icmp,actions=meter:1,normal
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp
        ovs-ofctl -O OpenFlow13 del-meters br0"),
    ("group", "ovs-ofctl -O OpenFlow15 add-group br0 group_id=1,type=select,selection_method=dp_hash,bucket=output:2
        ovs-ofctl add-flow br0 priority=5,icmp,in_port=1,actions=group:1
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp"),
    // Both rules of table 1 look at the same bits. For some time lookups still look at what rules looked at that are removed, on
    // both sides; how wide flows come out that are translated again meanwhile would be a matter of that time.
    ("tracked", "ovs-ofctl add-flow br0 'table=1,priority=5,icmp,ct_state=+new-est,actions=ct(commit,zone=4,exec(load:3->NXM_NX_CT_MARK[])),normal'
        ovs-ofctl add-flow br0 'table=1,priority=5,icmp,ct_state=-new+est,actions=normal'
        ovs-ofctl add-flow br0 'table=0,priority=5,icmp,ct_state=-trk,actions=ct(table=1,zone=4)'
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp"),
    ("translated", "ovs-ofctl add-flow br0 'table=0,priority=5,icmp,in_port=2,actions=ct(zone=5,nat,table=1)'
        ovs-ofctl add-flow br0 'table=1,priority=5,icmp,ct_state=+est,actions=1'
        ovs-ofctl add-flow br0 'table=0,priority=5,icmp,in_port=1,actions=ct(commit,zone=5,nat(src=10.1.0.9)),2'
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp"),
    ("larger", "ovs-ofctl add-flow br0 'cookie=1,table=1,reg0=1,actions=3'
        ovs-ofctl add-flow br0 'cookie=1,table=1,priority=1,actions=2'
        ovs-ofctl add-flow br0 'priority=5,icmp,in_port=1,actions=check_pkt_larger(900)->reg0[0],resubmit(,1)'
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp
        ovs-ofctl del-flows br0 cookie=1/-1"),
    ("truncated", "ovs-ofctl add-flow br0 'priority=5,icmp,in_port=1,actions=output(port=3,max_len=80),2'
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp"),
    ("clone", "ovs-ofctl add-flow br0 'priority=5,icmp,in_port=1,actions=clone(mod_dl_dst:0e:00:00:00:00:77,3),2'
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp"),
    ("fragments", "big_ping a 10.1.0.2"),
    ("mirror", "ovs-vsctl -- --id=@p get port p-c -- --id=@m create mirror name=m select_all=true output_port=@p -- set bridge br0 mirrors=@m
        ping_from a 10.1.0.2
        ovs-vsctl clear bridge br0 mirrors"),
    ("sflow", "ovs-vsctl -- --id=@s create sflow agent=lo header=128 sampling=10 polling=100 'targets=\"127.0.0.1:6343\"' -- set bridge br0 sflow=@s
        ping_from a 10.1.0.2
        ovs-vsctl clear bridge br0 sflow"),
    ("tunnel", "ip addr add 172.31.1.100/24 dev p-t
        ovs-vsctl add-port br0 vx -- set interface vx type=vxlan options:remote_ip=172.31.1.1 options:key=7 ofport_request=9
        ovs-ofctl add-flow br0 priority=5,icmp,in_port=1,actions=9,2
        ping_from a 10.1.0.2
        ovs-ofctl del-flows br0 icmp
        ovs-vsctl del-port br0 vx"),
    ("patch", "ovs-vsctl add-br br1 -- set bridge br1 other-config:hwaddr=0e:00:00:00:00:98
        ovs-vsctl add-port br0 pa -- set interface pa type=patch options:peer=pb -- add-port br1 pb -- set interface pb type=patch options:peer=pa
        ping_from a 10.1.0.2
        ovs-vsctl del-port br0 pa
        ovs-vsctl del-br br1"),
    ("away", "ovs-vsctl del-port br0 p-c
        ovs-vsctl del-br br0"),
];

const HELPERS: &str = "
    ping_from() { ip netns exec $1 ping -q -c 1 -W 5 $2 > /dev/null; }
    no_ping() { ! ip netns exec $1 ping -q -c 1 -W 1 $2 > /dev/null; }
    big_ping() { ip netns exec $1 ping -q -c 1 -s 2000 -W 5 $2 > /dev/null; }
";

/// Every command, with the name of its step.
fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    STEPS.iter().flat_map(|(name, script)| script.lines().map(|line| (*name, line.trim())))
}

/// Three hosts and a device for tunnels; nothing that a host says by itself.
fn hosts(world: &World) {
    world.sh("sysctl -q net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
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
}

fn start(world: &World) {
    world.switch.start_database();
    // No flow ends because the machine is slow.
    world.sh("ovs-vsctl --no-wait set open_vswitch . other_config:max-idle=100000000");
    world.switch.start_switch(&[]);
}

/// Runs one command of the session, after `first`; when this returns, the kernel's flows follow what it configured, and what
/// its packets taught.
fn play(world: &World, first: &str, command: &str) {
    let wait = match command {
        // Without a bridge there is nobody to wait for.
        _ if command.ends_with("del-br br0") => "",
        _ if command.contains("ping") => "ovs-appctl revalidator/wait; ovs-appctl revalidator/wait",
        // A flow that is met before the one that leads to it is found out to be without use by the next pass only.
        _ if command.contains("del-flows") => {
            "ovs-appctl revalidator/wait; ovs-ofctl add-flow br0 table=9,actions=drop; ovs-ofctl del-flows br0 table=9; ovs-appctl revalidator/wait"
        }
        _ => "ovs-appctl revalidator/wait",
    };
    world.sh(&format!("{HELPERS}{first}\n{command}\n{wait}"));
}

/// Plays the session on this process's daemons; prints what was asked of the kernel.
fn session(world: &World) {
    hosts(world);
    world.sh("ip link add nlmon0 type nlmon; ip link set nlmon0 up");
    let mut dump = world.spawn("tcpdump -i nlmon0 -w requests.pcap -U -B 32768 -s 262144", "tcpdump.txt");
    world.until("tcpdump listens", || world.read("tcpdump.txt").contains("listening on"));
    start(world);
    for (n, (_, command)) in commands().enumerate() {
        play(world, &format!("ip link set dev lo alias 'command {n}'"), command);
    }
    world.sh("ip link set dev lo alias 'command end'; sleep 1");
    let _ = Command::new("kill").args(["-INT", &dump.0.id().to_string()]).status();
    world.until("tcpdump ends", || matches!(dump.0.try_wait(), Ok(Some(_))));
    let pcap = std::fs::read(world.switch.file("requests.pcap")).expect("tcpdump wrote it");
    let devices: Vec<(String, &str)> = ["p-a", "p-b", "p-c"]
        .map(|name| (world.sh(&format!("cat /sys/class/net/{name}/ifindex")).trim().to_owned(), name))
        .into();
    for entry in record::read(&pcap) {
        match entry {
            Entry::Step(name) => println!("{name}"),
            Entry::Request(text) => println!("  {}", with_devices(&text, &devices)),
        }
    }
}

/// The text with the interface index in each sFlow cookie replaced by the device's name.
fn with_devices(text: &str, devices: &[(String, &str)]) -> String {
    let mut parts = text.split("sFlow(");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (cookie, rest) = part.split_once(')').unwrap_or((part, ""));
        let (before, output) = cookie.split_once("output=").unwrap_or((cookie, ""));
        let name = devices.iter().find(|(index, _)| index == output).map_or(output, |(_, name)| name);
        let _ = write!(out, "sFlow({before}output={name}){rest}");
    }
    out
}

/// Differences between the release that the peer is and the one whose behaviour is ours: the command, how lines of the
/// difference begin, and the cause.
const SINCE_3_1: &[(&str, &str, &str)] = &[
    ("create mirror", "+ flow set", "since 3.3 flows are translated again when mirrors change"),
    ("clear bridge br0 mirrors", "+ flow set", "since 3.3 flows are translated again when mirrors change"),
];

/// What was asked while one command was played.
#[derive(Default)]
struct Asked {
    /// For packets, and for what is configured: in this order.
    sequence: Vec<String>,
    /// Changes and removals of flows by passes over all of them: their order is that of the kernel's table, which is random.
    swept: Vec<String>,
}

/// The commands of a record with their requests. The first command has none about flows and meters: there is no port yet, so
/// that they only find out what the kernel can.
fn asked(record: &str) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    let mut keys = BTreeMap::new();
    // Of each flow that the command changed, where its line stands.
    let mut set: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for line in record.lines() {
        let is_first = all.len() == 1;
        match (line.strip_prefix("command "), all.last_mut()) {
            (Some(_), _) => {
                set.clear();
                all.push(Asked::default());
            }
            (None, Some(asked)) => {
                let request = line.trim_start();
                let of_flows = request.starts_with("flow ");
                if is_first && (of_flows || request.starts_with("meter ")) {
                    continue;
                }
                let is_swept = of_flows && !request.starts_with("flow new ");
                let list = if is_swept { &mut asked.swept } else { &mut asked.sequence };
                let (ufid, text) = with_key(request, &mut keys);
                if request.starts_with("flow del ") {
                    // What a flow was made in between, before it went, is a matter of the order in which a pass met it.
                    for line in set.remove(ufid).unwrap_or_default() {
                        list[line].clear();
                    }
                } else if is_swept {
                    set.entry(ufid).or_default().push(list.len());
                }
                list.push(text);
            }
            // Before the first command, both find out what the kernel can.
            (None, None) => {}
        }
    }
    for asked in &mut all {
        asked.swept.retain(|line| !line.is_empty());
    }
    number_recirculations(&mut all);
    all
}

/// The unique id of the flow that a request is about, and the request's text without it, but with the flow's key.
fn with_key<'a>(request: &'a str, keys: &mut BTreeMap<&'a str, &'a str>) -> (&'a str, String) {
    let Some((before, rest)) = request.split_once(" ufid:") else { return ("", request.to_owned()) };
    let (ufid, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len()));
    let (lead, key) = before.split_once("] ").unwrap_or((before, ""));
    let key = if key == "<empty>" { keys.get(ufid).copied().unwrap_or(key) } else { key };
    keys.insert(ufid, key);
    (ufid, format!("{lead}] {key} ufid{rest}"))
}

/// Numbers recirculation ids as they appear: passes give them out in the order of the kernel's table.
fn number_recirculations(all: &mut [Asked]) {
    let mut known = BTreeMap::new();
    for asked in all {
        asked.swept.sort_by_cached_key(|line| renumbered(line, |_| 0));
        for line in asked.sequence.iter_mut().chain(&mut asked.swept) {
            *line = renumbered(line, |id| {
                let next = known.len() + 1;
                *known.entry(id).or_insert(next)
            });
        }
    }
}

/// The text with each recirculation id but 0 replaced by a number for it.
fn renumbered(text: &str, mut number: impl FnMut(u32) -> usize) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("recirc") {
        let (before, found) = rest.split_at(at);
        let id = [("recirc_id(0x", 16), ("recirc(0x", 16), ("recirc_id=", 10)]
            .iter()
            .find_map(|(lead, radix)| Some((lead, radix, found.strip_prefix(lead)?)));
        let Some((lead, radix, digits)) = id else {
            out.push_str(&rest[..at + 6]);
            rest = &rest[at + 6..];
            continue;
        };
        let end = digits.find(|c: char| !c.is_digit(*radix)).unwrap_or(digits.len());
        let id = u32::from_str_radix(&digits[..end], *radix).unwrap_or(0);
        let id = if id == 0 { "0".to_owned() } else { format!("#{}", number(id)) };
        let _ = write!(out, "{before}{lead}{id}");
        rest = &digits[end..];
    }
    out + rest
}

/// `-` and `+` lines for what only they and only we asked, or not at the same place.
fn difference(theirs: &Asked, ours: &Asked) -> Vec<String> {
    let (a, b) = (&theirs.sequence, &ours.sequence);
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[..a.len() - end], &b[..b.len() - end]);
    let mut lines: Vec<String> = a.iter().map(|line| format!("- {line}")).collect();
    lines.extend(b.iter().map(|line| format!("+ {line}")));
    let mut extra = ours.swept.clone();
    for line in &theirs.swept {
        match extra.iter().position(|ours| ours == line) {
            Some(at) => _ = extra.remove(at),
            None => lines.push(format!("- {line}")),
        }
    }
    lines.extend(extra.iter().map(|line| format!("+ {line}")));
    lines
}

/// Differences of two records, without those of the releases; each of these must be met.
fn differences(theirs: &[Asked], ours: &[Asked], is_older: bool) -> String {
    let since = if is_older { SINCE_3_1 } else { &[] };
    let mut met = vec![false; since.len()];
    let mut text = String::new();
    for ((theirs, ours), (name, command)) in theirs.iter().zip(ours).zip(commands().chain([("end", "")])) {
        let mut lines = difference(theirs, ours);
        lines.retain(|line| {
            let row =
                since.iter().position(|(part, lead, _)| command.contains(part) && line.starts_with(lead));
            row.inspect(|row| met[*row] = true).is_none()
        });
        if !lines.is_empty() {
            let _ = writeln!(text, "{name}: {command}\n{}\n", lines.join("\n"));
        }
    }
    for ((command, lead, cause), _) in since.iter().zip(met).filter(|(_, met)| !met) {
        let _ = writeln!(text, "not met: {command}: {lead} ({cause})");
    }
    text
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
    let (theirs, ours) = (asked(&theirs), asked(&ours));
    assert_eq!(theirs.len(), commands().count() + 1, "commands recorded on their side");
    assert_eq!(ours.len(), commands().count() + 1, "commands recorded on our side");
    let differences = differences(&theirs, &ours, Kit::peer_is_older());
    assert!(differences.is_empty(), "{differences}");
    start(world);
}

/// What is asked of both `ovs-dpctl`, of ours and of theirs.
const DUMPS: &[&str] = &[
    "dump-flows",
    "-m --names dump-flows system@ovs-system",
    "-m dump-flows filter=icmp,nw_src=10.1.0.1",
    "--names dump-flows filter=in_port=2,eth_type=0x0800",
    "-m get-flow $(ovs-dpctl -m dump-flows | sed -n '1s/,.*//p')",
];

/// What both tell differently of the flows that the kernel has now. Flows may move between two looks: theirs looks twice, and
/// what ours says counts if theirs said the same before and after. How long a flow was not used is never the same.
fn compare_dumps(world: &World, dumps: &[&str]) -> String {
    let peer = Kit::peer().path("ovs-dpctl").display().to_string();
    let mut script =
        "say() { { \"$@\" 2>&1 || echo \"exit $?\"; } | sed 's/used:[0-9.]*s/used:*/'; echo =; }\n"
            .to_owned();
    for dump in dumps {
        for program in [peer.as_str(), "ovs-dpctl", peer.as_str()] {
            let _ = writeln!(script, "say {program} {dump}");
        }
    }
    for _ in 0..20 {
        let text = world.sh(&script);
        let said: Vec<&str> = text.split("=\n").collect();
        let (looks, _) = said.as_chunks::<3>();
        assert_eq!(looks.len(), dumps.len(), "{text}");
        if looks.iter().all(|[before, _, after]| before == after) {
            let differs = dumps.iter().zip(looks).filter(|(_, [theirs, ours, _])| theirs != ours);
            return differs
                .map(|(dump, [theirs, ours, _])| format!("{dump}\n- {theirs}+ {ours}\n"))
                .collect();
        }
    }
    panic!("flows do not rest: {}", world.sh(&script));
}

/// Plays the session on this process's daemons; prints what the two `ovs-dpctl` tell differently.
fn dumps(world: &World) {
    hosts(world);
    start(world);
    for (name, command) in commands() {
        play(world, "", command);
        // A look for each kind of traffic is enough.
        if !command.contains("ping") {
            continue;
        }
        let differences = compare_dumps(world, DUMPS);
        if !differences.is_empty() {
            println!("{name}: {command}\n{differences}");
        }
    }
}

fn same_dumps(world: &World) {
    for daemons in ["ours", "peer"] {
        let differences = apart("netlink::dumps", daemons)
            .unwrap_or_else(|output| panic!("on {daemons} daemons: {output}"));
        assert!(differences.is_empty(), "of the flows that {daemons} daemons made:\n{differences}");
    }
    start(world);
}

/// Flows by hand: a key, and actions.
const KEYS: &[(&str, &str)] = &[
    (
        "in_port(1),eth_type(0x0800),ipv4(src=1.2.3.4,dst=5.6.7.8/255.255.255.0,proto=6,tos=0x20/0xfc,ttl=64,frag=no),tcp(src=80,dst=8080/0xff00),tcp_flags(syn|ack)",
        "2",
    ),
    ("in_port(1),eth_type(0x0800),ipv4(proto=6),tcp(src=81),tcp_flags(+syn-ack)", "2,3"),
    (
        "in_port(1),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15/ff:ff:ff:00:00:00),eth_type(0x0800),ipv4(proto=17,frag=first),udp(dst=53)",
        "3",
    ),
    ("in_port(2),eth_type(0x0800),ipv4(proto=132),sctp(src=1/0xff,dst=2)", "drop"),
    ("in_port(2),eth_type(0x0800),ipv4(proto=1),icmp(type=8,code=0/0)", "1"),
    ("in_port(2),eth_type(0x0800),ipv4(proto=2,frag=later)", "1"),
    (
        "in_port(1),eth_type(0x86dd),ipv6(src=fe80::1,dst=ff02::/16,label=0x5,proto=58,tclass=0x8,hlimit=255,frag=no),icmpv6(type=135,code=0),nd(target=fe80::2,sll=00:01:02:03:04:05)",
        "2",
    ),
    (
        "in_port(1),eth_type(0x86dd),ipv6(proto=58),icmpv6(type=136),nd(target=fe80::/10,tll=00:01:02:00:00:00/ff:ff:ff:00:00:00)",
        "2",
    ),
    ("in_port(1),eth_type(0x86dd),ipv6(proto=6,frag=no),tcp(dst=443)", "2"),
    (
        "in_port(1),eth_type(0x0806),arp(sip=10.0.0.1,tip=10.0.0.0/255.255.255.0,op=1,sha=00:01:02:03:04:05,tha=00:00:00:00:00:00)",
        "2",
    ),
    ("in_port(1),eth_type(0x8100),vlan(vid=5,pcp=3),encap(eth_type(0x0800),ipv4(src=1.2.3.4))", "pop_vlan,2"),
    ("in_port(1),eth_type(0x8100),vlan(vid=6/0xf,pcp=3/0x4,cfi=1),encap(eth_type(0x0806))", "2"),
    (
        "in_port(1),eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=7,pcp=1),encap(eth_type(0x0800)))",
        "pop_vlan,pop_vlan,2",
    ),
    ("in_port(1),eth_type(0x8847),mpls(label=5,tc=1,ttl=64,bos=1)", "pop_mpls(eth_type=0x800),2"),
    ("in_port(1),eth_type(0x8848),mpls(label=5/0xff,tc=1/0,ttl=64/0,bos=0)", "2"),
    ("in_port(1),eth_type(0x88b5)", "2"),
    ("in_port(1),eth_type(0/0x0)", "3"),
    (
        "in_port(3),eth_type(0x894f),nsh(flags=0,ttl=63,mdtype=1,np=1,spi=0x1234,si=255,c1=0x1,c2=0x2,c3=0x3,c4=0x4)",
        "2",
    ),
    (
        "tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,tos=0,ttl=64,flags(df|csum|key)),in_port(1),eth_type(0x0800)",
        "2",
    ),
    (
        "tunnel(tun_id=0x8/0xff,src=1.1.1.0/255.255.255.0,dst=2.2.2.2,ttl=0/0,tp_dst=4789,flags(+key-csum)),in_port(1),eth_type(0x0800)",
        "2",
    ),
    (
        "tunnel(tun_id=0x7,ipv6_src=fc00::1,ipv6_dst=fc00::2,ttl=64,ipv6_label=0,flags(key)),in_port(1),eth_type(0x0800)",
        "2",
    ),
    (
        "tunnel(tun_id=0x9,src=1.1.1.1,dst=2.2.2.2,ttl=64,geneve({class=0xffff,type=0x80,len=4,0xcafe/0xffff}),flags(key)),in_port(1),eth_type(0x0800)",
        "2",
    ),
    (
        "tunnel(tun_id=0xa,src=1.1.1.1,dst=2.2.2.2,ttl=64,vxlan(gbp(id=5,flags=0)),flags(key)),in_port(1),eth_type(0x0800)",
        "2",
    ),
    (
        "tunnel(tun_id=0xb,src=1.1.1.1,dst=2.2.2.2,ttl=64,erspan(ver=1,idx=0x3),flags(key)),in_port(1),eth_type(0x0800)",
        "2",
    ),
    (
        "ct_state(+trk+est),ct_zone(5),ct_mark(0x5/0xf),ct_label(0x1234/0xffff),in_port(1),eth_type(0x0800)",
        "2",
    ),
    (
        "ct_state(-trk),in_port(2),eth_type(0x0800),ipv4(src=9.9.9.9)",
        "ct(commit,zone=5,mark=0x1/0xff,label=0x2/0xff,nat(src=1.1.1.1-1.1.1.9:1000-2000,random)),2",
    ),
    (
        "ct_state(+trk+rpl+snat),ct_tuple4(src=1.1.1.1,dst=2.2.2.2,proto=6,tp_src=1,tp_dst=2),in_port(1),eth_type(0x0800)",
        "2",
    ),
    (
        "ct_state(+trk+inv),ct_tuple6(src=fc00::1,dst=fc00::2,proto=17,src_port=1,dst_port=2),in_port(1),eth_type(0x86dd)",
        "2",
    ),
    ("recirc_id(0x5),dp_hash(0x1/0xf),skb_priority(0x7),skb_mark(0x5/0xff),in_port(1),eth_type(0x0800)", "2"),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.1)",
        "userspace(pid=5,userdata(0102030405060708),actions),2",
    ),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.2)",
        "push_vlan(vid=5,pcp=2),2,pop_vlan,push_vlan(tpid=0x88a8,vid=9,pcp=0),3",
    ),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.3)",
        "push_mpls(label=5,tc=1,ttl=64,bos=1,eth_type=0x8847),2",
    ),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.4,proto=6),tcp()",
        "set(eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15)),set(ipv4(src=1.1.1.1,dst=2.2.2.2,tos=4,ttl=5)),set(tcp(src=1,dst=2)),2",
    ),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.5,proto=17),udp()",
        "set(eth(dst=10:11:12:13:14:15/ff:ff:ff:ff:ff:ff)),set(ipv4(ttl=5)),set(udp(dst=2/0xff)),2",
    ),
    (
        "in_port(2),eth_type(0x86dd),ipv6(src=::5,proto=17),udp()",
        "set(ipv6(src=fc00::1,dst=fc00::2,tclass=1,hlimit=5)),set(ipv6(label=0x5/0xff)),2",
    ),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.6)",
        "set(tunnel(tun_id=0x7,dst=2.2.2.2,ttl=64,tp_dst=4789,flags(df|key))),2",
    ),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.7)",
        "set(tunnel(tun_id=0x7,ipv6_dst=fc00::2,ttl=64,geneve({class=0xffff,type=0x1,len=8,0x1122334455667788}),flags(key))),2",
    ),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.8)",
        "set(skb_priority(0x10001)),set(skb_mark(0x5)),set(skb_mark(0x6/0xf)),2",
    ),
    ("in_port(2),eth_type(0x0800),ipv4(src=0.0.0.9)", "hash(l4(0)),recirc(0x5)"),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.10)",
        "sample(sample=50.0%,actions(2)),sample(sample=0.1%,actions(userspace(pid=7))),3",
    ),
    ("in_port(2),eth_type(0x0800),ipv4(src=0.0.0.11)", "clone(set(ipv4(ttl=1)),2),3"),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.12)",
        "ct,ct(zone=5),ct(commit,force,zone=6,nat(dst=1.1.1.1:80)),ct(nat),ct(commit,nat(src,persistent)),ct_clear,recirc(0x6)",
    ),
    ("in_port(2),eth_type(0x0800),ipv4(src=0.0.0.13)", "check_pkt_len(size=100,gt(2),le(3))"),
    ("in_port(2),eth_type(0x0800),ipv4(src=0.0.0.14)", "trunc(100),2"),
    (
        "in_port(2),eth_type(0x0800),ipv4(src=0.0.0.15)",
        "push_nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x1,si=255,c1=0x1,c2=0x2,c3=0x3,c4=0x4),2",
    ),
    ("in_port(2),eth_type(0x0800),ipv4(src=0.0.0.16)", "pop_eth,2"),
    ("in_port(2),eth_type(0x0800),ipv4(src=0.0.0.17)", "2,9"),
];

/// Flows of every kind, put in by either program: both tell the same of what is there, and what theirs puts in, ours puts in
/// just so. Ours reads some that theirs prints but cannot read (`push_mpls`, `nsh`, `hash`).
fn same_dumps_of_all_keys(world: &World) {
    let peer = Kit::peer().path("ovs-dpctl").display().to_string();
    world.sh("ovs-dpctl add-dp mine
        for d in d0 d1 d2; do ip link add $d type dummy; ovs-dpctl add-if mine $d; done");
    let mut held = Vec::new();
    let mut refusals = Vec::new();
    for program in [peer.as_str(), "ovs-dpctl"] {
        world.sh("ovs-dpctl del-flows mine");
        let mut script = String::new();
        for (key, actions) in KEYS {
            let add = format!("add-flow mine '{key}' '{actions}'");
            let _ = writeln!(script, "echo \"{add}\"; {program} {add} 2>&1 | grep -v '|WARN|' || true");
        }
        let refused = world.sh(&script);
        let dumps = [
            "dump-flows mine",
            "-m dump-flows mine",
            "-m --names dump-flows mine",
            "dump-flows mine filter=tcp",
        ];
        let differences = compare_dumps(world, &dumps);
        assert!(differences.is_empty(), "of the flows that {program} put in:\n{differences}");
        held.push(world.sh(&format!("{peer} -m dump-flows mine | sort")));
        refusals.push(refused);
    }
    let [theirs, ours] = &held[..] else { panic!("two programs") };
    let missing: Vec<&str> =
        theirs.lines().filter(|flow| !ours.lines().any(|other| other == *flow)).collect();
    assert!(missing.is_empty(), "{}\n{}", missing.join("\n"), refusals[1]);
    assert!(theirs.lines().count() >= 20, "{}", refusals[0]);
    world.sh("ovs-dpctl del-dp mine");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recirculations_are_numbered_as_they_appear() {
        let record = "command 0
  flow new ignored
command 1
  flow set [] recirc_id(0),in_port(3) actions:controller(recirc_id=7)
  flow set [] recirc_id(0),in_port(2) actions:recirc(0x9)
  flow new [] recirc_id(0x8),in_port(1) actions:recirc(0x9)";
        let all = asked(record);
        assert!(all[0].sequence.is_empty());
        assert_eq!(all[1].sequence, ["flow new [] recirc_id(0x#1),in_port(1) actions:recirc(0x#2)"]);
        assert_eq!(
            all[1].swept,
            [
                "flow set [] recirc_id(0),in_port(2) actions:recirc(0x#2)",
                "flow set [] recirc_id(0),in_port(3) actions:controller(recirc_id=#3)"
            ]
        );
    }

    #[test]
    fn removals_name_the_flow_and_hide_what_it_was_between() {
        let record = "command 0
command 1
  flow new [create] in_port(1) ufid:0a actions:2
  flow new [create] in_port(2) ufid:0b actions:1
command 2
  flow set [] in_port(1) ufid:0a actions:drop
  flow set [] in_port(2) ufid:0b actions:drop
  flow del [echo] <empty> ufid:0a/7
command 3
  flow del [echo] <empty> ufid:0b/7
  flow del [echo] <empty> ufid:0c/7";
        let all = asked(record);
        let swept: Vec<&[String]> = all[1..].iter().map(|asked| &asked.swept[..]).collect();
        assert_eq!(all[1].sequence.len(), 2);
        assert_eq!(
            swept[1],
            ["flow del [echo] in_port(1) ufid/7", "flow set [] in_port(2) ufid actions:drop"]
        );
        assert_eq!(swept[2], ["flow del [echo] <empty> ufid/7", "flow del [echo] in_port(2) ufid/7"]);
    }

    #[test]
    fn sflow_cookies_name_devices() {
        let devices = [("8".to_owned(), "p-b")];
        let text =
            with_devices("sFlow(vid=0,pcp=0,output=8),actions),sFlow(vid=0,pcp=0,output=3),2", &devices);
        assert_eq!(text, "sFlow(vid=0,pcp=0,output=p-b),actions),sFlow(vid=0,pcp=0,output=3),2");
    }

    #[test]
    fn differences_are_told_and_those_of_releases_must_be_met() {
        let asked = |sequence: &[&str], swept: &[&str]| Asked {
            sequence: sequence.iter().map(|line| (*line).to_owned()).collect(),
            swept: swept.iter().map(|line| (*line).to_owned()).collect(),
        };
        let theirs = asked(&["a", "b", "c"], &["x", "x"]);
        let ours = asked(&["a", "d", "c"], &["x", "y"]);
        assert_eq!(difference(&theirs, &ours), ["- b", "+ d", "- x", "+ y"]);
        assert!(difference(&ours, &ours).is_empty());
        assert_eq!(differences(&[], &[], false), "");
        assert_eq!(differences(&[], &[], true).lines().count(), SINCE_3_1.len());
    }
}
