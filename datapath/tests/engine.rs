//! The userspace datapath as a whole, on dummy ports: upcalls, flows, actions, and an interpreter of actions as the slow twin.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use datapath::flow::{Execute, Flow, FlowDel, FlowGet, FlowPut, PutFlags};
use datapath::netdev::{DummyLevel, Netdev, Netdevs};
use datapath::upcall::{Answer, Handler, Install, Kind, Upcall};
use datapath::user::port::pcap;
use datapath::user::{Engine, Setup, control};
use datapath::{Datapath, Error, MeterBand, MeterConfig, PmdId};
use flow::action::{Action, Userspace};
use flow::id::{DpMeter, DpPort, RecircId};
use flow::key::{Key, Mask, Vlan};
use flow::odp::{EthernetKey, Ipv4Key, KeyAttr, NoNames, PortsKey, format, parse};
use flow::time::{Clock, Instant, WallTime};
use sys::errno::Errno;

/// A clock that stands where it is put.
#[derive(Default)]
struct Still(AtomicU64);

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _deadline: Instant, _waker: &Waker) {}
}

/// Answers misses by a table of actions by recirculation id, and remembers what it was asked.
#[derive(Default)]
struct Answers {
    by_recirc: Mutex<BTreeMap<u32, (Mask, Vec<Action>)>>,
    asked: Mutex<Vec<String>>,
}

impl Handler for Answers {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        let kind = match upcall.kind {
            Kind::Miss => "miss".to_owned(),
            Kind::Action { userdata, .. } => format!("action {userdata:?}"),
        };
        let (port, recirc, len) = (upcall.in_port, upcall.key.recirc_id, upcall.packet.len());
        self.asked
            .lock()
            .unwrap()
            .push(format!("{kind} port {port} recirc {recirc} len {len}/{}", upcall.full_len));
        if matches!(upcall.kind, Kind::Action { .. }) {
            return Some(Answer::default());
        }
        let (mask, actions) = self.by_recirc.lock().unwrap().get(&recirc)?.clone();
        let actions: Arc<[_]> = actions.into();
        Some(Answer {
            execute: Arc::clone(&actions),
            install: Some(Install { mask: Box::new(mask), actions }),
        })
    }
}

/// A switch of `n` dummy ports whose output is written to files.
struct Rig {
    devices: Netdevs,
    engine: Engine,
    answers: Arc<Answers>,
    clock: Arc<Still>,
    ports: Vec<Arc<dyn Netdev>>,
    folder: std::path::PathBuf,
}

static RIGS: AtomicU64 = AtomicU64::new(0);

impl Rig {
    fn new(n: u32) -> Self {
        let number = RIGS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("turnout-engine-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let devices = Netdevs::new();
        devices.enable_dummy(DummyLevel::Plain);
        let clock = Arc::new(Still::default());
        let setup = Setup {
            name: "ovs-dummy".into(),
            kind: "dummy".into(),
            dummy: true,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            seed: 7,
            cores: Some(vec![(0, 0)]),
        };
        let engine = Engine::new(setup, &devices).unwrap();
        let answers = Arc::new(Answers::default());
        engine.set_handler(Some(Arc::clone(&answers) as Arc<dyn Handler>));
        let mut ports = Vec::new();
        for at in 1..=n {
            let device = devices.open(&format!("p{at}"), "dummy").unwrap();
            let file = folder.join(format!("p{at}")).display().to_string();
            device.set_config(&BTreeMap::from([("tx_pcap".to_owned(), file)])).unwrap();
            assert_eq!(engine.port_add(&device, None), Ok(DpPort(at)));
            ports.push(device);
        }
        Self { devices, engine, answers, clock, ports, folder }
    }

    fn answer(&self, recirc: u32, mask: Mask, actions: &[Action]) {
        self.answers.by_recirc.lock().unwrap().insert(recirc, (mask, actions.to_vec()));
    }

    fn receive(&self, port: &str, packets: &[&str]) {
        let args: Vec<&str> = std::iter::once(port).chain(packets.iter().copied()).collect();
        control::receive(&self.devices, &args).unwrap();
        while self.engine.run() {}
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.answers.asked.lock().unwrap())
    }

