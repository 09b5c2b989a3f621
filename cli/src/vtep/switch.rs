//! Physical switches and their ports, logical switches, logical routers.

use std::collections::BTreeMap;

use ovsdb::value::{Atom, Datum, Uuid};

use crate::ctl::names::Naming;
use crate::ctl::records::rows;
use crate::ctl::syntax::{Context, Needs, Options, Stop, Syntax};
use crate::fatal;

/// The commands.
pub static COMMANDS: &[Syntax] = rows! {
    "add-ps" 1 1, "PS", "--may-exist", RW, need, add_ps;
    "del-ps" 1 1, "PS", "--if-exists", RW, need, del_ps;
    "list-ps" 0 0, "", "", RO, need, |ctx| { let all = switches(ctx); print_sorted(ctx, all.into_keys()); Ok(()) };
    "ps-exists" 1 1, "PS", "", RO, need, |ctx| exists(switches(ctx).contains_key(&ctx.args[0]));
    "list-ports" 1 1, "PS", "", RO, need, list_ports;
    "add-port" 2 2, "PS PORT", "--may-exist", RW, need, add_port;
    "del-port" 2 2, "PS PORT", "--if-exists", RW, need, del_port;
    "add-ls" 1 1, "LS", "--may-exist", RW, need, |ctx| add_named(ctx, &LOGICAL_SWITCH);
    "del-ls" 1 1, "LS", "--if-exists", RW, need, |ctx| del_named(ctx, &LOGICAL_SWITCH);
    "list-ls" 0 0, "", "", RO, need, |ctx| list_named(ctx, &LOGICAL_SWITCH);
    "ls-exists" 1 1, "LS", "", RO, need, |ctx| exists(LOGICAL_SWITCH.all(ctx).contains_key(&ctx.args[0]));
    "list-bindings" 2 2, "PS PORT", "", RO, need, list_bindings;
    "bind-ls" 4 4, "PS PORT VLAN LS", "", RO, need, bind_ls;
    "unbind-ls" 3 3, "PS PORT VLAN", "", RO, need, unbind_ls;
    "set-replication-mode" 2 2, "LS MODE", "", RW, need, set_replication_mode;
    "get-replication-mode" 1 1, "LS", "", RO, need, get_replication_mode;
    "add-lr" 1 1, "LR", "--may-exist", RW, need, |ctx| add_named(ctx, &LOGICAL_ROUTER);
    "del-lr" 1 1, "LR", "--if-exists", RW, need, |ctx| del_named(ctx, &LOGICAL_ROUTER);
    "list-lr" 0 0, "", "", RO, need, |ctx| list_named(ctx, &LOGICAL_ROUTER);
    "lr-exists" 1 1, "LR", "", RO, need, |ctx| exists(LOGICAL_ROUTER.all(ctx).contains_key(&ctx.args[0]));
};

/// What every command here needs.
pub fn need(_: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    needs.columns("Global", &["switches"]);
    needs.columns("Physical_Switch", &["name", "ports"]);
    needs.columns("Physical_Port", &["name", "vlan_bindings"]);
    needs.columns("Logical_Switch", &["name", "replication_mode"]);
    needs.columns("Logical_Router", &["name"]);
    Ok(())
}

fn print_sorted(ctx: &mut Context<'_>, names: impl Iterator<Item = String>) {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.iter().for_each(|name| ctx.line(name));
}

fn exists(known: bool) -> Result<(), Stop> {
    if known { Ok(()) } else { Err(Stop::Exit(2)) }
}

/// A table of rows with names of which each should be there once.
pub struct Named {
    table: &'static str,
    what: &'static str,
}

/// Logical switches.
pub static LOGICAL_SWITCH: Named = Named { table: "Logical_Switch", what: "logical switch" };
static LOGICAL_ROUTER: Named = Named { table: "Logical_Router", what: "logical router" };
static PHYSICAL_SWITCH: Named = Named { table: "Physical_Switch", what: "physical switch" };

impl Named {
    /// All rows by name.
    pub fn all(&self, ctx: &mut Context<'_>) -> BTreeMap<String, Uuid> {
        let rows = ctx.db.rows(self.table);
        self.by_name(ctx, rows)
    }

