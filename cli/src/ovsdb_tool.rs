//! What `ovsdb-tool` does: commands on database files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use flow::time::WallTime;
use ovsdb::database::Database;
use ovsdb::error::Error;
use ovsdb::json;
use ovsdb::rbac::Client;
use ovsdb::schema::{DatabaseSchema, is_version};
use ovsdb::storage::{self, FileLock, Kind, Record};
use ovsdb::transact::{self, Context, Outcome};
use ovsdb::types::Type;
use ovsdb::value::Datum;
use serde_json::Value;
use std::sync::Arc;

/// What the options and the environment say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database that commands mean without an argument.
    pub default_db: PathBuf,
    /// The schema that commands mean without an argument.
    pub default_schema: PathBuf,
    /// `-m`, counted.
    pub more: usize,
    /// `--rbac-role`: the role in which `query` and `transact` work.
    pub role: String,
    /// `--storage`: what `create` creates.
    pub storage: Kind,
    /// The time.
    pub now: WallTime,
}

/// What a command prints and how the program ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// For standard output.
    pub text: String,
    /// The exit status.
    pub status: i32,
}

type Outcome1 = Result<Done, String>;

/// A command: its name, arguments as OVS shows them, fewest and most of them, what it does.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub usage: &'static str,
    min: usize,
    max: usize,
    run: fn(&Settings, &[String]) -> Outcome1,
}

const fn command(
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: fn(&Settings, &[String]) -> Outcome1,
) -> Command {
    Command { name, usage, min, max, run }
}

/// All commands.
pub const COMMANDS: [Command; 24] = [
    command("create", "[db [schema]]", 0, 2, create),
    command("create-cluster", "db contents local", 3, 3, |_, args| clustered(&args[0])),
    command("join-cluster", "db name local remote...", 4, usize::MAX, |_, args| clustered(&args[0])),
    command("compact", "[db [dst]]", 0, 2, compact),
    command("convert", "[db [schema [dst]]]", 0, 3, convert),
    command("copy", "db dst", 2, 2, copy),
    command("needs-conversion", " [db [schema]]", 0, 2, needs_conversion),
    command("db-name", "[db]", 0, 1, |settings, args| {
        of_db(settings, args, |schema| schema.name.to_string())
    }),
    command("db-version", "[db]", 0, 1, |settings, args| {
        of_db(settings, args, |schema| schema.version.clone())
    }),
    command("db-cksum", "[db]", 0, 1, |settings, args| of_db(settings, args, |schema| schema.cksum.clone())),
    command("db-cid", "db", 1, 1, |_, args| not_clustered(&args[0])),
    command("db-sid", "db", 1, 1, |_, args| not_clustered(&args[0])),
    command("db-local-address", "db", 1, 1, |_, args| not_clustered(&args[0])),
    command("db-is-clustered", "db", 1, 1, |_, args| db_is(&args[0], false)),
    command("db-is-standalone", "db", 1, 1, |_, args| db_is(&args[0], true)),
    command("schema-name", "[schema]", 0, 1, |settings, args| {
        of_schema(settings, args, |s| s.name.to_string())
    }),
    command("schema-version", "[schema]", 0, 1, |settings, args| {
        of_schema(settings, args, |s| s.version.clone())
    }),
    command("schema-cksum", "[schema]", 0, 1, |settings, args| {
        of_schema(settings, args, |s| s.cksum.clone())
    }),
    command("compare-versions", "a op b", 3, 3, compare_versions),
    command("query", "[db] trns", 1, 2, |settings, args| run_transaction(settings, args, false)),
    command("transact", "[db] trns", 1, 2, |settings, args| run_transaction(settings, args, true)),
    command("show-log", "[db]", 0, 1, show_log),
    command("check-cluster", "db...", 1, usize::MAX, |_, args| clustered(&args[0])),
    command("cluster-to-standalone", "db clusterdb", 2, 2, |_, args| clustered(&args[1])),
];

