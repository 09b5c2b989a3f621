//! Following a database of another server: what makes a backup (`--sync-from`) and a relay (`relay:DB:REMOTE`).
//!
//! A session with the source, without I/O. A backup checks that the source is not itself and that it serves the database
//! with a schema that fits, then copies it with `monitor` into its own file. A relay takes over the source's schema,
//! copies with the best monitor method that the source knows, and forwards transactions that would change something.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flow::time::Instant;
use serde_json::{Map, Value, json};

use super::history::History;
use super::session::SessionId;
use super::{Output, Server};
use crate::database::{Database, Row, TableId};
use crate::error::Error;
use crate::monitor::patch;
use crate::schema::DatabaseSchema;
use crate::transact::{Commit, random_uuid};
use crate::transaction::Transaction;
use crate::value::{Datum, Uuid};

/// What follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// A backup, which leaves out some tables.
    Backup(BTreeSet<String>),
    /// A relay.
    Relay,
}

/// How far the session with the source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Offline,
    ServerId,
    Names,
    Schema,
    /// With the place of the method in [`METHODS`].
    Monitor(usize),
    Following,
    Failed,
}

/// The monitor methods, best first; a backup uses the last, as OVS does.
const METHODS: [&str; 3] = ["monitor_cond_since", "monitor_cond", "monitor"];

/// A transaction that a relay forwards: whose it is, and its id there.
#[derive(Debug)]
struct Forward {
    session: SessionId,
    id: Value,
    params: Value,
}

/// A session with a source.
#[derive(Debug)]
pub(super) struct Follow {
    source: String,
    role: Role,
    stage: Stage,
    next_id: u64,
    awaited: u64,
    last_txn: Uuid,
    /// A relay's.
    pub(super) history: History,
    /// The source's schema, from its arrival until the monitor's reply.
    schema: Option<DatabaseSchema>,
    /// Not yet sent.
    waiting: VecDeque<Forward>,
    sent: BTreeMap<u64, Forward>,
    /// Until when the source counts as connected although it is not: so that clients do not run from every short pause.
    lost: Option<Instant>,
}

/// How long a source may be away before clients are told.
const PATIENCE: Duration = Duration::from_secs(30);

impl Follow {
    pub(super) fn new(source: &str, role: Role) -> Self {
        Self {
            source: source.to_owned(),
            role,
            stage: Stage::Offline,
            next_id: 0,
            awaited: 0,
            last_txn: Uuid::ZERO,
            history: History::default(),
            schema: None,
            waiting: VecDeque::new(),
            sent: BTreeMap::new(),
            lost: None,
        }
    }

    pub(super) fn is_relay(&self) -> bool {
        self.role == Role::Relay
    }

    /// As clients are told.
    pub(super) fn is_connected(&self) -> bool {
        self.stage == Stage::Following || self.lost.is_some()
    }

    /// When [`Server::give_up_sources`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        self.lost.unwrap_or(Instant::NEVER)
    }

    fn request(&mut self, stage: Stage, method: &str, params: &Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.awaited = id;
        self.stage = stage;
        json!({"id": id, "method": method, "params": params})
    }

    /// Takes what waits to be forwarded, as messages.
    fn forward(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        while let (Stage::Following, Some(forward)) = (self.stage, self.waiting.pop_front()) {
            let id = self.next_id;
            self.next_id += 1;
            messages.push(json!({"id": id, "method": "transact", "params": forward.params}));
            self.sent.insert(id, Forward { params: Value::Null, ..forward });
        }
        messages
    }

    /// As `ovsdb-server/sync-status` tells.
    fn status(&self, db: &str) -> String {
        let source = &self.source;
        match (self.stage, &self.role) {
            (Stage::Failed, _) => format!("Replication to ({source}) failed"),
            (Stage::Following, Role::Backup(excluded)) if !excluded.is_empty() => {
                let names: Vec<String> = excluded.iter().map(|table| format!("{db}:{table}")).collect();
                format!("replicating: {source}\nexclude: {}", names.join(","))
            }
            (Stage::Following, _) => format!("replicating: {source}\n"),
            _ => format!("connecting: {source}"),
        }
    }
}

/// Why a session with a source cannot go on.
enum Trouble {
    /// It will not get better by itself: the database stops following.
    Final(Option<Error>),
    /// It may get better with another connection.
    Again(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(Some(error))
    }
}

type Progress = Result<(), Trouble>;

