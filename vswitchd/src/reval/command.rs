//! `upcall/*`, `revalidator/*` and `dpif/dump-flows`.

use std::fmt::Write;

use datapath::PmdId;
use datapath::dpctl::flows::stats_text;
use flow::action::format as action_text;
use flow::id::Ufid;
use flow::odp::format::{self as odp_text, Style};
use flow::odp::{self, PortNames};
use flow::time::Instant;
use openflow::msg::group;

use super::Flows;
use super::ukey::Life;
use crate::backer::{Backer, Backers, Command};
use crate::ofproto::stats::dump_flow;
use crate::xlate::effect::Effect;

/// The commands of this module.
pub const COMMANDS: &[Command] = &[
    Command { name: "upcall/show", usage: "", min: 0, max: 0, run: show },
    Command {
        name: "upcall/disable-megaflows",
        usage: "",
        min: 0,
        max: 0,
        run: |b, _, _| megaflows(b, false),
    },
    Command { name: "upcall/enable-megaflows", usage: "", min: 0, max: 0, run: |b, _, _| megaflows(b, true) },
    Command { name: "upcall/disable-ufid", usage: "", min: 0, max: 0, run: |b, _, _| ufid(b, false) },
    Command { name: "upcall/enable-ufid", usage: "", min: 0, max: 0, run: |b, _, _| ufid(b, true) },
    Command {
        name: "upcall/set-flow-limit",
        usage: "flow-limit-number",
        min: 1,
        max: 1,
        run: set_flow_limit,
    },
    Command { name: "revalidator/wait", usage: "", min: 0, max: 0, run: wait },
    Command { name: "revalidator/purge", usage: "", min: 0, max: 0, run: purge },
    Command { name: "revalidator/pause", usage: "", min: 0, max: 0, run: |b, _, _| pause(b, true) },
    Command { name: "revalidator/resume", usage: "", min: 0, max: 0, run: |b, _, _| pause(b, false) },
    Command { name: "ofproto/detrace", usage: "UFID [pmd=PMD-ID]", min: 1, max: 2, run: detrace },
    Command {
        name: "dpif/dump-flows",
        usage: "[-m] [--names | --no-names] bridge",
        min: 1,
        max: usize::MAX,
        run: dump_flows,
    },
];

/// `ofproto/detrace`: the rules and groups that a datapath flow's packets go by.
fn detrace(backers: &Backers, args: &[&str], now: Instant) -> Result<String, String> {
    let ufid: Ufid = args.first().and_then(|text| parse_ufid(text)).ok_or("failed to parse ufid")?;
    let pmd = match args.get(1) {
        None => None,
        Some(text) => {
            let number = text.strip_prefix("pmd=").and_then(|number| number.parse::<i64>().ok());
            let number = number.ok_or("Invalid pmd argument format. Expecting 'pmd=PMD-ID'")?;
            Some(PmdId(number as u32))
        }
    };
    let mut out = String::new();
    for backer in backers.0.values() {
        let (kind, name) = (backer.kind(), backer.datapath.name());
        let pmd = pmd.unwrap_or(if kind == "system" { PmdId::NONE } else { PmdId::MAIN });
        let Some(ukey) = backer.flows.ukeys.find(ufid, pmd) else {
            let _ = writeln!(out, "UFID was not found for {kind}@{name}");
            continue;
        };
        let state = ukey.state();
        if !matches!(state.life, Life::Asked | Life::Live) || state.kept.effects.is_empty() {
            let _ = writeln!(out, "Cache was not found for {kind}@{name}");
            continue;
        }
        for effect in &state.kept.effects {
            match effect {
                Effect::Rule(rule) | Effect::Met { rule, .. } => dump_flow(rule, true, now, &mut out),
                Effect::Group { group, bucket } => {
                    let buckets = bucket.and_then(|bucket| group.buckets.get(bucket..=bucket));
                    let buckets = buckets.unwrap_or(&group.buckets);
                    out.push_str(&group::to_text(group.id, group.kind, &group.props, buckets));
                }
                _ => {}
            }
        }
    }
    Ok(out)
}

/// A flow's identifier, with or without `ufid:`.
fn parse_ufid(text: &str) -> Option<Ufid> {
    let digits: String = text.strip_prefix("ufid:").unwrap_or(text).chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(Ufid(number.to_be_bytes()))
}

