//! Column types (RFC 7047 section 3.2, `<type>`): base types with their constraints, and how many elements fit.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::json::{self, format_g};
use crate::parser::{Kinds, Parser};
use crate::text;
use crate::value::{Atom, Datum};

/// The five types of atoms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AtomicType {
    /// Signed, 64 bits.
    Integer,
    /// IEEE 754 double.
    Real,
    /// `true` or `false`.
    Boolean,
    /// UTF-8.
    String,
    /// 128 bits.
    Uuid,
}

impl AtomicType {
    /// All types.
    pub const ALL: [Self; 5] = [Self::Integer, Self::Real, Self::Boolean, Self::String, Self::Uuid];

    /// Its name in schemas.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    /// The type called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn from_json(value: &Value) -> Result<Self> {
        let Some(name) = value.as_str() else { return Err(Error::syntax(value, "atomic-type expected")) };
        Self::from_name(name).ok_or_else(|| Error::syntax(value, format!("\"{name}\" is not an atomic-type")))
    }
}

impl fmt::Display for AtomicType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a reference keeps its row alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefType {
    /// The row cannot be deleted while referred to; without references it goes, unless its table is a root.
    Strong,
    /// The reference goes when its row does.
    Weak,
}

/// A uuid column's pledge to name rows of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// The table's name.
    pub table: Arc<str>,
    /// How strong the pledge is.
    pub kind: RefType,
}

/// An atomic type with its constraints.
#[derive(Clone, PartialEq, Debug)]
pub enum BaseType {
    /// Inclusive bounds.
    Integer { min: i64, max: i64 },
    /// Inclusive bounds.
    Real { min: f64, max: f64 },
    /// Nothing to constrain.
    Boolean,
    /// Length bounds in characters.
    String { min_len: u32, max_len: u32 },
    /// Perhaps the UUIDs of rows.
    Uuid { reference: Option<Reference> },
    /// Only these values, all of the one type.
    Enum { kind: AtomicType, allowed: Datum },
}

impl BaseType {
    /// `kind` without constraints.
    pub fn plain(kind: AtomicType) -> Self {
        match kind {
            AtomicType::Integer => Self::Integer { min: i64::MIN, max: i64::MAX },
            AtomicType::Real => Self::Real { min: -f64::MAX, max: f64::MAX },
            AtomicType::Boolean => Self::Boolean,
            AtomicType::String => Self::String { min_len: 0, max_len: u32::MAX },
            AtomicType::Uuid => Self::Uuid { reference: None },
        }
    }

    /// The atomic type.
    pub fn kind(&self) -> AtomicType {
        match self {
            Self::Integer { .. } => AtomicType::Integer,
            Self::Real { .. } => AtomicType::Real,
            Self::Boolean => AtomicType::Boolean,
            Self::String { .. } => AtomicType::String,
            Self::Uuid { .. } => AtomicType::Uuid,
            Self::Enum { kind, .. } => *kind,
        }
    }

    /// The reference of a uuid type.
    pub fn reference(&self) -> Option<&Reference> {
        if let Self::Uuid { reference } = self { reference.as_ref() } else { None }
    }

    /// The allowed values of an enumeration.
    pub fn allowed(&self) -> Option<&Datum> {
        if let Self::Enum { allowed, .. } = self { Some(allowed) } else { None }
    }

    /// True if it says more than the atomic type.
    pub fn is_constrained(&self) -> bool {
        *self != Self::plain(self.kind())
    }

    /// Whether `atom` keeps the constraints.
    pub fn check(&self, atom: &Atom) -> Result<()> {
        match (self, atom) {
            (Self::Enum { allowed, .. }, atom) if !allowed.contains(atom) => {
                let allowed = text::datum(&Type::any_set(self.kind()), allowed);
                let atom = text::atom(atom);
                Err(Error::constraint(format!("{atom} is not one of the allowed values ({allowed})")))
            }
            (Self::Integer { min, max }, Atom::Integer(i)) if i < min || i > max => {
                let bound = |bound: i64, open: i64| (bound != open).then(|| bound.to_string());
                out_of_range(&i.to_string(), bound(*min, i64::MIN), bound(*max, i64::MAX))
            }
            (Self::Real { min, max }, Atom::Real(r)) if r < min || r > max => {
                let bound = |bound: f64, open: f64| (bound != open).then(|| format_g(bound, 15));
                out_of_range(&format_g(*r, 15), bound(*min, -f64::MAX), bound(*max, f64::MAX))
            }
            (Self::String { min_len, max_len }, Atom::String(s)) => check_length(s, *min_len, *max_len),
            _ => Ok(()),
        }
    }

