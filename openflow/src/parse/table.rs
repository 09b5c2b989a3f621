//! Table-mods: a table and what to change of it.

use crate::msg::flow_mod::ALL_TABLES;
use crate::msg::table::{TableMiss, TableMod, Vacancy};
use crate::names::Names;
use crate::text::{Parsed, refuse, scan_int};
use crate::version::Version;

/// What a setting asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Setting {
    /// A table-mod.
    Mod(TableMod),
    /// A new name, which is told by a table features request.
    Name(String),
}

/// A parsed setting, and the versions that can express it.
pub struct TableSetting {
    pub table_id: flow::id::TableId,
    pub setting: Setting,
    pub versions: &'static [Version],
}

const MISS: &[Version] = &[Version::V11, Version::V12];
const EVICTION: &[Version] = &[Version::V14, Version::V15];
const NAMING: &[Version] = &[Version::V13, Version::V14, Version::V15];

/// Parses a table and a setting.
///
/// # Errors
/// OVS's words.
pub fn table_mod(table: &str, setting: &str, names: &Names) -> Parsed<TableSetting> {
    let table_id = if table.eq_ignore_ascii_case("all") {
        ALL_TABLES
    } else {
        match names.parse_table(table) {
            Some(id) => id,
            None => refuse!("unknown table \"{table}\""),
        }
    };
    let mut tm = TableMod {
        table_id,
        miss: TableMiss::Default,
        eviction: None,
        eviction_flags: None,
        vacancy: None,
        thresholds: Vacancy { down: 0, up: 0, now: 0 },
    };
    let (kind, argument) = setting.split_once(':').unwrap_or((setting, ""));
    let versions = match setting {
        "controller" => miss(TableMiss::Controller, &mut tm),
        "continue" => miss(TableMiss::Continue, &mut tm),
        "drop" => miss(TableMiss::Drop, &mut tm),
        "evict" | "noevict" => {
            tm.eviction = Some(setting == "evict");
            EVICTION
        }
        "novacancy" => {
            tm.vacancy = Some(false);
            EVICTION
        }
        _ if "vacancy".starts_with(kind) => {
            tm.vacancy = Some(true);
            tm.thresholds = parse_vacancy(argument)?;
            EVICTION
        }
        _ => match setting.strip_prefix("name:") {
            Some(name) if table_id != ALL_TABLES => {
                let setting = Setting::Name(name.to_owned());
                return Ok(TableSetting { table_id, setting, versions: NAMING });
            }
            _ => refuse!("invalid table_mod setting {setting}"),
        },
    };
    if table_id.0 == 0xfe && tm.miss == TableMiss::Continue {
        return Err("last table's flow miss handling can not be continue".into());
    }
    Ok(TableSetting { table_id, setting: Setting::Mod(tm), versions })
}

fn miss(what: TableMiss, tm: &mut TableMod) -> &'static [Version] {
    tm.miss = what;
    MISS
}

/// `DOWN,UP`, in percent.
fn parse_vacancy(text: &str) -> Parsed<Vacancy> {
    let mut parts = text.split(',').filter(|part| !part.is_empty());
    let mut percent = |name: &str| {
        let Some(part) = parts.next() else { refuse!("Vacancy {name} value missing") };
        match scan_int(part, 0) {
            Some((false, value @ 0..=100, "")) => Ok(value as u8),
            _ => refuse!("Invalid vacancy {name} value \"{part}\""),
        }
    };
    let (down, up) = (percent("down")?, percent("up")?);
    if down > up {
        refuse!(
            "Invalid vacancy range, vacancy up should be greater than vacancy down ({})",
            crate::error::OfError::BpcBadValue.name()
        );
    }
    Ok(Vacancy { down, up, now: 0 })
}
