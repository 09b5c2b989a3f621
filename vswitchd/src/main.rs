//! `ovs-vswitchd`: the switch daemon. Options here; the rest is [`vswitchd::event`].
#![forbid(unsafe_code)]

use daemon::options::{Arg, Groups, Program, Row, fatal};
use daemon::program;
use datapath::netdev::DummyLevel;
use std::process::ExitCode;
use vswitchd::event::{self, Config};

const NAME: &str = "ovs-vswitchd";

#[derive(Clone, Copy)]
enum Opt {
    Mlockall,
    EnableDummy,
    DisableSystem,
    DisableSystemRoute,
    EmbeddedDb,
    DummyNuma,
    Dpdk,
}

const PROGRAM: Program<Opt> = Program {
    name: NAME,
    options: &[
        Row::new("mlockall", None, Arg::No, Opt::Mlockall),
        Row::new("enable-dummy", None, Arg::Optional, Opt::EnableDummy),
        Row::new("disable-system", None, Arg::No, Opt::DisableSystem),
        Row::new("disable-system-route", None, Arg::No, Opt::DisableSystemRoute),
        Row::new("dpdk", None, Arg::Optional, Opt::Dpdk),
        Row::new("embedded-db", None, Arg::Required, Opt::EmbeddedDb),
        Row::new("dummy-numa", None, Arg::Required, Opt::DummyNuma),
    ],
    groups: Groups::DAEMON,
    stop_at_argument: false,
    manual: include_str!("../../docs/man/source/ovs-vswitchd.8.txt"),
};

fn dummy_level(word: Option<&str>) -> DummyLevel {
    match word {
        Some("override") => DummyLevel::Override,
        Some("system") => DummyLevel::System,
        _ => DummyLevel::Plain,
    }
}

/// Cores 0 and up, with the NUMA nodes of a list.
fn dummy_numa(list: &str) -> Vec<(u32, u32)> {
    let nodes = list.split(',').filter_map(|node| node.trim().parse().ok());
    (0..).zip(nodes).collect()
}

fn main() -> ExitCode {
    let mut started = program::read(&PROGRAM);
    let mut config = Config::default();
    let mut mlockall = false;
    for (id, value) in std::mem::take(&mut started.own) {
        match id {
            Opt::Mlockall => mlockall = true,
            Opt::EnableDummy => config.dummy = Some(dummy_level(value.as_deref())),
            Opt::DisableSystem => config.disable_system = true,
            Opt::DisableSystemRoute => config.disable_system_route = true,
            Opt::DummyNuma => config.dummy_numa = value.as_deref().map(dummy_numa),
            Opt::EmbeddedDb => config.embedded_db = value.map(Into::into),
            Opt::Dpdk => fatal(NAME, "Using --dpdk to configure DPDK is not supported."),
        }
    }
    config.remote = match started.args.as_slice() {
        [] => format!("unix:{}", started.dirs.in_run("db.sock").display()),
        [remote] => remote.clone(),
        _ => fatal(NAME, "at most one non-option argument accepted; use --help for usage"),
    };
    config.unconfined = started.common().unconfined;
    started.access_datapath();
    started.run(move |body| {
        // After the fork: locked memory is not inherited.
        if mlockall && let Err(error) = sys::process::lock_memory() {
            let text = daemon::error_text(&error);
            daemon::vlog::log("vswitchd", daemon::vlog::Level::Err, &format!("mlockall failed: {text}"));
        }
        event::run(body, config)
    })
}
