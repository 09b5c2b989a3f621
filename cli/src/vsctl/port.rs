//! Commands on ports, bonds and interfaces.

use std::collections::BTreeSet;

use ovsdb::value::{Datum, Uuid};

use super::bridge::delete_port;
use super::model::{Model, need, print_sorted, verify_ports};
use crate::ctl::argument;
use crate::ctl::names::Naming;
use crate::ctl::records::rows;
use crate::ctl::syntax::{Context, Needs, Options, Stop, Syntax};
use crate::fatal;

/// The commands.
pub static COMMANDS: &[Syntax] = rows! {
    "list-ports" 1 1, "BRIDGE", "", RO, need, list_ports;
    "add-port" 2 usize::MAX, "BRIDGE NEW-PORT [COLUMN[:KEY]=VALUE]...", "--may-exist", RW, need_port, add_port;
    "del-port" 1 2, "[BRIDGE] PORT|IFACE", "--if-exists,--with-iface", RW, need, del_port;
    "port-to-br" 1 1, "PORT", "", RO, need, port_to_br;
    "add-bond" 4 usize::MAX, "BRIDGE BOND IFACE... [COLUMN[:KEY]=VALUE]...", "--may-exist,--fake-iface", RW, need_port, add_bond;
    "add-bond-iface" 2 2, "BOND IFACE", "--may-exist", RW, need, add_bond_iface;
    "del-bond-iface" 1 2, "[BOND] IFACE", "--if-exists", RW, need, del_bond_iface;
    "list-ifaces" 1 1, "BRIDGE", "", RO, need, list_ifaces;
    "iface-to-br" 1 1, "IFACE", "", RO, need, iface_to_br;
};

/// The columns that settings of the new port name, besides.
fn need_port(naming: &Naming, args: &[String], options: &Options, needs: &mut Needs) -> Result<(), String> {
    let table = naming.table("Port")?;
    for setting in args[2..].iter().filter(|arg| arg.contains('=')) {
        if let Ok(column) = argument::column(naming, table, setting) {
            needs.columns("Port", &[&column.name]);
        }
    }
    need(naming, args, options, needs)
}

fn list_ports(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let name = ctx.args[0].clone();
    model.bridge(ctx, &name)?;
    verify_ports(ctx);
    let ports = model.ports_of(&name).filter(|port| port.name != name);
    print_sorted(ctx, ports.map(|port| port.name.clone()));
    Ok(())
}

fn list_ifaces(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let name = ctx.args[0].clone();
    model.bridge(ctx, &name)?;
    verify_ports(ctx);
    let ifaces = model.ports_of(&name).flat_map(|port| model.ifaces_of(&port.name));
    print_sorted(ctx, ifaces.filter(|iface| iface.name != name).map(|iface| iface.name.clone()));
    Ok(())
}

fn port_to_br(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let port = model.port(&ctx.args[0])?;
    verify_ports(ctx);
    ctx.line(&port.bridge);
    Ok(())
}

fn iface_to_br(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let iface = model.iface(&ctx.args[0])?;
    verify_ports(ctx);
    ctx.line(model.bridge_of(iface));
    Ok(())
}

/// What `add-port` and `add-bond` create.
struct NewPort<'a> {
    bridge: &'a str,
    name: &'a str,
    ifaces: &'a [String],
    settings: &'a [String],
    fake_iface: bool,
}

fn add_port(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let ifaces = [args[1].clone()];
    let new = NewPort {
        bridge: &args[0],
        name: &args[1],
        ifaces: &ifaces,
        settings: &args[2..],
        fake_iface: false,
    };
    insert_port(ctx, &new)
}

fn add_bond(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let n = args[2..].iter().position(|arg| arg.contains('=')).unwrap_or(args.len() - 2);
    let (ifaces, settings) = args[2..].split_at(n);
    if n < 2 {
        fatal!("add-bond requires at least 2 interfaces, but only {n} were specified");
    }
    let fake_iface = ctx.has("--fake-iface");
    insert_port(ctx, &NewPort { bridge: &args[0], name: &args[1], ifaces, settings, fake_iface })
}

fn insert_port(ctx: &mut Context<'_>, new: &NewPort<'_>) -> Result<(), Stop> {
    if new.name.is_empty() {
        fatal!("port name must not be empty string");
    }
    if new.ifaces.iter().any(String::is_empty) {
        fatal!("interface name must not be empty string");
    }
    let model = Model::read(ctx);
    if ctx.has("--may-exist") && model.ports.get(new.name).is_some_and(|port| port.name != port.bridge) {
        return check_same_port(&model, new);
    }
    model.check_free(ctx, new.name, &format!("cannot create a port named {}", new.name))?;
    for iface in new.ifaces.iter().filter(|iface| *iface != new.name) {
        model.check_free(ctx, iface, &format!("cannot create an interface named {iface}"))?;
    }
    let bridge = model.bridge(ctx, new.bridge)?.clone();
    let rows: Vec<Uuid> = new.ifaces.iter().map(|iface| insert_iface(ctx, iface)).collect();
    let port = ctx.db.insert("Port", None);
    ctx.db.set("Port", port, "name", Datum::one(new.name));
    ctx.db.set("Port", port, "interfaces", Datum::set(rows));
    if new.fake_iface {
        ctx.db.set("Port", port, "bond_fake_iface", Datum::one(true));
    }
    if bridge.parent.is_some() {
        ctx.db.set("Port", port, "tag", Datum::one(bridge.vlan));
    }
    let naming = ctx.naming;
    let table = naming.table("Port")?;
    for setting in new.settings {
        argument::set(naming, ctx.db, ctx.symbols, table, port, setting)?;
    }
    ctx.db.link("Bridge", bridge.row, "ports", port);
    Ok(())
}

