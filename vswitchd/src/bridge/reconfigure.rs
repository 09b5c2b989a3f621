//! Which bridges, ports and interfaces there are: brought in line with the database in the order in which OVS does it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datapath::netdev::{self, Netdev};
use datapath::{Datapath, Error};
use flow::field::parse_mac;
use flow::hash;
use flow::id::{DpPort, OfPort};
use flow::key::EthAddr;
use flow::time::Instant;
use ovsdb::idl::{Idl, Record, Txn};
use ovsdb::value::{Atom, Datum};

use super::order::{ByHash, Chains};
use super::{Believed, Bridge, Bridges, Iface, Outside, Port, bundle, device, qos, status, tunnel};
use crate::ofproto::Ofproto;
use crate::xlate::mac::{self, MacTable};
use crate::xlate::snapshot::PatchCounters;
use crate::xlate::{BridgeId, BundleId};

/// The MTU of internal ports where no other port says otherwise.
const DEFAULT_MTU: u16 = 1500;

/// The port that a bridge with controllers gets if the database gives it none of its own name.
struct Wanted<'a> {
    name: &'a str,
    row: Option<Record<'a>>,
}

impl<'a> Wanted<'a> {
    fn ifaces(&self, idl: &'a Idl) -> Vec<WantedIface<'a>> {
        let Some(row) = self.row else {
            return vec![WantedIface { name: self.name, row: None }];
        };
        let rows = row.get("interfaces").uuids().filter_map(|uuid| idl.row("Interface", uuid));
        rows.map(|row| WantedIface { name: row.str("name").unwrap_or_default(), row: Some(row) }).collect()
    }
}

#[derive(Clone, Copy)]
struct WantedIface<'a> {
    name: &'a str,
    row: Option<Record<'a>>,
}

impl WantedIface<'_> {
    fn kind(&self, bridge: &str) -> String {
        let kind = self.row.and_then(|row| row.str("type")).unwrap_or_default();
        if self.name == bridge || kind == "internal" || self.row.is_none() {
            "internal".to_owned()
        } else if kind.is_empty() {
            "system".to_owned()
        } else {
            kind.to_owned()
        }
    }

    /// The number that the database asks for.
    fn requested(&self) -> Option<OfPort> {
        self.number("ofport_request")
    }

    fn number(&self, column: &str) -> Option<OfPort> {
        let number = u16::try_from(self.row?.integer(column)?).ok()?;
        (1..OfPort::MAX.0).contains(&number).then_some(OfPort(number))
    }

    fn options(&self) -> BTreeMap<String, String> {
        self.row.map(|row| pairs(row.get("options"))).unwrap_or_default()
    }
}

