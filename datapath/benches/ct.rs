//! New connections and look-ups a second of the userspace tracker, on one thread. See `scripts/bench ct`.
//!
//! A packet is a frame that the tracker has not seen yet: it is parsed, its checksums are verified (or, as with checksums that a
//! NIC verified, trusted), its connection is made or found, its state machine moves on. OVS's figures are of its own benchmark
//! of its tracker, on its makers' machine.

use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;

use datapath::conntrack::Tracker;
use datapath::conntrack::parse::parse;
use datapath::conntrack::tracker::{Action, Passage};
use flow::checksum::{Sum, of as checksum, pseudo4};
use flow::extract::{Layout, Metadata, extract};
use flow::time::{Clock, Instant, WallTime};

const BATCH: usize = 32;
/// What OVS's makers published, in millions a second.
const OVS_NEW: f64 = 3.9;
const OVS_LOOKUPS: f64 = 13.8;

struct Real(std::time::Instant);

impl Clock for Real {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }

    fn wall(&self) -> WallTime {
        WallTime::default()
    }

    fn wait(&self, _deadline: Instant, _waker: &Waker) {}
}

/// A UDP frame of 64 bytes of the `n`-th connection.
fn frame(n: u32, reply: bool) -> Vec<u8> {
    let mut ends = [(0x0a00_0000 | n >> 8, 1024 + (n & 0xff) as u16), (0x0b00_0001, 53)];
    if reply {
        ends.reverse();
    }
    let [(src, sport), (dst, dport)] = ends;
    let mut udp = Vec::new();
    udp.extend(sport.to_be_bytes());
    udp.extend(dport.to_be_bytes());
    udp.extend([0, 30, 0, 0]);
    udp.extend([7; 22]);
    let sum = pseudo4(src, dst, 17, 30).bytes(&udp).finish();
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip.extend(src.to_be_bytes());
    ip.extend(dst.to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend(ip);
    frame.extend(udp);
    assert_eq!(Sum::default().bytes(&frame[14..34]).finish(), 0);
    frame
}

struct Bench {
    tracker: Tracker,
    clock: Arc<Real>,
    layout: Layout,
    passages: Vec<Passage>,
}

impl Bench {
    /// Takes all frames through the tracker; nanoseconds of processor time a frame.
    fn run(&mut self, action: &Action, frames: &[Vec<u8>], trusted: bool, rounds: usize) -> f64 {
        let began = processor_time();
        for _ in 0..rounds {
            for batch in frames.chunks(BATCH) {
                for frame in batch {
                    let parsed = parse(black_box(frame), &self.layout, trusted);
                    self.passages.push(Passage::new(Box::default(), parsed));
                }
                self.tracker.track(action, self.clock.now(), &mut self.passages);
                self.passages.clear();
            }
        }
        (processor_time() - began) as f64 / (frames.len() * rounds) as f64
    }
}

/// Nanoseconds that this thread has run, so that what else the machine does matters little. Without Linux's figure, time.
fn processor_time() -> u64 {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran = figures.split(' ').next().and_then(|text| text.parse().ok());
    ran.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |passed| passed.as_nanos() as u64))
}

fn line(what: &str, ns: f64, ovs: f64) {
    println!("{what:<44} {:>7.1} M/s {ns:>7.1} ns   OVS published {ovs} M/s", 1000.0 / ns);
}

fn main() {
    let mut key = Box::default();
    let layout = extract(&frame(0, false), &Metadata::from_port(1), &mut key);
    let commit = Action { commit: true, ..Action::default() };
    for connections in [10_000u32, 100_000, 1_000_000] {
        let clock = Arc::new(Real(std::time::Instant::now()));
        let tracker = Tracker::new(Arc::clone(&clock) as Arc<dyn Clock>, 42);
        let mut bench = Bench { tracker, clock, layout, passages: Vec::with_capacity(BATCH) };
        let sent: Vec<_> = (0..connections).map(|n| frame(n, false)).collect();
        let answers: Vec<_> = (0..connections).map(|n| frame(n, true)).collect();
        println!("{connections} connections");
        let new = bench.run(&commit, &sent, false, 1);
        line("  new connections", new, OVS_NEW);
        let plain = Action::default();
        let rounds = (2_000_000 / connections as usize).max(1);
        bench.run(&plain, &answers, false, 1);
        for (what, trusted) in [("checksums verified", false), ("checksums trusted", true)] {
            let ns = bench.run(&plain, &sent, trusted, rounds);
            line(&format!("  look-ups, {what}"), ns, OVS_LOOKUPS);
        }
        let ns = bench.run(&plain, &answers, true, rounds);
        line("  look-ups of answers, checksums trusted", ns, OVS_LOOKUPS);
        let figures = bench.tracker.figures();
        assert_eq!((figures.connections, figures.full), (connections, 0));
    }
}
