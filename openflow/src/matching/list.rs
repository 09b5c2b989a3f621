//! Matches as lists of NXM or OXM entries.

use super::{FullMatch, OFPMT_OXM, require_ethernet, requires_ethernet};
use crate::action::Decode;
use crate::error::OfError;
use crate::oxm::{self, Entry, Place};
use crate::version::Version;
use crate::wire::{Put, Reader, pad8, set_u16};
use flow::field::{Field, Maskable, Prereq, Value};

/// What a reader of a list is to do with what it meets.
#[derive(Clone, Copy)]
struct Rules {
    /// Unknown fields and missing prerequisites are errors.
    strict: bool,
    /// Only fields outside the packet's bytes.
    pipeline_only: bool,
    /// A cookie may be among the entries.
    cookie: bool,
}

/// Reads the entries of a list, which has neither header nor padding.
fn read(bytes: &[u8], rules: Rules, cx: &mut Decode<'_>) -> Result<(FullMatch, u64, u64), OfError> {
    let mut full = FullMatch::default();
    let (mut cookie, mut cookie_mask) = (0, 0);
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let at = bytes.len() - reader.len();
        let one = read_one(&mut reader, rules, cx, &mut full, (&mut cookie, &mut cookie_mask));
        one.inspect_err(|error| {
            tracing::debug!(target: "nx_match", "error parsing OXM at offset {at} within match ({error})");
        })?;
    }
    Ok((full, cookie, cookie_mask))
}

fn read_one(
    reader: &mut Reader<'_>,
    rules: Rules,
    cx: &mut Decode<'_>,
    full: &mut FullMatch,
    (cookie, cookie_mask): (&mut u64, &mut u64),
) -> Result<(), OfError> {
    let entry = oxm::read_entry(reader, cx.lengths, true, Place::Match)?;
    if entry.header.is_cookie() {
        if !rules.cookie {
            return Err(OfError::BmcBadField);
        }
        if *cookie_mask != 0 {
            return Err(OfError::BmcDupField);
        }
        (*cookie, *cookie_mask) = (entry.value.u64(), entry.mask.u64());
        return Ok(());
    }
    let field = match entry.field {
        Ok(field) => field,
        Err(OfError::BmcBadField) if !rules.strict => return Ok(()),
        Err(error) => return Err(error),
    };
    check(&entry, field, rules, full)?;
    field.set_match(full, &entry.value, &entry.mask);
    if field.info().prereq != Prereq::Always {
        require_ethernet(full);
    }
    Ok(())
}

fn check(entry: &Entry, field: Field, rules: Rules, full: &FullMatch) -> Result<(), OfError> {
    if !field.mask_ok(&entry.mask) {
        return Err(OfError::BmcBadMask);
    }
    if !field.value_ok(&entry.value) {
        return Err(OfError::BmcBadValue);
    }
    if rules.strict && !field.match_prereqs_ok(full) {
        return Err(OfError::BmcBadPrereq);
    }
    if !field.is_wild(&full.mask) {
        return Err(OfError::BmcDupField);
    }
    if rules.pipeline_only && !field.is_pipeline() {
        return Err(OfError::BrcPipelineFieldsOnly);
    }
    Ok(())
}

/// Reads an OXM list with its header and padding.
pub(super) fn read_oxm(
    reader: &mut Reader<'_>,
    strict: bool,
    pipeline_only: bool,
    cx: &mut Decode<'_>,
) -> Result<FullMatch, OfError> {
    let mut head = *reader;
    let (Ok(kind), Ok(len)) = (head.u16(), head.u16()) else { return Err(OfError::BmcBadLen) };
    let len = usize::from(len);
    if len < 4 {
        return Err(OfError::BmcBadLen);
    }
    if kind != OFPMT_OXM {
        return Err(OfError::BmcBadType);
    }
    let list = reader.bytes(len.next_multiple_of(8)).map_err(|_| OfError::BmcBadLen)?;
    read(&list[4..len], Rules { strict, pipeline_only, cookie: false }, cx).map(|(full, ..)| full)
}

