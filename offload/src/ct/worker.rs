//! Connections of the userspace datapath in hardware: the thread `ct-gc`.
//!
//! The datapath's workers leave notes in a bounded [`Inbox`] and never wait. The thread asks them for the way of a
//! connection's packets ([`super::path`]), lowers it, and moves requests and answers. When a note is lost for want of
//! room, or a flow changes, all connections are looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use datapath::conntrack::conn::{Conn, Dir};
use datapath::conntrack::watch::{News, Watch};
use datapath::user::Engine;
use datapath::{Datapath, PmdId, PortInfo};
use flow::id::{DpPort, Ufid};
use flow::key::Key;
use flow::proto::ethertype;
use flow::time::{Clock, Instant};
use sys::link::Links;

use super::gc::{Gc, Source, pump};
use super::nic::{Body, TAG, Tc};
use super::path::{Detour, Path, follow};
use super::table::{Cause, Connection, Full, Grown, Step, Table, Wish};
use crate::lower::lower;
use crate::ports::{Port, Ports};
use crate::rule::{Device, Support, Surroundings};
use crate::table::Table as Rules;
use crate::tc::action::Spec;
use crate::tc::filter::Id;
use crate::tc::{Hook, On};

/// Notes that wait.
const MAX_NOTES: usize = 1 << 16;
/// Notes that are dealt with at a time.
const MAX_TURN: usize = 1024;
/// How often, and how long apart, a way is looked for that has no flow yet.
const MAX_LOOKS: u32 = 6;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the end waits for rules to go, and how often it looks.
const GRACE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// A connection by what it is, not by what it looks like.
#[derive(Clone, Debug)]
pub struct Token(pub Arc<Conn>);

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Token {}

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// A packet whose way is to be found.
struct Ask {
    conn: Arc<Conn>,
    dir: Dir,
    pmd: PmdId,
    key: Box<Key>,
    looks: u32,
    at: Instant,
}

enum Note {
    Ask(Ask),
    Ended(Arc<Conn>, Cause),
}

/// What workers leave.
pub struct Inbox {
    clock: Arc<dyn Clock>,
    notes: Mutex<VecDeque<Note>>,
    /// Look at everything.
    rescan: AtomicBool,
    pub dropped: AtomicU64,
    open: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Inbox {
    fn notes(&self) -> MutexGuard<'_, VecDeque<Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rouse(&self) {
        self.thread.get().into_iter().for_each(Thread::unpark);
    }

    /// Whether there was room.
    fn push(&self, note: Note) -> bool {
        if !self.open.load(Ordering::Relaxed) {
            return false;
        }
        let mut notes = self.notes();
        let room = notes.len() < MAX_NOTES;
        if room {
            notes.push_back(note);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drop(notes);
        self.rouse();
        room
    }
}

impl Watch for Inbox {
    fn established(&self, conn: &Arc<Conn>, dir: Dir, pmd: PmdId, key: Box<Key>) {
        let at = Instant::ZERO;
        if !self.push(Note::Ask(Ask { conn: Arc::clone(conn), dir, pmd, key, looks: 0, at })) {
            conn.forget_asked(dir);
        }
    }

    fn news(&self, conn: &Arc<Conn>, news: News) {
        let cause = match news {
            News::Closing => Cause::Closed,
            News::Marked => Cause::Changed,
            News::Forgotten if conn.left(self.clock.now()).is_zero() => Cause::Idle,
            News::Forgotten => Cause::Flushed,
        };
        if !self.push(Note::Ended(Arc::clone(conn), cause)) {
            self.rescan.store(true, Ordering::Release);
        }
    }

    fn flow_changed(&self) {
        self.rescan.store(true, Ordering::Release);
        self.rouse();
    }
}

impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }
}

/// The userspace datapath as where connections come from.
struct Userspace {
    now: Instant,
    /// What rules counted for flows, by worker.
    credits: HashMap<PmdId, HashMap<Ufid, (u64, u64)>>,
}

/// Why a rule that stands for these is not to stay.
fn cause(body: &Body, now: Instant) -> Option<Cause> {
    for (conn, _) in &body.conns {
        if conn.is_dead() {
            return Some(if conn.left(now).is_zero() { Cause::Idle } else { Cause::Flushed });
        }
        if !conn.is_live(now) {
            return Some(Cause::Idle);
        }
        if !conn.is_steady() {
            return Some(Cause::Closed);
        }
    }
    let changed = body.flows.iter().any(|(flow, version)| flow.version() != *version);
    changed.then_some(Cause::Policy)
}

