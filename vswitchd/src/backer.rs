//! What the bridges of one datapath type share: the datapath, the configuration that translation reads, recirculation ids,
//! and the datapath flows that translation made.
//!
//! [`Backer`] answers the datapath's upcalls ([`crate::upcall`]) and looks after its flows ([`crate::reval`]). What only
//! `main` can do (learned flows, messages to controllers) is collected as [`Note`]s, which `main` takes after each pass of
//! [`Datapath::run`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use arc_swap::ArcSwap;
use datapath::Datapath;
use flow::id::{DpPort, OfPort, RecircId, TableId};
use flow::key::Key;
use flow::time::{Clock, Instant};

use crate::ofproto::journal::RuleChange;
use crate::ofproto::{Tables, Version};
use crate::reval::Flows;
use crate::reval::command::undisturbed;
use crate::tunnel;
use crate::xlate::snapshot::Port;
use crate::xlate::{Bridge, BridgeId, Deferred, Frozen, RecircIds, Snapshot};

/// A packet for controllers.
#[derive(Clone)]
pub struct PacketIn {
    pub bridge: BridgeId,
    pub packet: Vec<u8>,
    /// Bytes that the packet had before it was cut.
    pub total_len: usize,
    /// Its key, with the metadata that it had when it was sent; `in_port` is of the bridge.
    pub key: Key,
    /// `OFPR_*` of OpenFlow 1.5.
    pub reason: u8,
    pub table: TableId,
    pub cookie: u64,
    /// The connection id that it is for.
    pub controller_id: u16,
    /// Bytes that controllers want.
    pub max_len: u16,
    pub userdata: Vec<u8>,
    /// What goes on when a controller resumes it.
    pub continuation: Option<Arc<Frozen>>,
    /// By which port of the datapath it came.
    pub odp_port: DpPort,
}

/// Something that only `main` can do.
pub enum Note {
    Deferred(Deferred),
    PacketIn(Box<PacketIn>),
}

/// Notes that may wait; more are dropped, and counted.
const MAX_NOTES: usize = 65_536;

#[derive(Default)]
struct Notes {
    queue: VecDeque<Note>,
    dropped: u64,
    waker: Option<Waker>,
}

/// What translations read at some time.
pub struct Moment {
    /// [`Backer::seq`].
    pub seq: u64,
    configuration: u64,
    pub snapshot: Arc<Snapshot>,
    /// Each bridge's tables, by address.
    tables: Vec<Dated>,
}

/// A bridge's tables, and when it was.
struct Dated {
    tables: Arc<Tables>,
    /// Every change of this version is among the `changes`.
    version: Version,
    /// The number of the latest change.
    changes: u64,
}

impl Dated {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.tables).addr()
    }
}

impl Moment {
    /// Whether nothing changed since then but tables.
    pub fn has_configuration_of(&self, earlier: &Self) -> bool {
        self.configuration == earlier.configuration && Arc::ptr_eq(&self.snapshot, &earlier.snapshot)
    }

    /// Which rules changed since then, if nothing else did and that is known.
    pub fn rules_since(&self, earlier: &Self) -> Option<Vec<(Arc<Tables>, Arc<RuleChange>)>> {
        let mut all = Vec::new();
        if !self.has_configuration_of(earlier) {
            return None;
        }
        for (Dated { tables, changes: to, .. }, then) in self.tables.iter().zip(&earlier.tables) {
            let changes = tables.journal().between(then.changes, *to)?;
            all.extend(changes.into_iter().map(|change| (Arc::clone(tables), change)));
        }
        Some(all)
    }

    /// The version of a bridge's tables of which all changes are known.
    pub fn version_of(&self, tables: &Arc<Tables>) -> Option<Version> {
        let at = self.tables.binary_search_by_key(&Arc::as_ptr(tables).addr(), Dated::address).ok()?;
        Some(self.tables[at].version)
    }
}

/// What bridges of one datapath type share.
pub struct Backer {
    pub datapath: Arc<dyn Datapath>,
    pub recirc: RecircIds,
    pub clock: Arc<dyn Clock>,
    pub(crate) flows: Flows,
    snapshot: ArcSwap<Snapshot>,
    /// Counts what may make translations come out differently.
    seq: Arc<AtomicU64>,
    megaflows: AtomicBool,
    ufid: AtomicBool,
    /// Threads look after flows, and not `main`.
    threaded: bool,
    /// Upcalls are answered and flows looked after.
    working: AtomicBool,
    notes: Mutex<Notes>,
}

