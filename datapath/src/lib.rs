//! Datapaths: what moves packets by flows that somebody else translated.
//!
//! A tour, in the order to read it:
//!
//! * [`error`]: how a request to a datapath fails.
//! * [`netlink`]: messages to and from the kernel.
//! * [`netdev`]: network devices by name and type, as the `Interface` table configures them.
//! * [`flow`]: datapath flows as they are put, asked for and dumped.
//! * [`upcall`]: the question a datapath asks for a packet without a flow, and its answer.
//! * [`conntrack`]: connection tracking, where a datapath has it.
//! * [`Datapath`]: what every datapath can do.
//! * [`user`]: the userspace datapath, the vector engine.
//! * [`linux`]: the kernel's links, addresses, routes and queueing disciplines.
//! * [`kernel`]: the Linux kernel's datapath.
//! * [`dpctl`]: commands that show and change datapaths.
#![forbid(unsafe_code)]

pub mod error;
pub mod netlink;
pub mod netdev;
pub mod flow;
pub mod upcall;
pub mod conntrack;
pub mod user;
pub mod linux;
pub mod kernel;
pub mod dpctl;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::flow::id::{DpMeter, DpPort, Ufid};
use ::flow::odp::OdpSupport;
use serde::Serialize;

pub use error::Error;
use flow::{Dump, Execute, Flow, FlowDel, FlowGet, FlowPut, FlowStats, Op, OpResult};
use netdev::Netdev;

/// A worker of a userspace datapath by the CPU core that it runs on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct PmdId(pub u32);

impl PmdId {
    /// Not a worker thread but the main thread, which polls `dummy` ports (`NON_PMD_CORE_ID`).
    pub const MAIN: Self = Self(u32::MAX);
    /// No particular worker: all of them, or a datapath without workers (`PMD_ID_NULL`).
    pub const NONE: Self = Self(i32::MAX as u32);
}

/// A port of a datapath.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PortInfo {
    #[serde(serialize_with = "port_number")]
    pub number: DpPort,
    pub name: String,
    /// The type as `dpctl/show` prints it: `system`, `internal`, `tap`, `dummy`, `vxlan`, …
    pub kind: String,
}

fn port_number<S: serde::Serializer>(port: &DpPort, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u32(port.0)
}

/// What happened to the ports of a datapath since the last [`Datapath::port_changes`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortChanges {
    /// Nothing.
    None,
    /// These devices appeared, vanished or changed; look each of them up again.
    Devices(Vec<String>),
    /// Changes were lost: look everything up again.
    All,
}

/// Counters of a whole datapath (`struct dpif_dp_stats`). What a datapath does not count is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct DpStats {
    /// Packets that matched a flow.
    pub hits: u64,
    /// Packets that matched none.
    pub misses: u64,
    /// Missed packets that never reached a handler.
    pub lost: u64,
    pub flows: u64,
    /// Masks looked at by all look-ups together.
    pub mask_hits: Option<u64>,
    pub masks: Option<u32>,
    /// Packets that matched by the mask cache.
    pub cache_hits: Option<u64>,
}

/// What a datapath can do, as `dpif/show-dp-features` lists it and translation asks.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Features {
    pub masked_set_action: bool,
    pub tnl_push_pop: bool,
    pub ufid: bool,
    pub trunc: bool,
    pub clone: bool,
    /// How deep `sample` nests.
    pub sample_nesting: usize,
    pub ct_eventmask: bool,
    pub ct_clear: bool,
    /// The highest hash algorithm of the `hash` action (`OVS_HASH_ALG_*`).
    pub max_hash_alg: u32,
    pub check_pkt_len: bool,
    pub ct_timeout: bool,
    pub explicit_drop_action: bool,
    pub lb_output_action: bool,
    pub ct_zero_snat: bool,
    pub add_mpls: bool,
    pub psample: bool,
    /// VLAN tags that a flow key tells apart.
    pub max_vlan_headers: usize,
    /// MPLS labels that a flow key tells apart.
    pub max_mpls_depth: usize,
    pub recirc: bool,
    /// Flows can match these conntrack fields.
    pub ct_state: bool,
    pub ct_zone: bool,
    pub ct_mark: bool,
    pub ct_label: bool,
    pub ct_state_nat: bool,
    pub ct_orig_tuple: bool,
    pub ct_orig_tuple6: bool,
    /// Flows can match ND options (`OVS_KEY_ATTR_ND_EXTENSIONS`).
    pub nd_ext: bool,
    /// The `ct` action is executed. Not among OVS's: its datapaths all do.
    pub conntrack: bool,
    /// Meters can be set.
    pub meters: bool,
}

