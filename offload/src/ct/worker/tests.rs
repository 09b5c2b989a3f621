//! The userspace datapath with connections, over devices in memory that refuse, forget, and lie.

use std::sync::atomic::AtomicU32;

use datapath::conntrack::Conntrack;
use datapath::netdev::{DummyLevel, Netdevs};
use datapath::user::Setup;
use datapath::user::batch::{Meta, Offload, Packet};
use datapath::user::flows::New;
use datapath::user::worker::Worker;
use datapath::{Error, ufid_of};
use flow::action::Action;
use flow::id::Zone;
use flow::time::WallTime;
use sys::errno::Errno;
use zerocopy::IntoBytes;

use super::super::table::Stage;
use super::*;
use crate::lower::tests as flows;
use crate::table::{Done, Job, Rules as Walk};
use crate::tc::action::{ActStats, Police};
use crate::tc::filter::Filter;
use crate::tc::key::FlowerKey;

#[derive(Default)]
struct Time(AtomicU64);

impl Clock for Time {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _: Instant, _: &Waker) {}
}

/// Rules of devices by name, and what is wrong with them, in 1000.
#[derive(Default)]
struct Nic {
    rules: Mutex<BTreeMap<Id, Filter>>,
    /// No two rules of a device match the same.
    keys: Mutex<HashMap<(On, u16, FlowerKey), Id>>,
    refused: AtomicU32,
    lost_deletes: AtomicU32,
    failed: AtomicU32,
    /// Of so many deletions the kernel forgets the rule, and the device does not.
    kept: AtomicU32,
    /// Where the device has what the kernel forgot.
    hidden: Mutex<Vec<On>>,
    random: AtomicU64,
    /// Every rule counts as much.
    packets: AtomicU64,
}

impl Nic {
    fn rules(&self) -> MutexGuard<'_, BTreeMap<Id, Filter>> {
        self.rules.lock().unwrap()
    }

    fn happens(&self, permille: &AtomicU32) -> bool {
        let n = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let n = (n ^ n >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33;
        n % 1000 < u64::from(permille.load(Ordering::Relaxed))
    }

    fn one(&self, job: &Job<'_>) -> Done {
        let (mut rules, mut keys) = (self.rules(), self.keys.lock().unwrap());
        match *job {
            Job::Put { .. } if self.happens(&self.refused) => {
                Err(Error::Refused { errno: Errno::EIO, text: "refused by the firmware".into() })
            }
            Job::Put { id, key, actions, flags, .. } => {
                let place = (id.on, id.prio, key.clone());
                if rules.contains_key(&id) || keys.contains_key(&place) {
                    return Err(Errno::EEXIST.into());
                }
                assert_eq!(flags, cls_skip_sw());
                keys.insert(place, id);
                let (key, actions, stats) = (key.clone(), actions.to_vec(), ActStats::default());
                rules.insert(id, Filter { id, key, flags, in_hw_count: 1, actions, stats });
                if self.happens(&self.failed) { Err(Errno::ENOBUFS.into()) } else { Ok(None) }
            }
            Job::Del(id) if rules.contains_key(&id) && self.happens(&self.lost_deletes) => Ok(None),
            Job::Del(id) => {
                let gone = rules.remove(&id).ok_or(Errno::ENOENT)?;
                keys.remove(&(id.on, id.prio, gone.key));
                if self.happens(&self.kept) {
                    self.hidden.lock().unwrap().push(id.on);
                }
                if self.happens(&self.failed) { Err(Errno::ENOBUFS.into()) } else { Ok(None) }
            }
            Job::Get(id) => {
                rules.get(&id).map(|rule| Some(Box::new(rule.clone()))).ok_or(Errno::ENOENT.into())
            }
        }
    }
}

fn cls_skip_sw() -> u32 {
    crate::tc::filter::cls::SKIP_SW
}

struct Told(std::vec::IntoIter<Filter>);

