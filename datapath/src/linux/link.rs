//! Links: the kernel's network interfaces (`RTM_*LINK`, `linux/if_link.h`).
//!
//! Attributes are read one by one, not by a decoder of whole messages: a link carries dozens that change from kernel to
//! kernel, and one that a decoder does not know must not hide the interface.

use flow::attr::{Attr, Attrs, Writer};
use flow::key::EthAddr;
use sys::errno::Errno;
use sys::link::{LinkStats, flag};

use super::rtnl::flag::{CREATE, EXCL};
use super::rtnl::{Message, Rtnl};
use crate::Error;

pub const RTM_NEWLINK: u16 = 16;
pub const RTM_DELLINK: u16 = 17;
pub const RTM_GETLINK: u16 = 18;
/// The multicast group of links.
pub const RTNLGRP_LINK: u32 = 1;

/// Length of `struct ifinfomsg`.
const HEADER: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_CARRIER: u16 = 33;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_PHYS_SWITCH_ID: u16 = 36;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;

/// A link.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Link {
    /// Its number in its namespace, from 1.
    pub index: u32,
    pub name: String,
    /// `IFF_*`, as [`sys::link::flag`].
    pub flags: u32,
    /// Zeroes for what has no Ethernet address.
    pub mac: EthAddr,
    /// Bytes.
    pub mtu: u32,
    pub carrier: bool,
    /// How often the carrier came or went.
    pub carrier_changes: u32,
    /// The link that it belongs to: a bridge, a bond, `ovs-system`.
    pub master: Option<u32>,
    /// The kind of a virtual link: `veth`, `vxlan`, `openvswitch`.
    pub kind: Option<String>,
    /// What its master is, as its own kind of member: `openvswitch`.
    pub slave_kind: Option<String>,
    /// The attributes within `IFLA_INFO_DATA`: what is particular to its kind.
    pub data: Vec<u8>,
    /// The switch that it is a port of, as its hardware says; empty for most.
    pub switch: Vec<u8>,
    /// As it counts itself.
    pub stats: Option<LinkStats>,
}

