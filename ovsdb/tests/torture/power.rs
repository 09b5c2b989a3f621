//! Power cuts: what a server writes is recorded (by `strace`), and the disk is made up as it could have been at every
//! moment: what was synced is there; of the rest nothing, everything, or any sectors and names in any mixture.
//!
//! A file is as long-lived as its name: a new or renamed file is there for certain only once its folder was synced.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use ovsdb::storage::Kind;

use super::{CLIENTS, Compaction, Folder, Progress, check, commit_on, connect, create, id_of, random, start};

/// What a disk writes whole.
const SECTOR: usize = 512;
/// Mixtures that are made up of each moment.
const MIXTURES: usize = 4;
/// How often the database is compacted.
const COMPACT_EVERY: Duration = Duration::from_millis(150);

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// System calls recorded that write, sync, or reply.
    pub recorded: usize,
    /// Syncs among them.
    pub syncs: usize,
    /// Compactions that were recorded.
    pub compactions: usize,
    /// Disks made up and opened.
    pub disks: usize,
    /// Transactions that were acknowledged.
    pub acknowledged: i64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recorded, syncs, compactions, disks, acknowledged } = self;
        write!(
            f,
            "power cuts: {recorded} calls with {syncs} syncs and {compactions} compactions recorded, {disks} disks made up and \
             opened: of {acknowledged} acknowledged commits none lost, none half applied"
        )
    }
}

/// One system call of interest.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Call {
    Open { fd: i64, path: PathBuf, truncate: bool },
    Close(i64),
    Write { fd: i64, at: Option<u64>, bytes: Vec<u8> },
    Seek { fd: i64, to: u64 },
    Truncate { fd: i64, length: u64 },
    Sync(i64),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