    /// Parses a `<base-type>`.
    pub fn from_json(value: &Value) -> Result<Self> {
        if value.is_string() {
            return Ok(Self::plain(AtomicType::from_json(value)?));
        }
        let mut parser = Parser::new(value, "ovsdb type");
        let kind = match parser.required("type", Kinds::STRING) {
            Some(name) if !parser.failed() => AtomicType::from_json(name)?,
            _ => return parser.finish().map(|()| Self::Boolean),
        };
        let allowed = parser.optional("enum", Kinds::ANY);
        let base = Self::constraints(&mut parser, value, kind)?;
        parser.finish()?;
        let Some(allowed) = allowed else { return Ok(base) };
        let set = Type { key: Self::plain(kind), value: None, min: 1, max: u32::MAX };
        let allowed = Datum::from_json(&set, allowed, None)?;
        if base.is_constrained() {
            return Err(Error::syntax(value, "ovsdb type fails constraint checks"));
        }
        Ok(Self::Enum { kind, allowed })
    }

    fn constraints(parser: &mut Parser<'_>, value: &Value, kind: AtomicType) -> Result<Self> {
        let fault = |details: &str| Err(Error::syntax(value, details));
        Ok(match kind {
            AtomicType::Integer => {
                let mut bound = |name, open| {
                    parser.optional(name, Kinds::INTEGER).and_then(json::integer).unwrap_or(open)
                };
                let (min, max) = (bound("minInteger", i64::MIN), bound("maxInteger", i64::MAX));
                if min > max {
                    return fault("minInteger exceeds maxInteger");
                }
                Self::Integer { min, max }
            }
            AtomicType::Real => {
                let mut bound =
                    |name, open| parser.optional(name, Kinds::NUMBER).and_then(Value::as_f64).unwrap_or(open);
                let (min, max) = (bound("minReal", -f64::MAX), bound("maxReal", f64::MAX));
                if min > max {
                    return fault("minReal exceeds maxReal");
                }
                Self::Real { min, max }
            }
            AtomicType::String => {
                let min_len = length(parser, "minLength")?.unwrap_or(0);
                let max_len = length(parser, "maxLength")?.unwrap_or(u32::MAX);
                if min_len > max_len {
                    return fault("minLength exceeds maxLength");
                }
                Self::String { min_len, max_len }
            }
            AtomicType::Uuid => Self::Uuid { reference: reference(parser, value)? },
            AtomicType::Boolean => Self::Boolean,
        })
    }

    /// Its JSON: a bare name without constraints.
    pub fn to_json(&self) -> Value {
        if !self.is_constrained() {
            return self.kind().name().into();
        }
        let mut object = Map::new();
        object.insert("type".into(), self.kind().name().into());
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(name.to_owned(), value);
            }
        };
        match self {
            Self::Integer { min, max } => {
                put("minInteger", (*min != i64::MIN).then(|| json!(min)));
                put("maxInteger", (*max != i64::MAX).then(|| json!(max)));
            }
            Self::Real { min, max } => {
                put("minReal", (*min != -f64::MAX).then(|| json::real(*min)));
                put("maxReal", (*max != f64::MAX).then(|| json::real(*max)));
            }
            Self::Boolean => {}
            Self::String { min_len, max_len } => {
                put("minLength", (*min_len != 0).then(|| json!(min_len)));
                put("maxLength", (*max_len != u32::MAX).then(|| json!(max_len)));
            }
            Self::Uuid { reference } => {
                put("refTable", reference.as_ref().map(|r| json!(&*r.table)));
                let weak = reference.as_ref().is_some_and(|r| r.kind == RefType::Weak);
                put("refType", weak.then(|| json!("weak")));
            }
            Self::Enum { allowed, .. } => put("enum", Some(allowed.to_json())),
        }
        Value::Object(object)
    }
}

fn length(parser: &mut Parser<'_>, name: &'static str) -> Result<Option<u32>> {
    let Some(value) = parser.optional(name, Kinds::INTEGER) else { return Ok(None) };
    match json::integer(value).map(u32::try_from) {
        Some(Ok(length)) => Ok(Some(length)),
        _ => Err(Error::syntax(value, format!("{name} out of valid range 0 to {}", u32::MAX))),
    }
}

fn reference(parser: &mut Parser<'_>, value: &Value) -> Result<Option<Reference>> {
    let Some(table) = parser.optional("refTable", Kinds::ID) else { return Ok(None) };
    let kind = match parser.optional("refType", Kinds::ID).and_then(Value::as_str) {
        None | Some("strong") => RefType::Strong,
        Some("weak") => RefType::Weak,
        Some(other) => {
            let details = format!("refType must be \"strong\" or \"weak\" (not \"{other}\")");
            return Err(Error::syntax(value, details));
        }
    };
    Ok(Some(Reference { table: table.as_str().unwrap_or_default().into(), kind }))
}

