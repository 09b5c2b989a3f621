//! `clone`: actions on a copy of the packet.

use super::raw::Raw;
use super::verify::Allowed;
use super::{Decode, Kind, OfAction, Parse, codec};
use crate::error::OfError;
use crate::protocol::Protocols;
use crate::text::Parsed;
use crate::version::Version;
use crate::wire::Put;

pub(super) fn decode(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    codec::decode_verified(&action[16..], cx, Allowed::APPLY, None).map(OfAction::Clone)
}

pub(super) fn encode(actions: &[OfAction], version: Version, out: &mut Vec<u8>) {
    let action = Raw::Clone.start(version, out);
    out.zeros(6);
    super::encode_list(actions, version, out);
    action.end(out);
}

pub(super) fn parse(text: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    cx.usable = Protocols::ANY;
    super::parse_nested(text, cx, false, Some(Kind::Clone)).map(OfAction::Clone)
}
