//! JSON as OVS prints it: members sorted, reals with 15 digits, and its indented form.

mod tape;

use std::fmt::Write as _;

use serde_json::{Number, Value};

pub use tape::{Bad, Doc, Node, Scanner, Tape, fault};

/// What a JSON value is, without its inner values.
#[derive(Clone, PartialEq, Debug)]
pub enum Shape<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(&'a str),
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A JSON value, be it a tree or a [`Node`].
pub trait Json<'a>: Copy + 'a {
    /// What it is.
    fn shape(self) -> Shape<'a>;

    /// The elements of an array; of anything else there are none.
    fn items(self) -> impl ExactSizeIterator<Item = Self>;

    /// The members of an object, sorted by their distinct names; of anything else there are none.
    fn members(self) -> impl Iterator<Item = (&'a str, Self)>;

    /// True if an object has no members but some of these.
    fn has_only(self, names: &[&str]) -> bool {
        self.members().all(|(name, _)| names.contains(&name))
    }

    /// A member of an object.
    fn member(self, name: &str) -> Option<Self>;

    /// The string, if it is one.
    fn as_str(self) -> Option<&'a str>;

    /// The integer that it holds. A real without a fraction counts as one, as it does in OVS's reader.
    fn as_integer(self) -> Option<i64>;

    /// The boolean, if it is one.
    fn as_bool(self) -> Option<bool> {
        if let Shape::Bool(b) = self.shape() { Some(b) } else { None }
    }

    /// The number, if it is one.
    fn as_real(self) -> Option<f64> {
        if let Shape::Number(number) = self.shape() { number.as_f64() } else { None }
    }

    /// True for an array.
    fn is_array(self) -> bool {
        self.shape() == Shape::Array
    }

    /// True for an object.
    fn is_object(self) -> bool {
        self.shape() == Shape::Object
    }

    /// The elements of an array of exactly so many.
    fn array_of<const N: usize>(self) -> Option<[Self; N]> {
        let mut items = self.items();
        if items.len() != N || !self.is_array() {
            return None;
        }
        // As many as there are elements are asked for.
        let mut given = [self; N];
        for slot in &mut given {
            *slot = items.next()?;
        }
        Some(given)
    }
}

impl<'a> Json<'a> for &'a Value {
    fn shape(self) -> Shape<'a> {
        match self {
            Value::Null => Shape::Null,
            Value::Bool(b) => Shape::Bool(*b),
            Value::Number(number) => Shape::Number(number.clone()),
            Value::String(text) => Shape::String(text),
            Value::Array(_) => Shape::Array,
            Value::Object(_) => Shape::Object,
        }
    }

    fn items(self) -> impl ExactSizeIterator<Item = Self> {
        self.as_array().map_or(&[][..], Vec::as_slice).iter()
    }

    fn members(self) -> impl Iterator<Item = (&'a str, Self)> {
        self.as_object().into_iter().flatten().map(|(name, member)| (name.as_str(), member))
    }

    fn member(self, name: &str) -> Option<Self> {
        self.get(name)
    }

    fn as_str(self) -> Option<&'a str> {
        Value::as_str(self)
    }

    fn as_integer(self) -> Option<i64> {
        let Value::Number(number) = self else { return None };
        // A number past u63 that serde keeps as u64 is a real for OVS.
        number.as_i64().or_else(|| if number.is_u64() { None } else { whole(number.as_f64()?) })
    }
}

/// A real without a fraction as an integer.
fn whole(real: f64) -> Option<i64> {
    let is_whole =
        real.trunc() == real && (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&real);
    is_whole.then_some(real as i64)
}

/// Reads a JSON text. Strings must not hold a NUL, as OVS's cannot.
pub fn parse(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if text.contains("\\u0000") && has_nul(&value) {
        return Err(daemon::jsonrpc::NUL_TEXT.to_owned());
    }
    Ok(value)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, member)| name.contains('\0') || has_nul(member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `value` on one line, members sorted.
pub fn text<'a>(value: impl Json<'a>) -> String {
    let mut out = String::new();
    write_value(&mut out, value, None);
    out
}

/// `value` over several lines, two spaces a level.
pub fn pretty<'a>(value: impl Json<'a>) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Some(0));
    out
}

/// A JSON string with its quotes.
pub fn quoted(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    write_string(&mut out, s);
    out
}

/// The integer that `value` holds. A real without a fraction counts as one, as it does in OVS's reader.
pub fn integer<'a, J: Json<'a>>(value: J) -> Option<i64> {
    value.as_integer()
}

