//! The database server.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::ExitCode;

use daemon::dirs::Dirs;
use daemon::options::{Arg, Groups, Program, Row, help};
use daemon::program::{self, Body, End};
use daemon::stream::tls;
use daemon::unixctl::{self, Command, Commands, Reply, Request, Services};
use ovsdb::server::host::Host;
use ovsdb::server::remotes::{ColumnError, ColumnName};
use tokio::sync::oneshot;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Opt {
    Remote,
    Run,
    NoDbs,
    PrivateKey,
    Certificate,
    CaCert,
    BootstrapCaCert,
}

const PROGRAM: Program<Opt> = Program {
    name: "ovsdb-server",
    options: &[
        Row::new("remote", None, Arg::Required, Opt::Remote),
        Row::new("run", None, Arg::Required, Opt::Run),
        Row::new("no-dbs", None, Arg::No, Opt::NoDbs),
        Row::new("private-key", Some('p'), Arg::Required, Opt::PrivateKey),
        Row::new("certificate", Some('c'), Arg::Required, Opt::Certificate),
        Row::new("ca-cert", Some('C'), Arg::Required, Opt::CaCert),
        Row::new("bootstrap-ca-cert", None, Arg::Required, Opt::BootstrapCaCert),
    ],
    groups: Groups::DAEMON,
    stop_at_argument: false,
    usage,
};

fn usage(dirs: &Dirs) -> String {
    format!(
        "ovsdb-server: Open vSwitch database server\nusage: ovsdb-server [OPTIONS] [DATABASE...]\n\
         where each DATABASE is a database file in ovsdb format.\nThe default DATABASE, if none is given, is\n{}.\n\
         \nJSON-RPC options (may be specified any number of times):\n  --remote=REMOTE         connect or listen to \
         REMOTE\n\n{}{}{}\nOther options:\n  --run COMMAND           run COMMAND as subprocess then exit\n  \
         --unixctl=SOCKET        override default control socket name\n  -h, --help              display this help \
         message\n  -V, --version           display version information\n",
        dirs.in_db("conf.db").display(),
        help::connections("JSON-RPC", true, true),
        help::daemon("ovsdb-server", dirs),
        help::logging("ovsdb-server", dirs)
    )
}

struct State {
    services: Services,
    host: Host,
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

fn commands() -> Commands<State> {
    let mut commands = unixctl::builtins();
    commands.add([
        Command::new("ovsdb-server/add-db", "DB", 1, 1, add_db),
        Command::new("ovsdb-server/add-remote", "REMOTE", 1, 1, add_remote),
        Command::new("ovsdb-server/compact", "", 0, 1, compact),
        Command::new("ovsdb-server/disable-monitor-cond", "", 0, 0, disable_monitor_cond),
        Command::new("ovsdb-server/get-db-storage-status", "DB", 1, 1, storage_status),
        Command::new("ovsdb-server/list-dbs", "", 0, 0, list_dbs),
        Command::new("ovsdb-server/list-remotes", "", 0, 0, list_remotes),
        Command::new("ovsdb-server/reconnect", "", 0, 0, reconnect),
        Command::new("ovsdb-server/remove-db", "DB", 1, 1, remove_db),
        Command::new("ovsdb-server/remove-remote", "REMOTE", 1, 1, remove_remote),
        Command::new("ovsdb-server/sync-status", "", 0, 0, |_, _| Ok("state: active\n".into())),
    ]);
    commands
}

type Answer = Result<Reply, String>;

fn lines<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name}\n")).collect()
}

fn add_db(state: &mut State, request: &Request) -> Answer {
    let path = std::path::Path::new(request.arg(0));
    state.host.add_database(path).map(|()| Reply::empty()).map_err(|error| error.to_string())
}

fn remove_db(state: &mut State, request: &Request) -> Answer {
    state.host.remove_database(request.arg(0)).map(|()| Reply::empty())
}

