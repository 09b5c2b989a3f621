//! One contract for every storage: what was written is there after opening again.

use std::fs;
use std::path::Path;

use flow::time::WallTime;
use ovsdb::database::Database;
use ovsdb::storage::{self, Columns, Kind, Record};
use ovsdb::vswitch;
use serde_json::{Value, json};

mod common;

use common::{Folder, commit, content};

const NOW: WallTime = WallTime(1_700_000_000_000);

fn run(db: &mut Database, operations: Value) -> Option<Record> {
    let mut params = vec![json!("Open_vSwitch")];
    params.extend(operations.as_array().unwrap().iter().cloned());
    commit(db, &params.into())
}

fn script() -> Vec<Value> {
    vec![
        json!([
            {"op": "comment", "comment": "first"},
            {"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": "br0", "external_ids": ["map", [["a", "1"]]]}},
            {"op": "insert", "table": "Open_vSwitch", "row": {"bridges": ["named-uuid", "b"], "next_cfg": 7}}
        ]),
        json!([{"op": "mutate", "table": "Bridge", "where": [], "mutations":
                [["external_ids", "insert", ["map", [["b", "2"]]]], ["external_ids", "delete", ["set", ["a"]]]]}]),
        json!([{"op": "update", "table": "Open_vSwitch", "where": [], "row": {"next_cfg": 8, "ovs_version": "x"}}]),
        json!([{"op": "insert", "table": "SSL", "row": {"ca_cert": "c", "certificate": "d", "private_key": "é"}},
               {"op": "update", "table": "Open_vSwitch", "where": [], "row": {"cur_cfg": 8}}]),
    ]
}

fn contract(kind: Kind, name: &str) {
    let folder = Folder::new(&format!("storage-{name}"));
    let path = folder.0.join("db");
    storage::create(&path, kind, &Database::new(vswitch::schema()), "created", NOW).unwrap();
    assert_eq!(storage::kind_of(&path).unwrap(), kind);
    let mut expected = Vec::new();
    for (i, operations) in script().into_iter().enumerate() {
        let mut opened = storage::open(&path, false).unwrap();
        assert!(opened.damage.is_none(), "{:?}", opened.damage);
        assert_eq!(content(&opened.database), expected);
        let record = run(&mut opened.database, operations).expect("lasting");
        opened.storage.as_mut().unwrap().write(&[record], i % 2 == 0, NOW).unwrap();
        expected = content(&opened.database);
    }
    let mut opened = storage::open(&path, false).unwrap();
    let ephemeral = json!([{"op": "update", "table": "Bridge", "where": [], "row": {"datapath_id": "5"}}]);
    assert!(run(&mut opened.database, ephemeral).is_none(), "only ephemeral columns changed");
    let everything = Record::replacement(&opened.database, Some("compacted"));
    opened.storage.as_mut().unwrap().write(&[everything], true, NOW).unwrap();
    let more = run(
        &mut opened.database,
        json!([{"op": "insert", "table": "Bridge", "uuid-name": "c", "row": {"name": "br1"}},
        {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["bridges", "insert", ["named-uuid", "c"]]]}]),
    );
    opened.storage.as_mut().unwrap().write(&[more.unwrap()], false, NOW).unwrap();
    assert!(storage::open(&path, false).is_err(), "locked");
    assert_eq!(content(&storage::open(&path, true).unwrap().database), content(&opened.database));
    let replaced = content(&opened.database);
    drop(opened);
    assert_eq!(content(&storage::open(&path, false).unwrap().database), replaced);
    assert!(storage::create(&path, kind, &Database::new(vswitch::schema()), "", NOW).is_err(), "exists");
}

#[test]
fn journal_keeps_the_contract() {
    contract(Kind::Journal, "journal");
}

#[test]
fn sqlite_keeps_the_contract() {
    contract(Kind::Sqlite, "sqlite");
}

/// A journal's bytes, where its transactions begin, and the content after each of them.
fn journal(path: &Path) -> (Vec<u8>, usize, Vec<Vec<String>>) {
    storage::create(path, Kind::Journal, &Database::new(vswitch::schema()), "created", NOW).unwrap();
    let start = fs::read(path).unwrap().len();
    let mut opened = storage::open(path, false).unwrap();
    let mut states = vec![content(&opened.database)];
    for operations in script() {
        let record = run(&mut opened.database, operations).unwrap();
        opened.storage.as_mut().unwrap().write(&[record], false, NOW).unwrap();
        states.push(content(&opened.database));
    }
    (fs::read(path).unwrap(), start, states)
}

#[test]
fn a_torn_tail_is_cut_off_and_overwritten() {
    let folder = Folder::new("storage-torn");
    let path = folder.0.join("db");
    let (bytes, start, states) = journal(&path);
    for length in (start..bytes.len()).step_by(37) {
        fs::write(&path, &bytes[..length]).unwrap();
        let mut opened = storage::open(&path, false).unwrap();
        let found = content(&opened.database);
        assert!(states.contains(&found), "cut at {length}");
        if found.is_empty() {
            let record =
                run(&mut opened.database, json!([{"op": "insert", "table": "Open_vSwitch", "row": {}}]));
            opened.storage.as_mut().unwrap().write(&[record.unwrap()], false, NOW).unwrap();
            drop(opened);
            let again = storage::open(&path, false).unwrap();
            assert!(again.damage.is_none());
            assert_eq!(content(&again.database).len(), 1);
        }
    }
}

#[test]
fn a_journal_may_tell_columns_whole() {
    let folder = Folder::new("storage-whole");
    let journal_of = |columns: Columns| {
        let path = folder.0.join(format!("{columns:?}"));
        storage::create(&path, Kind::Journal, &Database::new(vswitch::schema()), "created", NOW).unwrap();
        let mut opened = storage::open(&path, false).unwrap();
        let mut storage = opened.storage.unwrap();
        storage.write_columns(columns);
        for operations in script() {
            storage.write(&[run(&mut opened.database, operations).unwrap()], false, NOW).unwrap();
        }
        drop(storage);
        let again = storage::open(&path, true).unwrap();
        assert!(again.damage.is_none(), "{:?}", again.damage);
        assert_eq!(content(&again.database), content(&opened.database));
        fs::read_to_string(&path).unwrap()
    };
    assert!(journal_of(Columns::Differences).contains("_is_diff"));
    let whole = journal_of(Columns::Whole);
    assert!(!whole.contains("_is_diff"));
    assert!(whole.contains(r#""external_ids":["map",[["b","2"]]]"#), "{whole}");
}

#[test]
fn flipped_bytes_never_panic() {
    let folder = Folder::new("storage-flipped");
    let path = folder.0.join("db");
    let (bytes, start, states) = journal(&path);
    for at in (start..bytes.len()).step_by(23) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x15;
        fs::write(&path, &wrong).unwrap();
        let opened = storage::open(&path, true).unwrap();
        assert!(opened.damage.is_some(), "flip at {at}");
        assert!(states.contains(&content(&opened.database)));
    }
}
