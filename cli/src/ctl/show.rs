//! `show`: the database as an indented overview.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::schema::ColumnSchema;
use ovsdb::text;
use ovsdb::value::{Datum, Uuid};

use super::names::Naming;
use super::syntax::{Context, Needs, Options, Stop};

/// One table of the overview. The first one's rows are its roots.
pub struct ShowTable {
    pub table: &'static str,
    /// The column that names a row; its UUID does if there is none.
    pub name: Option<&'static str>,
    pub columns: &'static [&'static str],
    /// A table with weak references to this one: the table, its name column, the referring column.
    pub weak: Option<(&'static str, &'static str, &'static str)>,
}

/// Rows of [`ShowTable`]: a table, the column that names its rows, the columns to show.
macro_rules! show {
    ($($table:literal $name:expr, [$($column:literal),*];)*) => {
        &[$($crate::ctl::show::ShowTable { table: $table, name: $name, columns: &[$($column),*], weak: None }),*]
    };
}
pub(crate) use show;

pub fn need(naming: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    for row in naming.show {
        needs.columns(row.table, row.columns);
        needs.columns(row.table, row.name.as_slice());
        if let Some((table, name, refers)) = row.weak {
            needs.columns(table, &[name, refers]);
        }
    }
    Ok(())
}

pub fn run(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let filters = match ctx.option("--filter") {
        Some(text) => filters(ctx.naming, text)?,
        None => BTreeMap::new(),
    };
    let Some(root) = ctx.naming.show.first() else { return Ok(()) };
    let mut shown = BTreeSet::new();
    for row in ctx.db.rows(root.table) {
        let text = show_row(ctx, root.table, row, 0, &mut shown, &filters);
        ctx.output.push_str(&text);
    }
    Ok(())
}

type Filters = BTreeMap<String, BTreeSet<String>>;

/// `TEXT|TEXT,TABLE(TEXT|TEXT),…`: rows of TABLE (the first one shown, if none is named) must contain one of the texts.
fn filters(naming: &Naming, text: &str) -> Result<Filters, String> {
    let mut filters = Filters::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (table, values) = match item.split_once('(') {
            Some((table, rest)) => {
                let values = rest.strip_suffix(')').ok_or("Malformed filter: missing closing ')'")?;
                (naming.table(table)?.name.to_string(), values)
            }
            None => (naming.show.first().map_or(String::new(), |row| row.table.to_owned()), item),
        };
        let values = values.split('|').filter(|value| !value.is_empty());
        filters.entry(table).or_default().extend(values.map(str::to_ascii_lowercase));
    }
    Ok(filters)
}

/// A row and what it refers to; nothing if a filter for its table matches none of that.
fn show_row(
    ctx: &Context<'_>,
    table: &str,
    row: Uuid,
    level: usize,
    shown: &mut BTreeSet<String>,
    filters: &Filters,
) -> String {
    let entry = ctx.naming.show.iter().find(|entry| entry.table == table);
    let title = match entry.and_then(|entry| Some((entry, entry.name?))) {
        Some((entry, name)) => format!("{table} {}", column_text(ctx, entry.table, row, name)),
        None => row.to_string(),
    };
    let mut out = format!("{}{title}\n", indent(level));
    let Some(entry) = entry else { return out };
    if !shown.insert(table.to_owned()) {
        return out;
    }
    for column in entry.columns.iter().filter_map(|name| ctx.naming.schema.table(table)?.get(name)) {
        out.push_str(&show_column(ctx, table, row, column, level, shown, filters));
    }
    if let Some((other, name, refers)) = entry.weak {
        for referrer in ctx.db.rows(other) {
            if ctx.db.get(other, referrer, refers).as_uuid() == Some(row) {
                out.push_str(&format!(
                    "{}{other} {}\n",
                    indent(level + 1),
                    column_text(ctx, other, referrer, name)
                ));
            }
        }
    }
    shown.remove(table);
    match filters.get(table) {
        Some(texts) if !texts.iter().any(|text| out.to_ascii_lowercase().contains(text)) => String::new(),
        _ => out,
    }
}

fn show_column(
    ctx: &Context<'_>,
    table: &str,
    row: Uuid,
    column: &ColumnSchema,
    level: usize,
    shown: &mut BTreeSet<String>,
    filters: &Filters,
) -> String {
    let datum = ctx.db.get(table, row, &column.name);
    let is_shown = |name: &str| ctx.naming.show.iter().find(|entry| entry.table == name);
    if let Some(entry) = column.kind.key.reference().and_then(|reference| is_shown(&reference.table)) {
        let rows = ctx.db.rows(entry.table);
        return datum
            .uuids()
            .filter(|uuid| rows.contains(uuid))
            .map(|uuid| show_row(ctx, entry.table, uuid, level + 1, shown, filters))
            .collect();
    }
    let values = column.kind.value.as_ref().and_then(|value| is_shown(&value.reference()?.table));
    if let Some((entry, name)) = values.and_then(|entry| Some((entry, entry.name?))) {
        return show_map(ctx, &datum, column, entry.table, name, level);
    }
    if datum == Datum::default_of(&column.kind) {
        return String::new();
    }
    format!("{}{}: {}\n", indent(level + 1), column.name, text::datum(&column.kind, &datum))
}

/// A map to rows of `table`: each key with the name of its row.
fn show_map(
    ctx: &Context<'_>,
    datum: &Datum,
    column: &ColumnSchema,
    table: &str,
    name: &str,
    level: usize,
) -> String {
    let mut out = format!("{}{}:\n", indent(level + 1), column.name);
    let rows = ctx.db.rows(table);
    for (key, value) in datum.pairs() {
        let named = match value.as_uuid().filter(|uuid| rows.contains(uuid)) {
            Some(uuid) => column_text(ctx, table, uuid, name),
            None => "\"<null>\"".to_owned(),
        };
        out.push_str(&format!("{}{}={named}\n", indent(level + 2), text::atom(key)));
    }
    out
}

fn column_text(ctx: &Context<'_>, table: &str, row: Uuid, name: &str) -> String {
    let column = ctx.naming.schema.table(table).and_then(|table| table.get(name));
    column.map_or(String::new(), |column| text::datum(&column.kind, &ctx.db.get(table, row, name)))
}

fn indent(level: usize) -> String {
    " ".repeat(level * 4)
}
