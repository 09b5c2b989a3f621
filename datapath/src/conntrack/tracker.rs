//! The userspace tracker: packets in, what they belong to out.
//!
//! Entries are in 256 shards, each behind a lock of its own; nothing is global but a few counters. The shard of a key is that
//! of its reverse, so that both entries of a connection are in one shard unless addresses are translated. Packets come in
//! groups. For a group all shards that its keys are in are locked, in ascending order, and their slots and connections are asked for
//! before the first of them is looked at. Then packets are taken strictly in their order. What needs another shard (a translation, which
//! must find a free key for the answers) is done with all of these locks let go, one lock at a time: the entry of the answers goes
//! in first, and only then that of the original direction, by which the connection is found.
//!
//! A connection that is over is dead at once, and its entries go when somebody wants their place or the sweep comes by.

use super::conn::{Conn, Dir, State};
use super::key::{Key, Place, Seeds, mix};
use super::nat::Nat;
use super::parse::{Inner, Parsed};
use super::table::Table;
use super::timeout::Timeout;
use super::tracked::{Known, NATTED, Tracked};
use super::verdict::{Proto, Verdict, default_seconds};
use super::watch::{News, Watching};
use ::flow::action::NatKind;
use ::flow::id::Zone;
use ::flow::proto::ct;
use ::flow::time::{Clock, Instant};
use serde::Serialize;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shards of a tracker.
pub const SHARDS: usize = 256;
/// Packets whose shards are locked together.
const GROUP: usize = 8;
/// Connections at most, unless set otherwise.
pub const MAX_CONNECTIONS: u32 = 3_000_000;
/// Milliseconds between sweeps, unless set otherwise.
const SWEEP_INTERVAL: u32 = 20_000;

/// A `ct` action.
#[derive(Clone, Default, Debug)]
pub struct Action {
    pub zone: Zone,
    pub commit: bool,
    /// Commit, and end a connection that began from the other end.
    pub force: bool,
    /// Value and mask.
    pub mark: Option<(u32, u32)>,
    /// Value and mask, big-endian.
    pub label: Option<(u128, u128)>,
    pub nat: Option<Nat>,
}

/// How a packet is to be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The end of this packet whose address changes.
    pub kind: NatKind,
    /// What an answer to the changed packet looks like.
    pub answer: Key,
    /// The packet is an error: it is about an answer, which is changed, too.
    pub inner: Option<Inner>,
}

/// A packet on its way through the tracker.
#[derive(Debug)]
pub struct Passage {
    /// What is known of the packet, before and after.
    pub tracked: Box<Tracked>,
    pub parsed: Option<Parsed>,
    /// What is to be done to the packet.
    pub translation: Option<Translation>,
    /// It is not recirculated, so that who watches connections may learn its way.
    pub first: bool,
    /// Who watches wants to know what it looks like.
    pub asks: Option<(Arc<Conn>, Dir)>,
    /// The key that is looked up: the packet's own, or that of the answer if it was translated here before.
    key: Key,
    place: Place,
    natted: bool,
}

impl Passage {
    pub fn new(tracked: Box<Tracked>, parsed: Option<Parsed>) -> Self {
        let place = Place { shard: 0, hash: 0 };
        let (translation, asks) = (None, None);
        Self { tracked, parsed, translation, first: false, asks, key: Key::default(), place, natted: false }
    }

    /// The packet's own key.
    fn own(&self) -> Key {
        if self.natted { self.key.reversed() } else { self.key }
    }
}

/// What the tracker could not do.
#[derive(Default, Debug)]
struct Counters {
    full: AtomicU64,
    exhausted: AtomicU64,
}

/// The tracker's figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Figures {
    pub connections: u32,
    pub max_connections: u32,
    /// Packets that would have made a connection if there were room.
    pub full: u64,
    /// Packets for which no translation was free.
    pub exhausted: u64,
}

#[derive(Default)]
#[repr(align(64))]
struct Shard(Mutex<Table>);

