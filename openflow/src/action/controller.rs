//! `controller`: the packet goes to controllers, with a reason, to an id, with data, or pausing the pipeline.

use std::fmt;

use flow::id::OfPort;

use super::raw::Raw;
use super::{OfAction, Output};
use crate::error::OfError;
use crate::text::{Pairs, Parsed, parse_hex, parse_u16, parse_u32, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader, pad8, set_u16};

/// Sends the packet to controllers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Controller {
    /// Bytes to send; 65535 for all.
    pub max_len: u16,
    /// The connection ids to send to; 0 is every controller that did not choose an id.
    pub id: u16,
    /// Why, as `OFPR_*` of OpenFlow 1.4.
    pub reason: u8,
    pub userdata: Vec<u8>,
    /// Whether the pipeline stops until the controller resumes it.
    pub pause: bool,
    /// A meter to use instead of the controller meter; 0 for none.
    pub meter: u32,
    /// Whether the wire form with properties was used.
    pub form2: bool,
}

/// `OFPR_ACTION`.
const REASON_ACTION: u8 = 1;

/// Names of `OFPR_*`; the last two are told apart by table-miss flows and have none.
const REASONS: [&str; 8] = ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out", "", ""];

/// A packet-in reason as text: its name or number.
pub fn reason_text(reason: u8) -> String {
    REASONS.get(usize::from(reason)).map_or_else(|| reason.to_string(), |name| (*name).to_owned())
}

/// The packet-in reason of a name, whatever the case.
pub fn parse_reason(text: &str) -> Option<u8> {
    REASONS.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|reason| reason as u8)
}

mod prop {
    pub const MAX_LEN: u16 = 0;
    pub const ID: u16 = 1;
    pub const REASON: u16 = 2;
    pub const USERDATA: u16 = 3;
    pub const PAUSE: u16 = 4;
    pub const METER: u16 = 5;
}

impl Default for Controller {
    /// As the text `controller` means it.
    fn default() -> Self {
        Self {
            max_len: u16::MAX,
            id: 0,
            reason: REASON_ACTION,
            userdata: Vec::new(),
            pause: false,
            meter: 0,
            form2: false,
        }
    }
}

pub(super) fn decode(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (max_len, id, reason) = (r.u16()?, r.u16()?, r.u8()?);
    Ok(OfAction::Controller(Box::new(Controller { max_len, id, reason, ..Controller::default() })))
}

pub(super) fn decode2(action: &[u8]) -> Result<OfAction, OfError> {
    super::must_be_zero(&action[10..16])?;
    let mut controller = Controller { form2: true, ..Controller::default() };
    let mut rest = &action[16..];
    while !rest.is_empty() {
        let (kind, payload, tail) = pull_prop(rest)?;
        controller.set_prop(kind, payload)?;
        rest = tail;
    }
    Ok(OfAction::Controller(Box::new(controller)))
}

/// A property's type and payload, and what follows its padding, which must be zero.
fn pull_prop(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), OfError> {
    let mut r = Reader::new(bytes);
    let (kind, len) = match (r.u16(), r.u16()) {
        (Ok(kind), Ok(len)) => (kind, usize::from(len)),
        _ => return Err(OfError::BpcBadLen),
    };
    let padded = len.next_multiple_of(8);
    if len < 4 || padded > bytes.len() {
        return Err(OfError::BpcBadLen);
    }
    if bytes[len..padded].iter().any(|&byte| byte != 0) {
        return Err(OfError::BrcMustBeZero);
    }
    Ok((kind, &bytes[4..len], &bytes[padded..]))
}

