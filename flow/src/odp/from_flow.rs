//! A [`Key`], and a [`Mask`] over it, as attributes.

use super::attrs::code;
use super::{KeyAttr, OdpSupport, RawKey, RawMask, convert, tunnel};
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
    /// Whether to write the packet type, which kernels do not know.
    pub packet_type: bool,
}

impl<'a> Params<'a> {
    /// A key for a datapath that supports everything.
    pub fn new(key: &'a Key, support: &'a OdpSupport) -> Self {
        Self { key, mask: None, support, vlan_limit: MAX_VLANS, packet_type: true }
    }
}

/// Words that a tunnel has in a key, which begins with it.
const TUNNEL: usize = size_of::<crate::key::Tunnel>() / 8;
const _: () = assert!(core::mem::offset_of!(Key, tunnel) == 0);

/// Bytes that most keys fit in.
const ROOM: usize = 256;

/// The key as attributes.
pub fn key_from_flow(params: &Params<'_>) -> RawKey {
    let mut writer = Writer::with_capacity(ROOM);
    Exporter { params, data: params.key, is_mask: false }.all(&mut writer);
    RawKey(writer.bytes().into())
}

/// `mask` as attributes, which are those that the key has.
pub fn mask_from_flow(params: &Params<'_>, mask: &Mask) -> RawMask {
    let mut writer = Writer::with_capacity(ROOM);
    let params = Params { mask: Some(mask), ..*params };
    Exporter { params: &params, data: &mask.0, is_mask: true }.all(&mut writer);
    RawMask(writer.bytes().into())
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
        if self.params.packet_type {
            out.put_array(code::PACKET_TYPE, self.data.packet_type.to_bytes());
        }
        if self.params.key.packet_type.get() == PT_ETH {
            out.put_struct(code::ETHERNET, &convert::ethernet(self.data));
            self.vlans(0, out);
        } else {
            self.payload(out);
        }
    }

    fn metadata(&self, out: &mut Writer) {
        let (key, data) = (self.params.key, self.data);
        if self.params.support.recirc {
            out.put_u32(code::RECIRC_ID, data.recirc_id);
            out.put_u32(code::DP_HASH, data.dp_hash);
        }
        out.put_u32(code::PRIORITY, data.skb_priority);
        let t = &key.tunnel;
        let tunneled =
            t.ip_dst.get() != 0 || t.ip_src.get() != 0 || t.ipv6_dst != [0; 16] || t.ipv6_src != [0; 16];
        let matched = || data.words()[..TUNNEL].iter().fold(0, |any, &word| any | word) != 0;
        if self.is_mask && t.flags == 0 && !matched() {
            out.nest(code::TUNNEL, |nest| nest.put_u8(tunnel::code::TTL, 0));
        } else if tunneled || self.is_mask {
            KeyAttr::Tunnel(convert::tunnel_to_attrs(&data.tunnel, t, None)).encode(out);
        }
        if self.is_mask || DpPort(key.in_port) != DpPort::NONE {
            out.put_u32(code::IN_PORT, data.in_port);
        }
        out.put_u32(code::SKB_MARK, data.pkt_mark);
    }

    fn conntrack(&self, out: &mut Writer) {
        let (key, data, support) = (self.params.key, self.data, self.params.support);
        if support.ct_state {
            out.put_u32(code::CT_STATE, data.ct_state.into());
        }
        if support.ct_zone {
            out.put_u16(code::CT_ZONE, data.ct_zone);
        }
        if support.ct_mark {
            out.put_u32(code::CT_MARK, data.ct_mark);
        }
        if support.ct_label {
            out.put_array(code::CT_LABELS, convert::label_to_odp(data.ct_label));
        }
        match key.dl_type.get() {
            _ if key.ct_nw_proto == 0 => {}
            ethertype::IPV4 if support.ct_orig_tuple => {
                out.put_struct(code::CT_ORIG_TUPLE_IPV4, &convert::ct_tuple4(data))
            }
            ethertype::IPV6 if support.ct_orig_tuple6 => {
                out.put_struct(code::CT_ORIG_TUPLE_IPV6, &convert::ct_tuple6(data))
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
        out.put_struct(code::ETHERTYPE, if self.is_mask { &U16::MAX_VALUE } else { &tpid });
        out.put_struct(code::VLAN, &self.data.vlans[depth].tci);
        out.nest(code::ENCAP, |inner| {
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
                out.put_struct(code::ETHERTYPE, &U16::MAX_VALUE);
            }
            return;
        }
        out.put_struct(code::ETHERTYPE, &data.dl_type);
        match dl_type {
            ethertype::IPV4 => out.put_struct(code::IPV4, &convert::ipv4(data, self.is_mask)),
            ethertype::IPV6 => out.put_struct(code::IPV6, &convert::ipv6(data, self.is_mask)),
            ethertype::ARP | ethertype::RARP => out.put_struct(code::ARP, &convert::arp(data)),
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
                out.put_struct(code::TCP, &convert::ports(data));
                let matched = self.params.mask.is_some_and(|mask| mask.0.tcp_flags.get() != 0);
                if data.tcp_flags.get() != 0 || matched {
                    out.put_struct(code::TCP_FLAGS, &data.tcp_flags);
                }
            }
            (ip::UDP, _) => out.put_struct(code::UDP, &convert::ports(data)),
            (ip::SCTP, _) => out.put_struct(code::SCTP, &convert::ports(data)),
            (ip::ICMP, ethertype::IPV4) => out.put_struct(code::ICMP, &convert::icmp(data)),
            (ip::ICMPV6, ethertype::IPV6) => {
                out.put_struct(code::ICMPV6, &convert::icmp(data));
                // Types are 8 bits in 16: an exact mask of them is 0xff.
                if Prereq::Nd.holds(key, None) && (!self.is_mask || data.tp_src.get() == 0xff) {
                    self.neighbor_discovery(out);
                }
            }
            _ => {}
        }
    }

    fn neighbor_discovery(&self, out: &mut Writer) {
        out.put_struct(code::ND, &convert::nd(self.data));
        let extended = self.data.igmp_group_ip4.get() != 0 || self.data.tcp_flags.get() != 0;
        if self.params.support.nd_ext && extended {
            out.put_struct(code::ND_EXTENSIONS, &convert::nd_ext(self.data));
        }
    }
}
