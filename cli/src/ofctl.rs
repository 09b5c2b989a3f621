//! `ovs-ofctl`: speaks OpenFlow to a switch, and tests the text and wire of OpenFlow without one.
//!
//! A tour: [`options`] is the command line; [`vconn`] a connection; [`remote`] what all commands do with one; then the
//! commands by what they are about. `COMMANDS` is the table of them.
//!
//! Reference: ovs-ofctl(8).

pub mod color;
pub mod options;
pub mod vconn;
pub mod remote;

mod bundles;
mod flows;
mod groups;
mod meters;
mod monitor;
mod offline;
mod packets;
pub mod pcap;
mod sort;
mod switch;
mod sync;
mod tables;

use std::process::exit;

use daemon::options::fatal;
use options::Options;

/// The program's name.
pub const PROGRAM: &str = "ovs-ofctl";

const MANUAL: &str = include_str!("../../docs/man/source/ovs-ofctl.8.txt");

/// Why a command ends the program.
#[derive(Debug)]
pub enum Fatal {
    /// With this text on standard error and status 1.
    Text(String),
    /// With this line in the log, of a module, and status 1.
    Log(&'static str, String),
    /// With this status, and nothing to say.
    Exit(i32),
}

/// What a command gives.
pub type Outcome<T = ()> = Result<T, Fatal>;

impl From<openflow::text::ParseError> for Fatal {
    fn from(error: openflow::text::ParseError) -> Self {
        Self::Text(error.0)
    }
}

/// Prints on standard output. That nobody may read it any more is no reason to stop.
macro_rules! say {
    ($($arg:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!($($arg)*));
    }};
}
pub(crate) use say;

/// Prints a line on standard output.
macro_rules! sayln {
    ($($arg:tt)*) => { $crate::ofctl::say!("{}\n", format_args!($($arg)*)) };
}
pub(crate) use sayln;

/// Ends the command with a text.
macro_rules! die {
    ($($arg:tt)*) => { return Err($crate::ofctl::Fatal::Text(format!($($arg)*))) };
}
pub(crate) use die;

/// A command line that runs: its options and the rest of its words.
pub struct Context {
    pub options: Options,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// What was learned of switches.
    pub known: remote::Known,
    /// Where transaction ids come from.
    pub xids: vconn::Xids,
}

impl Context {
    /// The argument of that number (the command itself is 0), or nothing.
    pub fn arg(&self, n: usize) -> &str {
        self.args.get(n).map_or("", String::as_str)
    }

    /// The argument of that number, if it was given.
    pub fn optional(&self, n: usize) -> Option<&str> {
        self.args.get(n).map(String::as_str)
    }
}

/// Whether a command changes the switch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    ReadOnly,
    ReadWrite,
}

/// A command.
struct Command {
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: fn(&mut Context) -> Outcome,
    mode: Mode,
}

const fn ro(
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: fn(&mut Context) -> Outcome,
) -> Command {
    Command { name, usage, min, max, run, mode: Mode::ReadOnly }
}

const fn rw(
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: fn(&mut Context) -> Outcome,
) -> Command {
    Command { name, usage, min, max, run, mode: Mode::ReadWrite }
}

const ANY: usize = usize::MAX;

