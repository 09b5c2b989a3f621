//! A transaction to be, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::replica::Replica;
use crate::schema::TableSchema;
use crate::transact::random_uuid;
use crate::value::{Atom, Datum, Elements, Uuid};

/// Which transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxnId(pub(super) u64);

/// How a transaction fares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// There was nothing to change.
    Unchanged,
    /// The reply is awaited.
    Incomplete,
    /// Cancelled.
    Aborted,
    /// Committed.
    Success,
    /// The database changed meanwhile, or the connection fell: compute it again and retry.
    TryAgain,
    /// Another client has the lock.
    NotLocked,
    /// It cannot succeed, for this reason.
    Error(String),
}

#[derive(Clone, PartialEq, Debug, Default)]
enum Fate {
    #[default]
    Exists,
    Inserted,
    Deleted,
}

#[derive(Clone, PartialEq, Debug, Default)]
struct Edit {
    fate: Fate,
    set: BTreeMap<String, Datum>,
    insert: BTreeMap<String, Datum>,
    delete: BTreeMap<String, Datum>,
    verify: BTreeSet<String>,
    /// An insertion insists on its UUID.
    persistent: bool,
}

/// Changes to be sent together. It stands apart from the copy, which stays readable meanwhile; see
/// [`super::Idl::view`] for both together.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Txn {
    edits: BTreeMap<(String, Uuid), Edit>,
    comments: Vec<String>,
    increment: Option<Increment>,
    dry_run: bool,
}

#[derive(Clone, PartialEq, Debug)]
struct Increment {
    table: String,
    column: String,
    row: Uuid,
    force: bool,
}

impl Txn {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn edit(&mut self, table: &str, row: Uuid) -> &mut Edit {
        self.edits.entry((table.to_owned(), row)).or_default()
    }

    /// Adds a comment, which ends up in the journal.
    pub fn comment(&mut self, text: &str) {
        self.comments.push(text.to_owned());
    }

    /// The server checks everything and changes nothing; ends with [`Status::Aborted`] then.
    pub fn dry_run(&mut self) {
        self.dry_run = true;
    }

    /// Inserts a row and returns the UUID under which the rest of the transaction may refer to it.
    pub fn insert(&mut self, table: &str) -> Uuid {
        let provisional = random_uuid();
        self.edit(table, provisional).fate = Fate::Inserted;
        provisional
    }

    /// Inserts a row under a provisional UUID that the caller made up.
    pub fn insert_provisionally(&mut self, table: &str, provisional: Uuid) -> Uuid {
        self.edit(table, provisional).fate = Fate::Inserted;
        provisional
    }

    /// Inserts a row that shall have exactly this UUID.
    pub fn insert_as(&mut self, table: &str, uuid: Uuid) -> Uuid {
        let edit = self.edit(table, uuid);
        (edit.fate, edit.persistent) = (Fate::Inserted, true);
        uuid
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &str, row: Uuid) {
        if self.edits.get(&(table.to_owned(), row)).is_some_and(|edit| edit.fate == Fate::Inserted) {
            self.edits.remove(&(table.to_owned(), row));
        } else {
            *self.edit(table, row) = Edit { fate: Fate::Deleted, ..Edit::default() };
        }
    }

    /// Sets a column of a row. Setting what it holds already costs nothing.
    pub fn set(&mut self, table: &str, row: Uuid, column: &str, datum: impl Into<Datum>) {
        let edit = self.edit(table, row);
        edit.insert.remove(column);
        edit.delete.remove(column);
        edit.set.insert(column.to_owned(), datum.into());
    }

    /// Adds elements to a set or map without touching others.
    pub fn add_elements(&mut self, table: &str, row: Uuid, column: &str, elements: &Datum) {
        let edit = self.edit(table, row);
        if let Some(whole) = edit.set.get_mut(column) {
            whole.union(elements, true);
            return;
        }
        // A pair that replaces a removed one still needs the removal: inserting does not overwrite.
        if let Some(gone) = edit.delete.get_mut(column)
            && !elements.is_map()
        {
            gone.subtract(elements);
        }
        edit.insert
            .entry(column.to_owned())
            .and_modify(|more| more.union(elements, true))
            .or_insert_with(|| elements.clone());
    }

    /// Removes elements from a set, or keys (given as a set) from a map, without touching others.
    pub fn remove_elements(&mut self, table: &str, row: Uuid, column: &str, elements: &Datum) {
        let edit = self.edit(table, row);
        if let Some(whole) = edit.set.get_mut(column) {
            whole.subtract(elements);
            return;
        }
        if let Some(come) = edit.insert.get_mut(column) {
            come.subtract(elements);
        }
        edit.delete
            .entry(column.to_owned())
            .and_modify(|more| more.union(elements, true))
            .or_insert_with(|| elements.clone());
    }

    /// The transaction shall fail with [`Status::TryAgain`] if the column no longer holds what the copy says.
    pub fn verify(&mut self, table: &str, row: Uuid, column: &str) {
        self.edit(table, row).verify.insert(column.to_owned());
    }

