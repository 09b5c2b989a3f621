//! Connections in hardware.
//!
//! A connection that the userspace tracker holds to be established goes to the devices of its ports as two rules, one for each
//! direction, each of them the whole way that packets of the direction take: match, translation, output. From
//! there it is kept alive by what the rules count, and taken back when its tracker, a flow on its way, or a port says
//! so. Rules are confirmed to be gone before anything of the connection is freed.
//!
//! * [`change`]: what actions make of what packets look like. [`path`]: the way of its packets.
//! * [`rule`]: one rule on its way, a state machine.
//! * [`table`]: the connections, bounded; requests and answers.
//! * [`gc`]: the collector, and what it asks of devices and of where connections come from.
//! * [`nic`]: devices by tc-flower.
//! * [`worker`]: all of it over the userspace datapath, with a thread.
//! * [`show`]: what commands tell.

pub mod change;
pub mod path;
pub mod rule;
pub mod table;
pub mod gc;
pub mod nic;
pub mod worker;
pub mod show;
