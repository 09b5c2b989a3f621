//! JSON-RPC 1.0 as OVS speaks it (RFC 7047, section 4): JSON texts one after the other on a stream, without framing.
//!
//! [`Parser`] cuts a stream into texts and never looks at a byte twice; [`Message`] is one of them, checked.

use serde_json::{Map, Value};
use std::fmt;
use thiserror::Error;

/// The largest text that is accepted, in bytes; a longer one ends the connection.
pub const MAX_TEXT: usize = 512 << 20;
/// How deeply arrays and objects may nest.
pub const MAX_DEPTH: usize = 120;

/// Why a stream is not JSON-RPC. Every one ends the connection.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The bytes are no JSON. The texts of the parser stand after the stream's name.
    #[error("error parsing stream: {0}")]
    Syntax(String),
    /// A text does not end.
    #[error("error parsing stream: text exceeds {0} bytes")]
    TooLong(usize),
    /// They are JSON, but no message.
    #[error("received bad JSON-RPC message: {0}")]
    Message(String),
}

impl From<&serde_json::Error> for Error {
    fn from(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        Self::Syntax(format!("line {line}, column {column}, byte {column}: syntax error"))
    }
}

/// What is said of a NUL in a string, which OVS cannot hold.
pub const NUL_TEXT: &str = "null bytes not supported in quoted strings";

/// A JSON-RPC message.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// Wants a [`Message::Reply`] or [`Message::Error`] with the same id.
    Request {
        /// What to do.
        method: String,
        /// Positional arguments: an array.
        params: Vec<Value>,
        /// Chosen by the sender; echoed.
        id: Value,
    },
    /// Wants no answer.
    Notify {
        /// What happened.
        method: String,
        /// Positional arguments: an array.
        params: Vec<Value>,
    },
    /// A request succeeded.
    Reply {
        /// What came of it.
        result: Value,
        /// The request's.
        id: Value,
    },
    /// A request failed.
    Error {
        /// Why.
        error: Value,
        /// The request's.
        id: Value,
    },
}

impl Message {
    /// A request with a numeric id.
    pub fn request(method: &str, params: Vec<Value>, id: u64) -> Self {
        Self::Request { method: method.to_owned(), params, id: id.into() }
    }

    /// The word that logs use for this kind of message.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Request { .. } => "request",
            Self::Notify { .. } => "notification",
            Self::Reply { .. } => "reply",
            Self::Error { .. } => "error",
        }
    }

    /// Checks that `value` is a message.
    ///
    /// # Errors
    /// [`Error::Message`] with OVS's words for what is wrong.
    pub fn from_json(value: Value) -> Result<Self, Error> {
        let Value::Object(mut members) = value else {
            return Err(Error::Message("message is not a JSON object".to_owned()));
        };
        let mut take = |name: &str| members.remove(name).filter(|v| !v.is_null());
        let (method, params) = (take("method"), take("params"));
        let (result_given, result) = (members.contains_key("result"), members.remove("result"));
        let error = members.remove("error").filter(|v| !v.is_null());
        let id = members.remove("id").filter(|v| !v.is_null());
        if let Some(name) = members.keys().next() {
            return Err(Error::Message(format!("message has unexpected member \"{name}\"")));
        }
        let method = match method {
            None => None,
            Some(Value::String(s)) => Some(s),
            Some(_) => return Err(Error::Message("method is not a JSON string".to_owned())),
        };
        let result = result.filter(|v| !v.is_null() || (result_given && method.is_none() && error.is_none()));
        Self::assemble(method, params, result, error, id).map_err(Error::Message)
    }

    fn assemble(
        method: Option<String>,
        params: Option<Value>,
        result: Option<Value>,
        error: Option<Value>,
        id: Option<Value>,
    ) -> Result<Self, String> {
        let kind = match (&method, &id, &error) {
            (Some(_), Some(_), _) => "request",
            (Some(_), None, _) => "notification",
            (None, _, Some(_)) => "error",
            (None, _, None) => "reply",
        };
        let must = |what: &str| format!("{kind} must have \"{what}\"");
        let must_not = |what: &str| format!("{kind} must not have \"{what}\"");
        match method {
            Some(method) => {
                let params = match params.ok_or_else(|| must("params"))? {
                    Value::Array(params) => params,
                    _ => return Err("\"params\" must be JSON array".to_owned()),
                };
                if result.is_some() {
                    return Err(must_not("result"));
                }
                if error.is_some() {
                    return Err(must_not("error"));
                }
                Ok(match id {
                    Some(id) => Self::Request { method, params, id },
                    None => Self::Notify { method, params },
                })
            }
            None => {
                if params.is_some() {
                    return Err(must_not("params"));
                }
                let id = id.ok_or_else(|| must("id"))?;
                match (result, error) {
                    (None, Some(error)) => Ok(Self::Error { error, id }),
                    (Some(result), None) => Ok(Self::Reply { result, id }),
                    (Some(_), Some(_)) => Err(must_not("result")),
                    (None, None) => Err(must("result")),
                }
            }
        }
    }

    /// The message as a JSON object, with the null members that JSON-RPC 1.0 asks for.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
        match self {
            Self::Request { method, params, id } => {
                put("method", method.as_str().into());
                put("params", params.clone().into());
                put("id", id.clone());
            }
            Self::Notify { method, params } => {
                put("method", method.as_str().into());
                put("params", params.clone().into());
                put("id", Value::Null);
            }
            Self::Reply { result, id } => {
                put("result", result.clone());
                put("error", Value::Null);
                put("id", id.clone());
            }
            Self::Error { error, id } => {
                put("result", Value::Null);
                put("error", error.clone());
                put("id", id.clone());
            }
        }
        Value::Object(members)
    }
}

