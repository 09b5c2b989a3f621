//! Fairness between the ports whose upcalls one handler answers: pools of tokens.
//!
//! # Where the token is taken
//!
//! With per-CPU dispatch a handler has one socket, into which the kernel puts the upcalls of all ports whose packets came in
//! on its CPU, in order of arrival. Whoever misses most fills it, and what comes when it is full is lost, whoever's it is. So
//! a handler empties its socket *before* it answers anything, and takes a token for each message right after it was read,
//! when nothing of it was looked at but the port ([`Fair::offer`]): a message without a token costs its read and no more. It
//! then answers a few upcalls ([`Fair::take`]) and empties the socket again. The same holds where every port has a socket of
//! its own (before Linux 5.15), where the kernel keeps ports apart already.
//!
//! # What a token is
//!
//! A token is the right to wait. It is given back when the upcall is taken to be answered, so there is no rate to
//! configure: a port that is alone has the whole handler, and several that want more than there is share it in turn, one
//! upcall each. Every port has [`RESERVED`] tokens of its own; what it needs beyond them it borrows from [`COMMON`] ones,
//! up to [`MOST`] together. A noisy port thus fills its own queue and is dropped from there on, while another's upcall finds
//! a token of its own, and waits for one upcall of each busy port per upcall of its own before it.
//!
//! A port that goes on missing much more often than its turn comes is cut back where its upcalls arise (`sieve.rs`).
//!
//! Nothing here reads a clock or a socket.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use flow::id::DpPort;
use flow::time::Instant;
use serde::{Serialize, Serializer};

/// Tokens that each port has for itself.
pub const RESERVED: usize = 64;
/// Tokens that all ports of a handler may borrow from.
pub const COMMON: usize = 4096;
/// Tokens that one port may hold.
pub const MOST: usize = 1024;
/// Ports that a handler tells apart; those that come when there are so many, and none is idle, share one pool.
pub const PORTS: usize = 4096;

/// How many tokens there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub reserved: usize,
    pub common: usize,
    pub most: usize,
    pub ports: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { reserved: RESERVED, common: COMMON, most: MOST, ports: PORTS }
    }
}

/// What became of one port's upcalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct PortFigures {
    /// [`DpPort::NONE`] for those that share a pool.
    #[serde(serialize_with = "number")]
    pub port: DpPort,
    /// Upcalls that found a token.
    pub admitted: u64,
    /// Upcalls that found none and were dropped.
    pub dropped: u64,
    /// Upcalls that the kernel dropped before they were read, about, because the port had too many without a token.
    pub sieved: u64,
    /// Upcalls that wait: tokens that the port holds.
    pub waiting: usize,
    /// Most tokens that it held at once.
    pub most_waiting: usize,
    /// Longest time for which one of its upcalls waited to be answered.
    #[serde(rename = "longest_wait_us", serialize_with = "micros")]
    pub longest_wait: Duration,
}

/// One handler's pools.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Figures {
    pub waiting: usize,
    /// Common tokens that nobody borrowed.
    pub common_free: usize,
    /// By number.
    pub ports: Vec<PortFigures>,
}

fn number<S: Serializer>(port: &DpPort, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u32(port.0)
}

fn micros<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

struct Pool<T> {
    queue: VecDeque<(Instant, T)>,
    admitted: u64,
    dropped: u64,
    sieved: u64,
    most_waiting: usize,
    longest_wait: Duration,
    last: Instant,
}

impl<T> Pool<T> {
    fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            admitted: 0,
            dropped: 0,
            sieved: 0,
            most_waiting: 0,
            longest_wait: Duration::ZERO,
            last: now,
        }
    }

    fn figures(&self, port: DpPort) -> PortFigures {
        PortFigures {
            port,
            admitted: self.admitted,
            dropped: self.dropped,
            sieved: self.sieved,
            waiting: self.queue.len(),
            most_waiting: self.most_waiting,
            longest_wait: self.longest_wait,
        }
    }
}

