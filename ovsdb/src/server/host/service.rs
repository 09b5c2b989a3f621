//! The databases of a [`Host`]: opened, followed, changed at run time, each by its service model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::jsonrpc::MAX_TEXT;
use flow::time::{Clock, Instant};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::super::Role;
use super::super::config::{Config, DbConfig, Model, source_options};
use super::super::connection::{self, Opened, Outbox};
use super::super::remotes::Options;
use super::{Host, Served, SessionId};
use crate::error::Error;
use crate::storage;

/// What holds for all databases that are given on the command line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// `--sync-from`.
    pub sync_from: Option<String>,
    /// `--sync-exclude-tables`.
    pub sync_exclude: Option<String>,
    /// They follow `sync_from`.
    pub is_backup: bool,
    /// A configuration file rules instead.
    pub by_file: bool,
}

/// A source that a database follows: the task that connects, and the connection if there is one.
#[derive(Debug)]
pub(super) struct Source {
    remote: String,
    options: Options,
    task: JoinHandle<()>,
    connection: Option<(SessionId, Outbox)>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    /// Opens and serves a database: a file, or by `config` a relay.
    ///
    /// # Errors
    /// If the file is open already, is no database, or its name is taken.
    pub fn add_database(&mut self, name: &str, config: &DbConfig) -> Result<(), Error> {
        let mut served = Served {
            name: name.to_owned(),
            path: None,
            config: config.clone(),
            compacted: self.clock.now(),
            compacted_at: 0,
            error: None,
        };
        let db: Arc<str> = if config.model == Some(Model::Relay) {
            self.check_name(name)?;
            self.server.add_relay(name);
            name.into()
        } else {
            self.open_file(&mut served)?
        };
        self.served.insert(db.clone(), served);
        self.follow_source(&db);
        Ok(())
    }

    fn open_file(&mut self, served: &mut Served) -> Result<Arc<str>, Error> {
        let shown = &served.name;
        let path = Path::new(shown);
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.served.values().any(|other| other.path.as_ref() == Some(&real)) {
            return Err(Error::plain(format!("{shown}: already open")));
        }
        if storage::is_clustered(path) {
            return Err(Error::plain(format!(
                "{shown}: clustered databases are not served (\"ovsdb-tool cluster-to-standalone\" of Open vSwitch makes \
                 a standalone one)"
            )));
        }
        let opened = storage::open(path, false)?;
        match served.config.model {
            Some(Model::Clustered) => {
                return Err(Error::plain(format!("{shown}: database is standalone and not clustered")));
            }
            None => served.config.model = Some(Model::Standalone),
            Some(_) => {}
        }
        if let Some(damage) = opened.damage {
            tracing::error!(target: "ovsdb_server", "{damage}");
        }
        let name = opened.database.schema().name.clone();
        self.check_name(&name)?;
        let has_storage = opened.storage.is_some();
        if let Some(storage) = opened.storage {
            self.io.attach(name.clone(), storage);
        }
        served.path = Some(real);
        self.server.add_database(opened.database, has_storage);
        Ok(name)
    }

    fn check_name(&self, name: &str) -> Result<(), Error> {
        if name.starts_with('_') {
            return Err(Error::plain(format!("{name}: names beginning with \"_\" are reserved")));
        }
        if self.server.database(name).is_some() {
            return Err(Error::plain(format!("{name}: duplicate database name")));
        }
        Ok(())
    }

    /// Adds a database as the command line names it.
    ///
    /// # Errors
    /// As [`Host::add_database`].
    pub fn add_named(&mut self, text: &str) -> Result<(), Error> {
        let (name, config) = self.config().database(text, !self.settings.is_backup);
        self.add_database(&name, &config)
    }

    /// Stops serving a database.
    ///
    /// # Errors
    /// If it is not served or is the server's own.
    pub fn remove_database(&mut self, name: &str) -> Result<(), String> {
        if self.server.database(name).is_none() {
            return Err("Failed to find the database.".to_owned());
        }
        if name.starts_with('_') {
            return Err("Cannot remove reserved database.".to_owned());
        }
        self.drop_database(name, &format!("removing {name} database by user request"));
        Ok(())
    }

    fn drop_database(&mut self, name: &str, reason: &str) {
        self.sources.remove(name);
        self.server.remove_database(name, reason);
        if let Some((name, served)) = self.served.remove_entry(name)
            && served.path.is_some()
        {
            self.io.detach(name);
        }
    }

    /// The shared settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is served and how.
    pub fn config(&self) -> Config {
        let databases = self.served.values().map(|served| (served.name.clone(), served.config.clone()));
        Config {
            remotes: self.configured.clone(),
            databases: databases.collect(),
            sync_from: self.settings.sync_from.clone(),
            sync_exclude: self.settings.sync_exclude.clone(),
            is_backup: self.settings.is_backup,
        }
    }

