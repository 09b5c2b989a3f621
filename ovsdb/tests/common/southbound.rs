//! A southbound database as a large deployment of OVN has it, made up: the transactions that fill an empty one.
//!
//! A transaction is a switch: its datapath, ports, flows, groups, addresses learned.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

/// Where Debian's package `ovn-central` keeps the schema.
pub const SCHEMA: &str = "/usr/share/ovn/ovn-sb.ovsschema";

/// The name of the database.
pub const NAME: &str = "OVN_Southbound";

/// Rows of a switch.
pub const ROWS: usize = 100;

const PORTS: usize = 10;
const GROUPS: usize = 4;
const NEIGHBOURS: usize = 5;

/// Stages of a switch's pipelines: name, pipeline, table, a match and actions, where `{p}` is a port, `{m}` its Ethernet
/// and `{i}` its IP address.
const STAGES: [(&str, &str, u8, &str, &str); 12] = [
    (
        "ls_in_check_port_sec",
        "ingress",
        0,
        "inport == \"{p}\" && eth.src == {m}",
        "reg0[15] = check_in_port_sec(); next;",
    ),
    ("ls_in_lookup_fdb", "ingress", 2, "inport == \"{p}\"", "reg0[11] = lookup_fdb(inport, eth.src); next;"),
    ("ls_in_pre_acl", "ingress", 4, "ip && inport == \"{p}\"", "next;"),
    ("ls_in_acl_hint", "ingress", 7, "ct.new && !ct.est", "reg0[7] = 1; reg0[9] = 1; next;"),
    (
        "ls_in_acl",
        "ingress",
        8,
        "reg0[7] == 1 && (inport == \"{p}\" && ip4.src == {i} && tcp.dst == 443)",
        "reg0[1] = 1; next;",
    ),
    (
        "ls_in_arp_rsp",
        "ingress",
        19,
        "arp.tpa == {i} && arp.op == 1 && inport != \"{p}\"",
        "eth.dst = eth.src; eth.src = {m}; arp.op = 2; arp.tha = arp.sha; arp.sha = {m}; arp.tpa = arp.spa; arp.spa = {i}; \
         outport = inport; flags.loopback = 1; output;",
    ),
    (
        "ls_in_dhcp_options",
        "ingress",
        20,
        "inport == \"{p}\" && eth.src == {m} && ip4.src == 0.0.0.0 && udp.src == 68 && udp.dst == 67",
        "reg0[3] = put_dhcp_opts(offerip = {i}, lease_time = 43200, mtu = 1442, netmask = 255.255.255.0, router = 10.0.0.1); \
         next;",
    ),
    ("ls_in_l2_lkup", "ingress", 25, "eth.dst == {m}", "outport = \"{p}\"; output;"),
    ("ls_out_pre_lb", "egress", 1, "ip && outport == \"{p}\"", "next;"),
    (
        "ls_out_acl_hint",
        "egress",
        4,
        "ct.est && !ct.rpl && ct_mark.blocked == 0",
        "reg0[8] = 1; reg0[10] = 1; next;",
    ),
    ("ls_out_acl", "egress", 5, "reg0[8] == 1 && (outport == \"{p}\" && ip4 && icmp4)", "next;"),
    (
        "ls_out_check_port_sec",
        "egress",
        9,
        "outport == \"{p}\" && eth.dst == {m} && ip4.dst == {i}",
        "output;",
    ),
];

/// The parameters of the `transact` requests that make `rows` rows, [`ROWS`] at a time, as text.
pub fn transactions(rows: usize) -> impl Iterator<Item = String> {
    (0..rows.div_ceil(ROWS)).map(switch)
}

/// Whether the schema is there.
pub fn is_available() -> bool {
    Path::new(SCHEMA).exists()
}