/// The elements of an array of two strings and anything: a clause of a condition, or a mutation.
pub fn named_triple<'a, J: Json<'a>>(value: J) -> Option<(&'a str, &'a str, J)> {
    let [first, second, third] = value.array_of()?;
    Some((first.as_str()?, second.as_str()?, third))
}

/// The name of a JSON value's type in OVS's error messages.
pub fn type_name<'a>(value: impl Json<'a>) -> &'static str {
    match value.shape() {
        Shape::Null => "null",
        Shape::Bool(false) => "false",
        Shape::Bool(true) => "true",
        Shape::Object => "object",
        Shape::Array => "array",
        Shape::Number(_) if value.as_integer().is_some() => "integer",
        Shape::Number(_) => "real",
        Shape::String(_) => "string",
    }
}

/// A finite real as a JSON number: an integer where it has no fraction and fits one.
pub fn real(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.trunc() == value && value.abs() < EXACT {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// C's `%.*g`.
pub fn format_g(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = i32::try_from(precision).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(limit - 1 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

fn write_value<'a, J: Json<'a>>(out: &mut String, value: J, indent: Option<usize>) {
    match value.shape() {
        Shape::Null => out.push_str("null"),
        Shape::Bool(b) => out.push_str(if b { "true" } else { "false" }),
        Shape::Number(n) => write_number(out, &n),
        Shape::String(s) => write_string(out, s),
        Shape::Array => {
            out.push('[');
            let inner = indent.map(|depth| depth + 1);
            for (i, item) in value.items().enumerate() {
                separate(out, i, inner);
                write_value(out, item, inner);
            }
            out.push(']');
        }
        Shape::Object => {
            out.push('{');
            let inner = indent.map(|depth| depth + 1);
            let mut n = 0;
            for (name, member) in value.members() {
                separate(out, n, inner);
                n += 1;
                write_string(out, name);
                out.push_str(if indent.is_some() { ": " } else { ":" });
                write_value(out, member, inner);
            }
            if n == 0 {
                separate(out, 0, inner);
            }
            out.push('}');
        }
    }
}

fn separate(out: &mut String, index: usize, indent: Option<usize>) {
    if index > 0 {
        out.push(',');
    }
    if let Some(depth) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', 2 * depth));
    }
}

fn write_number(out: &mut String, number: &Number) {
    if let Some(i) = number.as_i64() {
        let _ = write!(out, "{i}");
        return;
    }
    let real = number.as_f64().unwrap_or(0.0);
    out.push_str(&format_g(real, 15));
}

/// Appends an integer.
pub fn write_integer(out: &mut String, value: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a remainder of ten");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
}

/// Appends a finite real so that reading gives the same one.
pub fn write_real(out: &mut String, value: f64) {
    let _ = write!(out, "{}", real(value));
}

/// Appends a JSON string with its quotes.
pub fn write_string(out: &mut String, s: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in s.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            8 => "\\b",
            12 => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..32 => "",
            _ => continue,
        };
        out.push_str(&s[plain..at]);
        plain = at + 1;
        out.push_str(escape);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        }
    }
    out.push_str(&s[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_is_refused() {
        assert_eq!(parse("[\"\\u0000\"]"), Err("null bytes not supported in quoted strings".to_owned()));
        assert_eq!(parse("[\"\\\\u0000\"]"), Ok(json!(["\\u0000"])));
    }

    #[test]
    fn one_line_is_sorted_and_escaped() {
        let value = json!({"b": [1, 2.5, "x\"\n\u{1}é"], "a": {}, "c": null, "d": true});
        assert_eq!(text(&value), r#"{"a":{},"b":[1,2.5,"x\"\n\u0001é"],"c":null,"d":true}"#);
    }

    #[test]
    fn indented_form_closes_on_the_last_line() {
        let value = json!({"a": [1, {"b": 2}], "c": [], "d": {}});
        assert_eq!(
            pretty(&value),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2}],\n  \"c\": [],\n  \"d\": {\n    }}"
        );
    }

    #[test]
    fn reals_print_as_c_does() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (1e37, "1e+37"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456_789_012_345_680.0, "1.23456789012346e+17"),
            (0.1, "0.1"),
        ];
        for (real, expected) in cases {
            assert_eq!(format_g(real, 15), expected);
        }
        assert_eq!(text(&json!([0.1 + 0.2])), "[0.3]");
    }

    #[test]
    fn whole_reals_are_integers() {
        assert_eq!(integer(&json!(3.0)), Some(3));
        assert_eq!(integer(&json!(3.5)), None);
        assert_eq!(integer(&json!(u64::MAX)), None);
        assert_eq!(integer(&json!(1e30)), None);
        assert_eq!(text(&real(4.0)), "4");
    }
}
