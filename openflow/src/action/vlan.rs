//! `set_vlan_vid`, `set_vlan_pcp`, `strip_vlan`, `push_vlan`.
//!
//! OpenFlow 1.0's actions (`mod_vlan_vid`, `mod_vlan_pcp`) push a tag if there is none, OpenFlow 1.1's do not. Going to
//! a later version, the former become a push and a set, unless the flow matches on a tag.

use std::fmt;

use flow::field::{Field, Value};
use flow::proto::ethertype;

use super::raw::Raw;
use super::{OfAction, Parse, set_field};
use crate::error::OfError;
use crate::protocol::Protocols;
use crate::text::{Parsed, parse_u8, parse_u16, refuse};
use crate::version::Version;

/// Sets the VLAN id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SetVlanVid {
    /// 12 bits.
    pub vid: u16,
    /// Whether an absent tag is pushed, as in OpenFlow 1.0.
    pub push_if_needed: bool,
    /// Whether the flow is known to have a tag here; the consistency check sets it.
    pub flow_has_vlan: bool,
}

/// Sets the VLAN priority.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SetVlanPcp {
    /// 3 bits.
    pub pcp: u8,
    /// Whether an absent tag is pushed, as in OpenFlow 1.0.
    pub push_if_needed: bool,
    /// Whether the flow is known to have a tag here; the consistency check sets it.
    pub flow_has_vlan: bool,
}

/// Removes the outer tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StripVlan {
    /// Whether it was spelt as OpenFlow 1.1 does (`pop_vlan`).
    pub pop: bool,
}

/// `OFPVID12_PRESENT`: a tag with this id is there.
const VID_PRESENT: u64 = 0x1000;

pub(super) fn decode_vid(vid: u64, push_if_needed: bool) -> Result<OfAction, OfError> {
    match vid as u16 {
        vid @ 0..=0xfff => Ok(OfAction::SetVlanVid(SetVlanVid { vid, push_if_needed, flow_has_vlan: false })),
        _ => Err(OfError::BacBadArgument),
    }
}

pub(super) fn decode_pcp(pcp: u64, push_if_needed: bool) -> Result<OfAction, OfError> {
    match pcp as u8 {
        pcp @ 0..=7 => Ok(OfAction::SetVlanPcp(SetVlanPcp { pcp, push_if_needed, flow_has_vlan: false })),
        _ => Err(OfError::BacBadArgument),
    }
}

pub(super) fn decode_push(ethertype: u64) -> Result<OfAction, OfError> {
    let ethertype = ethertype as u16;
    if ethertype::is_vlan(ethertype) {
        Ok(OfAction::PushVlan(ethertype))
    } else {
        Err(OfError::BacBadArgument)
    }
}

/// In OpenFlow 1.0 the tag is pushed by the set that follows.
pub(super) fn encode_push(ethertype: u16, version: Version, out: &mut Vec<u8>) {
    if version > Version::V10 {
        Raw::PushVlan.put_int(version, ethertype.into(), 2, out);
    }
}

impl SetVlanVid {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if self.push_if_needed && !self.flow_has_vlan {
            encode_push(ethertype::VLAN, version, out);
        }
        match version {
            Version::V10 => Raw::SetVlanVid10.put_int(version, self.vid.into(), 2, out),
            Version::V11 => Raw::SetVlanVid11.put_int(version, self.vid.into(), 2, out),
            _ => {
                let value = Value::from_u64(u64::from(self.vid) | VID_PRESENT, 2);
                set_field::encode_whole(Field::VlanVid, &value, version, out);
            }
        }
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.push_if_needed { "mod_vlan_vid" } else { "set_vlan_vid" };
        write!(f, "{name}:{}", self.vid)
    }
}

impl SetVlanPcp {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if self.push_if_needed && !self.flow_has_vlan {
            encode_push(ethertype::VLAN, version, out);
        }
        match version {
            Version::V10 => Raw::SetVlanPcp10.put_int(version, self.pcp.into(), 1, out),
            Version::V11 => Raw::SetVlanPcp11.put_int(version, self.pcp.into(), 1, out),
            _ => {
                let value = Value::from_u64(self.pcp.into(), 1);
                set_field::encode_whole(Field::VlanPcp, &value, version, out);
            }
        }
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.push_if_needed { "mod_vlan_pcp" } else { "set_vlan_pcp" };
        write!(f, "{name}:{}", self.pcp)
    }
}

impl StripVlan {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let raw = if version == Version::V10 { Raw::StripVlan10 } else { Raw::PopVlan11 };
        raw.put(version, out);
    }
}

pub(super) fn parse_vid(text: &str, push_if_needed: bool) -> Parsed<OfAction> {
    let vid = parse_u16(text, "VLAN VID")?;
    if vid > 0xfff {
        refuse!("{text}: not a valid VLAN VID");
    }
    Ok(OfAction::SetVlanVid(SetVlanVid { vid, push_if_needed, flow_has_vlan: false }))
}

pub(super) fn parse_pcp(text: &str, push_if_needed: bool) -> Parsed<OfAction> {
    let pcp = parse_u8(text, "VLAN PCP")?;
    if pcp > 7 {
        refuse!("{text}: not a valid VLAN PCP");
    }
    Ok(OfAction::SetVlanPcp(SetVlanPcp { pcp, push_if_needed, flow_has_vlan: false }))
}

pub(super) fn parse_push(text: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    cx.usable &= Protocols::OF11_UP;
    let ethertype = parse_u16(text, "ethertype")?;
    if !ethertype::is_vlan(ethertype) {
        refuse!("{text}: not a valid VLAN ethertype");
    }
    Ok(OfAction::PushVlan(ethertype))
}
