//! JSON, schemas, values, transactions and journals of OVSDB, and both sides of its sessions.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use daemon::jsonrpc::{Message, Parser};
use flow::time::Instant;
use ovsdb::condition::Condition;
use ovsdb::database::Database;
use ovsdb::idl::Idl;
use ovsdb::json;
use ovsdb::monitor::{Spec, Version};
use ovsdb::mutation::Mutation;
use ovsdb::schema::DatabaseSchema;
use ovsdb::server::{Output, Server, SessionInfo};
use ovsdb::storage::{journal, replay};
use ovsdb::text;
use ovsdb::transact::{self, Context, Outcome};
use ovsdb::types::Type;
use ovsdb::value::{Datum, Uuid};
use serde_json::{Value, json};

use super::{Target, choice};

/// What is here.
pub static TARGETS: &[Target] = &[
    Target::new("json", "JSON as it is printed", printed, schema_seeds, words),
    Target::new("jsonrpc", "a JSON-RPC connection", jsonrpc, jsonrpc_seeds, words),
    Target::new("ovsdb-schema", "a schema", schema, schema_seeds, words),
    Target::new(
        "ovsdb-transaction",
        "the operations of a transaction",
        transaction,
        transaction_seeds,
        words,
    ),
    Target::new("ovsdb-condition", "conditions, mutations and monitors", condition, condition_seeds, words),
    Target::new("ovsdb-value", "a type and a value, as JSON and as text", value, value_seeds, words),
    Target::new("ovsdb-journal", "a journal", stored, journal_seeds, words),
    Target::new("ovsdb-server", "what a client sends", server, server_seeds, words),
    Target::new("ovsdb-client", "what a server sends", client, client_seeds, words),
];

/// A schema of everything that schemas have.
const SCHEMA: &str = r#"{"name":"db","version":"1.2.3","tables":{
    "root":{"isRoot":true,"maxRows":3,"indexes":[["name"],["n","name"]],"columns":{
        "name":{"type":{"key":{"type":"string","minLength":1,"maxLength":9}}},
        "n":{"type":{"key":{"type":"integer","minInteger":-5,"maxInteger":100},"min":0,"max":3}},
        "kind":{"type":{"key":{"type":"string","enum":["set",["a","b","c"]]},"min":0},"mutable":false},
        "x":{"type":{"key":{"type":"real","minReal":-1.5},"min":0,"max":"unlimited"},"ephemeral":true},
        "flag":{"type":"boolean"},
        "map":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}},
        "child":{"type":{"key":{"type":"uuid","refTable":"leaf"},"min":0,"max":"unlimited"}},
        "weak":{"type":{"key":{"type":"uuid","refTable":"leaf","refType":"weak"},"min":0,"max":2}},
        "rated":{"type":{"key":"integer","value":{"type":"uuid","refTable":"leaf"},"min":0,"max":"unlimited"}}}},
    "leaf":{"columns":{"v":{"type":"integer"},"next":{"type":{"key":{"type":"uuid","refTable":"leaf"},"min":0}}}}}}"#;

static PARSED: LazyLock<Arc<DatabaseSchema>> =
    LazyLock::new(|| Arc::new(DatabaseSchema::from_text("fuzz", SCHEMA).expect("the schema is well-formed")));

/// UUIDs that any run chooses the same.
fn next_uuid() -> Uuid {
    use std::cell::Cell;
    thread_local!(static NEXT: Cell<u64> = const { Cell::new(0) });
    NEXT.with(|next| {
        next.set(next.get() + 1);
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&next.get().to_be_bytes());
        Uuid::from_random(bytes)
    })
}

fn context(locks: &BTreeSet<String>) -> Context<'_> {
    Context {
        locks,
        read_only: false,
        client: Default::default(),
        elapsed_ms: 0,
        can_wait: true,
        new_uuid: next_uuid,
    }
}

/// A database with two rows and what they refer to.
fn populated() -> Database {
    let mut db = Database::new(PARSED.clone());
    let params = json!(["db",
        {"op":"insert","table":"leaf","uuid-name":"l","row":{"v":7}},
        {"op":"insert","table":"root","row":{"name":"one","n":["set",[1,2]],"kind":"a","x":0.5,"flag":true,
            "map":["map",[["k","v"]]],"child":["named-uuid","l"],"weak":["named-uuid","l"],
            "rated":["map",[[5,["named-uuid","l"]]]]}},
        {"op":"insert","table":"root","row":{"name":"two"}}]);
    let outcome = transact::execute(&db, &params, &context(&BTreeSet::new()));
    let Outcome::Done { commit: Some(commit), .. } = outcome else { panic!("refused: {outcome:?}") };
    db.apply(&commit.changes);
    db
}

