//! What the kernel tells, read from bytes without a socket: for each family the very decoder that its requests use. It is for
//! who has messages from elsewhere: recordings, and the fuzz targets of `tests`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use flow::id::{DpMeter, DpPort};
use flow::odp::OdpSupport;
use flow::time::Clock;

use super::dp::Dp;
use super::flow::Written;
use super::genl::{Families, Family, collect};
use super::handler::{self, Context, Spare};
use super::{ct, ct_limit, dp, flow as flows, genl, meter, operate, packet};
use crate::conntrack::{Entry, Expectation, ZoneLimit};
use crate::flow::{Flow, FlowStats, Op, Sighting};
use crate::netlink::{Batch, Message};
use crate::upcall::Handler;
use crate::{Error, MeterFeatures, MeterStats};

/// The number of the family of a name and that of its multicast group, as the controller of families tells them.
pub fn family(message: &Message<'_>, name: &str) -> Result<(u16, Option<u32>), Error> {
    Ok(genl::read_family(message, name)?)
}

/// A datapath, of family `ovs_datapath`.
pub fn datapath(family: Family, message: &Message<'_>) -> Result<Dp, Error> {
    dp::decode(family, message)
}

/// A flow, of family `ovs_flow`, and whether its actions were among what was told.
pub fn flow(family: Family, message: &Message<'_>) -> Result<(Flow, bool), Error> {
    flows::decode(family, message)
}

/// A flow of a terse dump, of family `ovs_flow`: among `sightings` if name and counters are all that is told.
pub fn sighting(
    family: Family,
    message: &Message<'_>,
    sightings: &mut Vec<Sighting>,
    flows: &mut Vec<Flow>,
) -> Result<(), Error> {
    flows::take(family, message, sightings, flows)
}

/// The counters of a flow, of family `ovs_flow`.
pub fn flow_stats(family: Family, message: &Message<'_>) -> Result<FlowStats, Error> {
    flows::decode_stats(family, message)
}

/// A meter and its counters, of family `ovs_meter`.
pub fn meter(family: Family, message: &Message<'_>) -> Result<(Option<DpMeter>, MeterStats), Error> {
    let (_, _, attrs) = family.open(message)?;
    let found = collect(attrs)?;
    Ok((meter::id(&found)?, meter::decode_stats(&found)?))
}

/// What meters there can be, of family `ovs_meter`.
pub fn meter_features(family: Family, message: &Message<'_>) -> Result<MeterFeatures, Error> {
    let (_, _, attrs) = family.open(message)?;
    meter::decode_features(&collect(attrs)?, message)
}

/// Limits of connections, of family `ovs_ct_limit`.
pub fn limits(family: Family, message: &Message<'_>) -> Result<Vec<ZoneLimit>, Error> {
    ct_limit::decode(family, message)
}

/// An event of family `ovs_vport` after its `genlmsghdr`: nothing if it is not of a port of datapath `dp`, else the port's
/// name if that can be read.
pub fn changed_port(dp: u32, command: u8, payload: &[u8]) -> Option<Option<&str>> {
    genl::changed_port(dp, command, payload)
}

/// A connection, of ctnetlink. What is malformed is told to the log.
pub fn connection(message: &Message<'_>) -> Option<Entry> {
    ct::entry(message)
}

/// An expected connection, of ctnetlink. What is malformed is told to the log.
pub fn expectation(message: &Message<'_>) -> Option<Expectation> {
    ct::expectation(message)
}

/// The port of a packet handed up, as it is looked at before a token is taken.
pub fn upcall_port(datagram: &[u8]) -> Option<DpPort> {
    packet::peek_port(datagram)
}

/// Appends the requests that operations come to, as they go to the kernel together.
pub fn requests(families: &Families, dp: u32, ops: &[Op<'_>], batch: &mut Batch) {
    let mut written = Written::default();
    ops.iter().for_each(|op| operate::push(batch, (families, dp), op, false, &mut written));
}

/// A datapath that upcalls come from.
pub struct Upcalls {
    pub families: Families,
    /// Its interface index.
    pub dp: u32,
    pub support: OdpSupport,
    /// VLAN tags that the switch looks at.
    pub vlan_limit: usize,
    pub clock: Arc<dyn Clock>,
}

impl Upcalls {
    /// Lets `handler` answer a packet handed up, of family `ovs_packet`: the requests that the answer comes to.
    pub fn answer(&self, handler: &dyn Handler, datagram: &[u8]) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        self.answer_to(handler, datagram, &mut batch)?;
        Ok(batch)
    }

    /// As [`Upcalls::answer`], after what `batch` has.
    pub fn answer_to(&self, handler: &dyn Handler, datagram: &[u8], batch: &mut Batch) -> Result<(), Error> {
        let context = Context {
            name: String::new(),
            families: self.families,
            dp: self.dp,
            clock: Arc::clone(&self.clock),
            support: self.support,
            vlan_limit: AtomicUsize::new(self.vlan_limit),
            handler: Default::default(),
            malformed: AtomicU64::new(0),
        };
        if let Some(job) = handler::answer(&context, handler, &mut Spare::default(), datagram)? {
            if let Some(put) = job.put() {
                flows::push_put(batch, (self.families.flow, self.dp), &put, false, &mut Written::default());
            }
            if let Some(execute) = job.execution(datagram).filter(|execute| !packet::oversized(execute)) {
                packet::push_execute(batch, self.families.packet, self.dp, &execute);
            }
        }
        Ok(())
    }
}
