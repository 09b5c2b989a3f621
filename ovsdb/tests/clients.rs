//! Clients that do their worst: bounded memory, a clear error to them, no effect on others.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::time::WallTime;
use ovsdb::database::Database;
use ovsdb::schema::DatabaseSchema;
use ovsdb::storage::{self, Kind};
use serde_json::{Value, json};

struct Server {
    child: Child,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Server {
    fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    fn start_with(name: &str, options: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("ovsdb-clients-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let schema = json!({"name": "Db", "version": "1.0.0",
            "tables": {"T": {"columns": {"text": {"type": "string"}}, "isRoot": true}}});
        let schema = DatabaseSchema::from_json(&schema).unwrap();
        let db = folder.join("db");
        storage::create(&db, Kind::Journal, &Database::new(Arc::new(schema)), "created", WallTime(1))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ovsdb-server"))
            .arg(db)
            .arg(format!("--remote=punix:{}", folder.join("db.sock").display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .args(options)
            .envs(["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"].map(|name| (name, &folder)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, folder };
        assert_eq!(server.ask("echo", &json!(["up"])), json!(["up"]));
        server
    }

    fn connect(&self) -> UnixStream {
        let began = Instant::now();
        loop {
            match UnixStream::connect(self.folder.join("db.sock")) {
                Ok(stream) => return stream,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What a client of good manners is answered.
    fn ask(&self, method: &str, params: &Value) -> Value {
        let mut stream = self.connect();
        let request = json!({"id": 1, "method": method, "params": params});
        stream.write_all(request.to_string().as_bytes()).unwrap();
        let (mut reply, mut chunk) = (Vec::new(), [0; 65536]);
        loop {
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0, "the server closed the connection");
            reply.extend_from_slice(&chunk[..n]);
            if let Ok(value) = serde_json::from_slice::<Value>(&reply) {
                return value["result"].clone();
            }
        }
    }

    /// Its memory in KiB: now, and at most so far.
    fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

/// Everything that the server says until it closes the connection.
fn read_to_end(mut stream: UnixStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
            // Closed with our bytes unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the connection stays: {error}"),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn ten_thousand_idle_clients_cost_little() {
    const CLIENTS: usize = 10_000;
    let server = Server::start("idle");
    for pid in [std::process::id(), server.child.id()] {
        let raised =
            Command::new("prlimit").args([format!("--pid={pid}"), "--nofile=20000:".to_owned()]).status();
        if !raised.is_ok_and(|status| status.success()) {
            println!("so many files cannot be open here");
            return;
        }
    }
    let (before, _) = server.memory();
    let idle: Vec<UnixStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    assert_eq!(server.ask("echo", &json!([1])), json!([1]));
    let (after, _) = server.memory();
    assert!(after - before < CLIENTS as u64 * 12, "{} KiB for {CLIENTS} clients", after - before);
    let began = Instant::now();
    for n in 0..20 {
        let insert = json!(["Db", {"op": "insert", "table": "T", "row": {"text": format!("{n}")}}]);
        assert!(server.ask("transact", &insert)[0]["uuid"].is_array());
    }
    assert!(began.elapsed() < Duration::from_secs(20), "others wait: {:?}", began.elapsed());
    drop(idle);
    assert_eq!(server.ask("echo", &json!([2])), json!([2]));
}

#[test]
fn a_client_that_never_reads_is_sent_away() {
    let server = Server::start("deaf");
    let mut deaf = server.connect();
    let monitor = json!({"id": 0, "method": "monitor", "params": ["Db", null, {"T": {}}]});
    deaf.write_all(monitor.to_string().as_bytes()).unwrap();
    let mut first = [0; 16];
    deaf.read_exact(&mut first).unwrap();
    let text = "z".repeat(1 << 20);
    for _ in 0..100 {
        let change = json!(["Db", {"op": "delete", "table": "T", "where": []},
            {"op": "insert", "table": "T", "row": {"text": text}}]);
        assert_eq!(server.ask("transact", &change)[1]["uuid"][0], "uuid");
    }
    let (_, most) = server.memory();
    assert!(most < 400 << 10, "{most} KiB for a client that does not read");
    // What it finds when it reads at last breaks off: it must start over.
    let rest = read_to_end(deaf);
    assert!(rest.len() < 100 << 20, "{} bytes waited for it", rest.len());
}

#[test]
fn a_string_of_a_gigabyte_is_refused() {
    let server = Server::start("long");
    let mut stream = server.connect();
    let reader = std::thread::spawn({
        let stream = stream.try_clone().unwrap();
        move || read_to_end(stream)
    });
    stream.write_all(br#"{"id":1,"method":"echo","params":[""#).unwrap();
    let piece = vec![b'a'; 1 << 20];
    let sent = (0..1024).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(sent < 1024, "all of it was taken");
    let said = reader.join().unwrap();
    assert!(said.contains("text exceeds 134217728 bytes"), "{said}");
    let (_, most) = server.memory();
    assert!(most < 400 << 10, "{most} KiB for a message that is refused");
    assert_eq!(server.ask("echo", &json!(["others"])), json!(["others"]));
}

#[test]
fn limits_are_as_the_command_line_says() {
    let server =
        Server::start_with("limits", &["--max-backlog=100k", "--max-request=3000", "--max-requests=1M"]);
    let echo = |length: usize| json!({"id": 1, "method": "echo", "params": ["a".repeat(length)]}).to_string();
    let mut stream = server.connect();
    stream.write_all(echo(2900).as_bytes()).unwrap();
    let mut reply = [0; 2900];
    stream.read_exact(&mut reply).unwrap();
    // What is not finished counts too.
    for length in [3500, echo(4000).len()] {
        let mut stream = server.connect();
        stream.write_all(&echo(4000).as_bytes()[..length]).unwrap();
        let said = read_to_end(stream);
        assert!(said.contains("text exceeds 3000 bytes"), "{said}");
    }
    let mut deaf = server.connect();
    let monitor = json!({"id": 0, "method": "monitor", "params": ["Db", null, {"T": {}}]});
    deaf.write_all(monitor.to_string().as_bytes()).unwrap();
    let mut first = [0; 16];
    deaf.read_exact(&mut first).unwrap();
    let row = json!({"op": "insert", "table": "T", "row": {"text": "z".repeat(2000)}});
    for _ in 0..2000 {
        assert_eq!(server.ask("transact", &json!(["Db", row]))[0]["uuid"][0], "uuid");
    }
    let rest = read_to_end(deaf);
    assert!(rest.len() < 2000 * 1000, "{} bytes waited for it", rest.len());
}

#[test]
fn limits_must_be_sizes() {
    for wrong in ["", "0", "-1", "x", "1kk", "1.5M", "99999999999999999999", "99999999999G", "+5"] {
        let ran = Command::new(env!("CARGO_BIN_EXE_ovsdb-server"))
            .args([&format!("--max-request={wrong}"), "--no-dbs", "-vconsole:off", "-vsyslog:off"])
            .arg("--remote=punix:limits-must-be-sizes.sock")
            .env("OVS_RUNDIR", std::env::temp_dir())
            .output()
            .unwrap();
        let expected =
            format!("ovsdb-server: --max-request requires a size, such as 65536 or 64k, not \"{wrong}\"\n");
        assert_eq!(
            (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned()),
            (Some(1), expected)
        );
    }
}

#[test]
fn what_is_no_json_ends_one_connection_only() {
    let server = Server::start("garbage");
    let deep = format!("{{\"id\":1,\"method\":\"echo\",\"params\":{}", "[".repeat(100_000));
    let cases: [&[u8]; 9] = [
        deep.as_bytes(),
        br#"{"id":1,"method":"echo","params":[1e999999]}"#,
        b"{\"id\":1,\"method\":\"echo\",\"params\":[\"\xff\xfe\"]}",
        br#"{"id":1,"method":"echo","params":["\ud800"]}"#,
        b"{\"id\":1,\"method\":\"echo\",\"params\":[\"\0\"]}",
        br#"{"id":1,"method":"echo","params":["\u0000"]}"#,
        b"}",
        br#"{"id":1 "method"}"#,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for bytes in cases {
        let mut stream = server.connect();
        // The server may close the connection before it has read everything.
        let _ = stream.write_all(bytes);
        assert_eq!(read_to_end(stream), "", "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
        assert_eq!(server.ask("echo", &json!(["others"])), json!(["others"]));
    }
    // These are JSON: the transaction is refused, the connection stays.
    for text in ["123456789012345678901234567890", "[\"set\",[\"a\",\"a\"]]"] {
        let value: Value = serde_json::from_str(text).unwrap();
        let results =
            server.ask("transact", &json!(["Db", {"op": "insert", "table": "T", "row": {"text": value}}]));
        assert!(results[0]["error"].is_string(), "{results}");
    }
}
