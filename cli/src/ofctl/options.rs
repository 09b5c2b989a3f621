//! The command line.

use daemon::dirs::Dirs;
use daemon::options::{Arg, Common, Groups, Program, Row, parse, version_line};
use daemon::vlog::{Destination, Level, Logger};
use openflow::msg::hello::Versions;
use openflow::msg::nicira::PacketInFormat;
use openflow::protocol::Protocols;
use openflow::version::Version;

use super::color::Painter;
use super::sort::Criterion;
use super::{Fatal, Outcome, PROGRAM, die};

/// What the options say.
pub struct Options {
    pub common: Common,
    pub dirs: Dirs,
    pub log: Logger,
    /// The OpenFlow versions to offer.
    pub versions: Versions,
    /// The flow formats to use.
    pub protocols: Protocols,
    pub strict: bool,
    pub read_only: bool,
    /// Whether unchanged flows are replaced too.
    pub readd: bool,
    pub bundle: bool,
    pub may_create: bool,
    pub timestamp: bool,
    pub packet_in_format: Option<PacketInFormat>,
    pub verbosity: i32,
    /// Whether dumps of flows have statistics.
    pub stats: bool,
    /// Whether names are wanted; if nothing is said, on terminals only.
    pub names: Option<bool>,
    pub criteria: Vec<Criterion>,
    pub pcap: bool,
    pub bare: bool,
    pub bad_csum: bool,
    pub raw: bool,
    /// What colours the text of flows.
    pub color: Option<Painter>,
}

#[derive(Clone, Copy)]
enum Id {
    Timeout,
    Strict,
    Readd,
    FlowFormat,
    PacketInFormat,
    More,
    Timestamp,
    Sort,
    Rsort,
    Names,
    NoNames,
    Stats,
    NoStats,
    Bundle,
    Color,
    MayCreate,
    Pcap,
    Bare,
    BadCsum,
    Raw,
    ReadOnly,
    Protocols,
    Version,
}

static ROWS: &[Row<Id>] = &[
    Row::new("timeout", Some('t'), Arg::Required, Id::Timeout),
    Row::new("strict", None, Arg::No, Id::Strict),
    Row::new("readd", None, Arg::No, Id::Readd),
    Row::new("flow-format", Some('F'), Arg::Required, Id::FlowFormat),
    Row::new("packet-in-format", Some('P'), Arg::Required, Id::PacketInFormat),
    Row::new("more", Some('m'), Arg::No, Id::More),
    Row::new("timestamp", None, Arg::No, Id::Timestamp),
    Row::new("sort", None, Arg::Optional, Id::Sort),
    Row::new("rsort", None, Arg::Optional, Id::Rsort),
    Row::new("names", None, Arg::No, Id::Names),
    Row::new("no-names", None, Arg::No, Id::NoNames),
    Row::new("stats", None, Arg::No, Id::Stats),
    Row::new("no-stats", None, Arg::No, Id::NoStats),
    Row::new("bundle", None, Arg::No, Id::Bundle),
    Row::new("color", None, Arg::Optional, Id::Color),
    Row::new("may-create", None, Arg::No, Id::MayCreate),
    Row::new("pcap", None, Arg::No, Id::Pcap),
    Row::new("bare", None, Arg::No, Id::Bare),
    Row::new("bad-csum", None, Arg::No, Id::BadCsum),
    Row::new("raw", None, Arg::No, Id::Raw),
    Row::new("read-only", None, Arg::No, Id::ReadOnly),
    Row::new("protocols", Some('O'), Arg::Required, Id::Protocols),
    Row::new("version", Some('V'), Arg::No, Id::Version),
];

/// Reads the process's command line.
pub fn from_command_line(log: Logger) -> Outcome<(Options, Vec<String>)> {
    let dirs = Dirs::from_env();
    let program = Program {
        name: PROGRAM,
        options: ROWS,
        groups: Groups { daemon: true, ssl: true, bootstrap: true, unixctl: true },
        stop_at_argument: false,
        manual: super::MANUAL,
    };
    let parsed = parse(&program, &dirs, &log);
    let mut options = Options {
        common: parsed.common,
        dirs,
        log,
        versions: only(Version::V10),
        protocols: Protocols::ANY,
        strict: false,
        read_only: false,
        readd: false,
        bundle: false,
        may_create: false,
        timestamp: false,
        packet_in_format: None,
        verbosity: 0,
        stats: true,
        names: None,
        criteria: Vec::new(),
        pcap: false,
        bare: false,
        bad_csum: false,
        raw: false,
        color: None,
    };
    let mut timeout = None;
    for (id, value) in parsed.own {
        options.apply(id, value, &mut timeout)?;
    }
    options.finish()?;
    if let Some(seconds) = timeout.or_else(timeout_from_environment) {
        start_timer(seconds, options.common.daemon.detach);
    }
    Ok((options, parsed.args))
}

/// A set of one version.
pub fn only(version: Version) -> Versions {
    Versions(1 << version.wire())
}

/// The versions that have a format in the set.
pub fn versions_of(protocols: Protocols) -> Versions {
    Versions(protocols.versions().fold(0, |bits, version| bits | 1 << version.wire()))
}

/// The formats of these versions.
pub fn protocols_of(versions: Versions) -> Protocols {
    let those = Version::ALL.into_iter().filter(|version| versions.contains(*version));
    those.fold(Protocols::empty(), |all, version| all | Protocols::of_version(version))
}

fn parse_versions(list: &str) -> Outcome<Versions> {
    let mut versions = Versions(0);
    for name in list.split([' ', ',', '\t', '\r', '\n']).filter(|name| !name.is_empty()) {
        let Some(version) = Version::from_name(name) else {
            return Err(Fatal::Log("ofp_protocol", format!("Unknown OpenFlow version: \"{name}\"")));
        };
        versions.0 |= 1 << version.wire();
    }
    Ok(versions)
}

