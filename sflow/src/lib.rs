//! An sFlow version 5 agent (<https://sflow.org/sflow_version_5.txt>), and the reader of what agents send.
//!
//! Nothing here does I/O or reads a clock: the agent is told of sampled packets and of the time, and gives datagrams.
//! A tour, in the order to read it:
//!
//! * [`xdr`]: words as XDR (RFC 4506) has them, both ways.
//! * [`record`]: flow records and counter records.
//! * [`sample`]: samples, and the datagram that carries them.
//! * [`exporter`]: packs samples into datagrams.
//! * [`outputs`]: what a flow's actions do to a packet, as far as sFlow tells it.
//! * [`agent`]: sampler, pollers and ports of one bridge.
#![forbid(unsafe_code)]

pub mod xdr;
pub mod record;
pub mod sample;
pub mod exporter;
pub mod outputs;
pub mod agent;

pub use agent::{Agent, Counters, PortCounters, Sampled, Settings, TunnelKind};
pub use sample::{Datagram, Sample};

/// Where collectors listen.
pub const COLLECTOR_PORT: u16 = 6343;
/// Bytes of a packet that a sample carries, unless configured.
pub const DEFAULT_HEADER: u32 = 128;
/// One packet in this many is sampled, unless configured.
pub const DEFAULT_SAMPLING: u32 = 400;
/// Seconds between two polls of the same counters, unless configured.
pub const DEFAULT_POLLING: u32 = 30;
