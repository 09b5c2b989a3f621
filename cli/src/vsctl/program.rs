//! What `ovs-vsctl` knows of its database: how rows are named, what `show` shows, which commands there are.

use std::process::ExitCode;

use daemon::clock::SystemClock;
use daemon::dirs::Dirs;
use daemon::options::{Arg, Common, Groups, Parsed, Program, Row, help, parse, version_line};
use daemon::stream::tls::Tls;
use daemon::stream::{Network, OVSDB_PORT};
use daemon::vlog::{Destination, Level, Logger};
use ovsdb::output::{Format, Style};

use crate::ctl::names::{Naming, RowId};
use crate::ctl::records;
use crate::ctl::session::{Session, Settings};
use crate::ctl::show::ShowTable;
use crate::ctl::syntax::{Options, Stop, Syntax, all_options, listing};
use crate::fatal;
use crate::table_options::{self, TableOption};

use super::{autoattach, bridge, port, targets, zone};

/// All commands.
pub static COMMANDS: &[&[Syntax]] = &[
    records::COMMANDS,
    bridge::COMMANDS,
    port::COMMANDS,
    targets::COMMANDS,
    autoattach::COMMANDS,
    zone::COMMANDS,
];

macro_rules! row_ids {
    ($($table:literal: $($name_table:literal.$column:literal $(-> $refers:literal)?),+;)*) => {
        &[$(($table, &[$(RowId {
            name: ($name_table, $column),
            key: None,
            refers: row_ids!(@ $($refers)?),
        }),+])),*]
    };
    (@) => { None };
    (@ $refers:literal) => { Some($refers) };
}

/// How rows are named, besides by UUID.
pub static ROW_IDS: &[(&str, &[RowId])] = row_ids! {
    "Bridge": "Bridge"."name";
    "Controller": "Bridge"."name" -> "controller";
    "Interface": "Interface"."name";
    "Mirror": "Mirror"."name";
    "Manager": "Manager"."target";
    "NetFlow": "Bridge"."name" -> "netflow";
    "Port": "Port"."name";
    "QoS": "Port"."name" -> "qos";
    "sFlow": "Bridge"."name" -> "sflow";
    "Flow_Table": "Flow_Table"."name";
    "IPFIX": "Bridge"."name" -> "ipfix";
    "AutoAttach": "Bridge"."name" -> "auto_attach";
    "Flow_Sample_Collector_Set": "Flow_Sample_Collector_Set"."id";
};

macro_rules! show {
    ($($table:literal $name:expr, [$($column:literal),*];)*) => {
        &[$(ShowTable { table: $table, name: $name, columns: &[$($column),*], weak: None }),*]
    };
}

/// What `show` shows.
pub static SHOW: &[ShowTable] = show! {
    "Open_vSwitch" None, ["manager_options", "bridges", "ovs_version"];
    "Bridge" Some("name"), ["controller", "fail_mode", "datapath_type", "ports"];
    "Port" Some("name"), ["tag", "trunks", "interfaces"];
    "Interface" Some("name"), ["type", "options", "error", "bfd_status"];
    "Controller" Some("target"), ["is_connected"];
    "Manager" Some("target"), ["is_connected"];
};

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
    /// Which servers of a cluster to use and in which order.
    Remotes,
    Table(TableOption),
    /// An option of the first command, by its name with dashes.
    Local(&'static str),
}

