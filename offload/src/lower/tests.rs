use flow::action::{self, Action};
use flow::id::DpPort;
use flow::key::{Key, Mask, VLAN_CFI};
use flow::odp::format::Style;
use flow::odp::{self, NoNames, OdpSupport, Params};
use flow::proto::{ethertype, ip};
use proptest::prelude::*;

use super::*;
use crate::raise::raise;
use crate::rule::Device;
use crate::tc::action::ActStats;
use crate::tc::filter::{Filter, Id};
use crate::tc::{Hook, On};

/// Ports 1 to 9 are interfaces 101 to 109; port 9 is internal. Meter 5 is limit 55.
struct World;

impl Surroundings for World {
    fn device(&self, port: DpPort) -> Option<Device> {
        let hook = if port.0 == 9 { Hook::Egress } else { Hook::Ingress };
        (1..10).contains(&port.0).then_some(Device {
            ifindex: 100 + port.0,
            block: None,
            hook,
            tunnel: false,
        })
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        (101..110).contains(&ifindex).then(|| DpPort(ifindex - 100))
    }

    fn police(&self, meter: flow::id::DpMeter) -> Option<u32> {
        (meter.0 == 5).then_some(55)
    }

    fn meter(&self, index: u32) -> Option<flow::id::DpMeter> {
        (index == 55).then_some(flow::id::DpMeter(5))
    }
}

const SUPPORT: Support = Support { enc_flags: true, gbp: true, ct_state: 0x3f, chains: true };

pub(crate) fn parsed(flow: &str) -> (Key, Mask) {
    let (raw, raw_mask) = odp::parse::flow(flow, &NoNames).unwrap_or_else(|error| panic!("{flow}: {error}"));
    let (key, _) = odp::key_to_flow(&raw).unwrap();
    let mask = odp::mask_to_flow(&raw_mask, &key).unwrap().0;
    (key, mask)
}

fn lowered(flow: &str, actions: &str) -> Result<Rule, Unsupported> {
    let (key, mask) = parsed(flow);
    let actions = action::parse::actions(actions, &NoNames).unwrap();
    lower((&key, &mask), &actions, &World, &SUPPORT)
}

fn filter(rule: Rule) -> Filter {
    let (on, hook) = (On::Device(1), Hook::Ingress);
    let id = Id { on, hook, chain: rule.chain, prio: 1, protocol: rule.protocol, handle: 1 };
    Filter { id, key: rule.key, flags: 0, in_hw_count: 0, actions: rule.actions, stats: ActStats::default() }
}

/// Key and mask of a flow as text, and its actions.
pub(crate) fn text(key: &Key, mask: &Mask, actions: &[Action]) -> (String, String) {
    let params = Params { mask: Some(mask), ..Params::new(key, &OdpSupport::ALL) };
    let (raw, raw_mask) = (odp::key_from_flow(&params), odp::mask_from_flow(&params, mask));
    let flow = odp::format::flow(&raw.0, &raw_mask.0, &Style::new(&NoNames, false));
    (flow, action::format::actions(actions, &NoNames))
}

fn raised(flow: &str, actions: &str) -> (String, String) {
    let rule = lowered(flow, actions).unwrap_or_else(|error| panic!("{flow}: {error}"));
    let raised = raise(&filter(rule), DpPort(1), &World).unwrap();
    text(&raised.key, &raised.mask, &raised.actions)
}

const HEAD: &str = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),";

/// The rest of a flow behind [`HEAD`]; without an Ethernet header it would be of packets that have none.
fn whole(flow: &str) -> String {
    let eth = if flow.contains("eth(") { "" } else { "eth()," };
    format!("{HEAD}{eth}{flow}")
}

