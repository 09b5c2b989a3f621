//! A server and its clients, joined in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow::time::Instant;
use ovsdb::database::Database;
use ovsdb::error::Error;
use ovsdb::idl::{Idl, Status, Txn};
use ovsdb::schema::DatabaseSchema;
use ovsdb::server::{Output, Server, SessionId, SessionInfo, WriteJob};
use ovsdb::value::Datum;
use serde_json::{Value, json};

fn schema() -> Arc<DatabaseSchema> {
    let schema = json!({
        "name": "Db", "version": "1.0.0",
        "tables": {
            "Bridge": {
                "columns": {
                    "name": {"type": "string", "mutable": false},
                    "ports": {"type": {"key": {"type": "uuid", "refTable": "Port"}, "min": 0, "max": "unlimited"}},
                    "seen": {"type": "integer", "ephemeral": true},
                    "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
                },
                "isRoot": true, "indexes": [["name"]]
            },
            "Port": {"columns": {"name": {"type": "string"}}},
            "Mirror": {
                "columns": {
                    "output": {"type": {"key": {"type": "uuid", "refTable": "Port", "refType": "weak"}, "min": 0}},
                    "n": {"type": {"key": {"type": "integer", "maxInteger": 9}}}
                },
                "isRoot": true, "maxRows": 2
            }
        }
    });
    Arc::new(DatabaseSchema::from_json(&schema).unwrap())
}

/// A server with clients; writes are done at once unless `hold` is set.
struct World {
    server: Server,
    inbox: BTreeMap<SessionId, Vec<Value>>,
    closed: Vec<(SessionId, String)>,
    jobs: Vec<WriteJob>,
    hold: bool,
}

impl World {
    fn new() -> Self {
        let mut server = Server::new();
        server.add_database(Database::new(schema()), true);
        Self { server, inbox: BTreeMap::new(), closed: Vec::new(), jobs: Vec::new(), hold: false }
    }

    fn connect(&mut self) -> SessionId {
        self.server.connect(SessionInfo::default())
    }

    fn pump(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send(session, message) => self.inbox.entry(session).or_default().push(message.json()),
                Output::Close(session, reason) => self.closed.push((session, reason)),
                Output::Write(job) if self.hold => self.jobs.push(job),
                Output::Write(job) => self.server.written(&job.db, job.seq, Ok(()), Instant::ZERO),
                Output::Resume(_) | Output::Source(..) | Output::SourceReset(..) => {}
                Output::Warn(text) => panic!("{text}"),
            }
        }
    }

    fn send(&mut self, session: SessionId, message: Value) -> Vec<Value> {
        self.server.receive(session, message, Instant::ZERO);
        self.pump();
        self.take(session)
    }

    fn take(&mut self, session: SessionId) -> Vec<Value> {
        self.inbox.remove(&session).unwrap_or_default()
    }

    fn call(&mut self, session: SessionId, method: &str, params: Value) -> Value {
        let mut replies = self.send(session, json!({"id": 1, "method": method, "params": params}));
        assert_eq!(replies.len(), 1, "{replies:?}");
        let reply = replies.remove(0);
        if reply["error"].is_null() { reply["result"].clone() } else { json!({"ERROR": reply["error"]}) }
    }

    fn transact(&mut self, session: SessionId, operations: Value) -> Value {
        let mut params = vec![json!("Db")];
        params.extend(operations.as_array().unwrap().iter().cloned());
        self.call(session, "transact", params.into())
    }

    /// Moves messages between the server and an IDL until both rest.
    fn run(&mut self, session: SessionId, idl: &mut Idl) {
        loop {
            while let Some(message) = idl.poll_output() {
                self.server.receive(session, message, Instant::ZERO);
            }
            self.pump();
            let messages = self.take(session);
            if messages.is_empty() {
                return;
            }
            messages.iter().for_each(|message| idl.receive(message));
        }
    }
}

