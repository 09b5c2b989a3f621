//! The vocabulary of the switch. Pure: no sockets, no threads, no policy.
//!
//! A tour, in the order to read it:
//!
//! * [`id`]: newtypes for every number that names something.
//! * [`time`]: instants and the injected clock.
//! * [`key`]: what the switch knows of a packet, and masks over it.
//! * [`attr`]: netlink attributes.
//! * [`odp`]: datapath flows: keys and masks as attributes and as text.
//! * [`action`]: datapath actions; [`cookie`]: what userspace writes into them; [`drop`]: why packets are dropped.
//! * [`text`]: pieces of text that several of these share.
#![forbid(unsafe_code)]

pub mod id;
pub mod time;
pub mod key;
pub mod attr;
pub mod odp;
pub mod action;
pub mod cookie;
pub mod drop;
pub mod text;
