//! Transcripts held against each other.
//!
//! What cannot be equal in two runs is replaced first: UUIDs, durations, ages, process ids. What OVS changed between
//! 3.1 and 3.7.1 stands in `interop/since-3.1`, one row a difference: a pattern for the peer's line, one for ours, and
//! the cause. A row that no run uses is an error of its own, so the file cannot grow stale.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, OnceLock};

use crate::scenario::Step;

/// Replaces what differs from run to run.
pub fn normalise(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut line = uuids(line);
        for (label, stop) in [("duration=", ",s"), ("used:", ",) "), ("idle_age=", ", "), ("hard_age=", ", ")]
        {
            line = mask_after(&line, label, stop);
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// Replaces the text after each `label` up to one of the characters of `stop` by `?`.
fn mask_after(line: &str, label: &str, stop: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(label) {
        let (head, tail) = rest.split_at(at + label.len());
        out.push_str(head);
        out.push('?');
        rest = tail.find(|c| stop.contains(c)).map_or("", |end| &tail[end..]);
    }
    out + rest
}

fn uuids(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if rest.get(..36).is_some_and(is_uuid) {
            out.push_str("<uuid>");
            rest = &rest[36..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    })
}

/// One known difference between OVS 3.1 and 3.7.1.
#[derive(Debug)]
struct Row {
    /// Text in a line of the peer; empty where the peer has no such line.
    peer: String,
    /// What stands there in ours; empty where ours has no such line.
    ours: String,
}

struct Known {
    rows: Vec<Row>,
    used: Mutex<BTreeSet<usize>>,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/since-3.1");
        let text = fs::read_to_string(path).expect("interop/since-3.1 is part of the checkout");
        let rows = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')).map(row).collect();
        Known { rows, used: Mutex::default() }
    })
}

fn row(line: &str) -> Row {
    let mut cells = line.split('\t').filter(|cell| !cell.is_empty());
    let (Some(peer), Some(ours), Some(_cause)) = (cells.next(), cells.next(), cells.next()) else {
        panic!("interop/since-3.1: a row is PEER<tab>OURS<tab>CAUSE: {line}");
    };
    let text = |cell: &str| if cell == "-" { String::new() } else { cell.to_string() };
    Row { peer: text(peer), ours: text(ours) }
}

/// The differences between two transcripts of one scenario, as text; empty where there are none.
pub fn differences(name: &str, peer: &[Step], ours: &[Step]) -> String {
    let mut out = String::new();
    for (theirs, mine) in peer.iter().zip(ours) {
        if theirs.command != mine.command || !same(&theirs.output, &mine.output) {
            out.push_str(&format!("== {name}: {}\n", theirs.command));
            theirs.output.lines().for_each(|l| out.push_str(&format!("-{l}\n")));
            mine.output.lines().for_each(|l| out.push_str(&format!("+{l}\n")));
        }
    }
    if peer.len() != ours.len() {
        out.push_str(&format!("== {name}: {} steps beside {}\n", peer.len(), ours.len()));
    }
    out
}

/// Whether two outputs are equal, but for rows of `interop/since-3.1` when the peer is the older release.
pub fn same(peer: &str, ours: &str) -> bool {
    if peer == ours {
        return true;
    }
    if !crate::kit::Kit::peer_is_older() {
        return false;
    }
    let known = known();
    let mut text = peer.to_string();
    let mut mine = ours.to_string();
    for (number, row) in known.rows.iter().enumerate() {
        let before = (text.clone(), mine.clone());
        if row.peer.is_empty() {
            mine = without_lines(&mine, &row.ours);
        } else if row.ours.is_empty() {
            text = without_lines(&text, &row.peer);
        } else {
            text = text.replace(&row.peer, &row.ours);
        }
        if before != (text.clone(), mine.clone()) {
            known.used.lock().expect("no holder panics").insert(number);
        }
    }
    text == mine
}

fn without_lines(text: &str, with: &str) -> String {
    text.lines().filter(|line| !line.contains(with)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let line = "ufid:6b6f7a3e-0a35-4c3a-a0fb-4d2c9fb2f7e1, used:0.5s, duration=1.25s, idle_age=3, x";
        assert_eq!(normalise(line), "ufid:<uuid>, used:?, duration=?s, idle_age=?, x\n");
    }
}
