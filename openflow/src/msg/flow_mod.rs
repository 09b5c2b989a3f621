//! Flow-mods. Spec: OpenFlow 1.0 section 5.3.3 to OpenFlow 1.5 section 7.3.4.2; `NXT_FLOW_MOD`.

use super::{open, put_port32, read_port32, w};
use crate::action::check::{self, Check};
use crate::action::{self, Decode, OfAction};
use crate::error::OfError;
use crate::header::{self, Header, Raw};
use crate::instruction;
use crate::matching;
use crate::names::Names;
use crate::protocol::Protocols;
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::id::{GroupId, OfPort, TableId};
use flow::mini::{FullMatch, Match};
use std::sync::Arc;

/// Any group (`OFPG_ANY`).
pub const ANY_GROUP: GroupId = GroupId(u32::MAX);
/// The priority of a flow that does not name one.
pub const DEFAULT_PRIORITY: u16 = 0x8000;
/// "All tables" in requests, "unspecified" in a flow-mod without table.
pub const ALL_TABLES: TableId = TableId(0xff);
/// No buffer: the packet comes with the message.
pub const NO_BUFFER: u32 = u32::MAX;

/// What a flow-mod does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FlowCommand {
    Add = 0,
    Modify = 1,
    ModifyStrict = 2,
    Delete = 3,
    DeleteStrict = 4,
}

impl FlowCommand {
    const ALL: [Self; 5] = [Self::Add, Self::Modify, Self::ModifyStrict, Self::Delete, Self::DeleteStrict];

    /// Whether it deletes flows.
    pub fn is_delete(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteStrict)
    }

    /// Whether it modifies flows.
    pub fn is_modify(self) -> bool {
        matches!(self, Self::Modify | Self::ModifyStrict)
    }
}

bitflags::bitflags! {
    /// A flow's flags, independent of version.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
    pub struct FlowFlags: u16 {
        /// Tell of the flow's end.
        const SEND_FLOW_REM = 1 << 0;
        const CHECK_OVERLAP = 1 << 1;
        /// OpenFlow 1.2 and later; adding a flow in 1.0 and 1.1 has it always.
        const RESET_COUNTS = 1 << 2;
        const NO_PACKET_COUNTS = 1 << 3;
        const NO_BYTE_COUNTS = 1 << 4;
        /// Matches on fields that OpenFlow hides are wanted. Not on the wire.
        const HIDDEN_FIELDS = 1 << 5;
        /// The table may be a read-only one. Not on the wire.
        const NO_READONLY = 1 << 6;
    }
}

/// OpenFlow 1.0's emergency flows, on the bit that later means "reset counts".
const EMERGENCY10: u16 = 1 << 2;

const FLAG_NAMES: [(FlowFlags, &str); 7] = [
    (FlowFlags::SEND_FLOW_REM, "send_flow_rem"),
    (FlowFlags::CHECK_OVERLAP, "check_overlap"),
    (FlowFlags::RESET_COUNTS, "reset_counts"),
    (FlowFlags::NO_PACKET_COUNTS, "no_packet_counts"),
    (FlowFlags::NO_BYTE_COUNTS, "no_byte_counts"),
    (FlowFlags::HIDDEN_FIELDS, "allow_hidden_fields"),
    (FlowFlags::NO_READONLY, "no_readonly_table"),
];

impl FlowFlags {
    /// The flags that `version` has on the wire.
    fn of(version: Version) -> Self {
        let mut flags = Self::SEND_FLOW_REM | Self::CHECK_OVERLAP;
        flags.set(Self::RESET_COUNTS, version >= Version::V12);
        flags.set(Self::NO_PACKET_COUNTS | Self::NO_BYTE_COUNTS, version >= Version::V13);
        flags
    }

    /// Decodes the flags of flow statistics, or (with OpenFlow 1.0's emergency bit taken off) of a flow-mod.
    pub(crate) fn from_wire(version: Version, bits: u16) -> Result<Self, OfError> {
        let known = Self::of(version);
        if bits & !known.bits() != 0 {
            return Err(OfError::FmfcBadFlags);
        }
        Ok(Self::from_bits_truncate(bits))
    }

