//! Pidfiles: a file with a process's number, locked for as long as the process lives.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use sys::process::{lock_file, lock_owner};
use thiserror::Error;

/// Why there is no pid in a pidfile, or why it cannot be written.
#[derive(Error, Debug)]
pub enum PidfileError {
    /// The file cannot be opened, read or locked.
    #[error("{}", crate::error_text(.0))]
    Io(#[from] io::Error),
    /// Nobody holds its lock, or it holds no number: its process is gone.
    #[error("No such process")]
    Stale,
    /// Another process holds it.
    #[error("{}: already running as pid {pid}, aborting", .path.display())]
    Running {
        /// The pidfile.
        path: PathBuf,
        /// Its owner.
        pid: i32,
    },
}

/// The pid in `path`, if the process that wrote it still lives.
///
/// # Errors
/// If the file is missing, unreadable or stale.
pub fn read(path: &Path) -> Result<i32, PidfileError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path).or_else(|_| File::open(path))?;
    let owner = lock_owner(&file)?.ok_or(PidfileError::Stale)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    match text.trim().parse::<i32>() {
        Ok(pid) if pid == owner => Ok(pid),
        _ => Err(PidfileError::Stale),
    }
}

/// Fails if a living process holds `path`.
///
/// # Errors
/// [`PidfileError::Running`].
pub fn check(path: &Path) -> Result<(), PidfileError> {
    match read(path) {
        Ok(pid) => Err(PidfileError::Running { path: path.to_owned(), pid }),
        Err(_) => Ok(()),
    }
}

/// A pidfile that this process wrote; dropping it removes the file.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Pidfile {
    /// Writes this process's number to `path`, locked; refuses if another living process holds it, but for `overwrite`.
    ///
    /// # Errors
    /// As told.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, PidfileError> {
        if !overwrite {
            check(path)?;
        }
        let pid = std::process::id();
        let temporary = PathBuf::from(format!("{}.tmp{pid}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
        lock_file(&file)?;
        writeln!(file, "{pid}")?;
        std::fs::rename(&temporary, path)?;
        Ok(Self { path: path.to_owned(), _file: file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
