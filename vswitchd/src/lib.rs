//! The switch: from configuration to datapath flows.
//!
//! A tour, in the order to read it:
//!
//! * [`ofproto`]: one bridge as an OpenFlow switch: tables, rules, classifier, groups, meters, ports.
//! * [`xlate`]: from packets to datapath actions by way of the tables.
//! * [`backer`]: what bridges of one datapath type share; [`upcall`]: what the datapath asks; [`reval`]: its flows.
//! * [`bridge`]: from the database to bridges, ports and tables, and back.
#![forbid(unsafe_code)]

pub mod ofproto;
pub mod xlate;
pub mod backer;
pub mod upcall;
pub mod reval;
pub mod bridge;
