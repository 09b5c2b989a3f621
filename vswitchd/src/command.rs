//! The table of `ovs-appctl` commands: rows over [`Switch`], with the text made by the parts that they are about.

use std::sync::Arc;

use daemon::unixctl::{Command, Commands, Reply, Request, builtins, exit, time_commands};
use datapath::dpctl;
use datapath::user::control;

use crate::backer;
use crate::event::Switch;
use crate::offload;
use crate::reval;
use crate::route::command as route;
use crate::world::World;
use crate::xlate::fdb;

/// Every command. With `dummy`, those that tests need too.
pub fn commands(dummy: bool) -> Commands<Switch> {
    let mut commands = builtins();
    commands.add([Command::new("exit", "[--cleanup]", 0, 1, exit)]);
    commands.add(BRIDGE);
    commands.add([FAIRNESS]);
    commands.add(OFFLOAD);
    commands.add(ENGINE);
    commands.add(ROUTE);
    commands.add(dpctl_rows());
    commands.add(backer::commands().map(|row| {
        let command = Command::new(row.name, row.usage, row.min, row.max, run_backer);
        // Meant for tests: OVS does not list them either.
        if matches!(row.name, "revalidator/pause" | "revalidator/resume") {
            command.hidden()
        } else {
            command
        }
    }));
    if dummy {
        commands.add(time_commands());
        commands.add(DUMMY);
    }
    commands
}

type Answer = Result<Reply, String>;

const MANY: usize = usize::MAX;

/// What upcall handlers did for each port.
const FAIRNESS: Command<Switch> = Command::new("upcall/fairness-show", "[dp]", 0, 1, |s, r| {
    shown(reval::fairness::Fairness::of(&s.world.backers, r.opt(0))?, r)
});

/// What is in hardware.
const OFFLOAD: [Command<Switch>; 11] = [
    Command::new("dpif/offload/show", "", 0, 0, |s, r| shown(offload::Show::of(&s.world), r)),
    Command::new("dpif/offload/classes", "", 0, 0, |_, _| Ok(offload::classes().into())),
    Command::new("offload/reasons", "", 0, 0, |s, r| shown(offload::Reasons::of(&s.world), r)),
    Command::new("offload/ct-show", "[--why] [zone=N]", 0, 2, |s, r| {
        shown(offload::ct::show(&s.world, &offload::ct::Wanted::parse(words(r))?), r)
    }),
    Command::new("offload/ct-stats", "", 0, 0, |s, r| shown(offload::ct::stats(&s.world), r)),
    Command::new("offload/ct-flush", "[zone=N]", 0, 1, |s, r| {
        shown(offload::ct::flush(&s.world, &offload::ct::Wanted::parse(words(r))?), r)
    }),
    Command::new("offload/gc-step", "", 0, 0, |s, r| shown(offload::ct::step(&s.world), r)),
    Command::new("offload/capabilities", "", 0, 0, |s, r| shown(offload::Capabilities::of(&s.world), r)),
    Command::new("offload/explain", "bridge flow [--ct-next STATE]...", 2, MANY, |s, r| {
        shown(offload::explain::Explained::of(s, &words(r))?, r)
    }),
    Command::new("offload/limits", "", 0, 0, |s, r| shown(offload::Limits::of(&s.world), r)),
    Command::new("offload/samples", "", 0, 0, |s, r| shown(offload::Samples::of(&s.world), r)),
];

const BRIDGE: [Command<Switch>; 11] = [
    Command::new("tnl/ports/show", "", 0, 0, |s, _| Ok(s.bridges.tnl_ports_show().into())),
    Command::new("bridge/reconnect", "[bridge]", 0, 1, |s, r| {
        let now = s.now();
        if let Some(name) = r.opt(0) {
            s.bridges.get(name).ok_or("Unknown bridge")?;
        }
        s.world.conns.reconnect(r.opt(0), now);
        Ok(Reply::empty())
    }),
    Command::new("qos/show", "interface", 1, 1, |s, r| {
        let now = s.now();
        s.bridges.qos_show(r.arg(0), now).map(Reply::Text)
    }),
    Command::new("qos/show-types", "interface", 1, 1, |s, r| {
        s.bridges.qos_show_types(r.arg(0)).map(Reply::Text)
    }),
    Command::new("bridge/dump-flows", "[--offload-stats] bridge", 1, 2, |s, r| {
        let now = s.now();
        s.bridges.dump_flows(&r.args, now).map(Reply::Text)
    }),
    Command::new("ofproto/list", "", 0, 0, |s, _| Ok(s.bridges.names().into())),
    Command::new("dpif-netlink/dispatch-mode", "", 0, 0, |_, _| {
        datapath::kernel::Kernel::dispatch_modes().map(Reply::Text).map_err(|error| error.to_string())
    }),
    Command::new("dpif/dump-dps", "", 0, 0, |s, _| Ok(s.bridges.full_names().into())),
    Command::new("dpif/show", "", 0, 0, |s, r| {
        if r.is_json() {
            Ok(Reply::Json(s.bridges.dpif_show_json()))
        } else {
            Ok(s.bridges.dpif_show().into())
        }
    }),
    Command::new("dpif/show-dp-features", "bridge", 1, 1, |s, r| {
        s.bridges.show_dp_features(r.arg(0)).map(Reply::Text)
    }),
    Command::new("dpif/set-dp-features", "[--force] bridge [feature [value]]", 1, 4, |s, r| {
        s.bridges.set_dp_features(&r.args).map(Reply::Text)
    }),
];

