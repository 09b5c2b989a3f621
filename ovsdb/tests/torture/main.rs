//! What survives: a server that is killed, or a disk that loses what was not synced, over and over.
//!
//! Clients commit durably and at the same time. Each transaction adds the [`PARTS`] entries of its number, takes away old
//! ones and sets the client's account to that number; so a look at the database tells whether a transaction was
//! acknowledged and lost, or kept by halves.
//!
//! Every run is short, unless `TORTURE` says otherwise: `KILLS TRANSACTIONS`, as `scripts/torture` sets it.
//! `TORTURE_SERVER` is the program, if not the one that was built with this.

mod kill;
mod power;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use flow::time::WallTime;
use ovsdb::database::{Database, Row};
use ovsdb::schema::DatabaseSchema;
use ovsdb::storage::{self, Kind};
use ovsdb::transaction::Transaction;
use ovsdb::value::{Datum, Uuid};
use serde_json::{Value, json};

/// Entries of a transaction.
const PARTS: i64 = 3;
/// Numbers whose entries are kept.
const KEPT: i64 = 6;
/// Clients that commit at the same time.
const CLIENTS: usize = 6;

/// The highest numbers of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Progress {
    /// That was sent.
    sent: i64,
    /// That the server said to be committed.
    acknowledged: i64,
}

/// A kind's name, as options have it.
fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Journal => "journal",
        Kind::Sqlite => "sqlite",
    }
}

