//! The database server.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::clock::SystemClock;
use daemon::options::{Arg, Groups, Program, Row};
use daemon::program::{self, Body, End, Started};
use daemon::stream::tls;
use daemon::unixctl::{self, Command, Commands, Reply, Request, Services};
use flow::time::Clock;
use ovsdb::server::config::{Config, Model, check_excluded};
use ovsdb::server::connection::Limits;
use ovsdb::server::host::{Happening, Host};
use ovsdb::server::perf::Counters;
use ovsdb::server::remotes::{ColumnError, ColumnName, Options};
use ovsdb::storage::Columns;
use tokio::sync::oneshot;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Opt {
    Remote,
    Run,
    NoDbs,
    ConfigFile,
    SyncFrom,
    SyncExclude,
    Active,
    WholeColumns,
    PrivateKey,
    Certificate,
    CaCert,
    BootstrapCaCert,
    SslProtocols,
    SslCiphers,
    SslCiphersuites,
    SslServerName,
    PeerCaCert,
    MaxBacklog,
    MaxRequest,
    MaxRequests,
}

const PROGRAM: Program<Opt> = Program {
    name: "ovsdb-server",
    options: &[
        Row::new("remote", None, Arg::Required, Opt::Remote),
        Row::new("run", None, Arg::Required, Opt::Run),
        Row::new("no-dbs", None, Arg::No, Opt::NoDbs),
        Row::new("config-file", None, Arg::Required, Opt::ConfigFile),
        Row::new("sync-from", None, Arg::Required, Opt::SyncFrom),
        Row::new("sync-exclude-tables", None, Arg::Required, Opt::SyncExclude),
        Row::new("active", None, Arg::No, Opt::Active),
        Row::new("disable-file-column-diff", None, Arg::No, Opt::WholeColumns),
        Row::new("private-key", Some('p'), Arg::Required, Opt::PrivateKey),
        Row::new("certificate", Some('c'), Arg::Required, Opt::Certificate),
        Row::new("ca-cert", Some('C'), Arg::Required, Opt::CaCert),
        Row::new("bootstrap-ca-cert", None, Arg::Required, Opt::BootstrapCaCert),
        Row::new("ssl-protocols", None, Arg::Required, Opt::SslProtocols),
        Row::new("ssl-ciphers", None, Arg::Required, Opt::SslCiphers),
        Row::new("ssl-ciphersuites", None, Arg::Required, Opt::SslCiphersuites),
        Row::new("ssl-server-name", None, Arg::Required, Opt::SslServerName),
        Row::new("peer-ca-cert", None, Arg::Required, Opt::PeerCaCert),
        Row::new("max-backlog", None, Arg::Required, Opt::MaxBacklog),
        Row::new("max-request", None, Arg::Required, Opt::MaxRequest),
        Row::new("max-requests", None, Arg::Required, Opt::MaxRequests),
    ],
    groups: Groups::DAEMON,
    stop_at_argument: false,
    manual: include_str!("../../../docs/man/source/ovsdb-server.1.txt"),
};

struct State {
    services: Services,
    host: Host,
    legacy: Option<Legacy>,
    /// `--config-file`.
    config_file: Option<PathBuf>,
    /// What the parts of the loop cost.
    costs: Counters,
}

impl State {
    /// Remembers what is served, after a command changed that.
    fn save(&self) {
        if let Some(legacy) = &self.legacy {
            legacy.write(&self.host);
        }
    }
}

impl State {
    /// Does a part of the loop's work, and notes what it cost.
    fn timed(&mut self, clock: &SystemClock, part: &'static str, work: impl FnOnce(&mut Self)) {
        let began = clock.now();
        work(self);
        self.costs.add(part, clock.now().since(began));
    }
}

/// What takes in a happening, among the parts of the loop.
const fn part(happening: &Happening) -> &'static str {
    match happening {
        Happening::Network(_) => "network",
        Happening::Disk(_) => "disk",
    }
}

