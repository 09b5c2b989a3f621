//! The megaflows of one worker: slots with generations, found by key and by UFID.
//!
//! Only the worker changes them. Everybody may read a flow's counters and, by [`Published`], list the flows: the counters have
//! one writer and are loaded and stored, never exchanged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use flow::action::Action;
use flow::id::Ufid;
use flow::key::{Key, Mask};
use flow::mini::Mini;
use flow::time::Instant;
use sys::cpu;
use sys::errno::Errno;

use super::classifier::{Classifier, MAX_EXACT};
use super::program::Program;
use crate::conntrack::watch::Watching;
use crate::flow::{FlowStats, PutFlags};
use crate::{Error, PmdId};

/// Flows of one worker.
pub const MAX_FLOWS: usize = 1 << 21;

/// A flow as caches remember it; stale when the slot's generation has moved on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FlowRef {
    pub slot: u32,
    /// 0 is never that of a flow.
    pub generation: u32,
}

/// A flow.
pub struct Megaflow {
    pub ufid: Ufid,
    pub pmd: PmdId,
    /// Counts up with each flow of the worker; dumps go by it, the oldest first.
    pub serial: u64,
    /// The whole key of the packet, or put, that made the flow.
    pub key: Mini,
    pub mask: Mini,
    actions: Mutex<Arc<[Action]>>,
    packets: AtomicU64,
    bytes: AtomicU64,
    /// Nanoseconds; 0 for never.
    used: AtomicU64,
    tcp_flags: AtomicU16,
    /// Counts changes of the actions; the end is one.
    version: AtomicU32,
    watched: AtomicBool,
}

impl Megaflow {
    /// How often the actions changed, from now on with a word to who watches connections.
    pub fn watch(&self) -> u32 {
        self.watched.store(true, Ordering::Release);
        self.version()
    }

    /// How often the actions changed.
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    fn changes(&self, watching: &Watching) {
        self.version.fetch_add(1, Ordering::AcqRel);
        if self.watched.load(Ordering::Acquire)
            && let Some(watch) = watching.get()
        {
            watch.flow_changed();
        }
    }

    /// What is done to packets.
    pub fn actions(&self) -> Arc<[Action]> {
        Arc::clone(&self.actions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The counters now.
    pub fn stats(&self) -> FlowStats {
        let used = self.used.load(Relaxed);
        FlowStats {
            packets: self.packets.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            used: (used != 0).then(|| Instant::from_nanos(used)),
            tcp_flags: self.tcp_flags.load(Relaxed),
        }
    }

    /// Counts one packet. Only the owning worker calls this.
    #[inline]
    fn credit(&self, bytes: u64, now: Instant, tcp_flags: u16) {
        self.packets.store(self.packets.load(Relaxed) + 1, Relaxed);
        self.bytes.store(self.bytes.load(Relaxed) + bytes, Relaxed);
        self.used.store(now.nanos(), Relaxed);
        let flags = self.tcp_flags.load(Relaxed);
        if flags | tcp_flags != flags {
            self.tcp_flags.store(flags | tcp_flags, Relaxed);
        }
    }

    fn zero(&self) {
        self.packets.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
        self.used.store(0, Relaxed);
        self.tcp_flags.store(0, Relaxed);
    }
}

/// The flows of a worker as other threads see them.
pub type Published = papaya::HashMap<Ufid, Arc<Megaflow>>;

struct Slot {
    generation: u32,
    program: u32,
    flow: Option<Arc<Megaflow>>,
}

struct Compiled {
    program: Arc<Program>,
    users: u32,
    name: Vec<u8>,
}

/// The flows of one worker.
pub struct Flows {
    pmd: PmdId,
    slots: Vec<Slot>,
    /// Flows made so far.
    made: u64,
    free: Vec<u32>,
    by_ufid: HashMap<Ufid, u32>,
    by_port: HashMap<u32, Classifier>,
    programs: Vec<Option<Compiled>>,
    by_name: HashMap<Vec<u8>, u32>,
    published: Arc<Published>,
    watching: Watching,
    /// Flows refused because of a limit.
    pub refused: u64,
}

/// A flow to install.
pub struct New<'a> {
    pub ufid: Ufid,
    pub key: &'a Key,
    pub mask: &'a Mask,
    pub actions: Arc<[Action]>,
}

impl Flows {
    /// No flows yet. Who is in `watching` is told of changes of those that are watched.
    pub fn new(pmd: PmdId, watching: Watching) -> Self {
        Self {
            pmd,
            slots: Vec::new(),
            made: 0,
            free: Vec::new(),
            by_ufid: HashMap::new(),
            by_port: HashMap::new(),
            programs: Vec::new(),
            by_name: HashMap::new(),
            published: Arc::default(),
            watching,
            refused: 0,
        }
    }

    /// The flows for other threads.
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    pub fn len(&self) -> usize {
        self.by_ufid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_ufid.is_empty()
    }

    /// Masks of all ports.
    pub fn masks(&self) -> usize {
        self.by_port.values().map(Classifier::masks).sum()
    }

