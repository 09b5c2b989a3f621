//! Port statistics: the standard counters, the extension of RFC 2819 counters, and counters with names of their own.
//! Spec: OpenFlow 1.0 section 5.3.5 to OpenFlow 1.5 section 7.3.5.6; Intel's port statistics properties.

use super::{Age, Count, open, put_port32, read_port32, w};
use crate::error::OfError;
use crate::header::{self, Multipart, Raw};
use crate::names::Names;
use crate::prop::{self, Prop, PropType, Props};
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::id::OfPort;

const INTEL_VENDOR: u32 = 0x0000_aa01;
const RFC2819: PropType = PropType::Experimenter { vendor: INTEL_VENDOR, kind: 1 };
const CUSTOM: PropType = PropType::Experimenter { vendor: INTEL_VENDOR, kind: 2 };
const ETHERNET: PropType = PropType::Standard(0);
/// Counters of the first eight, and of the four that OpenFlow 1.4 moved to a property.
const BASIC: usize = 8;
const ALL: usize = 12;
const RFC2819_COUNTERS: usize = 21;

/// The counters that every version has, in the order of the wire. All ones: not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counters {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_over_errors: u64,
    pub rx_crc_errors: u64,
    pub collisions: u64,
}

impl Counters {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self::from_array([u64::MAX; ALL]);

    const fn from_array(a: [u64; ALL]) -> Self {
        Self {
            rx_packets: a[0],
            tx_packets: a[1],
            rx_bytes: a[2],
            tx_bytes: a[3],
            rx_dropped: a[4],
            tx_dropped: a[5],
            rx_errors: a[6],
            tx_errors: a[7],
            rx_frame_errors: a[8],
            rx_over_errors: a[9],
            rx_crc_errors: a[10],
            collisions: a[11],
        }
    }

    fn array(&self) -> [u64; ALL] {
        [
            self.rx_packets,
            self.tx_packets,
            self.rx_bytes,
            self.tx_bytes,
            self.rx_dropped,
            self.tx_dropped,
            self.rx_errors,
            self.tx_errors,
            self.rx_frame_errors,
            self.rx_over_errors,
            self.rx_crc_errors,
            self.collisions,
        ]
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::from_array([0; ALL])
    }
}

/// Counters of RFC 2819, in the order of the wire: packets received by size (7 classes), sent by size, sent to
/// multicast, received from and sent to broadcast, then undersized, oversize, fragments, jabbers received. All ones:
/// not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rfc2819(pub [u64; RFC2819_COUNTERS]);

/// Names by index into [`Rfc2819`], received.
const RX_ROWS: [(usize, &str); 12] = [
    (0, "1_to_64_packets"),
    (1, "65_to_127_packets"),
    (2, "128_to_255_packets"),
    (3, "256_to_511_packets"),
    (4, "512_to_1023_packets"),
    (5, "1024_to_1522_packets"),
    (6, "1523_to_max_packets"),
    (15, "broadcast_packets"),
    (17, "undersized_errors"),
    (18, "oversize_errors"),
    (19, "rx_fragmented_errors"),
    (20, "rx_jabber_errors"),
];

/// Names by index into [`Rfc2819`], sent.
const TX_ROWS: [(usize, &str); 9] = [
    (7, "1_to_64_packets"),
    (8, "65_to_127_packets"),
    (9, "128_to_255_packets"),
    (10, "256_to_511_packets"),
    (11, "512_to_1023_packets"),
    (12, "1024_to_1522_packets"),
    (13, "1523_to_max_packets"),
    (14, "multicast_packets"),
    (16, "broadcast_packets"),
];

impl Rfc2819 {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self([u64::MAX; RFC2819_COUNTERS]);

    fn text(&self, what: &str, rows: &[(usize, &str)], out: &mut String) {
        let known: Vec<_> = rows.iter().filter(|(at, _)| self.0[*at] != u64::MAX).collect();
        if known.is_empty() {
            return;
        }
        w!(out, "           {what} rfc2819 ");
        for (at, name) in known {
            w!(out, "{name}={}, ", self.0[*at]);
        }
        out.push('\n');
    }
}

/// One port's statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortStats {
    pub port_no: OfPort,
    pub counters: Counters,
    pub rfc2819: Rfc2819,
    /// Counters of the port's driver.
    pub custom: Vec<(String, u64)>,
    /// How long the port has existed; OpenFlow 1.3 and later.
    pub age: Age,
}

