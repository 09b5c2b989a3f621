use std::sync::Arc;

use flow::field::Subfield;
use flow::id::{DpMeter, GroupId, OfPort, TableId};
use flow::key::Key;
use flow::mini::{FullMatch, Match};
use flow::time::Instant;
use openflow::action::{OfAction, Output, Parse, parse_list};
use openflow::error::OfError;
use openflow::msg::flow_mod::{FlowCommand, FlowFlags, FlowMod};
use openflow::msg::group::{Bucket, GroupCommand, GroupMod, GroupProps, GroupType};
use openflow::msg::meter::{MeterCommand, MeterConfig, MeterFeatures, MeterFlags, MeterMod};
use openflow::names::Names;

use openflow::msg::tlv::{TlvCommand, TlvMap, TlvTableMod};

use super::bundle::{BundleFailure, BundleOp, PacketOuts};
use super::event::{Event, FlowChange};
use super::group::ALL_GROUPS;
use super::group_mod::GroupOp;
use super::meter::DatapathMeters;
use super::rule::ANY_GROUP;
use super::select::Criteria;
use super::switch::{Ofproto, TableConfig};
use super::table::ALL_TABLES;
use super::version::Version;

fn at(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

fn switch() -> Ofproto {
    let mut switch = Ofproto::new("br0", at(0));
    switch.take_events();
    switch
}

fn output(port: u16) -> OfAction {
    OfAction::Output(Output { port: OfPort(port), max_len: 0 })
}

fn in_port(port: u32) -> FullMatch {
    let mut m = FullMatch::default();
    (m.key.in_port, m.mask.0.in_port) = (port, u32::MAX);
    m
}

fn request(command: FlowCommand, priority: u16, matching: FullMatch, actions: Vec<OfAction>) -> FlowMod {
    FlowMod {
        command,
        table_id: TableId(0),
        priority,
        matching: Match::new(&matching),
        actions: actions.into(),
        ..FlowMod::default()
    }
}

fn add(priority: u16, matching: FullMatch, port: u16) -> FlowMod {
    request(FlowCommand::Add, priority, matching, vec![output(port)])
}

/// Priority, cookie and first output of each rule of table 0, by age.
fn flows(switch: &Ofproto) -> Vec<(i32, u64, u16)> {
    let mut rules = switch.select(&Criteria::all(TableId(0)), false).expect("table 0");
    rules.sort_by_key(|rule| rule.serial);
    let port = |actions: &[OfAction]| match actions.first() {
        Some(OfAction::Output(output)) => output.port.0,
        _ => 0,
    };
    rules.iter().map(|rule| (rule.priority, rule.cookie, port(&rule.actions))).collect()
}

fn changes(switch: &mut Ofproto) -> Vec<String> {
    let tell = |event| match event {
        Event::FlowChanged { rule, change, .. } => Some(match change {
            FlowChange::Added => format!("added {}", rule.priority),
            FlowChange::Modified { old_actions } => {
                format!("modified {} {}", rule.priority, old_actions.is_some())
            }
            FlowChange::Replaced { old_actions } => {
                format!("replaced {} {}", rule.priority, old_actions.is_some())
            }
            FlowChange::Removed(reason) => format!("removed {} {reason:?}", rule.priority),
        }),
        Event::FlowRemoved { rule, reason, usage, .. } => {
            Some(format!("gone {} {reason:?} {}", rule.priority, usage.packets))
        }
        _ => None,
    };
    switch.take_events().into_iter().filter_map(tell).collect()
}

#[test]
fn adding_replaces_an_equal_flow() {
    let mut switch = switch();
    switch.flow_mod(&add(10, in_port(1), 2), None, at(0)).expect("added");
    let first = switch.select(&Criteria::all(ALL_TABLES), false).expect("flows").remove(0);
    first.credit(3, 300, at(1));
    switch.flow_mod(&FlowMod { new_cookie: 7, ..add(10, in_port(1), 3) }, None, at(5)).expect("added");
    assert_eq!(flows(&switch), [(10, 7, 3)]);
    let second = switch.select(&Criteria::all(ALL_TABLES), false).expect("flows").remove(0);
    first.credit(1, 100, at(2));
    assert_eq!((second.usage().packets, second.created, second.usage().used), (4, at(5), at(2)));
    assert_eq!(changes(&mut switch), ["added 10", "replaced 10 true"]);
    drop(first);
    switch.run(at(6));
    assert_eq!(switch.deadline(at(6)), Instant::NEVER);
    assert_eq!(switch.tables().table(TableId(0)).map(|table| table.classifier.len()), Some(1));
}

#[test]
fn modifying_keeps_what_the_flow_was() {
    let mut switch = switch();
    let old = FlowMod { idle_timeout: 9, new_cookie: 5, ..add(10, in_port(1), 2) };
    switch.flow_mod(&old, None, at(0)).expect("added");
    switch.flow_mod(&add(20, in_port(2), 2), None, at(0)).expect("added");
    let modify = request(FlowCommand::Modify, 0, FullMatch::default(), vec![output(9)]);
    switch.flow_mod(&FlowMod { new_cookie: u64::MAX, ..modify }, None, at(1)).expect("modified");
    assert_eq!(flows(&switch), [(10, 5, 9), (20, 0, 9)]);
    let rules = switch.with_cookie(5).cloned().collect::<Vec<_>>();
    assert_eq!((rules[0].idle_timeout(), rules[0].created, rules[0].modified()), (9, at(0), at(1)));
    let strict = request(FlowCommand::ModifyStrict, 10, in_port(2), vec![output(8)]);
    switch.flow_mod(&strict, None, at(1)).expect("added, for nothing was found");
    assert_eq!(flows(&switch), [(10, 5, 9), (20, 0, 9), (10, 0, 8)]);
    assert_eq!(
        changes(&mut switch),
        ["added 10", "added 20", "modified 10 true", "modified 20 true", "added 10"]
    );
}

#[test]
fn deleting_filters_by_cookie_port_and_strictness() {
    let mut switch = switch();
    for (priority, cookie, port) in [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 3, 3)] {
        let flow = FlowMod { new_cookie: cookie, ..add(priority, in_port(priority.into()), port) };
        switch.flow_mod(&flow, None, at(0)).expect("added");
    }
    let all = request(FlowCommand::Delete, 0, FullMatch::default(), Vec::new());
    let by_port = FlowMod { out_port: OfPort(1), cookie: 2, cookie_mask: u64::MAX, ..all.clone() };
    switch.flow_mod(&by_port, None, at(0)).expect("deleted");
    assert_eq!(flows(&switch), [(1, 1, 1), (3, 2, 2), (4, 3, 3)]);
    let strict = request(FlowCommand::DeleteStrict, 3, in_port(3), Vec::new());
    switch.flow_mod(&strict, None, at(0)).expect("deleted");
    assert_eq!(flows(&switch), [(1, 1, 1), (4, 3, 3)]);
    switch.flow_mod(&FlowMod { table_id: ALL_TABLES, ..all }, None, at(0)).expect("deleted");
    assert_eq!(flows(&switch), []);
    assert_eq!(switch.book(TableId(0)).n_flows, 0);
}

