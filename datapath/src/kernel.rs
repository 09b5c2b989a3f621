//! The Linux kernel's datapath, over generic netlink.
//!
//! * [`fair`]: which upcalls a handler answers when there are more than it can.

pub mod fair;
