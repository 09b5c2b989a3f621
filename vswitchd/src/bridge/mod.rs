//! From the database to the switch: bridges, ports, interfaces, mirrors, tables and controllers, and what is written
//! back about them.
//!
//! Sans I/O but for devices and datapaths, which answer at once. The owner calls [`Bridges::run`] once a loop; when
//! the database has changed, everything is brought in line with it (tables: ovs-vswitchd.conf.db(5)) and then
//! published to translation as one [`crate::xlate::Snapshot`] a datapath type. `cur_cfg` is written in the same
//! transaction as `ofport` and `error`: who waits for it finds all of it done.
//!
//! In the order to read it:
//!
//! * [`Outside`]: what the rest of the process does for bridges. [`order`]: in which order OVS goes over names.
//! * [`reconfigure`]: which bridges, ports and interfaces there are; [`device`]: a device as an OpenFlow port.
//! * [`tunnel`]: the datapath ports that tunnels share.
//! * [`bundle`], [`mirror`], [`tables`], [`remote`], [`sflow`], [`qos`], [`mod@ct`]: what one row of the database configures.
//! * [`snapshot`]: what translation reads of it. [`status`]: what the database is told. [`command`]: `bridge/*`.

pub mod order;
pub mod reconfigure;
pub mod device;
pub mod bundle;
pub mod mirror;
pub mod tables;
pub mod remote;
pub mod sflow;
pub mod tunnel;
pub mod ct;
pub mod qos;
mod fail_open;
pub mod snapshot;
pub mod status;
pub mod command;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use datapath::linux::state::LinkNews;
use datapath::netdev::Netdevs;
use datapath::{Datapath, Error};
use flow::id::{DpPort, OfPort};
use flow::key::EthAddr;
use flow::time::Instant;
use openflow::msg::port::PortConfig;
use ovsdb::idl::{Idl, Status, Txn, TxnId};
use ovsdb::value::Uuid;

use crate::ofproto::Ofproto;
use crate::tunnel::TunnelPort;
use crate::xlate::mac::{self, MacTable};
use crate::xlate::snapshot::{Bundle, Mirror, PatchCounters, Snapshot};
use crate::xlate::{BridgeId, BundleId};
use order::ByHash;
pub use remote::{Connections, ControllerStatus};

/// What the rest of the process does for bridges.
pub trait Outside {
    /// The datapath that all bridges of type `kind` share; made if it is not there.
    ///
    /// # Errors
    ///
    /// If there is no such type, or what making it gave.
    fn open_datapath(&mut self, kind: &str) -> Result<Arc<dyn Datapath>, Error>;

    /// Deletes every flow of the datapath of a type, counting their packets: a bridge goes.
    fn flush(&mut self, _kind: &str) {}

    /// The last bridge of a type is gone. With `keep`, what the datapath does goes on without us.
    fn close_datapath(&mut self, kind: &str, keep: bool);

    /// Whether OpenFlow flows are being restored (`other_config:flow-restore-wait`): until they are, no controller is connected.
    fn is_restoring(&self) -> bool {
        false
    }

    /// Gives translation what it is to read from now on.
    fn publish(&mut self, kind: &str, snapshot: Snapshot);

    /// Sets up a bridge's OpenFlow connections; its `.mgmt` socket listens when this returns.
    fn connect(&mut self, bridge: &mut Bridge, connections: &Connections);

    /// Ends a bridge's OpenFlow connections.
    fn disconnect(&mut self, bridge: &str);

    /// Deletes a bridge's meters, which its datapath has.
    fn delete_meters(&mut self, _bridge: &mut Bridge) {}

    /// How a bridge's controllers fare, by target.
    fn controllers(&self, bridge: &str) -> BTreeMap<String, ControllerStatus>;

    /// The types of datapath that can be opened.
    fn datapath_types(&self) -> Vec<String>;

    /// Whether the database sets how many connections zones may have, in datapaths of this type.
    fn protect_limits(&mut self, kind: &str, on: bool);

