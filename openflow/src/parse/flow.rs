//! Flow-mods and flow statistics requests: `table=1,priority=5,tcp,actions=output:2`.

use std::sync::Arc;

use flow::id::GroupId;
use flow::mini::Match;

use super::matching::Builder;
use crate::action::check::{Check, check};
use crate::action::{self, Parse};
use crate::error::OfError;
use crate::msg::flow_mod::{ALL_TABLES, ANY_GROUP, FlowCommand, FlowFlags, FlowMod};
use crate::msg::flow_stats::FlowStatsRequest;
use crate::names::Names;
use crate::protocol::Protocols;
use crate::text::{Pairs, ParseError, Parsed, parse_u16, parse_u64, refuse};

/// What a flow's text is for, which decides the keys that may be in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A request for statistics.
    Stats,
    /// A flow-mod.
    Mod(FlowCommand),
    /// A flow-mod whose command is the text's first word, `add` if there is none.
    ModByWord,
}

/// Commands by name; any beginning of a name stands for the first that has it.
const COMMANDS: [(&str, FlowCommand); 5] = [
    ("add", FlowCommand::Add),
    ("delete", FlowCommand::Delete),
    ("delete_strict", FlowCommand::DeleteStrict),
    ("modify", FlowCommand::Modify),
    ("modify_strict", FlowCommand::ModifyStrict),
];

/// "No cookie", of a modification.
const NO_COOKIE: u64 = u64::MAX;

/// Keys that dumps have and that mean nothing here.
const IGNORED: [&str; 5] = ["duration", "n_packets", "n_bytes", "idle_age", "hard_age"];

/// Which keys a flow may have.
struct Keys {
    out_port: bool,
    actions: bool,
    importance: bool,
    timeouts: bool,
    priority: bool,
    flags: bool,
}

impl Keys {
    fn of(command: Option<FlowCommand>) -> Self {
        let writes = command.is_some_and(|command| !command.is_delete());
        Self {
            out_port: !writes,
            actions: writes,
            importance: command == Some(FlowCommand::Add),
            timeouts: writes,
            priority: writes || command == Some(FlowCommand::DeleteStrict),
            flags: writes,
        }
    }
}

