//! What datapaths drop, as counters of `coverage/show`.
//!
//! Workers count by themselves; their totals are added up here now and then: when rates are taken, and before a command
//! that reads counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use daemon::coverage::{Counter, Coverage};
use datapath::Datapath;
use datapath::user::Engine;
use datapath::user::worker::Stats;
use flow::drop::{DatapathDrop, DropReason};

/// Counters by reason, and what was counted before.
pub struct Drops {
    datapath: Vec<(DatapathDrop, Counter)>,
    actions: Vec<(DropReason, Counter)>,
    /// The totals last seen of each datapath, in the order of the counters.
    seen: BTreeMap<String, Vec<u64>>,
}

impl Drops {
    /// Makes the counters known.
    pub fn new(coverage: &mut Coverage) -> Self {
        let datapath = DatapathDrop::ALL.iter().map(|why| (*why, coverage.counter(why.coverage()))).collect();
        let actions = DropReason::ALL
            .iter()
            .filter_map(|why| why.coverage().map(|name| (*why, name)))
            .map(|(why, name)| (why, coverage.counter(name)))
            .collect();
        Self { datapath, actions, seen: BTreeMap::new() }
    }

    /// Counts what was dropped since the last time.
    pub fn collect(&mut self, engines: &[Arc<Engine>]) {
        self.seen.retain(|name, _| engines.iter().any(|engine| engine.name() == name));
        for engine in engines {
            let totals = self.totals(&engine.worker_stats());
            let before = self.seen.insert(engine.name().to_owned(), totals.clone()).unwrap_or_default();
            let counters = self.datapath.iter().map(|(_, counter)| counter);
            let counters = counters.chain(self.actions.iter().map(|(_, counter)| counter));
            for (place, (counter, total)) in counters.zip(totals).enumerate() {
                // A worker that ended took its count along.
                counter.add(total.saturating_sub(before.get(place).copied().unwrap_or(0)));
            }
        }
    }

    fn totals(&self, stats: &Stats) -> Vec<u64> {
        let datapath = self.datapath.iter().map(|(why, _)| stats.drops[*why as usize]);
        let actions =
            self.actions.iter().map(|(why, _)| stats.reasons.get(&why.code()).copied().unwrap_or(0));
        datapath.chain(actions).collect()
    }
}