/// A change of a file that is not synced yet.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>, mut reaches: impl FnMut() -> bool) {
        match self {
            Self::Truncate(length) => {
                if reaches() {
                    content.resize(*length, 0);
                }
            }
            Self::Write(at, bytes) => {
                let mut done = 0;
                while done < bytes.len() {
                    let place = at + done;
                    let n = (SECTOR - place % SECTOR).min(bytes.len() - done);
                    if reaches() {
                        content.resize(content.len().max(place + n), 0);
                        content[place..place + n].copy_from_slice(&bytes[done..done + n]);
                    }
                    done += n;
                }
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    synced: Vec<u8>,
    changes: Vec<Change>,
}

impl File {
    fn now(&self) -> Vec<u8> {
        self.mixed(|| true)
    }

    fn mixed(&self, mut reaches: impl FnMut() -> bool) -> Vec<u8> {
        let mut content = self.synced.clone();
        self.changes.iter().for_each(|change| change.apply(&mut content, &mut reaches));
        content
    }
}

/// The disk: files by number, names as they are and as they are for certain.
#[derive(Default)]
struct Disk {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    certain: BTreeMap<PathBuf, usize>,
    /// Open files: which, and where the next write goes.
    open: BTreeMap<i64, (Option<usize>, PathBuf, u64)>,
}

impl Disk {
    /// The files of a folder, all synced.
    fn read(folder: &Path) -> Self {
        let mut disk = Self::default();
        for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
            if let Ok(synced) = fs::read(entry.path()) {
                disk.names.insert(entry.path(), disk.files.len());
                disk.files.push(File { synced, changes: Vec::new() });
            }
        }
        disk.certain = disk.names.clone();
        disk
    }

    fn apply(&mut self, call: &Call, folder: &Path) {
        match call {
            Call::Open { fd, path, truncate } => {
                let known = self.names.get(path).copied();
                let number = known.or_else(|| {
                    (path.parent() == Some(folder)).then(|| {
                        self.files.push(File::default());
                        self.names.insert(path.clone(), self.files.len() - 1);
                        self.files.len() - 1
                    })
                });
                if let (Some(number), true) = (number, *truncate) {
                    self.files[number].changes.push(Change::Truncate(0));
                }
                self.open.insert(*fd, (number, path.clone(), 0));
            }
            Call::Close(fd) => {
                self.open.remove(fd);
            }
            Call::Seek { fd, to } => {
                if let Some(open) = self.open.get_mut(fd) {
                    open.2 = *to;
                }
            }
            Call::Write { fd, at, bytes } => {
                let Some((Some(number), _, position)) = self.open.get_mut(fd) else { return };
                let place = at.unwrap_or(*position);
                if at.is_none() {
                    *position += bytes.len() as u64;
                }
                let place = usize::try_from(place).expect("files are small");
                self.files[*number].changes.push(Change::Write(place, bytes.clone()));
            }
            Call::Truncate { fd, length } => {
                let Some((Some(number), ..)) = self.open.get(fd) else { return };
                let length = usize::try_from(*length).expect("files are small");
                self.files[*number].changes.push(Change::Truncate(length));
            }
            Call::Sync(fd) => match self.open.get(fd) {
                Some((_, path, _)) if path == folder => self.certain = self.names.clone(),
                Some((Some(number), ..)) => {
                    let file = &mut self.files[*number];
                    file.synced = file.now();
                    file.changes.clear();
                }
                _ => {}
            },
            Call::Rename(from, to) => {
                if let Some(number) = self.names.remove(from) {
                    self.names.insert(to.clone(), number);
                }
            }
            Call::Unlink(path) => {
                self.names.remove(path);
            }
        }
    }

    /// Writes the disk as it may be found into `folder`: each change and name reaches it if `reaches` says so.
    fn write(&self, folder: &Path, mut reaches: impl FnMut() -> bool) {
        let mut names = self.certain.clone();
        for (path, number) in &self.names {
            if names.get(path) != Some(number) && reaches() {
                names.insert(path.clone(), *number);
            }
        }
        for path in self.certain.keys().filter(|path| !self.names.contains_key(*path)) {
            if reaches() {
                names.remove(path);
            }
        }
        for (path, number) in names {
            let name = path.file_name().expect("files have names");
            if name.to_string_lossy().contains("-shm") {
                continue;
            }
            fs::write(folder.join(name), self.files[number].mixed(&mut reaches))
                .expect("a file can be written");
        }
    }
}

/// The bytes of a string that `strace -xx` printed: `\x` and two digits each.
fn bytes_of(text: &str) -> Vec<u8> {
    text.split("\\x").filter_map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok()).collect()
}

/// The strings and the other arguments of a call.
fn arguments(text: &str) -> (Vec<Vec<u8>>, Vec<&str>) {
    let pieces: Vec<&str> = text.split('"').collect();
    let strings = pieces.iter().skip(1).step_by(2).map(|piece| bytes_of(piece)).collect();
    let others = pieces.iter().step_by(2).flat_map(|piece| piece.split(',')).map(str::trim);
    (strings, others.filter(|other| !other.is_empty()).collect())
}

/// A line of the record: when a call is told to begin, and when to end.
struct Line {
    name: String,
    arguments: String,
    result: Option<i64>,
}

/// Puts the record together: data counts from the beginning of a call, syncs and names from its end.
fn parse(log: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            let Some((name, arguments)) = begun.split_once('(') else { continue };
            unfinished.insert(thread, (name.to_owned(), arguments.to_owned()));
            call(&Line { name: name.to_owned(), arguments: arguments.to_owned(), result: None }, &mut calls);
            continue;
        }
        let result = rest.rsplit_once(" = ").and_then(|(_, result)| result.split(' ').next()?.parse().ok());
        if rest.starts_with("<... ") {
            if let Some((name, arguments)) = unfinished.remove(thread) {
                // Only what counts from the end is left to be told.
                if !matches!(name.as_str(), "write" | "pwrite64" | "sendto" | "ftruncate") {
                    call(&Line { name, arguments, result }, &mut calls);
                }
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        let arguments = arguments.rsplit_once(')').map_or(arguments, |(arguments, _)| arguments);
        call(&Line { name: name.to_owned(), arguments: arguments.to_owned(), result }, &mut calls);
    }
    calls
}