/// The command that text begins with, and the rest.
fn split_command(text: &str) -> (FlowCommand, &str) {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let len = text.find([',', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
    let (word, rest) = text.split_at(len);
    match COMMANDS.iter().find(|(name, _)| name.starts_with(word)) {
        Some((_, command)) => (*command, rest),
        None => (FlowCommand::Add, text),
    }
}

/// Splits a flow at `actions=`: what is before and what follows.
pub(super) fn split_actions(text: &str) -> Option<(&str, &str)> {
    let at = text.find("action")?;
    let (_, actions) = text[at..].split_once('=')?;
    Some((&text[..at], actions))
}

/// Parses a flow-mod and the formats that can express it.
///
/// A match that is not normal is logged, but left as it is: the switch may do as it likes.
///
/// # Errors
/// OVS's words.
pub fn flow_mod(text: &str, purpose: Purpose, names: &Names) -> Parsed<(FlowMod, Protocols)> {
    let (flow_mod, usable) = parse(text, purpose, names)?;
    crate::matching::normalize(&mut flow_mod.matching.expand());
    Ok((flow_mod, usable))
}

fn parse(text: &str, purpose: Purpose, names: &Names) -> Parsed<(FlowMod, Protocols)> {
    let (command, text) = match purpose {
        Purpose::Stats => (None, text),
        Purpose::Mod(command) => (Some(command), text),
        Purpose::ModByWord => {
            let (command, rest) = split_command(text);
            (Some(command), rest)
        }
    };
    let keys = Keys::of(command);
    let mut fm = FlowMod { command: command.unwrap_or(FlowCommand::Add), ..FlowMod::default() };
    let modifies = command.is_some_and(FlowCommand::is_modify);
    if modifies {
        fm.new_cookie = NO_COOKIE;
    }
    let (fields, actions) = match (keys.actions, split_actions(text)) {
        (false, _) => (text, None),
        (true, Some((fields, actions))) => (fields, Some(actions)),
        (true, None) => return Err("must specify an action".into()),
    };
    let mut builder = Builder::new(names);
    for (name, value) in Pairs::new(fields) {
        if take_flag(name, &keys, &mut fm, &mut builder) {
            continue;
        }
        match builder.take(name, value) {
            Some(taken) => taken?,
            None => take_key(name, value, command, &keys, &mut fm, &mut builder)?,
        }
    }
    builder.finish();
    if modifies && fm.cookie_mask == 0 && fm.new_cookie == NO_COOKIE {
        // Such a modification adds a flow if there is none.
        fm.new_cookie = 0;
    }
    if let Some(actions) = actions {
        let usable = parse_actions(actions, &mut fm, &builder)?;
        builder.usable &= usable;
    }
    fm.matching = Match::new(&builder.flow);
    Ok((fm, builder.usable))
}

/// Takes a key without value; whether it was one.
fn take_flag(name: &str, keys: &Keys, fm: &mut FlowMod, builder: &mut Builder<'_>) -> bool {
    let (flag, usable) = match name {
        // The switch shows these of its own flows.
        "no_readonly_table" | "allow_hidden_fields" => return true,
        _ if !keys.flags => return false,
        "send_flow_rem" => (FlowFlags::SEND_FLOW_REM, Protocols::ANY),
        "check_overlap" => (FlowFlags::CHECK_OVERLAP, Protocols::ANY),
        "reset_counts" => (FlowFlags::RESET_COUNTS, Protocols::OF12_UP),
        "no_packet_counts" => (FlowFlags::NO_PACKET_COUNTS, Protocols::OF13_UP),
        "no_byte_counts" => (FlowFlags::NO_BYTE_COUNTS, Protocols::OF13_UP),
        _ => return false,
    };
    fm.flags |= flag;
    builder.usable &= usable;
    true
}

fn take_key(
    name: &str,
    value: &str,
    command: Option<FlowCommand>,
    keys: &Keys,
    fm: &mut FlowMod,
    builder: &mut Builder<'_>,
) -> Parsed<()> {
    if value.is_empty() {
        refuse!("field {name} missing value");
    }
    match name {
        "table" => {
            let Some(table) = builder.names.parse_table(value) else { refuse!("unknown table \"{value}\"") };
            fm.table_id = table;
            if table != ALL_TABLES {
                builder.usable &= Protocols::TID;
            }
        }
        "out_port" if keys.out_port => match builder.names.parse_port(value) {
            Some(port) => fm.out_port = port,
            None => refuse!("{value} is not a valid OpenFlow port"),
        },
        "out_group" if keys.out_port => {
            builder.usable &= Protocols::OF11_UP;
            match parse_group(value) {
                Some(group) => fm.out_group = group,
                None => refuse!("{value} is not a valid OpenFlow group"),
            }
        }
        "priority" if keys.priority => fm.priority = parse_u16(value, name)?,
        "idle_timeout" if keys.timeouts => fm.idle_timeout = parse_u16(value, name)?,
        "hard_timeout" if keys.timeouts => fm.hard_timeout = parse_u16(value, name)?,
        "importance" if keys.importance => fm.importance = parse_u16(value, name)?,
        "cookie" => take_cookie(value, command, fm, builder)?,
        _ if IGNORED.contains(&name) => {}
        _ => refuse!("unknown keyword {name}"),
    }
    Ok(())
}

/// A group's number, `any` or `all`.
pub fn parse_group(text: &str) -> Option<GroupId> {
    if text.eq_ignore_ascii_case("any") {
        return Some(ANY_GROUP);
    }
    if text.eq_ignore_ascii_case("all") {
        return Some(crate::msg::group::ALL_GROUPS);
    }
    let number = crate::text::parse_uint_radix(text, 10).and_then(|number| u32::try_from(number).ok());
    if number.is_none() {
        tracing::warn!(
            target: "ofp_group",
            "{text} is not a valid group ID.  (Valid group IDs are 32-bit nonnegative integers or the keywords \
             ANY or ALL.)"
        );
    }
    number.map(GroupId)
}

/// With a mask, a cookie says which flows are meant; without, it is the flow's new one.
fn take_cookie(
    text: &str,
    command: Option<FlowCommand>,
    fm: &mut FlowMod,
    builder: &mut Builder<'_>,
) -> Parsed<()> {
    if let Some((cookie, mask)) = text.split_once('/') {
        if command == Some(FlowCommand::Add) {
            return Err("flow additions cannot use a cookie mask".into());
        }
        fm.cookie = parse_u64(cookie)?;
        fm.cookie_mask = parse_u64(mask)?;
        if fm.cookie_mask != 0 {
            builder.usable &= Protocols::NXM_OF11_UP;
        }
        return Ok(());
    }
    if command.is_none_or(|command| command.is_delete()) {
        refuse!("cannot set cookie (to match on a cookie, specify a mask, e.g. cookie={text}/-1)");
    }
    fm.new_cookie = parse_u64(text)?;
    fm.modify_cookie = true;
    Ok(())
}

fn parse_actions(text: &str, fm: &mut FlowMod, builder: &Builder<'_>) -> Parsed<Protocols> {
    let mut cx = Parse::new(builder.names);
    let mut actions = action::parse_instructions(text, &mut cx)?;
    let table = (fm.table_id != ALL_TABLES).then_some(fm.table_id);
    let mut consistency = Check { table, ..Check::new(&builder.flow) };
    let checked = check(&mut actions, &mut consistency);
    let usable = cx.usable & consistency.usable;
    let none_left = (builder.usable & usable).is_empty();
    let checked = checked.and(if none_left { Err(OfError::BacMatchInconsistent) } else { Ok(()) });
    if let Err(error) = checked {
        refuse!("actions are invalid with specified match ({})", error.name());
    }
    fm.actions = Arc::from(actions);
    Ok(usable)
}

/// Parses a request for flows or their sums, and the formats that can express it.
///
/// # Errors
/// OVS's words.
pub fn stats_request(text: &str, aggregate: bool, names: &Names) -> Parsed<(FlowStatsRequest, Protocols)> {
    let (fm, mut usable) = parse(text, Purpose::Stats, names)?;
    // A request names a table in every format.
    for (with_table, without) in
        [(Protocols::OF10_STD_TID, Protocols::OF10_STD), (Protocols::OF10_NXM_TID, Protocols::OF10_NXM)]
    {
        if usable.contains(with_table) {
            usable |= without;
        }
    }
    let request = FlowStatsRequest {
        aggregate,
        matching: fm.matching,
        cookie: fm.cookie,
        cookie_mask: fm.cookie_mask,
        out_port: fm.out_port,
        out_group: fm.out_group,
        table_id: fm.table_id,
    };
    Ok((request, usable))
}

/// The flow-mods of a file's lines, and the formats that can express all of them.
///
/// Comments begin with `#`; empty lines are passed over.
///
/// # Errors
/// OVS's words, with the file's name and the line's number.
pub fn flow_mods(
    text: &str,
    file: &str,
    purpose: Purpose,
    names: &Names,
) -> Parsed<(Vec<FlowMod>, Protocols)> {
    let mut usable = Protocols::ANY;
    let mut mods = Vec::new();
    for (number, line) in lines(text) {
        let (flow_mod, formats) = flow_mod(&line, purpose, names)
            .map_err(|error| ParseError(format!("{file}:{number}: {error}")))?;
        usable &= formats;
        mods.push(flow_mod);
    }
    Ok((mods, usable))
}

/// The lines of a file with their numbers, without comments and without those that are blank.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().filter_map(|(i, line)| {
        let line = line.split('#').next().unwrap_or_default();
        (!line.trim().is_empty()).then(|| (i + 1, line.trim_start().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn add(text: &str) -> Parsed<(FlowMod, Protocols)> {
        flow_mod(text, Purpose::Mod(FlowCommand::Add), &Names::default())
    }

    /// The match, the actions and the formats.
    fn shown(text: &str) -> String {
        let (fm, usable) = add(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let names = Names::default();
        let flow = crate::matching::text(&fm.matching.expand(), fm.priority.into(), &names);
        format!("{flow} actions={} [{usable}]", action::text(&fm.actions, &names))
    }

    #[test]
    fn flows_are_parsed_and_know_their_formats() {
        for (text, expected) in [
            ("actions=drop", " actions=drop [any]"),
            ("tcp,tp_src=80,actions=NORMAL", "tcp,tp_src=80 actions=NORMAL [any]"),
            (
                "table=3 priority=9 ip,nw_src=10.0.0.0/8 actions=2",
                "priority=9,ip,nw_src=10.0.0.0/8 actions=output:2 [OXM,OpenFlow10+table_id,NXM+table_id,OpenFlow11]",
            ),
            ("reg0[0..3]=5,actions=drop", "reg0=0x5/0xf actions=drop [NXM,OXM]"),
            ("tcp6,tp_dst=5,actions=drop", "tcp6,tp_dst=5 actions=drop [NXM,OXM]"),
            (
                "tcp,actions=push_mpls:0x8847,fin_timeout(idle_timeout=1)",
                "tcp actions=push_mpls:0x8847,fin_timeout(idle_timeout=1) [OpenFlow10,NXM]",
            ),
            (
                "mpls,actions=set_field:10->mpls_label",
                "mpls actions=set_field:10->mpls_label [NXM,OXM,OpenFlow11]",
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn flows_are_refused_in_the_words_of_ovs() {
        for (text, error) in [
            ("tcp", "must specify an action"),
            ("nosuch=1,actions=drop", "unknown keyword nosuch"),
            ("table,actions=drop", "field table missing value"),
            ("cookie=1/1,actions=drop", "flow additions cannot use a cookie mask"),
            ("out_port=1,actions=drop", "unknown keyword out_port"),
            ("idle_timeout=70000,actions=drop", "invalid idle_timeout \"70000\""),
            (
                "actions=set_field:5->tcp_src",
                "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)",
            ),
        ] {
            assert_eq!(add(text).map_err(String::from).map(|_| ()), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_line_may_begin_with_its_command() {
        let names = Names::default();
        let by_word = |text| flow_mod(text, Purpose::ModByWord, &names).map(|(fm, _)| fm.command);
        assert_eq!(by_word("delete_strict, priority=5"), Ok(FlowCommand::DeleteStrict));
        assert_eq!(by_word("mod tcp,actions=1"), Ok(FlowCommand::Modify));
        assert_eq!(by_word("tcp,actions=1"), Ok(FlowCommand::Add));
        let error = flow_mods("# comment\n\ntcp\n", "FILE", Purpose::ModByWord, &names).map(|_| ());
        assert_eq!(error.map_err(String::from), Err("FILE:3: must specify an action".to_owned()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn parsers_never_panic(text in "\\PC{0,60}") {
            let _ = add(&text);
            let _ = add(&format!("{text},actions=drop"));
            let _ = crate::parse::group::group_mod(&text, None, &Names::default());
            let _ = crate::parse::meter::meter_mod(&text, crate::msg::meter::MeterCommand::Add);
            let _ = crate::parse::monitor::monitor_request(&text, 0, &Names::default());
            let _ = crate::parse::tlv::tlv_table_mod(&text, crate::msg::tlv::TlvCommand::Add);
        }
    }
}
