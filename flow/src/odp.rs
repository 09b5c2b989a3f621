//! Datapath flows: keys and masks as netlink attributes (`OVS_KEY_ATTR_*`, `linux/openvswitch.h`), their text, and
//! the way to and from a [`Key`](crate::key::Key).
//!
//! A datapath flow is known by its attribute bytes, [`RawKey`] and [`RawMask`]: puts, deletes and UFIDs use them, and
//! text is printed from them, for presence and order of attributes are part of what is printed. An attribute
//! unknown to us survives and prints as `keyN(…)`.
//!
//! * [`attrs`]: one attribute, typed ([`KeyAttr`]), and the codec.
//! * [`tunnel`]: the attributes within `OVS_KEY_ATTR_TUNNEL`.
//! * [`rows`]: the table of attributes and their fields that text is made and read by.
//! * [`mod@format`] prints text, [`parse`] reads it.
//! * [`from_flow`] and [`to_flow`]: conversion, with [`Fitness`]; [`convert`] holds the correspondence. [`handed`]: the short way
//!   for packets that are handed up. [`shape`]: masks made once for many flows.
//! * [`commit`]: the difference of two keys as actions.

pub mod attrs;
pub mod tunnel;
pub mod rows;
pub mod format;
pub mod parse;
pub mod convert;
pub mod from_flow;
pub mod to_flow;
pub mod shape;
pub mod handed;
pub mod commit;

pub use attrs::{
    ArpKey, CtTuple4Key, CtTuple6Key, EthernetKey, IcmpKey, Ipv4Key, Ipv6Key, KeyAttr, NdExtKey, NdKey,
    NshKey, PortsKey,
};
pub use from_flow::{Params, key_from_flow, mask_from_flow};
pub use handed::read_metadata;
pub use shape::{Masks, Shape};
pub use to_flow::{KeyError, key_to_flow, key_to_flow_limited, mask_to_flow, read_key};
pub use tunnel::TunnelAttr;

use std::sync::Arc;

use crate::attr::Attrs;

/// A flow key as attributes, shared by who asks a datapath for the flow and who keeps the flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RawKey(pub Arc<[u8]>);

/// A flow mask as attributes, shared by flows; empty where the flow has none (then every bit of the key counts).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RawMask(pub Arc<[u8]>);

impl RawKey {
    pub fn attrs(&self) -> Attrs<'_> {
        Attrs::new(&self.0)
    }
}

impl RawMask {
    pub fn attrs(&self) -> Attrs<'_> {
        Attrs::new(&self.0)
    }
}

/// How well a [`Key`](crate::key::Key) represents a datapath's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// Everything is represented.
    Perfect,
    /// The datapath's key had less than we need: the flow can only be handled packet by packet.
    TooLittle,
    /// The datapath's key had more than we understand; matching on what we know is sound if the rest is not masked.
    TooMuch,
}

/// What a datapath can match and do: rows of `dpif/show-dp-features` that decide how keys are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OdpSupport {
    /// VLAN headers that can be matched.
    pub max_vlan_headers: usize,
    /// MPLS labels that can be matched.
    pub max_mpls_depth: usize,
    pub recirc: bool,
    pub ct_state: bool,
    pub ct_zone: bool,
    pub ct_mark: bool,
    pub ct_label: bool,
    /// `OVS_CS_F_*_NAT` bits of `ct_state`.
    pub ct_state_nat: bool,
    pub ct_orig_tuple: bool,
    pub ct_orig_tuple6: bool,
    pub nd_ext: bool,
}

impl OdpSupport {
    /// What the userspace datapath has.
    pub const ALL: Self = Self {
        max_vlan_headers: usize::MAX,
        max_mpls_depth: usize::MAX,
        recirc: true,
        ct_state: true,
        ct_zone: true,
        ct_mark: true,
        ct_label: true,
        ct_state_nat: true,
        ct_orig_tuple: true,
        ct_orig_tuple6: true,
        nd_ext: true,
    };
}

/// Datapath port numbers and names, for text.
pub trait PortNames {
    fn name(&self, port: crate::id::DpPort) -> Option<String>;
    fn port(&self, name: &str) -> Option<crate::id::DpPort>;
}

/// Ports without names: numbers are printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl PortNames for NoNames {
    fn name(&self, _: crate::id::DpPort) -> Option<String> {
        None
    }

    fn port(&self, _: &str) -> Option<crate::id::DpPort> {
        None
    }
}

impl PortNames for std::collections::BTreeMap<crate::id::DpPort, String> {
    fn name(&self, port: crate::id::DpPort) -> Option<String> {
        self.get(&port).cloned()
    }

    fn port(&self, name: &str) -> Option<crate::id::DpPort> {
        self.iter().find(|(_, known)| *known == name).map(|(&port, _)| port)
    }
}
