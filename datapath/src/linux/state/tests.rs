use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.to_owned(), flags: sys::link::flag::UP, ..Link::default() }
}

fn key(dst: &str, prefix: u8) -> Key {
    Key { table: table::MAIN, mark: 0, dst: ip(dst), prefix }
}

fn route(dst: &str, prefix: u8, oif: u32) -> Route {
    let key = key(dst, prefix);
    Route { key, oif, gateway: None, source: None, tos: 0, priority: 0, multipath: false }
}

fn entry(device: &str, source: &str) -> Entry {
    Entry { device: device.into(), gateway: None, source: ip(source) }
}

fn news(name: &str, index: Option<u32>, resets: u32) -> Change {
    Change::Link(LinkNews { name: name.into(), index, resets })
}

fn with_two_links() -> State {
    let mut state = State::new();
    state.load_links(&[link(1, "p1"), link(2, "p2")]);
    let address = |index, text: &str| LinkAddress { index, address: Address { ip: ip(text), prefix: 24 } };
    state.load_addresses(&[address(1, "10.0.0.1"), address(2, "10.0.0.2")]);
    state
}

fn message(kind: u16, flags: u16) -> Message<'static> {
    Message { kind, flags, seq: 0, pid: 0, at: 0, payload: &[] }
}

#[test]
fn links_are_told_once_and_coalesced() {
    let mut state = with_two_links();
    let expected = [news("p1", Some(1), 0), news("p2", Some(2), 0)];
    assert_eq!(state.take(100), expected);
    state.take_link(&link(1, "p1"));
    assert!(!state.has_changes(), "nothing is different");
    state.take_link(&Link { mtu: 9000, ..link(1, "p1") });
    state.take_link(&Link { mtu: 1400, ..link(1, "p1") });
    state.forget_link(2);
    assert_eq!(state.take(1), [news("p1", Some(1), 0)]);
    assert_eq!(state.take(100), [news("p2", None, 0)]);
    let runs = |runs: bool| {
        let flags = sys::link::flag::UP | if runs { RUNNING } else { 0 };
        Link { flags, ..link(1, "p1") }
    };
    [true, false, true].map(runs).iter().for_each(|link| state.take_link(link));
    assert_eq!(state.take(100), [news("p1", Some(1), 3)]);
    state.take_link(&runs(false));
    state.take(100);
    state.take_link(&link(1, "renamed"));
    assert_eq!(state.take(100), [news("p1", None, 0), news("renamed", Some(1), 0)]);
}

#[test]
fn the_last_route_that_has_a_source_counts() {
    let mut state = with_two_links();
    state.take(100);
    state.load_routes([route("10.0.0.0", 24, 1), route("10.0.0.0", 24, 2), route("1.1.1.0", 24, 1)]);
    let first = Change::Route(key("10.0.0.0", 24), Some(entry("p2", "10.0.0.2")));
    assert_eq!(state.take(100), [first], "1.1.1.0/24 has no source");
    state.load_addresses(&[LinkAddress { index: 1, address: Address { ip: ip("10.0.0.1"), prefix: 24 } }]);
    let then = Change::Route(key("10.0.0.0", 24), Some(entry("p1", "10.0.0.1")));
    assert_eq!(state.take(100), [then]);
    state.forget_link(1);
    let gone = [news("p1", None, 0), Change::Route(key("10.0.0.0", 24), None)];
    assert_eq!(state.take(100), gone);
    assert!(state.needs_routes());
}

#[test]
fn announced_routes_stand_where_the_kernel_puts_them() {
    let mut state = with_two_links();
    state.take(100);
    let with = |oif, priority| Route { priority, ..route("10.0.0.0", 24, oif) };
    state.announce_route(&message(super::route::RTM_NEWROUTE, 0), with(1, 0));
    state.announce_route(&message(super::route::RTM_NEWROUTE, NLM_F_APPEND), with(2, 0));
    state.announce_route(&message(super::route::RTM_NEWROUTE, NLM_F_APPEND), with(2, 0));
    let order = |state: &State| {
        let routes = &state.routes[&key("10.0.0.0", 24)];
        routes.iter().map(|route| (route.oif, route.priority)).collect::<Vec<_>>()
    };
    assert_eq!(order(&state), [(1, 0), (2, 0)], "what is there is there once");
    state.announce_route(&message(super::route::RTM_NEWROUTE, 0), with(1, 50));
    state.announce_route(&message(super::route::RTM_NEWROUTE, flag::REPLACE), with(2, 50));
    assert_eq!(order(&state), [(1, 0), (2, 0), (2, 50)]);
    state.announce_route(&message(RTM_DELROUTE, 0), with(2, 0));
    assert_eq!(order(&state), [(1, 0), (2, 50)]);
    assert_eq!(state.len(), 2);
    state.announce_route(&message(RTM_DELROUTE, 0), with(1, 0));
    state.announce_route(&message(RTM_DELROUTE, 0), with(2, 50));
    assert!(state.is_empty());
    assert_eq!(state.take(100), [], "nobody was told of what came and went");
}

#[test]
fn only_tables_that_rules_ask_matter() {
    let mut state = with_two_links();
    state.take(100);
    let mut other = route("10.9.0.0", 16, 1);
    other.key.table = 42;
    other.gateway = Some(ip("10.0.0.9"));
    state.load_routes([other]);
    assert!(!state.has_changes());
    let rule = Rule { priority: 5, invert: false, v4: true, from: None, table: 42 };
    state.load_rules(vec![rule]);
    assert!(state.needs_routes());
    state.load_routes([other]);
    let known = Entry { gateway: Some(ip("10.0.0.9")), ..entry("p1", "10.0.0.1") };
    assert_eq!(state.take(100), [Change::Rules(vec![rule]), Change::Route(other.key, Some(known))]);
    state.load_rules(vec![]);
    assert_eq!(state.take(100), [Change::Rules(vec![]), Change::Route(other.key, None)]);
    assert!(state.is_empty());
}

#[test]
fn a_table_of_routes_is_told_in_bounded_steps() {
    let mut state = with_two_links();
    state.take(100);
    let nth = |n: u32| {
        let mut route = route("10.0.0.0", 24, 1);
        route.key.dst = IpAddr::V4((0x1400_0000 + (n << 8)).into());
        route.gateway = Some(ip("10.0.0.9"));
        route
    };
    state.load_routes((0..10_000).map(nth));
    let (mut steps, mut told) = (0, 0);
    while state.has_changes() {
        let step = state.take(512);
        assert!(step.len() <= 512);
        told += step.len();
        steps += 1;
    }
    assert_eq!((told, steps), (10_000, 20));
    state.load_routes((0..10_000).map(nth));
    assert_eq!(state.take(512), [], "the same table again is no news");
    state.load_routes((1..10_000).map(nth));
    assert_eq!(state.take(512), [Change::Route(nth(0).key, None)]);
}
