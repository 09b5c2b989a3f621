//! Flushing connections that match a tuple, a mark or labels. Spec: `NXT_CT_FLUSH`.

use super::{open, w};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::prop::{self, Prop, PropType, Props};
use crate::version::Version;
use crate::wire::Put;
use flow::id::Zone;
use flow::key::Ipv6;
use std::net::Ipv6Addr;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// One direction's addresses and ports; zero matches anything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CtTuple {
    /// IPv4 addresses are mapped into IPv6.
    pub src: Ipv6,
    pub dst: Ipv6,
    /// Port, or ICMP id.
    pub src_port: u16,
    pub dst_port: u16,
    pub icmp_type: u8,
    pub icmp_code: u8,
}

/// Which family the addresses of a match are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L3 {
    V4,
    V6,
}

/// Which connections to flush.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CtMatch {
    pub ip_proto: u8,
    pub l3: Option<L3>,
    pub orig: CtTuple,
    pub reply: CtTuple,
    pub mark: u32,
    pub mark_mask: u32,
    pub labels: u128,
    pub labels_mask: u128,
}

impl CtTuple {
    fn is_zero(&self, ip_proto: u8) -> bool {
        let ports = !is_icmp(ip_proto) && (self.src_port != 0 || self.dst_port != 0);
        self.src == [0; 16] && self.dst == [0; 16] && !ports
    }

    fn is_full(&self, ip_proto: u8) -> bool {
        let ports = is_icmp(ip_proto) || (self.src_port != 0 && self.dst_port != 0);
        self.src != [0; 16] && self.dst != [0; 16] && ports
    }

    fn read(&mut self, props: Props<'_>, l3: &mut Option<L3>) -> Result<(), OfError> {
        for prop in props {
            let prop = prop?;
            match prop.kind {
                PropType::Standard(0) => self.src = read_addr(&prop, l3)?,
                PropType::Standard(1) => self.dst = read_addr(&prop, l3)?,
                PropType::Standard(2 | 4) => self.src_port = prop.u16()?,
                PropType::Standard(3) => self.dst_port = prop.u16()?,
                PropType::Standard(5) => self.icmp_type = prop.u8()?,
                PropType::Standard(6) => self.icmp_code = prop.u8()?,
                _ => prop.unknown(false, "NXT_CT_TUPLE")?,
            }
        }
        Ok(())
    }

