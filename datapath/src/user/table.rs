//! Flows of several workers by the requests of [`crate::Datapath`].

use std::sync::Arc;

use flow::action::Action;
use flow::id::Ufid;
use flow::key::{Key, Mask};
use flow::odp::{Fitness, RawKey, RawMask, key_from_flow, key_to_flow, mask_from_flow, mask_to_flow};
use flow::time::Clock;
use sys::errno::Errno;
use zerocopy::IntoBytes;

use super::batch::Meta;
use super::flows::{Megaflow, New};
use super::log;
use super::node::miss::complete_mask;
use super::program::Program;
use super::worker::{Cell, Injected};
use crate::Error;
use crate::flow::{Dump, Execute, Flow, FlowAttrs, FlowDel, FlowGet, FlowPut, FlowStats, PutFlags};

/// A put, decoded.
struct Put {
    key: Key,
    mask: Mask,
    ufid: Ufid,
    /// The caller named the UFID.
    by_ufid: bool,
    flags: PutFlags,
    actions: Arc<[Action]>,
}

fn decode_key(raw: &RawKey) -> Result<Key, Error> {
    match key_to_flow(raw) {
        Ok((key, Fitness::Perfect | Fitness::TooMuch)) => Ok(key),
        Ok((_, Fitness::TooLittle)) | Err(_) => Err(Errno::EINVAL.into()),
    }
}

fn decode(put: &FlowPut<'_>) -> Result<Put, Error> {
    let key = decode_key(put.key)?;
    let exact = RawMask::default();
    let (mut mask, _) = mask_to_flow(put.mask.unwrap_or(&exact), &key).map_err(|_| Errno::EINVAL)?;
    if mask.0.in_port != u32::MAX {
        let what = if put.flags.contains(PutFlags::CREATE) {
            "[create]"
        } else if put.flags.contains(PutFlags::MODIFY) {
            "[modify]"
        } else {
            "[zero]"
        };
        tracing::error!(target: "dpif_netdev", rl = "1,5", "failed to put{what} flow: in_port is not an exact match");
        return Err(Errno::EINVAL.into());
    }
    complete_mask(&mut mask);
    Ok(Put {
        ufid: put.ufid.unwrap_or_else(|| crate::ufid_of(key.as_bytes())),
        key,
        mask,
        by_ufid: put.ufid.is_some(),
        flags: put.flags,
        actions: put.actions.into(),
    })
}

