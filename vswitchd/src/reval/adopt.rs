//! Flows that were in the datapath before us, or that somebody else put there.
//!
//! Nothing is flushed at start: a flow that a dump shows and that nobody of us asked for is made a [`Ukey`] from its key,
//! mask and actions, and looked at as one that was never found right. What translation makes differently is changed in place,
//! so that packets go on all the time.
//!
//! Flows of recirculated packets are another matter, for what their ids stood for died with the process that gave them out.
//! Such a flow, an *orphan*, is right as long as a flow leads to it that nobody replaced. Once the flows without recirculation
//! were changed to lead to ids of ours, the next pass deletes the orphans to which none of them leads, be it by way of other
//! orphans. The ids are kept from being given out meanwhile ([`Foreign::survey`]).
//!
//! A dump of a datapath that changes may pass over a flow. So what the first one showed counts ([`Heir`]) until a pass has taken
//! the flow over, or several in a row did not show it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datapath::flow::{Flow, FlowGet};
use datapath::{Error, PmdId};
use flow::action::Action;
use flow::id::{RecircId, Ufid};
use flow::key::Key;
use flow::mini::Midi;
use flow::odp;
use flow::time::Instant;
use sys::errno::Errno;

use super::Flows;
use super::look::Look;
use super::pass::{BATCH, MISSED_DUMPS, Pass};
use super::ukey::{Kept, Life, New, Ukey};
use crate::backer::Backer;

/// An orphan goes after this time, whoever leads to it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A flow of an earlier process that was not taken over yet: an orphan, or one without recirculation.
struct Heir {
    /// Its own id; 0 without recirculation.
    id: RecircId,
    /// Ids to which it leads.
    leads_to: Vec<RecircId>,
    /// When a pass first showed it.
    since: Option<Instant>,
    /// The pass that last showed it.
    seen: u64,
    /// Passes since.
    missed: u32,
    /// Nothing leads to it any more.
    released: bool,
}

impl Heir {
    fn new(id: RecircId, leads_to: Vec<RecircId>) -> Self {
        Self { id, leads_to, since: None, seen: 0, missed: 0, released: false }
    }
}

/// What becomes of a flow that nobody of us asked for.
pub(super) enum Adoption {
    /// It is ours now, to be looked at.
    Ours(Arc<Ukey>),
    /// It has to go.
    Doomed(Arc<Ukey>),
    /// It is left alone.
    Left,
}

type Heirs = HashMap<(Ufid, PmdId), Heir>;

/// Flows of an earlier process by name.
#[derive(Default)]
pub(super) struct Foreign(Mutex<Heirs>);

impl Foreign {
    fn lock(&self) -> MutexGuard<'_, Heirs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before anything is translated: keeps ids that the datapath's flows use from being given out.
    pub fn survey(&self, backer: &Backer) {
        let mut dump = backer.datapath.flow_dump(false);
        let (mut shown, mut more) = (Vec::new(), true);
        while more {
            shown.clear();
            more = dump.next(BATCH, &mut shown).unwrap_or_else(|error| {
                tracing::warn!(target: "ofproto_dpif_upcall", rl = "1,5", "dumping flows failed: {error}");
                false
            });
            for flow in &shown {
                let mut ids = Vec::new();
                leads_to(&flow.actions, &mut ids);
                ids.iter().for_each(|id| backer.recirc.reserve(*id));
                let Ok((key, _)) = odp::key_to_flow(&flow.key) else { continue };
                let id = RecircId(key.recirc_id);
                backer.recirc.reserve(id);
                if id.0 != 0 || !ids.is_empty() {
                    self.lock().insert((flow.ufid, flow.pmd), Heir::new(id, ids));
                }
            }
        }
    }

