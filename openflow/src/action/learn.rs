//! `learn`: makes the switch add a flow, built from the packet at hand.
//!
//! A specification copies bits from a field of the packet, or a constant, to the new flow's match, to a field by an
//! action of the new flow, or to its output port. Wire header of a specification: 10 bits of width, 2 bits of
//! destination from bit 11 on, and bit 13 for a constant source.

use std::fmt;

use flow::field::{Field, Subfield, Value};
use flow::id::TableId;
use flow::key::Key;
use flow::mini::FullMatch;

use super::check::{check_destination, check_source};
use super::raw::Raw;
use super::{Decode, OfAction, Parse, reg_move, set_field};
use crate::error::OfError;
use crate::names::Names;
use crate::oxm;
use crate::text::{Pairs, Parsed, atoi, refuse, scan_int, scan_number};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Adds or changes a flow.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Learn {
    /// Seconds, 0 for none.
    pub idle_timeout: u16,
    /// Seconds, 0 for none.
    pub hard_timeout: u16,
    pub priority: u16,
    pub cookie: u64,
    pub table: TableId,
    /// Idle timeout once a TCP connection ends; 0 for no change.
    pub fin_idle_timeout: u16,
    /// Hard timeout once a TCP connection ends; 0 for no change.
    pub fin_hard_timeout: u16,
    /// Whether the flow's end is told to controllers.
    pub send_flow_rem: bool,
    /// Whether removing this action removes the flows that it made.
    pub delete_learned: bool,
    /// The most flows of this cookie in the table; 0 for no limit.
    pub limit: u32,
    /// One bit: whether the flow could be added.
    pub result_dst: Option<Subfield>,
    pub specs: Vec<Spec>,
    /// Whether the wire form with a limit was used.
    pub form2: bool,
}

/// Copies `n_bits` bits into the new flow.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Spec {
    pub n_bits: u16,
    pub src: Source,
    pub dst: Destination,
}

/// Where the bits come from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    Field(Subfield),
    /// In as many bytes as the width needs.
    Constant(Value),
}

/// Where the bits go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Destination {
    Match(Subfield),
    Load(Subfield),
    /// The source is a field that holds a port.
    Output,
}

mod flag {
    pub const SEND_FLOW_REM: u16 = 1 << 0;
    pub const DELETE_LEARNED: u16 = 1 << 1;
    pub const WRITE_RESULT: u16 = 1 << 2;
}

mod spec {
    pub const N_BITS: u16 = 0x3ff;
    pub const DST: u16 = 3 << 11;
    pub const DST_MATCH: u16 = 0 << 11;
    pub const DST_LOAD: u16 = 1 << 11;
    pub const DST_OUTPUT: u16 = 2 << 11;
    pub const SRC_CONSTANT: u16 = 1 << 13;
}

/// The priority of a flow that names none.
const DEFAULT_PRIORITY: u16 = 0x8000;
/// No valid table.
const NO_TABLE: u8 = 255;

impl Default for Learn {
    /// As the text `learn()` means it.
    fn default() -> Self {
        Self {
            idle_timeout: 0,
            hard_timeout: 0,
            priority: DEFAULT_PRIORITY,
            cookie: 0,
            table: TableId(1),
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            send_flow_rem: false,
            delete_learned: false,
            limit: 0,
            result_dst: None,
            specs: Vec::new(),
            form2: false,
        }
    }
}

pub(super) fn decode(action: &[u8], form2: bool, cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let mut learn = Learn {
        idle_timeout: r.u16()?,
        hard_timeout: r.u16()?,
        priority: r.u16()?,
        cookie: r.u64()?,
        form2,
        ..Learn::default()
    };
    let (flags, table, pad) = (r.u16()?, r.u8()?, r.u8()?);
    (learn.fin_idle_timeout, learn.fin_hard_timeout) = (r.u16()?, r.u16()?);
    let known = flag::SEND_FLOW_REM | flag::DELETE_LEARNED | if form2 { flag::WRITE_RESULT } else { 0 };
    let mut result_ofs = 0;
    if form2 {
        learn.limit = r.u32()?;
        result_ofs = r.u16()?;
        if r.u16()? != 0 {
            return Err(OfError::BacMustBeZero);
        }
    }
    if pad != 0 || table == NO_TABLE || flags & !known != 0 {
        return Err(OfError::BacBadArgument);
    }
    learn.table = TableId(table);
    learn.send_flow_rem = flags & flag::SEND_FLOW_REM != 0;
    learn.delete_learned = flags & flag::DELETE_LEARNED != 0;
    if flags & flag::WRITE_RESULT != 0 {
        let field = oxm::read_field(&mut r, cx.lengths)?;
        if !field.info().writable {
            return Err(OfError::BacBadSetArgument);
        }
        learn.result_dst = Some(Subfield { field: cx.uses(field), ofs: result_ofs, n_bits: 1 });
    } else if result_ofs != 0 {
        return Err(OfError::BacBadArgument);
    }
    learn.specs = decode_specs(&mut r, cx)?;
    Ok(OfAction::Learn(Box::new(learn)))
}