fn insert_iface(ctx: &mut Context<'_>, name: &str) -> Uuid {
    let iface = ctx.db.insert("Interface", None);
    ctx.db.set("Interface", iface, "name", Datum::one(name));
    ctx.db.expect_interface(iface);
    iface
}

/// Whether an existing port is what `--may-exist` asks for.
fn check_same_port(model: &Model, new: &NewPort<'_>) -> Result<(), Stop> {
    let port = model.port(new.name)?;
    let have: BTreeSet<&str> = model.ifaces_of(new.name).map(|iface| iface.name.as_str()).collect();
    let want: BTreeSet<&str> = new.ifaces.iter().map(String::as_str).collect();
    let bond = new.ifaces.len() > 1;
    let command = if bond {
        format!("add-bond {} {} {}", new.bridge, new.name, new.ifaces.join(" "))
    } else {
        format!("add-port {} {}", new.bridge, new.name)
    };
    if port.bridge != new.bridge {
        fatal!("\"--may-exist {command}\" but {} is actually attached to bridge {}", new.name, port.bridge);
    }
    if have != want {
        let have: Vec<&str> = have.into_iter().collect();
        fatal!("\"--may-exist {command}\" but {} actually has interface(s) {}", new.name, have.join(", "));
    }
    Ok(())
}

fn add_bond_iface(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (bond, name) = (&ctx.args[0], &ctx.args[1]);
    if name.is_empty() {
        fatal!("interface name must not be empty string");
    }
    let model = Model::read(ctx);
    let port = model.port(bond)?;
    verify_ports(ctx);
    if ctx.has("--may-exist")
        && let Some(iface) = model.ifaces.get(name)
    {
        if iface.port == *bond {
            return Ok(());
        }
        fatal!(
            "\"--may-exist add-bond-iface {bond} {name}\" but {name} is actually attached to port {}",
            iface.port
        );
    }
    model.check_free(ctx, name, &format!("cannot create an interface named {name}"))?;
    let iface = insert_iface(ctx, name);
    ctx.db.link("Port", port.row, "interfaces", iface);
    Ok(())
}

fn del_bond_iface(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (port, name) = match ctx.args {
        [port, iface] => (Some(port), iface),
        args => (None, &args[0]),
    };
    let model = Model::read(ctx);
    let iface = match model.iface(name) {
        Err(_) if ctx.has("--if-exists") => return Ok(()),
        found => found?,
    };
    verify_ports(ctx);
    if let Some(port) = port
        && iface.port != model.port(port)?.name
    {
        fatal!("port {port} does not have an interface {name}");
    }
    if model.ifaces_of(&iface.port).count() == 1 {
        fatal!("cannot delete last interface from port {}", iface.port);
    }
    let port = model.ports.get(&iface.port).map(|port| port.row);
    if let Some(port) = port {
        ctx.db.unlink("Port", port, "interfaces", iface.row);
    }
    ctx.db.delete("Interface", iface.row);
    Ok(())
}

fn del_port(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let (bridge, target) = match ctx.args {
        [bridge, target] => (Some(bridge.clone()), target.clone()),
        args => (None, args[0].clone()),
    };
    let must_exist = !ctx.has("--if-exists");
    if model.bridges.contains_key(&target) {
        if must_exist {
            fatal!(
                "cannot delete port {target} because it is the local port for bridge {target} (deleting this port \
                 requires deleting the entire bridge)"
            );
        }
        return Ok(());
    }
    let found = match model.ports.get(&target) {
        None if ctx.has("--with-iface") => {
            model.ifaces.get(&target).and_then(|iface| model.ports.get(&iface.port))
        }
        found => found,
    };
    let Some(port) = found else {
        if !must_exist {
            return Ok(());
        }
        if ctx.has("--with-iface") {
            fatal!("no port or interface named {target}");
        }
        fatal!("no port named {target}");
    };
    if let Some(bridge) = bridge {
        model.bridge(ctx, &bridge)?;
        let parent = model.bridges.get(&port.bridge).and_then(|owner| owner.parent.as_ref());
        if parent == Some(&bridge) {
            fatal!(
                "bridge {bridge} does not have a port {target} (although its child bridge {} does)",
                port.bridge
            );
        }
        if port.bridge != bridge {
            fatal!("bridge {bridge} does not have a port {target}");
        }
    }
    verify_ports(ctx);
    let name = port.name.clone();
    delete_port(ctx, &model, &name);
    Ok(())
}
