//! Ports: their description, changes of it, and how to change them.
//! Spec: OpenFlow 1.0 sections 5.2.1, 5.3.3 and 5.4.3 to OpenFlow 1.5 sections 7.2.1, 7.3.4.3 and 7.4.3.

use super::{bit_names, open, put_port32, read_port32, w};
use crate::error::OfError;
use crate::header::{self, Multipart, Raw};
use crate::names::Names;
use crate::prop::{self, PropType, Props};
use crate::version::Version;
use crate::wire::{Put, Reader};
use flow::id::OfPort;
use flow::key::EthAddr;

bitflags::bitflags! {
    /// How a port is configured.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
    pub struct PortConfig: u32 {
        const PORT_DOWN = 1 << 0;
        const NO_STP = 1 << 1;
        const NO_RECV = 1 << 2;
        const NO_RECV_STP = 1 << 3;
        const NO_FLOOD = 1 << 4;
        const NO_FWD = 1 << 5;
        const NO_PACKET_IN = 1 << 6;
        const OF10 = 0x7f;
        const OF11 = Self::PORT_DOWN.bits() | Self::NO_RECV.bits() | Self::NO_FWD.bits() | Self::NO_PACKET_IN.bits();
    }

    /// What a port's state is.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
    pub struct PortState: u32 {
        const LINK_DOWN = 1 << 0;
        const BLOCKED = 1 << 1;
        const LIVE = 1 << 2;
        const STP_LEARN = 1 << 8;
        const STP_FORWARD = 2 << 8;
        const STP_BLOCK = 3 << 8;
        const OF10 = Self::LINK_DOWN.bits() | Self::STP_BLOCK.bits();
        const OF11 = Self::LINK_DOWN.bits() | Self::BLOCKED.bits() | Self::LIVE.bits();
    }

    /// Speeds, media and abilities of a link: OpenFlow 1.1's bits.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
    pub struct LinkFeatures: u32 {
        const HD_10MB = 1 << 0;
        const FD_10MB = 1 << 1;
        const HD_100MB = 1 << 2;
        const FD_100MB = 1 << 3;
        const HD_1GB = 1 << 4;
        const FD_1GB = 1 << 5;
        const FD_10GB = 1 << 6;
        const FD_40GB = 1 << 7;
        const FD_100GB = 1 << 8;
        const FD_1TB = 1 << 9;
        const OTHER = 1 << 10;
        const COPPER = 1 << 11;
        const FIBER = 1 << 12;
        const AUTONEG = 1 << 13;
        const PAUSE = 1 << 14;
        const PAUSE_ASYM = 1 << 15;
    }
}

const CONFIG_NAMES: &[(u32, &str)] = &[
    (1 << 0, "PORT_DOWN"),
    (1 << 1, "NO_STP"),
    (1 << 2, "NO_RECV"),
    (1 << 3, "NO_RECV_STP"),
    (1 << 4, "NO_FLOOD"),
    (1 << 5, "NO_FWD"),
    (1 << 6, "NO_PACKET_IN"),
];

const STATE_NAMES: &[(u32, &str)] = &[(1 << 0, "LINK_DOWN"), (1 << 1, "BLOCKED"), (1 << 2, "LIVE")];

/// Name and speed (in Mbit/s; 0 for none) of each link feature, by bit.
const LINK_ROWS: [(&str, u32); 16] = [
    ("10MB-HD", 10),
    ("10MB-FD", 10),
    ("100MB-HD", 100),
    ("100MB-FD", 100),
    ("1GB-HD", 1_000),
    ("1GB-FD", 1_000),
    ("10GB-FD", 10_000),
    ("40GB-FD", 40_000),
    ("100GB-FD", 100_000),
    ("1TB-FD", 1_000_000),
    ("OTHER", 0),
    ("COPPER", 0),
    ("FIBER", 0),
    ("AUTO_NEG", 0),
    ("AUTO_PAUSE", 0),
    ("AUTO_PAUSE_ASYM", 0),
];

impl LinkFeatures {
    /// OpenFlow 1.0 has the media and abilities four bits lower, over the speeds that came later.
    fn from_of10(bits: u32) -> Self {
        Self::from_bits_truncate((bits & 0x7f) | ((bits & 0xf80) << 4))
    }

