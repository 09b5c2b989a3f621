//! Packet-outs: `in_port=1,packet=0123…,actions=output:2`.

use std::sync::Arc;

use flow::field::Field;
use flow::id::OfPort;
use flow::mini::FullMatch;

use super::matching::Builder;
use crate::action::{self, OfAction, Parse};
use crate::msg::flow_mod::NO_BUFFER;
use crate::msg::packet_out::PacketOut;
use crate::names::Names;
use crate::protocol::Protocols;
use crate::text::{Pairs, Parsed, parse_hex, refuse, scan_int};

/// Parses a packet-out, and the formats that can express it.
///
/// # Errors
/// OVS's words.
pub fn packet_out(text: &str, names: &Names) -> Parsed<(PacketOut, Protocols)> {
    let (head, actions) = match super::flow::split_actions(text) {
        Some((head, actions)) => (head, Some(actions)),
        None => (text, None),
    };
    let mut builder = Builder::new(names);
    set_in_port(&mut builder, OfPort::CONTROLLER);
    let mut packet = Vec::new();
    for (name, value) in Pairs::new(head) {
        if value.is_empty() {
            refuse!("field {name} missing value");
        }
        match name {
            "in_port" => {
                let port = parse_in_port(value, names)?;
                set_in_port(&mut builder, port);
            }
            "packet_type" => {
                let Some((ns, kind)) = value.split_once(',') else {
                    refuse!("{name}({value}) can't be interpreted");
                };
                let number = |text: &str| scan_int(text, 0).map_or(0, |(_, number, _)| number as u16);
                builder.packet_type(u32::from(number(ns)) << 16 | u32::from(number(kind)));
            }
            "packet" => packet = parse_packet(value).map_err(|error| format!("{name}: {error}"))?,
            _ => {
                let Some(field) = Field::from_name(name) else { refuse!("unknown keyword {name}") };
                builder.field(field, value)?;
                if !field.is_pipeline() {
                    refuse!("{name} is not a valid pipeline field for PACKET_OUT");
                }
            }
        }
    }
    if packet.is_empty() {
        return Err("must specify packet".into());
    }
    let mut cx = Parse::new(names);
    let actions = match actions {
        Some(actions) => action::parse_list(actions, &mut cx)?,
        None => Vec::new(),
    };
    let po = PacketOut { packet, buffer_id: NO_BUFFER, metadata: builder.flow, actions: Arc::from(actions) };
    Ok((po, builder.usable & cx.usable))
}

/// A packet-out of a packet as if it had come in by a port.
pub fn from_port(packet: Vec<u8>, in_port: OfPort, actions: Vec<OfAction>) -> PacketOut {
    let mut metadata = FullMatch::default();
    metadata.key.in_port = in_port.0.into();
    metadata.mask.0.in_port = u32::MAX;
    PacketOut { packet, buffer_id: NO_BUFFER, metadata, actions: Arc::from(actions) }
}

/// The bytes of a packet in hexadecimal; at least an Ethernet header.
///
/// # Errors
/// OVS's words.
pub fn parse_packet(text: &str) -> Parsed<Vec<u8>> {
    const ETHERNET: usize = 14;
    let Some(packet) = parse_hex(text) else { refuse!("Trailing garbage in packet data") };
    if packet.len() < ETHERNET {
        refuse!("Packet data too short for Ethernet");
    }
    Ok(packet)
}

fn parse_in_port(text: &str, names: &Names) -> Parsed<OfPort> {
    let Some(port) = names.parse_port(text) else { refuse!("{text} is not a valid OpenFlow port") };
    if port.0 > OfPort::MAX.0 && !matches!(port, OfPort::LOCAL | OfPort::NONE | OfPort::CONTROLLER) {
        refuse!("{text} is not a valid OpenFlow port for PACKET_OUT");
    }
    Ok(port)
}

fn set_in_port(builder: &mut Builder<'_>, port: OfPort) {
    builder.flow.key.in_port = port.0.into();
    builder.flow.mask.0.in_port = u32::MAX;
}
