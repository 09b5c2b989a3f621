//! `set_field` and `load`: constants into fields.
//!
//! One action in memory. OpenFlow 1.5 has a masked `set_field`, 1.2 to 1.4 one of whole fields, earlier versions have
//! an action for each of some fields; the Nicira action `load` sets up to 64 consecutive bits of a field in any
//! version but 1.5. An action that came in as `load` goes out as `load` where that exists.

use std::fmt;

use flow::field::{Field, Subfield, Value};
use flow::key::VLAN_CFI;
use flow::proto::ethertype;

use super::check::check_destination;
use super::raw::Raw;
use super::{Decode, OfAction, Parse, header, vlan};
use crate::error::OfError;
use crate::names::{Names, tell_of_port};
use crate::oxm;
use crate::protocol::usable_exact;
use crate::text::{Parsed, refuse, scan_number};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// How a [`SetField`] came in, which is how it goes out where both ways exist.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    SetField,
    /// Nicira `load`, up to 64 bits each.
    Load,
    /// Nicira `load` with an OXM entry; its text is that of `set_field`.
    Load2,
}

/// Sets bits of a field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SetField {
    pub field: Field,
    pub value: Value,
    /// The bits to set.
    pub mask: Value,
    pub form: Form,
    /// Whether the flow is known to have a VLAN tag here; the consistency check sets it.
    pub flow_has_vlan: bool,
}

/// `OFPVID12_PRESENT`.
const VID_PRESENT: u64 = 0x1000;

impl SetField {
    /// Sets all of `field`.
    pub fn whole(field: Field, value: Value) -> Self {
        Self::masked(field, value, Value::ones(field.n_bytes()), Form::SetField)
    }

    /// Loads the low bits of `value` into a subfield.
    pub fn load(dst: &Subfield, value: &Value) -> Self {
        let mut whole = Value::zero(dst.field.n_bytes());
        whole.copy_bits(dst.ofs.into(), value, 0, dst.n_bits.into());
        Self::masked(dst.field, whole, dst.mask_value(), Form::Load)
    }

    fn masked(field: Field, value: Value, mask: Value, form: Form) -> Self {
        Self { field, value, mask, form, flow_has_vlan: false }
    }

    /// The runs of at most 64 bits that are set, from the lowest on, as `load` has them.
    pub fn runs(&self) -> impl Iterator<Item = (Subfield, u64)> {
        let end = usize::from(self.field.n_bits());
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = (at..end).find(|&bit| self.mask.bit(bit))?;
            let stop = (start + 1..end.min(start + 64)).find(|&bit| !self.mask.bit(bit));
            at = stop.unwrap_or(end.min(start + 64));
            let run = Subfield { field: self.field, ofs: start as u16, n_bits: (at - start) as u16 };
            Some((run, self.value.bits(start, at - start, 8).u64()))
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version >= Version::V15 {
            self.encode_set_field(version, out);
        } else if self.form != Form::SetField {
            self.encode_loads(version, out);
        } else if version < Version::V12 {
            self.encode_legacy(version, out);
        } else if self.mask.is_ones() {
            self.encode_set_field(version, out);
        } else {
            self.encode_loads(version, out);
        }
    }

    fn encode_set_field(&self, version: Version, out: &mut Vec<u8>) {
        let raw = if version >= Version::V15 { Raw::SetField15 } else { Raw::SetField12 };
        let action = raw.start(version, out);
        oxm::put_entry(out, self.field, version.wire(), &self.value, &self.mask);
        action.end(out);
    }

    fn encode_loads(&self, version: Version, out: &mut Vec<u8>) {
        let in_one = oxm::header32(self.field).is_none() || self.field.is_tun_metadata();
        if self.form == Form::Load2 || in_one {
            let action = Raw::RegLoad2.start(version, out);
            oxm::put_entry(out, self.field, 0, &self.value, &self.mask);
            action.end(out);
        } else {
            for (dst, value) in self.runs() {
                encode_load(&dst, value, version, out);
            }
        }
    }

    /// In the actions of OpenFlow 1.0 and 1.1, for the fields for which they have one.
    fn encode_legacy(&self, version: Version, out: &mut Vec<u8>) {
        let number = self.value.u64();
        let v10 = version == Version::V10;
        let vid = if v10 { Raw::SetVlanVid10 } else { Raw::SetVlanVid11 };
        let pcp = if v10 { Raw::SetVlanPcp10 } else { Raw::SetVlanPcp11 };
        let mac = |raw: Raw, out: &mut Vec<u8>| {
            let action = raw.start(version, out);
            out.bytes(self.value.bytes()).zeros(6);
            action.end(out);
        };
        match self.field {
            Field::VlanTci if number & u64::from(VLAN_CFI) == 0 => {
                let raw = if v10 { Raw::StripVlan10 } else { Raw::PopVlan11 };
                raw.put(version, out);
            }
            Field::VlanTci => {
                if !self.flow_has_vlan {
                    vlan::encode_push(ethertype::VLAN, version, out);
                }
                vid.put_int(version, number & 0xfff, 2, out);
                pcp.put_int(version, number >> 13, 1, out);
            }
            Field::VlanVid => vid.put_int(version, number & 0xfff, 2, out),
            Field::VlanPcp => pcp.put_int(version, number, 1, out),
            Field::EthSrc => mac(Raw::SetDlSrc, out),
            Field::EthDst => mac(Raw::SetDlDst, out),
            Field::Ipv4Src => Raw::SetNwSrc.put_int(version, number, 4, out),
            Field::Ipv4Dst => Raw::SetNwDst.put_int(version, number, 4, out),
            Field::IpDscp => Raw::SetNwTos.put_int(version, number, 1, out),
            Field::IpDscpShifted => Raw::SetNwTos.put_int(version, number << 2, 1, out),
            Field::IpEcn => header::encode_ecn(number as u8, version, out),
            Field::TcpSrc | Field::UdpSrc => Raw::SetTpSrc.put_int(version, number, 2, out),
            Field::TcpDst | Field::UdpDst => Raw::SetTpDst.put_int(version, number, 2, out),
            _ => self.encode_loads(version, out),
        }
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        if self.form == Form::Load {
            for (i, (dst, value)) in self.runs().enumerate() {
                let value = crate::text::alt_hex(value);
                write!(f, "{}load:{value}->{dst}", if i > 0 { "," } else { "" })?;
            }
            return Ok(());
        }
        let mut value = String::new();
        self.field.format(&self.value, Some(&self.mask), names, &mut value);
        write!(f, "set_field:{value}->{}", self.field.name())
    }
}

