//! Where packets of the switch's own go: a copy of the kernel's routes that matter, and routes that users enter.
//!
//! Rules say which tables are asked, and in which order; in a table, the route counts that leads to the smallest network
//! that the destination is in. One that a user entered stands as if its network were 2³² times smaller. IPv4 and IPv6 are
//! apart: a rule or a route of one is nothing to packets of the other.
//!
//! Sans I/O: routes of the kernel come as [`Change`]s, with their source addresses ([`datapath::linux::monitor`]).
//!
//! * [`table`]: one table. [`watch`]: where changes come from. [`command`]: `ovs/route/*`.

pub mod table;
pub mod watch;
pub mod command;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use datapath::linux::addr::{masked, route_source};
use datapath::linux::route::table::{DEFAULT, LOCAL, MAIN};
use datapath::linux::state::Change;
use datapath::linux::{route::Key, rule};
use datapath::netdev::{Address, Netdevs};
use table::Table;

/// Who entered a route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// The kernel has it, or a test device is said to.
    Cached,
    /// `ovs/route/add`.
    User,
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Packets have this mark.
    pub mark: u32,
    /// The network that packets go to; bits beyond the prefix are zero.
    pub dst: IpAddr,
    /// Bits of the network's address.
    pub prefix: u8,
    /// The device that packets leave by.
    pub device: Arc<str>,
    pub gateway: Option<IpAddr>,
    /// Where packets come from.
    pub source: IpAddr,
    pub origin: Origin,
}

/// A rule: packets from somewhere ask a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Lower ones are asked first.
    pub priority: u32,
    /// Packets from elsewhere match.
    pub invert: bool,
    pub v4: bool,
    /// `None` for all.
    pub from: Option<(IpAddr, u8)>,
    pub table: u32,
    pub origin: Origin,
}

impl Rule {
    const fn standard(priority: u32, table: u32, v4: bool) -> Self {
        Self { priority, invert: false, v4, from: None, table, origin: Origin::Cached }
    }

    fn matches(&self, v4: bool, source: Option<IpAddr>) -> bool {
        let inside = match (self.from, source) {
            (None, _) => true,
            (Some((net, prefix)), Some(ip)) => masked(ip, prefix) == masked(net, prefix),
            (Some((net, prefix)), None) => masked(net, prefix).is_unspecified(),
        };
        self.v4 == v4 && inside != self.invert
    }
}

impl From<rule::Rule> for Rule {
    fn from(kernel: rule::Rule) -> Self {
        let rule::Rule { priority, invert, v4, from, table } = kernel;
        Self { priority, invert, v4, from, table, origin: Origin::Cached }
    }
}

/// The rules that there are without anybody saying so.
const STANDARD: [Rule; 5] = [
    Rule::standard(0, LOCAL, true),
    Rule::standard(0x7ffe, MAIN, true),
    Rule::standard(0x7fff, DEFAULT, true),
    Rule::standard(0, LOCAL, false),
    Rule::standard(0x7ffe, MAIN, false),
];

/// See the module.
pub struct Router {
    tables: BTreeMap<u32, Table>,
    /// By priority; of one priority, in the order in which they came.
    rules: Vec<Rule>,
    version: u64,
}

impl Default for Router {
    fn default() -> Self {
        let mut router = Self { tables: BTreeMap::new(), rules: Vec::new(), version: 1 };
        STANDARD.into_iter().for_each(|rule| router.add_rule(rule));
        router
    }
}

