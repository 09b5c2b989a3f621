//! Suites that need more than one crate: ours beside the real peer, real clients, real traffic.
//!
//! * [`kit`]: whose programs run.
//! * [`sandbox`]: a private run directory with daemons in it.
//! * [`hosts`]: namespaces to send traffic between.
//! * [`scenario`]: a scripted session, played on a sandbox into a transcript.
//! * [`compare`]: transcripts held against each other, but for the rows of `interop/since-3.1`.
//! * [`manuals`]: the manual pages and their sources.
//! * [`fuzz`]: every parser of the workspace as a function of bytes, for the fuzzer and for the test of its findings.
#![forbid(unsafe_code)]

pub mod kit;
pub mod sandbox;
pub mod hosts;
pub mod scenario;
pub mod compare;
pub mod manuals;
pub mod fuzz;
