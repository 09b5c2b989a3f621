//! `check_pkt_larger`: a bit for whether the packet is longer than a size.

use flow::field::Subfield;

use super::check::check_destination;
use super::raw::Raw;
use super::{Decode, OfAction, set_field};
use crate::error::OfError;
use crate::oxm;
use crate::text::{Parsed, parse_u16};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Compares the packet's length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CheckPktLarger {
    /// Bytes from the Ethernet header on.
    pub pkt_len: u16,
    /// One bit: whether the packet is longer.
    pub dst: Subfield,
}

pub(super) fn decode(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (pkt_len, ofs) = (r.u16()?, r.u16()?);
    let field = oxm::read_field(&mut r, cx.lengths)?;
    let dst = Subfield { field: cx.uses(field), ofs, n_bits: 1 };
    super::must_be_zero(r.rest())?;
    check_destination(&dst, oxm::n_bits(field, cx.lengths), None)?;
    Ok(OfAction::CheckPktLarger(CheckPktLarger { pkt_len, dst }))
}

impl CheckPktLarger {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let action = Raw::CheckPktLarger.start(version, out);
        out.u16(self.pkt_len).u16(self.dst.ofs);
        oxm::put_header(out, self.dst.field, 0);
        action.end_at_least(24, out);
    }
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    let (len, field) = set_field::split_arrow(text)?;
    let len = len.strip_suffix(')').unwrap_or(len);
    let dst = Subfield::parse(field)?;
    if dst.n_bits != 1 {
        return Err("Only 1-bit destination field is allowed".into());
    }
    // OVS names no value in this error.
    let pkt_len = parse_u16(len, "(null)")?;
    Ok(OfAction::CheckPktLarger(CheckPktLarger { pkt_len, dst }))
}