fn out_of_range(value: &str, min: Option<String>, max: Option<String>) -> Result<()> {
    Err(Error::constraint(match (min, max) {
        (Some(min), Some(max)) => format!("{value} is not in the valid range {min} to {max} (inclusive)"),
        (Some(min), None) => format!("{value} is less than minimum allowed value {min}"),
        (None, max) => format!("{value} is greater than maximum allowed value {}", max.unwrap_or_default()),
    }))
}

fn check_length(s: &str, min: u32, max: u32) -> Result<()> {
    if min == 0 && max == u32::MAX {
        return Ok(());
    }
    let n = s.chars().count();
    if n < min as usize {
        let rule = format!("\"{s}\" length {n} is less than minimum allowed length {min}");
        return Err(Error::constraint(rule));
    }
    if n > max as usize {
        let rule = format!("\"{s}\" length {n} is greater than maximum allowed length {max}");
        return Err(Error::constraint(rule));
    }
    Ok(())
}

/// The type of a column.
#[derive(Clone, PartialEq, Debug)]
pub struct Type {
    /// The atoms of a set or the keys of a map.
    pub key: BaseType,
    /// The values, if it is a map.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: u32,
    /// Most elements, at least 1; `u32::MAX` means unlimited.
    pub max: u32,
}

impl Type {
    /// Exactly one unconstrained atom.
    pub fn scalar(kind: AtomicType) -> Self {
        Self { key: BaseType::plain(kind), value: None, min: 1, max: 1 }
    }

    /// Any number of unconstrained atoms.
    pub fn any_set(kind: AtomicType) -> Self {
        Self { key: BaseType::plain(kind), value: None, min: 0, max: u32::MAX }
    }

    /// True for exactly one atom.
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    /// True for a map.
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// True for a set that is no scalar.
    pub fn is_set(&self) -> bool {
        !self.is_map() && (self.min != 1 || self.max != 1)
    }

    /// True for at most one atom.
    pub fn is_optional_scalar(&self) -> bool {
        self.value.is_none() && self.min == 0 && self.max == 1
    }

    /// True if there may be several elements.
    pub fn is_composite(&self) -> bool {
        self.max > 1
    }

    /// Whether all atoms of `datum` keep the constraints, and their number does.
    pub fn check(&self, datum: &Datum) -> Result<()> {
        for key in datum.keys() {
            self.key.check(key)?;
        }
        if let Some(value_type) = &self.value {
            for value in datum.values() {
                value_type.check(value)?;
            }
        }
        Ok(())
    }

    /// True if `n` elements fit.
    pub fn admits(&self, n: usize) -> bool {
        (self.min as usize..=self.max as usize).contains(&n)
    }

    /// Parses a `<type>`.
    pub fn from_json(value: &Value) -> Result<Self> {
        match value {
            Value::String(_) => Ok(Self { key: BaseType::from_json(value)?, value: None, min: 1, max: 1 }),
            Value::Object(_) => Self::from_object(value),
            _ => Err(Error::syntax(value, "ovsdb type expected")),
        }
    }

    fn from_object(value: &Value) -> Result<Self> {
        let mut parser = Parser::new(value, "ovsdb type");
        let key = parser.required("key", Kinds::STRING | Kinds::OBJECT);
        let value_type = parser.optional("value", Kinds::STRING | Kinds::OBJECT);
        let min = parser.optional("min", Kinds::INTEGER);
        let max = parser.optional("max", Kinds::INTEGER | Kinds::STRING);
        parser.finish()?;
        let kind = Self {
            key: key.map_or(Ok(BaseType::Boolean), BaseType::from_json)?,
            value: value_type.map(BaseType::from_json).transpose()?,
            min: count(min)?,
            max: if max.is_some_and(|max| max == "unlimited") { u32::MAX } else { count(max)? },
        };
        if kind.min > 1 || kind.max < 1 {
            return Err(Error::syntax(value, "ovsdb type fails constraint checks"));
        }
        Ok(kind)
    }

    /// Its JSON: a bare name for an unconstrained scalar.
    pub fn to_json(&self) -> Value {
        if self.is_scalar() && !self.key.is_constrained() {
            return self.key.to_json();
        }
        let mut object = json!({ "key": self.key.to_json() });
        if let Some(value) = &self.value {
            object["value"] = value.to_json();
        }
        if self.min != 1 {
            object["min"] = self.min.into();
        }
        match self.max {
            u32::MAX => object["max"] = "unlimited".into(),
            1 => {}
            max => object["max"] = max.into(),
        }
        object
    }
}

