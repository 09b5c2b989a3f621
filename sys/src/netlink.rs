//! Netlink sockets: bytes of whole messages to and from the kernel (netlink(7)).
//!
//! A socket is owned by whoever talks over it; a request runs inside the `send` that brings it, so its answers wait in
//! the receive buffer when `send` returns. The kernel drops answers that do not fit there and says so once, by `ENOBUFS`:
//! what a request did is then unknown and must be read back. Hence the large buffers.
//!
//! Receiving is by [`Mailbox`], which takes many messages with one system call and keeps their memory.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

pub use netlink_sys::AsyncSocket;
use netlink_sys::SocketAddr;
pub use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE};

use crate::errno::Errno;
use crate::poll;

/// Bytes of answers that may wait in a socket, as the kernel counts them (payload and its own overhead).
pub const RECEIVE_BUFFER: usize = 8 << 20;

/// The longest message that the kernel sends: a 64 KiB packet with its attributes.
pub const MAX_MESSAGE: usize = (64 << 10) + (4 << 10);

const SLOT: usize = MAX_MESSAGE;

/// A netlink socket, bound to a port id of the kernel's choice.
pub struct Socket {
    inner: netlink_sys::Socket,
    pid: u32,
}

impl Socket {
    /// Opens and binds a socket of a protocol ([`NETLINK_GENERIC`], …), with extended acknowledgements that leave the
    /// request out, and room for [`RECEIVE_BUFFER`] bytes of answers where we may have it.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` if the kernel lacks the protocol.
    pub fn open(protocol: isize) -> Result<Self, Errno> {
        let mut inner = netlink_sys::Socket::new(protocol)?;
        // Kernels before 4.12 have no extended acknowledgements; plain ones serve.
        let _ = inner.set_ext_ack(true);
        let _ = inner.set_cap_ack(true);
        let pid = inner.bind_auto()?.port_number();
        // What is sent goes to the kernel alone.
        inner.connect(&SocketAddr::new(0, 0))?;
        let socket = Self { inner, pid };
        socket.set_receive_buffer(RECEIVE_BUFFER);
        Ok(socket)
    }

