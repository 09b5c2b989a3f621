//! Carrying a database over to another schema.

use std::sync::Arc;

use crate::database::{Database, Row};
use crate::error::Result;
use crate::schema::DatabaseSchema;
use crate::transact::random_uuid;
use crate::transaction::Transaction;
use crate::value::Datum;

/// The content of `db` under `schema`: tables and columns of the same name keep what they hold if it fits the new type;
/// others go or begin at their defaults.
pub fn convert(db: &Database, schema: Arc<DatabaseSchema>) -> Result<Database> {
    let mut converted = Database::new(schema);
    let mut txn = Transaction::new(&converted);
    for source in db.tables() {
        let Some(id) = converted.table_id(&source.schema().name) else { continue };
        let target = converted.table(id).schema();
        for row in source.rows() {
            let mut new = Row::new(target);
            new.set_uuid(row.uuid());
            new.set_version(random_uuid());
            for (from, column) in source.schema().own_columns() {
                let Some(to) = target.column(&column.name) else { continue };
                let kind = &target.columns[to].kind;
                let datum = if *kind == column.kind {
                    row.get(from).clone()
                } else {
                    Datum::from_json(kind, &row.get(from).to_json(), None)?
                };
                new.set(to, datum);
            }
            txn.insert(id, new);
        }
    }
    let changes = txn.finish(&mut random_uuid)?;
    converted.apply(&changes);
    Ok(converted)
}
