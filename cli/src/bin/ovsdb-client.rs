//! `ovsdb-client`: asks a database server one thing.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    cli::dbclient::program::main()
}
