//! A client's copy of a database, kept up to date, and transactions on it. No I/O: the owner moves messages.
//!
//! Use:
//! 1. [`Idl::new`] with the schema that the program was written for; [`Idl::monitor`] what it wants to see.
//! 2. When a connection stands, [`Idl::connected`]; when it falls, [`Idl::disconnected`]. Feed every JSON-RPC message to
//!    [`Idl::receive`] and send what [`Idl::poll_output`] gives.
//! 3. Whenever [`Idl::change_seqno`] has moved, look at the rows again: [`Idl::rows`], [`Idl::row`], or only at
//!    [`Idl::take_changes`].
//! 4. Write with a [`Txn`]: [`Idl::commit`], then [`Idl::status`] until it is no longer [`Status::Incomplete`].
//!
//! The session asks for the server's schema, then for `monitor_cond_since` (which after a reconnection may bring only
//! what changed), else `monitor_cond`, else `monitor`. Tables and columns that the server lacks are empty.

mod replica;
mod txn;
mod view;

pub use replica::{Record, RowChange};
pub use txn::{Status, Txn, TxnId};
pub use view::View;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::database::Row;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::value::Uuid;
use replica::Replica;
use txn::Compiled;

/// Something that the log should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// As in OVS, at level WARN.
    Warning(String),
    /// At level INFO.
    Info(String),
    /// At level DBG.
    Debug(String),
}

/// The monitor methods from best to oldest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Method {
    CondSince,
    Cond,
    Plain,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::CondSince => "monitor_cond_since",
            Self::Cond => "monitor_cond",
            Self::Plain => "monitor",
        }
    }

    fn older(self) -> Option<Self> {
        match self {
            Self::CondSince => Some(Self::Cond),
            Self::Cond => Some(Self::Plain),
            Self::Plain => None,
        }
    }
}

/// What a request of ours was about.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Pending {
    Schema,
    Monitor(Method),
    Conditions,
    Lock,
    Unlock,
    Transact(TxnId),
}

/// Who holds the lock.
#[derive(Clone, Debug, Default)]
struct Lock {
    name: Option<String>,
    held: bool,
    contended: bool,
}

/// A transaction under way or done.
#[derive(Debug)]
struct Flight {
    status: Status,
    compiled: Compiled,
}

/// The session and the copy.
#[derive(Debug)]
pub struct Idl {
    replica: Replica,
    /// Columns to monitor, by table.
    wanted: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Which rows to monitor, by table; all of the others.
    conditions: BTreeMap<Arc<str>, Value>,
    /// How the server was asked on this connection, once it was.
    method: Option<Method>,
    online: bool,
    monitoring: bool,
    ever: bool,
    next_id: u64,
    last_txn: Uuid,
    /// What the server has of what is wanted.
    offered: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    pending: BTreeMap<u64, Pending>,
    output: VecDeque<Value>,
    lock: Lock,
    seqno: u64,
    flights: BTreeMap<TxnId, Flight>,
    next_txn: u64,
    notes: VecDeque<Note>,
}

impl Idl {
    /// A copy of the database that `schema` describes, so far empty and monitoring nothing.
    pub fn new(schema: Arc<DatabaseSchema>) -> Self {
        Self {
            replica: Replica::new(schema),
            wanted: BTreeMap::new(),
            conditions: BTreeMap::new(),
            method: None,
            online: false,
            monitoring: false,
            ever: false,
            next_id: 1,
            last_txn: Uuid::ZERO,
            offered: BTreeMap::new(),
            pending: BTreeMap::new(),
            output: VecDeque::new(),
            lock: Lock::default(),
            seqno: 0,
            flights: BTreeMap::new(),
            next_txn: 0,
            notes: VecDeque::new(),
        }
    }

    /// The schema that the program was written for.
    pub fn schema(&self) -> &Arc<DatabaseSchema> {
        self.replica.schema()
    }

    /// Monitors a column from the next connection on; nothing happens if the schema lacks it.
    pub fn monitor(&mut self, table: &str, column: &str) {
        let Some(schema) = self.replica.schema().table(table).cloned() else { return };
        let columns = self.wanted.entry(schema.name.clone()).or_default();
        if let Some(column) = schema.get(column).filter(|column| !column.is_builtin()) {
            columns.insert(column.name.clone());
        }
    }

    /// Monitors all columns of a table.
    pub fn monitor_table(&mut self, table: &str) {
        let Some(schema) = self.replica.schema().table(table).cloned() else { return };
        self.wanted.entry(schema.name.clone()).or_default();
        for (_, column) in schema.own_columns() {
            self.monitor(table, &column.name);
        }
    }

    /// Monitors everything.
    pub fn monitor_all(&mut self) {
        let names: Vec<Arc<str>> = self.replica.schema().tables.keys().cloned().collect();
        names.iter().for_each(|name| self.monitor_table(name));
    }

