//! NXM and OXM entries: headers, values and masks of single fields, as matches and actions carry them.
//!
//! A header is 32 bits: class (16), field (7), has-mask (1), length (8). The experimenter class 0xffff has another 32
//! bits of experimenter id, which the length counts. A mapped tunnel option has as many bytes as the bridge's TLV
//! table gives it, so its length on the wire varies.
//! Spec: OpenFlow 1.5 section 7.2.3; Nicira extended match of Open vSwitch.

use std::fmt;

use flow::field::{Field, Oxm, Value};

use crate::error::OfError;
use crate::text::{Parsed, refuse, scan_hex};
use crate::wire::{Put, Reader};

/// The experimenter class.
pub const EXPERIMENTER: u16 = 0xffff;

/// Bytes of each `tun_metadata` field as a bridge's TLV table maps them, `None` for one that is not mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlvLengths(pub [Option<u8>; 64]);

impl TlvLengths {
    /// Refuses a tunnel option that is not mapped.
    fn check(&self, field: Field) -> Result<(), OfError> {
        match tlv_index(field) {
            Some(index) if self.0[index].is_none() => Err(OfError::FmfcInvalidTlvField),
            _ => Ok(()),
        }
    }
}

/// Which tunnel option the field is, if it is one.
pub fn tlv_index(field: Field) -> Option<usize> {
    let index = (field as usize).checked_sub(Field::TunMetadata0 as usize)?;
    (index < 64).then_some(index)
}

/// The bits of a field, given the lengths of tunnel options.
pub fn n_bits(field: Field, lengths: Option<&TlvLengths>) -> u16 {
    match (tlv_index(field), lengths) {
        (Some(index), Some(lengths)) => u16::from(lengths.0[index].unwrap_or(0)) * 8,
        _ => field.n_bits(),
    }
}

/// An entry's header as it was on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// 0 but for the experimenter class.
    pub experimenter: u32,
    pub class: u16,
    pub field: u8,
    pub has_mask: bool,
    pub length: u8,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, field, has_mask, length, .. } = self;
        let experimenter = crate::text::alt_hex(self.experimenter.into());
        write!(f, "{experimenter}:{class}:{field}:{}:{length}", u8::from(*has_mask))
    }
}

impl Header {
    /// The header with which OVS restricts a request by cookie, unmasked (8 bytes) or masked.
    pub fn is_cookie(&self) -> bool {
        let exact = self.length == 8 && !self.has_mask;
        let masked = self.length == 16 && self.has_mask;
        self.class == 1 && self.field == 30 && (exact || masked)
    }

    /// Reads a header. Whether the field is known is not looked at.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut ahead = *r;
        let (Ok(class), Ok(field), Ok(length)) = (ahead.u16(), ahead.u8(), ahead.u8()) else {
            tracing::debug!(target: "nx_match", "encountered partial ({}-byte) OXM entry", r.len());
            return Err(OfError::BmcBadLen);
        };
        let experimenter = if class == EXPERIMENTER {
            let Ok(id) = ahead.u32() else {
                tracing::debug!(target: "nx_match", "encountered partial ({}-byte) OXM entry", r.len());
                return Err(OfError::BmcBadLen);
            };
            id
        } else {
            0
        };
        let header = Self { experimenter, class, field: field >> 1, has_mask: field & 1 != 0, length };
        if usize::from(length) < header.experimenter_len() {
            let min = 4 + header.experimenter_len();
            tracing::warn!(
                target: "nx_match",
                "OXM header {header} has invalid length {length} (minimum is {min})"
            );
            return Err(OfError::BmcBadLen);
        }
        *r = ahead;
        Ok(header)
    }

    /// The field that the header names, if there is one of that number and length.
    pub fn find(&self) -> Option<Field> {
        let field = self.find_any_length()?;
        let fits = usize::from(self.value_len()) == field.n_bytes() || field.is_tun_metadata();
        fits.then_some(field)
    }

    fn find_any_length(&self) -> Option<Field> {
        Field::from_oxm(self.class, self.field, self.experimenter)
    }

    fn experimenter_len(&self) -> usize {
        if self.class == EXPERIMENTER { 4 } else { 0 }
    }

    /// Bytes that follow the header.
    pub fn payload_len(&self) -> usize {
        usize::from(self.length).saturating_sub(self.experimenter_len())
    }

    /// Bytes of the value: half of the payload if there is a mask.
    pub fn value_len(&self) -> u8 {
        let len = self.payload_len() as u8;
        if self.has_mask { len / 2 } else { len }
    }
}