/// Runs a command line without its options.
pub fn run(settings: &Settings, args: &[String]) -> Outcome1 {
    let Some((name, args)) = args.split_first() else {
        return Err("missing command name; use --help for help".to_owned());
    };
    if name == "list-commands" {
        return Ok(list_commands());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(format!("unknown command '{name}'; use --help for help"));
    };
    if args.len() < command.min {
        return Err(format!("'{name}' command requires at least {} arguments", command.min));
    }
    if args.len() > command.max {
        return Err(format!("'{name}' command takes at most {} arguments", command.max));
    }
    (command.run)(settings, args)
}

fn list_commands() -> Done {
    let mut lines: Vec<String> =
        COMMANDS.iter().map(|command| format!("  {:<23} {}\n", command.name, command.usage)).collect();
    lines.push(format!("  {:<23} {}\n", "list-commands", ""));
    done("The available commands are:\n".to_owned() + &lines.concat())
}

fn done(text: impl Into<String>) -> Done {
    Done { text: text.into(), status: 0 }
}

fn line(text: impl Into<String>) -> Outcome1 {
    Ok(done(text.into() + "\n"))
}

fn path(args: &[String], at: usize, default: &Path) -> PathBuf {
    args.get(at).map_or_else(|| default.to_owned(), PathBuf::from)
}

fn text_of(error: &Error) -> String {
    error.to_string()
}

fn read_schema_file(path: &Path) -> Result<DatabaseSchema, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let cause = format!("error opening \"{name}\": {}", ovsdb::error::os_text(&error));
        text_of(&Error::new(
            "failed to read schema",
            format!("\"{name}\" could not be read as JSON ({cause})"),
        ))
    })?;
    DatabaseSchema::from_text(&name, &text).map_err(|error| text_of(&error))
}

fn open(path: &Path) -> Result<Database, String> {
    let opened = storage::open(path, true).map_err(|error| text_of(&error))?;
    match opened.damage {
        Some(damage) => Err(text_of(&damage)),
        None => Ok(opened.database),
    }
}

fn create(settings: &Settings, args: &[String]) -> Outcome1 {
    let schema = read_schema_file(&path(args, 1, &settings.default_schema))?;
    let database = Database::new(Arc::new(schema));
    let db = path(args, 0, &settings.default_db);
    storage::create(&db, settings.storage, &database, "created by ovsdb-tool", settings.now)
        .map_err(|error| text_of(&error))?;
    Ok(done(""))
}

fn clustered(db: &str) -> Outcome1 {
    Err(format!("{db}: clustered databases are not supported (this build serves journals and SQLite)"))
}

fn not_clustered(db: &str) -> Outcome1 {
    match storage::kind_of(Path::new(db)) {
        Ok(_) => Err(format!("{db}: not a clustered database")),
        Err(error) => Err(text_of(&error)),
    }
}

fn db_is(db: &str, standalone: bool) -> Outcome1 {
    let name = Path::new(db);
    let is_standalone = match storage::kind_of(name) {
        Ok(_) => true,
        Err(_) if std::fs::read(name).is_ok_and(|bytes| bytes.starts_with(b"OVSDB CLUSTER ")) => false,
        Err(error) => return Err(text_of(&error)),
    };
    Ok(Done { text: String::new(), status: if is_standalone == standalone { 0 } else { 2 } })
}

fn of_db(settings: &Settings, args: &[String], pick: fn(&DatabaseSchema) -> String) -> Outcome1 {
    let db = path(args, 0, &settings.default_db);
    let schema = match storage::kind_of(&db).map_err(|error| text_of(&error))? {
        Kind::Journal => storage::journal::read_schema(&db).map_err(|error| text_of(&error))?,
        Kind::Sqlite => (**open(&db)?.schema()).clone(),
    };
    line(pick(&schema))
}