/// Connections by both of their keys.
pub struct Tracker {
    shards: Box<[Shard]>,
    pub(super) seeds: Seeds,
    basis: u32,
    random: AtomicU64,
    pub(super) clock: Arc<dyn Clock>,
    count: AtomicU32,
    pub(super) max: AtomicU32,
    pub(super) strict: AtomicBool,
    pub(super) sweep_ms: AtomicU32,
    counters: Counters,
    pub(super) watching: Watching,
}

/// What cannot be done with the locks of a group.
enum Apart {
    /// The packet was translated here before and its connection is not found by what it is now.
    Origin,
    /// A new connection is to be translated.
    Translate(NatKind, Proto, Timeout),
}

type Held<'a> = SmallVec<[(u8, MutexGuard<'a, Table>); GROUP]>;

fn table_of<'a>(held: &'a mut Held<'_>, shard: u8) -> Option<&'a mut Table> {
    held.iter_mut().find(|(held, _)| *held == shard).map(|(_, table)| &mut **table)
}

impl Tracker {
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            seeds: Seeds::new(seed),
            basis: mix(seed) as u32 | 1,
            random: AtomicU64::new(seed),
            clock,
            count: AtomicU32::new(0),
            max: AtomicU32::new(MAX_CONNECTIONS),
            strict: AtomicBool::new(true),
            sweep_ms: AtomicU32::new(SWEEP_INTERVAL),
            counters: Counters::default(),
            watching: Watching::default(),
        }
    }

    pub fn figures(&self) -> Figures {
        Figures {
            connections: self.count(),
            max_connections: self.max.load(Ordering::Relaxed),
            full: self.counters.full.load(Ordering::Relaxed),
            exhausted: self.counters.exhausted.load(Ordering::Relaxed),
        }
    }

    /// Connections, those included that are over and not swept yet.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn table(&self, shard: u8) -> MutexGuard<'_, Table> {
        self.shards[usize::from(shard)].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random(&self) -> u32 {
        mix(self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)) as u32
    }

    /// Ends a connection.
    pub(super) fn kill(&self, conn: &Arc<Conn>) {
        if conn.kill() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.tell(conn, News::Forgotten);
        }
    }

    fn put(&self, table: &mut Table, place: Place, dir: Dir, conn: &Arc<Conn>) {
        // What goes to itself has one key for both directions.
        if let Some(old) = table.put(place.hash, dir, Arc::clone(conn)).filter(|old| !Arc::ptr_eq(old, conn))
        {
            self.kill(&old);
        }
    }

    /// Takes packets through the tracker, in their order.
    pub fn track(&self, action: &Action, now: Instant, packets: &mut [Passage]) {
        let strict = self.strict.load(Ordering::Relaxed);
        let is_watched = self.watching.get().is_some();
        let run = Run { tracker: self, action, now, strict, is_watched };
        for group in packets.chunks_mut(GROUP) {
            run.group(group);
        }
    }
}

/// One action on a batch.
struct Run<'a> {
    tracker: &'a Tracker,
    action: &'a Action,
    now: Instant,
    strict: bool,
    is_watched: bool,
}

impl<'a> Run<'a> {
    fn group(&self, group: &mut [Passage]) {
        for packet in &mut *group {
            self.prepare(packet);
        }
        let mut next = 0;
        while next < group.len() {
            let mut held = self.hold(&group[next..]);
            while let Some(packet) = group.get_mut(next) {
                next += 1;
                if let Some(apart) = self.step(packet, &mut held) {
                    drop(held);
                    self.apart(packet, apart);
                    break;
                }
            }
        }
    }

    fn prepare(&self, packet: &mut Passage) {
        let zone = self.action.zone;
        if packet.tracked.zone != zone {
            packet.tracked.state = 0;
        }
        packet.natted = packet.tracked.state & NATTED != 0;
        if let Some(parsed) = &packet.parsed {
            let own = Key { zone: zone.0, ..parsed.key };
            packet.key = if packet.natted { own.reversed() } else { own };
            packet.place = packet.key.place(&self.tracker.seeds);
        }
    }

