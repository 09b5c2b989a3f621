//! Queues: their configuration and statistics. Spec: OpenFlow 1.0 sections 5.2.2, 5.3.4 and 5.3.5;
//! OpenFlow 1.4 section 7.3.5.10.

use super::{Age, Count, open, put_port32, read_port32, w};
use crate::error::OfError;
use crate::header::{self, Header, Multipart, Raw};
use crate::names::Names;
use crate::prop::{self, PropType, Props};
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::id::OfPort;

/// All queues of a port.
pub const ALL_QUEUES: u32 = u32::MAX;

const MIN_RATE: u16 = 1;
const MAX_RATE: u16 = 2;

/// `ALL` or the number.
fn queue_name(queue: u32) -> String {
    if queue == ALL_QUEUES { "ALL".to_owned() } else { queue.to_string() }
}

/// A request for the configuration of queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigRequest {
    /// [`OfPort::NONE`] for all, from OpenFlow 1.1 on.
    pub port: OfPort,
    /// Before OpenFlow 1.4 always [`ALL_QUEUES`].
    pub queue: u32,
}

impl ConfigRequest {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[
            Raw::Ofpt10QueueGetConfigRequest,
            Raw::Ofpt11QueueGetConfigRequest,
            Raw::Ofpst14QueueDescRequest,
        ];
        let (header, _, mut body) = open(msg, RAWS)?;
        if header.raw == Raw::Ofpst14QueueDescRequest {
            return Ok(Self { port: read_port32(&mut body)?, queue: body.u32()? });
        }
        let v10 = header.raw == Raw::Ofpt10QueueGetConfigRequest;
        let port = if v10 { OfPort(body.u16()?) } else { read_port32(&mut body)? };
        if port >= OfPort::MAX && (v10 || port != OfPort::NONE) {
            return Err(OfError::QofcBadPort);
        }
        Ok(Self { port, queue: ALL_QUEUES })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let raw = match version {
            Version::V10 => Raw::Ofpt10QueueGetConfigRequest,
            Version::V11 | Version::V12 | Version::V13 => Raw::Ofpt11QueueGetConfigRequest,
            Version::V14 | Version::V15 => Raw::Ofpst14QueueDescRequest,
        };
        let mut msg = header::start(raw, version, xid);
        if version == Version::V10 {
            msg.u16(self.port.0).zeros(2);
        } else {
            put_port32(&mut msg, self.port);
            msg.u32(if version >= Version::V14 { self.queue } else { 0 });
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        w!(out, " port={}", names.port(self.port));
        if self.queue != ALL_QUEUES {
            w!(out, " queue={}", self.queue);
        }
    }
}

/// One queue's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueConfig {
    pub port: OfPort,
    pub queue: u32,
    /// Rates in tenths of a percent; above 1000: disabled.
    pub min_rate: Option<u16>,
    pub max_rate: Option<u16>,
}

