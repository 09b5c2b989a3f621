//! Reading a record's JSON straight into rows: only one row is ever held as tokens, for a record may be a whole database.

use std::sync::Arc;

use serde_json::Value;

use crate::database::{Change, Database, Row, TableId};
use crate::error::{Error, Result};
use crate::json::{Bad, Json, Node, Scanner, Shape, Tape, fault};
use crate::monitor::patch;
use crate::schema::TableSchema;
use crate::transact::random_uuid;
use crate::value::{Datum, Uuid};

/// Applies the text of a record to `db`. After an error `db` is as it was.
pub fn replay(db: &mut Database, text: &[u8]) -> Result<()> {
    let not_json = || Error::new("syntax error", format!("not valid JSON ({})", fault(text)));
    let Ok(text) = std::str::from_utf8(text) else { return Err(not_json()) };
    let mut replay = Replay { db, text, differences: None, done: Vec::new() };
    let Err(wrong) = replay.record(&mut Scanner::new(text)) else { return Ok(()) };
    let Replay { db, done, .. } = replay;
    for change in done.iter().rev() {
        db.apply_one(&change.reversed());
    }
    Err(match wrong {
        Wrong::Json => not_json(),
        Wrong::Content(error) => error,
    })
}

/// What is wrong with a record.
enum Wrong {
    /// It is no JSON.
    Json,
    /// It says something wrong.
    Content(Error),
}

impl From<Bad> for Wrong {
    fn from(_: Bad) -> Self {
        Self::Json
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Content(error)
    }
}

struct Replay<'a> {
    db: &'a mut Database,
    text: &'a str,
    /// Whether rows that are known are told as differences, once that has been asked.
    differences: Option<bool>,
    /// What was applied, to be taken back if the rest is wrong.
    done: Vec<Change>,
}

/// Calls `visit` with the name of each member of the object that comes next; it takes the member's value.
fn members<'t>(
    scanner: &mut Scanner<'t>,
    mut visit: impl FnMut(&mut Scanner<'t>, &str) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    if !scanner.take(b'{') {
        return Err(Wrong::Json);
    }
    let mut tape = Tape::default();
    let mut is_first = true;
    while !scanner.take(b'}') {
        if !std::mem::take(&mut is_first) && !scanner.take(b',') {
            return Err(Wrong::Json);
        }
        tape.clear();
        let name = scanner.name(&mut tape)?;
        visit(scanner, name)?;
    }
    Ok(())
}

impl Replay<'_> {
    /// Reads a record: tables by name.
    fn record(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Wrong> {
        let mut tape = Tape::default();
        members(scanner, |scanner, name| {
            if let Some(table) = self.db.table_id(name) {
                let schema = self.db.table(table).schema().clone();
                return members(scanner, |scanner, uuid| {
                    self.row(scanner, &mut tape, (table, &schema), uuid)
                });
            }
            if !name.starts_with('_') {
                let details = format!("No table named {name}.");
                return Err(Error::tagged("unknown table", &self.whole(), details).into());
            }
            tape.clear();
            scanner.value(&mut tape)?;
            Ok(())
        })?;
        if scanner.is_at_end() { Ok(()) } else { Err(Wrong::Json) }
    }

    /// Reads a row; null is a deletion.
    fn row(
        &mut self,
        scanner: &mut Scanner<'_>,
        tape: &mut Tape,
        (table, schema): (TableId, &TableSchema),
        uuid: &str,
    ) -> Result<(), Wrong> {
        let Ok(uuid) = uuid.parse::<Uuid>() else {
            let details = format!("\"{uuid}\" is not a valid UUID");
            return Err(Error::syntax(&self.whole(), details).into());
        };
        tape.clear();
        scanner.value(tape)?;
        let Some(columns) = tape.first(scanner.text()) else { return Err(Wrong::Json) };
        match columns.shape() {
            Shape::Null => return Ok(self.delete(table, uuid)?),
            Shape::Object => {}
            _ => return Err(Error::syntax(columns, "row must be JSON object").into()),
        }
        let before = self.db.table(table).row(uuid).cloned();
        let mut row = before.as_ref().map_or_else(|| Row::new(schema), |row| (**row).clone());
        for (name, value) in columns.members() {
            let (at, datum) = self.datum(schema, &row, before.is_some(), name, value)?;
            row.set(at, datum);
        }
        row.set_uuid(uuid);
        row.set_version(random_uuid());
        self.apply(Change { table, old: before, new: Some(Arc::new(row)) });
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        self.db.apply_one(&change);
        self.done.push(change);
    }

    /// Reads the whole record for its flag: only records about known rows have to be read twice, and those are small.
    fn has_differences(&mut self) -> Result<bool, Wrong> {
        if let Some(known) = self.differences {
            return Ok(known);
        }
        let mut tape = Tape::default();
        Scanner::new(self.text).value(&mut tape)?;
        let flag = tape.first(self.text).and_then(|record| record.member("_is_diff"));
        let differences = flag.and_then(Json::as_bool) == Some(true);
        self.differences = Some(differences);
        Ok(differences)
    }

    /// The record, or what was read of it, as an error shows it.
    fn whole(&self) -> Value {
        serde_json::from_str(self.text).unwrap_or_default()
    }

    fn delete(&mut self, table: TableId, uuid: Uuid) -> Result<()> {
        let Some(old) = self.db.table(table).row(uuid).cloned() else {
            let details = format!("transaction deletes row {uuid} that does not exist");
            return Err(Error::new("syntax error", details));
        };
        self.apply(Change { table, old: Some(old), new: None });
        Ok(())
    }

    /// The datum of a column of a row, which `known` says to have been there before.
    fn datum(
        &mut self,
        schema: &TableSchema,
        row: &Row,
        known: bool,
        name: &str,
        value: Node<'_>,
    ) -> Result<(usize, Datum), Wrong> {
        let Some(at) = schema.column(name) else {
            let details = format!("No column {name} in table {}.", schema.name);
            return Err(Error::tagged("unknown column", &self.whole(), details).into());
        };
        let kind = &schema.columns[at].kind;
        let datum = if known && self.has_differences()? {
            patch(kind, row.get(at), &Datum::from_json_any_size(kind, value, None)?)
        } else {
            Datum::from_json(kind, value, None)?
        };
        Ok((at, datum))
    }
}
