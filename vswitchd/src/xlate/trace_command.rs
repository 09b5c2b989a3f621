//! The commands `ofproto/trace` and `ofproto/trace-packet-out`.

use std::collections::VecDeque;
use std::sync::Arc;

use datapath::flow::Execute;
use flow::compose::{Payload, compose};
use flow::describe::ct_state_to_string;
use flow::extract::{Metadata, extract};
use flow::field::ct_state_name;
use flow::id::{DpPort, OfPort};
use flow::key::{Key, tnl_flags};
use flow::mini::FullMatch;
use flow::odp;
use flow::proto::ct;
use flow::time::Instant;
use flow::tlv;
use flow::wildcards;
use openflow::action::check::{Check, check_consistency};
use openflow::action::{OfAction, Parse, parse_list};
use openflow::names::Names;
use openflow::protocol::Protocols;

use super::Output;
use super::effect::{Effect, Stats};
use super::snapshot::{Bridge, Snapshot};
use super::trace::{KeyNames, Tracer};
use crate::backer::{Backer, Backers, Command, Note};

/// The commands of this module.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "ofproto/trace",
        usage: "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]",
        min: 1,
        max: usize::MAX,
        run: trace,
    },
    Command {
        name: "ofproto/trace-packet-out",
        usage: "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet] actions",
        min: 2,
        max: usize::MAX,
        run: trace_packet_out,
    },
];

/// What the arguments ask for.
struct Request {
    backer: Arc<Backer>,
    snapshot: Arc<Snapshot>,
    bridge: Arc<Bridge>,
    key: Key,
    packet: Option<Vec<u8>>,
    ct_states: VecDeque<u8>,
    consistent: bool,
    names: bool,
}

/// Options and the other arguments.
#[derive(Default)]
struct Args<'a> {
    generate: bool,
    payload: Option<Vec<u8>>,
    payload_len: Option<usize>,
    consistent: bool,
    names: bool,
    ct_states: VecDeque<u8>,
    plain: Vec<&'a str>,
}

fn trace(backers: &Backers, args: &[&str], now: Instant) -> Result<String, String> {
    let request = Request::parse(backers, args, false)?;
    Ok(request.run(None, now, &mut |_, _| {}))
}

fn trace_packet_out(backers: &Backers, args: &[&str], now: Instant) -> Result<String, String> {
    let (actions, args) = args.split_last().ok_or("Syntax error")?;
    let names = Names::default();
    let mut parse = Parse::new(&names);
    let mut actions: Vec<OfAction> = parse_list(actions, &mut parse).map_err(|error| error.to_string())?;
    let request = Request::parse(backers, args, true)?;
    let in_port = OfPort(request.key.in_port as u16);
    let _ = in_port;
    let full = FullMatch::new(&request.key, &wildcards::for_packet(&request.key));
    let mut check = Check::new(&full);
    let needed = if request.consistent { parse.usable } else { Protocols::empty() };
    check_consistency(&mut actions, needed, &mut check).map_err(|error| format!("Bad actions: {error}"))?;
    Ok(request.run(Some(&actions), now, &mut |_, _| {}))
}

/// Lets `see` look at each translation of a flow as `ofproto/trace` makes them, of a packet that comes back, too. Nothing is
/// sent or learned.
///
/// # Errors
/// Those of `ofproto/trace`.
pub fn each(
    backers: &Backers,
    args: &[&str],
    now: Instant,
    see: &mut dyn FnMut(&Backer, &Bridge, &Key, &Output),
) -> Result<(), String> {
    let request = Request::parse(backers, args, false)?;
    let request = Request { packet: None, ..request };
    let (backer, bridge) = (Arc::clone(&request.backer), Arc::clone(&request.bridge));
    request.run(None, now, &mut |key, output| see(&backer, &bridge, key, output));
    Ok(())
}

