//! Against a datapath and a table of rules in memory. The table refuses as it is told to.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use datapath::flow::{Dump, Execute, Flow, FlowAttrs, FlowDel, FlowGet, FlowPut, Op, OpDone, PutFlags};
use datapath::netdev::Netdev;
use datapath::upcall::{Answer, Handler, Install, Kind, Offer, Upcall};
use datapath::{DpStats, Features, MeterBand, MeterStats, PmdId, PortChanges, PortInfo, ufid_of};
use flow::action::{self};
use flow::odp::format::Style;
use flow::odp::{Fitness, NoNames, RawKey, RawMask};
use flow::time::{Instant, WallTime};

use super::*;
use crate::provider::ORDER;
use crate::room::{HOLD, LAST_RETRY, MIN_RATE};
use crate::table::{Done, Rules};
use crate::tc::On;
use crate::tc::action::{ActStats, Police, TcAction};
use crate::tc::filter::Filter;
use crate::tc::key::{FlowerKey, KeyField};

#[derive(Default)]
struct Still(AtomicU64);

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _: Instant, _: &Waker) {}
}

/// Flows, and who answers.
#[derive(Default)]
struct Inner {
    flows: Mutex<BTreeMap<Ufid, Flow>>,
    handler: Mutex<Option<Arc<dyn Handler>>>,
    features: Features,
}

impl Inner {
    fn flows(&self) -> MutexGuard<'_, BTreeMap<Ufid, Flow>> {
        self.flows.lock().unwrap()
    }
}

struct List(Vec<Flow>);

impl Dump for List {
    fn next(&mut self, max: usize, to: &mut Vec<Flow>) -> Result<bool, Error> {
        let rest = self.0.split_off(max.min(self.0.len()));
        to.append(&mut self.0);
        self.0 = rest;
        Ok(!self.0.is_empty())
    }
}

impl Datapath for Inner {
    fn name(&self) -> &str {
        "ovs-system"
    }

    fn kind(&self) -> &str {
        "system"
    }

