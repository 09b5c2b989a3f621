//! The kernel's connection tracker, by ctnetlink. It is the network namespace's, not a datapath's.
//!
//! * [`codec`]: attributes of connections and expectations.
//! * [`timeout`]: timeout policies.
//!
//! Each request has a socket of its own (it costs some microseconds; none of this is on a packet's path), so that requests
//! can be made while a dump goes on.

pub mod codec;
pub mod timeout;

use std::sync::{Arc, OnceLock};

use flow::attr::AttrError;
use flow::id::Zone;
use sys::errno::Errno;

use super::ct_limit;
use super::genl::{Family, Genl};
use super::nfnetlink::{Answer, Client, Request, Subsystem, open};
use crate::Error;
use crate::conntrack::timeout::TimeoutPolicy;
use crate::conntrack::{Conntrack, Entry, Expectation, LimitZone, PolicyName, Tuple, Walk, ZoneLimit};
use crate::netlink::Message;
use codec::cta;

/// Commands of connections and expectations (`IPCTNL_MSG_CT_*`, `IPCTNL_MSG_EXP_*`).
mod command {
    pub const GET: u8 = 1;
    pub const DELETE: u8 = 2;
}

/// The kernel's tracker.
pub struct KernelConntrack {
    genl: Arc<Genl>,
    flushes_zones: OnceLock<bool>,
}

/// Reads a message by `read`; one that is malformed is told of and left out.
fn read<T>(
    message: &Message<'_>,
    subsystem: Subsystem,
    read: impl FnOnce(Answer<'_>) -> Result<T, AttrError>,
) -> Option<T> {
    match open(message, subsystem).and_then(|answer| Ok(read(answer)?)) {
        Ok(item) => Some(item),
        Err(error) => {
            tracing::error!(
                target: "netlink_conntrack", rl = "1,5",
                "Could not parse conntrack entry: {error}. Possibly incompatible Linux kernel version."
            );
            None
        }
    }
}

/// Reads a connection.
pub(super) fn entry(message: &Message<'_>) -> Option<Entry> {
    read(message, Subsystem::Conntrack, |answer| codec::entry(answer.attrs, answer.family))
}

/// Reads an expectation.
pub(super) fn expectation(message: &Message<'_>) -> Option<Expectation> {
    read(message, Subsystem::Expectations, |answer| codec::expectation(answer.attrs, answer.family))
}

/// A request for all connections, or for those of a zone: older kernels give all of them then, too.
fn dump_request(zone: Option<Zone>) -> Request {
    let mut request = Request::new(Subsystem::Conntrack, command::GET);
    if let Some(zone) = zone {
        request.attrs.put(cta::ZONE, &zone.0.to_be_bytes());
    }
    request
}

/// A request to forget one connection.
fn delete_request(zone: Zone, tuple: &Tuple) -> Option<Request> {
    let mut request = Request::new(Subsystem::Conntrack, command::DELETE);
    request.family = codec::family_of(tuple);
    request.attrs.put(cta::ZONE, &zone.0.to_be_bytes());
    codec::put_tuple(&mut request.attrs, cta::TUPLE_ORIG, tuple).then_some(request)
}

/// Whether a kernel of this release forgets a zone's connections when it is told a zone and no tuple. Those before forget
/// them all!
fn release_flushes_zones(release: &str) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 8)
}

impl KernelConntrack {
    pub(super) fn new(genl: Arc<Genl>) -> Self {
        Self { genl, flushes_zones: OnceLock::new() }
    }

    /// The family of limits; kernels before 4.18 have none.
    fn limit_family(&self) -> Result<Family, Error> {
        self.genl.families.ct_limit.ok_or(Error::Unsupported("conntrack limits"))
    }

    fn flushes_zones(&self) -> bool {
        *self.flushes_zones.get_or_init(|| {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            let supported = release_flushes_zones(&release);
            if !supported {
                tracing::info!(
                    target: "netlink_conntrack",
                    "Disabling conntrack flush by zone. Not supported in Linux kernel."
                );
            }
            supported
        })
    }

