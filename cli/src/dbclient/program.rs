//! Options, the table of commands, which server and database are meant.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use daemon::manual;
use daemon::options::{Arg, Groups, Program, Row};
use daemon::program::{Body, End, Started, read};
use daemon::stream::tls::Tls;
use daemon::stream::{Network, OVSDB_PORT};
use daemon::unixctl::{Command as Ctl, Host, Reply, Services, builtins};
use ovsdb::json;
use ovsdb::output::{Printer, Style, Table};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::rpc::{Fatal, Rpc, shuffled};
use super::{backup, commands, monitor};
use crate::table_options::{self, TableOption};

/// What a command works on.
pub struct Session {
    pub rpc: Rpc,
    pub database: String,
    /// The command's own arguments, without server and database.
    pub args: Vec<String>,
    /// The command's name.
    pub command: &'static str,
    pub style: Style,
    timestamps: bool,
    /// `--force`: restore in spite of differences.
    pub force: bool,
    /// Whether to tell the server that its databases may change; if it knows of that, unless said.
    pub aware: Option<bool>,
    /// What the control socket of a detached client says.
    pub orders: mpsc::UnboundedReceiver<Order>,
    /// Tells whoever started the program that it works.
    started: Option<Started<Opt>>,
}

impl Session {
    /// Prints a JSON value on a line, or indented with `--pretty`.
    pub fn print_json(&self, value: &Value) {
        println!("{}", if self.style.pretty { json::pretty(value) } else { json::text(value) });
    }

    /// Prints a table.
    pub fn print_table(&self, table: &Table) {
        print!("{}", Printer::default().format(table, &self.style));
    }

    /// Now, as `--timestamp` prints it; nothing without that option.
    pub fn timestamp(&self) -> Option<String> {
        self.timestamps.then(|| daemon::clock::utc_text(daemon::clock::real_wall()))
    }

    /// The program works: `--detach` may return.
    pub fn ready(&mut self) {
        if let Some(started) = &mut self.started {
            started.complete();
        }
    }
}

/// What a client is told while it works.
#[derive(Debug)]
pub enum Order {
    /// Monitor this table by this condition from now on.
    Condition(String, Value),
    /// Send this request (`lock`, `steal` or `unlock`) for this lock.
    Lock(&'static str, String),
}

/// What a command needs found out before it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Connection,
    Database,
}

type Run = for<'a> fn(&'a mut Session) -> Pin<Box<dyn Future<Output = Result<(), Fatal>> + 'a>>;

struct Command {
    name: &'static str,
    need: Need,
    /// Arguments besides server and database.
    min: usize,
    max: usize,
    run: Run,
}

macro_rules! table {
    ($($name:literal $need:ident $min:literal $max:expr, $run:path;)*) => {
        &[$(Command { name: $name, need: Need::$need, min: $min, max: $max, run: |session| Box::pin($run(session)) }),*]
    };
}

static COMMANDS: &[Command] = table! {
    "list-dbs" Connection 0 0, commands::list_dbs;
    "get-schema" Database 0 0, commands::get_schema;
    "get-schema-version" Database 0 0, commands::get_schema_version;
    "get-schema-cksum" Database 0 0, commands::get_schema_cksum;
    "list-tables" Database 0 0, commands::list_tables;
    "list-columns" Database 0 1, commands::list_columns;
    "transact" Connection 1 1, commands::transact;
    "query" Connection 1 1, commands::query;
    "monitor" Database 1 usize::MAX, monitor::monitor;
    "monitor-cond" Database 2 3, monitor::monitor_cond;
    "monitor-cond-since" Database 2 4, monitor::monitor_cond_since;
    "wait" Connection 2 2, commands::wait;
    "convert" Connection 1 1, commands::convert;
    "needs-conversion" Connection 1 1, commands::needs_conversion;
    "dump" Database 0 usize::MAX, commands::dump;
    "backup" Database 0 0, backup::backup;
    "restore" Database 0 0, backup::restore;
    "lock" Connection 1 1, monitor::lock;
    "steal" Connection 1 1, monitor::lock;
    "unlock" Connection 1 1, monitor::lock;
};

/// The program's own options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opt {
    Timestamp,
    Timeout,
    /// Whether to tell the server that its databases may change.
    Aware(bool),
    /// Whether to use only the leader of a cluster.
    LeaderOnly(bool),
    Force,
    Table(TableOption),
}

const fn table_row(at: usize) -> Row<Opt> {
    table_options::ROWS[at].with(Opt::Table(table_options::ROWS[at].id))
}

