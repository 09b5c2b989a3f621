//! What handlers did for each port whose packets missed (`upcall/fairness-show`): [`datapath::kernel::fair`].

use std::fmt;

use datapath::kernel::fair::Figures;
use flow::id::DpPort;
use serde::Serialize;

use crate::backer::Backers;

/// The token pools of all datapaths that have some.
#[derive(Serialize)]
pub struct Fairness(Vec<Datapath>);

#[derive(Serialize)]
struct Datapath {
    name: String,
    handlers: Vec<Handler>,
}

#[derive(Serialize)]
struct Handler {
    handler: usize,
    #[serde(flatten)]
    figures: Figures,
    /// The ports' names, in the same order.
    names: Vec<Option<String>>,
}

impl Fairness {
    /// Those of the datapath of that name, or of all.
    ///
    /// # Errors
    /// If there is no such datapath.
    pub fn of(backers: &Backers, name: Option<&str>) -> Result<Self, String> {
        let full_name =
            |backer: &crate::backer::Backer| format!("{}@{}", backer.kind(), backer.datapath.name());
        let wanted = backers.0.values().filter(|backer| {
            name.is_none_or(|name| name == backer.datapath.name() || name == full_name(backer))
        });
        let all: Vec<_> = wanted
            .map(|backer| {
                let ports = backer.port_names();
                let handlers =
                    backer.datapath.fairness().into_iter().enumerate().map(|(handler, figures)| {
                        let names = figures.ports.iter().map(|port| ports.get(&port.port).cloned()).collect();
                        Handler { handler, figures, names }
                    });
                Datapath { name: full_name(backer), handlers: handlers.collect() }
            })
            .collect();
        match name {
            Some(name) if all.is_empty() => Err(format!("no datapath {name}")),
            _ => Ok(Self(all)),
        }
    }
}

impl fmt::Display for Fairness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for datapath in &self.0 {
            writeln!(f, "{}:", datapath.name)?;
            if datapath.handlers.is_empty() {
                writeln!(f, "  no handlers: upcalls are answered where packets are received")?;
            }
            for Handler { handler, figures, names } in &datapath.handlers {
                let (waiting, free) = (figures.waiting, figures.common_free);
                writeln!(f, "  handler {handler}: waiting {waiting}, common tokens free {free}")?;
                for (port, name) in figures.ports.iter().zip(names) {
                    match name {
                        Some(name) => write!(f, "    {name}:")?,
                        None if port.port == DpPort::NONE => write!(f, "    other ports:")?,
                        None => write!(f, "    port {}:", port.port)?,
                    }
                    let wait = port.longest_wait.as_micros();
                    writeln!(
                        f,
                        " admitted {}, dropped {}, sieved {}, waiting {} (most {}), longest wait {wait} us",
                        port.admitted, port.dropped, port.sieved, port.waiting, port.most_waiting
                    )?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::kernel::fair::{Fair, Limits};
    use flow::time::Instant;

    #[test]
    fn text_and_json() {
        let mut fair = Fair::new(Limits { reserved: 1, common: 1, most: 2, ports: 2 });
        (0..3).for_each(|n| _ = fair.offer(DpPort(2), n, Instant::from_millis(1)));
        fair.take(Instant::from_millis(3));
        let handler = Handler { handler: 0, figures: fair.figures(), names: vec![Some("p2".to_owned())] };
        let none = Datapath { name: "netdev@ovs-netdev".to_owned(), handlers: Vec::new() };
        let shown =
            Fairness(vec![Datapath { name: "system@ovs-system".to_owned(), handlers: vec![handler] }, none]);
        assert_eq!(
            shown.to_string(),
            "system@ovs-system:\n  handler 0: waiting 1, common tokens free 1\n    \
             p2: admitted 2, dropped 1, sieved 0, waiting 1 (most 2), longest wait 2000 us\n\
             netdev@ovs-netdev:\n  no handlers: upcalls are answered where packets are received\n"
        );
        assert_eq!(
            serde_json::to_value(&shown).unwrap()[0]["handlers"][0],
            serde_json::json!({
                "handler": 0, "waiting": 1, "common_free": 1, "names": ["p2"],
                "ports": [{
                    "port": 2, "admitted": 2, "dropped": 1, "sieved": 0, "waiting": 1, "most_waiting": 2,
                    "longest_wait_us": 2000
                }],
            })
        );
    }
}