#[test]
fn refusals() {
    let mut switch = switch();
    switch.flow_mod(&add(10, FullMatch::default(), 1), None, at(0)).expect("added");
    let refused =
        |switch: &mut Ofproto, flow: FlowMod| switch.flow_mod(&flow, None, at(0)).expect_err("refused");
    let overlapping = FlowMod { flags: FlowFlags::CHECK_OVERLAP, ..add(10, in_port(1), 1) };
    assert!(refused(&mut switch, overlapping) == OfError::FmfcOverlap);
    let internal = FlowMod { table_id: TableId(254), ..add(1, in_port(1), 1) };
    assert!(refused(&mut switch, internal) == OfError::BrcEperm);
    let buffered = FlowMod { buffer_id: 3, ..add(1, in_port(1), 1) };
    assert!(refused(&mut switch, buffered) == OfError::BrcBufferUnknown);
    let no_group = request(FlowCommand::Add, 1, in_port(1), vec![OfAction::Group(GroupId(4))]);
    assert!(refused(&mut switch, no_group) == OfError::BacBadOutGroup);
    let no_meter = request(FlowCommand::Add, 1, in_port(1), vec![OfAction::Meter(4)]);
    assert!(refused(&mut switch, no_meter) == OfError::MmfcInvalidMeter);
    let mut hidden = in_port(1);
    (hidden.key.recirc_id, hidden.mask.0.recirc_id) = (1, u32::MAX);
    assert!(refused(&mut switch, add(1, hidden, 1)) == OfError::BrcEperm);
    assert_eq!(flows(&switch), [(10, 0, 1)]);
}

