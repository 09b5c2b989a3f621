//! Instructions as list members: `meter`, `clear_actions`, `write_actions`, `write_metadata`, `goto_table`; and the
//! translation's own `unroll_xlate`.

use std::fmt;

use flow::id::{OfPort, TableId};

use super::raw::Raw;
use super::{Kind, OfAction, Parse, Resubmit};
use crate::error::OfError;
use crate::instruction::{self, Instruction};
use crate::names::Names;
use crate::protocol::Protocols;
use crate::text::{Parsed, parse_u32, parse_u64, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Sets bits of the metadata field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WriteMetadata {
    pub metadata: u64,
    pub mask: u64,
}

/// Tells the translation, when it resumes, which rule's actions end here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UnrollXlate {
    /// 255 if the actions belong to no rule.
    pub table: TableId,
    /// All ones if the actions belong to no rule.
    pub cookie: u64,
}

pub(super) fn decode_metadata(action: &[u8]) -> Result<OfAction, OfError> {
    super::must_be_zero(&action[10..16])?;
    let mut r = Reader::new(&action[16..]);
    Ok(OfAction::WriteMetadata(WriteMetadata { metadata: r.u64()?, mask: r.u64()? }))
}

/// Before OpenFlow 1.3 there are no meters, and nothing is written.
pub(super) fn encode_meter(id: u32, version: Version, out: &mut Vec<u8>) {
    match version {
        Version::V10 | Version::V11 | Version::V12 => {}
        Version::V13 | Version::V14 => {
            Instruction::Meter.start(out);
            out.u32(id);
        }
        Version::V15 => Raw::Meter15.put_int(version, id.into(), 4, out),
    }
}

pub(super) fn encode_clear(version: Version, out: &mut Vec<u8>) {
    if version > Version::V10 {
        Instruction::ClearActions.start(out);
        out.zeros(4);
    }
}

pub(super) fn encode_actions(actions: &[OfAction], version: Version, out: &mut Vec<u8>) {
    if version > Version::V10 {
        instruction::encode_actions(Instruction::WriteActions, actions, version, out);
    }
}

/// In OpenFlow 1.0 a `resubmit` does nearly the same.
pub(super) fn encode_goto(table: TableId, version: Version, out: &mut Vec<u8>) {
    if version == Version::V10 {
        Resubmit { in_port: OfPort::IN_PORT, ..Resubmit::to_table(table) }.encode(version, out);
    } else {
        Instruction::GotoTable.start(out);
        out.u8(table.0).zeros(3);
    }
}

impl WriteMetadata {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V10 {
            let action = Raw::WriteMetadata.start(version, out);
            out.zeros(6).u64(self.metadata).u64(self.mask);
            action.end(out);
        } else {
            Instruction::WriteMetadata.start(out);
            out.zeros(4).u64(self.metadata).u64(self.mask);
        }
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write_metadata:{}", crate::text::alt_hex(self.metadata))?;
        if self.mask != u64::MAX {
            write!(f, "/{}", crate::text::alt_hex(self.mask))?;
        }
        Ok(())
    }
}

impl UnrollXlate {
    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        write!(f, "unroll_xlate(table={}, cookie={})", names.table(self.table), self.cookie)
    }
}

pub(super) fn parse_meter(text: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    cx.usable &= Protocols::OF13_UP;
    parse_u32(text).map(OfAction::Meter)
}

pub(super) fn parse_actions(text: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    super::parse_nested(text, cx, false, Some(Kind::WriteActions)).map(OfAction::WriteActions)
}

pub(super) fn parse_metadata(text: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    cx.usable &= Protocols::NXM_OF11_UP;
    let (metadata, mask) = match text.split_once('/') {
        Some((metadata, mask)) => (metadata, parse_u64(mask)?),
        None => (text, u64::MAX),
    };
    Ok(OfAction::WriteMetadata(WriteMetadata { metadata: parse_u64(metadata)?, mask }))
}

pub(super) fn parse_goto(text: &str, cx: &Parse<'_>) -> Parsed<OfAction> {
    match cx.names.parse_table(text) {
        Some(table) => Ok(OfAction::GotoTable(table)),
        None => refuse!("unknown table \"{text}\""),
    }
}
