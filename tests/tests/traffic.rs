//! Real packets: three hosts on one bridge of the userspace datapath.

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::hosts::Host;
use tests::kit::Kit;
use tests::sandbox::{Sandbox, wait_until};

/// A switch with three hosts on `br0`, ports 1 to 3.
struct Net {
    switch: Sandbox,
    kit: Kit,
    hosts: Vec<Host>,
    /// One switch at a time: the devices `ovs-netdev` and `br0` are the machine's.
    _turn: fs::File,
}

impl Net {
    /// `tag` tells namespaces of tests that run at the same time apart; `net` is the third byte of the addresses.
    fn new(tag: &str, net: u8) -> Self {
        let kit = Kit::ours();
        let turn =
            fs::File::create(std::env::temp_dir().join("turnout-traffic.lock")).expect("a writable folder");
        turn.lock().expect("nobody else keeps the lock for ever");
        let switch = Sandbox::new(&kit);
        switch.start_database();
        switch.start_switch(&[]);
        let net = Self {
            hosts: (1..=3)
                .map(|n| {
                    Host::new(
                        &format!("{tag}{n}"),
                        &format!("10.77.{net}.{n}/24"),
                        &format!("fd77:{net}::{n}/64"),
                    )
                })
                .collect(),
            switch,
            kit,
            _turn: turn,
        };
        net.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"]);
        for (n, host) in net.hosts.iter().enumerate() {
            let request = format!("ofport_request={}", n + 1);
            net.vsctl(&["add-port", "br0", &host.name, "--", "set", "interface", &host.name, &request]);
        }
        net
    }

    fn vsctl(&self, args: &[&str]) -> String {
        self.tool("ovs-vsctl", args)
    }

    fn tool(&self, program: &str, args: &[&str]) -> String {
        let ran = self.switch.run(&self.kit, program, args);
        assert_eq!(ran.status, Some(0), "{program} {args:?}: {}\n{}", ran.text(), self.switch.log());
        ran.stdout
    }

    fn ping(&self, from: usize, args: &[&str]) {
        let out = self.hosts[from].run("ping", args);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(text.contains(" 0% packet loss"), "ping {args:?}: {text}\n{}", self.switch.log());
    }

