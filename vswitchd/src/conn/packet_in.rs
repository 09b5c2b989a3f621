//! Packets for controllers, as messages.

use flow::field::Field;
use flow::id::DpPort;
use flow::key::Key;
use flow::mini::FullMatch;
use flow::proto::{PT_ETH, ethertype};
use flow::time::Instant;
use openflow::msg::async_config::AsyncType;
use openflow::msg::flow_mod::NO_BUFFER;
use openflow::msg::packet_in::{Continuation, PacketIn, PacketInReason};

use super::manager::{Link, Manager};
use crate::backer;
use crate::xlate::Frozen;

impl Manager {
    /// Sends a packet to the peers that it is for and that want it.
    pub fn packet_in(&mut self, packet: &backer::PacketIn, now: Instant) {
        let Some(reason) = reason_of(packet.reason) else { return };
        let mut message = None;
        for link in &mut self.links {
            let wanted = link.peer.as_ref().is_some_and(|peer| {
                peer.controller_id == packet.controller_id && peer.wants(AsyncType::PacketIn, packet.reason)
            });
            if wanted && link.rconn.is_connected() {
                let message = message.get_or_insert_with(|| message_of(packet));
                link.submit_packet_in(message, reason, packet.key.in_port as u16, now);
            }
        }
    }
}

impl Link {
    fn submit_packet_in(&mut self, message: &PacketIn, reason: PacketInReason, in_port: u16, now: Instant) {
        let Some(peer) = self.peer.as_deref_mut() else { return };
        let Some(version) = peer.version() else { return };
        let msg = message.encode(version, peer.packet_in_format, reason);
        let is_miss = matches!(
            reason,
            PacketInReason::NoMatch | PacketInReason::ExplicitMiss | PacketInReason::ImplicitMiss
        );
        let ready = match &mut peer.schedulers {
            None => Some(msg),
            Some(schedulers) => schedulers[usize::from(is_miss)].submit(flow::id::OfPort(in_port), msg, now),
        };
        if let Some(msg) = ready {
            self.send_packet_in(msg);
        }
    }
}

fn reason_of(number: u8) -> Option<PacketInReason> {
    Some(match number {
        0 => PacketInReason::NoMatch,
        1 => PacketInReason::Action,
        2 => PacketInReason::InvalidTtl,
        3 => PacketInReason::ActionSet,
        4 => PacketInReason::Group,
        5 => PacketInReason::PacketOut,
        6 => PacketInReason::ExplicitMiss,
        7 => PacketInReason::ImplicitMiss,
        _ => return None,
    })
}

fn message_of(packet: &backer::PacketIn) -> PacketIn {
    PacketIn {
        packet: packet.packet.clone(),
        total_len: packet.total_len,
        buffer_id: NO_BUFFER,
        reason: packet.reason,
        table_id: packet.table,
        cookie: packet.cookie,
        metadata: metadata_of(&packet.key),
        userdata: packet.userdata.clone(),
        continuation: packet
            .continuation
            .as_deref()
            .map(|frozen| continuation_of(frozen, packet.odp_port))
            .unwrap_or_default(),
    }
}

/// What goes on when the packet comes back.
fn continuation_of(frozen: &Frozen, odp_port: DpPort) -> Continuation {
    Continuation {
        bridge: frozen.bridge.0,
        stack: frozen.stack.iter().rev().map(|value| value.bytes().to_vec()).collect(),
        mirrors: frozen.mirrors,
        conntracked: frozen.conntracked,
        actions: frozen.actions.clone(),
        action_set: frozen.action_set.clone(),
        odp_port,
    }
}

/// Of the pipeline's fields, those that are part of another one or of no use to controllers.
fn is_told(field: Field) -> bool {
    let name = field.name();
    field.is_pipeline()
        && !name.starts_with("xreg")
        && !name.starts_with("xxreg")
        && !matches!(
            field,
            Field::InPort
                | Field::InPortOxm
                | Field::ActsetOutput
                | Field::SkbPriority
                | Field::DpHash
                | Field::RecircId
                | Field::ConjId
                | Field::PacketType
        )
}

/// What is known of a packet besides its bytes: a match of all that is not zero.
fn metadata_of(key: &Key) -> FullMatch {
    let mut full = FullMatch::default();
    let mut tell = |field: Field| {
        field.set(&mut full.key, &field.get(key));
        field.mask_exact(&mut full.mask);
    };
    tell(Field::InPort);
    if key.packet_type.get() != PT_ETH {
        tell(Field::PacketType);
    }
    let tracked = key.ct_state != 0;
    let tuple = tracked && key.ct_nw_proto != 0;
    let (v4, v6) = match flow::field::dl_type(key) {
        ethertype::IPV4 => (tuple, false),
        ethertype::IPV6 => (false, tuple),
        _ => (false, false),
    };
    if tracked {
        tell(Field::EthType);
    }
    for &field in Field::ALL.iter().filter(|field| is_told(**field)) {
        let told = match field {
            Field::CtNwSrc | Field::CtNwDst => v4,
            Field::CtIpv6Src | Field::CtIpv6Dst => v6,
            Field::CtNwProto | Field::CtTpSrc | Field::CtTpDst => v4 || v6,
            field => field.is_set(key),
        };
        if told {
            tell(field);
        }
    }
    full
}