/// What an unknown header means to the reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In a match, or where an action names a field without a value: `OFPBMC_BAD_FIELD`.
    Match,
    /// With a value in an action: `OFPBAC_BAD_SET_TYPE`, or `OFPBAC_BAD_SET_LEN` for a wrong length.
    Action,
}

/// Reads a header and finds its field; tunnel options must be mapped if `lengths` are given.
pub fn read_header(
    r: &mut Reader<'_>,
    lengths: Option<&TlvLengths>,
    place: Place,
) -> Result<(Header, Result<Field, OfError>), OfError> {
    let header = Header::read(r)?;
    let Some(field) = header.find() else {
        tracing::debug!(target: "nx_match", "OXM header {header} is unknown");
        let error = match place {
            Place::Match => OfError::BmcBadField,
            Place::Action if header.length > 0 && header.find_any_length().is_some() => OfError::BacBadSetLen,
            Place::Action => OfError::BacBadSetType,
        };
        return Ok((header, Err(error)));
    };
    if let Some(lengths) = lengths {
        lengths.check(field)?;
    }
    Ok((header, Ok(field)))
}

/// Reads the header of a field without value or mask.
pub fn read_field(r: &mut Reader<'_>, lengths: Option<&TlvLengths>) -> Result<Field, OfError> {
    let (header, field) = read_header(r, lengths, Place::Match)?;
    let field = field?;
    if header.has_mask { Err(OfError::BmcBadMask) } else { Ok(field) }
}

/// The field of a 32-bit header without value or mask.
pub fn field_of_header32(header: u32, lengths: Option<&TlvLengths>) -> Result<Field, OfError> {
    let bytes = header.to_be_bytes();
    let found = Header::read(&mut Reader::new(&bytes)).ok().and_then(|header| header.find());
    let field = found.ok_or(OfError::BacBadSetType)?;
    if let Some(lengths) = lengths {
        lengths.check(field)?;
    }
    Ok(field)
}

/// An entry: a field, its value and its mask, both as long as the field is at most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub header: Header,
    /// An error if the field is not known.
    pub field: Result<Field, OfError>,
    pub value: Value,
    /// All ones if there is no mask.
    pub mask: Value,
}

/// Reads an entry. An unknown field in a match is told in [`Entry::field`], so that a loose reader can pass over it.
pub fn read_entry(
    r: &mut Reader<'_>,
    lengths: Option<&TlvLengths>,
    may_mask: bool,
    place: Place,
) -> Result<Entry, OfError> {
    let (header, field) = read_header(r, lengths, place)?;
    if place == Place::Action {
        field?;
    }
    let Ok(payload) = r.bytes(header.payload_len()) else {
        tracing::debug!(
            target: "nx_match",
            "OXM header {header} calls for {}-byte payload but only {} bytes follow OXM header",
            header.payload_len(),
            r.len()
        );
        return Err(OfError::BmcBadLen);
    };
    let (value, mask) = payload.split_at(header.value_len().into());
    let mask = header.has_mask.then(|| &mask[..value.len()]);
    if let Some(mask) = mask
        && value.iter().zip(mask).any(|(v, m)| v & !m != 0)
    {
        tracing::warn!(
            target: "nx_match",
            "Rejecting NXM/OXM entry {header} with 1-bits in value for bits wildcarded by the mask."
        );
        return Err(OfError::BmcBadWildcards);
    }
    if header.has_mask && !may_mask {
        tracing::debug!(
            target: "nx_match",
            "OXM header {header} includes mask but masked OXMs are not allowed here"
        );
        return Err(OfError::BmcBadMask);
    }
    let width = field.map_or(value.len(), Field::n_bytes);
    let mask = mask.map_or_else(|| Value::ones(width), |mask| Value::resized(mask, width));
    Ok(Entry { header, field, value: Value::resized(value, width), mask })
}

/// The id to write for a field; `version` is the OpenFlow version's wire number, 0 for NXM.
fn id(field: Field, version: u8) -> Option<&'static Oxm> {
    field.oxm(version)
}

/// The 32-bit header of a field in NXM; `None` if it has none or an experimenter's.
pub fn header32(field: Field) -> Option<u32> {
    let id = id(field, 0)?;
    (id.class != EXPERIMENTER)
        .then(|| u32::from(id.class) << 16 | u32::from(id.field) << 9 | n_bytes(field) as u32)
}

