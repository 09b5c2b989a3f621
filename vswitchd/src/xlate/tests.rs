//! Traces of many kinds of packets through one bridge, word for word as OVS 3.7.1 prints them for the same flows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flow::action::Action;
use flow::field::{Field, Value};
use flow::id::{DpPort, OfPort};
use flow::key::Key;
use flow::time::Instant;
use openflow::msg::flow_mod::FlowCommand;
use openflow::msg::group::GroupCommand;
use openflow::msg::port::PortConfig;
use openflow::names::Names;
use openflow::parse::flow::{Purpose, flow_mod};
use openflow::parse::group::group_mod;
use proptest::prelude::*;

use super::RecircIds;
use super::mac::MacTable;
use super::snapshot::{Bridge, BridgeId, Bundle, BundleId, PatchCounters, Port, Snapshot, VlanMode};
use super::trace::{KeyNames, Tracer};
use crate::ofproto::Ofproto;

fn port(number: u16, name: &str, odp: u32) -> Port {
    Port {
        ofp: OfPort(number),
        odp: DpPort(odp),
        name: name.to_owned(),
        bundle: Some(BundleId(u32::from(number))),
        config: PortConfig::empty(),
        may_enable: true,
        peer: None,
        counters: Arc::new(PatchCounters::default()),
        queue_dscp: Vec::new(),
        tunnel: None,
        packets: datapath::netdev::tunnel::Packets::LegacyL2,
    }
}

fn bundle(number: u16, name: &str, vlan: Option<u16>) -> Bundle {
    Bundle {
        id: BundleId(u32::from(number)),
        name: name.to_owned(),
        ports: vec![OfPort(number)],
        mode: if vlan.is_some() { VlanMode::Access } else { VlanMode::Trunk },
        vlan,
        trunks: None,
        cvlans: None,
        qinq_ethtype: 0x88a8,
        priority_tags: super::snapshot::PriorityTags::Never,
        floodable: true,
        protected: false,
        bond: None,
    }
}

/// br0 with ports p1 and p2, trunks, and p3, an access port of VLAN 10.
fn bridge(ofproto: &Ofproto) -> Bridge {
    let ports = [(65534, "br0", 100), (1, "p1", 1), (2, "p2", 2), (3, "p3", 3)];
    Bridge {
        id: BridgeId([7; 16]),
        name: "br0".to_owned(),
        tables: Arc::clone(ofproto.tables()),
        macs: Arc::new(MacTable::new(Default::default(), || ())),
        ports: ports.iter().map(|&(number, name, odp)| (OfPort(number), port(number, name, odp))).collect(),
        bundles: vec![
            bundle(65534, "br0", None),
            bundle(3, "p3", Some(10)),
            bundle(1, "p1", None),
            bundle(2, "p2", None),
        ],
        mirrors: Vec::new(),
        forward_bpdu: false,
        in_band: false,
        packet_in_on_miss: Arc::new(AtomicBool::new(false)),
        controller_alive: Arc::new(AtomicBool::new(false)),
        sflow: None,
        flow_samples: None,
        slowpath_meter: None,
        controller_meter: None,
    }
}

fn ofproto() -> Ofproto {
    let now = Instant::ZERO;
    let mut ofproto = Ofproto::new("br0", now);
    let names = Names::default();
    for line in include_str!("testdata/groups.txt").lines() {
        let (mut request, _) = group_mod(line, Some(GroupCommand::Add), &names).unwrap();
        for (id, bucket) in (0..).zip(&mut request.buckets) {
            bucket.bucket_id = id;
        }
        ofproto.group_mod(request, None, now).unwrap();
    }
    for line in include_str!("testdata/flows.txt").lines() {
        let (request, _) = flow_mod(line, Purpose::Mod(FlowCommand::Add), &names).unwrap();
        ofproto.flow_mod(&request, None, now).unwrap();
    }
    ofproto
}

/// The fields of a packet's headers that the test of soundness varies.
const VARIED: [Field; 15] = [
    Field::EthSrc,
    Field::EthDst,
    Field::Ipv4Src,
    Field::Ipv4Dst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::Ipv6Label,
    Field::IpDscp,
    Field::IpEcn,
    Field::IpTtl,
    Field::ArpSha,
    Field::ArpTha,
    Field::TcpSrc,
    Field::TcpDst,
    Field::TcpFlags,
];

