//! Internet checksums (RFC 1071, RFC 1624) and what the kernel left undone: partial checksums and segmentation.

use super::batch::{Offload, gso};

/// The one's complement sum of `bytes`, not folded.
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|&word| u64::from(u32::from_be_bytes(word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(last));
    total
}

/// Folds a sum to 16 bits.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of `bytes`, with `initial` (a pseudo-header's sum) included.
pub fn checksum(bytes: &[u8], initial: u64) -> u16 {
    !fold(sum(bytes) + initial)
}

/// The sum of the pseudo-header of TCP or UDP over IPv4 or IPv6; `ip` begins with the IP header.
pub fn pseudo_header(ip: &[u8], protocol: u8, len: usize) -> Option<u64> {
    let addresses = match ip.first()? >> 4 {
        4 => ip.get(12..20)?,
        6 => ip.get(8..40)?,
        _ => return None,
    };
    Some(sum(addresses) + u64::from(protocol) + len as u64)
}

/// `checksum` after the bytes that it covers changed from `old` to `new`, equally long and at an even offset.
pub fn replace(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let removed: u64 = old.chunks(2).map(|pair| u64::from(!half(pair))).sum();
    let added: u64 = new.chunks(2).map(|pair| u64::from(half(pair))).sum();
    !fold(u64::from(!checksum) + removed + added)
}

fn half(pair: &[u8]) -> u16 {
    u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])
}

/// Where the network header of an Ethernet frame begins, behind any number of VLAN tags, and its EtherType.
pub fn network_header(frame: &[u8]) -> Option<(usize, u16)> {
    let mut at = 12;
    loop {
        let ethertype = u16::from_be_bytes(*frame.get(at..)?.first_chunk()?);
        at += 2;
        match ethertype {
            0x8100 | 0x88a8 => at += 2,
            _ => return Some((at, ethertype)),
        }
    }
}

