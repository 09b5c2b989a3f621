//! The `transact` method (RFC 7047 sections 4.1.3 and 5.2): a list of operations, all or none.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;

use serde_json::Value;

use crate::condition::Condition;
use crate::database::{Change, Database, Row, TableId};
use crate::error::{Error, Result};
use crate::json::{self as js, Json};
use crate::mutation::Mutation;
use crate::parser::{Kinds, Parser};
use crate::rbac::{Client, Deed};
use crate::schema::{TableSchema, UUID, VERSION};
use crate::symbols::Symbols;
use crate::transaction::Transaction;
use crate::value::{Datum, Uuid};

/// Who asks, and under which circumstances.
pub struct Context<'a> {
    /// The locks that the client holds.
    pub locks: &'a BTreeSet<String>,
    /// Only reading is allowed.
    pub read_only: bool,
    /// The client, for databases that know roles.
    pub client: Client<'a>,
    /// How long the request has waited already, in milliseconds.
    pub elapsed_ms: i64,
    /// An unsatisfied `wait` may be tried again later; without, it fails at once.
    pub can_wait: bool,
    /// Gives fresh UUIDs.
    pub new_uuid: fn() -> Uuid,
}

/// What a committed transaction is made of.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Commit {
    /// What changed; empty if nothing did.
    pub changes: Vec<Change>,
    /// The client's comments, a line each.
    pub comment: Option<String>,
    /// The reply waits until the changes survive a power failure.
    pub durable: bool,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The results for the client and, unless an operation failed, what to commit.
    Done {
        /// One element an operation, and one more if the commit failed.
        results: Results,
        /// What changed.
        commit: Option<Commit>,
    },
    /// A `wait` is not satisfied: try again when the database has changed.
    Blocked {
        /// Fails after so many milliseconds from its start, if that was asked for.
        timeout_ms: Option<i64>,
    },
}

/// The results of a transaction, or the error that stands in their place: their JSON, written out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Results {
    /// Of an array without its end, unless it is `whole`.
    text: String,
    n: usize,
    whole: bool,
}

impl Results {
    /// The request is no transaction.
    fn error(error: &Error) -> Self {
        Self { text: error.to_json().to_string(), n: 0, whole: true }
    }

    /// What a conversion that worked says, instead of results.
    pub fn done() -> Self {
        Self { text: "{}".to_owned(), n: 0, whole: true }
    }

    fn begin(&mut self) -> &mut String {
        self.text.push(if self.n == 0 { '[' } else { ',' });
        self.n += 1;
        &mut self.text
    }

    /// Adds an error behind the results.
    pub fn push(&mut self, error: &Error) {
        let text = error.to_json().to_string();
        if self.whole {
            self.text = text;
            return;
        }
        self.begin().push_str(&text);
    }

    /// The results as JSON text.
    pub fn into_text(mut self) -> String {
        match (self.whole, self.n) {
            (true, _) => {}
            (false, 0) => self.text.push_str("[]"),
            (false, _) => self.text.push(']'),
        }
        self.text
    }

    /// The results as JSON.
    pub fn to_json(&self) -> Value {
        serde_json::from_str(&self.clone().into_text()).unwrap_or_default()
    }
}

/// What an operation says.
enum Said {
    Nothing,
    Uuid(Uuid),
    Count(usize),
    /// The text of an array.
    Rows(String),
}

impl Said {
    fn write(&self, out: &mut String) {
        match self {
            Self::Nothing => out.push_str("{}"),
            Self::Uuid(uuid) => {
                out.push_str("{\"uuid\":[\"uuid\",\"");
                uuid.write(out);
                out.push_str("\"]}");
            }
            Self::Count(n) => {
                let _ = write!(out, "{{\"count\":{n}}}");
            }
            Self::Rows(rows) => {
                out.push_str("{\"rows\":");
                out.push_str(rows);
                out.push('}');
            }
        }
    }
}

struct Execution<'a> {
    txn: Transaction<'a>,
    symbols: Symbols,
    context: &'a Context<'a>,
    comments: Vec<String>,
    durable: bool,
    timeout_ms: Option<i64>,
    blocked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Abort,
    Assert,
    Comment,
    Commit,
    Delete,
    Insert,
    Mutate,
    Select,
    Update,
    Wait,
}

