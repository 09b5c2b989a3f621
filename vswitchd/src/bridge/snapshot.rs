//! What translation reads of the bridges: built whole whenever they changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datapath::PortChanges;
use datapath::netdev::Flags;
use datapath::netdev::tunnel::Packets;
use flow::id::{DpPort, OfPort};
use flow::time::Instant;
use openflow::msg::port::PortConfig;

use super::{Bridge, Bridges, Iface, Outside, device};
use crate::ofproto::meter::{CONTROLLER_METER, SLOWPATH_METER};
use crate::xlate::BridgeId;
use crate::xlate::snapshot::{self, Snapshot};

/// VLAN tags that translation looks at, unless told otherwise.
const VLAN_LIMIT: u8 = 1;
/// VLAN tags that a key has room for.
const MAX_VLAN_LIMIT: u8 = 2;

impl Bridges {
    /// Takes `vlan-limit`: how many tags are looked at.
    pub(super) fn set_vlan_limit(&mut self, other_config: &BTreeMap<String, String>) {
        let limit = other_config.get("vlan-limit").and_then(|text| text.parse().ok()).unwrap_or(VLAN_LIMIT);
        self.vlan_limit = if limit == 0 { MAX_VLAN_LIMIT } else { limit.min(MAX_VLAN_LIMIT) };
    }

    /// Publishes a snapshot for each type of datapath.
    pub(super) fn publish(&mut self, outside: &mut dyn Outside) {
        let peers: BTreeMap<(String, String), (BridgeId, OfPort)> = self.patch_peers();
        let mut kinds: BTreeMap<String, Vec<Arc<snapshot::Bridge>>> = BTreeMap::new();
        let mut features = BTreeMap::new();
        for bridge in self.bridges.values_mut() {
            let seen = Arc::new(bridge.snapshot(&peers));
            kinds.entry(bridge.kind.clone()).or_default().push(seen);
            let own = self.features.get(&bridge.kind).map(|believed| &believed.now);
            let own = own.unwrap_or_else(|| bridge.datapath.features());
            features.insert(bridge.kind.clone(), Arc::new(own.clone()));
        }
        for (kind, bridges) in kinds {
            let features = Arc::clone(&features[&kind]);
            let mut snapshot = Snapshot::new(bridges, features, self.vlan_limit);
            snapshot.zone_policies = self.zone_policies(&kind);
            outside.publish(&kind, snapshot);
        }
    }

    /// For each patch port, by type of datapath and name: where it is.
    fn patch_peers(&self) -> BTreeMap<(String, String), (BridgeId, OfPort)> {
        let mut places = BTreeMap::new();
        for bridge in self.bridges.values() {
            for iface in bridge.ifaces().filter(|iface| iface.kind == "patch") {
                places.insert((bridge.kind.clone(), iface.name.clone()), (bridge.id, iface.ofp));
            }
        }
        places
    }

    /// Lets go of ports that somebody else took out of a datapath, or whose links are gone. The next configuration brings
    /// them back, or tells why not; for the kernel's datapath it is due now, for the kernel announces the link of such a port.
    fn look_for_lost_ports(&mut self, now: Instant) -> bool {
        let touched = std::mem::take(&mut self.touched);
        let mut looked = BTreeSet::new();
        let mut moved = BTreeSet::new();
        for bridge in self.bridges.values() {
            if looked.insert(bridge.kind.as_str()) && bridge.datapath.port_changes() != PortChanges::None {
                moved.insert(bridge.kind.clone());
            }
        }
        let mut lost = false;
        for bridge in self.bridges.values_mut() {
            let gone = bridge.lost_ports(moved.contains(&bridge.kind), &touched);
            lost |= !gone.is_empty();
            self.retry |= !gone.is_empty() && bridge.datapath.outlives_us();
            for (number, port) in gone {
                bridge.ofproto.remove_port(number, now);
                // A link that has another name now is still a port.
                match bridge.datapath.port_by_number(port) {
                    Ok(_) => _ = bridge.datapath.port_del(port),
                    Err(_) => bridge.datapath.port_lost(port),
                }
            }
        }
        lost
    }

    /// Looks at devices that changed, and at what OpenFlow changed of ports.
    pub(super) fn poll_devices(&mut self, outside: &mut dyn Outside, now: Instant) {
        let mut changed = std::mem::take(&mut self.republish) | self.look_for_lost_ports(now);
        for bridge in self.bridges.values_mut() {
            changed |= bridge.poll_devices(now);
        }
        if changed {
            self.devices_moved = true;
            self.publish(outside);
        }
    }
}

impl Bridge {
    /// Ports that are none of the datapath's any more, of all if `any` may be, else of those whose links were touched.
    fn lost_ports(&self, any: bool, touched: &BTreeMap<String, bool>) -> Vec<(OfPort, DpPort)> {
        let is_lost = |iface: &&Iface| {
            let link = touched.get(iface.device.name()).filter(|_| self.datapath.outlives_us());
            // The kernel takes such a port out a little later. An internal port stays where its device is.
            let vanished = link == Some(&true) && iface.kind == "system";
            let look = any || link.is_some();
            vanished || look && self.datapath.port_by_name(&iface.device.datapath_port()).is_err()
        };
        let present = |iface: &&Iface| iface.odp != DpPort::NONE && self.ofproto.port(iface.ofp).is_some();
        let lost = self.ifaces().filter(present).filter(is_lost);
        lost.map(|iface| (iface.ofp, iface.odp)).collect()
    }

