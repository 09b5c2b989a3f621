//! Connections of the userspace datapath in hardware, on the simulated NIC: established by frames that this process sends and
//! receives at the VFs, ended in every way there is, while the NIC refuses, forgets and is asked again. At the end nothing is
//! in the NIC and nothing in the table.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use daemon::unixctl::Client;
use flow::checksum::{of as checksum, pseudo4};
use serde_json::Value;
use sys::link::Links;
use sys::packet::{Receiver, Sender, VNET_HDR};

use crate::Test;
use crate::restart::kill;
use crate::simnic::{FILES, TALK, counter, hosts, stream};
use crate::world::{Running, World, ip};

pub const TESTS: &[Test] = &[
    Test::offloading("tracked::forwards", forwards),
    Test::offloading("tracked::translates", translates),
    Test::offloading("tracked::by_the_kernel", by_the_kernel),
    Test::offloading("tracked::ends", |world| ends(world, "ctc", 600)),
    Test::offloading("tracked::hundred_thousand", |world| ends(world, "ctd", 100_000)).long(),
];

/// A userspace bridge with two VFs, where what is established goes from one to the other.
fn bridge(world: &World, name: &str, commit: &str) {
    // Flows are to stay while nothing is sent: what ends connections here is something else.
    world.sh("ovs-vsctl set open_vswitch . other_config:hw-offload=true other_config:max-idle=3600000");
    world.sh(&format!(
        "ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=secure
         ovs-vsctl add-port br0 {name}_0 -- set interface {name}_0 ofport_request=1
         ovs-vsctl add-port br0 {name}_1 -- set interface {name}_1 ofport_request=2"
    ));
    let mut flows = String::new();
    // What goes to 10.6.0.0/16 has a zone of its own.
    for (zone, more, priority) in
        [(5, "", 10), (6, ",nw_dst=10.6.0.0/16", 20), (6, ",nw_src=10.6.0.0/16", 20)]
    {
        flows += &format!(
            "table=0,priority={priority},ip{more},actions=ct(zone={zone},nat,table=1)\n\
             table=1,priority={priority},ip{more},in_port=1,ct_state=+trk+new,actions=ct(commit,zone={zone},{commit}),2\n"
        );
    }
    flows += "table=1,ip,in_port=1,ct_state=+trk+est,ct_mark=7,actions=2\n\
              table=1,ip,in_port=2,ct_state=+trk+est,ct_mark=7,actions=1\n";
    std::fs::write(world.switch.file("flows"), flows).expect("the sandbox is writable");
    world.sh("ovs-ofctl add-flows br0 flows");
}

/// What `offload/ct-stats` says. Without a process for each look, for those take long where processors are emulated.
fn stats(world: &World) -> Value {
    let pid = world.read("ovs-vswitchd.pid");
    let socket = world.switch.file(&format!("ovs-vswitchd.{}.ctl", pid.trim()));
    let mut client = Client::connect(&socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    let mut call = |method, args: &[&str]| {
        client.call(method, args).expect("the switch answers").expect("the switch knows the command")
    };
    call("set-options", &["--format", "json"]);
    call("offload/ct-stats", &[])["netdev@ovs-netdev"].take()
}

/// A figure of `offload/ct-stats`; those that are not there are none.
fn figure(world: &World, path: &str) -> u64 {
    number(&stats(world), path)
}

fn number(stats: &Value, path: &str) -> u64 {
    stats.pointer(&format!("/{path}")).and_then(Value::as_u64).unwrap_or(0)
}

/// Nobody but those who talk sends anything.
fn quiet(world: &World) {
    world.sh(
        "for n in 1 2; do ip netns exec h$n sh -c 'echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6'; done",
    );
}

/// Questions and answers from `h1` to `h2`, for twenty seconds or more, that the NIC carries from the time on when it has their
/// connection, of which `is_there` says: its rules count, and nothing comes up to software. `rules` gives what software and
/// hardware counted.
fn talk(world: &World, name: &str, is_there: impl Fn() -> bool, rules: impl Fn() -> (u64, u64)) -> Talk {
    std::fs::write(world.switch.file("talk.py"), TALK).expect("the sandbox is writable");
    let server = world.spawn("ip netns exec h2 /usr/bin/python3 talk.py server", "server.txt");
    world.until("the server listens", || world.at("h2", "ss -tln").contains(":5001 "));
    let client = world.spawn(&format!("ip netns exec h1 /usr/bin/python3 talk.py {}", ip(2)), "client.txt");
    let mut talk = Talk { client, _server: server };
    world.until("hardware has it", is_there);
    let begun = rules().1;
    world.until("hardware carries it", || rules().1 > begun + 10);
    let (before, missed) = (rules(), counter(world, name, "missed"));
    let forwarded = counter(world, name, "forwarded");
    world.until("the NIC forwards", || counter(world, name, "forwarded") > forwarded + 40);
    let (after, missed_later) = (rules(), counter(world, name, "missed"));
    assert!(talk.is_on(), "the client ended early: {}", world.read("client.txt"));
    assert_eq!(missed_later, missed, "software sees packets");
    assert_eq!(after.0, before.0, "software counts packets");
    world.until("rules count", || rules().1 > before.1 + 40);
    talk
}

/// A connection between hosts.
struct Talk {
    client: Running,
    _server: Running,
}

impl Talk {
    fn is_on(&mut self) -> bool {
        matches!(self.client.0.try_wait(), Ok(None))
    }

    /// Waits for its end; everything that was asked was answered.
    fn ends(mut self, world: &World) {
        let status = self.client.0.wait().expect("the client can be waited for");
        assert!(status.success(), "{}", world.read("client.txt"));
    }
}

/// Both rules of the only connection are in the NIC.
fn both_are_there(world: &World, name: &str) -> bool {
    counter(world, name, "rules") == 2 && figure(world, "connections/in_hardware") == 1
}

/// Packets that both rules of the only connection counted in hardware; software has no such rules.
fn of_connection(world: &World) -> (u64, u64) {
    let shown = world.sh("ovs-appctl offload/ct-show");
    let counts =
        shown.split("packets=").skip(1).filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok());
    (0, counts.sum())
}

