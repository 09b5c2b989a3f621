//! Bundles: messages that take effect together. Spec: OpenFlow 1.4 section 7.3.9; ONF extension 230 for 1.3.

use super::{bit_names, open, w};
use crate::error::OfError;
use crate::header::{self, Header, Raw, Type};
use crate::version::Version;
use crate::wire::Put;

/// What a control message asks or answers (`OFPBCT_*`); an answer is one more than its request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum BundleCommand {
    OpenRequest = 0,
    OpenReply = 1,
    CloseRequest = 2,
    CloseReply = 3,
    CommitRequest = 4,
    CommitReply = 5,
    DiscardRequest = 6,
    DiscardReply = 7,
}

impl BundleCommand {
    const ALL: [(Self, &'static str); 8] = [
        (Self::OpenRequest, "OPEN_REQUEST"),
        (Self::OpenReply, "OPEN_REPLY"),
        (Self::CloseRequest, "CLOSE_REQUEST"),
        (Self::CloseReply, "CLOSE_REPLY"),
        (Self::CommitRequest, "COMMIT_REQUEST"),
        (Self::CommitReply, "COMMIT_REPLY"),
        (Self::DiscardRequest, "DISCARD_REQUEST"),
        (Self::DiscardReply, "DISCARD_REPLY"),
    ];

    /// The command of a number.
    pub fn from_wire(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).map(|(command, _)| *command)
    }
}

/// Every message or none.
pub const ATOMIC: u16 = 1 << 0;
/// In the order in which they were added.
pub const ORDERED: u16 = 1 << 1;
const FLAG_NAMES: &[(u32, &str)] = &[(1, "atomic"), (2, "ordered")];

/// A bundle-control message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BundleControl {
    pub bundle_id: u32,
    /// The command's number.
    pub command: u16,
    /// [`ATOMIC`], [`ORDERED`].
    pub flags: u16,
}

impl BundleControl {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::Ofpt14BundleControl, Raw::Onft13BundleControl])?;
        Ok(Self { bundle_id: body.u32()?, command: body.u16()?, flags: body.u16()? })
    }

    /// The message; `None` in versions that have none.
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let raw = match version {
            Version::V10 | Version::V11 | Version::V12 => return None,
            Version::V13 => Raw::Onft13BundleControl,
            Version::V14 | Version::V15 => Raw::Ofpt14BundleControl,
        };
        let mut msg = header::start(raw, version, xid);
        msg.u32(self.bundle_id).u16(self.command).u16(self.flags);
        header::finish(&mut msg);
        Some(msg)
    }

    pub fn text(&self, out: &mut String) {
        let name = BundleCommand::ALL.get(usize::from(self.command)).map_or("", |(_, name)| name);
        let id = if self.bundle_id == 0 { "0".to_owned() } else { format!("{:#x}", self.bundle_id) };
        w!(out, "\n bundle_id={id} type={name} flags=");
        bit_names(out, self.flags.into(), FLAG_NAMES, ' ');
    }
}

/// A bundle-add message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BundleAdd<'a> {
    pub bundle_id: u32,
    pub flags: u16,
    /// The message to add: a port-mod, flow-mod, group-mod or packet-out.
    pub msg: &'a [u8],
}

impl<'a> BundleAdd<'a> {
    pub fn decode(msg: &'a [u8]) -> Result<Self, OfError> {
        let (header, _, mut body) = open(msg, &[Raw::Ofpt14BundleAddMessage, Raw::Onft13BundleAddMessage])?;
        let bundle_id = body.u32()?;
        body.skip(2)?;
        let flags = body.u16()?;
        let rest = body.rest();
        if rest.len() < header::LEN {
            return Err(OfError::BfcMsgBadLen);
        }
        if rest[0] != header.version {
            return Err(OfError::BfcBadVersion);
        }
        let len = header::stated_len(rest);
        let inner = rest.get(..len).filter(|_| len >= header::LEN).ok_or(OfError::BfcMsgBadLen)?;
        if header::xid(inner) != header.xid {
            return Err(OfError::BfcMsgBadXid);
        }
        match Header::parse(inner) {
            Ok((header, _)) => bundlable(header.raw)?,
            Err(error) => {
                tracing::warn!(
                    target: "ofp_bundle",
                    "OFPT14_BUNDLE_ADD_MESSAGE contained message is unparsable ({error})"
                );
                return Err(OfError::BfcMsgUnsup);
            }
        }
        Ok(Self { bundle_id, flags, msg: inner })
    }

    /// The message, with the xid of the message that it adds; `None` in versions that have none.
    pub fn encode(&self, version: Version) -> Option<Vec<u8>> {
        let raw = match version {
            Version::V10 | Version::V11 | Version::V12 => return None,
            Version::V13 => Raw::Onft13BundleAddMessage,
            Version::V14 | Version::V15 => Raw::Ofpt14BundleAddMessage,
        };
        let mut msg = header::start(raw, version, header::xid(self.msg));
        msg.u32(self.bundle_id).zeros(2).u16(self.flags).bytes(self.msg);
        header::finish(&mut msg);
        Some(msg)
    }

    /// Appends all but the message in it.
    pub fn text(&self, out: &mut String) {
        let id = if self.bundle_id == 0 { "0".to_owned() } else { format!("{:#x}", self.bundle_id) };
        w!(out, "\n bundle_id={id} flags=");
        bit_names(out, self.flags.into(), FLAG_NAMES, ' ');
        out.push('\n');
    }
}

fn bundlable(raw: Raw) -> Result<(), OfError> {
    if matches!(raw.kind(), Type::PortMod | Type::FlowMod | Type::GroupMod | Type::PacketOut) {
        return Ok(());
    }
    let name = raw.name();
    tracing::warn!(target: "ofp_bundle", "{name} message not allowed inside OFPT14_BUNDLE_ADD_MESSAGE");
    Err(OfError::BfcMsgUnsup)
}
