//! The state of one translation.

use std::fmt;
use std::sync::Arc;

use flow::action::Action;
use flow::cookie::SlowReasons;
use flow::describe::key_to_string;
use flow::drop::DropReason;
use flow::field::{Field, NoNames, Subfield, Value};
use flow::id::{DpPort, OfPort, TableId};
use flow::key::{Key, Tunnel};
use flow::odp::commit::{Pending, commit};
use flow::proto::ethertype;
use flow::tlv;
use openflow::action::{Controller, Nat, OfAction};
use openflow::names::Names;
use zerocopy::FromZeros;

use super::effect::Effects;
use super::finish::Room;
use super::report::{Kind, Place, Tree};
use super::snapshot::{Bridge, BridgeId, Bundle, Port};
use super::{Input, Past, RecircRef, trace};
use crate::ofproto::classifier::Looked;
use crate::ofproto::{Pin, Rule, Version};

/// One translation under way.
pub(super) struct Ctx<'a> {
    pub input: &'a Input<'a>,
    /// The packet's last translation.
    pub past: Option<&'a Past<'a>>,
    /// The bridge whose tables apply now.
    pub bridge: &'a Arc<Bridge>,
    pin: Pin,
    /// The present bridge's options of tunnels are in force.
    _options: tlv::Scope,
    /// The packet as it is now.
    pub key: &'a mut Key,
    /// The packet as the datapath's actions so far make it.
    pub base: &'a mut Key,
    pub wc: Looked,
    pub odp: Vec<Action>,
    pub stack: Vec<Value>,
    pub rule: Option<Arc<Rule>>,
    pub depth: usize,
    pub resubmits: usize,
    pub in_action_set: bool,
    /// A header was added, or taken off, that the datapath does not know of yet.
    pub pending_encap: bool,
    pub pending_decap: bool,
    pub encap_data: Option<Vec<u8>>,
    pub table: TableId,
    pub cookie: u64,
    pub orig_priority: u32,
    pub sflow_outputs: u32,
    pub sflow_port: DpPort,
    pub exit: bool,
    /// Mirrors that have the packet, bit N for mirror N.
    pub mirrors: u32,
    pub mirror_snaplen: u16,
    pub freezing: bool,
    /// Algorithm and basis of a hash to compute before recirculation.
    pub rehash: Option<(u32, u32)>,
    /// What to do after thawing.
    pub frozen_actions: Vec<OfAction>,
    /// Table and cookie that the last unroll action in `frozen_actions` restores.
    pub unrolled: Option<(TableId, u64)>,
    pub pause: Option<Controller>,
    /// The last label was popped: what follows it is not known without recirculation.
    pub was_mpls: bool,
    pub conntracked: bool,
    pub nat: Option<Nat>,
    pub action_set: Vec<OfAction>,
    pub action_set_has_group: bool,
    pub error: Option<DropReason>,
    pub slow: SlowReasons,
    pub recircs: Vec<RecircRef>,
    /// So many effects were those of the last translation.
    pub same: usize,
    /// The effects after those.
    pub effects: Effects,
    /// A rule was met that was not looked up: what that would have looked at is not in the mask.
    pub blind: bool,
    /// Actions were made for which the mask was read all the same.
    pub guessed: bool,
    pub avoid_caching: bool,
    pub counts_rules: bool,
    /// More decided than what is noted of the packet, or something was logged of it.
    pub alone: bool,
    /// The port by which the packet came in, for recirculated packets to be found again.
    pub port: Option<(BridgeId, OfPort)>,
    pub tree: Option<Tree>,
    pub place: Place,
    pub recirculations: Vec<trace::Recirculation>,
}

/// What a nested translation must not change.
pub(super) struct Retained {
    key: Key,
    stack: Vec<Value>,
    action_set: Vec<OfAction>,
}

