//! A datapath and a table of rules in memory. The table refuses as it is told to.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use datapath::flow::{Dump, Execute, Flow, FlowAttrs, FlowDel, FlowGet, FlowPut, PutFlags};
use datapath::netdev::Netdev;
use datapath::upcall::Handler;
use datapath::{DpStats, Features, MeterStats, PmdId, PortChanges, PortInfo, ufid_of};
use flow::action;
use flow::odp::format::Style;
use flow::odp::{NoNames, RawKey, RawMask};
use flow::time::{Instant, WallTime};

use super::super::*;
use crate::provider::ORDER;
use crate::table::{Done, Rules};
use crate::tc::action::{ActStats, Police, TcAction};
use crate::tc::filter::Filter;
use crate::tc::key::{FlowerKey, KeyField};

#[derive(Default)]
pub(super) struct Still(AtomicU64);

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
pub(super) struct Inner {
    flows: Mutex<BTreeMap<Ufid, Flow>>,
    pub(super) handler: Mutex<Option<Arc<dyn Handler>>>,
    features: Features,
}

impl Inner {
    pub(super) fn flows(&self) -> MutexGuard<'_, BTreeMap<Ufid, Flow>> {
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
pub(super) struct Nic {
    rules: Mutex<BTreeMap<Id, Filter>>,
    refusal: Mutex<Option<Error>>,
    /// Hardware's words for what the kernel takes.
    pub(super) words: Mutex<Option<Box<str>>>,
    /// What the kernel passes over, for it does not know it.
    pub(super) unknown: Mutex<Option<KeyField>>,
    /// Rules that there is room for.
    pub(super) room: Mutex<Option<usize>>,
    pub(super) limits: Mutex<BTreeMap<u32, Police>>,
    /// Requests that were submitted together.
    pub(super) lots: Mutex<Vec<usize>>,
}

impl Nic {
    pub(super) fn rules(&self) -> MutexGuard<'_, BTreeMap<Id, Filter>> {
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

pub(super) fn full() -> Error {
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
        self.lots.lock().unwrap().extend((!jobs.is_empty()).then_some(jobs.len()));
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

pub(super) struct Fixture {
    pub(super) clock: Arc<Still>,
    pub(super) inner: Arc<Inner>,
    pub(super) nic: Arc<Nic>,
    pub(super) datapath: Offloaded,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::over(Arc::default())
    }

    pub(super) fn over(nic: Arc<Nic>) -> Self {
        Self::on(nic, Support::default())
    }

    /// Ports 1 and 2 have rules, port 3 has none.
    pub(super) fn on(nic: Arc<Nic>, support: Support) -> Self {
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

    pub(super) fn put(&self, flags: PutFlags, flow: &str, actions: &str) -> Result<Option<FlowStats>, Error> {
        let (key, mask) = parsed(flow);
        let actions = action::parse::actions(actions, &NoNames).unwrap();
        let put =
            FlowPut { flags, key: &key, mask: Some(&mask), ufid: None, pmd: PmdId::NONE, actions: &actions };
        self.datapath.flow_put(&put)
    }

    pub(super) fn del(&self, flow: &str) -> Result<FlowStats, Error> {
        let (key, _) = parsed(flow);
        self.datapath.flow_del(&FlowDel { key: &key, ufid: None, pmd: PmdId::NONE, terse: false })
    }

    /// A packet of the rule of `flow` went through.
    pub(super) fn hit(&self, packets: u64) {
        for rule in self.nic.rules().values_mut() {
            rule.stats.packets += packets;
            rule.stats.bytes += packets * 100;
        }
    }

    pub(super) fn dump(&self, terse: bool) -> Vec<String> {
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

    pub(super) fn pass(&self, secs: u64) {
        self.clock.0.fetch_add(secs * 1_000_000_000, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, refusal: Option<Error>) {
        *self.nic.refusal.lock().unwrap() = refusal;
    }
}

/// Rules are the kernel's; with `rebalance`, busy flows get the room of idle ones.
pub(super) fn configure(datapath: &Offloaded, rebalance: &str) {
    let config = [("hw-offload", "true"), ("tc-policy", "skip_hw"), ("offload-rebalance", rebalance)];
    let config = config.map(|(key, value)| (key.to_owned(), value.to_owned()));
    datapath.configure(&config.into()).unwrap();
}

pub(super) fn parsed(flow: &str) -> (RawKey, RawMask) {
    flow::odp::parse::flow(flow, &NoNames).unwrap_or_else(|error| panic!("{flow}: {error}"))
}