impl Router {
    /// Changes whenever a route or a rule does.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Routes that there are.
    pub fn len(&self) -> usize {
        self.tables.values().map(Table::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A table, if it has, or had, routes.
    pub fn table(&self, id: u32) -> Option<&Table> {
        self.tables.get(&id)
    }

    /// All tables, by number.
    pub fn tables(&self) -> impl Iterator<Item = (u32, &Table)> {
        self.tables.iter().map(|(id, table)| (*id, table))
    }

    /// Takes over what the kernel has.
    pub fn apply(&mut self, change: Change) {
        self.version += 1;
        match change {
            Change::Route(key, Some(entry)) => {
                let Key { table, mark, dst, prefix } = key;
                let route = Route {
                    mark,
                    dst,
                    prefix,
                    device: entry.device,
                    gateway: entry.gateway,
                    source: entry.source,
                    origin: Origin::Cached,
                };
                self.tables.entry(table).or_default().insert(route);
            }
            Change::Route(key, None) => {
                let Some(table) = self.tables.get_mut(&key.table) else { return };
                table.remove(key.mark, key.dst, key.prefix, Origin::Cached);
                if table.is_empty() {
                    self.tables.remove(&key.table);
                }
            }
            Change::Rules(rules) => {
                self.rules.retain(|rule| rule.origin == Origin::User);
                rules.into_iter().for_each(|rule| self.add_rule(rule.into()));
            }
            Change::Link(..) => {}
        }
    }

    /// Enters a route; one to the same network by the same hand is replaced.
    pub fn add(&mut self, table: u32, route: Route) {
        self.version += 1;
        self.tables.entry(table).or_default().insert(route);
    }

    /// Enters the routes that an address of a test device brings with it: to itself, and to its network.
    pub fn add_address(&mut self, device: &str, address: &Address) {
        let ip = address.ip;
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        for (table, prefix) in [(LOCAL, whole), (MAIN, address.prefix)] {
            let route = Route {
                mark: 0,
                dst: masked(ip, prefix),
                prefix,
                device: device.into(),
                gateway: None,
                source: ip,
                origin: Origin::Cached,
            };
            self.add(table, route);
        }
    }

    /// Takes a user's route out. Whether there was one.
    pub fn remove(&mut self, table: u32, mark: u32, dst: IpAddr, prefix: u8) -> bool {
        self.version += 1;
        let table = self.tables.get_mut(&table);
        table.is_some_and(|table| table.remove(mark, dst, prefix, Origin::User))
    }

    /// Puts a rule after those of its priority.
    pub fn add_rule(&mut self, rule: Rule) {
        self.version += 1;
        let at = self.rules.partition_point(|other| other.priority <= rule.priority);
        self.rules.insert(at, rule);
    }

    /// Takes the first rule out that a user entered and that is this one, with any priority if that is 0. Whether there was
    /// one.
    pub fn remove_rule(&mut self, wanted: &Rule) -> bool {
        self.version += 1;
        let same = |rule: &Rule| {
            let priority = if wanted.priority == 0 { rule.priority } else { wanted.priority };
            *rule == Rule { priority, origin: Origin::User, ..*wanted }
        };
        let found = self.rules.iter().position(same);
        found.map(|at| self.rules.remove(at)).is_some()
    }

    /// The priority of a rule that is given none: one less than that of the first rule with a priority, or than that of the
    /// last one before which there is room.
    pub fn free_priority(&self) -> u32 {
        let (mut found, mut before) = (0, 0);
        for rule in &self.rules {
            if rule.priority != 0 && (found == 0 || rule.priority - before > 1) {
                found = rule.priority - 1;
            }
            before = rule.priority;
        }
        found
    }

    /// The route that packets to `dst` take. With a `source`, which must be an address of ours, that is where they come
    /// from; else the route tells.
    pub fn lookup(&self, mark: u32, dst: IpAddr, source: Option<IpAddr>) -> Option<Route> {
        let source = source.filter(|ip| !ip.is_unspecified());
        if let Some(ip) = source {
            self.tables.get(&LOCAL)?.lookup(mark, ip)?;
        }
        let v4 = source.unwrap_or(dst).is_ipv4();
        let asked = self.rules.iter().filter(|rule| rule.matches(v4, source));
        let mut found =
            asked.filter_map(|rule| self.tables.get(&rule.table)?.lookup(mark, dst)).next()?.clone();
        found.source = source.unwrap_or(found.source);
        Some(found)
    }
}

/// A route that a user wants.
pub struct Wanted<'a> {
    pub mark: u32,
    pub dst: IpAddr,
    pub prefix: u8,
    pub device: &'a str,
    pub gateway: Option<IpAddr>,
    pub source: Option<IpAddr>,
}

impl Wanted<'_> {
    /// The route, if the device has an address that packets can come from.
    pub fn resolve(&self, netdevs: &Netdevs) -> Option<Route> {
        let addresses = addresses(netdevs, self.device)?;
        let source = route_source(&addresses, self.dst, self.gateway, self.source)?;
        Some(Route {
            mark: self.mark,
            dst: masked(self.dst, self.prefix),
            prefix: self.prefix,
            device: self.device.into(),
            gateway: self.gateway,
            source,
            origin: Origin::User,
        })
    }
}

