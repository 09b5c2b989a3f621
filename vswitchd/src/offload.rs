//! What commands tell of hardware offload.
//!
//! * [`explain`]: what would become of a flow.

pub mod explain;

pub mod ct;

use std::collections::BTreeMap;
use std::fmt;

use ::offload::{Offloaded, TC};
use datapath::Datapath;
use flow::id::DpPort;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;
use sys::link::Links;

use crate::world::World;

/// Providers of offload, and the types of datapath that each is for.
const CLASSES: [(&str, &[&str]); 1] = [(TC, &["system"])];

/// `dpif/offload/classes`.
pub fn classes() -> String {
    let mut text =
        "Offload Class     Supported dpif class(es)\n----------------  ------------------------\n".to_owned();
    for (name, kinds) in CLASSES {
        text += &format!("{name:<16}  {}\n", kinds.join(&format!("\n{:18}", "")));
    }
    text
}

/// A port that a provider has rules for.
struct Port {
    name: String,
    number: u32,
    ifindex: u32,
}

/// The port that a datapath itself is. It has no rules, but is there for them.
fn own_port(datapath: &dyn Datapath) -> Option<Port> {
    let ifindex = Links::new().ok()?.index(datapath.name()).ok()?;
    Some(Port { name: datapath.name().to_owned(), number: DpPort::LOCAL.0, ifindex })
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
            let over = world.offloaded().filter(|over| over.kind() == datapath.kind());
            let ports = |over: &Offloaded| {
                let ports = over.ports_with_rules().into_iter().map(|(number, port)| Port {
                    name: port.name,
                    number: number.0,
                    ifindex: port.device.ifindex,
                });
                let mut ports: Vec<_> = ports.chain(own_port(datapath)).collect();
                ports.sort_by(|a, b| a.name.cmp(&b.name));
                (TC, ports)
            };
            let name = format!("{}@{}", datapath.kind(), datapath.name());
            Shown { name, providers: over.into_iter().map(|over| ports(over)).collect() }
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
                for port in ports {
                    writeln!(f, "  - {}: port_no: {}, ifindex: {}", port.name, port.number, port.ifindex)?;
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
                    let ports: BTreeMap<_, _> = ports
                        .iter()
                        .map(|port| (&port.name, json!({"port_no": port.number, "ifindex": port.ifindex})))
                        .collect();
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
