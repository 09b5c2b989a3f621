//! Works on database files.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cli::ovsdb_tool::{self, Settings};
use daemon::clock::real_wall;
use daemon::options::{Arg, Groups, Program, Row, fatal};
use daemon::program;
use ovsdb::storage::Kind;

#[derive(Clone, Copy)]
enum Opt {
    More,
    RbacRole,
    Storage,
    /// Of `create-cluster` and `join-cluster`, which tell that there are no clusters here.
    Cluster,
}

const PROGRAM: Program<Opt> = Program {
    name: "ovsdb-tool",
    options: &[
        Row::new("more", Some('m'), Arg::No, Opt::More),
        Row::new("rbac-role", None, Arg::Required, Opt::RbacRole),
        Row::new("storage", None, Arg::Required, Opt::Storage),
        Row::new("cid", None, Arg::Required, Opt::Cluster),
        Row::new("election-timer", None, Arg::Required, Opt::Cluster),
    ],
    groups: Groups::TOOL,
    stop_at_argument: true,
    manual: include_str!("../../../docs/man/source/ovsdb-tool.1.txt"),
};

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
            Opt::Cluster => {}
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
