//! Neighbours: link-layer addresses of hosts on a link (`RTM_*NEIGH`, `linux/neighbour.h`).

use std::net::IpAddr;

use flow::key::EthAddr;
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::rtnl::{Message, Rtnl};
use crate::Error;

pub const RTM_NEWNEIGH: u16 = 28;
pub const RTM_DELNEIGH: u16 = 29;
pub const RTM_GETNEIGH: u16 = 30;
/// The multicast group of neighbours.
pub const RTNLGRP_NEIGH: u32 = 3;

/// A neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The link that it is on.
    pub index: u32,
    pub ip: IpAddr,
    /// `None` while it is not known or found not to answer.
    pub mac: Option<EthAddr>,
}

impl Neighbour {
    /// From an `RTM_NEWNEIGH` or `RTM_DELNEIGH`; nothing for what is no IP neighbour (entries of bridges), or malformed.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, RTM_NEWNEIGH | RTM_DELNEIGH) {
            return None;
        }
        let parsed = NeighbourMessage::parse(message.payload).ok()?;
        if !matches!(parsed.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
            return None;
        }
        let (mut ip, mut mac) = (None, None);
        for attribute in &parsed.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some((*v4).into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some((*v6).into()),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
                _ => {}
            }
        }
        let silent = matches!(
            parsed.header.state,
            NeighbourState::None | NeighbourState::Incomplete | NeighbourState::Failed
        );
        let gone = message.kind == RTM_DELNEIGH || silent;
        Some(Self { index: parsed.header.ifindex, ip: ip?, mac: mac.filter(|_| !gone) })
    }
}

/// All neighbours that the kernel knows the address of.
pub fn list(rtnl: &mut Rtnl) -> Result<Vec<Neighbour>, Error> {
    let all = rtnl.dump(RTM_GETNEIGH, &[0; 12], &|_| {}, Neighbour::decode)?;
    Ok(all.into_iter().filter(|neighbour| neighbour.mac.is_some()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(state: u8) -> Vec<u8> {
        let mut body = vec![2, 0, 0, 0, 9, 0, 0, 0, state, 0, 0, 1];
        body.extend([8, 0, 1, 0, 10, 0, 0, 7]);
        body.extend([10, 0, 2, 0, 2, 0, 0, 0, 0, 7, 0, 0]);
        body
    }

    fn decode(kind: u16, body: &[u8]) -> Option<Neighbour> {
        Neighbour::decode(&Message { kind, flags: 0, seq: 0, pid: 0, at: 0, payload: body })
    }

    #[test]
    fn reachable_failed_and_deleted() {
        let known = Neighbour { index: 9, ip: "10.0.0.7".parse().unwrap(), mac: Some([2, 0, 0, 0, 0, 7]) };
        let unknown = Neighbour { mac: None, ..known };
        assert_eq!(decode(RTM_NEWNEIGH, &body(2)), Some(known));
        assert_eq!(decode(RTM_NEWNEIGH, &body(0x20)), Some(unknown));
        assert_eq!(decode(RTM_DELNEIGH, &body(2)), Some(unknown));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn never_panics(rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = body(2);
            bytes.extend(&rest);
            let _ = decode(RTM_NEWNEIGH, &bytes);
            let _ = decode(RTM_NEWNEIGH, &rest);
        }
    }
}
