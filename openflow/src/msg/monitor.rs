//! Flow monitors: requests to be told of flows' changes, and the updates that tell.
//! Spec: `NXST_FLOW_MONITOR`; ONF extension 187; OpenFlow 1.4 section 7.3.5.18.

use super::flow_mod::{ALL_TABLES, ANY_GROUP, DEFAULT_PRIORITY};
use super::flow_removed::reason_text;
use super::{bit_names, open, put_port32, read_port32, w};
use crate::action::{self, Decode, OfAction};
use crate::error::OfError;
use crate::header::{self, Multipart, Raw};
use crate::instruction;
use crate::matching;
use crate::names::Names;
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::id::{GroupId, OfPort, TableId};
use flow::mini::Match;
use std::sync::Arc;

bitflags::bitflags! {
    /// What a monitor is to be told: OpenFlow 1.4's bits.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
    pub struct MonitorFlags: u16 {
        /// Flows that are there already.
        const INITIAL = 1 << 0;
        const ADD = 1 << 1;
        const REMOVED = 1 << 2;
        const MODIFY = 1 << 3;
        /// With actions.
        const INSTRUCTIONS = 1 << 4;
        /// Own changes in full.
        const NO_ABBREV = 1 << 5;
        /// Own changes (OpenFlow 1.4: only those).
        const ONLY_OWN = 1 << 6;
    }
}

const FLAG_NAMES: &[(u32, &str)] = &[
    (1 << 0, "initial"),
    (1 << 1, "add"),
    (1 << 2, "delete"),
    (1 << 3, "modify"),
    (1 << 4, "actions"),
    (1 << 5, "no-abbrev"),
    (1 << 6, "own"),
];

/// The extensions' bit for [`MonitorFlags::ONLY_OWN`]; they have no `NO_ABBREV`.
const NX_OWN: u16 = 1 << 5;

impl MonitorFlags {
    const CHANGES: Self = Self::ADD.union(Self::REMOVED).union(Self::MODIFY);
    const COMMON: Self = Self::CHANGES.union(Self::INITIAL).union(Self::INSTRUCTIONS);

    fn from_wire(bits: u16, nx: bool) -> Result<Self, OfError> {
        let own = if nx { NX_OWN } else { Self::ONLY_OWN.bits() };
        let mut flags = Self::from_bits_truncate(bits) & Self::COMMON;
        flags.set(Self::ONLY_OWN, bits & own != 0);
        if bits & !(Self::COMMON.bits() | own) != 0 || !flags.intersects(Self::CHANGES) {
            tracing::warn!(target: "ofp_monitor", "FLOW_MONITOR has bad flags {bits:#x}");
            return Err(OfError::MofcBadFlags);
        }
        Ok(flags)
    }

    fn nx_wire(self) -> u16 {
        (self & Self::COMMON).bits() | if self.contains(Self::ONLY_OWN) { NX_OWN } else { 0 }
    }
}

/// What to do with a monitor; the extensions know "add" only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MonitorCommand {
    Add = 0,
    Modify = 1,
    Delete = 2,
}

/// A request for one monitor.
#[derive(Clone, PartialEq, Debug)]
pub struct MonitorRequest {
    pub id: u32,
    pub command: MonitorCommand,
    pub flags: MonitorFlags,
    /// Only flows that output there; [`OfPort::NONE`]: any.
    pub out_port: OfPort,
    pub out_group: GroupId,
    pub table_id: TableId,
    pub matching: Match,
}

impl MonitorRequest {
    /// The requests of a message.
    pub fn decode_all(msg: &[u8]) -> Result<Vec<Self>, OfError> {
        const RAWS: &[Raw] =
            &[Raw::NxstFlowMonitorRequest, Raw::Onfst13FlowMonitorRequest, Raw::Ofpst14FlowMonitorRequest];
        let (header, version, mut body) = open(msg, RAWS)?;
        let mut list = Vec::new();
        while !body.is_empty() {
            let cx = &mut Decode::new(version);
            list.push(match header.raw {
                Raw::NxstFlowMonitorRequest => Self::read_nx(&mut body, cx)?,
                Raw::Onfst13FlowMonitorRequest => Self::read_onf(&mut body, cx)?,
                _ => Self::read14(&mut body, cx)?,
            });
        }
        Ok(list)
    }