impl Link {
    /// From an `RTM_NEWLINK` or `RTM_DELLINK`; nothing if that has no name or is malformed.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, RTM_NEWLINK | RTM_DELLINK) {
            return None;
        }
        Self::parse(message.payload)
    }

    /// From the payload of such a message.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (head, tail) = payload.split_at_checked(HEADER)?;
        // Events of bridge ports come under their own family and tell half of the link.
        if *head.first()? != 0 {
            return None;
        }
        let word = |at: usize| Some(u32::from_ne_bytes(*head.get(at..)?.first_chunk()?));
        let mut link = Self { index: word(4)?, flags: word(8)?, ..Self::default() };
        link.carrier = link.flags & flag::LOWER_UP != 0;
        for attr in Attrs::new_at(tail, HEADER) {
            link.take(&attr.ok()?);
        }
        (!link.name.is_empty()).then_some(link)
    }

    /// Whether it is administratively up.
    pub const fn is_up(&self) -> bool {
        self.flags & flag::UP != 0
    }

    fn take(&mut self, attr: &Attr<'_>) {
        match attr.kind {
            IFLA_IFNAME => self.name = attr.str().unwrap_or_default().to_owned(),
            IFLA_ADDRESS => self.mac = attr.array().unwrap_or_default(),
            IFLA_MTU => self.mtu = attr.u32().unwrap_or_default(),
            IFLA_MASTER => self.master = attr.u32().ok(),
            IFLA_CARRIER => self.carrier = attr.u8() == Ok(1),
            IFLA_CARRIER_CHANGES => self.carrier_changes = attr.u32().unwrap_or_default(),
            IFLA_PHYS_SWITCH_ID => self.switch = attr.data.to_vec(),
            IFLA_STATS64 => self.stats = LinkStats::parse(attr.data),
            IFLA_LINKINFO => {
                for inner in attr.nested().map_while(Result::ok) {
                    let text = || inner.str().ok().map(str::to_owned);
                    match inner.kind {
                        IFLA_INFO_KIND => self.kind = text(),
                        IFLA_INFO_SLAVE_KIND => self.slave_kind = text(),
                        IFLA_INFO_DATA => self.data = inner.data.to_vec(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn header(index: u32, flags: u32, change: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (at, word) in [(4, index), (8, flags), (12, change)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// A link by name.
///
/// # Errors
/// `ENODEV` if there is none.
pub fn get(rtnl: &mut Rtnl, name: &str) -> Result<Link, Error> {
    let answer = rtnl.get(RTM_GETLINK, 0, &header(0, 0, 0), |attrs| attrs.put_str(IFLA_IFNAME, name))?;
    Link::parse(&answer).ok_or(Error::Os(Errno::EPROTO))
}

/// All links.
pub fn list(rtnl: &mut Rtnl) -> Result<Vec<Link>, Error> {
    rtnl.dump(RTM_GETLINK, &header(0, 0, 0), &|_| {}, Link::decode)
}

/// A virtual link to be made.
pub struct NewLink<'a> {
    pub name: &'a str,
    /// `vxlan`, `geneve`, `dummy`.
    pub kind: &'a str,
    /// Bytes; the kernel's default if `None`.
    pub mtu: Option<u32>,
    pub mac: Option<EthAddr>,
    pub up: bool,
}

/// Makes a virtual link. `data` writes the attributes of its kind, for `IFLA_INFO_DATA`, which is left out if there are
/// none.
///
/// # Errors
/// `EEXIST` if there is one of this name, `EOPNOTSUPP` if the kernel lacks the kind.
pub fn add(rtnl: &mut Rtnl, new: &NewLink<'_>, data: impl FnOnce(&mut Writer)) -> Result<(), Error> {
    let flags = if new.up { flag::UP } else { 0 };
    rtnl.execute(RTM_NEWLINK, CREATE | EXCL, &header(0, flags, flags), |attrs| add_attrs(attrs, new, data))
}

fn add_attrs(attrs: &mut Writer, new: &NewLink<'_>, data: impl FnOnce(&mut Writer)) {
    attrs.put_str(IFLA_IFNAME, new.name);
    if let Some(mtu) = new.mtu {
        attrs.put_u32(IFLA_MTU, mtu);
    }
    if let Some(mac) = new.mac {
        attrs.put(IFLA_ADDRESS, &mac);
    }
    attrs.nest(IFLA_LINKINFO, |info| {
        info.put_str(IFLA_INFO_KIND, new.kind);
        let mut own = Writer::new();
        data(&mut own);
        if !own.is_empty() {
            info.put(IFLA_INFO_DATA, own.bytes());
        }
    });
}

/// Removes a link.
///
/// # Errors
/// `ENODEV` if there is none of this name.
pub fn delete(rtnl: &mut Rtnl, name: &str) -> Result<(), Error> {
    rtnl.execute(RTM_DELLINK, 0, &header(0, 0, 0), |attrs| attrs.put_str(IFLA_IFNAME, name))
}

/// Turns a link on or off.
///
/// # Errors
/// `ENODEV` if there is none of this name.
pub fn set_up(rtnl: &mut Rtnl, name: &str, up: bool) -> Result<(), Error> {
    let head = header(0, if up { flag::UP } else { 0 }, flag::UP);
    rtnl.execute(RTM_NEWLINK, 0, &head, |attrs| attrs.put_str(IFLA_IFNAME, name))
}

/// Gives a link an MTU, in bytes.
///
/// # Errors
/// `ENODEV` if there is none of this name, `EINVAL` if it cannot have that MTU.
pub fn set_mtu(rtnl: &mut Rtnl, name: &str, mtu: u32) -> Result<(), Error> {
    rtnl.execute(RTM_NEWLINK, 0, &header(0, 0, 0), |attrs| {
        attrs.put_str(IFLA_IFNAME, name);
        attrs.put_u32(IFLA_MTU, mtu);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn new<'a>(body: &'a [u8]) -> Message<'a> {
        Message { kind: RTM_NEWLINK, flags: 0, seq: 0, pid: 0, at: 0, payload: body }
    }

    fn body(new: &NewLink<'_>, flags: u32, data: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut attrs = Writer::after(header(0, flags, flags).to_vec());
        add_attrs(&mut attrs, new, data);
        attrs.into_bytes()
    }

    #[test]
    fn what_we_ask_for_reads_back() {
        let new_link = NewLink {
            name: "vxlan_sys_4789",
            kind: "vxlan",
            mtu: Some(65000),
            mac: Some([2, 0, 0, 0, 0, 9]),
            up: true,
        };
        let link = Link::decode(&new(&body(&new_link, flag::UP, |data| data.put_u32(1, 42))));
        let expected = Link {
            name: "vxlan_sys_4789".to_owned(),
            flags: flag::UP,
            mtu: 65000,
            mac: [2, 0, 0, 0, 0, 9],
            kind: Some("vxlan".to_owned()),
            data: vec![8, 0, 1, 0, 42, 0, 0, 0],
            ..Link::default()
        };
        assert_eq!(link, Some(expected));
    }

    #[test]
    fn bytes_of_a_request_to_make_a_link() {
        let bytes = body(&NewLink { name: "d0", kind: "dummy", mtu: None, mac: None, up: false }, 0, |_| {});
        let mut expected = vec![0; 16];
        expected.extend([7, 0, 3, 0, b'd', b'0', 0, 0]);
        expected.extend([16, 0, 18, 0, 10, 0, 1, 0, b'd', b'u', b'm', b'm', b'y', 0, 0, 0]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_loopback_interface() {
        let mut rtnl = Rtnl::open().unwrap();
        let lo = get(&mut rtnl, "lo").unwrap();
        assert_eq!((lo.name.as_str(), lo.mac, lo.mtu, lo.flags & flag::LOOPBACK), ("lo", [0; 6], 65536, 8));
        assert!(list(&mut rtnl).unwrap().iter().any(|link| link.name == "lo" && link.index == lo.index));
        assert_eq!(get(&mut rtnl, "no-such-device").unwrap_err().errno(), Errno::ENODEV);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Link::decode(&new(&bytes));
            let mut headed = header(1, 0, 0).to_vec();
            headed.extend(&bytes);
            let _ = Link::decode(&new(&headed));
        }
    }
}
