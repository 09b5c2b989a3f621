//! RFC 7047 and the OVS extensions.
//!
//! In reading order: what a database is made of ([`value`], [`types`], [`schema`] and their text forms), how it
//! changes ([`condition`], [`mutation`], [`transaction`], [`rbac`], [`transact`]), who hears of it ([`monitor`]), where it is kept
//! ([`storage`]), who serves it ([`server`]), how a program uses one ([`idl`]) and how tables are printed ([`output`]).
#![forbid(unsafe_code)]

pub mod error;
pub mod json;
pub mod parser;
pub mod value;
pub mod types;
pub mod symbols;
pub mod text;
pub mod schema;
pub mod database;
pub mod condition;
pub mod mutation;
pub mod transaction;
pub mod rbac;
pub mod transact;
pub mod monitor;
pub mod convert;
pub mod storage;
pub mod server;
pub mod idl;
pub mod vswitch;
pub mod output;
