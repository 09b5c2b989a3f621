//! The switch: from configuration to datapath flows.
//!
//! A tour, in the order to read it:
//!
//! * [`ofproto`]: one bridge as an OpenFlow switch: tables, rules, classifier, groups, meters, ports.
//! * [`xlate`]: from packets to datapath actions by way of the tables.
//! * [`tunnel`]: which tunnel a packet came by, and the outer header that it leaves with.
//! * [`backer`]: what bridges of one datapath type share; [`upcall`]: what the datapath asks; [`reval`]: its flows;
//!   [`packet_out`]: what controllers send.
//! * [`bridge`]: from the database to bridges, ports and tables, and back.
//! * [`conn`]: OpenFlow connections.
//! * [`route`]: where packets of the switch's own go.
//! * [`world`]: what bridges stand on: datapaths, connections.
//! * [`drops`]: what datapaths drop, as counters. [`mod@offload`]: what is in hardware.
//! * [`event`]: the state of the program and its loop. [`command`]: the table of `ovs-appctl` commands.
#![forbid(unsafe_code)]

pub mod ofproto;
pub mod xlate;
pub mod tunnel;
pub mod backer;
pub mod upcall;
pub mod reval;
pub mod packet_out;
pub mod bridge;
pub mod conn;
pub mod route;
pub mod world;
pub mod drops;
pub mod offload;
pub mod event;
pub mod command;