/// Reads an OXM list, with header and padding, that may have only fields outside the packet's bytes.
///
/// # Errors
/// What OpenFlow calls the first thing that is wrong.
pub fn read_oxm_pipeline(reader: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<FullMatch, OfError> {
    read_oxm(reader, false, true, cx)
}

/// Reads a list of `len` bytes and its padding, which may have a cookie: the match, the cookie and its mask.
///
/// # Errors
/// What OpenFlow calls the first thing that is wrong.
pub fn read_nxm(
    reader: &mut Reader<'_>,
    len: usize,
    loose: bool,
    cx: &mut Decode<'_>,
) -> Result<(FullMatch, u64, u64), OfError> {
    let list = reader.bytes(len.next_multiple_of(8)).map_err(|_| OfError::BmcBadLen)?;
    read(&list[..len], Rules { strict: !loose, pipeline_only: false, cookie: true }, cx)
}

/// Reads a bare list: neither header nor padding.
///
/// # Errors
/// What OpenFlow calls the first thing that is wrong.
pub fn read_raw_oxm(bytes: &[u8], loose: bool, cx: &mut Decode<'_>) -> Result<FullMatch, OfError> {
    read(bytes, Rules { strict: !loose, pipeline_only: false, cookie: false }, cx).map(|(full, ..)| full)
}

/// Fields in the order in which OVS writes them; `TunMetadata` and registers are written where their first is.
const ORDER: &[Field] = {
    use Field::*;
    &[
        DpHash,
        RecircId,
        ConjId,
        InPort,
        InPortOxm,
        ActsetOutput,
        EthSrc,
        EthDst,
        EthType,
        VlanTci,
        VlanVid,
        VlanPcp,
        MplsTc,
        MplsBos,
        MplsTtl,
        MplsLabel,
        Ipv4Src,
        Ipv4Dst,
        Ipv6Src,
        Ipv6Dst,
        IpFrag,
        IpDscp,
        IpDscpShifted,
        IpEcn,
        IpTtl,
        Ipv6Label,
        IpProto,
        TcpSrc,
        TcpDst,
        TcpFlags,
        UdpSrc,
        UdpDst,
        SctpSrc,
        SctpDst,
        Icmpv4Type,
        Icmpv4Code,
        Icmpv6Type,
        Icmpv6Code,
        NdReserved,
        NdTarget,
        NdOptionsType,
        NdSll,
        NdTll,
        ArpOp,
        ArpSpa,
        ArpTpa,
        ArpSha,
        ArpTha,
        TunId,
        TunFlags,
        TunSrc,
        TunDst,
        TunIpv6Src,
        TunIpv6Dst,
        TunGbpId,
        TunGbpFlags,
        TunMetadata0,
        TunErspanIdx,
        TunErspanVer,
        TunErspanDir,
        TunErspanHwid,
        TunGtpuFlags,
        TunGtpuMsgtype,
        NshFlags,
        NshTtl,
        NshMdtype,
        NshNp,
        NshSpi,
        NshSi,
        NshC1,
        NshC2,
        NshC3,
        NshC4,
        Reg0,
        XReg0,
        PktMark,
        CtState,
        CtZone,
        CtMark,
        CtLabel,
        CtNwSrc,
        CtIpv6Src,
        CtNwDst,
        CtIpv6Dst,
        CtNwProto,
        CtTpSrc,
        CtTpDst,
        Metadata,
    ]
};

/// Whether `version` (0: NXM) writes the field, of several that tell the same.
fn is_written(field: Field, version: u8) -> bool {
    match field {
        Field::InPort | Field::VlanTci | Field::IpDscp => version == 0,
        Field::InPortOxm | Field::VlanVid | Field::VlanPcp | Field::IpDscpShifted => version != 0,
        Field::Reg0 => version < Version::V15.wire(),
        Field::XReg0 => version >= Version::V15.wire(),
        _ => true,
    }
}

/// The fields that a place in [`ORDER`] stands for.
fn run(field: Field) -> &'static [Field] {
    let last = match field {
        Field::TunMetadata0 => Field::TunMetadata63,
        Field::Reg0 => Field::Reg31,
        Field::XReg0 => Field::XReg15,
        one => one,
    };
    &Field::ALL[field as usize..=last as usize]
}

