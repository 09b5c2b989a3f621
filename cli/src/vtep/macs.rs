//! Which MAC address of a logical switch is behind which tunnel end point, as this VTEP and as others learnt it.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::value::{Datum, Uuid};

use super::switch::{self, LOGICAL_SWITCH};
use crate::ctl::names::Naming;
use crate::ctl::records::rows;
use crate::ctl::syntax::{Context, Needs, Options, Stop, Syntax};

/// The commands.
pub static COMMANDS: &[Syntax] = rows! {
    "add-ucast-local" 3 4, "LS MAC [ENCAP] IP", "", RW, need, |ctx| add_ucast(ctx, &LOCAL);
    "del-ucast-local" 2 2, "LS MAC", "", RW, need, |ctx| del_ucast(ctx, &LOCAL);
    "add-mcast-local" 3 4, "LS MAC [ENCAP] IP", "", RW, need, |ctx| change_mcast(ctx, &LOCAL, true);
    "del-mcast-local" 3 4, "LS MAC [ENCAP] IP", "", RW, need, |ctx| change_mcast(ctx, &LOCAL, false);
    "clear-local-macs" 1 1, "LS", "", RO, need, |ctx| clear(ctx, &LOCAL);
    "list-local-macs" 1 1, "LS", "", RO, need, |ctx| list(ctx, &LOCAL);
    "add-ucast-remote" 3 4, "LS MAC [ENCAP] IP", "", RW, need, |ctx| add_ucast(ctx, &REMOTE);
    "del-ucast-remote" 2 2, "LS MAC", "", RW, need, |ctx| del_ucast(ctx, &REMOTE);
    "add-mcast-remote" 3 4, "LS MAC [ENCAP] IP", "", RW, need, |ctx| change_mcast(ctx, &REMOTE, true);
    "del-mcast-remote" 3 4, "LS MAC [ENCAP] IP", "", RW, need, |ctx| change_mcast(ctx, &REMOTE, false);
    "clear-remote-macs" 1 1, "LS", "", RO, need, |ctx| clear(ctx, &REMOTE);
    "list-remote-macs" 1 1, "LS", "", RO, need, |ctx| list(ctx, &REMOTE);
};

/// The two tables of one side.
struct Side {
    name: &'static str,
    ucast: &'static str,
    mcast: &'static str,
}

static LOCAL: Side = Side { name: "local", ucast: "Ucast_Macs_Local", mcast: "Mcast_Macs_Local" };
static REMOTE: Side = Side { name: "remote", ucast: "Ucast_Macs_Remote", mcast: "Mcast_Macs_Remote" };

const LOCATOR: &str = "Physical_Locator";
const LOCATOR_SET: &str = "Physical_Locator_Set";

fn need(naming: &Naming, args: &[String], options: &Options, needs: &mut Needs) -> Result<(), String> {
    for side in [&LOCAL, &REMOTE] {
        needs.columns(side.ucast, &["MAC", "locator", "logical_switch"]);
        needs.columns(side.mcast, &["MAC", "locator_set", "logical_switch"]);
    }
    needs.columns(LOCATOR_SET, &["locators"]);
    needs.columns(LOCATOR, &["dst_ip", "encapsulation_type"]);
    switch::need(naming, args, options, needs)
}

/// The rows of `table` about a logical switch, by MAC address.
fn entries(ctx: &Context<'_>, table: &str, switch: Uuid) -> BTreeMap<String, Uuid> {
    let of_switch = |row: &Uuid| ctx.db.get(table, *row, "logical_switch").as_uuid() == Some(switch);
    let rows = ctx.db.rows(table).into_iter().filter(of_switch);
    rows.map(|row| (ctx.db.text(table, row, "MAC"), row)).collect()
}

/// The arguments after switch and MAC address: how packets are wrapped and where they go.
fn destination(ctx: &Context<'_>) -> (String, String) {
    match &ctx.args[2..] {
        [encap, ip] => (encap.clone(), ip.clone()),
        rest => ("vxlan_over_ipv4".to_owned(), rest.first().cloned().unwrap_or_default()),
    }
}

fn find_locator(ctx: &Context<'_>, encap: &str, ip: &str) -> Option<Uuid> {
    let text = |row, column| ctx.db.text(LOCATOR, row, column);
    let fits = |row: &Uuid| text(*row, "encapsulation_type") == encap && text(*row, "dst_ip") == ip;
    ctx.db.rows(LOCATOR).into_iter().find(fits)
}

fn locator(ctx: &mut Context<'_>, encap: &str, ip: &str) -> Uuid {
    if let Some(row) = find_locator(ctx, encap, ip) {
        return row;
    }
    let row = ctx.db.insert(LOCATOR, None);
    ctx.db.set(LOCATOR, row, "dst_ip", Datum::one(ip));
    ctx.db.set(LOCATOR, row, "encapsulation_type", Datum::one(encap));
    row
}

