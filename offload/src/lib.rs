//! Hardware offload over any datapath.
#![forbid(unsafe_code)]
