use super::ct::{CtNat, NatSide};
use super::mpls::Parts;
use super::police::Exceed;
use super::vlan::Tag;
use super::*;
use crate::tc::options::{Erspan, SetOpts, tests::geneve};
use proptest::option::of;
use proptest::prelude::*;
use std::net::IpAddr;

const LIST: u16 = 3;

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        Just(Control::Pipe),
        Just(Control::Ok),
        Just(Control::Shot),
        Just(Control::Stolen),
        Just(Control::Trap),
        (0..=MAX_VALUE).prop_map(Control::Goto),
        (0..=MAX_VALUE).prop_map(Control::Jump),
        any::<i32>().prop_map(Control::of),
    ]
}

fn tag() -> impl Strategy<Value = Tag> {
    (of(any::<u16>()), 0..0x1000u16, of(0..8u8)).prop_map(|(tpid, id, priority)| Tag { tpid, id, priority })
}

fn parts() -> impl Strategy<Value = Parts> {
    (of(0..0x10_0000u32), of(0..8u8), of(any::<u8>()), of(0..2u8)).prop_map(|(label, tc, ttl, bos)| Parts {
        label,
        tc,
        ttl,
        bos,
    })
}

fn addrs() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ]
}

fn set_opts() -> impl Strategy<Value = SetOpts> {
    prop_oneof![
        proptest::collection::vec((1..4usize).prop_flat_map(geneve), 1..3).prop_map(SetOpts::Geneve),
        any::<u32>().prop_map(SetOpts::Vxlan),
        any::<u32>().prop_map(|index| SetOpts::Erspan(Erspan::V1 { index })),
        any::<(u8, u8)>().prop_map(|(dir, hwid)| SetOpts::Erspan(Erspan::V2 { dir, hwid })),
    ]
}

fn tunnel_set() -> impl Strategy<Value = TunnelSet> {
    let outer = (of(addrs()), of(any::<u32>()), of(any::<u16>()), any::<(bool, bool)>());
    (outer, of(any::<u8>()), of(any::<u8>()), of(set_opts())).prop_map(|(outer, tos, ttl, opts)| {
        let (addrs, id, dst_port, (no_csum, no_frag)) = outer;
        let (src, dst) = addrs.unzip();
        let src = src.filter(|src: &std::net::IpAddr| !src.is_unspecified());
        TunnelSet { id, src, dst, dst_port, no_csum, no_frag, tos, ttl, opts }
    })
}

fn tracked() -> impl Strategy<Value = Ct> {
    let nat = (
        prop_oneof![Just(NatSide::Existing), Just(NatSide::Src), Just(NatSide::Dst)],
        of(addrs()),
        of(any::<(u16, u16)>()),
    );
    let nat = nat.prop_map(|(side, addrs, ports)| CtNat { side, addrs, ports });
    (
        any::<[bool; 3]>(),
        of(any::<u16>()),
        of(any::<(u32, u32)>()),
        of(any::<([u8; 16], [u8; 16])>()),
        of(nat),
    )
        .prop_map(|([commit, force, clear], zone, mark, labels, nat)| Ct {
            commit,
            force,
            clear,
            zone,
            mark,
            labels,
            nat,
        })
}

