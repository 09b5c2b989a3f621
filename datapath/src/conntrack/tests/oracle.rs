//! Random packets of random connections through the `ct` node and through the [`super::twin`], side by side.

use super::frames::{Frame, read, tcp_with, udp};
use super::twin::{Body, Conn, Inside, Meta, NEW, Packet as Model, Twin};
use crate::PmdId;
use crate::conntrack::entry::{ProtoInfo, TcpState};
use crate::conntrack::key::{Key, icmp_ends, number};
use crate::conntrack::sweep::Sweep;
use crate::conntrack::{Conntrack, Entry, Tracker};
use crate::user::batch::{Meta as DpMeta, Offload, Packet};
use crate::user::node::ct;
use crate::user::program::{Op, Program};
use crate::user::worker::{Shared, Worker};
use ::flow::action::{Action, Ct, Nat, NatKind, NatRange};
use ::flow::id::Zone;
use ::flow::proto::ip;
use ::flow::time::{Clock, Instant, WallTime};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

/// A clock that stands where it is put, in milliseconds.
#[derive(Default)]
pub(crate) struct Still(pub(crate) AtomicU64);

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _deadline: Instant, _waker: &Waker) {}
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        crate::conntrack::key::mix(self.0)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

const V4: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2"];
const V6: [&str; 3] = ["fc00::1", "fc00::2", "fc00::101"];
/// Where translations lead: two addresses of each family.
const NAT4: (&str, &str) = ("10.0.2.1", "10.0.2.2");
const NAT6: (&str, &str) = ("fc00::200", "fc00::201");

/// Makes packets.
struct Traffic {
    rng: Rng,
    /// What went out lately: there will be answers, and errors.
    sent: Vec<(Key, Vec<u8>)>,
    /// The sequence number that each direction of TCP is at, by the ends' lowest bits.
    seqs: [u32; 64],
}

impl Traffic {
    fn seq(&mut self, key: &Key) -> &mut u32 {
        let at = key.src ^ key.src << 3 ^ u128::from(key.src_l4) ^ key.dst << 1;
        &mut self.seqs[(at % 64) as usize]
    }

    fn key(&mut self) -> Key {
        if !self.sent.is_empty() && self.rng.below(10) < 6 {
            let at = self.rng.below(self.sent.len() as u64) as usize;
            let key = self.sent[at].0;
            let answer = if self.rng.one_in(3) { key } else { key.reversed() };
            return Key { zone: 0, ..answer };
        }
        let v6 = self.rng.one_in(4);
        let hosts = if v6 { &V6[..] } else { &V4[..] };
        let mut host = || -> u128 { number(self.rng.of(hosts).parse().unwrap()) };
        let (src, dst) = (host(), host());
        let proto = self.rng.of(&[ip::TCP, ip::TCP, ip::TCP, ip::UDP, ip::UDP, ip::ICMP, ip::GRE]);
        let proto = if v6 && proto == ip::ICMP { ip::ICMPV6 } else { proto };
        let mut key = Key { src, dst, proto, v6, ..Key::default() };
        if key.has_ports() {
            key.src_l4 = self.rng.of(&[80, 511, 600, 1000, 2000, 2001, 65535]);
            key.dst_l4 = self.rng.of(&[21, 80, 81, 2000]);
        } else if key.is_icmp() {
            let kind = if v6 { self.rng.of(&[128, 129]) } else { self.rng.of(&[8, 8, 0, 13, 15]) };
            (key.src_l4, key.dst_l4) = icmp_ends(v6, self.rng.below(3) as u16, kind, 0).unwrap();
        }
        key
    }