impl Walk for Told {
    fn next(&mut self, each: &mut dyn FnMut(Filter)) -> Result<bool, Error> {
        self.0.by_ref().take(100).for_each(each);
        Ok(self.0.len() > 0)
    }
}

/// A device that others hold, too.
struct Held(Arc<Nic>);

impl Rules for Held {
    fn submit(&self, jobs: &[Job<'_>]) -> Vec<Done> {
        jobs.iter().map(|job| self.0.one(job)).collect()
    }

    fn dump(&self, on: On, _: Hook, terse: bool) -> Result<Box<dyn Walk>, Error> {
        assert!(terse);
        let packets = self.0.packets.load(Ordering::Relaxed);
        let rules = self.0.rules();
        let told = rules.values().filter(|rule| rule.id.on == on).map(|rule| Filter {
            key: FlowerKey::default(),
            stats: ActStats { packets, bytes: packets * 100, ..ActStats::default() },
            ..rule.clone()
        });
        Ok(Box::new(Told(told.collect::<Vec<_>>().into_iter())))
    }

    fn attach(&self, _: u32, _: Hook) -> Result<(), Error> {
        Ok(())
    }

    fn limit(&self, _: &Police, _: u32) -> Result<(), Error> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn unlimit(&self, _: u32) -> Result<(), Error> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn limited(&self, _: u32) -> Result<ActStats, Error> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn detach(&self, ifindex: u32, _: Hook) -> Result<(), Error> {
        self.0.hidden.lock().unwrap().retain(|on| *on != On::Device(ifindex));
        self.0.rules().retain(|id, _| id.on != On::Device(ifindex));
        self.0.keys.lock().unwrap().retain(|(on, ..), _| *on != On::Device(ifindex));
        Ok(())
    }
}

const SYN: u8 = 2;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 4;
const ACK: u8 = 0x10;

type End = (u32, u16);

/// A frame without checksums; flags for TCP, none for UDP.
fn frame((src, sport): End, (dst, dport): End, tcp: Option<(u8, u32, u32)>) -> Vec<u8> {
    let (proto, len) = if tcp.is_some() { (6, 20) } else { (17, 8) };
    let mut ip = vec![0x45, 0, 0, 20 + len, 0, 0, 0x40, 0, 64, proto, 0, 0];
    ip.extend(src.to_be_bytes());
    ip.extend(dst.to_be_bytes());
    let sum = flow::checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend(ip);
    frame.extend(sport.to_be_bytes());
    frame.extend(dport.to_be_bytes());
    match tcp {
        Some((flags, seq, ack)) => {
            frame.extend(seq.to_be_bytes());
            frame.extend(ack.to_be_bytes());
            frame.extend([0x50, flags, 0x40, 0, 0, 0, 0, 0]);
        }
        None => frame.extend([0, 8, 0, 0]),
    }
    frame
}

struct Fixture {
    clock: Arc<Time>,
    engine: Arc<Engine>,
    nic: Arc<Nic>,
    service: Option<Service>,
    ports: Arc<Mutex<Vec<(DpPort, String, u32)>>>,
}

impl Fixture {
    fn new() -> Self {
        Self::over(Arc::new(Nic { random: AtomicU64::new(77), ..Nic::default() }), 7)
    }

    /// A datapath of which ports 1 and 2 are devices 11 and 12, that tracks in zone 5.
    fn over(nic: Arc<Nic>, seed: u64) -> Self {
        let clock = Arc::new(Time(AtomicU64::new(1_000_000_000)));
        let setup = Setup {
            name: "ovs-netdev".into(),
            kind: "netdev".into(),
            dummy: true,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            seed,
            cores: Some(vec![(0, 0)]),
        };
        let netdevs = Netdevs::new();
        netdevs.enable_dummy(DummyLevel::Plain);
        let engine = Arc::new(Engine::new(setup, &netdevs).unwrap());
        let ports = vec![(DpPort(1), "a".to_owned(), 11), (DpPort(2), "b".to_owned(), 12)];
        let ports = Arc::new(Mutex::new(ports));
        let seen = Arc::clone(&ports);
        let look = Box::new(move |_: &Engine| Some(seen.lock().unwrap().clone()));
        let time: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let service = Service::start(&engine, Arc::new(Held(Arc::clone(&nic))), look, &time, seed).unwrap();
        let fixture = Self { clock, engine, nic, service: Some(service), ports };
        fixture.track(5, "mark=0x7/0xff");
        fixture.track(6, "mark=0x7/0xff");
        fixture.track(7, "mark=0x7/0xff,nat(src=10.9.9.9:4000-4999)");
        fixture
    }

