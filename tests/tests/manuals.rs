//! The manual pages say what the programs do: every option and every command, and nothing that is not there.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use daemon::manual::Manual;
use tests::kit::Kit;
use tests::manuals::{folder, pages, sources};
use tests::sandbox::{Sandbox, wait_until};

#[test]
fn pages_are_those_of_the_sources() {
    for (name, text) in pages() {
        let path = folder().join(&name);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{name} is old: cargo run -p tests --bin man-pages");
    }
}

#[test]
fn roff_has_no_complaint() {
    for (name, text) in pages() {
        let mut groff = Command::new("groff")
            .args(["-man", "-ww", "-z", "-Tutf8"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("groff is installed (groff-base)");
        groff.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("groff reads all");
        let out = groff.wait_with_output().expect("groff ends");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{name}");
    }
}

/// The words of usages that are options.
fn options(manual: &Manual) -> BTreeSet<String> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = manual.usages().flat_map(|usage| usage.split(|c: char| !letters(c)));
    words.filter(|word| word.len() > 3 && word.starts_with("--")).map(str::to_owned).collect()
}

/// The words of usages, of commands and what stands with them.
fn words(manual: &Manual) -> BTreeSet<String> {
    manual.usages().flat_map(|usage| usage.split([' ', ','])).map(str::to_owned).collect()
}

fn output(command: &mut Command) -> String {
    let out = command.output().expect("the program can be started");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn every_option_is_told() {
    let kit = Kit::ours();
    for manual in sources() {
        let text = output(kit.command(&manual.name).arg("--option"));
        let taken: BTreeSet<String> =
            text.lines().map(|line| line.trim_end_matches('=').to_owned()).collect();
        let told = options(&manual);
        let missing: Vec<&String> = taken.difference(&told).collect();
        assert!(missing.is_empty(), "{}: not in the page: {missing:?}", manual.name);
        // Options of commands are told too, but those that begin a line must be the program's.
        let own = manual.usages().filter(|usage| usage.starts_with('-'));
        let own =
            own.flat_map(|usage| usage.split([' ', ',', '=', '['])).filter(|word| word.starts_with("--"));
        let gone: Vec<&str> = own.filter(|word| !taken.contains(*word)).collect();
        assert!(gone.is_empty(), "{}: not taken: {gone:?}", manual.name);
    }
}

/// The names of a list of commands with a head.
fn names(list: &str) -> Vec<&str> {
    list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect()
}

fn check(manual: &Manual, names: &[&str]) {
    let told = words(manual);
    let missing: Vec<&&str> = names.iter().filter(|name| !told.contains(**name)).collect();
    assert!(missing.is_empty(), "{}: not in the page: {missing:?}", manual.name);
    assert!(!names.is_empty(), "{}", manual.name);
}

fn manual(name: &str) -> Manual {
    sources().into_iter().find(|manual| manual.name == name).expect("its source is there")
}

#[test]
fn every_command_of_a_tool_is_told() {
    let kit = Kit::ours();
    for name in ["ovs-ofctl", "ovs-dpctl", "ovsdb-tool"] {
        check(&manual(name), &names(&output(kit.command(name).arg("list-commands"))));
    }
    for name in ["ovs-vsctl", "vtep-ctl"] {
        let list = match name {
            "ovs-vsctl" => cli::ctl::syntax::listing(cli::vsctl::program::COMMANDS),
            _ => cli::ctl::syntax::listing(cli::vtep::program::COMMANDS),
        };
        let names: Vec<&str> = list.lines().filter_map(|line| line.split(',').nth(1)).collect();
        check(&manual(name), &names);
    }
}

#[test]
fn every_command_of_a_daemon_is_told() {
    let kit = Kit::ours();
    let sandbox = Sandbox::dummy(&kit);
    assert_eq!(
        sandbox
            .run(&kit, "ovs-vsctl", &["add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy"])
            .status,
        Some(0)
    );
    // These keep standard output: a pipe of ours would not end.
    for (program, what) in [("ovs-ofctl", "br0"), ("ovsdb-client", "Bridge")] {
        let mut command =
            sandbox.command(&kit, program, &["monitor", what, "--detach", "--no-chdir", "--pidfile"]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("the program can be started").success(), "{program}");
    }
    for name in ["ovs-vswitchd", "ovsdb-server", "ovs-ofctl", "ovsdb-client"] {
        let target = format!("--target={name}");
        let list = sandbox.run(&kit, "ovs-appctl", &[&target, "list-commands"]).stdout;
        check(&manual(name), &names(&list));
        if name == "ovs-ofctl" || name == "ovsdb-client" {
            sandbox.run(&kit, "ovs-appctl", &[&target, "exit"]);
            assert!(wait_until(Duration::from_secs(10), || sandbox.pid(name).is_none()), "{name} ends");
        }
    }
}

#[test]
fn every_table_is_in_the_help() {
    let manual = manual("ovs-vsctl");
    let tables = ovsdb::vswitch::schema();
    let page = format!("{:?}", manual.lines);
    for table in tables.tables.keys() {
        assert!(page.contains(&format!("  {table}:")), "table {table} is not in the help of ovs-vsctl");
    }
}
