//! What `ovs-vsctl` knows of its database: how rows are named, what `show` shows, which commands there are.

use std::process::ExitCode;

use crate::ctl::names::{RowId, row_ids};
use crate::ctl::program::{self, Profile};
use crate::ctl::records;
use crate::ctl::show::{ShowTable, show};
use crate::ctl::syntax::Syntax;

use super::{autoattach, bridge, port, targets, zone};

/// All commands.
pub static COMMANDS: &[&[Syntax]] = &[
    records::COMMANDS,
    bridge::COMMANDS,
    port::COMMANDS,
    targets::COMMANDS,
    autoattach::COMMANDS,
    zone::COMMANDS,
];

/// How rows are named, besides by UUID.
pub static ROW_IDS: &[(&str, &[RowId])] = row_ids! {
    "Bridge": "Bridge"."name";
    "Controller": "Bridge"."name" -> "controller";
    "Interface": "Interface"."name";
    "Mirror": "Mirror"."name";
    "Manager": "Manager"."target";
    "NetFlow": "Bridge"."name" -> "netflow";
    "Port": "Port"."name";
    "QoS": "Port"."name" -> "qos";
    "sFlow": "Bridge"."name" -> "sflow";
    "Flow_Table": "Flow_Table"."name";
    "IPFIX": "Bridge"."name" -> "ipfix";
    "AutoAttach": "Bridge"."name" -> "auto_attach";
    "Flow_Sample_Collector_Set": "Flow_Sample_Collector_Set"."id";
};

/// What `show` shows.
pub static SHOW: &[ShowTable] = show! {
    "Open_vSwitch" None, ["manager_options", "bridges", "ovs_version"];
    "Bridge" Some("name"), ["controller", "fail_mode", "datapath_type", "ports"];
    "Port" Some("name"), ["tag", "trunks", "interfaces"];
    "Interface" Some("name"), ["type", "options", "error", "bfd_status"];
    "Controller" Some("target"), ["is_connected"];
    "Manager" Some("target"), ["is_connected"];
};

const NAME: &str = "ovs-vsctl";

static PROFILE: Profile = Profile {
    name: NAME,
    warn: |text| tracing::warn!(target: "vsctl", "{text}"),
    called: |text, writes| match writes {
        true => tracing::info!(target: "vsctl", "{text}"),
        false => tracing::debug!(target: "vsctl", "{text}"),
    },
    module: "vsctl",
    commands: COMMANDS,
    row_ids: ROW_IDS,
    show: SHOW,
    schema: ovsdb::vswitch::schema,
    root_table: "Open_vSwitch",
    wait: Some(("next_cfg", "cur_cfg")),
    comment: || format!("ovs-vsctl{}: {}", invoked_by(), program::escaped_args()),
    manual: include_str!("../../../docs/man/source/ovs-vsctl.8.txt"),
};

/// Runs the program; returns its exit status.
pub fn main() -> ExitCode {
    program::main(&PROFILE)
}

/// ` (invoked by COMMAND (pid N))`, from the parent process.
fn invoked_by() -> String {
    let parent = std::os::unix::process::parent_id();
    let command = std::fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
    let command =
        String::from_utf8_lossy(command.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let command = if parent == 0 {
        "init".to_owned()
    } else {
        command.split('\0').next().unwrap_or_default().to_owned()
    };
    format!(" (invoked by {command} (pid {parent}))")
}
