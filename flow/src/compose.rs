//! Key to frame: a packet that [`crate::extract::extract`] would turn into the key again.
//!
//! For `ofproto/trace -generate`, `netdev-dummy/receive PORT FLOW` and tests. Lengths and checksums are right unless a bad one
//! is asked for.

use crate::checksum;
use crate::key::{Key, MAX_MPLS, VLAN_CFI, frag};
use crate::packet::nsh_header;
use crate::proto::{ethertype, icmp6, ip, tcp};

/// What follows the last header that the key describes.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// So many bytes, counting up from 0.
    Len(usize),
    Bytes(&'a [u8]),
}

impl Payload<'_> {
    fn len(self) -> usize {
        match self {
            Self::Len(len) => len,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Len(len) => out.extend((0..len).map(|i| i as u8)),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// Builds the frame of a key.
pub fn compose(key: &Key, payload: Payload<'_>) -> Vec<u8> {
    compose_with(key, payload, 0, false)
}

/// Builds the frame of a key, padded with zeros inside the innermost length to at least `size` bytes; `bad_csum` damages the
/// IPv4 header checksum.
pub fn compose_with(key: &Key, payload: Payload<'_>, size: usize, bad_csum: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let dl_type = key.dl_type.get();
    let ethernet = key.packet_type.get() == crate::proto::PT_ETH;
    if ethernet {
        out.extend_from_slice(&key.dl_dst);
        out.extend_from_slice(&key.dl_src);
    }
    if dl_type == ethertype::NONE {
        let len = size.max(out.len() + 2);
        out.extend_from_slice(&(len as u16).to_be_bytes());
        out.resize(len, 0);
        return out;
    }
    if ethernet {
        for vlan in key.vlans.iter().filter(|vlan| vlan.tci.get() & VLAN_CFI != 0) {
            let tpid = if vlan.tpid.get() == 0 { ethertype::VLAN } else { vlan.tpid.get() };
            out.extend_from_slice(&tpid.to_be_bytes());
            out.extend_from_slice(&(vlan.tci.get() & !VLAN_CFI).to_be_bytes());
        }
        out.extend_from_slice(&dl_type.to_be_bytes());
    }
    match dl_type {
        ethertype::IPV4 => ipv4(key, payload, size, bad_csum, &mut out),
        ethertype::IPV6 => ipv6(key, payload, size, &mut out),
        ethertype::ARP | ethertype::RARP => arp(key, &mut out),
        ethertype::NSH => nsh(key, &mut out),
        ethertype::MPLS | ethertype::MPLS_MCAST => mpls(key, &mut out),
        _ => {}
    }
    if out.len() < size {
        out.resize(size, 0);
    }
    out
}

fn ipv4(key: &Key, payload: Payload<'_>, size: usize, bad_csum: bool, out: &mut Vec<u8>) {
    let l3 = out.len();
    let frag_off: u16 = match key.nw_frag & frag::MASK {
        frag::MASK => 0x2000 | 100,
        frag::ANY => 0x2000,
        _ => 0,
    };
    out.extend_from_slice(&[0x45, key.nw_tos, 0, 0, 0, 0]);
    out.extend_from_slice(&frag_off.to_be_bytes());
    out.extend_from_slice(&[key.nw_ttl, key.nw_proto, 0, 0]);
    out.extend_from_slice(&key.nw_src.get().to_be_bytes());
    out.extend_from_slice(&key.nw_dst.get().to_be_bytes());
    let l4 = out.len();
    transport(key, payload, out);
    if out.len() < size {
        out.resize(size, 0);
    }
    let total = (out.len() - l3) as u16;
    out[l3 + 2..l3 + 4].copy_from_slice(&total.to_be_bytes());
    let sum = checksum::of(&out[l3..l4]) ^ u16::from(bad_csum).swap_bytes();
    out[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = checksum::pseudo4(key.nw_src.get(), key.nw_dst.get(), key.nw_proto, (out.len() - l4) as u16);
    finish_l4(key, &mut out[l4..], pseudo);
}

fn ipv6(key: &Key, payload: Payload<'_>, size: usize, out: &mut Vec<u8>) {
    let l3 = out.len();
    let flow = (6 << 28) | (u32::from(key.nw_tos) << 20) | (key.ipv6_label.get() & 0xf_ffff);
    out.extend_from_slice(&flow.to_be_bytes());
    out.extend_from_slice(&[0, 0, key.nw_proto, key.nw_ttl]);
    out.extend_from_slice(&key.ipv6_src);
    out.extend_from_slice(&key.ipv6_dst);
    // There is no fragment header, as in frames that OVS composes; of later fragments there is no transport header.
    let l4 = out.len();
    transport(key, payload, out);
    if out.len() < size {
        out.resize(size, 0);
    }
    let plen = (out.len() - l3 - 40) as u16;
    out[l3 + 4..l3 + 6].copy_from_slice(&plen.to_be_bytes());
    let pseudo = checksum::pseudo6(&key.ipv6_src, &key.ipv6_dst, key.nw_proto, (out.len() - l4) as u16);
    finish_l4(key, &mut out[l4..], pseudo);
}

/// The transport header without its checksum, and the payload where the header is one that carries it.
fn transport(key: &Key, payload: Payload<'_>, out: &mut Vec<u8>) {
    if key.nw_frag & frag::LATER != 0 {
        return;
    }
    let (src, dst) = (key.tp_src.get(), key.tp_dst.get());
    let ports = |out: &mut Vec<u8>| {
        out.extend_from_slice(&src.to_be_bytes());
        out.extend_from_slice(&dst.to_be_bytes());
    };
    match key.nw_proto {
        ip::TCP => {
            ports(out);
            out.extend_from_slice(&[0; 8]);
            let flags = key.tcp_flags.get();
            out.extend_from_slice(&((5 << 12) | (flags & 0xfff)).to_be_bytes());
            out.extend_from_slice(&[0; 6]);
            if flags & (tcp::SYN | tcp::FIN | tcp::RST) == 0 {
                payload.put(out);
            }
        }
        ip::UDP => {
            ports(out);
            out.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
            out.extend_from_slice(&[0; 2]);
            payload.put(out);
        }
        ip::SCTP => {
            ports(out);
            out.extend_from_slice(&[0; 8]);
        }
        ip::ICMP => {
            out.extend_from_slice(&[src as u8, dst as u8, 0, 0, 0, 0, 0, 0]);
            // Echo request and reply.
            if matches!((src, dst), (8 | 0, 0)) {
                payload.put(out);
            }
        }
        ip::IGMP => {
            out.extend_from_slice(&[src as u8, dst as u8, 0, 0]);
            out.extend_from_slice(&key.igmp_group_ip4.get().to_be_bytes());
        }
        ip::ICMPV6 => icmpv6(key, payload, out),
        _ => {}
    }
}

fn icmpv6(key: &Key, payload: Payload<'_>, out: &mut Vec<u8>) {
    let (kind, code) = (key.tp_src.get(), key.tp_dst.get());
    out.extend_from_slice(&[kind as u8, code as u8, 0, 0]);
    out.extend_from_slice(&key.igmp_group_ip4.get().to_be_bytes());
    match (kind, code) {
        (icmp6::NEIGHBOR_SOLICIT | icmp6::NEIGHBOR_ADVERT, 0) => {
            out.extend_from_slice(&key.nd_target);
            for (option, lla) in [(icmp6::OPT_SOURCE_LLA, key.arp_sha), (icmp6::OPT_TARGET_LLA, key.arp_tha)]
            {
                if lla != [0; 6] {
                    out.extend_from_slice(&[option, 1]);
                    out.extend_from_slice(&lla);
                }
            }
        }
        // Echo request and reply.
        (128 | 129, 0) => payload.put(out),
        _ => {}
    }
}

/// Fills in the transport's checksum, and UDP's length.
fn finish_l4(key: &Key, l4: &mut [u8], pseudo: checksum::Sum) {
    if key.nw_frag & frag::LATER != 0 {
        return;
    }
    if key.nw_proto == ip::UDP && l4.len() >= 8 {
        let len = (l4.len() as u16).to_be_bytes();
        l4[4..6].copy_from_slice(&len);
    }
    let (at, sum) = match key.nw_proto {
        ip::TCP if l4.len() >= 20 => (16, pseudo.bytes(l4).finish()),
        ip::UDP if l4.len() >= 8 => {
            (6, Some(pseudo.bytes(l4).finish()).filter(|&sum| sum != 0).unwrap_or(0xffff))
        }
        ip::ICMP | ip::IGMP if l4.len() >= 8 => (2, checksum::of(l4)),
        ip::ICMPV6 if l4.len() >= 8 => (2, pseudo.bytes(l4).finish()),
        _ => return,
    };
    l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn arp(key: &Key, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, key.nw_proto]);
    let known = matches!(key.nw_proto, crate::proto::arp::REQUEST | crate::proto::arp::REPLY);
    if !known {
        out.extend_from_slice(&[0; 20]);
        return;
    }
    out.extend_from_slice(&key.arp_sha);
    out.extend_from_slice(&key.nw_src.get().to_be_bytes());
    out.extend_from_slice(&key.arp_tha);
    out.extend_from_slice(&key.nw_dst.get().to_be_bytes());
}

fn nsh(key: &Key, out: &mut Vec<u8>) {
    let n = &key.nsh;
    let context: Vec<u8> = n.context.iter().flat_map(|word| word.get().to_be_bytes()).collect();
    let metadata = if n.mdtype == 1 { &context[..] } else { &[] };
    out.extend_from_slice(&nsh_header(n.flags, n.ttl, n.mdtype, n.np, n.path_hdr.get(), metadata));
}

fn mpls(key: &Key, out: &mut Vec<u8>) {
    for lse in key.mpls_lse.iter().take(MAX_MPLS) {
        out.extend_from_slice(&lse.get().to_be_bytes());
        if lse.get() & 0x100 != 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::{Metadata, extract};
    use crate::key::Mask;
    use crate::proto;
    use proptest::prelude::*;
    use zerocopy::{FromBytes, IntoBytes};

    /// A key that a packet could have, out of arbitrary words.
    fn plausible(seed: &[u8], dl_type: u16, nw_proto: u8) -> Key {
        let mut key = Key::read_from_bytes(&seed[..size_of::<Key>()]).unwrap();
        key.packet_type = proto::PT_ETH.into();
        (key.dl_type, key.nw_proto, key.nw_frag) = (dl_type.into(), nw_proto, 0);
        key.vlans = Default::default();
        key.mpls_lse[0] = (key.mpls_lse[0].get() | 0x100).into();
        key.ipv6_label = (key.ipv6_label.get() & 0xfffff).into();
        (key.nsh.mdtype, key.nsh.flags, key.nsh.ttl) = (1, key.nsh.flags & 3, key.nsh.ttl & 63);
        key.tcp_flags = (key.tcp_flags.get() & 0xfff).into();
        match nw_proto {
            ip::ICMP | ip::IGMP => {
                key.tp_src = (key.tp_src.get() & 0xff).into();
                key.tp_dst = (key.tp_dst.get() & 0xff).into();
            }
            ip::ICMPV6 => (key.tp_src, key.tp_dst) = (135.into(), 0.into()),
            _ => {}
        }
        match dl_type {
            ethertype::NSH => (key.nw_proto, key.nw_tos, key.nw_ttl) = (0, 0, 0),
            ethertype::ARP => key.nw_proto = 1,
            _ => {}
        }
        key
    }

    fn common(key: &Key) -> Key {
        let mut mask = crate::wildcards::for_packet(key);
        mask.0.tunnel = Key::default().tunnel;
        (mask.0.ct_state, mask.0.ct_zone, mask.0.ct_mark, mask.0.ct_label) = (0, 0, 0, [0; 16]);
        (mask.0.ct_nw_proto, mask.0.ct_nw_src, mask.0.ct_nw_dst) = (0, 0.into(), 0.into());
        (mask.0.ct_ipv6_src, mask.0.ct_ipv6_dst, mask.0.ct_tp_src, mask.0.ct_tp_dst) =
            ([0; 16], [0; 16], 0.into(), 0.into());
        (mask.0.in_port, mask.0.recirc_id, mask.0.dp_hash, mask.0.skb_priority, mask.0.pkt_mark) =
            (0, 0, 0, 0, 0);
        Mask(mask.0).apply(key)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn extracting_gives_the_key_again(
            seed in proptest::collection::vec(any::<u8>(), size_of::<Key>()),
            dl_type in prop::sample::select(vec![0x800u16, 0x86dd, 0x806, 0x8847, 0x894f]),
            nw_proto in prop::sample::select(vec![ip::TCP, ip::UDP, ip::SCTP, ip::ICMP, ip::IGMP, ip::ICMPV6]),
        ) {
            let dl_type = if nw_proto == ip::ICMPV6 { 0x86dd } else { dl_type };
            let key = plausible(&seed, dl_type, nw_proto);
            let mut back = Key::default();
            extract(&compose(&key, Payload::Len(10)), &Metadata::default(), &mut back);
            let (expected, got) = (common(&key), common(&back));
            let differing: Vec<usize> =
                expected.as_bytes().iter().zip(got.as_bytes()).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect();
            prop_assert_eq!(differing, Vec::<usize>::new());
        }
    }
}
