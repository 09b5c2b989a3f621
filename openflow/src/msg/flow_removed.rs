//! Flow-removed messages. Spec: OpenFlow 1.0 section 5.4.3 to OpenFlow 1.5 section 7.4.2; `NXT_FLOW_REMOVED`.

use super::flow_mod::ALL_TABLES;
use super::oxs::Stats;
use super::{Age, open, w};
use crate::action::Decode;
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::matching;
use crate::names::Names;
use crate::protocol::Protocols;
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::id::TableId;
use flow::mini::Match;

/// Why a flow was removed (`OFPRR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RemovedReason {
    IdleTimeout = 0,
    HardTimeout = 1,
    Delete = 2,
    GroupDelete = 3,
    /// OpenFlow 1.4 and later.
    MeterDelete = 4,
    Eviction = 5,
}

impl RemovedReason {
    const ALL: [Self; 6] = [
        Self::IdleTimeout,
        Self::HardTimeout,
        Self::Delete,
        Self::GroupDelete,
        Self::MeterDelete,
        Self::Eviction,
    ];

    /// The reason of a number.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// `idle`, `hard`, `delete`, `group_delete`, `meter_delete`, `eviction`.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle",
            Self::HardTimeout => "hard",
            Self::Delete => "delete",
            Self::GroupDelete => "group_delete",
            Self::MeterDelete => "meter_delete",
            Self::Eviction => "eviction",
        }
    }
}

/// The name of a reason's number, or the number.
pub(crate) fn reason_text(reason: u16) -> String {
    let known = u8::try_from(reason).ok().and_then(RemovedReason::from_wire);
    known.map_or_else(|| reason.to_string(), |reason| reason.name().to_owned())
}

/// A flow-removed message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowRemoved {
    pub matching: Match,
    pub priority: u16,
    pub cookie: u64,
    /// The reason's number.
    pub reason: u8,
    /// [`ALL_TABLES`] if the message does not tell.
    pub table_id: TableId,
    pub age: Age,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    /// All ones: not known.
    pub packet_count: u64,
    pub byte_count: u64,
}

impl FlowRemoved {
    pub fn decode(msg: &[u8], cx: &mut Decode<'_>) -> Result<Self, OfError> {
        const RAWS: &[Raw] =
            &[Raw::Ofpt10FlowRemoved, Raw::Ofpt11FlowRemoved, Raw::Ofpt15FlowRemoved, Raw::NxtFlowRemoved];
        let (header, _, mut body) = open(msg, RAWS)?;
        match header.raw {
            Raw::Ofpt10FlowRemoved => Self::read10(&mut body),
            Raw::NxtFlowRemoved => Self::read_nx(&mut body, cx),
            Raw::Ofpt15FlowRemoved => Self::read15(&mut body, cx),
            _ => Self::read11(&mut body, cx),
        }
    }

    fn blank() -> Self {
        Self {
            matching: Match::default(),
            priority: 0,
            cookie: 0,
            reason: 0,
            table_id: ALL_TABLES,
            age: Age::UNKNOWN,
            idle_timeout: 0,
            hard_timeout: 0,
            packet_count: u64::MAX,
            byte_count: u64::MAX,
        }
    }

    fn read10(body: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut this = Self { matching: Match::new(&matching::read10(body)?), ..Self::blank() };
        (this.cookie, this.priority, this.reason) = (body.u64()?, body.u16()?, body.u8()?);
        body.skip(1)?;
        this.age = Age::read(body)?;
        this.idle_timeout = body.u16()?;
        body.skip(2)?;
        (this.packet_count, this.byte_count) = (body.u64()?, body.u64()?);
        Ok(this)
    }

    fn read_nx(body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self { cookie: body.u64()?, ..Self::blank() };
        (this.priority, this.reason) = (body.u16()?, body.u8()?);
        this.table_id = TableId(body.u8()?.checked_sub(1).unwrap_or(ALL_TABLES.0));
        this.age = Age::read(body)?;
        this.idle_timeout = body.u16()?;
        let match_len = usize::from(body.u16()?);
        (this.packet_count, this.byte_count) = (body.u64()?, body.u64()?);
        this.matching = Match::new(&matching::read_nxm(body, match_len, false, cx)?.0);
        if body.is_empty() { Ok(this) } else { Err(OfError::BrcBadLen) }
    }

