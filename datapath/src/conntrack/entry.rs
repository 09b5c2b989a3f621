//! Tracked connections and expectations, and how `dump-conntrack` shows them.

use ::flow::ct::is_icmp;
use ::flow::id::Zone;
use ::flow::proto::ip;
use ::flow::text::{flags_masked, hex_bytes, ipv6};
use std::fmt::Write;
use std::net::IpAddr;

/// What of a tuple is beyond addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum L4 {
    Ports { src: u16, dst: u16 },
    Icmp { id: u16, kind: u8, code: u8 },
}

/// One direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tuple {
    /// Both addresses are of one family.
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ip_proto: u8,
    /// ICMP's for ICMP and ICMPv6, ports for all others (0 where there are none).
    pub l4: L4,
}

/// What went by in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident: $($state:ident = $text:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $($state),* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$state),*];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$state => $text),* }
            }
        }
    };
}

named! {
    /// A state of a TCP peer.
    TcpState:
    Closed = "CLOSED",
    Listen = "LISTEN",
    SynSent = "SYN_SENT",
    SynRecv = "SYN_RECV",
    Established = "ESTABLISHED",
    CloseWait = "CLOSE_WAIT",
    FinWait1 = "FIN_WAIT_1",
    Closing = "CLOSING",
    LastAck = "LAST_ACK",
    FinWait2 = "FIN_WAIT_2",
    TimeWait = "TIME_WAIT",
}

impl TcpState {
    /// The state as texts tell it that do not tell kernel and userspace apart, which see these two differently.
    pub const fn coalesced(self) -> Self {
        match self {
            Self::FinWait2 => Self::TimeWait,
            Self::SynRecv => Self::Established,
            state => state,
        }
    }
}

named! {
    /// A state of an SCTP association.
    SctpState:
    Closed = "CLOSED",
    CookieWait = "COOKIE_WAIT",
    CookieEchoed = "COOKIE_ECHOED",
    Established = "ESTABLISHED",
    ShutdownSent = "SHUTDOWN_SENT",
    ShutdownRecd = "SHUTDOWN_RECD",
    ShutdownAckSent = "SHUTDOWN_ACK_SENT",
    HeartbeatSent = "HEARTBEAT_SENT",
    HeartbeatAcked = "HEARTBEAT_ACKED",
}

/// What is known of one end of a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpPeer {
    pub state: TcpState,
    /// Window scale.
    pub wscale: u8,
    /// Bits of [`TCP_FLAGS`].
    pub flags: u8,
}

/// What a protocol keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtoInfo {
    Tcp { orig: TcpPeer, reply: TcpPeer },
    Sctp { state: SctpState, vtag_orig: u32, vtag_reply: u32 },
}

/// Names of [`TcpPeer::flags`] (`IP_CT_TCP_FLAG_*`), lowest bit first.
pub const TCP_FLAGS: [&str; 6] =
    ["WINDOW_SCALE", "SACK_PERM", "CLOSE_INIT", "BE_LIBERAL", "DATA_UNACKNOWLEDGED", "MAXACK_SET"];

/// Names of [`Entry::status`] (`IPS_*`), lowest bit first.
pub const STATUS: [&str; 13] = [
    "EXPECTED",
    "SEEN_REPLY",
    "ASSURED",
    "CONFIRMED",
    "SRC_NAT",
    "DST_NAT",
    "SEQ_ADJUST",
    "SRC_NAT_DONE",
    "DST_NAT_DONE",
    "DYING",
    "FIXED_TIMEOUT",
    "TEMPLATE",
    "UNTRACKED",
];

/// A tracked connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub orig: Tuple,
    pub reply: Tuple,
    /// The connection that this one was expected by.
    pub parent: Option<Tuple>,
    pub helper: Option<String>,
    pub id: u32,
    pub zone: Zone,
    pub orig_counters: Counters,
    pub reply_counters: Counters,
    /// Nanoseconds since 1970 of its beginning and end; 0 if not known.
    pub start: u64,
    pub stop: u64,
    pub proto: Option<ProtoInfo>,
    pub labels: u128,
    /// Bits of [`STATUS`]; others are not shown.
    pub status: u32,
    /// Seconds that are left.
    pub timeout: u32,
    pub mark: u32,
    /// The bucket that it counts in, below [`super::Conntrack::buckets`].
    pub bucket: u32,
}

