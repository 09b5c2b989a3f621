//! `kill -9` at random moments.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ovsdb::storage::Kind;

use super::{CLIENTS, Folder, Progress, check, commit_on, connect, create, random, start};

/// The longest that a server lives after it has acknowledged its first commit, in microseconds.
const LIFE: u64 = 20_000;
/// How long a server may take for its first commit.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Servers killed.
    pub kills: usize,
    /// Transactions that were acknowledged.
    pub acknowledged: i64,
    /// Transactions that were neither acknowledged nor lost.
    pub kept_anyway: i64,
    /// Transactions that were sent and lost, which nobody had promised to keep.
    pub unpromised: i64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, acknowledged, kept_anyway, unpromised } = self;
        write!(
            f,
            "{kills} kills: {acknowledged} acknowledged commits, none lost; {kept_anyway} kept before they were acknowledged, \
             {unpromised} gone without a trace, none half applied"
        )
    }
}

/// Kills so many servers, and says what was wrong first, if anything was. `tell` hears of every thousand.
pub fn run(root: &Path, kind: Kind, kills: usize, tell: impl Fn(&Outcome)) -> Result<Outcome, String> {
    let folder = Folder::new(root, "kill");
    let db = folder.0.join("torture.db");
    create(&db, kind);
    let mut known = [Progress::default(); CLIENTS];
    let mut outcome = Outcome::default();
    while outcome.kills < kills {
        let mut server = start(Command::new("env"), &folder.0, &db);
        let before = known;
        let commits = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = known
            .iter()
            .enumerate()
            .map(|(client, &progress)| {
                let (stream, commits) = (connect(&folder.0, &mut server), commits.clone());
                thread::spawn(move || {
                    let until = |done: Progress| {
                        // Called before each request: of the second on, the one before was acknowledged.
                        if done.sent > progress.sent {
                            commits.fetch_add(1, Ordering::Relaxed);
                        }
                        false
                    };
                    commit_on(stream, client, progress, until)
                })
            })
            .collect();
        let began = Instant::now();
        while commits.load(Ordering::Relaxed) == 0 && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_micros(random(LIFE)));
        drop(server);
        for (slot, worker) in known.iter_mut().zip(workers) {
            *slot =
                worker.join().map_err(|_| "a client was told that its transaction is wrong".to_owned())?;
        }
        outcome.kills += 1;
        let numbers = check(&db, &known).map_err(|what| {
            format!("after {} kills: {what} (the database stays at {})", outcome.kills, keep(&db))
        })?;
        for ((slot, number), before) in known.iter_mut().zip(numbers).zip(before) {
            outcome.acknowledged += slot.acknowledged - before.acknowledged;
            outcome.kept_anyway += number - slot.acknowledged;
            outcome.unpromised += slot.sent - number;
            *slot = Progress { sent: number, acknowledged: number };
        }
        if outcome.kills.is_multiple_of(1000) && outcome.kills < kills {
            tell(&outcome);
        }
    }
    Ok(outcome)
}

/// Saves a database that is wrong.
fn keep(db: &Path) -> String {
    let saved = std::env::temp_dir().join(format!("ovsdb-torture-failed-{}", std::process::id()));
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", db.display());
        let _ = std::fs::copy(from, format!("{}{suffix}", saved.display()));
    }
    saved.display().to_string()
}