/// Commands in the order in which `list-commands` prints them. Those without usage are for tests.
static COMMANDS: &[Command] = &[
    ro("show", "switch", 1, 1, switch::show),
    ro("monitor", "switch [misslen] [invalid_ttl] [watch:[...]]", 1, 3, monitor::monitor),
    ro("snoop", "switch", 1, 1, monitor::snoop),
    ro("dump-desc", "switch", 1, 1, switch::dump_desc),
    ro("dump-tables", "switch", 1, 1, tables::dump_tables),
    ro("dump-table-features", "switch", 1, 1, tables::dump_features),
    ro("dump-table-desc", "switch", 1, 1, tables::dump_desc),
    ro("dump-flows", "switch", 1, 2, flows::dump_flows),
    ro("dump-aggregate", "switch", 1, 2, flows::dump_aggregate),
    ro("queue-stats", "switch [port [queue]]", 1, 3, switch::queue_stats),
    ro("queue-get-config", "switch [port [queue]]", 1, 3, switch::queue_get_config),
    rw("add-flow", "switch flow", 2, 2, flows::add_flow),
    rw("add-flows", "switch file", 2, 2, flows::add_flows),
    rw("mod-flows", "switch flow", 2, 2, flows::mod_flows),
    rw("del-flows", "switch [flow]", 1, 2, flows::del_flows),
    rw("replace-flows", "switch file", 2, 2, sync::replace_flows),
    rw("diff-flows", "source1 source2", 2, 2, sync::diff_flows),
    rw("add-meter", "switch meter", 2, 2, meters::add),
    rw("mod-meter", "switch meter", 2, 2, meters::modify),
    rw("del-meter", "switch meter", 1, 2, meters::delete),
    rw("del-meters", "switch", 1, 2, meters::delete),
    ro("dump-meter", "switch meter", 1, 2, meters::dump),
    ro("dump-meters", "switch", 1, 2, meters::dump),
    ro("meter-stats", "switch [meter]", 1, 2, meters::stats),
    ro("meter-features", "switch", 1, 1, meters::features),
    rw("packet-out", "switch \"in_port=<port> packet=<hex data> actions=...\"", 2, ANY, packets::packet_out),
    ro("dump-ports", "switch [port]", 1, 2, switch::dump_ports),
    ro("dump-ports-desc", "switch [port]", 1, 2, switch::dump_ports_desc),
    rw("mod-port", "switch iface act", 3, 3, switch::mod_port),
    rw("mod-table", "switch mod", 3, 3, tables::mod_table),
    ro("get-frags", "switch", 1, 1, switch::get_frags),
    rw("set-frags", "switch frag_mode", 2, 2, switch::set_frags),
    ro("probe", "target", 1, 1, switch::probe),
    ro("ping", "target [n]", 1, 2, switch::ping),
    ro("benchmark", "target n count", 3, 3, switch::benchmark),
    ro("dump-ipfix-bridge", "switch", 1, 1, switch::dump_ipfix_bridge),
    ro("dump-ipfix-flow", "switch", 1, 1, switch::dump_ipfix_flow),
    rw("ct-flush-zone", "switch zone", 2, 2, switch::ct_flush_zone),
    rw(
        "ct-flush",
        "switch [zone=N] [mark=X[/M]] [labels=Y[/N]] [ct-orig-tuple [ct-reply-tuple]]",
        1,
        6,
        switch::ct_flush,
    ),
    rw("ofp-parse", "file", 1, 1, packets::ofp_parse),
    rw("ofp-parse-pcap", "pcap", 1, ANY, packets::ofp_parse_pcap),
    rw("add-group", "switch group", 1, 2, groups::add),
    rw("add-groups", "switch file", 2, 2, groups::add_file),
    rw("mod-group", "switch group", 1, 2, groups::modify),
    rw("del-groups", "switch [group]", 1, 2, groups::delete),
    rw("insert-buckets", "switch [group]", 1, 2, groups::insert_buckets),
    rw("remove-buckets", "switch [group]", 1, 2, groups::remove_buckets),
    ro("dump-groups", "switch [group]", 1, 2, groups::dump),
    ro("dump-group-stats", "switch [group]", 1, 2, groups::stats),
    ro("dump-group-features", "switch", 1, 1, groups::features),
    rw("bundle", "switch file", 2, 2, bundles::bundle),
    ro("add-tlv-map", "switch map", 2, 2, switch::add_tlv_map),
    ro("del-tlv-map", "switch [map]", 1, 2, switch::del_tlv_map),
    ro("dump-tlv-map", "switch", 1, 1, switch::dump_tlv_map),
    ro("help", "", 0, ANY, help),
    ro("list-commands", "", 0, ANY, list_commands),
    rw("parse-flow", "", 1, 1, offline::parse_flow),
    rw("parse-flows", "", 1, 1, offline::parse_flows),
    rw("parse-group", "", 1, 1, offline::parse_group),
    rw("parse-nx-match", "", 0, 0, offline::parse_nxm),
    rw("parse-nxm", "", 0, 0, offline::parse_nxm),
    rw("parse-oxm", "", 1, 1, offline::parse_oxm),
    rw("parse-actions", "", 1, 1, offline::parse_actions),
    rw("parse-instructions", "", 1, 1, offline::parse_instructions),
    rw("parse-ofp10-match", "", 0, 0, offline::parse_ofp10_match),
    rw("parse-ofp11-match", "", 0, 0, offline::parse_ofp11_match),
    rw("parse-pcap", "", 1, ANY, packets::parse_pcap),
    rw("check-vlan", "", 2, 2, offline::check_vlan),
    rw("print-error", "", 1, 1, offline::print_error),
    rw("encode-error-reply", "", 2, 2, offline::encode_error_reply),
    rw("ofp-print", "", 1, 2, offline::ofp_print),
    rw("encode-hello", "", 1, 1, offline::encode_hello),
    rw("parse-key-value", "", 1, ANY, offline::parse_key_value),
    ro("compose-packet", "", 1, 2, packets::compose_packet),
    ro("parse-packet", "", 0, 0, packets::parse_packet),
];

