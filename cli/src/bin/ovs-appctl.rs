//! `ovs-appctl`: runs a command of a daemon.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::appctl::main()
}
