//! Header fields and metadata.
//!
//! **Uses** layouts. **Sets** headers, checksums, metadata. **Next** the program's next step.
//!
//! A checksum that the kernel left partial holds the pseudo-header's sum, not complemented: an edit of addresses is done on its
//! complement, and an edit of ports leaves it as it is.

use flow::extract::Layout;
use flow::hash;
use flow::packet as edit;

use super::sample;
use crate::user::batch::{Edit, Packet};
use crate::user::program::{Program, Set};
use crate::user::worker::Worker;

/// Sets a field of each packet.
pub fn set(worker: &mut Worker, field: &Set, packets: &mut [Packet], members: &[u16]) {
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        match field {
            Set::Priority(value, mask) => mix(&mut packet.meta.skb_priority, *value, *mask),
            Set::Mark(value, mask) => mix(&mut packet.meta.pkt_mark, *value, *mask),
            Set::DpHash(value, mask) => mix(&mut packet.meta.dp_hash, *value, *mask),
            Set::Tunnel(key) => {
                let more = packet.meta.more.get_or_insert_default();
                more.tunnel = key.0.tunnel;
            }
            _ => header(worker, field, packet),
        }
    }
}

fn mix(to: &mut u32, value: u32, mask: u32) {
    *to = *to & !mask | value & mask;
}

/// Sets a header field of a packet.
pub fn header(worker: &mut Worker, field: &Set, packet: &mut Packet) {
    if let (Some(ct), Set::Ipv4(_) | Set::Ipv6(_) | Set::Ports { .. } | Set::Icmp { .. }) =
        (&mut packet.meta.ct, field)
    {
        // The packet may not belong to that connection any more.
        ct.known = None;
    }
    let layout = packet.layout;
    let partial = packet.offload.needs_csum;
    match field {
        Set::Ethernet { src, dst } => {
            edit::set_ethernet(&mut Edit { pool: &mut worker.pool, packet }, *src, *dst);
        }
        Set::Vlan { tci, mask } => edit::set_vlan(&mut Edit { pool: &mut worker.pool, packet }, *tci, *mask),
        Set::Mpls { lse, mask } => {
            edit::set_mpls(&mut Edit { pool: &mut worker.pool, packet }, &layout, *lse, *mask);
        }
        Set::Ipv4(new) => {
            complement(worker, packet, partial);
            edit::set_ipv4(&mut Edit { pool: &mut worker.pool, packet }, &layout, new);
            complement(worker, packet, partial);
        }
        Set::Ipv6(new) => {
            let (protocol, routed) = ipv6_transport(packet.frame(&worker.pool), &layout);
            complement(worker, packet, partial);
            edit::set_ipv6(&mut Edit { pool: &mut worker.pool, packet }, &layout, new, protocol, routed);
            complement(worker, packet, partial);
        }
        Set::Ports { protocol, src, dst } => {
            let old = partial_sum(worker, packet).filter(|_| partial);
            edit::set_ports(&mut Edit { pool: &mut worker.pool, packet }, &layout, *protocol, *src, *dst);
            if let Some((at, sum)) = old {
                packet.frame_mut(&mut worker.pool)[at..at + 2].copy_from_slice(&sum);
            }
        }
        Set::Icmp { kind, code } => {
            edit::set_icmp(&mut Edit { pool: &mut worker.pool, packet }, &layout, *kind, *code);
        }
        Set::Arp(new) => edit::set_arp(&mut Edit { pool: &mut worker.pool, packet }, &layout, new),
        Set::Nd(new) => edit::set_nd(&mut Edit { pool: &mut worker.pool, packet }, &layout, new),
        Set::NdExt { reserved, option } => {
            let new = edit::SetNd { reserved: *reserved, option: *option, ..edit::SetNd::default() };
            edit::set_nd(&mut Edit { pool: &mut worker.pool, packet }, &layout, &new);
        }
        // Metadata, set by the caller.
        Set::Priority(..) | Set::Mark(..) | Set::DpHash(..) | Set::Tunnel(_) => {}
    }
}

/// Where the partial checksum lies, and its bytes.
fn partial_sum(worker: &Worker, packet: &Packet) -> Option<(usize, [u8; 2])> {
    let at = usize::from(packet.offload.csum_start) + usize::from(packet.offload.csum_offset);
    Some((at, *packet.frame(&worker.pool).get(at..)?.first_chunk()?))
}

fn complement(worker: &mut Worker, packet: &Packet, partial: bool) {
    if let Some((at, [a, b])) = partial_sum(worker, packet).filter(|_| partial) {
        packet.frame_mut(&mut worker.pool)[at..at + 2].copy_from_slice(&[!a, !b]);
    }
}

/// The protocol behind extension headers, and whether a routing header with segments left is among them.
pub(crate) fn ipv6_transport(frame: &[u8], layout: &Layout) -> (u8, bool) {
    let (Some(l3), Some(l4)) = (layout.l3, layout.l4) else { return (0, false) };
    let (mut at, end) = (usize::from(l3) + 40, usize::from(l4));
    let mut protocol = frame.get(usize::from(l3) + 6).copied().unwrap_or(0);
    let mut routed = false;
    while at < end {
        let Some(&[next, len, _, left]) = frame.get(at..).and_then(|bytes| bytes.first_chunk()) else {
            break;
        };
        let later = protocol == 44
            && frame.get(at + 2..at + 4).is_some_and(|offset| (offset[0], offset[1] & 0xf8) != (0, 0));
        if later {
            return (44, routed);
        }
        routed |= protocol == 43 && left > 0;
        at += match protocol {
            44 => 8,
            51 => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        protocol = next;
    }
    (protocol, routed)
}

/// Cuts the next copies of the packets that leave.
pub fn truncate(len: u32, packets: &mut [Packet], members: &[u16]) {
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        packet.cut = packet.len.saturating_sub(len);
    }
}

/// Computes `dp_hash`.
pub fn hash(worker: &mut Worker, algorithm: u32, basis: u32, packets: &mut [Packet], members: &[u16]) {
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        let key = worker.locate(packet);
        packet.meta.dp_hash = hash::datapath(&key, algorithm, basis);
    }
}

/// Decrements the TTL of each packet; those whose TTL has run out get the actions `expired` and go no further.
pub fn decrement_ttl(
    worker: &mut Worker,
    expired: &Program,
    packets: &mut [Packet],
    members: &[u16],
) -> Vec<u16> {
    let mut kept = Vec::with_capacity(members.len());
    let mut gone = Vec::new();
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        let Some(l3) = packet.layout.l3.map(usize::from) else {
            kept.push(at);
            continue;
        };
        let frame = packet.frame_mut(&mut worker.pool);
        let (ttl_at, v4) =
            if frame.get(l3).is_some_and(|first| first >> 4 == 4) { (l3 + 8, true) } else { (l3 + 7, false) };
        match frame.get(ttl_at).copied() {
            Some(ttl) if ttl > 1 => {
                if v4 {
                    let new = edit::SetIpv4 { ttl: (ttl - 1, 0xff), ..edit::SetIpv4::default() };
                    let layout = packet.layout;
                    edit::set_ipv4(&mut Edit { pool: &mut worker.pool, packet }, &layout, &new);
                } else {
                    frame[ttl_at] = ttl - 1;
                }
                kept.push(at);
            }
            _ => gone.push(at),
        }
    }
    if !gone.is_empty() {
        sample::on_copies(worker, expired, packets, &gone);
    }
    kept
}
