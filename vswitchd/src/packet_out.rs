//! Packets that controllers send, and those that they let go on.

use std::sync::Arc;

use datapath::flow::Execute;
use flow::extract::{Metadata, extract};
use flow::id::{DpPort, OfPort};
use flow::key::Key;
use openflow::action::OfAction;

use crate::backer::{Backer, Note};
use crate::ofproto::Pin;
use crate::xlate::{Bridge, BridgeId, Frozen, Input, Output, Snapshot, Stats, effect, translate};

/// A packet to send through a bridge.
pub struct PacketOut<'a> {
    pub bridge: BridgeId,
    pub packet: &'a [u8],
    /// Metadata that the packet shall have (`in_port` of the bridge, tunnel, registers, `packet_type`, …).
    pub metadata: &'a Key,
    pub actions: &'a [OfAction],
    /// The tables' version to use; `None` for the published one.
    pub pin: Option<Pin>,
}

/// A translated packet-out, to be sent by [`Backer::send`].
pub struct Prepared {
    key: Key,
    odp_port: DpPort,
    result: Output,
}

impl Backer {
    /// Translates a packet-out; nothing is sent yet. `None` if there is no such bridge.
    pub fn prepare(&self, out: &PacketOut<'_>) -> Option<Prepared> {
        let snapshot = self.snapshot();
        let bridge = snapshot.bridge(out.bridge)?;
        let key = packet_key(&snapshot, out.packet, out.metadata);
        let in_port = OfPort(out.metadata.in_port as u16);
        let input = Input {
            actions: Some(out.actions),
            pin: out.pin.clone(),
            in_packet_out: true,
            ..self.input(&snapshot, bridge, &key, in_port, out.packet)
        };
        let result = translate(&input);
        Some(Prepared { key, odp_port: odp_of(bridge, in_port), result })
    }

    /// Sends a packet that was prepared.
    ///
    /// # Errors
    /// The datapath's.
    pub fn send(&self, prepared: &Prepared, packet: &[u8]) -> Result<(), datapath::Error> {
        let stats = Stats {
            packets: 1,
            bytes: packet.len() as u64,
            used: self.clock.now(),
            tcp_flags: prepared.key.tcp_flags.get(),
        };
        effect::apply_all(&prepared.result.effects, &stats, &mut |deferred| {
            self.note(Note::Deferred(deferred))
        });
        self.execute(packet, &prepared.key, prepared.odp_port, &prepared.result)
    }

    /// Lets a packet that a controller had go on where its translation stopped. False if its bridge is gone.
    ///
    /// # Errors
    /// The datapath's.
    pub fn resume(
        &self,
        frozen: Arc<Frozen>,
        packet: &[u8],
        metadata: &Key,
    ) -> Result<bool, datapath::Error> {
        let snapshot = self.snapshot();
        let Some(bridge) = snapshot.bridge(frozen.bridge) else { return Ok(false) };
        let key = packet_key(&snapshot, packet, metadata);
        let in_port = OfPort(metadata.in_port as u16);
        let input = Input { frozen: Some(frozen), ..self.input(&snapshot, bridge, &key, in_port, packet) };
        let result = translate(&input);
        let odp_port = odp_of(bridge, in_port);
        self.send(&Prepared { key, odp_port, result }, packet)?;
        Ok(true)
    }

    fn input<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        bridge: &'a Arc<Bridge>,
        key: &'a Key,
        in_port: OfPort,
        packet: &'a [u8],
    ) -> Input<'a> {
        Input {
            snapshot,
            bridge,
            recirc: &self.recirc,
            key,
            in_port,
            packet: Some(packet),
            actions: None,
            rule: None,
            frozen: None,
            pin: None,
            side_effects: true,
            caching: true,
            in_packet_out: false,
            trace: false,
            names: false,
            now: self.clock.now(),
            depth: 0,
            resubmits: 0,
            pid: &|_| 0,
        }
    }

    fn execute(&self, packet: &[u8], key: &Key, odp: DpPort, result: &Output) -> Result<(), datapath::Error> {
        if result.actions.is_empty() {
            return Ok(());
        }
        let key = Key { in_port: odp.0, ..*key };
        let execute = Execute { packet, key: &key, actions: &result.actions, probe: false, mtu: 0, hash: 0 };
        self.datapath.execute(&execute)
    }
}

/// The packet's key, with pipeline metadata that no packet carries.
fn packet_key(snapshot: &Snapshot, packet: &[u8], metadata: &Key) -> Key {
    let mut key = Key::default();
    let known =
        Metadata { vlan_limit: snapshot.vlan_limit.max(1), recirc_id: 0, ..Metadata::from_key(metadata) };
    extract(packet, &known, &mut key);
    (key.regs, key.metadata) = (metadata.regs, metadata.metadata);
    key
}

fn odp_of(bridge: &Bridge, port: OfPort) -> DpPort {
    bridge.ports.get(&port).map_or(DpPort::NONE, |port| port.odp)
}
