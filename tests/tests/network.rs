//! The kernel's network as the switch follows it: links, routes, traffic control. Each test runs in a network namespace of
//! its own, in which it is started once more.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tests::kit::Kit;
use tests::sandbox::{Sandbox, wait_until};

/// Says that a test runs in its namespace.
const ALONE: &str = "TURNOUT_ALONE";
const SOON: Duration = Duration::from_secs(10);

/// Runs the test of that name in a namespace of its own.
fn alone(name: &str, test: fn(&Net)) {
    if std::env::var_os(ALONE).is_some() {
        sh(
            "sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1; ip link set lo up",
        );
        return test(&Net::new());
    }
    let this = std::env::current_exe().expect("a test knows its program");
    let mut command = Command::new("unshare");
    let command = command.arg("-n").arg(this).args([name, "--exact", "--nocapture"]).env(ALONE, "1");
    let out = command.output().expect("unshare runs");
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).output().expect("there is a shell");
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{script}: {errors}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A switch.
struct Net {
    kit: Kit,
    switch: Sandbox,
}

impl Net {
    fn new() -> Self {
        let kit = Kit::ours();
        let switch = Sandbox::new(&kit);
        switch.start_database();
        switch.start_switch(&[]);
        Self { kit, switch }
    }

    fn tool(&self, program: &str, args: &str) -> String {
        let args: Vec<&str> = args.split(' ').collect();
        let ran = self.switch.run(&self.kit, program, &args);
        assert_eq!(ran.status, Some(0), "{program} {args:?}: {}\n{}", ran.text(), self.switch.log());
        ran.stdout
    }

    fn routes(&self, args: &str) -> String {
        self.tool("ovs-appctl", &format!("ovs/route/show{args}"))
    }

    fn until(&self, what: &str, check: impl FnMut() -> bool) {
        assert!(wait_until(SOON, check), "not in time: {what}\n{}", self.switch.log());
    }

    fn column(&self, interface: &str, column: &str) -> String {
        self.tool("ovs-vsctl", &format!("get interface {interface} {column}")).trim().to_owned()
    }
}

fn two_links() {
    sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up
        ip addr add 10.0.0.1/24 dev v0; ip addr add 10.0.0.2/24 dev v1");
}

