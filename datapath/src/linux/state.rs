//! What is known of links, addresses, routes and rules, and what the main loop was told of them.
//!
//! The thread that listens ([`super::monitor`]) puts in what the kernel lists and announces; whoever is told takes out
//! [`Change`]s, as many as it can use at a time. Changes to one object that wait to be taken out are one change, so what
//! waits is never more than what there is.
//!
//! Of all routes of the kernel's, those matter that are in a table which some rule asks, and of those that lead to one
//! network, the last in the kernel's order whose source address can be told is the one that counts, as in OVS. A route's
//! source depends on the addresses of its link; when these change, so do routes.
//!
//! The kernel says nothing of some routes that go with a link or an address; hence [`State::needs_routes`]: it is time to
//! read them all again.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use sys::link::flag::RUNNING;

use super::addr::{LinkAddress, route_source};
use super::link::{Link, RTM_DELLINK};
use super::route::{Key, RTM_DELROUTE, Route, table};
use super::rtnl::{Message, NLM_F_APPEND, flag};
use super::rule::Rule;
use super::{addr, link, route, rule};
use crate::netdev::Address;

/// Routes that are remembered; those beyond are counted and left out.
pub const MAX_ROUTES: usize = 4_000_000;

/// A route as the switch uses it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// The device that packets leave by.
    pub device: Arc<str>,
    pub gateway: Option<IpAddr>,
    /// Where packets come from.
    pub source: IpAddr,
}

/// Something that is not what it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// There is such a route now, or none (any more).
    Route(Key, Option<Entry>),
    /// These are the rules now.
    Rules(Vec<Rule>),
    /// A link appeared, changed or vanished.
    Link(LinkNews),
}

/// What is new of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkNews {
    pub name: Arc<str>,
    /// Its number; `None` if it vanished.
    pub index: Option<u32>,
    /// How often it began or ceased to run since news of it were last taken out.
    pub resets: u32,
}

/// What a link is known by.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    name: Arc<str>,
    /// Hash of what the rest of the switch looks at.
    fingerprint: u64,
    up: bool,
    running: bool,
}

fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn known(link: &Link) -> Known {
    let seen = (link.flags, link.mac, link.mtu, link.carrier, link.carrier_changes, link.master);
    Known {
        name: link.name.as_str().into(),
        fingerprint: fingerprint(&seen),
        up: link.is_up(),
        running: link.flags & RUNNING != 0,
    }
}

/// See the module.
#[derive(Default)]
pub struct State {
    links: BTreeMap<u32, Known>,
    addresses: HashMap<u32, Vec<Address>>,
    rules: Vec<Rule>,
    /// Tables that some rule asks, and those that commands show.
    tables: BTreeSet<u32>,
    routes: HashMap<Key, SmallVec<[Route; 1]>>,
    count: usize,
    /// Routes beyond [`MAX_ROUTES`].
    pub refused: u64,
    /// What was told of each route, as a hash.
    told: HashMap<Key, u64>,
    dirty_routes: BTreeSet<Key>,
    /// Numbers of links, and how often they began or ceased to run.
    dirty_links: BTreeMap<Arc<str>, (Option<u32>, u32)>,
    rules_dirty: bool,
    needs_routes: bool,
    needs_addresses: bool,
}

impl State {
    /// Nothing is known.
    pub fn new() -> Self {
        let standard = [table::LOCAL, table::MAIN, table::DEFAULT];
        Self { tables: standard.into(), ..Self::default() }
    }

    /// Whether the kernel's addresses are to be read again, which tells their order.
    pub fn needs_addresses(&self) -> bool {
        self.needs_addresses
    }

    /// Whether the kernel's routes are to be read again.
    pub fn needs_routes(&self) -> bool {
        self.needs_routes
    }

    /// Routes that are remembered.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there is something to tell.
    pub fn has_changes(&self) -> bool {
        self.rules_dirty || !self.dirty_routes.is_empty() || !self.dirty_links.is_empty()
    }

    /// These are all links.
    pub fn load_links(&mut self, all: &[Link]) {
        let gone: Vec<u32> =
            self.links.keys().copied().filter(|index| !all.iter().any(|link| link.index == *index)).collect();
        for index in gone {
            self.forget_link(index);
        }
        for link in all {
            self.take_link(link);
        }
    }

