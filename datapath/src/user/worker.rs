//! A worker: packet memory, flows, caches and counters of one thread that moves packets.
//!
//! A worker is used by one thread at a time. Others do not wait for its lock: they leave a [`Job`] in its bounded queue, and whoever
//! has the worker runs the jobs before letting go of it ([`Cell`]). So an upcall handler may execute packets from
//! within an upcall, and a revalidator's command never meets a half-processed vector.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use arc_swap::ArcSwap;
use flow::action::Action;
use flow::drop::{DatapathDrop, DropReason};
use flow::time::{Clock, Instant};
use sys::errno::Errno;
use sys::pool::Pool;

use super::batch::{Meta, Offload, Packet, free_all};
use super::flows::Flows;
use super::graph::{Graph, run};
use super::node::cache::Cache;
use super::node::{act, cache, classify, meter::Meter, miss, parse};
use super::ports::PortMap;
use super::program::Program;
use super::vector::Vector;
use crate::conntrack::Tracker;
use crate::conntrack::tracker::Passage;
use crate::upcall::Handler;
use crate::{Error, PmdId};

/// Small packet buffers of a worker.
const BUFFERS: u32 = 4096;
/// Jobs that may wait for one worker.
const MAX_JOBS: usize = 4096;
/// How often a packet may be recirculated.
pub const MAX_DEPTH: u32 = 6;

/// Where `lb_output` sends a bond's hash buckets, and what each has sent.
pub struct Bond {
    pub members: [flow::id::DpPort; 256],
    pub bytes: [std::sync::atomic::AtomicU64; 256],
}

/// What all workers of a datapath share.
pub struct Shared {
    pub name: String,
    pub clock: Arc<dyn Clock>,
    pub ports: ArcSwap<PortMap>,
    pub handler: RwLock<Option<Arc<dyn Handler>>>,
    pub meters: ArcSwap<BTreeMap<u32, Arc<Mutex<Meter>>>>,
    pub bonds: ArcSwap<BTreeMap<u32, Arc<Bond>>>,
    pub tracker: Arc<Tracker>,
}

impl Shared {
    pub fn new(name: String, clock: Arc<dyn Clock>, tracker: Arc<Tracker>) -> Self {
        Self {
            name,
            clock,
            ports: ArcSwap::default(),
            handler: RwLock::new(None),
            meters: ArcSwap::default(),
            bonds: ArcSwap::default(),
            tracker,
        }
    }
}

/// Counters of a worker.
#[derive(Clone, Default)]
pub struct Stats {
    pub received: u64,
    pub recirculated: u64,
    pub cache_hits: u64,
    pub masked_hits: u64,
    /// Subtables tried by the look-ups that hit.
    pub masked_lookups: u64,
    /// Upcalls that were answered.
    pub missed: u64,
    /// Upcalls that were not.
    pub lost: u64,
    pub sent_packets: u64,
    pub sent_batches: u64,
    /// Packets that a port did not take.
    pub tx_dropped: u64,
    /// Packets dropped for want of memory.
    pub no_memory: u64,
    pub idle_cycles: u64,
    pub busy_cycles: u64,
    pub drops: [u64; DatapathDrop::ALL.len()],
    pub reasons: BTreeMap<u32, u64>,
}

impl Stats {
    /// Counts packets dropped by an action that says why.
    pub fn reason(&mut self, reason: DropReason, packets: usize) {
        *self.reasons.entry(reason.code()).or_default() += packets as u64;
    }

    /// Counts packets that the datapath dropped by itself.
    pub fn drop(&mut self, why: DatapathDrop, packets: usize) {
        self.drops[why as usize] += packets as u64;
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.recirculated += other.recirculated;
        self.cache_hits += other.cache_hits;
        self.masked_hits += other.masked_hits;
        self.masked_lookups += other.masked_lookups;
        self.missed += other.missed;
        self.lost += other.lost;
        self.sent_packets += other.sent_packets;
        self.sent_batches += other.sent_batches;
        self.tx_dropped += other.tx_dropped;
        self.no_memory += other.no_memory;
        self.idle_cycles += other.idle_cycles;
        self.busy_cycles += other.busy_cycles;
        for (mine, theirs) in self.drops.iter_mut().zip(other.drops) {
            *mine += theirs;
        }
        for (reason, packets) in &other.reasons {
            *self.reasons.entry(*reason).or_default() += packets;
        }
    }
}

/// A packet to run actions on, from outside of the worker.
pub struct Injected {
    pub packet: Vec<u8>,
    pub meta: Meta,
    pub program: Program,
}

/// What moves packets.
pub struct Worker {
    pub id: PmdId,
    pub shared: Arc<Shared>,
    pub ports: Arc<PortMap>,
    pub pool: Pool,
    pub flows: Flows,
    pub cache: Cache,
    pub graph: Graph,
    pub stats: Stats,
    pub now: Instant,
    /// VLAN tags to look at.
    pub vlan_limit: u8,
    /// Whether the exact-match cache learns.
    pub cache_inserts: bool,
    pub groups: act::Groups,
    /// Room for packets in the tracker.
    pub passages: Vec<Passage>,
    /// Which transmit queue of every port is ours.
    pub tx_queue: usize,
    random: u64,
    depth: u32,
    spare: Vec<Vector>,
}

