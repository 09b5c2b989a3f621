//! Capture files in libpcap's classic format, for reading.

use std::io;

use daemon::error_text;

const HEADER: usize = 24;
const RECORD: usize = 16;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;
const MAX_FRAME: u32 = 65535;

/// A frame and when it was captured, in milliseconds since 1970.
pub struct Frame {
    pub bytes: Vec<u8>,
    pub millis: i64,
}

/// Why a file cannot be read.
pub enum PcapError {
    Open(String),
    Read(String),
}

/// Frames of a file, one after the other.
pub struct Frames {
    bytes: Vec<u8>,
    at: usize,
    read: fn([u8; 4]) -> u32,
    nanos: bool,
}

fn end_of_file() -> String {
    error_text(&io::Error::from(io::ErrorKind::UnexpectedEof))
}

impl Frames {
    /// Opens a file.
    pub fn open(name: &str) -> Result<Self, PcapError> {
        let bytes = std::fs::read(name).map_err(|error| {
            let reason = error_text(&error);
            tracing::warn!(target: "pcap", "{name}: failed to open pcap file for reading ({reason})");
            PcapError::Open(reason)
        })?;
        Self::new(bytes)
    }

    /// The frames of a file's content.
    pub fn new(bytes: Vec<u8>) -> Result<Self, PcapError> {
        if bytes.len() < HEADER {
            let reason = end_of_file();
            tracing::warn!(target: "pcap", "failed to read pcap header: {reason}");
            return Err(PcapError::Open(reason));
        }
        let mut frames = Self { bytes, at: 0, read: u32::from_le_bytes, nanos: false };
        let magic = frames.word(0);
        if ![MICROSECONDS, NANOSECONDS].contains(&magic) {
            frames.read = u32::from_be_bytes;
        }
        match frames.word(0) {
            MICROSECONDS => {}
            NANOSECONDS => frames.nanos = true,
            _ => {
                tracing::warn!(
                    target: "pcap",
                    "bad magic 0x{magic:08x} reading pcap file (expected 0xa1b2c3d4, 0xa1b23c4d, 0xd4c3b2a1, or \
                     0x4d3cb2a1)"
                );
                return Err(PcapError::Open("Protocol error".to_owned()));
            }
        }
        let network = frames.word(20);
        if network != ETHERNET {
            tracing::warn!(target: "pcap", "unknown network type {network} reading pcap file");
            return Err(PcapError::Open("Protocol error".to_owned()));
        }
        frames.at = HEADER;
        Ok(frames)
    }

    fn word(&self, at: usize) -> u32 {
        let word = self.bytes.get(self.at + at..).and_then(|rest| rest.first_chunk());
        (self.read)(word.copied().unwrap_or_default())
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, PcapError> {
        let left = self.bytes.len() - self.at;
        if left == 0 {
            return Ok(None);
        }
        if left < RECORD {
            let reason = end_of_file();
            tracing::warn!(target: "pcap", "failed to read pcap record header: {reason}");
            return Err(PcapError::Read(reason));
        }
        let (secs, fraction, len) = (self.word(0), self.word(4), self.word(8));
        if len > MAX_FRAME {
            tracing::warn!(
                target: "pcap",
                "bad packet length {len} or {len} reading pcap file"
            );
            return Err(PcapError::Read("Protocol error".to_owned()));
        }
        let start = self.at + RECORD;
        let Some(bytes) = self.bytes.get(start..start + len as usize) else {
            let reason = end_of_file();
            tracing::warn!(target: "pcap", "failed to read pcap packet: {reason}");
            return Err(PcapError::Read(reason));
        };
        let bytes = bytes.to_vec();
        self.at = start + bytes.len();
        let millis = i64::from(fraction) / if self.nanos { 1_000_000 } else { 1000 };
        Ok(Some(Frame { bytes, millis: i64::from(secs) * 1000 + millis }))
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, PcapError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_frame().transpose()
    }
}

/// A capture file of one frame.
pub fn file_of(frame: &[u8], since_1970: std::time::Duration) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER + RECORD + frame.len());
    for word in [MICROSECONDS, 2 | 4 << 16, 0, 0, 1518, ETHERNET] {
        file.extend(word.to_le_bytes());
    }
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let secs = u32::try_from(since_1970.as_secs()).unwrap_or(u32::MAX);
    for word in [secs, since_1970.subsec_micros(), len, len] {
        file.extend(word.to_le_bytes());
    }
    file.extend(frame);
    file
}
