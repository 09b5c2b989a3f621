//! The command line: GNU `getopt_long` behaviour, and the options that all programs share.
//!
//! A program lists its own options as rows of [`Row`], and [`parse`] adds the groups that it asks for. Common options are
//! applied in the order given, as OVS does; its own come back in [`Parsed::own`].

mod getopt;

pub use getopt::{Arg, Getopt, Item, Row};

use crate::detach;
use crate::dirs::Dirs;
use crate::manual;
use crate::stream::tls;
use crate::vlog::Logger;
use std::path::PathBuf;
use std::process::exit;

/// The line that `--version` and the command `version` answer with.
pub fn version_line(program: &str) -> String {
    format!("{program} (Open vSwitch) {}", crate::OVS_VERSION)
}

/// `signal(7)`: a pipe without a reader was written to. Sockets never raise it, they are written with `MSG_NOSIGNAL`.
pub const SIGPIPE: i32 = 13;

/// Ends the program as OVS's `ovs_fatal` does: `PROGRAM: TEXT` on standard error, status 1.
pub fn fatal(program: &str, text: &str) -> ! {
    eprintln!("{program}: {text}");
    exit(1)
}

/// Which groups of common options a program has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Groups {
    /// `--detach` and its friends.
    pub daemon: bool,
    /// `--private-key` and its friends.
    pub ssl: bool,
    /// `--bootstrap-ca-cert` and `--peer-ca-cert`, for programs that have [`Groups::ssl`].
    pub bootstrap: bool,
    /// `--unixctl`.
    pub unixctl: bool,
}

impl Groups {
    /// What daemons have.
    pub const DAEMON: Self = Self { daemon: true, ssl: true, bootstrap: true, unixctl: true };
    /// What clients over streams have.
    pub const CLIENT: Self = Self { daemon: false, ssl: true, bootstrap: true, unixctl: false };
    /// Logging, help and version only.
    pub const TOOL: Self = Self { daemon: false, ssl: false, bootstrap: false, unixctl: false };
}

/// What a program tells about itself.
pub struct Program<T: 'static> {
    /// Its name, `ovs-vswitchd`.
    pub name: &'static str,
    /// Its own options.
    pub options: &'static [Row<T>],
    /// The common ones.
    pub groups: Groups,
    /// Whether the first argument that is no option ends the options (getopt's `+`).
    pub stop_at_argument: bool,
    /// The source of its manual, of which `--help` prints the short text.
    pub manual: &'static str,
}

/// What the common options say.
#[derive(Default)]
pub struct Common {
    /// About becoming a daemon.
    pub daemon: detach::Settings,
    /// About TLS.
    pub tls: tls::Settings,
    /// `--unixctl`.
    pub unixctl: Option<String>,
    /// `--no-self-confinement`: Unix sockets of others may be anywhere.
    pub unconfined: bool,
}

/// A command line, read.
pub struct Parsed<T> {
    /// What the common options say. `-v`, `--log-file` and the like have been applied.
    pub common: Common,
    /// The program's own options in order.
    pub own: Vec<(T, Option<String>)>,
    /// The other arguments.
    pub args: Vec<String>,
}

#[derive(Clone, Copy)]
enum Shared {
    Help,
    Version,
    List,
    Verbose,
    LogFile,
    SyslogMethod,
    SyslogTarget,
    Detach,
    Monitor,
    Pidfile,
    OverwritePidfile,
    NoChdir,
    NoSelfConfinement,
    User,
    Unixctl,
    PrivateKey,
    Certificate,
    CaCert,
    BootstrapCaCert,
    PeerCaCert,
    SslProtocols,
    SslCiphers,
    SslCiphersuites,
    SslServerName,
}

const GENERAL: &[Row<Shared>] = &[
    Row::new("help", Some('h'), Arg::No, Shared::Help),
    Row::new("option", None, Arg::No, Shared::List),
    Row::new("version", Some('V'), Arg::No, Shared::Version),
    Row::new("verbose", Some('v'), Arg::Optional, Shared::Verbose),
    Row::new("log-file", None, Arg::Optional, Shared::LogFile),
    Row::new("syslog-method", None, Arg::Required, Shared::SyslogMethod),
    Row::new("syslog-target", None, Arg::Required, Shared::SyslogTarget),
];

const DAEMON: &[Row<Shared>] = &[
    Row::new("detach", None, Arg::No, Shared::Detach),
    Row::new("no-self-confinement", None, Arg::No, Shared::NoSelfConfinement),
    Row::new("no-chdir", None, Arg::No, Shared::NoChdir),
    Row::new("pidfile", None, Arg::Optional, Shared::Pidfile),
    Row::new("overwrite-pidfile", None, Arg::No, Shared::OverwritePidfile),
    Row::new("monitor", None, Arg::No, Shared::Monitor),
    Row::new("user", None, Arg::Required, Shared::User),
];

const UNIXCTL: &[Row<Shared>] = &[Row::new("unixctl", None, Arg::Required, Shared::Unixctl)];

const SSL: &[Row<Shared>] = &[
    Row::new("private-key", Some('p'), Arg::Required, Shared::PrivateKey),
    Row::new("certificate", Some('c'), Arg::Required, Shared::Certificate),
    Row::new("ca-cert", Some('C'), Arg::Required, Shared::CaCert),
    Row::new("ssl-protocols", None, Arg::Required, Shared::SslProtocols),
    Row::new("ssl-ciphers", None, Arg::Required, Shared::SslCiphers),
    Row::new("ssl-ciphersuites", None, Arg::Required, Shared::SslCiphersuites),
    Row::new("ssl-server-name", None, Arg::Required, Shared::SslServerName),
];

