//! Flows: dump, add, change, ask for, delete.

use super::{Done, Failed, Names, Session};
use crate::flow::{Flow, FlowDel, FlowGet, FlowPut, FlowStats, PutFlags, ufid_of};
use crate::{Datapath, PmdId};
use ::flow::action;
use ::flow::attr::{Attrs, Writer};
use ::flow::exact;
use ::flow::field;
use ::flow::id::{DpPort, OfPort, Ufid};
use ::flow::key::{Key, Mask, VLAN_CFI};
use ::flow::odp::attrs::code;
use ::flow::odp::format::Style;
use ::flow::odp::{self, NoNames, PortNames, RawKey, RawMask};
use ::flow::text::Scan;
use ::flow::time::Instant;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;
use sys::errno::Errno;

/// TCP flags as statistics show them: `SFPRU.ECN`.
pub fn tcp_flags_text(flags: u16) -> String {
    use ::flow::proto::tcp;
    const LETTERS: [(u16, &str); 12] = [
        (tcp::SYN, "S"),
        (tcp::FIN, "F"),
        (tcp::PSH, "P"),
        (tcp::RST, "R"),
        (tcp::URG, "U"),
        (tcp::ACK, "."),
        (tcp::ECE, "E"),
        (tcp::CWR, "C"),
        (tcp::NS, "N"),
        (0x200, "[200]"),
        (0x400, "[400]"),
        (0x800, "[800]"),
    ];
    if flags == 0 {
        return "none".to_owned();
    }
    LETTERS.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, letter)| *letter).collect()
}

/// `packets:1, bytes:64, used:0.001s, flags:S`
pub fn stats_text(stats: &FlowStats, now: Instant) -> String {
    let used = match stats.used {
        Some(used) => {
            let ms = now.millis().saturating_sub(used.millis());
            format!("{}.{:03}s", ms / 1000, ms % 1000)
        }
        None => "never".to_owned(),
    };
    let flags = if stats.tcp_flags == 0 {
        String::new()
    } else {
        format!(", flags:{}", tcp_flags_text(stats.tcp_flags))
    };
    format!("packets:{}, bytes:{}, used:{used}{flags}", stats.packets, stats.bytes)
}

/// The mask that is shown: of rules of traffic control all of a tag that must be there, whether they match it or not, as OVS
/// shows them.
fn shown_mask(flow: &Flow) -> Cow<'_, [u8]> {
    fn whole_tags(mask: &[u8], out: &mut Writer) {
        for attr in Attrs::new(mask).map_while(Result::ok) {
            match attr.kind {
                code::VLAN if attr.be16().is_ok_and(|tci| tci.get() & VLAN_CFI != 0) => {
                    out.put(attr.kind, &[u8::MAX; 2]);
                }
                code::ENCAP => out.nest(attr.kind, |out| whole_tags(attr.data, out)),
                _ => out.put(attr.kind, attr.data),
            }
        }
    }
    if flow.attrs.layer != "tc" {
        return Cow::Borrowed(&flow.mask.0);
    }
    let mut out = Writer::new();
    whole_tags(&flow.mask.0, &mut out);
    Cow::Owned(out.into_bytes())
}

/// A flow as dumps show it.
pub fn flow_text(flow: &Flow, names: &dyn PortNames, verbose: bool, now: Instant) -> String {
    let mut text = String::new();
    if verbose && flow.ufid_present {
        text += &format!("ufid:{}, ", flow.ufid);
    }
    text += &odp::format::flow(&flow.key.0, &shown_mask(flow), &Style::new(names, verbose));
    text += ", ";
    text += &stats_text(&flow.stats, now);
    if verbose {
        match (flow.attrs.offloaded, flow.attrs.layer) {
            (Some(_), "ovs") => text += ", offloaded:partial",
            (Some(_), _) => text += ", offloaded:yes",
            (None, _) => {}
        }
        text += &format!(", dp:{}", flow.attrs.layer);
    }
    text += ", actions:";
    text += &action::format::actions(&flow.actions, names);
    if verbose && !flow.attrs.extra.is_empty() {
        text += &format!(", dp-extra-info:{}", flow.attrs.extra);
    }
    text
}

/// Where a flow is, and if it is not in hardware, why.
fn placement(flow: &Flow) -> (&'static str, Option<&str>) {
    match (flow.attrs.layer, flow.attrs.offloaded) {
        ("ovs", None) => ("software", Some(flow.attrs.why.as_deref().unwrap_or("nothing is offloaded"))),
        ("ovs", Some(_)) => ("partial", None),
        (_, Some(_)) => ("hardware", None),
        (layer, None) => (layer, flow.attrs.why.as_deref()),
    }
}

