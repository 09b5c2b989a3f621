//! Remotes: where a server listens and connects to, some of them told by a database column (`db:DB,TABLE,COLUMN`).

use std::collections::{BTreeMap, BTreeSet};

use crate::database::{Database, Row, TableId};
use crate::transaction::Transaction;
use crate::types::AtomicType;
use crate::value::{Datum, Uuid};

/// How a remote is treated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Longest pause between attempts to connect, in milliseconds.
    pub max_backoff_ms: u64,
    /// Milliseconds of silence after which the peer is probed, and dropped after as many again; 0 is never. `None` is
    /// 5 s for connections that may break silently, never for others.
    pub probe_interval_ms: Option<u64>,
    /// Its clients may not change anything.
    pub read_only: bool,
    /// Differentiated services code point of TCP connections.
    pub dscp: u8,
    /// What its clients may change, if the database knows roles; everything, if empty.
    pub role: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_backoff_ms: 8_000,
            probe_interval_ms: None,
            read_only: false,
            dscp: 48,
            role: String::new(),
        }
    }
}

/// A column that `db:DB,TABLE,COLUMN` names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnName {
    /// The database.
    pub db: String,
    /// The table's name.
    pub table: String,
    /// The column's name.
    pub column: String,
}

/// Why a column name does not help.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ColumnError {
    /// Not three names.
    #[error("\"{0}\": invalid syntax")]
    Syntax(String),
    /// The database is not served.
    #[error("\"{0}\": no database named {1}")]
    Database(String, String),
    /// The database has no such table.
    #[error("\"{0}\": no table named {1}")]
    Table(String, String),
    /// The table has no such column.
    #[error("\"{0}\": table \"{1}\" has no column \"{2}\"")]
    Column(String, String, String),
    /// The column holds no strings.
    #[error("\"{0}\": table \"{1}\" column \"{2}\" is not string or set of strings")]
    NoString(String, String, String),
}

/// A column, found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    db: &'a Database,
    table: TableId,
    column: usize,
}

impl ColumnName {
    /// Parses `db:DB,TABLE,COLUMN`.
    pub fn parse(text: &str) -> Result<Self, ColumnError> {
        let names = text.strip_prefix("db:").map(|rest| rest.split(',').filter(|name| !name.is_empty()));
        let mut names = names.into_iter().flatten().map(str::to_owned);
        match (names.next(), names.next(), names.next()) {
            (Some(db), Some(table), Some(column)) => Ok(Self { db, table, column }),
            _ => Err(ColumnError::Syntax(text.to_owned())),
        }
    }

    /// Finds the column that `text` names; `lookup` finds databases.
    pub fn find<'a>(
        text: &str,
        lookup: impl Fn(&str) -> Option<&'a Database>,
    ) -> Result<Found<'a>, ColumnError> {
        let name = Self::parse(text)?;
        let whole = || text.to_owned();
        let Some(db) = lookup(&name.db) else { return Err(ColumnError::Database(whole(), name.db)) };
        let Some(table) = db.table_id(&name.table) else {
            return Err(ColumnError::Table(whole(), name.table));
        };
        let Some(column) = db.table(table).schema().column(&name.column) else {
            return Err(ColumnError::Column(whole(), name.table, name.column));
        };
        Ok(Found { db, table, column })
    }

    /// The first string that is not empty in the column that `text` names: for `--private-key` and the like.
    pub fn string<'a>(
        text: &str,
        lookup: impl Fn(&str) -> Option<&'a Database>,
    ) -> Result<Option<&'a str>, ColumnError> {
        let found = Self::find(text, lookup)?;
        let schema = found.db.table(found.table).schema();
        let column = &schema.columns[found.column];
        if column.kind.is_map() || column.kind.key.kind() != AtomicType::String {
            return Err(ColumnError::NoString(
                text.to_owned(),
                schema.name.to_string(),
                column.name.to_string(),
            ));
        }
        let rows = found.db.table(found.table).rows();
        Ok(rows.flat_map(|row| row.get(found.column).strings()).find(|text| !text.is_empty()))
    }
}

