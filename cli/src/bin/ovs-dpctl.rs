//! `ovs-dpctl`: the datapath commands without a switch, on the kernel's datapaths. Commands on text (`parse-actions`,
//! `normalize-actions`) need none.
#![forbid(unsafe_code)]

use daemon::clock::SystemClock;
use daemon::dirs::Dirs;
use daemon::options::{self, Arg, Groups, Program, Row};
use daemon::program;
use datapath::dpctl::kernel::KernelDatapaths;
use datapath::dpctl::{self, Options};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "ovs-dpctl";

#[derive(Clone, Copy)]
enum Opt {
    Statistics,
    Clear,
    MayCreate,
    ReadOnly,
    More,
    Names,
    NoNames,
    Timeout,
}

static PROGRAM: Program<Opt> = Program {
    name: NAME,
    options: &[
        Row::new("statistics", Some('s'), Arg::No, Opt::Statistics),
        Row::new("clear", None, Arg::No, Opt::Clear),
        Row::new("may-create", None, Arg::No, Opt::MayCreate),
        Row::new("read-only", None, Arg::No, Opt::ReadOnly),
        Row::new("more", Some('m'), Arg::No, Opt::More),
        Row::new("names", None, Arg::No, Opt::Names),
        Row::new("no-names", None, Arg::No, Opt::NoNames),
        Row::new("timeout", Some('t'), Arg::Required, Opt::Timeout),
    ],
    groups: Groups::TOOL,
    stop_at_argument: false,
    usage,
};

/// The head of `--help`, before logging options.
const COMMANDS: &str = "  add-dp DP [IFACE...]     add new datapath DP (with IFACEs)
  del-dp DP                delete local datapath DP
  add-if DP IFACE...       add each IFACE as a port on DP
  set-if DP IFACE...       reconfigure each IFACE within DP
  del-if DP IFACE...       delete each IFACE from DP
  dump-dps                 display names of all datapaths
  show                     show basic info on all datapaths
  show DP...               show basic info on each DP
  dump-flows [DP]          display flows in DP
  add-flow [DP] FLOW ACTIONS add FLOW with ACTIONS to DP
  add-flows [DP] FILE        add flows from FILE
  mod-flow [DP] FLOW ACTIONS change FLOW actions to ACTIONS in DP
  mod-flows [DP] FILE        change flows from FILE
  get-flow [DP] ufid:UFID    fetch flow corresponding to UFID
  del-flow [DP] FLOW         delete FLOW from DP
  del-flows [DP] [FILE]      delete all or specified flows from DP
  cache-get-size [DP]             Show the current size for all caches
  cache-set-size DP CACHE SIZE  Set cache size for a specific cache
  dump-conntrack [DP] [zone=ZONE]  display conntrack entries for ZONE
  flush-conntrack [DP] [zone=ZONE] [ct-tuple]delete matched conntrack entries in ZONE
  ct-stats-show [DP] [zone=ZONE] [verbose] CT connections grouped by protocol
  ct-bkts [DP] [gt=N] display connections per CT bucket
Each IFACE on add-dp, add-if, and set-if may be followed by
comma-separated options.  See ovs-dpctl(8) for syntax, or the
Interface table in ovs-vswitchd.conf.db(5) for an options list.
For COMMAND dump-flows, add-flow, add-flows, mod-flow,
mod-flows, del-flow and del-flows, DP is optional if there is
only one datapath.
";

/// The rest of `--help`.
const OPTIONS: &str = "
Options for show and mod-flow:
  -s,  --statistics           print statistics for port or flow

Options for dump-flows:
  -m, --more                  increase verbosity of output
  --names                     use port names in output

Options for mod-flow:
  --may-create                create flow if it doesn't exist
  --read-only                 do not run read/write commands
  --clear                     reset existing stats to zero

Other options:
  -t, --timeout=SECS          give up after SECS seconds
  -h, --help                  display this help message
  -V, --version               display version information
";

fn usage(dirs: &Dirs) -> String {
    let logging = options::help::logging(NAME, dirs);
    format!(
        "{NAME}: Open vSwitch datapath management utility\nusage: {NAME} [OPTIONS] COMMAND [ARG...]\n\
         {COMMANDS}{logging}{OPTIONS}"
    )
}

/// Ends the process when the time is up, as the alarm's signal would.
fn give_up_after(text: Option<&str>) {
    let text = text.unwrap_or_default();
    match text.parse().ok().filter(|&secs: &u64| secs > 0) {
        Some(secs) => drop(std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(secs));
            std::process::exit(142);
        })),
        None => options::fatal(NAME, &format!("value {text} on -t or --timeout is invalid")),
    }
}

fn main() -> ExitCode {
    let started = program::read(&PROGRAM);
    let mut options = Options { program: NAME.to_owned(), ..Options::default() };
    for (option, value) in &started.own {
        match option {
            Opt::Statistics => options.statistics = true,
            Opt::Clear => options.zero_statistics = true,
            Opt::MayCreate => options.may_create = true,
            Opt::ReadOnly => options.read_only = true,
            Opt::More => options.verbosity += 1,
            Opt::Names => options.names = Some(true),
            Opt::NoNames => options.names = Some(false),
            Opt::Timeout => give_up_after(value.as_deref()),
        }
    }
    if started.args.first().is_some_and(|command| command == "help") {
        print!("{}", usage(&started.dirs));
        return ExitCode::SUCCESS;
    }
    let args: Vec<&str> = started.args.iter().map(String::as_str).collect();
    let (pieces, done) = dpctl::run(&KernelDatapaths::new(Arc::new(SystemClock::new())), options, &args);
    for piece in pieces {
        // A closed pipe is nothing to complain of.
        let _ = if piece.error {
            std::io::stderr().write_all(piece.text.as_bytes())
        } else {
            std::io::stdout().write_all(piece.text.as_bytes())
        };
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
