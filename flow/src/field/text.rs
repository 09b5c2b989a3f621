//! The text of values: parsing and formatting in each of OVS's decodings.

use std::borrow::Cow;
use std::fmt::Write;

use super::place::{port_from_oxm, port_to_oxm};
use super::{Decoding, Field, Value};
use crate::id::OfPort;
use crate::key::{EthAddr, frag, tnl_flags};
use crate::proto;

/// Port names, both ways. Names that several ports share, and ports that several names share, are answered with `None`.
pub trait PortNames {
    /// The name of `port`.
    fn name(&self, port: OfPort) -> Option<Cow<'_, str>>;

    /// The port of that name.
    fn port(&self, name: &str) -> Option<OfPort>;
}

/// No port has a name.
#[derive(Clone, Copy, Debug)]
pub struct NoNames;

impl PortNames for NoNames {
    fn name(&self, _: OfPort) -> Option<Cow<'_, str>> {
        None
    }

    fn port(&self, _: &str) -> Option<OfPort> {
        None
    }
}

const RESERVED: [(&str, OfPort); 10] = [
    ("IN_PORT", OfPort::IN_PORT),
    ("TABLE", OfPort::TABLE),
    ("NORMAL", OfPort::NORMAL),
    ("FLOOD", OfPort::FLOOD),
    ("ALL", OfPort::ALL),
    ("CONTROLLER", OfPort::CONTROLLER),
    ("LOCAL", OfPort::LOCAL),
    ("ANY", OfPort::NONE),
    ("UNSET", OfPort::UNSET),
    ("NONE", OfPort::NONE),
];

/// The name of a reserved port: `LOCAL`, `IN_PORT`, …
pub fn reserved_port_name(port: OfPort) -> Option<&'static str> {
    RESERVED.iter().find(|row| row.1 == port).map(|row| row.0)
}

/// Writes a port: its reserved name, else its name in `names` (quoted where it must be), else its number.
pub fn format_port(port: OfPort, names: &dyn PortNames, out: &mut String) {
    if let Some(name) = reserved_port_name(port) {
        out.push_str(name);
    } else if let Some(name) = names.name(port) {
        out.push_str(&quote_name(&name));
    } else {
        let _ = write!(out, "{port}");
    }
}

/// A port or table name as OVS writes it: in double quotes (JSON escapes) unless a letter and then letters and digits.
pub fn quote_name(name: &str) -> Cow<'_, str> {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    if plain { Cow::Borrowed(name) } else { Cow::Owned(serde_json::Value::from(name).to_string()) }
}

/// Parses a port number (1.0's or 1.1's), a reserved name in any case, or a name of `names`, quoted or not.
pub fn parse_port(text: &str, names: &dyn PortNames) -> Option<OfPort> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        return match digits.parse::<u32>().ok()? {
            port @ 0..=0xffff => Some(OfPort(port as u16)),
            port => port_from_oxm(u64::from(port)),
        };
    }
    if text.starts_with('-') {
        return None;
    }
    if let Some(row) = RESERVED.iter().find(|row| row.0.eq_ignore_ascii_case(text)) {
        return Some(row.1);
    }
    if text.starts_with('"') {
        return names.port(&serde_json::from_str::<String>(text).ok()?);
    }
    names.port(text)
}

/// The name of a TCP flag bit.
pub fn tcp_flag_name(bit: u32) -> Option<&'static str> {
    let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
    by_bit(&names, bit)
}

/// The name of a connection state bit.
pub fn ct_state_name(bit: u32) -> Option<&'static str> {
    by_bit(&["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"], bit)
}

/// The name of a tunnel flag bit.
pub fn tnl_flag_name(bit: u32) -> Option<&'static str> {
    by_bit(&["oam", "df", "csum", "key"], bit)
}

fn by_bit(names: &[&'static str], bit: u32) -> Option<&'static str> {
    bit.is_power_of_two().then(|| names.get(bit.trailing_zeros() as usize).copied()).flatten()
}

fn bits_of(mut flags: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (flags != 0).then(|| {
            let bit = flags & flags.wrapping_neg();
            flags &= flags - 1;
            bit
        })
    })
}