impl Source for Userspace {
    type Conn = Token;
    type Rule = Body;

    fn cause(&self, connection: &Connection<Token, Body>) -> Option<Cause> {
        connection.rules.iter().flatten().find_map(|rule| cause(&rule.rule, self.now))
    }

    fn grown(&mut self, grown: Grown<Token, Body>) {
        for (conn, _) in &grown.rule.conns {
            if conn.is_live(self.now) && conn.is_steady() {
                conn.refresh(self.now);
            }
        }
        for (pmd, ufid) in grown.rule.credits() {
            let credit = self.credits.entry(pmd).or_default().entry(ufid).or_default();
            *credit = (credit.0 + grown.packets, credit.1 + grown.bytes);
        }
    }

    fn freed(&mut self, Token(conn): Token, _cause: Cause) {
        conn.unwatch();
        conn.forget_asked(Dir::Orig);
        conn.forget_asked(Dir::Reply);
    }

    fn rested(&mut self, Token(conn): Token, dir: usize) {
        conn.forget_asked(if dir == 0 { Dir::Orig } else { Dir::Reply });
    }
}

/// All that the thread has.
pub(super) struct State {
    pub(super) table: Table<Token, Body>,
    pub(super) gc: Gc,
    nic: Tc,
    source: Userspace,
    ports: Ports,
    /// Devices that have rules or are to have none any more.
    devices: BTreeSet<u32>,
    /// Those of them that had rules since their discipline was new.
    worn: BTreeSet<u32>,
    waiting: VecDeque<Ask>,
    /// Wishes that were not taken, by reason.
    pub(super) declined: BTreeMap<String, u64>,
    cookies: u64,
    look: Devices,
}

/// The ports of a datapath that are devices: number, name, interface index. `None` if that cannot be told now.
pub type Devices = Box<dyn Fn(&Engine) -> Option<Vec<(DpPort, String, u32)>> + Send>;

/// Network devices of the kernel.
pub fn system_devices(engine: &Engine) -> Option<Vec<(DpPort, String, u32)>> {
    let links = Links::new().ok()?;
    let system = engine.ports().into_iter().filter(|port| port.kind == "system");
    let device = |port: PortInfo| Some((port.number, links.index(&port.name).ok()?, port.name));
    Some(system.filter_map(device).map(|(number, ifindex, name)| (number, name, ifindex)).collect())
}

pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    pub(super) inbox: Arc<Inbox>,
    state: Mutex<State>,
    stop: AtomicBool,
    /// How often there was nothing left to do.
    rests: AtomicU64,
}