#[test]
fn flows_expire_and_are_told_when_nobody_holds_them() {
    let mut switch = switch();
    let timed = FlowMod {
        idle_timeout: 10,
        hard_timeout: 100,
        flags: FlowFlags::SEND_FLOW_REM,
        ..add(1, in_port(1), 1)
    };
    switch.flow_mod(&timed, None, at(0)).expect("added");
    let held =
        switch.tables().lookup(switch.tables().version(), TableId(0), &in_port(1).key, None).expect("a rule");
    held.credit(1, 60, at(5));
    switch.expire(at(15));
    assert_eq!(flows(&switch).len(), 1);
    switch.expire(Instant::from_millis(15_001));
    switch.run(at(16));
    assert_eq!(changes(&mut switch), ["added 1", "removed 1 IdleTimeout"]);
    held.credit(1, 60, at(16));
    drop(held);
    switch.run(at(17));
    assert_eq!(changes(&mut switch), ["gone 1 IdleTimeout 2"]);
}

#[test]
fn a_pinned_reader_sees_its_version() {
    let mut switch = switch();
    switch.flow_mod(&add(1, in_port(1), 1), None, at(0)).expect("added");
    let tables = Arc::clone(switch.tables());
    let pin = tables.pin();
    let delete = request(FlowCommand::Delete, 0, FullMatch::default(), Vec::new());
    switch.flow_mod(&delete, None, at(0)).expect("deleted");
    switch.run(at(1));
    let sees = |version| tables.lookup(version, TableId(0), &in_port(1).key, None).is_some();
    assert!(sees(pin.version()) && !sees(tables.version()));
    assert!(switch.deadline(at(1)) < Instant::NEVER);
    drop(pin);
    switch.run(at(1));
    assert_eq!(tables.table(TableId(0)).map(|table| table.classifier.len()), Some(0));
}

#[test]
fn a_full_table_refuses_or_evicts() {
    let mut switch = switch();
    let limit = TableConfig { max_flows: Some(2), ..TableConfig::default() };
    switch.configure_table(TableId(0), &limit);
    let timed = |priority, port: u32, idle| FlowMod { idle_timeout: idle, ..add(priority, in_port(port), 1) };
    switch.flow_mod(&timed(1, 1, 20), None, at(0)).expect("added");
    switch.flow_mod(&timed(2, 2, 10), None, at(0)).expect("added");
    let third = timed(3, 3, 30);
    assert!(switch.flow_mod(&third, None, at(0)) == Err(OfError::FmfcTableFull));
    let evicting = TableConfig { evict: true, ..limit };
    switch.configure_table(TableId(0), &evicting);
    switch.flow_mod(&third, None, at(0)).expect("made room");
    assert_eq!(flows(&switch), [(1, 0, 1), (3, 0, 1)]);
    let grouped = TableConfig {
        groups: vec![Subfield::parse("in_port").expect("a field")],
        max_flows: Some(3),
        evict: true,
        ..TableConfig::default()
    };
    switch.configure_table(TableId(0), &grouped);
    switch.flow_mod(&timed(4, 1, 40), None, at(0)).expect("added");
    switch.flow_mod(&timed(5, 5, 1), None, at(0)).expect("evicts from the group of two");
    assert_eq!(flows(&switch), [(3, 0, 1), (4, 0, 1), (5, 0, 1)]);
    switch.configure_table(
        TableId(0),
        &TableConfig { max_flows: Some(1), evict: true, ..TableConfig::default() },
    );
    assert_eq!(flows(&switch).len(), 1);
}

