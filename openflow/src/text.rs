//! The grammar that flow, action, group and meter text share: numbers as C reads them, lists of `key=value`,
//! `key:value` and `key(value)`, and what is said of a value that does not fit.

use flow::field::Value;
use flow::key::EthAddr;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Why text is refused, in OVS's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

impl From<String> for ParseError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<&str> for ParseError {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}

impl From<ParseError> for String {
    fn from(error: ParseError) -> Self {
        error.0
    }
}

/// What a parser of text gives.
pub type Parsed<T> = Result<T, ParseError>;

/// Fails with a formatted [`ParseError`].
macro_rules! refuse {
    ($($arg:tt)*) => { return Err($crate::text::ParseError(format!($($arg)*))) };
}
pub(crate) use refuse;

pub use flow::text::Pairs;

/// Splits off what `strtok_r` would: skips leading delimiters, then up to the next one, which is dropped.
pub fn token<'a>(text: &mut &'a str, delimiters: &[char]) -> Option<&'a str> {
    let start = text.trim_start_matches(delimiters);
    if start.is_empty() {
        *text = "";
        return None;
    }
    let (head, tail) = start.split_once(delimiters).unwrap_or((start, ""));
    *text = tail;
    Some(head)
}

/// A number at the start of `text` as `strtoull(…, 0)` reads it, as sign, magnitude and the rest.
pub fn scan_int(text: &str, radix: u32) -> Option<(bool, u128, &str)> {
    let trimmed = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let hex = hex.filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (radix, digits) = match (radix, hex) {
        (0 | 16, Some(rest)) => (16, rest),
        (0, None) if digits.starts_with('0') => (8, digits),
        (0, None) => (10, digits),
        (radix, _) => (radix, digits),
    };
    let len = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let value = u128::from_str_radix(&digits[..len], radix).ok()?;
    Some((negative, value, &digits[len..]))
}

/// A whole unsigned number of any size up to 64 bits in the given base; 0 finds the base by prefix.
pub fn parse_uint_radix(text: &str, radix: u32) -> Option<u64> {
    let (negative, value, rest) = scan_int(text, radix)?;
    (rest.is_empty() && (!negative || value == 0)).then(|| u64::try_from(value).ok())?
}

/// A number of at most `width` bytes at the start of `text`, and what follows it: hexadecimal of any length, or
/// anything that `strtoull` reads.
pub fn scan_number(text: &str, width: usize) -> Option<(Value, &str)> {
    let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
        let (negative, number, rest) = scan_int(text, 0)?;
        let number = u64::try_from(number).ok()?;
        let number = if negative { number.wrapping_neg() } else { number };
        let fits = width >= 8 || number >> (8 * width) == 0;
        return fits.then(|| (Value::from_u64(number, width), rest));
    };
    let mut nibbles = Vec::new();
    let mut rest = digits.trim_start_matches(SPACE);
    while let Some(nibble) = rest.chars().next().and_then(|c| c.to_digit(16)) {
        if nibble != 0 || !nibbles.is_empty() {
            nibbles.push(nibble as u8);
        }
        rest = rest[1..].trim_start_matches(SPACE);
    }
    let bytes: Vec<u8> =
        nibbles.rchunks(2).rev().map(|pair| pair.iter().fold(0, |byte, n| byte << 4 | n)).collect();
    (bytes.len() <= width).then(|| (Value::resized(&bytes, width), rest))
}

const SPACE: &[char] = &[' ', '\t', '\r', '\n'];

/// What C's `atoi` makes of `text`: the decimal number at its start, or 0.
pub fn atoi(text: &str) -> i32 {
    let Some((negative, value, _)) = scan_int(text, 10) else { return 0 };
    let value = value as i32;
    if negative { value.wrapping_neg() } else { value }
}

fn parse_small(text: &str, name: &str, max: u64) -> Parsed<u64> {
    match parse_uint_radix(text, 0) {
        Some(value) if value <= max => Ok(value),
        _ => refuse!("invalid {name} \"{text}\""),
    }
}

/// An 8-bit number; `name` stands in the error.
pub fn parse_u8(text: &str, name: &str) -> Parsed<u8> {
    parse_small(text, name, 0xff).map(|value| value as u8)
}

/// A 16-bit number; `name` stands in the error.
pub fn parse_u16(text: &str, name: &str) -> Parsed<u16> {
    parse_small(text, name, 0xffff).map(|value| value as u16)
}

/// A 32-bit number.
pub fn parse_u32(text: &str) -> Parsed<u32> {
    let value = parse_u64(text)?;
    u32::try_from(value).map_err(|_| ParseError(format!("invalid numeric format {text}")))
}

/// A 64-bit number; a negative one wraps, as with `strtoull`.
pub fn parse_u64(text: &str) -> Parsed<u64> {
    if text.is_empty() {
        return Err("missing required numeric argument".into());
    }
    let parsed = scan_int(text, 0).filter(|(_, _, rest)| rest.is_empty());
    let value = parsed.and_then(|(negative, value, _)| {
        u64::try_from(value).ok().map(|value| if negative { value.wrapping_neg() } else { value })
    });
    value.ok_or_else(|| ParseError(format!("invalid numeric format {text}")))
}

/// An Ethernet address; what follows it is not looked at.
pub fn parse_mac(text: &str) -> Parsed<EthAddr> {
    scan_mac(text).map(|(mac, _)| mac).ok_or_else(|| ParseError(format!("invalid mac address {text}")))
}