    fn sent(&self, port: u32) -> Vec<Vec<u8>> {
        pcap::parse(&std::fs::read(self.folder.join(format!("p{port}"))).unwrap()).unwrap()
    }

    fn dump(&self) -> Vec<String> {
        let mut flows: Vec<Flow> = Vec::new();
        let mut dump = self.engine.flow_dump(false);
        while dump.next(2, &mut flows).unwrap() {}
        let mut lines: Vec<String> = flows.iter().map(text).collect();
        lines.sort();
        lines
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn text(flow: &Flow) -> String {
    let key = format::flow(&flow.key.0, &flow.mask.0, &format::Style::PLAIN);
    let actions = flow::action::format::actions(&flow.actions, &NoNames);
    format!("{key}, packets:{}, bytes:{}, actions:{actions}", flow.stats.packets, flow.stats.bytes)
}

const ICMP: &str = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),ipv4(src=192.168.0.1,dst=192.168.0.2,proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)";
const TCP: &str = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),ipv4(src=192.168.0.1,dst=192.168.0.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=1000,dst=80),tcp_flags(0x002)";

fn l2_mask() -> Mask {
    let mut mask = Mask::default();
    (mask.0.recirc_id, mask.0.in_port, mask.0.nw_frag) = (u32::MAX, u32::MAX, flow::key::frag::MASK);
    (mask.0.dl_type, mask.0.packet_type) = (u16::MAX.into(), u32::MAX.into());
    mask
}

#[test]
fn a_miss_makes_a_flow_that_later_packets_hit() {
    let rig = Rig::new(3);
    rig.answer(0, l2_mask(), &[Action::Output(DpPort(2)), Action::Output(DpPort(3))]);
    rig.receive("p1", &[ICMP, ICMP, TCP]);
    assert_eq!(rig.asked(), ["miss port 1 recirc 0 len 106/106"]);
    let expected = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no), packets:2, bytes:160, actions:2,3";
    assert_eq!(rig.dump(), [expected]);
    assert_eq!((rig.sent(2).len(), rig.sent(2) == rig.sent(3)), (3, true));
    let stats = control::pmd_stats_show_of(&rig.engine).to_string();
    let head: Vec<&str> = stats.lines().take(14).collect();
    assert_eq!(
        head,
        [
            "main thread:",
            "  packets received: 3",
            "  packet recirculations: 0",
            "  avg. datapath passes per packet: 1.00",
            "  phwol hits: 0",
            "  mfex opt hits: 0",
            "  simple match hits: 0",
            "  emc hits: 1",
            "  smc hits: 0",
            "  megaflow hits: 1",
            "  avg. subtable lookups per megaflow hit: 1.00",
            "  miss with success upcall: 1",
            "  miss with failed upcall: 0",
            "  avg. packets per output batch: 1.00",
        ]
    );
    let stats = rig.engine.stats();
    assert_eq!((stats.hits, stats.misses, stats.lost, stats.flows, stats.masks), (2, 1, 0, 1, None));
}

#[test]
fn dummy_numbers() {
    let rig = Rig::new(0);
    for (name, number) in [("br5", 105), ("p7", 7), ("q7", 1), ("x", 2), ("br105", 205), ("br0", 100)] {
        let device = rig.devices.open(name, "dummy").unwrap();
        assert_eq!(rig.engine.port_add(&device, None), Ok(DpPort(number)), "{name}");
        assert_eq!(rig.engine.port_add(&device, None), Err(Error::Os(Errno::EEXIST)));
    }
    let ports: Vec<String> = rig
        .engine
        .ports()
        .iter()
        .map(|port| format!("{} {} {}", port.number, port.name, port.kind))
        .collect();
    assert_eq!(ports[..2], ["0 ovs-dummy dummy-internal", "1 q7 dummy"]);
    rig.engine.port_del(DpPort(7)).unwrap();
    assert_eq!(rig.engine.port_by_name("p7"), Err(Error::Os(Errno::ENODEV)));
}

