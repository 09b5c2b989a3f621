//! Moves bytes between the kernel and the switch; the only home of `unsafe`.
//!
//! A tour, in the order to read it:
//!
//! * [`errno`]: the kernel's error numbers and their words.
#![warn(unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod errno;