    /// Makes what is served be what `config` says; false if something of it did not work, which the log tells.
    pub fn configure(&mut self, config: Config, by_file: bool) -> bool {
        let Config { remotes, mut databases, sync_from, sync_exclude, is_backup } = config;
        self.settings = Settings { sync_from, sync_exclude, is_backup, by_file };
        let names: Vec<Arc<str>> = self.served.keys().cloned().collect();
        for name in names {
            let Some(served) = self.served.get_mut(&name) else { continue };
            match databases.remove(&served.name) {
                None => self.drop_database(&name, &format!("database {name} removed from configuration")),
                Some(new) if !can_become(served.config.model, new.model) => {
                    databases.insert(served.name.clone(), new);
                    self.drop_database(&name, &format!("service model changed for database {name}"));
                }
                Some(new) => {
                    let model = new.model.or(served.config.model);
                    served.config = DbConfig { model, ..new };
                    self.follow_source(&name);
                }
            }
        }
        let mut good = true;
        for (name, config) in databases {
            if let Err(error) = self.add_database(&name, &config) {
                tracing::warn!(target: "ovsdb_server", "failed to open database '{name}': {error}");
                good = false;
            }
        }
        if !good {
            tracing::warn!(target: "ovsdb_server", "failed to configure databases");
        }
        self.configured = remotes;
        self.follow_remotes();
        let errors = self.remote_errors();
        if !errors.is_empty() {
            tracing::warn!(target: "ovsdb_server", "failed to configure remotes: {}", errors.join("\n"));
            good = false;
        }
        good
    }

    /// Starts, changes or stops the session with the source of a database, as its configuration says.
    fn follow_source(&mut self, name: &Arc<str>) {
        let Some(served) = self.served.get(name) else { return };
        let config = &served.config;
        let role = match config.model {
            Some(Model::Relay) => Role::Relay,
            Some(Model::ActiveBackup) if config.backup => Role::Backup(config.excluded(name)),
            _ => {
                if self.sources.remove(name).is_some() {
                    self.server.unfollow(name);
                }
                return;
            }
        };
        let Some((remote, options)) = config.source.clone() else { return };
        if let Some(source) = self.sources.get_mut(name)
            && source.remote == remote
            && source.options == options
            && self.server.follows(name, &role)
        {
            return;
        }
        // Dropping the old one first ends its connection.
        self.sources.remove(name);
        self.server.unfollow(name);
        self.server.follow(name, &remote, role);
        let connect = connection::connect(
            remote.clone(),
            Some(name.clone()),
            self.network.clone(),
            self.clock.clone(),
            Duration::from_millis(options.max_backoff_ms),
            self.shared.events.clone(),
        );
        let task = tokio::spawn(connect);
        self.sources.insert(name.clone(), Source { remote, options, task, connection: None });
    }

    /// The database that follows the source at the other end of a connection, if it is one.
    pub(super) fn follower(&self, session: SessionId) -> Option<Arc<str>> {
        let is_it = |source: &Source| source.connection.as_ref().is_some_and(|(id, _)| *id == session);
        self.sources.iter().find(|(_, source)| is_it(source)).map(|(name, _)| name.clone())
    }

    pub(super) fn source_connected(&mut self, opened: Opened) {
        let Some(name) = opened.follower.clone() else { return };
        let Some(source) = self.sources.get_mut(&name) else { return };
        // Sources count down from the top, clients up from 0: they do not meet.
        self.n_sources += 1;
        let session = SessionId(u64::MAX - self.n_sources);
        let probe = source.options.probe_interval_ms.filter(|ms| *ms > 0 && opened.stream.peer().is_some());
        let probe = probe.map(|ms| Duration::from_millis(ms.max(1000)));
        // What a source sends is asked for, however long it is.
        let mut shared = self.shared.clone();
        shared.limits.request = MAX_TEXT;
        let outbox = connection::start(session, opened, shared, probe);
        source.connection = Some((session, outbox));
        self.server.source_connected(&name);
    }

    pub(super) fn source_ended(&mut self, name: &str, reason: &str) {
        let Some(source) = self.sources.get_mut(name) else { return };
        tracing::info!(target: "reconnect", "{}: connection dropped ({reason})", source.remote);
        source.connection = None;
        self.server.source_disconnected(name, self.clock.now());
    }

    pub(super) fn tell_source(&mut self, name: &str, message: Value) {
        let Some(source) = self.sources.get(name) else { return };
        let Some((_, outbox)) = &source.connection else { return };
        if outbox.send(message.into()) {
            outbox.push();
        } else {
            self.source_ended(name, "too many messages wait");
        }
    }

