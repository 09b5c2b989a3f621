//! The tracker's limits, expiry, and many threads at once.

use super::frames::{key, read, tcp, udp};
use super::oracle::Still;
use crate::conntrack::nat::Nat;
use crate::conntrack::sweep::{Cleaner, Sweep};
use crate::conntrack::tracker::{Action, Figures, Passage};
use crate::conntrack::{Conntrack, Tracker};
use ::flow::action::{Nat as NatAction, NatKind, NatRange};
use ::flow::id::Zone;
use ::flow::proto::{ct, ip};
use ::flow::time::{Clock, Instant};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn tracker() -> (Arc<Tracker>, Arc<Still>) {
    let clock = Arc::new(Still::default());
    (Arc::new(Tracker::new(Arc::clone(&clock) as Arc<dyn Clock>, 3)), clock)
}

fn commit() -> Action {
    Action { commit: true, ..Action::default() }
}

/// Takes a frame through the tracker; its `ct_state`.
fn track(tracker: &Tracker, action: &Action, now: u64, frame: &[u8]) -> u8 {
    let mut packets = [Passage::new(Box::default(), read(frame))];
    tracker.track(action, Instant::from_millis(now), &mut packets);
    packets[0].tracked.state
}

fn snat(address: &str, ports: (u16, u16)) -> Option<Nat> {
    let range = NatRange {
        ip_min: address.parse().ok(),
        ip_max: None,
        proto_min: Some(ports.0),
        proto_max: Some(ports.1),
    };
    Some(Nat::new(&NatAction { kind: Some(NatKind::Src), range, ..NatAction::default() }))
}

#[test]
fn a_full_tracker_drops_and_counts() {
    let (tracker, _) = tracker();
    tracker.set_max_connections(2).unwrap();
    for port in 1..=4 {
        let key = key("10.0.0.1", port, "", 53, ip::UDP);
        assert_eq!(track(&tracker, &commit(), 0, &udp(&key, 0)), ct::NEW | ct::TRACKED);
    }
    let figures = Figures { connections: 2, max_connections: 2, full: 2, exhausted: 0 };
    assert_eq!(tracker.figures(), figures);
    // What is over makes room when it is swept, or when its own place is wanted.
    let mut sweep = Sweep::default();
    assert!(tracker.sweep(&mut sweep, Instant::from_millis(59_999), usize::MAX));
    assert_eq!((sweep.looked, sweep.cleaned), (2, 0));
    let mut sweep = Sweep::default();
    let mut steps = 1;
    while !tracker.sweep(&mut sweep, Instant::from_millis(60_000), 64) {
        steps += 1;
    }
    assert!(steps > 1);
    assert_eq!((sweep.looked, sweep.cleaned, tracker.figures().connections), (2, 2, 0));
}

#[test]
fn exhausted_translations_are_counted() {
    let (tracker, _) = tracker();
    let action = Action { nat: snat("10.0.0.9", (5000, 5001)), ..commit() };
    let states: Vec<u8> = (1..=3)
        .map(|port| track(&tracker, &action, 0, &udp(&key("10.0.0.1", port, "", 53, ip::UDP), 0)))
        .collect();
    let new = ct::NEW | ct::TRACKED;
    assert_eq!(states, [new | ct::SRC_NAT, new | ct::SRC_NAT, new]);
    assert_eq!(tracker.figures().exhausted, 1);
}

#[test]
fn settings_are_kept() {
    let (tracker, _) = tracker();
    assert_eq!(tracker.sweep_interval(), Ok(20_000));
    tracker.set_sweep_interval(5000).unwrap();
    assert_eq!(tracker.sweep_interval(), Ok(5000));
    assert_eq!((tracker.tcp_seq_check(), tracker.max_connections()), (Ok(true), Ok(3_000_000)));
    assert_eq!((tracker.buckets(), tracker.expectations(None).unwrap().count()), (Some(1), 0));
    let tuple = key("10.0.0.1", 1, "", 2, ip::UDP).tuple();
    assert_eq!(tracker.flush_tuple(Zone(0), &tuple), Err(sys::errno::Errno::ENOENT.into()));
}

#[test]
fn the_cleaner_ends_with_its_owner() {
    let (tracker, clock) = tracker();
    let key = key("10.0.0.1", 1, "", 53, ip::UDP);
    track(&tracker, &commit(), 0, &udp(&key, 0));
    clock.0.store(120_000, Ordering::Relaxed);
    let cleaner = Cleaner::start(&tracker).unwrap();
    for _ in 0..2000 {
        if tracker.figures().connections == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(cleaner);
    assert_eq!(tracker.figures().connections, 0);
}

#[test]
fn many_threads_leak_nothing() {
    let (tracker, _) = tracker();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let tracker = &tracker;
            scope.spawn(move || {
                let actions = [
                    commit(),
                    Action { force: true, ..commit() },
                    Action { nat: snat("10.0.0.9", (5000, 5003)), ..commit() },
                    Action { nat: snat("10.0.0.9", (5000, 5003)), ..Action::default() },
                ];
                for n in 0..4000u32 {
                    let key = key("10.0.0.1", 1 + n % 7, "10.0.0.2", 50 + n / 7 % 5, ip::UDP);
                    let answered = (n + thread) % 3 == 0;
                    let key = if answered { key.reversed() } else { key };
                    track(tracker, &actions[((n + thread) % 4) as usize], u64::from(n), &udp(&key, 0));
                    if n % 97 == 0 {
                        tracker.sweep(&mut Sweep::default(), Instant::from_millis(n.into()), usize::MAX);
                    }
                    if n % 501 == 0 {
                        tracker.flush(Some(Zone(0))).unwrap();
                    }
                }
            });
        }
    });
    let live = tracker.dump(None).unwrap().count();
    assert!(live <= tracker.figures().connections as usize);
    tracker.sweep(&mut Sweep::default(), Instant::NEVER, usize::MAX);
    assert_eq!(tracker.figures().connections, 0);
    assert!((0..=u8::MAX).all(|shard| tracker.table(shard).is_empty()));
}

#[test]
fn marks_and_labels_are_masked() {
    let (tracker, _) = tracker();
    let key = key("10.0.0.1", 1, "", 80, ip::TCP);
    let action = Action { mark: Some((0x50, 0xf0)), label: Some((1 << 100, 1 << 100)), ..commit() };
    let mut packets = [Passage::new(Box::default(), read(&tcp(&key, 2, 1, 0, 0)))];
    tracker.track(&action, Instant::ZERO, &mut packets);
    let action = Action { mark: Some((0x3, 0xf)), zone: Zone(0), ..Action::default() };
    tracker.track(&action, Instant::ZERO, &mut packets);
    assert_eq!((packets[0].tracked.mark, packets[0].tracked.label), (0x53, 1 << 100));
    let entry = tracker.dump(None).unwrap().next().unwrap().unwrap();
    assert_eq!((entry.mark, entry.labels), (0x53, 1 << 100));
}