/// The bytes that a header says of a whole field: of a tunnel option, what the bridge maps.
fn n_bytes(field: Field) -> usize {
    tlv_index(field).and_then(flow::tlv::length).unwrap_or(field.n_bytes())
}

/// Writes a header for `n` bytes of value and perhaps as many of mask. Nothing for a field that has no id.
pub fn put_header_len(out: &mut Vec<u8>, field: Field, version: u8, masked: bool, n: usize) {
    let Some(id) = id(field, version) else { return };
    let extra = if id.class == EXPERIMENTER { 4 } else { 0 };
    let length = n * if masked { 2 } else { 1 } + extra;
    out.u16(id.class).u8(id.field << 1 | u8::from(masked)).u8(length as u8);
    if id.class == EXPERIMENTER {
        out.u32(id.experimenter);
    }
}

/// Writes the header of an unmasked field.
pub fn put_header(out: &mut Vec<u8>, field: Field, version: u8) {
    put_header_len(out, field, version, false, n_bytes(field));
}

/// Writes an entry; a mask of all ones is left out.
pub fn put_entry(out: &mut Vec<u8>, field: Field, version: u8, value: &Value, mask: &Value) {
    let masked = !mask.is_ones();
    let width = field.n_bytes();
    let of_value = || significant(value.bytes());
    let len = match tlv_index(field).map(flow::tlv::length) {
        None => width,
        Some(Some(len)) => len,
        Some(None) if masked => of_value().max(significant(mask.bytes())),
        Some(None) => of_value(),
    };
    put_header_len(out, field, version, masked, len);
    out.bytes(&value.bytes()[width - len..]);
    if masked {
        out.bytes(&mask.bytes()[width - len..]);
    }
}

/// Bytes of a number that are not leading zeros: without a bridge, a tunnel option's length is not known.
fn significant(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().take_while(|&&byte| byte == 0).count()
}

/// A list of entries as text: `NXM_OF_ETH_DST(0002e30f80a4), NXM_OF_VLAN_TCI_W(1000/1000)`.
pub fn list_text(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<any>".to_owned();
    }
    let mut entries = Vec::new();
    let mut r = Reader::new(bytes);
    while !r.is_empty() {
        let mut ahead = r;
        match read_text_entry(&mut ahead) {
            Some(entry) => {
                entries.push(entry);
                r = ahead;
            }
            None => {
                entries.push(format!("<{} invalid bytes>", r.len()));
                break;
            }
        }
    }
    entries.join(", ")
}

fn read_text_entry(r: &mut Reader<'_>) -> Option<String> {
    let header = Header::read(r).ok()?;
    let (value, mask) = r.bytes(header.payload_len()).ok()?.split_at(header.value_len().into());
    let mask = if header.has_mask { format!("/{}", crate::text::hex(mask, "")) } else { String::new() };
    Some(format!("{}({}{mask})", header.name(), crate::text::hex(value, "")))
}

impl Header {
    /// The field's name, `_W` behind it if there is a mask; numbers if the field is not known.
    fn name(&self) -> String {
        let same = |oxm: &&Oxm| {
            (oxm.class, oxm.field, oxm.experimenter) == (self.class, self.field, self.experimenter)
        };
        let known = self.find().and_then(|field| field.info().oxms.iter().find(same));
        let wild = if self.has_mask { "_W" } else { "" };
        match known {
            Some(oxm) => format!("{}{wild}", oxm.name),
            None if self.is_cookie() => format!("NXM_NX_COOKIE{wild}"),
            None => format!("{}:{}", self.class, self.field),
        }
    }

    /// The header of a name, or of its 8 or 16 hexadecimal digits.
    fn from_name(name: &str) -> Option<Self> {
        let (bare, wild) = match name.strip_suffix("_W") {
            Some(bare) if !bare.is_empty() => (bare, true),
            _ => (name, false),
        };
        if let Some(field) = Field::from_oxm_name(bare) {
            let oxm = field.info().oxms.iter().find(|oxm| oxm.name == bare)?;
            let maskable = field.info().maskable != flow::field::Maskable::Never;
            if !wild || maskable {
                return Some(Self::of(oxm, field.n_bytes(), wild));
            }
        }
        if bare == "NXM_NX_COOKIE" {
            let length = if wild { 16 } else { 8 };
            return Some(Self { experimenter: 0, class: 1, field: 30, has_mask: wild, length });
        }
        let bytes = crate::text::parse_hex(name).filter(|bytes| matches!(bytes.len(), 4 | 8))?;
        let mut r = Reader::new(&bytes);
        let (class, field, length) = (r.u16().ok()?, r.u8().ok()?, r.u8().ok()?);
        let experimenter = r.u32().unwrap_or(0);
        let fits = (class == EXPERIMENTER) == (bytes.len() == 8);
        fits.then_some(Self { experimenter, class, field: field >> 1, has_mask: field & 1 != 0, length })
    }

