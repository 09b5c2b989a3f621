//! Clients that others wrote, on databases that our `ovsdb-server` serves: python's `ovs` and `ovsdbapp` from PyPI,
//! Debian's `ovsdb-client`, `ovs-vsctl` and OVN. Each session must read as it does on Debian's own server.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::kit::Kit;
use tests::sandbox::{Sandbox, wait_until};

/// Schemas that come with Debian's packages.
const NORTHBOUND: &str = "/usr/share/ovn/ovn-nb.ovsschema";
const SOUTHBOUND: &str = "/usr/share/ovn/ovn-sb.ovsschema";
const VSWITCH: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A server of databases of these schemas on `db.sock`.
fn server(kit: &Kit, schemas: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new(kit);
    let remote = remote(&sandbox).replace("unix:", "--remote=punix:");
    let mut args: Vec<String> =
        ["--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off", &remote]
            .map(str::to_owned)
            .into();
    for (i, schema) in schemas.iter().enumerate() {
        let db = format!("{i}.db");
        let created = sandbox.run(kit, "ovsdb-tool", &["create", &db, schema]);
        assert_eq!(created.status, Some(0), "{}", created.text());
        args.push(db);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = sandbox.run(kit, "ovsdb-server", &args);
    assert_eq!(started.status, Some(0), "{}", started.text());
    sandbox
}

fn remote(sandbox: &Sandbox) -> String {
    format!("unix:{}", sandbox.file("db.sock").display())
}

/// Runs `line`, a program and its arguments, which may be quoted by `'`.
fn run(sandbox: &Sandbox, line: &str) -> String {
    let mut command = Command::new("timeout");
    command.args(["30", "bash", "-c", line]).current_dir(sandbox.dir()).stdin(Stdio::null());
    command.env("OVS_RUNDIR", sandbox.dir()).env("OVN_RUNDIR", sandbox.dir());
    command.env("OVN_NB_DB", remote(sandbox)).env("OVN_SB_DB", remote(sandbox));
    sandbox.finish(command).text()
}

/// `text` with each UUID replaced by its number among them.
fn without_uuids(text: &str) -> String {
    let mut known: Vec<&str> = Vec::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let uuid = rest.get(..36).filter(|word| is_uuid(word));
        let Some(uuid) = uuid else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let number = known.iter().position(|other| *other == uuid).unwrap_or_else(|| {
            known.push(uuid);
            known.len() - 1
        });
        out += &format!("<{number}>");
        rest = &rest[36..];
    }
    out
}

