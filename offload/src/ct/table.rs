//! The connections that are, or shall be, in hardware: a rule for each direction.
//!
//! Without I/O: [`Table::next`] gives requests, [`Table::answer`] takes answers, in whatever order and however late they come.
//! A connection is freed ([`Table::take_freed`]) when none of its rules is in a device any more and a device said so.
//! Names of rules are unique among all that are not confirmed to be gone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use flow::time::Instant;
use serde::Serialize;

use super::rule::{Answer, Event, Outcome, Progress, State, Ticket, What};

/// Connections, leftovers in devices included.
pub const MAX_CONNECTIONS: usize = 1 << 20;
/// Requests that are out at the same time.
pub const MAX_IN_FLIGHT: usize = 1024;
/// Handles of connections' rules are these and those above: flows' are below.
pub const FIRST_HANDLE: u32 = 1 << 31;
/// How long a connection stays in software that devices refused.
pub const COOL_DOWN: Duration = Duration::from_secs(30);

/// What names a rule: its device, and a number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Name {
    pub port: u32,
    pub handle: u32,
}

/// A request to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request<R> {
    pub ticket: Ticket,
    pub name: Name,
    pub what: What,
    pub rule: Arc<R>,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident = $text:literal),* $(,)?) => {
        /// Why a connection leaves hardware.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Cause { $($(#[$doc])* $cause),* }

        impl Cause {
            pub const ALL: &[Self] = &[$(Self::$cause),*];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$cause => $text),* }
            }
        }
    };
}

causes! {
    /// FIN, RST.
    Closed = "closed",
    /// No packet for as long as its protocol allows.
    Idle = "idle",
    /// The tracker forgot it.
    Flushed = "flushed",
    /// Its mark or label is another.
    Changed = "changed",
    /// A flow that its packets take is another, or gone.
    Policy = "policy",
    /// A port that it uses is gone.
    Port = "port",
    /// Devices refused its rules.
    Refused = "refused",
    /// Somebody took a rule of it.
    Vanished = "vanished",
    /// Somebody asked for it, or the program ends.
    Asked = "asked",
    /// An earlier process left it.
    Leftover = "leftover",
}

/// What of a connection is to be in hardware.
#[derive(Clone, Debug)]
pub struct Wish<R> {
    pub zone: u16,
    /// 0 for the original direction, 1 for the reply.
    pub dir: usize,
    pub port: u32,
    pub rule: Arc<R>,
    /// How long the connection lives without packets.
    pub idle: Duration,
}

/// Why a wish is not taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Full {
    #[error("the table is full")]
    Table,
    #[error("the connection is on its way out of hardware")]
    Dying,
    #[error("the direction has a rule")]
    Twice,
    #[error("refused a short time ago")]
    Refused,
}

/// A rule of a connection.
#[derive(Debug)]
pub struct Rule<R> {
    pub name: Name,
    pub rule: Arc<R>,
    pub progress: Progress,
    pub packets: u64,
    pub bytes: u64,
    /// When its state began.
    since: Instant,
    /// The walk that saw it last.
    seen: u64,
    queued: Option<(Queue, Instant)>,
}

/// A connection; without `token` a leftover.
#[derive(Debug)]
pub struct Connection<T, R> {
    pub token: Option<T>,
    pub zone: u16,
    pub rules: [Option<Rule<R>>; 2],
    pub ending: Option<Cause>,
    /// Why a direction is in software, until when.
    pub software: [Option<(String, Instant)>; 2],
    idle: Duration,
    used: Instant,
}

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// On its way into hardware.
    Pending,
    /// At least one direction is there.
    InHardware,
    /// On its way out.
    Dying,
    /// Refused in the directions that were asked for.
    Software,
}

impl<T, R> Connection<T, R> {
    pub fn stage(&self) -> Stage {
        let in_hardware = |rule: &Rule<R>| rule.progress.was_in && !rule.progress.doomed;
        if self.ending.is_some() {
            Stage::Dying
        } else if self.rules.iter().flatten().any(in_hardware) {
            Stage::InHardware
        } else if self.is_empty() && self.software.iter().any(Option::is_some) {
            Stage::Software
        } else {
            Stage::Pending
        }
    }

    fn new(token: Option<T>, zone: u16, idle: Duration, now: Instant) -> Self {
        let software = [None, None];
        Self { token, zone, rules: [None, None], ending: None, software, idle, used: now }
    }

    /// Whether nothing of it is in a device or on its way.
    fn is_empty(&self) -> bool {
        self.rules.iter().all(Option::is_none)
    }
}