/// A string-to-string map.
pub(super) fn pairs(map: &Datum) -> BTreeMap<String, String> {
    map.string_pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The type of a bridge's datapath.
fn kind_of(row: Record<'_>) -> &str {
    match row.str("datapath_type") {
        None | Some("") => "system",
        Some(kind) => kind,
    }
}

/// Names that no interface may have, for devices of datapaths have them.
pub(crate) fn is_reserved(name: &str) -> bool {
    matches!(name, "ovs-netdev" | "ovs-dummy" | "ovs-system") || netdev::tunnel::is_port_name(name)
}

impl Bridges {
    /// Brings everything in line with the database; what is to be written back goes to `txn`.
    pub(super) fn reconfigure(&mut self, idl: &Idl, txn: &mut Txn, outside: &mut dyn Outside, now: Instant) {
        let root = idl.first("Open_vSwitch");
        let other_config = root.map(|row| pairs(row.get("other_config"))).unwrap_or_default();
        outside.configure(&other_config);
        self.set_vlan_limit(&other_config);
        let rows = root.map(|root| bridge_rows(idl, root)).unwrap_or_default();
        self.add_and_remove_bridges(&rows, txn, outside, now);
        self.missing.clear();
        for (name, row) in &rows {
            self.reconfigure_ports(idl, txn, name, *row, now);
        }
        self.settle_tunnels();
        self.forget_moved_away();
        self.configure_datapaths(idl, txn, outside);
        for (name, row) in &rows {
            self.configure_bridge(idl, txn, name, *row, outside, now);
        }
        let mut agents = 0;
        for (name, row) in &rows {
            if let Some(bridge) = self.bridges.get_mut(name) {
                bridge.configure_sflow(idl, *row, &self.netdevs, &mut agents, now);
            }
        }
        self.publish(outside);
        if let Some(root) = root {
            status::configured(txn, root, &outside.datapath_types(), &self.netdevs.kinds());
        }
    }

    /// Makes all bridges forget the addresses that were behind ports that are no more. The machine behind such a port may
    /// have moved to another host, and the other bridges learn the sooner where to.
    fn forget_moved_away(&mut self) {
        let gone: Vec<_> =
            self.bridges.values_mut().flat_map(|bridge| mem::take(&mut bridge.moved_away)).collect();
        if !gone.is_empty() {
            self.bridges.values().for_each(|bridge| bridge.macs.forget_addresses(&gone));
        }
    }

    fn add_and_remove_bridges(
        &mut self,
        rows: &BTreeMap<String, Record<'_>>,
        txn: &mut Txn,
        outside: &mut dyn Outside,
        now: Instant,
    ) {
        let gone: Vec<String> = self
            .bridges
            .values()
            .filter(|bridge| rows.get(&bridge.name).is_none_or(|row| kind_of(*row) != bridge.kind))
            .map(|bridge| bridge.name.clone())
            .collect();
        for name in gone {
            self.destroy(&name, false, outside, now);
        }
        for (name, row) in rows {
            if self.bridges.contains_key(name) {
                continue;
            }
            match outside.open_datapath(kind_of(*row)) {
                Ok(datapath) => {
                    let kind = kind_of(*row).to_owned();
                    self.features
                        .entry(kind.clone())
                        .or_insert_with(|| Believed::of(&*datapath, self.vlan_limit));
                    self.tunnels.entry(kind).or_insert_with(|| tunnel::Shared::of(&*datapath));
                    let bridge = Bridge::new(name, *row, datapath, self.learning.clone(), now);
                    self.bridges.insert(name.clone(), bridge);
                }
                Err(error) => {
                    tracing::error!(target: "bridge", "failed to create bridge {name}: {error}");
                    let _ = &txn;
                }
            }
        }
    }

    pub(super) fn destroy(&mut self, name: &str, keep: bool, outside: &mut dyn Outside, now: Instant) {
        outside.disconnect(name);
        let Some(mut bridge) = self.bridges.remove(name) else { return };
        let keep = keep && bridge.datapath.outlives_us();
        if !keep {
            outside.flush(&bridge.kind);
        }
        if let Some(shared) = self.tunnels.get_mut(&bridge.kind) {
            bridge.ifaces().filter_map(|iface| iface.tunnel.as_ref()).for_each(|tunnel| shared.leave(tunnel));
        }
        let ports = if keep { Vec::new() } else { bridge.ports_by_number() };
        for name in ports {
            bridge.remove_port(&name, now);
        }
        if !keep {
            // Not before its ports are gone, and the rules in devices that are limited by them.
            outside.delete_meters(&mut bridge);
        }
        if !self.bridges.values().any(|other| other.kind == bridge.kind) {
            if let Some(shared) = self.tunnels.remove(&bridge.kind) {
                shared.delete_all(&*bridge.datapath);
            }
            outside.close_datapath(&bridge.kind, keep);
            self.features.remove(&bridge.kind);
        }
    }

    fn reconfigure_ports(&mut self, idl: &Idl, txn: &mut Txn, name: &str, row: Record<'_>, now: Instant) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        let tunnels = self.tunnels.entry(bridge.kind.clone()).or_default();
        let wanted = wanted_ports(idl, name, row);
        bridge.remove_unwanted(idl, &wanted, tunnels, now);
        // Interfaces with a wish for a number come first, so that no other takes it.
        for with_request in [true, false] {
            for port in wanted.iter() {
                for iface in port.ifaces(idl) {
                    if iface.requested().is_some() == with_request && bridge.iface(iface.name).is_none() {
                        let next = &mut self.next_bundle;
                        let devices = Devices { open: &self.netdevs, tunnels };
                        bridge.add_iface(devices, txn, port, iface, next, now);
                    }
                }
            }
        }
        let ifaces = wanted.iter().flat_map(|port| port.ifaces(idl));
        let missing = ifaces.filter(|iface| bridge.iface(iface.name).is_none());
        self.missing.extend(missing.map(|iface| iface.name.to_owned()));
        bridge.configure_mtus(idl, &wanted);
    }

    fn configure_bridge(
        &mut self,
        idl: &Idl,
        txn: &mut Txn,
        name: &str,
        row: Record<'_>,
        outside: &mut dyn Outside,
        now: Instant,
    ) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        bridge.configure_datapath_id(idl, txn, row, now);
        bridge.configure_ports(idl, txn, now);
        bridge.configure_mirrors(idl, row);
        bridge.forward_bpdu = row.key("other_config", "forward-bpdu") == Some("true");
        bridge.configure_mac_table(row);
        bridge.configure_remotes(idl, row, outside, now);
        bridge.configure_tables(idl, row);
        bridge.ofproto.describe(row.key("other_config", "dp-desc"), row.key("other_config", "dp-sn"));
        bridge.warn_of_unsupported(row);
    }
}

