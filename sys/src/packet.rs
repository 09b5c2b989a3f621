//! AF_PACKET: receiving by a TPACKET_V2 ring, sending by `sendmmsg`, both with virtio-net headers (packet(7),
//! `linux/if_packet.h`, `linux/virtio_net.h`).
//!
//! The ring's slots are small: what does not fit (64 KiB frames from GRO, jumbo frames) the kernel leaves whole in the
//! socket's queue and marks the slot (`TP_STATUS_COPY`); it is read from there, in order. TPACKET_V3 would hold frames back
//! until a block is full or its timer fires.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::errno::Errno;

/// Bytes of the virtio-net header without `num_buffers`.
pub const VNET_HDR: usize = 10;

const FRAME: usize = crate::pool::STRIDE;
const BLOCK: usize = 64 << 10;
const FRAMES_PER_BLOCK: usize = BLOCK / FRAME;
const BLOCKS: usize = 64;
const FRAMES: usize = FRAMES_PER_BLOCK * BLOCKS;
/// Bytes of large frames that may wait in the socket's queue.
const RCVBUF: libc::c_int = 32 << 20;
/// Bytes that may be on their way out: a vector of the largest frames.
const SNDBUF: libc::c_int = 8 << 20;
/// Frames given to the kernel in one system call.
const SEND_BATCH: usize = 64;

const PACKET_RX_RING: libc::c_int = 5;
const PACKET_COPY_THRESH: libc::c_int = 7;
const PACKET_VERSION: libc::c_int = 10;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_QDISC_BYPASS: libc::c_int = 20;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const TPACKET_V2: libc::c_int = 1;

const STATUS_USER: u32 = 1 << 0;
const STATUS_COPY: u32 = 1 << 1;
const STATUS_VLAN_VALID: u32 = 1 << 4;
const STATUS_VLAN_TPID_VALID: u32 = 1 << 6;

/// `struct tpacket2_hdr`.
#[repr(C)]
struct SlotHeader {
    status: AtomicU32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    sec: u32,
    nsec: u32,
    vlan_tci: u16,
    vlan_tpid: u16,
    padding: [u8; 4],
}

#[repr(C)]
struct RingRequest {
    block_size: u32,
    block_nr: u32,
    frame_size: u32,
    frame_nr: u32,
}

/// A received frame, as long as it lies in the ring.
pub struct Received<'a> {
    pub frame: &'a [u8],
    /// `struct virtio_net_hdr`.
    pub vnet: [u8; VNET_HDR],
    /// Tag protocol and TCI of a VLAN tag that the kernel took off the frame.
    pub vlan: Option<(u16, u16)>,
    /// Bytes that the frame had on the wire; more than `frame` if it was cut.
    pub full_len: usize,
}

/// The receiving side of one interface.
pub struct Receiver {
    socket: OwnedFd,
    ring: NonNull<u8>,
    head: usize,
    large: Vec<u8>,
    /// Frames lost because neither a slot nor the socket's queue could take them whole.
    pub truncated: u64,
}

// SAFETY: the mapping belongs to this value alone and may be used from whichever thread has it.
unsafe impl Send for Receiver {}

impl Receiver {
    /// Receives what comes in by an interface. Frames that this machine sends out by it are not seen.
    pub fn open(ifindex: u32) -> Result<Self, Errno> {
        let socket = socket(0)?;
        set(&socket, libc::SOL_PACKET, PACKET_VERSION, &TPACKET_V2)?;
        set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, &1)?;
        set(&socket, libc::SOL_PACKET, PACKET_COPY_THRESH, &1)?;
        set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1)?;
        if set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RCVBUF).is_err() {
            set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &RCVBUF)?;
        }
        let request = RingRequest {
            block_size: BLOCK as u32,
            block_nr: BLOCKS as u32,
            frame_size: FRAME as u32,
            frame_nr: FRAMES as u32,
        };
        set(&socket, libc::SOL_PACKET, PACKET_RX_RING, &request)?;
        // SAFETY: a fresh mapping of the ring that was just set up; the kernel chooses the address.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BLOCK * BLOCKS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let ring = NonNull::new(at.cast()).ok_or(Errno::ENOMEM)?;
        let receiver = Self { socket, ring, head: 0, large: vec![0; VNET_HDR + (65 << 10)], truncated: 0 };
        bind(&receiver.socket, ifindex, libc::ETH_P_ALL as u16)?;
        Ok(receiver)
    }

    /// Takes up to `max` frames; `take` must be done with each when it returns. How many there were.
    pub fn receive(&mut self, max: usize, mut take: impl FnMut(Received<'_>)) -> usize {
        for n in 0..max {
            let at = self.head / FRAMES_PER_BLOCK * BLOCK + self.head % FRAMES_PER_BLOCK * FRAME;
            // SAFETY: `head` is below FRAMES, so the slot lies within the mapping, which lives as long as `self`; slots are aligned to 64 bytes, and
            // the kernel keeps a tpacket2_hdr at the start of each.
            let header = unsafe { self.ring.add(at).cast::<SlotHeader>().as_ref() };
            let status = header.status.load(Ordering::Acquire);
            if status & STATUS_USER == 0 {
                return n;
            }
            self.take_slot(header, at, status, &mut take);
            header.status.store(0, Ordering::Release);
            self.head = (self.head + 1) % FRAMES;
        }
        max
    }

    fn take_slot(
        &mut self,
        header: &SlotHeader,
        at: usize,
        status: u32,
        take: &mut impl FnMut(Received<'_>),
    ) {
        let vlan = (status & STATUS_VLAN_VALID != 0).then_some((
            if status & STATUS_VLAN_TPID_VALID != 0 { header.vlan_tpid } else { 0x8100 },
            header.vlan_tci,
        ));
        if status & STATUS_COPY != 0 {
            if let Some(len) = self.receive_large() {
                let vnet = vnet_of(&self.large);
                take(Received { frame: &self.large[VNET_HDR..len], vnet, vlan, full_len: len - VNET_HDR });
            } else {
                self.truncated += 1;
            }
            return;
        }
        let (mac, len) = (usize::from(header.mac), header.snaplen as usize);
        if header.snaplen < header.len || mac < size_of::<SlotHeader>() + VNET_HDR || mac + len > FRAME {
            self.truncated += 1;
            return;
        }
        // SAFETY: `mac + len` was checked to lie within the slot, and the slot is ours until its status is given back.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.ring.add(at + mac - VNET_HDR).as_ptr(), VNET_HDR + len)
        };
        take(Received { frame: &bytes[VNET_HDR..], vnet: vnet_of(bytes), vlan, full_len: len });
    }

    fn receive_large(&mut self) -> Option<usize> {
        let (buffer, len) = (self.large.as_mut_ptr().cast(), self.large.len());
        // SAFETY: `len` writable bytes at `buffer`.
        let n =
            unsafe { libc::recv(self.socket.as_raw_fd(), buffer, len, libc::MSG_DONTWAIT | libc::MSG_TRUNC) };
        usize::try_from(n).ok().filter(|&n| n > VNET_HDR && n <= len)
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size in `open` and nobody else knows of it.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), BLOCK * BLOCKS) };
    }
}

