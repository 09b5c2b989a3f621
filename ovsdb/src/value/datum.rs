//! Data.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::{Value, json};

use super::atom::unwrap;
use super::{Atom, Uuid};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::symbols::Symbols;
use crate::types::Type;

/// What a column of a row holds: a set of atoms, a single value being a set of one, or a map.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Datum(Repr);

/// One datum has one representation only, so that equality is of representations.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Repr {
    NoAtom,
    NoPair,
    One(Atom),
    /// Two or more sorted, distinct atoms.
    Set(Arc<[Atom]>),
    /// One or more pairs, sorted by their distinct keys.
    Map(Arc<[(Atom, Atom)]>),
}

const _: () = assert!(size_of::<Datum>() == 24);

/// The elements of a datum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Elements<'a> {
    /// Of a set: sorted, distinct.
    Atoms(&'a [Atom]),
    /// Of a map: sorted by distinct keys.
    Pairs(&'a [(Atom, Atom)]),
}

impl Datum {
    /// The empty set.
    pub const fn empty_set() -> Self {
        Self(Repr::NoAtom)
    }

    /// The empty map.
    pub const fn empty_map() -> Self {
        Self(Repr::NoPair)
    }

    /// A set of these atoms, which are sorted and distinct.
    fn of_atoms(mut atoms: Vec<Atom>) -> Self {
        Self(match atoms.len() {
            0 => Repr::NoAtom,
            1 => atoms.pop().map_or(Repr::NoAtom, Repr::One),
            _ => Repr::Set(atoms.into()),
        })
    }

    /// A map of these pairs, which are sorted by their distinct keys.
    fn of_pairs(pairs: Vec<(Atom, Atom)>) -> Self {
        Self(if pairs.is_empty() { Repr::NoPair } else { Repr::Map(pairs.into()) })
    }

    /// What a column holds in a row that does not mention it.
    pub fn default_of(kind: &Type) -> Self {
        let wanted = kind.min != 0;
        let key = || Atom::default_of(kind.key.kind());
        match &kind.value {
            Some(value) if wanted => Self::of_pairs(vec![(key(), Atom::default_of(value.kind()))]),
            Some(_) => Self::empty_map(),
            None if wanted => Self(Repr::One(key())),
            None => Self::empty_set(),
        }
    }

    /// True if it is what [`Datum::default_of`] says.
    pub fn is_default_of(&self, kind: &Type) -> bool {
        match &self.0 {
            Repr::NoAtom | Repr::NoPair => kind.min == 0,
            Repr::One(atom) => {
                kind.min != 0 && kind.value.is_none() && *atom == Atom::default_of(kind.key.kind())
            }
            Repr::Set(_) => false,
            Repr::Map(_) => *self == Self::default_of(kind),
        }
    }

    /// The empty set or map, whatever `kind` is.
    pub fn empty_of(kind: &Type) -> Self {
        if kind.value.is_some() { Self::empty_map() } else { Self::empty_set() }
    }

    /// A set of one atom.
    pub fn one(atom: impl Into<Atom>) -> Self {
        Self(Repr::One(atom.into()))
    }

    /// A set of these atoms; duplicates collapse.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort();
        atoms.dedup();
        Self::of_atoms(atoms)
    }

    /// A map of these pairs; of equal keys the first stays.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut pairs: Vec<(Atom, Atom)> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|a, b| a.0 == b.0);
        Self::of_pairs(pairs)
    }

    /// Its elements.
    pub fn elements(&self) -> Elements<'_> {
        match &self.0 {
            Repr::NoAtom => Elements::Atoms(&[]),
            Repr::One(atom) => Elements::Atoms(std::slice::from_ref(atom)),
            Repr::Set(atoms) => Elements::Atoms(atoms),
            Repr::NoPair => Elements::Pairs(&[]),
            Repr::Map(pairs) => Elements::Pairs(pairs),
        }
    }

    /// True if it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.elements(), Elements::Pairs(_))
    }

    /// How many atoms or pairs there are.
    pub fn len(&self) -> usize {
        match self.elements() {
            Elements::Atoms(atoms) => atoms.len(),
            Elements::Pairs(pairs) => pairs.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Repr::NoAtom | Repr::NoPair)
    }

    /// The atoms of a set; nothing for a map.
    pub fn atoms(&self) -> &[Atom] {
        match self.elements() {
            Elements::Atoms(atoms) => atoms,
            Elements::Pairs(_) => &[],
        }
    }

    /// The atoms of a set, the keys of a map, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Atom> + Clone {
        self.atoms().iter().chain(self.pairs().iter().map(|(key, _)| key))
    }

    /// The values of a map, in the order of their keys; nothing for a set.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Atom> + Clone {
        self.pairs().iter().map(|(_, value)| value)
    }

    /// The pairs of a map; nothing for a set.
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        match self.elements() {
            Elements::Atoms(_) => &[],
            Elements::Pairs(pairs) => pairs,
        }
    }

    /// The first atom or key.
    pub fn first(&self) -> Option<&Atom> {
        match self.elements() {
            Elements::Atoms(atoms) => atoms.first(),
            Elements::Pairs(pairs) => pairs.first().map(|(key, _)| key),
        }
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
        match self.elements() {
            Elements::Atoms(atoms) => atoms.binary_search(atom).is_ok(),
            Elements::Pairs(pairs) => pairs.binary_search_by(|(key, _)| key.cmp(atom)).is_ok(),
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
        if self.is_map() || self.contains(&atom) {
            return false;
        }
        let mut atoms = self.atoms().to_vec();
        let at = atoms.partition_point(|other| *other < atom);
        atoms.insert(at, atom);
        *self = Self::of_atoms(atoms);
        true
    }

    /// Sets `key` of a map; the former value is returned. Does nothing to a set.
    pub fn put(&mut self, key: Atom, value: Atom) -> Option<Atom> {
        if !self.is_map() {
            return None;
        }
        let mut pairs = self.pairs().to_vec();
        let former = match pairs.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => Some(std::mem::replace(&mut pairs[at].1, value)),
            Err(at) => {
                pairs.insert(at, (key, value));
                None
            }
        };
        *self = Self::of_pairs(pairs);
        former
    }

    /// Removes an atom, or the pair of a key; false if it was not there.
    pub fn remove(&mut self, atom: &Atom) -> bool {
        let found = self.contains(atom);
        if found {
            self.retain(|key, _| key != atom);
        }
        found
    }

    /// Keeps the elements that `keep` approves, by key and value.
    pub fn retain(&mut self, mut keep: impl FnMut(&Atom, Option<&Atom>) -> bool) {
        let kept = match self.elements() {
            Elements::Atoms(atoms) => {
                Self::of_atoms(atoms.iter().filter(|atom| keep(atom, None)).cloned().collect())
            }
            Elements::Pairs(pairs) => {
                Self::of_pairs(pairs.iter().filter(|(key, value)| keep(key, Some(value))).cloned().collect())
            }
        };
        // What did not change goes on sharing its elements.
        if kept.len() != self.len() {
            *self = kept;
        }
    }

    /// Adds what `other` has and this has not: atoms, or pairs with new keys. With `replace`, values of
    /// known keys are overwritten too.
    pub fn union(&mut self, other: &Self, replace: bool) {
        match (self.elements(), other.elements()) {
            (Elements::Atoms(mine), Elements::Atoms(theirs)) => {
                *self = Self::of_atoms(merge_sorted(mine, theirs, Ord::cmp));
            }
            (Elements::Pairs(mine), Elements::Pairs(theirs)) => {
                let by_key = |a: &(Atom, Atom), b: &(Atom, Atom)| a.0.cmp(&b.0);
                let (first, second) = if replace { (theirs, mine) } else { (mine, theirs) };
                *self = Self::of_pairs(merge_sorted(first, second, by_key));
            }
            (Elements::Atoms(_), Elements::Pairs(_)) | (Elements::Pairs(_), Elements::Atoms(_)) => {}
        }
    }

    /// Removes the elements that `other` has. From a map, a set of keys removes by key, a map only equal pairs.
    pub fn subtract(&mut self, other: &Self) {
        self.retain(|key, value| !other.has(key, value));
    }

    /// True if this holds `key`; as a map, and if a value is given, with that value.
    fn has(&self, key: &Atom, value: Option<&Atom>) -> bool {
        match value {
            Some(value) if self.is_map() => self.value(key) == Some(value),
            _ => self.contains(key),
        }
    }

    /// True if every element of `part` is one of this.
    pub fn includes_all(&self, part: &Self) -> bool {
        match part.elements() {
            Elements::Atoms(atoms) => atoms.iter().all(|atom| self.contains(atom)),
            Elements::Pairs(pairs) => pairs.iter().all(|(key, value)| self.has(key, Some(value))),
        }
    }

    /// True if no element of `part` is one of this.
    pub fn excludes_all(&self, part: &Self) -> bool {
        match part.elements() {
            Elements::Atoms(atoms) => !atoms.iter().any(|atom| self.contains(atom)),
            Elements::Pairs(pairs) => !pairs.iter().any(|(key, value)| self.has(key, Some(value))),
        }
    }

    /// What turns `self` into `new` in an `update2` or `update3` and in a journal's diff record: for a set the atoms in
    /// just one of the two; for a map the pairs to add or change, and those to remove as they were.
    pub fn diff(&self, new: &Self) -> Self {
        match (self.elements(), new.elements()) {
            (Elements::Atoms(old), Elements::Atoms(fresh)) => {
                let gone = old.iter().filter(|atom| fresh.binary_search(atom).is_err());
                let come = fresh.iter().filter(|atom| old.binary_search(atom).is_err());
                let mut atoms: Vec<Atom> = gone.chain(come).cloned().collect();
                atoms.sort();
                Self::of_atoms(atoms)
            }
            (Elements::Pairs(old), Elements::Pairs(fresh)) => {
                let gone = old.iter().filter(|(key, _)| !new.contains(key));
                let come = fresh.iter().filter(|(key, value)| self.value(key) != Some(value));
                let mut pairs: Vec<(Atom, Atom)> = gone.chain(come).cloned().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                Self::of_pairs(pairs)
            }
            (Elements::Atoms(_), Elements::Pairs(_)) | (Elements::Pairs(_), Elements::Atoms(_)) => {
                new.clone()
            }
        }
    }

    /// Undoes [`Datum::diff`]: applies a difference to the old datum.
    #[must_use]
    pub fn patched(&self, diff: &Self) -> Self {
        let mut kept = self.clone();
        match (self.elements(), diff.elements()) {
            (Elements::Atoms(_), Elements::Atoms(atoms)) => {
                kept.retain(|atom, _| !diff.contains(atom));
                let fresh = atoms.iter().filter(|atom| !self.contains(atom)).cloned().collect();
                kept.union(&Self::of_atoms(fresh), false);
            }
            (Elements::Pairs(_), Elements::Pairs(pairs)) => {
                kept.retain(|key, value| diff.value(key).is_none_or(|other| Some(other) != value));
                let fresh =
                    pairs.iter().filter(|(key, value)| self.value(key) != Some(value)).cloned().collect();
                kept.union(&Self::of_pairs(fresh), true);
            }
            (Elements::Atoms(_), Elements::Pairs(_)) | (Elements::Pairs(_), Elements::Atoms(_)) => {}
        }
        kept
    }

    /// Parses JSON as a datum of `kind`, checking atoms' constraints and the number of elements.
    pub fn from_json<'a>(kind: &Type, value: impl Json<'a>, symbols: Option<&mut Symbols>) -> Result<Self> {
        Self::parse_json(kind, value, symbols, (kind.min as usize, kind.max as usize))
    }

    /// Like [`Datum::from_json`], but any number of elements will do: for differences and mutations' operands.
    pub fn from_json_any_size<'a>(
        kind: &Type,
        value: impl Json<'a>,
        symbols: Option<&mut Symbols>,
    ) -> Result<Self> {
        Self::parse_json(kind, value, symbols, (0, u32::MAX as usize))
    }

    fn parse_json<'a>(
        kind: &Type,
        value: impl Json<'a>,
        mut symbols: Option<&mut Symbols>,
        (min, max): (usize, usize),
    ) -> Result<Self> {
        let class = if kind.value.is_some() { "map" } else { "set" };
        let is_set = value.items().next().is_some_and(|tag| tag.as_str() == Some("set"));
        if kind.value.is_none() && !is_set {
            return Ok(Self(Repr::One(Atom::from_json(&kind.key, value, symbols)?)));
        }
        let elements = unwrap(value, class, "array")?.items();
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
            let Some([key, value]) = element.array_of() else {
                return Err(Error::syntax(element, "expected 2-element array"));
            };
            let key = Atom::from_json(&kind.key, key, symbols.as_deref_mut())?;
            pairs.push((key, Atom::from_json(value_type, value, symbols.as_deref_mut())?));
        }
        sorted_map(pairs)
    }

    /// Appends its JSON: a bare atom for a set of one, else `["set", …]` or `["map", …]`.
    pub fn write_json(&self, out: &mut String) {
        match self.elements() {
            Elements::Atoms([atom]) => atom.write_json(out),
            Elements::Atoms(atoms) => {
                out.push_str("[\"set\",[");
                for (i, atom) in atoms.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    atom.write_json(out);
                }
                out.push_str("]]");
            }
            Elements::Pairs(pairs) => {
                out.push_str("[\"map\",[");
                for (i, (key, value)) in pairs.iter().enumerate() {
                    out.push_str(if i > 0 { ",[" } else { "[" });
                    key.write_json(out);
                    out.push(',');
                    value.write_json(out);
                    out.push(']');
                }
                out.push_str("]]");
            }
        }
    }

    /// Its JSON.
    pub fn to_json(&self) -> Value {
        match self.elements() {
            Elements::Atoms([atom]) => atom.to_json(),
            Elements::Atoms(atoms) => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            Elements::Pairs(pairs) => {
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
    Ok(Datum::of_atoms(atoms))
}

/// A map of `pairs`, whose keys must be distinct.
pub(crate) fn sorted_map(mut pairs: Vec<(Atom, Atom)>) -> Result<Datum> {
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
        return Err(Error::plain("map contains duplicate key"));
    }
    Ok(Datum::of_pairs(pairs))
}

/// Merges two sorted lists; of equal elements the one of `mine` stays.
fn merge_sorted<T: Clone>(mine: &[T], theirs: &[T], cmp: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let mut out = Vec::with_capacity(mine.len() + theirs.len());
    let mut theirs = theirs.iter().peekable();
    for element in mine {
        while let Some(other) = theirs.next_if(|other| cmp(other, element) == Ordering::Less) {
            out.push(other.clone());
        }
        theirs.next_if(|other| cmp(other, element) == Ordering::Equal);
        out.push(element.clone());
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
