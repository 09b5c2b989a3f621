//! The same packets come out wherever flows are: in the simulated NIC, in the kernel as rules of traffic control, in the kernel's
//! datapath, in the userspace engine. Random flows, each with two frames of its own: one that it is for, and one that differs from
//! that somewhere. All are sent twice: the first time they set flows up, the second time they meet them where they are.
//!
//! `TURNOUT_VM_SEED` is another seed than the fixed one. The flows, frames and captures of a run that failed are told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use frames::Frame;

use tests::sandbox::wait_until;

use crate::Test;
use crate::simnic::{counter, hosts};
use crate::world::{PATIENCE, World};

mod frames;

pub const TESTS: &[Test] = &[Test::nic("same::packets", packets)];

/// Flows of a run.
const FLOWS: u16 = 200;

const NIC: &str = "same";

/// Where flows are.
struct Place {
    label: &'static str,
    datapath_type: &'static str,
    offload: bool,
    policy: &'static str,
    /// What flows there say of it.
    placement: &'static str,
}

const PLACES: [Place; 4] = [
    Place {
        label: "hardware",
        datapath_type: "system",
        offload: true,
        policy: "skip_sw",
        placement: "hardware",
    },
    Place { label: "tc", datapath_type: "system", offload: true, policy: "skip_hw", placement: "tc" },
    Place { label: "kernel", datapath_type: "system", offload: false, policy: "none", placement: "software" },
    Place { label: "engine", datapath_type: "netdev", offload: false, policy: "none", placement: "software" },
];

/// Who hears what comes out of the NIC's ports 1 to 4.
const HOSTS: [&str; 4] = ["h1", "h2", "h3", "w"];

/// Numbers that look random, the same ones from one seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    /// Once in `n` times.
    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A flow and its frames.
struct Case {
    flow: String,
    frames: [Vec<u8>; 2],
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What is written into the payload of a case's frame.
fn mark(case: u16, which: usize) -> String {
    format!("<{case:04}.{which}>")
}

fn case(number: u16, dice: &mut Dice) -> Case {
    let frame = Frame::random(number, dice);
    let other = frame.other(dice);
    let (matching, actions) = frame.flow(dice);
    let flow = format!("priority=9,{matching},actions={actions}");
    Case { flow, frames: [frame.bytes(&mark(number, 0)), other.bytes(&mark(number, 1))] }
}

const SEND: &str = r"
import socket, sys, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(('eth0', 0))
for line in open(sys.argv[1]):
    link.send(bytes.fromhex(line))
    time.sleep(0.005)
";

/// What came out for each mark: hosts with frames.
type Heard = BTreeMap<String, Vec<String>>;

/// The mark in a frame, if it is one of ours.
fn mark_of(frame: &[u8]) -> Option<String> {
    let found =
        frame.windows(8).find(|window| window[0] == b'<' && window[5] == b'.' && window[7] == b'>')?;
    String::from_utf8(found.to_vec()).ok()
}

/// Adds the frames of a capture that are ours.
fn read_capture(path: &Path, host: &str, heard: &mut Heard) {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut rest = bytes.get(24..).unwrap_or_default();
    while let Some(len) = rest.get(8..12).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes) {
        let Some(frame) = rest.get(16..16 + len as usize) else { break };
        if let Some(mark) = mark_of(frame) {
            heard.entry(mark).or_default().push(format!("{host} {}", hex(frame)));
        }
        rest = &rest[16 + len as usize..];
    }
    heard.values_mut().for_each(|frames| frames.sort());
}

/// Lines of a dump that are flows of ours, by the source address of their frames.
fn ours(dump: &str) -> impl Iterator<Item = &str> {
    dump.lines().filter(|line| line.contains(&format!("eth(src={}", frames::SOURCE)))
}

/// Packets that flows of ours counted.
fn counted(dump: &str) -> u64 {
    let packets = |line: &str| line.split("packets:").nth(1)?.split(',').next()?.parse::<u64>().ok();
    ours(dump).filter_map(packets).sum()
}

impl Place {
    fn begin(&self, world: &World) {
        let Self { datapath_type, offload, policy, .. } = self;
        world.sh(&format!(
            "ovs-vsctl --no-wait set open_vswitch . other_config:hw-offload={offload} other_config:tc-policy={policy} \
             other_config:max-idle=600000 other_config:vlan-limit=2"
        ));
        world.switch.start_switch(&[]);
        let mut ports = format!("add-br br0 -- set bridge br0 datapath_type={datapath_type}");
        for (port, device) in
            (1..).zip([format!("{NIC}_0"), format!("{NIC}_1"), format!("{NIC}_2"), NIC.to_owned()])
        {
            let _ =
                write!(ports, " -- add-port br0 {device} -- set interface {device} ofport_request={port}");
        }
        world.sh(&format!(
            "ovs-vsctl {ports}
             ovs-ofctl -O OpenFlow13 add-meter br0 'meter=1,kbps,burst,bands=type=drop,rate=900000,burst_size=90000'
             ovs-ofctl del-flows br0; ovs-ofctl add-flow br0 priority=0,actions=drop
             ovs-ofctl add-flow br0 'priority=1,in_port=1,actions=mod_dl_dst:02:fe:00:00:00:01,output:3'
             ovs-ofctl -O OpenFlow13 add-flows br0 flows.txt"
        ));
    }