impl unixctl::Host for State {
    fn services(&mut self) -> &mut Services {
        &mut self.services
    }

    fn memory(&self) -> Vec<(String, u64)> {
        let usage = self.host.server.memory().into_iter();
        usage.map(|(name, n)| (name.to_owned(), u64::try_from(n).unwrap_or(u64::MAX))).collect()
    }
}

fn commands(whole_columns: bool) -> Commands<State> {
    let mut commands = unixctl::builtins();
    commands.add([
        Command::new("ovsdb-server/add-db", "DB", 1, 1, add_db),
        Command::new("ovsdb-server/add-remote", "REMOTE", 1, 1, add_remote),
        Command::new("ovsdb-server/compact", "", 0, 1, compact),
        Command::new("ovsdb-server/disable-monitor-cond", "", 0, 0, disable_monitor_cond),
        Command::new("ovsdb-server/get-db-storage-status", "DB", 1, 1, storage_status),
        Command::new("ovsdb-server/list-dbs", "", 0, 0, list_dbs),
        Command::new("ovsdb-server/list-remotes", "", 0, 0, list_remotes),
        Command::new("ovsdb-server/memory-trim-on-compaction", "on|off", 1, 1, trim_on_compaction),
        Command::new("ovsdb-server/perf-counters-clear", "", 0, 0, |state: &mut State, _| {
            state.costs.clear();
            Ok(Reply::empty())
        }),
        Command::new("ovsdb-server/perf-counters-show", "", 0, 0, |state: &mut State, _| {
            Ok(state.costs.text().into())
        }),
        Command::new("ovsdb-server/reconnect", "", 0, 0, reconnect),
        Command::new("ovsdb-server/remove-db", "DB", 1, 1, remove_db),
        Command::new("ovsdb-server/remove-remote", "REMOTE", 1, 1, remove_remote),
        Command::new("ovsdb-server/tlog-set", "DB:TABLE on|off", 2, 2, tlog_set),
        Command::new("ovsdb-server/tlog-list", "", 0, 0, |state: &mut State, _| {
            Ok(state.host.server.logged_tables().into())
        }),
        Command::new("ovsdb-server/reload", "", 0, 0, reload),
        Command::new("ovsdb-server/set-active-ovsdb-server", "", 1, 1, set_active),
        Command::new("ovsdb-server/get-active-ovsdb-server", "", 0, 0, |state: &mut State, _| {
            Ok(state.host.settings().sync_from.clone().unwrap_or_default().into())
        }),
        Command::new("ovsdb-server/connect-active-ovsdb-server", "", 0, 0, connect_active),
        Command::new("ovsdb-server/disconnect-active-ovsdb-server", "", 0, 0, disconnect_active),
        Command::new("ovsdb-server/set-active-ovsdb-server-probe-interval", "", 1, 1, |state, request| {
            set_probe(state, request, Model::ActiveBackup)
        }),
        Command::new("ovsdb-server/set-relay-source-probe-interval", "", 1, 1, |state, request| {
            set_probe(state, request, Model::Relay)
        }),
        Command::new("ovsdb-server/set-sync-exclude-tables", "", 0, 1, set_excluded),
        Command::new("ovsdb-server/get-sync-exclude-tables", "", 0, 0, |state: &mut State, _| {
            Ok(state.host.settings().sync_exclude.clone().unwrap_or_default().into())
        }),
        Command::new("ovsdb-server/sync-status", "", 0, 0, |state: &mut State, _| {
            Ok(state.host.sync_status().into())
        }),
    ]);
    if whole_columns {
        commands.add([Command::new("ovsdb/file/column-diff-enable", "", 0, 0, |state: &mut State, _| {
            state.host.write_columns(Columns::Differences);
            Ok(Reply::empty())
        })]);
    }
    commands
}

type Answer = Result<Reply, String>;

fn lines<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name}\n")).collect()
}

/// An error if a configuration file rules.
fn check_no_file(state: &State) -> Result<(), String> {
    match &state.config_file {
        Some(path) => Err(format!("Update the {} and use ovsdb-server/reload instead", path.display())),
        None => Ok(()),
    }
}