/// A moment in milliseconds since 1970 as UTC, to the millisecond, with its date or without.
fn timestamp(millis: i64, with_date: bool) -> String {
    let time = daemon::process::civil(millis.div_euclid(1000), true);
    let (h, m, s) = (time.hour, time.minute, time.second);
    let clock = format!("{h:02}:{m:02}:{s:02}.{:03}", millis.rem_euclid(1000));
    if with_date { format!("{}-{:02}-{:02} {clock}", time.year, time.month, time.day) } else { clock }
}

fn help(context: &mut Context) -> Outcome {
    say!("{}", daemon::manual::help(MANUAL, &context.options.dirs));
    Ok(())
}

/// How OVS prints its commands.
fn list_commands(_: &mut Context) -> Outcome {
    sayln!("The available commands are:");
    for Command { name, usage, .. } in COMMANDS {
        sayln!("  {name:<23} {usage}");
    }
    Ok(())
}

fn run(context: &mut Context) -> Outcome {
    let Some(name) = context.args.first() else { die!("missing command name; use --help for help") };
    let log = |text: String| Err(Fatal::Log("command_line", text));
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return log(format!("unknown command '{name}'; use --help for help"));
    };
    let n = context.args.len() - 1;
    if n < command.min {
        return log(format!("'{name}' command requires at least {} arguments", command.min));
    }
    if n > command.max {
        return log(format!("'{name}' command takes at most {} arguments", command.max));
    }
    if command.mode == Mode::ReadWrite && context.options.read_only {
        return log(format!("'{name}' command does not work in read only mode"));
    }
    (command.run)(context)
}

/// The program.
pub fn main() -> ! {
    let log = daemon::vlog::Logger::new(PROGRAM, daemon::clock::SystemClock::new());
    log.install();
    let parsed = options::from_command_line(log.clone());
    let result = parsed.and_then(|(options, args)| {
        let mut context = Context { options, args, known: Default::default(), xids: Default::default() };
        run(&mut context)
    });
    match result {
        Ok(()) => exit(0),
        Err(Fatal::Exit(status)) => exit(status),
        Err(Fatal::Text(text)) => fatal(PROGRAM, &text),
        Err(Fatal::Log(module, text)) => options::log_fatal(&log, module, &text),
    }
}
