//! Atoms and data (RFC 7047 section 5.1): what a column holds, and its JSON.
//!
//! Invariant: the elements of a [`Datum`] are sorted and free of duplicates (map keys likewise), so that equality is
//! plain comparison and lookups are binary searches. The text forms are in [`crate::text`].

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::json;
use crate::symbols::Symbols;
use crate::types::{AtomicType, BaseType, Type};

/// A UUID, ordered by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub u128);

impl Uuid {
    /// All bits zero: what an empty uuid column holds.
    pub const ZERO: Self = Self(0);

    /// A version 4 UUID from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(bytes);
        Self(bits & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48))
    }

    /// The first 32 bits, which is what people's abbreviations show.
    pub fn prefix(self) -> u32 {
        u32::try_from(self.0 >> 96).expect("96 of 128 bits are shifted out")
    }

    /// True for [`Uuid::ZERO`].
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The name that a row inserted under this UUID gets in a transaction: `row` and the UUID with underscores.
    pub fn row_name(self) -> String {
        format!("row{self}").replace('-', "_")
    }

    /// `["uuid", "…"]`.
    pub fn to_json(self) -> Value {
        json!(["uuid", self.to_string()])
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let u = self.0;
        let node = u & 0xffff_ffff_ffff;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{node:012x}",
            u >> 96,
            (u >> 80) & 0xffff,
            (u >> 64) & 0xffff,
            (u >> 48) & 0xffff
        )
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a UUID")]
pub struct BadUuid;

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(s: &str) -> Result<Self, BadUuid> {
        let bytes = s.as_bytes();
        if bytes.len() != 36 {
            return Err(BadUuid);
        }
        let mut bits = 0_u128;
        for (i, &byte) in bytes.iter().enumerate() {
            if matches!(i, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return Err(BadUuid);
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).ok_or(BadUuid)?;
            bits = (bits << 4) | u128::from(digit);
        }
        Ok(Self(bits))
    }
}

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
    String(Arc<str>),
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
            AtomicType::String => Self::String(Arc::from("")),
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
    pub fn from_json(base: &BaseType, value: &Value, symbols: Option<&mut Symbols>) -> Result<Self> {
        let atom = Self::from_json_unchecked(base, value, symbols)?;
        base.check(&atom)?;
        Ok(atom)
    }

    fn from_json_unchecked(base: &BaseType, value: &Value, symbols: Option<&mut Symbols>) -> Result<Self> {
        let expected = || Error::syntax(value, format!("expected {}", base.kind()));
        Ok(match base.kind() {
            AtomicType::Integer => Self::Integer(json::integer(value).ok_or_else(expected)?),
            AtomicType::Real => Self::from(value.as_f64().ok_or_else(expected)?),
            AtomicType::Boolean => Self::Boolean(value.as_bool().ok_or_else(expected)?),
            AtomicType::String => Self::String(Arc::from(value.as_str().ok_or_else(expected)?)),
            AtomicType::Uuid => Self::Uuid(uuid_from_json(base, value, symbols)?),
        })
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

fn uuid_from_json(base: &BaseType, value: &Value, symbols: Option<&mut Symbols>) -> Result<Uuid> {
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
fn unwrap<'a>(value: &'a Value, name: &str, kind: &str) -> Result<&'a Value> {
    if let Value::Array(pair) = value
        && let [Value::String(tag), inner] = pair.as_slice()
        && tag == name
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
        Self::String(Arc::from(s))
    }
}

impl From<String> for Atom {
    fn from(s: String) -> Self {
        Self::String(Arc::from(s))
    }
}

impl From<Uuid> for Atom {
    fn from(u: Uuid) -> Self {
        Self::Uuid(u)
    }
}

/// What a column of a row holds: a set of atoms, a single value being a set of one, or a map.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Datum {
    /// Sorted, distinct atoms.
    Set(Vec<Atom>),
    /// Pairs sorted by their distinct keys.
    Map(Vec<(Atom, Atom)>),
}

impl Datum {
    /// What a column holds in a row that does not mention it.
    pub fn default_of(kind: &Type) -> Self {
        let wanted = kind.min != 0;
        match &kind.value {
            Some(value) if wanted => {
                Self::Map(vec![(Atom::default_of(kind.key.kind()), Atom::default_of(value.kind()))])
            }
            Some(_) => Self::Map(Vec::new()),
            None if wanted => Self::Set(vec![Atom::default_of(kind.key.kind())]),
            None => Self::Set(Vec::new()),
        }
    }