fn of_schema(settings: &Settings, args: &[String], pick: fn(&DatabaseSchema) -> String) -> Outcome1 {
    line(pick(&read_schema_file(&path(args, 0, &settings.default_schema))?))
}

fn needs_conversion(settings: &Settings, args: &[String]) -> Outcome1 {
    let db = path(args, 0, &settings.default_db);
    let old = match storage::kind_of(&db).map_err(|error| text_of(&error))? {
        Kind::Journal => storage::journal::read_schema(&db).map_err(|error| text_of(&error))?,
        Kind::Sqlite => (**open(&db)?.schema()).clone(),
    };
    let new = read_schema_file(&path(args, 1, &settings.default_schema))?;
    line(if old.to_json() == new.to_json() { "no" } else { "yes" })
}

/// The program's version in the comments of compactions and conversions.
const VERSION: &str = "3.7.1";

fn compact(settings: &Settings, args: &[String]) -> Outcome1 {
    let db = path(args, 0, &settings.default_db);
    rewrite(settings, &db, args.get(1), None, &format!("compacted by ovsdb-tool {VERSION}"))
}

/// Copies a database to a new file of the kind that `--storage` says.
fn copy(settings: &Settings, args: &[String]) -> Outcome1 {
    let database = open(Path::new(&args[0]))?;
    let comment = format!("copied by ovsdb-tool {VERSION}");
    storage::create(Path::new(&args[1]), settings.storage, &database, &comment, settings.now)
        .map_err(|error| text_of(&error))?;
    Ok(done(""))
}

fn convert(settings: &Settings, args: &[String]) -> Outcome1 {
    let db = path(args, 0, &settings.default_db);
    let schema = read_schema_file(&path(args, 1, &settings.default_schema))?;
    rewrite(settings, &db, args.get(2), Some(schema), &format!("converted by ovsdb-tool {VERSION}"))
}

fn rewrite(
    settings: &Settings,
    db: &Path,
    target: Option<&String>,
    schema: Option<DatabaseSchema>,
    comment: &str,
) -> Outcome1 {
    let kind = storage::kind_of(db).map_err(|error| text_of(&error))?;
    let fresh = |old: Database| match &schema {
        Some(schema) => ovsdb::convert::convert(&old, Arc::new(schema.clone())),
        None => Ok(old),
    };
    if let Some(target) = target {
        let target = Path::new(target);
        let _lock = FileLock::acquire(target).map_err(|error| text_of(&error))?;
        let new = fresh(open(db)?).map_err(|error| text_of(&error))?;
        storage::create(target, kind, &new, comment, settings.now).map_err(|error| text_of(&error))?;
        return Ok(done(""));
    }
    let opened = storage::open(db, false).map_err(|error| locked_text(&error))?;
    if let Some(damage) = opened.damage {
        return Err(text_of(&damage));
    }
    let Some(mut storage) = opened.storage else { return Err(format!("{}: opened read-only", db.display())) };
    let new = fresh(opened.database).map_err(|error| text_of(&error))?;
    let record = Record::replacement(&new, Some(comment));
    storage.write(&[record], true, settings.now).map_err(|error| text_of(&error))?;
    Ok(done(""))
}

/// A lock that is held is told without the tag that other I/O errors have.
fn locked_text(error: &Error) -> String {
    match &error.details {
        Some(details) if details.contains("failed to lock lockfile") => details.clone(),
        _ => text_of(error),
    }
}

fn compare_versions(_: &Settings, args: &[String]) -> Outcome1 {
    let parse = |text: &String| -> Result<Vec<u64>, String> {
        let bad = || format!("{text}: not an OVSDB version number in format x.y.z");
        if !is_version(text) {
            return Err(bad());
        }
        text.split('.').map(|part| part.parse().map_err(|_| bad())).collect()
    };
    let (a, b) = (parse(&args[0])?, parse(&args[2])?);
    let holds = match args[1].as_str() {
        "<" => a < b,
        "<=" => a <= b,
        "==" => a == b,
        ">=" => a >= b,
        ">" => a > b,
        "!=" => a != b,
        op => return Err(format!("{op}: not a relational operator")),
    };
    Ok(Done { text: String::new(), status: if holds { 0 } else { 2 } })
}

