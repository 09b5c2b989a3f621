//! `ovs_packet`: packets handed up and packets to run actions on (`linux/openvswitch.h`).

use flow::attr::{Attrs, Writer};
use flow::extract::{Metadata, extract, extract_into};
use flow::id::DpPort;
use flow::key::{Key, MAX_VLANS, Tunnel};
use flow::odp::attrs::code;
use flow::odp::{self, Fitness, KeyAttr, RawKey, convert, key_to_flow};
use flow::proto::{PT_ETH, ethertype};

use super::flow::put_actions;
use super::genl::{Family, HEADER, collect_into, required};
use crate::Error;
use crate::flow::Execute;
use crate::netlink::{self, Batch, Malformed, Message};

mod cmd {
    pub const MISS: u8 = 1;
    pub const ACTION: u8 = 2;
    pub const EXECUTE: u8 = 3;
}

pub(super) mod attr {
    pub const PACKET: u16 = 1;
    pub const KEY: u16 = 2;
    pub const ACTIONS: u16 = 3;
    pub const USERDATA: u16 = 4;
    pub const EGRESS_TUN_KEY: u16 = 5;
    pub const PROBE: u16 = 8;
    pub const MRU: u16 = 9;
    pub const LEN: u16 = 10;
    pub const HASH: u16 = 11;
    /// One more than the last that is read.
    pub const N: usize = 12;
}

/// Bytes of a request beside packet, metadata and actions, at most.
const OVERHEAD: usize = 320;

/// The longest payload of an attribute.
const MAX_PACKET: usize = u16::MAX as usize - flow::attr::HEADER;

/// A packet handed up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Incoming<'a> {
    /// A `userspace` action did it; else no flow matched.
    pub action: bool,
    /// The datapath's interface index.
    pub dp: u32,
    pub packet: &'a [u8],
    /// Attributes.
    pub key: &'a [u8],
    pub userdata: Option<&'a [u8]>,
    /// Attributes.
    pub actions: Option<&'a [u8]>,
    /// Attributes.
    pub egress_tunnel: Option<&'a [u8]>,
    /// Bytes that the packet had before it was cut.
    pub len: Option<u32>,
    pub mru: u16,
    pub hash: u64,
}

/// The port by which a packet came that is handed up, if the message is one; all that has to be known of it before a token
/// is taken.
pub(super) fn peek_port(datagram: &[u8]) -> Option<DpPort> {
    let attrs = Attrs::new(datagram.get(netlink::HEADER + HEADER..)?);
    let port = attrs.find(attr::KEY)?.nested().find(code::IN_PORT)?;
    port.u32().ok().map(DpPort)
}

/// Reads a packet handed up.
pub(super) fn decode<'a>(family: Family, message: &Message<'a>) -> Result<Incoming<'a>, Malformed> {
    let (command, dp, attrs) = family.open(message)?;
    let action = match command {
        cmd::MISS => false,
        cmd::ACTION => true,
        command => return Err(Malformed::Unexpected { at: message.at, kind: message.kind, command }),
    };
    let mut found = [None; attr::N];
    collect_into(attrs, &mut found)?;
    let at = |kind: u16| found[usize::from(kind)];
    let data = |kind: u16| at(kind).map(|attr| attr.data);
    Ok(Incoming {
        action,
        dp,
        packet: required(at(attr::PACKET), attr::PACKET, attrs)?.data,
        key: required(at(attr::KEY), attr::KEY, attrs)?.data,
        userdata: data(attr::USERDATA),
        actions: data(attr::ACTIONS),
        egress_tunnel: data(attr::EGRESS_TUN_KEY),
        len: at(attr::LEN).map(|attr| attr.u32()).transpose()?,
        mru: at(attr::MRU).map_or(Ok(0), |attr| attr.u16())?,
        hash: at(attr::HASH).map_or(Ok(0), |attr| attr.u64())?,
    })
}

