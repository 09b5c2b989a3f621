//! Flow monitor requests: `watch:!initial,table=1,tcp`.

use flow::field::Field;
use flow::id::{GroupId, OfPort};
use flow::mini::Match;

use super::matching::{Abbreviation, Builder};
use crate::msg::flow_mod::{ALL_TABLES, ANY_GROUP};
use crate::msg::monitor::{MonitorCommand, MonitorFlags, MonitorRequest};
use crate::names::Names;
use crate::protocol::Protocols;
use crate::text::{Pairs, Parsed, atoi, refuse};

/// Parses a request for a monitor of the number `id`, and the formats that can express it.
///
/// # Errors
/// OVS's words.
pub fn monitor_request(text: &str, id: u32, names: &Names) -> Parsed<(MonitorRequest, Protocols)> {
    let mut request = MonitorRequest {
        id,
        command: MonitorCommand::Add,
        flags: MonitorFlags::INITIAL
            | MonitorFlags::ADD
            | MonitorFlags::REMOVED
            | MonitorFlags::MODIFY
            | MonitorFlags::ONLY_OWN
            | MonitorFlags::INSTRUCTIONS,
        out_port: OfPort::NONE,
        out_group: ANY_GROUP,
        table_id: ALL_TABLES,
        matching: Match::default(),
    };
    let mut builder = Builder::new(names);
    for (name, value) in Pairs::new(text) {
        if let Some(flag) = negated_flag(name) {
            request.flags -= flag;
        } else if let Some(abbreviation) = Abbreviation::from_name(name) {
            builder.abbreviation(abbreviation);
        } else if let Some(field) = Field::from_name(name) {
            builder.field(field, value)?;
            if !builder.usable.intersects(Protocols::OF10_ANY) {
                refuse!("{name}: match field is not supported for flow monitor");
            }
        } else if value.is_empty() {
            refuse!("{text}: field {name} missing value");
        } else {
            match name {
                "table" => match names.parse_table(value) {
                    Some(table) => request.table_id = table,
                    None => refuse!("unknown table \"{value}\""),
                },
                "out_port" => request.out_port = OfPort(atoi(value) as u16),
                "out_group" => request.out_group = GroupId(atoi(value) as u32),
                _ => refuse!("{text}: unknown keyword {name}"),
            }
        }
    }
    request.matching = Match::new(&builder.flow);
    Ok((request, builder.usable))
}

/// The flag that `!NAME` takes away.
fn negated_flag(name: &str) -> Option<MonitorFlags> {
    Some(match name {
        "!initial" => MonitorFlags::INITIAL,
        "!add" => MonitorFlags::ADD,
        "!delete" => MonitorFlags::REMOVED,
        "!modify" => MonitorFlags::MODIFY,
        "!actions" => MonitorFlags::INSTRUCTIONS,
        "!abbrev" => MonitorFlags::NO_ABBREV,
        "!own" => MonitorFlags::ONLY_OWN,
        _ => return None,
    })
}
