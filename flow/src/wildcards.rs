//! Masks that follow from what a packet is.

use zerocopy::FromZeros;

use crate::field::{self, Prereq};
use crate::key::{Key, Mask, Tunnel, frag, tnl_flags};
use crate::proto::{self, ethertype, ip};

/// The mask of everything that a packet with this key has: the fields that make sense for its protocols, exactly.
///
/// Registers, OpenFlow metadata, `conj_id` and `actset_output` are left out.
pub fn for_packet(key: &Key) -> Mask {
    let mut mask = Mask::default();
    tunnel(key, &mut mask.0.tunnel);
    let m = &mut mask.0;
    (m.skb_priority, m.pkt_mark, m.recirc_id, m.dp_hash, m.in_port) =
        (u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX);
    (m.ct_state, m.ct_zone, m.ct_mark, m.ct_label) = (u8::MAX, u16::MAX, u32::MAX, [0xff; 16]);
    m.packet_type = u32::MAX.into();
    if key.packet_type.get() == proto::PT_ETH {
        (m.dl_src, m.dl_dst) = ([0xff; 6], [0xff; 6]);
        m.dl_type = u16::MAX.into();
        // The first absent tag is significant: that it is absent.
        for (vlan, mask) in key.vlans.iter().zip(&mut m.vlans) {
            (mask.tpid, mask.tci) = (u16::MAX.into(), u16::MAX.into());
            if vlan.tci.get() == 0 {
                break;
            }
        }
    }
    l3(key, &mut mask);
    mask
}

fn tunnel(key: &Key, m: &mut Tunnel) {
    let t = &key.tunnel;
    if t.ip_dst.get() == 0 && t.ipv6_dst == [0; 16] {
        if t.id.get() != 0 {
            m.id = u64::MAX.into();
        }
        return;
    }
    let keyed = t.flags & tnl_flags::KEY != 0;
    *m = Tunnel::new_zeroed();
    m.id = if keyed { u64::MAX } else { 0 }.into();
    (m.ip_src, m.ip_dst) = (u32::MAX.into(), u32::MAX.into());
    (m.ipv6_src, m.ipv6_dst) = ([0xff; 16], [0xff; 16]);
    (m.flags, m.tos, m.ttl) = (u16::MAX, u8::MAX, u8::MAX);
    (m.tp_src, m.tp_dst) = (u16::MAX.into(), u16::MAX.into());
    (m.gbp_id, m.gbp_flags) = (u16::MAX.into(), u8::MAX);
    (m.erspan_ver, m.erspan_idx, m.erspan_dir, m.erspan_hwid) = (u8::MAX, u32::MAX, u8::MAX, u8::MAX);
    (m.gtpu_flags, m.gtpu_msgtype) = (u8::MAX, u8::MAX);
    if t.opt_present != 0 {
        m.opt_present = t.opt_present;
        m.opts = [0xff; crate::key::TUN_METADATA_BYTES];
    }
}

fn l3(key: &Key, mask: &mut Mask) {
    match field::dl_type(key) {
        ethertype::IPV4 => {
            let m = &mut mask.0;
            (m.nw_src, m.nw_dst) = (u32::MAX.into(), u32::MAX.into());
            (m.ct_nw_src, m.ct_nw_dst) = (u32::MAX.into(), u32::MAX.into());
        }
        ethertype::IPV6 => {
            let nd = Prereq::Nd.holds(key, Some(mask));
            let m = &mut mask.0;
            (m.ipv6_src, m.ipv6_dst, m.ipv6_label) = ([0xff; 16], [0xff; 16], u32::MAX.into());
            if nd {
                (m.arp_sha, m.arp_tha, m.nd_target) = ([0xff; 6], [0xff; 6], [0xff; 16]);
            } else {
                (m.ct_ipv6_src, m.ct_ipv6_dst) = ([0xff; 16], [0xff; 16]);
            }
        }
        ethertype::ARP | ethertype::RARP => {
            let m = &mut mask.0;
            (m.nw_src, m.nw_dst, m.nw_proto) = (u32::MAX.into(), u32::MAX.into(), u8::MAX);
            (m.arp_sha, m.arp_tha) = ([0xff; 6], [0xff; 6]);
            return;
        }
        ethertype::MPLS | ethertype::MPLS_MCAST => {
            for (lse, mask) in key.mpls_lse.iter().zip(&mut mask.0.mpls_lse).take(crate::key::MAX_MPLS) {
                *mask = u32::MAX.into();
                if lse.get() & 0x100 != 0 {
                    break;
                }
            }
            return;
        }
        ethertype::NSH => {
            let m = &mut mask.0.nsh;
            (m.flags, m.ttl, m.mdtype, m.np) = (u8::MAX, u8::MAX, u8::MAX, u8::MAX);
            (m.path_hdr, m.context) = (u32::MAX.into(), [u32::MAX.into(); 4]);
        }
        _ => return,
    }
    let m = &mut mask.0;
    m.nw_frag |= frag::MASK;
    (m.nw_tos, m.nw_ttl, m.nw_proto) = (u8::MAX, u8::MAX, u8::MAX);
    (m.ct_nw_proto, m.ct_tp_src, m.ct_tp_dst) = (u8::MAX, u16::MAX.into(), u16::MAX.into());
    l4(key, m);
}

/// Later fragments have no transport header.
fn l4(key: &Key, m: &mut Key) {
    let has_ports = matches!(key.nw_proto, ip::ICMP | ip::ICMPV6 | ip::TCP | ip::UDP | ip::SCTP | ip::IGMP);
    if key.nw_frag & frag::LATER != 0 || !has_ports {
        return;
    }
    (m.tp_src, m.tp_dst) = (u16::MAX.into(), u16::MAX.into());
    match key.nw_proto {
        ip::TCP => m.tcp_flags = u16::MAX.into(),
        ip::IGMP => m.igmp_group_ip4 = u32::MAX.into(),
        _ => {}
    }
}

/// Makes every field of the tunnel's outer header significant that was not zero in `key`.
pub fn unwildcard_tunnel(key: &Key, mask: &mut Mask) {
    tunnel(key, &mut mask.0.tunnel);
}