const ENGINE: [Command<Switch>; 12] = [
    Command::new("dpif-netdev/pmd-stats-show", "[-pmd core] [dp]", 0, 3, |s, r| {
        shown(control::pmd_stats_show(&s.engines(), &words(r))?, r)
    }),
    Command::new("dpif-netdev/pmd-stats-clear", "[-pmd core] [dp]", 0, 3, |s, r| {
        control::pmd_stats_clear(&s.engines(), &words(r)).map(|()| Reply::empty())
    }),
    Command::new(
        "dpif-netdev/pmd-perf-show",
        "[-nh] [-it iter-history-len] [-ms ms-history-len] [-pmd core] [dp]",
        0,
        8,
        |s, r| shown(control::pmd_perf_show(&s.engines(), &words(r))?, r),
    ),
    Command::new("dpif-netdev/pmd-rxq-show", "[-pmd core] [-secs secs] [dp]", 0, 5, |s, r| {
        shown(control::pmd_rxq_show(&s.engines(), &words(r))?, r)
    }),
    Command::new("dpif-netdev/pmd-rxq-rebalance", "[dp]", 0, 1, |s, r| {
        control::pmd_rxq_rebalance(&s.engines(), &words(r)).map(Reply::Text)
    }),
    Command::new("dpif-netdev/subtable-lookup-info-get", "", 0, 0, |s, r| {
        shown(control::subtable_lookup(&s.engines()), r)
    }),
    Command::new("dpif-netdev/subtable-lookup-prio-get", "", 0, 0, |s, r| {
        shown(control::subtable_lookup(&s.engines()), r)
    }),
    Command::new("dpif-netdev/subtable-lookup-prio-set", "[lookup_func] [prio]", 2, 2, |_, r| {
        control::subtable_lookup_set(&words(r)).map(Reply::Text)
    }),
    Command::new("engine/graph", "[dp]", 0, 1, |s, r| shown(control::graph(&s.engines(), &words(r))?, r)),
    Command::new("engine/classifier", "[dp]", 0, 1, |s, r| {
        shown(control::classifier(&s.engines(), &words(r))?, r)
    }),
    Command::new("engine/trace-start", "steps [dp]", 1, 2, |s, r| {
        control::trace_start(&s.engines(), &words(r)).map(|()| Reply::empty())
    }),
    Command::new("engine/trace-show", "[dp]", 0, 1, |s, r| {
        shown(control::trace_show(&s.engines(), &words(r))?, r)
    }),
];

const ROUTE: [Command<Switch>; 8] = [
    Command::new("netlink/show", "", 0, 0, |s, r| shown(s.world.network.show(), r)),
    Command::new(
        "ovs/route/add",
        "ip/plen dev [gw] [pkt_mark=mark] [src=src_ip] [table=id]",
        2,
        6,
        |s, r| {
            let World { network, netdevs, .. } = &mut s.world;
            route::add(&mut network.router, netdevs, &words(r)).map(Reply::Text)
        },
    ),
    Command::new("ovs/route/show", "[table=all|id]", 0, 1, |s, r| {
        s.world.network.settle();
        let router = &s.world.network.router;
        if r.is_json() {
            return route::show_json(router, &words(r)).map(Reply::Json);
        }
        route::show(router, &words(r)).map(Reply::Text)
    }),
    Command::new("ovs/route/del", "ip/plen [pkt_mark=mark] [table=id]", 1, 3, |s, r| {
        route::del(&mut s.world.network.router, &words(r)).map(Reply::Text)
    }),
    Command::new("ovs/route/lookup", "ip_addr [pkt_mark=mark] [src=src_ip]", 1, 3, |s, r| {
        s.world.network.settle();
        route::lookup(&s.world.network.router, &words(r)).map(Reply::Text)
    }),
    Command::new("ovs/route/rule/show", "[-6]", 0, 1, |s, r| {
        s.world.network.settle();
        let router = &s.world.network.router;
        Ok(if r.is_json() {
            Reply::Json(route::rule_show_json(router, &words(r)))
        } else {
            route::rule_show(router, &words(r)).into()
        })
    }),
    Command::new(
        "ovs/route/rule/add",
        "[-6] [not] from=all|ip/plen [prio=num] table=local|main|default|id",
        2,
        5,
        |s, r| route::rule_add(&mut s.world.network.router, &words(r)).map(Reply::Text),
    ),
    Command::new(
        "ovs/route/rule/del",
        "[-6] [not] from=all|ip/plen [prio=num] table=local|main|default|id",
        2,
        5,
        |s, r| route::rule_del(&mut s.world.network.router, &words(r)).map(Reply::Text),
    ),
];

