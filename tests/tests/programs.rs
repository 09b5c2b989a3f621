//! Every program, as a person first meets it.

use std::process::{Command, Stdio};

use tests::kit::Kit;
use tests::sandbox::Sandbox;

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

#[test]
fn the_database_server_tells_what_its_work_costs() {
    let kit = Kit::ours();
    let sandbox = Sandbox::new(&kit);
    sandbox.start_database();
    let command =
        |words: &[&str]| sandbox.run(&kit, "ovs-appctl", &[&["-t", "ovsdb-server"], words].concat());
    assert_eq!(sandbox.run(&kit, "ovsdb-client", &["list-dbs"]).status, Some(0));
    let shown = command(&["ovsdb-server/perf-counters-show"]).stdout;
    let parts: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(
        parts.iter().any(|part| part[0] == "network" && part[1].parse::<u64>().is_ok_and(|n| n > 0)),
        "{shown}"
    );
    assert!(parts.iter().all(|part| part.len() == 4), "{shown}");
    assert_eq!(command(&["ovsdb-server/perf-counters-clear"]).text(), "");
    let shown = command(&["ovsdb-server/perf-counters-show"]).stdout;
    assert!(!shown.contains("network"), "{shown}");
    for word in ["on", "off"] {
        assert_eq!(command(&["ovsdb-server/memory-trim-on-compaction", word]).text(), "");
        assert_eq!(command(&["ovsdb-server/compact"]).text(), "");
    }
    let refused = command(&["ovsdb-server/memory-trim-on-compaction", "perhaps"]);
    assert_eq!(refused.stderr, "invalid argument\novs-appctl: ovsdb-server: server returned an error\n");
    let log = std::fs::read_to_string(sandbox.file("ovsdb-server.log")).expect("the server logs");
    assert!(log.contains("memory trimming after compaction enabled."), "{log}");
}

#[test]
fn of_several_servers_one_that_is_there_is_found() {
    let kit = Kit::ours();
    let sandbox = Sandbox::new(&kit);
    sandbox.start_database();
    for option in ["--no-shuffle-remotes", "--shuffle-remotes", "--no-leader-only"] {
        let args = [
            option,
            "--db=unix:nothing.sock,unix:db.sock",
            "--no-wait",
            "get",
            "Open_vSwitch",
            ".",
            "bridges",
        ];
        assert_eq!(sandbox.run(&kit, "ovs-vsctl", &args).text(), "[]\n", "{option}");
    }
    let dump = ["list-tables", "unix:nothing.sock,unix:db.sock", "Open_vSwitch"];
    assert_eq!(sandbox.run(&kit, "ovsdb-client", &dump).status, Some(0));
}
