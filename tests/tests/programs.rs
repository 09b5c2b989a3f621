//! Every program, as a person first meets it.

use std::process::{Command, Stdio};

use tests::kit::Kit;

const PROGRAMS: &[&str] = &[
    "ovs-vswitchd",
    "ovsdb-server",
    "ovs-vsctl",
    "ovs-ofctl",
    "ovs-appctl",
    "ovs-dpctl",
    "ovsdb-client",
    "ovsdb-tool",
];

fn first_line(kit: &Kit, program: &str, option: &str) -> String {
    let out = kit.command(program).arg(option).output().expect("the program can be started");
    assert!(out.status.success(), "{program} {option}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn versions_begin_as_scripts_expect() {
    let ours = Kit::ours();
    for program in PROGRAMS {
        assert_eq!(first_line(&ours, program, "--version"), format!("{program} (Open vSwitch) 3.7.1"));
        assert_eq!(first_line(&ours, program, "-V"), format!("{program} (Open vSwitch) 3.7.1"));
    }
}

#[test]
fn help_begins_as_the_peers() {
    let (ours, peer) = (Kit::ours(), Kit::peer());
    for program in PROGRAMS {
        assert_eq!(first_line(&ours, program, "--help"), first_line(&peer, program, "--help"), "{program}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_program_quietly() {
    let ours = Kit::ours();
    for program in PROGRAMS {
        let mut child = ours
            .command(program)
            .arg("--help")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        drop(child.stdout.take());
        let out = child.wait_with_output().expect("the program ends");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{program}");
    }
}

#[test]
fn an_unknown_option_is_named() {
    let ours = Kit::ours();
    for program in PROGRAMS {
        let path = ours.path(program);
        let out = Command::new(&path).arg("--no-such-option").output().expect("the program can be started");
        assert_eq!(out.status.code(), Some(1), "{program}");
        let expected = format!("{}: unrecognized option '--no-such-option'\n", path.display());
        assert_eq!(String::from_utf8_lossy(&out.stderr), expected, "{program}");
    }
}
