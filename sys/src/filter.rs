//! Socket filters (classic BPF, `linux/filter.h`): programs by which the kernel drops what a socket would get, before it
//! waits there.
//!
//! A program has an accumulator A and an index X. Offsets count from the start of the message; a load beyond its end drops
//! it. Jumps say how many steps to skip.

use std::os::fd::AsRawFd;

use crate::errno::Errno;

/// One step of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A = a number.
    Number(u32),
    /// X = a number.
    NumberX(u32),
    /// A = the message's length.
    Length,
    /// A = the big-endian half-word at an offset.
    Half(u32),
    /// A = the big-endian word at an offset.
    Word(u32),
    /// A = the big-endian word at an offset from X.
    WordAtX(u32),
    /// A = where the netlink attribute of type X is, from offset A on; 0 if it is not there.
    Attribute,
    /// A = where the attribute of type X is within the attribute at A; 0 if it is not there.
    AttributeWithin,
    /// A = a random number.
    Random,
    /// X = A.
    ToX,
    /// Compares A with a number, and skips so many steps if they are equal, or if not.
    IfEqual(u32, u8, u8),
    /// As [`Step::IfEqual`]: whether A is at least the number.
    IfLeast(u32, u8, u8),
    /// As [`Step::IfEqual`]: whether A is greater than the number.
    IfGreater(u32, u8, u8),
    /// The message is kept.
    Keep,
    /// The message is dropped.
    Drop,
}

impl Step {
    fn encode(self) -> libc::sock_filter {
        let (code, k, jt, jf) = match self {
            Self::Number(k) => (libc::BPF_LD | libc::BPF_IMM, k, 0, 0),
            Self::NumberX(k) => (libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM, k, 0, 0),
            Self::Length => (libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0, 0, 0),
            Self::Half(at) => (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, at, 0, 0),
            Self::Word(at) => (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0),
            Self::WordAtX(at) => (libc::BPF_LD | libc::BPF_W | libc::BPF_IND, at, 0, 0),
            Self::Attribute => ancillary(libc::SKF_AD_NLATTR),
            Self::AttributeWithin => ancillary(libc::SKF_AD_NLATTR_NEST),
            Self::Random => ancillary(libc::SKF_AD_RANDOM),
            Self::ToX => (libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
            Self::IfEqual(k, yes, no) => (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, yes, no),
            Self::IfLeast(k, yes, no) => (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, k, yes, no),
            Self::IfGreater(k, yes, no) => (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, k, yes, no),
            Self::Keep => (libc::BPF_RET | libc::BPF_K, u32::MAX, 0, 0),
            Self::Drop => (libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        };
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
}

const fn ancillary(what: libc::c_int) -> (u32, u32, u8, u8) {
    (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (libc::SKF_AD_OFF + what) as u32, 0, 0)
}

/// Has the kernel run a program on each message for `socket` from now on, instead of the one before. Of what waits there
/// already nothing is dropped.
///
/// # Errors
/// `EINVAL` if it is no program: too long, or without an end.
pub fn attach(socket: &impl AsRawFd, program: &[Step]) -> Result<(), Errno> {
    let mut code: Vec<_> = program.iter().map(|step| step.encode()).collect();
    let len = u16::try_from(code.len()).map_err(|_| Errno(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let fd = socket.as_raw_fd();
    // SAFETY: a program header and its size are given to read, which names `len` instructions that live until the call
    // returns; the kernel copies and checks them.
    let failed = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), size)
    };
    if failed == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// Has every message kept again.
pub fn detach(socket: &impl AsRawFd) {
    let none: libc::c_int = 0;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an int and its size are given to read. It fails only where there is no filter.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const none).cast(),
            size,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn messages_are_dropped_by_what_they_hold() {
        let (from, to) = UnixDatagram::pair().unwrap();
        to.set_nonblocking(true).unwrap();
        let program = [
            Step::Length,
            Step::IfLeast(4, 0, 3),
            Step::Word(0),
            Step::IfEqual(0x0102_0304, 1, 0),
            Step::Keep,
            Step::Drop,
        ];
        attach(&to, &program).unwrap();
        for message in [&[1, 2, 3][..], &[1, 2, 3, 4], &[1, 2, 3, 5], &[1, 2, 3, 4, 5]] {
            from.send(message).unwrap();
        }
        detach(&to);
        from.send(&[1, 2, 3, 4]).unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 16];
        while let Ok(n) = to.recv(&mut buffer) {
            got.push(buffer[..n].to_vec());
        }
        assert_eq!(got, [vec![1, 2, 3, 5], vec![1, 2, 3, 4]]);
        assert_eq!(attach(&to, &[Step::Length]), Err(Errno(libc::EINVAL)));
    }
}
