//! Datapath flows and actions: text, attributes and keys, round and round.

use flow::action::{self, Action};
use flow::cookie::SlowReasons;
use flow::id::DpPort;
use flow::key::{Key, MAX_VLANS, Mask, VLAN_CFI, Vlan};
use flow::mini::Midi;
use flow::odp::commit::{Pending, commit};
use flow::odp::format::Style;
use flow::odp::{self, Fitness, NoNames, OdpSupport, Params, RawKey, RawMask};
use flow::wildcards;
use proptest::prelude::*;
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

/// Text that reads and prints the same, and whose netlink form decodes to the same.
const ACTIONS: &[&str] = &[
    "7,8",
    "drop",
    "recirc(0x2a),hash(l4(0)),hash(sym_l4(5))",
    "userspace(pid=7,sFlow(vid=5,pcp=2,output=1073741823),actions)",
    "userspace(pid=7,slow_path(lacp,action),tunnel_out_port=3)",
    "userspace(pid=4294967295,controller(reason=0,dont_send=1,continuation=0,recirc_id=9,rule_cookie=0,\
     controller_id=2,max_len=128))",
    "userspace(pid=1,userdata(00ff10),actions)",
    "set(eth(dst=aa:00:00:00:00:01)),set(skb_mark(0x5)),set(skb_priority(0x6/0xff))",
    "set(ipv6(dst=fe80::1,label=0x12)),set(nd(target=::7)),set(arp(op=2))",
    "set(nsh(flags=0x02/0x03,ttl=9,spi=0x10,si=7)),set(mpls(label=3,tc=1,ttl=9,bos=1))",
    "set(tunnel(tun_id=0x5,ipv6_src=fc00::1,ipv6_dst=fc00::2,tos=0x4,ttl=9,tp_dst=4789,vxlan(gbp(id=4,flags=0x8)),\
     flags(df|csum|key)))",
    "set(tunnel(dst=1.1.1.1,ttl=64,geneve({class=0x102,type=0x3,len=8,0x1122}{class=0xffff,type=0,len=0}),flags(0)))",
    "set(tunnel(dst=1.1.1.1,ttl=64,gtpu(flags=0x30,msgtype=255),flags(0)))",
    "push_vlan(tpid=0x88a8,vid=7,pcp=1),push_vlan(vid=1,pcp=0),pop_vlan",
    "push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),pop_eth",
    "push_mpls(label=19,tc=0,ttl=64,bos=1,eth_type=0x8847),pop_mpls(eth_type=0x800)",
    "push_nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x1234,si=255,c1=0x1,c2=0x2,c3=0x3,c4=0x0),pop_nsh()",
    "push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x1,si=1,md2=0x10000a041234567820001408fedcba9876543210)",
    "meter(3),trunc(64),ct_clear,lb_output(4),tnl_pop(5)",
    "ct(commit,zone=7,mark=0x1/0xff,label=0x1/0xffffffffffffffffffffffffffffff,helper=ftp,\
     nat(dst=[fe80::1]-[fe80::9]:1-9,persistent,hash))",
    "dec_ttl(le_1(userspace(pid=0,slow_path(cfm)))),1",
    "check_pkt_len(size=100,gt(1,2),le(drop))",
    "sample(sample=100.0%,actions(drop))",
    "tnl_push(tnl_port(1),header(size=50,type=110,eth(dst=00:00:00:00:00:01,src=00:00:00:00:00:02,dl_type=0x0800),\
     ipv4(src=1.1.1.1,dst=2.2.2.2,proto=17,tos=0x4,ttl=64,frag=0x4000),udp(src=0,dst=2152,csum=0x0),\
     gtpu(flags=0x30,msgtype=255,teid=0x7b)),out_port(2))",
    "tnl_push(tnl_port(1),header(size=54,type=107,eth(dst=00:00:00:00:00:01,src=00:00:00:00:00:02,dl_type=0x0800),\
     ipv4(src=1.1.1.1,dst=2.2.2.2,proto=47,tos=0,ttl=64,frag=0x0),erspan(ver=2,sid=0x7,dir=1,hwid=0x1f)),out_port(2))",
];

