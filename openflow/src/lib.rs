//! OpenFlow 1.0 to 1.5 and the Nicira extensions: wire and text.
//!
//! A tour, in the order to read it:
//!
//! * [`version`]: the protocol versions.
#![forbid(unsafe_code)]

pub mod version;
