//! What bridges stand on: one datapath for all bridges of a type, and OpenFlow connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use ::offload::ct::worker::{Service, system_devices};
use ::offload::{Offloaded, provider};
use daemon::stream::Network;
use datapath::dpctl::Env;
use datapath::kernel::{self, Kernel};
use datapath::netdev::tunnel::{Egress, Routes};
use datapath::netdev::{DummyLevel, Netdev, Netdevs};
use datapath::user::{Engine, Setup};
use datapath::{Datapath, Error};
use flow::id::DpPort;
use flow::time::{Clock, Instant};
use sys::errno::Errno;

use crate::backer::{Backer, Backers, Note};
use crate::bridge::{Bridge, Connections, ControllerStatus, Outside, reconfigure};
use crate::conn::Conns;
use crate::reval::{self, Settings};
use crate::route::Router;
use crate::route::watch::Watch;
use crate::xlate::Snapshot;

/// What bridges stand on.
pub struct World {
    /// The devices that are open.
    pub netdevs: Arc<Netdevs>,
    clock: Arc<dyn Clock>,
    dummy: Option<DummyLevel>,
    disable_system: bool,
    engines: BTreeMap<String, Arc<Engine>>,
    /// Their connections in hardware, by type.
    tracked: BTreeMap<String, Service>,
    /// Datapaths under what takes their flows to hardware, by type: the kernel's, once a bridge wants it, and dummies.
    offloaded: BTreeMap<String, Arc<Offloaded>>,
    /// In which order ports are offered to providers of offload: what was configured first. What is configured later needs a
    /// restart.
    priority: Option<String>,
    /// It was said that it does, and that flows are offloaded.
    told: (bool, bool),
    /// `other_config`, for datapaths that come after it.
    other_config: BTreeMap<String, String>,
    /// Datapaths that no bridge asked for (`dpctl/add-dp`), by type and name.
    extra: Mutex<BTreeMap<(String, String), Arc<Engine>>>,
    /// What bridges of one type share, by type.
    pub backers: Backers,
    /// OpenFlow connections.
    pub conns: Conns,
    settings: Settings,
    /// Types of datapath in which the database sets how many connections zones may have.
    protected: BTreeSet<String>,
    /// `--dummy-numa`.
    cores: Option<Vec<(u32, u32)>>,
    /// The kernel's links and routes.
    pub network: Watch,
    /// Versions of routes and of tunnels as of which tunnels know where their packets leave.
    egress_as_of: (u64, u64),
    waker: Waker,
    /// What `coverage/show` shows of datapath flows.
    pub counters: reval::Counters,
    /// OpenFlow flows are being restored (`other_config:flow-restore-wait`): datapaths go on with the flows that they have.
    restoring: bool,
}

impl World {
    /// A world without bridges. `waker` is rung when a datapath has something for the main loop.
    pub fn new(
        clock: Arc<dyn Clock>,
        dummy: Option<DummyLevel>,
        disable_system: bool,
        network: Network,
        waker: Waker,
    ) -> Self {
        let netdevs = Arc::new(Netdevs::new());
        if let Some(level) = dummy {
            netdevs.enable_dummy(level);
        }
        let mut conns = Conns::new(network);
        conns.debug = dummy.is_some();
        Self {
            netdevs,
            clock,
            dummy,
            disable_system,
            engines: BTreeMap::new(),
            tracked: BTreeMap::new(),
            offloaded: BTreeMap::new(),
            priority: None,
            told: (false, false),
            other_config: BTreeMap::new(),
            extra: Mutex::default(),
            backers: Backers::default(),
            conns,
            settings: Settings::default(),
            protected: BTreeSet::new(),
            cores: None,
            network: Watch::default(),
            egress_as_of: (0, 0),
            waker,
            counters: reval::Counters::default(),
            restoring: true,
        }
    }

    /// Cores and NUMA nodes that workers believe in instead of the machine's (`--dummy-numa`).
    pub fn believe_in(&mut self, cores: Option<Vec<(u32, u32)>>) {
        self.cores = cores;
    }

    /// Begins to listen to what the kernel says of its links and, if `routes`, its routes.
    pub fn watch_network(&mut self, routes: bool) {
        self.network = Watch::start(routes, &self.netdevs, &self.waker);
    }

