//! `nat`, inside `ct`: translates addresses and ports of a connection.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use flow::proto::ethertype;

use super::OfAction;
use super::raw::Raw;
use crate::error::OfError;
use crate::text::{Pairs, Parsed, refuse, scan_int, scan_ip, scan_ipv6};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Translates addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Nat {
    /// Which side of a new connection; `None` to translate an existing one's packets only.
    pub side: Option<Side>,
    /// Prefer the same addresses after a restart.
    pub persistent: bool,
    /// Choose ports by hash.
    pub hash: bool,
    /// Choose ports at random.
    pub random: bool,
    pub range: Range,
    /// The lowest port; 0 for any.
    pub min_port: u16,
    /// The highest port; 0 if the same as the lowest.
    pub max_port: u16,
}

/// Which side of a connection is translated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    Src,
    Dst,
}

/// Addresses to choose from; the unspecified address as upper end means a single one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Range {
    #[default]
    None,
    V4 {
        min: Ipv4Addr,
        max: Ipv4Addr,
    },
    V6 {
        min: Ipv6Addr,
        max: Ipv6Addr,
    },
}

mod flag {
    pub const SRC: u16 = 1 << 0;
    pub const DST: u16 = 1 << 1;
    pub const PERSISTENT: u16 = 1 << 2;
    pub const HASH: u16 = 1 << 3;
    pub const RANDOM: u16 = 1 << 4;
    pub const ALL: u16 = 0x1f;
}

/// Which parts of the range follow, in this order.
mod present {
    pub const V4_MIN: u16 = 1 << 0;
    pub const V4_MAX: u16 = 1 << 1;
    pub const V6_MIN: u16 = 1 << 2;
    pub const V6_MAX: u16 = 1 << 3;
    pub const PORT_MIN: u16 = 1 << 4;
    pub const PORT_MAX: u16 = 1 << 5;
}

pub(super) fn decode(action: &[u8]) -> Result<OfAction, OfError> {
    // Whatever is wrong here, it is a bad argument.
    decode_args(action).map(|nat| OfAction::Nat(Box::new(nat))).ok_or(OfError::BacBadArgument)
}

fn decode_args(action: &[u8]) -> Option<Nat> {
    let mut r = Reader::new(&action[12..]);
    let (flags, parts) = (r.u16().ok()?, r.u16().ok()?);
    let has = |flag: u16| flags & flag != 0;
    let side = match (has(flag::SRC), has(flag::DST)) {
        (true, true) => return None,
        (true, false) => Some(Side::Src),
        (false, true) => Some(Side::Dst),
        (false, false) => None,
    };
    let (persistent, hash, random) = (has(flag::PERSISTENT), has(flag::HASH), has(flag::RANDOM));
    if flags & !flag::ALL != 0 || hash && random {
        return None;
    }
    let range = decode_range(parts, &mut r)?;
    let mut nat = Nat { side, persistent, hash, random, range, ..Nat::default() };
    if parts & present::PORT_MIN != 0 {
        nat.min_port = r.u16().ok().filter(|&port| port != 0)?;
        if range == Range::None {
            return None;
        }
        if parts & present::PORT_MAX != 0 {
            nat.max_port = r.u16().ok().filter(|&port| port >= nat.min_port)?;
        }
    } else if parts & present::PORT_MAX != 0 {
        return None;
    }
    Some(nat)
}

fn decode_range(parts: u16, r: &mut Reader<'_>) -> Option<Range> {
    let has = |part: u16| parts & part != 0;
    if has(present::V4_MIN) {
        if has(present::V6_MIN) || has(present::V6_MAX) {
            return None;
        }
        let min = r.array::<4>().ok().map(Ipv4Addr::from).filter(|ip| !ip.is_unspecified())?;
        let mut max = Ipv4Addr::UNSPECIFIED;
        if has(present::V4_MAX) {
            max = r.array::<4>().ok().map(Ipv4Addr::from).filter(|ip| *ip >= min)?;
        }
        return Some(Range::V4 { min, max });
    }
    if has(present::V4_MAX) {
        return None;
    }
    if has(present::V6_MIN) {
        let min = r.array::<16>().ok().map(Ipv6Addr::from).filter(|ip| !ip.is_unspecified())?;
        let mut max = Ipv6Addr::UNSPECIFIED;
        if has(present::V6_MAX) {
            max = r.array::<16>().ok().map(Ipv6Addr::from).filter(|ip| *ip >= min)?;
        }
        return Some(Range::V6 { min, max });
    }
    if has(present::V6_MAX) { None } else { Some(Range::None) }
}

impl Nat {
    /// Whether this is `nat` without arguments.
    pub fn is_plain(&self) -> bool {
        *self == Self { min_port: self.min_port, max_port: self.max_port, ..Self::default() }
    }

    /// Whether packets of this Ethernet type can be translated.
    pub fn fits(&self, dl_type: u16) -> bool {
        match self.range {
            Range::None => ethertype::is_ip(dl_type),
            Range::V4 { .. } => dl_type == ethertype::IPV4,
            Range::V6 { .. } => dl_type == ethertype::IPV6,
        }
    }

