//! What becomes of one flow: decisions of a pass, and the requests to the datapath that follow from them.

use std::sync::Arc;
use std::time::Duration;

use datapath::flow::{FlowDel, FlowPut, FlowStats, Op, OpDone, OpResult, PutFlags};
use flow::action::Action;
use flow::id::DpPort;
use flow::key::{Key, Mask};
use flow::mini::Midi;
use flow::odp::{self, Masks, OdpSupport, Params, RawKey, RawMask, Shape};
use flow::time::Instant;

use super::Flows;
use super::classes::{Again, Classes, Decided};
use super::news::{Concern, Heirs, News};
use super::ukey::{Kept, Life, State, Ukey};
use crate::backer::Backer;
use crate::ofproto::Tables;
use crate::upcall::slow_path;
use crate::xlate::{Effect, Output, Past, Room, Snapshot, Stats};

/// Packet counts above this may have wrapped round when they are smaller the next time.
const MAY_WRAP: u64 = u64::MAX / 4 * 3;

/// What becomes of a flow.
pub(super) enum Verdict<'a> {
    Keep,
    /// Right as it is, but these rules are met.
    Inherit(Heirs<'a>),
    /// With other actions, if there are any here.
    Change(Option<Arc<[Action]>>, Renewed),
    /// Put in again, with a mask that sees more.
    Replace(Box<Mask>, Arc<[Action]>, Renewed),
    Delete,
}

/// What a flow keeps of its new translation.
#[derive(Clone)]
pub(super) struct Renewed {
    /// So many effects stay, from the first on.
    same: usize,
    /// What is not as it was.
    other: Kept,
}

impl Renewed {
    /// Whether what is not as it was holds something of the flow's own packet, or asked for more than rules that packets meet.
    pub fn is_of_packet(&self) -> bool {
        self.other.counts_rules || self.other.effects.iter().any(Effect::is_of_packet)
    }

    /// Whether nothing changes.
    fn is_same(&self, kept: &Kept) -> bool {
        let Self { same, other } = self;
        *same == kept.effects.len()
            && other.effects.is_empty()
            && other.recircs == kept.recircs
            && other.counts_rules == kept.counts_rules
    }

    pub fn renew(self, kept: &mut Kept) {
        kept.effects.truncate(self.same);
        for effect in self.other.effects {
            kept.effects.push(effect);
        }
        (kept.recircs, kept.counts_rules) = (self.other.recircs, self.other.counts_rules);
    }
}

/// A pass's circumstances.
pub(super) struct Look<'a> {
    pub backer: &'a Backer,
    pub snapshot: &'a Snapshot,
    pub seq: u64,
    pub news: &'a News,
    /// The pass's number.
    pub pass: u64,
    pub now: Instant,
    /// Nanoseconds that flows live without packets.
    pub max_idle: u64,
    pub kill_all: bool,
    /// Flows whose packets are further apart than this go rather than being translated again, for passes are slow.
    pub sparse: Option<Duration>,
    /// How late devices may tell of packets (`offloaded-stats-delay`).
    pub late: Duration,
}

/// A request to the datapath that a decision led to.
enum Request {
    Delete,
    Modify,
    /// The flow is deleted and made anew, wider than before.
    Replace,
}

/// Requests that go to the datapath together, and what those of one pass share.
#[derive(Default)]
pub(super) struct Batch {
    pending: Vec<Pending>,
    masks: Masks<Midi>,
    /// The actions that were put last.
    actions: Arc<[Action]>,
    /// For translations.
    room: Room,
    classes: Classes,
}

struct Pending {
    ukey: Arc<Ukey>,
    request: Request,
    mask: Option<RawMask>,
    actions: Arc<[Action]>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Has the flow deleted.
    pub fn delete(&mut self, ukey: &Arc<Ukey>, state: &mut State) {
        state.life = Life::Gone;
        let actions = Arc::default();
        self.pending.push(Pending { ukey: Arc::clone(ukey), request: Request::Delete, mask: None, actions });
    }