static PROGRAM: Program<Opt> = Program {
    name: "ovsdb-client",
    options: &[
        Row::new("timestamp", None, Arg::No, Opt::Timestamp),
        Row::new("timeout", Some('t'), Arg::Required, Opt::Timeout),
        Row::new("db-change-aware", None, Arg::No, Opt::Aware(true)),
        Row::new("no-db-change-aware", None, Arg::No, Opt::Aware(false)),
        Row::new("leader-only", None, Arg::No, Opt::LeaderOnly(true)),
        Row::new("no-leader-only", None, Arg::No, Opt::LeaderOnly(false)),
        Row::new("force", None, Arg::No, Opt::Force),
        table_row(0),
        table_row(1),
        table_row(2),
        table_row(3),
        table_row(4),
        table_row(5),
    ],
    groups: Groups { daemon: true, ssl: true, bootstrap: true, unixctl: false },
    stop_at_argument: false,
    manual: include_str!("../../../docs/man/source/ovsdb-client.1.txt"),
};

/// The command line, read.
struct Line {
    command: &'static Command,
    args: Vec<String>,
    style: Style,
    timestamps: bool,
    force: bool,
    aware: Option<bool>,
    leader_only: bool,
    /// Seconds.
    timeout: Option<u32>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let mut started = read(&PROGRAM);
    match line(&started) {
        Err(text) => fail(&text),
        Ok(line) if started.common().daemon.detach => {
            started.keep_stdio();
            started.run(|body| detached(body, line))
        }
        Ok(line) => {
            let network = network(&started);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime.map_err(|error| daemon::error_text(&error)) {
                Ok(runtime) => match runtime.block_on(limited(line, &network)) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(text) => fail(&text),
                },
                Err(text) => fail(&text),
            }
        }
    }
}

/// Runs the command within its time limit.
async fn limited(line: Line, network: &Network) -> Result<(), Fatal> {
    let timeout = line.timeout;
    // Nobody orders a client without a control socket.
    let (_sender, orders) = mpsc::unbounded_channel();
    tokio::select! {
        done = work(line, network, None, orders) => done,
        () = daemon::time_limit(timeout) => Ok(()),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("ovsdb-client: {text}");
    ExitCode::FAILURE
}

fn network(started: &Started<Opt>) -> Network {
    let tls = Tls::new(started.common().tls.clone());
    Network { run_dir: started.dirs.run.clone(), default_port: OVSDB_PORT, tls }
}

fn line(started: &Started<Opt>) -> Result<Line, Fatal> {
    let (mut style, mut timestamps, mut timeout) = (Style::default(), false, None);
    let (mut force, mut aware, mut leader_only) = (false, None, true);
    for (option, value) in &started.own {
        match option {
            Opt::Timestamp => timestamps = true,
            Opt::Aware(wanted) => aware = Some(*wanted),
            Opt::LeaderOnly(wanted) => leader_only = *wanted,
            Opt::Force => force = true,
            Opt::Timeout => {
                let text = value.as_deref().unwrap_or_default();
                match text.parse() {
                    Ok(secs) if secs > 0 => timeout = Some(secs),
                    _ => return Err(format!("value {text} on -t or --timeout is invalid")),
                }
            }
            Opt::Table(option) => table_options::apply(&mut style, *option, value.as_deref())?,
        }
    }
    let Some((name, args)) = started.args.split_first() else {
        return Err("missing command name; use --help for help".to_owned());
    };
    if name == "help" {
        print!("{}", manual::help(PROGRAM.manual, &started.dirs));
        std::process::exit(0);
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(format!("unknown command '{name}'; use --help for help"));
    };
    Ok(Line { command, args: args.to_vec(), style, timestamps, force, aware, leader_only, timeout })
}

/// State of the control socket of a detached client.
struct Control {
    services: Services,
    /// Whether it stops taking in messages.
    blocked: watch::Sender<bool>,
    /// To the client's work.
    orders: mpsc::UnboundedSender<Order>,
}

impl Host for Control {
    fn services(&mut self) -> &mut Services {
        &mut self.services
    }
}

impl Control {
    /// Blocks or unblocks; the answer says if that was so already.
    fn set(&mut self, blocked: bool, already: &'static str) -> Result<Reply, String> {
        Ok(if self.blocked.send_replace(blocked) == blocked { already.into() } else { Reply::empty() })
    }

    fn change_condition(&mut self, table: &str, condition: &str) -> Result<Reply, String> {
        let value = json::parse(condition).map_err(|error| format!("\"{condition}\": {error}"))?;
        // The client's work has ended when nobody takes it.
        let _ = self.orders.send(Order::Condition(table.to_owned(), value));
        Ok("condition changed".into())
    }

    fn lock(&mut self, method: &'static str, name: &str) -> Result<Reply, String> {
        // As above.
        let _ = self.orders.send(Order::Lock(method, name.to_owned()));
        Ok(Reply::empty())
    }
}

async fn detached(body: Body<Opt>, line: Line) -> (End, Services) {
    let Body { started, services, mut requests, mut signals, network } = body;
    let (blocked, paused) = watch::channel(false);
    let (sender, orders) = mpsc::unbounded_channel();
    let mut control = Control { services, blocked, orders: sender };
    let mut table = builtins::<Control>();
    table.add([
        Ctl::new("ovsdb-client/block", "", 0, 0, |control: &mut Control, _| {
            control.set(true, "already blocking")
        }),
        Ctl::new("ovsdb-client/unblock", "", 0, 0, |control: &mut Control, _| {
            control.set(false, "already unblocked")
        }),
        Ctl::new("ovsdb-client/cond_change", "TABLE COND", 2, 2, |control: &mut Control, request| {
            control.change_condition(request.arg(0), request.arg(1))
        }),
        Ctl::new("lock", "LOCK", 1, 1, |control: &mut Control, request| control.lock("lock", request.arg(0))),
        Ctl::new("steal", "LOCK", 1, 1, |control: &mut Control, request| {
            control.lock("steal", request.arg(0))
        }),
        Ctl::new("unlock", "LOCK", 1, 1, |control: &mut Control, request| {
            control.lock("unlock", request.arg(0))
        }),
    ]);
    // Of a client that locks, only standard output stays open.
    let is_heard = !matches!(line.command.name, "lock" | "steal" | "unlock");
    let work = gated(work(line, &network, Some(started), orders), paused);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                return match done {
                    Ok(()) => (End::Exit, control.services),
                    Err(text) => {
                        if is_heard {
                            eprintln!("ovsdb-client: {text}");
                        }
                        (End::Failed, control.services)
                    }
                };
            }
            Some(request) = requests.recv() => {
                table.dispatch(&mut control, &request);
                if control.services.is_exiting() {
                    return (End::Exit, control.services);
                }
            }
            number = signals.recv() => return (End::Signal(number), control.services),
        }
    }
}