/// The upcalls that wait for one handler, by port.
pub struct Fair<T> {
    limits: Limits,
    pools: BTreeMap<DpPort, Pool<T>>,
    /// Ports with upcalls, in the order in which they are served.
    turns: VecDeque<DpPort>,
    common_free: usize,
    waiting: usize,
    dropped: u64,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl<T> Fair<T> {
    /// Nothing waits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pools: BTreeMap::new(),
            turns: VecDeque::new(),
            common_free: limits.common,
            waiting: 0,
            dropped: 0,
        }
    }

    /// Upcalls that wait.
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits.
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Takes a token for an upcall of `port` that was just read, and keeps the upcall until its turn.
    ///
    /// # Errors
    /// Gives the upcall back if there is no token: drop it. It is counted.
    pub fn offer(&mut self, port: DpPort, upcall: T, now: Instant) -> Result<(), T> {
        let limits = self.limits;
        let port = self.known(port, now);
        let pool = self.pools.entry(port).or_insert_with(|| Pool::new(now));
        pool.last = now;
        let held = pool.queue.len();
        let borrows = held >= limits.reserved;
        if held >= limits.most || borrows && self.common_free == 0 {
            pool.dropped += 1;
            self.dropped += 1;
            return Err(upcall);
        }
        self.common_free -= usize::from(borrows);
        self.waiting += 1;
        if held == 0 {
            self.turns.push_back(port);
        }
        pool.queue.push_back((now, upcall));
        pool.admitted += 1;
        pool.most_waiting = pool.most_waiting.max(held + 1);
        Ok(())
    }

    /// Gives back the token of the upcall whose turn it is, for it to be answered now.
    pub fn take(&mut self, now: Instant) -> Option<(DpPort, T)> {
        let port = self.turns.pop_front()?;
        let pool = self.pools.get_mut(&port)?;
        let (since, upcall) = pool.queue.pop_front()?;
        pool.longest_wait = pool.longest_wait.max(now.since(since));
        self.waiting -= 1;
        let held = pool.queue.len();
        self.common_free += usize::from(held >= self.limits.reserved);
        if held > 0 {
            self.turns.push_back(port);
        }
        Some((port, upcall))
    }

    /// Forgets a port that is gone, with what waits for it; returns how many upcalls waited.
    pub fn forget(&mut self, port: DpPort) -> usize {
        let Some(pool) = self.pools.remove(&port) else { return 0 };
        let held = pool.queue.len();
        self.turns.retain(|turn| *turn != port);
        self.common_free += held.saturating_sub(self.limits.reserved);
        self.waiting -= held;
        held
    }

    /// Upcalls that found no token, of all ports.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The ports of which upcalls found no token: how many found one, and how many did not.
    pub fn read(&self) -> impl Iterator<Item = (DpPort, u64, u64)> {
        let noisy = self.pools.iter().filter(|(_, pool)| pool.dropped > 0);
        noisy.map(|(port, pool)| (*port, pool.admitted, pool.dropped))
    }

    /// Counts upcalls of a port that were not even read.
    pub fn note_sieved(&mut self, port: DpPort, upcalls: u64) {
        if let Some(pool) = self.pools.get_mut(&port) {
            pool.sieved += upcalls;
        }
    }

    /// What became of upcalls so far.
    pub fn figures(&self) -> Figures {
        let mut ports: Vec<_> = self.pools.iter().map(|(port, pool)| pool.figures(*port)).collect();
        ports.sort_by_key(|figures| figures.port);
        Figures { waiting: self.waiting, common_free: self.common_free, ports }
    }

    /// The pool that `port` uses: its own, if there is one or room for one.
    fn known(&mut self, port: DpPort, now: Instant) -> DpPort {
        if self.pools.contains_key(&port) || self.pools.len() < self.limits.ports {
            return port;
        }
        // Here at most once per new port, when there are thousands: looking at all of them is cheap enough.
        let idle = self.pools.iter().filter(|(_, pool)| pool.queue.is_empty() && pool.last < now);
        match idle.min_by_key(|(_, pool)| pool.last).map(|(port, _)| *port) {
            Some(idle) => {
                self.forget(idle);
                port
            }
            None => DpPort::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { reserved: 2, common: 4, most: 5, ports: 3 };

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn ports_take_turns_and_tokens() {
        let mut fair = Fair::new(LIMITS);
        for n in 0..7 {
            assert_eq!(fair.offer(DpPort(1), n, at(0)), if n < 5 { Ok(()) } else { Err(n) });
        }
        assert_eq!(fair.offer(DpPort(2), 10, at(1)), Ok(()));
        assert_eq!(fair.offer(DpPort(2), 11, at(1)), Ok(()));
        assert_eq!(fair.offer(DpPort(2), 12, at(1)), Ok(()));
        assert_eq!(fair.offer(DpPort(2), 13, at(1)), Err(13));
        let order: Vec<_> = std::iter::from_fn(|| fair.take(at(3))).collect();
        let one = |n| (DpPort(1), n);
        let two = |n| (DpPort(2), n);
        assert_eq!(order, [one(0), two(10), one(1), two(11), one(2), two(12), one(3), one(4)]);
        let figures = |port, admitted, dropped, most_waiting, ms| PortFigures {
            port: DpPort(port),
            admitted,
            dropped,
            sieved: 0,
            waiting: 0,
            most_waiting,
            longest_wait: Duration::from_millis(ms),
        };
        assert_eq!(
            fair.figures(),
            Figures {
                waiting: 0,
                common_free: 4,
                ports: vec![figures(1, 5, 2, 5, 3), figures(2, 3, 1, 3, 2)]
            }
        );
    }

    #[test]
    fn a_port_that_goes_gives_its_tokens_back() {
        let mut fair = Fair::new(LIMITS);
        (0..5).for_each(|n| fair.offer(DpPort(1), n, at(0)).unwrap());
        assert_eq!((fair.forget(DpPort(1)), fair.len(), fair.figures().common_free), (5, 0, 4));
        assert_eq!((fair.forget(DpPort(1)), fair.take(at(1))), (0, None));
    }

    #[test]
    fn many_ports_share_what_is_left() {
        let mut fair = Fair::new(LIMITS);
        (1..=3).for_each(|port| fair.offer(DpPort(port), port, at(0)).unwrap());
        assert_eq!(fair.offer(DpPort(4), 4, at(0)), Ok(()));
        let ports = |fair: &Fair<u32>| fair.figures().ports.iter().map(|p| p.port).collect::<Vec<_>>();
        assert_eq!(ports(&fair), [DpPort(1), DpPort(2), DpPort(3), DpPort::NONE]);
        while fair.take(at(1)).is_some() {}
        assert_eq!(fair.offer(DpPort(5), 5, at(2)), Ok(()));
        assert!(ports(&fair).contains(&DpPort(5)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever others offer, a port that offers no more than its turn loses nothing and waits at most one round of turns.
        #[test]
        fn a_noisy_port_starves_nobody(
            noise in prop::collection::vec((0u32..4, 0usize..200), 1..200),
            served in 5usize..20,
        ) {
            let mut fair = Fair::new(Limits { reserved: 4, common: 16, most: 12, ports: 8 });
            for (round, (port, count)) in noise.iter().enumerate() {
                let now = at(round as u64);
                for n in 0..*count {
                    // Whether a noisy one finds a token is its own affair.
                    let _ = fair.offer(DpPort(*port), n, now);
                }
                prop_assert_eq!(fair.offer(DpPort(9), round, now), Ok(()));
                let taken: Vec<_> = std::iter::from_fn(|| fair.take(now)).take(served).collect();
                prop_assert!(taken.contains(&(DpPort(9), round)));
            }
            let figures = fair.figures();
            let quiet = figures.ports.iter().find(|p| p.port == DpPort(9)).copied();
            prop_assert_eq!(quiet.map(|p| (p.dropped, p.longest_wait)), Some((0, Duration::ZERO)));
        }

        /// Tokens are neither lost nor made: what is held beyond the reserved ones is what is missing from the common ones.
        #[test]
        fn tokens_add_up(steps in prop::collection::vec((0u32..6, 0u8..8), 0..400)) {
            let limits = Limits { reserved: 2, common: 6, most: 6, ports: 4 };
            let mut fair = Fair::new(limits);
            for (time, (port, what)) in steps.into_iter().enumerate() {
                let now = at(time as u64);
                match what {
                    0..5 => _ = fair.offer(DpPort(port), (), now),
                    5..7 => _ = fair.take(now),
                    _ => _ = fair.forget(DpPort(port)),
                }
                let figures = fair.figures();
                let borrowed: usize = figures.ports.iter().map(|p| p.waiting.saturating_sub(limits.reserved)).sum();
                prop_assert_eq!(figures.common_free + borrowed, limits.common);
                prop_assert_eq!(figures.ports.iter().map(|p| p.waiting).sum::<usize>(), fair.len());
                prop_assert_eq!(fair.turns.len(), figures.ports.iter().filter(|p| p.waiting > 0).count());
                prop_assert!(figures.ports.iter().all(|p| p.waiting <= limits.most));
            }
        }
    }
}
