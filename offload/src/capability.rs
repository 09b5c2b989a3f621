//! What hardware can do, found out by asking it: one rule for each thing, of which the first part is that no packet matches it.
//!
//! A row of [`PROBES`] is a flow and actions as the datapath writes them; it is lowered as flows are. What a device refuses is
//! told in its own words: often that its firmware lacks it.

use std::collections::BTreeSet;
use std::fmt;

use flow::action;
use flow::id::DpPort;
use flow::odp::{self, NoNames};
use serde::Serialize;

use crate::lower::lower;
use crate::rule::{Device, Rule, Support, Surroundings};
use crate::tc::action::{Control, Police, Spec, TcAction, Vlan};
use crate::tc::key::KeyField;

/// What a probe is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// What rules match.
    Key,
    /// What rules do.
    Action,
}

/// A question to hardware.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub name: &'static str,
    pub about: About,
    flow: &'static str,
    actions: &'static str,
}

const fn key(name: &'static str, flow: &'static str) -> Probe {
    Probe { name, about: About::Key, flow, actions: "drop" }
}

const fn action(name: &'static str, flow: &'static str, actions: &'static str) -> Probe {
    Probe { name, about: About::Action, flow, actions }
}

const IPV4: &str = "eth_type(0x0800),ipv4(frag=no)";
const TCP: &str = "eth_type(0x0800),ipv4(proto=6,frag=no),tcp()";
const TAGGED: &str = "eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x0800),ipv4(frag=no))";
const LABELED: &str = "eth_type(0x8847),mpls(label=5,tc=0,ttl=0/0,bos=1)";

/// The questions. Port 1 is the device itself, port 2 another one of the switch.
pub static PROBES: &[Probe] = &[
    key("eth", "eth_type(0x1234)"),
    key("vlan", TAGGED),
    key(
        "cvlan",
        "eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=6,pcp=0),encap(eth_type(0x0800),ipv4(frag=no)))",
    ),
    key("mpls", LABELED),
    key("arp", "eth_type(0x0806),arp(sip=10.0.0.1,tip=10.0.0.2,op=1)"),
    key("ipv4", "eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,frag=no)"),
    key("ipv6", "eth_type(0x86dd),ipv6(src=fe80::1,dst=fe80::2,frag=no)"),
    key("tos", "eth_type(0x0800),ipv4(tos=0x4/0xfc,frag=no)"),
    key("ttl", "eth_type(0x0800),ipv4(ttl=64,frag=no)"),
    key("fragments", "eth_type(0x0800),ipv4(frag=later)"),
    key("tcp", "eth_type(0x0800),ipv4(proto=6,frag=no),tcp(src=1,dst=2)"),
    key("tcp_flags", "eth_type(0x0800),ipv4(proto=6,frag=no),tcp(),tcp_flags(syn)"),
    key("udp", "eth_type(0x0800),ipv4(proto=17,frag=no),udp(src=1,dst=2)"),
    key("sctp", "eth_type(0x0800),ipv4(proto=132,frag=no),sctp(src=1,dst=2)"),
    key("icmp", "eth_type(0x0800),ipv4(proto=1,frag=no),icmp(type=8,code=0)"),
    key("icmpv6", "eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=128,code=0)"),
    key("ct_state", "ct_state(+est+trk),eth_type(0x0800),ipv4(frag=no)"),
    key("ct_zone", "ct_state(+est+trk),ct_zone(5),eth_type(0x0800),ipv4(frag=no)"),
    key("ct_mark", "ct_state(+est+trk),ct_mark(0x5),eth_type(0x0800),ipv4(frag=no)"),
    key("ct_label", "ct_state(+est+trk),ct_label(0x5),eth_type(0x0800),ipv4(frag=no)"),
    action("drop", IPV4, "drop"),
    action("output", IPV4, "2"),
    action("mirror", IPV4, "2,2"),
    action("push_vlan", IPV4, "push_vlan(vid=5,pcp=0),2"),
    action("pop_vlan", TAGGED, "pop_vlan,2"),
    action("push_mpls", IPV4, "push_mpls(label=5,tc=0,ttl=64,bos=1,eth_type=0x8847),2"),
    action("pop_mpls", LABELED, "pop_mpls(eth_type=0x800),2"),
    action("set(eth)", IPV4, "set(eth(src=02:00:00:00:00:01)),2"),
    action("set(ipv4)", IPV4, "set(ipv4(tos=0x4/0xfc,ttl=9)),2"),
    action("set(ipv6)", "eth_type(0x86dd),ipv6(frag=no)", "set(ipv6(hlimit=9)),2"),
    action("set(tcp)", TCP, "set(tcp(dst=80)),2"),
    action("set(udp)", "eth_type(0x0800),ipv4(proto=17,frag=no),udp()", "set(udp(dst=80)),2"),
    action("set(skb_mark)", IPV4, "set(skb_mark(0x5)),2"),
    action("recirc", IPV4, "recirc(0x7)"),
    action("ct", IPV4, "ct(zone=5),recirc(0x7)"),
    action("ct(commit)", IPV4, "ct(commit,zone=5,mark=0x5),2"),
    action("ct(nat)", IPV4, "ct(zone=5,nat),recirc(0x7)"),
    action("meter", IPV4, "2"),
    action("check_pkt_len", IPV4, "check_pkt_len(size=200,gt(drop),le(2))"),
    action("sample", IPV4, "sample(sample=1.0%,actions(psample(group=1))),2"),
];

