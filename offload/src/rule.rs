//! A flow as hardware has it, and why there is none.

use flow::action::Action;
use flow::id::{DpMeter, DpPort};

use crate::sample::Site;
use crate::tc::Hook;
use crate::tc::action::TcAction;
use crate::tc::key::FlowerKey;

/// A lowered flow: what of a rule does not depend on where it is put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub chain: u32,
    /// The outermost EtherType, or [`crate::tc::ETH_P_ALL`].
    pub protocol: u16,
    pub key: FlowerKey,
    pub actions: Vec<TcAction>,
    /// The chain that packets go on to.
    pub goto: Option<u32>,
}

/// A device as rules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    pub ifindex: u32,
    /// The block that it shares with others.
    pub block: Option<u32>,
    /// Where its packets come into the switch.
    pub hook: Hook,
    /// Its packets come out of tunnels. The kernel refuses rules for such devices that are for hardware alone.
    pub tunnel: bool,
}

/// What lowering and raising ask of their surroundings.
pub trait Surroundings {
    /// The device of a port, if rules can name it.
    fn device(&self, port: DpPort) -> Option<Device>;

    /// The reverse of [`Surroundings::device`].
    fn port(&self, ifindex: u32) -> Option<DpPort>;

    /// The limit by which rules share a meter.
    fn police(&self, _meter: DpMeter) -> Option<u32> {
        None
    }

    /// The reverse of [`Surroundings::police`].
    fn meter(&self, _index: u32) -> Option<DpMeter> {
        None
    }

    /// The group of `psample` that stands for a sample.
    fn sample_group(&self, _site: Site) -> Option<u32> {
        None
    }

    /// The action that a group stands for.
    fn sample_action(&self, _group: u32) -> Option<Action> {
        None
    }
}

/// What kernels differ in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Support {
    /// Rules match flags of outer headers, and `tunnel_key` sets "don't fragment". Without it, flags that tunnels set by
    /// default are left out, as OVS does: nothing could be offloaded otherwise.
    pub enc_flags: bool,
    /// Rules match the group policy of VXLAN.
    pub gbp: bool,
    /// Bits of `ct_state` (`OVS_CS_F_*`) that rules match.
    pub ct_state: u8,
    /// A packet that no rule of a chain takes comes into the datapath as one that was recirculated (`OVS_DP_F_TC_RECIRC_SHARING`).
    /// Without it packets begin anew, so that only tracking may lead to a chain: see `offloaded::floors`.
    pub chains: bool,
}

impl Default for Support {
    /// What every kernel from 5.15 has that is built as distributions' are meant to be.
    fn default() -> Self {
        Self { enc_flags: false, gbp: true, ct_state: 0x3f, chains: true }
    }
}

/// Why a flow has no rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Unsupported {
    /// Rules do not look at the field.
    #[error("no match on {0}")]
    Match(&'static str),
    /// Rules look at the whole field or not at all.
    #[error("no match on some bits of {0}")]
    Partial(&'static str),
    /// Rules do not have the action.
    #[error("no action {0}")]
    Action(&'static str),
    /// The action has a part that rules do not have.
    #[error("no action {0} with {1}")]
    Part(&'static str, &'static str),
    /// Rules cannot set the field.
    #[error("no set of {0}")]
    Set(&'static str),
    /// Nothing may come after the action.
    #[error("actions after {0}")]
    After(&'static str),
    /// A checksum that only whole packets have.
    #[error("set of {0} in a fragment")]
    Fragment(&'static str),
    /// A checksum has to be mended, and the flow does not say of which protocol.
    #[error("set of {0} without match on the protocol")]
    Protocol(&'static str),
    #[error("more than {max} actions", max = crate::tc::action::MAX_ACTIONS)]
    Length,
    /// A chain's number has 28 bits.
    #[error("recirculation id {0:#x} is no chain")]
    Chain(u32),
    /// The port has no device, or one that rules cannot send to.
    #[error("port {0} is no network device")]
    Port(DpPort),
    /// More is sampled at a time than there are groups for.
    #[error("no group of psample is left")]
    Groups,
    /// The meter has no limit in hardware.
    #[error("meter {0} has no policer")]
    Meter(DpMeter),
}
