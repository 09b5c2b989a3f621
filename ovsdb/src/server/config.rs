//! What a server serves and how: the service model of each database and the options of each remote, read from and
//! written to JSON (`ovsdb-server(5)`): the file of `--config-file`, and what a server under `--monitor` leaves to the
//! one that takes its place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::remotes::Options;
use crate::json as js;
use crate::parser::{Kinds, Parser};

/// How long a backup's source may be silent, in milliseconds.
pub const BACKUP_PROBE_MS: u64 = 60_000;
/// How long a relay's source may be silent, in milliseconds.
pub const RELAY_PROBE_MS: u64 = 5_000;

/// How a database is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// From a file of one server.
    Standalone,
    /// From a file of a Raft cluster's member.
    Clustered,
    /// From a file that may follow another server.
    ActiveBackup,
    /// From another server, without a file.
    Relay,
}

impl Model {
    const NAMES: [(&'static str, Self); 4] = [
        ("standalone", Self::Standalone),
        ("clustered", Self::Clustered),
        ("active-backup", Self::ActiveBackup),
        ("relay", Self::Relay),
    ];

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, model)| *model == self).map_or("", |(name, _)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, model)| *model)
    }
}

/// How one database is to be served.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DbConfig {
    /// The model; without one, what the file is.
    pub model: Option<Model>,
    /// The server to follow, and how to connect to it.
    pub source: Option<(String, Options)>,
    /// Tables not to follow, as given: `TABLE` or `DB:TABLE`, separated by commas.
    pub exclude: Option<String>,
    /// It follows its source now; nobody else may change it.
    pub backup: bool,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// The remotes.
    pub remotes: BTreeMap<String, Options>,
    /// The databases by file name, or by name for relays.
    pub databases: BTreeMap<String, DbConfig>,
    /// `--sync-from`.
    pub sync_from: Option<String>,
    /// `--sync-exclude-tables`.
    pub sync_exclude: Option<String>,
    /// The databases given on the command line follow `sync_from`.
    pub is_backup: bool,
}

impl Config {
    /// Adds a database as the command line names it: a file, or `relay:DB:REMOTE`.
    pub fn add_database(&mut self, text: &str, active: bool) {
        let (name, config) = self.database(text, active);
        if self.databases.insert(name, config).is_some() {
            tracing::warn!(target: "ovsdb_server", "Duplicate database configuration: {text}");
        }
    }

    /// What the command line means by `text`: the name for [`Config::databases`], and how to serve it.
    pub fn database(&self, text: &str, active: bool) -> (String, DbConfig) {
        if let Some((name, source)) = relay_of(text) {
            let options = source_options(Model::Relay);
            let source = Some((source.to_owned(), options));
            return (name.to_owned(), DbConfig { model: Some(Model::Relay), source, ..DbConfig::default() });
        }
        let config = match &self.sync_from {
            Some(source) => DbConfig {
                model: Some(Model::ActiveBackup),
                source: Some((source.clone(), source_options(Model::ActiveBackup))),
                exclude: self.sync_exclude.clone(),
                backup: !active,
            },
            None => DbConfig::default(),
        };
        (text.to_owned(), config)
    }

    /// Reads a configuration. Errors are the lines for the log.
    pub fn from_text(text: &str) -> Result<Self, Vec<String>> {
        let value =
            js::parse(text).map_err(|error| vec![format!("config: reading JSON failed ({error})")])?;
        let Some(members) = value.as_object() else {
            return Err(vec!["configuration in a file must be a JSON object".to_owned()]);
        };
        let string = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut config = Self {
            sync_from: string("sync_from"),
            sync_exclude: string("sync_exclude"),
            is_backup: members.get("is_backup") == Some(&Value::Bool(true)),
            ..Self::default()
        };
        config.read_remotes(members.get("remotes").unwrap_or(&Value::Null)).map_err(|mut lines| {
            lines.push("config: failed to parse 'remotes'".to_owned());
            lines
        })?;
        config.read_databases(members.get("databases").unwrap_or(&Value::Null)).map_err(|mut lines| {
            lines.push("config: failed to parse 'databases'".to_owned());
            lines
        })?;
        Ok(config)
    }

    fn read_remotes(&mut self, value: &Value) -> Result<(), Vec<String>> {
        if value.is_null() {
            return Ok(());
        }
        let Some(members) = value.as_object() else {
            return Err(vec!["config: 'remotes' is not a JSON object".to_owned()]);
        };
        for (name, options) in members {
            let options = match options {
                Value::Null => Options::default(),
                Value::Object(_) => read_options(options, Options::default(), false),
                _ => return Err(vec![format!("{name}: JSON-RPC options are not a JSON object or null")]),
            };
            self.remotes.insert(name.clone(), options);
        }
        Ok(())
    }

