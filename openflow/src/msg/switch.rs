//! What the switch is and how it treats fragments and misses: features, configuration, description.
//! Spec: OpenFlow 1.0 sections 5.3.1, 5.3.2 and 5.3.5.

use super::port::PhyPort;
use super::{action_names, bit_names, open, w};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::version::Version;
use crate::wire::{Put, Reader};

bitflags::bitflags! {
    /// What a switch can do, independent of version.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct Capabilities: u32 {
        const FLOW_STATS = 1 << 0;
        const TABLE_STATS = 1 << 1;
        const PORT_STATS = 1 << 2;
        const IP_REASM = 1 << 5;
        const QUEUE_STATS = 1 << 6;
        /// OpenFlow 1.0 and 1.1.
        const ARP_MATCH_IP = 1 << 7;
        /// OpenFlow 1.2 and later.
        const PORT_BLOCKED = 1 << 8;
        /// OpenFlow 1.4 and later.
        const BUNDLES = 1 << 9;
        const FLOW_MONITORING = 1 << 10;
        /// OpenFlow 1.0.
        const STP = 1 << 3;
        /// OpenFlow 1.1 and later, on the wire with the bit that was STP's.
        const GROUP_STATS = 1 << 4;
    }
}

const CAPABILITY_NAMES: &[(u32, &str)] = &[
    (1 << 0, "FLOW_STATS"),
    (1 << 1, "TABLE_STATS"),
    (1 << 2, "PORT_STATS"),
    (1 << 3, "STP"),
    (1 << 4, "GROUP_STATS"),
    (1 << 5, "IP_REASM"),
    (1 << 6, "QUEUE_STATS"),
    (1 << 7, "ARP_MATCH_IP"),
    (1 << 8, "PORT_BLOCKED"),
    (1 << 9, "BUNDLES"),
    (1 << 10, "FLOW_MONITORING"),
];

/// The bit that is STP in OpenFlow 1.0 and group statistics later.
const WIRE_STP_OR_GROUP_STATS: u32 = 1 << 3;

impl Capabilities {
    fn of(version: Version) -> Self {
        let all =
            Self::FLOW_STATS | Self::TABLE_STATS | Self::PORT_STATS | Self::IP_REASM | Self::QUEUE_STATS;
        match version {
            Version::V10 | Version::V11 => all | Self::ARP_MATCH_IP,
            Version::V12 | Version::V13 => all | Self::PORT_BLOCKED,
            Version::V14 | Version::V15 => all | Self::PORT_BLOCKED | Self::BUNDLES | Self::FLOW_MONITORING,
        }
    }

    fn moved(version: Version) -> Self {
        if version == Version::V10 { Self::STP } else { Self::GROUP_STATS }
    }

    fn from_wire(version: Version, bits: u32) -> Self {
        let mut set = Self::from_bits_truncate(bits) & Self::of(version);
        set.set(Self::moved(version), bits & WIRE_STP_OR_GROUP_STATS != 0);
        set
    }

    fn wire(self, version: Version) -> u32 {
        let moved = if self.contains(Self::moved(version)) { WIRE_STP_OR_GROUP_STATS } else { 0 };
        (self & Self::of(version)).bits() | moved
    }
}

/// A features reply.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Features {
    pub datapath_id: u64,
    pub n_buffers: u32,
    pub n_tables: u8,
    /// OpenFlow 1.3 and later.
    pub auxiliary_id: u8,
    pub capabilities: Capabilities,
    /// Bits of OpenFlow 1.0's action types; 0 in later versions.
    pub actions: u32,
    /// The ports: before OpenFlow 1.3 only, and as many as fit.
    pub ports: Vec<PhyPort>,
}

impl Features {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[Raw::Ofpt10FeaturesReply, Raw::Ofpt11FeaturesReply, Raw::Ofpt13FeaturesReply];
        let (_, version, mut body) = open(msg, RAWS)?;
        let datapath_id = body.u64()?;
        let n_buffers = body.u32()?;
        let n_tables = body.u8()?;
        let auxiliary_id = body.u8()?;
        body.skip(2)?;
        let capabilities = Capabilities::from_wire(version, body.u32()?);
        let actions = body.u32()?;
        Ok(Self {
            datapath_id,
            n_buffers,
            n_tables,
            auxiliary_id: if version >= Version::V13 { auxiliary_id } else { 0 },
            capabilities,
            actions: if version == Version::V10 { actions } else { 0 },
            ports: PhyPort::read_all(version, &mut body)?,
        })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let raw = match version {
            Version::V10 => Raw::Ofpt10FeaturesReply,
            Version::V11 | Version::V12 => Raw::Ofpt11FeaturesReply,
            Version::V13 | Version::V14 | Version::V15 => Raw::Ofpt13FeaturesReply,
        };
        let mut msg = header::start(raw, version, xid);
        msg.u64(self.datapath_id).u32(self.n_buffers).u8(self.n_tables);
        msg.u8(if version >= Version::V13 { self.auxiliary_id } else { 0 }).u16(0);
        msg.u32(self.capabilities.wire(version)).u32(if version == Version::V10 { self.actions } else { 0 });
        if version < Version::V13 {
            for port in &self.ports {
                let mut entry = Vec::new();
                port.put(version, &mut entry);
                if msg.len() + entry.len() > usize::from(u16::MAX) {
                    break;
                }
                msg.bytes(&entry);
            }
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        w!(out, " dpid:{:016x}\n", self.datapath_id);
        w!(out, "n_tables:{}, n_buffers:{}", self.n_tables, self.n_buffers);
        if self.auxiliary_id != 0 {
            w!(out, ", auxiliary_id:{}", self.auxiliary_id);
        }
        out.push_str("\ncapabilities: ");
        bit_names(out, self.capabilities.bits(), CAPABILITY_NAMES, ' ');
        out.push('\n');
        if self.actions != 0 {
            w!(out, "actions: {}\n", action_names(self.actions, Version::V10));
        }
        PhyPort::text_all(&self.ports, out);
    }
}

