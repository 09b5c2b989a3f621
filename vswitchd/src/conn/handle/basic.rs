//! Requests about the connection and the switch as a whole.

use openflow::error::OfError;
use openflow::header::{Header, Raw, bare};
use openflow::msg::async_config::{AsyncConfig, AsyncType};
use openflow::msg::ct_flush;
use openflow::msg::hello::echo_reply;
use openflow::msg::nicira::{self, PacketInFormat};
use openflow::msg::role::{Role, RoleMsg};
use openflow::msg::switch::{Capabilities, Config, Features};
use openflow::msg::tlv::TlvTableMod;
use openflow::version::Version;

use super::{Outcome, Request};
use crate::bridge::remote::RemoteKind;

/// OpenFlow 1.0's actions: all that it has.
const ACTIONS10: u32 = 0xfff;
/// `OFPR_INVALID_TTL` as a bit.
const INVALID_TTL: u32 = 1 << 2;

impl Request<'_> {
    pub(super) fn echo(&mut self, msg: &[u8], header: &Header) -> Outcome {
        self.reply(echo_reply(header.version()?, msg));
        Ok(())
    }

    pub(super) fn barrier(&mut self, header: &Header) -> Outcome {
        let version = header.version()?;
        let raw = if version == Version::V10 { Raw::Ofpt10BarrierReply } else { Raw::Ofpt11BarrierReply };
        self.reply(bare(raw, version, header.xid));
        Ok(())
    }

    pub(super) fn features(&mut self, header: &Header) -> Outcome {
        let features = Features {
            datapath_id: self.switch.datapath_id(),
            n_buffers: 0,
            n_tables: u8::try_from(self.switch.visible_tables().count()).unwrap_or(u8::MAX),
            auxiliary_id: 0,
            capabilities: Capabilities::FLOW_STATS
                | Capabilities::TABLE_STATS
                | Capabilities::PORT_STATS
                | Capabilities::GROUP_STATS
                | Capabilities::QUEUE_STATS
                | Capabilities::ARP_MATCH_IP
                | Capabilities::BUNDLES,
            actions: ACTIONS10,
            ports: super::port::hashed(self.switch).into_iter().map(|port| port.desc.clone()).collect(),
        };
        self.reply(features.encode(header.version()?, header.xid));
        Ok(())
    }

    pub(super) fn get_config(&mut self, header: &Header) -> Outcome {
        let frag = self.switch.tables().fragments();
        let peer = self.peer()?;
        let packet_ins = peer.async_config().primary[AsyncType::PacketIn as usize];
        let config = Config {
            frag,
            invalid_ttl_to_controller: Some(packet_ins & INVALID_TTL != 0),
            miss_send_len: peer.miss_send_len,
        };
        self.reply(config.encode(Raw::OfptGetConfigReply, header.version()?, header.xid));
        Ok(())
    }

    pub(super) fn set_config(&mut self, msg: &[u8]) -> Outcome {
        let config = Config::decode(msg)?;
        let peer = self.peer()?;
        let may = peer.kind != RemoteKind::Primary || peer.role != Role::Secondary;
        if let Some(on) = config.invalid_ttl_to_controller {
            let mut wanted = peer.async_config();
            let packet_ins = &mut wanted.primary[AsyncType::PacketIn as usize];
            *packet_ins = if on { *packet_ins | INVALID_TTL } else { *packet_ins & !INVALID_TTL };
            peer.set_async_config(wanted);
        }
        peer.miss_send_len = config.miss_send_len;
        if may && self.switch.tables().fragments() != config.frag {
            self.switch.set_fragments(config.frag);
        }
        Ok(())
    }

    pub(super) fn role(&mut self, msg: &[u8]) -> Outcome {
        let request = RoleMsg::decode(msg)?;
        if request.role != Role::NoChange {
            if let Some(id) = request.generation_id.filter(|_| request.role != Role::Equal) {
                // Elections are compared as on a circle.
                let stale = self.manager.election.is_some_and(|last| id.wrapping_sub(last).cast_signed() < 0);
                if stale {
                    return Err(OfError::RrfcStale);
                }
                self.manager.election = Some(id);
            }
            self.manager.set_role(self.index, request.role);
        }
        let reply = RoleMsg { role: self.peer()?.role, generation_id: self.manager.election };
        let msg = reply.encode_reply(msg)?;
        self.reply(msg);
        Ok(())
    }

    pub(super) fn set_flow_format(&mut self, msg: &[u8]) -> Outcome {
        let base = nicira::decode_set_flow_format(msg)?.ok_or(OfError::BrcEperm)?;
        let peer = self.peer()?;
        peer.protocol = peer.protocol.with_base(base);
        Ok(())
    }

    pub(super) fn flow_mod_table_id(&mut self, msg: &[u8]) -> Outcome {
        let on = nicira::decode_flow_mod_table_id(msg)?;
        let peer = self.peer()?;
        peer.protocol = peer.protocol.with_table_id(on);
        Ok(())
    }

    pub(super) fn set_packet_in_format(&mut self, msg: &[u8]) -> Outcome {
        self.peer()?.packet_in_format = PacketInFormat::decode(msg)?;
        Ok(())
    }

    pub(super) fn set_controller_id(&mut self, msg: &[u8]) -> Outcome {
        self.peer()?.controller_id = nicira::decode_controller_id(msg)?;
        Ok(())
    }

    pub(super) fn set_async(&mut self, msg: &[u8]) -> Outcome {
        let peer = self.peer()?;
        let config = AsyncConfig::decode(msg, false, &peer.async_config())?;
        peer.set_async_config(config);
        peer.expect_async();
        Ok(())
    }

    pub(super) fn get_async(&mut self, header: &Header) -> Outcome {
        let config = self.peer()?.async_config();
        self.reply(config.encode_reply(header.version()?, header.xid));
        Ok(())
    }

    pub(super) fn desc(&mut self, header: &Header) -> Outcome {
        let msg = self.switch.desc().encode(header.version()?, header.xid);
        self.reply(msg);
        Ok(())
    }

    pub(super) fn tlv_mod(&mut self, msg: &[u8]) -> Outcome {
        self.not_secondary()?;
        self.switch.tlv_mod(&TlvTableMod::decode(msg)?)
    }

    pub(super) fn tlv_table(&mut self, header: &Header) -> Outcome {
        let msg = self.switch.tlv_table().encode(header.version()?, header.xid);
        self.reply(msg);
        Ok(())
    }

    pub(super) fn ct_flush_zone(&mut self, msg: &[u8]) -> Outcome {
        let zone = nicira::decode_ct_flush_zone(msg)?;
        self.outside.flush_connections(Some(zone), None)
    }

    pub(super) fn ct_flush(&mut self, msg: &[u8]) -> Outcome {
        let (which, zone) = ct_flush::decode(msg)?;
        self.outside.flush_connections(zone, Some(&which))
    }
}
