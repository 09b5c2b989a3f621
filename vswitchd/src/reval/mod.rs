//! Revalidation: datapath flows are what translation would make now, their packets are counted where they belong, and those
//! that nobody uses go.
//!
//! For each flow that translation installed there is a [`Ukey`]: the key to translate again, what was installed, and the
//! effects that the flow's packets have. A *pass* goes over the datapath's flows, every half second at least, and at once when
//! [`Backer::seq`] says that translations may come out differently. A flow that was found right and has not been touched
//! since costs a look into a table; its packets are counted by the kept effects, without translating again.
//!
//! Passes are made by threads ([`threads`]), `revalidator1` and up, that share one dump. The datapath of tests (`dummy`) is
//! polled by `main`, between whose commands nothing may be left undone: there `main` makes the passes, in steps
//! (`Flows::run`). Either way a pass is the same (`pass`): what the dump shows is looked at (`look`); then what it did not
//! show is swept. After changes of rules alone, only flows are translated again that one of them can concern (`news`),
//! and one of many that are alike (`classes`).
//!
//! Flows that were there before us are taken over, not flushed: `adopt`.

mod ledger;
pub mod ukey;
mod news;
mod look;
mod classes;
mod pass;
mod adopt;
pub mod threads;
pub mod fairness;
pub mod command;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use daemon::coverage::{Counter, Coverage};
use datapath::PmdId;
use flow::id::Ufid;
use flow::time::Instant;

pub(crate) use classes::{Decided, Patience};
pub(crate) use look::raw_key;
pub use ukey::{Kept, New, Ukey};

use crate::backer::Backer;
use adopt::Foreign;
use look::{Batch, Look};
use news::{History, News};
use pass::{Pass, Shown};
use ukey::{Life, Ukeys};

/// Flows a datapath may have, as long as nothing is configured and dumps are quick.
const DEFAULT_FLOW_LIMIT: usize = 200_000;
/// Where the adaptive limit begins.
const INITIAL_FLOW_LIMIT: usize = 10_000;
/// The adaptive limit stays at or above this.
const LEAST_FLOW_LIMIT: usize = 1000;
/// Between two passes that something triggered.
const MIN_INTERVAL: Duration = Duration::from_millis(5);
/// What a pass may take to be done at once after a change.
const QUICK: Duration = Duration::from_millis(2);
/// Flows looked at before `main` gets to other things.
const STEP: usize = 1024;
/// How many times as long as a pass took there is none when nothing has changed, and how long at most.
const REST: u32 = 3;
const MAX_REST: Duration = Duration::from_secs(2);
/// A flow that misses although it was installed this long ago is not there any more.
const LOST: Duration = Duration::from_secs(1);

/// The settings of `other_config` that revalidation obeys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    pub flow_limit: usize,
    pub max_idle: Duration,
    pub max_revalidator: Duration,
    /// When passes are slow, flows with fewer packets a second than this go instead of being translated again; 0 for none.
    pub min_pps: u64,
    /// How late devices may tell of packets: flows that are in one are not taken for idle until then.
    pub stats_delay: Duration,
    /// Threads for upcalls and for revalidation that are asked for.
    pub handlers: Option<usize>,
    pub revalidators: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flow_limit: DEFAULT_FLOW_LIMIT,
            max_idle: Duration::from_secs(10),
            max_revalidator: Duration::from_millis(500),
            min_pps: 5,
            stats_delay: Duration::from_secs(2),
            handlers: None,
            revalidators: None,
        }
    }
}

impl Settings {
    /// The time from the beginning of a pass that took so long to that of the next, when nothing has changed. Slow passes take a
    /// part of the time only, for they delay those who install flows; unless there are too many flows.
    fn interval(&self, took: Duration, crowded: bool) -> Duration {
        let usual = self.max_revalidator.min(self.max_idle);
        let rest = (took * REST).min(MAX_REST).min(self.max_idle);
        if crowded { usual } else { usual.max(took + rest) }
    }
}