impl Entry {
    /// A connection of which no more than its directions is known.
    pub const fn new(orig: Tuple, reply: Tuple) -> Self {
        Self {
            orig,
            reply,
            parent: None,
            helper: None,
            id: 0,
            zone: Zone(0),
            orig_counters: Counters { packets: 0, bytes: 0 },
            reply_counters: Counters { packets: 0, bytes: 0 },
            start: 0,
            stop: 0,
            proto: None,
            labels: 0,
            status: 0,
            timeout: 0,
            mark: 0,
            bucket: 0,
        }
    }
}

/// A connection that a helper expects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expectation {
    pub orig: Tuple,
    pub parent: Tuple,
    pub zone: Zone,
    pub mark: u32,
    pub labels: u128,
}

macro_rules! w {
    ($out:expr, $($arg:tt)*) => {
        // Writing to a string cannot fail.
        let _ = write!($out, $($arg)*);
    };
}

/// The name of an IP protocol here, or its number.
pub fn proto_name(ip_proto: u8) -> String {
    const DCCP: u8 = 33;
    let name = match ip_proto {
        ip::ICMP => "icmp",
        ip::ICMPV6 => "icmpv6",
        ip::TCP => "tcp",
        ip::UDP => "udp",
        ip::SCTP => "sctp",
        ip::UDPLITE => "udplite",
        DCCP => "dccp",
        ip::IGMP => "igmp",
        other => return other.to_string(),
    };
    name.to_owned()
}

fn addr_text(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => ipv6(&v6.octets()),
    }
}

impl Tuple {
    fn text(&self, out: &mut String) {
        w!(out, "src={},dst={}", addr_text(self.src), addr_text(self.dst));
        match self.l4 {
            L4::Ports { src, dst } => {
                w!(out, ",sport={src},dport={dst}");
            }
            L4::Icmp { id, kind, code } => {
                w!(out, ",id={id},type={kind},code={code}");
            }
        }
    }

    /// What goes with a protocol before anything of it is known.
    pub const fn no_l4(ip_proto: u8) -> L4 {
        match ip_proto {
            ip::ICMP | ip::ICMPV6 => L4::Icmp { id: 0, kind: 0, code: 0 },
            _ => L4::Ports { src: 0, dst: 0 },
        }
    }

    /// Whether the protocol's tuples have an id, type and code.
    pub fn is_icmp(&self) -> bool {
        is_icmp(self.ip_proto)
    }
}

impl Counters {
    fn text(self, out: &mut String) {
        if self.packets != 0 || self.bytes != 0 {
            w!(out, ",packets={},bytes={}", self.packets, self.bytes);
        }
    }
}

/// Local time with milliseconds.
fn time_text(ns: u64) -> String {
    let ms = ns / 1_000_000;
    let t = sys::process::civil(i64::try_from(ms / 1000).unwrap_or(i64::MAX), false);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}",
        t.year,
        t.month,
        t.day,
        t.hour,
        t.minute,
        t.second,
        ms % 1000
    )
}

fn bit_name(names: &'static [&'static str]) -> impl Fn(u32) -> Option<&'static str> {
    move |bit| names.get(bit.trailing_zeros() as usize).copied()
}

fn flags_text(bits: u32, names: &'static [&'static str]) -> String {
    let all = (1 << names.len()) - 1;
    flags_masked(bits & all, all, all, bit_name(names))
}

fn mark_and_labels(mark: u32, labels: u128, out: &mut String) {
    if mark != 0 {
        w!(out, ",mark={mark}");
    }
    if labels != 0 {
        w!(out, ",labels={}", hex_bytes(&labels.to_be_bytes()));
    }
}

impl ProtoInfo {
    fn text(&self, verbose: bool, out: &mut String) {
        match self {
            Self::Tcp { orig, reply } if verbose => {
                w!(out, "state_orig={},state_reply={}", orig.state.name(), reply.state.name());
                if orig.wscale != 0 || reply.wscale != 0 {
                    w!(out, ",wscale_orig={},wscale_reply={}", orig.wscale, reply.wscale);
                }
                w!(out, ",flags_orig={}", flags_text(orig.flags.into(), &TCP_FLAGS));
                w!(out, ",flags_reply={}", flags_text(reply.flags.into(), &TCP_FLAGS));
            }
            Self::Tcp { .. } => {
                w!(out, "state={}", self.tcp_state().map_or("", TcpState::name));
            }
            Self::Sctp { state, vtag_orig, vtag_reply } => {
                w!(out, "state={},vtag_orig={vtag_orig},vtag_reply={vtag_reply}", state.name());
            }
        }
    }

    /// One state for a TCP connection: that of the end that is further on.
    pub fn tcp_state(&self) -> Option<TcpState> {
        match self {
            Self::Tcp { orig, reply } => Some(orig.state.max(reply.state).coalesced()),
            Self::Sctp { .. } => None,
        }
    }
}