    /// The socket's port id, by which the kernel addresses it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks for room for `bytes` of answers: beyond the system's limit if we may, else as much as we may. Returns the room
    /// there is.
    pub fn set_receive_buffer(&self, bytes: usize) -> usize {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        if self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
            let _ = self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
        }
        self.inner.get_rx_buf_sz().unwrap_or(0)
    }

    /// Joins a multicast group.
    pub fn join(&self, group: u32) -> Result<(), Errno> {
        Ok(self.inner.add_membership(group)?)
    }

    /// Leaves a multicast group.
    pub fn leave(&self, group: u32) -> Result<(), Errno> {
        Ok(self.inner.drop_membership(group)?)
    }

    /// Hears events of every network namespace that ours has a number for; [`Mailbox::namespace`] tells them apart.
    pub fn listen_all_namespaces(&self) -> Result<(), Errno> {
        Ok(self.inner.set_listen_all_namespaces(true)?)
    }

    /// Lets dumps fail on malformed requests and filter by what these say (`NETLINK_GET_STRICT_CHK`).
    pub fn check_strictly(&self) -> Result<(), Errno> {
        Ok(self.inner.set_netlink_get_strict_chk(true)?)
    }

    /// Sends one or more messages, one after another in `bytes`, in one system call. The kernel has worked on all of them
    /// when this returns.
    ///
    /// # Errors
    /// `EMSGSIZE` if they are more than the send buffer holds (some 200 KiB by default); nothing was done then.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match self.inner.send(bytes, 0).map_err(Errno::from) {
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
                Ok(n) if n == bytes.len() => return Ok(()),
                Ok(_) => return Err(Errno::EMSGSIZE),
            }
        }
    }

    /// Throws away what waits to be read.
    pub fn drain(&self) {
        let mut byte = [0u8; 1];
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // Bounded, for the kernel may fill as fast as we drain.
        for _ in 0..1 << 20 {
            // SAFETY: one writable byte is given; the rest of each message is cut off and lost, as wished.
            let got = unsafe { libc::recv(self.as_raw_fd(), byte.as_mut_ptr().cast(), byte.len(), flags) };
            if got < 0 && !matches!(Errno::last(), Errno(libc::EINTR) | Errno::ENOBUFS) {
                return;
            }
        }
    }

    /// Waits until there is something to read, or `timeout` is over. Whether there is.
    pub fn wait(&self, timeout: Duration) -> bool {
        poll::wait_readable(&[self.as_raw_fd()], timeout)
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: an int and its size are given to read.
        let failed =
            unsafe { libc::setsockopt(self.as_raw_fd(), level, name, (&raw const value).cast(), len) };
        if failed == 0 { Ok(()) } else { Err(Errno::last()) }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// Room for a `cmsghdr` with an int, aligned.
type Control = [u64; 4];

/// What became of one slot.
#[derive(Clone, Copy, Default)]
struct Letter {
    len: usize,
    namespace: Option<i32>,
}

/// Memory for messages that are received many at a time. Slots are as long as the longest message, but only the part that
/// was ever written occupies memory.
pub struct Mailbox {
    memory: Vec<u8>,
    slots: usize,
    letters: Vec<Letter>,
}

impl Mailbox {
    /// For up to `slots` messages, at least one, at a time.
    pub fn new(slots: usize) -> Self {
        let slots = slots.max(1);
        Self { memory: vec![0; slots * SLOT], slots, letters: Vec::with_capacity(slots) }
    }

    /// Takes what waits in `socket`, as far as there are slots, without waiting. How many messages came; none if there are
    /// none. What was in the mailbox before is gone.
    ///
    /// # Errors
    /// `ENOBUFS` if the kernel dropped messages, and what the kernel says. A message that was longer than a slot is
    /// `EMSGSIZE`; those before it are lost with it.
    pub fn receive(&mut self, socket: &Socket) -> Result<usize, Errno> {
        self.receive_some(socket, MAX_SLOTS)
    }

    /// As [`Mailbox::receive`], of no more than `max` messages.
    pub fn receive_some(&mut self, socket: &Socket, max: usize) -> Result<usize, Errno> {
        self.letters.clear();
        let mut iovs: [MaybeUninit<libc::iovec>; MAX_SLOTS] = [const { MaybeUninit::uninit() }; MAX_SLOTS];
        let mut headers: [MaybeUninit<libc::mmsghdr>; MAX_SLOTS] =
            [const { MaybeUninit::uninit() }; MAX_SLOTS];
        let mut controls: [MaybeUninit<Control>; MAX_SLOTS] = [const { MaybeUninit::uninit() }; MAX_SLOTS];
        let slots = self.slots.min(MAX_SLOTS).min(max);
        for (n, slot) in self.memory.chunks_exact_mut(SLOT).take(slots).enumerate() {
            iovs[n].write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT });
            // SAFETY: all zeroes is a valid `mmsghdr`: null pointers and lengths of nothing.
            let header = headers[n].write(unsafe { std::mem::zeroed() });
            header.msg_hdr.msg_iov = iovs[n].as_mut_ptr();
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = controls[n].as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<Control>();
        }
        let got = loop {
            // SAFETY: the first `slots` headers are initialised, each with one `iovec` over a slot of its own and control
            // memory of its own, all writable and alive until the call returns.
            let got = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr().cast(),
                    slots as libc::c_uint,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            if got >= 0 {
                break got.unsigned_abs() as usize;
            }
            match Errno::last() {
                Errno(libc::EINTR) => {}
                Errno::EAGAIN => return Ok(0),
                errno => return Err(errno),
            }
        };
        for header in &headers[..got.min(slots)] {
            // SAFETY: the first `slots` headers are initialised, and the kernel filled in `got` of them.
            let header = unsafe { header.assume_init_ref() };
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                self.letters.clear();
                return Err(Errno::EMSGSIZE);
            }
            let len = (header.msg_len as usize).min(SLOT);
            self.letters.push(Letter { len, namespace: namespace(&header.msg_hdr) });
        }
        Ok(self.letters.len())
    }

    /// As [`Mailbox::receive`], waiting up to `timeout` for the first message.
    pub fn receive_within(&mut self, socket: &Socket, timeout: Duration) -> Result<usize, Errno> {
        match self.receive(socket)? {
            0 if socket.wait(timeout) => self.receive(socket),
            n => Ok(n),
        }
    }

    /// Messages that the last receive brought.
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// The bytes of the `n`-th datagram: one or more netlink messages. Empty beyond [`Mailbox::len`].
    pub fn get(&self, n: usize) -> &[u8] {
        self.letters.get(n).map_or(&[], |letter| &self.memory[n * SLOT..][..letter.len])
    }

    /// The number by which our network namespace knows the one that the `n`-th datagram is from; `None` for our own.
    pub fn namespace(&self, n: usize) -> Option<i32> {
        self.letters.get(n)?.namespace
    }

    /// The datagrams, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.memory.chunks_exact(SLOT).zip(&self.letters).map(|(slot, letter)| &slot[..letter.len])
    }
}