    fn read11(body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self { cookie: body.u64()?, ..Self::blank() };
        (this.priority, this.reason, this.table_id) = (body.u16()?, body.u8()?, TableId(body.u8()?));
        this.age = Age::read(body)?;
        (this.idle_timeout, this.hard_timeout) = (body.u16()?, body.u16()?);
        (this.packet_count, this.byte_count) = (body.u64()?, body.u64()?);
        this.matching = Match::new(&matching::read11(body, cx)?);
        Ok(this)
    }

    fn read15(body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self { table_id: TableId(body.u8()?), ..Self::blank() };
        (this.reason, this.priority) = (body.u8()?, body.u16()?);
        (this.idle_timeout, this.hard_timeout, this.cookie) = (body.u16()?, body.u16()?, body.u64()?);
        this.matching = Match::new(&matching::read11(body, cx)?);
        let stats = Stats::read(body)?;
        this.age = stats.age.unwrap_or(Age::UNKNOWN);
        this.packet_count = stats.packets.unwrap_or(u64::MAX);
        this.byte_count = stats.bytes.unwrap_or(u64::MAX);
        Ok(this)
    }

    /// The message in one flow format. Reasons that a version lacks become "delete".
    pub fn encode(&self, protocol: Protocols, xid: u32) -> Vec<u8> {
        let version = protocol.version().unwrap_or(Version::V10);
        let lacks = self.reason == RemovedReason::MeterDelete as u8 && version < Version::V14;
        let reason = if lacks { RemovedReason::Delete as u8 } else { self.reason };
        let full = self.matching.expand();
        let mut msg;
        if version >= Version::V15 {
            msg = header::start(Raw::Ofpt15FlowRemoved, version, xid);
            msg.u8(self.table_id.0).u8(reason).u16(self.priority);
            msg.u16(self.idle_timeout).u16(self.hard_timeout).u64(self.cookie);
            matching::put11(&full, version, &mut msg);
            let some = |count: u64| (count != u64::MAX).then_some(count);
            let (packets, bytes) = (some(self.packet_count), some(self.byte_count));
            Stats { age: Some(self.age), packets, bytes, ..Stats::default() }.put(&mut msg);
        } else if version > Version::V10 {
            msg = header::start(Raw::Ofpt11FlowRemoved, version, xid);
            msg.u64(self.cookie).u16(self.priority).u8(reason).u8(self.table_id.0);
            self.age.put(&mut msg);
            msg.u16(self.idle_timeout).u16(self.hard_timeout).u64(self.packet_count).u64(self.byte_count);
            matching::put11(&full, version, &mut msg);
        } else if protocol.intersects(Protocols::OF10_NXM_ANY) {
            msg = header::start(Raw::NxtFlowRemoved, version, xid);
            msg.u64(self.cookie).u16(self.priority).u8(reason).u8(self.table_id.0.wrapping_add(1));
            self.age.put(&mut msg);
            msg.u16(self.idle_timeout);
            let len_at = msg.len();
            msg.u16(0).u64(self.packet_count).u64(self.byte_count);
            let len = matching::put_nxm(&full, 0, 0, &mut msg);
            set_u16(&mut msg, len_at, u16::try_from(len).unwrap_or(u16::MAX));
        } else {
            let known = |count: u64| if count == u64::MAX { 0 } else { count };
            msg = header::start(Raw::Ofpt10FlowRemoved, version, xid);
            matching::put10(&full, &mut msg);
            msg.u64(self.cookie).u16(self.priority).u8(reason).zeros(1);
            self.age.put(&mut msg);
            msg.u16(self.idle_timeout).zeros(2).u64(known(self.packet_count)).u64(known(self.byte_count));
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        w!(out, " {}", matching::text(&self.matching.expand(), self.priority.into(), names));
        w!(out, " reason={}", reason_text(self.reason.into()));
        if self.table_id != ALL_TABLES {
            w!(out, " table_id={}", names.table(self.table_id));
        }
        if self.cookie != 0 {
            w!(out, " cookie:0x{:x}", self.cookie);
        }
        w!(out, " duration{} idle{}", self.age, self.idle_timeout);
        if self.hard_timeout != 0 {
            w!(out, " hard{}", self.hard_timeout);
        }
        w!(out, " pkts{} bytes{}\n", self.packet_count, self.byte_count);
    }
}
