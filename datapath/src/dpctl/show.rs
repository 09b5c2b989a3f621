//! `show`, `dump-dps`, and what there is to say of caches and offload.

use super::{Done, Failed, Session, full_name, leading_number};
use crate::netdev::Netdev;
use crate::{Datapath, DpStats, Error, PortInfo};
use std::fmt::Write;
use std::sync::Arc;
use sys::errno::Errno;

pub(super) fn show(session: &mut Session<'_>, args: &[&str]) -> Done {
    named_or_all(session, args, "opening datapath", |session, datapath| {
        let text = datapath_text(session, datapath);
        session.print(text);
    })
}

pub(super) fn dump_dps(session: &mut Session<'_>, _: &[&str]) -> Done {
    named_or_all(session, &[], "opening datapath", |session, datapath| {
        session.print(format!("{}\n", full_name(datapath)));
    })
}

pub(super) fn caches(session: &mut Session<'_>, args: &[&str]) -> Done {
    // Of a datapath that is named, and of one of all, errors have different words.
    let opening = if args.is_empty() { "opening datapath" } else { "Opening datapath" };
    named_or_all(session, args, opening, |session, datapath| {
        session.print(format!("{}:\n{}", full_name(datapath), caches_text(datapath)));
    })
}

fn caches_text(datapath: &dyn Datapath) -> String {
    let caches = datapath.caches();
    let lines: String =
        caches.iter().map(|cache| format!("    {}: size:{}\n", cache.name, cache.size)).collect();
    if caches.is_empty() { lines } else { format!("  caches:\n{lines}") }
}

pub(super) fn set_cache(session: &mut Session<'_>, args: &[&str]) -> Done {
    let [dp_name, name, size] = args else {
        return session.fail(Some(Errno::EINVAL), "Invalid number of arguments");
    };
    let Some(size) = leading_number(size) else {
        return session.fail(Some(Errno::EINVAL), "size is malformed");
    };
    let datapath = session
        .open_named(dp_name)
        .or_else(|error| session.fail(Some(error.errno()), format!("Opening datapath {dp_name} failed")))?;
    let caches = datapath.caches();
    if caches.is_empty() {
        return session.fail(Some(Errno::EOPNOTSUPP), "Setting caches not supported");
    }
    let Some(level) = caches.iter().position(|cache| cache.name == *name) else {
        return session.fail(Some(Errno::EINVAL), format!("Cache name \"{name}\" not found on dpif"));
    };
    match datapath.set_cache_size(level, size) {
        Ok(size) => {
            session.print(format!("Setting cache size successful, new size {size}\n"));
            Ok(())
        }
        Err(error) => session.fail(Some(error.errno()), "Setting cache size failed"),
    }
}

pub(super) fn offload_stats(session: &mut Session<'_>, args: &[&str]) -> Done {
    let datapath = session.open(args, 2)?;
    session.print("HW Offload stats:\n");
    let mut providers = datapath.offload_stats();
    providers.sort();
    for (label, counters) in providers {
        session.print(format!("  {label}:\n"));
        for (name, value) in counters {
            session.print(format!("    {name}: {value:>6}\n"));
        }
    }
    Ok(())
}

/// Does `each` for the datapaths that `args` name, or for all.
fn named_or_all(
    session: &mut Session<'_>,
    args: &[&str],
    opening: &str,
    each: impl Fn(&mut Session<'_>, &dyn Datapath),
) -> Done {
    let mut done = Ok(());
    let mut visit =
        |session: &mut Session<'_>, name: &str, opened: Result<Arc<dyn Datapath>, Error>| match opened {
            Ok(datapath) => each(session, &*datapath),
            Err(error) => {
                session.error(Some(error.errno()), format!("{opening} {name} failed"));
                done = Err(Failed);
            }
        };
    if args.is_empty() {
        let datapaths = session.env.datapaths();
        if datapaths.is_empty() && session.env.listing_error().is_some() {
            return Err(Failed);
        }
        for (kind, name) in datapaths {
            let opened = session.env.open(&kind, &name);
            visit(session, &name, opened);
        }
    } else {
        for name in args {
            let opened = session.open_named(name);
            visit(session, name, opened);
        }
    }
    done
}

