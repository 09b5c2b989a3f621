//! Restarts under a ping of a thousand packets a second, none of which may be lost; and what `ovs-ctl` does.

use std::time::Duration;

use crate::Test;
use crate::pings::Pings;
use crate::world::{World, ip};

pub const TESTS: &[Test] = &[
    Test::smoke("restart::killed_standalone", killed_standalone),
    Test::new("restart::exit_keeps_the_datapath", exit_keeps_the_datapath),
    Test::new("restart::secure_with_restored_flows", secure_with_restored_flows),
    Test::new("restart::tracked_with_restored_flows", tracked_with_restored_flows),
    Test::new("restart::twice_tracked_with_restored_flows", twice_tracked_with_restored_flows),
    Test::bare("restart::upgrade_by_ovs_ctl", upgrade_by_ovs_ctl),
    Test::bare("restart::ovs_ctl", ovs_ctl),
    Test::bare("restart::force_reload_kmod", force_reload_kmod),
    Test::new("restart::vanished_bridges_and_ports", vanished_bridges_and_ports),
];

fn two_hosts(world: &World) {
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
}

/// Kills the switch, and waits until nothing is left of it.
pub fn kill(world: &World) {
    let pid = world.sh("cat ovs-vswitchd.pid");
    world.sh(&format!("kill -9 {}", pid.trim()));
    world.until("the switch is gone", || world.try_sh(&format!("kill -0 {}", pid.trim())).status != Some(0));
}

/// Without `flow-restore-wait`, Open vSwitch deletes all flows of a datapath that it finds at its start, and in this machine
/// loses packets for half a second or more until they are there again.
fn none_lost_unless_flushed(world: &World, pings: Pings) {
    if world.peer {
        pings.end(world);
    } else {
        pings.none_lost(world);
    }
}

fn killed_standalone(world: &World) {
    two_hosts(world);
    let pings = Pings::start(world);
    kill(world);
    pings.note("killed");
    world.switch.start_switch(&[]);
    pings.note("started");
    world.sh("ovs-vsctl --timeout=60 add-port br0 later -- set interface later type=internal");
    world.settle();
    none_lost_unless_flushed(world, pings);
}