    /// The empty set or map, whatever `kind` is.
    pub fn empty_of(kind: &Type) -> Self {
        if kind.value.is_some() { Self::Map(Vec::new()) } else { Self::Set(Vec::new()) }
    }

    /// A set of one atom.
    pub fn one(atom: impl Into<Atom>) -> Self {
        Self::Set(vec![atom.into()])
    }

    /// A set of these atoms; duplicates collapse.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort();
        atoms.dedup();
        Self::Set(atoms)
    }

    /// A map of these pairs; of equal keys the first stays.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut pairs: Vec<(Atom, Atom)> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|a, b| a.0 == b.0);
        Self::Map(pairs)
    }

    /// How many atoms or pairs there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Set(atoms) => atoms.len(),
            Self::Map(pairs) => pairs.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The atoms of a set, the keys of a map, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Atom> + Clone {
        let (atoms, pairs): (&[Atom], &[(Atom, Atom)]) = match self {
            Self::Set(atoms) => (atoms, &[]),
            Self::Map(pairs) => (&[], pairs),
        };
        atoms.iter().chain(pairs.iter().map(|(key, _)| key))
    }

    /// The values of a map, in the order of their keys; nothing for a set.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Atom> + Clone {
        self.pairs().iter().map(|(_, value)| value)
    }

    /// The pairs of a map; nothing for a set.
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        match self {
            Self::Set(_) => &[],
            Self::Map(pairs) => pairs,
        }
    }

    /// The first atom or key.
    pub fn first(&self) -> Option<&Atom> {
        self.keys().next()
    }

    /// The first atom as an integer.
    pub fn as_integer(&self) -> Option<i64> {
        self.first()?.as_integer()
    }

    /// The first atom as a real.
    pub fn as_real(&self) -> Option<f64> {
        self.first()?.as_real()
    }

    /// The first atom as a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        self.first()?.as_bool()
    }

    /// The first atom as a string.
    pub fn as_str(&self) -> Option<&str> {
        self.first()?.as_str()
    }

    /// The first atom as a UUID.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.first()?.as_uuid()
    }

    /// The strings of a set, or the string keys of a map.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.keys().filter_map(Atom::as_str)
    }

    /// The integers of a set, or the integer keys of a map.
    pub fn integers(&self) -> impl Iterator<Item = i64> {
        self.keys().filter_map(Atom::as_integer)
    }

    /// The UUIDs of a set, or the UUID keys of a map.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.keys().filter_map(Atom::as_uuid)
    }

    /// The order in which OVS sorts data: fewer elements first, then by keys, then by values.
    pub fn compare(&self, other: &Self) -> Ordering {
        let by_size = self.len().cmp(&other.len());
        by_size.then_with(|| self.keys().cmp(other.keys())).then_with(|| self.values().cmp(other.values()))
    }

    /// True if an atom, or a key, equals `atom`.
    pub fn contains(&self, atom: &Atom) -> bool {
        match self {
            Self::Set(atoms) => atoms.binary_search(atom).is_ok(),
            Self::Map(pairs) => pairs.binary_search_by(|(key, _)| key.cmp(atom)).is_ok(),
        }
    }

    /// The value of a map under `key`.
    pub fn value(&self, key: &Atom) -> Option<&Atom> {
        let pairs = self.pairs();
        pairs.binary_search_by(|(k, _)| k.cmp(key)).ok().map(|at| &pairs[at].1)
    }

    /// The string of a string-to-string map under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let pairs = self.pairs();
        let at = pairs.binary_search_by(|(k, _)| k.as_str().unwrap_or_default().cmp(key)).ok()?;
        pairs[at].1.as_str()
    }

    /// The strings of a string-to-string map, in key order.
    pub fn string_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().filter_map(|(k, v)| Some((k.as_str()?, v.as_str()?)))
    }

    /// Adds an atom to a set; false if it was there (or this is a map).
    pub fn insert(&mut self, atom: Atom) -> bool {
        let Self::Set(atoms) = self else { return false };
        match atoms.binary_search(&atom) {
            Ok(_) => false,
            Err(at) => {
                atoms.insert(at, atom);
                true
            }
        }
    }

    /// Sets `key` of a map; the former value is returned. Does nothing to a set.
    pub fn put(&mut self, key: Atom, value: Atom) -> Option<Atom> {
        let Self::Map(pairs) = self else { return None };
        match pairs.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => Some(std::mem::replace(&mut pairs[at].1, value)),
            Err(at) => {
                pairs.insert(at, (key, value));
                None
            }
        }
    }

    /// Removes an atom, or the pair of a key; false if it was not there.
    pub fn remove(&mut self, atom: &Atom) -> bool {
        match self {
            Self::Set(atoms) => atoms.binary_search(atom).map(|at| atoms.remove(at)).is_ok(),
            Self::Map(pairs) => {
                pairs.binary_search_by(|(key, _)| key.cmp(atom)).map(|at| pairs.remove(at)).is_ok()
            }
        }
    }

    /// Keeps the elements that `keep` approves, by key and value.
    pub fn retain(&mut self, mut keep: impl FnMut(&Atom, Option<&Atom>) -> bool) {
        match self {
            Self::Set(atoms) => atoms.retain(|atom| keep(atom, None)),
            Self::Map(pairs) => pairs.retain(|(key, value)| keep(key, Some(value))),
        }
    }

    /// Adds what `other` has and this has not: atoms, or pairs with new keys. With `replace`, values of
    /// known keys are overwritten too.
    pub fn union(&mut self, other: &Self, replace: bool) {
        match (self, other) {
            (Self::Set(mine), Self::Set(theirs)) => {
                *mine = merge_sorted(std::mem::take(mine), theirs, Ord::cmp)
            }
            (Self::Map(mine), Self::Map(theirs)) => {
                if replace {
                    for (key, value) in theirs {
                        if let Ok(at) = mine.binary_search_by(|(k, _)| k.cmp(key)) {
                            mine[at].1 = value.clone();
                        }
                    }
                }
                *mine = merge_sorted(std::mem::take(mine), theirs, |a, b| a.0.cmp(&b.0));
            }
            (Self::Set(_), Self::Map(_)) | (Self::Map(_), Self::Set(_)) => {}
        }
    }

    /// Removes the elements that `other` has. From a map, a set of keys removes by key, a map only equal pairs.
    pub fn subtract(&mut self, other: &Self) {
        self.retain(|key, value| !other.has(key, value));
    }

    /// True if this holds `key`; as a map, and if a value is given, with that value.
    fn has(&self, key: &Atom, value: Option<&Atom>) -> bool {
        match (self, value) {
            (Self::Map(_), Some(value)) => self.value(key) == Some(value),
            _ => self.contains(key),
        }
    }

    /// True if every element of `part` is one of this.
    pub fn includes_all(&self, part: &Self) -> bool {
        match part {
            Self::Set(atoms) => atoms.iter().all(|atom| self.contains(atom)),
            Self::Map(pairs) => pairs.iter().all(|(key, value)| self.has(key, Some(value))),
        }
    }

    /// True if no element of `part` is one of this.
    pub fn excludes_all(&self, part: &Self) -> bool {
        match part {
            Self::Set(atoms) => !atoms.iter().any(|atom| self.contains(atom)),
            Self::Map(pairs) => !pairs.iter().any(|(key, value)| self.has(key, Some(value))),
        }
    }

    /// What turns `self` into `new` in an `update2` or `update3` and in a journal's diff record: for a set the atoms in
    /// just one of the two; for a map the pairs to add or change, and those to remove as they were.
    pub fn diff(&self, new: &Self) -> Self {
        match (self, new) {
            (Self::Set(old), Self::Set(new)) => {
                let gone = old.iter().filter(|atom| new.binary_search(atom).is_err());
                let come = new.iter().filter(|atom| old.binary_search(atom).is_err());
                let mut atoms: Vec<Atom> = gone.chain(come).cloned().collect();
                atoms.sort();
                Self::Set(atoms)
            }
            (Self::Map(old_pairs), Self::Map(new_pairs)) => {
                let gone = old_pairs.iter().filter(|(key, _)| !new.contains(key));
                let come = new_pairs.iter().filter(|(key, value)| self.value(key) != Some(value));
                let mut pairs: Vec<(Atom, Atom)> = gone.chain(come).cloned().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                Self::Map(pairs)
            }
            (Self::Set(_), Self::Map(_)) | (Self::Map(_), Self::Set(_)) => new.clone(),
        }
    }

    /// Undoes [`Datum::diff`]: applies a difference to the old datum.
    #[must_use]
    pub fn patched(&self, diff: &Self) -> Self {
        let mut new = self.clone();
        match diff {
            Self::Set(atoms) => {
                for atom in atoms {
                    if !new.remove(atom) {
                        new.insert(atom.clone());
                    }
                }
            }
            Self::Map(pairs) => {
                for (key, value) in pairs {
                    if new.value(key) == Some(value) {
                        new.remove(key);
                    } else {
                        new.put(key.clone(), value.clone());
                    }
                }
            }
        }
        new
    }

    /// Parses JSON as a datum of `kind`, checking atoms' constraints and the number of elements.
    pub fn from_json(kind: &Type, value: &Value, symbols: Option<&mut Symbols>) -> Result<Self> {
        Self::parse_json(kind, value, symbols, (kind.min as usize, kind.max as usize))
    }

    /// Like [`Datum::from_json`], but any number of elements will do: for differences and mutations' operands.
    pub fn from_json_any_size(kind: &Type, value: &Value, symbols: Option<&mut Symbols>) -> Result<Self> {
        Self::parse_json(kind, value, symbols, (0, u32::MAX as usize))
    }

    fn parse_json(
        kind: &Type,
        value: &Value,
        mut symbols: Option<&mut Symbols>,
        (min, max): (usize, usize),
    ) -> Result<Self> {
        let class = if kind.value.is_some() { "map" } else { "set" };
        let is_set = value.get(0).is_some_and(|tag| tag == "set");
        if kind.value.is_none() && !is_set {
            return Ok(Self::Set(vec![Atom::from_json(&kind.key, value, symbols)?]));
        }
        let elements = unwrap(value, class, "array")?.as_array().map_or(&[][..], Vec::as_slice);
        let n = elements.len();
        if n < min || n > max {
            return Err(Error::syntax(
                value,
                if (min, max) == (1, 1) {
                    format!("{class} must have exactly one member but {n} are present")
                } else {
                    format!("{class} must have {min} to {max} members but {n} are present")
                },
            ));
        }
        let Some(value_type) = &kind.value else {
            let mut atoms = Vec::with_capacity(n);
            for element in elements {
                atoms.push(Atom::from_json(&kind.key, element, symbols.as_deref_mut())?);
            }
            return sorted_set(atoms);
        };
        let mut pairs = Vec::with_capacity(n);
        for element in elements {
            let Some([key, value]) = element.as_array().map(Vec::as_slice) else {
                return Err(Error::syntax(element, "expected 2-element array"));
            };
            let key = Atom::from_json(&kind.key, key, symbols.as_deref_mut())?;
            pairs.push((key, Atom::from_json(value_type, value, symbols.as_deref_mut())?));
        }
        sorted_map(pairs)
    }

    /// Its JSON: a bare atom for a set of one, else `["set", …]` or `["map", …]`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Set(atoms) if atoms.len() == 1 => atoms[0].to_json(),
            Self::Set(atoms) => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            Self::Map(pairs) => {
                let pairs: Vec<Value> =
                    pairs.iter().map(|(k, v)| json!([k.to_json(), v.to_json()])).collect();
                json!(["map", pairs])
            }
        }
    }
}

