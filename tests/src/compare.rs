//! Transcripts held against each other.
//!
//! What cannot be equal in two runs is replaced first: UUIDs, durations, ages, times of day. What OVS changed between
//! 3.1 and 3.7.1 stands in `interop/since-3.1`, one row a difference: text of the peer, text of ours, and the cause.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::scenario::Step;

/// Replaces what differs from run to run.
pub fn normalise(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        // It is told only where it differs from the duration, which takes another second to show.
        let mut line = without_field(&uuids(line), "hard_age=");
        for (label, stop) in [("duration=", ",s"), ("used:", ",) "), ("idle_age=", ", ")] {
            line = mask_after(&line, label, stop);
        }
        out.push_str(&age(time_of_day(line)));
        out.push('\n');
    }
    out
}

/// Datapath flows with their conntrack fields behind the input port, where they are since 3.2; older releases begin with them.
pub fn ct_behind_port(flows: &str) -> String {
    let mut out = String::new();
    for line in flows.lines() {
        let parts = line
            .split_once("recirc_id(")
            .filter(|(ct, _)| ct.starts_with("ct_"))
            .and_then(|(ct, rest)| Some((ct, rest, rest.find("in_port(")?)));
        match parts.and_then(|(ct, rest, port)| Some((ct, rest, port + rest[port..].find("),")? + 2))) {
            Some((ct, rest, end)) => out += &format!("recirc_id({}{ct}{}\n", &rest[..end], &rest[end..]),
            None => out += &format!("{line}\n"),
        }
    }
    out
}

/// Takes `LABELvalue, ` out.
fn without_field(line: &str, label: &str) -> String {
    let Some(at) = line.find(label) else { return line.to_owned() };
    let end = line[at..].find(", ").map_or(line.len(), |end| at + end + 2);
    format!("{}{}", &line[..at], &line[end..])
}

/// Replaces the time of day at the start of a line of a log.
fn time_of_day(line: String) -> String {
    match line.split_once('|') {
        Some((time, rest)) if time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T' => {
            format!("<time>|{rest}")
        }
        _ => line,
    }
}

/// Replaces the age at the end of a line of `fdb/show`.
fn age(line: String) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [_, vlan, mac, age] if is_number(vlan) && is_number(age) && is_mac(mac) => {
            format!("{}?", line.trim_end_matches(|c: char| c.is_ascii_digit()))
        }
        _ => line,
    }
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_digit())
}

fn is_mac(word: &str) -> bool {
    word.len() == 17 && word.split(':').filter(|part| part.len() == 2).count() == 6
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
    used: AtomicBool,
}

/// The rows of `interop/since-3.1` that a suite may meet; none beside a peer of our own release.
#[derive(Debug)]
pub struct Known {
    rows: Vec<Row>,
}

impl Known {
    /// The rows of `suite`.
    pub fn of(suite: &str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/since-3.1");
        let text = fs::read_to_string(path).expect("interop/since-3.1 is part of the checkout");
        let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
        let is_older = crate::kit::Kit::peer_is_older();
        Self { rows: lines.filter_map(|line| row(line, suite)).filter(|_| is_older).collect() }
    }

    /// Rows that made no difference since; each is a row too many.
    pub fn unused(&self) -> String {
        let unused = self.rows.iter().filter(|row| !row.used.load(Ordering::Relaxed));
        unused.map(|row| format!("nothing needs: {:?} became {:?}\n", row.peer, row.ours)).collect()
    }

