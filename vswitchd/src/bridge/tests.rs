use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use datapath::netdev::{DummyLevel, Netdevs};
use datapath::user::engine::{Engine, Setup};
use datapath::{Datapath, Error};
use flow::id::{DpPort, OfPort};
use flow::time::{Clock, Instant, WallTime};
use ovsdb::database::Database;
use ovsdb::idl::Idl;
use ovsdb::server::{Output, Server, SessionId, SessionInfo};
use ovsdb::vswitch;
use serde_json::{Value, json};
use sys::errno::Errno;

use super::{Bridge, Bridges, Connections, ControllerStatus, Outside};
use crate::xlate::Snapshot;

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _: Instant, _: &Waker) {}
}

/// The rest of the process: one dummy datapath, and connections that always work.
struct World {
    netdevs: Arc<Netdevs>,
    engine: Option<Arc<dyn Datapath>>,
    snapshot: Option<Snapshot>,
    connections: BTreeMap<String, Connections>,
}

impl Outside for World {
    fn open_datapath(&mut self, kind: &str) -> Result<Arc<dyn Datapath>, Error> {
        if kind != "dummy" {
            return Err(Errno::EAFNOSUPPORT.into());
        }
        let netdevs = Arc::clone(&self.netdevs);
        let engine = self.engine.get_or_insert_with(|| {
            let setup = Setup {
                name: "ovs-dummy".into(),
                kind: "dummy".into(),
                dummy: true,
                clock: Arc::new(Stopped),
                seed: 1,
                cores: Some(Vec::new()),
            };
            Arc::new(Engine::new(setup, &netdevs).expect("an engine"))
        });
        Ok(Arc::clone(engine))
    }

    fn close_datapath(&mut self, _: &str, _: bool) {
        self.engine = None;
    }

    fn publish(&mut self, _: &str, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
    }

    fn connect(&mut self, bridge: &mut Bridge, connections: &Connections) {
        self.connections.insert(bridge.name.clone(), connections.clone());
    }

    fn disconnect(&mut self, bridge: &str) {
        self.connections.remove(bridge);
    }

    fn controllers(&self, _: &str) -> BTreeMap<String, ControllerStatus> {
        BTreeMap::new()
    }

    fn datapath_types(&self) -> Vec<String> {
        vec!["dummy".into()]
    }

    fn protect_limits(&mut self, _: &str, _: bool) {}

    fn configure(&mut self, _: &BTreeMap<String, String>) {}
}

