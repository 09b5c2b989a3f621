//! Flows that wait for hardware: tried again after a while, and with `other_config:offload-rebalance` let in before flows with far
//! fewer packets. The numbers are those of [`crate::room`].
//!
//! A flow that gives way is put into the inner datapath before its rule goes, and one that gets room leaves the inner datapath once
//! its rule is there: packets always find one of the two.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datapath::PmdId;
use datapath::flow::{Flow, FlowDel, FlowGet, FlowPut, FlowStats, Op, PutFlags};
use flow::id::Ufid;
use flow::odp::RawKey;
use flow::time::Instant;
use sys::errno::Errno;

use super::operate::failed;
use super::{Prepared, Shared};
use crate::place::{self, Hard, Place, Reason, Soft};
use crate::room::{HOLD, MAX_RETRIES, MAX_SWAPS, MIN_RATE, SWAP_FACTOR, SWAP_INTERVAL};
use crate::table::Job;

/// When and whether what waits is looked at.
#[derive(Default)]
pub(super) struct Waiting {
    /// Whether busy flows displace idle ones.
    rebalances: AtomicBool,
    /// When they did last. One thread at a time has flows tried again.
    swapped: Mutex<Option<Instant>>,
    /// Flows that gave way so far.
    displaced: AtomicU64,
}

impl Waiting {
    pub(super) fn set_rebalancing(&self, on: bool) {
        self.rebalances.store(on, Ordering::Relaxed);
    }

    pub(super) fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }
}

/// A flow in the inner datapath that is ready to be a rule.
struct Ready {
    waiting: place::Waiting,
    key: RawKey,
    prepared: Prepared,
}

fn ask_for<'a>(ufid: Ufid, key: &'a RawKey) -> FlowGet<'a> {
    FlowGet { key, ufid: Some(ufid), pmd: PmdId::NONE }
}

impl Shared {
    /// Tries flows again that may be taken now. They are in the inner datapath, and leave it once a device has them.
    pub(super) fn retry(&self) {
        self.lift_floors();
        if !self.places.is_following() {
            return;
        }
        // Who comes meanwhile need not wait: all is being done.
        let Ok(mut swapped) = self.waiting.swapped.try_lock() else { return };
        let now = self.clock.now();
        let due = self.places.due(now, MAX_RETRIES);
        let ready = self.ready(due);
        self.enter(&ready);
        let is_time = swapped.is_none_or(|last| last + SWAP_INTERVAL <= now);
        if is_time && self.waiting.rebalances.load(Ordering::Relaxed) {
            *swapped = Some(now);
            self.swap(now);
        }
    }

    /// Makes flows ready to be rules. Those that cannot be any keep why.
    fn ready(&self, waiting: Vec<place::Waiting>) -> Vec<Ready> {
        let key = RawKey::default();
        let mut ready = Vec::with_capacity(waiting.len());
        for waiting in waiting {
            let ufid = waiting.ufid;
            let Ok(flow) = self.inner.flow_get(&ask_for(ufid, &key)) else {
                // It is gone, and nobody said so by its name.
                self.places.remove(ufid);
                continue;
            };
            let mask = (!flow.mask.0.is_empty()).then_some(&flow.mask);
            match self.prepare(ufid, &flow.key, mask, &flow.actions) {
                Ok(prepared) => ready.push(Ready { waiting, key: flow.key, prepared }),
                Err(why) => self.keep_why(ufid, why, waiting.tries.saturating_add(1)),
            }
        }
        ready
    }

    /// Has devices take flows.
    fn enter(&self, ready: &[Ready]) {
        if ready.is_empty() {
            return;
        }
        let jobs: Vec<_> = ready.iter().map(|ready| self.put_job(&ready.prepared)).collect();
        let mut done = self.table.submit(&jobs).into_iter();
        for Ready { waiting, key, prepared } in ready {
            match failed(done.next()) {
                None => {
                    self.installed(waiting.ufid, prepared, FlowStats::default());
                    self.leave_inner(waiting.ufid, key);
                }
                Some(error) => {
                    self.keep_why(waiting.ufid, Reason::from(&error), waiting.tries.saturating_add(1));
                }
            }
        }
    }

