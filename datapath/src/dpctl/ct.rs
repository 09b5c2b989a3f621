//! Connections: dumps, flushes, counts and settings of the tracker.

use super::{Done, Failed, Session, leading_number};
use crate::conntrack::entry::{ProtoInfo, TcpState};
use crate::conntrack::{Conntrack, Entry, Walk, flush};
use crate::{Datapath, Error};
use ::flow::ct::{CtMatch, leading_zone};
use ::flow::id::Zone;
use ::flow::proto::ip;
use std::collections::BTreeMap;
use sys::errno::Errno;

/// The tracker of a datapath, or the refusal of one without.
pub(super) fn tracker(datapath: &dyn Datapath) -> Result<&dyn Conntrack, Error> {
    datapath.conntrack().ok_or(Error::Unsupported("conntrack"))
}

/// Takes `zone=N` off the end of the arguments.
fn take_zone(args: &mut &[&str]) -> Option<Zone> {
    let [rest @ .., last] = *args else { return None };
    let zone = leading_zone(last.strip_prefix("zone=")?)?;
    *args = rest;
    Some(zone)
}

/// Prints what a walk gives, as `line` says it.
fn print_walk<T>(
    session: &mut Session<'_>,
    walk: Walk<'_, T>,
    what: &str,
    line: impl Fn(&T) -> String,
) -> Done {
    for item in walk {
        match item {
            Ok(item) => session.print(line(&item) + "\n"),
            Err(error) => return session.fail(Some(error.errno()), format!("dumping {what}")),
        }
    }
    Ok(())
}

pub(super) fn dump(session: &mut Session<'_>, mut args: &[&str]) -> Done {
    let zone = take_zone(&mut args);
    let datapath = session.open(args, 2)?;
    let walk = tracker(&*datapath).and_then(|tracker| tracker.dump(zone));
    let walk = walk.or_else(|error| session.fail(Some(error.errno()), "starting conntrack dump"))?;
    let (verbose, statistics) = (session.options.verbosity > 0, session.options.statistics);
    print_walk(session, walk, "conntrack entry", |entry| entry.text(verbose, statistics))
}

pub(super) fn dump_expectations(session: &mut Session<'_>, mut args: &[&str]) -> Done {
    let zone = take_zone(&mut args);
    let datapath = session.open(args, 2)?;
    let walk = tracker(&*datapath).and_then(|tracker| tracker.expectations(zone));
    let walk =
        walk.or_else(|error| session.fail(Some(error.errno()), "starting conntrack expectations dump"))?;
    print_walk(session, walk, "conntrack expectation", |expectation| expectation.text())
}

pub(super) fn flush_connections(session: &mut Session<'_>, args: &[&str]) -> Done {
    let named = usize::from(args.first().is_some_and(|first| session.exists(first)));
    let parsed = CtMatch::parse(&args[named..]);
    let (which, zone) = parsed.or_else(|error| session.fail(Some(Errno::EINVAL), error))?;
    let datapath = session.open(args, 5);
    let datapath = datapath.or_else(|Failed| session.fail(Some(Errno::EINVAL), "Cannot open dpif"))?;
    flush::flush(&*datapath, zone, Some(&which))
        .or_else(|error| session.fail(Some(error.errno()), "failed to flush conntrack"))
}

/// Connections by protocol, in the order in which they are shown.
const PROTOCOLS: [(u8, &str); 7] = [
    (ip::TCP, "TCP"),
    (ip::UDP, "UDP"),
    (ip::UDPLITE, "UDPLITE"),
    (ip::SCTP, "SCTP"),
    (ip::ICMP, "ICMP"),
    (33, "DCCP"),
    (ip::IGMP, "IGMP"),
];

#[derive(Default)]
struct Counts {
    total: u32,
    protocols: BTreeMap<u8, u32>,
    tcp_states: BTreeMap<TcpState, u32>,
}

impl Counts {
    fn count(&mut self, entry: &Entry) {
        self.total += 1;
        *self.protocols.entry(entry.orig.ip_proto).or_default() += 1;
        if entry.orig.ip_proto == ip::TCP {
            let state = entry.proto.as_ref().and_then(ProtoInfo::tcp_state).unwrap_or(TcpState::Closed);
            *self.tcp_states.entry(state).or_default() += 1;
        }
    }

    fn text(&self, verbose: bool) -> String {
        let mut text = format!("Connections Stats:\n    Total: {}\n", self.total);
        for (protocol, name) in PROTOCOLS {
            let Some(count) = self.protocols.get(&protocol) else { continue };
            text += &format!("  {name}: {count}\n");
            if protocol == ip::TCP && verbose {
                text += "    Conn per TCP states:\n";
                for (state, count) in &self.tcp_states {
                    text += &format!("\t  [{}]={count}\n", state.name());
                }
            }
        }
        // Those of ICMPv6 count in the total alone.
        let known =
            |protocol: &u8| *protocol == ip::ICMPV6 || PROTOCOLS.iter().any(|(known, _)| known == protocol);
        let others: u32 =
            self.protocols.iter().filter(|(protocol, _)| !known(protocol)).map(|(_, count)| count).sum();
        if others != 0 {
            text += &format!("  Other: {others}\n");
        }
        text
    }
}

