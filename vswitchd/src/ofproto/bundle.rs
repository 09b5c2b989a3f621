//! Bundles: several mods that become visible together, or not at all.

use flow::time::Instant;
use openflow::error::OfError;
use openflow::msg::port::PortMod;

use super::event::{Event, Requester};
use super::flow_mod::FlowOp;
use super::group_mod::GroupOp;
use super::switch::Ofproto;
use super::version::Version;

/// A message of a bundle.
pub enum BundleOp<P> {
    Flow(Box<FlowOp>),
    Group(Box<GroupOp>),
    Port(PortMod),
    /// A packet-out, which [`PacketOuts`] know how to handle.
    PacketOut(P),
}

/// Who handles the packet-outs of a bundle.
pub trait PacketOuts {
    /// A packet-out on its way.
    type Op;

    /// Translates it in `version`, without effects.
    ///
    /// # Errors
    ///
    /// Why it cannot be sent.
    fn start(&mut self, switch: &Ofproto, op: &mut Self::Op, version: Version) -> Result<(), OfError>;

    /// Sends it; the bundle is visible.
    fn finish(&mut self, switch: &mut Ofproto, op: Self::Op);
}

/// Which message of a bundle failed, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BundleFailure {
    pub index: usize,
    pub error: OfError,
}

/// A message that was started.
enum Started<P> {
    Flow(Box<FlowOp>),
    Group(Box<GroupOp>),
    Port(PortMod),
    PacketOut(P),
}

impl Ofproto {
    /// Commits a bundle. `xids` are the transaction ids of its messages.
    ///
    /// # Errors
    ///
    /// The first message that fails; nothing is changed then.
    pub fn commit_bundle<H: PacketOuts>(
        &mut self,
        ops: Vec<(u32, BundleOp<H::Op>)>,
        atomic: bool,
        conn: u64,
        packet_outs: &mut H,
        now: Instant,
    ) -> Result<(), BundleFailure> {
        let mut version = self.next_version();
        let mut after_port = false;
        let mut started = Vec::with_capacity(ops.len());
        for (index, (xid, op)) in ops.into_iter().enumerate() {
            if std::mem::replace(&mut after_port, matches!(op, BundleOp::Port(_))) && !after_port {
                // Port mods take effect at once: what follows one is visible only after it.
                version = version.next();
            }
            match self.start_op(op, version, atomic, packet_outs, now) {
                Ok(op) => started.push((xid, version, op)),
                Err(error) => {
                    self.revert_ops(started);
                    return Err(BundleFailure { index, error });
                }
            }
        }
        for (xid, version, op) in started {
            let by = Some(Requester { conn, xid });
            if !matches!(op, Started::Port(_)) {
                self.publish(version);
            }
            match op {
                Started::Flow(op) => self.finish_flow_mod(*op, by),
                Started::Group(op) => self.finish_group_mod(*op, by),
                Started::Port(request) => self.finish_port_mod(&request, by),
                Started::PacketOut(op) => packet_outs.finish(self, op),
            }
        }
        self.tell(Event::MonitorFlush);
        Ok(())
    }

    fn start_op<H: PacketOuts>(
        &mut self,
        op: BundleOp<H::Op>,
        version: Version,
        atomic: bool,
        packet_outs: &mut H,
        now: Instant,
    ) -> Result<Started<H::Op>, OfError> {
        Ok(match op {
            BundleOp::Flow(mut op) => {
                self.start_flow_mod(&mut op, version, now)?;
                Started::Flow(op)
            }
            BundleOp::Group(mut op) => {
                self.start_group_mod(&mut op, version, now)?;
                Started::Group(op)
            }
            BundleOp::Port(_) if atomic => return Err(OfError::BfcMsgFailed),
            BundleOp::Port(request) => {
                self.check_port_mod(&request)?;
                Started::Port(request)
            }
            BundleOp::PacketOut(mut op) => {
                // The packet-out is translated with the tables as they will be.
                self.publish_lists();
                packet_outs.start(self, &mut op, version)?;
                Started::PacketOut(op)
            }
        })
    }

    fn revert_ops<P>(&mut self, started: Vec<(u32, Version, Started<P>)>) {
        for (_, _, op) in started.into_iter().rev() {
            match op {
                Started::Flow(op) => self.revert_flow_mod(*op),
                Started::Group(op) => self.revert_group_mod(*op),
                Started::Port(_) | Started::PacketOut(_) => {}
            }
        }
        self.publish_lists();
    }
}
