//! For tests of programs: a private folder to run them in, and the daemons started there.

use crate::unixctl::Client;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A folder that stands for all of OVS's directories, removed when dropped, after the daemons in it were killed.
#[derive(Debug)]
pub struct Sandbox {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Sandbox {
    /// A new, empty folder.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("turnout-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, children: Vec::new() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `program`, to be run in the folder.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(&self.dir);
        for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVS_LOGDIR", "OVS_PKGDATADIR"] {
            command.env(name, &self.dir);
        }
        command
    }

    /// Starts `program` in the foreground with `args` and `--unixctl`, and waits until it answers.
    ///
    /// # Errors
    /// If it does not start, or does not answer for ten seconds.
    pub fn start(&mut self, program: impl AsRef<Path>, args: &[&str]) -> io::Result<()> {
        let name = program.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = std::fs::File::create(self.path(&format!("{name}.stderr")))?;
        let child = self
            .command(&program)
            .args(args)
            .arg(format!("--unixctl={name}.ctl"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.children.push(child);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Ok(mut client) = Client::connect(&self.path(&format!("{name}.ctl")))
                && client.call("version", &[]).is_ok()
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{name} does not answer")))
    }

    /// Runs a command of the daemon `name`: its text, or its error's.
    pub fn appctl(&self, name: &str, method: &str, args: &[&str]) -> Result<String, String> {
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut client =
            Client::connect(&self.path(&format!("{name}.ctl"))).map_err(|e| crate::error_text(&e))?;
        match client.call(method, args) {
            Ok(Ok(value)) => Ok(text(value)),
            Ok(Err(value)) => Err(text(value)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