fn run_transaction(settings: &Settings, args: &[String], write: bool) -> Outcome1 {
    let (db, text) = match args {
        [text] => (settings.default_db.clone(), text),
        [db, text, ..] => (PathBuf::from(db), text),
        [] => return Err("missing transaction".to_owned()),
    };
    let request = json::parse(text).map_err(|error| format!("\"{text}\": {error}"))?;
    let mut opened = storage::open(&db, !write).map_err(|error| text_of(&error))?;
    if let Some(damage) = opened.damage {
        return Err(text_of(&damage));
    }
    let locks = BTreeSet::new();
    let context = Context {
        locks: &locks,
        read_only: false,
        client: Client { role: &settings.role, id: None },
        elapsed_ms: 0,
        can_wait: false,
        new_uuid: transact::random_uuid,
    };
    let Outcome::Done { mut results, commit } = transact::execute(&opened.database, &request, &context)
    else {
        return Err("the transaction waits although nothing can change".to_owned());
    };
    if let (Some(commit), Some(storage)) = (commit, &mut opened.storage)
        && let Some(record) = Record::transaction(&opened.database, &commit)
        && let Err(error) = storage.write(&[record], commit.durable, settings.now)
    {
        results.push(&error);
    }
    line(json::text(&results.to_json()))
}

fn show_log(settings: &Settings, args: &[String]) -> Outcome1 {
    let db = path(args, 0, &settings.default_db);
    match storage::kind_of(&db).map_err(|error| text_of(&error))? {
        Kind::Journal => show_journal(settings, &db),
        Kind::Sqlite => show_sqlite(&db),
    }
}

fn show_sqlite(db: &Path) -> Outcome1 {
    let schema = open(db)?.schema().clone();
    let mut out = format!(
        "record 0: \"{}\" schema, version=\"{}\", cksum=\"{}\"\n\n",
        schema.name, schema.version, schema.cksum
    );
    for (i, (date, comment)) in
        storage::sqlite::read_log(db).map_err(|error| text_of(&error))?.iter().enumerate()
    {
        let _ = write!(out, "record {}: {}", i + 1, date_text(*date));
        if let Some(comment) = comment {
            let _ = write!(out, " \"{comment}\"");
        }
        out.push('\n');
    }
    Ok(done(out))
}

fn show_journal(settings: &Settings, db: &Path) -> Outcome1 {
    let mut reader = storage::journal::Reader::open(db).map_err(|error| text_of(&error))?;
    let mut out = String::new();
    let mut names = BTreeMap::new();
    let mut schema = None;
    for i in 0.. {
        let Some(record) = reader.next_record().map_err(|error| text_of(&error))? else { break };
        let _ = write!(out, "record {i}:");
        if i == 0 {
            let parsed = DatabaseSchema::from_json(&record).map_err(|error| text_of(&error))?;
            let (name, version, cksum) = (&parsed.name, &parsed.version, &parsed.cksum);
            let _ = writeln!(out, " \"{name}\" schema, version=\"{version}\", cksum=\"{cksum}\"");
            schema = Some(parsed);
        } else {
            show_record(&mut out, settings, &record, schema.as_ref(), &mut names);
        }
        out.push('\n');
    }
    Ok(done(out))
}

