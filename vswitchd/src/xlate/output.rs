//! Output: to ports, to other bridges through patch ports, to all.

use std::sync::Arc;

use datapath::linux::tc::MAX_QUEUES;
use datapath::netdev::tunnel::Packets;
use flow::action::Action;
use flow::cookie::SlowReasons;
use flow::field::NoNames;
use flow::id::{DpPort, OfPort, TableId};
use flow::key::{EthAddr, Key, MAX_VLANS, REGS, Tunnel, Vlan};
use flow::odp::commit::commit_tunnel;
use flow::proto::{PT_ETH, pt_of_ethertype};
use openflow::action::{Enqueue, OutputReg, OutputTrunc};
use openflow::msg::port::PortConfig;
use zerocopy::FromZeros;
use zerocopy::big_endian::{U16, U32};

use super::controller::reason;
use super::ctx::Ctx;
use super::effect::Effect;
use super::report::Kind;
use super::snapshot::Port;
use super::table::How;
use crate::tunnel::{self, TunnelPort};

/// What of a packet's header an output may change for itself.
struct Header {
    vlans: [Vlan; MAX_VLANS],
    nw_tos: u8,
    macs: [EthAddr; 2],
    dl_type: U16,
    packet_type: U32,
}

impl Header {
    fn of(key: &Key) -> Self {
        let macs = [key.dl_dst, key.dl_src];
        let (vlans, nw_tos, dl_type, packet_type) = (key.vlans, key.nw_tos, key.dl_type, key.packet_type);
        Self { vlans, nw_tos, macs, dl_type, packet_type }
    }

    fn restore(self, key: &mut Key) {
        (key.vlans, key.nw_tos) = (self.vlans, self.nw_tos);
        [key.dl_dst, key.dl_src] = self.macs;
        (key.packet_type, key.dl_type) = (self.packet_type, self.dl_type);
    }
}

impl<'a> Ctx<'a> {
    /// The `output` action. `controller_len`: bytes to send if the port is the controller.
    pub(super) fn output(
        &mut self,
        port: OfPort,
        controller_len: u16,
        may_packet_in: bool,
        last: bool,
        truncate: bool,
        bucket: bool,
    ) {
        match port {
            OfPort::IN_PORT => {
                let in_port = self.in_port();
                self.compose_output(in_port, last, truncate);
            }
            OfPort::TABLE => {
                let how = How { may_packet_in, ..How::GOTO };
                let in_port = self.in_port();
                self.table_action(in_port, TableId(0), how, false);
            }
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => self.flood(false, last),
            OfPort::ALL => self.flood(true, last),
            OfPort::CONTROLLER => {
                let why = if self.input.in_packet_out {
                    reason::PACKET_OUT
                } else if bucket {
                    reason::GROUP
                } else if self.in_action_set {
                    reason::ACTION_SET
                } else {
                    reason::ACTION
                };
                self.controller(controller_len, why, 0, 0, &[]);
            }
            OfPort::NONE => {}
            port if port == self.in_port() => self.info("skipping output to input port"),
            port => self.compose_output(port, last, truncate),
        }
    }

    pub(super) fn output_reg(&mut self, a: &OutputReg, last: bool, bucket: bool) {
        let port = a.src.get_u64(self.key);
        let Ok(number) = u16::try_from(port) else {
            return self.warn(format_args!("output port {port} is out of range"));
        };
        self.detail(format_args!("output port is {number}"));
        a.src.mask_bits(&mut self.wc);
        self.output(OfPort(number), a.max_len, false, last, false, bucket);
    }

    pub(super) fn output_trunc(&mut self, a: &OutputTrunc, last: bool, bucket: bool) {
        let mut name = String::new();
        flow::field::format_port(a.port, &NoNames, &mut name);
        match a.port {
            OfPort::TABLE
            | OfPort::NORMAL
            | OfPort::FLOOD
            | OfPort::ALL
            | OfPort::CONTROLLER
            | OfPort::NONE => {
                self.warn(format_args!("output_trunc does not support port: {name}"));
            }
            port if port == self.in_port() => self.info("skipping output to input port"),
            port if port != OfPort::IN_PORT && self.odp_port(port) == DpPort::NONE => {
                self.error(format_args!("output_trunc does not support patch port {name}"));
            }
            port => {
                self.odp.push(Action::Trunc(a.max_len));
                self.output(port, 0, false, last, true, bucket);
                if !self.can(|features| features.trunc) {
                    self.slow |= SlowReasons::ACTION;
                }
            }
        }
    }

