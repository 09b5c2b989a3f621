//! A configuration database that Debian's own daemons wrote goes from its journal to SQLite and back by `ovsdb-tool copy`:
//! no row changes, and Debian's server serves what comes out as it served what went in.

use std::path::Path;
use std::time::Duration;

use ovsdb::storage;
use tests::kit::Kit;
use tests::sandbox::{Sandbox, wait_until};

/// What people configure: a line is a run of `ovs-vsctl`.
const SESSION: &str = "
    add-br br0 -- set Bridge br0 datapath_type=dummy fail_mode=secure protocols=OpenFlow10,OpenFlow13,OpenFlow15
    add-br br1 -- set Bridge br1 datapath_type=dummy other_config:hwaddr=02:00:00:00:00:01 rstp_enable=true
    add-br br2 br1 20
    add-port br0 p1 -- set Interface p1 type=dummy ofport_request=11 options:pcap=\"p 1.pcap\"
    add-port br0 p2 tag=7 -- set Interface p2 type=dummy mtu_request=1400 external_ids:attached-mac=02:00:00:00:00:02
    add-port br0 p3 -- set Interface p3 type=dummy -- set Port p3 vlan_mode=native-untagged tag=9 trunks=9,10,4095
    add-port br0 t1 -- set Interface t1 type=vxlan options:remote_ip=192.0.2.1 options:key=flow options:dst_port=4790
    add-port br1 t2 -- set Interface t2 type=geneve options:remote_ip=flow options:csum=true bfd:enable=true
    add-bond br1 bond0 b1 b2 bond_mode=balance-slb lacp=active -- set Interface b1 type=dummy -- set Interface b2 type=dummy
    add-port br0 patch0 -- set Interface patch0 type=patch options:peer=patch1
    add-port br1 patch1 -- set Interface patch1 type=patch options:peer=patch0
    set-controller br0 tcp:127.0.0.1:16653 unix:ctl.sock
    set-controller br1 punix:br1.ctl
    set-manager ptcp:0:127.0.0.1 unix:manager.sock
    set-ssl key.pem cert.pem ca.pem
    -- set Port p1 qos=@q -- --id=@q create QoS type=linux-htb other-config:max-rate=1000000000 queues:0=@a queues:7=@b -- --id=@a create Queue other-config:min-rate=1 dscp=10 -- --id=@b create Queue other-config:max-rate=5000
    -- --id=@p get Port p2 -- --id=@o get Port p1 -- --id=@m create Mirror name=m0 select-dst-port=@p select-src-port=@p select-vlan=1,2,4000 output-port=@o -- set Bridge br0 mirrors=@m
    -- --id=@n create NetFlow targets=\\\"127.0.0.1:2055\\\",\\\"127.0.0.1:2056\\\" active_timeout=30 -- set Bridge br0 netflow=@n
    -- --id=@s create sFlow agent=lo targets=\\\"127.0.0.1:6343\\\" header=128 sampling=64 polling=10 -- set Bridge br0 sflow=@s
    -- --id=@i create IPFIX targets=\\\"127.0.0.1:4739\\\" obs_domain_id=123 cache_max_flows=13 -- set Bridge br1 ipfix=@i
    -- --id=@c get Bridge br1 -- create Flow_Sample_Collector_Set id=1 bridge=@c
    -- --id=@f create Flow_Table name=classify flow_limit=1000 overflow_policy=evict prefixes=ip_dst,ip_src groups=\\\"NXM_OF_IN_PORT[]\\\" -- set Bridge br0 flow_tables:3=@f
    -- --id=@l create AutoAttach system_name=sw mappings:5=100 -- set Bridge br0 auto_attach=@l
    -- --id=@d create Datapath datapath_version=1 ct_zones:5=@z -- --id=@z create CT_Zone timeout_policy=@t -- --id=@t create CT_Timeout_Policy timeouts:tcp_syn_sent=42 timeouts:icmp_reply=7 -- set Open_vSwitch . datapaths:netdev=@d
    set Open_vSwitch . external_ids:system-id=captured external_ids:text='\"\\\\ \t é 🦀\"' other_config:flow-limit=50000 iface_types=dummy,vxlan
    set Interface p1 ingress_policing_rate=1000 ingress_policing_burst=100 -- set Port p2 other_config:priority-tags=true
    set Bridge br1 stp_enable=false mcast_snooping_enable=true flood_vlans=1,5,77
    del-port br0 p3
    remove Bridge br1 flood_vlans 5 -- clear Bridge br0 netflow -- del-controller br1
    set Interface p2 external_ids:iface-id=a external_ids:attached-mac=b -- remove Interface p2 external_ids attached-mac
    add-port br2 q1 -- set Interface q1 type=dummy
    del-br br2
