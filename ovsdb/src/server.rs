//! A database server without I/O: sessions, requests, locks, monitors, commits.
//!
//! The owner passes in what arrives ([`Server::receive`]) and carries out what [`Server::poll_output`] says.
//!
//! **Commits.** A transaction is applied to memory at once, so that the next one builds on it, and its record goes to
//! storage as [`Output::Write`]. Its updates and its reply leave when [`Server::written`] reports success, in the order
//! of the commits; replies that show the state of the database wait for the commits that they show. When a write fails,
//! all commits not yet on storage are taken back and their clients told.

mod message;
mod commit;
mod lock;
mod session;
mod follow;
mod history;
mod tlog;
pub mod perf;
pub mod remotes;
pub mod config;
pub mod dbio;
pub mod outbox;
pub mod connection;
pub mod host;
pub mod embedded;

pub use follow::Role;
pub use message::Message;
pub use session::{SessionId, SessionInfo};

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::database::Database;
use crate::error::Error;
use crate::schema::DatabaseSchema;
use crate::transact::random_uuid;
use crate::transaction::Transaction;
use crate::value::{Datum, Uuid};
use crate::vswitch;
use commit::Db;
use lock::Locks;
use session::Session;

pub use commit::{CommitSeq, WriteJob};

/// What the owner shall do.
#[derive(Debug)]
pub enum Output {
    /// Send a JSON-RPC message.
    Send(SessionId, Message),
    /// Close a session; the reason is for the log.
    Close(SessionId, String),
    /// Write to the storage of a database, then call [`Server::written`].
    Write(WriteJob),
    /// After a failed write: what follows for this database builds on what is on storage, no longer on the failed write.
    Resume(Arc<str>),
    /// Send a JSON-RPC message to the source that a database follows.
    Source(Arc<str>, Value),
    /// Close the connection to the source that a database follows, and connect again.
    SourceReset(Arc<str>, String),
    /// Something for the log (module `jsonrpc_server`, level WARN).
    Warn(String),
}

/// The server.
#[derive(Debug)]
pub struct Server {
    id: Uuid,
    dbs: BTreeMap<Arc<str>, Db>,
    sessions: BTreeMap<SessionId, Session>,
    next_session: u64,
    locks: Locks,
    outputs: VecDeque<Output>,
    read_only: bool,
    generation: u64,
    no_conditions: bool,
    logged: tlog::Logged,
}

/// What `_Server` says of a database.
struct Facts {
    schema: Arc<DatabaseSchema>,
    is_relay: bool,
    is_connected: bool,
    is_available: bool,
}

impl Facts {
    fn of(db: &Db) -> Self {
        let relay = db.follow.as_ref().filter(|follow| follow.is_relay());
        Self {
            schema: db.data.schema().clone(),
            is_relay: relay.is_some(),
            is_connected: relay.is_none_or(follow::Follow::is_connected),
            is_available: db.is_available,
        }
    }
}