fn translated(snapshot: &Snapshot, recirc: &RecircIds, bridge: &Arc<Bridge>, key: &Key) -> super::Output {
    super::translate(&super::Input {
        snapshot,
        bridge,
        recirc,
        key,
        in_port: OfPort(key.in_port as u16),
        packet: None,
        actions: None,
        rule: None,
        frozen: None,
        pin: None,
        side_effects: false,
        caching: true,
        in_packet_out: false,
        trace: false,
        names: false,
        now: Instant::ZERO,
        depth: 0,
        resubmits: 0,
        pid: &|_| 0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A packet that differs from another only in bits that the mask leaves out is translated the same.
    #[test]
    fn masks_are_sound(noise in proptest::collection::vec(any::<u8>(), 16), field in 0..VARIED.len()) {
        let ofproto = ofproto();
        let bridge = Arc::new(bridge(&ofproto));
        let snapshot = Snapshot::new([Arc::clone(&bridge)], Arc::new(datapath::user::engine::features()), 1);
        let recirc = RecircIds::default();
        let field = VARIED[field];
        for case in include_str!("testdata/traces.txt").split("$ ").skip(1) {
            let (flow, _) = case.split_once('\n').unwrap();
            let (key, _) = flow::exact::parse(flow, &KeyNames::new(Some(&bridge))).unwrap();
            let first = translated(&snapshot, &recirc, &bridge, &key);
            let significant = field.get(&first.mask.0);
            let free = Value::from_bytes(&significant.bytes().iter().map(|byte| !byte).collect::<Vec<_>>());
            let mut other = key;
            field.set_masked(&mut other, &Value::resized(&noise, field.n_bytes()), &free);
            let second = translated(&snapshot, &recirc, &bridge, &other);
            prop_assert_eq!(&first.actions, &second.actions, "{} of {}", field, flow);
            prop_assert!(first.mask == second.mask, "{} of {}", field, flow);
        }
    }
}

#[test]
fn an_ethernet_header_that_an_output_took_off_is_put_on_again() {
    let mut ofproto = Ofproto::new("br0", Instant::ZERO);
    let line = "in_port=1,ip,actions=output:2,output:3,output:2";
    let (request, _) = flow_mod(line, Purpose::Mod(FlowCommand::Add), &Names::default()).unwrap();
    ofproto.flow_mod(&request, None, Instant::ZERO).unwrap();
    let mut bridge = bridge(&ofproto);
    bridge.ports.get_mut(&OfPort(2)).unwrap().packets = datapath::netdev::tunnel::Packets::LegacyL3;
    let bridge = Arc::new(bridge);
    let snapshot = Snapshot::new([Arc::clone(&bridge)], Arc::new(datapath::user::engine::features()), 1);
    let flow = "in_port=1,ip,dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02";
    let (key, _) = flow::exact::parse(flow, &KeyNames::new(Some(&bridge))).unwrap();
    let out = translated(&snapshot, &RecircIds::default(), &bridge, &key);
    let (src, dst) = (key.dl_src, key.dl_dst);
    let expected = [
        Action::PopEth,
        Action::Output(DpPort(2)),
        Action::PushEth { src, dst },
        Action::Output(DpPort(3)),
        Action::PopEth,
        Action::Output(DpPort(2)),
    ];
    assert_eq!(out.actions, expected);
    // Packets with other addresses get another header.
    assert_eq!((out.mask.0.dl_src, out.mask.0.dl_dst), ([0xff; 6], [0xff; 6]));
}

#[test]
fn traces_are_word_for_word_those_of_ovs() {
    let ofproto = ofproto();
    let bridge = Arc::new(bridge(&ofproto));
    let features = datapath::user::engine::features();
    let snapshot = Snapshot::new([Arc::clone(&bridge)], Arc::new(features), 1);
    let recirc = RecircIds::default();
    let mut wrong = String::new();
    for case in include_str!("testdata/traces.txt").split("$ ").skip(1) {
        let (flow, expected) = case.split_once('\n').unwrap();
        let (key, _) = flow::exact::parse(flow, &KeyNames::new(Some(&bridge))).unwrap();
        let mut tracer = Tracer {
            snapshot: &snapshot,
            recirc: &recirc,
            bridge: &bridge,
            actions: None,
            ct_states: VecDeque::new(),
            names: false,
            dp_names: BTreeMap::new(),
            now: Instant::ZERO,
            pid: &|_| 0,
            execute: &mut |_, _, _| Ok(()),
            act: &mut |_| (),
            see: &mut |_, _| (),
        };
        let trace = tracer.run(&key, None);
        if trace.trim_end() != expected.trim_end() {
            wrong.push_str(&format!("$ {flow}\n--- expected\n{expected}\n--- got\n{trace}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