    fn of(oxm: &Oxm, n: usize, masked: bool) -> Self {
        let extra = if oxm.class == EXPERIMENTER { 4 } else { 0 };
        let length = n * if masked { 2 } else { 1 } + extra;
        Self {
            experimenter: oxm.experimenter,
            class: oxm.class,
            field: oxm.field,
            has_mask: masked,
            length: length as u8,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.u16(self.class).u8(self.field << 1 | u8::from(self.has_mask)).u8(self.length);
        if self.class == EXPERIMENTER {
            out.u32(self.experimenter);
        }
    }
}

/// The entries of text as [`list_text`] writes it, without padding.
///
/// # Errors
/// OVS's words.
pub fn parse_list(text: &str) -> Parsed<Vec<u8>> {
    let mut out = Vec::new();
    if text == "<any>" {
        return Ok(out);
    }
    let mut rest = text.trim_start_matches([',', ' ']);
    while !rest.is_empty() {
        let Some((name, tail)) = rest.split_once('(') else {
            refuse!("{text}: missing ( at end of nx_match");
        };
        let Some(header) = Header::from_name(name) else { refuse!("{text}: unknown field `{name}'") };
        rest = parse_values(text, name, header, tail, &mut out)?.trim_start_matches([',', ' ']);
    }
    Ok(out)
}

/// The value and mask of an entry, up to its parenthesis.
fn parse_values<'a>(
    text: &str,
    name: &str,
    mut header: Header,
    rest: &'a str,
    out: &mut Vec<u8>,
) -> Parsed<&'a str> {
    let (value, mut rest) = scan_hex(rest).unwrap_or((Vec::new(), rest));
    let expected = usize::from(header.value_len());
    if value.len() != expected {
        match header.find().filter(|field| field.is_tun_metadata()) {
            Some(field) if value.len() > field.n_bytes() => {
                refuse!("expected to read at most {} bytes but got {}", field.n_bytes(), value.len())
            }
            Some(_) => header.length = (value.len() * if header.has_mask { 2 } else { 1 }) as u8,
            None => refuse!("expected to read {expected} bytes but got {}", value.len()),
        }
    }
    header.put(out);
    out.bytes(&value);
    if header.has_mask {
        let Some(tail) = rest.trim_start_matches(' ').strip_prefix('/') else {
            refuse!("{text}: missing / in masked field {name}");
        };
        let (mask, tail) = scan_hex(tail).unwrap_or((Vec::new(), tail));
        if mask.len() != usize::from(header.value_len()) {
            refuse!("{:.2}: hex digits expected", tail);
        }
        out.bytes(&mask);
        rest = tail;
    }
    match rest.trim_start_matches(' ').strip_prefix(')') {
        Some(rest) => Ok(rest),
        None => refuse!("{text}: missing ) following field {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_have_text() {
        for text in [
            "<any>",
            "NXM_OF_IN_PORT(fffe)",
            "NXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC_W(0a000000/ff000000)",
            "OXM_OF_VLAN_VID_W(1000/1000), NXM_NX_REG3(00000001)",
            "NXOXM_ET_REG17(01020304), NXM_NX_COOKIE(0000000000000001)",
            "NXM_NX_TUN_METADATA3_W(0102/ff00)",
        ] {
            assert_eq!(parse_list(text).map(|bytes| list_text(&bytes)), Ok(text.to_owned()));
        }
        let odd = parse_list("0123450a(0102030405/060708090a)").expect("eight digits are a header");
        assert_eq!(list_text(&odd), "291:34(0102030405/060708090a)");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn entries_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "\\PC{0,40}") {
            let _ = list_text(&bytes);
            let _ = parse_list(&text);
            for place in [Place::Match, Place::Action] {
                let _ = read_entry(&mut Reader::new(&bytes), None, true, place);
            }
        }
    }
}
