//! Operations in batches: as many as fit in one message to the kernel, results matched by sequence.

use sys::errno::Errno;

use super::flow::{Written, decode, decode_stats, push_del, push_get, push_put, put_size};
use super::genl::Families;
use super::help;
use super::packet::{execute_size, oversized, push_execute};
use crate::Error;
use crate::flow::{Execute, Flow, FlowGet, FlowStats, Op, OpDone, OpResult};
use crate::netlink::{Batch, Client, Message, Outcome};

/// Bytes of a request without key and actions of unknown length.
const SMALL: usize = 1024;

/// Memory for batches, to be used again: what a batch needs is more than some allocators keep.
#[derive(Default)]
pub(super) struct Operator {
    batch: Batch,
    /// Places in `ops` of what the batch holds.
    places: Vec<usize>,
    /// Places in `ops` of what became of which nobody knows.
    unknown: Vec<usize>,
}

impl Operator {
    /// Does `ops` in order; one result each, into `results`. With `echo`, puts tell of the flow that was there.
    pub(super) fn operate(
        &mut self,
        client: &mut Client,
        (families, dp): (&Families, u32),
        ops: &[Op<'_>],
        echo: bool,
        results: &mut Vec<OpResult>,
    ) {
        results.clear();
        results.resize_with(ops.len(), || Err(Errno::EIO.into()));
        let mut written = Written::default();
        for (place, op) in ops.iter().enumerate() {
            if let Op::Execute(execute) = op
                && oversized(execute)
            {
                tracing::error!(
                    target: "dpif_netlink", rl = "9999,5",
                    "dropping oversized {}-byte packet", execute.packet.len()
                );
                results[place] = Err(Errno::ENOBUFS.into());
                continue;
            }
            if let Op::Execute(execute) = op
                && help::is_needed(execute.actions)
            {
                self.flush(client, (families, dp), ops, results);
                written = Written::default();
                results[place] = self.execute_in_parts(client, (families, dp), execute);
                continue;
            }
            if !self.batch.has_room(size(op)) {
                self.flush(client, (families, dp), ops, results);
                written = Written::default();
            }
            push(&mut self.batch, (families, dp), op, echo, &mut written);
            self.places.push(place);
        }
        self.flush(client, (families, dp), ops, results);
    }

    /// Executes what the kernel would refuse whole.
    fn execute_in_parts(
        &mut self,
        client: &mut Client,
        on: (&Families, u32),
        execute: &Execute<'_>,
    ) -> OpResult {
        let parts = help::parts(execute)?;
        let ops = parts.iter().map(|part| Op::Execute(part.execute(execute))).collect::<Vec<_>>();
        let mut results = Vec::new();
        self.operate(client, on, &ops, false, &mut results);
        results.into_iter().find(Result::is_err).unwrap_or(Ok(OpDone::Execute))
    }

    fn flush(&mut self, client: &mut Client, on: (&Families, u32), ops: &[Op<'_>], results: &mut [OpResult]) {
        let Self { batch, places, unknown } = self;
        let sent = client.transact_batch(batch, &mut |n, outcome| {
            let Some(&place) = places.get(n) else { return };
            results[place] = match outcome {
                Outcome::Done | Outcome::Warned(_) => done(&ops[place]),
                Outcome::Reply(message) => read(on.0, &ops[place], &message),
                Outcome::Refused(refusal) => Err(refusal.into()),
                Outcome::Unknown => {
                    unknown.push(place);
                    Err(Errno::ENOBUFS.into())
                }
            };
        });
        if let Err(error) = sent {
            for &place in &*places {
                results[place] = Err(error.clone());
            }
        }
        self.batch.clear();
        self.places.clear();
        for place in std::mem::take(&mut self.unknown) {
            results[place] = self.read_back(client, on, &ops[place]);
        }
    }

    /// Finds out what became of an operation whose answer was lost.
    fn read_back(&mut self, client: &mut Client, on: (&Families, u32), op: &Op<'_>) -> OpResult {
        let lost = || Err(Errno::ENOBUFS.into());
        let get = match op {
            Op::Execute(_) => return lost(),
            Op::Get(get) => *get,
            Op::Put(put) => FlowGet { key: put.key, ufid: put.ufid, pmd: put.pmd },
            Op::Del(del) => FlowGet { key: del.key, ufid: del.ufid, pmd: del.pmd },
        };
        self.batch.clear();
        push_get(&mut self.batch, on.0.flow, on.1, &get);
        let mut found: Result<Flow, Error> = Err(Errno::ENOBUFS.into());
        let sent = client.transact_batch(&mut self.batch, &mut |_, outcome| {
            found = match outcome {
                Outcome::Reply(message) => decode(on.0.flow, &message).map(|(flow, _)| flow),
                Outcome::Refused(refusal) => Err(refusal.into()),
                Outcome::Done | Outcome::Warned(_) | Outcome::Unknown => Err(Errno::ENOBUFS.into()),
            };
        });
        self.batch.clear();
        sent?;
        let absent = found.as_ref().err().is_some_and(|error| error.errno() == Errno::ENOENT);
        match op {
            Op::Get(_) => found.map(|flow| OpDone::Get(Box::new(flow))),
            Op::Put(put) => match found {
                Ok(flow) if *flow.actions == *put.actions => Ok(OpDone::Put(None)),
                _ => lost(),
            },
            // Gone, with its last counters.
            Op::Del(_) if absent => Ok(OpDone::Del(FlowStats::default())),
            Op::Del(_) | Op::Execute(_) => lost(),
        }
    }
}

/// How much room an operation takes, about; a batch may turn out somewhat longer.
fn size(op: &Op<'_>) -> usize {
    match op {
        Op::Put(put) => put_size(put),
        Op::Del(_) | Op::Get(_) => SMALL,
        Op::Execute(execute) => execute_size(execute),
    }
}

/// Appends an operation's request.
pub(super) fn push<'a>(
    batch: &mut Batch,
    (families, dp): (&Families, u32),
    op: &Op<'a>,
    echo: bool,
    written: &mut Written<'a>,
) {
    match op {
        Op::Put(put) => push_put(batch, (families.flow, dp), put, echo, written),
        Op::Del(del) => push_del(batch, families.flow, dp, del),
        Op::Get(get) => push_get(batch, families.flow, dp, get),
        Op::Execute(execute) => push_execute(batch, families.packet, dp, execute),
    }
}

/// What an operation gives that succeeded without a word.
fn done(op: &Op<'_>) -> OpResult {
    match op {
        Op::Put(_) => Ok(OpDone::Put(None)),
        Op::Del(_) => Ok(OpDone::Del(FlowStats::default())),
        Op::Get(_) => Err(Errno::EPROTO.into()),
        Op::Execute(_) => Ok(OpDone::Execute),
    }
}

fn read(families: &Families, op: &Op<'_>, message: &Message<'_>) -> OpResult {
    match op {
        Op::Put(_) => decode_stats(families.flow, message).map(|stats| OpDone::Put(Some(stats))),
        Op::Del(_) => decode_stats(families.flow, message).map(OpDone::Del),
        Op::Get(_) => decode(families.flow, message).map(|(flow, _)| OpDone::Get(Box::new(flow))),
        Op::Execute(_) => Ok(OpDone::Execute),
    }
}
