//! JSON without a tree: what a text says as a row of tokens, which point into the text. A request or a row is looked at
//! once and thrown away, so that the parts of a tree, each with memory of its own, would cost more than all the rest.
//!
//! What is accepted is what serde_json accepts, whose words are used for what is wrong.

use serde_json::{Map, Number, Value};
use smallvec::SmallVec;

use super::{Json, Shape};

/// How deeply arrays and objects may nest.
const MAX_DEPTH: usize = 127;

/// One value, the elements of an array or object following it. The name of a member is a string before its value.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Token {
    Null,
    Bool(bool),
    Integer(i64),
    /// A whole number above what an integer holds.
    Large(u64),
    Real(f64),
    /// Where in the text it stands, without escapes.
    String {
        at: u32,
        len: u32,
    },
    /// Where in [`Tape::unescaped`] it stands, for it has escapes.
    Unescaped {
        at: u32,
        len: u32,
    },
    /// So many elements, and after which token they end.
    Array {
        n: u32,
        end: u32,
    },
    /// So many members, and after which token they end.
    Object {
        n: u32,
        end: u32,
    },
}

const _: () = assert!(size_of::<Token>() == 16);

/// The tokens of a text.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tape {
    tokens: Vec<Token>,
    unescaped: String,
}

impl Tape {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.unescaped.clear();
    }

    /// The first value, which was read from `text`.
    pub fn first<'a>(&'a self, text: &'a str) -> Option<Node<'a>> {
        (!self.tokens.is_empty()).then_some(Node { text, tape: self, at: 0 })
    }

    fn end_of(&self, at: usize) -> usize {
        match self.tokens[at] {
            Token::Array { end, .. } | Token::Object { end, .. } => end as usize,
            _ => at + 1,
        }
    }
}

/// A value in a text.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    text: &'a str,
    tape: &'a Tape,
    at: u32,
}

impl<'a> Node<'a> {
    fn token(self) -> Token {
        self.tape.tokens[self.at as usize]
    }

    fn end(self) -> u32 {
        // Tokens are numbered in 32 bits: `Scanner` sees to it.
        u32::try_from(self.tape.end_of(self.at as usize)).unwrap_or(u32::MAX)
    }

    fn string(self, token: Token) -> Option<&'a str> {
        match token {
            Token::String { at, len } => Some(&self.text[at as usize..(at + len) as usize]),
            Token::Unescaped { at, len } => Some(&self.tape.unescaped[at as usize..(at + len) as usize]),
            _ => None,
        }
    }

    fn inner(self, n: u32) -> Inner<'a> {
        Inner { next: Node { at: self.at + 1, ..self }, left: n as usize }
    }

    /// Members as they come, perhaps several of one name.
    fn pairs(self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let n = if let Token::Object { n, .. } = self.token() { n } else { 0 };
        let mut at = self.at + 1;
        (0..n).map(move |_| {
            let name = Node { at, ..self };
            let value = Node { at: at + 1, ..self };
            at = value.end();
            (name.string(name.token()).unwrap_or_default(), value)
        })
    }

    /// The value as a tree.
    pub fn to_value(self) -> Value {
        match self.shape() {
            Shape::Null => Value::Null,
            Shape::Bool(b) => Value::Bool(b),
            Shape::Number(number) => Value::Number(number),
            Shape::String(text) => Value::String(text.to_owned()),
            Shape::Array => Value::Array(self.items().map(Node::to_value).collect()),
            Shape::Object => {
                let members = self.pairs().map(|(name, value)| (name.to_owned(), value.to_value()));
                Value::Object(Map::from_iter(members))
            }
        }
    }
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::text(*self))
    }
}

/// The elements of an array.
struct Inner<'a> {
    next: Node<'a>,
    left: usize,
}

impl<'a> Iterator for Inner<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        self.left = self.left.checked_sub(1)?;
        let node = self.next;
        self.next.at = node.end();
        Some(node)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Inner<'_> {}