/// What was done so far.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Totals {
    /// Rules that came into devices, and left them.
    pub pushed: u64,
    pub deleted: u64,
    /// Insertions that were refused, and rules given up for it.
    pub refused: u64,
    pub gave_up: u64,
    /// Deletions that had to be repeated.
    pub delete_failed: u64,
    /// Requests that were not answered in time, and answers that came after that.
    pub unanswered: u64,
    pub late: u64,
    /// Wishes for which there was no room.
    pub full: u64,
    /// Connections that left, by cause.
    pub ended: BTreeMap<Cause, u64>,
    pub freed: u64,
}

/// What one step of the collector found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    pub looked: usize,
    pub expired: usize,
    /// Ended for other causes.
    pub dying: usize,
    /// Rules being torn down now.
    pub teardown: usize,
}

/// New packets and bytes of a rule.
#[derive(Clone, Debug)]
pub struct Grown<T, R> {
    pub token: T,
    pub dir: usize,
    pub rule: Arc<R>,
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Default, Debug)]
struct WalkMark {
    id: u64,
    began: Instant,
    is_on: bool,
    /// Handles of rules that went meanwhile: the walk may still tell of them.
    gone: HashSet<u32>,
}

/// A rule by its connection's slot and its direction.
type At = (u32, u8);

/// What a rule waits for: that a request can go out, or for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Queue {
    Requests,
    Answers,
}

/// Rules by when they go on.
type Due = BTreeSet<(Instant, At)>;

/// The connections.
pub struct Table<T, R> {
    slots: Vec<Option<Connection<T, R>>>,
    free: Vec<u32>,
    by_token: HashMap<T, u32>,
    by_name: HashMap<Name, At>,
    /// By [`Queue`].
    due: [Due; 2],
    in_flight: usize,
    tickets: u64,
    handles: u32,
    walks: HashMap<u32, WalkMark>,
    /// Not told yet.
    freed: HashMap<T, Cause>,
    /// Directions that rested in software long enough; not told yet.
    rested: Vec<(T, usize)>,
    cursor: usize,
    /// Devices that were to have rules; not told yet.
    used: BTreeSet<u32>,
    pub totals: Totals,
}

