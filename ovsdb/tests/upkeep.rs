//! What happens to a database's file while it is served: compaction, conversion, and a disk that fails to sync.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flow::time::WallTime;
use ovsdb::database::Database;
use ovsdb::schema::DatabaseSchema;
use ovsdb::storage::{self, Kind};
use serde_json::{Value, json};

mod common;

use common::{Client, Folder, Process};

const KINDS: [(Kind, &str); 2] = [(Kind::Journal, "journal"), (Kind::Sqlite, "sqlite")];

fn create(folder: &Folder, kind: Kind) -> PathBuf {
    let path = folder.0.join("db");
    let schema = DatabaseSchema::from_json(&common::schema("1.0.0", None)).unwrap();
    storage::create(&path, kind, &Database::new(Arc::new(schema)), "created", WallTime(1)).unwrap();
    path
}

fn start(command: &str, arguments: &[&str], folder: &Folder, db: &Path) -> Process {
    let mut command = Command::new(command);
    command.args(arguments);
    common::start(command, env!("CARGO_BIN_EXE_ovsdb-server"), &folder.0, db)
}

fn update(n: i64, text: &str) -> Value {
    json!({"op": "update", "table": "T", "where": [["n", "==", n]], "row": {"text": text}})
}

#[test]
fn compaction_goes_on_beside_commits_and_loses_none() {
    for (kind, name) in KINDS {
        let folder = Folder::new(&format!("upkeep-compact-{name}"));
        let db = create(&folder, kind);
        let process = start("env", &[], &folder, &db);
        let over = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (mut client, over) = (Client::connect(&folder.0), over.clone());
                thread::spawn(move || {
                    let mut n = worker;
                    while !over.load(Ordering::Relaxed) {
                        client.insert(n, 200, n % 2 == 0).unwrap();
                        client.commit(update(n, &format!("row {n}")), n % 5 == 0).unwrap();
                        n += 3;
                    }
                    (worker..n).step_by(3).collect::<Vec<i64>>()
                })
            })
            .collect();
        for _ in 0..6 {
            thread::sleep(Duration::from_millis(30));
            // Two ask at the same time: both hear when it is done.
            let mut controls = [Client::control(&folder.0), Client::control(&folder.0)];
            let asked: Vec<_> =
                controls.iter_mut().map(|control| control.command("ovsdb-server/compact", &[])).collect();
            assert_eq!(asked, ["", ""]);
        }
        over.store(true, Ordering::Relaxed);
        let mut expected: Vec<i64> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        expected.sort_unstable();
        assert!(!expected.is_empty());
        let mut client = Client::connect(&folder.0);
        assert_eq!(client.numbers(), expected, "{name}");
        // What was not durable is on its way to the disk, in order.
        client.insert(-1, 0, true).unwrap();
        expected.insert(0, -1);
        drop(process);
        let opened = storage::open(&db, false).unwrap();
        assert!(opened.damage.is_none(), "{name}: {:?}", opened.damage);
        assert_eq!(opened.database.table(0).len(), expected.len(), "{name}");
        let leftovers: Vec<_> = fs::read_dir(&folder.0)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.ends_with("compacting") || name.ends_with("tmp"))
            .collect();
        assert_eq!(leftovers, [""; 0]);
    }
}

#[test]
fn a_journal_that_has_grown_is_small_again_when_compacted() {
    let folder = Folder::new("upkeep-grow");
    let path = create(&folder, Kind::Journal);
    let opened = storage::open(&path, false).unwrap();
    let (mut db, mut storage) = (opened.database, opened.storage.unwrap());
    let keep = |db: &mut Database, storage: &mut Box<dyn storage::Storage>, operation: Value| {
        let record = common::commit(db, &json!(["Db", operation])).unwrap();
        storage.write(&[record], false, WallTime(2)).unwrap();
    };
    keep(&mut db, &mut storage, json!({"op": "insert", "table": "T", "row": {"n": 1}}));
    for round in 0..60 {
        assert_eq!(storage.has_grown(), storage.size() > 10 << 20, "{} bytes", storage.size());
        let fill = char::from(b'a' + round % 26).to_string();
        keep(&mut db, &mut storage, update(1, &fill.repeat(200_000)));
    }
    assert!(storage.has_grown());
    keep(&mut db, &mut storage, update(1, "before"));
    let work = storage.compact(storage::Record::replacement(&db, Some("compacted")), WallTime(3));
    keep(&mut db, &mut storage, update(1, "meanwhile"));
    let outcome = work();
    keep(&mut db, &mut storage, json!({"op": "insert", "table": "T", "row": {"n": 2, "text": "meanwhile"}}));
    storage.compacted(outcome).unwrap();
    assert!(!storage.has_grown() && storage.size() < 5000, "{} bytes", storage.size());
    keep(&mut db, &mut storage, json!({"op": "insert", "table": "T", "row": {"n": 3, "text": "after"}}));
    drop(storage);
    let again = storage::open(&path, true).unwrap();
    assert!(again.damage.is_none(), "{:?}", again.damage);
    assert_eq!(common::content(&again.database), common::content(&db));
}

