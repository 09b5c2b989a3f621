//! `multipath`: hashes a flow to one of a number of links and writes the link's number to a field.

use std::fmt;

use flow::field::Subfield;

use super::check::check_destination;
use super::raw::Raw;
use super::{Decode, HashFields, OfAction};
use crate::error::OfError;
use crate::oxm;
use crate::text::{Parsed, atoi, refuse, token};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// How a link is chosen, numbered as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Algorithm {
    ModuloN = 0,
    HashThreshold = 1,
    Hrw = 2,
    IterHash = 3,
}

const ALGORITHMS: [(Algorithm, &str); 4] = [
    (Algorithm::ModuloN, "modulo_n"),
    (Algorithm::HashThreshold, "hash_threshold"),
    (Algorithm::Hrw, "hrw"),
    (Algorithm::IterHash, "iter_hash"),
];

/// Chooses a link.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Multipath {
    pub fields: HashFields,
    /// Added to the hash.
    pub basis: u16,
    pub algorithm: Algorithm,
    /// The number of links, less one.
    pub max_link: u16,
    /// What the algorithm takes.
    pub arg: u32,
    /// Where the link's number goes.
    pub dst: Subfield,
}

pub(super) fn decode(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (fields, basis) = (r.u16()?, r.u16()?);
    r.skip(2)?;
    let (algorithm, max_link, arg) = (r.u16()?, r.u16()?, r.u32()?);
    r.skip(2)?;
    let (range, header) = (r.u16()?, r.u32()?);
    let field = oxm::field_of_header32(header, cx.lengths)?;
    let dst = super::ranged(cx.uses(field), range);
    let n_links = u32::from(max_link) + 1;
    let min_bits = n_links.next_power_of_two().trailing_zeros();
    let Some(fields) = HashFields::from_wire(fields) else {
        tracing::warn!(target: "ofp_actions", rl = "1,5", "unsupported fields {fields}");
        return Err(OfError::BacBadArgument);
    };
    let Some((algorithm, _)) = ALGORITHMS.get(usize::from(algorithm)) else {
        tracing::warn!(target: "ofp_actions", rl = "1,5", "unsupported algorithm {algorithm}");
        return Err(OfError::BacBadArgument);
    };
    if u32::from(dst.n_bits) < min_bits {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "multipath action requires at least {min_bits} bits for {n_links} links"
        );
        return Err(OfError::BacBadArgument);
    }
    check_destination(&dst, oxm::n_bits(field, cx.lengths), None)?;
    let algorithm = *algorithm;
    Ok(OfAction::Multipath(Box::new(Multipath { fields, basis, algorithm, max_link, arg, dst })))
}

impl Multipath {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let action = Raw::Multipath.start(version, out);
        out.u16(self.fields as u16).u16(self.basis).zeros(2);
        out.u16(self.algorithm as u16).u16(self.max_link).u32(self.arg).zeros(2);
        out.u16(super::range(&self.dst)).u32(oxm::header32(self.dst.field).unwrap_or(0));
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fields, algorithm) = (self.fields.name(), ALGORITHMS[self.algorithm as usize].1);
        let n_links = u32::from(self.max_link) + 1;
        write!(f, "multipath({fields},{},{algorithm},{n_links},{},{})", self.basis, self.arg, self.dst)
    }
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    let mut rest = text;
    let mut next = || token(&mut rest, &[',', ' ']);
    let (Some(fields), Some(basis), Some(algorithm), Some(n_links), Some(arg), Some(dst)) =
        (next(), next(), next(), next(), next(), next())
    else {
        refuse!("{text}: not enough arguments to multipath action");
    };
    let Some(fields) = HashFields::from_name(fields) else { refuse!("{text}: unknown fields `{fields}'") };
    let Some((algorithm, _)) = ALGORITHMS.iter().find(|(_, name)| name.eq_ignore_ascii_case(algorithm))
    else {
        refuse!("{text}: unknown algorithm `{algorithm}'");
    };
    let n_links = atoi(n_links);
    if !(1..=65536).contains(&n_links) {
        refuse!("{text}: n_links {n_links} is not in valid range 1 to 65536");
    }
    let subfield = Subfield::parse(dst)?;
    if oxm::header32(subfield.field).is_none() {
        refuse!("{text}: experimenter OXM field '{dst}' not supported");
    }
    if subfield.n_bits < 16 && n_links > 1 << subfield.n_bits {
        refuse!(
            "{text}: {}-bit destination field has {} possible values, less than specified n_links {n_links}",
            subfield.n_bits,
            1 << subfield.n_bits
        );
    }
    Ok(OfAction::Multipath(Box::new(Multipath {
        fields,
        basis: atoi(basis) as u16,
        algorithm: *algorithm,
        max_link: (n_links - 1) as u16,
        arg: atoi(arg) as u32,
        dst: subfield,
    })))
}