/// Flows that are the same when they were lowered and raised, behind [`HEAD`].
const SAME: &[(&str, &str)] = &[
    ("eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(frag=no)", "2"),
    ("eth(dst=02:00:00:00:00:00/ff:00:00:00:00:00),eth_type(0x0806)", "drop"),
    ("eth_type(0x0806),arp(sip=10.0.0.1,tip=10.0.0.0/255.255.255.0,op=1,sha=02:00:00:00:00:01)", "2,3"),
    ("eth_type(0x8100),vlan(vid=5,pcp=3),encap(eth_type(0x0800),ipv4(frag=no))", "pop_vlan,2"),
    (
        "eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=6,pcp=1),encap(eth_type(0x86dd),ipv6(frag=no)))",
        "2",
    ),
    (
        "eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=6,pcp=1),encap(eth_type(0x0806)))",
        "3",
    ),
    ("eth_type(0x8847),mpls(label=100,tc=3,ttl=64,bos=1)", "pop_mpls(eth_type=0x800),2"),
    ("eth_type(0x8847),mpls(label=100/0xfffff,tc=0/0,ttl=0/0x0,bos=0/0,label=100,tc=0,ttl=64,bos=1)", "2"),
    (
        "eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.0/255.0.0.0,proto=6,tos=0x10/0xfc,ttl=64,frag=no),tcp(src=80,dst=1024/0xfc00),tcp_flags(syn|ack)",
        "2",
    ),
    ("eth_type(0x0800),ipv4(proto=17,frag=first),udp(src=1,dst=2)", "2"),
    ("eth_type(0x0800),ipv4(proto=17,frag=later)", "2"),
    ("eth_type(0x0800),ipv4(proto=1,frag=no),icmp(type=8,code=0)", "2"),
    (
        "eth_type(0x86dd),ipv6(src=fe80::1,dst=fe80::/ffff::,proto=58,tclass=0x4,hlimit=255,frag=no),icmpv6(type=135)",
        "2",
    ),
    ("eth_type(0x86dd),ipv6(proto=132,frag=no),sctp(src=7,dst=8)", "2"),
    ("ct_state(+est+trk),ct_zone(5),ct_mark(0x1/0xff),ct_label(0x3/0xf),eth_type(0x0800),ipv4(frag=no)", "2"),
    (
        "ct_state(-est+new-rpl+trk),eth_type(0x0800),ipv4(frag=no)",
        "ct(commit,zone=5,mark=0x1/0xff,label=0x1/0x3),2",
    ),
    ("eth_type(0x0800),ipv4(frag=no)", "ct(zone=9,nat),recirc(0x7)"),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "ct(force_commit,zone=9,nat(src=10.0.0.1-10.0.0.9:5-6)),ct_clear,recirc(0x7)",
    ),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "push_vlan(vid=5,pcp=1),2,pop_vlan,push_vlan(tpid=0x88a8,vid=6,pcp=0),3",
    ),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "push_mpls(label=5,tc=1,ttl=64,bos=1,eth_type=0x8847),set(mpls(label=7,tc=1,ttl=63,bos=1)),2",
    ),
    (
        "eth_type(0x0800),ipv4(proto=6,frag=no)",
        "set(eth(src=02:00:00:00:00:01)),set(ipv4(src=10.0.0.1,ttl=9)),set(tcp(dst=80)),2",
    ),
    ("eth_type(0x0800),ipv4(frag=no)", "set(ipv4(tos=0x4/0xfc)),2"),
    (
        "eth_type(0x86dd),ipv6(proto=17,frag=no)",
        "set(ipv6(dst=fe80::5,label=0x12345,tclass=0x21/0x3f)),set(udp(src=7)),2",
    ),
    ("eth_type(0x0806),arp(op=1)", "set(arp(sip=1.2.3.4,op=2,tha=02:00:00:00:00:09)),2"),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,tos=0x2,ttl=64,tp_dst=4789,flags(df|csum|key))),4",
    ),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,dst=2.2.2.2,ttl=64,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x7}),flags(key))),4",
    ),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,dst=2.2.2.2,ttl=64,vxlan(gbp(id=5,flags=0x8)),flags(key))),4",
    ),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,ipv6_src=fe80::1,ipv6_dst=fe80::2,ttl=64,erspan(ver=2,dir=1,hwid=0x7),flags(key))),4",
    ),
    ("eth_type(0x0800),ipv4(frag=no)", "meter(5),2"),
    ("eth_type(0x0800),ipv4(frag=no)", "set(skb_mark(0x5)),set(skb_mark(0x1/0xf)),set(skb_priority(0x3)),9"),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "check_pkt_len(size=200,gt(drop),le(set(eth(dst=02:00:00:00:00:01)),2))",
    ),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "push_vlan(vid=1,pcp=0),check_pkt_len(size=200,gt(2,recirc(0x9)),le(3))",
    ),
    ("eth_type(0x0800),ipv4(frag=no)", "check_pkt_len(size=200,gt(4),le(5)),3"),
    ("eth_type(0x0800),ipv4(frag=no)", "check_pkt_len(size=200,gt(drop),le(drop)),3"),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "check_pkt_len(size=200,gt(4),le(drop)),check_pkt_len(size=100,gt(2),le(3)),3",
    ),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "check_pkt_len(size=200,gt(check_pkt_len(size=400,gt(5),le(4))),le(5)),3",
    ),
    (
        "eth_type(0x0800),ipv4(frag=no)",
        "check_pkt_len(size=200,gt(5),le(check_pkt_len(size=100,gt(5),le(4)))),3",
    ),
    (
        "eth(src=02:00:00:00:00:07),eth_type(0x0800),ipv4(proto=1,tos=0/0xfc,frag=no)",
        "check_pkt_len(size=200,gt(set(ipv4(tos=0x4/0xfc)),4),le(set(eth(src=02:00:00:00:00:01)),5)),3",
    ),
    ("eth_type(0x0800),ipv4(frag=no)", "sample(sample=50.0%,actions(psample(group=7))),2"),
    ("eth_type(0x1234)", "2"),
];

