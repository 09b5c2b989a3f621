//! `fin_timeout`: shorter timeouts once a TCP connection ends.

use std::fmt;

use super::OfAction;
use super::raw::Raw;
use crate::error::OfError;
use crate::text::{Pairs, Parsed, parse_u16, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Timeouts in seconds that the flow gets when a FIN or RST passes; 0 for no change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FinTimeout {
    pub idle: u16,
    pub hard: u16,
}

pub(super) fn decode(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    Ok(OfAction::FinTimeout(FinTimeout { idle: r.u16()?, hard: r.u16()? }))
}

impl FinTimeout {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let action = Raw::FinTimeout.start(version, out);
        out.u16(self.idle).u16(self.hard);
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeouts = [("idle_timeout", self.idle), ("hard_timeout", self.hard)];
        let set: Vec<String> =
            timeouts.iter().filter(|(_, t)| *t != 0).map(|(name, t)| format!("{name}={t}")).collect();
        write!(f, "fin_timeout({})", set.join(","))
    }
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    let mut timeout = FinTimeout { idle: 0, hard: 0 };
    for (key, value) in Pairs::new(text) {
        match key {
            "idle_timeout" => timeout.idle = parse_u16(value, key)?,
            "hard_timeout" => timeout.hard = parse_u16(value, key)?,
            _ => refuse!("invalid key '{key}' in 'fin_timeout' argument"),
        }
    }
    Ok(OfAction::FinTimeout(timeout))
}
