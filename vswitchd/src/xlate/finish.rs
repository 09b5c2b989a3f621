//! The frame around a translation: where it begins, and what its mask has at both ends.

use datapath::netdev::tunnel::Packets;
use flow::action::Action;
use flow::cookie::SlowReasons;
use flow::drop::DropReason;
use flow::field::dl_type;
use flow::id::{DpPort, OfPort, RecircId, TableId};
use flow::key::{Mask, Tunnel, VLAN_CFI, frag, tnl_flags};
use flow::odp::KeyAttr;
use flow::proto::{PT_ETH, ethertype, ip};
use openflow::action::OfAction;
use std::sync::Arc;
use zerocopy::FromZeros;

use super::ctx::Ctx;
use super::effect::Effect;
use super::freeze::Frozen;
use super::report::Kind;
use super::snapshot::Port;
use super::table::How;
use super::{Input, Output, Past};
use crate::ofproto::classifier::Looked;
use crate::tunnel;

/// Actions that there is room for at first.
const ACTIONS: usize = 4;
/// The longest list of actions that a netlink attribute can hold.
const MAX_ACTIONS_LEN: usize = 65535;
/// What a short action takes there, at most.
const SHORT: usize = 1024;
/// More outputs than this overflow the kernel's queue of packets to its own ports.
const MAX_OUTPUTS: usize = 1000;

/// Whether an action is one of those that hold neither others nor data of any length.
fn is_short(action: &Action) -> bool {
    use Action::*;
    let fixed = |key: &KeyAttr| !matches!(key, KeyAttr::Encap(_) | KeyAttr::Unknown(..));
    match action {
        Set(key) | SetMasked(key, _) => fixed(key),
        _ => matches!(
            action,
            Output(_)
                | PushVlan(_)
                | PopVlan
                | Recirc(_)
                | Hash { .. }
                | PushMpls { .. }
                | PopMpls(_)
                | Ct(_)
                | CtClear
                | Trunc(_)
                | PushEth { .. }
                | PopEth
                | Meter(_)
                | Drop(_)
        ),
    }
}

/// Translation stopped; the error is in the context, and the mask is left as it is.
struct Stopped;

/// Memory that translations use one after the other.
#[derive(Default)]
pub struct Room {
    mask: Option<Box<Mask>>,
    actions: Vec<Action>,
}

impl Room {
    /// An empty mask.
    pub fn mask(&mut self) -> Box<Mask> {
        match self.mask.take() {
            Some(mut mask) => {
                mask.0.zero();
                mask
            }
            None => Mask::boxed(),
        }
    }

    /// An empty mask and an empty list.
    pub(super) fn take(&mut self) -> (Looked, Vec<Action>) {
        let mut actions = std::mem::take(&mut self.actions);
        actions.clear();
        actions.reserve(ACTIONS);
        (Looked::new(self.mask()), actions)
    }

    /// Takes back what the result of a translation does not need any more.
    pub fn put(&mut self, mask: Box<Mask>, actions: Vec<Action>) {
        self.keep_mask(mask);
        self.keep_list(actions);
    }

    /// Likewise, of a mask.
    pub fn keep_mask(&mut self, mask: Box<Mask>) {
        self.mask = Some(mask);
    }

    /// Likewise, of a list of actions.
    pub fn keep_list(&mut self, actions: Vec<Action>) {
        self.actions = actions;
    }
}

/// Translates a packet.
pub fn translate(input: &Input<'_>) -> Output {
    translate_again(input, None, &mut Room::default())
}