#[test]
fn puts_follow_their_flags() {
    let rig = Rig::new(2);
    let (key, mask) =
        parse::flow("in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x1234)", &NoNames)
            .unwrap();
    let actions = [Action::Output(DpPort(2))];
    let put = FlowPut {
        flags: PutFlags::CREATE,
        key: &key,
        mask: Some(&mask),
        ufid: None,
        pmd: PmdId::NONE,
        actions: &actions,
    };
    let modify = FlowPut { flags: PutFlags::MODIFY, actions: &[], ..put };
    assert_eq!(rig.engine.flow_put(&modify), Err(Errno::ENOENT.into()));
    assert_eq!(rig.engine.flow_put(&put), Ok(None));
    assert_eq!(rig.engine.flow_put(&put), Err(Errno::EEXIST.into()));
    assert!(rig.engine.flow_put(&modify).unwrap().is_some());
    let get = FlowGet { key: &key, ufid: None, pmd: PmdId::NONE };
    let flow = rig.engine.flow_get(&get).unwrap();
    assert_eq!(
        text(&flow),
        "recirc_id(0),in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x1234), packets:0, bytes:0, actions:drop"
    );
    let psample = [Action::Psample { group: 1, cookie: Vec::new() }];
    let refused = FlowPut { actions: &psample, ..put };
    assert_eq!(rig.engine.flow_put(&refused), Err(Error::Unsupported("psample")));
    let (open, any) =
        parse::flow("eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x1234)", &NoNames).unwrap();
    let open = FlowPut { key: &open, mask: Some(&any), ..put };
    assert_eq!(rig.engine.flow_put(&open), Err(Errno::EINVAL.into()));
    let del = FlowDel { key: &key, ufid: None, pmd: PmdId::NONE, terse: false };
    assert!(rig.engine.flow_del(&del).is_ok());
    assert_eq!(rig.engine.flow_del(&del), Err(Errno::ENOENT.into()));
}

#[test]
fn recirculation_sampling_and_userspace() {
    let rig = Rig::new(2);
    let userspace = Action::Userspace(Userspace { userdata: Some(vec![1, 2]), ..Userspace::default() });
    let sample = Action::Sample { probability: u32::MAX, actions: vec![Action::Trunc(60), userspace] };
    rig.answer(0, l2_mask(), &[sample, Action::Recirc(RecircId(1))]);
    rig.answer(
        1,
        l2_mask(),
        &[Action::PushVlan(Vlan { tpid: 0x8100.into(), tci: 0x1005.into() }), Action::Output(DpPort(2))],
    );
    rig.receive("p1", &[ICMP]);
    rig.receive("p1", &[ICMP]);
    assert_eq!(
        rig.asked(),
        [
            "miss port 1 recirc 0 len 106/106",
            "action [1, 2] port 1 recirc 0 len 60/106",
            "miss port 1 recirc 1 len 106/106",
            "action [1, 2] port 1 recirc 0 len 60/106",
        ]
    );
    let sent = rig.sent(2);
    assert_eq!((sent.len(), sent[0].len(), &sent[1][12..18]), (2, 110, &[0x81, 0, 0, 5, 8, 0][..]));
    assert_eq!(rig.engine.worker_stats().recirculated, 2);
}

#[test]
fn what_follows_a_nested_recirculation_sees_the_packet_as_it_was() {
    let rig = Rig::new(3);
    let recirc = vec![Action::PopVlan, Action::Recirc(RecircId(1))];
    let check = Action::CheckPktLen { len: 64, greater: recirc.clone(), less_equal: Vec::new() };
    rig.answer(0, l2_mask(), &[check, Action::Output(DpPort(3)), Action::Clone(recirc)]);
    rig.answer(1, l2_mask(), &[Action::Output(DpPort(2))]);
    let tagged = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x1234))";
    rig.receive("p1", &[tagged, "--len", "100"]);
    rig.receive("p1", &[tagged, "--len", "100"]);
    let lens = |port| rig.sent(port).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!((lens(2), lens(3)), (vec![96; 4], vec![100; 2]));
}

#[test]
fn endless_recirculation_ends() {
    let rig = Rig::new(2);
    rig.answer(0, l2_mask(), &[Action::Recirc(RecircId(1))]);
    rig.answer(1, l2_mask(), &[Action::Recirc(RecircId(1))]);
    rig.receive("p1", &[ICMP]);
    assert_eq!(rig.engine.worker_stats().recirculated, 6);
}

