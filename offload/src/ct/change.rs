//! What actions make of what packets look like.
//!
//! Only of packets that are tracked: IP, with no header between Ethernet and IP but VLAN tags.

use datapath::user::program::all_ones;
use flow::action::Action;
use flow::hash;
use flow::key::{Key, VLAN_CFI, Vlan};
use flow::odp::KeyAttr;
use flow::proto::{ethertype, ip};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What an action does to packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// They go on as they were.
    None,
    /// Their headers are others.
    Headers,
    /// Their VLAN tags are, so that what is looked at later is not where it was.
    Tags,
    /// What only the datapath knows of them is another: devices need not know.
    Metadata,
}

/// Does to a key what an action does to packets.
///
/// # Errors
/// A key does not tell what becomes of packets; the name of the action.
pub fn change(action: &Action, key: &mut Key) -> Result<Change, &'static str> {
    match action {
        Action::Output(_)
        | Action::LbOutput(_)
        | Action::Meter(_)
        | Action::Userspace(_)
        | Action::Sample { .. }
        | Action::Psample { .. }
        | Action::Clone(_) => Ok(Change::None),
        Action::Set(value) => set(key, value, &all_ones(value)).ok_or("set"),
        Action::SetMasked(value, mask) => set(key, value, mask).ok_or("set"),
        Action::PushVlan(vlan) => push_vlan(key, *vlan).ok_or("push_vlan"),
        Action::PopVlan => {
            key.vlans.rotate_left(1);
            key.vlans[key.vlans.len() - 1] = Vlan::default();
            Ok(Change::Tags)
        }
        Action::Hash { alg, basis } => {
            key.dp_hash = hash::datapath(key, *alg, *basis);
            Ok(Change::Metadata)
        }
        Action::Ct(_) => Err("ct"),
        Action::CtClear => Err("ct_clear"),
        Action::Recirc(_) => Err("recirc"),
        Action::PushMpls { .. } => Err("push_mpls"),
        Action::AddMpls { .. } => Err("add_mpls"),
        Action::PopMpls(_) => Err("pop_mpls"),
        Action::Trunc(_) => Err("trunc"),
        Action::PushEth { .. } => Err("push_eth"),
        Action::PopEth => Err("pop_eth"),
        Action::PushNsh(_) => Err("push_nsh"),
        Action::PopNsh => Err("pop_nsh"),
        Action::CheckPktLen { .. } => Err("check_pkt_len"),
        Action::DecTtl(_) => Err("dec_ttl"),
        Action::Drop(_) => Err("drop"),
        Action::TunnelPush(_) => Err("tnl_push"),
        Action::TunnelPop(_) => Err("tnl_pop"),
        Action::Unknown(..) => Err("of an unknown number"),
    }
}

/// Whether packets, or copies of them, are tracked or recirculated within other actions.
pub fn hides(action: &Action) -> bool {
    let tracks = |action: &Action| {
        matches!(action, Action::Ct(_) | Action::CtClear | Action::Recirc(_)) || hides(action)
    };
    match action {
        Action::Clone(actions) | Action::Sample { actions, .. } | Action::DecTtl(actions) => {
            actions.iter().any(tracks)
        }
        Action::CheckPktLen { greater, less_equal, .. } => greater.iter().chain(less_equal).any(tracks),
        _ => false,
    }
}

/// With a second tag, packets may be more than the datapath looks into.
fn push_vlan(key: &mut Key, vlan: Vlan) -> Option<Change> {
    if key.vlans[0].tci.get() & VLAN_CFI != 0 {
        return None;
    }
    key.vlans[0] = Vlan { tpid: vlan.tpid, tci: (vlan.tci.get() | VLAN_CFI).into() };
    Some(Change::Tags)
}

/// Sets the bits of a field that a mask has.
fn put<T: IntoBytes + FromBytes + Immutable>(field: &mut T, value: &T, mask: &T) {
    let bits = value.as_bytes().iter().zip(mask.as_bytes());
    for (byte, (value, mask)) in field.as_mut_bytes().iter_mut().zip(bits) {
        *byte = *byte & !mask | value & mask;
    }
}

