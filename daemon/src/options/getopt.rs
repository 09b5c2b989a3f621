//! GNU `getopt_long`: abbreviations of long options, bundled short ones, arguments anywhere.

use std::collections::VecDeque;

/// Whether an option takes an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    /// None.
    No,
    /// `--name=value`, `--name value`, `-nvalue`, `-n value`.
    Required,
    /// `--name[=value]`, `-n[value]`.
    Optional,
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Row<T> {
    /// The name after `--`; empty for an option with a letter only.
    pub long: &'static str,
    /// The letter after `-`.
    pub short: Option<char>,
    /// Its argument.
    pub arg: Arg,
    /// What it is to the program.
    pub id: T,
}

impl<T> Row<T> {
    /// A row.
    pub const fn new(long: &'static str, short: Option<char>, arg: Arg, id: T) -> Self {
        Self { long, short, arg, id }
    }

    /// The same option, as something else.
    pub const fn with<U>(&self, id: U) -> Row<U> {
        Row { long: self.long, short: self.short, arg: self.arg, id }
    }
}

/// An option that was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item<T> {
    /// Which one.
    pub id: T,
    /// Its argument.
    pub value: Option<String>,
}

/// A command line under way.
pub struct Getopt<'a, T> {
    rows: &'a [Row<T>],
    args: VecDeque<String>,
    /// The letters of a `-abc` that were not looked at yet.
    letters: String,
    skipped: Vec<String>,
    stop_at_argument: bool,
}

impl<'a, T: Copy> Getopt<'a, T> {
    /// Reads `args` (without the program's name). With `stop_at_argument`, the first one that is no option ends them.
    pub fn new(rows: &'a [Row<T>], args: Vec<String>, stop_at_argument: bool) -> Self {
        Self { rows, args: args.into(), letters: String::new(), skipped: Vec::new(), stop_at_argument }
    }

    /// The next option.
    ///
    /// # Errors
    /// The C library's words, which follow the program's path and `: `.
    #[expect(clippy::should_implement_trait, reason = "fails, and the caller goes on to the rest afterwards")]
    pub fn next(&mut self) -> Result<Option<Item<T>>, String> {
        if !self.letters.is_empty() {
            return self.short().map(Some);
        }
        while let Some(arg) = self.args.pop_front() {
            if arg == "--" {
                return Ok(None);
            }
            if let Some(long) = arg.strip_prefix("--") {
                return self.long(long).map(Some);
            }
            if let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                letters.clone_into(&mut self.letters);
                return self.short().map(Some);
            }
            if self.stop_at_argument {
                self.args.push_front(arg);
                return Ok(None);
            }
            self.skipped.push(arg);
        }
        Ok(None)
    }

    /// The arguments that are no options, once [`Getopt::next`] has given none.
    pub fn rest(self) -> Vec<String> {
        self.skipped.into_iter().chain(self.args).collect()
    }

    fn long(&mut self, text: &str) -> Result<Item<T>, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let row = self.named(name, text)?;
        match (row.arg, value) {
            (Arg::No, Some(_)) => Err(format!("option '--{}' doesn't allow an argument", row.long)),
            (Arg::Required, None) => match self.args.pop_front() {
                Some(value) => Ok(Item { id: row.id, value: Some(value) }),
                None => Err(format!("option '--{}' requires an argument", row.long)),
            },
            (_, value) => Ok(Item { id: row.id, value }),
        }
    }

    /// The option of that name; `text` is the whole word.
    fn named(&self, name: &str, text: &str) -> Result<&'a Row<T>, String> {
        let named = |row: &&Row<T>| !row.long.is_empty() && row.long == name;
        if let Some(row) = self.rows.iter().find(named) {
            return Ok(row);
        }
        let begins = |row: &&Row<T>| !name.is_empty() && row.long.starts_with(name);
        let found: Vec<&Row<T>> = self.rows.iter().filter(begins).collect();
        match found[..] {
            [] => Err(format!("unrecognized option '--{text}'")),
            [row] => Ok(row),
            _ => {
                let names: Vec<String> = found.iter().map(|row| format!(" '--{}'", row.long)).collect();
                Err(format!("option '--{text}' is ambiguous; possibilities:{}", names.concat()))
            }
        }
    }

    fn short(&mut self) -> Result<Item<T>, String> {
        let mut chars = self.letters.chars();
        let letter = chars.next().unwrap_or('?');
        let after = chars.as_str().to_owned();
        let Some(row) = self.rows.iter().find(|row| row.short == Some(letter)) else {
            self.letters = after;
            return Err(format!("invalid option -- '{letter}'"));
        };
        let (id, arg) = (row.id, row.arg);
        if arg == Arg::No {
            self.letters = after;
            return Ok(Item { id, value: None });
        }
        self.letters.clear();
        if !after.is_empty() {
            return Ok(Item { id, value: Some(after) });
        }
        if arg == Arg::Optional {
            return Ok(Item { id, value: None });
        }
        match self.args.pop_front() {
            Some(value) => Ok(Item { id, value: Some(value) }),
            None => Err(format!("option requires an argument -- '{letter}'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[Row<u8>] = &[
        Row::new("version", Some('V'), Arg::No, 1),
        Row::new("verbose", Some('v'), Arg::Optional, 2),
        Row::new("timeout", Some('T'), Arg::Required, 3),
    ];

    fn read(args: &[&str], stop: bool) -> (Vec<Result<Item<u8>, String>>, Vec<String>) {
        let mut getopt = Getopt::new(ROWS, args.iter().map(|&a| a.to_owned()).collect(), stop);
        let mut items = Vec::new();
        while let Some(item) = getopt.next().transpose() {
            items.push(item);
        }
        (items, getopt.rest())
    }

    fn item(id: u8, value: Option<&str>) -> Result<Item<u8>, String> {
        Ok(Item { id, value: value.map(str::to_owned) })
    }

    #[test]
    fn options_come_out_wherever_they_stand() {
        let (items, rest) =
            read(&["a", "-Vvdbg", "--time=3", "-T", "4", "--timeout", "5", "b", "--", "-V"], false);
        let want =
            [item(1, None), item(2, Some("dbg")), item(3, Some("3")), item(3, Some("4")), item(3, Some("5"))];
        assert_eq!(items, want);
        assert_eq!(rest, ["a", "b", "-V"]);
        assert_eq!(
            read(&["-V", "a", "-V"], true),
            (vec![item(1, None)], vec!["a".to_owned(), "-V".to_owned()])
        );
    }

    #[test]
    fn errors_are_the_c_librarys() {
        let cases = [
            ("--foo", "unrecognized option '--foo'"),
            ("--foo=x", "unrecognized option '--foo=x'"),
            ("--ver", "option '--ver' is ambiguous; possibilities: '--version' '--verbose'"),
            ("--version=1", "option '--version' doesn't allow an argument"),
            ("--timeout", "option '--timeout' requires an argument"),
            ("-Z", "invalid option -- 'Z'"),
            ("-T", "option requires an argument -- 'T'"),
        ];
        for (arg, text) in cases {
            assert_eq!(read(&[arg], false).0, [Err(text.to_owned())]);
        }
    }
}