    /// Monitors only the rows of a table for which one of `conditions` holds: a JSON array of `[COLUMN, FUNCTION, VALUE]`,
    /// of `true` and `false`. `true` alone, as at first, means every row. At once on a connection, and on all later ones;
    /// rows come and go by that as by other changes. A server that knows only `monitor` sends every row nevertheless.
    pub fn set_condition(&mut self, table: &str, conditions: Value) {
        let Some(schema) = self.replica.schema().table(table).cloned() else { return };
        if self.conditions.get(table).unwrap_or(&json!([true])) == &conditions {
            return;
        }
        let changed = json!({ table: [{ "where": &conditions }] });
        self.conditions.insert(schema.name.clone(), conditions);
        match self.method {
            Some(Method::CondSince | Method::Cond) if self.offered.contains_key(table) => {
                let db = self.replica.schema().name.to_string();
                let id = json!(["monid", db]);
                self.request("monitor_cond_change", json!([id, id, changed]), Pending::Conditions);
            }
            Some(_) => {}
            // What was seen under the former condition is no part of what this one asks for.
            None => self.last_txn = Uuid::ZERO,
        }
    }

    /// True once the server has taken over all conditions.
    pub fn has_conditions(&self) -> bool {
        self.monitoring && !self.pending.values().any(|pending| *pending == Pending::Conditions)
    }

    /// Changes of this column alone do not move [`Idl::change_seqno`]: for columns that the program itself writes.
    pub fn omit_alert(&mut self, table: &str, column: &str) {
        self.replica.omit_alert(table, column);
    }

    /// Asks for a lock, which transactions then insist on; `None` gives it up.
    pub fn set_lock(&mut self, name: Option<&str>) {
        if self.lock.name.as_deref() == name {
            return;
        }
        if let Some(old) = self.lock.name.take()
            && self.online
        {
            self.request("unlock", json!([old]), Pending::Unlock);
        }
        self.lock = Lock { name: name.map(str::to_owned), ..Lock::default() };
        if self.online {
            self.ask_for_lock();
        }
    }

    /// True while the lock is ours.
    pub fn has_lock(&self) -> bool {
        self.lock.held
    }

    /// True while another client has the lock that we asked for.
    pub fn is_lock_contended(&self) -> bool {
        self.lock.contended
    }

    /// True once the whole content has arrived for the first time.
    pub fn has_ever_connected(&self) -> bool {
        self.ever
    }

    /// True while the server keeps the copy up to date.
    pub fn is_monitoring(&self) -> bool {
        self.monitoring
    }

    /// Moves when rows, the lock or the connection's content change.
    pub fn change_seqno(&self) -> u64 {
        self.seqno
    }

    /// A connection stands: the session starts.
    pub fn connected(&mut self) {
        self.disconnected();
        self.online = true;
        let db = self.replica.schema().name.to_string();
        self.request("get_schema", json!([db]), Pending::Schema);
        self.ask_for_lock();
    }

    /// The connection fell: transactions under way must be tried again, the lock is gone, the rows stay.
    pub fn disconnected(&mut self) {
        self.online = false;
        self.monitoring = false;
        self.method = None;
        if self.pending.values().any(|pending| *pending == Pending::Conditions) {
            // Rows under the new condition may not have come.
            self.last_txn = Uuid::ZERO;
        }
        self.pending.clear();
        self.output.clear();
        if self.lock.held || self.lock.contended {
            self.seqno += 1;
        }
        (self.lock.held, self.lock.contended) = (false, false);
        for flight in self.flights.values_mut().filter(|flight| flight.status == Status::Incomplete) {
            flight.status = Status::TryAgain;
        }
    }

    /// The next message to send.
    pub fn poll_output(&mut self) -> Option<Value> {
        self.output.pop_front()
    }

    /// The next line for the log (module `ovsdb_idl`).
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// Takes in a JSON-RPC message.
    pub fn receive(&mut self, message: &Value) {
        let id = message.get("id").filter(|id| !id.is_null());
        if let Some(method) = message.get("method").and_then(Value::as_str) {
            let params = message.get("params").unwrap_or(&Value::Null);
            match (method, id) {
                ("echo", Some(id)) => {
                    let reply = json!({ "id": id, "result": params, "error": null });
                    self.output.push_back(reply);
                }
                (method, None) => self.notified(method, params),
                (method, Some(id)) => {
                    let reply = json!({ "id": id, "result": null, "error": { "error": "unknown method", "details": method } });
                    self.output.push_back(reply);
                }
            }
            return;
        }
        let Some(pending) = id.and_then(Value::as_u64).and_then(|id| self.pending.remove(&id)) else {
            self.notes.push_back(Note::Debug(format!("unexpected reply {message}")));
            return;
        };
        let error = message.get("error").filter(|error| !error.is_null());
        self.replied(pending, message.get("result").unwrap_or(&Value::Null), error);
    }