    /// Settings of the whole switch (`other_config` of `Open_vSwitch`): limits of revalidation, threads, and so on.
    fn configure(&mut self, other_config: &BTreeMap<String, String>);
}

/// A device that is a port of a bridge.
pub struct Iface {
    pub name: String,
    /// `None` for a port that was made for a bridge which lacks one of its own name.
    pub uuid: Option<Uuid>,
    /// As in the `type` column, `internal` for the bridge's own.
    pub kind: String,
    pub ofp: OfPort,
    /// [`DpPort::NONE`] for patch ports.
    pub odp: DpPort,
    pub device: Arc<dyn datapath::netdev::Netdev>,
    /// For patch ports: the other end.
    pub peer: Option<String>,
    /// For tunnels: how translation knows it.
    pub tunnel: Option<TunnelPort>,
    counters: Arc<PatchCounters>,
    /// Queues whose packets get a DSCP, and that, as it is in the packet.
    queue_dscp: Vec<(u32, u8)>,
    /// What its traffic is shaped by, and on the device of which number.
    shaped: Option<(qos::Wanted, Option<u32>)>,
    /// Whether the database says what its MTU is; the bridge's own devices otherwise follow the other ports.
    own_mtu: bool,
    /// The device's [`change_seq`](datapath::netdev::Netdev::change_seq) that the rest of the switch knows.
    seen: u64,
    /// The one that the database knows.
    told: u64,
    /// What translation knows of the port's configuration.
    published: (PortConfig, bool),
}

/// A port as the database knows it: an interface, or several that are bonded.
pub struct Port {
    pub name: String,
    pub uuid: Option<Uuid>,
    pub bundle: Bundle,
    pub ifaces: Vec<Iface>,
}

/// A bridge.
pub struct Bridge {
    pub name: String,
    pub uuid: Uuid,
    pub id: BridgeId,
    /// The type of its datapath.
    pub kind: String,
    pub ofproto: Ofproto,
    pub macs: Arc<MacTable>,
    pub datapath: Arc<dyn Datapath>,
    pub ports: ByHash<Port>,
    /// Bundles in the order in which they were made.
    bundles: Vec<BundleId>,
    pub mirrors: Vec<Mirror>,
    pub forward_bpdu: bool,
    /// Whether some connection wants packet-ins for misses of tables that are not configured.
    pub packet_in_on_miss: Arc<AtomicBool>,
    /// Whether a controller is connected.
    pub controller_alive: Arc<AtomicBool>,
    /// Samples of received packets, if the bridge is sampled.
    pub sflow: Option<Arc<sflow::Sampler>>,
    default_mac: EthAddr,
    /// Whether it switches by itself: standalone, and no controllers. `None` before the first configuration.
    alone: Option<bool>,
    fail_open: fail_open::FailOpen,
    /// The datapath's meters of slow paths and of packets to controllers, as translation knows them.
    published_meters: [Option<u32>; 2],
    /// VLANs and addresses that were learned behind ports removed since.
    moved_away: Vec<(u16, EthAddr)>,
    /// The least MTU of its ports, which internal ports have unless configured.
    min_mtu: u16,
}

/// A transaction under way.
struct Flight {
    txn: TxnId,
    /// Whether it tells the result of a configuration.
    configuration: bool,
}

/// Every bridge of the switch.
pub struct Bridges {
    netdevs: Arc<Netdevs>,
    bridges: BTreeMap<String, Bridge>,
    next_bundle: u32,
    /// What tunnels share, by type of datapath.
    tunnels: BTreeMap<String, tunnel::Shared>,
    /// The database as of this change was brought in line.
    seqno: Option<u64>,
    retry: bool,
    configured: bool,
    flights: Vec<Flight>,
    stats_at: Instant,
    stats_interval: Duration,
    /// The status of every device is to be written.
    status_due: bool,
    /// The status of devices that changed is to be written.
    devices_moved: bool,
    /// Links that changed since ports were last looked for, and whether they vanished.
    touched: BTreeMap<String, bool>,
    /// Interfaces of the database that could not be made.
    missing: std::collections::BTreeSet<String>,
    vlan_limit: u8,
    /// What translation is to believe of the datapath of each type.
    features: BTreeMap<String, Believed>,
    /// What the datapath of each type was told of connection-tracking zones.
    tracking: BTreeMap<String, ct::Tracking>,
    /// Something that translation reads was changed by hand.
    republish: bool,
    /// Counts what happens to learned addresses.
    pub learning: mac::Counters,
}