impl<'a> Json<'a> for Node<'a> {
    fn shape(self) -> Shape<'a> {
        match self.token() {
            Token::Null => Shape::Null,
            Token::Bool(b) => Shape::Bool(b),
            Token::Integer(i) => Shape::Number(i.into()),
            Token::Large(u) => Shape::Number(u.into()),
            // Reals of a text are finite.
            Token::Real(r) => Number::from_f64(r).map_or(Shape::Null, Shape::Number),
            token @ (Token::String { .. } | Token::Unescaped { .. }) => {
                Shape::String(self.string(token).unwrap_or_default())
            }
            Token::Array { .. } => Shape::Array,
            Token::Object { .. } => Shape::Object,
        }
    }

    fn items(self) -> impl ExactSizeIterator<Item = Self> {
        self.inner(if let Token::Array { n, .. } = self.token() { n } else { 0 })
    }

    fn members(self) -> impl Iterator<Item = (&'a str, Self)> {
        let mut members: SmallVec<[_; 8]> = self.pairs().collect();
        // Of several with one name the last counts.
        members.reverse();
        members.sort_by_key(|&(name, _)| name);
        members.dedup_by_key(|&mut (name, _)| name);
        members.into_iter()
    }

    fn has_only(self, names: &[&str]) -> bool {
        self.pairs().all(|(name, _)| names.contains(&name))
    }

    fn member(self, name: &str) -> Option<Self> {
        self.pairs().filter(|(other, _)| *other == name).last().map(|(_, value)| value)
    }

    fn as_str(self) -> Option<&'a str> {
        self.string(self.token())
    }

    fn as_integer(self) -> Option<i64> {
        match self.token() {
            Token::Integer(i) => Some(i),
            Token::Real(r) => super::whole(r),
            _ => None,
        }
    }
}

/// One or more texts with their tokens.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Doc {
    text: String,
    tape: Tape,
}

impl Doc {
    /// Reads texts that stand one after the other, with nothing but white space between them.
    ///
    /// # Errors
    /// What was read before the fault, and the fault of the text that is none.
    pub fn read(bytes: Vec<u8>, ends: &[usize]) -> Result<Self, (Self, serde_json::Error)> {
        let mut tape = Tape::default();
        let (text, bad) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                let wrong = bytes.split_off(bytes.len().min(start_of(ends, valid)));
                (String::from_utf8(bytes).unwrap_or_default(), Some(wrong))
            }
        };
        let mut start = 0;
        for &end in ends.iter().take_while(|&&end| end <= text.len()) {
            let known = tape.tokens.len();
            let is_read = text.get(..end.max(start)).is_some_and(|text| {
                let mut scanner = Scanner { text, at: start };
                scanner.value(&mut tape).is_ok() && scanner.is_at_end()
            });
            if !is_read {
                tape.tokens.truncate(known);
                let fault = fault(text.as_bytes().get(start..end).unwrap_or_default());
                return Err((Self { text, tape }, fault));
            }
            start = end;
        }
        let doc = Self { text, tape };
        match bad {
            None => Ok(doc),
            Some(wrong) => {
                let first = ends.iter().find(|&&end| end > start).map_or(wrong.len(), |end| end - start);
                Err((doc, fault(&wrong[..first.min(wrong.len())])))
            }
        }
    }

    /// Reads one text.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        Self::read(text.as_bytes().to_vec(), &[text.len()]).map_err(|(_, fault)| fault)
    }

    /// A copy of one value.
    pub fn copy_of(node: Node<'_>) -> Self {
        let mut doc = Self::default();
        doc.copy(node);
        doc
    }

    /// The values in it.
    pub fn roots(&self) -> impl Iterator<Item = Node<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let node = Node { text: &self.text, tape: &self.tape, at };
            (node.at < u32::try_from(self.tape.tokens.len()).unwrap_or(u32::MAX)).then(|| {
                at = node.end();
                node
            })
        })
    }

    /// The first value in it, of which there is one unless nothing was read.
    pub fn root(&self) -> Option<Node<'_>> {
        self.tape.first(&self.text)
    }

    /// Where `text` is put: strings are short of 4 GiB together, as what arrives is.
    fn put(&mut self, text: &str) -> Token {
        let at = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.text.push_str(text);
        Token::String { at, len: u32::try_from(text.len()).unwrap_or(u32::MAX) }
    }

    fn copy<'a>(&mut self, value: impl Json<'a>) {
        let place = self.tape.tokens.len();
        let token = match value.shape() {
            Shape::Null => Token::Null,
            Shape::Bool(b) => Token::Bool(b),
            Shape::Number(number) => token_of(&number),
            Shape::String(text) => self.put(text),
            Shape::Array | Shape::Object => Token::Null,
        };
        self.tape.tokens.push(token);
        let mut n = 0;
        let is_object = matches!(value.shape(), Shape::Object);
        if is_object {
            for (name, member) in value.members() {
                let name = self.put(name);
                self.tape.tokens.push(name);
                self.copy(member);
                n += 1;
            }
        } else {
            for item in value.items() {
                self.copy(item);
                n += 1;
            }
        }
        let end = u32::try_from(self.tape.tokens.len()).unwrap_or(u32::MAX);
        match value.shape() {
            Shape::Object => self.tape.tokens[place] = Token::Object { n, end },
            Shape::Array => self.tape.tokens[place] = Token::Array { n, end },
            _ => {}
        }
    }
}

