//! The command-line programs: thin mains in `bin/`, and here what they share.
//!
//! - [`table_options`] — how tables are printed.
//! - [`ctl`] — what `ovs-vsctl` and `vtep-ctl` share.
//! - [`vsctl`] — `ovs-vsctl`.
//! - [`vtep`] — `vtep-ctl`.
//! - [`dbclient`] — `ovsdb-client`.
//! - [`ovsdb_tool`] — `ovsdb-tool`.
//! - [`appctl`] — `ovs-appctl`.
#![forbid(unsafe_code)]

pub mod table_options;
pub mod ctl;
pub mod vsctl;
pub mod vtep;
pub mod dbclient;
pub mod appctl;
pub mod ofctl;
pub mod ovsdb_tool;
pub mod sflow_table;