    /// Lets tunnels look anew where their packets leave if links, routes or tunnels changed.
    pub fn look_for_egress(&mut self, links: bool) {
        let now = (self.network.router.version(), self.netdevs.tunnels().changes());
        if links || now != self.egress_as_of {
            self.egress_as_of = now;
            self.netdevs.look_for_egress(&Leaving { router: &self.network.router, netdevs: &self.netdevs });
        }
    }

    /// Every userspace datapath.
    pub fn engines(&self) -> Vec<Arc<Engine>> {
        self.engines.values().cloned().collect()
    }

    /// The kernel's datapath with its flows in hardware.
    pub fn offloaded(&self) -> Option<&Arc<Offloaded>> {
        self.offloaded.get("system")
    }

    /// Every datapath whose ports can be offered to providers of offload.
    pub fn offload_providers(&self, kind: &str) -> Option<&Arc<Offloaded>> {
        self.offloaded.get(kind)
    }

    /// Connections in hardware, by the name of their userspace datapath.
    pub fn tracked(&self) -> impl Iterator<Item = (String, &Service)> {
        self.tracked.iter().filter_map(|(kind, service)| {
            let engine = self.engines.get(kind)?;
            Some((format!("{}@{}", engine.kind(), engine.name()), service))
        })
    }

    /// Takes connections of userspace datapaths to hardware if that is wanted. Dummies have no devices.
    fn track(&mut self) {
        if !self.offloads() {
            return;
        }
        for (kind, engine) in &self.engines {
            if self.is_dummy(kind) || self.tracked.contains_key(kind) {
                continue;
            }
            let rules = Arc::new(::offload::table::Netlink::new(Arc::clone(self.netdevs.hooks())));
            match Service::start(engine, rules, Box::new(system_devices), &self.clock, self.seed()) {
                Ok(service) => {
                    self.tracked.insert(kind.clone(), service);
                }
                Err(error) => {
                    tracing::warn!(target: "dpif_offload", "connections stay in software: {error}");
                }
            }
        }
    }

    /// A number that nobody knows before.
    fn seed(&self) -> u64 {
        let mut seed = [0; 8];
        if getrandom::fill(&mut seed).is_err() {
            seed = self.clock.now().nanos().to_ne_bytes();
        }
        u64::from_ne_bytes(seed)
    }

    /// Whether flows go to hardware (`other_config:hw-offload`). Once they do, they do until the process ends.
    pub fn offloads(&self) -> bool {
        let wanted =
            self.other_config.get("hw-offload").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        wanted || self.offloaded().is_some_and(|offloaded| offloaded.is_on())
    }

    /// Lets datapaths do what the main loop does for them, once. Whether there was anything.
    pub fn poll(&self) -> bool {
        self.engines.values().fold(false, |any, engine| engine.run() | any)
    }

    /// What translation left for the main loop to do.
    pub fn take_notes(&self) -> Vec<Note> {
        self.backers.0.values().flat_map(|backer| backer.take_notes()).collect()
    }

    /// Looks after datapath flows; when to come again.
    pub fn run(&self, now: Instant) -> Instant {
        self.backers.0.values().map(|backer| Backer::run(backer, now)).min().unwrap_or(Instant::NEVER)
    }

    fn is_dummy(&self, kind: &str) -> bool {
        kind == "dummy" || self.dummy == Some(DummyLevel::Override)
    }

    /// Whether datapaths of a type are the kernel's.
    fn is_kernel(&self, kind: &str) -> bool {
        kind == "system" && !self.is_dummy(kind)
    }

    fn check_type(&self, kind: &str) -> Result<(), Error> {
        let known = self.datapath_types().iter().any(|known| known == kind);
        if known { Ok(()) } else { Err(Errno::EAFNOSUPPORT.into()) }
    }

    /// Opens a datapath of the kernel; to `serve` bridges, or only to look at.
    fn open_kernel(&self, name: &str, create: bool, serve: bool) -> Result<Arc<Kernel>, Error> {
        let (clock, netdevs) = (Arc::clone(&self.clock), Arc::clone(&self.netdevs));
        let setup = kernel::Setup { name: name.to_owned(), create, serve, clock, netdevs };
        let kernel = Arc::new(Kernel::open(&setup)?);
        kernel.configure(&self.other_config)?;
        kernel.wake_by(&self.waker);
        Ok(kernel)
    }