impl QueueConfig {
    /// The queues of a reply. An error that comes after some leaves them.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let result = Self::read_reply(msg, &mut list);
        (list, result)
    }

    fn read_reply(msg: &[u8], list: &mut Vec<Self>) -> Result<(), OfError> {
        const RAWS: &[Raw] =
            &[Raw::Ofpt10QueueGetConfigReply, Raw::Ofpt11QueueGetConfigReply, Raw::Ofpst14QueueDescReply];
        let (_, version, mut body) = open(msg, RAWS)?;
        if version >= Version::V14 {
            while !body.is_empty() {
                list.push(Self::read14(&mut body)?);
            }
            return Ok(());
        }
        let mut fixed = body.sub(8)?;
        while !body.is_empty() {
            let port =
                if version == Version::V10 { OfPort(fixed.u16()?) } else { read_port32(&mut fixed.clone())? };
            fixed = Reader::new(&msg[8..16]);
            list.push(Self::read10(version, port, &mut body)?);
        }
        Ok(())
    }

    fn read10(version: Version, port: OfPort, reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let v12 = version >= Version::V12;
        let head_len = if v12 { 16 } else { 8 };
        let mut head = reader.sub(head_len)?;
        let queue = head.u32()?;
        head.skip(if v12 { 4 } else { 0 })?;
        let len = usize::from(head.u16()?);
        if !len.is_multiple_of(8) {
            return Err(OfError::BrcBadLen);
        }
        let mut props = reader.sub(len.checked_sub(head_len).ok_or(OfError::BrcBadLen)?)?;
        let mut config = Self { port, queue, min_rate: None, max_rate: None };
        while !props.is_empty() {
            config.read_prop10(&mut props)?;
        }
        Ok(config)
    }

    /// Before OpenFlow 1.4, a property has 4 bytes of padding behind its header.
    fn read_prop10(&mut self, props: &mut Reader<'_>) -> Result<(), OfError> {
        let kind = props.u16()?;
        let len = usize::from(props.u16()?);
        if len < 8 || !len.is_multiple_of(8) {
            return Err(OfError::BrcBadLen);
        }
        let mut value = props.sub(len - 4)?;
        value.skip(4)?;
        let rate = match kind {
            MIN_RATE => &mut self.min_rate,
            MAX_RATE => &mut self.max_rate,
            _ => {
                tracing::info!(target: "ofp_queue", "unknown queue property {kind}");
                return Ok(());
            }
        };
        if len != 16 {
            return Err(OfError::BrcBadLen);
        }
        *rate = Some(value.u16()?);
        Ok(())
    }

    fn read14(reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut head = reader.sub(16)?;
        let port = read_port32(&mut head)?;
        let queue = head.u32()?;
        let len = usize::from(head.u16()?);
        if !len.is_multiple_of(8) {
            return Err(OfError::BrcBadLen);
        }
        let props = reader.bytes(len.checked_sub(16).ok_or(OfError::BrcBadLen)?)?;
        let mut config = Self { port, queue, min_rate: None, max_rate: None };
        for prop in Props::new(props) {
            let prop = prop?;
            match prop.kind {
                PropType::Standard(MIN_RATE) => config.min_rate = Some(prop.u16()?),
                PropType::Standard(MAX_RATE) => config.max_rate = Some(prop.u16()?),
                _ => prop.unknown(true, "queue desc")?,
            }
        }
        Ok(config)
    }

    fn put(&self, version: Version, msg: &mut Vec<u8>) {
        let start = msg.len();
        let len_at = match version {
            Version::V10 | Version::V11 => {
                msg.u32(self.queue).zeros(4);
                4
            }
            Version::V12 | Version::V13 => {
                msg.u32(self.queue);
                put_port32(msg, self.port);
                msg.zeros(8);
                8
            }
            Version::V14 | Version::V15 => {
                put_port32(msg, self.port);
                msg.u32(self.queue).zeros(8);
                8
            }
        };
        for (kind, rate) in [(MIN_RATE, self.min_rate), (MAX_RATE, self.max_rate)] {
            let Some(rate) = rate else { continue };
            if version >= Version::V14 {
                prop::put_u16(msg, kind, rate);
            } else {
                msg.u16(kind).u16(16).zeros(4).u16(rate).zeros(6);
            }
        }
        let len = u16::try_from(msg.len() - start).unwrap_or(u16::MAX);
        set_u16(msg, start + len_at, len);
    }

    /// The reply to `request` that tells `queues`; one message before OpenFlow 1.4, which holds what fits.
    pub fn encode_reply(queues: &[Self], request: &[u8]) -> Result<Vec<Vec<u8>>, OfError> {
        let asked = ConfigRequest::decode(request)?;
        let header = Header::peek(request)?;
        let version = header.version()?;
        if version >= Version::V14 {
            let mut replies = Multipart::reply_to(&header)?;
            for queue in queues {
                let mut entry = Vec::new();
                queue.put(version, &mut entry);
                replies.push(&entry);
            }
            return Ok(replies.finish());
        }
        let v10 = version == Version::V10;
        let raw = if v10 { Raw::Ofpt10QueueGetConfigReply } else { Raw::Ofpt11QueueGetConfigReply };
        let mut msg = header::start(raw, version, header.xid);
        if v10 {
            msg.u16(asked.port.0).zeros(6);
        } else {
            put_port32(&mut msg, asked.port);
            msg.zeros(4);
        }
        for queue in queues {
            let mut entry = Vec::new();
            queue.put(version, &mut entry);
            if msg.len() + entry.len() <= usize::from(u16::MAX) {
                msg.bytes(&entry);
            }
        }
        header::finish(&mut msg);
        Ok(vec![msg])
    }

    /// Appends the text of a reply: queues ordered by port and number.
    pub fn reply_text(msg: &[u8], names: &Names, out: &mut String) -> Result<(), OfError> {
        let (mut list, result) = Self::decode_reply(msg);
        list.sort_by_key(|config| (config.port, config.queue));
        let mut port = OfPort(0);
        if !list.is_empty() {
            out.push(' ');
        }
        for config in &list {
            if config.port != port {
                port = config.port;
                w!(out, "port={}\n", names.port(port));
            }
            w!(out, "queue {}:", config.queue);
            rate_text("min_rate", config.min_rate, out);
            rate_text("max_rate", config.max_rate, out);
            out.push('\n');
        }
        result
    }
}

