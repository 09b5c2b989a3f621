//! Connection-tracking zones of a datapath: timeout policies and limits; and what the datapath can do.

use ovsdb::value::{Atom, Datum, Uuid};

use crate::ctl::names::Naming;
use crate::ctl::records::rows;
use crate::ctl::syntax::{Context, Needs, Options, Stop, Syntax};
use crate::ctl::targets::leading_integer;
use crate::fatal;

/// The commands.
pub static COMMANDS: &[Syntax] = rows! {
    "add-zone-tp" 3 usize::MAX, "", "--may-exist", RW, need_zones, add_policy;
    "del-zone-tp" 2 2, "", "--if-exists", RW, need_zones, delete_policy;
    "list-zone-tp" 1 1, "", "", RO, need_zones, list_policies;
    "list-dp-cap" 1 1, "", "", RO, need_capabilities, list_capabilities;
    "set-zone-limit" 3 3, "ARG ARG ARG", "", RW, need_zones, set_limit;
    "del-zone-limit" 2 2, "ARG ARG", "--if-exists", RW, need_zones, delete_limit;
    "list-zone-limits" 1 1, "ARG", "", RO, need_zones, list_limits;
};

fn need_zones(_: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    needs.columns("Open_vSwitch", &["datapaths"]);
    needs.columns("Datapath", &["ct_zones", "ct_zone_default_limit"]);
    needs.columns("CT_Zone", &["timeout_policy", "limit"]);
    needs.columns("CT_Timeout_Policy", &["timeouts"]);
    Ok(())
}

fn need_capabilities(_: &Naming, _: &[String], _: &Options, needs: &mut Needs) -> Result<(), String> {
    needs.columns("Open_vSwitch", &["datapaths"]);
    needs.columns("Datapath", &["capabilities"]);
    Ok(())
}

/// The datapath that the first argument names.
fn datapath(ctx: &mut Context<'_>) -> Option<Uuid> {
    let root = ctx.db.root();
    let datapaths = ctx.db.get("Open_vSwitch", root, "datapaths");
    datapaths.value(&Atom::from(ctx.args[0].as_str()))?.as_uuid()
}

fn existing_datapath(ctx: &mut Context<'_>) -> Result<Uuid, Stop> {
    match datapath(ctx) {
        Some(row) => Ok(row),
        None => fatal!("datapath {} does not exist", ctx.args[0]),
    }
}

fn listed_datapath(ctx: &mut Context<'_>) -> Result<Uuid, Stop> {
    match datapath(ctx) {
        Some(row) => Ok(row),
        None => fatal!("datapath: {} record not found", ctx.args[0]),
    }
}

fn zone(ctx: &Context<'_>, datapath: Uuid, id: i64) -> Option<Uuid> {
    ctx.db.get("Datapath", datapath, "ct_zones").value(&Atom::from(id))?.as_uuid()
}

/// The row of zone `id`, made if it is new.
fn made_zone(ctx: &mut Context<'_>, datapath: Uuid, id: i64) -> Uuid {
    zone(ctx, datapath, id).unwrap_or_else(|| {
        let row = ctx.db.insert("CT_Zone", None);
        ctx.db.txn.add_elements("Datapath", datapath, "ct_zones", &Datum::map([(id, row)]));
        row
    })
}

fn remove_zone(ctx: &mut Context<'_>, datapath: Uuid, id: i64) {
    ctx.db.txn.remove_elements("Datapath", datapath, "ct_zones", &Datum::one(id));
}

/// The number of `zone=N`.
fn zone_argument(ctx: &Context<'_>) -> Result<i64, Stop> {
    let text = &ctx.args[1];
    match text.strip_prefix("zone=").and_then(scan) {
        Some(id) => Ok(id),
        None => fatal!("invalid zone argument, {text}"),
    }
}

/// The integer that `text` begins with.
fn scan(text: &str) -> Option<i64> {
    text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()).then(|| leading_integer(text))
}

fn add_policy(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let id = zone_argument(ctx)?;
    let datapath = existing_datapath(ctx)?;
    let settings = &ctx.args[2..];
    let existing = zone(ctx, datapath, id);
    let has_policy = existing.is_some_and(|row| !ctx.db.get("CT_Zone", row, "timeout_policy").is_empty());
    if has_policy && !ctx.has("--may-exist") {
        fatal!("zone id {id} already has a policy");
    }
    let timeouts = settings.iter().map_while(|setting| setting.split_once('='));
    let timeouts = Datum::map(timeouts.map(|(key, value)| (key, leading_integer(value))));
    let same = |row: &Uuid| ctx.db.get("CT_Timeout_Policy", *row, "timeouts") == timeouts;
    let policy = match ctx.db.rows("CT_Timeout_Policy").into_iter().find(same) {
        Some(row) => row,
        None => {
            let row = ctx.db.insert("CT_Timeout_Policy", None);
            ctx.db.set("CT_Timeout_Policy", row, "timeouts", timeouts);
            row
        }
    };
    let zone = made_zone(ctx, datapath, id);
    ctx.db.set("CT_Zone", zone, "timeout_policy", Datum::one(policy));
    Ok(())
}