/// The key of a packet handed up: metadata as the kernel says, the rest as the packet says, down to the VLAN tags that are
/// looked at. It goes where there is an empty one.
///
/// # Errors
/// The words for what is wrong with the kernel's key.
pub(super) fn read_key(
    raw: &[u8],
    packet: &[u8],
    vlan_limit: usize,
    key: &mut Key,
) -> Result<Fitness, Error> {
    let attrs = Attrs::new(raw);
    let vlan_limit = vlan_limit.min(MAX_VLANS) as u8;
    if let Some(metadata) = odp::read_metadata(attrs) {
        extract_into(packet, &Metadata { vlan_limit, ..metadata }, key);
        return Ok(Fitness::Perfect);
    }
    let fitness = odp::read_key(attrs, key).map_err(|error| Error::Malformed(error.to_string().into()))?;
    if attrs.find(code::ETHERNET).is_none() {
        let ethertype = attrs.find(code::ETHERTYPE).and_then(|attr| attr.be16().ok());
        key.packet_type = (1 << 16 | u32::from(ethertype.unwrap_or_default().get())).into();
    }
    let metadata = Metadata { vlan_limit, ..Metadata::from_key(key) };
    extract(packet, &metadata, key);
    Ok(fitness)
}

/// The tunnel header that a packet will get, from the attributes of an egress key.
pub(super) fn read_tunnel(attrs: &[u8]) -> Option<Tunnel> {
    let mut raw = Writer::new();
    raw.put(code::TUNNEL, attrs);
    key_to_flow(&RawKey(raw.into_bytes().into())).ok().map(|(key, _)| key.tunnel)
}

/// How much room an execution takes in a batch, about.
pub(super) fn execute_size(execute: &Execute<'_>) -> usize {
    OVERHEAD + execute.packet.len() + 16 * execute.actions.len()
}

/// Whether a packet is too long for a message.
pub(super) fn oversized(execute: &Execute<'_>) -> bool {
    execute.packet.len() > MAX_PACKET
}

/// Appends an execution.
pub(super) fn push_execute(batch: &mut Batch, family: Family, dp: u32, execute: &Execute<'_>) {
    batch.push(family.id, 0, &family.header(cmd::EXECUTE, dp), |attrs| {
        attrs.put(attr::PACKET, execute.packet);
        attrs.nest(attr::KEY, |nest| put_metadata(nest, execute.key));
        put_actions(attrs, attr::ACTIONS, execute.actions);
        if execute.probe {
            attrs.put_flag(attr::PROBE);
        }
        if execute.mtu != 0 {
            attrs.put_u16(attr::MRU, execute.mtu);
        }
        if execute.hash != 0 {
            attrs.put_u64(attr::HASH, execute.hash);
        }
    });
}

/// What the kernel cannot see in the packet itself.
fn put_metadata(nest: &mut Writer, key: &Key) {
    nest.put_u32(code::PRIORITY, key.skb_priority);
    if key.dp_hash != 0 {
        nest.put_u32(code::DP_HASH, key.dp_hash);
    }
    if key.tunnel.is_set() {
        KeyAttr::Tunnel(convert::tunnel_to_attrs(&key.tunnel, &key.tunnel, None)).encode(nest);
    }
    nest.put_u32(code::SKB_MARK, key.pkt_mark);
    if key.ct_state != 0 {
        put_conntrack(nest, key);
    }
    if DpPort(key.in_port) != DpPort::NONE {
        nest.put_u32(code::IN_PORT, key.in_port);
    }
    let packet_type = key.packet_type.get();
    if packet_type != PT_ETH && packet_type >> 16 == 1 {
        KeyAttr::Ethertype((packet_type as u16).into()).encode(nest);
    }
}

