//! A database in memory: rows by table and UUID, indexes, and who refers to whom.
//!
//! Rows are immutable and shared. A [`crate::transaction::Transaction`] lays changes over a database and, when it
//! keeps all rules, yields [`Change`]s; [`Database::apply`] makes them true and, reversed, takes them back.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use crate::schema::{DatabaseSchema, FIRST_OWN, TableSchema, UUID, VERSION};
use crate::types::RefType;
use crate::value::{Atom, Datum, Uuid};

/// A table's number within its database: tables are in the order of their names.
pub type TableId = usize;

/// A row: one datum a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    fields: Box<[Datum]>,
}

impl Row {
    /// A row of `table` with every column at its default.
    pub fn new(table: &TableSchema) -> Self {
        Self { fields: table.columns.iter().map(|column| Datum::default_of(&column.kind)).collect() }
    }

    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        self.fields[UUID].as_uuid().unwrap_or_default()
    }

    /// What column `at` holds.
    pub fn get(&self, at: usize) -> &Datum {
        &self.fields[at]
    }

    /// Changes what column `at` holds.
    pub fn get_mut(&mut self, at: usize) -> &mut Datum {
        &mut self.fields[at]
    }

    /// Sets column `at`.
    pub fn set(&mut self, at: usize, datum: Datum) {
        self.fields[at] = datum;
    }

    /// Gives it a UUID.
    pub fn set_uuid(&mut self, uuid: Uuid) {
        self.set(UUID, Datum::one(uuid));
    }

    /// Gives it a version.
    pub fn set_version(&mut self, version: Uuid) {
        self.set(VERSION, Datum::one(version));
    }

    /// What these columns hold, in their order.
    pub fn project(&self, columns: &[usize]) -> Box<[Datum]> {
        columns.iter().map(|&at| self.fields[at].clone()).collect()
    }

    /// Appends these columns as a JSON object.
    pub fn write_json(&self, table: &TableSchema, columns: &[usize], out: &mut String) {
        out.push('{');
        for (i, &at) in columns.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            crate::json::write_string(out, &table.columns[at].name);
            out.push(':');
            self.fields[at].write_json(out);
        }
        out.push('}');
    }
}

/// What became of one row in a commit.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// Its table.
    pub table: TableId,
    /// The row before, unless it is new.
    pub old: Option<Arc<Row>>,
    /// The row after, unless it is gone.
    pub new: Option<Arc<Row>>,
}

impl Change {
    /// The UUID of the row.
    pub fn uuid(&self) -> Uuid {
        self.new.as_ref().or(self.old.as_ref()).map_or(Uuid::ZERO, |row| row.uuid())
    }

    /// True if column `at` differs; always for a row that came or went.
    pub fn touches(&self, at: usize) -> bool {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => old.get(at) != new.get(at),
            _ => true,
        }
    }

    /// The change that takes this one back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { table: self.table, old: self.new.clone(), new: self.old.clone() }
    }
}

/// Where a column refers to rows of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefColumn {
    /// The column.
    pub column: usize,
    /// The values of a map refer, not its keys.
    pub in_value: bool,
    /// The table referred to.
    pub target: TableId,
    /// How strongly.
    pub kind: RefType,
}

impl RefColumn {
    /// Which rows `key` and `value` of the column refer to.
    pub fn pick(self, key: &Atom, value: Option<&Atom>) -> Option<Uuid> {
        if self.in_value { value?.as_uuid() } else { key.as_uuid() }
    }
}

/// A table of a database.
#[derive(Debug)]
pub struct Table {
    schema: Arc<TableSchema>,
    rows: BTreeMap<Uuid, Arc<Row>>,
    indexes: Vec<Index>,
    hashes: RandomState,
    references: Vec<RefColumn>,
    /// Strong references to rows of this table from other rows.
    strong: HashMap<Uuid, usize>,
    /// Weak references to rows of this table.
    weak: BTreeSet<WeakRef>,
}

/// The rows of a table by the hashes of what they hold in the columns of an index.
#[derive(Debug, Default)]
struct Index {
    first: HashMap<u64, Uuid, Hashed>,
    /// Further rows of a hash that has one, which chance brings together: hardly ever any.
    others: BTreeSet<(u64, Uuid)>,
}

impl Index {
    fn insert(&mut self, hash: u64, uuid: Uuid) {
        match self.first.entry(hash) {
            Entry::Vacant(entry) => {
                entry.insert(uuid);
            }
            Entry::Occupied(_) => {
                self.others.insert((hash, uuid));
            }
        }
    }

