//! Atoms.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde_json::Value;

use super::{Text, Uuid};
use crate::error::{Error, Result};
use crate::json::{self, Json};
use crate::symbols::Symbols;
use crate::types::{AtomicType, BaseType};

/// One indivisible value.
#[derive(Clone, Debug)]
pub enum Atom {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A finite real, never -0.
    Real(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// UTF-8 text without NUL.
    String(Text),
    /// A UUID, perhaps of a row.
    Uuid(Uuid),
}

impl Atom {
    /// The value of a column whose row says nothing: zero, false, the empty string, the all-zero UUID.
    pub fn default_of(kind: AtomicType) -> Self {
        match kind {
            AtomicType::Integer => Self::Integer(0),
            AtomicType::Real => Self::Real(0.0),
            AtomicType::Boolean => Self::Boolean(false),
            AtomicType::String => Self::String(Text::default()),
            AtomicType::Uuid => Self::Uuid(Uuid::ZERO),
        }
    }

    /// Which type it is of.
    pub fn kind(&self) -> AtomicType {
        match self {
            Self::Integer(_) => AtomicType::Integer,
            Self::Real(_) => AtomicType::Real,
            Self::Boolean(_) => AtomicType::Boolean,
            Self::String(_) => AtomicType::String,
            Self::Uuid(_) => AtomicType::Uuid,
        }
    }

    /// The integer, if it is one.
    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(i) = self { Some(*i) } else { None }
    }

    /// The real, if it is one.
    pub fn as_real(&self) -> Option<f64> {
        if let Self::Real(r) = self { Some(*r) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(b) = self { Some(*b) } else { None }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self { Some(s) } else { None }
    }

    /// The UUID, if it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(u) = self { Some(*u) } else { None }
    }

    /// Parses JSON as an atom of `base` and checks its constraints. With `symbols`, `["named-uuid", ID]` is known too.
    pub fn from_json<'a>(
        base: &BaseType,
        value: impl Json<'a>,
        symbols: Option<&mut Symbols>,
    ) -> Result<Self> {
        let atom = Self::from_json_unchecked(base, value, symbols)?;
        base.check(&atom)?;
        Ok(atom)
    }

    fn from_json_unchecked<'a>(
        base: &BaseType,
        value: impl Json<'a>,
        symbols: Option<&mut Symbols>,
    ) -> Result<Self> {
        let expected = || Error::syntax(value, format!("expected {}", base.kind()));
        Ok(match base.kind() {
            AtomicType::Integer => Self::Integer(value.as_integer().ok_or_else(expected)?),
            AtomicType::Real => Self::from(value.as_real().ok_or_else(expected)?),
            AtomicType::Boolean => Self::Boolean(value.as_bool().ok_or_else(expected)?),
            AtomicType::String => Self::String(text_from_json(value).ok_or_else(expected)??),
            AtomicType::Uuid => Self::Uuid(uuid_from_json(base, value, symbols)?),
        })
    }

    /// Appends its JSON.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Self::Integer(i) => json::write_integer(out, *i),
            Self::Real(r) => json::write_real(out, *r),
            Self::Boolean(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::String(s) => json::write_string(out, s),
            Self::Uuid(u) => {
                out.push_str("[\"uuid\",\"");
                u.write(out);
                out.push_str("\"]");
            }
        }
    }

    /// Its JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Integer(i) => Value::from(*i),
            Self::Real(r) => json::real(*r),
            Self::Boolean(b) => Value::Bool(*b),
            Self::String(s) => Value::from(&**s),
            Self::Uuid(u) => u.to_json(),
        }
    }
}

/// The text of a JSON string. OVS keeps no zero bytes.
fn text_from_json<'a>(value: impl Json<'a>) -> Option<Result<Text>> {
    let text = value.as_str()?;
    Some(if text.contains('\0') {
        Err(Error::syntax(value, "null bytes not supported in quoted strings"))
    } else {
        Ok(Text::from(text))
    })
}

fn uuid_from_json<'a>(base: &BaseType, value: impl Json<'a>, symbols: Option<&mut Symbols>) -> Result<Uuid> {
    let wrapped = unwrap(value, "uuid", "string");
    if let Ok(text) = &wrapped {
        let text = text.as_str().unwrap_or_default();
        return text.parse().map_err(|_| Error::syntax(value, format!("\"{text}\" is not a valid UUID")));
    }
    if let (Some(symbols), Ok(name)) = (symbols, unwrap(value, "named-uuid", "string")) {
        let name = name.as_str().unwrap_or_default();
        if !is_id(name) {
            return Err(Error::syntax(value, "named-uuid string is not a valid <id>"));
        }
        return Ok(symbols.refer(name, base));
    }
    wrapped.map(|_| Uuid::ZERO)
}

/// The second element of `[name, <kind>]`.
pub(super) fn unwrap<'a, J: Json<'a>>(value: J, name: &str, kind: &str) -> Result<J> {
    if let Some([tag, inner]) = value.array_of()
        && tag.as_str() == Some(name)
        && json::type_name(inner) == kind
    {
        return Ok(inner);
    }
    Err(Error::syntax(value, format!("expected [\"{name}\", <{kind}>]")))
}

/// True for an RFC 7047 `<id>`: a letter or `_`, then letters, digits and `_`.
pub fn is_id(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Within a type the natural order; strings by bytes. Between types (which one column never mixes) by type.
impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (a, b) => a.kind().cmp(&b.kind()),
        }
    }
}

impl Hash for Atom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Integer(i) => i.hash(state),
            Self::Real(r) => r.to_bits().hash(state),
            Self::Boolean(b) => b.hash(state),
            Self::String(s) => s.hash(state),
            Self::Uuid(u) => u.hash(state),
        }
    }
}

impl From<i64> for Atom {
    fn from(i: i64) -> Self {
        Self::Integer(i)
    }
}

impl From<f64> for Atom {
    /// Negative zero becomes zero, so that equal reals are equal atoms.
    fn from(r: f64) -> Self {
        Self::Real(if r == 0.0 { 0.0 } else { r })
    }
}

impl From<bool> for Atom {
    fn from(b: bool) -> Self {
        Self::Boolean(b)
    }
}

impl From<&str> for Atom {
    fn from(s: &str) -> Self {
        Self::String(Text::from(s))
    }
}

impl From<String> for Atom {
    fn from(s: String) -> Self {
        Self::String(Text::from(&*s))
    }
}

impl From<Uuid> for Atom {
    fn from(u: Uuid) -> Self {
        Self::Uuid(u)
    }
}

const _: () = assert!(size_of::<Atom>() == 24);
