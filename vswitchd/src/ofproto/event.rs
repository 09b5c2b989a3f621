//! What a bridge's switch tells the outside: the connections make messages of it.

use std::sync::Arc;

use flow::id::TableId;
use flow::time::Instant;
use openflow::action::OfAction;
use openflow::msg::flow_removed::RemovedReason;
use openflow::msg::group::GroupMod;
use openflow::msg::meter::MeterMod;
use openflow::msg::port::{PhyPort, PortReason};
use openflow::msg::table::TableReason;

use super::rule::{Rule, Usage};

/// Who asked for a change: a connection, as the connections number themselves, and the message's transaction id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Requester {
    pub conn: u64,
    pub xid: u32,
}

/// What happened to a rule, as flow monitors see it.
#[derive(Clone, Debug)]
pub enum FlowChange {
    Added,
    /// The actions it had, if they changed.
    Modified {
        old_actions: Option<Arc<[OfAction]>>,
    },
    /// Added in the place of an equal flow, whose actions these were if they differ.
    Replaced {
        old_actions: Option<Arc<[OfAction]>>,
    },
    Removed(RemovedReason),
}

/// Something to tell controllers.
#[derive(Debug)]
pub enum Event {
    /// A rule is gone for good, its counters final. Only for rules that ask for it.
    FlowRemoved {
        rule: Arc<Rule>,
        reason: RemovedReason,
        usage: Usage,
        at: Instant,
    },
    /// For flow monitors.
    FlowChanged {
        rule: Arc<Rule>,
        change: FlowChange,
        by: Option<Requester>,
    },
    /// What monitors were told since the last one belongs together: send it now.
    MonitorFlush,
    PortStatus {
        reason: PortReason,
        /// What the port was before a modification.
        old: Option<PhyPort>,
        port: PhyPort,
        by: Option<Requester>,
    },
    TableStatus {
        table: TableId,
        reason: TableReason,
    },
    /// A group or meter was changed by another controller.
    GroupModded {
        request: Box<GroupMod>,
        /// Whether the group was there before.
        existed: bool,
        by: Requester,
    },
    MeterModded {
        request: Box<MeterMod>,
        by: Requester,
    },
    /// Controllers are to reconnect, for the datapath id changed.
    Reconnect,
}