/// What the switch does with IP fragments (`OFPC_FRAG_*`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FragHandling {
    #[default]
    Normal,
    Drop,
    Reassemble,
    /// Fragments are matched by their fields `ip_frag` and (first ones) ports.
    NxMatch,
}

impl FragHandling {
    const ALL: [Self; 4] = [Self::Normal, Self::Drop, Self::Reassemble, Self::NxMatch];

    /// `normal`, `drop`, `reassemble`, `nx-match`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Drop => "drop",
            Self::Reassemble => "reassemble",
            Self::NxMatch => "nx-match",
        }
    }

    /// The handling of that name, whatever the case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|handling| handling.name().eq_ignore_ascii_case(name))
    }
}

const INVALID_TTL_TO_CONTROLLER: u16 = 1 << 2;

/// The switch's configuration, as it is got and set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Config {
    pub frag: FragHandling,
    /// Whether packets with invalid TTL go to the controllers; versions before 1.3 only.
    pub invalid_ttl_to_controller: Option<bool>,
    /// Bytes of a missed packet that are sent.
    pub miss_send_len: u16,
}

impl Config {
    /// Decodes a reply, or a request to set. Flags that the version lacks are an error in a request.
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (header, version, mut body) = open(msg, &[Raw::OfptGetConfigReply, Raw::OfptSetConfig])?;
        let flags = body.u16()?;
        let ttl_bit = if version < Version::V13 { INVALID_TTL_TO_CONTROLLER } else { 0 };
        if header.raw == Raw::OfptSetConfig && flags & !(3 | ttl_bit) != 0 {
            return Err(OfError::ScfcBadFlags);
        }
        Ok(Self {
            frag: FragHandling::ALL[usize::from(flags & 3)],
            invalid_ttl_to_controller: (version < Version::V13).then_some(flags & ttl_bit != 0),
            miss_send_len: body.u16()?,
        })
    }

    /// A request to set the configuration, or (`Raw::OfptGetConfigReply`) a reply.
    pub fn encode(&self, raw: Raw, version: Version, xid: u32) -> Vec<u8> {
        let ttl = self.invalid_ttl_to_controller == Some(true) && version < Version::V13;
        let mut msg = header::start(raw, version, xid);
        msg.u16(self.frag as u16 | if ttl { INVALID_TTL_TO_CONTROLLER } else { 0 }).u16(self.miss_send_len);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        w!(out, " frags={}", self.frag.name());
        if self.invalid_ttl_to_controller == Some(true) {
            out.push_str(" invalid_ttl_to_controller");
        }
        w!(out, " miss_send_len={}\n", self.miss_send_len);
    }
}

/// A description reply.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Desc {
    pub manufacturer: String,
    pub hardware: String,
    pub software: String,
    pub serial: String,
    pub datapath: String,
}

impl Desc {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::OfpstDescReply])?;
        Self::read(&mut body)
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, OfError> {
        Ok(Self {
            manufacturer: body.name::<256>()?,
            hardware: body.name::<256>()?,
            software: body.name::<256>()?,
            serial: body.name::<32>()?,
            datapath: body.name::<256>()?,
        })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut msg = header::start(Raw::OfpstDescReply, version, xid);
        msg.name(&self.manufacturer, 256).name(&self.hardware, 256).name(&self.software, 256);
        msg.name(&self.serial, 32).name(&self.datapath, 256);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        w!(out, "\nManufacturer: {}\nHardware: {}\n", self.manufacturer, self.hardware);
        w!(out, "Software: {}\nSerial Num: {}\n", self.software, self.serial);
        w!(out, "DP Description: {}\n", self.datapath);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_go_both_ways() {
        let features = Features {
            datapath_id: 0x50_5400_0000_0001,
            n_buffers: 256,
            n_tables: 254,
            capabilities: Capabilities::FLOW_STATS | Capabilities::QUEUE_STATS,
            ..Features::default()
        };
        for version in Version::ALL {
            let mut sent = features.clone();
            sent.capabilities |= Capabilities::moved(version);
            assert_eq!(Features::decode(&sent.encode(version, 3)), Ok(sent));
        }
    }

    #[test]
    fn config_flags_are_checked() {
        let decode = |version, flags| Config::decode(&[version, 9, 0, 12, 0, 0, 0, 3, 0, flags, 0, 0xff]);
        assert_eq!(
            decode(1, 6),
            Ok(Config {
                frag: FragHandling::Reassemble,
                invalid_ttl_to_controller: Some(true),
                miss_send_len: 255
            })
        );
        assert_eq!(decode(4, 4), Err(OfError::ScfcBadFlags));
        let config = decode(4, 1).expect("drop is a flag of every version");
        assert_eq!(
            config.encode(Raw::OfptSetConfig, Version::V13, 3),
            [4, 9, 0, 12, 0, 0, 0, 3, 0, 1, 0, 0xff]
        );
    }
}
