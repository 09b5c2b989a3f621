//! What commands tell of hardware offload.
//!
//! * [`explain`]: what would become of a flow.

pub mod explain;

pub mod ct;

use std::collections::BTreeMap;
use std::fmt;

use ::offload::provider::{self, Member, TC};
use ::offload::room;
use datapath::Datapath;
use flow::id::DpPort;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;
use sys::link::Links;

use crate::world::World;

/// `dpif/offload/classes`.
pub fn classes() -> String {
    let mut text =
        "Offload Class     Supported dpif class(es)\n----------------  ------------------------\n".to_owned();
    for class in provider::CLASSES {
        text += &format!("{:<16}  {}\n", class.name, class.kinds.join(&format!("\n{:18}", "")));
    }
    text
}

/// A port of a provider.
#[derive(serde::Serialize)]
struct Port {
    #[serde(skip)]
    name: String,
    #[serde(rename = "port_no")]
    number: u32,
    /// If rules are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
}

/// The port that a datapath itself is. It has no rules, but is there for them.
fn own_port(datapath: &dyn Datapath) -> Option<Port> {
    let ifindex = Links::new().ok()?.index(datapath.name()).ok()?;
    Some(Port { name: datapath.name().to_owned(), number: DpPort::LOCAL.0, ifindex: Some(ifindex) })
}

/// A datapath with its providers and their ports, in the order in which they are asked.
struct Shown {
    name: String,
    providers: Vec<(&'static str, Vec<Port>)>,
}

/// `dpif/offload/show`.
pub struct Show {
    enabled: bool,
    datapaths: Vec<Shown>,
}

impl Show {
    pub fn of(world: &World) -> Self {
        let datapaths = world.backers.0.values().map(|backer| {
            let datapath = &*backer.datapath;
            let providers = world.offload_providers(datapath.kind()).map(|over| over.providers());
            let shown = |(provider, ports): (_, Vec<Member>)| {
                let ports = ports.into_iter().map(|Member { number, name, ifindex }| Port {
                    name,
                    number: number.0,
                    ifindex,
                });
                let own = Some(provider).filter(|provider| *provider == TC).and_then(|_| own_port(datapath));
                let mut ports: Vec<_> = ports.chain(own).collect();
                ports.sort_by(|a, b| a.name.cmp(&b.name));
                (provider, ports)
            };
            let name = format!("{}@{}", datapath.kind(), datapath.name());
            Shown { name, providers: providers.into_iter().flatten().map(shown).collect() }
        });
        Self { enabled: world.offloads(), datapaths: datapaths.collect() }
    }
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Globally enabled: {}\nDatapaths:", self.enabled)?;
        for datapath in &self.datapaths {
            writeln!(f, "{}:", datapath.name)?;
            for (provider, ports) in &datapath.providers {
                writeln!(f, "  {provider}")?;
                for Port { name, number, ifindex } in ports {
                    write!(f, "  - {name}: port_no: {number}")?;
                    ifindex.iter().try_for_each(|ifindex| write!(f, ", ifindex: {ifindex}"))?;
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }
}

impl Serialize for Show {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut all = to.serialize_map(None)?;
        all.serialize_entry("enabled", &self.enabled)?;
        for datapath in &self.datapaths {
            let order: Vec<_> = datapath.providers.iter().map(|(name, _)| name).collect();
            let providers: BTreeMap<_, _> = datapath
                .providers
                .iter()
                .map(|(name, ports)| {
                    let ports: BTreeMap<_, _> = ports.iter().map(|port| (&port.name, port)).collect();
                    // A provider without ports says nothing of them.
                    (name, if ports.is_empty() { json!({}) } else { json!({"ports": ports}) })
                })
                .collect();
            let shown = json!({"priority": order, "providers": providers});
            all.serialize_entry(&datapath.name, &shown)?;
        }
        all.end()
    }
}

/// `offload/reasons`: how many flows have rules, and why the others have none.
#[derive(serde::Serialize)]
pub struct Reasons {
    rules: usize,
    software: BTreeMap<String, usize>,
}

impl Reasons {
    pub fn of(world: &World) -> Self {
        let (rules, software) = world.offloaded().map(|over| over.tally()).unwrap_or_default();
        Self { rules, software }
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rules: {}", self.rules)?;
        writeln!(f, "software: {}", self.software.values().sum::<usize>())?;
        self.software.iter().try_for_each(|(why, count)| writeln!(f, "  {count:>7} {why}"))
    }
}

/// `offload/limits`: the numbers by which flows go to hardware, and flows that gave way to busier ones.
#[derive(serde::Serialize)]
pub struct Limits {
    limits: BTreeMap<&'static str, u64>,
    displaced: u64,
}

impl Limits {
    pub fn of(world: &World) -> Self {
        let limits = room::LIMITS.iter().map(|limit| (limit.name, limit.value)).collect();
        Self { limits, displaced: world.offloaded().map_or(0, |over| over.displaced()) }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for limit in room::LIMITS {
            let value = format!("{} {}", limit.value, limit.unit);
            writeln!(f, "{}: {} {}", limit.name, value.trim_end(), limit.what)?;
        }
        writeln!(f, "displaced so far: {}", self.displaced)
    }
}

/// `offload/samples`: what became of packets that hardware sampled.
#[derive(serde::Serialize)]
#[serde(transparent)]
pub struct Samples(::offload::sample::Tally);

impl Samples {
    pub fn of(world: &World) -> Self {
        Self(world.offloaded().map(|over| over.sampled()).unwrap_or_default())
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ::offload::sample::Tally { groups, packets, unknown, lost } = self.0;
        writeln!(f, "groups: {groups}\npackets: {packets}\nunknown: {unknown}\nlost: {lost}")
    }
}

/// `offload/capabilities`: what the hardware behind each port can do, by keys and actions, and what it lacks.
#[derive(serde::Serialize)]
#[serde(transparent)]
pub struct Capabilities(Vec<::offload::capability::Capabilities>);

impl Capabilities {
    pub fn of(world: &World) -> Self {
        Self(world.offloaded().map(|over| over.capabilities()).unwrap_or_default())
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|one| one.fmt(f))
    }
}