/// Writes flags joined by `delimiter`, unknown ones in one hexadecimal number at the end; `0` for none.
pub fn format_flags(flags: u32, name: fn(u32) -> Option<&'static str>, delimiter: char) -> String {
    if flags == 0 {
        return "0".into();
    }
    let mut parts: Vec<Cow<'static, str>> =
        bits_of(flags).filter_map(|bit| name(bit).map(Cow::Borrowed)).collect();
    let unknown: u32 = bits_of(flags).filter(|&bit| name(bit).is_none()).sum();
    if unknown != 0 {
        parts.push(format!("{unknown:#x}").into());
    }
    parts.join(delimiter.encode_utf8(&mut [0; 4]))
}

/// Writes flags under a mask: `+syn-ack`, or as [`format_flags`] if the mask is `all`, or `0/0`.
pub fn format_flags_masked(flags: u32, mask: u32, all: u32, name: fn(u32) -> Option<&'static str>) -> String {
    if mask == all {
        return format_flags(flags, name, '|');
    }
    if mask == 0 {
        return "0/0".into();
    }
    let one = |bit: u32| {
        format!("{}{}", if flags & bit != 0 { '+' } else { '-' }, name(bit).unwrap_or("[Unknown]"))
    };
    bits_of(mask).map(one).collect()
}

/// Parses flags: `0x12/0x3f`, `+syn-ack` or `syn|ack` (numbers too); `what` names them in errors.
///
/// # Errors
/// OVS's words for what is wrong.
pub fn parse_flags(
    text: &str,
    name: fn(u32) -> Option<&'static str>,
    what: &str,
    allowed: u32,
) -> Result<(u32, u32), String> {
    let unknown = || format!("{text}: unknown {what} flag(s)");
    let checked = |bits: u32| if bits & !allowed == 0 { Ok(bits) } else { Err(unknown()) };
    let bit_named =
        |s: &str| (0..32).map(|i| 1u32 << i).find(|&bit| name(bit) == Some(s)).ok_or_else(unknown);
    if let Some((flags, mask)) = text.split_once('/')
        && let (Some((flags, "")), Some((mask, ""))) = (scan_int(flags), scan_int(mask))
    {
        return Ok((checked(flags as u32)?, checked(mask as u32)?));
    }
    if text.starts_with(['+', '-']) {
        let (mut flags, mut mask, mut rest) = (0, 0, text);
        while let Some(sign) = rest.chars().next() {
            if !matches!(sign, '+' | '-') {
                return Err(format!("{rest}: {what} must be preceded by '+' (for SET) or '-' (NOT SET)"));
            }
            let body = &rest[1..];
            let end = body.find(['+', '-']).unwrap_or(body.len());
            let bit = bit_named(&body[..end]).map_err(|_| format!("{body}: unknown {what} flag(s)"))?;
            if mask & bit != 0 {
                return Err(format!("{body}: Each {what} flag can be specified only once"));
            }
            mask |= checked(bit)?;
            flags |= if sign == '+' { bit } else { 0 };
            rest = &body[end..];
        }
        return Ok((flags, mask));
    }
    let mut flags = 0;
    for part in text.split('|').filter(|_| !text.is_empty()) {
        flags |= match scan_int(part) {
            Some((bits, "")) => checked(u32::try_from(bits).map_err(|_| unknown())?)?,
            _ => checked(bit_named(part)?)?,
        };
    }
    Ok((flags, u32::MAX))
}

/// An integer as C's `strtoull` with base 0 takes it (sign, `0x`, octal), and what follows it.
pub(crate) fn scan_int(text: &str) -> Option<(u64, &str)> {
    let trimmed = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let negative = trimmed.starts_with('-');
    let unsigned = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    let hex = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    let (radix, digits) = match hex {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, digits),
        _ if unsigned.starts_with('0') => (8, unsigned),
        _ => (10, unsigned),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let value = u64::from_str_radix(&digits[..end], radix).ok()?;
    Some((if negative { value.wrapping_neg() } else { value }, &digits[end..]))
}

enum IntError {
    Syntax,
    TooLarge,
}

