//! Requests of one controller that are forwarded to others. Spec: OpenFlow 1.4 section 7.4.6; ONF extension 350.

use super::group::GroupMod;
use super::meter::MeterMod;
use super::open;
use crate::error::OfError;
use crate::header::{self, Header, Raw, Type};
use crate::names::Names;
use crate::version::Version;
use crate::wire::Put;

/// A forwarded request.
#[derive(Clone, PartialEq, Debug)]
pub enum RequestForward {
    GroupMod(GroupMod),
    MeterMod(MeterMod),
}

impl RequestForward {
    /// The reason's number, as asynchronous configuration has it.
    pub fn reason(&self) -> u8 {
        match self {
            Self::GroupMod(_) => 0,
            Self::MeterMod(_) => 1,
        }
    }

    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[Raw::Ofpt14RequestForward, Raw::Onft13RequestForward, Raw::NxtRequestForward];
        let (outer, _, body) = open(msg, RAWS)?;
        let inner = body.rest();
        let len = header::stated_len(inner);
        let inner = inner.get(..len).filter(|_| len >= header::LEN).ok_or(OfError::BfcMsgBadLen)?;
        if inner[0] != outer.version {
            return Err(OfError::BrcBadVersion);
        }
        match Header::parse(inner)?.0.kind() {
            Type::GroupMod => GroupMod::decode(inner).map(Self::GroupMod),
            Type::MeterMod => MeterMod::decode(inner).map(Self::MeterMod),
            _ => Err(OfError::BfcMsgUnsup),
        }
    }

    /// The message that forwards the request with `xid`; `None` if the version cannot tell the request.
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let inner = match self {
            Self::GroupMod(request) => request.encode(version, xid)?,
            Self::MeterMod(_) if version < Version::V13 => return None,
            Self::MeterMod(request) => request.encode(version, xid),
        };
        let raw = match version {
            Version::V10 | Version::V11 | Version::V12 => Raw::NxtRequestForward,
            Version::V13 => Raw::Onft13RequestForward,
            Version::V14 | Version::V15 => Raw::Ofpt14RequestForward,
        };
        let mut msg = header::start(raw, version, 0);
        msg.bytes(&inner);
        header::finish(&mut msg);
        Some(msg)
    }

    pub fn text(&self, version: Version, names: &Names, out: &mut String) {
        match self {
            Self::GroupMod(request) => {
                out.push_str(" reason=group_mod");
                request.text(version, names, out);
            }
            Self::MeterMod(request) => {
                out.push_str(" reason=meter_mod");
                request.text(out);
            }
        }
    }
}
