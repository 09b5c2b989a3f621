//! `ct`: sends the packet through the connection tracker.

use std::fmt;

use flow::field::Subfield;
use flow::id::{TableId, Zone};
use flow::proto::{self, ethertype};

use super::check::{self, Check, check_source};
use super::raw::Raw;
use super::verify::Allowed;
use super::{Decode, Kind, OfAction, Parse, codec, nat};
use crate::error::OfError;
use crate::names::Names;
use crate::oxm;
use crate::text::{Pairs, Parsed, parse_u16, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Tracks the packet's connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ct {
    /// Whether a new connection is kept.
    pub commit: bool,
    /// Whether a connection of the other direction is replaced.
    pub force: bool,
    pub zone: ZoneSource,
    /// Where a copy of the packet goes on, with its connection's state; `None` for no copy.
    pub table: Option<TableId>,
    /// The port of the protocol whose related connections to expect: 21 FTP, 69 TFTP; 0 for none.
    pub alg: u16,
    /// `nat`, and `set_field`, `load` and `move` to `ct_mark` and `ct_label`.
    pub actions: Vec<OfAction>,
}

/// The connection tracking zone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ZoneSource {
    Constant(Zone),
    /// 16 bits of a field.
    Field(Subfield),
}

const COMMIT: u16 = 1 << 0;
const FORCE: u16 = 1 << 1;
/// "No copy", on the wire.
const NO_TABLE: u8 = 255;
/// `CS_INVALID` of the connection state.
const STATE_INVALID: u8 = 1 << 4;

/// Helpers by name.
const ALGS: [(&str, u16); 2] = [("ftp", 21), ("tftp", 69)];

pub(super) fn decode(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (flags, zone_src, zone_arg, table) = (r.u16()?, r.u32()?, r.u16()?, r.u8()?);
    r.skip(3)?;
    let alg = r.u16()?;
    let (commit, force) = (flags & COMMIT != 0, flags & FORCE != 0);
    if force && !commit {
        return Err(OfError::BacBadArgument);
    }
    let zone = decode_zone(zone_src, zone_arg, cx)?;
    let table = (table != NO_TABLE).then_some(TableId(table));
    let actions = codec::decode_verified(r.rest(), cx, Allowed::APPLY, Some(Kind::Ct))?;
    let plain_nat = |action: &OfAction| matches!(action, OfAction::Nat(nat) if nat.is_plain());
    if !commit && !actions.iter().all(plain_nat) {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "CT action requires commit flag if actions other than NAT without arguments are specified."
        );
        return Err(OfError::BacBadArgument);
    }
    Ok(OfAction::Ct(Box::new(Ct { commit, force, zone, table, alg, actions })))
}

fn decode_zone(header: u32, arg: u16, cx: &mut Decode<'_>) -> Result<ZoneSource, OfError> {
    if header == 0 {
        return Ok(ZoneSource::Constant(Zone(arg)));
    }
    let field = oxm::field_of_header32(header, cx.lengths)?;
    let src = super::ranged(cx.uses(field), arg);
    check_source(&src, oxm::n_bits(field, cx.lengths), None)?;
    if src.n_bits != 16 {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "zone n_bits {} not within valid range [16..16]", src.n_bits
        );
        return Err(OfError::BacBadSetLen);
    }
    Ok(ZoneSource::Field(src))
}

impl Ct {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let action = Raw::Ct.start(version, out);
        let flags = if self.commit { COMMIT } else { 0 } | if self.force { FORCE } else { 0 };
        let (zone_src, zone_arg) = match &self.zone {
            ZoneSource::Constant(zone) => (0, zone.0),
            ZoneSource::Field(src) => (oxm::header32(src.field).unwrap_or(0), super::range(src)),
        };
        out.u16(flags).u32(zone_src).u16(zone_arg);
        out.u8(self.table.map_or(NO_TABLE, |table| table.0)).zeros(3).u16(self.alg);
        super::encode_list(&self.actions, version, out);
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        let mut parts = Vec::new();
        if self.commit {
            parts.push("commit".to_owned());
        }
        if self.force {
            parts.push("force".to_owned());
        }
        if let Some(table) = self.table {
            parts.push(format!("table={}", names.table(table)));
        }
        match &self.zone {
            ZoneSource::Constant(Zone(0)) => {}
            ZoneSource::Constant(zone) => parts.push(format!("zone={zone}")),
            ZoneSource::Field(src) => parts.push(format!("zone={src}")),
        }
        let mut actions = &self.actions[..];
        if let [nat @ OfAction::Nat(_), rest @ ..] = actions {
            parts.push(super::text(std::slice::from_ref(nat), names).to_string());
            actions = rest;
        }
        if !actions.is_empty() {
            parts.push(format!("exec({})", super::text(actions, names)));
        }
        match ALGS.iter().find(|(_, port)| *port == self.alg) {
            Some((name, _)) => parts.push(format!("alg={name}")),
            None if self.alg != 0 => parts.push(format!("alg={}", self.alg)),
            None => {}
        }
        write!(f, "ct({})", parts.join(","))
    }

    /// An inconsistent `ct` is an error in every version: the datapath would refuse it.
    pub(super) fn check(&mut self, cx: &mut Check) -> Result<(), OfError> {
        let key = &cx.flow.key;
        let helper_of = |alg: u16, proto: u8| self.alg == alg && key.nw_proto != proto;
        if !ethertype::is_ip(flow::field::dl_type(key))
            || key.ct_state & STATE_INVALID != 0 && self.commit
            || helper_of(ALGS[0].1, proto::ip::TCP)
            || helper_of(ALGS[1].1, proto::ip::UDP)
        {
            return Err(OfError::BacMatchInconsistent);
        }
        if let ZoneSource::Field(src) = &self.zone {
            return check_source(src, src.field.n_bits(), Some(&cx.flow));
        }
        check::check_nested(&mut self.actions, cx)
    }
}

pub(super) fn parse(text: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    let mut ct = Ct {
        commit: false,
        force: false,
        zone: ZoneSource::Constant(Zone(0)),
        table: None,
        alg: 0,
        actions: Vec::new(),
    };
    for (key, value) in Pairs::new(text) {
        match key {
            "commit" => ct.commit = true,
            "force" => ct.force = true,
            "table" => match cx.names.parse_table(value) {
                None => refuse!("unknown table {value}"),
                Some(TableId(NO_TABLE)) => refuse!("invalid table 0xff"),
                Some(table) => ct.table = Some(table),
            },
            "zone" => {
                ct.zone = match parse_u16(value, "zone") {
                    Ok(zone) => ZoneSource::Constant(Zone(zone)),
                    Err(_) => ZoneSource::Field(Subfield::parse(value)?),
                }
            }
            "alg" => match ALGS.iter().find(|(name, _)| *name == value) {
                Some((_, port)) => ct.alg = *port,
                None => refuse!("invalid conntrack helper \"{value}\""),
            },
            "nat" => ct.actions.push(nat::parse(value)?),
            "exec" => ct.actions.append(&mut super::parse_nested(value, cx, false, Some(Kind::Ct))?),
            _ => refuse!("invalid argument to \"ct\" action: `{key}'"),
        }
    }
    if ct.force && !ct.commit {
        return Err("\"force\" flag requires \"commit\" flag.".into());
    }
    Ok(OfAction::Ct(Box::new(ct)))
}
