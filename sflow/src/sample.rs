//! Samples, and the datagram that carries them.

use crate::record::{CounterRecord, FlowRecord, read_address, write_address};
use crate::xdr::{Reader, Writer, XdrError};
use std::net::IpAddr;

const VERSION: u32 = 5;

/// What samples are of: class and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub class: u8,
    /// 24 bits.
    pub index: u32,
}

impl Source {
    /// An interface by its index.
    pub fn interface(ifindex: u32) -> Self {
        Self { class: 0, index: ifindex & 0xff_ffff }
    }

    /// A physical entity: a whole bridge.
    pub fn entity(index: u32) -> Self {
        Self { class: 2, index: index & 0xff_ffff }
    }

    fn from_word(word: u32) -> Self {
        Self { class: (word >> 24) as u8, index: word & 0xff_ffff }
    }

    fn word(self) -> u32 {
        u32::from(self.class) << 24 | self.index & 0xff_ffff
    }
}

/// A sampled packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSample {
    pub sequence: u32,
    pub source: Source,
    /// One packet in this many is sampled.
    pub rate: u32,
    /// Packets that could have been sampled.
    pub pool: u32,
    /// Samples lost for lack of resources.
    pub drops: u32,
    /// Interface index of the port that the packet came in by, 0 for unknown.
    pub input: u32,
    /// Format in two bits: an interface index, a reason for being discarded, or a number of outputs.
    pub output: u32,
    pub records: Vec<FlowRecord>,
}

/// Counters of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountersSample {
    pub sequence: u32,
    pub source: Source,
    pub records: Vec<CounterRecord>,
}

/// One sample of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    Flow(FlowSample),
    Counters(CountersSample),
    /// Another format.
    Unknown(u32, Vec<u8>),
}

mod format {
    pub const FLOW: u32 = 1;
    pub const COUNTERS: u32 = 2;
    pub const FLOW_EXPANDED: u32 = 3;
    pub const COUNTERS_EXPANDED: u32 = 4;
}

impl Sample {
    /// The sample's bytes, format and length included.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::new();
        let kind = match self {
            Self::Flow(sample) => {
                body.u32(sample.sequence).u32(sample.source.word()).u32(sample.rate).u32(sample.pool);
                body.u32(sample.drops).u32(sample.input).u32(sample.output).u32(sample.records.len() as u32);
                sample.records.iter().for_each(|record| record.write(&mut body));
                format::FLOW
            }
            Self::Counters(sample) => {
                body.u32(sample.sequence).u32(sample.source.word()).u32(sample.records.len() as u32);
                sample.records.iter().for_each(|record| record.write(&mut body));
                format::COUNTERS
            }
            Self::Unknown(kind, bytes) => {
                let mut writer = Writer::new();
                writer.u32(*kind).opaque(bytes);
                return writer.into_bytes();
            }
        };
        let mut writer = Writer::new();
        writer.u32(kind).opaque(&body.into_bytes());
        writer.into_bytes()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        let kind = reader.u32()?;
        let mut body = reader.sub()?;
        Ok(match kind {
            format::FLOW => Self::Flow(read_flow(&mut body, false)?),
            format::FLOW_EXPANDED => Self::Flow(read_flow(&mut body, true)?),
            format::COUNTERS => Self::Counters(read_counters(&mut body, false)?),
            format::COUNTERS_EXPANDED => Self::Counters(read_counters(&mut body, true)?),
            kind => Self::Unknown(kind, body.rest().to_vec()),
        })
    }
}

fn read_source(reader: &mut Reader<'_>, expanded: bool) -> Result<Source, XdrError> {
    let word = reader.u32()?;
    if expanded {
        Ok(Source { class: word as u8, index: reader.u32()? })
    } else {
        Ok(Source::from_word(word))
    }
}

/// An interface; in the expanded form, the format has a word of its own.
fn read_interface(reader: &mut Reader<'_>, expanded: bool) -> Result<u32, XdrError> {
    let word = reader.u32()?;
    if expanded { Ok(word << 30 | reader.u32()? & 0x3fff_ffff) } else { Ok(word) }
}

fn read_flow(reader: &mut Reader<'_>, expanded: bool) -> Result<FlowSample, XdrError> {
    let mut sample = FlowSample {
        sequence: reader.u32()?,
        source: read_source(reader, expanded)?,
        rate: reader.u32()?,
        pool: reader.u32()?,
        drops: reader.u32()?,
        input: read_interface(reader, expanded)?,
        output: read_interface(reader, expanded)?,
        records: Vec::new(),
    };
    for _ in 0..reader.u32()? {
        sample.records.push(FlowRecord::read(reader)?);
    }
    Ok(sample)
}

fn read_counters(reader: &mut Reader<'_>, expanded: bool) -> Result<CountersSample, XdrError> {
    let (sequence, source) = (reader.u32()?, read_source(reader, expanded)?);
    let mut sample = CountersSample { sequence, source, records: Vec::new() };
    for _ in 0..reader.u32()? {
        sample.records.push(CounterRecord::read(reader)?);
    }
    Ok(sample)
}

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub agent: IpAddr,
    pub sub_agent: u32,
    pub sequence: u32,
    /// Milliseconds since the agent began.
    pub uptime: u32,
    pub samples: Vec<Sample>,
}

impl Datagram {
    /// Reads a datagram.
    pub fn decode(bytes: &[u8]) -> Result<Self, XdrError> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != VERSION {
            return Err(Reader::new(bytes).invalid("not sFlow version 5"));
        }
        let mut datagram = Self {
            agent: read_address(&mut reader)?,
            sub_agent: reader.u32()?,
            sequence: reader.u32()?,
            uptime: reader.u32()?,
            samples: Vec::new(),
        };
        for _ in 0..reader.u32()? {
            datagram.samples.push(Sample::read(&mut reader)?);
        }
        Ok(datagram)
    }

    /// The header of a datagram with `samples` samples.
    pub fn header(agent: &IpAddr, sub_agent: u32, sequence: u32, uptime: u32, samples: u32) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u32(VERSION);
        write_address(agent, &mut writer);
        writer.u32(sub_agent).u32(sequence).u32(uptime).u32(samples);
        writer.into_bytes()
    }
}
