//! Metadata of a packet that a datapath hands up, read in one go from what most keys are: metadata, Ethernet, and at most IP or
//! ARP with what these call for.
//!
//! The packet comes with its key and says everything but the metadata itself. So of the rest of the key it is only asked whether
//! it is what the packet's protocols call for; what is not so, or not so simple, is for [`read_key`](super::read_key).

use super::attrs::{
    ArpKey, CtTuple4Key, CtTuple6Key, EthernetKey, IcmpKey, Ipv4Key, Ipv6Key, PortsKey, code,
};
use super::convert;
use crate::attr::{Attrs, HEADER, align};
use crate::extract::{CtTuple, Metadata};
use crate::id::DpPort;
use crate::key::frag;
use crate::proto::{ethertype, icmp6, ip};
use zerocopy::big_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// What every packet may have, without that anything calls for it.
const FREE: u32 = 1 << code::RECIRC_ID
    | 1 << code::DP_HASH
    | 1 << code::PRIORITY
    | 1 << code::IN_PORT
    | 1 << code::SKB_MARK
    | 1 << code::CT_STATE
    | 1 << code::CT_ZONE
    | 1 << code::CT_MARK
    | 1 << code::CT_LABELS
    | 1 << code::CT_ORIG_TUPLE_IPV4
    | 1 << code::CT_ORIG_TUPLE_IPV6;

/// What the frame's attributes say that decides which of them there should be.
#[derive(Default)]
struct Frame {
    dl_type: u16,
    proto: u8,
    /// `frag::*`.
    frag: u8,
    icmp: u16,
}

/// The metadata that `attrs` say, if they are a simple key of a frame that has all it should and nothing else
/// ([`Fitness::Perfect`](super::Fitness::Perfect)).
pub fn read_metadata(attrs: Attrs<'_>) -> Option<Metadata> {
    let mut meta = Metadata { in_port: DpPort::NONE.0, ..Metadata::default() };
    let mut frame = Frame::default();
    let mut present = 0_u32;
    let mut rest = attrs.rest();
    while let Some((&[len0, len1, kind0, kind1], _)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_ne_bytes([len0, len1]));
        let kind = u16::from_ne_bytes([kind0, kind1]);
        let data = rest.get(HEADER..len)?;
        // Flags of the type make it one that is not known.
        let bit = 1_u32.checked_shl(kind.into())?;
        if present & bit != 0 {
            return None;
        }
        present |= bit;
        if bit & FREE != 0 {
            metadata(kind, data, &mut meta)?;
        } else {
            frame.read(kind, data)?;
        }
        rest = rest.get(align(len)..)?;
    }
    if !rest.is_empty() {
        return None;
    }
    let tuple_fits = match meta.ct_tuple {
        None => true,
        Some(CtTuple::V4 { .. }) => frame.dl_type == ethertype::IPV4,
        Some(CtTuple::V6 { .. }) => frame.dl_type == ethertype::IPV6,
    };
    let two = 1 << code::CT_ORIG_TUPLE_IPV4 | 1 << code::CT_ORIG_TUPLE_IPV6;
    let perfect = present & !FREE == frame.called_for(present)?;
    (perfect && tuple_fits && present & two != two).then_some(meta)
}

/// A payload of exactly the size of a structure.
fn read<T: FromBytes + Immutable + KnownLayout>(data: &[u8]) -> Option<T> {
    T::read_from_bytes(data).ok()
}

fn metadata(kind: u16, data: &[u8], meta: &mut Metadata) -> Option<()> {
    match kind {
        code::RECIRC_ID => meta.recirc_id = read(data)?,
        code::DP_HASH => meta.dp_hash = read(data)?,
        code::PRIORITY => meta.skb_priority = read(data)?,
        code::IN_PORT => meta.in_port = read(data)?,
        code::SKB_MARK => meta.pkt_mark = read(data)?,
        code::CT_STATE => meta.ct_state = read::<u32>(data)? as u8,
        code::CT_ZONE => meta.ct_zone = read(data)?,
        code::CT_MARK => meta.ct_mark = read(data)?,
        code::CT_LABELS => meta.ct_label = convert::label_from_odp(read(data)?),
        code::CT_ORIG_TUPLE_IPV4 => {
            let CtTuple4Key { src, dst, src_port, dst_port, proto, .. } = read(data)?;
            let (tp_src, tp_dst) = (src_port.get(), dst_port.get());
            let tuple = CtTuple::V4 { src: src.get(), dst: dst.get(), tp_src, tp_dst, proto };
            meta.ct_tuple = (proto != 0).then_some(tuple);
        }
        code::CT_ORIG_TUPLE_IPV6 => {
            let CtTuple6Key { src, dst, src_port, dst_port, proto, .. } = read(data)?;
            let (tp_src, tp_dst) = (src_port.get(), dst_port.get());
            meta.ct_tuple = (proto != 0).then_some(CtTuple::V6 { src, dst, tp_src, tp_dst, proto });
        }
        _ => return None,
    }
    Some(())
}

