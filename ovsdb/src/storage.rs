//! Where a database is kept: an OVS journal or one SQLite file, told apart by their first bytes.
//!
//! The server hands over [`Record`]s; whoever owns the storage (the `db-io` thread) turns them into bytes, so that
//! neither JSON nor disks delay the server.

pub mod journal;
pub mod sqlite;
mod replay;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::time::WallTime;

use crate::database::{Change, Database};
use crate::error::{Error, Result};
use crate::json::write_string;
use crate::monitor::difference;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::transact::Commit;

pub use replay::replay;

/// The bytes at the start of every SQLite file.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Something to be kept.
#[derive(Clone, Debug)]
pub enum Record {
    /// A transaction.
    Changes {
        /// The schema of the rows.
        schema: Arc<DatabaseSchema>,
        /// Its changes.
        changes: Vec<Change>,
        /// Its comment.
        comment: Option<String>,
    },
    /// A whole database, in place of everything kept before.
    Everything {
        /// The schema.
        schema: Arc<DatabaseSchema>,
        /// All rows, as insertions.
        rows: Vec<Change>,
        /// Why.
        comment: Option<String>,
    },
}

impl Record {
    /// The record of a commit on `db`; nothing if it changes only what is ephemeral and says nothing.
    pub fn transaction(db: &Database, commit: &Commit) -> Option<Self> {
        let lasting = commit.changes.iter().any(|change| {
            let table = db.table(change.table).schema();
            change.old.is_none()
                || change.new.is_none()
                || table.own_columns().any(|(at, column)| column.persistent && change.touches(at))
        });
        if !lasting && commit.comment.is_none() {
            return None;
        }
        let (schema, changes) = (db.schema().clone(), commit.changes.clone());
        Some(Self::Changes { schema, changes, comment: commit.comment.clone() })
    }

    /// The record that replaces a storage's content by `db`.
    pub fn replacement(db: &Database, comment: Option<&str>) -> Self {
        Self::Everything {
            schema: db.schema().clone(),
            rows: db.snapshot(),
            comment: comment.map(str::to_owned),
        }
    }
}

/// How a record tells what a transaction made of the columns of a row that was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Columns {
    /// By what is new or gone in a set or map.
    #[default]
    Differences,
    /// Whole, as versions of OVS before 2.16 can read it.
    Whole,
}

/// The part of a compaction that takes long and needs nothing of the storage: it may run in any thread.
pub type Rewriting = Box<dyn FnOnce() -> Result<Rewritten> + Send>;

/// What a [`Rewriting`] made, for [`Storage::compacted`].
#[derive(Debug)]
pub struct Rewritten {
    /// The new file, if the kind of storage has one.
    file: Option<File>,
    /// How long it is.
    length: u64,
}

/// A kept database, open for writing.
pub trait Storage: Send {
    /// Keeps a group of records. With `durable` they survive a power failure when this returns. After an error none of
    /// them is kept.
    fn write(&mut self, group: &[Record], durable: bool, now: WallTime) -> Result<()>;

    /// How changes are written from now on, if that can be chosen.
    fn write_columns(&mut self, _columns: Columns) {}

    /// Begins to compact: `everything` is what all records so far amount to. Writing goes on meanwhile.
    fn compact(&mut self, everything: Record, now: WallTime) -> Rewriting;

    /// Ends a compaction. After an error everything is kept as before.
    fn compacted(&mut self, outcome: Result<Rewritten>) -> Result<()>;

    /// True if so much has been appended that a compaction would pay.
    fn has_grown(&self) -> bool;

    /// How many bytes it takes on disk, as far as that is known for free.
    fn size(&self) -> u64;
}

/// What was found in a file.
pub struct Opened {
    /// The content.
    pub database: Database,
    /// The file, open for writing unless it was opened read-only.
    pub storage: Option<Box<dyn Storage>>,
    /// What went wrong while reading; the content is what could be read before it.
    pub damage: Option<Error>,
}

/// The kinds of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An OVS journal.
    Journal,
    /// SQLite.
    Sqlite,
}

impl Kind {
    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "journal" => Some(Self::Journal),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }
}