impl From<&Value> for Doc {
    fn from(value: &Value) -> Self {
        let mut doc = Self::default();
        doc.copy(value);
        doc
    }
}

fn token_of(number: &Number) -> Token {
    match (number.as_i64(), number.as_u64()) {
        (Some(i), _) => Token::Integer(i),
        (None, Some(u)) => Token::Large(u),
        (None, None) => Token::Real(number.as_f64().unwrap_or_default()),
    }
}

/// Where the text begins that has the byte at `at`.
fn start_of(ends: &[usize], at: usize) -> usize {
    ends.iter().copied().take_while(|&end| end <= at).last().unwrap_or(0)
}

/// What serde_json says is wrong with a text.
pub fn fault(text: &[u8]) -> serde_json::Error {
    match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
        Err(error) => error,
        // It skips what it ignores; a tree it reads thoroughly.
        Ok(_) => match serde_json::from_slice::<Value>(text) {
            Err(error) => error,
            Ok(_) => serde::de::Error::custom("text is too long"),
        },
    }
}

/// The text is no JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bad;

/// Reads a text from front to back.
#[derive(Debug)]
pub struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    /// At the start of a text.
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The next byte that is no white space, without taking it.
    pub fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let n = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.at += n;
        rest.get(n).copied()
    }

    /// Takes the next byte that is no white space, if it is this one.
    pub fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// True if only white space is left.
    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Takes a value and adds its tokens.
    pub fn value(&mut self, tape: &mut Tape) -> Result<(), Bad> {
        self.nested(tape, MAX_DEPTH)
    }

    /// Takes a string with the colon behind it: the name of a member.
    pub fn name<'a>(&mut self, tape: &'a mut Tape) -> Result<&'a str, Bad>
    where
        't: 'a,
    {
        if self.peek() != Some(b'"') {
            return Err(Bad);
        }
        self.at += 1;
        let token = self.string(tape)?;
        if !self.take(b':') {
            return Err(Bad);
        }
        let node = Node { text: self.text, tape, at: 0 };
        node.string(token).ok_or(Bad)
    }

    fn nested(&mut self, tape: &mut Tape, depth: usize) -> Result<(), Bad> {
        let token = match self.peek().ok_or(Bad)? {
            b'"' => {
                self.at += 1;
                self.string(tape)?
            }
            open @ (b'{' | b'[') => {
                self.at += 1;
                return self.container(tape, open == b'{', depth.checked_sub(1).ok_or(Bad)?);
            }
            b't' => self.word("true", Token::Bool(true))?,
            b'f' => self.word("false", Token::Bool(false))?,
            b'n' => self.word("null", Token::Null)?,
            _ => self.number()?,
        };
        tape.tokens.push(token);
        Ok(())
    }

    fn container(&mut self, tape: &mut Tape, is_object: bool, depth: usize) -> Result<(), Bad> {
        let close = if is_object { b'}' } else { b']' };
        let place = tape.tokens.len();
        tape.tokens.push(Token::Null);
        let mut n = 0;
        while !self.take(close) {
            if n > 0 && !self.take(b',') {
                return Err(Bad);
            }
            if is_object {
                if !self.take(b'"') {
                    return Err(Bad);
                }
                let name = self.string(tape)?;
                tape.tokens.push(name);
                if !self.take(b':') {
                    return Err(Bad);
                }
            }
            self.nested(tape, depth)?;
            n += 1;
        }
        let end = u32::try_from(tape.tokens.len()).map_err(|_| Bad)?;
        tape.tokens[place] = if is_object { Token::Object { n, end } } else { Token::Array { n, end } };
        Ok(())
    }

    fn word(&mut self, word: &str, token: Token) -> Result<Token, Bad> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Bad);
        }
        self.at += word.len();
        Ok(token)
    }

    /// Takes a string whose opening quote is taken.
    fn string(&mut self, tape: &mut Tape) -> Result<Token, Bad> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        loop {
            match bytes.get(self.at).ok_or(Bad)? {
                b'"' => break,
                b'\\' => return self.escaped(tape, start),
                0..32 => return Err(Bad),
                _ => self.at += 1,
            }
        }
        let len = self.at - start;
        self.at += 1;
        let (at, len) = (u32::try_from(start).map_err(|_| Bad)?, u32::try_from(len).map_err(|_| Bad)?);
        at.checked_add(len).ok_or(Bad)?;
        Ok(Token::String { at, len })
    }

    /// Takes the rest of a string from its first escape on.
    fn escaped(&mut self, tape: &mut Tape, start: usize) -> Result<Token, Bad> {
        let out = &mut tape.unescaped;
        let place = out.len();
        out.push_str(&self.text[start..self.at]);
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.bytes().position(|b| matches!(b, b'"' | b'\\' | 0..32)).ok_or(Bad)?;
            out.push_str(&rest[..plain]);
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' => break,
                b'\\' => out.push(self.escape()?),
                _ => return Err(Bad),
            }
        }
        let (at, end) = (u32::try_from(place).map_err(|_| Bad)?, u32::try_from(out.len()).map_err(|_| Bad)?);
        Ok(Token::Unescaped { at, len: end - at })
    }

    fn escape(&mut self) -> Result<char, Bad> {
        let byte = *self.text.as_bytes().get(self.at).ok_or(Bad)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.digits()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first).ok_or(Bad);
                }
                if !self.text[self.at..].starts_with("\\u") {
                    return Err(Bad);
                }
                self.at += 2;
                let second = self.digits()?;
                let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400).ok_or(Bad)?;
                char::from_u32(0x10000 + ((first - 0xd800) << 10) + low).ok_or(Bad)?
            }
            _ => return Err(Bad),
        })
    }

    /// Four hexadecimal digits.
    fn digits(&mut self) -> Result<u32, Bad> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(Bad)?;
        self.at += 4;
        digits.iter().try_fold(0, |sum, &digit| {
            char::from(digit).to_digit(16).map(|digit| sum << 4 | digit).ok_or(Bad)
        })
    }

    fn number(&mut self) -> Result<Token, Bad> {
        let rest = &self.text.as_bytes()[self.at..];
        let negative = rest[0] == b'-';
        let mut n = usize::from(negative);
        let first = n;
        let mut whole = Some(0_u64);
        while let Some(digit @ b'0'..=b'9') = rest.get(n) {
            whole = whole.and_then(|whole| whole.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            n += 1;
        }
        if n == first || (rest[first] == b'0' && n > first + 1) {
            return Err(Bad);
        }
        let has_fraction = rest.get(n) == Some(&b'.');
        if has_fraction {
            n = digits_from(rest, n + 1)?;
        }
        let has_exponent = matches!(rest.get(n), Some(b'e' | b'E'));
        if has_exponent {
            n += 1;
            n += usize::from(matches!(rest.get(n), Some(b'+' | b'-')));
            n = digits_from(rest, n)?;
        }
        let text = &self.text[self.at..self.at + n];
        self.at += n;
        if let (Some(whole), false, false) = (whole, has_fraction, has_exponent) {
            match (negative, i64::try_from(whole)) {
                (false, Ok(whole)) => return Ok(Token::Integer(whole)),
                (false, Err(_)) => return Ok(Token::Large(whole)),
                (true, _) if (1..=1 << 63).contains(&whole) => {
                    return Ok(Token::Integer(whole.wrapping_neg().cast_signed()));
                }
                // Minus zero, and what is below the least integer.
                (true, _) => {}
            }
        }
        let real: f64 = text.parse().map_err(|_| Bad)?;
        if real.is_finite() { Ok(Token::Real(real)) } else { Err(Bad) }
    }
}

