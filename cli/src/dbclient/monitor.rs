//! The commands that listen: `monitor` in its three versions, and locks.

use std::io::Write as _;

use ovsdb::json;
use ovsdb::output::{Cell, Printer, Table};
use ovsdb::schema::{ColumnSchema, TableSchema};
use ovsdb::value::{Datum, Uuid};
use serde_json::{Map, Value, json};

use super::commands::schema;
use super::program::{Order, Session};
use super::rpc::Fatal;

/// A monitored table with the columns to print.
struct Monitored {
    name: String,
    columns: Vec<ColumnSchema>,
}

/// Which protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Plain,
    Conditional,
    Since,
}

pub async fn monitor(session: &mut Session) -> Result<(), Fatal> {
    let args = session.args.clone();
    run(session, Version::Plain, &args, None, None).await
}

pub async fn monitor_cond(session: &mut Session) -> Result<(), Fatal> {
    let args = session.args.clone();
    conditional(session, Version::Conditional, &args, None).await
}

pub async fn monitor_cond_since(session: &mut Session) -> Result<(), Fatal> {
    let args = session.args.clone();
    match args.first().and_then(|word| word.parse::<Uuid>().ok()) {
        Some(last) => conditional(session, Version::Since, &args[1..], Some(last)).await,
        None => conditional(session, Version::Since, &args, Some(Uuid(0))).await,
    }
}

async fn conditional(
    session: &mut Session,
    version: Version,
    args: &[String],
    last: Option<Uuid>,
) -> Result<(), Fatal> {
    let [condition, tables @ ..] = args else { return Err("missing condition".to_owned()) };
    let text = condition;
    let condition = json::parse(text).map_err(|error| format!("\"{text}\": {error}"))?;
    run(session, version, tables, Some(condition), last).await
}

async fn run(
    session: &mut Session,
    version: Version,
    args: &[String],
    condition: Option<Value>,
    last: Option<Uuid>,
) -> Result<(), Fatal> {
    let schema = schema(session).await?;
    let mut requests = Map::new();
    let mut monitored = Vec::new();
    let Some((name, specs)) = args.split_first() else { return Err("missing table".to_owned()) };
    if name == "ALL" {
        if condition.is_some() {
            return Err("ALL tables are not allowed with condition".to_owned());
        }
        for table in schema.tables.values() {
            add(session, table, &[], None, &mut requests, &mut monitored)?;
        }
    } else {
        let Some(table) = schema.table(name) else {
            return Err(format!(
                "{}: {} does not have a table named \"{name}\"",
                session.rpc.name, session.database
            ));
        };
        add(session, table, specs, condition, &mut requests, &mut monitored)?;
    }
    if session.aware != Some(false) {
        super::commands::tell_aware(&mut session.rpc, session.aware == Some(true)).await?;
    }
    let mut params = vec![json!(session.database), Value::Null, Value::Object(requests)];
    let method = match version {
        Version::Plain => "monitor",
        Version::Conditional => "monitor_cond",
        Version::Since => "monitor_cond_since",
    };
    params.extend(last.map(|last| json!(last.to_string())));
    let reply = session.rpc.transact(method, Value::Array(params)).await?;
    let mut out = Out { monitored, printer: Printer::default() };
    out.reply(session, version, &reply);
    flush();
    session.ready();
    loop {
        tokio::select! {
            message = session.rpc.receive() => out.notification(session, version, &message?)?,
            Some(Order::Condition(table, condition)) = session.orders.recv() => {
                tracing::debug!(target: "ovsdb_client", "cond change {table} {condition}");
                let params = json!([null, null, {table: [{"where": condition}]}]);
                session.rpc.send("monitor_cond_change", &params).await?;
            }
        }
        flush();
    }
}

fn flush() {
    // A reader that went away is noticed at the next print.
    let _ = std::io::stdout().flush();
}

/// Adds the request for one table; each of `specs` is a list of columns and `!initial` and the like.
fn add(
    session: &Session,
    table: &TableSchema,
    specs: &[String],
    condition: Option<Value>,
    requests: &mut Map<String, Value>,
    monitored: &mut Vec<Monitored>,
) -> Result<(), Fatal> {
    let empty = [String::new()];
    let specs = if specs.is_empty() { &empty } else { specs };
    let mut all = Monitored { name: table.name.to_string(), columns: Vec::new() };
    let mut list = Vec::new();
    let mut condition = condition;
    for spec in specs {
        let (columns, select) = columns_of(session, table, spec)?;
        for column in &columns {
            if all.columns.iter().any(|other| other.name == column.name) {
                return Err(format!(
                    "{}: column \"{}\" mentioned multiple times",
                    session.rpc.name, column.name
                ));
            }
            all.columns.push(column.clone());
        }
        let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        let mut request = json!({"columns": names});
        if let Some(select) = select {
            request["select"] = select;
        }
        if let Some(condition) = condition.take() {
            request["where"] = condition;
        }
        list.push(request);
    }
    requests.insert(all.name.clone(), Value::Array(list));
    monitored.push(all);
    Ok(())
}