    fn version(&self) -> String {
        String::new()
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn stats(&self) -> DpStats {
        DpStats::default()
    }

    fn run(&self) -> bool {
        false
    }

    fn wake_by(&self, _: &Waker) {}

    fn set_handler(&self, handler: Option<Arc<dyn Handler>>) {
        *self.handler.lock().unwrap() = handler;
    }

    fn port_add(&self, _: &Arc<dyn Netdev>, _: Option<DpPort>) -> Result<DpPort, Error> {
        Err(Errno::ENODEV.into())
    }

    fn port_del(&self, _: DpPort) -> Result<(), Error> {
        Ok(())
    }

    fn port_by_number(&self, _: DpPort) -> Result<PortInfo, Error> {
        Err(Errno::ENODEV.into())
    }

    fn port_by_name(&self, _: &str) -> Result<PortInfo, Error> {
        Err(Errno::ENODEV.into())
    }

    fn ports(&self) -> Vec<PortInfo> {
        Vec::new()
    }

    fn port_device(&self, _: DpPort) -> Result<Arc<dyn Netdev>, Error> {
        Err(Errno::ENODEV.into())
    }

    fn port_changes(&self) -> PortChanges {
        PortChanges::None
    }

    fn flow_put(&self, put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error> {
        let ufid = put.ufid.unwrap_or_else(|| ufid_of(&put.key.0));
        let mut flows = self.flows();
        Shared::check(put.flags, flows.contains_key(&ufid))?;
        let stats = flows.get(&ufid).map(|flow| flow.stats);
        let flow = Flow {
            ufid,
            ufid_present: true,
            key: put.key.clone(),
            mask: put.mask.cloned().unwrap_or_default(),
            actions: put.actions.into(),
            stats: stats.unwrap_or_default(),
            attrs: FlowAttrs::default(),
            pmd: PmdId::NONE,
        };
        flows.insert(ufid, flow);
        Ok(stats)
    }

    fn flow_del(&self, del: &FlowDel<'_>) -> Result<FlowStats, Error> {
        let ufid = del.ufid.unwrap_or_else(|| ufid_of(&del.key.0));
        self.flows().remove(&ufid).map(|flow| flow.stats).ok_or(Errno::ENOENT.into())
    }

    fn flow_get(&self, get: &FlowGet<'_>) -> Result<Flow, Error> {
        let ufid = get.ufid.unwrap_or_else(|| ufid_of(&get.key.0));
        self.flows().get(&ufid).cloned().ok_or(Errno::ENOENT.into())
    }

    fn flow_dump(&self, _: bool) -> Box<dyn Dump> {
        Box::new(List(self.flows().values().cloned().collect()))
    }

    fn flow_flush(&self) -> Result<(), Error> {
        self.flows().clear();
        Ok(())
    }

    fn execute(&self, _: &Execute<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn meter_set(&self, _: DpMeter, _: &MeterConfig) -> Result<(), Error> {
        Ok(())
    }

    fn meter_get(&self, _: DpMeter) -> Result<MeterStats, Error> {
        Ok(MeterStats { packets: 1, bytes: 100, bands: vec![(1, 100)] })
    }

    fn meter_del(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        self.meter_get(meter)
    }
}

/// Rules, and how the next puts fail.
#[derive(Default)]
struct Nic {
    rules: Mutex<BTreeMap<Id, Filter>>,
    refusal: Mutex<Option<Error>>,
    /// Hardware's words for what the kernel takes.
    words: Mutex<Option<Box<str>>>,
    /// What the kernel passes over, for it does not know it.
    unknown: Mutex<Option<KeyField>>,
    /// Rules that there is room for.
    room: Mutex<Option<usize>>,
    limits: Mutex<BTreeMap<u32, Police>>,
    /// Requests that were submitted together.
    lots: Mutex<Vec<usize>>,
}

impl Nic {
    fn rules(&self) -> MutexGuard<'_, BTreeMap<Id, Filter>> {
        self.rules.lock().unwrap()
    }

    fn one(&self, job: &Job<'_>) -> Done {
        let mut rules = self.rules();
        match *job {
            Job::Put { id, replace, .. } if rules.contains_key(&id) != replace => Err(Errno::EEXIST.into()),
            Job::Put { id, key, actions, flags, replace } => {
                if let Some(refusal) = &*self.refusal.lock().unwrap() {
                    return Err(refusal.clone());
                }
                if !replace && self.room.lock().unwrap().is_some_and(|room| rules.len() >= room) {
                    return Err(full());
                }
                let (mut key, actions): (FlowerKey, Vec<TcAction>) = (key.clone(), actions.to_vec());
                if let Some(field) = *self.unknown.lock().unwrap() {
                    key.set_number(field, 0, 0);
                }
                let stats = ActStats::default();
                rules.insert(id, Filter { id, key, flags, in_hw_count: 0, actions, stats });
                Ok(None)
            }
            Job::Del(id) => rules.remove(&id).map(|_| None).ok_or(Errno::ENOENT.into()),
            Job::Get(id) => {
                rules.get(&id).map(|rule| Some(Box::new(rule.clone()))).ok_or(Errno::ENOENT.into())
            }
        }
    }
}

fn full() -> Error {
    Error::Refused { errno: Errno::ENOSPC, text: "table full".into() }
}

struct Told(Vec<Filter>);

impl Rules for Told {
    fn next(&mut self, each: &mut dyn FnMut(Filter)) -> Result<bool, Error> {
        self.0.pop().into_iter().for_each(each);
        Ok(!self.0.is_empty())
    }
}

impl Table for Arc<Nic> {
    fn submit(&self, jobs: &[Job<'_>]) -> Vec<Done> {
        self.lots.lock().unwrap().push(jobs.len());
        jobs.iter().map(|job| self.one(job)).collect()
    }

    fn words(&self, _: &Id) -> Option<Box<str>> {
        self.words.lock().unwrap().clone()
    }

    fn dump(&self, on: On, hook: Hook, terse: bool) -> Result<Box<dyn Rules>, Error> {
        let rules = self.rules();
        let of = rules.values().filter(|rule| rule.id.on == on && rule.id.hook == hook).cloned();
        let cut = |rule: Filter| if terse { Filter { key: FlowerKey::default(), ..rule } } else { rule };
        Ok(Box::new(Told(of.map(cut).collect())))
    }

    fn attach(&self, _: u32, _: Hook) -> Result<(), Error> {
        Ok(())
    }

    fn switch(&self, _: &str) -> Vec<u8> {
        vec![7]
    }

    fn limit(&self, police: &Police, _: u32) -> Result<(), Error> {
        self.limits.lock().unwrap().insert(police.index, *police);
        Ok(())
    }

    fn unlimit(&self, index: u32) -> Result<(), Error> {
        self.limits.lock().unwrap().remove(&index).map(|_| ()).ok_or(Errno::ENOENT.into())
    }

    fn limited(&self, _: u32) -> Result<ActStats, Error> {
        Ok(ActStats { packets: 5, bytes: 500, drops: 2, ..ActStats::default() })
    }

    fn detach(&self, ifindex: u32, hook: Hook) -> Result<(), Error> {
        self.rules().retain(|id, _| id.on != On::Device(ifindex) || id.hook != hook);
        Ok(())
    }
}

struct Fixture {
    clock: Arc<Still>,
    inner: Arc<Inner>,
    nic: Arc<Nic>,
    datapath: Offloaded,
}

impl Fixture {
    fn new() -> Self {
        Self::over(Arc::default())
    }

    fn over(nic: Arc<Nic>) -> Self {
        Self::on(nic, Support::default())
    }

    /// Ports 1 and 2 have rules, port 3 has none.
    fn on(nic: Arc<Nic>, support: Support) -> Self {
        let features = Features {
            recirc: true,
            ct_state: true,
            ct_zone: true,
            ct_mark: true,
            ct_label: true,
            max_vlan_headers: 2,
            max_mpls_depth: 3,
            ..Features::default()
        };
        let inner = Arc::new(Inner { features, ..Inner::default() });
        let clock = Arc::new(Still::default());
        let datapath =
            Offloaded::new(inner.clone(), Box::new(Arc::clone(&nic)), clock.clone(), support, ORDER);
        configure(&datapath, "false");
        for number in [1, 2] {
            datapath.shared.attach_device(DpPort(number), "p", "system", 100 + number);
        }
        // What the kernel was asked.
        nic.lots.lock().unwrap().clear();
        Self { clock, inner, nic, datapath }
    }

    fn put(&self, flags: PutFlags, flow: &str, actions: &str) -> Result<Option<FlowStats>, Error> {
        let (key, mask) = parsed(flow);
        let actions = action::parse::actions(actions, &NoNames).unwrap();
        let put =
            FlowPut { flags, key: &key, mask: Some(&mask), ufid: None, pmd: PmdId::NONE, actions: &actions };
        self.datapath.flow_put(&put)
    }

    fn del(&self, flow: &str) -> Result<FlowStats, Error> {
        let (key, _) = parsed(flow);
        self.datapath.flow_del(&FlowDel { key: &key, ufid: None, pmd: PmdId::NONE, terse: false })
    }

    /// A packet of the rule of `flow` went through.
    fn hit(&self, packets: u64) {
        for rule in self.nic.rules().values_mut() {
            rule.stats.packets += packets;
            rule.stats.bytes += packets * 100;
        }
    }

    fn dump(&self, terse: bool) -> Vec<String> {
        let mut walk = self.datapath.flow_dump(terse);
        let mut flows = Vec::new();
        while walk.next(2, &mut flows).unwrap() {}
        let line = |flow: &Flow| {
            let text = flow::odp::format::flow(&flow.key.0, &flow.mask.0, &Style::new(&NoNames, false));
            let actions = action::format::actions(&flow.actions, &NoNames);
            let why = flow.attrs.why.as_deref();
            // Whoever is not in hardware says why.
            assert!(terse || flow.attrs.offloaded.is_some() != why.is_some(), "{text}");
            // Nobody is in hardware but where a test says so.
            let why = why.filter(|why| *why != Reason::Policy.to_string());
            let why = why.map_or(String::new(), |why| format!(" why:{why}"));
            format!("{} {} {text} {actions}{why}", flow.attrs.layer, flow.stats.packets)
        };
        let mut lines: Vec<_> = flows.iter().map(line).collect();
        lines.sort();
        lines
    }

    fn pass(&self, secs: u64) {
        self.clock.0.fetch_add(secs * 1_000_000_000, Ordering::Relaxed);
    }

    fn refuse(&self, refusal: Option<Error>) {
        *self.nic.refusal.lock().unwrap() = refusal;
    }
}

/// Rules are the kernel's; with `rebalance`, busy flows get the room of idle ones.
fn configure(datapath: &Offloaded, rebalance: &str) {
    let config = [("hw-offload", "true"), ("tc-policy", "skip_hw"), ("offload-rebalance", rebalance)];
    let config = config.map(|(key, value)| (key.to_owned(), value.to_owned()));
    datapath.configure(&config.into()).unwrap();
}

fn parsed(flow: &str) -> (RawKey, RawMask) {
    flow::odp::parse::flow(flow, &NoNames).unwrap_or_else(|error| panic!("{flow}: {error}"))
}

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

/// Installs one flow for every packet.
struct Installs(Mutex<Vec<bool>>);

impl Handler for Installs {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        let mut mask = Mask::default();
        let bits = &mut mask.0;
        (bits.in_port, bits.recirc_id, bits.nw_frag) = (u32::MAX, u32::MAX, flow::key::frag::MASK);
        bits.dl_type = u16::MAX.into();
        bits.pkt_mark = if upcall.key.pkt_mark == 0 { 0 } else { u32::MAX };
        let actions: Arc<[Action]> = Arc::new([Action::Output(DpPort(2))]);
        let install = Some(Install { mask: Box::new(mask), actions: actions.clone() });
        Some(Answer { execute: actions, install })
    }

    fn installed(&self, _: Ufid, _: PmdId, installed: bool) {
        self.0.lock().unwrap().push(installed);
    }
}

/// A packet of one of the flows that [`Installs`] installs.
fn marked(mark: u32) -> String {
    format!(
        "skb_mark({mark:#x}),in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=1.1.1.1,dst=2.2.2.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)"
    )
}

/// Has a packet answered, and `take` take what the answer installs.
fn offered<T>(handler: &dyn Handler, packet: &str, take: impl FnOnce(Offer<'_>) -> T) -> T {
    let (raw, _) = parsed(packet);
    let (key, fitness) = odp::key_to_flow(&raw).unwrap();
    let upcall = Upcall {
        kind: Kind::Miss,
        packet: &[],
        full_len: 0,
        key: &key,
        raw: Some(&raw),
        fitness,
        ufid: ufid_of(&raw.0),
        pmd: PmdId::NONE,
        in_port: DpPort(key.in_port),
        hash: 0,
        mru: 0,
    };
    assert_eq!(fitness.max(Fitness::Perfect), fitness);
    let install = handler.upcall(&upcall).unwrap().install.unwrap();
    let Install { mask, actions } = &install;
    take(Offer { ufid: upcall.ufid, pmd: PmdId::NONE, key: &key, mask, actions })
}

#[test]
fn flows_of_upcalls_are_rules_too() {
    let it = Fixture::new();
    let handler = Arc::new(Installs(Mutex::default()));
    it.datapath.set_handler(Some(handler.clone()));
    let inner = it.inner.handler.lock().unwrap().clone().unwrap();
    let ask = |flow: &str| offered(&*inner, flow, |offer| inner.take(&[offer, offer]));
    // The device has it: there is nothing left to install.
    assert_eq!(ask(&marked(0)), [true; 2]);
    assert_eq!((it.nic.rules().len(), &**handler.0.lock().unwrap()), (1, &[true; 2][..]));
    assert_eq!(ask(&marked(0)), [true; 2]);
    assert_eq!(*it.nic.lots.lock().unwrap(), [1]);
    // It does not: the datapath installs it, and says so itself.
    assert_eq!(ask(&marked(7)), [false; 2]);
    assert_eq!((it.nic.rules().len(), it.datapath.tally().1.len()), (1, 1));
    inner.installed(ufid_of(&parsed(&marked(7)).0.0), PmdId::NONE, false);
    assert_eq!(it.datapath.tally().1.len(), 0);
    // Another packet of a flow whose rule is there is no flow of its own, in software neither.
    handler.0.lock().unwrap().clear();
    it.refuse(Some(Errno::EEXIST.into()));
    let twin = marked(0).replace("src=1.1.1.1", "src=1.1.1.3");
    assert_eq!(ask(&twin), [true; 2]);
    assert_eq!(&**handler.0.lock().unwrap(), &[false; 2]);
    assert_eq!((it.nic.rules().len(), it.datapath.tally()), (1, (1, BTreeMap::new())));
    assert_eq!(it.put(PutFlags::CREATE, FLOW, "2"), Err(Errno::EEXIST.into()));
}

#[test]
fn flows_can_be_offered_while_others_become_rules() {
    let it = Fixture::new();
    let handler = Arc::new(Installs(Mutex::default()));
    it.datapath.set_handler(Some(handler.clone()));
    let inner = it.inner.handler.lock().unwrap().clone().unwrap();
    let begin = |flow: &str| offered(&*inner, flow, |offer| inner.begin(&[offer, offer]).unwrap());
    let first = begin(&marked(0));
    let soft = begin(&marked(7));
    // What is not known to be a rule yet is asked for again, and the kernel says that it is one.
    it.refuse(Some(Errno::EEXIST.into()));
    let again = begin(&marked(0));
    it.refuse(None);
    assert_eq!((&**handler.0.lock().unwrap(), it.datapath.tally().0), (&[][..], 0));
    assert_eq!(first.end(), [true; 2]);
    assert_eq!((&**handler.0.lock().unwrap(), it.datapath.tally().0), (&[true; 2][..], 1));
    assert_eq!((soft.end(), again.end()), (vec![false; 2], vec![true; 2]));
    assert_eq!((&**handler.0.lock().unwrap(), it.datapath.tally().0), (&[true; 4][..], 1));
    // The lots had one request each, but for what is no rule.
    assert_eq!(*it.nic.lots.lock().unwrap(), [1, 1]);
}
