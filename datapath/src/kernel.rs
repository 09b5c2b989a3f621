//! The Linux kernel's datapath, over generic netlink.
//!
//! * [`nfnetlink`], [`ct`]: the connection tracker.
//! * [`tunnel`]: the links that carry tunnels' packets.
//! * [`fair`]: which upcalls a handler answers when there are more than it can.

pub mod nfnetlink;
pub mod ct;
pub mod fair;
pub mod tunnel;
