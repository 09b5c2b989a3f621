//! What a tracker reads of a frame: the key of its direction, and what its protocol's state machine needs.
//!
//! A frame that is damaged, cut short, a fragment, or not IP gives nothing: it is invalid. An ICMP error gives the key of the
//! packet that it is about, turned round: it travels against that packet.

use super::key::{Key, icmp_ends};
use super::tcp::{Scale, Segment, flag};
use crate::user::csum;
use ::flow::checksum::crc32c;
use ::flow::extract::Layout;
use ::flow::proto::{ethertype, ip};

/// What a protocol's state machine needs of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Facts {
    Tcp(Segment),
    /// Whether the message is one that is answered.
    Icmp {
        request: bool,
    },
    Other,
}

/// Where in the frame the packet that an ICMP error is about has its headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inner {
    pub l3: u16,
    pub l4: u16,
}

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// In zone 0.
    pub key: Key,
    /// The frame is an ICMP error.
    pub inner: Option<Inner>,
    pub facts: Facts,
}

/// Reads a frame whose layers `layout` knows; `trusted` if its transport checksum needs no check.
pub fn parse(frame: &[u8], layout: &Layout, trusted: bool) -> Option<Parsed> {
    let (l3, l4) = (usize::from(layout.l3?), usize::from(layout.l4?));
    let end = frame.len().checked_sub(usize::from(layout.l2_pad))?;
    let packet = frame.get(..end)?;
    let v6 = match half(packet, l3.checked_sub(2)?)? {
        ethertype::IPV4 => false,
        ethertype::IPV6 => true,
        _ => return None,
    };
    let ip = packet.get(l3..)?;
    let (mut key, header) = if v6 { ipv6(ip)? } else { ipv4(ip)? };
    if l3 + header != l4 || !v6 && csum::checksum(&ip[..header], 0) != 0 {
        return None;
    }
    let payload = packet.get(l4..)?;
    if !is_whole(&key, ip, payload, trusted) {
        return None;
    }
    if key.is_icmp() && is_error(v6, *payload.first()?) {
        let inner = about(&mut key, payload)?;
        let at = |offset: usize| u16::try_from(l4 + offset).ok();
        let inner = Inner { l3: at(inner.0)?, l4: at(inner.1)? };
        return Some(Parsed { key, inner: Some(inner), facts: Facts::Other });
    }
    ends(&mut key, payload, None)?;
    Some(Parsed { facts: facts(&key, payload), key, inner: None })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn wide(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Addresses and protocol, and the header's length. Only what is, or may be, a first fragment.
fn ipv4(ip: &[u8]) -> Option<(Key, usize)> {
    let header = usize::from(ip.first()? & 0xf) * 4;
    if header < 20 || ip.len() < header || half(ip, 6)? & 0x1fff != 0 {
        return None;
    }
    let (src, dst) = (word(ip, 12)?.into(), word(ip, 16)?.into());
    Some((Key { src, dst, proto: ip[9], ..Key::default() }, header))
}

/// The same for IPv6, with the length of the extension headers included. No fragments at all.
fn ipv6(ip: &[u8]) -> Option<(Key, usize)> {
    let (src, dst) = (wide(ip, 8)?, wide(ip, 24)?);
    let (mut proto, mut at) = (ip[6], 40);
    while let ip::HOPOPTS | ip::ROUTING | ip::DSTOPTS | ip::AH | ip::FRAGMENT = proto {
        let header: &[u8; 8] = ip.get(at..)?.first_chunk()?;
        let len = usize::from(header[1]);
        at += match proto {
            ip::FRAGMENT if header[2..4] != [0, 0] => return None,
            ip::FRAGMENT => 8,
            ip::AH => (len + 2) * 4,
            _ => (len + 1) * 8,
        };
        proto = header[0];
    }
    (at <= ip.len()).then_some((Key { src, dst, proto, v6: true, ..Key::default() }, at))
}

/// Whether lengths and checksum of the transport are right.
fn is_whole(key: &Key, ip: &[u8], payload: &[u8], trusted: bool) -> bool {
    let sum = || {
        let pseudo = csum::pseudo_header(ip, key.proto, payload.len());
        pseudo.is_some_and(|pseudo| csum::checksum(payload, pseudo) == 0)
    };
    match key.proto {
        ip::TCP => {
            let header = payload.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
            header >= 20 && header <= payload.len() && (trusted || sum())
        }
        ip::UDP => {
            let (len, found) = (half(payload, 4).unwrap_or(0), half(payload, 6));
            let unsummed = found == Some(0) && !key.v6;
            len >= 8 && usize::from(len) <= payload.len() && (unsummed || trusted || sum())
        }
        ip::SCTP => chunks_fit(payload) && (trusted || sctp_sum_fits(payload)),
        ip::ICMP if !key.v6 => csum::checksum(payload, 0) == 0,
        ip::ICMPV6 if key.v6 => sum(),
        _ => true,
    }
}

/// Whether SCTP's chunks fill the packet (RFC 9260 section 3.2).
fn chunks_fit(sctp: &[u8]) -> bool {
    let mut at = 12;
    while at < sctp.len() {
        match half(sctp, at + 2) {
            Some(len @ 4..) => at += usize::from(len).next_multiple_of(4),
            _ => return false,
        }
    }
    at == sctp.len()
}

fn sctp_sum_fits(sctp: &[u8]) -> bool {
    let mut copy = sctp.to_vec();
    let Some(sum) = copy.get_mut(8..12) else { return false };
    let found = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
    sum.fill(0);
    crc32c(&copy) == found
}

fn is_error(v6: bool, kind: u8) -> bool {
    if v6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 4 | 5 | 11 | 12) }
}

