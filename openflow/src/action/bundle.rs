//! `bundle` and `bundle_load`: choose one of several ports by hash or liveness, and send to it or note it.

use std::fmt;

use flow::field::{Field, Subfield};
use flow::id::OfPort;
use flow::mini::FullMatch;

use super::check::{check_destination, check_output_port};
use super::raw::Raw;
use super::{Decode, HashFields, OfAction, Parse};
use crate::error::OfError;
use crate::names::Names;
use crate::oxm;
use crate::text::{Parsed, atoi, refuse, token};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// How a member is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Algorithm {
    /// The first live one.
    ActiveBackup = 0,
    /// The live one of the highest random weight.
    Hrw = 1,
}

/// Chooses a port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Bundle {
    pub algorithm: Algorithm,
    pub fields: HashFields,
    /// Added to the hash.
    pub basis: u16,
    /// Where to write the chosen port (at least 16 bits); `None` to send the packet there.
    pub dst: Option<Subfield>,
    pub members: Vec<OfPort>,
}

/// The most members.
const MAX_MEMBERS: usize = 2048;

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active_backup",
            Self::Hrw => "hrw",
        }
    }
}

macro_rules! warn {
    ($($arg:tt)*) => { tracing::warn!(target: "ofp_actions", rl = "1,5", $($arg)*) };
}

pub(super) fn decode(action: &[u8], load: bool, cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (algorithm, fields, basis) = (r.u16()?, r.u16()?, r.u16()?);
    let (member_type, n_members) = (r.u32()?, usize::from(r.u16()?));
    let (range, dst) = (r.u16()?, r.u32()?);
    let reserved = r.u32()?;

    let algorithm = match algorithm {
        0 => Algorithm::ActiveBackup,
        1 => Algorithm::Hrw,
        unknown => {
            warn!("unsupported algorithm {unknown}");
            return Err(OfError::BacBadArgument);
        }
    };
    let Some(fields) = HashFields::from_wire(fields) else {
        warn!("unsupported fields {fields}");
        return Err(OfError::BacBadArgument);
    };
    if n_members > MAX_MEMBERS {
        warn!("too many members");
        return Err(OfError::BacBadArgument);
    }
    if Some(member_type) != oxm::header32(Field::InPort) {
        warn!("unsupported member type {member_type}");
        return Err(OfError::BacBadArgument);
    }
    if reserved != 0 {
        warn!("reserved field is nonzero");
        return Err(OfError::BacBadArgument);
    }
    let dst = decode_dst(load, range, dst, cx)?;
    if r.len() < n_members * 2 {
        let name = if load { "bundle_load" } else { "bundle" };
        warn!(
            "Nicira action {name} only has {} bytes allocated for members.  {} bytes are required for {n_members} \
             members.",
            r.len(),
            n_members * 2
        );
        return Err(OfError::BacBadLen);
    }
    let members = (0..n_members).map(|_| r.u16().map(OfPort)).collect::<Result<_, _>>()?;
    let bundle = Bundle { algorithm, fields, basis, dst, members };
    bundle.check(OfPort::MAX.0, None)?;
    Ok(OfAction::Bundle(Box::new(bundle)))
}

fn decode_dst(load: bool, range: u16, dst: u32, cx: &mut Decode<'_>) -> Result<Option<Subfield>, OfError> {
    if !load {
        if range != 0 || dst != 0 {
            warn!("bundle action has nonzero reserved fields");
            return Err(OfError::BacBadArgument);
        }
        return Ok(None);
    }
    let field = oxm::field_of_header32(dst, cx.lengths)?;
    let dst = super::ranged(cx.uses(field), range);
    if dst.n_bits < 16 {
        warn!("bundle_load action requires at least 16 bit destination.");
        return Err(OfError::BacBadArgument);
    }
    check_destination(&dst, oxm::n_bits(field, cx.lengths), None)?;
    Ok(Some(dst))
}

