//! Hardware offload over any datapath.
//!
//! Nothing is here yet: the switch forwards in software, and no crate depends on this one. What comes is a datapath that
//! wraps another, lowers flows to tc-flower where a device takes them, hands the rest to the inner datapath, and keeps
//! the reason.
#![forbid(unsafe_code)]
