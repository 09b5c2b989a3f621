//! `ofproto/trace`: a translation in words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use flow::action::{Action, format as action_text};
use flow::cookie::SlowReasons;
use flow::describe::{ct_state_to_string, key_to_string, match_to_string};
use flow::field::PortNames;
use flow::id::{DpPort, OfPort, RecircId, Zone};
use flow::key::Key;
use flow::mini::FullMatch;
use flow::proto::ct;
use flow::time::Instant;
use openflow::action::{Nat, OfAction, nat};

use super::effect::Effect;
use super::snapshot::{Bridge, Snapshot};
use super::{Input, Output, RecircIds, translate};

/// As C's `%#x`: no prefix for zero.
pub(super) fn alt_hex(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { format!("{number:#x}") }
}

/// Where a trace goes on: a packet that comes back from connection tracking.
#[derive(Clone)]
pub struct Recirculation {
    key: Key,
    id: RecircId,
    nat: Option<Nat>,
    packet: Option<Vec<u8>>,
}

impl Recirculation {
    pub(super) fn conntrack(
        key: &Key,
        id: RecircId,
        zone: Zone,
        nat: Option<Nat>,
        packet: Option<Vec<u8>>,
    ) -> Self {
        let mut key = *key;
        (key.recirc_id, key.ct_zone) = (id.0, zone.0);
        Self { key, id, nat, packet }
    }
}

/// A bridge's port names for the text of keys.
#[derive(Clone, Default)]
pub struct KeyNames(BTreeMap<u16, String>);

impl KeyNames {
    /// The names of a bridge's ports, or none.
    pub fn new(bridge: Option<&Arc<Bridge>>) -> Self {
        let ports = bridge.into_iter().flat_map(|bridge| bridge.ports.values());
        Self(ports.map(|port| (port.ofp.0, port.name.clone())).collect())
    }
}

impl KeyNames {
    /// The names of a bridge's ports.
    pub fn of(bridge: &Bridge) -> Self {
        Self(bridge.ports.values().map(|port| (port.ofp.0, port.name.clone())).collect())
    }
}

impl PortNames for KeyNames {
    fn name(&self, port: OfPort) -> Option<Cow<'_, str>> {
        self.0.get(&port.0).map(|name| Cow::Borrowed(name.as_str()))
    }

    fn port(&self, name: &str) -> Option<OfPort> {
        self.0.iter().find(|(_, known)| *known == name).map(|(&port, _)| OfPort(port))
    }
}

/// Executes actions on a packet with this key.
pub type Executor<'a> = dyn FnMut(&[u8], &Key, &[Action]) -> Result<(), String> + 'a;

/// What a trace is made with.
pub struct Tracer<'a> {
    pub snapshot: &'a Snapshot,
    pub recirc: &'a RecircIds,
    pub bridge: &'a Arc<Bridge>,
    /// Actions to trace instead of the tables'.
    pub actions: Option<&'a [OfAction]>,
    /// Connection states that packets have when they come back from connection tracking, in order.
    pub ct_states: VecDeque<u8>,
    /// Whether ports are named.
    pub names: bool,
    /// The datapath's ports.
    pub dp_names: BTreeMap<DpPort, String>,
    pub now: Instant,
    pub pid: &'a dyn Fn(DpPort) -> u32,
    /// Executes actions on a traced packet: all but outputs and recirculation.
    pub execute: &'a mut Executor<'a>,
    /// Carries out what a real packet does besides being sent: addresses and flows that are learned.
    pub act: &'a mut dyn FnMut(&Effect),
    /// Sees each translation.
    pub see: &'a mut dyn FnMut(&Key, &Output),
}

/// More recirculations end a trace.
const MAX_RECIRCULATIONS: usize = 4096;

