//! What the fuzzer begins with and what it once found, through the same functions: `scripts/fuzz` finds, this keeps.

use std::collections::BTreeMap;
use std::path::Path;

use tests::fuzz::{Target, targets};

/// Inputs that once did harm, one a file, in a folder a target.
fn crashers(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/crashers").join(target.name);
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    files
        .map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
        })
        .collect()
}

#[test]
fn crashers_do_no_harm_any_more() {
    let mut harmed = BTreeMap::new();
    for target in targets() {
        for (name, input) in crashers(target) {
            println!("{}/{name}", target.name);
            harmless(target, &input, &mut harmed);
        }
    }
    assert!(harmed.is_empty(), "{harmed:#?}");
}

#[test]
fn crashers_belong_to_targets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/crashers");
    for file in std::fs::read_dir(folder).into_iter().flatten() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(targets().any(|target| target.name == name), "no target of the name {name}");
    }
}

#[test]
fn seeds_do_no_harm_whole_cut_and_changed() {
    let mut harmed = BTreeMap::new();
    for target in targets() {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            harmless(target, &seed, &mut harmed);
            let step = seed.len() / 8 + 1;
            for at in (0..seed.len()).step_by(step) {
                harmless(target, &seed[..at], &mut harmed);
                let mut changed = seed.clone();
                changed[at] ^= 0x11;
                harmless(target, &changed, &mut harmed);
            }
        }
    }
    assert!(harmed.is_empty(), "{harmed:#?}");
}

/// Runs a target, and remembers an input that did harm, the first of each target.
fn harmless(target: &Target, input: &[u8], harmed: &mut BTreeMap<&'static str, String>) {
    if harmed.contains_key(target.name) {
        return;
    }
    if std::panic::catch_unwind(|| (target.run)(input)).is_err() {
        harmed.insert(target.name, format!("b\"{}\"", input.escape_ascii()));
    }
}
