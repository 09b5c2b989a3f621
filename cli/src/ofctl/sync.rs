//! `replace-flows` and `diff-flows`: two sets of flows, and what makes one out of the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use flow::id::TableId;
use flow::mini::Match;
use openflow::action::{self, OfAction};
use openflow::msg::flow_mod::{ALL_TABLES, FlowCommand, FlowFlags, FlowMod};
use openflow::msg::flow_stats::FlowStatsRequest;
use openflow::names::Names;
use openflow::parse::flow::{Purpose, flow_mods};
use openflow::protocol::Protocols;

use super::vconn::Vconn;
use super::{Context, Fatal, Outcome, bundles, die, flows, sayln};

/// What makes a flow this flow: table, priority (the highest first) and match, as text so that there is an order.
type Key = (u8, std::cmp::Reverse<u16>, String);

/// What a flow does, without what cannot be asked of a switch.
#[derive(Clone, PartialEq)]
struct Version {
    cookie: u64,
    idle_timeout: u16,
    hard_timeout: u16,
    importance: u16,
    /// Not compared: a switch does not tell them in every version.
    flags: FlowFlags,
    actions: Arc<[OfAction]>,
}

impl Version {
    /// Whether two flows do the same, however their actions are spelt on the wire.
    fn same(&self, other: &Self) -> bool {
        let text = |version: &Self| action::text(&version.actions, &Names::default()).to_string();
        self.cookie == other.cookie
            && self.idle_timeout == other.idle_timeout
            && self.hard_timeout == other.hard_timeout
            && self.importance == other.importance
            && text(self) == text(other)
    }
}

/// A flow in up to two versions.
struct Entry {
    table: TableId,
    priority: u16,
    matching: Match,
    versions: [Option<Version>; 2],
}

#[derive(Default)]
struct Entries(BTreeMap<Key, Entry>);

impl Entries {
    fn insert(&mut self, side: usize, table: TableId, priority: u16, matching: Match, version: Version) {
        let text = openflow::matching::text(&matching.expand(), -1, &Names::default());
        let key = (table.0, std::cmp::Reverse(priority), text);
        let entry =
            self.0.entry(key).or_insert_with(|| Entry { table, priority, matching, versions: [None, None] });
        entry.versions[side] = Some(version);
    }

    fn add_mods(&mut self, side: usize, mods: Vec<FlowMod>) {
        for fm in mods {
            let table = if fm.table_id == ALL_TABLES { TableId(0) } else { fm.table_id };
            let version = Version {
                cookie: fm.new_cookie,
                idle_timeout: fm.idle_timeout,
                hard_timeout: fm.hard_timeout,
                importance: fm.importance,
                flags: fm.flags & FlowFlags::SEND_FLOW_REM,
                actions: fm.actions,
            };
            self.insert(side, table, fm.priority, fm.matching, version);
        }
    }

    fn add_switch(
        &mut self,
        side: usize,
        context: &Context,
        vconn: &mut Vconn,
        protocol: Protocols,
    ) -> Outcome {
        let all = FlowStatsRequest::default();
        for flow in flows::fetch(context, vconn, &all, protocol)? {
            let version = Version {
                cookie: flow.cookie,
                idle_timeout: flow.idle_timeout,
                hard_timeout: flow.hard_timeout,
                importance: flow.importance,
                flags: FlowFlags::empty(),
                actions: flow.actions,
            };
            self.insert(side, flow.table_id, flow.priority, flow.matching, version);
        }
        Ok(())
    }
}

fn read_mods(file: &str, names: &Names) -> Outcome<(Vec<FlowMod>, Protocols)> {
    let text = match flows::read_file(file) {
        Ok(text) => text,
        Err(Fatal::Text(text)) => die!("{}", text.replacen("open failed", "open", 1)),
        Err(other) => return Err(other),
    };
    Ok(flow_mods(&text, file, Purpose::Mod(FlowCommand::Add), names)?)
}

impl Entry {
    fn request(&self, side: usize, command: FlowCommand) -> Option<FlowMod> {
        let version = self.versions[side].clone()?;
        let deletes = command.is_delete();
        Some(FlowMod {
            command,
            table_id: self.table,
            priority: self.priority,
            matching: self.matching.clone(),
            new_cookie: version.cookie,
            modify_cookie: true,
            idle_timeout: version.idle_timeout,
            hard_timeout: version.hard_timeout,
            importance: version.importance,
            flags: version.flags,
            actions: if deletes { Arc::from([]) } else { version.actions },
            ..FlowMod::default()
        })
    }

