//! Revalidation: datapath flows are what translation would make now, their packets are counted where they belong, and those
//! that nobody uses go.
//!
//! For each flow that translation installed there is a [`Ukey`]: the key to translate again, what was installed, and the
//! effects that the flow's packets have. `Flows::run` (in steps, so that it never holds `main` up) walks the datapath's flows every half second at least, and at once when
//! [`Backer::seq`] says that translations may come out differently.

pub mod command;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use daemon::coverage::{Counter, Coverage};
use datapath::PmdId;
use datapath::flow::{Dump, Flow, FlowDel, FlowPut, FlowStats, PutFlags};
use flow::action::Action;
use flow::id::{DpPort, Ufid};
use flow::key::{Key, Mask};
use flow::mini::Mini;
use flow::odp::{self, OdpSupport, Params, RawKey};
use flow::time::Instant;

use crate::backer::Backer;
use crate::upcall::{odp_support, slow_path};
use crate::xlate::effect::Effect;
use crate::xlate::{RecircRef, Snapshot, Stats};

/// Flows a datapath may have, as long as nothing is configured and dumps are quick.
const DEFAULT_FLOW_LIMIT: usize = 200_000;
/// Where the adaptive limit begins.
const INITIAL_FLOW_LIMIT: usize = 10_000;
/// How long flows live that nobody uses, when there are too many.
const CROWDED_IDLE: Duration = Duration::from_millis(100);
/// Between two walks that something triggered.
const MIN_INTERVAL: Duration = Duration::from_millis(5);
/// What a walk may take to be done at once after a change.
const QUICK: Duration = Duration::from_millis(2);
/// Flows taken from a dump at once.
const DUMP_BATCH: usize = 256;
/// Flows looked at before `main` gets to other things.
const STEP: usize = 1024;

/// What a translation leaves that a flow keeps.
pub struct Kept {
    pub effects: Vec<Effect>,
    pub recircs: Vec<RecircRef>,
}

/// A flow that translation installed.
pub struct Ukey {
    pub ufid: Ufid,
    pub pmd: PmdId,
    raw: RawKey,
    key: Mini,
    mask: Mini,
    actions: Vec<Action>,
    kept: Kept,
    /// Whether the packet that made the flow also asked for rules, which were not there yet when it was translated.
    teaching: bool,
    created: Instant,
    stats: FlowStats,
    /// The [`Backer::seq`] at which it was last found right.
    seq: u64,
    /// The walk in which the datapath last showed it.
    seen: u64,
}

impl Ukey {
    #[expect(clippy::too_many_arguments, reason = "the parts of a flow")]
    pub fn new(
        ufid: Ufid,
        pmd: PmdId,
        raw: RawKey,
        key: &Key,
        mask: Mini,
        actions: Vec<Action>,
        seq: u64,
        created: Instant,
        kept: Kept,
    ) -> Self {
        Self {
            ufid,
            pmd,
            raw,
            key: Mini::new(key),
            mask,
            actions,
            teaching: kept.effects.iter().any(|effect| matches!(effect, Effect::Learn { .. })),
            kept,
            created,
            stats: FlowStats::default(),
            seq,
            seen: 0,
        }
    }
}

/// A key's attributes as this datapath has them.
pub(crate) fn raw_key(snapshot: &Snapshot, key: &Key, mask: &Mask) -> RawKey {
    let support = snapshot.features.as_deref().map_or(OdpSupport::ALL, odp_support);
    let vlan_limit = usize::from(snapshot.vlan_limit);
    odp::key_from_flow(&Params { key, mask: Some(mask), support: &support, vlan_limit })
}

/// The settings of `other_config` that revalidation obeys.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub flow_limit: usize,
    pub max_idle: Duration,
    pub max_revalidator: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flow_limit: DEFAULT_FLOW_LIMIT,
            max_idle: Duration::from_secs(10),
            max_revalidator: Duration::from_millis(500),
        }
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

/// Events that `coverage/show` shows.
#[derive(Clone, Default, Debug)]
pub struct Counters {
    missing: Counter,
    limit_hit: Counter,
    limit_kill: Counter,
    limit_reduced: Counter,
    limit_scaled: Counter,
    limit_grew: Counter,
}

