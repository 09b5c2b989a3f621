//! A database goes from a journal to SQLite and back: no row changes, and Debian's server opens what comes out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use flow::time::WallTime;
use ovsdb::database::Database;
use ovsdb::schema::DatabaseSchema;
use ovsdb::storage::{self, Kind};
use serde_json::{Value, json};

mod common;

use common::{Folder, commit, content, southbound};

/// Where the programs of Debian's packages are.
const PEER_SERVER: &str = "/usr/sbin/ovsdb-server";
const PEER_CLIENT: &str = "/usr/bin/ovsdb-client";
/// The schema of Debian's `openvswitch-common`.
const SWITCH_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

fn schema(path: &str) -> Arc<DatabaseSchema> {
    let text = fs::read_to_string(path).unwrap();
    Arc::new(DatabaseSchema::from_text(path, &text).unwrap())
}

/// Copies `db` through both kinds of files and returns the journal that comes out.
fn round_trip(folder: &Path, db: &Database) -> PathBuf {
    let expected = content(db);
    let files = [("first", Kind::Journal), ("second", Kind::Sqlite), ("third", Kind::Journal)];
    let first = folder.join(files[0].0);
    storage::create(&first, files[0].1, db, "made", WallTime(1)).unwrap();
    for pair in files.windows(2) {
        let opened = storage::open(&folder.join(pair[0].0), true).unwrap();
        assert!(opened.damage.is_none(), "{:?}", opened.damage);
        storage::create(&folder.join(pair[1].0), pair[1].1, &opened.database, "copied", WallTime(2)).unwrap();
    }
    let last = folder.join(files[2].0);
    let opened = storage::open(&last, true).unwrap();
    assert_eq!(opened.database.schema().to_json(), db.schema().to_json());
    let found = content(&opened.database);
    assert_eq!(found.len(), expected.len());
    let differing = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert_eq!(differing, None);
    last
}

/// What Debian's server serves of a journal: rows by table.
fn served_by_the_peer(folder: &Path, journal: &Path, db: &Database) -> BTreeMap<String, usize> {
    let socket = folder.join("db.sock");
    let _server = common::start(Command::new("env"), PEER_SERVER, folder, journal);
    let mut counts = BTreeMap::new();
    for table in db.tables().iter().filter(|table| !table.is_empty()) {
        let name = &*table.schema().name;
        let select =
            json!([&*db.schema().name, {"op": "select", "table": name, "where": [], "columns": ["_uuid"]}]);
        let out = Command::new(PEER_CLIENT)
            .args(["transact", &format!("unix:{}", socket.display()), &select.to_string()])
            .output()
            .unwrap();
        let reply: Value = serde_json::from_slice(&out.stdout).unwrap();
        let rows = reply[0]["rows"].as_array().unwrap_or_else(|| panic!("{reply}"));
        counts.insert(name.to_owned(), rows.len());
    }
    counts
}

fn counts(db: &Database) -> BTreeMap<String, usize> {
    let tables = db.tables().iter().filter(|table| !table.is_empty());
    tables.map(|table| (table.schema().name.to_string(), table.len())).collect()
}

fn survives(name: &str, db: &Database) {
    let folder = Folder::new(&format!("copy-{name}"));
    let journal = round_trip(&folder.0, db);
    if Path::new(PEER_SERVER).exists() {
        assert_eq!(served_by_the_peer(&folder.0, &journal, db), counts(db));
    }
}

#[test]
fn a_switchs_configuration_comes_back() {
    let mut db = Database::new(schema(SWITCH_SCHEMA));
    let mut operations = vec![json!("Open_vSwitch")];
    let mut bridges = Vec::new();
    for n in 0..20 {
        let (bridge, port, interface) = (format!("b{n}"), format!("p{n}"), format!("i{n}"));
        operations.push(json!({"op": "insert", "table": "Interface", "uuid-name": interface, "row": {
            "name": port, "type": "vxlan", "ofport_request": n + 1, "mac": format!("02:00:00:00:00:{n:02x}"),
            "options": ["map", [["remote_ip", format!("192.0.2.{n}")], ["key", "flow"]]]}}));
        operations.push(json!({"op": "insert", "table": "Port", "uuid-name": port, "row": {
            "name": port, "trunks": ["set", [n, n + 1000, 4095]], "interfaces": ["named-uuid", interface],
            "external_ids": ["map", [["text", "\" \\ \u{1} é \u{1F980}"]]]}}));
        operations.push(json!({"op": "insert", "table": "Bridge", "uuid-name": bridge, "row": {
            "name": format!("br{n}"), "ports": ["named-uuid", port], "fail_mode": "secure", "stp_enable": n % 2 == 0,
            "protocols": ["set", ["OpenFlow10", "OpenFlow15"]]}}));
        bridges.push(json!(["named-uuid", bridge]));
    }
    operations.push(
        json!({"op": "insert", "table": "Open_vSwitch", "row": {"bridges": ["set", bridges], "next_cfg": 7}}),
    );
    commit(&mut db, &operations.into());
    survives("switch", &db);
}

#[test]
fn a_southbound_database_of_100000_rows_comes_back() {
    if !southbound::is_available() {
        println!("ovn-central is not installed: its schema is what this is about");
        return;
    }
    let mut db = Database::new(schema(southbound::SCHEMA));
    for text in southbound::transactions(100_000) {
        commit(&mut db, &serde_json::from_str(&text).unwrap());
    }
    assert_eq!(counts(&db).values().sum::<usize>(), 1000 * southbound::ROWS);
    survives("southbound", &db);
}
