//! The text of table features and statistics: what equals the table before is told shortly.

use super::super::{action_row_names, w};
use super::{ActionFeatures, FeaturesCommand, Fields, InstructionFeatures, TableFeatures, TableStats};
use crate::error::OfError;
use crate::instruction::Instruction;
use crate::msg::table::TableMiss;
use std::collections::BTreeSet;

/// Appends the text of a features request or reply.
pub fn features_text(msg: &[u8], out: &mut String) -> Result<(), OfError> {
    let (list, result) = TableFeatures::decode_all(msg, true);
    tables_text(&list, out);
    result
}

/// The text of tables from several messages, as lines.
pub fn listing_text(list: &[TableFeatures]) -> String {
    let mut out = String::new();
    tables_text(list, &mut out);
    format!("{}\n", out.strip_prefix('\n').unwrap_or(&out))
}

fn tables_text(list: &[TableFeatures], out: &mut String) {
    let mut dittos = Dittos::default();
    let mut prev = None;
    for features in list {
        table_text(features, prev, None, None, &mut dittos, out);
        prev = Some(features);
    }
    dittos.flush(out);
}

/// Appends the text of a statistics reply.
pub fn stats_text(msg: &[u8], out: &mut String) -> Result<(), OfError> {
    let (list, result) = TableStats::decode_reply(msg);
    let mut dittos = Dittos::default();
    let mut prev: Option<&(TableStats, TableFeatures)> = None;
    for pair in &list {
        let (stats, features) = pair;
        table_text(
            features,
            prev.map(|prev| &prev.1),
            Some(stats),
            prev.map(|prev| &prev.0),
            &mut dittos,
            out,
        );
        prev = Some(pair);
    }
    dittos.flush(out);
    result
}

/// A run of nameless tables that equal the one before.
#[derive(Default)]
struct Dittos(Option<(u8, u8)>);

impl Dittos {
    fn add(&mut self, table: u8) {
        self.0 = Some((self.0.map_or(table, |(first, _)| first), table));
    }

    fn flush(&mut self, out: &mut String) {
        match self.0.take() {
            None => {}
            Some((first, last)) if first == last => {
                w!(out, "\n  table {first}: ditto\n");
            }
            Some((first, last)) => {
                w!(out, "\n  tables {first}...{last}: ditto\n");
            }
        }
    }
}

fn table_text(
    features: &TableFeatures,
    prev: Option<&TableFeatures>,
    stats: Option<&TableStats>,
    prev_stats: Option<&TableStats>,
    dittos: &mut Dittos,
    out: &mut String,
) {
    if prev.is_none() && features.command != FeaturesCommand::Replace {
        w!(
            out,
            "\n  command: {}",
            match features.command {
                FeaturesCommand::Replace => "replace",
                FeaturesCommand::Modify => "modify",
                FeaturesCommand::Enable => "enable",
                FeaturesCommand::Disable => "disable",
            }
        );
    }
    let counts = |stats: &TableStats| (stats.active_count, stats.lookup_count, stats.matched_count);
    let same_stats = stats.is_none() || stats.map(counts) == prev_stats.map(counts);
    let same_features = prev.is_some_and(|prev| same(features, prev));
    if same_stats && same_features && features.name.is_empty() {
        dittos.add(features.table_id.0);
        return;
    }
    dittos.flush(out);
    w!(out, "\n  table {}", features.table_id);
    if !features.name.is_empty() {
        w!(out, " (\"{}\")", features.name);
    }
    out.push(':');
    if same_stats && same_features {
        out.push_str(" ditto");
        return;
    }
    out.push('\n');
    if let Some(TableStats { active_count, lookup_count, matched_count, .. }) = stats {
        w!(out, "    active={active_count}, lookup={lookup_count}, matched={matched_count}\n");
    }
    if same_features {
        if !is_empty(features) {
            out.push_str("    (same features)\n");
        }
        return;
    }
    plain_text(features, out);
    instructions_text(features, prev, out);
    matching_text(features, prev, out);
}

