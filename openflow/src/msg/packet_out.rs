//! Packet-outs. Spec: OpenFlow 1.0 section 5.3.6 to OpenFlow 1.5 section 7.3.6.

use super::flow_mod::{DEFAULT_PRIORITY, NO_BUFFER};
use super::packet_in::packet_text;
use super::{hex_dump, open, put_port32, read_port32, w};
use crate::action::{self, Decode, OfAction};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::matching;
use crate::names::Names;
use crate::version::Version;
use crate::wire::{Put, set_u16};
use flow::field::{Field, Value};
use flow::id::OfPort;
use flow::mini::FullMatch;
use std::sync::Arc;

/// A packet-out message.
#[derive(Clone, PartialEq, Debug)]
pub struct PacketOut {
    /// Empty if the packet is in a buffer.
    pub packet: Vec<u8>,
    pub buffer_id: u32,
    /// Metadata to give to the packet; the input port always, others from OpenFlow 1.5 on.
    pub metadata: FullMatch,
    pub actions: Arc<[OfAction]>,
}

impl PacketOut {
    /// The input port.
    pub fn in_port(&self) -> OfPort {
        OfPort(self.metadata.key.in_port as u16)
    }

    pub fn decode(msg: &[u8], cx: &mut Decode<'_>) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[Raw::Ofpt10PacketOut, Raw::Ofpt11PacketOut, Raw::Ofpt15PacketOut];
        let (header, _, mut body) = open(msg, RAWS)?;
        let buffer_id = body.u32()?;
        let mut metadata = FullMatch::default();
        let actions_len;
        if header.raw == Raw::Ofpt15PacketOut {
            actions_len = body.u16()?;
            body.skip(2)?;
            metadata = matching::read_oxm_pipeline(&mut body, cx)?;
            if metadata.mask.0.in_port == 0 {
                return Err(OfError::BrcBadPort);
            }
        } else {
            let v10 = header.raw == Raw::Ofpt10PacketOut;
            let port = if v10 { OfPort(body.u16()?) } else { read_port32(&mut body)? };
            actions_len = body.u16()?;
            body.skip(if v10 { 0 } else { 6 })?;
            matching::require_ethernet(&mut metadata);
            Field::InPort.set_match(&mut metadata, &Value::from_u64(port.0.into(), 2), &Value::ones(2));
        }
        let actions = body.bytes(actions_len.into()).map_err(|_| OfError::BrcBadLen)?;
        let actions = action::decode_list(actions, cx)?.into();
        let mut this = Self { packet: Vec::new(), buffer_id, metadata, actions };
        let port = this.in_port();
        if port >= OfPort::MAX && !matches!(port, OfPort::LOCAL | OfPort::NONE | OfPort::CONTROLLER) {
            tracing::warn!(target: "ofp_packet", "packet-out has bad input port {:#x}", port.0);
            return Err(OfError::BrcBadPort);
        }
        if buffer_id == NO_BUFFER {
            this.packet = body.rest().to_vec();
        }
        Ok(this)
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut msg;
        let len_at;
        match version {
            Version::V10 => {
                msg = header::start(Raw::Ofpt10PacketOut, version, xid);
                msg.u32(self.buffer_id).u16(self.in_port().0);
                len_at = msg.len();
                msg.u16(0);
            }
            Version::V15 => {
                msg = header::start(Raw::Ofpt15PacketOut, version, xid);
                msg.u32(self.buffer_id);
                len_at = msg.len();
                msg.u16(0).zeros(2);
                matching::put_oxm(&self.metadata, version, &mut msg);
            }
            _ => {
                msg = header::start(Raw::Ofpt11PacketOut, version, xid);
                msg.u32(self.buffer_id);
                put_port32(&mut msg, self.in_port());
                len_at = msg.len();
                msg.u16(0).zeros(6);
            }
        }
        let start = msg.len();
        action::encode_list(&self.actions, version, &mut msg);
        let len = u16::try_from(msg.len() - start).unwrap_or(u16::MAX);
        set_u16(&mut msg, len_at, len);
        if self.buffer_id == NO_BUFFER {
            msg.bytes(&self.packet);
        }
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, names: &Names, verbosity: i32, out: &mut String) {
        w!(out, " {}", matching::text(&self.metadata, DEFAULT_PRIORITY.into(), names));
        w!(out, " actions={}", action::text(&self.actions, names));
        if self.buffer_id != NO_BUFFER {
            w!(out, " buffer=0x{:08x}", self.buffer_id);
            return;
        }
        w!(out, " data_len={}", self.packet.len());
        if verbosity > 0 && !self.packet.is_empty() {
            w!(out, "\n{}", packet_text(&self.packet, self.metadata.key.packet_type.get()));
        }
        if verbosity > 2 {
            hex_dump(out, &self.packet, false);
        }
    }
}
