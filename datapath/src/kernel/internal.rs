//! Devices of internal ports: the kernel makes them with the port and takes them away with it, so before and after there is
//! none, and settings wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow::key::EthAddr;

use crate::Error;
use crate::linux::tc::Shaper;
use crate::netdev::{Address, Counters, Flags, Link, Netdev, Netdevs};
use crate::user::port::kernel::Interface;

/// The device of an internal port.
pub struct Internal(Interface);

impl Internal {
    /// Opens it, whether it is there yet or not.
    pub fn open(devices: &Netdevs, name: &str, _kind: &'static str) -> Result<Arc<dyn Netdev>, Error> {
        Ok(Arc::new(Self(Interface::new(devices, name)?)))
    }
}

impl Netdev for Internal {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        "internal"
    }

    fn mac(&self) -> Result<EthAddr, Error> {
        Ok(self.0.state()?.mac)
    }

    fn set_mac(&self, mac: EthAddr) -> Result<(), Error> {
        self.0.set_mac(mac)
    }

    fn mtu(&self) -> Result<u16, Error> {
        u16::try_from(self.0.state()?.mtu).or(Ok(u16::MAX))
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.0.set_mtu(mtu)
    }

    fn ifindex(&self) -> Option<u32> {
        self.0.index().ok()
    }

    fn carrier(&self) -> bool {
        self.0.carrier()
    }

    fn carrier_resets(&self) -> u64 {
        self.0.carrier_resets()
    }

    fn flags(&self) -> Result<Flags, Error> {
        self.0.flags()
    }

    fn update_flags(&self, off: Flags, on: Flags) -> Result<(), Error> {
        self.0.update_flags(off, on)
    }

    fn link(&self) -> Result<Link, Error> {
        self.0.link()
    }

    fn counters(&self) -> Result<Counters, Error> {
        self.0.counters()
    }

    fn status(&self) -> Result<BTreeMap<String, String>, Error> {
        self.0.status()
    }

    fn addresses(&self) -> Vec<Address> {
        self.0.addresses()
    }

    fn shaper(&self) -> Option<&Shaper> {
        Some(self.0.shaper())
    }

    fn change_seq(&self) -> u64 {
        self.0.change_seq()
    }
}
