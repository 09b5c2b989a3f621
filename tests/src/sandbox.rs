//! A private run directory with a database server and a switch in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::kit::Kit;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Daemons of one kit under a directory of their own; stopped and removed when dropped.
pub struct Sandbox {
    dir: PathBuf,
    daemons: Kit,
}

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub status: Option<i32>,
}

impl Ran {
    /// Standard output, standard error and exit status as one text; an exit status of 0 is not told.
    pub fn text(&self) -> String {
        let mut text = self.stdout.clone();
        text.push_str(&self.stderr);
        if self.status != Some(0) {
            text.push_str(&format!("[exit {:?}]\n", self.status));
        }
        text
    }
}

impl From<Output> for Ran {
    fn from(out: Output) -> Self {
        Self {
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
            status: out.status.code(),
        }
    }
}

impl Sandbox {
    /// An empty directory; no daemon runs yet.
    pub fn new(daemons: &Kit) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("turnout-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("the temporary directory is writable");
        Self { dir, daemons: daemons.clone() }
    }

    /// A database server and a switch that has only dummy devices, as OVS's own tests start them.
    pub fn dummy(daemons: &Kit) -> Self {
        let sandbox = Self::new(daemons);
        sandbox.start_database();
        sandbox.start_switch(&["--enable-dummy", "--disable-system", "--disable-system-route"]);
        sandbox
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path inside the sandbox.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Creates the database and starts the server on `db.sock`.
    pub fn start_database(&self) {
        let schema = schema_of(&self.daemons);
        let db = self.file("conf.db");
        self.must("ovsdb-tool", &["create", &text(&db), &schema]);
        self.start_bare_database();
        let init = self.run(&self.daemons, "ovs-vsctl", &["--no-wait", "init"]);
        assert_eq!(init.status, Some(0), "ovs-vsctl init: {}", init.text());
    }

    /// Starts the server on the database that is there.
    pub fn start_bare_database(&self) {
        let db = self.file("conf.db");
        let remote = format!("--remote=punix:{}", text(&self.file("db.sock")));
        self.must(
            "ovsdb-server",
            &["--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off", &remote, &text(&db)],
        );
    }

    /// Starts the switch with `options` beside those that every test gives.
    pub fn start_switch(&self, options: &[&str]) {
        let mut args = vec!["--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off"];
        args.extend(options);
        self.must("ovs-vswitchd", &args);
    }

    /// Runs `program` of `kit` in this sandbox's environment, for at most a minute.
    pub fn run(&self, kit: &Kit, program: &str, args: &[&str]) -> Ran {
        self.finish(self.command(kit, program, args))
    }

    /// A command in this sandbox's environment.
    pub fn command(&self, kit: &Kit, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg("60").arg(kit.path(program)).args(args).current_dir(&self.dir);
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVS_LOGDIR"] {
            command.env(variable, &self.dir);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs `command` to its end.
    pub fn finish(&self, mut command: Command) -> Ran {
        command.output().expect("the program can be started").into()
    }

    /// The switch's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("ovs-vswitchd.log")).unwrap_or_default()
    }

    /// The process id in `PROGRAM.pid`.
    pub fn pid(&self, program: &str) -> Option<u32> {
        fs::read_to_string(self.file(&format!("{program}.pid"))).ok()?.trim().parse().ok()
    }

    fn must(&self, program: &str, args: &[&str]) {
        let ran = self.run(&self.daemons, program, args);
        assert_eq!(ran.status, Some(0), "{} {program} {args:?}: {}", self.daemons.name, ran.text());
    }

    fn stop(&self, program: &str) {
        let Some(pid) = self.pid(program) else { return };
        let _ = Command::new("kill").arg(pid.to_string()).stderr(Stdio::null()).status();
        let start = Instant::now();
        while Path::new(&format!("/proc/{pid}")).exists() {
            if start.elapsed() > Duration::from_secs(5) {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop("ovs-vswitchd");
        self.stop("ovsdb-server");
        if !std::thread::panicking() || std::env::var_os("TURNOUT_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Runs `check` every 50 ms until it holds or `limit` has passed; says whether it held.
pub fn wait_until(limit: Duration, mut check: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if check() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        sleep(Duration::from_millis(50));
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The schema that the kit's own switch expects.
fn schema_of(kit: &Kit) -> String {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../ovsdb/schema/vswitch.ovsschema");
    match (kit.name, std::env::var("TURNOUT_PEER_SCHEMA")) {
        ("ours", _) => ours.to_string(),
        (_, Ok(path)) => path,
        (_, Err(_)) => "/usr/share/openvswitch/vswitch.ovsschema".to_string(),
    }
}
