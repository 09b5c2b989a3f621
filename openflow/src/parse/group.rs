//! Group-mods: `group_id=1,type=select,bucket=weight:5,output:1`.

use std::sync::Arc;

use flow::field::{Field, Value};
use flow::id::{GroupId, OfPort};

use crate::action::{self, Parse};
use crate::msg::group::{
    ALL_BUCKETS, ALL_GROUPS, ANY_GROUP, Bucket, FIRST_BUCKET, GroupCommand, GroupMod, GroupProps, GroupType,
    LAST_BUCKET, MAX_BUCKET, MAX_GROUP,
};
use crate::names::Names;
use crate::protocol::{Protocols, usable_with_mask};
use crate::text::{Pairs, ParseError, Parsed, parse_u16, parse_u32, parse_u64, refuse};

/// Commands by name; any beginning of a name stands for the first that has it.
const COMMANDS: [(&str, GroupCommand); 6] = [
    ("add", GroupCommand::Add),
    ("delete", GroupCommand::Delete),
    ("modify", GroupCommand::Modify),
    ("add_or_mod", GroupCommand::AddOrModify),
    ("insert_bucket", GroupCommand::InsertBucket),
    ("remove_bucket", GroupCommand::RemoveBucket),
];

/// What OpenFlow 1.5 can say, and OpenFlow 1.0 with OVS's extensions.
const V15_OR_EXTENSION: Protocols = Protocols::OF10_ANY.union(Protocols::OF15_UP);
/// The longest name of a selection method, and a zero byte.
const METHOD_LEN: usize = 16;

fn has_type(command: GroupCommand) -> bool {
    matches!(command, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify)
}

fn has_buckets(command: GroupCommand) -> bool {
    has_type(command) || command == GroupCommand::InsertBucket
}

fn has_command_bucket(command: GroupCommand) -> bool {
    matches!(command, GroupCommand::InsertBucket | GroupCommand::RemoveBucket)
}

