//! Freezing: a translation stops midway, and goes on when the packet comes back from the datapath.
//!
//! What is to be done then, and what the packet does not carry itself (registers, stack, action set, …), is kept under a
//! recirculation id. Equal states have equal ids, so that equal ways through the tables have equal datapath flows. An id
//! lives as long as a datapath flow or a packet may name it, and a moment longer.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flow::action::Action;
use flow::field::{Field, Value};
use flow::id::{OfPort, RecircId, TableId};
use flow::key::{Key, REGS, Tunnel};
use flow::time::Instant;
use openflow::action::OfAction;
use zerocopy::IntoBytes;

use super::ctx::Ctx;
use super::snapshot::BridgeId;

/// How long an id stays after its last user went.
const LINGER: Duration = Duration::from_secs(1);

/// The metadata of a packet that datapaths do not carry.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata {
    pub tunnel: Tunnel,
    pub metadata: u64,
    pub regs: [u32; REGS],
    pub in_port: OfPort,
}

impl Metadata {
    /// That of a key.
    pub fn of(key: &Key) -> Self {
        Self {
            tunnel: key.tunnel,
            metadata: key.metadata.get(),
            regs: key.regs,
            in_port: OfPort(key.in_port as u16),
        }
    }

    /// Gives it to a key.
    pub fn restore(&self, key: &mut Key) {
        key.tunnel = self.tunnel;
        key.metadata = self.metadata.into();
        key.regs = self.regs;
        key.in_port = self.in_port.0.into();
    }
}

impl Hash for Metadata {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.metadata, self.regs, self.in_port, self.tunnel.as_bytes()).hash(state);
    }
}

/// A frozen translation.
#[derive(Clone, PartialEq)]
pub struct Frozen {
    /// The bridge in which it goes on.
    pub bridge: BridgeId,
    /// The table in which it goes on, if there are no actions to go on with.
    pub table: TableId,
    /// The port by which the packet came in first.
    pub port: Option<(BridgeId, OfPort)>,
    pub stack: Vec<Value>,
    pub mirrors: u32,
    pub conntracked: bool,
    pub was_mpls: bool,
    pub actions: Vec<OfAction>,
    pub action_set: Vec<OfAction>,
    pub metadata: Metadata,
    /// What a controller gets with the packet.
    pub userdata: Vec<u8>,
}

impl Frozen {
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.bridge, self.table, self.port, self.mirrors, &self.stack, &self.metadata).hash(&mut hasher);
        (self.actions.len(), self.action_set.len(), &self.userdata).hash(&mut hasher);
        hasher.finish()
    }
}

struct Node {
    id: RecircId,
    frozen: Arc<Frozen>,
    fingerprint: u64,
}

/// A user of a recirculation id: while there is one, the id is valid.
#[derive(Clone)]
pub struct RecircRef(Arc<Node>);

impl RecircRef {
    /// The id.
    pub fn id(&self) -> RecircId {
        self.0.id
    }

    /// What it stands for.
    pub fn frozen(&self) -> &Arc<Frozen> {
        &self.0.frozen
    }
}

impl PartialEq for RecircRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

#[derive(Default)]
struct Inner {
    by_id: HashMap<RecircId, (Arc<Node>, Option<Instant>)>,
    by_state: HashMap<u64, Vec<RecircId>>,
    /// Ids that flows of an earlier process use.
    reserved: HashSet<RecircId>,
    last: u32,
}

/// The recirculation ids of a datapath.
#[derive(Default)]
pub struct RecircIds(Mutex<Inner>);

impl RecircIds {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of a state: that of an equal one, or a new one.
    pub fn intern(&self, frozen: Frozen) -> RecircRef {
        let fingerprint = frozen.fingerprint();
        let mut inner = self.lock();
        let same = inner.by_state.get(&fingerprint).into_iter().flatten();
        // An id that nobody uses any more is on its way out.
        let used = same.filter_map(|id| inner.by_id.get(id)).filter(|(node, _)| Arc::strong_count(node) > 1);
        let found = used.into_iter().find(|(node, _)| *node.frozen == frozen);
        if let Some((node, _)) = found {
            return RecircRef(Arc::clone(node));
        }
        loop {
            inner.last = inner.last.wrapping_add(1);
            let id = RecircId(inner.last);
            if id.0 == 0 || inner.by_id.contains_key(&id) || inner.reserved.contains(&id) {
                continue;
            }
            let node = Arc::new(Node { id, frozen: Arc::new(frozen), fingerprint });
            inner.by_id.insert(id, (Arc::clone(&node), None));
            inner.by_state.entry(fingerprint).or_default().push(id);
            return RecircRef(node);
        }
    }

    /// What an id stands for.
    pub fn find(&self, id: RecircId) -> Option<Arc<Frozen>> {
        Some(self.find_ref(id)?.0.frozen.clone())
    }

    /// A user of an id that is valid.
    pub fn find_ref(&self, id: RecircId) -> Option<RecircRef> {
        if id.0 == 0 {
            return None;
        }
        self.lock().by_id.get(&id).map(|(node, _)| RecircRef(Arc::clone(node)))
    }