fn tlog_set(state: &mut State, request: &Request) -> Answer {
    let on = match request.arg(1).to_ascii_lowercase().as_str() {
        "on" => true,
        "off" => false,
        _ => return Err("invalid command argument".to_owned()),
    };
    state.host.server.log_table(request.arg(0), on)?;
    Ok(Reply::empty())
}

fn reload(state: &mut State, _: &Request) -> Answer {
    let Some(path) = &state.config_file else {
        return Err("Configuration file was not specified on command line".to_owned());
    };
    if load(path).is_some_and(|config| state.host.configure(config, true)) {
        return Ok(Reply::empty());
    }
    Err("Configuration failed.  See the log file for details.".to_owned())
}

fn set_active(state: &mut State, request: &Request) -> Answer {
    check_no_file(state)?;
    state.host.set_active(request.arg(0));
    state.save();
    Ok(Reply::empty())
}

fn connect_active(state: &mut State, _: &Request) -> Answer {
    check_no_file(state)?;
    if !state.host.connect_active() {
        return Ok("Unable to connect: active server is not specified.\n".into());
    }
    state.save();
    Ok(Reply::empty())
}

fn disconnect_active(state: &mut State, _: &Request) -> Answer {
    check_no_file(state)?;
    state.host.disconnect_active();
    state.save();
    Ok(Reply::empty())
}

fn set_probe(state: &mut State, request: &Request, model: Model) -> Answer {
    check_no_file(state)?;
    let Ok(ms) = request.arg(0).parse::<i32>() else {
        return Err("Invalid probe interval, integer value expected".to_owned());
    };
    state.host.set_source_probe(model, u64::try_from(ms).unwrap_or(0));
    state.save();
    Ok(Reply::empty())
}

fn set_excluded(state: &mut State, request: &Request) -> Answer {
    check_no_file(state)?;
    let tables = request.opt(0).unwrap_or_default();
    // As OVS answers, this is no error.
    if let Err(text) = check_excluded(tables) {
        return Ok(text.into());
    }
    state.host.set_excluded(tables);
    state.save();
    Ok(Reply::empty())
}

fn add_db(state: &mut State, request: &Request) -> Answer {
    check_no_file(state)?;
    state.host.add_named(request.arg(0)).map_err(|error| error.to_string())?;
    state.save();
    Ok(Reply::empty())
}

fn remove_db(state: &mut State, request: &Request) -> Answer {
    check_no_file(state)?;
    state.host.remove_database(request.arg(0))?;
    state.save();
    Ok(Reply::empty())
}

fn list_dbs(state: &mut State, _: &Request) -> Answer {
    let mut names: Vec<&str> = state.host.server.names().map(|name| &**name).collect();
    names.push("_Server");
    names.sort_unstable();
    Ok(lines(names.into_iter()).into())
}

fn add_remote(state: &mut State, request: &Request) -> Answer {
    check_no_file(state)?;
    state.host.add_remote(request.arg(0))?;
    state.save();
    Ok(Reply::empty())
}

fn remove_remote(state: &mut State, request: &Request) -> Answer {
    check_no_file(state)?;
    if !state.host.remove_remote(request.arg(0)) {
        return Err("no such remote".to_owned());
    }
    state.save();
    Ok(Reply::empty())
}

fn list_remotes(state: &mut State, _: &Request) -> Answer {
    Ok(lines(state.host.configured().map(String::as_str)).into())
}

fn compact(state: &mut State, request: &Request) -> Answer {
    state.host.compact(request.opt(0), &request.defer()).map(|()| Reply::Deferred)
}

fn trim_on_compaction(state: &mut State, request: &Request) -> Answer {
    let on = match request.arg(0) {
        "on" => true,
        "off" => false,
        _ => return Err("invalid argument".to_owned()),
    };
    state.host.trims_memory = on;
    let word = if on { "enabled" } else { "disabled" };
    tracing::info!(target: "ovsdb_server", "memory trimming after compaction {word}.");
    Ok(Reply::empty())
}

