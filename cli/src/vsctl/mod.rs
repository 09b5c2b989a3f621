//! `ovs-vsctl`: the commands that know what a bridge is.
//!
//! * [`model`]: bridges (fake ones too), ports and interfaces as the database has them.
//! * [`bridge`], [`port`]: the commands on those.
//! * [`targets`]: controllers, managers, fail mode, TLS.
//! * [`zone`]: connection-tracking zones of a datapath.
//! * [`autoattach`]: Auto Attach mappings.
//! * [`program`]: options and the tables of names.

pub mod model;
pub mod bridge;
pub mod port;
pub mod targets;
pub mod zone;
pub mod autoattach;
pub mod program;
