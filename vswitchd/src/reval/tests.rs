//! Passes over a datapath that is a list of flows, which remembers what it was asked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use datapath::flow::{Dump, Execute, Flow, FlowAttrs, FlowDel, FlowGet, FlowPut, FlowStats, PutFlags};
use datapath::netdev::Netdev;
use datapath::netdev::tunnel::Packets;
use datapath::upcall::{Handler, Kind, Upcall};
use datapath::{Datapath, DpStats, Error, Features, PmdId, PortChanges, PortInfo};
use flow::action::{Action, format};
use flow::id::{DpPort, OfPort, RecircId, TableId, Ufid};
use flow::key::Key;
use flow::odp::{self, NoNames, RawKey, RawMask};
use flow::time::{Clock, Instant, WallTime};
use openflow::msg::flow_mod::FlowCommand;
use openflow::msg::port::PortConfig;
use openflow::names::Names;
use openflow::parse::flow::{Purpose, flow_mod};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use sys::errno::Errno;

use super::Settings;
use crate::backer::Backer;
use crate::ofproto::Ofproto;
use crate::xlate::freeze::{Frozen, Metadata};
use crate::xlate::mac::MacTable;
use crate::xlate::snapshot::{Bridge, BridgeId, Bundle, BundleId, Port, PriorityTags, Snapshot, VlanMode};
use datapath::user::engine::features;

#[derive(Default)]
struct Hand(Mutex<Instant>);

impl Hand {
    fn at(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        *self.at()
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _: Instant, _: &Waker) {}
}

#[derive(Default)]
struct Inside {
    flows: Vec<Flow>,
    said: Vec<String>,
    /// Flows that dumps pass over, by number; and those that refuse a change.
    hidden: u16,
    stubborn: u16,
    /// Flows that were deleted while others led to them.
    cut_off: Vec<u8>,
}

impl Inside {
    /// The recirculation ids to which flows lead, from those without one on.
    fn reached(&self) -> HashSet<u32> {
        let (mut reached, mut from) = (HashSet::from([0]), vec![0]);
        while let Some(id) = from.pop() {
            for flow in self.flows.iter().filter(|flow| recirc_of(flow) == id) {
                let further = flow.actions.iter().filter_map(|action| match action {
                    Action::Recirc(id) => Some(id.0),
                    _ => None,
                });
                from.extend(further.filter(|id| reached.insert(*id)));
            }
        }
        reached
    }
}

fn recirc_of(flow: &Flow) -> u32 {
    odp::key_to_flow(&flow.key).unwrap().0.recirc_id
}

fn is_in(set: u16, ufid: Ufid) -> bool {
    set >> ufid.0[0] & 1 != 0
}

pub(super) struct List {
    features: Features,
    inside: Mutex<Inside>,
}

impl List {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// A flow as text, with the number that names it.
    fn put(&self, n: u8, key: &str, actions: Vec<Action>) {
        let (key, mask) = odp::parse::flow(key, &NoNames).unwrap();
        let flow = Flow {
            ufid: Ufid([n; 16]),
            ufid_present: true,
            key,
            mask,
            actions: actions.into(),
            stats: FlowStats::default(),
            attrs: FlowAttrs::default(),
            pmd: PmdId::NONE,
        };
        self.inside().flows.push(flow);
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.inside().said)
    }

    fn count(&self, n: u8, packets: u64, used: Instant) {
        for flow in self.inside().flows.iter_mut().filter(|flow| flow.ufid == Ufid([n; 16])) {
            flow.stats = FlowStats { packets, bytes: packets * 100, used: Some(used), tcp_flags: 0 };
        }
    }
}

struct Walk(std::vec::IntoIter<Flow>, bool);

impl Dump for Walk {
    fn next(&mut self, max: usize, to: &mut Vec<Flow>) -> Result<bool, Error> {
        let terse = self.1;
        to.extend(self.0.by_ref().take(max).map(|flow| match terse {
            false => flow,
            true => Flow { key: RawKey::default(), mask: RawMask::default(), actions: Arc::from([]), ..flow },
        }));
        Ok(self.0.len() > 0)
    }
}