    /// Has the flow changed to what `state` says, but for `actions`, which it is to have.
    fn put(
        &mut self,
        look: &Look<'_>,
        ukey: &Arc<Ukey>,
        state: &mut State,
        actions: Arc<[Action]>,
        request: Request,
    ) {
        // Many flows do the same: each of them with a list of its own would fill memory.
        if !Arc::ptr_eq(&self.actions, &actions) && *self.actions != *actions {
            self.actions = actions;
        }
        state.actions = Arc::clone(&self.actions);
        let mask = state.raw_mask.get_or_insert_with(|| {
            let shape = Shape::of_stored(&ukey.key, usize::from(look.snapshot.vlan_limit));
            let make = || raw_mask(look.snapshot, &ukey.key.expand(), &Mask(state.mask.expand()));
            self.masks.find(&shape, &state.mask, make)
        });
        let (ukey, mask, actions) = (Arc::clone(ukey), Some(mask.clone()), Arc::clone(&self.actions));
        self.pending.push(Pending { ukey, request, mask, actions });
    }

    /// Sends the requests, and deals with what comes of them.
    pub fn send(&mut self, look: &Look<'_>, flows: &Flows) {
        let terse = look.backer.ufid();
        let mut ops = Vec::with_capacity(self.pending.len());
        for pending in &self.pending {
            let ukey = &*pending.ukey;
            let ufid = ukey.has_ufid.then_some(ukey.ufid);
            if !matches!(pending.request, Request::Modify) {
                ops.push(Op::Del(FlowDel { key: &ukey.raw, ufid, pmd: ukey.pmd, terse }));
            }
            if let Some(mask) = &pending.mask {
                let flags = match pending.request {
                    Request::Modify => PutFlags::MODIFY,
                    _ => PutFlags::CREATE,
                };
                let actions = &*pending.actions;
                let put = FlowPut { flags, key: &ukey.raw, mask: Some(mask), ufid, pmd: ukey.pmd, actions };
                ops.push(Op::Put(put));
            }
        }
        if ops.is_empty() {
            return;
        }
        let mut results = look.backer.datapath.operate(&ops).into_iter();
        drop(ops);
        for pending in self.pending.drain(..) {
            pending.done(look, flows, &mut results);
        }
    }
}

impl Pending {
    fn done(self, look: &Look<'_>, flows: &Flows, results: &mut impl Iterator<Item = OpResult>) {
        let Self { ukey, request, .. } = self;
        let first = results.next();
        if matches!(request, Request::Modify) {
            // Mostly it is done, and nothing is left to do.
            if let Some(Err(error)) = first {
                tracing::debug!(
                    target: "ofproto_dpif_upcall", "failed to modify flow {}: {error}", ukey.ufid
                );
                ukey.state().go_wrong();
            }
            return;
        }
        let mut state = ukey.state();
        match first {
            Some(Ok(OpDone::Del(stats))) => look.push(flows, &ukey, &mut state, stats),
            Some(Err(error)) => tracing::debug!(
                target: "ofproto_dpif_upcall", "failed to delete flow {}: {error}", ukey.ufid
            ),
            _ => {}
        }
        if matches!(request, Request::Replace) {
            match results.next() {
                Some(Err(_)) => state.life = Life::Gone,
                _ => state.stats = FlowStats::default(),
            }
        }
        if state.life == Life::Gone {
            drop(state);
            flows.ukeys.remove(&ukey);
        }
    }
}

