//! `dec_ttl`: one hop less, and what happens when there is none left.

use std::fmt;

use super::OfAction;
use super::raw::Raw;
use crate::error::OfError;
use crate::text::{Parsed, atoi, token};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Decrements the IP TTL or hop limit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DecTtl {
    /// The connection ids of controllers that get a packet whose TTL has run out.
    pub ids: Vec<u16>,
    /// Whether the ids were spelt out.
    pub explicit: bool,
}

impl DecTtl {
    /// To controllers of id 0.
    pub fn plain() -> Self {
        Self { ids: vec![0], explicit: false }
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if !self.explicit && self.ids == [0] {
            Raw::DecNwTtl.put(version, out);
            return;
        }
        let action = Raw::DecTtlCntIds.start(version, out);
        out.u16(self.ids.len() as u16).zeros(4);
        for &id in &self.ids {
            out.u16(id);
        }
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dec_ttl")?;
        if self.explicit {
            let ids: Vec<String> = self.ids.iter().map(u16::to_string).collect();
            write!(f, "({})", ids.join(","))?;
        }
        Ok(())
    }
}

pub(super) fn decode_ids(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let n = usize::from(r.u16()?);
    super::must_be_zero(r.bytes(4)?)?;
    if r.len() < n * 2 {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "Nicira action dec_ttl_cnt_ids only has {} bytes allocated for controller ids.  \
             {} bytes are required for {n} controllers.",
            r.len(), n * 2
        );
        return Err(OfError::BacBadLen);
    }
    let ids = (0..n).map(|_| r.u16()).collect::<Result<_, _>>()?;
    Ok(OfAction::DecTtl(DecTtl { ids, explicit: true }))
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    if text.is_empty() {
        return Ok(OfAction::DecTtl(DecTtl::plain()));
    }
    let mut rest = text;
    let mut ids = Vec::new();
    while let Some(id) = token(&mut rest, &[',', ' ']) {
        ids.push(atoi(id) as u16);
    }
    if ids.is_empty() {
        return Err("dec_ttl_cnt_ids: expected at least one controller id.".into());
    }
    Ok(OfAction::DecTtl(DecTtl { ids, explicit: true }))
}
