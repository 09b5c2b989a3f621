//! Which asynchronous messages a controller wants, by its role.
//! Spec: `NXT_SET_ASYNC_CONFIG`, OpenFlow 1.3 section 7.3.10, OpenFlow 1.4 section 7.3.10.

use super::{open, w};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::prop::{self, Prop, PropType, Props};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// A kind of asynchronous message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AsyncType {
    PacketIn,
    PortStatus,
    FlowRemoved,
    RoleStatus,
    TableStatus,
    RequestForward,
}

/// What a kind of message can be sent for.
struct Row {
    kind: AsyncType,
    name: &'static str,
    /// Reasons that versions before 1.4 and from 1.4 on know.
    allowed: [u32; 2],
    /// Names of the reasons, by number.
    reasons: &'static [&'static str],
}

/// Packet-in reasons: the three of OpenFlow 1.0 and the three that OpenFlow 1.4 split off "action"; two more tell
/// misses apart and have no names.
const PACKET_IN_10: u32 = 0x7;
const PACKET_IN_14: u32 = 0x3f;
const NO_MATCH: u32 = 1 << 0;
const INVALID_TTL: u32 = 1 << 2;
/// A miss that a table-miss flow sent to the controller, and one without any flow.
const EXPLICIT_MISS: u32 = 1 << 6;
const IMPLICIT_MISS: u32 = 1 << 7;

static ROWS: [Row; 6] = [
    Row {
        kind: AsyncType::PacketIn,
        name: "PACKET_IN",
        allowed: [PACKET_IN_10, PACKET_IN_14],
        reasons: &["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out", "", ""],
    },
    Row {
        kind: AsyncType::PortStatus,
        name: "PORT_STATUS",
        allowed: [0x7, 0x7],
        reasons: &["add", "delete", "modify"],
    },
    Row {
        kind: AsyncType::FlowRemoved,
        name: "FLOW_REMOVED",
        allowed: [0x3f, 0x3f],
        reasons: &["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"],
    },
    Row {
        kind: AsyncType::RoleStatus,
        name: "ROLE_STATUS",
        allowed: [0x7, 0x7],
        reasons: &["primary_request", "configuration_changed", "experimenter_data_changed"],
    },
    Row {
        kind: AsyncType::TableStatus,
        name: "TABLE_STATUS",
        allowed: [0x18, 0x18],
        reasons: &["0", "1", "2", "vacancy_down", "vacancy_up"],
    },
    Row {
        kind: AsyncType::RequestForward,
        name: "REQUESTFORWARD",
        allowed: [0x3, 0x3],
        reasons: &["group_mod_request", "meter_mod_request"],
    },
];

/// Primary (or equal) and secondary masks of reasons (bit N: reason N), by kind of message.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AsyncConfig {
    pub primary: [u32; 6],
    pub secondary: [u32; 6],
}

impl AsyncConfig {
    /// What a controller gets that has not asked for anything else.
    pub fn for_version(version: Version) -> Self {
        let mut config = Self::default();
        let mut packet_in = (PACKET_IN_14 & !INVALID_TTL) | EXPLICIT_MISS;
        if version <= Version::V12 {
            packet_in |= IMPLICIT_MISS;
        }
        config.primary[AsyncType::PacketIn as usize] = packet_in;
        config.primary[AsyncType::PortStatus as usize] = 0x7;
        config.secondary[AsyncType::PortStatus as usize] = 0x7;
        config.primary[AsyncType::FlowRemoved as usize] = match version {
            Version::V10 | Version::V11 | Version::V12 => 0x7,
            Version::V13 => 0xf,
            Version::V14 | Version::V15 => 0x3f,
        };
        config
    }

    /// Whether a message of that kind and reason is wanted.
    pub fn wants(&self, kind: AsyncType, reason: u8, secondary: bool) -> bool {
        let masks = if secondary { &self.secondary } else { &self.primary };
        reason < 32 && masks[kind as usize] & (1 << reason) != 0
    }