/// A set of `atoms`, which must be distinct.
pub(crate) fn sorted_set(mut atoms: Vec<Atom>) -> Result<Datum> {
    atoms.sort();
    if atoms.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::plain("set contains duplicate"));
    }
    Ok(Datum::Set(atoms))
}

/// A map of `pairs`, whose keys must be distinct.
pub(crate) fn sorted_map(mut pairs: Vec<(Atom, Atom)>) -> Result<Datum> {
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
        return Err(Error::plain("map contains duplicate key"));
    }
    Ok(Datum::Map(pairs))
}

/// Merges two sorted lists; of equal elements the one of `mine` stays.
fn merge_sorted<T: Clone>(mine: Vec<T>, theirs: &[T], cmp: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let mut out = Vec::with_capacity(mine.len() + theirs.len());
    let mut theirs = theirs.iter().peekable();
    for element in mine {
        while let Some(other) = theirs.next_if(|other| cmp(other, &element) == Ordering::Less) {
            out.push(other.clone());
        }
        theirs.next_if(|other| cmp(other, &element) == Ordering::Equal);
        out.push(element);
    }
    out.extend(theirs.cloned());
    out
}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Fewer elements first, then by keys, then by values.
impl Ord for Datum {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_keys = || self.keys().cmp(other.keys());
        self.len().cmp(&other.len()).then_with(by_keys).then_with(|| self.values().cmp(other.values()))
    }
}