#[test]
fn meters_police() {
    let rig = Rig::new(2);
    let bands = vec![MeterBand { rate: 1, burst: 1 }];
    rig.engine.meter_set(DpMeter(3), &MeterConfig { pktps: true, burst: true, bands }).unwrap();
    rig.answer(0, l2_mask(), &[Action::Meter(DpMeter(3)), Action::Output(DpPort(2))]);
    rig.receive("p1", &[ICMP, ICMP, ICMP]);
    assert_eq!(rig.sent(2).len(), 1);
    rig.clock.0.store(1000, Ordering::Relaxed);
    rig.receive("p1", &[ICMP]);
    assert_eq!((rig.sent(2).len(), rig.engine.meter_get(DpMeter(3)).unwrap().bands), (2, vec![(2, 212)]));
    assert!(rig.engine.meter_del(DpMeter(3)).is_ok() && rig.engine.meter_get(DpMeter(3)).is_err());
}

#[test]
fn execution_from_outside_and_within_an_upcall() {
    struct Echo(std::sync::Weak<Engine>);

    impl Handler for Echo {
        fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
            let engine = self.0.upgrade()?;
            let actions = [Action::Output(upcall.in_port)];
            let execute = Execute {
                packet: upcall.packet,
                key: upcall.key,
                actions: &actions,
                probe: false,
                mtu: 0,
                hash: 0,
            };
            engine.execute(&execute).unwrap();
            Some(Answer::default())
        }
    }

    let devices = Netdevs::new();
    devices.enable_dummy(DummyLevel::Plain);
    let setup = Setup {
        name: "ovs-dummy".into(),
        kind: "dummy".into(),
        dummy: true,
        clock: Arc::new(Still::default()),
        seed: 1,
        cores: Some(vec![(0, 0)]),
    };
    let engine = Arc::new(Engine::new(setup, &devices).unwrap());
    let device = devices.open("p1", "dummy").unwrap();
    engine.port_add(&device, None).unwrap();
    engine.set_handler(Some(Arc::new(Echo(Arc::downgrade(&engine)))));
    control::receive(&devices, &["p1", ICMP]).unwrap();
    engine.run();
    assert_eq!(device.counters().unwrap().tx_packets, Some(1));
}

#[test]
fn worker_threads_poll_pmd_ports() {
    let rig = Rig::new(1);
    let device = rig.devices.open("p9", "dummy-pmd").unwrap();
    assert_eq!(rig.engine.port_add(&device, None), Ok(DpPort(9)));
    rig.answer(0, l2_mask(), &[Action::Output(DpPort(1))]);
    let file = rig.folder.join("p1");
    control::receive(&rig.devices, &["p9", ICMP, ICMP]).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while pcap::parse(&std::fs::read(&file).unwrap()).unwrap().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "the worker forwards");
        std::thread::yield_now();
    }
    let shown = control::pmd_rxq_show(&[], &[]).err();
    assert_eq!(shown.as_deref(), Some("please specify an existing datapath"));
    rig.engine.port_del(DpPort(9)).unwrap();
    assert_eq!(rig.engine.cells().len(), 1);
}

mod twin {
    //! The slow twin: actions on one frame at a time, header fields rewritten by taking the frame apart and putting it
    //! together again from its key.

    use super::*;
    use flow::compose::{Payload, compose};
    use flow::extract::{Metadata, extract};
    use proptest::prelude::*;

    fn key_of(frame: &[u8]) -> (Key, usize) {
        let mut key = Key::default();
        let layout = extract(frame, &Metadata::from_port(1), &mut key);
        (key, frame.len() - usize::from(layout.l4.unwrap()) - if key.nw_proto == 6 { 20 } else { 8 })
    }

    /// Applies `change` to the key of a frame and composes the frame again.
    fn rewrite(frame: &[u8], change: impl FnOnce(&mut Key)) -> Vec<u8> {
        let (mut key, payload) = key_of(frame);
        let payload = &frame[frame.len() - payload..].to_vec();
        change(&mut key);
        compose(&key, Payload::Bytes(payload))
    }