    fn by_name(&self, ctx: &mut Context<'_>, rows: Vec<Uuid>) -> BTreeMap<String, Uuid> {
        let mut all = BTreeMap::new();
        for row in rows {
            let name = ctx.db.text(self.table, row, "name");
            if all.contains_key(&name) {
                ctx.warnings.push(format!("{name}: database contains duplicate {} name", self.what));
                continue;
            }
            all.insert(name, row);
        }
        all
    }

    /// The row called `name`, which must exist.
    pub fn find(&self, ctx: &mut Context<'_>, name: &str) -> Result<Uuid, Stop> {
        match self.all(ctx).get(name) {
            Some(row) => Ok(*row),
            None => fatal!("no {} named {name}", self.what),
        }
    }
}

fn add_named(ctx: &mut Context<'_>, kind: &Named) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    if kind.all(ctx).contains_key(&name) {
        if !ctx.has("--may-exist") {
            fatal!("cannot create {} {name} because it already exists", kind.what);
        }
        return Ok(());
    }
    let row = ctx.db.insert(kind.table, None);
    ctx.db.set(kind.table, row, "name", Datum::one(name.as_str()));
    Ok(())
}

fn del_named(ctx: &mut Context<'_>, kind: &Named) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    if ctx.has("--if-exists") && !kind.all(ctx).contains_key(&name) {
        return Ok(());
    }
    let row = kind.find(ctx, &name)?;
    ctx.db.delete(kind.table, row);
    Ok(())
}

fn list_named(ctx: &mut Context<'_>, kind: &Named) -> Result<(), Stop> {
    let all = kind.all(ctx);
    print_sorted(ctx, all.into_keys());
    Ok(())
}

/// The physical switches by name.
fn switches(ctx: &mut Context<'_>) -> BTreeMap<String, Uuid> {
    let root = ctx.db.root();
    ctx.db.verify("Global", root, "switches");
    let rows = ctx.db.get("Global", root, "switches").uuids().collect();
    PHYSICAL_SWITCH.by_name(ctx, rows)
}

fn switch(ctx: &mut Context<'_>, name: &str) -> Result<Uuid, Stop> {
    match switches(ctx).get(name) {
        Some(row) => Ok(*row),
        None => fatal!("no physical switch named {name}"),
    }
}

/// The ports of a physical switch by name.
fn ports(ctx: &mut Context<'_>, switch: Uuid) -> BTreeMap<String, Uuid> {
    ctx.db.verify("Physical_Switch", switch, "ports");
    let rows: Vec<Uuid> = ctx.db.get("Physical_Switch", switch, "ports").uuids().collect();
    rows.into_iter().map(|row| (ctx.db.text("Physical_Port", row, "name"), row)).collect()
}

/// Port `name` of the physical switch called `switch`; a port called like its switch does not count.
fn find_port(ctx: &mut Context<'_>, switch: &str, name: &str) -> Option<Uuid> {
    let row = *switches(ctx).get(switch)?;
    ports(ctx, row).get(name).copied().filter(|_| name != switch)
}

fn port(ctx: &mut Context<'_>) -> Result<Uuid, Stop> {
    let (switch, name) = (ctx.args[0].clone(), ctx.args[1].clone());
    match find_port(ctx, &switch, &name) {
        Some(row) => Ok(row),
        None => fatal!("no port named {name}"),
    }
}

fn add_ps(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    if switches(ctx).contains_key(&name) {
        if !ctx.has("--may-exist") {
            fatal!("cannot create physical switch {name} because it already exists");
        }
        return Ok(());
    }
    let row = ctx.db.insert("Physical_Switch", None);
    ctx.db.set("Physical_Switch", row, "name", Datum::one(name.as_str()));
    let root = ctx.db.root();
    ctx.db.link("Global", root, "switches", row);
    Ok(())
}