fn reconnect(state: &mut State, _: &Request) -> Answer {
    state.host.reconnect("user ran ovsdb-server/reconnect");
    Ok(Reply::empty())
}

fn disable_monitor_cond(state: &mut State, _: &Request) -> Answer {
    state.host.server.disable_monitor_cond();
    state.host.reconnect("user ran ovsdb-server/disable-monitor-cond");
    Ok(Reply::empty())
}

fn storage_status(state: &mut State, request: &Request) -> Answer {
    match state.host.storage_status(request.arg(0)) {
        Some(status) => Ok(format!("status: {status}").into()),
        None => Err("Failed to find the database.".to_owned()),
    }
}

/// The settings of TLS, some of them told by database columns.
fn keys(host: &Host, given: &BTreeMap<Opt, String>) -> Result<tls::Settings, ColumnError> {
    let text = |option: Opt| -> Result<Option<String>, ColumnError> {
        let Some(text) = given.get(&option) else { return Ok(None) };
        if !text.starts_with("db:") {
            return Ok(Some(text.clone()));
        }
        Ok(ColumnName::string(text, |db| host.server.database(db))?.map(str::to_owned))
    };
    let path = |option: Opt| Ok::<_, ColumnError>(text(option)?.map(PathBuf::from));
    let bootstrap = path(Opt::BootstrapCaCert)?;
    Ok(tls::Settings {
        private_key: path(Opt::PrivateKey)?,
        certificate: path(Opt::Certificate)?,
        bootstrap: bootstrap.is_some(),
        ca_cert: bootstrap.map_or_else(|| path(Opt::CaCert), |path| Ok(Some(path)))?,
        protocols: text(Opt::SslProtocols)?,
        ciphers: text(Opt::SslCiphers)?,
        ciphersuites: text(Opt::SslCiphersuites)?,
        server_name: text(Opt::SslServerName)?,
        peer_ca_cert: path(Opt::PeerCaCert)?,
    })
}

/// What a server under `--monitor` was serving, for the one that takes its place when it dies: a file without a name that
/// both inherit.
struct Legacy(File);

impl Legacy {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("ovsdb-server.{}.state", std::process::id()));
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        std::fs::remove_file(path)?;
        Ok(Self(file))
    }

    /// What a predecessor served, if there was one.
    fn read(&self) -> Option<Config> {
        let mut text = String::new();
        let mut file = &self.0;
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_to_string(&mut text).ok()?;
        Config::from_text(&text).ok()
    }

    fn write(&self, host: &Host) {
        let text = host.config().to_json().to_string();
        let mut file = &self.0;
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(target: "ovsdb_server", "could not save configuration ({})", daemon::error_text(&error));
        }
    }
}

/// What `--run` runs, and how it ended: nothing if well.
fn run_child(command: &str) -> std::io::Result<oneshot::Receiver<Option<String>>> {
    let mut child = std::process::Command::new("/bin/sh").arg("-c").arg(command).spawn()?;
    let (report, ended) = oneshot::channel();
    std::thread::Builder::new().name("run".to_owned()).spawn(move || {
        let problem = match child.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(status_text(status)),
            Err(error) => Some(daemon::error_text(&error)),
        };
        // The server may have been told to exit first.
        let _ = report.send(problem);
    })?;
    Ok(ended)
}

fn status_text(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed (signal {signal})"),
        (None, None) => "ended".to_owned(),
    }
}

fn main() -> ExitCode {
    let started = program::read(&PROGRAM);
    if let Err(text) = check_options(&started) {
        eprintln!("{}: {text}", PROGRAM.name);
        return ExitCode::FAILURE;
    }
    let legacy = match started.common().daemon.monitor.then(Legacy::new).transpose() {
        Ok(legacy) => legacy,
        Err(error) => {
            eprintln!("{}: failed to create temporary file ({})", PROGRAM.name, daemon::error_text(&error));
            return ExitCode::FAILURE;
        }
    };
    started.run(|started| body(started, legacy))
}