/// The bridges that the database has, by name.
fn bridge_rows<'a>(idl: &'a Idl, root: Record<'a>) -> BTreeMap<String, Record<'a>> {
    let mut rows = BTreeMap::new();
    for row in root.get("bridges").uuids().filter_map(|uuid| idl.row("Bridge", uuid)) {
        let name = row.str("name").unwrap_or_default();
        if name.contains(['/', '\\']) {
            tracing::warn!(target: "bridge", rl = "1,5", "ignoring bridge with invalid name \"{name}\"");
        } else if rows.insert(name.to_owned(), row).is_some() {
            tracing::warn!(target: "bridge", rl = "1,5", "bridge {name} specified twice");
        }
    }
    rows
}

fn wanted_ports<'a>(idl: &'a Idl, bridge: &'a str, row: Record<'a>) -> ByHash<Wanted<'a>> {
    let mut wanted = ByHash::new();
    for row in row.get("ports").uuids().filter_map(|uuid| idl.row("Port", uuid)) {
        let name = row.str("name").unwrap_or_default();
        if wanted.get(name).is_some() {
            tracing::warn!(target: "bridge", "bridge {bridge}: {name} specified twice as bridge port");
        } else {
            wanted.insert(name, Wanted { name, row: Some(row) });
        }
    }
    if !row.get("controller").is_empty() && wanted.get(bridge).is_none() {
        tracing::warn!(target: "bridge", "bridge {bridge}: no port named {bridge}, synthesizing one");
        wanted.insert(bridge, Wanted { name: bridge, row: None });
    }
    wanted
}

/// The numbers that interfaces ask for, by name.
fn requests<'a>(idl: &'a Idl, wanted: &ByHash<Wanted<'a>>) -> BTreeMap<&'a str, OfPort> {
    let ifaces = wanted.iter().flat_map(|port| port.ifaces(idl));
    ifaces.filter_map(|iface| Some((iface.name, iface.requested()?))).collect()
}

