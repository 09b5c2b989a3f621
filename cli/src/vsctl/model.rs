//! Bridges, ports and interfaces as the database has them.
//!
//! A *fake* bridge is a port with `fake_bridge` set: it stands for one VLAN of its parent, and the parent's ports with
//! that tag count as its own.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::value::Uuid;

use crate::ctl::db::Db;
use crate::ctl::names::Naming;
use crate::ctl::syntax::{Context, Needs, Options, Stop};
use crate::fatal;

/// A bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    pub name: String,
    /// Its row; a fake bridge has its parent's.
    pub row: Uuid,
    /// The name of its parent, if it is fake.
    pub parent: Option<String>,
    /// The VLAN that a fake bridge stands for, else 0.
    pub vlan: i64,
}

/// A port.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub row: Uuid,
    /// The name of its bridge: a fake one, if its tag is that one's VLAN.
    pub bridge: String,
    /// It is a fake bridge's own port.
    pub is_fake_bridge: bool,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Iface {
    pub name: String,
    pub row: Uuid,
    /// The name of its port.
    pub port: String,
}

/// All of them, by name.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub bridges: BTreeMap<String, Bridge>,
    pub ports: BTreeMap<String, Port>,
    pub ifaces: BTreeMap<String, Iface>,
}

/// Columns that every command on bridges needs.
pub fn need(_: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    needs.columns("Open_vSwitch", &["bridges"]);
    needs.columns("Bridge", &["name", "controller", "fail_mode", "ports"]);
    needs.columns("Port", &["name", "fake_bridge", "tag", "interfaces"]);
    needs.columns("Interface", &["name", "ofport", "error"]);
    Ok(())
}

impl Model {
    /// Reads the model; oddities go to `warnings`.
    pub fn read(ctx: &mut Context<'_>) -> Self {
        let mut model = Self::default();
        let root = ctx.db.root();
        let bridges: Vec<Uuid> = ctx.db.get("Open_vSwitch", root, "bridges").uuids().collect();
        for &row in &bridges {
            let name = ctx.db.text("Bridge", row, "name");
            if model.bridges.contains_key(&name) {
                ctx.warnings.push(format!("{name}: database contains duplicate bridge name"));
                continue;
            }
            model.add_bridge(ctx.db, row, name);
        }
        for &row in &bridges {
            let name = ctx.db.text("Bridge", row, "name");
            if model.bridges.get(&name).is_some_and(|bridge| bridge.row == row) {
                model.add_ports(ctx, row, &name);
            }
        }
        model
    }

    fn add_bridge(&mut self, db: &Db, row: Uuid, name: String) {
        for port in db.get("Bridge", row, "ports").uuids() {
            let Some(vlan) = fake_vlan(db, port) else { continue };
            let child = db.text("Port", port, "name");
            let fake = Bridge { name: child.clone(), row, parent: Some(name.clone()), vlan };
            self.bridges.entry(child).or_insert(fake);
        }
        self.bridges.insert(name.clone(), Bridge { name, row, parent: None, vlan: 0 });
    }

    fn add_ports(&mut self, ctx: &mut Context<'_>, row: Uuid, bridge: &str) {
        let ports: Vec<Uuid> = ctx.db.get("Bridge", row, "ports").uuids().collect();
        for port_row in ports {
            let name = ctx.db.text("Port", port_row, "name");
            if let Some(other) = self.ports.get(&name) {
                ctx.warnings.push(if other.row == port_row {
                    format!("{name}: port is in multiple bridges ({bridge} and {})", other.bridge)
                } else {
                    format!("{name}: database contains duplicate port name")
                });
                continue;
            }
            let tag = ctx.db.get("Port", port_row, "tag").as_integer();
            let owner = tag.and_then(|tag| self.child_on(bridge, tag)).unwrap_or(bridge).to_owned();
            let is_fake_bridge = fake_vlan(ctx.db, port_row).is_some();
            self.ports.insert(
                name.clone(),
                Port { name: name.clone(), row: port_row, bridge: owner, is_fake_bridge },
            );
            self.add_ifaces(ctx, port_row, &name);
        }
    }

    fn add_ifaces(&mut self, ctx: &mut Context<'_>, port_row: Uuid, port: &str) {
        let ifaces: Vec<Uuid> = ctx.db.get("Port", port_row, "interfaces").uuids().collect();
        for row in ifaces {
            let name = ctx.db.text("Interface", row, "name");
            match self.ifaces.get(&name) {
                None => {
                    self.ifaces.insert(name.clone(), Iface { name, row, port: port.to_owned() });
                }
                Some(other) if other.row == row => ctx
                    .warnings
                    .push(format!("{name}: interface is in multiple ports ({} and {port})", other.port)),
                Some(_) => ctx.warnings.push(format!("{name}: database contains duplicate interface name")),
            }
        }
    }

