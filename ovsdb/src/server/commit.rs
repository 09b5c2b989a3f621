//! A served database: its content, its commits on the way to storage, and the transactions that wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flow::time::Instant;
use serde_json::{Value, json};

use super::follow::Follow;
use super::session::{Session, SessionId, Watch};
use super::{Message, Output, Server};
use crate::database::{Change, Database};
use crate::error::Error;
use crate::json::{Doc, Node};
use crate::monitor::Spec;
use crate::rbac::Client;
use crate::schema::DatabaseSchema;
use crate::storage::Record;
use crate::transact::{self, Commit, Context, Outcome, Results, random_uuid};
use crate::value::Uuid;

/// Numbers the commits of a database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommitSeq(pub u64);

/// Something for a database's storage.
#[derive(Debug)]
pub struct WriteJob {
    /// Which database.
    pub db: Arc<str>,
    /// Which commit, for [`Server::written`].
    pub seq: CommitSeq,
    /// What to append, or to put in place of everything.
    pub record: Record,
    /// Must survive a power failure.
    pub durable: bool,
}

impl WriteJob {
    /// Whether the next job may be written in one group with this one. What replaces everything is a group of its own: it
    /// cannot be undone together with others.
    pub(super) fn goes_with(&self, next: &Self) -> bool {
        let is_alone = |job: &Self| matches!(job.record, Record::Everything { .. });
        self.db == next.db && !is_alone(self) && !is_alone(next)
    }
}

/// To whom, to which request, with which results.
pub(super) type Reply = (SessionId, Value, Results);

/// What leaves when a commit is done.
#[derive(Debug)]
struct Pending {
    seq: CommitSeq,
    changes: Vec<Change>,
    reply: Option<Reply>,
    done: bool,
    /// The database is another from now on: nobody watches any more, everybody reconnects, for this reason.
    conversion: Option<String>,
    /// To be undone, it needs the database as it was.
    former: Option<Box<Database>>,
}

/// A transaction whose `wait` does not hold yet.
#[derive(Debug)]
struct Waiting {
    session: SessionId,
    id: Value,
    params: Doc,
    since: Instant,
    deadline: Instant,
}

/// A message that shows commits up to `after`.
#[derive(Debug)]
struct Held {
    after: CommitSeq,
    session: SessionId,
    message: Message,
}

/// A served database.
#[derive(Debug)]
pub(super) struct Db {
    pub(super) data: Database,
    has_storage: bool,
    last: CommitSeq,
    pending: VecDeque<Pending>,
    held: Vec<Held>,
    waiting: Vec<Waiting>,
    /// The schema is known, which a relay's is not at first.
    pub(super) is_available: bool,
    /// The session with the source that it follows.
    pub(super) follow: Option<Follow>,
}

impl Db {
    pub(super) fn new(data: Database, has_storage: bool) -> Self {
        let last = CommitSeq(0);
        Self {
            data,
            has_storage,
            last,
            pending: VecDeque::new(),
            held: Vec::new(),
            waiting: Vec::new(),
            is_available: true,
            follow: None,
        }
    }

    /// It changes only as its source does.
    fn is_backup(&self) -> bool {
        self.follow.as_ref().is_some_and(|follow| !follow.is_relay())
    }

    fn is_relay(&self) -> bool {
        self.follow.as_ref().is_some_and(Follow::is_relay)
    }

    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The newest commit that memory shows.
    pub(super) fn last(&self) -> CommitSeq {
        self.last
    }

    /// The id of the newest transaction, which relays of clusters have; zero for others.
    pub(super) fn last_txn(&self) -> Uuid {
        self.follow.as_ref().map_or(Uuid::ZERO, |follow| follow.history.last())
    }

    /// What has changed since the transaction `id`, if that is known.
    pub(super) fn changes_since(&self, id: Uuid) -> Option<Vec<Change>> {
        self.follow.as_ref()?.history.since(id)
    }

    fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// The notifications about commits that are not yet on storage and that `watch` has not been told of.
    pub(super) fn pending_updates(&self, watch: &Watch) -> Vec<Message> {
        let later = self.pending.iter().filter(|pending| watch.since < pending.seq);
        let updates = later.filter_map(|pending| watch.spec.update(&self.data, &pending.changes));
        updates.map(|update| watch.notification(self.last_txn(), update.into())).collect()
    }

    pub(super) fn has_request(&self, session: SessionId, id: &Value) -> bool {
        self.waiting.iter().any(|waiting| waiting.session == session && waiting.id == *id)
    }
}