impl Look<'_> {
    /// Decides about a flow with these statistics, counts its packets, and notes what to ask of the datapath.
    pub fn decide(
        &self,
        flows: &Flows,
        ukey: &Arc<Ukey>,
        state: &mut State,
        stats: FlowStats,
        batch: &mut Batch,
    ) {
        let must_go = self.must_go(stats.used.unwrap_or(ukey.created));
        let concern = if must_go { Concern::Unknown } else { self.concern(ukey, state) };
        let verdict = match concern {
            _ if must_go => Verdict::Delete,
            Concern::None => Verdict::Keep,
            Concern::Heirs(heirs) => Verdict::Inherit(heirs),
            _ if self.is_sparse(state, &stats) => Verdict::Delete,
            _ => batch.classes.verdict(self, ukey, state, concern, &mut batch.room),
        };
        // Packets so far did what the flow said then.
        self.push(flows, ukey, state, stats);
        self.carry_out(ukey, state, verdict, batch);
    }

    /// What changed for a flow since it was found right.
    pub fn concern(&self, ukey: &Ukey, state: &State) -> Concern<'_> {
        match state.seq {
            Some(seq) if seq == self.seq => Concern::None,
            Some(seq) => self.news.concern(seq, ukey, state),
            None => Concern::Unknown,
        }
    }

    /// Whether a flow goes that was used then, however right it is.
    pub fn must_go(&self, used: Instant) -> bool {
        self.kill_all || self.now.nanos().saturating_sub(used.nanos()) >= self.max_idle
    }

    /// Whether a flow has too few packets to be worth a translation.
    fn is_sparse(&self, state: &State, stats: &FlowStats) -> bool {
        let (Some(least), Some(used)) = (self.sparse, state.stats.used) else { return false };
        let idle = self.now.since(used);
        // Until its device had time to tell of packets, nobody knows that there were none.
        if state.offloaded && idle < self.late {
            return false;
        }
        let packets = stats.packets.saturating_sub(state.stats.packets).max(1);
        idle.as_millis() / u128::from(packets) >= least.as_millis()
    }

    fn carry_out(&self, ukey: &Arc<Ukey>, state: &mut State, verdict: Verdict<'_>, batch: &mut Batch) {
        match verdict {
            Verdict::Keep => {
                state.teaching &= state.seq == Some(self.seq);
                state.seq = Some(self.seq);
            }
            Verdict::Inherit(heirs) => {
                heirs.into_iter().for_each(|(place, heir)| state.kept.inherit(place, heir));
                (state.seq, state.teaching) = (Some(self.seq), false);
            }
            Verdict::Change(actions, kept) => {
                kept.renew(&mut state.kept);
                (state.seq, state.teaching) = (Some(self.seq), false);
                if let Some(actions) = actions {
                    batch.put(self, ukey, state, actions, Request::Modify);
                }
            }
            Verdict::Replace(mask, actions, kept) => {
                (state.mask, state.raw_mask) = (Arc::new(Midi::new(&mask.0)), None);
                batch.put(self, ukey, state, actions, Request::Replace);
                kept.renew(&mut state.kept);
                (state.seq, state.teaching) = (Some(self.seq), false);
            }
            Verdict::Delete => batch.delete(ukey, state),
        }
    }

    /// What translation makes of the flow now, and which bits of its key decided that, if all that decided is told by them.
    pub fn translate_again<'v>(
        &self,
        ukey: &Ukey,
        state: &State,
        again: Again<'_>,
        room: &mut Room,
    ) -> (Verdict<'v>, Option<Decided>) {
        // Keys are long: this one stays where it is made.
        let mut key = Key::default();
        ukey.key.expand_to(&mut key);
        let Ok(origin) = self.backer.origin(self.snapshot, &key) else { return (Verdict::Delete, None) };
        let Again { stands, heir } = again;
        let as_of = |tables: &Arc<Tables>| self.news.version_of(tables);
        let past = Past { effects: &state.kept.effects, stands, heir, as_of: &as_of };
        let translated = |past: &Past<'_>, room: &mut Room| {
            self.backer.translate_again(self.snapshot, origin, &key, past, self.now, room)
        };
        let mut result = translated(&past, room);
        let mut decided = Decided::new(&ukey.key, |word| result.mask.0.words()[word], &result.free);
        let mut covered = state.mask.covers_key(&result.mask.0);
        // What was not looked up again is within the mask, if that is the mask still.
        let unsure = !covered || result.guessed && *result.actions != *state.actions;
        if unsure && result.blind {
            room.put(result.mask, result.actions);
            result = translated(&Past { stands: 0, heir: None, ..past }, room);
            covered = state.mask.covers_key(&result.mask.0);
            decided = decided.and(&Decided::new(&ukey.key, |word| result.mask.0.words()[word], &result.free));
        }
        let mut decided = (covered && !result.alone).then_some(decided);
        let Output { mask, free, mut actions, slow, same, effects, recircs, counts_rules, .. } = result;
        if result.avoid_caching {
            room.put(mask, actions);
            return (Verdict::Delete, None);
        }
        if !slow.is_empty() {
            let (bridge, in_port) = origin;
            actions = slow_path(self.backer, bridge, slow, DpPort(key.in_port), in_port);
        }
        let kept = Renewed { same, other: Kept::new(effects, recircs, counts_rules) };
        // A flow that is too wide now must go, unless it is as it should have been had its own packet's rules been there;
        // one that is too narrow may stay.
        if !covered && !self.covers_significant(state, &key, &mask) {
            let verdict = match state.teaching {
                true => Verdict::Replace(mask, actions.into(), kept),
                false => Verdict::Delete,
            };
            return (verdict, None);
        }
        let other: Option<Arc<[Action]>> = (*actions != *state.actions).then(|| actions.drain(..).collect());
        if other.iter().flat_map(|actions| &**actions).any(follows_mask) {
            let its = Decided::new(&ukey.key, |word| state.mask.get(word), &free);
            decided = decided.map(|decided| decided.and(&its));
        }
        room.put(mask, actions);
        if other.is_none() && kept.is_same(&state.kept) {
            return (Verdict::Keep, decided);
        }
        (Verdict::Change(other, kept), decided)
    }

    /// Whether a flow's mask has every bit of `mask` that a datapath flow can have.
    fn covers_significant(&self, state: &State, key: &Key, mask: &Mask) -> bool {
        let installed = significant(self.snapshot, key, &Mask(state.mask.expand()));
        installed.covers(&significant(self.snapshot, key, mask))
    }

    /// Counts the packets that came since the last time.
    pub fn push(&self, flows: &Flows, ukey: &Ukey, state: &mut State, stats: FlowStats) {
        let before = state.stats;
        if stats.packets < before.packets && before.packets < MAY_WRAP {
            flows.tally(|c| &c.stat_reset, 1);
            tracing::warn!(
                target: "ofproto_dpif_upcall", rl = "1,5",
                "Unexpected jump in packet stats from {} to {} when handling ukey {}",
                before.packets, stats.packets, ukey.ufid
            );
            state.stats = stats;
            return;
        }
        let packets = stats.packets.wrapping_sub(before.packets);
        let bytes = stats.bytes.saturating_sub(before.bytes);
        // When the kernel last used a flow comes out a little different each time it is asked.
        if packets != 0 {
            let used = stats.used.unwrap_or(self.now);
            let tcp_flags = stats.tcp_flags;
            self.backer.apply(&state.kept.effects, &Stats { packets, bytes, used, tcp_flags });
        }
        state.stats = stats;
    }
}