impl Worker {
    pub fn new(id: PmdId, shared: &Arc<Shared>, tx_queue: usize, seed: u64) -> Self {
        Self {
            id,
            shared: Arc::clone(shared),
            ports: shared.ports.load_full(),
            pool: Pool::new(BUFFERS),
            flows: Flows::new(id, Arc::clone(shared.tracker.watching())),
            cache: Cache::new(),
            graph: Graph::default(),
            stats: Stats::default(),
            now: shared.clock.now(),
            vlan_limit: flow::key::MAX_VLANS as u8,
            cache_inserts: true,
            groups: act::Groups::default(),
            passages: Vec::new(),
            tx_queue,
            random: seed | 1,
            depth: 0,
            spare: Vec::new(),
        }
    }

    /// A random number (xorshift64*).
    pub fn random(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// Reads the clock and the ports; once a round.
    pub fn refresh(&mut self) {
        self.now = self.shared.clock.now();
        self.ports = self.shared.ports.load_full();
    }

    /// An empty vector.
    pub fn vector(&mut self) -> Vector {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a vector back, with the packets that are left in it.
    pub fn recycle(&mut self, mut vector: Vector) {
        free_all(&mut self.pool, &mut vector.packets);
        self.spare.push(vector);
    }

    /// Takes a vector of packets through the graph.
    pub fn process(&mut self, mut vector: Vector) {
        run::<parse::Parse>(self, &mut vector);
        run::<cache::Lookup>(self, &mut vector);
        if !vector.missed.is_empty() {
            run::<classify::Classify>(self, &mut vector);
        }
        if !vector.missed.is_empty() {
            run::<miss::Miss>(self, &mut vector);
        }
        run::<act::Act>(self, &mut vector);
        self.recycle(vector);
    }

    /// Takes recirculated packets through the graph, unless they went round too often.
    pub fn recirculate(&mut self, vector: Vector) {
        if self.depth >= MAX_DEPTH {
            self.stats.drop(DatapathDrop::RecircError, vector.packets.len());
            tracing::warn!(target: "dpif_netdev", rl = "1,5", "Packet dropped. Max recirculation depth exceeded.");
            self.recycle(vector);
            return;
        }
        self.depth += 1;
        self.stats.recirculated += vector.packets.len() as u64;
        self.process(vector);
        self.depth -= 1;
    }

    /// Runs a program on one packet from outside.
    pub fn inject(&mut self, injected: Injected) {
        let Injected { packet, meta, program } = injected;
        let Some(mut packet) = Packet::new(&mut self.pool, &packet, Offload::default(), meta) else {
            self.stats.no_memory += 1;
            return;
        };
        self.locate(&mut packet);
        let mut packets = [packet];
        act::execute(self, &program, &mut packets, &[0]);
        let [packet] = packets;
        packet.free(&mut self.pool);
    }

    /// Finds out where the headers of a packet begin, and gives its full key.
    pub fn locate(&self, packet: &mut Packet) -> Box<flow::key::Key> {
        let mut key = Box::<flow::key::Key>::default();
        let mut meta = flow::extract::Metadata::from_key(&packet.meta.to_key());
        meta.vlan_limit = self.vlan_limit;
        packet.layout = flow::extract::extract(packet.frame(&self.pool), &meta, &mut key);
        key
    }

    /// The handler, if there is one.
    pub fn handler(&self) -> Option<Arc<dyn Handler>> {
        self.shared.handler.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Compiles actions for [`Injected`].
pub fn compile(actions: &[Action]) -> Result<Program, Error> {
    Program::compile(actions)
}

/// Something to be done with a worker.
pub type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A worker and the jobs that wait for it.
pub struct Cell {
    worker: Mutex<Worker>,
    jobs: Mutex<VecDeque<Job>>,
    waiting: AtomicUsize,
    /// Counters and flows can be read without the worker.
    pub flows: Arc<super::flows::Published>,
    pub id: PmdId,
}

impl Cell {
    pub fn new(worker: Worker) -> Self {
        Self {
            flows: Arc::clone(worker.flows.published()),
            id: worker.id,
            worker: Mutex::new(worker),
            jobs: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn try_worker(&self) -> Option<MutexGuard<'_, Worker>> {
        match self.worker.try_lock() {
            Ok(worker) => Some(worker),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn next_job(&self) -> Option<Job> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if job.is_some() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        job
    }

    /// Runs the jobs that wait, unless another thread has the worker: then that thread runs them.
    pub fn settle(&self) {
        while self.waiting.load(Ordering::Acquire) > 0 {
            let Some(mut worker) = self.try_worker() else { return };
            worker.refresh();
            while let Some(job) = self.next_job() {
                job(&mut worker);
            }
        }
    }

    /// Uses the worker if nobody else does, then runs the jobs that came meanwhile.
    pub fn with<R>(&self, use_it: impl FnOnce(&mut Worker) -> R) -> Option<R> {
        let mut worker = self.try_worker()?;
        let result = use_it(&mut worker);
        while let Some(job) = self.next_job() {
            job(&mut worker);
        }
        drop(worker);
        self.settle();
        Some(result)
    }

    /// Leaves a job and sees to it that somebody runs it soon.
    ///
    /// # Errors
    /// `ENOBUFS` if too many wait.
    pub fn post(&self, job: Job) -> Result<(), Error> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= MAX_JOBS {
            return Err(Errno::ENOBUFS.into());
        }
        jobs.push_back(job);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        drop(jobs);
        self.settle();
        Ok(())
    }

    /// Runs a job and waits for its result. Not to be called from within an upcall.
    pub fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let (reply, answer) = sync_channel(1);
        self.post(Box::new(move |worker| {
            // The caller waits for this; if it is gone nobody needs the result.
            let _ = reply.send(job(worker));
        }))?;
        answer.recv().map_err(|_| Error::Os(Errno::EIO))
    }
}
