//! Against a datapath and a table of rules in memory.

mod doubles;
mod upcalls;

use std::collections::BTreeMap;

use datapath::flow::{FlowDel, FlowPut, Op, OpDone, PutFlags};
use datapath::{MeterBand, MeterStats, PmdId, ufid_of};
use flow::action;
use flow::odp::NoNames;

use super::*;
use crate::room::{HOLD, LAST_RETRY, MIN_RATE};
use crate::tc::action::Police;
use crate::tc::filter::Filter;
use crate::tc::key::KeyField;
use doubles::{Fixture, Nic, configure, full, parsed};

const FLOW: &str = "recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
const MARKED: &str = "recirc_id(0),skb_mark(0x7),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
const CHAINED: &str = "recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";

#[test]
fn a_flow_has_one_place() {
    let it = Fixture::new();
    assert_eq!(it.put(PutFlags::CREATE, FLOW, "2"), Ok(None));
    assert_eq!(it.put(PutFlags::CREATE, FLOW, "2"), Err(Errno::EEXIST.into()));
    assert_eq!(it.put(PutFlags::CREATE, MARKED, "2"), Ok(None));
    assert_eq!((it.nic.rules().len(), it.inner.flows().len()), (1, 1));
    it.hit(3);
    assert_eq!(
        it.dump(false),
        [format!("ovs 0 {MARKED} 2 why:no match on pkt_mark"), format!("tc 3 {FLOW} 2")]
    );
    assert_eq!(
        it.dump(true),
        [format!("ovs 0 {MARKED} 2 why:no match on pkt_mark"), "tc 3 <empty> drop".to_owned()]
    );
    assert_eq!(it.datapath.tally(), (1, [("no match on pkt_mark".to_owned(), 1)].into()));
    assert_eq!(it.del(FLOW).map(|stats| (stats.packets, stats.bytes)), Ok((3, 300)));
    assert_eq!(it.del(FLOW), Err(Errno::ENOENT.into()));
    assert!(it.del(MARKED).is_ok());
    assert_eq!((it.nic.rules().len(), it.inner.flows().len(), it.datapath.tally().0), (0, 0, 0));
}

#[test]
fn a_flow_that_changes_keeps_its_counters_until_it_goes_elsewhere() {
    let it = Fixture::new();
    it.put(PutFlags::CREATE, FLOW, "2").unwrap();
    it.hit(3);
    // In the rule's place.
    let before = it.put(PutFlags::MODIFY, FLOW, "1").unwrap().unwrap();
    assert_eq!((before.packets, it.nic.rules().len()), (3, 1));
    it.hit(2);
    assert_eq!(it.dump(false), [format!("tc 5 {FLOW} 1")]);
    // Into software, where counters begin anew, as the one who puts knows.
    assert!(it.put(PutFlags::MODIFY, FLOW, "trunc(100),2").is_ok());
    assert_eq!(it.dump(false), [format!("ovs 0 {FLOW} trunc(100),2 why:no action trunc")]);
    assert_eq!(it.nic.rules().len(), 0);
    for flow in it.inner.flows().values_mut() {
        flow.stats.packets = 9;
    }
    // And back, where they begin anew likewise: what counted to nine there was taken up from there.
    assert!(it.put(PutFlags::MODIFY, FLOW, "2").is_ok());
    it.hit(1);
    assert_eq!(it.dump(false), [format!("tc 1 {FLOW} 2")]);
    assert_eq!(it.inner.flows().len(), 0);
}

