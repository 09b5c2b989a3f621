//! `vtep-ctl`: configures a VTEP by its database.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    cli::vtep::program::main()
}
