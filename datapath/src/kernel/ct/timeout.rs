//! Timeout policies by `nfnetlink_cttimeout` (`linux/netfilter/nfnetlink_cttimeout.h`).
//!
//! The kernel has a named policy for each family and protocol; one policy of ours is the six named `ovs_tp_ID_PROTOCOL`.

use std::collections::BTreeMap;

use flow::attr::{AttrError, Attrs};
use flow::proto::{ethertype, ip};
use neli::consts::nl::NlmF;
use sys::errno::Errno;

use crate::Error;
use crate::conntrack::entry::proto_name;
use crate::conntrack::timeout::{Timeout, TimeoutPolicy};
use crate::kernel::nfnetlink::{Client, Request, Subsystem, family, open};
use crate::netlink::Message;

/// Commands (`IPCTNL_MSG_TIMEOUT_*`).
mod command {
    pub const NEW: u8 = 0;
    pub const GET: u8 = 1;
    pub const DELETE: u8 = 2;
}

/// Attributes of a policy (`CTA_TIMEOUT_*`).
mod attr {
    pub const NAME: u16 = 1;
    pub const L3PROTO: u16 = 2;
    pub const L4PROTO: u16 = 3;
    pub const DATA: u16 = 4;
}

const PREFIX: &str = "ovs_tp_";

/// Families and protocols that the kernel has policies for.
const PROTOCOLS: [(u8, u8); 6] = [
    (family::INET, ip::TCP),
    (family::INET, ip::UDP),
    (family::INET, ip::ICMP),
    (family::INET6, ip::TCP),
    (family::INET6, ip::UDP),
    (family::INET6, ip::ICMPV6),
];

/// Timeouts with the protocols that have them and their attribute there (`CTA_TIMEOUT_TCP_*`, …). `udp_first` and
/// `icmp_reply` are the userspace tracker's alone.
const TIMEOUTS: [(Timeout, u8, u16); 15] = [
    (Timeout::TcpSynSent, ip::TCP, 1),
    (Timeout::TcpSynRecv, ip::TCP, 2),
    (Timeout::TcpEstablished, ip::TCP, 3),
    (Timeout::TcpFinWait, ip::TCP, 4),
    (Timeout::TcpCloseWait, ip::TCP, 5),
    (Timeout::TcpLastAck, ip::TCP, 6),
    (Timeout::TcpTimeWait, ip::TCP, 7),
    (Timeout::TcpClose, ip::TCP, 8),
    (Timeout::TcpSynSent2, ip::TCP, 9),
    (Timeout::TcpRetransmit, ip::TCP, 10),
    (Timeout::TcpUnack, ip::TCP, 11),
    (Timeout::UdpSingle, ip::UDP, 1),
    (Timeout::UdpMultiple, ip::UDP, 2),
    (Timeout::IcmpFirst, ip::ICMP, 1),
    (Timeout::IcmpFirst, ip::ICMPV6, 1),
];

fn name(id: u32, family: u8, ip_proto: u8) -> String {
    let version = match (family, ip_proto) {
        (family::INET, _) => "4",
        (_, ip::ICMPV6) => "",
        _ => "6",
    };
    format!("{PREFIX}{id}_{}{version}", proto_name(ip_proto))
}

/// The name that the `ct` action gives for packets of an EtherType and protocol.
pub fn action_name(id: u32, dl_type: u16, ip_proto: u8) -> String {
    name(id, if dl_type == ethertype::IPV4 { family::INET } else { family::INET6 }, ip_proto)
}

/// The policy that a name is part of.
fn id_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn new_request(policy: &TimeoutPolicy, name: &str, family: u8, ip_proto: u8) -> Request {
    let mut request = Request::new(Subsystem::Timeouts, command::NEW);
    request.flags = NlmF::CREATE | NlmF::REPLACE;
    request.attrs.put_str(attr::NAME, name);
    request.attrs.put(attr::L3PROTO, &u16::from(family).to_be_bytes());
    request.attrs.put_u8(attr::L4PROTO, ip_proto);
    request.attrs.nest_flagged(attr::DATA, |attrs| {
        for (timeout, _, kind) in TIMEOUTS.iter().filter(|(_, of, _)| *of == ip_proto) {
            if let Some(seconds) = policy.timeouts.get(timeout) {
                attrs.put(*kind, &seconds.to_be_bytes());
            }
        }
    });
    request
}

pub fn set(policy: &TimeoutPolicy) -> Result<(), Error> {
    let mut client = Client::connect()?;
    for (family, ip_proto) in PROTOCOLS {
        let name = name(policy.id, family, ip_proto);
        if let Err(error) = client.command(&new_request(policy, &name, family, ip_proto)) {
            tracing::warn!(target: "dpif_netlink", rl = "9999,5", "failed to add timeout policy {name} ({error})");
            return Err(error);
        }
    }
    Ok(())
}

