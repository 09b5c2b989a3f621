//! The commands of `ovs-dpctl` and of `ovs-appctl dpctl/*`: one table, one text, whoever asks.
//!
//! A command writes pieces of text, some of them errors: `ovs-dpctl` sends these to standard error, `ovs-appctl` gets
//! all in one reply. What datapaths there are, and how to make devices for them, is the [`Env`]'s business.
//!
//! * [`kernel`]: the datapaths that `ovs-dpctl` works on.
//! * [`show`]: `show`, `dump-dps` and caches.
//! * [`flows`]: dumps and changes of flows.
//! * [`ports`]: datapaths and their ports.
//! * [`ct`], [`ct_limit`], [`ipf`]: tracked connections, how many a zone may have, and fragments.
//! * [`actions`]: text of actions, for tests.

pub mod kernel;
pub mod show;
pub mod flows;
pub mod ports;
pub mod ct;
pub mod ct_limit;
pub mod ipf;
pub mod actions;

use crate::netdev::Netdev;
use crate::{Datapath, Error, PortInfo};
use ::flow::id::DpPort;
use ::flow::odp::PortNames;
use ::flow::time::Instant;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use sys::errno::Errno;

/// What the commands work on.
pub trait Env {
    /// Type and name of each datapath.
    fn datapaths(&self) -> Vec<(String, String)>;

    /// # Errors
    /// `EAFNOSUPPORT` for a type that there is not, `ENODEV` for a name.
    fn open(&self, kind: &str, name: &str) -> Result<Arc<dyn Datapath>, Error>;

    /// # Errors
    /// `EEXIST` if there is one of that name.
    fn create(&self, kind: &str, name: &str) -> Result<Arc<dyn Datapath>, Error>;

    fn delete(&self, kind: &str, name: &str) -> Result<(), Error>;

    fn open_device(&self, name: &str, kind: &str) -> Result<Arc<dyn Netdev>, Error>;

    fn now(&self) -> Instant;

    /// Whether a configuration of somebody's own sets how many connections zones of a datapath may have.
    fn limits_protected(&self, _kind: &str, _name: &str) -> bool {
        false
    }

    /// Why datapaths of some type could not be listed. It matters only if there are none of another type.
    fn listing_error(&self) -> Option<Error> {
        None
    }
}

/// How a command was asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// By `ovs-appctl`, not by `ovs-dpctl`.
    pub appctl: bool,
    /// Port names instead of numbers; by default when verbose.
    pub names: Option<bool>,
    /// How often `-m` was given.
    pub verbosity: u32,
    /// `-s`: statistics, too.
    pub statistics: bool,
    /// `--clear`: a changed flow's statistics begin at zero.
    pub zero_statistics: bool,
    /// `--may-create`: a flow that is to be changed may be made.
    pub may_create: bool,
    /// `--why`: where each flow is, and why.
    pub why: bool,
    /// `--read-only`: refuse what changes anything.
    pub read_only: bool,
    /// The program's name, for errors.
    pub program: String,
}

impl Options {
    fn names(&self) -> bool {
        self.names.unwrap_or(self.verbosity > 0)
    }

    /// Takes an option as `ovs-appctl` passes it on; an error is the reply.
    pub fn take(&mut self, option: &str) -> Result<(), String> {
        match option {
            "--statistics" => self.statistics = true,
            "--clear" => self.zero_statistics = true,
            "--may-create" => self.may_create = true,
            "--more" => self.verbosity += 1,
            "--why" => self.why = true,
            "--names" => self.names = Some(true),
            "--no-names" => self.names = Some(false),
            long if long.starts_with("--") => return Err(format!("Unrecognized option {long}")),
            short => {
                for letter in short.chars().skip(1) {
                    match letter {
                        'm' => self.verbosity += 1,
                        's' => self.statistics = true,
                        letter => return Err(format!("Unrecognized option -{letter}")),
                    }
                }
            }
        }
        Ok(())
    }
}

/// A piece of what a command says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    pub error: bool,
    pub text: String,
}

/// A command that failed; what there is to say has been said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed;

/// What a handler gives.
pub type Done = Result<(), Failed>;