/// Fills in the ends of a key whose addresses are known. `least` says how many bytes suffice, where not a whole header is
/// there. What has neither ports nor an id leaves them zero.
fn ends(key: &mut Key, payload: &[u8], least: Option<usize>) -> Option<()> {
    let header = match key.proto {
        ip::TCP => 20,
        ip::SCTP => 12,
        ip::UDP | ip::ICMP | ip::ICMPV6 => 8,
        _ => return Some(()),
    };
    if key.has_ports() {
        if payload.len() < least.unwrap_or(header) {
            return None;
        }
        (key.src_l4, key.dst_l4) = (half(payload, 0)?.into(), half(payload, 2)?.into());
        // Port 0 is nobody's.
        return (key.src_l4 != 0 && key.dst_l4 != 0).then_some(());
    }
    if key.is_icmp() {
        let [kind, code, _, _, hi, lo, _, _] = *payload.first_chunk()?;
        if code != 0 {
            return None;
        }
        (key.src_l4, key.dst_l4) = icmp_ends(key.v6, u16::from_be_bytes([hi, lo]), kind, code)?;
    }
    Some(())
}

/// Turns the key of an ICMP error into that of the packet that it is about, travelling back; where that packet's headers
/// begin in the ICMP message.
fn about(key: &mut Key, icmp: &[u8]) -> Option<(usize, usize)> {
    const HEADER: usize = 8;
    let ip = icmp.get(HEADER..)?;
    let (mut inner, header) = if key.v6 { ipv6(ip)? } else { ipv4(ip)? };
    let payload = ip.get(header..)?;
    let is_error = inner.is_icmp() && payload.first().is_none_or(|&kind| is_error(key.v6, kind));
    // The sender of the packet is who is told of the error; there are no errors about errors.
    if inner.src != key.dst || is_error {
        return None;
    }
    // Routers quote 8 bytes behind the header at least (RFC 792).
    ends(&mut inner, payload, (!key.v6).then_some(8))?;
    *key = inner.reversed();
    Some((HEADER, HEADER + header))
}

fn facts(key: &Key, payload: &[u8]) -> Facts {
    match key.proto {
        ip::TCP => segment(payload).map_or(Facts::Other, Facts::Tcp),
        ip::ICMP | ip::ICMPV6 => {
            let kind = payload.first().copied().unwrap_or(u8::MAX);
            Facts::Icmp { request: super::key::icmp::is_request(key.proto == ip::ICMPV6, kind) }
        }
        _ => Facts::Other,
    }
}