fn show(backers: &Backers, _: &[&str], _: Instant) -> Result<String, String> {
    let mut out = String::new();
    for backer in backers.0.values() {
        let figures = backer.flows.figures();
        let (kind, name) = (backer.kind(), backer.datapath.name());
        let _ = write!(
            out,
            "{kind}@{name}:\n  flows         : (current {}) (avg {}) (max {}) (limit {})\n",
            figures.current, figures.average, figures.most, figures.limit,
        );
        match backer.datapath.offloaded_flows() {
            0 => {}
            count => drop(writeln!(out, "  offloaded flows : {count}")),
        }
        let _ = write!(
            out,
            "  dump duration : {}ms\n  ufid enabled : {}\n\n",
            figures.duration.as_millis().max(1),
            backer.ufid()
        );
        for (thread, keys) in backer.flows.shares(backer.flows.threads.len().max(1)).iter().enumerate() {
            let _ = writeln!(out, "  {}: (keys {keys})", thread + 1);
        }
    }
    Ok(out)
}

fn megaflows(backers: &Backers, on: bool) -> Result<String, String> {
    for backer in backers.0.values() {
        backer.set_megaflows(on);
        backer.flush();
    }
    Ok(if on { "megaflows enabled" } else { "megaflows disabled" }.to_owned())
}

fn ufid(backers: &Backers, on: bool) -> Result<String, String> {
    for backer in backers.0.values() {
        backer.set_ufid(on);
    }
    Ok(if on {
        "Datapath dumping tersely using UFID enabled for supported datapaths"
    } else {
        "Datapath dumping tersely using UFID disabled"
    }
    .to_owned())
}

fn set_flow_limit(backers: &Backers, args: &[&str], _: Instant) -> Result<String, String> {
    let limit = openflow::text::atoi(args.first().copied().unwrap_or("")).max(0) as usize;
    for backer in backers.0.values() {
        backer.flows.set_limit(limit);
    }
    Ok(format!("set flow_limit to {limit}\n"))
}

/// Where threads make the passes, the caller has the answer wait for one.
fn wait(backers: &Backers, _: &[&str], now: Instant) -> Result<String, String> {
    let mut all = backers.0.values();
    match (all.next(), all.next()) {
        (Some(backer), None) => {
            if !backer.is_threaded() {
                backer.flows.walk(backer, now);
            }
            Ok(String::new())
        }
        _ => Err("can't wait on multiple udpifs.".to_owned()),
    }
}

fn purge(backers: &Backers, _: &[&str], _: Instant) -> Result<String, String> {
    for backer in backers.0.values() {
        undisturbed(backer, |flows| flows.purge(backer));
    }
    Ok(String::new())
}

/// Does something while no pass is under way.
pub(crate) fn undisturbed(backer: &Backer, what: impl FnOnce(&Flows)) {
    let threads = &backer.flows.threads;
    let was_paused = threads.is_paused();
    threads.pause(true);
    what(&backer.flows);
    if !was_paused {
        threads.pause(false);
    }
}

fn pause(backers: &Backers, paused: bool) -> Result<String, String> {
    for backer in backers.0.values() {
        backer.flows.threads.pause(paused);
    }
    Ok(String::new())
}

fn dump_flows(backers: &Backers, args: &[&str], now: Instant) -> Result<String, String> {
    let (name, options) = args.split_last().ok_or("no such bridge")?;
    let (backer, snapshot, bridge) = backers.bridge(name).ok_or("no such bridge")?;
    let verbose = options.contains(&"-m");
    let names = match options.iter().rev().find(|option| option.ends_with("names")) {
        Some(option) => *option == "--names",
        None => verbose,
    };
    let port_names = backer.port_names();
    let names: &dyn PortNames = if names { &port_names } else { &odp::NoNames };
    let mut dump = backer.datapath.flow_dump(false);
    let (mut out, mut flows, mut more) = (String::new(), Vec::new(), true);
    while more {
        flows.clear();
        more = dump.next(256, &mut flows).map_err(|error| format!("dpif/dump_flows failed: {error}"))?;
        for flow in &flows {
            let ours = odp::key_to_flow(&flow.key).is_ok_and(|(key, _)| {
                backer.origin(&snapshot, &key).is_ok_and(|(origin, _)| origin.id == bridge.id)
            });
            if !ours {
                continue;
            }
            if verbose {
                let _ = write!(out, "ufid:{} ", flow.ufid);
            }
            out.push_str(&odp_text::flow(&flow.key.0, &flow.mask.0, &Style::new(names, verbose)));
            let stats = stats_text(&flow.stats, now);
            let _ = writeln!(out, ", {stats}, actions:{}", action_text::actions(&flow.actions, names));
        }
    }
    Ok(out)
}
