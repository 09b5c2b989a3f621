//! What the shell offers at a press of the tabulator key, asked as the scripts let themselves be asked.

use std::path::Path;
use std::process::Command;

use tests::kit::Kit;
use tests::sandbox::Sandbox;

/// The script for `program`, run on `args` in a sandbox: what it prints, and its status.
fn ask(sandbox: &Sandbox, program: &str, args: &[&str]) -> (String, Option<i32>) {
    let kit = Kit::ours();
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scripts/completion/{program}-bashcomp.bash"));
    let programs = kit.dirs().iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.arg(script).args(args).current_dir(sandbox.dir()).env("PATH", path).env("LC_ALL", "C");
    command.env("OVS_RUNDIR", sandbox.dir());
    let ran = sandbox.finish(command);
    assert_eq!(ran.stderr, "", "{program} {args:?}");
    (ran.stdout, ran.status)
}

/// What is offered for the words of a command of `ovs-appctl` and its like.
fn offers(sandbox: &Sandbox, words: &[&str]) -> String {
    let (text, _) = ask(sandbox, "ovs-appctl", &[&["debug"], words].concat());
    text.split_once("Available completions:\n\n")
        .map_or_else(String::new, |(_, offers)| offers.replace('\n', " "))
}

/// What is offered for a line of `ovs-vsctl`; a blank is shown as `_`.
fn vsctl(sandbox: &Sandbox, line: &str) -> String {
    let (text, status) = ask(sandbox, "ovs-vsctl", &["test", line]);
    assert_eq!(status, Some(0), "{line}: {text}");
    text.trim_end_matches('\n').replace(' ', "_").replace('\n', " ")
}

fn switch(kit: &Kit) -> Sandbox {
    let sandbox = Sandbox::dummy(kit);
    let words = "add-br br0 -- set Bridge br0 datapath_type=dummy -- add-br other -- set Bridge other datapath_type=dummy \
                 -- add-port br0 p0 -- set Interface p0 type=dummy -- add-port other p1 -- set Interface p1 type=dummy \
                 -- set Bridge br0 other_config:one=1 other_config:two=2";
    let args: Vec<&str> = words.split_whitespace().collect();
    let ran = sandbox.run(kit, "ovs-vsctl", &args);
    assert_eq!(ran.status, Some(0), "{}", ran.text());
    sandbox
}

#[test]
fn usages_are_walked() {
    let kit = Kit::ours();
    let sandbox = switch(&kit);
    let cases: [(&[&str], &str); 12] = [
        (&["ovs-appctl", "--tar"], "--target "),
        (&["ovs-appctl", "--target", "ovs-v"], "ovs-vswitchd "),
        (&["ovs-appctl", "fdb/sh"], "fdb/show "),
        (&["ovs-appctl", "fdb/show", "TAB"], "br0 other "),
        (&["ovs-appctl", "fdb/show", "br0", "TAB"], ""),
        (&["ovs-appctl", "ofproto/trace", "TAB"], "br0 other ovs-dummy "),
        (&["ovs-appctl", "ofproto/trace", "ovs-dummy", "TAB"], ""),
        (&["ovs-appctl", "ofproto/trace", "br0", "in_port=1", "TAB"], "-generate "),
        (&["ovs-appctl", "-t", "ovsdb-server", "ovsdb-server/list-r"], "ovsdb-server/list-remotes "),
        (&["ovs-ofctl", "dump-flows", "TAB"], "br0 other "),
        (&["ovsdb-tool", "db-is"], "db-is-clustered db-is-standalone "),
        (&["ovsdb-client", "needs"], "needs-conversion "),
    ];
    for (words, expected) in cases {
        assert_eq!(offers(&sandbox, words), expected, "{words:?}");
    }
}

#[test]
fn arguments_are_those_of_the_database() {
    let kit = Kit::ours();
    let sandbox = switch(&kit);
    let cases = [
        ("set Op", "Open_vSwitch_"),
        ("br-to-vlan ", "br0_ other_"),
        ("del-port br0 ", "p0_"),
        ("iface-to-br ", "p0_ p1_"),
        ("set-fail-mode br0 ", "secure_ standalone_"),
        ("set Bridge br0 other", "other_config:"),
        ("set Bridge br0 other_config:", "one two"),
        ("add Bridge br0 other_config t", "two="),
        ("set-manager p", "pssl: ptcp: punix:"),
        ("--may-exist add-b", "add-bond_ add-bond-iface_ add-br_"),
        ("add-port br0 new -- set Port n", "new_"),
        ("invalid", ""),
        ("invalid argument", ""),
    ];
    for (line, expected) in cases {
        assert_eq!(vsctl(&sandbox, line), expected, "{line}");
    }
    let (text, status) = ask(&sandbox, "ovs-vsctl", &["test", "set NOTHING "]);
    assert_eq!(status, Some(1));
    let message =
        "--- BEGIN MESSAGE\nCannot complete 'NOTHING' at index 3:\n> ovs-vsctl set NOTHING --- END MESSAGE";
    assert_eq!(text, message);
}

#[test]
fn without_daemons_nothing_is_complained_of() {
    let kit = Kit::ours();
    let sandbox = Sandbox::new(&kit);
    assert_eq!(ask(&sandbox, "ovs-vsctl", &["test", ""]), (String::new(), Some(1)));
    assert_eq!(offers(&sandbox, &["ovs-appctl", "--pre"]), "--pretty ");
    assert_eq!(offers(&sandbox, &["ovs-appctl", "fdb/show", "TAB"]), "");
}
