//! The datapath ports that tunnels share: made with the first tunnel that needs one, deleted after the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datapath::netdev::{Netdev, tunnel};
use datapath::{Datapath, Error};
use flow::id::DpPort;
use sys::errno::Errno;

use super::{Bridges, Iface};
use crate::tunnel::{Match, TunnelPort, Tunnels};

/// A device as the tunnel that it is, with a datapath port.
pub(super) fn of(device: &dyn Netdev, odp: DpPort) -> Option<TunnelPort> {
    let (name, kind) = (device.name().to_owned(), device.kind());
    device.tunnel().map(|config| TunnelPort { name, kind, odp, config })
}

impl TunnelPort {
    fn wanted(&self) -> Match {
        Match::of(&self.config, self.odp)
    }
}

/// What the tunnels of one type of datapath share.
#[derive(Default)]
pub struct Shared {
    /// Datapath ports by name.
    ports: BTreeMap<String, DpPort>,
    /// Those that an earlier process made, until a tunnel takes them over.
    left: BTreeMap<String, DpPort>,
    /// Tunnels' names, by what they ask for: no two may ask for the same.
    tunnels: Tunnels<String>,
}

impl Shared {
    /// That of a datapath, which may have ports that an earlier process made.
    pub(super) fn of(datapath: &dyn Datapath) -> Self {
        let left = datapath.ports().into_iter().filter(|port| tunnel::is_port_name(&port.name));
        Self { left: left.map(|port| (port.name, port.number)).collect(), ..Self::default() }
    }

    /// The datapath port of a tunnel, made if need be.
    fn port(&mut self, datapath: &dyn Datapath, device: &Arc<dyn Netdev>) -> Result<DpPort, Error> {
        let name = device.datapath_port();
        if let Some(&port) = self.ports.get(&name) {
            return Ok(port);
        }
        // The datapath finds out whether a port that is there is still what it must be.
        let port = match datapath.port_add(device, None) {
            Err(error) if error.errno() == Errno::EEXIST => datapath.port_by_name(&name)?.number,
            added => added?,
        };
        self.left.remove(&name);
        self.ports.insert(name, port);
        Ok(port)
    }

    /// Gives a new tunnel its datapath port.
    ///
    /// # Errors
    /// `EEXIST` if another tunnel asks for the same, or why there is no port.
    pub(super) fn join(
        &mut self,
        bridge: &str,
        datapath: &dyn Datapath,
        device: &Arc<dyn Netdev>,
    ) -> Result<DpPort, Error> {
        let odp = self.port(datapath, device)?;
        device.joined_datapath(datapath.kind() == "system");
        let tunnel = of(&**device, odp);
        if tunnel.is_none_or(|tunnel| self.enlist(&tunnel)) {
            if datapath.kind() == "netdev" {
                tracing::warn!(
                    target: "tunnel",
                    "{}: packets sent to this tunnel are dropped, for the userspace datapath cannot encapsulate them yet",
                    device.name()
                );
            }
            return Ok(odp);
        }
        let error = Errno::EEXIST;
        tracing::warn!(
            target: "ofproto", rl = "1,5",
            "{bridge}: could not add port {} ({error})", device.name()
        );
        Err(error.into())
    }

    /// Notes what a tunnel asks for. False if another asks for the same.
    fn enlist(&mut self, tunnel: &TunnelPort) -> bool {
        let wanted = tunnel.wanted();
        let text = wanted.to_string();
        let Err(other) = self.tunnels.insert(wanted, tunnel.name.clone()) else { return true };
        tracing::warn!(
            target: "tunnel",
            "{}: attempting to add tunnel port with same config as port '{other}' ({text})", tunnel.name
        );
        false
    }

    /// Forgets what a tunnel asked for.
    pub(super) fn leave(&mut self, tunnel: &TunnelPort) {
        if tunnel.odp != DpPort::NONE {
            self.tunnels.remove(&tunnel.wanted());
        }
    }

