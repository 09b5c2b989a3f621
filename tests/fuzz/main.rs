//! Runs one target of `tests::fuzz` under libFuzzer: the one that `FUZZ_TARGET` names. With `FUZZ_SEEDS`, writes the target's
//! seeds and its dictionary into that folder instead; with `FUZZ_LIST`, names all targets.
#![no_main]

use std::path::Path;
use std::process::exit;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tests::fuzz::{Target, dictionary, named, targets};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn choose() {
    if std::env::var_os("FUZZ_LIST").is_some() {
        targets().for_each(|target| println!("{}\t{}", target.name, target.about));
        exit(0);
    }
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = named(&name) else {
        eprintln!("FUZZ_TARGET={name} is no target");
        exit(2);
    };
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        if let Err(error) = write_seeds(target, Path::new(&folder)) {
            eprintln!("{name}: {error}");
            exit(2);
        }
        exit(0);
    }
    let _ = TARGET.set(target);
}

fn write_seeds(target: &Target, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed)?;
    }
    std::fs::write(folder.with_extension("dict"), dictionary(target))
}

fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
});