/// The addresses of a device: of one that the switch has open, or of the kernel's.
fn addresses(netdevs: &Netdevs, name: &str) -> Option<Vec<Address>> {
    if let Some(open) = netdevs.find(name) {
        return Some(open.addresses());
    }
    let links = sys::link::Links::new().ok()?;
    let found = links.addresses(links.index(name).ok()?).ok()?;
    Some(found.into_iter().map(|(ip, prefix)| Address { ip, prefix }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::linux::state::Entry;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn route(dst: &str, prefix: u8, device: &str, source: &str, origin: Origin) -> Route {
        let (dst, source) = (ip(dst), ip(source));
        Route { mark: 0, dst, prefix, device: device.into(), gateway: None, source, origin }
    }

    #[test]
    fn rules_choose_tables() {
        let mut router = Router::default();
        router.add_address("p1", &Address { ip: ip("10.0.0.11"), prefix: 24 });
        router.add_address("p2", &Address { ip: ip("10.0.0.22"), prefix: 24 });
        router.add(11, route("10.0.0.0", 24, "p1", "10.0.0.11", Origin::User));
        router.add(11, route("::", 0, "p1", "2001:db8::11", Origin::User));
        let device = |router: &Router, dst: &str, src: Option<&str>| {
            router.lookup(0, ip(dst), src.map(ip)).map(|route| route.device.to_string())
        };
        assert_eq!(device(&router, "10.0.0.100", None).as_deref(), Some("p2"));
        assert_eq!(device(&router, "10.0.0.100", Some("10.0.0.11")).as_deref(), Some("p2"));
        let priority = router.free_priority();
        let from = Some((ip("10.0.0.11"), 32));
        let rule = Rule { priority, invert: false, v4: true, from, table: 11, origin: Origin::User };
        router.add_rule(rule);
        assert_eq!(priority, 32765);
        assert_eq!(device(&router, "10.0.0.100", Some("10.0.0.11")).as_deref(), Some("p1"));
        assert_eq!(device(&router, "20.0.0.100", Some("10.0.0.11")), None, "no IPv6 route serves IPv4");
        assert_eq!(device(&router, "10.0.0.100", Some("10.0.0.12")), None, "not our address");
        assert!(router.remove_rule(&Rule { priority: 0, ..rule }));
        assert!(!router.remove_rule(&Rule { priority: 0, ..rule }));
    }

    #[test]
    fn users_routes_stand_before_cached_ones() {
        let mut router = Router::default();
        router.add(MAIN, route("10.0.0.0", 8, "user", "10.0.0.1", Origin::User));
        router.add(MAIN, route("10.1.0.0", 16, "kernel", "10.0.0.1", Origin::Cached));
        assert_eq!(&*router.lookup(0, ip("10.1.1.1"), None).expect("a route").device, "user");
        assert!(router.remove(MAIN, 0, ip("10.0.0.0"), 8));
        assert_eq!(&*router.lookup(0, ip("10.1.1.1"), None).expect("a route").device, "kernel");
    }

    #[test]
    fn the_kernels_rules_take_the_place_of_the_standard_ones() {
        let mut router = Router::default();
        let kernel = rule::Rule { priority: 7, invert: false, v4: true, from: None, table: 42 };
        router.apply(Change::Rules(vec![kernel]));
        assert_eq!(router.rules(), [Rule::from(kernel)]);
        let key = Key { table: 42, mark: 0, dst: ip("1.1.1.0"), prefix: 24 };
        let entry = Entry { device: "p1".into(), gateway: None, source: ip("1.1.1.1") };
        router.apply(Change::Route(key, Some(entry)));
        assert_eq!(router.lookup(0, ip("1.1.1.9"), None).map(|route| route.source), Some(ip("1.1.1.1")));
        router.apply(Change::Route(key, None));
        assert!(router.table(42).is_none() && router.is_empty());
    }
}