fn del_ps(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    if ctx.has("--if-exists") && !switches(ctx).contains_key(&name) {
        return Ok(());
    }
    let row = switch(ctx, &name)?;
    for port in ports(ctx, row).into_values() {
        ctx.db.delete("Physical_Port", port);
    }
    let root = ctx.db.root();
    ctx.db.unlink("Global", root, "switches", row);
    ctx.db.delete("Physical_Switch", row);
    Ok(())
}

fn list_ports(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    let row = switch(ctx, &name)?;
    let names = ports(ctx, row).into_keys().filter(|port| *port != name);
    print_sorted(ctx, names);
    Ok(())
}

fn add_port(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (owner, name) = (ctx.args[0].clone(), ctx.args[1].clone());
    if find_port(ctx, &owner, &name).is_some() {
        if !ctx.has("--may-exist") {
            fatal!(
                "cannot create a port named {name} on {owner} because a port with that name already exists"
            );
        }
        return Ok(());
    }
    let owner = switch(ctx, &owner)?;
    let row = ctx.db.insert("Physical_Port", None);
    ctx.db.set("Physical_Port", row, "name", Datum::one(name.as_str()));
    ctx.db.link("Physical_Switch", owner, "ports", row);
    Ok(())
}

fn del_port(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (owner, name) = (ctx.args[0].clone(), ctx.args[1].clone());
    if ctx.has("--if-exists") && find_port(ctx, &owner, &name).is_none() {
        return Ok(());
    }
    let row = port(ctx)?;
    let owner = switch(ctx, &owner)?;
    ctx.db.unlink("Physical_Switch", owner, "ports", row);
    ctx.db.delete("Physical_Port", row);
    Ok(())
}

fn list_bindings(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let row = port(ctx)?;
    let bindings = ctx.db.get("Physical_Port", row, "vlan_bindings");
    let mut lines = Vec::new();
    for (vlan, target) in bindings.pairs() {
        let name = target.as_uuid().map(|uuid| ctx.db.text("Logical_Switch", uuid, "name"));
        lines.push(format!("{:04} {}", vlan.as_integer().unwrap_or_default(), name.unwrap_or_default()));
    }
    print_sorted(ctx, lines.into_iter());
    Ok(())
}

/// A VLAN in any base that C reads.
fn vlan(text: &str) -> Result<Atom, Stop> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    match number {
        Ok(number) => Ok(Atom::from(number)),
        Err(_) => fatal!("{text}: not a VLAN"),
    }
}

fn bind_ls(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let row = port(ctx)?;
    let text = ctx.args[2].clone();
    let name = ctx.args[3].clone();
    let target = LOGICAL_SWITCH.find(ctx, &name)?;
    let key = vlan(&text)?;
    let mut bindings = ctx.db.get("Physical_Port", row, "vlan_bindings");
    if bindings.value(&key).is_some() {
        fatal!("multiple bindings for vlan {text}");
    }
    bindings.put(key, Atom::from(target));
    ctx.db.set("Physical_Port", row, "vlan_bindings", bindings);
    Ok(())
}

fn unbind_ls(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let row = port(ctx)?;
    let text = ctx.args[2].clone();
    let mut bindings = ctx.db.get("Physical_Port", row, "vlan_bindings");
    let key = vlan(&text)?;
    if bindings.value(&key).is_none() {
        fatal!("no binding for vlan {text}");
    }
    bindings.remove(&key);
    ctx.db.set("Physical_Port", row, "vlan_bindings", bindings);
    Ok(())
}

fn set_replication_mode(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (name, mode) = (ctx.args[0].clone(), ctx.args[1].clone());
    if !matches!(mode.as_str(), "service_node" | "source_node") {
        fatal!("Replication mode must be 'service_node' or 'source_node'");
    }
    let row = LOGICAL_SWITCH.find(ctx, &name)?;
    ctx.db.set("Logical_Switch", row, "replication_mode", Datum::one(mode.as_str()));
    Ok(())
}

fn get_replication_mode(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let name = ctx.args[0].clone();
    let row = LOGICAL_SWITCH.find(ctx, &name)?;
    let mode = ctx.db.get("Logical_Switch", row, "replication_mode");
    // What C prints of a null pointer.
    ctx.line(mode.as_str().unwrap_or("(null)"));
    Ok(())
}