fn bucket(id: u32, port: u16) -> Bucket {
    Bucket {
        weight: 1,
        watch_port: OfPort::NONE,
        watch_group: ANY_GROUP,
        bucket_id: id,
        actions: vec![output(port)].into(),
    }
}

fn group(command: GroupCommand, id: u32, buckets: Vec<Bucket>) -> GroupMod {
    GroupMod {
        command,
        kind: GroupType::All,
        group_id: GroupId(id),
        command_bucket_id: 0xffff_ffff,
        buckets,
        props: GroupProps::default(),
    }
}

#[test]
fn groups_come_change_and_take_their_flows_along() {
    let mut switch = switch();
    let mut go = |request| switch.group_mod(request, None, at(0));
    go(group(GroupCommand::Add, 1, vec![bucket(1, 1)])).expect("added");
    assert!(go(group(GroupCommand::Add, 1, vec![])) == Err(OfError::GmfcGroupExists));
    assert!(go(group(GroupCommand::Modify, 2, vec![])) == Err(OfError::GmfcUnknownGroup));
    let insert = |at, id| GroupMod {
        command_bucket_id: at,
        ..group(GroupCommand::InsertBucket, 1, vec![bucket(id, 2)])
    };
    go(insert(0xffff_fffe, 5)).expect("at the end");
    go(insert(0xffff_fffd, 7)).expect("at the front");
    go(insert(1, 9)).expect("behind bucket 1");
    assert!(go(insert(1, 9)) == Err(OfError::GmfcBucketExists));
    assert!(go(insert(33, 10)) == Err(OfError::GmfcUnknownBucket));
    let remove =
        |which| GroupMod { command_bucket_id: which, ..group(GroupCommand::RemoveBucket, 1, vec![]) };
    go(remove(0xffff_fffd)).expect("the first");
    let ids = |switch: &Ofproto| -> Vec<u32> {
        switch.groups(GroupId(1))[0].buckets.iter().map(|bucket| bucket.bucket_id).collect()
    };
    assert_eq!(ids(&switch), [1, 9, 5]);

    let flow = request(FlowCommand::Add, 1, in_port(1), vec![OfAction::Group(GroupId(1))]);
    switch.flow_mod(&flow, None, at(0)).expect("added");
    assert_eq!(switch.group_references(GroupId(1)), 1);
    switch.group_mod(group(GroupCommand::Delete, ALL_GROUPS.0, vec![]), None, at(0)).expect("deleted");
    assert_eq!((flows(&switch).len(), switch.groups(ALL_GROUPS).len()), (0, 0));
    assert_eq!(changes(&mut switch), ["added 1", "removed 1 GroupDelete"]);
}

struct NoPacketOuts;

impl PacketOuts for NoPacketOuts {
    type Op = ();

    fn start(&mut self, _: &Ofproto, (): &mut (), _: Version) -> Result<(), OfError> {
        Err(OfError::BrcEperm)
    }

    fn finish(&mut self, _: &mut Ofproto, (): ()) {}
}