impl Counters {
    /// Registers them.
    pub fn new(coverage: &mut Coverage) -> Self {
        Self {
            missing: coverage.counter("revalidate_missing_dp_flow"),
            limit_hit: coverage.counter("upcall_flow_limit_hit"),
            limit_kill: coverage.counter("upcall_flow_limit_kill"),
            limit_reduced: coverage.counter("upcall_flow_limit_reduced"),
            limit_scaled: coverage.counter("upcall_flow_limit_scaled"),
            limit_grew: coverage.counter("upcall_flow_limit_grew"),
        }
    }
}

#[derive(Default)]
struct State {
    settings: Settings,
    average: usize,
    most: usize,
    duration: Duration,
    walks: u64,
    last_walk: Option<Instant>,
    last_seq: u64,
    paused: bool,
    /// A walk that has begun.
    walk: Option<Walk>,
}

/// A walk over a datapath's flows, which may take several steps.
struct Walk {
    dump: Box<dyn Dump>,
    number: u64,
    seq: u64,
    began: Instant,
    took: Duration,
    seen: usize,
}

/// The flows of one datapath that translation installed.
pub struct Flows {
    ukeys: Mutex<HashMap<(Ufid, PmdId), Ukey>>,
    count: AtomicUsize,
    limit: AtomicUsize,
    /// Flows that were not installed because there were too many.
    pub refused: AtomicU64,
    state: Mutex<State>,
    counters: OnceLock<Counters>,
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            ukeys: Mutex::default(),
            count: AtomicUsize::new(0),
            limit: AtomicUsize::new(INITIAL_FLOW_LIMIT),
            refused: AtomicU64::new(0),
            state: Mutex::default(),
            counters: OnceLock::new(),
        }
    }
}

/// What becomes of a flow.
enum Verdict {
    Keep,
    Change(Vec<Action>, Kept),
    /// Put in again, with a mask that sees more.
    Replace(Box<Mask>, Vec<Action>, Kept),
    Delete,
}