impl Server {
    /// Makes a database follow a source; until [`Server::unfollow`], clients may not change a backup, and what they
    /// change in a relay is forwarded.
    pub fn follow(&mut self, name: &str, source: &str, role: Role) {
        if let Some(db) = self.dbs.get_mut(name) {
            db.follow = Some(Follow::new(source, role));
            self.tell_databases();
        }
    }

    /// Ends that. Nothing happens if the database does not follow any.
    pub fn unfollow(&mut self, name: &str) {
        self.abandon(name, true);
        if let Some(db) = self.dbs.get_mut(name) {
            db.follow = None;
        }
    }

    /// True if a database follows a source in this role.
    pub fn follows(&self, name: &str, role: &Role) -> bool {
        let follow = self.dbs.get(name).and_then(|db| db.follow.as_ref());
        follow.is_some_and(|follow| follow.role == *role && follow.stage != Stage::Failed)
    }

    /// How a database that follows a source fares, as `ovsdb-server/sync-status` tells.
    pub fn follow_status(&self, name: &str) -> Option<String> {
        Some(self.dbs.get(name)?.follow.as_ref()?.status(name))
    }

    /// True if a database cannot follow its source any more.
    pub fn follow_failed(&self, name: &str) -> bool {
        let follow = self.dbs.get(name).and_then(|db| db.follow.as_ref());
        follow.is_some_and(|follow| follow.stage == Stage::Failed)
    }

