//! Suites that need more than one crate.
#![forbid(unsafe_code)]
