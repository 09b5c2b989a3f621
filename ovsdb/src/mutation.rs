//! Mutations (RFC 7047 section 5.1, `<mutation>`).

use crate::database::Row;
use crate::error::{Error, Result};
use crate::json::{Json, named_triple};
use crate::schema::TableSchema;
use crate::symbols::Symbols;
use crate::types::{AtomicType, BaseType, Type};
use crate::value::{Atom, Datum, sorted_set};

/// What a mutation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutator {
    /// `+=`
    Add,
    /// `-=`
    Subtract,
    /// `*=`
    Multiply,
    /// `/=`
    Divide,
    /// `%=`
    Remainder,
    /// `insert`
    Insert,
    /// `delete`
    Delete,
}

impl Mutator {
    const ALL: [(Self, &str); 7] = [
        (Self::Add, "+="),
        (Self::Subtract, "-="),
        (Self::Multiply, "*="),
        (Self::Divide, "/="),
        (Self::Remainder, "%="),
        (Self::Insert, "insert"),
        (Self::Delete, "delete"),
    ];

    fn from_name(name: &str) -> Result<Self> {
        let row = Self::ALL.iter().find(|(_, other)| *other == name);
        row.map(|row| row.0).ok_or_else(|| Error::new("unknown mutator", format!("No mutator named {name}.")))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(mutator, _)| *mutator == self).map_or("", |row| row.1)
    }

    fn is_arithmetic(self) -> bool {
        !matches!(self, Self::Insert | Self::Delete)
    }
}

/// One mutation of a column.
#[derive(Clone, PartialEq, Debug)]
pub struct Mutation {
    /// Which column.
    pub column: usize,
    /// What happens to it.
    pub mutator: Mutator,
    /// With what.
    pub arg: Datum,
}

impl Mutation {
    /// Parses an array of mutations of rows of `table`.
    pub fn list<'a>(
        table: &TableSchema,
        value: impl Json<'a>,
        mut symbols: Option<&mut Symbols>,
    ) -> Result<Vec<Self>> {
        value.items().map(|item| Self::from_json(table, item, symbols.as_deref_mut())).collect()
    }

    /// Parses a mutation of rows of `table`.
    pub fn from_json<'a>(
        table: &TableSchema,
        value: impl Json<'a>,
        symbols: Option<&mut Symbols>,
    ) -> Result<Self> {
        let Some((column, mutator, arg)) = named_triple(value) else {
            return Err(Error::syntax(value, "Parse error in mutation."));
        };
        let Some(at) = table.column(column) else {
            let details = format!("No column {column} in table {}.", table.name);
            return Err(Error::tagged("unknown column", value, details));
        };
        let schema = &table.columns[at];
        if !schema.mutable {
            let details = format!("Cannot mutate immutable column {column} in table {}.", table.name);
            return Err(Error::tagged("constraint violation", value, details));
        }
        let mutator = Mutator::from_name(mutator)?;
        if !applies(mutator, &schema.kind) {
            let (name, kind) = (mutator.name(), &schema.kind);
            let details = format!(
                "Type mismatch: \"{name}\" operator may not be applied to column {column} of type {kind}."
            );
            return Err(Error::syntax(value, details));
        }
        Ok(Self { column: at, mutator, arg: parse_arg(mutator, &schema.kind, arg, symbols)? })
    }

    /// Changes `row`, a row of `table`.
    pub fn execute(&self, table: &TableSchema, row: &mut Row) -> Result<()> {
        let kind = &table.columns[self.column].kind;
        let datum = row.get_mut(self.column);
        match self.mutator {
            Mutator::Insert => datum.union(&self.arg, false),
            Mutator::Delete => datum.subtract(&self.arg),
            arithmetic => return self.compute(arithmetic, kind, datum),
        }
        if kind.admits(datum.len()) {
            return Ok(());
        }
        Err(Error::constraint(format!("Attempted to store {} elements in {kind}.", datum.len())))
    }

    fn compute(&self, mutator: Mutator, kind: &Type, datum: &mut Datum) -> Result<()> {
        let Some(operand) = self.arg.first() else { return Ok(()) };
        let mut results = Vec::with_capacity(datum.len());
        for atom in datum.keys() {
            let result = calculate(mutator, atom, operand)?;
            kind.key.check(&result)?;
            results.push(result);
        }
        *datum = sorted_set(results).map_err(|_| {
            Error::constraint(format!("Result of \"{}\" operation contains duplicates.", mutator.name()))
        })?;
        Ok(())
    }
}

fn applies(mutator: Mutator, kind: &Type) -> bool {
    if !mutator.is_arithmetic() {
        return !kind.is_scalar();
    }
    match kind.key.kind() {
        AtomicType::Integer => !kind.is_map(),
        AtomicType::Real => !kind.is_map() && mutator != Mutator::Remainder,
        AtomicType::Boolean | AtomicType::String | AtomicType::Uuid => false,
    }
}

