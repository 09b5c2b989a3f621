//! The database commands: any table, any column.

use ovsdb::output::{Cell, Table};
use ovsdb::schema::{ColumnSchema, TableSchema};
use ovsdb::text;
use ovsdb::types::{AtomicType, Type};
use ovsdb::value::{Datum, Uuid};

use super::argument;
use super::names::Naming;
use super::syntax::{Context, Needs, Options, Stop, Syntax};
use crate::fatal;

macro_rules! rows {
    ($($name:literal $min:literal $max:expr, $arguments:literal, $options:literal, $mode:ident, $prepare:expr, $run:expr;)*) => {
        &[$(Syntax {
            name: $name, min: $min, max: $max, arguments: $arguments, options: $options,
            writes: rows!(@ $mode), prepare: $prepare, run: $run,
        }),*]
    };
    (@ RO) => { false };
    (@ RW) => { true };
}
pub(crate) use rows;

/// The commands.
pub static COMMANDS: &[Syntax] = rows! {
    "comment" 0 usize::MAX, "[ARG]...", "", RO, |_, _, _, _| Ok(()), |_| Ok(());
    "get" 2 usize::MAX, "TABLE RECORD [COLUMN[:KEY]]...", "--if-exists,--id=", RO, need_get, get;
    "list" 1 usize::MAX, "TABLE [RECORD]...", "--if-exists,--columns=", RO, need_list, list;
    "find" 1 usize::MAX, "TABLE [COLUMN[:KEY]=VALUE]...", "--columns=", RO, need_find, find;
    "set" 3 usize::MAX, "TABLE RECORD COLUMN[:KEY]=VALUE...", "--if-exists", RW, need_arguments, set;
    "add" 4 usize::MAX, "TABLE RECORD COLUMN [KEY=]VALUE...", "--if-exists", RW, need_one_column, add;
    "remove" 4 usize::MAX, "TABLE RECORD COLUMN KEY|VALUE|KEY=VALUE...", "--if-exists", RW, need_one_column, remove;
    "clear" 3 usize::MAX, "TABLE RECORD COLUMN...", "--if-exists", RW, need_columns, clear;
    "create" 2 usize::MAX, "TABLE COLUMN[:KEY]=VALUE...", "--id=", RW, need_table, create;
    "destroy" 1 usize::MAX, "TABLE [RECORD]...", "--if-exists,--all", RW, need_table, destroy;
    "wait-until" 2 usize::MAX, "TABLE RECORD [COLUMN[:KEY]=VALUE]...", "", RO, need_arguments, wait_until;
    "show" 0 0, "", "--filter=", RO, super::show::need, super::show::run;
};

fn need_table(naming: &Naming, args: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    naming.need_rows(&naming.table(&args[0])?.name, needs);
    Ok(())
}

/// The table of `args[0]` and the columns that begin each of `texts`.
fn need_beginnings(
    naming: &Naming,
    args: &[String],
    texts: &[String],
    needs: &mut Needs,
) -> Result<(), String> {
    let table = naming.table(&args[0])?;
    naming.need_rows(&table.name, needs);
    for text in texts {
        let column = argument::column(naming, table, text)?;
        needs.columns(&table.name, &[&column.name]);
    }
    Ok(())
}

fn need_get(naming: &Naming, args: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    let columns: Vec<String> = args[2..].iter().filter(|name| !is_uuid_column(name)).cloned().collect();
    need_beginnings(naming, args, &columns, needs)
}

fn need_arguments(naming: &Naming, args: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    need_beginnings(naming, args, &args[2..], needs)
}

fn need_one_column(
    naming: &Naming,
    args: &[String],
    options: &Options,
    needs: &mut Needs,
) -> Result<(), String> {
    need_columns(naming, &args[..3], options, needs)
}

fn need_columns(naming: &Naming, args: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    let table = naming.table(&args[0])?;
    naming.need_rows(&table.name, needs);
    for name in &args[2..] {
        needs.columns(&table.name, &[&naming.column(table, name)?.name]);
    }
    Ok(())
}