#[test]
fn references_are_kept() {
    let mut world = World::new();
    let client = world.connect();
    let inserted = world.transact(
        client,
        json!([
            {"op": "insert", "table": "Port", "uuid-name": "p", "row": {"name": "p1"}},
            {"op": "insert", "table": "Bridge", "row": {"name": "br0", "ports": ["named-uuid", "p"]}},
            {"op": "insert", "table": "Mirror", "row": {"output": ["named-uuid", "p"]}},
            {"op": "insert", "table": "Port", "row": {"name": "lost"}}
        ]),
    );
    assert_eq!(inserted.as_array().unwrap().len(), 4);
    let port = inserted[0]["uuid"].clone();
    let select = json!([{"op": "select", "table": "Port", "where": [], "columns": ["name"]}]);
    assert_eq!(world.transact(client, select.clone()), json!([{"rows": [{"name": "p1"}]}]));

    let delete = world.transact(client, json!([{"op": "delete", "table": "Port", "where": []}]));
    let uuid = port[1].as_str().unwrap();
    assert_eq!(
        delete,
        json!([{"count": 1}, {
            "error": "referential integrity violation",
            "details": format!("cannot delete Port row {uuid} because of 1 remaining reference(s)")
        }])
    );

    let zero = "00000000-0000-0000-0000-000000000001";
    let dangling = world.transact(
        client,
        json!([{"op": "update", "table": "Bridge", "where": [], "row": {"ports": ["uuid", zero]}}]),
    );
    let bridge = inserted[1]["uuid"][1].as_str().unwrap();
    assert_eq!(
        dangling[1]["details"],
        json!(format!(
            "Table Bridge column ports row {bridge} references nonexistent row {zero} in table Port."
        ))
    );

    world.transact(client, json!([{"op": "delete", "table": "Bridge", "where": [["name", "==", "br0"]]}]));
    assert_eq!(world.transact(client, select), json!([{"rows": []}]));
    let mirror = json!([{"op": "select", "table": "Mirror", "where": [], "columns": ["output"]}]);
    assert_eq!(world.transact(client, mirror), json!([{"rows": [{"output": ["set", []]}]}]));
}

#[test]
fn constraints_are_kept() {
    let mut world = World::new();
    let client = world.connect();
    let details = |results: Value, at: usize| results[at]["details"].as_str().unwrap_or_default().to_owned();
    let bad = world.transact(client, json!([{"op": "insert", "table": "Mirror", "row": {"n": 10}}]));
    assert_eq!(details(bad, 0), "10 is greater than maximum allowed value 9");
    let insert = json!({"op": "insert", "table": "Mirror", "row": {}});
    let full = world.transact(client, json!([insert, insert, insert]));
    assert_eq!(
        details(full, 3),
        "transaction causes \"Mirror\" table to contain 3 rows, greater than the schema-defined limit of 2 row(s)"
    );
    let bridge = json!({"op": "insert", "table": "Bridge", "row": {"name": "b"}});
    world.transact(client, json!([bridge]));
    let twice = details(world.transact(client, json!([bridge])), 1);
    assert!(
        twice.starts_with(
            "Transaction causes multiple rows in \"Bridge\" table to have identical values (b) for index on column \
             \"name\".  First row, with UUID "
        ),
        "{twice}"
    );
    let fixed = world
        .transact(client, json!([{"op": "update", "table": "Bridge", "where": [], "row": {"name": "c"}}]));
    assert_eq!(details(fixed, 0), "Cannot update immutable column name in table Bridge.");
    let unknown =
        world.transact(client, json!([{"op": "select", "table": "X", "where": []}, {"op": "abort"}]));
    assert_eq!(details(unknown.clone(), 0), "Parsing ovsdb operation 1 of 2 failed: No table named X.");
    assert_eq!(unknown[1], Value::Null);
    assert_eq!(world.transact(client, json!([{"op": "abort"}]))[0]["error"], "aborted");
    let lock = world.transact(client, json!([{"op": "assert", "lock": "l"}]));
    assert_eq!(details(lock, 0), "Asserted lock l not held.");
}