/// What `show` says of one datapath.
fn datapath_text(session: &Session<'_>, datapath: &dyn Datapath) -> String {
    let mut text = format!("{}:\n", full_name(datapath));
    text += &stats_text(&datapath.stats());
    text += &caches_text(datapath);
    for port in datapath.ports() {
        text += &format!("  port {}: {}", port.number, port.name);
        if port.kind != "system" {
            text += &kind_text(&port, session.device(datapath, &port));
        }
        text.push('\n');
        if session.options.statistics {
            text += &port_statistics(session.device(datapath, &port));
        }
    }
    text
}

fn stats_text(stats: &DpStats) -> String {
    let mut text = format!(
        "  lookups: hit:{} missed:{} lost:{}\n  flows: {}\n",
        stats.hits, stats.misses, stats.lost, stats.flows
    );
    let Some(masks) = stats.masks else { return text };
    let packets = stats.hits + stats.misses;
    let per_packet = |count: u64| if packets == 0 { 0.0 } else { count as f64 / packets as f64 };
    let mask_hits = stats.mask_hits.unwrap_or(u64::MAX);
    text += &format!("  masks: hit:{mask_hits} total:{masks} hit/pkt:{:.2}\n", per_packet(mask_hits));
    if let Some(hits) = stats.cache_hits {
        text += &format!("  cache: hit:{hits} hit-rate:{:.2}%\n", per_packet(hits) * 100.0);
    }
    text
}

/// ` (type: option=value, …)`
fn kind_text(port: &PortInfo, device: Result<Arc<dyn Netdev>, Error>) -> String {
    match device {
        Ok(device) => {
            let options: Vec<_> =
                device.config().iter().map(|(key, value)| format!("{key}={value}")).collect();
            let colon = if options.is_empty() { "" } else { ": " };
            format!(" ({}{colon}{})", port.kind, options.join(", "))
        }
        Err(error) => format!(" ({}: open failed ({error}))", port.kind),
    }
}

fn port_statistics(device: Result<Arc<dyn Netdev>, Error>) -> String {
    let counters = match device {
        Ok(device) => device.counters(),
        Err(error) => return format!(", open failed ({error})"),
    };
    let counters = match counters {
        Ok(counters) => counters,
        Err(error) => return format!(", could not retrieve stats ({error})"),
    };
    let number = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
    let mut text = String::new();
    let mut line = |parts: &[(&str, Option<u64>)]| {
        let parts: Vec<_> = parts.iter().map(|(name, value)| format!("{name}:{}", number(*value))).collect();
        let _ = writeln!(text, "    {}", parts.join(" "));
    };
    line(&[
        ("RX packets", counters.rx_packets),
        ("errors", counters.rx_errors),
        ("dropped", counters.rx_dropped),
        ("overruns", counters.rx_over_errors),
        ("frame", counters.rx_frame_errors),
    ]);
    line(&[
        ("TX packets", counters.tx_packets),
        ("errors", counters.tx_errors),
        ("dropped", counters.tx_dropped),
        ("aborted", counters.tx_aborted_errors),
        ("carrier", counters.tx_carrier_errors),
    ]);
    line(&[("collisions", counters.collisions)]);
    let _ = writeln!(
        text,
        "    RX bytes:{}{}  TX bytes:{}{}",
        number(counters.rx_bytes),
        human(counters.rx_bytes),
        number(counters.tx_bytes),
        human(counters.tx_bytes)
    );
    let _ = writeln!(
        text,
        "    UPCALL packets:{} errors:{}",
        number(counters.upcall_packets),
        number(counters.upcall_errors)
    );
    text
}

/// ` (1.2 MiB)`, or nothing below a kibibyte.
fn human(bytes: Option<u64>) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some(bytes) = bytes else { return String::new() };
    let unit = UNITS.iter().find(|(_, size)| bytes >= *size);
    unit.map_or(String::new(), |(name, size)| format!(" ({:.1} {name})", bytes as f64 / *size as f64))
}
