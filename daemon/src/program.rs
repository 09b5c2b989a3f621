//! A daemon's `main`, in order: options, log, fork, control socket, runtime, and at the end everything put away.
//!
//! ```text
//! let started = Program::start(&PROGRAM)?;       // options, detach
//! started.run(|context| async move { … })        // runtime, unixctl, signals
//! ```

use crate::clock::SystemClock;
use crate::detach::{self, Detached};
use crate::dirs::Dirs;
use crate::options::{self, Common, Parsed};
use crate::stream::Network;
use crate::stream::tls::Tls;
use crate::unixctl::{Request, Server, Services};
use crate::vlog::Logger;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// A program whose command line was read, in the process that will do the work.
pub struct Started<T> {
    /// Its name.
    pub name: &'static str,
    /// Where files are.
    pub dirs: Dirs,
    /// Logging, installed.
    pub log: Logger,
    /// Time.
    pub clock: SystemClock,
    /// The program's own options.
    pub own: Vec<(T, Option<String>)>,
    /// The arguments that are no options.
    pub args: Vec<String>,
    common: Common,
    detached: Option<Detached>,
}

/// Reads the command line of `program`. Ends the process for `--help` and the like.
pub fn read<T: Copy>(program: &options::Program<T>) -> Started<T> {
    sys::fault::catch();
    sys::process::restore_signal(libc::SIGBUS);
    let dirs = Dirs::from_env();
    let clock = SystemClock::new();
    let log = Logger::new(program.name, clock.clone());
    log.install();
    log_panics();
    let Parsed { common, own, args } = options::parse(program, &dirs, &log);
    Started { name: program.name, dirs, log, clock, own, args, common, detached: None }
}

/// Has a panic leave its words in the log, for a daemon has no standard error.
fn log_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(target: "util", emer = true, "{panic}");
        default(panic);
    }));
}

/// What the body of a daemon gets.
pub struct Body<T> {
    /// The program, its options and arguments.
    pub started: Started<T>,
    /// What the builtin commands work on.
    pub services: Services,
    /// What comes in at the control socket.
    pub requests: mpsc::Receiver<Request>,
    /// Signals that should end the program.
    pub signals: Signals,
    /// How to connect and to listen.
    pub network: Network,
}

/// Signals that end a program, caught so that it can put its files away.
pub struct Signals([(i32, Signal); 4]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let catch = |kind: SignalKind| Ok::<_, std::io::Error>((kind.as_raw_value(), signal(kind)?));
        Ok(Self([
            catch(SignalKind::terminate())?,
            catch(SignalKind::interrupt())?,
            catch(SignalKind::hangup())?,
            catch(SignalKind::alarm())?,
        ]))
    }

    /// The number of the next signal.
    pub async fn recv(&mut self) -> i32 {
        let [(a, term), (b, int), (c, hup), (d, alrm)] = &mut self.0;
        tokio::select! {
            _ = term.recv() => *a,
            _ = int.recv() => *b,
            _ = hup.recv() => *c,
            _ = alrm.recv() => *d,
        }
    }
}

/// How the body of a daemon ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// As it was told to by a command.
    Exit,
    /// By a signal.
    Signal(i32),
    /// By an error that it has told.
    Failed,
}

impl<T> Started<T> {
    /// What the command line says about TLS and `--unixctl`.
    pub const fn common(&self) -> &Common {
        &self.common
    }

    /// Whether the program drives a datapath, so that `--user` keeps the rights for it. Before [`Started::run`].
    pub fn access_datapath(&mut self) {
        self.common.daemon.access_datapath = true;
    }

    /// Keeps standard output and error open in a detached program. Before [`Started::run`].
    pub fn keep_stdio(&mut self) {
        self.common.daemon.keep_stdio = true;
    }

    /// Tells whoever started the program that it works. Call it when that is so; later calls do nothing.
    pub fn complete(&mut self) {
        if let Some(detached) = &mut self.detached
            && detached.is_awaited()
        {
            detached.complete(&self.log);
        }
    }

    /// Makes the log complaint and ends the process, with status 1.
    fn give_up(&self, text: &str) -> ExitCode {
        eprintln!("{}: {text}", self.name);
        ExitCode::FAILURE
    }

    fn control_path(&self) -> Option<PathBuf> {
        match self.common.unixctl.as_deref() {
            Some("none") => None,
            Some(name) => Some(self.dirs.in_run(name)),
            None => Some(self.dirs.in_run(format!("{}.{}.ctl", self.name, std::process::id()))),
        }
    }

    /// Becomes a daemon as the options say and runs `body` on a runtime of one thread, then puts pidfile and control
    /// socket away. `body` must call [`Started::complete`].
    pub fn run<F: Future<Output = (End, Services)>>(mut self, body: impl FnOnce(Body<T>) -> F) -> ExitCode {
        sys::process::ignore_signal(options::SIGPIPE);
        match detach::start(self.common.daemon.clone(), &self.log) {
            Ok(detached) => self.detached = Some(detached),
            Err(error) => {
                tracing::error!(target: "daemon_unix", emer = true, "{error}");
                return ExitCode::FAILURE;
            }
        }
        let pidfile = self.detached.as_ref().and_then(|d| d.pidfile().map(std::path::Path::to_owned));
        let server = match self.control_path().map(|path| Server::bind(&path).map_err(|e| (path, e))) {
            None => None,
            Some(Ok(server)) => Some(server),
            Some(Err((path, error))) => {
                let text = crate::error_text(&error);
                return self
                    .give_up(&format!("{}: could not initialize control socket ({text})", path.display()));
            }
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return self.give_up(&format!("could not start: {}", crate::error_text(&error))),
        };
        let outcome = runtime.block_on(serve(self, server, body));
        drop(runtime);
        if let Some(path) = pidfile {
            // Dropped with what owned it; by a signal, nothing else would.
            let _ = std::fs::remove_file(path);
        }
        match outcome {
            Ok(End::Exit) => ExitCode::SUCCESS,
            Ok(End::Signal(number)) => sys::process::die_by(number),
            Ok(End::Failed) => ExitCode::FAILURE,
            Err(text) => {
                eprintln!("{text}");
                ExitCode::FAILURE
            }
        }
    }
}

async fn serve<T, F: Future<Output = (End, Services)>>(
    started: Started<T>,
    server: Option<Server>,
    body: impl FnOnce(Body<T>) -> F,
) -> Result<End, String> {
    let fail = |error: std::io::Error| crate::error_text(&error);
    let requests = match &server {
        Some(server) => server.start().map_err(fail)?,
        None => mpsc::channel(1).1,
    };
    let signals = Signals::new().map_err(fail)?;
    let services = Services::new(started.name, started.log.clone(), started.clock.clone());
    let network = Network {
        run_dir: started.dirs.run.clone(),
        default_port: crate::stream::OVSDB_PORT,
        tls: Tls::new(started.common.tls.clone()),
    };
    let (end, services) = body(Body { started, services, requests, signals, network }).await;
    if let End::Signal(number) = end {
        let name = sys::process::signal_text(number);
        tracing::warn!(target: "fatal_signal", "terminating with signal {number} ({name})");
    }
    for responder in services.exit.iter().flat_map(|exit| &exit.responders) {
        responder.reply("");
    }
    if let Some(server) = &server {
        server.flush().await;
    }
    Ok(end)
}