impl Backer {
    /// A backer over a datapath, whose upcalls it will answer. Its flows are looked after by threads, or by whoever calls
    /// [`Backer::run`].
    pub fn new(datapath: Arc<dyn Datapath>, clock: Arc<dyn Clock>, threaded: bool) -> Arc<Self> {
        let this = Arc::new(Self {
            threaded,
            working: AtomicBool::new(false),
            datapath,
            recirc: RecircIds::default(),
            clock,
            flows: Flows::default(),
            snapshot: ArcSwap::default(),
            seq: Arc::default(),
            megaflows: AtomicBool::new(true),
            ufid: AtomicBool::new(true),
            notes: Mutex::default(),
        });
        // Before anything is translated, for translations give out ids.
        this.flows.survey(&this);
        // What is asked before `begin` is not answered; kernels need not even be listened to.
        if let Err(error) = this.datapath.set_receiving(false) {
            tracing::warn!(target: "ofproto_dpif", "{}: {error}", this.datapath.name());
        }
        let handler: Arc<dyn datapath::upcall::Handler> = this.clone();
        this.datapath.set_handler(Some(handler));
        this
    }

    /// Answers upcalls from now on, and looks after flows. Not before what the datapath is to do is known: it would
    /// be told to do something else.
    pub fn begin(&self) {
        if !self.working.swap(true, Ordering::AcqRel) {
            self.listen();
        }
    }

    /// Has the datapath tell of upcalls. They are not answered before [`Backer::begin`].
    pub fn listen(&self) {
        if let Err(error) = self.datapath.set_receiving(true) {
            tracing::error!(
                target: "ofproto_dpif",
                "failed to listen on datapath of type {}: {error}", self.kind()
            );
        }
    }

    /// Whether upcalls are answered.
    pub(crate) fn is_working(&self) -> bool {
        self.working.load(Ordering::Acquire)
    }

    /// Ends the threads. What is in the datapath stays.
    pub fn stop(&self) {
        self.flows.threads.stop();
    }

    /// Deletes every flow, when no pass is under way.
    pub fn flush(&self) {
        undisturbed(self, |flows| flows.flush(self));
    }

    /// Has a pass over the flows made, and calls `done` when one that begins from now on has ended. Only where there are
    /// threads.
    pub fn after_pass(&self, done: Box<dyn FnOnce() + Send>) {
        self.flows.threads.after_pass(done);
    }

    /// Makes a pass over the datapath's flows now, where there are no threads.
    pub fn revalidate(&self, now: Instant) {
        self.flows.walk(self, now);
    }

    /// Obeys settings from the database.
    pub fn configure(&self, settings: crate::reval::Settings) {
        self.flows.configure(settings);
    }

    /// Sets how many flows the datapath may have, until that adapts.
    pub fn set_flow_limit(&self, limit: usize) {
        self.flows.set_limit(limit);
    }

    /// Whether threads look after flows.
    pub const fn is_threaded(&self) -> bool {
        self.threaded
    }

    /// Handler and revalidator threads that there are, or would be.
    pub fn threads(&self) -> (usize, usize) {
        let settings = self.flows.settings();
        let required = self.datapath.handlers_required();
        crate::reval::threads::numbers(required, settings.handlers, settings.revalidators)
    }

    /// The datapath type.
    pub fn kind(&self) -> &str {
        self.datapath.kind()
    }