/// The JSON text.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_json(), f)
    }
}

/// Cuts a stream of bytes into JSON texts.
#[derive(Debug)]
pub struct Parser {
    buffer: Vec<u8>,
    /// Where in `buffer` the next text begins; what is before it was taken.
    start: usize,
    /// How much of `buffer` was scanned.
    scanned: usize,
    /// The longest text that is accepted, in bytes.
    limit: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// After `\u` in a string: how many zeros came.
    zeros: Option<u8>,
}

/// Memory that a parser keeps between texts. It is not less than what is read at once, or every read would take and give
/// back memory.
const KEPT: usize = 1 << 18;

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::with_limit(MAX_TEXT)
    }

    /// A parser that accepts texts of up to `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            limit,
            depth: 0,
            in_string: false,
            escaped: false,
            zeros: None,
        }
    }

    /// Takes bytes off the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
            if self.buffer.len() < KEPT && self.buffer.capacity() > 2 * KEPT {
                self.buffer.shrink_to(KEPT);
            }
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a text has begun and not ended.
    pub fn is_mid_text(&self) -> bool {
        self.buffer[self.start..].iter().any(|b| !b.is_ascii_whitespace())
    }

    /// How many bytes of a text that has not ended are held.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next complete text, as JSON.
    ///
    /// # Errors
    /// [`Error::Syntax`]; the stream is of no use afterwards.
    pub fn next_value(&mut self) -> Result<Option<Value>, Error> {
        let Some(end) = self.find_end()? else { return Ok(None) };
        let text = &self.buffer[self.start..end];
        self.start = end;
        let value = serde_json::from_slice(text).map(Some).map_err(|error| Error::from(&error));
        if end == self.buffer.len() && end > 2 * KEPT {
            // A long text is over, which may have been the only one.
            (self.buffer, self.start, self.scanned) = (Vec::new(), 0, 0);
        }
        value
    }

    /// Takes out all complete texts, unread: as they stand one after the other, and where each ends. The error, if there is
    /// one, is of what follows them; the stream is of no use afterwards.
    pub fn take_texts(&mut self) -> (Vec<u8>, Vec<usize>, Option<Error>) {
        let begin = self.start;
        let mut ends = Vec::new();
        let error = loop {
            match self.find_end() {
                Ok(Some(end)) => {
                    self.start = end;
                    ends.push(end - begin);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if begin == 0 && self.start == self.buffer.len() {
            (self.start, self.scanned) = (0, 0);
            return (std::mem::take(&mut self.buffer), ends, error);
        }
        (self.buffer[begin..self.start].to_vec(), ends, error)
    }

    /// The next complete message.
    ///
    /// # Errors
    /// As [`Parser::next_value`] and [`Message::from_json`].
    pub fn next_message(&mut self) -> Result<Option<Message>, Error> {
        self.next_value()?.map(Message::from_json).transpose()
    }

    /// Passes over bytes that change nothing.
    fn skip_plain(&mut self) {
        let rest = &self.buffer[self.scanned..];
        let n = if self.in_string && !self.escaped && self.zeros.is_none() {
            rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))
        } else if !self.in_string && self.depth > 0 {
            rest.iter().position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'))
        } else {
            return;
        };
        self.scanned += n.unwrap_or(rest.len());
    }

    /// Where the first text ends, if it does.
    fn find_end(&mut self) -> Result<Option<usize>, Error> {
        loop {
            self.skip_plain();
            let Some(&byte) = self.buffer.get(self.scanned) else { break };
            self.scanned += 1;
            if self.in_string {
                if let Some(n) = self.zeros.take()
                    && byte == b'0'
                {
                    if n == 3 {
                        return Err(Error::Syntax(NUL_TEXT.to_owned()));
                    }
                    self.zeros = Some(n + 1);
                    continue;
                }
                match byte {
                    _ if self.escaped => {
                        self.escaped = false;
                        self.zeros = (byte == b'u').then_some(0);
                    }
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' if self.depth > 0 => self.in_string = true,
                b'{' | b'[' if self.depth >= MAX_DEPTH => {
                    return Err(Error::Syntax("input exceeds maximum nesting depth".to_owned()));
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 && self.scanned - self.start > self.limit {
                        return Err(Error::TooLong(self.limit));
                    }
                    if self.depth == 0 {
                        return Ok(Some(self.scanned));
                    }
                }
                _ if self.depth > 0 || byte.is_ascii_whitespace() => {}
                _ => return Err(Error::Syntax("syntax error at beginning of input".to_owned())),
            }
        }
        if self.scanned - self.start > self.limit {
            return Err(Error::TooLong(self.limit));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn texts_come_out_whole_however_the_bytes_arrive() {
        let stream = br#" {"id":0,"method":"a}\"]","params":[]}{"id":0,"result":null,"error":null} "#;
        let mut parser = Parser::new();
        let mut got = Vec::new();
        for byte in stream {
            parser.feed(&[*byte]);
            got.extend(parser.next_message().unwrap());
        }
        let request = Message::request("a}\"]", vec![], 0);
        assert_eq!(got, [request, Message::Reply { result: Value::Null, id: json!(0) }]);
        assert!(!parser.is_mid_text());
    }

    #[test]
    fn bad_messages_are_told_in_ovs_words() {
        let cases = [
            (json!([]), "message is not a JSON object"),
            (json!({"x": 1}), "message has unexpected member \"x\""),
            (json!({"method": 1}), "method is not a JSON string"),
            (json!({"method": "a", "id": 0}), "request must have \"params\""),
            (json!({"method": "a", "id": 0, "params": {}}), "\"params\" must be JSON array"),
            (json!({"method": "a", "params": [], "result": 3}), "notification must not have \"result\""),
            (json!({"error": 1}), "error must have \"id\""),
            (json!({"result": 1}), "reply must have \"id\""),
        ];
        for (message, text) in cases {
            assert_eq!(Message::from_json(message), Err(Error::Message(text.to_owned())));
        }
    }

    #[test]
    fn texts_are_taken_out_together() {
        let mut parser = Parser::new();
        parser.feed(b" [1]{\"a\":\"}\"} [2");
        assert_eq!(parser.take_texts(), (b" [1]{\"a\":\"}\"}".to_vec(), vec![4, 13], None));
        parser.feed(b"]");
        assert_eq!(parser.take_texts(), (b" [2]".to_vec(), vec![4], None));
        assert_eq!((parser.take_texts(), parser.pending()), ((vec![], vec![], None), 0));
        parser.feed(b"[3]x");
        let error = Error::Syntax("syntax error at beginning of input".to_owned());
        assert_eq!(parser.take_texts(), (b"[3]".to_vec(), vec![3], Some(error)));
    }

    #[test]
    fn a_text_may_be_as_long_as_the_limit() {
        let mut parser = Parser::with_limit(10);
        parser.feed(b"[\"123456\"][\"123456");
        assert_eq!(parser.next_value(), Ok(Some(json!(["123456"]))));
        assert_eq!((parser.next_value(), parser.pending()), (Ok(None), 8));
        parser.feed(b"789");
        assert_eq!(parser.next_value(), Err(Error::TooLong(10)));
        let mut parser = Parser::with_limit(10);
        parser.feed(b"[\"1234567\"]");
        assert_eq!(parser.next_value(), Err(Error::TooLong(10)));
    }

    #[test]
    fn a_nul_is_an_error_wherever_the_bytes_are_cut() {
        let parse = |text: &str| {
            let mut parser = Parser::new();
            for byte in text.as_bytes() {
                parser.feed(&[*byte]);
                match parser.next_value() {
                    Ok(Some(value)) => return Ok(value),
                    Ok(None) => {}
                    Err(error) => return Err(error),
                }
            }
            panic!("{text} does not end")
        };
        assert_eq!(parse("[\"\\\\u0000\"]"), Ok(json!(["\\u0000"])));
        assert_eq!(parse("[\"\\u0041\\u0100\"]"), Ok(json!(["A\u{100}"])));
        assert_eq!(parse("[\"a\\u0000\"]"), Err(Error::Syntax(NUL_TEXT.to_owned())));
    }

    #[test]
    fn garbage_is_an_error() {
        let mut parser = Parser::new();
        parser.feed(b"x");
        assert!(parser.next_value().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut parser = Parser::new();
            parser.feed(&bytes);
            let mut twin = Parser::new();
            twin.feed(&bytes);
            let (texts, ends, _) = twin.take_texts();
            prop_assert_eq!(ends.last().copied().unwrap_or(0), texts.len());
            while let Ok(Some(_)) = parser.next_message() {}
        }
    }
}
