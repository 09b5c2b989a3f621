//! Controller roles: requests, replies, and the status message that tells of a change.
//! Spec: OpenFlow 1.2 section 5.4 (A.3.9); `NXT_ROLE_REQUEST`; OpenFlow 1.4 section 7.4.4.

use super::{open, w};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::version::Version;
use crate::wire::Put;

/// A controller's role (`OFPCR12_ROLE_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Role {
    /// In requests: leave the role.
    NoChange = 0,
    Equal = 1,
    Primary = 2,
    Secondary = 3,
}

impl Role {
    fn from_wire(number: u32) -> Result<Self, OfError> {
        Ok(match number {
            0 => Self::NoChange,
            1 => Self::Equal,
            2 => Self::Primary,
            3 => Self::Secondary,
            _ => return Err(OfError::RrfcBadRole),
        })
    }

    /// `nochange`, `equal`, `primary`, `secondary`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoChange => "nochange",
            Self::Equal => "equal",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

/// A role request or reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleMsg {
    pub role: Role,
    pub generation_id: Option<u64>,
}

impl RoleMsg {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        const RAWS: &[Raw] =
            &[Raw::Ofpt12RoleRequest, Raw::Ofpt12RoleReply, Raw::NxtRoleRequest, Raw::NxtRoleReply];
        let (header, _, mut body) = open(msg, RAWS)?;
        let number = body.u32()?;
        if matches!(header.raw, Raw::NxtRoleRequest | Raw::NxtRoleReply) {
            // Nicira's numbers are one less.
            let role = Role::from_wire(number.checked_add(1).ok_or(OfError::RrfcBadRole)?)?;
            return Ok(Self { role, generation_id: None });
        }
        let role = Role::from_wire(number)?;
        body.skip(4)?;
        let id = body.u64()?;
        let none = if header.raw == Raw::Ofpt12RoleRequest { role == Role::NoChange } else { id == u64::MAX };
        Ok(Self { role, generation_id: (!none).then_some(id) })
    }

    /// A request: Nicira's before OpenFlow 1.2.
    pub fn encode_request(&self, version: Version, xid: u32) -> Vec<u8> {
        let raw = if version >= Version::V12 { Raw::Ofpt12RoleRequest } else { Raw::NxtRoleRequest };
        self.encode(raw, version, xid, 0)
    }

    /// The reply to `request`, in its format.
    pub fn encode_reply(&self, request: &[u8]) -> Result<Vec<u8>, OfError> {
        let header = header::Header::peek(request)?;
        let raw = if header.raw == Raw::NxtRoleRequest { Raw::NxtRoleReply } else { Raw::Ofpt12RoleReply };
        Ok(self.encode(raw, header.version()?, header.xid, u64::MAX))
    }

    fn encode(&self, raw: Raw, version: Version, xid: u32, no_id: u64) -> Vec<u8> {
        let mut msg = header::start(raw, version, xid);
        if matches!(raw, Raw::NxtRoleRequest | Raw::NxtRoleReply) {
            msg.u32((self.role as u32).saturating_sub(1));
        } else {
            msg.u32(self.role as u32).zeros(4).u64(self.generation_id.unwrap_or(no_id));
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        role_text(self.role, self.generation_id, out);
    }
}

fn role_text(role: Role, generation_id: Option<u64>, out: &mut String) {
    w!(out, " role={}", role.name());
    if let Some(id) = generation_id {
        w!(out, " generation_id={id}");
    }
}

/// Why a role changed (`OFPCRR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RoleReason {
    PrimaryRequest = 0,
    Config = 1,
    Experimenter = 2,
}

/// A role-status message, from OpenFlow 1.3 (ONF extension) on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleStatus {
    pub role: Role,
    /// `None` for a number that has no meaning.
    pub reason: Option<RoleReason>,
    pub generation_id: Option<u64>,
}

impl RoleStatus {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::Onft13RoleStatus, Raw::Ofpt14RoleStatus])?;
        let role = Role::from_wire(body.u32()?)?;
        let reason = match body.u8()? {
            0 => Some(RoleReason::PrimaryRequest),
            1 => Some(RoleReason::Config),
            2 => Some(RoleReason::Experimenter),
            _ => None,
        };
        body.skip(3)?;
        let id = body.u64()?;
        Ok(Self { role, reason, generation_id: (id != u64::MAX).then_some(id) })
    }

    /// The message; `None` in versions that have none.
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let raw = match version {
            Version::V10 | Version::V11 | Version::V12 => return None,
            Version::V13 => Raw::Onft13RoleStatus,
            Version::V14 | Version::V15 => Raw::Ofpt14RoleStatus,
        };
        let mut msg = header::start(raw, version, xid);
        msg.u32(self.role as u32).u8(self.reason.map_or(u8::MAX, |reason| reason as u8)).zeros(3);
        msg.u64(self.generation_id.unwrap_or(u64::MAX));
        header::finish(&mut msg);
        Some(msg)
    }

    pub fn text(&self, out: &mut String) {
        role_text(self.role, self.generation_id, out);
        out.push_str(match self.reason {
            Some(RoleReason::PrimaryRequest) => " reason=primary_request",
            Some(RoleReason::Config) => " reason=configuration_changed",
            Some(RoleReason::Experimenter) => " reason=experimenter_data_changed",
            None => " reason=(unknown)",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_go_both_ways_in_every_version() {
        for version in Version::ALL {
            let id = (version >= Version::V12).then_some(3);
            let sent = RoleMsg { role: Role::Primary, generation_id: id };
            let request = sent.encode_request(version, 2);
            assert_eq!(RoleMsg::decode(&request), Ok(sent));
            let reply = RoleMsg { role: Role::Secondary, generation_id: None };
            let msg = reply.encode_reply(&request).expect("it is a request");
            assert_eq!(RoleMsg::decode(&msg), Ok(reply));
        }
    }

    #[test]
    fn status_goes_both_ways() {
        let sent =
            RoleStatus { role: Role::Equal, reason: Some(RoleReason::Config), generation_id: Some(16) };
        assert_eq!(sent.encode(Version::V12, 0), None);
        for version in [Version::V13, Version::V14, Version::V15] {
            let msg = sent.encode(version, 0).expect("the version has it");
            assert_eq!(RoleStatus::decode(&msg), Ok(sent));
        }
    }
}