    fn text(&self, side: usize, names: &Names) -> Option<String> {
        let version = self.versions[side].as_ref()?;
        let mut text = String::new();
        if self.table != TableId(0) {
            text.push_str(&format!("table={} ", self.table));
        }
        text.push_str(&openflow::matching::text(&self.matching.expand(), self.priority.into(), names));
        if version.cookie != 0 {
            text.push_str(&format!(" cookie={:#x}", version.cookie));
        }
        for (name, value) in [
            ("idle_timeout", version.idle_timeout),
            ("hard_timeout", version.hard_timeout),
            ("importance", version.importance),
        ] {
            if value != 0 {
                text.push_str(&format!(" {name}={value}"));
            }
        }
        text.push_str(&format!(" actions={}", action::text(&version.actions, names)));
        Some(text)
    }
}

const FILE: usize = 0;
const SWITCH: usize = 1;

pub(super) fn replace_flows(context: &mut Context) -> Outcome {
    let (switch, file) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let names = context.accept(&switch)?;
    let (mods, usable) = read_mods(&file, &names)?;
    let mut vconn = context.open(&switch)?;
    let protocol = context.set_dump_format(&mut vconn, usable)?;
    let mut entries = Entries::default();
    entries.add_mods(FILE, mods);
    entries.add_switch(SWITCH, context, &mut vconn, protocol)?;

    let mut requests = Vec::new();
    let entries: Vec<&Entry> = entries.0.values().collect();
    for table in entries.chunk_by(|a, b| a.table == b.table) {
        for fm in changes(table, context.options.readd) {
            let xid = vconn.next_xid();
            requests.push(fm.encode(protocol, xid));
        }
    }
    if context.options.bundle {
        bundles::transact(context, &mut vconn, &requests)
    } else {
        context.transact_all(&mut vconn, &requests)
    }
}

/// What makes a switch's table as the file says: first what must go, then what must be there.
fn changes(table: &[&Entry], readd: bool) -> Vec<FlowMod> {
    let gone = table.iter().filter(|entry| entry.versions[FILE].is_none());
    let gone = gone.filter_map(|entry| entry.request(SWITCH, FlowCommand::DeleteStrict));
    let changed = table.iter().filter(|entry| match &entry.versions {
        [Some(wanted), Some(there)] => readd || !there.same(wanted),
        [wanted, _] => wanted.is_some(),
    });
    gone.chain(changed.filter_map(|entry| entry.request(FILE, FlowCommand::Add))).collect()
}

/// Reads a file or a switch, whichever the name is; gives the names to print with.
fn read_source(
    context: &mut Context,
    source: &str,
    side: usize,
    entries: &mut Entries,
    names: Rc<Names>,
) -> Outcome<Rc<Names>> {
    let is_file = source.starts_with(['/', '.']) || !source.contains(':') && Path::new(source).exists();
    if is_file {
        entries.add_mods(side, read_mods(source, &names)?.0);
        return Ok(names);
    }
    let mut vconn = context.open(source)?;
    let protocol = context.set_dump_format(&mut vconn, Protocols::ANY)?;
    entries.add_switch(side, context, &mut vconn, protocol)?;
    if names.ports.is_empty() { context.show(source) } else { Ok(names) }
}

pub(super) fn diff_flows(context: &mut Context) -> Outcome {
    let (first, second) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let mut entries = Entries::default();
    let names = read_source(context, &first, 0, &mut entries, Rc::default())?;
    let names = read_source(context, &second, 1, &mut entries, names)?;
    let mut differ = false;
    for entry in entries.0.values() {
        if let [Some(a), Some(b)] = &entry.versions
            && a.same(b)
        {
            continue;
        }
        differ = true;
        for (side, sign) in [(0, '-'), (1, '+')] {
            if let Some(text) = entry.text(side, &names) {
                sayln!("{sign}{text}");
            }
        }
    }
    if differ { Err(Fatal::Exit(2)) } else { Ok(()) }
}