    /// Has flows with few packets give way to those with many that lack nothing but room.
    fn swap(&self, now: Instant) {
        let mut hot = self.places.hottest(MAX_SWAPS);
        hot.retain(|waiting| waiting.rate >= MIN_RATE);
        if hot.is_empty() {
            return;
        }
        let mut cold = HashMap::<_, Vec<_>>::new();
        for (ufid, rate, hard) in self.places.coldest(now - HOLD, MAX_SWAPS) {
            cold.entry(self.ports.room(hard.id.on)).or_default().push((ufid, rate, hard));
        }
        // The coldest of each device is the last of its list.
        cold.values_mut().for_each(|flows| flows.reverse());
        let mut entering = Vec::new();
        let mut leaving = Vec::new();
        for ready in self.ready(hot) {
            let of_device = cold.get_mut(&self.ports.room(ready.prepared.id.on));
            let enough = ready.waiting.rate / SWAP_FACTOR;
            if let Some((ufid, _, hard)) = of_device.and_then(|flows| flows.pop_if(|cold| cold.1 <= enough)) {
                leaving.push((ufid, hard));
                entering.push(ready);
            }
        }
        if !leaving.is_empty() {
            let left = self.leave_hardware(&leaving);
            tracing::debug!(
                target: "dpif_offload_tc",
                "{left} of {} flows gave way to busier ones", leaving.len()
            );
            self.enter(&entering);
        }
    }

    /// Moves flows to the inner datapath; how many went.
    pub(super) fn leave_hardware(&self, leaving: &[(Ufid, Hard)]) -> usize {
        let told = self.table.submit(&leaving.iter().map(|(_, hard)| Job::Get(hard.id)).collect::<Vec<_>>());
        let flows: Vec<(Ufid, Hard, Flow)> = leaving
            .iter()
            .zip(told)
            .filter_map(|((ufid, hard), told)| {
                let flow = self.flow(&*told.ok()??).ok()??;
                Some((*ufid, *hard, flow))
            })
            .collect();
        let puts: Vec<_> = flows.iter().map(|(ufid, _, flow)| Op::Put(put_of(*ufid, flow))).collect();
        let put = self.inner.operate(&puts);
        let there: Vec<_> =
            flows.iter().zip(put).filter_map(|(flow, put)| put.is_ok().then_some(flow)).collect();
        let jobs: Vec<_> =
            there.iter().flat_map(|(_, hard, _)| [Job::Get(hard.id), Job::Del(hard.id)]).collect();
        let mut done = self.table.submit(&jobs).into_iter();
        let mut left = 0;
        for (ufid, hard, flow) in there {
            let (mut hard, told) = (*hard, hard.stats);
            if let Some(Ok(Some(filter))) = done.next() {
                hard.count(&filter.stats, self.clock.now());
            }
            let gone = failed(done.next()).is_none_or(|error| error.errno() == Errno::ENOENT);
            if gone && self.give_way(*ufid, &hard, told) {
                left += 1;
            } else {
                // It keeps its rule, or was changed meanwhile by who knows better.
                let del = FlowDel { key: &flow.key, ufid: Some(*ufid), pmd: PmdId::NONE, terse: true };
                let _ = self.inner.flow_del(&del);
            }
        }
        left
    }

    /// A flow's rule went, for another to have its room; whether it was still that rule's. Who looks after flows was told the
    /// counters `told`, and takes those in software for others: they begin with what the rule counted since.
    fn give_way(&self, ufid: Ufid, hard: &Hard, told: FlowStats) -> bool {
        let why = Reason::Displaced;
        let again = why.again_after(0).map(|after| self.clock.now() + after);
        let carried = (hard.stats.packets - told.packets, hard.stats.bytes - told.bytes);
        let soft = Soft { why, tries: 0, again, carried, pace: hard.pace };
        let was = self.places.displace(ufid, &hard.id, soft);
        if was {
            self.waiting.displaced.fetch_add(1, Ordering::Relaxed);
            self.unlead(&Place::Hard(*hard));
        }
        was
    }
}

/// A flow as it is put into the inner datapath.
fn put_of(ufid: Ufid, flow: &Flow) -> FlowPut<'_> {
    FlowPut {
        flags: PutFlags::CREATE,
        key: &flow.key,
        mask: Some(&flow.mask),
        ufid: Some(ufid),
        pmd: PmdId::NONE,
        actions: &flow.actions,
    }
}
