//! The nodes of the graph, in packet order. Every file says what its node **uses**, what it **sets** and where packets go **next**.

pub mod rx;
pub mod parse;
pub mod cache;
pub mod classify;
pub mod miss;
pub mod act;
pub mod set;
pub mod header;
pub mod ct;
pub mod meter;
pub mod sample;
pub mod recirc;
pub mod userspace;
pub mod tx;