impl Entry {
    /// The line of `dump-conntrack`; `verbose` for `-m`, `statistics` for `-s`.
    pub fn text(&self, verbose: bool, statistics: bool) -> String {
        let mut out = proto_name(self.orig.ip_proto);
        let directions =
            [("orig", &self.orig, self.orig_counters), ("reply", &self.reply, self.reply_counters)];
        for (name, tuple, counters) in directions {
            w!(out, ",{name}=(");
            tuple.text(&mut out);
            if statistics {
                counters.text(&mut out);
            }
            out.push(')');
        }
        if statistics && (self.start != 0 || self.stop != 0) {
            w!(out, ",start={}", time_text(self.start));
            if self.stop != 0 {
                w!(out, ",stop={}", time_text(self.stop));
            }
        }
        if verbose {
            w!(out, ",id={}", self.id);
        }
        if self.zone != Zone(0) {
            w!(out, ",zone={}", self.zone);
        }
        if verbose {
            w!(out, ",status={}", flags_text(self.status, &STATUS));
        }
        if statistics {
            w!(out, ",timeout={}", self.timeout);
        }
        mark_and_labels(self.mark, self.labels, &mut out);
        if let Some(proto) = &self.proto {
            out.push_str(",protoinfo=(");
            proto.text(verbose, &mut out);
            out.push(')');
        }
        if let Some(helper) = &self.helper {
            w!(out, ",helper={helper}");
        }
        if let (true, Some(parent)) = (verbose, &self.parent) {
            out.push_str(",parent=(");
            parent.text(&mut out);
            out.push(')');
        }
        out
    }
}

