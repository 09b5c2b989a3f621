//! Attributes of ctnetlink (`linux/netfilter/nfnetlink_conntrack.h`): entries and expectations read, tuples written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flow::attr::{Attr, AttrError, Attrs, Writer};
use flow::id::Zone;
use flow::proto::ip;

use crate::conntrack::entry::{
    Counters, Entry, Expectation, L4, ProtoInfo, SctpState, TCP_FLAGS, TcpPeer, TcpState, Tuple,
};
use crate::kernel::nfnetlink::family;

/// Attributes of an entry (`CTA_*`).
pub mod cta {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const PROTOINFO: u16 = 4;
    pub const HELP: u16 = 5;
    pub const TIMEOUT: u16 = 7;
    pub const MARK: u16 = 8;
    pub const COUNTERS_ORIG: u16 = 9;
    pub const COUNTERS_REPLY: u16 = 10;
    pub const ID: u16 = 12;
    pub const TUPLE_MASTER: u16 = 14;
    pub const ZONE: u16 = 18;
    pub const TIMESTAMP: u16 = 20;
    pub const LABELS: u16 = 22;
}

/// Attributes of a tuple (`CTA_TUPLE_*`, `CTA_IP_*`, `CTA_PROTO_*`).
mod tuple {
    pub const IP: u16 = 1;
    pub const PROTO: u16 = 2;
    pub const V4_SRC: u16 = 1;
    pub const V4_DST: u16 = 2;
    pub const V6_SRC: u16 = 3;
    pub const V6_DST: u16 = 4;
    pub const NUM: u16 = 1;
    pub const SRC_PORT: u16 = 2;
    pub const DST_PORT: u16 = 3;
    /// Id, type and code of ICMP follow each other.
    pub const ICMP_ID: u16 = 4;
    pub const ICMPV6_ID: u16 = 7;
}

/// Attributes of what protocols keep (`CTA_PROTOINFO_*`).
mod protoinfo {
    pub const TCP: u16 = 1;
    pub const SCTP: u16 = 3;
    pub const STATE: u16 = 1;
    pub const TCP_WSCALE: [u16; 2] = [2, 3];
    pub const TCP_FLAGS: [u16; 2] = [4, 5];
    pub const SCTP_VTAG: [u16; 2] = [2, 3];
}

/// Attributes of expectations (`CTA_EXPECT_*`).
mod expect {
    pub const MASTER: u16 = 1;
    pub const TUPLE: u16 = 2;
    pub const ZONE: u16 = 7;
}

const COUNTERS_PACKETS: u16 = 1;
const COUNTERS_BYTES: u16 = 2;
const TIMESTAMP_START: u16 = 1;
const TIMESTAMP_STOP: u16 = 2;
const HELP_NAME: u16 = 1;

/// The attribute of a type, which must be there.
fn need<'a>(attrs: Attrs<'a>, kind: u16) -> Result<Attr<'a>, AttrError> {
    attrs.find(kind).ok_or(AttrError::Missing { at: attrs.offset(), kind })
}

fn zone_of(attr: Option<Attr<'_>>) -> Result<Zone, AttrError> {
    Ok(Zone(attr.map_or(Ok(0), |attr| attr.be16().map(|zone| zone.get()))?))
}

/// The zone of an entry.
pub fn zone(attrs: Attrs<'_>) -> Result<Zone, AttrError> {
    zone_of(attrs.find(cta::ZONE))
}

fn be32(attr: Option<Attr<'_>>) -> Result<u32, AttrError> {
    attr.map_or(Ok(0), |attr| attr.be32().map(|value| value.get()))
}

fn be64(attr: Attr<'_>) -> Result<u64, AttrError> {
    attr.be64().map(|value| value.get())
}