    /// Classifiers by port.
    pub fn classifiers(&self) -> impl Iterator<Item = (u32, &Classifier)> {
        self.by_port.iter().map(|(&port, classifier)| (port, classifier))
    }

    /// Whether the flow that `flow` names is still there.
    #[inline]
    pub fn is_alive(&self, flow: FlowRef) -> bool {
        self.slots.get(flow.slot as usize).is_some_and(|slot| slot.generation == flow.generation)
    }

    /// Asks for the counters of a flow.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        if let Some(Slot { flow: Some(flow), .. }) = self.slots.get(slot as usize) {
            cpu::prefetch(&flow.packets);
        }
    }

    /// The flow of a key and how many subtables were tried.
    #[inline]
    pub fn find(&mut self, key: &Key) -> Option<(FlowRef, u64)> {
        self.by_port.get_mut(&key.in_port)?.find(key)
    }

    /// Counts a packet for the flow in `slot` and gives the number of its program.
    #[inline]
    pub fn credit(&self, slot: u32, bytes: u64, now: Instant, tcp_flags: u16) -> Option<u32> {
        let slot = self.slots.get(slot as usize)?;
        slot.flow.as_ref()?.credit(bytes, now, tcp_flags);
        Some(slot.program)
    }

    /// Counts packets of a flow that did not come by here.
    pub fn credit_unseen(&self, ufid: &Ufid, packets: u64, bytes: u64, now: Instant) {
        if let Some(flow) = self.by_ufid(ufid) {
            flow.packets.store(flow.packets.load(Relaxed) + packets, Relaxed);
            flow.bytes.store(flow.bytes.load(Relaxed) + bytes, Relaxed);
            flow.used.store(now.nanos().max(flow.used.load(Relaxed)), Relaxed);
        }
    }

    /// A program by number.
    #[inline]
    pub fn program(&self, number: u32) -> Option<&Arc<Program>> {
        self.programs.get(number as usize)?.as_ref().map(|compiled| &compiled.program)
    }

    /// Numbers of programs are below this.
    pub fn programs(&self) -> usize {
        self.programs.len()
    }

    /// The program of a list of actions: an earlier one for an equal list, or a new one.
    fn compile(&mut self, actions: &[Action]) -> Result<u32, Error> {
        let name = Action::encode_all(actions);
        if let Some(&number) = self.by_name.get(&name) {
            if let Some(Some(compiled)) = self.programs.get_mut(number as usize) {
                compiled.users += 1;
            }
            return Ok(number);
        }
        let program = Arc::new(Program::compile(actions)?);
        let free = self.programs.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            self.programs.push(None);
            self.programs.len() - 1
        });
        self.programs[number] = Some(Compiled { program, users: 1, name: name.clone() });
        self.by_name.insert(name, number as u32);
        Ok(number as u32)
    }

    fn release(&mut self, number: u32) {
        let Some(place @ Some(_)) = self.programs.get_mut(number as usize) else { return };
        if let Some(compiled) = place.as_mut() {
            compiled.users -= 1;
            if compiled.users > 0 {
                return;
            }
            let name = std::mem::take(&mut compiled.name);
            *place = None;
            self.by_name.remove(&name);
        }
    }

    /// The flow of a UFID.
    pub fn by_ufid(&self, ufid: &Ufid) -> Option<&Arc<Megaflow>> {
        self.slots.get(*self.by_ufid.get(ufid)? as usize)?.flow.as_ref()
    }

    /// The flow that a key would hit.
    pub fn by_key(&mut self, key: &Key) -> Option<Arc<Megaflow>> {
        let (found, _) = self.find(key)?;
        self.slots.get(found.slot as usize)?.flow.clone()
    }

    /// Installs a flow.
    ///
    /// # Errors
    /// `EEXIST` if a flow covers the key already, `ENOSPC` if there are too many, or why the actions cannot be done.
    pub fn insert(&mut self, new: New<'_>) -> Result<FlowRef, Error> {
        if self.find(new.key).is_some() || self.by_ufid.contains_key(&new.ufid) {
            return Err(Errno::EEXIST.into());
        }
        let classifier = self.by_port.entry(new.key.in_port).or_default();
        let mut mask = Mini::new(&new.mask.0);
        if !classifier.has_room(&mask) {
            mask = Mini::new(&Mask::exact().0);
            if classifier.len_of(&mask) >= MAX_EXACT {
                self.refused += 1;
                return Err(Errno::ENOSPC.into());
            }
        }
        if self.by_ufid.len() >= MAX_FLOWS {
            self.refused += 1;
            return Err(Errno::ENOSPC.into());
        }
        let program = self.compile(&new.actions)?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 1, program: 0, flow: None });
            self.slots.len() as u32 - 1
        });
        self.made += 1;
        let flow = Arc::new(Megaflow {
            ufid: new.ufid,
            pmd: self.pmd,
            serial: self.made,
            key: Mini::new(new.key),
            mask,
            actions: Mutex::new(new.actions),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            used: AtomicU64::new(0),
            tcp_flags: AtomicU16::new(0),
            version: AtomicU32::new(0),
            watched: AtomicBool::new(false),
        });
        let found = FlowRef { slot, generation: self.slots[slot as usize].generation };
        self.by_port.entry(new.key.in_port).or_default().insert(new.key, &flow.mask, found);
        self.by_ufid.insert(new.ufid, slot);
        self.published.pin().insert(new.ufid, Arc::clone(&flow));
        let place = &mut self.slots[slot as usize];
        (place.program, place.flow) = (program, Some(flow));
        Ok(found)
    }

    /// Gives a flow new actions; its statistics before that.
    pub fn modify(
        &mut self,
        ufid: &Ufid,
        actions: Arc<[Action]>,
        flags: PutFlags,
    ) -> Result<FlowStats, Error> {
        let slot = *self.by_ufid.get(ufid).ok_or(Errno::ENOENT)?;
        let program = self.compile(&actions)?;
        let place = &mut self.slots[slot as usize];
        let old = std::mem::replace(&mut place.program, program);
        let flow = place.flow.as_ref().ok_or(Errno::ENOENT)?;
        let stats = flow.stats();
        *flow.actions.lock().unwrap_or_else(PoisonError::into_inner) = actions;
        flow.changes(&self.watching);
        if flags.contains(PutFlags::ZERO_STATS) {
            flow.zero();
        }
        self.release(old);
        Ok(stats)
    }

    /// Removes a flow.
    pub fn remove(&mut self, ufid: &Ufid) -> Option<Arc<Megaflow>> {
        let slot = self.by_ufid.remove(ufid)?;
        self.published.pin().remove(ufid);
        let place = &mut self.slots[slot as usize];
        place.generation = place.generation.wrapping_add(1).max(1);
        let (program, flow) = (place.program, place.flow.take());
        self.free.push(slot);
        self.release(program);
        let flow = flow?;
        flow.changes(&self.watching);
        let key = flow.key.expand();
        if let Some(classifier) = self.by_port.get_mut(&key.in_port) {
            classifier.remove(&key, &flow.mask);
            if classifier.masks() == 0 {
                self.by_port.remove(&key.in_port);
            }
        }
        Some(flow)
    }

    /// Removes all flows, or those of one port.
    pub fn clear(&mut self, port: Option<u32>) {
        let of_port = |flow: &Megaflow| port.is_none_or(|port| flow.key.expand().in_port == port);
        let ufids: Vec<Ufid> = self
            .slots
            .iter()
            .filter_map(|slot| slot.flow.as_ref())
            .filter(|flow| of_port(flow))
            .map(|flow| flow.ufid)
            .collect();
        for ufid in ufids {
            self.remove(&ufid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::id::DpPort;

    fn new<'a>(key: &'a Key, mask: &'a Mask, to: u32) -> New<'a> {
        New {
            ufid: crate::ufid_of(zerocopy::IntoBytes::as_bytes(key)),
            key,
            mask,
            actions: Arc::from([Action::Output(DpPort(to))]),
        }
    }

    #[test]
    fn generations_tell_flows_apart() {
        let mut flows = Flows::new(PmdId::MAIN, Watching::default());
        let mut mask = Mask::default();
        mask.0.in_port = u32::MAX;
        let key = Key { in_port: 1, ..Key::default() };
        let first = flows.insert(new(&key, &mask, 2)).unwrap();
        assert_eq!(flows.insert(new(&key, &mask, 3)), Err(Errno::EEXIST.into()));
        assert_eq!(flows.find(&key), Some((first, 1)));
        assert_eq!(flows.credit(first.slot, 60, Instant::from_millis(5), 2), Some(0));
        let ufid = crate::ufid_of(zerocopy::IntoBytes::as_bytes(&key));
        let stats = flows.modify(&ufid, Arc::from([]), PutFlags::ZERO_STATS).unwrap();
        assert_eq!(
            stats,
            FlowStats { packets: 1, bytes: 60, used: Some(Instant::from_millis(5)), tcp_flags: 2 }
        );
        assert!(flows.is_alive(first));
        assert_eq!(flows.remove(&ufid).unwrap().stats(), FlowStats::default());
        assert!(!flows.is_alive(first) && flows.is_empty() && flows.masks() == 0);
        let second = flows.insert(new(&key, &mask, 2)).unwrap();
        assert_eq!(second, FlowRef { slot: 0, generation: 2 });
        flows.clear(Some(1));
        assert!(flows.is_empty() && flows.published().is_empty());
    }

    #[test]
    fn masks_are_bounded() {
        let mut flows = Flows::new(PmdId::MAIN, Watching::default());
        let mut exact = 0;
        for n in 0..400u32 {
            let key = Key { in_port: 1, recirc_id: n + 1, ..Key::default() };
            let mut mask = Mask::default();
            (mask.0.in_port, mask.0.recirc_id, mask.0.dp_hash) = (u32::MAX, u32::MAX, n);
            let flow = flows.insert(new(&key, &mask, 2)).unwrap();
            exact +=
                usize::from(flows.slots[flow.slot as usize].flow.as_ref().unwrap().mask.len() == Key::WORDS);
        }
        assert_eq!((flows.len(), flows.masks(), exact), (400, 257, 144));
    }
}
