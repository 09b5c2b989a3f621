//! Datapath flows: how they are put, asked for, removed and dumped.

use std::sync::Arc;

use bitflags::bitflags;
use flow::action::Action;
use flow::id::Ufid;
use flow::key::Key;
use flow::odp::{RawKey, RawMask};
use flow::time::Instant;

use crate::{Datapath, Error, PmdId};

bitflags! {
    /// How a put behaves (`enum dpif_flow_put_flags`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PutFlags: u8 {
        /// A flow that is not there is made; without it, `ENOENT`.
        const CREATE = 1;
        /// A flow that is there is changed; without it, `EEXIST`.
        const MODIFY = 2;
        /// A changed flow's statistics begin at zero.
        const ZERO_STATS = 4;
        /// Only to find out what the datapath can do: nothing is logged.
        const PROBE = 8;
    }
}

/// Counters of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FlowStats {
    pub packets: u64,
    pub bytes: u64,
    /// When the flow last matched; `None` for never.
    pub used: Option<Instant>,
    /// All TCP flags that matching packets had (12 bits).
    pub tcp_flags: u16,
}

/// Where a dumped flow really lives (`struct dpif_flow_attrs`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowAttrs {
    /// `offloaded:yes`, `partial`; `None` for not at all.
    pub offloaded: Option<&'static str>,
    /// `dp:ovs`, `dp:tc`.
    pub layer: &'static str,
    /// `dp-extra-info:…`.
    pub extra: String,
    /// Why the flow is where it is, if it could be elsewhere.
    pub why: Option<Box<str>>,
}

impl Default for FlowAttrs {
    fn default() -> Self {
        Self { offloaded: None, layer: "ovs", extra: String::new(), why: None }
    }
}

/// A flow as the datapath tells of it.
#[derive(Clone, Debug)]
pub struct Flow {
    pub ufid: Ufid,
    /// The UFID was given or is known to the datapath, not computed by us after the fact.
    pub ufid_present: bool,
    /// Empty in a terse dump, as are mask and actions.
    pub key: RawKey,
    pub mask: RawMask,
    pub actions: Arc<[Action]>,
    pub stats: FlowStats,
    pub attrs: FlowAttrs,
    /// The worker that owns the flow, or [`PmdId::NONE`].
    pub pmd: PmdId,
}

/// A flow to install or change.
#[derive(Clone, Copy, Debug)]
pub struct FlowPut<'a> {
    pub flags: PutFlags,
    pub key: &'a RawKey,
    /// `None` matches the key exactly.
    pub mask: Option<&'a RawMask>,
    /// `None` lets the datapath compute one from the key.
    pub ufid: Option<Ufid>,
    /// The worker to own the flow; [`PmdId::NONE`] for all that have ports.
    pub pmd: PmdId,
    pub actions: &'a [Action],
}

/// A flow to remove.
#[derive(Clone, Copy, Debug)]
pub struct FlowDel<'a> {
    pub key: &'a RawKey,
    pub ufid: Option<Ufid>,
    pub pmd: PmdId,
    /// The caller has no use for key, mask and actions; statistics it needs.
    pub terse: bool,
}

/// A flow to look up.
#[derive(Clone, Copy, Debug)]
pub struct FlowGet<'a> {
    pub key: &'a RawKey,
    pub ufid: Option<Ufid>,
    pub pmd: PmdId,
}

/// A packet to run actions on.
#[derive(Clone, Copy)]
pub struct Execute<'a> {
    /// The Ethernet frame.
    pub packet: &'a [u8],
    /// What is known of the packet besides its bytes: in_port, tunnel, recirc_id, ct, mark, priority, packet type.
    pub key: &'a Key,
    pub actions: &'a [Action],
    /// Only to find out what the datapath can do: nothing is logged.
    pub probe: bool,
    /// `OVS_PACKET_ATTR_MRU`, 0 for none.
    pub mtu: u16,
    /// `OVS_PACKET_ATTR_HASH`, 0 for none.
    pub hash: u64,
}

/// One operation of a batch.
#[derive(Clone, Copy)]
pub enum Op<'a> {
    Put(FlowPut<'a>),
    Del(FlowDel<'a>),
    Get(FlowGet<'a>),
    Execute(Execute<'a>),
}

/// What one operation of a batch gave.
#[derive(Clone, Debug)]
pub enum OpDone {
    /// Statistics of a flow that was there before.
    Put(Option<FlowStats>),
    Del(FlowStats),
    Get(Box<Flow>),
    Execute,
}

/// The result of one operation of a batch.
pub type OpResult = Result<OpDone, Error>;

/// Name and counters of a flow that is in the datapath itself: all that a terse dump need show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    pub ufid: Ufid,
    pub pmd: PmdId,
    pub stats: FlowStats,
}

impl From<Sighting> for Flow {
    fn from(Sighting { ufid, pmd, stats }: Sighting) -> Self {
        Self {
            ufid,
            ufid_present: true,
            key: RawKey::default(),
            mask: RawMask::default(),
            actions: Arc::default(),
            stats,
            attrs: FlowAttrs::default(),
            pmd,
        }
    }
}

/// A walk over the flows of a datapath. Flows that come or go meanwhile may be seen or not.
pub trait Dump: Send {
    /// Appends about `max` flows to `to`, or what comes at once; returns whether there may be more.
    fn next(&mut self, max: usize, to: &mut Vec<Flow>) -> Result<bool, Error>;

    /// As [`Dump::next`] of a terse dump, but flows of which nothing else is known may come as `sightings`.
    fn sight(
        &mut self,
        max: usize,
        sightings: &mut Vec<Sighting>,
        to: &mut Vec<Flow>,
    ) -> Result<bool, Error> {
        let _ = sightings;
        self.next(max, to)
    }
}

/// Does one operation by the single-operation methods.
pub fn operate_one<D: Datapath + ?Sized>(datapath: &D, op: &Op<'_>) -> OpResult {
    match op {
        Op::Put(put) => datapath.flow_put(put).map(OpDone::Put),
        Op::Del(del) => datapath.flow_del(del).map(OpDone::Del),
        Op::Get(get) => datapath.flow_get(get).map(|flow| OpDone::Get(Box::new(flow))),
        Op::Execute(execute) => datapath.execute(execute).map(|()| OpDone::Execute),
    }
}

/// The UFID of a flow by the attribute bytes of its key: two different 64-bit mixes side by side.
pub fn ufid_of(key: &[u8]) -> Ufid {
    let mut halves = [0x9e37_79b9_7f4a_7c15_u64, 0xc2b2_ae3d_27d4_eb4f];
    let (words, rest) = key.as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    for word in words.iter().chain((!rest.is_empty()).then_some(&last)) {
        let word = u64::from_le_bytes(*word);
        for (half, multiplier) in halves.iter_mut().zip([0xff51_afd7_ed55_8ccd_u64, 0x9fb2_1c65_1e98_df25]) {
            *half = (*half ^ word).wrapping_mul(multiplier).rotate_left(29);
            *half ^= *half >> 31;
        }
    }
    let mut ufid = Ufid::default();
    ufid.0[..8].copy_from_slice(&(halves[0] ^ key.len() as u64).to_be_bytes());
    ufid.0[8..].copy_from_slice(&halves[1].to_be_bytes());
    ufid
}
