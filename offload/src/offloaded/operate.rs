//! Operations in batches: what goes to devices in one pipelined lot, then the rest to the inner datapath in one.
//!
//! Operations on one flow keep their order: a batch ends before the second one.

use std::collections::HashSet;

use datapath::flow::{Flow, FlowDel, FlowGet, FlowPut, FlowStats, Op, OpDone, OpResult, PutFlags};
use datapath::{Error, ufid_of};
use flow::id::Ufid;
use sys::errno::Errno;

use super::{Prepared, Shared};
use crate::place::{Hard, Place, Reason};
use crate::table::{Done, Job};
use crate::tc::filter::Filter;

/// What a device is asked for.
enum Task {
    /// With the place of its job, and the flow's counters if those of its old rule were asked for.
    Put {
        ufid: Ufid,
        prepared: Box<Prepared>,
    },
    Del {
        ufid: Ufid,
        hard: Hard,
    },
    Get {
        hard: Hard,
    },
}

/// Operations that are under way.
#[derive(Default)]
struct Round {
    /// For devices, by place among the operations.
    hard: Vec<(usize, Task)>,
    /// For the inner datapath, and whether a rule of the flow went for that.
    soft: Vec<(usize, bool)>,
    /// Flows that are named.
    named: HashSet<Ufid>,
}

fn ufid_of_op(op: &Op<'_>) -> Option<Ufid> {
    match op {
        Op::Put(FlowPut { ufid, key, .. })
        | Op::Del(FlowDel { ufid, key, .. })
        | Op::Get(FlowGet { ufid, key, .. }) => Some(ufid.unwrap_or_else(|| ufid_of(&key.0))),
        Op::Execute(_) => None,
    }
}

/// The error of what a device refused, for a flow that can be nowhere else.
pub(super) fn failed(done: Option<Done>) -> Option<Error> {
    match done {
        Some(Ok(_)) => None,
        Some(Err(error)) => Some(error),
        None => Some(Errno::EIO.into()),
    }
}