fn forwards(world: &World) {
    hosts(world, "cta", 2);
    quiet(world);
    bridge(world, "cta", "exec(set_field:7->ct_mark)");
    let talk = talk(world, "cta", || both_are_there(world, "cta"), || of_connection(world));
    let shown = world.sh("ovs-appctl offload/ct-show --why");
    assert!(shown.starts_with("netdev@ovs-netdev:\ntcp,orig=(src=10.1.0.1,dst=10.1.0.2"), "{shown}");
    assert!(shown.contains("zone=5,mark=7,"), "{shown}");
    assert!(shown.contains(", in_hardware, orig=(port=cta_0,handle=0x"), "{shown}");
    // Hardware's counts are the flows'.
    let flow = || world.sh("ovs-ofctl dump-flows br0 table=1,in_port=1,ct_state=+trk+est,ip");
    let packets = |text: String| -> u64 {
        let (_, rest) = text.split_once("n_packets=").unwrap_or_else(|| panic!("{text}"));
        rest.split(',').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    world.until("flows count", || packets(flow()) > 40);
    talk.ends(world);
    nothing_is_left(world, "cta");
    stream(world, "h1", &ip(2), 5002, "h2", 5002);
    nothing_is_left(world, "cta");
    assert!(figure(world, "ended/closed") >= 2);
}

fn translates(world: &World) {
    hosts(world, "ctb", 2);
    quiet(world);
    // Answers go to the translated address.
    world.sh(&format!("ip -n h2 neigh add 10.1.0.77 lladdr {} dev eth0 nud permanent", crate::world::mac(1)));
    bridge(world, "ctb", "nat(src=10.1.0.77),exec(set_field:7->ct_mark)");
    let talk = talk(world, "ctb", || both_are_there(world, "ctb"), || of_connection(world));
    let shown = world.sh("ovs-appctl offload/ct-show");
    assert!(shown.contains("reply=(src=10.1.0.2,dst=10.1.0.77,"), "{shown}");
    talk.ends(world);
    nothing_is_left(world, "ctb");
    stream(world, "h1", &ip(2), 5002, "h2", 5002);
    nothing_is_left(world, "ctb");
}

/// Connections that the kernel tracks, by rules that are in its software, too: when one is established, `act_ct` has the NIC carry it.
/// Debian's kernel does not say where packets left the rules (`CONFIG_NET_TC_SKB_EXT`), so chains have floors.
fn by_the_kernel(world: &World) {
    hosts(world, "cte", 2);
    quiet(world);
    // On a busy machine, ten seconds may go by between a flow's packets, or between two looks at what they counted.
    world.sh("ovs-vsctl set open_vswitch . other_config:hw-offload=true other_config:tc-policy=none other_config:max-idle=3600000");
    world.bridge("br0");
    world.sh("ovs-vsctl add-port br0 cte_0 -- set interface cte_0 ofport_request=1
         ovs-vsctl add-port br0 cte_1 -- set interface cte_1 ofport_request=2
         ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 'ip,ct_state=-trk,actions=ct(zone=5,table=1)'
         ovs-ofctl add-flow br0 'table=1,ip,in_port=1,ct_state=+trk+new,actions=ct(commit,zone=5),2'
         ovs-ofctl add-flow br0 'table=1,ip,in_port=1,ct_state=+trk+est,actions=2'
         ovs-ofctl add-flow br0 'table=1,ip,in_port=2,ct_state=+trk+est,actions=1'");
    let rules = || {
        let text = world.sh("for n in 0 1; do tc -s filter show dev cte_$n ingress; done");
        let sum = |word: &str, at: usize| -> u64 {
            let lines = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix(word))
                .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
            lines.filter_map(|rest| rest.split_whitespace().nth(at)?.parse::<u64>().ok()).sum()
        };
        // Lines tell the sum, and once hardware has counted anything, both parts.
        let hardware = sum("Sent hardware ", 2);
        (sum("Sent ", 2) - hardware, hardware)
    };
    let talk = talk(world, "cte", || counter(world, "cte", "connections") == 2, rules);
    let shown = world.sh("ovs-appctl dpctl/dump-flows --names --why type=offloaded");
    assert!(shown.contains("actions:ct(zone=5),recirc("), "{shown}");
    assert!(shown.contains("ct_state(+est") && !shown.contains("placement:software"), "{shown}");
    let shown = world.sh("tc filter show dev cte_0 ingress");
    assert!(shown.contains("in_hw in_hw_count 1") && !shown.contains("skip_sw"), "{shown}");
    let shown = world.sh("ovs-appctl offload/ct-show");
    assert!(
        shown.contains("tcp,orig=(src=10.1.0.1,dst=10.1.0.2") && shown.contains(", in_hardware"),
        "{shown}"
    );
    talk.ends(world);
    world.until("its end takes it from the NIC", || counter(world, "cte", "connections") == 0);
    stream(world, "h1", &ip(2), 5002, "h2", 5002);
    // What would have to be translated before the datapath looks again is in software, and says so.
    world.sh("ovs-ofctl add-flow br0 'priority=40000,ip,ct_state=-trk,actions=ct(zone=5,nat,table=1)'");
    world.ping("h1", &ip(2));
    let shown = world.sh("ovs-appctl dpctl/dump-flows --names --why type=all");
    assert!(
        shown.contains("why:no action recirc with a kernel that does not share recirculation ids"),
        "{shown}"
    );
    world.sh("ovs-vsctl del-br br0");
    world.until("nothing is left", || counter(world, "cte", "rules") == 0);
}

type End = (u32, u16);

/// A frame; flags and numbers for TCP, none for UDP.
fn frame((src, sport): End, (dst, dport): End, tcp: Option<(u8, u32, u32)>) -> Vec<u8> {
    let (proto, len) = if tcp.is_some() { (6, 26) } else { (17, 26) };
    let mut l4 = Vec::new();
    l4.extend(sport.to_be_bytes());
    l4.extend(dport.to_be_bytes());
    let at = match tcp {
        Some((flags, seq, ack)) => {
            l4.extend(seq.to_be_bytes());
            l4.extend(ack.to_be_bytes());
            l4.extend([0x50, flags, 0x40, 0, 0, 0, 0, 0]);
            l4.truncate(20);
            16
        }
        None => {
            l4.extend([0, len, 0, 0]);
            l4.resize(usize::from(len), 7);
            6
        }
    };
    let len = l4.len() as u16;
    let sum = pseudo4(src, dst, proto, len).bytes(&l4).finish();
    l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, proto, 0, 0];
    ip[2..4].copy_from_slice(&(20 + len).to_be_bytes());
    ip.extend(src.to_be_bytes());
    ip.extend(dst.to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0], &ip[..], &l4].concat()
}

