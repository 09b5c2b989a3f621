//! The userspace datapath as a [`Datapath`]: ports, workers, and flows on all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use flow::id::{DpMeter, DpPort};
use flow::time::Clock;
use sys::cpu;
use sys::errno::Errno;

use super::log;
use super::node::meter::{MAX_BANDS, MAX_METERS, Meter};
use super::pmd::{Pmd, Queue};
use super::ports::{MAX_PORTS, Port, PortMap};
use super::worker::{Bond, Cell, Shared, Stats, Worker};
use crate::conntrack::sweep::Cleaner;
use crate::conntrack::{Conntrack, Tracker};
use crate::flow::{Dump, Execute, Flow, FlowDel, FlowGet, FlowPut, FlowStats};
use crate::netdev::{Flags, Netdev, Netdevs};
use crate::upcall::Handler;
use crate::{
    Datapath, DpStats, Error, Features, MeterConfig, MeterFeatures, MeterStats, PmdId, PortChanges, PortInfo,
};

/// Rounds over the main thread's ports in one [`Datapath::run`].
const MAX_ROUNDS: usize = 1024;
/// Names of changed ports kept; beyond them everything is said to have changed.
const MAX_CHANGES: usize = 1024;

/// What an engine is made of.
pub struct Setup {
    /// `ovs-netdev`.
    pub name: String,
    /// `netdev`, `dummy`, or the type that a dummy takes the place of.
    pub kind: String,
    /// Ports are numbered for tests, and internal ports are dummies.
    pub dummy: bool,
    pub clock: Arc<dyn Clock>,
    /// For `sample`.
    pub seed: u64,
    /// Cores that workers may use, with their NUMA node; `None` for those of the process.
    pub cores: Option<Vec<(u32, u32)>>,
}

/// The userspace datapath.
pub struct Engine {
    shared: Arc<Shared>,
    kind: String,
    dummy: bool,
    features: Features,
    seed: u64,
    cores: Vec<(u32, u32)>,
    main: Arc<Cell>,
    state: Mutex<State>,
    waker: Mutex<Option<Waker>>,
    seq: AtomicU64,
    /// Sweeps the tracker as long as the engine lives.
    _cleaner: Cleaner,
}

/// What changes only under the lock.
#[derive(Default)]
struct State {
    pmds: Vec<Arc<Pmd>>,
    /// Cores that workers shall use; empty for one a NUMA node.
    mask: Vec<u32>,
    /// Cores to which queues are bound, by port.
    affinity: HashMap<DpPort, BTreeMap<usize, u32>>,
    cycles: HashMap<(DpPort, usize), Arc<AtomicU64>>,
    changed: Vec<String>,
    all_changed: bool,
    vlan_limit: Option<u8>,
    cache_inserts: bool,
}

