//! Controllers, managers, fail mode and TLS.

use ovsdb::value::{Datum, Uuid};

use super::model::{Model, need};
use crate::ctl::names::Naming;
use crate::ctl::records::rows;
use crate::ctl::syntax::{Context, Needs, Options, Stop, Syntax};
use crate::ctl::targets::Targets;
use crate::fatal;

/// The commands.
pub static COMMANDS: &[Syntax] = rows! {
    "get-controller" 1 1, "BRIDGE", "", RO, need_controller, get_controller;
    "del-controller" 1 1, "BRIDGE", "", RW, need_controller, del_controller;
    "set-controller" 1 usize::MAX, "BRIDGE TARGET...", "--inactivity-probe=", RW, need_controller, set_controller;
    "get-fail-mode" 1 1, "BRIDGE", "", RO, need, get_fail_mode;
    "del-fail-mode" 1 1, "BRIDGE", "", RW, need, del_fail_mode;
    "set-fail-mode" 2 2, "BRIDGE MODE", "", RW, need, set_fail_mode;
    "get-manager" 0 0, "", "", RO, need_manager, get_manager;
    "del-manager" 0 0, "", "", RW, need_manager, del_manager;
    "set-manager" 1 usize::MAX, "TARGET...", "--inactivity-probe=", RW, need_manager, set_manager;
    "get-ssl" 0 0, "", "", RO, need_ssl, get_ssl;
    "del-ssl" 0 0, "", "", RW, need_ssl, del_ssl;
    "set-ssl" 3 3, "PRIVATE-KEY CERTIFICATE CA-CERT", "--bootstrap", RW, need_ssl, set_ssl;
};

fn need_controller(
    naming: &Naming,
    args: &[String],
    options: &Options,
    needs: &mut Needs,
) -> Result<(), String> {
    needs.columns("Controller", &["target", "inactivity_probe"]);
    need(naming, args, options, needs)
}

fn need_manager(_: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    needs.columns("Open_vSwitch", &["manager_options"]);
    needs.columns("Manager", &["target", "inactivity_probe"]);
    Ok(())
}

fn need_ssl(_: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    needs.columns("Open_vSwitch", &["ssl"]);
    needs.columns("SSL", &["private_key", "certificate", "ca_cert", "bootstrap_ca_cert"]);
    Ok(())
}

fn of_bridge(ctx: &mut Context<'_>, real: bool) -> Result<Targets, Stop> {
    let model = Model::read(ctx);
    let name = ctx.args[0].clone();
    let bridge = if real { model.real_bridge(ctx, &name)? } else { model.bridge(ctx, &name)? };
    Ok(Targets { owner: ("Bridge", bridge.row, "controller"), table: "Controller" })
}

fn managers(ctx: &mut Context<'_>) -> Targets {
    Targets { owner: ("Open_vSwitch", ctx.db.root(), "manager_options"), table: "Manager" }
}

fn get_controller(ctx: &mut Context<'_>) -> Result<(), Stop> {
    of_bridge(ctx, false)?.print(ctx, false);
    Ok(())
}

fn del_controller(ctx: &mut Context<'_>) -> Result<(), Stop> {
    of_bridge(ctx, true)?.replace(ctx, &[]);
    Ok(())
}

fn set_controller(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let targets = &ctx.args[1..];
    of_bridge(ctx, true)?.replace(ctx, targets);
    Ok(())
}

fn get_manager(ctx: &mut Context<'_>) -> Result<(), Stop> {
    managers(ctx).print(ctx, true);
    Ok(())
}

fn del_manager(ctx: &mut Context<'_>) -> Result<(), Stop> {
    managers(ctx).replace(ctx, &[]);
    Ok(())
}

fn set_manager(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let targets = ctx.args;
    managers(ctx).replace(ctx, targets);
    Ok(())
}

fn get_fail_mode(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let row = model.bridge(ctx, &ctx.args[0].clone())?.row;
    ctx.db.verify("Bridge", row, "fail_mode");
    let mode = ctx.db.text("Bridge", row, "fail_mode");
    if !mode.is_empty() {
        ctx.line(&mode);
    }
    Ok(())
}

fn del_fail_mode(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let row = model.real_bridge(ctx, &ctx.args[0].clone())?.row;
    ctx.db.set("Bridge", row, "fail_mode", Datum::empty_set());
    Ok(())
}

fn set_fail_mode(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let model = Model::read(ctx);
    let row = model.real_bridge(ctx, &ctx.args[0].clone())?.row;
    let mode = ctx.args[1].as_str();
    if !matches!(mode, "standalone" | "secure") {
        fatal!("fail-mode must be \"standalone\" or \"secure\"");
    }
    ctx.db.set("Bridge", row, "fail_mode", Datum::one(mode));
    Ok(())
}

/// The row of the TLS configuration, if there is one.
fn ssl_row(ctx: &mut Context<'_>) -> Option<Uuid> {
    let root = ctx.db.root();
    ctx.db.verify("Open_vSwitch", root, "ssl");
    ctx.db.get("Open_vSwitch", root, "ssl").as_uuid()
}

fn get_ssl(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let Some(row) = ssl_row(ctx) else { return Ok(()) };
    let columns =
        [("Private key", "private_key"), ("Certificate", "certificate"), ("CA Certificate", "ca_cert")];
    for (label, column) in columns {
        ctx.db.verify("SSL", row, column);
        let value = ctx.db.text("SSL", row, column);
        ctx.line(&format!("{label}: {value}"));
    }
    ctx.db.verify("SSL", row, "bootstrap_ca_cert");
    let bootstrap = ctx.db.get("SSL", row, "bootstrap_ca_cert").as_bool() == Some(true);
    ctx.line(&format!("Bootstrap: {bootstrap}"));
    Ok(())
}

fn del_ssl(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if let Some(row) = ssl_row(ctx) {
        ctx.db.delete("SSL", row);
        let root = ctx.db.root();
        ctx.db.set("Open_vSwitch", root, "ssl", Datum::empty_set());
    }
    Ok(())
}

fn set_ssl(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if let Some(row) = ssl_row(ctx) {
        ctx.db.delete("SSL", row);
    }
    let row = ctx.db.insert("SSL", None);
    for (column, value) in ["private_key", "certificate", "ca_cert"].iter().zip(ctx.args) {
        ctx.db.set("SSL", row, column, Datum::one(value.as_str()));
    }
    ctx.db.set("SSL", row, "bootstrap_ca_cert", Datum::one(ctx.has("--bootstrap")));
    let root = ctx.db.root();
    ctx.db.set("Open_vSwitch", root, "ssl", Datum::one(row));
    Ok(())
}