/// Figures of `upcall/show`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Figures {
    pub current: usize,
    pub average: usize,
    pub most: usize,
    pub limit: usize,
    pub duration: Duration,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident: $name:literal,)*) => {
        /// Events that `coverage/show` shows.
        #[derive(Clone, Default, Debug)]
        pub struct Counters {
            $($(#[$doc])* $field: Counter,)*
        }

        impl Counters {
            /// Registers them.
            pub fn new(coverage: &mut Coverage) -> Self {
                Self { $($field: coverage.counter($name),)* }
            }
        }
    };
}

counters! {
    /// A dump showed a flow twice.
    duplicate: "dumped_duplicate_flow",
    /// A dump showed a flow that refused a change.
    inconsistent: "dumped_inconsistent_flow",
    /// A dump showed a flow that was just entered.
    new: "dumped_new_flow",
    /// Two packets asked for one flow.
    duplicate_upcall: "handler_duplicate_upcall",
    /// A dump did not show a flow, which was looked at all the same.
    missed: "revalidate_missed_dp_flow",
    /// A flow was not shown for so long that it is gone.
    missing: "revalidate_missing_dp_flow",
    /// A flow moved between the datapath's software and hardware.
    layer_change: "ukey_dp_change",
    /// A flow's packets became fewer.
    stat_reset: "ukey_invalid_stat_reset",
    /// A flow could not take another's place, for that was in use.
    replace_contention: "ukey_replace_contention",
    limit_grew: "upcall_flow_limit_grew",
    limit_hit: "upcall_flow_limit_hit",
    limit_kill: "upcall_flow_limit_kill",
    limit_reduced: "upcall_flow_limit_reduced",
    limit_scaled: "upcall_flow_limit_scaled",
    /// A flow was in use by another thread.
    contention: "upcall_ukey_contention",
    /// A flow took the place of one that was just deleted.
    replaced: "upcall_ukey_replace",
}

#[derive(Default)]
struct State {
    settings: Settings,
    average: usize,
    most: usize,
    duration: Duration,
    last_pass: Option<Instant>,
    last_seq: u64,
    /// Handler threads that the datapath was told to have.
    handlers: usize,
    /// The wishes for threads that were followed.
    staffed: Option<(Option<usize>, Option<usize>)>,
    /// A pass that `main` has begun.
    pass: Option<Pass>,
}

/// The flows of one datapath that translation installed or took over.
pub struct Flows {
    ukeys: Ukeys,
    limit: AtomicUsize,
    /// Flows that were not installed because there were too many.
    pub refused: AtomicU64,
    passes: AtomicU64,
    foreign: Foreign,
    history: History,
    state: Mutex<State>,
    counters: OnceLock<Counters>,
    pub(crate) threads: threads::Threads,
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            ukeys: Ukeys::default(),
            limit: AtomicUsize::new(INITIAL_FLOW_LIMIT),
            refused: AtomicU64::new(0),
            passes: AtomicU64::new(0),
            foreign: Foreign::default(),
            history: History::default(),
            state: Mutex::default(),
            counters: OnceLock::new(),
            threads: threads::Threads::default(),
        }
    }
}

impl Flows {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has events counted there too.
    pub fn count_with(&self, counters: Counters) {
        // Only the first call counts.
        let _ = self.counters.set(counters);
    }

    fn tally(&self, which: impl Fn(&Counters) -> &Counter, n: usize) {
        if let Some(counters) = self.counters.get()
            && n != 0
        {
            which(counters).add(n as u64);
        }
    }

    /// Whether another flow may be installed; counts it if not.
    pub(crate) fn has_room(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let room = self.ukeys.count() < limit;
        if !room {
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.tally(|c| &c.limit_hit, 1);
            tracing::warn!(
                target: "ofproto_dpif_upcall", rl = "1,5",
                "upcall: datapath reached the dynamic limit of {limit} flows."
            );
        }
        room
    }