    fn blank(id: u32) -> Self {
        Self {
            id,
            command: MonitorCommand::Add,
            flags: MonitorFlags::empty(),
            out_port: OfPort::NONE,
            out_group: ANY_GROUP,
            table_id: ALL_TABLES,
            matching: Match::default(),
        }
    }

    fn read_nx(body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut head = body.sub(16)?;
        let mut this = Self::blank(head.u32()?);
        this.flags = MonitorFlags::from_wire(head.u16()?, true)?;
        this.out_port = OfPort(head.u16()?);
        let match_len = usize::from(head.u16()?);
        this.table_id = TableId(head.u8()?);
        zeros(head.rest())?;
        this.matching = Match::new(&matching::read_nxm(body, match_len, false, cx)?.0);
        Ok(this)
    }

    fn read_onf(body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut head = body.sub(16)?;
        let mut this = Self::blank(head.u32()?);
        this.flags = MonitorFlags::from_wire(head.u16()?, true)?;
        head.skip(2)?;
        let mut port = head.sub(4)?;
        this.table_id = TableId(head.u8()?);
        zeros(head.rest())?;
        this.out_port = read_port32(&mut port)?;
        this.matching = Match::new(&matching::read11(body, cx)?);
        Ok(this)
    }

    fn read14(body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut head = body.sub(16)?;
        let mut this = Self::blank(head.u32()?);
        let mut port = head.sub(4)?;
        this.out_group = GroupId(head.u32()?);
        let flags = head.u16()?;
        this.table_id = TableId(head.u8()?);
        this.command = match head.u8()? {
            0 => MonitorCommand::Add,
            1 => MonitorCommand::Modify,
            2 => MonitorCommand::Delete,
            _ => return Err(OfError::MofcBadCommand),
        };
        if this.command != MonitorCommand::Delete {
            this.flags = MonitorFlags::from_wire(flags, false)?;
            this.out_port = read_port32(&mut port)?;
        }
        this.matching = Match::new(&matching::read11(body, cx)?);
        Ok(this)
    }

    /// A message with this one request.
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let full = self.matching.expand();
        let mut msg;
        match version {
            Version::V10 | Version::V11 | Version::V12 => {
                msg = header::start(Raw::NxstFlowMonitorRequest, version, xid);
                msg.u32(self.id).u16(self.flags.nx_wire()).u16(self.out_port.0);
                let len_at = msg.len();
                msg.u16(0).u8(self.table_id.0).zeros(5);
                let len = matching::put_nxm(&full, 0, 0, &mut msg);
                set_u16(&mut msg, len_at, u16::try_from(len).unwrap_or(u16::MAX));
            }
            Version::V13 => {
                msg = header::start(Raw::Onfst13FlowMonitorRequest, version, xid);
                msg.u32(self.id).u16(self.flags.nx_wire());
                let len_at = msg.len();
                msg.u16(0);
                put_port32(&mut msg, self.out_port);
                msg.u8(self.table_id.0).zeros(3);
                let at = msg.len();
                matching::put11(&full, version, &mut msg);
                // The match's own length, without its padding.
                let len = u16::from_be_bytes([msg[at + 2], msg[at + 3]]);
                set_u16(&mut msg, len_at, len);
            }
            Version::V14 | Version::V15 => {
                msg = header::start(Raw::Ofpst14FlowMonitorRequest, version, xid);
                msg.u32(self.id);
                put_port32(&mut msg, self.out_port);
                msg.u32(self.out_group.0).u16(self.flags.bits()).u8(self.table_id.0).u8(self.command as u8);
                matching::put11(&full, version, &mut msg);
            }
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        if self.command == MonitorCommand::Delete {
            w!(out, "\n id={} command=delete", self.id);
            return;
        }
        w!(out, "\n id={} flags=", self.id);
        bit_names(out, self.flags.bits().into(), FLAG_NAMES, ',');
        if self.out_port != OfPort::NONE {
            w!(out, " out_port={}", names.port(self.out_port));
        }
        if self.out_group.0 != 0 && self.out_group != ANY_GROUP {
            w!(out, " out_group={}", self.out_group);
        }
        if self.table_id != ALL_TABLES {
            w!(out, " table={}", names.table(self.table_id));
        }
        let matching = matching::text(&self.matching.expand(), DEFAULT_PRIORITY.into(), names);
        if !matching.is_empty() {
            w!(out, " {matching}");
        }
    }
}