fn set(key: &mut Key, value: &KeyAttr, mask: &KeyAttr) -> Option<Change> {
    use KeyAttr as K;
    let (dl_type, proto) = (key.dl_type.get(), key.nw_proto);
    match (value, mask) {
        (K::Priority(value), K::Priority(mask)) => {
            put(&mut key.skb_priority, value, mask);
            return Some(Change::Metadata);
        }
        (K::SkbMark(value), K::SkbMark(mask)) => {
            put(&mut key.pkt_mark, value, mask);
            return Some(Change::Metadata);
        }
        (K::DpHash(value), K::DpHash(mask)) => {
            put(&mut key.dp_hash, value, mask);
            return Some(Change::Metadata);
        }
        (K::Ethernet(value), K::Ethernet(mask)) => {
            put(&mut key.dl_src, &value.src, &mask.src);
            put(&mut key.dl_dst, &value.dst, &mask.dst);
        }
        (K::Vlan(value), K::Vlan(mask)) if key.vlans[0].tci.get() & VLAN_CFI != 0 => {
            put(&mut key.vlans[0].tci, value, &(mask.get() & !VLAN_CFI).into());
        }
        (K::Ipv4(value), K::Ipv4(mask)) if dl_type == ethertype::IPV4 => {
            put(&mut key.nw_src, &value.src, &mask.src);
            put(&mut key.nw_dst, &value.dst, &mask.dst);
            put(&mut key.nw_tos, &value.tos, &mask.tos);
            put(&mut key.nw_ttl, &value.ttl, &mask.ttl);
        }
        (K::Ipv6(value), K::Ipv6(mask)) if dl_type == ethertype::IPV6 => {
            put(&mut key.ipv6_src, &value.src, &mask.src);
            put(&mut key.ipv6_dst, &value.dst, &mask.dst);
            put(&mut key.ipv6_label, &value.label, &(mask.label.get() & 0xf_ffff).into());
            put(&mut key.nw_tos, &value.tclass, &mask.tclass);
            put(&mut key.nw_ttl, &value.hlimit, &mask.hlimit);
        }
        (K::Tcp(value), K::Tcp(mask)) if proto == ip::TCP => ports(key, value, mask),
        (K::Udp(value), K::Udp(mask)) if proto == ip::UDP => ports(key, value, mask),
        _ => return None,
    }
    Some(Change::Headers)
}

fn ports(key: &mut Key, value: &flow::odp::PortsKey, mask: &flow::odp::PortsKey) {
    put(&mut key.tp_src, &value.src, &mask.src);
    put(&mut key.tp_dst, &value.dst, &mask.dst);
}

#[cfg(test)]
mod tests {
    use flow::action::parse;
    use flow::extract::{Metadata, extract};
    use flow::odp::NoNames;
    use flow::packet::{self, Buffer, Frame, SetIpv4, SetIpv6};
    use proptest::prelude::*;

    use super::*;

    fn actions(text: &str) -> Vec<Action> {
        parse::actions(text, &NoNames).unwrap()
    }

