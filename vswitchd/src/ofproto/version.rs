//! Versions of the OpenFlow tables: what makes a flow mod or a whole bundle visible at once.
//!
//! Every rule carries the version that added it and, once it is doomed, the version that removes it. The one writer
//! inserts with the next version and then publishes it; a reader pins one version for a whole translation and sees
//! the rules of that version, whatever is written meanwhile. A removed rule stays in the classifier until no reader
//! pins a version in which it was visible ([`Versions::quiet`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

/// A version of the tables; a later one is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(pub u64);

impl Version {
    /// The version of empty tables.
    pub const MIN: Self = Self(1);
    /// In which everything is visible that is not to be removed, published or not.
    pub const LATEST: Self = Self(u64::MAX - 1);
    /// The removal version of what is not removed.
    pub const NEVER: Self = Self(u64::MAX);

    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// When something exists: from one version on, until another.
#[derive(Debug)]
pub struct Span {
    added: Version,
    removed: AtomicU64,
}

impl Span {
    /// From `added` on.
    pub const fn since(added: Version) -> Self {
        Self { added, removed: AtomicU64::new(Version::NEVER.0) }
    }

    /// Whether it exists in `version`.
    pub fn contains(&self, version: Version) -> bool {
        self.added <= version && version.0 < self.removed.load(Ordering::Relaxed)
    }

    /// Ends it: it no longer exists in `version` and later.
    pub fn end(&self, version: Version) {
        self.removed.store(version.0, Ordering::Relaxed);
    }

    /// Takes an end back.
    pub fn restore(&self) {
        self.end(Version::NEVER);
    }

    /// Whether it has an end.
    pub fn is_ending(&self) -> bool {
        self.removed.load(Ordering::Relaxed) != Version::NEVER.0
    }
}

/// A version that some reader, or the writer, holds on to. Cheap to clone; drop it when the translation is done.
#[derive(Clone, Debug)]
pub struct Pin(Arc<Version>);

impl Pin {
    /// A look at a version that is not published, for the writer: nothing is taken out while it looks itself.
    pub(crate) fn provisional(version: Version) -> Self {
        Self(Arc::new(version))
    }

    /// The pinned version.
    pub fn version(&self) -> Version {
        *self.0
    }
}

/// The published version, and which earlier ones are still pinned.
#[derive(Debug)]
pub struct Versions {
    current: ArcSwap<Version>,
}

/// The writer's side of [`Versions`]: versions that were current and may still be pinned, oldest first.
#[derive(Debug, Default)]
pub struct Retired(VecDeque<Arc<Version>>);

impl Default for Versions {
    fn default() -> Self {
        Self { current: ArcSwap::from_pointee(Version::MIN) }
    }
}

impl Versions {
    /// The published version.
    pub fn current(&self) -> Version {
        **self.current.load()
    }

    /// Pins the published version.
    pub fn pin(&self) -> Pin {
        Pin(self.current.load_full())
    }

    /// Publishes `version`. The writer alone calls it, with increasing versions.
    pub fn publish(&self, version: Version, retired: &mut Retired) {
        let old = self.current.swap(Arc::new(version));
        retired.0.push_back(old);
    }

    /// The oldest version that a reader may hold: what was removed in it or before may be taken apart.
    pub fn quiet(&self, retired: &mut Retired) -> Version {
        while retired.0.front().is_some_and(|version| Arc::strong_count(version) == 1) {
            retired.0.pop_front();
        }
        retired.0.front().map_or_else(|| self.current(), |version| **version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_holds_back_the_quiet_version() {
        let versions = Versions::default();
        let mut retired = Retired::default();
        let pin = versions.pin();
        versions.publish(Version(2), &mut retired);
        versions.publish(Version(3), &mut retired);
        assert_eq!(versions.quiet(&mut retired), Version(1));
        drop(pin);
        assert_eq!(versions.quiet(&mut retired), Version(3));
    }

    #[test]
    fn a_span_ends_and_is_restored() {
        let span = Span::since(Version(2));
        assert!(!span.contains(Version(1)));
        assert!(span.contains(Version(2)));
        span.end(Version(4));
        assert!(span.contains(Version(3)) && !span.contains(Version(4)) && span.is_ending());
        span.restore();
        assert!(span.contains(Version(4)) && !span.is_ending());
    }
}