/// The columns that `spec` lists, all if none, and what kinds of changes it wants, if not all.
fn columns_of(
    session: &Session,
    table: &TableSchema,
    spec: &str,
) -> Result<(Vec<ColumnSchema>, Option<Value>), Fatal> {
    let mut columns = Vec::new();
    let kinds = ["initial", "insert", "delete", "modify"];
    let mut wanted = [true; 4];
    for word in spec.split(',').filter(|word| !word.is_empty()) {
        if let Some(kind) = kinds.iter().position(|kind| word.strip_prefix('!') == Some(kind)) {
            wanted[kind] = false;
        } else if let Some(column) = table.get(word) {
            columns.push(column.clone());
        } else {
            return Err(format!(
                "{}: table \"{}\" in {} does not have a column named \"{word}\"",
                session.rpc.name, table.name, session.database
            ));
        }
    }
    if columns.is_empty() {
        columns.extend(table.own_columns().map(|(_, column)| column.clone()));
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        columns.extend(table.get("_version").cloned());
    }
    let select = wanted.contains(&false).then(|| {
        let pairs = kinds.iter().zip(wanted).map(|(kind, wanted)| ((*kind).to_owned(), Value::Bool(wanted)));
        Value::Object(pairs.collect())
    });
    Ok((columns, select))
}

/// Prints updates.
struct Out {
    monitored: Vec<Monitored>,
    printer: Printer,
}

impl Out {
    fn reply(&mut self, session: &Session, version: Version, reply: &Value) {
        match version {
            Version::Plain => self.updates(session, reply, Some("initial")),
            Version::Conditional => self.updates2(session, reply),
            Version::Since => {
                let found = reply[0].as_bool().unwrap_or_default();
                println!("found: {found}, last_id: {}", reply[1].as_str().unwrap_or_default());
                self.updates2(session, &reply[2]);
            }
        }
    }

    fn notification(&mut self, session: &Session, version: Version, message: &Value) -> Result<(), Fatal> {
        let params = &message["params"];
        match (message["method"].as_str().unwrap_or_default(), version) {
            ("update", _) if params[0].is_null() => self.updates(session, &params[1], None),
            ("update2", Version::Conditional) if params[0].is_null() => self.updates2(session, &params[1]),
            ("update3", Version::Since) if params[0].is_null() => {
                print!("\nlast_id: {}", params[1].as_str().unwrap_or_default());
                self.updates2(session, &params[2]);
            }
            ("monitor_canceled", _) => {
                return Err(format!("{}: {} database was removed", session.rpc.name, session.database));
            }
            _ => {}
        }
        Ok(())
    }

    /// The table-updates of RFC 7047; `initial` replaces the kind of change.
    fn updates(&mut self, session: &Session, updates: &Value, initial: Option<&str>) {
        self.each(session, updates, |rows, uuid, update| {
            let (old, new) = (update.get("old"), update.get("new"));
            match (initial, old, new) {
                (Some(kind), _, Some(new)) => rows.add(uuid, kind, Some(new)),
                (None, None, Some(new)) => rows.add(uuid, "insert", Some(new)),
                (None, Some(old), None) => rows.add(uuid, "delete", Some(old)),
                (None, Some(old), Some(new)) => {
                    rows.add(uuid, "old", Some(old));
                    rows.add("", "new", Some(new));
                }
                (_, _, None) => {}
            }
        });
    }

    /// The table-updates2 of the OVS extensions.
    fn updates2(&mut self, session: &Session, updates: &Value) {
        self.each(session, updates, |rows, uuid, update| {
            for kind in ["delete", "initial", "modify", "insert"] {
                if let Some(row) = update.get(kind) {
                    rows.add(uuid, kind, Some(row));
                    break;
                }
            }
        });
    }

    fn each(&mut self, session: &Session, updates: &Value, mut add: impl FnMut(&mut Rows<'_>, &str, &Value)) {
        let several = self.monitored.len() > 1;
        for monitored in &self.monitored {
            let Some(Value::Object(update)) = updates.get(&monitored.name) else { continue };
            let headings =
                ["row", "action"].into_iter().chain(monitored.columns.iter().map(|column| &*column.name));
            let mut table = Table::new(headings);
            table.caption = several.then(|| monitored.name.clone());
            table.timestamp = session.timestamp();
            let mut rows = Rows { table: &mut table, columns: &monitored.columns };
            for (uuid, update) in update {
                add(&mut rows, uuid, update);
            }
            print!("{}", self.printer.format(&table, &session.style));
        }
    }
}

struct Rows<'a> {
    table: &'a mut Table,
    columns: &'a [ColumnSchema],
}

impl Rows<'_> {
    fn add(&mut self, uuid: &str, kind: &str, row: Option<&Value>) {
        let mut cells = vec![Cell::Text(uuid.to_owned()), Cell::Text(kind.to_owned())];
        for column in self.columns {
            let value = row.and_then(|row| row.get(&*column.name));
            cells.push(match value {
                None => Cell::Empty,
                Some(value) => match Datum::from_json_any_size(&column.kind, value, None) {
                    Ok(datum) => Cell::Datum(column.kind.clone(), datum),
                    Err(_) => Cell::Json(value.clone()),
                },
            });
        }
        self.table.rows.push(cells);
    }
}

/// `lock`, `steal` and `unlock`: prints the reply, then what the server notifies of, for ever.
pub async fn lock(session: &mut Session) -> Result<(), Fatal> {
    let method = session.command;
    let result = session.rpc.transact(method, json!([session.args[0]])).await?;
    session.print_json(&result);
    flush();
    session.ready();
    loop {
        tokio::select! {
            message = session.rpc.receive() => {
                let message = message?;
                match message["method"].as_str() {
                    Some(method) => println!("{method}\n{}", json::text(&message["params"])),
                    // To a request from the control socket.
                    None => session.print_json(&message["result"]),
                }
                flush();
            }
            Some(Order::Lock(method, name)) = session.orders.recv() => {
                session.rpc.send(method, &json!([name])).await?;
            }
        }
    }
}
