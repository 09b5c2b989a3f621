//! What protocols make of packets: of which a connection may begin, what state it is in, how long that lasts.

use super::entry::ProtoInfo;
use super::parse::Facts;
use super::tcp::Tcp;
use super::timeout::Timeout;

/// What a packet means to its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It does not belong.
    Invalid,
    /// It belongs; the connection lasts so long from now, or no longer than before.
    Established(Option<Timeout>),
    /// It belongs to a connection that was not answered yet.
    StillNew(Timeout),
    /// The connection is over and this packet begins another with the same key.
    Renewed,
}

/// What a connection's protocol remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proto {
    Tcp(Tcp),
    Icmp {
        answered: bool,
    },
    /// UDP and everything else: whether more than one packet came, and whether from both ends.
    Other(Other),
}

/// What of a connection without a state machine was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Other {
    First,
    Multiple,
    Both,
}

impl Proto {
    /// The connection that a packet begins, and how long it lasts; `None` if none may begin here.
    pub fn begin(facts: &Facts) -> Option<(Self, Timeout)> {
        match facts {
            Facts::Tcp(segment) => {
                segment.may_begin().then(|| (Self::Tcp(Tcp::begin(segment)), Timeout::TcpSynSent))
            }
            Facts::Icmp { request } => {
                request.then_some((Self::Icmp { answered: false }, Timeout::IcmpFirst))
            }
            Facts::Other => Some((Self::Other(Other::First), Timeout::UdpFirst)),
        }
    }

    /// Takes a packet; `strict` if TCP's sequence numbers matter.
    pub fn update(&mut self, facts: &Facts, reply: bool, strict: bool) -> Verdict {
        match (self, facts) {
            (Self::Tcp(tcp), Facts::Tcp(segment)) => tcp.update(segment, reply, strict),
            // What has a connection's key is of its protocol.
            (Self::Tcp(_), _) => Verdict::Invalid,
            (Self::Icmp { answered }, _) => {
                *answered |= reply;
                if *answered {
                    Verdict::Established(Some(Timeout::IcmpReply))
                } else {
                    Verdict::StillNew(Timeout::IcmpFirst)
                }
            }
            (Self::Other(state), _) => {
                if reply {
                    *state = Other::Both;
                } else if *state == Other::First {
                    *state = Other::Multiple;
                }
                match state {
                    Other::Both => Verdict::Established(Some(Timeout::UdpMultiple)),
                    Other::First | Other::Multiple => Verdict::StillNew(Timeout::UdpSingle),
                }
            }
        }
    }

    /// What is shown of it.
    pub fn info(&self) -> Option<ProtoInfo> {
        let Self::Tcp(tcp) = self else { return None };
        let [orig, reply] = tcp.info();
        Some(ProtoInfo::Tcp { orig, reply })
    }
}

/// Seconds that a state lasts where nobody says otherwise.
pub const fn default_seconds(timeout: Timeout) -> u32 {
    match timeout {
        Timeout::TcpEstablished => 24 * 60 * 60,
        Timeout::TcpFinWait => 15 * 60,
        Timeout::TcpTimeWait => 45,
        Timeout::UdpFirst | Timeout::UdpSingle | Timeout::IcmpFirst => 60,
        Timeout::TcpSynSent
        | Timeout::TcpSynRecv
        | Timeout::TcpClose
        | Timeout::UdpMultiple
        | Timeout::IcmpReply => 30,
        // States that only the kernel's tracker has.
        Timeout::TcpCloseWait
        | Timeout::TcpLastAck
        | Timeout::TcpSynSent2
        | Timeout::TcpRetransmit
        | Timeout::TcpUnack => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams() {
        let (mut proto, first) = Proto::begin(&Facts::Other).unwrap();
        assert_eq!(first, Timeout::UdpFirst);
        assert_eq!(proto.update(&Facts::Other, false, true), Verdict::StillNew(Timeout::UdpSingle));
        let both = Verdict::Established(Some(Timeout::UdpMultiple));
        assert_eq!(proto.update(&Facts::Other, true, true), both);
        assert_eq!(proto.update(&Facts::Other, false, true), both);
    }

    #[test]
    fn echoes() {
        let (request, reply) = (Facts::Icmp { request: true }, Facts::Icmp { request: false });
        assert_eq!(Proto::begin(&reply), None);
        let (mut proto, _) = Proto::begin(&request).unwrap();
        assert_eq!(proto.update(&request, false, true), Verdict::StillNew(Timeout::IcmpFirst));
        assert_eq!(proto.update(&reply, true, true), Verdict::Established(Some(Timeout::IcmpReply)));
    }
}
