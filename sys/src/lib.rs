//! Moves bytes between the kernel and the switch; the only home of `unsafe`.
//!
//! A tour, in the order to read it:
//!
//! * [`errno`]: the kernel's error numbers and their words.
//! * [`process`]: fork, sessions, users, signals, locks, civil time.
//! * [`fault`]: what is left to say when memory is touched that is not ours.
//! * [`cpu`]: prefetch, the time-stamp counter, cores and affinity.
//! * [`poll`]: waiting for file descriptors, and bells that wake a waiting thread.
//! * [`pool`]: packet memory behind owning handles.
//! * [`packet`], [`tap`]: frames from and to the kernel.
//! * [`netlink`]: messages to and from the kernel; [`filter`]: which of them a socket gets.
//! * [`link`]: flags, addresses, counters and settings of interfaces.
#![warn(unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod errno;
pub mod process;
pub mod fault;
pub mod cpu;
pub mod poll;
pub mod pool;
pub mod packet;
pub mod tap;
pub mod netlink;
pub mod filter;
pub mod link;
