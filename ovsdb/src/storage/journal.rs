//! OVS's journal: a header line `OVSDB JSON LENGTH SHA1` and that much JSON, again and again.
//!
//! The first record is the schema, every other a transaction. What a crash tore off the end is noticed by length or
//! hash when the file is read, and overwritten by the next record. Replacing everything writes a new file beside the
//! old one and renames it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::time::WallTime;
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};

use super::{FileLock, Opened, Record, Storage, replay, row_to_json};
use crate::database::{Change, Database};
use crate::error::{Error, Result};
use crate::schema::DatabaseSchema;
use crate::transaction::Transaction;

/// A journal pays for being compacted from this size on, if it has doubled too.
const COMPACT_FROM: u64 = 10 * 1024 * 1024;

/// Reads records one by one.
#[derive(Debug)]
pub struct Reader<R = BufReader<File>> {
    name: String,
    input: R,
    offset: u64,
}

impl Reader {
    /// Opens a journal for reading.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Error::io(&error, format!("{name}: open failed")))?;
        Ok(Self::new(&name, BufReader::with_capacity(1 << 16, file)))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads a journal that errors call `name`.
    pub fn new(name: &str, input: R) -> Self {
        Self { name: name.to_owned(), input, offset: 0 }
    }

    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record; nothing at the end.
    pub fn next_record(&mut self) -> Result<Option<Value>> {
        let (name, offset) = (&self.name, self.offset);
        let mut header = Vec::new();
        let read = Read::by_ref(&mut self.input).take(127).read_until(b'\n', &mut header);
        read.map_err(|error| Error::io(&error, format!("{name}: read failed")))?;
        if header.is_empty() {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&header);
        let Some((length, hash)) = parse_header(&line) else {
            let line = line.trim_end_matches('\n');
            let details = format!("{name}: parse error at offset {offset} in header line \"{line}\"");
            return Err(Error::new("syntax error", details));
        };
        let start = offset + header.len() as u64;
        let place = format!("{name}: {length} bytes starting at offset {start}");
        let mut body = Vec::new();
        let read = Read::by_ref(&mut self.input).take(length).read_to_end(&mut body);
        read.map_err(|error| {
            Error::io(&error, format!("{name}: error reading {length} bytes starting at offset {start}"))
        })?;
        if (body.len() as u64) < length {
            return Err(Error::io_plain(format!(
                "{name}: error reading {length} bytes starting at offset {start} (End of file)"
            )));
        }
        let actual = sha1_hex(&body);
        if actual != hash {
            let details = format!("{place} have SHA-1 hash {actual} but should have hash {hash}");
            return Err(Error::new("syntax error", details));
        }
        let value: Value = serde_json::from_slice(&body)
            .map_err(|error| Error::new("syntax error", format!("{place} are not valid JSON ({error})")))?;
        if !value.is_object() {
            return Err(Error::new("syntax error", format!("{place} are not a JSON object")));
        }
        self.offset = start + length;
        Ok(Some(value))
    }
}

fn parse_header(line: &str) -> Option<(u64, String)> {
    let rest = line.strip_prefix("OVSDB JSON ")?.strip_suffix('\n')?;
    let (length, hash) = rest.split_once(' ')?;
    let length: u64 = length.parse().ok().filter(|length| (1..u64::from(u32::MAX)).contains(length))?;
    (hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| (length, hash.to_ascii_lowercase()))
}

fn sha1_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(40);
    for byte in Sha1::digest(bytes) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// One record as bytes.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut body = value.to_string();
    body.push('\n');
    let mut record = format!("OVSDB JSON {} {}\n", body.len(), sha1_hex(body.as_bytes())).into_bytes();
    record.extend_from_slice(body.as_bytes());
    record
}

/// The JSON of a transaction.
fn transaction_json(
    schema: &DatabaseSchema,
    changes: &[Change],
    comment: Option<&str>,
    now: WallTime,
) -> Value {
    let tables: Vec<_> = schema.tables.values().collect();
    let mut members = Map::new();
    let mut differences = false;
    for change in changes {
        let table = tables[change.table];
        let Some(row) = row_to_json(table, change) else { continue };
        differences |= change.old.is_some();
        let rows = members.entry(table.name.to_string()).or_insert_with(|| Map::new().into());
        if let Some(rows) = rows.as_object_mut() {
            rows.insert(change.uuid().to_string(), row);
        }
    }
    if differences {
        members.insert("_is_diff".to_owned(), true.into());
    }
    if let Some(comment) = comment {
        members.insert("_comment".to_owned(), comment.into());
    }
    members.insert("_date".to_owned(), now.0.into());
    members.into()
}

/// A journal open for appending.
#[derive(Debug)]
pub struct Journal {
    /// As it was given, for messages.
    name: String,
    /// Where it is, whatever becomes of the working directory.
    real: PathBuf,
    file: File,
    /// Where the next record goes; what is behind it is torn.
    end: u64,
    /// How long the file was when everything was last replaced.
    base: u64,
    _lock: FileLock,
}

