//! Flow tables: rows of the `Flow_Table` table, by number.

use flow::field::{Field, Subfield};
use flow::id::TableId;
use ovsdb::idl::{Idl, Record};

use super::Bridge;
use crate::ofproto::TableConfig;
use crate::ofproto::classifier::{PrefixField, TRIES};
use crate::ofproto::table::N_TABLES;

impl Bridge {
    pub(super) fn configure_tables(&mut self, idl: &Idl, row: Record<'_>) {
        let rows = row.get("flow_tables");
        for id in (0..N_TABLES).map(TableId) {
            let row = rows.value(&i64::from(id.0).into()).and_then(|atom| atom.as_uuid());
            let row = row.and_then(|uuid| idl.row("Flow_Table", uuid));
            let config = row.map(|row| config(&self.name, id, row)).unwrap_or_default();
            self.ofproto.configure_table(id, &config);
        }
        for number in rows.keys().filter_map(|atom| atom.as_integer()) {
            if !(0..i64::from(N_TABLES)).contains(&number) {
                tracing::warn!(
                    target: "bridge", rl = "1,5",
                    "bridge {}: ignoring configuration for flow table {number} not supported by this datapath",
                    self.name
                );
            }
        }
    }
}

fn config(bridge: &str, id: TableId, row: Record<'_>) -> TableConfig {
    TableConfig {
        name: row.str("name").map(str::to_owned),
        max_flows: row.integer("flow_limit").and_then(|limit| u32::try_from(limit).ok()),
        evict: row.str("overflow_policy") == Some("evict"),
        groups: row.get("groups").strings().filter_map(|text| group(bridge, id, text)).collect(),
        prefixes: prefixes(bridge, row),
    }
}

fn group(bridge: &str, id: TableId, text: &str) -> Option<Subfield> {
    match Subfield::parse_prefix(text) {
        Ok((subfield, "")) => Some(subfield),
        Ok(_) => {
            tracing::warn!(
                target: "bridge", rl = "1,5",
                "bridge {bridge} table {id}: 'groups' element '{text}' contains trailing garbage"
            );
            None
        }
        Err(error) => {
            tracing::warn!(
                target: "bridge", rl = "1,5",
                "bridge {bridge} table {id}: error parsing 'groups' ({error})"
            );
            None
        }
    }
}

/// The fields that have tries; `None` for the default ones.
fn prefixes(bridge: &str, row: Record<'_>) -> Option<Vec<&'static PrefixField>> {
    let mut fields = Vec::new();
    for name in row.get("prefixes").strings() {
        if name == "none" {
            return Some(Vec::new());
        }
        let warn = |what: &str| {
            tracing::warn!(target: "bridge", rl = "1,5", "bridge {bridge}: 'prefixes' with {what}{name}");
        };
        match PrefixField::from_name(name) {
            Some(_) if fields.len() >= TRIES => warn("too many fields, field not used: "),
            Some(field) => fields.push(field),
            None if Field::from_name(name).is_some() => warn("incompatible field: "),
            None => warn("unknown field: "),
        }
    }
    (!fields.is_empty()).then_some(fields)
}
