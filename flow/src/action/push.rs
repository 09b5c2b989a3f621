//! Tunnel headers that the userspace datapath prepends (`OVS_ACTION_ATTR_TUNNEL_PUSH`).

use crate::id::DpPort;

/// Room for a header in the action.
pub const HEADER_SIZE: usize = 512;

/// Kinds of tunnel ports, `enum ovs_vport_type`.
pub mod vport {
    pub const GRE: u32 = 3;
    pub const VXLAN: u32 = 4;
    pub const GENEVE: u32 = 5;
    pub const ERSPAN: u32 = 107;
    pub const IP6ERSPAN: u32 = 108;
    pub const IP6GRE: u32 = 109;
    pub const GTPU: u32 = 110;
    pub const BAREUDP: u32 = 111;
    pub const SRV6: u32 = 112;
}

/// Flags of a GRE header, which say what follows it (RFC 2890).
pub mod gre {
    pub const CSUM: u16 = 0x8000;
    pub const KEY: u16 = 0x2000;
    pub const SEQ: u16 = 0x1000;
}

/// Encapsulates the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPush {
    /// The tunnel's port.
    pub tnl_port: DpPort,
    /// The port of the underlay that the packet leaves by.
    pub out_port: DpPort,
    /// One of [`vport`].
    pub tnl_type: u32,
    /// Everything that goes in front of the packet, Ethernet header first; lengths and checksums are filled in when
    /// the packet is known. At most [`HEADER_SIZE`] bytes.
    pub header: Vec<u8>,
}
