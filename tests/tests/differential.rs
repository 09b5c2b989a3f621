//! One scenario, two switches: ours and the peer's must leave the same transcript — traces, dumps, datapath flows with
//! their masks, and every frame that left a port.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use tests::compare::Known;
use tests::kit::Kit;
use tests::scenario::Scenario;

fn check(group: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(group);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenario in {group}");
    let wanted = std::env::var("TURNOUT_SCENARIO").ok();
    let (peer, ours) = (Kit::peer(), Kit::ours());
    let known = Known::of(group);
    let failures = Mutex::new(Vec::new());
    let rest = Mutex::new(files.into_iter());
    let next = || rest.lock().expect("no holder panics").next();
    // Scenarios mostly wait for daemons to start and end, so several are played at a time.
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(file) = next() {
                    let scenario = Scenario::read(&file);
                    if wanted.as_ref().is_none_or(|name| *name == scenario.name) {
                        let found = difference(&scenario, &peer, &ours, &known);
                        failures.lock().expect("no holder panics").extend(found);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no holder panics");
    assert!(failures.is_empty(), "{} scenarios differ\n{}", failures.len(), failures.concat());
    assert!(wanted.is_some() || known.unused().is_empty(), "{}", known.unused());
}

/// Scenarios of one group played at the same time.
const AT_A_TIME: usize = 3;

/// How the two switches' transcripts differ, if they do.
fn difference(scenario: &Scenario, peer: &Kit, ours: &Kit, known: &Known) -> Option<String> {
    let (theirs, mine) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| scenario.play(peer, peer));
        let mine = scenario.play(peer, ours);
        (theirs.join().expect("the peer plays the scenario"), mine)
    });
    Some(known.differences(&scenario.name, &theirs, &mine)).filter(|text| !text.is_empty())
}

macro_rules! groups {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name).trim_end_matches('_'));
        })*

        #[test]
        fn every_folder_is_a_group() {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
            for entry in fs::read_dir(dir).expect("the folder is part of the checkout") {
                let name = entry.expect("the folder can be listed").file_name();
                let known = [$(stringify!($name).trim_end_matches('_')),*];
                assert!(known.contains(&name.to_string_lossy().as_ref()), "{name:?} is not run");
            }
        }
    };
}

groups! { ct frag groups_ l2 malformed match_ mpls output pipeline ports set stats table ttl vlan }

#[test]
#[ignore = "prints the peer's transcript of the scenario file that TURNOUT_FILE names"]
fn transcript_of_the_peer() {
    let file = std::env::var("TURNOUT_FILE").expect("TURNOUT_FILE names a scenario file");
    for step in Scenario::read(Path::new(&file)).play(&Kit::peer(), &Kit::peer()) {
        println!("$ {}\n{}", step.command, step.output);
    }
}