/// Deletes what there is of a policy. Parts that are in use stay, and the last of their errors is returned.
pub fn delete(id: u32) -> Result<(), Error> {
    let mut client = Client::connect()?;
    let mut result = Ok(());
    for (family, ip_proto) in PROTOCOLS {
        let name = name(id, family, ip_proto);
        let mut request = Request::new(Subsystem::Timeouts, command::DELETE);
        request.attrs.put_str(attr::NAME, &name);
        match client.command(&request) {
            Ok(()) => {}
            Err(error) if error.errno() == Errno::ENOENT => {}
            Err(error) => {
                tracing::info!(target: "dpif_netlink", rl = "6,6", "failed to delete timeout policy {name} ({error})");
                result = Err(error);
            }
        }
    }
    result
}

/// One of the kernel's policies: name, protocol and timeouts.
fn read(attrs: Attrs<'_>) -> Result<(String, Vec<(Timeout, u32)>), AttrError> {
    let need = |kind| attrs.find(kind).ok_or(AttrError::Missing { at: attrs.offset(), kind });
    let ip_proto = need(attr::L4PROTO)?.u8()?;
    let mut timeouts = Vec::new();
    for value in need(attr::DATA)?.nested() {
        let value = value?;
        let row = TIMEOUTS.iter().find(|(_, of, kind)| (*of, *kind) == (ip_proto, value.kind));
        if let Some((timeout, ..)) = row {
            timeouts.push((*timeout, value.be32()?.get()));
        }
    }
    Ok((need(attr::NAME)?.str()?.to_owned(), timeouts))
}

/// Reads a policy of ours: its number and those timeouts that this part of it has.
pub fn decode(message: Message<'_>) -> Option<(u32, Vec<(Timeout, u32)>)> {
    let policy = open(&message, Subsystem::Timeouts).and_then(|answer| Ok(read(answer.attrs)?));
    match policy {
        Ok((name, timeouts)) => id_of(&name).map(|id| (id, timeouts)),
        Err(error) => {
            tracing::error!(target: "netlink_conntrack", rl = "1,5", "Could not parse timeout policy: {error}");
            None
        }
    }
}

/// All policies of ours.
pub fn list() -> Result<Vec<TimeoutPolicy>, Error> {
    let request = Request::new(Subsystem::Timeouts, command::GET);
    let mut policies = BTreeMap::<u32, TimeoutPolicy>::new();
    for part in Client::connect()?.dump(&request, decode)? {
        let (id, timeouts) = part?;
        let policy = policies.entry(id).or_insert_with(|| TimeoutPolicy { id, ..TimeoutPolicy::default() });
        policy.timeouts.extend(timeouts);
    }
    Ok(policies.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_ovs() {
        let names = PROTOCOLS.map(|(family, ip_proto)| name(3, family, ip_proto));
        assert_eq!(
            names,
            [
                "ovs_tp_3_tcp4",
                "ovs_tp_3_udp4",
                "ovs_tp_3_icmp4",
                "ovs_tp_3_tcp6",
                "ovs_tp_3_udp6",
                "ovs_tp_3_icmpv6"
            ]
        );
        assert!(names.iter().all(|name| id_of(name) == Some(3)));
        assert_eq!(action_name(7, ethertype::IPV6, ip::UDP), "ovs_tp_7_udp6");
        assert_eq!(id_of("ovs_tp_x"), None);
    }

    #[test]
    fn policies_go_both_ways() {
        let timeouts = BTreeMap::from([
            (Timeout::TcpSynSent, 12),
            (Timeout::TcpUnack, 7),
            (Timeout::UdpFirst, 9),
            (Timeout::UdpMultiple, 1000),
            (Timeout::IcmpFirst, 33),
        ]);
        let policy = TimeoutPolicy { id: 3, timeouts };
        let mut read_back = Vec::new();
        for (family, ip_proto) in PROTOCOLS {
            let request = new_request(&policy, "ovs_tp_3", family, ip_proto);
            let (name, timeouts) = read(Attrs::new(request.attrs.bytes())).unwrap();
            assert_eq!(name, "ovs_tp_3");
            read_back.extend(timeouts);
        }
        let once = [
            (Timeout::TcpSynSent, 12),
            (Timeout::TcpUnack, 7),
            (Timeout::UdpMultiple, 1000),
            (Timeout::IcmpFirst, 33),
        ];
        assert_eq!(read_back, [once, once].concat());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(Attrs::new(&bytes));
        }
    }
}
