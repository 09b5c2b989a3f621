//! The older actions that set one header field each: Ethernet and IP addresses, TOS, TTL, ports. From OpenFlow 1.2 on
//! they are sent as `set_field`.

use std::net::Ipv4Addr;

use flow::field::{Field, Subfield, Value};
use flow::key::EthAddr;
use flow::proto;

use super::raw::Raw;
use super::{OfAction, set_field};
use crate::error::OfError;
use crate::text::{Parsed, parse_u8, parse_u16, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Sets a transport port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SetL4Port {
    pub port: u16,
    /// The IP protocol that the flow matches, or 0; the consistency check sets it. It says which field is set where
    /// versions have a field for each protocol.
    pub flow_ip_proto: u8,
}

pub(super) fn decode_mac(action: &[u8]) -> Result<EthAddr, OfError> {
    Reader::new(&action[4..]).array()
}

pub(super) fn decode_dscp(dscp: u64) -> Result<OfAction, OfError> {
    if dscp & 3 != 0 { Err(OfError::BacBadArgument) } else { Ok(OfAction::SetIpDscp(dscp as u8)) }
}

pub(super) fn decode_ecn(ecn: u64) -> Result<OfAction, OfError> {
    if ecn > 3 { Err(OfError::BacBadArgument) } else { Ok(OfAction::SetIpEcn(ecn as u8)) }
}

pub(super) fn encode_mac(mac: &EthAddr, raw: Raw, version: Version, out: &mut Vec<u8>) {
    if version < Version::V12 {
        let action = raw.start(version, out);
        out.bytes(mac).zeros(6);
        action.end(out);
    } else {
        let field = if raw == Raw::SetDlSrc { Field::EthSrc } else { Field::EthDst };
        set_field::encode_whole(field, &Value::from_bytes(mac), version, out);
    }
}

pub(super) fn encode_ipv4(ip: Ipv4Addr, raw: Raw, version: Version, out: &mut Vec<u8>) {
    if version < Version::V12 {
        raw.put_int(version, u32::from(ip).into(), 4, out);
    } else {
        let field = if raw == Raw::SetNwSrc { Field::Ipv4Src } else { Field::Ipv4Dst };
        set_field::encode_whole(field, &Value::from_bytes(&ip.octets()), version, out);
    }
}

pub(super) fn encode_dscp(dscp: u8, version: Version, out: &mut Vec<u8>) {
    if version < Version::V12 {
        Raw::SetNwTos.put_int(version, dscp.into(), 1, out);
    } else {
        let value = Value::from_u64(u64::from(dscp) >> 2, 1);
        set_field::encode_whole(Field::IpDscpShifted, &value, version, out);
    }
}

pub(super) fn encode_ecn(ecn: u8, version: Version, out: &mut Vec<u8>) {
    match version {
        Version::V10 => set_field::encode_load(&Subfield::whole(Field::IpEcn), ecn.into(), version, out),
        Version::V11 => Raw::SetNwEcn.put_int(version, ecn.into(), 1, out),
        _ => set_field::encode_whole(Field::IpEcn, &Value::from_u64(ecn.into(), 1), version, out),
    }
}

pub(super) fn encode_ttl(ttl: u8, version: Version, out: &mut Vec<u8>) {
    if version == Version::V10 {
        set_field::encode_load(&Subfield::whole(Field::IpTtl), ttl.into(), version, out);
    } else {
        Raw::SetNwTtl.put_int(version, ttl.into(), 1, out);
    }
}

impl SetL4Port {
    /// Sets `port` in a flow whose protocol is not known yet.
    pub const fn new(port: u16) -> Self {
        Self { port, flow_ip_proto: 0 }
    }

    pub(super) fn encode(&self, raw: Raw, version: Version, out: &mut Vec<u8>) {
        let (src, dst) = match self.flow_ip_proto {
            proto::ip::TCP => (Field::TcpSrc, Field::TcpDst),
            proto::ip::UDP => (Field::UdpSrc, Field::UdpDst),
            proto::ip::SCTP => (Field::SctpSrc, Field::SctpDst),
            _ => return raw.put_int(version, self.port.into(), 2, out),
        };
        if version < Version::V12 {
            return raw.put_int(version, self.port.into(), 2, out);
        }
        let field = if raw == Raw::SetTpSrc { src } else { dst };
        set_field::encode_whole(field, &Value::from_u64(self.port.into(), 2), version, out);
    }
}

pub(super) fn parse_dscp(text: &str) -> Parsed<OfAction> {
    let tos = parse_u8(text, "TOS")?;
    if tos & 3 != 0 {
        refuse!("{text}: not a valid TOS");
    }
    Ok(OfAction::SetIpDscp(tos))
}

pub(super) fn parse_ecn(text: &str) -> Parsed<OfAction> {
    let ecn = parse_u8(text, "ECN")?;
    if ecn > 3 {
        refuse!("{text}: not a valid ECN");
    }
    Ok(OfAction::SetIpEcn(ecn))
}

pub(super) fn parse_ttl(text: &str) -> Parsed<OfAction> {
    parse_u8(text, "TTL").map(OfAction::SetIpTtl)
}

pub(super) fn parse_port(text: &str, name: &str) -> Parsed<SetL4Port> {
    parse_u16(text, name).map(SetL4Port::new)
}
