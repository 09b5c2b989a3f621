//! Timeout policies: how many seconds a connection stays in each state.

use std::collections::BTreeMap;

macro_rules! attributes {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// A timeout, as the `timeouts` column of `CT_Timeout_Policy` names it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Timeout { $($name),* }

        impl Timeout {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

attributes! {
    TcpSynSent = "tcp_syn_sent",
    TcpSynRecv = "tcp_syn_recv",
    TcpEstablished = "tcp_established",
    TcpFinWait = "tcp_fin_wait",
    TcpCloseWait = "tcp_close_wait",
    TcpLastAck = "tcp_last_ack",
    TcpTimeWait = "tcp_time_wait",
    TcpClose = "tcp_close",
    TcpSynSent2 = "tcp_syn_sent2",
    TcpRetransmit = "tcp_retransmit",
    TcpUnack = "tcp_unack",
    UdpFirst = "udp_first",
    UdpSingle = "udp_single",
    UdpMultiple = "udp_multiple",
    IcmpFirst = "icmp_first",
    IcmpReply = "icmp_reply",
}

impl Timeout {
    /// Upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|timeout| timeout.name().eq_ignore_ascii_case(name))
    }
}

/// A set of timeouts in seconds; what is not in it stays as the tracker has it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TimeoutPolicy {
    /// Above 0, which stands for no policy.
    pub id: u32,
    pub timeouts: BTreeMap<Timeout, u32>,
}

/// Whether timeouts of this protocol can be set at all.
pub fn supports(ip_proto: u8) -> bool {
    use ::flow::proto::ip;
    matches!(ip_proto, ip::TCP | ip::UDP | ip::ICMP | ip::ICMPV6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for &timeout in Timeout::ALL {
            assert_eq!(Timeout::from_name(&timeout.name().to_uppercase()), Some(timeout));
        }
        assert_eq!(Timeout::from_name("tcp"), None);
    }
}
