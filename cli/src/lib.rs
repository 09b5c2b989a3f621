//! The command-line programs.
#![forbid(unsafe_code)]

pub mod ovsdb_tool;
