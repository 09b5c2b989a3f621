//! The Linux kernel's datapath, over generic netlink (`linux/openvswitch.h`).
//!
//! A tour, in the order to read it:
//!
//! * [`genl`]: the families, their headers, events.
//! * [`dp`], [`vport`], `flow`, `packet`, `meter`: one file a family.
//! * `open`, `cpus`: what both sides agree on at first, and how many handlers that means.
//! * `operate`, `requests`: operations in batches and alone.
//! * `help`: `set()` of fields that the kernel does not set.
//! * `probe`: what the kernel can do.
//! * [`fair`], `sieve`: which upcalls a handler answers when there are more than it can.
//! * `handler`: the threads that answer them.
//! * [`nfnetlink`], [`ct`], `ct_limit`: the connection tracker.
//! * [`told`]: everything that the kernel says, from bytes.
//! * [`tunnel`]: the links that carry tunnels' packets.
//! * [`Kernel`]: all of it as a [`Datapath`].
//!
//! Nothing here takes a lock while it waits for the kernel but the one that orders changes of handlers and ports.

pub mod genl;
pub mod dp;
pub mod vport;
mod flow;
mod packet;
mod meter;
mod open;
mod cpus;
mod help;
mod operate;
mod requests;
mod probe;
pub mod fair;
mod sieve;
mod handler;
pub mod nfnetlink;
pub mod ct;
mod ct_limit;
pub mod told;
pub mod tunnel;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

use ::flow::id::{DpMeter, DpPort};
use ::flow::time::Clock;
use sys::errno::Errno;

use crate::conntrack::Conntrack;
use crate::flow::{Dump, Execute, Flow, FlowDel, FlowGet, FlowPut, FlowStats, Op, OpResult};
use crate::netdev::tunnel::kind_of_port;
use crate::netdev::{Netdev, Netdevs};
use crate::user::log;
use crate::{
    Cache, Datapath, DpStats, Error, Features, MeterConfig, MeterFeatures, MeterStats, PortChanges, PortInfo,
    upcall,
};
use cpus::{cpus, handlers_for};
use dp::UserFeatures;
use genl::{Events, Genl};
use handler::{Context, Handlers, lock};
use meter::Meters;
use open::open;
use requests::Requests;
use vport::{Add, Kind, TunnelOptions, Vport, Which};

/// The port id that userspace actions name where the kernel chooses the socket by CPU. 0 would be refused.
const PER_CPU_PID: u32 = u32::MAX;

/// The module's version, if it has one.
const VERSION_FILE: &str = "/sys/module/openvswitch/version";

/// How a kernel datapath is opened.
pub struct Setup {
    /// `ovs-system`.
    pub name: String,
    /// Make it if it is not there.
    pub create: bool,
    /// For a switch: features are probed, changes of ports are heard, ports that are there already are taken over by
    /// [`Datapath::port_add`]. Without it, what is there is only looked at and changed as asked.
    pub serve: bool,
    pub clock: Arc<dyn Clock>,
    /// Where the devices of ports come from that somebody else added.
    pub netdevs: Arc<Netdevs>,
}

/// What must not change while it is looked at.
struct State {
    handlers: Option<Arc<Handlers>>,
    /// Handlers that are wanted, where the kernel leaves us a choice.
    wanted: usize,
    receiving: bool,
    /// The devices of the ports that were added or taken over.
    devices: BTreeMap<DpPort, Arc<dyn Netdev>>,
    /// Ports that were there before us and that nobody took over yet.
    leftovers: BTreeMap<DpPort, PortInfo>,
}

/// A datapath of the kernel.
pub struct Kernel {
    requests: Requests,
    features: Features,
    user_features: UserFeatures,
    serve: bool,
    netdevs: Arc<Netdevs>,
    context: Arc<Context>,
    state: Mutex<State>,
    events: Option<Events>,
    /// Whether meters are broken, once somebody asked; a switch asks at once.
    meters: OnceLock<bool>,
    conntrack: ct::KernelConntrack,
    /// Whether the kernel counts upcalls by port: [`NO`], [`YES`], or not known yet.
    counts_upcalls: AtomicU8,
}

const NO: u8 = 1;
const YES: u8 = 2;