fn json_of(data: &[u8]) -> Option<Value> {
    serde_json::from_slice(data).ok()
}

fn printed(data: &[u8]) {
    let Some(value) = json_of(data) else { return };
    for text in [json::text(&value), json::pretty(&value)] {
        let again: Value = match serde_json::from_str(&text) {
            Ok(again) => again,
            Err(error) => panic!("{error}: {text}"),
        };
        // Reals lose digits once.
        assert_eq!(json::text(&again), json::text(&value));
    }
    let _ = (json::integer(&value), json::type_name(&value));
}

/// The first byte says in which pieces the bytes come.
fn jsonrpc(data: &[u8]) {
    let Some((piece, bytes)) = choice(data) else { return };
    let read = |piece: usize| {
        let mut parser = Parser::new();
        let mut messages = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            parser.feed(piece);
            loop {
                match parser.next_message() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error.to_string())),
                }
            }
        }
        (messages, None)
    };
    let (messages, error) = read(piece);
    assert_eq!((messages.clone(), error), read(bytes.len()), "in pieces of {piece} or whole");
    for message in messages {
        assert_eq!(Message::from_json(message.to_json()).ok(), Some(message));
    }
}

fn jsonrpc_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"id":1,"method":"echo","params":["a\"}\\",{"b":[]}]}{"id":1,"result":[],"error":null}"#,
        r#"{"id":null,"method":"update","params":[]}  {"id":2,"result":null,"error":"no"}"#,
    ];
    super::chosen(3, texts)
}

fn schema(data: &[u8]) {
    let Some(value) = json_of(data) else { return };
    let Ok(schema) = DatabaseSchema::from_json(&value) else { return };
    let written = schema.to_json();
    match DatabaseSchema::from_json(&written) {
        Ok(again) => assert_eq!(again.to_json(), written),
        Err(error) => panic!("{error}: {written}"),
    }
    let db = Database::new(Arc::new(schema));
    let _ = db.snapshot();
    let _ = ovsdb::convert::convert(&populated(), db.schema().clone());
}

fn schema_seeds() -> Vec<Vec<u8>> {
    vec![SCHEMA.as_bytes().to_vec(), ovsdb::vswitch::SERVER_TEXT.as_bytes().to_vec()]
}

/// What a database is, for comparison.
fn content(db: &Database) -> Vec<String> {
    let mut rows: Vec<String> = db.snapshot().iter().map(|change| format!("{change:?}")).collect();
    rows.sort();
    rows
}

fn transaction(data: &[u8]) {
    let Some(Value::Array(operations)) = json_of(data) else { return };
    let mut db = populated();
    let before = content(&db);
    let params: Vec<Value> = [Value::from("db")].into_iter().chain(operations).collect();
    let locks = BTreeSet::from(["mine".to_owned()]);
    let outcome = transact::execute(&db, &params.into(), &context(&locks));
    let Outcome::Done { results, commit } = outcome else { return };
    assert!(results.to_json().is_array());
    let Some(commit) = commit else { return };
    db.apply(&commit.changes);
    // A monitor tells of it without harm, and what is undone leaves no trace.
    if let Ok(spec) = Spec::from_json(&db, Version::Two, &json!({"root":{},"leaf":{}})) {
        let _ = spec.update(&db, &commit.changes);
    }
    db.undo(&commit.changes);
    assert_eq!(content(&db), before);
}

fn transaction_seeds() -> Vec<Vec<u8>> {
    TRANSACTIONS.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const TRANSACTIONS: &[&str] = &[
    r#"[{"op":"insert","table":"root","uuid-name":"r","row":{"name":"x","n":["set",[1]],"map":["map",[["a","b"]]]}},
        {"op":"select","table":"root","where":[["name","==","one"],["n","includes",1]],"columns":["name","_uuid"]}]"#,
    r#"[{"op":"update","table":"root","where":[["name","!=","x"]],"row":{"flag":false,"x":["set",[1.5,2]]}},
        {"op":"mutate","table":"root","where":[],"mutations":[["n","+=",1],["map","delete",["set",["k"]]]]}]"#,
    r#"[{"op":"delete","table":"root","where":[["flag","==",true]]},{"op":"comment","comment":"c"},
        {"op":"commit","durable":true},{"op":"assert","lock":"mine"}]"#,
    r#"[{"op":"wait","timeout":0,"table":"root","where":[],"columns":["name"],"until":"==","rows":[{"name":"one"}]},
        {"op":"abort"}]"#,
    r#"[{"op":"insert","table":"leaf","uuid":"00000000-0000-4000-8000-000000000001","row":{"v":3,"next":["named-uuid","q"]}},
        {"op":"insert","table":"leaf","uuid-name":"q","row":{}},
        {"op":"insert","table":"root","row":{"name":"y","child":["set",[["named-uuid","q"]]]}}]"#,
];