/// The command that text begins with (`add` if with none), and the rest.
fn split_command(text: &str) -> (GroupCommand, &str) {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let len = text.find([',', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
    let (word, rest) = text.split_at(len);
    match COMMANDS.iter().find(|(name, _)| name.starts_with(word)) {
        Some((_, command)) => (*command, rest),
        None => (GroupCommand::Add, text),
    }
}

/// Parses a group-mod, with its command as first word if `command` is `None`, and the formats that can express it.
///
/// # Errors
/// OVS's words.
pub fn group_mod(text: &str, command: Option<GroupCommand>, names: &Names) -> Parsed<(GroupMod, Protocols)> {
    let (command, text) = match command {
        Some(command) => (command, text),
        None => split_command(text),
    };
    let mut gm = GroupMod {
        command,
        kind: GroupType::All,
        group_id: ANY_GROUP,
        command_bucket_id: ALL_BUCKETS,
        buckets: Vec::new(),
        props: GroupProps::default(),
    };
    let mut usable = if has_command_bucket(command) { V15_OR_EXTENSION } else { Protocols::ANY };
    if command == GroupCommand::Delete && text.is_empty() {
        gm.group_id = ALL_GROUPS;
        return Ok((gm, usable));
    }
    let (head, buckets) = match text.find("bucket=") {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    };
    if buckets.is_some() && !has_buckets(command) {
        return Err("bucket is not needed".into());
    }
    let mut seen = Seen::default();
    for (name, value) in Pairs::new(head) {
        take_key(name, value, &mut gm, &mut seen, &mut usable, names)?;
    }
    seen.check(&gm)?;
    if let Some(buckets) = buckets {
        take_buckets(buckets, &mut gm, &mut usable, names)?;
    }
    Ok((gm, usable))
}

/// Keys that were there.
#[derive(Default)]
struct Seen {
    kind: bool,
    command_bucket: bool,
}

impl Seen {
    fn check(&self, gm: &GroupMod) -> Parsed<()> {
        let props = &gm.props;
        let error = if gm.group_id == ANY_GROUP {
            "must specify a group_id"
        } else if has_type(gm.command) && !self.kind {
            "must specify a type"
        } else if props.selection_method != "hash" && !props.fields.is_empty() {
            "fields may only be specified with \"selection_method=hash\""
        } else if props.selection_method.is_empty() && props.selection_method_param != 0 {
            "selection_method_param is only allowed with \"selection_method\""
        } else if gm.command == GroupCommand::InsertBucket && !self.command_bucket {
            "must specify a command bucket id"
        } else {
            return Ok(());
        };
        Err(error.into())
    }
}

fn take_key(
    name: &str,
    value: &str,
    gm: &mut GroupMod,
    seen: &mut Seen,
    usable: &mut Protocols,
    names: &Names,
) -> Parsed<()> {
    let only_with_type = |what: &str| match has_type(gm.command) {
        true => Ok(()),
        false => Err(ParseError(format!("{what} needed"))),
    };
    match name {
        "command_bucket_id" => {
            gm.command_bucket_id = parse_command_bucket(value, gm.command)?;
            seen.command_bucket = true;
        }
        "group_id" => gm.group_id = parse_group_id(value)?,
        "type" => {
            only_with_type("type is not")?;
            gm.kind = parse_type(value)?;
            seen.kind = true;
        }
        "selection_method" => {
            only_with_type("selection method is not")?;
            if value.len() >= METHOD_LEN {
                refuse!("selection method is longer than {} bytes long", METHOD_LEN - 1);
            }
            value.clone_into(&mut gm.props.selection_method);
            *usable &= V15_OR_EXTENSION;
        }
        "selection_method_param" => {
            only_with_type("selection method param is not")?;
            gm.props.selection_method_param = parse_u64(value)?;
            *usable &= V15_OR_EXTENSION;
        }
        "fields" => {
            only_with_type("fields are not")?;
            take_fields(value, &mut gm.props, usable, names)?;
            *usable &= V15_OR_EXTENSION;
        }
        _ => refuse!("unknown keyword {name}"),
    }
    Ok(())
}

fn parse_command_bucket(text: &str, command: GroupCommand) -> Parsed<u32> {
    if !has_command_bucket(command) {
        return Err("command bucket id is not needed".into());
    }
    let id = match text {
        "all" => ALL_BUCKETS,
        "first" => FIRST_BUCKET,
        "last" => LAST_BUCKET,
        _ => parse_u32(text)?,
    };
    if id > MAX_BUCKET && !matches!(id, ALL_BUCKETS | FIRST_BUCKET | LAST_BUCKET) {
        refuse!("invalid command bucket id {id}");
    }
    if id == ALL_BUCKETS && command == GroupCommand::InsertBucket {
        return Err("command_bucket_id=all is not permitted".into());
    }
    Ok(id)
}

fn parse_group_id(text: &str) -> Parsed<GroupId> {
    if text == "all" {
        return Ok(ALL_GROUPS);
    }
    let id = GroupId(parse_u32(text)?);
    if id != ALL_GROUPS && id > MAX_GROUP {
        refuse!("invalid group id {id}");
    }
    Ok(id)
}

fn parse_type(text: &str) -> Parsed<GroupType> {
    match text {
        "all" => Ok(GroupType::All),
        "select" => Ok(GroupType::Select),
        "indirect" => Ok(GroupType::Indirect),
        "ff" | "fast_failover" => Ok(GroupType::FastFailover),
        _ => refuse!("invalid group type {text}"),
    }
}

/// The fields to hash, each perhaps with a mask as its value.
fn take_fields(text: &str, props: &mut GroupProps, usable: &mut Protocols, names: &Names) -> Parsed<()> {
    let mut pairs = Pairs::new(text);
    while let Some((name, value)) = pairs.next() {
        let rest = pairs.rest();
        let Some(field) = Field::from_name(name) else { refuse!("{rest}: unknown field {name}") };
        if props.fields.iter().any(|(known, _)| *known == field) {
            refuse!("{name}: duplicate field");
        }
        let mut mask = Value::ones(field.n_bytes());
        if !value.is_empty() {
            mask = field.parse_value(value, names)?;
            if !field.is_tun_metadata() && mask.is_zero() {
                refuse!("{rest}: values are wildcards here and must not be all-zeros");
            }
            if !field.mask_ok(&mask) {
                refuse!("{value}: invalid mask for field {}", field.name());
            }
        }
        *usable &= usable_with_mask(field, &mask);
        let at = props.fields.partition_point(|(known, _)| *known < field);
        props.fields.insert(at, (field, mask));
    }
    Ok(())
}

fn take_buckets(text: &str, gm: &mut GroupMod, usable: &mut Protocols, names: &Names) -> Parsed<()> {
    for text in text.split("bucket=").skip(1) {
        let bucket = parse_bucket(text, gm.kind, usable, names)?;
        let weighs = bucket.weight != 0;
        gm.buckets.push(bucket);
        if gm.command != GroupCommand::InsertBucket && gm.kind != GroupType::Select && weighs {
            return Err("Only select groups can have bucket weights.".into());
        }
    }
    if gm.kind == GroupType::Indirect && gm.buckets.len() > 1 {
        return Err("Indirect groups can have at most one bucket.".into());
    }
    Ok(())
}

fn parse_bucket(text: &str, kind: GroupType, usable: &mut Protocols, names: &Names) -> Parsed<Bucket> {
    let mut bucket = Bucket {
        bucket_id: ALL_BUCKETS,
        weight: u16::from(kind == GroupType::Select),
        watch_port: OfPort::NONE,
        watch_group: ANY_GROUP,
        actions: Arc::from([]),
    };
    let mut actions = Vec::new();
    for (key, value) in Pairs::new(text) {
        match key.to_ascii_lowercase().as_str() {
            "weight" => bucket.weight = parse_u16(value, "weight")?,
            "watch_port" => bucket.watch_port = parse_watch_port(value, names)?,
            "watch_group" => {
                bucket.watch_group = GroupId(parse_u32(value)?);
                if bucket.watch_group > MAX_GROUP {
                    refuse!("invalid watch_group id {}", bucket.watch_group);
                }
            }
            "bucket_id" => {
                bucket.bucket_id = parse_u32(value)?;
                if bucket.bucket_id > MAX_BUCKET {
                    refuse!("invalid bucket_id id {}", bucket.bucket_id);
                }
                *usable &= V15_OR_EXTENSION;
            }
            "action" | "actions" => actions.push(value.to_owned()),
            _ => actions.push(format!("{key}({value})")),
        }
    }
    if actions.is_empty() {
        return Err("bucket must specify actions".into());
    }
    if kind == GroupType::FastFailover && !bucket.has_liveness() {
        return Err("fast failover bucket requires watch_port or watch_group".into());
    }
    let mut cx = Parse::new(names);
    bucket.actions = Arc::from(action::parse_list(&actions.join(","), &mut cx)?);
    // As in OVS, a bucket's actions have the last word on what is usable.
    *usable = cx.usable;
    Ok(bucket)
}

fn parse_watch_port(text: &str, names: &Names) -> Parsed<OfPort> {
    let port = names.parse_port(text);
    let can_be_watched =
        |port: &OfPort| port.0 < OfPort::MAX.0 || matches!(*port, OfPort::NONE | OfPort::CONTROLLER);
    port.filter(can_be_watched).ok_or_else(|| ParseError(format!("{text}: invalid watch_port")))
}

/// The group-mods of a file's lines, and the formats that can express all of them.
///
/// # Errors
/// OVS's words, with the file's name and the line's number.
pub fn group_mods(
    text: &str,
    file: &str,
    command: Option<GroupCommand>,
    names: &Names,
) -> Parsed<(Vec<GroupMod>, Protocols)> {
    let mut usable = Protocols::ANY;
    let mut mods = Vec::new();
    for (number, line) in super::flow::lines(text) {
        let (group_mod, formats) = group_mod(&line, command, names)
            .map_err(|error| ParseError(format!("{file}:{number}: {error}")))?;
        usable &= formats;
        mods.push(group_mod);
    }
    Ok((mods, usable))
}