impl Frame {
    fn read(&mut self, kind: u16, data: &[u8]) -> Option<()> {
        match kind {
            code::ETHERNET => _ = read::<EthernetKey>(data)?,
            code::ETHERTYPE => self.dl_type = read::<U16>(data)?.get(),
            code::IPV4 => {
                let ip: Ipv4Key = read(data)?;
                (self.proto, self.frag) = (ip.proto, convert::frag_from_odp(ip.frag, false)?);
            }
            code::IPV6 => {
                let ip: Ipv6Key = read(data)?;
                (self.proto, self.frag) = (ip.proto, convert::frag_from_odp(ip.frag, false)?);
            }
            code::ARP => {
                let arp: ArpKey = read(data)?;
                u8::try_from(arp.op.get()).ok()?;
            }
            code::TCP | code::UDP | code::SCTP => _ = read::<PortsKey>(data)?,
            code::TCP_FLAGS => _ = read::<U16>(data)?,
            code::ICMP => _ = read::<IcmpKey>(data)?,
            code::ICMPV6 => {
                self.icmp = u16::from(read::<IcmpKey>(data)?.kind);
            }
            _ => return None,
        }
        Some(())
    }

    /// The attributes beside [`FREE`] ones that a frame like this has, `present` being those that are there; `None` if that is
    /// not so simple to say.
    fn called_for(&self, present: u32) -> Option<u32> {
        const L2: u32 = 1 << code::ETHERNET | 1 << code::ETHERTYPE;
        let l3 = match self.dl_type {
            ethertype::IPV4 => code::IPV4,
            ethertype::IPV6 => code::IPV6,
            ethertype::ARP | ethertype::RARP => return Some(L2 | 1 << code::ARP),
            ethertype::MPLS | ethertype::MPLS_MCAST | ethertype::NSH => return None,
            dl_type if dl_type < ethertype::MIN || ethertype::is_vlan(dl_type) => return None,
            _ => return Some(L2),
        };
        let l3 = L2 | 1 << l3;
        if self.frag & frag::LATER != 0 {
            return Some(l3);
        }
        Some(match (self.proto, self.dl_type) {
            (ip::TCP, _) => l3 | 1 << code::TCP | present & 1 << code::TCP_FLAGS,
            (ip::UDP, _) => l3 | 1 << code::UDP,
            (ip::SCTP, _) => l3 | 1 << code::SCTP,
            (ip::ICMP, ethertype::IPV4) => l3 | 1 << code::ICMP,
            (ip::ICMPV6, ethertype::IPV6) => match self.icmp {
                icmp6::NEIGHBOR_SOLICIT | icmp6::NEIGHBOR_ADVERT => return None,
                _ => l3 | 1 << code::ICMPV6,
            },
            _ => l3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Writer;
    use crate::key::Key;
    use crate::odp::{Fitness, KeyAttr, read_key};
    use proptest::prelude::*;

    fn coded(attrs: &[KeyAttr]) -> Vec<u8> {
        let mut writer = Writer::new();
        attrs.iter().for_each(|attr| attr.encode(&mut writer));
        writer.into_bytes()
    }

    /// As [`read_key`] has it.
    fn slowly(attrs: &[u8]) -> Option<Metadata> {
        let mut key = Key::default();
        let fitness = read_key(Attrs::new(attrs), &mut key).ok()?;
        (fitness == Fitness::Perfect).then(|| Metadata::from_key(&key))
    }

    /// What Linux 6.1 says of a datagram.
    fn datagram() -> Vec<KeyAttr> {
        let ip = Ipv4Key { src: 1.into(), dst: 2.into(), proto: ip::UDP, tos: 0, ttl: 32, frag: 0 };
        let tuple = CtTuple4Key { src: 1.into(), dst: 2.into(), proto: ip::UDP, ..CtTuple4Key::default() };
        vec![
            KeyAttr::RecircId(5),
            KeyAttr::DpHash(6),
            KeyAttr::Priority(7),
            KeyAttr::InPort(DpPort(8)),
            KeyAttr::SkbMark(9),
            KeyAttr::CtState(0x22),
            KeyAttr::CtZone(10),
            KeyAttr::CtMark(11),
            KeyAttr::CtLabels([12; 16]),
            KeyAttr::CtTuple4(tuple),
            KeyAttr::Ethernet(EthernetKey { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2] }),
            KeyAttr::Ethertype(ethertype::IPV4.into()),
            KeyAttr::Ipv4(ip),
            KeyAttr::Udp(PortsKey { src: 1024.into(), dst: 9.into() }),
        ]
    }

    #[test]
    fn what_most_packets_have_is_read() {
        let mut attrs = datagram();
        // With all metadata, and less and less of it.
        for last in (0..10).rev() {
            let bytes = coded(&attrs);
            let meta = read_metadata(Attrs::new(&bytes));
            assert!(meta.is_some() && meta == slowly(&bytes));
            attrs.remove(last);
        }
    }

    fn attr() -> impl Strategy<Value = KeyAttr> {
        let proto = || prop::sample::select(vec![0, ip::TCP, ip::UDP, ip::SCTP, ip::ICMP, ip::ICMPV6]);
        let ports = PortsKey { src: 1.into(), dst: 2.into() };
        prop_oneof![
            4 => prop::sample::select(datagram()),
            2 => prop::sample::select(vec![0x800, 0x86dd, 0x806, 0x8100, 0x8847, 0x894f, 0x88cc, 5_u16])
                .prop_map(|kind| KeyAttr::Ethertype(kind.into())),
            2 => (proto(), 0_u8..4).prop_map(|(proto, frag)| KeyAttr::Ipv4(Ipv4Key { proto, frag, ..Ipv4Key::default() })),
            2 => (proto(), 0_u8..4).prop_map(|(proto, frag)| KeyAttr::Ipv6(Ipv6Key { proto, frag, ..Ipv6Key::default() })),
            1 => any::<u16>().prop_map(|op| KeyAttr::Arp(ArpKey { op: (op & 0x1ff).into(), ..ArpKey::default() })),
            1 => proto().prop_map(|proto| KeyAttr::CtTuple6(CtTuple6Key { proto, ..CtTuple6Key::default() })),
            1 => prop::sample::select(vec![KeyAttr::Tcp(ports), KeyAttr::Sctp(ports), KeyAttr::TcpFlags(2.into())]),
            1 => prop::sample::select(vec![3_u8, 135])
                .prop_map(|kind| KeyAttr::Icmpv6(IcmpKey { kind, code: 0 })),
            1 => any::<u8>().prop_map(|kind| KeyAttr::Icmp(IcmpKey { kind, code: 0 })),
            1 => Just(KeyAttr::Vlan(0x1001.into())),
        ]
    }

    /// A key with what it should have, in any order, and some that have not.
    fn attrs() -> impl Strategy<Value = Vec<KeyAttr>> {
        let changes = prop::collection::vec((attr(), any::<prop::sample::Index>()), 0..6);
        (changes, any::<bool>()).prop_flat_map(|(changes, shuffle)| {
            let mut attrs = datagram();
            for (attr, at) in changes {
                let code = attr.code();
                match attrs.iter().position(|old| old.code() == code) {
                    Some(place) => attrs[place] = attr,
                    None => attrs.push(attr),
                }
                if attrs.len() > 1 && at.index(3) == 0 {
                    attrs.remove(at.index(attrs.len()));
                }
            }
            if shuffle { Just(attrs).prop_shuffle().boxed() } else { Just(attrs).boxed() }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_what_the_long_way_gives(attrs in attrs(), cut in prop::option::weighted(0.1, 0..200_usize)) {
            let mut bytes = coded(&attrs);
            bytes.truncate(cut.unwrap_or(usize::MAX));
            if let Some(meta) = read_metadata(Attrs::new(&bytes)) {
                prop_assert!(Some(meta) == slowly(&bytes));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(meta) = read_metadata(Attrs::new(&bytes)) {
                prop_assert!(Some(meta) == slowly(&bytes));
            }
        }
    }
}