impl Options {
    fn apply(&mut self, id: Id, value: Option<String>, timeout: &mut Option<u64>) -> Outcome {
        let text = value.as_deref().unwrap_or_default();
        match id {
            Id::Timeout => match text.parse() {
                Ok(seconds) if seconds > 0 && seconds <= u64::from(u32::MAX) => *timeout = Some(seconds),
                _ => die!("value {text} on -t or --timeout is invalid"),
            },
            Id::Strict => self.strict = true,
            Id::Readd => self.readd = true,
            Id::FlowFormat => self.protocols = Protocols::parse(text).map_err(Fatal::Text)?,
            Id::PacketInFormat => match PacketInFormat::from_name(text) {
                Some(format) => self.packet_in_format = Some(format),
                None => die!("unknown packet-in format `{text}'"),
            },
            Id::More => self.verbosity += 1,
            Id::Timestamp => self.timestamp = true,
            Id::Sort => self.criteria.push(Criterion::parse(value.as_deref(), false)?),
            Id::Rsort => self.criteria.push(Criterion::parse(value.as_deref(), true)?),
            Id::Names => self.names = Some(true),
            Id::NoNames => self.names = Some(false),
            Id::Stats => self.stats = true,
            Id::NoStats => self.stats = false,
            Id::Bundle => self.bundle = true,
            Id::Color => {
                let colors = std::env::var("OVS_COLORS").ok();
                self.color = parse_color(value.as_deref())?.then(|| Painter::new(colors.as_deref()));
            }
            Id::MayCreate => self.may_create = true,
            Id::Pcap => self.pcap = true,
            Id::Bare => self.bare = true,
            Id::BadCsum => self.bad_csum = true,
            Id::Raw => self.raw = true,
            Id::ReadOnly => self.read_only = true,
            Id::Protocols => self.versions = parse_versions(text)?,
            Id::Version => {
                let wires = Version::ALL.map(Version::wire);
                println!("{}", version_line(PROGRAM));
                println!("OpenFlow versions {:#x}:{:#x}", wires[0], wires[wires.len() - 1]);
                println!("Turnout {}", env!("CARGO_PKG_VERSION"));
                std::process::exit(0);
            }
        }
        Ok(())
    }

    /// The text of flows, a line each, with colours if they are wanted.
    pub fn painted(&self, text: String) -> String {
        let Some(painter) = &self.color else { return text };
        let paint =
            |line: &str| if line.contains("actions=") { painter.paint(line) } else { line.to_owned() };
        text.split_inclusive('\n').map(paint).collect()
    }

    /// What follows from the options together.
    fn finish(&mut self) -> Outcome {
        if !self.criteria.is_empty() {
            self.criteria.push(Criterion::by_priority());
        }
        if self.bundle {
            self.allow_bundles();
        }
        let formats = protocols_of(self.versions);
        if !self.protocols.intersects(formats) {
            die!(
                "None of the enabled OpenFlow versions ({}) supports any of the enabled flow formats ({}).  \
                 (Use -O to enable additional OpenFlow versions or -F to enable additional flow formats.)",
                self.versions.names(),
                self.protocols
            );
        }
        self.protocols &= formats;
        self.versions.0 &= versions_of(self.protocols).0;
        Ok(())
    }

    /// Bundles exist from OpenFlow 1.3 on; without such a version, OpenFlow 1.4 is meant.
    pub fn allow_bundles(&mut self) {
        let with_bundles = versions_of(Protocols::OF13_UP);
        if self.versions.0 & with_bundles.0 == 0 {
            self.versions.0 |= only(Version::V14).0;
            self.versions.0 &= with_bundles.0;
        }
    }

    /// Whether names may stand in arguments.
    pub fn accepts_names(&self) -> bool {
        self.names != Some(false)
    }

    /// Whether output has names.
    pub fn shows_names(&self) -> bool {
        self.names.unwrap_or_else(stdout_is_terminal)
    }
}

fn stdout_is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

fn parse_color(text: Option<&str>) -> Outcome<bool> {
    let text = text.unwrap_or("auto").to_ascii_lowercase();
    match text.as_str() {
        "always" | "yes" | "force" => Ok(true),
        "never" | "no" | "none" => Ok(false),
        "auto" | "tty" | "if-tty" => Ok(stdout_is_terminal()),
        _ => die!("incorrect value `{text}' for --color"),
    }
}

/// `OVS_CTL_TIMEOUT`, seconds.
fn timeout_from_environment() -> Option<u64> {
    std::env::var("OVS_CTL_TIMEOUT").ok()?.parse().ok().filter(|&seconds| seconds > 0)
}

/// Ends the process as an alarm signal would, once the time is over.
///
/// A process that is to fork has no threads yet; its parent's waiting is what the time limits then.
fn start_timer(seconds: u64, forks: bool) {
    if forks {
        daemon::process::alarm(u32::try_from(seconds).unwrap_or(u32::MAX));
        return;
    }
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        tracing::warn!(target: "fatal_signal", "terminating with signal 14 (Alarm clock)");
        daemon::process::die_by(14);
    });
}

/// Writes the last line of the log, which the console has as an error of the program, and ends the process.
pub fn log_fatal(log: &Logger, module: &str, text: &str) -> ! {
    log.set_level(None, Some(Destination::Console), Level::Off);
    match module {
        "ofp_protocol" => tracing::error!(target: "ofp_protocol", emer = true, "{text}"),
        "daemon_unix" => tracing::error!(target: "daemon_unix", emer = true, "{text}"),
        _ => tracing::error!(target: "command_line", emer = true, "{text}"),
    }
    daemon::options::fatal(PROGRAM, text)
}
