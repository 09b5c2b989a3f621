//! Small pieces of text that flows, actions and cookies share, and the scanner that reads them back.

use crate::key::{EthAddr, Ipv6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Names of the set bits of `bits`, joined by `separator`; what has no name follows as one hexadecimal number. No bit
/// at all is `0`.
pub fn flags(bits: u32, name: impl Fn(u32) -> Option<&'static str>, separator: char) -> String {
    if bits == 0 {
        return "0".to_owned();
    }
    let mut parts = Vec::new();
    let mut unknown = 0;
    for bit in each_bit(bits) {
        match name(bit) {
            Some(name) => parts.push(name.to_owned()),
            None => unknown |= bit,
        }
    }
    if unknown != 0 {
        parts.push(format!("{unknown:#x}"));
    }
    parts.join(&separator.to_string())
}

/// Flags under a mask: each significant bit with `+` or `-`; all of `max` significant is [`flags`] with `|`, none is
/// `0/0`.
pub fn flags_masked(bits: u32, mask: u32, max: u32, name: impl Fn(u32) -> Option<&'static str>) -> String {
    if mask == max {
        return flags(bits, name, '|');
    }
    if mask == 0 {
        return "0/0".to_owned();
    }
    each_bit(mask)
        .map(|bit| format!("{}{}", if bits & bit == 0 { '-' } else { '+' }, name(bit).unwrap_or("[Unknown]")))
        .collect()
}

fn each_bit(bits: u32) -> impl Iterator<Item = u32> {
    (0..u32::BITS).map(|shift| 1 << shift).filter(move |bit| bits & bit != 0)
}

/// Hexadecimal as C's `%#x`: zero has no prefix.
pub fn hex(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { format!("{value:#x}") }
}

/// Bytes as one big-endian hexadecimal number without leading zeros.
pub fn hex_bytes(bytes: &[u8]) -> String {
    let Some(first) = bytes.iter().position(|&byte| byte != 0) else { return "0".to_owned() };
    let mut text = format!("0x{:x}", bytes[first]);
    bytes[first + 1..].iter().for_each(|byte| text += &format!("{byte:02x}"));
    text
}

/// Two hexadecimal digits a byte, joined by `separator`.
pub fn hex_dump(bytes: &[u8], separator: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator)
}

/// An Ethernet address.
pub fn eth(addr: &EthAddr) -> String {
    hex_dump(addr, ":")
}

/// An IPv6 address as `inet_ntop` writes it: IPv4-compatible addresses too end in dotted decimals.
pub fn ipv6(addr: &Ipv6) -> String {
    if addr[..12] == [0; 12] && addr[12..14] != [0; 2] {
        return format!("::{}", Ipv4Addr::new(addr[12], addr[13], addr[14], addr[15]));
    }
    Ipv6Addr::from(*addr).to_string()
}

/// TCP flags, `fin` first.
pub fn tcp_flag(bit: u32) -> Option<&'static str> {
    const NAMES: [&str; 12] =
        ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
    NAMES.get(bit.trailing_zeros() as usize).copied()
}

