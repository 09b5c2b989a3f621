//! A program's manual: the one source of what `--help` prints and of its manual page.
//!
//! Sources are in `docs/man/source`, one text file a program; `include_str!` gives it to the program. The first line is
//! `NAME(SECTION) - WHAT IT IS`. The beginnings of the other lines tell what they are:
//!
//! | line | manual page | `--help` |
//! |---|---|---|
//! | `# Title`, `## Title` | section, part of a section | |
//! | `!text` | | the text as it is |
//! | `\|text` | an entry: its usage up to two spaces; the rest if no text follows | the text as it is |
//! | `: usage` | an entry; several in a row share what follows | |
//! | `+ usage` | an entry inside an entry | |
//! | `- text` | a point of a list | |
//! | four spaces | an example, as it is | |
//! | `..`, `.` | the end of the inner entries, of all entries | |
//! | `@name argument` | the shared text `shared/name.txt`, its `{arg}` replaced | likewise |
//! | other text | paragraphs, parted by empty lines, `` `so` `` bold; under an entry until the next | |
//!
//! `{rundir}`, `{dbdir}`, `{logdir}`, `{pkgdatadir}` are the directories (in the page, those without an environment),
//! `{program}` is the name.

pub mod roff;

use crate::dirs::Dirs;

/// Shared texts, by name.
const SHARED: &[(&str, &str)] = &[
    ("active", include_str!("../../docs/man/source/shared/active.txt")),
    ("passive", include_str!("../../docs/man/source/shared/passive.txt")),
    ("pki", include_str!("../../docs/man/source/shared/pki.txt")),
    ("bootstrap", include_str!("../../docs/man/source/shared/bootstrap.txt")),
    ("peer-ca-cert", include_str!("../../docs/man/source/shared/peer-ca-cert.txt")),
    ("tls", include_str!("../../docs/man/source/shared/tls.txt")),
    ("daemon", include_str!("../../docs/man/source/shared/daemon.txt")),
    ("logging", include_str!("../../docs/man/source/shared/logging.txt")),
    ("tables", include_str!("../../docs/man/source/shared/tables.txt")),
    ("records", include_str!("../../docs/man/source/shared/records.txt")),
    ("replay", include_str!("../../docs/man/source/shared/replay.txt")),
    ("commands", include_str!("../../docs/man/source/shared/commands.txt")),
    ("dpctl", include_str!("../../docs/man/source/shared/dpctl.txt")),
    ("environment", include_str!("../../docs/man/source/shared/environment.txt")),
];

/// A line of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// A section's title.
    Section(String),
    /// The title of a part of a section.
    Part(String),
    /// For `--help` alone.
    Help(String),
    /// A line of `--help` that begins an entry of the page, or goes on with one.
    Entry(String),
    /// An entry of the page alone.
    Usage(String),
    /// An entry inside an entry.
    Inner(String),
    /// A point of a list.
    Point(String),
    /// A line of an example.
    Example(String),
    /// The end of the entries inside an entry.
    EndInner,
    /// The end of the entries.
    End,
    /// The end of a paragraph.
    Blank,
    /// A line of a paragraph.
    Text(String),
}

impl Line {
    fn parse(line: &str) -> Self {
        type Mark = (&'static str, fn(String) -> Line);
        const MARKS: [Mark; 8] = [
            ("## ", Line::Part),
            ("# ", Line::Section),
            ("!", Line::Help),
            ("|", Line::Entry),
            (": ", Line::Usage),
            ("+ ", Line::Inner),
            ("- ", Line::Point),
            ("    ", Line::Example),
        ];
        match line {
            "" => Self::Blank,
            "." => Self::End,
            ".." => Self::EndInner,
            _ => MARKS
                .iter()
                .find_map(|(mark, make)| line.strip_prefix(mark).map(|rest| make(rest.to_owned())))
                .unwrap_or_else(|| Self::Text(line.to_owned())),
        }
    }
}

/// A source, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manual {
    /// The program's name.
    pub name: String,
    /// The section of the manual: 1 for everybody's programs, 8 for an administrator's.
    pub section: u8,
    /// What it is, in one line.
    pub brief: String,
    /// The rest, shared texts put in.
    pub lines: Vec<Line>,
}

