//! The userspace datapath: a vector engine.
//!
//! It reads in packet order, and so does the module list:
//!
//! * [`port`]: where frames come from and go to.
//! * [`batch`], [`vector`]: packets, and what is found out about them, array by array.
//! * [`csum`]: checksums and segmentation that the kernel left to us.
//! * [`graph`]: the nodes, their counters, traces.
//! * [`node`]: one file a node.
//! * [`program`]: action lists, compiled.
//! * [`classifier`], [`flows`]: megaflows, owned by their worker.
//! * [`worker`], [`pmd`]: who runs the graph, and on which thread.
//! * [`ports`]: the table of ports.
//! * [`engine`]: all of it as a [`crate::Datapath`].
//! * [`show`], [`control`]: what the commands print and do.

pub mod port;
pub mod batch;
pub mod vector;
pub mod csum;
pub mod graph;
pub mod node;
pub mod program;
pub mod classifier;
pub mod flows;
pub mod worker;
pub mod pmd;
pub mod ports;
mod table;
pub mod engine;
pub mod show;
pub mod control;
pub(crate) mod log;

pub use engine::{Engine, Setup};
