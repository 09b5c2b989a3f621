//! Commands on bridges.

use ovsdb::value::{Atom, Datum, Uuid};

use super::model::{Bridge, Model, need, print_sorted};
use crate::ctl::db::Db;
use crate::ctl::names::Naming;
use crate::ctl::records::rows;
use crate::ctl::syntax::{Context, Needs, Options, Stop, Syntax};
use crate::ctl::targets::leading_integer;
use crate::fatal;

/// The commands.
pub static COMMANDS: &[Syntax] = rows! {
    "init" 0 0, "", "", RW, |_, _, _, _| Ok(()), |_| Ok(());
    "add-br" 1 3, "NEW-BRIDGE [PARENT] [NEW-VLAN]", "--may-exist", RW, need, add_br;
    "del-br" 1 1, "BRIDGE", "--if-exists", RW, need_to_delete, del_br;
    "list-br" 0 0, "", "--real,--fake", RO, need, list_br;
    "br-exists" 1 1, "BRIDGE", "", RO, need, br_exists;
    "br-to-vlan" 1 1, "BRIDGE", "", RO, need, br_to_vlan;
    "br-to-parent" 1 1, "BRIDGE", "", RO, need, br_to_parent;
    "br-set-external-id" 2 3, "BRIDGE KEY [VALUE]", "", RW, need_ids, set_external_id;
    "br-get-external-id" 1 2, "BRIDGE [KEY]", "", RO, need_ids, get_external_id;
    "emer-reset" 0 0, "", "", RW, need_reset, emer_reset;
};

fn need_to_delete(
    naming: &Naming,
    args: &[String],
    options: &Options,
    needs: &mut Needs,
) -> Result<(), String> {
    needs.columns("Flow_Sample_Collector_Set", &["bridge"]);
    need(naming, args, options, needs)
}

fn need_ids(naming: &Naming, args: &[String], options: &Options, needs: &mut Needs) -> Result<(), String> {
    needs.columns("Bridge", &["external_ids"]);
    needs.columns("Port", &["external_ids"]);
    need(naming, args, options, needs)
}

/// Adds port `name` with an internal interface of that name; returns both rows.
fn insert_own_port(db: &mut Db, name: &str) -> Uuid {
    let iface = db.insert("Interface", None);
    db.set("Interface", iface, "name", Datum::one(name));
    db.set("Interface", iface, "type", Datum::one("internal"));
    db.expect_interface(iface);
    let port = db.insert("Port", None);
    db.set("Port", port, "name", Datum::one(name));
    db.set("Port", port, "interfaces", Datum::one(iface));
    port
}

fn add_br(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    if name.is_empty() {
        fatal!("bridge name must not be empty string");
    }
    let fake = match ctx.args {
        [_] => None,
        [_, parent, vlan] => {
            let vlan = leading_integer(vlan);
            if !(0..=4095).contains(&vlan) {
                fatal!("add-br: vlan must be between 0 and 4095");
            }
            Some((parent.clone(), vlan))
        }
        _ => fatal!("'add-br' command takes exactly 1 or 3 arguments"),
    };
    let model = Model::read(ctx);
    if ctx.has("--may-exist")
        && let Some(existing) = model.bridges.get(&name)
    {
        return check_same(existing, fake.as_ref());
    }
    model.check_free(ctx, &name, &format!("cannot create a bridge named {name}"))?;
    match fake {
        None => {
            let port = insert_own_port(ctx.db, &name);
            let bridge = ctx.db.insert("Bridge", None);
            ctx.db.set("Bridge", bridge, "name", Datum::one(name.as_str()));
            ctx.db.set("Bridge", bridge, "ports", Datum::one(port));
            let root = ctx.db.root();
            ctx.db.link("Open_vSwitch", root, "bridges", bridge);
        }
        Some((parent, vlan)) => add_fake(ctx, &model, &name, &parent, vlan)?,
    }
    Ok(())
}

