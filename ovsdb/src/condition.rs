//! Conditions (RFC 7047 section 5.1, `<condition>`), with the `true` and `false` of conditional monitors.

use serde_json::{Value, json};

use crate::database::Row;
use crate::error::{Error, Result};
use crate::json::{Json, named_triple};
use crate::schema::{TableSchema, UUID};
use crate::symbols::Symbols;
use crate::types::AtomicType;
use crate::value::{Datum, Uuid};

/// How a column is compared with a clause's argument; in the order of how few rows each is expected to leave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Function {
    /// Equal.
    Eq,
    /// Holds all of the argument's elements.
    Includes,
    /// Not more.
    Le,
    /// Less.
    Lt,
    /// Not less.
    Ge,
    /// More.
    Gt,
    /// Holds none of the argument's elements.
    Excludes,
    /// Not equal.
    Ne,
}

impl Function {
    const ALL: [(Self, &str); 8] = [
        (Self::Eq, "=="),
        (Self::Includes, "includes"),
        (Self::Le, "<="),
        (Self::Lt, "<"),
        (Self::Ge, ">="),
        (Self::Gt, ">"),
        (Self::Excludes, "excludes"),
        (Self::Ne, "!="),
    ];

    /// The function called `name`.
    pub fn from_name(name: &str) -> Result<Self> {
        let row = Self::ALL.iter().find(|(_, other)| *other == name);
        row.map(|row| row.0)
            .ok_or_else(|| Error::new("unknown function", format!("No function named {name}.")))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(function, _)| *function == self).map_or("", |row| row.1)
    }

    fn is_ordering(self) -> bool {
        matches!(self, Self::Le | Self::Lt | Self::Ge | Self::Gt)
    }

    /// Whether `field` stands in this relation to `arg`; an ordering with nothing is false.
    pub fn holds(self, field: &Datum, arg: &Datum) -> bool {
        match self {
            Self::Eq => field == arg,
            Self::Ne => field != arg,
            Self::Includes => field.includes_all(arg),
            Self::Excludes => field.excludes_all(arg),
            Self::Le => !field.is_empty() && field <= arg,
            Self::Lt => !field.is_empty() && field < arg,
            Self::Ge => !field.is_empty() && field >= arg,
            Self::Gt => !field.is_empty() && field > arg,
        }
    }
}

/// One clause.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Clause {
    /// `true` or `false`.
    Always(bool),
    /// A column compared.
    Compare {
        /// How.
        function: Function,
        /// Which column.
        column: usize,
        /// With what.
        arg: Datum,
    },
}

impl Clause {
    /// Parses a clause on rows of `table`.
    pub fn from_json<'a>(
        table: &TableSchema,
        value: impl Json<'a>,
        symbols: Option<&mut Symbols>,
    ) -> Result<Self> {
        if let Some(always) = value.as_bool() {
            return Ok(Self::Always(always));
        }
        let Some((column, function, arg)) = named_triple(value) else {
            return Err(Error::syntax(value, "Parse error in condition."));
        };
        let Some(at) = table.column(column) else {
            let details = format!("No column {column} in table {}.", table.name);
            return Err(Error::tagged("unknown column", value, details));
        };
        let function = Function::from_name(function)?;
        let mut kind = table.columns[at].kind.clone();
        if function.is_ordering() {
            let one = kind.is_scalar() || kind.is_optional_scalar();
            if !one || !matches!(kind.key.kind(), AtomicType::Integer | AtomicType::Real) {
                let name = function.name();
                let details = format!(
                    "Type mismatch: \"{name}\" operator may not be applied to column {column} of type {kind}."
                );
                return Err(Error::syntax(value, details));
            }
            kind.min = 1;
        } else if matches!(function, Function::Includes | Function::Excludes) && !kind.is_scalar() {
            kind.min = 0;
            if function == Function::Excludes {
                kind.max = u32::MAX;
            }
        }
        Ok(Self::Compare { function, column: at, arg: Datum::from_json(&kind, arg, symbols)? })
    }

    /// Its JSON.
    pub fn to_json(&self, table: &TableSchema) -> Value {
        match self {
            Self::Always(always) => Value::Bool(*always),
            Self::Compare { function, column, arg } => {
                json!([&*table.columns[*column].name, function.name(), arg.to_json()])
            }
        }
    }

    /// Whether `row` meets it.
    pub fn holds(&self, row: &Row) -> bool {
        match self {
            Self::Always(always) => *always,
            Self::Compare { function, column, arg } => function.holds(row.get(*column), arg),
        }
    }
}