impl<'a> Args<'a> {
    fn parse(args: &[&'a str], packet_out: bool) -> Result<Self, String> {
        let mut this = Self::default();
        let mut rest = args.iter().copied();
        while let Some(arg) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("Missing argument for option {arg}"));
            match arg {
                "-generate" | "--generate" => this.generate = true,
                "--l7" => {
                    this.payload = Some(hex(value()?).ok_or("Trailing garbage in packet data")?);
                    this.payload_len = None;
                }
                "--l7-len" => {
                    let text = value()?;
                    let len = openflow::text::atoi(text);
                    if !(0..=64_000).contains(&len) {
                        return Err(format!("{text}: too much L7 data"));
                    }
                    (this.payload, this.payload_len) = (None, Some(len as usize));
                }
                "-consistent" | "--consistent" if packet_out => this.consistent = true,
                "-names" | "--names" => this.names = true,
                "--ct-next" => this.ct_states.push_back(ct_state(value()?)?),
                _ if arg.starts_with('-') => return Err(format!("{arg}: unknown option")),
                _ if this.plain.len() >= 3 => return Err("too many arguments".to_owned()),
                _ => this.plain.push(arg),
            }
        }
        Ok(this)
    }
}

/// Bytes of hexadecimal digits, which spaces may part.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect())
}

fn ct_state(text: &str) -> Result<u8, String> {
    let mut state = 0;
    for name in text.split([',', ' ']).filter(|name| !name.is_empty()) {
        let bit = (0..8).map(|shift| 1u32 << shift).find(|&bit| ct_state_name(bit) == Some(name));
        state |= bit.ok_or_else(|| format!("{name}: unknown connection tracking state flag"))? as u8;
    }
    let mut wrong = String::new();
    let mut refuse = |why: &str| {
        wrong.push_str(&format!("{}: invalid connection state: {why}\n", ct_state_to_string(state)));
    };
    if state != 0 && state & ct::TRACKED == 0 {
        refuse("If \"trk\" is unset, no other flags are set");
    }
    if state & ct::INVALID != 0 && state & !(ct::TRACKED | ct::INVALID) != 0 {
        refuse("when \"inv\" is set, only \"trk\" may also be set");
    }
    if state & ct::NEW != 0 && state & ct::ESTABLISHED != 0 {
        refuse("\"new\" and \"est\" are mutually exclusive");
    }
    if state & ct::NEW != 0 && state & ct::REPLY_DIR != 0 {
        refuse("\"new\" and \"rpy\" are mutually exclusive");
    }
    if wrong.is_empty() { Ok(state) } else { Err(wrong) }
}

impl Request {
    fn parse(backers: &Backers, args: &[&str], packet_out: bool) -> Result<Self, String> {
        let mut args = Args::parse(args, packet_out)?;
        let mut packet = None;
        if !args.generate && args.plain.len() > 1 {
            let last = args.plain[args.plain.len() - 1];
            match eth_from_hex(last) {
                Ok(bytes) => {
                    packet = Some(bytes);
                    args.plain.pop();
                }
                Err(error) if args.plain.len() > 2 => return Err(error.to_owned()),
                Err(_) => {}
            }
        }
        let backer = match args.plain[..] {
            [name, _] => backers.0.get(name.strip_prefix("ovs-").unwrap_or(name)),
            [_] if backers.0.len() == 1 => backers.0.values().next(),
            [_] => None,
            _ => return Err("Syntax error".to_owned()),
        };
        let (backer, snapshot, bridge, mut key) = find_flow(backers, backer, &args.plain)?;
        if args.generate {
            let len = args.payload_len.unwrap_or(64);
            let payload = args.payload.as_deref().map_or(Payload::Len(len), Payload::Bytes);
            packet = Some(compose(&key, payload));
        } else if let Some(packet) = &packet {
            let metadata = Metadata { vlan_limit: snapshot.vlan_limit.max(1), ..Metadata::from_key(&key) };
            extract(packet, &metadata, &mut key);
        }
        let (ct_states, consistent, names) = (args.ct_states, args.consistent, args.names);
        Ok(Self { backer, snapshot, bridge, key, packet, ct_states, consistent, names })
    }