    /// Enters a flow for which the datapath is to be asked; `None` if it was asked for already. `alone`: nobody but this
    /// thread asks for flows with this name, so that one that is there is out of date.
    pub(crate) fn enter(&self, new: New, alone: bool) -> Option<Arc<Ukey>> {
        let now = new.created;
        let entered = self.ukeys.enter(Ukey::new(new), |old| {
            if alone {
                old.state().life = Life::Gone;
                return true;
            }
            let Some(mut state) = old.try_state() else {
                self.tally(|c| &c.replace_contention, 1);
                return false;
            };
            // The datapath lost it, or somebody deleted it.
            let lost = now.since(old.created) >= LOST && state.life != Life::Asked;
            if state.life != Life::Gone && !lost {
                self.tally(|c| &c.duplicate_upcall, 1);
                return false;
            }
            state.life = Life::Gone;
            self.tally(|c| &c.replaced, 1);
            true
        });
        entered.ok()
    }

    /// The datapath has a flow that it was asked for, or refused it.
    pub(crate) fn installed(&self, ufid: Ufid, pmd: PmdId, installed: bool) {
        let Some(ukey) = self.ukeys.find(ufid, pmd) else { return };
        let mut state = ukey.state();
        if installed {
            if state.life == Life::Asked {
                state.life = Life::Live;
            }
            return;
        }
        state.life = Life::Gone;
        drop(state);
        self.ukeys.remove(&ukey);
    }

    /// The flows of a worker are gone.
    pub(crate) fn forget_worker(&self, pmd: PmdId) {
        for ukey in self.ukeys.part(0, 1, |ukey| ukey.pmd == pmd).flatten() {
            ukey.state().life = Life::Gone;
            self.ukeys.remove(&ukey);
        }
    }

    /// Before anything is translated: keeps recirculation ids that flows use from being given out.
    pub(crate) fn survey(&self, backer: &Backer) {
        self.foreign.survey(backer);
    }

    /// Wakes the threads if translations may come out differently since their last pass.
    pub(crate) fn notice(&self, seq: u64) {
        if self.state().last_seq != seq {
            self.threads.wake();
        }
    }

    /// Obeys settings from the database.
    pub fn configure(&self, settings: Settings) {
        self.state().settings = settings;
        let limit = self.limit.load(Ordering::Relaxed).min(settings.flow_limit);
        self.limit.store(limit.max(LEAST_FLOW_LIMIT.min(settings.flow_limit)), Ordering::Relaxed);
    }

    /// The settings that it obeys.
    pub(crate) fn settings(&self) -> Settings {
        self.state().settings
    }

    /// Sets the present limit, until it adapts.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many flows there are.
    pub(crate) fn len(&self) -> usize {
        self.ukeys.count()
    }

    /// How many flows each of `threads` threads looks after.
    pub(crate) fn shares(&self, threads: usize) -> Vec<usize> {
        (0..threads).map(|part| self.ukeys.len_of_part(part, threads)).collect()
    }

    /// Figures for people.
    pub fn figures(&self) -> Figures {
        let state = self.state();
        Figures {
            current: self.ukeys.count(),
            average: state.average,
            most: state.most,
            limit: self.limit.load(Ordering::Relaxed),
            duration: state.duration,
        }
    }

    /// When the next pass is due.
    fn due(&self, seq: u64, now: Instant) -> Instant {
        let state = self.state();
        let interval = match state.last_seq != seq {
            // A pass that costs next to nothing need not wait, not even for a stopped clock.
            true if state.duration < QUICK && self.threads.is_empty() => Duration::ZERO,
            true => MIN_INTERVAL,
            false => {
                let crowded = self.ukeys.count() > self.limit.load(Ordering::Relaxed);
                state.settings.interval(state.duration, crowded)
            }
        };
        state.last_pass.map_or(now, |last| last + interval)
    }

