//! Ours beside Debian's `ovsdb-server`, in one run: what `scripts/bench ovsdb` prints.
//!
//! Every phase runs in turns, one server after the other, several times; the best of each counts, for whatever else the
//! machine does only makes them worse. Processor time is that of the server alone, by the scheduler's own clock.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "../tests/common/southbound.rs"]
mod southbound;

/// How often each phase runs on each server.
const ROUNDS: usize = 3;
/// Pipelined transactions.
const INSERTS: usize = 30_000;
/// Clients that want durable commits, and for how long.
const COMMITTERS: usize = 32;
const COMMIT_TIME: Duration = Duration::from_secs(4);
/// Monitors and the changes that they hear of.
const MONITORS: usize = 50;
const CHANGES: usize = 2_000;
/// Rows of the large database.
const ROWS: usize = 100_000;

/// Where the programs of Debian's packages are.
const PEER_SERVER: &str = "/usr/sbin/ovsdb-server";
const PEER_TOOL: &str = "/usr/bin/ovsdb-tool";

struct Server {
    child: Child,
    folder: PathBuf,
    began: Instant,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(ours: bool, folder: &Path, db: &Path) -> Self {
        let socket = folder.join("db.sock");
        let _ = fs::remove_file(&socket);
        let began = Instant::now();
        let program = if ours { env!("CARGO_BIN_EXE_ovsdb-server") } else { PEER_SERVER };
        let child = Command::new(program)
            .arg(db)
            .arg(format!("--remote=punix:{}", socket.display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .env("OVS_RUNDIR", folder)
            .env("OVS_DBDIR", folder)
            .env("OVS_LOGDIR", folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ovsdb-server can be started");
        let mut server = Self { child, folder: folder.to_owned(), began };
        server.call("list_dbs", &json!([]));
        server
    }

    fn connect(&self) -> UnixStream {
        loop {
            match UnixStream::connect(self.folder.join("db.sock")) {
                Ok(stream) => return stream,
                Err(_) if self.began.elapsed() < Duration::from_secs(120) => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("cannot connect: {error}"),
            }
        }
    }

    fn call(&mut self, method: &str, params: &Value) -> String {
        call(&mut self.connect(), method, &params.to_string())
    }

    /// Its processor time so far.
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the server runs");
        let of_task = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
        };
        Duration::from_nanos(tasks.flatten().map(of_task).sum())
    }

    /// Its memory in KiB.
    fn memory(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }
}

fn request(method: &str, params: &str, id: usize) -> String {
    format!("{{\"method\":\"{method}\",\"params\":{params},\"id\":{id}}}")
}

/// Sends a request and returns the reply, which must be the next thing that arrives.
fn call(stream: &mut UnixStream, method: &str, params: &str) -> String {
    stream.write_all(request(method, params, 7).as_bytes()).expect("the server reads");
    let mut reply = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    loop {
        let n = stream.read(&mut chunk).expect("the server answers");
        assert!(n > 0, "the server closed the connection");
        reply.extend_from_slice(&chunk[..n]);
        for byte in &chunk[..n] {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = !quoted,
                b'{' if !quoted => depth += 1,
                b'}' if !quoted => depth -= 1,
                _ => {}
            }
        }
        if depth == 0 {
            break;
        }
    }
    let reply = String::from_utf8(reply).expect("JSON is UTF-8");
    assert!(!reply.contains("\"details\""), "{reply}");
    reply
}

/// Counts how often a text occurs in a stream.
struct Counter {
    pattern: &'static [u8],
    matched: usize,
    n: usize,
}

impl Counter {
    fn new(pattern: &'static str) -> Self {
        Self { pattern: pattern.as_bytes(), matched: 0, n: 0 }
    }

    fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // The patterns begin with a quote that does not occur again before their end.
            self.matched =
                if byte == self.pattern[self.matched] { self.matched + 1 } else { usize::from(byte == b'"') };
            if self.matched == self.pattern.len() {
                self.matched = 0;
                self.n += 1;
            }
        }
    }

    fn read_until(&mut self, stream: &mut UnixStream, n: usize) {
        let mut chunk = vec![0; 1 << 18];
        while self.n < n {
            let read = stream.read(&mut chunk).expect("the server answers");
            assert!(read > 0, "the server closed the connection after {} of {n}", self.n);
            self.feed(&chunk[..read]);
        }
    }
}

