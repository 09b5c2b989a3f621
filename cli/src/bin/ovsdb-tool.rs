//! Works on database files.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cli::ovsdb_tool::{self, Settings};
use daemon::clock::real_wall;
use daemon::dirs::Dirs;
use daemon::options::{Arg, Groups, Program, Row, fatal, help};
use daemon::program;
use ovsdb::storage::Kind;

#[derive(Clone, Copy)]
enum Opt {
    More,
    RbacRole,
    Storage,
}

const PROGRAM: Program<Opt> = Program {
    name: "ovsdb-tool",
    options: &[
        Row::new("more", Some('m'), Arg::No, Opt::More),
        Row::new("rbac-role", None, Arg::Required, Opt::RbacRole),
        Row::new("storage", None, Arg::Required, Opt::Storage),
    ],
    groups: Groups::TOOL,
    stop_at_argument: true,
    usage,
};

fn usage(dirs: &Dirs) -> String {
    let mut text = String::from(
        "ovsdb-tool: Open vSwitch database management utility\nusage: ovsdb-tool [OPTIONS] COMMAND [ARG...]\n  \
         create [DB [SCHEMA]]    create DB with the given SCHEMA\n  \
         compact [DB [DST]]      compact DB in-place (or to DST)\n  \
         convert [DB [SCHEMA [DST]]]   convert DB to SCHEMA (to DST)\n  \
         copy DB DST             copy DB to new file DST (of --storage)\n  \
         db-name [DB]            report name of schema used by DB\n  \
         db-version [DB]         report version of schema used by DB\n  \
         db-cksum [DB]           report checksum of schema used by DB\n  \
         db-is-clustered DB      test whether DB is clustered\n  \
         db-is-standalone DB     test whether DB is standalone\n  \
         schema-name [SCHEMA]    report SCHEMA's name\n  \
         schema-version [SCHEMA] report SCHEMA's schema version\n  \
         schema-cksum [SCHEMA]   report SCHEMA's checksum\n  \
         compare-versions A OP B  compare OVSDB schema version numbers\n  \
         query [DB] TRNS         execute read-only transaction on DB\n  \
         transact [DB] TRNS      execute read/write transaction on DB\n  \
         [-m]... show-log [DB]   print DB's log entries\n",
    );
    text += &format!(
        "The default DB is {}.\nThe default SCHEMA is {}.\n",
        dirs.in_db("conf.db").display(),
        dirs.pkgdata.join("vswitch.ovsschema").display()
    );
    text += &help::logging("ovsdb-tool", dirs);
    text += "\nOther options:\n  -m, --more                  increase show-log verbosity\n  \
             --rbac-role=ROLE            RBAC role for transact and query commands\n  \
             --storage=journal|sqlite    what kind of file to create or copy to\n  \
             -h, --help                  display this help message\n  \
             -V, --version               display version information\n";
    text
}

fn main() -> ExitCode {
    let started = program::read(&PROGRAM);
    let kind = |name: &str| {
        Kind::from_name(name).unwrap_or_else(|| {
            fatal(PROGRAM.name, &format!("{name}: unknown storage (use journal or sqlite)"))
        })
    };
    let mut settings = Settings {
        default_db: started.dirs.in_db("conf.db"),
        default_schema: started.dirs.pkgdata.join("vswitch.ovsschema"),
        more: 0,
        role: String::new(),
        storage: std::env::var("OVSDB_STORAGE").map_or(Kind::Journal, |name| kind(&name)),
        now: real_wall(),
    };
    for (option, value) in &started.own {
        match option {
            Opt::More => settings.more += 1,
            Opt::RbacRole => settings.role = value.clone().unwrap_or_default(),
            Opt::Storage => settings.storage = kind(value.as_deref().unwrap_or_default()),
        }
    }
    match ovsdb_tool::run(&settings, &started.args) {
        Ok(done) => {
            print!("{}", done.text);
            u8::try_from(done.status).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(text) => fatal(PROGRAM.name, &text),
    }
}