#[test]
fn actions_round_trip() {
    for text in ACTIONS {
        let actions =
            action::parse::actions(text, &NoNames).unwrap_or_else(|error| panic!("{text}: {error}"));
        let wire = Action::encode_all(&actions);
        assert_eq!(Action::decode_all(&wire).as_ref(), Ok(&actions), "{text}");
        assert_eq!(&action::format::actions(&actions, &NoNames), text);
    }
}

#[test]
fn bad_actions_are_refused_where_they_go_wrong() {
    for (text, rest) in [
        ("1,encap_nsh(", "encap_nsh("),
        ("psample(cookie=0x01)", "psample(cookie=0x01)"),
        ("ct(commit,force_commit)", "ct(commit,force_commit)"),
        ("clone(1", "clone(1"),
        ("push_vlan(vid=4096,pcp=0)", "push_vlan(vid=4096,pcp=0)"),
        ("1 2x", "2x"),
    ] {
        let error = action::parse::actions(text, &NoNames).expect_err(text);
        assert_eq!(error.to_string(), format!("syntax error at {rest}"));
    }
    let deep = "clone(".repeat(1000);
    assert!(action::parse::actions(&deep, &NoNames).is_err());
}

#[test]
fn names_stand_for_ports() {
    let names: BTreeMap<_, _> = [(DpPort(3), "p3".to_owned())].into();
    let actions = action::parse::actions("p3,4,userspace(pid=0,ipfix(output_port=p3))", &names).unwrap();
    assert_eq!(action::format::actions(&actions, &names), "p3,4,userspace(pid=0,ipfix(output_port=p3))");
    assert_eq!(action::format::actions(&actions, &NoNames), "3,4,userspace(pid=0,ipfix(output_port=3))");
    let (key, mask) = odp::parse::flow("in_port(p3),eth(),eth_type(0x0800)", &names).unwrap();
    assert_eq!(
        odp::format::flow(&key.0, &mask.0, &Style::new(&names, false)),
        "in_port(p3),eth(),eth_type(0x0800)"
    );
}

/// Flows whose text reads and prints the same.
const FLOWS: &[&str] = &[
    "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no)",
    "recirc_id(0x7),dp_hash(0x3/0xf),in_port(2),ct_state(-new+est),ct_zone(0x5),ct_mark(0/0x1),eth(),eth_type(0x86dd),\
     ipv6(dst=fc00::/fff0::,frag=later)",
    "in_port(2),eth(src=00:00:00:00:00:01),eth_type(0x88a8),vlan(vid=7,pcp=0),encap(eth_type(0x8100),\
     vlan(vid=8/0xff8,pcp=1/0x4),encap(eth_type(0x0806),arp(sip=1.1.1.1,op=1)))",
    "in_port(2),eth(),eth_type(0x0800),ipv4(proto=6,tos=0/0x3,frag=no),tcp(dst=80),tcp_flags(-fin+syn-rst)",
    "tunnel(tun_id=0x1/0xff,src=1.2.3.4,geneve({class=0x102,type=0x80,len=4,0xa/0xff}),flags(-df-csum+key)),in_port(9),\
     eth(),eth_type(0x894f),nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x1/0x000000ff,si=255,c1=0x7)",
    "in_port(1),packet_type(ns=1,id=0x800),eth_type(0x0800),ipv4(frag=no)",
];

#[test]
fn flows_round_trip() {
    for text in FLOWS {
        let (key, mask) = odp::parse::flow(text, &NoNames).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(&odp::format::flow(&key.0, &mask.0, &Style::PLAIN), text);
    }
}

#[test]
fn verbose_text_has_everything() {
    let text = "ufid:01234567-89ab-cdef-0123-456789abcdef in_port(1),eth(src=00:00:00:00:00:01),eth_type(0x0800),\
                ipv4(dst=1.1.0.0/255.255.0.0)";
    let (key, mask) = odp::parse::flow(text, &NoNames).unwrap();
    assert_eq!(
        odp::format::flow(&key.0, &mask.0, &Style::new(&NoNames, true)),
        "in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:00/00:00:00:00:00:00),eth_type(0x0800),\
         ipv4(src=0.0.0.0/0.0.0.0,dst=1.1.0.0/255.255.0.0,proto=0/0,tos=0/0,ttl=0/0)"
    );
}

