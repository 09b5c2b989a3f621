//! What every program of the project shares. A tour, in the order of a daemon's life:
//!
//! * [`dirs`]: where files are; [`manual`] and [`options`]: the command line; [`vlog`]: logging.
//! * [`detach`]: `--detach`, `--monitor`, `--pidfile`, `--user`; [`pidfile`]: who runs.
//! * [`clock`]: real, stopped and warped time; [`coverage`], [`memory`]: what was counted.
//! * [`stream`]: `unix:`, `tcp:`, `ssl:` and their passive twins; [`jsonrpc`] over them; [`reconnect`]: when to try again; [`session`]: all three.
//! * [`unixctl`]: the control socket, both sides.
//! * [`program`]: all of these in order, for a `main`.
//!
//! Protocols are state machines without I/O; tasks move bytes between sockets and bounded channels.
#![forbid(unsafe_code)]

pub mod dirs;
pub mod manual;
pub mod options;
pub mod vlog;
pub mod pidfile;
pub mod detach;
pub mod clock;
pub mod coverage;
pub mod memory;
pub mod stream;
pub mod jsonrpc;
pub mod reconnect;
pub mod session;
pub mod unixctl;
pub mod program;
pub mod testing;

use std::io;

/// Locks a file against other processes in the way that OVS's programs respect.
pub use sys::process;
pub use sys::process::lock_file;
use tokio::signal::unix::{SignalKind, signal};

/// The version of Open vSwitch that we stand in for.
pub const OVS_VERSION: &str = "3.7.1";

/// The text of an I/O error as OVS words it: the C library's text without a number; `End of file` for a stream that
/// ended.
pub fn error_text(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind()) {
        (Some(errno), _) => sys::errno::Errno(errno).to_string(),
        (None, io::ErrorKind::UnexpectedEof) => "End of file".to_owned(),
        (None, _) => error.to_string(),
    }
}

/// Ends the process by `SIGALRM` in `secs` seconds, telling the log, for programs with a time limit (`--timeout`); never
/// without one.
pub async fn time_limit(secs: Option<u32>) {
    let (Some(secs), Ok(mut alarm)) = (secs, signal(SignalKind::alarm())) else {
        return std::future::pending().await;
    };
    sys::process::alarm(secs);
    alarm.recv().await;
    let number = SignalKind::alarm().as_raw_value();
    let name = sys::process::signal_text(number);
    tracing::warn!(target: "fatal_signal", "terminating with signal {number} ({name})");
    sys::process::die_by(number)
}
