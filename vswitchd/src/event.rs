//! The state of the program and its loop.
//!
//! Tasks move bytes; everything is decided here, in rounds: what the database said, then bridges, then datapaths. Between
//! rounds the loop waits for a command, a signal, a message of the database, a ring from a datapath, or the time at which
//! somebody wants to be called. A command sees datapaths that have nothing left to do, so that a packet injected by one
//! command was processed before the next.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use daemon::clock::SystemClock;
use daemon::program::{Body, End};
use daemon::session::{Event, Session};
use daemon::stream::Network;
use daemon::unixctl::{Host, Services};
use datapath::netdev::DummyLevel;
use datapath::user::control;
use flow::time::{Clock, Instant};
use ovsdb::idl::{Idl, Note};
use ovsdb::server::embedded::{self, Embedded};
use sys::process::Usage;
use tokio::sync::Notify;

use crate::backer::Note as Left;
use crate::bridge::{Bridges, Outside};
use crate::command;
use crate::drops::Drops;
use crate::world::World;
use crate::xlate::{Deferred, mac};

/// What the command line says.
#[derive(Default)]
pub struct Config {
    /// The database.
    pub remote: String,
    /// `--enable-dummy`.
    pub dummy: Option<DummyLevel>,
    /// `--disable-system`.
    pub disable_system: bool,
    /// `--disable-system-route`: the kernel's routes are not read.
    pub disable_system_route: bool,
    /// `--dummy-numa`: cores that workers believe in, with their NUMA nodes.
    pub dummy_numa: Option<Vec<(u32, u32)>>,
    /// `--no-self-confinement`: controllers may be at any Unix socket.
    pub unconfined: bool,
    /// `--embedded-db`.
    pub embedded_db: Option<PathBuf>,
}

/// Messages of the database that one round handles.
const DB_BUDGET: usize = 100;
/// A round that takes longer is told of.
const LONG_ROUND: Duration = Duration::from_millis(1000);
/// How often OpenFlow flows are looked at for time-outs.
const EXPIRY: Duration = Duration::from_millis(500);
/// Rounds in which datapaths may keep the loop from anything else.
const SETTLE_ROUNDS: usize = 1000;
/// How often the loop lets tasks run between two steps of a time warp.
const WARP_YIELDS: u32 = 8;

/// Wakes the loop.
#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// The state of the program.
pub struct Switch {
    /// What every daemon has.
    pub services: Services,
    /// The database.
    pub idl: Idl,
    db: Session,
    /// What the database configures.
    pub bridges: Bridges,
    /// What bridges stand on.
    pub world: World,
    clock: SystemClock,
    drops: Drops,
    announced: bool,
    expire_at: Instant,
}

impl Host for Switch {
    fn services(&mut self) -> &mut Services {
        &mut self.services
    }

    fn memory(&self) -> Vec<(String, u64)> {
        let mut usage = self.idl.memory();
        let mut add = |name: &str, n: usize| usage.push((name.to_owned(), n as u64));
        if self.bridges.iter().next().is_some() {
            add("ports", self.bridges.iter().map(|bridge| bridge.ifaces().count()).sum());
            add("rules", self.bridges.iter().map(|bridge| bridge.ofproto.n_rules()).sum());
            let (connections, messages) = self.world.conns.sizes();
            add("ofconns", connections);
            add("packets", messages);
        }
        if !self.world.backers.0.is_empty() {
            let backers = || self.world.backers.0.values();
            add("handlers", backers().map(|backer| backer.threads().0).sum());
            add("revalidators", backers().map(|backer| backer.threads().1).sum());
            add("udpif keys", backers().map(|backer| backer.flows.len()).sum());
        }
        usage
    }
}

