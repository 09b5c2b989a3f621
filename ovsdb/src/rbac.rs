//! Roles: what a client may change in a database that has a table `RBAC_Role`.
//!
//! A role's row maps names of tables to rows of permissions: who may change a row (`authorization`: columns, or keys of
//! map columns, that must hold the client's name; an empty string means anybody), whether rows may be inserted and
//! deleted, and which columns may be updated. A client without a role may do everything.

use crate::database::{Database, Row, Table};
use crate::error::Error;
use crate::schema::TableSchema;
use crate::value::Datum;

/// A client as roles see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Client<'a> {
    /// Its role; empty if it has none.
    pub role: &'a str,
    /// Its name, from its certificate.
    pub id: Option<&'a str>,
}

/// What a client wants to do to rows of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed<'a> {
    /// Insert them.
    Insert,
    /// Delete them.
    Delete,
    /// Set these columns of them.
    Update(&'a [usize]),
    /// Mutate these columns of them.
    Mutate(&'a [usize]),
}

impl Deed<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Insert => "row insertion into",
            Self::Delete => "row deletion from",
            Self::Update(_) => "modification of",
            Self::Mutate(_) => "mutate operation on",
        }
    }
}

impl Client<'_> {
    /// An error unless the client may do `deed` to all of `rows` of `table`.
    pub fn check<'r>(
        self,
        db: &Database,
        table: &TableSchema,
        deed: Deed<'_>,
        mut rows: impl Iterator<Item = &'r Row>,
    ) -> Result<(), Error> {
        let Some(roles) = db.table_named("RBAC_Role").filter(|_| !self.role.is_empty()) else {
            return Ok(());
        };
        let allowed = self.id.is_some_and(|id| {
            let Some(permission) = Permission::find(db, roles, self.role, &table.name) else { return false };
            permission.allows(table, deed) && rows.all(|row| permission.authorizes(id, table, row))
        });
        if allowed {
            return Ok(());
        }
        let (id, role, name) = (self.id.unwrap_or("(null)"), self.role, &table.name);
        let deed = deed.name();
        Err(Error::permission(format!(
            "RBAC rules for client \"{id}\" role \"{role}\" prohibit {deed} table \"{name}\"."
        )))
    }

    /// An error if the client has a role, whatever it is: such clients may not convert databases.
    pub fn check_convert(self, db: &str) -> Result<(), Error> {
        if self.role.is_empty() {
            return Ok(());
        }
        let (id, role) = (self.id.unwrap_or("(null)"), self.role);
        Err(Error::permission(format!(
            "RBAC rules for client \"{id}\" role \"{role}\" prohibit \"convert\" of database {db} (only the root role may \
             convert databases)"
        )))
    }
}

/// A row of permissions.
struct Permission<'a> {
    schema: &'a TableSchema,
    row: &'a Row,
}

impl<'a> Permission<'a> {
    fn find(db: &'a Database, roles: &Table, role: &str, table: &str) -> Option<Self> {
        let name = roles.schema().column("name")?;
        let permissions = roles.schema().column("permissions")?;
        let of_role = |row: &&std::sync::Arc<Row>| row.get(name).strings().any(|known| known == role);
        let Some(found) = roles.rows().find(of_role) else {
            tracing::info!(
                target: "ovsdb_rbac", rate = 1, burst = 1,
                "rbac: role \"{role}\" not found in rbac roles table"
            );
            return None;
        };
        let reference = roles.references().iter().find(|r| r.column == permissions && r.in_value)?;
        let map = found.get(permissions);
        let uuid = map.pairs().iter().find(|(key, _)| key.as_str() == Some(table))?.1.as_uuid()?;
        let target = db.table(reference.target);
        Some(Self { schema: target.schema(), row: target.row(uuid)? })
    }

    fn get(&self, column: &str) -> Option<&'a Datum> {
        self.schema.column(column).map(|at| self.row.get(at))
    }

    fn allows(&self, table: &TableSchema, deed: Deed<'_>) -> bool {
        match deed {
            Deed::Insert | Deed::Delete => self.get("insert_delete").and_then(Datum::as_bool) == Some(true),
            Deed::Update(columns) | Deed::Mutate(columns) => {
                let Some(modifiable) = self.get("update") else { return false };
                let known = |at: &usize| modifiable.strings().any(|name| *name == *table.columns[*at].name);
                columns.iter().all(known)
            }
        }
    }

    fn authorizes(&self, id: &str, table: &TableSchema, row: &Row) -> bool {
        let Some(authorization) = self.get("authorization") else { return false };
        authorization.strings().any(|name| {
            let held = match name.split_once(':') {
                None if name.is_empty() => return true,
                None => table.column(name).and_then(|at| row.get(at).as_str()),
                Some((name, key)) => table.column(name).and_then(|at| row.get(at).get(key)),
            };
            held == Some(id)
        })
    }
}
