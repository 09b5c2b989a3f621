//! Log line patterns: text with `%` escapes, as `ovs-appctl(8)` documents them.

use super::{Facility, Level};
use std::fmt::Write;
use sys::process::{Civil, civil};

/// What a line is made of.
pub struct Line<'a> {
    /// The program's name.
    pub app: &'a str,
    /// The module.
    pub module: &'a str,
    /// How important it is.
    pub level: Level,
    /// What is told.
    pub message: &'a str,
    /// Which message of its thread this is, from 1.
    pub number: u32,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Milliseconds since the program started.
    pub uptime_ms: u64,
    /// The thread or subprogram; empty for the main one.
    pub thread: &'a str,
    /// For `%B`.
    pub facility: Facility,
}

struct Width {
    left: bool,
    zero: bool,
    width: usize,
}

impl Width {
    fn pad(&self, out: &mut String, field: &str) {
        let missing = self.width.saturating_sub(field.chars().count());
        let pad = |c: char| std::iter::repeat_n(c, missing);
        if self.left {
            out.push_str(field);
            out.extend(pad(' '));
        } else {
            out.extend(pad(if self.zero { '0' } else { ' ' }));
            out.push_str(field);
        }
    }
}

/// `line` in the form of `pattern`, without a newline.
pub fn format(pattern: &str, line: &Line<'_>) -> String {
    let mut out = String::with_capacity(pattern.len() + line.message.len() + 64);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut width = Width { left: eat(&mut rest, '-'), zero: eat(&mut rest, '0'), width: 0 };
        while let Some(digit) = rest.chars().next().and_then(|c| c.to_digit(10)) {
            width.width = (width.width * 10 + digit as usize).min(4096);
            rest = &rest[1..];
        }
        let Some(escape) = rest.chars().next() else { break };
        rest = &rest[escape.len_utf8()..];
        let field = expand(escape, &mut rest, line);
        width.pad(&mut out, &field);
    }
    out.push_str(rest);
    out
}

fn eat(rest: &mut &str, c: char) -> bool {
    match rest.strip_prefix(c) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn expand(escape: char, rest: &mut &str, line: &Line<'_>) -> String {
    match escape {
        'A' => line.app.to_owned(),
        'B' => (line.facility.code() * 8 + line.level.syslog()).to_string(),
        'c' => line.module.to_owned(),
        'd' | 'D' => date(escape == 'D', rest, line.wall_ms),
        'E' => sys::process::hostname(),
        'm' => line.message.to_owned(),
        'N' => line.number.to_string(),
        'n' => "\n".to_owned(),
        'p' => line.level.name().to_owned(),
        'P' => std::process::id().to_string(),
        'r' => line.uptime_ms.to_string(),
        't' => if line.thread.is_empty() { "main" } else { line.thread }.to_owned(),
        'T' if line.thread.is_empty() => String::new(),
        'T' => format!("({})", line.thread),
        other => other.to_string(),
    }
}

fn date(utc: bool, rest: &mut &str, wall_ms: u64) -> String {
    let template = match rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
        Some((template, after)) => {
            *rest = after;
            template
        }
        None => "%Y-%m-%d %H:%M:%S.###",
    };
    strftime(template, wall_ms, utc)
}

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time `wall_ms` (milliseconds since 1970) in the form of `template`, in the C locale; each `#` is a digit of the
/// fraction of a second, those after the third zero.
pub fn strftime(template: &str, wall_ms: u64, utc: bool) -> String {
    let t = civil(i64::try_from(wall_ms / 1000).unwrap_or(i64::MAX), utc);
    let mut fraction = format!("{:03}", wall_ms % 1000).into_bytes().into_iter().map(char::from);
    let mut out = String::new();
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => out.push(fraction.next().unwrap_or('0')),
            '%' => match chars.next() {
                Some(conversion) => convert(&mut out, conversion, &t, wall_ms / 1000),
                None => out.push('%'),
            },
            c => out.push(c),
        }
    }
    out
}

fn convert(out: &mut String, conversion: char, t: &Civil, secs: u64) {
    let day = DAYS[t.weekday as usize % 7];
    let month = MONTHS[(t.month as usize + 11) % 12];
    let hour12 = if t.hour.is_multiple_of(12) { 12 } else { t.hour % 12 };
    let sign = if t.offset < 0 { '-' } else { '+' };
    let offset = t.offset.unsigned_abs() / 60;
    // Writing to a string cannot fail.
    let _ = match conversion {
        'a' => write!(out, "{}", &day[..3]),
        'A' => write!(out, "{day}"),
        'b' | 'h' => write!(out, "{}", &month[..3]),
        'B' => write!(out, "{month}"),
        'C' => write!(out, "{:02}", t.year / 100),
        'd' => write!(out, "{:02}", t.day),
        'D' => write!(out, "{:02}/{:02}/{:02}", t.month, t.day, t.year % 100),
        'e' => write!(out, "{:2}", t.day),
        'F' => write!(out, "{}-{:02}-{:02}", t.year, t.month, t.day),
        'H' => write!(out, "{:02}", t.hour),
        'I' => write!(out, "{hour12:02}"),
        'j' => write!(out, "{:03}", t.yearday),
        'm' => write!(out, "{:02}", t.month),
        'M' => write!(out, "{:02}", t.minute),
        'n' => writeln!(out),
        'p' => write!(out, "{}", if t.hour < 12 { "AM" } else { "PM" }),
        'R' => write!(out, "{:02}:{:02}", t.hour, t.minute),
        's' => write!(out, "{secs}"),
        'S' => write!(out, "{:02}", t.second),
        't' => write!(out, "\t"),
        'T' | 'X' => write!(out, "{:02}:{:02}:{:02}", t.hour, t.minute, t.second),
        'u' => write!(out, "{}", if t.weekday == 0 { 7 } else { t.weekday }),
        'w' => write!(out, "{}", t.weekday),
        'y' => write!(out, "{:02}", t.year % 100),
        'Y' => write!(out, "{}", t.year),
        'z' => write!(out, "{sign}{:02}{:02}", offset / 60, offset % 60),
        'Z' if t.offset == 0 => write!(out, "GMT"),
        '%' => write!(out, "%"),
        other => write!(out, "%{other}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> Line<'static> {
        Line {
            app: "app",
            module: "vlog",
            level: Level::Info,
            message: "hello",
            number: 7,
            wall_ms: 1_795_289_561_123,
            uptime_ms: 42,
            thread: "",
            facility: Facility::Daemon,
        }
    }

    #[test]
    fn escapes_expand_as_ovs_expands_them() {
        let cases = [
            ("%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m", "2026-11-21T19:32:41.123Z|00007|vlog|INFO|hello"),
            ("[%-8A][%3A][%08c][%B][%t][%T]", "[app     ][app][0000vlog][29][main][]"),
            ("[%r][%5.2N][%{hash}m][%%][%x][%D]", "[42][    .2N][{hash}m][%][x][2026-11-21 19:32:41.123]"),
            ("%D{%h %e %T}", "Nov 21 19:32:41"),
        ];
        for (pattern, text) in cases {
            assert_eq!(format(pattern, &line()), text);
        }
        assert_eq!(format("%c%T|%t", &Line { thread: "handler1", ..line() }), "vlog(handler1)|handler1");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_pattern_panics(pattern in ".{0,40}") {
            format(&pattern, &line());
        }
    }
}