    fn packet(&mut self) -> (Model, Vec<u8>) {
        if !self.sent.is_empty() && self.rng.one_in(12) {
            return self.error();
        }
        let key = self.key();
        let (body, mut frame) = match key.proto {
            ip::TCP => self.segment(&key),
            ip::UDP => (Body::Datagram, udp(&key, self.rng.below(30) as usize)),
            _ if key.is_icmp() => {
                let request = [8, 13, 15, 128].contains(&key.src_l4.to_be_bytes()[2]);
                (Body::Echo { request }, Frame::of(&key))
            }
            _ => (Body::Datagram, Frame::of(&key)),
        };
        let mut model = Model { key, body, meta: Meta::default() };
        if self.rng.one_in(50) && key.proto != ip::GRE {
            let last = frame.len() - 1;
            frame[last] ^= 4;
            model.body = Body::Broken;
        } else if self.rng.one_in(10) {
            frame.extend([0; 7]);
        }
        (model, frame)
    }

    fn error(&mut self) -> (Model, Vec<u8>) {
        let at = self.rng.below(self.sent.len() as u64) as usize;
        let (key, frame) = self.sent[at].clone();
        let router = if key.v6 { "fc00::abc" } else { "10.0.9.9" };
        let about = Frame::error(&key, router, &frame);
        (Model { key: key.reversed(), body: Body::Error, meta: Meta::default() }, about)
    }

    fn segment(&mut self, key: &Key) -> (Body, Vec<u8>) {
        let flags = self.rng.of(&[2, 2, 0x12, 0x10, 0x10, 0x18, 0x18, 0x11, 0x11, 4, 0x14, 0x01, 0, 0x2b]);
        let len = if flags & 2 != 0 { 0 } else { self.rng.of(&[0, 0, 1, 10, 100]) };
        let there = *self.seq(&key.reversed());
        let jump =
            self.rng.of(&[0, 0, 0, 0, 0, 1, 50, 5000, 70_000, 0x4000_0000, u32::MAX, u32::MAX - 80_000]);
        let seq = self.seq(key).wrapping_add(jump);
        if self.rng.one_in(2) {
            let ends = len + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
            *self.seq(key) = seq.wrapping_add(ends);
        }
        let ack = if self.rng.one_in(8) { self.rng.of(&[0, 1, 80_000]) } else { there };
        let win = self.rng.of(&[0, 1, 1000, 20_000, 65535]);
        let scale =
            if flags & 2 != 0 { self.rng.of(&[None, Some(0), Some(2), Some(7), Some(14)]) } else { None };
        let options = scale.map_or(vec![], |scale| vec![1, 3, 3, scale]);
        let frame = tcp_with(key, flags, seq, ack, win, &options, len as usize);
        (Body::Tcp { flags, seq, ack, win, scale, len }, frame)
    }

    fn action(&mut self, v6: bool) -> Ct {
        let mut ct = Ct { zone: Some(Zone(self.rng.of(&[0, 0, 0, 1]))), ..Ct::default() };
        match self.rng.below(20) {
            0..=11 => ct.commit = true,
            12 => ct.force = true,
            _ => {}
        }
        if self.rng.one_in(4) {
            let mask = self.rng.of(&[u32::MAX, 0xff00, 1]);
            ct.mark = Some((self.rng.next() as u32 & mask, mask));
        }
        if self.rng.one_in(8) {
            let mask = self.rng.of(&[u128::MAX, 0xff << 64]);
            ct.labels = Some(((u128::from(self.rng.next()) << 32 & mask).to_ne_bytes(), mask.to_ne_bytes()));
        }
        if self.rng.one_in(2) {
            ct.nat = Some(self.nat(v6, ct.commit || ct.force));
        }
        ct
    }

    fn nat(&mut self, v6: bool, commit: bool) -> Nat {
        if !commit || self.rng.one_in(3) {
            return Nat::default();
        }
        let (min, max): (IpAddr, IpAddr) = {
            let (min, max) = if v6 { NAT6 } else { NAT4 };
            (min.parse().unwrap(), max.parse().unwrap())
        };
        let mut range = NatRange::default();
        if !self.rng.one_in(4) {
            range.ip_min = Some(min);
            range.ip_max = self.rng.one_in(2).then_some(max);
            if self.rng.one_in(2) {
                range.proto_min = Some(3000);
                range.proto_max = self.rng.one_in(2).then_some(3003);
            }
        }
        Nat {
            kind: Some(self.rng.of(&[NatKind::Src, NatKind::Dst])),
            range,
            persistent: self.rng.one_in(4),
            proto_hash: false,
            proto_random: self.rng.one_in(4),
        }
    }
}

