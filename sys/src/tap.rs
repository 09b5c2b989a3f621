//! Tap interfaces with virtio-net headers (`linux/if_tun.h`).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};

use crate::errno::Errno;
use crate::packet::VNET_HDR;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
/// Checksum, TSO for IPv4 and IPv6, and TSO of flows with ECN.
const OFFLOADS: libc::c_ulong = 1 | 2 | 4 | 8;

/// A tap interface. It lives as long as this value, in the network namespace where it was made.
#[derive(Debug)]
pub struct Tap(File);

impl Tap {
    /// Makes the interface, or attaches to a persistent one.
    ///
    /// # Errors
    /// `EBUSY` if it is in use, `EINVAL` if the name is one of another kind of device or too long.
    pub fn open(name: &str) -> Result<Self, Errno> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        let mut request = crate::link::request(name)?;
        request.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        let tap = Self(file);
        tap.ioctl(TUNSETIFF, &raw mut request)?;
        let mut size = VNET_HDR as libc::c_int;
        tap.ioctl(TUNSETVNETHDRSZ, &raw mut size)?;
        // SAFETY: this request takes a number, not a pointer.
        if unsafe { libc::ioctl(tap.0.as_raw_fd(), TUNSETOFFLOAD, OFFLOADS) } < 0 {
            return Err(Errno::last());
        }
        // SAFETY: fcntl with numbers only.
        if unsafe { libc::fcntl(tap.0.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
            return Err(Errno::last());
        }
        Ok(tap)
    }

    fn ioctl<T>(&self, request: libc::c_ulong, argument: *mut T) -> Result<(), Errno> {
        // SAFETY: the callers above pass the structure that the request reads and writes.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) } {
            0.. => Ok(()),
            _ => Err(Errno::last()),
        }
    }

    /// Reads one frame into `first` and, once that is full, `rest`. Its length and header; `EAGAIN` if there is none.
    pub fn receive(&self, first: &mut [u8], rest: &mut [u8]) -> Result<(usize, [u8; VNET_HDR]), Errno> {
        let mut header = [0; VNET_HDR];
        let parts = [writable(&mut header), writable(first), writable(rest)];
        // SAFETY: three parts that point at writable slices, borrowed for the call.
        let n = unsafe { libc::readv(self.0.as_raw_fd(), parts.as_ptr(), 3) };
        match usize::try_from(n) {
            Ok(n) if n >= VNET_HDR => Ok((n - VNET_HDR, header)),
            Ok(_) => Err(Errno::EIO),
            Err(_) => Err(Errno::last()),
        }
    }

    /// Gives one frame to the kernel, which receives it from the interface.
    pub fn send(&self, header: &[u8; VNET_HDR], frame: &[u8]) -> Result<(), Errno> {
        let parts = [readable(header), readable(frame)];
        // SAFETY: two parts that point at readable slices, borrowed for the call.
        match unsafe { libc::writev(self.0.as_raw_fd(), parts.as_ptr(), 2) } {
            0.. => Ok(()),
            _ => Err(Errno::last()),
        }
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn writable(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

fn readable(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}