impl Controller {
    fn set_prop(&mut self, kind: u16, payload: &[u8]) -> Result<(), OfError> {
        // Short numbers may have padding behind them.
        let number = |width: usize| match payload.get(..width) {
            Some(bytes) if width < 4 || payload.len() == width => {
                Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
            }
            _ => Err(OfError::BpcBadLen),
        };
        match kind {
            prop::MAX_LEN => self.max_len = number(2)? as u16,
            prop::ID => self.id = number(2)? as u16,
            prop::REASON => self.reason = number(1)? as u8,
            prop::USERDATA => self.userdata = payload.to_vec(),
            prop::PAUSE => self.pause = true,
            prop::METER => self.meter = number(4)?,
            _ => {
                tracing::warn!(
                    target: "ofp_actions", rl = "1,5",
                    "NXAST_RAW_CONTROLLER2: unknown property type {kind}"
                );
                return Err(OfError::BpcBadType);
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if self.userdata.is_empty() && !self.pause && self.meter == 0 && !self.form2 {
            let action = Raw::Controller.start(version, out);
            out.u16(self.max_len).u16(self.id).u8(self.reason).zeros(1);
            action.end(out);
            return;
        }
        let action = Raw::Controller2.start(version, out);
        out.zeros(6);
        let default = Self::default();
        if self.max_len != default.max_len {
            put_prop(out, prop::MAX_LEN, &padded(self.max_len));
        }
        if self.id != default.id {
            put_prop(out, prop::ID, &padded(self.id));
        }
        if self.reason != default.reason {
            put_prop(out, prop::REASON, &[self.reason]);
        }
        if !self.userdata.is_empty() {
            put_prop(out, prop::USERDATA, &self.userdata);
        }
        if self.pause {
            put_prop(out, prop::PAUSE, &[]);
        }
        if self.meter != default.meter {
            put_prop(out, prop::METER, &self.meter.to_be_bytes());
        }
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        if (Self { max_len: default.max_len, form2: false, ..self.clone() }) == default {
            return write!(f, "CONTROLLER:{}", self.max_len);
        }
        let mut parts = Vec::new();
        if self.reason != default.reason {
            parts.push(format!("reason={}", reason_text(self.reason)));
        }
        if self.max_len != default.max_len {
            parts.push(format!("max_len={}", self.max_len));
        }
        if self.id != default.id {
            parts.push(format!("id={}", self.id));
        }
        if !self.userdata.is_empty() {
            parts.push(format!("userdata={}", crate::text::hex(&self.userdata, ".")));
        }
        if self.pause {
            parts.push("pause".to_owned());
        }
        if self.meter != default.meter {
            parts.push(format!("meter_id={}", self.meter));
        }
        write!(f, "controller({})", parts.join(","))
    }
}

/// A short number as properties have it, with padding behind it.
fn padded(number: u16) -> [u8; 4] {
    (u32::from(number) << 16).to_be_bytes()
}

fn put_prop(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let at = out.len();
    out.u16(kind).u16(0).bytes(payload);
    let len = u16::try_from(out.len() - at).unwrap_or(u16::MAX);
    set_u16(out, at + 2, len);
    pad8(out, at);
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    let mut controller = Controller::default();
    let mut has_userdata = false;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        controller.max_len = parse_u16(text, "max_len")?;
    } else {
        for (key, value) in Pairs::new(text) {
            match key {
                "reason" => match parse_reason(value) {
                    Some(reason) => controller.reason = reason,
                    None => refuse!("unknown reason \"{value}\""),
                },
                "max_len" => controller.max_len = parse_u16(value, "max_len")?,
                "id" => controller.id = parse_u16(value, "id")?,
                "userdata" => {
                    let Some(data) = parse_hex(value) else {
                        refuse!("bad hex digit in `controller' action `userdata'");
                    };
                    controller.userdata = data;
                    has_userdata = true;
                }
                "pause" => controller.pause = true,
                "meter_id" => controller.meter = parse_u32(value)?,
                _ => refuse!("unknown key \"{key}\" parsing controller action"),
            }
        }
    }
    let max_len = controller.max_len;
    if !has_userdata && (Controller { max_len: u16::MAX, ..controller.clone() }) == Controller::default() {
        return Ok(OfAction::Output(Output { port: OfPort::CONTROLLER, max_len }));
    }
    Ok(OfAction::Controller(Box::new(controller)))
}
