//! What the benchmarks of the switch run over: a datapath that has what a kernel's dump of its flows would be, and a bridge of
//! three tables.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use datapath::flow::{
    Dump, Execute, Flow, FlowDel, FlowGet, FlowPut, FlowStats, Op, OpDone, OpResult, Sighting,
};
use datapath::kernel::genl::{Families, Family};
use datapath::kernel::told;
use datapath::netdev::Netdev;
use datapath::netdev::tunnel::Packets;
use datapath::netlink::{Batch, Message, Messages};
use datapath::upcall::Handler;
use datapath::{Datapath, DpStats, Error, Features, PortChanges, PortInfo};
use flow::attr::Writer;
use flow::id::{DpPort, OfPort, Ufid};
use flow::odp::{EthernetKey, Ipv4Key, KeyAttr, PortsKey};
use flow::time::{Clock, Instant, WallTime};
use openflow::msg::flow_mod::FlowCommand;
use openflow::msg::port::PortConfig;
use openflow::names::Names;
use openflow::parse::flow::{Purpose, flow_mod};
use sys::errno::Errno;
use vswitchd::backer::Backer;
use vswitchd::ofproto::Ofproto;
use vswitchd::reval::Settings;
use vswitchd::xlate::mac::MacTable;
use vswitchd::xlate::snapshot::{
    Bridge, BridgeId, Bundle, BundleId, PatchCounters, Port, PriorityTags, Snapshot, VlanMode,
};

struct Real(std::time::Instant);

impl Clock for Real {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _deadline: Instant, _waker: &Waker) {}
}

/// The key of the `n`-th packet, as Linux 6.1 gives it.
pub fn put_key(nest: &mut Writer, n: u32) {
    let ip = Ipv4Key {
        src: (0x0a00_0000 | n).into(),
        dst: 0x0b00_0001.into(),
        proto: 17,
        tos: 0,
        ttl: 32,
        frag: 0,
    };
    let attrs = [
        KeyAttr::RecircId(0),
        KeyAttr::DpHash(0),
        KeyAttr::Priority(0),
        KeyAttr::InPort(DpPort(1)),
        KeyAttr::SkbMark(0),
        KeyAttr::CtState(0),
        KeyAttr::CtZone(0),
        KeyAttr::CtMark(0),
        KeyAttr::CtLabels([0; 16]),
        KeyAttr::Ethernet(EthernetKey { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2] }),
        KeyAttr::Ethertype(0x800.into()),
        KeyAttr::Ipv4(ip),
        KeyAttr::Udp(PortsKey { src: 1024.into(), dst: 9.into() }),
    ];
    attrs.iter().for_each(|attr| attr.encode(nest));
}

/// Messages of a terse dump that the kernel gives at once.
const TOGETHER: usize = 48;
/// Attributes of `ovs_flow`.
const STATS: u16 = 3;
const USED: u16 = 5;
const UFID: u16 = 9;
const NEW: u8 = 1;

/// The families, as some kernel numbers them.
pub fn families() -> Families {
    let family = |id| Family { id, version: 1 };
    Families {
        datapath: family(30),
        vport: family(31),
        flow: family(32),
        packet: family(33),
        meter: None,
        ct_limit: None,
        vport_group: 0,
    }
}

type Datagrams = Arc<[Vec<u8>]>;

/// A datapath that shows what was [recorded](Shelf::record).
pub struct Shelf {
    features: Features,
    clock: Arc<dyn Clock>,
    dump: Mutex<Datagrams>,
    /// Puts that were asked for.
    pub changes: AtomicU64,
    /// The last requests, as the kernel would get them.
    requests: Mutex<Batch>,
}

impl Shelf {
    /// Has dumps show these flows, each with so many packets, the last of them now.
    #[allow(dead_code, reason = "not every benchmark has flows")]
    pub fn record(&self, flows: &[Ufid], packets: u64) {
        let mut batch = Batch::default();
        let family = families().flow;
        let datagrams = flows.chunks(TOGETHER).map(|flows| {
            batch.clear();
            for Ufid(ufid) in flows {
                batch.push(family.id, 0, &family.header(NEW, 3), |attrs| {
                    let words = ufid.as_chunks::<4>().0.iter();
                    let swapped: Vec<u8> =
                        words.flat_map(|word| u32::from_be_bytes(*word).to_ne_bytes()).collect();
                    attrs.put(UFID, &swapped);
                    attrs.put_u64(USED, self.clock.now().millis().max(1));
                    attrs.put(STATS, &[packets, packets * 60].map(u64::to_ne_bytes).concat());
                });
            }
            batch.bytes().to_vec()
        });
        *self.dump.lock().unwrap_or_else(PoisonError::into_inner) = datagrams.collect();
    }
}

struct Listing {
    datagrams: Datagrams,
    at: usize,
}

impl Listing {
    fn read(&mut self, each: &mut dyn FnMut(&Message<'_>) -> Result<(), Error>) -> Result<bool, Error> {
        let Some(datagram) = self.datagrams.get(self.at) else { return Ok(false) };
        self.at += 1;
        for message in Messages::new(datagram) {
            each(&message?)?;
        }
        Ok(self.at < self.datagrams.len())
    }
}

impl Dump for Listing {
    fn next(&mut self, _max: usize, to: &mut Vec<Flow>) -> Result<bool, Error> {
        self.read(&mut |message| {
            to.push(told::flow(families().flow, message)?.0);
            Ok(())
        })
    }

