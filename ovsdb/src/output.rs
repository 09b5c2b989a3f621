//! Tables as `ovs-vsctl` and `ovsdb-client` print them: aligned columns, lists, HTML, CSV or JSON.
//!
//! A [`Style`] says how; a [`Printer`] remembers whether a table went before, for the blank line between two.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::json;
use crate::text;
use crate::types::Type;
use crate::value::{Datum, Uuid};

/// How a table is laid out (`--format`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Table,
    List,
    Html,
    Csv,
    Json,
}

impl Format {
    /// The argument of `--format`; the error is OVS's text.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "table" => Ok(Self::Table),
            "list" => Ok(Self::List),
            "html" => Ok(Self::Html),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            _ => Err(format!("unknown output format \"{name}\"")),
        }
    }
}

/// How a cell of a database value is written (`--data`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CellFormat {
    String,
    Bare,
    Json,
}

impl CellFormat {
    /// The argument of `--data`; the error is OVS's text.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "string" => Ok(Self::String),
            "bare" => Ok(Self::Bare),
            "json" => Ok(Self::Json),
            _ => Err(format!("unknown data format \"{name}\"")),
        }
    }
}

/// What the output options of a program say.
#[derive(Clone, Debug)]
pub struct Style {
    pub format: Format,
    pub cells: CellFormat,
    /// Column names are printed.
    pub headings: bool,
    /// JSON is indented.
    pub pretty: bool,
    /// Cells of [`Format::Table`] are cut at this many bytes; 0 means never.
    pub max_column_width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            format: Format::Table,
            cells: CellFormat::String,
            headings: true,
            pretty: false,
            max_column_width: 0,
        }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub enum Cell {
    Empty,
    Text(String),
    Json(Value),
    /// A column's value.
    Datum(Type, Datum),
}

impl Cell {
    /// The cell as text in format `cells`.
    pub fn text(&self, cells: CellFormat) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => text.clone(),
            Self::Json(value) => json::text(value),
            Self::Datum(kind, datum) => match cells {
                CellFormat::String => text::datum(kind, datum),
                CellFormat::Bare => text::datum_bare(datum),
                CellFormat::Json => json::text(&datum.to_json()),
            },
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Empty => Value::Null,
            Self::Text(text) => Value::String(text.clone()),
            Self::Json(value) => value.clone(),
            Self::Datum(_, datum) => datum.to_json(),
        }
    }
}

/// A table to print.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub caption: Option<String>,
    /// When the table was true, as it is to be printed; none for no time stamp.
    pub timestamp: Option<String>,
    pub columns: Vec<String>,
    /// Each row has a cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    fn texts(&self, style: &Style) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| row.iter().map(|cell| cell.text(style.cells)).collect()).collect()
    }
}

/// Prints tables one after the other.
#[derive(Clone, Debug, Default)]
pub struct Printer {
    printed: bool,
}

impl Printer {
    /// The text of `table`, with a blank line before it if it is not the first.
    pub fn format(&mut self, table: &Table, style: &Style) -> String {
        let mut out = String::new();
        let separated = matches!(style.format, Format::Table | Format::List | Format::Csv);
        if separated && std::mem::replace(&mut self.printed, true) {
            out.push('\n');
        }
        if style.format != Format::Json {
            out.extend(table.timestamp.iter().map(|time| format!("{time}\n")));
        }
        if separated {
            out.extend(table.caption.iter().map(|caption| format!("{caption}\n")));
        }
        match style.format {
            Format::Table => aligned(&mut out, table, style),
            Format::List => list(&mut out, table, style),
            Format::Html => html(&mut out, table, style),
            Format::Csv => csv(&mut out, table, style),
            Format::Json => {
                let value = as_json(table);
                out.push_str(&if style.pretty { json::pretty(&value) } else { json::text(&value) });
                out.push('\n');
            }
        }
        out
    }
}

fn aligned(out: &mut String, table: &Table, style: &Style) {
    let texts = table.texts(style);
    let widths: Vec<usize> = (0..table.columns.len())
        .map(|x| {
            let widest = texts.iter().map(|row| row[x].len()).max().unwrap_or(0);
            let limited =
                if style.max_column_width > 0 { widest.min(style.max_column_width) } else { widest };
            if style.headings { limited.max(table.columns[x].len()) } else { limited }
        })
        .collect();
    if style.headings {
        line(out, &widths, table.columns.iter().map(String::as_str));
        let dashes: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        line(out, &widths, dashes.iter().map(String::as_str));
    }
    for row in &texts {
        line(out, &widths, row.iter().map(String::as_str));
    }
}

/// A line of cells, each padded and cut to its width; no blanks at the end.
fn line<'a>(out: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    let mut line = String::new();
    for (x, (cell, &width)) in cells.zip(widths).enumerate() {
        if x > 0 {
            line.push(' ');
        }
        let cut = cell.get(..width).unwrap_or(cell);
        line.push_str(cut);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cut.len())));
    }
    out.push_str(line.trim_end_matches(' '));
    out.push('\n');
}