impl Tracer<'_> {
    /// The trace of a packet with this key, whose `in_port` is one of the bridge.
    pub fn run(&mut self, key: &Key, packet: Option<&[u8]>) -> String {
        let _options = flow::tlv::enter(self.bridge.tables.tlvs());
        let mut out = String::new();
        let mut queue = VecDeque::new();
        self.one(key, packet, &mut queue, &mut out);
        let line = "=".repeat(79);
        let mut done = 0;
        while let Some(mut next) = queue.pop_front() {
            if done > MAX_RECIRCULATIONS {
                let left = queue.len() + 1;
                let _ = write!(
                    out,
                    "\n\n{line}\nTrace reached the recirculation limit.  Sopping the trace here.\
                     \nQueued but not processed: {left} recirculations."
                );
                break;
            }
            done += 1;
            let _ = write!(out, "\n\n{line}\nrecirc({})", alt_hex(next.id.0.into()));
            self.resume(&mut next, &mut out);
            let _ = write!(out, "{line}\n\n");
            let packet = next.packet.take();
            self.one(&next.key, packet.as_deref(), &mut queue, &mut out);
        }
        out
    }

    /// Gives a packet the connection that it shall have.
    fn resume(&mut self, next: &mut Recirculation, out: &mut String) {
        next.key.ct_state = match self.ct_states.pop_front() {
            Some(state) => {
                let _ = write!(out, " - resume conntrack with ct_state={}", ct_state_to_string(state));
                state
            }
            None => {
                out.push_str(
                    " - resume conntrack with default ct_state=trk|new (use --ct-next to customize)",
                );
                ct::TRACKED | ct::NEW
            }
        };
        out.push('\n');
        if let Some(nat) = next.nat.take() {
            out.push_str("Replacing src/dst IP/ports to simulate NAT:\n Initial flow: ");
            put_addresses(&next.key, nat.range, out);
            translate_addresses(&nat, &mut next.key);
            out.push_str(" Modified flow: ");
            put_addresses(&next.key, nat.range, out);
        }
    }

    fn one(
        &mut self,
        key: &Key,
        packet: Option<&[u8]>,
        queue: &mut VecDeque<Recirculation>,
        out: &mut String,
    ) {
        let input = Input {
            snapshot: self.snapshot,
            bridge: self.bridge,
            recirc: self.recirc,
            key,
            in_port: OfPort(key.in_port as u16),
            packet,
            actions: self.actions,
            rule: None,
            frozen: None,
            pin: None,
            side_effects: packet.is_some(),
            caching: false,
            in_packet_out: false,
            trace: true,
            names: self.names,
            now: self.now,
            depth: 0,
            resubmits: 0,
            pid: self.pid,
        };
        let ports = KeyNames::new(self.names.then_some(self.bridge));
        let mut initial = *key;
        initial.actset_output = OfPort::UNSET.0.into();
        let _ = writeln!(out, "Flow: {}", key_to_string(&initial, &ports));
        let result = translate(&input);
        if let Some(tree) = &result.trace {
            tree.print(out);
        }
        self.describe(&initial, key, &result, &ports, out);
        (self.see)(key, &result);
        if packet.is_some() {
            result.effects.iter().for_each(|effect| (self.act)(effect));
        }
        if result.error.is_none()
            && let Some(packet) = packet
        {
            let mut actions = result.actions;
            prune_outputs(&mut actions);
            if let Err(error) = (self.execute)(packet, &initial, &actions) {
                let _ = write!(out, "\nAction execution failed ({error})\n.");
            }
        }
        queue.extend(result.recirculations);
    }

    fn describe(&self, initial: &Key, key: &Key, result: &Output, ports: &KeyNames, out: &mut String) {
        let last = match result.key.as_deref() {
            Some(last) if last != initial => key_to_string(last, ports),
            _ => "unchanged".to_owned(),
        };
        let _ = writeln!(out, "\nFinal flow: {last}");
        let megaflow = FullMatch::new(key, &result.mask);
        let _ = writeln!(out, "Megaflow: {}", match_to_string(&megaflow, None, ports));
        let actions = if self.names {
            action_text::actions(&result.actions, &self.dp_names)
        } else {
            action_text::actions(&result.actions, &flow::odp::NoNames)
        };
        let _ = write!(out, "Datapath actions: {actions}");
        if let Some(error) = result.error {
            let _ = writeln!(out, "\nTranslation failed ({}), packet is dropped.", error.text());
        } else if !result.slow.is_empty() {
            out.push_str("\nThis flow is handled by the userspace slow path because it:");
            for (_, _, why) in SlowReasons::ROWS.iter().filter(|row| result.slow.contains(row.0)) {
                let _ = write!(out, "\n  - {why}.");
            }
        }
    }
}

fn prune_outputs(actions: &mut Vec<Action>) {
    actions.retain(|action| !matches!(action, Action::Output(_) | Action::Recirc(_)));
    for action in actions {
        if let Action::Clone(inside) = action {
            prune_outputs(inside);
        }
    }
}

fn put_addresses(key: &Key, range: nat::Range, out: &mut String) {
    let (src, dst) = (key.tp_src.get(), key.tp_dst.get());
    let _ = match range {
        nat::Range::None => writeln!(out),
        nat::Range::V4 { .. } => {
            let (from, to) = (Ipv4Addr::from(key.nw_src.get()), Ipv4Addr::from(key.nw_dst.get()));
            writeln!(out, "nw_src={from},tp_src={src},nw_dst={to},tp_dst={dst}")
        }
        nat::Range::V6 { .. } => {
            let (from, to) = (Ipv6Addr::from(key.ipv6_src), Ipv6Addr::from(key.ipv6_dst));
            writeln!(out, "ipv6_src=[{from}],tp_src={src},ipv6_dst=[{to}],tp_dst={dst}")
        }
    };
}

/// Always the first address and port of the range.
fn translate_addresses(nat: &Nat, key: &mut Key) {
    let source = nat.side == Some(nat::Side::Src);
    if nat.side.is_none() {
        return;
    }
    match nat.range {
        nat::Range::None => return,
        nat::Range::V4 { min, .. } => {
            let place = if source { &mut key.nw_src } else { &mut key.nw_dst };
            *place = u32::from(min).into();
        }
        nat::Range::V6 { min, .. } => {
            let place = if source { &mut key.ipv6_src } else { &mut key.ipv6_dst };
            *place = min.octets();
        }
    }
    if nat.min_port != 0 {
        let place = if source { &mut key.tp_src } else { &mut key.tp_dst };
        *place = nat.min_port.into();
    }
}
