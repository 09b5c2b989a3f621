//! Patch ports: translation carries packets from one end to the other; here they are only counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flow::key::EthAddr;
use sys::errno::Errno;

use super::Counts;
use crate::Error;
use crate::netdev::{Counters, Flags, Netdev, Netdevs};

/// One end of a patch.
pub struct Patch {
    name: String,
    mac: Mutex<EthAddr>,
    peer: Mutex<Option<String>>,
    seq: AtomicU64,
    received: Counts,
    sent: Counts,
}

impl Patch {
    /// Makes one end; its peer comes with the configuration.
    pub fn open(_devices: &Netdevs, name: &str, _kind: &'static str) -> Result<Arc<dyn Netdev>, Error> {
        Ok(Arc::new(Self {
            name: name.to_owned(),
            mac: Mutex::new(local_mac(name)),
            peer: Mutex::new(None),
            seq: AtomicU64::new(1),
            received: Counts::default(),
            sent: Counts::default(),
        }))
    }
}

impl Patch {
    fn refusal(&self, why: &str) -> Error {
        let text = format!("{}: {why}", self.name);
        tracing::error!(target: "netdev_vport", "{text}");
        Error::Config { text, errno: Errno::EINVAL }
    }
}

/// A locally administered address of the name's own.
pub(crate) fn local_mac(name: &str) -> EthAddr {
    let [a, b, c, d, e, f, ..] = crate::ufid_of(name.as_bytes()).0;
    [a & 0xfc | 0x02, b, c, d, e, f]
}

impl Netdev for Patch {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "patch"
    }

    fn config(&self) -> BTreeMap<String, String> {
        let peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        peer.iter().map(|peer| ("peer".to_owned(), peer.clone())).collect()
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), Error> {
        let Some(peer) = options.get("peer") else {
            return Err(self.refusal("patch type requires valid 'peer' argument"));
        };
        if options.len() > 1 {
            return Err(self.refusal("patch type takes only a 'peer' argument"));
        }
        if *peer == self.name {
            return Err(self.refusal("patch peer must not be self"));
        }
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer.clone());
        self.seq.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn mac(&self) -> Result<EthAddr, Error> {
        Ok(*self.mac.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_mac(&self, mac: EthAddr) -> Result<(), Error> {
        *self.mac.lock().unwrap_or_else(PoisonError::into_inner) = mac;
        self.seq.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn mtu(&self) -> Result<u16, Error> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn set_mtu(&self, _mtu: u16) -> Result<(), Error> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn flags(&self) -> Result<Flags, Error> {
        Ok(Flags::UP | Flags::PROMISC)
    }

    fn update_flags(&self, off: Flags, _on: Flags) -> Result<(), Error> {
        if off.intersects(Flags::UP | Flags::PROMISC) { Err(Errno::EOPNOTSUPP.into()) } else { Ok(()) }
    }

    fn counters(&self) -> Result<Counters, Error> {
        let ((rx_packets, rx_bytes), (tx_packets, tx_bytes)) = (self.received.read(), self.sent.read());
        Ok(Counters {
            rx_packets: Some(rx_packets),
            rx_bytes: Some(rx_bytes),
            tx_packets: Some(tx_packets),
            tx_bytes: Some(tx_bytes),
            ..Counters::default()
        })
    }

    fn credit_rx(&self, packets: u64, bytes: u64) {
        self.received.packets.fetch_add(packets, Ordering::Relaxed);
        self.received.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn credit_tx(&self, packets: u64, bytes: u64) {
        self.sent.packets.fetch_add(packets, Ordering::Relaxed);
        self.sent.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }
}