/// An integer of at most `n` bytes, hexadecimal digits without a limit but the width, and what follows it.
fn parse_int(text: &str, n: usize) -> Result<(Value, &str), IntError> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        let end = digits.find(|c: char| !c.is_ascii_hexdigit() && !space(c)).unwrap_or(digits.len());
        let nibbles: Vec<u8> = digits[..end]
            .chars()
            .filter_map(|c| c.to_digit(16))
            .skip_while(|&d| d == 0)
            .map(|d| d as u8)
            .collect();
        if nibbles.len() > 2 * n {
            return Err(IntError::TooLarge);
        }
        let bytes: Vec<u8> =
            nibbles.rchunks(2).rev().map(|pair| pair.iter().fold(0, |v, d| (v << 4) | d)).collect();
        return Ok((Value::resized(&bytes, n), &digits[end..]));
    }
    let trimmed = text.trim_start();
    let (value, rest) = scan_int(text).ok_or({
        if trimmed.starts_with(|c: char| c.is_ascii_digit()) { IntError::TooLarge } else { IntError::Syntax }
    })?;
    if n < 8 && value >> (8 * n) != 0 {
        return Err(IntError::TooLarge);
    }
    Ok((Value::from_u64(value, n), rest))
}

/// Parses an Ethernet address: six hexadecimal numbers of one or two digits.
pub fn parse_mac(text: &str) -> Option<EthAddr> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| !part.starts_with('+'))?;
    }
    parts.next().is_none().then_some(mac)
}

/// Parses `a.b.c.d`, `a.b.c.d/N` or `a.b.c.d/m.m.m.m`.
///
/// # Errors
/// OVS's words for what is wrong.
pub fn parse_ipv4(text: &str) -> Result<(u32, u32), String> {
    let invalid = || format!("{text}: invalid IP address");
    let dotted = |s: &str| s.parse::<std::net::Ipv4Addr>().ok().map(u32::from);
    let Some((ip, mask)) = text.split_once('/') else {
        return Ok((dotted(text).ok_or_else(invalid)?, u32::MAX));
    };
    let ip = dotted(ip).ok_or_else(invalid)?;
    if let Some(mask) = dotted(mask) {
        return Ok((ip, mask));
    }
    match mask.parse::<i32>().map_err(|_| invalid())? {
        0 => Ok((ip, 0)),
        bits @ 1..=32 => Ok((ip, u32::MAX << (32 - bits))),
        _ => Err(format!("{text}: IPv4 network prefix bits not between 0 and 32, inclusive")),
    }
}

/// Parses an IPv6 address, with `/N` or `/MASK` or without.
///
/// # Errors
/// OVS's words for what is wrong.
pub fn parse_ipv6(text: &str) -> Result<(u128, u128), String> {
    let invalid = || format!("{text}: invalid IPv6 address");
    let address = |s: &str| s.parse::<std::net::Ipv6Addr>().ok().map(u128::from);
    let Some((ip, mask)) = text.split_once('/') else {
        return Ok((address(text).ok_or_else(invalid)?, u128::MAX));
    };
    let ip = address(ip).ok_or_else(invalid)?;
    if mask.contains(':') {
        return Ok((ip, address(mask).ok_or_else(|| format!("{text}: Invalid IPv6 mask"))?));
    }
    match mask.parse::<i32>().map_err(|_| invalid())? {
        0 => Ok((ip, 0)),
        bits @ 1..=128 => Ok((ip, u128::MAX << (128 - bits))),
        _ => Err(format!("{text}: IPv6 network prefix bits not between 0 and 128, inclusive")),
    }
}

pub(crate) fn put_ethernet(mac: &[u8], mask: Option<&[u8]>, out: &mut String) {
    let text = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
    out.push_str(&text(mac));
    if let Some(mask) = mask.filter(|mask| mask.iter().any(|&b| b != 0xff)) {
        out.push('/');
        out.push_str(&text(mask));
    }
}

pub(crate) fn put_ipv4(ip: u32, mask: u32, out: &mut String) {
    let _ = write!(out, "{}", std::net::Ipv4Addr::from(ip));
    let _ = match mask {
        u32::MAX => Ok(()),
        mask if mask.leading_ones() + mask.trailing_zeros() == 32 => write!(out, "/{}", mask.leading_ones()),
        0 => out.write_str("/0"),
        mask => write!(out, "/{}", std::net::Ipv4Addr::from(mask)),
    };
}

pub(crate) fn put_ipv6(ip: u128, mask: u128, out: &mut String) {
    let _ = write!(out, "{}", std::net::Ipv6Addr::from(ip));
    let _ = match mask {
        u128::MAX => Ok(()),
        mask if mask.leading_ones() + mask.trailing_zeros() == 128 => write!(out, "/{}", mask.leading_ones()),
        mask => write!(out, "/{}", std::net::Ipv6Addr::from(mask)),
    };
}