#[test]
fn unknown_attributes_are_echoed() {
    let mut key = odp::parse::flow("in_port(1),eth_type(0x86dd)", &NoNames).unwrap().0.0.to_vec();
    key.extend([6, 0, 32, 0, 0xab, 0xcd, 0, 0]);
    assert_eq!(odp::format::flow(&key, &[], &Style::PLAIN), "in_port(1),eth_type(0x86dd),key32(ab cd)");
    key.extend([9, 0]);
    assert_eq!(
        odp::format::flow(&key, &[], &Style::PLAIN),
        "in_port(1),eth_type(0x86dd),key32(ab cd),***2 leftover bytes*** (0900)"
    );
}

#[test]
fn malformed_keys_are_named() {
    let key = |text: &str| odp::key_to_flow(&odp::parse::flow(text, &NoNames).unwrap().0);
    let error = |text: &str| key(text).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error("in_port(1),in_port(2)"), "duplicate in_port attribute in flow key");
    assert_eq!(error("eth_type(0x7)"), "invalid Ethertype 7 in flow key");
    assert_eq!(error("eth_type(0x0806),arp(op=256)"), "unsupported ARP opcode 256 in flow key");
    assert_eq!(error("tunnel(dst=1.1.1.1)"), "tunnel options missing TTL");
    assert_eq!(key("eth(),eth_type(0x0800)").map(|(_, fit)| fit), Ok(Fitness::TooLittle));
    assert_eq!(key("eth(),eth_type(0x0801),tcp(src=1)").map(|(_, fit)| fit), Ok(Fitness::TooMuch));
    let garbage = RawKey(vec![9, 0, 3, 0, 1].into());
    assert_eq!(odp::key_to_flow(&garbage).unwrap_err().to_string(), "trailing garbage in flow key");
}

fn text_key(text: &str) -> Key {
    odp::key_to_flow(&odp::parse::flow(text, &NoNames).unwrap().0).unwrap().0
}

/// Commits from one flow to another and returns actions, mask and slow reasons as text.
fn committed(from: &str, to: impl Fn(&mut Key), mask: Mask, masked_set: bool) -> (String, Mask, SlowReasons) {
    let (mut base, mut key, mut mask) = (text_key(from), text_key(from), mask);
    to(&mut key);
    let mut actions = Vec::new();
    let slow = commit(&key, &mut base, &mut mask, &mut actions, masked_set, Pending::default());
    (action::format::actions(&actions, &NoNames), mask, slow)
}

const TCP: &str = "in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0800),\
                   ipv4(src=1.1.1.1,dst=2.2.2.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=1,dst=2)";

#[test]
fn commits_only_what_changed() {
    let change = |key: &mut Key| {
        key.dl_dst = [9; 6];
        key.nw_ttl = 63;
        key.tp_dst = 80.into();
        key.vlans[0] = Vlan { tpid: 0x8100.into(), tci: (VLAN_CFI | 5).into() };
        key.pkt_mark = 7;
    };
    let mut mask = Mask::default();
    (mask.0.dl_dst, mask.0.nw_ttl, mask.0.tp_dst) = ([0xff; 6], 0xff, 0xffff.into());
    mask.0.pkt_mark = u32::MAX;
    let (text, after, slow) = committed(TCP, change, mask, true);
    assert_eq!(
        text,
        "set(eth(dst=09:09:09:09:09:09)),set(ipv4(ttl=63)),set(tcp(dst=80)),push_vlan(vid=5,pcp=0),set(skb_mark(0x7))"
    );
    assert_eq!((after.0.dl_src, after.0.dl_dst, slow), ([0; 6], [0xff; 6], SlowReasons::empty()));
    let (text, after, _) = committed(TCP, change, mask, false);
    assert_eq!(
        text,
        "set(eth(src=00:00:00:00:00:01,dst=09:09:09:09:09:09)),\
         set(ipv4(src=1.1.1.1,dst=2.2.2.2,proto=6,tos=0,ttl=63,frag=no)),set(tcp(src=1,dst=80)),\
         push_vlan(vid=5,pcp=0),set(skb_mark(0x7))"
    );
    assert_eq!((after.0.dl_src, after.0.nw_src.get(), after.0.nw_frag), ([0xff; 6], u32::MAX, 3));
}