/// What is believed of a datapath.
struct Believed {
    /// When the first bridge opened it: fewer VLAN tags than it can tell apart if `vlan-limit` had it look at fewer.
    boot: datapath::Features,
    /// The same, or what `dpif/set-dp-features` made of it.
    now: datapath::Features,
}

impl Believed {
    fn of(datapath: &dyn Datapath, vlan_limit: u8) -> Self {
        let mut boot = datapath.features().clone();
        boot.max_vlan_headers = boot.max_vlan_headers.min(vlan_limit.into());
        Self { now: boot.clone(), boot }
    }
}

/// How often statistics are written, unless the database says otherwise; and at least.
const STATS_INTERVAL: Duration = Duration::from_millis(5000);
/// How long after a lost race the transaction is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Bridges {
    /// No bridges, so far.
    pub fn new(netdevs: Arc<Netdevs>) -> Self {
        Self {
            netdevs,
            bridges: BTreeMap::new(),
            next_bundle: 0,
            tunnels: BTreeMap::new(),
            seqno: None,
            retry: false,
            configured: false,
            flights: Vec::new(),
            stats_at: Instant::ZERO,
            stats_interval: STATS_INTERVAL,
            status_due: false,
            devices_moved: false,
            touched: BTreeMap::new(),
            missing: Default::default(),
            vlan_limit: 1,
            features: BTreeMap::new(),
            tracking: BTreeMap::new(),
            republish: false,
            learning: mac::Counters::default(),
        }
    }

    /// Asks for the columns that bridges read; changes of those that they write do not count.
    pub fn watch(idl: &mut Idl) {
        status::watch(idl);
    }

    /// Brings the switch in line with the database if that has changed, lets each bridge do what is due, and writes
    /// back. Returns when it has something to do again, if nothing happens before.
    pub fn run(&mut self, idl: &mut Idl, outside: &mut dyn Outside, now: Instant) -> Instant {
        self.land(idl);
        if idl.is_lock_contended() {
            tracing::error!(
                target: "bridge", rl = "1,1",
                "another ovs-vswitchd process is running, disabling this process (pid {}) until it goes away",
                std::process::id()
            );
            self.destroy_all(true, outside, now);
            return Instant::NEVER;
        }
        if !idl.has_lock() || !idl.has_ever_connected() {
            return Instant::NEVER;
        }
        // What the database is being told is not yet what it says: the next result must not be held against that.
        let told = !self.flights.iter().any(|flight| flight.configuration);
        if self.retry && told || self.seqno != Some(idl.change_seqno()) {
            self.seqno = Some(idl.change_seqno());
            self.retry = false;
            let mut txn = Txn::new();
            self.reconfigure(idl, &mut txn, outside, now);
            self.take_off(idl, &txn, true);
            self.status_due = true;
        }
        self.poll_devices(outside, now);
        self.write_status(idl, outside, now);
        for bridge in self.bridges.values_mut() {
            bridge.ofproto.run(now);
            bridge.macs.expire(now);
        }
        self.run_sflow(now);
        let policies = self.sweep_policies(now);
        self.deadline(now).min(policies).min(self.run_fail_open(outside, now))
    }

    fn deadline(&self, now: Instant) -> Instant {
        let due =
            self.bridges.values().map(|bridge| bridge.ofproto.deadline(now).min(bridge.macs.deadline()));
        let sflow = self.bridges.values().map(Bridge::sflow_deadline);
        let retry = if self.retry { now + RETRY } else { Instant::NEVER };
        due.chain(sflow).fold(self.stats_at, Instant::min).min(retry)
    }

    /// Whether the first configuration is done and the database knows it: time to let the parent process go.
    pub fn is_configured(&self) -> bool {
        self.configured
    }

    /// Sends a transaction.
    fn take_off(&mut self, idl: &mut Idl, txn: &Txn, configuration: bool) {
        let txn = idl.commit(txn);
        self.flights.push(Flight { txn, configuration });
        self.land(idl);
    }

    /// Sees what became of transactions.
    fn land(&mut self, idl: &mut Idl) {
        let mut flying = Vec::new();
        for flight in std::mem::take(&mut self.flights) {
            match idl.status(flight.txn) {
                Status::Incomplete => {
                    flying.push(flight);
                    continue;
                }
                Status::Success | Status::Unchanged => self.configured |= flight.configuration,
                _ if flight.configuration => self.retry = true,
                _ => self.status_due = true,
            }
            idl.forget(flight.txn);
        }
        self.flights = flying;
    }

    fn in_flight(&self) -> bool {
        !self.flights.is_empty()
    }

    /// The bridge of that name.
    pub fn get(&self, name: &str) -> Option<&Bridge> {
        self.bridges.get(name)
    }

    /// The bridge of that name, to change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Bridge> {
        self.bridges.get_mut(name)
    }

    /// The bridge that cookies and translations know by this.
    pub fn by_id_mut(&mut self, id: BridgeId) -> Option<&mut Bridge> {
        self.bridges.values_mut().find(|bridge| bridge.id == id)
    }

    /// Every bridge, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Bridge> {
        self.bridges.values()
    }

    /// Every bridge, by name, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Bridge> {
        self.bridges.values_mut()
    }

    /// Links of the kernel changed: what could not be made for lack of one is tried again, and ports of the kernel's datapath
    /// may have gone with theirs.
    pub fn links_changed(&mut self, links: &[LinkNews]) {
        self.retry |= links.iter().any(|link| link.index.is_some() && self.missing.contains(&*link.name));
        self.touched.extend(links.iter().map(|link| (link.name.to_string(), link.index.is_none())));
    }

    /// The devices that interfaces are.
    pub fn netdevs(&self) -> &Arc<Netdevs> {
        &self.netdevs
    }

    /// Lets go of every bridge, as at the end of the program. With `keep`, datapaths that outlive it keep ports and flows.
    pub fn destroy_all(&mut self, keep: bool, outside: &mut dyn Outside, now: Instant) {
        if keep {
            // The datapath ports of tunnels stay for who comes after.
            self.tunnels.clear();
        }
        for name in self.bridges.keys().cloned().collect::<Vec<_>>() {
            self.destroy(&name, keep, outside, now);
        }
        self.seqno = None;
    }
}

impl Bridge {
    /// Every interface, in the order in which OVS goes over ports.
    pub fn ifaces(&self) -> impl Iterator<Item = &Iface> {
        self.ports.iter().flat_map(|port| &port.ifaces)
    }

    /// Every interface, to change.
    pub fn ifaces_mut(&mut self) -> impl Iterator<Item = &mut Iface> {
        self.ports.iter_mut().flat_map(|port| &mut port.ifaces)
    }

    /// The interface of that name.
    pub fn iface(&self, name: &str) -> Option<&Iface> {
        self.ifaces().find(|iface| iface.name == name)
    }

    /// The interface of that OpenFlow port number.
    pub fn iface_at(&self, port: OfPort) -> Option<&Iface> {
        self.ifaces().find(|iface| iface.ofp == port)
    }

    /// The bundle that a port of that name makes.
    pub fn bundle_named(&self, port: &str) -> Option<BundleId> {
        self.ports.get(port).map(|port| port.bundle.id)
    }
}

#[cfg(test)]
mod tests;
