//! `backup` and `restore`: a database as a journal, to standard output and from standard input.

use std::io::{BufReader, IsTerminal, Write, stdin, stdout};
use std::sync::Arc;

use ovsdb::database::{Database, Row};
use ovsdb::json;
use ovsdb::schema::{DatabaseSchema, TableSchema};
use ovsdb::storage::{self, journal};
use ovsdb::types::AtomicType;
use ovsdb::value::{Datum, Uuid};
use serde_json::{Map, Value, json};

use super::commands::schema;
use super::program::Session;
use super::rpc::Fatal;

/// Prints all rows as a journal of two records.
pub async fn backup(session: &mut Session) -> Result<(), Fatal> {
    if stdout().is_terminal() {
        return Err("not writing backup to a terminal; please redirect stdout to a file".to_owned());
    }
    let schema = schema(session).await?;
    let mut transaction = vec![json!(session.database)];
    for table in schema.tables.values() {
        let lasting = table.own_columns().filter(|(_, column)| column.persistent);
        let columns: Vec<&str> =
            std::iter::once("_uuid").chain(lasting.map(|(_, column)| &*column.name)).collect();
        transaction.push(json!({"op": "select", "table": &*table.name, "where": [], "columns": columns}));
    }
    let result = session.rpc.transact("transact", transaction.into()).await?;
    let Some(results) = result.as_array().filter(|results| results.len() == schema.tables.len()) else {
        let n = schema.tables.len();
        return Err(format!("reply is not array of {n} elements: {}", json::text(&result)));
    };
    let mut record = Map::new();
    for (table, result) in schema.tables.values().zip(results) {
        let rows = rows_by_uuid(table, result)?;
        if !rows.is_empty() {
            record.insert(table.name.to_string(), rows.into());
        }
    }
    record.insert("_comment".to_owned(), json!("produced by \"ovsdb-client backup\""));
    record.insert("_date".to_owned(), json!(daemon::clock::real_wall().0));
    let mut bytes = journal::record(&schema.to_json());
    bytes.extend(journal::record(&record.into()));
    stdout().write_all(&bytes).map_err(|error| format!("write failed ({})", daemon::error_text(&error)))
}

/// The rows that a `select` found, by UUID.
fn rows_by_uuid(table: &TableSchema, result: &Value) -> Result<Map<String, Value>, Fatal> {
    let name = &table.name;
    let Some(rows) = result.get("rows").and_then(Value::as_array) else {
        return Err(format!(
            "{name} table reply is not an object with a \"rows\" member array: {}",
            json::text(result)
        ));
    };
    let mut by_uuid = Map::new();
    for row in rows {
        let Some(mut columns) = row.as_object().cloned() else {
            return Err(format!("{name} table reply row is not an object: {}", json::text(row)));
        };
        let uuid = columns.remove("_uuid");
        let Some(uuid) = uuid.as_ref().and_then(|uuid| uuid.get(1)?.as_str()) else {
            return Err(format!("{name} table reply row lacks _uuid member: {}", json::text(row)));
        };
        by_uuid.insert(uuid.to_owned(), columns.into());
    }
    Ok(by_uuid)
}

/// Puts the rows of a backup in place of those that are there. They get UUIDs of their own.
pub async fn restore(session: &mut Session) -> Result<(), Fatal> {
    if stdin().is_terminal() {
        return Err("not reading backup from a terminal; please redirect stdin from a file".to_owned());
    }
    let backup = read().map_err(|error| error.to_string())?;
    let online = schema(session).await?;
    if online.to_json() != backup.schema().to_json() {
        let difference = differ(backup.schema(), &online);
        if !session.force {
            return Err(format!(
                "{difference} (use --force to override differences, or \"ovsdb-client convert\" to change the schema)"
            ));
        }
        tracing::info!(target: "ovsdb_client", "{difference}");
    }
    let mut transaction = vec![json!(&*backup.schema().name)];
    for table in backup.tables() {
        let name = &*table.schema().name;
        transaction.push(json!({"op": "delete", "table": name, "where": []}));
        for row in table.rows() {
            let content = content(table.schema(), row);
            let row_name = row.uuid().row_name();
            transaction.push(json!({"op": "insert", "table": name, "uuid-name": row_name, "row": content}));
        }
    }
    let result = session.rpc.transact("transact", transaction.into()).await?;
    let Some(results) = result.as_array() else { return Err("result is not array".to_owned()) };
    match results.iter().find(|result| result.get("error").is_some()) {
        Some(error) => Err(format!("server returned error reply: {}", json::text(error))),
        None => Ok(()),
    }
}

fn differ(backup: &DatabaseSchema, online: &DatabaseSchema) -> String {
    let (before, now) = (&backup.version, &online.version);
    if before == now {
        return format!("backup schema and database schema are both version {before} but still differ");
    }
    format!("backup schema has version \"{before}\" but database schema has version \"{now}\"")
}

/// Reads a journal from standard input, which need not be a file.
fn read() -> Result<Database, ovsdb::error::Error> {
    let mut reader = journal::Reader::new("/dev/stdin", BufReader::new(stdin().lock()));
    let schema = reader.next_record()?.unwrap_or_default();
    let mut database = Database::new(Arc::new(DatabaseSchema::from_json(&schema)?));
    while let Some(body) = reader.next_body()? {
        storage::replay(&mut database, &body)?;
    }
    Ok(database)
}

/// What a row holds that is kept and not default, references by the names of rows.
fn content(table: &TableSchema, row: &Row) -> Map<String, Value> {
    let mut content = Map::new();
    for (at, column) in table.own_columns().filter(|(_, column)| column.persistent) {
        let datum = row.get(at);
        if *datum == Datum::default_of(&column.kind) {
            continue;
        }
        let refers = |kind: Option<AtomicType>| kind == Some(AtomicType::Uuid);
        let value = column.kind.value.as_ref().map(|value| value.kind());
        let mut shown = datum.to_json();
        if refers(Some(column.kind.key.kind())) || refers(value) {
            name_rows(&mut shown);
        }
        content.insert(column.name.to_string(), shown);
    }
    content
}

/// Turns every `["uuid", UUID]` into `["named-uuid", NAME]`.
fn name_rows(value: &mut Value) {
    let Value::Array(items) = value else { return };
    if let [Value::String(tag), Value::String(text)] = items.as_mut_slice()
        && tag == "uuid"
        && let Ok(uuid) = text.parse::<Uuid>()
    {
        *tag = "named-uuid".to_owned();
        *text = uuid.row_name();
        return;
    }
    items.iter_mut().for_each(name_rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_names() {
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        let mut value = json!(["map", [["k", ["uuid", uuid]], ["uuid", ["uuid", uuid]]]]);
        name_rows(&mut value);
        let named = json!(["named-uuid", "row01234567_89ab_cdef_0123_456789abcdef"]);
        assert_eq!(value, json!(["map", [["k", named], ["uuid", named]]]));
    }
}
