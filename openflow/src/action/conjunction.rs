//! `conjunction`: this flow is one dimension of a conjunctive match.

use std::fmt;

use super::OfAction;
use super::raw::Raw;
use crate::error::OfError;
use crate::text::{Parsed, refuse, scan_int};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Membership in a conjunctive match.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conjunction {
    pub id: u32,
    /// Which dimension, from 0.
    pub clause: u8,
    /// How many dimensions, 2 to 64.
    pub n_clauses: u8,
}

pub(super) fn decode(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (clause, n_clauses, id) = (r.u8()?, r.u8()?, r.u32()?);
    if !(2..=64).contains(&n_clauses) || clause >= n_clauses {
        return Err(OfError::BacBadConjunction);
    }
    Ok(OfAction::Conjunction(Conjunction { id, clause, n_clauses }))
}

impl Conjunction {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let action = Raw::Conjunction.start(version, out);
        out.u8(self.clause).u8(self.n_clauses).u32(self.id);
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conjunction({},{}/{})", self.id, u16::from(self.clause) + 1, self.n_clauses)
    }
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    let Some((id, clause, n_clauses)) = scan(text) else {
        refuse!("\"conjunction\" syntax is \"conjunction(id,i/n)\"");
    };
    match (clause, n_clauses) {
        (_, 0..=1) => Err("conjunction must have at least 2 clauses".into()),
        (_, 65..) => Err("conjunction must have at most 64 clauses".into()),
        (0, _) => Err("clause index must be positive".into()),
        (clause, n) if clause > n => {
            Err("clause index must be less than or equal to number of clauses".into())
        }
        (clause, n_clauses) => Ok(OfAction::Conjunction(Conjunction { id, clause: clause - 1, n_clauses })),
    }
}

/// `ID,I/N` with white space anywhere.
fn scan(text: &str) -> Option<(u32, u8, u8)> {
    let (negative, id, rest) = scan_int(text, 0)?;
    let rest = rest.trim_start().strip_prefix(',')?;
    let (clause, n_clauses) = rest.split_once('/')?;
    let id = id as u32;
    let id = if negative { id.wrapping_neg() } else { id };
    Some((id, clause.trim().parse().ok()?, n_clauses.trim().parse().ok()?))
}