fn show_record(
    out: &mut String,
    settings: &Settings,
    record: &Value,
    schema: Option<&DatabaseSchema>,
    names: &mut BTreeMap<String, String>,
) {
    if let Some(date) = record.get("_date").and_then(Value::as_u64) {
        // The first versions of OVSDB wrote seconds.
        let ms = if date < 0x7fff_ffff { date * 1000 } else { date };
        let _ = write!(out, " {}", date_text(ms));
    }
    if let Some(comment) = record.get("_comment").and_then(Value::as_str) {
        let _ = write!(out, " \"{comment}\"");
    }
    if settings.more == 0 {
        return;
    }
    let differences = record.get("_is_diff") == Some(&Value::Bool(true));
    let mut first = true;
    for (table, rows) in record.as_object().into_iter().flatten() {
        let Some(rows) = rows.as_object().filter(|_| !table.starts_with('_')) else { continue };
        if std::mem::take(&mut first) {
            out.push('\n');
        }
        for (uuid, columns) in rows {
            let place = Place { table, uuid, differences, verbose: settings.more > 1, schema };
            place.show(out, columns, names);
        }
    }
}

struct Place<'a> {
    table: &'a str,
    uuid: &'a str,
    differences: bool,
    verbose: bool,
    schema: Option<&'a DatabaseSchema>,
}

impl Place<'_> {
    fn show(&self, out: &mut String, columns: &Value, names: &mut BTreeMap<String, String>) {
        let new_name = columns.get("name").map(json::text);
        let short = self.uuid.get(..8).unwrap_or(self.uuid);
        let _ = write!(out, "  table {}", self.table);
        match (names.get(self.uuid), &new_name) {
            (None, Some(name)) => {
                let _ = writeln!(out, " insert row {name} ({short}):");
            }
            (None, None) => {
                let _ = writeln!(out, " insert row {short}:");
            }
            (Some(old), _) => {
                let _ = writeln!(out, " row {old} ({short}){}:", if self.differences { " diff" } else { "" });
            }
        }
        if columns.is_null() {
            out.push_str("    delete row\n");
            names.remove(self.uuid);
            return;
        }
        if self.verbose {
            for (column, value) in columns.as_object().into_iter().flatten() {
                let _ = writeln!(out, "    {column}={}", self.value_text(column, value));
            }
        }
        match new_name {
            Some(name) => {
                names.insert(self.uuid.to_owned(), name);
            }
            None => {
                names.entry(self.uuid.to_owned()).or_insert_with(|| short.to_owned());
            }
        }
    }

    fn value_text(&self, column: &str, value: &Value) -> String {
        let kind: Option<&Type> =
            self.schema.and_then(|schema| schema.table(self.table)?.get(column)).map(|column| &column.kind);
        let datum = kind.and_then(|kind| Some((kind, Datum::from_json(kind, value, None).ok()?)));
        datum.map_or_else(|| json::text(value), |(kind, datum)| ovsdb::text::datum(kind, &datum))
    }
}

/// `2026-11-21 19:52:41.123`, in UTC.
fn date_text(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    // Days since 0000-03-01, in eras of 400 years: the year begins in March, so that leap days come last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hours, minutes, seconds) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{:03}", rest % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date_text(0), "1970-01-01 00:00:00.000");
        assert_eq!(date_text(951_782_400_007), "2000-02-29 00:00:00.007");
        assert_eq!(date_text(1_795_290_761_123), "2026-11-21 19:52:41.123");
    }

    #[test]
    fn versions_compare() {
        let args = |a: &str, op: &str, b: &str| [a.to_owned(), op.to_owned(), b.to_owned()];
        let settings = Settings {
            default_db: PathBuf::new(),
            default_schema: PathBuf::new(),
            more: 0,
            role: String::new(),
            storage: Kind::Journal,
            now: WallTime(0),
        };
        let status = |a, op, b| compare_versions(&settings, &args(a, op, b)).map(|done| done.status);
        assert_eq!(status("1.2.3", "<", "1.10.0"), Ok(0));
        assert_eq!(status("1.2.3", "==", "1.2.4"), Ok(2));
        assert_eq!(
            status("1.2", "<", "1"),
            Err("1.2: not an OVSDB version number in format x.y.z".to_owned())
        );
        assert_eq!(status("1.2.3", "~", "1.2.3"), Err("~: not a relational operator".to_owned()));
    }
}
