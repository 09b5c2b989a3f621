//! Groups.

use openflow::msg::group::{self, ALL_GROUPS, GroupCommand, GroupMod};
use openflow::parse::flow::parse_group;
use openflow::parse::group::{group_mod, group_mods};
use openflow::protocol::Protocols;

use super::{Context, Outcome, bundles, die, flows};

fn send(context: &mut Context, mods: &[GroupMod], usable: Protocols) -> Outcome {
    let switch = context.arg(1).to_owned();
    let usable = if context.options.bundle { usable & Protocols::OF13_UP } else { usable };
    let (mut vconn, _) = context.open_for_mods(&switch, usable)?;
    let mut requests = Vec::new();
    for group_mod in mods {
        let xid = vconn.next_xid();
        match group_mod.encode(vconn.version(), xid) {
            Some(request) => requests.push(request),
            None => {
                let what = match group_mod.command {
                    GroupCommand::RemoveBucket => "remove-bucket",
                    _ => "insert-bucket",
                };
                die!("{what} needs OpenFlow 1.5 or later ('-O OpenFlow15')");
            }
        }
    }
    if context.options.bundle {
        bundles::transact(context, &mut vconn, &requests)
    } else {
        context.transact_all(&mut vconn, &requests)
    }
}

fn change(context: &mut Context, command: GroupCommand) -> Outcome {
    if context.arg(2) == "-" {
        return change_by_file(context, command);
    }
    let (switch, text) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let names = context.accept(&switch)?;
    let (gm, usable) = group_mod(&text, Some(command), &names)?;
    send(context, &[gm], usable)
}

/// A file may mix commands, if it is one of groups to add.
fn change_by_file(context: &mut Context, command: GroupCommand) -> Outcome {
    let (switch, file) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let command = (command != GroupCommand::Add).then_some(command);
    let names = context.accept(&switch)?;
    let text = flows::read_file(&file)?;
    let (mods, usable) = group_mods(&text, &file, command, &names)?;
    send(context, &mods, usable)
}

pub(super) fn add(context: &mut Context) -> Outcome {
    change(context, GroupCommand::Add)
}

pub(super) fn add_file(context: &mut Context) -> Outcome {
    change_by_file(context, GroupCommand::Add)
}

pub(super) fn modify(context: &mut Context) -> Outcome {
    let may_create = context.options.may_create;
    change(context, if may_create { GroupCommand::AddOrModify } else { GroupCommand::Modify })
}

pub(super) fn delete(context: &mut Context) -> Outcome {
    change(context, GroupCommand::Delete)
}

pub(super) fn insert_buckets(context: &mut Context) -> Outcome {
    change(context, GroupCommand::InsertBucket)
}

pub(super) fn remove_buckets(context: &mut Context) -> Outcome {
    change(context, GroupCommand::RemoveBucket)
}

pub(super) fn dump(context: &mut Context) -> Outcome {
    let mut vconn = context.open(context.arg(1))?;
    let group = context.optional(2).and_then(parse_group).unwrap_or(ALL_GROUPS);
    let xid = vconn.next_xid();
    let request = group::desc_request(vconn.version(), xid, group);
    context.dump(&mut vconn, &request)
}

pub(super) fn stats(context: &mut Context) -> Outcome {
    let (switch, text) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let names = context.accept(&switch)?;
    let (gm, _) = group_mod(&text, Some(GroupCommand::Delete), &names)?;
    let mut vconn = context.open(&switch)?;
    let xid = vconn.next_xid();
    let request = group::stats_request(vconn.version(), xid, gm.group_id);
    context.dump(&mut vconn, &request)
}

pub(super) fn features(context: &mut Context) -> Outcome {
    let mut vconn = context.open(context.arg(1))?;
    let xid = vconn.next_xid();
    let request = group::features_request(vconn.version(), xid);
    context.dump(&mut vconn, &request)
}
