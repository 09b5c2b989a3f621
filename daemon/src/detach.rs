//! `--detach`, `--monitor`, `--pidfile`, `--user`: from a foreground process to a daemon.
//!
//! [`start`] forks while the process has one thread, before runtime and database exist. The original process waits for
//! [`Detached::complete`], so that whoever started the daemon knows that it works; if the daemon dies before, so does
//! the original, with its status.

use crate::pidfile::{self, Pidfile, PidfileError};
use crate::vlog::{Destination, Level, Logger};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::process::{self, Ended, Fork};
use thiserror::Error;

/// What the command line says about becoming a daemon.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    /// `--detach`.
    pub detach: bool,
    /// `--monitor`.
    pub monitor: bool,
    /// `--no-chdir` was not given.
    pub chdir: bool,
    /// `--pidfile`, made absolute.
    pub pidfile: Option<PathBuf>,
    /// `--overwrite-pidfile`.
    pub overwrite_pidfile: bool,
    /// `--user`.
    pub user: Option<String>,
    /// The program drives a datapath, so that `--user` keeps the rights that this takes.
    pub access_datapath: bool,
    /// Standard output and error stay open: the program prints what people wait for.
    pub keep_stdio: bool,
}

/// Why a process cannot become a daemon.
#[derive(Error, Debug)]
pub enum DetachError {
    /// The pidfile is held or cannot be written.
    #[error("{0}")]
    Pidfile(#[from] PidfileError),
    /// The kernel refused a step.
    #[error("{what} ({})", crate::error_text(.source))]
    System {
        /// Which one.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// `--user` names nobody, or the caller may not use it.
    #[error("{pidfile}: {what}")]
    User {
        /// The pidfile, for OVS's messages begin with it.
        pidfile: String,
        /// What is wrong.
        what: String,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> DetachError {
    move |source| DetachError::System { what, source }
}

/// A process that has forked as asked but not yet told its parent that it works.
#[derive(Debug)]
pub struct Detached {
    settings: Settings,
    notify: Option<io::PipeWriter>,
    pidfile: Option<Pidfile>,
}

/// Forks as `settings` say. Returns in the daemon only; the processes above it end in here.
///
/// # Errors
/// If the pidfile is held by a living process, or the kernel refuses a step.
pub fn start(settings: Settings, log: &Logger) -> Result<Detached, DetachError> {
    if let Some(path) = settings.pidfile.as_deref().filter(|_| !settings.overwrite_pidfile) {
        pidfile::check(path)?;
    }
    if let Some(user) = &settings.user {
        become_user(user, &settings)?;
    }
    let mut notify = None;
    if settings.detach {
        match fork_and_wait(log)? {
            Startup::Child(pipe) => {
                process::setsid().map_err(system("could not start a session"))?;
                notify = Some(pipe);
            }
            Startup::Ready(..) => std::process::exit(0),
            Startup::Died(status) => std::process::exit(status),
        }
    }
    if settings.monitor {
        let outer = notify.take();
        match fork_and_wait(log)? {
            Startup::Child(pipe) => {
                drop(outer);
                notify = Some(pipe);
            }
            Startup::Died(status) => std::process::exit(status),
            Startup::Ready(pid, words) => {
                tell(outer);
                notify = Some(monitor(pid, words, &settings, log)?);
            }
        }
    }
    // A daemon that is watched has its watcher tell what it dies of.
    let words = notify.as_ref().filter(|_| settings.monitor).and_then(|pipe| pipe.try_clone().ok());
    sys::fault::tell_watcher(words.map(OwnedFd::from));
    let pidfile = match &settings.pidfile {
        Some(path) => Some(Pidfile::create(path, settings.overwrite_pidfile)?),
        None => None,
    };
    Ok(Detached { settings, notify, pidfile })
}

impl Detached {
    /// Tells the parent that all is well, and lets go of its terminal and directory. The pidfile lives as long as what is
    /// returned.
    pub fn complete(&mut self, log: &Logger) {
        tell(self.notify.take());
        if self.settings.detach {
            let_go(&self.settings, log);
        }
    }

    /// Whether [`Detached::complete`] has yet to be called for the parent's sake.
    pub const fn is_awaited(&self) -> bool {
        self.notify.is_some()
    }

    /// The pidfile's path, if there is one.
    pub fn pidfile(&self) -> Option<&Path> {
        self.pidfile.as_ref().map(Pidfile::path)
    }
}

fn tell(pipe: Option<io::PipeWriter>) {
    if let Some(mut pipe) = pipe {
        // The parent may have been killed; the daemon works all the same.
        let _ = pipe.write_all(b"1");
    }
}

fn let_go(settings: &Settings, log: &Logger) {
    match OpenOptions::new().read(true).write(true).open("/dev/null") {
        Ok(_) if settings.keep_stdio => {}
        Ok(null) => replace(&null),
        Err(error) => {
            tracing::error!(target: "daemon", "could not open /dev/null: {}", crate::error_text(&error));
        }
    }
    log.set_level(None, Some(Destination::Console), Level::Off);
    if settings.chdir {
        let _ = std::env::set_current_dir("/");
    }
}

fn replace(null: &File) {
    if let Err(error) = process::replace_stdio(null) {
        tracing::error!(target: "daemon", "could not close the standard files: {}", crate::error_text(&error));
    }
}

enum Startup {
    /// We are the child; write here when all is well.
    Child(io::PipeWriter),
    /// The child works; what it says when it dies can be read here.
    Ready(i32, io::PipeReader),
    /// It ended before it worked; we should end with this status.
    Died(i32),
}

fn fork_and_wait(log: &Logger) -> Result<Startup, DetachError> {
    let (mut reader, writer) = io::pipe().map_err(system("failed to create pipe"))?;
    match process::fork().map_err(system("fork failed"))? {
        Fork::Child => Ok(Startup::Child(writer)),
        Fork::Parent(pid) => {
            drop(writer);
            let mut byte = [0];
            match reader.read(&mut byte) {
                Ok(1) => Ok(Startup::Ready(pid, reader)),
                _ => Ok(Startup::Died(startup_status(pid, log)?)),
            }
        }
    }
}

fn startup_status(pid: i32, _: &Logger) -> Result<i32, DetachError> {
    match process::wait(pid).map_err(system("waitpid failed"))? {
        Ended::Exited(status) if status != 0 => Ok(status),
        ended => {
            let text = ended_text(ended);
            tracing::error!(target: "daemon_unix", "fork child died before signaling startup ({text})");
            Ok(1)
        }
    }
}

fn ended_text(ended: Ended) -> String {
    match ended {
        Ended::Exited(status) => format!("exit status {status}"),
        Ended::Killed { signal, core } => {
            let core = if core { ", core dumped" } else { "" };
            format!("killed ({}){core}", process::signal_text(signal))
        }
    }
}

/// The status of a Rust program whose main thread panicked.
const PANICKED: i32 = 101;

/// Whether a process that ended so should be started again: it was a programming error that killed it.
fn should_restart(ended: Ended) -> bool {
    use libc::{SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGPIPE, SIGSEGV, SIGXCPU, SIGXFSZ};
    const ERRORS: [i32; 9] = [SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGPIPE, SIGSEGV, SIGXCPU, SIGXFSZ];
    match ended {
        Ended::Exited(status) => status == PANICKED,
        Ended::Killed { signal, .. } => ERRORS.contains(&signal),
    }
}

/// Watches the daemon and starts it anew when it crashes. Returns in a new daemon only.
fn monitor(
    mut pid: i32,
    mut words: io::PipeReader,
    settings: &Settings,
    log: &Logger,
) -> Result<io::PipeWriter, DetachError> {
    const GAP: Duration = Duration::from_secs(10);
    log.set_subprogram("monitor");
    if settings.detach {
        let_go(settings, log);
    }
    let (mut crashes, mut last_restart) = (0_u32, None::<Instant>);
    loop {
        let ended = process::wait(pid).map_err(system("waitpid failed"))?;
        if !should_restart(ended) {
            tracing::info!(target: "daemon_unix", "pid {pid} died, {}, exiting", ended_text(ended));
            std::process::exit(0);
        }
        let mut last = Vec::new();
        // Every end for writing was closed when the daemon died.
        if words.read_to_end(&mut last).is_ok() && !last.is_empty() {
            tracing::warn!(target: "backtrace", "{}", String::from_utf8_lossy(&last).trim_end());
        }
        crashes += 1;
        let status = format!("{crashes} crashes: pid {pid} died, {}", ended_text(ended));
        if let Ended::Killed { core: true, .. } = ended
            && let Err(error) = process::disable_core_dumps()
        {
            tracing::warn!(target: "daemon_unix", "failed to disable core dumps: {}", crate::error_text(&error));
        }
        if let Some(since) = last_restart.map(|at| at.elapsed()).filter(|since| *since < GAP) {
            tracing::warn!(target: "daemon_unix", "{status}, waiting until 10 seconds since last restart");
            std::thread::sleep(GAP - since);
        }
        last_restart = Some(Instant::now());
        tracing::error!(target: "daemon_unix", "{status}, restarting");
        loop {
            match fork_and_wait(log)? {
                Startup::Child(pipe) => {
                    log.set_subprogram("");
                    return Ok(pipe);
                }
                Startup::Ready(new, pipe) => {
                    (pid, words) = (new, pipe);
                    break;
                }
                Startup::Died(_) => std::thread::sleep(GAP),
            }
        }
    }
}

/// Capabilities of `linux/capability.h` that a daemon keeps.
mod capability {
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_BROADCAST: u32 = 11;
    pub const NET_ADMIN: u32 = 12;
    pub const NET_RAW: u32 = 13;
    pub const IPC_LOCK: u32 = 14;
}

fn become_user(spec: &str, settings: &Settings) -> Result<(), DetachError> {
    let pidfile = settings.pidfile.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let fail = |what: String| DetachError::User { pidfile: pidfile.clone(), what };
    if !process::is_root() {
        return Err(fail("only root can use --user option".to_owned()));
    }
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "root" } else { user };
    let entry = passwd_entry(user).ok_or_else(|| fail(format!("user {user} not found, aborting.")))?;
    let gid = match group {
        None => entry.1,
        Some(group) => {
            let (gid, members) =
                group_entry(group).ok_or_else(|| fail(format!("group {group} not found, aborting.")))?;
            if gid != entry.1 && !members.iter().any(|member| member == user) {
                return Err(fail(format!(
                    "Invalid --user option {spec} (user {user} is not in group {group}), aborting."
                )));
            }
            gid
        }
    };
    let mut keep = vec![capability::IPC_LOCK, capability::NET_BIND_SERVICE];
    if settings.access_datapath {
        keep.extend([capability::NET_ADMIN, capability::NET_RAW, capability::NET_BROADCAST]);
    }
    process::become_user(user, entry.0, gid, &keep).map_err(system("fail to switch user"))
}

fn passwd_entry(user: &str) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields =
        text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f.first() == Some(&user))?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

fn group_entry(group: &str) -> Option<(u32, Vec<String>)> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    let fields =
        text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f.first() == Some(&group))?;
    let members = fields.get(3).map(|m| m.split(',').map(str::to_owned).collect()).unwrap_or_default();
    Some((fields.get(2)?.parse().ok()?, members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_are_restarted_and_ends_are_not() {
        let killed = |signal| Ended::Killed { signal, core: false };
        assert!(should_restart(killed(libc::SIGSEGV)) && should_restart(Ended::Exited(PANICKED)));
        assert!(!should_restart(killed(libc::SIGTERM)) && !should_restart(Ended::Exited(1)));
        assert_eq!(
            ended_text(Ended::Killed { signal: libc::SIGSEGV, core: true }),
            "killed (Segmentation fault), core dumped"
        );
    }
}