    /// Forgets a zone's connections one by one. Those that come meanwhile may stay.
    fn flush_each(&self, zone: Zone) -> Result<(), Error> {
        let mut client = Client::connect()?;
        let dump = Client::connect()?.dump(&dump_request(Some(zone)), |message| {
            read(&message, Subsystem::Conntrack, |answer| {
                let mut request = Request::new(Subsystem::Conntrack, command::DELETE);
                request.family = answer.family;
                // As the kernel tells them, whatever the protocol.
                for kind in [cta::TUPLE_ORIG, cta::ID, cta::ZONE] {
                    if let Some(attr) = answer.attrs.find(kind) {
                        request.attrs.put(kind, attr.data);
                    }
                }
                Ok((codec::zone(answer.attrs)? == zone).then_some(request))
            })
            .flatten()
        })?;
        for request in dump {
            // What has ended meanwhile need not be forgotten.
            match client.command(&request?) {
                Err(error) if error.errno() != Errno::ENOENT => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Conntrack for KernelConntrack {
    fn dump(&self, zone: Option<Zone>) -> Result<Walk<'_, Entry>, Error> {
        let dump = Client::connect()?.dump(&dump_request(zone), |message| entry(&message))?;
        Ok(Box::new(dump.filter(move |entry| match (entry, zone) {
            (Ok(entry), Some(zone)) => entry.zone == zone,
            _ => true,
        })))
    }

    fn expectations(&self, zone: Option<Zone>) -> Result<Walk<'_, Expectation>, Error> {
        let request = Request::new(Subsystem::Expectations, command::GET);
        let dump = Client::connect()?.dump(&request, |message| expectation(&message))?;
        Ok(Box::new(dump.filter(move |expectation| match (expectation, zone) {
            (Ok(expectation), Some(zone)) => expectation.zone == zone,
            _ => true,
        })))
    }

    fn flush(&self, zone: Option<Zone>) -> Result<(), Error> {
        let mut request = Request::new(Subsystem::Conntrack, command::DELETE);
        if let Some(zone) = zone {
            if !self.flushes_zones() {
                return self.flush_each(zone);
            }
            request.attrs.put(cta::ZONE, &zone.0.to_be_bytes());
        }
        Client::connect()?.command(&request)
    }

    fn flush_tuple(&self, zone: Zone, tuple: &Tuple) -> Result<(), Error> {
        let request =
            delete_request(zone, tuple).ok_or(Error::Unsupported("conntrack flush of this protocol"))?;
        Client::connect()?.command(&request)
    }

    fn limits(&self, zones: &[LimitZone]) -> Result<Vec<ZoneLimit>, Error> {
        ct_limit::get(&self.genl, self.limit_family()?, zones)
    }

    fn set_limits(&self, limits: &[ZoneLimit]) -> Result<(), Error> {
        ct_limit::set(&self.genl, self.limit_family()?, limits)
    }

    fn del_limits(&self, zones: &[LimitZone]) -> Result<(), Error> {
        ct_limit::delete(&self.genl, self.limit_family()?, zones)
    }

    fn set_timeout_policy(&self, policy: &TimeoutPolicy) -> Result<(), Error> {
        timeout::set(policy)
    }

    fn del_timeout_policy(&self, id: u32) -> Result<(), Error> {
        timeout::delete(id)
    }

    fn timeout_policies(&self) -> Result<Vec<TimeoutPolicy>, Error> {
        timeout::list()
    }

    fn timeout_policy_name(&self, id: u32, ethertype: u16, ip_proto: u8) -> Option<PolicyName> {
        Some(PolicyName { name: timeout::action_name(id, ethertype, ip_proto), generic: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::entry::tests::{ports, tuple};

    #[test]
    fn releases() {
        assert!(!release_flushes_zones("6.1.0-52-amd64\n"));
        assert!(!release_flushes_zones("6.7.12"));
        assert!(release_flushes_zones("6.8.0"));
        assert!(release_flushes_zones("7.0-rc1"));
        assert!(!release_flushes_zones(""));
    }

    #[test]
    fn deletions_name_zone_and_tuple() {
        let request = delete_request(Zone(5), &tuple("10.1.1.1", "10.1.1.2", 6, ports(1, 2))).unwrap();
        assert_eq!(codec::zone(flow::attr::Attrs::new(request.attrs.bytes())), Ok(Zone(5)));
        assert_eq!(
            delete_request(Zone(5), &tuple("10.1.1.1", "10.1.1.2", 47, ports(0, 0))).map(|_| ()),
            None
        );
    }
}
