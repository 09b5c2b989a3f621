//! Edits of packets: what datapath actions do to bytes.
//!
//! Edits work on anything with [`Buffer`], so that the engine's pool buffers and plain frames ([`Frame`]) share them. A
//! [`Layout`] from [`crate::extract::extract`] says where the layers are; edits that move them correct it. Checksums are
//! updated incrementally, so that a packet that was damaged stays recognizably so. An edit of a header that the packet does
//! not have does nothing.

use crate::checksum;
use crate::extract::Layout;
use crate::key::EthAddr;
use crate::proto::{self, ethertype, ip};

/// Packet bytes with room in front.
pub trait Buffer {
    /// The packet.
    fn bytes(&self) -> &[u8];

    /// The packet, to change in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Makes `n` bytes of room in front; their content is unspecified. False if there is none to be had.
    fn push_front(&mut self, n: usize) -> bool;

    /// Drops `n` bytes at the front, or all if there are fewer.
    fn pull_front(&mut self, n: usize);
}

/// A packet of its own, with headroom.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    data: Vec<u8>,
    start: usize,
}

/// Room that a new frame has in front: two VLAN tags, labels, and one outer tunnel header.
const HEADROOM: usize = 128;

impl Frame {
    /// A copy of `bytes` with headroom.
    pub fn new(bytes: &[u8]) -> Self {
        let mut data = vec![0; HEADROOM + bytes.len()];
        data[HEADROOM..].copy_from_slice(bytes);
        Self { data, start: HEADROOM }
    }

    /// Cuts the packet to at most `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.data.truncate(self.start + len);
    }
}

impl Buffer for Frame {
    fn bytes(&self) -> &[u8] {
        &self.data[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..]
    }

    fn push_front(&mut self, n: usize) -> bool {
        if n > self.start {
            let more = n + HEADROOM;
            self.data.splice(0..0, std::iter::repeat_n(0, more));
            self.start += more;
        }
        self.start -= n;
        true
    }

    fn pull_front(&mut self, n: usize) {
        self.start = (self.start + n).min(self.data.len());
    }
}

