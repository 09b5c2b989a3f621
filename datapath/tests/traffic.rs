//! Real traffic: three namespaces joined by the userspace datapath over veth ports. Needs root, `ip`, `ping` and `iperf3`; without
//! them the test says so and passes.
//!
//! The switch runs in a namespace of its own: this program, started again there as the ignored test `switch`.

use std::collections::HashMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use datapath::Datapath;
use datapath::netdev::{Flags, Netdevs};
use datapath::upcall::{Answer, Handler, Install, Upcall};
use datapath::user::{Engine, Setup};
use flow::action::Action;
use flow::id::DpPort;
use flow::key::{EthAddr, Mask};
use flow::time::{Clock, Instant, WallTime};

struct Real(std::time::Instant);

impl Clock for Real {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _deadline: Instant, _waker: &Waker) {}
}

/// A learning switch.
struct Learning {
    macs: Mutex<HashMap<EthAddr, u32>>,
    ports: Vec<u32>,
}

impl Handler for Learning {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        let (key, in_port) = (upcall.key, upcall.in_port.0);
        let mut macs = self.macs.lock().unwrap();
        macs.insert(key.dl_src, in_port);
        let Some(&to) = macs.get(&key.dl_dst) else {
            let others = self.ports.iter().filter(|&&port| port != in_port);
            return Some(Answer {
                execute: others.map(|&port| Action::Output(DpPort(port))).collect(),
                install: None,
            });
        };
        let mut mask = Mask::default();
        (mask.0.dl_src, mask.0.dl_dst) = ([0xff; 6], [0xff; 6]);
        (mask.0.recirc_id, mask.0.dl_type) = (u32::MAX, u16::MAX.into());
        let actions = vec![Action::Output(DpPort(to))];
        let actions: Arc<[_]> = actions.into();
        Some(Answer {
            execute: Arc::clone(&actions),
            install: Some(Install { mask: Box::new(mask), actions }),
        })
    }
}

#[test]
#[ignore = "started by `namespaces` in a namespace of its own"]
fn switch() {
    let devices = Netdevs::new();
    let clock = Arc::new(Real(std::time::Instant::now()));
    let setup =
        Setup { name: "ovs-netdev".into(), kind: "netdev".into(), dummy: false, clock, seed: 1, cores: None };
    let engine = Engine::new(setup, &devices).unwrap();
    let mut ports = Vec::new();
    for (name, kind) in [("p1", "system"), ("p2", "system"), ("p3", "system"), ("br0", "internal")] {
        let device = devices.open(name, engine.port_open_type(kind)).unwrap();
        ports.push(engine.port_add(&device, None).unwrap().0);
        device.update_flags(Flags::empty(), Flags::UP).unwrap();
    }
    assert!(
        Command::new("ip").args(["addr", "add", "10.9.0.9/24", "dev", "br0"]).status().unwrap().success()
    );
    engine.set_handler(Some(Arc::new(Learning { macs: Mutex::default(), ports })));
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    for stats in datapath::user::show::PmdStats::of(&engine, None).0 {
        println!("{stats}");
    }
    println!("{}", datapath::user::show::Graphs::of(&engine));
    let stats = engine.worker_stats();
    println!("no memory {}, drops {:?}", stats.no_memory, stats.drops);
}

static NAMES: AtomicU32 = AtomicU32::new(0);

/// Namespaces that go when this does.
struct Spaces(Vec<String>);