/// A switch with its database.
struct Bed {
    server: Server,
    idl: Idl,
    switch: SessionId,
    client: SessionId,
    replies: Vec<Value>,
    bridges: Bridges,
    world: World,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        let mut server = Server::new();
        server.add_database(Database::new(vswitch::schema()), false);
        let session = |server: &mut Server, peer: &str| {
            server.connect(SessionInfo {
                remote: "punix:db.sock".into(),
                peer: peer.into(),
                ..SessionInfo::default()
            })
        };
        let switch = session(&mut server, "switch");
        let client = session(&mut server, "client");
        let netdevs = Arc::new(Netdevs::new());
        netdevs.enable_dummy(DummyLevel::Override);
        let mut idl = Idl::new(vswitch::schema());
        Bridges::watch(&mut idl);
        idl.set_lock(Some("ovs_vswitchd"));
        idl.connected();
        let world = World {
            netdevs: Arc::clone(&netdevs),
            engine: None,
            snapshot: None,
            connections: BTreeMap::new(),
        };
        let bridges = Bridges::new(netdevs);
        let mut bed =
            Self { server, idl, switch, client, replies: Vec::new(), bridges, world, now: Instant::ZERO };
        bed.transact(json!([{"op": "insert", "table": "Open_vSwitch", "row": {}}]));
        bed
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            while let Some(message) = self.idl.poll_output() {
                self.server.receive(self.switch, message, self.now);
            }
            self.server.run(self.now);
            while let Some(output) = self.server.poll_output() {
                match output {
                    Output::Send(to, message) if to == self.switch => self.idl.receive(&message.json()),
                    Output::Send(_, message) => self.replies.push(message.json()),
                    Output::Write(job) => panic!("nothing is written: {job:?}"),
                    _ => {}
                }
            }
            self.bridges.run(&mut self.idl, &mut self.world, self.now);
        }
    }

    fn transact(&mut self, operations: Value) -> Value {
        let mut params = vec![json!("Open_vSwitch")];
        params.extend(operations.as_array().expect("operations").iter().cloned());
        self.replies.clear();
        let request = json!({"id": 1, "method": "transact", "params": params});
        self.server.receive(self.client, request, self.now);
        self.settle();
        self.replies.pop().expect("a reply")["result"].clone()
    }

    /// Adds a bridge of the dummy datapath with these interfaces, by name and type; and columns for interfaces.
    fn add_bridge(&mut self, name: &str, bridge: Value, ifaces: &[(&str, Value)]) {
        let mut operations = Vec::new();
        let mut ports = Vec::new();
        for (iface, columns) in ifaces {
            let (row, port) = (format!("i_{iface}"), format!("p_{iface}"));
            let mut columns = columns.clone();
            columns["name"] = json!(iface);
            operations.push(json!({"op": "insert", "table": "Interface", "uuid-name": row, "row": columns}));
            let columns = json!({"name": iface, "interfaces": ["named-uuid", row]});
            operations.push(json!({"op": "insert", "table": "Port", "uuid-name": port, "row": columns}));
            ports.push(json!(["named-uuid", port]));
        }
        let mut columns = bridge;
        columns["name"] = json!(name);
        columns["datapath_type"] = json!("dummy");
        columns["ports"] = json!(["set", ports]);
        operations.push(json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": columns}));
        operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["bridges", "insert", ["named-uuid", "b"]], ["next_cfg", "+=", 1]]}));
        let result = self.transact(json!(operations));
        assert!(!result.to_string().contains("error"), "{result}");
    }

    /// These columns of the rows of a table, by the first of them.
    fn select(&mut self, table: &str, columns: &[&str]) -> Vec<Value> {
        let operation = json!({"op": "select", "table": table, "where": [], "columns": columns});
        let result = self.transact(json!([operation]));
        let mut rows = result[0]["rows"].as_array().cloned().unwrap_or_default();
        rows.sort_by_key(|row| row[columns[0]].to_string());
        rows
    }
}

#[test]
fn a_bridge_with_its_ports() {
    let mut bed = Bed::new();
    bed.add_bridge(
        "br0",
        json!({"other_config": ["map", [["hwaddr", "aa:55:aa:55:00:00"]]]}),
        &[
            ("br0", json!({"type": "internal"})),
            ("p1", json!({"type": "dummy", "ofport_request": 5})),
            ("p2", json!({"type": "dummy"})),
            ("bad", json!({"type": "dpdk"})),
        ],
    );
    let empty = json!(["set", []]);
    assert_eq!(
        bed.select("Interface", &["name", "ofport", "error"]),
        [
            json!({"name": "bad", "ofport": -1, "error":
                "could not open network device bad (Address family not supported by protocol)"}),
            json!({"name": "br0", "ofport": 65534, "error": empty}),
            json!({"name": "p1", "ofport": 5, "error": empty}),
            json!({"name": "p2", "ofport": 1, "error": empty}),
        ]
    );
    assert_eq!(
        bed.select("Bridge", &["name", "datapath_id", "datapath_version"]),
        [json!({"name": "br0", "datapath_id": "0000aa55aa550000", "datapath_version": "<built-in>"})]
    );
    assert_eq!(
        bed.select("Open_vSwitch", &["cur_cfg", "datapath_types"]),
        [json!({"cur_cfg": 1, "datapath_types": "dummy"})]
    );
    assert!(bed.bridges.is_configured());
    let bridge = bed.bridges.get("br0").expect("a bridge");
    // A standalone bridge without controllers forwards by itself.
    assert!(bridge.ofproto.dump_flows(false, Instant::ZERO).contains("priority=0,actions=NORMAL\n"));
    let snapshot = bed.world.snapshot.as_ref().expect("published");
    let seen = snapshot.bridge_named("br0").expect("known to translation");
    let ports: Vec<(OfPort, DpPort)> = seen.ports.values().map(|port| (port.ofp, port.odp)).collect();
    assert_eq!(ports, [(OfPort(1), DpPort(2)), (OfPort(5), DpPort(1)), (OfPort::LOCAL, DpPort(100)),]);
    assert_eq!((seen.bundles.len(), bed.world.connections.len()), (3, 1));
}