/// Puts a flow on every worker of `cells`.
pub fn put(cells: &[Arc<Cell>], put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error> {
    let put = Arc::new(decode(put)?);
    if cells.is_empty() {
        return Err(Errno::EINVAL.into());
    }
    // What cannot be done is refused before any worker has it.
    Program::compile(&put.actions)?;
    let mut stats: Option<FlowStats> = None;
    let mut failed = None;
    for cell in cells {
        let put = Arc::clone(&put);
        match cell.call(move |worker| put_on(&mut worker.flows, &put))? {
            Ok(Some(old)) => stats = Some(sum(stats.unwrap_or_default(), old)),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(stats), Err)
}

fn put_on(flows: &mut super::flows::Flows, put: &Put) -> Result<Option<FlowStats>, Error> {
    let known = if put.by_ufid { flows.by_ufid(&put.ufid).cloned() } else { flows.by_key(&put.key) };
    if put.flags.contains(PutFlags::CREATE) {
        if known.is_some() {
            return Err(Errno::EEXIST.into());
        }
        let actions = Arc::clone(&put.actions);
        flows.insert(New { ufid: put.ufid, key: &put.key, mask: &put.mask, actions })?;
        log::flow_change("flow_add", &put.key, &put.mask, &put.actions);
        return Ok(None);
    }
    let known = known.ok_or(Errno::ENOENT)?;
    if !put.flags.contains(PutFlags::MODIFY) {
        return Err(Errno::EEXIST.into());
    }
    if !put.by_ufid && known.key.expand() != put.key {
        return Err(Errno::EINVAL.into());
    }
    let stats = flows.modify(&known.ufid, Arc::clone(&put.actions), put.flags)?;
    log::flow_change("flow_mod", &put.key, &put.mask, &put.actions);
    Ok(Some(stats))
}

fn sum(a: FlowStats, b: FlowStats) -> FlowStats {
    FlowStats {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        used: a.used.max(b.used),
        tcp_flags: a.tcp_flags | b.tcp_flags,
    }
}

/// The UFID that a request means.
fn named(ufid: Option<Ufid>, key: &RawKey) -> Result<Ufid, Error> {
    match ufid {
        Some(ufid) => Ok(ufid),
        None => Ok(crate::ufid_of(decode_key(key)?.as_bytes())),
    }
}

/// Removes a flow from every worker of `cells`; its statistics added up.
pub fn del(cells: &[Arc<Cell>], del: &FlowDel<'_>) -> Result<FlowStats, Error> {
    let ufid = named(del.ufid, del.key)?;
    let mut stats: Option<FlowStats> = None;
    for cell in cells {
        if let Some(flow) = cell.call(move |worker| worker.flows.remove(&ufid))? {
            stats = Some(sum(stats.unwrap_or_default(), flow.stats()));
        }
    }
    stats.ok_or_else(|| Errno::ENOENT.into())
}

/// Looks a flow up, on the first worker that has it; its statistics are those of all.
pub fn get(cells: &[Arc<Cell>], get: &FlowGet<'_>) -> Result<Flow, Error> {
    let ufid = named(get.ufid, get.key)?;
    let mut found: Option<Flow> = None;
    for cell in cells {
        let Some(flow) = cell.flows.pin().get(&ufid).map(Arc::clone) else { continue };
        match &mut found {
            Some(found) => found.stats = sum(found.stats, flow.stats()),
            None => found = Some(describe(&flow, false)),
        }
    }
    found.ok_or_else(|| Errno::ENOENT.into())
}

/// A flow as requests tell of it.
fn describe(flow: &Megaflow, terse: bool) -> Flow {
    let mut described = Flow {
        ufid: flow.ufid,
        ufid_present: true,
        key: RawKey::default(),
        mask: RawMask::default(),
        actions: Arc::from([]),
        stats: flow.stats(),
        attrs: FlowAttrs { extra: extra(flow), ..FlowAttrs::default() },
        pmd: flow.pmd,
    };
    if !terse {
        let (key, mask) = (flow.key.expand(), Mask(flow.mask.expand()));
        let params = flow::odp::Params { mask: Some(&mask), ..log::params(&key) };
        described.key = key_from_flow(&params);
        described.mask = mask_from_flow(&params, &mask);
        described.actions = flow.actions();
    }
    described
}

/// How many words each part of the mask has, the input port aside.
fn extra(flow: &Megaflow) -> String {
    let mut mask = flow.mask.expand();
    mask.in_port = 0;
    let words = mask.words();
    let counts: Vec<String> =
        words.chunks(64).map(|part| part.iter().filter(|&&word| word != 0).count().to_string()).collect();
    format!("miniflow_bits({})", counts.join(","))
}

/// A walk over the flows of all workers, as they were when it began.
pub struct Walk {
    flows: std::vec::IntoIter<Arc<Megaflow>>,
    terse: bool,
    clock: Arc<dyn Clock>,
    name: String,
}

impl Walk {
    /// `name` is the datapath's, for messages.
    pub fn new(cells: &[Arc<Cell>], terse: bool, clock: &Arc<dyn Clock>, name: String) -> Self {
        let mut flows: Vec<Arc<Megaflow>> = Vec::new();
        for cell in cells {
            let first = flows.len();
            flows.extend(cell.flows.pin().values().map(Arc::clone));
            flows[first..].sort_unstable_by_key(|flow| flow.serial);
        }
        Self { flows: flows.into_iter(), terse, clock: Arc::clone(clock), name }
    }
}

impl Dump for Walk {
    fn next(&mut self, max: usize, to: &mut Vec<Flow>) -> Result<bool, Error> {
        let (terse, before) = (self.terse, to.len());
        to.extend(self.flows.by_ref().take(max).map(|flow| describe(&flow, terse)));
        log::dumped(&self.name, &to[before..], self.clock.now());
        Ok(self.flows.len() > 0)
    }
}

/// Runs actions on a packet, on the main thread's worker: now, or when whoever uses it lets go.
pub fn execute(main: &Cell, execute: &Execute<'_>) -> Result<(), Error> {
    let program = Program::compile(execute.actions)?;
    let mut meta = Meta::from_key(execute.key);
    meta.hash = execute.hash as u32;
    let injected = Injected { packet: execute.packet.to_vec(), meta, program };
    main.post(Box::new(move |worker| worker.inject(injected)))
}