/// Writes a packet type: `eth`, or `packet_type=(NS,TYPE)`.
pub fn format_packet_type(value: u32, mask: u32) -> String {
    if value == proto::PT_ETH && mask == u32::MAX {
        return "eth".into();
    }
    let half = |value: u16, mask: u16| {
        let number = if value > 9 { format!("{value:#x}") } else { value.to_string() };
        match mask {
            0 => "*".into(),
            u16::MAX => number,
            mask => format!("{number}/{mask:#x}"),
        }
    };
    format!(
        "packet_type=({},{})",
        half((value >> 16) as u16, (mask >> 16) as u16),
        half(value as u16, mask as u16)
    )
}

fn parse_packet_type(text: &str) -> Result<Value, String> {
    let error = |what: &str, at: &str| format!("{at}: bad syntax for packet type {what}");
    let inside = text.strip_prefix('(').ok_or_else(|| error("missing '('", text))?;
    let (ns, rest) = parse_int(inside, 2).map_err(|_| error("ns", inside))?;
    let rest_at = rest.strip_prefix(',').ok_or_else(|| error("missing ','", inside))?;
    let (ty, tail) = parse_int(rest_at, 2).map_err(|_| error("ns_type", rest_at))?;
    if !tail.starts_with(')') {
        return Err(error("missing ')'", rest_at));
    }
    Ok(Value::from_u64((ns.u64() << 16) | ty.u64(), 4))
}

/// Name, mask and value of the fragment kinds; the first row that fits is the one to print.
const FRAGS: [(&str, u8, u8); 7] = [
    ("no", frag::MASK, 0),
    ("first", frag::MASK, frag::ANY),
    ("later", frag::MASK, frag::MASK),
    ("no", frag::ANY, 0),
    ("yes", frag::ANY, frag::ANY),
    ("not_later", frag::LATER, 0),
    ("later", frag::LATER, frag::LATER),
];

impl Field {
    /// Parses the field's value and mask; `*` matches everything.
    ///
    /// # Errors
    /// OVS's words for what is wrong.
    pub fn parse(self, text: &str, names: &dyn PortNames) -> Result<(Value, Value), String> {
        let n = self.n_bytes();
        if text == "*" {
            return Ok((Value::zero(n), Value::zero(n)));
        }
        let exact = |value: Value| (value, Value::ones(n));
        let flags =
            |(flags, mask): (u32, u32)| (Value::from_u64(flags.into(), n), Value::from_u64(mask.into(), n));
        let (value, mask) = match self.info().decoding {
            Decoding::Decimal | Decoding::Hexadecimal => self.parse_integers(text)?,
            Decoding::CtState => flags(parse_flags(text, ct_state_name, "ct_state", 0xff)?),
            Decoding::Ethernet => parse_masked_mac(text)?,
            Decoding::Ipv4 => flags(parse_ipv4(text)?),
            Decoding::Ipv6 => {
                let (ip, mask) = parse_ipv6(text)?;
                (Value::from_u128(ip, n), Value::from_u128(mask, n))
            }
            Decoding::OfpPort => {
                let error = || format!("{text}: invalid or unknown port for {self}");
                exact(Value::from_u64(parse_port(text, names).ok_or_else(error)?.0.into(), n))
            }
            Decoding::OfpPortOxm => {
                let error = || format!("{text}: port value out of range for {self}");
                exact(Value::from_u64(port_to_oxm(parse_port(text, names).ok_or_else(error)?).into(), n))
            }
            Decoding::Frag => parse_frag(text)?,
            Decoding::TnlFlags => {
                flags(parse_flags(text, tnl_flag_name, "tunnel", tnl_flags::PUBLIC.into())?)
            }
            Decoding::TcpFlags => flags(parse_flags(text, tcp_flag_name, "TCP", 0xfff)?),
            Decoding::PacketType => exact(parse_packet_type(text)?),
        };
        if !self.mask_ok(&mask) {
            return Err(format!("{text}: invalid mask for field {self}"));
        }
        Ok((value, mask))
    }

    /// Parses a value that may not be masked.
    ///
    /// # Errors
    /// OVS's words for what is wrong.
    pub fn parse_value(self, text: &str, names: &dyn PortNames) -> Result<Value, String> {
        match self.parse(text, names)? {
            (value, mask) if mask.is_ones() => Ok(value),
            _ => Err(format!("{text}: wildcards not allowed here")),
        }
    }