fn decode_specs(r: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Vec<Spec>, OfError> {
    let mut specs = Vec::new();
    while !r.is_empty() {
        let header = r.u16()?;
        if header == 0 {
            break;
        }
        specs.push(decode_spec(header, r, cx)?);
    }
    if r.rest().iter().any(|&byte| byte != 0) {
        return Err(OfError::BacBadArgument);
    }
    Ok(specs)
}

fn decode_spec(header: u16, r: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Spec, OfError> {
    let n_bits = header & spec::N_BITS;
    let constant = header & spec::SRC_CONSTANT != 0;
    let kind = header & spec::DST;
    if !matches!((kind, constant), (spec::DST_MATCH | spec::DST_LOAD, _) | (spec::DST_OUTPUT, false)) {
        return Err(OfError::BacBadArgument);
    }
    let src_len = if constant { 2 * usize::from(n_bits).div_ceil(16) } else { 6 };
    let dst_len = if kind == spec::DST_OUTPUT { 0 } else { 6 };
    if r.len() < src_len + dst_len {
        return Err(OfError::BacBadLen);
    }
    let src = if constant {
        let bytes = r.bytes(src_len)?;
        Source::Constant(Value::from_bytes(&bytes[src_len - usize::from(n_bits).div_ceil(8)..]))
    } else {
        Source::Field(decode_subfield(n_bits, r, cx)?)
    };
    let dst = match kind {
        spec::DST_MATCH => Destination::Match(decode_subfield(n_bits, r, cx)?),
        spec::DST_LOAD => Destination::Load(decode_subfield(n_bits, r, cx)?),
        _ => Destination::Output,
    };
    Ok(Spec { n_bits, src, dst })
}

fn decode_subfield(n_bits: u16, r: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Subfield, OfError> {
    let field = oxm::field_of_header32(r.u32()?, cx.lengths)?;
    let subfield = Subfield { field: cx.uses(field), ofs: r.u16()?, n_bits };
    check_source(&subfield, oxm::n_bits(field, cx.lengths), None)?;
    Ok(subfield)
}

fn put_subfield(subfield: &Subfield, out: &mut Vec<u8>) {
    out.u32(oxm::header32(subfield.field).unwrap_or(0)).u16(subfield.ofs);
}

/// Adds to a match that the bits of `dst` are those of `value`.
pub fn require(flow: &mut FullMatch, dst: &Subfield, value: &Value) {
    let field = dst.field;
    let mut whole = field.get(&flow.key);
    let mut mask = field.get(&flow.mask.0);
    whole.copy_bits(dst.ofs.into(), value, 0, dst.n_bits.into());
    mask.one_bits(dst.ofs.into(), dst.n_bits.into());
    field.set_match(flow, &whole, &mask);
}

impl Source {
    /// The bits, from a packet with this key.
    pub fn bits(&self, key: &Key) -> Value {
        match self {
            Self::Field(subfield) => subfield.get(key),
            Self::Constant(value) => value.clone(),
        }
    }
}

impl Learn {
    /// Checks sources against the match of the flow that has the action, destinations against the new flow's match as
    /// far as constants make it.
    pub(super) fn check(&self, flow: Option<&FullMatch>) -> Result<(), OfError> {
        let mut learned = FullMatch::default();
        for spec in &self.specs {
            if let Source::Field(src) = &spec.src {
                check_source(src, src.field.n_bits(), flow)?;
            }
            match &spec.dst {
                Destination::Match(dst) => {
                    check_source(dst, dst.field.n_bits(), Some(&learned))?;
                    if let Source::Constant(value) = &spec.src {
                        require(&mut learned, dst, value);
                    }
                }
                Destination::Load(dst) => check_destination(dst, dst.field.n_bits(), Some(&learned))?,
                Destination::Output => {}
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let form2 = self.form2 || self.limit != 0 || self.result_dst.is_some();
        let action = if form2 { Raw::Learn2 } else { Raw::Learn }.start(version, out);
        let flag = |on: bool, flag: u16| if on { flag } else { 0 };
        let flags = flag(self.send_flow_rem, flag::SEND_FLOW_REM)
            | flag(self.delete_learned, flag::DELETE_LEARNED)
            | flag(self.result_dst.is_some(), flag::WRITE_RESULT);
        out.u16(self.idle_timeout).u16(self.hard_timeout).u16(self.priority).u64(self.cookie);
        out.u16(flags).u8(self.table.0).u8(0).u16(self.fin_idle_timeout).u16(self.fin_hard_timeout);
        if form2 {
            out.u32(self.limit).u16(self.result_dst.map_or(0, |dst| dst.ofs)).u16(0);
        }
        if let Some(dst) = self.result_dst {
            oxm::put_header(out, dst.field, 0);
        }
        for spec in &self.specs {
            spec.encode(out);
        }
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        write!(f, "learn(table={}", names.table(self.table))?;
        for (name, seconds) in [
            ("idle_timeout", self.idle_timeout),
            ("hard_timeout", self.hard_timeout),
            ("fin_idle_timeout", self.fin_idle_timeout),
            ("fin_hard_timeout", self.fin_hard_timeout),
        ] {
            if seconds != 0 {
                write!(f, ",{name}={seconds}")?;
            }
        }
        if self.priority != DEFAULT_PRIORITY {
            write!(f, ",priority={}", self.priority)?;
        }
        f.write_str(if self.send_flow_rem { ",send_flow_rem" } else { "" })?;
        f.write_str(if self.delete_learned { ",delete_learned" } else { "" })?;
        if self.cookie != 0 {
            write!(f, ",cookie={:#x}", self.cookie)?;
        }
        if self.limit != 0 {
            write!(f, ",limit={}", self.limit)?;
        }
        if let Some(dst) = &self.result_dst {
            write!(f, ",result_dst={dst}")?;
        }
        for spec in &self.specs {
            f.write_str(",")?;
            spec.format(f, names)?;
        }
        f.write_str(")")
    }
}

impl Spec {
    fn encode(&self, out: &mut Vec<u8>) {
        let dst = match self.dst {
            Destination::Match(_) => spec::DST_MATCH,
            Destination::Load(_) => spec::DST_LOAD,
            Destination::Output => spec::DST_OUTPUT,
        };
        let src = if matches!(self.src, Source::Constant(_)) { spec::SRC_CONSTANT } else { 0 };
        out.u16(self.n_bits | dst | src);
        match &self.src {
            Source::Field(src) => put_subfield(src, out),
            Source::Constant(value) => {
                out.zeros((2 * usize::from(self.n_bits).div_ceil(16)).saturating_sub(value.len()))
                    .bytes(value.bytes());
            }
        }
        if let Destination::Match(dst) | Destination::Load(dst) = &self.dst {
            put_subfield(dst, out);
        }
    }

    fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        match (&self.src, &self.dst) {
            (Source::Constant(value), Destination::Match(dst)) if dst.is_whole() => {
                let whole = Value::resized(value.bytes(), dst.field.n_bytes());
                let mut text = String::new();
                dst.field.format(&whole, None, names, &mut text);
                write!(f, "{}={text}", dst.field.name())
            }
            (Source::Constant(value), Destination::Match(dst)) => write!(f, "{dst}={}", value.hex()),
            (Source::Field(src), Destination::Match(dst)) if src == dst => write!(f, "{dst}"),
            (Source::Field(src), Destination::Match(dst)) => write!(f, "{dst}={src}"),
            (Source::Constant(value), Destination::Load(dst)) => write!(f, "load:{}->{dst}", value.hex()),
            (Source::Field(src), Destination::Load(dst)) => write!(f, "load:{src}->{dst}"),
            (Source::Field(src), Destination::Output) => write!(f, "output:{src}"),
            (Source::Constant(value), Destination::Output) => write!(f, "output:{}", value.hex()),
        }
    }
}

pub(super) fn parse(text: &str, cx: &Parse<'_>) -> Parsed<OfAction> {
    let mut learn = Learn::default();
    for (name, value) in Pairs::new(text) {
        match name {
            "table" => match cx.names.parse_table(value) {
                None => refuse!("unknown table \"{value}\""),
                Some(TableId(NO_TABLE)) => refuse!("{text}: table id 255 not valid for `learn' action"),
                Some(table) => learn.table = table,
            },
            "priority" => learn.priority = atoi(value) as u16,
            "idle_timeout" => learn.idle_timeout = atoi(value) as u16,
            "hard_timeout" => learn.hard_timeout = atoi(value) as u16,
            "fin_idle_timeout" => learn.fin_idle_timeout = atoi(value) as u16,
            "fin_hard_timeout" => learn.fin_hard_timeout = atoi(value) as u16,
            "cookie" => learn.cookie = scan_int(value, 0).map_or(0, |(_, cookie, _)| cookie as u64),
            "send_flow_rem" => learn.send_flow_rem = true,
            "delete_learned" => learn.delete_learned = true,
            "limit" => learn.limit = atoi(value) as u32,
            "result_dst" => learn.result_dst = Some(parse_result(value)?),
            "load" => learn.specs.push(parse_load(name, value)?),
            _ => learn.specs.push(parse_spec(text, name, value, cx)?),
        }
    }
    Ok(OfAction::Learn(Box::new(learn)))
}

fn parse_result(text: &str) -> Parsed<Subfield> {
    let dst = Subfield::parse(text)?;
    if !dst.field.info().writable {
        refuse!("{text} is read-only");
    }
    if dst.n_bits != 1 {
        return Err("result_dst in 'learn' action must be a single bit".into());
    }
    Ok(dst)
}

fn parse_load(name: &str, text: &str) -> Parsed<Spec> {
    let Some((source, dst)) = text.split_once("->") else { refuse!("{name}: missing `->' in `{text}'") };
    if source.is_empty() {
        refuse!("{name}: missing source before `->' in `{text}'");
    }
    let Some((value, rest)) = scan_number(text, MAX_VALUE) else {
        let copy = reg_move::parse(text)?;
        let (src, dst) = (Source::Field(copy.src), Destination::Load(copy.dst));
        return Ok(Spec { n_bits: copy.src.n_bits, src, dst });
    };
    if !rest.starts_with("->") {
        refuse!("{name}: garbage before `->' in `{text}'");
    }
    let subfield = Subfield::parse(dst)?;
    if oxm::header32(subfield.field).is_none() {
        refuse!("{text}: experimenter OXM field '{dst}' not supported");
    }
    if !set_field::fits(&value, &subfield) {
        refuse!("{text}: value does not fit into {} bits", subfield.n_bits);
    }
    Ok(constant(&value, subfield, Destination::Load(subfield)))
}

/// The longest constant, in bytes.
const MAX_VALUE: usize = 128;

fn constant(value: &Value, subfield: Subfield, dst: Destination) -> Spec {
    let bytes = usize::from(subfield.n_bits).div_ceil(8);
    Spec { n_bits: subfield.n_bits, src: Source::Constant(Value::resized(value.bytes(), bytes)), dst }
}

fn parse_spec(text: &str, name: &str, value: &str, cx: &Parse<'_>) -> Parsed<Spec> {
    let Ok(dst) = Subfield::parse(name) else {
        if name != "output" {
            refuse!("{text}: unknown keyword {name}");
        }
        let src = Subfield::parse(value)?;
        return Ok(Spec { n_bits: src.n_bits, src: Source::Field(src), dst: Destination::Output });
    };
    if oxm::header32(dst.field).is_none() {
        refuse!("{text}: experimenter OXM field '{name}' not supported");
    }
    if value.is_empty() {
        return Ok(Spec { n_bits: dst.n_bits, src: Source::Field(dst), dst: Destination::Match(dst) });
    }
    match Subfield::parse(value) {
        Ok(src) if src.n_bits != dst.n_bits => {
            refuse!("{text}: bit widths of {name} ({}) and {value} ({}) differ", src.n_bits, dst.n_bits)
        }
        Ok(src) => Ok(Spec { n_bits: dst.n_bits, src: Source::Field(src), dst: Destination::Match(dst) }),
        Err(field_error) => match parse_constant(text, value, &dst, cx) {
            Ok(value) => Ok(constant(&value, dst, Destination::Match(dst))),
            Err(error) => refuse!(
                "{text}: {name} value {value} cannot be parsed as a subfield ({field_error}) \
                 or an immediate value ({error})"
            ),
        },
    }
}

fn parse_constant(text: &str, value: &str, dst: &Subfield, cx: &Parse<'_>) -> Parsed<Value> {
    if dst.is_whole() {
        crate::names::tell_of_port(dst.field, value);
        return Ok(dst.field.parse_value(value, cx.names)?);
    }
    let number = match scan_number(value, dst.field.n_bytes()) {
        Some((number, "")) => number,
        _ => refuse!("{text}: cannot parse integer value"),
    };
    if !set_field::fits(&number, dst) {
        let value = dst.field.value_text(&number);
        refuse!("{text}: value {value} does not fit into {} bits", dst.n_bits);
    }
    Ok(number)
}

/// The fields that a packet's translation looks at for the action.
pub fn sources(learn: &Learn) -> impl Iterator<Item = &Subfield> {
    learn.specs.iter().filter_map(|spec| match &spec.src {
        Source::Field(src) => Some(src),
        Source::Constant(_) => None,
    })
}

/// Whether a specification writes to this field of the new flow's match.
pub fn matches_on(learn: &Learn, field: Field) -> bool {
    learn.specs.iter().any(|spec| matches!(&spec.dst, Destination::Match(dst) if dst.field == field))
}