impl Expectation {
    /// The line of `dump-conntrack-exp`.
    pub fn text(&self) -> String {
        let mut out = proto_name(self.orig.ip_proto);
        out.push_str(",orig=(");
        self.orig.text(&mut out);
        out.push(')');
        if self.zone != Zone(0) {
            w!(out, ",zone={}", self.zone);
        }
        mark_and_labels(self.mark, self.labels, &mut out);
        out.push_str(",parent=(");
        self.parent.text(&mut out);
        out.push(')');
        out
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tuple(src: &str, dst: &str, ip_proto: u8, l4: L4) -> Tuple {
        Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), ip_proto, l4 }
    }

    pub(crate) fn ports(src: u16, dst: u16) -> L4 {
        L4::Ports { src, dst }
    }

    /// Text of an entry: plain, `-m`, `-s`, and both.
    fn texts(entry: &Entry) -> [String; 4] {
        [(false, false), (true, false), (false, true), (true, true)]
            .map(|(verbose, statistics)| entry.text(verbose, statistics))
    }

    #[test]
    fn a_plain_udp_connection() {
        let entry = Entry::new(
            tuple("10.1.1.1", "10.1.1.2", 17, ports(1, 2)),
            tuple("10.1.1.2", "10.1.1.240", 17, ports(2, 1)),
        );
        let head = "udp,orig=(src=10.1.1.1,dst=10.1.1.2,sport=1,dport=2),\
                    reply=(src=10.1.1.2,dst=10.1.1.240,sport=2,dport=1)";
        assert_eq!(
            texts(&entry),
            [
                head.to_owned(),
                format!("{head},id=0,status=0"),
                format!("{head},timeout=0"),
                format!("{head},id=0,status=0,timeout=0"),
            ]
        );
    }

    #[test]
    fn a_tcp_connection_with_everything() {
        let peer = |state, wscale, flags| TcpPeer { state, wscale, flags };
        let mut entry = Entry::new(
            tuple("fc00::1", "fc00::2", 6, ports(34567, 80)),
            tuple("fc00::2", "fc00::1", 6, ports(80, 34567)),
        );
        entry.orig_counters = Counters { packets: 3, bytes: 180 };
        entry.reply_counters = Counters { packets: 2, bytes: 120 };
        (entry.id, entry.zone, entry.status, entry.timeout, entry.mark) = (7, Zone(9), 0x1_000e, 431_999, 5);
        entry.labels = 0x0102;
        entry.helper = Some("ftp".to_owned());
        entry.parent = Some(tuple("10.1.1.1", "10.1.1.2", 6, ports(3, 21)));
        entry.proto = Some(ProtoInfo::Tcp {
            orig: peer(TcpState::SynRecv, 7, 0x23),
            reply: peer(TcpState::SynRecv, 6, 0),
        });
        let orig = "src=fc00::1,dst=fc00::2,sport=34567,dport=80";
        let reply = "src=fc00::2,dst=fc00::1,sport=80,dport=34567";
        let verbose = "protoinfo=(state_orig=SYN_RECV,state_reply=SYN_RECV,wscale_orig=7,wscale_reply=6,\
                       flags_orig=WINDOW_SCALE|SACK_PERM|MAXACK_SET,flags_reply=0),helper=ftp,\
                       parent=(src=10.1.1.1,dst=10.1.1.2,sport=3,dport=21)";
        let head = format!("tcp,orig=({orig}),reply=({reply})");
        let counted = format!("tcp,orig=({orig},packets=3,bytes=180),reply=({reply},packets=2,bytes=120)");
        let (marks, status) = ("mark=5,labels=0x102", "status=SEEN_REPLY|ASSURED|CONFIRMED");
        assert_eq!(
            texts(&entry),
            [
                format!("{head},zone=9,{marks},protoinfo=(state=ESTABLISHED),helper=ftp"),
                format!("{head},id=7,zone=9,{status},{marks},{verbose}"),
                format!("{counted},zone=9,timeout=431999,{marks},protoinfo=(state=ESTABLISHED),helper=ftp"),
                format!("{counted},id=7,zone=9,{status},timeout=431999,{marks},{verbose}"),
            ]
        );
    }

    #[test]
    fn other_protocols() {
        let icmp = |kind| L4::Icmp { id: 24, kind, code: 0 };
        let both = |l4, proto| {
            let tuple = tuple("1.0.0.1", "1.0.0.2", proto, l4);
            Entry::new(tuple, tuple)
        };
        for (entry, text) in [
            (both(icmp(8), 1), "icmp,orig=(src=1.0.0.1,dst=1.0.0.2,id=24,type=8,code=0)"),
            (both(icmp(128), 58), "icmpv6,orig=(src=1.0.0.1,dst=1.0.0.2,id=24,type=128,code=0)"),
            (both(ports(1, 2), 132), "sctp,orig=(src=1.0.0.1,dst=1.0.0.2,sport=1,dport=2)"),
            (both(ports(1, 2), 136), "udplite,orig=(src=1.0.0.1,dst=1.0.0.2,sport=1,dport=2)"),
            (both(ports(1, 2), 33), "dccp,orig=(src=1.0.0.1,dst=1.0.0.2,sport=1,dport=2)"),
            (both(ports(0, 0), 2), "igmp,orig=(src=1.0.0.1,dst=1.0.0.2,sport=0,dport=0)"),
            (both(ports(0, 0), 47), "47,orig=(src=1.0.0.1,dst=1.0.0.2,sport=0,dport=0)"),
        ] {
            let tail = text.split_once("orig=").unwrap().1;
            assert_eq!(entry.text(false, false), format!("{text},reply={tail}"));
        }
        let mut sctp = both(ports(1, 2), 132);
        sctp.proto =
            Some(ProtoInfo::Sctp { state: SctpState::CookieEchoed, vtag_orig: 5, vtag_reply: u32::MAX });
        assert!(
            sctp.text(true, false)
                .ends_with(",status=0,protoinfo=(state=COOKIE_ECHOED,vtag_orig=5,vtag_reply=4294967295)")
        );
    }

    #[test]
    fn times_are_local() {
        let mut entry = Entry::new(
            tuple("1.0.0.1", "1.0.0.2", 47, ports(0, 0)),
            tuple("1.0.0.2", "1.0.0.1", 47, ports(0, 0)),
        );
        (entry.start, entry.stop) = (1_795_289_561_123_999_999, 1_795_289_562_000_000_000);
        let local = sys::process::civil(1_795_289_561, false);
        let expected = format!("{:02}:{:02}:{:02}.123", local.hour, local.minute, local.second);
        let text = entry.text(false, true);
        assert!(text.contains(",start=2026-11-2") && text.contains(&expected), "{text}");
        assert!(text.contains(",stop=2026-11-2") && text.ends_with(".000,timeout=0"), "{text}");
    }

    #[test]
    fn expectations() {
        let expectation = Expectation {
            orig: tuple("10.1.1.1", "10.1.1.2", 6, ports(0, 2000)),
            parent: tuple("10.1.1.1", "10.1.1.2", 6, ports(1, 21)),
            zone: Zone(3),
            mark: 1,
            labels: 0,
        };
        assert_eq!(
            expectation.text(),
            "tcp,orig=(src=10.1.1.1,dst=10.1.1.2,sport=0,dport=2000),zone=3,mark=1,\
             parent=(src=10.1.1.1,dst=10.1.1.2,sport=1,dport=21)"
        );
    }
}