fn list_dbs(state: &mut State, _: &Request) -> Answer {
    let mut names: Vec<&str> = state.host.server.names().map(|name| &**name).collect();
    names.push("_Server");
    names.sort_unstable();
    Ok(lines(names.into_iter()).into())
}

fn add_remote(state: &mut State, request: &Request) -> Answer {
    state.host.add_remote(request.arg(0)).map(|()| Reply::empty())
}

fn remove_remote(state: &mut State, request: &Request) -> Answer {
    if state.host.remove_remote(request.arg(0)) {
        Ok(Reply::empty())
    } else {
        Err("no such remote".to_owned())
    }
}

fn list_remotes(state: &mut State, _: &Request) -> Answer {
    Ok(lines(state.host.configured().map(String::as_str)).into())
}

fn compact(state: &mut State, request: &Request) -> Answer {
    state.host.compact(request.opt(0), &request.defer()).map(|()| Reply::Deferred)
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

/// The files of TLS, some of them told by database columns.
fn keys(
    host: &Host,
    given: &BTreeMap<Opt, String>,
    defaults: &tls::Settings,
) -> Result<tls::Settings, ColumnError> {
    let value = |option: Opt| -> Result<Option<std::path::PathBuf>, ColumnError> {
        let Some(text) = given.get(&option) else { return Ok(None) };
        if !text.starts_with("db:") {
            return Ok(Some(text.into()));
        }
        Ok(ColumnName::string(text, |db| host.server.database(db))?.map(Into::into))
    };
    let bootstrap = value(Opt::BootstrapCaCert)?;
    Ok(tls::Settings {
        private_key: value(Opt::PrivateKey)?,
        certificate: value(Opt::Certificate)?,
        bootstrap: bootstrap.is_some(),
        ca_cert: bootstrap.map_or_else(|| value(Opt::CaCert), |path| Ok(Some(path)))?,
        ..defaults.clone()
    })
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
    started.run(body)
}

/// Everything between becoming a daemon and serving.
fn open(body: &Body<Opt>, given: &BTreeMap<Opt, String>) -> Result<Host, String> {
    let started = &body.started;
    let mut host =
        Host::new(body.network.clone(), started.clock.clone()).map_err(|error| daemon::error_text(&error))?;
    let mut files: Vec<std::path::PathBuf> = started.args.iter().map(Into::into).collect();
    if files.is_empty() && !given.contains_key(&Opt::NoDbs) {
        files.push(started.dirs.in_db("conf.db"));
    }
    for file in &files {
        host.add_database(file).map_err(|error| error.to_string())?;
    }
    let settings = keys(&host, given, &started.common().tls).map_err(|error| error.to_string())?;
    body.network.tls.set(settings);
    for (_, remote) in started.own.iter().filter(|(option, _)| *option == Opt::Remote) {
        host.add_remote(remote.as_deref().unwrap_or_default())?;
    }
    host.flush();
    Ok(host)
}

async fn body(mut body: Body<Opt>) -> (End, Services) {
    let given: BTreeMap<Opt, String> =
        body.started.own.iter().map(|(option, value)| (*option, value.clone().unwrap_or_default())).collect();
    let host = match open(&body, &given) {
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
    let Body { started, services, mut requests, mut signals, network } = body;
    let defaults = started.common().tls.clone();
    let commands = commands();
    let mut state = State { services, host };
    let end = loop {
        state.host.flush();
        if let Ok(settings) = keys(&state.host, &given, &defaults) {
            network.tls.set(settings);
        }
        state.services.coverage.run(flow::time::Clock::now(&started.clock));
        if state.services.is_exiting() {
            break End::Exit;
        }
        let deadline = state.host.deadline();
        tokio::select! {
            happening = state.host.next() => state.host.handle(happening),
            Some(request) = requests.recv() => commands.dispatch(&mut state, &request),
            number = signals.recv() => break End::Signal(number),
            () = started.clock.sleep_until(deadline) => state.host.run(),
            problem = ended(&mut child) => break child_end(given.get(&Opt::Run), problem),
        }
    };
    let State { services, host } = state;
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