const DUMMY: [Command<Switch>; 5] = [
    Command::new("netdev-dummy/receive", "name [--qid queue_id] packet|flow [--len len]", 2, MANY, |s, r| {
        control::receive(&s.world.netdevs, &words(r))?;
        s.settle();
        Ok(Reply::empty())
    }),
    Command::new("netdev-dummy/set-admin-state", "[netdev] up|down", 1, 2, |s, r| {
        control::set_admin_state(&s.world.netdevs, &words(r)).map(Reply::Text)
    }),
    Command::new("netdev-dummy/conn-state", "[netdev]", 0, 1, |s, r| {
        Ok(control::conn_state(&s.world.netdevs, &words(r)).into())
    }),
    Command::new("netdev-dummy/ip4addr", "[netdev] ipaddr/mask-prefix-len", 2, 2, |s, r| {
        add_address(s, r, false)
    }),
    Command::new("netdev-dummy/ip6addr", "[netdev] ip6addr", 2, 2, |s, r| add_address(s, r, true)),
];

/// An address of a test device, and the routes that it brings with it.
fn add_address(switch: &mut Switch, request: &Request, v6: bool) -> Answer {
    let added = control::add_address(&switch.world.netdevs, &words(request), v6)?;
    switch.world.network.router.add_address(&added.device, &added.address);
    Ok("OK".into())
}

/// `dpctl/NAME` for every command of `ovs-dpctl` but `help`.
fn dpctl_rows() -> impl Iterator<Item = Command<Switch>> {
    let rows = dpctl::COMMANDS.iter().filter(|row| row.name != "help");
    rows.map(|row| {
        let name: &'static str = Box::leak(format!("dpctl/{}", row.name).into_boxed_str());
        Command::new(name, row.usage, row.min_args, row.max_args, run_dpctl)
    })
}

fn run_backer(switch: &mut Switch, request: &Request) -> Answer {
    if request.method == "fdb/show" && request.is_json() {
        return fdb::show_json(&switch.world.backers, request.arg(0), switch.now()).map(Reply::Json);
    }
    if request.method == "revalidator/wait"
        && let [backer] = *switch.world.backers.0.values().collect::<Vec<_>>()
        && backer.is_threaded()
    {
        let responder = request.defer();
        backer.after_pass(Box::new(move || responder.reply(Reply::empty())));
        return Ok(Reply::Deferred);
    }
    let row = backer::commands().find(|row| row.name == request.method).ok_or("no such command")?;
    let text = (row.run)(&switch.world.backers, &words(request), switch.now());
    switch.settle();
    text.map(Reply::Text)
}

fn run_dpctl(switch: &mut Switch, request: &Request) -> Answer {
    let name = request.method.strip_prefix("dpctl/").unwrap_or_default();
    let row = dpctl::COMMANDS.iter().find(|row| row.name == name).ok_or("no such command")?;
    let said = dpctl::appctl(&switch.world, "ovs-vswitchd", row, &words(request), request.is_json())?;
    Ok(match said {
        dpctl::Said::Text(text) => Reply::Text(text),
        dpctl::Said::Json(value) => Reply::Json(value),
    })
}

fn words(request: &Request) -> Vec<&str> {
    request.args.iter().map(String::as_str).collect()
}

/// A dump as text, or as JSON if that was asked for.
fn shown(dump: impl std::fmt::Display + serde::Serialize, request: &Request) -> Answer {
    if request.is_json() {
        return serde_json::to_value(&dump).map(Reply::Json).map_err(|error| error.to_string());
    }
    Ok(dump.to_string().into())
}

impl Switch {
    /// Every userspace datapath.
    fn engines(&self) -> Vec<Arc<datapath::user::Engine>> {
        self.world.engines()
    }
}
