//! The text forms of atoms and data that people write and read on command lines.
//!
//! The quoted form reads back; the *bare* form, for scripts, leaves out quotes and brackets.

use std::fmt::Write as _;

use crate::error::{Error, Result};
use crate::json::{format_g, quoted};
use crate::symbols::Symbols;
use crate::types::{AtomicType, BaseType, Type};
use crate::value::{Atom, Datum, Uuid, sorted_map, sorted_set};

/// Most integers that one `A-B` range may stand for.
const MAX_RANGE: u64 = 4096;

/// An atom that [`parse_atom`] reads back.
pub fn atom(atom: &Atom) -> String {
    match atom {
        Atom::Integer(i) => i.to_string(),
        Atom::Real(r) => format_g(*r, 15),
        Atom::Boolean(b) => b.to_string(),
        Atom::String(s) if needs_quotes(s) => quoted(s),
        Atom::String(s) => s.to_string(),
        Atom::Uuid(u) => u.to_string(),
    }
}

/// An atom for scripts.
pub fn atom_bare(value: &Atom) -> String {
    match value {
        Atom::String(s) => s.to_string(),
        Atom::Integer(_) | Atom::Real(_) | Atom::Boolean(_) | Atom::Uuid(_) => atom(value),
    }
}

fn needs_quotes(s: &str) -> bool {
    let mut bytes = s.bytes();
    !bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        || matches!(s, "true" | "false")
        || s.parse::<Uuid>().is_ok()
}

/// A datum of type `kind` that [`parse_datum`] reads back.
pub fn datum(kind: &Type, datum: &Datum) -> String {
    let body = join(datum, ", ", atom);
    if kind.max == 1 && !datum.is_empty() {
        return body;
    }
    if kind.is_map() { format!("{{{body}}}") } else { format!("[{body}]") }
}

/// A datum for scripts.
pub fn datum_bare(datum: &Datum) -> String {
    join(datum, " ", atom_bare)
}

fn join(datum: &Datum, separator: &str, atom: fn(&Atom) -> String) -> String {
    let mut out = String::new();
    for (i, key) in datum.keys().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        out.push_str(&atom(key));
        if let Some((_, value)) = datum.pairs().get(i) {
            let _ = write!(out, "={}", atom(value));
        }
    }
    out
}

/// True for the characters that end a token outside quotes.
pub fn is_delimiter(c: char) -> bool {
    matches!(c, ':' | '=' | ',' | ' ' | '[' | ']' | '{' | '}' | '!' | '<' | '>')
}

/// Splits a token off `input`: quoted parts keep their quotes, `\` takes the next character as it is.
/// Returns the token and the rest.
pub fn token(input: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut in_quotes = false;
    let mut chars = input.char_indices();
    let mut end = input.len();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            if in_quotes {
                out.push('\\');
            }
            let Some((_, next)) = chars.next() else {
                return Err(format!("{input}: backslash at end of argument"));
            };
            out.push(next);
        } else if !in_quotes && is_delimiter(c) {
            end = at;
            break;
        } else {
            out.push(c);
            in_quotes ^= c == '"';
        }
    }
    if in_quotes {
        return Err(format!("{input}: quoted string extends past end of argument"));
    }
    Ok((out, &input[end..]))
}

/// Parses `text` as an atom of `base`. With `symbols`, `@name` stands for a row to be.
pub fn parse_atom(base: &BaseType, text: &str, symbols: Option<&mut Symbols>) -> Result<Atom, String> {
    let (atom, end) = parse_range(base, text, symbols, false)?;
    debug_assert!(end.is_none());
    Ok(atom)
}