/// Everything between becoming a daemon and serving.
fn open(body: &Body<Opt>, given: &BTreeMap<Opt, String>, legacy: Option<&Legacy>) -> Result<Host, String> {
    let started = &body.started;
    let mut host =
        Host::new(body.network.clone(), started.clock.clone()).map_err(|error| daemon::error_text(&error))?;
    host.set_limits(limits(given)?);
    if given.contains_key(&Opt::WholeColumns) {
        host.write_columns(Columns::Whole);
    }
    let by_file = config_file(started, given);
    let config = match &by_file {
        Some(path) => load(path),
        None => Some(legacy.and_then(Legacy::read).map_or_else(|| from_options(started, given), Ok)?),
    };
    // The keys may stand in a database, and remotes need them: the remotes come second.
    let mut config = config.ok_or("server configuration failed")?;
    let remotes = std::mem::take(&mut config.remotes);
    if !host.configure(config, by_file.is_some()) {
        return Err("server configuration failed".to_owned());
    }
    let settings = keys(&host, given).map_err(|error| error.to_string())?;
    body.network.tls.set(settings);
    if !host.configure(Config { remotes, ..host.config() }, by_file.is_some()) {
        return Err("server configuration failed".to_owned());
    }
    host.flush();
    if let Some(legacy) = legacy {
        legacy.write(&host);
    }
    Ok(host)
}

/// What a client may take, as the command line says.
fn limits(given: &BTreeMap<Opt, String>) -> Result<Limits, String> {
    let mut limits = Limits::default();
    let options = [
        (Opt::MaxBacklog, "max-backlog", &mut limits.backlog),
        (Opt::MaxRequest, "max-request", &mut limits.request),
        (Opt::MaxRequests, "max-requests", &mut limits.requests),
    ];
    for (option, name, limit) in options {
        let Some(text) = given.get(&option) else { continue };
        *limit = size(text)
            .ok_or_else(|| format!("--{name} requires a size, such as 65536 or 64k, not \"{text}\""))?;
    }
    Ok(limits)
}

/// A number of bytes, one at least, perhaps in units of 1024.
fn size(text: &str) -> Option<usize> {
    let units = [('k', 10), ('M', 20), ('G', 30)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<usize>().ok()?.checked_mul(1 << shift).filter(|size| *size > 0)
}

/// The path of `--config-file`.
fn config_file(started: &Started<Opt>, given: &BTreeMap<Opt, String>) -> Option<PathBuf> {
    given.get(&Opt::ConfigFile).map(|path| started.dirs.in_db(path))
}

/// Reads a configuration file. What is wrong is told the log.
fn load(path: &Path) -> Option<Config> {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let error = daemon::error_text(&error);
            tracing::error!(target: "ovsdb_server", "failed to open configuration file '{shown}': {error}");
            return None;
        }
    };
    tracing::info!(target: "ovsdb_server", "loading configuration from '{shown}'");
    match Config::from_text(&text) {
        Ok(config) => Some(config),
        Err(lines) => {
            lines.iter().for_each(|line| tracing::warn!(target: "ovsdb_server", "{line}"));
            tracing::warn!(target: "ovsdb_server", "failed to load configuration from {shown}");
            None
        }
    }
}

/// What the command line says is to be served.
fn from_options(started: &Started<Opt>, given: &BTreeMap<Opt, String>) -> Result<Config, String> {
    let mut config = Config {
        sync_from: given.get(&Opt::SyncFrom).cloned(),
        sync_exclude: given.get(&Opt::SyncExclude).cloned(),
        ..Config::default()
    };
    check_excluded(config.sync_exclude.as_deref().unwrap_or_default())?;
    let active = given.contains_key(&Opt::Active);
    config.is_backup = config.sync_from.is_some() && !active;
    for (_, remote) in started.own.iter().filter(|(option, _)| *option == Opt::Remote) {
        config.remotes.insert(remote.clone().unwrap_or_default(), Options::default());
    }
    for text in &started.args {
        config.add_database(text, active);
    }
    if started.args.is_empty() && !given.contains_key(&Opt::NoDbs) {
        config.add_database(&started.dirs.in_db("conf.db").display().to_string(), active);
    }
    Ok(config)
}