impl Bridge {
    fn new(
        name: &str,
        row: Record<'_>,
        datapath: Arc<dyn Datapath>,
        learning: mac::Counters,
        now: Instant,
    ) -> Self {
        let ofproto = Ofproto::new(name, now);
        let tables = Arc::clone(ofproto.tables());
        Self {
            name: name.to_owned(),
            uuid: row.uuid(),
            id: BridgeId(row.uuid().0.to_be_bytes()),
            kind: kind_of(row).to_owned(),
            macs: Arc::new(MacTable::new(learning, move || tables.note_change())),
            ofproto,
            datapath,
            ports: ByHash::new(),
            bundles: Vec::new(),
            mirrors: Vec::new(),
            forward_bpdu: false,
            packet_in_on_miss: Arc::new(AtomicBool::new(false)),
            controller_alive: Arc::new(AtomicBool::new(false)),
            sflow: None,
            default_mac: device::default_mac(row.uuid()),
            alone: None,
            fail_open: Default::default(),
            published_meters: [None; 2],
            moved_away: Vec::new(),
            min_mtu: DEFAULT_MTU,
        }
    }

    /// Removes what the database no longer has, or has in a way that needs another device or number.
    fn remove_unwanted(
        &mut self,
        idl: &Idl,
        wanted: &ByHash<Wanted<'_>>,
        tunnels: &mut tunnel::Shared,
        now: Instant,
    ) {
        let mut doomed = BTreeSet::new();
        let requests = requests(idl, wanted);
        for port in self.ports.iter() {
            let ifaces = wanted.get(&port.name).map(|wanted| wanted.ifaces(idl)).unwrap_or_default();
            for iface in &port.ifaces {
                let wanted = ifaces.iter().find(|wanted| wanted.name == iface.name);
                if !wanted.is_some_and(|wanted| self.can_stay(iface, *wanted, &requests)) {
                    doomed.insert(iface.name.clone());
                }
            }
        }
        doomed.extend(self.victims(&requests));
        for name in doomed {
            if let Some(known) = self.iface(&name).and_then(|iface| iface.tunnel.as_ref()) {
                tunnels.leave(known);
            }
            self.remove_iface(&name, now);
        }
    }

    /// Gives interfaces the MTUs that they are to have, and internal ones without the least of the others.
    fn configure_mtus(&mut self, idl: &Idl, wanted: &ByHash<Wanted<'_>>) {
        for port in self.ports.iter_mut() {
            let ifaces = wanted.get(&port.name).map(|wanted| wanted.ifaces(idl)).unwrap_or_default();
            for iface in &mut port.ifaces {
                let wanted = ifaces.iter().find(|wanted| wanted.name == iface.name);
                iface.own_mtu = wanted.is_some_and(|wanted| set_mtu(&*iface.device, *wanted));
            }
        }
        self.follow_mtus();
    }

    /// Lets internal ports follow the least MTU of the others.
    pub(super) fn follow_mtus(&mut self) {
        let follows = |iface: &&Iface| !iface.own_mtu && matches!(iface.kind.as_str(), "internal" | "patch");
        let others = self.ifaces().filter(|iface| !follows(iface));
        let min = others.filter_map(|iface| iface.device.mtu().ok()).min().unwrap_or(DEFAULT_MTU);
        let moved = mem::replace(&mut self.min_mtu, min) != min;
        for iface in self.ifaces().filter(follows) {
            if iface.device.mtu().is_ok_and(|mtu| mtu > min || (moved && mtu != min)) {
                // One that refuses tells by its column what it has.
                let _ = iface.device.set_mtu(min);
            }
        }
    }

    /// Whether an interface can be made what the database wants without making it anew.
    fn can_stay(&self, iface: &Iface, wanted: WantedIface<'_>, requests: &BTreeMap<&str, OfPort>) -> bool {
        let lost = self.ofproto.port(iface.ofp).is_none();
        if lost
            || iface.kind != wanted.kind(&self.name)
            || set_config(&*iface.device, &wanted.options()).is_err()
        {
            return false;
        }
        // One that asked for its number, too, keeps it.
        let insists = |holder: &Iface| requests.get(&*holder.name) == Some(&holder.ofp);
        let requested = wanted.requested().filter(|&number| number != iface.ofp);
        iface.ofp == OfPort::LOCAL
            || requested.is_none_or(|number| self.ifaces().any(|other| other.ofp == number && insists(other)))
    }

