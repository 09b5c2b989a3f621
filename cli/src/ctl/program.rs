//! The programs `ovs-vsctl` and `vtep-ctl` around their commands: options, log, time limit. What differs is a
//! [`Profile`].

use std::process::ExitCode;
use std::sync::Arc;

use daemon::clock::SystemClock;
use daemon::dirs::Dirs;
use daemon::options::{Arg, Common, Groups, Parsed, Program, Row, parse, version_line};
use daemon::stream::tls::Tls;
use daemon::stream::{Network, OVSDB_PORT};
use daemon::vlog::{Destination, Level, Logger};
use ovsdb::output::{Format, Style};
use ovsdb::schema::DatabaseSchema;

use super::names::{Naming, RowId};
use super::session::{Session, Settings};
use super::show::ShowTable;
use super::syntax::{Options, Stop, Syntax, all_options, listing};
use crate::fatal;
use crate::table_options::{self, TableOption};

/// What a program knows.
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// The name of its log module.
    pub module: &'static str,
    /// Logs a warning under that module.
    pub warn: fn(&str),
    /// Logs how it was called, and whether to change something, under that module.
    pub called: fn(&str, bool),
    /// Its commands.
    pub commands: &'static [&'static [Syntax]],
    /// How rows are named, besides by UUID.
    pub row_ids: &'static [(&'static str, &'static [RowId])],
    /// What `show` shows.
    pub show: &'static [ShowTable],
    /// Its database.
    pub schema: fn() -> Arc<DatabaseSchema>,
    /// The table that has one row.
    pub root_table: &'static str,
    /// What to wait for after a change, for a program that has a switch to wait for.
    pub wait: Option<(&'static str, &'static str)>,
    /// The comment in the database's journal.
    pub comment: fn() -> String,
    /// The source of its manual.
    pub manual: &'static str,
}