impl Bundle {
    /// Checks the members against the switch's ports, and the destination against the flow's match.
    pub(super) fn check(&self, max_ports: u16, flow: Option<&FullMatch>) -> Result<(), OfError> {
        if let Some(dst) = &self.dst {
            check_destination(dst, dst.field.n_bits(), flow)?;
        }
        for &member in self.members.iter().filter(|&&member| member != OfPort::NONE) {
            if let Err(error) = check_output_port(member, max_ports) {
                tracing::warn!(target: "bundle", rl = "1,5", "invalid member {member}");
                return Err(error);
            }
            // A controller would need a max_len, for which there is no place.
            if member == OfPort::CONTROLLER {
                tracing::warn!(target: "bundle", rl = "1,5", "unsupported controller member");
                return Err(OfError::BacBadOutPort);
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let raw = if self.dst.is_some() { Raw::BundleLoad } else { Raw::Bundle };
        let action = raw.start(version, out);
        out.u16(self.algorithm as u16).u16(self.fields as u16).u16(self.basis);
        out.u32(oxm::header32(Field::InPort).unwrap_or(0)).u16(self.members.len() as u16);
        let (range, header) = match &self.dst {
            Some(dst) => (super::range(dst), oxm::header32(dst.field).unwrap_or(0)),
            None => (0, 0),
        };
        out.u16(range).u32(header).zeros(4);
        for member in &self.members {
            out.u16(member.0);
        }
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        let name = if self.dst.is_some() { "bundle_load" } else { "bundle" };
        write!(f, "{name}({},{},{},ofport,", self.fields.name(), self.basis, self.algorithm.name())?;
        if let Some(dst) = &self.dst {
            write!(f, "{dst},")?;
        }
        f.write_str("members:")?;
        for (i, member) in self.members.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { "," } else { "" }, names.port(*member))?;
        }
        f.write_str(")")
    }
}

pub(super) fn parse(text: &str, load: bool, cx: &Parse<'_>) -> Parsed<OfAction> {
    const BETWEEN: &[char] = &[',', ' '];
    let mut rest = text;
    let mut next = |delimiters: &[char]| token(&mut rest, delimiters);
    let (fields, basis, algorithm, member_type) =
        (next(BETWEEN), next(BETWEEN), next(BETWEEN), next(BETWEEN));
    let dst = if load { next(BETWEEN) } else { None };
    let members = next(&[':', ' ']);
    let (Some(fields), Some(basis), Some(algorithm), Some(member_type), Some(delimiter)) =
        (fields, basis, algorithm, member_type, members)
    else {
        refuse!("{text}: not enough arguments to bundle action");
    };
    if !delimiter.eq_ignore_ascii_case("members") && !delimiter.eq_ignore_ascii_case("slaves") {
        refuse!("{text}: missing member delimiter, expected `members', got `{delimiter}'");
    }
    let members = parse_members(rest, cx)?;
    let Some(fields) = HashFields::from_name(fields) else { refuse!("{text}: unknown fields `{fields}'") };
    let algorithm = match algorithm.to_ascii_lowercase().as_str() {
        "active_backup" => Algorithm::ActiveBackup,
        "hrw" => Algorithm::Hrw,
        _ => refuse!("{text}: unknown algorithm `{algorithm}'"),
    };
    if !member_type.eq_ignore_ascii_case("ofport") {
        refuse!("{text}: unknown member_type `{member_type}'");
    }
    let dst = dst.map(|dst| parse_dst(text, dst)).transpose()?;
    Ok(OfAction::Bundle(Box::new(Bundle { algorithm, fields, basis: atoi(basis) as u16, dst, members })))
}

fn parse_dst(text: &str, dst: &str) -> Parsed<Subfield> {
    let subfield = Subfield::parse(dst)?;
    if oxm::header32(subfield.field).is_none() {
        refuse!("{text}: experimenter OXM field '{dst}' not supported");
    }
    Ok(subfield)
}

fn parse_members(text: &str, cx: &Parse<'_>) -> Parsed<Vec<OfPort>> {
    let mut rest = text;
    let mut members = Vec::new();
    while members.len() < MAX_MEMBERS
        && let Some(member) = token(&mut rest, &[',', ' ', '[', ']'])
    {
        match cx.names.parse_port(member) {
            Some(port) => members.push(port),
            None => refuse!("{member}: bad port number"),
        }
    }
    Ok(members)
}