fn exit_keeps_the_datapath(world: &World) {
    two_hosts(world);
    let pings = Pings::start(world);
    let ports = || {
        let shown = world.sh("ovs-dpctl show");
        shown.lines().filter(|line| line.starts_with("  port ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = ports();
    exit(world, "exit");
    assert_eq!(ports(), before);
    world.switch.start_switch(&[]);
    world.settle();
    none_lost_unless_flushed(world, pings);
    exit(world, "exit --cleanup");
    assert_eq!(world.sh("ovs-dpctl dump-dps"), "");
    world.switch.start_switch(&[]);
}

/// Has the switch end by its own command.
fn exit(world: &World, command: &str) {
    let pid = world.sh("cat ovs-vswitchd.pid");
    world.sh(&format!("ovs-appctl -t ovs-vswitchd {command}"));
    world.until("the switch is gone", || world.try_sh(&format!("kill -0 {}", pid.trim())).status != Some(0));
}

/// Has the switch killed and started with `flow-restore-wait`, and its flows given back.
fn killed_and_restored(world: &World, flows: &str) {
    two_hosts(world);
    world.sh(&format!(
        "ovs-vsctl set-fail-mode br0 secure; ovs-ofctl del-flows br0; cat > flows << 'END'\n{flows}\nEND"
    ));
    world.sh("ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 flows");
    let pings = Pings::start(world);
    world.sh("ovs-vsctl --no-wait set open_vswitch . other_config:flow-restore-wait=true");
    kill(world);
    pings.note("killed");
    world.switch.start_switch(&[]);
    pings.note("started");
    std::thread::sleep(Duration::from_secs(3));
    world.sh("ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 flows");
    pings.note("flows restored");
    world.sh("ovs-vsctl --no-wait --if-exists remove open_vswitch . other_config flow-restore-wait=true");
    pings.note("the wait is over");
    std::thread::sleep(Duration::from_secs(3));
    world.settle();
    pings.note("settled");
    pings.none_lost(world);
    // And the switch still decides.
    world.sh("ovs-ofctl del-flows br0");
    world.settle();
    world.no_ping("a", &ip(2));
}

fn secure_with_restored_flows(world: &World) {
    killed_and_restored(
        world,
        "arp,actions=normal\nip,in_port=1,actions=output:2\nip,in_port=2,actions=output:1",
    );
}

fn tracked_with_restored_flows(world: &World) {
    killed_and_restored(
        world,
        "priority=100,arp,actions=normal
priority=50,ct_state=-trk,ip,actions=ct(table=1,zone=6)
table=1,priority=10,ct_state=+trk+new,in_port=1,ip,actions=ct(commit,zone=6,exec(set_field:5->ct_mark)),output:2
table=1,priority=10,ct_state=+trk+est,ct_mark=5,in_port=1,ip,actions=output:2
table=1,priority=10,ct_state=+trk+est-new+rpl,ct_mark=5,in_port=2,ip,actions=output:1",
    );
}

/// Packets recirculate twice: flows of the second time are found only by way of those of the first.
fn twice_tracked_with_restored_flows(world: &World) {
    killed_and_restored(
        world,
        "priority=100,arp,actions=normal
priority=50,ct_state=-trk,ip,actions=ct(table=1,zone=6)
table=1,priority=10,ct_state=+trk+new,in_port=1,ip,actions=ct(commit,zone=6),ct(table=2,zone=7)
table=1,priority=10,ct_state=+trk+est,ip,actions=ct(table=2,zone=7)
table=2,priority=10,ct_state=+trk+new,in_port=1,ip,actions=ct(commit,zone=7),output:2
table=2,priority=10,ct_state=+trk+est,in_port=1,ip,actions=output:2
table=2,priority=10,ct_state=+trk+est,in_port=2,ip,actions=output:1",
    );
}

/// Lays the programs and scripts out as they are installed, in `inst` of the sandbox, and gives the shell `ctl`.
fn installed(world: &World) -> String {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let (scripts, schema) = if world.peer {
        ("/usr/share/openvswitch/scripts".to_owned(), "/usr/share/openvswitch/vswitch.ovsschema".to_owned())
    } else {
        (format!("{ours}/scripts"), format!("{ours}/ovsdb/schema/vswitch.ovsschema"))
    };
    // Debian's package brings the folder for it.
    let etc = if world.peer { "openvswitch" } else { "" };
    world.sh(&format!(
        "mkdir -p inst/bin inst/sbin inst/share/scripts {etc}
         for name in ovs-vswitchd ovsdb-server; do cp $(command -v $name) inst/sbin; done
         for name in ovs-vsctl ovs-ofctl ovs-appctl ovs-dpctl ovsdb-tool ovsdb-client; do cp $(command -v $name) inst/bin; done
         for name in ovs-ctl ovs-lib ovs-save ovs-kmod-ctl; do cp {scripts}/$name inst/share/scripts; done
         cp {schema} inst/share/vswitch.ovsschema"
    ));
    "export OVS_BINDIR=$PWD/inst/bin OVS_SBINDIR=$PWD/inst/sbin OVS_PKGDATADIR=$PWD/inst/share PATH=$PWD/inst/bin:$PWD/inst/sbin:$PATH
     here=$PWD
     ctl() { $here/inst/share/scripts/ovs-ctl --no-record-hostname \"$@\"; }
    "
    .to_owned()
}

fn upgrade_by_ovs_ctl(world: &World) {
    let ctl = installed(world);
    world.sh(&format!("{ctl} ctl --system-id=random start"));
    two_hosts(world);
    world.sh("ovs-vsctl set-fail-mode br0 secure; ovs-ofctl add-flow br0 priority=7,actions=normal");
    let pings = Pings::start(world);
    // The new release: another file under the same name.
    let before = world.sh("cat ovs-vswitchd.pid ovsdb-server.pid");
    world.sh("for program in inst/sbin/*; do cp $program new; mv -f new $program; done");
    let said = world.sh(&format!("{ctl} ctl --system-id=random restart"));
    pings.note("restarted");
    assert!(said.contains("Saving flows") && said.contains("Restoring saved flows"), "{said}");
    let after = world.sh("cat ovs-vswitchd.pid ovsdb-server.pid");
    assert!(before.lines().zip(after.lines()).all(|(old, new)| old != new), "{before}{after}");
    let running = world.sh("for pid in $(cat *.pid); do readlink /proc/$pid/exe; done");
    assert!(
        running.lines().count() == 2 && !running.contains("(deleted)"),
        "not the new programs: {running}"
    );
    std::thread::sleep(Duration::from_secs(3));
    world.settle();
    pings.none_lost(world);
    let flows = world.sh("ovs-ofctl --no-stats dump-flows br0");
    assert!(flows.contains("priority=7 actions=NORMAL"), "{flows}");
    let config = world.sh("ovs-vsctl get open_vswitch . other_config");
    assert!(!config.contains("flow-restore-wait"), "{config}");
    world.sh(&format!("{ctl} ctl stop"));
    world.switch.start_bare_database();
    world.switch.start_switch(&[]);
}

fn ovs_ctl(world: &World) {
    let ctl = installed(world);
    let ran = world.try_sh(&format!("{ctl} ctl status"));
    assert_eq!(ran.stdout, "ovsdb-server is not running\novs-vswitchd is not running\n");
    assert_ne!(ran.status, Some(0));
    world.sh(&format!("{ctl} ctl --system-id=my-own --external-id=colour=blue --system-type=T --system-version=V --no-ovs-vswitchd start"));
    let ran = world.try_sh(&format!("{ctl} ctl status"));
    assert!(ran.stdout.starts_with("ovsdb-server is running with pid "), "{}", ran.text());
    world.sh(&format!(
        "{ctl} ctl --system-id=my-own --no-ovsdb-server --ovs-vswitchd-options=-vfile:dbg start"
    ));
    let got = world.sh(
        "ovs-vsctl get open_vswitch . external_ids:system-id external_ids:colour system_type system_version",
    );
    assert_eq!(got, "my-own\nblue\n\"T\"\n\"V\"\n".replace("\"T\"", "T").replace("\"V\"", "V"));
    let version = world.sh("ovs-vswitchd --version | awk 'NR == 1 {print $NF}'");
    let got = world.sh("ovs-vsctl get open_vswitch . ovs_version");
    assert_eq!(got.trim().trim_matches('"'), version.trim());
    let said = world.sh(&format!("{ctl} ctl --system-id=my-own start"));
    assert!(
        said.contains("ovsdb-server is already running") && said.contains("ovs-vswitchd is already running"),
        "{said}"
    );
    world.sh("ovs-vsctl add-br br0; ovs-ofctl add-flow br0 'priority=3,ip,nw_proto=2,actions=drop'");
    let saved = world.sh(&format!("{ctl} inst/share/scripts/ovs-save save-flows br0"));
    assert!(saved.contains("replace-flows br0"), "{saved}");
    world.sh(&format!("ovs-ofctl del-flows br0; cat > saved.sh << 'END'\n{saved}\nEND\nsh -e saved.sh"));
    assert!(world.sh("ovs-ofctl dump-flows br0").contains("priority=3,ip,nw_proto=2 actions=drop"));
    world.sh(&format!("{ctl} ctl load-kmod; ctl version | grep -q ovsdb-server"));
    world.sh("ovs-vsctl add-port br0 gone -- set interface gone type=internal -- set port gone other_config:transient=true");
    world.sh(&format!("{ctl} ctl delete-transient-ports"));
    assert_eq!(world.sh("ovs-vsctl list-ports br0"), "");
    for wrong in ["", "--no-such-thing=1 help", "frobnicate", "start stop", "--external-id=x start"] {
        let ran = world.try_sh(&format!("{ctl} ctl {wrong}"));
        assert!(!ran.stderr.is_empty(), "{wrong}: {}", ran.text());
    }
    world.sh(&format!("{ctl} ctl stop"));
    world.sh(&format!("{ctl} ctl --system-id=random --delete-bridges --no-self-confinement start"));
    assert_eq!(world.sh("ovs-vsctl list-br"), "");
    let id = world.sh("cat openvswitch/system-id.conf");
    assert_eq!(
        world.sh("ovs-vsctl get open_vswitch . external_ids:system-id").trim().trim_matches('"'),
        id.trim()
    );
    // A socket that a confined switch does not make.
    world.sh("mkdir elsewhere; ovs-vsctl add-br br1 -- set-controller br1 punix:$PWD/elsewhere/socket");
    world.until("the controllers' socket is there", || world.switch.file("elsewhere/socket").exists());
}

fn force_reload_kmod(world: &World) {
    let ctl = installed(world);
    world.sh(&format!("{ctl} ctl --system-id=random start"));
    two_hosts(world);
    world.sh("ip addr add 10.1.0.100/24 dev br0; ovs-ofctl add-flow br0 priority=7,actions=normal");
    world.ping("a", "10.1.0.100");
    let said = world.sh(&format!("{ctl} ctl --system-id=random force-reload-kmod"));
    assert!(said.contains("Detected internal interfaces: br0"), "{said}");
    assert!(said.contains("Removing datapath: system@ovs-system"), "{said}");
    world.ping("a", "10.1.0.100");
    world.ping("a", &ip(2));
    assert!(world.sh("ovs-ofctl dump-flows br0").contains("priority=7 actions=NORMAL"));
}

fn vanished_bridges_and_ports(world: &World) {
    two_hosts(world);
    world.bridge("br1");
    world.sh("ovs-vsctl add-port br1 vx -- set interface vx type=vxlan options:remote_ip=10.9.9.9");
    world.ping("a", &ip(2));
    kill(world);
    // While nobody looks, a bridge, its tunnel and a port go.
    world.sh("ovs-vsctl --no-wait del-br br1 -- del-port br0 p-b");
    world.switch.start_switch(&[]);
    world.until("the kernel has what is configured", || {
        let shown = world.sh("ovs-dpctl show");
        let ports: Vec<&str> = shown.lines().filter(|line| line.contains("  port ")).collect();
        ports.len() == 3
            && ports
                .iter()
                .all(|port| !port.contains("br1") && !port.contains("vxlan") && !port.contains("p-b"))
    });
    world.settle();
    world.no_ping("a", &ip(2));
    let held = world.flows();
    assert!(!held.contains("actions:p-b"), "{held}");
}