fn add_fake(ctx: &mut Context<'_>, model: &Model, name: &str, parent: &str, vlan: i64) -> Result<(), Stop> {
    let Some(bridge) = model.bridges.get(parent) else { fatal!("parent bridge {parent} does not exist") };
    if bridge.parent.is_some() {
        fatal!("cannot create bridge with fake bridge as parent");
    }
    if let Some(other) = model.child_on(parent, vlan) {
        fatal!("bridge {parent} already has a child VLAN bridge {other} on VLAN {vlan}");
    }
    let port = insert_own_port(ctx.db, name);
    ctx.db.set("Port", port, "fake_bridge", Datum::one(true));
    ctx.db.set("Port", port, "tag", Datum::one(vlan));
    ctx.db.link("Bridge", bridge.row, "ports", port);
    Ok(())
}

/// Whether an existing bridge is what `--may-exist` asks for.
fn check_same(existing: &Bridge, fake: Option<&(String, i64)>) -> Result<(), Stop> {
    let name = &existing.name;
    match (fake, &existing.parent) {
        (None, None) => Ok(()),
        (None, Some(_)) => {
            fatal!("\"--may-exist add-br {name}\" but {name} is a VLAN bridge for VLAN {}", existing.vlan)
        }
        (Some((parent, vlan)), have) => {
            let wrong = match have {
                None => "is not a VLAN bridge".to_owned(),
                Some(have) if have != parent => format!("has the wrong parent {have}"),
                Some(_) if existing.vlan != *vlan => {
                    format!("is a VLAN bridge for the wrong VLAN {}", existing.vlan)
                }
                Some(_) => return Ok(()),
            };
            fatal!("\"--may-exist add-br {name} {parent} {vlan}\" but {name} {wrong}")
        }
    }
}

/// Deletes port `name` of `bridge` with its interfaces.
pub fn delete_port(ctx: &mut Context<'_>, model: &Model, name: &str) {
    let Some(port) = model.ports.get(name) else { return };
    let Some(bridge) = model.bridges.get(&port.bridge) else { return };
    ctx.db.unlink("Bridge", bridge.row, "ports", port.row);
    for iface in model.ifaces_of(name) {
        ctx.db.delete("Interface", iface.row);
    }
    ctx.db.delete("Port", port.row);
}

fn del_br(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let name = ctx.args[0].clone();
    let bridge = match model.bridges.get(&name) {
        None if ctx.has("--if-exists") => return Ok(()),
        _ => model.bridge(ctx, &name)?,
    };
    let children = model.bridges.values().filter(|child| child.parent.as_ref() == Some(&name));
    for gone in children.chain([bridge]) {
        let ports: Vec<String> = model.ports_of(&gone.name).map(|port| port.name.clone()).collect();
        ports.iter().for_each(|port| delete_port(ctx, &model, port));
        if gone.parent.is_some() {
            delete_port(ctx, &model, &gone.name);
            continue;
        }
        for set in ctx.db.rows("Flow_Sample_Collector_Set") {
            if ctx.db.get("Flow_Sample_Collector_Set", set, "bridge").as_uuid() == Some(gone.row) {
                ctx.db.delete("Flow_Sample_Collector_Set", set);
            }
        }
        let root = ctx.db.root();
        ctx.db.unlink("Open_vSwitch", root, "bridges", gone.row);
        ctx.db.delete("Bridge", gone.row);
    }
    Ok(())
}

fn list_br(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (real, fake) = (ctx.has("--real"), ctx.has("--fake"));
    let both = real == fake;
    let model = Model::read(ctx);
    let wanted = model.bridges.into_values().filter(|bridge| both || bridge.parent.is_some() == fake);
    print_sorted(ctx, wanted.map(|bridge| bridge.name));
    Ok(())
}

fn br_exists(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    if model.bridges.contains_key(&ctx.args[0]) { Ok(()) } else { Err(Stop::Exit(2)) }
}