fn zeros(bytes: &[u8]) -> Result<(), OfError> {
    if bytes.iter().all(|&byte| byte == 0) { Ok(()) } else { Err(OfError::BrcMustBeZero) }
}

/// A request to end a monitor.
pub fn cancel(id: u32, version: Version, xid: u32) -> Vec<u8> {
    let raw = match version {
        Version::V10 | Version::V11 | Version::V12 => Raw::NxtFlowMonitorCancel,
        Version::V13 => Raw::Onft13FlowMonitorCancel,
        Version::V14 | Version::V15 => {
            let request = MonitorRequest { command: MonitorCommand::Delete, ..MonitorRequest::blank(id) };
            return request.encode(version, xid);
        }
    };
    let mut msg = header::start(raw, version, xid);
    msg.u32(id);
    header::finish(&mut msg);
    msg
}

/// The monitor that a message of an extension ends.
pub fn decode_cancel(msg: &[u8]) -> Result<u32, OfError> {
    open(msg, &[Raw::NxtFlowMonitorCancel, Raw::Onft13FlowMonitorCancel])?.2.u32()
}

/// What happened to a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum UpdateEvent {
    Initial = 0,
    Added = 1,
    Removed = 2,
    Modified = 3,
}

/// A flow's update in full.
#[derive(Clone, PartialEq, Debug)]
pub struct FullUpdate {
    pub event: UpdateEvent,
    /// A removed flow's reason, as its number.
    pub reason: u16,
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub table_id: TableId,
    pub priority: u16,
    pub cookie: u64,
    pub matching: Match,
    /// Empty if they are not wanted.
    pub actions: Arc<[OfAction]>,
}

/// An update.
#[derive(Clone, PartialEq, Debug)]
pub enum FlowUpdate {
    Full(Box<FullUpdate>),
    /// The controller's own message with this xid did it.
    Abbrev(u32),
    /// Updates are held back for want of room, and are sent again. OpenFlow 1.4 and later.
    Paused,
    Resumed,
}

/// The format of replies.
pub fn reply_raw(version: Version) -> Raw {
    match version {
        Version::V10 | Version::V11 | Version::V12 => Raw::NxstFlowMonitorReply,
        Version::V13 => Raw::Onfst13FlowMonitorReply,
        Version::V14 | Version::V15 => Raw::Ofpst14FlowMonitorReply,
    }
}

/// The message that says that updates are held back, or (`paused` false) are sent again.
pub fn pause(paused: bool, version: Version) -> Vec<u8> {
    let raw = match (version, paused) {
        (Version::V10 | Version::V11 | Version::V12, true) => Raw::NxtFlowMonitorPaused,
        (Version::V10 | Version::V11 | Version::V12, false) => Raw::NxtFlowMonitorResumed,
        (Version::V13, true) => Raw::Onft13FlowMonitorPaused,
        (Version::V13, false) => Raw::Onft13FlowMonitorResumed,
        (Version::V14 | Version::V15, _) => {
            let mut msg = header::start(Raw::Ofpst14FlowMonitorReply, version, 0);
            msg.u16(8).u16(if paused { 5 } else { 6 }).zeros(4);
            header::finish(&mut msg);
            return msg;
        }
    };
    header::bare(raw, version, 0)
}