fn why_text(flow: &Flow) -> String {
    let (placement, why) = placement(flow);
    let why = why.map_or(String::new(), |why| format!(", why:{why}"));
    format!(", placement:{placement}{why}")
}

/// A flow with its place for programs.
fn flow_json(flow: &Flow, names: &dyn PortNames, verbose: bool, now: Instant) -> Value {
    let (placement, why) = placement(flow);
    let used = flow.stats.used.map(|used| now.millis().saturating_sub(used.millis()));
    let mut row = json!({
        "flow": odp::format::flow(&flow.key.0, &flow.mask.0, &Style::new(names, verbose)),
        "actions": action::format::actions(&flow.actions, names),
        "packets": flow.stats.packets,
        "bytes": flow.stats.bytes,
        "used_ms": used,
        "tcp_flags": flow.stats.tcp_flags,
        "layer": flow.attrs.layer,
        "placement": placement,
    });
    if flow.ufid_present {
        row["ufid"] = flow.ufid.to_string().into();
    }
    if let Some(why) = why {
        row["why"] = why.into();
    }
    row
}

/// Which flows a dump shows, by where they are.
#[derive(Default)]
struct Types {
    ovs: bool,
    tc: bool,
    dpdk: bool,
    offloaded: bool,
    non_offloaded: bool,
    partially_offloaded: bool,
}

impl Types {
    const ALL: Self = Self {
        ovs: true,
        tc: true,
        dpdk: true,
        offloaded: true,
        non_offloaded: true,
        partially_offloaded: true,
    };

    /// Reads `type=…`; an error is the word that is none.
    fn parse(list: &str) -> Result<Self, &str> {
        let mut types = Self::default();
        for word in list.split(',').filter(|word| !word.is_empty()) {
            match word {
                "ovs" => types.ovs = true,
                "tc" => types.tc = true,
                "dpdk" => types.dpdk = true,
                "offloaded" => types.offloaded = true,
                "non-offloaded" => types.non_offloaded = true,
                "partially-offloaded" => types.partially_offloaded = true,
                "all" => types = Self::ALL,
                word => return Err(word),
            }
        }
        Ok(types)
    }

    fn pass(&self, flow: &Flow) -> bool {
        let (layer, offloaded) = (flow.attrs.layer, flow.attrs.offloaded.is_some());
        self.ovs && layer == "ovs"
            || self.tc && layer == "tc"
            || self.dpdk && layer == "dpdk"
            || self.offloaded && offloaded && layer != "ovs"
            || self.partially_offloaded && offloaded && layer == "ovs"
            || self.non_offloaded && !offloaded
    }
}

/// Datapath ports as a filter names them.
struct FilterNames(Names);

impl field::PortNames for FilterNames {
    fn name(&self, port: OfPort) -> Option<Cow<'_, str>> {
        self.0.name(DpPort(port.0.into())).map(Cow::Owned)
    }

    fn port(&self, name: &str) -> Option<OfPort> {
        PortNames::port(&self.0, name).and_then(|port| u16::try_from(port.0).ok()).map(OfPort)
    }
}

/// What a dump is asked for beside the datapath.
#[derive(Default)]
struct Query<'a> {
    filter: Option<&'a str>,
    types: Option<&'a str>,
    pmd: Option<PmdId>,
}

impl<'a> Query<'a> {
    /// Takes the query off the end of the arguments.
    fn take(session: &mut Session<'_>, args: &mut &[&'a str]) -> Result<Self, Failed> {
        let mut query = Self::default();
        while let [rest @ .., last] = *args {
            if let (Some(filter), None) = (last.strip_prefix("filter="), query.filter) {
                query.filter = Some(filter);
            } else if let (Some(types), None) = (last.strip_prefix("type="), query.types) {
                if !session.options.appctl {
                    let text = "Invalid argument 'type'. Use 'ovs-appctl dpctl/dump-flows' instead.";
                    return session.fail(None, text);
                }
                query.types = Some(types);
            } else if let Some(pmd) = last.strip_prefix("pmd=") {
                let core: i64 = pmd.parse().map_err(|_| Failed)?;
                query.pmd = Some(if core == -1 { PmdId::MAIN } else { PmdId(core as u32) });
            } else {
                break;
            }
            *args = rest;
        }
        Ok(query)
    }
}

