//! Hosts for traffic: network namespaces, each with one veth whose other end is a port of the switch.

use std::process::{Command, Output, Stdio};

/// A namespace with an interface `eth0`; removed when dropped, with its veth.
pub struct Host {
    /// The namespace's name and the name of the veth's end outside, at most 15 bytes.
    pub name: String,
}

impl Host {
    /// Makes the host; `address4` and `address6` come with their prefix lengths.
    ///
    /// # Panics
    /// If the kernel refuses: it takes root.
    pub fn new(name: &str, address4: &str, address6: &str) -> Self {
        let name = format!("{name}-{:x}", std::process::id());
        assert!(name.len() <= 15, "{name} is too long for an interface");
        ip(&["netns", "add", &name]);
        let host = Self { name };
        let name = &host.name;
        ip(&["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name]);
        ip(&["link", "set", name, "up"]);
        for rest in [
            &["link", "set", "lo", "up"][..],
            &["link", "set", "eth0", "up"],
            &["addr", "add", address4, "dev", "eth0"],
            &["addr", "add", address6, "dev", "eth0", "nodad"],
        ] {
            ip(&[&["-n", name], rest].concat());
        }
        host
    }

    /// A command that runs inside.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command inside to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        self.command(program, args).output().expect("ip can be started")
    }

    /// The MAC address of `eth0`.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn mac(&self) -> String {
        let out = self.run("cat", &["/sys/class/net/eth0/address"]);
        String::from_utf8(out.stdout).expect("an address is text").trim().to_owned()
    }

    /// Sets the MTU of both ends.
    pub fn set_mtu(&self, mtu: u32) {
        let mtu = mtu.to_string();
        ip(&["link", "set", &self.name, "mtu", &mtu]);
        ip(&["-n", &self.name, "link", "set", "eth0", "mtu", &mtu]);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.name]).stderr(Stdio::null()).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

fn ip(args: &[&str]) {
    let out = Command::new("ip").args(args).output().expect("iproute2 is installed");
    assert!(out.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}
