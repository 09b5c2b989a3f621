//! A transaction: changes laid over a database, and the rules that they must keep to be committed.
//!
//! The rules in the order in which they are applied: strong references name rows and protect them; rows of tables that
//! are no roots go when nothing refers to them; tables keep their row limits; weak references to rows that are gone are
//! taken out; indexes stay unique; rows that changed get a new version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::database::{Change, Database, Row, TableId, for_each_reference};
use crate::error::{Error, Result};
use crate::schema::TableSchema;
use crate::text;
use crate::types::RefType;
use crate::value::{Datum, Uuid};

/// Changes not yet committed.
#[derive(Debug)]
pub struct Transaction<'a> {
    db: &'a Database,
    /// By table, of those touched only.
    tables: BTreeMap<TableId, Overlay>,
}

/// A row that is touched.
#[derive(Debug)]
struct Slot {
    /// As the database has it; it is looked up once, for large tables make that dear.
    before: Option<Arc<Row>>,
    /// As it stands in the transaction: nothing if it is deleted.
    now: Option<Arc<Row>>,
}

type Overlay = BTreeMap<Uuid, Slot>;

/// The overlay of a table that is not touched.
static UNTOUCHED: Overlay = Overlay::new();

impl<'a> Transaction<'a> {
    /// No change yet.
    pub fn new(db: &'a Database) -> Self {
        Self { db, tables: BTreeMap::new() }
    }

    fn overlay(&self, table: TableId) -> &Overlay {
        self.tables.get(&table).unwrap_or(&UNTOUCHED)
    }

