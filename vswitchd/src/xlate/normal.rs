//! NORMAL: learning L2 switching with VLANs.

use std::sync::Arc;

use datapath::netdev::tunnel::Packets;
use flow::key::{EthAddr, VLAN_CFI};
use flow::proto::{PT_ETH, arp, ethertype};

use super::ctx::Ctx;
use super::effect::Effect;
use super::mac::Learned;
use super::report::Kind;
use super::snapshot::{Admission, Bundle, Port, PriorityTags, VlanMode};
use super::vlan::Tags;
use flow::id::OfPort;

/// Where a packet came in.
#[derive(Clone, Copy)]
pub(super) struct Ingress<'a> {
    /// `None` for packets of a controller, which may have any VLAN.
    pub bundle: Option<&'a Bundle>,
    pub port: Option<&'a Port>,
}

fn is_reserved(mac: EthAddr) -> bool {
    mac[..5] == [0x01, 0x80, 0xc2, 0, 0] && mac[5] & 0xf0 == 0
}

impl<'a> Ctx<'a> {
    /// The bundle by which the packet came; `None` if it came by none, and that is not as it should be.
    pub(super) fn ingress(&mut self) -> Option<Ingress<'a>> {
        let ofp = self.in_port();
        let port = self.port(ofp);
        if let Some(bundle) = self.bundle_of(ofp) {
            return Some(Ingress { bundle: Some(bundle), port });
        }
        if ofp == OfPort::CONTROLLER || ofp == OfPort::NONE {
            return Some(Ingress { bundle: None, port });
        }
        self.error(format_args!("received packet on unknown port {ofp}"));
        None
    }

    pub(super) fn normal(&mut self) {
        let m = &mut self.wc.0;
        (m.dl_src, m.dl_dst) = ([0xff; 6], [0xff; 6]);
        m.vlans[0].tci = (m.vlans[0].tci.get() | 0xfff | VLAN_CFI).into();
        let Some(ingress) = self.ingress() else {
            return self.warn("no input bundle, dropping");
        };
        let Some(tags) = self.admit(&ingress) else { return };
        let vlan = tags.0[0].vid;
        self.learn_source(&ingress, vlan);
        match self.bridge.macs.lookup(self.key.dl_dst, vlan) {
            Some(id) => match self.bridge.bundle(id) {
                Some(_) if self.bridge.is_mirror_output(id) => {
                    self.warn("learned port is a mirror port, dropping");
                }
                Some(bundle) if ingress.bundle.is_none_or(|from| from.id != id) => {
                    self.detail("forwarding to learned port");
                    self.output_normal(bundle, &tags);
                }
                Some(_) => self.detail("learned port is input port, dropping"),
                None => self.warn("learned port is unknown, dropping"),
            },
            None => {
                self.detail("no learned MAC for destination, flooding");
                self.flood_vlan(&ingress, &tags);
            }
        }
    }

    /// The tags that the packet has inside the bridge, unless it is refused.
    fn admit(&mut self, ingress: &Ingress<'_>) -> Option<Tags> {
        let name = ingress.bundle.map_or("", |bundle| bundle.name.as_str());
        let untagged = self.key.vlans[0].tci.get() & VLAN_CFI == 0;
        if ethertype::is_vlan(self.key.dl_type.get()) && untagged {
            if self.input.packet.is_some() {
                self.error(format_args!("dropping packet with partial VLAN tag received on port {name}"));
            }
            self.warn("partial VLAN tag, dropping");
            return None;
        }
        if ingress.bundle.is_some_and(|bundle| self.bridge.is_mirror_output(bundle.id)) {
            if self.input.packet.is_some() {
                self.error(format_args!(
                    "dropping packet received on port {name}, which is reserved exclusively for mirroring"
                ));
            }
            self.warn("input port is mirror output port, dropping");
            return None;
        }
        let outside = Tags::of(self.key);
        if !self.input_vid_ok(outside.0[0].vid, ingress.bundle) {
            self.warn("disallowed VLAN VID for this input port, dropping");
            return None;
        }
        let tags = outside.inward(ingress.bundle);
        let admissible = ingress.port.is_none() || self.admissible(ingress, tags.0[0].vid);
        admissible.then_some(tags)
    }

    fn admissible(&mut self, ingress: &Ingress<'_>, vlan: u16) -> bool {
        if !self.bridge.forward_bpdu && is_reserved(self.key.dl_dst) {
            self.report(Kind::Detail, "packet has reserved destination MAC, dropping");
            return false;
        }
        let Some((bundle, bond)) = ingress.bundle.and_then(|bundle| Some((bundle, bundle.bond.as_ref()?)))
        else {
            return true;
        };
        match bond.admit(self.in_port(), self.key) {
            Admission::Accept => true,
            Admission::Drop => {
                self.detail("bonding refused admissibility, dropping");
                false
            }
            Admission::DropIfMoved => {
                // So does the time.
                self.alone = true;
                let macs = &self.bridge.macs;
                let moved = macs.lookup(self.key.dl_src, vlan).is_some_and(|at| at != bundle.id);
                let locked = macs.is_locked(self.key.dl_src, vlan, self.input.now);
                if moved && (!self.is_gratuitous_arp() || locked) {
                    self.detail("SLB bond thinks this packet looped back, dropping");
                    return false;
                }
                true
            }
        }
    }

    /// Virtual machines announce by gratuitous ARPs that they have moved.
    fn is_gratuitous_arp(&mut self) -> bool {
        let (key, m) = (&*self.key, &mut self.wc.0);
        if key.dl_type.get() != ethertype::ARP {
            return false;
        }
        m.dl_dst = [0xff; 6];
        if key.dl_dst != [0xff; 6] {
            return false;
        }
        m.nw_proto = 0xff;
        match key.nw_proto {
            arp::REPLY => true,
            arp::REQUEST => {
                (m.nw_src, m.nw_dst) = (u32::MAX.into(), u32::MAX.into());
                key.nw_src == key.nw_dst
            }
            _ => false,
        }
    }

    fn learn_source(&mut self, ingress: &Ingress<'_>, vlan: u16) {
        let gratuitous = self.is_gratuitous_arp();
        let Some(bundle) = ingress.bundle else { return };
        let (macs, mac) = (Arc::clone(&self.bridge.macs), self.key.dl_src);
        let bonded = bundle.bond.is_some();
        let layer2 = ingress.port.is_some_and(|port| port.packets != Packets::LegacyL3)
            && self.key.packet_type.get() == PT_ETH;
        if self.input.side_effects
            && layer2
            && macs.learn(mac, vlan, bundle.id, gratuitous, bonded, self.input.now) == Learned::Changed
        {
            let mut text = String::new();
            flow::field::Field::EthSrc.format(
                &flow::field::Value::from_bytes(&mac),
                None,
                &flow::field::NoNames,
                &mut text,
            );
            self.debug(format_args!("learned that {text} is on port {} in VLAN {vlan}", bundle.name));
        }
        self.effect(Effect::Mac { macs, bundle: bundle.id, mac, vlan, gratuitous, bonded });
    }

    /// To every bundle of the VLAN but the one by which the packet came.
    fn flood_vlan(&mut self, ingress: &Ingress<'_>, tags: &Tags) {
        let bridge = self.bridge;
        for bundle in &bridge.bundles {
            if ingress.bundle.is_none_or(|from| from.id != bundle.id)
                && bundle.includes(tags)
                && bundle.floodable
                && !bridge.is_mirror_output(bundle.id)
            {
                self.output_normal(bundle, tags);
            }
        }
    }

    /// Out by a bundle, with the tags that it has.
    pub(super) fn output_normal(&mut self, bundle: &Bundle, tags: &Tags) {
        if bundle.mode == VlanMode::Dot1qTunnel && bundle.cvlans.is_some() {
            self.wc.0.vlans[1].tci = u16::MAX.into();
        }
        let mut outside = tags.outward(bundle);
        if bundle.priority_tags != PriorityTags::Never {
            outside.0[0].pcp = self.key.vlans[0].tci.get() & 0xe000;
        }
        let vid = outside.0[0].vid;
        let port = match &bundle.bond {
            None => bundle.ports.first().copied(),
            Some(bond) => {
                let bridge = self.bridge;
                let enabled = |port: OfPort| bridge.ports.get(&port).is_some_and(|port| port.may_enable);
                bond.choose(self.key, vid, &bundle.ports, &enabled, &mut self.wc)
            }
        };
        let Some(port) = port else { return };
        let old = self.key.vlans;
        outside.put(self.key, bundle.priority_tags);
        self.compose_output(port, false, false);
        self.key.vlans = old;
    }
}