const NX_EVENTS: [UpdateEvent; 3] = [UpdateEvent::Added, UpdateEvent::Removed, UpdateEvent::Modified];
const EVENTS: [UpdateEvent; 4] =
    [UpdateEvent::Initial, UpdateEvent::Added, UpdateEvent::Removed, UpdateEvent::Modified];
const NX_ABBREV: u16 = 3;
const ABBREV: u16 = 4;

impl FlowUpdate {
    /// The updates of a reply. An error that comes after some leaves them.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let result = Self::read_reply(msg, &mut list);
        (list, result)
    }

    fn read_reply(msg: &[u8], list: &mut Vec<Self>) -> Result<(), OfError> {
        const RAWS: &[Raw] =
            &[Raw::NxstFlowMonitorReply, Raw::Onfst13FlowMonitorReply, Raw::Ofpst14FlowMonitorReply];
        let (header, version, mut body) = open(msg, RAWS)?;
        while !body.is_empty() {
            let len = usize::from(body.clone().u16()?);
            if !len.is_multiple_of(8) {
                return Err(OfError::BrcBadLen);
            }
            let mut entry = body.sub(len)?;
            entry.skip(2)?;
            let event = entry.u16()?;
            let v14 = header.raw == Raw::Ofpst14FlowMonitorReply;
            let simple = if v14 { event >= ABBREV } else { event == NX_ABBREV };
            if simple {
                list.push(Self::read_simple(event, v14, &mut entry)?);
                continue;
            }
            let known = if v14 { &EVENTS[..] } else { &NX_EVENTS[..] };
            let Some(&event) = known.get(usize::from(event)) else {
                tracing::warn!(target: "ofp_monitor", "NXST_FLOW_MONITOR reply has bad event {event}");
                return Err(OfError::BrcFmBadEvent);
            };
            let cx = &mut Decode::new(version);
            let update = if v14 {
                FullUpdate::read14(event, &mut entry, cx)?
            } else {
                FullUpdate::read_nx(event, &mut entry, cx)?
            };
            list.push(Self::Full(Box::new(update)));
        }
        Ok(())
    }

    fn read_simple(event: u16, v14: bool, entry: &mut Reader<'_>) -> Result<Self, OfError> {
        let update = match event {
            5 if v14 => Self::Paused,
            6 if v14 => Self::Resumed,
            ABBREV | NX_ABBREV => Self::Abbrev(entry.clone().u32()?),
            _ => {
                tracing::warn!(target: "ofp_monitor", "NXST_FLOW_MONITOR reply has bad event {event}");
                return Err(OfError::BrcFmBadEvent);
            }
        };
        if entry.len() == 4 { Ok(update) } else { Err(OfError::BrcBadLen) }
    }

    /// Adds the update to a series of replies, of the format [`reply_raw`].
    pub fn push(&self, replies: &mut Multipart) {
        let version = replies.version();
        let v14 = version >= Version::V14;
        let mut entry = Vec::new();
        match self {
            Self::Abbrev(xid) => {
                entry.u16(8).u16(if v14 { ABBREV } else { NX_ABBREV }).u32(*xid);
            }
            Self::Full(update) if v14 => update.put14(version, &mut entry),
            Self::Full(update) => update.put_nx(version, &mut entry),
            Self::Paused | Self::Resumed => {
                entry.u16(8).u16(if *self == Self::Paused { 5 } else { 6 }).zeros(4);
            }
        }
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        set_u16(&mut entry, 0, len);
        replies.push(&entry);
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        match self {
            Self::Abbrev(xid) => {
                w!(out, "\n event=ABBREV xid=0x{xid:x}");
            }
            Self::Paused => out.push_str("\n event=PAUSED"),
            Self::Resumed => out.push_str("\n event=RESUMED"),
            Self::Full(update) => update.text(names, out),
        }
    }
}