/// A cache before a datapath's flow table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cache {
    pub name: &'static str,
    /// In entries.
    pub size: u32,
}

impl Features {
    /// What flows can match.
    pub fn odp_support(&self) -> OdpSupport {
        OdpSupport {
            max_vlan_headers: self.max_vlan_headers,
            max_mpls_depth: self.max_mpls_depth,
            recirc: self.recirc,
            ct_state: self.ct_state,
            ct_zone: self.ct_zone,
            ct_mark: self.ct_mark,
            ct_label: self.ct_label,
            ct_state_nat: self.ct_state_nat,
            ct_orig_tuple: self.ct_orig_tuple,
            ct_orig_tuple6: self.ct_orig_tuple6,
            nd_ext: self.nd_ext,
        }
    }
}

/// One band of a meter. OVS's userspace datapath knows the drop type only.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MeterBand {
    /// Kilobits or packets a second.
    pub rate: u32,
    /// Kilobits or packets; 0 means the same as `rate`.
    pub burst: u32,
}

/// A meter's configuration.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MeterConfig {
    /// Rates count packets, not kilobits.
    pub pktps: bool,
    /// Bursts are given.
    pub burst: bool,
    pub bands: Vec<MeterBand>,
}

/// A meter's counters.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MeterStats {
    pub packets: u64,
    pub bytes: u64,
    /// Packets and bytes that each band dropped.
    pub bands: Vec<(u64, u64)>,
}

/// What meters a datapath has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MeterFeatures {
    pub max_meters: u32,
    pub max_bands: u8,
}

/// What moves packets. Every method takes `&self` and may be called from any thread.
pub trait Datapath: Send + Sync {
    /// The name: `ovs-netdev`, `ovs-system`.
    fn name(&self) -> &str;

    /// The type, as `datapath_type` says it: `netdev`, `dummy`, `system`.
    fn kind(&self) -> &str;

    /// The `datapath_version` column: `<built-in>` for userspace.
    fn version(&self) -> String;

    /// What this datapath can do. Constant over its life.
    fn features(&self) -> &Features;

    /// The vector engine, if this is one, for the commands that only it has.
    fn as_engine(&self) -> Option<&user::Engine> {
        None
    }

    fn stats(&self) -> DpStats;

    /// Polls the ports that no worker thread polls (`dummy` ports; the pseudo-worker "main thread") until they are
    /// empty or a budget is used up. Returns whether there is more to do at once.
    fn run(&self) -> bool;

    /// Registers what [`Datapath::run`] having something to do wakes.
    fn wake_by(&self, waker: &std::task::Waker);

    /// Gives the datapath what answers its questions. Without one, packets that match no flow are lost.
    fn set_handler(&self, handler: Option<Arc<dyn upcall::Handler>>);

    /// How many handler threads the kernel datapath may use. Userspace calls the handler from its workers.
    fn set_handlers(&self, _n: usize) -> Result<(), Error> {
        Ok(())
    }

    /// How many handler threads the datapath insists on (one a CPU, with per-CPU dispatch), whatever is configured.
    fn handlers_required(&self) -> Option<usize> {
        None
    }

    /// Lets upcalls come, or not: none come while flows are being restored. Packets that miss are lost meanwhile.
    fn set_receiving(&self, _on: bool) -> Result<(), Error> {
        Ok(())
    }

    /// What the token pools of each handler thread did, for datapaths that have some.
    fn fairness(&self) -> Vec<kernel::fair::Figures> {
        Vec::new()
    }

    /// Applies the `other_config` column of the `Open_vSwitch` table (`pmd-cpu-mask`, …).
    fn configure(&self, _config: &BTreeMap<String, String>) -> Result<(), Error> {
        Ok(())
    }

