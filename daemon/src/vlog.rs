//! OVS's logging, kept by a layer over `tracing`.
//!
//! A log statement names its module as the `target`: `tracing::warn!(target: "bridge", "...")`. `error!` is `ERR`, `trace!`
//! and `debug!` are `DBG`, and `error!(emer = true, …)` is `EMER`. A statement that could repeat gives its limit in two
//! fields, `rate` (messages a minute) and `burst`: `tracing::warn!(target: "bridge", rate = 5, burst = 5, "…")`; each
//! statement has a bucket of its own, and its `Dropped N log messages…` line. `rl = "5,5"` is a limit that all
//! statements of a module share. [`log`] is for programs whose module is not known before they run.
//!
//! Numbers count per thread, as OVS's do. Lines of threads other than the main one read `module(thread)`.

mod modules;
pub mod pattern;
mod rate;
mod syslog;

pub use modules::{MODULES, index};
pub use pattern::strftime;

use crate::clock::{SystemClock, real_wall};
use flow::time::{Clock, Instant};
use rate::{Bucket, Verdict};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::callsite::{Identifier, rebuild_interest_cache};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;

/// How important a message is; lower is more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Nothing is logged; no message has this level.
    Off = 0,
    /// Out of order for good.
    Emer = 1,
    /// An operation failed.
    Err = 2,
    /// Something looks wrong.
    Warn = 3,
    /// Worth knowing.
    Info = 4,
    /// Only for those who look for it.
    Dbg = 5,
}

impl Level {
    const ALL: [Self; 6] = [Self::Off, Self::Emer, Self::Err, Self::Warn, Self::Info, Self::Dbg];

    /// As log lines show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Emer => "EMER",
            Self::Err => "ERR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Dbg => "DBG",
        }
    }

    const fn syslog(self) -> u32 {
        match self {
            Self::Off | Self::Emer => 1,
            Self::Err => 3,
            Self::Warn => 4,
            Self::Info => 5,
            Self::Dbg => 7,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }

    fn from_byte(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::Dbg)
    }
}

/// Where messages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Destination {
    /// The system's log.
    Syslog = 0,
    /// Standard error.
    Console = 1,
    /// The log file.
    File = 2,
}

impl Destination {
    const ALL: [Self; 3] = [Self::Syslog, Self::Console, Self::File];

    const fn name(self) -> &'static str {
        match self {
            Self::Syslog => "SYSLOG",
            Self::Console => "CONSOLE",
            Self::File => "FILE",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dest| dest.name().eq_ignore_ascii_case(name))
    }

    const fn default_pattern(self) -> &'static str {
        match self {
            Self::Syslog => "ovs|%05N|%c%T|%p|%m",
            Self::Console => "%D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c%T|%p|%m",
            Self::File => "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m",
        }
    }
}

const SYSLOG_PREFIX: &str = "<%B> %D{%h %e %T} %E %A: ";

