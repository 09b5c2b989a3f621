//! Limits on how many packet-ins a controller gets a second. What is over the limit waits, in one queue a port, so that a
//! busy port does not keep the others' packets away.

use std::collections::{BTreeMap, VecDeque};

use flow::id::OfPort;
use flow::time::Instant;

/// Packet-ins that wait for the rate to allow them.
pub struct Scheduler {
    /// Tokens a second.
    rate: u64,
    burst: u64,
    /// Thousandths of tokens.
    tokens: u64,
    filled: Instant,
    queues: BTreeMap<OfPort, VecDeque<Vec<u8>>>,
    queued: u64,
    /// The port whose turn was last.
    turn: OfPort,
}

/// Thousandths of a token that a packet costs.
const COST: u64 = 1000;
/// The most that leave at once.
const BATCH: usize = 50;

impl Scheduler {
    /// At most `rate` a second, and `burst` at once; 0 for a default.
    pub fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let (rate, burst) = adjusted(rate, burst);
        Self {
            rate,
            burst,
            tokens: burst * COST,
            filled: now,
            queues: BTreeMap::new(),
            queued: 0,
            turn: OfPort(0),
        }
    }

    /// Changes the limits.
    pub fn set_limits(&mut self, rate: u32, burst: u32) {
        (self.rate, self.burst) = adjusted(rate, burst);
        self.tokens = self.tokens.min(self.burst * COST);
        while self.queued > self.burst {
            self.drop_one();
        }
    }

    /// How many wait.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    fn withdraw(&mut self, now: Instant) -> bool {
        let millis = now.millis().saturating_sub(self.filled.millis());
        self.filled = now;
        self.tokens = self.tokens.saturating_add(millis.saturating_mul(self.rate)).min(self.burst * COST);
        let enough = self.tokens >= COST;
        if enough {
            self.tokens -= COST;
        }
        enough
    }

    /// Takes a packet-in of a port: gives it back if it can be sent now, else keeps it.
    pub fn submit(&mut self, port: OfPort, msg: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        if self.queued == 0 && self.withdraw(now) {
            return Some(msg);
        }
        if self.queued >= self.burst {
            self.drop_one();
        }
        self.queues.entry(port).or_default().push_back(msg);
        self.queued += 1;
        None
    }

    /// Drops the oldest packet of the longest queue.
    fn drop_one(&mut self) {
        let longest = self.queues.iter().max_by_key(|(_, queue)| queue.len()).map(|(&port, _)| port);
        if let Some(port) = longest {
            self.take(port);
        }
    }

    fn take(&mut self, port: OfPort) -> Option<Vec<u8>> {
        let queue = self.queues.get_mut(&port)?;
        let msg = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&port);
        }
        self.queued -= u64::from(msg.is_some());
        msg
    }

    /// What may be sent now.
    pub fn run(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut ready = Vec::new();
        while self.queued > 0 && ready.len() < BATCH && self.withdraw(now) {
            let after = self.queues.range(OfPort(self.turn.0.saturating_add(1))..).next();
            let next = after.or_else(|| self.queues.first_key_value()).map(|(&port, _)| port);
            let Some(port) = next else { break };
            self.turn = port;
            ready.extend(self.take(port));
        }
        ready
    }

    /// When [`Self::run`] has something to give.
    pub fn deadline(&self) -> Instant {
        if self.queued == 0 {
            return Instant::NEVER;
        }
        let missing = COST.saturating_sub(self.tokens);
        self.filled + std::time::Duration::from_millis(missing.div_ceil(self.rate.max(1)))
    }
}

fn adjusted(rate: u32, burst: u32) -> (u64, u64) {
    let rate = if rate == 0 { 1000 } else { u64::from(rate) };
    let burst = if burst == 0 { rate / 4 } else { u64::from(burst) };
    (rate, burst.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_waits_and_ports_take_turns() {
        let mut scheduler = Scheduler::new(10, 4, Instant::ZERO);
        let mut submit = |port, n| scheduler.submit(OfPort(port), vec![n], Instant::ZERO);
        let sent: Vec<_> = (0..8).filter_map(|n| submit(if n == 7 { 2 } else { 1 }, n)).collect();
        assert_eq!(sent, [[0], [1], [2], [3]]);
        assert_eq!((scheduler.queued(), scheduler.deadline()), (4, Instant::from_millis(100)));
        assert_eq!(scheduler.run(Instant::from_millis(99)), [[0; 0]; 0]);
        assert_eq!(scheduler.run(Instant::from_millis(1000)), [[4], [7], [5], [6]]);
        assert_eq!(scheduler.deadline(), Instant::NEVER);
    }

    #[test]
    fn the_longest_queue_loses_its_oldest() {
        let mut scheduler = Scheduler::new(1, 2, Instant::ZERO);
        for n in 0..6 {
            scheduler.submit(OfPort(1), vec![n], Instant::ZERO);
        }
        assert_eq!(scheduler.queued(), 2);
        assert_eq!(scheduler.run(Instant::from_millis(10_000)), [[4], [5]]);
    }
}