impl Manual {
    /// Reads a source. Its first line must be a title, and the shared texts that it names must exist; else the error
    /// tells the line.
    pub fn parse(source: &str) -> Result<Self, String> {
        let mut lines = source.lines();
        let title = lines.next().unwrap_or_default();
        let (name, section, brief) = title
            .split_once(") - ")
            .and_then(|(head, brief)| {
                let (name, section) = head.split_once('(')?;
                Some((name, section.parse().ok()?, brief))
            })
            .ok_or_else(|| format!("{title}: not NAME(SECTION) - TEXT"))?;
        let mut manual = Self { name: name.to_owned(), section, brief: brief.to_owned(), lines: Vec::new() };
        manual.take(lines, "")?;
        Ok(manual)
    }

    fn take<'a>(&mut self, lines: impl Iterator<Item = &'a str>, argument: &str) -> Result<(), String> {
        for line in lines {
            let line = line.replace("{arg}", argument);
            let Some(shared) = line.strip_prefix('@') else {
                self.lines.push(Line::parse(&line.replace("{program}", &self.name)));
                continue;
            };
            let (name, argument) = shared.split_once(' ').unwrap_or((shared, ""));
            let text = SHARED.iter().find(|(shared, _)| *shared == name);
            let (_, text) = text.ok_or_else(|| format!("{line}: no such shared text"))?;
            self.take(text.lines(), argument)?;
        }
        Ok(())
    }

    /// The usages of all entries, a line each: options with their values, commands with their arguments.
    pub fn usages(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| match line {
            Line::Entry(text) if is_first_line(text) => Some(split_entry(text).0),
            Line::Usage(usage) | Line::Inner(usage) => Some(usage),
            _ => None,
        })
    }

    /// What `--help` prints.
    pub fn help(&self, dirs: &Dirs) -> String {
        let texts = self.lines.iter().filter_map(|line| match line {
            Line::Help(text) | Line::Entry(text) => Some(text.as_str()),
            _ => None,
        });
        texts.map(|text| with_dirs(text, dirs) + "\n").collect()
    }
}

/// What `--help` prints of a source; of one that is no source, why.
pub fn help(source: &str, dirs: &Dirs) -> String {
    Manual::parse(source).map_or_else(|error| error + "\n", |manual| manual.help(dirs))
}

fn with_dirs(text: &str, dirs: &Dirs) -> String {
    let places = [
        ("{rundir}", &dirs.run),
        ("{dbdir}", &dirs.db),
        ("{logdir}", &dirs.log),
        ("{pkgdatadir}", &dirs.pkgdata),
    ];
    places.iter().fold(text.to_owned(), |text, (name, dir)| match text.contains(name) {
        true => text.replace(name, &dir.display().to_string()),
        false => text,
    })
}

/// Whether a line of `--help` begins an entry: it is indented by two spaces or none.
fn is_first_line(text: &str) -> bool {
    text.len() - text.trim_start().len() <= 2
}

/// Usage and description of an entry of `--help`.
fn split_entry(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once("  ").map_or((text, ""), |(usage, rest)| (usage, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const SOURCE: &str = "\
tool(8) - does things
!tool: a tool
# OPTIONS
|  -x, --ex=FILE   write FILE
|                  (default: {rundir}/{program}.x)
!
|  --why
Tells `why`.
: inner/command A [B]
Does A.
";

    fn dirs() -> Dirs {
        Dirs { run: PathBuf::from("/r"), ..Dirs::from_env() }
    }

    #[test]
    fn help_is_verbatim() {
        let expected =
            "tool: a tool\n  -x, --ex=FILE   write FILE\n                  (default: /r/tool.x)\n\n  --why\n";
        assert_eq!(help(SOURCE, &dirs()), expected);
    }

    #[test]
    fn usages_are_first_lines() {
        let manual = Manual::parse(SOURCE).unwrap();
        let usages: Vec<&str> = manual.usages().collect();
        assert_eq!(usages, ["-x, --ex=FILE", "--why", "inner/command A [B]"]);
        assert_eq!((manual.name.as_str(), manual.section, manual.brief.as_str()), ("tool", 8, "does things"));
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(Manual::parse("x\n"), Err("x: not NAME(SECTION) - TEXT".to_owned()));
        assert_eq!(
            Manual::parse("x(1) - y\n@nothing z\n"),
            Err("@nothing z: no such shared text".to_owned())
        );
    }
}
