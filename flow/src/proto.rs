//! Numbers that protocols give: EtherTypes, IP protocols, flags. One place for each.

/// `packet_type` of an Ethernet frame.
pub const PT_ETH: u32 = 0;
/// Namespace of packet types that are EtherTypes (`OFPHTN_ETHERTYPE`, OpenFlow 1.5 section 7.2.3.11).
pub const PT_NS_ETHERTYPE: u32 = 1;

/// The packet type of a packet that begins with the header that the EtherType names.
pub const fn pt_of_ethertype(ethertype: u16) -> u32 {
    (PT_NS_ETHERTYPE << 16) | ethertype as u32
}

/// EtherTypes (IEEE 802 numbers).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const TEB: u16 = 0x6558;
    pub const RARP: u16 = 0x8035;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    pub const LACP: u16 = 0x8809;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MCAST: u16 = 0x8848;
    pub const QINQ: u16 = 0x88a8;
    pub const LLDP: u16 = 0x88cc;
    pub const NSH: u16 = 0x894f;
    pub const CFM: u16 = 0x8902;
    pub const ERSPAN1: u16 = 0x88be;
    pub const ERSPAN2: u16 = 0x22eb;
    /// What `dl_type` says of a frame without an EtherType (OpenFlow 1.0 section 3.4).
    pub const NONE: u16 = 0x05ff;
    /// Smaller numbers are 802.3 lengths.
    pub const MIN: u16 = 0x600;

    /// Whether the EtherType is a VLAN tag's.
    pub const fn is_vlan(ethertype: u16) -> bool {
        matches!(ethertype, VLAN | QINQ)
    }

    /// Whether the EtherType is MPLS unicast or multicast.
    pub const fn is_mpls(ethertype: u16) -> bool {
        matches!(ethertype, MPLS | MPLS_MCAST)
    }

    /// Whether the EtherType is IPv4 or IPv6.
    pub const fn is_ip(ethertype: u16) -> bool {
        matches!(ethertype, IPV4 | IPV6)
    }
}

/// IP protocols.
pub mod ip {
    pub const HOPOPTS: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NONE: u8 = 59;
    pub const DSTOPTS: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const UDPLITE: u8 = 136;
}

/// ICMPv6 types.
pub mod icmp6 {
    pub const MLD_QUERY: u16 = 130;
    pub const MLD_REPORT: u16 = 131;
    pub const MLD_DONE: u16 = 132;
    pub const NEIGHBOR_SOLICIT: u16 = 135;
    pub const NEIGHBOR_ADVERT: u16 = 136;
    pub const MLD2_REPORT: u16 = 143;
    /// ND option: the sender's link-layer address.
    pub const OPT_SOURCE_LLA: u8 = 1;
    /// ND option: the target's link-layer address.
    pub const OPT_TARGET_LLA: u8 = 2;
}

/// Bits of `ct_state`.
pub mod ct {
    pub const NEW: u8 = 0x01;
    pub const ESTABLISHED: u8 = 0x02;
    pub const RELATED: u8 = 0x04;
    pub const REPLY_DIR: u8 = 0x08;
    pub const INVALID: u8 = 0x10;
    pub const TRACKED: u8 = 0x20;
    pub const SRC_NAT: u8 = 0x40;
    pub const DST_NAT: u8 = 0x80;
}

/// TCP flags.
pub mod tcp {
    pub const FIN: u16 = 0x001;
    pub const SYN: u16 = 0x002;
    pub const RST: u16 = 0x004;
    pub const PSH: u16 = 0x008;
    pub const ACK: u16 = 0x010;
    pub const URG: u16 = 0x020;
    pub const ECE: u16 = 0x040;
    pub const CWR: u16 = 0x080;
    pub const NS: u16 = 0x100;
}

/// ARP operations.
pub mod arp {
    pub const REQUEST: u8 = 1;
    pub const REPLY: u8 = 2;
    pub const RARP: u8 = 3;
}