    /// The fake bridge of `parent` on `vlan`.
    pub fn child_on(&self, parent: &str, vlan: i64) -> Option<&str> {
        let mut children = self.bridges.values().filter(|bridge| bridge.parent.as_deref() == Some(parent));
        children.find(|bridge| bridge.vlan == vlan).map(|bridge| bridge.name.as_str())
    }

    /// The bridge `name`, which must exist.
    pub fn bridge(&self, ctx: &mut Context<'_>, name: &str) -> Result<&Bridge, Stop> {
        let Some(bridge) = self.bridges.get(name) else { fatal!("no bridge named {name}") };
        let root = ctx.db.root();
        ctx.db.verify("Open_vSwitch", root, "bridges");
        Ok(bridge)
    }

    /// The bridge `name`, which must exist and not be fake.
    pub fn real_bridge(&self, ctx: &mut Context<'_>, name: &str) -> Result<&Bridge, Stop> {
        let bridge = self.bridge(ctx, name)?;
        if bridge.parent.is_some() {
            fatal!("{name} is a fake bridge");
        }
        Ok(bridge)
    }

    /// The port `name`, which must exist; the port of a real bridge itself counts, that of a fake one does not.
    pub fn port(&self, name: &str) -> Result<&Port, Stop> {
        match self.ports.get(name).filter(|port| port.name != port.bridge) {
            Some(port) => Ok(port),
            None => fatal!("no port named {name}"),
        }
    }

    /// The interface `name`, which must exist and not be a bridge's own.
    pub fn iface(&self, name: &str) -> Result<&Iface, Stop> {
        let found = self
            .ifaces
            .get(name)
            .filter(|iface| self.ports.get(&iface.port).is_none_or(|port| port.bridge != *name));
        match found {
            Some(iface) => Ok(iface),
            None => fatal!("no interface named {name}"),
        }
    }

    /// The name of the bridge that interface `iface` is on.
    pub fn bridge_of(&self, iface: &Iface) -> &str {
        self.ports.get(&iface.port).map_or("", |port| port.bridge.as_str())
    }

    /// The ports of `bridge`, its own among them, by name.
    pub fn ports_of(&self, bridge: &str) -> impl Iterator<Item = &Port> {
        self.ports.values().filter(move |port| port.bridge == bridge)
    }

    /// The interfaces of `port`, by name.
    pub fn ifaces_of(&self, port: &str) -> impl Iterator<Item = &Iface> {
        self.ifaces.values().filter(move |iface| iface.port == port)
    }

    /// An error beginning with `message` if anything has the name `name`.
    pub fn check_free(&self, ctx: &mut Context<'_>, name: &str, message: &str) -> Result<(), Stop> {
        verify_ports(ctx);
        if self.bridges.contains_key(name) {
            fatal!("{message} because a bridge named {name} already exists");
        }
        if let Some(port) = self.ports.get(name) {
            fatal!("{message} because a port named {name} already exists on bridge {}", port.bridge);
        }
        if let Some(iface) = self.ifaces.get(name) {
            fatal!(
                "{message} because an interface named {name} already exists on bridge {}",
                self.bridge_of(iface)
            );
        }
        Ok(())
    }
}

/// Makes the commit fail if somebody changes which ports and interfaces there are meanwhile.
pub fn verify_ports(ctx: &mut Context<'_>) {
    let root = ctx.db.root();
    ctx.db.verify("Open_vSwitch", root, "bridges");
    for (table, columns) in [("Bridge", ["name", "ports"]), ("Port", ["name", "interfaces"])] {
        for row in ctx.db.rows(table) {
            columns.iter().for_each(|column| ctx.db.verify(table, row, column));
        }
    }
}

/// The VLAN of the fake bridge that port `row` is, if it is one.
fn fake_vlan(db: &Db, row: Uuid) -> Option<i64> {
    if db.get("Port", row, "fake_bridge").as_bool() != Some(true) {
        return None;
    }
    db.get("Port", row, "tag").as_integer().filter(|tag| (0..=4095).contains(tag))
}

/// Prints names sorted, a line each.
pub fn print_sorted(ctx: &mut Context<'_>, names: impl Iterator<Item = String>) {
    let sorted: BTreeSet<String> = names.collect();
    sorted.iter().for_each(|name| ctx.line(name));
}
