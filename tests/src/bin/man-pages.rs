//! Writes the manual pages into `docs/man`, after a change of their sources: `cargo run -p tests --bin man-pages`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    for (name, text) in tests::manuals::pages() {
        let path = tests::manuals::folder().join(name);
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