    fn read_databases(&mut self, value: &Value) -> Result<(), Vec<String>> {
        if value.is_null() {
            return Ok(());
        }
        let Some(members) = value.as_object() else {
            return Err(vec!["config: 'databases' is not a JSON object or null".to_owned()]);
        };
        for (name, value) in members {
            self.databases.insert(name.clone(), DbConfig::from_json(name, value)?);
        }
        Ok(())
    }

    /// The configuration as JSON.
    pub fn to_json(&self) -> Value {
        let remotes: Map<String, Value> =
            self.remotes.iter().map(|(name, options)| (name.clone(), options_json(options, false))).collect();
        let databases: Map<String, Value> =
            self.databases.iter().map(|(name, config)| (name.clone(), config.to_json())).collect();
        let mut value = json!({"remotes": remotes, "databases": databases, "is_backup": self.is_backup});
        if let Some(text) = &self.sync_from {
            value["sync_from"] = text.as_str().into();
        }
        if let Some(text) = &self.sync_exclude {
            value["sync_exclude"] = text.as_str().into();
        }
        value
    }
}

impl DbConfig {
    fn from_json(name: &str, value: &Value) -> Result<Self, Vec<String>> {
        let mut config = Self::default();
        if value.is_null() {
            return Ok(config);
        }
        let mut lines = Vec::new();
        let mut parser = Parser::new(value, format!("database {name}"));
        if let Some(model) = parser.optional("service-model", Kinds::STRING).and_then(Value::as_str) {
            config.model = Model::from_name(model);
            if config.model.is_none() {
                lines.push(format!("Unrecognized database service model: '{model}'"));
                parser.fail(format!("'{model}' is not a valid service model"));
            }
        }
        if config.model == Some(Model::ActiveBackup) {
            config.backup = parser.required("backup", Kinds::BOOLEAN) == Some(&Value::Bool(true));
            if let Some(tables) = parser.optional("exclude-tables", Kinds::ARRAY) {
                config.exclude = excluded_names(&mut parser, tables);
            }
        }
        if let Some(model @ (Model::ActiveBackup | Model::Relay)) = config.model {
            config.read_source(&mut parser, model);
        }
        match parser.finish() {
            Ok(()) => Ok(config),
            Err(error) => {
                lines.push(error.to_string());
                Err(lines)
            }
        }
    }

    fn read_source(&mut self, parser: &mut Parser<'_>, model: Model) {
        let may_lack = model == Model::ActiveBackup && !self.backup;
        let source = if may_lack {
            parser.optional("source", Kinds::OBJECT)
        } else {
            parser.required("source", Kinds::OBJECT)
        };
        let Some(members) = source.and_then(Value::as_object) else { return };
        let mut members = members.iter();
        let (Some((remote, options)), None) = (members.next(), members.next()) else {
            parser.fail("'source' should be an object with exactly one element");
            return;
        };
        let defaults = source_options(model);
        let options = match options {
            Value::Object(_) => read_options(options, defaults, true),
            Value::Null => defaults,
            _ => {
                parser.fail("JSON-RPC options is not a JSON object or null");
                return;
            }
        };
        self.source = Some((remote.clone(), options));
    }

    fn to_json(&self) -> Value {
        let mut value = json!({});
        if let Some(model) = self.model {
            value["service-model"] = model.name().into();
        }
        if let Some((remote, options)) = &self.source {
            value["source"] = json!({ remote: options_json(options, true) });
        }
        if self.model == Some(Model::ActiveBackup) {
            if let Some(exclude) = &self.exclude {
                value["exclude-tables"] = names(exclude).into_iter().collect();
            }
            value["backup"] = self.backup.into();
        }
        value
    }

    /// The tables of database `db` that are not followed.
    pub fn excluded(&self, db: &str) -> BTreeSet<String> {
        let all = names(self.exclude.as_deref().unwrap_or_default());
        let table = |name: &str| match name.split_once(':') {
            None => Some(name.to_owned()),
            Some((of, table)) => (of == db).then(|| table.to_owned()),
        };
        all.into_iter().filter_map(table).collect()
    }
}

fn excluded_names(parser: &mut Parser<'_>, tables: &Value) -> Option<String> {
    let mut set = BTreeSet::new();
    for table in tables.as_array().into_iter().flatten() {
        let Some(table) = table.as_str() else {
            parser.fail("'exclude-tables' must contain strings");
            break;
        };
        set.insert(table);
    }
    Some(set.into_iter().collect::<Vec<_>>().join(","))
}

/// The names in a list of excluded tables.
fn names(text: &str) -> BTreeSet<&str> {
    text.split([' ', ',']).filter(|name| !name.is_empty()).collect()
}

/// An error if a name in a list of excluded tables is not `DB:TABLE`.
pub fn check_excluded(text: &str) -> Result<(), String> {
    let has_table = |name: &&str| name.split_once(':').is_some_and(|(_, table)| !table.is_empty());
    match names(text).iter().find(|name| !has_table(name)) {
        Some(name) => Err(format!("Can't parse excluded table: {name}")),
        None => Ok(()),
    }
}

