//! The thread `db-io`: it owns the storages and writes what the server commits.
//!
//! While one group is being written, the next gathers: all jobs that wait for a database go in one write, which is
//! synced if one of them wants that. Jobs come as groups of what the server did at once. A compaction has a thread of its own, for it may take seconds: only its end, when
//! the new file takes over, is between two writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use flow::time::Clock;

use super::{CommitSeq, WriteJob};
use crate::error::Error;
use crate::storage::{Columns, Record, Rewritten, Storage};

/// Groups that may wait; who sends more waits until the disk has caught up.
const QUEUE_LIMIT: usize = 256;
/// Records written as one group.
const GROUP_LIMIT: usize = 1024;

/// What the thread is told.
enum Job {
    Attach(Arc<str>, Box<dyn Storage>),
    Detach(Arc<str>),
    Columns(Columns),
    /// Jobs that go with each other; at least one.
    Write(Vec<WriteJob>),
    Resume(Arc<str>),
    /// The sender is for the news that the thread of the compaction is done.
    Compact(Arc<str>, Record, SyncSender<Job>),
    Compacted(Arc<str>, Result<Rewritten, Error>),
}

/// What became of something that the thread was told.
#[derive(Debug)]
pub enum Report {
    /// A group of commits.
    Written(Written),
    /// A compaction of a database.
    Compacted(Arc<str>, Result<(), Error>),
}

/// How the write of a group of commits went.
#[derive(Debug)]
pub struct Written {
    /// The database.
    pub db: Arc<str>,
    /// The last commit of the group; all before it are written too.
    pub seq: CommitSeq,
    /// Whether the group is kept.
    pub outcome: Result<(), Error>,
    /// So much has been appended that a compaction would pay.
    pub has_grown: bool,
}

/// A handle on the thread. Dropping it ends the thread when its jobs are done.
pub struct DbIo {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl DbIo {
    /// Starts the thread; `report` is called in it for every group and every compaction.
    pub fn start(clock: Arc<dyn Clock>, report: impl Fn(Report) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel(QUEUE_LIMIT);
        let mut worker = Worker {
            storages: BTreeMap::new(),
            columns: Columns::default(),
            failed: BTreeSet::new(),
            clock,
            report: Box::new(report),
        };
        let thread =
            std::thread::Builder::new().name("db-io".to_owned()).spawn(move || worker.run(&inbox))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread lives as long as this handle.
            let _ = jobs.send(job);
        }
    }

    /// Gives the thread a database's storage.
    pub fn attach(&self, db: Arc<str>, storage: Box<dyn Storage>) {
        self.send(Job::Attach(db, storage));
    }

    /// Closes a database's storage when what was sent for it is written.
    pub fn detach(&self, db: Arc<str>) {
        self.send(Job::Detach(db));
    }

    /// How changes are written from now on, to all databases.
    pub fn write_columns(&self, columns: Columns) {
        self.send(Job::Columns(columns));
    }

    /// Writes jobs that [go with each other](WriteJob::goes_with).
    pub(super) fn write(&self, jobs: Vec<WriteJob>) {
        self.send(Job::Write(jobs));
    }

    /// Compacts: `everything` is what all that was sent so far for the database amounts to.
    pub fn compact(&self, db: Arc<str>, everything: Record) {
        if let Some(jobs) = &self.jobs {
            self.send(Job::Compact(db, everything, jobs.clone()));
        }
    }

    /// After a failure: what is sent from now on counts again.
    pub fn resume(&self, db: Arc<str>) {
        self.send(Job::Resume(db));
    }
}

impl Drop for DbIo {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did there were nothing left to do about it.
            let _ = thread.join();
        }
    }
}

