//! Servers that follow another: backups and relays, joined in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flow::time::Instant;
use ovsdb::database::Database;
use ovsdb::schema::DatabaseSchema;
use ovsdb::server::{Output, Role, Server, SessionId, SessionInfo};
use serde_json::{Value, json};

fn schema(version: &str, extra: Option<&str>) -> Arc<DatabaseSchema> {
    let mut schema = json!({
        "name": "Db", "version": version,
        "tables": {
            "A": {"columns": {
                "name": {"type": "string"},
                "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
            }, "isRoot": true, "indexes": [["name"]]},
            "B": {"columns": {"n": {"type": "integer"}}, "isRoot": true}
        }
    });
    if let Some(extra) = extra {
        schema["tables"]["A"]["columns"][extra] = json!({"type": "string"});
    }
    Arc::new(DatabaseSchema::from_json(&schema).unwrap())
}

/// A chain: each server follows the one before it.
struct Chain {
    servers: Vec<Server>,
    /// What clients were sent, by server and session.
    inbox: BTreeMap<(usize, SessionId), Vec<Value>>,
    /// The session at the server before, by follower.
    links: BTreeMap<usize, SessionId>,
    closed: Vec<String>,
}

impl Chain {
    fn new(first: Database) -> Self {
        let mut source = Server::new();
        source.add_database(first, false);
        Self { servers: vec![source], inbox: BTreeMap::new(), links: BTreeMap::new(), closed: Vec::new() }
    }

    /// Adds a follower; nothing moves until [`Chain::link`].
    fn add(&mut self, database: Option<Database>, role: Role) -> usize {
        let mut server = Server::new();
        match database {
            Some(database) => server.add_database(database, false),
            None => server.add_relay("Db"),
        }
        server.follow("Db", "tcp:source", role);
        self.servers.push(server);
        self.servers.len() - 1
    }

    fn link(&mut self, at: usize) {
        let session = self.servers[at - 1].connect(SessionInfo::default());
        self.links.insert(at, session);
        self.servers[at].source_connected("Db");
        self.pump();
    }

    fn cut(&mut self, at: usize) {
        let session = self.links.remove(&at).expect("it is linked");
        self.servers[at - 1].disconnect(session);
        self.servers[at].source_disconnected("Db", Instant::ZERO);
        self.pump();
    }

    fn pump(&mut self) {
        while let Some((at, output)) =
            (0..self.servers.len()).find_map(|at| Some((at, self.servers[at].poll_output()?)))
        {
            match output {
                Output::Send(session, message) if self.links.get(&(at + 1)) == Some(&session) => {
                    self.servers[at + 1].source_message("Db", &message.json(), Instant::ZERO);
                }
                Output::Send(session, message) => {
                    self.inbox.entry((at, session)).or_default().push(message.json())
                }
                Output::Source(_, message) => {
                    if let Some(session) = self.links.get(&at) {
                        self.servers[at - 1].receive(*session, message, Instant::ZERO);
                    }
                }
                Output::SourceReset(_, reason) | Output::Close(_, reason) => self.closed.push(reason),
                Output::Write(job) => panic!("{job:?}"),
                Output::Resume(_) => {}
                Output::Warn(text) => panic!("{text}"),
            }
        }
    }

    fn call(&mut self, at: usize, method: &str, params: Value) -> Value {
        let session = self.servers[at].connect(SessionInfo::default());
        let request = json!({"id": 7, "method": method, "params": params});
        self.servers[at].receive(session, request, Instant::ZERO);
        self.pump();
        let mut replies = self.inbox.remove(&(at, session)).unwrap_or_default();
        assert_eq!(replies.len(), 1, "{replies:?}");
        let reply = replies.remove(0);
        self.servers[at].disconnect(session);
        assert_eq!(reply["id"], 7);
        if reply["error"].is_null() { reply["result"].clone() } else { json!({"ERROR": reply["error"]}) }
    }

    fn insert(&mut self, at: usize, table: &str, row: Value) -> Value {
        self.call(at, "transact", json!(["Db", {"op": "insert", "table": table, "row": row}]))
    }