    fn remove(&mut self, hash: u64, uuid: Uuid) {
        if let Entry::Occupied(entry) = self.first.entry(hash)
            && *entry.get() == uuid
        {
            entry.remove();
        } else {
            self.others.remove(&(hash, uuid));
        }
    }

    /// The rows of a hash.
    fn get(&self, hash: u64) -> impl Iterator<Item = Uuid> {
        let others = self.others.range((hash, Uuid::ZERO)..=(hash, Uuid(u128::MAX)));
        self.first.get(&hash).copied().into_iter().chain(others.map(|(_, uuid)| *uuid))
    }
}

/// The hash of what is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed;

impl BuildHasher for Hashed {
    type Hasher = Same;

    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

/// See [`Hashed`].
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A weak reference: to which row, by a row of which table, by which of the [`Table::references`], by which row.
type WeakRef = (Uuid, u32, u32, Uuid);

impl Table {
    /// Its schema.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// A row.
    pub fn row(&self, uuid: Uuid) -> Option<&Arc<Row>> {
        self.rows.get(&uuid)
    }

    /// All rows, by UUID.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Arc<Row>> {
        self.rows.values()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its columns that refer to rows.
    pub fn references(&self) -> &[RefColumn] {
        &self.references
    }

    /// How many strong references other rows hold on `uuid`.
    pub fn strong_refs(&self, uuid: Uuid) -> usize {
        self.strong.get(&uuid).copied().unwrap_or(0)
    }

    /// The rows that hold weak references on `uuid`; one may come several times.
    pub fn weak_holders(&self, uuid: Uuid) -> impl Iterator<Item = (TableId, Uuid)> {
        let all = (uuid, 0, 0, Uuid::ZERO)..=(uuid, u32::MAX, u32::MAX, Uuid(u128::MAX));
        self.weak.range(all).map(|&(_, table, _, holder)| (table as TableId, holder))
    }

    /// The row that has `values` in the columns of index number `index`.
    pub fn find(&self, index: usize, values: &[Datum]) -> Option<&Arc<Row>> {
        self.find_by(index, values.iter())
    }

    /// The row that has in the columns of index number `index` what `row` has there.
    pub fn find_like(&self, index: usize, row: &Row) -> Option<&Arc<Row>> {
        self.find_by(index, self.schema.indexes[index].iter().map(|&at| row.get(at)))
    }

    fn find_by<'a>(
        &self,
        index: usize,
        values: impl Iterator<Item = &'a Datum> + Clone,
    ) -> Option<&Arc<Row>> {
        let columns = &self.schema.indexes[index];
        let alike = self.indexes[index].get(self.hash(values.clone()));
        let mut rows = alike.filter_map(|uuid| self.rows.get(&uuid));
        rows.find(|row| columns.iter().zip(values.clone()).all(|(&at, value)| row.get(at) == value))
    }

    fn hash<'a>(&self, values: impl Iterator<Item = &'a Datum>) -> u64 {
        let mut hasher = self.hashes.build_hasher();
        values.for_each(|value| value.hash(&mut hasher));
        hasher.finish()
    }

    /// Notes in the indexes that a row has gone, come or changed.
    fn index(&mut self, uuid: Uuid, old: Option<&Row>, new: Option<&Row>) {
        for number in 0..self.indexes.len() {
            let columns = &self.schema.indexes[number];
            if let (Some(old), Some(new)) = (old, new)
                && columns.iter().all(|&at| old.get(at) == new.get(at))
            {
                continue;
            }
            let hash = |row: &Row| self.hash(columns.iter().map(|&at| row.get(at)));
            let (gone, come) = (old.map(hash), new.map(hash));
            let entries = &mut self.indexes[number];
            gone.into_iter().for_each(|hash| entries.remove(hash, uuid));
            come.into_iter().for_each(|hash| entries.insert(hash, uuid));
        }
    }
}

/// A database.
#[derive(Debug)]
pub struct Database {
    schema: Arc<DatabaseSchema>,
    tables: Vec<Table>,
}

impl Database {
    /// An empty database.
    pub fn new(schema: Arc<DatabaseSchema>) -> Self {
        let position = |name: &str| schema.tables.keys().position(|other| &**other == name);
        let references = |table: &TableSchema| {
            let of_column = |(column, schema): (usize, &crate::schema::ColumnSchema)| {
                let resolve = |(in_value, r): (bool, &crate::types::Reference)| {
                    Some(RefColumn { column, in_value, target: position(&r.table)?, kind: r.kind })
                };
                schema.references().filter_map(resolve).collect::<Vec<_>>()
            };
            table.own_columns().flat_map(of_column).collect()
        };
        let tables = schema.tables.values().map(|table| Table {
            schema: table.clone(),
            rows: BTreeMap::new(),
            indexes: table.indexes.iter().map(|_| Index::default()).collect(),
            hashes: RandomState::new(),
            references: references(table),
            strong: HashMap::new(),
            weak: BTreeSet::new(),
        });
        let tables = tables.collect();
        Self { schema, tables }
    }