#[test]
fn a_rule_tells_of_an_inner_tag_that_its_flow_does_not_look_at() {
    let it = Fixture::new();
    let tagged = |inner| {
        format!(
            "recirc_id(0),in_port(1),eth(),eth_type(0x88a8),vlan(vid=5,pcp=0),encap({inner}eth_type(0x0800),ipv4(frag=no))"
        )
    };
    let any = "eth_type(0x8100/0),vlan(vid=6/0,pcp=1/0,cfi=1/0),encap(";
    it.put(PutFlags::CREATE, &format!("{})", tagged(any)), "2").unwrap();
    assert_eq!(it.dump(false), [format!("tc 0 {} 2", tagged(""))]);
    assert_eq!(it.nic.rules().len(), 1);
    // Or at its EtherType only, as it is the last that is looked at.
    let it = Fixture::new();
    let outer =
        |inner| format!("recirc_id(0),in_port(1),eth(),eth_type(0x88a8),vlan(vid=5,pcp=0),encap({inner})");
    let last = "eth_type(0x8100),vlan(vid=6/0,pcp=1/0,cfi=1/0),encap(eth_type(0x0800/0))";
    it.put(PutFlags::CREATE, &outer(last), "2").unwrap();
    assert_eq!(it.dump(false), [format!("tc 0 {} 2", outer("eth_type(0x0800)"))]);
    let types = [KeyField::EthType, KeyField::VlanEthType, KeyField::CvlanEthType];
    let of_rule = |rule: &Filter| types.map(|field| rule.key.number(field).map(|(value, _)| value));
    let told: Vec<_> = it.nic.rules().values().map(of_rule).collect();
    assert_eq!(told, [[Some(0x88a8), Some(0x8100), Some(0x800)]]);
}

#[test]
fn what_the_kernel_has_no_rules_for_is_found_out_once() {
    let nic = Arc::<Nic>::default();
    let it = Fixture::over(Arc::clone(&nic));
    let all = Support { enc_flags: true, ..Support::default() };
    assert_eq!((*it.datapath.shared.support(), nic.rules().len()), (all, 0));
    // One that passes over what it does not know, and then one that says so; later devices are of the same kernel.
    *nic.unknown.lock().unwrap() = Some(KeyField::EncFlags);
    let it = Fixture::over(Arc::clone(&nic));
    assert_eq!(*it.datapath.shared.support(), Support::default());
    it.refuse(Some(full()));
    it.datapath.shared.attach_device(DpPort(4), "p", "system", 104);
    assert_eq!(*it.datapath.shared.support(), Support::default());
    let it = Fixture::over(nic);
    assert_eq!(*it.datapath.shared.support(), Support { gbp: false, ct_state: 0, ..Support::default() });
    let tracked = "recirc_id(0),in_port(1),ct_state(+trk),eth(),eth_type(0x0800),ipv4(frag=no)";
    it.refuse(None);
    it.put(PutFlags::CREATE, tracked, "2").unwrap();
    assert_eq!(it.dump(false), [format!("ovs 0 {tracked} 2 why:no match on ct_state")]);
}

#[test]
fn what_is_refused_runs_in_software_and_is_tried_again() {
    let it = Fixture::new();
    it.refuse(Some(full()));
    it.put(PutFlags::CREATE, FLOW, "2").unwrap();
    let soft = format!("ovs 0 {FLOW} 2 why:refused: table full (No space left on device)");
    assert_eq!(it.dump(false), [&*soft]);
    it.pass(1);
    // The dump is over, and the flow is tried again and refused again: the next time is later.
    assert_eq!(it.dump(false), [&*soft]);
    it.refuse(None);
    it.pass(1);
    assert_eq!(it.dump(false), [&*soft]);
    it.pass(1);
    assert_eq!(it.dump(false), [soft]);
    assert_eq!(it.dump(false), [format!("tc 0 {FLOW} 2")]);
    assert_eq!(it.inner.flows().len(), 0);
}

const BACK: &str = "recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4(frag=no)";
const FULL: &str = "why:refused: table full (No space left on device)";
const AWAY: &str = "why:a busier flow has its room in hardware";

/// A flow that is a rule, and one that has no room, with `packets` a second for so long that the one could get the other's.
fn one_waits(rebalance: &str, packets: u64) -> Fixture {
    let it = Fixture::new();
    configure(&it.datapath, rebalance);
    it.pass(1000);
    *it.nic.room.lock().unwrap() = Some(1);
    it.put(PutFlags::CREATE, FLOW, "2").unwrap();
    it.hit(5);
    it.put(PutFlags::CREATE, BACK, "1").unwrap();
    for _ in 0..=HOLD.as_secs() {
        assert_eq!(it.nic.rules().len(), 1);
        it.dump(true);
        it.pass(1);
        it.inner.flows().values_mut().for_each(|flow| flow.stats.packets += packets);
    }
    it.dump(true);
    it
}