impl Switch {
    fn new(mut services: Services, network: Network, config: &Config, bell: Waker) -> Self {
        let clock = services.clock.clone();
        let mut world =
            World::new(Arc::new(clock.clone()), config.dummy, config.disable_system, network.clone(), bell);
        world.believe_in(config.dummy_numa.clone());
        world.conns.confined = !config.unconfined;
        world.watch_network(!config.disable_system_route);
        world.counters = crate::reval::Counters::new(&mut services.coverage);
        let mut idl = Idl::new(ovsdb::vswitch::schema());
        Bridges::watch(&mut idl);
        idl.set_lock(Some("ovs_vswitchd"));
        let db = Session::new(network, &config.remote, clock.now());
        let mut bridges = Bridges::new(Arc::clone(&world.netdevs));
        bridges.learning = mac::Counters::new(&mut services.coverage);
        let drops = Drops::new(&mut services.coverage);
        Self { services, idl, db, bridges, world, clock, drops, announced: false, expire_at: Instant::ZERO }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Goes over everything once; when to do so again.
    fn round(&mut self) -> Instant {
        let (began, before) = (std::time::Instant::now(), sys::process::thread_usage());
        let now = self.clock.now();
        self.run_db(now);
        let network = if self.run_network() { now } else { Instant::NEVER };
        let conns = self.world.conns.run(&mut self.bridges, &self.world.backers, now);
        let bridges = self.bridges.run(&mut self.idl, &mut self.world, now);
        self.send_db();
        self.settle();
        let world = self.world.run(now);
        self.settle();
        let expiry = self.expire(now);
        // Flows that went, and flows that were learned, count from now on.
        let world = world.min(self.world.run(now));
        self.settle();
        self.world.conns.tell(&mut self.bridges, now);
        if now >= self.services.coverage.deadline() {
            self.drops.collect(&self.world.engines());
            self.services.coverage.run(now);
        }
        if began.elapsed() > LONG_ROUND {
            tell_long_round(began.elapsed(), &before);
        }
        let deadlines =
            [network, conns, bridges, world, expiry, self.db.deadline(), self.services.coverage.deadline()];
        deadlines.into_iter().min().unwrap_or(Instant::NEVER)
    }

    /// Takes over what the kernel announced of its network. Whether there is more.
    fn run_network(&mut self) -> bool {
        let more = self.world.network.run();
        let links = self.world.network.take_links();
        if !links.is_empty() {
            let engines = self.world.engines();
            links.iter().for_each(|link| control::link_changed(&engines, &link.name, link.index));
            self.bridges.links_changed(&links);
        }
        self.world.look_for_egress(!links.is_empty());
        more
    }

    /// Lets datapaths and what translation left behind be dealt with, until there is nothing left.
    pub fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS {
            let polled = self.world.poll();
            let notes = self.world.take_notes();
            if !polled && notes.is_empty() {
                return;
            }
            for note in notes {
                self.take_note(note);
            }
        }
    }

    fn take_note(&mut self, note: Left) {
        let now = self.now();
        match note {
            Left::Deferred(Deferred::Learn { bridge, request, limit, used }) => {
                let Some(bridge) = self.bridges.by_id_mut(bridge) else { return };
                if let Err(error) = bridge.ofproto.learn(&request, limit, used, now) {
                    let name = &bridge.name;
                    tracing::warn!(target: "ofproto_dpif", rl = "1,5", "{name}: learn failed: {error}");
                }
            }
            Left::Deferred(Deferred::FinTimeout { bridge, rule, idle, hard }) => {
                if let Some(bridge) = self.bridges.by_id_mut(bridge) {
                    bridge.ofproto.reduce_timeouts(&rule, idle, hard);
                }
            }
            Left::PacketIn(packet) => self.world.conns.packet_in(&mut self.bridges, &packet, now),
        }
    }

    /// Ends flows whose time has come, now and then; when to come again.
    fn expire(&mut self, now: Instant) -> Instant {
        if now >= self.expire_at {
            self.expire_at = now + EXPIRY;
            // What is being restored has not seen its packets yet.
            for bridge in self.bridges.iter_mut().filter(|_| !self.world.is_restoring()) {
                bridge.ofproto.expire(now);
            }
        }
        if self.bridges.iter().next().is_some() { self.expire_at } else { Instant::NEVER }
    }

    fn run_db(&mut self, now: Instant) {
        for event in self.db.run(now, DB_BUDGET) {
            match event {
                Event::Connected => self.idl.connected(),
                Event::Disconnected => self.idl.disconnected(),
                Event::Message(message) => self.idl.receive(&message),
            }
        }
        self.send_db();
    }

    fn send_db(&mut self) {
        while let Some(message) = self.idl.poll_output() {
            self.db.send_json(message);
        }
        while let Some(note) = self.idl.poll_note() {
            match note {
                Note::Warning(text) => tracing::warn!(target: "ovsdb_idl", rl = "1,5", "{text}"),
                Note::Info(text) => tracing::info!(target: "ovsdb_idl", rl = "1,5", "{text}"),
                Note::Debug(text) => tracing::debug!(target: "ovsdb_idl", "{text}"),
            }
        }
    }

