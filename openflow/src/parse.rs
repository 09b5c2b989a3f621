//! The text of flows, groups, meters and the like as people write it, into the structs that become messages.
//!
//! This is the grammar of ovs-ofctl(8) and of ovs-fields(7). Every parser also tells which flow formats can express
//! what it parsed, so that a program can choose one before it speaks to a switch.

pub mod matching;
pub mod flow;
pub mod monitor;
pub mod packet_out;
pub mod group;
pub mod meter;
pub mod table;
pub mod tlv;