    pub(crate) fn wire(self, version: Version) -> u16 {
        (self & Self::of(version)).bits()
    }

    /// Appends the names, each with a space behind it.
    pub fn text(self, out: &mut String) {
        for (_, name) in FLAG_NAMES.iter().filter(|(flag, _)| self.contains(*flag)) {
            w!(out, "{name} ");
        }
    }
}

/// A flow-mod message.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowMod {
    pub command: FlowCommand,
    /// [`ALL_TABLES`]: all, or none given.
    pub table_id: TableId,
    pub priority: u16,
    pub matching: Match,
    /// Flows with `cookie` in the bits of `cookie_mask` are modified or deleted.
    pub cookie: u64,
    pub cookie_mask: u64,
    /// The cookie of an added flow, or of a modified one if `modify_cookie`. All ones: none given.
    pub new_cookie: u64,
    pub modify_cookie: bool,
    /// Seconds; 0 for never.
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    /// Greater is evicted later. OpenFlow 1.4 and later.
    pub importance: u16,
    pub buffer_id: u32,
    /// Only flows that output to this port ([`OfPort::NONE`]: any), to this group, are deleted.
    pub out_port: OfPort,
    pub out_group: GroupId,
    pub flags: FlowFlags,
    /// Apply-actions and the other instructions, in execution order.
    pub actions: Arc<[OfAction]>,
    /// `tun_metadata` fields that the actions use (bit N: field N), if lengths were given to decode.
    pub tlvs_used: u64,
}

impl Default for FlowMod {
    /// Adds a flow that matches everything and drops, at the default priority.
    fn default() -> Self {
        Self {
            command: FlowCommand::Add,
            table_id: ALL_TABLES,
            priority: DEFAULT_PRIORITY,
            matching: Match::default(),
            cookie: 0,
            cookie_mask: 0,
            new_cookie: 0,
            modify_cookie: false,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            buffer_id: NO_BUFFER,
            out_port: OfPort::NONE,
            out_group: ANY_GROUP,
            flags: FlowFlags::empty(),
            actions: Arc::from([]),
            tlvs_used: 0,
        }
    }
}

/// What a switch knows that flow-mods are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Ports from here on do not exist, but for reserved ones.
    pub max_ports: OfPort,
    pub n_tables: u8,
}

impl Limits {
    /// As lax as a client is.
    pub const NONE: Self = Self { max_ports: OfPort::MAX, n_tables: 255 };
}

/// A flow-mod halfway: flags and command are not checked yet.
struct Draft {
    this: FlowMod,
    command: u16,
    full: FullMatch,
    flags: u16,
}