    /// What names a queue to the datapath: to Linux's, a traffic class; to a userspace one, its own number.
    fn queue_priority(&self, queue: u32) -> Option<u32> {
        if self.can(|features| features.tnl_push_pop) {
            return Some(queue);
        }
        (queue < MAX_QUEUES).then_some(0x1_0000 | (queue + 1))
    }

    pub(super) fn enqueue(&mut self, a: &Enqueue, last: bool, bucket: bool) {
        self.wc.0.skb_priority = u32::MAX;
        let Some(priority) = self.queue_priority(a.queue) else {
            return self.output(a.port, 0, false, last, false, bucket);
        };
        let port = match a.port {
            OfPort::IN_PORT => self.in_port(),
            port if port == self.in_port() => return,
            port => port,
        };
        let old = std::mem::replace(&mut self.key.skb_priority, priority);
        self.compose_output(port, last, false);
        self.key.skb_priority = old;
    }

    pub(super) fn set_queue(&mut self, queue: u32) {
        self.wc.0.skb_priority = u32::MAX;
        if let Some(priority) = self.queue_priority(queue) {
            self.key.skb_priority = priority;
        }
    }

    pub(super) fn pop_queue(&mut self) {
        self.wc.0.skb_priority = u32::MAX;
        if self.key.skb_priority != self.orig_priority {
            self.key.skb_priority = self.orig_priority;
            let queue = super::trace::alt_hex(self.orig_priority.into());
            self.detail(format_args!("queue = {queue}"));
        }
    }

    /// To every port but the one by which the packet came; without `all`, to those that take floods.
    fn flood(&mut self, all: bool, last: bool) {
        let in_port = self.in_port();
        let wanted =
            |port: &&Port| port.ofp != in_port && (all || !port.config.contains(PortConfig::NO_FLOOD));
        let ports: Vec<OfPort> =
            self.bridge.ports_hashed().into_iter().filter(wanted).map(|port| port.ofp).collect();
        for (i, &port) in ports.iter().enumerate() {
            self.compose_output(port, last && i + 1 == ports.len(), false);
        }
    }

    /// Sends the packet by a port, as it is now.
    pub(super) fn compose_output(&mut self, ofp: OfPort, last: bool, truncate: bool) {
        let Some(port) = self.port(ofp) else {
            return self.warn("Nonexistent output port");
        };
        if !self.may_output(port) {
            return;
        }
        let old = Header::of(self.key);
        let tunnel = port.tunnel.as_ref().map(|_| self.key.tunnel);
        if port.packets == Packets::LegacyL3 && self.key.packet_type.get() == PT_ETH {
            self.key.packet_type = pt_of_ethertype(self.key.dl_type.get()).into();
            self.pending_encap = false;
        }
        if let Some((bridge, peer)) = port.peer {
            if truncate {
                self.error("Cannot truncate output to patch port");
            }
            let snapshot = self.input.snapshot;
            let other = snapshot.bridge(bridge).and_then(|bridge| Some((bridge, bridge.ports.get(&peer)?)));
            if let Some((bridge, peer)) = other {
                self.patch(port, bridge, peer, last);
            }
            self.key.packet_type = old.packet_type;
            return;
        }
        self.set_queue_dscp(port);
        if port.tunnel.as_ref().is_none_or(|tunnel| self.enter_tunnel(port, tunnel)) {
            self.send(port, tunnel.as_ref());
        }
        if let Some(tunnel) = tunnel {
            self.key.tunnel = tunnel;
        }
        old.restore(self.key);
    }

    /// Sends the packet by the datapath's port; `tunnel` is what actions see of outer headers, if that is not what the packet has.
    fn send(&mut self, port: &Port, tunnel: Option<&Tunnel>) {
        if port.odp != DpPort::NONE {
            self.commit();
            match port.tunnel {
                Some(_) if self.input.snapshot.native_tunnels() => self.push_tunnel(),
                _ => self.put_output(port.odp),
            }
        }
        if let Some(tunnel) = tunnel {
            self.key.tunnel = *tunnel;
        }
        if !self.bridge.mirrors.is_empty()
            && let Some(bundle) = port.bundle.and_then(|id| self.bridge.bundle(id))
        {
            self.mirror_egress(bundle);
        }
    }

