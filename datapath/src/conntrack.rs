//! Connection tracking as a datapath offers it: one trait for the kernel's tracker and for the one in userspace.
//!
//! * [`entry`]: a tracked connection, an expectation, and their text.
//! * [`timeout`]: policies of how long states last.
//! * [`flush`]: forgetting connections, partial matches included.
//! * [`Conntrack`]: what a tracker does; [`Reassembly`]: what one that reassembles fragments itself does.
//!
//! The userspace tracker, in packet order:
//!
//! * [`key`]: what a connection is found by, once for each direction.
//! * [`parse`]: what is read of a frame.
//! * [`tcp`], [`verdict`]: what packets mean to their connections.
//! * [`conn`], [`table`]: connections, and one shard of them.
//! * [`nat`]: addresses and ports to translate to.
//! * [`tracked`]: what a packet carries on.
//! * [`tracker`]: the tracker itself; [`watch`]: who is told of connections; [`sweep`]: expiry; [`userspace`]: the tracker as a [`Conntrack`].

pub mod entry;
pub mod timeout;
pub mod flush;
pub mod key;
pub mod parse;
pub mod tcp;
pub mod verdict;
pub mod conn;
pub mod table;
pub mod nat;
pub mod tracked;
pub mod tracker;
pub mod watch;
pub mod sweep;
pub mod userspace;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Expectation, Tuple};
pub use timeout::TimeoutPolicy;
pub use tracker::Tracker;

use crate::Error;
use ::flow::id::Zone;

/// A walk over what is tracked. It ends after the first error.
pub type Walk<'a, T> = Box<dyn Iterator<Item = Result<T, Error>> + 'a>;

/// Which zone a limit is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LimitZone {
    /// Every zone without a limit of its own.
    Default,
    Zone(Zone),
}

/// How many connections a zone may have; 0 for any number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneLimit {
    pub zone: LimitZone,
    pub limit: u32,
    /// How many it has; 0 when the limit is set.
    pub count: u32,
}

/// The name of a timeout policy as the `ct` action says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyName {
    pub name: String,
    /// The name serves every EtherType and protocol; otherwise a flow that uses it must match its protocol.
    pub generic: bool,
}

/// A connection tracker. Every method may be called from any thread; what a tracker lacks is refused.
pub trait Conntrack: Send + Sync {
    /// Begins a walk over the connections of a zone, or of all.
    fn dump(&self, zone: Option<Zone>) -> Result<Walk<'_, Entry>, Error>;

    /// Begins a walk over what helpers expect.
    fn expectations(&self, _zone: Option<Zone>) -> Result<Walk<'_, Expectation>, Error> {
        Err(Error::Unsupported("conntrack expectations"))
    }

    /// Forgets every connection, or those of a zone.
    fn flush(&self, zone: Option<Zone>) -> Result<(), Error>;

    /// Forgets one connection, by its original direction.
    fn flush_tuple(&self, zone: Zone, tuple: &Tuple) -> Result<(), Error>;

    /// Into how many buckets [`Entry::bucket`] counts; `None` if the tracker does not tell.
    fn buckets(&self) -> Option<u32> {
        None
    }

    fn max_connections(&self) -> Result<u32, Error> {
        Err(Error::Unsupported("conntrack maxconns"))
    }

    fn set_max_connections(&self, _max: u32) -> Result<(), Error> {
        Err(Error::Unsupported("conntrack maxconns"))
    }

    /// How many connections there are.
    fn connections(&self) -> Result<u32, Error> {
        Err(Error::Unsupported("conntrack nconns"))
    }

    /// Whether TCP sequence numbers are held against the window.
    fn tcp_seq_check(&self) -> Result<bool, Error> {
        Err(Error::Unsupported("conntrack TCP sequence checking"))
    }

    fn set_tcp_seq_check(&self, _on: bool) -> Result<(), Error> {
        Err(Error::Unsupported("conntrack TCP sequence checking"))
    }

    /// Milliseconds between sweeps for expired connections.
    fn sweep_interval(&self) -> Result<u32, Error> {
        Err(Error::Unsupported("conntrack sweep interval"))
    }

    fn set_sweep_interval(&self, _ms: u32) -> Result<(), Error> {
        Err(Error::Unsupported("conntrack sweep interval"))
    }

    /// The limits of these zones; of all that have one, and the default, if none is named.
    fn limits(&self, _zones: &[LimitZone]) -> Result<Vec<ZoneLimit>, Error> {
        Err(Error::Unsupported("conntrack limits"))
    }

    fn set_limits(&self, _limits: &[ZoneLimit]) -> Result<(), Error> {
        Err(Error::Unsupported("conntrack limits"))
    }

    fn del_limits(&self, _zones: &[LimitZone]) -> Result<(), Error> {
        Err(Error::Unsupported("conntrack limits"))
    }

    /// Sets the timeouts of a policy. One that exists is changed.
    fn set_timeout_policy(&self, _policy: &TimeoutPolicy) -> Result<(), Error> {
        Err(Error::Unsupported("conntrack timeout policies"))
    }

    /// Forgets a policy; one that does not exist is no error. `EBUSY` while it is in use.
    fn del_timeout_policy(&self, _id: u32) -> Result<(), Error> {
        Err(Error::Unsupported("conntrack timeout policies"))
    }

    /// All policies of ours, those of an earlier process too.
    fn timeout_policies(&self) -> Result<Vec<TimeoutPolicy>, Error> {
        Err(Error::Unsupported("conntrack timeout policies"))
    }

    /// How the `ct` action names a policy for packets of an EtherType and an IP protocol; `None` without policies.
    fn timeout_policy_name(&self, _id: u32, _ethertype: u16, _ip_proto: u8) -> Option<PolicyName> {
        None
    }

    /// The tracker's own reassembly of fragments, if it has one.
    fn reassembly(&self) -> Option<&dyn Reassembly> {
        None
    }
}

/// IP versions, which fragments are kept apart by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpVersion {
    V4,
    V6,
}

/// Counters and settings of reassembly for one IP version.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FragmentStatus {
    pub enabled: bool,
    pub min_size: u32,
    pub accepted: u64,
    pub completed: u64,
    pub expired: u64,
    pub too_small: u64,
    pub overlapped: u64,
    pub purged: u64,
}

/// Counters and settings of reassembly.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReassemblyStatus {
    pub v4: FragmentStatus,
    pub v6: FragmentStatus,
    /// Fragments that there are, and that there may be.
    pub fragments: u32,
    pub max_fragments: u32,
}

/// Reassembly of fragments before tracking.
pub trait Reassembly: Send + Sync {
    fn set_enabled(&self, version: IpVersion, on: bool) -> Result<(), Error>;

    /// Fragments smaller than this are dropped.
    fn set_min_size(&self, version: IpVersion, bytes: u32) -> Result<(), Error>;

    fn set_max_fragments(&self, max: u32) -> Result<(), Error>;

    fn status(&self) -> ReassemblyStatus;

    /// What is being put together, a line each.
    fn lists(&self) -> Vec<String>;
}
