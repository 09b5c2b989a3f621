//! `ovs-appctl`: finds a daemon's control socket by its pidfile, runs one command there and shows what it answers.

use daemon::dirs::Dirs;
use daemon::options::{Arg, Groups, Program, Row, fatal};
use daemon::unixctl::{Client, ClientError};
use daemon::{error_text, pidfile, program};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const NAME: &str = "ovs-appctl";

#[derive(Clone, Copy)]
enum Opt {
    Target,
    Execute,
    Timeout,
    Format,
    Pretty,
}

const PROGRAM: Program<Opt> = Program {
    name: NAME,
    options: &[
        Row::new("target", Some('t'), Arg::Required, Opt::Target),
        Row::new("execute", Some('e'), Arg::No, Opt::Execute),
        Row::new("format", Some('f'), Arg::Required, Opt::Format),
        Row::new("pretty", None, Arg::No, Opt::Pretty),
        Row::new("timeout", Some('T'), Arg::Required, Opt::Timeout),
    ],
    groups: Groups::TOOL,
    stop_at_argument: true,
    manual: include_str!("../../docs/man/source/ovs-appctl.8.txt"),
};

#[derive(Default)]
struct Wanted {
    target: Option<String>,
    json: bool,
    pretty: bool,
}

/// The program.
pub fn main() -> ExitCode {
    let started = program::read(&PROGRAM);
    let mut wanted = Wanted::default();
    let mut timeout =
        std::env::var("OVS_CTL_TIMEOUT").ok().and_then(|t| t.parse().ok()).filter(|&t: &u64| t > 0);
    for (id, value) in started.own {
        let value = value.unwrap_or_default();
        match id {
            Opt::Target => {
                if wanted.target.replace(value).is_some() {
                    fatal(NAME, "-t or --target may be specified only once");
                }
            }
            // What every command is; accepted from the days when there were other modes.
            Opt::Execute => {}
            Opt::Timeout => match value.parse() {
                Ok(secs) if secs > 0 => timeout = Some(secs),
                _ => fatal(NAME, &format!("value {value} on -T or --timeout is invalid")),
            },
            Opt::Format => match value.to_ascii_lowercase().as_str() {
                "json" => wanted.json = true,
                "text" => wanted.json = false,
                _ => fatal(NAME, &format!("value {value} on -f or --format is invalid")),
            },
            Opt::Pretty => wanted.pretty = true,
        }
    }
    if wanted.pretty && !wanted.json {
        fatal(NAME, "--pretty is supported with --format json only");
    }
    let Some((command, args)) = started.args.split_first() else {
        fatal(NAME, "at least one non-option argument is required (use --help for help)");
    };
    if let Some(secs) = timeout {
        std::thread::spawn(move || give_up_after(secs));
    }
    run(&wanted, &started.dirs, command, args)
}

fn give_up_after(secs: u64) {
    std::thread::sleep(Duration::from_secs(secs));
    tracing_alarm();
    daemon::process::die_by(14);
}

fn tracing_alarm() {
    daemon::vlog::log(
        "fatal_signal",
        daemon::vlog::Level::Warn,
        &format!("terminating with signal 14 ({})", daemon::process::signal_text(14)),
    );
}

fn connect(target: &str, dirs: &Dirs) -> Client {
    let path = if target.starts_with('/') {
        PathBuf::from(target)
    } else {
        let file = dirs.in_run(format!("{target}.pid"));
        let pid = pidfile::read(&file).unwrap_or_else(|error| {
            let text = format!("{}: open: {error}", file.display());
            daemon::vlog::log("daemon_unix", daemon::vlog::Level::Warn, &text);
            fatal(NAME, &format!("cannot read pidfile \"{}\" ({error})", file.display()))
        });
        dirs.in_run(format!("{target}.{pid}.ctl"))
    };
    Client::connect(&path).unwrap_or_else(|error| {
        let text = format!("failed to connect to {}", path.display());
        daemon::vlog::log("unixctl", daemon::vlog::Level::Warn, &text);
        fatal(NAME, &format!("cannot connect to \"{}\" ({})", path.display(), error_text(&error)))
    })
}

fn run(wanted: &Wanted, dirs: &Dirs, command: &str, args: &[String]) -> ExitCode {
    let target = wanted.target.as_deref().unwrap_or("ovs-vswitchd");
    let mut client = connect(target, dirs);
    let broken = |error: ClientError| -> ! { fatal(NAME, &format!("{target}: transaction error ({error})")) };
    let refused = |error: Value| {
        eprint!("{}", with_newline(plain(&error)));
        eprintln!("{NAME}: {target}: server returned an error");
        ExitCode::from(2)
    };
    if wanted.json {
        match client.call("set-options", &["--format", "json"]) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return refused(error),
            Err(error) => broken(error),
        }
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match client.call(command, &args) {
        Ok(Ok(result)) => {
            let text = if wanted.json { json_text(&result, wanted.pretty) } else { plain(&result) };
            print!("{}", with_newline(text));
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => refused(error),
        Err(error) => broken(error),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn with_newline(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn json_text(value: &Value, pretty: bool) -> String {
    let mut text = String::new();
    if pretty {
        write_pretty(&mut text, value, 0)
    } else {
        text = value.to_string()
    }
    text
}

/// JSON in OVS's own spread-out form: members on lines of their own, closing brackets not.
fn write_pretty(out: &mut String, value: &Value, depth: usize) {
    let line = |out: &mut String, first: bool| {
        out.push_str(if first { "\n" } else { ",\n" });
        out.extend(std::iter::repeat_n("  ", depth + 1));
    };
    match value {
        Value::Object(members) => {
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                line(out, i == 0);
                let _ = write!(out, "{}: ", Value::from(name.as_str()));
                write_pretty(out, value, depth + 1);
            }
            out.push('}');
        }
        Value::Array(elements) => {
            out.push('[');
            for (i, value) in elements.iter().enumerate() {
                line(out, i == 0);
                write_pretty(out, value, depth + 1);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pretty_is_ovs_s() {
        let value = json!({"reply": "x", "list": [1, [2]], "none": {}});
        assert_eq!(
            json_text(&value, true),
            "{\n  \"list\": [\n    1,\n    [\n      2]],\n  \"none\": {},\n  \"reply\": \"x\"}"
        );
    }
}
