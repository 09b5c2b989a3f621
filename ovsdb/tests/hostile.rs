//! Whatever arrives, nothing panics and the server goes on answering.

use flow::time::Instant;
use ovsdb::database::Database;
use ovsdb::idl::Idl;
use ovsdb::server::{Output, Server, SessionInfo};
use ovsdb::{types, vswitch};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Words that lead deep into the parsers.
const WORDS: [&str; 40] = [
    "Open_vSwitch",
    "Bridge",
    "Port",
    "_Server",
    "name",
    "ports",
    "_uuid",
    "external_ids",
    "uuid",
    "set",
    "map",
    "named-uuid",
    "op",
    "insert",
    "select",
    "update",
    "mutate",
    "delete",
    "wait",
    "commit",
    "abort",
    "comment",
    "assert",
    "table",
    "row",
    "rows",
    "where",
    "columns",
    "until",
    "timeout",
    "mutations",
    "uuid-name",
    "==",
    "includes",
    "+=",
    "initial",
    "new",
    "modify",
    "lock",
    "550e8400-e29b-41d4-a716-446655440000",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![9 => proptest::sample::select(&WORDS[..]).prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((word(), inner), 0..6)
                .prop_map(|members| Map::from_iter(members).into()),
        ]
    })
}

fn method() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "transact",
        "monitor",
        "monitor_cond",
        "monitor_cond_since",
        "monitor_cond_change",
        "monitor_cancel",
        "get_schema",
        "list_dbs",
        "lock",
        "steal",
        "unlock",
        "echo",
        "set_db_change_aware",
        "get_server_id",
        "convert",
        "cancel",
        "update",
        "update2",
        "update3",
        "locked",
    ])
}

fn drain(server: &mut Server) {
    while let Some(output) = server.poll_output() {
        if let Output::Write(job) = output {
            server.written(&job.db, job.seq, Ok(()), Instant::ZERO);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_server_survives_any_message(messages in proptest::collection::vec((method(), any_json(), any_json()), 1..6)) {
        let mut server = Server::new();
        server.add_database(Database::new(vswitch::schema()), true);
        let session = server.connect(SessionInfo::default());
        for (method, id, body) in messages {
            // As a whole message, as parameters, as operations, as monitor requests.
            server.receive(session, body.clone(), Instant::ZERO);
            server.receive(session, json!({"id": id, "method": method, "params": body}), Instant::ZERO);
            let database = json!(["Open_vSwitch", body]);
            server.receive(session, json!({"id": id, "method": method, "params": database}), Instant::ZERO);
            let monitor = json!(["Open_vSwitch", id, body]);
            server.receive(session, json!({"id": 1, "method": method, "params": monitor}), Instant::ZERO);
            drain(&mut server);
        }
        server.receive(session, json!({"id": "last", "method": "echo", "params": ["still here"]}), Instant::ZERO);
        let mut last = None;
        while let Some(output) = server.poll_output() {
            if let Output::Send(_, message) = output {
                last = Some(message.json());
            }
        }
        prop_assert_eq!(last, Some(json!({"id": "last", "result": ["still here"], "error": null})));
    }

    #[test]
    fn a_copy_survives_any_message(messages in proptest::collection::vec((method(), any_json()), 1..8)) {
        let mut idl = Idl::new(vswitch::schema());
        idl.monitor_all();
        idl.set_lock(Some("lock"));
        idl.connected();
        let schema = json!({"id": 1, "result": vswitch::schema().to_json(), "error": null});
        idl.receive(&schema);
        for (n, (method, body)) in messages.into_iter().enumerate() {
            idl.receive(&body);
            idl.receive(&json!({"id": n, "result": body, "error": null}));
            idl.receive(&json!({"id": n + 1, "result": [false, "x", {"Bridge": body}], "error": null}));
            idl.receive(&json!({"id": null, "method": method, "params": ["m", body]}));
            idl.receive(&json!({"id": null, "method": method, "params": ["m", {"Bridge": {WORDS[39]: body}}]}));
        }
        while idl.poll_output().is_some() || idl.poll_note().is_some() {}
    }

    #[test]
    fn schemas_and_types_survive_anything(body in any_json()) {
        let _ = types::Type::from_json(&body);
        let _ = ovsdb::schema::DatabaseSchema::from_json(&body);
        let tables = json!({"name": "Db", "tables": {"T": {"columns": {"c": {"type": body}}}}});
        let _ = ovsdb::schema::DatabaseSchema::from_json(&tables);
    }
}
