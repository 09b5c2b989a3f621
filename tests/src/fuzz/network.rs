//! What the kernel says of connections, links, addresses, routes, neighbours, rules and queueing disciplines.

use std::collections::BTreeMap;

use datapath::conntrack::Tuple;
use datapath::conntrack::entry::L4;
use datapath::kernel::ct::codec::{cta, put_tuple};
use datapath::kernel::ct::timeout;
use datapath::kernel::nfnetlink::Subsystem;
use datapath::kernel::told;
use datapath::linux::addr::LinkAddress;
use datapath::linux::link::Link;
use datapath::linux::neigh::Neighbour;
use datapath::linux::route::Route;
use datapath::linux::rule::Rule;
use datapath::linux::state::State;
use datapath::linux::tc::psched::Psched;
use datapath::linux::tc::root::{KINDS, Kind, Root};
use datapath::linux::tc::{Facts, parse_class, parse_qdisc};
use datapath::netlink::{Batch, Message, Messages};
use flow::attr::Writer;

use super::{Target, choice, none};

/// What is here.
pub static TARGETS: &[Target] = &[
    Target::new(
        "ctnetlink",
        "connections, expectations and timeout policies",
        connections,
        connection_seeds,
        none,
    ),
    Target::new("rtnetlink", "links, addresses, routes, neighbours, rules", links, link_seeds, none),
    Target::new("tc", "queueing disciplines and classes", disciplines, discipline_seeds, none),
    Target::new(
        "qos-text",
        "parameters of queueing disciplines, as the database has them",
        qos_text,
        qos_seeds,
        qos_words,
    ),
];

const FAMILIES: [u8; 3] = [2, 10, 0];

/// A message of netfilter's by a choice of subsystem and address family.
fn connections(data: &[u8]) {
    let Some((choice, attrs)) = choice(data) else { return };
    let subsystem = [Subsystem::Conntrack, Subsystem::Expectations, Subsystem::Timeouts][choice % 3];
    let family = FAMILIES[choice / 3 % 3];
    let mut batch = Batch::default();
    batch.push(u16::from(subsystem as u8) << 8, 0, &[family, 0, 0, 0], |writer| writer.put_coded(attrs));
    let Some(Ok(message)) = Messages::new(batch.bytes()).next() else { return };
    match subsystem {
        Subsystem::Conntrack => {
            let Some(entry) = told::connection(&message) else { return };
            let _ = (entry.text(false, false), entry.text(true, false), entry.text(true, true));
            tuple_agrees(&entry.orig, family);
        }
        Subsystem::Expectations => {
            let _ = told::expectation(&message).map(|expectation| expectation.text());
        }
        Subsystem::Timeouts => _ = timeout::decode(message),
    }
}

/// A tuple that can be written reads as it was.
fn tuple_agrees(tuple: &Tuple, family: u8) {
    let mut batch = Batch::default();
    let kind = u16::from(Subsystem::Conntrack as u8) << 8;
    let mut written = false;
    batch.push(kind, 0, &[family, 0, 0, 0], |writer| {
        written = put_tuple(writer, cta::TUPLE_ORIG, tuple) && put_tuple(writer, cta::TUPLE_REPLY, tuple);
    });
    if written && let Some(Ok(message)) = Messages::new(batch.bytes()).next() {
        assert_eq!(told::connection(&message).map(|entry| entry.orig).as_ref(), Some(tuple));
    }
}

fn connection_seeds() -> Vec<Vec<u8>> {
    let tuple = |src: &str, dst: &str, ip_proto, l4| {
        let address = |text: &str| text.parse().expect("it is an address");
        Tuple { src: address(src), dst: address(dst), ip_proto, l4 }
    };
    let ports = L4::Ports { src: 1, dst: 2 };
    let icmp = L4::Icmp { id: 7, kind: 128, code: 0 };
    let rows = [(0, tuple("10.0.0.1", "10.0.0.2", 6, ports)), (3, tuple("fc00::1", "fc00::2", 58, icmp))];
    let mut seeds: Vec<Vec<u8>> =
        rows.iter().map(|(choice, tuple)| connection_seed(*choice, tuple)).collect();
    let mut expected = Writer::new();
    put_tuple(&mut expected, 1, &rows[0].1);
    put_tuple(&mut expected, 2, &rows[0].1);
    expected.put(7, &5u16.to_be_bytes());
    seeds.push([&[1], expected.bytes()].concat());
    let mut policy = Writer::new();
    policy.put_str(1, "ovs_tp_3_tcp4");
    policy.put(2, &2u16.to_be_bytes());
    policy.put_u8(3, 6);
    policy.nest_flagged(4, |timeouts| timeouts.put(1, &30u32.to_be_bytes()));
    seeds.push([&[2], policy.bytes()].concat());
    seeds
}