#[test]
fn routes_follow_the_kernel() {
    alone("routes_follow_the_kernel", |net| {
        two_links();
        sh("ip route add 1.1.1.0/24 via 10.0.0.9 metric 100; ip route add 1.1.1.0/24 via 10.0.0.8 metric 200
            ip route add default via 10.0.0.9 dev v0; ip route add blackhole 9.9.9.0/24");
        let local = "Route Table:\n\
            Cached: 10.0.0.1/32 dev v0 SRC 10.0.0.1 local\n\
            Cached: 10.0.0.2/32 dev v1 SRC 10.0.0.2 local\n\
            Cached: 127.0.0.1/32 dev lo SRC 127.0.0.1 local\n\
            Cached: 127.0.0.0/8 dev lo SRC 127.0.0.1 local\n";
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let main = "Cached: 10.0.0.0/24 dev v1 SRC 10.0.0.2\n\
            Cached: 1.1.1.0/24 dev v0 GW 10.0.0.8 SRC 10.0.0.1\n\
            Cached: 0.0.0.0/0 dev v0 GW 10.0.0.9 SRC 10.0.0.1\n";
        assert_eq!(sorted(&net.routes("")), sorted(&format!("{local}{main}")));
        sh("ip route del 1.1.1.0/24 via 10.0.0.8; ip route add 7.7.7.0/24 dev v0 table 42");
        let main = "Cached: 10.0.0.0/24 dev v1 SRC 10.0.0.2\n\
            Cached: 1.1.1.0/24 dev v0 GW 10.0.0.9 SRC 10.0.0.1\n\
            Cached: 0.0.0.0/0 dev v0 GW 10.0.0.9 SRC 10.0.0.1\n";
        assert_eq!(sorted(&net.routes(" table=all")), sorted(&format!("{local}{main}")[13..]));
        sh("ip route add 7.7.8.0/24 via 10.0.0.7 dev v0 table 42; ip rule add from 10.0.0.1 lookup 42");
        net.until("a table that a rule asks", || {
            net.tool("ovs-appctl", "ovs/route/rule/show").contains("Cached: 32765: from 10.0.0.1 lookup 42\n")
        });
        let table = "Route Table #42:\nCached: 7.7.8.0/24 dev v0 GW 10.0.0.7 SRC 10.0.0.1\n";
        net.until("its routes", || {
            let ran = net.switch.run(&net.kit, "ovs-appctl", &["ovs/route/show", "table=42"]);
            ran.stdout == table
        });
        let found = net.tool("ovs-appctl", "ovs/route/lookup 7.7.8.1 src=10.0.0.1");
        assert_eq!(found, "src 10.0.0.1\ngateway 10.0.0.7\ndev v0\n");
        // Routes that go with an address, and with a link, are not announced one by one.
        sh("ip rule del from 10.0.0.1 lookup 42; ip addr del 10.0.0.2/24 dev v1");
        net.until("another way", || net.routes("").contains("Cached: 10.0.0.0/24 dev v0 SRC 10.0.0.1\n"));
        sh("ip link set v0 down");
        net.until("no way", || !net.routes("").contains("10.0.0.0/24"));
        sh("ip link del v0");
        let nothing = "Route Table:\n\
            Cached: 127.0.0.1/32 dev lo SRC 127.0.0.1 local\n\
            Cached: 127.0.0.0/8 dev lo SRC 127.0.0.1 local\n";
        net.until("nothing but ourselves", || net.routes("") == nothing);
    });
}

/// The bounds that keep the main loop going: so many changes a round, so many batches that wait. How long a round takes is
/// for the log to tell.
#[test]
fn half_a_million_routes() {
    alone("half_a_million_routes", |net| {
        two_links();
        let count = 500_000u32;
        let lines = (0..count).map(|n| {
            let [a, b, c, d] = (0x1400_0000 + n * 16).to_be_bytes();
            format!("route add {a}.{b}.{c}.{d}/28 via 10.0.0.9 dev v0\n")
        });
        let file = net.switch.file("routes");
        fs::write(&file, lines.collect::<String>()).expect("the sandbox is writable");
        let shown = || {
            let text = net.tool("ovs-appctl", "--format json netlink/show");
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
        };
        sh(&format!("ip -batch {}", file.display()));
        let here = |net: &Net| {
            let found = net.tool("ovs-appctl", "ovs/route/lookup 20.122.17.241");
            found == "src 10.0.0.1\ngateway 10.0.0.9\ndev v0\n"
        };
        let limit = Duration::from_secs(100);
        assert!(wait_until(limit, || shown()["routes"].as_u64() >= Some(count.into())), "{}", shown());
        assert!(wait_until(limit, || here(net)), "{}", shown());
        let end = shown();
        let number = |key: &str| end[key].as_u64().expect("a number");
        assert!(number("largest_round") <= 2048 && number("longest_queue") <= 16, "{end}");
        assert_eq!((number("round_limit"), number("refused")), (2048, 0), "{end}");
        sh("ip route flush dev v0");
        assert!(wait_until(limit, || shown()["routes"].as_u64() < Some(20)), "{}", shown());
    });
}

#[test]
fn devices_come_and_go() {
    alone("devices_come_and_go", |net| {
        net.tool("ovs-vsctl", "add-br br0 -- set bridge br0 datapath_type=netdev");
        let missing = net.switch.run(&net.kit, "ovs-vsctl", &["add-port", "br0", "v0"]);
        assert!(
            missing.stderr.contains("could not open network device v0 (No such device)"),
            "{}",
            missing.text()
        );
        two_links();
        net.until("the port is made when its device appears", || net.column("v0", "ofport") == "1");
        net.until("it is up", || net.column("v0", "link_state") == "up");
        assert_eq!(net.column("v0", "error"), "[]");
        assert_eq!(net.column("v0", "link_speed"), "10000000000");
        assert_eq!(net.column("v0", "duplex"), "full");
        assert!(net.column("v0", "status").contains("driver_name=veth"));
        sh("ip link set v0 mtu 1400");
        net.until("its MTU is told", || net.column("v0", "mtu") == "1400");
        let index = net.column("v0", "ifindex");
        let resets = || net.column("v0", "link_resets").parse::<u32>().expect("a number");
        let before = resets();
        for state in ["down", "up"] {
            sh(&format!("ip link set v1 {state}"));
            net.until("its carrier is told", || net.column("v0", "link_state") == state);
        }
        net.until("its carrier's comings and goings are counted", || resets() >= before + 2);
        sh("ip link del v0");
        net.until("it is told as gone", || net.column("v0", "ifindex") == "0");
        assert_eq!(net.column("v0", "admin_state"), "down");
        assert_eq!(net.column("v0", "mac_in_use"), "[]");
        assert!(net.tool("ovs-ofctl", "show br0").contains(" 1(v0): addr:00:00:00:00:00:00\n"));
        two_links();
        net.until("it is back", || !["0", &index].contains(&net.column("v0", "ifindex").as_str()));
        net.tool("ovs-ofctl", "del-flows br0");
        net.tool("ovs-ofctl", "add-flow br0 in_port=1,actions=drop");
        net.until("and packets come in by it", || {
            let _ = Command::new("ping").args(["-c1", "-W1", "-I", "v1", "10.0.0.77"]).output();
            !net.tool("ovs-ofctl", "dump-flows br0").contains("n_packets=0,")
        });
    });
}

#[test]
fn queues_are_classes_and_stay_over_a_restart() {
    alone("queues_are_classes_and_stay_over_a_restart", |net| {
        two_links();
        net.tool("ovs-vsctl", "add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 v0");
        net.tool(
            "ovs-vsctl",
            "set port v0 qos=@q -- --id=@q create qos type=linux-htb other_config:max-rate=1000000000 queues=1=@a \
             -- --id=@a create queue other_config:min-rate=10000000 other_config:max-rate=50000000",
        );
        let expected = "class htb 1:1 parent 1:fffe prio 0 rate 12Kbit ceil 1Gbit burst 1563b cburst 1500b \n\
            class htb 1:2 parent 1:fffe prio 0 rate 10Mbit ceil 50Mbit burst 1563b cburst 1562b \n\
            class htb 1:fffe root rate 1Gbit ceil 1Gbit burst 1375b cburst 1375b \n";
        assert_eq!(sh("tc class show dev v0 | sort"), expected);
        net.until("packets use the default queue", || {
            let _ = Command::new("ping").args(["-c1", "-W1", "-I", "v0", "10.0.0.77"]).output();
            !net.tool("ovs-ofctl", "queue-stats br0 1 0").contains("pkts=0,")
        });
        let pid = net.switch.pid("ovs-vswitchd").expect("it runs");
        sh(&format!("kill -9 {pid}; while [ -e /proc/{pid} ]; do sleep 0.05; done"));
        net.switch.start_switch(&[]);
        assert_eq!(sh("tc class show dev v0 | sort"), expected);
        let stats = net.tool("ovs-ofctl", "queue-stats br0 1 0");
        assert!(!stats.contains("pkts=0,"), "the class is the same one: {stats}");
        let shown = net.tool("ovs-appctl", "qos/show v0");
        let queue = "Queue 1:\n  burst: 12512\n  min-rate: 10000000\n  max-rate: 50000000\n  tx_packets: 0\n";
        assert!(shown.starts_with("QoS: v0 linux-htb\nmax-rate: 1000000000\n\nDefault:\n"), "{shown}");
        assert!(shown.contains(queue), "{shown}");
        net.tool("ovs-vsctl", "clear port v0 qos");
        assert_eq!(sh("tc class show dev v0"), "");
        assert_eq!(net.tool("ovs-appctl", "qos/show v0"), "QoS not configured on v0\n");
    });
}