impl FlowMod {
    /// Decodes a message on a connection in flow format `protocol`.
    pub fn decode(
        msg: &[u8],
        protocol: Protocols,
        limits: Limits,
        cx: &mut Decode<'_>,
    ) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[Raw::Ofpt10FlowMod, Raw::Ofpt11FlowMod, Raw::NxtFlowMod];
        let (header, version, mut body) = open(msg, RAWS)?;
        let tid = protocol.intersects(Protocols::TID);
        let Draft { mut this, command, full, flags } = match header.raw {
            Raw::Ofpt11FlowMod => Self::read11(version, &mut body, cx)?,
            Raw::Ofpt10FlowMod => Self::read10(&mut body, tid)?,
            _ => Self::read_nx(&mut body, tid, cx)?,
        };
        check_ct_addresses(&full)?;
        this.command = *FlowCommand::ALL.get(usize::from(command)).ok_or(OfError::FmfcBadCommand)?;
        let mut actions = instruction::decode(body.rest(), cx)?;
        this.tlvs_used = cx.tlvs_used;
        this.flags = this.checked_flags(version, flags)?;
        let mut what = Check::new(&full);
        what.max_ports = limits.max_ports.0;
        what.table = (this.table_id != ALL_TABLES).then_some(this.table_id);
        what.n_tables = limits.n_tables;
        check::check_consistency(&mut actions, protocol, &mut what)?;
        this.actions = actions.into();
        this.matching = Match::new(&full);
        Ok(this)
    }

    fn read11(version: Version, body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Draft, OfError> {
        let (cookie, cookie_mask, table_id) = (body.u64()?, body.u64()?, TableId(body.u8()?));
        let command = u16::from(body.u8()?);
        let delete = matches!(command, 3 | 4);
        let mut this = Self { table_id, new_cookie: u64::MAX, cookie, cookie_mask, ..Self::default() };
        // In OpenFlow 1.1, a modification that does not look at cookies adds the flow if there is none.
        let may_add = version == Version::V11 && matches!(command, 1 | 2) && cookie_mask == 0;
        if command == 0 || may_add {
            (this.cookie, this.cookie_mask, this.new_cookie) = (0, 0, cookie);
        }
        if table_id == ALL_TABLES && (version == Version::V11 || !delete) {
            // Later errors come first on the wire, but the match is read before the table is looked at.
            let mut rest = *body;
            rest.skip(22)?;
            matching::read11(&mut rest, cx)?;
            return Err(OfError::FmfcBadTableId);
        }
        this.idle_timeout = body.u16()?;
        this.hard_timeout = body.u16()?;
        this.priority = body.u16()?;
        this.buffer_id = body.u32()?;
        let mut out_port = body.sub(4)?;
        let out_group = GroupId(body.u32()?);
        this.out_group = if delete { out_group } else { ANY_GROUP };
        let flags = body.u16()?;
        let importance = body.u16()?;
        this.importance = if version >= Version::V14 && command == 0 { importance } else { 0 };
        let full = matching::read11(body, cx)?;
        this.out_port = read_port32(&mut out_port)?;
        Ok(Draft { this, command, full, flags })
    }

    fn read10(body: &mut Reader<'_>, tid: bool) -> Result<Draft, OfError> {
        let wildcards = body.clone().u32()?;
        let mut full = matching::read10(body)?;
        matching::normalize(&mut full);
        let new_cookie = body.u64()?;
        let command = body.u16()?;
        let mut this = Self { new_cookie, modify_cookie: new_cookie != u64::MAX, ..Self::default() };
        this.idle_timeout = body.u16()?;
        this.hard_timeout = body.u16()?;
        let priority = body.u16()?;
        // An exact match has the highest priority.
        this.priority = if wildcards & matching::WILDCARDS10 != 0 { priority } else { u16::MAX };
        this.buffer_id = body.u32()?;
        this.out_port = OfPort(body.u16()?);
        let flags = body.u16()?;
        let command = this.split_command(command, tid);
        Ok(Draft { this, command, full, flags })
    }

    fn read_nx(body: &mut Reader<'_>, tid: bool, cx: &mut Decode<'_>) -> Result<Draft, OfError> {
        let new_cookie = body.u64()?;
        let command = body.u16()?;
        let mut this = Self { new_cookie, modify_cookie: new_cookie != u64::MAX, ..Self::default() };
        this.idle_timeout = body.u16()?;
        this.hard_timeout = body.u16()?;
        this.priority = body.u16()?;
        this.buffer_id = body.u32()?;
        this.out_port = OfPort(body.u16()?);
        let flags = body.u16()?;
        let match_len = usize::from(body.u16()?);
        body.skip(6)?;
        let (full, cookie, cookie_mask) = matching::read_nxm(body, match_len, false, cx)?;
        (this.cookie, this.cookie_mask) = (cookie, cookie_mask);
        if command & 0xff == 0 && cookie_mask != 0 {
            // A flow that is added gets a cookie, and matches none.
            return Err(OfError::BrcNxmInvalid);
        }
        let command = this.split_command(command, tid);
        Ok(Draft { this, command, full, flags })
    }

    /// Splits a command that may have the table in its high byte.
    fn split_command(&mut self, command: u16, tid: bool) -> u16 {
        let [table, low] = command.to_be_bytes();
        if tid {
            self.table_id = TableId(table);
            return low.into();
        }
        if table != 0 {
            tracing::warn!(
                target: "ofp_flow",
                "flow_mod has explicit table_id but flow_mod_table_id extension is not enabled"
            );
        }
        command
    }

    fn checked_flags(&self, version: Version, bits: u16) -> Result<FlowFlags, OfError> {
        let emergency = version == Version::V10 && bits & EMERGENCY10 != 0;
        let mut flags = FlowFlags::from_wire(version, if emergency { bits & !EMERGENCY10 } else { bits })?;
        if emergency {
            let timeout = self.hard_timeout != 0 || self.idle_timeout != 0;
            return Err(if timeout { OfError::FmfcBadEmergTimeout } else { OfError::FmfcTableFull });
        }
        if version <= Version::V11 && self.command == FlowCommand::Add {
            flags |= FlowFlags::RESET_COUNTS;
        }
        Ok(flags)
    }

    /// The message in one flow format.
    pub fn encode(&self, protocol: Protocols, xid: u32) -> Vec<u8> {
        let version = protocol.version().unwrap_or(Version::V10);
        let full = self.matching.expand();
        let mut msg = if version > Version::V10 {
            self.encode11(version, &full, xid)
        } else if protocol.intersects(Protocols::OF10_NXM_ANY) {
            self.encode_nx(protocol, &full, xid)
        } else {
            self.encode10(protocol, &full, xid)
        };
        instruction::encode(&self.actions, version, &mut msg);
        header::finish(&mut msg);
        msg
    }

    fn encode11(&self, version: Version, full: &FullMatch, xid: u32) -> Vec<u8> {
        let v11 = version == Version::V11;
        let adds =
            self.command == FlowCommand::Add || (v11 && self.command.is_modify() && self.cookie_mask == 0);
        let any_table = self.table_id != ALL_TABLES || (!v11 && self.command.is_delete());
        let mut msg = header::start(Raw::Ofpt11FlowMod, version, xid);
        msg.u64(if adds { self.new_cookie } else { self.cookie & self.cookie_mask }).u64(self.cookie_mask);
        msg.u8(if any_table { self.table_id.0 } else { 0 }).u8(self.command as u8);
        msg.u16(self.idle_timeout).u16(self.hard_timeout).u16(self.priority).u32(self.buffer_id);
        put_port32(&mut msg, self.out_port);
        msg.u32(self.out_group.0).u16(self.flags.wire(version));
        let importance = version >= Version::V14 && self.command == FlowCommand::Add;
        msg.u16(if importance { self.importance } else { 0 });
        matching::put11(full, version, &mut msg);
        msg
    }

    fn joined_command(&self, protocol: Protocols) -> u16 {
        let table = if protocol.intersects(Protocols::TID) { u16::from(self.table_id.0) << 8 } else { 0 };
        table | self.command as u16
    }

    fn encode10(&self, protocol: Protocols, full: &FullMatch, xid: u32) -> Vec<u8> {
        let mut msg = header::start(Raw::Ofpt10FlowMod, Version::V10, xid);
        matching::put10(full, &mut msg);
        msg.u64(self.new_cookie).u16(self.joined_command(protocol));
        msg.u16(self.idle_timeout).u16(self.hard_timeout).u16(self.priority).u32(self.buffer_id);
        msg.u16(self.out_port.0).u16(self.flags.wire(Version::V10));
        msg
    }

    fn encode_nx(&self, protocol: Protocols, full: &FullMatch, xid: u32) -> Vec<u8> {
        let mut msg = header::start(Raw::NxtFlowMod, Version::V10, xid);
        msg.u64(self.new_cookie).u16(self.joined_command(protocol));
        msg.u16(self.idle_timeout).u16(self.hard_timeout).u16(self.priority).u32(self.buffer_id);
        msg.u16(self.out_port.0).u16(self.flags.wire(Version::V10));
        let len_at = msg.len();
        msg.zeros(8);
        let len = matching::put_nxm(full, self.cookie, self.cookie_mask, &mut msg);
        set_u16(&mut msg, len_at, u16::try_from(len).unwrap_or(u16::MAX));
        msg
    }

    /// Appends the text of a message.
    pub fn msg_text(msg: &[u8], names: &Names, verbosity: i32, out: &mut String) -> Result<(), OfError> {
        let header = Header::peek(msg)?;
        let version = header.version()?;
        let protocol = Protocols::initial(version).with_table_id(true);
        let this = Self::decode(msg, protocol, Limits::NONE, &mut Decode::for_text(version))?;
        out.push_str(match this.command {
            FlowCommand::Add => " ADD",
            FlowCommand::Modify => " MOD",
            FlowCommand::ModifyStrict => " MOD_STRICT",
            FlowCommand::Delete => " DEL",
            FlowCommand::DeleteStrict => " DEL_STRICT",
        });
        if this.table_id.0 != 0 || names.tables.name(0).is_some() {
            w!(out, " table:{}", names.table(this.table_id));
        }
        out.push(' ');
        let priority_told = this.match_text(msg, &header, names, verbosity, out);
        if !out.ends_with(' ') {
            out.push(' ');
        }
        this.rest_text(priority_told, names, version, out);
        Ok(())
    }

    /// Appends the match, in the message's own terms if much is to be told, and says whether with priority.
    fn match_text(
        &self,
        msg: &[u8],
        header: &Header,
        names: &Names,
        verbosity: i32,
        out: &mut String,
    ) -> bool {
        let body = &msg[header.len..];
        match header.raw {
            Raw::Ofpt10FlowMod if verbosity >= 3 => {
                out.push_str(&matching::text10(&body[..40], names, verbosity));
                false
            }
            Raw::NxtFlowMod if verbosity >= 3 => {
                let len = usize::from(u16::from_be_bytes([body[24], body[25]]));
                out.push_str(&matching::nxm_text(body.get(32..32 + len).unwrap_or(&[])));
                false
            }
            _ => {
                out.push_str(&matching::text(&self.matching.expand(), self.priority.into(), names));
                true
            }
        }
    }

    fn rest_text(&self, priority_told: bool, names: &Names, version: Version, out: &mut String) {
        if self.new_cookie != 0 && self.new_cookie != u64::MAX {
            w!(out, "cookie:{:#x} ", self.new_cookie);
        }
        if self.cookie_mask != 0 {
            w!(out, "cookie:0x{:x}/{:#x} ", self.cookie, self.cookie_mask);
        }
        for (name, value) in
            [("idle", self.idle_timeout), ("hard", self.hard_timeout), ("importance", self.importance)]
        {
            if value != 0 {
                w!(out, "{name}:{value} ");
            }
        }
        if self.priority != DEFAULT_PRIORITY && !priority_told {
            w!(out, "pri:{} ", self.priority);
        }
        if self.buffer_id != NO_BUFFER {
            w!(out, "buf:0x{:x} ", self.buffer_id);
        }
        if self.out_port != OfPort::NONE {
            w!(out, "out_port:{} ", names.port(self.out_port));
        }
        // OpenFlow 1.0 and 1.1 have no such flag on the wire.
        let hidden = if version <= Version::V11 { FlowFlags::RESET_COUNTS } else { FlowFlags::empty() };
        self.flags.difference(hidden).text(out);
        w!(out, "actions={}", action::text(&self.actions, names));
    }
}

/// Original addresses of tracked connections are matched only together with their family.
fn check_ct_addresses(full: &FullMatch) -> Result<(), OfError> {
    let (key, mask) = (&full.key, &full.mask.0);
    let dl_type = key.dl_type.get();
    let v4 = mask.ct_nw_src.get() != 0 || mask.ct_nw_dst.get() != 0;
    let v6 = mask.ct_ipv6_src != [0; 16] || mask.ct_ipv6_dst != [0; 16];
    if (v4 && dl_type != 0x0800) || (v6 && dl_type != 0x86dd) {
        return Err(OfError::BacMatchInconsistent);
    }
    Ok(())
}