/// The program's own options, besides those of commands.
#[derive(Clone, Copy)]
enum Opt {
    Db,
    NoSyslog,
    NoWait,
    DryRun,
    Oneline,
    Timeout,
    Retry,
    Commands,
    Options,
    Version,
    /// Whether only the leader of a cluster will do.
    LeaderOnly(bool),
    /// Whether servers are tried in an order of chance.
    Shuffle(bool),
    Table(TableOption),
    /// An option of the first command, by its name with dashes.
    Local(&'static str),
}

fn option_rows(profile: &Profile) -> Vec<Row<Opt>> {
    let mut rows = vec![
        Row::new("db", None, Arg::Required, Opt::Db),
        Row::new("no-syslog", None, Arg::No, Opt::NoSyslog),
        Row::new("dry-run", None, Arg::No, Opt::DryRun),
        Row::new("oneline", None, Arg::No, Opt::Oneline),
        Row::new("timeout", Some('t'), Arg::Required, Opt::Timeout),
        Row::new("version", Some('V'), Arg::No, Opt::Version),
    ];
    if profile.wait.is_some() {
        rows.extend([
            Row::new("no-wait", None, Arg::No, Opt::NoWait),
            Row::new("retry", None, Arg::No, Opt::Retry),
            Row::new("commands", None, Arg::No, Opt::Commands),
            Row::new("options", None, Arg::No, Opt::Options),
            Row::new("leader-only", None, Arg::No, Opt::LeaderOnly(true)),
            Row::new("no-leader-only", None, Arg::No, Opt::LeaderOnly(false)),
            Row::new("shuffle-remotes", None, Arg::No, Opt::Shuffle(true)),
            Row::new("no-shuffle-remotes", None, Arg::No, Opt::Shuffle(false)),
        ]);
    }
    rows.extend(table_options::ROWS.iter().map(|row| row.with(Opt::Table(row.id))));
    for (name, mark) in all_options(profile.commands) {
        let arg = match mark {
            "=" => Arg::Required,
            "?" => Arg::Optional,
            _ => Arg::No,
        };
        let dashed: &'static str = Box::leak(format!("--{name}").into_boxed_str());
        rows.push(Row::new(name, None, arg, Opt::Local(dashed)));
    }
    rows
}

/// What the command line says, apart from the commands.
struct CommandLine {
    settings: Settings,
    timeout: Option<u32>,
    local: Options,
}

/// Runs the program; returns its exit status.
pub fn main(profile: &'static Profile) -> ExitCode {
    let dirs = Dirs::from_env();
    let log = Logger::new(profile.name, SystemClock::new());
    log.set_level(None, Some(Destination::Console), Level::Warn);
    log.set_level(Some("reconnect"), None, Level::Warn);
    log.install();
    let program = Program {
        name: profile.name,
        options: option_rows(profile).leak(),
        groups: Groups::CLIENT,
        stop_at_argument: true,
        manual: profile.manual,
    };
    let Parsed { common, own, args } = parse(&program, &dirs, &log);
    let done =
        command_line(profile, own, &dirs, &log).and_then(|line| run(profile, line, &args, common, &dirs));
    match done {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(Stop::Exit(status)) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(Stop::Fatal(text)) => {
            log.set_level(Some("db_ctl_base"), Some(Destination::Console), Level::Off);
            tracing::error!(target: "db_ctl_base", "{text}");
            eprintln!("{}: {text}", profile.name);
            ExitCode::FAILURE
        }
    }
}

fn command_line(
    profile: &Profile,
    own: Vec<(Opt, Option<String>)>,
    dirs: &Dirs,
    log: &Logger,
) -> Result<CommandLine, Stop> {
    let mut settings = Settings {
        warn: profile.warn,
        remote: format!("unix:{}", dirs.in_run("db.sock").display()),
        leader_only: true,
        shuffles: true,
        schema: (profile.schema)(),
        root_table: profile.root_table,
        wait: profile.wait,
        retry: false,
        dry_run: false,
        oneline: false,
        style: Style { format: Format::List, ..Style::default() },
        comment: (profile.comment)(),
    };
    let (mut timeout, mut local) = (default_timeout()?, Options::new());
    for (option, value) in own {
        match option {
            Opt::Db => settings.remote = value.unwrap_or_default(),
            Opt::NoSyslog => log.set_level(Some(profile.module), Some(Destination::Syslog), Level::Warn),
            Opt::NoWait => settings.wait = None,
            Opt::DryRun => settings.dry_run = true,
            Opt::Oneline => settings.oneline = true,
            Opt::Retry => settings.retry = true,
            Opt::LeaderOnly(wanted) => settings.leader_only = wanted,
            Opt::Shuffle(wanted) => settings.shuffles = wanted,
            Opt::Timeout => {
                let text = value.unwrap_or_default();
                match text.parse() {
                    Ok(secs) if secs > 0 => timeout = Some(secs),
                    _ => fatal!("value {text} on -t or --timeout is invalid"),
                }
            }
            Opt::Commands => {
                print!("{}", listing(profile.commands));
                return Err(Stop::Exit(0));
            }
            Opt::Options => {
                print_options(profile);
                return Err(Stop::Exit(0));
            }
            Opt::Version => {
                println!("{}\nDB Schema {}", version_line(profile.name), (profile.schema)().version);
                println!("Turnout {}", env!("CARGO_PKG_VERSION"));
                return Err(Stop::Exit(0));
            }
            Opt::Table(option) => table_options::apply(&mut settings.style, option, value.as_deref())?,
            Opt::Local(name) => {
                if local.insert(name.to_owned(), value).is_some() {
                    fatal!("'{}' option specified multiple times", name.trim_start_matches('-'));
                }
            }
        }
    }
    Ok(CommandLine { settings, timeout, local })
}

/// The time limit that the environment sets (`OVS_CTL_TIMEOUT`, in seconds).
fn default_timeout() -> Result<Option<u32>, Stop> {
    match std::env::var("OVS_CTL_TIMEOUT") {
        Err(_) => Ok(None),
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => match text.parse::<u32>() {
            Ok(secs) => Ok(Some(secs).filter(|secs| *secs > 0)),
            Err(_) => fatal!("value {text} of OVS_CTL_TIMEOUT is invalid"),
        },
    }
}

fn run(
    profile: &'static Profile,
    line: CommandLine,
    words: &[String],
    common: Common,
    dirs: &Dirs,
) -> Result<i32, Stop> {
    let commands = super::syntax::parse(profile.commands, words, line.local)?;
    let writes = commands.iter().any(|command| command.syntax.writes);
    (profile.called)(&format!("Called as {}", escaped_args()), writes);
    let naming =
        Naming { schema: line.settings.schema.clone(), row_ids: profile.row_ids, show: profile.show };
    let network = Network { run_dir: dirs.run.clone(), default_port: OVSDB_PORT, tls: Tls::new(common.tls) };
    let session = Session::new(&line.settings, naming, network, &commands)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stop::Fatal(daemon::error_text(&error)))?;
    runtime.block_on(async {
        tokio::select! {
            status = session.run() => status,
            () = daemon::time_limit(line.timeout) => Err(Stop::Exit(1)),
        }
    })
}

/// The command line as a shell would take it.
pub fn escaped_args() -> String {
    let words = std::env::args().map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            return word;
        }
        let quoted: String = word
            .chars()
            .flat_map(|c| ['"', '\\', '$', '`'].contains(&c).then_some('\\').into_iter().chain([c]))
            .collect();
        format!("\"{quoted}\"")
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What `--options` prints, for the shell completion.
fn print_options(profile: &Profile) {
    for row in option_rows(profile).iter().filter(|row| !matches!(row.id, Opt::Local(_))) {
        let takes = matches!(row.arg, Arg::Required);
        println!("--{}{}", row.long, if takes { "=ARG" } else { "" });
        if let Some(short) = row.short {
            println!("-{short}{}", if takes { " ARG" } else { "" });
        }
    }
}
