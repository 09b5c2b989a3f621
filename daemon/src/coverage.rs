//! Event counters with rates (`coverage/show`).
//!
//! Whoever counts holds a [`Counter`]; [`Coverage`] lists them all and, fed every five seconds, knows their rates over
//! the last five seconds, minute and hour.

use flow::time::Instant;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often rates are taken.
pub const INTERVAL: Duration = Duration::from_secs(5);
const PER_MINUTE: usize = 12;
const PER_HOUR: usize = 60;

/// Counts one kind of event.
#[derive(Clone, Default, Debug)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Counts one event.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n` events.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// How many events there were.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Row {
    counter: Counter,
    seen: u64,
    /// Events of the last twelve intervals, and of the last sixty minutes, in rings.
    intervals: [u64; PER_MINUTE],
    minutes: [u64; PER_HOUR],
}

impl Default for Row {
    fn default() -> Self {
        Self { counter: Counter::default(), seen: 0, intervals: [0; PER_MINUTE], minutes: [0; PER_HOUR] }
    }
}

/// All counters of a process by name.
pub struct Coverage {
    rows: BTreeMap<String, Row>,
    next: Instant,
    ticks: usize,
}

impl Coverage {
    /// No counters.
    pub fn new(now: Instant) -> Self {
        Self { rows: BTreeMap::new(), next: now + INTERVAL, ticks: 0 }
    }

    /// The counter of this name, made at the first call.
    pub fn counter(&mut self, name: &str) -> Counter {
        self.rows.entry(name.to_owned()).or_default().counter.clone()
    }

    /// How often the event `name` happened, if there is such an event.
    pub fn read(&self, name: &str) -> Option<u64> {
        self.rows.get(name).map(|row| row.counter.total())
    }

    /// When [`Coverage::run`] is due.
    pub const fn deadline(&self) -> Instant {
        self.next
    }

    /// Takes the rates, if it is time.
    pub fn run(&mut self, now: Instant) {
        while now >= self.next {
            let (slot, minute) = (self.ticks % PER_MINUTE, self.ticks / PER_MINUTE % PER_HOUR);
            for row in self.rows.values_mut() {
                let total = row.counter.total();
                let events = total - row.seen;
                row.seen = total;
                row.intervals[slot] = events;
                if slot == 0 {
                    row.minutes[minute] = 0;
                }
                row.minutes[minute] += events;
            }
            self.ticks += 1;
            self.next = self.next + INTERVAL;
            if now.since(self.next) > INTERVAL * 720 {
                self.next = now + INTERVAL;
            }
        }
    }

    /// What `coverage/show` prints.
    pub fn text(&self) -> String {
        let (hit, never): (Vec<_>, Vec<_>) = self.rows.iter().partition(|(_, row)| row.counter.total() > 0);
        let mut hasher = DefaultHasher::new();
        hit.iter().for_each(|(name, row)| (name, row.counter.total().ilog2()).hash(&mut hasher));
        let hash = hasher.finish() as u32;
        let mut text = format!(
            "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash={hash:08x}:\n"
        );
        let last = (self.ticks + PER_MINUTE - 1) % PER_MINUTE;
        for (name, row) in hit {
            let (five, minute, hour) =
                (row.intervals[last], row.intervals.iter().sum::<u64>(), row.minutes.iter().sum::<u64>());
            let (five, minute, hour) = (five as f64 / 5.0, minute as f64 / 60.0, hour as f64 / 3600.0);
            let total = row.counter.total();
            let _ =
                writeln!(text, "{name:<24} {five:5.1}/sec {minute:9.3}/sec {hour:13.4}/sec   total: {total}");
        }
        let _ = writeln!(text, "{} events never hit", never.len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shown_as_ovs_shows_them() {
        let mut coverage = Coverage::new(Instant::ZERO);
        coverage.counter("never");
        coverage.counter("seen").add(10);
        coverage.run(Instant::ZERO + INTERVAL);
        let text = coverage.text();
        let (_, rows) = text.split_once('\n').unwrap();
        assert_eq!(
            rows,
            "seen                       2.0/sec     0.167/sec        0.0028/sec   total: 10\n1 events never hit\n"
        );
        assert_eq!((coverage.read("seen"), coverage.read("x")), (Some(10), None));
    }
}