fn delete_policy(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let id = zone_argument(ctx)?;
    let datapath = existing_datapath(ctx)?;
    let with_policy =
        zone(ctx, datapath, id).filter(|&row| !ctx.db.get("CT_Zone", row, "timeout_policy").is_empty());
    match with_policy {
        None if ctx.has("--if-exists") => {}
        None => fatal!("zone id {id} does not have a policy"),
        Some(row) if ctx.db.get("CT_Zone", row, "limit").is_empty() => remove_zone(ctx, datapath, id),
        Some(row) => ctx.db.set("CT_Zone", row, "timeout_policy", Datum::empty_set()),
    }
    Ok(())
}

fn list_policies(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let datapath = listed_datapath(ctx)?;
    for (id, row) in ctx.db.get("Datapath", datapath, "ct_zones").pairs() {
        let (Some(id), Some(row)) = (id.as_integer(), row.as_uuid()) else { continue };
        let text = match ctx.db.get("CT_Zone", row, "timeout_policy").as_uuid() {
            None => "system default".to_owned(),
            Some(policy) => {
                let timeouts = ctx.db.get("CT_Timeout_Policy", policy, "timeouts");
                let pairs = timeouts.pairs().iter();
                let texts = pairs
                    .filter_map(|(key, value)| Some(format!("{}={}", key.as_str()?, value.as_integer()?)));
                texts.collect::<Vec<_>>().join(" ")
            }
        };
        ctx.line(&format!("Zone:{id}, Timeout Policies: {text}"));
    }
    Ok(())
}

fn list_capabilities(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let Some(row) = datapath(ctx) else { fatal!("datapath \"{}\" record not found", ctx.args[0]) };
    let capabilities = ctx.db.get("Datapath", row, "capabilities");
    let texts: Vec<String> =
        capabilities.string_pairs().map(|(key, value)| format!("{key}={value}")).collect();
    ctx.line(&texts.join(" "));
    Ok(())
}

/// A zone's number, or none for `default`.
fn zone_or_default(text: &str) -> Result<Option<i64>, Stop> {
    match scan(text) {
        Some(id) => Ok(Some(id)),
        None if text == "default" => Ok(None),
        None => fatal!("invalid zone id, {text}"),
    }
}

fn set_limit(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let id = zone_or_default(&ctx.args[1])?;
    let Some(limit) = scan(&ctx.args[2]) else { fatal!("invalid limit, {}", ctx.args[2]) };
    let datapath = existing_datapath(ctx)?;
    if u32::try_from(limit).is_err() {
        fatal!("limit ({limit}) out of range");
    }
    let Some(id) = id else {
        ctx.db.set("Datapath", datapath, "ct_zone_default_limit", Datum::one(limit));
        return Ok(());
    };
    if u16::try_from(id).is_err() {
        fatal!("zone_id ({id}) out of range");
    }
    let zone = made_zone(ctx, datapath, id);
    ctx.db.set("CT_Zone", zone, "limit", Datum::one(limit));
    Ok(())
}

fn delete_limit(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let id = zone_or_default(&ctx.args[1])?;
    let datapath = existing_datapath(ctx)?;
    let must_exist = !ctx.has("--if-exists");
    let Some(id) = id else {
        if must_exist && ctx.db.get("Datapath", datapath, "ct_zone_default_limit").is_empty() {
            fatal!("datapath {} does not have a limit", ctx.args[0]);
        }
        ctx.db.set("Datapath", datapath, "ct_zone_default_limit", Datum::empty_set());
        return Ok(());
    };
    let row = zone(ctx, datapath, id);
    if must_exist && row.is_none_or(|row| ctx.db.get("CT_Zone", row, "limit").is_empty()) {
        fatal!("zone_id {id} does not have a limit");
    }
    let Some(row) = row else { return Ok(()) };
    if ctx.db.get("CT_Zone", row, "timeout_policy").is_empty() {
        remove_zone(ctx, datapath, id);
    } else {
        ctx.db.set("CT_Zone", row, "limit", Datum::empty_set());
    }
    Ok(())
}

fn list_limits(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let datapath = listed_datapath(ctx)?;
    if let Some(limit) = ctx.db.get("Datapath", datapath, "ct_zone_default_limit").as_integer() {
        ctx.line(&format!("Default, Limit: {limit}"));
    }
    for (id, row) in ctx.db.get("Datapath", datapath, "ct_zones").pairs() {
        let limit = row.as_uuid().and_then(|row| ctx.db.get("CT_Zone", row, "limit").as_integer());
        if let (Some(id), Some(limit)) = (id.as_integer(), limit) {
            ctx.line(&format!("Zone: {id}, Limit: {limit}"));
        }
    }
    Ok(())
}