    /// Takes over what a tunnel is configured to be now.
    fn follow(&mut self, datapath: &dyn Datapath, iface: &mut Iface) {
        let now = self.port(datapath, &iface.device).unwrap_or_else(|error| {
            let name = iface.device.datapath_port();
            tracing::warn!(target: "ofproto_dpif", rl = "1,5", "failed to add datapath port {name} ({error})");
            DpPort::NONE
        });
        let mut tunnel = of(&*iface.device, now);
        if let Some(tunnel) = &mut tunnel
            && (now == DpPort::NONE || !self.enlist(tunnel))
        {
            tunnel.odp = DpPort::NONE;
        }
        (iface.odp, iface.tunnel) = (now, tunnel);
    }

    /// Deletes ports that no tunnel uses.
    fn delete_unused(&mut self, datapath: &dyn Datapath, used: &BTreeSet<String>) {
        let left = std::mem::take(&mut self.left);
        for (name, port) in self.ports.extract_if(.., |name, _| !used.contains(name)).chain(left) {
            if let Err(error) = datapath.port_del(port) {
                tracing::warn!(
                    target: "ofproto_dpif", rl = "1,5",
                    "failed to remove datapath port {name} ({error})"
                );
            }
        }
    }

    /// Deletes every port.
    pub(super) fn delete_all(mut self, datapath: &dyn Datapath) {
        self.delete_unused(datapath, &BTreeSet::new());
    }
}

/// Whether a tunnel is known as it is configured.
fn is_settled(iface: &Iface, tunnel: &TunnelPort) -> bool {
    tunnel.odp != DpPort::NONE
        && iface.device.tunnel().is_some_and(|config| Arc::ptr_eq(&config, &tunnel.config))
}

impl Bridges {
    /// Lets tunnels have what their options ask for now, and deletes the datapath ports that they left.
    pub(super) fn settle_tunnels(&mut self) {
        for (kind, shared) in &mut self.tunnels {
            let bridges = || self.bridges.values().filter(|bridge| bridge.kind == *kind);
            let tunnels = bridges().flat_map(|bridge| bridge.ifaces());
            let moved: Vec<TunnelPort> = tunnels
                .filter_map(|iface| iface.tunnel.as_ref().filter(|tunnel| !is_settled(iface, tunnel)))
                .cloned()
                .collect();
            moved.iter().for_each(|tunnel| shared.leave(tunnel));
            let mut used = BTreeSet::new();
            let Some(datapath) = bridges().next().map(|bridge| Arc::clone(&bridge.datapath)) else {
                continue;
            };
            for bridge in self.bridges.values_mut().filter(|bridge| bridge.kind == *kind) {
                for iface in bridge.ifaces_mut().filter(|iface| iface.tunnel.is_some()) {
                    if moved.iter().any(|tunnel| tunnel.name == iface.name) {
                        shared.follow(&*datapath, iface);
                    }
                    used.insert(iface.device.datapath_port());
                }
            }
            shared.delete_unused(&*datapath, &used);
        }
    }

    /// `tnl/ports/show`: the ports that userspace datapaths take tunnels' packets by, and how many tunnels share each.
    pub fn tnl_ports_show(&self) -> String {
        let mut counts: BTreeMap<(String, DpPort), usize> = BTreeMap::new();
        let native = self.bridges.values().filter(|bridge| bridge.datapath.features().tnl_push_pop);
        for iface in native.flat_map(|bridge| bridge.ifaces()).filter(|iface| iface.tunnel.is_some()) {
            *counts.entry((iface.device.datapath_port(), iface.odp)).or_default() += 1;
        }
        let mut out = "Listening ports:\n".to_owned();
        for ((name, port), count) in counts {
            // SRv6 listens for both IPv4 and IPv6 within.
            let protocols = if name.starts_with("srv6") { 2 } else { 1 };
            out += &format!("{name} ({port}) ref_cnt={count}\n").repeat(protocols);
        }
        out
    }
}
