//! A database in one SQLite file.
//!
//! Table `meta` holds the schema, `row` one JSON object a row (its lasting columns that are not at their defaults) with a
//! checksum, for SQLite has none of its own, and `log` the time and comment of every transaction. The journal mode is WAL with `synchronous=FULL`: a commit that was
//! reported survives a power failure.

use std::path::Path;
use std::sync::Arc;

use flow::time::WallTime;
use rusqlite::{Connection, OpenFlags, params};
use sha1::{Digest, Sha1};

use super::{FileLock, Opened, Record, Rewriting, Rewritten, Storage, replay, row_text};
use crate::database::{Change, Database};
use crate::error::{Error, Result};
use crate::json::write_string;
use crate::schema::DatabaseSchema;
use crate::value::Uuid;

/// Marks the file as ours: `OVSD`.
const APPLICATION_ID: i32 = 0x4f56_5344;

const LAYOUT: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE row (tbl TEXT NOT NULL, uuid BLOB NOT NULL, data TEXT NOT NULL, sum BLOB NOT NULL, PRIMARY KEY (tbl, uuid)) WITHOUT ROWID;
    CREATE TABLE log (id INTEGER PRIMARY KEY, date INTEGER NOT NULL, comment TEXT);
";

/// Entries of the log that are kept.
const LOG_LIMIT: i64 = 10_000;

/// An open file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    name: String,
    _lock: FileLock,
}

impl Storage for Sqlite {
    fn write(&mut self, group: &[Record], _durable: bool, now: WallTime) -> Result<()> {
        let name = self.name.clone();
        store(&mut self.connection, group, now).map_err(|error| failed(&name, "write failed", &error))
    }

    fn compact(&mut self, _everything: Record, _now: WallTime) -> Rewriting {
        Box::new(|| Ok(Rewritten { file: None, length: 0 }))
    }

    fn compacted(&mut self, outcome: Result<Rewritten>) -> Result<()> {
        outcome?;
        let done = self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
        done.map_err(|error| failed(&self.name, "compaction failed", &error))
    }

    fn has_grown(&self) -> bool {
        false
    }

    fn size(&self) -> u64 {
        let bytes: std::result::Result<i64, _> = self.connection.query_row(
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
            [],
            |row| row.get(0),
        );
        bytes.ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
    }
}

fn failed(name: &str, what: &str, error: &rusqlite::Error) -> Error {
    Error::io_plain(format!("{name}: {what} ({error})"))
}

fn store(connection: &mut Connection, group: &[Record], now: WallTime) -> rusqlite::Result<()> {
    let txn = connection.transaction()?;
    for record in group {
        match record {
            Record::Changes { schema, changes, comment } => {
                store_changes(&txn, schema, changes)?;
                store_log(&txn, comment.as_deref(), now)?;
            }
            Record::Everything { schema, rows, comment } => {
                txn.execute("DELETE FROM row", [])?;
                store_schema(&txn, schema)?;
                store_changes(&txn, schema, rows)?;
                store_log(&txn, comment.as_deref(), now)?;
            }
        }
    }
    txn.commit()
}

fn store_schema(connection: &Connection, schema: &DatabaseSchema) -> rusqlite::Result<()> {
    let text = schema.to_json().to_string();
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('schema', ?1)", [text]).map(|_| ())
}

fn store_changes(
    connection: &Connection,
    schema: &DatabaseSchema,
    changes: &[Change],
) -> rusqlite::Result<()> {
    let tables: Vec<_> = schema.tables.values().collect();
    let mut put = connection
        .prepare_cached("INSERT OR REPLACE INTO row (tbl, uuid, data, sum) VALUES (?1, ?2, ?3, ?4)")?;
    let mut remove = connection.prepare_cached("DELETE FROM row WHERE tbl = ?1 AND uuid = ?2")?;
    for change in changes {
        let table = tables[change.table];
        let uuid = change.uuid().0.to_be_bytes();
        // Rows are kept whole here, so that a change is told as an insertion.
        let whole = Change { old: None, ..change.clone() };
        match row_text(table, &whole).filter(|_| change.new.is_some()) {
            Some(row) => put.execute(params![&*table.name, uuid, row, checksum(&table.name, &uuid, &row)])?,
            None => remove.execute(params![&*table.name, uuid])?,
        };
    }
    Ok(())
}

/// What tells that a row is as it was written: the start of a hash.
fn checksum(table: &str, uuid: &[u8; 16], data: &str) -> [u8; 8] {
    let mut hash = Sha1::new();
    hash.update(uuid);
    hash.update((table.len() as u64).to_be_bytes());
    hash.update(table.as_bytes());
    hash.update(data.as_bytes());
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.finalize()[..8]);
    sum
}

