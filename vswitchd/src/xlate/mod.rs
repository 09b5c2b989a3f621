//! Translation: from a packet's key to datapath actions, by way of a bridge's OpenFlow tables.
//!
//! A translation reads one [`Snapshot`] and pinned versions of the tables, and writes into its [`Output`] only: actions,
//! the mask of everything it looked at, and [`Effect`]s (counters, learned addresses, learned flows) that the caller
//! applies once for a packet and again whenever a datapath flow reports packets.
//!
//! The mask is OVS's to the bit: megaflows that are wider would be wrong, narrower ones would show in every dump. So each
//! action says what it looked at exactly where OVS does, and [`finish`] removes what no datapath flow can have.
//!
//! In the order to read it:
//!
//! * [`snapshot`], [`mac`]: what is read; [`asked`]: how tables were asked, [`effect`]: what else a translation does.
//! * [`ctx`]: the state of a translation; [`past`]: what it need not do again; [`report`]: what a trace says of it.
//! * [`finish`]: the frame around a translation, and the mask's two ends.
//! * [`actions`]: one action after the other. Each family has a file: [`table`] (resubmit, goto), [`output`], [`normal`]
//!   with [`vlan`] and [`mirror`], [`group`], [`set`], [`ttl`], [`controller`], [`bundle`], [`learn`], [`ct`], [`clone`],
//!   [`check_pkt_larger`], [`sample`], [`encap`].
//! * [`freeze`]: stopping midway to go on after recirculation.
//! * [`trace`]: what `ofproto/trace` prints; [`trace_command`], [`fdb`]: commands.

pub mod snapshot;
pub mod mac;
pub mod asked;
pub mod effect;
pub mod report;
pub mod ctx;
pub mod past;
pub mod finish;
pub mod actions;
pub mod table;
pub mod output;
pub mod vlan;
pub mod normal;
pub mod mirror;
pub mod group;
pub mod set;
pub mod ttl;
pub mod controller;
pub mod bundle;
pub mod learn;
pub mod ct;
pub mod clone;
pub mod check_pkt_larger;
pub mod sample;
pub mod encap;
pub mod freeze;
pub mod trace;
pub mod trace_command;
pub mod fdb;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use flow::action::Action;
use flow::cookie::SlowReasons;
use flow::drop::DropReason;
use flow::id::OfPort;
use flow::key::{Key, Mask};
use flow::time::Instant;
use openflow::action::OfAction;

pub use effect::{Deferred, Effect, Effects, Stats};
pub use finish::{Room, translate, translate_again};
pub use freeze::{Frozen, RecircIds, RecircRef};
pub use past::Past;
pub use snapshot::{Bridge, BridgeId, BundleId, Snapshot};

use crate::ofproto::classifier::Free;
use crate::ofproto::{Pin, Rule};

/// Deepest nesting of resubmits to the same or an earlier table, groups and patch ports.
pub const MAX_DEPTH: usize = 64;
/// Most resubmits in one translation.
pub const MAX_RESUBMITS: usize = MAX_DEPTH * MAX_DEPTH;

/// What is translated.
pub struct Input<'a> {
    pub snapshot: &'a Snapshot,
    pub bridge: &'a Arc<Bridge>,
    pub recirc: &'a RecircIds,
    /// The packet's key as the datapath has it.
    pub key: &'a Key,
    /// The port of `bridge` by which it came.
    pub in_port: OfPort,
    /// The packet itself, if there is one.
    pub packet: Option<&'a [u8]>,
    /// These actions instead of a table's (packet-outs).
    pub actions: Option<&'a [OfAction]>,
    /// This rule instead of the one that the tables give.
    pub rule: Option<Arc<Rule>>,
    /// A state to resume that no recirculation id names (a controller's continuation).
    pub frozen: Option<Arc<Frozen>>,
    /// The version of the bridge's tables; `None` for the published one.
    pub pin: Option<Pin>,
    /// Whether translation may change what later packets meet (learned addresses), and tell controllers.
    pub side_effects: bool,
    /// Whether the caller keeps the effects to apply them again.
    pub caching: bool,
    pub in_packet_out: bool,
    pub trace: bool,
    /// Whether a trace names ports.
    pub names: bool,
    pub now: Instant,
    /// Nesting and resubmits of a translation that this one continues.
    pub depth: usize,
    pub resubmits: usize,
    /// The netlink pid that userspace actions name, by input port.
    pub pid: &'a dyn Fn(flow::id::DpPort) -> u32,
}

/// What a translation gives.
pub struct Output {
    /// The key after all actions, if the translation is traced.
    pub key: Option<Box<Key>>,
    pub mask: Box<Mask>,
    /// What of it was only copied, to where nobody looked.
    pub free: Free,
    /// Whether what decided is not all in the mask: no other packet can be said to come to the same result.
    pub alone: bool,
    /// Whether packets for which the same decided may have other masks, which are as right.
    pub veiled: bool,
    /// Empty after an error, or an explicit drop.
    pub actions: Vec<Action>,
    /// Why the packets must pass through userspace.
    pub slow: SlowReasons,
    /// Recirculation ids that the actions name.
    pub recircs: Vec<RecircRef>,
    pub error: Option<DropReason>,
    /// Whether the actions depend on something that the mask does not have, and must not be installed.
    pub avoid_caching: bool,
    /// Whether the actions depend on which rules there are, and not only on what lookups find.
    pub counts_rules: bool,
    /// So many of the last translation's effects come first.
    pub same: usize,
    /// Then these.
    pub effects: Effects,
    /// Whether a rule was met that was [not looked up](past): what that would have looked at is not in the mask.
    pub blind: bool,
    /// Whether the actions may set other bits of a field than they would if it had been.
    pub guessed: bool,
    pub trace: Option<report::Tree>,
    /// Where a trace goes on.
    pub recirculations: Vec<trace::Recirculation>,
}
