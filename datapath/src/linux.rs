//! The network as the Linux kernel has it: links, addresses, routes and queueing disciplines by rtnetlink.
//!
//! In the order to read it:
//!
//! * [`rtnl`]: requests and dumps on one socket.
//! * [`link`], [`addr`], [`route`], [`rule`], [`neigh`]: one kind of object each: its messages as values, and requests.
//! * [`state`]: what is known of all of them and what the main loop was told. Sans I/O.
//! * [`monitor`]: the thread that keeps it current.
//! * [`hook`]: what filters of packets hang from, for all who have some. [`tc`]: queueing disciplines and policers of a device.
//!
//! A socket speaks for the network namespace that its maker was in.

pub mod rtnl;
pub mod link;
pub mod addr;
pub mod route;
pub mod rule;
pub mod neigh;
pub mod state;
pub mod monitor;
pub mod hook;
pub mod tc;