    /// Interfaces that have to leave a number to one that asks for it.
    fn victims(&self, requests: &BTreeMap<&str, OfPort>) -> Vec<String> {
        let numbers: BTreeSet<_> = requests.values().collect();
        let asked = |iface: &&Iface| requests.get(&*iface.name) == Some(&iface.ofp);
        let victims =
            self.ifaces().filter(|iface| numbers.contains(&iface.ofp)).filter(|iface| !asked(iface));
        victims.map(|iface| iface.name.clone()).collect()
    }

    /// Names of all ports, in the order of OVS's table by OpenFlow number.
    fn ports_by_number(&self) -> Vec<String> {
        let mut ports: Vec<&Port> = self.ports.iter().collect();
        ports.sort_by_key(|port| self.bundles.iter().position(|id| *id == port.bundle.id));
        let mut all = Chains::default();
        for port in ports {
            for iface in &port.ifaces {
                all.insert(hash::int(iface.ofp.0.into(), 0), port.name.clone());
            }
        }
        all.iter().cloned().collect()
    }

    fn remove_iface(&mut self, name: &str, now: Instant) {
        let Some(port) =
            self.ports.iter_mut().find(|port| port.ifaces.iter().any(|iface| iface.name == name))
        else {
            return;
        };
        let port_name = port.name.clone();
        let gone: Vec<Iface> = port.ifaces.extract_if(.., |iface| iface.name == name).collect();
        if port.ifaces.is_empty() {
            self.forget_port(&port_name);
        }
        for iface in gone {
            self.drop_iface(&iface, now);
        }
    }

    fn remove_port(&mut self, name: &str, now: Instant) {
        if let Some(port) = self.forget_port(name) {
            for iface in &port.ifaces {
                self.drop_iface(iface, now);
            }
        }
    }

    fn forget_port(&mut self, name: &str) -> Option<Port> {
        let port = self.ports.remove(name)?;
        self.bundles.retain(|&id| id != port.bundle.id);
        self.moved_away.extend(self.macs.flush_bundle(port.bundle.id));
        Some(port)
    }

    fn drop_iface(&mut self, iface: &Iface, now: Instant) {
        if self.ofproto.port(iface.ofp).is_none() {
            return;
        }
        self.ofproto.request_port_number(&iface.name, None);
        self.ofproto.remove_port(iface.ofp, now);
        self.ofproto.tables().note_change();
        // Other tunnels may share the port of a tunnel.
        if iface.odp != DpPort::NONE
            && iface.tunnel.is_none()
            && let Err(error) = self.datapath.port_del(iface.odp)
        {
            tracing::warn!(
                target: "ofproto_dpif", rl = "1,5",
                "{}: failed to remove port {} ({error})", self.name, iface.name
            );
        }
    }

    fn add_iface(
        &mut self,
        devices: Devices<'_>,
        txn: &mut Txn,
        port: &Wanted<'_>,
        wanted: WantedIface<'_>,
        next_bundle: &mut u32,
        now: Instant,
    ) {
        let iface = match self.make_iface(devices, wanted, now) {
            Ok(iface) => iface,
            Err(text) => {
                if let Some(row) = wanted.row {
                    status::failed_iface(txn, row.uuid(), &text);
                }
                return;
            }
        };
        tracing::info!(
            target: "bridge",
            "bridge {}: added interface {} on port {}", self.name, iface.name, iface.ofp
        );
        if self.ports.get(port.name).is_none() {
            *next_bundle += 1;
            let id = BundleId(*next_bundle);
            let bundle = bundle::plain(id, port.name);
            let uuid = port.row.map(|row| row.uuid());
            self.ports
                .insert(port.name, Port { name: port.name.to_owned(), uuid, bundle, ifaces: Vec::new() });
        }
        status::device(txn, &iface, &self.kind);
        status::statistics(txn, &*self.datapath, &iface);
        if let Some(port) = self.ports.get_mut(port.name) {
            port.ifaces.push(iface);
        }
    }