/// As [`SAME`], behind a tunnel.
const TUNNELS: &[&str] = &[
    "tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,ttl=64/0,tp_dst=4789,flags(+key))",
    "tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,tos=0x4/0xff,ttl=64,tp_src=5/0xff,tp_dst=4789,flags(+df-csum+key))",
    "tunnel(tun_id=0x7,ipv6_src=fe80::1,ipv6_dst=fe80::/ffff::,ttl=64/0,tp_dst=4789,vxlan(gbp(id=5,flags=8)),flags(+key))",
    "tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,ttl=64/0,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x7/0xff}{class=0x103,type=0x1,len=8,0x100000007}),flags(+key))",
];

#[test]
fn what_is_lowered_and_raised_is_the_same() {
    let rows = SAME.iter().map(|(flow, actions)| (whole(flow), actions.to_string()));
    let pairs = rows.map(|(flow, actions)| (raised(&flow, &actions), (normal(&flow), actions)));
    let different: Vec<_> = pairs.filter(|(raised, same)| raised != same).collect();
    assert_eq!(different, []);
}

/// A flow as it is printed.
fn normal(flow: &str) -> String {
    let (key, mask) = parsed(flow);
    text(&key, &mask, &[]).0
}

#[test]
fn tags_that_nobody_looks_at_are_told_of() {
    let (key, mut mask) = parsed(&whole(
        "eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=6,pcp=1),encap(eth_type(0x0800)))",
    ));
    use crate::tc::key::KeyField::{CvlanEthType, CvlanId, EthType, VlanEthType, VlanId, VlanPrio};
    for (tag, vid, pcp) in [(1, Some(5), Some(0)), (0, None, None)] {
        mask.0.vlans[tag] = Default::default();
        let rule = lower((&key, &mask), &[Action::Output(DpPort(2))], &World, &SUPPORT).unwrap();
        let exact = |field| rule.key.number(field).map(|(value, _)| value);
        let types = [EthType, VlanEthType, CvlanEthType].map(exact);
        assert_eq!((rule.protocol, types), (0x88a8, [Some(0x88a8), Some(0x8100), Some(0x800)]));
        assert_eq!([VlanId, VlanPrio, CvlanId].map(exact), [vid, pcp, None]);
    }
}

