//! Packet capture files (libpcap's classic format) and a port that plays one in a circle.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use flow::time::WallTime;

use super::{Io, Rx, TxFrame};
use crate::user::batch::Offload;

const MAGIC: u32 = 0xa1b2_c3d4;
const LINKTYPE_ETHERNET: u32 = 1;
/// Longest frame of a file that we believe.
const MAX_FRAME: u32 = 256 << 10;

/// A capture file open for writing.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    /// Opens a file to append to; an empty or new one gets a header.
    pub fn append(path: &Path) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if file.seek(SeekFrom::End(0))? == 0 {
            let mut header = Vec::with_capacity(24);
            header.extend(MAGIC.to_ne_bytes());
            header.extend(2u16.to_ne_bytes());
            header.extend(4u16.to_ne_bytes());
            header.extend([0; 8]);
            header.extend(1518u32.to_ne_bytes());
            header.extend(LINKTYPE_ETHERNET.to_ne_bytes());
            file.write_all(&header)?;
        }
        Ok(Self(file))
    }

    /// Appends a frame in one write, so that a reader never sees half of one.
    pub fn write(&mut self, frame: &[u8], at: WallTime) -> std::io::Result<()> {
        let mut record = Vec::with_capacity(16 + frame.len());
        record.extend(((at.0 / 1000) as u32).to_ne_bytes());
        record.extend(((at.0 % 1000 * 1000) as u32).to_ne_bytes());
        record.extend((frame.len() as u32).to_ne_bytes());
        record.extend((frame.len() as u32).to_ne_bytes());
        record.extend_from_slice(frame);
        self.0.write_all(&record)
    }
}

/// A malformed capture file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcapError {
    /// Neither byte order of the magic number, or no Ethernet.
    #[error("not a capture of Ethernet frames in the classic format")]
    Header,
    /// A record that goes beyond the end, at the offset given.
    #[error("bad record at offset {0}")]
    Record(usize),
}

/// The frames of a capture file.
pub fn parse(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PcapError> {
    let magic: [u8; 4] = *bytes.first_chunk().ok_or(PcapError::Header)?;
    let read: fn([u8; 4]) -> u32 = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
        (MAGIC | 0xa1b2_3c4d, _) => u32::from_le_bytes,
        (_, MAGIC | 0xa1b2_3c4d) => u32::from_be_bytes,
        _ => return Err(PcapError::Header),
    };
    let word = |at: usize| bytes.get(at..)?.first_chunk().map(|&word| read(word));
    if word(20) != Some(LINKTYPE_ETHERNET) {
        return Err(PcapError::Header);
    }
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let len = word(at + 8).filter(|&len| len <= MAX_FRAME).ok_or(PcapError::Record(at))? as usize;
        frames.push(bytes.get(at + 16..at + 16 + len).ok_or(PcapError::Record(at))?.to_vec());
        at += 16 + len;
    }
    Ok(frames)
}

/// Plays frames over and over; what is sent to it is gone.
pub struct Player {
    frames: Vec<Vec<u8>>,
    next: Mutex<usize>,
}

impl Player {
    pub fn new(frames: Vec<Vec<u8>>) -> Self {
        Self { frames, next: Mutex::new(0) }
    }
}

impl Io for Player {
    fn is_pmd(&self) -> bool {
        true
    }

    fn readable(&self, _queue: usize) -> Option<RawFd> {
        None
    }

    fn receive(&self, _queue: usize, max: usize, rx: &mut Rx<'_>) -> usize {
        if self.frames.is_empty() {
            return 0;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..max {
            rx.push(&self.frames[*next], Offload::default());
            *next = if *next + 1 == self.frames.len() { 0 } else { *next + 1 };
        }
        max
    }

    fn send(&self, _queue: usize, _frames: &[TxFrame<'_>]) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn written_frames_are_read_again() {
        let path = std::env::temp_dir().join(format!("turnout-pcap-{}", std::process::id()));
        for frame in [[1u8; 60], [2; 60]] {
            Writer::append(&path).unwrap().write(&frame, WallTime(1_700_000_000_123)).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(parse(&bytes).unwrap(), [[1u8; 60], [2; 60]]);
        assert_eq!(bytes[24..32], [1_700_000_000u32.to_ne_bytes(), 123_000u32.to_ne_bytes()].concat());
        assert_eq!(parse(&bytes[..130]), Err(PcapError::Record(100)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let mut file = [MAGIC.to_le_bytes().to_vec(), vec![0; 16], 1u32.to_le_bytes().to_vec()].concat();
            file.extend(bytes);
            let _ = parse(&file);
        }
    }
}