/// What the userspace datapath can do.
pub fn features() -> Features {
    Features {
        masked_set_action: true,
        tnl_push_pop: true,
        ufid: true,
        trunc: true,
        clone: true,
        sample_nesting: 10,
        ct_eventmask: true,
        ct_clear: true,
        max_hash_alg: 1,
        check_pkt_len: true,
        ct_timeout: true,
        explicit_drop_action: true,
        lb_output_action: true,
        ct_zero_snat: true,
        add_mpls: true,
        psample: false,
        max_vlan_headers: flow::key::MAX_VLANS,
        max_mpls_depth: flow::key::MAX_MPLS,
        recirc: true,
        ct_state: true,
        ct_zone: true,
        ct_mark: true,
        ct_label: true,
        ct_state_nat: true,
        ct_orig_tuple: true,
        ct_orig_tuple6: true,
        nd_ext: true,
        conntrack: true,
        meters: true,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Makes the datapath with its own port, number 0.
    ///
    /// # Errors
    /// Why the port's device cannot be made.
    pub fn new(setup: Setup, devices: &Netdevs) -> Result<Self, Error> {
        let tracker = Arc::new(Tracker::new(Arc::clone(&setup.clock), setup.seed));
        let cleaner = Cleaner::start(&tracker)?;
        let shared = Arc::new(Shared::new(setup.name, setup.clock, tracker));
        let cores = setup
            .cores
            .unwrap_or_else(|| cpu::cores().into_iter().map(|core| (core, cpu::numa_of(core))).collect());
        let main = Arc::new(Cell::new(Worker::new(PmdId::MAIN, &shared, 0, setup.seed)));
        let engine = Self {
            shared,
            kind: setup.kind,
            dummy: setup.dummy,
            features: features(),
            seed: setup.seed,
            cores,
            main,
            state: Mutex::new(State { cache_inserts: true, ..State::default() }),
            waker: Mutex::new(None),
            seq: AtomicU64::new(1),
            _cleaner: cleaner,
        };
        let own = devices.open(&engine.shared.name, engine.port_open_type("internal"))?;
        engine.port_add(&own, Some(DpPort::LOCAL))?;
        Ok(engine)
    }

    /// The workers: the main thread's, then those with threads by core.
    pub fn cells(&self) -> Vec<Arc<Cell>> {
        let pmds = lock(&self.state);
        std::iter::once(Arc::clone(&self.main))
            .chain(pmds.pmds.iter().map(|pmd| Arc::clone(&pmd.cell)))
            .collect()
    }

    /// The worker threads by core.
    pub fn pmds(&self) -> Vec<Arc<Pmd>> {
        lock(&self.state).pmds.clone()
    }

    /// The tracker of connections.
    pub fn tracker(&self) -> &Arc<Tracker> {
        &self.shared.tracker
    }

    /// The worker of that name.
    pub fn cell(&self, pmd: PmdId) -> Option<Arc<Cell>> {
        self.cells().into_iter().find(|cell| cell.id == pmd)
    }

    /// The pseudo-worker of the main thread.
    pub fn main_cell(&self) -> &Arc<Cell> {
        &self.main
    }

    /// The port table as it is now.
    pub fn port_map(&self) -> Arc<PortMap> {
        self.shared.ports.load_full()
    }

    /// Counters of all workers together.
    pub fn worker_stats(&self) -> Stats {
        let mut total = Stats::default();
        for cell in self.cells() {
            if let Ok(stats) = cell.call(|worker| worker.stats.clone()) {
                total.add(&stats);
            }
        }
        total
    }

    /// Whether queues are bound to a core, which then has no others.
    pub fn is_isolated(&self, core: u32) -> bool {
        lock(&self.state).affinity.values().any(|queues| queues.values().any(|bound| *bound == core))
    }

    /// Distributes the queues over the workers anew (`dpif-netdev/pmd-rxq-rebalance`).
    pub fn rebalance(&self) {
        self.reconfigure(&mut lock(&self.state));
    }

    /// How messages of the `dpif` module name this datapath.
    fn log_name(&self) -> String {
        format!("{}@{}", self.kind, self.shared.name)
    }

    fn cells_of(&self, pmd: PmdId) -> Vec<Arc<Cell>> {
        let cells = self.cells();
        match pmd {
            PmdId::NONE => cells,
            pmd => cells.into_iter().filter(|cell| cell.id == pmd).collect(),
        }
    }

    fn choose_number(&self, ports: &PortMap, name: &str) -> Option<DpPort> {
        let free = |number: &u32| ports.get(DpPort(*number)).is_none();
        if self.dummy {
            let base = if name.starts_with("br") { 100 } else { 0 };
            let digits: String =
                name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            let wanted = digits.parse::<u32>().ok().and_then(|number| number.checked_add(base));
            if let Some(number) = wanted.filter(|number| (1..MAX_PORTS).contains(number) && free(number)) {
                return Some(DpPort(number));
            }
        }
        (1..MAX_PORTS).find(free).map(DpPort)
    }

    fn changed(&self, state: &mut State, name: &str) {
        if state.changed.len() < MAX_CHANGES {
            state.changed.push(name.to_owned());
        } else {
            state.all_changed = true;
        }
        self.seq.fetch_add(1, Ordering::Relaxed);
    }

    /// The cores that shall have workers, for the ports that there are.
    fn wanted_cores(&self, state: &State) -> Vec<(u32, u32)> {
        if !self.shared.ports.load().iter().any(|port| port.io.is_pmd()) {
            return Vec::new();
        }
        if state.mask.is_empty() {
            let mut seen = Vec::new();
            let first = |&&(_, numa): &&(u32, u32)| {
                let new = !seen.contains(&numa);
                seen.push(numa);
                new
            };
            return self.cores.iter().filter(first).copied().collect();
        }
        self.cores.iter().filter(|(core, _)| state.mask.contains(core)).copied().collect()
    }

    /// Starts and stops workers and distributes the queues.
    fn reconfigure(&self, state: &mut State) {
        let wanted = self.wanted_cores(state);
        let (kept, gone): (Vec<_>, Vec<_>) =
            state.pmds.drain(..).partition(|pmd| wanted.iter().any(|(core, _)| *core == pmd.core));
        state.pmds = kept;
        let mut changed = !gone.is_empty();
        for pmd in gone {
            self.end(&pmd);
        }
        for (n, &(core, numa)) in wanted.iter().enumerate() {
            if state.pmds.iter().all(|pmd| pmd.core != core) {
                let seed = self.seed.wrapping_add(u64::from(core) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mut worker = Worker::new(PmdId(core), &self.shared, n + 1, seed);
                worker.vlan_limit = state.vlan_limit.unwrap_or(flow::key::MAX_VLANS as u8);
                worker.cache_inserts = state.cache_inserts;
                match Pmd::start(worker, core, numa) {
                    Ok(pmd) => {
                        tracing::info!(target: "dpif_netdev", "PMD thread on numa_id: {numa}, core id: {core:2} created.");
                        state.pmds.push(pmd);
                        changed = true;
                    }
                    Err(error) => tracing::error!(target: "dpif_netdev", "core {core}: no worker ({error})"),
                }
            }
        }
        state.pmds.sort_by_key(|pmd| pmd.core);
        if changed {
            tell_threads(&state.pmds);
        }
        self.distribute(state);
    }

    fn end(&self, pmd: &Pmd) {
        pmd.stop();
        tracing::info!(target: "dpif_netdev", "PMD thread on numa_id: {}, core id: {:2} destroyed.", pmd.numa, pmd.core);
        if let Some(handler) = self.shared.handler.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            handler.purged(pmd.id());
        }
    }

    /// Gives each queue to a worker: where it is bound to, else to those of its NUMA node in turn, there and back.
    fn distribute(&self, state: &mut State) {
        let mut lists: Vec<Vec<Queue>> = vec![Vec::new(); state.pmds.len()];
        let mut turns: HashMap<u32, usize> = HashMap::new();
        let ports = self.shared.ports.load_full();
        for port in ports.iter().filter(|port| port.io.is_pmd()) {
            for queue in 0..port.io.rx_queues() {
                let bound = state.affinity.get(&port.number).and_then(|queues| queues.get(&queue).copied());
                let numa = port.io.numa();
                let isolated =
                    |core: u32| state.affinity.values().any(|of| of.values().any(|bound| *bound == core));
                let of = |wanted: &dyn Fn(&Pmd) -> bool| -> Vec<usize> {
                    (0..state.pmds.len()).filter(|&n| wanted(&state.pmds[n])).collect()
                };
                let near = match bound {
                    Some(core) => of(&|pmd| pmd.core == core),
                    None => of(&|pmd| pmd.numa == numa && !isolated(pmd.core)),
                };
                let near = if near.is_empty() { of(&|pmd| !isolated(pmd.core)) } else { near };
                let turn = turns.entry(numa).or_default();
                let Some(n) = there_and_back(&near, *turn) else { continue };
                *turn += 1;
                let cycles = Arc::clone(state.cycles.entry((port.number, queue)).or_default());
                lists[n].push(Queue { port: Arc::clone(port), queue, cycles });
            }
        }
        for (pmd, list) in state.pmds.iter().zip(lists) {
            pmd.assign(list);
        }
    }

    /// Applies something to every worker.
    /// The kernel has news of a link: its number, or none if it vanished. A port stays when its device vanishes, and goes on
    /// with the one that has its name next. Either way it is told of as changed.
    ///
    /// # Errors
    /// If the new device cannot be opened; the port stays without.
    pub fn link_changed(&self, name: &str, index: Option<u32>) -> Result<(), Error> {
        let mut state = lock(&self.state);
        let ports = self.shared.ports.load_full();
        let Some(port) = ports.find(name).filter(|port| port.device.kind() == "system") else {
            return Ok(());
        };
        if index.is_some() && index == port.ifindex {
            return Ok(());
        }
        self.changed(&mut state, name);
        if index.is_some() {
            let port = port.reopened()?;
            self.shared.ports.store(Arc::new(ports.with(Arc::new(port))));
            self.reconfigure(&mut state);
            drop(state);
            self.each(Worker::refresh);
        }
        Ok(())
    }

    fn each(&self, what: impl Fn(&mut Worker) + Clone + Send + 'static) {
        for cell in self.cells() {
            let what = what.clone();
            // A worker whose queue is full is asked again with the next change.
            let _ = cell.call(move |worker| what(worker));
        }
    }
}

/// Says how many workers each NUMA node has.
fn tell_threads(pmds: &[Arc<Pmd>]) {
    let mut nodes: Vec<u32> = pmds.iter().map(|pmd| pmd.numa).collect();
    nodes.sort_unstable();
    for group in nodes.chunk_by(|a, b| a == b) {
        let (n, node) = (group.len(), group[0]);
        tracing::info!(target: "dpif_netdev", "There are {n} pmd threads on numa node {node}");
    }
}

/// The `turn`-th of `of`, going up, then down, and so on.
fn there_and_back(of: &[usize], turn: usize) -> Option<usize> {
    let (round, at) = (turn.checked_div(of.len())?, turn % of.len());
    Some(if round.is_multiple_of(2) { of[at] } else { of[of.len() - 1 - at] })
}

impl Drop for Engine {
    fn drop(&mut self) {
        for pmd in lock(&self.state).pmds.drain(..) {
            pmd.stop();
        }
    }
}

/// The cores of a `pmd-cpu-mask`, lowest bit first.
fn cores_of_mask(mask: &str) -> Vec<u32> {
    let digits = mask.strip_prefix("0x").or_else(|| mask.strip_prefix("0X")).unwrap_or(mask);
    let nibbles = digits.chars().rev().map(|digit| digit.to_digit(16).unwrap_or(0));
    nibbles
        .enumerate()
        .flat_map(|(n, bits)| {
            (0..4).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| n as u32 * 4 + bit)
        })
        .collect()
}

