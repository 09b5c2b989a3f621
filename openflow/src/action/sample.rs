//! `sample`: one packet in so many goes to IPFIX or psample collectors.

use std::fmt;

use flow::field::Subfield;
use flow::id::OfPort;

use super::check::check_source;
use super::raw::Raw;
use super::{Decode, OfAction, Parse};
use crate::error::OfError;
use crate::names::Names;
use crate::oxm;
use crate::text::{Pairs, Parsed, parse_u16, parse_u32, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Samples packets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sample {
    /// In 65535ths, at least 1.
    pub probability: u16,
    pub collector_set_id: u32,
    pub obs_domain: ObsId,
    pub obs_point: ObsId,
    /// The port that the sample is taken at; [`OfPort::NONE`] if not told.
    pub sampling_port: OfPort,
    pub direction: Direction,
    /// The wire form that it came in, 1 to 4; 0 if it came in as text. It goes out in a form at least as new.
    pub form: u8,
}

/// An IPFIX observation domain or point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ObsId {
    Constant(u32),
    /// At most 32 bits of a field.
    Field(Subfield),
}

/// Which way a sampled packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Direction {
    /// To be found out from the sampling port.
    Default = 0,
    Ingress = 1,
    Egress = 2,
}

fn decode_common(r: &mut Reader<'_>, form: u8) -> Result<Sample, OfError> {
    let sample = Sample {
        probability: r.u16()?,
        collector_set_id: r.u32()?,
        obs_domain: ObsId::Constant(0),
        obs_point: ObsId::Constant(0),
        sampling_port: OfPort::NONE,
        direction: Direction::Default,
        form,
    };
    if sample.probability == 0 { Err(OfError::BacBadArgument) } else { Ok(sample) }
}

fn decode_direction(direction: u8) -> Result<Direction, OfError> {
    match direction {
        0 => Ok(Direction::Default),
        1 => Ok(Direction::Ingress),
        2 => Ok(Direction::Egress),
        unknown => {
            tracing::warn!(target: "ofp_actions", rl = "1,5", "invalid sample direction {unknown}");
            Err(OfError::BacBadArgument)
        }
    }
}

pub(super) fn decode(action: &[u8]) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let mut sample = decode_common(&mut r, 1)?;
    sample.obs_domain = ObsId::Constant(r.u32()?);
    sample.obs_point = ObsId::Constant(r.u32()?);
    Ok(OfAction::Sample(Box::new(sample)))
}

pub(super) fn decode2(action: &[u8], with_direction: bool) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let mut sample = decode_common(&mut r, if with_direction { 3 } else { 2 })?;
    sample.obs_domain = ObsId::Constant(r.u32()?);
    sample.obs_point = ObsId::Constant(r.u32()?);
    sample.sampling_port = OfPort(r.u16()?);
    if with_direction {
        let direction = r.u8()?;
        super::must_be_zero(r.rest())?;
        sample.direction = decode_direction(direction)?;
    }
    Ok(OfAction::Sample(Box::new(sample)))
}

pub(super) fn decode4(action: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let mut sample = decode_common(&mut r, 4)?;
    let (domain, domain_arg) = (r.u32()?, r.u32()?);
    let (point, point_arg) = (r.u32()?, r.u32()?);
    sample.sampling_port = OfPort(r.u16()?);
    let direction = r.u8()?;
    super::must_be_zero(r.rest())?;
    sample.direction = decode_direction(direction)?;
    sample.obs_domain = decode_obs(domain, domain_arg, cx)?;
    sample.obs_point = decode_obs(point, point_arg, cx)?;
    Ok(OfAction::Sample(Box::new(sample)))
}

/// A header and the range in the first half of `arg`, or no header and a constant.
fn decode_obs(header: u32, arg: u32, cx: &mut Decode<'_>) -> Result<ObsId, OfError> {
    if header == 0 {
        return Ok(ObsId::Constant(arg));
    }
    let field = oxm::field_of_header32(header, cx.lengths)?;
    let src = super::ranged(cx.uses(field), (arg >> 16) as u16);
    check_source(&src, oxm::n_bits(field, cx.lengths), None)?;
    if src.n_bits > 32 {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "size of field used in observation_id ({}) exceeds maximum (32)", src.n_bits
        );
        return Err(OfError::BacBadArgument);
    }
    Ok(ObsId::Field(src))
}

