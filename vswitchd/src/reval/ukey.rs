//! What is kept of a datapath flow ([`Ukey`]), and where ([`Ukeys`]).
//!
//! A handler enters a ukey before it asks the datapath for the flow, so that nobody asks twice; a revalidator enters it when
//! it meets a flow that nobody of us asked for. What changes of it is behind its own lock, which is held for the time of one
//! decision, never for that of a request to the datapath; who finds it held leaves the flow to whoever holds it. A ukey that
//! left the table is [`Life::Gone`], whoever still has it.
//!
//! Nearly every flow of nearly every pass is as the pass before left it. To find that out takes no lock: who lets go of the lock
//! leaves in a row of the `Ledger` as of when the flow is right and how many packets were counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use datapath::PmdId;
use datapath::flow::FlowStats;
use flow::action::Action;
use flow::id::Ufid;
use flow::mini::Midi;
use flow::odp::{RawKey, RawMask};
use flow::time::Instant;

use super::ledger::{Ledger, Place, UNSURE};
use crate::ofproto::Rule;
use crate::xlate::{Effect, Effects, RecircRef};

/// Parts of the table that have a lock each.
const SHARDS: usize = 64;

/// What a translation leaves that a flow keeps.
#[derive(Clone, Default)]
pub struct Kept {
    pub effects: Effects,
    pub recircs: Vec<RecircRef>,
    /// Whether it depends on more of the tables than what lookups found.
    pub counts_rules: bool,
}

impl Kept {
    pub fn new(effects: Effects, recircs: Vec<RecircRef>, counts_rules: bool) -> Self {
        Self { effects, recircs, counts_rules }
    }

    /// Puts a rule in the place of one that was met and does the same.
    pub fn inherit(&mut self, place: usize, heir: &Arc<Rule>) {
        let mut effects = self.effects.iter_mut().skip(place);
        let Some(Effect::Met { rule: met, .. }) = effects.next() else { return };
        let old = std::mem::replace(met, Arc::clone(heir));
        for effect in effects {
            if let Effect::FinTimeout { rule, .. } = effect
                && Arc::ptr_eq(rule, &old)
            {
                *rule = Arc::clone(heir);
            }
        }
    }

    /// Whether two translations leave the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.recircs == other.recircs
            && self.counts_rules == other.counts_rules
            && self.effects.len() == other.effects.len()
            && self.effects.iter().zip(&other.effects).all(|(a, b)| a.is_same(b))
    }
}

/// How a ukey stands to the datapath's flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// The datapath was asked for the flow, or will be.
    Asked,
    /// The datapath has the flow.
    Live,
    /// The datapath refused a change: the flow is not what it should be, and has to go.
    Wrong,
    /// The flow is gone, or as good as gone.
    Gone,
}

/// A flow that translation installed, or took over.
pub struct Ukey {
    pub ufid: Ufid,
    /// Whether the datapath knows the flow by its identifier.
    pub has_ufid: bool,
    pub pmd: PmdId,
    pub raw: RawKey,
    pub key: Midi,
    /// Keeps what the flow's own recirculation id stands for.
    _recirc: Option<RecircRef>,
    pub created: Instant,
    /// Its row, once a pass has seen it.
    place: OnceLock<Place<Self>>,
    state: Mutex<State>,
}

/// The state of a ukey, locked.
pub struct Held<'a> {
    place: &'a OnceLock<Place<Ukey>>,
    state: MutexGuard<'a, State>,
}

impl Deref for Held<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.get() else { return };
        let State { life, missed, layer, seq, stats, .. } = &*self.state;
        let usual = *life == Life::Live && *missed == 0 && *layer == Some(OWN_LAYER);
        place.row().leave(seq.filter(|_| usual).unwrap_or(UNSURE), stats.packets);
    }
}

/// What changes of a ukey.
pub struct State {
    pub life: Life,
    /// Flows that were made one after the other have theirs in common, if those are equal.
    pub mask: Arc<Midi>,
    /// The mask's attributes, where they are known.
    pub raw_mask: Option<RawMask>,
    pub actions: Arc<[Action]>,
    pub kept: Kept,
    /// Whether the packet that made the flow also asked for rules, which were not there yet when it was translated.
    pub teaching: bool,
    /// Where the datapath had the flow (`dp:ovs`, `dp:tc`), once it has shown it.
    pub layer: Option<&'static str>,
    /// Whether a device had all or part of it when it was last shown.
    pub offloaded: bool,
    /// What was counted already.
    pub stats: FlowStats,
    /// The [`crate::backer::Backer::seq`] at which it was last found right; `None` if it never was.
    pub seq: Option<u64>,
    /// Passes since the datapath last showed it, in which it should have.
    pub missed: u32,
}

impl State {
    /// Says that the datapath refused a change. A flow that goes anyway goes as it was to.
    pub fn go_wrong(&mut self) {
        if self.life != Life::Gone {
            self.life = Life::Wrong;
        }
    }
}

/// Where flows are that no offload took over.
pub const OWN_LAYER: &str = "ovs";

/// What a ukey is made of.
pub struct New {
    pub ufid: Ufid,
    pub has_ufid: bool,
    pub pmd: PmdId,
    pub raw: RawKey,
    pub raw_mask: Option<RawMask>,
    pub key: Midi,
    pub recirc: Option<RecircRef>,
    pub mask: Arc<Midi>,
    pub actions: Arc<[Action]>,
    pub kept: Kept,
    pub seq: Option<u64>,
    pub created: Instant,
}

