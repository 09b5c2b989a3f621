//! Packs samples into datagrams.

use crate::sample::{Datagram, Sample};
use std::net::IpAddr;

/// A datagram does not grow to this length, so that it travels in one packet.
pub const DATAGRAM_SIZE: usize = 1400;

/// Collects samples for the collectors of one agent.
#[derive(Debug)]
pub struct Exporter {
    agent: IpAddr,
    sub_agent: u32,
    sequence: u32,
    samples: Vec<u8>,
    count: u32,
    header_len: usize,
    ready: Vec<Vec<u8>>,
}

/// A sample that takes more than half a datagram is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sample too big for datagram")]
pub struct TooBig;

impl Exporter {
    pub fn new(agent: IpAddr, sub_agent: u32) -> Self {
        let header_len = Datagram::header(&agent, sub_agent, 0, 0, 0).len();
        Self { agent, sub_agent, sequence: 0, samples: Vec::new(), count: 0, header_len, ready: Vec::new() }
    }

    /// Adds a sample. `uptime` is in milliseconds.
    pub fn add(&mut self, sample: &Sample, uptime: u32) -> Result<(), TooBig> {
        let bytes = sample.encode();
        if bytes.len() > DATAGRAM_SIZE / 2 {
            return Err(TooBig);
        }
        if self.header_len + self.samples.len() + bytes.len() >= DATAGRAM_SIZE {
            self.flush(uptime);
        }
        self.samples.extend(bytes);
        self.count += 1;
        Ok(())
    }

    /// Closes the datagram that is being filled, if it has a sample.
    pub fn flush(&mut self, uptime: u32) {
        if self.count == 0 {
            return;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Datagram::header(&self.agent, self.sub_agent, self.sequence, uptime, self.count);
        datagram.append(&mut self.samples);
        self.count = 0;
        self.ready.push(datagram);
    }

    /// The datagrams to send.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.ready)
    }
}