fn call(line: &Line, calls: &mut Vec<Call>) {
    let (strings, others) = arguments(&line.arguments);
    let number = |at: usize| others.get(at).and_then(|text| text.parse::<i64>().ok());
    let offset = |at: usize| number(at).and_then(|n| u64::try_from(n).ok());
    let path =
        |at: usize| strings.get(at).map(|bytes| PathBuf::from(String::from_utf8_lossy(bytes).into_owned()));
    let ended_well = line.result.is_some_and(|result| result >= 0);
    let made = match line.name.as_str() {
        "write" | "sendto" => {
            let bytes = strings.first().cloned().unwrap_or_default();
            number(0).map(|fd| Call::Write { fd, at: None, bytes })
        }
        "pwrite64" => {
            let bytes = strings.first().cloned().unwrap_or_default();
            // Descriptor, length, place.
            number(0).map(|fd| Call::Write { fd, at: offset(2), bytes })
        }
        "ftruncate" => number(0).zip(offset(1)).map(|(fd, length)| Call::Truncate { fd, length }),
        _ if !ended_well => None,
        "openat" => line.result.zip(path(0)).map(|(fd, path)| {
            let truncate = line.arguments.contains("O_TRUNC");
            Call::Open { fd, path, truncate }
        }),
        "close" => number(0).map(Call::Close),
        "lseek" => number(0).zip(line.result).map(|(fd, to)| Call::Seek { fd, to: to.unsigned_abs() }),
        "fsync" | "fdatasync" => number(0).map(Call::Sync),
        "rename" | "renameat" | "renameat2" => path(0).zip(path(1)).map(|(from, to)| Call::Rename(from, to)),
        "unlink" | "unlinkat" => path(0).map(Call::Unlink),
        _ => None,
    };
    calls.extend(made);
}

/// Which transactions a server tells its clients to be committed by writing these bytes.
fn acknowledge(bytes: &[u8], known: &mut [Progress]) {
    let text = String::from_utf8_lossy(bytes);
    for piece in text.split("\"id\":").skip(1) {
        let digits: String = piece.chars().take_while(char::is_ascii_digit).collect();
        let Ok(id) = digits.parse::<i64>() else { continue };
        let client = usize::try_from(id / id_of(1, 0)).unwrap_or(usize::MAX);
        if let Some(progress) = known.get_mut(client)
            && !piece.contains("\"details\"")
        {
            progress.acknowledged = progress.acknowledged.max(id % id_of(1, 0));
        }
    }
}

/// True if writes can be recorded.
pub fn is_available() -> bool {
    Command::new("strace").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Has clients commit `transactions` each, then cuts the power at every sync and between. Says what was wrong first.
pub fn run(root: &Path, kind: Kind, transactions: i64) -> Result<Outcome, String> {
    let folder = Folder::new(root, "power");
    let db = folder.0.join("torture.db");
    create(&db, kind);
    let disk = Disk::read(&folder.0);
    let record = Folder::new(root, "record");
    let log = record.0.join("log");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-xx", "-s", "4194304", "-e", "signal=none", "-o"]).arg(&log);
    command.args([
        "-e",
        "trace=openat,close,write,pwrite64,lseek,sendto,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat",
    ]);
    let mut server = start(command, &folder.0, &db);
    let workers: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let stream = connect(&folder.0, &mut server);
            thread::spawn(move || {
                commit_on(stream, client, Progress::default(), |done| done.sent >= transactions)
            })
        })
        .collect();
    // While they commit, the database is compacted, again and again.
    let mut compactions = 0;
    while workers.iter().any(|worker| !worker.is_finished()) {
        compactions += usize::from(Compaction::begin(&folder.0).has_ended());
        thread::sleep(COMPACT_EVERY);
    }
    for worker in workers {
        worker.join().map_err(|_| "a client was told that its transaction is wrong".to_owned())?;
    }
    let text = fs::read_to_string(&log).map_err(|error| format!("no record: {error}"))?;
    // The server is a child of strace, which would leave it behind.
    let pid = fs::read_to_string(folder.0.join("pid")).unwrap_or_default();
    let _ = Command::new("kill").args(["-9", pid.trim()]).status();
    let _ = server.0.wait();
    let outcome = Outcome { compactions, ..Outcome::default() };
    replay(disk, &parse(&text), &folder.0, transactions, outcome)
}