    /// Sends all frames, so that all flows are where they are to be.
    fn set_up(&self, world: &World, frames: usize, wrong: &mut Vec<String>) {
        send(world, frames);
        let mut dump = String::new();
        world.until(&format!("all flows are set up at {}", self.label), || {
            dump = world.placed("all");
            let sources: BTreeSet<_> =
                ours(&dump).filter_map(|line| line.split("eth(src=").nth(1)?.get(..17)).collect();
            sources.len() == usize::from(FLOWS)
        });
        let wanted = format!(", placement:{}", self.placement);
        let elsewhere: Vec<_> = ours(&dump).filter(|line| !line.contains(&wanted)).collect();
        if !elsewhere.is_empty() {
            wrong.push(format!("not at {}:\n{}", self.label, elsewhere.join("\n")));
        }
        println!("{}: {} flows", self.label, ours(&dump).count());
    }

    /// What comes out with flows here, of frames that find them here.
    fn hear(&self, world: &World, frames: usize, wrong: &mut Vec<String>) -> Heard {
        self.begin(world);
        self.set_up(world, frames, wrong);
        let file = |host: &str, kind: &str| format!("{}-{host}.{kind}", self.label);
        let mut dumps = HOSTS.map(|host| {
            let script = format!(
                "ip netns exec {host} tcpdump -i eth0 -Q in -B 8192 -U -s 0 -w {}",
                file(host, "pcap")
            );
            world.spawn(&script, &file(host, "txt"))
        });
        for host in HOSTS {
            world.until("tcpdump listens", || world.read(&file(host, "txt")).contains("listening on"));
        }
        let before = counted(&world.placed("all"));
        let missed = counter(world, NIC, "missed");
        send(world, frames);
        let mut count = 0;
        wait_until(PATIENCE, || {
            count = counted(&world.placed("all")) - before;
            count == frames as u64
        });
        if count != frames as u64 {
            wrong.push(format!("flows at {} counted {count} of {frames} frames", self.label));
        }
        let missed = counter(world, NIC, "missed") - missed;
        if self.placement == "hardware" && missed != 0 {
            wrong.push(format!("{missed} frames went by the hardware"));
        }
        std::thread::sleep(Duration::from_secs(1));
        for dump in &mut dumps {
            world.sh(&format!("kill -INT {}", dump.0.id()));
            world.until("tcpdump ends", || matches!(dump.0.try_wait(), Ok(Some(_))));
        }
        let mut heard = Heard::new();
        for host in HOSTS {
            read_capture(&world.switch.file(&file(host, "pcap")), host, &mut heard);
        }
        world.check_end();
        world.sh("ovs-vsctl --timeout=60 del-br br0; ovs-appctl exit --cleanup");
        world.until("the switch ends", || world.switch.pid("ovs-vswitchd").is_none());
        assert_eq!(counter(world, NIC, "rules"), 0);
        heard
    }
}

/// Sends all frames from port 1, and waits until the NIC has had them.
fn send(world: &World, frames: usize) {
    let before = counter(world, NIC, "received");
    world.at("h1", "python3 send.py frames.txt");
    world.until("the NIC received all", || counter(world, NIC, "received") >= before + frames as u64);
}

/// Who of the places heard something else than most.
fn odd<'a>(heard: &[(&'a str, &Heard)], mark: &str) -> Vec<&'a str> {
    let alike = |one: &Heard| heard.iter().filter(|(_, other)| other.get(mark) == one.get(mark)).count();
    let most = heard.iter().map(|(_, one)| alike(one)).max().unwrap_or(0);
    heard.iter().filter(|(_, one)| alike(one) < most || most * 2 == heard.len()).map(|row| row.0).collect()
}

/// What is different, in full.
fn differences(heard: &[(&str, &Heard)], cases: &[Case]) -> Vec<String> {
    let mut out = Vec::new();
    for (number, case) in (0..).zip(cases) {
        for (which, frame) in case.frames.iter().enumerate() {
            let mark = mark(number, which);
            let odd = odd(heard, &mark);
            if odd.is_empty() {
                continue;
            }
            let mut text = format!("{} of {mark}\n  {}\n  sent {}", odd.join(" and "), case.flow, hex(frame));
            for (place, heard) in heard {
                let frames = heard.get(&mark).cloned().unwrap_or_default();
                let _ = write!(text, "\n  {place:>8}: {}", frames.join("\n            "));
            }
            out.push(text);
        }
    }
    out
}

fn packets(world: &World) {
    let given = std::env::var("TURNOUT_VM_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seed = given.unwrap_or(20_261_122);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let cases: Vec<_> = (0..FLOWS).map(|number| case(number, &mut dice)).collect();
    world.sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    hosts(world, NIC, 3);
    for host in HOSTS {
        world.sh(&format!("ip netns exec {host} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'"));
    }
    let flows: String = cases.iter().map(|case| format!("{}\n", case.flow)).collect();
    let frames: String = cases.iter().flat_map(|case| &case.frames).map(|frame| hex(frame) + "\n").collect();
    let sent = cases.len() * 2;
    for (file, text) in [("flows.txt", &*flows), ("frames.txt", &frames), ("send.py", SEND)] {
        std::fs::write(world.switch.file(file), text).expect("the sandbox is writable");
    }
    world.switch.start_database();
    let mut wrong = Vec::new();
    let heard = PLACES.map(|place| (place.label, place.hear(world, sent, &mut wrong)));
    let heard: Vec<_> = heard.iter().map(|(label, heard)| (*label, heard)).collect();
    wrong.extend(differences(&heard, &cases));
    assert!(wrong.is_empty(), "seed {seed}: {} are wrong\n{}", wrong.len(), wrong.join("\n"));
    let count = heard[0].1.values().map(Vec::len).sum::<usize>();
    println!("seed {seed}: {} flows, {sent} frames, {count} came out, everywhere the same", cases.len());
    assert!(count > sent / 2, "{count} of {sent} came out");
}
