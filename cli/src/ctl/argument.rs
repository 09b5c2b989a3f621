//! `COLUMN[:KEY][OPERATOR VALUE]`: what the database commands take.

use ovsdb::schema::{ColumnSchema, TableSchema};
use ovsdb::symbols::Symbols;
use ovsdb::text::{parse_atom, parse_datum, token};
use ovsdb::types::Type;
use ovsdb::value::{Datum, Uuid};

use super::db::Db;
use super::names::Naming;

/// A parsed argument.
pub struct Argument<'t, 'a> {
    pub column: &'t ColumnSchema,
    pub key: Option<String>,
    /// The operator's index among those allowed, and the text after it.
    pub value: Option<(usize, &'a str)>,
}

/// Operators of conditions.
const OPERATORS: &[&str] =
    &["=", "!=", "<", ">", "<=", ">=", "{=}", "{!=}", "{<}", "{>}", "{<=}", "{>=}", "{in}", "{not-in}"];

/// Parses `text`; `operators` are those allowed, none for an argument that has no value.
pub fn parse<'t, 'a>(
    naming: &Naming,
    table: &'t TableSchema,
    text: &'a str,
    operators: &[&str],
) -> Result<Argument<'t, 'a>, String> {
    let (name, mut rest) = token(text)?;
    if name.is_empty() {
        return Err(format!("{text}: missing column name"));
    }
    let column = naming.column(table, &name)?;
    let mut key = None;
    if let Some(after) = rest.strip_prefix(':') {
        let (word, after) = token(after)?;
        key = Some(word);
        rest = after;
    }
    if operators.is_empty() {
        if !rest.is_empty() {
            return Err(format!("{text}: trailing garbage \"{rest}\" in argument"));
        }
        return Ok(Argument { column, key, value: None });
    }
    let fits = |&i: &usize| rest.strip_prefix(operators[i]).is_some_and(|value| !value.is_empty());
    let Some(operator) = (0..operators.len()).filter(fits).max_by_key(|&i| operators[i].len()) else {
        return Err(missing_operator(text, operators));
    };
    Ok(Argument { column, key, value: Some((operator, &rest[operators[operator].len()..])) })
}

/// Just the column that `text` begins with.
pub fn column<'t>(naming: &Naming, table: &'t TableSchema, text: &str) -> Result<&'t ColumnSchema, String> {
    let (name, _) = token(text)?;
    if name.is_empty() {
        return Err(format!("{text}: missing column name"));
    }
    naming.column(table, &name)
}

fn missing_operator(text: &str, operators: &[&str]) -> String {
    let quoted: Vec<String> = operators.iter().map(|operator| format!("\"{operator}\"")).collect();
    let list = match quoted.as_slice() {
        [one] => one.clone(),
        [one, other] => format!("{one} or {other}"),
        [first @ .., last] => format!("{}, or {last}", first.join(", ")),
        [] => String::new(),
    };
    format!("{text}: argument does not end in {list} followed by a value.")
}

/// Sets the column, or one key of it, that `text` names.
pub fn set(
    naming: &Naming,
    db: &mut Db,
    symbols: &mut Symbols,
    table: &TableSchema,
    row: Uuid,
    text: &str,
) -> Result<(), String> {
    let argument = parse(naming, table, text, &["="])?;
    let Some((_, value)) = argument.value else { return Err(format!("{text}: missing value")) };
    let column = argument.column;
    check_mutable(db, table, row, column)?;
    let datum = match argument.key {
        None => parse_datum(&column.kind, value, Some(symbols))?,
        Some(key) => {
            let Some(value_type) = &column.kind.value else {
                return Err(format!("cannot specify key to set for non-map column {}", column.name));
            };
            let key = parse_atom(&column.kind.key, &key, Some(symbols))?;
            let value = parse_atom(value_type, value, Some(symbols))?;
            db.verify(&table.name, row, &column.name);
            let mut map = db.get(&table.name, row, &column.name);
            map.put(key, value);
            map
        }
    };
    db.set(&table.name, row, &column.name, datum);
    Ok(())
}