    fn of10(self) -> u32 {
        (self.bits() & 0x7f) | ((self.bits() & 0xf800) >> 4)
    }

    fn from_of11(bits: u32) -> Self {
        Self::from_bits_truncate(bits & 0xffff)
    }

    /// The greatest speed in kbit/s, 0 if none is known.
    pub fn kbps(self) -> u32 {
        let speeds = LINK_ROWS.iter().enumerate().filter(|(bit, _)| self.bits() & (1 << bit) != 0);
        speeds.map(|(_, (_, mbps))| mbps * 1000).max().unwrap_or(0)
    }

    /// Appends the names, or `0`, and ends the line.
    pub fn text(self, out: &mut String) {
        let names: Vec<_> = LINK_ROWS.iter().enumerate().map(|(bit, (name, _))| (1 << bit, *name)).collect();
        bit_names(out, self.bits(), &names, ' ');
        out.push('\n');
    }
}

impl PortConfig {
    /// Appends the names, or `0`, and ends the line.
    pub fn text(self, out: &mut String) {
        bit_names(out, self.bits(), CONFIG_NAMES, ' ');
        out.push('\n');
    }
}

impl PortState {
    /// Appends the names, or `0`, and ends the line. STP's listening state, which is 0, is not told.
    pub fn text(self, out: &mut String) {
        let stp = self & Self::STP_BLOCK;
        let rest = self.difference(Self::STP_BLOCK);
        out.push_str(match stp {
            Self::STP_LEARN => "STP_LEARN",
            Self::STP_FORWARD => "STP_FORWARD",
            Self::STP_BLOCK => "STP_BLOCK",
            _ => "",
        });
        if stp.is_empty() || !rest.is_empty() {
            bit_names(out, rest.bits(), STATE_NAMES, ' ');
        }
        out.push('\n');
    }
}

/// A port's description.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PhyPort {
    pub port_no: OfPort,
    pub hw_addr: EthAddr,
    pub name: String,
    pub config: PortConfig,
    pub state: PortState,
    pub curr: LinkFeatures,
    pub advertised: LinkFeatures,
    pub supported: LinkFeatures,
    pub peer: LinkFeatures,
    /// Speeds in kbit/s.
    pub curr_speed: u32,
    pub max_speed: u32,
}

/// Width of a port's name.
const NAME_LEN: usize = 16;
const OFPPDPT_ETHERNET: u16 = 0;

impl PhyPort {
    /// Reads one description; there must be one.
    pub fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, OfError> {
        match version {
            Version::V10 => Self::read10(reader),
            Version::V11 | Version::V12 | Version::V13 => Self::read11(reader),
            Version::V14 | Version::V15 => Self::read14(reader),
        }
    }

    /// Reads descriptions to the end.
    pub fn read_all(version: Version, reader: &mut Reader<'_>) -> Result<Vec<Self>, OfError> {
        let mut ports = Vec::new();
        while !reader.is_empty() {
            ports.push(Self::read(version, reader)?);
        }
        Ok(ports)
    }

    fn read10(reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut port = Self { port_no: OfPort(reader.u16()?), hw_addr: reader.array()?, ..Self::default() };
        port.name = reader.name::<NAME_LEN>()?;
        port.config = PortConfig::from_bits_truncate(reader.u32()?) & PortConfig::OF10;
        port.state = PortState::from_bits_truncate(reader.u32()?) & PortState::OF10;
        for features in port.features_mut() {
            *features = LinkFeatures::from_of10(reader.u32()?);
        }
        (port.curr_speed, port.max_speed) = (port.curr.kbps(), port.supported.kbps());
        Ok(port)
    }

    fn read11(reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut port = Self { port_no: read_port32(reader)?, ..Self::default() };
        reader.skip(4)?;
        port.read_common(reader)?;
        port.read_link(reader)?;
        Ok(port)
    }