/// Runs `work` except while `paused`.
async fn gated<T>(work: impl Future<Output = T>, mut paused: watch::Receiver<bool>) -> T {
    tokio::pin!(work);
    loop {
        if *paused.borrow_and_update() {
            // The sender lives as long as the command table, so this cannot fail while we run.
            let _ = paused.changed().await;
            continue;
        }
        tokio::select! {
            done = &mut work => return done,
            _ = paused.changed() => {}
        }
    }
}

/// Connects, finds out which database is meant, and runs the command.
async fn work(
    line: Line,
    network: &Network,
    started: Option<Started<Opt>>,
    orders: mpsc::UnboundedReceiver<Order>,
) -> Result<(), Fatal> {
    let Line { command, mut args, style, timestamps, force, aware, leader_only, .. } = line;
    let remotes = take_remotes(&mut args, command.min, network);
    let remotes = shuffled(remotes.split(','));
    let tells = command.name == "wait";
    if tells {
        tracing::info!(target: "reconnect", "{}: connecting...", remotes[0]);
    }
    // With several servers, the database must be named first, to be looked for.
    let wanted = match command.need {
        Need::Database if remotes.len() > 1 && args.len() > command.min => Some(args[0].as_str()),
        _ => None,
    };
    let mut rpc = Rpc::open(network, &remotes, wanted, leader_only).await?;
    if tells {
        tracing::info!(target: "reconnect", "{}: connected", remotes[0]);
    }
    let database = match command.need {
        Need::Connection => String::new(),
        Need::Database if remotes.len() == 1 => take_database(&mut rpc, &mut args, command.min).await?,
        Need::Database if args.len() > command.min => args.remove(0),
        Need::Database => return Err("database name is required with multiple remotes".to_owned()),
    };
    if !(command.min..=command.max).contains(&args.len()) {
        return Err(format!("invalid syntax for '{}' (use --help for help)", command.name));
    }
    if aware == Some(true) {
        commands::tell_aware(&mut rpc, true).await?;
    }
    let command_name = command.name;
    let mut session = Session {
        rpc,
        database,
        args,
        command: command_name,
        style,
        timestamps,
        force,
        aware,
        orders,
        started,
    };
    (command.run)(&mut session).await
}

/// The first argument if it looks like a remote, else the default one.
fn take_remotes(args: &mut Vec<String>, min: usize, network: &Network) -> String {
    let is_remote = |word: &String| word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.contains(':');
    if args.len() > min && args.first().is_some_and(is_remote) {
        return args.remove(0);
    }
    format!("unix:{}", network.run_dir.join("db.sock").display())
}

/// The next argument if a database has that name, else `Open_vSwitch` or the only one that there is.
async fn take_database(rpc: &mut Rpc, args: &mut Vec<String>, min: usize) -> Result<String, Fatal> {
    let names = commands::databases(rpc).await?;
    if args.len() > min && args.first().is_some_and(|word| names.contains(word)) {
        return Ok(args.remove(0));
    }
    if names.iter().any(|name| name == "Open_vSwitch") {
        return Ok("Open_vSwitch".to_owned());
    }
    let mut own = names.into_iter().filter(|name| !name.starts_with('_'));
    match (own.next(), own.next()) {
        (Some(only), None) => Ok(only),
        _ => Err("could not find a default database, please specify a database name".to_owned()),
    }
}