#[test]
fn three_monitors_tell_the_same_story() {
    let mut world = World::new();
    let client = world.connect();
    let one = world.connect();
    let two = world.connect();
    world.transact(client, json!([{"op": "insert", "table": "Bridge", "row": {"name": "old"}}]));
    let wanted = json!({"Bridge": {"columns": ["name", "seen", "ids"]}});
    let initial = world.call(one, "monitor", json!(["Db", "m", wanted]));
    let uuid = initial["Bridge"].as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(initial["Bridge"][&uuid], json!({"new": {"name": "old", "seen": 0, "ids": ["map", []]}}));
    let conditional = json!({"Bridge": [{"columns": ["name", "seen", "ids"], "where": [["seen", ">", 4]]}]});
    assert_eq!(world.call(two, "monitor_cond", json!(["Db", "n", conditional])), json!({}));

    let update = |row: Value| json!([{"op": "update", "table": "Bridge", "where": [], "row": row}]);
    world.transact(client, update(json!({"seen": 5, "ids": ["map", [["a", "1"]]]})));
    assert_eq!(
        world.take(one),
        [json!({"id": null, "method": "update", "params": ["m", {"Bridge": {&uuid: {
            "old": {"seen": 0, "ids": ["map", []]}, "new": {"name": "old", "seen": 5, "ids": ["map", [["a", "1"]]]}
        }}}]})]
    );
    assert_eq!(
        world.take(two),
        [json!({"id": null, "method": "update2", "params": ["n", {"Bridge": {&uuid: {
            "insert": {"name": "old", "seen": 5, "ids": ["map", [["a", "1"]]]}
        }}}]})]
    );
    world.transact(client, update(json!({"ids": ["map", [["b", "2"]]]})));
    assert_eq!(
        world.take(two),
        [json!({"id": null, "method": "update2", "params": ["n", {"Bridge": {&uuid: {
            "modify": {"ids": ["map", [["a", "1"], ["b", "2"]]]}
        }}}]})]
    );
    world.transact(client, update(json!({"seen": 1})));
    assert_eq!(world.take(two)[0]["params"][1]["Bridge"][&uuid], json!({"delete": null}));
    let all = json!(["n", "n2", {"Bridge": [{"where": [true]}]}]);
    let messages = world.send(two, json!({"id": 7, "method": "monitor_cond_change", "params": all}));
    assert_eq!(messages[0]["params"][0], "n2");
    assert_eq!(messages[0]["params"][1]["Bridge"][&uuid]["insert"]["seen"], 1);
    assert_eq!(messages[1], json!({"id": 7, "result": {}, "error": null}));
    assert_eq!(world.call(two, "monitor_cancel", json!(["n2"])), json!({}));
    assert_eq!(world.call(two, "monitor_cancel", json!(["n2"])), json!({"ERROR": "unknown monitor"}));
}

#[test]
fn nothing_leaves_before_it_is_written() {
    let mut world = World::new();
    let (client, watcher) = (world.connect(), world.connect());
    world.call(watcher, "monitor", json!(["Db", "m", {"Bridge": {"columns": ["name"]}}]));
    world.hold = true;
    let insert = |name: &str| json!({"id": name, "method": "transact", "params": ["Db", {"op": "insert", "table": "Bridge", "row": {"name": name}}]});
    assert_eq!(world.send(client, insert("a")), [] as [Value; 0]);
    assert_eq!(world.send(client, insert("b")), [] as [Value; 0]);
    // A reader sees both, and therefore waits for both; a failed write takes both back.
    let late = world.connect();
    let monitor =
        json!({"id": 3, "method": "monitor", "params": ["Db", "m", {"Bridge": {"columns": ["name"]}}]});
    assert_eq!(world.send(late, monitor), [] as [Value; 0]);
    let first = world.jobs.remove(0);
    world.server.written(&first.db, first.seq, Ok(()), Instant::ZERO);
    world.pump();
    assert_eq!(world.take(client)[0]["id"], "a");
    assert_eq!(world.take(watcher).len(), 1);
    assert_eq!(world.take(late).len(), 0);
    let second = world.jobs.remove(0);
    world.server.written(&second.db, second.seq, Err(Error::io_plain("disk: write failed")), Instant::ZERO);
    world.pump();
    let reply = world.take(client).remove(0);
    assert_eq!(reply["result"][1], json!({"error": "I/O error", "details": "disk: write failed"}));
    assert_eq!(world.closed, [(late, "storage failure".to_owned())]);
    world.hold = false;
    let names = json!([{"op": "select", "table": "Bridge", "where": [], "columns": ["name"]}]);
    assert_eq!(world.transact(client, names), json!([{"rows": [{"name": "a"}]}]));
}

