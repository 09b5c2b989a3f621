//! `fdb/*`: learned addresses for people.

use std::fmt::Write;

use flow::field::{NoNames, format_port, parse_mac};
use flow::key::EthAddr;
use flow::time::Instant;

use super::snapshot::{Bridge, BundleId};
use crate::backer::{Backers, Command};

/// The commands of this module.
pub const COMMANDS: &[Command] = &[
    Command { name: "fdb/add", usage: "bridge port vlan mac", min: 4, max: 4, run: add },
    Command { name: "fdb/del", usage: "bridge vlan mac", min: 3, max: 3, run: delete },
    Command { name: "fdb/flush", usage: "[bridge]", min: 0, max: 1, run: flush },
    Command { name: "fdb/show", usage: "bridge", min: 1, max: 1, run: show },
    Command { name: "fdb/stats-clear", usage: "[bridge]", min: 0, max: 1, run: stats_clear },
    Command { name: "fdb/stats-show", usage: "bridge", min: 1, max: 1, run: stats_show },
];

const NO_BRIDGE: &str = "no such bridge";

fn mac_text(mac: EthAddr) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The number of a bundle's first port.
fn port_text(bridge: &Bridge, bundle: BundleId) -> String {
    let mut text = String::new();
    if let Some(&port) = bridge.bundle(bundle).and_then(|bundle| bundle.ports.first()) {
        format_port(port, &NoNames, &mut text);
    }
    text
}

fn show(backers: &Backers, args: &[&str], now: Instant) -> Result<String, String> {
    let (_, _, bridge) = backers.bridge(args[0]).ok_or(NO_BRIDGE)?;
    let mut out = String::from(" port  VLAN  MAC                Age\n");
    for row in bridge.macs.rows(now) {
        let (port, mac) = (port_text(&bridge, row.bundle), mac_text(row.mac));
        let _ = match row.age {
            Some(age) => writeln!(out, "{port:>5}  {:4}  {mac}  {age:3}", row.vlan),
            None => writeln!(out, "{port:>5}  {:4}  {mac}  static", row.vlan),
        };
    }
    Ok(out)
}

/// `fdb/show` as JSON: an array of objects.
pub fn show_json(backers: &Backers, name: &str, now: Instant) -> Result<serde_json::Value, String> {
    let (_, _, bridge) = backers.bridge(name).ok_or(NO_BRIDGE)?;
    let row = |row: super::mac::Row| {
        let port = bridge.bundle(row.bundle).and_then(|bundle| bundle.ports.first()).map(|port| port.0);
        let mut object = serde_json::json!({ "port": port, "vlan": row.vlan, "mac": mac_text(row.mac) });
        match row.age {
            Some(age) => object["age"] = age.into(),
            None => object["static"] = true.into(),
        }
        object
    };
    Ok(bridge.macs.rows(now).into_iter().map(row).collect())
}

fn add(backers: &Backers, args: &[&str], now: Instant) -> Result<String, String> {
    let (_, _, bridge) = backers.bridge(args[0]).ok_or(NO_BRIDGE)?;
    let vlan = openflow::text::atoi(args[2]) as u16;
    let mac = parse_mac(args[3]).ok_or("bad MAC address")?;
    let port = bridge.ports.values().find(|port| port.name == args[1]);
    let port = port.ok_or("software error, odp port is present but no ofp port")?;
    let mut out = String::new();
    if let Some(old) = bridge.macs.rows(now).into_iter().find(|row| (row.mac, row.vlan) == (mac, vlan)) {
        let same =
            bridge.bundle(old.bundle).is_some_and(|bundle| bundle.name == args[1]) && old.age.is_none();
        if !same {
            let kind = if old.age.is_none() { "static" } else { "dynamic" };
            let at = port_text(&bridge, old.bundle);
            let _ = writeln!(out, "Overriding already existing {kind} entry on {at}");
        }
    }
    match port.bundle {
        Some(bundle) if bridge.macs.add_static(mac, vlan, bundle) => Ok(out),
        _ => Err("could not add static mac entry\n".to_owned()),
    }
}

fn delete(backers: &Backers, args: &[&str], _: Instant) -> Result<String, String> {
    let (_, _, bridge) = backers.bridge(args[0]).ok_or(NO_BRIDGE)?;
    let vlan = openflow::text::atoi(args[1]) as u16;
    let mac = parse_mac(args[2]).ok_or("bad MAC address")?;
    if bridge.macs.remove_static(mac, vlan) {
        Ok(String::new())
    } else {
        Err("could not find static mac entry\n".to_owned())
    }
}

/// Does something to the table of one bridge, or of all.
fn each(backers: &Backers, args: &[&str], run: impl Fn(&Bridge)) -> Result<(), String> {
    if let Some(name) = args.first() {
        run(&backers.bridge(name).ok_or(NO_BRIDGE)?.2);
        return Ok(());
    }
    for backer in backers.0.values() {
        backer.snapshot().bridges().into_iter().for_each(|bridge| run(bridge));
    }
    Ok(())
}

fn flush(backers: &Backers, args: &[&str], _: Instant) -> Result<String, String> {
    each(backers, args, |bridge| bridge.macs.flush())?;
    Ok("table successfully flushed".to_owned())
}

fn stats_clear(backers: &Backers, args: &[&str], _: Instant) -> Result<String, String> {
    each(backers, args, |bridge| bridge.macs.clear_stats())?;
    Ok("statistics successfully cleared".to_owned())
}

fn stats_show(backers: &Backers, args: &[&str], _: Instant) -> Result<String, String> {
    let (_, _, bridge) = backers.bridge(args[0]).ok_or(NO_BRIDGE)?;
    let (stats, entries, max) = bridge.macs.stats();
    Ok(format!(
        "Statistics for bridge \"{}\":\n  Current/maximum MAC entries in the table: {entries}/{max}\n  \
         Current static MAC entries in the table : {}\n  Total number of learned MAC entries     : {}\n  \
         Total number of expired MAC entries     : {}\n  Total number of evicted MAC entries     : {}\n  \
         Total number of port moved MAC entries  : {}\n",
        args[0], stats.static_entries, stats.learned, stats.expired, stats.evicted, stats.moved
    ))
}