fn rate_text(name: &str, rate: Option<u16>, out: &mut String) {
    match rate {
        Some(rate) if rate <= 1000 => {
            w!(out, " {name}:{}.{}%", rate / 10, rate % 10);
        }
        Some(u16::MAX) | None => {}
        Some(_) => {
            w!(out, " {name}:(disabled)");
        }
    }
}

/// A request for the statistics of queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatsRequest {
    /// [`OfPort::NONE`] for all.
    pub port: OfPort,
    pub queue: u32,
}

impl StatsRequest {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, version, mut body) = open(msg, &[Raw::Ofpst10QueueRequest, Raw::Ofpst11QueueRequest])?;
        if version > Version::V10 {
            return Ok(Self { port: read_port32(&mut body)?, queue: body.u32()? });
        }
        let port = OfPort(body.u16()?);
        body.skip(2)?;
        // OpenFlow 1.0 says "all" where later versions say "any".
        Ok(Self { port: if port == OfPort::ALL { OfPort::NONE } else { port }, queue: body.u32()? })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let raw = if version == Version::V10 { Raw::Ofpst10QueueRequest } else { Raw::Ofpst11QueueRequest };
        let mut msg = header::start(raw, version, xid);
        if version == Version::V10 {
            msg.u16(if self.port == OfPort::NONE { OfPort::ALL.0 } else { self.port.0 }).zeros(2);
        } else {
            put_port32(&mut msg, self.port);
        }
        msg.u32(self.queue);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        w!(out, " port={} queue={}", names.port(self.port), queue_name(self.queue));
    }
}

/// One queue's statistics. All ones: not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueStats {
    pub port: OfPort,
    pub queue: u32,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub age: Age,
}

