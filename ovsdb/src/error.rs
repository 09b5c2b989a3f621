//! OVSDB errors: a short tag, details for people and, where JSON was wrong, the JSON (RFC 7047 section 3.1, `<error>`).
//!
//! The tag is the `"error"` member of a reply. It is open-ended in the RFC, so this is a record and not an enum.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};

use crate::json::{self, Json};

/// One database error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// What clients match on, such as `constraint violation`.
    pub tag: Cow<'static, str>,
    /// The sentence for people.
    pub details: Option<String>,
    /// The offending JSON, as text.
    pub syntax: Option<String>,
}

/// What most of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a tag and details.
    pub fn new(tag: &'static str, details: impl Into<String>) -> Self {
        Self { tag: Cow::Borrowed(tag), details: Some(details.into()), syntax: None }
    }

    /// An error that has no tag of its own.
    pub fn plain(details: impl Into<String>) -> Self {
        Self::new("ovsdb error", details)
    }

    /// An error with a tag and nothing else.
    pub fn bare(tag: &'static str) -> Self {
        Self { tag: Cow::Borrowed(tag), details: None, syntax: None }
    }

    /// A value broke a rule of the schema.
    pub fn constraint(details: impl Into<String>) -> Self {
        Self::new("constraint violation", details)
    }

    /// `value` is not what is wanted in its place.
    pub fn syntax<'a>(value: impl Json<'a>, details: impl Into<String>) -> Self {
        Self::tagged("syntax error", value, details)
    }

    /// `value` is not what is wanted in its place, with another tag than `syntax error`.
    pub fn tagged<'a>(tag: &'static str, value: impl Json<'a>, details: impl Into<String>) -> Self {
        Self { syntax: Some(json::text(value)), ..Self::new(tag, details) }
    }

    /// A role forbids it.
    pub fn permission(details: impl Into<String>) -> Self {
        Self::new("permission error", details)
    }

    /// A file could not be read or written; `cause` is appended in parentheses.
    pub fn io(cause: &std::io::Error, details: impl fmt::Display) -> Self {
        Self::new("I/O error", format!("{details} ({})", os_text(cause)))
    }

    /// A file is not as it should be, without the operating system's word on it.
    pub fn io_plain(details: impl Into<String>) -> Self {
        Self::new("I/O error", details)
    }

    /// The same error with `context: ` before the details.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.details = Some(match self.details {
            Some(details) => format!("{context}: {details}"),
            None => context.to_string(),
        });
        self
    }

    /// The JSON object that a client sees.
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "error": self.tag });
        if let Some(details) = &self.details {
            object["details"] = details.as_str().into();
        }
        if let Some(syntax) = &self.syntax {
            object["syntax"] = syntax.as_str().into();
        }
        object
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.syntax {
            write!(f, "syntax \"{syntax}\": ")?;
        }
        f.write_str(&self.tag)?;
        match &self.details {
            Some(details) => write!(f, ": {details}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The operating system's text without Rust's ` (os error N)`.
pub fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_json_carry_the_same_facts() {
        let error = Error::tagged("unknown column", &json!({"b": 1, "a": 2.5}), "No column a in table T.");
        assert_eq!(
            error.to_string(),
            "syntax \"{\"a\":2.5,\"b\":1}\": unknown column: No column a in table T."
        );
        assert_eq!(
            error.to_json(),
            json!({"details": "No column a in table T.", "error": "unknown column", "syntax": "{\"a\":2.5,\"b\":1}"})
        );
        assert_eq!(Error::bare("aborted").to_json(), json!({"error": "aborted"}));
        let io = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            Error::io(&io, "x: open failed").to_string(),
            "I/O error: x: open failed (No such file or directory)"
        );
    }
}