    /// Whether anything is different from what was published.
    fn poll_devices(&mut self, now: Instant) -> bool {
        let moved: Vec<OfPort> = self
            .ifaces()
            .filter(|iface| iface.seen != iface.device.change_seq())
            .map(|iface| iface.ofp)
            .collect();
        for number in &moved {
            self.refresh_port(*number, now);
        }
        let ofproto = &self.ofproto;
        let mut changed = !moved.is_empty() || self.published_meters != self.upcall_meters();
        let mut turned = Vec::new();
        for iface in self.ports.iter_mut().flat_map(|port| &mut port.ifaces) {
            iface.seen = iface.device.change_seq();
            let state = ofproto.port(iface.ofp).map(|port| (port.desc.config, port.may_enable));
            let Some(state) = state.filter(|state| *state != iface.published) else { continue };
            let was_down = iface.published.0.contains(PortConfig::PORT_DOWN);
            let is_down = state.0.contains(PortConfig::PORT_DOWN);
            // What the device itself says is no order to it.
            let told = iface.device.flags().is_ok_and(|flags| flags.contains(Flags::UP) == is_down);
            if was_down != is_down && told {
                device::set_up(&*iface.device, !is_down);
                iface.seen = iface.device.change_seq();
                turned.push(iface.ofp);
            }
            changed = true;
        }
        for number in turned {
            self.refresh_port(number, now);
        }
        if !moved.is_empty() {
            self.follow_mtus();
        }
        changed
    }

    fn upcall_meters(&self) -> [Option<u32>; 2] {
        [SLOWPATH_METER, CONTROLLER_METER].map(|id| self.ofproto.tables().meter(id).map(|id| id.0))
    }

    fn snapshot(&mut self, peers: &BTreeMap<(String, String), (BridgeId, OfPort)>) -> snapshot::Bridge {
        let mut ports = BTreeMap::new();
        let mut bundles = Vec::new();
        for port in self.ports.iter_mut() {
            for iface in &mut port.ifaces {
                let Some(seen) = self.ofproto.port(iface.ofp) else { continue };
                iface.published = (seen.desc.config, seen.may_enable);
                ports.insert(iface.ofp, seen_port(iface, port.bundle.id, &self.kind, peers));
            }
            port.bundle.floodable = port.ifaces.iter().all(|iface| iface.floodable(iface.published.0));
            bundles.push(port.bundle.clone());
        }
        self.published_meters = self.upcall_meters();
        let [slowpath_meter, controller_meter] = self.published_meters;
        let age = |id| self.bundles.iter().position(|&bundle| bundle == id);
        bundles.sort_by_key(|bundle| age(bundle.id));
        snapshot::Bridge {
            id: self.id,
            name: self.name.clone(),
            tables: Arc::clone(self.ofproto.tables()),
            macs: Arc::clone(&self.macs),
            ports,
            bundles,
            mirrors: self.mirrors.clone(),
            forward_bpdu: self.forward_bpdu,
            in_band: false,
            packet_in_on_miss: Arc::clone(&self.packet_in_on_miss),
            controller_alive: Arc::clone(&self.controller_alive),
            sflow: self.sflow.clone().map(|sampler| sampler as _),
            flow_samples: None,
            slowpath_meter,
            controller_meter,
        }
    }
}

fn seen_port(
    iface: &Iface,
    bundle: crate::xlate::BundleId,
    kind: &str,
    peers: &BTreeMap<(String, String), (BridgeId, OfPort)>,
) -> snapshot::Port {
    let place = |peer: &String| peers.get(&(kind.to_owned(), peer.clone())).copied();
    snapshot::Port {
        ofp: iface.ofp,
        odp: if iface.kind == "patch" { DpPort::NONE } else { iface.odp },
        name: iface.name.clone(),
        bundle: Some(bundle),
        config: iface.published.0,
        may_enable: iface.published.1,
        peer: iface.peer.as_ref().filter(|_| iface.kind == "patch").and_then(place),
        counters: Arc::clone(&iface.counters),
        queue_dscp: iface.queue_dscp.clone(),
        tunnel: iface.tunnel.clone(),
        packets: iface.packets(),
    }
}

impl Iface {
    /// Which packets go in and out.
    fn packets(&self) -> Packets {
        match (&self.tunnel, self.kind.as_str()) {
            (Some(tunnel), _) => tunnel.config.packets,
            (None, "patch") => Packets::Aware,
            (None, _) => Packets::LegacyL2,
        }
    }

    /// Whether NORMAL may flood to the port with this configuration. Who is at the other end of a port without Ethernet
    /// headers cannot be learned, so flows must say what goes there.
    pub(super) fn floodable(&self, config: PortConfig) -> bool {
        !config.contains(PortConfig::NO_FLOOD) && self.packets() != Packets::LegacyL3
    }
}