    /// Its schema.
    pub fn schema(&self) -> &Arc<DatabaseSchema> {
        &self.schema
    }

    /// The number of the table called `name`.
    pub fn table_id(&self, name: &str) -> Option<TableId> {
        // The tables are sorted by name, as the schema's are.
        self.tables.binary_search_by(|table| (*table.schema.name).cmp(name)).ok()
    }

    /// A table by number.
    pub fn table(&self, id: TableId) -> &Table {
        &self.tables[id]
    }

    /// A table by name.
    pub fn table_named(&self, name: &str) -> Option<&Table> {
        self.table_id(name).map(|id| &self.tables[id])
    }

    /// All tables, by name.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// All rows as insertions: what a journal's first record or a new monitor needs.
    pub fn snapshot(&self) -> Vec<Change> {
        let of_table = |(id, table): (TableId, &Table)| {
            let insertion = move |row: &Arc<Row>| Change { table: id, old: None, new: Some(row.clone()) };
            table.rows.values().map(insertion).collect::<Vec<_>>()
        };
        self.tables.iter().enumerate().flat_map(of_table).collect()
    }

    /// How many atoms all rows hold together.
    pub fn n_atoms(&self) -> usize {
        let of_datum = |datum: &Datum| datum.len() + datum.pairs().len();
        self.tables.iter().flat_map(Table::rows).flat_map(|row| row.fields.iter()).map(of_datum).sum()
    }

    /// How many weak references there are.
    pub fn n_weak_refs(&self) -> usize {
        self.tables.iter().map(|table| table.weak.len()).sum()
    }

    /// Makes `changes` true. They must fit: each `old` is the row as it stands.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply_one(change);
        }
    }

    /// Makes one change true.
    pub(crate) fn apply_one(&mut self, change: &Change) {
        let (old, new) = (change.old.as_deref(), change.new.as_deref());
        let uuid = change.uuid();
        self.count_references(change.table, uuid, old, new);
        let table = &mut self.tables[change.table];
        table.index(uuid, old, new);
        match &change.new {
            Some(new) => table.rows.insert(uuid, new.clone()),
            None => table.rows.remove(&uuid),
        };
    }

    /// Takes `changes` back.
    pub fn undo(&mut self, changes: &[Change]) {
        let reversed: Vec<Change> = changes.iter().map(Change::reversed).collect();
        self.apply(&reversed);
    }

    fn count_references(&mut self, id: TableId, holder: Uuid, old: Option<&Row>, new: Option<&Row>) {
        for number in 0..self.tables[id].references.len() {
            let reference = self.tables[id].references[number];
            let at = reference.column;
            if old.map(|row| row.get(at)) == new.map(|row| row.get(at)) {
                continue;
            }
            let target = &mut self.tables[reference.target];
            for (row, add) in [(old, false), (new, true)] {
                let Some(row) = row else { continue };
                for_each_reference(reference, row.get(at), |uuid| match reference.kind {
                    RefType::Strong if uuid == holder => {}
                    RefType::Strong => count(&mut target.strong, uuid, add),
                    RefType::Weak => {
                        let entry = (uuid, id as u32, number as u32, holder);
                        if add {
                            target.weak.insert(entry)
                        } else {
                            target.weak.remove(&entry)
                        };
                    }
                });
            }
        }
    }
}

fn count(counts: &mut HashMap<Uuid, usize>, uuid: Uuid, add: bool) {
    let n = counts.entry(uuid).or_default();
    *n = if add { *n + 1 } else { n.saturating_sub(1) };
    if *n == 0 {
        counts.remove(&uuid);
    }
}

/// Calls `visit` with every UUID that `datum` refers to by way of `reference`.
pub fn for_each_reference(reference: RefColumn, datum: &Datum, mut visit: impl FnMut(Uuid)) {
    if reference.in_value {
        datum.values().filter_map(Atom::as_uuid).for_each(&mut visit);
    } else {
        datum.uuids().for_each(&mut visit);
    }
}

/// The columns of `table` that are its own.
pub fn own_columns(table: &TableSchema) -> std::ops::Range<usize> {
    FIRST_OWN..table.columns.len()
}