    /// Decodes a request to set, or a reply to a request to get. Some formats change a part of `basis` only. Unknown
    /// properties and reasons are errors unless `loose`.
    pub fn decode(msg: &[u8], loose: bool, basis: &Self) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[
            Raw::Ofpt13SetAsync,
            Raw::Ofpt13GetAsyncReply,
            Raw::NxtSetAsyncConfig,
            Raw::Ofpt14SetAsync,
            Raw::Ofpt14GetAsyncReply,
            Raw::NxtSetAsyncConfig2,
        ];
        let (header, version, mut body) = open(msg, RAWS)?;
        match header.raw {
            Raw::Ofpt13SetAsync | Raw::Ofpt13GetAsyncReply | Raw::NxtSetAsyncConfig => {
                let mut config = Self::default();
                config.read_fixed(version, &mut body)?;
                Ok(config)
            }
            _ => {
                let mut config = *basis;
                for prop in Props::new(body.rest()).experimenters_from(0xfffe) {
                    config.read_prop(version, &prop?, loose)?;
                }
                Ok(config)
            }
        }
    }

    fn read_fixed(&mut self, version: Version, body: &mut Reader<'_>) -> Result<(), OfError> {
        for row in &ROWS[..3] {
            for primary in [true, false] {
                self.set(version, row, primary, body.u32()?, true)?;
            }
        }
        Ok(())
    }

    fn read_prop(&mut self, version: Version, prop: &Prop<'_>, loose: bool) -> Result<(), OfError> {
        // Even types are the secondary role's, odd ones the primary's.
        if let PropType::Standard(kind) = prop.kind
            && let Some(row) = ROWS.get(usize::from(kind / 2))
        {
            return self.set(version, row, kind % 2 == 1, prop.u32()?, loose);
        }
        prop.unknown(loose, "async config")
            .map_err(|error| if error == OfError::BpcBadType { OfError::AcfcUnsupported } else { error })
    }

    fn set(
        &mut self,
        version: Version,
        row: &Row,
        primary: bool,
        mask: u32,
        loose: bool,
    ) -> Result<(), OfError> {
        let allowed = row.allowed[usize::from(version >= Version::V14)];
        let mut mask = mask;
        if mask & !allowed != 0 {
            let name = row.name;
            if !loose {
                tracing::warn!(
                    target: "ofp_connection",
                    "bad value {mask:#x} for {name} (allowed mask {allowed:#x})"
                );
                return Err(OfError::AcfcInvalid);
            }
            tracing::debug!(target: "ofp_connection", "bad value {mask:#x} for {name} (allowed mask {allowed:#x})");
            mask &= allowed;
        }
        if row.kind == AsyncType::PacketIn && mask & NO_MATCH != 0 {
            mask |= EXPLICIT_MISS;
            if version < Version::V13 {
                mask |= IMPLICIT_MISS;
            }
        }
        let masks = if primary { &mut self.primary } else { &mut self.secondary };
        masks[row.kind as usize] = mask;
        Ok(())
    }

    fn mask(&self, version: Version, row: &Row, primary: bool) -> u32 {
        let masks = if primary { &self.primary } else { &self.secondary };
        masks[row.kind as usize] & row.allowed[usize::from(version >= Version::V14)]
    }

    /// The reply to a request to get the configuration; OpenFlow 1.3 and later.
    pub fn encode_reply(&self, version: Version, xid: u32) -> Vec<u8> {
        let raw = if version < Version::V14 { Raw::Ofpt13GetAsyncReply } else { Raw::Ofpt14GetAsyncReply };
        self.encode(raw, version, xid)
    }

    /// A request to set the configuration. Before OpenFlow 1.4, packet-ins, port status and flow removals only.
    pub fn encode_request(&self, version: Version, xid: u32) -> Vec<u8> {
        let raw = match version {
            Version::V10 | Version::V11 | Version::V12 => Raw::NxtSetAsyncConfig,
            Version::V13 => Raw::Ofpt13SetAsync,
            Version::V14 | Version::V15 => Raw::Ofpt14SetAsync,
        };
        self.encode(raw, version, xid)
    }

    fn encode(&self, raw: Raw, version: Version, xid: u32) -> Vec<u8> {
        let mut msg = header::start(raw, version, xid);
        if version >= Version::V14 {
            for (kind, row) in (0_u16..).zip(&ROWS) {
                prop::put_u32(&mut msg, kind * 2, self.mask(version, row, false));
                prop::put_u32(&mut msg, kind * 2 + 1, self.mask(version, row, true));
            }
        } else {
            for row in &ROWS[..3] {
                msg.u32(self.mask(version, row, true)).u32(self.mask(version, row, false));
            }
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        for (role, masks) in [("primary", &self.primary), ("secondary", &self.secondary)] {
            w!(out, "\n {role}:\n");
            for (row, mask) in ROWS.iter().zip(masks) {
                w!(out, "{:>16}:", row.name);
                for bit in (0..32).filter(|bit| mask & (1 << bit) != 0) {
                    match row.reasons.get(bit) {
                        Some(&"") => {}
                        Some(reason) => {
                            w!(out, " {reason}");
                        }
                        None => {
                            w!(out, " {bit}");
                        }
                    }
                }
                out.push_str(if *mask == 0 { " (off)\n" } else { "\n" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_the_wire_where_it_can_tell_them() {
        for version in Version::ALL {
            let mut config = AsyncConfig::for_version(version);
            let packet_in = &mut config.primary[AsyncType::PacketIn as usize];
            if version < Version::V14 {
                *packet_in &= !(PACKET_IN_14 & !PACKET_IN_10);
            }
            let msg = config.encode_request(version, 1);
            assert_eq!(AsyncConfig::decode(&msg, false, &AsyncConfig::default()), Ok(config), "{version}");
        }
    }

    #[test]
    fn bad_masks_and_types_have_their_errors() {
        let decode = |kind, mask| {
            let msg = [5, 28, 0, 16, 0, 0, 0, 2, 0, kind, 0, 8, 0, 0, 0, mask];
            AsyncConfig::decode(&msg, false, &AsyncConfig::default())
        };
        assert_eq!(decode(0, 0x40), Err(OfError::AcfcInvalid));
        assert_eq!(decode(17, 2), Err(OfError::AcfcUnsupported));
        assert!(decode(1, 5).is_ok_and(|config| config.wants(AsyncType::PacketIn, 2, false)));
    }
}