/// An error if the options contradict each other.
fn check_options(started: &Started<Opt>) -> Result<(), &'static str> {
    let given = |options: &[Opt]| started.own.iter().any(|(option, _)| options.contains(option));
    if !given(&[Opt::ConfigFile]) {
        return Ok(());
    }
    if given(&[Opt::SyncFrom, Opt::SyncExclude, Opt::Active]) {
        return Err("--config-file is mutually exclusive with --sync-from, --sync-exclude and --active");
    }
    if given(&[Opt::Remote]) {
        return Err("--config-file is mutually exclusive with --remote");
    }
    if !started.args.is_empty() {
        return Err("Databases should be specified in a config file");
    }
    Ok(())
}

async fn body(mut body: Body<Opt>, legacy: Option<Legacy>) -> (End, Services) {
    let given: BTreeMap<Opt, String> =
        body.started.own.iter().map(|(option, value)| (*option, value.clone().unwrap_or_default())).collect();
    let host = match open(&body, &given, legacy.as_ref()) {
        Ok(host) => host,
        Err(text) => {
            eprintln!("{}: {text}", PROGRAM.name);
            return (End::Failed, body.services);
        }
    };
    let mut child = None;
    if let Some(command) = given.get(&Opt::Run) {
        match run_child(command) {
            Ok(ended) => child = Some(ended),
            Err(error) => {
                eprintln!(
                    "{}: {command}: process failed to start ({})",
                    PROGRAM.name,
                    daemon::error_text(&error)
                );
                return (End::Failed, body.services);
            }
        }
    }
    body.started.complete();
    // With --run it is a tool for a moment, which need not introduce itself.
    if child.is_none() {
        tracing::info!(target: "ovsdb_server", "{}", daemon::options::version_line(PROGRAM.name));
    }
    let config_file = config_file(&body.started, &given);
    let Body { started, services, mut requests, mut signals, network } = body;
    let commands = commands(given.contains_key(&Opt::WholeColumns));
    let mut state = State { services, host, legacy, config_file, costs: Counters::default() };
    let clock = &started.clock;
    let mut generation = 0;
    let end = loop {
        state.timed(clock, "flush", |state| state.host.flush());
        if std::mem::replace(&mut generation, state.host.server.generation())
            != state.host.server.generation()
            && let Ok(settings) = keys(&state.host, &given)
        {
            network.tls.set(settings);
        }
        state.services.coverage.run(clock.now());
        if state.services.is_exiting() {
            break End::Exit;
        }
        let deadline = state.host.deadline();
        tokio::select! {
            happening = state.host.next() => {
                state.timed(clock, part(&happening), |state| state.host.handle(happening));
            }
            Some(request) = requests.recv() => {
                state.timed(clock, "command", |state| commands.dispatch(state, &request));
            }
            number = signals.recv() => break End::Signal(number),
            () = clock.sleep_until(deadline) => state.timed(clock, "timers", |state| state.host.run()),
            problem = ended(&mut child) => break child_end(given.get(&Opt::Run), problem),
        }
    };
    let State { services, host, .. } = state;
    host.close();
    (end, services)
}

fn child_end(command: Option<&String>, problem: Option<String>) -> End {
    let (Some(command), Some(problem)) = (command, problem) else { return End::Exit };
    eprintln!("{}: {command}: child exited, {problem}", PROGRAM.name);
    End::Failed
}

/// How the child ended; never, without one.
async fn ended(child: &mut Option<oneshot::Receiver<Option<String>>>) -> Option<String> {
    match child {
        Some(child) => child.await.unwrap_or(None),
        None => std::future::pending().await,
    }
}