    /// Forgets ids that nobody has used for a while. Call it now and then.
    pub fn run(&self, now: Instant) {
        let mut inner = self.lock();
        let mut gone = Vec::new();
        for (node, idle_since) in inner.by_id.values_mut() {
            let idle = Arc::strong_count(node) == 1;
            match idle_since {
                _ if !idle => *idle_since = None,
                None => *idle_since = Some(now),
                Some(since) if now.since(*since) >= LINGER => gone.push((node.id, node.fingerprint)),
                Some(_) => {}
            }
        }
        for (id, fingerprint) in gone {
            inner.by_id.remove(&id);
            let emptied = inner.by_state.get_mut(&fingerprint).is_some_and(|ids| {
                ids.retain(|other| *other != id);
                ids.is_empty()
            });
            if emptied {
                inner.by_state.remove(&fingerprint);
            }
        }
    }

    /// Keeps an id from being given out: a flow that an earlier process left uses it.
    pub fn reserve(&self, id: RecircId) {
        if id.0 != 0 {
            self.lock().reserved.insert(id);
        }
    }

    /// Whether an id is kept from being given out.
    pub fn is_reserved(&self, id: RecircId) -> bool {
        id.0 != 0 && self.lock().reserved.contains(&id)
    }

    /// Lets all reserved ids be given out.
    pub fn release_reserved(&self) {
        self.lock().reserved = HashSet::new();
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether a field is kept with a frozen translation.
pub(super) fn is_kept(field: Field) -> bool {
    (Field::TunId..=Field::InPortOxm).contains(&field) || (Field::Reg0..Field::EthSrc).contains(&field)
}

impl Ctx<'_> {
    /// Stops translation, to go on after recirculation.
    pub(super) fn trigger_freeze(&mut self) {
        (self.exit, self.freezing) = (true, true);
    }

    /// The state in which translation is, to go on with `actions` or else in `table`.
    pub(super) fn frozen(
        &self,
        table: TableId,
        actions: Vec<OfAction>,
        action_set: Vec<OfAction>,
        userdata: &[u8],
    ) -> Frozen {
        Frozen {
            bridge: self.bridge.id,
            table,
            port: None,
            stack: self.stack.clone(),
            mirrors: self.mirrors,
            conntracked: self.conntracked,
            was_mpls: self.was_mpls,
            actions,
            action_set,
            metadata: Metadata::of(self.key),
            userdata: userdata.to_vec(),
        }
    }

    /// Makes what is frozen a recirculation, with all that was changed before it.
    pub(super) fn finish_freezing(&mut self) {
        self.commit();
        self.recirculate(TableId(0));
    }

    /// Recirculates the packet, or lets a controller do so; gives the id of where it goes on.
    pub(super) fn recirculate(&mut self, table: TableId) -> Option<RecircId> {
        let pause = self.pause.take();
        let userdata = pause.as_ref().map(|pause| pause.userdata.clone()).unwrap_or_default();
        let actions = std::mem::take(&mut self.frozen_actions);
        // It has the registers.
        self.wc.unite();
        let mut frozen = self.frozen(table, actions, self.action_set.clone(), &userdata);
        frozen.port = self.port;
        let recirc = self.input.recirc.intern(frozen);
        let id = recirc.id();
        self.recircs.push(recirc);
        if let Some(pause) = pause {
            if self.input.side_effects || self.input.caching {
                self.put_controller(false, true, id, pause.max_len, pause.reason, pause.meter, pause.id);
            }
        } else {
            if let Some((alg, basis)) = self.rehash {
                self.odp.push(Action::Hash { alg, basis });
            }
            self.odp.push(Action::Recirc(id));
        }
        (self.freezing, self.rehash, self.unrolled) = (false, None, None);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(table: u8) -> Frozen {
        Frozen {
            bridge: BridgeId::default(),
            table: TableId(table),
            port: None,
            stack: Vec::new(),
            mirrors: 0,
            conntracked: false,
            was_mpls: false,
            actions: Vec::new(),
            action_set: Vec::new(),
            metadata: Metadata::of(&Key::default()),
            userdata: Vec::new(),
        }
    }

    #[test]
    fn equal_states_share_an_id_that_lingers() {
        let ids = RecircIds::default();
        let (a, b) = (ids.intern(state(1)), ids.intern(state(2)));
        assert_eq!((a.id(), b.id(), ids.intern(state(1)).id()), (RecircId(1), RecircId(2), RecircId(1)));
        drop(a);
        assert_eq!(ids.intern(state(1)).id(), RecircId(3));
        let at = Instant::from_millis;
        ids.run(at(0));
        ids.run(at(999));
        assert!(ids.find(RecircId(1)).is_some());
        ids.run(at(1000));
        assert!(ids.find(RecircId(1)).is_none());
        assert_eq!(ids.intern(state(1)).id(), RecircId(4));
        assert!(ids.find(RecircId(2)).is_some());
    }
}