#[test]
fn commands_show_datapaths() {
    let mut bed = Bed::new();
    bed.add_bridge("br0", json!({}), &[("br0", json!({})), ("p7", json!({"type": "dummy"}))]);
    assert_eq!(
        bed.bridges.dpif_show(),
        "dummy@ovs-dummy: hit:0 missed:0\n  br0:\n    br0 65534/100: (dummy-internal)\n    p7 1/7: (dummy)\n"
    );
    let features = bed.bridges.show_dp_features("br0").expect("a bridge");
    assert!(
        features.starts_with("Masked set action: Yes\n") && features.ends_with("IPv6 ND Extension: Yes\n")
    );
    let set = |bed: &mut Bed, args: &[&str]| {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        bed.bridges.set_dp_features(&args).expect("a bridge")
    };
    assert_eq!(set(&mut bed, &["br0", "recirc", "maybe"]), "Boolean value expected");
    assert_eq!(set(&mut bed, &["br0", "recirc", "false"]), "");
    assert_eq!(set(&mut bed, &["br0", "recirc"]), "recirc (Recirc) : [run time]:false, [boot time]:true\n");
    assert_eq!(bed.bridges.names(), "br0\n");
}

#[test]
fn ports_come_and_go() {
    let mut bed = Bed::new();
    bed.add_bridge(
        "br0",
        json!({}),
        &[("br0", json!({"type": "internal"})), ("p1", json!({"type": "dummy"}))],
    );
    bed.transact(json!([{"op": "update", "table": "Interface", "where": [["name", "==", "p1"]],
        "row": {"ofport_request": 9}}]));
    let rows = bed.select("Interface", &["name", "ofport"]);
    assert_eq!(rows[1], json!({"name": "p1", "ofport": 9}));
    bed.transact(json!([
        {"op": "select", "table": "Port", "where": [["name", "==", "p1"]], "columns": ["_uuid"]}
    ]));
    let port = bed.select("Port", &["name", "_uuid"]).pop().expect("a row")["_uuid"].clone();
    bed.transact(json!([{"op": "mutate", "table": "Bridge", "where": [],
        "mutations": [["ports", "delete", port]]}]));
    let bridge = bed.bridges.get("br0").expect("a bridge");
    assert_eq!(bridge.ifaces().map(|iface| iface.name.as_str()).collect::<Vec<_>>(), ["br0"]);
    assert_eq!(bridge.datapath.ports().len(), 2);
    bed.transact(
        json!([{"op": "update", "table": "Open_vSwitch", "where": [], "row": {"bridges": ["set", []]}}]),
    );
    assert!(
        bed.bridges.get("br0").is_none() && bed.world.engine.is_none() && bed.world.connections.is_empty()
    );
}

#[test]
fn a_port_that_no_longer_asks_for_its_number_leaves_it() {
    let mut bed = Bed::new();
    let ports = [("p1", json!({"type": "dummy", "ofport_request": 2})), ("p2", json!({"type": "dummy"}))];
    bed.add_bridge("br0", json!({}), &ports);
    bed.transact(json!([
        {"op": "update", "table": "Interface", "where": [["name", "==", "p1"]],
            "row": {"ofport_request": ["set", []]}},
        {"op": "update", "table": "Interface", "where": [["name", "==", "p2"]], "row": {"ofport_request": 2}},
    ]));
    // 1 was in use a moment ago; a number that was not is as good.
    let rows = bed.select("Interface", &["name", "ofport"]);
    assert_eq!(rows, [json!({"name": "p1", "ofport": 3}), json!({"name": "p2", "ofport": 2})]);
}

