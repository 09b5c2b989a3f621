//! Translation: from a packet's key to datapath actions, by way of a bridge's OpenFlow tables.
//!
//! * [`snapshot`], [`mac`]: what is read.

pub mod snapshot;
pub mod mac;

pub use snapshot::{Bridge, BridgeId, BundleId, Snapshot};