impl QueueStats {
    /// The statistics of a reply. An error that comes after some entries leaves them.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let result = Self::read_reply(msg, &mut list);
        (list, result)
    }

    fn read_reply(msg: &[u8], list: &mut Vec<Self>) -> Result<(), OfError> {
        const RAWS: &[Raw] =
            &[Raw::Ofpst10QueueReply, Raw::Ofpst11QueueReply, Raw::Ofpst13QueueReply, Raw::Ofpst14QueueReply];
        let (_, version, mut body) = open(msg, RAWS)?;
        while !body.is_empty() {
            if version >= Version::V14 {
                let len = usize::from(body.u16()?);
                let mut entry = body.sub(len.checked_sub(2).ok_or(OfError::BrcBadLen)?)?;
                entry.skip(6)?;
                list.push(Self::read(version, &mut entry)?);
            } else {
                list.push(Self::read(version, &mut body)?);
            }
        }
        Ok(())
    }

    fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let port = if version == Version::V10 {
            let port = OfPort(reader.u16()?);
            reader.skip(2)?;
            port
        } else {
            read_port32(reader)?
        };
        let (queue, tx_bytes, tx_packets, tx_errors) =
            (reader.u32()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let age = if version >= Version::V13 { Age::read(reader)? } else { Age::UNKNOWN };
        Ok(Self { port, queue, tx_bytes, tx_packets, tx_errors, age })
    }

    /// Adds the statistics to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        let version = replies.version();
        let mut entry = Vec::new();
        if version >= Version::V14 {
            entry.u16(48).zeros(6);
        }
        if version == Version::V10 {
            entry.u16(self.port.0).zeros(2);
        } else {
            put_port32(&mut entry, self.port);
        }
        entry.u32(self.queue).u64(self.tx_bytes).u64(self.tx_packets).u64(self.tx_errors);
        if version >= Version::V13 {
            self.age.put(&mut entry);
        }
        replies.push(&entry);
    }

    /// Appends the text of a reply.
    pub fn reply_text(msg: &[u8], names: &Names, verbosity: i32, out: &mut String) -> Result<(), OfError> {
        let (list, result) = Self::decode_reply(msg);
        w!(out, " {} queues\n", list.len());
        if verbosity < 1 {
            return Ok(());
        }
        for stats in list {
            w!(out, "  port {} queue {}: ", names.port(stats.port), queue_name(stats.queue));
            let (bytes, pkts, errors) =
                (Count(stats.tx_bytes), Count(stats.tx_packets), Count(stats.tx_errors));
            w!(out, "bytes={bytes}, pkts={pkts}, errors={errors}, duration=");
            if stats.age.sec == u32::MAX {
                out.push_str("?\n");
            } else {
                w!(out, "{}\n", stats.age);
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_go_both_ways_in_every_version() {
        for version in Version::ALL {
            let request = ConfigRequest { port: OfPort(1), queue: ALL_QUEUES };
            let msg = request.encode(version, 1);
            assert_eq!(ConfigRequest::decode(&msg), Ok(request));
            let queues = [
                QueueConfig { port: OfPort(1), queue: 2, min_rate: Some(500), max_rate: Some(750) },
                QueueConfig { port: OfPort(1), queue: 1, min_rate: None, max_rate: None },
            ];
            let replies = QueueConfig::encode_reply(&queues, &msg).expect("the request is well-formed");
            assert_eq!(QueueConfig::decode_reply(&replies[0]), (queues.to_vec(), Ok(())));
            let mut out = String::new();
            assert_eq!(QueueConfig::reply_text(&replies[0], &Names::default(), &mut out), Ok(()));
            assert_eq!(out, " port=1\nqueue 1:\nqueue 2: min_rate:50.0% max_rate:75.0%\n");
        }
    }

    #[test]
    fn statistics_go_both_ways_in_every_version() {
        for version in Version::ALL {
            let request = StatsRequest { port: OfPort::NONE, queue: ALL_QUEUES };
            let msg = request.encode(version, 1);
            assert_eq!(StatsRequest::decode(&msg), Ok(request));
            let age = if version >= Version::V13 { Age { sec: 3, nsec: 0 } } else { Age::UNKNOWN };
            let stats =
                QueueStats { port: OfPort(3), queue: 1, tx_bytes: 302, tx_packets: 1, tx_errors: 0, age };
            let header = Header::peek(&msg).expect("it is well-formed");
            let mut replies = Multipart::reply_to(&header).expect("it is a request");
            stats.push(&mut replies);
            assert_eq!(QueueStats::decode_reply(&replies.finish()[0]), (vec![stats], Ok(())));
        }
    }
}