impl Found<'_> {
    /// The table whose rows the column refers to.
    fn target(&self) -> Option<TableId> {
        let table = self.db.table(self.table);
        let is_map = table.schema().columns[self.column].kind.is_map();
        let reference = table.references().iter().find(|r| r.column == self.column && !r.in_value);
        reference.filter(|_| !is_map).map(|reference| reference.target)
    }

    fn data(&self) -> impl Iterator<Item = &Datum> {
        self.db.table(self.table).rows().map(|row| row.get(self.column))
    }

    /// The rows that the column refers to.
    fn referred(&self) -> Vec<(TableId, Uuid)> {
        let Some(target) = self.target() else { return Vec::new() };
        let rows: BTreeSet<Uuid> = self.data().flat_map(Datum::uuids).collect();
        rows.into_iter().map(|uuid| (target, uuid)).collect()
    }
}

/// The remotes that `configured` means: itself, or what its column says. Errors are lines for the log.
pub fn resolve<'a>(
    configured: &BTreeMap<String, Options>,
    lookup: impl Fn(&str) -> Option<&'a Database>,
) -> (BTreeMap<String, Options>, Vec<ColumnError>) {
    let mut remotes = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, options) in configured {
        if !name.starts_with("db:") {
            remotes.insert(name.clone(), options.clone());
            continue;
        }
        match ColumnName::find(name, &lookup) {
            Ok(found) => {
                for target in found.data().flat_map(Datum::strings) {
                    remotes.entry(target.to_owned()).or_default();
                }
                for (table, uuid) in found.referred() {
                    if let Some((target, options)) = manager(found.db, table, uuid) {
                        remotes.insert(target, options);
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    (remotes, errors)
}

/// What a row of a table like `Manager` says.
fn manager(db: &Database, table: TableId, uuid: Uuid) -> Option<(String, Options)> {
    let schema = db.table(table).schema();
    let row = db.table(table).row(uuid)?;
    let get = |name: &str| schema.column(name).map(|at| row.get(at));
    let target = get("target")?.as_str()?.to_owned();
    let number = |name: &str| get(name).and_then(Datum::as_integer).and_then(|n| u64::try_from(n).ok());
    let defaults = Options::default();
    let dscp = get("other_config").and_then(|config| config.get("dscp")).and_then(|text| text.parse().ok());
    let options = Options {
        max_backoff_ms: number("max_backoff").unwrap_or(defaults.max_backoff_ms),
        probe_interval_ms: number("inactivity_probe"),
        read_only: get("read_only").and_then(Datum::as_bool).unwrap_or(false),
        dscp: dscp.filter(|dscp| *dscp < 64).unwrap_or(defaults.dscp),
        role: get("role").and_then(Datum::as_str).unwrap_or_default().to_owned(),
    };
    Some((target, options))
}

/// How a remote fares.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// A session of it is connected.
    pub is_connected: bool,
    /// Members of the column `status`.
    pub status: BTreeMap<&'static str, String>,
}

/// Writes the status of remotes into the rows that configure them, all of database `db`.
pub fn write_status(txn: &mut Transaction<'_>, remotes: &BTreeSet<String>, status: impl Fn(&str) -> Status) {
    let db = txn.database();
    for name in remotes {
        let Ok(found) = ColumnName::find(name, |wanted| (wanted == &*db.schema().name).then_some(db)) else {
            continue;
        };
        for (table, uuid) in found.referred() {
            write_row(txn, table, uuid, &status);
        }
    }
}

fn write_row(txn: &mut Transaction<'_>, table: TableId, uuid: Uuid, status: impl Fn(&str) -> Status) {
    let schema = txn.database().table(table).schema().clone();
    let target =
        schema.column("target").and_then(|at| Some(txn.row(table, uuid)?.get(at).as_str()?.to_owned()));
    let Some(target) = target else { return };
    let status = status(&target);
    let put = |row: &mut Row, name: &str, datum: Datum| {
        // Other schemas may give the columns other types: those are left alone.
        if let Some(at) = schema.column(name)
            && row.get(at).is_map() == datum.is_map()
        {
            row.set(at, datum);
        }
    };
    if let Some(row) = txn.modify(table, uuid) {
        put(row, "is_connected", Datum::one(status.is_connected));
        put(row, "status", Datum::map(status.status));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::transact::{self, Context, Outcome};
    use crate::vswitch;

    fn database() -> Database {
        let mut db = Database::new(vswitch::schema());
        let params = json!(["Open_vSwitch",
            {"op": "insert", "table": "Manager", "uuid-name": "m",
             "row": {"target": "ptcp:6640", "inactivity_probe": 7, "other_config": ["map", [["dscp", "8"]]]}},
            {"op": "insert", "table": "SSL", "uuid-name": "s",
             "row": {"ca_cert": "ca", "certificate": "cert", "private_key": "key"}},
            {"op": "insert", "table": "Open_vSwitch",
             "row": {"manager_options": ["named-uuid", "m"], "ssl": ["named-uuid", "s"]}}]);
        let locks = BTreeSet::new();
        let context = Context {
            locks: &locks,
            read_only: false,
            client: crate::rbac::Client::default(),
            elapsed_ms: 0,
            can_wait: false,
            new_uuid: transact::random_uuid,
        };
        let Outcome::Done { commit: Some(commit), .. } = transact::execute(&db, &params, &context) else {
            panic!("refused")
        };
        db.apply(&commit.changes);
        db
    }

    const COLUMN: &str = "db:Open_vSwitch,Open_vSwitch,manager_options";

    #[test]
    fn managers_become_remotes_and_hear_of_themselves() {
        let mut db = database();
        let configured = BTreeMap::from([
            (COLUMN.to_owned(), Options::default()),
            ("punix:x".to_owned(), Options::default()),
        ]);
        let (remotes, errors) = resolve(&configured, |name| (name == "Open_vSwitch").then_some(&db));
        assert_eq!(errors, []);
        let manager = Options { probe_interval_ms: Some(7), dscp: 8, ..Options::default() };
        assert_eq!(
            remotes,
            BTreeMap::from([("ptcp:6640".to_owned(), manager), ("punix:x".to_owned(), Options::default())])
        );
        let mut txn = Transaction::new(&db);
        write_status(&mut txn, &BTreeSet::from([COLUMN.to_owned()]), |target| {
            assert_eq!(target, "ptcp:6640");
            Status { is_connected: true, status: BTreeMap::from([("bound_port", "6640".to_owned())]) }
        });
        let changes = txn.finish(&mut transact::random_uuid).unwrap();
        db.apply(&changes);
        let row = db.table_named("Manager").unwrap().rows().next().unwrap();
        let at = |name: &str| db.table_named("Manager").unwrap().schema().column(name).unwrap();
        assert_eq!(row.get(at("is_connected")).as_bool(), Some(true));
        assert_eq!(row.get(at("status")), &Datum::map([("bound_port", "6640")]));
    }

    #[test]
    fn strings_and_faults() {
        let db = database();
        let string = |text: &str| {
            ColumnName::string(text, |name| (name == "Open_vSwitch").then_some(&db))
                .map_err(|error| error.to_string())
        };
        assert_eq!(string("db:Open_vSwitch,SSL,private_key"), Ok(Some("key")));
        assert_eq!(string("db:a,b"), Err("\"db:a,b\": invalid syntax".to_owned()));
        assert_eq!(string("db:a,b,c"), Err("\"db:a,b,c\": no database named a".to_owned()));
        assert_eq!(
            string("db:Open_vSwitch,b,c"),
            Err("\"db:Open_vSwitch,b,c\": no table named b".to_owned())
        );
        assert_eq!(
            string("db:Open_vSwitch,SSL,c"),
            Err("\"db:Open_vSwitch,SSL,c\": table \"SSL\" has no column \"c\"".to_owned())
        );
        assert_eq!(
            string("db:Open_vSwitch,SSL,bootstrap_ca_cert"),
            Err("\"db:Open_vSwitch,SSL,bootstrap_ca_cert\": table \"SSL\" column \"bootstrap_ca_cert\" is not string \
                 or set of strings"
                .to_owned())
        );
    }
}