fn put_conntrack(nest: &mut Writer, key: &Key) {
    KeyAttr::CtState(key.ct_state.into()).encode(nest);
    if key.ct_zone != 0 {
        KeyAttr::CtZone(key.ct_zone).encode(nest);
    }
    if key.ct_mark != 0 {
        KeyAttr::CtMark(key.ct_mark).encode(nest);
    }
    if key.ct_label != [0; 16] {
        KeyAttr::CtLabels(convert::label_to_odp(key.ct_label)).encode(nest);
    }
    if key.ct_nw_proto != 0 {
        match key.dl_type.get() {
            ethertype::IPV4 => KeyAttr::CtTuple4(convert::ct_tuple4(key)).encode(nest),
            ethertype::IPV6 => KeyAttr::CtTuple6(convert::ct_tuple6(key)).encode(nest),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{FAMILY, message, put_raw};
    use crate::netlink::Messages;
    use flow::action::Action;
    use flow::odp::EthernetKey;
    use proptest::prelude::*;

    fn key_of(raw: &[u8], packet: &[u8], vlan_limit: usize) -> Result<(Box<Key>, Fitness), Error> {
        let mut key = Key::boxed();
        read_key(raw, packet, vlan_limit, &mut key).map(|fitness| (key, fitness))
    }

    fn first(datagram: &[u8]) -> Message<'_> {
        Messages::new(datagram).next().unwrap().unwrap()
    }

    fn raw(attrs: &[KeyAttr]) -> Vec<u8> {
        let mut writer = Writer::new();
        attrs.iter().for_each(|attr| attr.encode(&mut writer));
        writer.into_bytes()
    }

    const ETHERNET: EthernetKey = EthernetKey { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2] };

    /// The frame of [`ETHERNET`], of an Ethernet type that nothing is known of.
    fn frame() -> Vec<u8> {
        [&ETHERNET.dst[..], &ETHERNET.src, &[0x12, 0x34, 9, 9]].concat()
    }

    #[test]
    fn an_upcall_is_read() {
        let key = raw(&[KeyAttr::InPort(DpPort(3)), KeyAttr::SkbMark(7), KeyAttr::Ethernet(ETHERNET)]);
        let frame = frame();
        let datagram = message(cmd::ACTION, 7, |attrs| {
            attrs.put(attr::KEY, &key);
            attrs.put(attr::USERDATA, &[1, 2, 3]);
            attrs.put(attr::EGRESS_TUN_KEY, &[]);
            attrs.nest(attr::ACTIONS, |nest| Action::Output(DpPort(1)).encode(nest));
            attrs.put_u16(attr::MRU, 1400);
            attrs.put_u32(attr::LEN, 1500);
            attrs.put_u64(attr::HASH, 5);
            attrs.put(attr::PACKET, &frame);
        });
        assert_eq!(peek_port(&datagram), Some(DpPort(3)));
        let actions = raw(&[]).into_iter().chain([8, 0, 1, 0, 1, 0, 0, 0]).collect::<Vec<_>>();
        let expected = Incoming {
            action: true,
            dp: 7,
            packet: &frame,
            key: &key,
            userdata: Some(&[1, 2, 3]),
            actions: Some(&actions),
            egress_tunnel: Some(&[]),
            len: Some(1500),
            mru: 1400,
            hash: 5,
        };
        assert_eq!(decode(FAMILY, &first(&datagram)), Ok(expected));
        // Metadata is the kernel's, the rest the packet's.
        let (key, _) = key_of(&key, &frame, MAX_VLANS).unwrap();
        assert_eq!((key.in_port, key.pkt_mark, key.dl_type.get()), (3, 7, 0x1234));
        assert_eq!((key.dl_src, key.dl_dst), (ETHERNET.src, ETHERNET.dst));
    }

    #[test]
    fn a_packet_without_ethernet_header_has_its_type_from_the_key() {
        let key = raw(&[KeyAttr::InPort(DpPort(3)), KeyAttr::Ethertype(ethertype::IPV4.into())]);
        let (key, _) = key_of(&key, &[0x45; 20], MAX_VLANS).unwrap();
        assert_eq!(key.packet_type.get(), 1 << 16 | u32::from(ethertype::IPV4));
    }

    #[test]
    fn tags_beyond_the_limit_are_not_looked_at() {
        let key = raw(&[KeyAttr::InPort(DpPort(3)), KeyAttr::Ethernet(ETHERNET)]);
        let tags = [0x88, 0xa8, 0x0f, 0xfe, 0x81, 0x00, 0, 100, 0x12, 0x34, 9, 9];
        let frame = [&ETHERNET.dst[..], &ETHERNET.src, &tags].concat();
        let seen = |limit| {
            let (key, _) = key_of(&key, &frame, limit).unwrap();
            (key.vlans.map(|vlan| vlan.tpid.get()), key.dl_type.get())
        };
        assert_eq!(seen(MAX_VLANS), ([0x88a8, 0x8100], 0x1234));
        assert_eq!(seen(1), ([0x88a8, 0], 0x8100));
    }

    #[test]
    fn bad_upcalls_are_refused() {
        let read = |command, fill: &dyn Fn(&mut Writer)| {
            decode(FAMILY, &first(&message(command, 7, |attrs| fill(attrs)))).unwrap_err().to_string()
        };
        let missing = |attrs: &mut Writer| attrs.put(attr::KEY, &[]);
        assert_eq!(read(cmd::MISS, &missing), "attribute 1 is missing in the attribute at offset 24");
        assert_eq!(read(9, &missing), "netlink message at offset 0 has unexpected type 28 or command 9");
        let short = |attrs: &mut Writer| {
            attrs.put(attr::PACKET, &[]);
            attrs.put(attr::KEY, &[]);
            attrs.put_u32(attr::MRU, 1);
        };
        assert_eq!(read(cmd::MISS, &short), "attribute 9 at offset 32 has 4 bytes of payload instead of 2");
        assert_eq!(peek_port(&message(cmd::MISS, 7, |attrs| attrs.put(attr::KEY, &[]))), None);
        assert!(key_of(&[9, 0, 3], &[], MAX_VLANS).is_err());
    }

    #[test]
    fn an_execution_is_written_as_the_kernel_wants_it() {
        let key = Key { in_port: 3, pkt_mark: 7, ct_state: 0x21, ct_zone: 5, ..Key::default() };
        let actions = [Action::Output(DpPort(4))];
        let execute =
            Execute { packet: &[1, 2, 3], key: &key, actions: &actions, probe: true, mtu: 1400, hash: 9 };
        let mut batch = Batch::default();
        push_execute(&mut batch, FAMILY, 7, &execute);
        let message = first(batch.bytes());
        assert_eq!(message.flags, netlink::flag::REQUEST);
        let (command, dp, attrs) = FAMILY.open(&message).unwrap();
        assert_eq!((command, dp), (cmd::EXECUTE, 7));
        let metadata = raw(&[
            KeyAttr::Priority(0),
            KeyAttr::SkbMark(7),
            KeyAttr::CtState(0x21),
            KeyAttr::CtZone(5),
            KeyAttr::InPort(DpPort(3)),
        ]);
        let written: Vec<_> = attrs.map(|attr| attr.unwrap()).map(|attr| (attr.kind, attr.data)).collect();
        let expected: [(u16, &[u8]); 6] = [
            (attr::PACKET, &[1, 2, 3]),
            (attr::KEY, &metadata),
            (attr::ACTIONS, &[8, 0, 1, 0, 4, 0, 0, 0]),
            (attr::PROBE, &[]),
            (attr::MRU, &1400u16.to_ne_bytes()),
            (attr::HASH, &9u64.to_ne_bytes()),
        ];
        assert_eq!(written, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn arbitrary_upcalls_do_not_panic(
            attrs in proptest::collection::vec((1..12u16, proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
            tail in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let datagram = message(cmd::ACTION, 7, |writer| {
                attrs.iter().for_each(|(kind, payload)| writer.put(*kind, payload));
                put_raw(writer, &tail);
            });
            peek_port(&datagram);
            if let Ok(incoming) = decode(FAMILY, &first(&datagram)) {
                let _ = key_of(incoming.key, incoming.packet, MAX_VLANS);
                let _ = incoming.egress_tunnel.and_then(read_tunnel);
                let _ = incoming.actions.map(Action::decode_all);
            }
        }

        #[test]
        fn arbitrary_datagrams_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            peek_port(&bytes);
        }
    }
}