    /// There is a connection to a database's source.
    pub fn source_connected(&mut self, name: &str) {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return };
        let request = match follow.role {
            Role::Backup(_) => follow.request(Stage::ServerId, "get_server_id", &json!([])),
            Role::Relay => follow.request(Stage::Schema, "get_schema", &json!([name])),
        };
        self.tell_source(name, request);
    }

    /// The connection to a database's source is gone; the rows stay.
    pub fn source_disconnected(&mut self, name: &str, now: Instant) {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return };
        if follow.stage == Stage::Following {
            follow.lost = Some(now + PATIENCE);
        }
        if follow.stage != Stage::Failed {
            follow.stage = Stage::Offline;
        }
        self.abandon(name, false);
    }

    /// Tells clients of sources that have been away for long.
    pub(super) fn give_up_sources(&mut self, now: Instant) {
        let mut changed = false;
        for follow in self.dbs.values_mut().filter_map(|db| db.follow.as_mut()) {
            if follow.lost.is_some_and(|until| until <= now) {
                follow.lost = None;
                changed = true;
            }
        }
        if changed {
            self.tell_databases();
        }
    }

    /// A message from a database's source.
    pub fn source_message(&mut self, name: &str, message: &Value, now: Instant) {
        let progress = match message.get("method").and_then(Value::as_str) {
            Some("echo") => {
                let reply = json!({"id": message["id"], "result": message["params"], "error": null});
                self.tell_source(name, reply);
                Ok(())
            }
            Some(method) => self.source_notifies(name, method, &message["params"], now),
            None => self.source_replies(name, message, now),
        };
        match progress {
            Ok(()) => {}
            Err(Trouble::Final(error)) => {
                if let Some(error) = error {
                    tracing::error!(target: "ovsdb_error", rate = 1, burst = 1, "unexpected ovsdb error: {error}");
                }
                if let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) {
                    follow.stage = Stage::Failed;
                }
            }
            Err(Trouble::Again(reason)) => {
                if let Some((name, _)) = self.dbs.get_key_value(name) {
                    self.outputs.push_back(Output::SourceReset(name.clone(), reason));
                }
            }
        }
    }

    /// Forwards a transaction of a client of a relay to its source.
    pub(super) fn forward(&mut self, name: &str, session: SessionId, id: Value, params: Value) {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return };
        follow.waiting.push_back(Forward { session, id, params });
        self.forward_waiting(name);
    }

    /// Forgets what a client that is gone, or that cancels request `id`, wanted forwarded; true if there was such a
    /// request.
    pub(super) fn forget_forwards(&mut self, session: SessionId, id: Option<&Value>) -> bool {
        let mut found = false;
        let mut keep = |forward: &Forward| {
            let gone = forward.session == session && id.is_none_or(|id| forward.id == *id);
            found |= gone;
            !gone
        };
        for follow in self.dbs.values_mut().filter_map(|db| db.follow.as_mut()) {
            follow.waiting.retain(&mut keep);
            follow.sent.retain(|_, forward| keep(forward));
        }
        found
    }

    fn forward_waiting(&mut self, name: &str) {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return };
        for message in follow.forward() {
            self.tell_source(name, message);
        }
    }

    /// Cancels what was forwarded and may be lost; with `all`, also what was still to be.
    fn abandon(&mut self, name: &str, all: bool) {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return };
        let mut lost: Vec<Forward> = std::mem::take(&mut follow.sent).into_values().collect();
        if all {
            lost.extend(std::mem::take(&mut follow.waiting));
        }
        for Forward { session, id, .. } in lost {
            self.send(session, json!({"id": id, "result": null, "error": "canceled"}));
        }
    }

    fn tell_source(&mut self, name: &str, message: Value) {
        if let Some((name, _)) = self.dbs.get_key_value(name) {
            self.outputs.push_back(Output::Source(name.clone(), message));
        }
    }

    fn source_notifies(&mut self, name: &str, method: &str, params: &Value, now: Instant) -> Progress {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return Ok(()) };
        if follow.stage != Stage::Following {
            return Ok(());
        }
        match (method, params.as_array().map(Vec::as_slice)) {
            ("update" | "update2", Some([_, updates])) => self.copy(name, updates, false, now),
            ("update3", Some([_, last, updates])) => {
                follow.last_txn = last.as_str().and_then(|id| id.parse().ok()).unwrap_or(Uuid::ZERO);
                self.copy(name, updates, false, now)
            }
            ("monitor_canceled", _) => Err(Trouble::Again("monitor canceled".to_owned())),
            _ => Ok(()),
        }
    }

    fn source_replies(&mut self, name: &str, message: &Value, now: Instant) -> Progress {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return Ok(()) };
        let id = message["id"].as_u64();
        if let Some(forward) = id.and_then(|id| follow.sent.remove(&id)) {
            let reply = json!({"id": forward.id, "result": message["result"], "error": message["error"]});
            self.send(forward.session, reply);
            return Ok(());
        }
        if id != Some(follow.awaited) || matches!(follow.stage, Stage::Failed | Stage::Following) {
            if follow.stage != Stage::Failed {
                tracing::warn!(target: "replication", "{name}: received unexpected reply.");
            }
            return Ok(());
        }
        let error = message.get("error").filter(|error| !error.is_null());
        let result = &message["result"];
        match (follow.stage, error) {
            (Stage::ServerId, _) => self.check_server_id(name, result),
            (Stage::Names, _) => self.check_names(name, result),
            (Stage::Schema, None) => self.take_schema(name, result),
            (Stage::Monitor(at), Some(error)) if is_unknown_method(error) && at + 1 < METHODS.len() => {
                self.ask_for_monitor(name, at + 1);
                Ok(())
            }
            (Stage::Monitor(at), None) => self.take_content(name, at, result, now),
            (_, Some(error)) => Err(Trouble::Again(crate::json::text(error))),
            (Stage::Offline | Stage::Following | Stage::Failed, None) => Ok(()),
        }
    }

    fn check_server_id(&mut self, name: &str, result: &Value) -> Progress {
        let Some(id) = result.as_str().and_then(|id| id.parse::<Uuid>().ok()) else {
            let details = format!("{name}: Server ID is not valid UUID");
            return Err(Error::new("get_server_id failed", details).into());
        };
        if id == self.id {
            let details = format!("{name}: Self replicating is not allowed");
            return Err(Error::new("Server ID check failed", details).into());
        }
        self.ask_source(name, Stage::Names, "list_dbs", &json!([]));
        Ok(())
    }

    fn check_names(&mut self, name: &str, result: &Value) -> Progress {
        let Some(names) = result.as_array() else {
            let details = format!("{name}: list_dbs response is not array");
            return Err(Error::new("list_dbs failed", details).into());
        };
        if !names.iter().any(|known| known == name) {
            let details = format!("{name}: database name is not in the list");
            return Err(Error::new("list_dbs failed", details).into());
        }
        self.ask_source(name, Stage::Schema, "get_schema", &json!([name]));
        Ok(())
    }

    fn ask_source(&mut self, name: &str, stage: Stage, method: &str, params: &Value) {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return };
        let request = follow.request(stage, method, params);
        self.tell_source(name, request);
    }

    fn take_schema(&mut self, name: &str, result: &Value) -> Progress {
        let schema = DatabaseSchema::from_json(result)?;
        let Some(db) = self.dbs.get_mut(name) else { return Ok(()) };
        let Some(follow) = db.follow.as_mut() else { return Ok(()) };
        if *schema.name != *name {
            tracing::warn!(target: "replication", "{name}: unexpected schema {}.", schema.name);
            return Err(Trouble::Final(None));
        }
        let first = if follow.is_relay() { 0 } else { METHODS.len() - 1 };
        let local = db.data.schema();
        if !follow.is_relay() && schema.to_json() != local.to_json() {
            tracing::info!(
                target: "replication",
                "{name}: Schema version mismatch, checking if {name} can still be replicated or not."
            );
            if let Err(why) = fits(local, &schema) {
                tracing::info!(target: "replication", "{why}");
                tracing::info!(target: "replication", "{name} cannot be replicated.");
                return Err(Trouble::Final(None));
            }
            tracing::info!(target: "replication", "{name} can be replicated.");
        }
        follow.schema = Some(schema);
        self.ask_for_monitor(name, first);
        Ok(())
    }

    fn ask_for_monitor(&mut self, name: &str, at: usize) {
        let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) else { return };
        let none = BTreeSet::new();
        let excluded = match &follow.role {
            Role::Backup(excluded) => excluded,
            Role::Relay => &none,
        };
        let tables = follow.schema.iter().flat_map(|schema| schema.tables.keys());
        let requests: Map<String, Value> = tables
            .filter(|table| !excluded.contains(&***table))
            .map(|table| (table.to_string(), json!([{}])))
            .collect();
        let mut params = vec![json!(name), json!(name), requests.into()];
        if at == 0 {
            params.push(follow.last_txn.to_string().into());
        }
        let request = follow.request(Stage::Monitor(at), METHODS[at], &params.into());
        self.tell_source(name, request);
    }

    fn take_content(&mut self, name: &str, at: usize, result: &Value, now: Instant) -> Progress {
        let Some(db) = self.dbs.get_mut(name) else { return Ok(()) };
        let Some(follow) = db.follow.as_mut() else { return Ok(()) };
        let (found, last, updates) = match (at, result.as_array().map(Vec::as_slice)) {
            (0, Some([found, last, updates])) => (found == &Value::Bool(true), last.as_str(), updates),
            (0, _) => return Err(Trouble::Again("bad monitor_cond_since reply".to_owned())),
            _ => (false, None, result),
        };
        follow.last_txn = last.and_then(|id| id.parse().ok()).unwrap_or(Uuid::ZERO);
        if !follow.is_relay() {
            tracing::info!(target: "replication", "{name}: Monitor reply received. Resetting the database.");
        }
        let schema = follow.schema.take().filter(|schema| {
            follow.is_relay() && (!db.is_available || schema.to_json() != db.data.schema().to_json())
        });
        if let Some(schema) = schema {
            self.take_over(name, schema, now);
        }
        self.copy(name, updates, !found, now)?;
        if let Some(follow) = self.dbs.get_mut(name).and_then(|db| db.follow.as_mut()) {
            follow.stage = Stage::Following;
            follow.lost = None;
        }
        self.tell_databases();
        self.forward_waiting(name);
        Ok(())
    }

    /// Gives a relay its source's schema. The rows follow.
    fn take_over(&mut self, name: &str, schema: DatabaseSchema, now: Instant) {
        let Some(db) = self.dbs.get_mut(name) else { return };
        let reason = match std::mem::replace(&mut db.is_available, true) {
            true => format!("database {name} schema changed"),
            false => format!("database {name} connected to storage"),
        };
        self.replace(name, Database::new(Arc::new(schema)), None, reason, now);
    }

    /// Changes a database as its source did; with `reset`, `updates` are everything that the source holds.
    fn copy(&mut self, name: &str, updates: &Value, reset: bool, now: Instant) -> Progress {
        let Some(db) = self.dbs.get_mut(name) else { return Ok(()) };
        let excluded = match db.follow.as_ref().map(|follow| &follow.role) {
            Some(Role::Backup(excluded)) => excluded.clone(),
            _ => BTreeSet::new(),
        };
        let mut txn = Transaction::new(&db.data);
        lay(&mut txn, updates, reset, &excluded)?;
        let changes = txn.finish(&mut random_uuid)?;
        if let Some(follow) = db.follow.as_mut().filter(|follow| follow.is_relay()) {
            match reset {
                true => follow.history.restart(follow.last_txn),
                false => follow.history.push(follow.last_txn, &changes),
            }
        }
        if !changes.is_empty() {
            self.commit(name, Commit { changes, comment: None, durable: false }, None);
            self.settle(name, now);
        }
        Ok(())
    }
}