#[test]
fn waits_are_woken_and_time_out() {
    let mut world = World::new();
    let (client, other) = (world.connect(), world.connect());
    let wait = |timeout: i64| {
        json!({"op": "wait", "table": "Bridge", "timeout": timeout, "where": [], "columns": ["name"], "until": "==",
               "rows": [{"name": "x"}]})
    };
    assert_eq!(world.transact(client, json!([wait(0)]))[0]["details"], "\"where\" clause test failed");
    assert_eq!(
        world.send(client, json!({"id": 5, "method": "transact", "params": ["Db", wait(100)]})).len(),
        0
    );
    world.transact(other, json!([{"op": "insert", "table": "Bridge", "row": {"name": "x"}}]));
    assert_eq!(world.take(client), [json!({"id": 5, "result": [{}], "error": null})]);
    world.transact(other, json!([{"op": "delete", "table": "Bridge", "where": []}]));
    world.send(client, json!({"id": 6, "method": "transact", "params": ["Db", wait(100)]}));
    assert_eq!(world.server.deadline(), Instant::from_millis(100));
    world.server.run(Instant::from_millis(100));
    world.pump();
    assert_eq!(world.take(client)[0]["result"][0]["details"], "\"wait\" timed out after 100 ms");
    world.send(client, json!({"id": 7, "method": "transact", "params": ["Db", wait(100)]}));
    assert_eq!(
        world.send(client, json!({"id": null, "method": "cancel", "params": [7]})),
        [json!({"id": 7, "result": null, "error": "canceled"})]
    );
}

#[test]
fn databases_are_listed_and_clients_told() {
    let mut world = World::new();
    let (aware, plain) = (world.connect(), world.connect());
    assert_eq!(world.call(aware, "set_db_change_aware", json!([true])), json!({}));
    assert_eq!(world.call(plain, "list_dbs", json!([])), json!(["Db", "_Server"]));
    world.call(aware, "monitor", json!(["Db", "m", {"Bridge": {}}]));
    assert!(world.server.remove_database("Db", "removing Db database by user request"));
    world.pump();
    assert_eq!(world.take(aware), [json!({"id": null, "method": "monitor_canceled", "params": ["m"]})]);
    assert_eq!(world.closed, [(plain, "removing Db database by user request".to_owned())]);
    assert_eq!(
        world.call(aware, "get_schema", json!(["Db"])),
        json!({"ERROR": {"error": "unknown database", "syntax": "[\"Db\"]",
                         "details": "get_schema request specifies unknown database Db"}})
    );
    let names = json!(["_Server", {"op": "select", "table": "Database", "where": [], "columns": ["name"]}]);
    assert_eq!(world.call(aware, "transact", names), json!([{"rows": [{"name": "_Server"}]}]));
}

#[test]
fn a_copy_follows_and_writes() {
    let mut world = World::new();
    let (session, other) = (world.connect(), world.connect());
    let mut idl = Idl::new(schema());
    idl.monitor_all();
    idl.omit_alert("Bridge", "seen");
    idl.set_lock(Some("switch"));
    idl.connected();
    world.run(session, &mut idl);
    assert!(idl.has_lock() && idl.is_monitoring());

    let mut txn = Txn::new();
    let port = txn.insert("Port");
    txn.set("Port", port, "name", "p0");
    let bridge = txn.insert("Bridge");
    txn.set("Bridge", bridge, "name", "br0");
    txn.set("Bridge", bridge, "ports", port);
    assert_eq!(idl.view(&txn).get("Bridge", bridge, "name").unwrap().as_str(), Some("br0"));
    let id = idl.commit(&txn);
    assert_eq!(idl.status(id), Status::Incomplete);
    world.run(session, &mut idl);
    assert_eq!(idl.status(id), Status::Success);
    let bridge = idl.inserted(id, bridge).unwrap();
    assert_eq!(idl.row("Bridge", bridge).unwrap().str("name"), Some("br0"));
    assert_eq!(idl.take_changes().len(), 2);

    let before = idl.change_seqno();
    world.transact(other, json!([{"op": "update", "table": "Bridge", "where": [], "row": {"seen": 4}}]));
    world.run(session, &mut idl);
    assert_eq!(idl.change_seqno(), before, "a quiet column");
    assert_eq!(idl.row("Bridge", bridge).unwrap().integer("seen"), Some(4));

    let mut txn = Txn::new();
    txn.verify("Bridge", bridge, "seen");
    txn.add_elements("Bridge", bridge, "ids", &Datum::map([("k", "v")]));
    txn.increment("Bridge", "seen", bridge, false);
    let stale = idl.commit(&txn);
    world.transact(other, json!([{"op": "update", "table": "Bridge", "where": [], "row": {"seen": 5}}]));
    world.run(session, &mut idl);
    assert_eq!(idl.status(stale), Status::TryAgain);
    let again = idl.commit(&txn);
    world.run(session, &mut idl);
    assert_eq!((idl.status(again), idl.incremented(again)), (Status::Success, Some(6)));
    assert_eq!(idl.row("Bridge", bridge).unwrap().key("ids", "k"), Some("v"));

    let steal = world.call(other, "steal", json!(["switch"]));
    assert_eq!(steal, json!({"locked": true}));
    world.run(session, &mut idl);
    assert!(!idl.has_lock() && idl.is_lock_contended());
    let mut txn = Txn::new();
    txn.delete("Bridge", bridge);
    let refused = idl.commit(&txn);
    assert_eq!(idl.status(refused), Status::NotLocked);
    world.call(other, "unlock", json!(["switch"]));
    world.run(session, &mut idl);
    let id = idl.commit(&txn);
    world.run(session, &mut idl);
    assert_eq!(idl.status(id), Status::Success);
    assert_eq!(idl.rows("Bridge").count() + idl.rows("Port").count(), 0);

    idl.disconnected();
    world.transact(other, json!([{"op": "insert", "table": "Mirror", "row": {"n": 1}}]));
    world.server.disconnect(session);
    let session = world.connect();
    idl.take_changes();
    idl.connected();
    world.run(session, &mut idl);
    let changes = idl.take_changes();
    assert_eq!(changes.len(), 1);
    assert_eq!((&*changes[0].table, changes[0].old.is_none()), ("Mirror", true));
}