    /// The differences between two transcripts of one scenario, as text; empty where there are none.
    pub fn differences(&self, name: &str, peer: &[Step], ours: &[Step]) -> String {
        let mut out = String::new();
        for (theirs, mine) in peer.iter().zip(ours) {
            if theirs.command != mine.command || !self.same(&theirs.output, &mine.output) {
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

    /// Whether two outputs are equal, but for the rows.
    fn same(&self, peer: &str, ours: &str) -> bool {
        // Replaced on both sides: the tools of one release talk to the daemons of the other here.
        let [mut peer, mut ours] = [peer, ours].map(str::to_owned);
        for row in &self.rows {
            if peer == ours {
                break;
            }
            let next = [&peer, &ours].map(|text| row.apply(text));
            if next != [&*peer, &*ours] {
                row.used.store(true, Ordering::Relaxed);
            }
            [peer, ours] = next;
        }
        peer == ours
    }
}

/// A row, if it is one of the suite.
fn row(line: &str, suite: &str) -> Option<Row> {
    let mut cells = line.split('\t').filter(|cell| !cell.is_empty());
    let (Some(suites), Some(peer), Some(ours), Some(_cause)) =
        (cells.next(), cells.next(), cells.next(), cells.next())
    else {
        panic!("interop/since-3.1: a row is SUITES<tab>PEER<tab>OURS<tab>CAUSE: {line}");
    };
    let text = |cell: &str| if cell == "-" { String::new() } else { cell.replace("\\n", "\n") };
    let row = Row { peer: text(peer), ours: text(ours), used: AtomicBool::new(false) };
    suites.split(' ').any(|name| name == suite).then_some(row)
}

impl Row {
    /// The peer's text becomes ours; lines that only one side has go.
    fn apply(&self, text: &str) -> String {
        match (self.peer.is_empty(), self.ours.is_empty()) {
            (true, _) => without_lines(text, &self.ours),
            (_, true) => without_lines(text, &self.peer),
            _ => replaced(text, &self.peer, &self.ours),
        }
    }
}

/// Replaces `what`, in which `<hex>` stands for hexadecimal digits.
fn replaced(text: &str, what: &str, with: &str) -> String {
    let Some((head, tail)) = what.split_once("<hex>") else { return text.replace(what, with) };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(head) {
        let (before, after) = rest.split_at(at + head.len());
        let digits = after.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(after.len());
        match after[digits..].strip_prefix(tail) {
            Some(next) => {
                out.push_str(&before[..at]);
                out.push_str(with);
                rest = next;
            }
            None => {
                out.push_str(before);
                rest = after;
            }
        }
    }
    out + rest
}

fn without_lines(text: &str, with: &str) -> String {
    text.lines().filter(|line| !line.contains(with)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_flows_get_the_order_of_newer_ones() {
        let old = "ct_state(+est),ct_mark(0x5),recirc_id(0x1),in_port(p2),eth_type(0x0800), packets:0\nx\n";
        let new = "recirc_id(0x1),in_port(p2),ct_state(+est),ct_mark(0x5),eth_type(0x0800), packets:0\nx\n";
        assert_eq!((ct_behind_port(old), ct_behind_port(new)), (new.to_owned(), new.to_owned()));
    }

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let line = "ufid:6b6f7a3e-0a35-4c3a-a0fb-4d2c9fb2f7e1, used:0.5s, duration=1.25s, idle_age=3, x";
        assert_eq!(normalise(line), "ufid:<uuid>, used:?, duration=?s, idle_age=?, x\n");
        assert_eq!(
            normalise("n_bytes=0, idle_age=1, hard_age=2, in_port=1"),
            "n_bytes=0, idle_age=?, in_port=1\n"
        );
        assert_eq!(normalise("2026-11-21T22:59:31Z|00001|vlog|WARN|x"), "<time>|00001|vlog|WARN|x\n");
        assert_eq!(normalise("    1    10  50:54:00:00:00:01   12"), "    1    10  50:54:00:00:00:01   ?\n");
        assert_eq!(
            normalise("    1    10  50:54:00:00:00:01  static"),
            "    1    10  50:54:00:00:00:01  static\n"
        );
    }

    #[test]
    fn rows_replace_on_either_side() {
        let line = "x y\t(xid=0x<hex>)\t(xid)\ttransaction ids are counted otherwise";
        assert!(row(line, "z").is_none());
        let row = row(line, "y").expect("the row is one of y");
        assert_eq!(row.apply("a (xid=0x1f): b (xid=0x2): (xid=0x3"), "a (xid): b (xid): (xid=0x3");
    }
}