    /// These are all addresses.
    pub fn load_addresses(&mut self, all: &[LinkAddress]) {
        self.needs_addresses = false;
        let mut addresses: HashMap<u32, Vec<Address>> = HashMap::new();
        for one in all {
            addresses.entry(one.index).or_default().push(one.address);
        }
        let moved: HashSet<u32> = (self.addresses.keys().chain(addresses.keys()))
            .copied()
            .filter(|index| self.addresses.get(index) != addresses.get(index))
            .collect();
        self.addresses = addresses;
        self.revisit(|route| moved.contains(&route.oif));
    }

    /// These are all rules.
    pub fn load_rules(&mut self, rules: Vec<Rule>) {
        if rules == self.rules {
            return;
        }
        let mut tables = BTreeSet::from([table::LOCAL, table::MAIN, table::DEFAULT]);
        tables.extend(rules.iter().map(|rule| rule.table));
        self.needs_routes |= !tables.is_subset(&self.tables);
        let gone: Vec<Key> = self.routes.keys().filter(|key| !tables.contains(&key.table)).copied().collect();
        for key in gone {
            self.count -= self.routes.remove(&key).map_or(0, |routes| routes.len());
            self.dirty_routes.insert(key);
        }
        self.tables = tables;
        self.rules = rules;
        self.rules_dirty = true;
    }

    /// These are all routes, in the kernel's order.
    pub fn load_routes(&mut self, all: impl IntoIterator<Item = Route>) {
        self.needs_routes = false;
        let old = std::mem::take(&mut self.routes);
        self.count = 0;
        for route in all {
            if self.matters(&route) {
                self.routes.entry(route.key).or_default().push(route);
            }
        }
        self.dirty_routes.extend(old.keys().filter(|key| !self.routes.contains_key(key)));
        let moved = self.routes.iter().filter(|(key, routes)| old.get(key) != Some(routes));
        self.dirty_routes.extend(moved.map(|(key, _)| *key));
    }

    /// Counts a route in, if it is of a table that matters and there is room.
    fn matters(&mut self, route: &Route) -> bool {
        if !self.tables.contains(&route.key.table) {
            return false;
        }
        if self.count >= MAX_ROUTES {
            self.refused += 1;
            return false;
        }
        self.count += 1;
        true
    }

    /// The kernel announces something. Whether rules are to be read again.
    pub fn announce(&mut self, message: &Message<'_>) -> bool {
        match message.kind {
            link::RTM_NEWLINK | link::RTM_DELLINK => {
                if let Some(link) = Link::decode(message) {
                    self.announce_link(message, &link);
                }
            }
            addr::RTM_NEWADDR | addr::RTM_DELADDR => self.needs_addresses = true,
            route::RTM_NEWROUTE | route::RTM_DELROUTE => {
                if let Some(route) = Route::decode(message) {
                    self.announce_route(message, route);
                }
            }
            rule::RTM_NEWRULE | rule::RTM_DELRULE => return true,
            _ => {}
        }
        false
    }

    fn announce_link(&mut self, message: &Message<'_>, link: &Link) {
        if message.kind == RTM_DELLINK {
            self.forget_link(link.index);
        } else {
            self.take_link(link);
        }
    }

    fn take_link(&mut self, link: &Link) {
        let now = known(link);
        let before = self.links.insert(link.index, now.clone());
        if before.as_ref() == Some(&now) {
            return;
        }
        let reset = before.as_ref().is_some_and(|before| before.running != now.running);
        if let Some(before) = before {
            // Routes that go with a link that goes down are not announced.
            self.needs_routes |= before.up && !now.up;
            if before.name != now.name {
                self.note_link(before.name, None, false);
                self.revisit(|route| route.oif == link.index);
            }
        } else {
            self.revisit(|route| route.oif == link.index);
        }
        self.note_link(now.name, Some(link.index), reset);
    }

    fn note_link(&mut self, name: Arc<str>, index: Option<u32>, reset: bool) {
        let (told, resets) = self.dirty_links.entry(name).or_default();
        *told = index;
        *resets += u32::from(reset);
    }

