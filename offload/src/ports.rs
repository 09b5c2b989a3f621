//! The ports of a datapath as devices that have rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use flow::id::{DpMeter, DpPort};

use crate::rule::{Device, Surroundings};
use crate::tc::{Hook, On};

/// A port that has rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub name: String,
    pub device: Device,
    /// The switch that the device is a port of, as hardware says (`phys_switch_id`); empty for a device of its own.
    pub switch: Vec<u8>,
}

/// What rules share the room of: those of the ports of a switch, or of one device.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Room {
    Switch(Vec<u8>),
    Own(On),
}

#[derive(Default)]
struct Inner {
    by_number: BTreeMap<DpPort, Port>,
    by_ifindex: BTreeMap<u32, DpPort>,
    meters: BTreeSet<DpMeter>,
}

/// The ports that have rules, and the meters that have limits. Two ports never have one interface.
#[derive(Default)]
pub struct Ports(RwLock<Inner>);

/// Where the indices of meters' limits begin, and how many there can be: OVS's range.
const LIMITS: u32 = 0x1000_0000;

/// The index of the limit that a meter is.
pub fn limit_of(meter: DpMeter) -> Option<u32> {
    (meter.0 < LIMITS).then_some(LIMITS | meter.0)
}

impl Ports {
    /// Locks; nothing panics while the lock is held.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn insert(&self, number: DpPort, port: Port) {
        let mut inner = self.write();
        inner.by_ifindex.insert(port.device.ifindex, number);
        inner.by_number.insert(number, port);
    }

    pub fn remove(&self, number: DpPort) -> Option<Port> {
        let mut inner = self.write();
        let port = inner.by_number.remove(&number)?;
        inner.by_ifindex.remove(&port.device.ifindex);
        Some(port)
    }

    pub fn get(&self, number: DpPort) -> Option<Port> {
        self.read().by_number.get(&number).cloned()
    }

    /// A meter has a limit now, or has none.
    pub fn set_limited(&self, meter: DpMeter, limited: bool) {
        let mut inner = self.write();
        if limited {
            inner.meters.insert(meter);
        } else {
            inner.meters.remove(&meter);
        }
    }

    /// The room that rules there have.
    pub fn room(&self, on: On) -> Room {
        let inner = self.read();
        let port = match on {
            On::Device(ifindex) => {
                inner.by_ifindex.get(&ifindex).and_then(|number| inner.by_number.get(number))
            }
            On::Block(block) => inner.by_number.values().find(|port| port.device.block == Some(block)),
        };
        match port {
            Some(port) if !port.switch.is_empty() => Room::Switch(port.switch.clone()),
            _ => Room::Own(on),
        }
    }

    /// All of them, by number.
    pub fn all(&self) -> Vec<(DpPort, Port)> {
        self.read().by_number.iter().map(|(number, port)| (*number, port.clone())).collect()
    }

    /// The port that rules of a device are of. Blocks are shared: their rules are of the port that asks first.
    pub fn of(&self, on: On, hook: Hook) -> Option<DpPort> {
        let inner = self.read();
        match on {
            On::Device(ifindex) => inner.by_ifindex.get(&ifindex).copied(),
            On::Block(block) => {
                let mut ports = inner.by_number.iter();
                ports
                    .find(|(_, port)| port.device.block == Some(block) && port.device.hook == hook)
                    .map(|(number, _)| *number)
            }
        }
    }
}

impl Surroundings for Ports {
    fn device(&self, port: DpPort) -> Option<Device> {
        self.read().by_number.get(&port).map(|port| port.device)
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        self.read().by_ifindex.get(&ifindex).copied()
    }

    fn police(&self, meter: DpMeter) -> Option<u32> {
        self.read().meters.contains(&meter).then(|| limit_of(meter)).flatten()
    }

    fn meter(&self, index: u32) -> Option<DpMeter> {
        let meter = DpMeter(index.checked_sub(LIMITS)?);
        self.read().meters.contains(&meter).then_some(meter)
    }
}
