//! `kill -9` at random moments: while a server starts and replays, while it commits, while it compacts.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ovsdb::storage::Kind;

use super::{CLIENTS, Compaction, Folder, Progress, check, commit_on, connect_until, create, random, start};

/// How long a server lives at most when it is killed as it starts, in microseconds.
const START: u64 = 25_000;
/// The longest that a server lives after it has acknowledged its first commit, in microseconds.
const LIFE: u64 = 40_000;
/// The longest that a compaction goes on undisturbed, in microseconds.
const COMPACTION: u64 = 40_000;
/// How long a server may take for its first commit.
const PATIENCE: Duration = Duration::from_secs(60);
/// Databases that are tortured side by side.
const LANES: usize = 3;

/// In the middle of what a server is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    Start,
    Commits,
    Compaction,
}

impl Moment {
    fn random() -> Self {
        match random(4) {
            0 => Self::Start,
            1 => Self::Compaction,
            _ => Self::Commits,
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Servers killed.
    pub kills: usize,
    /// Of these, as they started: some of them before they served anybody.
    pub starting: usize,
    /// Of these, with a compaction begun and not ended; and with one ended.
    pub compacting: usize,
    pub compacted: usize,
    /// Transactions that were acknowledged.
    pub acknowledged: i64,
    /// Transactions that were neither acknowledged nor lost.
    pub kept_anyway: i64,
    /// Transactions that were sent and lost, which nobody had promised to keep.
    pub unpromised: i64,
}

impl Outcome {
    fn plus(self, other: Self) -> Self {
        Self {
            kills: self.kills + other.kills,
            starting: self.starting + other.starting,
            compacting: self.compacting + other.compacting,
            compacted: self.compacted + other.compacted,
            acknowledged: self.acknowledged + other.acknowledged,
            kept_anyway: self.kept_anyway + other.kept_anyway,
            unpromised: self.unpromised + other.unpromised,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, starting, compacting, compacted, acknowledged, kept_anyway, unpromised } = self;
        write!(
            f,
            "{kills} kills ({starting} at the start, {compacting} within and {compacted} after a compaction): {acknowledged} \
             acknowledged commits, none lost; {kept_anyway} kept before they were acknowledged, {unpromised} gone without a \
             trace, none half applied"
        )
    }
}

/// Kills so many servers, some side by side, and says what was wrong first, if anything was. `tell` hears of every
/// thousand of one database.
pub fn run(root: &Path, kind: Kind, kills: usize, tell: fn(&Outcome)) -> Result<Outcome, String> {
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let (root, share) = (root.to_owned(), (kills + lane) / LANES);
            thread::spawn(move || run_lane(&root, kind, share, tell))
        })
        .collect();
    let mut sum = Outcome::default();
    for lane in lanes {
        sum = sum.plus(lane.join().map_err(|_| "a lane panicked".to_owned())??);
    }
    Ok(sum)
}

fn run_lane(root: &Path, kind: Kind, kills: usize, tell: fn(&Outcome)) -> Result<Outcome, String> {
    let folder = Folder::new(root, "kill");
    let db = folder.0.join("torture.db");
    create(&db, kind);
    let mut known = [Progress::default(); CLIENTS];
    let mut outcome = Outcome::default();
    while outcome.kills < kills {
        let before = known;
        live_and_die(&folder.0, &db, &mut known, &mut outcome)?;
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

/// The life of one server, and what its clients know when it is over.
fn live_and_die(
    folder: &Path,
    db: &Path,
    known: &mut [Progress; CLIENTS],
    outcome: &mut Outcome,
) -> Result<(), String> {
    let moment = Moment::random();
    let (commits, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (commits, over) = (&commits, &over);
    let server = start(Command::new("env"), folder, db);
    thread::scope(|scope| {
        let workers: Vec<_> = known
            .iter()
            .enumerate()
            .map(|(client, &progress)| {
                let until = move |done: Progress| {
                    // Called before each request: of the second on, the one before was acknowledged.
                    if done.sent > progress.sent {
                        commits.fetch_add(1, Ordering::Relaxed);
                    }
                    false
                };
                scope.spawn(move || match connect_until(folder, over) {
                    Some(stream) => commit_on(stream, client, progress, until),
                    None => progress,
                })
            })
            .collect();
        let began = Instant::now();
        while moment != Moment::Start && commits.load(Ordering::Relaxed) == 0 && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(200));
        }
        let compaction = (moment == Moment::Compaction).then(|| Compaction::begin(folder));
        let life = match moment {
            Moment::Start => START,
            Moment::Commits => LIFE,
            Moment::Compaction => COMPACTION,
        };
        thread::sleep(Duration::from_micros(random(life)));
        drop(server);
        over.store(true, Ordering::Relaxed);
        for (slot, worker) in known.iter_mut().zip(workers) {
            *slot =
                worker.join().map_err(|_| "a client was told that its transaction is wrong".to_owned())?;
        }
        outcome.kills += 1;
        outcome.starting += usize::from(moment == Moment::Start);
        match compaction.map(Compaction::has_ended) {
            Some(true) => outcome.compacted += 1,
            Some(false) => outcome.compacting += 1,
            None => {}
        }
        Ok(())
    })
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
