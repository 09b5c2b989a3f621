//! A port that receives nothing and keeps nothing of what is sent.

use std::os::fd::RawFd;

use super::{Counts, Io, Rx, TxFrame};

/// Counts what it is given.
#[derive(Default)]
pub struct Null {
    pub sent: Counts,
}

impl Io for Null {
    fn is_pmd(&self) -> bool {
        true
    }

    fn offloads(&self) -> bool {
        true
    }

    fn readable(&self, _queue: usize) -> Option<RawFd> {
        None
    }

    fn receive(&self, _queue: usize, _max: usize, _rx: &mut Rx<'_>) -> usize {
        0
    }

    fn send(&self, _queue: usize, frames: &[TxFrame<'_>]) -> usize {
        let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
        self.sent.packets.fetch_add(frames.len() as u64, std::sync::atomic::Ordering::Relaxed);
        self.sent.bytes.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
        0
    }
}
