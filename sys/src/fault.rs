//! What a program does when it touches memory that is not its own: it writes where that happened, to its log or to the
//! process that watches it, and dies of the signal.

use std::ffi::c_int;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// The first line of what is written.
pub const HEADING: &str = "SIGSEGV detected, backtrace:\n";

const NONE: i32 = -1;
/// The log file.
static LOG: AtomicI32 = AtomicI32::new(NONE);
/// A pipe to the watching process, which logs what comes out of it: used instead of the log file.
static WATCHER: AtomicI32 = AtomicI32::new(NONE);

/// Writes to `file` from now on; nowhere, without one.
pub fn log_to(file: Option<OwnedFd>) {
    put(&LOG, file);
}

/// Writes to `pipe` from now on, rather than to a log file.
pub fn tell_watcher(pipe: Option<OwnedFd>) {
    put(&WATCHER, pipe);
}

fn put(place: &AtomicI32, file: Option<OwnedFd>) {
    let old = place.swap(file.map_or(NONE, IntoRawFd::into_raw_fd), Ordering::SeqCst);
    if old != NONE {
        // SAFETY: what the places hold came from `into_raw_fd`, and the swap made us its only owner.
        drop(unsafe { OwnedFd::from_raw_fd(old) });
    }
}

/// Has a fault reported. Call it once, early.
pub fn catch() {
    let mut frames = [std::ptr::null_mut(); 1];
    // SAFETY: `frames` has room for one. The first call loads a library, which a handler must not do.
    unsafe { libc::backtrace(frames.as_mut_ptr(), 1) };
    let handler: extern "C" fn(c_int) = report;
    // SAFETY: `report` calls only what a handler may call.
    unsafe { libc::signal(libc::SIGSEGV, handler as libc::sighandler_t) };
}

extern "C" fn report(signal: c_int) {
    // SAFETY: `signal` and `write` are safe in a handler; so are `backtrace`, once it has run before, and
    // `backtrace_symbols_fd`, which does not allocate. The buffers outlive the calls.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let watcher = WATCHER.load(Ordering::SeqCst);
        let fd = if watcher == NONE { LOG.load(Ordering::SeqCst) } else { watcher };
        if fd != NONE {
            libc::write(fd, HEADING.as_ptr().cast(), HEADING.len());
            let mut frames = [std::ptr::null_mut(); 64];
            let n = libc::backtrace(frames.as_mut_ptr(), 64);
            libc::backtrace_symbols_fd(frames.as_ptr(), n, fd);
        }
        libc::raise(signal);
    }
}