/// Reads text from its front; every method leaves the scanner where it was if it does not match.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// What is left.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next character.
    pub fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Consumes `literal` if it comes next.
    pub fn eat(&mut self, literal: &str) -> bool {
        self.rest.strip_prefix(literal).map(|rest| self.rest = rest).is_some()
    }

    /// As [`Scan::eat`], for use with `?`.
    pub fn want(&mut self, literal: &str) -> Option<()> {
        self.eat(literal).then_some(())
    }

    /// Consumes what `pred` accepts, and returns it.
    pub fn take_while(&mut self, pred: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !pred(c)).unwrap_or(self.rest.len());
        self.advance(end)
    }

    fn advance(&mut self, len: usize) -> &'a str {
        let (head, tail) = self.rest.split_at(len);
        self.rest = tail;
        head
    }

    /// Consumes what separates elements: spaces and commas.
    pub fn skip_delimiters(&mut self) {
        self.take_while(|c| matches!(c, ',' | ' ' | '\t' | '\r' | '\n'));
    }

    /// An integer as C's `%i`: blanks before it are skipped, `0x` is hexadecimal, a leading zero octal; a sign wraps
    /// around.
    pub fn int(&mut self) -> Option<u64> {
        let text = self.rest.trim_ascii_start();
        let (negative, body) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let lower = body.get(..2).unwrap_or("");
        let (radix, digits) = match lower {
            "0x" | "0X" if body[2..].starts_with(|c: char| c.is_ascii_hexdigit()) => (16, &body[2..]),
            _ if body.starts_with('0') => (8, body),
            _ => (10, body),
        };
        let len = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let value = u64::from_str_radix(&digits[..len], radix).ok()?;
        let used = self.rest.len() - digits.len() + len;
        self.advance(used);
        Some(if negative { value.wrapping_neg() } else { value })
    }

    /// An integer that must fit the type, or be the negative of one that does.
    pub fn fit<T: TryFrom<u64>>(&mut self) -> Option<T> {
        let mut ahead = *self;
        let value = T::try_from(ahead.int()?).ok()?;
        *self = ahead;
        Some(value)
    }

    /// A hexadecimal integer, with or without `0x`.
    pub fn hex_int(&mut self) -> Option<u64> {
        let mut ahead = Self { rest: self.rest.trim_ascii_start() };
        if ahead.rest.starts_with("0x") || ahead.rest.starts_with("0X") {
            ahead.advance(2);
        }
        let digits = ahead.take_while(|c| c.is_ascii_hexdigit());
        let value = u64::from_str_radix(digits, 16).ok()?;
        *self = ahead;
        Some(value)
    }

    /// An integer of `N` bytes, big-endian; hexadecimal ones may have any number of digits that fit.
    pub fn wide<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.wide_bytes(N).and_then(|bytes| bytes.try_into().ok())
    }

    /// As [`Scan::wide`], with a length known at run time only.
    pub fn wide_bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut ahead = *self;
        let mut value = vec![0; len];
        if ahead.eat("0x") || ahead.eat("0X") {
            let digits = ahead.take_while(|c| c.is_ascii_hexdigit()).trim_start_matches('0');
            if digits.len() > 2 * len {
                return None;
            }
            for (place, digit) in digits.chars().rev().enumerate() {
                value[len - 1 - place / 2] |= (digit.to_digit(16)? as u8) << (4 * (place % 2));
            }
        } else {
            let bytes = ahead.int()?.to_be_bytes();
            let skip = bytes.len().saturating_sub(len);
            if bytes[..skip].iter().any(|&byte| byte != 0) {
                return None;
            }
            let kept = &bytes[skip..];
            value[len - kept.len()..].copy_from_slice(kept);
        }
        *self = ahead;
        Some(value)
    }

    /// An Ethernet address.
    pub fn eth(&mut self) -> Option<EthAddr> {
        let mut ahead = *self;
        let mut addr = EthAddr::default();
        for (place, byte) in addr.iter_mut().enumerate() {
            if place > 0 {
                ahead.want(":")?;
            }
            let digits =
                ahead.rest.len() - ahead.rest.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
            *byte = u8::from_str_radix(ahead.advance(digits.min(2)), 16).ok()?;
        }
        *self = ahead;
        Some(addr)
    }

    /// A dotted IPv4 address.
    pub fn ipv4(&mut self) -> Option<[u8; 4]> {
        let mut ahead = *self;
        let text = ahead.take_while(|c| c.is_ascii_digit() || c == '.');
        let mut octets = [0; 4];
        let mut parts = text.split('.');
        for octet in &mut octets {
            *octet = parts.next()?.parse().ok()?;
        }
        if parts.next().is_some() {
            return None;
        }
        *self = ahead;
        Some(octets)
    }

    /// An IPv6 address.
    pub fn ipv6(&mut self) -> Option<Ipv6> {
        let mut ahead = *self;
        let text = ahead.take_while(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
        let addr: Ipv6Addr = text.parse().ok()?;
        *self = ahead;
        Some(addr.octets())
    }

    /// Pairs of hexadecimal digits, blanks between them allowed.
    pub fn hex_pairs(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let mut ahead = *self;
            ahead.take_while(|c| c == ' ');
            let Some(byte) = ahead.rest.get(..2).and_then(|pair| u8::from_str_radix(pair, 16).ok()) else {
                return bytes;
            };
            ahead.advance(2);
            *self = ahead;
            bytes.push(byte);
        }
    }

    /// Flags up to `)`, which stays: `a|b` or `a,b`, numbers, `+a-b`, or `VALUE/MASK`. Returns bits and mask.
    pub fn flags(&mut self, allowed: u32, name: impl Fn(u32) -> Option<&'static str>) -> Option<(u32, u32)> {
        let mut ahead = *self;
        let result = ahead.numeric_flags().or_else(|| {
            if ahead.rest.starts_with(['+', '-']) {
                ahead.signed_flags(&name)
            } else {
                ahead.plain_flags(&name)
            }
        })?;
        let significant = if result.1 == u32::MAX { 0 } else { result.1 };
        if (result.0 | significant) & !allowed != 0 || ahead.peek() != Some(')') {
            return None;
        }
        *self = ahead;
        Some(result)
    }

    fn numeric_flags(&mut self) -> Option<(u32, u32)> {
        let mut ahead = *self;
        let bits = ahead.fit()?;
        ahead.want("/")?;
        let mask = ahead.fit()?;
        *self = ahead;
        Some((bits, mask))
    }

    fn signed_flags(&mut self, name: impl Fn(u32) -> Option<&'static str>) -> Option<(u32, u32)> {
        let (mut bits, mut mask) = (0, 0);
        while self.peek() != Some(')') {
            let set = self.eat("+");
            if !set {
                self.want("-")?;
            }
            let word = self.take_while(|c| !matches!(c, '+' | '-' | ')'));
            let bit = (0..u32::BITS).map(|shift| 1 << shift).find(|&bit| name(bit) == Some(word))?;
            if mask & bit != 0 {
                return None;
            }
            mask |= bit;
            bits |= if set { bit } else { 0 };
        }
        Some((bits, mask))
    }

    fn plain_flags(&mut self, name: impl Fn(u32) -> Option<&'static str>) -> Option<(u32, u32)> {
        let mut bits = 0;
        while self.peek()? != ')' {
            bits |= match self.fit() {
                Some(number) => number,
                None => {
                    let word = self.take_while(|c| !matches!(c, '|' | ',' | ')'));
                    (0..u32::BITS).map(|shift| 1 << shift).find(|&bit| name(bit) == Some(word))?
                }
            };
            let _ = self.eat("|") || self.eat(",");
        }
        Some((bits, u32::MAX))
    }
}