#[test]
fn tunnels_are_lowered_and_raised() {
    for tunnel in TUNNELS {
        let flow = whole(&format!("{tunnel},eth_type(0x0800),ipv4(frag=no)"));
        assert_eq!(raised(&flow, "2"), (normal(&flow), "2".to_owned()));
        // The tunnel is forgotten before the packet leaves.
        let rule = lowered(&flow, "2,3").unwrap();
        let kinds: Vec<_> = rule.actions.iter().map(|action| action.spec.kind()).collect();
        assert_eq!(kinds, ["tunnel_key", "mirred", "mirred"]);
    }
}

#[test]
fn a_rule_takes_the_packet() {
    let controls = |actions| {
        let rule = lowered(&whole("eth_type(0x0800),ipv4(frag=no)"), actions).unwrap();
        rule.actions
            .into_iter()
            .map(|action| (action.spec.kind().to_owned(), action.control))
            .collect::<Vec<_>>()
    };
    use crate::tc::action::Control::{Goto, Pipe, Shot, Stolen};
    let want = |list: &[(&str, crate::tc::action::Control)]| {
        list.iter().map(|(kind, control)| (kind.to_string(), *control)).collect::<Vec<_>>()
    };
    assert_eq!(controls("drop"), want(&[("gact", Shot)]));
    assert_eq!(controls("2,3"), want(&[("mirred", Pipe), ("mirred", Stolen)]));
    assert_eq!(controls("2,pop_vlan"), want(&[("mirred", Pipe), ("vlan", Pipe), ("gact", Shot)]));
    assert_eq!(controls("clone(2),recirc(0x5)"), want(&[("mirred", Pipe), ("gact", Goto(5))]));
    assert_eq!(controls("ct(commit)"), want(&[("ct", Pipe), ("gact", Shot)]));
    // What an internal port receives is for this host.
    assert_eq!(controls("9"), want(&[("skbedit", Pipe), ("mirred", Stolen)]));
}

#[test]
fn sides_by_length_skip_each_other() {
    let controls = |actions| {
        let rule = lowered(&whole("eth(),eth_type(0x0800),ipv4(tos=0/0xfc,frag=no)"), actions).unwrap();
        rule.actions
            .into_iter()
            .map(|action| (action.spec.kind().to_owned(), action.control.code()))
            .collect::<Vec<_>>()
    };
    use crate::tc::action::Control::{Jump, Pipe, Stolen};
    let want = |list: &[(&str, crate::tc::action::Control)]| {
        list.iter().map(|(kind, control)| (kind.to_string(), control.code())).collect::<Vec<_>>()
    };
    assert_eq!(
        controls("check_pkt_len(size=200,gt(4),le(5)),3"),
        want(&[("police", Pipe), ("mirred", Jump(3)), ("mirred", Pipe), ("mirred", Stolen)])
    );
    // Changes of a side are undone, for the rest sees the packet as it was.
    assert_eq!(
        controls("check_pkt_len(size=200,gt(drop),le(set(ipv4(tos=0x4/0xfc)),5)),3"),
        want(&[
            ("police", Pipe),
            ("pedit", Pipe),
            ("csum", Pipe),
            ("mirred", Pipe),
            ("pedit", Pipe),
            ("csum", Jump(6)),
            ("mirred", Stolen),
        ])
    );
    let what = |flow: &str, actions| lowered(&whole(flow), actions).unwrap_err().to_string();
    assert_eq!(
        what("eth_type(0x0800),ipv4(frag=no)", "check_pkt_len(size=9,gt(set(ipv4(tos=0x4/0xfc)),4),le(5)),3"),
        "actions after check_pkt_len with sets of what is not matched"
    );
    assert_eq!(
        what("eth_type(0x0800),ipv4(frag=no)", "check_pkt_len(size=9,gt(pop_vlan,4),le(5)),3"),
        "actions after check_pkt_len with more than outputs and sets"
    );
}

