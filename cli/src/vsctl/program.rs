//! What `ovs-vsctl` knows of its database: how rows are named, what `show` shows, which commands there are.

use std::process::ExitCode;

use daemon::dirs::Dirs;
use daemon::options::help;

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
    usage,
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

fn usage(dirs: &Dirs) -> String {
    let mut tables = String::new();
    let schema = ovsdb::vswitch::schema();
    for name in schema.tables.keys() {
        tables.push_str(&format!("  {name}\n"));
    }
    format!(
        "{NAME}: ovs-vswitchd management utility\nusage: {NAME} [OPTIONS] COMMAND [ARG...]\n{COMMAND_HELP}{}\nDatabase \
         tables:\n{tables}\nOptions:\n  --db=DATABASE               connect to DATABASE\n                              \
         (default: unix:{})\n{OPTION_HELP}{}  --no-syslog             equivalent to \
         --verbose=vsctl:syslog:warn\n{}\nOther options:\n  -h, --help                  display this help \
         message\n  -V, --version               display version information\n",
        records::HELP,
        dirs.in_run("db.sock").display(),
        help::logging(NAME, dirs),
        help::connections("database", true, true),
    )
}

const OPTION_HELP: &str = "  --no-wait                   do not wait for ovs-vswitchd to reconfigure
  --retry                     keep trying to connect to server forever
  -t, --timeout=SECS          wait at most SECS seconds for ovs-vswitchd
  --dry-run                   do not commit changes to database
  --oneline                   print exactly one line of output per command

Output formatting options:
  -f, --format=FORMAT         set output formatting to FORMAT
                              (\"table\", \"html\", \"csv\", or \"json\")
  -d, --data=FORMAT           set table cell output formatting to
                              FORMAT (\"string\", \"bare\", or \"json\")
  --no-headings               omit table heading row
  --pretty                    pretty-print JSON in output
  --bare                      equivalent to \"--format=list --data=bare --no-headings\"
  --max-column-width=NUM      limit column widths to NUM
";

const COMMAND_HELP: &str = "
Open vSwitch commands:
  init                        initialize database, if not yet initialized
  show                        print overview of database contents
  emer-reset                  reset configuration to clean state

Bridge commands:
  add-br BRIDGE               create a new bridge named BRIDGE
  add-br BRIDGE PARENT VLAN   create new fake BRIDGE in PARENT on VLAN
  del-br BRIDGE               delete BRIDGE and all of its ports
  list-br                     print the names of all the bridges
  br-exists BRIDGE            exit 2 if BRIDGE does not exist
  br-to-vlan BRIDGE           print the VLAN which BRIDGE is on
  br-to-parent BRIDGE         print the parent of BRIDGE
  br-set-external-id BRIDGE KEY VALUE  set KEY on BRIDGE to VALUE
  br-set-external-id BRIDGE KEY  unset KEY on BRIDGE
  br-get-external-id BRIDGE KEY  print value of KEY on BRIDGE
  br-get-external-id BRIDGE  list key-value pairs on BRIDGE

Port commands (a bond is considered to be a single port):
  list-ports BRIDGE           print the names of all the ports on BRIDGE
  add-port BRIDGE PORT        add network device PORT to BRIDGE
  add-bond BRIDGE PORT IFACE...  add bonded port PORT in BRIDGE from IFACES
  del-port [BRIDGE] PORT      delete PORT (which may be bonded) from BRIDGE
  port-to-br PORT             print name of bridge that contains PORT

Interface commands (a bond consists of multiple interfaces):
  list-ifaces BRIDGE          print the names of all interfaces on BRIDGE
  iface-to-br IFACE           print name of bridge that contains IFACE

Controller commands:
  get-controller BRIDGE      print the controllers for BRIDGE
  del-controller BRIDGE      delete the controllers for BRIDGE
  [--inactivity-probe=MSECS]
  set-controller BRIDGE TARGET...  set the controllers for BRIDGE
  get-fail-mode BRIDGE       print the fail-mode for BRIDGE
  del-fail-mode BRIDGE       delete the fail-mode for BRIDGE
  set-fail-mode BRIDGE MODE  set the fail-mode for BRIDGE to MODE

Manager commands:
  get-manager                print the managers
  del-manager                delete the managers
  [--inactivity-probe=MSECS]
  set-manager TARGET...      set the list of managers to TARGET...

SSL/TLS commands:
  get-ssl                     print the SSL/TLS configuration
  del-ssl                     delete the SSL/TLS configuration
  set-ssl PRIV-KEY CERT CA-CERT  set the SSL/TLS configuration

Auto Attach commands:
  add-aa-mapping BRIDGE I-SID VLAN   add Auto Attach mapping to BRIDGE
  del-aa-mapping BRIDGE I-SID VLAN   delete Auto Attach mapping VLAN from BRIDGE
  get-aa-mapping BRIDGE              get Auto Attach mappings from BRIDGE

Switch commands:
  emer-reset                  reset switch to known good state

Connection Tracking commands:
  set-zone-limit DATAPATH ZONE|default LIMIT
                              set CT LIMIT for ZONE|default on DATAPATH
  del-zone-limit DATAPATH ZONE|default
                              delete CT limit for ZONE|default on DATAPATH
  list-zone-limits DATAPATH   list all limits configured on DATAPATH
";