#[test]
fn a_busy_flow_gets_the_room_of_an_idle_one() {
    let it = one_waits("true", 100);
    let all = |gone, stays| [format!("ovs {gone} {FLOW} 2 {AWAY}"), format!("tc {stays} {BACK} 1")];
    // Counters begin anew where the layer is another.
    assert_eq!(it.dump(false), all(0, 0));
    assert_eq!((it.datapath.displaced(), it.nic.rules().len(), it.inner.flows().len()), (1, 1, 1));
    it.inner.flows().values_mut().for_each(|flow| flow.stats.packets += 3);
    assert_eq!(it.dump(false), all(3, 0));
    // It comes back once the other goes.
    assert!(it.del(BACK).is_ok());
    it.pass(LAST_RETRY.as_secs());
    it.dump(true);
    it.hit(1);
    assert_eq!(it.dump(false), [format!("tc 1 {FLOW} 2")]);
    assert_eq!(it.del(FLOW).map(|stats| stats.packets), Ok(1));
    assert!(!it.datapath.shared.places.is_following());
}

#[test]
fn what_a_rule_did_not_tell_is_the_flows_in_software() {
    let it = one_waits("false", 100);
    it.hit(3);
    let cold = it.datapath.shared.places.coldest(it.clock.now(), 1);
    let [(ufid, 0, hard)] = cold[..] else { panic!("{cold:?}") };
    assert_eq!(it.datapath.shared.leave_hardware(&[(ufid, hard)]), 1);
    let waits = format!("ovs 600 {BACK} 1 {FULL}");
    assert_eq!(it.dump(false), [format!("ovs 3 {FLOW} 2 {AWAY}"), waits]);
    assert_eq!(it.del(FLOW).map(|stats| stats.packets), Ok(3));
}

#[test]
fn only_a_busy_flow_gets_room_and_only_if_that_is_wanted() {
    for (rebalance, packets) in [("false", 1000), ("true", MIN_RATE - 1)] {
        let it = one_waits(rebalance, packets);
        let waits = packets * (HOLD.as_secs() + 1);
        let all = [format!("ovs {waits} {BACK} 1 {FULL}"), format!("tc 5 {FLOW} 2")];
        assert_eq!((it.dump(false), it.datapath.displaced()), (all.into(), 0));
    }
}

#[test]
fn rules_that_lead_to_others_do_not_give_way() {
    let it = Fixture::new();
    it.put(PutFlags::CREATE, FLOW, "ct,recirc(0x5)").unwrap();
    it.put(PutFlags::CREATE, CHAINED, "2").unwrap();
    it.put(PutFlags::CREATE, BACK, "1").unwrap();
    for _ in 0..2 {
        it.pass(1);
        it.dump(true);
    }
    let cold = it.datapath.shared.places.coldest(it.clock.now(), 9);
    assert_eq!(
        cold.iter().map(|(ufid, rate, _)| (*ufid, *rate)).collect::<Vec<_>>(),
        [(ufid_of(&parsed(BACK).0.0), 0)]
    );
}

#[test]
fn chains_have_floors_where_packets_begin_anew() {
    let nic = Arc::<Nic>::default();
    let support = Support { chains: false, ..Support::default() };
    let it = Fixture::on(Arc::clone(&nic), support);
    let floors = |it: &Fixture| {
        let rules = it.nic.rules();
        let floors = rules.values().filter(|rule| rule.id.prio == crate::prio::FLOOR);
        floors.map(|rule| (rule.id.on, rule.id.chain, rule.id.protocol, rule.flags)).collect::<Vec<_>>()
    };
    it.put(PutFlags::CREATE, FLOW, "ct(zone=5),recirc(0x5)").unwrap();
    it.put(PutFlags::CREATE, CHAINED, "2").unwrap();
    let there = [(On::Device(101), 5, 3, cls::SKIP_HW)];
    assert_eq!(floors(&it), there);
    let other = "recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4(frag=no)";
    it.put(PutFlags::CREATE, other, "ct(zone=5,nat),recirc(0x5)").unwrap();
    let why = "why:no action recirc with a kernel that does not share recirculation ids";
    let expected = [
        format!("ovs 0 {other} ct(zone=5,nat),recirc(0x5) {why}"),
        format!("tc 0 {FLOW} ct(zone=5),recirc(0x5)"),
        format!("tc 0 {CHAINED} 2"),
    ];
    assert_eq!(it.dump(false), expected);
    // Whoever comes after a crash takes it up.
    let it = Fixture::on(nic, support);
    assert_eq!(floors(&it), there);
    for flow in [CHAINED, FLOW] {
        it.del(flow).unwrap();
    }
    it.pass(29);
    it.dump(true);
    assert_eq!(floors(&it), there);
    it.pass(31);
    it.dump(true);
    assert_eq!(floors(&it), []);
    assert!(it.nic.rules().is_empty());
}

