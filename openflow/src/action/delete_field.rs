//! `delete_field`: removes a tunnel option from the packet's metadata.

use flow::field::Field;

use super::raw::Raw;
use super::{Decode, OfAction};
use crate::error::OfError;
use crate::oxm;
use crate::text::{Parsed, refuse};
use crate::version::Version;
use crate::wire::Reader;

pub(super) fn decode(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let field = oxm::read_field(&mut Reader::new(&action[10..]), cx.lengths)?;
    Ok(OfAction::DeleteField(cx.uses(field)))
}

pub(super) fn encode(field: Field, version: Version, out: &mut Vec<u8>) {
    let action = Raw::DeleteField.start(version, out);
    oxm::put_header(out, field, 0);
    action.end_at_least(24, out);
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    match Field::from_oxm_name(text).or_else(|| Field::from_name(text)) {
        Some(field) => Ok(OfAction::DeleteField(field)),
        None => refuse!("unknown field `{text}'"),
    }
}
