//! `vtep-ctl`: the commands that know what a hardware VTEP is.
//!
//! * [`switch`]: physical switches and their ports, logical switches and routers.
//! * [`macs`]: which MAC address is behind which tunnel end point.
//! * [`program`]: managers, options and the tables of names.

pub mod switch;
pub mod macs;
pub mod program;
