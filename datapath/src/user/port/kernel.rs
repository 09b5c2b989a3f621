//! Devices that the kernel knows: what `system` interfaces and taps have in common, by ioctl and rtnetlink.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flow::key::EthAddr;
use sys::errno::Errno;
use sys::link::{LinkState, LinkStats, Links, Settings, flag};

use super::Io;
use super::afpacket::AfPacket;
use crate::Error;
use crate::linux::monitor::Versions;
use crate::linux::tc::Shaper;
use crate::netdev::{Address, Counters, Flags, Link, LinkModes, Netdev, Netdevs, TxOffloads};

/// An interface of the kernel by name.
pub(crate) struct Interface {
    pub name: String,
    links: Links,
    /// Hash of the last state seen, and the sequence number that stands for it.
    seen: AtomicU64,
    seq: AtomicU64,
    versions: Option<Versions>,
    /// Resets of the carrier before it was opened.
    old_resets: u64,
    shaper: Shaper,
}

impl Interface {
    /// Looks the interface up.
    ///
    /// # Errors
    /// `ENODEV` if there is none of this name.
    pub fn open(devices: &Netdevs, name: &str) -> Result<Self, Error> {
        let this = Self::new(devices, name)?;
        this.links.index(name)?;
        Ok(this)
    }

    /// The interface of this name, whether there is one now or not.
    pub fn new(devices: &Netdevs, name: &str) -> Result<Self, Error> {
        let links = Links::new()?;
        let versions = devices.link_versions();
        let old_resets = versions.as_ref().map_or(0, |versions| versions.get(name).resets);
        let (seen, seq) = (AtomicU64::new(0), AtomicU64::new(1));
        let shaper = Shaper::new(name, Arc::clone(devices.hooks()));
        Ok(Self { name: name.to_owned(), links, seen, seq, versions, old_resets, shaper })
    }

    pub fn counters(&self) -> Result<Counters, Error> {
        Ok(counters_of(&self.state()?.stats))
    }

    pub fn state(&self) -> Result<LinkState, Error> {
        Ok(self.links.state(&self.name)?)
    }

    pub fn index(&self) -> Result<u32, Error> {
        Ok(self.links.index(&self.name)?)
    }

    /// What shapes its traffic.
    pub fn shaper(&self) -> &Shaper {
        &self.shaper
    }

    pub fn set_mac(&self, mac: EthAddr) -> Result<(), Error> {
        if self.state()?.mac != mac {
            self.links.set_mac(&self.name, mac)?;
        }
        Ok(())
    }

    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        Ok(self.links.set_mtu(&self.name, u32::from(mtu))?)
    }

    pub fn flags(&self) -> Result<Flags, Error> {
        let raw = match self.state() {
            Ok(state) => state.flags,
            // One that vanished is down.
            Err(error) if error.errno() == Errno::ENODEV => 0,
            Err(error) => return Err(error),
        };
        let mut flags = Flags::empty();
        flags.set(Flags::UP, raw & flag::UP != 0);
        flags.set(Flags::PROMISC, raw & flag::PROMISC != 0);
        flags.set(Flags::LOOPBACK, raw & flag::LOOPBACK != 0);
        Ok(flags)
    }

    pub fn carrier(&self) -> bool {
        self.state().is_ok_and(|state| state.carrier && state.flags & flag::UP != 0)
    }

    /// How often the carrier came or went since the device was opened; where nobody listens, since it was made.
    pub fn carrier_resets(&self) -> u64 {
        match &self.versions {
            Some(versions) => versions.get(&self.name).resets.saturating_sub(self.old_resets),
            None => self.state().map_or(0, |state| state.carrier_changes),
        }
    }

    pub fn update_flags(&self, off: Flags, on: Flags) -> Result<(), Error> {
        Ok(self.links.update_flags(&self.name, raw_flags(off), raw_flags(on))?)
    }

    pub fn addresses(&self) -> Vec<Address> {
        let found = self.index().and_then(|index| Ok(self.links.addresses(index)?)).unwrap_or_default();
        found.into_iter().map(|(ip, prefix)| Address { ip, prefix }).collect()
    }

    pub fn link(&self) -> Result<Link, Error> {
        Ok(link_of(&self.links.settings(&self.name)?))
    }

    pub fn status(&self) -> Result<BTreeMap<String, String>, Error> {
        let driver = self.links.driver(&self.name)?;
        let rows = [
            ("driver_name", driver.name),
            ("driver_version", driver.version),
            ("firmware_version", driver.firmware),
        ];
        Ok(rows.map(|(key, value)| (key.to_owned(), value)).into())
    }

    /// A number that changes when flags, address, MTU or carrier do.
    pub fn change_seq(&self) -> u64 {
        if let Some(versions) = &self.versions {
            return versions.get(&self.name).version + 1;
        }
        let fingerprint = self.state().map_or(1, |state| {
            let text = format!("{} {} {:?} {}", state.flags, state.mtu, state.mac, state.carrier_changes);
            let id = crate::ufid_of(text.as_bytes()).0;
            u64::from_be_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]])
        });
        if self.seen.swap(fingerprint, Ordering::Relaxed) != fingerprint {
            self.seq.fetch_add(1, Ordering::Relaxed);
        }
        self.seq.load(Ordering::Relaxed)
    }
}