/// A random number below `n`, from bits that are different every time.
fn random(n: u64) -> u64 {
    u64::try_from(ovsdb::transact::random_uuid().0 >> 72).unwrap_or(0) % n.max(1)
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(root: &Path, name: &str) -> Self {
        let path = root.join(format!("ovsdb-torture-{name}-{}-{:x}", std::process::id(), random(1 << 40)));
        fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn schema() -> Value {
    json!({
        "name": "Torture", "version": "1.0.0",
        "tables": {
            "Account": { "columns": { "client": {"type": "integer"}, "number": {"type": "integer"} },
                         "isRoot": true, "indexes": [["client"]] },
            "Entry": { "columns": { "client": {"type": "integer"}, "number": {"type": "integer"}, "part": {"type": "integer"},
                                    "text": {"type": "string"} },
                       "isRoot": true, "indexes": [["client", "number", "part"]] }
        }
    })
}

/// Creates the database and a row for every client.
fn create(path: &Path, kind: Kind) {
    let schema = DatabaseSchema::from_json(&schema()).expect("a schema");
    let mut db = Database::new(schema.into());
    let accounts = db.table_id("Account").expect("a table");
    let columns = db.table(accounts).schema().clone();
    let mut txn = Transaction::new(&db);
    for client in 0..CLIENTS {
        let mut row = Row::new(&columns);
        row.set_uuid(Uuid(client as u128 + 1));
        row.set(columns.column("client").expect("a column"), Datum::one(client as i64));
        txn.insert(accounts, row);
    }
    let changes = txn.finish(&mut ovsdb::transact::random_uuid).expect("the rows keep the rules");
    db.apply(&changes);
    storage::create(path, kind, &db, "created", WallTime(1)).expect("a database can be created");
}

/// A process that is about to become another has all open files of this one, and the locks on them: none is started while
/// a database is open.
static GATE: RwLock<()> = RwLock::new(());

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server: the program and what `command` already has before it.
fn start(mut command: Command, folder: &Path, db: &Path) -> Server {
    let socket = folder.join("db.sock");
    let _ = fs::remove_file(&socket);
    let program =
        std::env::var_os("TORTURE_SERVER").unwrap_or_else(|| env!("CARGO_BIN_EXE_ovsdb-server").into());
    command.arg(program).arg(db).arg(format!("--remote=punix:{}", socket.display()));
    command
        .arg(format!("--pidfile={}", folder.join("pid").display()))
        .arg(format!("--unixctl={}", folder.join("ctl").display()))
        .args(["-vconsole:off", "-vsyslog:off"]);
    command.envs(["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"].map(|name| (name, folder)));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _alone = GATE.write().unwrap_or_else(PoisonError::into_inner);
    Server(command.spawn().expect("the server can be started"))
}

fn connect(folder: &Path, server: &mut Server) -> UnixStream {
    let began = Instant::now();
    loop {
        if let Ok(stream) = UnixStream::connect(folder.join("db.sock")) {
            return stream;
        }
        let ended = server.0.try_wait().ok().flatten();
        assert!(ended.is_none(), "the server does not start: {ended:?}");
        assert!(began.elapsed() < Duration::from_secs(60), "the server does not listen");
        thread::sleep(Duration::from_micros(500));
    }
}

/// A connection as soon as the server listens, unless it is `over` first.
fn connect_until(folder: &Path, over: &AtomicBool) -> Option<UnixStream> {
    while !over.load(Ordering::Relaxed) {
        if let Ok(stream) = UnixStream::connect(folder.join("db.sock")) {
            return Some(stream);
        }
        thread::sleep(Duration::from_micros(500));
    }
    None
}

/// A compaction that the server was asked for.
struct Compaction(Option<UnixStream>);

impl Compaction {
    fn begin(folder: &Path) -> Self {
        let request = json!({"id": 0, "method": "ovsdb-server/compact", "params": []}).to_string();
        let stream = UnixStream::connect(folder.join("ctl")).ok();
        Self(stream.filter(|mut stream| stream.write_all(request.as_bytes()).is_ok()))
    }

    /// True if the server, which is gone by now, or else is waited for, has said that it is done.
    fn has_ended(self) -> bool {
        let mut chunk = [0; 4096];
        self.0.is_some_and(|mut stream| stream.read(&mut chunk).is_ok_and(|n| n > 0))
    }
}

/// The id of a client's request.
fn id_of(client: usize, number: i64) -> i64 {
    client as i64 * 1_000_000_000 + number
}

fn request(client: usize, number: i64) -> String {
    let mine = json!(["client", "==", client]);
    let mut params = vec![json!("Torture")];
    for part in 0..PARTS {
        let text =
            format!("{client} {number} {part} {}", "x".repeat(usize::try_from(number % 700).unwrap_or(0)));
        let row = json!({"client": client, "number": number, "part": part, "text": text});
        params.push(json!({"op": "insert", "table": "Entry", "row": row}));
    }
    params.push(json!({"op": "delete", "table": "Entry", "where": [mine, ["number", "<=", number - KEPT]]}));
    params.push(json!({"op": "update", "table": "Account", "where": [mine], "row": {"number": number}}));
    params.push(json!({"op": "commit", "durable": true}));
    json!({"method": "transact", "params": params, "id": id_of(client, number)}).to_string()
}

/// Commits one transaction after the other until the server is gone or `until` says to stop.
fn commit_on(
    mut stream: UnixStream,
    client: usize,
    mut progress: Progress,
    until: impl Fn(Progress) -> bool,
) -> Progress {
    let mut chunk = [0; 4096];
    while !until(progress) {
        let number = progress.sent + 1;
        progress.sent = number;
        if stream.write_all(request(client, number).as_bytes()).is_err() {
            return progress;
        }
        let mut reply = Vec::new();
        let value: Value = loop {
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return progress,
                Ok(n) => reply.extend_from_slice(&chunk[..n]),
            }
            if let Ok(value) = serde_json::from_slice(&reply) {
                break value;
            }
        };
        let results = value["result"].as_array().cloned().unwrap_or_default();
        assert!(
            results.len() == PARTS as usize + 3 && !results.iter().any(|r| r.get("error").is_some()),
            "{value}"
        );
        progress.acknowledged = number;
    }
    progress
}

/// What a database says of each client, or what is wrong with it.
fn inspect(db: &Database) -> Result<Vec<i64>, String> {
    let rows = |name: &str| {
        let table = db.table_named(name).ok_or_else(|| format!("no table {name}"))?;
        let columns: BTreeMap<String, usize> =
            table.schema().own_columns().map(|(at, column)| (column.name.to_string(), at)).collect();
        let rows: Vec<BTreeMap<String, i64>> = table
            .rows()
            .map(|row| {
                let column = |(name, at): (&String, &usize)| Some((name.clone(), row.get(*at).as_integer()?));
                columns.iter().filter_map(column).collect()
            })
            .collect();
        Ok::<_, String>(rows)
    };
    let mut numbers = vec![None; CLIENTS];
    for account in rows("Account")? {
        let client = usize::try_from(account["client"]).unwrap_or(usize::MAX);
        let slot = numbers.get_mut(client).ok_or_else(|| format!("an account of client {client}"))?;
        *slot = Some(account["number"]);
    }
    let numbers: Vec<i64> =
        numbers.into_iter().collect::<Option<_>>().ok_or_else(|| "an account is missing".to_owned())?;
    let mut parts: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for entry in rows("Entry")? {
        *parts.entry((entry["client"], entry["number"])).or_default() += 1;
    }
    let mut expected = BTreeMap::new();
    for (client, &number) in numbers.iter().enumerate() {
        for kept in (number - KEPT + 1).max(1)..=number {
            expected.insert((client as i64, kept), PARTS);
        }
    }
    if parts == expected {
        return Ok(numbers);
    }
    Err(format!("accounts {numbers:?} do not fit the entries: a transaction is kept by halves: {parts:?}"))
}

/// Opens a database as a server would and holds it against what clients know.
fn check(db: &Path, known: &[Progress]) -> Result<Vec<i64>, String> {
    let _open = GATE.read().unwrap_or_else(PoisonError::into_inner);
    let opened = storage::open(db, false).map_err(|error| error.to_string())?;
    let numbers = inspect(&opened.database)?;
    for (client, (&number, known)) in numbers.iter().zip(known).enumerate() {
        if number < known.acknowledged {
            return Err(format!(
                "client {client}: {} was acknowledged, {number} is kept",
                known.acknowledged
            ));
        }
        if number > known.sent {
            return Err(format!("client {client}: {number} is kept, {} was sent last", known.sent));
        }
    }
    Ok(numbers)
}

fn torture(kind: Kind) {
    let wanted = std::env::var("TORTURE").unwrap_or_else(|_| "40 12".to_owned());
    let (kills, transactions) = wanted.split_once(' ').expect("TORTURE is KILLS TRANSACTIONS");
    let (kills, transactions) = (kills.parse().expect("a number"), transactions.parse().expect("a number"));
    let (root, name) = (std::env::temp_dir(), name_of(kind));
    let killed = kill::run(&root, kind, kills, |outcome| println!("so far {outcome}")).unwrap();
    println!("{name}: {killed}");
    assert!(killed.acknowledged > 0, "nothing was committed");
    if !power::is_available() {
        println!("{name}: strace is not installed: no power cuts");
        return;
    }
    let cut = power::run(&root, kind, transactions).unwrap();
    println!("{name}: {cut}");
    assert!(cut.syncs as i64 >= transactions && cut.disks > cut.syncs, "{cut}");
}

#[test]
fn a_journal_survives() {
    torture(Kind::Journal);
}

#[test]
fn a_sqlite_file_survives() {
    torture(Kind::Sqlite);
}