const BOOTSTRAP: &[Row<Shared>] = &[
    Row::new("bootstrap-ca-cert", None, Arg::Required, Shared::BootstrapCaCert),
    Row::new("peer-ca-cert", None, Arg::Required, Shared::PeerCaCert),
];

#[derive(Clone, Copy)]
enum Id<T> {
    Shared(Shared),
    Own(T),
}

fn rows<T: Copy>(program: &Program<T>) -> Vec<Row<Id<T>>> {
    let Groups { daemon, ssl, bootstrap, unixctl } = program.groups;
    let mut rows: Vec<Row<Id<T>>> = program.options.iter().map(|row| row.with(Id::Own(row.id))).collect();
    let groups = [(true, GENERAL), (daemon, DAEMON), (unixctl, UNIXCTL), (ssl, SSL), (bootstrap, BOOTSTRAP)];
    for row in groups.into_iter().filter(|(has, _)| *has).flat_map(|(_, rows)| rows) {
        let taken = rows.iter().any(|other| other.short.is_some() && other.short == row.short);
        if !rows.iter().any(|other| other.long == row.long) {
            let mut row = row.with(Id::Shared(row.id));
            row.short = row.short.filter(|_| !taken);
            rows.push(row);
        }
    }
    rows
}

/// Reads the process's command line. Ends the process at an error, `--help`, `--version` and `--option`.
pub fn parse<T: Copy>(program: &Program<T>, dirs: &Dirs, log: &Logger) -> Parsed<T> {
    // A reader that goes away (`| head`) ends a program that prints, quietly; a daemon ignores that again when it starts.
    sys::process::restore_signal(SIGPIPE);
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let argv0 = args.next().unwrap_or_else(|| program.name.to_owned());
    let rows = rows(program);
    let mut common = Common::default();
    common.daemon.chdir = true;
    let mut parsed = Parsed { common, own: Vec::new(), args: Vec::new() };
    let mut getopt = Getopt::new(&rows, args.collect(), program.stop_at_argument);
    loop {
        match getopt.next() {
            Ok(None) => break,
            Ok(Some(Item { id: Id::Own(id), value })) => parsed.own.push((id, value)),
            Ok(Some(Item { id: Id::Shared(Shared::List), .. })) => {
                list(&rows);
                exit(0);
            }
            Ok(Some(Item { id: Id::Shared(Shared::Help), .. })) => {
                print!("{}", manual::help(program.manual, dirs));
                exit(0);
            }
            Ok(Some(Item { id: Id::Shared(id), value })) => {
                apply(id, value, program.name, dirs, log, &mut parsed.common);
            }
            Err(text) => {
                eprintln!("{argv0}: {text}");
                exit(1);
            }
        }
    }
    parsed.args = getopt.rest();
    parsed
}

/// What bash completion asks for.
fn list<T>(rows: &[Row<Id<T>>]) {
    for row in rows {
        match row.arg {
            Arg::No => println!("--{}", row.long),
            Arg::Required | Arg::Optional => println!("--{}=", row.long),
        }
    }
}

fn apply(id: Shared, value: Option<String>, program: &str, dirs: &Dirs, log: &Logger, common: &mut Common) {
    let given = value.clone().unwrap_or_default();
    let file = || Some(PathBuf::from(&given));
    match id {
        Shared::Help | Shared::List => {}
        Shared::NoSelfConfinement => common.unconfined = true,
        Shared::Version => {
            println!("{}", version_line(program));
            println!("Turnout {}", env!("CARGO_PKG_VERSION"));
            exit(0);
        }
        Shared::Verbose => match value {
            None => log.set_level(None, None, crate::vlog::Level::Dbg),
            Some(spec) => {
                if let Err(text) = log.configure(&spec) {
                    fatal(program, &format!("processing \"{spec}\": {text}"));
                }
            }
        },
        Shared::LogFile => {
            let path = value.map_or_else(|| dirs.log.join(format!("{program}.log")), PathBuf::from);
            // What went wrong was logged, and is no reason not to work.
            let _ = log.open_file(&path);
        }
        Shared::SyslogMethod => log.set_syslog_method(&given).unwrap_or_else(|text| fatal(program, &text)),
        Shared::SyslogTarget => log.set_syslog_target(&given).unwrap_or_else(|text| fatal(program, &text)),
        Shared::Detach => common.daemon.detach = true,
        Shared::Monitor => common.daemon.monitor = true,
        Shared::Pidfile => {
            let name = value.unwrap_or_else(|| format!("{program}.pid"));
            common.daemon.pidfile = Some(dirs.in_run(name));
        }
        Shared::OverwritePidfile => common.daemon.overwrite_pidfile = true,
        Shared::NoChdir => common.daemon.chdir = false,
        Shared::User => common.daemon.user = value,
        Shared::Unixctl => common.unixctl = value,
        Shared::PrivateKey => common.tls.private_key = file(),
        Shared::Certificate => common.tls.certificate = file(),
        Shared::CaCert => common.tls.ca_cert = file(),
        Shared::BootstrapCaCert => {
            common.tls.ca_cert = file();
            common.tls.bootstrap = true;
        }
        Shared::PeerCaCert => common.tls.peer_ca_cert = file(),
        Shared::SslProtocols => common.tls.protocols = value,
        Shared::SslCiphers => common.tls.ciphers = value,
        Shared::SslCiphersuites => common.tls.ciphersuites = value,
        Shared::SslServerName => common.tls.server_name = value,
    }
}