/// What kind of file `path` is, by its first bytes.
pub fn kind_of(path: &Path) -> Result<Kind> {
    let name = path.display();
    let mut file = File::open(path).map_err(|error| Error::io(&error, format!("{name}: open failed")))?;
    let mut start = Vec::new();
    let read = Read::by_ref(&mut file).take(16).read_to_end(&mut start);
    read.map_err(|error| Error::io(&error, format!("{name}: read error")))?;
    if start == SQLITE_MAGIC {
        return Ok(Kind::Sqlite);
    }
    if start.starts_with(b"OVSDB CLUSTER ") {
        return Err(Error::plain(format!("{name}: cannot apply this operation to clustered database file")));
    }
    if start.starts_with(b"OVSDB JSON ") {
        return Ok(Kind::Journal);
    }
    Err(Error::plain(format!("{name}: cannot identify file type")))
}

/// True if `path` is the file of a member of a Raft cluster.
pub fn is_clustered(path: &Path) -> bool {
    let mut start = [0; 14];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"OVSDB CLUSTER "
}

/// Opens a database for reading and, unless `read_only`, writing; another program's lock on it is then respected.
pub fn open(path: &Path, read_only: bool) -> Result<Opened> {
    match kind_of(path)? {
        Kind::Journal => journal::open(path, read_only),
        Kind::Sqlite => sqlite::open(path, read_only),
    }
}

/// Creates a database file, which must not exist yet.
pub fn create(path: &Path, kind: Kind, database: &Database, comment: &str, now: WallTime) -> Result<()> {
    let path = behind_link(path);
    match kind {
        Kind::Journal => journal::create(&path, database, comment, now),
        Kind::Sqlite => sqlite::create(&path, database, comment, now),
    }
}

/// What a symbolic link to nothing points to: a new file is made there, not in place of the link.
fn behind_link(path: &Path) -> PathBuf {
    match std::fs::read_link(path) {
        Ok(target) if !path.exists() => {
            path.parent().map_or_else(|| target.clone(), |folder| folder.join(&target))
        }
        _ => path.to_owned(),
    }
}

/// The file that holds the lock on `path`: `.NAME.~lock~` beside the real file.
pub fn lock_path(path: &Path) -> PathBuf {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = real.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    real.with_file_name(format!(".{name}.~lock~"))
}

/// A lock on a database file, which lasts until it is dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Locks `path` against other programs.
    pub fn acquire(path: &Path) -> Result<Self> {
        let lock = lock_path(path);
        let failed =
            |error: &std::io::Error| Error::io(error, format!("{}: failed to lock lockfile", path.display()));
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&lock);
        let file = file.map_err(|error| failed(&error))?;
        // The first lock is against this process itself, the second, OVS's kind, against others.
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(&error)),
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(failed(&std::io::Error::from_raw_os_error(11)));
            }
        }
        daemon::lock_file(&file).map_err(|error| failed(&error))?;
        Ok(Self { _file: file })
    }
}

/// The JSON of a row in a record: all that is not default of a new row, only what changed of an old one (as
/// differences), null for one that is gone. Nothing if no lasting column changed.
pub fn row_text(table: &TableSchema, change: &Change) -> Option<String> {
    let mut text = String::new();
    write_row(&mut text, table, change, Columns::Differences).then_some(text)
}

/// Appends what [`row_text`] tells, or columns as `columns` says; false if there is nothing to tell.
fn write_row(out: &mut String, table: &TableSchema, change: &Change, columns: Columns) -> bool {
    let Some(new) = &change.new else {
        out.push_str("null");
        return true;
    };
    let start = out.len();
    let mut separator = '{';
    for (at, column) in table.own_columns().filter(|(_, column)| column.persistent) {
        let (old, datum) = (change.old.as_ref().map(|old| old.get(at)), new.get(at));
        if old.map_or_else(|| datum.is_default_of(&column.kind), |old| old == datum) {
            continue;
        }
        out.push(std::mem::replace(&mut separator, ','));
        write_string(out, &column.name);
        out.push(':');
        match old {
            Some(old) if columns == Columns::Differences => {
                difference(&column.kind, old, datum).write_json(out)
            }
            _ => datum.write_json(out),
        }
    }
    if separator == '{' {
        if change.old.is_some() {
            out.truncate(start);
            return false;
        }
        out.push('{');
    }
    out.push('}');
    true
}
