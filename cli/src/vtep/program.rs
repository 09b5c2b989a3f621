//! What `vtep-ctl` knows of its database: how rows are named, what `show` shows, which commands there are.

use std::process::ExitCode;

use super::{macs, switch};
use crate::ctl::names::{Naming, RowId, row_ids};
use crate::ctl::program::{self, Profile};
use crate::ctl::records::{self, rows};
use crate::ctl::show::{ShowTable, show};
use crate::ctl::syntax::{Context, Needs, Options, Stop, Syntax};
use crate::ctl::targets::Targets;

/// All commands.
pub static COMMANDS: &[&[Syntax]] = &[records::COMMANDS, switch::COMMANDS, macs::COMMANDS, MANAGER];

/// The commands on managers.
static MANAGER: &[Syntax] = rows! {
    "get-manager" 0 0, "", "", RO, need_manager, |ctx| { managers(ctx).print(ctx, true); Ok(()) };
    "del-manager" 0 0, "", "", RW, need_manager, |ctx| { managers(ctx).replace(ctx, &[]); Ok(()) };
    "set-manager" 1 usize::MAX, "TARGET...", "--inactivity-probe=", RW, need_manager, set_manager;
};

/// How rows are named, besides by UUID.
static ROW_IDS: &[(&str, &[RowId])] = row_ids! {
    "Logical_Switch": "Logical_Switch"."name";
    "Manager": "Manager"."target";
    "Physical_Port": "Physical_Port"."name";
    "Physical_Switch": "Physical_Switch"."name";
    "Logical_Router": "Logical_Router"."name";
};

/// What `show` shows.
static SHOW: &[ShowTable] = show! {
    "Global" None, ["managers", "switches"];
    "Manager" Some("target"), ["is_connected"];
    "Physical_Switch" Some("name"), ["management_ips", "tunnel_ips", "ports"];
    "Physical_Port" Some("name"), ["vlan_bindings"];
    "Logical_Switch" Some("name"), [];
};

const NAME: &str = "vtep-ctl";

static PROFILE: Profile = Profile {
    name: NAME,
    warn: |text| tracing::warn!(target: "vtep_ctl", "{text}"),
    called: |text, writes| match writes {
        true => tracing::info!(target: "vtep_ctl", "{text}"),
        false => tracing::debug!(target: "vtep_ctl", "{text}"),
    },
    module: "vtep_ctl",
    commands: COMMANDS,
    row_ids: ROW_IDS,
    show: SHOW,
    schema: ovsdb::vswitch::vtep_schema,
    root_table: "Global",
    wait: None,
    comment: || format!("{NAME}: {}", program::escaped_args()),
    manual: include_str!("../../../docs/man/source/vtep-ctl.8.txt"),
};

/// Runs the program; returns its exit status.
pub fn main() -> ExitCode {
    program::main(&PROFILE)
}

fn need_manager(_: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    needs.columns("Global", &["managers"]);
    needs.columns("Manager", &["target", "inactivity_probe"]);
    Ok(())
}

fn managers(ctx: &mut Context<'_>) -> Targets {
    Targets { owner: ("Global", ctx.db.root(), "managers"), table: "Manager" }
}

fn set_manager(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let targets = ctx.args;
    managers(ctx).replace(ctx, targets);
    Ok(())
}