    /// Opens an interface's device and makes it a port; an error is the text for the `error` column.
    fn make_iface(
        &mut self,
        devices: Devices<'_>,
        wanted: WantedIface<'_>,
        now: Instant,
    ) -> Result<Iface, String> {
        let name = wanted.name;
        let refused = |text: String| {
            tracing::warn!(target: "bridge", "{text}");
            text
        };
        if is_reserved(name) {
            tracing::warn!(target: "bridge", "could not create interface {name}, name is reserved");
            return Err(String::new());
        }
        let kind = wanted.kind(&self.name);
        let opened = devices.open.open(name, self.datapath.port_open_type(&kind));
        let device =
            opened.map_err(|error| refused(format!("could not open network device {name} ({error})")))?;
        let options = wanted.options();
        set_config(&*device, &options)?;
        let own_mtu = set_mtu(&*device, wanted);
        let request = wanted.requested().or_else(|| wanted.number("ofport"));
        let tunnel = device.tunnel().is_some();
        let added = match &*kind {
            "patch" => Ok(DpPort::NONE),
            _ if tunnel => devices.tunnels.join(&self.name, &*self.datapath, &device),
            _ => self.datapath.port_add(&device, None),
        };
        let odp = added.map_err(|error| {
            let text = format!("could not add network device {name} to ofproto ({error})");
            tracing::warn!(target: "bridge", rl = "1,5", "{text}");
            text
        })?;
        self.ofproto.request_port_number(name, request);
        let Some(ofp) = self.ofproto.give_port_number(name, now) else {
            if !tunnel {
                let _ = self.datapath.port_del(odp);
            }
            return Err(refused(format!(
                "could not add network device {name} to ofproto (No space left on device)"
            )));
        };
        self.ofproto.add_port(device::describe(&*device, ofp), now);
        self.ofproto.set_port_enabled(ofp, device::has_carrier(&*device));
        self.ofproto.tables().note_change();
        Ok(Iface {
            name: name.to_owned(),
            uuid: wanted.row.map(|row| row.uuid()),
            kind,
            ofp,
            odp,
            peer: options.get("peer").cloned(),
            tunnel: tunnel::of(&*device, odp),
            counters: Arc::new(PatchCounters::of(&device)),
            queue_dscp: Vec::new(),
            shaped: None,
            own_mtu,
            seen: device.change_seq(),
            told: 0,
            published: Default::default(),
            device,
        })
    }

    fn configure_datapath_id(&mut self, idl: &Idl, txn: &mut Txn, row: Record<'_>, now: Instant) {
        let mac = self.pick_mac(idl, row);
        if let Some(local) = self.iface_at(OfPort::LOCAL) {
            if local.device.mac().ok() != Some(mac)
                && let Err(error) = local.device.set_mac(mac)
            {
                tracing::error!(
                    target: "bridge", rl = "1,5",
                    "bridge {}: failed to set bridge Ethernet address: {error}", self.name
                );
            }
            self.refresh_port(OfPort::LOCAL, now);
        }
        let wanted = row.key("other_config", "datapath-id");
        let id = wanted.and_then(parse_datapath_id).unwrap_or_else(|| device::as_number(mac));
        if id != self.ofproto.datapath_id() {
            tracing::info!(target: "bridge", "bridge {}: using datapath ID {id:016x}", self.name);
            self.ofproto.set_datapath_id(id);
        }
        txn.set("Bridge", row.uuid(), "datapath_id", Datum::one(format!("{id:016x}")));
    }