/// Whether `flow` may match a packet of the filter's fields.
fn filter_passes(flow: &Flow, filter: &(Key, Mask)) -> bool {
    let Ok((key, _)) = odp::key_to_flow(&flow.key) else { return false };
    let mask = odp::mask_to_flow(&flow.mask, &key).map_or_else(|_| Mask::exact(), |(mask, _)| mask);
    let words = key.words().iter().zip(mask.0.words()).zip(filter.0.words().iter().zip(filter.1.0.words()));
    words.into_iter().all(|((key, mask), (wanted, looked_at))| (key ^ wanted) & mask & looked_at == 0)
}

pub(super) fn dump(session: &mut Session<'_>, mut args: &[&str]) -> Done {
    let query = Query::take(session, &mut args)?;
    let datapath = session.open(args, 2)?;
    let names = session.shown_names(&*datapath);
    let filter = match query.filter {
        Some(text) => {
            let parsed = exact::parse(text, &FilterNames(Names::of(&*datapath)));
            Some(parsed.or_else(|why| session.fail(None, format!("Failed to parse filter ({why})")))?)
        }
        None => None,
    };
    let types = match query.types.map(Types::parse) {
        None => Types::ALL,
        Some(Ok(types)) => types,
        Some(Err(word)) => {
            return session.fail(Some(Errno::EINVAL), format!("Failed to parse type ({word})"));
        }
    };
    let (now, verbose) = (session.env.now(), session.options.verbosity > 0);
    let mut titled = PmdId::NONE;
    let mut listed = (session.json && session.options.why).then(Vec::new);
    let mut walk = datapath.flow_dump(false);
    let mut batch = Vec::new();
    loop {
        batch.clear();
        let more = match walk.next(64, &mut batch) {
            Ok(more) => more,
            Err(error) => return session.fail(Some(error.errno()), "Failed to dump flows from datapath"),
        };
        for flow in &batch {
            if filter.as_ref().is_some_and(|filter| !filter_passes(flow, filter)) {
                continue;
            }
            if query.pmd.is_none() && titled != flow.pmd && listed.is_none() {
                titled = flow.pmd;
                session.print(pmd_title(flow.pmd));
            }
            if query.pmd.is_some_and(|pmd| pmd != flow.pmd) || !types.pass(flow) {
                continue;
            }
            if let Some(listed) = &mut listed {
                listed.push(flow_json(flow, &names, verbose, now));
            } else {
                let mut line = flow_text(flow, &names, verbose, now);
                if session.options.why {
                    line += &why_text(flow);
                }
                session.print(line + "\n");
            }
        }
        if !more {
            session.value = listed.map(Value::Array);
            return Ok(());
        }
    }
}

fn pmd_title(pmd: PmdId) -> String {
    if pmd == PmdId::MAIN {
        "flow-dump from the main thread:\n".to_owned()
    } else {
        format!("flow-dump from pmd on cpu core: {}\n", pmd.0)
    }
}

/// A flow from text.
struct Parsed {
    key: RawKey,
    mask: RawMask,
    /// Given, or computed.
    ufid: Option<Ufid>,
    given: bool,
}

fn parse_flow(
    session: &mut Session<'_>,
    datapath: &dyn Datapath,
    text: &str,
    what: Option<&str>,
) -> Result<Parsed, Failed> {
    let mut scan = Scan::new(text);
    let mut ufid = None;
    if text.starts_with("ufid:") {
        ufid = odp::parse::ufid(&mut scan);
        if ufid.is_none() {
            return session.fail(Some(Errno::EINVAL), "parsing flow ufid");
        }
    }
    let given = ufid.is_some();
    match odp::parse::flow(scan.rest(), &Names::of(datapath)) {
        Ok((key, mask)) => {
            // A datapath of our own process is asked by UFID, so that hardware can be.
            let ufid = ufid.or_else(|| session.options.appctl.then(|| ufid_of(&key.0)));
            Ok(Parsed { key, mask, ufid, given })
        }
        Err(error) => {
            let text = what.map_or(error.to_string(), |what| format!("{what} ({error})"));
            session.fail(Some(if error.too_long { Errno::E2BIG } else { Errno::EINVAL }), text)
        }
    }
}

fn put(
    session: &mut Session<'_>,
    datapath: &dyn Datapath,
    flow: &str,
    actions: &str,
    flags: PutFlags,
) -> Done {
    let flow = parse_flow(session, datapath, flow, Some("parsing flow key"))?;
    let Ok(actions) = action::parse::actions(actions, &NoNames) else {
        return session.fail(Some(Errno::EINVAL), "parsing actions");
    };
    let put = FlowPut {
        flags,
        key: &flow.key,
        mask: (!flow.mask.0.is_empty()).then_some(&flow.mask),
        ufid: flow.ufid,
        pmd: PmdId::NONE,
        actions: &actions,
    };
    match datapath.flow_put(&put) {
        Ok(before) => {
            if session.options.statistics {
                let now = session.env.now();
                session.print(stats_text(&before.unwrap_or_default(), now) + "\n");
            }
            Ok(())
        }
        Err(error) => session.fail(Some(error.errno()), "updating flow table"),
    }
}

