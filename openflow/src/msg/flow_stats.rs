//! Statistics of flows, one by one and added up.
//! Spec: OpenFlow 1.0 section 5.3.5 to OpenFlow 1.5 sections 7.3.5.2 to 7.3.5.4; `NXST_FLOW`, `NXST_AGGREGATE`.

use super::flow_mod::{ALL_TABLES, ANY_GROUP, DEFAULT_PRIORITY, FlowFlags};
use super::oxs::Stats;
use super::{Age, Count, open, put_port32, read_port32, w};
use crate::action::{self, Decode, OfAction};
use crate::error::OfError;
use crate::header::{self, Multipart, Raw};
use crate::instruction;
use crate::matching;
use crate::names::Names;
use crate::protocol::Protocols;
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::id::{GroupId, OfPort, TableId};
use flow::mini::Match;
use std::sync::Arc;

/// Which flows a statistics request asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowStatsRequest {
    /// Added up, not one by one.
    pub aggregate: bool,
    pub matching: Match,
    pub cookie: u64,
    pub cookie_mask: u64,
    /// [`OfPort::NONE`]: any.
    pub out_port: OfPort,
    pub out_group: GroupId,
    /// [`ALL_TABLES`]: all.
    pub table_id: TableId,
}

impl Default for FlowStatsRequest {
    /// Every flow.
    fn default() -> Self {
        Self {
            aggregate: false,
            matching: Match::default(),
            cookie: 0,
            cookie_mask: 0,
            out_port: OfPort::NONE,
            out_group: ANY_GROUP,
            table_id: ALL_TABLES,
        }
    }
}

const FLOW_REQUESTS: [Raw; 3] = [Raw::Ofpst10FlowRequest, Raw::Ofpst11FlowRequest, Raw::NxstFlowRequest];
const AGGREGATE_REQUESTS: [Raw; 4] = [
    Raw::Ofpst10AggregateRequest,
    Raw::Ofpst11AggregateRequest,
    Raw::Ofpst15AggregateRequest,
    Raw::NxstAggregateRequest,
];

impl FlowStatsRequest {
    pub fn decode(msg: &[u8], cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let raws: Vec<_> = FLOW_REQUESTS.into_iter().chain(AGGREGATE_REQUESTS).collect();
        let (header, _, mut body) = open(msg, &raws)?;
        let mut this = Self { aggregate: AGGREGATE_REQUESTS.contains(&header.raw), ..Self::default() };
        match header.raw {
            Raw::Ofpst10FlowRequest | Raw::Ofpst10AggregateRequest => {
                this.matching = Match::new(&matching::read10(&mut body)?);
                this.table_id = TableId(body.u8()?);
                body.skip(1)?;
                this.out_port = OfPort(body.u16()?);
            }
            Raw::NxstFlowRequest | Raw::NxstAggregateRequest => this.read_nx(&mut body, cx)?,
            _ => this.read11(&mut body, cx)?,
        }
        Ok(this)
    }