/// An atom, or the two ends of a range of integers.
fn parse_range(
    base: &BaseType,
    text: &str,
    symbols: Option<&mut Symbols>,
    ranges: bool,
) -> Result<(Atom, Option<i64>), String> {
    let mut end = None;
    let value = match base.kind() {
        AtomicType::Integer => {
            let (first, last) = parse_integers(text, ranges)?;
            end = last;
            Atom::Integer(first)
        }
        AtomicType::Real => match parse_real(text) {
            Some(real) => Atom::from(real),
            None => return Err(format!("\"{text}\" is not a valid real number")),
        },
        AtomicType::Boolean => match text {
            "true" | "yes" | "on" | "1" => Atom::Boolean(true),
            "false" | "no" | "off" | "0" => Atom::Boolean(false),
            _ => return Err(format!("\"{text}\" is not a valid boolean (use \"true\" or \"false\")")),
        },
        AtomicType::String => Atom::from(parse_string(text)?),
        AtomicType::Uuid => Atom::Uuid(match (symbols, text.starts_with('@')) {
            (Some(symbols), true) => symbols.refer(text, base),
            _ => text.parse().map_err(|_| format!("\"{text}\" is not a valid UUID"))?,
        }),
    };
    let checked = match end {
        Some(end) => check_range(base, &value, end),
        None => base.check(&value),
    };
    checked.map(|()| (value, end)).map_err(|error| error.to_string())
}

fn check_range(base: &BaseType, first: &Atom, end: i64) -> Result<()> {
    let start = first.as_integer().unwrap_or_default();
    if end.wrapping_sub(start).cast_unsigned() >= MAX_RANGE {
        return Err(Error::constraint(format!(
            "Range \"{start}-{end}\" is too big. Maximum allowed size is {MAX_RANGE}."
        )));
    }
    (start..=end).try_for_each(|i| base.check(&Atom::Integer(i)))
}

fn parse_integers(text: &str, ranges: bool) -> Result<(i64, Option<i64>), String> {
    if let Ok(single) = text.trim_start().trim_start_matches('+').parse() {
        return Ok((single, None));
    }
    // The dash of a range is not the sign of its first number.
    let dash = text.char_indices().skip(1).find(|&(_, c)| c == '-').map(|(at, _)| at);
    let both =
        dash.and_then(|at| Some((text[..at].parse::<i64>().ok()?, text[at + 1..].parse::<i64>().ok()?)));
    match both {
        Some((first, last)) if ranges && last < first => {
            Err(format!("\"{text}\" is not a valid range. Range end cannot be before start."))
        }
        Some((first, last)) if ranges => Ok((first, Some(last))),
        _ => Err(format!("\"{text}\" is not a valid integer or range")),
    }
}

fn parse_real(text: &str) -> Option<f64> {
    let real: f64 = text.trim_start().parse().ok()?;
    real.is_finite().then_some(real)
}

fn parse_string(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(
            "An empty string is not valid as input; use \"\" to represent the empty string".to_owned()
        );
    }
    if !text.starts_with('"') {
        return Ok(text.to_owned());
    }
    if text.len() < 2 || !text.ends_with('"') {
        return Err(format!("{text}: missing quote at end of quoted string"));
    }
    unescape(&text[1..text.len() - 1]).map_err(|problem| format!("{text}: {problem}"))
}

/// Undoes JSON's escapes in what stood between two quotes.
fn unescape(inner: &str) -> Result<String, String> {
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Err("quoted string may not include unescaped \"".to_owned()),
            c if u32::from(c) < 32 => {
                return Err("unescaped control characters not allowed in quoted string".to_owned());
            }
            '\\' => out.push(unescape_one(&mut chars)?),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn unescape_one(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    Ok(match chars.next() {
        Some(c @ ('"' | '\\' | '/')) => c,
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => return unescape_unicode(chars),
        Some(c) => return Err(format!("bad escape \\{c}")),
        None => return Err("quoted string may not end with backslash".to_owned()),
    })
}

fn unescape_unicode(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    let malformed = || "malformed \\u escape".to_owned();
    let unit = |chars: &mut std::str::Chars<'_>| {
        let mut code = 0_u32;
        for _ in 0..4 {
            let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or_else(malformed)?;
            code = code * 16 + digit;
        }
        Ok::<u32, String>(code)
    };
    let first = unit(chars)?;
    if first == 0 {
        return Err("null bytes not supported in quoted strings".to_owned());
    }
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).ok_or_else(|| "unpaired surrogate".to_owned());
    }
    if chars.next() != Some('\\') || chars.next() != Some('u') {
        return Err("malformed escaped surrogate pair".to_owned());
    }
    let second = unit(chars)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err("second half of escaped surrogate pair is not trailing surrogate".to_owned());
    }
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    char::from_u32(code).ok_or_else(malformed)
}