fn option_rows() -> Vec<Row<Opt>> {
    let mut rows = vec![
        Row::new("db", None, Arg::Required, Opt::Db),
        Row::new("no-syslog", None, Arg::No, Opt::NoSyslog),
        Row::new("no-wait", None, Arg::No, Opt::NoWait),
        Row::new("dry-run", None, Arg::No, Opt::DryRun),
        Row::new("oneline", None, Arg::No, Opt::Oneline),
        Row::new("timeout", Some('t'), Arg::Required, Opt::Timeout),
        Row::new("retry", None, Arg::No, Opt::Retry),
        Row::new("commands", None, Arg::No, Opt::Commands),
        Row::new("options", None, Arg::No, Opt::Options),
        Row::new("leader-only", None, Arg::No, Opt::Remotes),
        Row::new("no-leader-only", None, Arg::No, Opt::Remotes),
        Row::new("shuffle-remotes", None, Arg::No, Opt::Remotes),
        Row::new("no-shuffle-remotes", None, Arg::No, Opt::Remotes),
        Row::new("version", Some('V'), Arg::No, Opt::Version),
    ];
    rows.extend(table_options::ROWS.iter().map(|row| row.with(Opt::Table(row.id))));
    for (name, mark) in all_options(COMMANDS) {
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
pub fn main() -> ExitCode {
    let dirs = Dirs::from_env();
    let log = Logger::new(NAME, SystemClock::new());
    log.set_level(None, Some(Destination::Console), Level::Warn);
    log.set_level(Some("reconnect"), None, Level::Warn);
    log.install();
    let program = Program {
        name: NAME,
        options: option_rows().leak(),
        groups: Groups::CLIENT,
        stop_at_argument: true,
        usage,
    };
    let Parsed { common, own, args } = parse(&program, &dirs, &log);
    let done = command_line(own, &dirs, &log).and_then(|line| run(line, &args, common, &dirs));
    match done {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(Stop::Exit(status)) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(Stop::Fatal(text)) => {
            log.set_level(Some("db_ctl_base"), Some(Destination::Console), Level::Off);
            tracing::error!(target: "db_ctl_base", "{text}");
            eprintln!("{NAME}: {text}");
            ExitCode::FAILURE
        }
    }
}

const NAME: &str = "ovs-vsctl";

fn command_line(own: Vec<(Opt, Option<String>)>, dirs: &Dirs, log: &Logger) -> Result<CommandLine, Stop> {
    let mut settings = Settings {
        warn: |text| tracing::warn!(target: "vsctl", "{text}"),
        remote: format!("unix:{}", dirs.in_run("db.sock").display()),
        schema: ovsdb::vswitch::schema(),
        root_table: "Open_vSwitch",
        wait: Some(("next_cfg", "cur_cfg")),
        retry: false,
        dry_run: false,
        oneline: false,
        style: Style { format: Format::List, ..Style::default() },
        comment: format!("ovs-vsctl{}: {}", invoked_by(), escaped_args()),
    };
    let (mut timeout, mut local) = (default_timeout()?, Options::new());
    for (option, value) in own {
        match option {
            Opt::Db => settings.remote = value.unwrap_or_default(),
            Opt::NoSyslog => log.set_level(Some("vsctl"), Some(Destination::Syslog), Level::Warn),
            Opt::NoWait => settings.wait = None,
            Opt::DryRun => settings.dry_run = true,
            Opt::Oneline => settings.oneline = true,
            Opt::Retry => settings.retry = true,
            // There is one server, or the remotes are tried in the order given.
            Opt::Remotes => {}
            Opt::Timeout => {
                let text = value.unwrap_or_default();
                match text.parse() {
                    Ok(secs) if secs > 0 => timeout = Some(secs),
                    _ => fatal!("value {text} on -t or --timeout is invalid"),
                }
            }
            Opt::Commands => {
                print!("{}", listing(COMMANDS));
                return Err(Stop::Exit(0));
            }
            Opt::Options => {
                print_options();
                return Err(Stop::Exit(0));
            }
            Opt::Version => {
                println!("{}\nDB Schema {}", version_line(NAME), ovsdb::vswitch::schema().version);
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

fn run(line: CommandLine, words: &[String], common: Common, dirs: &Dirs) -> Result<i32, Stop> {
    let commands = crate::ctl::syntax::parse(COMMANDS, words, line.local)?;
    if commands.iter().any(|command| command.syntax.writes) {
        tracing::info!(target: "vsctl", "Called as {}", escaped_args());
    } else {
        tracing::debug!(target: "vsctl", "Called as {}", escaped_args());
    }
    let naming = Naming { schema: line.settings.schema.clone(), row_ids: ROW_IDS, show: SHOW };
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
fn escaped_args() -> String {
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

/// ` (invoked by COMMAND (pid N))`, from the parent process.
fn invoked_by() -> String {
    let parent = std::os::unix::process::parent_id();
    let command = std::fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
    let command =
        String::from_utf8_lossy(command.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let command = if parent == 0 {
        "init".to_owned()
    } else {
        command.split('\0').next().unwrap_or_default().to_owned()
    };
    format!(" (invoked by {command} (pid {parent}))")
}

/// What `--options` prints, for the shell completion.
fn print_options() {
    for row in option_rows().iter().filter(|row| !matches!(row.id, Opt::Local(_))) {
        let takes = matches!(row.arg, Arg::Required);
        println!("--{}{}", row.long, if takes { "=ARG" } else { "" });
        if let Some(short) = row.short {
            println!("-{short}{}", if takes { " ARG" } else { "" });
        }
    }
}

fn usage(dirs: &Dirs) -> String {
    let mut tables = String::new();
    let schema = ovsdb::vswitch::schema();
    for name in schema.tables.keys() {
        tables.push_str(&format!("  {name}\n"));
    }
    format!(
        "{NAME}: ovs-vswitchd management utility\nusage: {NAME} [OPTIONS] COMMAND [ARG...]\n{COMMAND_HELP}\nDatabase \
         tables:\n{tables}\nOptions:\n  --db=DATABASE               connect to DATABASE\n                              \
         (default: unix:{})\n{OPTION_HELP}{}  --no-syslog             equivalent to \
         --verbose=vsctl:syslog:warn\n{}\nOther options:\n  -h, --help                  display this help \
         message\n  -V, --version               display version information\n",
        dirs.in_run("db.sock").display(),
        help::logging(NAME, dirs),
        help::connections("database", true, true),
    )
}

const OPTION_HELP: &str = "  --no-wait                   do not wait for ovs-vswitchd to reconfigure
  --retry                     keep trying to connect to server forever
  -t, --timeout=SECS          wait at most SECS seconds for ovs-vswitchd
  --dry-run                   do not commit changes to database
  --oneline                   print exactly one line of output per command

Output formatting options:
  -f, --format=FORMAT         set output formatting to FORMAT
                              (\"table\", \"html\", \"csv\", or \"json\")
  -d, --data=FORMAT           set table cell output formatting to
                              FORMAT (\"string\", \"bare\", or \"json\")
  --no-headings               omit table heading row
  --pretty                    pretty-print JSON in output
  --bare                      equivalent to \"--format=list --data=bare --no-headings\"
  --max-column-width=NUM      limit column widths to NUM
";

const COMMAND_HELP: &str = "
Open vSwitch commands:
  init                        initialize database, if not yet initialized
  show                        print overview of database contents
  emer-reset                  reset configuration to clean state

Bridge commands:
  add-br BRIDGE               create a new bridge named BRIDGE
  add-br BRIDGE PARENT VLAN   create new fake BRIDGE in PARENT on VLAN
  del-br BRIDGE               delete BRIDGE and all of its ports
  list-br                     print the names of all the bridges
  br-exists BRIDGE            exit 2 if BRIDGE does not exist
  br-to-vlan BRIDGE           print the VLAN which BRIDGE is on
  br-to-parent BRIDGE         print the parent of BRIDGE
  br-set-external-id BRIDGE KEY VALUE  set KEY on BRIDGE to VALUE
  br-set-external-id BRIDGE KEY  unset KEY on BRIDGE
  br-get-external-id BRIDGE KEY  print value of KEY on BRIDGE
  br-get-external-id BRIDGE  list key-value pairs on BRIDGE

Port commands (a bond is considered to be a single port):
  list-ports BRIDGE           print the names of all the ports on BRIDGE
  add-port BRIDGE PORT        add network device PORT to BRIDGE
  add-bond BRIDGE PORT IFACE...  add bonded port PORT in BRIDGE from IFACES
  del-port [BRIDGE] PORT      delete PORT (which may be bonded) from BRIDGE
  port-to-br PORT             print name of bridge that contains PORT

Interface commands (a bond consists of multiple interfaces):
  list-ifaces BRIDGE          print the names of all interfaces on BRIDGE
  iface-to-br IFACE           print name of bridge that contains IFACE

Controller commands:
  get-controller BRIDGE      print the controllers for BRIDGE
  del-controller BRIDGE      delete the controllers for BRIDGE
  [--inactivity-probe=MSECS]
  set-controller BRIDGE TARGET...  set the controllers for BRIDGE
  get-fail-mode BRIDGE       print the fail-mode for BRIDGE
  del-fail-mode BRIDGE       delete the fail-mode for BRIDGE
  set-fail-mode BRIDGE MODE  set the fail-mode for BRIDGE to MODE

Manager commands:
  get-manager                print the managers
  del-manager                delete the managers
  [--inactivity-probe=MSECS]
  set-manager TARGET...      set the list of managers to TARGET...

SSL/TLS commands:
  get-ssl                     print the SSL/TLS configuration
  del-ssl                     delete the SSL/TLS configuration
  set-ssl PRIV-KEY CERT CA-CERT  set the SSL/TLS configuration

Auto Attach commands:
  add-aa-mapping BRIDGE I-SID VLAN   add Auto Attach mapping to BRIDGE
  del-aa-mapping BRIDGE I-SID VLAN   delete Auto Attach mapping VLAN from BRIDGE
  get-aa-mapping BRIDGE              get Auto Attach mappings from BRIDGE

Switch commands:
  emer-reset                  reset switch to known good state

Connection Tracking commands:
  set-zone-limit DATAPATH ZONE|default LIMIT
                              set CT LIMIT for ZONE|default on DATAPATH
  del-zone-limit DATAPATH ZONE|default
                              delete CT limit for ZONE|default on DATAPATH
  list-zone-limits DATAPATH   list all limits configured on DATAPATH

Database commands:
  list TBL [REC]              list RECord (or all records) in TBL
  find TBL CONDITION...       list records satisfying CONDITION in TBL
  get TBL REC COL[:KEY]       print values of COLumns in RECord in TBL
  set TBL REC COL[:KEY]=VALUE set COLumn values in RECord in TBL
  add TBL REC COL [KEY=]VALUE add (KEY=)VALUE to COLumn in RECord in TBL
  remove TBL REC COL [KEY=]VALUE  remove (KEY=)VALUE from COLumn
  clear TBL REC COL           clear values from COLumn in RECord in TBL
  create TBL COL[:KEY]=VALUE  create and initialize new record
  destroy TBL REC             delete RECord from TBL
  wait-until TBL REC [COL[:KEY]=VALUE]  wait until condition is true
";
