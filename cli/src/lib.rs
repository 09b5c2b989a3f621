//! The command-line programs.
#![forbid(unsafe_code)]

pub mod appctl;
pub mod ovsdb_tool;