    fn read14(reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut fixed = reader.sub(40)?;
        let number = fixed.sub(4)?;
        let len = usize::from(fixed.u16()?);
        fixed.skip(2)?;
        let props = reader.bytes(len.checked_sub(40).ok_or(OfError::BrcBadLen)?)?;
        let mut port = Self { port_no: read_port32(&mut { number })?, ..Self::default() };
        port.read_common(&mut fixed)?;
        for prop in Props::new(props) {
            let prop = prop?;
            if prop.kind == PropType::Standard(OFPPDPT_ETHERNET) {
                // Four bytes of padding precede the six words.
                let value = prop.aligned_value().ok().filter(|value| value.len() == 24);
                port.read_link(&mut Reader::new(value.ok_or(OfError::BpcBadLen)?))?;
            } else {
                prop.unknown(true, "port")?;
            }
        }
        Ok(port)
    }

    /// Reads what OpenFlow 1.1 and 1.4 have alike: address, name, configuration and state.
    fn read_common(&mut self, reader: &mut Reader<'_>) -> Result<(), OfError> {
        self.hw_addr = reader.array()?;
        reader.skip(2)?;
        self.name = reader.name::<NAME_LEN>()?;
        self.config = PortConfig::from_bits_truncate(reader.u32()?) & PortConfig::OF11;
        self.state = PortState::from_bits_truncate(reader.u32()?) & PortState::OF11;
        Ok(())
    }

    fn read_link(&mut self, reader: &mut Reader<'_>) -> Result<(), OfError> {
        for features in self.features_mut() {
            *features = LinkFeatures::from_of11(reader.u32()?);
        }
        self.curr_speed = reader.u32()?;
        self.max_speed = reader.u32()?;
        Ok(())
    }

    fn features_mut(&mut self) -> [&mut LinkFeatures; 4] {
        [&mut self.curr, &mut self.advertised, &mut self.supported, &mut self.peer]
    }

    /// Appends the description.
    pub fn put(&self, version: Version, msg: &mut Vec<u8>) {
        match version {
            Version::V10 => {
                msg.u16(self.port_no.0).bytes(&self.hw_addr).name(&self.name, NAME_LEN);
                msg.u32((self.config & PortConfig::OF10).bits()).u32((self.state & PortState::OF10).bits());
                for features in [self.curr, self.advertised, self.supported, self.peer] {
                    msg.u32(features.of10());
                }
            }
            Version::V11 | Version::V12 | Version::V13 => {
                put_port32(msg, self.port_no);
                msg.zeros(4);
                self.put_common(msg);
                self.put_link(msg);
            }
            Version::V14 | Version::V15 => {
                put_port32(msg, self.port_no);
                msg.u16(72).zeros(2);
                self.put_common(msg);
                prop::put_aligned(msg, OFPPDPT_ETHERNET, |msg| self.put_link(msg));
            }
        }
    }

    fn put_common(&self, msg: &mut Vec<u8>) {
        msg.bytes(&self.hw_addr).zeros(2).name(&self.name, NAME_LEN);
        msg.u32((self.config & PortConfig::OF11).bits()).u32((self.state & PortState::OF11).bits());
    }

    fn put_link(&self, msg: &mut Vec<u8>) {
        for features in [self.curr, self.advertised, self.supported, self.peer] {
            msg.u32(features.bits());
        }
        msg.u32(self.curr_speed).u32(self.max_speed);
    }

    pub fn text(&self, out: &mut String) {
        let name: String = self.name.chars().take_while(|c| c.is_ascii_graphic() || *c == ' ').collect();
        w!(out, " {}({name}): addr:{}\n", Names::default().port(self.port_no), mac(self.hw_addr));
        out.push_str("     config:     ");
        self.config.text(out);
        out.push_str("     state:      ");
        self.state.text(out);
        for (what, features) in [
            ("current:    ", self.curr),
            ("advertised: ", self.advertised),
            ("supported:  ", self.supported),
            ("peer:       ", self.peer),
        ] {
            if !features.is_empty() {
                w!(out, "     {what}");
                features.text(out);
            }
        }
        let (now, max) = (self.curr_speed / 1000, self.max_speed / 1000);
        w!(out, "     speed: {now} Mbps now, {max} Mbps max\n");
    }

    /// The text of all of `ports`, ordered by number.
    pub fn text_all(ports: &[Self], out: &mut String) {
        let mut sorted: Vec<_> = ports.iter().collect();
        sorted.sort_by_key(|port| port.port_no);
        for port in sorted {
            port.text(out);
        }
    }
}