    fn make(&self, kind: &str, name: &str) -> Result<Arc<Engine>, Error> {
        self.check_type(kind)?;
        let dummy = self.is_dummy(kind);
        let setup = Setup {
            name: name.to_owned(),
            kind: kind.to_owned(),
            dummy,
            clock: Arc::clone(&self.clock),
            seed: self.seed(),
            cores: self.cores.clone(),
        };
        let engine = Arc::new(Engine::new(setup, &self.netdevs)?);
        engine.wake_by(&self.waker);
        Ok(engine)
    }

    /// Deletes datapaths of the kernel but for one of that name: an earlier process left them.
    fn delete_other_kernels(&self, but: &str) {
        let others = Kernel::enumerate().unwrap_or_default().into_iter().filter(|name| name != but);
        for name in others {
            let deleted = self.open_kernel(&name, false, false).and_then(|kernel| kernel.destroy());
            if let Err(error) = deleted {
                tracing::warn!(
                    target: "ofproto_dpif", "couldn't open old datapath {name} to remove it ({error})"
                );
            }
        }
    }

    /// A datapath under what takes its flows to hardware.
    fn offload(
        &mut self,
        kind: &str,
        inner: Arc<dyn Datapath>,
        support: ::offload::rule::Support,
    ) -> Result<Arc<dyn Datapath>, Error> {
        let table = Box::new(::offload::table::Netlink::new(Arc::clone(self.netdevs.hooks())));
        let priority = self.priority.as_deref().unwrap_or(provider::ORDER);
        let clock = Arc::clone(&self.clock);
        let offloaded = Arc::new(Offloaded::new(inner, table, clock, support, priority));
        offloaded.configure(&self.other_config)?;
        self.offloaded.insert(kind.to_owned(), Arc::clone(&offloaded));
        Ok(offloaded)
    }

    /// Takes up the order of providers of offload, and says what there is to say of it.
    fn take_priority(&mut self, other_config: &BTreeMap<String, String>) {
        let wanted = other_config.get("hw-offload-priority").map(String::as_str);
        let Some(priority) = &self.priority else {
            for name in wanted.into_iter().flat_map(provider::unknown) {
                tracing::warn!(
                    target: "dpif_offload",
                    "hw-offload-priority configuration has an unknown type; {name}"
                );
            }
            self.priority = Some(wanted.unwrap_or(provider::ORDER).to_owned());
            return;
        };
        if wanted.is_some_and(|wanted| wanted != priority) && !std::mem::replace(&mut self.told.0, true) {
            tracing::info!(
                target: "dpif_offload",
                "hw-offload-priority configuration changed; restart required"
            );
        }
    }

    /// A backer over a datapath that was just made.
    fn back(&mut self, kind: &str, datapath: Arc<dyn Datapath>) {
        let backer = Backer::new(datapath, Arc::clone(&self.clock), !self.is_dummy(kind));
        backer.wake_by(&self.waker);
        backer.flows.configure(self.settings);
        backer.flows.count_with(self.counters.clone());
        if !self.restoring {
            backer.listen();
        }
        self.backers.0.insert(kind.to_owned(), backer);
    }
}

impl Outside for World {
    fn open_datapath(&mut self, kind: &str) -> Result<Arc<dyn Datapath>, Error> {
        if let Some(backer) = self.backers.0.get(kind) {
            return Ok(Arc::clone(&backer.datapath));
        }
        self.check_type(kind)?;
        let name = format!("ovs-{kind}");
        let datapath: Arc<dyn Datapath> = if self.is_kernel(kind) {
            self.delete_other_kernels(&name);
            let opened = self.open_kernel(&name, true, true).inspect_err(|error| {
                tracing::error!(target: "ofproto_dpif", "failed to open datapath of type {kind}: {error}");
            })?;
            let support =
                ::offload::rule::Support { chains: opened.shares_recirculation(), ..Default::default() };
            self.offload(kind, opened, support)?
        } else {
            let engine = self.make(kind, &name)?;
            self.engines.insert(kind.to_owned(), Arc::clone(&engine));
            self.track();
            if kind == "dummy" { self.offload(kind, engine, Default::default())? } else { engine }
        };
        self.back(kind, Arc::clone(&datapath));
        Ok(datapath)
    }

