//! A table of commands and the parser of command lines.
//!
//! A command line is one or more commands separated by `--`, each with its own options before its name.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::output::Table;
use ovsdb::symbols::Symbols;

use super::db::Db;
use super::names::Naming;

/// Why a command line ends early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Print the text after the program's name and exit with status 1.
    Fatal(String),
    /// Exit with this status, saying nothing.
    Exit(i32),
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Fatal(text)
    }
}

/// Ends a command with a formatted message.
#[macro_export]
macro_rules! fatal {
    ($($arg:tt)*) => { return Err($crate::ctl::syntax::Stop::Fatal(format!($($arg)*))) };
}

/// The columns that commands need, by table.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    pub tables: BTreeMap<String, BTreeSet<String>>,
}

impl Needs {
    /// Asks for the rows of `table`, no column.
    pub fn table(&mut self, table: &str) -> &mut BTreeSet<String> {
        self.tables.entry(table.to_owned()).or_default()
    }

    /// Asks for `columns` of `table`.
    pub fn columns(&mut self, table: &str, columns: &[&str]) {
        self.table(table).extend(columns.iter().map(ToString::to_string));
    }
}

/// What a command works on and puts its output in.
pub struct Context<'a> {
    pub db: &'a mut Db,
    pub naming: &'a Naming,
    pub symbols: &'a mut Symbols,
    /// The command's arguments, without its name.
    pub args: &'a [String],
    pub options: &'a Options,
    pub output: String,
    pub table: Option<Table>,
    /// The command waits for something: run everything again when the database has changed.
    pub try_again: bool,
    /// Warnings for the log, under the program's module.
    pub warnings: Vec<String>,
    /// Warnings for the log, under the module of the database commands.
    pub notes: Vec<String>,
}

impl Context<'_> {
    /// Whether option `name` (with its dashes) was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// The argument of option `name`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name)?.as_deref()
    }

    /// Adds a line to the output.
    pub fn line(&mut self, text: &str) {
        self.output.push_str(text);
        self.output.push('\n');
    }
}

/// Options of one command: name with dashes, argument if any.
pub type Options = BTreeMap<String, Option<String>>;

/// Does a command's work.
pub type Run = fn(&mut Context<'_>) -> Result<(), Stop>;
/// Names the columns that a command will use.
pub type Prepare = fn(&Naming, &[String], &Options, &mut Needs) -> Result<(), String>;

/// One command.
pub struct Syntax {
    pub name: &'static str,
    pub min: usize,
    pub max: usize,
    /// The arguments as the shell completion wants them described.
    pub arguments: &'static str,
    /// Names of options, comma separated; `=` after one that takes an argument, `?` after one that may.
    pub options: &'static str,
    pub writes: bool,
    pub prepare: Prepare,
    pub run: Run,
}

/// A parsed command.
pub struct Command {
    pub syntax: &'static Syntax,
    pub options: Options,
    pub args: Vec<String>,
}

/// Splits `words` at `--` and parses each part; `first` are the first command's options that stood among the program's.
pub fn parse(
    commands: &'static [&'static [Syntax]],
    words: &[String],
    mut first: Options,
) -> Result<Vec<Command>, String> {
    let mut parsed = Vec::new();
    for part in words.split(|word| word == "--") {
        if part.is_empty() {
            if !first.is_empty() {
                return Err(NO_COMMAND.to_owned());
            }
            continue;
        }
        parsed.push(command(commands, part, std::mem::take(&mut first))?);
    }
    if parsed.is_empty() { Err(NO_COMMAND.to_owned()) } else { Ok(parsed) }
}

const NO_COMMAND: &str = "missing command name (use --help for help)";

fn command(
    commands: &'static [&'static [Syntax]],
    words: &[String],
    mut options: Options,
) -> Result<Command, String> {
    let n_options = words.iter().take_while(|word| word.starts_with('-')).count();
    for option in &words[..n_options] {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (option.as_str(), None),
        };
        if options.insert(key.to_owned(), value).is_some() {
            return Err(format!("'{option}' option specified multiple times"));
        }
    }
    let Some((name, args)) = words[n_options..].split_first() else { return Err(NO_COMMAND.to_owned()) };
    let Some(syntax) = commands.iter().copied().flatten().find(|syntax| syntax.name == name) else {
        return Err(format!("unknown command '{name}'; use --help for help"));
    };
    options.iter().try_for_each(|(option, value)| check_option(syntax, option, value.as_deref()))?;
    check_count(syntax, args)?;
    Ok(Command { syntax, options, args: args.to_vec() })
}

