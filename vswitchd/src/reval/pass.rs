//! One pass over a datapath's flows.
//!
//! Several threads may make a pass together: each takes batches of flows from the dump, which is behind a lock, and when it is
//! used up each sweeps a part of the table. What a batch calls for goes to the datapath as one batch of requests.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datapath::flow::{Dump, Flow, FlowStats, Sighting};
use flow::time::Instant;

use super::adopt::Adoption;
use super::ledger::{Found, Row};
use super::look::{Batch, Look};
use super::news::News;
use super::ukey::{Life, OWN_LAYER, State, Ukey};
use super::{Flows, Settings};
use crate::backer::Backer;
use crate::xlate::Snapshot;

/// Flows taken from a dump, and requests sent to the datapath, at once.
pub(super) const BATCH: usize = 64;
/// How long flows live that nobody uses, when there are too many.
const CROWDED_IDLE: Duration = Duration::from_millis(100);
/// A flow that this many dumps in a row did not show is gone.
pub(super) const MISSED_DUMPS: u32 = 4;

/// What came from a dump together. Memory of it is used again.
#[derive(Default)]
pub(super) struct Shown {
    sightings: Vec<Sighting>,
    flows: Vec<Flow>,
    /// Those of the sightings that there is something to do about, with the ukeys that there are.
    left: Vec<(Sighting, Option<Arc<Ukey>>)>,
    /// How many needed nothing so far, of flows that are older than the pass.
    settled: usize,
    /// Whether some needed something.
    unsettled: bool,
}

/// A pass that has begun.
pub(super) struct Pass {
    dump: Mutex<Box<dyn Dump>>,
    snapshot: Arc<Snapshot>,
    settings: Settings,
    pub number: u64,
    pub seq: u64,
    news: News,
    pub began: Instant,
    seen: AtomicUsize,
    /// Flows that there were when it began, about.
    present: usize,
    /// Of those, the ones that were seen and need nothing.
    settled: AtomicUsize,
    /// Some flow that was seen needed something.
    unsettled: AtomicBool,
    /// Nanoseconds of work.
    took: AtomicU64,
    terse: bool,
    sparse: Option<Duration>,
    /// That everything is being deleted was said.
    warned: AtomicBool,
    /// The dump failed: what it did not show may be there.
    cut_short: AtomicBool,
}

/// A flow as the datapath shows it.
struct Seen {
    stats: FlowStats,
    layer: &'static str,
    /// Whether a device has all or part of it.
    offloaded: bool,
}

impl Seen {
    fn of(flow: &Flow) -> Self {
        Self { stats: flow.stats, layer: flow.attrs.layer, offloaded: flow.attrs.offloaded.is_some() }
    }
}

impl Pass {
    /// Begins one.
    pub fn begin(flows: &Flows, backer: &Backer, now: Instant) -> Self {
        let present = flows.len();
        let moment = backer.moment();
        let (seq, snapshot) = (moment.seq, Arc::clone(&moment.snapshot));
        let terse = backer.ufid();
        let settings = flows.settings();
        // Quick passes translate whatever there is.
        let slow = flows.figures().duration >= settings.max_revalidator / 2;
        let sparse = (slow && settings.min_pps > 0).then(|| Duration::from_millis(1000 / settings.min_pps));
        Self {
            sparse,
            snapshot,
            news: flows.history.begin(moment),
            dump: Mutex::new(backer.datapath.flow_dump(terse)),
            settings,
            number: flows.passes.fetch_add(1, Ordering::Relaxed) + 1,
            seq,
            began: now,
            seen: AtomicUsize::new(0),
            present,
            settled: AtomicUsize::new(0),
            unsettled: AtomicBool::new(false),
            took: AtomicU64::new(0),
            terse,
            warned: AtomicBool::new(false),
            cut_short: AtomicBool::new(false),
        }
    }

    /// Flows seen so far.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// How long threads worked, all together.
    pub fn took(&self) -> Duration {
        Duration::from_nanos(self.took.load(Ordering::Relaxed))
    }

    /// Whether the dump showed all it had.
    pub fn is_complete(&self) -> bool {
        !self.cut_short.load(Ordering::Relaxed)
    }