    /// The database below.
    pub fn database(&self) -> &'a Database {
        self.db
    }

    /// The touched row, taken up into the overlay.
    fn slot(&mut self, table: TableId, uuid: Uuid) -> &mut Slot {
        let db = self.db;
        self.tables.entry(table).or_default().entry(uuid).or_insert_with(|| {
            let before = db.table(table).row(uuid).cloned();
            Slot { now: before.clone(), before }
        })
    }

    /// A row as it stands in this transaction.
    pub fn row(&self, table: TableId, uuid: Uuid) -> Option<&Arc<Row>> {
        match self.overlay(table).get(&uuid) {
            Some(slot) => slot.now.as_ref(),
            None => self.db.table(table).row(uuid),
        }
    }

    /// All rows of a table as they stand in this transaction, by UUID.
    pub fn rows(&self, table: TableId) -> impl Iterator<Item = &Arc<Row>> {
        let changed = self.overlay(table);
        let before = self.db.table(table).rows();
        let kept = before.filter_map(move |row| match changed.get(&row.uuid()) {
            Some(slot) => slot.now.as_ref(),
            None => Some(row),
        });
        let inserted = changed.values().filter(|slot| slot.before.is_none());
        kept.chain(inserted.filter_map(|slot| slot.now.as_ref()))
    }

    /// True if this transaction has changed the row, or made or deleted it.
    pub fn is_touched(&self, table: TableId, uuid: Uuid) -> bool {
        self.overlay(table).contains_key(&uuid)
    }

    /// The rows that are new or changed, as they stand.
    pub fn changed_rows(&self, table: TableId) -> impl Iterator<Item = &Arc<Row>> {
        self.overlay(table).values().filter_map(|slot| slot.now.as_ref())
    }

    /// True if the UUID belongs to a row of the table now, or did when the transaction began.
    pub fn is_taken(&self, table: TableId, uuid: Uuid) -> bool {
        self.row(table, uuid).is_some() || self.db.table(table).row(uuid).is_some()
    }

    /// Adds a row, which has its UUID and version already.
    pub fn insert(&mut self, table: TableId, row: Row) {
        let uuid = row.uuid();
        self.slot(table, uuid).now = Some(Arc::new(row));
    }

    /// The row for changing, if there is one.
    pub fn modify(&mut self, table: TableId, uuid: Uuid) -> Option<&mut Row> {
        self.row(table, uuid)?;
        self.slot(table, uuid).now.as_mut().map(Arc::make_mut)
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: TableId, uuid: Uuid) {
        let slot = self.slot(table, uuid);
        slot.now = None;
        if slot.before.is_none()
            && let Some(overlay) = self.tables.get_mut(&table)
        {
            overlay.remove(&uuid);
        }
    }

    /// The row before this transaction, if that touched it.
    fn before(&self, table: TableId, uuid: Uuid) -> Option<&Arc<Row>> {
        self.overlay(table).get(&uuid)?.before.as_ref()
    }

    /// All that is touched.
    fn touched(&self) -> impl Iterator<Item = (TableId, Uuid, &Slot)> {
        let tables = self.tables.iter();
        tables.flat_map(|(&table, rows)| rows.iter().map(move |(&uuid, slot)| (table, uuid, slot)))
    }

    /// Whether rows of a table have references of a kind.
    fn refers(&self, table: TableId, kind: RefType) -> bool {
        self.db.table(table).references().iter().any(|reference| reference.kind == kind)
    }

    /// Applies the rules. `new_uuid` gives the versions of changed rows.
    pub fn finish(mut self, new_uuid: &mut dyn FnMut() -> Uuid) -> Result<Vec<Change>> {
        self.drop_unchanged();
        if self.tables.is_empty() {
            return Ok(Vec::new());
        }
        let mut deltas = self.count_references()?;
        self.check_deleted(&deltas)?;
        self.collect_garbage(&mut deltas);
        self.check_limits()?;
        self.prune_weak_references()?;
        self.check_indexes()?;
        self.renew_versions(new_uuid);
        Ok(self.changes())
    }

    fn changes(self) -> Vec<Change> {
        let of_table = |(table, rows): (TableId, Overlay)| {
            rows.into_values().map(move |Slot { before, now }| Change { table, old: before, new: now })
        };
        self.tables.into_iter().flat_map(of_table).collect()
    }

    fn drop_unchanged(&mut self) {
        self.tables.retain(|_, rows| {
            rows.retain(|_, slot| slot.before != slot.now);
            !rows.is_empty()
        });
    }

    /// How the number of strong references on each row changes.
    fn count_references(&self) -> Result<HashMap<(TableId, Uuid), isize>> {
        let mut deltas = HashMap::new();
        for (table, uuid, slot) in self.touched() {
            for reference in self.db.table(table).references() {
                let column =
                    |row: &'_ Option<Arc<Row>>| row.as_ref().map(|row| row.get(reference.column).clone());
                if reference.kind == RefType::Weak || column(&slot.before) == column(&slot.now) {
                    continue;
                }
                let mut add = |row: &Option<Arc<Row>>, by: isize| {
                    let Some(row) = row else { return };
                    for_each_reference(*reference, row.get(reference.column), |target| {
                        if target != uuid {
                            *deltas.entry((reference.target, target)).or_insert(0) += by;
                        }
                    });
                };
                add(&slot.before, -1);
                add(&slot.now, 1);
                if let Some(new) = &slot.now {
                    self.check_targets(table, *reference, new)?;
                }
            }
        }
        Ok(deltas)
    }

    /// Every strong reference must name a row that exists, or that this transaction deletes (which is an error of its
    /// own, told by [`Transaction::check_deleted`]).
    fn check_targets(&self, table: TableId, reference: crate::database::RefColumn, row: &Row) -> Result<()> {
        let mut missing = None;
        for_each_reference(reference, row.get(reference.column), |target| {
            if target != row.uuid() && !self.is_taken(reference.target, target) {
                missing = missing.or(Some(target));
            }
        });
        let Some(target) = missing else { return Ok(()) };
        let schema = self.db.table(table).schema();
        Err(Error::new(
            "referential integrity violation",
            format!(
                "Table {} column {} row {} references nonexistent row {target} in table {}.",
                schema.name,
                schema.columns[reference.column].name,
                row.uuid(),
                self.db.table(reference.target).schema().name
            ),
        ))
    }

    fn refs(&self, table: TableId, uuid: Uuid, deltas: &HashMap<(TableId, Uuid), isize>) -> usize {
        let delta = deltas.get(&(table, uuid)).copied().unwrap_or(0);
        self.db.table(table).strong_refs(uuid).saturating_add_signed(delta)
    }

    fn check_deleted(&self, deltas: &HashMap<(TableId, Uuid), isize>) -> Result<()> {
        for (table, uuid, _) in self.touched().filter(|(.., slot)| slot.now.is_none()) {
            let n = self.refs(table, uuid, deltas);
            if n > 0 {
                let name = &self.db.table(table).schema().name;
                return Err(Error::new(
                    "referential integrity violation",
                    format!("cannot delete {name} row {uuid} because of {n} remaining reference(s)"),
                ));
            }
        }
        Ok(())
    }

    fn collect_garbage(&mut self, deltas: &mut HashMap<(TableId, Uuid), isize>) {
        let may_go = |table: TableId| !self.db.table(table).schema().is_root;
        let all = self.touched().map(|(table, uuid, _)| (table, uuid)).chain(deltas.keys().copied());
        let mut candidates: BTreeSet<(TableId, Uuid)> = all.filter(|&(table, _)| may_go(table)).collect();
        while let Some((table, uuid)) = candidates.pop_first() {
            if self.db.table(table).schema().is_root || self.refs(table, uuid, deltas) > 0 {
                continue;
            }
            let Some(row) = self.row(table, uuid).cloned() else { continue };
            for reference in self.db.table(table).references().iter().filter(|r| r.kind == RefType::Strong) {
                for_each_reference(*reference, row.get(reference.column), |target| {
                    if target != uuid {
                        *deltas.entry((reference.target, target)).or_insert(0) -= 1;
                        candidates.insert((reference.target, target));
                    }
                });
            }
            self.delete(table, uuid);
        }
    }

    fn check_limits(&self) -> Result<()> {
        for (&id, rows) in &self.tables {
            let table = self.db.table(id);
            let gone = rows.values().filter(|slot| slot.now.is_none()).count();
            let come = rows.values().filter(|slot| slot.before.is_none()).count();
            let n = table.len() + come - gone;
            let max = table.schema().max_rows;
            if n > max as usize {
                return Err(Error::constraint(format!(
                    "transaction causes \"{}\" table to contain {n} rows, greater than the schema-defined limit of \
                     {max} row(s)",
                    table.schema().name
                )));
            }
        }
        Ok(())
    }

    fn prune_weak_references(&mut self) -> Result<()> {
        let mut suspects: BTreeSet<(TableId, Uuid)> = BTreeSet::new();
        for (table, uuid, slot) in self.touched() {
            if slot.now.is_none() {
                suspects.extend(self.db.table(table).weak_holders(uuid));
            }
            if self.refers(table, RefType::Weak) {
                suspects.insert((table, uuid));
            }
        }
        for (table, uuid) in suspects {
            let references = self.db.table(table).references();
            for reference in references.iter().filter(|r| r.kind == RefType::Weak) {
                self.prune_column(table, uuid, *reference)?;
            }
        }
        Ok(())
    }

    fn prune_column(
        &mut self,
        table: TableId,
        uuid: Uuid,
        reference: crate::database::RefColumn,
    ) -> Result<()> {
        let Some(row) = self.row(table, uuid) else { return Ok(()) };
        let before = row.get(reference.column);
        let mut had_zero = false;
        let mut after = before.clone();
        after.retain(|key, value| {
            let target = reference.pick(key, value).unwrap_or_default();
            let alive = self.row(reference.target, target).is_some();
            had_zero |= !alive && target.is_zero();
            alive
        });
        let (removed, left) = (before.len() - after.len(), after.len());
        if removed == 0 {
            return Ok(());
        }
        if let Some(row) = self.modify(table, uuid) {
            row.set(reference.column, after);
        }
        let inserted = self.before(table, uuid).is_none();
        let schema = self.db.table(table).schema();
        let column = &schema.columns[reference.column];
        if left >= column.kind.min as usize {
            return Ok(());
        }
        let (column, name) = (&column.name, &schema.name);
        Err(Error::constraint(if had_zero && inserted {
            format!(
                "Weak reference column \"{column}\" in \"{name}\" row {uuid} (inserted within this transaction) \
                 contained all-zeros UUID (probably as the default value for this column) but deleting this value \
                 caused a constraint volation because this column is not allowed to be empty."
            )
        } else {
            let when = if inserted { "(inserted within this transaction) " } else { "" };
            format!(
                "Deletion of {removed} weak reference(s) to deleted (or never-existing) rows from column \"{column}\" \
                 in \"{name}\" row {uuid} {when}caused this column to become empty, but constraints on this column \
                 disallow an empty column."
            )
        }))
    }

    fn check_indexes(&self) -> Result<()> {
        for (&id, rows) in &self.tables {
            let table = self.db.table(id);
            for (number, columns) in table.schema().indexes.iter().enumerate() {
                let untouched = |other: &&Arc<Row>| !rows.contains_key(&other.uuid());
                let mut seen: HashMap<Box<[Datum]>, &Arc<Row>> = HashMap::new();
                for row in rows.values().filter_map(|slot| slot.now.as_ref()) {
                    // One row alone cannot meet another new one.
                    let values = (rows.len() > 1).then(|| row.project(columns));
                    let clash = values.as_ref().and_then(|values| seen.get(values)).copied();
                    let clash = clash.or_else(|| table.find_like(number, row).filter(untouched));
                    if let Some(other) = clash {
                        return Err(self.duplicate(id, columns, other, row));
                    }
                    values.map(|values| seen.insert(values, row));
                }
            }
        }
        Ok(())
    }

    fn duplicate(&self, id: TableId, columns: &[usize], a: &Row, b: &Row) -> Error {
        let schema = self.db.table(id).schema();
        // The order of OVS's words: by what the rows hold.
        let all: Vec<usize> = schema.own_columns().map(|(at, _)| at).collect();
        let order = |row: &Row| row.project(&all);
        let (first, second) = if order(a) < order(b) { (b, a) } else { (a, b) };
        let names: Vec<String> =
            columns.iter().map(|&at| format!("\"{}\"", schema.columns[at].name)).collect();
        let plural = if columns.len() > 1 { "s" } else { "" };
        let mut details = format!(
            "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for index on column{plural} {}.",
            schema.name,
            columns_text(schema, columns, first),
            english_list(&names)
        );
        for (title, row) in [("First", first), ("Second", second)] {
            let _ =
                write!(details, "  {title} row, with UUID {}, {}", row.uuid(), self.origin(id, columns, row));
        }
        Error::constraint(details)
    }

    /// Where a row of a duplicate pair comes from.
    fn origin(&self, id: TableId, columns: &[usize], row: &Row) -> String {
        let uuid = row.uuid();
        match (self.before(id, uuid), self.is_touched(id, uuid)) {
            (_, false) => {
                "existed in the database before this transaction and was not modified by the transaction.".to_owned()
            }
            (None, true) => "was inserted by this transaction.".to_owned(),
            (Some(old), true) if old.project(columns) == row.project(columns) => {
                "existed in the database before this transaction, which modified some of the row's columns but not any \
                 columns in this index."
                    .to_owned()
            }
            (Some(old), true) => {
                let values = columns_text(self.db.table(id).schema(), columns, old);
                format!("had the following index values before the transaction: {values}.")
            }
        }
    }

    fn renew_versions(&mut self, new_uuid: &mut dyn FnMut() -> Uuid) {
        for slot in self.tables.values_mut().flat_map(BTreeMap::values_mut) {
            if let Slot { before: Some(_), now: Some(row) } = slot {
                Arc::make_mut(row).set_version(new_uuid());
            }
        }
    }
}

fn columns_text(schema: &TableSchema, columns: &[usize], row: &Row) -> String {
    let values: Vec<String> =
        columns.iter().map(|&at| text::datum(&schema.columns[at].kind, row.get(at))).collect();
    english_list(&values)
}

/// `a`, `a and b`, `a, b, and c`.
fn english_list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [a, b] => format!("{a} and {b}"),
        [most @ .., last] => format!("{}, and {last}", most.join(", ")),
    }
}