#[test]
fn changes_are_one_and_mend_checksums_once() {
    let flow = whole("eth_type(0x0800),ipv4(proto=17,frag=no)");
    let rule =
        lowered(&flow, "set(eth(src=02:00:00:00:00:01)),set(ipv4(dst=10.0.0.1,ttl=5)),set(udp(src=5)),2");
    let kinds: Vec<_> = rule.unwrap().actions.into_iter().map(|action| action.spec).collect();
    let [crate::tc::action::Spec::Pedit(keys), crate::tc::action::Spec::Csum(sums), _] = &*kinds else {
        panic!("{kinds:?}");
    };
    let at: Vec<_> = keys.iter().map(|key| (key.header as u8, key.at)).collect();
    assert_eq!(at, [(1, 4), (1, 8), (2, 16), (2, 8), (5, 0)]);
    assert_eq!(*sums, crate::tc::action::csum::IPV4 | crate::tc::action::csum::UDP);
}

#[test]
fn headers_behind_two_tags_stay_as_they_are() {
    let tagged = "eth(),eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=6,pcp=1),encap(eth_type(0x0800),ipv4(ttl=64,frag=no)))";
    let lowered = |actions: &str| lowered(tagged, actions).map(|rule| rule.actions.len());
    let ttl = "set(ipv4(ttl=63)),2";
    let refused = Err(Unsupported::Set("headers behind two tags"));
    assert_eq!(lowered(ttl), refused);
    assert_eq!(lowered(&format!("push_vlan(vid=7,pcp=0),pop_vlan,{ttl}")), refused);
    assert_eq!(lowered("set(eth(dst=02:00:00:00:00:01)),2"), Ok(2));
    // With one tag less the header is where it is looked for.
    assert_eq!(lowered(&format!("pop_vlan,{ttl}")), Ok(4));
}

#[test]
fn what_stops_a_flow_is_named() {
    let ip = "eth_type(0x0800),ipv4(frag=no)";
    let rows = [
        ("skb_mark(0x5),eth_type(0x0800),ipv4(frag=no)", "2", "no match on pkt_mark"),
        ("skb_priority(0x5),eth_type(0x0800),ipv4(frag=no)", "2", "no match on skb_priority"),
        ("dp_hash(0x5/0xf),eth_type(0x0800),ipv4(frag=no)", "2", "no match on dp_hash"),
        ("ct_state(+trk+snat),eth_type(0x0800),ipv4(frag=no)", "2", "no match on ct_state"),
        ("eth_type(0x86dd),ipv6(label=0x5,frag=no)", "2", "no match on ipv6_label"),
        ("eth_type(0x86dd),ipv6(frag=first)", "2", "no match on fragments of IPv6"),
        (
            "eth_type(0x8100),vlan(vid=5/0xf,pcp=3),encap(eth_type(0x0800),ipv4(frag=no))",
            "2",
            "no match on some bits of vlan_vid",
        ),
        (
            "eth_type(0x8847),mpls(label=5/0xf,tc=0/0,ttl=0/0,bos=0/0)",
            "2",
            "no match on some bits of mpls_label",
        ),
        (
            "eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=135,code=0),nd(target=fe80::1)",
            "2",
            "no match on nd_target",
        ),
        ("eth_type(0x0800),ipv4(proto=2,frag=no)", "22", "port 22 is no network device"),
        (ip, "userspace(pid=5)", "no action userspace"),
        (ip, "trunc(100),2", "no action trunc"),
        (ip, "recirc(0x5),2", "actions after recirc"),
        (ip, "meter(6),2", "meter 6 has no policer"),
        (ip, "ct(helper=ftp),recirc(0x5)", "no action ct with a helper"),
        (ip, "ct(commit,nat(src=1.1.1.1,random)),2", "no action ct with nat flags"),
        (ip, "ct(timeout=x),2", "no action ct with a timeout policy"),
        (ip, "set(ipv4(src=1.1.1.1)),2", "set of ip_src without match on the protocol"),
        (ip, "set(sctp(src=5)),2", "no set of sctp"),
        (ip, "clone(pop_vlan,2),3", "no action clone with changes"),
        (ip, "set(tunnel(dst=1.1.1.1,ttl=1,tp_src=7)),2", "no action set(tunnel) with a source port"),
        (
            ip,
            "sample(sample=50.0%,actions(userspace(pid=5))),2",
            "no action sample with userspace that is not sFlow",
        ),
        (ip, "userspace(pid=5),2", "no action userspace"),
        (
            ip,
            "sample(sample=1.0%,actions(userspace(pid=5,sFlow(vid=0,pcp=0,output=2),actions))),2",
            "no group of psample is left",
        ),
        (
            "eth_type(0x0800),ipv4(proto=6,frag=first)",
            "set(ipv4(src=1.1.1.1)),2",
            "set of ip_src in a fragment",
        ),
        (
            "tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,ttl=64/0,flags(+key)),eth_type(0x0800),ipv4(frag=no)",
            "2,recirc(0x5)",
            "no action recirc with a tunnel that was left",
        ),
    ];
    for (flow, actions, why) in rows {
        let refused = lowered(&whole(flow), actions).map(|_| ());
        assert_eq!(refused.map_err(|why| why.to_string()), Err(why.to_owned()), "{flow} {actions}");
    }
}