impl ObsId {
    fn is_field(&self) -> bool {
        matches!(self, Self::Field(_))
    }

    fn constant(&self) -> u32 {
        match self {
            Self::Constant(id) => *id,
            Self::Field(_) => 0,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Constant(id) => out.u32(0).u32(*id),
            Self::Field(src) => out.u32(oxm::header32(src.field).unwrap_or(0)).u16(super::range(src)).u16(0),
        };
    }
}

impl fmt::Display for ObsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(id) => write!(f, "{id}"),
            Self::Field(src) => write!(f, "{src}"),
        }
    }
}

impl Sample {
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let needed = match self {
            _ if self.obs_domain.is_field() || self.obs_point.is_field() => 4,
            _ if self.direction != Direction::Default => 3,
            _ if self.sampling_port != OfPort::NONE => 2,
            _ => 1,
        };
        let form = needed.max(self.form);
        let raw = [Raw::Sample, Raw::Sample2, Raw::Sample3, Raw::Sample4][usize::from(form.clamp(1, 4)) - 1];
        let action = raw.start(version, out);
        out.u16(self.probability).u32(self.collector_set_id);
        if form >= 4 {
            self.obs_domain.encode(out);
            self.obs_point.encode(out);
        } else {
            out.u32(self.obs_domain.constant()).u32(self.obs_point.constant());
        }
        if form >= 2 {
            out.u16(self.sampling_port.0).u8(self.direction as u8).zeros(5);
        }
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        write!(
            f,
            "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}",
            self.probability, self.collector_set_id, self.obs_domain, self.obs_point
        )?;
        if self.sampling_port != OfPort::NONE {
            write!(f, ",sampling_port={}", names.port(self.sampling_port))?;
        }
        f.write_str(match self.direction {
            Direction::Default => ")",
            Direction::Ingress => ",ingress)",
            Direction::Egress => ",egress)",
        })
    }
}

pub(super) fn parse(text: &str, cx: &Parse<'_>) -> Parsed<OfAction> {
    let mut sample = Sample {
        probability: 0,
        collector_set_id: 0,
        obs_domain: ObsId::Constant(0),
        obs_point: ObsId::Constant(0),
        sampling_port: OfPort::NONE,
        direction: Direction::Default,
        form: 0,
    };
    for (key, value) in Pairs::new(text) {
        match key {
            "probability" => {
                sample.probability = parse_u16(value, "probability")?;
                if sample.probability == 0 {
                    refuse!("invalid probability value \"{value}\"");
                }
            }
            "collector_set_id" => sample.collector_set_id = parse_u32(value)?,
            "obs_domain_id" => sample.obs_domain = parse_obs(key, value)?,
            "obs_point_id" => sample.obs_point = parse_obs(key, value)?,
            "sampling_port" => match cx.names.parse_port(value) {
                Some(port) => sample.sampling_port = port,
                None => refuse!("{value}: unknown port"),
            },
            "ingress" => sample.direction = Direction::Ingress,
            "egress" => sample.direction = Direction::Egress,
            _ => refuse!("invalid key \"{key}\" in \"sample\" argument"),
        }
    }
    if sample.probability == 0 {
        return Err("non-zero \"probability\" must be specified on sample".into());
    }
    Ok(OfAction::Sample(Box::new(sample)))
}

fn parse_obs(key: &str, text: &str) -> Parsed<ObsId> {
    if let Ok(id) = parse_u32(text) {
        return Ok(ObsId::Constant(id));
    }
    let src = Subfield::parse(text)?;
    if src.n_bits > 32 {
        refuse!("size of {key} field ({}) exceeds maximum (32)", src.n_bits);
    }
    Ok(ObsId::Field(src))
}