    /// Appends the tuple as the property `kind`, unless nothing of it is set.
    fn put(&self, msg: &mut Vec<u8>, kind: u16, ip_proto: u8) {
        let mut nested = Vec::new();
        for (kind, addr) in [(0, &self.src), (1, &self.dst)] {
            if *addr != [0; 16] {
                prop::put_std(&mut nested, kind, |msg| {
                    msg.bytes(addr);
                });
            }
        }
        if is_icmp(ip_proto) {
            prop::put_u16(&mut nested, 4, self.src_port);
            prop::put_u8(&mut nested, 5, self.icmp_type);
            prop::put_u8(&mut nested, 6, self.icmp_code);
        } else {
            for (kind, port) in [(2, self.src_port), (3, self.dst_port)] {
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

    fn text(&self, ip_proto: u8, l3: Option<L3>, out: &mut String) {
        let prefix = if l3 == Some(L3::V4) { "ct_nw" } else { "ct_ipv6" };
        w!(out, "{prefix}_src={},{prefix}_dst={},", addr_text(self.src), addr_text(self.dst));
        if is_icmp(ip_proto) {
            let (id, kind, code) = (self.src_port, self.icmp_type, self.icmp_code);
            w!(out, "icmp_id={id},icmp_type={kind},icmp_code={code}");
        } else {
            w!(out, "ct_tp_src={},ct_tp_dst={}", self.src_port, self.dst_port);
        }
    }
}

fn is_icmp(ip_proto: u8) -> bool {
    matches!(ip_proto, ICMP | ICMPV6)
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

/// An address, as IPv4 if it is a mapped one.
fn addr_text(addr: Ipv6) -> String {
    let addr = Ipv6Addr::from(addr);
    addr.to_ipv4_mapped().map_or_else(|| addr.to_string(), |v4| v4.to_string())
}

impl CtMatch {
    /// Decodes a message: which connections, and of which zone (`None`: of any).
    pub fn decode(msg: &[u8]) -> Result<(Self, Option<Zone>), OfError> {
        let (_, _, mut body) = open(msg, &[Raw::NxtCtFlush])?;
        let mut this = Self { ip_proto: body.u8()?, ..Self::default() };
        if body.array::<7>()? != [0; 7] {
            return Err(OfError::BrcMustBeZero);
        }
        let (mut zone, mut mark, mut labels) = (None, None, None);
        for prop in Props::new(body.rest()) {
            let prop = prop?;
            match prop.kind {
                PropType::Standard(0) => this.orig.read(prop.nested()?, &mut this.l3)?,
                PropType::Standard(1) => this.reply.read(prop.nested()?, &mut this.l3)?,
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

    pub fn encode(&self, zone: Option<Zone>, version: Version, xid: u32) -> Vec<u8> {
        let mut msg = header::start(Raw::NxtCtFlush, version, xid);
        msg.u8(self.ip_proto).zeros(7);
        self.orig.put(&mut msg, 0, self.ip_proto);
        self.reply.put(&mut msg, 1, self.ip_proto);
        if let Some(zone) = zone {
            prop::put_u16(&mut msg, 2, zone.0);
        }
        if self.mark_mask != 0 {
            prop::put_u32(&mut msg, 3, self.mark);
            if self.mark_mask != u32::MAX {
                prop::put_u32(&mut msg, 4, self.mark_mask);
            }
        }
        if self.labels_mask != 0 {
            put_u128(&mut msg, 5, self.labels);
            if self.labels_mask != u128::MAX {
                put_u128(&mut msg, 6, self.labels_mask);
            }
        }
        header::finish(&mut msg);
        msg
    }

    /// Whether it matches anything.
    pub fn is_zero(&self) -> bool {
        let tuples = self.orig.is_zero(self.ip_proto) && self.reply.is_zero(self.ip_proto);
        self.ip_proto == 0 && self.l3.is_none() && tuples && self.mark_mask == 0 && self.labels_mask == 0
    }

    /// Whether it names one connection by its original direction alone.
    pub fn is_five_tuple(&self) -> bool {
        let tuples = self.orig.is_full(self.ip_proto) && self.reply.is_zero(self.ip_proto);
        tuples && self.mark_mask == 0 && self.labels_mask == 0
    }

    /// Appends the match as text.
    pub fn text(&self, out: &mut String) {
        if self.mark_mask != 0 {
            w!(out, "mark={}", hex(self.mark.into()));
            if self.mark_mask != u32::MAX {
                w!(out, "/{}", hex(self.mark_mask.into()));
            }
            out.push(' ');
        }
        if self.labels_mask != 0 {
            w!(out, "labels={}", hex(self.labels));
            if self.labels_mask != u128::MAX {
                w!(out, "/{}", hex(self.labels_mask));
            }
            out.push(' ');
        }
        out.push('\'');
        self.orig.text(self.ip_proto, self.l3, out);
        w!(out, ",ct_nw_proto={}' '", self.ip_proto);
        self.reply.text(self.ip_proto, self.l3, out);
        out.push('\'');
    }

    /// Appends the text of a message.
    pub fn msg_text(msg: &[u8], out: &mut String) -> Result<(), OfError> {
        let (this, zone) = Self::decode(msg)?;
        w!(out, " zone={} ", zone.unwrap_or_default());
        this.text(out);
        Ok(())
    }
}

fn put_u128(msg: &mut Vec<u8>, kind: u16, value: u128) {
    prop::put_std(msg, kind, |msg| {
        msg.bytes(&value.to_be_bytes());
    });
}

/// Hexadecimal with prefix, but plain zero.
fn hex(number: u128) -> String {
    if number == 0 { "0".to_owned() } else { format!("{number:#x}") }
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
        let msg = sent.encode(Some(Zone(13)), Version::V15, 1);
        assert_eq!(CtMatch::decode(&msg), Ok((sent, Some(Zone(13)))));
        let mut out = String::new();
        assert_eq!(CtMatch::msg_text(&msg, &mut out), Ok(()));
        assert_eq!(
            out,
            " zone=13 mark=0xab/0xcd labels=0x1 'ct_nw_src=10.10.0.1,ct_nw_dst=10.10.0.2,ct_tp_src=80,\
             ct_tp_dst=8080,ct_nw_proto=6' 'ct_nw_src=::,ct_nw_dst=::,ct_tp_src=0,ct_tp_dst=0'"
        );
        assert!(!sent.is_five_tuple() && !sent.is_zero() && CtMatch::default().is_zero());
    }
}