fn put_args(session: &mut Session<'_>, args: &[&str], flags: PutFlags) -> Done {
    let datapath = session.open(args, 4)?;
    match args {
        [.., flow, actions] => put(session, &*datapath, flow, actions, flags),
        _ => session.fail(Some(Errno::EINVAL), "parsing flow key"),
    }
}

pub(super) fn add(session: &mut Session<'_>, args: &[&str]) -> Done {
    put_args(session, args, PutFlags::CREATE)
}

pub(super) fn modify(session: &mut Session<'_>, args: &[&str]) -> Done {
    let mut flags = PutFlags::MODIFY;
    flags.set(PutFlags::CREATE, session.options.may_create);
    flags.set(PutFlags::ZERO_STATS, session.options.zero_statistics);
    put_args(session, args, flags)
}

pub(super) fn get(session: &mut Session<'_>, args: &[&str]) -> Done {
    let datapath = session.open(args, 3)?;
    let text = args.last().copied().unwrap_or_default();
    let Some(ufid) = odp::parse::ufid(&mut Scan::new(text)) else {
        // Text that is no UFID at all is told, and no failure.
        let malformed = text.starts_with("ufid:");
        session.error(malformed.then_some(Errno::EINVAL), "parsing flow ufid");
        return Ok(());
    };
    let names = session.shown_names(&*datapath);
    match datapath.flow_get(&FlowGet { key: &RawKey::default(), ufid: Some(ufid), pmd: PmdId::NONE }) {
        Ok(flow) => {
            let (now, verbose) = (session.env.now(), session.options.verbosity > 0);
            session.print(flow_text(&flow, &names, verbose, now) + "\n");
            Ok(())
        }
        Err(error) => session.fail(Some(error.errno()), "getting flow"),
    }
}

fn delete_one(session: &mut Session<'_>, datapath: &dyn Datapath, text: &str) -> Done {
    let flow = parse_flow(session, datapath, text, None)?;
    let terse = !session.options.statistics;
    match datapath.flow_del(&FlowDel { key: &flow.key, ufid: flow.ufid, pmd: PmdId::NONE, terse }) {
        Ok(stats) => {
            if session.options.statistics {
                let now = session.env.now();
                session.print(stats_text(&stats, now) + "\n");
            }
            Ok(())
        }
        Err(error) => {
            session.error(Some(error.errno()), "deleting flow");
            if error.errno() == Errno::ENOENT && !flow.given {
                session.print("Perhaps you need to specify a UFID?\n");
            }
            Err(Failed)
        }
    }
}

pub(super) fn delete(session: &mut Session<'_>, args: &[&str]) -> Done {
    let datapath = session.open(args, 3)?;
    delete_one(session, &*datapath, args.last().copied().unwrap_or_default())
}

/// What a line of a file of flows asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineCommand {
    Add,
    Modify,
    Delete,
}

impl LineCommand {
    /// The command that `word` begins like; an empty word is none.
    fn from_word(word: &str) -> Option<Self> {
        [("add", Self::Add), ("delete", Self::Delete), ("modify", Self::Modify)]
            .into_iter()
            .find(|(name, _)| name.starts_with(word))
            .map(|(_, command)| command)
    }
}

/// Command, flow and actions of a line.
fn split_line(line: &str, default: LineCommand) -> (LineCommand, Option<&str>, Option<&str>) {
    const BLANKS: &[char] = &[' ', '\t', '\r', '\n'];
    let line = line.trim_start_matches(BLANKS);
    let word_len = line.find(|c| BLANKS.contains(&c) || c == ',').unwrap_or(line.len());
    let (command, rest) = match LineCommand::from_word(&line[..word_len]) {
        Some(command) => (command, &line[word_len..]),
        None => (default, line),
    };
    let rest = rest.trim_start_matches(BLANKS);
    let flow_len = rest.find(BLANKS).unwrap_or(rest.len());
    let (flow, actions) = rest.split_at(flow_len);
    let actions = actions.trim_start_matches(BLANKS);
    let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
    (command, some(flow), some(flow).and(some(actions)))
}

fn read_file(name: &str) -> std::io::Result<String> {
    let mut text = String::new();
    if name == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(name)?;
    }
    Ok(text)
}

