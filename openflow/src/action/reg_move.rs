//! `move`: bits of one field into another; from OpenFlow 1.5 on it is called copy-field.

use flow::field::Subfield;

use super::check::{check_destination, check_source};
use super::raw::Raw;
use super::{Decode, OfAction};
use crate::error::OfError;
use crate::oxm;
use crate::text::{Parsed, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Copies bits; both subfields have the same width.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RegMove {
    pub src: Subfield,
    pub dst: Subfield,
    /// Whether it came in as a copy-field, standard or of the Open Networking Foundation.
    pub copy_field: bool,
}

/// The Nicira form: bits, two offsets, then two headers.
pub(super) fn decode(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    decode_body(Reader::new(&action[10..]), 0, false, cx)
}

/// The standard form (its fields begin at byte 4) or that of the ONF (at byte 12): bits, two offsets, two bytes of
/// padding, then two headers.
pub(super) fn decode_copy_field(action: &[u8], at: usize, cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    decode_body(Reader::new(&action[at..]), 2, true, cx)
}

fn decode_body(
    mut r: Reader<'_>,
    padding: usize,
    copy_field: bool,
    cx: &mut Decode<'_>,
) -> Result<OfAction, OfError> {
    let (n_bits, src_ofs, dst_ofs) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(padding)?;
    let src = oxm::read_field(&mut r, cx.lengths)?;
    let dst = oxm::read_field(&mut r, cx.lengths)?;
    super::must_be_zero(r.rest())?;
    let src = Subfield { field: cx.uses(src), ofs: src_ofs, n_bits };
    let dst = Subfield { field: cx.uses(dst), ofs: dst_ofs, n_bits };
    check_source(&src, oxm::n_bits(src.field, cx.lengths), None)?;
    check_destination(&dst, oxm::n_bits(dst.field, cx.lengths), None)?;
    Ok(OfAction::RegMove(RegMove { src, dst, copy_field }))
}

impl RegMove {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let (raw, oxm_version, lead, padding) = match version {
            Version::V15 => (Raw::CopyField15, version.wire(), 0, 2),
            Version::V13 if self.copy_field => (Raw::CopyField13, version.wire(), 2, 2),
            _ => (Raw::RegMove, 0, 0, 0),
        };
        let action = raw.start(version, out);
        out.zeros(lead).u16(self.dst.n_bits).u16(self.src.ofs).u16(self.dst.ofs).zeros(padding);
        oxm::put_header(out, self.src.field, oxm_version);
        oxm::put_header(out, self.dst.field, oxm_version);
        action.end(out);
    }
}

pub(super) fn parse(text: &str) -> Parsed<RegMove> {
    let (src, rest) = Subfield::parse_prefix(text)?;
    let Some(dst) = rest.strip_prefix("->") else { refuse!("{text}: missing `->' following source") };
    let dst = Subfield::parse(dst)?;
    if src.n_bits != dst.n_bits {
        refuse!(
            "{text}: source field is {} bits wide but destination is {} bits wide",
            src.n_bits,
            dst.n_bits
        );
    }
    Ok(RegMove { src, dst, copy_field: false })
}
