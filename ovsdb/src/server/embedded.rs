//! The server inside another program: `ovs-vswitchd --embedded-db=FILE`.
//!
//! It has a thread and a runtime of its own, so that the switch never waits for it, and listens where `ovsdb-server`
//! would: clients, the switch among them, cannot tell the difference.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use daemon::clock::SystemClock;
use daemon::stream::Network;
use flow::time::Clock;
use tokio::sync::mpsc;

use super::config::DbConfig;
use super::host::Host;
use crate::database::Database;
use crate::error::Error;
use crate::storage::{self, Kind};
use crate::vswitch;

/// What an embedded server needs to know.
pub struct Settings {
    /// The database file. If it is missing, a SQLite file with the schema of `Open_vSwitch` is created.
    pub file: PathBuf,
    /// Remotes, as for `ovsdb-server --remote`.
    pub remotes: Vec<String>,
    /// How to listen and connect.
    pub network: Network,
    /// The time.
    pub clock: SystemClock,
}

/// A running server. Dropping it writes what is to be written and ends the thread.
pub struct Embedded {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did there were nothing left to do about it.
            let _ = thread.join();
        }
    }
}

/// Starts a server and waits until it listens.
///
/// # Errors
/// If the file is no database or in use, or a remote's column does not exist.
pub fn start(settings: Settings) -> Result<Embedded, Error> {
    let (stop, stopped) = mpsc::channel(1);
    let (report, ready) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("ovsdb-server".to_owned())
        .spawn(move || run(&settings, stopped, &report))
        .map_err(|error| Error::io(&error, "could not start a thread"))?;
    let embedded = Embedded { stop: Some(stop), thread: Some(thread) };
    match ready.recv() {
        Ok(Ok(())) => Ok(embedded),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::io_plain("the database server ended")),
    }
}

fn run(settings: &Settings, stopped: mpsc::Receiver<()>, report: &SyncSender<Result<(), Error>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let started =
        runtime.map_err(|error| Error::io(&error, "could not start a runtime")).and_then(|runtime| {
            let _context = runtime.enter();
            Ok((open(settings)?, runtime))
        });
    match started {
        Ok((host, runtime)) => {
            // Nobody waits for the news any more if the starter is gone.
            let _ = report.send(Ok(()));
            runtime.block_on(serve(host, settings.clock.clone(), stopped));
        }
        Err(error) => {
            let _ = report.send(Err(error));
        }
    }
}

fn open(settings: &Settings) -> Result<Host, Error> {
    create_missing(&settings.file, &settings.clock)?;
    let host = Host::new(settings.network.clone(), settings.clock.clone());
    let mut host = host.map_err(|error| Error::io(&error, "could not start the thread db-io"))?;
    host.add_database(&settings.file.display().to_string(), &DbConfig::default())?;
    for remote in &settings.remotes {
        host.add_remote(remote).map_err(Error::plain)?;
    }
    host.flush();
    Ok(host)
}

fn create_missing(file: &Path, clock: &SystemClock) -> Result<(), Error> {
    if file.exists() {
        return Ok(());
    }
    storage::create(
        file,
        Kind::Sqlite,
        &Database::new(vswitch::schema()),
        "created by ovs-vswitchd",
        clock.wall(),
    )
}

async fn serve(mut host: Host, clock: SystemClock, mut stopped: mpsc::Receiver<()>) {
    loop {
        host.flush();
        let deadline = host.deadline();
        tokio::select! {
            happening = host.next() => host.handle(happening),
            () = clock.sleep_until(deadline) => host.run(),
            _ = stopped.recv() => break,
        }
    }
    host.close();
}
