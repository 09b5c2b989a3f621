//! A manual page of a [`Manual`], for `man(1)`: the `man` macros that every `roff` knows.

use super::{Line, Manual, is_first_line, split_entry, with_dirs};
use crate::dirs::Dirs;
use std::path::PathBuf;

/// The page. It names the directories of an installation, whatever the environment says.
pub fn page(manual: &Manual) -> String {
    let dirs = Dirs {
        run: PathBuf::from("/var/run/openvswitch"),
        db: PathBuf::from("/etc/openvswitch"),
        sysconf: PathBuf::from("/etc"),
        log: PathBuf::from("/var/log/openvswitch"),
        pkgdata: PathBuf::from("/usr/share/openvswitch"),
        bin: PathBuf::from("/usr/bin"),
    };
    let name = prose(&manual.name);
    let head = format!(
        ".\\\" Made from docs/man/source; see there.\n.TH \"{name}\" {section} \"\" \"Turnout {version}\" \"Turnout \
         Manual\"\n.SH NAME\n{name} \\- {brief}\n",
        section = manual.section,
        version = env!("CARGO_PKG_VERSION"),
        brief = prose(&manual.brief),
    );
    let mut page = Page { out: head, state: State::Fresh, depth: 0, in_points: false, short: String::new() };
    for line in &manual.lines {
        page.line(line, &dirs);
    }
    page.leave();
    page.out
}

/// What the last line of the page was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A title: a paragraph needs no mark.
    Fresh,
    /// The usage of an entry; what it is follows.
    Usage,
    /// Text of a paragraph.
    Text,
    /// The end of a paragraph.
    Gap,
    /// An example.
    Example,
}

struct Page {
    out: String,
    state: State,
    /// 0 outside of entries, 1 inside of one, 2 in an entry inside of an entry.
    depth: u8,
    /// Whether what is inside of the entry is a list of points.
    in_points: bool,
    /// The description of the entry in `--help`, printed if nothing better follows.
    short: String,
}

impl Page {
    fn line(&mut self, line: &Line, dirs: &Dirs) {
        match line {
            Line::Section(title) => self.title(".SH", title),
            Line::Part(title) => self.title(".SS", title),
            Line::Help(_) => {}
            Line::Entry(text) if is_first_line(text) => {
                let (usage, short) = split_entry(text);
                self.usage(usage, 1);
                self.short = with_dirs(short, dirs);
            }
            Line::Entry(text) => {
                let separator = if self.short.is_empty() { "" } else { " " };
                self.short += &format!("{separator}{}", with_dirs(text.trim_start(), dirs));
            }
            Line::Usage(text) => self.usage(text, 1),
            Line::Inner(text) => self.usage(text, 2),
            Line::Point(text) => self.point(&with_dirs(text, dirs)),
            Line::Example(text) => self.example(&with_dirs(text, dirs)),
            Line::EndInner => self.leave_inner(),
            Line::End => self.leave(),
            Line::Blank => self.blank(),
            Line::Text(text) => self.text(&with_dirs(text, dirs)),
        }
    }

    fn push(&mut self, line: &str) {
        self.out += line;
        self.out.push('\n');
    }

    fn title(&mut self, mark: &str, title: &str) {
        self.leave();
        self.push(&format!("{mark} {}", prose(title)));
        self.state = State::Fresh;
    }

    fn usage(&mut self, usage: &str, depth: u8) {
        let follows = self.state == State::Usage && self.depth == depth && self.short.is_empty();
        self.say_short();
        self.enter(depth);
        self.push(if follows { ".TQ" } else { ".TP" });
        self.push(&styled(usage));
        self.state = State::Usage;
    }

    /// Goes to `depth`.
    fn enter(&mut self, depth: u8) {
        self.close_example();
        if depth < 2 || self.in_points {
            self.leave_inner();
        }
        if depth == 2 && self.depth != 2 {
            self.push(".RS");
        }
        self.depth = depth;
    }

    fn point(&mut self, text: &str) {
        self.short.clear();
        self.close_example();
        if self.depth == 1 {
            self.push(".RS");
            self.depth = 2;
            self.in_points = true;
        }
        self.push(&format!(".IP \\(bu 2\n{}", prose(text)));
        self.state = State::Text;
    }

    /// Ends the entries or points inside of an entry.
    fn leave_inner(&mut self) {
        self.close_example();
        if self.depth == 2 {
            self.push(".RE");
            self.depth = 1;
            self.state = State::Gap;
        }
        self.in_points = false;
    }

    fn text(&mut self, text: &str) {
        self.short.clear();
        self.close_example();
        if self.in_points && self.state == State::Gap {
            self.leave_inner();
        }
        if self.state == State::Gap {
            self.push(if self.depth == 0 { ".PP" } else { ".IP" });
        }
        self.push(&prose(text));
        self.state = State::Text;
    }