/// An Ethernet address as it is written.
fn mac(addr: EthAddr) -> String {
    addr.map(|byte| format!("{byte:02x}")).join(":")
}

/// A request for the description of one port (all ports before OpenFlow 1.5).
pub fn desc_request(version: Version, xid: u32, port: OfPort) -> Vec<u8> {
    if version < Version::V15 {
        return header::bare(Raw::Ofpst10PortDescRequest, version, xid);
    }
    let mut msg = header::start(Raw::Ofpst15PortDescRequest, version, xid);
    put_port32(&mut msg, port);
    msg.zeros(4);
    header::finish(&mut msg);
    msg
}

/// Which port a description request asks for; [`OfPort::NONE`] for all.
pub fn decode_desc_request(msg: &[u8]) -> Result<OfPort, OfError> {
    let (header, _, mut body) = open(msg, &[Raw::Ofpst10PortDescRequest, Raw::Ofpst15PortDescRequest])?;
    if header.raw == Raw::Ofpst10PortDescRequest { Ok(OfPort::NONE) } else { read_port32(&mut body) }
}

/// The descriptions of a description reply.
pub fn decode_desc_reply(msg: &[u8]) -> Result<Vec<PhyPort>, OfError> {
    const RAWS: &[Raw] = &[Raw::Ofpst10PortDescReply, Raw::Ofpst11PortDescReply, Raw::Ofpst14PortDescReply];
    let (_, version, mut body) = open(msg, RAWS)?;
    PhyPort::read_all(version, &mut body)
}

/// Adds a description to the replies to a description request.
pub fn push_desc(replies: &mut Multipart, port: &PhyPort) {
    let mut entry = Vec::new();
    port.put(replies.version(), &mut entry);
    replies.push(&entry);
}

/// Why a port's status is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PortReason {
    Add = 0,
    Delete = 1,
    Modify = 2,
}

/// A port-status message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortStatus {
    pub reason: PortReason,
    pub desc: PhyPort,
}

impl PortStatus {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[Raw::Ofpt10PortStatus, Raw::Ofpt11PortStatus, Raw::Ofpt14PortStatus];
        let (_, version, mut body) = open(msg, RAWS)?;
        let reason = match body.u8()? {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            _ => return Err(OfError::BrcBadReason),
        };
        body.skip(7)?;
        Ok(Self { reason, desc: PhyPort::read(version, &mut body)? })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let raw = match version {
            Version::V10 => Raw::Ofpt10PortStatus,
            Version::V11 | Version::V12 | Version::V13 => Raw::Ofpt11PortStatus,
            Version::V14 | Version::V15 => Raw::Ofpt14PortStatus,
        };
        let mut msg = header::start(raw, version, xid);
        msg.u8(self.reason as u8).zeros(7);
        self.desc.put(version, &mut msg);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        out.push_str(match self.reason {
            PortReason::Add => " ADD:",
            PortReason::Delete => " DEL:",
            PortReason::Modify => " MOD:",
        });
        self.desc.text(out);
    }
}

/// A port-mod message.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PortMod {
    pub port_no: OfPort,
    pub hw_addr: EthAddr,
    /// New values of the bits in `mask`; the others are 0.
    pub config: PortConfig,
    pub mask: PortConfig,
    /// What to advertise; empty leaves it.
    pub advertise: LinkFeatures,
}

const OFPPMPT_ETHERNET: u16 = 0;

