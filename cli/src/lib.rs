//! The command-line programs.
#![forbid(unsafe_code)]
