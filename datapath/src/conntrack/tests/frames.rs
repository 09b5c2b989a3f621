//! Frames by key.

use crate::conntrack::key::{Key, number};
use crate::conntrack::parse::{Parsed, parse};
use ::flow::checksum::{Sum, of as checksum, pseudo4, pseudo6};
use ::flow::extract::{Metadata, extract};
use ::flow::proto::ip;
use std::net::IpAddr;

/// A key of texts and ports; an empty destination is the source with its lowest bits changed.
pub(crate) fn key(src: &str, src_l4: u32, dst: &str, dst_l4: u32, proto: u8) -> Key {
    let src: IpAddr = src.parse().unwrap();
    let dst = dst.parse().ok().filter(|dst: &IpAddr| dst.is_ipv6() == src.is_ipv6());
    let dst = dst.map_or(number(src) ^ 0xff, number);
    Key { src: number(src), dst, src_l4, dst_l4, zone: 0, proto, v6: src.is_ipv6() }
}

/// What the tracker reads of a frame.
pub(crate) fn read(frame: &[u8]) -> Option<Parsed> {
    let mut key = Box::default();
    let layout = extract(frame, &Metadata::from_port(1), &mut key);
    parse(frame, &layout, false)
}

/// Bytes behind the IP header, complete but for the checksum at an offset.
pub(crate) struct Frame;

impl Frame {
    /// The simplest frame with a key: no payload, no flags but ACK.
    pub(crate) fn of(key: &Key) -> Vec<u8> {
        match key.proto {
            ip::TCP => tcp(key, 0x10, 1, 1, 0),
            ip::UDP => udp(key, 0),
            _ if key.is_icmp() => {
                let [hi, lo, kind, code] = key.src_l4.to_be_bytes();
                Self::build(key, vec![kind, code, 0, 0, hi, lo, 0, 1], Some(2))
            }
            _ => Self::build(key, vec![0; 8], None),
        }
    }

    /// An ICMP error from `router` to the source of `key`, about the packet of a frame.
    pub(crate) fn error(key: &Key, router: &str, frame: &[u8]) -> Vec<u8> {
        let router: IpAddr = router.parse().unwrap();
        let (proto, kind) = if key.v6 { (ip::ICMPV6, 1) } else { (ip::ICMP, 3) };
        let outer = Key { src: number(router), dst: key.src, proto, v6: key.v6, ..Key::default() };
        let mut body = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        body.extend(&frame[14..]);
        Self::build(&outer, body, Some(2))
    }

    /// A frame of addresses and protocol, with its checksums.
    pub(crate) fn build(key: &Key, mut body: Vec<u8>, sum_at: Option<usize>) -> Vec<u8> {
        let len = body.len() as u16;
        if let Some(at) = sum_at {
            let pseudo = match (key.v6, key.proto) {
                (_, ip::ICMP) => Sum::default(),
                (false, _) => pseudo4(key.src as u32, key.dst as u32, key.proto, len),
                (true, _) => pseudo6(&key.src.to_be_bytes(), &key.dst.to_be_bytes(), key.proto, len),
            };
            let sum = match pseudo.bytes(&body).finish() {
                0 if key.proto == ip::UDP => 0xffff,
                sum => sum,
            };
            body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if key.v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([key.proto, 64]);
            frame.extend(key.src.to_be_bytes());
            frame.extend(key.dst.to_be_bytes());
        } else {
            let mut header = vec![0x45, 0];
            header.extend((len + 20).to_be_bytes());
            header.extend([0, 1, 0, 0, 64, key.proto, 0, 0]);
            header.extend((key.src as u32).to_be_bytes());
            header.extend((key.dst as u32).to_be_bytes());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(header);
        }
        frame.extend(body);
        frame
    }
}

/// A datagram with `len` bytes.
pub(crate) fn udp(key: &Key, len: usize) -> Vec<u8> {
    let mut body = ports(key);
    body.extend((len as u16 + 8).to_be_bytes());
    body.extend([0, 0]);
    body.extend((0..len).map(|n| n as u8));
    Frame::build(key, body, Some(6))
}

/// A segment with `len` bytes.
pub(crate) fn tcp(key: &Key, flags: u8, seq: u32, ack: u32, len: usize) -> Vec<u8> {
    tcp_with(key, flags, seq, ack, 1000, &[], len)
}

/// The same with a window and options, of a multiple of 4 bytes.
pub(crate) fn tcp_with(
    key: &Key,
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
    options: &[u8],
    len: usize,
) -> Vec<u8> {
    let mut body = ports(key);
    body.extend(seq.to_be_bytes());
    body.extend(ack.to_be_bytes());
    body.extend([(5 + options.len() as u8 / 4) << 4, flags]);
    body.extend(window.to_be_bytes());
    body.extend([0, 0, 0, 0]);
    body.extend(options);
    body.extend((0..len).map(|n| n as u8));
    Frame::build(key, body, Some(16))
}

fn ports(key: &Key) -> Vec<u8> {
    let mut body = (key.src_l4 as u16).to_be_bytes().to_vec();
    body.extend((key.dst_l4 as u16).to_be_bytes());
    body
}