fn plain_text(features: &TableFeatures, out: &mut String) {
    let hex = |n: u64| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
    let (matched, write) = (features.metadata_match, features.metadata_write);
    if matched != 0 || write != 0 {
        w!(out, "    metadata: match={} write={}\n", hex(matched), hex(write));
    }
    if features.miss_config != TableMiss::Default {
        w!(out, "    config={}\n", features.miss_config.name());
    }
    for (what, supported) in [("eviction", features.eviction), ("vacancy events", features.vacancy_events)] {
        if let Some(supported) = supported {
            w!(out, "    {what}: {}supported\n", if supported { "" } else { "not " });
        }
    }
    if features.max_entries != 0 {
        w!(out, "    max_entries={}\n", features.max_entries);
    }
}

fn instructions_text(features: &TableFeatures, prev: Option<&TableFeatures>, out: &mut String) {
    let (table, nonmiss, miss) = (features.table_id.0, &features.nonmiss, &features.miss);
    let empty = *nonmiss == InstructionFeatures::default();
    let as_before = prev.is_some_and(|prev| {
        same_instructions(nonmiss, table, &prev.nonmiss, prev.table_id.0)
            && same_instructions(miss, table, &prev.miss, prev.table_id.0)
    });
    let prev_nonmiss = prev.map(|prev| &prev.nonmiss);
    if as_before {
        if !empty {
            out.push_str("    (same instructions)\n");
        }
    } else if !same_instructions(nonmiss, table, miss, table) {
        out.push_str("    instructions (other than table miss):\n");
        one_instructions_text(nonmiss, prev_nonmiss, out);
        out.push_str("    instructions (table miss):\n");
        one_instructions_text(miss, prev.map(|prev| &prev.miss), out);
    } else if !empty {
        out.push_str("    instructions (table miss and others):\n");
        one_instructions_text(nonmiss, prev_nonmiss, out);
    }
}

fn one_instructions_text(
    features: &InstructionFeatures,
    prev: Option<&InstructionFeatures>,
    out: &mut String,
) {
    if features.next != [0; 4] {
        w!(out, "      next tables: {}\n", ranges(features));
    }
    if features.instructions != 0 {
        if prev.is_some_and(|prev| prev.instructions == features.instructions) {
            out.push_str("      (same instructions)\n");
        } else {
            let has = |i: &&Instruction| features.instructions & (1 << **i as u32) != 0;
            let names: Vec<_> = Instruction::ALL.iter().filter(has).map(|i| i.name()).collect();
            w!(out, "      instructions: {}\n", names.join(" "));
        }
    }
    let (write, apply) = (&features.write, &features.apply);
    let as_before = prev.is_some_and(|prev| *write == prev.write && *apply == prev.apply);
    if as_before && !write.set_fields.is_empty() {
        out.push_str("      (same actions)\n");
    } else if write != apply {
        out.push_str("      Write-Actions features:\n");
        actions_text(write, out);
        out.push_str("      Apply-Actions features:\n");
        actions_text(apply, out);
    } else if *write != ActionFeatures::default() {
        out.push_str("      Write-Actions and Apply-Actions features:\n");
        actions_text(write, out);
    }
}

/// `1-253`, `2,4-6`.
fn ranges(features: &InstructionFeatures) -> String {
    let tables: Vec<u8> = (0..255).filter(|&table| features.has_next(table)).collect();
    let runs = tables.chunk_by(|a, b| a + 1 == *b);
    let text = runs.map(|run| match (run.first(), run.last()) {
        (Some(first), Some(last)) if first != last => format!("{first}-{last}"),
        (Some(first), _) => first.to_string(),
        _ => String::new(),
    });
    text.collect::<Vec<_>>().join(",")
}

fn actions_text(features: &ActionFeatures, out: &mut String) {
    if features.actions != 0 {
        w!(out, "        actions: {}\n", action_row_names(features.actions));
    }
    if !features.set_fields.is_empty() {
        w!(out, "        supported on Set-Field:{}\n", fields_text(&features.set_fields));
    }
}

fn matching_text(features: &TableFeatures, prev: Option<&TableFeatures>, out: &mut String) {
    if features.matched.is_empty() {
        return;
    }
    if prev.is_some_and(|prev| prev.matched == features.matched) {
        out.push_str("    (same matching)\n");
        return;
    }
    out.push_str("    matching:\n");
    for (masked, wildcarded, title) in [
        (true, true, "arbitrary mask"),
        (false, true, "exact match or wildcard"),
        (false, false, "must exact match"),
    ] {
        let belongs = |field: &&flow::field::Field| {
            features.masked.contains(field) == masked && features.wildcarded.contains(field) == wildcarded
        };
        let fields: Fields = features.matched.iter().filter(belongs).copied().collect();
        if !fields.is_empty() {
            w!(out, "      {title}:{}\n", fields_text(&fields));
        }
    }
}

