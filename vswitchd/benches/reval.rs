//! What revalidation costs a flow, over the bytes of a kernel's dump: found unchanged, found with new packets, found out of
//! reach of a changed rule, translated again after a change, and after one of a rule that it met: into an equal rule, into one
//! with another cookie, and into one by which the flow does something else. `scripts/bench revalidation` runs it with the `dist` profile;
//! under `valgrind --tool=callgrind` (`--toggle-collect='*Backer*revalidate*'`) it tells where instructions go.
//!
//!     reval [FLOWS [WHAT...]]    so many flows (100000); WHAT: unchanged, busy, apart, anew, met, renamed, turned (all)

mod shelf;

use std::sync::atomic::Ordering;

use datapath::PmdId;
use datapath::upcall::{Handler, Kind, Upcall};
use flow::attr::Writer;
use flow::id::{DpPort, Ufid};
use flow::key::Key;
use flow::odp::{Fitness, RawKey};

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

/// Has packets of so many flows answered; gives the flows' names.
fn fill(bench: &shelf::Bench, flows: u32) -> Vec<Ufid> {
    let packet = [0; 60];
    let name = |n| {
        let key = key(n);
        let mut raw = Writer::new();
        shelf::put_key(&mut raw, n);
        let raw = RawKey(raw.into_bytes().into());
        let ufid = datapath::ufid_of(&raw.0);
        let answer = bench.backer.upcall(&Upcall {
            kind: Kind::Miss,
            packet: &packet,
            full_len: 60,
            key: &key,
            raw: Some(&raw),
            fitness: Fitness::Perfect,
            ufid,
            pmd: PmdId::NONE,
            in_port: DpPort(1),
            hash: 0,
            mru: 0,
        });
        assert!(answer.is_some_and(|answer| answer.install.is_some()), "each packet makes a flow");
        bench.backer.installed(ufid, PmdId::NONE, true);
        ufid
    };
    (0..flows).map(name).collect()
}

fn main() {
    let args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect::<Vec<_>>();
    let flows = args.first().and_then(|arg| arg.parse().ok()).unwrap_or(FLOWS);
    let wanted = |what: &str| args.len() < 2 || args[1..].iter().any(|arg| arg == what);
    let mut bench = shelf::switch(2 * flows as usize);
    let names = fill(&bench, flows);
    let mut packets = 0;
    bench.shelf.record(&names, packets);
    bench.backer.revalidate(bench.clock.now());
    let mut passes = |what: &str, before: &mut dyn FnMut(&mut shelf::Bench, u32)| {
        if !wanted(what) {
            return;
        }
        let mut best = f64::MAX;
        for round in 0..ROUNDS {
            before(&mut bench, round);
            let began = std::time::Instant::now();
            bench.backer.revalidate(bench.clock.now());
            best = best.min(began.elapsed().as_secs_f64());
        }
        println!("{what:<12} {:6.2} us a flow", best * 1e6 / f64::from(flows));
    };
    passes("unchanged", &mut |_, _| ());
    passes("busy", &mut |bench, _| {
        packets += 1;
        bench.shelf.record(&names, packets);
    });
    passes("apart", &mut |bench, n| {
        bench.add_rule(&format!("table=2,priority=1,tcp,tp_dst={n} actions=drop"));
    });
    passes("anew", &mut |bench, _| bench.backer.changed());
    let last = "table=2,priority=7,udp,reg1=1,tp_dst=9";
    passes("met", &mut |bench, _| bench.add_rule(&format!("{last} actions=output:2")));
    passes("renamed", &mut |bench, n| bench.add_rule(&format!("cookie={},{last} actions=output:2", n + 1)));
    passes("turned", &mut |bench, n| {
        let others = "output:2,".repeat(n as usize);
        bench.add_rule(&format!("{last} actions=output:2,{others}output:2"));
    });
    let turned = if wanted("turned") { u64::from(flows * ROUNDS) } else { 0 };
    assert_eq!(
        bench.shelf.changes.load(Ordering::Relaxed),
        turned,
        "each flow is changed when its actions are others"
    );
}
