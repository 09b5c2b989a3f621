//! Sessions: one a connection; and their requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow::time::Instant;
use serde_json::{Value, json};

use super::commit::CommitSeq;
use super::{Message, Output, Server};
use crate::error::Error;
use crate::json::{Doc, Json, Node, Shape};
use crate::monitor::{Spec, Version};
use crate::rbac::Client;
use crate::value::{Uuid, is_id};

/// Which session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// What the owner knows of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionInfo {
    /// The remote that it belongs to, as configured.
    pub remote: String,
    /// The peer, for the log.
    pub peer: String,
    /// It may not change anything.
    pub read_only: bool,
    /// What it may change, in databases that know roles; everything, if empty.
    pub role: String,
    /// Who the client is, by its certificate.
    pub id: Option<String>,
}

/// A monitor of a session.
#[derive(Debug)]
pub(super) struct Watch {
    id: Value,
    db: Arc<str>,
    pub(super) spec: Arc<Spec>,
    /// The newest commit that the client was told of when the monitor began.
    pub(super) since: CommitSeq,
}

impl Watch {
    /// The message that brings `update`, of transaction `id`.
    pub(super) fn notification(&self, id: Uuid, update: Arc<str>) -> Message {
        let version = self.spec.version();
        let method = version.notification();
        match version {
            Version::Three => Message::notification(method, &[&self.id, &id.to_string().into()], update),
            Version::One | Version::Two => Message::notification(method, &[&self.id], update),
        }
    }
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) info: SessionInfo,
    /// By the monitor's id as text.
    watches: BTreeMap<String, Watch>,
    db_change_aware: bool,
}

impl Session {
    /// The client as roles see it.
    pub(super) fn client(&self) -> Client<'_> {
        Client { role: &self.info.role, id: self.info.id.as_deref() }
    }

    pub(super) fn is_db_change_aware(&self) -> bool {
        self.db_change_aware
    }

    pub(super) fn n_monitors(&self) -> usize {
        self.watches.len()
    }

    pub(super) fn watches<'a>(&'a self, db: &'a str) -> impl Iterator<Item = &'a Watch> {
        self.watches.values().filter(move |watch| *watch.db == *db)
    }
}

fn notification(method: &str, params: &Value) -> Value {
    json!({ "id": null, "method": method, "params": params })
}

/// A reply: a result, an error in JSON, or nothing yet.
type Reply = Result<Option<Value>, Value>;

fn refuse(error: &Error) -> Reply {
    Err(error.to_json())
}