struct Worker {
    storages: BTreeMap<Arc<str>, Box<dyn Storage>>,
    columns: Columns,
    /// Databases of which a write failed; writes that build on it are refused until the server has taken them back.
    failed: BTreeSet<Arc<str>>,
    clock: Arc<dyn Clock>,
    report: Box<dyn Fn(Report) + Send>,
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Job>) {
        let mut next = None;
        loop {
            let job = match next.take() {
                Some(job) => job,
                None => match inbox.recv() {
                    Ok(job) => job,
                    Err(RecvError) => return,
                },
            };
            match job {
                Job::Attach(db, mut storage) => {
                    self.failed.remove(&db);
                    storage.write_columns(self.columns);
                    self.storages.insert(db, storage);
                }
                Job::Detach(db) => {
                    self.storages.remove(&db);
                }
                Job::Columns(columns) => {
                    self.columns = columns;
                    self.storages.values_mut().for_each(|storage| storage.write_columns(columns));
                }
                Job::Resume(db) => {
                    self.failed.remove(&db);
                }
                Job::Write(first) => next = self.gather(first, inbox),
                Job::Compact(db, everything, done) => self.compact(db, everything, done),
                Job::Compacted(db, outcome) => {
                    let outcome = match self.storages.get_mut(&db) {
                        Some(storage) => storage.compacted(outcome),
                        None => Err(closed(&db)),
                    };
                    (self.report)(Report::Compacted(db, outcome));
                }
            }
        }
    }

    fn compact(&mut self, db: Arc<str>, everything: Record, done: SyncSender<Job>) {
        let Some(storage) = self.storages.get_mut(&db) else {
            (self.report)(Report::Compacted(db.clone(), Err(closed(&db))));
            return;
        };
        if self.failed.contains(&db) {
            // What it was made of includes commits that are about to be taken back.
            (self.report)(Report::Compacted(db, Err(Error::io_plain("an earlier write failed"))));
            return;
        }
        let work = storage.compact(everything, self.clock.wall());
        let name = db.clone();
        let started = std::thread::Builder::new().name("compact".to_owned()).spawn(move || {
            let outcome = work();
            // The receiver waits for this sender before it ends.
            let _ = done.send(Job::Compacted(name, outcome));
        });
        if let Err(error) = started {
            let outcome = storage.compacted(Err(Error::io(&error, "could not start a thread")));
            (self.report)(Report::Compacted(db, outcome));
        }
    }

    /// Writes `first` with what waits behind it; returns the first job that does not belong to the group.
    fn gather(&mut self, mut group: Vec<WriteJob>, inbox: &Receiver<Job>) -> Option<Job> {
        let db = group.first()?.db.clone();
        let mut next = None;
        let goes_with = |group: &[WriteJob], jobs: &[WriteJob]| {
            group.last().zip(jobs.first()).is_some_and(|(last, next)| last.goes_with(next))
        };
        while group.len() < GROUP_LIMIT {
            match inbox.try_recv() {
                Ok(Job::Write(jobs)) if goes_with(&group, &jobs) => group.extend(jobs),
                Ok(job) => {
                    next = Some(job);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.write(&db, group);
        next
    }

    fn write(&mut self, db: &Arc<str>, group: Vec<WriteJob>) {
        let durable = group.iter().any(|job| job.durable);
        let Some(seq) = group.last().map(|job| job.seq) else { return };
        let records: Vec<Record> = group.into_iter().map(|job| job.record).collect();
        let outcome = match self.storages.get_mut(db) {
            _ if self.failed.contains(db) => Err(Error::io_plain("an earlier write failed")),
            Some(storage) => storage.write(&records, durable, self.clock.wall()),
            None => Err(closed(db)),
        };
        if let Err(error) = &outcome {
            tracing::warn!(target: "ovsdb_log", "{}", error.details.as_deref().unwrap_or_default());
            self.failed.insert(db.clone());
        }
        let has_grown = self.storages.get(db).is_some_and(|storage| storage.has_grown());
        (self.report)(Report::Written(Written { db: db.clone(), seq, outcome, has_grown }));
    }
}

fn closed(db: &str) -> Error {
    Error::io_plain(format!("{db}: the database file is closed"))
}