fn is_unknown_method(error: &Value) -> bool {
    error == "unknown method" || error.get("error").is_some_and(|tag| tag == "unknown method")
}

/// Whether a database of schema `local` can hold what one of schema `source` does; if not, why.
fn fits(local: &DatabaseSchema, source: &DatabaseSchema) -> Result<(), String> {
    for table in source.tables.values() {
        let name = &table.name;
        let Some(ours) = local.table(name) else {
            return Err(format!("Table {name} not present in the local db schema"));
        };
        for (_, column) in table.own_columns() {
            match ours.get(&column.name) {
                None => {
                    let column = &column.name;
                    return Err(format!("Column {column} not present in the local db schema table {name}."));
                }
                Some(known) if known.to_json() != column.to_json() => {
                    let column = &column.name;
                    return Err(format!("Column {column} mismatch in local db schema table {name}."));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Lays updates from a source on a transaction, in any version's form; with `reset`, they are everything that there is.
fn lay(
    txn: &mut Transaction<'_>,
    updates: &Value,
    reset: bool,
    excluded: &BTreeSet<String>,
) -> Result<(), Error> {
    let db = txn.database();
    let mut gone: BTreeSet<(TableId, Uuid)> = BTreeSet::new();
    if reset {
        let tables = db.tables().iter().enumerate();
        for (id, table) in tables.filter(|(_, table)| !excluded.contains(&*table.schema().name)) {
            gone.extend(table.rows().map(|row| (id, row.uuid())));
        }
    }
    let Some(updates) = updates.as_object() else {
        return Err(Error::new("Not a JSON object", "<table-updates> is not object"));
    };
    for (name, rows) in updates {
        let Some(table) = db.table_id(name) else {
            return Err(Error::new("unknown table", format!("unknown table {name}")));
        };
        let Some(rows) = rows.as_object() else {
            return Err(Error::new("Not a JSON object", "<table-update> for table is not object"));
        };
        for (uuid, update) in rows {
            let Ok(uuid) = uuid.parse::<Uuid>() else {
                return Err(Error::tagged(
                    "bad row UUID",
                    &rows.clone().into(),
                    "<table-update> names must be UUIDs",
                ));
            };
            if !update.is_object() {
                return Err(Error::new("Not a JSON object", "<row-update> is not object"));
            }
            gone.remove(&(table, uuid));
            lay_row(txn, table, uuid, update)?;
        }
    }
    for (table, uuid) in gone {
        txn.delete(table, uuid);
    }
    Ok(())
}

fn lay_row(txn: &mut Transaction<'_>, table: TableId, uuid: Uuid, update: &Value) -> Result<(), Error> {
    if let Some(content) = ["new", "initial", "insert"].iter().find_map(|kind| update.get(kind)) {
        return lay_columns(txn, table, uuid, content, false);
    }
    match update.get("modify") {
        Some(content) if txn.row(table, uuid).is_some() => lay_columns(txn, table, uuid, content, true),
        Some(_) => Err(Error::new("consistency violation", format!("cannot modify missing row {uuid}"))),
        None => {
            txn.delete(table, uuid);
            Ok(())
        }
    }
}

/// Sets the columns that `content` tells; with `differences`, changes them by what it tells. A column that a new row's
/// `content` leaves out has its default.
fn lay_columns(
    txn: &mut Transaction<'_>,
    table: TableId,
    uuid: Uuid,
    content: &Value,
    differences: bool,
) -> Result<(), Error> {
    let schema = txn.database().table(table).schema().clone();
    let Some(content) = content.as_object() else {
        return Err(Error::tagged("syntax error", content, "row must be JSON object"));
    };
    let old = txn.row(table, uuid).cloned();
    let mut row = match &old {
        Some(old) if differences => (**old).clone(),
        _ => {
            let mut row = Row::new(&schema);
            row.set_uuid(uuid);
            row.set_version(random_uuid());
            row
        }
    };
    for (name, value) in content.iter().filter(|(name, _)| *name != "_version" && *name != "_uuid") {
        let Some(at) = schema.column(name) else {
            let details = format!("No column {name} in table {}.", schema.name);
            return Err(Error::new("unknown column", details));
        };
        let kind = &schema.columns[at].kind;
        let datum = Datum::from_json_any_size(kind, value, None)?;
        let datum = if differences { patch(kind, row.get(at), &datum) } else { datum };
        row.set(at, datum);
    }
    let same = |old: &Row| schema.own_columns().all(|(at, _)| old.get(at) == row.get(at));
    if !old.is_some_and(|old| same(&old)) {
        txn.insert(table, row);
    }
    Ok(())
}