    /// What translations read now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Lets translations read another configuration from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        let before = self.seq();
        self.snapshot.store(Arc::new(snapshot));
        // A bridge that went took its changes with it.
        let lost = before.saturating_sub(self.seq());
        self.seq.fetch_add(lost + 1, Ordering::Release);
    }

    /// Says that translations may come out differently.
    pub fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Release);
    }

    /// What [`crate::xlate::mac::MacTable::new`] wants: says that translations may come out differently.
    pub fn change_notifier(&self) -> impl Fn() + Send + Sync + 'static {
        let seq = Arc::clone(&self.seq);
        move || _ = seq.fetch_add(1, Ordering::Release)
    }

    /// A number that is another, greater one whenever translations may come out differently. Read it before the snapshot.
    pub fn seq(&self) -> u64 {
        let configuration = self.seq.load(Ordering::Acquire);
        let snapshot = self.snapshot.load();
        configuration.wrapping_add(snapshot.table_changes())
    }

    /// What translations read now, and as [`Backer::seq`] a number that tells when it is out of date.
    pub fn reading(&self) -> (u64, Arc<Snapshot>) {
        let configuration = self.seq.load(Ordering::Acquire);
        let snapshot = self.snapshot();
        (configuration.wrapping_add(snapshot.table_changes()), snapshot)
    }

    /// What translations read now, to tell later what has changed.
    pub fn moment(&self) -> Moment {
        let configuration = self.seq.load(Ordering::Acquire);
        let snapshot = self.snapshot();
        let dated = |tables: &Arc<Tables>| {
            // In this order: what comes between the two is among the changes.
            let version = tables.journal().version();
            Dated { tables: Arc::clone(tables), version, changes: tables.changes() }
        };
        let mut tables: Vec<_> = snapshot.tables().map(dated).collect();
        tables.sort_by_key(Dated::address);
        let seq = tables.iter().fold(configuration, |sum, dated| sum.wrapping_add(dated.changes));
        Moment { seq, configuration, snapshot, tables }
    }

    /// Whether datapath flows match only what translation looked at.
    pub fn megaflows(&self) -> bool {
        self.megaflows.load(Ordering::Relaxed)
    }

    pub(crate) fn set_megaflows(&self, on: bool) {
        self.megaflows.store(on, Ordering::Relaxed);
    }

    /// Whether flows are dumped by their identifiers alone.
    pub fn ufid(&self) -> bool {
        self.ufid.load(Ordering::Relaxed) && self.datapath.features().ufid
    }

    pub(crate) fn set_ufid(&self, on: bool) {
        self.ufid.store(on, Ordering::Relaxed);
    }

    /// The bridge and port by which a packet with this key came into the switch: by its datapath port, or by what was
    /// frozen before it was recirculated.
    ///
    /// # Errors
    /// OVS's words for why there is none.
    pub fn origin<'a>(&self, snapshot: &'a Snapshot, key: &Key) -> Result<(&'a Arc<Bridge>, OfPort), String> {
        if key.recirc_id != 0 {
            let Some(frozen) = self.recirc.find(RecircId(key.recirc_id)) else {
                return Err(format!("no recirculation data for recirc_id {:#x}", key.recirc_id));
            };
            if let Some(found) = origin_of_frozen(snapshot, &frozen) {
                return Ok(found);
            }
        }
        let found = match key.tunnel.is_set() {
            true => snapshot.tunnel_of(key).ok_or_else(|| {
                tunnel::warn_not_found(key);
                "no OpenFlow tunnel port for this packet".to_owned()
            }),
            false => snapshot
                .port_of(DpPort(key.in_port))
                .ok_or_else(|| format!("no OpenFlow port for datapath port {}", key.in_port)),
        };
        let (bridge, port): (_, &Port) = found?;
        Ok((bridge, port.ofp))
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves something for `main` to do.
    pub(crate) fn note(&self, note: Note) {
        let mut notes = self.notes();
        if notes.queue.len() >= MAX_NOTES {
            notes.dropped += 1;
            return;
        }
        notes.queue.push_back(note);
        if let Some(waker) = &notes.waker {
            waker.wake_by_ref();
        }
    }

    /// What there is for `main` to do, in order.
    pub fn take_notes(&self) -> VecDeque<Note> {
        std::mem::take(&mut self.notes().queue)
    }

    /// Registers whom notes wake.
    pub fn wake_by(&self, waker: &Waker) {
        self.notes().waker = Some(waker.clone());
    }

    /// Notes that were dropped because there were too many.
    pub fn dropped_notes(&self) -> u64 {
        self.notes().dropped
    }

    /// The datapath's ports by number, for text.
    pub fn port_names(&self) -> BTreeMap<DpPort, String> {
        self.datapath.ports().into_iter().map(|port| (port.number, port.name)).collect()
    }

    /// Looks after flows, addresses and ids, or after those who do; returns when it wants to be called again at the latest.
    pub fn run(self: &Arc<Self>, now: Instant) -> Instant {
        let snapshot = self.snapshot();
        let mut deadline = Instant::NEVER;
        for bridge in snapshot.bridges() {
            bridge.macs.expire(now);
            deadline = deadline.min(bridge.macs.deadline());
        }
        if !self.is_working() {
            return deadline;
        }
        if self.threaded {
            self.flows.staff(self);
            self.flows.notice(self.seq());
            return deadline;
        }
        self.recirc.run(now);
        deadline.min(self.flows.run(self, now))
    }
}

fn origin_of_frozen<'a>(snapshot: &'a Snapshot, frozen: &Frozen) -> Option<(&'a Arc<Bridge>, OfPort)> {
    let in_port = frozen.metadata.in_port;
    if in_port == OfPort::NONE || in_port == OfPort::CONTROLLER {
        return Some((snapshot.bridge(frozen.bridge)?, in_port));
    }
    // A controller may say of a packet that it came in by a port that there is not.
    let (bridge, port) = frozen.port?;
    let bridge = snapshot.bridge(bridge)?;
    bridge.ports.contains_key(&port).then_some((bridge, port))
}

/// All backers, by datapath type.
#[derive(Clone, Default)]
pub struct Backers(pub BTreeMap<String, Arc<Backer>>);

impl Backers {
    /// The backer, the configuration and the bridge of that name.
    pub fn bridge(&self, name: &str) -> Option<(&Arc<Backer>, Arc<Snapshot>, Arc<Bridge>)> {
        self.0.values().find_map(|backer| {
            let snapshot = backer.snapshot();
            let bridge = Arc::clone(snapshot.bridge_named(name)?);
            Some((backer, snapshot, bridge))
        })
    }
}

/// An `appctl` command over the backers.
pub struct Command {
    pub name: &'static str,
    pub usage: &'static str,
    pub min: usize,
    pub max: usize,
    pub run: fn(&Backers, &[&str], Instant) -> Result<String, String>,
}

/// Every command of this module and those that it names.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    crate::xlate::fdb::COMMANDS
        .iter()
        .chain(crate::xlate::trace_command::COMMANDS)
        .chain(crate::reval::command::COMMANDS)
        .chain(tunnel::COMMANDS)
}
