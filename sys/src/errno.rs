//! Error numbers of the kernel, with the C library's words for them.

use std::ffi::CStr;
use std::fmt;

/// An error number (`errno`), positive. Displays as the C library words it ("No such device").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    pub const EPERM: Self = Self(libc::EPERM);
    pub const ENOENT: Self = Self(libc::ENOENT);
    pub const EINTR: Self = Self(libc::EINTR);
    pub const EIO: Self = Self(libc::EIO);
    pub const E2BIG: Self = Self(libc::E2BIG);
    pub const EAGAIN: Self = Self(libc::EAGAIN);
    pub const ENOMEM: Self = Self(libc::ENOMEM);
    pub const EBUSY: Self = Self(libc::EBUSY);
    pub const EEXIST: Self = Self(libc::EEXIST);
    pub const ENODEV: Self = Self(libc::ENODEV);
    pub const EINVAL: Self = Self(libc::EINVAL);
    pub const EFBIG: Self = Self(libc::EFBIG);
    pub const ENOSPC: Self = Self(libc::ENOSPC);
    pub const EDOM: Self = Self(libc::EDOM);
    pub const ERANGE: Self = Self(libc::ERANGE);
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    pub const EAFNOSUPPORT: Self = Self(libc::EAFNOSUPPORT);
    pub const EADDRNOTAVAIL: Self = Self(libc::EADDRNOTAVAIL);
    pub const ENOBUFS: Self = Self(libc::ENOBUFS);
    pub const EMSGSIZE: Self = Self(libc::EMSGSIZE);
    pub const EPROTO: Self = Self(libc::EPROTO);
    pub const ENETDOWN: Self = Self(libc::ENETDOWN);

    /// The calling thread's last error.
    pub fn last() -> Self {
        Self::from(std::io::Error::last_os_error())
    }

    /// The number.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl From<std::io::Error> for Errno {
    /// Errors that do not stem from the kernel become `EIO`.
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 128];
        // SAFETY: `text` is writable for its whole length, and the C library ends what it writes there with a NUL.
        let failed = unsafe { libc::strerror_r(self.0, text.as_mut_ptr().cast(), text.len()) };
        match CStr::from_bytes_until_nul(&text) {
            Ok(text) if failed == 0 => f.write_str(&text.to_string_lossy()),
            _ => write!(f, "Unknown error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(Errno::ENODEV.to_string(), "No such device");
        assert_eq!(Errno(99_999).to_string(), "Unknown error 99999");
        assert_eq!(Errno::from(std::io::Error::from_raw_os_error(17)), Errno::EEXIST);
    }
}