/// What became of frames given to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    pub frames: usize,
    /// The first error; the frame it befell was skipped.
    pub error: Option<Errno>,
}

/// The sending side of one interface.
pub struct Sender(OwnedFd);

impl Sender {
    /// Sends out by an interface, past its queueing discipline if `bypass`.
    pub fn open(ifindex: u32, bypass: bool) -> Result<Self, Errno> {
        let socket = socket(0)?;
        set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, &1)?;
        if bypass {
            set(&socket, libc::SOL_PACKET, PACKET_QDISC_BYPASS, &1)?;
        }
        if set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SNDBUF).is_err() {
            set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &SNDBUF)?;
        }
        bind(&socket, ifindex, 0)?;
        Ok(Self(socket))
    }

    /// Sends frames, each with its virtio-net header, in order. Does not wait.
    pub fn send<'a>(&self, frames: impl Iterator<Item = (&'a [u8; VNET_HDR], &'a [u8])>) -> Sent {
        let mut sent = Sent::default();
        let mut vectors = [[EMPTY; 2]; SEND_BATCH];
        let mut n = 0;
        for (header, frame) in frames {
            vectors[n] = [part(header), part(frame)];
            n += 1;
            if n == SEND_BATCH {
                self.send_batch(&mut vectors[..n], &mut sent);
                n = 0;
            }
        }
        self.send_batch(&mut vectors[..n], &mut sent);
        sent
    }

    fn send_batch(&self, vectors: &mut [[libc::iovec; 2]], sent: &mut Sent) {
        // SAFETY: an mmsghdr is plain data; all zero is an empty message.
        let mut messages: [libc::mmsghdr; SEND_BATCH] = unsafe { std::mem::zeroed() };
        for (message, vector) in messages.iter_mut().zip(vectors.iter_mut()) {
            message.msg_hdr.msg_iov = vector.as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
        }
        let mut rest = &mut messages[..vectors.len()];
        while !rest.is_empty() {
            let (at, len) = (rest.as_mut_ptr(), rest.len() as u32);
            // SAFETY: `len` messages at `at`, whose vectors point at slices that outlive this call (`send` borrows them).
            let n = unsafe { libc::sendmmsg(self.0.as_raw_fd(), at, len, libc::MSG_DONTWAIT) };
            let done = match usize::try_from(n) {
                Ok(done) => {
                    sent.frames += done;
                    done
                }
                Err(_) => {
                    sent.error.get_or_insert(Errno::last());
                    1
                }
            };
            rest = &mut rest[done.max(1)..];
        }
    }
}

const EMPTY: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn vnet_of(bytes: &[u8]) -> [u8; VNET_HDR] {
    bytes.first_chunk().copied().unwrap_or_default()
}

fn socket(protocol: u16) -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol.to_be())) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: made just now, nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(socket: &OwnedFd, ifindex: u32, protocol: u16) -> Result<(), Errno> {
    // SAFETY: a sockaddr_ll is plain data.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as i32;
    let len = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: `len` readable bytes at `address`.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> Result<(), Errno> {
    let (at, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: `len` readable bytes at `at`.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, at, len) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

const _: () = {
    assert!(size_of::<SlotHeader>() == 32);
    assert!(FRAME.is_multiple_of(16));
    assert!(FRAMES_PER_BLOCK * FRAME <= BLOCK);
};