/// Reads a connection; `family` is that of its message.
pub fn entry(attrs: Attrs<'_>, family: u8) -> Result<Entry, AttrError> {
    let orig = read_tuple(need(attrs, cta::TUPLE_ORIG)?, family)?;
    let reply = read_tuple(need(attrs, cta::TUPLE_REPLY)?, family)?;
    let mut entry = Entry::new(orig, reply);
    for attr in attrs {
        let attr = attr?;
        match attr.kind {
            cta::COUNTERS_ORIG => entry.orig_counters = counters(attr)?,
            cta::COUNTERS_REPLY => entry.reply_counters = counters(attr)?,
            cta::TIMESTAMP => {
                let times = attr.nested();
                entry.start = be64(need(times, TIMESTAMP_START)?)?;
                entry.stop = times.find(TIMESTAMP_STOP).map_or(Ok(0), be64)?;
            }
            cta::ID => entry.id = be32(Some(attr))?,
            cta::ZONE => entry.zone = zone_of(Some(attr))?,
            cta::STATUS => entry.status = be32(Some(attr))?,
            cta::TIMEOUT => entry.timeout = be32(Some(attr))?,
            cta::MARK => entry.mark = be32(Some(attr))?,
            cta::LABELS => entry.labels = labels(attr),
            cta::PROTOINFO => entry.proto = proto_info(attr.nested())?,
            cta::HELP => entry.helper = Some(need(attr.nested(), HELP_NAME)?.str()?.to_owned()),
            cta::TUPLE_MASTER => entry.parent = Some(read_tuple(attr, family)?),
            _ => {}
        }
    }
    Ok(entry)
}

/// Reads an expectation.
pub fn expectation(attrs: Attrs<'_>, family: u8) -> Result<Expectation, AttrError> {
    Ok(Expectation {
        orig: read_tuple(need(attrs, expect::TUPLE)?, family)?,
        parent: read_tuple(need(attrs, expect::MASTER)?, family)?,
        zone: zone_of(attrs.find(expect::ZONE))?,
        mark: 0,
        labels: 0,
    })
}

/// Labels are bits numbered from the first byte's lowest; a kernel may hold fewer than 128.
fn labels(attr: Attr<'_>) -> u128 {
    let mut bytes = [0; 16];
    let len = attr.data.len().min(16);
    bytes[..len].copy_from_slice(&attr.data[..len]);
    u128::from_ne_bytes(bytes)
}

fn counters(attr: Attr<'_>) -> Result<Counters, AttrError> {
    let attrs = attr.nested();
    Ok(Counters {
        packets: be64(need(attrs, COUNTERS_PACKETS)?)?,
        bytes: be64(need(attrs, COUNTERS_BYTES)?)?,
    })
}

fn read_tuple(attr: Attr<'_>, family: u8) -> Result<Tuple, AttrError> {
    let attrs = attr.nested();
    let addrs = need(attrs, tuple::IP)?.nested();
    let v4 = |kind| {
        let addr = addrs.find(kind).map_or(Ok([0; 4]), |attr| attr.array());
        addr.map(|addr| IpAddr::V4(Ipv4Addr::from(addr)))
    };
    let v6 = |kind| {
        let addr = addrs.find(kind).map_or(Ok([0; 16]), |attr| attr.array());
        addr.map(|addr| IpAddr::V6(Ipv6Addr::from(addr)))
    };
    let (src, dst) = match family {
        family::INET => (v4(tuple::V4_SRC)?, v4(tuple::V4_DST)?),
        family::INET6 => (v6(tuple::V6_SRC)?, v6(tuple::V6_DST)?),
        _ => return Err(attr.invalid("unsupported address family")),
    };
    let protos = need(attrs, tuple::PROTO)?.nested();
    let ip_proto = need(protos, tuple::NUM)?.u8()?;
    Ok(Tuple { src, dst, ip_proto, l4: read_l4(protos, family, ip_proto)? })
}

/// Where the family's own ICMP has its attributes.
fn icmp_attrs(family: u8, ip_proto: u8) -> Option<u16> {
    match (family, ip_proto) {
        (family::INET, ip::ICMP) => Some(tuple::ICMP_ID),
        (family::INET6, ip::ICMPV6) => Some(tuple::ICMPV6_ID),
        _ => None,
    }
}