/// A space and the names, with common beginnings and numbered runs drawn together; nothing if there are none.
fn fields_text(fields: &BTreeSet<flow::field::Field>) -> String {
    let names: Vec<_> = fields.iter().map(|field| field.name()).collect();
    let mut out = String::new();
    if !names.is_empty() {
        out.push(' ');
        names_text(&names, 0, &mut out);
    }
    out
}

fn names_text(names: &[&str], prefix: usize, out: &mut String) {
    let mut rest = names;
    while let Some(first) = rest.first() {
        if rest.len() != names.len() {
            out.push(if prefix == 0 { ' ' } else { ',' });
        }
        let (prefix_run, extra) = prefix_run(rest, prefix);
        let suffix_run = suffix_run(rest);
        if suffix_run >= prefix_run {
            out.push_str(&first[prefix..]);
            if suffix_run > 1 {
                w!(out, "...{}", &rest[suffix_run - 1][prefix..]);
            }
            rest = &rest[suffix_run..];
        } else {
            w!(out, "{}{{", &first[prefix..prefix + extra]);
            names_text(&rest[..prefix_run], prefix + extra, out);
            out.push('}');
            rest = &rest[prefix_run..];
        }
    }
}

/// How many names from the front on share a beginning that ends in `_` behind `prefix`, and its length.
fn prefix_run(names: &[&str], prefix: usize) -> (usize, usize) {
    let first = &names[0][prefix..];
    let common = |other: &str| {
        let same = first.bytes().zip(other[prefix..].bytes()).take_while(|(a, b)| a == b).count();
        first[..same].rfind('_').map_or(0, |at| at + 1)
    };
    let Some(mut extra) = names.get(1).map(|name| common(name)).filter(|&extra| extra > 0) else {
        return (names.len().min(1), 0);
    };
    let mut run = 2;
    for name in &names[2..] {
        match common(name) {
            0 => break,
            next => extra = extra.min(next),
        }
        run += 1;
    }
    (run, extra)
}

/// How many names from the front on end in consecutive numbers; two are not worth it.
fn suffix_run(names: &[&str]) -> usize {
    let pairs = names.windows(2).take_while(|pair| are_sequential(pair[0], pair[1])).count();
    if pairs == 1 { 1 } else { pairs + 1 }
}

fn are_sequential(a: &str, b: &str) -> bool {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    match (a[same..].parse::<u32>(), b[same..].parse::<u32>()) {
        (Ok(a), Ok(b)) => a.checked_add(1) == Some(b),
        _ => false,
    }
}

/// Whether two tables' instructions are the same, next tables told apart only by the tables' own numbers.
fn same_instructions(a: &InstructionFeatures, a_table: u8, b: &InstructionFeatures, b_table: u8) -> bool {
    a.instructions == b.instructions
        && a.write == b.write
        && a.apply == b.apply
        && same_next(a, a_table, b, b_table)
}

fn same_next(a: &InstructionFeatures, a_table: u8, b: &InstructionFeatures, b_table: u8) -> bool {
    let follows = |low: &InstructionFeatures, low_table: u8, high: &InstructionFeatures, high_table: u8| {
        if low_table.checked_add(1) != Some(high_table)
            || !low.has_next(high_table)
            || high.has_next(high_table)
        {
            return None;
        }
        let mut all = high.clone();
        all.add_next(high_table);
        Some(all.next == low.next)
    };
    follows(a, a_table, b, b_table).or_else(|| follows(b, b_table, a, a_table)).unwrap_or(a.next == b.next)
}

fn same(a: &TableFeatures, b: &TableFeatures) -> bool {
    let plain = |f: &TableFeatures| {
        (f.metadata_match, f.metadata_write, f.miss_config, f.eviction, f.vacancy_events, f.max_entries)
    };
    plain(a) == plain(b)
        && a.matched == b.matched
        && same_instructions(&a.nonmiss, a.table_id.0, &b.nonmiss, b.table_id.0)
        && same_instructions(&a.miss, a.table_id.0, &b.miss, b.table_id.0)
}

fn is_empty(features: &TableFeatures) -> bool {
    same(features, &TableFeatures::blank(features.table_id))
}