/// Bits that look random but are the same every time (SplitMix64).
fn mix(seed: usize) -> u64 {
    let mut z = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn uuid(seed: usize) -> String {
    let (a, b) = (mix(seed), mix(seed + 0x1000_0000));
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}

struct Port {
    name: String,
    mac: String,
    ip: String,
}

fn port(switch: usize, n: usize) -> Port {
    let bits = mix(switch * 64 + n).to_be_bytes();
    Port {
        name: uuid(switch * 64 + n),
        mac: format!("fa:16:3e:{:02x}:{:02x}:{:02x}", bits[0], bits[1], bits[2]),
        ip: format!("10.{}.{}.{}", switch / 250, switch % 250, n + 10),
    }
}

fn switch(number: usize) -> String {
    let ports: Vec<Port> = (0..PORTS).map(|n| port(number, n)).collect();
    let datapath = json!(["named-uuid", "dp"]);
    let mut operations = vec![json!(NAME)];
    let mut insert = |table: &str, row: Value| {
        operations.push(json!({ "op": "insert", "table": table, "row": row }));
    };
    let name = format!("neutron-{}", uuid(number + 0x2000_0000));
    for (n, port) in ports.iter().enumerate() {
        insert("Port_Binding", port_binding(number, n, port));
    }
    for n in 0..GROUPS {
        let name = ["_MC_flood", "_MC_flood_l2", "_MC_unknown", "_MC_mrouter_flood"][n];
        insert(
            "Multicast_Group",
            json!({ "datapath": datapath, "name": name, "tunnel_key": 32768 + n, "ports": group(n) }),
        );
    }
    for (n, port) in ports.iter().enumerate().take(NEIGHBOURS) {
        insert(
            "MAC_Binding",
            json!({ "datapath": datapath, "logical_port": format!("lrp-{}", port.name), "ip": port.ip, "mac": port.mac,
                    "timestamp": 1_700_000_000_000_i64 + n as i64 }),
        );
    }
    for n in 0..ROWS - 1 - PORTS - GROUPS - NEIGHBOURS {
        insert("Logical_Flow", logical_flow(number, n, &ports[n % PORTS]));
    }
    operations.push(json!({
        "op": "insert", "table": "Datapath_Binding", "uuid-name": "dp",
        "row": { "tunnel_key": number + 1, "external_ids": ["map", [
            ["logical-switch", uuid(number + 0x3000_0000)], ["name", name], ["name2", format!("net-{number}")]
        ]] }
    }));
    // Named rows of the ports, which groups refer to, come last as well: order does not matter in a transaction.
    for (n, operation) in operations.iter_mut().skip(1).take(PORTS).enumerate() {
        operation["uuid-name"] = format!("port{n}").into();
    }
    Value::Array(operations).to_string()
}

fn group(n: usize) -> Value {
    let ports: Vec<Value> = (0..PORTS - n).map(|n| json!(["named-uuid", format!("port{n}")])).collect();
    json!(["set", ports])
}

fn port_binding(switch: usize, n: usize, port: &Port) -> Value {
    json!({
        "logical_port": port.name, "datapath": ["named-uuid", "dp"], "tunnel_key": n + 1,
        "mac": format!("{} {}", port.mac, port.ip), "up": true,
        "options": ["map", [["mcast_flood_reports", "true"], ["requested-chassis", format!("compute-{}", switch % 97)]]],
        "external_ids": ["map", [
            ["neutron:cidrs", format!("{}/24", port.ip)],
            ["neutron:device_id", uuid(switch * 64 + n + 0x4000_0000)],
            ["neutron:device_owner", "compute:nova"],
            ["neutron:network_name", format!("neutron-{}", uuid(switch + 0x2000_0000))],
            ["neutron:port_name", ""],
            ["neutron:project_id", format!("{:032x}", u128::from(mix(switch % 50)))],
            ["neutron:revision_number", "4"],
            ["neutron:security_group_ids", uuid(switch % 300 + 0x5000_0000)]
        ]]
    })
}

fn logical_flow(switch: usize, n: usize, port: &Port) -> Value {
    let (stage, pipeline, table, matching, actions) = STAGES[n % STAGES.len()];
    let fill =
        |text: &str| text.replace("{p}", &port.name).replace("{m}", &port.mac).replace("{i}", &port.ip);
    let mut hint = String::new();
    let _ = write!(hint, "{:08x}", mix(switch * 1000 + n) >> 32);
    json!({
        "logical_datapath": ["named-uuid", "dp"], "pipeline": pipeline, "table_id": table,
        "priority": 50 + n * 7 % 2000, "match": fill(matching), "actions": fill(actions),
        "external_ids": ["map", [
            ["source", format!("northd.c:{}", 5000 + n % 12 * 131)], ["stage-hint", hint], ["stage-name", stage]
        ]]
    })
}