/// Name, whether it only reads, and which it is.
const OPERATIONS: [(&str, bool, Operation); 10] = [
    ("abort", true, Operation::Abort),
    ("assert", true, Operation::Assert),
    ("comment", true, Operation::Comment),
    ("commit", false, Operation::Commit),
    ("delete", false, Operation::Delete),
    ("insert", false, Operation::Insert),
    ("mutate", false, Operation::Mutate),
    ("select", true, Operation::Select),
    ("update", false, Operation::Update),
    ("wait", true, Operation::Wait),
];

/// True if an operation among the parameters of a `transact` request does more than read.
pub fn writes<'a>(params: impl Json<'a>) -> bool {
    let names = params.items().filter_map(|operation| operation.member("op")?.as_str());
    names.into_iter().any(|name| OPERATIONS.iter().any(|(known, reads, _)| *known == name && !reads))
}

/// Executes the parameters of a `transact` request on `db`, without changing it.
pub fn execute<'a>(db: &Database, params: impl Json<'a>, context: &Context<'_>) -> Outcome {
    let failed = |error: Error| Outcome::Done { results: Results::error(&error), commit: None };
    if !params.is_array() {
        return failed(Error::syntax(params, "array expected"));
    }
    let mut operations = params.items();
    if operations.next().and_then(Json::as_str) != Some(&*db.schema().name) {
        return failed(Error::syntax(params, "database name expected as first parameter"));
    }
    let n = operations.len();
    let mut execution = Execution {
        txn: Transaction::new(db),
        symbols: Symbols::new(context.new_uuid),
        context,
        comments: Vec::new(),
        durable: false,
        timeout_ms: None,
        blocked: false,
    };
    let mut results = Results::default();
    let mut failure = false;
    for (i, operation) in operations.enumerate() {
        match execution.operation(operation, i + 1, n) {
            Ok(said) => said.write(results.begin()),
            Err(_) if execution.blocked => return Outcome::Blocked { timeout_ms: execution.timeout_ms },
            Err(error) => {
                results.push(&error);
                failure = true;
                break;
            }
        }
    }
    while results.n < n {
        results.begin().push_str("null");
    }
    if failure {
        return Outcome::Done { results, commit: None };
    }
    let comment = (!execution.comments.is_empty()).then(|| execution.comments.join("\n"));
    let durable = execution.durable;
    let mut new_uuid = context.new_uuid;
    match execution.txn.finish(&mut new_uuid) {
        Ok(changes) => Outcome::Done { results, commit: Some(Commit { changes, comment, durable }) },
        Err(error) => {
            results.push(&error);
            Outcome::Done { results, commit: None }
        }
    }
}