const NO: Errno = Errno::EOPNOTSUPP;

impl Datapath for List {
    fn name(&self) -> &str {
        "list"
    }

    fn kind(&self) -> &str {
        "list"
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

    fn set_handler(&self, _: Option<Arc<dyn Handler>>) {}

    fn port_add(&self, _: &Arc<dyn Netdev>, _: Option<DpPort>) -> Result<DpPort, Error> {
        Err(NO.into())
    }

    fn port_del(&self, _: DpPort) -> Result<(), Error> {
        Err(NO.into())
    }

    fn port_by_number(&self, _: DpPort) -> Result<PortInfo, Error> {
        Err(NO.into())
    }

    fn port_by_name(&self, _: &str) -> Result<PortInfo, Error> {
        Err(NO.into())
    }

    fn ports(&self) -> Vec<PortInfo> {
        Vec::new()
    }

    fn port_device(&self, _: DpPort) -> Result<Arc<dyn Netdev>, Error> {
        Err(NO.into())
    }

    fn port_changes(&self) -> PortChanges {
        PortChanges::None
    }

    fn flow_put(&self, put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error> {
        let mut inside = self.inside();
        let ufid = put.ufid.unwrap();
        let verb = if put.flags.contains(PutFlags::CREATE) { "create" } else { "modify" };
        let actions = format::actions(put.actions, &NoNames);
        inside.said.push(format!("{verb} {} {actions}", ufid.0[0]));
        if is_in(inside.stubborn, ufid) {
            return Err(Errno::EINVAL.into());
        }
        let flow = inside.flows.iter_mut().find(|flow| flow.ufid == ufid).ok_or(Errno::ENOENT)?;
        flow.actions = put.actions.into();
        Ok(None)
    }

    fn flow_del(&self, del: &FlowDel<'_>) -> Result<FlowStats, Error> {
        let mut inside = self.inside();
        let ufid = del.ufid.unwrap();
        inside.said.push(format!("delete {}", ufid.0[0]));
        let at = inside.flows.iter().position(|flow| flow.ufid == ufid).ok_or(Errno::ENOENT)?;
        if recirc_of(&inside.flows[at]) != 0 && inside.reached().contains(&recirc_of(&inside.flows[at])) {
            inside.cut_off.push(ufid.0[0]);
        }
        Ok(inside.flows.remove(at).stats)
    }

    fn flow_get(&self, get: &FlowGet<'_>) -> Result<Flow, Error> {
        let inside = self.inside();
        inside.flows.iter().find(|flow| Some(flow.ufid) == get.ufid).cloned().ok_or(Errno::ENOENT.into())
    }

    fn flow_dump(&self, terse: bool) -> Box<dyn Dump> {
        let inside = self.inside();
        let shown = inside.flows.iter().filter(|flow| !is_in(inside.hidden, flow.ufid));
        Box::new(Walk(shown.cloned().collect::<Vec<_>>().into_iter(), terse))
    }

    fn flow_flush(&self) -> Result<(), Error> {
        self.inside().flows.clear();
        Ok(())
    }

    fn execute(&self, _: &Execute<'_>) -> Result<(), Error> {
        Err(NO.into())
    }
}

fn port(number: u16) -> Port {
    Port {
        ofp: OfPort(number),
        odp: DpPort(u32::from(number)),
        name: format!("p{number}"),
        bundle: Some(BundleId(u32::from(number))),
        config: PortConfig::empty(),
        may_enable: true,
        peer: None,
        counters: Arc::default(),
        queue_dscp: Vec::new(),
        tunnel: None,
        packets: Packets::LegacyL2,
    }
}

fn bundle(number: u16) -> Bundle {
    Bundle {
        id: BundleId(u32::from(number)),
        name: format!("p{number}"),
        ports: vec![OfPort(number)],
        mode: VlanMode::Trunk,
        vlan: None,
        trunks: None,
        cvlans: None,
        qinq_ethtype: 0x88a8,
        priority_tags: PriorityTags::Never,
        floodable: true,
        protected: false,
        bond: None,
    }
}

/// A switch with ports 1 and 2 over a list.
pub(super) struct Setting {
    clock: Arc<Hand>,
    list: Arc<List>,
    pub(super) ofproto: Ofproto,
    pub(super) backer: Arc<Backer>,
}

impl Setting {
    /// `before` puts flows of an earlier process there.
    pub(super) fn new(rules: &[&str], before: impl FnOnce(&List)) -> Self {
        let (clock, list) = (Arc::<Hand>::default(), List { features: features(), inside: Mutex::default() });
        *clock.at() = Instant::from_millis(1000);
        before(&list);
        let list = Arc::new(list);
        let mut ofproto = Ofproto::new("br0", Instant::ZERO);
        for text in rules {
            let (request, _) =
                flow_mod(text, Purpose::Mod(FlowCommand::Add), &Names::default()).expect("a flow");
            ofproto.flow_mod(&request, None, Instant::ZERO).unwrap();
        }
        let bridge = Bridge {
            id: BridgeId([7; 16]),
            name: "br0".to_owned(),
            tables: Arc::clone(ofproto.tables()),
            macs: Arc::new(MacTable::new(Default::default(), || ())),
            ports: [1, 2].map(|n| (OfPort(n), port(n))).into(),
            bundles: vec![bundle(1), bundle(2)],
            mirrors: Vec::new(),
            forward_bpdu: false,
            in_band: false,
            packet_in_on_miss: Arc::default(),
            controller_alive: Arc::default(),
            sflow: None,
            flow_samples: None,
            slowpath_meter: None,
            controller_meter: None,
        };
        let backer = Backer::new(Arc::clone(&list) as Arc<dyn Datapath>, clock.clone(), false);
        backer.publish(Snapshot::new([Arc::new(bridge)], Arc::new(features()), 1));
        backer.begin();
        Self { clock, list, ofproto, backer }
    }

    fn wait(&self, time: Duration) {
        let now = *self.clock.at() + time;
        *self.clock.at() = now;
    }

    /// A pass, some milliseconds after the last; what the datapath was asked.
    fn pass(&self) -> Vec<String> {
        self.wait(Duration::from_millis(10));
        self.backer.revalidate(self.clock.now());
        self.list.said()
    }

    fn packets(&self) -> Vec<u64> {
        let mut rules = [0, 1].map(|table| self.ofproto.rules(TableId(table))).concat();
        rules.sort_by_key(|rule| rule.serial);
        rules.iter().map(|rule| rule.usage().packets).collect()
    }

    fn miss(&self, n: u8) -> bool {
        let mut key = Key { dl_src: [2, 0, 0, 0, 0, 1], in_port: 1, ..Key::default() };
        key.dl_type = 0x800.into();
        (key.nw_proto, key.nw_ttl, key.nw_src, key.nw_dst) = (17, 64, 0x0a00_0001.into(), 0x0b00_0001.into());
        (key.tp_src, key.tp_dst) = (1024.into(), 9.into());
        let snapshot = self.backer.snapshot();
        let raw = super::raw_key(&snapshot, &key, &flow::key::Mask::exact());
        let answer = self.backer.upcall(&Upcall {
            kind: Kind::Miss,
            packet: &[0; 60],
            full_len: 60,
            key: &key,
            raw: Some(&raw),
            fitness: odp::Fitness::Perfect,
            ufid: Ufid([n; 16]),
            pmd: PmdId::NONE,
            in_port: DpPort(1),
            hash: 0,
            mru: 0,
        });
        answer.is_some_and(|answer| answer.install.is_some())
    }
}

const ROOT: &str = "recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";

#[test]
fn flows_that_were_there_are_taken_over() {
    let setting = Setting::new(&["ip,in_port=1 actions=output:2"], |list| {
        list.put(1, ROOT, vec![Action::Output(DpPort(2))]);
        list.put(
            2,
            "recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4(frag=no)",
            vec![Action::Output(DpPort(1))],
        );
        list.put(3, "recirc_id(0),in_port(9),eth(),eth_type(0x0800),ipv4(frag=no)", Vec::new());
    });
    // As it should be; to be changed, in place; of a port that there is no more.
    assert_eq!(setting.pass(), ["modify 2 drop", "delete 3"]);
    setting.list.count(1, 5, setting.clock.now());
    assert_eq!((setting.pass(), setting.packets()), (vec![], vec![5]));
    assert_eq!((setting.pass(), setting.packets()), (vec![], vec![5]));
    setting.list.count(1, 7, setting.clock.now());
    setting.backer.changed();
    assert_eq!((setting.pass(), setting.packets()), (vec![], vec![7]));
    // Ten seconds without a packet.
    setting.wait(Duration::from_secs(10));
    assert_eq!((setting.pass(), setting.packets()), (vec!["delete 1".into(), "delete 2".into()], vec![7]));
    assert_eq!(setting.backer.flows.len(), 0);
}

#[test]
fn orphans_go_after_the_flows_that_lead_to_them() {
    let second = "recirc_id(0x5),in_port(1),ct_state(-new+est),eth(),eth_type(0x0800),ipv4(frag=no)";
    let third = "recirc_id(0x6),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
    let stray = "recirc_id(0x9),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
    let rules = ["ip,in_port=1 actions=ct(table=1)", "table=1,ip actions=output:2"];
    let setting = Setting::new(&rules, |list| {
        list.put(1, second, vec![Action::Clone(vec![Action::Recirc(RecircId(6))])]);
        list.put(2, third, vec![Action::Output(DpPort(2))]);
        list.put(3, ROOT, vec![Action::Recirc(RecircId(5))]);
        list.put(4, stray, Vec::new());
    });
    // Ids that are in use are not given out.
    let said = setting.pass();
    assert_eq!(said, ["modify 3 ct,recirc(0x1)"]);
    assert!((5..=6).all(|id| setting.backer.recirc.is_reserved(RecircId(id))));
    // Now nothing leads to any of them: the table above was changed before.
    assert_eq!(setting.pass(), ["delete 1", "delete 2", "delete 4"]);
    assert_eq!(setting.pass(), Vec::<String>::new());
    assert!(!setting.backer.recirc.is_reserved(RecircId(5)));
    assert_eq!(setting.backer.flows.len(), 1);
}

#[test]
fn orphans_stay_while_a_flow_leads_to_them() {
    let second = "recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
    let setting = Setting::new(&["ip,in_port=1 actions=ct(table=1)"], |list| {
        list.put(1, second, vec![Action::Output(DpPort(2))]);
        list.put(2, second, vec![Action::Recirc(RecircId(5))]);
    });
    // Each leads to the other, and nobody to them.
    assert_eq!(setting.pass(), Vec::<String>::new());
    assert_eq!(setting.pass(), ["delete 1", "delete 2"]);
}

/// Actions that recirculate to each of these ids.
fn to_ids(ids: &[u32]) -> Vec<Action> {
    ids.iter().map(|id| Action::Recirc(RecircId(*id))).collect()
}

#[test]
fn a_flow_that_a_dump_passes_over_keeps_its_orphans() {
    let second = "recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
    let rules = ["ip,in_port=1 actions=ct(table=1)", "table=1,ip actions=output:2"];
    let setting = Setting::new(&rules, |list| {
        list.put(1, second, vec![Action::Output(DpPort(2))]);
        list.put(2, ROOT, to_ids(&[5]));
    });
    setting.list.inside().hidden = 1 << 2;
    for _ in 0..3 {
        assert_eq!(setting.pass(), Vec::<String>::new());
    }
    setting.list.inside().hidden = 0;
    assert_eq!(setting.pass(), ["modify 2 ct,recirc(0x1)"]);
    assert_eq!(setting.pass(), ["delete 1"]);
}

#[test]
fn a_flow_that_is_not_there_keeps_no_orphans() {
    let second = "recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
    let setting = Setting::new(&["ip,in_port=1 actions=ct(table=1)"], |list| {
        list.put(1, second, vec![Action::Output(DpPort(2))]);
        list.put(2, ROOT, to_ids(&[5]));
    });
    setting.list.inside().flows.pop();
    let said: Vec<_> = (0..5).map(|_| setting.pass()).collect();
    assert_eq!(said, [vec![], vec![], vec![], vec![], vec!["delete 1".to_owned()]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever flows an earlier process left, whatever dumps pass over and whatever refuses to change: no flow is deleted
    /// to which another leads, and in the end none is left that is not ours.
    #[test]
    fn no_way_is_cut_off(
        roots in vec(vec(5..9_u32, 0..3), 1..5),
        orphans in vec((5..9_u32, vec(5..9_u32, 0..3)), 0..8),
        hidden in vec(any::<u16>(), 3),
        stubborn in any::<u16>(),
    ) {
        let rules = ["ip,in_port=1 actions=ct(table=1)", "table=1,ip actions=output:2"];
        let setting = Setting::new(&rules, |list| {
            let all = roots.iter().map(|to| (&0, to)).chain(orphans.iter().map(|(id, to)| (id, to)));
            for (n, (id, to)) in (0..).zip(all) {
                let key = format!("recirc_id({id:#x}),in_port(1),eth(),eth_type(0x0800),ipv4(src=10.0.0.{n},frag=no)");
                list.put(n, &key, to_ids(to));
            }
        });
        setting.list.inside().stubborn = stubborn;
        for hidden in hidden {
            setting.list.inside().hidden = hidden;
            setting.pass();
        }
        setting.list.inside().hidden = 0;
        for _ in 0..6 {
            setting.pass();
        }
        let inside = setting.list.inside();
        prop_assert_eq!(&inside.cut_off, &[0_u8; 0]);
        prop_assert!(inside.flows.iter().all(|flow| recirc_of(flow) == 0 && *flow.actions != *to_ids(&[5])));
        prop_assert!((5..9).all(|id| !setting.backer.recirc.is_reserved(RecircId(id))));
    }
}

#[test]
fn a_flow_is_asked_for_once() {
    let setting = Setting::new(&["ip,in_port=1 actions=output:2"], |_| ());
    assert!(setting.miss(1));
    assert!(!setting.miss(1));
    setting.backer.installed(Ufid([1; 16]), PmdId::NONE, false);
    assert!(setting.miss(1));
    setting.backer.installed(Ufid([1; 16]), PmdId::NONE, true);
    assert!(!setting.miss(1));
    // It misses although it was installed long ago: somebody deleted it.
    setting.wait(Duration::from_secs(2));
    assert!(setting.miss(1));
    assert_eq!((setting.backer.flows.len(), setting.packets()), (1, vec![5]));
}

#[test]
fn what_four_dumps_do_not_show_is_gone() {
    let setting = Setting::new(&["ip,in_port=1 actions=output:2"], |_| ());
    assert!(setting.miss(1));
    setting.backer.installed(Ufid([1; 16]), PmdId::NONE, true);
    assert_eq!((setting.pass(), setting.pass(), setting.pass()), (vec![], vec![], vec![]));
    assert_eq!((setting.pass(), setting.backer.flows.len()), (vec!["delete 1".into()], 0));
}

#[test]
fn nothing_is_answered_before_the_switch_is_there() {
    let clock = Arc::<Hand>::default();
    let list = Arc::new(List { features: features(), inside: Mutex::default() });
    let backer = Backer::new(list as Arc<dyn Datapath>, clock, true);
    assert!(!backer.is_working());
}

#[test]
fn a_flow_that_is_right_stays_as_it_is() {
    let rules = [
        "table=0,priority=100,udp,in_port=1 actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],resubmit(,1)",
        "table=1,priority=50,ip,nw_dst=11.0.0.0/8 actions=load:1->NXM_NX_REG1[],resubmit(,2)",
        "table=1,priority=10,ipv6 actions=drop",
        "table=2,priority=7,udp,reg1=1,tp_dst=9 actions=output:2",
        "table=2,priority=5,tcp,tcp_flags=+syn actions=drop",
    ];
    let setting = Setting::new(&rules, |_| ());
    assert!(setting.miss(1));
    setting.backer.installed(Ufid([1; 16]), PmdId::NONE, true);
    setting.list.put(1, ROOT, vec![Action::Output(DpPort(2))]);
    setting.list.count(1, 2, setting.clock.now());
    assert_eq!((setting.pass(), setting.packets()), (vec![], vec![3, 3, 0]));
    setting.backer.changed();
    setting.list.count(1, 3, setting.clock.now());
    assert_eq!((setting.pass(), setting.packets()), (vec![], vec![4, 4, 0]));
}

/// Passes that are slow, 1.92 and 2.03 s after the last packet that the datapath told of.
#[test]
fn a_flow_in_a_device_is_not_idle_before_the_device_had_time_to_tell() {
    let gone = ["delete 1"].as_slice();
    for (offloaded, delay, said) in [
        (None, None, [gone, &[]]),
        (Some("yes"), None, [&[], gone]),
        (Some("partial"), None, [&[], gone]),
        (Some("yes"), Some(1920), [gone, &[]]),
        (Some("yes"), Some(2031), [&[], &[]]),
    ] {
        let setting = Setting::new(&["ip,in_port=1 actions=output:2"], |_| ());
        let default = super::Settings { max_revalidator: Duration::ZERO, ..Default::default() };
        let stats_delay = delay.map_or(default.stats_delay, Duration::from_millis);
        setting.backer.configure(super::Settings { stats_delay, ..default });
        assert!(setting.miss(1));
        setting.backer.installed(Ufid([1; 16]), PmdId::NONE, true);
        setting.list.put(1, ROOT, vec![Action::Output(DpPort(2))]);
        setting.list.inside().flows[0].attrs.offloaded = offloaded;
        setting.list.count(1, 1, setting.clock.now());
        assert_eq!(setting.pass(), [""; 0]);
        let passes = [1900, 100].map(|later| {
            setting.wait(Duration::from_millis(later));
            setting.backer.changed();
            setting.pass()
        });
        assert_eq!(passes, said, "{offloaded:?} {delay:?}");
    }
}

#[test]
fn recirculated_packets_that_began_at_no_port_are_unassociated() {
    let setting = Setting::new(&[], |_| ());
    let snapshot = setting.backer.snapshot();
    let origin = |in_port: OfPort| {
        let began = Key { in_port: in_port.0.into(), ..Key::default() };
        let id = setting.backer.recirc.intern(Frozen {
            bridge: snapshot.bridge_named("br0").unwrap().id,
            table: TableId(1),
            port: None,
            stack: vec![],
            mirrors: 0,
            conntracked: true,
            was_mpls: false,
            actions: vec![],
            action_set: vec![],
            metadata: Metadata::of(&began),
            userdata: vec![],
        });
        let key = Key { recirc_id: id.id().0, in_port: u32::MAX, ..Key::default() };
        setting.backer.origin(&snapshot, &key).map(|(_, port)| port)
    };
    for who in [OfPort::NONE, OfPort::CONTROLLER] {
        assert_eq!(origin(who), Ok(who));
    }
    assert_eq!(origin(OfPort(42)), Err("no OpenFlow port for datapath port 4294967295".to_owned()));
}

#[test]
fn slow_passes_leave_time_to_others() {
    let settings = |max_idle| Settings { max_idle: Duration::from_millis(max_idle), ..Settings::default() };
    let interval = |max_idle, took, crowded| {
        settings(max_idle).interval(Duration::from_millis(took), crowded).as_millis()
    };
    let times = [0, 125, 150, 600, 1_000];
    assert_eq!(times.map(|took| interval(10_000, took, false)), [500, 500, 600, 2_400, 3_000]);
    assert_eq!(times.map(|took| interval(10_000, took, true)), [500; 5]);
    // Flows that are to go after a short time are looked at as often as they can be.
    assert_eq!(times.map(|took| interval(100, took, false)), [100, 225, 250, 700, 1_100]);
}
