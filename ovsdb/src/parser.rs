//! Reads the members of a JSON object once each, in OVS's words when one is missing, wrong or left over.

use std::fmt;
use std::marker::PhantomData;

use serde_json::Value;
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::json::{Json, Shape};
use crate::value::is_id;

/// What a member may be; kinds are added with `|`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u8);

impl Kinds {
    /// `true` or `false`.
    pub const BOOLEAN: Self = Self(1);
    /// A whole number.
    pub const INTEGER: Self = Self(2);
    /// Any number.
    pub const NUMBER: Self = Self(2 | 4);
    /// A string.
    pub const STRING: Self = Self(8);
    /// An object.
    pub const OBJECT: Self = Self(16);
    /// An array.
    pub const ARRAY: Self = Self(32);
    /// A string that is an `<id>`.
    pub const ID: Self = Self(64);
    /// Anything, null included.
    pub const ANY: Self = Self(0xff);

    fn admit<'a>(self, value: impl Json<'a>) -> bool {
        let own = match value.shape() {
            Shape::Null => 128,
            Shape::Bool(_) => 1,
            Shape::Number(_) if value.as_integer().is_some() => 2,
            Shape::Number(_) => 4,
            Shape::String(s) if self.0 & 8 == 0 && is_id(s) => 64,
            Shape::String(_) => 8,
            Shape::Object => 16,
            Shape::Array => 32,
        };
        self.0 & own != 0
    }
}

impl std::ops::BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the object is called in errors.
#[derive(Debug)]
enum What {
    Named(String),
    /// Which operation of how many of a transaction: named only when something is wrong.
    Operation(usize, usize),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Operation(number, of) => write!(f, "ovsdb operation {number} of {of}"),
        }
    }
}

/// A reader of one object. Errors are kept: the first is what [`Parser::finish`] returns.
#[derive(Debug)]
pub struct Parser<'a, J = &'a Value> {
    value: J,
    what: What,
    is_object: bool,
    used: SmallVec<[&'static str; 8]>,
    error: Option<Error>,
    life: PhantomData<&'a ()>,
}

impl<'a, J: Json<'a>> Parser<'a, J> {
    /// Starts reading `value`, called `what` in errors.
    pub fn new(value: J, what: impl Into<String>) -> Self {
        Self::start(value, What::Named(what.into()))
    }

    /// Starts reading operation `number` of `of` of a transaction.
    pub fn of_operation(value: J, number: usize, of: usize) -> Self {
        Self::start(value, What::Operation(number, of))
    }

    fn start(value: J, what: What) -> Self {
        let is_object = value.is_object();
        let mut parser =
            Self { value, what, is_object, used: SmallVec::new(), error: None, life: PhantomData };
        if !is_object {
            parser.fail("Object expected.");
        }
        parser
    }

    /// A member that must be there.
    pub fn required(&mut self, name: &'static str, kinds: Kinds) -> Option<J> {
        let member = self.value.member(name);
        if member.is_none() && self.is_object {
            self.fail(format!("Required '{name}' member is missing."));
        }
        self.admit(name, kinds, member?)
    }

    /// A member that may be missing.
    pub fn optional(&mut self, name: &'static str, kinds: Kinds) -> Option<J> {
        let member = self.value.member(name)?;
        self.admit(name, kinds, member)
    }

    fn admit(&mut self, name: &'static str, kinds: Kinds, member: J) -> Option<J> {
        if !self.used.contains(&name) {
            self.used.push(name);
        }
        if !kinds.admit(member) {
            self.fail(format!("Type mismatch for member '{name}'."));
            return None;
        }
        Some(member)
    }

    /// Notes an error of the caller's, in the words of this object.
    pub fn fail(&mut self, details: impl AsRef<str>) {
        if self.error.is_none() {
            let details = format!("Parsing {} failed: {}", self.what, details.as_ref());
            self.error = Some(Error::syntax(self.value, details));
        }
    }

    /// True once something went wrong.
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// The first error, or one about members that nobody asked for.
    pub fn finish(mut self) -> Result<()> {
        if self.error.is_none() && !self.value.has_only(&self.used) {
            let members = self.value.members().map(|(name, _)| name);
            let left: Vec<&str> = members.filter(|name| !self.used.contains(name)).collect();
            match left.as_slice() {
                [] => {}
                [one] => self.fail(format!("Member '{one}' is present but not allowed here.")),
                [first, rest @ ..] => self.fail(format!(
                    "Member '{first}' and {} other member{} are present but not allowed here.",
                    rest.len(),
                    if rest.len() > 1 { "s" } else { "" }
                )),
            }
        }
        self.error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(value: Value) -> String {
        let mut parser = Parser::new(&value, "thing");
        parser.required("a", Kinds::INTEGER);
        parser.optional("b", Kinds::ID | Kinds::BOOLEAN);
        parser.finish().map_or_else(|error| error.details.unwrap_or_default(), |()| "ok".to_owned())
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(outcome(json!({"a": 1, "b": "x"})), "ok");
        assert_eq!(outcome(json!([])), "Parsing thing failed: Object expected.");
        assert_eq!(outcome(json!({})), "Parsing thing failed: Required 'a' member is missing.");
        assert_eq!(outcome(json!({"a": 1.5})), "Parsing thing failed: Type mismatch for member 'a'.");
        assert_eq!(outcome(json!({"a": 1, "b": "0"})), "Parsing thing failed: Type mismatch for member 'b'.");
        assert_eq!(
            outcome(json!({"a": 1, "c": 2})),
            "Parsing thing failed: Member 'c' is present but not allowed here."
        );
        assert_eq!(
            outcome(json!({"a": 1, "c": 2, "d": 3, "e": 4})),
            "Parsing thing failed: Member 'c' and 2 other members are present but not allowed here."
        );
    }
}
