//! Addresses of links (`RTM_*ADDR`, `linux/if_addr.h`), and which of them packets to somewhere come from.

use std::net::IpAddr;

use netlink_packet_core::Parseable;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use super::rtnl::{Message, Rtnl};
use crate::Error;
use crate::netdev::Address;

pub const RTM_NEWADDR: u16 = 20;
pub const RTM_DELADDR: u16 = 21;
pub const RTM_GETADDR: u16 = 22;
/// The multicast groups of addresses, IPv4 and IPv6.
pub const RTNLGRP_IFADDR: [u32; 2] = [5, 9];

/// An address of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkAddress {
    /// The link's number.
    pub index: u32,
    pub address: Address,
}

impl LinkAddress {
    /// From an `RTM_NEWADDR` or `RTM_DELADDR`; nothing if it is of another family or malformed.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, RTM_NEWADDR | RTM_DELADDR) {
            return None;
        }
        let parsed = AddressMessage::parse(message.payload).ok()?;
        let mut found = None;
        for attribute in &parsed.attributes {
            match attribute {
                // On a link between two, `Address` is the other's.
                AddressAttribute::Local(ip) => found = Some(*ip),
                AddressAttribute::Address(ip) if found.is_none() => found = Some(*ip),
                _ => {}
            }
        }
        let address = Address { ip: found?, prefix: parsed.header.prefix_len };
        Some(Self { index: parsed.header.index, address })
    }
}

/// All addresses, in the order in which the kernel prefers them for each link.
pub fn list(rtnl: &mut Rtnl) -> Result<Vec<LinkAddress>, Error> {
    rtnl.dump(RTM_GETADDR, &[0; 8], &|_| {}, LinkAddress::decode)
}

/// The bits of an address that its first `prefix` bits keep.
pub fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

fn shares_network(address: &Address, ip: IpAddr) -> bool {
    address.ip.is_ipv4() == ip.is_ipv4() && masked(address.ip, address.prefix) == masked(ip, address.prefix)
}

/// The address of a device that packets to `dst` come from: of those in its network the one with the longest prefix, the
/// first of several.
pub fn source(addresses: &[Address], dst: IpAddr) -> Option<IpAddr> {
    let near = addresses.iter().filter(|address| shares_network(address, dst));
    // `max_by_key` would give the last.
    near.rev().max_by_key(|address| address.prefix).map(|address| address.ip)
}

/// Whether a device has the address `wanted`, in the same network as `dst`.
pub fn is_source(addresses: &[Address], dst: IpAddr, wanted: IpAddr) -> bool {
    addresses.iter().any(|address| address.ip == wanted && shares_network(address, dst))
}

/// The address that packets to `dst` by way of `gateway` come from; `wanted`, if that is given and can be.
pub fn route_source(
    addresses: &[Address],
    dst: IpAddr,
    gateway: Option<IpAddr>,
    wanted: Option<IpAddr>,
) -> Option<IpAddr> {
    [Some(dst), gateway].into_iter().flatten().find_map(|towards| match wanted {
        Some(wanted) => is_source(addresses, towards, wanted).then_some(wanted),
        None => source(addresses, towards),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn address(text: &str, prefix: u8) -> Address {
        Address { ip: ip(text), prefix }
    }

    #[test]
    fn reads_the_local_address() {
        let mut body = vec![2, 24, 0, 0, 5, 0, 0, 0];
        body.extend([8, 0, 1, 0, 10, 0, 0, 9]);
        body.extend([8, 0, 2, 0, 10, 0, 0, 1]);
        let message = Message { kind: RTM_NEWADDR, flags: 0, seq: 0, pid: 0, at: 0, payload: &body };
        let expected = LinkAddress { index: 5, address: address("10.0.0.1", 24) };
        assert_eq!(LinkAddress::decode(&message), Some(expected));
    }

    #[test]
    fn the_longest_prefix_is_the_source() {
        let all = [
            address("10.0.0.1", 8),
            address("10.0.0.2", 24),
            address("10.0.0.3", 24),
            address("fe80::1", 64),
            address("2001:db8::1", 64),
        ];
        assert_eq!(source(&all, ip("10.0.0.200")), Some(ip("10.0.0.2")));
        assert_eq!(source(&all, ip("10.9.0.200")), Some(ip("10.0.0.1")));
        assert_eq!(source(&all, ip("fe80::9")), Some(ip("fe80::1")));
        assert_eq!(source(&all, ip("1.1.1.1")), None);
        assert_eq!(route_source(&all, ip("1.1.1.1"), Some(ip("10.0.0.4")), None), Some(ip("10.0.0.2")));
        let wanted = Some(ip("10.0.0.3"));
        assert_eq!(route_source(&all, ip("1.1.1.1"), Some(ip("10.0.0.4")), wanted), wanted);
        assert_eq!(route_source(&all, ip("1.1.1.1"), Some(ip("10.1.0.4")), wanted), None);
        assert_eq!(route_source(&all, ip("1.1.1.1"), None, wanted), None);
    }

    #[test]
    fn masks_of_all_lengths() {
        assert_eq!(masked(ip("10.1.2.3"), 0), ip("0.0.0.0"));
        assert_eq!(masked(ip("10.1.2.3"), 24), ip("10.1.2.0"));
        assert_eq!(masked(ip("10.1.2.3"), 32), ip("10.1.2.3"));
        assert_eq!(masked(ip("2001:db8::1"), 0), ip("::"));
        assert_eq!(masked(ip("2001:db8::1"), 128), ip("2001:db8::1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = LinkAddress::decode(&Message { kind: RTM_NEWADDR, flags: 0, seq: 0, pid: 0, at: 0, payload: &bytes });
        }
    }
}
