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

/// File descriptors that one thread waits for (`epoll`), each with a number of the caller's.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// Descriptors that one wait tells of.
const EVENTS: usize = 64;

impl Epoll {
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: epoll_create1 takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(Errno::last());
        }
        // SAFETY: the descriptor was made just now and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for `fd`, too, as long as it is open; [`Epoll::wait`] tells of it as `number`.
    pub fn add(&self, fd: RawFd, number: u64) -> Result<(), Errno> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        // SAFETY: `event` is readable.
        let failed = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if failed == 0 { Ok(()) } else { Err(Errno::last()) }
    }

    /// Waits for `fd` no more.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: no pointer is looked at for a removal. It fails only for what is not waited for.
        unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits until something is readable or broken, or `timeout` (`None`: never) is over; puts the numbers of what is into
    /// `ready`.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<u64>) {
        ready.clear();
        let ms = timeout
            .map_or(-1, |timeout| libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX));
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        // SAFETY: `EVENTS` writable entries are given.
        let n =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), EVENTS as libc::c_int, ms) };
        let n = usize::try_from(n).unwrap_or(0);
        ready.extend(events[..n.min(EVENTS)].iter().map(|event| event.u64));
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
    fn one_of_many_is_told_by_its_number() {
        let (epoll, one, two) = (Epoll::new().unwrap(), Bell::new().unwrap(), Bell::new().unwrap());
        epoll.add(one.as_raw_fd(), 1).unwrap();
        epoll.add(two.as_raw_fd(), 2).unwrap();
        let mut ready = vec![9];
        epoll.wait(Some(Duration::ZERO), &mut ready);
        assert_eq!(ready, []);
        two.ring();
        epoll.wait(None, &mut ready);
        assert_eq!(ready, [2]);
        epoll.remove(two.as_raw_fd());
        epoll.wait(Some(Duration::from_millis(1)), &mut ready);
        assert_eq!(ready, []);
    }

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
