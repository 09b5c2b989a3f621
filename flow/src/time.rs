//! Time as the switch sees it: a monotonic instant and an injected clock.
//!
//! Nobody but `main`, the worker loops and the clock module reads a clock; everybody else is given an [`Instant`].

use std::ops::{Add, Sub};
use std::task::Waker;
use std::time::Duration;

/// A monotonic instant in nanoseconds since an arbitrary epoch (the machine's boot, on Linux).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Instant(u64);

impl Instant {
    /// The epoch.
    pub const ZERO: Self = Self(0);
    /// Later than every other instant: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// An instant `ns` nanoseconds after the epoch.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// An instant `ms` milliseconds after the epoch; saturates.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch (what OVS calls `time_msec()`).
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero if it is before.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WallTime(pub u64);

/// A source of time that can be stopped and warped for tests.
pub trait Clock: Send + Sync {
    /// The monotonic time: frozen while stopped, moved by warps.
    fn now(&self) -> Instant;

    /// The wall-clock time; moves with [`Clock::now`] while the clock is stopped.
    fn wall(&self) -> WallTime;

    /// Wakes `waker` once [`Clock::now`] has reached `deadline`; at once if it already has. A later call with an
    /// equal waker replaces the earlier one.
    fn wait(&self, deadline: Instant, waker: &Waker);
}