#[test]
fn without_a_kernel_that_goes_on_where_chains_end_packets_begin_anew() {
    let (key, mask) = parsed(&whole("eth_type(0x0800),ipv4(frag=no)"));
    let support = Support { chains: false, ..SUPPORT };
    let of = |actions: &str| {
        let actions = action::parse::actions(actions, &NoNames).unwrap();
        lower((&key, &mask), &actions, &World, &support).map(|rule| rule.goto).map_err(|why| why.to_string())
    };
    assert_eq!(of("ct(zone=5),recirc(0x5)"), Ok(Some(5)));
    assert_eq!(of("ct_clear,ct(commit,zone=5,mark=0x1/0xff),recirc(0x5)"), Ok(Some(5)));
    let changed =
        ["ct(zone=5,nat),recirc(0x5)", "ct(force_commit),recirc(0x5)", "2,recirc(0x5)", "clone(recirc(0x5))"];
    for actions in changed {
        let why = "no action recirc with a kernel that does not share recirculation ids";
        assert_eq!(of(actions), Err(why.to_owned()), "{actions}");
    }
}

/// A key that a packet may have, with few enough values that prerequisites hold often.
fn any_flow() -> impl Strategy<Value = (Key, Mask)> {
    let types = proptest::sample::select(&[
        ethertype::IPV4,
        ethertype::IPV6,
        ethertype::ARP,
        ethertype::MPLS,
        0x1234,
    ]);
    let protos = proptest::sample::select(&[ip::TCP, ip::UDP, ip::SCTP, ip::ICMP, ip::ICMPV6, ip::GRE]);
    let tags = proptest::collection::vec(any::<u16>(), 0..3);
    let l2 = (types, tags, any::<[u8; 6]>(), any::<[u8; 6]>(), any::<[u32; 3]>());
    let l3 = (protos, any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u8>(), any::<u8>(), 0..3usize);
    let l4 = (any::<u16>(), any::<u16>(), any::<u16>());
    let ct = (0..64u8, any::<u16>(), any::<u32>(), any::<[u8; 16]>());
    let masks = (any::<u64>(), any::<[u8; 16]>(), any::<u32>());
    (l2, l3, l4, ct, masks).prop_map(|(l2, l3, l4, ct, masks)| build(l2, l3, l4, ct, masks))
}

type L2 = (u16, Vec<u16>, [u8; 6], [u8; 6], [u32; 3]);
type L3 = (u8, [u8; 16], [u8; 16], u8, u8, usize);