    /// Adds one to an integer column if the transaction does anything else, or in any case with `force`;
    /// [`super::Idl::incremented`] tells the outcome.
    pub fn increment(&mut self, table: &str, column: &str, row: Uuid, force: bool) {
        self.increment = Some(Increment { table: table.to_owned(), column: column.to_owned(), row, force });
    }

    /// True if nothing was asked of it.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.increment.is_none()
    }

    /// What a column that held `before` holds after this transaction; nothing if it leaves the column alone.
    pub(super) fn after(&self, table: &str, row: Uuid, column: &str, before: &Datum) -> Option<Datum> {
        let edit = self.edits.get(&(table.to_owned(), row))?;
        if let Some(whole) = edit.set.get(column) {
            return Some(whole.clone());
        }
        let (gone, come) = (edit.delete.get(column), edit.insert.get(column));
        if gone.is_none() && come.is_none() {
            return None;
        }
        let mut after = before.clone();
        if let Some(gone) = gone {
            after.subtract(gone);
        }
        if let Some(come) = come {
            after.union(come, true);
        }
        Some(after)
    }

    /// True if this transaction inserts the row.
    pub fn is_inserted(&self, table: &str, row: Uuid) -> bool {
        self.edits.get(&(table.to_owned(), row)).is_some_and(|edit| edit.fate == Fate::Inserted)
    }

    /// True if this transaction deletes the row.
    pub fn is_deleted(&self, table: &str, row: Uuid) -> bool {
        self.edits.get(&(table.to_owned(), row)).is_some_and(|edit| edit.fate == Fate::Deleted)
    }

    /// The rows that this transaction inserts into `table`, under their provisional UUIDs.
    pub fn inserted<'a>(&'a self, table: &'a str) -> impl Iterator<Item = Uuid> + 'a {
        let mine = move |((name, uuid), edit): (&(String, Uuid), &Edit)| {
            (name == table && edit.fate == Fate::Inserted).then_some(*uuid)
        };
        self.edits.iter().filter_map(mine)
    }

    /// The parameters of the `transact` request.
    pub(super) fn compile(&self, replica: &Replica, lock: Option<&str>) -> Compiled {
        let mut compiled = Compiled::default();
        let new: BTreeSet<Uuid> = self
            .edits
            .iter()
            .filter(|(_, edit)| edit.fate == Fate::Inserted)
            .map(|((_, uuid), _)| *uuid)
            .collect();
        let mut operations = Vec::new();
        if let Some(lock) = lock {
            operations.push(json!({ "op": "assert", "lock": lock }));
        }
        for ((table, uuid), edit) in &self.edits {
            operations.extend(verification(replica, table, *uuid, edit));
        }
        let first_change = operations.len();
        for ((table, uuid), edit) in &self.edits {
            let Some(schema) = replica.schema().table(table) else { continue };
            if edit.fate == Fate::Inserted {
                compiled.inserts.push((operations.len(), *uuid));
            }
            operations.extend(operation(replica, schema, *uuid, edit, &new));
        }
        let changes = operations.len() > first_change;
        if let Some(increment) = self.increment.as_ref().filter(|increment| changes || increment.force) {
            let row = json!([["_uuid", "==", increment.row.to_json()]]);
            let (table, column) = (&increment.table, &increment.column);
            operations.push(
                json!({ "op": "mutate", "table": table, "where": row, "mutations": [[column, "+=", 1]] }),
            );
            compiled.increment = Some((operations.len(), increment.column.clone()));
            operations.push(json!({ "op": "select", "table": table, "where": row, "columns": [column] }));
        }
        if operations.len() == first_change {
            return compiled;
        }
        if !self.comments.is_empty() {
            operations.push(json!({ "op": "comment", "comment": self.comments.join("\n") }));
        }
        if self.dry_run {
            operations.push(json!({ "op": "abort" }));
        }
        operations.insert(0, json!(&*replica.schema().name));
        compiled.params = operations.into();
        compiled
    }
}

/// The `wait` that fails if a verified column has changed.
fn verification(replica: &Replica, table: &str, uuid: Uuid, edit: &Edit) -> Option<Value> {
    if edit.verify.is_empty() {
        return None;
    }
    let record = replica.row(table, uuid)?;
    let row: Map<String, Value> =
        edit.verify.iter().map(|column| (column.clone(), record.get(column).to_json())).collect();
    Some(json!({
        "op": "wait", "table": table, "timeout": 0, "where": [["_uuid", "==", uuid.to_json()]],
        "columns": edit.verify, "until": "==", "rows": [row],
    }))
}

