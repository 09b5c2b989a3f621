//! One routing table: longest prefix first, by one tree a prefix length. A hash table would be quicker by a little, but for
//! the moments when it grows: then a large one keeps the main loop from everything else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use datapath::linux::addr::masked;

use super::{Origin, Route};

/// How much a user's route counts more than a cached one, in bits of prefix.
const USER_RANK: u16 = 32;
/// Bits before an IPv4 address that is mapped to IPv6.
const MAPPED: u16 = 96;

/// Routes with one prefix length by one hand. Higher ones are asked first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Level {
    rank: u16,
    prefix: u8,
    origin: Origin,
    v4: bool,
}

impl Level {
    fn of(dst: IpAddr, prefix: u8, origin: Origin) -> Self {
        let v4 = dst.is_ipv4();
        let mapped = if v4 { MAPPED } else { 0 };
        let by_user = if origin == Origin::User { USER_RANK } else { 0 };
        Self { rank: u16::from(prefix) + mapped + by_user, prefix, origin, v4 }
    }

    /// Bits of the prefix when IPv4 addresses are mapped to IPv6.
    fn mapped_prefix(self) -> u16 {
        self.rank - if self.origin == Origin::User { USER_RANK } else { 0 }
    }
}

/// A route with the number of its entry, by which lists are ordered.
type Entered = (u64, Route);

/// Routes of one level, by network and mark.
type Routes = BTreeMap<(IpAddr, u32), Entered>;

/// A routing table.
#[derive(Default)]
pub struct Table {
    levels: BTreeMap<Level, Routes>,
    entered: u64,
}

impl Table {
    /// Routes in it.
    pub fn len(&self) -> usize {
        self.levels.values().map(BTreeMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Enters a route. One to the same network by the same hand is replaced, and keeps its place in lists.
    pub fn insert(&mut self, route: Route) {
        let level = Level::of(route.dst, route.prefix, route.origin);
        match self.levels.entry(level).or_default().entry((route.dst, route.mark)) {
            Entry::Occupied(mut old) => old.get_mut().1 = route,
            Entry::Vacant(slot) => {
                self.entered += 1;
                slot.insert((self.entered, route));
            }
        }
    }

    /// Takes a route out. Whether there was one.
    pub fn remove(&mut self, mark: u32, dst: IpAddr, prefix: u8, origin: Origin) -> bool {
        let level = Level::of(dst, prefix, origin);
        let Some(routes) = self.levels.get_mut(&level) else { return false };
        let found = routes.remove(&(masked(dst, prefix), mark)).is_some();
        if routes.is_empty() {
            self.levels.remove(&level);
        }
        found
    }

    /// The route to `dst`.
    pub fn lookup(&self, mark: u32, dst: IpAddr) -> Option<&Route> {
        let mine = self.levels.iter().rev().filter(|(level, _)| level.v4 == dst.is_ipv4());
        let mut found = mine.filter_map(|(level, routes)| routes.get(&(masked(dst, level.prefix), mark)));
        found.next().map(|(_, route)| route)
    }

    /// All routes in the order of lists: by prefix length, those that a user's route stands for first; within one, as they
    /// came.
    pub fn list(&self) -> Vec<&Route> {
        let mut groups: BTreeMap<u16, (u16, Vec<&Entered>)> = BTreeMap::new();
        for (level, routes) in &self.levels {
            let group = groups.entry(level.mapped_prefix()).or_default();
            group.0 = group.0.max(level.rank);
            group.1.extend(routes.values());
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        let ordered = groups.into_iter().flat_map(|(_, mut routes)| {
            routes.sort_unstable_by_key(|(entered, _)| *entered);
            routes
        });
        ordered.map(|(_, route)| route).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(dst: u32, prefix: u8, mark: u32, origin: Origin) -> Route {
        let dst = masked(IpAddr::V4(dst.into()), prefix);
        let source = IpAddr::V4(0x0a00_0001.into());
        Route { mark, dst, prefix, device: "p1".into(), gateway: None, source, origin }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Against looking at every route.
        #[test]
        fn finds_the_longest_prefix(
            routes in proptest::collection::vec((0u32..16, 0u8..=32, 0u32..2, any::<bool>()), 0..24),
            wanted in proptest::collection::vec((0u32..16, 0u32..2), 8),
        ) {
            let spread = |n: u32| n << 28 | n << 20 | n << 4;
            let mut table = Table::default();
            let mut all: Vec<Route> = Vec::new();
            for (dst, prefix, mark, user) in routes {
                let origin = if user { Origin::User } else { Origin::Cached };
                let route = route(spread(dst), prefix, mark, origin);
                all.retain(|old| old != &route);
                all.push(route.clone());
                table.insert(route);
            }
            prop_assert_eq!(table.len(), all.len());
            for (dst, mark) in wanted {
                let dst = IpAddr::V4(spread(dst).into());
                let fits = |route: &&Route| route.mark == mark && masked(dst, route.prefix) == route.dst;
                let rank = |route: &&Route| u32::from(route.prefix) + 32 * u32::from(route.origin == Origin::User);
                let best = all.iter().filter(fits).max_by_key(|route| (rank(route), route.prefix));
                prop_assert_eq!(table.lookup(mark, dst), best);
            }
            for route in &all {
                prop_assert!(table.remove(route.mark, route.dst, route.prefix, route.origin));
            }
            prop_assert!(table.is_empty());
        }
    }
}