/// One command.
pub struct Command {
    pub name: &'static str,
    pub usage: &'static str,
    pub min_args: usize,
    pub max_args: usize,
    /// It changes something.
    pub writes: bool,
    run: fn(&mut Session<'_>, &[&str]) -> Done,
}

const MANY: usize = usize::MAX;

const fn ro(name: &'static str, usage: &'static str, args: (usize, usize), run: Handler) -> Command {
    Command { name, usage, min_args: args.0, max_args: args.1, writes: false, run }
}

const fn rw(name: &'static str, usage: &'static str, args: (usize, usize), run: Handler) -> Command {
    Command { name, usage, min_args: args.0, max_args: args.1, writes: true, run }
}

type Handler = fn(&mut Session<'_>, &[&str]) -> Done;

/// Every command, in the order of `list-commands`.
pub static COMMANDS: &[Command] = &[
    rw("add-dp", "dp [iface...]", (1, MANY), ports::add_dp),
    rw("del-dp", "dp", (1, 1), ports::del_dp),
    rw("add-if", "dp iface...", (2, MANY), ports::add_if),
    rw("del-if", "dp iface...", (2, MANY), ports::del_if),
    rw("set-if", "dp iface...", (2, MANY), ports::set_if),
    ro("dump-dps", "", (0, 0), show::dump_dps),
    ro("show", "[-s] [dp...]", (0, MANY), show::show),
    ro("dump-flows", "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]", (0, 6), flows::dump),
    rw("add-flow", "[dp] flow actions", (2, 3), flows::add),
    rw("mod-flow", "[dp] flow actions", (2, 3), flows::modify),
    ro("get-flow", "[dp] ufid", (1, 2), flows::get),
    rw("del-flow", "[dp] flow", (1, 2), flows::delete),
    rw("add-flows", "[dp] file", (1, 2), flows::add_file),
    rw("mod-flows", "[dp] file", (1, 2), flows::modify_file),
    rw("del-flows", "[dp] [file]", (0, 2), flows::delete_all),
    ro("offload-stats-show", "[dp]", (0, 1), show::offload_stats),
    ro("dump-conntrack", "[-m] [-s] [dp] [zone=N]", (0, 4), ct::dump),
    ro("dump-conntrack-exp", "[dp] [zone=N]", (0, 2), ct::dump_expectations),
    rw(
        "flush-conntrack",
        "[dp] [zone=N] [mark=X[/M]] [labels=Y[/N]] [ct-orig-tuple [ct-reply-tuple]]",
        (0, 6),
        ct::flush_connections,
    ),
    ro("cache-get-size", "[dp]", (0, 1), show::caches),
    rw("cache-set-size", "dp cache <size>", (3, 3), show::set_cache),
    ro("ct-stats-show", "[dp] [zone=N]", (0, 3), ct::stats),
    ro("ct-bkts", "[dp] [gt=N]", (0, 2), ct::buckets),
    rw("ct-set-maxconns", "[dp] maxconns", (1, 2), ct::set_max),
    ro("ct-get-maxconns", "[dp]", (0, 1), ct::get_max),
    ro("ct-get-nconns", "[dp]", (0, 1), ct::get_count),
    rw("ct-enable-tcp-seq-chk", "[dp]", (0, 1), ct::enable_seq_check),
    rw("ct-disable-tcp-seq-chk", "[dp]", (0, 1), ct::disable_seq_check),
    ro("ct-get-tcp-seq-chk", "[dp]", (0, 1), ct::get_seq_check),
    ro("ct-set-limits", "[dp] [default=L] [zone=N,limit=L]...", (1, MANY), ct_limit::set),
    ro("ct-del-limits", "[dp] [default] [zone=N1[,N2]...]", (1, 3), ct_limit::delete),
    ro("ct-get-limits", "[dp] [zone=N1[,N2]...]", (0, 2), ct_limit::get),
    ro("ct-get-sweep-interval", "[dp]", (0, 1), ct::get_sweep_interval),
    rw("ct-set-sweep-interval", "[dp] ms", (1, 2), ct::set_sweep_interval),
    rw("ipf-set-enabled", "[dp] v4|v6", (1, 2), ipf::enable),
    rw("ipf-set-disabled", "[dp] v4|v6", (1, 2), ipf::disable),
    rw("ipf-set-min-frag", "[dp] v4|v6 minfragment", (2, 3), ipf::set_min_size),
    rw("ipf-set-max-nfrags", "[dp] maxfrags", (1, 2), ipf::set_max_fragments),
    ro("ipf-get-status", "[dp]", (0, 1), ipf::status),
    ro("help", "", (0, MANY), |_, _| Ok(())),
    ro("list-commands", "", (0, MANY), list_commands),
    ro("parse-actions", "actions", (1, MANY), actions::parse),
    ro("normalize-actions", "actions", (2, MANY), actions::normalize),
];

/// What a command says.
#[derive(Clone, PartialEq, Debug)]
pub enum Said {
    Text(String),
    Json(Value),
}

/// Runs a `dpctl/*` command of `ovs-appctl`: options, then arguments. The reply is the text, an error reply if it
/// failed; with `json`, JSON from commands that have a shape for it. Whether the number of arguments fits has been checked.
pub fn appctl(
    env: &dyn Env,
    program: &str,
    command: &Command,
    args: &[&str],
    json: bool,
) -> Result<Said, String> {
    let mut options = Options { appctl: true, program: program.to_owned(), ..Options::default() };
    let mut args = args;
    while let [first, rest @ ..] = args
        && first.starts_with('-')
        && first.len() > 1
    {
        options.take(first)?;
        args = rest;
    }
    let mut session = Session { json, ..Session::new(env, options) };
    let done = (command.run)(&mut session, args);
    let text = session.pieces.into_iter().map(|piece| piece.text).collect();
    match session.value.filter(|_| done.is_ok()) {
        Some(value) => Ok(Said::Json(value)),
        None if done.is_ok() => Ok(Said::Text(text)),
        None => Err(text),
    }
}

/// Runs a command line of `ovs-dpctl`, without program name and options.
pub fn run(env: &dyn Env, options: Options, args: &[&str]) -> (Vec<Piece>, Done) {
    let mut session = Session::new(env, options);
    let done = session.run(args);
    (session.pieces, done)
}

fn list_commands(session: &mut Session<'_>, _: &[&str]) -> Done {
    let appctl = session.options.appctl;
    session.print("The available commands are:\n");
    for command in COMMANDS.iter().filter(|command| !(appctl && command.name == "help")) {
        let prefix = if appctl { "dpctl/" } else { "" };
        session.print(format!("  {prefix}{:<23} {}\n", command.name, command.usage));
    }
    Ok(())
}

/// A running command.
pub struct Session<'a> {
    env: &'a dyn Env,
    options: Options,
    pieces: Vec<Piece>,
    /// The client reads JSON, where there is a shape for it.
    json: bool,
    /// What there is to say, in that shape.
    value: Option<Value>,
}

impl<'a> Session<'a> {
    fn new(env: &'a dyn Env, options: Options) -> Self {
        Self { env, options, pieces: Vec::new(), json: false, value: None }
    }

