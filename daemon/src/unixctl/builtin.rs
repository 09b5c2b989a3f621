//! The commands of every daemon.

use super::{Command, Commands, Reply, Request, Responder};
use crate::clock::SystemClock;
use crate::coverage::Coverage;
use crate::memory;
use crate::options;
use crate::vlog::Logger;
use flow::time::Clock;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the commands of every daemon work on; a program's state holds one.
pub struct Services {
    /// The program's name.
    pub program: String,
    /// Logging.
    pub log: Logger,
    /// Time.
    pub clock: SystemClock,
    /// Event counters.
    pub coverage: Coverage,
    /// A warp under way: the main loop takes a step of it each time it has nothing else to do.
    pub warp: Option<Warp>,
    /// Set by `exit`: the main loop ends and answers these.
    pub exit: Option<Exit>,
}

/// A `time/warp TOTAL STEP` under way.
pub struct Warp {
    left: Duration,
    step: Duration,
    responder: Responder,
}

/// A wish that the program should end.
pub struct Exit {
    /// `exit --cleanup`: remove what would otherwise keep working without the program.
    pub cleanup: bool,
    /// Who wants to know when it is done.
    pub responders: Vec<Responder>,
}

impl Services {
    /// The services of a program.
    pub fn new(program: &str, log: Logger, clock: SystemClock) -> Self {
        let coverage = Coverage::new(clock.now());
        Self { program: program.to_owned(), log, clock, coverage, warp: None, exit: None }
    }

    /// Takes one step of a warp under way, and answers it after the last one. Whether there was one: the main loop then
    /// looks at all its timers again.
    pub fn step_warp(&mut self) -> bool {
        let Some(warp) = &mut self.warp else { return false };
        let step = warp.step.min(warp.left);
        warp.left -= step;
        self.clock.advance(step);
        if warp.left.is_zero()
            && let Some(done) = self.warp.take()
        {
            done.responder.reply("warped");
        }
        true
    }

    /// Whether the end shall leave nothing behind that keeps working (`exit --cleanup`).
    pub fn is_cleaning_up(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.cleanup)
    }

    /// Whether the program should end.
    pub const fn is_exiting(&self) -> bool {
        self.exit.is_some()
    }
}

/// A program's state, for the commands of every daemon.
pub trait Host {
    /// Its services.
    fn services(&mut self) -> &mut Services;

    /// What `memory/show` tells, as name and value.
    fn memory(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

/// The commands of every daemon. Add a program's own to them; with `--enable-dummy`, [`Commands::add`]
/// [`time_commands`] too.
pub fn builtins<S: Host>() -> Commands<S> {
    let mut commands = Commands::new();
    commands.add([
        Command::new("coverage/read-counter", "COUNTER", 1, 1, coverage_read),
        Command::new("coverage/show", "", 0, 0, coverage_show),
        Command::new("exit", "", 0, 0, exit),
        Command::new("memory/show", "", 0, 0, memory_show),
        Command::new("set-options", "[--format text|json]", 1, 2, set_options),
        Command::new("version", "", 0, 0, version),
        Command::new("vlog/close", "", 0, 0, |s: &mut S, _| {
            s.services().log.close().map(|()| Reply::empty())
        }),
        Command::new("vlog/disable-rate-limit", "[module]...", 0, usize::MAX, |s, r| limit(s, r, false)),
        Command::new("vlog/enable-rate-limit", "[module]...", 0, usize::MAX, |s, r| limit(s, r, true)),
        Command::new("vlog/list", "", 0, 0, |s: &mut S, _| Ok(s.services().log.levels_text().into())),
        Command::new("vlog/list-pattern", "", 0, 0, |s: &mut S, _| {
            Ok(s.services().log.patterns_text().into())
        }),
        Command::new("vlog/reopen", "", 0, 0, |s: &mut S, _| {
            s.services().log.reopen().map(|()| Reply::empty())
        }),
        Command::new("vlog/set", "{spec | PATTERN:destination:pattern}", 1, usize::MAX, vlog_set),
    ]);
    commands
}

/// `time/stop` and `time/warp`, for programs under test.
pub fn time_commands<S: Host>() -> [Command<S>; 2] {
    [
        Command::new("time/stop", "", 0, 0, time_stop),
        Command::new("time/warp", "[large_msecs] msecs", 1, 2, time_warp),
    ]
}

fn coverage_read<S: Host>(state: &mut S, request: &Request) -> Result<Reply, String> {
    match state.services().coverage.read(request.arg(0)) {
        Some(total) => Ok(format!("{total}\n").into()),
        None => Err("No such counter".to_owned()),
    }
}

fn coverage_show<S: Host>(state: &mut S, _: &Request) -> Result<Reply, String> {
    Ok(state.services().coverage.text().into())
}

/// Asks the main loop to end; it answers when it has.
pub fn exit<S: Host>(state: &mut S, request: &Request) -> Result<Reply, String> {
    let cleanup = match request.opt(0) {
        Some("--cleanup") => true,
        Some(_) => return Err("invalid argument".to_owned()),
        None => false,
    };
    let exit = state.services().exit.get_or_insert_with(|| Exit { cleanup: false, responders: Vec::new() });
    exit.cleanup |= cleanup;
    exit.responders.push(request.defer());
    Ok(Reply::Deferred)
}

fn memory_show<S: Host>(state: &mut S, _: &Request) -> Result<Reply, String> {
    Ok(memory::text(&state.memory()).into())
}

fn set_options<S: Host>(_: &mut S, request: &Request) -> Result<Reply, String> {
    let mut args = request.args.iter();
    while let Some(arg) = args.next() {
        let value = match arg.strip_prefix("--format=") {
            Some(value) => value,
            None if arg == "--format" => {
                args.next().map(String::as_str).ok_or("option '--format' requires an argument")?
            }
            None => return Err(format!("unrecognized option '{arg}'")),
        };
        let json = match value.to_ascii_lowercase().as_str() {
            "json" => true,
            "text" => false,
            _ => return Err(format!("option format has invalid value {value}")),
        };
        request.session.json.store(json, Ordering::Relaxed);
    }
    Ok(Reply::empty())
}

fn version<S: Host>(state: &mut S, _: &Request) -> Result<Reply, String> {
    Ok(options::version_line(&state.services().program).into())
}

fn limit<S: Host>(state: &mut S, request: &Request, enable: bool) -> Result<Reply, String> {
    state.services().log.set_rate_limits(&request.args, enable).map(|()| Reply::empty())
}

fn vlog_set<S: Host>(state: &mut S, request: &Request) -> Result<Reply, String> {
    for spec in &request.args {
        state.services().log.configure(spec)?;
    }
    Ok(Reply::empty())
}

fn time_stop<S: Host>(state: &mut S, _: &Request) -> Result<Reply, String> {
    state.services().clock.stop();
    Ok(Reply::empty())
}

fn time_warp<S: Host>(state: &mut S, request: &Request) -> Result<Reply, String> {
    let ms = |i: usize| match request.arg(i).parse::<u64>() {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err("invalid MSECS".to_owned()),
    };
    let left = ms(0)?;
    let step = if request.args.len() > 1 { ms(1)? } else { left };
    let services = state.services();
    if services.warp.is_some() {
        return Err("a time warp is under way".to_owned());
    }
    services.warp = Some(Warp { left, step, responder: request.defer() });
    Ok(Reply::Deferred)
}