    fn names(&mut self, at: usize) -> Vec<String> {
        let select =
            json!({"op": "select", "table": "A", "where": [], "columns": ["name"], "sort": ["name"]});
        let result = self.call(at, "transact", json!(["Db", select]));
        let rows = result[0]["rows"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> =
            rows.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    fn served(&mut self, at: usize) -> Value {
        let columns = ["model", "connected", "leader"];
        let select =
            json!({"op": "select", "table": "Database", "where": [["name", "==", "Db"]], "columns": columns});
        self.call(at, "transact", json!(["_Server", select]))[0]["rows"][0].clone()
    }
}

fn database() -> Database {
    Database::new(schema("1.0.0", None))
}

#[test]
fn a_backup_copies_what_is_not_excluded_and_lets_nobody_write() {
    let mut chain = Chain::new(database());
    chain.insert(0, "A", json!({"name": "one", "ids": ["map", [["k", "v"]]]}));
    let backup = chain.add(Some(database()), Role::Backup(BTreeSet::from(["B".to_owned()])));
    assert_eq!(
        chain.insert(backup, "A", json!({"name": "mine"}))[0]["details"],
        "insert operation not allowed when database server is in read only mode"
    );
    assert_eq!(chain.servers[backup].follow_status("Db"), Some("connecting: tcp:source".to_owned()));
    chain.link(backup);
    assert_eq!(chain.names(backup), ["one"]);
    let status = "replicating: tcp:source\nexclude: Db:B".to_owned();
    assert_eq!(chain.servers[backup].follow_status("Db"), Some(status));
    chain.insert(0, "A", json!({"name": "two"}));
    chain.insert(0, "B", json!({"n": 3}));
    let mutation = json!({"op": "mutate", "table": "A", "where": [["name", "==", "one"]],
        "mutations": [["ids", "insert", ["map", [["l", "w"]]]]]});
    chain.call(0, "transact", json!(["Db", mutation]));
    assert_eq!(chain.names(backup), ["one", "two"]);
    let all =
        |table| json!(["Db", {"op": "select", "table": table, "where": [], "columns": ["_uuid", "ids"]}]);
    assert_eq!(chain.call(0, "transact", all("A")), chain.call(backup, "transact", all("A")));
    let count = chain.servers[backup].database("Db").unwrap().table_named("B").unwrap().len();
    assert_eq!(count, 0);
    chain.servers[backup].unfollow("Db");
    chain.insert(backup, "A", json!({"name": "free"}));
    assert_eq!(chain.names(backup), ["free", "one", "two"]);
}

#[test]
fn a_backup_needs_a_source_that_fits_and_is_another() {
    let mut chain = Chain::new(Database::new(schema("1.1.0", Some("more"))));
    let backup = chain.add(Some(database()), Role::Backup(BTreeSet::new()));
    chain.link(backup);
    assert!(chain.servers[backup].follow_failed("Db"));
    let mut chain = Chain::new(database());
    let backup = chain.add(Some(Database::new(schema("1.1.0", Some("more")))), Role::Backup(BTreeSet::new()));
    chain.insert(0, "A", json!({"name": "old"}));
    chain.link(backup);
    assert_eq!(chain.names(backup), ["old"]);
    let mut server = Server::new();
    server.add_database(database(), false);
    server.follow("Db", "self", Role::Backup(BTreeSet::new()));
    server.source_connected("Db");
    let id = server.id().to_string();
    server.source_message("Db", &json!({"id": 0, "result": id, "error": null}), Instant::ZERO);
    assert!(server.follow_failed("Db"));
}

#[test]
fn relays_in_a_row_show_and_forward() {
    let mut chain = Chain::new(database());
    let (first, second) = (chain.add(None, Role::Relay), chain.add(None, Role::Relay));
    assert_eq!(chain.call(second, "get_schema", json!(["Db"]))["ERROR"]["error"], "database not available");
    assert_eq!(chain.served(first), json!({"model": "relay", "connected": false, "leader": false}));
    chain.link(first);
    chain.link(second);
    assert_eq!(chain.served(second), json!({"model": "relay", "connected": true, "leader": false}));
    let reply = chain.insert(second, "A", json!({"name": "x"}));
    assert!(reply[0]["uuid"].is_array(), "{reply}");
    for at in [0, first, second] {
        assert_eq!(chain.names(at), ["x"]);
    }
    assert_eq!(chain.insert(second, "A", json!({"name": "x"}))[1]["error"], "constraint violation");
    let change = json!({"op": "update", "table": "A", "where": [], "row": {"ids": ["map", [["a", "b"]]]}});
    chain.call(first, "transact", json!(["Db", change]));
    let select = json!(["Db", {"op": "select", "table": "A", "where": [], "columns": ["ids"]}]);
    assert_eq!(chain.call(second, "transact", select)[0]["rows"][0]["ids"], json!(["map", [["a", "b"]]]));
}

#[test]
fn what_a_relay_forwarded_to_a_lost_source_is_canceled() {
    let mut chain = Chain::new(database());
    let relay = chain.add(None, Role::Relay);
    chain.link(relay);
    let client = chain.servers[relay].connect(SessionInfo::default());
    chain.links.remove(&relay);
    let insert = json!(["Db", {"op": "insert", "table": "A", "row": {"name": "lost"}}]);
    chain.servers[relay].receive(
        client,
        json!({"id": 1, "method": "transact", "params": insert}),
        Instant::ZERO,
    );
    chain.pump();
    chain.servers[relay].source_disconnected("Db", Instant::ZERO);
    chain.pump();
    let replies = chain.inbox.remove(&(relay, client)).unwrap_or_default();
    assert_eq!(replies, [json!({"id": 1, "result": null, "error": "canceled"})]);
    // The rows stay to be read.
    assert_eq!(chain.names(relay), Vec::<String>::new());
    chain.insert(0, "A", json!({"name": "later"}));
    let session = chain.servers[0].connect(SessionInfo::default());
    chain.links.insert(relay, session);
    chain.servers[relay].source_connected("Db");
    chain.pump();
    assert_eq!(chain.names(relay), ["later"]);
    chain.cut(relay);
    assert_eq!(chain.names(relay), ["later"]);
    // A short pause is not told.
    assert_eq!(chain.served(relay)["connected"], true);
    chain.servers[relay].run(Instant::from_millis(30_000));
    chain.pump();
    assert_eq!(chain.served(relay)["connected"], false);
}

/// A relay whose source is a cluster, played by the test: transactions have ids.
struct Relay(Server);

impl Relay {
    fn pump(&mut self, last: &str, rows: &Value) {
        while let Some(output) = self.0.poll_output() {
            let Output::Source(_, request) = output else { continue };
            let result = match request["method"].as_str().unwrap_or_default() {
                "list_dbs" => json!(["Db"]),
                "get_schema" => schema("1.0.0", None).to_json(),
                "monitor_cond_since" => json!([false, last, rows]),
                _ => json!({}),
            };
            let reply = json!({"id": request["id"], "result": result, "error": null});
            self.0.source_message("Db", &reply, Instant::ZERO);
        }
    }

    fn update(&mut self, id: &str, rows: Value) {
        let update = json!({"id": null, "method": "update3", "params": ["Db", id, rows]});
        self.0.source_message("Db", &update, Instant::ZERO);
    }

    /// What a client is sent that has seen everything up to `last`.
    fn monitor(&mut self, last: &str) -> (SessionId, Value) {
        let session = self.0.connect(SessionInfo::default());
        let params = json!(["Db", "m", {"B": [{"columns": ["n"]}]}, last]);
        let request = json!({"id": 1, "method": "monitor_cond_since", "params": params});
        self.0.receive(session, request, Instant::ZERO);
        (session, self.sent(session).remove(0)["result"].clone())
    }

    fn sent(&mut self, to: SessionId) -> Vec<Value> {
        let mut messages = Vec::new();
        while let Some(output) = self.0.poll_output() {
            if let Output::Send(session, message) = output
                && session == to
            {
                messages.push(message.json());
            }
        }
        messages
    }
}

#[test]
fn a_relay_of_a_cluster_tells_what_has_changed_since() {
    let id = |n: u32| format!("00000000-0000-4000-8000-{n:012}");
    let (one, two) = (id(101), id(102));
    let mut relay = Relay(Server::new());
    relay.0.add_relay("Db");
    relay.0.follow("Db", "tcp:cluster", Role::Relay);
    relay.0.source_connected("Db");
    relay.pump(&id(1), &json!({"B": {&one: {"initial": {"n": 1}}}}));

    let zero = "00000000-0000-0000-0000-000000000000";
    let (session, all) = relay.monitor(zero);
    assert_eq!(all, json!([false, id(1), {"B": {&one: {"initial": {"n": 1}}}}]));
    relay.update(&id(2), json!({"B": {&two: {"insert": {"n": 2}}}}));
    let told = relay.sent(session);
    let update = json!(["m", id(2), {"B": {&two: {"insert": {"n": 2}}}}]);
    assert_eq!((told.len(), &told[0]["method"], &told[0]["params"]), (1, &json!("update3"), &update));
    relay.update(&id(3), json!({"B": {&two: {"modify": {"n": 3}}, &one: {"delete": null}}}));
    // Nothing that the client watches, but an id of its own.
    relay.update(&id(4), json!({"A": {id(103): {"insert": {"name": "a"}}}}));

    let since = |relay: &mut Relay, n: u32| relay.monitor(&id(n)).1;
    assert_eq!(
        since(&mut relay, 1),
        json!([true, id(4), {"B": {&one: {"delete": null}, &two: {"insert": {"n": 3}}}}])
    );
    assert_eq!(
        since(&mut relay, 2),
        json!([true, id(4), {"B": {&one: {"delete": null}, &two: {"modify": {"n": 3}}}}])
    );
    assert_eq!(since(&mut relay, 4), json!([true, id(4), {}]));
    assert_eq!(since(&mut relay, 9), json!([false, id(4), {"B": {&two: {"initial": {"n": 3}}}}]));

    // Only so many are remembered.
    for n in 5..=105 {
        relay.update(&id(n), json!({"B": {&two: {"modify": {"n": n}}}}));
    }
    assert_eq!(since(&mut relay, 5)[0], false);
    assert_eq!(since(&mut relay, 6), json!([true, id(105), {"B": {&two: {"modify": {"n": 105}}}}]));
}
