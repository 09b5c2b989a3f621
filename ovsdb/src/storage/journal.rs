//! OVS's journal: a header line `OVSDB JSON LENGTH SHA1` and that much JSON, again and again.
//!
//! The first record is the schema, every other a transaction. What a crash tore off the end is noticed by length or
//! hash when the file is read, and overwritten by the next record. Replacing everything writes a new file beside the
//! old one and renames it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::time::WallTime;
use serde_json::Value;
use sha1::{Digest, Sha1};

use super::{Columns, FileLock, Opened, Record, Rewriting, Rewritten, Storage, replay, write_row};
use crate::database::{Change, Database};
use crate::error::{Error, Result};
use crate::json::write_string;
use crate::schema::{DatabaseSchema, TableSchema};

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
        let Some(body) = self.next_body()? else { return Ok(None) };
        let place = self.place(body.len());
        let value: Value = serde_json::from_slice(&body)
            .map_err(|error| Error::new("syntax error", format!("{place} are not valid JSON ({error})")))?;
        if !value.is_object() {
            return Err(Error::new("syntax error", format!("{place} are not a JSON object")));
        }
        Ok(Some(value))
    }

    /// Where the body of so many bytes was that was read last.
    fn place(&self, length: usize) -> String {
        let start = self.offset - length as u64;
        format!("{}: {length} bytes starting at offset {start}", self.name)
    }

    /// The text of the next record; nothing at the end.
    pub fn next_body(&mut self) -> Result<Option<Vec<u8>>> {
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
            let details = format!(
                "{name}: {length} bytes starting at offset {start} have SHA-1 hash {actual} but should have hash {hash}"
            );
            return Err(Error::new("syntax error", details));
        }
        self.offset = start + length;
        Ok(Some(body))
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
    hex(&Sha1::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        hex.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
    }
    hex
}

/// One record as bytes.
pub fn record(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, &value.to_string());
    bytes
}