/// Messages that one system call takes at most.
pub const MAX_SLOTS: usize = 64;

/// What `NETLINK_LISTEN_ALL_NSID` says of a message.
fn namespace(header: &libc::msghdr) -> Option<i32> {
    // SAFETY: the kernel filled in the control memory that `header` names, which is alive and aligned.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: not null, so within the control memory and whole.
        let entry = unsafe { &*control };
        if entry.cmsg_level == libc::SOL_NETLINK && entry.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID {
            // SAFETY: messages of this type carry an int, which may be unaligned.
            return Some(unsafe { libc::CMSG_DATA(control).cast::<i32>().read_unaligned() });
        }
        // SAFETY: `control` came from this header.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CTRL_CMD_GETFAMILY` of the family `nlctrl`.
    fn get_family(seq: u32, name: &str) -> Vec<u8> {
        let mut attr = name.as_bytes().to_vec();
        attr.push(0);
        let attr_len = attr.len() + 4;
        attr.resize((attr.len() + 3) & !3, 0);
        let mut bytes = Vec::new();
        bytes.extend((16 + 4 + 4 + attr.len() as u32).to_ne_bytes());
        bytes.extend(16u16.to_ne_bytes());
        bytes.extend(1u16.to_ne_bytes());
        bytes.extend(seq.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend([3, 1, 0, 0]);
        bytes.extend((attr_len as u16).to_ne_bytes());
        bytes.extend(2u16.to_ne_bytes());
        bytes.extend(attr);
        bytes
    }

    #[test]
    fn batches_go_and_come_with_one_call_each() {
        let socket = Socket::open(NETLINK_GENERIC).unwrap();
        let mut mailbox = Mailbox::new(8);
        assert_eq!(mailbox.receive(&socket), Ok(0));
        let batch: Vec<u8> = (1..=3).flat_map(|seq| get_family(seq, "nlctrl")).collect();
        socket.send(&batch).unwrap();
        assert_eq!(mailbox.receive_within(&socket, Duration::from_secs(5)), Ok(3));
        let seqs: Vec<_> =
            mailbox.iter().map(|bytes| u32::from_ne_bytes(bytes[8..12].try_into().unwrap())).collect();
        assert_eq!(seqs, [1, 2, 3]);
        let pids: Vec<_> =
            mailbox.iter().map(|bytes| u32::from_ne_bytes(bytes[12..16].try_into().unwrap())).collect();
        assert_eq!(pids, [socket.pid(); 3]);
        assert_eq!(mailbox.namespace(0), None);
        assert_eq!(mailbox.get(3), b"");
    }

    #[test]
    fn an_overrun_is_told_and_drained() {
        let socket = Socket::open(NETLINK_GENERIC).unwrap();
        socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, 1).unwrap();
        let batch: Vec<u8> = (1..=50).flat_map(|seq| get_family(seq, "no such family")).collect();
        let sent = socket.send(&batch);
        let mut mailbox = Mailbox::new(64);
        assert!(sent == Err(Errno::ENOBUFS) || mailbox.receive(&socket) == Err(Errno::ENOBUFS));
        socket.drain();
        assert_eq!(mailbox.receive(&socket), Ok(0));
    }
}