impl PortStats {
    /// The statistics of a reply. An error that comes after some entries leaves them.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let result = Self::read_reply(msg, &mut list);
        (list, result)
    }

    fn read_reply(msg: &[u8], list: &mut Vec<Self>) -> Result<(), OfError> {
        const RAWS: &[Raw] =
            &[Raw::Ofpst10PortReply, Raw::Ofpst11PortReply, Raw::Ofpst13PortReply, Raw::Ofpst14PortReply];
        let (_, version, mut body) = open(msg, RAWS)?;
        while !body.is_empty() {
            list.push(Self::read(version, &mut body)?);
        }
        Ok(())
    }

    fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, OfError> {
        if version >= Version::V14 {
            return Self::read14(reader);
        }
        let port_no = if version == Version::V10 { OfPort(reader.u16()?) } else { read_port32(reader)? };
        reader.skip(if version == Version::V10 { 6 } else { 4 })?;
        let mut counters = [0; ALL];
        for counter in &mut counters {
            *counter = reader.u64()?;
        }
        let age = if version == Version::V13 { Age::read(reader)? } else { Age::UNKNOWN };
        let counters = Counters::from_array(counters);
        Ok(Self { port_no, counters, rfc2819: Rfc2819::UNKNOWN, custom: Vec::new(), age })
    }

    fn read14(reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let len = usize::from(reader.u16()?);
        let mut entry = reader.sub(len.checked_sub(2).ok_or(OfError::BrcBadLen)?)?;
        entry.skip(2)?;
        let port_no = read_port32(&mut entry)?;
        let age = Age::read(&mut entry)?;
        let mut counters = [u64::MAX; ALL];
        for counter in &mut counters[..BASIC] {
            *counter = entry.u64()?;
        }
        let counters = Counters::from_array(counters);
        let mut stats = Self { port_no, counters, rfc2819: Rfc2819::UNKNOWN, custom: Vec::new(), age };
        for prop in Props::new(entry.rest()) {
            stats.read_prop(&prop?)?;
        }
        Ok(stats)
    }

    fn read_prop(&mut self, prop: &Prop<'_>) -> Result<(), OfError> {
        let bad_len = |_| OfError::BpcBadLen;
        match prop.kind {
            ETHERNET => {
                let mut counters = self.counters.array();
                read_counters(prop, &mut counters[BASIC..])?;
                self.counters = Counters::from_array(counters);
            }
            RFC2819 => read_counters(prop, &mut self.rfc2819.0)?,
            CUSTOM => {
                let mut reader = Reader::new(prop.value());
                reader.skip(2).map_err(bad_len)?;
                self.custom.clear();
                for _ in 0..reader.u16().map_err(bad_len)? {
                    let len = usize::from(reader.u8().map_err(bad_len)?);
                    let name = reader.bytes(len).map_err(bad_len)?;
                    let value = reader.u64().map_err(bad_len)?;
                    self.custom.push((String::from_utf8_lossy(&name[..len.min(63)]).into_owned(), value));
                }
            }
            _ => prop.unknown(true, "port stats")?,
        }
        Ok(())
    }

    /// Adds the statistics to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        let mut entry = Vec::new();
        match replies.version() {
            Version::V10 => {
                entry.u16(self.port_no.0).zeros(6);
            }
            Version::V11 | Version::V12 | Version::V13 => {
                put_port32(&mut entry, self.port_no);
                entry.zeros(4);
            }
            Version::V14 | Version::V15 => {
                self.put14(&mut entry);
                return replies.push(&entry);
            }
        }
        put_counters(&mut entry, &self.counters.array());
        if replies.version() == Version::V13 {
            self.age.put(&mut entry);
        }
        replies.push(&entry);
    }

    fn put14(&self, entry: &mut Vec<u8>) {
        let counters = self.counters.array();
        entry.zeros(4);
        put_port32(entry, self.port_no);
        self.age.put(entry);
        put_counters(entry, &counters[..BASIC]);
        prop::put_aligned(entry, 0, |entry| put_counters(entry, &counters[BASIC..]));
        prop::put(entry, RFC2819, |entry| {
            entry.zeros(4);
            put_counters(entry, &self.rfc2819.0);
        });
        if !self.custom.is_empty() {
            prop::put(entry, CUSTOM, |entry| self.put_custom(entry));
        }
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        set_u16(entry, 0, len);
    }

    fn put_custom(&self, entry: &mut Vec<u8>) {
        entry.zeros(2).u16(u16::try_from(self.custom.len()).unwrap_or(u16::MAX));
        for (name, value) in self.custom.iter().take(usize::from(u16::MAX)) {
            let name = &name.as_bytes()[..name.len().min(255)];
            entry.u8(u8::try_from(name.len()).unwrap_or(u8::MAX)).bytes(name).u64(*value);
        }
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        let c = &self.counters;
        let pad = if self.port_no.0 < 10 { " " } else { "" };
        w!(out, "  port {pad}{}: rx ", names.port(self.port_no));
        let (pkts, bytes, drop, errs) =
            (Count(c.rx_packets), Count(c.rx_bytes), Count(c.rx_dropped), Count(c.rx_errors));
        w!(out, "pkts={pkts}, bytes={bytes}, drop={drop}, errs={errs}, ");
        let (frame, over, crc) = (Count(c.rx_frame_errors), Count(c.rx_over_errors), Count(c.rx_crc_errors));
        w!(out, "frame={frame}, over={over}, crc={crc}\n");
        let (pkts, bytes, drop, errs) =
            (Count(c.tx_packets), Count(c.tx_bytes), Count(c.tx_dropped), Count(c.tx_errors));
        let coll = Count(c.collisions);
        w!(out, "           tx pkts={pkts}, bytes={bytes}, drop={drop}, errs={errs}, coll={coll}\n");
        if self.age.sec != u32::MAX {
            w!(out, "           duration={}\n", self.age);
        }
        self.rfc2819.text("rx", &RX_ROWS, out);
        self.rfc2819.text("tx", &TX_ROWS, out);
        self.custom_text(out);
    }

    fn custom_text(&self, out: &mut String) {
        if self.custom.is_empty() {
            return;
        }
        out.push_str("           CUSTOM Statistics");
        for (at, (name, value)) in self.custom.iter().enumerate().filter(|(_, (name, _))| !name.is_empty()) {
            let separator = if at % 3 == 0 { "\n                      " } else { " " };
            w!(out, "{separator}{name}={value},");
        }
        out.push('\n');
    }
}