/// Behind the digits at `at`, of which there must be one.
fn digits_from(bytes: &[u8], at: usize) -> Result<usize, Bad> {
    let n = bytes.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    if n == 0 { Err(Bad) } else { Ok(at + n) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Option<Value> {
        Doc::from_text(text).ok().map(|doc| doc.root().expect("one was read").to_value())
    }

    #[test]
    fn every_kind_is_read() {
        let text = r#" {"b": [1, -2, 2.5, -0, 1e3, 9223372036854775807, 18446744073709551615, -9223372036854775808],
            "a": "x\"\\\/\b\f\n\r\t\u00e9\ud83e\udd80é", "c": {}, "d": [], "e": [true, false, null], "a": 2} "#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(read(text), Some(expected.clone()));
        let doc = Doc::from(&expected);
        assert_eq!(doc.root().unwrap().to_value(), expected);
        assert_eq!(Doc::copy_of(doc.root().unwrap()), doc);
        assert_eq!(crate::json::text(doc.root().unwrap()), crate::json::text(&expected));
        let names: Vec<&str> = doc.root().unwrap().members().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        let doc = Doc::from_text(r#"{"b":1,"a":2,"b":3}"#).unwrap();
        let root = doc.root().unwrap();
        assert_eq!(root.member("b").and_then(Json::as_integer), Some(3));
        let members: Vec<_> = root.members().map(|(name, value)| (name, value.as_integer())).collect();
        assert_eq!(members, [("a", Some(2)), ("b", Some(3))]);
    }

    #[test]
    fn several_texts_stand_one_after_the_other() {
        let text = br#"{"a":1} [2]{"c":nul}[4]"#;
        let ends = [7, 11, 20, 23];
        let (doc, fault) = Doc::read(text.to_vec(), &ends).unwrap_err();
        let roots: Vec<Value> = doc.roots().map(Node::to_value).collect();
        assert_eq!(roots, [json!({"a": 1}), json!([2])]);
        assert_eq!(fault.to_string(), "expected ident at line 1 column 9");
        let (doc, fault) = Doc::read(b"[1][\"\xff\"][3]".to_vec(), &[3, 8, 11]).unwrap_err();
        assert_eq!(doc.roots().map(Node::to_value).collect::<Vec<_>>(), [json!([1])]);
        assert_eq!(fault.to_string(), "invalid unicode code point at line 1 column 3");
    }

    #[test]
    fn what_serde_json_refuses_is_refused() {
        for text in [
            "",
            " ",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e999",
            "+1",
            "tru",
            "nulll",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "[1 2]",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\u{1}\"",
            "[1]x",
            "{\"a\":1,}",
        ] {
            assert_eq!(read(text), None, "{text}");
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
        }
        assert_eq!(read(&"[".repeat(100_000)), None);
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        assert_eq!(read(&deep), serde_json::from_str(&deep).ok());
    }

    /// Equal, but for reals, which are rounded correctly here and nearly so there.
    fn alike(a: Option<&Value>, b: Option<&Value>) -> bool {
        match (a, b) {
            (Some(Value::Array(a)), Some(Value::Array(b))) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(Some(a), Some(b)))
            }
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                a.len() == b.len() && a.iter().all(|(name, a)| alike(Some(a), b.get(name)))
            }
            (Some(Value::Number(a)), Some(Value::Number(b))) if a.is_f64() && b.is_f64() => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                (a - b).abs() <= a.abs() * 1e-12
            }
            (a, b) => a == b,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_text_is_read_as_serde_json_reads_it(text in r#"[\[\]{}",:0-9eE.+\-a\\untrfls \x00-\x20é]{0,24}"#) {
            let twin: Option<Value> = serde_json::from_str(&text).ok();
            let mine = read(&text);
            prop_assert!(alike(mine.as_ref(), twin.as_ref()), "{:?} is not {:?}", mine, twin);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..60), cut in 0_usize..60) {
            let cut = cut.min(bytes.len());
            let twin = serde_json::from_slice::<Value>(&bytes[..cut]);
            match Doc::read(bytes.clone(), &[cut, bytes.len()]) {
                Ok(doc) => prop_assert_eq!(doc.roots().next().map(Node::to_value), twin.ok()),
                Err((doc, _)) => prop_assert_eq!(doc.roots().next().map(Node::to_value), twin.ok()),
            }
        }
    }
}