fn replay(
    mut disk: Disk,
    calls: &[Call],
    folder: &Path,
    transactions: i64,
    mut outcome: Outcome,
) -> Result<Outcome, String> {
    // Made-up disks need not be synced: in memory, if there is a place for that.
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let mut known = vec![Progress { sent: transactions, acknowledged: 0 }; CLIENTS];
    outcome.recorded = calls.len();
    for (n, call) in calls.iter().enumerate() {
        let is_sync = matches!(call, Call::Sync(_));
        if is_sync {
            outcome.syncs += 1;
        }
        if is_sync || random(16) == 0 || n + 1 == calls.len() {
            for mixture in 0..MIXTURES + 2 {
                let found = Folder::new(&root, "disk");
                match mixture {
                    0 => disk.write(&found.0, || false),
                    1 => disk.write(&found.0, || true),
                    _ => disk.write(&found.0, || random(2) == 0),
                }
                outcome.disks += 1;
                check(&found.0.join("torture.db"), &known)
                    .map_err(|what| format!("power cut before call {n} ({mixture}): {what}"))?;
            }
        }
        if let Call::Write { fd, bytes, .. } = call
            && !disk.open.get(fd).is_some_and(|(number, ..)| number.is_some())
        {
            acknowledge(bytes, &mut known);
        }
        disk.apply(call, folder);
    }
    outcome.acknowledged = known.iter().map(|progress| progress.acknowledged).sum();
    if outcome.acknowledged != transactions * CLIENTS as i64 {
        return Err(format!("the record shows {} acknowledgements only", outcome.acknowledged));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_understood() {
        let log = "7 openat(AT_FDCWD, \"\\x2f\\x64\", O_RDWR|O_TRUNC, 0666) = 5\n\
                   7 pwrite64(5, \"\\x61\\x62\", 2, 100) = 2\n\
                   8 fdatasync(5 <unfinished ...>\n\
                   7 sendto(9, \"\\x63\", 1, MSG_NOSIGNAL, NULL, 0) = 1\n\
                   8 <... fdatasync resumed>) = 0\n\
                   8 fsync(5) = -1 EIO (Input/output error)\n";
        let expected = [
            Call::Open { fd: 5, path: "/d".into(), truncate: true },
            Call::Write { fd: 5, at: Some(100), bytes: b"ab".to_vec() },
            Call::Write { fd: 9, at: None, bytes: b"c".to_vec() },
            Call::Sync(5),
        ];
        assert_eq!(parse(log), expected);
    }

    #[test]
    fn a_disk_has_what_was_synced() {
        let folder = Path::new("/d");
        let mut disk = Disk::default();
        for call in [
            Call::Open { fd: 3, path: "/d/a".into(), truncate: false },
            Call::Write { fd: 3, at: None, bytes: b"one".to_vec() },
            Call::Sync(3),
            Call::Write { fd: 3, at: None, bytes: b"two".to_vec() },
        ] {
            disk.apply(&call, folder);
        }
        assert_eq!(disk.files[0].mixed(|| false), b"one");
        assert_eq!(disk.files[0].now(), b"onetwo");
        assert!(disk.certain.is_empty(), "the folder was not synced");
    }
}