/// The device that is asked, and another one.
struct Pair(Device, Device);

impl Surroundings for Pair {
    fn device(&self, port: DpPort) -> Option<Device> {
        match port.0 {
            1 => Some(self.0),
            2 => Some(self.1),
            _ => None,
        }
    }

    fn port(&self, _: u32) -> Option<DpPort> {
        None
    }
}

impl Probe {
    /// The rule that asks; `None` for what no rule can have here.
    pub fn rule(&self, device: Device, other: Device, support: &Support) -> Option<Rule> {
        let text = format!("in_port(1),eth(dst=00:00:00:00:00:00),{}", self.flow);
        // What comes before `eth()` in a flow's text is metadata.
        let (raw, raw_mask) = odp::parse::flow(&text, &NoNames).ok()?;
        let (key, _) = odp::key_to_flow(&raw).ok()?;
        let (mask, _) = odp::mask_to_flow(&raw_mask, &key).ok()?;
        let actions = action::parse::actions(self.actions, &NoNames).ok()?;
        let around = Pair(device, other);
        let mut rule = lower((&key, &mask), &actions, &around, &Support { chains: true, ..*support }).ok()?;
        if self.name == "meter" {
            rule.actions
                .insert(0, TcAction::pipe(Spec::Police(Police::limit(0, false, 1_000_000, 1_000_000))));
        }
        Some(rule)
    }
}

/// Something that a rule has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Part {
    Field(KeyField),
    Labels,
    Options,
    Action(String),
}

/// What a rule has, but for what every rule has.
fn parts(rule: &Rule) -> BTreeSet<Part> {
    const COMMON: [KeyField; 4] =
        [KeyField::EthDst, KeyField::EthType, KeyField::VlanEthType, KeyField::CvlanEthType];
    let fields = rule.key.fields().iter().map(|entry| entry.field).filter(|field| !COMMON.contains(field));
    let mut parts: BTreeSet<_> = fields.map(Part::Field).collect();
    parts.extend((!rule.key.lses.is_empty()).then_some(Part::Labels));
    parts.extend(rule.key.opts.is_some().then_some(Part::Options));
    let mut add = |name: String| parts.extend([Part::Action(name)]);
    for action in &rule.actions {
        match &action.spec {
            Spec::Gact => match action.control {
                Control::Shot => {}
                Control::Goto(_) => add("goto".to_owned()),
                control => add(format!("gact {control:?}")),
            },
            Spec::Mirred(mirred) => add(if mirred.mirror { "mirror" } else { "redirect" }.to_owned()),
            Spec::Vlan(Vlan::Pop) => add("vlan pop".to_owned()),
            Spec::Vlan(_) => add("vlan".to_owned()),
            Spec::Pedit(keys) => keys.iter().for_each(|key| add(format!("pedit {:?}", key.header))),
            Spec::Ct(ct) => {
                add("ct".to_owned());
                if ct.commit {
                    add("ct commit".to_owned());
                }
                if ct.nat.is_some() {
                    add("ct nat".to_owned());
                }
            }
            Spec::Police(police) if police.mtu != 0 => add("police mtu".to_owned()),
            Spec::Csum(_) => {}
            spec => add(spec.kind().to_owned()),
        }
    }
    parts
}

/// Something that a device lacks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Lack {
    pub name: &'static str,
    /// In the device's words.
    pub why: String,
    #[serde(skip)]
    parts: BTreeSet<PartName>,
}

/// A part, hidden.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct PartName(Part);

/// What a device can do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Capabilities {
    pub name: String,
    pub ifindex: u32,
    /// It takes rules at all.
    pub hardware: bool,
    pub keys: Vec<&'static str>,
    pub actions: Vec<&'static str>,
    pub missing: Vec<Lack>,
}