    fn flush(&mut self, kind: &str) {
        if let Some(backer) = self.backers.0.get(kind) {
            backer.flush();
        }
    }

    fn close_datapath(&mut self, kind: &str, keep: bool) {
        if let Some(backer) = self.backers.0.remove(kind) {
            backer.stop();
            // The handler is the backer, which holds the datapath.
            backer.datapath.set_handler(None);
            if !keep && let Err(error) = backer.datapath.destroy() {
                tracing::warn!(target: "ofproto_dpif", "failed to delete datapath of type {kind}: {error}");
            }
        }
        // Nothing of it stays in devices.
        self.tracked.remove(kind);
        self.engines.remove(kind);
        self.offloaded.remove(kind);
    }

    fn is_restoring(&self) -> bool {
        self.restoring
    }

    fn publish(&mut self, kind: &str, snapshot: Snapshot) {
        if let Some(backer) = self.backers.0.get(kind) {
            delete_leftovers(&*backer.datapath, &snapshot);
            backer.publish(snapshot);
            if !self.restoring {
                backer.begin();
            }
        }
    }

    fn connect(&mut self, bridge: &mut Bridge, connections: &Connections) {
        self.conns.configure(bridge, connections, self.clock.now());
    }

    fn disconnect(&mut self, bridge: &str) {
        self.conns.disconnect(bridge);
    }

    fn delete_meters(&mut self, bridge: &mut Bridge) {
        self.conns.delete_meters(bridge);
    }

    fn controllers(&self, bridge: &str) -> BTreeMap<String, ControllerStatus> {
        self.conns.controllers(bridge, self.clock.now())
    }

    fn datapath_types(&self) -> Vec<String> {
        let types = [("dummy", self.dummy.is_some()), ("netdev", true), ("system", !self.disable_system)];
        types.into_iter().filter(|(_, has)| *has).map(|(kind, _)| kind.to_owned()).collect()
    }

    fn protect_limits(&mut self, kind: &str, on: bool) {
        if on {
            self.protected.insert(kind.to_owned());
        } else {
            self.protected.remove(kind);
        }
    }

    fn configure(&mut self, other_config: &BTreeMap<String, String>) {
        self.settings = settings(other_config);
        self.take_priority(other_config);
        // Once everything was restored, nothing is again.
        self.restoring &=
            other_config.get("flow-restore-wait").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let idle = other_config.get("bundle-idle-timeout").and_then(|text| text.parse().ok());
        self.conns.set_bundle_idle(idle.filter(|secs| *secs > 0).map(Duration::from_secs));
        for backer in self.backers.0.values() {
            backer.flows.configure(self.settings);
        }
        for datapath in self.backers.0.values().map(|backer| &backer.datapath) {
            if let Err(error) = datapath.configure(other_config) {
                tracing::warn!(target: "bridge", rl = "1,5", "{}: {error}", datapath.name());
            }
        }
        self.other_config.clone_from(other_config);
        if self.offloads() && !std::mem::replace(&mut self.told.1, true) {
            tracing::info!(target: "dpif_offload", "Flow HW offload is enabled");
        }
        self.track();
    }
}

/// Deletes ports that an earlier process left and that no bridge has now. The ports that tunnels share are not ours to judge.
fn delete_leftovers(datapath: &dyn Datapath, snapshot: &Snapshot) {
    let unwanted = datapath.take_leftovers().into_iter().filter(|port| {
        snapshot.port_of(port.number).is_none()
            && port.number != DpPort::LOCAL
            && !reconfigure::is_reserved(&port.name)
    });
    for port in unwanted {
        tracing::info!(target: "ofproto_dpif", "{}: removing stale port {}", datapath.name(), port.name);
        if let Err(error) = datapath.port_del(port.number) {
            tracing::warn!(
                target: "ofproto_dpif",
                "{}: failed to remove stale port {} ({error})", datapath.name(), port.name
            );
        }
    }
}

/// Where packets of tunnels leave.
struct Leaving<'a> {
    router: &'a Router,
    netdevs: &'a Netdevs,
}