fn br_to_vlan(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let vlan = model.bridge(ctx, &ctx.args[0].clone())?.vlan;
    ctx.line(&vlan.to_string());
    Ok(())
}

fn br_to_parent(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let bridge = model.bridge(ctx, &ctx.args[0].clone())?;
    ctx.line(bridge.parent.as_ref().unwrap_or(&bridge.name));
    Ok(())
}

/// Where a bridge's external ids are, and what its keys begin with there: a fake one's are its port's.
fn ids_of(ctx: &mut Context<'_>, name: &str) -> Result<(&'static str, Uuid, &'static str), Stop> {
    let model = Model::read(ctx);
    let bridge = model.bridge(ctx, name)?;
    if bridge.parent.is_none() {
        return Ok(("Bridge", bridge.row, ""));
    }
    match model.ports.get(name) {
        Some(port) => Ok(("Port", port.row, "fake-bridge-")),
        None => fatal!("no port named {name}"),
    }
}

fn set_external_id(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (table, row, prefix) = ids_of(ctx, &ctx.args[0].clone())?;
    let key = Atom::from(format!("{prefix}{}", ctx.args[1]).as_str());
    ctx.db.verify(table, row, "external_ids");
    let mut ids = ctx.db.get(table, row, "external_ids");
    match ctx.args.get(2) {
        Some(value) => {
            ids.put(key, Atom::from(value.as_str()));
        }
        None => {
            ids.remove(&key);
        }
    }
    ctx.db.set(table, row, "external_ids", ids);
    Ok(())
}

fn get_external_id(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (table, row, prefix) = ids_of(ctx, &ctx.args[0].clone())?;
    ctx.db.verify(table, row, "external_ids");
    let ids = ctx.db.get(table, row, "external_ids");
    match ctx.args.get(1) {
        Some(key) => {
            let value = ids.get(&format!("{prefix}{key}")).map(str::to_owned);
            value.iter().for_each(|value| ctx.line(value));
        }
        None => {
            for (key, value) in ids.string_pairs() {
                if let Some(key) = key.strip_prefix(prefix) {
                    ctx.line(&format!("{key}={value}"));
                }
            }
        }
    }
    Ok(())
}

/// Columns that `emer-reset` empties: table, column.
const RESET: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["manager_options", "ssl"]),
    ("Bridge", &["controller", "fail_mode", "mirrors", "netflow", "sflow", "ipfix", "flood_vlans"]),
    ("Interface", &["ingress_policing_rate", "ingress_policing_burst"]),
];
/// Keys of `other_config` that survive: table, keys.
const KEPT: &[(&str, &[&str])] = &[("Bridge", &["hwaddr"]), ("Port", &[])];
/// Tables whose rows `emer-reset` deletes.
const DELETED: &[&str] =
    &["Mirror", "Controller", "Manager", "NetFlow", "SSL", "sFlow", "IPFIX", "Flow_Sample_Collector_Set"];

fn need_reset(_: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    for (table, columns) in RESET {
        needs.columns(table, columns);
    }
    for (table, _) in KEPT {
        needs.columns(table, &["other_config"]);
    }
    for table in DELETED {
        needs.table(table);
    }
    Ok(())
}

fn emer_reset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    for (table, columns) in RESET {
        for row in ctx.db.rows(table) {
            for column in *columns {
                let Some(kind) =
                    ctx.naming.schema.table(table).and_then(|t| Some(t.get(column)?.kind.clone()))
                else {
                    continue;
                };
                ctx.db.set(table, row, column, Datum::default_of(&kind));
            }
        }
    }
    for (table, kept) in KEPT {
        for row in ctx.db.rows(table) {
            let mut config = ctx.db.get(table, row, "other_config");
            config.retain(|key, _| key.as_str().is_some_and(|key| kept.contains(&key)));
            ctx.db.set(table, row, "other_config", config);
        }
    }
    for table in DELETED {
        for row in ctx.db.rows(table) {
            ctx.db.delete(table, row);
        }
    }
    Ok(())
}
