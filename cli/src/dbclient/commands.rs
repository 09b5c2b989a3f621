//! The commands that ask once.

use std::sync::Arc;

use ovsdb::json;
use ovsdb::output::{Cell, Printer, Table};
use ovsdb::schema::{ColumnSchema, DatabaseSchema, TableSchema};
use ovsdb::types::AtomicType;
use ovsdb::value::Datum;
use serde_json::{Value, json};

use super::program::Session;
use super::rpc::{Fatal, Rpc};

/// Tells the server that the client knows that databases may come and go; an error if it `must` know of that.
pub async fn tell_aware(rpc: &mut Rpc, must: bool) -> Result<(), Fatal> {
    match rpc.call("set_db_change_aware", json!([true])).await? {
        Err(error) if must => {
            Err(format!("{}: set_db_change_aware failed ({})", rpc.name, json::text(&error)))
        }
        // A server that does not know of it is fine.
        _ => Ok(()),
    }
}

/// The databases of a server, by name.
pub async fn databases(rpc: &mut Rpc) -> Result<Vec<String>, Fatal> {
    let reply = rpc.transact("list_dbs", json!([])).await?;
    let Value::Array(items) = reply else { return Err("list_dbs response is not array".to_owned()) };
    let mut names = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let Some(name) = item.as_str() else { return Err(format!("list_dbs response {i} is not string")) };
        names.push(name.to_owned());
    }
    names.sort();
    Ok(names)
}

/// The schema of the session's database.
pub async fn schema(session: &mut Session) -> Result<DatabaseSchema, Fatal> {
    let reply = session.rpc.transact("get_schema", json!([session.database])).await?;
    DatabaseSchema::from_json(&reply).map_err(|error| error.to_string())
}

pub async fn list_dbs(session: &mut Session) -> Result<(), Fatal> {
    for name in databases(&mut session.rpc).await? {
        println!("{name}");
    }
    Ok(())
}

pub async fn get_schema(session: &mut Session) -> Result<(), Fatal> {
    let schema = schema(session).await?;
    session.print_json(&schema.to_json());
    Ok(())
}

pub async fn get_schema_version(session: &mut Session) -> Result<(), Fatal> {
    println!("{}", schema(session).await?.version);
    Ok(())
}

pub async fn get_schema_cksum(session: &mut Session) -> Result<(), Fatal> {
    println!("{}", schema(session).await?.cksum);
    Ok(())
}

pub async fn list_tables(session: &mut Session) -> Result<(), Fatal> {
    let mut table = Table::new(["Table"]);
    for name in schema(session).await?.tables.keys() {
        table.rows.push(vec![Cell::Text(name.to_string())]);
    }
    session.print_table(&table);
    Ok(())
}

pub async fn list_columns(session: &mut Session) -> Result<(), Fatal> {
    let only = session.args.first().cloned();
    let mut table = match only {
        Some(_) => Table::new(["Column", "Type"]),
        None => Table::new(["Table", "Column", "Type"]),
    };
    for known in schema(session).await?.tables.values() {
        if only.as_deref().is_some_and(|only| only != &*known.name) {
            continue;
        }
        for column in sorted_columns(known) {
            let mut row = vec![Cell::Text(column.name.to_string()), Cell::Json(column.kind.to_json())];
            if only.is_none() {
                row.insert(0, Cell::Text(known.name.to_string()));
            }
            table.rows.push(row);
        }
    }
    session.print_table(&table);
    Ok(())
}

/// All columns but `_version`, by name.
fn sorted_columns(table: &TableSchema) -> Vec<&ColumnSchema> {
    let uuid = table.get("_uuid");
    let mut columns: Vec<&ColumnSchema> = table.own_columns().map(|(_, column)| column).chain(uuid).collect();
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    columns.dedup_by(|a, b| a.name == b.name);
    columns
}

/// The transaction in `text`, which must be an array that begins with a database's name.
pub fn parse_transaction(text: &str) -> Result<Value, Fatal> {
    let transaction = json::parse(text).map_err(|error| format!("\"{text}\": {error}"))?;
    match &transaction {
        Value::Array(items) if items.first().is_some_and(Value::is_string) => Ok(transaction),
        _ => Err("not a valid OVSDB query".to_owned()),
    }
}

pub async fn transact(session: &mut Session) -> Result<(), Fatal> {
    let transaction = parse_transaction(&session.args[0])?;
    let result = session.rpc.transact("transact", transaction).await?;
    session.print_json(&result);
    Ok(())
}

pub async fn query(session: &mut Session) -> Result<(), Fatal> {
    let mut transaction = parse_transaction(&session.args[0])?;
    let Value::Array(items) = &mut transaction else { return Ok(()) };
    let last = items.len() - 1;
    items.push(json!({"op": "abort"}));
    let mut result = session.rpc.transact("transact", transaction).await?;
    if let Value::Array(results) = &mut result
        && results.len() == last + 1
        && results[last]["error"] == "aborted"
    {
        results.pop();
    }
    session.print_json(&result);
    Ok(())
}

