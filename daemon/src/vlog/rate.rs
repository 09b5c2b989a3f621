//! Token buckets for log statements that could repeat: so many a minute, so many at once.

use flow::time::Instant;

/// What one message costs: a minute's worth of a rate of one.
const COST: u64 = 60_000;

/// The state of one rate-limited statement.
#[derive(Debug, Default)]
pub struct Bucket {
    tokens: u64,
    filled: Option<Instant>,
    dropped: u32,
    first_drop: Instant,
    last_drop: Instant,
}

/// Whether a message may be logged.
#[derive(PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Yes; first say how many were dropped, if any.
    Log(Option<String>),
    /// No.
    Drop,
}

impl Bucket {
    /// Asks for one message at `rate` a minute with bursts of `burst`.
    pub fn ask(&mut self, rate: u64, burst: u64, now: Instant) -> Verdict {
        let full = burst.saturating_mul(COST);
        self.tokens = match self.filled {
            None => full,
            Some(at) => {
                let ms = now.millis().saturating_sub(at.millis());
                self.tokens.saturating_add(ms.saturating_mul(rate)).min(full)
            }
        };
        self.filled = Some(now);
        if self.tokens < COST {
            if self.dropped == 0 {
                self.first_drop = now;
            }
            self.last_drop = now;
            self.dropped += 1;
            return Verdict::Drop;
        }
        self.tokens -= COST;
        Verdict::Log(self.told(now))
    }

    fn told(&mut self, now: Instant) -> Option<String> {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped == 0 {
            return None;
        }
        let (first, last) = (now.since(self.first_drop).as_secs(), now.since(self.last_drop).as_secs());
        Some(format!(
            "Dropped {dropped} log messages in last {first} seconds (most recently, {last} seconds ago) due to excessive rate"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_is_counted() {
        let mut bucket = Bucket::default();
        let at = |s: u64| Instant::from_millis(1000 * s);
        for _ in 0..5 {
            assert_eq!(bucket.ask(1, 5, at(0)), Verdict::Log(None));
        }
        assert_eq!(bucket.ask(1, 5, at(1)), Verdict::Drop);
        assert_eq!(bucket.ask(1, 5, at(30)), Verdict::Drop);
        assert_eq!(
            bucket.ask(1, 5, at(60)),
            Verdict::Log(Some(
                "Dropped 2 log messages in last 59 seconds (most recently, 30 seconds ago) due to excessive rate"
                    .to_owned()
            ))
        );
    }
}
