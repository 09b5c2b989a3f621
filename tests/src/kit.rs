//! A set of programs: ours, Debian's, or one named by the environment.

use std::path::PathBuf;
use std::process::Command;

/// Where the programs of one implementation stand.
#[derive(Clone, Debug)]
pub struct Kit {
    pub name: &'static str,
    dirs: Vec<PathBuf>,
}

impl Kit {
    /// The programs of this workspace, as built beside the running test.
    ///
    /// # Panics
    /// If they were not built: `cargo build --workspace` comes first.
    pub fn ours() -> Self {
        let exe = std::env::current_exe().expect("a test knows its own path");
        let dir = exe.ancestors().skip(1).take(2).find(|dir| dir.join("ovs-vswitchd").exists());
        let dir = dir.expect("the programs were built: cargo build --workspace --bins").to_path_buf();
        Self { name: "ours", dirs: vec![dir] }
    }

    /// Debian's packages `openvswitch-switch` and `openvswitch-common`, or the programs in the folders that
    /// `TURNOUT_PEER` lists (separated by `:`).
    ///
    /// # Panics
    /// If they are not installed.
    pub fn peer() -> Self {
        let dirs: Vec<PathBuf> = match std::env::var("TURNOUT_PEER") {
            Ok(list) => list.split(':').map(PathBuf::from).collect(),
            Err(_) => vec!["/usr/sbin".into(), "/usr/bin".into()],
        };
        let kit = Self { name: "peer", dirs };
        assert!(kit.find("ovs-vswitchd").is_some(), "install openvswitch-switch first");
        kit
    }

    /// Whether the peer is an older release than the one whose behaviour is ours.
    pub fn peer_is_older() -> bool {
        std::env::var_os("TURNOUT_PEER").is_none()
    }

    /// The folders where the programs are looked for, in this order.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The path of program `name`.
    ///
    /// # Panics
    /// If this kit lacks it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.find(name).unwrap_or_else(|| panic!("{} is not in {:?}", name, self.dirs))
    }

    /// A command that runs program `name`.
    pub fn command(&self, name: &str) -> Command {
        Command::new(self.path(name))
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file())
    }
}