fn connection_seed(choice: u8, tuple: &Tuple) -> Vec<u8> {
    let mut attrs = Writer::new();
    put_tuple(&mut attrs, cta::TUPLE_ORIG, tuple);
    put_tuple(&mut attrs, cta::TUPLE_REPLY, tuple);
    put_tuple(&mut attrs, cta::TUPLE_MASTER, tuple);
    for (kind, value) in [(cta::STATUS, 0x19eu32), (cta::TIMEOUT, 86399), (cta::MARK, 5), (cta::ID, 77)] {
        attrs.put(kind, &value.to_be_bytes());
    }
    for kind in [cta::COUNTERS_ORIG, cta::COUNTERS_REPLY, cta::TIMESTAMP] {
        attrs.nest_flagged(kind, |counters| {
            counters.put(1, &6u64.to_be_bytes());
            counters.put(2, &600u64.to_be_bytes());
        });
    }
    attrs.nest_flagged(cta::PROTOINFO, |info| {
        info.nest_flagged(if choice == 0 { 1 } else { 3 }, |tcp| {
            tcp.put_u8(1, 3);
            if choice == 0 {
                tcp.put_u8(2, 7);
                tcp.put_u8(3, 8);
                tcp.put(4, &[0xe3, 0]);
                tcp.put(5, &[0x23, 0]);
            } else {
                tcp.put_u32(2, 7);
                tcp.put_u32(3, 8);
            }
        });
    });
    attrs.nest_flagged(cta::HELP, |help| help.put_str(1, "ftp"));
    attrs.put(cta::ZONE, &5u16.to_be_bytes());
    attrs.put(cta::LABELS, &[1; 16]);
    [&[choice], attrs.bytes()].concat()
}