    /// Tracks what goes to 10.0.ZONE.0/24 by port 2, and commits it so.
    fn track(&self, zone: u8, commit: &str) {
        let end = |which| format!("{which}=10.0.{zone}.0/255.255.255.0,");
        for (from, to, which) in [(1, 2, "dst"), (2, 1, "src")] {
            self.flow(&first(from, &end(which)), &format!("ct(zone={zone},nat),recirc({zone:#x})"));
            self.flow(&established(from, zone), &to.to_string());
        }
        // Answers to what is translated go elsewhere.
        self.flow(&first(2, "dst=10.9.9.9,"), "ct(zone=7,nat),recirc(0x7)");
        let new = format!(
            "recirc_id({zone:#x}),in_port(1),ct_state(-est+trk),packet_type(ns=0,id=0),eth(),eth_type(0x0800),ipv4(frag=no)"
        );
        self.flow(&new, &format!("ct(commit,zone={zone},{commit}),2"));
    }

    fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    fn flow(&self, flow: &str, actions: &str) {
        let (key, mask) = flows::parsed(flow);
        let actions: Vec<Action> = flow::action::parse::actions(actions, &flow::odp::NoNames).unwrap();
        let ufid = ufid_of(key.as_bytes());
        let put = move |worker: &mut Worker| {
            worker.flows.remove(&ufid);
            worker.flows.insert(New { ufid, key: &key, mask: &mask, actions: actions.into() }).unwrap();
        };
        self.engine.main_cell().call(put).unwrap();
    }

    fn receive(&self, port: u32, frames: &[Vec<u8>]) {
        let frames = frames.to_vec();
        let process = move |worker: &mut Worker| {
            for lot in frames.chunks(32) {
                let mut vector = worker.vector();
                for frame in lot {
                    let offload = Offload { csum_good: true, ..Offload::default() };
                    let packet = Packet::new(&mut worker.pool, frame, offload, Meta::received(port));
                    vector.packets.push(packet.unwrap());
                }
                worker.process(vector);
            }
        };
        self.engine.main_cell().call(process).unwrap();
    }

    fn send(&self, port: u32, from: End, to: End, flags: u8, seq: u32, ack: u32) {
        self.receive(port, &[frame(from, to, Some((flags, seq, ack)))]);
    }

    /// The three packets that begin a connection, and one answer.
    fn connect(&self, client: End, server: End) {
        self.send(1, client, server, SYN, 100, 0);
        self.send(2, server, client, SYN | ACK, 200, 101);
        self.send(1, client, server, ACK, 101, 201);
        self.send(2, server, client, ACK, 201, 101);
    }

