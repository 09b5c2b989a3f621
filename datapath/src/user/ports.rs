//! The ports of a userspace datapath, as workers read them: an immutable table, replaced as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flow::id::DpPort;

use super::port::Io;
use crate::netdev::{Flags, Netdev};
use crate::{Error, PortInfo};

/// Ports of one datapath; a number beyond is refused.
pub const MAX_PORTS: u32 = 65_535;

/// A port.
pub struct Port {
    pub number: DpPort,
    pub device: Arc<dyn Netdev>,
    pub io: Arc<dyn Io>,
    /// The flags that the device had before it became a port.
    pub old_flags: Flags,
    /// The number that the kernel had for the device when it became a port.
    pub ifindex: Option<u32>,
    /// Another port has the place of this one: the device keeps its flags.
    pub replaced: AtomicBool,
    /// Transmit queues are chosen by the packets' hash, not by worker.
    pub steer_by_hash: AtomicBool,
}

impl Port {
    /// A port whose device is ready.
    pub fn new(number: DpPort, device: &Arc<dyn Netdev>, io: Arc<dyn Io>, old_flags: Flags) -> Self {
        Self {
            number,
            ifindex: device.ifindex(),
            device: Arc::clone(device),
            io,
            old_flags,
            replaced: AtomicBool::new(false),
            steer_by_hash: AtomicBool::new(false),
        }
    }

    /// This port, with the packet side of the device that the kernel has under its name by now.
    ///
    /// # Errors
    /// If that cannot be opened.
    pub fn reopened(&self) -> Result<Self, Error> {
        let io = self.device.io()?;
        let old_flags = self.device.flags()?;
        self.replaced.store(true, Ordering::Relaxed);
        self.device.update_flags(Flags::empty(), Flags::PROMISC)?;
        let new = Self::new(self.number, &self.device, io, old_flags);
        new.steer_by_hash.store(self.steer_by_hash.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(new)
    }

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
        if !self.old_flags.contains(Flags::PROMISC) && !self.replaced.load(Ordering::Relaxed) {
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
