//! A [`Key`], and a [`Mask`] over it, as attributes.

use super::{KeyAttr, OdpSupport, RawKey, RawMask, convert};
use crate::attr::Writer;
use crate::field::Prereq;
use crate::id::DpPort;
use crate::key::{Key, MAX_MPLS, MAX_VLANS, Mask, frag};
use crate::proto::{PT_ETH, ethertype, ip};
use crate::stack;
use zerocopy::big_endian::{U16, U32};

/// What decides how a key is written.
#[derive(Clone, Copy)]
pub struct Params<'a> {
    pub key: &'a Key,
    /// The mask that goes with the key, if there is one: TCP flags of zero are written only if it looks at them.
    pub mask: Option<&'a Mask>,
    pub support: &'a OdpSupport,
    /// VLAN tags that the switch looks at (`vlan-limit`); probes of a datapath ignore it by giving [`MAX_VLANS`].
    pub vlan_limit: usize,
}

impl<'a> Params<'a> {
    /// A key for a datapath that supports everything.
    pub fn new(key: &'a Key, support: &'a OdpSupport) -> Self {
        Self { key, mask: None, support, vlan_limit: MAX_VLANS }
    }
}

/// The key as attributes.
pub fn key_from_flow(params: &Params<'_>) -> RawKey {
    let mut writer = Writer::new();
    Exporter { params, data: params.key, is_mask: false }.all(&mut writer);
    RawKey(writer.into_bytes().into())
}

/// `mask` as attributes, which are those that the key has.
pub fn mask_from_flow(params: &Params<'_>, mask: &Mask) -> RawMask {
    let mut writer = Writer::new();
    let params = Params { mask: Some(mask), ..*params };
    Exporter { params: &params, data: &mask.0, is_mask: true }.all(&mut writer);
    RawMask(writer.into_bytes().into())
}

struct Exporter<'a> {
    params: &'a Params<'a>,
    /// Where values come from: the key, or the mask.
    data: &'a Key,
    is_mask: bool,
}

