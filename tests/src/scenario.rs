//! A scripted session, played on a sandbox into a transcript.
//!
//! One command a line; `#` starts a comment line, `\` at the end continues a line.
//!
//! | line | what it does |
//! |---|---|
//! | `bridge BR [SETTING…]` | adds a dummy bridge with a fixed datapath id and address, fail mode secure |
//! | `port BR NAME [SETTING…]` | adds a dummy port that records what it sends; `N` in `pN` is its OpenFlow port |
//! | `patch BR NAME PEER` | adds a patch port |
//! | `flow BR FLOW` | adds an OpenFlow flow (all protocol versions allowed) |
//! | `inject PORT PACKET` | `netdev-dummy/receive`: a flow in datapath syntax or hexadecimal bytes |
//! | `vsctl …`, `ofctl …`, `appctl …`, `dbclient …` | runs the program and records what it prints |
//! | `sort …` | runs what follows and records its lines sorted |
//!
//! At the end the datapath flows (sorted, `-m` left out) and every frame that left a port are recorded.

use std::fs;
use std::path::Path;

use crate::compare::{ct_behind_port, normalise};
use crate::kit::Kit;
use crate::sandbox::Sandbox;

/// A scenario as read from its file.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    lines: Vec<String>,
}

/// One step of a played scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub output: String,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let joined = text.replace("\\\n", " ");
        let lines = joined.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Self { name, lines: lines.map(str::to_string).collect() }
    }

    /// Plays the scenario with the tools of `clients` on fresh dummy daemons of `daemons`.
    pub fn play(&self, clients: &Kit, daemons: &Kit) -> Vec<Step> {
        let sandbox = Sandbox::dummy(daemons);
        let mut player = Player { sandbox: &sandbox, clients, ports: Vec::new(), steps: Vec::new() };
        for line in &self.lines {
            player.line(line);
        }
        player.finish();
        player.steps
    }
}

struct Player<'a> {
    sandbox: &'a Sandbox,
    clients: &'a Kit,
    ports: Vec<String>,
    steps: Vec<Step>,
}

impl Player<'_> {
    fn line(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let output = match verb {
            "bridge" => self.bridge(&words),
            "port" => self.port(&words),
            "patch" => self.patch(&words),
            "flow" => {
                let (bridge, flow) = rest.split_once(' ').expect("flow BR FLOW");
                self.tool("ovs-ofctl", &["-O", ALL_VERSIONS, "add-flow", bridge, flow])
            }
            "inject" => {
                let (port, packet) = rest.split_once(' ').expect("inject PORT PACKET");
                self.tool("ovs-appctl", &["netdev-dummy/receive", port, packet])
            }
            "vsctl" => self.tool("ovs-vsctl", &refs(&split(rest))),
            "ofctl" => self.tool("ovs-ofctl", &refs(&split(rest))),
            "appctl" => self.tool("ovs-appctl", &refs(&split(rest))),
            "dbclient" => self.tool("ovsdb-client", &refs(&split(rest))),
            "sort" => {
                self.line(rest);
                let step = self.steps.last_mut().expect("the line above recorded a step");
                step.output = sorted(&step.output);
                return;
            }
            _ => panic!("unknown line in a scenario: {line}"),
        };
        self.steps.push(Step { command: line.to_string(), output: normalise(&output) });
    }

    fn bridge(&self, words: &[&str]) -> String {
        let (bridge, settings) = words.split_first().expect("bridge BR");
        let number = bridge.trim_start_matches("br");
        let id = format!("other-config:datapath-id=fedcba987654321{number}");
        let mac = format!("other-config:hwaddr=aa:55:aa:55:00:0{number}");
        let mut args = vec!["--", "add-br", bridge, "--", "set", "bridge", bridge, "datapath-type=dummy"];
        args.extend([
            "fail-mode=secure",
            &id,
            &mac,
            "protocols=[OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15]",
        ]);
        args.extend(settings);
        self.tool("ovs-vsctl", &args)
    }

    fn port(&mut self, words: &[&str]) -> String {
        let [bridge, port, settings @ ..] = words else { panic!("port BR NAME") };
        let number: String = port.chars().filter(char::is_ascii_digit).collect();
        let request = format!("ofport_request={number}");
        let pcap = format!("options:tx_pcap={port}-tx.pcap");
        let mut args = vec!["--", "add-port", bridge, port];
        args.extend(settings.iter().filter(|s| !s.contains("=dummy")));
        args.extend(["--", "set", "interface", port, "type=dummy", &request, &pcap]);
        self.ports.push(port.to_string());
        self.tool("ovs-vsctl", &args)
    }

    fn patch(&self, words: &[&str]) -> String {
        let [bridge, port, peer] = words else { panic!("patch BR NAME PEER") };
        let peer = format!("options:peer={peer}");
        self.tool(
            "ovs-vsctl",
            &["--", "add-port", bridge, port, "--", "set", "interface", port, "type=patch", &peer],
        )
    }

    fn tool(&self, program: &str, args: &[&str]) -> String {
        let text = self.sandbox.run(self.clients, program, args).text();
        // Usage errors begin with the program's path.
        text.replace(&*self.clients.path(program).to_string_lossy(), program)
    }

    fn finish(&mut self) {
        let flows = self.tool("ovs-appctl", &["dpctl/dump-flows", "--names"]);
        self.steps.push(Step {
            command: "datapath flows".into(),
            output: sorted(&ct_behind_port(&normalise(&flows))),
        });
        for port in std::mem::take(&mut self.ports) {
            let bytes = fs::read(self.sandbox.file(&format!("{port}-tx.pcap"))).unwrap_or_default();
            self.steps.push(Step { command: format!("frames out of {port}"), output: frames(&bytes) });
        }
    }
}

const ALL_VERSIONS: &str = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15";

/// The packets of a capture file, a line of hexadecimal digits each.
///
/// # Panics
/// If the file is not a pcap file in this machine's byte order.
pub fn frames(pcap: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = pcap.get(24..).unwrap_or_default();
    while let Some((header, tail)) = rest.split_at_checked(16) {
        let length = u32::from_le_bytes(header[8..12].try_into().expect("four bytes")) as usize;
        let (frame, tail) = tail.split_at_checked(length).expect("a whole packet follows its header");
        out.extend(frame.iter().map(|byte| format!("{byte:02x}")));
        out.push('\n');
        rest = tail;
    }
    out
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn refs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Words as a shell would split them: spaces outside single or double quotes separate.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_quoted_spaces() {
        assert_eq!(split("a 'b c' d\"e f\" ''"), ["a", "b c", "de f", ""]);
    }

    #[test]
    fn frames_are_read_from_a_capture() {
        let mut pcap = vec![0; 24];
        pcap.extend([0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0xab, 0xcd]);
        assert_eq!(frames(&pcap), "abcd\n");
    }
}
