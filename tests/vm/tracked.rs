//! Connections of the userspace datapath in hardware, on the simulated NIC: established by frames that this process sends and
//! receives at the VFs, ended in every way there is, while the NIC refuses, forgets and is asked again. At the end nothing is
//! in the NIC and nothing in the table.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use flow::checksum::{of as checksum, pseudo4};
use sys::link::Links;
use sys::packet::{Receiver, Sender, VNET_HDR};

use crate::Test;
use crate::restart::kill;
use crate::simnic::{FILES, counter, hosts, stream};
use crate::world::{Running, World, ip};

pub const TESTS: &[Test] = &[
    Test::offloading("tracked::forwards", forwards),
    Test::offloading("tracked::translates", translates),
    Test::offloading("tracked::ends", |world| ends(world, "ctc", 600)),
    Test::offloading("tracked::hundred_thousand", |world| ends(world, "ctd", 100_000)).long(),
];

/// A userspace bridge with two VFs, where what is established goes from one to the other.
fn bridge(world: &World, name: &str, commit: &str) {
    world.sh("ovs-vsctl set open_vswitch . other_config:hw-offload=true");
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

/// A figure of `offload/ct-stats`.
fn figure(world: &World, path: &str) -> u64 {
    let text = world.sh("ovs-appctl --format json offload/ct-stats");
    let json: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    json.pointer(&format!("/netdev@ovs-netdev/{path}")).and_then(serde_json::Value::as_u64).unwrap_or(0)
}

fn in_hardware(world: &World) -> u64 {
    figure(world, "connections/in_hardware")
}

/// A slow connection from `h1` to `h2`, and waits until the NIC carries it.
fn talk(world: &World, name: &str) -> [Running; 2] {
    let server = world.spawn("ip netns exec h2 nc -l 5001", "talk.out");
    world.until("the server listens", || world.at("h2", "ss -tln").contains(":5001 "));
    let words = "for n in $(seq 120); do echo $n; sleep 0.1; done";
    let client =
        world.spawn(&format!("ip netns exec h1 bash -c '{words} | nc -N {} 5001'", ip(2)), "client.out");
    world.until("the connection is in hardware", || {
        in_hardware(world) == 1 && counter(world, name, "rules") == 2
    });
    let before = counter(world, name, "forwarded");
    world.until("the NIC forwards", || counter(world, name, "forwarded") > before + 20);
    [server, client]
}

/// What the slow connection brought.
fn was_whole(world: &World) {
    let expected: String = (1..=120).map(|n| format!("{n}\n")).collect();
    assert!(world.read("talk.out") == expected, "other data: {}", world.read("talk.out"));
}

fn forwards(world: &World) {
    hosts(world, "cta", 2);
    bridge(world, "cta", "exec(set_field:7->ct_mark)");
    let _talk = talk(world, "cta");
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
    patiently(world, "its end takes the rules", || counter(world, "cta", "rules") == 0);
    was_whole(world);
    stream(world, "h1", &ip(2), 5002, "h2", 5002);
    world.until("nothing is left", || figure(world, "rules") == 0 && counter(world, "cta", "rules") == 0);
    assert!(figure(world, "ended/closed") >= 2);
}

fn translates(world: &World) {
    hosts(world, "ctb", 2);
    // Answers go to the translated address.
    world.sh(&format!("ip -n h2 neigh add 10.1.0.77 lladdr {} dev eth0 nud permanent", crate::world::mac(1)));
    bridge(world, "ctb", "nat(src=10.1.0.77),exec(set_field:7->ct_mark)");
    let _talk = talk(world, "ctb");
    let shown = world.sh("ovs-appctl offload/ct-show");
    assert!(shown.contains("reply=(src=10.1.0.2,dst=10.1.0.77,"), "{shown}");
    patiently(world, "its end takes the rules", || {
        figure(world, "rules") == 0 && counter(world, "ctb", "rules") == 0
    });
    was_whole(world);
    stream(world, "h1", &ip(2), 5002, "h2", 5002);
    world.until("nothing is left", || figure(world, "rules") == 0 && counter(world, "ctb", "rules") == 0);
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

/// Has connections be established and in hardware.
fn establish(world: &World, ends: &mut Ends, of: &[u32]) {
    let before = figure(world, "pushed") + figure(world, "gave_up");
    ends.exchange(0, &frames(of, false, false, (SYN, 100, 0)));
    ends.exchange(1, &frames(of, true, false, (SYN | ACK, 200, 101)));
    ends.exchange(0, &frames(of, false, true, (0, 0, 0)));
    ends.exchange(1, &frames(of, true, true, (0, 0, 0)));
    for udp in [false, true] {
        ends.exchange(0, &frames(of, false, udp, (ACK, 101, 201)));
        ends.exchange(1, &frames(of, true, udp, (ACK, 201, 101)));
    }
    let wanted = before + 2 * of.len() as u64;
    // Of those that expire soon some may have done so.
    patiently(world, "the connections are in hardware", || {
        let gone = figure(world, "gave_up") + figure(world, "ended/idle") * 2;
        figure(world, "pushed") + gone >= wanted * 98 / 100 && figure(world, "connections/pending") == 0
    });
}

fn is_empty(world: &World, name: &str) -> bool {
    figure(world, "rules") == 0 && counter(world, name, "rules") == 0
}

/// Waits for what takes its time with many connections.
fn patiently(world: &World, what: &str, mut check: impl FnMut() -> bool) {
    let began = Instant::now();
    while !check() {
        let late = began.elapsed() > Duration::from_secs(400);
        assert!(!late, "not in time: {what}\n{}", world.sh("ovs-appctl offload/ct-stats"));
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn nothing_is_left(world: &World, name: &str) {
    patiently(world, "nothing is left in table and NIC", || is_empty(world, name));
}

fn set(world: &World, name: &str, knob: &str, value: u32) {
    world.sh(&format!("echo {value} > {FILES}/{name}/{knob}"));
}

/// Connections that end in each way, with a NIC that refuses 10 % and forgets 1 % of deletions; then a crash.
fn ends(world: &World, name: &str, many: u32) {
    let start = Instant::now();
    world.sh(&format!(
        "mount -t debugfs debugfs /sys/kernel/debug; echo '{name} 2' > {FILES}/new
         for n in 0 1; do ip link set {name}_$n up; ip link set {name}v$n up; done"
    ));
    bridge(world, name, "exec(set_field:7->ct_mark)");
    set(world, name, "refuse_permille", 100);
    set(world, name, "lose_deletes_permille", 10);
    let mut wire = Ends::new(name);
    let all: Vec<u32> = (0..many).collect();
    for lot in all.chunks(5000) {
        establish(world, &mut wire, lot);
    }
    let (pushed, most) = (figure(world, "pushed"), counter(world, name, "rules"));
    println!(
        "{many} connections in {:.0} s: {pushed} rules pushed, {most} in the NIC",
        start.elapsed().as_secs_f32()
    );
    let fins: Vec<u32> = all.iter().copied().filter(|n| way(*n) == Way::Fin).collect();
    let rsts: Vec<u32> = all.iter().copied().filter(|n| way(*n) == Way::Rst).collect();
    wire.exchange(0, &frames(&fins, false, false, (FIN | ACK, 101, 201)));
    wire.exchange(1, &frames(&rsts, true, false, (RST, 201, 0)));
    patiently(world, "they are closed", || {
        figure(world, "ended/closed") >= (fins.len() + rsts.len()) as u64 * 99 / 100
    });
    world.sh("ovs-appctl dpctl/flush-conntrack zone=6");
    patiently(world, "they are flushed", || figure(world, "ended/flushed") >= u64::from(many / 5) * 99 / 100);
    patiently(world, "they are idle", || figure(world, "ended/idle") >= u64::from(many / 5) * 98 / 100);
    world.sh(&format!("ovs-vsctl del-port br0 {name}_1"));
    nothing_is_left(world, name);
    let lost = counter(world, name, "rules_lost");
    println!("{}", world.sh("ovs-appctl offload/ct-stats").trim_end());
    println!(
        "{} refused and {lost} deletions lost by the NIC, {} deleted",
        counter(world, name, "rules_refused"),
        counter(world, name, "rules_deleted")
    );
    crash(world, name, &mut wire, &all[..all.len().min(5000)]);
    println!("{:.0} s in all", start.elapsed().as_secs_f32());
}

/// What a killed process leaves in the NIC, its successor removes; connections come back.
fn crash(world: &World, name: &str, wire: &mut Ends, of: &[u32]) {
    world.sh(&format!("ovs-vsctl add-port br0 {name}_1 -- set interface {name}_1 ofport_request=2"));
    establish(world, wire, of);
    assert!(counter(world, name, "rules") > of.len() as u64);
    kill(world);
    assert!(counter(world, name, "rules") > of.len() as u64, "rules of a killed process are still there");
    world.switch.start_switch(&[]);
    world.sh("ovs-ofctl add-flows br0 flows");
    nothing_is_left(world, name);
    assert!(figure(world, "ended/leftover") > of.len() as u64);
    establish(world, wire, of);
    world.sh("ovs-appctl exit");
    world.until("an orderly end leaves nothing", || counter(world, name, "rules") == 0);
    world.switch.start_switch(&[]);
}