/// Parses `text` as a datum of `kind`: atoms or `key=value` pairs with spaces or commas between them, optionally in
/// brackets or braces. With `symbols`, `@name` stands for a row to be.
pub fn parse_datum(kind: &Type, text: &str, mut symbols: Option<&mut Symbols>) -> Result<Datum, String> {
    let (open, close) = if kind.is_map() { ('{', '}') } else { ('[', ']') };
    let mut rest = text.trim_start_matches(' ');
    let bracketed = rest.starts_with(open);
    if bracketed {
        rest = rest[1..].trim_start_matches(' ');
    } else if rest.is_empty() {
        let what = if kind.is_map() { "map" } else { "set" };
        return Err(format!("use \"{open}{close}\" to specify the empty {what}"));
    }
    let mut atoms = Vec::new();
    let mut pairs = Vec::new();
    while let Some(c) = rest.chars().next().filter(|&c| !(bracketed && c == close)) {
        if is_delimiter(c) {
            return Err(format!("{text}: unexpected \"{c}\" parsing {kind}"));
        }
        rest = element(kind, rest, symbols.as_deref_mut(), &mut atoms, &mut pairs)?.trim_start_matches(' ');
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start_matches(' ');
        }
    }
    if bracketed {
        let Some(after) = rest.strip_prefix(close) else {
            return Err(format!("{text}: missing \"{close}\" at end of data"));
        };
        if !after.trim_start_matches(' ').is_empty() {
            return Err(format!("{text}: trailing garbage after \"{close}\""));
        }
    }
    finish_datum(kind, text, atoms, pairs)
}

/// One atom, range or pair off the front of `input`; returns the rest.
fn element<'a>(
    kind: &Type,
    input: &'a str,
    mut symbols: Option<&mut Symbols>,
    atoms: &mut Vec<Atom>,
    pairs: &mut Vec<(Atom, Atom)>,
) -> Result<&'a str, String> {
    let (key_text, rest) = token(input)?;
    let (key, end) = parse_range(&kind.key, &key_text, symbols.as_deref_mut(), true)?;
    let keys: Vec<Atom> = match (key.as_integer(), end) {
        (Some(start), Some(end)) => (start..=end).map(Atom::Integer).collect(),
        _ => vec![key],
    };
    let Some(value_type) = &kind.value else {
        atoms.extend(keys);
        return Ok(rest);
    };
    let rest = rest.trim_start_matches(' ');
    let Some(rest) = rest.strip_prefix('=') else {
        let found = rest.chars().next().unwrap_or('\0');
        return Err(format!("{input}: syntax error at \"{found}\" expecting \"=\""));
    };
    let (value_text, rest) = token(rest.trim_start_matches(' '))?;
    let value = parse_atom(value_type, &value_text, symbols)?;
    pairs.extend(keys.into_iter().map(|key| (key, value.clone())));
    Ok(rest)
}

