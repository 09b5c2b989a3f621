//! The schemas that come with the programs: `Open_vSwitch`, `hardware_vtep` and `_Server`.

use std::sync::{Arc, LazyLock};

use crate::schema::DatabaseSchema;

/// The text of `vswitch.ovsschema`.
pub const TEXT: &str = include_str!("../schema/vswitch.ovsschema");

/// The text of `vtep.ovsschema`.
pub const VTEP_TEXT: &str = include_str!("../schema/vtep.ovsschema");

/// The text of `_server.ovsschema`.
pub const SERVER_TEXT: &str = include_str!("../schema/_server.ovsschema");

static SCHEMA: LazyLock<Arc<DatabaseSchema>> = LazyLock::new(|| parse("vswitch.ovsschema", TEXT));
static VTEP: LazyLock<Arc<DatabaseSchema>> = LazyLock::new(|| parse("vtep.ovsschema", VTEP_TEXT));
static SERVER: LazyLock<Arc<DatabaseSchema>> = LazyLock::new(|| parse("_server.ovsschema", SERVER_TEXT));

fn parse(file: &str, text: &str) -> Arc<DatabaseSchema> {
    Arc::new(DatabaseSchema::from_text(file, text).expect("the schema was compiled in and is tested"))
}

/// The schema of the database `Open_vSwitch`.
pub fn schema() -> Arc<DatabaseSchema> {
    SCHEMA.clone()
}

/// The schema of the database `hardware_vtep`.
pub fn vtep_schema() -> Arc<DatabaseSchema> {
    VTEP.clone()
}

/// The schema of the database `_Server`, in which a server tells about its databases.
pub fn server_schema() -> Arc<DatabaseSchema> {
    SERVER.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table, then its columns in the order of their names with their types, as a change would show.
    fn summary(schema: &DatabaseSchema) -> String {
        let mut out = format!("{} {} {}\n", schema.name, schema.version, schema.cksum);
        for table in schema.tables.values() {
            let json = table.to_json(false);
            let limits = [json.get("isRoot"), json.get("maxRows"), json.get("indexes")];
            let limits: Vec<String> = limits.into_iter().flatten().map(crate::json::text).collect();
            out += &format!("{} {}\n", table.name, limits.join(" "));
            for (_, column) in table.own_columns() {
                out += &format!("  {} {}\n", column.name, crate::json::text(&column.to_json()));
            }
        }
        out
    }

    #[test]
    fn schemas_are_as_pinned() {
        let text = summary(&schema()) + &summary(&vtep_schema()) + &summary(&server_schema());
        if std::env::var_os("PIN_SCHEMAS").is_some() {
            std::fs::write("schema/pinned.txt", &text).unwrap();
        }
        assert_eq!(text, include_str!("../schema/pinned.txt"));
    }

    #[test]
    fn is_a_superset_of_an_installed_older_one() {
        let Ok(text) = std::fs::read_to_string("/usr/share/openvswitch/vswitch.ovsschema") else { return };
        let old = DatabaseSchema::from_text("installed", &text).unwrap();
        let new = schema();
        for table in old.tables.values() {
            let ours = new.table(&table.name).unwrap_or_else(|| panic!("{} is missing", table.name));
            for (_, column) in table.own_columns() {
                assert!(ours.get(&column.name).is_some(), "{}.{} is missing", table.name, column.name);
            }
        }
    }
}