impl Flows {
    fn ukeys(&self) -> MutexGuard<'_, HashMap<(Ufid, PmdId), Ukey>> {
        self.ukeys.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
        let room = self.count.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed);
        if !room {
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.tally(|c| &c.limit_hit, 1);
        }
        room
    }

    pub(crate) fn insert(&self, ukey: Ukey) {
        let mut ukeys = self.ukeys();
        ukeys.insert((ukey.ufid, ukey.pmd), ukey);
        self.count.store(ukeys.len(), Ordering::Relaxed);
    }

    pub(crate) fn forget(&self, ufid: Ufid, pmd: PmdId) {
        let mut ukeys = self.ukeys();
        ukeys.remove(&(ufid, pmd));
        self.count.store(ukeys.len(), Ordering::Relaxed);
    }

    pub(crate) fn forget_worker(&self, pmd: PmdId) {
        let mut ukeys = self.ukeys();
        ukeys.retain(|(_, owner), _| *owner != pmd);
        self.count.store(ukeys.len(), Ordering::Relaxed);
    }

    /// Obeys settings from the database.
    pub fn configure(&self, settings: Settings) {
        self.state().settings = settings;
        let limit = self.limit.load(Ordering::Relaxed).min(settings.flow_limit);
        self.limit.store(limit.max(1000.min(settings.flow_limit)), Ordering::Relaxed);
    }

    /// Sets the present limit, until it adapts.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Stops walks, or lets them go on.
    pub(crate) fn pause(&self, paused: bool) {
        self.state().paused = paused;
    }

    /// Figures for people.
    pub fn figures(&self) -> Figures {
        let state = self.state();
        Figures {
            current: self.count.load(Ordering::Relaxed),
            average: state.average,
            most: state.most,
            limit: self.limit.load(Ordering::Relaxed),
            duration: state.duration,
        }
    }

    /// Walks on over the datapath's flows if it is time; returns when it will be.
    pub(crate) fn run(&self, backer: &Backer, now: Instant) -> Instant {
        let seq = backer.seq();
        let walk = {
            let mut state = self.state();
            if state.paused {
                return Instant::NEVER;
            }
            let changed = state.last_seq != seq;
            let interval = match changed {
                // A walk that costs next to nothing need not wait, not even for a stopped clock.
                true if state.duration < QUICK => Duration::ZERO,
                true => MIN_INTERVAL,
                false => state.settings.max_revalidator,
            };
            let due = state.last_walk.map_or(now, |last| last + interval);
            if state.walk.is_none() && due > now {
                return due;
            }
            state.walk.take()
        };
        let walk = walk.unwrap_or_else(|| self.begin(backer, now));
        self.step(backer, walk, now, STEP)
    }

    /// Looks at every flow of the datapath now.
    pub fn walk(&self, backer: &Backer, now: Instant) {
        self.state().walk = None;
        let walk = self.begin(backer, now);
        self.step(backer, walk, now, usize::MAX);
    }

    fn begin(&self, backer: &Backer, now: Instant) -> Walk {
        let seq = backer.seq();
        let mut state = self.state();
        state.walks += 1;
        let dump = backer.datapath.flow_dump(backer.ufid());
        Walk { dump, number: state.walks, seq, began: now, took: Duration::ZERO, seen: 0 }
    }

    /// Looks at `most` flows; returns when to go on.
    fn step(&self, backer: &Backer, mut walk: Walk, now: Instant, most: usize) -> Instant {
        let started = std::time::Instant::now();
        let snapshot = backer.snapshot();
        let settings = self.state().settings;
        let present = self.count.load(Ordering::Relaxed);
        let limit = self.limit.load(Ordering::Relaxed);
        let look = Look {
            backer,
            snapshot: &snapshot,
            seq: walk.seq,
            walk: walk.number,
            now,
            max_idle: if present > limit { CROWDED_IDLE } else { settings.max_idle },
            kill_all: present > limit.saturating_mul(2),
        };
        self.tally(|c| &c.limit_kill, usize::from(look.kill_all));
        let mut batch = Vec::with_capacity(DUMP_BATCH);
        let (mut done, mut more) = (0, true);
        while more && done < most {
            batch.clear();
            more = walk.dump.next(DUMP_BATCH, &mut batch).unwrap_or(false);
            batch.iter().for_each(|flow| self.look(&look, flow));
            done += batch.len();
        }
        walk.seen += done;
        walk.took += started.elapsed();
        if more {
            self.state().walk = Some(walk);
            return now;
        }
        self.finish(backer, &walk, settings, now)
    }

    fn finish(&self, backer: &Backer, walk: &Walk, settings: Settings, now: Instant) -> Instant {
        self.drop_unseen(backer, walk);
        self.adapt(walk.seen, walk.took, settings.flow_limit);
        let mut state = self.state();
        (state.last_walk, state.last_seq, state.duration) = (Some(now), walk.seq, walk.took);
        state.most = state.most.max(walk.seen);
        state.average = (state.average + walk.seen) / 2;
        now + settings.max_revalidator
    }

    /// Slow walks call for fewer flows, quick ones allow more.
    fn adapt(&self, seen: usize, duration: Duration, most: usize) {
        let millis = (duration.as_millis() as usize).max(1);
        let mut limit = self.limit.load(Ordering::Relaxed);
        if millis > 2000 {
            limit /= millis / 1000;
            self.tally(|c| &c.limit_scaled, 1);
        } else if millis > 1300 {
            limit = limit * 3 / 4;
            self.tally(|c| &c.limit_reduced, 1);
        } else if millis < 1000 && limit < seen * 1000 / millis {
            limit += 1000;
            self.tally(|c| &c.limit_grew, 1);
        }
        self.limit.store(limit.max(1000).min(most), Ordering::Relaxed);
    }

    /// Looks at one flow that the datapath showed.
    fn look(&self, look: &Look<'_>, flow: &Flow) {
        let mut ukeys = self.ukeys();
        let Some(mut ukey) = ukeys.remove(&(flow.ufid, flow.pmd)) else {
            drop(ukeys);
            return self.adopt(look, flow);
        };
        drop(ukeys);
        ukey.seen = look.walk;
        let verdict = look.verdict(&ukey, &flow.stats);
        look.push(&mut ukey, &flow.stats);
        match verdict {
            Verdict::Keep => {
                ukey.teaching &= ukey.seq == look.seq;
                ukey.seq = look.seq;
            }
            Verdict::Change(actions, kept) => {
                look.change(&ukey, &actions);
                (ukey.actions, ukey.kept, ukey.seq) = (actions, kept, look.seq);
                ukey.teaching = false;
            }
            Verdict::Replace(mask, actions, kept) => {
                look.delete(&mut ukey);
                ukey.mask = significant(look.snapshot, &ukey.key.expand(), &mask);
                look.put(&ukey, &actions, PutFlags::CREATE);
                (ukey.actions, ukey.kept, ukey.seq) = (actions, kept, look.seq);
                (ukey.stats, ukey.teaching) = (FlowStats::default(), false);
            }
            Verdict::Delete => {
                look.delete(&mut ukey);
                return self.count.store(self.ukeys().len(), Ordering::Relaxed);
            }
        }
        self.insert(ukey);
    }

    /// A flow that nobody of us installed: it becomes ours if it is what translation would make, else it goes.
    fn adopt(&self, look: &Look<'_>, flow: &Flow) {
        let full = if flow.key.0.is_empty() {
            let get = datapath::flow::FlowGet { key: &flow.key, ufid: Some(flow.ufid), pmd: flow.pmd };
            let Ok(full) = look.backer.datapath.flow_get(&get) else { return };
            full
        } else {
            flow.clone()
        };
        let Ok((key, _)) = odp::key_to_flow(&full.key) else { return };
        let Ok((mask, _)) = odp::mask_to_flow(&full.mask, &key) else { return };
        let kept = Kept { effects: Vec::new(), recircs: Vec::new() };
        let actions = full.actions.to_vec();
        let mut ukey =
            Ukey::new(flow.ufid, flow.pmd, full.key, &key, Mini::new(&mask.0), actions, 0, look.now, kept);
        ukey.seen = look.walk;
        match look.translate_again(&ukey) {
            Verdict::Keep => {
                ukey.seq = look.seq;
                self.insert(ukey);
            }
            Verdict::Change(actions, kept) => {
                look.change(&ukey, &actions);
                (ukey.actions, ukey.kept, ukey.seq) = (actions, kept, look.seq);
                self.insert(ukey);
            }
            Verdict::Replace(..) | Verdict::Delete => look.delete(&mut ukey),
        }
    }

    /// What the datapath no longer shows is gone; what came since the walk began may not have been shown.
    fn drop_unseen(&self, backer: &Backer, walk: &Walk) {
        let settling = backer.clock.now().since(walk.began) + Duration::from_secs(1);
        let now = backer.clock.now();
        let mut ukeys = self.ukeys();
        let before = ukeys.len();
        ukeys.retain(|_, ukey| ukey.seen == walk.number || now.since(ukey.created) < settling);
        self.count.store(ukeys.len(), Ordering::Relaxed);
        self.tally(|c| &c.missing, before - ukeys.len());
    }

    /// Deletes every flow, counting its packets first.
    pub(crate) fn purge(&self, backer: &Backer) {
        let snapshot = backer.snapshot();
        let now = backer.clock.now();
        let look = Look {
            backer,
            snapshot: &snapshot,
            seq: backer.seq(),
            walk: 0,
            now,
            max_idle: Duration::ZERO,
            kill_all: true,
        };
        let all = std::mem::take(&mut *self.ukeys());
        for mut ukey in all.into_values() {
            look.delete(&mut ukey);
        }
        // What was not ours goes too.
        if let Err(error) = backer.datapath.flow_flush() {
            tracing::warn!(target: "ofproto_dpif_upcall", "failed to flush flows: {error}");
        }
        self.count.store(0, Ordering::Relaxed);
    }
}