fn finish_datum(
    kind: &Type,
    text: &str,
    atoms: Vec<Atom>,
    pairs: Vec<(Atom, Atom)>,
) -> Result<Datum, String> {
    let (n, class) = if kind.is_map() { (pairs.len(), "pair(s)") } else { (atoms.len(), "value(s)") };
    if n < kind.min as usize {
        return Err(format!("{text}: {n} {class} specified but the minimum number is {}", kind.min));
    }
    if n > kind.max as usize {
        return Err(format!("{text}: {n} {class} specified but the maximum number is {}", kind.max));
    }
    if kind.is_map() {
        sorted_map(pairs).map_err(|_| format!("{text}: map contains duplicate key"))
    } else {
        sorted_set(atoms).map_err(|_| format!("{text}: set contains duplicate value"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn kind(value: serde_json::Value) -> Type {
        Type::from_json(&value).unwrap()
    }

    fn strings() -> Type {
        Type::any_set(AtomicType::String)
    }

    fn map() -> Type {
        kind(json!({"key": "string", "value": "integer", "min": 0, "max": "unlimited"}))
    }

    #[test]
    fn data_print() {
        let words = Datum::set(["a-b", "true", "", "x y", "é"]);
        assert_eq!(datum(&strings(), &words), "[\"\", a-b, \"true\", \"x y\", \"é\"]");
        assert_eq!(datum_bare(&words), " a-b true x y é");
        assert_eq!(datum(&map(), &Datum::map([("a", 1), ("b", -2)])), "{a=1, b=-2}");
        assert_eq!(datum(&map(), &Datum::empty_map()), "{}");
        assert_eq!(datum(&Type::scalar(AtomicType::Real), &Datum::one(1.5)), "1.5");
        let optional = kind(json!({"key": "string", "min": 0}));
        assert_eq!(datum(&optional, &Datum::empty_set()), "[]");
        assert_eq!(datum(&optional, &Datum::one("x")), "x");
    }

    #[test]
    fn data_parse() {
        let parse = |text: &str| parse_datum(&strings(), text, None);
        assert_eq!(parse("a b,c"), Ok(Datum::set(["a", "b", "c"])));
        assert_eq!(parse("[\"x, y\", \\[z]"), Ok(Datum::set(["x, y", "[z"])));
        assert_eq!(parse("[]"), Ok(Datum::empty_set()));
        assert_eq!(parse_datum(&map(), "{a = 1, b=2}", None), Ok(Datum::map([("a", 1), ("b", 2)])));
        let ints = Type::any_set(AtomicType::Integer);
        assert_eq!(parse_datum(&ints, "5,1-3,-4--2", None), Ok(Datum::set([-4, -3, -2, 1, 2, 3, 5])));
    }

    #[test]
    fn faults_are_named() {
        let fault = |kind: &Type, text: &str| parse_datum(kind, text, None).unwrap_err();
        assert_eq!(fault(&strings(), ""), "use \"[]\" to specify the empty set");
        assert_eq!(fault(&map(), ""), "use \"{}\" to specify the empty map");
        assert_eq!(fault(&strings(), "a]"), "a]: unexpected \"]\" parsing set of strings");
        assert_eq!(fault(&strings(), "[a"), "[a: missing \"]\" at end of data");
        assert_eq!(fault(&strings(), "[a] b"), "[a] b: trailing garbage after \"]\"");
        assert_eq!(fault(&strings(), "a a"), "a a: set contains duplicate value");
        assert_eq!(fault(&strings(), "\"a"), "\"a: quoted string extends past end of argument");
        assert_eq!(fault(&strings(), "a\\"), "a\\: backslash at end of argument");
        assert_eq!(fault(&map(), "a=1 b:2"), "b:2: syntax error at \":\" expecting \"=\"");
        assert_eq!(fault(&map(), "a=x"), "\"x\" is not a valid integer or range");
        let one = Type::scalar(AtomicType::Integer);
        assert_eq!(fault(&one, "1 2"), "1 2: 2 value(s) specified but the maximum number is 1");
        assert_eq!(fault(&one, "[]"), "[]: 0 value(s) specified but the minimum number is 1");
        assert_eq!(fault(&one, "3-1"), "\"3-1\" is not a valid range. Range end cannot be before start.");
        assert_eq!(
            fault(&one, "1-5000"),
            "constraint violation: Range \"1-5000\" is too big. Maximum allowed size is 4096."
        );
        let yes = Type::scalar(AtomicType::Boolean);
        assert_eq!(fault(&yes, "maybe"), "\"maybe\" is not a valid boolean (use \"true\" or \"false\")");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_is_printed_reads_back(words in proptest::collection::vec("[ -~é\u{1}-\u{1f}]{0,6}", 1..5)) {
            let set = Datum::set(words.iter().map(String::as_str));
            prop_assert_eq!(parse_datum(&strings(), &datum(&strings(), &set), None), Ok(set));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,20}") {
            for kind in AtomicType::ALL {
                let _ = parse_datum(&Type::any_set(kind), &text, None);
            }
            let _ = parse_datum(&map(), &text, None);
        }
    }
}