fn is_uuid(word: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    word.bytes().enumerate().all(|(i, b)| if dashes.contains(&i) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// Runs a session of Debian's clients, line by line, on a server of `kit`.
fn session(kit: &Kit, schemas: &[&str], lines: &str) -> String {
    let sandbox = server(kit, schemas);
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let out: String = lines.map(|line| format!("$ {line}\n{}", run(&sandbox, line))).collect();
    without_uuids(&out)
}

const CLIENT: &str = "
    ovsdb-client list-dbs
    ovsdb-client get-schema-version unix:db.sock Open_vSwitch
    ovsdb-client get-schema-cksum
    ovsdb-client list-tables | sort
    ovsdb-client list-columns unix:db.sock Open_vSwitch Bridge | sort
    ovsdb-client get-schema | md5sum
    ovs-vsctl --no-wait init
    ovs-vsctl --no-wait -- add-br br0 -- add-port br0 p0 tag=5 -- set Interface p0 type=internal
    ovs-vsctl --no-wait -- --id=@q create QoS type=linux-htb queues=0=@e -- --id=@e create Queue -- set Port p0 qos=@q
    ovs-vsctl --no-wait add-br br0
    ovs-vsctl show | tail -n +2 | sort
    ovs-vsctl --columns=name,tag,external_ids list Port p0
    ovs-vsctl --format=csv --columns=name,type find Interface type=internal | sort
    ovs-vsctl --no-wait set Bridge br0 other_config:hwaddr=x flood_vlans=5,6 -- remove Bridge br0 flood_vlans 5
    ovs-vsctl get Bridge br0 flood_vlans other_config
    ovs-vsctl --no-wait set Port p0 tag=5000
    ovsdb-client transact '[\"Open_vSwitch\",{\"op\":\"select\",\"table\":\"Bridge\",\"where\":[],\"columns\":[\"name\",\"flood_vlans\"]}]'
    ovsdb-client transact '[\"Open_vSwitch\",{\"op\":\"frob\"}]'
    ovsdb-client query '[\"Open_vSwitch\",{\"op\":\"delete\",\"table\":\"Open_vSwitch\",\"where\":[]}]'
    ovsdb-client dump Port name tag
    ovsdb-client -f csv dump Interface name type
    timeout 1 ovsdb-client monitor Bridge name,flood_vlans 2> /dev/null
    timeout 1 ovsdb-client monitor-cond unix:db.sock Open_vSwitch '[[\"name\",\"==\",\"p0\"]]' Port name 2> /dev/null
    timeout 1 ovsdb-client lock mine 2> /dev/null
    ovsdb-client --timeout=1 wait unix:db.sock Open_vSwitch connected 2> /dev/null
    ovsdb-client needs-conversion unix:db.sock /usr/share/openvswitch/vswitch.ovsschema
    ovsdb-client convert unix:db.sock /usr/share/openvswitch/vswitch.ovsschema
    ovsdb-client backup > backup
    ovs-vsctl --no-wait del-br br0
    ovsdb-client restore < backup
    ovsdb-client dump Port name tag
";

#[test]
fn debians_clients_read_what_they_read_at_home() {
    let ours = session(&Kit::ours(), &[VSWITCH], CLIENT);
    let theirs = session(&Kit::peer(), &[VSWITCH], CLIENT);
    assert_eq!(ours, theirs);
}

/// A program of OVN's that runs until it is dropped.
struct Northd(Child);

impl Northd {
    fn start(sandbox: &Sandbox) -> Self {
        let mut command = Command::new("ovn-northd");
        command.args([format!("--ovnnb-db={}", remote(sandbox)), format!("--ovnsb-db={}", remote(sandbox))]);
        command.args(["-vconsole:off", "--log-file=ovn-northd.log", "--unixctl=ovn-northd.ctl"]);
        command.env("OVN_RUNDIR", sandbox.dir()).env("OVS_RUNDIR", sandbox.dir()).current_dir(sandbox.dir());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ovn-central is installed"))
    }
}

impl Drop for Northd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const OVN: &str = "
    ovn-nbctl ls-add sw0 -- set Logical_Switch sw0 other_config:subnet=10.0.0.0/24
    ovn-nbctl lsp-add sw0 p1 -- lsp-set-addresses p1 '00:00:00:00:00:01 10.0.0.1' -- lsp-set-port-security p1 00:00:00:00:00:01
    ovn-nbctl lsp-add sw0 p2 -- lsp-set-addresses p2 '00:00:00:00:00:02 10.0.0.2'
    ovn-nbctl ls-add sw1 -- lsp-add sw1 p3 -- lsp-set-addresses p3 unknown
    ovn-nbctl lr-add r0 -- lrp-add r0 r0-sw0 00:00:00:00:ff:01 10.0.0.254/24 -- lr-nat-add r0 snat 192.0.2.1 10.0.0.0/24
    ovn-nbctl lsp-add sw0 sw0-r0 -- lsp-set-type sw0-r0 router -- lsp-set-addresses sw0-r0 router -- lsp-set-options sw0-r0 router-port=r0-sw0
    ovn-nbctl acl-add sw0 to-lport 1000 'outport == \"p1\" && ip4' allow-related
    ovn-nbctl lb-add lb0 192.0.2.10:80 10.0.0.1:80,10.0.0.2:80 -- ls-lb-add sw0 lb0
    ovn-nbctl pg-add group p1 p2 -- acl-add group from-lport 5 'inport == @group' drop
    ovn-nbctl --wait=sb sync
    ovn-nbctl show | sed 's/ [0-9a-f-]* (/ (/' | sort
    ovn-nbctl ls-add sw0
    ovn-nbctl list Load_Balancer lb0 | grep -v uuid
    ovn-sbctl chassis-add hv geneve 127.0.0.1
    ovn-sbctl lsp-bind p1 hv
    ovn-nbctl --timeout=10 wait-until Logical_Switch_Port p1 up=true
    ovn-sbctl show
    ovn-sbctl --columns=logical_port,tunnel_key,type list Port_Binding | sort
    ovn-sbctl lflow-list | sed 's/(.*) *Pipeline/Pipeline/' | sort
    ovn-nbctl lsp-del p2 -- ls-del sw1
    ovn-nbctl --wait=sb sync
    ovn-sbctl --columns=logical_port find Port_Binding | sort
    ovsdb-client --no-headings dump unix:db.sock OVN_Southbound Datapath_Binding tunnel_key | sort
";

#[test]
fn ovn_works_on_northbound_and_southbound_databases() {
    let run_all = |kit: &Kit| {
        let sandbox = server(kit, &[NORTHBOUND, SOUTHBOUND]);
        assert_eq!(run(&sandbox, "ovn-nbctl init && ovn-sbctl init"), "");
        let northd = Northd::start(&sandbox);
        let lines = OVN.lines().map(str::trim).filter(|line| !line.is_empty());
        let out: String = lines.map(|line| format!("$ {line}\n{}", run(&sandbox, line))).collect();
        drop(northd);
        without_uuids(&out)
    };
    let ours = run_all(&Kit::ours());
    assert!(ours.contains("ls_in_acl"), "{ours}");
    assert_eq!(ours, run_all(&Kit::peer()));
}

/// Python with `ovs` and `ovsdbapp`, as `scripts/test` installs it.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    assert!(python.exists(), "scripts/test installs python's packages ovs and ovsdbapp in target/python");
    python
}

fn script(sandbox: &Sandbox, name: &str, args: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    let mut command = Command::new("timeout");
    command.arg("60").arg(python()).arg(path).args(args).arg(remote(sandbox)).current_dir(sandbox.dir());
    let ran = sandbox.finish(command);
    assert_eq!(ran.status, Some(0), "{}", ran.text());
    ran.stdout
}

#[test]
fn pythons_idl_sees_changes_conditions_and_locks() {
    let see = |kit: &Kit| {
        let sandbox = server(kit, &[VSWITCH]);
        assert_eq!(run(&sandbox, "ovs-vsctl --no-wait init"), "");
        script(&sandbox, "idl.py", &[])
    };
    let ours = see(&Kit::ours());
    assert!(ours.contains("deleted"), "{ours}");
    assert_eq!(ours, see(&Kit::peer()));
}

#[test]
fn ovsdbapp_changes_a_switch_and_a_northbound_database() {
    let switch = Sandbox::dummy(&Kit::ours());
    assert!(wait_until(Duration::from_secs(10), || switch.file("db.sock").exists()));
    assert_eq!(
        script(&switch, "app.py", &["vswitch"]),
        "['app'] ['p1'] app\n{'iface-id': 'x'} ['tcp:127.0.0.1:1']\n['p1']\n[] False\n"
    );
    let northbound = |kit: &Kit| script(&server(kit, &[NORTHBOUND]), "app.py", &["northbound"]);
    let ours = northbound(&Kit::ours());
    assert_eq!(ours, northbound(&Kit::peer()));
}