fn switch_and_mac(ctx: &mut Context<'_>) -> Result<(Uuid, String), Stop> {
    let (name, mac) = (ctx.args[0].clone(), ctx.args[1].clone());
    Ok((LOGICAL_SWITCH.find(ctx, &name)?, mac))
}

fn insert_entry(ctx: &mut Context<'_>, table: &'static str, switch: Uuid, mac: &str) -> Uuid {
    let row = ctx.db.insert(table, None);
    ctx.db.set(table, row, "MAC", Datum::one(mac));
    ctx.db.set(table, row, "logical_switch", Datum::one(switch));
    row
}

fn add_ucast(ctx: &mut Context<'_>, side: &Side) -> Result<(), Stop> {
    let (switch, mac) = switch_and_mac(ctx)?;
    let (encap, ip) = destination(ctx);
    let target = locator(ctx, &encap, &ip);
    let known = entries(ctx, side.ucast, switch).get(&mac).copied();
    let row = known.unwrap_or_else(|| insert_entry(ctx, side.ucast, switch, &mac));
    ctx.db.set(side.ucast, row, "locator", Datum::one(target));
    Ok(())
}

fn del_ucast(ctx: &mut Context<'_>, side: &Side) -> Result<(), Stop> {
    let (switch, mac) = switch_and_mac(ctx)?;
    if let Some(row) = entries(ctx, side.ucast, switch).get(&mac) {
        ctx.db.delete(side.ucast, *row);
    }
    Ok(())
}

/// The tunnel end points that a multicast entry names.
fn locators(ctx: &Context<'_>, side: &Side, row: Uuid) -> BTreeSet<Uuid> {
    let set = ctx.db.get(side.mcast, row, "locator_set").as_uuid();
    set.map(|set| ctx.db.get(LOCATOR_SET, set, "locators").uuids().collect()).unwrap_or_default()
}

fn change_mcast(ctx: &mut Context<'_>, side: &Side, add: bool) -> Result<(), Stop> {
    let (switch, mac) = switch_and_mac(ctx)?;
    let (encap, ip) = destination(ctx);
    let known = entries(ctx, side.mcast, switch).get(&mac).copied();
    let mut all = known.map(|row| locators(ctx, side, row)).unwrap_or_default();
    if add {
        let target = locator(ctx, &encap, &ip);
        all.insert(target);
    } else {
        match find_locator(ctx, &encap, &ip) {
            Some(target) if known.is_some() => all.remove(&target),
            _ => return Ok(()),
        };
    }
    if all.is_empty() {
        known.iter().for_each(|row| ctx.db.delete(side.mcast, *row));
        return Ok(());
    }
    // A set cannot be changed, so that it is replaced.
    let set = ctx.db.insert(LOCATOR_SET, None);
    ctx.db.set(LOCATOR_SET, set, "locators", Datum::set(all));
    let row = known.unwrap_or_else(|| insert_entry(ctx, side.mcast, switch, &mac));
    ctx.db.set(side.mcast, row, "locator_set", Datum::one(set));
    Ok(())
}

fn clear(ctx: &mut Context<'_>, side: &Side) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    let switch = LOGICAL_SWITCH.find(ctx, &name)?;
    for table in [side.ucast, side.mcast] {
        for row in entries(ctx, table, switch).into_values() {
            ctx.db.delete(table, row);
        }
    }
    Ok(())
}

fn list(ctx: &mut Context<'_>, side: &Side) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    let switch = LOGICAL_SWITCH.find(ctx, &name)?;
    let line = |ctx: &Context<'_>, mac: &str, target: Uuid| {
        let text = |column| ctx.db.text(LOCATOR, target, column);
        format!("  {mac} -> {}/{}", text("encapsulation_type"), text("dst_ip"))
    };
    let mut ucast = Vec::new();
    for (mac, row) in entries(ctx, side.ucast, switch) {
        let target = ctx.db.get(side.ucast, row, "locator").as_uuid();
        ucast.extend(target.map(|target| line(ctx, &mac, target)));
    }
    let mut mcast = Vec::new();
    for (mac, row) in entries(ctx, side.mcast, switch) {
        mcast.extend(locators(ctx, side, row).into_iter().map(|target| line(ctx, &mac, target)));
    }
    for (kind, mut lines) in [("ucast", ucast), ("mcast", mcast)] {
        lines.sort();
        ctx.line(&format!("{kind}-mac-{}", side.name));
        lines.iter().for_each(|line| ctx.line(line));
        ctx.line("");
    }
    Ok(())
}