    fn look<'a>(&'a self, flows: &Flows, backer: &'a Backer) -> Look<'a> {
        let present = flows.len();
        let limit = flows.limit.load(Ordering::Relaxed);
        let kill_all = present > limit.saturating_mul(2);
        flows.tally(|c| &c.limit_hit, usize::from(present >= limit));
        flows.tally(|c| &c.limit_kill, usize::from(kill_all));
        if kill_all && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "ofproto_dpif_upcall", rl = "1,1",
                "Number of datapath flows ({present}) twice as high as current dynamic flow limit ({}).  \
                 Starting to delete flows unconditionally as an emergency measure.",
                limit.saturating_mul(2)
            );
        }
        let max_idle = if present > limit { CROWDED_IDLE } else { self.settings.max_idle };
        Look {
            backer,
            snapshot: &self.snapshot,
            seq: self.seq,
            news: &self.news,
            pass: self.number,
            now: backer.clock.now(),
            max_idle: max_idle.as_nanos().try_into().unwrap_or(u64::MAX),
            kill_all,
            sparse: self.sparse,
            late: self.settings.stats_delay,
        }
    }

    /// Looks at `most` flows or a few more; whether there are more then.
    pub fn step(&self, flows: &Flows, backer: &Backer, shown: &mut Shown, most: usize) -> bool {
        let started = std::time::Instant::now();
        let mut batch = Batch::default();
        let (mut done, mut more) = (0, true);
        while more && done < most {
            more = self.take(shown);
            done += shown.sightings.len() + shown.flows.len();
            self.look_at(flows, backer, shown, &mut batch);
        }
        self.seen.fetch_add(done, Ordering::Relaxed);
        self.settled.fetch_add(std::mem::take(&mut shown.settled), Ordering::Relaxed);
        if std::mem::take(&mut shown.unsettled) {
            self.unsettled.store(true, Ordering::Relaxed);
        }
        self.took.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        more
    }

    /// Takes flows from the dump; whether there are more.
    fn take(&self, shown: &mut Shown) -> bool {
        let Shown { sightings, flows, .. } = shown;
        let next = {
            let mut dump = self.dump.lock().unwrap_or_else(PoisonError::into_inner);
            match self.terse {
                true => dump.sight(BATCH, sightings, flows),
                false => dump.next(BATCH, flows),
            }
        };
        next.unwrap_or_else(|error| {
            tracing::warn!(target: "ofproto_dpif_upcall", rl = "1,5", "dumping flows failed: {error}");
            self.cut_short.store(true, Ordering::Relaxed);
            false
        })
    }

    fn look_at(&self, flows: &Flows, backer: &Backer, shown: &mut Shown, batch: &mut Batch) {
        let look = self.look(flows, backer);
        self.glance(&look, flows, shown);
        let mut left = std::mem::take(&mut shown.left);
        for (sighting, ukey) in left.drain(..) {
            let Some(ukey) = ukey else {
                self.look_at_unknown(&look, flows, &sighting.into(), batch);
                continue;
            };
            let seen = Seen { stats: sighting.stats, layer: OWN_LAYER, offloaded: false };
            let settled = self.look_at_one(&look, flows, &ukey, seen, batch);
            self.note(shown, &ukey, settled);
            // What is far back is no longer at hand.
            if batch.len() >= BATCH {
                batch.send(&look, flows);
            }
        }
        shown.left = left;
        let mut whole = std::mem::take(&mut shown.flows);
        for flow in whole.drain(..) {
            let Some(ukey) = flows.ukeys.find(flow.ufid, flow.pmd) else {
                self.look_at_unknown(&look, flows, &flow, batch);
                continue;
            };
            let settled = self.look_at_one(&look, flows, &ukey, Seen::of(&flow), batch);
            self.note(shown, &ukey, settled);
        }
        shown.flows = whole;
        batch.send(&look, flows);
    }

    fn note(&self, shown: &mut Shown, ukey: &Ukey, settled: bool) {
        shown.settled += usize::from(settled && ukey.created < self.began);
        shown.unsettled |= !settled;
    }

    /// Finds the flows that there is something to do about. Most are settled, and where they were the last time.
    fn glance(&self, look: &Look<'_>, flows: &Flows, shown: &mut Shown) {
        let mut walk = flows.ukeys.ledger.walk();
        for &sighting in &shown.sightings {
            let Sighting { ufid, pmd, stats } = sighting;
            let settle = |row: &Row| self.settle(look, row, &stats);
            match walk.advance(ufid, pmd, settle) {
                Found::Right => {
                    shown.settled += 1;
                    continue;
                }
                Found::Other(ukey) => {
                    shown.left.push((sighting, Some(ukey)));
                    continue;
                }
                Found::Nothing => {}
            }
            let ukey = flows.ukeys.find(ufid, pmd);
            if let Some(place) = ukey.as_deref().and_then(Ukey::place) {
                walk.turn(place);
                if settle(place.row()) {
                    shown.settled += 1;
                    continue;
                }
            }
            shown.left.push((sighting, ukey));
        }
        shown.sightings.clear();
    }

    /// Whether nothing is to be done about a flow that is first seen in this pass: it is right, has no new packets and is
    /// not idle for too long. It is seen then.
    fn settle(&self, look: &Look<'_>, row: &Row, stats: &FlowStats) -> bool {
        let settled = row.is_sure(self.seq)
            && row.packets() == stats.packets
            && !look.must_go(stats.used.unwrap_or_else(|| row.created()))
            && row.seen() != self.number;
        if settled {
            row.see(self.number);
        }
        settled
    }

    fn look_at_unknown(&self, look: &Look<'_>, flows: &Flows, flow: &Flow, batch: &mut Batch) {
        match flows.foreign.adopt(look, flows, flow) {
            Adoption::Ours(ukey) => {
                self.look_at_one(look, flows, &ukey, Seen::of(flow), batch);
            }
            Adoption::Doomed(ukey) => batch.delete(&ukey, &mut ukey.state()),
            Adoption::Left => {}
        }
    }

    /// Looks at a flow that was seen like this. Whether nothing remains to be done about it.
    fn look_at_one(
        &self,
        look: &Look<'_>,
        flows: &Flows,
        ukey: &Arc<Ukey>,
        Seen { mut stats, layer, offloaded }: Seen,
        batch: &mut Batch,
    ) -> bool {
        let Some(mut state) = ukey.try_state() else {
            flows.tally(|c| &c.contention, 1);
            return false;
        };
        if ukey.seen() == self.number {
            let is_new = state.kept.effects.is_empty();
            flows.tally(|c| if is_new { &c.new } else { &c.duplicate }, 1);
            return false;
        }
        if state.layer.replace(layer).is_some_and(|before| before != layer) {
            // It is another flow there, whose packets are counted from the beginning.
            flows.tally(|c| &c.layer_change, 1);
            state.stats = FlowStats::default();
        }
        state.offloaded = offloaded;
        ukey.see(&flows.ukeys.ledger, self.number);
        state.missed = 0;
        match state.life {
            Life::Gone => return false,
            Life::Wrong => {
                flows.tally(|c| &c.inconsistent, 1);
                batch.delete(ukey, &mut state);
                return false;
            }
            Life::Asked | Life::Live => state.life = Life::Live,
        }
        if stats.used.is_none() && self.terse && stats.packets > state.stats.packets {
            stats.used = Some(look.now);
        }
        let requests = batch.len();
        look.decide(flows, ukey, &mut state, stats, batch);
        batch.len() == requests
    }

    /// Deals with the flows of one part of `of` parts of the table that the dump did not show.
    pub fn sweep(&self, flows: &Flows, backer: &Backer, part: usize, of: usize) {
        // What comes or goes right now waits for the next pass.
        let settled = self.settled.load(Ordering::Relaxed);
        if settled == self.present && !self.unsettled.load(Ordering::Relaxed) {
            return;
        }
        let started = std::time::Instant::now();
        let look = self.look(flows, backer);
        let left = |ukey: &Ukey| {
            let settled = ukey.seen() == self.number && ukey.is_sure(self.seq);
            !settled && ukey.try_state().is_none_or(|state| self.is_left(ukey, &state))
        };
        for shard in flows.ukeys.part(part, of, left) {
            let mut batch = Batch::default();
            for ukey in shard {
                self.sweep_one(&look, flows, &ukey, &mut batch);
                if batch.len() >= BATCH {
                    batch.send(&look, flows);
                }
            }
            batch.send(&look, flows);
        }
        self.took.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    /// Whether the sweep has to deal with a flow. Few are such.
    fn is_left(&self, ukey: &Ukey, state: &State) -> bool {
        match state.life {
            Life::Live => ukey.seen() != self.number && ukey.created < self.began,
            Life::Wrong => true,
            Life::Asked | Life::Gone => false,
        }
    }

    fn sweep_one(&self, look: &Look<'_>, flows: &Flows, ukey: &Arc<Ukey>, batch: &mut Batch) {
        let Some(mut state) = ukey.try_state() else { return flows.tally(|c| &c.contention, 1) };
        if !self.is_left(ukey, &state) {
            return;
        }
        if state.life == Life::Wrong {
            return batch.delete(ukey, &mut state);
        }
        state.missed += 1;
        if state.missed >= MISSED_DUMPS && self.is_complete() {
            flows.tally(|c| &c.missing, 1);
            return batch.delete(ukey, &mut state);
        }
        if state.seq != Some(self.seq) {
            flows.tally(|c| &c.missed, 1);
            let stats: FlowStats = state.stats;
            look.decide(flows, ukey, &mut state, stats, batch);
        }
    }
}