    /// The bridge's address: configured, or the lowest of those that the makers of its devices gave.
    fn pick_mac(&self, idl: &Idl, row: Record<'_>) -> EthAddr {
        if let Some(mac) = device::configured_mac(&self.name, row.key("other_config", "hwaddr")) {
            return mac;
        }
        let mirrors = row.get("mirrors").uuids().filter_map(|uuid| idl.row("Mirror", uuid));
        let outputs: BTreeSet<_> = mirrors.filter_map(|mirror| mirror.reference("output_port")).collect();
        let ports = self.ports.iter().filter(|port| port.uuid.is_none_or(|uuid| !outputs.contains(&uuid)));
        let macs = ports.filter_map(|port| {
            let configured = port.uuid.and_then(|uuid| idl.row("Port", uuid)?.str("mac").and_then(parse_mac));
            if configured.is_some() {
                return configured;
            }
            let first = port.ifaces.iter().min_by(|a, b| a.name.cmp(&b.name))?;
            if first.ofp == OfPort::LOCAL { None } else { first.device.mac().ok() }
        });
        macs.filter(|&mac| device::is_universal(mac)).min().unwrap_or(self.default_mac)
    }

    fn configure_ports(&mut self, idl: &Idl, txn: &mut Txn, now: Instant) {
        let mut bundles = std::mem::take(&mut self.bundles);
        let flood = &self.ofproto;
        for port in self.ports.iter_mut() {
            let numbers: Vec<OfPort> = port.ifaces.iter().map(|iface| iface.ofp).collect();
            let row = port.uuid.and_then(|uuid| idl.row("Port", uuid));
            let mut bundle = bundle::configured(port.bundle.id, row, &port.name, numbers);
            bundle.floodable = port
                .ifaces
                .iter()
                .all(|iface| flood.port(iface.ofp).is_none_or(|port| iface.floodable(port.desc.config)));
            if bundle::learns_differently(&bundle, &port.bundle) {
                self.macs.flush_bundle(bundle.id);
            }
            if !bundles.contains(&bundle.id) {
                bundles.push(bundle.id);
            }
            if port.ifaces.len() > 1 {
                tracing::warn!(
                    target: "bridge", rl = "1,5",
                    "port {}: bonds are not supported, only the first interface is used", port.name
                );
            }
            port.bundle = bundle;
            let queue_dscp = row.map(|row| queue_dscp(idl, row)).unwrap_or_default();
            for iface in &mut port.ifaces {
                iface.queue_dscp.clone_from(&queue_dscp);
                status::numbered(txn, iface);
                configure_interface(&*self.datapath, idl, iface);
                set_interface_mac(idl, iface);
                let own = iface.uuid.and_then(|uuid| idl.row("Interface", uuid));
                iface.shape(qos::Wanted::read(idl, row, own), now);
            }
        }
        self.bundles = bundles;
        self.ofproto.tables().note_change();
    }

    fn configure_mac_table(&self, row: Record<'_>) {
        let setting = |key, default: u64| {
            let value = row.key("other_config", key).and_then(|text| text.parse().ok()).unwrap_or(0);
            if value == 0 { default } else { value }
        };
        let flood: Vec<u16> =
            row.get("flood_vlans").integers().filter_map(|vlan| u16::try_from(vlan).ok()).collect();
        let flood = (!flood.is_empty()).then(|| flood.into_iter().collect());
        let size = usize::try_from(setting("mac-table-size", 8192)).unwrap_or(usize::MAX);
        self.macs.configure(setting("mac-aging-time", 300), size, flood);
    }

    /// Says what the database asks for and the switch cannot do.
    fn warn_of_unsupported(&self, row: Record<'_>) {
        let asks = [
            (row.bool("stp_enable") == Some(true), "the spanning tree protocol (stp_enable)"),
            (row.bool("rstp_enable") == Some(true), "the rapid spanning tree protocol (rstp_enable)"),
            (row.bool("mcast_snooping_enable") == Some(true), "multicast snooping (mcast_snooping_enable)"),
            (!row.get("netflow").is_empty(), "NetFlow (netflow)"),
            (!row.get("ipfix").is_empty(), "IPFIX (ipfix)"),
        ];
        for (_, what) in asks.iter().filter(|(asked, _)| *asked) {
            tracing::warn!(target: "bridge", rl = "1,5", "bridge {}: {what} is not supported", self.name);
        }
    }