impl Layout {
    /// Moves every layer by `by` bytes; the ones that fall off the front are gone.
    pub fn shift(&mut self, by: i32) {
        for ofs in [&mut self.l2_5, &mut self.l3, &mut self.l4] {
            *ofs = ofs.and_then(|ofs| u16::try_from(i32::from(ofs) + by).ok());
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(new);
    }
}

/// Overwrites bytes of the 16-bit-aligned header field at `at`, and corrects the checksums at `sums`.
///
/// A UDP checksum of zero means that there is none: it stays, and a sum that comes out as zero is written as all ones; say so
/// by `zero_is_none`.
fn put_summed(bytes: &mut [u8], at: usize, new: &[u8], sum_at: Option<usize>, zero_is_none: bool) {
    let Some(old) = bytes.get(at..at + new.len()).map(<[u8]>::to_vec) else { return };
    put(bytes, at, new);
    let Some((sum_at, sum)) = sum_at.and_then(|at| Some((at, be16(bytes, at)?))) else { return };
    if zero_is_none && sum == 0 {
        return;
    }
    let updated = match checksum::update(sum, &old, new) {
        0 if zero_is_none => 0xffff,
        updated => updated,
    };
    put(bytes, sum_at, &updated.to_be_bytes());
}

/// Where the transport's checksum lies, and whether zero there means none.
fn l4_sum(bytes: &[u8], layout: &Layout, proto: u8) -> Option<(usize, bool)> {
    let l4 = usize::from(layout.l4?);
    let (at, none) = match proto {
        ip::TCP => (l4 + 16, false),
        ip::UDP => (l4 + 6, true),
        ip::ICMPV6 => (l4 + 2, false),
        _ => return None,
    };
    (bytes.len() >= at + 2).then_some((at, none))
}

/// Sets the bits of the Ethernet addresses that the masks have.
pub fn set_ethernet(b: &mut impl Buffer, src: (EthAddr, EthAddr), dst: (EthAddr, EthAddr)) {
    let Some(head) = b.bytes_mut().get_mut(..12) else { return };
    for (byte, (value, mask)) in
        head.iter_mut().zip(dst.0.iter().chain(&src.0).zip(dst.1.iter().chain(&src.1)))
    {
        *byte = (*byte & !mask) | (value & mask);
    }
}

/// Puts a VLAN tag in front of the EtherType. The tag-present bit of `tci` does not go out.
pub fn push_vlan(b: &mut impl Buffer, layout: &mut Layout, tpid: u16, tci: u16) {
    if b.bytes().len() < 14 || !b.push_front(4) {
        return;
    }
    let bytes = b.bytes_mut();
    bytes.copy_within(4..16, 0);
    put(bytes, 12, &tpid.to_be_bytes());
    put(bytes, 14, &(tci & !crate::key::VLAN_CFI).to_be_bytes());
    layout.shift(4);
}

/// Takes the outer VLAN tag off, if there is one.
pub fn pop_vlan(b: &mut impl Buffer, layout: &mut Layout) {
    let bytes = b.bytes_mut();
    if bytes.len() < 18 || !be16(bytes, 12).is_some_and(ethertype::is_vlan) {
        return;
    }
    bytes.copy_within(0..12, 4);
    b.pull_front(4);
    layout.shift(-4);
}

/// Sets bits of the outer VLAN tag.
pub fn set_vlan(b: &mut impl Buffer, tci: u16, mask: u16) {
    let bytes = b.bytes_mut();
    if !be16(bytes, 12).is_some_and(ethertype::is_vlan) {
        return;
    }
    if let Some(old) = be16(bytes, 14) {
        let mask = mask & !crate::key::VLAN_CFI;
        put(bytes, 14, &((old & !mask) | (tci & mask)).to_be_bytes());
    }
}

/// Puts an Ethernet header in front of a packet that has none.
pub fn push_eth(b: &mut impl Buffer, layout: &mut Layout, dst: EthAddr, src: EthAddr, dl_type: u16) {
    if !b.push_front(14) {
        return;
    }
    let bytes = b.bytes_mut();
    put(bytes, 0, &dst);
    put(bytes, 6, &src);
    put(bytes, 12, &dl_type.to_be_bytes());
    layout.shift(14);
}

/// Takes the Ethernet header off; gives the packet type of what is left.
pub fn pop_eth(b: &mut impl Buffer, layout: &mut Layout) -> Option<u32> {
    let l3 = usize::from(layout.l2_5.or(layout.l3)?);
    let dl_type = be16(b.bytes(), l3.checked_sub(2)?)?;
    b.pull_front(l3);
    layout.shift(-(l3 as i32));
    Some(proto::pt_of_ethertype(dl_type))
}

fn set_ethertype(bytes: &mut [u8], before: usize, dl_type: u16) {
    if let Some(at) = before.checked_sub(2) {
        put(bytes, at, &dl_type.to_be_bytes());
    }
}

/// Puts an MPLS label in front of what follows L2 (`l2` true), or in front of the whole packet.
pub fn push_mpls(b: &mut impl Buffer, layout: &mut Layout, dl_type: u16, lse: u32, l2: bool) {
    let Some(at) = (if l2 { layout.l2_5.or(layout.l3).map(usize::from) } else { Some(0) }) else { return };
    if at > b.bytes().len() || !b.push_front(4) {
        return;
    }
    let bytes = b.bytes_mut();
    bytes.copy_within(4..4 + at, 0);
    set_ethertype(bytes, at, dl_type);
    put(bytes, at, &lse.to_be_bytes());
    layout.shift(4);
    layout.l2_5 = u16::try_from(at).ok();
}

/// Takes the outermost MPLS label off; what follows becomes `dl_type`.
pub fn pop_mpls(b: &mut impl Buffer, layout: &mut Layout, dl_type: u16) {
    let Some(at) = layout.l2_5.map(usize::from) else { return };
    let bytes = b.bytes_mut();
    if bytes.len() < at + 4 {
        return;
    }
    set_ethertype(bytes, at, dl_type);
    bytes.copy_within(0..at, 4);
    b.pull_front(4);
    layout.shift(-4);
    layout.l2_5 = ethertype::is_mpls(dl_type).then_some(at as u16);
}

/// Sets bits of the outermost MPLS label.
pub fn set_mpls(b: &mut impl Buffer, layout: &Layout, lse: u32, mask: u32) {
    let Some(at) = layout.l2_5.map(usize::from) else { return };
    let bytes = b.bytes_mut();
    if let Some(old) = bytes.get(at..at + 4).and_then(|old| Some(u32::from_be_bytes(old.try_into().ok()?))) {
        put(bytes, at, &((old & !mask) | (lse & mask)).to_be_bytes());
    }
}

/// New values of an IPv4 header, where a mask is not zero: (value, mask).
#[derive(Clone, Copy, Default, Debug)]
pub struct SetIpv4 {
    pub src: (u32, u32),
    pub dst: (u32, u32),
    pub tos: (u8, u8),
    pub ttl: (u8, u8),
}

/// Sets bits of the IPv4 header; header and transport checksums follow.
pub fn set_ipv4(b: &mut impl Buffer, layout: &Layout, new: &SetIpv4) {
    let Some(l3) = layout.l3.map(usize::from) else { return };
    let bytes = b.bytes_mut();
    if bytes.len() < l3 + 20 || bytes[l3] >> 4 != 4 {
        return;
    }
    let (proto, later) = (bytes[l3 + 9], be16(bytes, l3 + 6).is_some_and(|off| off & 0x1fff != 0));
    let transport = if later || proto == ip::ICMPV6 { None } else { l4_sum(bytes, layout, proto) };
    for (at, (value, mask)) in [(l3 + 12, new.src), (l3 + 16, new.dst)] {
        let old = bytes.get(at..at + 4).map_or([0; 4], |old| [old[0], old[1], old[2], old[3]]);
        let word = ((u32::from_be_bytes(old) & !mask) | (value & mask)).to_be_bytes();
        if word == old {
            continue;
        }
        if let Some((sum, none)) = transport {
            let mut scratch = old.to_vec();
            scratch.extend_from_slice(&bytes[sum..sum + 2]);
            put_summed(&mut scratch, 0, &word, Some(4), none);
            bytes[sum..sum + 2].copy_from_slice(&scratch[4..]);
        }
        put_summed(bytes, at, &word, Some(l3 + 10), false);
    }
    for (at, (value, mask), first) in [(l3 + 1, new.tos, false), (l3 + 8, new.ttl, true)] {
        let byte = (bytes[at] & !mask) | (value & mask);
        if byte != bytes[at] {
            let (pair_at, pair) =
                if first { (at, [byte, bytes[at + 1]]) } else { (at - 1, [bytes[at - 1], byte]) };
            put_summed(bytes, pair_at, &pair, Some(l3 + 10), false);
        }
    }
}

/// New values of an IPv6 header, where a mask is not zero: (value, mask).
#[derive(Clone, Copy, Default, Debug)]
pub struct SetIpv6 {
    pub src: ([u8; 16], [u8; 16]),
    pub dst: ([u8; 16], [u8; 16]),
    pub label: (u32, u32),
    pub tclass: (u8, u8),
    pub hlimit: (u8, u8),
}

/// Sets bits of the IPv6 header; the transport checksum follows. `proto` is the transport as the key has it, behind extension
/// headers; give [`ip::FRAGMENT`] for a later fragment.
///
/// With a routing header the destination is not part of the checksum: pass `routed` to leave it out.
pub fn set_ipv6(b: &mut impl Buffer, layout: &Layout, new: &SetIpv6, proto: u8, routed: bool) {
    let Some(l3) = layout.l3.map(usize::from) else { return };
    let bytes = b.bytes_mut();
    if bytes.len() < l3 + 40 || bytes[l3] >> 4 != 6 {
        return;
    }
    let transport = l4_sum(bytes, layout, proto);
    for (at, (value, mask), summed) in [(l3 + 8, new.src, true), (l3 + 24, new.dst, !routed)] {
        let mut old = [0; 16];
        old.copy_from_slice(&bytes[at..at + 16]);
        let merged: [u8; 16] = std::array::from_fn(|i| (old[i] & !mask[i]) | (value[i] & mask[i]));
        let (sum_at, none) = transport.filter(|_| summed).unzip();
        put_summed(bytes, at, &merged, sum_at, none.unwrap_or(false));
    }
    let old = u32::from_be_bytes([bytes[l3], bytes[l3 + 1], bytes[l3 + 2], bytes[l3 + 3]]);
    let mask = (u32::from(new.tclass.1) << 20) | (new.label.1 & 0xf_ffff);
    let value = (u32::from(new.tclass.0) << 20) | (new.label.0 & 0xf_ffff);
    put(bytes, l3, &((old & !mask) | (value & mask)).to_be_bytes());
    bytes[l3 + 7] = (bytes[l3 + 7] & !new.hlimit.1) | (new.hlimit.0 & new.hlimit.1);
}

/// Sets bits of the ports of a TCP, UDP or SCTP header; each port is (value, mask).
pub fn set_ports(b: &mut impl Buffer, layout: &Layout, proto: u8, src: (u16, u16), dst: (u16, u16)) {
    let Some(l4) = layout.l4.map(usize::from) else { return };
    let bytes = b.bytes_mut();
    if bytes.len() < l4 + 8 {
        return;
    }
    // Padding behind the IP packet is no part of what SCTP sums up.
    let end = bytes.len().saturating_sub(usize::from(layout.l2_pad)).max(l4);
    let sctp_was = (proto == ip::SCTP).then(|| sctp_state(&bytes[..end], l4)).flatten();
    let (sum_at, none) = l4_sum(bytes, layout, proto).unzip();
    for (at, (value, mask)) in [(l4, src), (l4 + 2, dst)] {
        let old = be16(bytes, at).unwrap_or(0);
        put_summed(bytes, at, &((old & !mask) | (value & mask)).to_be_bytes(), sum_at, none.unwrap_or(false));
    }
    if let Some((was, right)) = sctp_was
        && let Some((_, right_now)) = sctp_state(&bytes[..end], l4)
    {
        // What was wrong before stays wrong by the same bits.
        put(bytes, l4 + 8, &(was ^ right ^ right_now).to_le_bytes());
    }
}

/// An SCTP packet's checksum, and what it should be.
fn sctp_state(bytes: &[u8], l4: usize) -> Option<(u32, u32)> {
    let packet = bytes.get(l4..)?;
    let was = u32::from_le_bytes(packet.get(8..12)?.try_into().ok()?);
    let mut copy = packet.to_vec();
    copy[8..12].fill(0);
    Some((was, checksum::crc32c(&copy)))
}

/// Sets bits of type and code of an ICMP or ICMPv6 header; each is (value, mask).
pub fn set_icmp(b: &mut impl Buffer, layout: &Layout, kind: (u8, u8), code: (u8, u8)) {
    let Some(l4) = layout.l4.map(usize::from) else { return };
    let bytes = b.bytes_mut();
    if bytes.len() < l4 + 4 {
        return;
    }
    let new = [(bytes[l4] & !kind.1) | (kind.0 & kind.1), (bytes[l4 + 1] & !code.1) | (code.0 & code.1)];
    put_summed(bytes, l4, &new, Some(l4 + 2), false);
}

/// New values of an ARP packet, where a mask is not zero: (value, mask).
#[derive(Clone, Copy, Default, Debug)]
pub struct SetArp {
    pub op: (u16, u16),
    pub spa: (u32, u32),
    pub tpa: (u32, u32),
    pub sha: (EthAddr, EthAddr),
    pub tha: (EthAddr, EthAddr),
}

/// Sets bits of an ARP packet.
pub fn set_arp(b: &mut impl Buffer, layout: &Layout, new: &SetArp) {
    let Some(l3) = layout.l3.map(usize::from) else { return };
    let Some(arp) = b.bytes_mut().get_mut(l3..l3 + 28) else { return };
    let mut merge = |at: usize, value: &[u8], mask: &[u8]| {
        for (byte, (value, mask)) in arp[at..].iter_mut().zip(value.iter().zip(mask)) {
            *byte = (*byte & !mask) | (value & mask);
        }
    };
    merge(6, &new.op.0.to_be_bytes(), &new.op.1.to_be_bytes());
    merge(8, &new.sha.0, &new.sha.1);
    merge(14, &new.spa.0.to_be_bytes(), &new.spa.1.to_be_bytes());
    merge(18, &new.tha.0, &new.tha.1);
    merge(24, &new.tpa.0.to_be_bytes(), &new.tpa.1.to_be_bytes());
}

/// New values of a neighbour solicitation or advertisement, where a mask is not zero: (value, mask).
#[derive(Clone, Copy, Default, Debug)]
pub struct SetNd {
    pub target: ([u8; 16], [u8; 16]),
    pub sll: (EthAddr, EthAddr),
    pub tll: (EthAddr, EthAddr),
    pub reserved: (u32, u32),
    /// The type of the first link-layer address option.
    pub option: (u8, u8),
}

/// Sets bits of a neighbour solicitation or advertisement and of the options that it has.
pub fn set_nd(b: &mut impl Buffer, layout: &Layout, new: &SetNd) {
    let Some(l4) = layout.l4.map(usize::from) else { return };
    let bytes = b.bytes_mut();
    let sum = Some(l4 + 2);
    let merge = |bytes: &mut [u8], at: usize, value: &[u8], mask: &[u8]| {
        let Some(old) = bytes.get(at..at + value.len()) else { return };
        let merged: Vec<u8> =
            old.iter().zip(value.iter().zip(mask)).map(|(o, (v, m))| (o & !m) | (v & m)).collect();
        put_summed(bytes, at, &merged, sum, false);
    };
    merge(bytes, l4 + 4, &new.reserved.0.to_be_bytes(), &new.reserved.1.to_be_bytes());
    merge(bytes, l4 + 8, &new.target.0, &new.target.1);
    let mut at = l4 + 24;
    while let Some(&[kind, len]) = bytes.get(at..at + 2).and_then(|head| head.first_chunk()) {
        let lla = match kind {
            1 if len == 1 => Some(new.sll),
            2 if len == 1 => Some(new.tll),
            _ => None,
        };
        if let Some((value, mask)) = lla {
            merge(bytes, at + 2, &value, &mask);
            merge(bytes, at, &[new.option.0, len], &[new.option.1, 0]);
        }
        if len == 0 {
            break;
        }
        at += usize::from(len) * 8;
    }
}

/// Puts an NSH header (as [`nsh_header`] makes it) in front of the whole packet.
pub fn push_nsh(b: &mut impl Buffer, layout: &mut Layout, header: &[u8]) -> Option<u32> {
    if !b.push_front(header.len()) {
        return None;
    }
    put(b.bytes_mut(), 0, header);
    *layout = Layout { l3: Some(0), ..Layout::default() };
    Some(proto::pt_of_ethertype(ethertype::NSH))
}

/// Takes the NSH header off a packet that begins with one; gives the packet type of what is left.
pub fn pop_nsh(b: &mut impl Buffer) -> Option<u32> {
    let bytes = b.bytes();
    let len = usize::from(be16(bytes, 0)? & 0x3f) * 4;
    let next = match *bytes.get(3)? {
        1 => proto::pt_of_ethertype(ethertype::IPV4),
        2 => proto::pt_of_ethertype(ethertype::IPV6),
        3 => proto::PT_ETH,
        4 => proto::pt_of_ethertype(ethertype::NSH),
        5 => proto::pt_of_ethertype(ethertype::MPLS),
        _ => return None,
    };
    b.pull_front(len.max(8));
    Some(next)
}

/// An NSH header: fixed part, path, and metadata of the kind that `mdtype` says.
pub fn nsh_header(flags: u8, ttl: u8, mdtype: u8, np: u8, path: u32, metadata: &[u8]) -> Vec<u8> {
    let words = (8 + metadata.len()) / 4;
    let head = ((u16::from(flags) & 3) << 12) | ((u16::from(ttl) & 0x3f) << 6) | (words as u16 & 0x3f);
    let mut out = head.to_be_bytes().to_vec();
    out.extend_from_slice(&[mdtype, np]);
    out.extend_from_slice(&path.to_be_bytes());
    out.extend_from_slice(metadata);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{Payload, compose};
    use crate::extract::{Metadata, extract};
    use crate::key::Key;
    use proptest::prelude::*;

    fn tcp_key() -> Key {
        let mut key = Key { dl_src: [2; 6], dl_dst: [4; 6], nw_proto: ip::TCP, nw_ttl: 64, ..Key::default() };
        key.dl_type = ethertype::IPV4.into();
        (key.nw_src, key.nw_dst) = (0x0a00_0001.into(), 0x0a00_0002.into());
        (key.tp_src, key.tp_dst) = (1000.into(), 80.into());
        key
    }

    fn frame_of(key: &Key) -> (Frame, Layout) {
        let mut bytes = compose(key, Payload::Len(64));
        let layout = extract(&bytes, &Metadata::default(), &mut Key::default());
        // Composed packets have no checksum of SCTP.
        if let (ip::SCTP, Some(l4)) = (key.nw_proto, layout.l4.map(usize::from)) {
            let (_, sum) = sctp_state(&bytes, l4).unwrap();
            put(&mut bytes, l4 + 8, &sum.to_le_bytes());
        }
        (Frame::new(&bytes), layout)
    }

    #[test]
    fn tags_and_labels_come_and_go() {
        let (mut frame, mut layout) = frame_of(&tcp_key());
        let before = frame.bytes().to_vec();
        let was = layout;
        push_vlan(&mut frame, &mut layout, 0x8100, 0x1005);
        push_mpls(&mut frame, &mut layout, ethertype::MPLS, 0x1140, true);
        let mut key = Key::default();
        extract(frame.bytes(), &Metadata::default(), &mut key);
        assert_eq!((key.vlans[0].tci.get(), key.mpls_lse[0].get()), (0x1005, 0x1140));
        pop_mpls(&mut frame, &mut layout, ethertype::IPV4);
        pop_vlan(&mut frame, &mut layout);
        assert_eq!((frame.bytes(), layout), (&before[..], was));
        assert_eq!(pop_eth(&mut frame, &mut layout), Some(proto::pt_of_ethertype(0x800)));
        push_eth(&mut frame, &mut layout, [4; 6], [2; 6], 0x800);
        assert_eq!((frame.bytes(), layout), (&before[..], was));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn edits_equal_composing_the_edited_key(src: u32, dst: u32, ports: (u16, u16), tos: u8, ttl in 1u8.., proto in prop::sample::select(vec![ip::TCP, ip::UDP])) {
            let mut key = Key { nw_proto: proto, ..tcp_key() };
            let (mut frame, layout) = frame_of(&key);
            set_ipv4(&mut frame, &layout, &SetIpv4 { src: (src, u32::MAX), dst: (dst, u32::MAX), tos: (tos, 255), ttl: (ttl, 255) });
            set_ports(&mut frame, &layout, proto, (ports.0, u16::MAX), (ports.1, u16::MAX));
            (key.nw_src, key.nw_dst, key.nw_tos, key.nw_ttl) = (src.into(), dst.into(), tos, ttl);
            (key.tp_src, key.tp_dst) = (ports.0.into(), ports.1.into());
            let (composed, _) = frame_of(&key);
            prop_assert_eq!(frame.bytes(), composed.bytes());
        }

        // Composed frames carry no SCTP checksum, so a right one is put in first.
        #[test]
        fn a_right_sctp_checksum_stays_right(src: u16, dst: u16, length in 12u16..80) {
            let key = Key { nw_proto: ip::SCTP, ..tcp_key() };
            let bytes = compose(&key, Payload::Len(length.into()));
            let mut layout = Layout::default();
            layout.clone_from(&extract(&bytes, &Metadata::default(), &mut Key::default()));
            let mut frame = Frame::new(&bytes);
            let l4 = usize::from(layout.l4.expect("SCTP was composed"));
            let (_, right) = sctp_state(&bytes, l4).expect("a whole header was composed");
            put(frame.bytes_mut(), l4 + 8, &right.to_le_bytes());
            set_ports(&mut frame, &layout, ip::SCTP, (src, u16::MAX), (dst, u16::MAX));
            let (stored, right) = sctp_state(frame.bytes(), l4).expect("the header is still there");
            prop_assert_eq!(stored, right);
        }

        #[test]
        fn any_bytes_can_be_edited(bytes in proptest::collection::vec(any::<u8>(), 0..80), l3 in proptest::option::of(0u16..90), l4 in proptest::option::of(0u16..90)) {
            let mut layout = Layout { l2_5: l3, l3, l4, ..Layout::default() };
            let mut b = Frame::new(&bytes);
            set_ipv4(&mut b, &layout, &SetIpv4 { src: (1, 3), tos: (1, 1), ..SetIpv4::default() });
            set_ipv6(&mut b, &layout, &SetIpv6::default(), ip::TCP, false);
            set_ports(&mut b, &layout, ip::SCTP, (1, 2), (3, 4));
            set_icmp(&mut b, &layout, (1, 2), (3, 4));
            set_arp(&mut b, &layout, &SetArp::default());
            set_nd(&mut b, &layout, &SetNd::default());
            set_mpls(&mut b, &layout, 1, 1);
            push_mpls(&mut b, &mut layout, 0x8847, 1, true);
            pop_mpls(&mut b, &mut layout, 0x800);
            pop_vlan(&mut b, &mut layout);
            pop_nsh(&mut b);
            pop_eth(&mut b, &mut layout);
        }
    }
}
