//! The datapath trait and its implementations.
#![forbid(unsafe_code)]