fn need_list(naming: &Naming, args: &[String], options: &Options, needs: &mut Needs) -> Result<(), String> {
    let table = naming.table(&args[0])?;
    naming.need_rows(&table.name, needs);
    let wanted = Wanted::parse(naming, table, options)?;
    needs.table(&table.name).extend(wanted.0.iter().flatten().map(|column| column.name.to_string()));
    Ok(())
}

fn need_find(naming: &Naming, args: &[String], options: &Options, needs: &mut Needs) -> Result<(), String> {
    need_list(naming, args, options, needs)?;
    need_beginnings(naming, args, &args[1..], needs)
}

fn is_uuid_column(name: &str) -> bool {
    name.eq_ignore_ascii_case("_uuid") || name.eq_ignore_ascii_case("-uuid")
}

/// The columns of a listing; none stands for `_uuid`.
struct Wanted<'t>(Vec<Option<&'t ColumnSchema>>);

impl<'t> Wanted<'t> {
    /// Those of `--columns`, or all.
    fn parse(naming: &Naming, table: &'t TableSchema, options: &Options) -> Result<Self, String> {
        let Some(names) = options.get("--columns").and_then(Option::as_deref) else {
            let mut all: Vec<_> = table.own_columns().map(|(_, column)| column).collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(Self(std::iter::once(None).chain(all.into_iter().map(Some)).collect()));
        };
        let mut columns = Vec::new();
        for name in names.split([',', ' ']).filter(|name| !name.is_empty()) {
            columns.push(if is_uuid_column(name) { None } else { Some(naming.column(table, name)?) });
        }
        if columns.is_empty() {
            Err("must specify at least one column name".to_owned())
        } else {
            Ok(Self(columns))
        }
    }

    fn table(&self) -> Table {
        Table::new(self.0.iter().map(|column| column.map_or("_uuid", |column| &*column.name)))
    }

    fn row(&self, ctx: &Context<'_>, table: &TableSchema, row: Uuid) -> Vec<Cell> {
        let cell = |column: &Option<&ColumnSchema>| match column {
            None => Cell::Datum(Type::scalar(AtomicType::Uuid), Datum::one(row)),
            Some(column) => Cell::Datum(column.kind.clone(), ctx.db.get(&table.name, row, &column.name)),
        };
        self.0.iter().map(cell).collect()
    }
}

fn list(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    let table = naming.table(&ctx.args[0])?;
    let wanted = Wanted::parse(naming, table, ctx.options)?;
    let mut out = wanted.table();
    let rows = if ctx.args.len() == 1 {
        ctx.db.rows(&table.name)
    } else {
        let mut rows = Vec::new();
        for record in &ctx.args[1..] {
            rows.extend(record_row(ctx, table, record)?);
        }
        rows
    };
    out.rows = rows.into_iter().map(|row| wanted.row(ctx, table, row)).collect();
    ctx.table = Some(out);
    Ok(())
}

/// The row that `record` names; none only where `--if-exists` allows it.
fn record_row(ctx: &mut Context<'_>, table: &TableSchema, record: &str) -> Result<Option<Uuid>, String> {
    if ctx.has("--if-exists") {
        ctx.naming.row(ctx.db, table, record)
    } else {
        ctx.naming.existing_row(ctx.db, table, record).map(Some)
    }
}

fn find(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    let table = naming.table(&ctx.args[0])?;
    let wanted = Wanted::parse(naming, table, ctx.options)?;
    let mut out = wanted.table();
    for row in ctx.db.rows(&table.name) {
        let mut all = true;
        for condition in &ctx.args[1..] {
            all = argument::holds(naming, ctx.db, ctx.symbols, table, row, condition)?;
            if !all {
                break;
            }
        }
        if all {
            out.rows.push(wanted.row(ctx, table, row));
        }
    }
    ctx.table = Some(out);
    Ok(())
}