impl Server {
    /// A client connected.
    pub fn connect(&mut self, info: SessionInfo) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions.insert(id, Session { info, watches: BTreeMap::new(), db_change_aware: false });
        id
    }

    /// A client is gone: its locks are free, its waiting transactions end.
    pub fn disconnect(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.cancel(session, None);
        for name in self.locks.of(session) {
            self.unlock_one(&name, session);
        }
    }

    /// The peer of a session, for the log.
    pub fn peer(&self, session: SessionId) -> Option<&str> {
        self.sessions.get(&session).map(|session| session.info.peer.as_str())
    }

    /// The locks that sessions of a remote own and wait for.
    pub fn locks_of_remote(&self, remote: &str) -> Vec<(SessionId, Vec<String>, Vec<String>)> {
        let of = |(&id, _): (&SessionId, &Session)| {
            let owned = self.locks.owned_by(id);
            let waiting = self.locks.of(id).into_iter().filter(|name| !owned.contains(name)).collect();
            (id, owned.into_iter().collect(), waiting)
        };
        self.sessions.iter().filter(|(_, session)| session.info.remote == remote).map(of).collect()
    }

    pub(super) fn send(&mut self, session: SessionId, message: impl Into<Message>) {
        if self.sessions.contains_key(&session) {
            self.outputs.push_back(Output::Send(session, message.into()));
        }
    }

    pub(super) fn close(&mut self, session: SessionId, reason: &str) {
        if self.sessions.contains_key(&session) {
            self.outputs.push_back(Output::Close(session, reason.to_owned()));
        }
    }

    /// Closes all sessions that do not know that databases may change.
    pub(super) fn reconnect(&mut self, reason: &str) {
        for (&id, _) in self.sessions.iter().filter(|(_, session)| !session.db_change_aware) {
            self.outputs.push_back(Output::Close(id, reason.to_owned()));
        }
    }

    /// Ends all monitors of a database and tells those who understand.
    pub(super) fn cancel_monitors(&mut self, db: &str) {
        for (&session, state) in &mut self.sessions {
            let aware = state.db_change_aware;
            state.watches.retain(|_, watch| {
                let ends = *watch.db == *db;
                if ends && aware {
                    let message = notification("monitor_canceled", &json!([watch.id]));
                    self.outputs.push_back(Output::Send(session, message.into()));
                }
                !ends
            });
        }
    }

    /// A message arrived.
    pub fn receive(&mut self, session: SessionId, message: Value, now: Instant) {
        if let Some(message) = Doc::from(&message).root() {
            self.receive_node(session, message, now);
        }
    }

    /// A message arrived, as it stands in a text.
    pub fn receive_node(&mut self, session: SessionId, message: Node<'_>, now: Instant) {
        if !message.is_object() {
            return;
        }
        let Some(method) = message.member("method").and_then(Json::as_str) else {
            let is_error = message.member("error").is_some_and(|error| error.shape() != Shape::Null);
            let kind = if is_error { "error" } else { "reply" };
            let peer = self.sessions.get(&session).map(|s| s.info.peer.clone()).unwrap_or_default();
            self.outputs.push_back(Output::Warn(format!("{peer}: received unexpected {kind} message")));
            self.close(session, &format!("unexpected {kind} message"));
            return;
        };
        let Some(params) = message.member("params").filter(|params| params.is_array()) else {
            self.close(session, "received bad JSON-RPC message: \"params\" must be JSON array");
            return;
        };
        let id = message.member("id").map_or(Value::Null, Node::to_value);
        if id.is_null() {
            if let ("cancel", Some([request])) = (method, params.array_of()) {
                self.cancel(session, Some(&request.to_value()));
            }
            return;
        }
        let reply = match self.request(session, method, &id, params, now) {
            Ok(None) => return,
            Ok(Some(result)) => json!({ "id": id, "result": result, "error": null }),
            Err(error) => json!({ "id": id, "result": null, "error": error }),
        };
        self.send(session, reply);
    }

    fn request(
        &mut self,
        session: SessionId,
        method: &str,
        id: &Value,
        params: Node<'_>,
        now: Instant,
    ) -> Reply {
        if method == "transact" {
            let name = self.new_request(session, method, id, params)?;
            self.transact(&name, session, id.clone(), params, now);
            return Ok(None);
        }
        // What is rare may take its time.
        let params = params.to_value();
        match method {
            "convert" => {
                let name = self.new_request(session, method, id, &params)?;
                self.convert(&name, session, id.clone(), &params, now);
                Ok(None)
            }
            "monitor_cond" | "monitor_cond_since" if self.no_conditions => Err("unknown method".into()),
            "monitor" | "monitor_cond" | "monitor_cond_since" => {
                let version = Version::of_method(method).unwrap_or(Version::One);
                self.monitor(session, version, method, id, &params)
            }
            "monitor_cond_change" => self.monitor_cond_change(session, id, &params),
            "monitor_cancel" => self.monitor_cancel(session, &params),
            "get_schema" => {
                let name = self.named_db(method, &params)?;
                Ok(self.database(&name).map(|db| db.schema().to_json()))
            }
            "list_dbs" => Ok(Some(self.dbs.keys().map(|name| name.to_string()).collect())),
            "get_server_id" => Ok(Some(self.id.to_string().into())),
            "lock" | "steal" => self.lock(session, method, &params),
            "unlock" => self.unlock(session, &params),
            "set_db_change_aware" => self.set_db_change_aware(session, &params),
            "echo" => Ok(Some(params)),
            _ => Err("unknown method".into()),
        }
    }

    /// The name of the database that the first parameter means.
    fn named_db<'a>(&self, method: &str, params: impl Json<'a>) -> Result<Arc<str>, Value> {
        let Some(name) = params.items().next().and_then(Json::as_str) else {
            let details = format!("{method} request params must begin with <db-name>");
            return Err(Error::syntax(params, details).to_json());
        };
        let Some((name, db)) = self.dbs.get_key_value(name) else {
            let details = format!("{method} request specifies unknown database {name}");
            return Err(Error::tagged("unknown database", params, details).to_json());
        };
        if db.is_available {
            return Ok(name.clone());
        }
        let details = format!(
            "{method} request specifies database {name} which is not yet available because it has not completed joining \
             its cluster"
        );
        Err(Error::new("database not available", details).to_json())
    }

    /// The database of a request that may have to wait.
    fn new_request<'a>(
        &self,
        session: SessionId,
        method: &str,
        id: &Value,
        params: impl Json<'a>,
    ) -> Result<Arc<str>, Value> {
        let name = self.named_db(method, params)?;
        if self.dbs.values().any(|db| db.has_request(session, id)) {
            return Err(Error::syntax(params, format!("{method}: duplicate request ID")).to_json());
        }
        Ok(name)
    }

    fn monitor(
        &mut self,
        session: SessionId,
        version: Version,
        method: &str,
        id: &Value,
        params: &Value,
    ) -> Reply {
        let name = self.named_db(method, params)?;
        let fail = |error: Error| error.to_json();
        let array = params.as_array().map_or(&[][..], Vec::as_slice);
        let (monitor, requests, last) = match (version, array) {
            (Version::One, [_, monitor, requests, ..]) | (Version::Two, [_, monitor, requests]) => {
                (monitor, requests, None)
            }
            (Version::Three, [_, monitor, requests, last]) => (monitor, requests, Some(last)),
            _ => return refuse(&Error::syntax(params, "invalid parameters")),
        };
        if !requests.is_object() {
            return refuse(&Error::syntax(requests, "monitor-requests must be object"));
        }
        let key = crate::json::text(monitor);
        if self.sessions.get(&session).is_some_and(|state| state.watches.contains_key(&key)) {
            return refuse(&Error::syntax(monitor, "duplicate monitor ID"));
        }
        let Some(db) = self.dbs.get(&name) else { return Ok(None) };
        let spec = Spec::from_json(&db.data, version, requests).map_err(fail)?;
        let result = match last {
            Some(last) => {
                let changes = db.changes_since(last_txn(last)?);
                let updates = match &changes {
                    Some(changes) => spec.update(&db.data, changes).unwrap_or_else(|| "{}".to_owned()),
                    None => spec.initial(&db.data),
                };
                format!("[{},\"{}\",{updates}]", changes.is_some(), db.last_txn())
            }
            None => spec.initial(&db.data),
        };
        let since = db.last();
        let spec = self.shared(spec);
        if let Some(state) = self.sessions.get_mut(&session) {
            state.watches.insert(key, Watch { id: monitor.clone(), db: name.clone(), spec, since });
        }
        self.reply_after(&name, session, id, &result);
        Ok(None)
    }

    /// The same spec of another session, if there is one.
    fn shared(&self, spec: Spec) -> Arc<Spec> {
        let all = self.sessions.values().flat_map(|session| session.watches.values());
        let same = all.map(|watch| &watch.spec).find(|other| ***other == spec).cloned();
        same.unwrap_or_else(|| Arc::new(spec))
    }

    fn monitor_cond_change(&mut self, session: SessionId, id: &Value, params: &Value) -> Reply {
        let Some([old, new, requests]) = params.as_array().map(Vec::as_slice) else {
            return refuse(&Error::syntax(params, "invalid parameters"));
        };
        let (old_key, new_key) = (crate::json::text(old), crate::json::text(new));
        let Some(state) = self.sessions.get(&session) else { return Ok(None) };
        let Some(watch) = state.watches.get(&old_key).filter(|watch| watch.spec.version() != Version::One)
        else {
            return refuse(&Error::syntax(old, "unknown monitor session"));
        };
        if old_key != new_key && state.watches.contains_key(&new_key) {
            return refuse(&Error::syntax(new, "duplicate monitor ID"));
        }
        let name = watch.db.clone();
        let Some(db) = self.dbs.get(&name) else { return Ok(None) };
        let spec = watch.spec.with_conditions(&db.data, requests).map_err(|error| error.to_json())?;
        // The difference shows commits that are not yet on storage: what they change is told first, by the old conditions.
        let since = db.last();
        let earlier = db.pending_updates(watch);
        let update = spec.difference(&watch.spec, &db.data);
        let last_txn = db.last_txn();
        let spec = self.shared(spec);
        for message in earlier {
            self.send_after(&name, session, message);
        }
        let Some(state) = self.sessions.get_mut(&session) else { return Ok(None) };
        let Some(mut watch) = state.watches.remove(&old_key) else { return Ok(None) };
        watch.id = new.clone();
        watch.spec = spec;
        watch.since = since;
        let update = update.map(|update| watch.notification(last_txn, update.into()));
        state.watches.insert(new_key, watch);
        if let Some(update) = update {
            self.send_after(&name, session, update);
        }
        self.reply_after(&name, session, id, "{}");
        Ok(None)
    }

    fn monitor_cancel(&mut self, session: SessionId, params: &Value) -> Reply {
        let Some([monitor]) = params.as_array().map(Vec::as_slice) else {
            return Err("invalid parameters".into());
        };
        let state = self.sessions.get_mut(&session);
        match state.and_then(|state| state.watches.remove(&crate::json::text(monitor))) {
            Some(_) => Ok(Some(json!({}))),
            None => Err("unknown monitor".into()),
        }
    }

    fn lock_name(&self, session: SessionId, method: &str, params: &Value) -> Result<String, Value> {
        let read_only =
            self.read_only || self.sessions.get(&session).is_some_and(|state| state.info.read_only);
        if read_only {
            return Err("lock and unlock methods not allowed, DB server is read only.".into());
        }
        match params.as_array().map(Vec::as_slice) {
            Some([Value::String(name)]) if is_id(name) => Ok(name.clone()),
            _ => Err(Error::syntax(params, format!("{method} request params must be <id>")).to_json()),
        }
    }

    fn lock(&mut self, session: SessionId, method: &str, params: &Value) -> Reply {
        let name = self.lock_name(session, method, params)?;
        if self.locks.involves(&name, session) {
            let details = format!("must issue \"unlock\" before new \"{method}\"");
            return refuse(&Error::syntax(params, details));
        }
        let owner = if method == "steal" {
            if let Some(victim) = self.locks.steal(&name, session) {
                self.send(victim, notification("stolen", &json!([name])));
            }
            true
        } else {
            self.locks.lock(&name, session)
        };
        Ok(Some(json!({ "locked": owner })))
    }

    fn unlock(&mut self, session: SessionId, params: &Value) -> Reply {
        let name = self.lock_name(session, "unlock", params)?;
        if !self.locks.involves(&name, session) {
            let details = "unlock: \"unlock\" without \"lock\" or \"steal\"";
            return refuse(&Error::syntax(params, details));
        }
        self.unlock_one(&name, session);
        Ok(Some(json!({})))
    }

    fn unlock_one(&mut self, name: &str, session: SessionId) {
        if let Some(next) = self.locks.unlock(name, session) {
            self.send(next, notification("locked", &json!([name])));
        }
    }

    fn set_db_change_aware(&mut self, session: SessionId, params: &Value) -> Reply {
        let Some([Value::Bool(aware)]) = params.as_array().map(Vec::as_slice) else {
            let details = "set_db_change_aware: true or false parameter expected";
            return refuse(&Error::syntax(params, details));
        };
        if let Some(state) = self.sessions.get_mut(&session) {
            state.db_change_aware = *aware;
        }
        Ok(Some(json!({})))
    }
}

fn last_txn(last: &Value) -> Result<Uuid, Value> {
    let Some(text) = last.as_str() else {
        return Err(Error::syntax(last, "last-txn-id must be string").to_json());
    };
    text.parse().map_err(|_| Error::syntax(last, "last-txn-id must be UUID format.").to_json())
}
