//! Flows: dumping and changing them.

use std::io::Read;

use openflow::header::Type;
use openflow::msg::flow_mod::{FlowCommand, FlowMod};
use openflow::msg::flow_stats::{FlowStats, FlowStatsRequest};
use openflow::parse::flow::{Purpose, flow_mod, flow_mods, stats_request};
use openflow::protocol::Protocols;

use super::vconn::Vconn;
use super::{Context, Fatal, Outcome, bundles, die, say, sayln, sort};

/// A file's text, or standard input's for `-`.
pub fn read_file(name: &str) -> Outcome<String> {
    let read = if name == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).map(|_| text)
    } else {
        std::fs::read(name)
    };
    match read {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => die!("{name}: open failed ({})", daemon::error_text(&error)),
    }
}

fn prepare_dump(context: &mut Context, aggregate: bool) -> Outcome<(Vconn, FlowStatsRequest, Protocols)> {
    let (switch, filter) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let names = if filter.is_empty() { Default::default() } else { context.accept(&switch)? };
    let (request, usable) = stats_request(&filter, aggregate, &names)?;
    let mut vconn = context.open(&switch)?;
    let protocol = context.set_dump_format(&mut vconn, usable)?;
    Ok((vconn, request, protocol))
}

fn dump(context: &mut Context, aggregate: bool) -> Outcome {
    let (mut vconn, request, protocol) = prepare_dump(context, aggregate)?;
    let xid = vconn.next_xid();
    let request = request.encode(protocol, xid);
    context.dump(&mut vconn, &request)
}

pub(super) fn dump_aggregate(context: &mut Context) -> Outcome {
    dump(context, true)
}

pub(super) fn dump_flows(context: &mut Context) -> Outcome {
    let options = &context.options;
    if options.criteria.is_empty() && !options.shows_names() && options.stats {
        return dump(context, false);
    }
    let (mut vconn, request, protocol) = prepare_dump(context, false)?;
    let mut flows = fetch(context, &mut vconn, &request, protocol)?;
    let switch = context.arg(1).to_owned();
    let names = context.show(&switch)?;
    flows = sort::sort(flows, &context.options.criteria);
    for flow in flows {
        let mut text = String::new();
        flow.text(&names, context.options.stats, &mut text);
        sayln!(" {}", context.options.painted(text));
    }
    Ok(())
}

/// The flows of a switch that a request asks for.
pub fn fetch(
    context: &Context,
    vconn: &mut Vconn,
    request: &FlowStatsRequest,
    protocol: Protocols,
) -> Outcome<Vec<FlowStats>> {
    let xid = vconn.next_xid();
    let request = request.encode(protocol, xid);
    let mut flows = Vec::new();
    for reply in context.replies(vconn, &request, Type::FlowStatsReply)? {
        let (mut more, result) = FlowStats::decode_reply(&reply, false);
        flows.append(&mut more);
        if let Err(error) = result {
            tracing::warn!(target: "vconn", "parse error in reply ({})", error.name());
            die!("dump flows (Protocol error)");
        }
    }
    Ok(flows)
}

/// Sends flow-mods, as a bundle if asked to.
fn send(context: &mut Context, mods: &[FlowMod], usable: Protocols) -> Outcome {
    let switch = context.arg(1).to_owned();
    let usable = if context.options.bundle { usable & Protocols::OF13_UP } else { usable };
    let (mut vconn, protocol) = context.open_for_mods(&switch, usable)?;
    let mut requests = Vec::with_capacity(mods.len());
    for flow_mod in mods {
        let xid = vconn.next_xid();
        requests.push(flow_mod.encode(protocol, xid));
    }
    if context.options.bundle {
        return bundles::transact(context, &mut vconn, &requests);
    }
    let verbosity = context.options.verbosity;
    let mut dumps = String::new();
    for request in requests {
        if verbosity == 5 {
            openflow::msg::hex_dump(&mut dumps, &request, true);
        } else if verbosity > 5 {
            dumps.push_str(&flow::field::Value::from_bytes(&request).hex());
            dumps.push('\n');
        }
        context.transact_one(&mut vconn, request)?;
    }
    say!("{dumps}");
    Ok(())
}

fn change(context: &mut Context, command: FlowCommand) -> Outcome {
    if context.arg(2) == "-" && context.args.len() > 2 {
        return change_by_file(context, command);
    }
    let (switch, text) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let names = context.accept(&switch)?;
    let (fm, usable) = flow_mod(&text, Purpose::Mod(command), &names)?;
    send(context, &[fm], usable)
}

/// A file may mix commands, if it is one of flows to add.
fn change_by_file(context: &mut Context, command: FlowCommand) -> Outcome {
    let (switch, file) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let purpose = if command == FlowCommand::Add { Purpose::ModByWord } else { Purpose::Mod(command) };
    let names = context.accept(&switch)?;
    let text = read_file(&file)?;
    let (mods, usable) = flow_mods(&text, &file, purpose, &names).map_err(Fatal::from)?;
    send(context, &mods, usable)
}

pub(super) fn add_flow(context: &mut Context) -> Outcome {
    change(context, FlowCommand::Add)
}

pub(super) fn add_flows(context: &mut Context) -> Outcome {
    change_by_file(context, FlowCommand::Add)
}

pub(super) fn mod_flows(context: &mut Context) -> Outcome {
    let strict = context.options.strict;
    change(context, if strict { FlowCommand::ModifyStrict } else { FlowCommand::Modify })
}

pub(super) fn del_flows(context: &mut Context) -> Outcome {
    let strict = context.options.strict;
    change(context, if strict { FlowCommand::DeleteStrict } else { FlowCommand::Delete })
}