impl Capabilities {
    /// From answers to rows of [`PROBES`]: the rule that was put, and why it was refused if it was.
    pub fn of<'a>(
        name: &str,
        ifindex: u32,
        answers: impl Iterator<Item = (&'static Probe, &'a Rule, Option<String>)>,
    ) -> Self {
        let (mut keys, mut actions, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for (probe, rule, refused) in answers {
            match (refused, probe.about) {
                (None, About::Key) => keys.push(probe.name),
                (None, About::Action) => actions.push(probe.name),
                (Some(why), _) => {
                    let parts = parts(rule).into_iter().map(PartName).collect();
                    missing.push(Lack { name: probe.name, why, parts });
                }
            }
        }
        let hardware = !keys.is_empty() || !actions.is_empty();
        Self { name: name.to_owned(), ifindex, hardware, keys, actions, missing }
    }

    /// What of a rule the device lacks.
    pub fn stops(&self, rule: &Rule) -> Option<&Lack> {
        let there: BTreeSet<_> = parts(rule).into_iter().map(PartName).collect();
        // What lacks everything says little of what would have to change.
        self.missing.iter().filter(|_| self.hardware).find(|lack| {
            lack.parts.iter().any(|part| !matches!(part.0, Part::Action(ref name) if name == "redirect"))
                && lack.parts.is_subset(&there)
        })
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ifindex, hardware, keys, actions, missing } = self;
        if !hardware {
            let why = missing.first().map_or("nobody asked", |lack| lack.why.as_str());
            return writeln!(f, "{name} (ifindex {ifindex}): software only: {why}");
        }
        writeln!(f, "{name} (ifindex {ifindex}): hardware")?;
        writeln!(f, "  keys: {}\n  actions: {}", keys.join(" "), actions.join(" "))?;
        missing.iter().try_for_each(|lack| writeln!(f, "  missing: {}: {}", lack.name, lack.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tc::Hook;

    const SUPPORT: Support = Support { enc_flags: false, gbp: true, ct_state: 0x3f, chains: false };

    fn device(ifindex: u32) -> Device {
        Device { ifindex, block: None, hook: Hook::Ingress, tunnel: false }
    }

    fn rule(probe: &Probe) -> Rule {
        probe.rule(device(1), device(2), &SUPPORT).unwrap_or_else(|| panic!("{}", probe.name))
    }

    fn named(name: &str) -> &'static Probe {
        PROBES.iter().find(|probe| probe.name == name).unwrap()
    }

    #[test]
    fn no_packet_matches_a_probe_and_each_asks_for_something_else() {
        for (at, probe) in PROBES.iter().enumerate() {
            let entry = rule(probe).key.number(KeyField::EthDst);
            assert_eq!(entry, Some((0, (1 << 48) - 1)), "{}", probe.name);
            for other in &PROBES[..at] {
                assert_ne!(probe.name, other.name);
                assert!(rule(probe) != rule(other), "{} and {}", probe.name, other.name);
            }
        }
    }

    #[test]
    fn what_stops_a_rule_is_what_it_has() {
        let rules: Vec<_> = PROBES.iter().map(|probe| (probe, rule(probe))).collect();
        let lacking = |names: &'static [&str]| {
            let answers = rules.iter().map(move |(probe, rule)| {
                (*probe, rule, names.contains(&probe.name).then(|| "no firmware".to_owned()))
            });
            Capabilities::of("p", 1, answers)
        };
        let told = lacking(&["ct", "sample", "set(tcp)", "ttl"]);
        let stops = |name| told.stops(&rule(named(name))).map(|lack| lack.name);
        assert_eq!(stops("ct(nat)"), Some("ct"));
        assert_eq!(stops("sample"), Some("sample"));
        assert_eq!(stops("set(tcp)"), Some("set(tcp)"));
        assert_eq!(["set(ipv4)", "output", "mirror", "tos", "recirc"].map(stops), [None; 5]);
        let text = lacking(&["sample"]).to_string();
        assert!(text.starts_with("p (ifindex 1): hardware\n  keys: eth vlan cvlan "), "{text}");
        assert!(text.ends_with(" meter check_pkt_len\n  missing: sample: no firmware\n"), "{text}");
        let none =
            Capabilities::of("q", 2, rules.iter().map(|(p, r)| (*p, r, Some("not supported".to_owned()))));
        assert_eq!(none.to_string(), "q (ifindex 2): software only: not supported\n");
        assert!(none.stops(&rule(named("output"))).is_none());
    }
}