/// Connections of a userspace datapath in hardware, as long as it lives.
pub struct Service {
    pub(super) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Begins to take the connections of `engine` to devices.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn start(
        engine: &Arc<Engine>,
        rules: Arc<dyn Rules>,
        look: Devices,
        clock: &Arc<dyn Clock>,
        seed: u64,
    ) -> std::io::Result<Self> {
        let inbox = Arc::new(Inbox {
            clock: Arc::clone(clock),
            notes: Mutex::default(),
            rescan: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            open: AtomicBool::new(true),
            thread: OnceLock::new(),
        });
        let waker = Arc::clone(&inbox);
        let now = clock.now();
        let state = State {
            table: Table::new(seed as u32),
            gc: Gc::new(now),
            nic: Tc::new(rules, move || waker.rouse())?,
            source: Userspace { now, credits: HashMap::new() },
            ports: Ports::default(),
            devices: BTreeSet::new(),
            worn: BTreeSet::new(),
            waiting: VecDeque::new(),
            declined: BTreeMap::new(),
            cookies: seed,
            look,
        };
        let shared = Arc::new(Shared {
            engine: Arc::clone(engine),
            clock: Arc::clone(clock),
            inbox,
            state: Mutex::new(state),
            stop: AtomicBool::new(false),
            rests: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("ct-gc".to_owned()).spawn(move || theirs.run())?;
        engine.tracker().watch(Arc::clone(&shared.inbox) as Arc<dyn Watch>);
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes the connections of a zone, or all, out of hardware. Those that live come back with their next packets. How
    /// many there were.
    pub fn flush(&self, zone: Option<u16>) -> usize {
        let mut state = self.shared.state();
        let now = self.shared.clock.now();
        let ended = state.table.end_where(now, |connection| {
            zone.is_none_or(|zone| zone == connection.zone).then_some(Cause::Asked)
        });
        drop(state);
        self.shared.inbox.rouse();
        ended
    }

    /// Has the collector take a step now.
    pub fn step(&self) -> Step {
        let step = loop {
            let mut state = self.shared.state();
            let step = state.step(&self.shared.engine, self.shared.clock.now());
            if !state.gc.is_at_it() {
                break step;
            }
        };
        self.shared.inbox.rouse();
        step
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.inbox.rouse();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Locks; a panic elsewhere left the state whole.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    fn run(&self) {
        // Nobody set it before: there is one thread.
        let _ = self.inbox.thread.set(std::thread::current());
        let waker = Waker::from(Arc::clone(&self.inbox));
        while !self.stop.load(Ordering::Acquire) {
            let now = self.clock.now();
            let due = self.turn(now);
            if due > now && self.inbox.notes().is_empty() {
                self.rests.fetch_add(1, Ordering::Release);
                self.clock.wait(due, &waker);
                std::thread::park_timeout(due.since(now).min(super::gc::INTERVAL));
            }
        }
        self.finish();
    }

    /// Takes everything out of hardware. The clock may stand still by now, so time is what is waited here.
    fn finish(&self) {
        self.inbox.open.store(false, Ordering::Relaxed);
        let mut now = self.clock.now();
        self.state().table.end_where(now, |_| Some(Cause::Asked));
        let ends = now + GRACE;
        loop {
            self.turn(now);
            if now >= ends || self.state().table.rules() == 0 {
                break;
            }
            std::thread::park_timeout(LOOK);
            now = now + LOOK;
        }
        // Whatever a device failed to delete goes with what it hangs from.
        let mut state = self.state();
        for ifindex in std::mem::take(&mut state.devices) {
            state.nic.detach(ifindex);
        }
    }

    /// Does what there is to do; when to come again.
    fn turn(&self, now: Instant) -> Instant {
        let notes: Vec<Note> = {
            let mut notes = self.inbox.notes();
            let n = notes.len().min(MAX_TURN);
            notes.drain(..n).collect()
        };
        let mut asks = Vec::new();
        {
            let mut state = self.state();
            state.source.now = now;
            for note in notes {
                match note {
                    Note::Ask(ask) => asks.push(ask),
                    // It may be one of several that a rule stands for.
                    Note::Ended(conn, cause) => {
                        if !state.table.end(&Token(conn), cause, now) {
                            self.inbox.rescan.store(true, Ordering::Release);
                        }
                    }
                }
            }
            while let Some(ask) = state.waiting.pop_front_if(|ask| ask.at <= now) {
                asks.push(ask);
            }
        }
        let found = self.follow(asks, now);
        let mut state = self.state();
        for (ask, path) in found {
            state.place(ask, path, &self.engine, now);
        }
        if self.inbox.rescan.swap(false, Ordering::AcqRel) {
            // A port that goes takes its flows with it.
            state.look_at_ports(&self.engine, now);
            let State { table, source, .. } = &mut *state;
            table.end_where(now, |connection| source.cause(connection));
        }
        if now >= state.gc.due() {
            state.step(&self.engine, now);
        }
        let State { table, nic, source, .. } = &mut *state;
        pump(table, nic, source, now);
        let waiting = state.waiting.front().map(|ask| ask.at);
        [state.table.due(), waiting].into_iter().flatten().fold(state.gc.due(), Instant::min)
    }

    /// Asks the workers for ways.
    fn follow(&self, asks: Vec<Ask>, now: Instant) -> Vec<(Ask, Result<Path, Detour>)> {
        let mut by_worker: BTreeMap<u32, Vec<Ask>> = BTreeMap::new();
        for ask in asks {
            by_worker.entry(ask.pmd.0).or_default().push(ask);
        }
        let mut found = Vec::new();
        for asks in by_worker.into_values() {
            let Some(cell) = asks.first().and_then(|ask| self.engine.cell(ask.pmd)) else {
                asks.iter().for_each(|ask| ask.conn.forget_asked(ask.dir));
                continue;
            };
            let of_lost: Vec<_> = asks.iter().map(|ask| (Arc::clone(&ask.conn), ask.dir)).collect();
            let followed = cell.call(move |worker| {
                let follow = |ask: Ask| {
                    let path = follow(worker, &ask.key, now);
                    (ask, path)
                };
                asks.into_iter().map(follow).collect::<Vec<_>>()
            });
            match followed {
                Ok(paths) => found.extend(paths),
                Err(_) => of_lost.iter().for_each(|(conn, dir)| conn.forget_asked(*dir)),
            }
        }
        found
    }
}

/// The priority of rules of an EtherType; flows' begin behind them.
const fn priority(protocol: u16) -> Option<u16> {
    match protocol {
        ethertype::IPV4 => Some(2),
        ethertype::IPV6 => Some(3),
        ethertype::VLAN => Some(4),
        _ => None,
    }
}

/// Whether a rule has to do with a device.
fn uses(body: &Body, ifindex: u32) -> bool {
    let sends = |spec: &Spec| matches!(spec, Spec::Mirred(mirred) if mirred.ifindex == ifindex);
    body.id.on == On::Device(ifindex) || body.actions.iter().any(|action| sends(&action.spec))
}

impl State {
    /// Puts a way into hardware, or notes why there is none.
    fn place(&mut self, mut ask: Ask, path: Result<Path, Detour>, engine: &Engine, now: Instant) {
        match path {
            Err(Detour::NoFlow) if ask.looks < MAX_LOOKS => {
                ask.at = now + LOOK_AGAIN * (1 << ask.looks);
                ask.looks += 1;
                let after = self.waiting.partition_point(|other| other.at <= ask.at);
                self.waiting.insert(after, ask);
            }
            // The next packet may have one.
            Err(Detour::NoFlow | Detour::Turn) => ask.conn.forget_asked(ask.dir),
            Err(why) => self.decline(&ask, why.to_string(), now),
            Ok(path) => {
                if let Err(why) = self.offer(&ask, path, engine, now) {
                    self.decline(&ask, why, now);
                }
            }
        }
    }

    fn decline(&mut self, ask: &Ask, why: String, now: Instant) {
        *self.declined.entry(why.clone()).or_default() += 1;
        let place = (ask.conn.orig.zone, usize::from(ask.dir == Dir::Reply));
        self.table.refuse(&Token(Arc::clone(&ask.conn)), place, why, now);
    }

    fn offer(&mut self, ask: &Ask, path: Path, engine: &Engine, now: Instant) -> Result<(), String> {
        let mine = |(conn, _): &&(Arc<Conn>, Dir)| Arc::ptr_eq(conn, &ask.conn);
        let &(_, dir) = path.conns.iter().find(mine).ok_or("packets are another connection's")?;
        let port = DpPort(path.key.in_port);
        if self.ports.device(port).is_none() {
            self.look_at_ports(engine, now);
        }
        let device = self.ports.device(port).ok_or_else(|| format!("port {port} has no rules"))?;
        let (key, mask) = (&path.key, &path.mask);
        let mut rule = lower((key, mask), &path.actions, &self.ports, &Support::default())
            .map_err(|why| why.to_string())?;
        let prio = priority(rule.protocol).ok_or("no match on such frames")?;
        self.cookies = self.cookies.wrapping_add(1);
        let cookie = [TAG, self.cookies.to_ne_bytes()].concat();
        let own = rule.actions.iter_mut().find(|action| !action.is_shared());
        own.ok_or("nothing is done to packets")?.cookie = Some(cookie);
        let on = On::Device(device.ifindex);
        let id = Id { on, hook: Hook::Ingress, chain: 0, prio, protocol: rule.protocol, handle: 0 };
        // First the mark, then the look: what happens in between is told of.
        path.conns.iter().for_each(|(conn, _)| conn.watch());
        let body = Body { id, key: rule.key, actions: rule.actions, conns: path.conns, flows: path.flows };
        if cause(&body, now).is_some() {
            ask.conn.forget_asked(ask.dir);
            return Ok(());
        }
        let wish = Wish {
            zone: ask.conn.orig.zone,
            dir: usize::from(dir == Dir::Reply),
            port: device.ifindex,
            rule: Arc::new(body),
            // The tracker's own time says when it is over.
            idle: Duration::MAX,
        };
        match self.table.offer(&Token(Arc::clone(&ask.conn)), wish, now) {
            Ok(()) | Err(Full::Twice | Full::Refused) => Ok(()),
            Err(why @ (Full::Dying | Full::Table)) => {
                *self.declined.entry(why.to_string()).or_default() += 1;
                ask.conn.forget_asked(ask.dir);
                Ok(())
            }
        }
    }

    /// Takes a step of the collector.
    fn step(&mut self, engine: &Engine, now: Instant) -> Step {
        self.source.now = now;
        if !self.gc.is_at_it() {
            self.look_at_ports(engine, now);
        }
        let ports: Vec<u32> = self.devices.iter().copied().collect();
        let step = self.gc.step(&mut self.table, &mut self.nic, &mut self.source, &ports, now);
        for (pmd, credits) in self.source.credits.drain() {
            let Some(cell) = engine.cell(pmd) else { continue };
            // A worker that has too much to do misses counts, not packets.
            let _ = cell.post(Box::new(move |worker| {
                for (ufid, (packets, bytes)) in credits {
                    worker.flows.credit_unseen(&ufid, packets, bytes, now);
                }
            }));
        }
        step
    }

    /// Lets devices of new ports have rules, and takes those of ports that are gone.
    fn look_at_ports(&mut self, engine: &Engine, now: Instant) {
        let Some(present) = (self.look)(engine) else { return };
        let present: BTreeMap<DpPort, (String, u32)> =
            present.into_iter().map(|(number, name, ifindex)| (number, (name, ifindex))).collect();
        for (number, port) in self.ports.all() {
            let ifindex = port.device.ifindex;
            if present.get(&number).is_none_or(|(_, now)| *now != ifindex) {
                self.ports.remove(number);
                self.table.end_where(now, |connection| {
                    let mut rules = connection.rules.iter().flatten();
                    rules.any(|rule| uses(&rule.rule, ifindex)).then_some(Cause::Port)
                });
            }
        }
        for (number, (name, ifindex)) in present {
            if self.ports.device(number).is_some() {
                continue;
            }
            match self.nic.attach(ifindex) {
                Ok(()) => {
                    let device = Device { ifindex, block: None, hook: Hook::Ingress, tunnel: false };
                    self.ports.insert(number, Port { name, device, switch: Vec::new() });
                    self.devices.insert(ifindex);
                }
                Err(error) => {
                    let detail = error.detail().unwrap_or_default();
                    tracing::debug!(target: "dpif_offload", "{name}: no rules can be had: {error} {detail}");
                }
            }
        }
        self.let_go();
    }

    /// Lets go of devices that are no ports any more, once nothing of ours is there, and gives those that have no rules any
    /// more a new discipline: to devices that says that nothing is to stay, whatever they failed to delete.
    fn let_go(&mut self) {
        let ports: BTreeSet<u32> = self.ports.all().iter().map(|(_, port)| port.device.ifindex).collect();
        let rules = self.table.connections().flat_map(|connection| connection.rules.iter().flatten());
        let busy: BTreeSet<u32> = rules.map(|rule| rule.name.port).collect();
        // Those, too, whose rules came and went since the last look.
        self.worn.extend(self.table.take_used());
        for ifindex in self.devices.clone().into_iter().filter(|ifindex| !busy.contains(ifindex)) {
            let is_worn = self.worn.remove(&ifindex);
            if !ports.contains(&ifindex) {
                self.nic.detach(ifindex);
                self.devices.remove(&ifindex);
            } else if is_worn {
                self.nic.detach(ifindex);
                if let Err(error) = self.nic.attach(ifindex) {
                    tracing::info!(target: "dpif_offload", "device {ifindex} takes no rules: {error}");
                }
            }
        }
    }

    /// Ports that have rules.
    pub(super) fn port_names(&self) -> BTreeMap<u32, String> {
        self.ports.all().into_iter().map(|(_, port)| (port.device.ifindex, port.name)).collect()
    }
}

#[cfg(test)]
mod tests;