    /// Goes on over the datapath's flows if it is time; returns when it will be. For `main`, where there are no threads.
    pub(crate) fn run(&self, backer: &Backer, now: Instant) -> Instant {
        if self.threads.is_paused() {
            return Instant::NEVER;
        }
        let begun = self.state().pass.take();
        let pass = match begun {
            Some(pass) => pass,
            None => {
                let due = self.due(backer.seq(), now);
                if due > now {
                    return due;
                }
                Pass::begin(self, backer, now)
            }
        };
        if pass.step(self, backer, &mut Shown::default(), STEP) {
            self.state().pass = Some(pass);
            return now;
        }
        pass.sweep(self, backer, 0, 1);
        self.finish(backer, &pass);
        pass.began + self.settings().max_revalidator
    }

    /// Looks at every flow of the datapath now.
    pub fn walk(&self, backer: &Backer, now: Instant) {
        self.state().pass = None;
        let pass = Pass::begin(self, backer, now);
        let mut shown = Shown::default();
        while pass.step(self, backer, &mut shown, STEP) {}
        pass.sweep(self, backer, 0, 1);
        self.finish(backer, &pass);
    }

    /// Draws a pass's conclusions.
    fn finish(&self, backer: &Backer, pass: &Pass) {
        self.foreign.finish(backer, pass);
        let (seen, took) = (pass.seen(), pass.took() / self.threads.len().max(1) as u32);
        let mut state = self.state();
        self.adapt(seen, took, state.settings.flow_limit);
        (state.last_pass, state.last_seq, state.duration) = (Some(pass.began), pass.seq, took);
        state.most = state.most.max(seen);
        state.average = (state.average + seen) / 2;
    }

    /// Slow passes call for fewer flows, quick ones allow more.
    fn adapt(&self, seen: usize, duration: Duration, most: usize) {
        let millis = (duration.as_millis() as usize).max(1);
        let mut limit = self.limit.load(Ordering::Relaxed);
        if millis > 2000 {
            limit /= millis / 1000;
            self.tally(|c| &c.limit_scaled, 1);
            tracing::warn!(
                target: "ofproto_dpif_upcall",
                "Spent an unreasonably long {millis}ms dumping flows"
            );
        } else if millis > 1300 {
            limit = limit * 3 / 4;
            self.tally(|c| &c.limit_reduced, 1);
        } else if millis < 1000 && limit < seen * 1000 / millis {
            limit += 1000;
            self.tally(|c| &c.limit_grew, 1);
        }
        self.limit.store(limit.max(LEAST_FLOW_LIMIT).min(most), Ordering::Relaxed);
    }

    /// Deletes every flow that we know of, counting its packets first.
    pub(crate) fn purge(&self, backer: &Backer) {
        let snapshot = backer.snapshot();
        let look = Look {
            backer,
            snapshot: &snapshot,
            seq: backer.seq(),
            news: &News::default(),
            pass: 0,
            now: backer.clock.now(),
            max_idle: 0,
            kill_all: true,
            sparse: None,
            late: Duration::ZERO,
        };
        let mut batch = Batch::default();
        for ukey in self.ukeys.part(0, 1, |_| true).flatten() {
            let mut state = ukey.state();
            if state.life != Life::Gone {
                batch.delete(&ukey, &mut state);
            }
            drop(state);
            if batch.len() >= pass::BATCH {
                batch.send(&look, self);
            }
        }
        batch.send(&look, self);
    }

    /// Deletes every flow, also those that we know nothing of.
    pub(crate) fn flush(&self, backer: &Backer) {
        self.purge(backer);
        if let Err(error) = backer.datapath.flow_flush() {
            tracing::warn!(target: "ofproto_dpif_upcall", "failed to flush flows: {error}");
        }
    }
}