/// The numbers of the mirrors that a copy has.
fn numbers(idl: &Idl) -> Vec<i64> {
    let mut numbers: Vec<i64> = idl.rows("Mirror").filter_map(|row| row.integer("n")).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_copy_may_be_of_some_rows_and_columns() {
    let mut world = World::new();
    let (session, other) = (world.connect(), world.connect());
    for n in [1, 2] {
        world.transact(other, json!([{"op": "insert", "table": "Mirror", "row": {"n": n}}]));
    }
    let mut idl = Idl::new(schema());
    idl.monitor("Mirror", "n");
    idl.set_condition("Mirror", json!([["n", "==", 2], ["n", "==", 3]]));
    idl.connected();
    world.run(session, &mut idl);
    assert_eq!((numbers(&idl), idl.has_conditions()), (vec![2], true));
    assert_eq!(idl.take_changes().len(), 1);

    // A row that begins to fit comes, one that ends to fit goes.
    world.transact(
        other,
        json!([{"op": "update", "table": "Mirror", "where": [["n", "==", 1]], "row": {"n": 3}}]),
    );
    world.transact(
        other,
        json!([{"op": "update", "table": "Mirror", "where": [["n", "==", 2]], "row": {"n": 4}}]),
    );
    world.run(session, &mut idl);
    assert_eq!(numbers(&idl), [3]);
    let mut kinds: Vec<_> =
        idl.take_changes().iter().map(|change| (change.old.is_some(), change.new.is_some())).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [(false, true), (true, false)]);

    // A condition that changes takes effect on this connection.
    idl.set_condition("Mirror", json!([["n", "==", 4]]));
    assert!(!idl.has_conditions());
    world.run(session, &mut idl);
    assert_eq!((numbers(&idl), idl.has_conditions()), (vec![4], true));
    // Saying the same again asks for nothing.
    idl.set_condition("Mirror", json!([["n", "==", 4]]));
    assert_eq!(idl.poll_output(), None);

    // One that changes between connections is asked for anew, history or not.
    idl.disconnected();
    world.server.disconnect(session);
    idl.set_condition("Mirror", json!([["n", "==", 3]]));
    let session = world.connect();
    idl.connected();
    world.run(session, &mut idl);
    assert_eq!(numbers(&idl), [3]);

    // So is one whose answer did not come.
    idl.set_condition("Mirror", json!([["n", "!=", 0]]));
    idl.disconnected();
    world.server.disconnect(session);
    let session = world.connect();
    idl.connected();
    world.run(session, &mut idl);
    assert_eq!(numbers(&idl), [3, 4]);

    // What is not monitored stays empty, and what is the same after a reconnection is no change.
    assert_eq!(idl.rows("Bridge").count(), 0);
    idl.take_changes();
    idl.disconnected();
    world.server.disconnect(session);
    let session = world.connect();
    idl.connected();
    world.run(session, &mut idl);
    assert_eq!(idl.take_changes(), []);
    assert_eq!(numbers(&idl), [3, 4]);
}
