//! What the benchmarks of the switch run over: a datapath that is a list of flows, and a bridge of three tables.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use datapath::flow::{Dump, Execute, Flow, FlowAttrs, FlowDel, FlowGet, FlowPut, FlowStats};
use datapath::netdev::Netdev;
use datapath::netdev::tunnel::Packets;
use datapath::upcall::Handler;
use datapath::{Datapath, DpStats, Error, Features, PmdId, PortChanges, PortInfo};
use flow::id::{DpPort, OfPort, Ufid};
use flow::odp::{RawKey, RawMask};
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

/// A datapath whose flows all get a packet before each dump, if `busy`.
pub struct Shelf {
    features: Features,
    clock: Arc<dyn Clock>,
    pub flows: Arc<Mutex<Vec<Ufid>>>,
    pub busy: AtomicBool,
    packets: AtomicU64,
    /// Puts that were asked for.
    pub changes: AtomicU64,
}

struct Listing {
    flows: Arc<Mutex<Vec<Ufid>>>,
    at: usize,
    stats: FlowStats,
}

impl Dump for Listing {
    fn next(&mut self, max: usize, to: &mut Vec<Flow>) -> Result<bool, Error> {
        let flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let end = (self.at + max).min(flows.len());
        to.extend(flows[self.at..end].iter().map(|ufid| Flow {
            ufid: *ufid,
            ufid_present: true,
            key: RawKey::default(),
            mask: RawMask::default(),
            actions: Arc::from([]),
            stats: self.stats,
            attrs: FlowAttrs::default(),
            pmd: PmdId::MAIN,
        }));
        self.at = end;
        Ok(end < flows.len())
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
        if self.busy.load(Ordering::Relaxed) {
            self.packets.fetch_add(1, Ordering::Relaxed);
        }
        let packets = self.packets.load(Ordering::Relaxed);
        let stats = FlowStats { packets, bytes: packets * 60, used: Some(self.clock.now()), tcp_flags: 0 };
        Box::new(Listing { flows: Arc::clone(&self.flows), at: 0, stats })
    }

    fn flow_flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn execute(&self, _execute: &Execute<'_>) -> Result<(), Error> {
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
        let (request, _) = flow_mod(text, Purpose::Mod(FlowCommand::Add), &Names::default()).expect("a flow");
        ofproto.flow_mod(&request, None, Instant::ZERO).expect("it can be added");
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

/// A datapath, and the switch over it, which has room for `flows` flows.
pub fn switch(flows: usize) -> (Arc<Shelf>, Arc<Backer>, Arc<dyn Clock>) {
    let clock: Arc<dyn Clock> = Arc::new(Real(std::time::Instant::now()));
    let features = datapath::user::engine::features();
    let shelf = Arc::new(Shelf {
        features: features.clone(),
        clock: Arc::clone(&clock),
        flows: Arc::default(),
        busy: AtomicBool::new(false),
        packets: AtomicU64::new(0),
        changes: AtomicU64::new(0),
    });
    let backer = Backer::new(Arc::clone(&shelf) as Arc<dyn Datapath>, Arc::clone(&clock), false);
    backer.publish(snapshot(&pipeline(), features));
    // Passes are slow enough here for sparse flows to go, which is not what is measured.
    backer.configure(Settings { min_pps: 0, ..Settings::default() });
    backer.begin();
    backer.set_flow_limit(flows);
    (shelf, backer, clock)
}
