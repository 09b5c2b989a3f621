//! The userspace datapath: a vector engine.
//!
//! It reads in packet order, and so does the module list.
pub mod port;
pub mod batch;
pub mod csum;