    fn request(&mut self, method: &str, params: Value, pending: Pending) {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, pending);
        self.output.push_back(json!({ "id": id, "method": method, "params": params }));
    }

    fn ask_for_lock(&mut self) {
        if let Some(name) = self.lock.name.clone() {
            self.request("lock", json!([name]), Pending::Lock);
        }
    }

    fn replied(&mut self, pending: Pending, result: &Value, error: Option<&Value>) {
        match (pending, error) {
            (Pending::Schema, None) => match DatabaseSchema::from_json(result) {
                Ok(schema) => self.start_monitoring(&schema),
                Err(error) => self.warn(format!("received bad schema: {error}")),
            },
            (Pending::Schema, Some(error)) => self.warn(format!("database unavailable: {error}")),
            (Pending::Monitor(method), None) => self.monitored(method, result),
            (Pending::Monitor(method), Some(error)) => match method.older() {
                Some(older) if error_tag(error) == "unknown method" => self.ask_for_monitor(older),
                _ => self.warn(format!("{} failed: {error}", method.name())),
            },
            (Pending::Conditions, None) => {}
            (Pending::Conditions, Some(error)) => self.warn(format!("monitor_cond_change failed: {error}")),
            (Pending::Lock, None) => {
                let held = result.get("locked") == Some(&Value::Bool(true));
                self.lock_changed(held);
            }
            (Pending::Lock, Some(error)) => self.warn(format!("lock failed: {error}")),
            (Pending::Unlock, _) => {}
            (Pending::Transact(id), error) => self.transacted(id, result, error),
        }
    }

    fn start_monitoring(&mut self, server: &DatabaseSchema) {
        self.offered.clear();
        let mut missing = Vec::new();
        for (table, columns) in &self.wanted {
            let Some(theirs) = server.table(table) else {
                missing.push(format!(
                    "{} database lacks {table} table (database needs upgrade?)",
                    self.replica.schema().name
                ));
                continue;
            };
            let (known, unknown): (Vec<_>, Vec<_>) =
                columns.iter().cloned().partition(|column| theirs.column(column).is_some());
            for column in unknown {
                missing.push(format!(
                    "{table} table in {} database lacks {column} column (database needs upgrade?)",
                    self.replica.schema().name
                ));
            }
            self.offered.insert(table.clone(), known);
        }
        missing.into_iter().for_each(|text| self.warn(text));
        self.ask_for_monitor(Method::CondSince);
    }

    fn ask_for_monitor(&mut self, method: Method) {
        // A condition that changes before the answer is sent with a request of its own after this one.
        self.method = Some(method);
        let requests: Map<String, Value> = self
            .offered
            .iter()
            .map(|(table, columns)| {
                let names: Vec<&str> = columns.iter().map(|name| &**name).collect();
                let mut request = json!({ "columns": names });
                if let (Method::CondSince | Method::Cond, Some(conditions)) =
                    (method, self.conditions.get(table))
                {
                    request["where"] = conditions.clone();
                }
                (table.to_string(), json!([request]))
            })
            .collect();
        let db = self.replica.schema().name.to_string();
        let mut params = json!([db, ["monid", db], requests]);
        if let (Method::CondSince, Some(params)) = (method, params.as_array_mut()) {
            params.push(self.last_txn.to_string().into());
        }
        self.request(method.name(), params, Pending::Monitor(method));
    }

    fn monitored(&mut self, method: Method, result: &Value) {
        let (found, updates) = match (method, result.as_array().map(Vec::as_slice)) {
            (Method::CondSince, Some([found, last, updates])) => {
                self.last_txn = last.as_str().and_then(|id| id.parse().ok()).unwrap_or(Uuid::ZERO);
                (found == &Value::Bool(true), updates)
            }
            (Method::CondSince, _) => {
                self.warn("received bad monitor_cond_since reply".to_owned());
                return;
            }
            (Method::Cond | Method::Plain, _) => {
                self.last_txn = Uuid::ZERO;
                (false, result)
            }
        };
        let outcome = if found { self.replica.update(updates, true) } else { self.replica.reload(updates) };
        match outcome {
            Ok(_) => {
                (self.monitoring, self.ever) = (true, true);
                self.seqno += 1;
            }
            Err(error) => self.warn(error),
        }
    }

    fn notified(&mut self, method: &str, params: &Value) {
        match (method, params.as_array().map(Vec::as_slice)) {
            ("update", Some([_, updates])) if self.monitoring => self.updated(updates, false),
            ("update2", Some([_, updates])) if self.monitoring => self.updated(updates, true),
            ("update3", Some([_, last, updates])) if self.monitoring => {
                self.last_txn = last.as_str().and_then(|id| id.parse().ok()).unwrap_or(Uuid::ZERO);
                self.updated(updates, true);
            }
            ("locked" | "stolen", Some([name])) if name.as_str() == self.lock.name.as_deref() => {
                self.lock_changed(method == "locked");
            }
            _ => self.notes.push_back(Note::Debug(format!("unexpected notification {method}"))),
        }
    }

    fn updated(&mut self, updates: &Value, differences: bool) {
        match self.replica.update(updates, differences) {
            Ok(true) => self.seqno += 1,
            Ok(false) => {}
            Err(error) => self.warn(error),
        }
    }

    fn lock_changed(&mut self, held: bool) {
        (self.lock.held, self.lock.contended) = (held, !held);
        self.seqno += 1;
    }

    fn warn(&mut self, text: String) {
        self.notes.push_back(Note::Warning(text));
    }

    /// All rows of a table, by UUID.
    pub fn rows<'a>(&'a self, table: &str) -> impl Iterator<Item = Record<'a>> + use<'a> {
        self.replica.rows(table)
    }

    /// A row.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<Record<'_>> {
        self.replica.row(table, uuid)
    }

    /// Any row of a table: the row, where there is at most one.
    pub fn first(&self, table: &str) -> Option<Record<'_>> {
        self.replica.rows(table).next()
    }

    /// What happened to rows since the last call.
    pub fn take_changes(&mut self) -> Vec<RowChange> {
        self.replica.take_changes()
    }

    /// The rows with the changes of `txn` on top.
    pub fn view<'a>(&'a self, txn: &'a Txn) -> View<'a> {
        View { replica: &self.replica, txn }
    }

    /// Sends `txn`. Its status is at once final if there is nothing to do, no connection or no lock.
    pub fn commit(&mut self, txn: &Txn) -> TxnId {
        let id = TxnId(self.next_txn);
        self.next_txn += 1;
        let compiled = txn.compile(&self.replica, self.lock.name.as_deref());
        let status = if compiled.is_empty() {
            Status::Unchanged
        } else if self.lock.name.is_some() && !self.lock.held {
            Status::NotLocked
        } else if !self.monitoring {
            Status::TryAgain
        } else {
            self.request("transact", compiled.params.clone(), Pending::Transact(id));
            Status::Incomplete
        };
        self.flights.insert(id, Flight { status, compiled });
        id
    }

    fn transacted(&mut self, id: TxnId, result: &Value, error: Option<&Value>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.status = match error {
            Some(error) if error_tag(error) == "canceled" => Status::Aborted,
            Some(error) => Status::Error(error.to_string()),
            None => flight.compiled.outcome(result),
        };
        if let Status::Error(text) = &flight.status {
            let text = format!("transaction error: {text}");
            self.warn(text);
        }
    }

    /// How a transaction fares.
    pub fn status(&self, id: TxnId) -> Status {
        self.flights.get(&id).map_or(Status::Aborted, |flight| flight.status.clone())
    }

    /// What it takes memory for, by the names of `memory/show`.
    pub fn memory(&self) -> Vec<(String, u64)> {
        let schema = self.schema();
        let cells = |table: &TableSchema| self.rows(&table.name).count() * table.columns.len();
        let cells: usize = schema.tables.values().map(|table| cells(table)).sum();
        let open = self.flights.values().filter(|flight| flight.status == Status::Incomplete).count();
        vec![
            (format!("idl-cells-{}", schema.name), cells as u64),
            (format!("idl-outstanding-txns-{}", schema.name), open as u64),
        ]
    }

    /// True if some transaction still waits for its reply.
    pub fn has_incomplete(&self) -> bool {
        self.flights.values().any(|flight| flight.status == Status::Incomplete)
    }

    /// The UUID that the server gave to a row that a successful transaction inserted as `provisional`.
    pub fn inserted(&self, id: TxnId, provisional: Uuid) -> Option<Uuid> {
        self.flights.get(&id)?.compiled.real_uuids.get(&provisional).copied()
    }

    /// What [`Txn::increment`] made of its column in a successful transaction.
    pub fn incremented(&self, id: TxnId) -> Option<i64> {
        self.flights.get(&id)?.compiled.incremented
    }

    /// Forgets a transaction.
    pub fn forget(&mut self, id: TxnId) {
        self.flights.remove(&id);
    }

    /// The rows as shared data, for a snapshot that outlives later updates.
    pub fn shared_row(&self, table: &str, uuid: Uuid) -> Option<Arc<Row>> {
        self.replica.row(table, uuid).map(|record| record.shared().clone())
    }
}

fn error_tag(error: &Value) -> &str {
    error.as_str().or_else(|| error.get("error")?.as_str()).unwrap_or_default()
}