#[test]
fn rules_that_hardware_has_not_say_why() {
    let it = Fixture::new();
    it.put(PutFlags::CREATE, FLOW, "2").unwrap();
    let set = |flags| it.nic.rules().values_mut().for_each(|rule| rule.flags = flags);
    let shown = |why: &str| assert_eq!(it.dump(false), [format!("tc 0 {FLOW} 2{why}")]);
    shown("");
    // No device is known to be a NIC's.
    set(cls::NOT_IN_HW);
    shown(" why:no hardware takes rules of p");
    let nic = |hardware| Capabilities {
        name: "p".to_owned(),
        ifindex: 101,
        hardware,
        keys: Vec::new(),
        actions: Vec::new(),
        missing: Vec::new(),
    };
    it.datapath.shared.probed.know(nic(true));
    shown(" why:hardware did not say why");
    *it.nic.words.lock().unwrap() = Some("the table is full".into());
    shown(" why:refused: the table is full");
    set(cls::IN_HW);
    shown("");
    // Hardware's words are asked for where there are some to be had.
    it.datapath.shared.flags.store(0, Ordering::Relaxed);
    let device = it.datapath.shared.device(DpPort(1)).unwrap();
    assert_eq!(it.datapath.shared.flags_on(&device), cls::VERBOSE);
    it.datapath.shared.probed.know(nic(false));
    assert_eq!(it.datapath.shared.flags_on(&device), 0);
}

#[test]
fn flows_that_nobody_tried_say_so() {
    let it = Fixture::new();
    let (key, mask) = parsed(FLOW);
    let flags = PutFlags::CREATE;
    let put = FlowPut { flags, key: &key, mask: Some(&mask), ufid: None, pmd: PmdId::NONE, actions: &[] };
    it.inner.flow_put(&put).unwrap();
    assert_eq!(it.dump(false), [format!("ovs 0 {FLOW} drop why:it was there before flows were offloaded")]);
}

#[test]
fn chains_follow_rules_that_lead_to_them() {
    let it = Fixture::new();
    it.put(PutFlags::CREATE, CHAINED, "2").unwrap();
    let why = "why:no rule leads to recirculation id 0x5";
    assert_eq!(it.dump(false), [format!("ovs 0 {CHAINED} 2 {why}")]);
    it.put(PutFlags::CREATE, FLOW, "ct(zone=5),recirc(0x5)").unwrap();
    it.pass(1);
    it.dump(false);
    assert_eq!(it.dump(false), [format!("tc 0 {FLOW} ct(zone=5),recirc(0x5)"), format!("tc 0 {CHAINED} 2")]);
    // Packets of other devices do not come there.
    let other = "recirc_id(0x5),in_port(2),eth(),eth_type(0x0800),ipv4(frag=no)";
    it.put(PutFlags::CREATE, other, "1").unwrap();
    assert_eq!(it.dump(false)[0], format!("ovs 0 {other} 1 {why}"));
    it.del(other).unwrap();
    it.del(FLOW).unwrap();
    assert!(it.datapath.shared.chains().is_empty());
}