impl Datapath for Engine {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn kind(&self) -> &str {
        &self.kind
    }

    fn version(&self) -> String {
        "<built-in>".to_owned()
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn as_engine(&self) -> Option<&Engine> {
        Some(self)
    }

    fn stats(&self) -> DpStats {
        let stats = self.worker_stats();
        DpStats {
            hits: stats.cache_hits + stats.masked_hits,
            misses: stats.missed + stats.lost,
            lost: stats.lost,
            flows: self.cells().iter().map(|cell| cell.flows.len() as u64).sum(),
            // As in the peer, what workers count of masks and caches is told by commands of their own.
            mask_hits: None,
            masks: None,
            cache_hits: None,
        }
    }

    fn run(&self) -> bool {
        let ports = self.shared.ports.load_full();
        let queues: Vec<Queue> = ports
            .iter()
            .filter(|port| !port.io.is_pmd())
            .flat_map(|port| {
                let queue = |queue| Queue { port: Arc::clone(port), queue, cycles: Arc::default() };
                (0..port.io.rx_queues()).map(queue)
            })
            .collect();
        let polled = self.main.with(|worker| {
            let round = |_: &usize| super::pmd::poll(worker, &queues) > 0;
            (0..MAX_ROUNDS).take_while(round).count() == MAX_ROUNDS
        });
        polled.unwrap_or(false)
    }

    fn wake_by(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
        for port in self.shared.ports.load().iter().filter(|port| !port.io.is_pmd()) {
            port.io.wake_by(waker);
        }
    }

    fn set_handler(&self, handler: Option<Arc<dyn Handler>>) {
        *self.shared.handler.write().unwrap_or_else(PoisonError::into_inner) = handler;
    }

    fn configure(&self, config: &BTreeMap<String, String>) -> Result<(), Error> {
        let limit = config.get("vlan-limit").and_then(|text| text.parse().ok()).unwrap_or(1u64);
        let all = flow::key::MAX_VLANS as u8;
        let vlan_limit = if limit == 0 { all } else { u8::try_from(limit).unwrap_or(all).min(all) };
        let cache_inserts = config.get("emc-insert-inv-prob").is_none_or(|text| text != "0");
        {
            let mut state = lock(&self.state);
            let mask = config.get("pmd-cpu-mask").map(|mask| cores_of_mask(mask)).unwrap_or_default();
            let changed = state.mask != mask;
            state.mask = mask;
            state.vlan_limit = Some(vlan_limit);
            state.cache_inserts = cache_inserts;
            if changed {
                self.reconfigure(&mut state);
            }
        }
        self.each(move |worker| {
            worker.vlan_limit = vlan_limit;
            worker.cache_inserts = cache_inserts;
        });
        Ok(())
    }

    fn port_open_type<'a>(&self, kind: &'a str) -> &'a str {
        match kind {
            "internal" if self.dummy => "dummy-internal",
            "internal" => "tap",
            _ => kind,
        }
    }

    fn port_add(&self, device: &Arc<dyn Netdev>, requested: Option<DpPort>) -> Result<DpPort, Error> {
        let own = device.port_device();
        let device = own.as_ref().unwrap_or(device);
        let mut state = lock(&self.state);
        let ports = self.shared.ports.load_full();
        if ports.find(device.name()).is_some() {
            return Err(Errno::EEXIST.into());
        }
        let number = match requested {
            Some(number) if number.0 >= MAX_PORTS || ports.get(number).is_some() => {
                return Err(Errno::EBUSY.into());
            }
            Some(number) => number,
            None => self.choose_number(&ports, device.name()).ok_or(Errno::EFBIG)?,
        };
        let io = device.io()?;
        let old_flags = device.flags()?;
        device.update_flags(Flags::empty(), Flags::PROMISC)?;
        if let Some(waker) = lock(&self.waker).as_ref().filter(|_| !io.is_pmd()) {
            io.wake_by(waker);
        }
        let port = Arc::new(Port::new(number, device, io, old_flags));
        self.shared.ports.store(Arc::new(ports.with(port)));
        self.changed(&mut state, device.name());
        self.reconfigure(&mut state);
        Ok(number)
    }

    fn port_del(&self, port: DpPort) -> Result<(), Error> {
        {
            let mut state = lock(&self.state);
            let ports = self.shared.ports.load_full();
            let name = ports.get(port).ok_or(Errno::ENODEV)?.device.name().to_owned();
            self.shared.ports.store(Arc::new(ports.without(port)));
            state.cycles.retain(|(number, _), _| *number != port);
            state.affinity.remove(&port);
            self.changed(&mut state, &name);
            self.reconfigure(&mut state);
        }
        // Workers let go of the old table, and with it of the device.
        self.each(move |worker| {
            worker.refresh();
            worker.flows.clear(Some(port.0));
        });
        Ok(())
    }

    fn port_configure(&self, port: DpPort, config: &BTreeMap<String, String>) -> Result<(), Error> {
        let affinity: BTreeMap<usize, u32> = config
            .get("pmd-rxq-affinity")
            .into_iter()
            .flat_map(|text| text.split(','))
            .filter_map(|pair| {
                let (queue, core) = pair.trim().split_once(':')?;
                Some((queue.parse().ok()?, core.parse().ok()?))
            })
            .collect();
        if let Some(port) = self.shared.ports.load().get(port) {
            let hash = config.get("tx-steering").is_some_and(|mode| mode == "hash");
            port.steer_by_hash.store(hash, Ordering::Relaxed);
        }
        let mut state = lock(&self.state);
        let old = state.affinity.get(&port).cloned().unwrap_or_default();
        if old != affinity {
            state.affinity.insert(port, affinity);
            self.reconfigure(&mut state);
        }
        Ok(())
    }

    fn port_by_number(&self, port: DpPort) -> Result<PortInfo, Error> {
        Ok(self.shared.ports.load().get(port).ok_or(Errno::ENODEV)?.info())
    }

    fn port_by_name(&self, name: &str) -> Result<PortInfo, Error> {
        Ok(self.shared.ports.load().find(name).ok_or(Errno::ENODEV)?.info())
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.shared.ports.load().iter().map(|port| port.info()).collect()
    }

    fn port_device(&self, port: DpPort) -> Result<Arc<dyn Netdev>, Error> {
        Ok(Arc::clone(&self.shared.ports.load().get(port).ok_or(Errno::ENODEV)?.device))
    }

    fn port_changes(&self) -> PortChanges {
        let mut state = lock(&self.state);
        let names = std::mem::take(&mut state.changed);
        match (std::mem::take(&mut state.all_changed), names.is_empty()) {
            (true, _) => PortChanges::All,
            (false, true) => PortChanges::None,
            (false, false) => PortChanges::Devices(names),
        }
    }

    fn flow_put(&self, put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error> {
        let result = super::table::put(&self.cells_of(put.pmd), put);
        log::put(&self.log_name(), put, &result);
        result
    }

    fn flow_del(&self, del: &FlowDel<'_>) -> Result<FlowStats, Error> {
        let result = super::table::del(&self.cells_of(del.pmd), del);
        log::del(&self.log_name(), del, &result, self.shared.clock.now());
        result
    }

    fn flow_get(&self, get: &FlowGet<'_>) -> Result<Flow, Error> {
        super::table::get(&self.cells_of(get.pmd), get)
    }

    fn flow_dump(&self, terse: bool) -> Box<dyn Dump> {
        Box::new(super::table::Walk::new(&self.cells(), terse, &self.shared.clock, self.log_name()))
    }

    fn flow_flush(&self) -> Result<(), Error> {
        self.each(|worker| worker.flows.clear(None));
        Ok(())
    }

    fn execute(&self, execute: &Execute<'_>) -> Result<(), Error> {
        let result = super::table::execute(&self.main, execute);
        log::execute(&self.log_name(), execute, &result);
        result
    }

    fn conntrack(&self) -> Option<&dyn Conntrack> {
        Some(&*self.shared.tracker)
    }

    fn meter_features(&self) -> MeterFeatures {
        MeterFeatures { max_meters: MAX_METERS, max_bands: MAX_BANDS as u8 }
    }

    fn meter_set(&self, meter: DpMeter, config: &MeterConfig) -> Result<(), Error> {
        if meter.0 >= MAX_METERS {
            return Err(Errno::EFBIG.into());
        }
        if config.bands.len() > MAX_BANDS {
            return Err(Errno::EINVAL.into());
        }
        let new = Arc::new(Mutex::new(Meter::new(config.clone(), self.shared.clock.now())));
        self.shared.meters.rcu(|meters| {
            let mut meters = BTreeMap::clone(meters);
            meters.insert(meter.0, Arc::clone(&new));
            meters
        });
        Ok(())
    }

    fn meter_get(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        let meters = self.shared.meters.load();
        Ok(lock(meters.get(&meter.0).ok_or(Errno::ENOENT)?).stats())
    }

    fn meter_del(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        let stats = self.meter_get(meter)?;
        self.shared.meters.rcu(|meters| {
            let mut meters = BTreeMap::clone(meters);
            meters.remove(&meter.0);
            meters
        });
        Ok(stats)
    }

    fn bond_set(&self, bond: u32, members: &[DpPort; 256]) -> Result<(), Error> {
        let new = Arc::new(Bond { members: *members, bytes: std::array::from_fn(|_| AtomicU64::new(0)) });
        self.shared.bonds.rcu(|bonds| {
            let mut bonds = BTreeMap::clone(bonds);
            bonds.insert(bond, Arc::clone(&new));
            bonds
        });
        Ok(())
    }

    fn bond_del(&self, bond: u32) -> Result<(), Error> {
        self.shared.bonds.rcu(|bonds| {
            let mut bonds = BTreeMap::clone(bonds);
            bonds.remove(&bond);
            bonds
        });
        Ok(())
    }

    fn bond_bytes(&self, bond: u32) -> Result<[u64; 256], Error> {
        let bonds = self.shared.bonds.load();
        let bond = bonds.get(&bond).ok_or(Errno::ENOENT)?;
        Ok(std::array::from_fn(|n| bond.bytes[n].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_turns() {
        assert_eq!(cores_of_mask("0x13"), [0, 1, 4]);
        assert_eq!(cores_of_mask("f0"), [4, 5, 6, 7]);
        let turns: Vec<_> = (0..6).map(|turn| there_and_back(&[3, 5], turn).unwrap()).collect();
        assert_eq!(turns, [3, 5, 5, 3, 3, 5]);
        assert_eq!(there_and_back(&[], 0), None);
    }
}