    /// Gives the packet a tunnel's outer header. Whether it leaves by the tunnel then.
    fn enter_tunnel(&mut self, port: &Port, tunnel: &TunnelPort) -> bool {
        if tunnel.odp == DpPort::NONE {
            self.warn("Tunneling decided against output");
            return false;
        }
        tunnel.send(self.key, &mut self.wc);
        let arrived_at = tunnel::dst(&self.input.key.tunnel);
        if tunnel::dst(&self.key.tunnel) == arrived_at {
            self.warn("Not tunneling to our own address");
            return false;
        }
        self.effect(Effect::Patch { tx: Some(Arc::clone(&port.counters)), rx: None });
        if self.input.snapshot.native_tunnels() {
            self.detail("output to native tunnel");
        } else {
            self.detail("output to kernel tunnel");
            commit_tunnel(self.key, self.base, &mut self.odp, Some(tunnel.kind));
        }
        true
    }

    /// Where the outer header would be put on by an action of its own.
    fn push_tunnel(&mut self) {
        self.warn("userspace datapaths do not send to tunnels yet, dropping packet");
    }

    fn put_output(&mut self, odp: DpPort) {
        if self.mirror_snaplen > 0 && self.mirror_snaplen < u16::MAX {
            self.odp.push(Action::Trunc(self.mirror_snaplen.into()));
            if !self.can(|features| features.trunc) {
                self.slow |= SlowReasons::ACTION;
            }
        }
        self.odp.push(Action::Output(odp));
        self.sflow_port = odp;
        self.sflow_outputs += 1;
    }

    /// A queue may have a DSCP that its packets carry.
    fn set_queue_dscp(&mut self, port: &Port) {
        if port.queue_dscp.is_empty() {
            return;
        }
        self.wc.0.skb_priority = u32::MAX;
        let priority = self.key.skb_priority;
        let is_chosen = |(queue, _): &&(u32, u8)| self.queue_priority(*queue) == Some(priority);
        if let Some((_, dscp)) = port.queue_dscp.iter().find(is_chosen) {
            self.wc.0.nw_tos |= 0xfc;
            self.key.nw_tos = (self.key.nw_tos & 3) | dscp;
        }
    }

    fn may_output(&mut self, port: &Port) -> bool {
        if port.config.contains(PortConfig::NO_FWD) {
            self.detail("OFPPC_NO_FWD set, skipping output");
        } else if self.mirror_snaplen != 0 && port.odp == DpPort::NONE {
            self.warn("Mirror truncate to ODPP_NONE, skipping output");
        } else if self.between_protected(port) {
            self.warn("Flow is between protected ports, skipping output.");
        } else if port.packets == Packets::LegacyL2 && self.key.packet_type.get() != PT_ETH {
            self.warn("Trying to send non-Ethernet packet through legacy L2 port. Dropping packet.");
        } else {
            return true;
        }
        false
    }

    fn between_protected(&self, to: &Port) -> bool {
        let protected = |port: Option<&Port>| {
            port.and_then(|port| self.bridge.bundle(port.bundle?)).is_some_and(|bundle| bundle.protected)
        };
        protected(Some(to)) && protected(self.port(self.in_port()))
    }

    /// Goes on in the bridge at the other end of a patch port, with a copy of the packet.
    fn patch(&mut self, from: &'a Port, bridge: &'a Arc<super::Bridge>, to: &'a Port, last: bool) {
        let (was_mpls, conntracked) = (self.was_mpls, self.conntracked);
        let retained = self.retain();
        let tunnel_mask = self.wc.0.tunnel;
        self.key.in_port = to.ofp.0.into();
        self.key.metadata = 0.into();
        self.key.tunnel = Tunnel::new_zeroed();
        self.wc.0.tunnel = Tunnel::new_zeroed();
        self.key.regs = [0; REGS];
        self.key.actset_output = OfPort::UNSET.0.into();
        self.clear_conntrack();
        let outer = self.place;
        self.place = self.report(Kind::Bridge, format_args!("bridge(\"{}\")", bridge.name));
        let independent = bridge.id != self.bridge.id;
        let mirrors = self.mirrors;
        if independent {
            self.mirrors = 0;
        }
        let back = self.enter_bridge(bridge);
        if self.may_receive(to) {
            self.table_action(to.ofp, TableId(0), How::PATCH, last);
            if !self.freezing {
                self.execute_action_set();
            }
            if self.freezing {
                self.finish_freezing();
            }
        }
        self.leave_bridge(back);
        self.place = outer;
        if independent {
            self.mirrors = mirrors;
        }
        self.wc.0.tunnel = tunnel_mask;
        self.restore(retained);
        (self.was_mpls, self.conntracked, self.exit, self.error) = (was_mpls, conntracked, false, None);
        let (tx, rx) = (Some(Arc::clone(&from.counters)), Some(Arc::clone(&to.counters)));
        self.effect(Effect::Patch { tx, rx });
    }
}