/// Computes the checksum that `offload` says is partial. `None` if the frame is too short for it.
pub fn complete(frame: &mut [u8], offload: Offload) -> Option<()> {
    let start = usize::from(offload.csum_start);
    let at = start + usize::from(offload.csum_offset);
    let covered = frame.get(start..)?;
    let checksum = match checksum(covered, 0) {
        // UDP says "no checksum" by 0 (RFC 768); the value 0xffff means the same sum.
        0 if offload.csum_offset == 6 => 0xffff,
        checksum => checksum,
    };
    frame.get_mut(at..at + 2)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// Cuts a frame into the segments that the kernel would have sent and gives each, complete, to `each`.
///
/// `None` if the frame is not what `offload` says; segments given before that stay given.
pub fn segment(frame: &[u8], offload: Offload, mut each: impl FnMut(&[u8])) -> Option<()> {
    let (l3, _) = network_header(frame)?;
    let l4 = usize::from(offload.csum_start);
    let kind = offload.gso & !gso::ECN;
    let header = match kind {
        gso::TCP4 | gso::TCP6 => l4 + usize::from(frame.get(l4 + 12)? >> 4) * 4,
        gso::UDP_L4 => l4 + 8,
        _ => return None,
    };
    let size = usize::from(offload.gso_size);
    if size == 0 || l3 + 20 > l4 || header > frame.len() {
        return None;
    }
    let mut segment = Vec::with_capacity(header + size);
    let payload = &frame[header..];
    for (n, part) in payload.chunks(size).enumerate() {
        segment.clear();
        segment.extend_from_slice(&frame[..header]);
        segment.extend_from_slice(part);
        let last = (n + 1) * size >= payload.len();
        finish_ip(&mut segment, l3, l4, n)?;
        if kind == gso::UDP_L4 {
            finish_udp(&mut segment, l3, l4)?;
        } else {
            finish_tcp(&mut segment, l3, l4, n * size, n == 0, last)?;
        }
        each(&segment);
    }
    Some(())
}

fn finish_ip(segment: &mut [u8], l3: usize, l4: usize, n: usize) -> Option<()> {
    let len = segment.len() - l3;
    if segment[l3] >> 4 == 4 {
        let header = segment.get_mut(l3..l4)?;
        header[2..4].copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
        let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(n as u16);
        header[4..6].copy_from_slice(&id.to_be_bytes());
        header[10..12].fill(0);
        let checksum = checksum(header, 0);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        let len = u16::try_from(len.checked_sub(40)?).ok()?;
        segment.get_mut(l3 + 4..l3 + 6)?.copy_from_slice(&len.to_be_bytes());
    }
    Some(())
}

fn finish_udp(segment: &mut [u8], l3: usize, l4: usize) -> Option<()> {
    let len = segment.len() - l4;
    segment[l4 + 4..l4 + 6].copy_from_slice(&(len as u16).to_be_bytes());
    segment[l4 + 6..l4 + 8].fill(0);
    let initial = pseudo_header(&segment[l3..], 17, len)?;
    let checksum = match checksum(&segment[l4..], initial) {
        0 => 0xffff,
        checksum => checksum,
    };
    segment[l4 + 6..l4 + 8].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

fn finish_tcp(segment: &mut [u8], l3: usize, l4: usize, ahead: usize, first: bool, last: bool) -> Option<()> {
    const FIN_PSH: u8 = 0x09;
    const CWR: u8 = 0x80;
    let initial = pseudo_header(&segment[l3..], 6, segment.len() - l4)?;
    let tcp = segment.get_mut(l4..)?;
    let sequence = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?).wrapping_add(ahead as u32);
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !last {
        tcp[13] &= !FIN_PSH;
    }
    if !first {
        tcp[13] &= !CWR;
    }
    tcp[16..18].fill(0);
    let checksum = checksum(tcp, initial);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp4(payload: usize) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(((40 + payload) as u16).to_be_bytes());
        frame.extend([0, 7, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 80, 1, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0x50, 0x99, 1, 0, 0, 0, 0, 0]);
        frame.extend((0..payload).map(|i| i as u8));
        frame
    }

    #[test]
    fn segments_are_complete() {
        let frame = tcp4(2500);
        let offload = Offload {
            needs_csum: true,
            gso: gso::TCP4,
            gso_size: 1000,
            csum_start: 34,
            csum_offset: 16,
            ..Offload::default()
        };
        let mut seen = Vec::new();
        segment(&frame, offload, |segment| {
            assert_eq!(checksum(&segment[14..34], 0), 0);
            let initial = pseudo_header(&segment[14..], 6, segment.len() - 34).unwrap();
            assert_eq!(checksum(&segment[34..], initial), 0);
            let sequence = u32::from_be_bytes(segment[38..42].try_into().unwrap());
            seen.push((segment.len(), segment[19], sequence, segment[47]));
        })
        .unwrap();
        assert_eq!(seen, [(1054, 7, 100, 0x90), (1054, 8, 1100, 0x10), (554, 9, 2100, 0x19)]);
    }

    #[test]
    fn a_partial_checksum_is_completed() {
        let mut frame = tcp4(11);
        let pseudo = pseudo_header(&frame[14..], 6, 31).unwrap();
        frame[50..52].copy_from_slice(&fold(pseudo).to_be_bytes());
        let offload = Offload { needs_csum: true, csum_start: 34, csum_offset: 16, ..Offload::default() };
        complete(&mut frame, offload).unwrap();
        assert_eq!(checksum(&frame[34..], pseudo), 0);
    }

    proptest! {
        #[test]
        fn replacing_equals_recomputing(mut bytes in proptest::collection::vec(any::<u8>(), 8..40), new in any::<[u8; 4]>()) {
            let before = checksum(&bytes, 0);
            let old: [u8; 4] = bytes[2..6].try_into().unwrap();
            bytes[2..6].copy_from_slice(&new);
            let (fast, slow) = (replace(before, &old, &new), checksum(&bytes, 0));
            // The two zeros of one's complement are the same sum.
            prop_assert!(fast == slow || fast ^ slow == 0xffff && (fast == 0 || slow == 0));
        }

        #[test]
        fn any_bytes_are_survived(frame in proptest::collection::vec(any::<u8>(), 0..200), vnet in any::<[u8; 10]>()) {
            let offload = Offload::from_vnet(&vnet);
            let _ = segment(&frame, offload, |_| ());
            let _ = complete(&mut frame.clone(), offload);
        }
    }
}