/// Appends a record with this text.
fn encode(out: &mut Vec<u8>, text: &str) {
    let mut hash = Sha1::new();
    hash.update(text.as_bytes());
    hash.update(b"\n");
    let hash = hex(&hash.finalize());
    // Writing to memory does not fail.
    let _ = writeln!(out, "OVSDB JSON {} {hash}", text.len() + 1);
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

/// The text of a transaction. The changes of a table stand together.
fn transaction_text(
    text: &mut String,
    schema: &DatabaseSchema,
    changes: &[Change],
    comment: Option<&str>,
    now: WallTime,
    columns: Columns,
) {
    text.push('{');
    if let Some(comment) = comment {
        text.push_str("\"_comment\":");
        write_string(text, comment);
        text.push(',');
    }
    let _ = write!(text, "\"_date\":{}", now.0);
    if columns == Columns::Differences && changes.iter().any(|change| change.old.is_some()) {
        text.push_str(",\"_is_diff\":true");
    }
    for group in changes.chunk_by(|a, b| a.table == b.table) {
        // Few tables change at once, and few come before each in the schema.
        if let Some(table) = schema.tables.values().nth(group[0].table) {
            write_table(text, table, group, columns);
        }
    }
    text.push('}');
}

/// Appends the member for a table, unless none of its lasting columns changed.
fn write_table(text: &mut String, table: &TableSchema, changes: &[Change], columns: Columns) {
    let start = text.len();
    text.push(',');
    write_string(text, &table.name);
    let mut separator = ":{";
    for change in changes {
        let row = text.len();
        text.push_str(separator);
        text.push('"');
        change.uuid().write(text);
        text.push_str("\":");
        if write_row(text, table, change, columns) {
            separator = ",";
        } else {
            text.truncate(row);
        }
    }
    if separator == "," { text.push('}') } else { text.truncate(start) }
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
    /// What is before this is known to be on the disk itself.
    synced: u64,
    /// A sync has failed: what is between `synced` and `end` must be written again, for the system counts it as written.
    suspect: bool,
    columns: Columns,
    /// While a compaction is under way: where the journal ended when it began.
    compacting: Option<u64>,
    _lock: FileLock,
}

impl Storage for Journal {
    fn write(&mut self, group: &[Record], durable: bool, now: WallTime) -> Result<()> {
        let mut bytes = Vec::new();
        let mut text = String::new();
        for record in group {
            match record {
                Record::Changes { schema, changes, comment } => {
                    text.clear();
                    transaction_text(&mut text, schema, changes, comment.as_deref(), now, self.columns);
                    encode(&mut bytes, &text);
                }
                Record::Everything { schema, rows, comment } => {
                    // What stands before it in the group is part of it.
                    bytes.clear();
                    self.replace(schema, rows, comment.as_deref(), now)?;
                }
            }
        }
        if bytes.is_empty() { Ok(()) } else { self.append(&bytes, durable) }
    }

    fn write_columns(&mut self, columns: Columns) {
        self.columns = columns;
    }

    fn compact(&mut self, everything: Record, now: WallTime) -> Rewriting {
        self.compacting = Some(self.end);
        let path = self.beside("compacting");
        Box::new(move || {
            let (schema, rows, comment) = match &everything {
                Record::Everything { schema, rows, comment } => (schema, rows, comment),
                Record::Changes { schema, changes, comment } => (schema, changes, comment),
            };
            let bytes = whole(schema, rows, comment.as_deref(), now);
            let file = write_new(&path, &bytes, true)
                .map_err(|error| Error::io(&error, format!("{}: write failed", path.display())))?;
            Ok(Rewritten { file: Some(file), length: bytes.len() as u64 })
        })
    }

    fn compacted(&mut self, outcome: Result<Rewritten>) -> Result<()> {
        let path = self.beside("compacting");
        let began = self.compacting.take();
        let outcome = outcome.and_then(|rewritten| match (began, rewritten.file) {
            // What came meanwhile goes behind it.
            (Some(began), Some(file)) => self.take_over(&path, file, rewritten.length, began),
            // Everything was replaced meanwhile.
            _ => Err(Error::io_plain(format!("{}: the compaction is out of date", self.name))),
        });
        if outcome.is_err() {
            // Best effort: the next one overwrites it.
            let _ = std::fs::remove_file(path);
        }
        outcome
    }

    fn has_grown(&self) -> bool {
        self.end > COMPACT_FROM && self.end / 2 >= self.base
    }

    fn size(&self) -> u64 {
        self.end
    }
}

impl Journal {
    /// The file beside the journal with `suffix` added to its name.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.real.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    fn append(&mut self, bytes: &[u8], durable: bool) -> Result<()> {
        if self.suspect {
            self.rewrite_suspects()?;
        }
        let (file, end) = (&self.file, self.end);
        let written = file.write_all_at(bytes, end);
        let outcome = written.and_then(|()| {
            if !durable {
                return Ok(());
            }
            file.sync_data().inspect_err(|_| self.suspect = true)
        });
        if let Err(error) = outcome {
            // Best effort: a torn record is recognised by its hash anyway.
            let _ = self.file.set_len(end);
            return Err(Error::io(&error, format!("{}: write failed", self.name)));
        }
        self.end += bytes.len() as u64;
        if durable {
            self.synced = self.end;
        }
        Ok(())
    }

    /// Writes again what a sync that failed may have lost. The system still has it, but does not mean to write it.
    fn rewrite_suspects(&mut self) -> Result<()> {
        let failed = |error: &std::io::Error| Error::io(error, format!("{}: write failed", self.name));
        let copied = copy(&self.file, &self.file, self.synced, self.synced, self.end - self.synced)
            .and_then(|()| self.file.sync_data());
        copied.map_err(|error| failed(&error))?;
        self.synced = self.end;
        self.suspect = false;
        Ok(())
    }

    fn replace(
        &mut self,
        schema: &DatabaseSchema,
        rows: &[Change],
        comment: Option<&str>,
        now: WallTime,
    ) -> Result<()> {
        // What a compaction makes of the former content is of no use any more.
        self.compacting = None;
        let temporary = self.beside("tmp");
        let bytes = whole(schema, rows, comment, now);
        let file = write_new(&temporary, &bytes, true)
            .map_err(|error| Error::io(&error, format!("{}: write failed", temporary.display())))?;
        self.take_over(&temporary, file, bytes.len() as u64, self.end)
    }

    /// Puts the synced file `fresh` at `path` in the place of the journal, with what the journal has from `from` on.
    fn take_over(&mut self, path: &Path, fresh: File, length: u64, from: u64) -> Result<()> {
        let real = &self.real;
        let rest = self.end - from;
        copy(&self.file, &fresh, from, length, rest)
            .and_then(|()| if rest > 0 { fresh.sync_data() } else { Ok(()) })
            .map_err(|error| Error::io(&error, format!("{}: write failed", path.display())))?;
        std::fs::rename(path, real).map_err(|error| {
            let (from, to) = (path.display(), real.display());
            Error::io(&error, format!("failed to rename \"{from}\" to \"{to}\""))
        })?;
        if let Some(folder) = real.parent().and_then(|folder| File::open(folder).ok()) {
            // The rename itself must survive a power failure before later appends count on it.
            let _ = folder.sync_all();
        }
        self.file = fresh;
        self.base = length;
        self.end = length + rest;
        self.synced = self.end;
        self.suspect = false;
        Ok(())
    }
}

/// Copies `length` bytes at `at` of a file to `to` of another, or the same.
fn copy(from: &File, into: &File, at: u64, to: u64, length: u64) -> std::io::Result<()> {
    let mut chunk = vec![0; usize::try_from(length.min(1 << 20)).unwrap_or(1 << 20)];
    let mut done = 0;
    while done < length {
        let n = usize::try_from((length - done).min(chunk.len() as u64)).unwrap_or(chunk.len());
        from.read_exact_at(&mut chunk[..n], at + done)?;
        into.write_all_at(&chunk[..n], to + done)?;
        done += n as u64;
    }
    Ok(())
}

fn whole(schema: &DatabaseSchema, rows: &[Change], comment: Option<&str>, now: WallTime) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, &schema.to_json().to_string());
    if !rows.is_empty() || comment.is_some() {
        let mut text = String::new();
        // New rows are told whole in any case.
        transaction_text(&mut text, schema, rows, comment, now, Columns::default());
        encode(&mut bytes, &text);
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
        match reader.next_body() {
            Ok(None) => break None,
            Ok(Some(text)) => {
                if let Err(error) = replay(&mut database, &text) {
                    break Some(error);
                }
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
    let journal = Journal {
        name: name.to_string(),
        real,
        file,
        end,
        base: end,
        synced: 0,
        suspect: false,
        columns: Columns::default(),
        compacting: None,
        _lock: lock,
    };
    // What a server that died left behind.
    let _ = std::fs::remove_file(journal.beside("compacting"));
    Ok(Opened { database, storage: Some(Box::new(journal)), damage })
}
