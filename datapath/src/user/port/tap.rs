//! Tap interfaces, and the internal ports of bridges, which in userspace are taps.
//!
//! What the kernel counts as received on a tap is what we sent, and the other way round.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use flow::key::EthAddr;
use sys::errno::Errno;
use sys::tap::Tap;

use super::kernel::{Interface, counters_of};
use super::{Io, Rx, TxFrame};
use crate::Error;
use crate::linux::tc::Shaper;
use crate::netdev::{Address, Counters, Flags, Link, Netdev, Netdevs};

/// Longest frame read at once beyond a small buffer.
const OVERFLOW: usize = 66 << 10;

/// A tap interface that we made; it goes with this value.
pub struct TapDevice {
    kernel: Interface,
    kind: &'static str,
    io: Arc<TapIo>,
}

/// The packet side of a tap.
pub struct TapIo {
    tap: Tap,
    overflow: Mutex<Vec<u8>>,
}

impl TapDevice {
    /// Makes the interface. `kind` is `tap` or `internal`.
    pub fn open(devices: &Netdevs, name: &str, kind: &'static str) -> Result<Arc<dyn Netdev>, Error> {
        let tap = Tap::open(name)?;
        let io = Arc::new(TapIo { tap, overflow: Mutex::new(vec![0; OVERFLOW]) });
        Ok(Arc::new(Self { kernel: Interface::open(devices, name)?, kind, io }))
    }
}

impl Netdev for TapDevice {
    fn name(&self) -> &str {
        &self.kernel.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn is_pmd(&self) -> bool {
        true
    }

    fn mac(&self) -> Result<EthAddr, Error> {
        Ok(self.kernel.state()?.mac)
    }

    fn set_mac(&self, mac: EthAddr) -> Result<(), Error> {
        self.kernel.set_mac(mac)
    }

    fn mtu(&self) -> Result<u16, Error> {
        u16::try_from(self.kernel.state()?.mtu).or(Ok(u16::MAX))
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.kernel.set_mtu(mtu)
    }

    fn ifindex(&self) -> Option<u32> {
        self.kernel.index().ok()
    }

    fn carrier(&self) -> bool {
        self.kernel.carrier()
    }

    fn carrier_resets(&self) -> u64 {
        self.kernel.carrier_resets()
    }

    fn flags(&self) -> Result<Flags, Error> {
        self.kernel.flags()
    }

    fn update_flags(&self, off: Flags, on: Flags) -> Result<(), Error> {
        self.kernel.update_flags(off, on)
    }

    fn link(&self) -> Result<Link, Error> {
        self.kernel.link()
    }

    fn counters(&self) -> Result<Counters, Error> {
        let seen = counters_of(&self.kernel.state()?.stats);
        Ok(Counters {
            rx_packets: seen.tx_packets,
            tx_packets: seen.rx_packets,
            rx_bytes: seen.tx_bytes,
            tx_bytes: seen.rx_bytes,
            rx_dropped: seen.tx_dropped,
            tx_dropped: seen.rx_dropped,
            rx_errors: seen.tx_errors,
            tx_errors: seen.rx_errors,
            ..seen
        })
    }

    fn status(&self) -> Result<BTreeMap<String, String>, Error> {
        self.kernel.status()
    }

    fn addresses(&self) -> Vec<Address> {
        self.kernel.addresses()
    }

    fn shaper(&self) -> Option<&Shaper> {
        Some(self.kernel.shaper())
    }

    fn io(&self) -> Result<Arc<dyn Io>, Error> {
        Ok(Arc::clone(&self.io) as Arc<dyn Io>)
    }

    fn change_seq(&self) -> u64 {
        self.kernel.change_seq()
    }
}

impl Io for TapIo {
    fn is_pmd(&self) -> bool {
        true
    }

    fn offloads(&self) -> bool {
        true
    }

    fn readable(&self, _queue: usize) -> Option<RawFd> {
        Some(self.tap.as_raw_fd())
    }

    fn receive(&self, _queue: usize, max: usize, rx: &mut Rx<'_>) -> usize {
        let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        for n in 0..max {
            if rx.push_from(&mut overflow, |first, rest| self.tap.receive(first, rest)).is_err() {
                return n;
            }
        }
        max
    }

    fn send(&self, _queue: usize, frames: &[TxFrame<'_>]) -> usize {
        let failed = |frame: &&TxFrame<'_>| {
            let sent = self.tap.send(&frame.offload.to_vnet(frame.header_len), frame.bytes);
            // A tap that is down takes no frames (`EIO`); they are dropped, as on a cable that is not plugged in.
            matches!(sent, Err(Errno(_)))
        };
        frames.iter().filter(failed).count()
    }
}