fn raw_flags(flags: Flags) -> u32 {
    let mut raw = 0;
    for (mine, kernel) in [(Flags::UP, flag::UP), (Flags::PROMISC, flag::PROMISC)] {
        if flags.contains(mine) {
            raw |= kernel;
        }
    }
    raw
}

/// The counters of a device, from its own point of view.
pub(super) fn counters_of(stats: &LinkStats) -> Counters {
    Counters {
        rx_packets: Some(stats.rx_packets),
        tx_packets: Some(stats.tx_packets),
        rx_bytes: Some(stats.rx_bytes),
        tx_bytes: Some(stats.tx_bytes),
        rx_dropped: Some(stats.rx_dropped),
        tx_dropped: Some(stats.tx_dropped),
        rx_errors: Some(stats.rx_errors),
        tx_errors: Some(stats.tx_errors),
        rx_frame_errors: Some(stats.rx_frame_errors),
        rx_over_errors: Some(stats.rx_over_errors),
        rx_crc_errors: Some(stats.rx_crc_errors),
        rx_missed_errors: Some(stats.rx_missed_errors),
        tx_aborted_errors: Some(stats.tx_aborted_errors),
        tx_carrier_errors: Some(stats.tx_carrier_errors),
        collisions: Some(stats.collisions),
        rx_multicast: Some(stats.multicast),
        ..Counters::default()
    }
}

/// Bits of `SUPPORTED_*` and what they mean.
const MODES: [(u32, LinkModes); 10] = [
    (1 << 0, LinkModes::MB10_HD),
    (1 << 1, LinkModes::MB10_FD),
    (1 << 2, LinkModes::MB100_HD),
    (1 << 3, LinkModes::MB100_FD),
    (1 << 4, LinkModes::GB1_HD),
    (1 << 5, LinkModes::GB1_FD),
    (1 << 12, LinkModes::GB10_FD),
    (1 << 7, LinkModes::COPPER),
    (1 << 10, LinkModes::FIBER),
    (1 << 6, LinkModes::AUTONEG),
];

fn modes(raw: u32) -> LinkModes {
    MODES.iter().filter(|(bit, _)| raw & bit != 0).fold(LinkModes::empty(), |all, (_, mode)| all | *mode)
}

fn link_of(settings: &Settings) -> Link {
    let full = settings.full_duplex == Some(true);
    let mut current = match (settings.speed, full) {
        (Some(10), true) => LinkModes::MB10_FD,
        (Some(10), false) => LinkModes::MB10_HD,
        (Some(100), true) => LinkModes::MB100_FD,
        (Some(100), false) => LinkModes::MB100_HD,
        (Some(1000), true) => LinkModes::GB1_FD,
        (Some(1000), false) => LinkModes::GB1_HD,
        (Some(10_000), _) => LinkModes::GB10_FD,
        (Some(40_000), _) => LinkModes::GB40_FD,
        (Some(100_000), _) => LinkModes::GB100_FD,
        (Some(1_000_000), _) => LinkModes::TB1_FD,
        (Some(_), _) => LinkModes::OTHER,
        (None, _) => LinkModes::empty(),
    };
    match settings.fiber {
        Some(true) => current |= LinkModes::FIBER,
        Some(false) => current |= LinkModes::COPPER,
        None => {}
    }
    current.set(LinkModes::AUTONEG, settings.autoneg);
    let supported = modes(settings.supported);
    let max_speed = [
        (LinkModes::GB10_FD, 10_000),
        (LinkModes::GB1_FD | LinkModes::GB1_HD, 1000),
        (LinkModes::MB100_FD | LinkModes::MB100_HD, 100),
        (LinkModes::MB10_FD | LinkModes::MB10_HD, 10),
    ]
    .into_iter()
    .find(|(modes, _)| supported.intersects(*modes))
    .map_or(0, |(_, speed)| speed);
    Link {
        current,
        advertised: modes(settings.advertised),
        supported,
        peer: modes(settings.peer),
        speed: settings.speed.unwrap_or(0),
        max_speed,
        full_duplex: settings.full_duplex.filter(|_| settings.speed.is_some()),
    }
}

