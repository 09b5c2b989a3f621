//! OpenFlow 1.0 to 1.5 and the Nicira extensions: wire and text.
//!
//! A tour, in the order to read it:
//!
//! * [`version`]: the protocol versions.
//! * [`wire`]: big-endian bytes; [`error`]: the table of errors; [`header`]: the table of message formats.
#![forbid(unsafe_code)]

pub mod version;
pub mod wire;
pub mod error;
pub mod header;
