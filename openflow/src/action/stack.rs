//! `push` and `pop`: bits of fields to and from the packet's stack.

use flow::field::Subfield;

use super::check::{check_destination, check_source};
use super::raw::Raw;
use super::{Decode, OfAction};
use crate::error::OfError;
use crate::oxm;
use crate::text::{Parsed, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader};

pub(super) fn decode(action: &[u8], push: bool, cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let ofs = r.u16()?;
    let field = oxm::read_field(&mut r, cx.lengths)?;
    let subfield = Subfield { field: cx.uses(field), ofs, n_bits: r.u16()? };
    super::must_be_zero(r.rest())?;
    let n_bits = oxm::n_bits(field, cx.lengths);
    if push {
        check_source(&subfield, n_bits, None)?;
        Ok(OfAction::StackPush(subfield))
    } else {
        check_destination(&subfield, n_bits, None)?;
        Ok(OfAction::StackPop(subfield))
    }
}

pub(super) fn encode(subfield: &Subfield, raw: Raw, version: Version, out: &mut Vec<u8>) {
    let action = raw.start(version, out);
    out.u16(subfield.ofs);
    oxm::put_header(out, subfield.field, 0);
    out.u16(subfield.n_bits);
    action.end_at_least(24, out);
}

pub(super) fn parse(text: &str) -> Parsed<Subfield> {
    match Subfield::parse_prefix(text)? {
        (subfield, "") => Ok(subfield),
        (_, rest) => refuse!("{rest}: trailing garbage following push or pop"),
    }
}