impl Ukey {
    /// A flow that the datapath was not asked for yet.
    pub fn new(new: New) -> Arc<Self> {
        let New { ufid, has_ufid, pmd, raw, raw_mask, key, recirc, mask, actions, kept, seq, created } = new;
        let teaching = kept.effects.iter().any(|effect| matches!(effect, Effect::Learn { .. }));
        let (stats, missed, life) = (FlowStats::default(), 0, Life::Asked);
        let (layer, offloaded) = (None, false);
        let state =
            State { life, mask, raw_mask, actions, kept, teaching, layer, offloaded, stats, seq, missed };
        Arc::new(Self {
            ufid,
            has_ufid,
            pmd,
            raw,
            key,
            _recirc: recirc,
            created,
            place: OnceLock::new(),
            state: Mutex::new(state),
        })
    }

    fn name(&self) -> Name {
        Name(self.ufid, self.pmd)
    }

    fn held<'a>(&'a self, state: MutexGuard<'a, State>) -> Held<'a> {
        Held { place: &self.place, state }
    }

    /// Locks what changes.
    pub fn state(&self) -> Held<'_> {
        self.held(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks what changes, unless somebody has it locked.
    pub fn try_state(&self) -> Option<Held<'_>> {
        match self.state.try_lock() {
            Ok(state) => Some(self.held(state)),
            Err(TryLockError::Poisoned(state)) => Some(self.held(state.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Its row, if a pass has seen it.
    pub fn place(&self) -> Option<&Place<Self>> {
        self.place.get()
    }

    /// Says that a pass saw it, for who has its lock: what its row is sure of is left there when he lets go.
    pub fn see(self: &Arc<Self>, ledger: &Ledger<Self>, pass: u64) {
        let place = || ledger.place(self.ufid, self.pmd, self.created, self);
        self.place.get_or_init(place).row().see(pass);
    }

    /// Says that it is not in the table any more.
    fn lose_place(&self) {
        if let Some(place) = self.place.get() {
            place.leave();
        }
    }

    /// The pass in which the datapath last showed it; 0 for none.
    pub fn seen(&self) -> u64 {
        self.place.get().map_or(0, |place| place.row().seen())
    }

    /// Whether the flow is right as of `seq` and in the datapath. It may be so without this saying so.
    pub fn is_sure(&self, seq: u64) -> bool {
        self.place.get().is_some_and(|place| place.row().is_sure(seq))
    }
}

/// What a ukey is known by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name(Ufid, PmdId);

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self(Ufid(ufid), pmd) = self;
        for half in ufid.as_chunks().0 {
            state.write_u64(u64::from_ne_bytes(*half));
        }
        pmd.hash(state);
    }
}

/// Mixes names with a number that nobody outside can know. A name is a hash already: one product a word is enough.
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[derive(Clone, Copy)]
struct BuildNameHasher(u64);

impl BuildHasher for BuildNameHasher {
    type Hasher = NameHasher;

    fn build_hasher(&self) -> NameHasher {
        NameHasher(self.0)
    }
}

/// A part of all ukeys, with a lock of its own.
type Shard = HashMap<Name, Arc<Ukey>, BuildNameHasher>;

/// All ukeys of a datapath.
pub struct Ukeys {
    shards: Box<[Mutex<Shard>]>,
    count: AtomicUsize,
    pub ledger: Ledger<Ukey>,
}

impl Default for Ukeys {
    fn default() -> Self {
        let hasher = BuildNameHasher(RandomState::new().hash_one(()));
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher))).collect(),
            count: AtomicUsize::new(0),
            ledger: Ledger::default(),
        }
    }
}

impl Ukeys {
    fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, name: Name) -> MutexGuard<'_, Shard> {
        // Names are hashes: who could choose this number would gain no more than that others wait for a lock.
        let Name(Ufid(ufid), _) = name;
        Self::lock(&self.shards[usize::from(ufid[3]) % SHARDS])
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The ukey of a flow.
    pub fn find(&self, ufid: Ufid, pmd: PmdId) -> Option<Arc<Ukey>> {
        let name = Name(ufid, pmd);
        self.shard(name).get(&name).cloned()
    }

    /// Enters a ukey; `replace` says whether it may take the place of one that is there. Gives the one that has the place.
    pub fn enter(
        &self,
        ukey: Arc<Ukey>,
        replace: impl FnOnce(&Ukey) -> bool,
    ) -> Result<Arc<Ukey>, Arc<Ukey>> {
        match self.shard(ukey.name()).entry(ukey.name()) {
            Entry::Vacant(place) => {
                place.insert(Arc::clone(&ukey));
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            Entry::Occupied(mut place) => {
                if !replace(place.get()) {
                    return Err(Arc::clone(place.get()));
                }
                place.insert(Arc::clone(&ukey)).lose_place();
            }
        }
        Ok(ukey)
    }

    /// Lets a ukey go, if it still has its place.
    pub fn remove(&self, ukey: &Arc<Ukey>) {
        let mut shard = self.shard(ukey.name());
        if let Entry::Occupied(place) = shard.entry(ukey.name())
            && Arc::ptr_eq(place.get(), ukey)
        {
            place.remove().lose_place();
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Those ukeys of one part of `of` parts of the table that `wanted` says, shard by shard.
    pub fn part<'a>(
        &'a self,
        part: usize,
        of: usize,
        wanted: impl Fn(&Ukey) -> bool + 'a,
    ) -> impl Iterator<Item = Vec<Arc<Ukey>>> + 'a {
        let shards = self.shards.iter().skip(part).step_by(of.max(1));
        shards.map(move |shard| Self::lock(shard).values().filter(|ukey| wanted(ukey)).cloned().collect())
    }

    /// How many ukeys one part of `of` parts of the table has.
    pub fn len_of_part(&self, part: usize, of: usize) -> usize {
        self.shards.iter().skip(part).step_by(of.max(1)).map(|shard| Self::lock(shard).len()).sum()
    }
}