/// One walk's circumstances.
struct Look<'a> {
    backer: &'a Backer,
    snapshot: &'a Snapshot,
    seq: u64,
    walk: u64,
    now: Instant,
    max_idle: Duration,
    kill_all: bool,
}

impl Look<'_> {
    fn verdict(&self, ukey: &Ukey, stats: &FlowStats) -> Verdict {
        let used = stats.used.unwrap_or(ukey.created);
        if self.kill_all || self.now.since(used) >= self.max_idle {
            return Verdict::Delete;
        }
        if ukey.seq == self.seq { Verdict::Keep } else { self.translate_again(ukey) }
    }

    /// What translation makes of the flow now.
    fn translate_again(&self, ukey: &Ukey) -> Verdict {
        let backer = self.backer;
        let key = ukey.key.expand();
        let Ok((bridge, in_port)) = backer.origin(self.snapshot, &key) else { return Verdict::Delete };
        let result = backer.translate(self.snapshot, bridge, in_port, &key, None, self.now);
        if result.avoid_caching {
            return Verdict::Delete;
        }
        let actions = if result.slow.is_empty() {
            result.actions
        } else {
            slow_path(backer, bridge, result.slow, DpPort(key.in_port), in_port)
        };
        let kept = Kept { effects: result.effects, recircs: result.recircs };
        // A flow that is too wide now must go, unless it is as it should have been had its own packet's rules been there;
        // one that is too narrow may stay.
        if !ukey.mask.covers(&significant(self.snapshot, &key, &result.mask)) {
            return match ukey.teaching {
                true => Verdict::Replace(Box::new(result.mask), actions, kept),
                false => Verdict::Delete,
            };
        }
        if actions == ukey.actions && kept.recircs == ukey.kept.recircs && same_effects(&kept, &ukey.kept) {
            return Verdict::Keep;
        }
        Verdict::Change(actions, kept)
    }

    /// Counts the packets that came since the last time.
    fn push(&self, ukey: &mut Ukey, stats: &FlowStats) {
        let packets = stats.packets.saturating_sub(ukey.stats.packets);
        let bytes = stats.bytes.saturating_sub(ukey.stats.bytes);
        if packets != 0 || stats.used > ukey.stats.used {
            let used = stats.used.unwrap_or(self.now);
            self.backer
                .apply(&ukey.kept.effects, &Stats { packets, bytes, used, tcp_flags: stats.tcp_flags });
        }
        ukey.stats = *stats;
    }

    fn change(&self, ukey: &Ukey, actions: &[Action]) {
        if actions != ukey.actions {
            self.put(ukey, actions, PutFlags::MODIFY);
        }
    }

    fn put(&self, ukey: &Ukey, actions: &[Action], flags: PutFlags) {
        let mask = Mask(ukey.mask.expand());
        let key = ukey.key.expand();
        let support = self.snapshot.features.as_deref().map_or(OdpSupport::ALL, odp_support);
        let params = Params {
            key: &key,
            mask: Some(&mask),
            support: &support,
            vlan_limit: usize::from(self.snapshot.vlan_limit),
        };
        let raw_mask = odp::mask_from_flow(&params, &mask);
        let put = FlowPut {
            flags,
            key: &ukey.raw,
            mask: Some(&raw_mask),
            ufid: Some(ukey.ufid),
            pmd: ukey.pmd,
            actions,
        };
        if let Err(error) = self.backer.datapath.flow_put(&put) {
            tracing::debug!(target: "ofproto_dpif_upcall", "failed to modify flow {}: {error}", ukey.ufid);
        }
    }

    fn delete(&self, ukey: &mut Ukey) {
        let del = FlowDel { key: &ukey.raw, ufid: Some(ukey.ufid), pmd: ukey.pmd, terse: false };
        match self.backer.datapath.flow_del(&del) {
            Ok(stats) => self.push(ukey, &stats),
            Err(error) => {
                tracing::debug!(target: "ofproto_dpif_upcall", "failed to delete flow {}: {error}", ukey.ufid);
            }
        }
    }
}

/// The bits of a mask that a datapath flow can have: what its attributes carry.
pub(crate) fn significant(snapshot: &Snapshot, key: &Key, mask: &Mask) -> Mini {
    let support = snapshot.features.as_deref().map_or(OdpSupport::ALL, odp_support);
    let vlan_limit = usize::from(snapshot.vlan_limit);
    let raw = odp::mask_from_flow(&Params { key, mask: Some(mask), support: &support, vlan_limit }, mask);
    match odp::mask_to_flow(&raw, key) {
        Ok((mask, _)) => Mini::new(&mask.0),
        Err(_) => Mini::new(&mask.0),
    }
}

/// Whether two translations count packets at the same places.
fn same_effects(a: &Kept, b: &Kept) -> bool {
    a.effects.len() == b.effects.len() && a.effects.iter().zip(&b.effects).all(|(a, b)| a.is_same(b))
}