    fn frame(v6: bool, tcp: bool, tag: bool) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if tag {
            frame.extend([0x81, 0, 0x20, 7]);
        }
        let (proto, len) = if tcp { (6, 20) } else { (17, 12) };
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 5, 0, len, proto, 64]);
            frame.extend([0xfd; 16]);
            frame.extend([0xfe; 16]);
        } else {
            frame.extend([
                8,
                0,
                0x45,
                0,
                0,
                20 + len,
                0,
                0,
                0x40,
                0,
                64,
                proto,
                0,
                0,
                10,
                0,
                0,
                1,
                10,
                0,
                0,
                2,
            ]);
        }
        let l4 = frame.len();
        frame.extend([0x10, 0, 0x20, 0]);
        frame.resize(l4 + usize::from(len), 0);
        if tcp {
            frame[l4 + 12..l4 + 14].copy_from_slice(&[0x50, 0x10]);
        } else {
            frame[l4 + 5] = len;
        }
        frame
    }

    fn key_of(frame: &[u8]) -> (Key, flow::extract::Layout) {
        let mut key = Key::default();
        let layout = extract(frame, &Metadata { in_port: 1, ..Metadata::default() }, &mut key);
        (key, layout)
    }

    /// Changes the bytes of a frame, as the datapath does.
    fn edit(frame: &mut Frame, action: &Action) {
        let (key, mut layout) = key_of(frame.bytes());
        let (value, mask) = match action {
            Action::SetMasked(value, mask) => (value.clone(), mask.clone()),
            Action::Set(value) => (value.clone(), all_ones(value)),
            Action::PushVlan(vlan) => {
                return packet::push_vlan(frame, &mut layout, vlan.tpid.get(), vlan.tci.get());
            }
            Action::PopVlan => return packet::pop_vlan(frame, &mut layout),
            other => panic!("{other:?}"),
        };
        use KeyAttr as K;
        match (value, mask) {
            (K::Ethernet(v), K::Ethernet(m)) => packet::set_ethernet(frame, (v.src, m.src), (v.dst, m.dst)),
            (K::Vlan(v), K::Vlan(m)) => packet::set_vlan(frame, v.get(), m.get()),
            (K::Ipv4(v), K::Ipv4(m)) => {
                let new = SetIpv4 {
                    src: (v.src.get(), m.src.get()),
                    dst: (v.dst.get(), m.dst.get()),
                    tos: (v.tos, m.tos),
                    ttl: (v.ttl, m.ttl),
                };
                packet::set_ipv4(frame, &layout, &new);
            }
            (K::Ipv6(v), K::Ipv6(m)) => {
                let new = SetIpv6 {
                    src: (v.src, m.src),
                    dst: (v.dst, m.dst),
                    label: (v.label.get(), m.label.get()),
                    tclass: (v.tclass, m.tclass),
                    hlimit: (v.hlimit, m.hlimit),
                };
                packet::set_ipv6(frame, &layout, &new, key.nw_proto, false);
            }
            (K::Tcp(v), K::Tcp(m)) | (K::Udp(v), K::Udp(m)) => {
                let (src, dst) = ((v.src.get(), m.src.get()), (v.dst.get(), m.dst.get()));
                packet::set_ports(frame, &layout, key.nw_proto, src, dst);
            }
            other => panic!("{other:?}"),
        }
    }

    const ACTIONS: &[&str] = &[
        "set(eth(src=02:00:00:00:00:aa,dst=02:00:00:00:00:bb))",
        "set(eth(dst=02:00:00:00:00:00/ff:00:00:00:00:ff))",
        "set(ipv4(src=10.9.8.7,ttl=9))",
        "set(ipv4(dst=10.9.0.0/255.255.0.0,tos=0x10/0xfc))",
        "set(ipv6(dst=fd00::9,label=0x77,tclass=0x10,hlimit=3))",
        "set(ipv6(src=fd00::/ffff::))",
        "set(tcp(src=99))",
        "set(udp(dst=0x12/0xff))",
        "push_vlan(vid=9,pcp=3)",
        "pop_vlan",
        "set(vlan(vid=5,pcp=1))",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn keys_change_as_frames_do(
            (v6, tcp, tag) in any::<(bool, bool, bool)>(),
            which in proptest::collection::vec(proptest::sample::select(ACTIONS), 1..5),
        ) {
            let bytes = frame(v6, tcp, tag);
            let (mut key, _) = key_of(&bytes);
            prop_assert_ne!(key.nw_proto, 0);
            let mut frame = Frame::new(&bytes);
            for action in which.iter().flat_map(|text| actions(text)) {
                // What the packet does not have is not set; nothing says what is done to a tag that is not there.
                if let Ok(Change::Headers | Change::Tags) = change(&action, &mut key) {
                    edit(&mut frame, &action);
                }
            }
            prop_assert_eq!(key, key_of(frame.bytes()).0);
        }
    }

    #[test]
    fn what_a_key_does_not_tell_has_a_name() {
        let (key, _) = key_of(&frame(false, true, true));
        let of = |text: &str| change(&actions(text)[0], &mut key.clone());
        assert_eq!(of("push_vlan(vid=9,pcp=3)"), Err("push_vlan"));
        assert_eq!(of("set(udp(src=3))"), Err("set"));
        assert_eq!(of("trunc(100)"), Err("trunc"));
        assert_eq!(of("check_pkt_len(size=9,gt(1),le(2))"), Err("check_pkt_len"));
        assert_eq!([of("2"), of("meter(1)"), of("clone(2)")], [Ok(Change::None); 3]);
        assert_eq!([of("set(skb_mark(0x5))"), of("hash(l4(0))")], [Ok(Change::Metadata); 2]);
        let hidden = |text: &str| hides(&actions(text)[0]);
        assert!(
            hidden("clone(ct(commit),2)") && hidden("check_pkt_len(size=9,gt(clone(recirc(0x1))),le(2))")
        );
        assert!(!hidden("clone(2)") && !hidden("ct(commit)"));
    }
}