    /// Waits until the service has seen everything up to now, and has nothing left to do at this time.
    fn rest(&self) {
        let shared = &self.service().shared;
        let began = std::time::Instant::now();
        // One rest may have been decided on before now; what comes after it is told by the next.
        let mut from = shared.rests.load(Ordering::Acquire);
        loop {
            let rests = shared.rests.load(Ordering::Acquire);
            if rests >= from + 2 {
                if shared.state().table.in_flight() == 0 {
                    return;
                }
                from = rests;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no rest\n{}", self.evidence());
            shared.inbox.rouse();
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Lets time pass, once all that is due was done: time is not to outrun the service.
    fn pass(&self, time: Duration) {
        self.rest();
        self.clock.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        self.service().shared.inbox.rouse();
    }

    /// Lets time pass until something holds.
    fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let began = std::time::Instant::now();
        while !holds(self) {
            let late = began.elapsed() > Duration::from_secs(60);
            assert!(!late, "not in time: {what}\n{}", self.evidence());
            self.pass(Duration::from_millis(20));
        }
    }

    fn evidence(&self) -> String {
        let drops = self.engine.main_cell().call(|worker| format!("{:?}", worker.stats.drops));
        format!("{}\ndrops {drops:?}", self.service().stats())
    }

    fn rules(&self) -> usize {
        self.nic.rules().len()
    }

    /// Devices as a crash leaves them.
    fn left(&self) -> Arc<Nic> {
        let nic = Nic { random: AtomicU64::new(5), ..Nic::default() };
        *nic.rules() = self.nic.rules().clone();
        *nic.keys.lock().unwrap() = self.nic.keys.lock().unwrap().clone();
        Arc::new(nic)
    }

    fn stage(&self, stage: Stage) -> usize {
        self.service().stats().connections.get(&stage).copied().unwrap_or(0)
    }

    /// Nothing is in the device, in the table, or on its way.
    fn nothing_is_left(&self) {
        self.until("nothing is left", |this| {
            let stats = this.service().stats();
            this.rules() == 0 && stats.rules == 0 && stats.connections.is_empty()
        });
        // A walk finds nothing more.
        let walks = self.service().stats().gc.walks;
        self.until("walks end", |this| this.service().stats().gc.walks > walks + 4);
        let stats = self.service().stats();
        assert_eq!((self.rules(), stats.rules, stats.in_flight), (0, 0, 0));
    }

    fn ended(&self, cause: Cause) -> u64 {
        self.service().stats().totals.ended.get(&cause).copied().unwrap_or(0)
    }
}

fn first(port: u32, more: &str) -> String {
    format!("recirc_id(0),in_port({port}),packet_type(ns=0,id=0),eth(),eth_type(0x0800),ipv4({more}frag=no)")
}

fn established(port: u32, zone: u8) -> String {
    format!(
        "ct_state(+est+trk),ct_zone({zone:#x}),ct_mark(0x7),recirc_id({zone:#x}),in_port({port}),\
         packet_type(ns=0,id=0),eth(),eth_type(0x0800),ipv4(ttl=64,frag=no)"
    )
}

const CLIENT: End = (0x0b00_0001, 1000);
const SERVER: End = (0x0a00_0502, 80);

/// The rules as flows.
fn raised(fixture: &Fixture) -> Vec<String> {
    let state = fixture.service().shared.state();
    let one = |rule: &Filter| {
        let On::Device(ifindex) = rule.id.on else { panic!("a block") };
        let port = DpPort(ifindex - 10);
        let raised = crate::raise::raise(rule, port, &state.ports).unwrap();
        let (key, actions) = flows::text(&raised.key, &raised.mask, &raised.actions);
        format!("{key}, actions:{actions}")
    };
    fixture.nic.rules().values().map(one).collect()
}

#[test]
fn both_directions_go_to_hardware() {
    let fixture = Fixture::new();
    fixture.connect(CLIENT, SERVER);
    fixture.until("two rules", |this| this.stage(Stage::InHardware) == 1 && this.rules() == 2);
    let expected = [
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),\
         ipv4(src=11.0.0.1,dst=10.0.5.2,proto=6,ttl=64,frag=no),tcp(src=1000,dst=80),tcp_flags(-fin-syn-rst), actions:2",
        "recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth_type(0x0800),\
         ipv4(src=10.0.5.2,dst=11.0.0.1,proto=6,ttl=64,frag=no),tcp(src=80,dst=1000),tcp_flags(-fin-syn-rst), actions:1",
    ];
    assert_eq!(raised(&fixture), expected);
    let shown = fixture.service().show(Some(5), true).to_string();
    assert!(shown.starts_with("tcp,orig=(src=11.0.0.1,dst=10.0.5.2,sport=1000,dport=80)"), "{shown}");
    assert!(shown.contains(", in_hardware, orig=(port=a,handle=0x"), "{shown}");
    assert_eq!(fixture.service().show(Some(6), false).to_string(), "");
    // What hardware counts reaches connection and flows.
    fixture.nic.packets.store(1000, Ordering::Relaxed);
    let (key, _) = flows::parsed(&established(1, 5));
    let counted = |this: &Fixture| {
        let ufid = ufid_of(key.as_bytes());
        this.engine.main_cell().call(move |worker| worker.flows.by_ufid(&ufid).unwrap().stats())
    };
    fixture.until("counts", |this| counted(this).unwrap().packets >= 1000);
    assert_eq!(fixture.service().flush(Some(6)), 0);
    assert_eq!(fixture.service().flush(None), 1);
    fixture.nothing_is_left();
    // It lives, and comes back with its next packets.
    fixture.send(1, CLIENT, SERVER, ACK, 101, 201);
    fixture.until("one is back", |this| this.rules() == 1);
}

#[test]
fn translations_are_done_by_rules() {
    let fixture = Fixture::new();
    let server = (0x0a00_0702, 80);
    fixture.send(1, CLIENT, server, SYN, 100, 0);
    let entry = fixture.engine.tracker().dump(None).unwrap().next().unwrap().unwrap();
    let datapath::conntrack::entry::L4::Ports { dst: port, .. } = entry.reply.l4 else { panic!("no ports") };
    let outside = (0x0a09_0909, port);
    fixture.send(2, server, outside, SYN | ACK, 200, 101);
    fixture.send(1, CLIENT, server, ACK, 101, 201);
    fixture.send(2, server, outside, ACK, 201, 101);
    fixture.until("two rules", |this| this.stage(Stage::InHardware) == 1 && this.rules() == 2);
    let expected = [
        format!(
            "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),\
             ipv4(src=11.0.0.1,dst=10.0.7.2,proto=6,ttl=64,frag=no),tcp(src=1000,dst=80),tcp_flags(-fin-syn-rst), \
             actions:set(ipv4(src=10.9.9.9)),set(tcp(src={port})),2"
        ),
        format!(
            "recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth_type(0x0800),\
             ipv4(src=10.0.7.2,dst=10.9.9.9,proto=6,ttl=64,frag=no),tcp(src=80,dst={port}),tcp_flags(-fin-syn-rst), \
             actions:set(ipv4(dst=11.0.0.1)),set(tcp(dst=1000)),1"
        ),
    ];
    assert_eq!(raised(&fixture), expected);
}

#[test]
fn whatever_ends_a_connection_takes_its_rules() {
    type End = fn(&Fixture);
    let ends: [(Cause, End); 8] = [
        (Cause::Closed, |this| this.send(1, CLIENT, SERVER, FIN_ACK, 101, 201)),
        (Cause::Closed, |this| this.send(2, SERVER, CLIENT, RST, 201, 0)),
        (Cause::Flushed, |this| this.engine.tracker().flush(Some(Zone(5))).unwrap()),
        (Cause::Idle, |this| this.pass(Duration::from_secs(25 * 3600))),
        (Cause::Policy, |this| this.flow(&established(2, 5), "1,3")),
        (Cause::Policy, |this| this.engine.main_cell().call(|worker| worker.flows.clear(Some(1))).unwrap()),
        (Cause::Port, |this| this.ports.lock().unwrap().truncate(1)),
        (Cause::Changed, |this| {
            // Were this done by a rule, the connection would come back once its mark is the new one.
            let actions = "ct(commit,zone=5,mark=0x9/0xff),trunc(100),2";
            this.flow(&first(1, "dst=10.0.5.0/255.255.255.0,"), actions);
            this.send(1, CLIENT, SERVER, ACK, 101, 201);
        }),
    ];
    for (n, (cause, end)) in ends.into_iter().enumerate() {
        let fixture = Fixture::new();
        fixture.connect(CLIENT, SERVER);
        fixture.until("two rules", |this| this.stage(Stage::InHardware) == 1 && this.rules() == 2);
        end(&fixture);
        fixture.until("the rules go", |this| this.rules() == 0);
        let ended = fixture.service().stats().totals.ended;
        // A changed flow may be seen before a changed mark.
        let expected =
            if cause == Cause::Changed { vec![Cause::Changed, Cause::Policy] } else { vec![cause] };
        assert!(ended.keys().all(|cause| expected.contains(cause)), "{n}: {ended:?}");
        fixture.nothing_is_left();
    }
}

#[test]
fn what_stays_in_software_says_why() {
    let fixture = Fixture::new();
    fixture.flow(&established(2, 5), "trunc(100),1");
    fixture.ports.lock().unwrap().truncate(1);
    fixture.until("port 2 is gone", |this| this.service().shared.state().ports.all().len() == 1);
    fixture.connect(CLIENT, SERVER);
    let reasons = |this: &Fixture| this.service().stats().software.values().sum::<usize>();
    fixture.until("reasons", |this| reasons(this) == 2);
    let shown = fixture.service().show(None, true).to_string();
    let why = ", software, why: orig: port 2 is no network device; reply: port 2 has no rules\n";
    assert!(shown.ends_with(why), "{shown}");
    fixture.ports.lock().unwrap().push((DpPort(2), "b".to_owned(), 12));
    fixture.pass(Duration::from_secs(40));
    fixture.until("another try", |this| this.stage(Stage::Software) == 0);
    fixture.send(2, SERVER, CLIENT, ACK, 201, 101);
    fixture.until("a reason", |this| this.stage(Stage::Software) == 1);
    let shown = fixture.service().show(None, true).to_string();
    assert!(shown.ends_with(", software, why: reply: no action trunc\n"), "{shown}");
    // One direction in hardware, and why the other is not.
    fixture.send(1, CLIENT, SERVER, ACK, 101, 201);
    fixture.until("one direction", |this| this.stage(Stage::InHardware) == 1);
    let shown = fixture.service().show(None, true).to_string();
    assert!(shown.contains(", in_hardware, orig=(port=a,handle=0x"), "{shown}");
    assert!(shown.ends_with("), why: reply: no action trunc\n"), "{shown}");
    // The other is tried again.
    fixture.flow(&established(2, 5), "1");
    fixture.pass(Duration::from_secs(40));
    fixture.until("the reason is gone", |this| reasons(this) == 0);
    fixture.send(2, SERVER, CLIENT, ACK, 201, 101);
    fixture.until("both directions", |this| this.rules() == 2);
    assert_eq!(fixture.ended(Cause::Refused), 1);
}

/// Packets that are tracked in zone 5, changed by `actions`, tracked in zone 8, and look then like `third`.
fn tracked_twice(fixture: &Fixture, actions: &str, third: &str) {
    let new = "recirc_id(0x5),in_port(1),ct_state(-est+trk),packet_type(ns=0,id=0),eth(),eth_type(0x0800),ipv4(frag=no)";
    fixture.flow(new, "ct(commit,zone=5,mark=0x7/0xff),ct(commit,zone=8),2");
    for (port, to) in [(1, 2), (2, 1)] {
        fixture.flow(&established(port, 5), actions);
        let third = format!(
            "ct_state(+est+trk),ct_zone(0x8),recirc_id(0x8),in_port({port}),packet_type(ns=0,id=0),{third}"
        );
        fixture.flow(&third, &to.to_string());
    }
}

#[test]
fn what_is_changed_before_another_look_is_followed() {
    let fixture = Fixture::new();
    tracked_twice(
        &fixture,
        "set(eth(src=02:00:00:00:00:aa)),set(ipv4(ttl=63)),ct(zone=8),hash(l4(0)),push_vlan(vid=9,pcp=0),recirc(0x8)",
        "eth(src=02:00:00:00:00:aa),eth_type(0x8100),vlan(vid=9,pcp=0),encap(eth_type(0x0800),ipv4(ttl=63,frag=no))",
    );
    fixture.connect(CLIENT, SERVER);
    fixture.until("two rules", |this| this.stage(Stage::InHardware) == 1 && this.rules() == 2);
    let expected = [
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src=11.0.0.1,dst=10.0.5.2,proto=6,ttl=64,frag=no),tcp(src=1000,dst=80),tcp_flags(-fin-syn-rst), \
         actions:set(eth(src=02:00:00:00:00:aa)),set(ipv4(ttl=63)),push_vlan(vid=9,pcp=0),2",
        "recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src=10.0.5.2,dst=11.0.0.1,proto=6,ttl=64,frag=no),tcp(src=80,dst=1000),tcp_flags(-fin-syn-rst), \
         actions:set(eth(src=02:00:00:00:00:aa)),set(ipv4(ttl=63)),push_vlan(vid=9,pcp=0),1",
    ];
    assert_eq!(raised(&fixture), expected);
    // The end of either connection takes the rules.
    fixture.engine.tracker().flush(Some(Zone(8))).unwrap();
    fixture.nothing_is_left();
    assert_eq!(fixture.ended(Cause::Flushed), 1);
}

#[test]
fn what_cannot_be_followed_says_why() {
    let ip = "eth(),eth_type(0x0800),ipv4(frag=no)";
    let cases = [
        ("trunc(100),ct(zone=8),recirc(0x8)", "action trunc before recirculation"),
        ("ct(zone=8),clone(ct(commit,zone=9),2),recirc(0x8)", "tracking or recirculation of a copy"),
    ];
    for (actions, why) in cases {
        let fixture = Fixture::new();
        tracked_twice(&fixture, "ct(zone=8),recirc(0x8)", ip);
        fixture.connect(CLIENT, SERVER);
        fixture.until("two rules", |this| this.rules() == 2);
        tracked_twice(&fixture, actions, ip);
        // Not just the rules: as long as the table holds the connection, its packets are not asked about.
        fixture.until("the connection goes", |this| this.service().stats().connections.is_empty());
        fixture.send(1, CLIENT, SERVER, ACK, 101, 201);
        fixture.until("a reason", |this| this.stage(Stage::Software) == 1);
        assert_eq!(fixture.service().stats().software, BTreeMap::from([(why.to_owned(), 1)]));
    }
    // Whoever tells of a packet tells how it is when it is tracked.
    let fixture = Fixture::new();
    for (port, which) in [(1, "dst"), (2, "src")] {
        let flow = first(port, &format!("{which}=10.0.5.0/255.255.255.0,"));
        fixture.flow(&flow, "set(ipv4(tos=0x10/0xfc)),ct(zone=5,nat),recirc(0x5)");
    }
    fixture.connect(CLIENT, SERVER);
    let why = "packets are changed before they are tracked";
    fixture.until("reasons", |this| this.service().stats().software.get(why) == Some(&2));
}

/// The device of a process that crashed while so many connections were in hardware.
fn left_by_a_crash(connections: u32) -> Arc<Nic> {
    let crashed = Fixture::new();
    for n in 0..connections {
        crashed.connect((CLIENT.0 + n, 1000), SERVER);
    }
    crashed.until("rules", |this| this.rules() == 2 * connections as usize);
    crashed.left()
}

#[test]
fn leftovers_of_a_crashed_process_go() {
    let fixture = Fixture::over(left_by_a_crash(200), 0x1234_5678);
    // The same connections come back at once, and wait until what matches the same is gone.
    for n in 0..100 {
        fixture.connect((CLIENT.0 + n, 1000), SERVER);
    }
    fixture.until("the new ones are there", |this| {
        let stats = this.service().stats();
        this.stage(Stage::InHardware) == 100 && (this.rules(), stats.rules, stats.in_flight) == (200, 200, 0)
    });
    assert_eq!(fixture.ended(Cause::Leftover), 400);
    // An orderly end leaves nothing.
    let mut fixture = fixture;
    drop(fixture.service.take());
    assert_eq!(fixture.rules(), 0);
}

#[test]
fn devices_that_keep_what_the_kernel_forgot_are_emptied() {
    let nic = left_by_a_crash(50);
    nic.kept.store(1000, Ordering::Relaxed);
    let emptied = |this: &Fixture| this.rules() == 0 && this.nic.hidden.lock().unwrap().is_empty();
    // What came and went between two steps wears a device, too.
    let fixture = Fixture::over(nic, 9);
    fixture.until("leftovers are found", |this| this.ended(Cause::Leftover) == 100);
    fixture.until("nothing is left of them", emptied);
    fixture.connect(CLIENT, SERVER);
    fixture.until("two rules", |this| this.rules() == 2);
    fixture.service().flush(None);
    fixture.until("they are deleted", |this| this.rules() == 0);
    fixture.until("nothing is left of them", emptied);
}

#[test]
fn many_connections_come_and_go() {
    const MANY: u32 = 20_000;
    let fixture = Fixture::new();
    for (knob, permille) in
        [(&fixture.nic.refused, 100), (&fixture.nic.lost_deletes, 10), (&fixture.nic.failed, 5)]
    {
        knob.store(permille, Ordering::Relaxed);
    }
    let ends = |n: u32| {
        let zone = if n % 5 == 2 { 6 } else { 5 };
        ((CLIENT.0 + n / 16, 1000 + (n % 16) as u16), (0x0a00_0000 | zone << 8 | 2, 80))
    };
    let udp = |n: u32| n % 5 == 3;
    // Those that expire soon come last.
    let (short, long): (Vec<u32>, Vec<u32>) = (0..MANY).partition(|n| udp(*n));
    let mut packets = 0;
    for (lot, wanted) in [(&long, 2 * long.len()), (&short, 2 * MANY as usize)] {
        for &n in lot {
            let (client, server) = ends(n);
            if udp(n) {
                for _ in 0..2 {
                    fixture.receive(1, &[frame(client, server, None)]);
                    fixture.receive(2, &[frame(server, client, None)]);
                }
            } else {
                fixture.connect(client, server);
            }
        }
        fixture.until("the lot is in hardware", |this| {
            // Packets go on.
            packets += 1;
            this.nic.packets.store(packets, Ordering::Relaxed);
            let totals = this.service().stats().totals;
            totals.pushed + totals.gave_up >= wanted as u64
        });
    }
    assert!(fixture.stage(Stage::InHardware) >= MANY as usize * 999 / 1000, "{}", fixture.service().stats());
    for n in 0..MANY {
        let (client, server) = ends(n);
        match n % 5 {
            0 => fixture.send(1, client, server, FIN_ACK, 101, 201),
            1 => fixture.send(2, server, client, RST, 201, 0),
            _ => {}
        }
    }
    fixture.engine.tracker().flush(Some(Zone(6))).unwrap();
    // Ends are to be noticed as such, before time ends what it will.
    fixture.until("ends are noticed", |this| this.ended(Cause::Closed) >= u64::from(MANY) * 2 / 5 * 99 / 100);
    fixture.pass(Duration::from_secs(31));
    fixture.until("those are gone", |this| {
        let [closed, flushed, idle] =
            [Cause::Closed, Cause::Flushed, Cause::Idle].map(|cause| this.ended(cause));
        let most = u64::from(MANY) * 2 / 5 * 99 / 100;
        closed >= most && flushed + idle >= most
    });
    fixture.ports.lock().unwrap().truncate(1);
    fixture.nothing_is_left();
    let stats = fixture.service().stats();
    // How many of the lost deletions a walk finds before the device is emptied as a whole is a matter of time.
    let leftover = stats.totals.ended.get(&Cause::Leftover).copied().unwrap_or(0);
    assert!(stats.totals.refused > 3000 && stats.totals.delete_failed > 100, "{stats}");
    assert!(leftover < 1000, "{stats}");
    assert_eq!(stats.totals.deleted, stats.totals.pushed + leftover, "{stats}");
}