/// Any number of messages: a type (from 16 up) and a length each, then the payload.
fn links(data: &[u8]) {
    let mut state = State::new();
    let mut rest = data;
    let (mut links, mut addresses, mut rules, mut routes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while let Some((&[kind, len], tail)) = rest.split_first_chunk::<2>() {
        let (payload, after) = tail.split_at(usize::from(len).min(tail.len()));
        rest = after;
        let message = Message { kind: 16 + u16::from(kind) % 24, flags: 0, seq: 0, pid: 0, at: 0, payload };
        links.extend(Link::decode(&message));
        addresses.extend(LinkAddress::decode(&message));
        rules.extend(Rule::decode(&message));
        routes.extend(Route::decode(&message));
        let _ = Neighbour::decode(&message);
        state.announce(&message);
    }
    state.take(usize::MAX);
    assert!(!state.has_changes(), "everything was taken");
    state.load_rules(rules);
    state.load_links(&links);
    state.load_addresses(&addresses);
    state.load_routes(routes);
    state.take(usize::MAX);
    assert!(!state.has_changes(), "everything was taken");
}

fn link_seeds() -> Vec<Vec<u8>> {
    let message = |kind: u8, head: &[u8], fill: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::after(head.to_vec());
        fill(&mut writer);
        [&[kind - 16, writer.len() as u8], writer.bytes()].concat()
    };
    let link = message(16, &[0, 0, 0, 1, 9, 0, 0, 0, 0x43, 0x10, 1, 0, 0, 0, 0, 0], &|attrs| {
        attrs.put_str(3, "eth9");
        attrs.put(1, &[2, 0, 0, 0, 0, 9]);
        attrs.put_u32(4, 1500);
        attrs.put_u32(10, 3);
        attrs.put_u8(33, 1);
        attrs.put_u32(35, 2);
        attrs.nest(18, |info| {
            info.put_str(1, "vxlan");
            info.nest(2, |data| data.put(15, &4789u16.to_be_bytes()));
            info.put_str(4, "openvswitch");
        });
    });
    let address = message(20, &[2, 24, 0, 0, 9, 0, 0, 0], &|attrs| {
        attrs.put(1, &[10, 1, 2, 3]);
        attrs.put(2, &[10, 1, 2, 3]);
        attrs.put_str(3, "eth9");
    });
    let route = message(24, &[2, 24, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], &|attrs| {
        attrs.put_u32(15, 254);
        attrs.put(1, &[10, 1, 2, 0]);
        attrs.put_u32(6, 100);
        attrs.put(5, &[10, 1, 2, 254]);
        attrs.put_u32(4, 9);
    });
    let hops = message(24, &[2, 0, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], &|attrs| {
        attrs.put(9, &[[16, 0, 0, 0, 9, 0, 0, 0], [8, 0, 5, 0, 10, 1, 2, 254]].concat());
        attrs.put(18, &[10, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    });
    let neighbour = message(28, &[2, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 1], &|attrs| {
        attrs.put(1, &[10, 1, 2, 254]);
        attrs.put(2, &[2, 0, 0, 0, 0, 7]);
    });
    let rule = message(32, &[2, 0, 32, 0, 42, 0, 0, 1, 2, 0, 0, 0], &|attrs| {
        attrs.put_u32(15, 42);
        attrs.put_u32(6, 100);
        attrs.put(2, &[10, 0, 0, 1]);
    });
    let gone =
        message(17, &[0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &|attrs| attrs.put_str(3, "eth9"));
    let all = [&link[..], &address, &route, &hops, &neighbour, &rule, &gone].concat();
    vec![link, address, route, hops, neighbour, rule, all]
}

const PSCHED: Psched = Psched { ticks_per_second: 15_625_000.0, buffer_hz: 100 };
const FACTS: Facts = Facts { mtu: Some(1500), speed: Some(1000) };

fn disciplines(data: &[u8]) {
    let Some((pick, payload)) = choice(data) else { return };
    if let Some(root) = parse_qdisc(payload, PSCHED) {
        let _ = (root.rows(), root.whole_class().map(|class| class.text()));
    }
    let kind = KINDS[pick % KINDS.len()].kind;
    if let Some(class) = parse_class(payload, kind, PSCHED).and_then(|told| told.class) {
        let _ = (class.rows(), class.text(), class.max_rate());
        class.put_options(&mut Writer::new(), 1500, PSCHED);
    }
}

fn discipline_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (pick, row) in KINDS.iter().enumerate() {
        let Some(linux) = row.linux else { continue };
        let root = Root::parse(row.kind, &BTreeMap::new(), &FACTS);
        let mut writer = Writer::after(vec![0; 20]);
        writer.put_str(1, linux);
        root.put_options(&mut writer, PSCHED);
        seeds.push([&[pick as u8], writer.bytes()].concat());
        let Some(class) = root.whole_class() else { continue };
        let mut writer = Writer::after(vec![0; 20]);
        writer.put_str(1, linux);
        writer.nest(2, |options| class.put_options(options, 1500, PSCHED));
        writer.nest(7, |stats| {
            stats.put(1, &[1; 12]);
            stats.put(3, &[2; 20]);
            stats.put_u64(8, 9);
        });
        seeds.push([&[pick as u8], writer.bytes()].concat());
    }
    seeds
}

/// `key=value` words after a choice of the discipline.
fn qos_text(data: &[u8]) {
    let Some((pick, text)) = super::text_choice(data) else { return };
    let pairs = text.split(' ').map(|word| word.split_once('=').unwrap_or((word, "")));
    let details: BTreeMap<String, String> =
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let kind = KINDS[pick % KINDS.len()].kind;
    let root = Root::parse(kind, &details, &FACTS);
    let _ = root.rows();
    root.put_options(&mut Writer::new(), PSCHED);
    for class in [root.whole_class(), root.parse_class(&details, &FACTS)].into_iter().flatten() {
        let _ = (class.text(), class.rows());
        class.put_options(&mut Writer::new(), 1500, PSCHED);
        assert!(matches!(kind, Kind::Htb | Kind::Hfsc));
    }
    let _ = Psched::parse(text);
}

fn qos_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "max-rate=1000000 min-rate=5000 burst=100 priority=3",
        "perturb=10 quantum=1514 target=5 limit=100 \
                  interval=7 flows=1024",
        "delay=100 latency=5 loss=3 jitter=1",
        "000003e8 00000040 000f4240 3b9aca00",
    ];
    (0..KINDS.len()).flat_map(|kind| super::chosen(kind, texts)).collect()
}

fn qos_words() -> Vec<String> {
    let words = "max-rate= min-rate= burst= priority= perturb= quantum= target= limit= interval= flows= delay= latency= loss= \
                 jitter= 18446744073709551615 4294967296 -1 0";
    words.split(' ').map(str::to_owned).collect()
}
