//! Network interfaces of the kernel: flags, addresses, MTU, counters, link settings (netdevice(7), rtnetlink(7),
//! `linux/ethtool.h`).
//!
//! A [`Links`] speaks for the network namespace that its maker was in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::errno::Errno;

/// Flags of an interface (`IFF_*`).
pub mod flag {
    pub const UP: u32 = libc::IFF_UP as u32;
    pub const PROMISC: u32 = libc::IFF_PROMISC as u32;
    pub const LOOPBACK: u32 = libc::IFF_LOOPBACK as u32;
    pub const RUNNING: u32 = libc::IFF_RUNNING as u32;
    pub const LOWER_UP: u32 = libc::IFF_LOWER_UP as u32;
}

/// Counters of an interface, `struct rtnl_link_stats64` in its order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub multicast: u64,
    pub collisions: u64,
    pub rx_length_errors: u64,
    pub rx_over_errors: u64,
    pub rx_crc_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_fifo_errors: u64,
    pub rx_missed_errors: u64,
    pub tx_aborted_errors: u64,
    pub tx_carrier_errors: u64,
}

/// What the kernel knows of one interface.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LinkState {
    pub index: u32,
    /// [`flag`]s.
    pub flags: u32,
    pub mtu: u32,
    pub mac: [u8; 6],
    pub carrier: bool,
    /// How often the carrier came or went.
    pub carrier_changes: u64,
    /// The kind of a virtual device (`veth`, `tun`, `bridge`).
    pub kind: Option<String>,
    pub stats: LinkStats,
}

/// What the driver says of itself (`ETHTOOL_GDRVINFO`).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Driver {
    pub name: String,
    pub version: String,
    pub firmware: String,
}

/// Link settings (`ETHTOOL_GSET`), bits as `ADVERTISED_*` and `SUPPORTED_*`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    pub supported: u32,
    pub advertised: u32,
    pub peer: u32,
    /// Mbit/s; `None` if unknown.
    pub speed: Option<u32>,
    /// `None` if unknown.
    pub full_duplex: Option<bool>,
    /// The port is one of fibre (`PORT_FIBRE`), or twisted pair (`PORT_TP`) if `false`; `None` for others.
    pub fiber: Option<bool>,
    pub autoneg: bool,
}

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSET: u32 = 1;
const ETHTOOL_GDRVINFO: u32 = 3;

/// Asks and sets. One control socket and one netlink socket.
#[derive(Debug)]
pub struct Links {
    control: OwnedFd,
}

/// An ifreq for an interface.
///
/// # Errors
/// `EINVAL` if the name cannot be one.
pub(crate) fn request(name: &str) -> Result<libc::ifreq, Errno> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(Errno::EINVAL);
    }
    // SAFETY: an ifreq is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

