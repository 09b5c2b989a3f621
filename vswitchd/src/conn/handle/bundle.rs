//! Bundles: messages that are kept until the peer says that they are to be carried out, all or none.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::time::Instant;
use openflow::error::OfError;
use openflow::header::{Header, Type, xid};
use openflow::msg::bundle::{ATOMIC, BundleAdd, BundleCommand, BundleControl};
use openflow::msg::group::GroupMod;
use openflow::msg::packet_out::PacketOut;
use openflow::msg::port::PortMod;

use super::{Outcome, Outside, Request, Sending};
use crate::ofproto::bundle::{BundleOp, PacketOuts};
use crate::ofproto::group_mod::GroupOp;
use crate::ofproto::{Ofproto, Version};

/// A bundle that does not grow for so long is dropped, unless the database says otherwise.
pub const IDLE: Duration = Duration::from_secs(10);

/// A packet-out of a bundle: then what remains to be done of it.
pub enum BundledPacket {
    Fresh(Box<PacketOut>),
    Translated(Sending),
}

/// A bundle.
pub struct Bundle {
    flags: u16,
    closed: bool,
    used: Instant,
    /// The message that began it, to tell errors by.
    opener: Vec<u8>,
    /// Each with the message that brought it.
    ops: Vec<(Vec<u8>, BundleOp<BundledPacket>)>,
}

impl Bundle {
    fn new(flags: u16, opener: &[u8], now: Instant) -> Self {
        Self { flags, closed: false, used: now, opener: opener.to_vec(), ops: Vec::new() }
    }
}

/// Takes idle bundles out; gives the messages that began them.
pub fn take_idle(bundles: &mut BTreeMap<u32, Bundle>, idle: Duration, now: Instant) -> Vec<Vec<u8>> {
    let idle = bundles.extract_if(.., |_, bundle| now >= bundle.used + idle);
    idle.map(|(_, bundle)| bundle.opener).collect()
}

/// When [`take_idle`] has something to give.
pub fn deadline(bundles: &BTreeMap<u32, Bundle>, idle: Duration) -> Instant {
    bundles.values().map(|bundle| bundle.used + idle).min().unwrap_or(Instant::NEVER)
}

/// Sends a bundle's packets.
struct Packets<'a> {
    outside: &'a mut dyn Outside,
    now: Instant,
}

impl PacketOuts for Packets<'_> {
    type Op = BundledPacket;

    fn start(&mut self, switch: &Ofproto, op: &mut BundledPacket, version: Version) -> Result<(), OfError> {
        if let BundledPacket::Fresh(packet) = op {
            switch.check_actions(&packet.actions)?;
            *op = BundledPacket::Translated(self.outside.packet_out(switch, packet, version, self.now)?);
        }
        Ok(())
    }

    fn finish(&mut self, switch: &mut Ofproto, op: BundledPacket) {
        if let BundledPacket::Translated(sending) = op {
            sending(switch);
        }
    }
}

