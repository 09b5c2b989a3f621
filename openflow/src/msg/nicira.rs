//! Small Nicira messages: formats of flow-mods and packet-ins, the table id in flow-mods, the controller's id,
//! flushing a conntrack zone, forwarding of requests. Spec: `nicira-ext.h`.

use super::{open, w};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::protocol::Protocols;
use crate::version::Version;
use crate::wire::Put;
use flow::id::Zone;

/// The format that `NXT_SET_FLOW_FORMAT` asks for: `OF10_STD` or `OF10_NXM`; `None` for a number without meaning.
pub fn decode_set_flow_format(msg: &[u8]) -> Result<Option<Protocols>, OfError> {
    match open(msg, &[Raw::NxtSetFlowFormat])?.2.u32()? {
        0 => Ok(Some(Protocols::OF10_STD)),
        2 => Ok(Some(Protocols::OF10_NXM)),
        other => {
            tracing::warn!(
                target: "ofp_protocol",
                "NXT_SET_FLOW_FORMAT message specified invalid flow format {other}"
            );
            Ok(None)
        }
    }
}

/// A request to use NXM (or OpenFlow 1.0's own format) in flow-mods; OpenFlow 1.0 only.
pub fn set_flow_format(xid: u32, nxm: bool) -> Vec<u8> {
    let mut msg = header::start(Raw::NxtSetFlowFormat, Version::V10, xid);
    msg.u32(if nxm { 2 } else { 0 });
    header::finish(&mut msg);
    msg
}

/// Whether `NXT_FLOW_MOD_TABLE_ID` turns table ids in flow-mods on.
pub fn decode_flow_mod_table_id(msg: &[u8]) -> Result<bool, OfError> {
    Ok(open(msg, &[Raw::NxtFlowModTableId])?.2.u8()? != 0)
}

/// A request to have (or not) the table id in a flow-mod's command.
pub fn flow_mod_table_id(version: Version, xid: u32, on: bool) -> Vec<u8> {
    let mut msg = header::start(Raw::NxtFlowModTableId, version, xid);
    msg.u8(u8::from(on)).zeros(7);
    header::finish(&mut msg);
    msg
}

/// How packet-ins are sent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
#[repr(u32)]
pub enum PacketInFormat {
    /// As the OpenFlow version has it.
    #[default]
    Standard = 0,
    Nxt = 1,
    Nxt2 = 2,
}

impl PacketInFormat {
    /// `standard`, `nxt_packet_in`, `nxt_packet_in2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Nxt => "nxt_packet_in",
            Self::Nxt2 => "nxt_packet_in2",
        }
    }

    /// The format of that name; two have an older name too.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "standard" | "openflow10" => Some(Self::Standard),
            "nxt_packet_in" | "nxm" => Some(Self::Nxt),
            "nxt_packet_in2" => Some(Self::Nxt2),
            _ => None,
        }
    }

    /// Decodes `NXT_SET_PACKET_IN_FORMAT`.
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        match open(msg, &[Raw::NxtSetPacketInFormat])?.2.u32()? {
            0 => Ok(Self::Standard),
            1 => Ok(Self::Nxt),
            2 => Ok(Self::Nxt2),
            other => {
                tracing::warn!(
                    target: "ofp_packet",
                    "NXT_SET_PACKET_IN_FORMAT message specified invalid packet-in format {other}"
                );
                Err(OfError::BrcEperm)
            }
        }
    }

    /// `NXT_SET_PACKET_IN_FORMAT`.
    pub fn encode(self, version: Version, xid: u32) -> Vec<u8> {
        let mut msg = header::start(Raw::NxtSetPacketInFormat, version, xid);
        msg.u32(self as u32);
        header::finish(&mut msg);
        msg
    }
}

/// The id that `NXT_SET_CONTROLLER_ID` gives; its first six bytes must be zero.
pub fn decode_controller_id(msg: &[u8]) -> Result<u16, OfError> {
    zeros_and_u16(msg, Raw::NxtSetControllerId)
}

/// A request to give this connection an id, which the `controller` action names.
pub fn set_controller_id(version: Version, xid: u32, id: u16) -> Vec<u8> {
    encode_zeros_and_u16(Raw::NxtSetControllerId, version, xid, id)
}

/// The zone that `NXT_CT_FLUSH_ZONE` flushes; its first six bytes must be zero.
pub fn decode_ct_flush_zone(msg: &[u8]) -> Result<Zone, OfError> {
    zeros_and_u16(msg, Raw::NxtCtFlushZone).map(Zone)
}

/// A request to flush a conntrack zone.
pub fn ct_flush_zone(version: Version, xid: u32, zone: Zone) -> Vec<u8> {
    encode_zeros_and_u16(Raw::NxtCtFlushZone, version, xid, zone.0)
}

fn zeros_and_u16(msg: &[u8], raw: Raw) -> Result<u16, OfError> {
    let mut body = open(msg, &[raw])?.2;
    if body.array::<6>()? != [0; 6] {
        return Err(OfError::BrcMustBeZero);
    }
    body.u16()
}

fn encode_zeros_and_u16(raw: Raw, version: Version, xid: u32, value: u16) -> Vec<u8> {
    let mut msg = header::start(raw, version, xid);
    msg.zeros(6).u16(value);
    header::finish(&mut msg);
    msg
}

/// Appends the text of a message of this module that has any.
pub fn text(msg: &[u8], raw: Raw, out: &mut String) -> Result<(), OfError> {
    match raw {
        Raw::NxtSetFlowFormat => {
            w!(
                out,
                " format={}",
                match decode_set_flow_format(msg)? {
                    Some(Protocols::OF10_STD) => "openflow10",
                    Some(_) => "nxm",
                    None => "(unknown)",
                }
            );
        }
        Raw::NxtFlowModTableId => {
            out.push_str(if decode_flow_mod_table_id(msg)? { " enable" } else { " disable" });
        }
        Raw::NxtSetPacketInFormat => {
            w!(out, " format={}", PacketInFormat::decode(msg)?.name());
        }
        Raw::NxtSetControllerId => {
            w!(out, " id={}", last_u16(msg));
        }
        Raw::NxtCtFlushZone => {
            w!(out, " zone_id={}", last_u16(msg));
        }
        _ => {}
    }
    Ok(())
}

/// The number at the end of a message, whatever comes before it: text shows messages that a switch would refuse.
fn last_u16(msg: &[u8]) -> u16 {
    msg.last_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_both_ways() {
        assert_eq!(decode_set_flow_format(&set_flow_format(1, true)), Ok(Some(Protocols::OF10_NXM)));
        for version in Version::ALL {
            assert_eq!(decode_flow_mod_table_id(&flow_mod_table_id(version, 1, true)), Ok(true));
            assert_eq!(
                PacketInFormat::decode(&PacketInFormat::Nxt2.encode(version, 1)),
                Ok(PacketInFormat::Nxt2)
            );
            assert_eq!(decode_controller_id(&set_controller_id(version, 1, 123)), Ok(123));
            assert_eq!(decode_ct_flush_zone(&ct_flush_zone(version, 1, Zone(13))), Ok(Zone(13)));
        }
    }
}
