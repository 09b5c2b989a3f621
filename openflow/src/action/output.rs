//! `output`, `output:REG`, `output(port=…,max_len=…)`, `enqueue`.

use std::fmt;

use flow::field::Subfield;
use flow::id::OfPort;

use super::check::{check_output_port, check_source};
use super::raw::Raw;
use super::{Decode, OfAction, Parse};
use crate::error::OfError;
use crate::names::{Names, port_from_wire32, port_to_wire32};
use crate::oxm;
use crate::text::{Pairs, Parsed, parse_u32, refuse, token};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Sends the packet to a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Output {
    pub port: OfPort,
    /// Bytes to send, if the port is the controller; 65535 for all.
    pub max_len: u16,
}

/// Sends the packet to the port that a field holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OutputReg {
    pub src: Subfield,
    /// Bytes to send, if the port is the controller.
    pub max_len: u16,
    /// Whether the wire form with room for experimenter fields was used.
    pub form2: bool,
}

/// Sends the packet to a port after cutting it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OutputTrunc {
    pub port: OfPort,
    /// Bytes to send, at least 14.
    pub max_len: u32,
}

/// Sends the packet to a port through one of its queues.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Enqueue {
    pub port: OfPort,
    pub queue: u32,
}

/// The least length of a packet that is cut: an Ethernet header.
const MIN_TRUNC: u32 = 14;

pub(super) fn decode10(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[4..]);
    let output = Output { port: OfPort(r.u16()?), max_len: r.u16()? };
    check_output_port(output.port, OfPort::MAX.0)?;
    Ok(OfAction::Output(output))
}

pub(super) fn decode11(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[4..]);
    let port = port_from_wire32(r.u32()?).ok_or(OfError::BacBadOutPort)?;
    check_output_port(port, OfPort::MAX.0)?;
    Ok(OfAction::Output(Output { port, max_len: r.u16()? }))
}

pub(super) fn decode_enqueue(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[4..]);
    let port = OfPort(r.u16()?);
    r.skip(6)?;
    if port.0 >= OfPort::MAX.0 && port != OfPort::IN_PORT && port != OfPort::LOCAL {
        return Err(OfError::BacBadOutPort);
    }
    Ok(OfAction::Enqueue(Enqueue { port, queue: r.u32()? }))
}

pub(super) fn decode_trunc(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let trunc = OutputTrunc { port: OfPort(r.u16()?), max_len: r.u32()? };
    if trunc.max_len < MIN_TRUNC { Err(OfError::BacBadArgument) } else { Ok(OfAction::OutputTrunc(trunc)) }
}

pub(super) fn decode_reg(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let range = r.u16()?;
    let header = r.u32()?;
    let max_len = r.u16()?;
    if r.rest().iter().any(|&byte| byte != 0) {
        return Err(OfError::BacBadArgument);
    }
    let field = oxm::field_of_header32(header, cx.lengths)?;
    let src = super::ranged(cx.uses(field), range);
    check_source(&src, oxm::n_bits(field, cx.lengths), None)?;
    Ok(OfAction::OutputReg(OutputReg { src, max_len, form2: false }))
}

pub(super) fn decode_reg2(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let range = r.u16()?;
    let max_len = r.u16()?;
    let field = oxm::read_field(&mut r, cx.lengths)?;
    let src = super::ranged(cx.uses(field), range);
    super::must_be_zero(r.rest())?;
    check_source(&src, oxm::n_bits(field, cx.lengths), None)?;
    Ok(OfAction::OutputReg(OutputReg { src, max_len, form2: true }))
}

impl Output {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V10 {
            let action = Raw::Output10.start(version, out);
            out.u16(self.port.0).u16(self.max_len);
            action.end(out);
        } else {
            let action = Raw::Output11.start(version, out);
            out.u32(port_to_wire32(self.port)).u16(self.max_len);
            action.end(out);
        }
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        if self.port.0 < OfPort::MAX.0 {
            f.write_str("output:")?;
        }
        write!(f, "{}", names.port(self.port))?;
        if self.port == OfPort::CONTROLLER {
            write!(f, ":{}", self.max_len)?;
        }
        Ok(())
    }
}

impl OutputReg {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let range = super::range(&self.src);
        match oxm::header32(self.src.field) {
            Some(header) if !self.form2 => {
                let action = Raw::OutputReg.start(version, out);
                out.u16(range).u32(header).u16(self.max_len).zeros(6);
                action.end(out);
            }
            _ => {
                let action = Raw::OutputReg2.start(version, out);
                out.u16(range).u16(self.max_len);
                oxm::put_header(out, self.src.field, 0);
                action.end_at_least(24, out);
            }
        }
    }
}

impl OutputTrunc {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let action = Raw::OutputTrunc.start(version, out);
        out.u16(self.port.0).u32(self.max_len);
        action.end(out);
    }
}

impl Enqueue {
    /// Later versions have no such action: the queue is set, the packet sent, the queue put back.
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V10 {
            let action = Raw::Enqueue.start(version, out);
            out.u16(self.port.0).zeros(6).u32(self.queue);
            action.end(out);
        } else {
            Raw::SetQueue.put_int(version, self.queue.into(), 4, out);
            Output { port: self.port, max_len: u16::MAX }.encode(version, out);
            Raw::PopQueue.put(version, out);
        }
    }
}

pub(super) fn parse(text: &str, cx: &Parse<'_>) -> Parsed<OfAction> {
    if text.contains("port") && text.contains("max_len") {
        return parse_trunc(text, cx);
    }
    if let Some(port) = cx.names.parse_port(text) {
        let max_len = if port == OfPort::CONTROLLER { u16::MAX } else { 0 };
        return Ok(OfAction::Output(Output { port, max_len }));
    }
    match Subfield::parse(text) {
        Ok(src) => Ok(OfAction::OutputReg(OutputReg { src, max_len: u16::MAX, form2: false })),
        Err(_) => refuse!("{text}: output to unknown port"),
    }
}

fn parse_trunc(text: &str, cx: &Parse<'_>) -> Parsed<OfAction> {
    let mut trunc = OutputTrunc { port: OfPort(0), max_len: 0 };
    for (key, value) in Pairs::new(text) {
        match key {
            "port" => {
                let Some(port) = cx.names.parse_port(value) else {
                    refuse!("output to unknown truncate port: {value}");
                };
                if port.0 > OfPort::MAX.0 && port != OfPort::LOCAL && port != OfPort::IN_PORT {
                    refuse!("output to unsupported truncate port: {value}");
                }
                trunc.port = port;
            }
            "max_len" => {
                trunc.max_len = parse_u32(value)?;
                if trunc.max_len < MIN_TRUNC {
                    refuse!("max_len {} is less than the minimum value {MIN_TRUNC}", trunc.max_len);
                }
            }
            _ => refuse!("invalid key '{key}' in output_trunc argument"),
        }
    }
    Ok(OfAction::OutputTrunc(trunc))
}

pub(super) fn parse_enqueue(text: &str, cx: &Parse<'_>) -> Parsed<OfAction> {
    let mut rest = text;
    let port = token(&mut rest, &[':', 'q', ',']);
    let (Some(port), false) = (port, rest.is_empty()) else {
        refuse!("\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\"");
    };
    let Some(number) = cx.names.parse_port(port) else { refuse!("{port}: enqueue to unknown port") };
    Ok(OfAction::Enqueue(Enqueue { port: number, queue: parse_u32(rest)? }))
}