    pub(super) fn source_message(&mut self, session: SessionId, message: &Value, now: Instant) {
        let Some(name) = self.follower(session) else { return };
        self.server.source_message(&name, message, now);
        if !self.server.follow_failed(&name) {
            return;
        }
        self.become_active(&name);
        // Databases that share their configuration share its end.
        if !self.settings.by_file && self.settings.is_backup {
            self.disconnect_active();
        }
    }

    /// Ends that a database is a backup.
    fn become_active(&mut self, name: &Arc<str>) {
        if let Some(served) = self.served.get_mut(name) {
            served.config.backup = false;
        }
        self.follow_source(name);
    }

    /// The databases that are, or may be, backups.
    fn backups(&self) -> Vec<Arc<str>> {
        let is_one = |served: &Served| served.config.model == Some(Model::ActiveBackup);
        self.served.iter().filter(|(_, served)| is_one(served)).map(|(name, _)| name.clone()).collect()
    }

    /// Names the server that backups follow, from when they are told to.
    pub fn set_active(&mut self, remote: &str) {
        self.settings.sync_from = Some(remote.to_owned());
        for served in self.served.values_mut().filter(|s| s.config.model == Some(Model::ActiveBackup)) {
            let options = served.config.source.take().map(|(_, options)| options);
            let options = options.unwrap_or_else(|| source_options(Model::ActiveBackup));
            served.config.source = Some((remote.to_owned(), options));
        }
    }

    /// Makes all databases with files follow the active server; false if none is named.
    pub fn connect_active(&mut self) -> bool {
        let Some(remote) = self.settings.sync_from.clone() else { return false };
        let exclude = self.settings.sync_exclude.clone();
        for served in self.served.values_mut() {
            if served.config.model == Some(Model::Standalone) {
                served.config = DbConfig {
                    model: Some(Model::ActiveBackup),
                    source: Some((remote.clone(), source_options(Model::ActiveBackup))),
                    exclude: exclude.clone(),
                    backup: false,
                };
            }
            served.config.backup |= served.config.model == Some(Model::ActiveBackup);
        }
        self.settings.is_backup = true;
        self.backups().iter().for_each(|name| self.follow_source(name));
        true
    }

    /// Makes all backups active.
    pub fn disconnect_active(&mut self) {
        self.settings.is_backup = false;
        self.backups().iter().for_each(|name| self.become_active(name));
    }

    /// Sets the tables that backups leave out.
    pub fn set_excluded(&mut self, tables: &str) {
        self.settings.sync_exclude = Some(tables.to_owned());
        for name in self.backups() {
            if let Some(served) = self.served.get_mut(&name) {
                served.config.exclude = Some(tables.to_owned());
            }
            self.follow_source(&name);
        }
    }

    /// Sets how long the sources of databases of a model may be silent.
    pub fn set_source_probe(&mut self, model: Model, ms: u64) {
        let names: Vec<Arc<str>> = self.served.keys().cloned().collect();
        for name in names {
            let Some(served) = self.served.get_mut(&name) else { continue };
            if let (true, Some((_, options))) =
                (served.config.model == Some(model), &mut served.config.source)
            {
                options.probe_interval_ms = Some(ms);
                self.follow_source(&name);
            }
        }
    }

    /// Which databases are backups and how they fare, as `ovsdb-server/sync-status` tells.
    pub fn sync_status(&self) -> String {
        let all: BTreeMap<&str, Option<&Served>> = std::iter::once(("_Server", None))
            .chain(self.served.iter().map(|(name, served)| (&**name, Some(served))))
            .collect();
        let mut out = String::new();
        for (i, (name, served)) in all.iter().enumerate() {
            let Some(config) = served.map(|served| &served.config) else { continue };
            if config.model != Some(Model::ActiveBackup) {
                continue;
            }
            let state = if config.backup { "backup" } else { "active" };
            out += &format!("database: {name}\nstate: {state}\n");
            out += &self.server.follow_status(name).filter(|_| config.backup).unwrap_or_default();
            if i + 1 < all.len() {
                out.push('\n');
            }
        }
        if out.is_empty() { "state: active\n".to_owned() } else { out }
    }
}

/// Whether a database that is served by one model may be by another without being opened anew.
fn can_become(now: Option<Model>, then: Option<Model>) -> bool {
    use Model::{ActiveBackup, Standalone};
    match (now, then) {
        (Some(now), Some(then)) => {
            now == then || matches!((now, then), (Standalone, ActiveBackup) | (ActiveBackup, Standalone))
        }
        (now, None) => now == Some(Standalone),
        (None, Some(_)) => false,
    }
}