impl Server {
    /// Starts a `transact` request of a session.
    pub(super) fn transact(
        &mut self,
        name: &str,
        session: SessionId,
        id: Value,
        params: Node<'_>,
        now: Instant,
    ) {
        if self.attempt(name, (session, id), params, now, now) {
            self.settle(name, now);
        }
    }

    /// Tries a transaction that began at `since`; true if it changed the database. If it must wait, it is kept.
    fn attempt(
        &mut self,
        name: &str,
        (session, id): (SessionId, Value),
        params: Node<'_>,
        since: Instant,
        now: Instant,
    ) -> bool {
        let locks = self.locks.owned_by(session);
        let read_only = self.read_only || self.sessions.get(&session).is_some_and(|s| s.info.read_only);
        let Some(db) = self.dbs.get_mut(name) else { return false };
        let read_only = read_only || db.is_backup();
        let elapsed_ms = i64::try_from(now.since(since).as_millis()).unwrap_or(i64::MAX);
        let client = self.sessions.get(&session).map_or_else(Client::default, Session::client);
        let new_uuid = random_uuid;
        let context = Context { locks: &locks, read_only, client, elapsed_ms, can_wait: true, new_uuid };
        match transact::execute(&db.data, params, &context) {
            Outcome::Blocked { timeout_ms } => {
                let deadline = timeout_ms.map_or(Instant::NEVER, |ms| {
                    since + std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))
                });
                db.waiting.push(Waiting { session, id, params: Doc::copy_of(params), since, deadline });
                false
            }
            Outcome::Done { results, commit: None } => {
                self.reply_after(name, session, &id, &results.into_text());
                false
            }
            Outcome::Done { commit: Some(_), .. } if db.is_relay() && transact::writes(params) => {
                self.forward(name, session, id, params.to_value());
                false
            }
            Outcome::Done { results, commit: Some(commit) } => {
                self.commit(name, commit, Some((session, id, results)))
            }
        }
    }

    /// Applies a commit; true if it changed anything.
    pub(super) fn commit(&mut self, name: &str, commit: Commit, reply: Option<Reply>) -> bool {
        let Some(db) = self.dbs.get_mut(name) else { return false };
        if commit.changes.is_empty() && commit.comment.is_none() {
            if let Some((session, id, results)) = reply {
                self.reply_after(name, session, &id, &results.into_text());
            }
            return false;
        }
        let record = if db.has_storage { Record::transaction(&db.data, &commit) } else { None };
        db.data.apply(&commit.changes);
        db.last = CommitSeq(db.last.0 + 1);
        let seq = db.last;
        let (done, conversion) = (record.is_none(), None);
        let changed = !commit.changes.is_empty();
        db.pending.push_back(Pending { seq, changes: commit.changes, reply, done, conversion, former: None });
        if let Some(record) = record {
            let job = WriteJob { db: db.data.schema().name.clone(), seq, record, durable: commit.durable };
            self.outputs.push_back(Output::Write(job));
        }
        changed || done
    }

    /// A commit of the server's own.
    pub(super) fn commit_own(&mut self, name: &str, changes: Vec<Change>) {
        let commit = Commit { changes, comment: None, durable: false };
        self.commit(name, commit, None);
        self.settle(name, Instant::ZERO);
    }

    /// The write jobs up to `seq` are done, or failed: then all commits of that database that are not yet on storage are taken back.
    pub fn written(&mut self, name: &str, seq: CommitSeq, outcome: Result<(), Error>, now: Instant) {
        match outcome {
            Ok(()) => {
                if let Some(db) = self.dbs.get_mut(name) {
                    db.pending
                        .iter_mut()
                        .filter(|pending| pending.seq <= seq)
                        .for_each(|pending| pending.done = true);
                }
                self.settle(name, now);
            }
            Err(error) => self.take_back(name, seq, &error),
        }
    }

    fn take_back(&mut self, name: &str, seq: CommitSeq, error: &Error) {
        let Some(db) = self.dbs.get_mut(name) else { return };
        if !db.pending.iter().any(|pending| pending.seq <= seq) {
            return;
        }
        let mut replies = Vec::new();
        while let Some(mut pending) = db.pending.pop_back() {
            match pending.former.take() {
                Some(former) => db.data = *former,
                None => db.data.undo(&pending.changes),
            }
            if let Some((session, id, mut results)) = pending.reply {
                results.push(error);
                replies.push((session, Message::reply(&id, &results.into_text())));
            }
        }
        let db_name = db.data.schema().name.clone();
        // What these messages show never was: their clients must start over.
        let confused: Vec<SessionId> = db.held.drain(..).map(|held| held.session).collect();
        self.outputs.push_back(Output::Resume(db_name));
        for (session, reply) in replies.into_iter().rev() {
            self.send(session, reply);
        }
        for session in confused {
            self.close(session, "storage failure");
        }
    }

    /// Lets out what is done: updates, replies; then tries the transactions that wait.
    pub(super) fn settle(&mut self, name: &str, now: Instant) {
        loop {
            let mut changed = false;
            while let Some(pending) = self.pop_done(name) {
                changed |= self.finish(name, pending);
            }
            self.release(name);
            if !changed || !self.retry(name, now) {
                return;
            }
        }
    }

    fn pop_done(&mut self, name: &str) -> Option<Pending> {
        let db = self.dbs.get_mut(name)?;
        if !db.pending.front()?.done {
            return None;
        }
        db.pending.pop_front()
    }

    /// True if the commit changed rows.
    fn finish(&mut self, name: &str, pending: Pending) -> bool {
        self.generation += 1;
        self.log_changes(name, &pending.changes);
        self.notify_monitors(name, &pending);
        if let Some((session, id, results)) = pending.reply {
            self.send(session, Message::reply(&id, &results.into_text()));
        }
        if let Some(reason) = &pending.conversion {
            self.reconnect(reason);
            self.tell_databases();
        }
        !pending.changes.is_empty() || pending.conversion.is_some()
    }

    fn notify_monitors(&mut self, name: &str, pending: &Pending) {
        let Some(db) = self.dbs.get(name) else { return };
        let id = db.last_txn();
        // Sessions that watch the same share the JSON.
        let mut cache: BTreeMap<*const Spec, Option<Arc<str>>> = BTreeMap::new();
        for (&session, state) in &mut self.sessions {
            for watch in state.watches(name).filter(|watch| watch.since < pending.seq) {
                let update = cache
                    .entry(Arc::as_ptr(&watch.spec))
                    .or_insert_with(|| watch.spec.update(&db.data, &pending.changes).map(Arc::from));
                if let Some(update) = update {
                    self.outputs.push_back(Output::Send(session, watch.notification(id, update.clone())));
                }
            }
        }
    }

    /// Tries the waiting transactions again; true if one of them changed the database.
    fn retry(&mut self, name: &str, now: Instant) -> bool {
        let Some(db) = self.dbs.get_mut(name) else { return false };
        let waiting = std::mem::take(&mut db.waiting);
        let mut changed = false;
        for Waiting { session, id, params, since, .. } in waiting {
            let Some(params) = params.root() else { continue };
            changed |= self.attempt(name, (session, id), params, since, now);
        }
        changed
    }

    /// Lets waiting transactions time out.
    pub fn run(&mut self, now: Instant) {
        self.give_up_sources(now);
        let names: Vec<Arc<str>> = self.dbs.keys().cloned().collect();
        for name in names {
            let due = self
                .dbs
                .get(&name)
                .is_some_and(|db| db.waiting.iter().any(|waiting| waiting.deadline <= now));
            if due && self.retry(&name, now) {
                self.settle(&name, now);
            }
        }
    }

    /// When [`Server::run`] has something to do next.
    pub fn deadline(&self) -> Instant {
        let all = self.dbs.values().flat_map(|db| &db.waiting).map(|waiting| waiting.deadline);
        let sources = self.dbs.values().filter_map(|db| db.follow.as_ref()).map(Follow::deadline);
        all.chain(sources).min().unwrap_or(Instant::NEVER)
    }

    /// Sends a reply as soon as everything that it shows is on storage.
    pub(super) fn reply_after(&mut self, name: &str, session: SessionId, id: &Value, result: &str) {
        self.send_after(name, session, Message::reply(id, result));
    }

    /// Sends a message as soon as everything that it shows is on storage.
    pub(super) fn send_after(&mut self, name: &str, session: SessionId, message: Message) {
        match self.dbs.get_mut(name).filter(|db| !db.is_settled()) {
            Some(db) => db.held.push(Held { after: db.last, session, message }),
            None => self.send(session, message),
        }
    }

    fn release(&mut self, name: &str) {
        let Some(db) = self.dbs.get_mut(name) else { return };
        let first_open = db.pending.front().map_or(CommitSeq(u64::MAX), |pending| pending.seq);
        let (free, held) = std::mem::take(&mut db.held).into_iter().partition(|held| held.after < first_open);
        db.held = held;
        let free: Vec<Held> = free;
        for held in free {
            self.send(held.session, held.message);
        }
    }

    /// Replaces a database by one of another schema with the same content, for a client or for the operator.
    pub(super) fn replace(
        &mut self,
        name: &str,
        data: Database,
        reply: Option<Reply>,
        reason: String,
        now: Instant,
    ) {
        self.cancel_monitors(name);
        self.cancel_waiting(name);
        let Some(db) = self.dbs.get_mut(name) else { return };
        let record = db.has_storage.then(|| Record::replacement(&data, Some("converted by ovsdb-server")));
        let former = Some(Box::new(std::mem::replace(&mut db.data, data)));
        db.last = CommitSeq(db.last.0 + 1);
        let seq = db.last;
        let done = record.is_none();
        let conversion = Some(reason);
        db.pending.push_back(Pending { seq, changes: Vec::new(), reply, done, conversion, former });
        if let Some(record) = record {
            let job = WriteJob { db: db.data.schema().name.clone(), seq, record, durable: true };
            self.outputs.push_back(Output::Write(job));
        }
        self.settle(name, now);
    }

    /// The record that a compaction of a database puts in place of all that were written so far; nothing without storage.
    pub fn everything(&self, name: &str) -> Option<Record> {
        let db = self.dbs.get(name).filter(|db| db.has_storage)?;
        Some(Record::replacement(&db.data, Some("compacting database online")))
    }

    /// Ends the waiting transactions of a session; of one request only, if `id` is given.
    pub(super) fn cancel(&mut self, session: SessionId, id: Option<&Value>) {
        if self.forget_forwards(session, id)
            && let Some(id) = id
        {
            self.send(session, json!({ "id": id, "result": null, "error": "canceled" }));
        }
        for db in self.dbs.values_mut() {
            let ours =
                |waiting: &Waiting| waiting.session == session && id.is_none_or(|id| waiting.id == *id);
            let (mine, rest) = std::mem::take(&mut db.waiting).into_iter().partition(ours);
            db.waiting = rest;
            let mine: Vec<Waiting> = mine;
            for waiting in mine {
                let reply = json!({ "id": waiting.id, "result": null, "error": "canceled" });
                self.outputs.push_back(Output::Send(waiting.session, reply.into()));
            }
        }
    }

    /// Ends the waiting transactions on a database that goes or changes. Sessions that do not know that this may happen
    /// are not told, for they are about to be closed.
    pub(super) fn cancel_waiting(&mut self, name: &str) {
        let Some(db) = self.dbs.get_mut(name) else { return };
        for waiting in std::mem::take(&mut db.waiting) {
            if !self.sessions.get(&waiting.session).is_some_and(Session::is_db_change_aware) {
                continue;
            }
            let reply = json!({ "id": waiting.id, "result": null, "error": "canceled" });
            self.outputs.push_back(Output::Send(waiting.session, reply.into()));
        }
    }

    /// The `convert` request.
    pub(super) fn convert(
        &mut self,
        name: &str,
        session: SessionId,
        id: Value,
        params: &Value,
        now: Instant,
    ) {
        let read_only = self.read_only || self.sessions.get(&session).is_some_and(|s| s.info.read_only);
        let client = self.sessions.get(&session).map_or_else(Client::default, Session::client);
        let converted = self.dbs.get(name).map(|db| {
            client.check_convert(name)?;
            if db.is_relay() {
                return Err(Error::new("not allowed", format!("cannot convert relayed database {name}")));
            }
            converted(&db.data, params, read_only || db.is_backup())
        });
        let reason = format!("committed {name} database schema conversion");
        match converted {
            Some(Ok(data)) => self.replace(name, data, Some((session, id, Results::done())), reason, now),
            Some(Err(error)) => {
                self.send(session, json!({ "id": id, "result": null, "error": error.to_json() }))
            }
            None => {}
        }
    }
}

fn converted(db: &Database, params: &Value, read_only: bool) -> Result<Database, Error> {
    let name = &db.schema().name;
    if read_only {
        return Err(Error::new(
            "not allowed",
            format!("conversion is not allowed for read-only database {name}"),
        ));
    }
    let Some([_, schema]) = params.as_array().map(Vec::as_slice) else {
        return Err(Error::syntax(params, "array expected"));
    };
    let schema = DatabaseSchema::from_json(schema)?;
    if schema.name != *name {
        let details = format!("new schema name ({}) does not match database name ({name})", schema.name);
        return Err(Error::new("invalid parameters", details));
    }
    crate::convert::convert(db, Arc::new(schema))
}