#[test]
fn commits_labels_and_slow_fields() {
    let arp =
        "in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0806),arp(sip=1.1.1.1,op=1)";
    let (text, _, slow) = committed(arp, |key| key.nw_proto = 2, wildcards::for_packet(&text_key(arp)), true);
    assert_eq!((text.as_str(), slow), ("set(arp(op=2))", SlowReasons::ACTION));
    let push = |key: &mut Key| flow::stack::push_label(key, 0, 0x8847, None, true);
    let (text, ..) = committed(TCP, push, Mask::default(), true);
    assert_eq!(text, "push_mpls(label=0,tc=0,ttl=64,bos=1,eth_type=0x8847)");
    let mpls =
        "in_port(1),eth(src=00:00:00:00:00:01),eth_type(0x8847),mpls(label=1,tc=0,ttl=1,bos=0,label=2,bos=1)";
    let pop = |key: &mut Key| assert!(flow::stack::pop_label(key, 2, 0x8847, None));
    assert_eq!(committed(mpls, pop, Mask::default(), true).0, "pop_mpls(eth_type=0x8847)");
    let set = |key: &mut Key| key.mpls_lse[0] = (5 << 12 | 9).into();
    assert_eq!(committed(mpls, set, Mask::default(), true).0, "set(mpls(label=5,tc=0,ttl=9,bos=0))");
}

/// Keys of random content whose shape a datapath could send.
fn keys() -> impl Strategy<Value = Key> {
    let types = prop::sample::select(vec![0x0800, 0x86dd, 0x0806, 0x8847, 0x894f, 0x1234, 0x05ff]);
    let protos = prop::sample::select(vec![6, 17, 132, 1, 58, 2, 47]);
    (prop::collection::vec(any::<u8>(), size_of::<Key>()), types, protos, 0..3usize, any::<bool>()).prop_map(
        |(noise, dl_type, proto, tags, tunneled)| {
            let mut noisy = Key::default();
            noisy.as_mut_bytes().copy_from_slice(&noise);
            let mut key = Key { dl_type: dl_type.into(), ..Key::default() };
            (key.recirc_id, key.dp_hash, key.in_port) =
                (noisy.recirc_id, noisy.dp_hash, noisy.in_port & 0xffff);
            (key.skb_priority, key.pkt_mark) = (noisy.skb_priority, noisy.pkt_mark);
            (key.ct_state, key.ct_zone, key.ct_mark, key.ct_label) =
                (noisy.ct_state, noisy.ct_zone, noisy.ct_mark, noisy.ct_label);
            (key.dl_src, key.dl_dst) = (noisy.dl_src, noisy.dl_dst);
            for (vlan, noise) in key.vlans.iter_mut().zip(noisy.vlans).take(tags) {
                *vlan = Vlan { tpid: 0x8100.into(), tci: (noise.tci.get() | VLAN_CFI).into() };
            }
            if tunneled {
                (key.tunnel.ip_dst, key.tunnel.ttl, key.tunnel.tos) =
                    (1.into(), noisy.tunnel.ttl, noisy.tunnel.tos);
                (key.tunnel.id, key.tunnel.flags) = (noisy.tunnel.id, noisy.tunnel.flags & 0xf | 8);
                (key.tunnel.gbp_id, key.tunnel.gbp_flags) = (noisy.tunnel.gbp_id, noisy.tunnel.gbp_flags);
            }
            upper(&mut key, &noisy, proto);
            key
        },
    )
}