/// Translates a packet of whose last translation it may be known what it did.
pub fn translate_again(input: &Input<'_>, past: Option<&Past<'_>>, room: &mut Room) -> Output {
    // Keys are long: they are copied once, to where they stay.
    let (mut key, mut base) = (*input.key, *input.key);
    let mut ctx = Ctx::new(input, past, (&mut key, &mut base), room);
    ctx.init_mask();
    ctx.place = ctx.report(Kind::Bridge, format_args!("bridge(\"{}\")", input.bridge.name));
    let whole = ctx.run().is_ok();
    let free = ctx.wc.finish();
    if whole {
        ctx.finish_mask();
    }
    ctx.finish_actions();
    let quiet = [DropReason::Congestion, DropReason::ForwardingDisabled];
    Output {
        key: input.trace.then(|| Box::new(*ctx.key)),
        veiled: ctx.wc.is_veiled(),
        mask: ctx.wc.into_mask(),
        free,
        alone: ctx.alone,
        actions: ctx.odp,
        slow: ctx.slow,
        recircs: ctx.recircs,
        error: ctx.error.filter(|error| !quiet.contains(error)),
        avoid_caching: ctx.avoid_caching,
        counts_rules: ctx.counts_rules,
        same: ctx.same,
        effects: ctx.effects,
        blind: ctx.blind,
        guessed: ctx.guessed,
        trace: ctx.tree,
        recirculations: ctx.recirculations,
    }
}