impl<A: Into<Atom>> From<A> for Datum {
    fn from(atom: A) -> Self {
        Self::one(atom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn type_of(value: Value) -> Type {
        Type::from_json(&value).unwrap()
    }

    fn error(kind: Value, value: Value) -> String {
        Datum::from_json(&type_of(kind), &value, None).unwrap_err().to_string()
    }

    #[test]
    fn uuid_text_round_trips() {
        let text = "9b66f380-1a56-4a63-9d2f-0e0f0ab4c1de";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(uuid.prefix(), 0x9b66_f380);
        assert_eq!(uuid.row_name(), "row9b66f380_1a56_4a63_9d2f_0e0f0ab4c1de");
        assert_eq!("9b66f380-1a56-4a63-9d2f-0e0f0ab4c1d".parse::<Uuid>(), Err(BadUuid));
        assert_eq!("9b66f380-1a56-4a63-9d2f_0e0f0ab4c1de".parse::<Uuid>(), Err(BadUuid));
        assert_eq!(Uuid::from_random([0xff; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn json_of_sets_and_maps() {
        let ints = type_of(json!({"key": "integer", "min": 0, "max": "unlimited"}));
        let datum = Datum::from_json(&ints, &json!(["set", [3, 1, 2.0]]), None).unwrap();
        assert_eq!(datum, Datum::set([1, 2, 3]));
        assert_eq!(datum.to_json(), json!(["set", [1, 2, 3]]));
        assert_eq!(Datum::from_json(&ints, &json!(7), None).unwrap().to_json(), json!(7));
        let map = type_of(json!({"key": "string", "value": "uuid", "min": 0, "max": 2}));
        let text = json!(["map", [["a", ["uuid", "550e8400-e29b-41d4-a716-446655440000"]]]]);
        assert_eq!(Datum::from_json(&map, &text, None).unwrap().to_json(), text);
    }

    #[test]
    fn errors_name_the_json() {
        let set = json!({"key": "integer", "min": 0, "max": 2});
        assert_eq!(error(set.clone(), json!("x")), "syntax \"\"x\"\": syntax error: expected integer");
        assert_eq!(
            error(set.clone(), json!(["set", [1, 2, 3]])),
            "syntax \"[\"set\",[1,2,3]]\": syntax error: set must have 0 to 2 members but 3 are present"
        );
        assert_eq!(error(set, json!(["set", [1, 1]])), "ovsdb error: set contains duplicate");
        assert_eq!(
            error(json!("string"), json!(["set", []])),
            "syntax \"[\"set\",[]]\": syntax error: set must have exactly one member but 0 are present"
        );
        assert_eq!(
            error(json!("uuid"), json!(["uuid", "x"])),
            "syntax \"[\"uuid\",\"x\"]\": syntax error: \"x\" is not a valid UUID"
        );
        assert_eq!(
            error(json!("uuid"), json!(5)),
            "syntax \"5\": syntax error: expected [\"uuid\", <string>]"
        );
        assert_eq!(
            error(json!({"key": "string", "value": "string"}), json!(["map", [["a"]]])),
            "syntax \"[\"a\"]\": syntax error: expected 2-element array"
        );
    }

    #[test]
    fn order_is_by_size_first() {
        assert!(Datum::set([9]) < Datum::set([1, 2]));
        assert!(Datum::set([1, 3]) > Datum::set([1, 2]));
        assert!(Datum::map([("a", "x"), ("c", "a")]) > Datum::map([("a", "y"), ("b", "z")]));
    }

    fn any_set() -> impl Strategy<Value = Datum> {
        proptest::collection::vec(0_i64..8, 0..8).prop_map(Datum::set)
    }

    fn any_map() -> impl Strategy<Value = Datum> {
        proptest::collection::vec((0_i64..6, 0_i64..3), 0..6).prop_map(Datum::map)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn set_operations_agree_with_a_slow_twin(a in any_set(), b in any_set()) {
            let (keys_a, keys_b): (Vec<_>, Vec<_>) = (a.keys().cloned().collect(), b.keys().cloned().collect());
            let mut union = a.clone();
            union.union(&b, false);
            prop_assert_eq!(&union, &Datum::set(keys_a.iter().chain(&keys_b).cloned()));
            let mut rest = a.clone();
            rest.subtract(&b);
            prop_assert_eq!(rest, Datum::set(keys_a.iter().filter(|k| !keys_b.contains(k)).cloned()));
            prop_assert_eq!(a.includes_all(&b), keys_b.iter().all(|k| keys_a.contains(k)));
            prop_assert_eq!(a.excludes_all(&b), !keys_b.iter().any(|k| keys_a.contains(k)));
            prop_assert_eq!(a.patched(&a.diff(&b)), b);
        }

        #[test]
        fn map_differences_apply(a in any_map(), b in any_map()) {
            prop_assert_eq!(a.patched(&a.diff(&b)), b.clone());
            let mut union = a.clone();
            union.union(&b, true);
            for (key, value) in union.pairs() {
                prop_assert_eq!(b.value(key).or_else(|| a.value(key)), Some(value));
            }
        }
    }
}
