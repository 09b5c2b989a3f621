//! How fast the vector engine is: frames from a capture in memory, through look-up, to a port that drops them, on one worker
//! thread. `scripts/bench engine` runs it with the `dist` profile.
//!
//! Each flow is a megaflow of its own, by addresses and ports. Cycles are those of the time-stamp counter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use datapath::flow::Dump;
use datapath::netdev::{Counters, DummyLevel, Flags, Netdev, Netdevs};
use datapath::upcall::{Answer, Handler, Install, Upcall};
use datapath::user::port::Io;
use datapath::user::port::null::Null;
use datapath::user::port::pcap::Player;
use datapath::user::{Engine, Setup};
use datapath::{Datapath, Error};
use flow::action::Action;
use flow::compose::{Payload, compose};
use flow::id::DpPort;
use flow::key::{EthAddr, Key, Mask};
use flow::time::{Clock, Instant, WallTime};

/// The machine's clock.
struct Real(std::time::Instant);

impl Clock for Real {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _deadline: Instant, _waker: &Waker) {}
}

/// A device that is nothing but its packet side.
struct Bare(&'static str, Arc<dyn Io>);

impl Netdev for Bare {
    fn name(&self) -> &str {
        self.0
    }

    fn kind(&self) -> &'static str {
        "dummy"
    }

    fn mac(&self) -> Result<EthAddr, Error> {
        Ok([2; 6])
    }

    fn set_mac(&self, _mac: EthAddr) -> Result<(), Error> {
        Ok(())
    }

    fn mtu(&self) -> Result<u16, Error> {
        Ok(1500)
    }

    fn set_mtu(&self, _mtu: u16) -> Result<(), Error> {
        Ok(())
    }

    fn flags(&self) -> Result<Flags, Error> {
        Ok(Flags::UP)
    }

    fn update_flags(&self, _off: Flags, _on: Flags) -> Result<(), Error> {
        Ok(())
    }

    fn counters(&self) -> Result<Counters, Error> {
        Ok(Counters::default())
    }

    fn io(&self) -> Result<Arc<dyn Io>, Error> {
        Ok(Arc::clone(&self.1))
    }

    fn change_seq(&self) -> u64 {
        1
    }
}

/// Installs a flow by addresses and ports for each packet, to port 2.
struct FiveTuple;

impl Handler for FiveTuple {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        let mut mask = Mask::default();
        let m = &mut mask.0;
        (m.in_port, m.recirc_id, m.dl_type) = (u32::MAX, u32::MAX, u16::MAX.into());
        (m.nw_src, m.nw_dst, m.nw_proto) = (u32::MAX.into(), u32::MAX.into(), u8::MAX);
        (m.tp_src, m.tp_dst) = (u16::MAX.into(), u16::MAX.into());
        let actions = vec![Action::Output(DpPort(2))];
        let _ = upcall;
        let actions: Arc<[_]> = actions.into();
        Some(Answer {
            execute: Arc::clone(&actions),
            install: Some(Install { mask: Box::new(mask), actions }),
        })
    }
}

/// One 64-byte frame (without its check sequence: 60 bytes) a flow, in an order that no cache line prefetcher knows.
fn frames(flows: u32) -> Vec<Vec<u8>> {
    let frame = |n: u32| {
        let n = n.wrapping_mul(40_503) % flows.max(1);
        let mut key = Key {
            dl_src: [2, 0, 0, 0, 0, 1],
            dl_dst: [2, 0, 0, 0, 0, 2],
            nw_proto: 17,
            nw_ttl: 64,
            ..Key::default()
        };
        key.dl_type = 0x800.into();
        (key.nw_src, key.nw_dst) = ((0x0a00_0000 | n).into(), 0x0b00_0001.into());
        (key.tp_src, key.tp_dst) = (((n % 50_000) as u16 + 1024).into(), 9.into());
        compose(&key, Payload::Len(18))
    };
    (0..flows).map(frame).collect()
}