#[test]
fn a_bundle_is_all_or_nothing() {
    let mut switch = switch();
    switch.flow_mod(&add(1, in_port(1), 1), None, at(0)).expect("added");
    switch.flow_mod(&add(2, in_port(2), 1), None, at(0)).expect("added");
    switch.take_events();
    let ops = |switch: &Ofproto, fail: bool| {
        let flow = |flow: FlowMod| BundleOp::Flow(Box::new(switch.prepare_flow_mod(&flow).expect("sound")));
        let uses = request(FlowCommand::Add, 5, in_port(5), vec![OfAction::Group(GroupId(9))]);
        let mut ops = vec![
            flow(request(FlowCommand::DeleteStrict, 1, in_port(1), vec![])),
            flow(FlowMod {
                new_cookie: u64::MAX,
                ..request(FlowCommand::Modify, 0, in_port(2), vec![output(7)])
            }),
            BundleOp::Group(Box::new(GroupOp::new(group(GroupCommand::Add, 9, vec![bucket(1, 1)])))),
            flow(uses),
        ];
        if fail {
            ops.push(BundleOp::PacketOut(()));
        }
        (0u32..).zip(ops).collect::<Vec<_>>()
    };
    let failing = ops(&switch, true);
    let failed = switch.commit_bundle(failing, false, 1, &mut NoPacketOuts, at(1));
    assert!(failed == Err(BundleFailure { index: 4, error: OfError::BrcEperm }));
    assert_eq!(flows(&switch), [(1, 0, 1), (2, 0, 1)]);
    assert_eq!((switch.groups(ALL_GROUPS).len(), changes(&mut switch).len()), (0, 0));

    let before = switch.tables().version();
    let good = ops(&switch, false);
    switch.commit_bundle(good, true, 1, &mut NoPacketOuts, at(1)).expect("committed");
    assert_eq!(switch.tables().version(), before.next());
    assert_eq!(flows(&switch), [(2, 0, 7), (5, 0, 0)]);
    assert_eq!(changes(&mut switch), ["removed 1 Delete", "modified 2 true", "added 5"]);
}

struct Meters(u32);

impl DatapathMeters for Meters {
    fn features(&self) -> MeterFeatures {
        MeterFeatures { max_meters: 10, band_types: 2, capabilities: 15, max_bands: 1, max_color: 0 }
    }

    fn set(&mut self, meter: Option<DpMeter>, _: &MeterConfig) -> Result<DpMeter, OfError> {
        self.0 += 1;
        Ok(meter.unwrap_or(DpMeter(self.0)))
    }

    fn delete(&mut self, _: DpMeter) {
        self.0 -= 1;
    }
}

#[test]
fn meters_are_checked_and_take_their_flows_along() {
    let mut switch = switch();
    let mut datapath = Meters(0);
    let meter = |command, meter_id| MeterMod {
        command,
        meter: MeterConfig { meter_id, flags: MeterFlags::empty(), bands: Vec::new() },
    };
    let mut go =
        |switch: &mut Ofproto, command, id| switch.meter_mod(&meter(command, id), &mut datapath, None, at(0));
    assert!(go(&mut switch, MeterCommand::Add, 0) == Err(OfError::MmfcInvalidMeter));
    assert!(go(&mut switch, MeterCommand::Modify, 3) == Err(OfError::MmfcUnknownMeter));
    go(&mut switch, MeterCommand::Add, 3).expect("added");
    assert!(go(&mut switch, MeterCommand::Add, 3) == Err(OfError::MmfcMeterExists));
    assert_eq!(switch.tables().meter(3), Some(DpMeter(1)));
    let flow = request(FlowCommand::Add, 1, in_port(1), vec![OfAction::Meter(3), output(1)]);
    switch.flow_mod(&flow, None, at(0)).expect("added");
    assert_eq!(switch.meter_references(3), 1);
    go(&mut switch, MeterCommand::Delete, 3).expect("deleted");
    assert_eq!((switch.tables().meter(3), flows(&switch).len()), (None, 0));
}