/// Which, then JSON.
fn condition(data: &[u8]) {
    let Some((pick, text)) = choice(data) else { return };
    let Some(value) = json_of(text) else { return };
    let db = populated();
    let Some(table) = db.table_named("root") else { return };
    let schema = table.schema();
    match pick % 4 {
        0 => {
            let Ok(condition) = Condition::from_json(schema, &value, None) else { return };
            let written = condition.to_json(schema);
            let again = Condition::from_json(schema, &written, None).map(|again| again.to_json(schema));
            assert_eq!(again, Ok(written));
        }
        1 => {
            let Ok(mutation) = Mutation::from_json(schema, &value, None) else { return };
            for row in table.rows() {
                let _ = mutation.execute(schema, &mut (**row).clone());
            }
        }
        2 => {
            for version in [Version::One, Version::Two, Version::Three] {
                let Ok(spec) = Spec::from_json(&db, version, &value) else { continue };
                let _ = spec.initial(&db);
                let _ = spec.update(&db, &db.snapshot());
            }
        }
        _ => {
            let whole = Spec::from_json(&db, Version::Two, &json!({"root":{},"leaf":{}}));
            let Ok(spec) = whole else { panic!("a monitor of everything is refused") };
            if let Ok(other) = spec.with_conditions(&db, &value) {
                let _ = (spec.difference(&other, &db), other.initial(&db));
            }
        }
    }
}