    fn read11(&mut self, body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<(), OfError> {
        self.table_id = TableId(body.u8()?);
        body.skip(3)?;
        self.out_port = read_port32(body)?;
        self.out_group = GroupId(body.u32()?);
        body.skip(4)?;
        (self.cookie, self.cookie_mask) = (body.u64()?, body.u64()?);
        self.matching = Match::new(&matching::read11(body, cx)?);
        Ok(())
    }

    fn read_nx(&mut self, body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<(), OfError> {
        self.out_port = OfPort(body.u16()?);
        let match_len = usize::from(body.u16()?);
        self.table_id = TableId(body.u8()?);
        body.skip(3)?;
        let (full, cookie, cookie_mask) = matching::read_nxm(body, match_len, false, cx)?;
        self.matching = Match::new(&full);
        (self.cookie, self.cookie_mask) = (cookie, cookie_mask);
        if body.is_empty() { Ok(()) } else { Err(OfError::BrcBadLen) }
    }

    /// The request in one flow format.
    pub fn encode(&self, protocol: Protocols, xid: u32) -> Vec<u8> {
        let version = protocol.version().unwrap_or(Version::V10);
        let full = self.matching.expand();
        let pick = |flow, aggregate| if self.aggregate { aggregate } else { flow };
        let mut msg;
        if version > Version::V10 {
            let v15 = version >= Version::V15;
            let aggregate = if v15 { Raw::Ofpst15AggregateRequest } else { Raw::Ofpst11AggregateRequest };
            msg = header::start(pick(Raw::Ofpst11FlowRequest, aggregate), version, xid);
            msg.u8(self.table_id.0).zeros(3);
            put_port32(&mut msg, self.out_port);
            msg.u32(self.out_group.0).zeros(4).u64(self.cookie).u64(self.cookie_mask);
            matching::put11(&full, version, &mut msg);
        } else if protocol.intersects(Protocols::OF10_NXM_ANY) {
            msg = header::start(pick(Raw::NxstFlowRequest, Raw::NxstAggregateRequest), version, xid);
            let len_at = msg.len() + 2;
            msg.u16(self.out_port.0).u16(0).u8(self.table_id.0).zeros(3);
            let len = matching::put_nxm(&full, self.cookie, self.cookie_mask, &mut msg);
            set_u16(&mut msg, len_at, u16::try_from(len).unwrap_or(u16::MAX));
        } else {
            msg = header::start(pick(Raw::Ofpst10FlowRequest, Raw::Ofpst10AggregateRequest), version, xid);
            matching::put10(&full, &mut msg);
            msg.u8(self.table_id.0).zeros(1).u16(self.out_port.0);
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        if self.table_id != ALL_TABLES {
            w!(out, " table={}", names.table(self.table_id));
        }
        if self.out_port != OfPort::NONE {
            w!(out, " out_port={}", names.port(self.out_port));
        }
        w!(out, " {}", matching::text(&self.matching.expand(), DEFAULT_PRIORITY.into(), names));
    }
}

/// One flow's statistics.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowStats {
    pub matching: Match,
    pub cookie: u64,
    pub table_id: TableId,
    pub priority: u16,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub importance: u16,
    pub flags: FlowFlags,
    /// Since the flow was added.
    pub age: Age,
    /// Seconds since the last packet, and since the last modification, if known.
    pub idle_age: Option<u32>,
    pub hard_age: Option<u32>,
    /// All ones: not known.
    pub packet_count: u64,
    pub byte_count: u64,
    pub actions: Arc<[OfAction]>,
}

impl FlowStats {
    /// The flows of a reply. `age_extension` says that `NXST_FLOW` tells ages (`NXT_FLOW_AGE` was sent). An error
    /// that comes after some flows leaves them.
    pub fn decode_reply(msg: &[u8], age_extension: bool) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let result = Self::read_reply(msg, age_extension, &mut list);
        (list, result)
    }

    fn read_reply(msg: &[u8], age_extension: bool, list: &mut Vec<Self>) -> Result<(), OfError> {
        const RAWS: &[Raw] = &[
            Raw::Ofpst10FlowReply,
            Raw::Ofpst11FlowReply,
            Raw::Ofpst13FlowReply,
            Raw::Ofpst15FlowReply,
            Raw::NxstFlowReply,
        ];
        let (header, version, mut body) = open(msg, RAWS)?;
        while !body.is_empty() {
            let len = usize::from(body.clone().u16()?);
            let mut entry = body.sub(len)?;
            list.push(Self::read(header.raw, version, age_extension, &mut entry)?);
        }
        Ok(())
    }

    fn read(raw: Raw, version: Version, ages: bool, entry: &mut Reader<'_>) -> Result<Self, OfError> {
        let cx = &mut Decode::for_text(version);
        entry.skip(2)?;
        let mut this = match raw {
            Raw::Ofpst10FlowReply => Self::read10(entry)?,
            Raw::NxstFlowReply => Self::read_nx(entry, ages, cx)?,
            Raw::Ofpst15FlowReply => Self::read15(entry, cx)?,
            _ => Self::read11(version, entry, cx)?,
        };
        this.actions = instruction::decode(entry.rest(), cx)?.into();
        Ok(this)
    }

    fn blank() -> Self {
        Self {
            matching: Match::default(),
            cookie: 0,
            table_id: TableId(0),
            priority: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            flags: FlowFlags::empty(),
            age: Age::UNKNOWN,
            idle_age: None,
            hard_age: None,
            packet_count: u64::MAX,
            byte_count: u64::MAX,
            actions: Arc::from([]),
        }
    }

    fn read10(entry: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut this = Self { table_id: TableId(entry.u8()?), ..Self::blank() };
        entry.skip(1)?;
        this.matching = Match::new(&matching::read10(entry)?);
        this.age = Age::read(entry)?;
        this.read_timeouts(entry)?;
        entry.skip(6)?;
        (this.cookie, this.packet_count, this.byte_count) = (entry.u64()?, entry.u64()?, entry.u64()?);
        Ok(this)
    }

    fn read_timeouts(&mut self, entry: &mut Reader<'_>) -> Result<(), OfError> {
        (self.priority, self.idle_timeout, self.hard_timeout) = (entry.u16()?, entry.u16()?, entry.u16()?);
        Ok(())
    }

    fn read_nx(entry: &mut Reader<'_>, ages: bool, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self { table_id: TableId(entry.u8()?), ..Self::blank() };
        entry.skip(1)?;
        this.age = Age::read(entry)?;
        this.read_timeouts(entry)?;
        let match_len = usize::from(entry.u16()?);
        let age = |wire: u16| if ages { wire.checked_sub(1).map(u32::from) } else { None };
        this.idle_age = age(entry.u16()?);
        this.hard_age = age(entry.u16()?);
        (this.cookie, this.packet_count, this.byte_count) = (entry.u64()?, entry.u64()?, entry.u64()?);
        this.matching = Match::new(&matching::read_nxm(entry, match_len, false, cx)?.0);
        Ok(this)
    }

    fn read11(version: Version, entry: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self { table_id: TableId(entry.u8()?), ..Self::blank() };
        entry.skip(1)?;
        this.age = Age::read(entry)?;
        this.read_timeouts(entry)?;
        let (flags, importance) = (entry.u16()?, entry.u16()?);
        if version >= Version::V13 {
            this.flags = FlowFlags::from_wire(version, flags)?;
        }
        this.importance = if version >= Version::V14 { importance } else { 0 };
        entry.skip(2)?;
        (this.cookie, this.packet_count, this.byte_count) = (entry.u64()?, entry.u64()?, entry.u64()?);
        this.matching = Match::new(&matching::read11(entry, cx)?);
        Ok(this)
    }

    fn read15(entry: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        entry.skip(2)?;
        let mut this = Self { table_id: TableId(entry.u8()?), ..Self::blank() };
        entry.skip(1)?;
        this.read_timeouts(entry)?;
        this.flags = FlowFlags::from_wire(Version::V15, entry.u16()?)?;
        this.importance = entry.u16()?;
        this.cookie = entry.u64()?;
        this.matching = Match::new(&matching::read11(entry, cx)?);
        let stats = Stats::read(entry)?;
        this.age = stats.age.unwrap_or(Age::UNKNOWN);
        this.idle_age = stats.idle;
        this.packet_count = stats.packets.unwrap_or(u64::MAX);
        this.byte_count = stats.bytes.unwrap_or(u64::MAX);
        Ok(this)
    }

    /// Adds the flow to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        let version = replies.version();
        let full = self.matching.expand();
        let mut entry = Vec::with_capacity(256);
        entry.u16(0);
        match replies.raw() {
            Raw::Ofpst10FlowReply => {
                entry.u8(self.table_id.0).zeros(1);
                matching::put10(&full, &mut entry);
                self.age.put(&mut entry);
                self.put_timeouts(&mut entry);
                entry.zeros(6).u64(self.cookie);
                entry.u64(known(self.packet_count)).u64(known(self.byte_count));
            }
            Raw::NxstFlowReply => self.put_nx(&full, &mut entry),
            Raw::Ofpst15FlowReply => self.put15(&full, &mut entry),
            _ => {
                entry.u8(self.table_id.0).zeros(1);
                self.age.put(&mut entry);
                self.put_timeouts(&mut entry);
                entry.u16(if version >= Version::V13 { self.flags.wire(version) } else { 0 });
                entry.u16(if version >= Version::V14 { self.importance } else { 0 }).zeros(2);
                entry.u64(self.cookie).u64(known(self.packet_count)).u64(known(self.byte_count));
                // In OpenFlow 1.1 too, whose own match lacks most fields.
                matching::put_oxm(&full, version, &mut entry);
            }
        }
        instruction::encode(&self.actions, version, &mut entry);
        match u16::try_from(entry.len()) {
            Ok(len) if len < u16::MAX - 24 => {
                set_u16(&mut entry, 0, len);
                replies.push(&entry);
            }
            _ => tracing::warn!(
                target: "ofp_flow",
                "Flow exceeded the maximum flow statistics reply size and was excluded from the response set"
            ),
        }
    }