fn fdb(n: usize, durable: bool) -> String {
    let mac =
        format!("02:00:{:02x}:{:02x}:{:02x}:{:02x}", n >> 24 & 255, n >> 16 & 255, n >> 8 & 255, n & 255);
    let commit = if durable { ",{\"op\":\"commit\",\"durable\":true}" } else { "" };
    format!(
        "[\"OVN_Southbound\",{{\"op\":\"insert\",\"table\":\"FDB\",\
         \"row\":{{\"mac\":\"{mac}\",\"dp_key\":{},\"port_key\":{}}}}}{commit}]",
        n % 1000 + 1,
        n % 60 + 1
    )
}

/// Sends `requests` with at most `window` unanswered.
fn pipeline(stream: &UnixStream, requests: &[String], window: usize) {
    let mut reader = stream.try_clone().expect("sockets can be cloned");
    let mut writer = stream.try_clone().expect("sockets can be cloned");
    let mut replies = Counter::new("\"result\"");
    let mut sent = 0;
    while replies.n < requests.len() {
        let until = (replies.n + window).min(requests.len());
        if sent < until {
            writer.write_all(requests[sent..until].concat().as_bytes()).expect("the server reads");
            sent = until;
        }
        let goal = if window == 1 { sent } else { (sent.saturating_sub(window / 2)).max(replies.n + 1) };
        replies.read_until(&mut reader, goal);
    }
}

fn inserts(server: &mut Server) -> f64 {
    let requests: Vec<String> = (0..INSERTS).map(|n| request("transact", &fdb(n, false), n)).collect();
    let stream = server.connect();
    let began = Instant::now();
    pipeline(&stream, &requests, 1000);
    INSERTS as f64 / began.elapsed().as_secs_f64()
}

fn durable(server: &mut Server) -> f64 {
    let began = Instant::now();
    let workers: Vec<_> = (0..COMMITTERS)
        .map(|worker| {
            let mut stream = server.connect();
            thread::spawn(move || {
                let mut n = 0;
                while began.elapsed() < COMMIT_TIME {
                    call(&mut stream, "transact", &fdb((worker + 1) << 20 | n, true));
                    n += 1;
                }
                n
            })
        })
        .collect();
    let n: usize = workers.into_iter().map(|worker| worker.join().expect("clients do not panic")).sum();
    n as f64 / began.elapsed().as_secs_f64()
}

/// Microseconds of the server's time for a change that all monitors hear of.
fn fan_out(server: &mut Server, window: usize) -> f64 {
    let readers: Vec<_> = (0..MONITORS)
        .map(|n| {
            let mut stream = server.connect();
            let params = json!([southbound::NAME, format!("monitor-{n}"), { "FDB": [{ "columns": ["mac", "dp_key"] }] }]);
            call(&mut stream, "monitor_cond", &params.to_string());
            thread::spawn(move || Counter::new("\"mac\"").read_until(&mut stream, CHANGES))
        })
        .collect();
    let requests: Vec<String> =
        (0..CHANGES).map(|n| request("transact", &fdb(1 << 30 | window << 16 | n, false), n)).collect();
    let stream = server.connect();
    let before = server.cpu();
    pipeline(&stream, &requests, window);
    readers.into_iter().for_each(|reader| reader.join().expect("clients do not panic"));
    (server.cpu() - before).as_secs_f64() * 1e6 / CHANGES as f64
}

fn fill(server: &mut Server) {
    let mut stream = server.connect();
    for transaction in southbound::transactions(ROWS) {
        call(&mut stream, "transact", &transaction);
    }
}

/// What was measured of both: ours, the peer's.
struct Line {
    what: &'static str,
    unit: &'static str,
    /// More is better.
    more: bool,
    /// How many times better it must be.
    goal: f64,
    ours: f64,
    peers: f64,
}

impl Line {
    fn new(what: &'static str, unit: &'static str, more: bool, goal: f64) -> Self {
        let worst = if more { 0.0 } else { f64::INFINITY };
        Self { what, unit, more, goal, ours: worst, peers: worst }
    }

    fn note(&mut self, ours: bool, value: f64) {
        let best = if ours { &mut self.ours } else { &mut self.peers };
        *best = if self.more { best.max(value) } else { best.min(value) };
    }

