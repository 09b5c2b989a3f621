//! What must hold of a packet for a field to be there.

use super::Field;
use crate::key::{Key, Mask, VLAN_CFI, frag};
use crate::mini::FullMatch;
use crate::proto::{self, ct, ethertype, icmp6, ip};

/// What must hold of a packet for a field to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prereq {
    Always,
    Ethernet,
    /// ARP or RARP.
    Arp,
    VlanVid,
    Ipv4,
    Ipv6,
    IpAny,
    Nsh,
    Mpls,
    Tcp,
    Udp,
    Sctp,
    Icmpv4,
    Icmpv6,
    /// A valid connection-tracking entry.
    CtValid,
    Nd,
    NdSolicit,
    NdAdvert,
}

/// The EtherType that says what follows the L2 header, or the packet type's for a packet without one.
pub fn dl_type(key: &Key) -> u16 {
    match key.packet_type.get() {
        proto::PT_ETH => key.dl_type.get(),
        pt if pt >> 16 == proto::PT_NS_ETHERTYPE => pt as u16,
        _ => ethertype::NONE,
    }
}

impl Prereq {
    /// Whether `key` meets the prerequisite; what is looked at becomes significant in `mask`.
    ///
    /// The EtherType and the fragment bits are not added: every translation looks at them.
    pub fn holds(self, key: &Key, mut mask: Option<&mut Mask>) -> bool {
        let mask = &mut mask;
        let dl_type = dl_type(key);
        match self {
            Self::Always => true,
            Self::Ethernet => is_ethernet(key, mask),
            Self::Arp => matches!(dl_type, ethertype::ARP | ethertype::RARP),
            Self::VlanVid => {
                is_ethernet(key, mask) && {
                    if let Some(mask) = mask {
                        let seen = mask.0.vlans[0].tci.get() | VLAN_CFI;
                        mask.0.vlans[0].tci = seen.into();
                    }
                    super::vlan_present(key.vlans[0].tci.get())
                }
            }
            Self::Ipv4 => dl_type == ethertype::IPV4,
            Self::Ipv6 => dl_type == ethertype::IPV6,
            Self::IpAny => ethertype::is_ip(dl_type),
            Self::Nsh => dl_type == ethertype::NSH,
            Self::Mpls => ethertype::is_mpls(dl_type),
            Self::Tcp => ethertype::is_ip(dl_type) && l4(key, mask, ip::TCP),
            Self::Udp => ethertype::is_ip(dl_type) && l4(key, mask, ip::UDP),
            Self::Sctp => ethertype::is_ip(dl_type) && l4(key, mask, ip::SCTP),
            Self::Icmpv4 => dl_type == ethertype::IPV4 && is_proto(key, mask, ip::ICMP),
            Self::Icmpv6 => dl_type == ethertype::IPV6 && is_proto(key, mask, ip::ICMPV6),
            Self::CtValid => ct_valid(key),
            Self::Nd => is_nd(key, mask),
            Self::NdSolicit => is_nd(key, mask) && key.tp_src.get() == icmp6::NEIGHBOR_SOLICIT,
            Self::NdAdvert => is_nd(key, mask) && key.tp_src.get() == icmp6::NEIGHBOR_ADVERT,
        }
    }
}

/// A mask to note in what was looked at, if anybody wants to know.
type Noted<'a> = Option<&'a mut Mask>;

fn is_ethernet(key: &Key, mask: &mut Noted<'_>) -> bool {
    if let Some(mask) = mask {
        mask.0.packet_type = u32::MAX.into();
    }
    key.packet_type.get() == proto::PT_ETH
}

fn is_proto(key: &Key, mask: &mut Noted<'_>, proto: u8) -> bool {
    if let Some(mask) = mask {
        mask.0.nw_proto = u8::MAX;
    }
    key.nw_proto == proto
}

fn l4(key: &Key, mask: &mut Noted<'_>, proto: u8) -> bool {
    is_proto(key, mask, proto) && key.nw_frag & frag::LATER == 0
}

/// Whether the packet is a neighbour solicitation or advertisement (RFC 4861); what is looked at is added to `mask`.
fn is_nd(key: &Key, mask: &mut Noted<'_>) -> bool {
    if dl_type(key) != ethertype::IPV6 || !is_proto(key, mask, ip::ICMPV6) {
        return false;
    }
    if let Some(mask) = mask {
        mask.0.tp_dst = u16::MAX.into();
    }
    if key.tp_dst.get() != 0 {
        return false;
    }
    if let Some(mask) = mask {
        mask.0.tp_src = u16::MAX.into();
    }
    matches!(key.tp_src.get(), icmp6::NEIGHBOR_SOLICIT | icmp6::NEIGHBOR_ADVERT)
}

/// A packet's state is valid if it was tracked and not found invalid.
fn ct_valid(key: &Key) -> bool {
    key.ct_state & ct::TRACKED != 0 && key.ct_state & ct::INVALID == 0
}

/// A match implies valid state if it requires a bit that only valid state has, or tracked and not invalid.
fn ct_valid_match(m: &FullMatch) -> bool {
    let implied = ct::NEW | ct::ESTABLISHED | ct::RELATED | ct::REPLY_DIR | ct::SRC_NAT | ct::DST_NAT;
    m.key.ct_state & implied != 0 || (m.mask.0.ct_state & ct::INVALID != 0 && ct_valid(&m.key))
}

impl Field {
    /// Whether the field is there in a packet with this key.
    pub fn prereqs_ok(self, key: &Key) -> bool {
        self.info().prereq.holds(key, None)
    }

    /// Like [`Field::prereqs_ok`], and what was looked at becomes significant in `mask`.
    pub fn prereqs_ok_masking(self, key: &Key, mask: &mut Mask) -> bool {
        self.info().prereq.holds(key, Some(mask))
    }

    /// Whether every packet that matches has the field.
    pub fn match_prereqs_ok(self, m: &FullMatch) -> bool {
        match self.info().prereq {
            Prereq::CtValid => ct_valid_match(m),
            prereq => prereq.holds(&m.key, None),
        }
    }
}