/// What separates keys from each other.
const BETWEEN: &[char] = &[',', ' ', '\t', '\r', '\n'];

/// Iterates over the keys of `key`, `key=value`, `key:value` and `key(value)`, separated by commas and white space.
///
/// A value in parentheses may nest them; `key(value)->rest` gives `value)->rest`.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a str,
}

impl<'a> Pairs<'a> {
    /// Over `text`.
    pub fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    fn take(&mut self, at: usize) -> &'a str {
        let (head, tail) = self.rest.split_at(at);
        let mut tail = tail.chars();
        tail.next();
        self.rest = tail.as_str();
        head
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start_matches(BETWEEN);
        if self.rest.is_empty() {
            return None;
        }
        let key_len = self.rest.find([':', '=', '(', ',', ' ', '\t', '\r', '\n']).unwrap_or(self.rest.len());
        let delimiter = self.rest[key_len..].chars().next();
        let key = self.take(key_len);
        let value = match delimiter {
            Some(':' | '=') => self.take(value_len(self.rest, BETWEEN)),
            Some('(') => {
                let mut len = value_len(self.rest, &[')']);
                if self.rest[len..].starts_with(")->") {
                    len += value_len(&self.rest[len..], BETWEEN);
                }
                self.take(len)
            }
            _ => "",
        };
        Some((key, value))
    }
}