impl Ctx<'_> {
    /// What every translation looks at.
    fn init_mask(&mut self) {
        let m = &mut self.wc.0;
        (m.packet_type, m.in_port, m.dl_type) = (u32::MAX.into(), u32::MAX, u16::MAX.into());
        if ethertype::is_ip(dl_type(self.key)) {
            m.nw_frag |= frag::MASK;
        }
        if self.can(|features| features.recirc) {
            self.wc.0.recirc_id = u32::MAX;
        }
        tunnel::mask_received(self.key, &mut self.wc);
    }

    /// Removes from the mask what no datapath flow can match.
    fn finish_mask(&mut self) {
        let upcall = self.input.key;
        if upcall.tunnel.flags & tnl_flags::RAW_OPTS != 0 {
            // As the datapath has them.
            let mut mask = self.wc.0.tunnel;
            self.tlvs().unmap_mask(&mut mask, &upcall.tunnel);
            self.wc.0.tunnel = mask;
        }
        let wc = &mut self.wc.0;
        (wc.metadata, wc.regs, wc.actset_output, wc.conj_id) = (0.into(), [0; flow::key::REGS], 0, 0);
        if upcall.packet_type.get() != PT_ETH {
            (wc.dl_dst, wc.dl_src) = ([0; 6], [0; 6]);
        }
        let icmp = match dl_type(self.key) {
            ethertype::IPV4 => self.key.nw_proto == ip::ICMP,
            ethertype::IPV6 => self.key.nw_proto == ip::ICMPV6,
            _ => false,
        };
        if icmp {
            wc.tp_src = (wc.tp_src.get() & 0xff).into();
            wc.tp_dst = (wc.tp_dst.get() & 0xff).into();
        }
        for (mask, vlan) in wc.vlans.iter_mut().zip(&upcall.vlans) {
            if mask.tci.get() != 0 {
                mask.tci = (mask.tci.get() | VLAN_CFI).into();
            }
            if !ethertype::is_vlan(vlan.tpid.get()) {
                *mask = flow::key::Vlan::default();
            }
        }
        if self.key.nw_frag & frag::LATER != 0 {
            (wc.tp_src, wc.tp_dst) = (0.into(), 0.into());
        }
        if !ethertype::is_mpls(upcall.dl_type.get()) {
            wc.mpls_lse = [0.into(); 4];
        }
        if !upcall.tunnel.is_set() {
            wc.tunnel = Tunnel::new_zeroed();
        }
    }

    /// From the first table, or from where a frozen translation stopped, to the actions.
    fn run(&mut self) -> Result<(), Stopped> {
        let entry = self.bridge;
        let frozen = match &self.input.frozen {
            Some(frozen) => Some(Arc::clone(frozen)),
            None => self.input.recirc.find(RecircId(self.key.recirc_id)),
        };
        match &frozen {
            Some(frozen) => self.thaw(frozen)?,
            None if self.key.recirc_id != 0 => {
                let id = self.key.recirc_id;
                self.error(format_args!("Recirculation context not found for ID {id:x}"));
                return self.stop(DropReason::NoRecirculationContext);
            }
            None => self.conntracked = self.key.ct_state & flow::proto::ct::TRACKED != 0,
        }
        self.map_options()?;
        let in_port = entry.ports.get(&OfPort(self.base.in_port as u16));
        if let Some(port) = in_port.filter(|port| port.peer.is_none()) {
            self.port = Some((entry.id, port.ofp));
        }
        let layer3 =
            in_port.is_some_and(|port| port.packets == Packets::LegacyL3) && self.table == TableId(0);
        if layer3 && self.key.packet_type.get() != PT_ETH {
            self.key.packet_type = PT_ETH.into();
            (self.key.dl_src, self.key.dl_dst) = ([0; 6], [0; 6]);
            self.pending_encap = true;
        }
        let actions = self.initial_actions(frozen.as_deref());
        if let Some(port) = in_port.filter(|port| port.tunnel.is_some() && frozen.is_none()) {
            self.effect(Effect::Patch { tx: None, rx: Some(Arc::clone(&port.counters)) });
        }
        self.process(in_port, actions, frozen.is_some())?;
        if self.too_much() {
            self.slow |= SlowReasons::ACTION;
        }
        Ok(())
    }

    /// Gives tunnel options that are as the datapath has them their places.
    fn map_options(&mut self) -> Result<(), Stopped> {
        if self.key.tunnel.flags & tnl_flags::RAW_OPTS == 0 {
            return Ok(());
        }
        let mut tunnel = self.key.tunnel;
        if self.tlvs().map(&mut tunnel).is_err() {
            self.error("Invalid Geneve tunnel metadata");
            return self.stop(DropReason::InvalidTunnelMetadata);
        }
        self.key.tunnel = tunnel;
        Ok(())
    }

    fn stop(&mut self, reason: DropReason) -> Result<(), Stopped> {
        self.fail(reason);
        Err(Stopped)
    }

    /// Goes on where a translation was frozen.
    fn thaw(&mut self, frozen: &Arc<Frozen>) -> Result<(), Stopped> {
        let outer = self.place;
        self.place = self.report(Kind::Thaw, "thaw");
        if self.input.actions.is_some_and(|actions| !actions.is_empty()) || self.rule.is_some() {
            let what = if self.rule.is_some() { "rule" } else { "actions" };
            self.error(format_args!("Recirculation conflict ({what})!"));
            return self.stop(DropReason::RecirculationConflict);
        }
        if frozen.bridge != self.bridge.id {
            let Some(bridge) = self.input.snapshot.bridge(frozen.bridge) else {
                self.error("Frozen bridge no longer exists.");
                return self.stop(DropReason::BridgeNotFound);
            };
            self.enter_bridge(bridge);
        }
        self.table = frozen.table;
        self.report(Kind::Thaw, format_args!("Resuming from table {}", frozen.table));
        self.conntracked = frozen.conntracked;
        if !frozen.conntracked {
            self.clear_conntrack();
        }
        frozen.metadata.restore(self.key);
        self.stack.extend(frozen.stack.iter().cloned());
        self.mirrors = frozen.mirrors;
        let names = openflow::names::Names::default();
        if !frozen.action_set.is_empty() {
            let text = openflow::action::text(&frozen.action_set, &names).to_string();
            self.report(Kind::Thaw, format_args!("Restoring action set: {text}"));
            self.key.actset_output = OfPort::UNSET.0.into();
            self.write_actions(&frozen.action_set);
        }
        if !frozen.actions.is_empty() {
            let text = openflow::action::text(&frozen.actions, &names).to_string();
            self.report(Kind::Thaw, format_args!("Restoring actions: {text}"));
        }
        self.place = outer;
        Ok(())
    }

    /// The actions to begin with: given ones, or those of the first rule.
    fn initial_actions(&mut self, frozen: Option<&Frozen>) -> Arc<[OfAction]> {
        if let Some(frozen) = frozen.filter(|frozen| !frozen.actions.is_empty()) {
            return frozen.actions.as_slice().into();
        }
        if let Some(actions) = self.input.actions {
            return actions.into();
        }
        if self.rule.is_none() {
            let in_port = self.in_port();
            if let Some(landing) = self.lookup(in_port, self.table, How::GOTO) {
                self.place = self.report_table(&landing, landing.table);
                self.table = landing.table;
                self.rule = Some(landing.rule);
            }
        }
        let Some(rule) = &self.rule else { return Arc::new([]) };
        self.cookie = rule.cookie;
        Arc::clone(&rule.actions)
    }

    /// Does the actions for a packet from `in_port`, with what comes before and after them.
    fn process(
        &mut self,
        in_port: Option<&Port>,
        actions: Arc<[OfAction]>,
        thawed: bool,
    ) -> Result<(), Stopped> {
        let entry = self.input.bridge;
        let reserved = in_port.and_then(|port| port.bundle).filter(|bundle| entry.is_mirror_output(*bundle));
        if let Some(bundle) = reserved.and_then(|bundle| entry.bundle(bundle)) {
            let name = bundle.name.clone();
            self.error(format_args!(
                "dropping packet received on port {name}, which is reserved exclusively for mirroring"
            ));
            return Ok(());
        }
        let sampled = if thawed { None } else { self.compose_sflow() };
        if !tunnel::take_congestion(self.key) {
            self.fail(DropReason::Congestion);
        } else if in_port.is_none_or(|port| self.may_receive(port)) {
            self.mirror_ingress();
            self.actions(&actions, true, false);
            if self.error.is_some() {
                return Err(Stopped);
            }
            if !self.freezing {
                self.execute_action_set();
            }
            if self.freezing {
                self.finish_freezing();
            }
        }
        // Who is no DHCP server does not look whether packets are of one, for masks are not to tell of that.
        self.alone |= entry.in_band;
        if !self.freezing && entry.in_band && self.is_dhcp_reply() && !self.outputs_to_local() {
            self.mask_dhcp();
            self.detail("outputting DHCP packet to local port for in-band control");
            self.compose_output(OfPort::LOCAL, false, false);
        }
        if let Some(at) = sampled {
            self.fix_sflow(at);
        }
        Ok(())
    }

    /// Whether a port takes the packet.
    pub(super) fn may_receive(&mut self, port: &Port) -> bool {
        use openflow::msg::port::PortConfig;
        self.alone |= port.config.intersects(PortConfig::NO_RECV | PortConfig::NO_RECV_STP);
        let stp = self.key.dl_dst == [0x01, 0x80, 0xc2, 0, 0, 0] && self.key.dl_type.get() == ethertype::NONE;
        !port.config.contains(if stp { PortConfig::NO_RECV_STP } else { PortConfig::NO_RECV })
    }

    fn is_dhcp_reply(&self) -> bool {
        let key = &self.key;
        key.dl_type.get() == ethertype::IPV4
            && key.nw_proto == ip::UDP
            && (key.tp_src.get(), key.tp_dst.get()) == (67, 68)
    }

    fn mask_dhcp(&mut self) {
        let m = &mut self.wc.0;
        (m.nw_proto, m.tp_src, m.tp_dst) = (u8::MAX, u16::MAX.into(), u16::MAX.into());
    }

    fn outputs_to_local(&self) -> bool {
        let local = self.input.bridge.ports.get(&OfPort::LOCAL).map_or(DpPort::NONE, |port| port.odp);
        self.odp.contains(&Action::Output(local))
    }

    /// Whether the datapath could not take the actions, or not do them reliably.
    fn too_much(&self) -> bool {
        let outputs =
            self.odp.iter().filter(|action| matches!(action, Action::Output(_) | Action::LbOutput(_)));
        self.odp_len() > MAX_ACTIONS_LEN || outputs.count() > MAX_OUTPUTS
    }

    /// How long the actions are on the wire, at most; exact where it matters.
    pub(super) fn odp_len(&self) -> usize {
        if self.odp.len() < MAX_ACTIONS_LEN / SHORT && self.odp.iter().all(is_short) {
            return self.odp.len() * SHORT;
        }
        Action::encode_all(&self.odp).len()
    }

    /// Makes dropping explicit, and spares the datapath a copy that nothing needs.
    fn finish_actions(&mut self) {
        let explicit = self.can(|features| features.explicit_drop_action);
        if let Some(error) = self.error {
            self.slow = SlowReasons::empty();
            self.odp.clear();
            if explicit {
                self.odp.push(Action::Drop(error));
            }
            return;
        }
        if self.odp.is_empty() {
            if explicit {
                self.odp.push(Action::Drop(DropReason::Pipeline));
            }
            return;
        }
        if let Some(Action::Clone(_)) = self.odp.last()
            && let Some(Action::Clone(inside)) = self.odp.pop()
        {
            self.odp.extend(inside);
        }
    }
}