fn store_log(connection: &Connection, comment: Option<&str>, now: WallTime) -> rusqlite::Result<()> {
    let date = i64::try_from(now.0).unwrap_or(i64::MAX);
    connection
        .prepare_cached("INSERT INTO log (date, comment) VALUES (?1, ?2)")?
        .execute(params![date, comment])?;
    let last = connection.last_insert_rowid();
    connection.prepare_cached("DELETE FROM log WHERE id <= ?1")?.execute([last - LOG_LIMIT]).map(|_| ())
}

fn connect(path: &Path, read_only: bool) -> rusqlite::Result<Connection> {
    let mode = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    if !read_only {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    Ok(connection)
}

/// Creates a file that holds `database`.
pub fn create(path: &Path, database: &Database, comment: &str, now: WallTime) -> Result<()> {
    let name = path.display().to_string();
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| Error::io(&error, format!("{name}: create failed")))?;
    let build = || {
        let mut connection = connect(path, false)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.execute_batch(LAYOUT)?;
        store(&mut connection, &[Record::replacement(database, Some(comment))], now)
    };
    build().map_err(|error| failed(&name, "create failed", &error))
}

/// Opens a file.
pub fn open(path: &Path, read_only: bool) -> Result<Opened> {
    let name = path.display().to_string();
    let lock = if read_only { None } else { Some(FileLock::acquire(path)?) };
    let connection = connect(path, read_only).map_err(|error| failed(&name, "open failed", &error))?;
    let schema = read_schema(&connection, &name)?;
    let mut database = Database::new(Arc::new(schema));
    read_rows(&connection, &name, &mut database)?;
    let storage = lock.map(|lock| Box::new(Sqlite { connection, name, _lock: lock }) as Box<dyn Storage>);
    Ok(Opened { database, storage, damage: None })
}

fn read_schema(connection: &Connection, name: &str) -> Result<DatabaseSchema> {
    let text: String = connection
        .query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0))
        .map_err(|error| failed(name, "database file contains no schema", &error))?;
    DatabaseSchema::from_text(name, &text)
}

/// Reads all rows into `database`.
fn read_rows(connection: &Connection, name: &str, database: &mut Database) -> Result<()> {
    let broken = |error: rusqlite::Error| failed(name, "read failed", &error);
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(broken)?;
    if verdict != "ok" {
        return Err(Error::io_plain(format!("{name}: read failed (the file is corrupt: {verdict})")));
    }
    let mut select = connection.prepare("SELECT tbl, uuid, data, sum FROM row").map_err(broken)?;
    let mut rows = select.query([]).map_err(broken)?;
    let mut record = String::new();
    while let Some(row) = rows.next().map_err(broken)? {
        let table = row.get_ref(0).and_then(|table| Ok(table.as_str()?)).map_err(broken)?;
        let uuid: [u8; 16] = row.get(1).map_err(broken)?;
        let data = row.get_ref(2).and_then(|data| Ok(data.as_str()?)).map_err(broken)?;
        let sum: [u8; 8] = row.get(3).map_err(broken)?;
        if sum != checksum(table, &uuid, data) {
            let uuid = Uuid(u128::from_be_bytes(uuid));
            return Err(Error::io_plain(format!(
                "{name}: read failed (the file is corrupt: row {uuid} of table {table} does not fit its checksum)"
            )));
        }
        // In the form of a transaction of one row.
        record.clear();
        record.push('{');
        write_string(&mut record, table);
        record.push_str(":{\"");
        Uuid(u128::from_be_bytes(uuid)).write(&mut record);
        record.push_str("\":");
        record.push_str(data);
        record.push_str("}}");
        replay(database, record.as_bytes()).map_err(|error| error.context(format!("{name}: {table}")))?;
    }
    Ok(())
}

/// The log: time in milliseconds since 1970 and comment, oldest first.
pub fn read_log(path: &Path) -> Result<Vec<(u64, Option<String>)>> {
    let name = path.display().to_string();
    let read = || {
        let connection = connect(path, true)?;
        let mut select = connection.prepare("SELECT date, comment FROM log ORDER BY id")?;
        let entries = select.query_map([], |row| {
            let date: i64 = row.get(0)?;
            Ok((u64::try_from(date).unwrap_or(0), row.get(1)?))
        })?;
        entries.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error: rusqlite::Error| failed(&name, "read failed", &error))
}
