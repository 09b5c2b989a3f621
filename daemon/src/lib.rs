//! What every program shares.
#![forbid(unsafe_code)]