impl Request<'_> {
    pub(super) fn bundle_control(&mut self, msg: &[u8], header: &Header) -> Outcome {
        self.not_secondary()?;
        let control = BundleControl::decode(msg)?;
        let BundleControl { bundle_id: id, flags, .. } = control;
        let command = BundleCommand::from_wire(control.command).ok_or(OfError::BfcBadType)?;
        let answer = match command {
            BundleCommand::OpenRequest => self.open(id, flags, msg).map(|()| BundleCommand::OpenReply),
            BundleCommand::CloseRequest => self.close(id, flags).map(|()| BundleCommand::CloseReply),
            BundleCommand::CommitRequest => self.commit(id, flags).map(|()| BundleCommand::CommitReply),
            BundleCommand::DiscardRequest => {
                let gone = self.peer()?.bundles.remove(&id);
                gone.map(|_| BundleCommand::DiscardReply).ok_or(OfError::BfcBadId)
            }
            _ => Err(OfError::BfcBadType),
        }?;
        let reply = BundleControl { bundle_id: id, command: answer as u16, flags: 0 };
        let reply = reply.encode(header.version()?, header.xid).ok_or(OfError::BrcBadType)?;
        self.reply(reply);
        Ok(())
    }

    fn open(&mut self, id: u32, flags: u16, msg: &[u8]) -> Outcome {
        let now = self.now;
        let bundles = &mut self.peer()?.bundles;
        if bundles.remove(&id).is_some() {
            tracing::info!(target: "bundles", "Bundle {id:x} already exists.");
            return Err(OfError::BfcBadId);
        }
        bundles.insert(id, Bundle::new(flags, msg, now));
        Ok(())
    }

    fn close(&mut self, id: u32, flags: u16) -> Outcome {
        let now = self.now;
        let bundles = &mut self.peer()?.bundles;
        let bundle = bundles.get_mut(&id).ok_or(OfError::BfcBadId)?;
        let error = match () {
            () if bundle.closed => OfError::BfcBundleClosed,
            () if bundle.flags != flags => OfError::BfcBadFlags,
            () => {
                (bundle.closed, bundle.used) = (true, now);
                return Ok(());
            }
        };
        bundles.remove(&id);
        Err(error)
    }

    fn commit(&mut self, id: u32, flags: u16) -> Outcome {
        let bundle = self.peer()?.bundles.remove(&id).ok_or(OfError::BfcBadId)?;
        if bundle.flags != flags {
            return Err(OfError::BfcBadFlags);
        }
        let conn = self.link().id;
        let (msgs, ops): (Vec<_>, Vec<_>) =
            bundle.ops.into_iter().map(|(msg, op)| (msg.clone(), (xid(&msg), op))).unzip();
        let commands: Vec<_> = ops
            .iter()
            .filter_map(|(_, op)| match op {
                BundleOp::Flow(op) => Some(op.command()),
                _ => None,
            })
            .collect();
        let mut packets = Packets { outside: &mut *self.outside, now: self.now };
        let done = self.switch.commit_bundle(ops, flags & ATOMIC != 0, conn, &mut packets, self.now);
        let now = self.now;
        match done {
            Ok(()) => {
                let log = &mut self.peer()?.mods;
                commands.into_iter().for_each(|command| log.count(command, now));
                Ok(())
            }
            Err(failure) => {
                if let Some(msg) = msgs.get(failure.index) {
                    self.refuse(msg, failure.error);
                }
                Err(OfError::BfcMsgFailed)
            }
        }
    }

    pub(super) fn bundle_add(&mut self, msg: &[u8]) -> Outcome {
        self.not_secondary()?;
        let add = BundleAdd::decode(msg)?;
        let op = match Header::peek(add.msg)?.kind() {
            Type::PortMod => BundleOp::Port(PortMod::decode(add.msg, false)?),
            Type::FlowMod => {
                let request = self.read_flow_mod(add.msg)?;
                BundleOp::Flow(Box::new(self.switch.prepare_flow_mod(&request)?))
            }
            Type::GroupMod => BundleOp::Group(Box::new(GroupOp::new(GroupMod::decode(add.msg)?))),
            Type::PacketOut => {
                let packet = self.read_packet_out(add.msg)?;
                BundleOp::PacketOut(BundledPacket::Fresh(Box::new(packet)))
            }
            _ => return Err(OfError::BfcMsgUnsup),
        };
        let now = self.now;
        let bundles = &mut self.peer()?.bundles;
        let bundle = bundles.entry(add.bundle_id).or_insert_with(|| Bundle::new(add.flags, msg, now));
        let error = match () {
            () if bundle.closed => OfError::BfcBundleClosed,
            () if bundle.flags != add.flags => OfError::BfcBadFlags,
            () => {
                bundle.used = now;
                bundle.ops.push((msg.to_vec(), op));
                return Ok(());
            }
        };
        bundles.remove(&add.bundle_id);
        Err(error)
    }
}
