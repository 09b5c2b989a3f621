//! The collector: once a second it looks at a slice of the connections and of the rules in devices.
//!
//! Devices are walked in turn, a slice a step. A walk refreshes what is used, finds rules that nobody knows (a deletion that a
//! device lost, a predecessor's), and rules that are missing.

use std::hash::Hash;
use std::time::Duration;

use flow::time::Instant;

use super::rule::{Answer, Ticket};
use super::table::{Cause, Connection, Grown, Name, Request, Step, Table};

/// The time between two steps.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Connections looked at in a step, at least; and into how many steps a whole round is divided, at most.
const MIN_SLICE: usize = 4096;
const STEPS: usize = 4;
/// Rules that are walked over at a time: whoever else wants the table waits no longer than that takes.
const CHUNK: usize = 1024;

/// A rule as a walk tells of it.
#[derive(Clone, Debug)]
pub struct Seen<R> {
    pub name: Name,
    pub packets: u64,
    pub bytes: u64,
    /// Enough of it to delete it.
    pub rule: R,
}

/// How a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walked {
    More,
    /// All rules were seen.
    End,
    /// It was cut short, and says nothing of the rules that it did not come to.
    Broken,
}

/// An answer to a request.
pub type Reply = (Ticket, Name, Answer);

/// Devices that have rules. Answers come when they come.
pub trait Nic {
    type Rule;

    /// Begins a request.
    fn send(&mut self, request: Request<Self::Rule>);

    /// Lets what was begun go out.
    fn flush(&mut self);

    /// Answers that came.
    fn receive(&mut self) -> Vec<Reply>;

    /// Goes on with a walk over a device's rules, or begins one: about `budget` rules.
    fn walk(&mut self, port: u32, budget: usize, each: &mut dyn FnMut(Seen<Self::Rule>)) -> Walked;
}

/// Where connections come from.
pub trait Source {
    type Conn: Clone + Eq + Hash;
    type Rule;

    /// Why a connection is to leave hardware, if it is.
    fn cause(&self, connection: &Connection<Self::Conn, Self::Rule>) -> Option<Cause>;

    /// A rule counted packets.
    fn grown(&mut self, grown: Grown<Self::Conn, Self::Rule>);

    /// No device has anything of a connection any more.
    fn freed(&mut self, conn: Self::Conn, cause: Cause);

    /// A direction that devices refused may be offered again.
    fn rested(&mut self, conn: Self::Conn, dir: usize);
}

/// Moves requests, answers and what is freed between a table and those who have to do with them.
pub fn pump<S: Source>(
    table: &mut Table<S::Conn, S::Rule>,
    nic: &mut impl Nic<Rule = S::Rule>,
    source: &mut S,
    now: Instant,
) {
    for (ticket, name, answer) in nic.receive() {
        table.answer(ticket, name, answer, now);
    }
    while let Some(request) = table.next(now) {
        nic.send(request);
    }
    nic.flush();
    for (conn, dir) in table.take_rested() {
        source.rested(conn, dir);
    }
    for (conn, cause) in table.take_freed() {
        source.freed(conn, cause);
    }
}

/// Where the collector is.
#[derive(Debug)]
pub struct Gc {
    next: Instant,
    /// Rules that this step is still to walk over.
    owed: usize,
    /// The device that is walked.
    walking: Option<u32>,
    last: Option<u32>,
    pub steps: u64,
    pub walks: u64,
    pub missing: u64,
    pub latest: Step,
}

impl Gc {
    pub const fn new(now: Instant) -> Self {
        let latest = Step { looked: 0, expired: 0, dying: 0, teardown: 0 };
        Self { next: now, owed: 0, walking: None, last: None, steps: 0, walks: 0, missing: 0, latest }
    }

    /// When the next step is to be taken, or the rest of this one.
    pub const fn due(&self) -> Instant {
        if self.is_at_it() { Instant::ZERO } else { self.next }
    }

    /// A step, or a part of it.
    pub fn step<S: Source>(
        &mut self,
        table: &mut Table<S::Conn, S::Rule>,
        nic: &mut impl Nic<Rule = S::Rule>,
        source: &mut S,
        ports: &[u32],
        now: Instant,
    ) -> Step {
        if self.owed == 0 {
            self.next = now + INTERVAL;
            self.owed = (table.rules() / STEPS).max(MIN_SLICE);
        }
        let chunk = self.owed.min(CHUNK);
        self.owed -= chunk;
        if !self.walk(table, nic, source, (ports, chunk), now) {
            self.owed = 0;
        }
        if self.owed == 0 {
            self.steps += 1;
            let slice = (table.len() / STEPS).max(MIN_SLICE);
            self.latest = table.step(now, slice, |connection| source.cause(connection));
        }
        self.latest
    }

    /// Whether a step is begun and not done.
    pub const fn is_at_it(&self) -> bool {
        self.owed > 0
    }

    /// Walks on, over so many rules; whether there are more.
    fn walk<S: Source>(
        &mut self,
        table: &mut Table<S::Conn, S::Rule>,
        nic: &mut impl Nic<Rule = S::Rule>,
        source: &mut S,
        (ports, mut left): (&[u32], usize),
        now: Instant,
    ) -> bool {
        for _ in 0..ports.len() {
            let going_on = self.walking.filter(|port| ports.contains(port));
            let next =
                || ports.iter().copied().find(|port| Some(*port) > self.last).or(ports.first().copied());
            let Some(port) = going_on.or_else(next) else { return false };
            if going_on.is_none() {
                table.walk_begins(port, now);
            }
            (self.walking, self.last) = (Some(port), Some(port));
            let mut seen = 0;
            let walked = nic.walk(port, left, &mut |rule: Seen<S::Rule>| {
                seen += 1;
                table.walk_saw(rule.name, now, || rule.rule);
                if let Some(grown) = table.count(rule.name, rule.packets, rule.bytes, now) {
                    source.grown(grown);
                }
            });
            match walked {
                Walked::More => return true,
                Walked::End => {
                    self.walks += 1;
                    self.missing += table.walk_ends(port, now) as u64;
                }
                Walked::Broken => table.walk_breaks(port),
            }
            self.walking = None;
            left = left.saturating_sub(seen);
            if left == 0 {
                return true;
            }
        }
        false
    }
}