fn condition_seeds() -> Vec<Vec<u8>> {
    let mut seeds =
        super::chosen(0, [r#"[["name","==","one"],["n","includes",["set",[1]]],["x",">",0.5],true]"#]);
    let mutations = [
        r#"["n","*=",3]"#,
        r#"["map","insert",["map",[["a","b"]]]]"#,
        r#"["x","/=",0.5]"#,
        r#"["n","%=",0]"#,
    ];
    seeds.extend(super::chosen(1, mutations));
    let monitors = [
        r#"{"root":[{"columns":["name","n"],"select":{"initial":false},"where":[["flag","==",true]]}],"leaf":{}}"#,
    ];
    seeds.extend(super::chosen(2, monitors));
    seeds.extend(super::chosen(3, [r#"{"root":[{"where":[["name","==","two"],false]}]}"#]));
    seeds
}

/// A type in JSON, a newline, then a value, as JSON and as text.
fn value(data: &[u8]) {
    let Ok(input) = std::str::from_utf8(data) else { return };
    let (kind, given) = input.split_once('\n').unwrap_or((input, ""));
    let Some(Ok(kind)) = json_of(kind.as_bytes()).map(|kind| Type::from_json(&kind)) else { return };
    let written = kind.to_json();
    assert_eq!(Type::from_json(&written).map(|again| again.to_json()), Ok(written));
    let mut known = vec![Datum::default_of(&kind)];
    if let Some(value) = json_of(given.as_bytes())
        && let Ok(datum) = Datum::from_json(&kind, &value, None)
    {
        let again = Datum::from_json(&kind, &datum.to_json(), None);
        assert_eq!(again.as_ref(), Ok(&datum));
        known.push(datum);
    }
    known.extend(text::parse_datum(&kind, given, None));
    for datum in &known {
        let printed = text::datum(&kind, datum);
        let _ = text::datum_bare(datum);
        // A default may be beyond what the type allows, and there is no text of a null byte.
        if kind.check(datum).is_ok() && !printed.contains("\\u0000") {
            let again = text::parse_datum(&kind, &printed, None).map(|again| text::datum(&kind, &again));
            assert_eq!(again, Ok(printed));
        }
    }
    for (old, new) in known.iter().zip(known.iter().skip(1)) {
        let difference = ovsdb::monitor::difference(&kind, old, new);
        assert_eq!(ovsdb::monitor::patch(&kind, old, &difference), *new);
    }
}

fn value_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "\"string\"\n\"a b\\\"\"",
        "{\"key\":\"integer\",\"min\":0,\"max\":5}\n[\"set\",[1,2,3]]",
        "{\"key\":\"integer\",\"min\":0,\"max\":\"unlimited\"}\n1-4, 7",
        "{\"key\":\"string\",\"value\":\"real\",\"min\":0,\
         \"max\":\"unlimited\"}\n{a=1.5, \"b c\"=2e10}",
        "\"uuid\"\n00000000-0000-4000-8000-000000000001",
        "\"boolean\"\ntrue",
        "{\"key\":\"string\",\"value\":\"string\",\"min\":0,\"max\":9}\n[\"map\",[[\"a\",\"b\"]]]",
        "{\"key\":{\"type\":\"string\",\"enum\":[\"set\",[\"x\",\"y\"]]},\"min\":0}\nx",
        "\"real\"\n1.5e300",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Records of JSON, a line each, behind right headers; if the first byte is 0, whatever bytes there are.
fn stored(data: &[u8]) {
    let Some((raw, bytes)) = choice(data) else { return };
    let mut file = Vec::new();
    if raw == 0 {
        file.extend_from_slice(bytes);
    } else {
        for line in bytes.split(|byte| *byte == b'\n') {
            match json_of(line) {
                Some(record) => file.extend(journal::record(&record)),
                None => file.extend_from_slice(line),
            }
        }
    }
    let mut reader = journal::Reader::new("fuzz", &file[..]);
    let Ok(Some(first)) = reader.next_record() else { return };
    let Ok(schema) = DatabaseSchema::from_json(&first) else { return };
    let mut db = Database::new(Arc::new(schema));
    while let Ok(Some(record)) = reader.next_body() {
        let before = db.snapshot();
        if replay(&mut db, &record).is_err() {
            assert_eq!(db.snapshot(), before, "half a record was applied");
            break;
        }
    }
    assert!(reader.offset() <= file.len() as u64);
}

fn journal_seeds() -> Vec<Vec<u8>> {
    let schema = SCHEMA.replace('\n', " ");
    let record = r#"{"_date":1,"_comment":"c","root":{"00000000-0000-4000-8000-000000000001":{"name":"one",
        "child":["uuid","00000000-0000-4000-8000-000000000002"]}},"leaf":{"00000000-0000-4000-8000-000000000002":{"v":3}}}"#
        .replace('\n', " ");
    let change = r#"{"_is_diff":true,"root":{"00000000-0000-4000-8000-000000000001":{"n":["set",[1,2]],"map":["map",[["a","b"]]]}}}"#;
    let gone = r#"{"root":{"00000000-0000-4000-8000-000000000001":null}}"#;
    let lines = format!("\u{1}{schema}\n{record}\n{change}\n{gone}");
    let file: Vec<u8> = lines[1..]
        .lines()
        .filter_map(|line| json_of(line.as_bytes()))
        .flat_map(|json| journal::record(&json))
        .collect();
    vec![lines.into_bytes(), [&[0], &file[..]].concat()]
}

/// Values off a stream, until it is broken.
fn values(data: &[u8]) -> Vec<Value> {
    let mut parser = Parser::new();
    parser.feed(data);
    std::iter::from_fn(|| parser.next_value().ok().flatten()).collect()
}

fn server(data: &[u8]) {
    let mut server = Server::new();
    server.add_database(populated(), false);
    let sessions = [(); 2].map(|()| server.connect(SessionInfo::default()));
    for (turn, message) in values(data).into_iter().enumerate() {
        server.receive(sessions[turn % 2], message, Instant::from_millis(turn as u64));
        server.run(Instant::from_millis(turn as u64));
        settle(&mut server);
    }
    sessions.into_iter().for_each(|session| server.disconnect(session));
    settle(&mut server);
}

/// Does what the server asks for: every write succeeds.
fn settle(server: &mut Server) {
    while let Some(output) = server.poll_output() {
        if let Output::Write(job) = output {
            server.written(&job.db, job.seq, Ok(()), Instant::ZERO);
        }
    }
}

fn server_seeds() -> Vec<Vec<u8>> {
    let transact = |text: &&str| {
        let Some(Value::Array(mut operations)) = json_of(text.as_bytes()) else { return String::new() };
        operations.insert(0, "db".into());
        json!({"id":1,"method":"transact","params":operations}).to_string()
    };
    let all: String = TRANSACTIONS.iter().map(transact).collect();
    let requests = [
        r#"{"id":1,"method":"list_dbs","params":[]}{"id":2,"method":"get_schema","params":["db"]}"#,
        r#"{"id":3,"method":"monitor_cond_since","params":["db",["m"],{"root":[{"where":[["n","includes",1]]}]},
           "00000000-0000-0000-0000-000000000000"]}{"id":4,"method":"monitor","params":["db",null,{"leaf":{}}]}"#,
        r#"{"id":5,"method":"monitor_cond_change","params":[["m"],["m2"],{"root":[{"where":[false]}]}]}"#,
        r#"{"id":6,"method":"lock","params":["a"]}{"id":7,"method":"steal","params":["a"]}{"id":8,"method":"unlock","params":["a"]}"#,
        r#"{"id":9,"method":"echo","params":[1]}{"id":10,"method":"set_db_change_aware","params":[true]}
           {"id":11,"method":"monitor_cancel","params":[["m2"]]}{"id":null,"method":"cancel","params":[1]}"#,
        r#"{"id":12,"method":"get_server_id","params":[]}{"id":13,"method":"convert","params":["db",{"name":"db","version":"1.0.0","tables":{}}]}"#,
    ];
    let session = requests.concat() + &all;
    requests
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .chain([all.into_bytes(), session.into_bytes()])
        .collect()
}