fn list(out: &mut String, table: &Table, style: &Style) {
    for (y, row) in table.texts(style).iter().enumerate() {
        if y > 0 {
            out.push('\n');
        }
        for (heading, text) in table.columns.iter().zip(row) {
            if style.headings {
                let _ = write!(out, "{heading:<20}: ");
            }
            out.push_str(text);
            out.push('\n');
        }
    }
}

fn csv(out: &mut String, table: &Table, style: &Style) {
    let record =
        |cells: &[String]| cells.iter().map(|cell| csv_cell(cell)).collect::<Vec<_>>().join(",") + "\n";
    if style.headings {
        out.push_str(&record(&table.columns));
    }
    for row in table.texts(style) {
        out.push_str(&record(&row));
    }
}

fn csv_cell(text: &str) -> String {
    if text.contains(['\n', '"', ',']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn html(out: &mut String, table: &Table, style: &Style) {
    out.push_str("<table border=1>\n");
    if let Some(caption) = &table.caption {
        html_cell(out, "caption", caption);
    }
    if style.headings {
        out.push_str("  <tr>\n");
        table.columns.iter().for_each(|heading| html_cell(out, "th", heading));
        out.push_str("  </tr>\n");
    }
    for row in table.texts(style) {
        out.push_str("  <tr>\n");
        for (heading, text) in table.columns.iter().zip(&row) {
            if heading == "_uuid" {
                let name = html_text(text);
                let short = html_text(text.get(..8).unwrap_or(text));
                let _ = writeln!(out, "    <td><a name=\"{name}\">{short}</a></td>");
            } else {
                html_cell(out, "td", text);
            }
        }
        out.push_str("  </tr>\n");
    }
    out.push_str("</table>\n");
}

/// A cell in which every UUID is a link to its row.
fn html_cell(out: &mut String, element: &str, text: &str) {
    let _ = write!(out, "    <{element}>");
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match rest.get(..36).filter(|word| word.parse::<Uuid>().is_ok()) {
            Some(uuid) => {
                let _ = write!(out, "<a href=\"#{uuid}\">{}</a>", &uuid[..8]);
                rest = &rest[36..];
            }
            None => {
                out.push_str(&html_text(c.encode_utf8(&mut [0; 4])));
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    let _ = writeln!(out, "</{element}>");
}

fn html_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn as_json(table: &Table) -> Value {
    let data: Vec<Vec<Value>> =
        table.rows.iter().map(|row| row.iter().map(Cell::to_json).collect()).collect();
    let mut value = json!({"headings": table.columns, "data": data});
    if let Some(caption) = &table.caption {
        value["caption"] = Value::String(caption.clone());
    }
    if let Some(time) = &table.timestamp {
        value["time"] = Value::String(time.clone());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::AtomicType;

    fn sample() -> Table {
        let mut table = Table::new(["name", "ports"]);
        let names = Type::any_set(AtomicType::String);
        let one = |name: &str| Cell::Datum(Type::scalar(AtomicType::String), Datum::one(name));
        table.rows.push(vec![one("br0"), Cell::Datum(names.clone(), Datum::set(["a b", "c"]))]);
        table.rows.push(vec![one("br1"), Cell::Datum(names, Datum::set(Vec::<&str>::new()))]);
        table
    }

    fn shown(format: Format, cells: CellFormat) -> String {
        Printer::default().format(&sample(), &Style { format, cells, ..Style::default() })
    }

    #[test]
    fn every_layout() {
        assert_eq!(
            shown(Format::Table, CellFormat::String),
            "name ports\n---- ----------\nbr0  [\"a b\", c]\nbr1  []\n"
        );
        assert_eq!(
            shown(Format::List, CellFormat::Bare),
            "name                : br0\nports               : a b c\n\nname                : br1\nports               : \n"
        );
        assert_eq!(shown(Format::Csv, CellFormat::String), "name,ports\nbr0,\"[\"\"a b\"\", c]\"\nbr1,[]\n");
        assert_eq!(
            shown(Format::Json, CellFormat::String),
            "{\"data\":[[\"br0\",[\"set\",[\"a b\",\"c\"]]],[\"br1\",[\"set\",[]]]],\"headings\":[\"name\",\"ports\"]}\n"
        );
        assert_eq!(
            shown(Format::Html, CellFormat::Bare),
            "<table border=1>\n  <tr>\n    <th>name</th>\n    <th>ports</th>\n  </tr>\n  <tr>\n    <td>br0</td>\n    \
             <td>a b c</td>\n  </tr>\n  <tr>\n    <td>br1</td>\n    <td></td>\n  </tr>\n</table>\n"
        );
    }

    #[test]
    fn a_blank_line_stands_between_two_tables() {
        let mut printer = Printer::default();
        let style = Style { headings: false, ..Style::default() };
        printer.format(&sample(), &style);
        assert_eq!(printer.format(&sample(), &style), "\nbr0 [\"a b\", c]\nbr1 []\n");
    }
}
