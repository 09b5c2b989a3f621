//! One bridge as an OpenFlow switch: its tables, groups, meters and ports.
//!
//! In the order to read it:
//!
//! * [`version`]: how readers see a consistent table while the writer works.
//! * [`classifier`]: which rule a packet meets, and which of its bits decided that.

pub mod version;
pub mod classifier;

pub use version::{Pin, Version};