    fn interpret(mut frame: Vec<u8>, actions: &[Action], sent: &mut Vec<(u32, Vec<u8>)>) {
        for action in actions {
            frame = match action {
                Action::Output(port) => {
                    sent.push((port.0, frame.clone()));
                    frame
                }
                Action::Clone(actions) => {
                    interpret(frame.clone(), actions, sent);
                    frame
                }
                Action::Set(KeyAttr::Ethernet(new)) => {
                    rewrite(&frame, |key| (key.dl_src, key.dl_dst) = (new.src, new.dst))
                }
                Action::Set(KeyAttr::Ipv4(new)) => rewrite(&frame, |key| {
                    (key.nw_src, key.nw_dst) = (new.src, new.dst);
                    (key.nw_tos, key.nw_ttl) = (new.tos, new.ttl);
                }),
                Action::Set(KeyAttr::Tcp(new) | KeyAttr::Udp(new)) => {
                    rewrite(&frame, |key| (key.tp_src, key.tp_dst) = (new.src, new.dst))
                }
                Action::PushVlan(vlan) => rewrite(&frame, |key| {
                    key.vlans[1] = key.vlans[0];
                    key.vlans[0] = *vlan;
                }),
                Action::PopVlan => rewrite(&frame, |key| {
                    key.vlans[0] = key.vlans[1];
                    key.vlans[1] = Vlan::default();
                }),
                _ => unreachable!("not generated"),
            };
        }
    }

    fn action(protocol: u8) -> impl Strategy<Value = Action> {
        let eth = any::<([u8; 6], [u8; 6])>()
            .prop_map(|(src, dst)| Action::Set(KeyAttr::Ethernet(EthernetKey { src, dst })));
        let ipv4 = any::<(u32, u32, u8, u8)>().prop_map(move |(src, dst, tos, ttl)| {
            let new = Ipv4Key { src: src.into(), dst: dst.into(), proto: protocol, tos, ttl, frag: 0 };
            Action::Set(KeyAttr::Ipv4(new))
        });
        let ports = any::<(u16, u16)>().prop_map(move |(src, dst)| {
            let new = PortsKey { src: src.into(), dst: dst.into() };
            Action::Set(if protocol == 6 { KeyAttr::Tcp(new) } else { KeyAttr::Udp(new) })
        });
        prop_oneof![3 => Just(Action::Output(DpPort(2))), 1 => eth, 1 => ipv4, 1 => ports]
    }

    fn actions() -> impl Strategy<Value = (u8, Vec<Action>)> {
        prop_oneof![Just(6u8), Just(17)].prop_flat_map(|protocol| {
            let list = || proptest::collection::vec(action(protocol), 0..6);
            (list(), list(), 0u16..4096, any::<bool>()).prop_map(move |(mut first, second, vid, pop)| {
                first.push(Action::Clone(second.clone()));
                first.push(Action::PushVlan(Vlan { tpid: 0x8100.into(), tci: (0x1000 | vid).into() }));
                first.extend(second);
                first.extend(pop.then_some(Action::PopVlan));
                first.push(Action::Output(DpPort(2)));
                (protocol, first)
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_graph_does_what_the_interpreter_does((protocol, actions) in actions(), len in 0usize..400, seed in any::<u32>()) {
            let rig = Rig::new(2);
            let mut key = Key { dl_src: [2; 6], dl_dst: [4; 6], nw_proto: protocol, nw_ttl: 9, ..Key::default() };
            key.dl_type = 0x800.into();
            (key.nw_src, key.nw_dst) = (seed.into(), (!seed).into());
            (key.tp_src, key.tp_dst, key.tcp_flags) = (7.into(), 9.into(), if protocol == 6 { 16.into() } else { 0.into() });
            let frame = compose(&key, Payload::Len(len));
            let mut expected = Vec::new();
            interpret(frame.clone(), &actions, &mut expected);
            let meta = Key { in_port: 1, ..Key::default() };
            rig.engine.execute(&Execute { packet: &frame, key: &meta, actions: &actions, probe: false, mtu: 0, hash: 0 }).unwrap();
            let sent: Vec<_> = rig.sent(2).into_iter().map(|frame| (2, frame)).collect();
            prop_assert_eq!(sent, expected);
            prop_assert_eq!(rig.ports.len(), 2);
        }
    }
}