/// Writes a `set_field` of a whole field.
pub(super) fn encode_whole(field: Field, value: &Value, version: Version, out: &mut Vec<u8>) {
    SetField::whole(field, value.clone()).encode_set_field(version, out);
}

/// Writes a `load`.
pub(super) fn encode_load(dst: &Subfield, value: u64, version: Version, out: &mut Vec<u8>) {
    let action = Raw::RegLoad.start(version, out);
    out.u16(super::range(dst)).u32(oxm::header32(dst.field).unwrap_or(0)).u64(value);
    action.end(out);
}

fn must_be_writable(field: Field) -> Result<(), OfError> {
    if field.info().writable {
        return Ok(());
    }
    let name = field.name();
    tracing::warn!(target: "ofp_actions", rl = "1,5", "destination field {name} is not writable");
    Err(OfError::BacBadSetArgument)
}

pub(super) fn decode(action: &[u8], may_mask: bool, cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[4..]);
    let entry = oxm::read_entry(&mut r, cx.lengths, may_mask, oxm::Place::Action);
    let entry = entry.map_err(|error| match error {
        OfError::BmcBadMask => OfError::BacBadSetMask,
        other => other,
    })?;
    let field = cx.uses(entry.field?);
    let (value, mask) = (entry.value, entry.mask);
    if r.rest().iter().any(|&byte| byte != 0) || field == Field::InPortOxm {
        return Err(OfError::BacBadSetArgument);
    }
    must_be_writable(field)?;
    let lacks_present = |v: &Value| v.u64() & VID_PRESENT == 0;
    if !field.value_ok(&value) || field == Field::VlanVid && (lacks_present(&value) || lacks_present(&mask)) {
        let text = field.value_text(&value);
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "Invalid value for set field {}: {text}", field.name()
        );
        return Err(OfError::BacBadSetArgument);
    }
    Ok(OfAction::SetField(Box::new(SetField::masked(field, value, mask, Form::SetField))))
}

pub(super) fn decode_load(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (range, header, value) = (r.u16()?, r.u32()?, r.u64()?);
    let field = oxm::field_of_header32(header, cx.lengths)?;
    let dst = super::ranged(cx.uses(field), range);
    check_destination(&dst, oxm::n_bits(field, cx.lengths), None)?;
    if dst.n_bits < 64 && value >> dst.n_bits != 0 {
        return Err(OfError::BacBadArgument);
    }
    Ok(OfAction::SetField(Box::new(SetField::load(&dst, &Value::from_u64(value, 8)))))
}

pub(super) fn decode_load2(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let entry = oxm::read_entry(&mut r, cx.lengths, true, oxm::Place::Action)?;
    let field = cx.uses(entry.field?);
    if r.rest().iter().any(|&byte| byte != 0) {
        return Err(OfError::BacBadSetArgument);
    }
    must_be_writable(field)?;
    Ok(OfAction::SetField(Box::new(SetField::masked(field, entry.value, entry.mask, Form::Load2))))
}

/// Splits `VALUE->FIELD`.
pub(super) fn split_arrow(text: &str) -> Parsed<(&str, &str)> {
    match text.split_once("->") {
        None => refuse!("{text}: missing `->'"),
        Some((_, "")) => refuse!("{text}: missing field name following `->'"),
        Some((value, field)) => Ok((value, field)),
    }
}

pub(super) fn parse(text: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    let (value_text, name) = split_arrow(text)?;
    let Some(field) = Field::from_name(name) else { refuse!("{name} is not a valid OXM field name") };
    if !field.info().writable {
        refuse!("{name} is read-only");
    }
    tell_of_port(field, value_text);
    let (value, mask) = field.parse(value_text, cx.names)?;
    if !field.value_ok(&value) {
        refuse!("{value_text} is not a valid value for field {name}");
    }
    cx.usable &= usable_exact(field);
    Ok(OfAction::SetField(Box::new(SetField::masked(field, value, mask, Form::SetField))))
}

pub(super) fn parse_load(text: &str) -> Parsed<OfAction> {
    let (value, name) = split_arrow(text)?;
    let dst = Subfield::parse(name)?;
    let Some((value, _)) = scan_number(value, dst.field.n_bytes()) else {
        refuse!("{text}: cannot parse integer value");
    };
    if !fits(&value, &dst) {
        let value = dst.field.value_text(&value);
        refuse!("{text}: value {value} does not fit into {} bits", dst.n_bits);
    }
    Ok(OfAction::SetField(Box::new(SetField::load(&dst, &value))))
}

/// Whether a value has no bits beyond the width of a subfield.
pub(super) fn fits(value: &Value, dst: &Subfield) -> bool {
    (usize::from(dst.n_bits)..value.len() * 8).all(|bit| !value.bit(bit))
}
