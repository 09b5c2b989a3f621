//! Reading a record's JSON straight into rows: no tree of a whole record is ever built, for a record may be a whole
//! database.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::database::{Change, Database, Row, TableId};
use crate::error::{Error, Result};
use crate::monitor::patch;
use crate::schema::TableSchema;
use crate::transact::random_uuid;
use crate::value::{Datum, Uuid};

/// Applies the text of a record to `db`. After an error `db` is as it was.
pub fn replay(db: &mut Database, text: &[u8]) -> Result<()> {
    let mut replay = Replay { db, text, differences: None, done: Vec::new(), error: None };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let outcome = Record(&mut replay).deserialize(&mut reader).and_then(|()| reader.end());
    let Replay { db, done, error, .. } = replay;
    let Err(broken) = outcome else { return Ok(()) };
    for change in done.iter().rev() {
        db.apply_one(&change.reversed());
    }
    Err(error.unwrap_or_else(|| not_json(&broken)))
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::new("syntax error", format!("not valid JSON ({error})"))
}

struct Replay<'a> {
    db: &'a mut Database,
    text: &'a [u8],
    /// Whether rows that are known are told as differences, once that has been asked.
    differences: Option<bool>,
    /// What was applied, to be taken back if the rest is wrong.
    done: Vec<Change>,
    /// What is wrong, in OVS's words.
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Flags {
    #[serde(rename = "_is_diff")]
    differences: Option<Value>,
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl Replay<'_> {
    /// Ends the reading with an error of ours.
    fn fail<E: serde::de::Error>(&mut self, error: Error) -> E {
        self.error = Some(error);
        E::custom("wrong")
    }

    /// Reads the whole record for its flag: only records about known rows have to be read twice, and those are small.
    fn has_differences(&mut self) -> Result<bool> {
        if let Some(known) = self.differences {
            return Ok(known);
        }
        let flags: Flags = serde_json::from_slice(self.text).map_err(|error| not_json(&error))?;
        let differences = flags.differences == Some(Value::Bool(true));
        self.differences = Some(differences);
        Ok(differences)
    }

    /// The record, or what was read of it, as an error shows it.
    fn whole(&self) -> Value {
        serde_json::from_slice(self.text).unwrap_or_default()
    }

    fn put(&mut self, table: TableId, uuid: Uuid, new: Option<Row>) {
        let old = self.db.table(table).row(uuid).cloned();
        let change = Change { table, old, new: new.map(Arc::new) };
        self.db.apply_one(&change);
        self.done.push(change);
    }

    fn delete(&mut self, table: TableId, uuid: Uuid) -> Result<()> {
        if self.db.table(table).row(uuid).is_none() {
            let details = format!("transaction deletes row {uuid} that does not exist");
            return Err(Error::new("syntax error", details));
        }
        self.put(table, uuid, None);
        Ok(())
    }

    /// The datum of a column of a row, which `known` says to have been there before.
    fn datum(
        &mut self,
        schema: &TableSchema,
        row: &Row,
        known: bool,
        name: &str,
        value: &Value,
    ) -> Result<(usize, Datum)> {
        let Some(at) = schema.column(name) else {
            let details = format!("No column {name} in table {}.", schema.name);
            return Err(Error::tagged("unknown column", &self.whole(), details));
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

/// Reads a record: tables by name.
struct Record<'r, 'a>(&'r mut Replay<'a>);

impl<'de> DeserializeSeed<'de> for Record<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Record<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = members.next_key()? {
            match self.0.db.table_id(&name) {
                Some(table) => {
                    let schema = self.0.db.table(table).schema().clone();
                    members.next_value_seed(Rows { replay: self.0, table, schema: &schema })?;
                }
                None if name.starts_with('_') => {
                    members.next_value::<IgnoredAny>()?;
                }
                None => {
                    let details = format!("No table named {name}.");
                    let error = Error::tagged("unknown table", &self.0.whole(), details);
                    return Err(self.0.fail(error));
                }
            }
        }
        Ok(())
    }
}

/// Reads the rows of a table, by UUID.
struct Rows<'r, 'a> {
    replay: &'r mut Replay<'a>,
    table: TableId,
    schema: &'r TableSchema,
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { replay, table, schema } = self;
        while let Some(Key(text)) = members.next_key()? {
            let Ok(uuid) = text.parse::<Uuid>() else {
                let error = Error::syntax(&replay.whole(), format!("\"{text}\" is not a valid UUID"));
                return Err(replay.fail(error));
            };
            let before = replay.db.table(table).row(uuid);
            let known = before.is_some();
            let mut row = before.map_or_else(|| Row::new(schema), |row| (**row).clone());
            row.set_uuid(uuid);
            match members.next_value_seed(Columns { replay, schema, row, known })? {
                Some(mut row) => {
                    row.set_version(random_uuid());
                    replay.put(table, uuid, Some(row));
                }
                None => {
                    if let Err(error) = replay.delete(table, uuid) {
                        return Err(replay.fail(error));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads the columns of a row; null is a deletion.
struct Columns<'r, 'a> {
    replay: &'r mut Replay<'a>,
    schema: &'r TableSchema,
    row: Row,
    known: bool,
}

impl<'de> DeserializeSeed<'de> for Columns<'_, '_> {
    type Value = Option<Row>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Row>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Columns<'_, '_> {
    type Value = Option<Row>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row: object or null")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<Row>, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Option<Row>, A::Error> {
        let Self { replay, schema, mut row, known } = self;
        while let Some(Key(name)) = members.next_key()? {
            let value: Value = members.next_value()?;
            match replay.datum(schema, &row, known, &name, &value) {
                Ok((at, datum)) => row.set(at, datum),
                Err(error) => return Err(replay.fail(error)),
            }
        }
        Ok(Some(row))
    }
}
