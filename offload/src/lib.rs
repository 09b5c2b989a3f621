//! Hardware offload over any datapath.
//!
//! A tour, in the order to read it:
//!
//! * [`tc`]: rules of traffic control's flower classifier as messages.
//! * [`rule`]: a flow as hardware has it, and why there is none.
//! * [`fields`]: which flower field a field of the registry is.
//! * [`lower`]: a flow as a rule; [`raise`]: the reverse.
//! * [`table`]: where rules are; [`ports`]: whose they are; [`prio`]: in which order they are asked.
//! * [`place`]: where each flow is, and if it is in software, why; [`room`]: the limits of what goes to hardware.
//! * [`provider`]: who offloads, by name.
//! * [`mod@ct`]: connections in hardware.
//! * [`capability`]: what hardware can do.
//! * [`sample`]: what sampled packets are for; [`psample`]: how they come.
//! * [`Offloaded`]: all of it as a datapath over another one.
#![forbid(unsafe_code)]

pub mod tc;
pub mod rule;
pub mod fields;
pub mod lower;
pub mod raise;
pub mod table;
pub mod ports;
pub mod prio;
pub mod room;
pub mod place;
pub mod provider;
pub mod ct;
pub mod capability;
pub mod sample;
pub mod psample;
mod offloaded;

pub use offloaded::{Offloaded, Policy};
