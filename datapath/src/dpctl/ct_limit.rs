//! `ct-set-limits`, `ct-get-limits`, `ct-del-limits`: how many connections zones may have.

use super::ct::tracker;
use super::{Done, Failed, Session};
use crate::conntrack::{LimitZone, ZoneLimit};
use ::flow::ct::leading_zone;
use ::flow::id::Zone;
use ::flow::text::{Pairs, Scan};
use std::sync::Arc;
use sys::errno::Errno;

/// A number in any base that C reads, or why not.
fn number<T: TryFrom<u64>>(key: &str, text: &str) -> Result<T, String> {
    let mut scan = Scan::new(text);
    let value = scan.fit().filter(|_| scan.is_empty() && !text.contains('-'));
    value.ok_or_else(|| format!("failed to parse field {key}"))
}

/// Reads `zone=N,limit=L`.
fn parse_limit(text: &str) -> Result<ZoneLimit, String> {
    let (mut zone, mut limit) = (None, None);
    for (key, value) in Pairs::new(text) {
        match key {
            _ if value.is_empty() => return Err(format!("field {key} missing value")),
            "zone" => zone = Some(Zone(number(key, value)?)),
            "limit" => limit = Some(number(key, value)?),
            _ => return Err(format!("invalid zone limit field: {key}")),
        }
    }
    match (zone, limit) {
        (Some(zone), Some(limit)) => Ok(ZoneLimit { zone: LimitZone::Zone(zone), limit, count: 0 }),
        _ => Err("failed to parse zone limit".to_owned()),
    }
}

/// Reads `[default=L] [zone=N,limit=L]...`.
fn parse_limits(mut args: &[&str]) -> Result<Vec<ZoneLimit>, String> {
    let mut limits = Vec::new();
    if let [first, rest @ ..] = args
        && let Some(text) = first.strip_prefix("default=")
    {
        let digits = text.trim_start().strip_prefix('+').unwrap_or(text.trim_start());
        let limit = digits.parse().map_err(|_| "invalid default limit")?;
        limits.push(ZoneLimit { zone: LimitZone::Default, limit, count: 0 });
        args = rest;
    }
    for arg in args {
        limits.push(parse_limit(arg)?);
    }
    Ok(limits)
}

/// Reads `zone=N1[,N2]...`.
fn parse_zones(arg: &str) -> Result<Vec<LimitZone>, String> {
    let list = arg.strip_prefix("zone=").ok_or_else(|| format!("invalid argument {arg}"))?;
    let words = list.split(',').filter(|word| !word.is_empty());
    words
        .map(|word| leading_zone(word).map(LimitZone::Zone).ok_or_else(|| "invalid zone".to_owned()))
        .collect()
}

/// Opens the datapath of a command that needs arguments beside it; gives these, too.
fn open_with<'a>(
    session: &mut Session<'_>,
    args: &'a [&'a str],
    max_args: usize,
) -> Result<(Arc<dyn crate::Datapath>, &'a [&'a str]), Failed> {
    let named = usize::from(args.first().is_some_and(|first| session.exists(first)));
    if args.len() <= named {
        return session.fail(Some(Errno::EINVAL), "too few arguments");
    }
    let datapath = session.open(args, max_args)?;
    Ok((datapath, &args[named..]))
}

/// Refuses when the database has a say.
fn check_protection(session: &mut Session<'_>, datapath: &dyn crate::Datapath, command: &str) -> Done {
    if !session.env.limits_protected(datapath.kind(), datapath.name()) {
        return Ok(());
    }
    let text =
        format!("the zone limits are set via database, use 'ovs-vsctl {command}-zone-limit <...>' instead.");
    session.fail(Some(Errno::EPERM), text)
}

pub(super) fn set(session: &mut Session<'_>, args: &[&str]) -> Done {
    let (datapath, args) = open_with(session, args, usize::MAX)?;
    let limits = parse_limits(args).or_else(|error| session.fail(Some(Errno::EINVAL), error))?;
    check_protection(session, &*datapath, "set")?;
    tracker(&*datapath)
        .and_then(|tracker| tracker.set_limits(&limits))
        .or_else(|error| session.fail(Some(error.errno()), "failed to set conntrack limit"))
}

