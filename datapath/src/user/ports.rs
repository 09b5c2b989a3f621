//! The ports of a userspace datapath, as workers read them: an immutable table, replaced as a whole.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flow::id::DpPort;

use super::port::Io;
use crate::PortInfo;
use crate::netdev::{Flags, Netdev};

/// Ports of one datapath; a number beyond is refused.
pub const MAX_PORTS: u32 = 65_535;

/// A port.
pub struct Port {
    pub number: DpPort,
    pub device: Arc<dyn Netdev>,
    pub io: Arc<dyn Io>,
    /// The flags that the device had before it became a port.
    pub old_flags: Flags,
    /// Transmit queues are chosen by the packets' hash, not by worker.
    pub steer_by_hash: AtomicBool,
}

impl Port {
    /// Name, type and number.
    pub fn info(&self) -> PortInfo {
        PortInfo {
            number: self.number,
            name: self.device.name().to_owned(),
            kind: self.device.kind().to_owned(),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if !self.old_flags.contains(Flags::PROMISC) {
            // A device that is gone needs nothing restored.
            let _ = self.device.update_flags(Flags::PROMISC, Flags::empty());
        }
    }
}

/// All ports by number.
#[derive(Clone, Default)]
pub struct PortMap(Vec<Option<Arc<Port>>>);

impl PortMap {
    /// The port of a number.
    #[inline]
    pub fn get(&self, number: DpPort) -> Option<&Arc<Port>> {
        self.0.get(number.0 as usize)?.as_ref()
    }

    /// The port of a device.
    pub fn find(&self, name: &str) -> Option<&Arc<Port>> {
        self.iter().find(|port| port.device.name() == name)
    }

    /// All ports, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.0.iter().flatten()
    }

    /// The table with one port more.
    pub fn with(&self, port: Arc<Port>) -> Self {
        let mut ports = self.0.clone();
        let at = port.number.0 as usize;
        ports.resize(ports.len().max(at + 1), None);
        ports[at] = Some(port);
        Self(ports)
    }

    /// The table without a port.
    pub fn without(&self, number: DpPort) -> Self {
        let mut ports = self.0.clone();
        if let Some(place) = ports.get_mut(number.0 as usize) {
            *place = None;
        }
        Self(ports)
    }
}