fn check_option(syntax: &Syntax, option: &str, value: Option<&str>) -> Result<(), String> {
    let name = syntax.name;
    let known = syntax.options.split(',').find(|row| row.trim_end_matches(['=', '?']) == option);
    match (known, value) {
        (None, _) => Err(format!("'{name}' command has no '{option}' option")),
        (Some(row), None) if row.ends_with('=') => {
            Err(format!("missing argument to '{option}' option on '{name}' command"))
        }
        (Some(row), Some(_)) if !row.ends_with(['=', '?']) => {
            Err(format!("'{option}' option on '{name}' does not accept an argument"))
        }
        (Some(_), _) => Ok(()),
    }
}

fn check_count(syntax: &Syntax, args: &[String]) -> Result<(), String> {
    let Syntax { name, min, max, .. } = syntax;
    if args.len() < *min {
        return Err(format!("'{name}' command requires at least {min} arguments"));
    }
    if args.len() <= *max {
        return Ok(());
    }
    let hint = if args.iter().any(|arg| arg.starts_with('-')) {
        " (note that options must precede command names and follow a \"--\" argument)"
    } else {
        ""
    };
    Err(format!("'{name}' command takes at most {max} arguments{hint}"))
}

/// The options of all commands: name without dashes, and the mark (`=`, `?` or nothing).
pub fn all_options(commands: &'static [&'static [Syntax]]) -> BTreeMap<&'static str, &'static str> {
    let rows = commands.iter().copied().flatten().flat_map(|syntax| syntax.options.split(','));
    rows.filter(|row| !row.is_empty())
        .map(|row| {
            let name = row.trim_end_matches(['=', '?']);
            (name.trim_start_matches('-'), &row[name.len()..])
        })
        .collect()
}

/// What `--commands` prints: a line for each command, sorted by name.
pub fn listing(commands: &'static [&'static [Syntax]]) -> String {
    let mut all: Vec<&Syntax> = commands.iter().copied().flatten().collect();
    all.sort_by_key(|syntax| syntax.name);
    let mut out = String::new();
    for syntax in all {
        for option in syntax.options.split(',').filter(|option| !option.is_empty()) {
            out.push_str(&format!("[{option}] "));
        }
        out.push_str(&format!(",{},{}\n", syntax.name, completion(syntax.arguments)));
    }
    out
}

/// Marks each argument for the shell completion: `!` required, `?` optional, `+` one or more, `*` any number; an
/// optional part inside a word keeps its `?` in place.
fn completion(arguments: &str) -> String {
    let marked = arguments.split(' ').filter(|word| !word.is_empty()).map(|word| {
        let repeated = word.ends_with("...");
        let word = word.trim_end_matches('.');
        let whole = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let optional = whole.is_some_and(balanced);
        let mark = match (optional, repeated) {
            (false, false) => '!',
            (false, true) => '+',
            (true, false) => '?',
            (true, true) => '*',
        };
        let body = if optional { whole.unwrap_or(word) } else { word };
        format!("{mark}{}", body.replace('[', "?").replace(']', ""))
    });
    marked.collect::<Vec<_>>().join(" ")
}

fn balanced(text: &str) -> bool {
    let mut depth = 0i32;
    text.chars().all(|c| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        depth >= 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROWS: &[Syntax] = &[Syntax {
        name: "get",
        min: 1,
        max: 2,
        arguments: "TABLE [COLUMN[:KEY]]...",
        options: "--if-exists,--id=",
        writes: false,
        prepare: |_, _, _, _| Ok(()),
        run: |_| Ok(()),
    }];
    static ALL: &[&[Syntax]] = &[ROWS];

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn error(line: &str) -> String {
        parse(ALL, &words(line), Options::new()).err().unwrap_or_default()
    }

    #[test]
    fn commands_are_split_and_checked() {
        let parsed = parse(ALL, &words("get a -- --id=@x get b c"), Options::new()).expect("two commands");
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[1].options, Options::from([("--id".to_owned(), Some("@x".to_owned()))]));
        assert_eq!(error(""), "missing command name (use --help for help)");
        assert_eq!(error("put"), "unknown command 'put'; use --help for help");
        assert_eq!(error("get"), "'get' command requires at least 1 arguments");
        assert_eq!(error("get a b c"), "'get' command takes at most 2 arguments");
        assert_eq!(error("--nope get a"), "'get' command has no '--nope' option");
        assert_eq!(error("--id get a"), "missing argument to '--id' option on 'get' command");
        assert_eq!(error("--if-exists=1 get a"), "'--if-exists' option on 'get' does not accept an argument");
        assert_eq!(error("--id=1 --id=2 get a"), "'--id=2' option specified multiple times");
    }

    #[test]
    fn arguments_are_marked_for_completion() {
        assert_eq!(listing(ALL), "[--if-exists] [--id=] ,get,!TABLE *COLUMN?:KEY\n");
    }
}