    fn parse_integers(self, text: &str) -> Result<(Value, Value), String> {
        let n = self.n_bytes();
        let error = |what: &str, at: &str, e: IntError| match e {
            IntError::TooLarge => format!("{at}: {what} too large for {n}-byte field {self}"),
            IntError::Syntax => format!("{at}: bad syntax for {self} {what}"),
        };
        let (value, rest) = parse_int(text, n).map_err(|e| error("value", text, e))?;
        let Some(mask) = rest.strip_prefix('/') else {
            return if rest.is_empty() {
                Ok((value, Value::ones(n)))
            } else {
                Err(error("value", text, IntError::Syntax))
            };
        };
        match parse_int(mask, n).map_err(|e| error("mask", text, e))? {
            (mask, "") => Ok((value, mask)),
            _ => Err(error("mask", text, IntError::Syntax)),
        }
    }

    /// Writes a value under a mask (`None` for an exact one): `ANY` for no bits.
    pub fn format(self, value: &Value, mask: Option<&Value>, names: &dyn PortNames, out: &mut String) {
        let mask = mask.filter(|mask| !mask.is_ones());
        if mask.is_some_and(Value::is_zero) {
            out.push_str("ANY");
            return;
        }
        let bits = |all: u64| mask.map_or(all, Value::u64) as u32;
        let number = value.u64() as u32;
        match self.info().decoding {
            Decoding::OfpPortOxm if mask.is_none() => {
                format_port(port_from_oxm(value.u64()).unwrap_or(OfPort::NONE), names, out);
            }
            Decoding::OfpPort if mask.is_none() => format_port(OfPort(value.u64() as u16), names, out),
            Decoding::Decimal | Decoding::Hexadecimal | Decoding::OfpPort | Decoding::OfpPortOxm => {
                let hex = self.info().decoding == Decoding::Hexadecimal;
                out.push_str(&if hex { value.hex() } else { (value.u64() as i64).to_string() });
                if let Some(mask) = mask {
                    let _ = write!(out, "/{}", mask.hex());
                }
            }
            Decoding::CtState => {
                out.push_str(&format_flags_masked(number, bits(u32::MAX.into()), 0xffff, ct_state_name))
            }
            Decoding::Ethernet => put_ethernet(value.bytes(), mask.map(Value::bytes), out),
            Decoding::Ipv4 => put_ipv4(number, bits(u32::MAX.into()), out),
            Decoding::Ipv6 => put_ipv6(value.u128(), mask.map_or(u128::MAX, Value::u128), out),
            Decoding::Frag => out.push_str(frag_name(number as u8, bits(0xff) as u8)),
            Decoding::TnlFlags => {
                let all = u32::from(tnl_flags::PUBLIC);
                out.push_str(&format_flags_masked(number, bits(0xffff) & all, all, tnl_flag_name));
            }
            Decoding::TcpFlags => {
                out.push_str(&format_flags_masked(number, bits(0xfff) & 0xfff, 0xfff, tcp_flag_name))
            }
            Decoding::PacketType => out.push_str(&format_packet_type(number, bits(u32::MAX.into()))),
        }
    }

    /// The value as text, exact, without port names.
    pub fn value_text(self, value: &Value) -> String {
        let mut out = String::new();
        self.format(value, None, &NoNames, &mut out);
        out
    }
}

fn parse_masked_mac(text: &str) -> Result<(Value, Value), String> {
    let (mac, mask) = match text.split_once('/') {
        Some((mac, mask)) => (parse_mac(mac), parse_mac(mask)),
        None => (parse_mac(text), Some([0xff; 6])),
    };
    match (mac, mask) {
        (Some(mac), Some(mask)) => Ok((Value::from_bytes(&mac), Value::from_bytes(&mask))),
        _ => Err(format!("{text}: invalid Ethernet address")),
    }
}

fn parse_frag(text: &str) -> Result<(Value, Value), String> {
    let row = FRAGS.iter().find(|row| row.0.eq_ignore_ascii_case(text)).ok_or_else(|| {
        format!(
            "{text}: unknown fragment type (valid types are \"no\", \"yes\", \"first\", \"later\", \"not_later\""
        )
    })?;
    // The bits that no packet has are taken as asked for, so that a whole mask is recognized as exact.
    Ok((Value::from_u64(row.2.into(), 1), Value::from_u64((row.1 | !frag::MASK).into(), 1)))
}

