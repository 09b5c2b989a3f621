//! What several tests need.
#![allow(dead_code, reason = "not every test needs all of it")]

pub mod southbound;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ovsdb::database::{Change, Database};
use ovsdb::storage::{self, Record};
use ovsdb::transact::{self, Context, Outcome};
use serde_json::{Value, json};

/// A folder that goes when it is dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ovsdb-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Commits the parameters of a `transact` request, and returns what storage would keep of it.
pub fn commit(db: &mut Database, params: &Value) -> Option<Record> {
    let locks = BTreeSet::new();
    let context = Context {
        locks: &locks,
        read_only: false,
        client: Default::default(),
        elapsed_ms: 0,
        can_wait: false,
        new_uuid: transact::random_uuid,
    };
    let Outcome::Done { results, commit } = transact::execute(db, params, &context) else { panic!("waits") };
    let commit = commit.unwrap_or_else(|| panic!("{results:?}"));
    let record = Record::transaction(db, &commit);
    db.apply(&commit.changes);
    record
}

/// Every row with its lasting columns, in order.
pub fn content(db: &Database) -> Vec<String> {
    let row = |change: &Change| {
        let table = db.table(change.table).schema();
        format!("{} {} {}", table.name, change.uuid(), storage::row_text(table, change).unwrap())
    };
    db.snapshot().iter().map(row).collect()
}

/// A server that is killed when this is dropped.
pub struct Process {
    child: Child,
    pidfile: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be the child of a child.
        let pid = fs::read_to_string(&self.pidfile).unwrap_or_default();
        let _ = Command::new("kill").args(["-9", pid.trim()]).stderr(Stdio::null()).status();
        let (process, began) = (Path::new("/proc").join(pid.trim()), Instant::now());
        let is_other = process.exists() && pid.trim() != self.child.id().to_string() && !pid.is_empty();
        while is_other && process.exists() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a database server; `command` may have something before the program, such as `env`. It listens when this returns.
pub fn start(mut command: Command, program: &str, folder: &Path, db: &Path) -> Process {
    let socket = folder.join("db.sock");
    let _ = fs::remove_file(&socket);
    command
        .arg(program)
        .arg(db)
        .arg(format!("--remote=punix:{}", socket.display()))
        .arg(format!("--unixctl={}", folder.join("ctl").display()))
        .arg(format!("--pidfile={}", folder.join("pid").display()))
        .args(["-vconsole:off", "-vsyslog:off"])
        .envs(["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"].map(|name| (name, folder)));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let process = Process { child, pidfile: folder.join("pid") };
    let began = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(began.elapsed() < Duration::from_secs(120), "the server does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
    process
}

/// A connection to a server.
pub struct Client(UnixStream);

impl Client {
    pub fn connect(folder: &Path) -> Self {
        Self(UnixStream::connect(folder.join("db.sock")).unwrap())
    }

    /// A connection for commands.
    pub fn control(folder: &Path) -> Self {
        Self(UnixStream::connect(folder.join("ctl")).unwrap())
    }

    /// Sends a request and returns the reply, which is the next message.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        let request = json!({"id": 1, "method": method, "params": params});
        self.0.write_all(request.to_string().as_bytes()).unwrap();
        let (mut reply, mut chunk) = (Vec::new(), [0; 65536]);
        loop {
            let n = self.0.read(&mut chunk).unwrap();
            assert!(n > 0, "the server is gone");
            reply.extend_from_slice(&chunk[..n]);
            if let Ok(value) = serde_json::from_slice::<Value>(&reply) {
                return value;
            }
        }
    }

    /// Runs a command; its output.
    pub fn command(&mut self, name: &str, arguments: &[&str]) -> String {
        let reply = self.call(name, &json!(arguments));
        assert_eq!(reply["error"], Value::Null, "{reply}");
        reply["result"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs operations on the database `Db`; the results.
    pub fn transact(&mut self, operations: &[Value]) -> Value {
        let mut params = vec![json!("Db")];
        params.extend_from_slice(operations);
        self.call("transact", &params.into())["result"].clone()
    }

    /// Runs operations on the database `Db`, durably or not; what was wrong, if that is refused.
    pub fn commit(&mut self, operation: Value, durable: bool) -> Result<(), String> {
        let results = self.transact(&[operation, json!({"op": "commit", "durable": durable})]);
        match results.as_array().unwrap().iter().find(|result| result.get("error").is_some()) {
            Some(error) => {
                Err(format!("{}: {}", error["error"].as_str().unwrap(), error["details"].as_str().unwrap()))
            }
            None => Ok(()),
        }
    }

    /// Inserts a row of the table `T` that [`schema`] has.
    pub fn insert(&mut self, n: i64, length: usize, durable: bool) -> Result<(), String> {
        let row = json!({"n": n, "text": "x".repeat(length)});
        self.commit(json!({"op": "insert", "table": "T", "row": row}), durable)
    }

    /// The numbers of all rows of `T`.
    pub fn numbers(&mut self) -> Vec<i64> {
        let results = self.transact(&[json!({"op": "select", "table": "T", "where": [], "columns": ["n"]})]);
        let mut numbers: Vec<i64> =
            results[0]["rows"].as_array().unwrap().iter().map(|row| row["n"].as_i64().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// A database `Db` of one table with numbered rows; with one column more, if it has a name.
pub fn schema(version: &str, extra: Option<&str>) -> Value {
    let mut columns = json!({"n": {"type": "integer"}, "text": {"type": "string"}});
    if let Some(extra) = extra {
        columns[extra] = json!({"type": "string"});
    }
    json!({"name": "Db", "version": version,
           "tables": {"T": {"columns": columns, "isRoot": true, "indexes": [["n"]]}}})
}