macro_rules! facilities {
    ($($variant:ident $name:literal $code:literal),* $(,)?) => {
        /// An RFC 5424 facility.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Facility { $(#[doc = $name] $variant),* }

        impl Facility {
            const fn code(self) -> u32 {
                match self { $(Self::$variant => $code),* }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

facilities! {
    Kern "kern" 0, User "user" 1, Mail "mail" 2, Daemon "daemon" 3, Auth "auth" 4, Syslog "syslog" 5, Lpr "lpr" 6,
    News "news" 7, Uucp "uucp" 8, Clock "clock" 9, Ftp "ftp" 11, Ntp "ntp" 12, Audit "audit" 13, Alert "alert" 14,
    Clock2 "clock2" 15, Local0 "local0" 16, Local1 "local1" 17, Local2 "local2" 18, Local3 "local3" 19,
    Local4 "local4" 20, Local5 "local5" 21, Local6 "local6" 22, Local7 "local7" 23,
}

/// Logs `text` for `module` at `level`, as a statement with that `target:` would.
pub fn log(module: &str, level: Level, text: &str) {
    match level {
        Level::Off => {}
        Level::Emer => tracing::error!(target: "vlog", module, emer = true, "{text}"),
        Level::Err => tracing::error!(target: "vlog", module, "{text}"),
        Level::Warn => tracing::warn!(target: "vlog", module, "{text}"),
        Level::Info => tracing::info!(target: "vlog", module, "{text}"),
        Level::Dbg => tracing::debug!(target: "vlog", module, "{text}"),
    }
}

/// The logging of a process: a handle, cheap to copy.
#[derive(Clone)]
pub struct Logger(Arc<Shared>);

struct Shared {
    app: String,
    clock: SystemClock,
    start: Instant,
    /// By module and destination; read without the lock.
    levels: Vec<[AtomicU8; 3]>,
    /// Modules whose statements are limited; read without the lock.
    limits: Vec<AtomicU8>,
    state: Mutex<State>,
}

struct State {
    patterns: [String; 3],
    file: Option<File>,
    path: Option<PathBuf>,
    facility: Option<Facility>,
    method: syslog::Method,
    target: Option<SocketAddr>,
    /// `monitor` in the monitor process.
    subprogram: String,
    buckets: HashMap<Key, Bucket>,
}

/// What a rate limit is the limit of.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Statement(Identifier),
    Module(usize),
}

thread_local! {
    /// How many messages this thread has logged.
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

impl Logger {
    /// The logging of program `app`, at OVS's defaults: `INFO` everywhere and no file.
    pub fn new(app: &str, clock: SystemClock) -> Self {
        let info = || AtomicU8::new(Level::Info as u8);
        let method =
            std::env::var("OVS_SYSLOG_METHOD").ok().and_then(|text| syslog::Method::parse(&text).ok());
        let state = State {
            patterns: Destination::ALL.map(|dest| dest.default_pattern().to_owned()),
            file: None,
            path: None,
            facility: None,
            method: method.unwrap_or_default(),
            target: None,
            subprogram: String::new(),
            buckets: HashMap::new(),
        };
        Self(Arc::new(Shared {
            app: app.to_owned(),
            start: clock.now(),
            clock,
            levels: MODULES.iter().map(|_| [info(), info(), info()]).collect(),
            limits: MODULES.iter().map(|_| AtomicU8::new(1)).collect(),
            state: Mutex::new(state),
        }))
    }

    /// Makes this the process's logging. Later calls, of any logger, are ignored.
    pub fn install(&self) {
        let _ = tracing_subscriber::registry().with(Vlog(self.clone())).try_init();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the level of a module (none: of all) at a destination (none: at all).
    pub fn set_level(&self, module: Option<&str>, dest: Option<Destination>, level: Level) {
        for (name, row) in MODULES.iter().zip(&self.0.levels) {
            if module.is_none_or(|module| module == *name) {
                for at in Destination::ALL.into_iter().filter(|at| dest.is_none_or(|dest| dest == *at)) {
                    row[at as usize].store(level as u8, Ordering::Relaxed);
                }
            }
        }
        // The most that is logged anywhere may be another now.
        rebuild_interest_cache();
    }

    /// The level of module `name` at `dest`.
    pub fn level(&self, name: &str, dest: Destination) -> Level {
        index(name)
            .map_or(Level::Off, |i| Level::from_byte(self.0.levels[i][dest as usize].load(Ordering::Relaxed)))
    }

    /// Names this process's part in a program of several (`monitor`).
    pub fn set_subprogram(&self, name: &str) {
        name.clone_into(&mut self.lock().subprogram);
    }

    /// Chooses how syslog lines are sent (`--syslog-method`).
    ///
    /// # Errors
    /// OVS's words for an unusable method.
    pub fn set_syslog_method(&self, text: &str) -> Result<(), String> {
        self.lock().method = syslog::Method::parse(text)?;
        Ok(())
    }

    /// Also sends syslog lines to a UDP address (`--syslog-target`).
    ///
    /// # Errors
    /// If it is no numeric address with a port.
    pub fn set_syslog_target(&self, text: &str) -> Result<(), String> {
        self.lock().target = Some(text.parse().map_err(|_| format!("{text}: bad syslog target"))?);
        Ok(())
    }

    /// Applies one word of `-v` or `vlog/set`: levels, `PATTERN:…` or `FACILITY:…`.
    ///
    /// # Errors
    /// OVS's words for what is wrong with it.
    pub fn configure(&self, spec: &str) -> Result<(), String> {
        const SEPARATORS: [char; 3] = [' ', ',', ':'];
        let mut words = spec.splitn(2, SEPARATORS);
        let first = words.next().unwrap_or_default();
        if first.eq_ignore_ascii_case("PATTERN") {
            return self.configure_pattern(words.next());
        }
        if first.eq_ignore_ascii_case("FACILITY") {
            let name = words.next().ok_or("missing facility")?;
            self.lock().facility = Some(Facility::from_name(name).ok_or("invalid facility")?);
            return Ok(());
        }
        let (mut module, mut dest, mut level) = (None, None, None);
        for word in
            spec.split(SEPARATORS).filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("any"))
        {
            if let Some(found) = Destination::from_name(word) {
                once(&mut dest, found, "cannot specify multiple destinations")?;
            } else if let Some(found) = Level::from_name(word) {
                once(&mut level, found, "cannot specify multiple levels")?;
            } else if let Some(found) = module_named(word) {
                once(&mut module, found, "cannot specify multiple modules")?;
            } else {
                return Err(format!("no destination, level, or module \"{word}\""));
            }
        }
        self.set_level(module, dest, level.unwrap_or(Level::Dbg));
        Ok(())
    }

    fn configure_pattern(&self, rest: Option<&str>) -> Result<(), String> {
        let rest = rest.ok_or("missing destination")?;
        let (dest, pattern) = rest.split_once(':').unwrap_or((rest, ""));
        if dest.eq_ignore_ascii_case("ANY") {
            self.lock().patterns.fill(pattern.to_owned());
            return Ok(());
        }
        let wanted = match Destination::from_name(dest) {
            Some(one) => vec![one],
            None if dest.eq_ignore_ascii_case("any") => Destination::ALL.to_vec(),
            None => return Err(format!("unknown destination \"{dest}\"")),
        };
        for dest in wanted {
            pattern.clone_into(&mut self.lock().patterns[dest as usize]);
        }
        Ok(())
    }

    /// Turns the limits of the statements of `modules` (none: of all) on or off.
    ///
    /// # Errors
    /// `unknown module`.
    pub fn set_rate_limits(&self, modules: &[String], enable: bool) -> Result<(), String> {
        let set = |i: usize| self.0.limits[i].store(enable.into(), Ordering::Relaxed);
        if modules.is_empty() {
            (0..MODULES.len()).for_each(set);
        }
        for name in modules {
            set(module_named(name).and_then(index).ok_or("unknown module")?);
        }
        Ok(())
    }

    /// Logs to file `path` from now on, as well; says so at `INFO`.
    ///
    /// # Errors
    /// The system's error, which is also logged.
    pub fn open_file(&self, path: &Path) -> std::io::Result<()> {
        if let Some(old) = self.lock().file.take() {
            drop(old);
            tracing::info!(target: "vlog", "closing log file");
        }
        let file = OpenOptions::new().create(true).append(true).mode_0640().open(path);
        match file {
            Ok(file) => {
                sys::fault::log_to(file.try_clone().ok().map(Into::into));
                let mut state = self.lock();
                state.path = Some(path.to_owned());
                state.file = Some(file);
                drop(state);
                tracing::info!(target: "vlog", "opened log file {}", path.display());
                Ok(())
            }
            Err(error) => {
                let text = crate::error_text(&error);
                tracing::warn!(target: "vlog", "failed to open {} for logging: {text}", path.display());
                Err(error)
            }
        }
    }

    /// Reopens the log file, which may have been renamed (`vlog/reopen`).
    ///
    /// # Errors
    /// `Logging to file not configured`, or the system's error.
    pub fn reopen(&self) -> Result<(), String> {
        let path = self.lock().path.clone().ok_or("Logging to file not configured")?;
        let same = {
            use std::os::unix::fs::MetadataExt;
            let key = |m: std::fs::Metadata| (m.dev(), m.ino());
            let open = self.lock().file.as_ref().and_then(|file| file.metadata().ok()).map(key);
            open.is_some() && open == std::fs::metadata(&path).ok().map(key)
        };
        if same {
            return Ok(());
        }
        if self.lock().file.is_some() {
            tracing::info!(target: "vlog", "closing log file");
            self.lock().file = None;
        }
        self.open_file(&path).map_err(|error| crate::error_text(&error))
    }

    /// Closes the log file until [`Logger::reopen`] (`vlog/close`).
    ///
    /// # Errors
    /// None today.
    pub fn close(&self) -> Result<(), String> {
        sys::fault::log_to(None);
        self.lock().file = None;
        Ok(())
    }

    /// The log file, for what must be written when nothing else works any more.
    pub fn file(&self) -> Option<File> {
        self.lock().file.as_ref().and_then(|file| file.try_clone().ok())
    }

    /// What `vlog/list` prints.
    pub fn levels_text(&self) -> String {
        let mut text =
            "                 console    syslog    file\n                 -------    ------    ------\n"
                .to_owned();
        for name in MODULES {
            let level = |dest| self.level(name, dest).name();
            let [console, syslog, file] =
                [Destination::Console, Destination::Syslog, Destination::File].map(level);
            let _ = write!(text, "{name:<16}  {console:>4}       {syslog:>4}       {file:>4}");
            if self.0.limits[index(name).unwrap_or(0)].load(Ordering::Relaxed) == 0 {
                text.push_str("    (rate limiting disabled)");
            }
            text.push('\n');
        }
        text
    }

    /// What `vlog/list-pattern` prints.
    pub fn patterns_text(&self) -> String {
        let mut text = "         prefix                            format\n         ------                            ------\n"
            .to_owned();
        let state = self.lock();
        for dest in Destination::ALL {
            let prefix = if dest == Destination::Syslog { SYSLOG_PREFIX } else { "none" };
            let _ = writeln!(text, "{:<7}  {prefix:<32}  {}", dest.name(), state.patterns[dest as usize]);
        }
        text
    }

    /// The least important messages that are logged anywhere.
    fn least(&self) -> Level {
        let bytes = self.0.levels.iter().flatten().map(|at| at.load(Ordering::Relaxed));
        Level::from_byte(bytes.max().unwrap_or(Level::Off as u8))
    }

    fn is_enabled(&self, module: usize, level: Level) -> bool {
        self.0.levels[module].iter().any(|at| at.load(Ordering::Relaxed) >= level as u8)
    }

    /// Writes one message wherever its level is let through.
    fn write(&self, module: usize, level: Level, message: &str) {
        let number = COUNT.with(|count| {
            count.set(count.get() + 1);
            count.get()
        });
        let current = std::thread::current();
        let state = self.lock();
        let subprogram = state.subprogram.clone();
        let thread = match current.name() {
            Some("main") | None => subprogram.as_str(),
            Some(name) => name,
        };
        let mut line = pattern::Line {
            app: &self.0.app,
            module: MODULES[module],
            level,
            message: "",
            number,
            wall_ms: real_wall().0,
            uptime_ms: self.0.clock.now().since(self.0.start).as_millis() as u64,
            thread,
            facility: state.facility.unwrap_or(Facility::Local0),
        };
        let wanted =
            |dest: Destination| self.0.levels[module][dest as usize].load(Ordering::Relaxed) >= level as u8;
        line.message = message;
        if wanted(Destination::Console) {
            let out = pattern::format(&state.patterns[Destination::Console as usize], &line) + "\n";
            let _ = std::io::stderr().write_all(out.as_bytes());
        }
        if wanted(Destination::File)
            && let Some(mut file) = state.file.as_ref()
        {
            let out = pattern::format(&state.patterns[Destination::File as usize], &line) + "\n";
            let _ = file.write_all(out.as_bytes());
        }
        if wanted(Destination::Syslog) {
            // A message of several lines is several messages there.
            for text in message.split('\n') {
                line.message = text;
                state.send_syslog(&line);
            }
        }
    }
}

impl State {
    fn send_syslog(&self, line: &pattern::Line<'_>) {
        let text = pattern::format(&self.patterns[Destination::Syslog as usize], line);
        let stamp = strftime("%h %e %T", line.wall_ms, false);
        let prefix = pattern::format(SYSLOG_PREFIX, line);
        let local = self.facility.unwrap_or(Facility::Daemon);
        self.method.send(local.code() * 8 + line.level.syslog(), line.app, &stamp, &prefix, &text);
        if let Some(to) = &self.target {
            let _ = syslog::send_udp(to, &(pattern::format(SYSLOG_PREFIX, line) + &text));
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: T, error: &str) -> Result<(), String> {
    match slot.replace(value) {
        Some(_) => Err(error.to_owned()),
        None => Ok(()),
    }
}

/// Module `name`, case and `-` for `_` aside.
fn module_named(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    index(&name).map(|i| MODULES[i])
}

trait Mode {
    fn mode_0640(&mut self) -> &mut Self;
}

impl Mode for OpenOptions {
    fn mode_0640(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.mode(0o640)
    }
}

/// The layer that hands events to a [`Logger`].
struct Vlog(Logger);

/// What an event's fields say but for its message.
#[derive(Default)]
struct Fields {
    rate: Option<u64>,
    burst: Option<u64>,
    /// The limit is the module's, not the statement's.
    shared: bool,
    module: Option<usize>,
    emer: bool,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "rate" => self.rate = Some(value),
            "burst" => self.burst = Some(value),
            _ => {}
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            self.record_u64(field, value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match (field.name(), value.split_once(',')) {
            ("rl", Some((rate, burst))) => {
                (self.rate, self.burst) = (rate.trim().parse().ok(), burst.trim().parse().ok());
                self.shared = true;
            }
            ("module", _) => self.module = index(value),
            _ => {}
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "emer" {
            self.emer = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// An event's message, with the fields that are not [`Fields`].
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            "rate" | "burst" | "rl" | "module" | "emer" => Ok(()),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Err,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        _ => Level::Dbg,
    }
}

impl<S: Subscriber> Layer<S> for Vlog {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Levels change while the program runs, so a module's events are asked about each time.
        if metadata.is_span() || index(metadata.target()).is_none() {
            Interest::never()
        } else {
            Interest::sometimes()
        }
    }

    /// Statements of less importance than all that is logged are passed over without a question.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.0.least() {
            Level::Off | Level::Emer | Level::Err => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Dbg => LevelFilter::TRACE,
        })
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Spans and targets of libraries are of no interest. Questions whether an event would be (`enabled!`) are.
        !metadata.is_span()
            && index(metadata.target()).is_some_and(|i| self.0.is_enabled(i, level_of(*metadata.level())))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let Some(module) = index(metadata.target()) else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let module = fields.module.unwrap_or(module);
        let level = if fields.emer { Level::Emer } else { level_of(*metadata.level()) };
        if let (Some(rate), Some(burst)) = (fields.rate, fields.burst)
            && self.0.0.limits[module].load(Ordering::Relaxed) != 0
        {
            let now = self.0.0.clock.now();
            let key = if fields.shared { Key::Module(module) } else { Key::Statement(metadata.callsite()) };
            let verdict = self.0.lock().buckets.entry(key).or_default().ask(rate, burst, now);
            match verdict {
                Verdict::Drop => return,
                Verdict::Log(Some(told)) => self.0.write(module, level, &told),
                Verdict::Log(None) => {}
            }
        }
        // Only now, for a message may cost much to make, and one that comes too often is not made.
        let mut message = Message::default();
        event.record(&mut message);
        self.0.write(module, level, &message.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_sorted() {
        assert!(MODULES.is_sorted());
    }

    #[test]
    fn words_are_read_as_ovs_reads_them() {
        let log = Logger::new("test", SystemClock::new());
        let texts = [
            ("nonexistent", "no destination, level, or module \"nonexistent\""),
            ("pattern", "missing destination"),
            ("pattern:nonexistent", "unknown destination \"nonexistent\""),
            ("file:console:dbg", "cannot specify multiple destinations"),
            ("vlog:vlog", "cannot specify multiple modules"),
            ("dbg:info", "cannot specify multiple levels"),
            ("FACILITY:x", "invalid facility"),
        ];
        for (spec, text) in texts {
            assert_eq!(log.configure(spec), Err(text.to_owned()));
        }
        log.configure("daemon:syslog:err").unwrap();
        log.configure("FILE dbg").unwrap();
        let text = log.levels_text();
        let rows: Vec<&str> =
            text.lines().filter(|l| l.starts_with("daemon ") || l.starts_with("vlog ")).collect();
        assert_eq!(
            rows,
            ["daemon            INFO        ERR        DBG", "vlog              INFO       INFO        DBG"]
        );
    }

    #[test]
    fn who_asks_is_told_of_every_change_of_levels() {
        let log = Logger::new("test", SystemClock::new());
        let subscriber = tracing_subscriber::registry().with(Vlog(log.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let is_debugging = || {
                (
                    tracing::enabled!(target: "bridge", tracing::Level::DEBUG),
                    tracing::enabled!(target: "dpif", tracing::Level::DEBUG),
                )
            };
            assert_eq!(is_debugging(), (false, false));
            log.configure("dpif:file:dbg").unwrap();
            assert_eq!(is_debugging(), (false, true));
            log.configure("syslog:dbg").unwrap();
            assert_eq!(is_debugging(), (true, true));
            log.configure("off").unwrap();
            assert_eq!(is_debugging(), (false, false));
            assert!(!tracing::enabled!(target: "bridge", tracing::Level::ERROR));
            log.configure("bridge:console:err").unwrap();
            assert!(tracing::enabled!(target: "bridge", tracing::Level::ERROR));
            assert!(!tracing::enabled!(target: "bridge", tracing::Level::WARN));
        });
    }

    #[test]
    fn a_limited_statement_drops_and_tells() {
        let path = std::env::temp_dir().join(format!("vlog-{}.log", std::process::id()));
        let clock = SystemClock::new();
        clock.stop();
        let log = Logger::new("test", clock.clone());
        log.set_level(None, Some(Destination::Console), Level::Off);
        log.set_level(None, Some(Destination::Syslog), Level::Off);
        log.configure("PATTERN:file:%c|%p|%m").unwrap();
        let subscriber = tracing_subscriber::registry().with(Vlog(log.clone()));
        tracing::subscriber::with_default(subscriber, || {
            log.open_file(&path).unwrap();
            for i in 0..4 {
                if i == 3 {
                    clock.advance(std::time::Duration::from_secs(60));
                }
                tracing::warn!(target: "bridge", rate = 1, burst = 2, "number {i}");
            }
            tracing::error!(target: "rustls", "unseen");
            tracing::error!(target: "poll_loop", emer = true, "two\nlines");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let opened = format!("vlog|INFO|opened log file {}\n", path.display());
        assert_eq!(
            text,
            opened
                + "bridge|WARN|number 0\nbridge|WARN|number 1\nbridge|WARN|Dropped 1 log messages in last 60 seconds \
                   (most recently, 60 seconds ago) due to excessive rate\nbridge|WARN|number 3\n\
                   poll_loop|EMER|two\nlines\n"
        );
    }
}
