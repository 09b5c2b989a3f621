//! What a row of the `Port` table says of VLANs.

use flow::id::OfPort;
use ovsdb::idl::Record;

use crate::xlate::BundleId;
use crate::xlate::snapshot::{Bundle, PriorityTags, VlanMode, VlanSet};

const ETH_8021Q: u16 = 0x8100;
const ETH_8021AD: u16 = 0x88a8;

/// A port without a row, or one that says nothing: a trunk of all VLANs.
pub fn plain(id: BundleId, name: &str) -> Bundle {
    Bundle {
        id,
        name: name.to_owned(),
        ports: Vec::new(),
        mode: VlanMode::Trunk,
        vlan: None,
        trunks: None,
        cvlans: None,
        qinq_ethtype: ETH_8021AD,
        priority_tags: PriorityTags::Never,
        floodable: true,
        protected: false,
        bond: None,
    }
}

/// The bundle that a row configures, of these ports.
pub fn configured(id: BundleId, row: Option<Record<'_>>, name: &str, ports: Vec<OfPort>) -> Bundle {
    let mut bundle = Bundle { ports, ..plain(id, name) };
    let Some(row) = row else { return bundle };
    let tag = row.integer("tag").and_then(vlan_id);
    let (trunks, cvlans) = (vlans(row, "trunks"), vlans(row, "cvlans"));
    bundle.mode = mode(row, tag, !trunks.is_empty() || !cvlans.is_empty());
    let vlan = tag.unwrap_or(0);
    bundle.vlan = (bundle.mode != VlanMode::Trunk).then_some(vlan);
    bundle.trunks = match bundle.mode {
        VlanMode::Access | VlanMode::Dot1qTunnel => None,
        VlanMode::Trunk => set(trunks),
        VlanMode::NativeTagged | VlanMode::NativeUntagged => with_native(trunks, vlan),
    };
    bundle.cvlans = if bundle.mode == VlanMode::Dot1qTunnel { set(cvlans) } else { None };
    bundle.qinq_ethtype =
        if row.key("other_config", "qinq-ethtype") == Some("802.1q") { ETH_8021Q } else { ETH_8021AD };
    bundle.priority_tags = match row.key("other_config", "priority-tags") {
        Some("if-nonzero" | "true") => PriorityTags::IfNonzero,
        Some("always") => PriorityTags::Always,
        _ => PriorityTags::Never,
    };
    bundle.protected = row.bool("protected").unwrap_or(false);
    bundle
}

fn vlan_id(tag: i64) -> Option<u16> {
    u16::try_from(tag).ok().filter(|&vlan| vlan < 4096)
}

fn vlans(row: Record<'_>, column: &str) -> Vec<u16> {
    row.get(column).integers().filter_map(vlan_id).collect()
}

/// No VLANs named means all of them.
fn set(vlans: Vec<u16>) -> Option<VlanSet> {
    (!vlans.is_empty()).then(|| vlans.into_iter().collect())
}

/// Trunked VLANs of a port with a native one: that is trunked too, and then packets of no VLAN are not.
fn with_native(trunks: Vec<u16>, native: u16) -> Option<VlanSet> {
    if native == 0 || trunks.contains(&native) && !trunks.contains(&0) {
        return set(trunks);
    }
    let trunks = if trunks.is_empty() { (1..4096).collect() } else { trunks };
    Some(trunks.into_iter().filter(|&vlan| vlan != 0).chain([native]).collect())
}

fn mode(row: Record<'_>, tag: Option<u16>, has_trunks: bool) -> VlanMode {
    let name = row.str("name").unwrap_or_default();
    match row.str("vlan_mode") {
        Some("access") => VlanMode::Access,
        Some("trunk") => VlanMode::Trunk,
        Some("native-tagged") => VlanMode::NativeTagged,
        Some("native-untagged") => VlanMode::NativeUntagged,
        Some("dot1q-tunnel") => VlanMode::Dot1qTunnel,
        Some(other) => {
            tracing::warn!(
                target: "bridge",
                "port {name}: unknown VLAN mode {other}, falling back to trunk mode"
            );
            VlanMode::Trunk
        }
        None if tag.is_none() => VlanMode::Trunk,
        None => {
            if has_trunks {
                tracing::warn!(target: "bridge", "port {name}: ignoring trunks in favor of implicit vlan");
            }
            VlanMode::Access
        }
    }
}

/// Whether addresses learned behind a bundle may be wrong after it changed.
pub fn learns_differently(new: &Bundle, old: &Bundle) -> bool {
    let facts = |bundle: &Bundle| {
        (bundle.mode, bundle.vlan, bundle.priority_tags, bundle.qinq_ethtype, bundle.protected)
    };
    facts(new) != facts(old) || new.trunks != old.trunks || new.cvlans != old.cvlans
}