fn client(data: &[u8]) {
    let mut idl = Idl::new(PARSED.clone());
    idl.monitor_all();
    idl.set_lock(Some("mine"));
    idl.connected();
    for message in values(data) {
        idl.receive(&message);
        while idl.poll_output().is_some() {}
        while idl.poll_note().is_some() {}
        let _ = idl.take_changes();
    }
    for table in ["root", "leaf"] {
        for row in idl.rows(table) {
            let _ = row.uuid();
        }
    }
    idl.disconnected();
}

fn client_seeds() -> Vec<Vec<u8>> {
    let schema: Value = json_of(SCHEMA.as_bytes()).unwrap_or_default();
    let spec = Spec::from_json(&populated(), Version::Three, &json!({"root":{},"leaf":{}}));
    let initial = spec.map(|spec| spec.initial(&populated())).unwrap_or_default();
    let uuid = "00000000-0000-4000-8000-000000000009";
    let mut seeds = Vec::new();
    for id in 1..4 {
        let hello = json!({"id":id,"result":schema,"error":null}).to_string();
        let lock = json!({"id":id % 3 + 1,"result":{"locked":true},"error":null}).to_string();
        let monitor = json!({"id":3,"result":[true,uuid,initial],"error":null}).to_string();
        let update = json!({"id":null,"method":"update3","params":[["monid","db"],uuid,{"root":{uuid:{"insert":{"name":"new"}}}}]});
        let second = json!({"id":null,"method":"update2","params":[["monid","db"],{"root":{uuid:{"modify":{"n":["set",[5]]}}}}]});
        let gone =
            json!({"id":null,"method":"update","params":[["monid","db"],{"leaf":{uuid:{"old":{"v":1}}}}]});
        let stolen = json!({"id":null,"method":"stolen","params":["mine"]});
        seeds.push(format!("{hello}{lock}{monitor}{update}{second}{gone}{stolen}").into_bytes());
        seeds.push(format!("{lock}{hello}{monitor}{update}{second}{gone}{stolen}").into_bytes());
    }
    seeds
}

fn words() -> Vec<String> {
    let words = "\"id\": \"method\": \"params\": \"result\": \"error\": null true false [] {} \"set\" \"map\" \"uuid\" \"named-uuid\" \
                 \"op\": \"insert\" \"table\": \"root\" \"leaf\" \"row\": \"where\": \"columns\": \"mutations\": \"rows\": \"until\": \
                 \"name\" \"n\" \"x\" \"flag\" \"map\" \"child\" \"weak\" \"rated\" \"kind\" \"v\" \"next\" \"_uuid\" \"_version\" \
                 \"==\" \"!=\" \"<\" \">=\" \"includes\" \"excludes\" \"+=\" \"-=\" \"*=\" \"/=\" \"%=\" \"delete\" \"update\" \
                 \"mutate\" \"select\" \"wait\" \"timeout\": \"commit\" \"durable\": \"abort\" \"comment\" \"assert\" \"lock\" \
                 \"key\": \"value\": \"type\": \"min\": \"max\": \"unlimited\" \"enum\": \"refTable\": \"refType\": \"strong\" \
                 \"ephemeral\": \"mutable\": \"isRoot\": \"maxRows\": \"indexes\": \"minInteger\": \"maxReal\": \"minLength\": \
                 \"tables\": \"version\": \"cksum\": \"integer\" \"real\" \"boolean\" \"string\" \"uuid-name\": \"initial\": \"modify\": \
                 \"old\": \"new\": \"select\": \"update3\" \"update2\" \"monitor_cond_since\" \"monitor_cond_change\" \"transact\" \
                 \"_is_diff\": \"_date\": 9223372036854775807 -9223372036854775808 1e308 1e-320 0.1 \"\\ud83d\\ude00\"";
    words.split(' ').map(str::to_owned).collect()
}