fn frag_name(value: u8, mask: u8) -> &'static str {
    let mask = mask & frag::MASK;
    FRAGS.iter().find(|row| (row.1, row.2) == (mask, value & mask)).map_or("<error>", |row| row.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(field: Field, text: &str) -> String {
        let (value, mask) = field.parse(text, &NoNames).unwrap();
        let mut out = String::new();
        field.format(&value, Some(&mask), &NoNames, &mut out);
        out
    }

    #[test]
    fn every_decoding_reads_and_writes() {
        for (field, text, out) in [
            (Field::IpProto, "0x11", "17"),
            (Field::Reg0, "10/0xff", "0xa/0xff"),
            (Field::CtState, "+trk-new", "-new+trk"),
            (Field::CtState, "0/0", "ANY"),
            (Field::EthSrc, "0:1:2:3:4:5", "00:01:02:03:04:05"),
            (Field::EthDst, "01:00:00:00:00:00/01:00:00:00:00:00", "01:00:00:00:00:00/01:00:00:00:00:00"),
            (Field::Ipv4Src, "10.0.0.0/255.0.0.0", "10.0.0.0/8"),
            (Field::Ipv4Src, "10.0.0.0/0.255.0.0", "10.0.0.0/0.255.0.0"),
            (Field::Ipv6Dst, "fe80::1/64", "fe80::1/64"),
            (Field::InPort, "local", "LOCAL"),
            (Field::InPort, "65534", "LOCAL"),
            (Field::ActsetOutput, "7", "7"),
            (Field::ActsetOutput, "4294967293", "CONTROLLER"),
            (Field::IpFrag, "not_later", "not_later"),
            (Field::TunFlags, "oam", "oam"),
            (Field::TcpFlags, "+syn-ack", "+syn-ack"),
            (Field::TcpFlags, "syn|ack", "syn|ack"),
            (Field::PacketType, "(1,0x800)", "packet_type=(1,0x800)"),
            (Field::VlanVid, "0x1000/0x1000", "4096/0x1000"),
            (Field::XXReg0, "0x123456789abcdef0123456789", "0x123456789abcdef0123456789"),
            (Field::Metadata, "*", "ANY"),
        ] {
            assert_eq!(round(field, text), out, "{text}");
        }
    }

    #[test]
    fn errors_are_in_ovs_words() {
        for (field, text, error) in [
            (Field::IpProto, "256", "256: value too large for 1-byte field nw_proto"),
            (Field::IpProto, "tcp", "tcp: bad syntax for nw_proto value"),
            (Field::Reg0, "1/x", "1/x: bad syntax for reg0 mask"),
            (Field::IpProto, "1/1", "1/1: invalid mask for field nw_proto"),
            (Field::Ipv4Src, "1.2.3", "1.2.3: invalid IP address"),
            (
                Field::Ipv4Src,
                "1.2.3.4/33",
                "1.2.3.4/33: IPv4 network prefix bits not between 0 and 32, inclusive",
            ),
            (Field::EthSrc, "1:2:3:4:5", "1:2:3:4:5: invalid Ethernet address"),
            (Field::InPort, "nosuch", "nosuch: invalid or unknown port for in_port"),
            (Field::TcpFlags, "+bad", "bad: unknown TCP flag(s)"),
            (Field::CtState, "trk|foo", "trk|foo: unknown ct_state flag(s)"),
            (Field::CtState, "+new+new", "new: Each ct_state flag can be specified only once"),
        ] {
            assert_eq!(field.parse(text, &NoNames), Err(error.into()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn parsing_never_panics(text in "\\PC{0,24}", pick in 0..Field::ALL.len()) {
            let _ = Field::ALL[pick].parse(&text, &NoNames);
            let _ = super::super::Subfield::parse(&text);
        }

        #[test]
        fn values_survive_their_text(bytes in proptest::collection::vec(any::<u8>(), 124)) {
            for &field in Field::ALL {
                let mut key = crate::key::Key::default();
                field.set(&mut key, &Value::from_bytes(&bytes[..field.n_bytes()]));
                let value = field.get(&key);
                if !field.value_ok(&value) || matches!(field, Field::PacketType | Field::IpFrag | Field::CtState) {
                    continue;
                }
                prop_assert_eq!(field.parse(&field.value_text(&value), &NoNames).map(|v| v.0), Ok(value));
            }
        }
    }
}
