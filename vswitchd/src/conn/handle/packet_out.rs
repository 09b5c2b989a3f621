//! Packets that controllers send, or send on.

use flow::extract::{self, extract};
use flow::id::TableId;
use flow::key::Key;
use flow::mini::FullMatch;
use flow::wildcards;
use openflow::action::check::{Check, check_consistency};
use openflow::error::OfError;
use openflow::header::Header;
use openflow::msg::flow_mod::NO_BUFFER;
use openflow::msg::packet_in::PacketIn;
use openflow::msg::packet_out::PacketOut;

use super::{Outcome, Request, decode};

impl Request<'_> {
    /// Decodes a packet-out and checks its actions against the packet.
    pub(super) fn read_packet_out(&mut self, msg: &[u8]) -> Result<PacketOut, OfError> {
        let protocol = self.peer()?.protocol;
        let lengths = self.lengths();
        let mut request = PacketOut::decode(msg, &mut decode(&Header::peek(msg)?, &lengths, self.debug)?)?;
        if request.buffer_id != NO_BUFFER {
            return Err(OfError::BrcBufferUnknown);
        }
        let key = key_of(&request);
        let mut check = Check::new(&FullMatch { key, mask: wildcards::for_packet(&key) });
        check.table = Some(TableId(0));
        let mut actions = request.actions.to_vec();
        check_consistency(&mut actions, protocol, &mut check)?;
        request.actions = actions.into();
        Ok(request)
    }

    pub(super) fn packet_out(&mut self, msg: &[u8]) -> Outcome {
        self.not_secondary()?;
        let request = self.read_packet_out(msg)?;
        self.switch.check_actions(&request.actions)?;
        let version = self.switch.tables().version();
        let sending = self.outside.packet_out(self.switch, &request, version, self.now)?;
        sending(self.switch);
        Ok(())
    }

    pub(super) fn resume(&mut self, msg: &[u8]) -> Outcome {
        let lengths = self.lengths();
        let packet = PacketIn::decode(msg, false, &mut decode(&Header::peek(msg)?, &lengths, self.debug)?)?;
        self.outside.resume(self.switch, packet, self.now)
    }
}

/// The key of a packet-out: what its bytes are, and the metadata that it came with.
pub fn key_of(packet: &PacketOut) -> Key {
    let full = &packet.metadata.key;
    let meta = extract::Metadata {
        in_port: full.in_port,
        pkt_mark: full.pkt_mark,
        packet_type: full.packet_type.get(),
        ..extract::Metadata::default()
    };
    let mut key = Key::default();
    extract(&packet.packet, &meta, &mut key);
    key.metadata = full.metadata;
    key.regs = full.regs;
    key.tunnel = full.tunnel;
    key.in_port = full.in_port;
    (key.ct_state, key.ct_zone, key.ct_mark, key.ct_label) =
        (full.ct_state, full.ct_zone, full.ct_mark, full.ct_label);
    key
}