    fn run(self, actions: Option<&[OfAction]>, now: Instant, see: &mut dyn FnMut(&Key, &Output)) -> String {
        let backer = &self.backer;
        let bridge = Arc::clone(&self.bridge);
        let mut execute = |packet: &[u8], key: &Key, actions: &[flow::action::Action]| {
            // The datapath knows the port by its own number.
            let odp = bridge.ports.get(&OfPort(key.in_port as u16)).map_or(DpPort::NONE, |port| port.odp);
            let key = Key { in_port: odp.0, ..*key };
            let execute = Execute { packet, key: &key, actions, probe: false, mtu: 0, hash: 0 };
            backer.datapath.execute(&execute).map_err(|error| error.to_string())
        };
        let tcp_flags = self.key.tcp_flags.get();
        let mut act = |effect: &Effect| {
            if matches!(effect, Effect::Mac { .. } | Effect::Learn { .. } | Effect::FinTimeout { .. }) {
                let stats = Stats { packets: 0, bytes: 0, used: now, tcp_flags };
                effect.apply(&stats, &mut |deferred| backer.note(Note::Deferred(deferred)));
            }
        };
        let mut tracer = Tracer {
            snapshot: &self.snapshot,
            recirc: &backer.recirc,
            bridge: &self.bridge,
            actions,
            ct_states: self.ct_states,
            names: self.names,
            dp_names: backer.port_names(),
            now,
            pid: &|port| backer.datapath.port_pid(port),
            execute: &mut execute,
            act: &mut act,
            see,
        };
        tracer.run(&self.key, self.packet.as_deref())
    }
}

fn eth_from_hex(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = hex(text).ok_or("Trailing garbage in packet data")?;
    if bytes.len() < 14 { Err("Packet data too short for Ethernet") } else { Ok(bytes) }
}

type Found = (Arc<Backer>, Arc<Snapshot>, Arc<Bridge>, Key);

/// The flow that the last argument names: as the datapath writes it, or as OpenFlow does for a bridge.
fn find_flow(backers: &Backers, backer: Option<&Arc<Backer>>, plain: &[&str]) -> Result<Found, String> {
    let text = plain[plain.len() - 1];
    let dp_names = backer.map(|backer| backer.port_names()).unwrap_or_default();
    match odp::parse::flow(text, &dp_names) {
        Ok((raw, _)) => {
            let backer = backer.ok_or("Cannot find the datapath")?;
            let snapshot = backer.snapshot();
            let tags = usize::from(snapshot.vlan_limit.max(1));
            let (mut key, _) = odp::key_to_flow_limited(&raw, tags).map_err(|error| error.to_string())?;
            let (bridge, port) = backer.origin(&snapshot, &key)?;
            let bridge = Arc::clone(bridge);
            if key.tunnel.flags & tnl_flags::RAW_OPTS != 0 {
                let table = bridge.tables.tlvs();
                table.map(&mut key.tunnel).map_err(|_| "Failed to parse Geneve options")?;
            }
            key.in_port = port.0.into();
            Ok((Arc::clone(backer), snapshot, bridge, key))
        }
        Err(error) if plain.len() != 2 => Err(format!("{error} (or the bridge name was omitted)")),
        Err(_) => {
            let (backer, snapshot, bridge) =
                backers.bridge(plain[0]).ok_or_else(|| format!("{}: unknown bridge", plain[0]))?;
            let names = KeyNames::new(Some(&bridge));
            let _options = tlv::enter(bridge.tables.tlvs());
            let (key, _) = flow::exact::parse(text, &names)
                .map_err(|error| format!("Bad openflow flow syntax: {error}"))?;
            Ok((Arc::clone(backer), snapshot, bridge, key))
        }
    }
}