pub(super) fn stats(session: &mut Session<'_>, mut args: &[&str]) -> Done {
    let (mut zone, mut verbose) = (None, session.options.verbosity > 0);
    while let [rest @ .., last] = args {
        if last.starts_with("verbose") {
            (verbose, args) = (true, rest);
        } else if let Some(taken) = take_zone(&mut args) {
            zone = Some(taken);
        } else {
            break;
        }
    }
    let datapath = session.open(args, 2)?;
    let walk = tracker(&*datapath).and_then(|tracker| tracker.dump(zone));
    let walk = walk.or_else(|error| session.fail(Some(error.errno()), "starting conntrack dump"))?;
    let mut counts = Counts::default();
    let done = count_walk(session, walk, |_, entry| counts.count(entry));
    session.print(counts.text(verbose));
    done
}

/// Gives the entries of a walk to `each`; what was seen before an error counts, too.
fn count_walk(
    session: &mut Session<'_>,
    walk: Walk<'_, Entry>,
    mut each: impl FnMut(&mut Session<'_>, &Entry),
) -> Done {
    for entry in walk {
        match entry {
            Ok(entry) => each(session, &entry),
            Err(error) => return session.fail(Some(error.errno()), "dumping conntrack entry"),
        }
    }
    Ok(())
}

pub(super) fn buckets(session: &mut Session<'_>, mut args: &[&str]) -> Done {
    let mut above = 0;
    if let [rest @ .., last] = args
        && let Some(number) = last.strip_prefix("gt=").and_then(leading_number::<u16>)
    {
        (above, args) = (u32::from(number), rest);
    }
    let datapath = session.open(args, 2)?;
    let walk = tracker(&*datapath).and_then(|tracker| Ok((tracker.buckets(), tracker.dump(None)?)));
    let (buckets, walk) =
        walk.or_else(|error| session.fail(Some(error.errno()), "starting conntrack dump"))?;
    let Some(buckets) = buckets else {
        session.print("Command is available for UserSpace ConnTracker only.\n");
        return Ok(());
    };
    session.print(format!("Total Buckets: {buckets}\n"));
    let (mut total, mut counts) = (0_u32, vec![0_u32; buckets as usize]);
    let done = count_walk(session, walk, |session, entry| {
        total += 1;
        match counts.get_mut(entry.bucket as usize) {
            Some(count) => *count += 1,
            None if buckets > 0 => {
                session.print(format!("Bucket nr out of range: {} >= {buckets}\n", entry.bucket));
            }
            None => {}
        }
    });
    session.print(format!("Current Connections: {total}\n\n"));
    if buckets > 0 && total > 0 {
        session.print(buckets_text(&counts, above));
    }
    done
}

/// The table of `ct-bkts`.
fn buckets_text(counts: &[u32], above: u32) -> String {
    const PER_ROW: usize = 8;
    let line = format!("+{}+{}+\n", "-".repeat(11), "-".repeat(41));
    let mut text =
        format!("{line}|  Buckets  |         Connections per Buckets         |\n{}", line.trim_end());
    for (row, counts) in counts.chunks(PER_ROW).enumerate() {
        text += &format!("\n {:3}..{:3}   | ", row * PER_ROW, (row + 1) * PER_ROW - 1);
        for count in counts {
            text += &if *count > above { format!("{count:5}") } else { format!("{:>5}", ".") };
        }
    }
    text + "\n\n"
}

/// Reads a setting of the tracker and prints it as `text` says.
fn get<T>(
    session: &mut Session<'_>,
    args: &[&str],
    failed: &str,
    get: impl FnOnce(&dyn Conntrack) -> Result<T, Error>,
    text: impl FnOnce(T) -> String,
) -> Done {
    let datapath = session.open(args, 2)?;
    match tracker(&*datapath).and_then(get) {
        Ok(value) => session.print(text(value)),
        Err(error) => return session.fail(Some(error.errno()), failed),
    }
    Ok(())
}

/// Changes a setting of the tracker and prints `done`.
fn set(
    session: &mut Session<'_>,
    datapath: &dyn Datapath,
    failed: &str,
    done: &str,
    set: impl FnOnce(&dyn Conntrack) -> Result<(), Error>,
) -> Done {
    match tracker(datapath).and_then(set) {
        Ok(()) => session.print(done),
        Err(error) => return session.fail(Some(error.errno()), failed),
    }
    Ok(())
}

pub(super) fn set_max(session: &mut Session<'_>, args: &[&str]) -> Done {
    let datapath = session.open(args, 3)?;
    let Some(max) = args.last().and_then(|text| leading_number(text)) else {
        return session.fail(Some(Errno::EINVAL), "maxconns missing or malformed");
    };
    set(session, &*datapath, "ct set maxconns failed", "setting maxconns successful", |tracker| {
        tracker.set_max_connections(max)
    })
}

pub(super) fn get_max(session: &mut Session<'_>, args: &[&str]) -> Done {
    get(
        session,
        args,
        "maxconns could not be retrieved",
        |tracker| tracker.max_connections(),
        |max| format!("{max}\n"),
    )
}

pub(super) fn get_count(session: &mut Session<'_>, args: &[&str]) -> Done {
    get(session, args, "nconns could not be retrieved", |tracker| tracker.connections(), |n| format!("{n}\n"))
}

fn set_seq_check(session: &mut Session<'_>, args: &[&str], on: bool) -> Done {
    let datapath = session.open(args, 3)?;
    let what = format!("{} TCP sequence checking", if on { "enabling" } else { "disabling" });
    let (failed, done) = (format!("{what} failed"), format!("{what} successful"));
    set(session, &*datapath, &failed, &done, |tracker| tracker.set_tcp_seq_check(on))
}

pub(super) fn enable_seq_check(session: &mut Session<'_>, args: &[&str]) -> Done {
    set_seq_check(session, args, true)
}

pub(super) fn disable_seq_check(session: &mut Session<'_>, args: &[&str]) -> Done {
    set_seq_check(session, args, false)
}

pub(super) fn get_seq_check(session: &mut Session<'_>, args: &[&str]) -> Done {
    get(
        session,
        args,
        "TCP sequence checking query failed",
        |tracker| tracker.tcp_seq_check(),
        |on| format!("TCP sequence checking: {}\n", if on { "enabled" } else { "disabled" }),
    )
}

pub(super) fn get_sweep_interval(session: &mut Session<'_>, args: &[&str]) -> Done {
    get(
        session,
        args,
        "failed to get the sweep interval",
        |tracker| tracker.sweep_interval(),
        |ms| ms.to_string(),
    )
}

pub(super) fn set_sweep_interval(session: &mut Session<'_>, args: &[&str]) -> Done {
    let datapath = session.open(args, 3)?;
    let Some(ms) = args.last().and_then(|text| leading_number(text)).filter(|ms| *ms > 0) else {
        return session.fail(Some(Errno::EINVAL), "invalid sweep value");
    };
    let (failed, done) = ("failed to set the sweep interval", "setting sweep interval successful\n");
    set(session, &*datapath, failed, done, |tracker| tracker.set_sweep_interval(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::Tuple;
    use crate::conntrack::entry::TcpPeer;

    fn entry(ip_proto: u8, state: Option<TcpState>) -> Entry {
        let addr = std::net::Ipv4Addr::LOCALHOST.into();
        let tuple = Tuple { src: addr, dst: addr, ip_proto, l4: Tuple::no_l4(ip_proto) };
        let mut entry = Entry::new(tuple, tuple);
        entry.proto = state.map(|state| {
            let peer = TcpPeer { state, wscale: 0, flags: 0 };
            ProtoInfo::Tcp { orig: peer, reply: peer }
        });
        entry
    }

    #[test]
    fn counts_by_protocol() {
        let mut counts = Counts::default();
        let tcp = [TcpState::SynRecv, TcpState::Established, TcpState::FinWait2].map(Some);
        for (ip_proto, state) in
            tcp.map(|state| (6, state)).into_iter().chain([17, 17, 1, 58, 47].map(|p| (p, None)))
        {
            counts.count(&entry(ip_proto, state));
        }
        let tail = "  UDP: 2\n  ICMP: 1\n  Other: 1\n";
        let head = "Connections Stats:\n    Total: 8\n  TCP: 3\n";
        assert_eq!(counts.text(false), format!("{head}{tail}"));
        let states = "    Conn per TCP states:\n\t  [ESTABLISHED]=2\n\t  [TIME_WAIT]=1\n";
        assert_eq!(counts.text(true), format!("{head}{states}{tail}"));
        assert_eq!(Counts::default().text(true), "Connections Stats:\n    Total: 0\n");
    }

    #[test]
    fn a_table_of_buckets() {
        let mut counts = vec![0; 9];
        (counts[1], counts[8]) = (2, 1);
        let line = "+-----------+-----------------------------------------+";
        assert_eq!(
            buckets_text(&counts, 1),
            format!(
                "{line}\n|  Buckets  |         Connections per Buckets         |\n{line}\n   \
                 0..  7   |     .    2    .    .    .    .    .    .\n   8.. 15   |     .\n\n"
            )
        );
    }
}