impl<'a> Ctx<'a> {
    /// A translation that begins. `key` and `base` are the input's key.
    pub fn new(
        input: &'a Input<'a>,
        past: Option<&'a Past<'a>>,
        (key, base): (&'a mut Key, &'a mut Key),
        room: &mut Room,
    ) -> Self {
        for key in [&mut *key, &mut *base] {
            key.in_port = input.in_port.0.into();
            key.actset_output = OfPort::UNSET.0.into();
        }
        base.tunnel = Tunnel::new_zeroed();
        let (wc, odp) = room.take();
        Self {
            input,
            past,
            bridge: input.bridge,
            pin: input.pin.clone().unwrap_or_else(|| input.bridge.tables.pin()),
            _options: tlv::enter(input.bridge.tables.tlvs()),
            key,
            base,
            wc,
            odp,
            stack: Vec::new(),
            rule: input.rule.clone(),
            depth: input.depth,
            resubmits: input.resubmits,
            in_action_set: false,
            pending_encap: false,
            pending_decap: false,
            encap_data: None,
            table: TableId(0),
            cookie: u64::MAX,
            orig_priority: input.key.skb_priority,
            sflow_outputs: 0,
            sflow_port: DpPort(0),
            exit: false,
            mirrors: 0,
            mirror_snaplen: 0,
            freezing: false,
            rehash: None,
            frozen_actions: Vec::new(),
            unrolled: None,
            pause: None,
            was_mpls: false,
            conntracked: false,
            nat: None,
            action_set: Vec::new(),
            action_set_has_group: false,
            error: None,
            slow: SlowReasons::empty(),
            recircs: Vec::new(),
            same: 0,
            effects: Effects::new(),
            blind: false,
            guessed: false,
            avoid_caching: false,
            counts_rules: false,
            alone: false,
            port: None,
            tree: input.trace.then(Tree::default),
            place: Place::default(),
            recirculations: Vec::new(),
        }
    }

    /// The version of the present bridge's tables.
    pub fn version(&self) -> Version {
        self.pin.version()
    }

    /// Goes over to another bridge, whose published tables then apply; gives what [`Ctx::leave_bridge`] wants back.
    pub fn enter_bridge(&mut self, bridge: &'a Arc<Bridge>) -> (&'a Arc<Bridge>, Pin) {
        let old = std::mem::replace(&mut self.bridge, bridge);
        self.use_options_of_bridge();
        (old, std::mem::replace(&mut self.pin, bridge.tables.pin()))
    }

    /// Goes back.
    pub fn leave_bridge(&mut self, (bridge, pin): (&'a Arc<Bridge>, Pin)) {
        (self.bridge, self.pin) = (bridge, pin);
        self.use_options_of_bridge();
    }

    fn use_options_of_bridge(&mut self) {
        tlv::replace(self.tlvs());
    }

    /// Which options of tunnels the present bridge maps.
    pub fn tlvs(&self) -> tlv::Shared {
        self.bridge.tables.tlvs()
    }

    /// The present input port.
    pub fn in_port(&self) -> OfPort {
        OfPort(self.key.in_port as u16)
    }

    /// A port of the present bridge.
    pub fn port(&self, ofp: OfPort) -> Option<&'a Port> {
        self.bridge.ports.get(&ofp)
    }

    /// The bundle of a port of the present bridge.
    pub fn bundle_of(&self, ofp: OfPort) -> Option<&'a Bundle> {
        self.bridge.bundle(self.port(ofp)?.bundle?)
    }

    /// The datapath's number of a port of the present bridge.
    pub fn odp_port(&self, ofp: OfPort) -> DpPort {
        self.port(ofp).map_or(DpPort::NONE, |port| port.odp)
    }

    pub fn features(&self) -> Option<&'a datapath::Features> {
        self.input.snapshot.features.as_deref()
    }

    /// Whether the datapath can do something.
    pub fn can(&self, feature: impl Fn(&datapath::Features) -> bool) -> bool {
        self.features().is_none_or(feature)
    }

    pub fn is_ip(&self) -> bool {
        ethertype::is_ip(flow::field::dl_type(self.key))
    }

    /// Puts into actions what the key differs by from what the datapath has.
    pub fn commit(&mut self) {
        let data = self.encap_data.take();
        match self.pending_encap || self.pending_decap || self.key.packet_type != self.base.packet_type {
            true => self.wc.unite(),
            false => self.wc.unite_changed(self.key, self.base),
        }
        let pending =
            Pending { encap: self.pending_encap, decap: self.pending_decap, encap_data: data.as_deref() };
        let masked = self.can(|features| features.masked_set_action);
        let before = self.odp.len();
        self.slow |= commit(self.key, self.base, &mut self.wc, &mut self.odp, masked, pending);
        self.guessed |= self.blind && self.odp.len() != before;
        (self.pending_encap, self.pending_decap) = (false, false);
    }

    /// Makes the packet one that no connection tracker has seen.
    pub fn clear_conntrack(&mut self) {
        self.conntracked = false;
        clear_conntrack(self.key);
    }

    /// Sets aside what a nested translation must not change, and gives it an empty stack and action set.
    pub fn retain(&mut self) -> Retained {
        Retained {
            key: *self.key,
            stack: std::mem::take(&mut self.stack),
            action_set: std::mem::take(&mut self.action_set),
        }
    }

    /// Takes it back.
    pub fn restore(&mut self, retained: Retained) {
        (*self.key, self.stack, self.action_set) = (retained.key, retained.stack, retained.action_set);
    }

    /// Runs `inside` with an empty list of actions; gives the list that it made.
    pub fn nested(&mut self, inside: impl FnOnce(&mut Self)) -> Vec<Action> {
        let outer = std::mem::take(&mut self.odp);
        inside(self);
        std::mem::replace(&mut self.odp, outer)
    }

    pub fn fail(&mut self, reason: DropReason) {
        self.error = Some(reason);
    }

    /// Makes a whole field significant.
    pub fn mask(&mut self, field: Field) {
        field.mask_exact(&mut self.wc);
    }
}