/// The operations that make an edit true.
fn operation(
    replica: &Replica,
    schema: &Arc<TableSchema>,
    uuid: Uuid,
    edit: &Edit,
    new: &BTreeSet<Uuid>,
) -> Vec<Value> {
    let table = &*schema.name;
    let this = json!([["_uuid", "==", uuid.to_json()]]);
    match edit.fate {
        Fate::Deleted => vec![json!({ "op": "delete", "table": table, "where": this })],
        Fate::Inserted => {
            let mut whole = edit.set.clone();
            for (column, elements) in &edit.insert {
                whole
                    .entry(column.clone())
                    .and_modify(|datum| datum.union(elements, true))
                    .or_insert_with(|| elements.clone());
            }
            let row: Map<String, Value> = whole
                .iter()
                .filter(|(column, datum)| {
                    schema.get(column).is_none_or(|column| **datum != Datum::default_of(&column.kind))
                })
                .map(|(column, datum)| (column.clone(), to_json(datum, new)))
                .collect();
            let mut operation =
                json!({ "op": "insert", "table": table, "uuid-name": uuid.row_name(), "row": row });
            if edit.persistent {
                operation["uuid"] = uuid.to_string().into();
            }
            vec![operation]
        }
        Fate::Exists => {
            let Some(record) = replica.row(table, uuid) else { return Vec::new() };
            let mut operations = Vec::new();
            let row: Map<String, Value> = edit
                .set
                .iter()
                .filter(|(column, datum)| record.get(column) != *datum)
                .map(|(column, datum)| (column.clone(), to_json(datum, new)))
                .collect();
            if !row.is_empty() {
                operations.push(json!({ "op": "update", "table": table, "where": this, "row": row }));
            }
            let mutations = mutations(edit, new);
            if !mutations.is_empty() {
                operations
                    .push(json!({ "op": "mutate", "table": table, "where": this, "mutations": mutations }));
            }
            operations
        }
    }
}

fn mutations(edit: &Edit, new: &BTreeSet<Uuid>) -> Vec<Value> {
    let mut mutations = Vec::new();
    for (column, elements) in &edit.delete {
        mutations.push(json!([column, "delete", to_json(elements, new)]));
    }
    for (column, elements) in &edit.insert {
        // `insert` leaves known keys of a map as they are: what is to be replaced goes first.
        if elements.is_map() {
            let keys: Vec<Value> = elements.pairs().iter().map(|(key, _)| atom_to_json(key, new)).collect();
            mutations.push(json!([column, "delete", ["set", keys]]));
        }
        mutations.push(json!([column, "insert", to_json(elements, new)]));
    }
    mutations
}

/// JSON in which rows of this transaction go by their names.
fn to_json(datum: &Datum, new: &BTreeSet<Uuid>) -> Value {
    match datum.elements() {
        Elements::Atoms([atom]) => atom_to_json(atom, new),
        Elements::Atoms(atoms) => {
            json!(["set", atoms.iter().map(|atom| atom_to_json(atom, new)).collect::<Vec<_>>()])
        }
        Elements::Pairs(pairs) => {
            let pair =
                |(key, value): &(Atom, Atom)| json!([atom_to_json(key, new), atom_to_json(value, new)]);
            json!(["map", pairs.iter().map(pair).collect::<Vec<_>>()])
        }
    }
}

fn atom_to_json(atom: &Atom, new: &BTreeSet<Uuid>) -> Value {
    match atom.as_uuid().filter(|uuid| new.contains(uuid)) {
        Some(uuid) => json!(["named-uuid", uuid.row_name()]),
        None => atom.to_json(),
    }
}

/// A transaction as sent, and what its reply said.
#[derive(Clone, Debug, Default)]
pub(super) struct Compiled {
    pub(super) params: Value,
    /// Which operations insert which provisional rows.
    inserts: Vec<(usize, Uuid)>,
    increment: Option<(usize, String)>,
    pub(super) real_uuids: BTreeMap<Uuid, Uuid>,
    pub(super) incremented: Option<i64>,
}

impl Compiled {
    pub(super) fn is_empty(&self) -> bool {
        self.params.is_null()
    }

    /// Reads the results of the operations.
    pub(super) fn outcome(&mut self, results: &Value) -> Status {
        let Some(results) = results.as_array() else { return Status::Error(results.to_string()) };
        let mut soft = None;
        for result in results {
            let Some(tag) = result.get("error").and_then(Value::as_str) else { continue };
            match tag {
                "timed out" => soft = soft.or(Some(Status::TryAgain)),
                "not owner" => soft = Some(Status::NotLocked),
                "aborted" => soft = soft.or(Some(Status::Aborted)),
                _ => return Status::Error(crate::json::text(result)),
            }
        }
        if let Some(status) = soft {
            return status;
        }
        for &(at, provisional) in &self.inserts {
            let real = results.get(at).and_then(|result| result.get("uuid")?.get(1)?.as_str()?.parse().ok());
            if let Some(real) = real {
                self.real_uuids.insert(provisional, real);
            }
        }
        if let Some((at, column)) = &self.increment {
            self.incremented = results.get(*at).and_then(|result| result["rows"][0].get(column)?.as_i64());
        }
        Status::Success
    }
}