fn read_l4(protos: Attrs<'_>, family: u8, ip_proto: u8) -> Result<L4, AttrError> {
    if let Some(first) = icmp_attrs(family, ip_proto) {
        return Ok(L4::Icmp {
            id: need(protos, first)?.be16()?.get(),
            kind: need(protos, first + 1)?.u8()?,
            code: need(protos, first + 2)?.u8()?,
        });
    }
    match (Tuple::no_l4(ip_proto), protos.find(tuple::SRC_PORT), protos.find(tuple::DST_PORT)) {
        (L4::Ports { .. }, Some(src), Some(dst)) => {
            Ok(L4::Ports { src: src.be16()?.get(), dst: dst.be16()?.get() })
        }
        (none, _, _) => Ok(none),
    }
}

fn proto_info(attrs: Attrs<'_>) -> Result<Option<ProtoInfo>, AttrError> {
    if let Some(tcp) = attrs.find(protoinfo::TCP) {
        let tcp = tcp.nested();
        let state = tcp_state(need(tcp, protoinfo::STATE)?.u8()?);
        // The kernel has one state for both ends.
        let peer = |end: usize| -> Result<TcpPeer, AttrError> {
            let wscale = tcp.find(protoinfo::TCP_WSCALE[end]).map_or(Ok(0), |attr| attr.u8())?;
            let flags = tcp.find(protoinfo::TCP_FLAGS[end]);
            let [flags, _mask] = flags.map_or(Ok([0; 2]), |attr| attr.array())?;
            Ok(TcpPeer { state, wscale, flags: flags & ((1 << TCP_FLAGS.len()) - 1) })
        };
        return Ok(Some(ProtoInfo::Tcp { orig: peer(0)?, reply: peer(1)? }));
    }
    let Some(sctp) = attrs.find(protoinfo::SCTP) else { return Ok(None) };
    let sctp = sctp.nested();
    // The kernel sends tags big-endian, and OVS shows them as the machine reads them.
    let vtag = |end: usize| need(sctp, protoinfo::SCTP_VTAG[end])?.u32();
    Ok(Some(ProtoInfo::Sctp {
        state: sctp_state(need(sctp, protoinfo::STATE)?.u8()?),
        vtag_orig: vtag(0)?,
        vtag_reply: vtag(1)?,
    }))
}

/// `enum tcp_conntrack`
fn tcp_state(state: u8) -> TcpState {
    match state {
        1 | 9 => TcpState::SynSent,
        2 => TcpState::SynRecv,
        3 => TcpState::Established,
        4 => TcpState::FinWait1,
        5 => TcpState::CloseWait,
        6 => TcpState::LastAck,
        7 => TcpState::TimeWait,
        8 => TcpState::Closing,
        _ => TcpState::Closed,
    }
}

/// `enum sctp_conntrack`
fn sctp_state(state: u8) -> SctpState {
    match state {
        2 => SctpState::CookieWait,
        3 => SctpState::CookieEchoed,
        4 => SctpState::Established,
        5 => SctpState::ShutdownSent,
        6 => SctpState::ShutdownRecd,
        7 => SctpState::ShutdownAckSent,
        8 => SctpState::HeartbeatSent,
        9 => SctpState::HeartbeatAcked,
        _ => SctpState::Closed,
    }
}

/// The family of a tuple.
pub fn family_of(tuple: &Tuple) -> u8 {
    if tuple.src.is_ipv4() { family::INET } else { family::INET6 }
}