#[test]
fn learned_flows_are_added_refreshed_limited_and_deleted_with_their_learner() {
    let mut switch = switch();
    let learner = parse_list("learn(table=1,cookie=9,delete_learned)", &mut Parse::new(&Names::default()))
        .expect("sound");
    switch.flow_mod(&request(FlowCommand::Add, 1, in_port(1), learner), None, at(0)).expect("added");
    let learned = |port: u32| FlowMod {
        table_id: TableId(1),
        new_cookie: 9,
        hard_timeout: 10,
        ..request(FlowCommand::ModifyStrict, 5, in_port(port), vec![output(1)])
    };
    assert_eq!(switch.learn(&learned(1), 1, at(1), at(1)).ok(), Some(true));
    assert_eq!(switch.learn(&learned(2), 1, at(1), at(1)).ok(), Some(false));
    assert_eq!(switch.learn(&learned(1), 1, at(8), at(8)).ok(), Some(true));
    switch.expire(at(15));
    assert_eq!(switch.with_cookie(9).count(), 1);
    switch
        .flow_mod(&request(FlowCommand::Delete, 0, FullMatch::default(), vec![]), None, at(9))
        .expect("deleted");
    assert_eq!(switch.with_cookie(9).count(), 0);
}

#[test]
fn dump_tells_every_flow() {
    let mut switch = switch();
    switch.flow_mod(&FlowMod { new_cookie: 0x12, ..add(7, in_port(1), 2) }, None, at(0)).expect("added");
    assert_eq!(
        switch.dump_flows(false, at(3)),
        "cookie=0x12, duration=3s, n_packets=0, n_bytes=0, priority=7,in_port=1,actions=output:2\n\
         table_id=254, duration=3s, n_packets=0, n_bytes=0, priority=2,recirc_id=0,actions=drop\n\
         table_id=254, duration=3s, n_packets=0, n_bytes=0, priority=0,reg0=0x1,actions=controller(reason=)\n\
         table_id=254, duration=3s, n_packets=0, n_bytes=0, priority=0,reg0=0x2,actions=drop\n\
         table_id=254, duration=3s, n_packets=0, n_bytes=0, priority=0,reg0=0x3,actions=drop\n"
    );
}

#[test]
fn a_lookup_from_a_table_follows_its_misses() {
    let switch = switch();
    let mut seen = Vec::new();
    let tables = Arc::clone(switch.tables());
    let look = |key: &Key, seen: &mut Vec<TableId>| {
        let start = super::table::Start {
            version: tables.version(),
            table: TableId(0),
            in_port: OfPort(1),
            may_packet_in: true,
            honor_table_miss: true,
            missed: false,
            packet_in_on_miss: &|| true,
            port_sends_misses: &|_| false,
            visited: &mut |table, _| seen.push(table),
        };
        tables
            .lookup_from(start, key, None, None)
            .map(|landing| (tables.is_miss_rule(&landing.rule), landing.table))
    };
    assert_eq!(look(&in_port(1).key, &mut seen), Some((true, TableId(0))));
    assert_eq!(seen, [TableId(0)]);
}

#[test]
fn mapped_options_stay_while_flows_use_them() {
    let mut switch = switch();
    let map = |index, kind| TlvMap { class: 0xffff, kind, len: 4, index };
    let go = |switch: &mut Ofproto, command, maps| switch.tlv_mod(&TlvTableMod { command, maps });
    go(&mut switch, TlvCommand::Add, vec![map(3, 0)]).expect("mapped");
    assert!(go(&mut switch, TlvCommand::Add, vec![map(3, 1)]) == Err(OfError::TtmfcAlreadyMapped));
    assert!(go(&mut switch, TlvCommand::Add, vec![map(4, 0)]) == Err(OfError::TtmfcDupEntry));
    let flow = FlowMod { tlvs_used: 1 << 3, ..add(1, in_port(1), 1) };
    switch.flow_mod(&flow, None, at(0)).expect("added");
    assert!(go(&mut switch, TlvCommand::Clear, vec![]) == Err(OfError::TtmfcInvalidTlvDel));
    switch
        .flow_mod(&request(FlowCommand::Delete, 0, FullMatch::default(), vec![]), None, at(9))
        .expect("deleted");
    go(&mut switch, TlvCommand::Delete, vec![map(3, 0)]).expect("unmapped");
    assert_eq!(switch.tlv_table().maps, []);
}