/// Everything above L2.
fn upper(key: &mut Key, noisy: &Key, proto: u8) {
    match key.dl_type.get() {
        0x0800 => (key.nw_src, key.nw_dst) = (noisy.nw_src, noisy.nw_dst),
        0x86dd => {
            (key.ipv6_src, key.ipv6_dst) = (noisy.ipv6_src, noisy.ipv6_dst);
            key.ipv6_label = (noisy.ipv6_label.get() & 0xf_ffff).into();
        }
        0x0806 => {
            (key.nw_src, key.nw_dst, key.nw_proto) = (noisy.nw_src, noisy.nw_dst, noisy.nw_proto & 0x7f);
            return (key.arp_sha, key.arp_tha) = (noisy.arp_sha, noisy.arp_tha);
        }
        0x8847 => return key.mpls_lse[0] = (noisy.mpls_lse[0].get() | 0x100).into(),
        0x894f => {
            key.nsh = noisy.nsh;
            return key.nsh.mdtype = 1;
        }
        _ => return,
    }
    (key.nw_proto, key.nw_tos, key.nw_ttl) = (proto, noisy.nw_tos, noisy.nw_ttl);
    key.nw_frag = [0, 1, 3][usize::from(noisy.nw_frag % 3)];
    if key.nw_frag & 2 != 0 {
        return;
    }
    match (proto, key.dl_type.get()) {
        (6 | 17 | 132, _) => (key.tp_src, key.tp_dst) = (noisy.tp_src, noisy.tp_dst),
        (1, 0x0800) | (58, 0x86dd) => {
            (key.tp_src, key.tp_dst) =
                ((noisy.tp_src.get() & 0x7f).into(), (noisy.tp_dst.get() & 0xff).into());
        }
        _ => {}
    }
    if proto == 6 {
        key.tcp_flags = (noisy.tcp_flags.get() & 0xfff).into();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_survive_attributes_and_text(key in keys()) {
        let params = Params::new(&key, &OdpSupport::ALL);
        let raw = odp::key_from_flow(&params);
        let back = odp::key_to_flow(&raw);
        prop_assert!(back == Ok((key, Fitness::Perfect)), "{:?}", back.map(|(_, fitness)| fitness));
        let mask = odp::mask_from_flow(&params, &wildcards::for_packet(&key));
        let text = odp::format::flow(&raw.0, &mask.0, &Style::new(&NoNames, true));
        // A frame without Ethernet type prints a mask without a key, which reads as a key.
        prop_assume!(key.dl_type.get() >= 0x600);
        let (raw_again, _) = odp::parse::flow(&text, &NoNames).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(odp::format::flow(&raw_again.0, &mask.0, &Style::new(&NoNames, true)), text);
        let (read, fitness) = odp::mask_to_flow(&mask, &key).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(fitness, Fitness::Perfect);
        prop_assert_eq!(odp::mask_from_flow(&params, &read), mask);
    }

    #[test]
    fn masks_over_keys_of_one_shape_are_equal(
        (mut a, b) in prop_oneof![1 => (keys(), keys()), 3 => keys().prop_map(|key| (key, key))],
        other in keys(),
        limit in 0..=MAX_VLANS,
        noise in any::<[u8; 8]>(),
        all in any::<bool>(),
        icmp in prop_oneof![Just(None), (133..138_u16, 0..2_u16).prop_map(Some)],
    ) {
        // What keys of one shape may differ in, and some of what they may not.
        if noise[0] & 1 != 0 {
            (a.nw_src, a.nw_dst, a.tp_src, a.tp_dst) = (other.nw_src, other.nw_dst, other.tp_src, other.tp_dst);
            (a.dl_src, a.dl_dst, a.in_port, a.tcp_flags) = (other.dl_src, other.dl_dst, other.in_port, other.tcp_flags);
        }
        if noise[1] & 1 != 0 {
            (a.vlans, a.nw_ttl, a.nw_frag, a.ct_state) = (other.vlans, other.nw_ttl, other.nw_frag, other.ct_state);
        }
        if noise[2] & 1 != 0 {
            (a.ct_nw_proto, a.ct_nw_src) = (noise[3] & 1, other.nw_src);
        }
        if noise[5] & 1 != 0 {
            a.nw_proto = other.nw_proto;
        }
        if noise[5] & 2 != 0 {
            a.dl_type = other.dl_type;
        }
        if noise[2] & 2 != 0 {
            (a.tunnel, a.mpls_lse, a.nsh) = (other.tunnel, other.mpls_lse, other.nsh);
        }
        let mut b = b;
        if let Some((kind, code)) = icmp.filter(|_| noise[4] & 1 != 0) {
            (b.tp_src, b.tp_dst) = (kind.into(), code.into());
        }
        let mut mask = if all { Mask::exact() } else { wildcards::for_packet(&other) };
        for (word, noise) in mask.0.words_mut().iter_mut().zip(noise.iter().cycle()) {
            if *noise & 0xc0 == 0 {
                *word &= u64::from(*noise).wrapping_mul(0x0101_0101_0101_0101);
            }
        }
        let stored = |key: &Key| odp::Shape::of_stored(&Midi::new(key), limit);
        prop_assert_eq!(odp::Shape::of(&a, limit), stored(&a));
        if stored(&a) == stored(&b) {
            for support in [OdpSupport::ALL, OdpSupport { max_mpls_depth: 1, max_vlan_headers: 1, ..OdpSupport::ALL }] {
                let made = |key: &Key| {
                    let params = Params { key, mask: None, support: &support, vlan_limit: limit, packet_type: true };
                    odp::mask_from_flow(&params, &mask)
                };
                prop_assert_eq!(made(&a), made(&b));
            }
        }
    }

    #[test]
    fn a_commit_arrives(from in keys(), to in keys(), masked_set in any::<bool>()) {
        let (mut base, mut key) = (from, from);
        // What an action can change without another packet.
        (key.dl_src, key.dl_dst, key.vlans) = (to.dl_src, to.dl_dst, to.vlans);
        (key.pkt_mark, key.skb_priority) = (to.pkt_mark, to.skb_priority);
        if matches!(from.dl_type.get(), 0x0800 | 0x86dd) {
            (key.nw_ttl, key.nw_tos) = (to.nw_ttl, to.nw_tos);
        }
        let (mut mask, mut actions) = (wildcards::for_packet(&key), Vec::new());
        commit(&key, &mut base, &mut mask, &mut actions, masked_set, Pending::default());
        prop_assert!(base == key);
        let wire = Action::encode_all(&actions);
        prop_assert_eq!(Action::decode_all(&wire), Ok(actions));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
        let key = RawKey(bytes.clone().into());
        if let Ok((key, _)) = odp::key_to_flow(&key) {
            let _ = odp::mask_to_flow(&RawMask(bytes.clone().into()), &key);
        }
        odp::format::flow(&bytes, &bytes, &Style::PLAIN);
        odp::format::flow(&bytes, &[], &Style::new(&NoNames, true));
        if let Ok(actions) = Action::decode_all(&bytes) {
            action::format::actions(&actions, &NoNames);
        }
    }

    #[test]
    fn mutated_attributes_never_panic(place in 0..FLOWS.len(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (key, mask) = odp::parse::flow(FLOWS[place], &NoNames).expect("a flow of ours");
        let (mut key, mask) = (key.0.to_vec(), mask.0);
        let at = at.index(key.len());
        key[at] = byte;
        odp::format::flow(&key, &mask, &Style::new(&NoNames, true));
        odp::format::flow(&mask, &key, &Style::PLAIN);
        if let Ok((flow, _)) = odp::key_to_flow(&RawKey(key.into())) {
            let _ = odp::mask_to_flow(&RawMask(mask), &flow);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(place in 0..ACTIONS.len(), cut in any::<prop::sample::Index>(), tail in "\\PC{0,8}") {
        let text = ACTIONS[place];
        let text = format!("{}{tail}", &text[..cut.index(text.len())]);
        let _ = action::parse::actions(&text, &NoNames);
        let _ = odp::parse::flow(&text, &NoNames);
    }

    #[test]
    fn mutated_actions_never_panic(place in 0..ACTIONS.len(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut wire = Action::encode_all(&action::parse::actions(ACTIONS[place], &NoNames).expect("actions of ours"));
        let at = at.index(wire.len());
        wire[at] = byte;
        if let Ok(actions) = Action::decode_all(&wire) {
            action::format::actions(&actions, &NoNames);
            Action::encode_all(&actions);
        }
    }
}