impl Storage for Journal {
    fn write(&mut self, group: &[Record], durable: bool, now: WallTime) -> Result<()> {
        let mut bytes = Vec::new();
        for record in group {
            match record {
                Record::Changes { schema, changes, comment } => {
                    bytes.extend(encode(&transaction_json(schema, changes, comment.as_deref(), now)));
                }
                Record::Everything { schema, rows, comment } => {
                    // What stands before it in the group is part of it.
                    bytes.clear();
                    self.replace(schema, rows, comment.as_deref(), now)?;
                }
            }
        }
        self.append(&bytes, durable)
    }

    fn has_grown(&self) -> bool {
        self.end > COMPACT_FROM && self.end / 2 >= self.base
    }

    fn size(&self) -> u64 {
        self.end
    }
}

impl Journal {
    fn append(&mut self, bytes: &[u8], durable: bool) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let name = &self.name;
        let (file, end) = (&mut self.file, self.end);
        let outcome = (|| {
            file.seek(SeekFrom::Start(end))?;
            file.write_all(bytes)?;
            if durable { file.sync_data() } else { Ok(()) }
        })();
        if let Err(error) = outcome {
            // Best effort: a torn record is recognised by its hash anyway.
            let _ = file.set_len(end);
            return Err(Error::io(&error, format!("{name}: write failed")));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn replace(
        &mut self,
        schema: &DatabaseSchema,
        rows: &[Change],
        comment: Option<&str>,
        now: WallTime,
    ) -> Result<()> {
        let real = &self.real;
        let mut temporary = real.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let bytes = whole(schema, rows, comment, now);
        let failed =
            |error: &std::io::Error| Error::io(error, format!("{}: write failed", temporary.display()));
        let file = write_new(&temporary, &bytes, true).map_err(|error| failed(&error))?;
        std::fs::rename(&temporary, real).map_err(|error| {
            let (from, to) = (temporary.display(), real.display());
            Error::io(&error, format!("failed to rename \"{from}\" to \"{to}\""))
        })?;
        if let Some(folder) = real.parent().and_then(|folder| File::open(folder).ok()) {
            // The rename itself must survive a power failure before later appends count on it.
            let _ = folder.sync_all();
        }
        self.file = file;
        self.end = bytes.len() as u64;
        self.base = self.end;
        Ok(())
    }
}

fn whole(schema: &DatabaseSchema, rows: &[Change], comment: Option<&str>, now: WallTime) -> Vec<u8> {
    let mut bytes = encode(&schema.to_json());
    if !rows.is_empty() || comment.is_some() {
        bytes.extend(encode(&transaction_json(schema, rows, comment, now)));
    }
    bytes
}

fn write_new(path: &Path, bytes: &[u8], replace: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if replace {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Creates a journal that holds `database`.
pub fn create(path: &Path, database: &Database, comment: &str, now: WallTime) -> Result<()> {
    let rows = database.snapshot();
    let comment = (!rows.is_empty()).then_some(comment);
    let bytes = whole(database.schema(), &rows, comment, now);
    let written = write_new(path, &bytes, false);
    written.map(|_| ()).map_err(|error| Error::io(&error, format!("{}: create failed", path.display())))
}

/// Reads a journal's schema.
pub fn read_schema(path: &Path) -> Result<DatabaseSchema> {
    let mut reader = Reader::open(path)?;
    schema_record(&mut reader, path)
}

fn schema_record(reader: &mut Reader, path: &Path) -> Result<DatabaseSchema> {
    let name = path.display();
    let first = reader.next_record()?;
    let first = first.ok_or_else(|| Error::io_plain(format!("{name}: database file contains no schema")))?;
    DatabaseSchema::from_json(&first)
        .map_err(|error| error.context(format!("failed to parse \"{name}\" as ovsdb schema")))
}

/// Opens a journal.
pub fn open(path: &Path, read_only: bool) -> Result<Opened> {
    let lock = if read_only { None } else { Some(FileLock::acquire(path)?) };
    let mut reader = Reader::open(path)?;
    let mut database = Database::new(Arc::new(schema_record(&mut reader, path)?));
    let mut end = reader.offset();
    let damage = loop {
        match reader.next_record() {
            Ok(None) => break None,
            Ok(Some(record)) => {
                let mut txn = Transaction::new(&database);
                if let Err(error) = replay(&mut txn, &record) {
                    break Some(error);
                }
                let changes = txn.into_changes();
                database.apply(&changes);
                end = reader.offset();
            }
            Err(error) => break Some(error),
        }
    };
    let Some(lock) = lock else { return Ok(Opened { database, storage: None, damage }) };
    let name = path.display();
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| Error::io(&error, format!("{name}: open failed")))?;
    file.set_len(end)
        .map_err(|error| Error::io(&error, format!("{name}: cannot truncate to length {end}")))?;
    let real =
        std::fs::canonicalize(path).map_err(|error| Error::io(&error, format!("{name}: open failed")))?;
    let journal = Journal { name: name.to_string(), real, file, end, base: end, _lock: lock };
    Ok(Opened { database, storage: Some(Box::new(journal)), damage })
}
