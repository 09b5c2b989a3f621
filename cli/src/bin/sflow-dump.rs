//! `sflow-dump`: prints the sFlow samples that arrive at a UDP port, one line each.
#![forbid(unsafe_code)]

use cli::sflow_table::{HEAD, lines};
use daemon::options::{self, Arg, Groups, Program, Row};
use daemon::program;
use sflow::Datagram;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const NAME: &str = "sflow-dump";

#[derive(Clone, Copy)]
enum Opt {
    Count,
    Timeout,
}

static PROGRAM: Program<Opt> = Program {
    name: NAME,
    options: &[
        Row::new("count", Some('n'), Arg::Required, Opt::Count),
        Row::new("timeout", Some('t'), Arg::Required, Opt::Timeout),
    ],
    groups: Groups::TOOL,
    stop_at_argument: false,
    manual: include_str!("../../../docs/man/source/sflow-dump.1.txt"),
};

fn number(name: &str, text: Option<&str>) -> u64 {
    let text = text.unwrap_or_default();
    text.parse().unwrap_or_else(|_| options::fatal(NAME, &format!("value {text} of {name} is no number")))
}

/// Where to listen: a port of every address (IPv6 and IPv4), or an address and port.
fn bind(arg: Option<&str>) -> Result<UdpSocket, String> {
    let text = arg.map_or_else(|| sflow::COLLECTOR_PORT.to_string(), str::to_owned);
    let bound = match text.parse::<u16>() {
        Ok(port) => UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port))),
        Err(_) => {
            let address: SocketAddr =
                text.parse().map_err(|_| format!("{text}: neither port nor address:port"))?;
            UdpSocket::bind(address)
        }
    };
    bound.map_err(|error| format!("{text}: {}", daemon::error_text(&error)))
}

/// Prints samples until there were `count`, or `deadline` has passed. Returns how many there were.
fn dump(socket: &UdpSocket, count: u64, deadline: Option<Instant>) -> std::io::Result<u64> {
    let mut out = std::io::stdout();
    writeln!(out, "{HEAD}")?;
    let mut buffer = vec![0; 65536];
    let mut seen = 0;
    while seen < count {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            break;
        }
        socket.set_read_timeout(left)?;
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match Datagram::decode(&buffer[..len]) {
            Ok(datagram) => {
                for line in lines(&datagram).iter().take((count - seen) as usize) {
                    writeln!(out, "{line}")?;
                    seen += 1;
                }
                out.flush()?;
            }
            Err(error) => eprintln!("{NAME}: {from}: {error}"),
        }
    }
    Ok(seen)
}

fn main() -> ExitCode {
    let started = program::read(&PROGRAM);
    let (mut count, mut deadline) = (u64::MAX, None);
    for (option, value) in &started.own {
        let value = value.as_deref();
        match option {
            Opt::Count => count = number("--count", value),
            Opt::Timeout => {
                deadline =
                    Some(Instant::now() + Duration::from_secs(number("--timeout", value).min(1 << 30)));
            }
        }
    }
    if started.args.len() > 1 {
        options::fatal(NAME, "at most one argument: where to listen");
    }
    let arg = started.args.first().map(String::as_str);
    let result =
        bind(arg).and_then(|socket| dump(&socket, count, deadline).map_err(|error| error.to_string()));
    match result {
        Ok(seen) if count == u64::MAX || seen >= count => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => options::fatal(NAME, &error),
    }
}