    fn sight(
        &mut self,
        _max: usize,
        sightings: &mut Vec<Sighting>,
        to: &mut Vec<Flow>,
    ) -> Result<bool, Error> {
        self.read(&mut |message| told::sighting(families().flow, message, sightings, to))
    }
}

const NO: Errno = Errno::EOPNOTSUPP;

impl Datapath for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    fn kind(&self) -> &str {
        "shelf"
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

    fn wake_by(&self, _waker: &Waker) {}

    fn set_handler(&self, _handler: Option<Arc<dyn Handler>>) {}

    fn port_add(&self, _device: &Arc<dyn Netdev>, _requested: Option<DpPort>) -> Result<DpPort, Error> {
        Err(NO.into())
    }

    fn port_del(&self, _port: DpPort) -> Result<(), Error> {
        Err(NO.into())
    }

    fn port_by_number(&self, _port: DpPort) -> Result<PortInfo, Error> {
        Err(NO.into())
    }

    fn port_by_name(&self, _name: &str) -> Result<PortInfo, Error> {
        Err(NO.into())
    }

    fn ports(&self) -> Vec<PortInfo> {
        Vec::new()
    }

    fn port_device(&self, _port: DpPort) -> Result<Arc<dyn Netdev>, Error> {
        Err(NO.into())
    }

    fn port_changes(&self) -> PortChanges {
        PortChanges::None
    }

    fn flow_put(&self, _put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    fn flow_del(&self, _del: &FlowDel<'_>) -> Result<FlowStats, Error> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(FlowStats::default())
    }

    fn flow_get(&self, _get: &FlowGet<'_>) -> Result<Flow, Error> {
        Err(Errno::ENOENT.into())
    }

    fn flow_dump(&self, _terse: bool) -> Box<dyn Dump> {
        let datagrams = Arc::clone(&self.dump.lock().unwrap_or_else(PoisonError::into_inner));
        Box::new(Listing { datagrams, at: 0 })
    }

    fn flow_flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn execute(&self, _execute: &Execute<'_>) -> Result<(), Error> {
        Err(NO.into())
    }

    fn operate(&self, ops: &[Op<'_>]) -> Vec<OpResult> {
        let mut batch = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        batch.clear();
        told::requests(&families(), 3, ops, &mut batch);
        self.changes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        ops.iter().map(|_| Ok(OpDone::Put(None))).collect()
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
        counters: Arc::new(PatchCounters::default()),
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

/// Four tables, of which each packet goes through three.
fn pipeline() -> Ofproto {
    let mut ofproto = Ofproto::new("br0", Instant::ZERO);
    let rules = [
        "table=0,priority=100,udp,in_port=1 actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],resubmit(,1)",
        "table=0,priority=90,arp actions=NORMAL",
        "table=1,priority=50,ip,nw_dst=11.0.0.0/8 actions=load:1->NXM_NX_REG1[],resubmit(,2)",
        "table=1,priority=10,ipv6 actions=drop",
        "table=2,priority=7,udp,reg1=1,tp_dst=9 actions=output:2",
        "table=2,priority=5,tcp,tcp_flags=+syn actions=drop",
    ];
    for text in rules {
        add_rule(&mut ofproto, text);
    }
    ofproto
}

fn snapshot(ofproto: &Ofproto, features: Features) -> Snapshot {
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
    Snapshot::new([Arc::new(bridge)], Arc::new(features), 1)
}

/// A switch over a datapath.
#[allow(dead_code, reason = "no benchmark needs all")]
pub struct Bench {
    pub shelf: Arc<Shelf>,
    pub backer: Arc<Backer>,
    pub clock: Arc<dyn Clock>,
    pub ofproto: Ofproto,
}

impl Bench {
    /// Changes the bridge's rules, as `ovs-ofctl add-flow` does.
    #[allow(dead_code, reason = "not every benchmark changes rules")]
    pub fn add_rule(&mut self, text: &str) {
        add_rule(&mut self.ofproto, text);
    }
}

fn add_rule(ofproto: &mut Ofproto, text: &str) {
    let (request, _) = flow_mod(text, Purpose::Mod(FlowCommand::Add), &Names::default()).expect("a flow");
    ofproto.flow_mod(&request, None, Instant::ZERO).expect("it can be added");
}

/// A datapath, and the switch over it, which has room for `flows` flows.
pub fn switch(flows: usize) -> Bench {
    let clock: Arc<dyn Clock> = Arc::new(Real(std::time::Instant::now()));
    let features = datapath::user::engine::features();
    let shelf = Arc::new(Shelf {
        features: features.clone(),
        clock: Arc::clone(&clock),
        dump: Mutex::new(Arc::default()),
        changes: AtomicU64::new(0),
        requests: Mutex::default(),
    });
    let backer = Backer::new(Arc::clone(&shelf) as Arc<dyn Datapath>, Arc::clone(&clock), false);
    let ofproto = pipeline();
    backer.publish(snapshot(&ofproto, features));
    // Passes are slow enough here for sparse flows to go, which is not what is measured.
    backer.configure(Settings { min_pps: 0, ..Settings::default() });
    backer.begin();
    backer.set_flow_limit(flows);
    Bench { shelf, backer, clock, ofproto }
}
