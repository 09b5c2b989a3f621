//! What `vtep-ctl` knows of its database: how rows are named, what `show` shows, which commands there are.

use std::process::ExitCode;

use daemon::dirs::Dirs;
use daemon::options::help;

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
    usage,
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

fn usage(dirs: &Dirs) -> String {
    let mut tables = String::new();
    for name in ovsdb::vswitch::vtep_schema().tables.keys() {
        tables.push_str(&format!("  {name}\n"));
    }
    format!(
        "{NAME}: VTEP configuration utility\nusage: {NAME} [OPTIONS] COMMAND [ARG...]\n{COMMAND_HELP}{}\nDatabase \
         tables:\n{tables}\nOptions:\n  --db=DATABASE               connect to DATABASE\n                              \
         (default: unix:{})\n{OPTION_HELP}{}  --no-syslog                 equivalent to \
         --verbose=vtep_ctl:syslog:warn\n{}\nOther options:\n  -h, --help                  display this help \
         message\n  -V, --version               display version information\n",
        records::HELP,
        dirs.in_run("db.sock").display(),
        help::logging(NAME, dirs),
        help::connections("database", true, true),
    )
}

const OPTION_HELP: &str = "  -t, --timeout=SECS          wait at most SECS seconds
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
VTEP commands:
  show                        print overview of database contents

Manager commands:
  get-manager                 print the managers
  del-manager                 delete the managers
  [--inactivity-probe=MSECS]
  set-manager TARGET...       set the list of managers to TARGET...

Physical Switch commands:
  add-ps PS                   create a new physical switch named PS
  del-ps PS                   delete PS and all of its ports
  list-ps                     print the names of all the physical switches
  ps-exists PS                exit 2 if PS does not exist

Port commands:
  list-ports PS               print the names of all the ports on PS
  add-port PS PORT            add network device PORT to PS
  del-port PS PORT            delete PORT from PS

Logical Switch commands:
  add-ls LS                   create a new logical switch named LS
  del-ls LS                   delete LS and all of its ports
  list-ls                     print the names of all the logical switches
  ls-exists LS                exit 2 if LS does not exist
  bind-ls PS PORT VLAN LS     bind LS to VLAN on PORT
  unbind-ls PS PORT VLAN      unbind logical switch on VLAN from PORT
  list-bindings PS PORT       list bindings for PORT on PS
  set-replication-mode LS MODE  set replication mode on LS
  get-replication-mode LS       get replication mode on LS

Logical Router commands:
  add-lr LR                   create a new logical router named LR
  del-lr LR                   delete LR
  list-lr                     print the names of all the logical routers
  lr-exists LR                exit 2 if LR does not exist

MAC binding commands:
  add-ucast-local LS MAC [ENCAP] IP   add ucast local entry in LS
  del-ucast-local LS MAC              del ucast local entry from LS
  add-mcast-local LS MAC [ENCAP] IP   add mcast local entry in LS
  del-mcast-local LS MAC [ENCAP] IP   del mcast local entry from LS
  clear-local-macs LS                 clear local mac entries
  list-local-macs LS                  list local mac entries
  add-ucast-remote LS MAC [ENCAP] IP  add ucast remote entry in LS
  del-ucast-remote LS MAC             del ucast remote entry from LS
  add-mcast-remote LS MAC [ENCAP] IP  add mcast remote entry in LS
  del-mcast-remote LS MAC [ENCAP] IP  del mcast remote entry from LS
  clear-remote-macs LS                clear remote mac entries
  list-remote-macs LS                 list remote mac entries
";