pub(super) fn delete(session: &mut Session<'_>, args: &[&str]) -> Done {
    let (datapath, mut args) = open_with(session, args, 4)?;
    let mut zones = Vec::new();
    if let ["default", rest @ ..] = args {
        zones.push(LimitZone::Default);
        args = rest;
    }
    if let Some(arg) = args.first() {
        zones.extend(parse_zones(arg).or_else(|error| session.fail(Some(Errno::EINVAL), error))?);
    }
    check_protection(session, &*datapath, "del")?;
    tracker(&*datapath)
        .and_then(|tracker| tracker.del_limits(&zones))
        .or_else(|error| session.fail(Some(error.errno()), "failed to delete conntrack limit"))
}

pub(super) fn get(session: &mut Session<'_>, args: &[&str]) -> Done {
    let named = usize::from(args.first().is_some_and(|first| session.exists(first)));
    let datapath = session.open(args, 3)?;
    let mut zones = Vec::new();
    if let Some(arg) = args.get(named) {
        zones.push(LimitZone::Default);
        zones.extend(parse_zones(arg).or_else(|error| session.fail(Some(Errno::EINVAL), error))?);
    }
    match tracker(&*datapath).and_then(|tracker| tracker.limits(&zones)) {
        Ok(limits) => {
            session.print(limits_text(&limits));
            Ok(())
        }
        Err(error) => {
            let errno = error.errno();
            session.fail(Some(errno), format!("failed to get conntrack limit {errno}"))
        }
    }
}

fn limits_text(limits: &[ZoneLimit]) -> String {
    let mut text = String::new();
    for default in limits.iter().filter(|limit| limit.zone == LimitZone::Default) {
        text += &format!("default limit={}", default.limit);
    }
    for limit in limits {
        if let LimitZone::Zone(zone) = limit.zone {
            text += &format!("\nzone={zone},limit={},count={}", limit.limit, limit.count);
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(zone: u16, limit: u32, count: u32) -> ZoneLimit {
        ZoneLimit { zone: LimitZone::Zone(Zone(zone)), limit, count }
    }

    const DEFAULT: ZoneLimit = ZoneLimit { zone: LimitZone::Default, limit: 10, count: 0 };

    #[test]
    fn reads_limits() {
        assert_eq!(parse_limits(&["default=10", "zone=0,limit=0x5"]), Ok(vec![DEFAULT, zone(0, 5, 0)]));
        for (args, error) in [
            (&["default=x"][..], "invalid default limit"),
            (&["default=4294967296"], "invalid default limit"),
            (&["zone=1"], "failed to parse zone limit"),
            (&["zone=65536,limit=1"], "failed to parse field zone"),
            (&["zone=1,limit=-1"], "failed to parse field limit"),
            (&["zone=1,limit="], "field limit missing value"),
            (&["foo=1"], "invalid zone limit field: foo"),
        ] {
            assert_eq!(parse_limits(args), Err(error.to_owned()), "{args:?}");
        }
        let zones = |list: &[u16]| Ok(list.iter().map(|n| LimitZone::Zone(Zone(*n))).collect());
        assert_eq!(parse_zones("zone=1,2"), zones(&[1, 2]));
        assert_eq!(parse_zones("zone=,"), zones(&[]));
        assert_eq!(parse_zones("zone=x"), Err("invalid zone".to_owned()));
        assert_eq!(parse_zones("1"), Err("invalid argument 1".to_owned()));
    }

    #[test]
    fn limits_as_text() {
        assert_eq!(limits_text(&[zone(1, 5, 2), DEFAULT]), "default limit=10\nzone=1,limit=5,count=2\n");
        assert_eq!(limits_text(&[DEFAULT]), "default limit=10\n");
    }
}