fn pedit_key() -> impl Strategy<Value = PeditKey> {
    (0..6usize, any::<bool>(), 0..16u32, any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(
        |(header, add, at, value, mask)| PeditKey {
            header: [Header::Network, Header::Eth, Header::Ipv4, Header::Ipv6, Header::Tcp, Header::Udp]
                [header],
            add,
            at: at * 4,
            value,
            mask,
        },
    )
}

fn police() -> impl Strategy<Value = Police> {
    let limit = (1..=u64::MAX, any::<u32>());
    (any::<u32>(), any::<u32>(), of(limit), of(any::<(u64, u64)>()), any::<i32>()).prop_map(
        |(index, mtu, bytes, packets, exceed)| Police {
            index,
            mtu,
            bytes,
            packets,
            exceed: Some(Exceed(Control::of(exceed))),
        },
    )
}

fn spec() -> impl Strategy<Value = Spec> {
    let mirred = (any::<u32>(), any::<(bool, bool)>())
        .prop_map(|(ifindex, (ingress, mirror))| Spec::Mirred(Mirred { ifindex, ingress, mirror }));
    let skbedit = (of(any::<u32>()), of(any::<u16>()), of(any::<(u32, u32)>()), of(any::<u16>())).prop_map(
        |(priority, queue, mark, packet_type)| Spec::Skbedit(Skbedit { priority, queue, mark, packet_type }),
    );
    let sample = (any::<u32>(), any::<u32>(), of(any::<u32>()))
        .prop_map(|(rate, group, trunc)| Spec::Sample(Sample { rate, group, trunc }));
    prop_oneof![
        Just(Spec::Gact),
        mirred,
        skbedit,
        sample,
        tag().prop_map(|tag| Spec::Vlan(Vlan::Push(tag))),
        tag().prop_map(|tag| Spec::Vlan(Vlan::Modify(tag))),
        Just(Spec::Vlan(Vlan::Pop)),
        Just(Spec::Vlan(Vlan::PopEth)),
        any::<([u8; 6], [u8; 6])>().prop_map(|(dst, src)| Spec::Vlan(Vlan::PushEth { dst, src })),
        (any::<u16>(), parts()).prop_map(|(proto, parts)| Spec::Mpls(Mpls::Push(proto, parts))),
        (any::<u16>(), parts()).prop_map(|(proto, parts)| Spec::Mpls(Mpls::MacPush(proto, parts))),
        any::<u16>().prop_map(|proto| Spec::Mpls(Mpls::Pop(proto))),
        parts().prop_map(|parts| Spec::Mpls(Mpls::Modify(parts))),
        Just(Spec::Mpls(Mpls::DecTtl)),
        proptest::collection::vec(pedit_key(), 0..8).prop_map(Spec::Pedit),
        any::<u32>().prop_map(Spec::Csum),
        of(tunnel_set()).prop_map(|set| Spec::TunnelKey(set.map(Box::new))),
        tracked().prop_map(|ct| Spec::Ct(Box::new(ct))),
        police().prop_map(Spec::Police),
    ]
}

/// Any list of actions.
pub fn any_actions() -> impl Strategy<Value = Vec<TcAction>> {
    let action = (spec(), control(), of(proptest::collection::vec(any::<u8>(), 1..=MAX_COOKIE)));
    let action = action.prop_map(|(spec, control, cookie)| TcAction { spec, control, cookie });
    proptest::collection::vec(action, 0..6)
}

#[test]
fn a_limit_by_its_index_says_nothing_else() {
    let action = TcAction::pipe(Spec::Police(Police::by_index(7)));
    let mut out = Writer::new();
    encode_all(std::slice::from_ref(&action), LIST, &mut out);
    let list = Attrs::new(out.bytes()).find(LIST).unwrap();
    assert_eq!(decode_all(list.nested()), Ok(vec![(action, ActStats::default())]));
}

#[test]
fn limits_are_told_in_ticks() {
    let limit = Police::limit(3, false, 125_000, 12_500);
    assert_eq!(limit.bytes, Some((125_000, 1_562_500)));
    let limit = Police::limit(3, true, 1000, 100);
    assert_eq!(limit.packets, Some((1000, 1_562_500)));
}

#[test]
fn counters_are_read() {
    let mut out = Writer::new();
    out.nest(1, |nest| {
        nest.put_str(ACT_KIND, "gact");
        nest.nest(ACT_STATS, |nest| {
            let basic = |bytes: u64, packets: u64| [bytes.to_ne_bytes(), packets.to_ne_bytes()].concat();
            nest.put(stats::BASIC, &basic(900, 9));
            nest.put(stats::BASIC_HW, &basic(500, 5));
            nest.put_u64(stats::PKT64, 1 << 33);
            nest.put(stats::QUEUE, &[1u32, 2, 4, 8, 16].map(u32::to_ne_bytes).concat());
        });
        nest.nest(ACT_OPTIONS, |nest| {
            nest.put(2, &Gen::after(Control::Shot).bytes(&[]));
            nest.put(1, &[5u64, 120, 0, 0].map(u64::to_ne_bytes).concat());
        });
    });
    let counted =
        ActStats { packets: 1 << 33, bytes: 900, hw_packets: 5, hw_bytes: 500, drops: 4, idle: Some(120) };
    assert_eq!(decode_all(Attrs::new(out.bytes())), Ok(vec![(TcAction::gact(Control::Shot), counted)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn what_is_written_reads_the_same(actions in any_actions()) {
        let mut out = Writer::new();
        encode_all(&actions, LIST, &mut out);
        let list = Attrs::new(out.bytes()).find(LIST).unwrap();
        let read = decode_all(list.nested()).unwrap();
        prop_assert_eq!(read.into_iter().map(|(action, _)| action).collect::<Vec<_>>(), actions);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160), kind in 0..11usize) {
        let kinds = ["gact", "mirred", "vlan", "mpls", "pedit", "csum", "tunnel_key", "ct", "skbedit", "sample", "police"];
        let mut out = Writer::new();
        out.nest(1, |nest| {
            nest.put_str(ACT_KIND, kinds[kind]);
            nest.put(ACT_OPTIONS, &bytes);
        });
        let _ = decode_all(Attrs::new(out.bytes()));
        let _ = decode_all(Attrs::new(&bytes));
    }
}
