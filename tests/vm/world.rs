//! One test's world: a switch of the kernel's datapath and hosts around it, in the namespaces that the runner made.

use std::fmt::Write as _;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::kit::Kit;
use tests::sandbox::{Ran, Sandbox, wait_until};

/// A switch, its tools and its hosts.
pub struct World {
    pub switch: Sandbox,
    /// The daemons are of a release before the one whose behaviour is ours.
    pub older: bool,
    /// The daemons are the peer's.
    pub peer: bool,
    path: String,
}

/// A process that ends with its handle.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long something may take to come about on an emulated, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// Starts the database server and the switch.
    pub fn new(kit: &Kit) -> Self {
        let world = Self::bare(kit);
        world.switch.start_database();
        world.switch.start_switch(&[]);
        world
    }

    /// No daemon runs yet.
    pub fn bare(kit: &Kit) -> Self {
        let mut path = kit.dirs().iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
        let _ = write!(path, ":{}", std::env::var("PATH").unwrap_or_default());
        let mounts =
            "mkdir -p $TMPDIR; mount -t tmpfs tmp $TMPDIR; mount -t sysfs sysfs /sys; mkdir -p /run/netns
            mount -t tmpfs netns /run/netns; ip link set lo up";
        let status = Command::new("bash").args(["-euc", mounts]).status().expect("bash can be started");
        assert!(status.success(), "the test's own mounts: {status}");
        let peer = kit.name == "peer";
        let older = peer && Kit::peer_is_older();
        Self { switch: Sandbox::new(kit), older, peer, path }
    }

    /// Runs a shell script to its end; its standard output.
    ///
    /// # Panics
    /// If a command of it fails.
    pub fn sh(&self, script: &str) -> String {
        let ran = self.try_sh(script);
        assert_eq!(ran.status, Some(0), "{script}\n{}\n{}", ran.text(), self.evidence());
        ran.stdout
    }

    /// Runs a shell script to its end, or for four minutes.
    pub fn try_sh(&self, script: &str) -> Ran {
        let start = Instant::now();
        let child = self.shell(script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let ran = finish(child.expect("bash can be started"), Duration::from_secs(240));
        if std::env::var_os("TURNOUT_VM_TIMES").is_some() {
            eprintln!("{:8.3} s  {script}", start.elapsed().as_secs_f32());
        }
        ran
    }

    /// Runs a shell script until the handle is dropped; its output goes to `file` of the sandbox.
    pub fn spawn(&self, script: &str, file: &str) -> Running {
        self.spawn_with(script, file, Stdio::null())
    }

    /// As [`Self::spawn`], with something to read.
    pub fn spawn_with(&self, script: &str, file: &str, input: Stdio) -> Running {
        let out = std::fs::File::create(self.switch.file(file)).expect("the sandbox is writable");
        let err = out.try_clone().expect("a descriptor is free");
        let script = format!("exec {script}");
        Running(
            self.shell(&script).stdin(input).stdout(out).stderr(err).spawn().expect("bash can be started"),
        )
    }

    /// What is in `file` of the sandbox so far.
    pub fn read(&self, file: &str) -> String {
        let bytes = std::fs::read(self.switch.file(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `check` holds.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`].
    pub fn until(&self, what: &str, check: impl FnMut() -> bool) {
        assert!(wait_until(PATIENCE, check), "not within {PATIENCE:?}: {what}\n{}", self.evidence());
    }

    /// Bridge `name`, with the one flow NORMAL that new bridges have.
    pub fn bridge(&self, name: &str) {
        self.sh(&format!("ovs-vsctl add-br {name}; ip link set {name} up"));
    }

    /// Host `name`: a namespace whose `eth0` is port `number` (its device is `p-NAME`) of `bridge`, with addresses
    /// `10.1.0.NUMBER/24` and `fd01::NUMBER/64`. `more` is added to the `ovs-vsctl` command.
    pub fn host_with(&self, name: &str, bridge: &str, number: u8, more: &str) {
        self.namespace(name, number);
        self.sh(&format!(
            "ovs-vsctl add-port {bridge} p-{name} {more} -- set interface p-{name} ofport_request={number}"
        ));
    }

    /// As [`Self::host_with`], with nothing added.
    pub fn host(&self, name: &str, bridge: &str, number: u8) {
        self.host_with(name, bridge, number, "");
    }

    /// The namespace of a host, not yet a port of a bridge.
    pub fn namespace(&self, name: &str, number: u8) {
        self.sh(&format!(
            "ip -batch - << END
netns add {name}
link add p-{name} type veth peer name eth0 netns {name} address {mac}
link set p-{name} up
END
ip -n {name} -batch - << END
link set lo up
link set eth0 up
addr add {ip}/24 dev eth0
addr add {ip6}/64 dev eth0 nodad
END",
            mac = mac(number),
            ip = ip(number),
            ip6 = ip6(number),
        ));
    }

    /// Host `name` computes checksums itself, so that what is watched has them.
    pub fn checksums(&self, name: &str) {
        self.sh(&format!("ip netns exec {name} ethtool -K eth0 tx off > /dev/null"));
    }

    /// Runs a command in host `name`.
    pub fn at(&self, name: &str, command: &str) -> String {
        self.sh(&format!("ip netns exec {name} {command}"))
    }

    /// Host `from` reaches `to`: within [`PATIENCE`], then with ten packets out of ten.
    pub fn ping(&self, from: &str, to: &str) {
        self.until(&format!("{from} reaches {to}"), || {
            self.try_sh(&format!("ip netns exec {from} ping -q -c 1 -W 1 {to}")).status == Some(0)
        });
        let text = self.at(from, &format!("ping -q -c 10 -i 0.05 -W 3 {to}"));
        assert!(text.contains(" 0% packet loss"), "{from} to {to}: {text}\n{}", self.evidence());
    }

    /// Host `from` does not reach `to`.
    pub fn no_ping(&self, from: &str, to: &str) {
        let ran = self.try_sh(&format!("ip netns exec {from} ping -q -c 3 -i 0.2 -W 1 {to}"));
        assert!(
            ran.stdout.contains("100% packet loss"),
            "{from} to {to}: {}\n{}",
            ran.text(),
            self.evidence()
        );
    }

    /// TCP from host `from` to `to` carries a mebibyte unharmed. The server stands in host `server`.
    pub fn tcp(&self, from: &str, to: &str, server: &str) {
        let (sent, received) = (self.switch.file("tcp.in"), self.switch.file("tcp.out"));
        let data: Vec<u8> =
            (0..1u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        std::fs::write(&sent, &data).expect("the sandbox is writable");
        let family = if to.contains(':') { "-6" } else { "-4" };
        let mut listener = self
            .spawn(&format!("ip netns exec {server} nc {family} -l 5001 > {}", received.display()), "nc.out");
        self.until("the server listens", || self.at(server, "ss -tln").contains(":5001 "));
        self.at(from, &format!("nc {family} -N -w 20 {to} 5001 < {}", sent.display()));
        self.until("the server has everything", || matches!(listener.0.try_wait(), Ok(Some(_))));
        assert!(
            std::fs::read(&received).is_ok_and(|got| got == data),
            "TCP from {from} to {to} brought other data"
        );
    }

    /// Frames that `device` in host `name` (or in the switch's own namespace, if empty) sees while `traffic` runs, as
    /// tcpdump tells them.
    pub fn watch(&self, name: &str, device: &str, filter: &str, traffic: impl FnOnce()) -> String {
        let inside = if name.is_empty() { String::new() } else { format!("ip netns exec {name} ") };
        let mut dump = self.spawn(&format!("{inside}tcpdump -i {device} -nn -e -l -v {filter}"), "watch.txt");
        self.until("tcpdump listens", || self.read("watch.txt").contains("listening on"));
        traffic();
        std::thread::sleep(Duration::from_millis(500));
        let _ = Command::new("kill").args(["-INT", &dump.0.id().to_string()]).status();
        self.until("tcpdump ends", || matches!(dump.0.try_wait(), Ok(Some(_))));
        self.read("watch.txt")
    }

    /// Waits until the kernel's flows follow what was configured.
    pub fn settle(&self) {
        self.sh("ovs-appctl revalidator/wait; ovs-appctl revalidator/wait");
    }

    /// The kernel's datapath flows, fresh.
    pub fn flows(&self) -> String {
        self.sh("ovs-appctl dpctl/dump-flows -m")
    }

    /// The datapath's flows of a kind (`type=…`) with their places: each says where it is, and if not in hardware, why.
    ///
    /// # Panics
    /// If one does not.
    pub fn placed(&self, kind: &str) -> String {
        let shown = self.sh(&format!("ovs-appctl dpctl/dump-flows --names --why type={kind}"));
        check_places(&shown);
        shown
    }

    /// Waits until a flow of `bridge` that matches `filter` has counted `packets`.
    pub fn counts(&self, bridge: &str, filter: &str, packets: u64) {
        let want = format!("n_packets={packets},");
        self.until(&format!("{filter} counts {packets}"), || {
            self.sh("ovs-appctl revalidator/wait");
            self.sh(&format!("ovs-ofctl dump-flows {bridge} '{filter}'")).contains(&want)
        });
    }

    /// The switch lives, knows why its flows are where they are, and logged no error.
    ///
    /// # Panics
    /// If not.
    pub fn check_end(&self) {
        self.sh("ovs-appctl version");
        if !self.peer {
            let all = "for dp in $(ovs-appctl dpctl/dump-dps); do ovs-appctl dpctl/dump-flows --names --why $dp; done";
            check_places(&self.sh(all));
        }
        let log = self.switch.log();
        let bad: Vec<&str> = log
            .lines()
            .filter(|line| ["|ERR|", "|EMER|", "panicked"].iter().any(|word| line.contains(word)))
            .collect();
        assert!(bad.is_empty(), "in the log:\n{}", bad.join("\n"));
    }

    /// The kernel complained of nothing.
    ///
    /// # Panics
    /// If it did.
    pub fn check_kernel(&self) {
        let log = self.sh("dmesg");
        let bad =
            ["BUG:", "BUG ", "Oops", "WARNING:", "refcount_t", "unregister_netdevice: waiting", "suspicious"];
        let told: Vec<&str> = log.lines().filter(|line| bad.iter().any(|word| line.contains(word))).collect();
        assert!(told.is_empty(), "the kernel's log:\n{}", told.join("\n"));
    }

    /// What helps to understand a failure.
    fn evidence(&self) -> String {
        let log = self.switch.log();
        let tail =
            log.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        let look = "ovs-appctl dpctl/dump-flows -m
            ovs-ofctl -O OpenFlow15 dump-flows $(ovs-vsctl list-br | head -n 1)
            ovs-vsctl show";
        let state = self.try_sh(look);
        format!("-- the log's end:\n{tail}\n-- state:\n{}", state.text())
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-euc", script])
            .current_dir(self.switch.dir())
            .env("PATH", &self.path)
            .stdin(Stdio::null());
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVS_LOGDIR"] {
            command.env(variable, self.switch.dir());
        }
        command.process_group(0);
        command
    }
}

/// Every flow of a dump with `--why` says where it is, and if not in hardware, why.
fn check_places(shown: &str) {
    for line in shown.lines().filter(|line| line.contains("actions:")) {
        let place = line.rsplit_once(", placement:").map(|(_, place)| place);
        let place = place.map(|place| place.split_once(", why:").unwrap_or((place, "")));
        let told = match place {
            Some(("hardware" | "partial", why)) => why.is_empty(),
            Some(("tc" | "software", why)) => !why.is_empty(),
            _ => false,
        };
        assert!(told, "a flow that does not say where it is, or why: {line}");
    }
}

/// What `child` prints and how it ends; with its whole group it is killed after `limit`.
fn finish(mut child: Child, limit: Duration) -> Ran {
    let group = format!("-{}", child.id());
    let collect = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = child.stdout.take();
    let err = child.stderr.take();
    let out = collect(out.map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let err = collect(err.map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.code(),
            Ok(None) if start.elapsed() < limit => std::thread::sleep(pause),
            _ => {
                let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
                let _ = child.wait();
                break None;
            }
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let [stdout, stderr] = [out, err].map(|thread| text(thread.join().unwrap_or_default()));
    Ran { stdout, stderr, status }
}

/// The MAC address of host `number`.
pub fn mac(number: u8) -> String {
    format!("0e:00:00:00:00:{number:02x}")
}

/// The address of host `number`.
pub fn ip(number: u8) -> String {
    Ipv4Addr::new(10, 1, 0, number).to_string()
}

/// The IPv6 address of host `number`.
pub fn ip6(number: u8) -> String {
    format!("fd01::{number:x}")
}