#[test]
fn patch_ports_know_each_other_and_secure_bridges_stay_empty() {
    let mut bed = Bed::new();
    let patch = |peer: &str| json!({"type": "patch", "options": ["map", [["peer", peer]]]});
    bed.add_bridge("br0", json!({"fail_mode": "secure"}), &[("pa", patch("pb"))]);
    bed.add_bridge("br1", json!({}), &[("pb", patch("pa"))]);
    let snapshot = bed.world.snapshot.as_ref().expect("published");
    let (a, b) = (snapshot.bridge_named("br0").expect("there"), snapshot.bridge_named("br1").expect("there"));
    let port = &a.ports[&OfPort(1)];
    assert_eq!((port.odp, port.peer), (DpPort::NONE, Some((b.id, OfPort(1)))));
    let flows = bed.bridges.get("br0").expect("there").ofproto.dump_flows(false, Instant::ZERO);
    assert!(!flows.contains("NORMAL"));
}

#[test]
fn no_floods_go_to_ports_without_ethernet_headers() {
    let mut bed = Bed::new();
    let tunnel = |kind: &str, packets: &str, remote: &str| {
        let options = json!([["remote_ip", remote], ["packet_type", packets]]);
        json!({"type": kind, "options": ["map", options]})
    };
    bed.add_bridge(
        "br0",
        json!({}),
        &[
            ("bare", tunnel("bareudp", "legacy_l3", "1.1.1.1")),
            ("gre2", tunnel("gre", "legacy_l2", "1.1.1.1")),
            ("gre3", tunnel("gre", "legacy_l3", "1.1.1.2")),
            ("p1", json!({"type": "dummy"})),
        ],
    );
    let snapshot = bed.world.snapshot.as_ref().expect("published");
    let bundles = &snapshot.bridge_named("br0").expect("there").bundles;
    let mut floodable: Vec<_> = bundles.iter().map(|b| (b.name.as_str(), b.floodable)).collect();
    floodable.sort();
    assert_eq!(floodable, [("bare", false), ("gre2", true), ("gre3", false), ("p1", true)]);
}

#[test]
fn a_sampled_bridge_tells_its_collector() {
    let collector = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    collector.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a time-out");
    let target = collector.local_addr().expect("an address").to_string();
    let mut bed = Bed::new();
    let port = json!({"type": "dummy", "options": ["map", [["ifindex", "77"]]]});
    bed.add_bridge("br0", json!({}), &[("br0", json!({})), ("p1", port)]);
    let sflow = json!({"targets": target, "sampling": 10, "polling": 1, "agent": "192.0.2.1"});
    bed.transact(json!([
        {"op": "insert", "table": "sFlow", "uuid-name": "s", "row": sflow},
        {"op": "update", "table": "Bridge", "where": [], "row": {"sflow": ["named-uuid", "s"]}},
    ]));
    let snapshot = bed.world.snapshot.as_ref().expect("published");
    let sampler = snapshot.bridge_named("br0").and_then(|bridge| bridge.sflow.clone()).expect("sampled");
    assert_eq!(
        (sampler.probability(), sampler.ifindex(DpPort(1)), sampler.ifindex(DpPort(9))),
        (u32::MAX / 10, 77, 0)
    );
    bed.now = Instant::from_millis(1000);
    bed.settle();
    let mut bytes = [0; 1500];
    let len = collector.recv(&mut bytes).expect("a datagram");
    let datagram = ::sflow::Datagram::decode(&bytes[..len]).expect("well-formed");
    assert_eq!((datagram.agent.to_string().as_str(), datagram.sequence), ("192.0.2.1", 1));
    let sources = datagram.samples.iter().map(|sample| match sample {
        ::sflow::Sample::Counters(sample) => (sample.source.class, sample.source.index, sample.records.len()),
        other => panic!("{other:?}"),
    });
    assert_eq!(sources.collect::<Vec<_>>(), [(2, 1000, 2), (0, 77, 4)]);
    bed.transact(json!([{"op": "update", "table": "Bridge", "where": [], "row": {"sflow": ["set", []]}}]));
    assert!(bed.bridges.get("br0").expect("a bridge").sflow.is_none());
}