/// An error if `column` of an existing row may not change.
pub fn check_mutable(db: &Db, table: &TableSchema, row: Uuid, column: &ColumnSchema) -> Result<(), String> {
    if column.mutable || db.is_new(&table.name, row) {
        return Ok(());
    }
    Err(format!("cannot modify read-only column {} in table {}", column.name, table.name))
}

/// Whether `row` meets the condition `text`.
pub fn holds(
    naming: &Naming,
    db: &mut Db,
    symbols: &mut Symbols,
    table: &TableSchema,
    row: Uuid,
    text: &str,
) -> Result<bool, String> {
    let argument = parse(naming, table, text, OPERATORS)?;
    let Some((operator, value)) = argument.value else { return Err(format!("{text}: missing value")) };
    let operator = OPERATORS[operator];
    let column = argument.column;
    let have = db.get(&table.name, row, &column.name);
    let Some(key) = argument.key else {
        let want = parse_datum(&column.kind, value, Some(symbols))?;
        return Ok(compare(&have, &want, operator));
    };
    let Some(value_type) = &column.kind.value else {
        return Err(format!("cannot specify key to check for non-map column {}", column.name));
    };
    let key = parse_atom(&column.kind.key, &key, Some(symbols))?;
    let kind = Type { key: value_type.clone(), value: None, min: column.kind.min, max: u32::MAX };
    let want = parse_datum(&kind, value, Some(symbols))?;
    match have.value(&key) {
        Some(atom) => Ok(compare(&Datum::one(atom.clone()), &want, operator)),
        None if operator.starts_with('{') => Ok(compare(&Datum::empty_of(&kind), &want, operator)),
        None => Ok(false),
    }
}

/// `a OPERATOR b`. The plain orders compare size first, then elements; the braced ones are those of sets.
fn compare(a: &Datum, b: &Datum, operator: &str) -> bool {
    let order = || a.compare(b);
    match operator {
        "=" | "{=}" => a == b,
        "!=" | "{!=}" => a != b,
        "<" => order().is_lt(),
        ">" => order().is_gt(),
        "<=" => order().is_le(),
        ">=" => order().is_ge(),
        "{<}" => a.len() < b.len() && b.includes_all(a),
        "{>}" => a.len() > b.len() && a.includes_all(b),
        "{<=}" | "{in}" => b.includes_all(a),
        "{>=}" => a.includes_all(b),
        "{not-in}" => b.excludes_all(a),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_numbers_compare() {
        let set = |atoms: &[i64]| Datum::set(atoms.iter().copied());
        assert!(compare(&set(&[1]), &set(&[2]), "<"));
        assert!(compare(&set(&[3]), &set(&[1, 2]), "<"));
        assert!(compare(&set(&[1]), &set(&[1, 2]), "{<}"));
        assert!(!compare(&set(&[1, 2]), &set(&[1, 2]), "{<}"));
        assert!(compare(&set(&[1, 2]), &set(&[1, 2]), "{<=}"));
        assert!(compare(&set(&[1, 2]), &set(&[2]), "{>=}"));
        assert!(compare(&set(&[]), &set(&[2]), "{in}"));
        assert!(compare(&set(&[1]), &set(&[2]), "{not-in}"));
        assert!(!compare(&set(&[1, 2]), &set(&[2, 3]), "{not-in}"));
    }

    #[test]
    fn a_missing_operator_is_named() {
        assert_eq!(missing_operator("a", &["="]), "a: argument does not end in \"=\" followed by a value.");
        assert_eq!(
            missing_operator("a", &["=", "!=", "<"]),
            "a: argument does not end in \"=\", \"!=\", or \"<\" followed by a value."
        );
    }
}
