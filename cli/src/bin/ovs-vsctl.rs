//! `ovs-vsctl`: configures the switch by its database.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    cli::vsctl::program::main()
}