    fn put_timeouts(&self, entry: &mut Vec<u8>) {
        entry.u16(self.priority).u16(self.idle_timeout).u16(self.hard_timeout);
    }

    fn put_nx(&self, full: &flow::mini::FullMatch, entry: &mut Vec<u8>) {
        let age = |age: Option<u32>| age.map_or(0, |age| u16::try_from(age + 1).unwrap_or(u16::MAX));
        entry.u8(self.table_id.0).zeros(1);
        self.age.put(entry);
        self.put_timeouts(entry);
        let len_at = entry.len();
        entry.u16(0).u16(age(self.idle_age)).u16(age(self.hard_age));
        entry.u64(self.cookie).u64(self.packet_count).u64(self.byte_count);
        let len = matching::put_nxm(full, 0, 0, entry);
        set_u16(entry, len_at, u16::try_from(len).unwrap_or(u16::MAX));
    }

    fn put15(&self, full: &flow::mini::FullMatch, entry: &mut Vec<u8>) {
        entry.zeros(2).u8(self.table_id.0).zeros(1);
        self.put_timeouts(entry);
        entry.u16(self.flags.wire(Version::V15)).u16(self.importance).u64(self.cookie);
        matching::put11(full, Version::V15, entry);
        let some = |count: u64| (count != u64::MAX).then_some(count);
        let stats = Stats {
            age: (self.age != Age::UNKNOWN).then_some(self.age),
            idle: self.idle_age,
            packets: some(self.packet_count),
            bytes: some(self.byte_count),
            flows: None,
        };
        stats.put(entry);
    }