pub async fn dump(session: &mut Session) -> Result<(), Fatal> {
    let schema = schema(session).await?;
    let wanted = wanted(&schema, &session.args)?;
    let mut transaction = vec![json!(session.database)];
    for (table, columns) in &wanted {
        let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        transaction.push(json!({"op": "select", "table": &*table.name, "where": [], "columns": names}));
    }
    let result = session.rpc.transact("transact", Value::Array(transaction)).await?;
    let results = match &result {
        Value::Array(results) if results.len() == wanted.len() => results,
        _ => return Err(format!("reply is not array of {} elements: {}", wanted.len(), json::text(&result))),
    };
    let mut printer = Printer::default();
    for ((table, columns), result) in wanted.iter().zip(results) {
        let Some(Value::Array(rows)) = result.get("rows") else {
            return Err(format!(
                "{} table reply is not an object with a \"rows\" member array: {}",
                table.name,
                json::text(result)
            ));
        };
        print!("{}", printer.format(&dumped(table, columns, rows)?, &session.style));
    }
    Ok(())
}

type Wanted<'s> = Vec<(&'s Arc<TableSchema>, Vec<&'s ColumnSchema>)>;

/// The tables and columns that `[TABLE [COLUMN…]]` names: all of them where none is named.
fn wanted<'s>(schema: &'s DatabaseSchema, args: &[String]) -> Result<Wanted<'s>, Fatal> {
    let Some((name, columns)) = args.split_first() else {
        return Ok(schema.tables.values().map(|table| (table, sorted_columns(table))).collect());
    };
    let Some(table) = schema.table(name) else { return Err(format!("No table \"{name}\" found.")) };
    if columns.is_empty() {
        return Ok(vec![(table, sorted_columns(table))]);
    }
    let mut chosen = Vec::new();
    for column in columns {
        match table.get(column) {
            Some(column) => chosen.push(column),
            None => return Err(format!("Table \"{name}\" has no column {column}.")),
        }
    }
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(vec![(table, chosen)])
}

/// Rows as a table, sorted by what is not a UUID first, so that two dumps of equal content look alike.
fn dumped(table: &TableSchema, columns: &[&ColumnSchema], rows: &[Value]) -> Result<Table, Fatal> {
    let mut data = Vec::new();
    for (y, row) in rows.iter().enumerate() {
        let mut cells = Vec::new();
        for column in columns {
            let Some(value) = row.get(&*column.name) else {
                return Err(format!("row {y} in table {} response lacks {} column", table.name, column.name));
            };
            let datum = Datum::from_json_any_size(&column.kind, value, None);
            cells.push(datum.map_err(|error| error.to_string())?);
        }
        data.push(cells);
    }
    let is_uuid: Vec<bool> =
        columns.iter().map(|column| column.kind.key.kind() == AtomicType::Uuid).collect();
    data.sort_by(|a, b| {
        let pass = |uuids: bool| {
            let cells = a.iter().zip(b).zip(&is_uuid).filter(move |(_, is_uuid)| **is_uuid == uuids);
            cells.map(|((a, b), _)| a.compare(b)).find(|order| order.is_ne())
        };
        pass(false).or_else(|| pass(true)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut out = Table::new(columns.iter().map(|column| &*column.name));
    out.caption = Some(format!("{} table", table.name));
    for cells in data {
        let row =
            cells.into_iter().zip(columns).map(|(datum, column)| Cell::Datum(column.kind.clone(), datum));
        out.rows.push(row.collect());
    }
    Ok(out)
}

/// The schema in file `name`.
fn schema_file(name: &str) -> Result<DatabaseSchema, Fatal> {
    let text = std::fs::read_to_string(name).map_err(|error| {
        format!("I/O error: {name}: failed to read schema ({})", daemon::error_text(&error))
    })?;
    DatabaseSchema::from_text(name, &text).map_err(|error| error.to_string())
}

pub async fn convert(session: &mut Session) -> Result<(), Fatal> {
    let schema = schema_file(&session.args[0])?;
    session.rpc.transact("convert", json!([&*schema.name, schema.to_json()])).await?;
    Ok(())
}

pub async fn needs_conversion(session: &mut Session) -> Result<(), Fatal> {
    let new = schema_file(&session.args[0])?;
    session.database = new.name.to_string();
    let old = schema(session).await?;
    println!("{}", if old.to_json() == new.to_json() { "no" } else { "yes" });
    Ok(())
}

pub async fn wait(session: &mut Session) -> Result<(), Fatal> {
    let (database, state) = (session.args[0].clone(), session.args[1].clone());
    let (columns, rows) = match state.as_str() {
        "connected" => (json!(["connected"]), json!([{"connected": true}])),
        "added" => (json!([]), json!([{}])),
        "removed" => (json!([]), json!([])),
        _ => return Err(format!("{state}: unknown state")),
    };
    tell_aware(&mut session.rpc, true).await?;
    let wait = json!({
        "op": "wait", "table": "Database", "where": [["name", "==", database]],
        "columns": columns, "until": "==", "rows": rows,
    });
    let result = session.rpc.transact("transact", json!(["_Server", wait])).await?;
    let failed = result.as_array().into_iter().flatten().find(|result| result.get("error").is_some());
    match failed {
        Some(error) => Err(format!("server returned error reply: {}", json::text(error))),
        None => Ok(()),
    }
}