    /// Takes over what a port's device says of itself.
    pub(super) fn refresh_port(&mut self, number: OfPort, _now: Instant) {
        let Some(iface) = self.iface_at(number) else { return };
        let (desc, carrier) = (device::describe(&*iface.device, number), device::has_carrier(&*iface.device));
        self.ofproto.update_port(number, &desc);
        self.ofproto.set_port_enabled(number, carrier);
    }
}

/// Where interfaces come from.
struct Devices<'a> {
    open: &'a netdev::Netdevs,
    tunnels: &'a mut tunnel::Shared,
}

/// Gives a device its options; an error is the text for the `error` column.
fn set_config(device: &dyn Netdev, options: &BTreeMap<String, String>) -> Result<(), String> {
    device.set_config(options).map_err(|error| {
        let text = format!("{}: could not set configuration ({})", device.name(), error.errno());
        tracing::warn!(target: "netdev", "{text}");
        if let Error::Config { text, .. } = error { text } else { text }
    })
}

/// Gives a device the MTU that the database wants. Returns whether it wants one.
fn set_mtu(device: &dyn Netdev, wanted: WantedIface<'_>) -> bool {
    let request = wanted.row.and_then(|row| row.integer("mtu_request"));
    // A device that refuses says so by the `mtu` column, which tells the one it has.
    request.and_then(|mtu| u16::try_from(mtu).ok()).is_some_and(|mtu| device.set_mtu(mtu).is_ok())
}

/// Queues of a port whose packets get a DSCP.
fn queue_dscp(idl: &Idl, port: Record<'_>) -> Vec<(u32, u8)> {
    let Some(qos) = port.reference("qos").and_then(|uuid| idl.row("QoS", uuid)) else { return Vec::new() };
    if qos.str("type").is_none_or(str::is_empty) {
        return Vec::new();
    }
    let marked = |(queue, row): &(Atom, Atom)| {
        let dscp = idl.row("Queue", row.as_uuid()?)?.integer("dscp")?;
        Some((u32::try_from(queue.as_integer()?).ok()?, u8::try_from(dscp & 0x3f).ok()? << 2))
    };
    qos.get("queues").pairs().iter().filter_map(marked).collect()
}

/// Hands the datapath what the row says of an interface's queues.
fn configure_interface(datapath: &dyn Datapath, idl: &Idl, iface: &Iface) {
    let row = iface.uuid.and_then(|uuid| idl.row("Interface", uuid));
    if let Some(row) = row.filter(|_| iface.odp != DpPort::NONE)
        && let Err(error) = datapath.port_configure(iface.odp, &pairs(row.get("other_config")))
    {
        tracing::warn!(target: "bridge", rl = "1,5", "interface {}: {error}", iface.name);
    }
}

/// Gives an internal interface the address that its row asks for.
fn set_interface_mac(idl: &Idl, iface: &Iface) {
    let row = iface.uuid.and_then(|uuid| idl.row("Interface", uuid));
    let Some(mac) = row.and_then(|row| row.str("mac")).and_then(parse_mac) else { return };
    let name = &iface.name;
    if iface.kind != "internal" || iface.device.mac().ok() == Some(mac) {
        return;
    }
    if iface.ofp == OfPort::LOCAL {
        tracing::error!(
            target: "bridge",
            "interface {name}: ignoring mac in Interface record (use Bridge record to set local port's mac)"
        );
    } else if device::is_multicast(mac) {
        tracing::error!(target: "bridge", "interface {name}: cannot set MAC to multicast address");
    } else if mac == [0; 6] {
        tracing::error!(target: "bridge", "interface {name}: cannot set MAC to all zero address");
    } else if let Err(error) = iface.device.set_mac(mac) {
        tracing::error!(target: "bridge", "interface {name}: setting MAC failed ({error})");
    }
}

/// A datapath id of 16 hexadecimal digits, after an optional `0x`; zero is none.
fn parse_datapath_id(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let valid = digits.len() == 16 || digits.len() < 16 && digits.len() < text.len();
    let id = u64::from_str_radix(digits, 16).ok().filter(|_| valid)?;
    (id != 0).then_some(id)
}
