//! `--format`, `--data` and the other options of programs that print tables.

use daemon::options::{Arg, Row};
use ovsdb::output::{CellFormat, Format, Style};

/// One of the options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableOption {
    Format,
    Data,
    NoHeadings,
    Pretty,
    Bare,
    MaxColumnWidth,
}

/// The options' rows.
pub const ROWS: [Row<TableOption>; 6] = [
    Row::new("format", Some('f'), Arg::Required, TableOption::Format),
    Row::new("data", Some('d'), Arg::Required, TableOption::Data),
    Row::new("no-headings", None, Arg::No, TableOption::NoHeadings),
    Row::new("pretty", None, Arg::No, TableOption::Pretty),
    Row::new("bare", None, Arg::No, TableOption::Bare),
    Row::new("max-column-width", None, Arg::Required, TableOption::MaxColumnWidth),
];

/// Applies an option to `style`; the error is OVS's text.
pub fn apply(style: &mut Style, option: TableOption, value: Option<&str>) -> Result<(), String> {
    let value = value.unwrap_or_default();
    match option {
        TableOption::Format => style.format = Format::parse(value)?,
        TableOption::Data => style.cells = CellFormat::parse(value)?,
        TableOption::NoHeadings => style.headings = false,
        TableOption::Pretty => style.pretty = true,
        TableOption::Bare => {
            style.format = Format::List;
            style.cells = CellFormat::Bare;
            style.headings = false;
        }
        TableOption::MaxColumnWidth => {
            let bad = || format!("--max-column-width argument \"{value}\" is not a number");
            style.max_column_width = value.parse().map_err(|_| bad())?;
        }
    }
    Ok(())
}