/// Writes a tuple as the attribute `kind`; whether its protocol is one that can be.
pub fn put_tuple(attrs: &mut Writer, kind: u16, tuple: &Tuple) -> bool {
    let icmp = icmp_attrs(family_of(tuple), tuple.ip_proto);
    if icmp.is_none() && !matches!(tuple.ip_proto, ip::TCP | ip::UDP | ip::SCTP) {
        return false;
    }
    attrs.nest_flagged(kind, |attrs| {
        attrs.nest_flagged(tuple::IP, |attrs| {
            put_addr(attrs, tuple::V4_SRC, tuple::V6_SRC, tuple.src);
            put_addr(attrs, tuple::V4_DST, tuple::V6_DST, tuple.dst);
        });
        attrs.nest_flagged(tuple::PROTO, |attrs| {
            attrs.put_u8(tuple::NUM, tuple.ip_proto);
            match tuple.l4 {
                L4::Icmp { id, kind, code } => {
                    let first = icmp.unwrap_or(tuple::ICMP_ID);
                    attrs.put(first, &id.to_be_bytes());
                    attrs.put_u8(first + 1, kind);
                    attrs.put_u8(first + 2, code);
                }
                L4::Ports { src, dst } => {
                    attrs.put(tuple::SRC_PORT, &src.to_be_bytes());
                    attrs.put(tuple::DST_PORT, &dst.to_be_bytes());
                }
            }
        });
    });
    true
}