fn read_counters(prop: &Prop<'_>, counters: &mut [u64]) -> Result<(), OfError> {
    let value = prop.aligned_value()?;
    if value.len() != counters.len() * 8 {
        return Err(OfError::BpcBadLen);
    }
    let mut reader = Reader::new(value);
    for counter in counters {
        *counter = reader.u64()?;
    }
    Ok(())
}

fn put_counters(msg: &mut Vec<u8>, counters: &[u64]) {
    for &counter in counters {
        msg.u64(counter);
    }
}

/// A request for the statistics of one port, or of all ([`OfPort::NONE`]).
pub fn request(version: Version, xid: u32, port: OfPort) -> Vec<u8> {
    let raw = if version == Version::V10 { Raw::Ofpst10PortRequest } else { Raw::Ofpst11PortRequest };
    let mut msg = header::start(raw, version, xid);
    if version == Version::V10 {
        msg.u16(port.0).zeros(6);
    } else {
        put_port32(&mut msg, port);
        msg.zeros(4);
    }
    header::finish(&mut msg);
    msg
}

/// Which port a request asks for.
pub fn decode_request(msg: &[u8]) -> Result<OfPort, OfError> {
    let (_, version, mut body) = open(msg, &[Raw::Ofpst10PortRequest, Raw::Ofpst11PortRequest])?;
    if version == Version::V10 { body.u16().map(OfPort) } else { read_port32(&mut body) }
}

/// Appends the text of a reply.
pub fn reply_text(msg: &[u8], names: &Names, verbosity: i32, out: &mut String) -> Result<(), OfError> {
    let (list, result) = PortStats::decode_reply(msg);
    w!(out, " {} ports\n", list.len());
    if verbosity < 1 {
        return Ok(());
    }
    for stats in &list {
        stats.text(names, out);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(version: Version) -> PortStats {
        let mut counters = [0; ALL];
        for (n, counter) in counters.iter_mut().enumerate() {
            *counter = n as u64 + 1;
        }
        let v14 = version >= Version::V14;
        PortStats {
            port_no: OfPort(2),
            counters: Counters::from_array(counters),
            rfc2819: if v14 { Rfc2819([7; RFC2819_COUNTERS]) } else { Rfc2819::UNKNOWN },
            custom: if v14 { vec![("queue_full".to_owned(), 9)] } else { Vec::new() },
            age: if version >= Version::V13 { Age { sec: 1, nsec: 1_000_000 } } else { Age::UNKNOWN },
        }
    }

    #[test]
    fn statistics_go_both_ways_in_every_version() {
        for version in Version::ALL {
            let request = request(version, 9, OfPort::NONE);
            assert_eq!(decode_request(&request), Ok(OfPort::NONE));
            let (header, _) = header::Header::parse(&request).expect("it is well-formed");
            let mut replies = Multipart::reply_to(&header).expect("it is a request");
            stats(version).push(&mut replies);
            assert_eq!(PortStats::decode_reply(&replies.finish()[0]), (vec![stats(version)], Ok(())));
        }
    }

    #[test]
    fn text_is_ovs_own() {
        let mut out = String::new();
        let mut stats = stats(Version::V15);
        stats.counters.collisions = u64::MAX;
        stats.rfc2819 = Rfc2819::UNKNOWN;
        stats.rfc2819.0[16] = 5;
        stats.text(&Names::default(), &mut out);
        assert_eq!(
            out,
            "  port  2: rx pkts=1, bytes=3, drop=5, errs=7, frame=9, over=10, crc=11\n           \
             tx pkts=2, bytes=4, drop=6, errs=8, coll=?\n           duration=1.001s\n           \
             tx rfc2819 broadcast_packets=5, \n           CUSTOM Statistics\n                      queue_full=9,\n"
        );
    }
}