#[test]
fn a_batch_is_one_lot() {
    let it = Fixture::new();
    let flows: Vec<_> = (0..100)
        .map(|n| {
            parsed(&format!("recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.{n},frag=no)"))
        })
        .collect();
    let actions = action::parse::actions("2", &NoNames).unwrap();
    let put = |(key, mask)| {
        let flags = PutFlags::CREATE;
        Op::Put(FlowPut { flags, key, mask: Some(mask), ufid: None, pmd: PmdId::NONE, actions: &actions })
    };
    let puts: Vec<_> = flows.iter().map(|(key, mask)| put((key, mask))).collect();
    let results = it.datapath.operate(&puts);
    assert!(results.iter().all(|result| matches!(result, Ok(OpDone::Put(None)))));
    assert_eq!(*it.nic.lots.lock().unwrap(), [100]);
    // Two operations on one flow are two lots.
    let (key, mask) = &flows[0];
    let del = Op::Del(FlowDel { key, ufid: None, pmd: PmdId::NONE, terse: false });
    let results = it.datapath.operate(&[del, put((key, mask)), del]);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(*it.nic.lots.lock().unwrap(), [100, 2, 1, 2]);
    assert_eq!(it.nic.rules().len(), 99);
}

#[test]
fn a_port_that_goes_takes_its_flows() {
    let it = Fixture::new();
    it.put(PutFlags::CREATE, FLOW, "ct,recirc(0x5)").unwrap();
    it.put(PutFlags::CREATE, "recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4(frag=no)", "1").unwrap();
    it.put(PutFlags::CREATE, "recirc_id(0),in_port(3),eth(),eth_type(0x0800),ipv4(frag=no)", "1").unwrap();
    it.datapath.port_del(DpPort(1)).unwrap();
    assert_eq!((it.nic.rules().len(), it.datapath.tally().0), (1, 1));
    assert!(it.datapath.shared.chains().is_empty());
    assert_eq!(it.datapath.tally().1, [("port 3 has no rules".to_owned(), 1)].into());
    it.datapath.flow_flush().unwrap();
    assert_eq!(
        (it.nic.rules().len(), it.inner.flows().len(), it.datapath.tally()),
        (0, 0, (0, BTreeMap::new()))
    );
}

#[test]
fn what_sflow_samples_is_a_group() {
    let it = Fixture::new();
    let sample = |rate| {
        format!("sample(sample={rate},actions(userspace(pid=5,sFlow(vid=0,pcp=0,output=2),actions))),2")
    };
    let other = "recirc_id(0),in_port(2),eth(),eth_type(0x0806)";
    it.put(PutFlags::CREATE, FLOW, &sample("1.6%")).unwrap();
    it.put(PutFlags::CREATE, other, &sample("100.0%")).unwrap();
    assert_eq!(
        it.dump(false),
        [format!("tc 0 {FLOW} {}", sample("1.6%")), format!("tc 0 {other} {}", sample("100.0%"))]
    );
    let of = |filter: &Filter| match filter.actions[0].spec {
        Spec::Sample(sample) => (sample.rate, sample.group),
        _ => (0, 0),
    };
    let groups: Vec<_> = it.nic.rules().values().map(of).collect();
    assert_eq!(groups, [(62, 1 << 16), (1, (1 << 16) + 1)]);
    assert_eq!(it.datapath.sampled().groups, 2);
    it.put(PutFlags::MODIFY, FLOW, "2").unwrap();
    it.del(other).unwrap();
    assert_eq!(it.datapath.sampled().groups, 0);
}