    /// The device type that an interface of type `kind` needs here: `internal` is `tap` in `netdev`, `dummy-internal` in
    /// `dummy`.
    fn port_open_type<'a>(&self, kind: &'a str) -> &'a str {
        kind
    }

    /// Adds a port under `requested`, or under a number that the datapath chooses.
    ///
    /// # Errors
    /// `EEXIST` when the device is a port already, `EBUSY` when the number is taken, or the kernel's error.
    fn port_add(&self, device: &Arc<dyn Netdev>, requested: Option<DpPort>) -> Result<DpPort, Error>;

    /// Removes a port and the flows that only it could have.
    fn port_del(&self, port: DpPort) -> Result<(), Error>;

    /// Applies `other_config` of an interface to its port (`pmd-rxq-affinity`, …).
    fn port_configure(&self, _port: DpPort, _config: &BTreeMap<String, String>) -> Result<(), Error> {
        Ok(())
    }

    fn port_by_number(&self, port: DpPort) -> Result<PortInfo, Error>;

    /// # Errors
    /// `ENODEV` when there is no such port.
    fn port_by_name(&self, name: &str) -> Result<PortInfo, Error>;

    /// How many flows devices have taken off the datapath.
    fn offloaded_flows(&self) -> usize {
        0
    }

    /// All ports, by number.
    fn ports(&self) -> Vec<PortInfo>;

    /// The device behind a port, for its statistics and status.
    fn port_device(&self, port: DpPort) -> Result<Arc<dyn Netdev>, Error>;

    /// Ports that were there when the datapath was opened and that nobody has asked for by [`Datapath::port_add`], which gives
    /// such a port's number instead of adding it again. They are none of the datapath's business any more: who calls
    /// this deletes those that nobody wants.
    fn take_leftovers(&self) -> Vec<PortInfo> {
        Vec::new()
    }

    /// Whether ports and flows go on working when the program ends.
    fn outlives_us(&self) -> bool {
        false
    }

    /// Deletes the datapath with all its ports and flows, for good. The userspace datapath goes with its owner.
    fn destroy(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Upcalls of a port that reached userspace and that did not, where the datapath counts them.
    fn port_upcalls(&self, _port: DpPort) -> Option<(u64, u64)> {
        None
    }

    /// What happened to ports since the last call.
    fn port_changes(&self) -> PortChanges;

    /// Somebody else took a port out: lets go of its device and of what else was kept for it.
    fn port_lost(&self, _port: DpPort) {}

    /// The netlink pid that a userspace action should name for packets that came in by `port`; 0 in userspace.
    fn port_pid(&self, _port: DpPort) -> u32 {
        0
    }

    /// Installs or changes a flow. Returns its statistics if it was there before.
    fn flow_put(&self, put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error>;

    /// Removes a flow and returns its last statistics.
    fn flow_del(&self, del: &FlowDel<'_>) -> Result<FlowStats, Error>;

    fn flow_get(&self, get: &FlowGet<'_>) -> Result<Flow, Error>;

    /// Begins a walk over all flows. Several threads may share one walk behind a lock. `terse` leaves out keys,
    /// masks and actions where the datapath can tell flows by UFID.
    fn flow_dump(&self, terse: bool) -> Box<dyn Dump>;

    fn flow_flush(&self) -> Result<(), Error>;

    /// Runs actions on a packet. Actions that only userspace can do must not be among them.
    fn execute(&self, execute: &Execute<'_>) -> Result<(), Error>;

    /// Does all of `ops` in order, as one batch where that is cheaper. One result an operation.
    fn operate(&self, ops: &[Op<'_>]) -> Vec<OpResult> {
        ops.iter().map(|op| flow::operate_one(self, op)).collect()
    }

    /// The connection tracker, if there is one.
    fn conntrack(&self) -> Option<&dyn conntrack::Conntrack> {
        None
    }

    /// What providers of offload count, by provider.
    fn offload_stats(&self) -> Vec<(String, Vec<(&'static str, u64)>)> {
        Vec::new()
    }

    /// Caches whose size can be asked for, by level.
    fn caches(&self) -> Vec<Cache> {
        Vec::new()
    }

    /// Sets the entries of the cache of a level, and returns how many it has now.
    fn set_cache_size(&self, _level: usize, _size: u32) -> Result<u32, Error> {
        Err(Error::Unsupported("caches"))
    }

    fn meter_features(&self) -> MeterFeatures {
        MeterFeatures::default()
    }

    fn meter_set(&self, _meter: DpMeter, _config: &MeterConfig) -> Result<(), Error> {
        Err(Error::Unsupported("meters"))
    }

    fn meter_get(&self, _meter: DpMeter) -> Result<MeterStats, Error> {
        Err(Error::Unsupported("meters"))
    }

    fn meter_del(&self, _meter: DpMeter) -> Result<MeterStats, Error> {
        Err(Error::Unsupported("meters"))
    }

    /// Sets where the `lb_output` action sends the 256 hash buckets of a bond.
    fn bond_set(&self, _bond: u32, _members: &[DpPort; 256]) -> Result<(), Error> {
        Err(Error::Unsupported("lb_output"))
    }

    fn bond_del(&self, _bond: u32) -> Result<(), Error> {
        Err(Error::Unsupported("lb_output"))
    }

    /// Bytes sent by each hash bucket of a bond.
    fn bond_bytes(&self, _bond: u32) -> Result<[u64; 256], Error> {
        Err(Error::Unsupported("lb_output"))
    }
}

/// The UFID of a flow by its key's attribute bytes; the datapath's own choice where a put names none.
pub fn ufid_of(key: &[u8]) -> Ufid {
    flow::ufid_of(key)
}