fn put_addr(attrs: &mut Writer, v4: u16, v6: u16, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => attrs.put(v4, &addr.octets()),
        IpAddr::V6(addr) => attrs.put(v6, &addr.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::entry::tests::{ports, tuple};
    use proptest::prelude::*;

    /// A TCP connection through NAT, as the kernel tells it.
    fn tcp_bytes() -> Vec<u8> {
        let mut attrs = Writer::new();
        put_tuple(&mut attrs, cta::TUPLE_ORIG, &tuple("10.1.1.1", "10.1.1.2", 6, ports(40000, 80)));
        put_tuple(&mut attrs, cta::TUPLE_REPLY, &tuple("10.1.1.2", "10.1.1.240", 6, ports(80, 50000)));
        attrs.put(cta::STATUS, &0x19eu32.to_be_bytes());
        attrs.put(cta::TIMEOUT, &86399u32.to_be_bytes());
        for (kind, packets) in [(cta::COUNTERS_ORIG, 6u64), (cta::COUNTERS_REPLY, 4)] {
            attrs.nest_flagged(kind, |attrs| {
                attrs.put(COUNTERS_PACKETS, &packets.to_be_bytes());
                attrs.put(COUNTERS_BYTES, &(packets * 100).to_be_bytes());
            });
        }
        attrs.nest_flagged(cta::TIMESTAMP, |attrs| attrs.put(TIMESTAMP_START, &5u64.to_be_bytes()));
        attrs.nest_flagged(cta::PROTOINFO, |attrs| {
            attrs.nest_flagged(protoinfo::TCP, |attrs| {
                attrs.put_u8(protoinfo::STATE, 3);
                attrs.put_u8(protoinfo::TCP_WSCALE[0], 7);
                attrs.put_u8(protoinfo::TCP_WSCALE[1], 8);
                attrs.put(protoinfo::TCP_FLAGS[0], &[0xe3, 0]);
                attrs.put(protoinfo::TCP_FLAGS[1], &[0x23, 0]);
            });
        });
        attrs.nest_flagged(cta::HELP, |attrs| attrs.put_str(HELP_NAME, "ftp"));
        attrs.put(cta::MARK, &9u32.to_be_bytes());
        attrs.put(cta::ZONE, &5u16.to_be_bytes());
        let labels = u128::to_ne_bytes(0x1234);
        attrs.put(cta::LABELS, &labels);
        attrs.put(cta::ID, &77u32.to_be_bytes());
        put_tuple(&mut attrs, cta::TUPLE_MASTER, &tuple("10.1.1.1", "10.1.1.2", 6, ports(1, 21)));
        // Something that a later kernel has.
        attrs.put_u32(40, 1);
        attrs.into_bytes()
    }

    #[test]
    fn reads_what_the_kernel_tells() {
        let bytes = tcp_bytes();
        let entry = entry(Attrs::new(&bytes), family::INET).unwrap();
        assert_eq!((entry.start, entry.stop), (5, 0));
        assert_eq!(
            Entry { start: 0, ..entry }.text(true, true),
            "tcp,orig=(src=10.1.1.1,dst=10.1.1.2,sport=40000,dport=80,packets=6,bytes=600),\
             reply=(src=10.1.1.2,dst=10.1.1.240,sport=80,dport=50000,packets=4,bytes=400),id=77,zone=5,\
             status=SEEN_REPLY|ASSURED|CONFIRMED|SRC_NAT|SRC_NAT_DONE|DST_NAT_DONE,timeout=86399,mark=9,\
             labels=0x1234,protoinfo=(state_orig=ESTABLISHED,state_reply=ESTABLISHED,wscale_orig=7,wscale_reply=8,\
             flags_orig=WINDOW_SCALE|SACK_PERM|MAXACK_SET,flags_reply=WINDOW_SCALE|SACK_PERM|MAXACK_SET),helper=ftp,\
             parent=(src=10.1.1.1,dst=10.1.1.2,sport=1,dport=21)"
        );
    }

    #[test]
    fn tuples_go_both_ways() {
        let icmp = |kind| L4::Icmp { id: 24, kind, code: 1 };
        for tuple in [
            tuple("10.1.1.1", "10.1.1.2", 17, ports(1, 65535)),
            tuple("fc00::1", "fc00::2", 132, ports(1, 2)),
            tuple("10.1.1.1", "10.1.1.2", 1, icmp(8)),
            tuple("fc00::1", "fc00::2", 58, icmp(128)),
        ] {
            let mut attrs = Writer::new();
            assert!(put_tuple(&mut attrs, cta::TUPLE_ORIG, &tuple));
            let bytes = attrs.into_bytes();
            let attr = Attrs::new(&bytes).next().unwrap().unwrap();
            assert_eq!(read_tuple(attr, family_of(&tuple)), Ok(tuple));
        }
        let mut attrs = Writer::new();
        assert!(!put_tuple(&mut attrs, 1, &tuple("10.1.1.1", "10.1.1.2", 47, ports(0, 0))));
        assert!(!put_tuple(&mut attrs, 1, &tuple("fc00::1", "fc00::2", 1, icmp(8))));
        assert!(attrs.is_empty());
    }

    #[test]
    fn names_what_is_wrong() {
        let missing = entry(Attrs::new(&[]), family::INET);
        assert_eq!(missing, Err(AttrError::Missing { at: 0, kind: cta::TUPLE_ORIG }));
        let bytes = tcp_bytes();
        assert!(matches!(entry(Attrs::new(&bytes), 7), Err(AttrError::Invalid { at: 0, kind: 1, .. })));
    }

    #[test]
    fn expectations_are_read() {
        let mut attrs = Writer::new();
        put_tuple(&mut attrs, expect::MASTER, &tuple("10.1.1.1", "10.1.1.2", 6, ports(1, 21)));
        put_tuple(&mut attrs, expect::TUPLE, &tuple("10.1.1.1", "10.1.1.2", 6, ports(0, 2000)));
        attrs.put(expect::ZONE, &2u16.to_be_bytes());
        let bytes = attrs.into_bytes();
        assert_eq!(
            expectation(Attrs::new(&bytes), family::INET).unwrap().text(),
            "tcp,orig=(src=10.1.1.1,dst=10.1.1.2,sport=0,dport=2000),zone=2,\
             parent=(src=10.1.1.1,dst=10.1.1.2,sport=1,dport=21)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn arbitrary_bytes_do_not_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), family in 0u8..12, at in 0usize..400, byte: u8,
        ) {
            let _ = entry(Attrs::new(&bytes), family);
            let _ = expectation(Attrs::new(&bytes), family);
            let mut mutated = tcp_bytes();
            let at = at % mutated.len();
            mutated[at] = byte;
            if let Ok(entry) = entry(Attrs::new(&mutated), family::INET) {
                entry.text(true, true);
            }
        }
    }
}