#[test]
fn rules_of_an_earlier_process_are_adopted_or_go() {
    let earlier = Fixture::new();
    earlier.put(PutFlags::CREATE, FLOW, "ct,recirc(0x5)").unwrap();
    earlier.put(PutFlags::CREATE, CHAINED, "2").unwrap();
    let other = "recirc_id(0),in_port(2),eth(),eth_type(0x0806)";
    earlier.put(PutFlags::CREATE, other, "1").unwrap();
    // Somebody else's, and one that would be in another place now.
    let own = *earlier.nic.rules().keys().find(|id| id.on == On::Device(102)).unwrap();
    let filter = earlier.nic.rules()[&own].clone();
    let mut nameless = Filter { id: Id { handle: 99, ..own }, ..filter.clone() };
    nameless.actions.iter_mut().for_each(|action| action.cookie = None);
    let mut elsewhere = Filter { id: Id { handle: 98, ..own }, flags: cls::SKIP_SW, ..filter };
    elsewhere.actions.iter_mut().for_each(|action| action.cookie = Some(vec![7; 16]));
    for left in [nameless, elsewhere] {
        earlier.nic.rules().insert(left.id, left);
    }
    earlier.hit(4);

    let it = Fixture::over(Arc::clone(&earlier.nic));
    assert_eq!((it.nic.rules().len(), it.datapath.tally().0), (3, 3));
    assert_eq!(
        it.dump(false),
        [format!("tc 4 {FLOW} ct,recirc(0x5)"), format!("tc 4 {other} 1"), format!("tc 4 {CHAINED} 2")]
    );
    // A port that is asked for although it is there keeps them.
    for number in [1, 2] {
        it.datapath.shared.attach_device(DpPort(number), "p", "system", 100 + number);
    }
    assert_eq!(it.dump(false).len(), 3);
    assert_eq!((it.nic.rules().len(), it.datapath.tally().0), (3, 3));
    // Their priorities and handles are taken.
    it.put(PutFlags::CREATE, "recirc_id(0),in_port(1),eth(),eth_type(0x0806)", "2").unwrap();
    it.put(PutFlags::CREATE, "recirc_id(0),in_port(1),eth(),eth_type(0x1234)", "2").unwrap();
    let ids: Vec<_> = it.nic.rules().keys().map(|id| (id.prio, id.handle)).collect();
    assert_eq!(ids, [(5, 1), (6, 4), (7, 5), (5, 2), (6, 3)]);
    assert_eq!(it.del(FLOW).map(|stats| stats.packets), Ok(4));
    // A rule that cannot be read back, for its output is no port any more, goes when it is seen.
    it.datapath.shared.ports.remove(DpPort(2));
    assert_eq!(it.dump(false).len(), 0);
    let left: Vec<_> = it.nic.rules().keys().map(|id| id.on).collect();
    assert_eq!(left, [On::Device(102)]);
}

#[test]
fn a_port_that_becomes_another_device_has_rules_there() {
    let it = Fixture::new();
    it.put(PutFlags::CREATE, FLOW, "2").unwrap();
    it.datapath.shared.attach_device(DpPort(1), "p", "system", 201);
    assert_eq!((it.nic.rules().len(), it.datapath.tally().0), (0, 0));
    it.put(PutFlags::CREATE, FLOW, "2").unwrap();
    let left: Vec<_> = it.nic.rules().keys().map(|id| id.on).collect();
    assert_eq!(left, [On::Device(201)]);
}

#[test]
fn where_rules_may_be_is_said_once() {
    let it = Fixture::new();
    let config = [("hw-offload", "true"), ("tc-policy", "skip_sw")];
    it.datapath.configure(&config.map(|(key, value)| (key.to_owned(), value.to_owned())).into()).unwrap();
    it.put(PutFlags::CREATE, FLOW, "2").unwrap();
    let flags: Vec<_> = it.nic.rules().values().map(|rule| rule.flags).collect();
    assert_eq!(flags, [cls::SKIP_HW]);
}

#[test]
fn meters_are_limits_that_rules_share() {
    let it = Fixture::new();
    let meter = DpMeter(7);
    it.put(PutFlags::CREATE, FLOW, "meter(7),2").unwrap();
    assert_eq!(it.datapath.tally().1, [("meter 7 has no policer".to_owned(), 1)].into());
    it.del(FLOW).unwrap();
    let bands = vec![MeterBand { rate: 1000, burst: 100 }];
    it.datapath.meter_set(meter, &MeterConfig { pktps: true, burst: true, bands }).unwrap();
    let limit = Police::limit(0x1000_0007, true, 1000, 100);
    assert_eq!(*it.nic.limits.lock().unwrap(), [(0x1000_0007, limit)].into());
    it.put(PutFlags::CREATE, FLOW, "meter(7),2").unwrap();
    assert_eq!(it.dump(false), [format!("tc 0 {FLOW} meter(7),2")]);
    // What the kernel's meter counted, and what the limit did.
    let stats = MeterStats { packets: 6, bytes: 600, bands: vec![(3, 100)] };
    assert_eq!(it.datapath.meter_get(meter), Ok(stats.clone()));
    assert_eq!(it.datapath.meter_del(meter), Ok(stats));
    assert!(it.nic.limits.lock().unwrap().is_empty());
}
