//! An sFlow v5 agent and reader.
#![forbid(unsafe_code)]
