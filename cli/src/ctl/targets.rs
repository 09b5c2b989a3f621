//! Rows that name connections: controllers and managers.

use std::collections::BTreeSet;

use daemon::stream::is_known_target;
use ovsdb::value::{Datum, Uuid};

use super::syntax::Context;

/// Rows of targets that a column refers to: a bridge's controllers, the managers.
pub struct Targets {
    /// The table, row and column.
    pub owner: (&'static str, Uuid, &'static str),
    /// The table of targets.
    pub table: &'static str,
}

impl Targets {
    fn rows(&self, ctx: &mut Context<'_>) -> Vec<Uuid> {
        let (table, row, column) = self.owner;
        ctx.db.verify(table, row, column);
        let rows: Vec<Uuid> = ctx.db.get(table, row, column).uuids().collect();
        rows.iter().for_each(|&target| ctx.db.verify(self.table, target, "target"));
        rows
    }

    /// Prints the targets, sorted.
    pub fn print(&self, ctx: &mut Context<'_>, unique: bool) {
        let rows = self.rows(ctx);
        let mut targets: Vec<String> =
            rows.iter().map(|&row| ctx.db.text(self.table, row, "target")).collect();
        targets.sort();
        if unique {
            targets = targets.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        }
        targets.iter().for_each(|target| ctx.line(target));
    }

    /// Puts rows of `targets` in place of those that are there.
    pub fn replace(&self, ctx: &mut Context<'_>, targets: &[String]) {
        for row in self.rows(ctx) {
            ctx.db.delete(self.table, row);
        }
        let probe = ctx.option("--inactivity-probe").map(leading_integer);
        let mut new = Vec::new();
        for target in targets {
            if !is_known_target(target) {
                ctx.warnings.push(format!("target type \"{target}\" is possibly erroneous"));
            }
            let row = ctx.db.insert(self.table, None);
            ctx.db.set(self.table, row, "target", Datum::one(target.as_str()));
            if let Some(probe) = probe {
                ctx.db.set(self.table, row, "inactivity_probe", Datum::one(probe));
            }
            new.push(row);
        }
        let (table, row, column) = self.owner;
        ctx.db.set(table, row, column, Datum::set(new));
    }
}

/// The number at the beginning of `text`, 0 if there is none: what C's `atoi` makes of it.
pub fn leading_integer(text: &str) -> i64 {
    let text = text.trim_start();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let n = digits.bytes().take_while(u8::is_ascii_digit).count();
    let value: i64 = digits[..n].parse().unwrap_or(0);
    if text.starts_with('-') { -value } else { value }
}