/// The mask to write; all ones if the match is exact.
fn written_mask(field: Field, full: &FullMatch) -> Value {
    let mask = field.get(&full.mask.0);
    if let Some(index) = oxm::tlv_index(field) {
        let exact =
            flow::tlv::value(&full.mask.0, index).is_some_and(|mask| mask.is_ones() && !mask.is_empty());
        return if exact { Value::ones(field.n_bytes()) } else { mask };
    }
    let whole = match field {
        Field::VlanVid => mask.u64() & 0x1fff == 0x1fff,
        Field::IpFrag => mask.u64() & 3 == 3,
        Field::Ipv6Label => full.mask.0.ipv6_label.get() == u32::MAX,
        Field::NshSpi => mask.u64() & 0xff_ffff == 0xff_ffff,
        _ => field.info().maskable == Maskable::Never,
    };
    if whole { Value::ones(field.n_bytes()) } else { mask }
}

/// Whether the match has the field, as far as writing it goes.
fn has(field: Field, full: &FullMatch) -> bool {
    if field.is_wild(&full.mask) {
        return false;
    }
    match field {
        Field::VlanPcp => full.key.vlans[0].tci.get() & full.mask.0.vlans[0].tci.get() & 0x1fff != 0,
        Field::CtNwProto | Field::CtTpSrc | Field::CtTpDst => full.key.ct_nw_proto != 0,
        Field::CtNwSrc | Field::CtNwDst | Field::CtIpv6Src | Field::CtIpv6Dst => true,
        _ => field.prereqs_ok(&full.key),
    }
}

/// Appends a bare list for `version`; OpenFlow 1.0's is NXM.
pub fn put_raw(full: &FullMatch, version: Version, out: &mut Vec<u8>) {
    put(full, if version == Version::V10 { 0 } else { version.wire() }, 0, 0, out);
}

/// Appends a list without padding.
fn put(full: &FullMatch, version: u8, cookie: u64, cookie_mask: u64, out: &mut Vec<u8>) {
    let mut implied_ethernet = false;
    let ethernet = requires_ethernet(full);
    let start = out.len();
    if full.mask.0.packet_type.get() != 0 && !ethernet {
        put_field(full, Field::PacketType, version, out);
    }
    for &field in ORDER.iter().filter(|&&field| is_written(field, version)) {
        for &field in run(field).iter().filter(|&&field| has(field, full)) {
            put_field(full, field, version, out);
            implied_ethernet |= field.info().prereq != Prereq::Always;
        }
    }
    if cookie_mask != 0 {
        let masked = cookie_mask != u64::MAX;
        out.u16(1).u8(30 << 1 | u8::from(masked)).u8(if masked { 16 } else { 8 }).u64(cookie & cookie_mask);
        if masked {
            out.u64(cookie_mask);
        }
    }
    if ethernet && !implied_ethernet {
        let rest = out.split_off(start);
        put_field(full, Field::PacketType, version, out);
        out.extend(rest);
    }
}

fn put_field(full: &FullMatch, field: Field, version: u8, out: &mut Vec<u8>) {
    let mask = written_mask(field, full);
    let value = field.get(&full.key);
    oxm::put_entry(out, field, version, &value, &mask);
}

/// Appends a list with OXM's header and padding.
pub fn put_oxm(full: &FullMatch, version: Version, out: &mut Vec<u8>) {
    let start = out.len();
    out.u16(OFPMT_OXM).u16(0);
    put(full, version.wire(), 0, 0, out);
    let len = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    set_u16(out, start + 2, len);
    pad8(out, start);
}

/// Appends an NXM list and its padding, with a cookie if its mask is not zero; gives the length without padding.
pub fn put_nxm(full: &FullMatch, cookie: u64, cookie_mask: u64, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    put(full, 0, cookie, cookie_mask, out);
    let len = out.len() - start;
    pad8(out, start);
    len
}

/// A list as text, entry by entry in its own terms.
pub fn nxm_text(bytes: &[u8]) -> String {
    crate::oxm::list_text(bytes)
}