    fn run(&mut self, args: &[&str]) -> Done {
        let [name, args @ ..] = args else {
            return self.fail(None, "missing command name; use --help for help");
        };
        let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
            return self.fail(None, format!("unknown command '{name}'; use --help for help"));
        };
        if args.len() < command.min_args {
            self.fail(None, format!("'{name}' command requires at least {} arguments", command.min_args))
        } else if args.len() > command.max_args {
            self.fail(None, format!("'{name}' command takes at most {} arguments", command.max_args))
        } else if command.writes && self.options.read_only {
            self.fail(None, format!("'{name}' command does not work in read only mode"))
        } else {
            (command.run)(self, args)
        }
    }

    fn print(&mut self, text: impl Into<String>) {
        self.pieces.push(Piece { error: false, text: text.into() });
    }

    /// Says what is wrong.
    fn error(&mut self, errno: Option<Errno>, text: impl AsRef<str>) {
        let cause = errno.map_or(String::new(), |errno| format!(" ({errno})"));
        let text = format!("{}: {}{cause}\n", self.options.program, text.as_ref());
        self.pieces.push(Piece { error: true, text });
    }

    /// Says what is wrong, and fails.
    fn fail<T>(&mut self, errno: Option<Errno>, text: impl AsRef<str>) -> Result<T, Failed> {
        self.error(errno, text);
        Err(Failed)
    }

    /// The datapath called `type@name`, or `name` of type `system`.
    fn open_named(&self, arg: &str) -> Result<Arc<dyn Datapath>, Error> {
        let (kind, name) = split_name(arg);
        self.env.open(kind, name)
    }

    fn exists(&self, arg: &str) -> bool {
        let (kind, name) = split_name(arg);
        self.env.datapaths().iter().any(|(a_kind, a_name)| a_kind == kind && a_name == name)
    }

