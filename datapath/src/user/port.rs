//! Ports: where frames come from and go to.
//!
//! A [`Netdev`](crate::netdev::Netdev) that can carry packets gives an [`Io`], its packet side. One worker polls a receive
//! queue; any worker sends, each by its own transmit queue.
//!
//! * [`afpacket`]: interfaces of the kernel.
//! * [`tap`]: taps, and with them the bridges' internal ports.
//! * [`dummy`]: ports for tests, fed by `netdev-dummy/receive`.
//! * [`pcap`], [`null`]: frames from a file, and to nowhere, for measuring.
//! * [`patch`]: the two ends of a patch carry no packets here; they only count.

pub mod kernel;
pub mod afpacket;
pub mod tap;
pub mod dummy;
pub mod stream;
pub mod pcap;
pub mod null;
pub mod patch;

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use sys::packet::VNET_HDR;
use sys::pool::{HEADROOM, Pool};

use super::batch::{Meta, Offload, Packet};

/// Where a port puts the packets that it received.
pub struct Rx<'a> {
    pub pool: &'a mut Pool,
    pub packets: &'a mut Vec<Packet>,
    /// The datapath port that they came in by.
    pub port: u32,
    /// Packets for which there was no memory.
    pub dropped: u64,
}

impl Rx<'_> {
    /// Takes a frame.
    #[inline]
    pub fn push(&mut self, frame: &[u8], offload: Offload) {
        match Packet::new(self.pool, frame, offload, Meta::received(self.port)) {
            Some(packet) => self.packets.push(packet),
            None => self.dropped += 1,
        }
    }

    /// Takes a frame whose VLAN tag (tag protocol, TCI) the kernel took off; puts it on again.
    pub fn push_kernel(&mut self, frame: &[u8], vnet: &[u8; VNET_HDR], vlan: Option<(u16, u16)>) {
        let before = self.packets.len();
        self.push(frame, Offload::from_vnet(vnet));
        if let Some((tpid, tci)) = vlan
            && self.packets.len() > before
            && let Some(packet) = self.packets.last_mut()
            && packet.push(self.pool, 12, 4)
        {
            let tag = &mut packet.frame_mut(self.pool)[12..16];
            tag[..2].copy_from_slice(&tpid.to_be_bytes());
            tag[2..].copy_from_slice(&tci.to_be_bytes());
        }
    }

    /// Takes the frame whose first bytes `fill` wrote into a fresh buffer and the rest into `overflow`.
    pub fn push_from<E>(
        &mut self,
        overflow: &mut [u8],
        fill: impl FnOnce(&mut [u8], &mut [u8]) -> Result<(usize, [u8; VNET_HDR]), E>,
    ) -> Result<(), Option<E>> {
        let Some(buffer) = self.pool.alloc(0) else {
            self.dropped += 1;
            return Err(None);
        };
        let capacity = Pool::capacity(&buffer);
        let first = &mut self.pool.bytes_mut(&buffer)[HEADROOM..];
        let (len, vnet) = match fill(first, overflow) {
            Ok(filled) => filled,
            Err(error) => {
                self.pool.free(buffer);
                return Err(Some(error));
            }
        };
        let offload = Offload::from_vnet(&vnet);
        if len <= capacity {
            self.packets.push(Packet::of(buffer, len as u32, offload, Meta::received(self.port)));
            return Ok(());
        }
        if let Some(large) = self.pool.alloc(len) {
            self.pool.copy(&buffer, HEADROOM..HEADROOM + capacity, &large, HEADROOM);
            let rest = HEADROOM + capacity..HEADROOM + len;
            self.pool.bytes_mut(&large)[rest].copy_from_slice(&overflow[..len - capacity]);
            self.packets.push(Packet::of(large, len as u32, offload, Meta::received(self.port)));
        } else {
            self.dropped += 1;
        }
        self.pool.free(buffer);
        Ok(())
    }
}

/// A frame on its way out.
#[derive(Clone, Copy)]
pub struct TxFrame<'a> {
    pub bytes: &'a [u8],
    pub offload: Offload,
    /// Where the transport payload begins; needed with segmentation only.
    pub header_len: u16,
}

/// The packet side of a device.
pub trait Io: Send + Sync {
    /// Receive queues.
    fn rx_queues(&self) -> usize {
        1
    }

    /// Transmit queues, as `dpif-netdev/pmd-rxq-show` and `dpctl/show` tell.
    fn tx_queues(&self) -> usize {
        1
    }

    /// Whether packets can be output by it at all.
    fn carries_packets(&self) -> bool {
        true
    }

    /// Whether a worker thread polls the device, or the main thread.
    fn is_pmd(&self) -> bool;

    /// Whether partial checksums and segmentation may be left to the device.
    fn offloads(&self) -> bool {
        false
    }

    /// The NUMA node that the device is at.
    fn numa(&self) -> u32 {
        0
    }

    /// Registers what a frame that arrives for the main thread wakes.
    fn wake_by(&self, _waker: &std::task::Waker) {}

    /// What becomes readable when `queue` has frames; `None` if it must be polled.
    fn readable(&self, queue: usize) -> Option<RawFd>;

    /// Receives up to `max` frames from `queue`; how many.
    fn receive(&self, queue: usize, max: usize, rx: &mut Rx<'_>) -> usize;

    /// Sends frames in order by transmit queue `queue` (any number; taken modulo the queues). How many were dropped.
    fn send(&self, queue: usize, frames: &[TxFrame<'_>]) -> usize;
}

/// Counters of what went through a device that the kernel does not count.
#[derive(Default)]
pub struct Counts {
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    pub dropped: AtomicU64,
}

impl Counts {
    /// Counts one packet.
    pub fn add(&self, bytes: usize) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Packets and bytes.
    pub fn read(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}
