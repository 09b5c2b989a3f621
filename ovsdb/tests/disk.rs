//! Disks that are full, read-only or wrong: a clear error, nothing committed lost, and the server goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use flow::time::WallTime;
use ovsdb::database::Database;
use ovsdb::schema::DatabaseSchema;
use ovsdb::storage::{self, Kind};

mod common;

use common::{Client, Folder, Process};

fn schema() -> Arc<DatabaseSchema> {
    Arc::new(DatabaseSchema::from_json(&common::schema("1.0.0", None)).unwrap())
}

/// A small file system of its own, if this may be made here.
struct Mount(PathBuf);

impl Mount {
    fn new(name: &str) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("ovsdb-disk-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&path).output();
        if mounted.is_ok_and(|out| out.status.success()) {
            return Some(Self(path));
        }
        println!("no file system can be mounted here");
        let _ = fs::remove_dir(path);
        None
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "remount {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

fn start(folder: &Path, db: &Path) -> (Process, Client) {
    let server = common::start(Command::new("env"), env!("CARGO_BIN_EXE_ovsdb-server"), folder, db);
    (server, Client::connect(folder))
}

fn full_disk(kind: Kind, name: &str) {
    let Some(disk) = Mount::new(name) else { return };
    let outside = Folder::new(&format!("disk-run-{name}"));
    let db = disk.0.join("db");
    storage::create(&db, kind, &Database::new(schema()), "created", WallTime(1)).unwrap();
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap();
    let (process, mut server) = start(&outside.0, &db);
    let mut kept = Vec::new();
    let error = loop {
        let n = kept.len() as i64;
        match server.insert(n, 30_000, true) {
            Ok(()) => kept.push(n),
            Err(error) => break error,
        }
        assert!(n < 1000, "the disk does not get full");
    };
    assert!(error.starts_with("I/O error: ") && error.contains("db: write failed ("), "{error}");
    assert!(!kept.is_empty(), "not even one row fits");
    // It says no again, shows what was committed, and nothing of what was not.
    assert!(server.insert(5000, 2_000_000, true).is_err());
    assert_eq!(server.numbers(), kept);
    // With room again it goes on.
    fs::remove_file(filler).unwrap();
    server.insert(6000, 30_000, true).unwrap();
    kept.push(6000);
    assert_eq!(server.numbers(), kept);
    drop(process);
    let (_process, mut again) = start(&outside.0, &db);
    assert_eq!(again.numbers(), kept);
}

#[test]
fn a_full_disk_refuses_commits_to_a_journal_and_loses_none() {
    full_disk(Kind::Journal, "full-journal");
}

#[test]
fn a_full_disk_refuses_commits_to_sqlite_and_loses_none() {
    full_disk(Kind::Sqlite, "full-sqlite");
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(disk) = Mount::new("read-only") else { return };
    for (kind, name) in [(Kind::Journal, "journal"), (Kind::Sqlite, "sqlite")] {
        let db = disk.0.join(name);
        storage::create(&db, kind, &Database::new(schema()), "created", WallTime(1)).unwrap();
        disk.remount("ro");
        let error = storage::open(&db, false).err().expect("refused").to_string();
        assert!(error.contains(name) && error.contains("Read-only file system"), "{error}");
        // It can still be looked at, as far as its kind allows: an error is as clear as the other.
        match storage::open(&db, true) {
            Ok(opened) => assert_eq!(opened.database.snapshot(), []),
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
        disk.remount("rw");
    }
}

#[test]
fn a_corrupt_page_is_never_taken_for_data() {
    let folder = Folder::new("disk-corrupt");
    let path = folder.0.join("db");
    let mut db = Database::new(schema());
    let mut txn = ovsdb::transaction::Transaction::new(&db);
    let columns = db.table(0).schema().clone();
    for n in 0..60_i64 {
        let mut row = ovsdb::database::Row::new(&columns);
        row.set_uuid(ovsdb::transact::random_uuid());
        row.set(columns.column("n").unwrap(), ovsdb::value::Datum::one(n));
        row.set(columns.column("text").unwrap(), ovsdb::value::Datum::one("y".repeat(150)));
        txn.insert(0, row);
    }
    let changes = txn.finish(&mut ovsdb::transact::random_uuid).unwrap();
    db.apply(&changes);
    storage::create(&path, Kind::Sqlite, &db, "created", WallTime(1)).unwrap();
    let content = |db: &Database| {
        let table = db.table(0).schema();
        db.snapshot().iter().map(|change| storage::row_text(table, change).unwrap()).collect::<Vec<_>>()
    };
    let expected = content(&db);
    let bytes = fs::read(&path).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for at in (0..bytes.len()).step_by(61) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x55;
        fs::write(&path, &wrong).unwrap();
        match storage::open(&path, true) {
            Ok(opened) => {
                assert_eq!(content(&opened.database), expected, "byte {at}");
                harmless += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("db"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "{refused} refused, {harmless} harmless");
}