/// An Ethernet address at the start of `text`, and the rest.
pub fn scan_mac(text: &str) -> Option<(EthAddr, &str)> {
    let mut mac = EthAddr::default();
    let mut rest = text;
    for (i, byte) in mac.iter_mut().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix(':')?;
        }
        let len = rest.bytes().take(2).take_while(u8::is_ascii_hexdigit).count();
        *byte = u8::from_str_radix(&rest[..len], 16).ok()?;
        rest = &rest[len..];
    }
    Some((mac, rest))
}

/// An IPv4 address, numeric.
pub fn parse_ip(text: &str) -> Parsed<Ipv4Addr> {
    text.parse().map_err(|_| ParseError(format!("{text}: could not convert to IP address")))
}

/// An IPv4 address at the start of `text`, and the rest.
pub fn scan_ip(text: &str) -> Option<(Ipv4Addr, &str)> {
    let len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text[..len].parse().ok().map(|ip| (ip, &text[len..]))
}

/// An IPv6 address at the start of `text`, and the rest.
pub fn scan_ipv6(text: &str) -> Option<(Ipv6Addr, &str)> {
    let len = text.find(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '.').unwrap_or(text.len());
    text[..len].parse().ok().map(|ip| (ip, &text[len..]))
}

/// Hexadecimal digits in pairs, with or without dots and white space between the pairs; `None` for anything else.
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    scan_hex(text).and_then(|(bytes, rest)| rest.is_empty().then_some(bytes))
}

/// As many pairs of hexadecimal digits as there are, and the rest; `None` if a pair is incomplete.
pub fn scan_hex(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut bytes = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '.', '\t', '\r', '\n']);
        let Some(high) = rest.chars().next().and_then(|c| c.to_digit(16)) else { return Some((bytes, rest)) };
        let low = rest[1..].chars().next().and_then(|c| c.to_digit(16))?;
        bytes.push((high * 16 + low) as u8);
        rest = &rest[2..];
    }
}

/// Bytes as two digits each with `delimiter` between.
pub fn hex(bytes: &[u8], delimiter: &str) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(delimiter)
}

/// Bytes in lines of 16 with their offset in front, a `-` between the halves, each line ended by a newline.
pub fn hex_dump(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (n, line) in bytes.chunks(16).enumerate() {
        let (first, second) = line.split_at(line.len().min(8));
        let separator = if first.len() == 8 { "-" } else { "" };
        dump.push_str(&format!("{:08x}  {}{separator}{}\n", n * 16, hex(first, " "), hex(second, " ")));
    }
    dump
}

/// Like [`hex_dump`], but a line of 8 bytes does not end with a `-`.
pub fn hex_lines(bytes: &[u8]) -> String {
    hex_dump(bytes).replace("-\n", "\n")
}

/// `n` as C's `%#x` prints it: plain `0` for zero.
pub fn alt_hex(n: u64) -> String {
    if n == 0 { "0".to_owned() } else { format!("{n:#x}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_have_values_in_three_forms() {
        let pairs: Vec<_> = Pairs::new(" a=1,b:2 c(d(e,f),g),,h,i(j)->k,l=m(n,o)p").collect();
        assert_eq!(
            pairs,
            [("a", "1"), ("b", "2"), ("c", "d(e,f),g"), ("h", ""), ("i", "j)->k"), ("l", "m(n,o)p")]
        );
        assert_eq!(Pairs::new("x(y").collect::<Vec<_>>(), [("x", "y")]);
        assert_eq!(Pairs::new(", \n").next(), None);
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        assert_eq!(parse_u8("0x10", "n"), Ok(16));
        assert_eq!(parse_u8("010", "n"), Ok(8));
        assert_eq!(parse_u8("256", "TTL"), Err("invalid TTL \"256\"".into()));
        assert_eq!(parse_u16("", "id"), Err("invalid id \"\"".into()));
        assert_eq!(parse_u32(""), Err("missing required numeric argument".into()));
        assert_eq!(parse_u32("12x"), Err("invalid numeric format 12x".into()));
        assert_eq!(parse_u64("-1"), Ok(u64::MAX));
        assert_eq!(parse_u64("0x"), Err("invalid numeric format 0x".into()));
    }

    #[test]
    fn addresses_and_hexadecimal_dumps_are_read() {
        assert_eq!(parse_mac("1:2:3:4:5:6"), Ok([1, 2, 3, 4, 5, 6]));
        assert_eq!(parse_mac("x"), Err("invalid mac address x".into()));
        assert_eq!(parse_hex("11.22 33"), Some(vec![0x11, 0x22, 0x33]));
        assert_eq!(parse_hex("1"), None);
        assert_eq!(parse_hex("x"), None);
        assert_eq!(hex_dump(&[0; 3]), "00000000  00 00 00\n");
        assert_eq!(
            hex_dump(&[1; 18]),
            "00000000  01 01 01 01 01 01 01 01-01 01 01 01 01 01 01 01\n00000010  01 01\n"
        );
        assert_eq!(scan_ip("1.2.3.4-5"), Some((Ipv4Addr::new(1, 2, 3, 4), "-5")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn scanners_never_panic(text in "\\PC*") {
            let _ = Pairs::new(&text).count();
            let _ = scan_int(&text, 0);
            let _ = scan_mac(&text);
            let _ = scan_hex(&text);
            let _ = scan_ip(&text);
            let _ = scan_ipv6(&text);
        }
    }
}
