//! Routes (`RTM_*ROUTE`, `linux/rtnetlink.h`).

use std::net::IpAddr;

use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteScope, RouteType, RouteVia,
};

use super::addr::masked;
use super::rtnl::Message;

pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_DELROUTE: u16 = 25;
pub const RTM_GETROUTE: u16 = 26;
/// The multicast groups of routes, IPv4 and IPv6.
pub const RTNLGRP_ROUTE: [u32; 2] = [7, 11];

/// Routing tables that there always are (`RT_TABLE_*`).
pub mod table {
    pub const DEFAULT: u32 = 253;
    pub const MAIN: u32 = 254;
    pub const LOCAL: u32 = 255;
}

/// What routes replace each other by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub table: u32,
    /// Packets have this mark.
    pub mark: u32,
    /// The network that packets go to; bits beyond the prefix are zero.
    pub dst: IpAddr,
    /// Bits of the network's address.
    pub prefix: u8,
}

/// A route to somewhere: of those that the kernel has, all that lead to one link and deliver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pub key: Key,
    /// The link that packets leave by; 0 if none is named.
    pub oif: u32,
    pub gateway: Option<IpAddr>,
    /// Where packets are to come from.
    pub source: Option<IpAddr>,
    pub tos: u8,
    /// The metric.
    pub priority: u32,
    /// Whether there are more next hops, of which this is the first.
    pub multipath: bool,
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn via_of(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(ip) => Some((*ip).into()),
        RouteVia::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

impl Route {
    /// From an `RTM_NEWROUTE` or `RTM_DELROUTE`; nothing for what delivers no packets (blackholes, multicast), for copies
    /// in the cache, and for what is malformed.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, RTM_NEWROUTE | RTM_DELROUTE) {
            return None;
        }
        let parsed = RouteMessage::parse(message.payload).ok()?;
        let head = &parsed.header;
        let unspecified: IpAddr = match head.address_family {
            AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let delivers = matches!(head.kind, RouteType::Unicast | RouteType::Local)
            && head.scope != RouteScope::NoWhere
            && !head.flags.contains(RouteFlags::Cloned);
        if !delivers {
            return None;
        }
        let prefix = head.destination_prefix_length;
        let key = Key { table: head.table.into(), mark: 0, dst: unspecified, prefix };
        let mut route =
            Self { key, oif: 0, gateway: None, source: None, tos: head.tos, priority: 0, multipath: false };
        let mut has_hop = false;
        for attribute in &parsed.attributes {
            has_hop |= route.take(attribute);
        }
        route.key.dst = masked(route.key.dst, prefix);
        has_hop.then_some(route)
    }

    /// Whether the attribute says where packets go next.
    fn take(&mut self, attribute: &RouteAttribute) -> bool {
        match attribute {
            RouteAttribute::Table(table) => self.key.table = *table,
            RouteAttribute::Mark(mark) => self.key.mark = *mark,
            RouteAttribute::Destination(dst) => self.key.dst = ip_of(dst).unwrap_or(self.key.dst),
            RouteAttribute::PrefSource(source) => self.source = ip_of(source),
            RouteAttribute::Priority(priority) => self.priority = *priority,
            RouteAttribute::Oif(oif) => {
                self.oif = *oif;
                return true;
            }
            RouteAttribute::Gateway(gateway) => {
                self.gateway = ip_of(gateway);
                return true;
            }
            RouteAttribute::Via(via) => {
                self.gateway = via_of(via);
                return true;
            }
            RouteAttribute::MultiPath(hops) => {
                self.multipath = hops.len() > 1;
                return hops.first().map(|hop| self.take_hop(hop)).is_some();
            }
            _ => {}
        }
        false
    }

    fn take_hop(&mut self, hop: &RouteNextHop) {
        self.oif = hop.interface_index;
        for attribute in &hop.attributes {
            match attribute {
                RouteAttribute::Gateway(gateway) => self.gateway = ip_of(gateway),
                RouteAttribute::Via(via) => self.gateway = via_of(via),
                _ => {}
            }
        }
    }
}

/// The body of a request for all routes of one family (`AF_INET` or `AF_INET6`).
pub fn dump_request(v6: bool) -> [u8; 12] {
    let mut body = [0; 12];
    body[0] = u8::from(if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet });
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::attr::Writer;
    use proptest::prelude::*;

    fn header(family: u8, prefix: u8, kind: u8) -> Vec<u8> {
        vec![family, prefix, 0, 0, 254, 2, 0, kind, 0, 0, 0, 0]
    }

    fn decode(body: &[u8]) -> Option<Route> {
        Route::decode(&Message { kind: RTM_NEWROUTE, flags: 0, seq: 0, pid: 0, at: 0, payload: body })
    }

    #[test]
    fn a_route_by_a_gateway() {
        let mut body = Writer::after(header(2, 24, 1));
        body.put_u32(15, 1000);
        body.put(1, &[10, 1, 2, 0]);
        body.put_u32(6, 100);
        body.put(7, &[192, 0, 2, 1]);
        body.put(5, &[192, 0, 2, 254]);
        body.put_u32(4, 7);
        let expected = Route {
            key: Key { table: 1000, mark: 0, dst: "10.1.2.0".parse().unwrap(), prefix: 24 },
            oif: 7,
            gateway: "192.0.2.254".parse().ok(),
            source: "192.0.2.1".parse().ok(),
            tos: 0,
            priority: 100,
            multipath: false,
        };
        assert_eq!(decode(body.bytes()), Some(expected));
    }

    #[test]
    fn ipv4_by_an_ipv6_gateway_and_the_default_route() {
        let mut body = Writer::after(header(2, 0, 1));
        let mut via = 10u16.to_ne_bytes().to_vec();
        via.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        body.put(18, &via);
        body.put_u32(4, 3);
        let route = decode(body.bytes()).unwrap();
        assert_eq!((route.key.dst.to_string(), route.key.prefix), ("0.0.0.0".to_owned(), 0));
        assert_eq!(route.gateway, "fe80::1".parse().ok());
    }

    #[test]
    fn the_first_of_several_next_hops() {
        let mut body = Writer::after(header(2, 32, 1));
        body.put(1, &[10, 9, 9, 9]);
        let mut hops = Vec::new();
        for (index, last) in [(5u32, 1u8), (6, 2)] {
            hops.extend([16, 0, 0, 0]);
            hops.extend(index.to_ne_bytes());
            hops.extend([8, 0, 5, 0, 10, 0, 0, last]);
        }
        body.put(9, &hops);
        let route = decode(body.bytes()).unwrap();
        assert_eq!((route.oif, route.gateway, route.multipath), (5, "10.0.0.1".parse().ok(), true));
    }

    #[test]
    fn what_does_not_deliver_is_no_route() {
        let mut body = Writer::after(header(2, 24, 6));
        body.put_u32(4, 7);
        assert_eq!(decode(body.bytes()), None, "a blackhole");
        assert_eq!(decode(&header(2, 24, 1)), None, "no next hop");
        assert_eq!(decode(&header(28, 24, 1)), None, "MPLS");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn never_panics(family in 0u8..16, rest in proptest::collection::vec(any::<u8>(), 0..96)) {
            let mut body = header(family, 24, 1);
            body.extend(&rest);
            let _ = decode(&body);
            let _ = decode(&rest);
        }
    }
}