impl Spaces {
    fn add(&mut self) -> String {
        let name = format!("tt{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        self.0.push(name.clone());
        name
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A program that ends when this does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Packets that the kernel counted on the host's interface, `tx` or `rx`.
fn counted(space: &str, way: &str) -> u64 {
    let path = format!("/sys/class/net/eth0/statistics/{way}_packets");
    expect_in(space, &["cat", &path]).trim().parse().unwrap()
}

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().unwrap().success(), "ip {args:?}");
}

fn run_in(space: &str, command: &[&str]) -> (bool, String) {
    let output = Command::new("ip").args(["netns", "exec", space]).args(command).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn expect_in(space: &str, command: &[&str]) -> String {
    let (success, text) = run_in(space, command);
    assert!(success, "{command:?}: {text}");
    text
}

fn available(program: &str) -> bool {
    Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn start_switch(space: &str) -> Running {
    let me = std::env::current_exe().unwrap();
    let mut child = Command::new("ip")
        .args(["netns", "exec", space])
        .arg(me)
        .args(["--exact", "switch", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = String::new();
    let out = child.stdout.as_mut().unwrap();
    while !seen.contains("ready\n") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the switch starts: {seen}");
        seen.push(char::from(byte[0]));
    }
    Running(child)
}

#[test]
fn namespaces() {
    let root = std::fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t0");
    if !root || !available("ip") || !available("ping") || !available("iperf3") {
        eprintln!("skipped: needs root, ip, ping and iperf3");
        return;
    }
    let mut spaces = Spaces(Vec::new());
    let switch = spaces.add();
    let mut hosts = Vec::new();
    for n in 1..=3 {
        let host = spaces.add();
        let port = format!("p{n}");
        ip(&["link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", "eth0", "netns", &host]);
        ip(&["-n", &switch, "link", "set", &port, "up"]);
        ip(&["-n", &host, "link", "set", "lo", "up"]);
        ip(&["-n", &host, "addr", "add", &format!("10.9.0.{n}/24"), "dev", "eth0"]);
        ip(&["-n", &host, "addr", "add", &format!("fd09::{n}/64"), "dev", "eth0", "nodad"]);
        ip(&["-n", &host, "link", "set", "eth0", "up"]);
        hosts.push(host);
    }
    let mut child = start_switch(&switch);
    for to in ["10.9.0.2", "10.9.0.3", "10.9.0.9", "fd09::2", "fd09::3"] {
        expect_in(&hosts[0], &["ping", "-c", "5", "-i", "0.05", "-W", "2", to]);
    }
    // Frames of full and of jumbo size, in fragments and in one.
    expect_in(&hosts[0], &["ping", "-c", "3", "-i", "0.05", "-M", "do", "-s", "1472", "10.9.0.2"]);
    expect_in(&hosts[0], &["ping", "-c", "3", "-i", "0.05", "-s", "20000", "10.9.0.2"]);
    let mut servers: Vec<Child> = Vec::new();
    for space in [&hosts[1], &switch] {
        let server =
            Command::new("ip").args(["netns", "exec", space, "iperf3", "-s"]).stdout(Stdio::null()).spawn();
        servers.push(server.unwrap());
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    for to in ["10.9.0.2", "fd09::2", "10.9.0.9"] {
        let text = expect_in(&hosts[0], &["iperf3", "-c", to, "-t", "2"]);
        println!("TCP to {to}: {}", text.lines().rfind(|line| line.contains("receiver")).unwrap_or_default());
    }
    // A receiver that got no processor time loses datagrams in its own socket; what counts is what reached its interface.
    let (sent, reached) = (counted(&hosts[0], "tx"), counted(&hosts[1], "rx"));
    let text = expect_in(&hosts[0], &["iperf3", "-u", "-b", "100M", "-c", "10.9.0.2", "-t", "2"]);
    println!("UDP: {}", text.lines().rfind(|line| line.contains("receiver")).unwrap_or_default());
    let sent = counted(&hosts[0], "tx") - sent;
    let delivered = || counted(&hosts[1], "rx") - reached;
    // The last ones may still be on their way.
    for _ in 0..40 {
        if delivered() < sent {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    let reached = delivered();
    assert!(sent > 1000 && reached >= sent, "{sent} packets sent, {reached} delivered:\n{text}");
    for port in ["p1", "p2"] {
        ip(&["-n", &switch, "link", "set", port, "mtu", "9000"]);
    }
    for host in &hosts[..2] {
        ip(&["-n", host, "link", "set", "eth0", "mtu", "9000"]);
    }
    expect_in(&hosts[0], &["ping", "-c", "3", "-i", "0.05", "-M", "do", "-s", "8972", "10.9.0.2"]);
    drop(child.0.stdin.take());
    let mut rest = String::new();
    child.0.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    println!("{rest}");
}