fn get(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    if ctx.has("--id") && ctx.has("--if-exists") {
        fatal!("--if-exists and --id may not be specified together");
    }
    let table = naming.table(&ctx.args[0])?;
    let record = ctx.args[1].clone();
    let Some(row) = record_row(ctx, table, &record)? else { return Ok(()) };
    if let Some(id) = ctx.option("--id").map(str::to_owned) {
        let known = ctx.symbols.get(&id).is_some();
        define_symbol(ctx, &id)?;
        if known {
            fatal!("row id \"{id}\" specified on \"get\" command was used before it was defined");
        }
        let symbol = ctx.symbols.entry(&id);
        symbol.uuid = row;
        symbol.strong_ref = true;
    }
    for text in &ctx.args[2..] {
        if is_uuid_column(text) {
            ctx.line(&row.to_string());
            continue;
        }
        let found = argument::parse(naming, table, text, &[])?;
        let column = found.column;
        ctx.db.verify(&table.name, row, &column.name);
        let datum = ctx.db.get(&table.name, row, &column.name);
        let Some(key_text) = found.key else {
            ctx.line(&text::datum(&column.kind, &datum));
            continue;
        };
        if !column.kind.is_map() {
            fatal!("cannot specify key to get for non-map column {}", column.name);
        }
        let key = text::parse_atom(&column.kind.key, &key_text, Some(ctx.symbols))?;
        match datum.value(&key) {
            Some(value) => ctx.line(&text::atom(value)),
            None if ctx.has("--if-exists") => ctx.line(""),
            None => {
                fatal!("no key \"{key_text}\" in {} record \"{record}\" column {}", table.name, column.name)
            }
        }
    }
    Ok(())
}

/// Marks the symbol `id` as defined by this command.
fn define_symbol(ctx: &mut Context<'_>, id: &str) -> Result<(), Stop> {
    if !id.starts_with('@') {
        fatal!("row id \"{id}\" does not begin with \"@\"");
    }
    let symbol = ctx.symbols.entry(id);
    if symbol.created {
        fatal!("row id \"{id}\" may only be specified on one --id option");
    }
    symbol.created = true;
    Ok(())
}

fn set(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    let table = naming.table(&ctx.args[0])?;
    let Some(row) = record_row(ctx, table, &ctx.args[1])? else { return Ok(()) };
    for text in &ctx.args[2..] {
        argument::set(naming, ctx.db, ctx.symbols, table, row, text)?;
    }
    Ok(())
}

/// The table, row and column of `add`, `remove` and `clear`; none where `--if-exists` allows it.
fn target<'n>(
    ctx: &mut Context<'_>,
    naming: &'n Naming,
    column: &str,
) -> Result<Option<(&'n TableSchema, Uuid, &'n ColumnSchema)>, Stop> {
    let table = naming.table(&ctx.args[0])?;
    let column = naming.column(table, column)?;
    let Some(row) = record_row(ctx, table, &ctx.args[1])? else { return Ok(None) };
    argument::check_mutable(ctx.db, table, row, column)?;
    Ok(Some((table, row, column)))
}

fn elements(kind: &Type) -> &'static str {
    if kind.is_map() { "pairs" } else { "values" }
}

fn add(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    let Some((table, row, column)) = target(ctx, naming, &ctx.args[2])? else { return Ok(()) };
    let kind = &column.kind;
    let many = Type { min: 0, max: u32::MAX, ..kind.clone() };
    ctx.db.verify(&table.name, row, &column.name);
    let mut datum = ctx.db.get(&table.name, row, &column.name);
    for text in &ctx.args[3..] {
        datum.union(&text::parse_datum(&many, text, Some(ctx.symbols))?, false);
    }
    if !fits(datum.len(), kind.max) {
        fatal!(
            "\"add\" operation would put {} {} in column {} of table {} but the maximum number is {}",
            datum.len(),
            elements(kind),
            column.name,
            table.name,
            kind.max
        );
    }
    ctx.db.set(&table.name, row, &column.name, datum);
    Ok(())
}