/// What of a frame tells it from others of its round.
fn identity(frame: &[u8]) -> Option<[u8; 12]> {
    frame.get(26..38)?.try_into().ok()
}

/// Both ends of the wire.
struct Ends {
    senders: [Sender; 2],
    receivers: [Receiver; 2],
}

/// Frames that are on their way at the same time.
const WINDOW: usize = 512;

impl Ends {
    fn new(name: &str) -> Self {
        let links = Links::new().expect("links can be asked for");
        let index = |end: u32| links.index(&format!("{name}v{end}")).expect("the NIC was made");
        let sender = |end| Sender::open(index(end), false).expect("frames can be sent");
        let receiver = |end| Receiver::open(index(end)).expect("frames can be received");
        Self { senders: [sender(0), sender(1)], receivers: [receiver(0), receiver(1)] }
    }

    /// Sends frames from one end and waits until each came to the other, sending again what was lost.
    fn exchange(&mut self, from: usize, frames: &[Vec<u8>]) {
        let header = [0; VNET_HDR];
        for lot in frames.chunks(WINDOW) {
            let mut missing: HashMap<[u8; 12], &Vec<u8>> =
                lot.iter().filter_map(|frame| Some((identity(frame)?, frame))).collect();
            let began = Instant::now();
            let mut sent: Option<Instant> = None;
            while !missing.is_empty() {
                assert!(began.elapsed() < Duration::from_secs(120), "{} frames are lost", missing.len());
                if sent.is_none_or(|at| at.elapsed() > Duration::from_secs(3)) {
                    self.senders[from].send(missing.values().map(|frame| (&header, &frame[..])));
                    sent = Some(Instant::now());
                }
                let got = self.receivers[1 - from].receive(WINDOW, |received| {
                    identity(received.frame).into_iter().for_each(|of| {
                        missing.remove(&of);
                    });
                });
                if got == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }
}

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 0x10;
const FIN: u8 = 1;

/// How connection `n` ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Fin,
    Rst,
    Zone,
    Idle,
    Port,
}

const fn way(n: u32) -> Way {
    match n % 5 {
        0 => Way::Fin,
        1 => Way::Rst,
        2 => Way::Zone,
        3 => Way::Idle,
        _ => Way::Port,
    }
}

fn both(n: u32) -> (End, End) {
    let net = if way(n) == Way::Zone { 0x0a06_0000 } else { 0x0a05_0000 };
    ((0x0b00_0000 | n >> 4, 1000 + (n & 15) as u16), (net | 2, 80))
}

/// Frames of connections, from the client or the server.
fn frames(of: &[u32], server: bool, udp: bool, segment: (u8, u32, u32)) -> Vec<Vec<u8>> {
    of.iter()
        .filter(|n| (way(**n) == Way::Idle) == udp)
        .map(|&n| {
            let (a, b) = both(n);
            let (from, to) = if server { (b, a) } else { (a, b) };
            frame(from, to, (!udp).then_some(segment))
        })
        .collect()
}

/// Connections that are established together.
const LOT: usize = 1000;

/// Has connections be established and in hardware.
fn establish(world: &World, ends: &mut Ends, of: &[u32]) {
    for lot in of.chunks(LOT) {
        let before = stats(world);
        ends.exchange(0, &frames(lot, false, false, (SYN, 100, 0)));
        ends.exchange(1, &frames(lot, true, false, (SYN | ACK, 200, 101)));
        ends.exchange(0, &frames(lot, false, true, (0, 0, 0)));
        ends.exchange(1, &frames(lot, true, true, (0, 0, 0)));
        for udp in [false, true] {
            ends.exchange(0, &frames(lot, false, udp, (ACK, 101, 201)));
            ends.exchange(1, &frames(lot, true, udp, (ACK, 201, 101)));
        }
        patiently(world, "the connections are in hardware", || {
            let now = stats(world);
            let grown = |path| number(&now, path).saturating_sub(number(&before, path));
            // Those that expire soon may have done so.
            let gone = grown("gave_up") + grown("ended/idle") * 2;
            grown("pushed") + gone >= 2 * lot.len() as u64 && number(&now, "connections/pending") == 0
        });
    }
}

/// Waits for what takes its time with many connections.
fn patiently(world: &World, what: &str, mut check: impl FnMut() -> bool) {
    let began = Instant::now();
    while !check() {
        let late = began.elapsed() > Duration::from_secs(400);
        assert!(!late, "not in time: {what}\n{}", world.sh("ovs-appctl offload/ct-stats"));
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn nothing_is_left(world: &World, name: &str) {
    patiently(world, "nothing is left in table and NIC", || {
        figure(world, "rules") == 0 && counter(world, name, "rules") == 0
    });
}

fn set(world: &World, name: &str, knob: &str, value: u32) {
    let file = world.switch.file(&format!("{FILES}/{name}/{knob}"));
    std::fs::write(&file, value.to_string()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Tells of the time that steps take, and of what the switch spent on them.
struct Steps<'a> {
    world: &'a World,
    began: Instant,
    last: Instant,
    spent: f32,
}

impl<'a> Steps<'a> {
    fn new(world: &'a World) -> Self {
        let now = Instant::now();
        Self { world, began: now, last: now, spent: spent(world) }
    }

    fn done(&mut self, what: &str) {
        let (now, spent) = (Instant::now(), spent(self.world));
        let seconds = now.duration_since(self.last).as_secs_f32();
        println!("{seconds:7.1} s, the switch {:5.1} s: {what}", spent - self.spent);
        (self.last, self.spent) = (now, spent);
    }
}

/// Seconds that the switch has used processors for.
fn spent(world: &World) -> f32 {
    let pid = world.read("ovs-vswitchd.pid");
    let stat = world.read(&format!("/proc/{}/stat", pid.trim()));
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f32>().ok()).sum::<f32>() / 100.0
}

/// Connections that end in each way, with a NIC that refuses 10 % and forgets 1 % of deletions; then a crash.
fn ends(world: &World, name: &str, many: u32) {
    world.sh(&format!(
        "mount -t debugfs debugfs /sys/kernel/debug; echo '{name} 2' > {FILES}/new
         for n in 0 1; do for dev in {name}_$n {name}v$n; do
             echo 1 > /proc/sys/net/ipv6/conf/$dev/disable_ipv6; ip link set $dev up; done; done"
    ));
    bridge(world, name, "exec(set_field:7->ct_mark)");
    set(world, name, "refuse_permille", 100);
    set(world, name, "lose_deletes_permille", 10);
    let mut wire = Ends::new(name);
    let all: Vec<u32> = (0..many).collect();
    let of = |which: Way| all.iter().copied().filter(|n| way(*n) == which).collect::<Vec<_>>();
    let ended = |cause: &str| figure(world, &format!("ended/{cause}"));
    let mut steps = Steps::new(world);
    establish(world, &mut wire, &all);
    let most = counter(world, name, "rules");
    steps.done(&format!("{many} connections, {} rules pushed, {most} in the NIC", figure(world, "pushed")));
    wire.exchange(0, &frames(&of(Way::Fin), false, false, (FIN | ACK, 101, 201)));
    wire.exchange(1, &frames(&of(Way::Rst), true, false, (RST, 201, 0)));
    let share = u64::from(many / 5);
    patiently(world, "they are closed", || ended("closed") >= share * 2);
    steps.done("FIN and RST");
    world.sh("ovs-appctl dpctl/flush-conntrack zone=6");
    patiently(world, "they are flushed", || ended("flushed") >= share);
    steps.done("the zone is flushed");
    patiently(world, "they are idle", || ended("idle") >= share);
    steps.done("those without packets expire");
    world.sh(&format!("ovs-vsctl del-port br0 {name}_1"));
    nothing_is_left(world, name);
    steps.done("the port is gone");
    let end = stats(world);
    let [pushed, deleted, leftover] = ["pushed", "deleted", "ended/leftover"].map(|path| number(&end, path));
    assert_eq!(deleted, pushed + leftover, "{end}");
    assert_eq!((ended("port"), ended("policy")), (share, 0), "{end}");
    println!(
        "{} refused and {} deletions lost by the NIC, {} deleted; {end}",
        counter(world, name, "rules_refused"),
        counter(world, name, "rules_lost"),
        counter(world, name, "rules_deleted")
    );
    // Connections that nobody saw before.
    let others: Vec<u32> = (many..many + many.min(2000)).collect();
    crash(world, name, &mut wire, &others);
    steps.done("killed, and started again");
    println!("{:7.1} s in all", steps.began.elapsed().as_secs_f32());
}

/// What a killed process leaves in the NIC, its successor removes; connections come back.
fn crash(world: &World, name: &str, wire: &mut Ends, of: &[u32]) {
    world.sh(&format!("ovs-vsctl add-port br0 {name}_1 -- set interface {name}_1 ofport_request=2"));
    establish(world, wire, of);
    let there = counter(world, name, "rules");
    assert!(there > of.len() as u64, "{there} rules");
    kill(world);
    let left = counter(world, name, "rules");
    assert!(left > of.len() as u64, "of {there} rules of a killed process {left} are there");
    world.switch.start_switch(&[]);
    world.sh("ovs-ofctl add-flows br0 flows");
    // They went with what they hung from, or one by one.
    nothing_is_left(world, name);
    establish(world, wire, of);
    // One that nobody knows is found by the collector.
    let before = figure(world, "ended/leftover");
    let cookie: String = b"TNOUTCT1leftover".iter().map(|byte| format!("{byte:02x}")).collect();
    set(world, name, "refuse_permille", 0);
    world.sh(&format!(
        "tc filter add dev {name}_0 ingress handle 0x80000001 prio 2 protocol ip flower skip_sw dst_ip 10.9.9.9 \
             action drop cookie {cookie}"
    ));
    patiently(world, "what is left over is found", || figure(world, "ended/leftover") > before);
    world.sh("ovs-appctl exit");
    world.until("an orderly end leaves nothing", || counter(world, name, "rules") == 0);
    world.switch.start_switch(&[]);
}
