//! `note`: bytes for the controller's own use.

use super::OfAction;
use super::raw::Raw;
use crate::text::{Parsed, parse_hex};
use crate::version::Version;
use crate::wire::Put;

pub(super) fn decode(action: &[u8]) -> OfAction {
    OfAction::Note(action[10..].to_vec())
}

pub(super) fn encode(data: &[u8], version: Version, out: &mut Vec<u8>) {
    let action = Raw::Note.start(version, out);
    out.bytes(data);
    action.end_at_least(16, out);
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    parse_hex(text).map(OfAction::Note).ok_or_else(|| "bad hex digit in `note' argument".into())
}
