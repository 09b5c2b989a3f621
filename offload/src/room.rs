//! Who has room in hardware, as far as that is a matter of numbers: the named limits, and how it is known how busy a flow is.
//!
//! A flow that a device refuses runs in software, and is tried again: after [`FIRST_RETRY`], and after twice as long each time,
//! up to [`LAST_RETRY`]. Those with the most packets are tried first. With `other_config:offload-rebalance`, a flow that lacks
//! nothing but room takes that of one with far fewer packets.

use std::time::Duration;

use flow::time::Instant;

/// After this long, a refused flow is tried again first; and after this long in the end.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
pub const LAST_RETRY: Duration = Duration::from_secs(64);
/// Flows that are tried again after a walk over all flows, at most.
pub const MAX_RETRIES: usize = 64;
/// How often busy flows are given the room of idle ones, at most.
pub const SWAP_INTERVAL: Duration = Duration::from_secs(3);
/// Flows that change places at a time, at most.
pub const MAX_SWAPS: usize = 64;
/// How many times as many packets the one that gets room must have.
pub const SWAP_FACTOR: u64 = 2;
/// Packets a second that it must have.
pub const MIN_RATE: u64 = 10;
/// How long a flow has a rule at least before it may have to give way.
pub const HOLD: Duration = Duration::from_secs(5);
/// Packets are counted for so long at least before it is said how many a second they are.
pub const RATE_SPAN: Duration = Duration::from_secs(1);

/// A limit, as it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub name: &'static str,
    pub value: u64,
    pub unit: &'static str,
    pub what: &'static str,
}

/// A row of [`LIMITS`].
const fn limit(name: &'static str, value: u64, unit: &'static str, what: &'static str) -> Limit {
    Limit { name, value, unit, what }
}

const fn millis(limit: Duration) -> u64 {
    limit.as_secs() * 1000 + limit.subsec_millis() as u64
}

/// Every limit of what goes to hardware, by name.
pub const LIMITS: [Limit; 11] = [
    limit("first-retry", millis(FIRST_RETRY), "ms", "until a refused flow is tried again"),
    limit("last-retry", millis(LAST_RETRY), "ms", "between later tries"),
    limit("max-retries", MAX_RETRIES as u64, "flows", "tried again at a time"),
    limit("rate-span", millis(RATE_SPAN), "ms", "for which packets are counted"),
    limit("swap-interval", millis(SWAP_INTERVAL), "ms", "between exchanges of idle flows for busy ones"),
    limit("max-swaps", MAX_SWAPS as u64, "flows", "exchanged at a time"),
    limit("swap-factor", SWAP_FACTOR, "times", "as many packets as the flow that gives way"),
    limit("min-rate", MIN_RATE, "packets/s", "of a flow that gets another's room"),
    limit("hold", millis(HOLD), "ms", "for which a rule stays before it may give way"),
    limit(
        "sockets",
        crate::table::lanes::LANES as u64 + 1,
        "sockets",
        "that a batch of requests is spread over",
    ),
    limit("last-priority", crate::prio::LAST as u64, "", "of rules: masks that can be told apart"),
];

/// How many packets a flow has, from counters that are seen from time to time.
#[derive(Clone, Copy, Default, Debug)]
pub struct Pace {
    /// When the counter was this.
    seen: Option<(Instant, u64)>,
    /// Packets a second: the latest count for as much as those before it.
    rate: Option<u64>,
}

impl Pace {
    /// Packets a second, once it is known.
    pub const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// The counter is this now.
    pub fn see(&mut self, packets: u64, now: Instant) {
        let Some((then, before)) = self.seen else {
            self.seen = Some((now, packets));
            return;
        };
        let span = now.since(then);
        if span < RATE_SPAN {
            return;
        }
        let new = u128::from(packets.saturating_sub(before)) * 1000 / span.as_millis().max(1);
        let new = u64::try_from(new).unwrap_or(u64::MAX);
        self.rate = Some(self.rate.map_or(new, |old| old / 2 + new / 2 + (old & new & 1)));
        self.seen = Some((now, packets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_late() {
        let mut pace = Pace::default();
        let mut see = |millis: u64, packets| {
            pace.see(packets, Instant::from_nanos(millis * 1_000_000));
            pace.rate()
        };
        assert_eq!(see(500, 7), None);
        // Too soon to tell.
        assert_eq!(see(1499, 1007), None);
        assert_eq!(see(1500, 1007), Some(1000));
        assert_eq!(see(3500, 1007), Some(500));
        assert_eq!(see(4500, 1008), Some(250));
        // A counter that goes back is one that stands still.
        assert_eq!(see(5500, 3), Some(125));
        assert_eq!(see(6500, u64::MAX), Some(u64::MAX / 2 + 61));
    }
}