impl Kernel {
    /// Opens or makes a datapath.
    ///
    /// # Errors
    /// `ENOENT` without the openvswitch module, `ENODEV` if the datapath is not there and not to be made, or what the kernel
    /// says.
    pub fn open(setup: &Setup) -> Result<Self, Error> {
        let genl = Genl::open();
        if setup.serve {
            genl::tell(&genl.as_ref().map(|genl| genl.families).map_err(Clone::clone));
        }
        let genl = genl?;
        let found = open(&genl, &setup.name, setup.create)?;
        let requests =
            Requests { genl: Arc::clone(&genl), dp: found.ifindex, name: found.name, spare: Arc::default() };
        let events = setup.serve.then(|| Events::listen(genl.families, found.ifindex)).transpose()?;
        // Probes are flows and packets: nothing to do to somebody else's datapath.
        let mut features = if setup.serve { probe::features(&requests) } else { Features::default() };
        let context = Arc::new(Context {
            name: requests.name.clone(),
            families: genl.families,
            dp: found.ifindex,
            clock: Arc::clone(&setup.clock),
            support: features.odp_support(),
            vlan_limit: AtomicUsize::new(1),
            handler: Mutex::default(),
            malformed: AtomicU64::new(0),
        });
        features.meters = genl.families.meter.is_some();
        let leftovers = if setup.serve { vport::dump(&genl, found.ifindex)? } else { Vec::new() };
        let leftovers = leftovers.into_iter().filter(|port| port.number != DpPort::LOCAL);
        let leftovers = leftovers.map(|port| (port.number, PortInfo::from(port))).collect();
        let state = State { handlers: None, wanted: 1, receiving: true, devices: BTreeMap::new(), leftovers };
        let kernel = Self {
            requests,
            features,
            user_features: found.features,
            serve: setup.serve,
            netdevs: Arc::clone(&setup.netdevs),
            context,
            state: Mutex::new(state),
            events,
            meters: OnceLock::new(),
            conntrack: ct::KernelConntrack::new(genl),
            counts_upcalls: AtomicU8::new(0),
        };
        if setup.serve {
            kernel.meters();
        }
        Ok(kernel)
    }

    /// Names of the kernel's datapaths.
    pub fn enumerate() -> Result<Vec<String>, Error> {
        let genl = Genl::open()?;
        Ok(dp::dump(&genl)?.into_iter().map(|dp| dp.name).collect())
    }

    /// How upcalls of each of the kernel's datapaths are dispatched (`dpif-netlink/dispatch-mode`).
    pub fn dispatch_modes() -> Result<String, Error> {
        let genl = Genl::open()?;
        let mode = |dp: &dp::Dp| match dp.features.contains(UserFeatures::UPCALL_PER_CPU) {
            true => "per-cpu",
            false => "per-vport",
        };
        let lines = dp::dump(&genl)?;
        Ok(lines.iter().map(|dp| format!("{}: {} dispatch mode\n", dp.name, mode(dp))).collect())
    }

    /// Requests to the families, for what has none of its own here.
    pub fn genl(&self) -> &Arc<Genl> {
        &self.requests.genl
    }

    /// The interface index by which messages name the datapath.
    pub fn ifindex(&self) -> u32 {
        self.requests.dp
    }

    /// Whether the kernel chooses the socket for an upcall by CPU.
    pub fn per_cpu(&self) -> bool {
        self.user_features.contains(UserFeatures::UPCALL_PER_CPU)
    }

    /// Whether the datapath goes on with packets where the rules of traffic control leave them.
    pub fn shares_recirculation(&self) -> bool {
        self.user_features.contains(UserFeatures::TC_RECIRC_SHARING)
    }

    /// A port as the kernel tells of it.
    pub fn vport(&self, which: Which<'_>) -> Result<Vport, Error> {
        vport::get(&self.requests.genl, self.requests.dp, which)
    }

    /// Times that the kernel found a handler's socket full, by handler.
    pub fn losses(&self) -> Vec<u64> {
        lock(&self.state).handlers.as_ref().map_or_else(Vec::new, |handlers| handlers.losses())
    }

    fn info(&self, state: &State, port: Vport) -> PortInfo {
        let known = state.devices.get(&port.number).filter(|_| port.kind == Kind::Netdev);
        let tunnel = || kind_of_port(&port.name).filter(|_| port.kind == Kind::Netdev).map(|kind| kind.name);
        let kind = known.map(|device| device.kind()).or_else(tunnel).unwrap_or(port.kind.text());
        if let Kind::Unknown(number) = port.kind {
            tracing::warn!(
                target: "dpif_netlink", rl = "5,20",
                "dp{}: port `{}' has unsupported type {number}", port.dp, port.name
            );
        }
        PortInfo { kind: kind.to_owned(), ..PortInfo::from(port) }
    }