    fn example(&mut self, text: &str) {
        self.short.clear();
        if self.state != State::Example {
            if self.state == State::Usage {
                self.push("\\&");
            }
            self.push(if self.depth == 0 { ".PP" } else { ".IP" });
            self.push(".EX");
            self.state = State::Example;
        }
        self.push(&verbatim(&format!("  {text}")));
    }

    fn close_example(&mut self) {
        if self.state == State::Example {
            self.push(".EE");
            self.state = State::Gap;
        }
    }

    fn blank(&mut self) {
        if self.state == State::Text {
            self.state = State::Gap;
        }
    }

    /// An entry without text says what `--help` says.
    fn say_short(&mut self) {
        if self.state == State::Usage && !self.short.is_empty() {
            let short = std::mem::take(&mut self.short);
            let mut letters = short.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            let end = if short.ends_with('.') || short.ends_with(')') { "" } else { "." };
            self.push(&prose(&format!("{first}{}{end}", letters.as_str())));
            self.state = State::Text;
        }
    }

    /// Ends the entries.
    fn leave(&mut self) {
        self.say_short();
        self.leave_inner();
        self.depth = 0;
        self.short.clear();
        if self.state != State::Fresh {
            self.state = State::Gap;
        }
    }
}

/// Text in the font that is set: what `roff` would understand is made harmless.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga").replace('\'', "\\(aq");
    text.replace('^', "\\(ha").replace('~', "\\(ti")
}

/// A line of a paragraph: what stands between backquotes is bold.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        match i % 2 {
            0 => out += &escape(part),
            _ => out += &format!("\\fB{}\\fR", escape(part)),
        }
    }
    protected(out)
}

fn verbatim(text: &str) -> String {
    protected(escape(text))
}

/// A dot or quote at a line's beginning would make it a request.
fn protected(line: String) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

/// A usage: what is to be typed is bold, what stands for something is in italics, the signs of the grammar are plain.
fn styled(usage: &str) -> String {
    let mut out = String::new();
    let mut rest = usage;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || "-_/:=.<>%+\"@#!{}()*".contains(c);
        let dots = rest.starts_with("...");
        let end = match first {
            _ if dots => Some(3),
            'A'..='Z' => rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')),
            c if is_word(c) => {
                let end = rest.find(|c: char| !is_word(c) || c.is_ascii_uppercase());
                rest[..end.unwrap_or(rest.len())].find("...").or(end)
            }
            c => Some(c.len_utf8()),
        };
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        let before = &usage[..usage.len() - rest.len()];
        let small = |c: char| c.is_ascii_lowercase();
        let glued = before.ends_with(small) || tail.starts_with(small);
        let is_letter =
            word.len() == 1 && (before == "-" || before.ends_with(" -") || before.ends_with("[-"));
        match first {
            _ if dots => out += "\\&...",
            c if c.is_ascii_uppercase() && !glued && !is_letter => {
                out += &format!("\\fI{}\\fR", escape(word))
            }
            c if is_word(c) || is_letter => out += &format!("\\fB{}\\fR", escape(word)),
            _ => out += &escape(word),
        }
        rest = tail;
    }
    protected(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usages_have_fonts() {
        assert_eq!(styled("add-br BRIDGE"), "\\fBadd\\-br\\fR \\fIBRIDGE\\fR");
        assert_eq!(styled("[--x=FILE]..."), "[\\fB\\-\\-x=\\fR\\fIFILE\\fR]\\&...");
        assert_eq!(styled("-C, --ca=FILE"), "\\fB\\-\\fR\\fBC\\fR, \\fB\\-\\-ca=\\fR\\fIFILE\\fR");
        assert_eq!(styled("on|off"), "\\fBon\\fR|\\fBoff\\fR");
    }

    #[test]
    fn a_page() {
        let source = "tool(1) - does things\n# DESCRIPTION\nIt does.\n\nIt\n.Really `--x` does.\n# OPTIONS\n!head\n|  -x      go\n\
                      |          on\n|  -y      stop\nStops.\n\nAt once:\n    tool -y\nDone.\n+ in\nside\n.\nEnd.\n";
        let page = page(&Manual::parse(source).expect("a source"));
        let body = page.split_once(".SH NAME\n").expect("a head").1;
        assert_eq!(
            body,
            "tool \\- does things\n.SH DESCRIPTION\nIt does.\n.PP\nIt\n\\&.Really \\fB\\-\\-x\\fR does.\n.SH OPTIONS\n.TP\n\
             \\fB\\-x\\fR\nGo on.\n.TP\n\\fB\\-y\\fR\nStops.\n.IP\nAt once:\n.IP\n.EX\n  tool \\-y\n.EE\n.IP\nDone.\n.RS\n.TP\n\
             \\fBin\\fR\nside\n.RE\n.PP\nEnd.\n"
        );
    }
}