    fn no_errors(&self) {
        let log = self.switch.log();
        let bad: Vec<&str> =
            log.lines().filter(|line| line.contains("|ERR|") || line.contains("|EMER|")).collect();
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn iperf_server(host: &Host) -> Running {
    let child = host.command("iperf3", &["-s"]).stdout(Stdio::null()).spawn().expect("iperf3 is installed");
    sleep(Duration::from_millis(500));
    Running(child)
}

/// What an iperf3 client measured, as its JSON.
fn iperf(host: &Host, args: &[&str]) -> serde_json::Value {
    let run = || {
        let out = host.run("iperf3", &[&["-J"], args].concat());
        serde_json::from_slice::<serde_json::Value>(&out.stdout).expect("iperf3 -J prints JSON")
    };
    // The server takes one client at a time and is not ready for the next at once.
    for _ in 0..20 {
        let json = run();
        if json.get("error").is_none() {
            return json;
        }
        sleep(Duration::from_millis(250));
    }
    run()
}

#[test]
fn three_hosts_reach_each_other() {
    let net = Net::new("tr", 1);
    // The first ping teaches addresses; what follows must not lose a packet.
    net.hosts[0].run("ping", &["-c", "1", "-W", "2", "10.77.1.2"]);
    net.ping(0, &["-c", "50", "-i", "0.01", "-W", "2", "10.77.1.2"]);
    net.ping(1, &["-c", "20", "-i", "0.01", "-W", "2", "10.77.1.3"]);
    net.ping(2, &["-6", "-c", "20", "-i", "0.01", "-W", "2", "fd77:1::1"]);
    net.ping(0, &["-s", "1400", "-c", "20", "-i", "0.01", "-W", "2", "10.77.1.2"]);
    // Fragmented by the sender.
    net.ping(0, &["-s", "6000", "-c", "10", "-i", "0.01", "-W", "2", "10.77.1.3"]);
    let table = net.tool("ovs-appctl", &["fdb/show", "br0"]);
    for host in &net.hosts {
        assert!(table.contains(&host.mac()), "{table}");
    }
    net.no_errors();
}

#[test]
fn tcp_and_udp_streams_pass() {
    let net = Net::new("ts", 2);
    let _server = iperf_server(&net.hosts[1]);
    net.hosts[0].run("ping", &["-c", "1", "-W", "2", "10.77.2.2"]);
    let tcp = iperf(&net.hosts[0], &["-c", "10.77.2.2", "-t", "2"]);
    assert!(tcp["end"]["sum_received"]["bytes"].as_u64() > Some(1_000_000), "{tcp}");
    let udp = iperf(&net.hosts[0], &["-c", "10.77.2.2", "-u", "-b", "20M", "-l", "1200", "-t", "2"]);
    assert_eq!(udp["end"]["sum"]["lost_packets"].as_u64(), Some(0), "{udp}");
    net.no_errors();
}

#[test]
fn jumbo_frames_pass() {
    let net = Net::new("tj", 3);
    for host in &net.hosts {
        host.set_mtu(9000);
    }
    net.hosts[0].run("ping", &["-c", "1", "-W", "2", "10.77.3.2"]);
    net.ping(0, &["-M", "do", "-s", "8900", "-c", "10", "-i", "0.01", "-W", "2", "10.77.3.2"]);
    let _server = iperf_server(&net.hosts[1]);
    let tcp = iperf(&net.hosts[0], &["-c", "10.77.3.2", "-t", "1"]);
    assert!(tcp["end"]["sum_received"]["bytes"].as_u64() > Some(1_000_000), "{tcp}");
    net.no_errors();
}

#[test]
fn an_internal_port_is_a_host_too() {
    let net = Net::new("ti", 4);
    let port = format!("tip-{:x}", std::process::id());
    net.vsctl(&["add-port", "br0", &port, "--", "set", "interface", &port, "type=internal"]);
    let namespace = &net.hosts[2].name;
    for args in [
        &["link", "set", &port, "netns", namespace][..],
        &["-n", namespace, "link", "set", &port, "up"],
        &["-n", namespace, "addr", "add", "10.77.40.1/24", "dev", &port],
        &["-n", &net.hosts[0].name, "addr", "add", "10.77.40.2/24", "dev", "eth0"],
    ] {
        assert!(
            Command::new("ip").args(args).status().expect("iproute2 is installed").success(),
            "ip {args:?}"
        );
    }
    net.hosts[0].run("ping", &["-c", "1", "-W", "2", "10.77.40.1"]);
    net.ping(0, &["-c", "10", "-i", "0.01", "-W", "2", "10.77.40.1"]);
    let _server = iperf_server(&net.hosts[0]);
    let tcp = iperf(&net.hosts[2], &["-c", "10.77.40.2", "-t", "1"]);
    assert!(tcp["end"]["sum_received"]["bytes"].as_u64() > Some(1_000_000), "{tcp}");
    net.no_errors();
}

#[test]
fn vlans_keep_hosts_apart() {
    let net = Net::new("tv", 5);
    for (n, tag) in [(0, 10), (1, 10), (2, 20)] {
        net.vsctl(&["set", "port", &net.hosts[n].name, &format!("tag={tag}")]);
    }
    net.hosts[0].run("ping", &["-c", "1", "-W", "2", "10.77.5.2"]);
    net.ping(0, &["-c", "10", "-i", "0.01", "-W", "2", "10.77.5.2"]);
    let out = net.hosts[0].run("ping", &["-c", "2", "-i", "0.1", "-W", "1", "10.77.5.3"]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("100% packet loss"));
    net.no_errors();
}

#[test]
fn flow_counters_count_every_packet() {
    let net = Net::new("tc", 6);
    net.tool("ovs-ofctl", &["add-flow", "br0", "priority=10,icmp,nw_dst=10.77.6.2,actions=normal"]);
    net.hosts[0].run("ping", &["-c", "1", "-W", "2", "10.77.6.2"]);
    net.ping(0, &["-c", "39", "-i", "0.01", "-W", "2", "10.77.6.2"]);
    net.tool("ovs-appctl", &["revalidator/wait"]);
    let counted = wait_until(Duration::from_secs(5), || {
        net.tool("ovs-ofctl", &["dump-flows", "br0", "icmp"]).contains("n_packets=40, n_bytes=3920,")
    });
    assert!(counted, "{}", net.tool("ovs-ofctl", &["dump-flows", "br0"]));
}

#[test]
fn a_missing_interface_stops_nothing_else() {
    let net = Net::new("tm", 7);
    let ran = net.switch.run(&net.kit, "ovs-vsctl", &["add-port", "br0", "nosuchdev"]);
    assert_eq!(ran.status, Some(65), "{}", ran.text());
    assert!(
        ran.stderr.contains("could not open network device nosuchdev (No such device)"),
        "{}",
        ran.text()
    );
    let error = net.vsctl(&["get", "interface", "nosuchdev", "error"]);
    assert_eq!(error, "\"could not open network device nosuchdev (No such device)\"\n");
    net.hosts[0].run("ping", &["-c", "1", "-W", "2", "10.77.7.2"]);
    net.ping(0, &["-c", "5", "-i", "0.01", "-W", "2", "10.77.7.2"]);
}

#[test]
fn sflow_samples_decode_clean() {
    let net = Net::new("tf", 8);
    let collector = UdpSocket::bind("127.0.0.1:0").expect("a free port on loopback");
    let target =
        format!("targets=\"127.0.0.1:{}\"", collector.local_addr().expect("a bound socket has one").port());
    net.vsctl(&[
        "--",
        "--id=@s",
        "create",
        "sflow",
        "agent=lo",
        "header=128",
        "sampling=2",
        "polling=1",
        &target,
        "--",
        "set",
        "bridge",
        "br0",
        "sflow=@s",
    ]);
    net.hosts[0].run("ping", &["-c", "200", "-i", "0.005", "-W", "2", "10.77.8.2"]);
    collector.set_read_timeout(Some(Duration::from_millis(1500))).expect("a valid timeout");
    let mut pcap = pcap_header();
    let mut buffer = [0; 2048];
    let mut datagrams = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3)
        && let Ok(n) = collector.recv(&mut buffer)
    {
        add_datagram(&mut pcap, &buffer[..n]);
        datagrams += 1;
    }
    assert!(datagrams >= 2, "{datagrams} datagrams\n{}", net.switch.log());
    let file = net.switch.file("sflow.pcap");
    fs::write(&file, pcap).expect("the sandbox is writable");
    let out = Command::new("tshark")
        .args(["-r", &file.to_string_lossy(), "-V", "-d", "udp.port==6343,sflow"])
        .output()
        .expect("tshark is installed");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("Flow sample"), "{text}");
    assert!(text.contains("Counters sample"), "{text}");
    // tshark 4.0 knows neither the OpenFlow port, port name nor application records that OVS sends too, and loses its
    // place behind one; whatever it knows it must read without complaint.
    let (strange, known): (Vec<&str>, Vec<&str>) =
        text.split("\nFrame ").partition(|frame| frame.contains("Format: Unknown"));
    assert!(!known.is_empty(), "{text}");
    for frame in known {
        assert!(!frame.contains("Malformed") && !frame.contains("Expert Info (Error"), "{frame}");
    }
    for frame in strange {
        let first = frame.lines().find(|line| line.contains("Format: Unknown")).unwrap_or_default();
        assert!(
            ["(1004)", "(1005)", "(2203)", "(2207)"].iter().any(|format| first.ends_with(format)),
            "{first}"
        );
    }
}

fn pcap_header() -> Vec<u8> {
    let words: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Adds a datagram to port 6343 as a frame of Ethernet, IPv4 and UDP.
fn add_datagram(pcap: &mut Vec<u8>, payload: &[u8]) {
    let ip_length = u16::try_from(28 + payload.len()).expect("a datagram is short");
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(ip_length.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    frame.extend(6343u16.to_be_bytes());
    frame.extend(6343u16.to_be_bytes());
    frame.extend((ip_length - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    let length = u32::try_from(frame.len()).expect("a frame is short").to_ne_bytes();
    pcap.extend([0; 8]);
    pcap.extend(length);
    pcap.extend(length);
    pcap.extend(frame);
}
