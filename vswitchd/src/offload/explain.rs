//! `offload/explain`: where a packet's flow would be, and if not in hardware, which field or action stops it.

use std::fmt;

use ::offload::place::Reason;
use datapath::Datapath;
use flow::action::format as action_text;
use flow::cookie::SlowReasons;
use flow::describe::match_to_string;
use flow::id::OfPort;
use flow::key::Key;
use flow::mini::FullMatch;
use serde::Serialize;

use crate::event::Switch;
use crate::world::World;
use crate::xlate::snapshot::Bridge;
use crate::xlate::trace::KeyNames;
use crate::xlate::{Output, trace_command};

/// A rule that a flow would have.
#[derive(Serialize)]
struct Rule {
    device: String,
    chain: u32,
    protocol: u16,
    /// Fields that it matches, as `tc` names them.
    matches: Vec<&'static str>,
    /// Kinds of its actions, in order.
    actions: Vec<String>,
}

/// One pass of a packet through the datapath.
#[derive(Serialize)]
struct Pass {
    megaflow: String,
    actions: String,
    placement: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What would become of a packet: its first pass, and one for each time that it comes back.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Explained(Vec<Pass>);

impl Explained {
    /// # Errors
    /// Those of `ofproto/trace`.
    pub fn of(switch: &Switch, args: &[&str]) -> Result<Self, String> {
        let world = &switch.world;
        let mut passes = Vec::new();
        trace_command::each(&world.backers, args, switch.now(), &mut |backer, bridge, key, output| {
            passes.push(pass(world, &*backer.datapath, bridge, key, output));
        })?;
        Ok(Self(passes))
    }
}

fn pass(world: &World, datapath: &dyn Datapath, bridge: &Bridge, key: &Key, output: &Output) -> Pass {
    let megaflow = match_to_string(&FullMatch::new(key, &output.mask), None, &KeyNames::of(bridge));
    let actions = action_text::actions(&output.actions, &flow::odp::NoNames);
    let (rule, why) = match placed(world, datapath, bridge, key, output) {
        Ok(rule) => (Some(rule), None),
        Err(why) => (None, Some(why)),
    };
    let placement = if rule.is_some() { "hardware" } else { "software" };
    Pass { megaflow, actions, placement, rule, why }
}

/// The rule that a flow would have, or why it has none.
fn placed(
    world: &World,
    datapath: &dyn Datapath,
    bridge: &Bridge,
    key: &Key,
    output: &Output,
) -> Result<Rule, String> {
    let over = world.offloaded().filter(|over| over.kind() == datapath.kind());
    let over = over.ok_or("datapath type has no offload provider")?;
    if !over.is_on() {
        return Err("other_config:hw-offload is not true".to_owned());
    }
    if let Some(error) = output.error {
        return Err(format!("translation failed: {}", error.text()));
    }
    if let Some((_, _, why)) = SlowReasons::ROWS.iter().find(|row| output.slow.contains(row.0)) {
        return Err(format!("the userspace slow path: it {why}"));
    }
    let port = bridge.ports.get(&OfPort(key.in_port as u16)).ok_or("the port is not there")?;
    let key = Key { in_port: port.odp.0, ..*key };
    let explained = over.explain(&key, &output.mask, &output.actions);
    let (port, rule) = explained.map_err(|why: Reason| why.to_string())?;
    Ok(Rule {
        device: port.name,
        chain: rule.chain,
        protocol: rule.protocol,
        matches: rule.key.fields().iter().map(|entry| entry.field.row().name).collect(),
        actions: rule.actions.iter().map(|action| action.spec.kind().to_owned()).collect(),
    })
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pass) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            writeln!(f, "Megaflow: {}\nDatapath actions: {}", pass.megaflow, pass.actions)?;
            writeln!(f, "Placement: {}", pass.placement)?;
            if let Some(Rule { device, chain, protocol, matches, actions }) = &pass.rule {
                let (matches, actions) = (matches.join(","), actions.join(","));
                writeln!(
                    f,
                    "Rule: dev {device} chain {chain} protocol {protocol:#06x} match {matches} actions {actions}"
                )?;
            }
            if let Some(why) = &pass.why {
                writeln!(f, "Why: {why}")?;
            }
        }
        Ok(())
    }
}
