//! Tests of the tracker as a whole: frames for it, a slow twin, and the two held against each other.

pub(crate) mod frames;
pub(crate) mod oracle;
mod twin;
mod whole;