/// An interface of the kernel's that ports may be made of.
pub struct System {
    interface: Interface,
    kind: &'static str,
}

impl System {
    /// Opens a `system` interface: one that others made, and that exists.
    pub fn open(devices: &Netdevs, name: &str, kind: &'static str) -> Result<Arc<dyn Netdev>, Error> {
        Ok(Arc::new(Self { interface: Interface::open(devices, name)?, kind }))
    }

    /// Opens the device of an `internal` port of the kernel's datapath, whether it is there yet or not: the kernel makes it
    /// with the port and takes it away with it, so before and after there is none, and settings wait.
    pub fn internal(devices: &Netdevs, name: &str, kind: &'static str) -> Result<Arc<dyn Netdev>, Error> {
        Ok(Arc::new(Self { interface: Interface::new(devices, name)?, kind }))
    }

    /// Whether the engine can send and receive by it.
    fn is_ours(&self) -> bool {
        self.kind == "system"
    }
}

impl Netdev for System {
    fn name(&self) -> &str {
        &self.interface.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn is_pmd(&self) -> bool {
        self.is_ours()
    }

    fn mac(&self) -> Result<EthAddr, Error> {
        Ok(self.interface.state()?.mac)
    }

    fn set_mac(&self, mac: EthAddr) -> Result<(), Error> {
        self.interface.set_mac(mac)
    }

    fn mtu(&self) -> Result<u16, Error> {
        u16::try_from(self.interface.state()?.mtu).or(Ok(u16::MAX))
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.interface.set_mtu(mtu)
    }

    fn ifindex(&self) -> Option<u32> {
        self.interface.index().ok()
    }

    fn carrier(&self) -> bool {
        self.interface.carrier()
    }

    fn carrier_resets(&self) -> u64 {
        self.interface.carrier_resets()
    }

    fn flags(&self) -> Result<Flags, Error> {
        self.interface.flags()
    }

    fn update_flags(&self, off: Flags, on: Flags) -> Result<(), Error> {
        self.interface.update_flags(off, on)
    }

    fn link(&self) -> Result<Link, Error> {
        self.interface.link()
    }

    fn counters(&self) -> Result<Counters, Error> {
        self.interface.counters()
    }

    fn status(&self) -> Result<BTreeMap<String, String>, Error> {
        self.interface.status()
    }

    fn tx_offloads(&self) -> Option<TxOffloads> {
        self.is_ours().then_some(TxOffloads { tcp_csum: true, udp_csum: true, tcp_seg: true })
    }

    fn addresses(&self) -> Vec<Address> {
        self.interface.addresses()
    }

    fn shaper(&self) -> Option<&Shaper> {
        Some(self.interface.shaper())
    }

    fn io(&self) -> Result<Arc<dyn Io>, Error> {
        if !self.is_ours() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let state = self.interface.state()?;
        if state.flags & flag::LOOPBACK != 0 {
            return Err(Errno::EINVAL.into());
        }
        Ok(Arc::new(AfPacket::open(state.index)?))
    }

    fn change_seq(&self) -> u64 {
        self.interface.change_seq()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_modes() {
        let settings = Settings {
            supported: 1 << 5 | 1 << 3 | 1 << 7,
            speed: Some(1000),
            full_duplex: Some(true),
            fiber: Some(false),
            ..Settings::default()
        };
        let link = link_of(&settings);
        assert_eq!(link.current, LinkModes::GB1_FD | LinkModes::COPPER);
        assert_eq!((link.speed, link.max_speed, link.full_duplex), (1000, 1000, Some(true)));
    }

    #[test]
    fn a_missing_interface_is_no_device() {
        assert_eq!(Interface::open(&Netdevs::default(), "nosuchdev0").err(), Some(Error::Os(Errno::ENODEV)));
    }
}
