//! `ovs-dpctl`: the datapath commands without a switch, on the kernel's datapaths. Commands on text (`parse-actions`,
//! `normalize-actions`) need none.
#![forbid(unsafe_code)]

use daemon::clock::SystemClock;
use daemon::manual;
use daemon::options::{self, Arg, Groups, Program, Row};
use daemon::program;
use datapath::dpctl::kernel::KernelDatapaths;
use datapath::dpctl::{self, Options};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "ovs-dpctl";

#[derive(Clone, Copy)]
enum Opt {
    Statistics,
    Clear,
    MayCreate,
    ReadOnly,
    More,
    Names,
    NoNames,
    Timeout,
}

static PROGRAM: Program<Opt> = Program {
    name: NAME,
    options: &[
        Row::new("statistics", Some('s'), Arg::No, Opt::Statistics),
        Row::new("clear", None, Arg::No, Opt::Clear),
        Row::new("may-create", None, Arg::No, Opt::MayCreate),
        Row::new("read-only", None, Arg::No, Opt::ReadOnly),
        Row::new("more", Some('m'), Arg::No, Opt::More),
        Row::new("names", None, Arg::No, Opt::Names),
        Row::new("no-names", None, Arg::No, Opt::NoNames),
        Row::new("timeout", Some('t'), Arg::Required, Opt::Timeout),
    ],
    groups: Groups::TOOL,
    stop_at_argument: false,
    manual: include_str!("../../../docs/man/source/ovs-dpctl.8.txt"),
};

/// Ends the process when the time is up, as the alarm's signal would.
fn give_up_after(text: Option<&str>) {
    let text = text.unwrap_or_default();
    match text.parse().ok().filter(|&secs: &u64| secs > 0) {
        Some(secs) => drop(std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(secs));
            std::process::exit(142);
        })),
        None => options::fatal(NAME, &format!("value {text} on -t or --timeout is invalid")),
    }
}

fn main() -> ExitCode {
    let started = program::read(&PROGRAM);
    let mut options = Options { program: NAME.to_owned(), ..Options::default() };
    for (option, value) in &started.own {
        match option {
            Opt::Statistics => options.statistics = true,
            Opt::Clear => options.zero_statistics = true,
            Opt::MayCreate => options.may_create = true,
            Opt::ReadOnly => options.read_only = true,
            Opt::More => options.verbosity += 1,
            Opt::Names => options.names = Some(true),
            Opt::NoNames => options.names = Some(false),
            Opt::Timeout => give_up_after(value.as_deref()),
        }
    }
    if started.args.first().is_some_and(|command| command == "help") {
        print!("{}", manual::help(PROGRAM.manual, &started.dirs));
        return ExitCode::SUCCESS;
    }
    let args: Vec<&str> = started.args.iter().map(String::as_str).collect();
    let (pieces, done) = dpctl::run(&KernelDatapaths::new(Arc::new(SystemClock::new())), options, &args);
    for piece in pieces {
        // A closed pipe is nothing to complain of.
        let _ = if piece.error {
            std::io::stderr().write_all(piece.text.as_bytes())
        } else {
            std::io::stdout().write_all(piece.text.as_bytes())
        };
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
