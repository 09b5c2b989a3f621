//! What the parts of the server's loop have cost, for `ovsdb-server/perf-counters-show`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The counters: one for each part of the loop that ran.
#[derive(Debug, Default)]
pub struct Counters(BTreeMap<&'static str, Counter>);

#[derive(Debug, Default)]
struct Counter {
    events: u64,
    total: Duration,
}

impl Counters {
    /// Notes that `part` ran once and took so long.
    pub fn add(&mut self, part: &'static str, took: Duration) {
        let counter = self.0.entry(part).or_default();
        counter.events += 1;
        counter.total += took;
    }

    /// Counts from zero.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A line a counter, as OVS lays its own out: name, events, nanoseconds in all and on average.
    pub fn text(&self) -> String {
        if self.0.is_empty() {
            return "performance counter has never been hit\n".to_owned();
        }
        let mut text = String::new();
        for (name, Counter { events, total }) in &self.0 {
            let total = total.as_nanos();
            // Rounding far below a nanosecond does not matter.
            let average = total as f64 / *events as f64;
            let _ = writeln!(text, "{name:<40} {events:>12} {total:>12} {average:>12.1}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_wide_as_ovs_s() {
        let mut counters = Counters::default();
        assert_eq!(counters.text(), "performance counter has never been hit\n");
        counters.add("network", Duration::from_nanos(3));
        counters.add("network", Duration::from_nanos(4));
        let line = "network                                             2            7          3.5\n";
        assert_eq!(counters.text(), line);
        counters.clear();
        assert_eq!(counters.text(), "performance counter has never been hit\n");
    }
}