impl Links {
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(Errno::last());
        }
        // SAFETY: made just now, nobody else's.
        Ok(Self { control: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    fn ioctl(&self, number: libc::c_ulong, request: &mut libc::ifreq) -> Result<(), Errno> {
        // SAFETY: all requests made here read and write an ifreq, and what one of ethtool's points at is borrowed by the caller.
        match unsafe { libc::ioctl(self.control.as_raw_fd(), number, std::ptr::from_mut(request)) } {
            0.. => Ok(()),
            _ => Err(Errno::last()),
        }
    }

    /// The index of an interface.
    ///
    /// # Errors
    /// `ENODEV` if there is none of this name.
    pub fn index(&self, name: &str) -> Result<u32, Errno> {
        let mut request = request(name).map_err(|_| Errno::ENODEV)?;
        self.ioctl(libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: the request filled this member of the union.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    /// Sets the flags of `on` and clears those of `off`.
    pub fn update_flags(&self, name: &str, off: u32, on: u32) -> Result<(), Errno> {
        let mut request = request(name)?;
        self.ioctl(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: the request filled this member of the union.
        let old = unsafe { request.ifr_ifru.ifru_flags } as u16;
        let new = old & !(off as u16) | on as u16;
        if new == old {
            return Ok(());
        }
        request.ifr_ifru.ifru_flags = new as i16;
        self.ioctl(libc::SIOCSIFFLAGS, &mut request)
    }

    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), Errno> {
        let mut request = request(name)?;
        request.ifr_ifru.ifru_mtu = mtu as i32;
        self.ioctl(libc::SIOCSIFMTU, &mut request)
    }

    pub fn set_mac(&self, name: &str, mac: [u8; 6]) -> Result<(), Errno> {
        let mut request = request(name)?;
        // SAFETY: a sockaddr is plain data.
        let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
        address.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_hwaddr = address;
        self.ioctl(libc::SIOCSIFHWADDR, &mut request)
    }

    fn ethtool<const N: usize>(&self, name: &str, command: u32) -> Result<[u8; N], Errno> {
        let mut request = request(name)?;
        let mut buffer = [0u8; N];
        buffer[..4].copy_from_slice(&command.to_ne_bytes());
        request.ifr_ifru.ifru_data = buffer.as_mut_ptr().cast();
        self.ioctl(SIOCETHTOOL, &mut request)?;
        Ok(buffer)
    }

    pub fn driver(&self, name: &str) -> Result<Driver, Errno> {
        let info: [u8; 196] = self.ethtool(name, ETHTOOL_GDRVINFO)?;
        let text = |at: usize| {
            let bytes = &info[at..at + 32];
            String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
        };
        Ok(Driver { name: text(4), version: text(36), firmware: text(68) })
    }

    pub fn settings(&self, name: &str) -> Result<Settings, Errno> {
        let raw: [u8; 44] = self.ethtool(name, ETHTOOL_GSET)?;
        let word = |at: usize| u32::from_ne_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let half = |at: usize| u32::from(u16::from_ne_bytes([raw[at], raw[at + 1]]));
        let speed = half(28) << 16 | half(12);
        Ok(Settings {
            supported: word(4),
            advertised: word(8),
            peer: word(32),
            speed: (speed != 0 && speed != u32::MAX && speed != 0xffff).then_some(speed),
            full_duplex: match raw[14] {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
            fiber: match raw[15] {
                0 => Some(false),
                3 => Some(true),
                _ => None,
            },
            autoneg: raw[18] != 0,
        })
    }

    /// Everything about one interface.
    ///
    /// # Errors
    /// `ENODEV` if there is none of this name.
    pub fn state(&self, name: &str) -> Result<LinkState, Errno> {
        let mut body = vec![0u8; 16];
        put_attr(&mut body, IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        let mut state = None;
        dump(RTM_GETLINK, 0, &body, |kind, message| {
            if kind == RTM_NEWLINK {
                state = LinkState::parse(message);
            }
        })?;
        state.ok_or(Errno::ENODEV)
    }

    /// The addresses of an interface with their prefix lengths.
    pub fn addresses(&self, index: u32) -> Result<Vec<(IpAddr, u8)>, Errno> {
        let mut found = Vec::new();
        dump(RTM_GETADDR, libc::NLM_F_DUMP as u16, &[0; 8], |kind, message| {
            if kind == RTM_NEWADDR
                && let Some((at, address)) = parse_address(message)
                && at == index
            {
                found.push(address);
            }
        })?;
        Ok(found)
    }
}

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_CARRIER: u16 = 33;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const HEADER: usize = 16;

fn put_attr(to: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    to.extend(((payload.len() + 4) as u16).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(payload);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// The attributes in `bytes`, up to the first that is malformed.
fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let payload = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl LinkState {
    fn parse(message: &[u8]) -> Option<Self> {
        let mut state = Self { index: u32_at(message, 4)?, flags: u32_at(message, 8)?, ..Self::default() };
        state.carrier = state.flags & flag::LOWER_UP != 0;
        for (kind, payload) in attrs(message.get(16..)?) {
            match kind {
                IFLA_ADDRESS => state.mac = payload.first_chunk().copied().unwrap_or_default(),
                IFLA_MTU => state.mtu = u32_at(payload, 0)?,
                IFLA_CARRIER => state.carrier = payload.first() == Some(&1),
                IFLA_CARRIER_CHANGES => state.carrier_changes = u64::from(u32_at(payload, 0)?),
                IFLA_LINKINFO => {
                    state.kind = attrs(payload)
                        .find(|(kind, _)| *kind == IFLA_INFO_KIND)
                        .map(|(_, name)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
                }
                IFLA_STATS64 => state.stats = LinkStats::parse(payload)?,
                _ => {}
            }
        }
        Some(state)
    }
}

impl LinkStats {
    /// From `struct rtnl_link_stats64`, of which newer kernels have more.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let word = |n: usize| Some(u64::from_ne_bytes(*payload.get(n * 8..)?.first_chunk()?));
        Some(Self {
            rx_packets: word(0)?,
            tx_packets: word(1)?,
            rx_bytes: word(2)?,
            tx_bytes: word(3)?,
            rx_errors: word(4)?,
            tx_errors: word(5)?,
            rx_dropped: word(6)?,
            tx_dropped: word(7)?,
            multicast: word(8)?,
            collisions: word(9)?,
            rx_length_errors: word(10)?,
            rx_over_errors: word(11)?,
            rx_crc_errors: word(12)?,
            rx_frame_errors: word(13)?,
            rx_fifo_errors: word(14)?,
            rx_missed_errors: word(15)?,
            tx_aborted_errors: word(16)?,
            tx_carrier_errors: word(17)?,
        })
    }
}

fn parse_address(message: &[u8]) -> Option<(u32, (IpAddr, u8))> {
    let (prefix, index) = (*message.get(1)?, u32_at(message, 4)?);
    let mut found = None;
    for (kind, payload) in attrs(message.get(8..)?) {
        let ip = match payload.len() {
            4 => IpAddr::V4(Ipv4Addr::from(*payload.first_chunk()?)),
            16 => IpAddr::V6(Ipv6Addr::from(*payload.first_chunk()?)),
            _ => continue,
        };
        if kind == IFA_LOCAL || kind == IFA_ADDRESS && found.is_none() {
            found = Some(ip);
        }
    }
    Some((index, (found?, prefix)))
}

/// Sends one route request and gives each message of the answer to `each`.
fn dump(kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
    let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    socket.send(&message, 0)?;
    let mut buffer: Vec<u8> = Vec::with_capacity(64 << 10);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = &buffer[..];
        while let (Some(len), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
            let Some(payload) = rest.get(HEADER..len as usize) else { return Err(Errno::EIO) };
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    return match u32_at(payload, 0).map(|code| code as i32) {
                        Some(0) => Ok(()),
                        Some(code) => Err(Errno(-code)),
                        None => Err(Errno::EIO),
                    };
                }
                _ => each(kind, payload),
            }
            rest = rest.get((len as usize).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface() {
        let links = Links::new().unwrap();
        let index = links.index("lo").unwrap();
        let state = links.state("lo").unwrap();
        assert_eq!((state.index, state.mac, state.mtu), (index, [0; 6], 65536));
        assert_eq!(state.flags & flag::LOOPBACK, flag::LOOPBACK);
        assert!(links.addresses(index).is_ok());
        assert_eq!(links.state("no-such-device"), Err(Errno::ENODEV));
        assert_eq!(links.index("a-name-that-is-too-long"), Err(Errno::ENODEV));
    }
}
