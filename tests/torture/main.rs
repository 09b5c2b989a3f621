//! Tortures `ovsdb-server`: what `scripts/torture` runs.
//!
//!     ovsdb-torture [KILLS [TRANSACTIONS]]
#![forbid(unsafe_code)]

use std::process::ExitCode;

use ovsdb::storage::Kind;
use tests::kit::Kit;
use tests::torture::{self, kill, power};

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: i64| match args.next() {
        Some(text) => text.parse::<i64>().map_err(|_| format!("{text}: not a number")),
        None => Ok(default),
    };
    let (kills, transactions) = (number(10_000)?, number(100)?);
    let kit = Kit::ours();
    let root = std::env::temp_dir();
    for kind in [Kind::Journal, Kind::Sqlite] {
        let name = torture::name_of(kind);
        let kills = usize::try_from(kills).map_err(|error| error.to_string())?;
        let tell = |outcome: &kill::Outcome| {
            if outcome.kills.is_multiple_of(500) && outcome.kills < kills {
                println!("{name}: {} kills so far", outcome.kills);
            }
        };
        let kill::Outcome { kills, acknowledged, kept_anyway, unpromised } =
            kill::run(&kit, &root, kind, kills, tell).map_err(|what| format!("{name}: {what}"))?;
        println!(
            "{name}: {kills} kills: {acknowledged} acknowledged commits, none lost; {kept_anyway} kept before they were \
             acknowledged, {unpromised} gone without a trace, none half applied"
        );
        let power::Outcome { recorded, syncs, disks, acknowledged } =
            power::run(&kit, &root, kind, transactions).map_err(|what| format!("{name}: {what}"))?;
        println!(
            "{name}: power cuts: {recorded} calls with {syncs} syncs recorded, {disks} disks made up and opened: of \
             {acknowledged} acknowledged commits none lost, none half applied"
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            println!("FAILED: {what}");
            ExitCode::FAILURE
        }
    }
}
