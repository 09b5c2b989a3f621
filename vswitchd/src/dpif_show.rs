//! `dpif/show`, `dpif/show-dp-features`, `dpif/dump-dps` and `ofproto/list`: datapaths as bridges see them.

use std::collections::BTreeMap;
use std::fmt::Write;

use datapath::Features;
use flow::id::DpPort;
use flow::time::Instant;

use crate::backer::{Backer, Backers, Command};
use crate::xlate::Snapshot;
use crate::xlate::snapshot::Port;

/// The commands of this module.
pub const COMMANDS: &[Command] = &[
    Command { name: "dpif/show", usage: "", min: 0, max: 0, run: show },
    Command { name: "dpif/show-dp-features", usage: "bridge", min: 1, max: 1, run: show_features },
    Command { name: "dpif/dump-dps", usage: "", min: 0, max: 0, run: dump_dps },
    Command { name: "ofproto/list", usage: "", min: 0, max: 0, run: list },
];

fn show(backers: &Backers, _: &[&str], _: Instant) -> Result<String, String> {
    let mut out = String::new();
    for backer in backers.0.values() {
        let stats = backer.datapath.stats();
        let (kind, name) = (backer.kind(), backer.datapath.name());
        let _ = writeln!(out, "{kind}@{name}: hit:{} missed:{}", stats.hits, stats.misses);
        let snapshot = backer.snapshot();
        for bridge in snapshot.bridges() {
            let _ = writeln!(out, "  {}:", bridge.name);
            let by_name: BTreeMap<&str, &Port> =
                bridge.ports.values().map(|port| (port.name.as_str(), port)).collect();
            for (name, port) in by_name {
                let odp = if port.odp == DpPort::NONE { "none".to_owned() } else { port.odp.to_string() };
                let _ = writeln!(out, "    {name} {}/{odp}: ({})", port.ofp, device(backer, &snapshot, port));
            }
        }
    }
    Ok(out)
}

/// A port's type and the options in force.
fn device(backer: &Backer, snapshot: &Snapshot, port: &Port) -> String {
    let (kind, config) = match port.peer {
        Some((bridge, peer)) => {
            let name = snapshot
                .bridge(bridge)
                .and_then(|bridge| bridge.ports.get(&peer))
                .map(|port| port.name.clone());
            ("patch".to_owned(), name.map(|name| ("peer".to_owned(), name)).into_iter().collect())
        }
        None => match backer.datapath.port_device(port.odp) {
            Ok(device) => (device.kind().to_owned(), device.config()),
            Err(_) if port.odp == DpPort::NONE => ("patch".to_owned(), BTreeMap::new()),
            Err(_) => (String::new(), BTreeMap::new()),
        },
    };
    let options: Vec<String> = config.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if options.is_empty() { kind } else { format!("{kind}: {}", options.join(", ")) }
}

fn dump_dps(backers: &Backers, _: &[&str], _: Instant) -> Result<String, String> {
    let mut all = BTreeMap::new();
    for backer in backers.0.values() {
        for bridge in backer.snapshot().bridges() {
            all.insert(bridge.name.clone(), backer.kind().to_owned());
        }
    }
    Ok(all.iter().map(|(bridge, kind)| format!("{kind}@{bridge}\n")).collect())
}

fn list(backers: &Backers, _: &[&str], _: Instant) -> Result<String, String> {
    let snapshots: Vec<_> = backers.0.values().map(|backer| backer.snapshot()).collect();
    let mut names: Vec<_> =
        snapshots.iter().flat_map(|snapshot| snapshot.bridges()).map(|b| &b.name).collect();
    names.sort();
    Ok(names.iter().map(|name| format!("{name}\n")).collect())
}

fn show_features(backers: &Backers, args: &[&str], _: Instant) -> Result<String, String> {
    let (backer, snapshot, _) = backers.bridge(args[0]).ok_or("no such bridge")?;
    let features = backer.datapath.features();
    let vlans = features.max_vlan_headers.min(usize::from(snapshot.vlan_limit.max(1)));
    let mut out = String::new();
    for (title, value) in rows(features, vlans) {
        let _ = writeln!(out, "{title}: {value}");
    }
    Ok(out)
}

/// Titles and values, as OVS words and orders them.
fn rows(f: &Features, vlans: usize) -> Vec<(&'static str, String)> {
    let yes = |has: bool| if has { "Yes" } else { "No" }.to_owned();
    vec![
        ("Masked set action", yes(f.masked_set_action)),
        ("Tunnel push pop", yes(f.tnl_push_pop)),
        ("Ufid", yes(f.ufid)),
        ("Truncate action", yes(f.trunc)),
        ("Clone action", yes(f.clone)),
        ("Sample nesting", f.sample_nesting.to_string()),
        ("Conntrack eventmask", yes(f.ct_eventmask)),
        ("Conntrack clear", yes(f.ct_clear)),
        ("Max dp_hash algorithm", f.max_hash_alg.to_string()),
        ("Check pkt length action", yes(f.check_pkt_len)),
        ("Conntrack timeout policy", yes(f.ct_timeout)),
        ("Explicit Drop action", yes(f.explicit_drop_action)),
        ("Optimized Balance TCP mode", yes(f.lb_output_action)),
        ("Conntrack all-zero IP SNAT", yes(f.ct_zero_snat)),
        ("MPLS Label add", yes(f.add_mpls)),
        ("psample action", yes(f.psample)),
        ("Max VLAN headers", vlans.to_string()),
        ("Max MPLS depth", f.max_mpls_depth.to_string()),
        ("Recirc", yes(f.recirc)),
        ("CT state", yes(f.ct_state)),
        ("CT zone", yes(f.ct_zone)),
        ("CT mark", yes(f.ct_mark)),
        ("CT label", yes(f.ct_label)),
        ("CT state NAT", yes(f.ct_state_nat)),
        ("CT orig tuple", yes(f.ct_orig_tuple)),
        ("CT orig tuple for IPv6", yes(f.ct_orig_tuple6)),
        ("IPv6 ND Extension", yes(f.nd_ext)),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn features_are_listed_as_ovs_does() {
        let rows = super::rows(&crate::upcall::tests::features(), 1);
        assert_eq!((rows.len(), rows[5].1.as_str(), rows[16].1.as_str()), (27, "10", "1"));
    }
}