    fn flags(&self) -> u16 {
        let side = match self.side {
            None => 0,
            Some(Side::Src) => flag::SRC,
            Some(Side::Dst) => flag::DST,
        };
        let flags =
            [(self.persistent, flag::PERSISTENT), (self.hash, flag::HASH), (self.random, flag::RANDOM)];
        flags.iter().filter(|(on, _)| *on).fold(side, |all, (_, flag)| all | flag)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let mut parts = 0;
        let mut range = Vec::new();
        let mut part = |is_there: bool, part: u16, bytes: &[u8]| {
            if is_there {
                parts |= part;
                range.bytes(bytes);
            }
        };
        match self.range {
            Range::None => {}
            Range::V4 { min, max } => {
                part(!min.is_unspecified(), present::V4_MIN, &min.octets());
                part(!max.is_unspecified(), present::V4_MAX, &max.octets());
            }
            Range::V6 { min, max } => {
                part(!min.is_unspecified(), present::V6_MIN, &min.octets());
                part(!max.is_unspecified(), present::V6_MAX, &max.octets());
            }
        }
        if self.range != Range::None {
            part(self.min_port != 0, present::PORT_MIN, &self.min_port.to_be_bytes());
            part(self.max_port != 0, present::PORT_MAX, &self.max_port.to_be_bytes());
        }
        let action = Raw::Nat.start(version, out);
        out.zeros(2).u16(self.flags()).u16(parts).bytes(&range);
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            None => return f.write_str("nat"),
            Some(Side::Src) => "src",
            Some(Side::Dst) => "dst",
        };
        write!(f, "nat({side}")?;
        if self.range == Range::None {
            return f.write_str(")");
        }
        f.write_str("=")?;
        match self.range {
            Range::None => {}
            Range::V4 { min, max } => {
                write!(f, "{min}")?;
                if !max.is_unspecified() && max != min {
                    write!(f, "-{max}")?;
                }
            }
            Range::V6 { min, max } => {
                let (open, close) = if self.min_port != 0 { ("[", "]") } else { ("", "") };
                write!(f, "{open}{min}{close}")?;
                if !max.is_unspecified() && max != min {
                    write!(f, "-{open}{max}{close}")?;
                }
            }
        }
        if self.min_port != 0 {
            write!(f, ":{}", self.min_port)?;
            if self.max_port != 0 && self.max_port != self.min_port {
                write!(f, "-{}", self.max_port)?;
            }
        }
        for (on, name) in [(self.persistent, "persistent"), (self.hash, "hash"), (self.random, "random")] {
            if on {
                write!(f, ",{name}")?;
            }
        }
        f.write_str(")")
    }
}

pub(super) fn parse(text: &str) -> Parsed<OfAction> {
    let mut nat = Nat::default();
    let mut sides = 0;
    for (key, value) in Pairs::new(text) {
        match key {
            "src" | "dst" => {
                let side = if key == "src" { Side::Src } else { Side::Dst };
                if nat.side != Some(side) {
                    sides += 1;
                }
                nat.side = Some(side);
                parse_range(value, &mut nat)?;
            }
            "persistent" => nat.persistent = true,
            "hash" => nat.hash = true,
            "random" => nat.random = true,
            _ => refuse!("invalid key \"{key}\" in \"nat\" argument"),
        }
    }
    if sides > 1 {
        return Err("May only specify one of \"src\" or \"dst\".".into());
    }
    if sides == 0 && nat.flags() != 0 {
        return Err("Flags allowed only with \"src\" or \"dst\".".into());
    }
    if nat.hash && nat.random {
        return Err("Both \"hash\" and \"random\" are not allowed.".into());
    }
    Ok(OfAction::Nat(Box::new(nat)))
}

/// `ADDRESS[-ADDRESS][:PORT[-PORT]]`, IPv6 addresses perhaps in brackets.
fn parse_range(text: &str, nat: &mut Nat) -> Parsed<()> {
    let Some(rest) = scan_range(text, nat) else { refuse!("invalid nat range \"{text}\"") };
    if !rest.is_empty() {
        refuse!("garbage ({rest}) after nat range \"{text}\" (pos: {})", text.len() - rest.len());
    }
    Ok(())
}

/// What follows the range; `None` if its ends are the wrong way round or missing.
fn scan_range<'a>(text: &'a str, nat: &mut Nat) -> Option<&'a str> {
    nat.range = Range::None;
    let mut rest = text;
    if let Some((min, tail)) = scan_ip(text) {
        let mut max = Ipv4Addr::UNSPECIFIED;
        rest = tail;
        if let Some(second) = tail.strip_prefix('-') {
            (max, rest) = scan_ip(second).filter(|(max, _)| *max >= min)?;
        }
        nat.range = Range::V4 { min, max };
    } else if let Some((min, tail)) = scan_bracketed(text) {
        let mut max = Ipv6Addr::UNSPECIFIED;
        rest = tail;
        if let Some(second) = tail.strip_prefix('-') {
            (max, rest) = scan_bracketed(second).filter(|(max, _)| *max >= min)?;
        }
        nat.range = Range::V6 { min, max };
    }
    let Some(ports) = rest.strip_prefix(':').filter(|_| nat.range != Range::None) else { return Some(rest) };
    (nat.min_port, rest) = scan_port(ports)?;
    if let Some(second) = rest.strip_prefix('-') {
        (nat.max_port, rest) = scan_port(second).filter(|(max, _)| *max >= nat.min_port)?;
    }
    Some(rest)
}

fn scan_bracketed(text: &str) -> Option<(Ipv6Addr, &str)> {
    let Some(inner) = text.strip_prefix('[') else { return scan_ipv6(text) };
    let (ip, rest) = scan_ipv6(inner)?;
    Some((ip, rest.strip_prefix(']')?))
}

fn scan_port(text: &str) -> Option<(u16, &str)> {
    let (negative, port, rest) = scan_int(text, 10)?;
    u16::try_from(port).ok().filter(|_| !negative).map(|port| (port, rest))
}
