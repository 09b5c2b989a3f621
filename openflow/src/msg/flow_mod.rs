//! Flow-mods. Spec: OpenFlow 1.0 section 5.3.3 to OpenFlow 1.5 section 7.3.4.2; `NXT_FLOW_MOD`.

use super::w;
use crate::action::OfAction;
use flow::id::{GroupId, OfPort, TableId};
use flow::mini::Match;
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