impl Exporter<'_> {
    fn all(&self, out: &mut Writer) {
        self.metadata(out);
        self.conntrack(out);
        KeyAttr::PacketType(self.data.packet_type).encode(out);
        if self.params.key.packet_type.get() == PT_ETH {
            KeyAttr::Ethernet(convert::ethernet(self.data)).encode(out);
            self.vlans(0, out);
        } else {
            self.payload(out);
        }
    }

    fn metadata(&self, out: &mut Writer) {
        let (key, data) = (self.params.key, self.data);
        if self.params.support.recirc {
            KeyAttr::RecircId(data.recirc_id).encode(out);
            KeyAttr::DpHash(data.dp_hash).encode(out);
        }
        KeyAttr::Priority(data.skb_priority).encode(out);
        let t = &key.tunnel;
        let tunneled =
            t.ip_dst.get() != 0 || t.ip_src.get() != 0 || t.ipv6_dst != [0; 16] || t.ipv6_src != [0; 16];
        if tunneled || self.is_mask {
            KeyAttr::Tunnel(convert::tunnel_to_attrs(&data.tunnel, t, None)).encode(out);
        }
        if self.is_mask || DpPort(key.in_port) != DpPort::NONE {
            KeyAttr::InPort(DpPort(data.in_port)).encode(out);
        }
        KeyAttr::SkbMark(data.pkt_mark).encode(out);
    }

    fn conntrack(&self, out: &mut Writer) {
        let (key, data, support) = (self.params.key, self.data, self.params.support);
        if support.ct_state {
            KeyAttr::CtState(data.ct_state.into()).encode(out);
        }
        if support.ct_zone {
            KeyAttr::CtZone(data.ct_zone).encode(out);
        }
        if support.ct_mark {
            KeyAttr::CtMark(data.ct_mark).encode(out);
        }
        if support.ct_label {
            KeyAttr::CtLabels(convert::label_to_odp(data.ct_label)).encode(out);
        }
        match key.dl_type.get() {
            _ if key.ct_nw_proto == 0 => {}
            ethertype::IPV4 if support.ct_orig_tuple => {
                KeyAttr::CtTuple4(convert::ct_tuple4(data)).encode(out)
            }
            ethertype::IPV6 if support.ct_orig_tuple6 => {
                KeyAttr::CtTuple6(convert::ct_tuple6(data)).encode(out)
            }
            _ => {}
        }
    }

    /// The tag of number `depth`, with what follows within it.
    fn vlans(&self, depth: usize, out: &mut Writer) {
        let key = self.params.key;
        let limit = self.params.support.max_vlan_headers.min(self.params.vlan_limit).min(MAX_VLANS);
        let truncated = depth < MAX_VLANS && key.vlans[depth].tci.get() == 0;
        if depth >= limit || truncated && !ethertype::is_vlan(key.dl_type.get()) {
            return self.payload(out);
        }
        let tpid = if truncated { key.dl_type } else { key.vlans[depth].tpid };
        KeyAttr::Ethertype(if self.is_mask { U16::MAX_VALUE } else { tpid }).encode(out);
        KeyAttr::Vlan(self.data.vlans[depth].tci).encode(out);
        out.nest(super::attrs::code::ENCAP, |inner| {
            if !truncated {
                self.vlans(depth + 1, inner);
            }
        });
    }

    /// Ethernet type, and what it leads to.
    fn payload(&self, out: &mut Writer) {
        let (key, data) = (self.params.key, self.data);
        let dl_type = key.dl_type.get();
        if dl_type < ethertype::MIN {
            // Not Ethernet II: the key lacks the attribute and the mask is exact.
            if self.is_mask {
                KeyAttr::Ethertype(U16::MAX_VALUE).encode(out);
            }
            return;
        }
        KeyAttr::Ethertype(data.dl_type).encode(out);
        match dl_type {
            ethertype::IPV4 => KeyAttr::Ipv4(convert::ipv4(data, self.is_mask)).encode(out),
            ethertype::IPV6 => KeyAttr::Ipv6(convert::ipv6(data, self.is_mask)).encode(out),
            ethertype::ARP | ethertype::RARP => KeyAttr::Arp(convert::arp(data)).encode(out),
            ethertype::MPLS | ethertype::MPLS_MCAST => KeyAttr::Mpls(self.labels()).encode(out),
            ethertype::NSH => KeyAttr::Nsh(convert::nsh(data, self.is_mask)).encode(out),
            _ => {}
        }
        if ethertype::is_ip(dl_type) && key.nw_frag & frag::LATER == 0 {
            self.transport(dl_type, out);
        }
    }

    fn labels(&self) -> Vec<U32> {
        let mut count = stack::labels(self.params.key, None);
        if self.is_mask {
            count = count.min(self.params.support.max_mpls_depth);
        }
        self.data.mpls_lse[..count.min(MAX_MPLS)].to_vec()
    }

    fn transport(&self, dl_type: u16, out: &mut Writer) {
        let (key, data) = (self.params.key, self.data);
        match (key.nw_proto, dl_type) {
            (ip::TCP, _) => {
                KeyAttr::Tcp(convert::ports(data)).encode(out);
                let matched = self.params.mask.is_some_and(|mask| mask.0.tcp_flags.get() != 0);
                if data.tcp_flags.get() != 0 || matched {
                    KeyAttr::TcpFlags(data.tcp_flags).encode(out);
                }
            }
            (ip::UDP, _) => KeyAttr::Udp(convert::ports(data)).encode(out),
            (ip::SCTP, _) => KeyAttr::Sctp(convert::ports(data)).encode(out),
            (ip::ICMP, ethertype::IPV4) => KeyAttr::Icmp(convert::icmp(data)).encode(out),
            (ip::ICMPV6, ethertype::IPV6) => {
                KeyAttr::Icmpv6(convert::icmp(data)).encode(out);
                // Types are 8 bits in 16: an exact mask of them is 0xff.
                if Prereq::Nd.holds(key, None) && (!self.is_mask || data.tp_src.get() == 0xff) {
                    self.neighbor_discovery(out);
                }
            }
            _ => {}
        }
    }

    fn neighbor_discovery(&self, out: &mut Writer) {
        KeyAttr::Nd(convert::nd(self.data)).encode(out);
        let extended = self.data.igmp_group_ip4.get() != 0 || self.data.tcp_flags.get() != 0;
        if self.params.support.nd_ext && extended {
            KeyAttr::NdExt(convert::nd_ext(self.data)).encode(out);
        }
    }
}