fn count(value: Option<&Value>) -> Result<u32> {
    let Some(value) = value else { return Ok(1) };
    match json::integer(value).map(u32::try_from) {
        Some(Ok(n)) if n < u32::MAX => Ok(n),
        _ => Err(Error::syntax(value, "bad min or max value")),
    }
}

/// In plain English: `integer`, `set of up to 4 strings`, `map of (string, string) pairs`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.kind();
        if self.is_scalar() {
            return write!(f, "{key}");
        }
        f.write_str(if self.is_map() { "map" } else { "set" })?;
        match (self.min, self.max) {
            (0, u32::MAX) => write!(f, " of")?,
            (min, u32::MAX) => write!(f, " of {min} or more")?,
            (0, max) => write!(f, " of up to {max}")?,
            (min, max) => write!(f, " of {min} to {max}")?,
        }
        match &self.value {
            Some(value) => write!(f, " ({key}, {}) pairs", value.kind()),
            None => write!(f, " {key}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: Value) {
        assert_eq!(Type::from_json(&value).unwrap().to_json(), value);
    }

    fn fault(value: Value) -> String {
        Type::from_json(&value).unwrap_err().details.unwrap()
    }

    #[test]
    fn json_round_trips() {
        for kind in AtomicType::ALL {
            round_trip(json!(kind.name()));
        }
        round_trip(json!({"key": {"type": "integer", "minInteger": -1, "maxInteger": 65535}, "min": 0}));
        round_trip(json!({"key": {"type": "real", "minReal": 0.5}, "max": 4}));
        round_trip(json!({"key": {"type": "string", "minLength": 1, "maxLength": 15}}));
        round_trip(
            json!({"key": {"type": "uuid", "refTable": "Port", "refType": "weak"}, "max": "unlimited"}),
        );
        round_trip(json!({"key": {"type": "string", "enum": ["set", ["a", "b"]]}, "value": "string"}));
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(fault(json!("int")), "\"int\" is not an atomic-type");
        assert_eq!(fault(json!(5)), "ovsdb type expected");
        assert_eq!(fault(json!({"key": "string", "min": 2})), "ovsdb type fails constraint checks");
        assert_eq!(fault(json!({"key": "string", "max": "x"})), "bad min or max value");
        assert_eq!(
            fault(json!({"key": {"type": "integer", "minInteger": 2, "maxInteger": 1}})),
            "minInteger exceeds maxInteger"
        );
        assert_eq!(
            fault(json!({"key": {"type": "uuid", "refTable": "T", "refType": "x"}})),
            "refType must be \"strong\" or \"weak\" (not \"x\")"
        );
        assert_eq!(
            fault(json!({"key": {"type": "integer", "minLength": 2}})),
            "Parsing ovsdb type failed: Member 'minLength' is present but not allowed here."
        );
    }

    #[test]
    fn constraints_are_told_as_ovs_tells_them() {
        let check = |kind: Value, atom: Atom| {
            BaseType::from_json(&kind).unwrap().check(&atom).unwrap_err().details.unwrap()
        };
        let both = json!({"type": "integer", "minInteger": 0, "maxInteger": 10});
        assert_eq!(check(both, 11.into()), "11 is not in the valid range 0 to 10 (inclusive)");
        let low = json!({"type": "real", "minReal": 0.5});
        assert_eq!(check(low, 0.25.into()), "0.25 is less than minimum allowed value 0.5");
        let high = json!({"type": "integer", "maxInteger": 10});
        assert_eq!(check(high, 11.into()), "11 is greater than maximum allowed value 10");
        let short = json!({"type": "string", "minLength": 2});
        assert_eq!(check(short, "é".into()), "\"é\" length 1 is less than minimum allowed length 2");
        let one = json!({"type": "string", "enum": ["set", ["access", "dot1q-tunnel"]]});
        assert_eq!(
            check(one, "x y".into()),
            "\"x y\" is not one of the allowed values ([access, dot1q-tunnel])"
        );
    }

    #[test]
    fn english() {
        let english = |value: Value| Type::from_json(&value).unwrap().to_string();
        assert_eq!(english(json!("uuid")), "uuid");
        assert_eq!(english(json!({"key": "string", "min": 0})), "set of up to 1 strings");
        assert_eq!(english(json!({"key": "string", "max": "unlimited"})), "set of 1 or more strings");
        assert_eq!(
            english(json!({"key": "integer", "value": "real", "min": 0, "max": "unlimited"})),
            "map of (integer, real) pairs"
        );
        assert_eq!(english(json!({"key": "integer", "max": 3})), "set of 1 to 3 integers");
    }
}