    /// The device of a port that somebody else added.
    fn open_device(&self, port: &Vport) -> Result<Arc<dyn Netdev>, Error> {
        self.netdevs.open(&port.name, port.kind.text())
    }

    fn say(&self) -> String {
        format!("system@{}", self.requests.name)
    }

    fn meters(&self) -> Option<Meters<'_>> {
        let genl = &*self.requests.genl;
        let meters = Meters { genl, family: genl.families.meter?, dp: self.requests.dp };
        let broken = *self.meters.get_or_init(|| meters.broken());
        (!broken).then_some(meters)
    }

    /// Makes the handlers as they should be: there while somebody answers and wants to hear.
    fn refresh(&self) -> Result<(), Error> {
        let answers = lock(&self.context.handler).is_some();
        let mut state = lock(&self.state);
        let wanted = (state.receiving && answers).then(|| self.handlers_required().unwrap_or(state.wanted));
        if state.handlers.as_ref().map(|handlers| handlers.len()) == wanted {
            return Ok(());
        }
        let old = state.handlers.take();
        let result = match wanted {
            Some(n) => self.start(n).map(|handlers| state.handlers = Some(handlers)),
            None if old.is_some() && !self.per_cpu() => self.turn_off_upcalls(),
            None => Ok(()),
        };
        drop(state);
        // Waits for the threads, which may be asking us something.
        drop(old);
        result
    }

    fn start(&self, n: usize) -> Result<Arc<Handlers>, Error> {
        let mut handlers = Handlers::new(&self.context, n, self.per_cpu())?;
        let (genl, dp) = (&self.requests.genl, self.requests.dp);
        if self.per_cpu() {
            let pids = handlers.pids();
            let by_cpu: Vec<u32> = (0..cpus()).map(|cpu| pids[cpu % pids.len()]).collect();
            let request = dp::Request {
                ifindex: dp,
                name: Some(&self.requests.name),
                features: Some(self.user_features),
                per_cpu_pids: Some(&by_cpu),
                ..dp::Request::default()
            };
            dp::set(genl, &request)?;
        } else {
            for port in vport::dump(genl, dp)? {
                let pid = handlers.add_port(port.number)?;
                if port.pids != [pid]
                    && let Err(error) = vport::set_pid(genl, dp, port.number, pid)
                {
                    tracing::warn!(
                        target: "dpif_netlink", rl = "9999,5",
                        "{}: failed to set upcall pid on port: {error}", self.say()
                    );
                }
            }
        }
        handlers.start()?;
        Ok(Arc::new(handlers))
    }

    fn turn_off_upcalls(&self) -> Result<(), Error> {
        let (genl, dp) = (&self.requests.genl, self.requests.dp);
        for port in vport::dump(genl, dp)? {
            // One that is gone meanwhile has no upcalls either.
            let _ = vport::set_pid(genl, dp, port.number, 0);
        }
        Ok(())
    }

    /// A port of this name and kind that is there already; one of another kind is removed.
    fn existing(&self, device: &dyn Netdev, name: &str, kind: Kind) -> Result<Option<DpPort>, Error> {
        if !self.serve {
            return Ok(None);
        }
        let is_tunnel = device.tunnel().is_some();
        match self.vport(Which::Name(name)) {
            Ok(port) if port.kind == kind => Ok(Some(port.number)),
            Ok(port) if is_tunnel && port.kind == Kind::Netdev && tunnel::is_made(device) => {
                Ok(Some(port.number))
            }
            Ok(port) => {
                vport::delete(&self.requests.genl, self.requests.dp, port.number)?;
                if is_tunnel {
                    tunnel::delete(name)?;
                }
                Ok(None)
            }
            Err(error) if error.errno() == Errno::ENODEV => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn add(&self, device: &dyn Netdev, requested: Option<DpPort>) -> Result<DpPort, Error> {
        let name = &*device.datapath_port();
        let Some(kind) = Kind::of_text(device.kind()) else {
            tracing::warn!(
                target: "dpif_netlink", rl = "9999,5",
                "{}: cannot create port `{name}' because it has unsupported type `{}'", self.say(), device.kind()
            );
            return Err(Errno::EINVAL.into());
        };
        let (genl, dp) = (&self.requests.genl, self.requests.dp);
        let state = lock(&self.state);
        if let Some(number) = self.existing(device, name, kind)? {
            if state.devices.contains_key(&number) {
                return Err(Errno::EEXIST.into());
            }
            if let Some(handlers) = state.handlers.as_ref().filter(|_| !self.per_cpu()) {
                vport::set_pid(genl, dp, number, handlers.add_port(number)?)?;
            }
            return Ok(number);
        }
        let add = Add { kind, name, number: requested, pid: 0, options: None };
        let port = self.add_vport(device, &add).inspect_err(|error| {
            if let (Errno::EBUSY, Some(number)) = (error.errno(), requested) {
                tracing::info!(
                    target: "dpif_netlink", "{}: requested port {number} is in use", self.say()
                );
            }
        })?;
        if let Some(handlers) = state.handlers.as_ref().filter(|_| !self.per_cpu()) {
            let set =
                handlers.add_port(port.number).and_then(|pid| vport::set_pid(genl, dp, port.number, pid));
            if let Err(error) = set {
                tracing::info!(
                    target: "dpif_netlink", "{}: could not add channel for port {name}", self.say()
                );
                let _ = vport::delete(genl, dp, port.number);
                return Err(error);
            }
        }
        Ok(port.number)
    }

    /// Adds a port. One for tunnels is a link that is made for it, or else the datapath's own.
    fn add_vport(&self, device: &dyn Netdev, add: &Add<'_>) -> Result<Vport, Error> {
        let (genl, dp) = (&self.requests.genl, self.requests.dp);
        let Some(config) = device.tunnel() else { return vport::add(genl, dp, add) };
        let linked = tunnel::make(device).inspect_err(|error| {
            if error.errno() != Errno::EOPNOTSUPP {
                tracing::warn!(
                    target: "dpif_netlink", rl = "5,20",
                    "Failed to create {} with rtnetlink: {error}", device.name()
                );
            }
        });
        if linked.is_ok() {
            match vport::add(genl, dp, &Add { kind: Kind::Netdev, ..*add }) {
                Ok(port) => return Ok(port),
                Err(_) => tunnel::delete(add.name)?,
            }
        }
        let extensions = tunnel::extensions(device.kind(), &config);
        let options = TunnelOptions { dst_port: config.dst_port, extensions };
        let options = (options != TunnelOptions::default()).then_some(options);
        vport::add(genl, dp, &Add { options, ..*add }).inspect_err(|error| {
            if error.errno() == Errno::EAFNOSUPPORT {
                tracing::warn!(
                    target: "dpif_netlink", rl = "5,20",
                    "{}: cannot create port `{}': the kernel has no {} tunnels",
                    self.say(), add.name, device.kind()
                );
            }
        })
    }

    /// The name of a port if it is one for tunnels.
    fn tunnel_port(&self, port: DpPort) -> Option<String> {
        let known = lock(&self.state).devices.get(&port).map(|device| device.name().to_owned());
        let name = known.or_else(|| Some(self.vport(Which::Number(port)).ok()?.name))?;
        kind_of_port(&name).map(|_| name)
    }
}

impl From<Vport> for PortInfo {
    fn from(port: Vport) -> Self {
        Self { number: port.number, name: port.name, kind: port.kind.text().to_owned() }
    }
}

impl Datapath for Kernel {
    fn name(&self) -> &str {
        &self.requests.name
    }

    fn kind(&self) -> &str {
        "system"
    }

    fn version(&self) -> String {
        let text = std::fs::read_to_string(VERSION_FILE).ok();
        let line = text.as_deref().and_then(|text| text.lines().next()).map(str::to_owned);
        line.unwrap_or_else(|| "<unknown>".to_owned())
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn destroy(&self) -> Result<(), Error> {
        dp::delete(&self.requests.genl, self.requests.dp)
    }

    fn stats(&self) -> DpStats {
        let request = dp::Request { ifindex: self.requests.dp, ..dp::Request::default() };
        dp::get(&self.requests.genl, &request).map_or_else(|_| DpStats::default(), |dp| dp.stats)
    }

    fn run(&self) -> bool {
        false
    }

    fn wake_by(&self, waker: &Waker) {
        if let Some(events) = &self.events {
            events.wake_by(waker);
        }
    }

    fn set_handler(&self, handler: Option<Arc<dyn upcall::Handler>>) {
        *lock(&self.context.handler) = handler;
        if let Err(error) = self.refresh() {
            tracing::error!(
                target: "ofproto_dpif",
                "failed to listen on datapath of type system: {error}"
            );
        }
    }

    fn set_handlers(&self, n: usize) -> Result<(), Error> {
        lock(&self.state).wanted = n.max(1);
        self.refresh()
    }

    fn handlers_required(&self) -> Option<usize> {
        self.per_cpu().then(|| handlers_for(sys::cpu::cores().len(), cpus()))
    }

    fn set_receiving(&self, on: bool) -> Result<(), Error> {
        lock(&self.state).receiving = on;
        self.refresh()
    }

    fn fairness(&self) -> Vec<fair::Figures> {
        lock(&self.state).handlers.as_ref().map_or_else(Vec::new, |handlers| handlers.figures())
    }

    fn configure(&self, config: &BTreeMap<String, String>) -> Result<(), Error> {
        let limit = config.get("vlan-limit").and_then(|limit| limit.parse().ok()).unwrap_or(1);
        let most = ::flow::key::MAX_VLANS;
        self.context.vlan_limit.store(if limit == 0 { most } else { limit.min(most) }, Ordering::Relaxed);
        Ok(())
    }

    fn port_add(&self, device: &Arc<dyn Netdev>, requested: Option<DpPort>) -> Result<DpPort, Error> {
        let added = self.add(&**device, requested);
        match &added {
            Ok(number) => {
                // Tunnels come and go while others use the port.
                let device = device.port_device().unwrap_or_else(|| Arc::clone(device));
                let mut state = lock(&self.state);
                state.devices.insert(*number, Arc::clone(&device));
                state.leftovers.remove(number);
                drop(state);
                tracing::debug!(
                    target: "dpif", rl = "600,600",
                    "{}: added {} as port {number}", self.say(), device.name()
                );
            }
            Err(error) => tracing::warn!(
                target: "dpif", rl = "60,5",
                "{}: failed to add {} as port: {error}", self.say(), device.name()
            ),
        }
        added
    }

    fn port_del(&self, port: DpPort) -> Result<(), Error> {
        let link = self.tunnel_port(port);
        let deleted = vport::delete(&self.requests.genl, self.requests.dp, port);
        let deleted = deleted.and_then(|()| link.map_or(Ok(()), |name| tunnel::delete(&name)));
        self.port_lost(port);
        match &deleted {
            Ok(()) => {
                tracing::debug!(target: "dpif", rl = "600,600", "{}: port_del({port})", self.say());
            }
            Err(error) => tracing::warn!(
                target: "dpif", rl = "60,5",
                "{}: port_del failed ({error})", self.say()
            ),
        }
        deleted
    }

    fn port_by_number(&self, port: DpPort) -> Result<PortInfo, Error> {
        let port = self.vport(Which::Number(port))?;
        Ok(self.info(&lock(&self.state), port))
    }

    fn port_by_name(&self, name: &str) -> Result<PortInfo, Error> {
        let port = self.vport(Which::Name(name))?;
        Ok(self.info(&lock(&self.state), port))
    }

    fn ports(&self) -> Vec<PortInfo> {
        let dumped = vport::dump(&self.requests.genl, self.requests.dp).unwrap_or_else(|error| {
            tracing::warn!(target: "dpif", rl = "60,5", "{}: failed to dump ports ({error})", self.say());
            Vec::new()
        });
        let state = lock(&self.state);
        let mut ports: Vec<_> = dumped.into_iter().map(|port| self.info(&state, port)).collect();
        ports.sort_by_key(|port| port.number);
        ports
    }

    fn port_device(&self, port: DpPort) -> Result<Arc<dyn Netdev>, Error> {
        let known = lock(&self.state).devices.get(&port).cloned();
        known.map_or_else(|| self.open_device(&self.vport(Which::Number(port))?), Ok)
    }

    fn take_leftovers(&self) -> Vec<PortInfo> {
        std::mem::take(&mut lock(&self.state).leftovers).into_values().collect()
    }

    fn outlives_us(&self) -> bool {
        true
    }

    fn port_upcalls(&self, port: DpPort) -> Option<(u64, u64)> {
        // A kernel that does not count them is not asked again and again.
        if port == DpPort::NONE || self.counts_upcalls.load(Ordering::Relaxed) == NO {
            return None;
        }
        let upcalls = self.vport(Which::Number(port)).ok()?.upcalls;
        self.counts_upcalls.store(if upcalls.is_some() { YES } else { NO }, Ordering::Relaxed);
        upcalls
    }

    fn port_changes(&self) -> PortChanges {
        self.events.as_ref().map_or(PortChanges::None, Events::take)
    }

    fn port_lost(&self, port: DpPort) {
        let mut state = lock(&self.state);
        let device = state.devices.remove(&port);
        state.leftovers.remove(&port);
        if let Some(handlers) = &state.handlers {
            handlers.remove_port(port);
        }
        drop(state);
        drop(device);
    }

    fn port_pid(&self, port: DpPort) -> u32 {
        if self.per_cpu() {
            return PER_CPU_PID;
        }
        let handlers = lock(&self.state).handlers.clone();
        handlers.map_or(0, |handlers| handlers.port_pid(port))
    }

    fn flow_put(&self, put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error> {
        let result = self.requests.put(put, true);
        log::put(&self.say(), put, &result);
        result
    }

    fn flow_del(&self, del: &FlowDel<'_>) -> Result<FlowStats, Error> {
        let result = self.requests.del(del);
        log::del(&self.say(), del, &result, self.context.clock.now());
        result
    }

    fn flow_get(&self, get: &FlowGet<'_>) -> Result<Flow, Error> {
        self.requests.get(get)
    }

    fn flow_dump(&self, terse: bool) -> Box<dyn Dump> {
        self.requests.dump(terse)
    }

    fn flow_flush(&self) -> Result<(), Error> {
        self.requests.flush()
    }

    fn execute(&self, execute: &Execute<'_>) -> Result<(), Error> {
        let result = self.requests.execute(execute);
        log::execute(&self.say(), execute, &result);
        result
    }

    fn operate(&self, ops: &[Op<'_>]) -> Vec<OpResult> {
        let results = self.requests.operate(ops, false);
        let debugging = handler::is_debugging();
        for (op, result) in ops.iter().zip(&results).filter(|(_, result)| debugging || result.is_err()) {
            handler::report(&self.requests.name, op, result);
        }
        results
    }

    fn conntrack(&self) -> Option<&dyn Conntrack> {
        Some(&self.conntrack)
    }

    fn caches(&self) -> Vec<Cache> {
        let request = dp::Request { ifindex: self.requests.dp, ..dp::Request::default() };
        let size = dp::get(&self.requests.genl, &request).ok().and_then(|dp| dp.cache_size);
        size.map(|size| Cache { name: "masks-cache", size }).into_iter().collect()
    }

    fn set_cache_size(&self, level: usize, size: u32) -> Result<u32, Error> {
        if level != 0 {
            return Err(Errno::EINVAL.into());
        }
        let size = if size == 0 { 0 } else { size.checked_next_power_of_two().ok_or(Errno::EINVAL)? };
        let request = dp::Request {
            ifindex: self.requests.dp,
            name: Some(&self.requests.name),
            // The kernel resets what is not told again.
            features: Some(self.user_features),
            cache_size: Some(size),
            ..dp::Request::default()
        };
        let now = dp::set(&self.requests.genl, &request)?;
        now.cache_size.filter(|now| *now == size).ok_or(Errno::EINVAL.into())
    }

    fn meter_features(&self) -> MeterFeatures {
        self.meters().and_then(|meters| meters.features().ok()).unwrap_or_default()
    }

    fn meter_set(&self, meter: DpMeter, config: &MeterConfig) -> Result<(), Error> {
        self.meters().ok_or(Errno::ENOMEM)?.set(meter, config)
    }

    fn meter_get(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        self.meters().ok_or(Errno::ENOMEM)?.get(meter)
    }

    fn meter_del(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        self.meters().ok_or(Errno::ENOMEM)?.del(meter)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let handlers = lock(&self.state).handlers.take();
        drop(handlers);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Messages as the kernel sends them.

    use super::genl::Family;
    use crate::netlink::Batch;
    use ::flow::attr::Writer;

    pub const FAMILY: Family = Family { id: 0x1c, version: 1 };

    /// One message of [`FAMILY`].
    pub fn message(command: u8, dp: u32, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut batch = Batch::default();
        batch.push(FAMILY.id, 0, &FAMILY.header(command, dp), fill);
        batch.bytes().to_vec()
    }

    /// Bytes where attributes should be.
    pub fn put_raw(attrs: &mut Writer, bytes: &[u8]) {
        attrs.put_coded(bytes);
    }
}
