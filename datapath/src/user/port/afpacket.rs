//! Frames of a kernel interface by AF_PACKET.
//!
//! VLAN tags come beside the frame and are put back; frames that this machine sends are not seen; partial checksums and
//! 64 KiB frames from GRO come with a virtio-net header and leave with one.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use sys::packet::{Receiver, Sender};

use super::{Io, Rx, TxFrame};
use crate::Error;

/// The packet side of a kernel interface.
pub struct AfPacket {
    receiver: Mutex<Receiver>,
    readable: RawFd,
    sender: Sender,
}

impl AfPacket {
    /// Begins to receive from an interface.
    pub fn open(ifindex: u32) -> Result<Self, Error> {
        let receiver = Receiver::open(ifindex)?;
        let readable = receiver.as_raw_fd();
        Ok(Self { receiver: Mutex::new(receiver), readable, sender: Sender::open(ifindex, true)? })
    }
}

impl Io for AfPacket {
    fn is_pmd(&self) -> bool {
        true
    }

    fn offloads(&self) -> bool {
        true
    }

    fn readable(&self, _queue: usize) -> Option<RawFd> {
        Some(self.readable)
    }

    fn receive(&self, _queue: usize, max: usize, rx: &mut Rx<'_>) -> usize {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.receive(max, |received| rx.push_kernel(received.frame, &received.vnet, received.vlan))
    }

    fn send(&self, _queue: usize, frames: &[TxFrame<'_>]) -> usize {
        let mut headers = [[0; sys::packet::VNET_HDR]; super::super::batch::VECTOR];
        let mut dropped = 0;
        for frames in frames.chunks(headers.len()) {
            for (header, frame) in headers.iter_mut().zip(frames) {
                *header = frame.offload.to_vnet(frame.header_len);
            }
            let sent = self.sender.send(headers.iter().zip(frames.iter().map(|frame| frame.bytes)));
            dropped += frames.len() - sent.frames;
        }
        dropped
    }
}