    fn forget_link(&mut self, index: u32) {
        if let Some(gone) = self.links.remove(&index) {
            self.note_link(gone.name, None, gone.running);
            self.addresses.remove(&index);
            let mut emptied = Vec::new();
            for (key, routes) in &mut self.routes {
                let before = routes.len();
                routes.retain(|route| route.oif != index || route.multipath);
                if routes.len() != before {
                    self.count -= before - routes.len();
                    self.dirty_routes.insert(*key);
                    if routes.is_empty() {
                        emptied.push(*key);
                    }
                }
            }
            for key in emptied {
                self.routes.remove(&key);
            }
            self.needs_routes = true;
        }
    }

    fn announce_route(&mut self, message: &Message<'_>, route: Route) {
        let key = route.key;
        let replaced = |old: &Route| old.tos == route.tos && old.priority == route.priority;
        if message.kind == RTM_DELROUTE {
            let Some(routes) = self.routes.get_mut(&key) else { return };
            let same = |old: &Route| replaced(old) && old.oif == route.oif && old.gateway == route.gateway;
            // Which next hops of several are left is not told.
            self.needs_routes |= routes.iter().any(|old| old.multipath);
            let at = routes.iter().position(same).or_else(|| routes.iter().position(replaced));
            if let Some(at) = at {
                routes.remove(at);
                self.count -= 1;
                if routes.is_empty() {
                    self.routes.remove(&key);
                }
                self.dirty_routes.insert(key);
            }
            return;
        }
        if self.routes.get(&key).is_some_and(|routes| routes.contains(&route)) || !self.matters(&route) {
            return;
        }
        self.dirty_routes.insert(key);
        let routes = match self.routes.entry(key) {
            Slot::Vacant(slot) => {
                slot.insert(SmallVec::from_buf([route]));
                return;
            }
            Slot::Occupied(slot) => slot.into_mut(),
        };
        // IPv6 joins next hops of one metric to one route, and announces it whole.
        let replaces = message.flags & flag::REPLACE != 0 || key.dst.is_ipv6() && route.multipath;
        if let Some(at) = routes.iter().position(replaced).filter(|_| replaces) {
            routes[at] = route;
            self.count -= 1;
            return;
        }
        let order = |route: &Route| (u8::MAX - route.tos, route.priority);
        let goes_first = |old: &Route| {
            if message.flags & NLM_F_APPEND != 0 {
                order(old) <= order(&route)
            } else {
                order(old) < order(&route)
            }
        };
        let at = routes.iter().take_while(|old| goes_first(old)).count();
        routes.insert(at, route);
    }

    /// Marks routes as perhaps different.
    fn revisit(&mut self, is_touched: impl Fn(&Route) -> bool) {
        let touched = self.routes.iter().filter(|(_, routes)| routes.iter().any(&is_touched));
        self.dirty_routes.extend(touched.map(|(key, _)| *key));
    }

    fn entry(&self, key: &Key) -> Option<Entry> {
        self.routes.get(key)?.iter().rev().find_map(|route| self.entry_of(route))
    }

    fn entry_of(&self, route: &Route) -> Option<Entry> {
        let device = Arc::clone(&self.links.get(&route.oif)?.name);
        let addresses = self.addresses.get(&route.oif).map_or(&[][..], Vec::as_slice);
        let source = route_source(addresses, route.key.dst, route.gateway, route.source)?;
        Some(Entry { device, gateway: route.gateway.filter(|ip| !ip.is_unspecified()), source })
    }

    /// Takes out what the main loop does not know yet, at most `max` changes.
    pub fn take(&mut self, max: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        if std::mem::take(&mut self.rules_dirty) {
            changes.push(Change::Rules(self.rules.clone()));
        }
        while changes.len() < max
            && let Some((name, (index, resets))) = self.dirty_links.pop_first()
        {
            changes.push(Change::Link(LinkNews { name, index, resets }));
        }
        while changes.len() < max
            && let Some(key) = self.dirty_routes.pop_first()
        {
            let entry = self.entry(&key);
            let before = match &entry {
                Some(entry) => self.told.insert(key, fingerprint(entry)),
                None => self.told.remove(&key),
            };
            if before != entry.as_ref().map(fingerprint) {
                changes.push(Change::Route(key, entry));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests;