/// How long the value at the start of `text` is: up to a delimiter outside parentheses.
fn value_len(text: &str, delimiters: &[char]) -> usize {
    let mut level = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '(' => level += 1,
            ')' if level > 0 => level -= 1,
            c if level == 0 && delimiters.contains(&c) => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flags_as_text() {
        assert_eq!(flags(0x6, tcp_flag, '|'), "syn|rst");
        assert_eq!(flags(0, tcp_flag, '|'), "0");
        assert_eq!(flags(0x1001, tcp_flag, ','), "fin,0x1000");
        assert_eq!(flags_masked(2, 3, 0xfff, tcp_flag), "-fin+syn");
        assert_eq!(flags_masked(2, 0xfff, 0xfff, tcp_flag), "syn");
        assert_eq!(flags_masked(2, 0, 0xfff, tcp_flag), "0/0");
        assert_eq!(Scan::new("syn|rst)").flags(0xfff, tcp_flag), Some((6, u32::MAX)));
        assert_eq!(Scan::new("+syn-rst)").flags(0xfff, tcp_flag), Some((2, 6)));
        assert_eq!(Scan::new("0x2/0x6)").flags(0xfff, tcp_flag), Some((2, 6)));
        assert_eq!(Scan::new("0x1000/0x6)").flags(0xfff, tcp_flag), None);
        assert_eq!(Scan::new("+syn+syn)").flags(0xfff, tcp_flag), None);
    }

    #[test]
    fn integers() {
        for (text, value, rest) in [
            ("12,", 12, ","),
            ("0x1f)", 31, ")"),
            ("010", 8, ""),
            ("0", 0, ""),
            ("-1", u64::MAX, ""),
            ("0xg", 0, "xg"),
        ] {
            let mut scan = Scan::new(text);
            assert_eq!(scan.int(), Some(value), "{text}");
            assert_eq!(scan.rest(), rest);
        }
        assert_eq!(Scan::new("x").int(), None);
        assert_eq!(Scan::new("256").fit::<u8>(), None);
        assert_eq!(Scan::new("0x0102").wide::<4>(), Some([0, 0, 1, 2]));
        assert_eq!(Scan::new("258").wide::<16>().map(|wide| wide[14..].to_vec()), Some(vec![1, 2]));
        assert_eq!(Scan::new("0x1ff").wide::<1>(), None);
    }

    #[test]
    fn addresses() {
        assert_eq!(ipv6(&Scan::new("::1").ipv6().unwrap()), "::1");
        assert_eq!(ipv6(&Scan::new("::1.2.3.4").ipv6().unwrap()), "::1.2.3.4");
        assert_eq!(ipv6(&Scan::new("::ffff:1.2.3.4").ipv6().unwrap()), "::ffff:1.2.3.4");
        assert_eq!(ipv6(&Scan::new("fe80::1:0:0:2").ipv6().unwrap()), "fe80::1:0:0:2");
        assert_eq!(
            Scan::new("a:b:0c:d:e:ff").eth().map(|addr| eth(&addr)).as_deref(),
            Some("0a:0b:0c:0d:0e:ff")
        );
        assert_eq!(hex_bytes(&[0, 10, 1]), "0xa01");
        assert_eq!(hex_bytes(&[0, 0]), "0");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_panics(text in "\\PC{0,20}") {
            let mut scan = Scan::new(&text);
            scan.int();
            scan.wide::<2>();
            scan.eth();
            scan.ipv4();
            scan.ipv6();
            scan.hex_pairs();
            scan.flags(u32::MAX, tcp_flag);
        }
    }
}
