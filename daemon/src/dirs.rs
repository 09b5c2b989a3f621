//! Where files are: the directories of OVS, each overridden by its environment variable.

use std::env;
use std::path::{Path, PathBuf};

/// The directories of a process, taken once at its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dirs {
    /// `OVS_RUNDIR`: sockets and pidfiles.
    pub run: PathBuf,
    /// `OVS_DBDIR`: databases.
    pub db: PathBuf,
    /// `OVS_SYSCONFDIR` (its `openvswitch` is what [`Dirs::etc`] gives).
    pub sysconf: PathBuf,
    /// `OVS_LOGDIR`: log files.
    pub log: PathBuf,
    /// `OVS_PKGDATADIR`: schemas and scripts.
    pub pkgdata: PathBuf,
    /// `OVS_BINDIR`: programs.
    pub bin: PathBuf,
}

fn from_env(name: &str, default: impl Into<PathBuf>) -> PathBuf {
    env::var_os(name).filter(|v| !v.is_empty()).map_or_else(|| default.into(), PathBuf::from)
}

impl Dirs {
    /// The directories that the environment names, Debian's where it names none.
    pub fn from_env() -> Self {
        let sysconf = from_env("OVS_SYSCONFDIR", "/etc");
        let db = match env::var_os("OVS_DBDIR").filter(|v| !v.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => sysconf.join("openvswitch"),
        };
        Self {
            run: from_env("OVS_RUNDIR", "/var/run/openvswitch"),
            db,
            sysconf,
            log: from_env("OVS_LOGDIR", "/var/log/openvswitch"),
            pkgdata: from_env("OVS_PKGDATADIR", "/usr/share/openvswitch"),
            bin: from_env("OVS_BINDIR", "/usr/bin"),
        }
    }

    /// The folder of `system-id.conf`.
    pub fn etc(&self) -> PathBuf {
        self.sysconf.join("openvswitch")
    }

    /// `name` in the run directory, unless it is absolute.
    pub fn in_run(&self, name: impl AsRef<Path>) -> PathBuf {
        self.run.join(name)
    }

    /// `name` in the database directory, unless it is absolute.
    pub fn in_db(&self, name: impl AsRef<Path>) -> PathBuf {
        self.db.join(name)
    }
}