    fn print(&self) {
        let times = if self.more { self.ours / self.peers } else { self.peers / self.ours };
        let verdict = if times >= self.goal { "" } else { "  MISSED" };
        println!(
            "{:<44} {:>12.0} {:>12.0} {:<6} {times:>6.2}x (goal {}x){verdict}",
            self.what, self.ours, self.peers, self.unit, self.goal
        );
    }
}

struct Bench {
    root: PathBuf,
    n: usize,
}

impl Bench {
    /// A folder with an empty southbound database.
    fn fresh(&mut self) -> (PathBuf, PathBuf) {
        self.n += 1;
        let folder = self.root.join(format!("{}", self.n));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let db = folder.join("sb.db");
        let made = Command::new(PEER_TOOL).arg("create").arg(&db).arg(southbound::SCHEMA).status();
        assert!(made.is_ok_and(|status| status.success()), "ovsdb-tool create");
        (folder, db)
    }

    fn phase(&mut self, line: &mut Line, run: impl Fn(&mut Server) -> f64) {
        for round in 0..ROUNDS * 2 {
            let ours = round % 2 == 0;
            let (folder, db) = self.fresh();
            let value = run(&mut Server::start(ours, &folder, &db));
            line.note(ours, value);
            let _ = fs::remove_dir_all(folder);
        }
        line.print();
    }

    fn large(&mut self) {
        let mut filled = Line::new("memory after 100 000 rows came in", "KiB", false, 2.0);
        let mut memory = Line::new("memory of a database of 100 000 rows", "KiB", false, 2.0);
        let mut restart = Line::new("restart with it", "us", false, 2.0);
        let mut compacted = Line::new("restart with it compacted", "us", false, 2.0);
        let mut files = Vec::new();
        for ours in [true, false] {
            let (folder, db) = self.fresh();
            let mut server = Server::start(ours, &folder, &db);
            fill(&mut server);
            filled.note(ours, server.memory() as f64);
            files.push((folder, db));
        }
        // Both restart with the same file: the one that the peer wrote.
        let small = files[1].0.join("compact.db");
        let done = Command::new(PEER_TOOL).arg("compact").arg(&files[1].1).arg(&small).status();
        assert!(done.is_ok_and(|status| status.success()), "ovsdb-tool compact");
        for round in 0..ROUNDS * 2 {
            let ours = round % 2 == 0;
            for (line, db) in [(&mut restart, &files[1].1), (&mut compacted, &small)] {
                let (folder, _) = self.fresh();
                let copy = folder.join("copy.db");
                fs::copy(db, &copy).expect("a file can be copied");
                let server = Server::start(ours, &folder, &copy);
                line.note(ours, server.began.elapsed().as_secs_f64() * 1e6);
                thread::sleep(Duration::from_millis(300));
                memory.note(ours, server.memory() as f64);
                drop(server);
                let _ = fs::remove_dir_all(folder);
            }
        }
        for line in [filled, memory, restart, compacted] {
            line.print();
        }
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let does = |name: &str| wanted.is_empty() || wanted.iter().any(|other| other == name);
    assert!(southbound::is_available(), "install ovn-central first: its schema is what is measured");
    let root = std::env::temp_dir().join(format!("ovsdb-bench.{}", std::process::id()));
    let mut head = String::new();
    let _ = write!(head, "{:<44} {:>12} {:>12}", "best of 3 rounds", "ours", "Debian's");
    println!("{head}");
    let mut bench = Bench { root: root.clone(), n: 0 };
    if does("insert") {
        bench.phase(&mut Line::new("pipelined inserts", "/s", true, 3.0), inserts);
    }
    if does("durable") {
        bench.phase(&mut Line::new("durable commits of 32 clients", "/s", true, 5.0), durable);
    }
    if does("fanout") {
        let mut line = Line::new("CPU of a change for 50 monitors, in a stream", "us", false, 3.0);
        bench.phase(&mut line, |server| fan_out(server, 64));
    }
    if does("single") {
        let mut line = Line::new("CPU of a change for 50 monitors, one by one", "us", false, 3.0);
        bench.phase(&mut line, |server| fan_out(server, 1));
    }
    if does("large") {
        bench.large();
    }
    let _ = fs::remove_dir_all(root);
}