    /// Whether the configuration was just found to be done, for the first time.
    fn is_newly_configured(&mut self) -> bool {
        let is_new = !self.announced && self.bridges.is_configured();
        self.announced |= is_new;
        is_new
    }

    /// Puts away what would otherwise stay behind.
    fn finish(&mut self) {
        let now = self.clock.now();
        let keep = !self.services.is_cleaning_up();
        self.bridges.destroy_all(keep, &mut self.world, now);
    }
}

fn tell_cores(dummy: Option<&[(u32, u32)]>) {
    let mut nodes: Vec<u32> = match dummy {
        Some(cores) => cores.iter().map(|&(_, node)| node).collect(),
        None => sys::cpu::cores().into_iter().map(sys::cpu::numa_of).collect(),
    };
    let n_cores = nodes.len();
    nodes.sort_unstable();
    for group in nodes.chunk_by(|a, b| a == b) {
        let (n, node) = (group.len(), group[0]);
        tracing::info!(target: "ovs_numa", "Discovered {n} CPU cores on NUMA node {node}");
    }
    nodes.dedup();
    let n_nodes = nodes.len();
    tracing::info!(target: "ovs_numa", "Discovered {n_nodes} NUMA nodes and {n_cores} CPU cores");
}

fn tell_long_round(took: Duration, before: &Usage) {
    let after = sys::process::thread_usage();
    let (ms, user, system) =
        (took.as_millis(), after.user_ms - before.user_ms, after.system_ms - before.system_ms);
    tracing::warn!(
        target: "timeval", rl = "1,5",
        "Unreasonably long {ms}ms poll interval ({user}ms user, {system}ms system)"
    );
}

/// Runs the switch until it is told to end.
pub async fn run<T>(mut body: Body<T>, config: Config) -> (End, Services) {
    tell_cores(config.dummy_numa.as_deref());
    let bell = Arc::new(Bell::default());
    let clock = body.services.clock.clone();
    let _database = match serve_database(&body, &config) {
        Ok(server) => server,
        Err(text) => {
            eprintln!("{}: {text}", body.started.name);
            return (End::Failed, body.services);
        }
    };
    let mut switch = Switch::new(body.services, body.network, &config, Waker::from(Arc::clone(&bell)));
    let commands = command::commands(config.dummy.is_some());
    loop {
        let deadline = switch.round();
        if switch.is_newly_configured() {
            body.started.complete();
            tracing::info!(target: "bridge", "{}", daemon::options::version_line(body.started.name));
        }
        if switch.services.is_exiting() {
            switch.finish();
            return (End::Exit, switch.services);
        }
        // However soon the next round is due, tasks have their turn.
        tokio::task::yield_now().await;
        let is_warping = switch.services.warp.is_some();
        tokio::select! {
            biased;
            signal = body.signals.recv() => return (End::Signal(signal), switch.services),
            Some(request) = body.requests.recv() => {
                switch.settle();
                if request.method.starts_with("coverage/") {
                    switch.drops.collect(&switch.world.engines());
                }
                commands.dispatch(&mut switch, &request);
            }
            () = switch.db.next() => {}
            () = switch.world.conns.ready() => {}
            () = bell.0.notified() => {}
            () = clock.sleep_until(deadline) => {}
            () = after_others(), if is_warping => {
                switch.services.step_warp();
            }
        }
    }
}

/// With `--embedded-db`, the database server beside the switch: it listens where `ovsdb-server` would.
fn serve_database<T>(body: &Body<T>, config: &Config) -> Result<Option<Embedded>, String> {
    let Some(file) = &config.embedded_db else { return Ok(None) };
    let socket = body.started.dirs.in_run("db.sock");
    let settings = embedded::Settings {
        file: file.clone(),
        remotes: vec![
            format!("punix:{}", socket.display()),
            "db:Open_vSwitch,Open_vSwitch,manager_options".to_owned(),
        ],
        network: body.network.clone(),
        clock: body.services.clock.clone(),
    };
    embedded::start(settings).map(Some).map_err(|error| error.to_string())
}

/// Completes when other tasks have had their turns.
fn after_others() -> impl Future<Output = ()> {
    let mut left = WARP_YIELDS;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}