impl<T: Clone + Eq + Hash, R> Table<T, R> {
    /// Handles begin behind `seed`, so that they are not those of an earlier process.
    pub fn new(seed: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_token: HashMap::new(),
            by_name: HashMap::new(),
            due: Default::default(),
            in_flight: 0,
            tickets: 0,
            handles: seed,
            walks: HashMap::new(),
            freed: HashMap::new(),
            rested: Vec::new(),
            cursor: 0,
            used: BTreeSet::new(),
            totals: Totals::default(),
        }
    }

    /// Connections and leftovers.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rules that are not confirmed to be gone.
    pub fn rules(&self) -> usize {
        self.by_name.len()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Every connection.
    pub fn connections(&self) -> impl Iterator<Item = &Connection<T, R>> {
        self.slots.iter().flatten()
    }

    /// How many connections are where.
    pub fn stages(&self) -> BTreeMap<Stage, usize> {
        let mut stages = BTreeMap::new();
        for connection in self.connections() {
            *stages.entry(connection.stage()).or_default() += 1;
        }
        stages
    }

    fn place(&mut self, connection: Connection<T, R>) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        if let Some(token) = &connection.token {
            self.by_token.insert(token.clone(), slot);
        }
        self.slots[slot as usize] = Some(connection);
        slot
    }

    fn new_name(&mut self, port: u32) -> Name {
        loop {
            self.handles = self.handles.wrapping_add(1) | FIRST_HANDLE;
            let name = Name { port, handle: self.handles };
            if !self.by_name.contains_key(&name) {
                return name;
            }
        }
    }

    /// Takes a wish.
    ///
    /// # Errors
    /// There is no room for it, or no place at this time.
    pub fn offer(&mut self, token: &T, wish: Wish<R>, now: Instant) -> Result<(), Full> {
        let dir = usize::from(wish.dir != 0);
        let slot = match self.by_token.get(token) {
            Some(&slot) => {
                let there = self.slots[slot as usize].as_mut();
                match there {
                    Some(there) if there.ending.is_some() => return Err(Full::Dying),
                    Some(there) if there.software[dir].is_some() => return Err(Full::Refused),
                    Some(there) if there.rules[dir].is_some() => return Err(Full::Twice),
                    Some(there) => there.idle = wish.idle,
                    None => {}
                }
                slot
            }
            None if self.freed.contains_key(token) => return Err(Full::Dying),
            None if self.len() >= MAX_CONNECTIONS => {
                self.totals.full += 1;
                return Err(Full::Table);
            }
            None => self.place(Connection::new(Some(token.clone()), wish.zone, wish.idle, now)),
        };
        let name = self.new_name(wish.port);
        self.put(slot, dir, name, wish.rule, Progress::wanted(now), now);
        Ok(())
    }

    fn put(&mut self, slot: u32, dir: usize, name: Name, rule: Arc<R>, progress: Progress, now: Instant) {
        let Some(connection) = &mut self.slots[slot as usize] else { return };
        let rule = Rule { name, rule, progress, packets: 0, bytes: 0, since: now, seen: 0, queued: None };
        connection.rules[dir] = Some(rule);
        connection.used = now;
        self.used.insert(name.port);
        self.by_name.insert(name, (slot, dir as u8));
        self.schedule((slot, dir as u8));
    }

    fn rule(&mut self, (slot, dir): At) -> Option<&mut Rule<R>> {
        self.slots.get_mut(slot as usize)?.as_mut()?.rules[usize::from(dir)].as_mut()
    }

    /// Sees to it that a rule's next step is taken when it is time.
    fn schedule(&mut self, at: At) {
        let Some(rule) = self.rule(at) else { return };
        let queue = if rule.progress.ticket().is_some() { Queue::Answers } else { Queue::Requests };
        let new = rule.progress.due().map(|due| (queue, due));
        let old = std::mem::replace(&mut rule.queued, new);
        if old == new {
            return;
        }
        if let Some((queue, due)) = old {
            self.due[queue as usize].remove(&(due, at));
        }
        if let Some((queue, due)) = new {
            self.due[queue as usize].insert((due, at));
        }
    }

    fn first(&self, queue: Queue) -> Option<(Instant, At)> {
        self.due[queue as usize].first().copied()
    }

    /// Notes why a direction of a connection stays in software for a time, if it has no rule.
    pub fn refuse(&mut self, token: &T, (zone, dir): (u16, usize), why: String, now: Instant) {
        let slot = match self.by_token.get(token) {
            Some(&slot) => slot,
            None if self.freed.contains_key(token) => return,
            None if self.len() >= MAX_CONNECTIONS => {
                self.totals.full += 1;
                return;
            }
            None => self.place(Connection::new(Some(token.clone()), zone, Duration::MAX, now)),
        };
        let dir = usize::from(dir != 0);
        if let Some(there) = self.slots[slot as usize].as_mut().filter(|there| there.rules[dir].is_none()) {
            there.software[dir] = Some((why, now + COOL_DOWN));
        }
    }

    /// When there is something to do next.
    pub fn due(&self) -> Option<Instant> {
        let requests = self.first(Queue::Requests).filter(|_| self.in_flight < MAX_IN_FLIGHT);
        requests.into_iter().chain(self.first(Queue::Answers)).map(|(at, _)| at).min()
    }

    /// The next request, if it is time for one and not too many are out.
    pub fn next(&mut self, now: Instant) -> Option<Request<R>> {
        while let Some((_, at)) = self.first(Queue::Answers).filter(|(due, _)| *due <= now) {
            self.totals.unanswered += 1;
            self.in_flight -= 1;
            self.apply(at, Event::Late, now);
        }
        if self.in_flight >= MAX_IN_FLIGHT {
            return None;
        }
        let (_, at) = self.first(Queue::Requests).filter(|(due, _)| *due <= now)?;
        let rule = self.rule(at)?;
        let (what, name, body) = (rule.progress.request()?, rule.name, Arc::clone(&rule.rule));
        self.tickets += 1;
        self.in_flight += 1;
        let ticket = Ticket(self.tickets);
        self.apply(at, Event::Sent(ticket), now);
        Some(Request { ticket, name, what, rule: body })
    }

    /// Takes an answer.
    pub fn answer(&mut self, ticket: Ticket, name: Name, answer: Answer, now: Instant) {
        let at = self.by_name.get(&name).copied();
        let waiting = at.and_then(|at| self.rule(at)?.progress.ticket());
        match at {
            Some(at) if waiting == Some(ticket) => {
                self.in_flight -= 1;
                self.apply(at, Event::Answered(answer), now);
            }
            _ => self.totals.late += 1,
        }
    }

    fn apply(&mut self, at: At, event: Event, now: Instant) {
        let Some(rule) = self.rule(at) else { return };
        let before = rule.progress.state;
        let dropped = matches!((before, &event), (State::Reading(..), Event::Doom));
        let outcome = rule.progress.on(event, now);
        if std::mem::discriminant(&before) != std::mem::discriminant(&rule.progress.state) {
            rule.since = now;
        }
        let (gone, was_in) = (rule.progress.is_gone(), rule.progress.was_in);
        self.in_flight -= usize::from(dropped);
        self.schedule(at);
        match &outcome {
            Outcome::Pushed => self.totals.pushed += 1,
            Outcome::Refused(_) => self.totals.refused += 1,
            Outcome::GaveUp(_) => {
                self.totals.refused += 1;
                self.totals.gave_up += 1;
            }
            Outcome::DeleteFailed(why) => {
                self.totals.delete_failed += 1;
                tracing::info!(target: "dpif_offload", rl = "1,5", "a connection's rule stays for now: {why}");
            }
            Outcome::Gone | Outcome::Vanished => self.totals.deleted += u64::from(was_in),
            Outcome::Nothing => {}
        }
        if gone {
            self.left(at, outcome, now);
        }
    }

    /// A rule is gone for sure.
    fn left(&mut self, (slot, dir): At, outcome: Outcome, now: Instant) {
        let Some(connection) = self.slots[slot as usize].as_mut() else { return };
        let Some(rule) = connection.rules[usize::from(dir)].take() else { return };
        self.by_name.remove(&rule.name);
        if let Some(mark) = self.walks.get_mut(&rule.name.port).filter(|mark| mark.is_on) {
            mark.gone.insert(rule.name.handle);
        }
        if connection.ending.is_some() {
            if connection.is_empty() {
                self.release(slot);
            }
            return;
        }
        match outcome {
            Outcome::GaveUp(why) => connection.software[usize::from(dir)] = Some((why, now + COOL_DOWN)),
            _ => self.end_slot(slot, Cause::Vanished, now),
        }
    }

    fn release(&mut self, slot: u32) {
        let Some(connection) = self.slots[slot as usize].take() else { return };
        self.free.push(slot);
        self.totals.freed += 1;
        if let Some(token) = connection.token {
            self.by_token.remove(&token);
            self.freed.insert(token, connection.ending.unwrap_or(Cause::Refused));
        }
    }

    /// Connections that no device has any more, and why they left.
    pub fn take_freed(&mut self) -> HashMap<T, Cause> {
        std::mem::take(&mut self.freed)
    }

    /// Devices that got rules, or were found to have some, since this was asked for the last time: whether or not they still have any.
    pub fn take_used(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.used)
    }

    /// Directions that may be offered again, though they were refused.
    pub fn take_rested(&mut self) -> Vec<(T, usize)> {
        std::mem::take(&mut self.rested)
    }

    /// Lets directions of a connection be offered again that were refused long enough ago. Whether nothing of the connection is left
    /// to be kept.
    fn rest(&mut self, slot: u32, now: Instant) -> bool {
        let Some(there) = self.slots[slot as usize].as_mut() else { return false };
        for (dir, software) in there.software.iter_mut().enumerate() {
            if software.take_if(|(_, until)| *until <= now).is_some() {
                self.rested.extend(there.token.clone().map(|token| (token, dir)));
            }
        }
        there.is_empty() && there.software.iter().all(Option::is_none)
    }

    fn end_slot(&mut self, slot: u32, cause: Cause, now: Instant) {
        let Some(connection) = self.slots[slot as usize].as_mut() else { return };
        if connection.ending.is_some() {
            return;
        }
        connection.ending = Some(cause);
        *self.totals.ended.entry(cause).or_default() += 1;
        if connection.is_empty() {
            return self.release(slot);
        }
        for dir in 0..2 {
            self.apply((slot, dir), Event::Doom, now);
        }
    }

    /// Takes a connection out of hardware. Whether it was there, or on its way.
    pub fn end(&mut self, token: &T, cause: Cause, now: Instant) -> bool {
        let Some(&slot) = self.by_token.get(token) else { return false };
        self.end_slot(slot, cause, now);
        true
    }

    /// Takes out all connections for which there is a cause.
    pub fn end_where(
        &mut self,
        now: Instant,
        mut cause: impl FnMut(&Connection<T, R>) -> Option<Cause>,
    ) -> usize {
        let mut ended = 0;
        for slot in 0..self.slots.len() {
            let why = self.slots[slot].as_ref().filter(|there| there.ending.is_none());
            if let Some(why) = why.and_then(&mut cause) {
                self.end_slot(slot as u32, why, now);
                ended += 1;
            }
        }
        ended
    }

    /// The collector: looks at up to `budget` slots, going on where it was, and ends what is idle or has a `cause` to end.
    pub fn step(
        &mut self,
        now: Instant,
        budget: usize,
        mut cause: impl FnMut(&Connection<T, R>) -> Option<Cause>,
    ) -> Step {
        let mut step = Step::default();
        for _ in 0..budget.min(self.slots.len()) {
            self.cursor = (self.cursor + 1) % self.slots.len();
            let rested = self.rest(self.cursor as u32, now);
            let Some(there) = &self.slots[self.cursor] else { continue };
            step.looked += 1;
            if there.ending.is_some() {
                step.teardown += there.rules.iter().flatten().count();
                continue;
            }
            let idle = !there.is_empty() && now.since(there.used) >= there.idle;
            let idle = || idle.then_some(Cause::Idle);
            let why = if rested { Some(Cause::Refused) } else { cause(there).or_else(idle) };
            if let Some(why) = why {
                if why == Cause::Idle {
                    step.expired += 1;
                } else {
                    step.dying += 1;
                }
                self.end_slot(self.cursor as u32, why, now);
            }
        }
        step
    }

    /// The device counts so many packets and bytes of a rule; what is new, if it grew. What shrinks
    /// says nothing until it has grown beyond what it was.
    pub fn count(&mut self, name: Name, packets: u64, bytes: u64, now: Instant) -> Option<Grown<T, R>> {
        let &(slot, dir) = self.by_name.get(&name)?;
        let connection = self.slots[slot as usize].as_mut()?;
        let rule = connection.rules[usize::from(dir)].as_mut()?;
        let (new_packets, new_bytes) =
            (packets.saturating_sub(rule.packets), bytes.saturating_sub(rule.bytes));
        (rule.packets, rule.bytes) = (packets.max(rule.packets), bytes.max(rule.bytes));
        if new_packets == 0 && new_bytes == 0 {
            return None;
        }
        connection.used = now;
        let token = connection.token.clone()?;
        let (dir, rule) = (usize::from(dir), Arc::clone(&rule.rule));
        Some(Grown { token, dir, rule, packets: new_packets, bytes: new_bytes })
    }

    /// A connection's packets were seen elsewhere.
    pub fn touch(&mut self, token: &T, now: Instant) {
        let slot = self.by_token.get(token).copied();
        if let Some(Some(connection)) = slot.map(|slot| &mut self.slots[slot as usize]) {
            connection.used = now;
        }
    }

    /// A walk over the rules of a device begins.
    pub fn walk_begins(&mut self, port: u32, now: Instant) {
        let mark = self.walks.entry(port).or_default();
        *mark = WalkMark { id: mark.id + 1, began: now, is_on: true, gone: HashSet::new() };
    }

    /// A walk was cut short.
    pub fn walk_breaks(&mut self, port: u32) {
        if let Some(mark) = self.walks.get_mut(&port) {
            (mark.is_on, mark.gone) = (false, HashSet::new());
        }
    }

    /// A walk came by a rule of ours: one that nobody knows is a leftover, and is deleted.
    pub fn walk_saw(&mut self, name: Name, now: Instant, leftover: impl FnOnce() -> R) {
        let mark = self.walks.get(&name.port);
        let (id, gone) = mark.map_or((0, false), |mark| (mark.id, mark.gone.contains(&name.handle)));
        match self.by_name.get(&name).copied() {
            Some(at) => {
                self.rule(at).into_iter().for_each(|rule| rule.seen = id);
            }
            None if gone => {}
            None if self.len() >= MAX_CONNECTIONS => self.totals.full += 1,
            None => {
                let mut connection = Connection::new(None, 0, Duration::ZERO, now);
                connection.ending = Some(Cause::Leftover);
                *self.totals.ended.entry(Cause::Leftover).or_default() += 1;
                let slot = self.place(connection);
                self.put(slot, 0, name, Arc::new(leftover()), Progress::orphan(now), now);
            }
        }
    }

    /// A walk over all rules of a device is over: those that were in hardware before it began and were not seen are asked for.
    pub fn walk_ends(&mut self, port: u32, now: Instant) -> usize {
        let Some(mark) = self.walks.get(&port) else { return 0 };
        let missing = |(name, at): (&Name, &At)| {
            let rule = self.slots[at.0 as usize].as_ref()?.rules[usize::from(at.1)].as_ref()?;
            let old = rule.progress.state == State::InHardware && rule.since < mark.began;
            (name.port == port && old && rule.seen != mark.id).then_some(*at)
        };
        let missing: Vec<At> = self.by_name.iter().filter_map(missing).collect();
        self.walk_breaks(port);
        missing.iter().for_each(|at| self.apply(*at, Event::Missing, now));
        missing.len()
    }
}

#[cfg(test)]
mod tests;