/// Several clauses. A transaction wants all of them to hold, a monitor any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Condition {
    /// The clauses, sorted: the most selective first.
    pub clauses: Vec<Clause>,
}

impl Condition {
    /// Parses an array of clauses on rows of `table`.
    pub fn from_json<'a>(
        table: &TableSchema,
        value: impl Json<'a>,
        mut symbols: Option<&mut Symbols>,
    ) -> Result<Self> {
        let mut clauses = Vec::new();
        for clause in value.items() {
            clauses.push(Clause::from_json(table, clause, symbols.as_deref_mut())?);
        }
        clauses.sort();
        clauses.dedup();
        Ok(Self { clauses })
    }

    /// Its JSON.
    pub fn to_json(&self, table: &TableSchema) -> Value {
        self.clauses.iter().map(|clause| clause.to_json(table)).collect()
    }

    /// Whether `row` meets every clause.
    pub fn all_hold(&self, row: &Row) -> bool {
        self.clauses.iter().all(|clause| clause.holds(row))
    }

    /// Whether `row` meets some clause.
    pub fn any_holds(&self, row: &Row) -> bool {
        self.clauses.iter().any(|clause| clause.holds(row))
    }

    /// The one row that can meet every clause, if a clause names it by UUID.
    pub fn uuid(&self) -> Option<Uuid> {
        let named = |clause: &Clause| match clause {
            Clause::Compare { function: Function::Eq, column: UUID, arg } => arg.as_uuid(),
            Clause::Compare { .. } | Clause::Always(_) => None,
        };
        self.clauses.iter().find_map(named)
    }

    /// The argument that column `at` must equal, if a clause says so.
    pub fn equal_to(&self, at: usize) -> Option<&Datum> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Compare { function: Function::Eq, column, arg } if *column == at => Some(arg),
            Clause::Compare { .. } | Clause::Always(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::TableSchema;

    fn table() -> TableSchema {
        TableSchema::from_json(
            "T",
            &json!({"columns": {
                "i": {"type": "integer"},
                "o": {"type": {"key": "integer", "min": 0}},
                "s": {"type": {"key": "string", "min": 0, "max": "unlimited"}}
            }}),
        )
        .unwrap()
    }

    fn holds(condition: Value) -> bool {
        let table = table();
        let mut row = Row::new(&table);
        row.set(table.column("i").unwrap(), Datum::one(5));
        row.set(table.column("s").unwrap(), Datum::set(["a", "b"]));
        Condition::from_json(&table, &condition, None).unwrap().all_hold(&row)
    }

    #[test]
    fn functions_compare() {
        for (clause, expected) in [
            (json!(["i", "==", 5]), true),
            (json!(["i", "<", 5]), false),
            (json!(["i", ">=", 5]), true),
            (json!(["i", "includes", 5]), true),
            (json!(["i", "excludes", 5]), false),
            (json!(["o", "<", 5]), false),
            (json!(["o", "!=", 5]), true),
            (json!(["o", "==", ["set", []]]), true),
            (json!(["s", "includes", "a"]), true),
            (json!(["s", "includes", ["set", []]]), true),
            (json!(["s", "includes", ["set", ["a", "c"]]]), false),
            (json!(["s", "excludes", ["set", ["c", "d"]]]), true),
            (json!(["s", "==", ["set", ["b", "a"]]]), true),
            (json!(true), true),
            (json!(false), false),
        ] {
            assert_eq!(holds(json!([clause])), expected, "{clause}");
        }
    }

    #[test]
    fn faults_are_named() {
        let fault = |clause: Value| Clause::from_json(&table(), &clause, None).unwrap_err().to_string();
        assert_eq!(
            fault(json!(["x", "==", 1])),
            "syntax \"[\"x\",\"==\",1]\": unknown column: No column x in table T."
        );
        assert_eq!(fault(json!(["i", "~", 1])), "unknown function: No function named ~.");
        assert_eq!(fault(json!(["i"])), "syntax \"[\"i\"]\": syntax error: Parse error in condition.");
        assert_eq!(
            fault(json!(["s", "<", "x"])),
            "syntax \"[\"s\",\"<\",\"x\"]\": syntax error: Type mismatch: \"<\" operator may not be applied to \
             column s of type set of strings."
        );
    }
}