    /// Appends the flow; without statistics, what makes the flow itself.
    pub fn text(&self, names: &Names, stats: bool, out: &mut String) {
        if stats || self.cookie != 0 {
            w!(out, "cookie=0x{:x}, ", self.cookie);
        }
        if stats {
            w!(out, "duration={}, ", self.age);
        }
        if stats || self.table_id.0 != 0 || names.tables.name(0).is_some() {
            w!(out, "table={}, ", names.table(self.table_id));
        }
        if stats {
            w!(out, "n_packets={}, n_bytes={}, ", Count(self.packet_count), Count(self.byte_count));
        }
        if self.idle_timeout != 0 {
            w!(out, "idle_timeout={}, ", self.idle_timeout);
        }
        if self.hard_timeout != 0 {
            w!(out, "hard_timeout={}, ", self.hard_timeout);
        }
        self.flags.text(out);
        if self.importance != 0 {
            w!(out, "importance={}, ", self.importance);
        }
        if let Some(age) = self.idle_age.filter(|_| stats) {
            w!(out, "idle_age={age}, ");
        }
        if let Some(age) = self.hard_age.filter(|&age| stats && age != self.age.sec) {
            w!(out, "hard_age={age}, ");
        }
        let matching = matching::text(&self.matching.expand(), self.priority.into(), names);
        if !matching.is_empty() {
            w!(out, "{matching} ");
        }
        w!(out, "actions={}", action::text(&self.actions, names));
    }

    /// Appends the text of a reply.
    pub fn reply_text(msg: &[u8], names: &Names, out: &mut String) -> Result<(), OfError> {
        let (list, result) = Self::decode_reply(msg, true);
        for stats in list {
            out.push_str("\n ");
            stats.text(names, true, out);
        }
        result
    }
}

/// Older messages cannot say "not known".
fn known(count: u64) -> u64 {
    if count == u64::MAX { 0 } else { count }
}

/// Statistics of flows, added up. All ones: not known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AggregateStats {
    pub packet_count: u64,
    pub byte_count: u64,
    pub flow_count: u32,
}

impl AggregateStats {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[Raw::OfpstAggregateReply, Raw::Ofpst15AggregateReply, Raw::NxstAggregateReply];
        let (header, _, mut body) = open(msg, RAWS)?;
        if header.raw == Raw::Ofpst15AggregateReply {
            let stats = Stats::read(&mut body)?;
            return Ok(Self {
                packet_count: stats.packets.unwrap_or(u64::MAX),
                byte_count: stats.bytes.unwrap_or(u64::MAX),
                flow_count: stats.flows.unwrap_or(u32::MAX),
            });
        }
        Ok(Self { packet_count: body.u64()?, byte_count: body.u64()?, flow_count: body.u32()? })
    }

    /// The reply to `request`.
    pub fn encode_reply(&self, request: &[u8]) -> Result<Vec<u8>, OfError> {
        let header = header::Header::peek(request)?;
        let version = header.version()?;
        let raw = header.raw.stat_reply(version).ok_or(OfError::BrcBadStat)?;
        let mut msg = header::start(raw, version, header.xid);
        if raw == Raw::Ofpst15AggregateReply {
            let some = |count: u64| (count != u64::MAX).then_some(count);
            let stats = Stats {
                packets: some(self.packet_count),
                bytes: some(self.byte_count),
                flows: Some(self.flow_count),
                ..Stats::default()
            };
            stats.put(&mut msg);
        } else {
            let plain = header.raw == Raw::Ofpst10AggregateRequest;
            let count = |count| if plain { known(count) } else { count };
            msg.u64(count(self.packet_count)).u64(count(self.byte_count)).u32(self.flow_count).zeros(4);
        }
        header::finish(&mut msg);
        Ok(msg)
    }

    pub fn text(&self, out: &mut String) {
        let (packets, bytes) = (Count(self.packet_count), Count(self.byte_count));
        w!(out, " packet_count={packets} byte_count={bytes} flow_count={}", self.flow_count);
    }
}
