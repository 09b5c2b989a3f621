//! Flushing connections that match a tuple, a mark or labels. Spec: `NXT_CT_FLUSH`.

use super::{open, w};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::prop::{self, Prop, PropType, Props};
use crate::version::Version;
use crate::wire::Put;
use flow::ct::{CtMatch, CtTuple, L3, is_icmp};
use flow::id::Zone;
use flow::key::Ipv6;
use std::net::Ipv6Addr;

/// The properties of one direction.
fn read_tuple(tuple: &mut CtTuple, props: Props<'_>, l3: &mut Option<L3>) -> Result<(), OfError> {
    for prop in props {
        let prop = prop?;
        match prop.kind {
            PropType::Standard(0) => tuple.src = read_addr(&prop, l3)?,
            PropType::Standard(1) => tuple.dst = read_addr(&prop, l3)?,
            PropType::Standard(2 | 4) => tuple.src_port = prop.u16()?,
            PropType::Standard(3) => tuple.dst_port = prop.u16()?,
            PropType::Standard(5) => tuple.icmp_type = prop.u8()?,
            PropType::Standard(6) => tuple.icmp_code = prop.u8()?,
            _ => prop.unknown(false, "NXT_CT_TUPLE")?,
        }
    }
    Ok(())
}

/// Appends one direction as the property `kind`, unless nothing of it is set.
fn put_tuple(tuple: &CtTuple, msg: &mut Vec<u8>, kind: u16, ip_proto: u8) {
    let mut nested = Vec::new();
    for (kind, addr) in [(0, &tuple.src), (1, &tuple.dst)] {
        if *addr != [0; 16] {
            prop::put_std(&mut nested, kind, |msg| {
                msg.bytes(addr);
            });
        }
    }
    if is_icmp(ip_proto) {
        prop::put_u16(&mut nested, 4, tuple.src_port);
        prop::put_u8(&mut nested, 5, tuple.icmp_type);
        prop::put_u8(&mut nested, 6, tuple.icmp_code);
    } else {
        for (kind, port) in [(2, tuple.src_port), (3, tuple.dst_port)] {
            if port != 0 {
                prop::put_u16(&mut nested, kind, port);
            }
        }
    }
    if !nested.is_empty() {
        prop::put_aligned(msg, kind, |msg| {
            msg.bytes(&nested);
        });
    }
}

fn read_addr(prop: &Prop<'_>, l3: &mut Option<L3>) -> Result<Ipv6, OfError> {
    let addr = *prop.value().first_chunk::<16>().ok_or(OfError::BpcBadLen)?;
    let family = match Ipv6Addr::from(addr) {
        Ipv6Addr::UNSPECIFIED => None,
        mapped if mapped.to_ipv4_mapped().is_some() => Some(L3::V4),
        _ => Some(L3::V6),
    };
    if l3.is_some() && family.is_some() && *l3 != family {
        return Err(OfError::BpcBadValue);
    }
    *l3 = family;
    Ok(addr)
}

/// Decodes a message: which connections, and of which zone (`None`: of any).
pub fn decode(msg: &[u8]) -> Result<(CtMatch, Option<Zone>), OfError> {
    let (_, _, mut body) = open(msg, &[Raw::NxtCtFlush])?;
    let mut this = CtMatch { ip_proto: body.u8()?, ..CtMatch::default() };
    if body.array::<7>()? != [0; 7] {
        return Err(OfError::BrcMustBeZero);
    }
    let (mut zone, mut mark, mut labels) = (None, None, None);
    for prop in Props::new(body.rest()) {
        let prop = prop?;
        match prop.kind {
            PropType::Standard(0) => read_tuple(&mut this.orig, prop.nested()?, &mut this.l3)?,
            PropType::Standard(1) => read_tuple(&mut this.reply, prop.nested()?, &mut this.l3)?,
            PropType::Standard(2) => zone = Some(Zone(prop.u16()?)),
            PropType::Standard(3) => {
                this.mark = prop.u32()?;
                mark = mark.or(Some(u32::MAX));
            }
            PropType::Standard(4) => mark = Some(prop.u32()?),
            PropType::Standard(5) => {
                this.labels = prop.array().map(u128::from_be_bytes)?;
                labels = labels.or(Some(u128::MAX));
            }
            PropType::Standard(6) => labels = Some(prop.array().map(u128::from_be_bytes)?),
            _ => prop.unknown(false, "NXT_CT_FLUSH")?,
        }
    }
    this.mark_mask = mark.unwrap_or(0);
    this.labels_mask = labels.unwrap_or(0);
    Ok((this, zone))
}

pub fn encode(which: &CtMatch, zone: Option<Zone>, version: Version, xid: u32) -> Vec<u8> {
    let mut msg = header::start(Raw::NxtCtFlush, version, xid);
    msg.u8(which.ip_proto).zeros(7);
    put_tuple(&which.orig, &mut msg, 0, which.ip_proto);
    put_tuple(&which.reply, &mut msg, 1, which.ip_proto);
    if let Some(zone) = zone {
        prop::put_u16(&mut msg, 2, zone.0);
    }
    if which.mark_mask != 0 {
        prop::put_u32(&mut msg, 3, which.mark);
        if which.mark_mask != u32::MAX {
            prop::put_u32(&mut msg, 4, which.mark_mask);
        }
    }
    if which.labels_mask != 0 {
        put_u128(&mut msg, 5, which.labels);
        if which.labels_mask != u128::MAX {
            put_u128(&mut msg, 6, which.labels_mask);
        }
    }
    header::finish(&mut msg);
    msg
}

/// Appends the text of a message.
pub fn text(msg: &[u8], out: &mut String) -> Result<(), OfError> {
    let (which, zone) = decode(msg)?;
    w!(out, " zone={} {which}", zone.unwrap_or_default());
    Ok(())
}

fn put_u128(msg: &mut Vec<u8>, kind: u16, value: u128) {
    prop::put_std(msg, kind, |msg| {
        msg.bytes(&value.to_be_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn matches_go_both_ways() {
        let mapped = |a, b, c, d| Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets();
        let orig = CtTuple {
            src: mapped(10, 10, 0, 1),
            dst: mapped(10, 10, 0, 2),
            src_port: 80,
            dst_port: 8080,
            ..CtTuple::default()
        };
        let sent = CtMatch {
            ip_proto: 6,
            l3: Some(L3::V4),
            orig,
            mark: 0xab,
            mark_mask: 0xcd,
            labels: 1,
            labels_mask: u128::MAX,
            ..CtMatch::default()
        };
        let msg = encode(&sent, Some(Zone(13)), Version::V15, 1);
        assert_eq!(decode(&msg), Ok((sent, Some(Zone(13)))));
        let mut out = String::new();
        assert_eq!(text(&msg, &mut out), Ok(()));
        assert_eq!(
            out,
            " zone=13 mark=0xab/0xcd labels=0x1 'ct_nw_src=10.10.0.1,ct_nw_dst=10.10.0.2,ct_tp_src=80,\
             ct_tp_dst=8080,ct_nw_proto=6' 'ct_nw_src=::,ct_nw_dst=::,ct_tp_src=0,ct_tp_dst=0'"
        );
        assert!(!sent.is_five_tuple() && !sent.is_zero() && CtMatch::default().is_zero());
    }
}