    /// The datapath of an optional first argument, or the only one. With `max_args` arguments (counting the command,
    /// as the specification does) the first one must be a datapath.
    fn open(&mut self, args: &[&str], max_args: usize) -> Result<Arc<dyn Datapath>, Failed> {
        let name = match args.first() {
            Some(first) if self.exists(first) => Some((*first).to_owned()),
            _ if args.len() + 1 != max_args => self.only_datapath(),
            _ => None,
        };
        let Some(name) = name else { return self.fail(Some(Errno::EINVAL), "datapath not found") };
        self.open_named(&name).or_else(|error| self.fail(Some(error.errno()), "opening datapath"))
    }

    fn only_datapath(&mut self) -> Option<String> {
        match &self.env.datapaths()[..] {
            [(kind, name)] => return Some(format!("{kind}@{name}")),
            [] => self.error(None, "no datapaths exist"),
            _ => self.error(None, "multiple datapaths, specify one"),
        }
        None
    }

    /// The device of a port: the datapath's own, or else one of that name and type.
    fn device(&self, datapath: &dyn Datapath, port: &PortInfo) -> Result<Arc<dyn Netdev>, Error> {
        datapath.port_device(port.number).or_else(|_| self.env.open_device(&port.name, &port.kind))
    }

    /// Names of ports, if they are to be printed.
    fn shown_names(&self, datapath: &dyn Datapath) -> Names {
        if self.options.names() { Names::of(datapath) } else { Names::default() }
    }
}

/// The decimal number that `text` begins with; what follows does not matter.
fn leading_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Type and name of `type@name`.
fn split_name(arg: &str) -> (&str, &str) {
    arg.split_once('@').unwrap_or(("system", arg))
}

/// `type@name`.
fn full_name(datapath: &dyn Datapath) -> String {
    format!("{}@{}", datapath.kind(), datapath.name())
}

/// The ports of a datapath by number.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<DpPort, String>);

impl Names {
    pub fn of(datapath: &dyn Datapath) -> Self {
        Self(datapath.ports().into_iter().map(|port| (port.number, port.name)).collect())
    }
}

impl PortNames for Names {
    fn name(&self, port: DpPort) -> Option<String> {
        self.0.name(port)
    }

    fn port(&self, name: &str) -> Option<DpPort> {
        self.0.port(name)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An environment without datapaths.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct NoDatapaths;

    impl Env for NoDatapaths {
        fn datapaths(&self) -> Vec<(String, String)> {
            Vec::new()
        }

        fn open(&self, _: &str, _: &str) -> Result<Arc<dyn Datapath>, Error> {
            Err(Errno::ENODEV.into())
        }

        fn create(&self, kind: &str, name: &str) -> Result<Arc<dyn Datapath>, Error> {
            self.open(kind, name)
        }

        fn delete(&self, kind: &str, name: &str) -> Result<(), Error> {
            self.open(kind, name).map(|_| ())
        }

        fn open_device(&self, _: &str, _: &str) -> Result<Arc<dyn Netdev>, Error> {
            Err(Errno::EAFNOSUPPORT.into())
        }

        fn now(&self) -> Instant {
            Instant::ZERO
        }
    }

    #[test]
    fn commands_without_a_datapath() {
        let said = |args: &[&str]| {
            let options = Options { program: "ovs-dpctl".to_owned(), ..Options::default() };
            let (pieces, done) = run(&NoDatapaths, options, args);
            (pieces.into_iter().map(|piece| piece.text).collect::<String>(), done)
        };
        let missing = "ovs-dpctl: no datapaths exist\novs-dpctl: datapath not found (Invalid argument)\n";
        for (args, text) in [
            (&["dump-conntrack", "zone=5"][..], missing.to_owned()),
            (&["ct-get-maxconns"], missing.to_owned()),
            (&["flush-conntrack"], format!("{missing}ovs-dpctl: Cannot open dpif (Invalid argument)\n")),
            (
                &["flush-conntrack", "zone=x"],
                "ovs-dpctl: failed to parse zone (Invalid argument)\n".to_owned(),
            ),
            (
                &["ct-set-limits"],
                "ovs-dpctl: 'ct-set-limits' command requires at least 1 arguments\n".to_owned(),
            ),
            (&["show", "x"], "ovs-dpctl: opening datapath x failed (No such device)\n".to_owned()),
            (&["cache-get-size", "x"], "ovs-dpctl: Opening datapath x failed (No such device)\n".to_owned()),
            (
                &["cache-set-size", "x", "masks-cache", "y"],
                "ovs-dpctl: size is malformed (Invalid argument)\n".to_owned(),
            ),
        ] {
            assert_eq!(said(args), (text, Err(Failed)), "{args:?}");
        }
        assert_eq!(said(&["dump-dps"]), (String::new(), Ok(())));
    }
}
