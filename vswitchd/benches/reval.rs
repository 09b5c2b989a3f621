//! What revalidation costs a flow, over a datapath that is a list: found unchanged, found with new packets, translated again
//! after a change. `scripts/bench revalidation` runs it with the `dist` profile.

mod shelf;

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use datapath::PmdId;
use datapath::upcall::{Handler, Kind, Upcall};
use flow::id::DpPort;
use flow::key::Key;

const FLOWS: u32 = 100_000;
const ROUNDS: u32 = 5;

fn key(n: u32) -> Key {
    let mut key = Key { dl_src: [2, 0, 0, 0, 0, 1], dl_dst: [2, 0, 0, 0, 0, 2], ..Key::default() };
    (key.in_port, key.nw_proto, key.nw_ttl) = (1, 17, 64);
    key.dl_type = 0x800.into();
    (key.nw_src, key.nw_dst) = ((0x0a00_0000 | n).into(), 0x0b00_0001.into());
    (key.tp_src, key.tp_dst) = (1024.into(), 9.into());
    key
}

fn main() {
    let (shelf, backer, clock) = shelf::switch(2 * FLOWS as usize);
    let packet = [0; 60];
    let began = std::time::Instant::now();
    for n in 0..FLOWS {
        let key = key(n);
        let ufid = datapath::ufid_of(zerocopy::IntoBytes::as_bytes(&key));
        let answer = backer.upcall(&Upcall {
            kind: Kind::Miss,
            packet: &packet,
            full_len: 60,
            key: &key,
            raw: None,
            fitness: flow::odp::Fitness::Perfect,
            ufid,
            pmd: PmdId::MAIN,
            in_port: DpPort(1),
            hash: 0,
            mru: 0,
        });
        assert!(answer.is_some_and(|answer| answer.install.is_some()), "each packet makes a flow");
        backer.installed(ufid, PmdId::MAIN, true);
        shelf.flows.lock().unwrap_or_else(PoisonError::into_inner).push(ufid);
    }
    tell("upcall answered", began, 1);
    let passes = |what: &str, before: &dyn Fn()| {
        let mut best = f64::MAX;
        for _ in 0..ROUNDS {
            before();
            let began = std::time::Instant::now();
            backer.revalidate(clock.now());
            best = best.min(began.elapsed().as_secs_f64());
        }
        println!("{what:<28} {:6.2} us a flow", best * 1e6 / f64::from(FLOWS));
    };
    passes("found unchanged", &|| ());
    shelf.busy.store(true, Ordering::Relaxed);
    passes("found with new packets", &|| ());
    passes("translated again, with them", &|| backer.changed());
    assert_eq!(shelf.changes.load(Ordering::Relaxed), 0, "nothing was to be changed");
    assert_eq!(shelf.flows.lock().unwrap_or_else(PoisonError::into_inner).len(), FLOWS as usize);
}

fn tell(what: &str, began: std::time::Instant, times: u32) {
    let each = began.elapsed().as_secs_f64() * 1e6 / f64::from(FLOWS) / f64::from(times);
    println!("{what:<28} {each:6.2} us a flow");
}