/// Both, and the traffic through them.
struct Rig {
    worker: Worker,
    tracker: Arc<Tracker>,
    clock: Arc<Still>,
    twin: Twin,
    traffic: Traffic,
    sweep: Sweep,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(Still::default());
        let tracker = Arc::new(Tracker::new(Arc::clone(&clock) as Arc<dyn Clock>, seed));
        let shared = Arc::new(Shared::new(
            "ovs-oracle".to_owned(),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&tracker),
        ));
        let worker = Worker::new(PmdId::MAIN, &shared, 0, seed);
        let traffic = Traffic { rng: Rng(seed), sent: Vec::new(), seqs: [1000; 64] };
        Self { worker, tracker, clock, twin: Twin::default(), traffic, sweep: Sweep::default() }
    }

    fn now(&self) -> u64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    /// A batch of packets through one action or more; how many packets that were.
    fn round(&mut self) -> usize {
        self.pass_time();
        let n = 1 + self.traffic.rng.below(16) as usize;
        let v6 = self.traffic.rng.one_in(4);
        let (mut models, mut packets) = (Vec::new(), Vec::new());
        while models.len() < n {
            let (model, frame) = self.traffic.packet();
            // Flows match the family before they translate.
            if model.key.v6 != v6 && !self.traffic.sent.is_empty() {
                let _ = self.traffic.sent.pop();
                continue;
            }
            if model.key.v6 == v6 {
                let meta = DpMeta::received(1);
                packets.push(Packet::new(&mut self.worker.pool, &frame, Offload::default(), meta).unwrap());
                models.push(model);
            }
        }
        let passes = 1 + self.traffic.rng.below(3);
        for _ in 0..passes {
            let action = self.traffic.action(v6);
            self.pass(&action, &mut models, &mut packets);
        }
        for (model, packet) in models.iter().zip(packets) {
            if !matches!(model.body, Body::Error | Body::Broken) {
                self.traffic.sent.push((model.key, packet.frame(&self.worker.pool).to_vec()));
            }
            packet.free(&mut self.worker.pool);
        }
        let many = self.traffic.sent.len().saturating_sub(40);
        self.traffic.sent.drain(..many);
        n * passes as usize
    }

    /// One action on both.
    fn pass(&mut self, action: &Ct, models: &mut [Model], packets: &mut [Packet]) {
        let members: Vec<u16> = (0..packets.len() as u16).collect();
        for packet in &mut *packets {
            self.worker.locate(packet);
        }
        let program = Program::compile(&[Action::Ct(action.clone())]).unwrap();
        let Op::Ct(compiled) = &program.ops[0] else { panic!("not a ct") };
        ct::track(&mut self.worker, compiled, packets, &members);
        let now = self.now();
        for (model, packet) in models.iter_mut().zip(packets) {
            let tracked = packet.meta.ct.as_ref().unwrap();
            // Whole checksums are part of being read.
            let parsed = read(packet.frame(&self.worker.pool));
            let before = model.clone();
            let key = parsed.map(|parsed| parsed.key);
            let chosen = key.filter(|_| tracked.state & 0xc0 != 0).map(|key| key.reversed());
            self.twin.track(action, now, model, chosen);
            let meta = Meta {
                state: tracked.state,
                zone: tracked.zone.0,
                mark: tracked.mark,
                label: tracked.label,
                orig: tracked.orig,
                ..model.meta.clone()
            };
            assert_eq!(meta, model.meta, "{action:?} at {now} on {before:?}");
            let expected = (model.body != Body::Broken).then_some(Key { zone: 0, ..model.key });
            assert_eq!(key, expected, "{action:?} at {now} on {before:?}");
        }
    }

    fn pass_time(&mut self) {
        let more = match self.traffic.rng.below(100) {
            0 => 20_000 + self.traffic.rng.below(60_000),
            1..=4 => 5_000,
            _ => self.traffic.rng.below(40),
        };
        self.clock.0.fetch_add(more, Ordering::Relaxed);
        let now = self.now();
        self.worker.refresh();
        self.twin.expire(now);
        match self.traffic.rng.below(400) {
            0 => {
                let zone = Zone(self.traffic.rng.below(2) as u16);
                self.tracker.flush(Some(zone)).unwrap();
                self.twin.conns.retain(|conn| conn.fwd.zone != zone.0);
            }
            1 if !self.twin.conns.is_empty() => {
                let at = self.traffic.rng.below(self.twin.conns.len() as u64) as usize;
                let conn = self.twin.conns.remove(at);
                self.tracker.flush_tuple(Zone(conn.fwd.zone), &conn.fwd.tuple()).unwrap();
            }
            2 => {
                self.twin.lax = !self.twin.lax;
                self.tracker.set_tcp_seq_check(!self.twin.lax).unwrap();
            }
            3..40 => {
                let budget = self.traffic.rng.below(4096) as usize;
                if self.tracker.sweep(&mut self.sweep, Instant::from_millis(now), budget) {
                    self.sweep = Sweep::default();
                }
            }
            40 => self.compare(),
            _ => {}
        }
    }

    /// Holds the dump against the list.
    fn compare(&mut self) {
        let now = self.now();
        let mut dump: Vec<String> =
            self.tracker.dump(None).unwrap().map(|entry| entry.unwrap().text(true, true)).collect();
        let mut list: Vec<String> =
            self.twin.conns.iter().map(|conn| entry(conn, now).text(true, true)).collect();
        dump.sort();
        list.sort();
        assert_eq!(dump, list, "at {now}");
    }
}