impl PortMod {
    /// Decodes a message; unknown properties are an error unless `loose`.
    pub fn decode(msg: &[u8], loose: bool) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[Raw::Ofpt10PortMod, Raw::Ofpt11PortMod, Raw::Ofpt14PortMod];
        let (header, _, mut body) = open(msg, RAWS)?;
        let mut port_mod = Self::default();
        let known = if header.raw == Raw::Ofpt10PortMod {
            port_mod.port_no = OfPort(body.u16()?);
            port_mod.hw_addr = body.array()?;
            PortConfig::OF10
        } else {
            port_mod.port_no = read_port32(&mut body)?;
            body.skip(4)?;
            port_mod.hw_addr = body.array()?;
            body.skip(2)?;
            PortConfig::OF11
        };
        let config = PortConfig::from_bits_truncate(body.u32()?);
        port_mod.mask = PortConfig::from_bits_truncate(body.u32()?) & known;
        port_mod.config = config & port_mod.mask;
        match header.raw {
            Raw::Ofpt10PortMod => port_mod.advertise = LinkFeatures::from_of10(body.u32()?),
            Raw::Ofpt11PortMod => port_mod.advertise = LinkFeatures::from_of11(body.u32()?),
            _ => port_mod.read_props(body.rest(), loose)?,
        }
        Ok(port_mod)
    }

    fn read_props(&mut self, props: &[u8], loose: bool) -> Result<(), OfError> {
        for prop in Props::new(props) {
            let prop = prop?;
            if prop.kind == PropType::Standard(OFPPMPT_ETHERNET) {
                self.advertise = LinkFeatures::from_of11(prop.u32()?);
            } else {
                prop.unknown(loose, "port_mod")?;
            }
        }
        Ok(())
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let raw = match version {
            Version::V10 => Raw::Ofpt10PortMod,
            Version::V11 | Version::V12 | Version::V13 => Raw::Ofpt11PortMod,
            Version::V14 | Version::V15 => Raw::Ofpt14PortMod,
        };
        let mut msg = header::start(raw, version, xid);
        if raw == Raw::Ofpt10PortMod {
            msg.u16(self.port_no.0).bytes(&self.hw_addr);
            msg.u32((self.config & PortConfig::OF10).bits()).u32((self.mask & PortConfig::OF10).bits());
            msg.u32(self.advertise.of10()).zeros(4);
        } else {
            put_port32(&mut msg, self.port_no);
            msg.zeros(4).bytes(&self.hw_addr).zeros(2);
            msg.u32((self.config & PortConfig::OF11).bits()).u32((self.mask & PortConfig::OF11).bits());
            if raw == Raw::Ofpt11PortMod {
                msg.u32(self.advertise.bits()).zeros(4);
            } else if !self.advertise.is_empty() {
                prop::put_u32(&mut msg, OFPPMPT_ETHERNET, self.advertise.bits());
            }
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        w!(out, " port: {}: addr:{}\n", names.port(self.port_no), mac(self.hw_addr));
        out.push_str("     config: ");
        self.config.text(out);
        out.push_str("     mask:   ");
        self.mask.text(out);
        out.push_str("     advertise: ");
        if self.advertise.is_empty() {
            out.push_str("UNCHANGED\n");
        } else {
            self.advertise.text(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> PhyPort {
        PhyPort {
            port_no: OfPort(3),
            hw_addr: [0x50, 0x54, 0, 0, 0, 1],
            name: "eth0".to_owned(),
            config: PortConfig::PORT_DOWN,
            state: PortState::LINK_DOWN,
            curr: LinkFeatures::FD_100MB | LinkFeatures::AUTONEG,
            supported: LinkFeatures::FD_1GB | LinkFeatures::COPPER,
            curr_speed: 100_000,
            max_speed: 1_000_000,
            ..PhyPort::default()
        }
    }

    #[test]
    fn descriptions_go_both_ways_in_every_version() {
        for version in Version::ALL {
            let status = PortStatus { reason: PortReason::Modify, desc: port() };
            assert_eq!(PortStatus::decode(&status.encode(version, 1)), Ok(status));
        }
    }

    #[test]
    fn port_mods_go_both_ways_in_every_version() {
        let sent = PortMod {
            port_no: OfPort(3),
            hw_addr: [1; 6],
            config: PortConfig::PORT_DOWN,
            mask: PortConfig::PORT_DOWN | PortConfig::NO_FWD,
            advertise: LinkFeatures::HD_10MB,
        };
        for version in Version::ALL {
            assert_eq!(PortMod::decode(&sent.encode(version, 1), false), Ok(sent));
        }
    }

    #[test]
    fn text_is_ovs_own() {
        let mut out = String::new();
        port().text(&mut out);
        assert_eq!(
            out,
            " 3(eth0): addr:50:54:00:00:00:01\n     config:     PORT_DOWN\n     state:      LINK_DOWN\n     \
             current:    100MB-FD AUTO_NEG\n     supported:  1GB-FD COPPER\n     \
             speed: 100 Mbps now, 1000 Mbps max\n"
        );
    }
}
