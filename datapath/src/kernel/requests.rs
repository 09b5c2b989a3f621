//! Requests to one datapath of the kernel, each alone.

use std::sync::{Arc, Mutex, PoisonError};

use sys::errno::Errno;

use super::flow::FlowDump;
use super::genl::Genl;
use super::operate::Operator;
use crate::Error;
use crate::flow::{Dump, Execute, Flow, FlowDel, FlowGet, FlowPut, FlowStats, Op, OpDone, OpResult};

/// One datapath, as requests name it.
#[derive(Clone)]
pub(super) struct Requests {
    pub genl: Arc<Genl>,
    /// The interface index of its own port.
    pub dp: u32,
    pub name: String,
    /// Memory that nobody uses now, of as many as ever made requests at once.
    pub spare: Arc<Mutex<Vec<Operator>>>,
}

impl Requests {
    pub(super) fn operate(&self, ops: &[Op<'_>], echo: bool) -> Vec<OpResult> {
        let mut results = Vec::with_capacity(ops.len());
        let on = (&self.genl.families, self.dp);
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut operator = spare().pop().unwrap_or_default();
        let done = self.genl.with(|client| {
            operator.operate(client, on, ops, echo, &mut results);
            Ok(())
        });
        spare().push(operator);
        if let Err(error) = done {
            results.resize_with(ops.len(), || Err(error.clone()));
        }
        results
    }

    fn one(&self, op: Op<'_>, echo: bool) -> OpResult {
        self.operate(&[op], echo).pop().unwrap_or(Err(Errno::EPROTO.into()))
    }

    pub(super) fn put(&self, put: &FlowPut<'_>, echo: bool) -> Result<Option<FlowStats>, Error> {
        match self.one(Op::Put(*put), echo)? {
            OpDone::Put(stats) => Ok(stats),
            OpDone::Del(_) | OpDone::Get(_) | OpDone::Execute => Ok(None),
        }
    }

    pub(super) fn del(&self, del: &FlowDel<'_>) -> Result<FlowStats, Error> {
        match self.one(Op::Del(*del), true)? {
            OpDone::Del(stats) => Ok(stats),
            OpDone::Put(_) | OpDone::Get(_) | OpDone::Execute => Ok(FlowStats::default()),
        }
    }

    pub(super) fn get(&self, get: &FlowGet<'_>) -> Result<Flow, Error> {
        match self.one(Op::Get(*get), true)? {
            OpDone::Get(flow) => Ok(*flow),
            OpDone::Put(_) | OpDone::Del(_) | OpDone::Execute => Err(Errno::EPROTO.into()),
        }
    }

    pub(super) fn execute(&self, execute: &Execute<'_>) -> Result<(), Error> {
        self.one(Op::Execute(*execute), false).map(|_| ())
    }

    pub(super) fn dump(&self, terse: bool) -> Box<dyn Dump> {
        Box::new(FlowDump::new(Arc::clone(&self.genl), self.dp, terse))
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        super::flow::flush(&self.genl, self.dp)
    }
}