/// A connection of the list as it is shown.
fn entry(conn: &Conn, now: u64) -> Entry {
    let mut entry = Entry::new(conn.fwd.tuple(), conn.rev.tuple());
    entry.zone = Zone(conn.fwd.zone);
    (entry.mark, entry.labels) = (conn.mark, conn.label);
    entry.timeout = ((conn.ends - now) / 1000) as u32;
    if let Inside::Tcp(ends) = &conn.inside {
        let [orig, reply] = ends.map(|end| crate::conntrack::entry::TcpPeer {
            state: TcpState::ALL[usize::from(end.state)],
            wscale: end.scale.flatten().unwrap_or(0),
            flags: match end.scale {
                None => 0,
                Some(Some(_)) => 1,
                Some(None) => 8,
            },
        });
        entry.proto = Some(ProtoInfo::Tcp { orig, reply });
    }
    entry
}

/// Runs seeds until so many packets went by; what they met.
fn run(first: u64, packets: usize) {
    let (mut done, mut seed, mut most, mut new) = (0, first, 0, 0);
    while done < packets {
        let mut rig = Rig::new(seed);
        for _ in 0..1500 {
            done += rig.round();
            most = most.max(rig.twin.conns.len());
            if done >= packets {
                break;
            }
        }
        rig.compare();
        new += rig.twin.conns.iter().filter(|conn| conn.fwd.reversed() != conn.rev).count();
        seed += 1;
    }
    // The traffic must be worth the name.
    assert!(most > 10 && new > 0 && NEW != 0, "{most} connections at once, {new} translated");
}

#[test]
fn tracker_and_twin_agree() {
    run(1, 30_000);
}

/// A million packets; `scripts/test --long` runs it.
#[test]
#[ignore = "takes minutes"]
fn tracker_and_twin_agree_for_long() {
    run(1000, 1_000_000);
}