impl Shared {
    /// Does all of `ops`.
    pub(super) fn operate(&self, ops: &[Op<'_>]) -> Vec<OpResult> {
        if !self.is_on() {
            return self.inner.operate(ops);
        }
        let mut results: Vec<OpResult> = ops.iter().map(|_| Err(Errno::EIO.into())).collect();
        let mut round = Round::default();
        for (at, op) in ops.iter().enumerate() {
            let ufid = ufid_of_op(op);
            if ufid.is_some_and(|ufid| !round.named.insert(ufid)) {
                self.finish(std::mem::take(&mut round), ops, &mut results);
                round.named.extend(ufid);
            }
            let hard = ufid.and_then(|ufid| self.places.hard(ufid));
            match self.sort(op, ufid, hard) {
                Ok(Some(task)) => round.hard.push((at, task)),
                Ok(None) => {
                    let left = hard.is_some() && matches!(op, Op::Put(_));
                    round.soft.push((at, left));
                }
                Err(error) => results[at] = Err(error),
            }
        }
        self.finish(round, ops, &mut results);
        results
    }

    /// What a device is to do for an operation; `None` for nothing.
    fn sort(&self, op: &Op<'_>, ufid: Option<Ufid>, hard: Option<Hard>) -> Result<Option<Task>, Error> {
        let Some(ufid) = ufid else { return Ok(None) };
        Ok(match op {
            Op::Put(put) if put.flags.contains(PutFlags::PROBE) => None,
            Op::Put(put) => {
                // What is in software is the inner datapath's to judge.
                if hard.is_some() {
                    Self::check(put.flags, true)?;
                }
                match self.prepare(ufid, put.key, put.mask, put.actions) {
                    Ok(prepared) => {
                        if hard.is_none()
                            && !put.flags.contains(PutFlags::CREATE)
                            && self.places.get(ufid).is_none()
                        {
                            return Ok(None);
                        }
                        Some(Task::Put { ufid, prepared: Box::new(prepared) })
                    }
                    Err(why) => {
                        self.settle_for_software(ufid, hard, why);
                        None
                    }
                }
            }
            Op::Del(_) => hard.map(|hard| Task::Del { ufid, hard }),
            Op::Get(_) => hard.map(|hard| Task::Get { hard }),
            Op::Execute(_) => None,
        })
    }

    /// A flow will be in the inner datapath: its rule goes, and why is kept.
    fn settle_for_software(&self, ufid: Ufid, hard: Option<Hard>, why: Reason) {
        if let Some(hard) = hard {
            let done = self.table.submit(&[Job::Del(hard.id)]).pop();
            if let Some(error) = failed(done).filter(|error| error.errno() != Errno::ENOENT) {
                tracing::warn!(target: "dpif_offload_tc", rl = "60,5", "deleting the rule of {ufid} failed: {error}");
            }
            self.unlead(&Place::Hard(hard));
        }
        self.keep_why(ufid, why, 0);
    }

    /// Does what was collected.
    fn finish(&self, round: Round, ops: &[Op<'_>], results: &mut [OpResult]) {
        let Round { hard, mut soft, .. } = round;
        let mut jobs = Vec::with_capacity(hard.len() * 2);
        for (_, task) in &hard {
            match task {
                Task::Put { prepared, .. } => {
                    // The counters of the rule that goes are the flow's.
                    jobs.extend(prepared.old.map(|old| Job::Get(old.id)));
                    jobs.push(self.put_job(prepared));
                }
                Task::Del { hard, .. } => jobs.extend([Job::Get(hard.id), Job::Del(hard.id)]),
                Task::Get { hard } => jobs.push(Job::Get(hard.id)),
            }
        }
        let mut done = self.table.submit(&jobs).into_iter();
        drop(jobs);
        for (at, task) in hard {
            match task {
                Task::Put { ufid, prepared } => {
                    let told = prepared.old.and_then(|_| done.next());
                    match self.put_done(ufid, &prepared, told, done.next(), &ops[at]) {
                        Some(result) => results[at] = result,
                        None => soft.push((at, prepared.old.is_some())),
                    }
                }
                Task::Del { ufid, hard } => {
                    let told = done.next();
                    results[at] = self.del_done(ufid, hard, told, done.next());
                }
                Task::Get { hard } => results[at] = self.get_done(hard, done.next()),
            }
        }
        self.finish_soft(soft, ops, results);
    }

    /// A device took a rule or not. `None` if the inner datapath is to have the flow.
    fn put_done(
        &self,
        ufid: Ufid,
        prepared: &Prepared,
        told: Option<Done>,
        done: Option<Done>,
        op: &Op<'_>,
    ) -> Option<OpResult> {
        let Op::Put(put) = op else { return Some(Err(Errno::EINVAL.into())) };
        if let Some(error) = failed(done) {
            if self.is_twin(ufid, &error) {
                return Some(Err(error));
            }
            let why = Reason::from(&error);
            tracing::debug!(target: "dpif_offload_tc", rl = "60,60", "{ufid} stays in software: {why}");
            self.settle_for_software(ufid, prepared.old, why);
            return None;
        }
        let was_soft = prepared.old.is_none() && self.places.get(ufid).is_some();
        let before = prepared.old.map(|mut old| match told {
            Some(Ok(Some(filter))) => old.count(&filter.stats, self.clock.now()),
            _ => old.stats,
        });
        let keep = if put.flags.contains(PutFlags::ZERO_STATS) { None } else { before };
        self.installed(ufid, prepared, keep.unwrap_or_default());
        if let Some(old) = prepared.old.filter(|old| old.id != prepared.id) {
            let gone = self.table.submit(&[Job::Del(old.id)]).pop();
            if let Some(error) = failed(gone).filter(|error| error.errno() != Errno::ENOENT) {
                tracing::warn!(target: "dpif_offload_tc", rl = "60,5", "deleting the old rule of {ufid} failed: {error}");
            }
        }
        if was_soft {
            self.leave_inner(ufid, put.key);
        }
        Some(Ok(OpDone::Put(before)))
    }

    fn del_done(&self, ufid: Ufid, mut hard: Hard, told: Option<Done>, done: Option<Done>) -> OpResult {
        if let Some(Ok(Some(filter))) = told {
            hard.count(&filter.stats, self.clock.now());
        }
        match failed(done) {
            // Gone with its device, or by somebody else: what it counted is known up to then.
            Some(error) if !matches!(error.errno(), Errno::ENOENT | Errno::ENODEV) => Err(error),
            _ => {
                self.places.remove(ufid);
                self.unlead(&Place::Hard(hard));
                Ok(OpDone::Del(hard.stats))
            }
        }
    }

    fn get_done(&self, hard: Hard, done: Option<Done>) -> OpResult {
        match done {
            Some(Ok(Some(filter))) => Ok(OpDone::Get(Box::new(self.flow_of(&filter, hard)?))),
            Some(Ok(None)) | None => Err(Errno::EPROTO.into()),
            Some(Err(error)) => Err(error),
        }
    }

    fn flow_of(&self, filter: &Filter, hard: Hard) -> Result<Flow, Error> {
        match self.flow(filter) {
            Ok(Some(flow)) => Ok(flow),
            Ok(None) => Err(Error::Malformed(format!("rule {} is no flow", hard.id.handle).into())),
            Err(ufid) => {
                self.abandon(ufid, hard.id);
                Err(Errno::ENOENT.into())
            }
        }
    }

    /// Hands on what no device does.
    fn finish_soft(&self, mut soft: Vec<(usize, bool)>, ops: &[Op<'_>], results: &mut [OpResult]) {
        if soft.is_empty() {
            return;
        }
        soft.sort_unstable();
        let rest: Vec<_> = soft
            .iter()
            .map(|(at, left)| match ops[*at] {
                // A flow whose rule went is new to the inner datapath.
                Op::Put(put) if *left => Op::Put(FlowPut { flags: put.flags | PutFlags::CREATE, ..put }),
                op => op,
            })
            .collect();
        for ((at, _), mut result) in soft.into_iter().zip(self.inner.operate(&rest)) {
            if let (Ok(done), Some(ufid)) = (&mut result, ufid_of_op(&ops[at])) {
                self.add_carried(ufid, done);
            }
            if let (Op::Del(_), Ok(_), Some(ufid)) = (&ops[at], &result, ufid_of_op(&ops[at])) {
                self.places.remove(ufid);
            }
            // A flow that is nowhere has no reason.
            if let (Op::Put(_), Err(error), Some(ufid)) = (&ops[at], &result, ufid_of_op(&ops[at]))
                && error.errno() != Errno::EEXIST
            {
                self.places.remove(ufid);
            }
            results[at] = result;
        }
    }

    /// Adds to what the inner datapath tells of a flow what its rule counted and did not tell.
    fn add_carried(&self, ufid: Ufid, done: &mut OpDone) {
        let stats = match done {
            OpDone::Del(stats) => stats,
            OpDone::Get(flow) => &mut flow.stats,
            OpDone::Put(_) | OpDone::Execute => return,
        };
        if self.places.is_following() {
            let (packets, bytes) = self.places.carried(ufid);
            stats.packets += packets;
            stats.bytes += bytes;
        }
    }

    /// Deletes every rule, and forgets where flows are.
    pub(super) fn flush(&self) -> Result<(), Error> {
        let all = self.places.take(|_| true);
        let hard: Vec<_> = all
            .iter()
            .filter_map(|(_, place)| match place {
                Place::Hard(hard) => Some(Job::Del(hard.id)),
                Place::Soft(_) => None,
            })
            .collect();
        let done = self.table.submit(&hard);
        all.iter().for_each(|(_, place)| self.unlead(place));
        let bad = |error: &Error| !matches!(error.errno(), Errno::ENOENT | Errno::ENODEV);
        let failed = done.into_iter().filter_map(Result::err).find(bad);
        self.inner.flow_flush()?;
        failed.map_or(Ok(()), Err)
    }

    /// The flow's counters as a single put, delete or request gives them.
    pub(super) fn put_one(&self, put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error> {
        match self.operate(&[Op::Put(*put)]).pop() {
            Some(Ok(OpDone::Put(stats))) => Ok(stats),
            Some(Err(error)) => Err(error),
            _ => Err(Errno::EPROTO.into()),
        }
    }

    pub(super) fn del_one(&self, del: &FlowDel<'_>) -> Result<FlowStats, Error> {
        match self.operate(&[Op::Del(*del)]).pop() {
            Some(Ok(OpDone::Del(stats))) => Ok(stats),
            Some(Err(error)) => Err(error),
            _ => Err(Errno::EPROTO.into()),
        }
    }

    pub(super) fn get_one(&self, get: &FlowGet<'_>) -> Result<Flow, Error> {
        match self.operate(&[Op::Get(*get)]).pop() {
            Some(Ok(OpDone::Get(flow))) => Ok(*flow),
            Some(Err(error)) => Err(error),
            _ => Err(Errno::EPROTO.into()),
        }
    }
}