fn process_file(session: &mut Session<'_>, args: &[&str], default: LineCommand) -> Done {
    let name = args.last().copied().unwrap_or_default();
    let datapath: Arc<dyn Datapath> = session.open(args, 4)?;
    let text = match read_file(name) {
        Ok(text) => text,
        Err(error) => return session.fail(Some(error.into()), format!("Opening file \"{name}\" failed")),
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        if line.trim().is_empty() {
            continue;
        }
        // A line that fails says so; the others go on.
        let _ = match split_line(line, default) {
            (LineCommand::Add, Some(flow), Some(actions)) => {
                put(session, &*datapath, flow, actions, PutFlags::CREATE)
            }
            (LineCommand::Modify, Some(flow), Some(actions)) => {
                put(session, &*datapath, flow, actions, PutFlags::MODIFY)
            }
            (LineCommand::Delete, Some(flow), None) => delete_one(session, &*datapath, flow),
            _ => session.fail(None, format!("Failed parsing line number {}, skipped!", number + 1)),
        };
    }
    Ok(())
}

pub(super) fn add_file(session: &mut Session<'_>, args: &[&str]) -> Done {
    process_file(session, args, LineCommand::Add)
}

pub(super) fn modify_file(session: &mut Session<'_>, args: &[&str]) -> Done {
    process_file(session, args, LineCommand::Modify)
}

pub(super) fn delete_all(session: &mut Session<'_>, args: &[&str]) -> Done {
    let names_file = args.len() > 1 || args.first().is_some_and(|first| !session.exists(first));
    if names_file {
        return process_file(session, args, LineCommand::Delete);
    }
    let datapath = session.open(args, 2)?;
    datapath.flow_flush().or_else(|error| session.fail(Some(error.errno()), "deleting all flows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn statistics_as_text() {
        let now = Instant::from_millis(5000);
        let mut stats = FlowStats {
            packets: 3,
            bytes: 180,
            used: Some(now - Duration::from_millis(1234)),
            tcp_flags: 0x12,
        };
        assert_eq!(stats_text(&stats, now), "packets:3, bytes:180, used:1.234s, flags:S.");
        (stats.used, stats.tcp_flags) = (None, 0);
        assert_eq!(stats_text(&stats, now), "packets:3, bytes:180, used:never");
    }

    #[test]
    fn rules_of_traffic_control_are_shown_with_all_of_their_tags() {
        let text = "in_port(1),eth_type(0x88a8),vlan(vid=5/0xfff,pcp=0/0x0,cfi=1/1),encap(eth_type(0x8100),vlan(vid=0/0,pcp=3/7,cfi=1/1),encap(eth_type(0x0800),ipv4(frag=no)))";
        let shown_as = |text: &str, layer| {
            let (key, mask) = odp::parse::flow(text, &NoNames).unwrap();
            let sighting =
                crate::flow::Sighting { ufid: Ufid([0; 16]), pmd: PmdId::NONE, stats: FlowStats::default() };
            let mut flow = Flow { key, mask, ..sighting.into() };
            flow.attrs.layer = layer;
            flow_text(&flow, &NoNames, false, Instant::ZERO)
        };
        let shown = |layer| shown_as(text, layer);
        let line = |tags| format!("in_port(1),{tags}, packets:0, bytes:0, used:never, actions:drop");
        assert_eq!(
            shown("ovs"),
            line(
                "eth_type(0x88a8),vlan(vid=5),encap(eth_type(0x8100),vlan(pcp=3),encap(eth_type(0x0800),ipv4(frag=no)))"
            )
        );
        assert_eq!(
            shown("tc"),
            line(
                "eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=0,pcp=3),encap(eth_type(0x0800),ipv4(frag=no)))"
            )
        );
        // Behind the last tag that is looked at, the EtherType may be one of a tag.
        let behind = "eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),encap())";
        let unseen = behind.replace(",encap())", ",vlan(vid=0/0,pcp=0/0,cfi=0/0),encap())");
        assert_eq!(shown_as(&format!("in_port(1),{unseen}"), "tc"), line(behind));
    }

    #[test]
    fn lines_of_files() {
        let add = LineCommand::Add;
        assert!(split_line("in_port(1) 2", add) == (add, Some("in_port(1)"), Some("2")));
        assert!(split_line("  delete in_port(1)", add) == (LineCommand::Delete, Some("in_port(1)"), None));
        assert!(
            split_line("modify in_port(1) 2,3 ", add)
                == (LineCommand::Modify, Some("in_port(1)"), Some("2,3 "))
        );
        assert!(split_line("add", add) == (add, None, None));
    }
}