impl Routes for Leaving<'_> {
    fn egress(&self, to: IpAddr, mark: u32) -> Option<Egress> {
        let interface = self.router.lookup(mark, to, None)?.device.to_string();
        let of_kernel = || Some(sys::link::Links::new().ok()?.state(&interface).ok()?.carrier);
        let carrier = match self.netdevs.find(&interface) {
            Some(device) => device.carrier(),
            None => of_kernel().unwrap_or(false),
        };
        Some(Egress { interface, carrier })
    }
}

/// What `other_config` says about datapath flows.
fn settings(other_config: &BTreeMap<String, String>) -> Settings {
    let number = |name: &str| other_config.get(name).and_then(|text| text.parse::<u64>().ok());
    let default = Settings::default();
    let flow_limit = number("flow-limit").and_then(|n| usize::try_from(n).ok());
    Settings {
        flow_limit: flow_limit.unwrap_or(default.flow_limit).max(1000),
        max_idle: number("max-idle").map_or(default.max_idle, |ms| Duration::from_millis(ms.max(500))),
        max_revalidator: number("max-revalidator")
            .map_or(default.max_revalidator, |ms| Duration::from_millis(ms.max(100))),
        min_pps: number("min-revalidate-pps").unwrap_or(default.min_pps),
        stats_delay: number("offloaded-stats-delay").map_or(default.stats_delay, Duration::from_millis),
        handlers: number("n-handler-threads").filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok()),
        revalidators: number("n-revalidator-threads")
            .filter(|n| *n > 0)
            .and_then(|n| usize::try_from(n).ok()),
    }
}

impl World {
    /// Locks; a panic elsewhere while the lock was held left the map whole.
    fn extra(&self) -> MutexGuard<'_, BTreeMap<(String, String), Arc<Engine>>> {
        self.extra.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Env for World {
    fn datapaths(&self) -> Vec<(String, String)> {
        let ours = self.engines.values().map(|dp| (dp.kind().to_owned(), dp.name().to_owned()));
        let has_kernel = self.is_kernel("system") && !self.disable_system;
        let kernels = if has_kernel { Kernel::enumerate().unwrap_or_default() } else { Vec::new() };
        let kernels = kernels.into_iter().map(|name| ("system".to_owned(), name));
        ours.chain(kernels).chain(self.extra().keys().cloned()).collect()
    }

    fn open(&self, kind: &str, name: &str) -> Result<Arc<dyn Datapath>, Error> {
        self.check_type(kind)?;
        if self.is_kernel(kind) {
            return match self.offloaded().filter(|ours| ours.name() == name) {
                Some(ours) => Ok(Arc::clone(ours) as Arc<dyn Datapath>),
                None => Ok(self.open_kernel(name, false, false)?),
            };
        }
        let ours = self.engines.get(kind).filter(|engine| engine.name() == name).cloned();
        if let Some(offloaded) = self.offloaded.get(kind).filter(|ours| ours.name() == name) {
            return Ok(Arc::clone(offloaded) as Arc<dyn Datapath>);
        }
        match ours.or_else(|| self.extra().get(&(kind.to_owned(), name.to_owned())).cloned()) {
            Some(engine) => Ok(engine),
            None => Err(Errno::ENODEV.into()),
        }
    }

    fn create(&self, kind: &str, name: &str) -> Result<Arc<dyn Datapath>, Error> {
        if self.open(kind, name).is_ok() {
            return Err(Errno::EEXIST.into());
        }
        if self.is_kernel(kind) {
            return Ok(self.open_kernel(name, true, false)?);
        }
        let engine = self.make(kind, name)?;
        self.extra().insert((kind.to_owned(), name.to_owned()), Arc::clone(&engine));
        Ok(engine)
    }

    fn delete(&self, kind: &str, name: &str) -> Result<(), Error> {
        if self.is_kernel(kind) {
            return self.open_kernel(name, false, false)?.destroy();
        }
        self.open(kind, name)?;
        match self.extra().remove(&(kind.to_owned(), name.to_owned())) {
            Some(_) => Ok(()),
            None => Err(Error::Unsupported("taking a datapath from under its bridges")),
        }
    }

    fn open_device(&self, name: &str, kind: &str) -> Result<Arc<dyn Netdev>, Error> {
        self.netdevs.open(name, kind)
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn limits_protected(&self, kind: &str, name: &str) -> bool {
        self.protected.contains(kind) && name == format!("ovs-{kind}")
    }
}
