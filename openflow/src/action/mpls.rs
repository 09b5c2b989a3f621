//! `push_mpls`, `pop_mpls`, `set_mpls_label`, `set_mpls_tc`, `set_mpls_ttl`.

use flow::field::{Field, Value};
use flow::proto::ethertype;

use super::raw::Raw;
use super::{OfAction, set_field};
use crate::error::OfError;
use crate::text::{Parsed, parse_u8, parse_u32, refuse};
use crate::version::Version;

pub(super) fn decode_push(ethertype: u64) -> Result<OfAction, OfError> {
    let ethertype = ethertype as u16;
    if ethertype::is_mpls(ethertype) {
        Ok(OfAction::PushMpls(ethertype))
    } else {
        Err(OfError::BacBadArgument)
    }
}

pub(super) fn encode_label(label: u32, version: Version, out: &mut Vec<u8>) {
    if version < Version::V12 {
        Raw::SetMplsLabel.put_int(version, label.into(), 4, out);
    } else {
        set_field::encode_whole(Field::MplsLabel, &Value::from_u64(label.into(), 4), version, out);
    }
}

pub(super) fn encode_tc(tc: u8, version: Version, out: &mut Vec<u8>) {
    if version < Version::V12 {
        Raw::SetMplsTc.put_int(version, tc.into(), 1, out);
    } else {
        set_field::encode_whole(Field::MplsTc, &Value::from_u64(tc.into(), 1), version, out);
    }
}

pub(super) fn parse_label(text: &str) -> Parsed<OfAction> {
    if text.is_empty() {
        return Err("set_mpls_label: expected label.".into());
    }
    match parse_u32(text)? {
        label @ 0..=0xfffff => Ok(OfAction::SetMplsLabel(label)),
        _ => refuse!("{text}: not a valid MPLS label"),
    }
}

pub(super) fn parse_tc(text: &str) -> Parsed<OfAction> {
    if text.is_empty() {
        return Err("set_mpls_tc: expected tc.".into());
    }
    match parse_u8(text, "MPLS TC")? {
        tc @ 0..=7 => Ok(OfAction::SetMplsTc(tc)),
        _ => refuse!("{text}: not a valid MPLS TC"),
    }
}

pub(super) fn parse_ttl(text: &str) -> Parsed<OfAction> {
    if text.is_empty() {
        return Err("set_mpls_ttl: expected ttl.".into());
    }
    parse_u8(text, "MPLS TTL").map(OfAction::SetMplsTtl)
}