";

/// Writes the database as people and daemons do, and stops them.
fn capture(sandbox: &Sandbox, kit: &Kit) {
    let configure = |line: &str| {
        let script = format!("{} --no-wait {line}", kit.path("ovs-vsctl").display());
        let mut command = sandbox.command(kit, "ovs-vsctl", &[]);
        command = {
            let mut shell = std::process::Command::new("bash");
            shell.args(["-c", &script]).current_dir(sandbox.dir());
            shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            shell
        };
        let ran = sandbox.finish(command);
        assert_eq!(ran.status, Some(0), "{line}: {}", ran.text());
    };
    SESSION.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(configure);
    // The switch writes what it finds and does: numbers of ports, states, statistics.
    let seen = || sandbox.run(kit, "ovs-vsctl", &["--bare", "get", "Interface", "p2", "ofport"]).stdout;
    assert!(
        wait_until(Duration::from_secs(30), || seen().trim().parse::<i64>().is_ok()),
        "{}",
        sandbox.log()
    );
}

/// Every row with its lasting columns.
fn rows(path: &Path) -> Vec<String> {
    let opened = storage::open(path, true).expect("it can be opened");
    assert!(opened.damage.is_none(), "{:?}", opened.damage);
    let db = &opened.database;
    let row = |change: &ovsdb::database::Change| {
        let table = db.table(change.table).schema();
        let columns = storage::row_text(table, change).expect("a row says something");
        format!("{} {} {columns}", table.name, change.uuid())
    };
    db.snapshot().iter().map(row).collect()
}

/// What Debian's server serves of a database.
fn served(kit: &Kit, db: &Path) -> String {
    let sandbox = Sandbox::new(kit);
    std::fs::copy(db, sandbox.file("conf.db")).expect("a file can be copied");
    sandbox.start_bare_database();
    let remote = format!("unix:{}", sandbox.file("db.sock").display());
    let dump = sandbox.run(kit, "ovsdb-client", &["-f", "json", "dump", &remote, "Open_vSwitch"]);
    assert_eq!(dump.status, Some(0), "{}", dump.text());
    let mut tables: Vec<String> = dump.stdout.lines().map(without_order).collect();
    tables.sort();
    tables.join("\n")
}

/// A table of a dump with its rows sorted.
fn without_order(table: &str) -> String {
    let mut table: serde_json::Value = serde_json::from_str(table).expect("a table as JSON");
    if let Some(rows) = table["data"].as_array_mut() {
        rows.sort_by_key(ToString::to_string);
    }
    table.to_string()
}

#[test]
fn a_captured_configuration_comes_back_from_sqlite() {
    let (ours, peer) = (Kit::ours(), Kit::peer());
    let sandbox = Sandbox::dummy(&peer);
    capture(&sandbox, &peer);
    let names = ["captured.db", "copy.sqlite", "back.db"].map(|name| sandbox.file(name));
    // A journal is whole at every moment.
    std::fs::copy(sandbox.file("conf.db"), &names[0]).expect("a file can be copied");
    let paths = names.each_ref().map(|path| path.to_str().expect("a path of ours"));
    for (from, to, storage) in [(0, 1, "sqlite"), (1, 2, "journal")] {
        let option = format!("--storage={storage}");
        let copied = sandbox.run(&ours, "ovsdb-tool", &[&option, "copy", paths[from], paths[to]]);
        assert_eq!(copied.text(), "");
        assert_eq!(storage::kind_of(&names[to]).ok(), storage::Kind::from_name(storage));
        let again = sandbox.run(&ours, "ovsdb-tool", &[&option, "copy", paths[from], paths[to]]);
        assert_ne!(again.status, Some(0), "what is there is not overwritten");
    }
    let captured = rows(&names[0]);
    let tables: std::collections::BTreeSet<&str> =
        captured.iter().filter_map(|row| row.split(' ').next()).collect();
    assert!(tables.len() >= 18, "few tables have rows: {tables:?}");
    assert_eq!(rows(&names[1]), captured);
    assert_eq!(rows(&names[2]), captured);
    // Only what is not kept differs: versions, and what is ephemeral.
    assert_eq!(served(&peer, &names[2]), served(&peer, &names[0]));
    for file in &names {
        let name = sandbox.run(&ours, "ovsdb-tool", &["db-name", file.to_str().expect("a path of ours")]);
        assert_eq!(name.text(), "Open_vSwitch\n");
    }
}