impl FullUpdate {
    fn read_nx(event: UpdateEvent, entry: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let (reason, priority) = (entry.u16()?, entry.u16()?);
        let (idle_timeout, hard_timeout) = (entry.u16()?, entry.u16()?);
        let match_len = usize::from(entry.u16()?);
        let table_id = TableId(entry.u8()?);
        entry.skip(1)?;
        let cookie = entry.u64()?;
        let (full, actions) = if cx.version >= Version::V13 {
            (matching::read11(entry, cx)?, instruction::decode(entry.rest(), cx)?)
        } else {
            let full = matching::read_nxm(entry, match_len, false, cx)?.0;
            (full, action::decode_list(entry.rest(), cx)?)
        };
        let matching = Match::new(&full);
        let actions = actions.into();
        Ok(Self { event, reason, idle_timeout, hard_timeout, table_id, priority, cookie, matching, actions })
    }

    fn read14(event: UpdateEvent, entry: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let (table_id, reason) = (TableId(entry.u8()?), u16::from(entry.u8()?));
        let (idle_timeout, hard_timeout, priority) = (entry.u16()?, entry.u16()?, entry.u16()?);
        entry.skip(4)?;
        let cookie = entry.u64()?;
        let matching = Match::new(&matching::read11(entry, cx)?);
        let actions = instruction::decode(entry.rest(), cx)?.into();
        Ok(Self { event, reason, idle_timeout, hard_timeout, table_id, priority, cookie, matching, actions })
    }

    fn put_nx(&self, version: Version, entry: &mut Vec<u8>) {
        let event = match self.event {
            UpdateEvent::Initial | UpdateEvent::Added => 0,
            UpdateEvent::Removed => 1,
            UpdateEvent::Modified => 2,
        };
        let full = self.matching.expand();
        entry.u16(0).u16(event).u16(self.reason).u16(self.priority);
        entry.u16(self.idle_timeout).u16(self.hard_timeout);
        let len_at = entry.len();
        entry.u16(0).u8(self.table_id.0).zeros(1).u64(self.cookie);
        let at = entry.len();
        let len = if version >= Version::V13 {
            matching::put11(&full, version, entry);
            u16::from_be_bytes([entry[at + 2], entry[at + 3]])
        } else {
            u16::try_from(matching::put_nxm(&full, 0, 0, entry)).unwrap_or(u16::MAX)
        };
        set_u16(entry, len_at, len);
        if version >= Version::V13 {
            instruction::encode(&self.actions, version, entry);
        } else {
            action::encode_list(&self.actions, version, entry);
        }
    }

    fn put14(&self, version: Version, entry: &mut Vec<u8>) {
        let reason = u8::try_from(self.reason).unwrap_or(u8::MAX);
        entry.u16(0).u16(self.event as u16).u8(self.table_id.0).u8(reason);
        entry.u16(self.idle_timeout).u16(self.hard_timeout).u16(self.priority).zeros(4).u64(self.cookie);
        matching::put11(&self.matching.expand(), version, entry);
        instruction::encode(&self.actions, version, entry);
    }

    fn text(&self, names: &Names, out: &mut String) {
        out.push_str("\n event=");
        match self.event {
            UpdateEvent::Initial => out.push_str("INITIAL"),
            UpdateEvent::Added => out.push_str("ADDED"),
            UpdateEvent::Modified => out.push_str("MODIFIED"),
            UpdateEvent::Removed => {
                w!(out, "DELETED reason={}", reason_text(self.reason));
            }
        }
        w!(out, " table={}", names.table(self.table_id));
        if self.idle_timeout != 0 {
            w!(out, " idle_timeout={}", self.idle_timeout);
        }
        if self.hard_timeout != 0 {
            w!(out, " hard_timeout={}", self.hard_timeout);
        }
        let cookie = if self.cookie == 0 { "0".to_owned() } else { format!("{:#x}", self.cookie) };
        w!(
            out,
            " cookie={cookie} {}",
            matching::text(&self.matching.expand(), DEFAULT_PRIORITY.into(), names)
        );
        if !self.actions.is_empty() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
            w!(out, "actions={}", action::text(&self.actions, names));
        }
    }
}
