//! Who offloads: providers by name, the types of datapath that each is for, and in which order a port's are asked.
//!
//! `other_config:hw-offload-priority` of the switch gives the order, and that of an interface the only ones that it may have, up to
//! the word `none`. A port belongs to the first that takes it, for as long as it is there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flow::id::DpPort;

/// A kind of provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    pub name: &'static str,
    /// Types of datapath that it is for.
    pub kinds: &'static [&'static str],
}

/// Rules of traffic control, in hardware or in the kernel.
pub const TC: &str = "tc";

/// All of them, by name. The dummies are for tests: they take ports and no flows.
pub const CLASSES: [Class; 3] = [
    Class { name: "dummy", kinds: &["dummy"] },
    Class { name: "dummy_x", kinds: &["dummy"] },
    Class { name: TC, kinds: &["system"] },
];

/// The order if nobody says any.
pub const ORDER: &str = "tc,dpdk,dummy,dummy_x";

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|name| !name.is_empty())
}

/// Names of a list that no provider has.
pub fn unknown(list: &str) -> impl Iterator<Item = &str> {
    names(list).filter(|name| CLASSES.iter().all(|class| class.name != *name))
}

/// The providers of a type of datapath, the one that is asked first first: those that the list names, then the others.
pub fn ordered(kind: &str, list: &str) -> Vec<&'static str> {
    let all = CLASSES.iter().filter(|class| class.kinds.contains(&kind)).map(|class| class.name);
    let mut all: Vec<_> = all.collect();
    let place = |name: &&str| names(list).position(|listed| listed == *name).unwrap_or(usize::MAX);
    all.sort_by_key(place);
    all
}

/// The provider of a port: of those in `order` the first that its own list names if it has one, and that `takes` it.
pub fn choose(
    order: &[&'static str],
    own: Option<&str>,
    takes: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let takes = |name: &&'static str| takes(name);
    match own {
        None => order.iter().copied().find(takes),
        Some(list) => names(list)
            .take_while(|name| *name != "none")
            .filter_map(|name| order.iter().copied().find(|known| *known == name))
            .find(takes),
    }
}

/// A port of a provider, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub number: DpPort,
    pub name: String,
    /// If rules are there.
    pub ifindex: Option<u32>,
}

impl Member {
    pub(crate) const fn new(number: DpPort, name: String, ifindex: Option<u32>) -> Self {
        Self { number, name, ifindex }
    }
}

/// A port and whose it is.
struct Held {
    name: String,
    kind: String,
    provider: Option<&'static str>,
    /// Its own list was asked.
    settled: bool,
}

/// The ports of dummy providers.
#[derive(Default)]
pub struct Dummies(Mutex<BTreeMap<DpPort, Held>>);

impl Dummies {
    /// Locks; nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<DpPort, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(name: &str, kind: &str) -> bool {
        name != TC && matches!(kind, "dummy" | "dummy-internal" | "dummy-pmd")
    }

    /// There is a port.
    pub fn add(&self, number: DpPort, name: &str, kind: &str, order: &[&'static str]) {
        let provider = choose(order, None, |provider| Self::take(provider, kind));
        let held = Held { name: name.to_owned(), kind: kind.to_owned(), provider, settled: false };
        self.lock().insert(number, held);
    }

    /// A port has a list of its own, or none. What it says later needs a restart.
    pub fn settle(&self, number: DpPort, own: Option<&str>, order: &[&'static str]) {
        if let Some(held) = self.lock().get_mut(&number).filter(|held| !held.settled) {
            held.settled = true;
            held.provider = choose(order, own, |provider| Self::take(provider, &held.kind));
        }
    }

    /// A port is gone.
    pub fn remove(&self, number: DpPort) {
        self.lock().remove(&number);
    }

    /// Numbers and names of a provider's ports.
    pub fn ports(&self, provider: &str) -> Vec<(DpPort, String)> {
        let ports = self.lock();
        let of = ports.iter().filter(|(_, held)| held.provider == Some(provider));
        of.map(|(number, held)| (*number, held.name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_say_the_order_and_the_rest_comes_last() {
        assert_eq!(ordered("dummy", ORDER), ["dummy", "dummy_x"]);
        assert_eq!(ordered("dummy", "dummy_x,dummy"), ["dummy_x", "dummy"]);
        assert_eq!(ordered("dummy", ",none,dummy_x"), ["dummy_x", "dummy"]);
        assert_eq!(ordered("system", "dummy"), [TC]);
        assert_eq!(ordered("netdev", ORDER), [""; 0]);
        assert_eq!(unknown("none,dummy,,dpdk").collect::<Vec<_>>(), ["none", "dpdk"]);
    }

    #[test]
    fn a_port_has_the_first_that_takes_it() {
        let order = ["dummy", "dummy_x"];
        let own = |list| choose(&order, list, |_| true);
        assert_eq!(own(None), Some("dummy"));
        assert_eq!(own(Some("dummy_x,dummy")), Some("dummy_x"));
        assert_eq!(own(Some("tc,dummy_x,none")), Some("dummy_x"));
        assert_eq!(own(Some("none,dummy")), None);
        assert_eq!(own(Some("tc")), None);
        assert_eq!(choose(&order, None, |name| name == "dummy_x"), Some("dummy_x"));
    }

    #[test]
    fn a_port_stays_with_its_provider() {
        let order = ["dummy", "dummy_x"];
        let dummies = Dummies::default();
        let of = |provider: &str| {
            dummies.ports(provider).into_iter().map(|(number, _)| number.0).collect::<Vec<_>>()
        };
        for (number, kind) in [(0, "dummy-internal"), (1, "dummy"), (2, "dummy-pmd"), (3, "tap")] {
            dummies.add(DpPort(number), "p", kind, &order);
        }
        assert_eq!([of("dummy"), of("dummy_x")], [vec![0, 1, 2], vec![]]);
        dummies.settle(DpPort(1), Some("dummy_x"), &order);
        dummies.settle(DpPort(2), Some("none"), &order);
        assert_eq!([of("dummy"), of("dummy_x")], [vec![0], vec![1]]);
        // Too late.
        dummies.settle(DpPort(1), None, &order);
        assert_eq!(of("dummy_x"), [1]);
        dummies.remove(DpPort(1));
        assert_eq!(of("dummy_x"), [0; 0]);
    }
}