    /// Makes a flow ours, if it can be.
    pub fn adopt(&self, look: &Look<'_>, flows: &Flows, flow: &Flow) -> Adoption {
        let name = (flow.ufid, flow.pmd);
        if let Some(heir) = self.lock().get_mut(&name) {
            heir.seen = look.pass;
            let since = *heir.since.get_or_insert(look.now);
            if heir.id.0 != 0 && !heir.released && look.now.since(since) < PATIENCE {
                return Adoption::Left;
            }
        }
        let full = match whole(look.backer, flow) {
            Ok(full) => full,
            Err(error) => {
                if error.errno() != Errno::ENOENT {
                    unexpected(flow, &error);
                }
                return Adoption::Left;
            }
        };
        let vlan_limit = usize::from(look.snapshot.vlan_limit.max(1));
        let parsed = odp::key_to_flow_limited(&full.key, vlan_limit)
            .and_then(|(key, _)| odp::mask_to_flow(&full.mask, &key).map(|(mask, _)| (key, mask)));
        let (key, mut mask) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                unexpected(flow, &error);
                return self.enter(look, flows, full, &Key::default(), Midi::default(), true);
            }
        };
        // Kernels do not tell of it, and always look at it.
        mask.0.packet_type = u32::MAX.into();
        let id = RecircId(key.recirc_id);
        let known = self.lock().contains_key(&name);
        if id.0 != 0 && !known && look.backer.recirc.find(id).is_none() {
            let mut ids = Vec::new();
            leads_to(&full.actions, &mut ids);
            let heir = Heir { since: Some(look.now), seen: look.pass, ..Heir::new(id, ids) };
            self.lock().insert(name, heir);
            return Adoption::Left;
        }
        let adoption = self.enter(look, flows, full, &key, Midi::new(&mask.0), known && id.0 != 0);
        // Not before it is among the flows whose ways are followed.
        self.lock().remove(&name);
        adoption
    }

    fn enter(
        &self,
        look: &Look<'_>,
        flows: &Flows,
        full: Flow,
        key: &Key,
        mask: Midi,
        doomed: bool,
    ) -> Adoption {
        let new = New {
            ufid: full.ufid,
            has_ufid: full.ufid_present,
            pmd: full.pmd,
            raw: full.key,
            raw_mask: Some(full.mask),
            key: Midi::new(key),
            recirc: look.backer.recirc.find_ref(RecircId(key.recirc_id)),
            mask: Arc::new(mask),
            actions: full.actions,
            kept: Kept::default(),
            seq: None,
            created: look.now,
        };
        match flows.ukeys.enter(Ukey::new(new), |_| false) {
            Ok(ukey) if doomed => Adoption::Doomed(ukey),
            Ok(ukey) => Adoption::Ours(ukey),
            // A handler was quicker.
            Err(_) => Adoption::Left,
        }
    }

    /// After a pass: finds out to which orphans nothing leads any more.
    pub fn finish(&self, backer: &Backer, pass: &Pass) {
        let mut heirs = self.lock();
        if !pass.is_complete() {
            return;
        }
        heirs.retain(|_, heir| {
            heir.missed = if heir.seen == pass.number { 0 } else { heir.missed + 1 };
            heir.missed < MISSED_DUMPS
        });
        if heirs.is_empty() {
            return backer.recirc.release_reserved();
        }
        let mut ways: HashMap<RecircId, Vec<RecircId>> = HashMap::new();
        for heir in heirs.values() {
            ways.entry(heir.id).or_default().extend(&heir.leads_to);
        }
        let mut reached = HashSet::new();
        // From flows without recirculation.
        let mut ids = vec![RecircId(0)];
        for ukey in backer.flows.ukeys.part(0, 1, |_| true).flatten() {
            let state = ukey.state();
            match state.life {
                Life::Gone => {}
                // What the datapath does with its packets is not known.
                Life::Wrong => return,
                Life::Asked | Life::Live => leads_to(&state.actions, &mut ids),
            }
        }
        while let Some(id) = ids.pop() {
            if reached.insert(id) {
                ids.extend(ways.get(&id).into_iter().flatten());
            }
        }
        for heir in heirs.values_mut() {
            heir.released = !reached.contains(&heir.id);
        }
    }
}

/// A flow with all its parts.
fn whole(backer: &Backer, flow: &Flow) -> Result<Flow, Error> {
    if !flow.key.0.is_empty() {
        return Ok(flow.clone());
    }
    let ufid = flow.ufid_present.then_some(flow.ufid);
    backer.datapath.flow_get(&FlowGet { key: &flow.key, ufid, pmd: flow.pmd })
}

fn unexpected(flow: &Flow, why: &dyn std::fmt::Display) {
    tracing::warn!(
        target: "ofproto_dpif_upcall", rl = "10,60",
        "Failed to acquire udpif_key corresponding to unexpected flow ({why}): ufid:{}", flow.ufid
    );
}

/// The recirculation ids that actions name, however deep.
fn leads_to(actions: &[Action], ids: &mut Vec<RecircId>) {
    for action in actions {
        match action {
            Action::Recirc(id) => ids.push(*id),
            Action::Clone(actions) | Action::Sample { actions, .. } => leads_to(actions, ids),
            Action::CheckPktLen { greater, less_equal, .. } => {
                leads_to(greater, ids);
                leads_to(less_equal, ids);
            }
            _ => {}
        }
    }
}