fn segment(tcp: &[u8]) -> Option<Segment> {
    let (header, flags) = (usize::from(tcp.get(12)? >> 4) * 4, *tcp.get(13)?);
    let options = if flags & flag::SYN != 0 { tcp.get(20..header)? } else { &[] };
    Some(Segment {
        flags,
        seq: word(tcp, 4)?,
        ack: word(tcp, 8)?,
        window: half(tcp, 14)?,
        scale: Scale::of_options(options),
        len: u32::try_from(tcp.len().checked_sub(header)?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::frames::{Frame, key, read, tcp, udp};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_of_frames() {
        for (text, proto) in [("10.0.0.1", 17), ("fc00::1", 17), ("10.0.0.1", 6), ("fc00::1", 6)] {
            let key = key(text, 1000, if proto == 17 { "" } else { "10.0.0.9" }, 53, proto);
            let frame = if proto == 17 { udp(&key, 10) } else { tcp(&key, flag::SYN, 5, 0, 10) };
            let parsed = read(&frame).unwrap();
            assert_eq!((parsed.key, parsed.inner), (key, None));
            let expected = if proto == 17 {
                Facts::Other
            } else {
                let scale = Scale::None;
                Facts::Tcp(Segment { flags: flag::SYN, seq: 5, ack: 0, window: 1000, scale, len: 10 })
            };
            assert_eq!(parsed.facts, expected);
        }
    }

    #[test]
    fn damage_is_seen() {
        let key = key("10.0.0.1", 1000, "", 53, ip::UDP);
        let good = udp(&key, 10);
        // Every bit from the IP header on is under some checksum, but for what says where these are.
        for at in 24..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let parsed = read(&bad);
            assert!(parsed.is_none() || at == 25, "byte {at}");
        }
        let mut unsummed = good;
        unsummed[40..42].fill(0);
        assert!(read(&unsummed).is_some());
    }

    #[test]
    fn errors_name_the_packet_that_they_are_about() {
        for (src, router) in [("10.0.0.1", "10.0.0.77"), ("fc00::1", "fc00::77")] {
            let sent = key(src, 1000, "", 53, ip::UDP);
            let error = Frame::error(&sent, router, &udp(&sent, 10));
            let parsed = read(&error).unwrap();
            assert_eq!(parsed.key, sent.reversed());
            let at = usize::from(parsed.inner.unwrap().l4);
            assert_eq!(error[at..at + 4], [3, 232, 0, 53]);
            // About a packet that the one who is told of it did not send.
            let other = Key { src: sent.src + 1, ..sent };
            assert_eq!(read(&Frame::error(&other, router, &udp(&sent, 10))), None);
            // An error about an error.
            assert_eq!(read(&Frame::error(&sent, router, &error)), None);
        }
    }

    #[test]
    fn echoes_have_ids() {
        let mut echo = key("10.0.0.1", 0, "", 0, ip::ICMP);
        (echo.src_l4, echo.dst_l4) = icmp_ends(false, 77, 8, 0).unwrap();
        let parsed = read(&Frame::of(&echo)).unwrap();
        assert_eq!((parsed.key, parsed.facts), (echo, Facts::Icmp { request: true }));
        let parsed = read(&Frame::of(&echo.reversed())).unwrap();
        assert_eq!((parsed.key, parsed.facts), (echo.reversed(), Facts::Icmp { request: false }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_bytes_are_survived(
            mut frame in proptest::collection::vec(any::<u8>(), 0..120),
            v6: bool,
            proto in prop_oneof![Just(1u8), Just(6), Just(17), Just(44), Just(51), Just(58), Just(132)],
        ) {
            if frame.len() > 40 {
                let (ethertype, first) = if v6 { ([0x86, 0xdd], 0x60) } else { ([8, 0], 0x45) };
                frame[12..14].copy_from_slice(&ethertype);
                frame[14] = first;
                frame[if v6 { 20 } else { 23 }] = proto;
            }
            let mut key = Box::default();
            let layout = ::flow::extract::extract(&frame, &::flow::extract::Metadata::from_port(1), &mut key);
            for trusted in [false, true] {
                let Some(Parsed { key: ours, inner: None, .. }) = parse(&frame, &layout, trusted) else { continue };
                prop_assert_eq!(ours.proto, key.nw_proto);
                if ours.has_ports() {
                    let ports = (key.tp_src.get().into(), key.tp_dst.get().into());
                    prop_assert_eq!((ours.src_l4, ours.dst_l4), ports);
                }
            }
            // A layout of anything else is survived, too.
            let layout = Layout { l3: Some(14), l4: Some(34), ..Layout::default() };
            let _ = parse(&frame, &layout, true);
        }
    }
}