/// Splits `relay:DB:REMOTE`.
fn relay_of(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("relay:")?.split_once(':').filter(|(_, remote)| !remote.is_empty())
}

/// How a source is connected to, unless the configuration says otherwise.
pub fn source_options(model: Model) -> Options {
    let probe = if model == Model::Relay { RELAY_PROBE_MS } else { BACKUP_PROBE_MS };
    Options { probe_interval_ms: Some(probe), ..Options::default() }
}

/// The options in `value`, the others as in `options`. What is wrong is told the log.
fn read_options(value: &Value, mut options: Options, connection_only: bool) -> Options {
    let mut parser = Parser::new(value, "JSON-RPC options");
    let number = |parser: &mut Parser<'_>, name| {
        parser.optional(name, Kinds::INTEGER).and_then(js::integer).and_then(|n| u64::try_from(n).ok())
    };
    options.max_backoff_ms = number(&mut parser, "max-backoff").unwrap_or(options.max_backoff_ms);
    options.probe_interval_ms = number(&mut parser, "inactivity-probe").or(options.probe_interval_ms);
    if let Some(dscp) = number(&mut parser, "dscp").and_then(|dscp| u8::try_from(dscp).ok()) {
        options.dscp = dscp;
    }
    if !connection_only {
        if let Some(read_only) = parser.optional("read-only", Kinds::BOOLEAN) {
            options.read_only = read_only == &Value::Bool(true);
        }
        if let Some(role) = parser.optional("role", Kinds::STRING).and_then(Value::as_str) {
            options.role = role.to_owned();
        }
    }
    if let Err(error) = parser.finish() {
        tracing::warn!(target: "jsonrpc_server", "{error}");
    }
    options
}

fn options_json(options: &Options, connection_only: bool) -> Value {
    let mut value = json!({"max-backoff": options.max_backoff_ms, "dscp": options.dscp});
    if let Some(ms) = options.probe_interval_ms {
        value["inactivity-probe"] = ms.into();
    }
    if !connection_only {
        value["read-only"] = options.read_only.into();
        if !options.role.is_empty() {
            value["role"] = options.role.as_str().into();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_being_written() {
        let text = r#"{"remotes": {"punix:s": {}, "ptcp:1": {"read-only": true, "role": "r", "inactivity-probe": 7}},
            "databases": {"a": null, "b": {"service-model": "standalone"},
             "c": {"service-model": "active-backup", "backup": true, "source": {"tcp:x": null},
                   "exclude-tables": ["t", "u"]},
             "d": {"service-model": "relay", "source": {"tcp:x,tcp:y": {"max-backoff": 5}}}}}"#;
        let config = Config::from_text(text).expect("it is valid");
        assert_eq!(Config::from_text(&config.to_json().to_string()).as_ref(), Ok(&config));
        assert_eq!(config.databases["c"].excluded("db"), BTreeSet::from(["t".to_owned(), "u".to_owned()]));
        let source = Options { max_backoff_ms: 5, ..source_options(Model::Relay) };
        assert_eq!(config.databases["d"].source, Some(("tcp:x,tcp:y".to_owned(), source)));
        let remote = Options {
            read_only: true,
            role: "r".to_owned(),
            probe_interval_ms: Some(7),
            ..Options::default()
        };
        assert_eq!(config.remotes["ptcp:1"], remote);
    }

    #[test]
    fn faults_are_named() {
        let fault = |text: &str| Config::from_text(text).expect_err("it is not valid").join("\n");
        assert_eq!(fault("[]"), "configuration in a file must be a JSON object");
        assert_eq!(
            fault(r#"{"remotes": {"a": 1}}"#),
            "a: JSON-RPC options are not a JSON object or null\nconfig: failed to parse 'remotes'"
        );
        assert_eq!(
            fault(r#"{"databases": {"a": {"service-model": "x"}}}"#),
            "Unrecognized database service model: 'x'\nsyntax \"{\"service-model\":\"x\"}\": syntax error: Parsing \
             database a failed: 'x' is not a valid service model\nconfig: failed to parse 'databases'"
        );
        assert_eq!(check_excluded("a:b,c"), Err("Can't parse excluded table: c".to_owned()));
        assert_eq!(check_excluded("a:b, c:d"), Ok(()));
    }

    #[test]
    fn the_command_line_names_relays_and_backups() {
        let mut config = Config::default();
        config.add_database("relay:d:tcp:1.2.3.4:5", false);
        config.add_database("file", false);
        config.sync_from = Some("tcp:x".to_owned());
        config.sync_exclude = Some("d:t,e:u".to_owned());
        config.add_database("backup", false);
        assert_eq!(
            config.databases["d"].source.as_ref().map(|(remote, _)| remote.as_str()),
            Some("tcp:1.2.3.4:5")
        );
        assert_eq!(config.databases["file"], DbConfig::default());
        let backup = &config.databases["backup"];
        assert!(backup.backup);
        assert_eq!(backup.excluded("d"), BTreeSet::from(["t".to_owned()]));
    }
}