fn fits(len: usize, max: u32) -> bool {
    u32::try_from(len).is_ok_and(|len| len <= max)
}

fn remove(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    let Some((table, row, column)) = target(ctx, naming, &ctx.args[2])? else { return Ok(()) };
    let kind = &column.kind;
    let many = Type { min: 0, max: u32::MAX, ..kind.clone() };
    let keys = Type { value: None, ..many.clone() };
    ctx.db.verify(&table.name, row, &column.name);
    let mut datum = ctx.db.get(&table.name, row, &column.name);
    for text in &ctx.args[3..] {
        // Of a map, pairs or bare keys may be named.
        let gone = match text::parse_datum(&many, text, Some(ctx.symbols)) {
            Ok(pairs) => pairs,
            Err(_) if kind.is_map() => text::parse_datum(&keys, text, Some(ctx.symbols))?,
            Err(error) => return Err(error.into()),
        };
        datum.subtract(&gone);
    }
    if datum.len() < kind.min as usize {
        fatal!(
            "\"remove\" operation would put {} {} in column {} of table {} but the minimum number is {}",
            datum.len(),
            elements(kind),
            column.name,
            table.name,
            kind.min
        );
    }
    ctx.db.set(&table.name, row, &column.name, datum);
    Ok(())
}

fn clear(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    for name in &ctx.args[2..] {
        let Some((table, row, column)) = target(ctx, naming, name)? else { return Ok(()) };
        if column.kind.min > 0 {
            fatal!(
                "\"clear\" operation cannot be applied to column {} of table {}, which is not allowed to be empty",
                column.name,
                table.name
            );
        }
        ctx.db.set(&table.name, row, &column.name, Datum::empty_of(&column.kind));
    }
    Ok(())
}

fn create(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    let table = naming.table(&ctx.args[0])?;
    let id = ctx.option("--id").map(str::to_owned);
    let row = match id.as_deref().map(|id| (id, id.parse::<Uuid>())) {
        None => {
            if !table.is_root {
                ctx.notes.push(format!(
                    "applying \"create\" command to table {} without --id option will have no effect",
                    table.name
                ));
            }
            ctx.db.insert(&table.name, None)
        }
        Some((_, Ok(uuid))) => ctx.db.insert_as(&table.name, uuid),
        Some((id, Err(_))) => {
            define_symbol(ctx, id)?;
            let symbol = ctx.symbols.entry(id);
            symbol.strong_ref |= table.is_root;
            let uuid = symbol.uuid;
            ctx.db.insert(&table.name, Some(uuid))
        }
    };
    for text in &ctx.args[1..] {
        argument::set(naming, ctx.db, ctx.symbols, table, row, text)?;
    }
    ctx.line(&row.to_string());
    Ok(())
}

fn destroy(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    let table = naming.table(&ctx.args[0])?;
    let records = &ctx.args[1..];
    if ctx.has("--all") {
        if !records.is_empty() {
            fatal!("--all and records argument should not be specified together");
        }
        if ctx.has("--if-exists") {
            fatal!("--all and --if-exists should not be specified together");
        }
        for row in ctx.db.rows(&table.name) {
            ctx.db.delete(&table.name, row);
        }
        return Ok(());
    }
    if records.is_empty() {
        ctx.notes.push("either --all or records argument should be specified".to_owned());
    }
    for record in records {
        if let Some(row) = record_row(ctx, table, record)? {
            ctx.db.delete(&table.name, row);
        }
    }
    Ok(())
}

fn wait_until(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let naming = ctx.naming;
    let table = naming.table(&ctx.args[0])?;
    let Some(row) = naming.row(ctx.db, table, &ctx.args[1])? else {
        ctx.try_again = true;
        return Ok(());
    };
    for condition in &ctx.args[2..] {
        if !argument::holds(naming, ctx.db, ctx.symbols, table, row, condition)? {
            ctx.try_again = true;
            return Ok(());
        }
    }
    Ok(())
}
