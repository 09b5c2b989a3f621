//! The vocabulary of the switch. Pure: no sockets, no threads, no policy.
//!
//! A tour, in the order to read it:
//!
//! * [`id`]: newtypes for every number that names something.
//! * [`time`]: instants and the injected clock.
//! * [`key`]: what the switch knows of a packet, and masks over it.
#![forbid(unsafe_code)]

pub mod id;
pub mod time;
pub mod key;