#[test]
fn a_served_database_is_converted() {
    for (kind, name) in KINDS {
        let folder = Folder::new(&format!("upkeep-convert-{name}"));
        let db = create(&folder, kind);
        let process = start("env", &[], &folder, &db);
        let (mut client, mut other) = (Client::connect(&folder.0), Client::connect(&folder.0));
        client.call("set_db_change_aware", &json!([true]));
        other.call("set_db_change_aware", &json!([true]));
        for n in 0..50 {
            client.insert(n, 20, n % 7 == 0).unwrap();
        }
        let wrong = json!(["Db", {"name": "Other", "tables": {}}]);
        assert_ne!(client.call("convert", &wrong)["error"], Value::Null);
        let reply = client.call("convert", &json!(["Db", common::schema("2.0.0", Some("extra"))]));
        assert_eq!((&reply["result"], &reply["error"]), (&json!({}), &Value::Null));
        let row = json!({"n": 100, "text": "t", "extra": "e"});
        other.commit(json!({"op": "insert", "table": "T", "row": row}), true).unwrap();
        let expected: Vec<i64> = (0..50).chain([100]).collect();
        assert_eq!(client.numbers(), expected);
        assert_eq!(client.call("get_schema", &json!(["Db"]))["result"]["version"], "2.0.0");
        drop(process);
        let opened = storage::open(&db, false).unwrap();
        assert!(opened.damage.is_none(), "{name}: {:?}", opened.damage);
        assert_eq!(opened.database.schema().version, "2.0.0");
        assert_eq!(opened.database.table(0).len(), 51);
        drop(opened);
        let _process = start("env", &[], &folder, &db);
        assert_eq!(Client::connect(&folder.0).numbers(), expected);
    }
}

/// The calls of a record by `strace`, a word each: what was written, and how syncs ended.
fn calls(log: &str) -> Vec<String> {
    let line = |line: &str| {
        let (_, call) = line.split_once(' ')?;
        let call = call.trim_start();
        if call.starts_with("pwrite64(") {
            let which = ["row one", "row two", "row three", "row four"];
            let written = which.iter().filter(|text| call.contains(*text)).copied();
            return Some(format!("write {}", written.collect::<Vec<_>>().join(", ")));
        }
        let ends = call.contains("sync") && call.contains(" = ");
        ends.then(|| if call.contains(" = 0") { "sync" } else { "sync fails" }.to_owned())
    };
    log.lines().filter_map(line).collect()
}

#[test]
fn what_a_failed_sync_may_have_lost_is_written_again() {
    let strace = Command::new("strace").arg("--version").output();
    if !strace.is_ok_and(|out| out.status.success()) {
        println!("strace is not installed: no sync can be made to fail");
        return;
    }
    let folder = Folder::new("upkeep-sync");
    let db = create(&folder, Kind::Journal);
    let log = folder.0.join("log");
    // The second sync fails: that of row three.
    let arguments = ["-f", "-qq", "-s", "4096", "-e", "signal=none", "-e", "trace=pwrite64,fdatasync"];
    let mut arguments: Vec<&str> = arguments.into();
    arguments.extend(["-e", "inject=fdatasync:error=EIO:when=2", "-o", log.to_str().unwrap()]);
    let process = start("strace", &arguments, &folder, &db);
    let mut client = Client::connect(&folder.0);
    let row = |n: i64, text: &str| json!({"op": "insert", "table": "T", "row": {"n": n, "text": text}});
    client.commit(row(1, "row one"), true).unwrap();
    client.commit(row(2, "row two"), false).unwrap();
    let error = client.commit(row(3, "row three"), true).unwrap_err();
    assert!(error.starts_with("I/O error: "), "{error}");
    assert_eq!(client.numbers(), [1, 2]);
    client.commit(row(4, "row four"), true).unwrap();
    assert_eq!(client.numbers(), [1, 2, 4]);
    drop(process);
    let opened = storage::open(&db, false).unwrap();
    assert!(opened.damage.is_none(), "{:?}", opened.damage);
    assert_eq!(opened.database.table(0).len(), 3);
    let expected = [
        "write row one",
        "sync",
        "write row two",
        "write row three",
        "sync fails",
        // The system thinks that row two is on the disk: only what is written again is synced again.
        "write row two",
        "sync",
        "write row four",
        "sync",
    ];
    assert_eq!(calls(&fs::read_to_string(&log).unwrap()), expected);
}
