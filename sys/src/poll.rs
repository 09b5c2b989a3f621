//! Waiting for file descriptors, and waking a thread that waits.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::errno::Errno;

/// A bell that any thread may ring and one thread waits for (`eventfd`).
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(Errno::last());
        }
        // SAFETY: the descriptor was made just now and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Rings; rings that nobody heard yet are one.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: eight readable bytes are given. It fails only when the counter is full, which is rung enough.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Takes what was rung; whether there was anything.
    pub fn hear(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight writable bytes are given.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) == 8 }
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits until one of `fds` is readable or broken, or `timeout` is over. Whether one is.
pub fn wait_readable(fds: &[RawFd], timeout: Duration) -> bool {
    let mut set: Vec<_> =
        fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let limit = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    let n = set.len() as libc::nfds_t;
    // SAFETY: `set` holds `n` writable entries, `limit` is readable, and no signal mask is given.
    unsafe { libc::ppoll(set.as_mut_ptr(), n, &raw const limit, std::ptr::null()) > 0 }
}

/// As [`wait_readable`]; gives the places in `fds` of those that are broken. An error that waits on a socket (the interface
/// went down) is taken off it.
pub fn wait_or_broken(fds: &[RawFd], timeout: Duration) -> Vec<usize> {
    let mut set: Vec<_> =
        fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let limit = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    let n = set.len() as libc::nfds_t;
    // SAFETY: `set` holds `n` writable entries, `limit` is readable, and no signal mask is given.
    unsafe { libc::ppoll(set.as_mut_ptr(), n, &raw const limit, std::ptr::null()) };
    let broken = |entry: &libc::pollfd| entry.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
    let broken: Vec<usize> =
        set.iter().enumerate().filter(|(_, entry)| broken(entry)).map(|(n, _)| n).collect();
    for &place in &broken {
        let (mut error, mut len) = (0 as libc::c_int, size_of::<libc::c_int>() as u32);
        // SAFETY: an int and its size are given to write to. What is no socket refuses, and nothing is lost.
        unsafe {
            libc::getsockopt(
                fds[place],
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut error).cast(),
                &raw mut len,
            )
        };
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_wakes() {
        let bell = Bell::new().unwrap();
        assert!(!wait_readable(&[bell.as_raw_fd()], Duration::ZERO));
        bell.ring();
        bell.ring();
        assert!(wait_readable(&[bell.as_raw_fd()], Duration::from_secs(1)));
        assert!(bell.hear());
        assert!(!bell.hear());
        assert_eq!(wait_or_broken(&[bell.as_raw_fd(), 1 << 20], Duration::ZERO), [1]);
    }
}