fn parse_arg<'a>(
    mutator: Mutator,
    kind: &Type,
    arg: impl Json<'a>,
    mut symbols: Option<&mut Symbols>,
) -> Result<Datum> {
    if mutator.is_arithmetic() {
        let number = Type { key: BaseType::plain(kind.key.kind()), value: None, min: 1, max: 1 };
        return Datum::from_json(&number, arg, symbols);
    }
    let delete = mutator == Mutator::Delete;
    let mut kind = Type { min: 0, max: if delete { u32::MAX } else { kind.max }, ..kind.clone() };
    let whole = Datum::from_json(&kind, arg, symbols.as_deref_mut());
    if whole.is_ok() || !delete || !kind.is_map() {
        return whole;
    }
    kind.value = None;
    Datum::from_json(&kind, arg, symbols)
}

fn calculate(mutator: Mutator, x: &Atom, y: &Atom) -> Result<Atom> {
    let range =
        || Error::new("range error", format!("Result of \"{}\" operation is out of range.", mutator.name()));
    let by_zero = || Error::new("domain error", "Division by zero.");
    if let (Some(x), Some(y)) = (x.as_integer(), y.as_integer()) {
        let divides = matches!(mutator, Mutator::Divide | Mutator::Remainder);
        if divides && y == 0 {
            return Err(by_zero());
        }
        let result = match mutator {
            Mutator::Add => x.checked_add(y),
            Mutator::Subtract => x.checked_sub(y),
            Mutator::Multiply => x.checked_mul(y),
            Mutator::Divide => x.checked_div(y),
            Mutator::Remainder => x.checked_rem(y),
            Mutator::Insert | Mutator::Delete => Some(x),
        };
        return result.map(Atom::Integer).ok_or_else(range);
    }
    let (x, y) = (x.as_real().unwrap_or_default(), y.as_real().unwrap_or_default());
    if mutator == Mutator::Divide && y == 0.0 {
        return Err(by_zero());
    }
    let result = match mutator {
        Mutator::Add => x + y,
        Mutator::Subtract => x - y,
        Mutator::Multiply => x * y,
        Mutator::Divide => x / y,
        Mutator::Remainder | Mutator::Insert | Mutator::Delete => x,
    };
    if result.is_finite() { Ok(Atom::from(result)) } else { Err(range()) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(kind: Value, before: Value, mutation: Value) -> Result<Value> {
        let table = TableSchema::from_json("T", &json!({"columns": {"c": {"type": kind}}})).unwrap();
        let mut row = Row::new(&table);
        row.set(2, Datum::from_json_any_size(&table.columns[2].kind, &before, None).unwrap());
        Mutation::from_json(&table, &json!(["c", mutation[0], mutation[1]]), None)?
            .execute(&table, &mut row)?;
        Ok(row.get(2).to_json())
    }

    fn fault(kind: Value, before: Value, mutation: Value) -> String {
        run(kind, before, mutation).unwrap_err().to_string()
    }

    #[test]
    fn numbers_change() {
        let set = json!({"key": "integer", "min": 0, "max": "unlimited"});
        assert_eq!(run(json!("integer"), json!(7), json!(["%=", 4])), Ok(json!(3)));
        assert_eq!(run(json!("real"), json!(7), json!(["/=", 4])), Ok(json!(1.75)));
        assert_eq!(run(set.clone(), json!(["set", [1, 2]]), json!(["*=", -1])), Ok(json!(["set", [-2, -1]])));
        assert_eq!(
            fault(set, json!(["set", [1, 2]]), json!(["*=", 0])),
            "constraint violation: Result of \"*=\" operation contains duplicates."
        );
        assert_eq!(fault(json!("integer"), json!(1), json!(["/=", 0])), "domain error: Division by zero.");
        assert_eq!(
            fault(json!("integer"), json!(i64::MAX), json!(["+=", 1])),
            "range error: Result of \"+=\" operation is out of range."
        );
        assert_eq!(
            fault(json!("string"), json!("x"), json!(["+=", 1])),
            "syntax \"[\"c\",\"+=\",1]\": syntax error: Type mismatch: \"+=\" operator may not be applied to column c \
             of type string."
        );
    }

    #[test]
    fn sets_and_maps_change() {
        let set = json!({"key": "integer", "min": 1, "max": 3});
        assert_eq!(
            run(set.clone(), json!(1), json!(["insert", ["set", [2, 1]]])),
            Ok(json!(["set", [1, 2]]))
        );
        assert_eq!(
            fault(set.clone(), json!(1), json!(["delete", 1])),
            "constraint violation: Attempted to store 0 elements in set of 1 to 3 integers."
        );
        assert_eq!(
            fault(set, json!(["set", [1, 2]]), json!(["insert", ["set", [3, 4]]])),
            "constraint violation: Attempted to store 4 elements in set of 1 to 3 integers."
        );
        let map = json!({"key": "string", "value": "integer", "min": 0, "max": "unlimited"});
        let ab = json!(["map", [["a", 1], ["b", 2]]]);
        let delete = |what: Value| run(map.clone(), ab.clone(), json!(["delete", what]));
        assert_eq!(delete(json!(["set", ["a"]])), Ok(json!(["map", [["b", 2]]])));
        assert_eq!(delete(json!(["map", [["a", 2], ["b", 2]]])), Ok(json!(["map", [["a", 1]]])));
        let insert = run(map.clone(), ab.clone(), json!(["insert", ["map", [["a", 5], ["c", 3]]]]));
        assert_eq!(insert, Ok(json!(["map", [["a", 1], ["b", 2], ["c", 3]]])));
    }
}