    /// Locks the shards of packets and asks for what will be looked at.
    fn hold(&self, packets: &[Passage]) -> Held<'a> {
        let mut shards: SmallVec<[u8; GROUP]> = packets.iter().map(|packet| packet.place.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        let mut held: Held<'a> = shards.into_iter().map(|shard| (shard, self.tracker.table(shard))).collect();
        if packets.len() > 1 {
            for packet in packets {
                if let Some(table) = table_of(&mut held, packet.place.shard) {
                    table.prefetch(packet.place.hash);
                }
            }
            for packet in packets {
                if let Some(table) = table_of(&mut held, packet.place.shard) {
                    table.prefetch_conn(packet.place.hash);
                }
            }
        }
        held
    }

    fn find<'t>(&self, table: &'t Table, place: Place, key: &Key) -> Option<(&'t Arc<Conn>, Dir)> {
        table.find(place.hash, key).filter(|(conn, _)| conn.is_live(self.now))
    }

    fn step(&self, packet: &mut Passage, held: &mut Held<'_>) -> Option<Apart> {
        let action = self.action;
        let again = |known: &mut Known| {
            known.conn.orig.zone == action.zone.0 && !action.force && known.conn.is_live(self.now)
        };
        if let Some(known) = packet.tracked.known.take_if(again) {
            self.again(packet, known);
            return None;
        }
        let Some(parsed) = packet.parsed else {
            *packet.tracked = Tracked::unknown(ct::INVALID, action.zone, None);
            return None;
        };
        let table = table_of(held, packet.place.shard)?;
        match self.find(table, packet.place, &packet.key) {
            Some((conn, dir)) => {
                let reply = (dir == Dir::Reply) != packet.natted;
                let wrong_way = action.force && reply;
                if !wrong_way && self.meet(packet, conn, reply, &parsed) {
                    return None;
                }
                self.tracker.kill(conn);
            }
            None if packet.natted && action.nat.is_none() && packet.tracked.orig.is_some() => {
                return Some(Apart::Origin);
            }
            None => {}
        }
        self.begin(packet, &parsed, table)
    }

    /// A packet that was tracked in this zone already.
    fn again(&self, packet: &mut Passage, known: Known) {
        let tracked = &mut *packet.tracked;
        let mut state = known.conn.state();
        (tracked.mark, tracked.label) = (state.mark, state.label);
        self.remember(tracked, &known.conn, &mut state);
        drop(state);
        if self.action.nat.is_some() {
            let inner = packet.parsed.and_then(|parsed| parsed.inner).filter(|_| known.related);
            translate(packet, &known.conn, known.reply, inner);
        } else {
            tracked.known = Some(known);
        }
    }

    /// A packet of a live connection; false if the connection ends with it and another begins.
    fn meet(&self, packet: &mut Passage, conn: &Arc<Conn>, reply: bool, parsed: &Parsed) -> bool {
        let before = packet.tracked.state;
        let direction = if reply { ct::REPLY_DIR } else { 0 };
        let mut inside = conn.state();
        let state = if parsed.inner.is_some() {
            before | ct::RELATED | direction
        } else {
            match inside.proto.update(&parsed.facts, reply, self.strict && !conn.was_away()) {
                Verdict::Invalid => ct::INVALID,
                Verdict::StillNew(timeout) => {
                    conn.lasts(self.until(timeout));
                    before | ct::NEW
                }
                Verdict::Established(timeout) => {
                    if let Some(timeout) = timeout {
                        conn.lasts(self.until(timeout));
                    }
                    before & !ct::NEW | ct::ESTABLISHED | direction
                }
                Verdict::Renewed => return false,
            }
        };
        let tracked = &mut *packet.tracked;
        tracked.state = state;
        self.fill(tracked, conn, &mut inside);
        let proto = (self.is_watched && parsed.inner.is_none()).then_some(inside.proto);
        drop(inside);
        if self.action.nat.is_some() {
            translate(packet, conn, reply, parsed.inner);
        } else {
            tracked.known = Some(Known { conn: Arc::clone(conn), reply, related: parsed.inner.is_some() });
        }
        if let Some(proto) = proto {
            self.watched(packet, conn, reply, &proto);
        }
        true
    }

    /// Writes down what is known of a packet of a connection, but for `ct_state`'s bits of its own.
    fn fill(&self, tracked: &mut Tracked, conn: &Arc<Conn>, state: &mut State) {
        tracked.state |= ct::TRACKED;
        tracked.zone = self.action.zone;
        (tracked.mark, tracked.label) = (state.mark, state.label);
        (tracked.orig, tracked.known) = (Some(conn.orig), None);
        self.remember(tracked, conn, state);
    }

    /// Sets mark and label as the action says.
    fn remember(&self, tracked: &mut Tracked, conn: &Arc<Conn>, state: &mut State) {
        let before = (state.mark, state.label);
        if let Some((value, mask)) = self.action.mark {
            tracked.mark = value | tracked.mark & !mask;
            state.mark = tracked.mark;
        }
        if let Some((value, mask)) = self.action.label {
            tracked.label = value | tracked.label & !mask;
            state.label = tracked.label;
        }
        if before != (state.mark, state.label) {
            self.tracker.tell(conn, News::Marked);
        }
    }

    /// Tells who watches of a connection that is established, or was.
    fn watched(&self, packet: &mut Passage, conn: &Arc<Conn>, reply: bool, proto: &Proto) {
        if !proto.is_steady() {
            if conn.is_watched() {
                self.tracker.tell(conn, News::Closing);
            }
            return;
        }
        let dir = if reply { Dir::Reply } else { Dir::Orig };
        if packet.first && packet.tracked.state & ct::ESTABLISHED != 0 && conn.ask(dir) {
            packet.asks = Some((Arc::clone(conn), dir));
        }
    }

    fn until(&self, timeout: Timeout) -> Instant {
        self.now + Duration::from_secs(default_seconds(timeout).into())
    }

    /// A packet without connection. `table` is the one of its key and of the reverse.
    fn begin(&self, packet: &mut Passage, parsed: &Parsed, table: &mut Table) -> Option<Apart> {
        let (own, zone) = (packet.own(), self.action.zone);
        let (place, reverse) = own.places(&self.tracker.seeds);
        let mut state = ct::INVALID;
        // No error begins a connection. A translated packet may have met another's key.
        if packet.natted && self.find(table, place, &own).is_some() {
            state = packet.tracked.state;
        } else if parsed.inner.is_none()
            && let Some((proto, timeout)) = Proto::begin(&parsed.facts)
        {
            state = ct::NEW;
            if self.action.commit && self.has_room() {
                if let Some(kind) = self.action.nat.and_then(|nat| nat.kind) {
                    return Some(Apart::Translate(kind, proto, timeout));
                }
                let conn = self.conn(own, own.reversed(), None, proto, timeout);
                // Answers that would be another's are that one's.
                if self.find(table, reverse, &conn.reply).is_none() {
                    self.tracker.put(table, reverse, Dir::Reply, &conn);
                }
                self.tracker.put(table, place, Dir::Orig, &conn);
                self.made(packet, &conn);
                return None;
            }
        }
        *packet.tracked = Tracked::unknown(state, zone, Some(own));
        None
    }

    /// Whether there may be one more connection.
    fn has_room(&self) -> bool {
        let room = self.tracker.count() < self.tracker.max.load(Ordering::Relaxed);
        if !room {
            self.tracker.counters.full.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    fn conn(&self, orig: Key, reply: Key, nat: Option<NatKind>, proto: Proto, timeout: Timeout) -> Arc<Conn> {
        let state = State { proto, mark: 0, label: 0 };
        Arc::new(Conn::new(orig, reply, nat, state, self.until(timeout)))
    }

    /// Counts a connection that is new with this packet.
    fn made(&self, packet: &mut Passage, conn: &Arc<Conn>) {
        self.tracker.count.fetch_add(1, Ordering::Relaxed);
        packet.tracked.state = ct::NEW;
        self.fill(&mut packet.tracked, conn, &mut conn.state());
        if self.action.nat.is_some() {
            translate(packet, conn, false, None);
        } else {
            packet.tracked.known = Some(Known { conn: Arc::clone(conn), reply: false, related: false });
        }
    }

    /// Does without the locks of a group what needs others.
    fn apart(&self, packet: &mut Passage, apart: Apart) {
        let Some(parsed) = packet.parsed else { return };
        match apart {
            Apart::Origin => self.by_origin(packet, &parsed),
            Apart::Translate(kind, proto, timeout) => self.commit_translated(packet, kind, proto, timeout),
        }
    }

    /// Finds the connection by the original direction that the packet remembers.
    fn by_origin(&self, packet: &mut Passage, parsed: &Parsed) {
        let Some(mut orig) = packet.tracked.orig else { return };
        if orig.is_icmp() && parsed.key.is_icmp() {
            let id = |to: u32| to & 0xffff | parsed.key.src_l4 & 0xffff_0000;
            (orig.src_l4, orig.dst_l4) = (id(orig.src_l4), id(orig.dst_l4));
        }
        orig.zone = self.action.zone.0;
        let place = orig.place(&self.tracker.seeds);
        let found = {
            let table = self.tracker.table(place.shard);
            self.find(&table, place, &orig).map(|(conn, _)| Arc::clone(conn))
        };
        if let Some(conn) = found {
            if self.meet(packet, &conn, false, parsed) {
                return;
            }
            self.tracker.kill(&conn);
        }
        let mut table = self.tracker.table(packet.place.shard);
        // Without translation, which it is not to be given, nothing is left that needs to be done apart.
        let _ = self.begin(packet, parsed, &mut table);
    }

    fn commit_translated(&self, packet: &mut Passage, kind: NatKind, proto: Proto, timeout: Timeout) {
        let Some(nat) = &self.action.nat else { return };
        let (tracker, own) = (self.tracker, packet.own());
        let mut claimed = None;
        nat.choose(kind, &own, tracker.basis, &mut || tracker.random(), |reply| {
            let place = reply.place(&tracker.seeds);
            let mut table = tracker.table(place.shard);
            let free = self.find(&table, place, reply).is_none();
            if free {
                let conn = self.conn(own, *reply, Some(kind), proto, timeout);
                tracker.put(&mut table, place, Dir::Reply, &conn);
                claimed = Some((conn, place));
            }
            free
        });
        let Some((conn, reply)) = claimed else {
            tracker.counters.exhausted.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                target: "conntrack", rl = "5,5",
                "Unable to NAT due to tuple space exhaustion - if DoS attack, use firewalling and/or zone partitioning."
            );
            *packet.tracked = Tracked::unknown(ct::NEW, self.action.zone, Some(own));
            return;
        };
        let place = own.place(&tracker.seeds);
        let mut table = tracker.table(place.shard);
        if self.find(&table, place, &own).is_some_and(|(found, _)| !Arc::ptr_eq(found, &conn)) {
            // Another worker had a packet of the same connection at the same time.
            drop(table);
            tracker.table(reply.shard).remove(reply.hash, Dir::Reply, &conn);
            *packet.tracked = Tracked::unknown(ct::NEW, self.action.zone, Some(own));
            return;
        }
        tracker.put(&mut table, place, Dir::Orig, &conn);
        drop(table);
        self.made(packet, &conn);
    }
}

/// Has the packet changed as its connection wants it, unless that is done.
fn translate(packet: &mut Passage, conn: &Conn, reply: bool, inner: Option<Inner>) {
    let Some(kind) = conn.nat.filter(|_| packet.tracked.state & NATTED == 0) else { return };
    let (kind, answer) = match (kind, reply) {
        (kind, false) => (kind, conn.reply),
        (NatKind::Src, true) => (NatKind::Dst, conn.orig),
        (NatKind::Dst, true) => (NatKind::Src, conn.orig),
    };
    packet.tracked.state |= match kind {
        NatKind::Src => ct::SRC_NAT,
        NatKind::Dst => ct::DST_NAT,
    };
    packet.translation = Some(Translation { kind, answer, inner });
}
