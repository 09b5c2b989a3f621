//! A server on real sockets and files: what `ovsdb-server` runs, and `ovs-vswitchd --embedded-db` beside the switch.
//!
//! One task owns it. It waits for [`Host::next`], passes what came to [`Host::handle`], calls [`Host::run`] when
//! [`Host::deadline`] has come, and [`Host::flush`] before it waits.

mod service;

pub use service::Settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::clock::SystemClock;
use daemon::stream::{Listener, Network};
use daemon::unixctl::{Reply, Responder};
use flow::time::{Clock, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::config::DbConfig;
use super::connection::{self, EVENT_LIMIT, Event, Limits, Opened, Outbox, Shared};
use super::dbio::{DbIo, Report, Written};
use super::remotes::{self, ColumnName, Options, Status};
use super::{Message, Output, Server, SessionId, SessionInfo, WriteJob};
use crate::error::Error;
use crate::storage::Columns;

/// How often the rows of managers are brought up to date, and failed listeners tried again.
const STATUS_INTERVAL: Duration = Duration::from_millis(2500);
/// How long a database that has grown is left alone between compactions.
const COMPACT_INTERVAL: Duration = Duration::from_secs(600);
/// How long a database is left alone that has not grown much, but has changed by [`COMPACT_COMMITS`].
const COMPACT_IDLE_INTERVAL: Duration = Duration::from_secs(86_400);
/// Commits that make a compaction worth while however small they are.
const COMPACT_COMMITS: u64 = 100;
/// The probe interval where nothing is said and the peer may vanish silently.
const DEFAULT_PROBE: Duration = Duration::from_secs(5);

/// News that comes in quick succession is gathered for so long: a system call for each piece and client would cost more
/// than all the rest.
const GATHER: Duration = Duration::from_millis(2);
/// News is gathered once so many pieces have come within [`GATHER`] of each other: a single change goes out at once.
const QUICK: u32 = 3;
/// Pieces of news that are gathered at most.
const GATHERED: usize = 4096;

/// News that waits a moment for more.
#[derive(Debug, Default)]
struct News {
    waiting: BTreeMap<SessionId, Vec<Message>>,
    /// How many pieces wait.
    n: usize,
    /// When news went out last.
    released: Instant,
    /// How often it did in quick succession.
    quick: u32,
}

impl News {
    fn push(&mut self, session: SessionId, message: Message) {
        self.waiting.entry(session).or_default().push(message);
        self.n += 1;
    }

    fn take(&mut self, session: SessionId) -> Vec<Message> {
        let messages = self.waiting.remove(&session).unwrap_or_default();
        self.n -= messages.len();
        messages
    }

    /// When it is to go out.
    fn deadline(&self) -> Instant {
        match self.n {
            0 => Instant::NEVER,
            1..GATHERED if self.quick >= QUICK => self.released + GATHER,
            _ => Instant::ZERO,
        }
    }

    /// All of it, at `now`.
    fn release(&mut self, now: Instant) -> BTreeMap<SessionId, Vec<Message>> {
        self.quick = if now.since(self.released) <= 2 * GATHER { self.quick.saturating_add(1) } else { 0 };
        self.released = now;
        self.n = 0;
        std::mem::take(&mut self.waiting)
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum Happening {
    /// On a socket.
    Network(Event),
    /// On a disk.
    Disk(Report),
}

/// A connected session.
#[derive(Debug)]
struct Connection {
    outbox: Outbox,
    /// Something was put in the outbox since that was last written.
    is_fresh: bool,
    remote: String,
    since: Instant,
}

/// A remote at work.
#[derive(Debug)]
struct Remote {
    options: Options,
    /// Accepts or connects; nothing while it could not listen.
    task: Option<JoinHandle<()>>,
    passive: bool,
    bound_port: Option<u16>,
    last_error: Option<String>,
    disconnected: Option<Instant>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A database that is served.
#[derive(Debug)]
struct Served {
    /// As configured: the name of its file, or of the database for a relay.
    name: String,
    /// Its file, in full.
    path: Option<PathBuf>,
    config: DbConfig,
    compacted: Instant,
    /// The last commit before that.
    compacted_at: u64,
    error: Option<String>,
}

/// The server with its sockets and files.
pub struct Host {
    /// The server proper.
    pub server: Server,
    io: DbIo,
    network: Network,
    clock: SystemClock,
    shared: Shared,
    inbox: mpsc::Receiver<Event>,
    disk: mpsc::UnboundedReceiver<Report>,
    configured: BTreeMap<String, Options>,
    remotes: BTreeMap<String, Remote>,
    connections: BTreeMap<SessionId, Connection>,
    /// Whose outboxes are to be written.
    fresh: Vec<SessionId>,
    /// Commits that are to be written together.
    jobs: Vec<WriteJob>,
    news: News,
    n_unix: u64,
    served: BTreeMap<Arc<str>, Served>,
    sources: BTreeMap<Arc<str>, service::Source>,
    n_sources: u64,
    settings: Settings,
    /// Databases that are being compacted, and who waits for it.
    compacting: BTreeMap<Arc<str>, Vec<Responder>>,
    /// Whether a compaction is followed by giving free memory back.
    pub trims_memory: bool,
    generation: u64,
    next_status: Instant,
}

impl Host {
    /// A server without databases and remotes. Within a runtime.
    ///
    /// # Errors
    /// If the thread `db-io` cannot be started.
    pub fn new(network: Network, clock: SystemClock) -> std::io::Result<Self> {
        let (events, inbox) = mpsc::channel(EVENT_LIMIT);
        // Unbounded, but never longer than what waits for the disk, which is bounded.
        let (report, disk) = mpsc::unbounded_channel();
        let io = DbIo::start(Arc::new(clock.clone()), move |news| {
            // The owner may have ended first.
            let _ = report.send(news);
        })?;
        Ok(Self {
            server: Server::new(),
            io,
            network,
            next_status: clock.now(),
            shared: Shared {
                events,
                clock: clock.clone(),
                limits: Limits::default(),
                unfinished: Arc::default(),
            },
            clock,
            inbox,
            disk,
            configured: BTreeMap::new(),
            remotes: BTreeMap::new(),
            connections: BTreeMap::new(),
            fresh: Vec::new(),
            jobs: Vec::new(),
            news: News::default(),
            n_unix: 0,
            served: BTreeMap::new(),
            sources: BTreeMap::new(),
            n_sources: 0,
            settings: Settings::default(),
            compacting: BTreeMap::new(),
            trims_memory: false,
            generation: u64::MAX,
        })
    }

    /// What connections that are yet to come may take.
    pub fn set_limits(&mut self, limits: Limits) {
        self.shared.limits = limits;
    }

    /// How changes are written to files from now on.
    pub fn write_columns(&self, columns: Columns) {
        self.io.write_columns(columns);
    }

    /// Waits until something happens.
    pub async fn next(&mut self) -> Happening {
        tokio::select! {
            Some(event) = self.inbox.recv() => Happening::Network(event),
            Some(report) = self.disk.recv() => Happening::Disk(report),
        }
    }

    /// Takes in what happened, and what has happened since: much that is done together is written together.
    pub fn handle(&mut self, happening: Happening) {
        self.handle_one(happening);
        for _ in 0..EVENT_LIMIT {
            if let Ok(report) = self.disk.try_recv() {
                self.handle_one(Happening::Disk(report));
            }
            let Ok(event) = self.inbox.try_recv() else { return };
            self.handle_one(Happening::Network(event));
        }
    }

    fn handle_one(&mut self, happening: Happening) {
        let now = self.clock.now();
        match happening {
            Happening::Network(Event::Connected(opened)) => self.connected(opened),
            Happening::Network(Event::Unreachable { remote, error }) => {
                if let Some(remote) = self.remotes.get_mut(&remote) {
                    remote.last_error = Some(error);
                }
            }
            Happening::Network(Event::Messages(session, messages)) => {
                for message in messages.roots().filter(|message| !connection::answers_probe(*message)) {
                    match self.follower(session) {
                        Some(_) => self.source_message(session, &message.to_value(), now),
                        None => self.server.receive_node(session, message, now),
                    }
                }
            }
            Happening::Network(Event::Ended(session, reason)) => self.ended(session, &reason),
            Happening::Disk(Report::Written(written)) => self.written(written, now),
            Happening::Disk(Report::Compacted(db, outcome)) => self.compacted(&db, &outcome),
        }
    }

    fn connected(&mut self, opened: Opened) {
        if opened.follower.is_some() {
            return self.source_connected(opened);
        }
        let now = self.clock.now();
        let Some(remote) = self.remotes.get_mut(&opened.remote) else { return };
        let peer = match opened.stream.peer() {
            Some(peer) if remote.passive => peer,
            Some(_) => opened.remote.clone(),
            None => {
                self.n_unix += 1;
                format!("unix#{}", self.n_unix - 1)
            }
        };
        let probe = match remote.options.probe_interval_ms {
            Some(0) => None,
            Some(ms) => Some(Duration::from_millis(ms.max(1000))),
            None => opened.stream.peer().map(|_| DEFAULT_PROBE),
        };
        let name = opened.remote.clone();
        let info = SessionInfo {
            remote: name.clone(),
            peer,
            read_only: remote.options.read_only,
            role: remote.options.role.clone(),
            id: opened.stream.peer_name(),
        };
        let session = self.server.connect(info);
        let outbox = connection::start(session, opened, self.shared.clone(), probe);
        self.connections.insert(session, Connection { outbox, is_fresh: false, remote: name, since: now });
    }

    fn ended(&mut self, session: SessionId, reason: &str) {
        if let Some(name) = self.follower(session) {
            return self.source_ended(&name, reason);
        }
        let now = self.clock.now();
        self.news.take(session);
        if let Some(connection) = self.connections.remove(&session) {
            tracing::debug!(target: "jsonrpc", "{}: {reason}", connection.remote);
            if let Some(remote) = self.remotes.get_mut(&connection.remote) {
                remote.disconnected = Some(now);
                if !remote.passive {
                    tracing::info!(target: "reconnect", "{}: connection dropped ({reason})", connection.remote);
                    remote.last_error = Some(reason.to_owned());
                }
            }
        }
        self.server.disconnect(session);
    }

    fn written(&mut self, written: Written, now: Instant) {
        let Written { db, seq, outcome, has_grown } = written;
        let text = outcome.as_ref().err().map(Error::to_string);
        self.server.written(&db, seq, outcome, now);
        let Some(file) = self.served.get_mut(&db) else { return };
        file.error = text;
        let (rest, commits) = (now.since(file.compacted), seq.0.saturating_sub(file.compacted_at));
        if has_grown && rest >= COMPACT_INTERVAL
            || commits >= COMPACT_COMMITS && rest >= COMPACT_IDLE_INTERVAL
        {
            (file.compacted, file.compacted_at) = (now, seq.0);
            self.start_compaction(&db, None);
        }
    }

    /// Starts a compaction, or waits for the one that goes on.
    fn start_compaction(&mut self, db: &Arc<str>, responder: Option<Responder>) {
        if let Some(waiting) = self.compacting.get_mut(db) {
            waiting.extend(responder);
            return;
        }
        // What the server has committed goes to the disk first, for a compaction is made of it.
        self.flush();
        let Some(everything) = self.server.everything(db) else {
            // In memory only: there is nothing to do.
            responder.into_iter().for_each(|responder| responder.respond(Ok(Reply::empty())));
            return;
        };
        self.compacting.insert(db.clone(), responder.into_iter().collect());
        self.io.compact(db.clone(), everything);
    }

    fn compacted(&mut self, db: &Arc<str>, outcome: &Result<(), Error>) {
        if let Err(error) = outcome {
            tracing::warn!(target: "ovsdb_server", "{db}: compaction failed: {error}");
        } else if self.trims_memory {
            daemon::process::trim_memory();
        }
        for responder in self.compacting.remove(db).into_iter().flatten() {
            responder.respond(match outcome {
                Ok(()) => Ok(Reply::empty()),
                Err(error) => Err(format!("{error}\n")),
            });
        }
    }

    /// Carries out what the server wants, and follows its remotes. Call it before waiting.
    pub fn flush(&mut self) {
        loop {
            while let Some(output) = self.server.poll_output() {
                self.carry_out(output);
            }
            self.write_jobs();
            if self.generation == self.server.generation() {
                break;
            }
            self.generation = self.server.generation();
            self.follow_remotes();
        }
        let now = self.clock.now();
        if self.news.deadline() <= now {
            for (session, messages) in self.news.release(now) {
                messages.into_iter().for_each(|message| self.send(session, message));
            }
        }
        for session in std::mem::take(&mut self.fresh) {
            if let Some(connection) = self.connections.get_mut(&session) {
                connection.is_fresh = false;
                connection.outbox.push();
            }
        }
    }

    /// Hands over the commits that have come together.
    fn write_jobs(&mut self) {
        if !self.jobs.is_empty() {
            self.io.write(std::mem::take(&mut self.jobs));
        }
    }

    fn add_job(&mut self, job: WriteJob) {
        if !self.jobs.last().is_none_or(|last| last.goes_with(&job)) {
            self.write_jobs();
        }
        self.jobs.push(job);
    }

    fn send(&mut self, session: SessionId, message: Message) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        if connection.outbox.send(message) {
            if !std::mem::replace(&mut connection.is_fresh, true) {
                self.fresh.push(session);
            }
        } else {
            tracing::warn!(target: "ovsdb_jsonrpc_server", "{}: disconnecting (too much waits to be sent)", connection.remote);
            self.ended(session, "too much waits to be sent");
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(session, message) if message.is_news() => self.news.push(session, message),
            Output::Send(session, message) => {
                let earlier = self.news.take(session);
                earlier.into_iter().for_each(|message| self.send(session, message));
                self.send(session, message);
            }
            Output::Close(session, reason) => {
                let earlier = self.news.take(session);
                earlier.into_iter().for_each(|message| self.send(session, message));
                if let Some(peer) = self.server.peer(session) {
                    tracing::info!(target: "ovsdb_jsonrpc_server", "{peer}: disconnecting ({reason})");
                }
                self.ended(session, &reason);
            }
            Output::Write(job) => self.add_job(job),
            Output::Resume(db) => {
                // What was committed before is to be refused.
                self.write_jobs();
                self.io.resume(db);
            }
            Output::Source(db, message) => self.tell_source(&db, message),
            Output::SourceReset(db, reason) => self.source_ended(&db, &reason),
            Output::Warn(text) => tracing::warn!(target: "ovsdb_jsonrpc_server", "{text}"),
        }
    }

    /// When [`Host::run`] is due.
    pub fn deadline(&self) -> Instant {
        let busy = self.has_columns() || self.remotes.values().any(|remote| remote.task.is_none());
        let status = if busy { self.next_status } else { Instant::NEVER };
        self.server.deadline().min(status).min(self.news.deadline())
    }

    /// Does what is due.
    pub fn run(&mut self) {
        let now = self.clock.now();
        self.server.run(now);
        if now >= self.next_status {
            self.next_status = now + STATUS_INTERVAL;
            self.report_status();
            if self.remotes.values().any(|remote| remote.task.is_none()) {
                self.follow_remotes();
            }
        }
    }

    fn has_columns(&self) -> bool {
        self.configured.keys().any(|name| name.starts_with("db:"))
    }

    /// The remotes as configured, by name.
    pub fn configured(&self) -> impl Iterator<Item = &String> {
        self.configured.keys()
    }

    /// Adds a remote: a target or `db:DB,TABLE,COLUMN`.
    ///
    /// # Errors
    /// If the column does not exist.
    pub fn add_remote(&mut self, name: &str) -> Result<(), String> {
        if name.starts_with("db:") {
            ColumnName::find(name, |db| self.server.database(db)).map_err(|error| error.to_string())?;
        }
        self.configured.entry(name.to_owned()).or_default();
        self.follow_remotes();
        Ok(())
    }

    /// Removes a remote; false if it was not configured.
    pub fn remove_remote(&mut self, name: &str) -> bool {
        let known = self.configured.remove(name).is_some();
        if known {
            self.follow_remotes();
        }
        known
    }

    /// What went wrong with the remotes' columns, if anything.
    pub fn remote_errors(&self) -> Vec<String> {
        let (_, errors) = remotes::resolve(&self.configured, |name| self.server.database(name));
        errors.iter().map(ToString::to_string).collect()
    }

    /// Makes the remotes at work be those that are configured.
    fn follow_remotes(&mut self) {
        let (wanted, errors) = remotes::resolve(&self.configured, |name| self.server.database(name));
        for error in errors {
            tracing::warn!(target: "ovsdb_server", rate = 1, burst = 1, "{error}");
        }
        let gone: Vec<String> = self
            .remotes
            .iter()
            .filter(|(name, remote)| wanted.get(*name) != Some(&remote.options))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            tracing::info!(target: "ovsdb_jsonrpc_server", "{name}: remote deconfigured");
            self.remotes.remove(&name);
            let sessions: Vec<SessionId> =
                self.connections.iter().filter(|(_, c)| c.remote == name).map(|(id, _)| *id).collect();
            sessions.into_iter().for_each(|session| self.ended(session, "remote deconfigured"));
        }
        for (name, options) in wanted {
            let works = self.remotes.get(&name).is_some_and(|remote| remote.task.is_some());
            if !works {
                let remote = self.start_remote(&name, options);
                self.remotes.insert(name, remote);
            }
        }
    }

    fn start_remote(&mut self, name: &str, options: Options) -> Remote {
        let passive = ["punix:", "ptcp:", "pssl:"].iter().any(|method| name.starts_with(method));
        let mut remote =
            Remote { options, task: None, passive, bound_port: None, last_error: None, disconnected: None };
        let events = self.shared.events.clone();
        if !passive {
            let max_backoff = Duration::from_millis(remote.options.max_backoff_ms);
            let connect = connection::connect(
                name.to_owned(),
                None,
                self.network.clone(),
                self.clock.clone(),
                max_backoff,
                events,
            );
            remote.task = Some(tokio::spawn(connect));
            return remote;
        }
        match self.network.listen(name) {
            Ok(listener) => {
                remote.bound_port = Listener::port(&listener);
                remote.task = Some(tokio::spawn(connection::listen(name.to_owned(), listener, events)));
            }
            Err(error) => {
                let error = daemon::error_text(&error);
                tracing::error!(target: "ovsdb_jsonrpc_server", rate = 1, burst = 1, "{name}: listen failed: {error}");
                remote.last_error = Some(error);
            }
        }
        remote
    }

    /// Disconnects everybody.
    pub fn reconnect(&mut self, reason: &str) {
        let all: Vec<SessionId> = self.connections.keys().copied().collect();
        for session in all {
            self.carry_out(Output::Close(session, reason.to_owned()));
        }
    }

    fn report_status(&mut self) {
        let columns: BTreeSet<String> =
            self.configured.keys().filter(|name| name.starts_with("db:")).cloned().collect();
        if columns.is_empty() {
            return;
        }
        let status: BTreeMap<String, Status> =
            self.remotes.keys().map(|name| (name.clone(), self.remote_status(name))).collect();
        let names: Vec<Arc<str>> = self.server.names().cloned().collect();
        for name in names {
            let outcome = self.server.change(&name, |txn| {
                remotes::write_status(txn, &columns, |target| {
                    status.get(target).cloned().unwrap_or_default()
                });
            });
            if let Err(error) = outcome {
                tracing::error!(target: "ovsdb_server", rate = 1, burst = 5, "Failed to update remote status: {error}");
            }
        }
    }

    fn remote_status(&self, name: &str) -> Status {
        let now = self.clock.now();
        let mut status = Status::default();
        let Some(remote) = self.remotes.get(name) else { return status };
        if let Some(port) = remote.bound_port {
            status.status.insert("bound_port", port.to_string());
        }
        let mut mine = self.connections.iter().filter(|(_, connection)| connection.remote == name);
        let n = mine.clone().count();
        let first = mine.next();
        if n > 1 {
            status.status.insert("n_connections", n.to_string());
        }
        if remote.passive && first.is_none() {
            return status;
        }
        status.is_connected = first.is_some();
        let state = if first.is_some() { "ACTIVE" } else { "BACKOFF" };
        status.status.insert("state", state.to_owned());
        if let Some(since) = first.map(|(_, connection)| connection.since) {
            status.status.insert("sec_since_connect", now.since(since).as_secs().to_string());
        }
        if let Some(at) = remote.disconnected {
            status.status.insert("sec_since_disconnect", now.since(at).as_secs().to_string());
        }
        if let Some(error) = remote.last_error.as_ref().filter(|_| !remote.passive) {
            status.status.insert("last_error", error.clone());
        }
        let locks = self.server.locks_of_remote(name);
        if let Some((_, held, waiting)) =
            first.and_then(|(id, _)| locks.iter().find(|(session, ..)| session == id))
        {
            for (member, names) in [("locks_held", held), ("locks_waiting", waiting)] {
                if !names.is_empty() {
                    status.status.insert(member, names.join(" "));
                }
            }
        }
        status
    }

    /// Compacts one database, or all of them, and answers when that is done.
    ///
    /// # Errors
    /// If there is no such database.
    pub fn compact(&mut self, name: Option<&str>, responder: &Responder) -> Result<(), String> {
        if name.is_some_and(|name| name.starts_with('_')) {
            return Err("cannot compact built-in databases".to_owned());
        }
        let names: Vec<Arc<str>> =
            self.server.names().filter(|known| name.is_none_or(|name| name == &***known)).cloned().collect();
        if names.is_empty() {
            return Err("no database by that name".to_owned());
        }
        for name in names {
            tracing::info!(target: "ovsdb_server", "compacting {name} database by user request");
            self.start_compaction(&name, Some(responder.clone()));
        }
        Ok(())
    }

    /// `ok`, or what is wrong with a database's file; nothing if there is no such database.
    pub fn storage_status(&self, name: &str) -> Option<String> {
        self.server.database(name)?;
        let error = self.served.get(name).and_then(|served| served.error.clone());
        Some(error.unwrap_or_else(|| "ok".to_owned()))
    }

    /// Writes what is still to be written.
    pub fn close(mut self) {
        while let Some(output) = self.server.poll_output() {
            if let Output::Write(job) = output {
                self.add_job(job);
            }
        }
        self.write_jobs();
        // Dropping the handle waits for the thread.
        drop(self.io);
    }
}