/// The name of the database about databases.
const SELF: &str = "_Server";

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server of the database `_Server` and no other.
    pub fn new() -> Self {
        let mut dbs = BTreeMap::new();
        dbs.insert(Arc::from(SELF), Db::new(Database::new(vswitch::server_schema()), false));
        let mut server = Self {
            id: random_uuid(),
            dbs,
            sessions: BTreeMap::new(),
            next_session: 0,
            locks: Locks::default(),
            outputs: VecDeque::new(),
            read_only: false,
            generation: 0,
            no_conditions: false,
            logged: tlog::Logged::new(),
        };
        server.tell_databases();
        server
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The answer to `get_server_id`.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Moves whenever a database changes, comes or goes.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Pretends from now on not to know `monitor_cond` and what came after it.
    pub fn disable_monitor_cond(&mut self) {
        self.no_conditions = true;
    }

    /// Turns off, or on again, every client's right to change databases.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// The names of all databases but `_Server`.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.dbs.keys().filter(|name| &***name != SELF)
    }

    /// A database's content, which may run ahead of its storage.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.dbs.get(name).map(|db| &db.data)
    }

    /// Serves a database. Clients that do not know that databases may come are disconnected, so that they see it.
    pub fn add_database(&mut self, data: Database, has_storage: bool) {
        self.add(Db::new(data, has_storage));
    }

    /// Serves a database of another server, whose schema is not known yet. [`Server::follow`] makes it so.
    pub fn add_relay(&mut self, name: &str) {
        let mut db = Db::new(Database::new(Arc::new(DatabaseSchema::empty(name))), false);
        db.is_available = false;
        self.add(db);
    }

    fn add(&mut self, db: Db) {
        let name = db.data.schema().name.clone();
        self.generation += 1;
        self.dbs.insert(name.clone(), db);
        // First, so that they do not hear of it any more.
        self.reconnect(&format!("adding {name} database"));
        self.tell_databases();
    }

    /// Stops serving a database, if it is served.
    pub fn remove_database(&mut self, name: &str, reason: &str) -> bool {
        if name == SELF || !self.dbs.contains_key(name) {
            return false;
        }
        self.unfollow(name);
        self.cancel_monitors(name);
        self.cancel_waiting(name);
        self.generation += 1;
        self.dbs.remove(name);
        self.reconnect(reason);
        self.tell_databases();
        true
    }

    /// Changes rows of a database on the server's own behalf: `edit` lays changes on a transaction.
    pub fn change(&mut self, name: &str, edit: impl FnOnce(&mut Transaction<'_>)) -> Result<(), Error> {
        let Some(db) = self.dbs.get_mut(name) else { return Ok(()) };
        let mut txn = Transaction::new(&db.data);
        edit(&mut txn);
        let changes = txn.finish(&mut random_uuid)?;
        if !changes.is_empty() {
            self.commit_own(name, changes);
        }
        Ok(())
    }

    /// Makes the rows of `_Server` say what is served.
    fn tell_databases(&mut self) {
        let facts: Vec<Facts> = self.dbs.values().map(Facts::of).collect();
        let outcome = self.change(SELF, |txn| {
            let db = txn.database();
            let Some(table) = db.table_id("Database") else { return };
            let columns = db.table(table).schema().clone();
            let at = |name: &str| columns.column(name).unwrap_or_default();
            let old: Vec<(Uuid, String)> = txn
                .rows(table)
                .map(|row| (row.uuid(), row.get(at("name")).as_str().unwrap_or_default().to_owned()))
                .collect();
            for (uuid, name) in &old {
                if !facts.iter().any(|facts| *facts.schema.name == **name) {
                    txn.delete(table, *uuid);
                }
            }
            for Facts { schema, is_relay, is_connected, is_available } in &facts {
                let known = old.iter().find(|(_, name)| **name == *schema.name).map(|(uuid, _)| *uuid);
                let uuid = known.unwrap_or_else(random_uuid);
                if known.is_none() {
                    let mut row = crate::database::Row::new(&columns);
                    row.set_uuid(uuid);
                    row.set_version(random_uuid());
                    txn.insert(table, row);
                }
                if let Some(row) = txn.modify(table, uuid) {
                    row.set(at("name"), Datum::one(&*schema.name));
                    row.set(at("model"), Datum::one(if *is_relay { "relay" } else { "standalone" }));
                    row.set(at("connected"), Datum::one(*is_connected));
                    row.set(at("leader"), Datum::one(!*is_relay));
                    if *is_available {
                        row.set(at("schema"), Datum::one(crate::json::text(&schema.to_json())));
                    }
                }
            }
        });
        debug_assert!(outcome.is_ok(), "the rows of _Server keep its schema: {outcome:?}");
    }

    /// Statistics for `memory/show`.
    pub fn memory(&self) -> BTreeMap<&'static str, usize> {
        let monitors: usize = self.sessions.values().map(Session::n_monitors).sum();
        let triggers: usize = self.dbs.values().map(Db::n_waiting).sum();
        let mut usage = BTreeMap::new();
        let cells: usize = self
            .dbs
            .values()
            .flat_map(|db| db.data.tables())
            .map(|table| table.len() * table.schema().columns.len())
            .sum();
        usage.insert("cells", cells);
        usage.insert("monitors", monitors);
        usage.insert("sessions", self.sessions.len());
        usage.insert("triggers", triggers);
        usage.insert("atoms", self.dbs.values().map(|db| db.data.n_atoms()).sum());
        usage.insert("weak_refs", self.dbs.values().map(|db| db.data.n_weak_refs()).sum());
        usage.retain(|_, n| *n > 0);
        usage
    }
}
