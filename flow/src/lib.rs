//! The vocabulary of the switch. Pure: no sockets, no threads, no policy.
//!
//! A tour, in the order to read it:
//!
//! * [`id`]: newtypes for every number that names something.
//! * [`time`]: instants and the injected clock.
//! * [`proto`]: EtherTypes, IP protocols, flags.
//! * [`key`]: what the switch knows of a packet, and masks over it.
//! * [`field`]: the registry of the fields of a key: names, widths, text, OpenFlow ids.
//! * [`mini`]: compressed keys and matches, as they are stored.
//! * [`tlv`]: tunnel options mapped to fields.
//! * [`wildcards`]: masks that follow from what a packet is.
//! * [`hash`]: hashes of words and of flows.
//! * [`describe`]: keys and matches as OVS prints them.
//! * [`extract`]: frame to key; [`compose`]: key to frame; [`packet`]: edits of frames; [`checksum`].
//! * [`attr`]: netlink attributes.
//! * [`odp`]: datapath flows: keys and masks as attributes and as text.
//! * [`action`]: datapath actions; [`cookie`]: what userspace writes into them; [`mod@drop`]: why packets are dropped.
//! * [`ct`]: which tracked connections are meant.
//! * [`stack`]: pushing and popping VLAN tags and MPLS labels.
//! * [`exact`]: one flow, each field exactly, from text.
//! * [`text`]: pieces of text that several of these share.
#![forbid(unsafe_code)]

pub mod id;
pub mod time;
pub mod proto;
pub mod key;
pub mod field;
pub mod mini;
pub mod recent;
pub mod tlv;
pub mod wildcards;
pub mod hash;
pub mod describe;
pub mod extract;
pub mod checksum;
pub mod packet;
pub mod compose;
pub mod attr;
pub mod odp;
pub mod action;
pub mod cookie;
pub mod drop;
pub mod text;
pub mod exact;
pub mod ct;
pub mod stack;
