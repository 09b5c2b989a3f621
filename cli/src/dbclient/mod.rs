//! `ovsdb-client`: asks a database server one thing.
//!
//! * [`rpc`]: the connection.
//! * [`program`]: options, the table of commands, which server and database are meant.
//! * [`commands`]: the commands that ask once.
//! * [`monitor`]: those that listen.
//! * [`backup`]: backup and restore.

pub mod rpc;
pub mod program;
pub mod commands;
pub mod monitor;
pub mod backup;