impl Execution<'_> {
    fn operation<'j>(&mut self, operation: impl Json<'j>, number: usize, of: usize) -> Result<Said> {
        let mut parser = Parser::of_operation(operation, number, of);
        let name = parser.required("op", Kinds::ID).and_then(Json::as_str);
        let row = name.and_then(|name| OPERATIONS.iter().find(|row| row.0 == name));
        let mut result = Ok(Said::Nothing);
        match (name, row) {
            (Some(_), Some((_, _, which))) => result = self.run(*which, &mut parser, operation),
            (Some(name), None) => parser.fail(format!("No operation \"{name}\"")),
            (None, _) => {}
        }
        // An error of the parser's overrides others, also when they came of it.
        if let Err(error) = parser.finish() {
            self.blocked = false;
            return Err(error);
        }
        let result = result?;
        let name = name.unwrap_or_default();
        if !row.is_none_or(|row| row.1) {
            self.check_writable(name)?;
        }
        Ok(result)
    }

    fn run<'j, J: Json<'j>>(
        &mut self,
        which: Operation,
        parser: &mut Parser<'j, J>,
        operation: J,
    ) -> Result<Said> {
        match which {
            Operation::Abort => Err(Error::new("aborted", "aborted by request")),
            Operation::Assert => self.assert(parser),
            Operation::Comment => self.comment(parser),
            Operation::Commit => self.commit(parser),
            Operation::Delete => self.delete(parser),
            Operation::Insert => self.insert(parser),
            Operation::Mutate => self.mutate(parser),
            Operation::Select => self.select(parser),
            Operation::Update => self.update(parser, operation),
            Operation::Wait => self.wait(parser),
        }
    }

    fn check_writable(&self, operation: &str) -> Result<()> {
        let database = &self.txn.database().schema().name;
        if self.context.read_only {
            let details =
                format!("{operation} operation not allowed when database server is in read only mode");
            return Err(Error::new("not allowed", details));
        }
        if database.starts_with('_') {
            let details =
                format!("{operation} operation not allowed on table in reserved database {database}");
            return Err(Error::new("not allowed", details));
        }
        Ok(())
    }

    fn table<'j, J: Json<'j>>(
        &self,
        parser: &mut Parser<'j, J>,
    ) -> Option<(TableId, std::sync::Arc<TableSchema>)> {
        let name = parser.required("table", Kinds::ID)?.as_str()?;
        let found = self.txn.database().table_id(name);
        if found.is_none() {
            parser.fail(format!("No table named {name}."));
        }
        found.map(|id| (id, self.txn.database().table(id).schema().clone()))
    }

    /// The rows that meet every clause.
    fn query(&self, table: TableId, condition: &Condition) -> Vec<Uuid> {
        if let Some(uuid) = condition.uuid() {
            let row = self.txn.row(table, uuid).filter(|row| condition.all_hold(row));
            return row.map(|row| row.uuid()).into_iter().collect();
        }
        if let Some(hits) = self.by_index(table, condition) {
            return hits;
        }
        self.txn.rows(table).filter(|row| condition.all_hold(row)).map(|row| row.uuid()).collect()
    }

    /// The rows that meet every clause, if the clauses fix all columns of an index: one row as the database has it, and
    /// those that this transaction has changed.
    fn by_index(&self, table: TableId, condition: &Condition) -> Option<Vec<Uuid>> {
        let before = self.txn.database().table(table);
        let all_equal = |columns: &Vec<usize>| {
            columns.iter().map(|&at| condition.equal_to(at).cloned()).collect::<Option<Box<[Datum]>>>()
        };
        let mut indexes = before.schema().indexes.iter().enumerate();
        let (number, values) = indexes.find_map(|(number, columns)| Some((number, all_equal(columns)?)))?;
        let kept = before.find(number, &values).filter(|row| !self.txn.is_touched(table, row.uuid()));
        let rows = kept.into_iter().chain(self.txn.changed_rows(table));
        Some(rows.filter(|row| condition.all_hold(row)).map(|row| row.uuid()).collect())
    }

    /// An error unless the client's role allows `deed` on these rows.
    fn check_role(&self, table: TableId, deed: Deed<'_>, hits: &[Uuid]) -> Result<()> {
        let db = self.txn.database();
        let rows = hits.iter().filter_map(|&uuid| self.txn.row(table, uuid)).map(|row| &**row);
        self.context.client.check(db, db.table(table).schema(), deed, rows)
    }

    fn insert<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>) -> Result<Said> {
        let table = self.table(parser);
        let uuid_json = parser.optional("uuid", Kinds::STRING);
        let name = parser.optional("uuid-name", Kinds::ID);
        let row = parser.required("row", Kinds::OBJECT);
        let (Some((table, schema)), Some(row), false) = (table, row, parser.failed()) else {
            return Ok(Said::Nothing);
        };
        let mut uuid = None;
        if let Some(value) = uuid_json {
            let wanted: Uuid =
                value.as_str().unwrap_or_default().parse().map_err(|_| Error::syntax(value, "bad uuid"))?;
            if self.txn.is_taken(table, wanted) {
                return Err(Error::tagged(
                    "duplicate uuid",
                    value,
                    "This UUID would duplicate a UUID already present within the table or deleted within the same \
                     transaction.",
                ));
            }
            uuid = Some(wanted);
        }
        if let Some(value) = name {
            let symbol = self.symbols.entry(value.as_str().unwrap_or_default());
            if symbol.created {
                return Err(Error::tagged(
                    "duplicate uuid-name",
                    value,
                    "This \"uuid-name\" appeared on an earlier \"insert\" operation.",
                ));
            }
            symbol.created = true;
            symbol.uuid = uuid.unwrap_or(symbol.uuid);
            uuid = Some(symbol.uuid);
        }
        let uuid = uuid.unwrap_or_else(self.context.new_uuid);
        let (mut row, _) = parse_row(&schema, row, &mut self.symbols)?;
        // A default value need not keep the constraints of its column.
        for (at, column) in schema.own_columns() {
            column.kind.check(row.get(at))?;
        }
        self.context.client.check(self.txn.database(), &schema, Deed::Insert, std::iter::once(&row))?;
        row.set_uuid(uuid);
        row.set_version((self.context.new_uuid)());
        self.txn.insert(table, row);
        Ok(Said::Uuid(uuid))
    }

    fn select<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>) -> Result<Said> {
        let table = self.table(parser);
        let condition = parser.required("where", Kinds::ARRAY);
        let columns = parser.optional("columns", Kinds::ARRAY);
        let sort = parser.optional("sort", Kinds::ARRAY);
        let (Some((table, schema)), Some(condition), false) = (table, condition, parser.failed()) else {
            return Ok(Said::Nothing);
        };
        let condition = Condition::from_json(&schema, condition, Some(&mut self.symbols))?;
        let columns = schema.columns_from_json(columns)?;
        let sort = sort.map(|sort| schema.columns_from_json(Some(sort))).transpose()?;
        let hits = self.query(table, &condition);
        let mut rows: Vec<&Row> =
            hits.iter().filter_map(|&uuid| self.txn.row(table, uuid)).map(AsRef::as_ref).collect();
        if !columns.contains(&UUID) {
            let mut seen = HashSet::new();
            rows.retain(|row| seen.insert(row.project(&columns)));
        }
        if let Some(sort) = sort {
            rows.sort_by_cached_key(|row| row.project(&sort));
        }
        let mut text = String::from("[");
        for (i, row) in rows.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            row.write_json(&schema, &columns, &mut text);
        }
        text.push(']');
        Ok(Said::Rows(text))
    }

    fn update<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>, operation: J) -> Result<Said> {
        let table = self.table(parser);
        let condition = parser.required("where", Kinds::ARRAY);
        let row = parser.required("row", Kinds::OBJECT);
        let (Some((table, schema)), Some(condition), Some(row), false) =
            (table, condition, row, parser.failed())
        else {
            return Ok(Said::Nothing);
        };
        let (row, columns) = parse_row(&schema, row, &mut self.symbols)?;
        if let Some(column) = columns.iter().map(|&at| &schema.columns[at]).find(|column| !column.mutable) {
            let details = format!("Cannot update immutable column {} in table {}.", column.name, schema.name);
            return Err(Error::tagged("constraint violation", operation, details));
        }
        let condition = Condition::from_json(&schema, condition, Some(&mut self.symbols))?;
        let hits = self.query(table, &condition);
        self.check_role(table, Deed::Update(&columns), &hits)?;
        for &uuid in &hits {
            let same = |old: &Row| columns.iter().all(|&at| old.get(at) == row.get(at));
            if self.txn.row(table, uuid).is_some_and(|old| same(old)) {
                continue;
            }
            if let Some(target) = self.txn.modify(table, uuid) {
                for &at in &columns {
                    target.set(at, row.get(at).clone());
                }
            }
        }
        Ok(Said::Count(hits.len()))
    }

    fn mutate<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>) -> Result<Said> {
        let table = self.table(parser);
        let condition = parser.required("where", Kinds::ARRAY);
        let mutations = parser.required("mutations", Kinds::ARRAY);
        let (Some((table, schema)), Some(condition), Some(mutations), false) =
            (table, condition, mutations, parser.failed())
        else {
            return Ok(Said::Nothing);
        };
        let mutations = Mutation::list(&schema, mutations, Some(&mut self.symbols))?;
        let condition = Condition::from_json(&schema, condition, Some(&mut self.symbols))?;
        let hits = self.query(table, &condition);
        let columns: Vec<usize> = mutations.iter().map(|mutation| mutation.column).collect();
        // Nothing is nothing to forbid.
        if !columns.is_empty() {
            self.check_role(table, Deed::Mutate(&columns), &hits)?;
        }
        for &uuid in &hits {
            if let Some(row) = self.txn.modify(table, uuid) {
                mutations.iter().try_for_each(|mutation| mutation.execute(&schema, row))?;
            }
        }
        Ok(Said::Count(hits.len()))
    }

    fn delete<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>) -> Result<Said> {
        let condition = parser.required("where", Kinds::ARRAY);
        let table = self.table(parser);
        let (Some((table, schema)), Some(condition), false) = (table, condition, parser.failed()) else {
            return Ok(Said::Nothing);
        };
        let condition = Condition::from_json(&schema, condition, Some(&mut self.symbols))?;
        let hits = self.query(table, &condition);
        self.check_role(table, Deed::Delete, &hits)?;
        for &uuid in &hits {
            self.txn.delete(table, uuid);
        }
        Ok(Said::Count(hits.len()))
    }

    fn wait<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>) -> Result<Said> {
        let timeout = parser.optional("timeout", Kinds::INTEGER);
        let condition = parser.required("where", Kinds::ARRAY);
        let columns = parser.optional("columns", Kinds::ARRAY);
        let until = parser.required("until", Kinds::STRING);
        let rows = parser.required("rows", Kinds::ARRAY);
        let table = self.table(parser);
        let (Some((table, schema)), Some(condition), Some(until), Some(rows), false) =
            (table, condition, until, rows, parser.failed())
        else {
            return Ok(Said::Nothing);
        };
        let condition = Condition::from_json(&schema, condition, Some(&mut self.symbols))?;
        let columns = schema.columns_from_json(columns)?;
        let timeout_ms = timeout.and_then(js::integer);
        if let (Some(value), Some(..0)) = (timeout, timeout_ms) {
            return Err(Error::syntax(value, "timeout must be nonnegative"));
        }
        if let Some(timeout_ms) = timeout_ms {
            self.timeout_ms = Some(self.timeout_ms.map_or(timeout_ms, |other| other.min(timeout_ms)));
        }
        let Some(want_equal) =
            [("==", true), ("!=", false)].iter().find(|(name, _)| until.as_str() == Some(name))
        else {
            return Err(Error::syntax(until, "\"until\" must be \"==\" or \"!=\""));
        };
        let mut expected = HashSet::new();
        for row in rows.items() {
            expected.insert(parse_row(&schema, row, &mut self.symbols)?.0.project(&columns));
        }
        let hits = self.query(table, &condition);
        let actual: HashSet<_> = hits
            .iter()
            .filter_map(|&uuid| self.txn.row(table, uuid))
            .map(|row| row.project(&columns))
            .collect();
        if (actual == expected) == want_equal.1 {
            return Ok(Said::Nothing);
        }
        Err(self.unsatisfied(timeout_ms))
    }

    /// The error of a `wait` that does not hold, or a note to try again.
    fn unsatisfied(&mut self, timeout_ms: Option<i64>) -> Error {
        let elapsed = self.context.elapsed_ms;
        if timeout_ms.is_some_and(|timeout_ms| elapsed >= timeout_ms) {
            return Error::new(
                "timed out",
                if elapsed == 0 {
                    "\"where\" clause test failed".to_owned()
                } else {
                    format!("\"wait\" timed out after {elapsed} ms")
                },
            );
        }
        self.blocked = self.context.can_wait;
        Error::new("not supported", "triggers not supported")
    }

    fn commit<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>) -> Result<Said> {
        let durable = parser.required("durable", Kinds::BOOLEAN);
        self.durable |= durable.and_then(Json::as_bool) == Some(true);
        Ok(Said::Nothing)
    }

    fn comment<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>) -> Result<Said> {
        if let Some(comment) = parser.required("comment", Kinds::STRING).and_then(Json::as_str) {
            self.comments.push(comment.to_owned());
        }
        Ok(Said::Nothing)
    }

    fn assert<'j, J: Json<'j>>(&mut self, parser: &mut Parser<'j, J>) -> Result<Said> {
        match parser.required("lock", Kinds::ID).and_then(Json::as_str) {
            Some(lock) if !self.context.locks.contains(lock) => {
                Err(Error::new("not owner", format!("Asserted lock {lock} not held.")))
            }
            _ => Ok(Said::Nothing),
        }
    }
}