fn engine(frames: Vec<Vec<u8>>, devices: &Netdevs) -> Engine {
    let setup = Setup {
        name: "ovs-dummy".into(),
        kind: "dummy".into(),
        dummy: true,
        clock: Arc::new(Real(std::time::Instant::now())),
        seed: 1,
        cores: None,
    };
    let engine = Engine::new(setup, devices).expect("a datapath of dummies needs nothing");
    engine.set_handler(Some(Arc::new(FiveTuple)));
    engine.configure(&BTreeMap::new()).expect("an empty configuration");
    let add = |device: Bare| {
        let device: Arc<dyn Netdev> = Arc::new(device);
        engine.port_add(&device, None).expect("a free number");
    };
    add(Bare("p2", Arc::new(Null::default())));
    add(Bare("p1", Arc::new(Player::new(frames))));
    engine
}

fn flows_of(engine: &Engine) -> usize {
    let mut dump: Box<dyn Dump> = engine.flow_dump(true);
    let mut flows = Vec::new();
    while dump.next(10_000, &mut flows).unwrap_or(false) {}
    flows.len()
}

fn forwarding(flows: u32) {
    let devices = Netdevs::new();
    devices.enable_dummy(DummyLevel::Plain);
    let engine = engine(frames(flows), &devices);
    while flows_of(&engine) < flows as usize {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    let mut best: Option<(f64, f64, f64)> = None;
    for _ in 0..3 {
        let (before, began) = (engine.worker_stats(), std::time::Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        let (after, seconds) = (engine.worker_stats(), began.elapsed().as_secs_f64());
        let packets = (after.received - before.received) as f64;
        let cycles = (after.busy_cycles - before.busy_cycles) as f64 / packets;
        let cached = (after.cache_hits - before.cache_hits) as f64 / packets * 100.0;
        if best.is_none_or(|(_, least, _)| cycles < least) {
            best = Some((packets / seconds / 1e6, cycles, cached));
        }
    }
    let (rate, cycles, cached) = best.unwrap_or_default();
    println!(
        "{flows:>8} flows: {rate:7.2} million packets/s, {cycles:6.1} cycles/packet, {cached:5.1} % by the exact-match cache"
    );
    for graph in datapath::user::show::Graphs::of(&engine).0 {
        for row in graph.nodes.iter().filter(|row| row.packets > 1_000_000) {
            println!(
                "          {:<9} {:6.1} clocks/packet",
                row.node,
                row.clocks as f64 / row.packets as f64
            );
        }
    }
}

fn set_ups(flows: u32) {
    let devices = Netdevs::new();
    devices.enable_dummy(DummyLevel::Plain);
    let (frames, hz) = (frames(flows), sys::cpu::tsc_hz());
    let engine = engine(frames, &devices);
    while flows_of(&engine) < flows as usize {
        std::thread::sleep(Duration::from_millis(5));
    }
    for graph in datapath::user::show::Graphs::of(&engine).0 {
        for row in graph.nodes.iter().filter(|row| row.node == "miss" && row.packets >= u64::from(flows)) {
            let rate = f64::from(flows) / (row.clocks as f64 / hz as f64);
            let clocks = row.clocks as f64 / f64::from(flows);
            println!(
                "set-ups: {rate:.0} flows/s ({flows} flows, {clocks:.0} clocks each, translation aside)"
            );
        }
    }
}

/// A field of /proc/cpuinfo.
fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
}

fn main() {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let profile =
        if cfg!(debug_assertions) { "with debug assertions (not to be compared)" } else { "optimised" };
    println!(
        "engine: {}, {} cores, {:.2} GHz time-stamp counter, Linux {}, {profile}",
        cpu_model(),
        sys::cpu::cores().len(),
        sys::cpu::tsc_hz() as f64 / 1e9,
        kernel.trim()
    );
    println!(
        "60-byte UDP frames from a capture in memory to a null port, one worker, vectors of {}",
        datapath::user::batch::VECTOR
    );
    for flows in [1, 1_000, 100_000] {
        forwarding(flows);
    }
    set_ups(100_000);
}