impl Retained {
    /// The key that was set aside.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Copies of the stack and the action set that were set aside.
    pub fn copies(&self) -> (Vec<Value>, Vec<OfAction>) {
        (self.stack.clone(), self.action_set.clone())
    }
}

/// Removes connection tracking's fields from a key.
pub(super) fn clear_conntrack(key: &mut Key) {
    (key.ct_state, key.ct_zone, key.ct_mark, key.ct_label) = (0, 0, 0, [0; 16]);
    (key.ct_nw_proto, key.ct_tp_src, key.ct_tp_dst) = (0, 0.into(), 0.into());
    match key.dl_type.get() {
        ethertype::IPV4 => (key.ct_nw_src, key.ct_nw_dst) = (0.into(), 0.into()),
        ethertype::IPV6 => (key.ct_ipv6_src, key.ct_ipv6_dst) = ([0; 16], [0; 16]),
        _ => {}
    }
}

/// What the translation tells a trace, or the log.
impl Ctx<'_> {
    /// Tells a trace something; gives the place under it.
    pub fn report(&mut self, kind: Kind, text: impl fmt::Display) -> Place {
        match &mut self.tree {
            Some(tree) => tree.put(self.place, kind, text.to_string()),
            None => self.place,
        }
    }

    pub fn detail(&mut self, text: impl fmt::Display) {
        self.report(Kind::Detail, text);
    }

    pub fn warn(&mut self, text: impl fmt::Display) {
        self.report(Kind::Warn, text);
    }

    /// Tells a trace of an error, or else the log if there is a packet.
    pub fn error(&mut self, text: impl fmt::Display) {
        if self.tree.is_some() {
            self.report(Kind::Error, text);
        } else if self.input.packet.is_some() {
            self.alone = true;
            let (bridge, key) = (&self.bridge.name, key_to_string(self.base, &NoNames));
            tracing::warn!(target: "ofproto_dpif_xlate", rl = "1,5", "{text} on bridge {bridge} while processing {key}");
        }
    }

    /// Tells a trace of something remarkable, or else the log if there is a packet.
    pub fn info(&mut self, text: impl fmt::Display) {
        if self.tree.is_some() {
            self.report(Kind::Warn, text);
        } else if self.input.packet.is_some() {
            self.alone = true;
            let (bridge, key) = (&self.bridge.name, key_to_string(self.base, &NoNames));
            tracing::info!(target: "ofproto_dpif_xlate", rl = "1,5", "{text} on bridge {bridge} while processing {key}");
        }
    }

    /// Tells a trace, or else the debug log if there is a packet.
    pub fn debug(&mut self, text: impl fmt::Display) {
        if self.tree.is_some() {
            self.report(Kind::Detail, text);
        } else if self.input.packet.is_some() {
            self.alone = true;
            let bridge = &self.bridge.name;
            tracing::debug!(target: "ofproto_dpif_xlate", rl = "30,300", "bridge {bridge}: {text}");
        }
    }

    /// Tells a trace the new value of bits of a field.
    pub fn report_subfield(&mut self, sub: &Subfield) {
        if self.tree.is_none() {
            return;
        }
        let value = if sub.is_whole() {
            sub.field.value_text(&sub.field.get(self.key))
        } else {
            sub.get(self.key).hex()
        };
        self.detail(format_args!("{sub} is now {value}"));
    }

    /// Tells a trace the action set, which `verb` ("is" or "was") so.
    pub fn report_action_set(&mut self, verb: &str) {
        if self.tree.is_none() {
            return;
        }
        let list = openflow::action::set::execution_order(&self.action_set);
        if list.is_empty() {
            self.detail(format_args!("action set {verb} empty"));
        } else {
            let text = openflow::action::text(&list, &Names::default()).to_string();
            self.detail(format_args!("action set {verb}: {text}"));
        }
    }

    /// Port names of the present bridge, if the trace wants them.
    pub fn names(&self) -> Names {
        let mut names = Names::default();
        if self.input.names {
            for port in self.bridge.ports.values() {
                names.ports.insert(port.ofp.0.into(), &port.name);
            }
        }
        names
    }
}
