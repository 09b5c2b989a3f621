//! `offload/ct-*`, `offload/gc-step`: connections in hardware, of the userspace datapath and of the kernel's tracker.

use std::collections::BTreeMap;
use std::fmt;

use ::offload::ct::show::{KernelStats, Show, ShownConnection, Stats};
use ::offload::ct::table::Step;
use datapath::Datapath;
use serde::Serialize;

use crate::world::World;

/// Things by the name of their datapath.
#[derive(Serialize)]
#[serde(transparent)]
pub struct ByDatapath<T>(BTreeMap<String, T>);

impl<T: fmt::Display> fmt::Display for ByDatapath<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, of)| write!(f, "{name}:\n{of}"))
    }
}

fn name_of(datapath: &dyn Datapath) -> String {
    format!("{}@{}", datapath.kind(), datapath.name())
}

/// What commands are about: `zone=N`, `--why`.
#[derive(Default)]
pub struct Wanted {
    zone: Option<u16>,
    why: bool,
}

impl Wanted {
    /// # Errors
    /// The argument that is none.
    pub fn parse<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut wanted = Self::default();
        for arg in args {
            match arg.split_once('=') {
                Some(("zone", zone)) => {
                    wanted.zone = Some(zone.parse().map_err(|_| format!("{zone}: invalid zone"))?);
                }
                None if arg == "--why" => wanted.why = true,
                _ => return Err(format!("{arg}: unknown argument")),
            }
        }
        Ok(wanted)
    }
}

/// The kernel's connections that are in flow tables, or hardware.
fn kernel(world: &World, mut each: impl FnMut(&datapath::conntrack::Entry)) -> Option<(String, KernelStats)> {
    let datapath = world.offloaded().filter(|over| over.is_on())?;
    let mut stats = KernelStats::default();
    for entry in datapath.conntrack()?.dump(None).ok()?.filter_map(Result::ok) {
        stats.count(&entry);
        each(&entry);
    }
    Some((name_of(&**datapath), stats))
}

/// `offload/ct-show`.
pub fn show(world: &World, wanted: &Wanted) -> ByDatapath<Show> {
    let mut all = BTreeMap::new();
    for (name, service) in world.tracked() {
        all.insert(name, service.show(wanted.zone, wanted.why));
    }
    let mut connections = Vec::new();
    let found = kernel(world, |entry| {
        let ours = wanted.zone.is_none_or(|zone| zone == entry.zone.0);
        connections.extend(ours.then(|| ShownConnection::of_kernel(entry)).flatten());
    });
    if let Some((name, _)) = found {
        all.insert(name, Show { connections, with_why: wanted.why });
    }
    ByDatapath(all)
}

/// Figures of one datapath.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Figures {
    Userspace(Box<Stats>),
    Kernel(KernelStats),
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Userspace(stats) => stats.fmt(f),
            Self::Kernel(stats) => stats.fmt(f),
        }
    }
}

/// `offload/ct-stats`.
pub fn stats(world: &World) -> ByDatapath<Figures> {
    let userspace =
        world.tracked().map(|(name, service)| (name, Figures::Userspace(Box::new(service.stats()))));
    let kernel = kernel(world, |_| {}).map(|(name, stats)| (name, Figures::Kernel(stats)));
    ByDatapath(userspace.chain(kernel).collect())
}

/// How many connections a command was about.
#[derive(Serialize)]
pub struct Flushed {
    connections: usize,
}

impl fmt::Display for Flushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} connections leave hardware", self.connections)
    }
}

/// `offload/ct-flush`.
pub fn flush(world: &World, wanted: &Wanted) -> Flushed {
    Flushed { connections: world.tracked().map(|(_, service)| service.flush(wanted.zone)).sum() }
}

/// A step of a collector.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Stepped(Step);

impl fmt::Display for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", self.0)
    }
}

/// `offload/gc-step`.
pub fn step(world: &World) -> ByDatapath<Stepped> {
    ByDatapath(world.tracked().map(|(name, service)| (name, Stepped(service.step()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let wanted = Wanted::parse(["zone=5", "--why"]).unwrap();
        assert!(wanted.zone == Some(5) && wanted.why);
        let refused = |arg| Wanted::parse([arg]).err().unwrap();
        assert_eq!(refused("zone=x"), "x: invalid zone");
        assert_eq!(refused("why"), "why: unknown argument");
    }
}