/// A row with defaults for what `value` does not say, and the columns of which it does.
fn parse_row<'a>(
    schema: &TableSchema,
    value: impl Json<'a>,
    symbols: &mut Symbols,
) -> Result<(Row, Vec<usize>)> {
    if !value.is_object() {
        return Err(Error::syntax(value, "row must be JSON object"));
    }
    let mut row = Row::new(schema);
    let mut columns = Vec::new();
    for (name, datum) in value.members() {
        let Some(at) = schema.column(name) else {
            let details = format!("No column {name} in table {}.", schema.name);
            return Err(Error::tagged("unknown column", value, details));
        };
        row.set(at, Datum::from_json(&schema.columns[at].kind, datum, Some(symbols))?);
        columns.push(at);
    }
    debug_assert!(VERSION < schema.columns.len());
    Ok((row, columns))
}

/// A random UUID from the operating system: what [`Context::new_uuid`] is outside tests.
pub fn random_uuid() -> Uuid {
    /// Randomness is fetched for so many UUIDs at a time: a system call each would cost more than the rest of an insertion.
    const STOCK: usize = 256;
    thread_local! {
        static LEFT: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            left.resize(STOCK, [0; 16]);
            // The kernel's generator cannot fail once it is seeded, which is before any program of ours starts.
            getrandom::fill(left.as_flattened_mut()).expect("the kernel gives random bytes");
        }
        Uuid::from_random(left.pop().expect("filled just above"))
    })
}
