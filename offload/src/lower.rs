//! Lowering: a datapath flow as a rule, or why there is none ([`Unsupported`]).
//!
//! A rule that is made forwards exactly as the flow does: every bit of the mask becomes a match or is known to say nothing,
//! and what is left of the mask at the end names what stops the flow. Packets that match a rule do not come into the datapath.
//!
//! * [`matching`]: what is matched.
//! * [`actions`]: what is done; `set`: changes of header fields.

pub mod matching;
pub mod actions;
pub(crate) mod set;

use flow::action::Action;
use flow::key::{Key, Mask};

use crate::rule::{Rule, Support, Surroundings, Unsupported};
use crate::tc::action::MAX_VALUE;

/// Lowers a flow.
///
/// # Errors
/// The first thing found that rules do not have.
pub fn lower(
    (key, mask): (&Key, &Mask),
    actions: &[Action],
    around: &dyn Surroundings,
    support: &Support,
) -> Result<Rule, Unsupported> {
    if key.recirc_id > MAX_VALUE {
        return Err(Unsupported::Chain(key.recirc_id));
    }
    let (protocol, flower) = matching::lower(key, mask, support)?;
    let tunneled = is_tunneled(key);
    let (actions, goto) = actions::lower((key, mask), actions, tunneled, around, support)?;
    Ok(Rule { chain: key.recirc_id, protocol, key: flower, actions, goto })
}

/// Whether packets come out of a tunnel.
pub(crate) fn is_tunneled(key: &Key) -> bool {
    let tunnel = &key.tunnel;
    tunnel.ip_dst.get() != 0
        || tunnel.ip_src.get() != 0
        || tunnel.ipv6_dst != [0; 16]
        || tunnel.ipv6_src != [0; 16]
}

#[cfg(test)]
pub(crate) mod tests;