/// Whether which bits an action sets may follow from the mask: packets of which the same was decided may have others in theirs.
fn follows_mask(action: &Action) -> bool {
    use Action::*;
    !matches!(
        action,
        Output(_)
            | Recirc(_)
            | Trunc(_)
            | Drop(_)
            | Meter(_)
            | Userspace(_)
            | Hash { .. }
            | PushVlan(_)
            | PopVlan
    )
}

fn params<'a>(
    snapshot: &Snapshot,
    support: &'a OdpSupport,
    key: &'a Key,
    mask: Option<&'a Mask>,
) -> Params<'a> {
    Params { key, mask, support, vlan_limit: usize::from(snapshot.vlan_limit), packet_type: true }
}

fn support(snapshot: &Snapshot) -> OdpSupport {
    snapshot.features.as_deref().map_or(OdpSupport::ALL, datapath::Features::odp_support)
}

/// A key's attributes as this datapath has them.
pub(crate) fn raw_key(snapshot: &Snapshot, key: &Key, mask: &Mask) -> RawKey {
    odp::key_from_flow(&params(snapshot, &support(snapshot), key, Some(mask)))
}

/// A mask's attributes as this datapath has them.
pub(crate) fn raw_mask(snapshot: &Snapshot, key: &Key, mask: &Mask) -> RawMask {
    odp::mask_from_flow(&params(snapshot, &support(snapshot), key, Some(mask)), mask)
}

/// The bits of a mask that a datapath flow can have: what its attributes carry.
fn significant(snapshot: &Snapshot, key: &Key, mask: &Mask) -> Midi {
    match odp::mask_to_flow(&raw_mask(snapshot, key, mask), key) {
        Ok((mask, _)) => Midi::new(&mask.0),
        Err(_) => Midi::new(&mask.0),
    }
}