fn build(
    (dl_type, tags, src, dst, lses): L2,
    (proto, src6, dst6, tos, ttl, kind): L3,
    (tp_src, tp_dst, tcp_flags): (u16, u16, u16),
    (ct_state, zone, mark, label): (u8, u16, u32, [u8; 16]),
    (choice, addr_mask, word): (u64, [u8; 16], u32),
) -> (Key, Mask) {
    let (mut key, mut mask) = (Key::default(), Mask::default());
    let on = |bit: u32| choice >> bit & 1 == 1;
    let m = &mut mask.0;
    (key.in_port, m.in_port, m.recirc_id) = (1, u32::MAX, u32::MAX);
    (key.dl_type, m.dl_type) = (dl_type.into(), u16::MAX.into());
    (key.dl_src, key.dl_dst) = (src, dst);
    m.dl_src = if on(0) { [0xff; 6] } else { [0; 6] };
    m.dl_dst.copy_from_slice(&addr_mask[..6]);
    for (at, tag) in tags.iter().enumerate() {
        (key.vlans[at].tpid, key.vlans[at].tci) = (ethertype::VLAN.into(), (tag | VLAN_CFI).into());
        let bits = VLAN_CFI | if on(1) { 0xfff } else { 0 } | if on(2) { 0xe000 } else { 0 };
        (m.vlans[at].tpid, m.vlans[at].tci) = (u16::MAX.into(), bits.into());
    }
    if dl_type == ethertype::MPLS {
        for (at, lse) in lses.into_iter().enumerate() {
            key.mpls_lse[at] = lse.into();
            m.mpls_lse[at] = (if on(3 + at as u32) { 0xffff_f0ff_u32 } else { 0 }).into();
        }
    }
    if dl_type == ethertype::ARP {
        (key.nw_proto, m.nw_proto) = (tos, if on(6) { 0xff } else { 0 });
        (key.arp_sha, m.arp_sha) = (dst, if on(7) { [0xff; 6] } else { [0; 6] });
    }
    if ethertype::is_ip(dl_type) {
        (key.nw_proto, m.nw_proto) = (proto, 0xff);
        (key.nw_tos, m.nw_tos, key.nw_ttl, m.nw_ttl) = (tos, word as u8, ttl, if on(8) { 0xff } else { 0 });
        m.nw_frag = flow::key::frag::MASK;
        key.nw_frag = if dl_type == ethertype::IPV4 { [0, 1, 3][kind] } else { 0 };
        if on(9) && key.nw_frag != 3 && proto != ip::GRE {
            let icmp = matches!(proto, ip::ICMP | ip::ICMPV6);
            let bits = if icmp { 0xff } else { u16::MAX };
            (key.tp_src, key.tp_dst) = ((tp_src & bits).into(), (tp_dst & bits).into());
            m.tp_src = (if icmp { u16::MAX } else { word as u16 }).into();
            if proto == ip::TCP {
                (key.tcp_flags, m.tcp_flags) = ((tcp_flags & 0xfff).into(), 0xfff.into());
            }
        }
    }
    match dl_type {
        ethertype::IPV4 | ethertype::ARP => {
            (key.nw_src, key.nw_dst) = (word.into(), (u32::from(tcp_flags) << 16).into());
            (m.nw_src, m.nw_dst) = (u32::MAX.into(), 0xffff_0000_u32.into());
        }
        ethertype::IPV6 => {
            (key.ipv6_src, key.ipv6_dst, m.ipv6_dst) = (src6, dst6, addr_mask);
        }
        _ => {}
    }
    if on(10) {
        (key.ct_state, m.ct_state) = (ct_state | 0x20, 0x3f);
        (key.ct_zone, m.ct_zone, key.ct_mark, m.ct_mark) = (zone, u16::MAX, mark, word);
        (key.ct_label, m.ct_label) = (label, addr_mask);
    }
    key = mask.apply(&key);
    (key, mask)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Raised flows lower to the rules that they came from, and packets of the flow are packets of the raised one.
    #[test]
    fn raising_undoes_lowering(flow in any_flow()) {
        let (key, mask) = flow;
        let rule = lower((&key, &mask), &[Action::Output(DpPort(2))], &World, &SUPPORT);
        if let Ok(rule) = rule {
            let raised = raise(&filter(rule.clone()), DpPort(1), &World).unwrap();
            let again = lower((&raised.key, &raised.mask), &raised.actions, &World, &SUPPORT);
            prop_assert_eq!(again, Ok(rule));
            // Where both look, both want the same.
            let both = key.words().iter().zip(mask.0.words()).zip(raised.key.words().iter().zip(raised.mask.0.words()));
            for ((value, bits), (raised, raised_bits)) in both {
                prop_assert_eq!((value ^ raised) & bits & raised_bits, 0);
            }
        }
    }
}
