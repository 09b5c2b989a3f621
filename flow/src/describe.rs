//! The text of keys and matches as OVS prints them.
//!
//! [`match_to_string`] is what flow dumps and `Megaflow:` show, [`key_to_string`] what `Flow:` of a trace and packet-ins show.

use std::fmt::{Display, Write};

use crate::field::{
    Field, PortNames, ct_state_name, format_flags, format_flags_masked, format_packet_type, format_port,
    put_ethernet, put_ipv4, put_ipv6, tcp_flag_name, tnl_flag_name,
};
use crate::key::{Key, Mask, Nsh, Tunnel, VLAN_CFI, frag, tnl_flags};
use crate::mini::FullMatch;
use crate::proto::{self, ethertype, icmp6, ip};

/// The priority that is not printed.
pub const DEFAULT_PRIORITY: u16 = 32768;

/// The text of a match, with its priority if one is given that is not the default.
pub fn match_to_string(m: &FullMatch, priority: Option<u16>, names: &dyn PortNames) -> String {
    let mut w =
        Writer { out: String::new(), key: &m.key, mask: &m.mask.0, names, dl_type: m.key.dl_type.get() };
    if let Some(priority) = priority.filter(|&p| p != DEFAULT_PRIORITY) {
        w.put("priority", priority);
    }
    w.metadata(m);
    let (named_type, named_proto) = w.protocol();
    w.pipeline(m);
    w.l2(named_type);
    w.l3(named_proto);
    w.l4();
    w.out.truncate(w.out.trim_end_matches(',').len());
    w.out
}

/// The text of a key: of what a packet of its kind has, and of the metadata that is not zero.
pub fn key_to_string(key: &Key, names: &dyn PortNames) -> String {
    let mut mask = crate::wildcards::for_packet(key);
    let m = &mut mask.0;
    m.metadata = u64::MAX.into();
    if key.in_port == 0 {
        m.in_port = 0;
    }
    for field in [
        Field::SkbPriority,
        Field::PktMark,
        Field::RecircId,
        Field::DpHash,
        Field::CtState,
        Field::CtZone,
        Field::CtMark,
        Field::CtLabel,
        Field::Metadata,
    ] {
        if field.get(key).is_zero() {
            field.set(m, &crate::field::Value::zero(field.n_bytes()));
        }
    }
    let tracked = Field::CtNwProto.match_prereqs_ok(&FullMatch { key: *key, mask: Mask(*m) });
    if !tracked || key.ct_nw_proto == 0 {
        (m.ct_nw_proto, m.ct_tp_src, m.ct_tp_dst) = (0, 0.into(), 0.into());
        if key.dl_type.get() == ethertype::IPV4 {
            (m.ct_nw_src, m.ct_nw_dst) = (0.into(), 0.into());
        } else if key.dl_type.get() == ethertype::IPV6 {
            (m.ct_ipv6_src, m.ct_ipv6_dst) = ([0; 16], [0; 16]);
        }
    }
    for (mask, &reg) in m.regs.iter_mut().zip(&key.regs) {
        *mask = if reg == 0 { 0 } else { u32::MAX };
    }
    match_to_string(&FullMatch::new(key, &mask), None, names)
}

struct Writer<'a> {
    out: String,
    key: &'a Key,
    mask: &'a Key,
    names: &'a dyn PortNames,
    dl_type: u16,
}

/// As C's `%#x`: no prefix for zero.
fn alt_hex(v: u64) -> String {
    if v == 0 { "0".into() } else { format!("{v:#x}") }
}

impl Writer<'_> {
    fn put(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.out, "{name}={value},");
    }

    fn put_if(&mut self, wanted: bool, name: &str, value: impl Display) {
        if wanted {
            self.put(name, value);
        }
    }

    /// Hexadecimal, with a mask unless `exact`.
    fn hex(&mut self, name: &str, value: u64, mask: u64, exact: u64) {
        match mask {
            0 => {}
            mask if mask == exact => self.put(name, alt_hex(value)),
            mask => self.put(name, format_args!("{}/{}", alt_hex(value), alt_hex(mask))),
        }
    }

    fn hex32(&mut self, name: &str, value: u32, mask: u32) {
        self.hex(name, value.into(), mask.into(), u32::MAX.into());
    }

    /// Decimal, or hexadecimal with a mask.
    fn dec16(&mut self, name: &str, value: u16, mask: u16) {
        match mask {
            0 => {}
            u16::MAX => self.put(name, value),
            mask => self.put(name, format_args!("0x{value:x}/0x{mask:x}")),
        }
    }

    fn dec8(&mut self, name: &str, value: u8, mask: u8) {
        match mask {
            0 => {}
            u8::MAX => self.put(name, value),
            mask => self.put(name, format_args!("0x{value:02x}/0x{mask:02x}")),
        }
    }

    fn dec32(&mut self, name: &str, value: u32, mask: u32) {
        match mask {
            0 => {}
            u32::MAX => self.put(name, value),
            mask => self.put(name, format_args!("0x{value:08x}/0x{mask:08x}")),
        }
    }

    fn with(&mut self, wanted: bool, name: &str, put: impl FnOnce(&mut String)) {
        if wanted {
            let _ = write!(self.out, "{name}=");
            put(&mut self.out);
            self.out.push(',');
        }
    }

    fn ipv4(&mut self, name: &str, value: u32, mask: u32) {
        self.with(mask != 0, name, |out| put_ipv4(value, mask, out));
    }

    fn ipv6(&mut self, name: &str, value: [u8; 16], mask: [u8; 16]) {
        let mask = u128::from_be_bytes(mask);
        self.with(mask != 0, name, |out| put_ipv6(u128::from_be_bytes(value), mask, out));
    }

    fn eth(&mut self, name: &str, value: [u8; 6], mask: [u8; 6]) {
        self.with(mask != [0; 6], name, |out| put_ethernet(&value, Some(&mask), out));
    }

    fn port(&mut self, name: &str, port: u32) {
        let names = self.names;
        self.with(true, name, |out| format_port((port as u16).into(), names, out));
    }

    fn metadata(&mut self, full: &FullMatch) {
        let (k, m) = (self.key, self.mask);
        self.hex32("pkt_mark", k.pkt_mark, m.pkt_mark);
        self.hex32("recirc_id", k.recirc_id, m.recirc_id);
        self.hex32("dp_hash", k.dp_hash, m.dp_hash);
        self.put_if(m.conj_id != 0, "conj_id", k.conj_id);
        self.put_if(m.skb_priority != 0, "skb_priority", alt_hex(k.skb_priority.into()));
        if m.actset_output != 0 {
            self.port("actset_output", k.actset_output);
        }
        if m.ct_state != 0 {
            let (state, mask) = (k.ct_state.into(), m.ct_state.into());
            self.put("ct_state", format_flags_masked(state, mask, 0xff, ct_state_name));
        }
        self.dec16("ct_zone", k.ct_zone, m.ct_zone);
        self.hex32("ct_mark", k.ct_mark, m.ct_mark);
        if m.ct_label != [0; 16] {
            let mask = Field::CtLabel.get(m);
            let mut text = Field::CtLabel.get(k).hex();
            if !mask.is_ones() {
                let _ = write!(text, "/{}", mask.hex());
            }
            self.put("ct_label", text);
        }
        self.ipv4("ct_nw_src", k.ct_nw_src.get(), m.ct_nw_src.get());
        self.ipv6("ct_ipv6_src", k.ct_ipv6_src, m.ct_ipv6_src);
        self.ipv4("ct_nw_dst", k.ct_nw_dst.get(), m.ct_nw_dst.get());
        self.ipv6("ct_ipv6_dst", k.ct_ipv6_dst, m.ct_ipv6_dst);
        if m.ct_nw_proto != 0 {
            self.put("ct_nw_proto", k.ct_nw_proto);
            self.dec16("ct_tp_src", k.ct_tp_src.get(), m.ct_tp_src.get());
            self.dec16("ct_tp_dst", k.ct_tp_dst.get(), m.ct_tp_dst.get());
        }
        let (pt, pt_mask) = (k.packet_type.get(), m.packet_type.get());
        let default = pt == proto::PT_ETH && pt_mask == u32::MAX;
        if pt_mask != 0 && (!default || full.mask.0.recirc_id != 0) {
            self.out.push_str(&format_packet_type(pt, pt_mask));
            self.out.push(',');
            if pt >> 16 == proto::PT_NS_ETHERTYPE {
                self.dl_type = pt as u16;
            }
        }
    }

    /// The abbreviation of EtherType and protocol (`tcp6`); gives whether it names the type and the protocol.
    fn protocol(&mut self) -> (bool, bool) {
        let (k, m) = (self.key, self.mask);
        if m.dl_type.get() == 0 {
            return (false, false);
        }
        let proto = (m.nw_proto != 0).then_some(k.nw_proto);
        let (name, named_proto) = match (self.dl_type, proto) {
            (ethertype::IPV4, Some(ip::ICMP)) => ("icmp", true),
            (ethertype::IPV4, Some(ip::TCP)) => ("tcp", true),
            (ethertype::IPV4, Some(ip::UDP)) => ("udp", true),
            (ethertype::IPV4, Some(ip::SCTP)) => ("sctp", true),
            (ethertype::IPV4, _) => ("ip", false),
            (ethertype::IPV6, Some(ip::ICMPV6)) => ("icmp6", true),
            (ethertype::IPV6, Some(ip::TCP)) => ("tcp6", true),
            (ethertype::IPV6, Some(ip::UDP)) => ("udp6", true),
            (ethertype::IPV6, Some(ip::SCTP)) => ("sctp6", true),
            (ethertype::IPV6, _) => ("ipv6", false),
            (ethertype::ARP, _) => ("arp", false),
            (ethertype::RARP, _) => ("rarp", false),
            (ethertype::MPLS, _) => ("mpls", false),
            (ethertype::MPLS_MCAST, _) => ("mplsm", false),
            _ => return (false, false),
        };
        let _ = write!(self.out, "{name},");
        (true, named_proto)
    }

    fn pipeline(&mut self, full: &FullMatch) {
        let (k, m) = (self.key, self.mask);
        for (i, (&reg, &mask)) in k.regs.iter().zip(&m.regs).enumerate() {
            self.hex32(&format!("reg{i}"), reg, mask);
        }
        self.tunnel(&k.tunnel, &m.tunnel);
        for (name, text) in crate::tlv::option_texts(full) {
            match text {
                Some(text) => self.put(&name, text),
                None => {
                    let _ = write!(self.out, "{name},");
                }
            }
        }
        self.hex("metadata", k.metadata.get(), m.metadata.get(), u64::MAX);
        if m.in_port != 0 {
            self.port("in_port", k.in_port);
        }
    }

    fn tunnel(&mut self, t: &Tunnel, m: &Tunnel) {
        self.hex("tun_id", t.id.get(), m.id.get(), u64::MAX);
        self.ipv4("tun_src", t.ip_src.get(), m.ip_src.get());
        self.ipv4("tun_dst", t.ip_dst.get(), m.ip_dst.get());
        self.ipv6("tun_ipv6_src", t.ipv6_src, m.ipv6_src);
        self.ipv6("tun_ipv6_dst", t.ipv6_dst, m.ipv6_dst);
        self.dec16("tun_gbp_id", t.gbp_id.get(), m.gbp_id.get());
        self.put_if(m.gbp_flags != 0, "tun_gbp_flags", alt_hex(t.gbp_flags.into()));
        self.put_if(m.tos != 0, "tun_tos", format_args!("{:x}", t.tos));
        self.put_if(m.ttl != 0, "tun_ttl", t.ttl);
        self.put_if(m.erspan_ver != 0, "tun_erspan_ver", t.erspan_ver);
        self.put_if(m.erspan_idx != 0 && t.erspan_ver == 1, "tun_erspan_idx", alt_hex(t.erspan_idx.into()));
        self.put_if(m.erspan_dir != 0 && t.erspan_ver == 2, "tun_erspan_dir", t.erspan_dir);
        self.put_if(
            m.erspan_hwid != 0 && t.erspan_ver == 2,
            "tun_erspan_hwid",
            alt_hex(t.erspan_hwid.into()),
        );
        self.put_if(m.gtpu_flags != 0, "gtpu_flags", alt_hex(t.gtpu_flags.into()));
        self.put_if(m.gtpu_msgtype != 0, "gtpu_msgtype", t.gtpu_msgtype);
        let (flags, mask, all) = (t.flags & tnl_flags::ALL, m.flags & tnl_flags::ALL, tnl_flags::ALL.into());
        if mask != 0 {
            self.put("tun_flags", format_flags_masked(flags.into(), mask.into(), all, tnl_flag_name));
        }
    }

    fn l2(&mut self, named_type: bool) {
        let (k, m) = (self.key, self.mask);
        for (i, (vlan, mask)) in k.vlans.iter().zip(&m.vlans).enumerate() {
            if mask.tci.get() == 0 {
                break;
            }
            let suffix = if i == 0 { String::new() } else { i.to_string() };
            self.vlan(&suffix, vlan.tci.get(), mask.tci.get());
        }
        self.eth("dl_src", k.dl_src, m.dl_src);
        self.eth("dl_dst", k.dl_dst, m.dl_dst);
        let dl_type = self.dl_type;
        self.put_if(!named_type && m.dl_type.get() != 0, "dl_type", format_args!("0x{dl_type:04x}"));
    }

    fn vlan(&mut self, suffix: &str, tci: u16, mask: u16) {
        let (vid, pcp) = (mask & 0xfff, mask & 0xe000);
        let plain = mask & tci & VLAN_CFI != 0 && matches!(vid, 0 | 0xfff) && matches!(pcp, 0 | 0xe000);
        if plain && (vid | pcp) != 0 {
            self.put_if(vid != 0, &format!("dl_vlan{suffix}"), tci & 0xfff);
            self.put_if(pcp != 0, &format!("dl_vlan_pcp{suffix}"), tci >> 13);
        } else if mask == u16::MAX {
            self.put(&format!("vlan_tci{suffix}"), format_args!("0x{tci:04x}"));
        } else {
            self.put(&format!("vlan_tci{suffix}"), format_args!("0x{tci:04x}/0x{mask:04x}"));
        }
    }

    fn l3(&mut self, named_proto: bool) {
        let (k, m) = (self.key, self.mask);
        let arp = matches!(self.dl_type, ethertype::ARP | ethertype::RARP);
        let (src, dst) = ((k.nw_src.get(), m.nw_src.get()), (k.nw_dst.get(), m.nw_dst.get()));
        match self.dl_type {
            ethertype::IPV6 => {
                self.ipv6("ipv6_src", k.ipv6_src, m.ipv6_src);
                self.ipv6("ipv6_dst", k.ipv6_dst, m.ipv6_dst);
                let (label, mask) = (k.ipv6_label.get(), m.ipv6_label.get());
                match mask {
                    0 => {}
                    u32::MAX => self.put("ipv6_label", format_args!("0x{label:05x}")),
                    mask => self.put("ipv6_label", format_args!("0x{label:05x}/0x{mask:05x}")),
                }
            }
            _ if arp => {
                self.ipv4("arp_spa", src.0, src.1);
                self.ipv4("arp_tpa", dst.0, dst.1);
            }
            ethertype::NSH => self.nsh(&k.nsh, &m.nsh),
            _ => {
                self.ipv4("nw_src", src.0, src.1);
                self.ipv4("nw_dst", dst.0, dst.1);
            }
        }
        self.put_if(!named_proto && m.nw_proto != 0, if arp { "arp_op" } else { "nw_proto" }, k.nw_proto);
        if arp {
            self.eth("arp_sha", k.arp_sha, m.arp_sha);
            self.eth("arp_tha", k.arp_tha, m.arp_tha);
        }
        self.put_if(m.nw_tos & 0xfc != 0, "nw_tos", k.nw_tos & 0xfc);
        self.put_if(m.nw_tos & 0x03 != 0, "nw_ecn", k.nw_tos & 0x03);
        self.put_if(m.nw_ttl != 0, "nw_ttl", k.nw_ttl);
        for (field, name) in [
            (Field::MplsLabel, "mpls_label"),
            (Field::MplsTc, "mpls_tc"),
            (Field::MplsTtl, "mpls_ttl"),
            (Field::MplsBos, "mpls_bos"),
        ] {
            self.put_if(!field.get(m).is_zero(), name, field.get(k).u64());
        }
        for i in 1..3 {
            self.dec32(&format!("mpls_lse{i}"), k.mpls_lse[i].get(), m.mpls_lse[i].get());
        }
        self.frag();
    }

    fn frag(&mut self) {
        let (any, later) = (self.key.nw_frag & frag::ANY != 0, self.key.nw_frag & frag::LATER != 0);
        let name = match (self.mask.nw_frag & frag::MASK, any, later) {
            (frag::MASK, true, true) | (frag::LATER, _, true) => "later",
            (frag::MASK, true, false) => "first",
            (frag::MASK, false, true) => "<error>",
            (frag::MASK, false, false) | (frag::ANY, false, _) => "no",
            (frag::ANY, true, _) => "yes",
            (frag::LATER, _, false) => "not_later",
            _ => return,
        };
        self.put("nw_frag", name);
    }

    fn nsh(&mut self, k: &Nsh, m: &Nsh) {
        self.dec8("nsh_flags", k.flags, m.flags);
        self.dec8("nsh_ttl", k.ttl, m.ttl);
        self.dec8("nsh_mdtype", k.mdtype, m.mdtype);
        self.dec8("nsh_np", k.np, m.np);
        let (path, mask) = (k.path_hdr.get(), m.path_hdr.get());
        self.plain_hex("nsh_spi", path >> 8, mask >> 8, 0xff_ffff);
        self.dec8("nsh_si", path as u8, mask as u8);
        if m.mdtype == u8::MAX && k.mdtype == 1 {
            for i in 0..4 {
                self.plain_hex(&format!("nsh_c{}", i + 1), k.context[i].get(), m.context[i].get(), u32::MAX);
            }
        }
    }

    /// Hexadecimal with its prefix even for zero.
    fn plain_hex(&mut self, name: &str, value: u32, mask: u32, exact: u32) {
        match mask {
            0 => {}
            mask if mask == exact => self.put(name, format_args!("0x{value:x}")),
            mask => self.put(name, format_args!("0x{value:x}/0x{mask:x}")),
        }
    }

    fn l4(&mut self) {
        let (k, m) = (self.key, self.mask);
        let (src, dst) = ((k.tp_src.get(), m.tp_src.get()), (k.tp_dst.get(), m.tp_dst.get()));
        let icmp6 = self.dl_type == ethertype::IPV6 && k.nw_proto == ip::ICMPV6;
        if icmp6 || (self.dl_type == ethertype::IPV4 && k.nw_proto == ip::ICMP) {
            self.dec16("icmp_type", src.0, src.1);
            self.dec16("icmp_code", dst.0, dst.1);
        } else {
            self.dec16("tp_src", src.0, src.1);
            self.dec16("tp_dst", dst.0, dst.1);
        }
        if icmp6 {
            self.ipv6("nd_target", k.nd_target, m.nd_target);
            self.eth("nd_sll", k.arp_sha, m.arp_sha);
            self.eth("nd_tll", k.arp_tha, m.arp_tha);
            self.dec32("nd_reserved", k.igmp_group_ip4.get(), m.igmp_group_ip4.get());
            self.dec16("nd_options_type", k.tcp_flags.get(), m.tcp_flags.get());
        }
        let tcp = ethertype::is_ip(crate::field::dl_type(k)) && k.nw_proto == ip::TCP;
        if tcp && m.tcp_flags.get() != 0 {
            let (flags, mask) = (k.tcp_flags.get().into(), (m.tcp_flags.get() & 0xfff).into());
            self.put("tcp_flags", format_flags_masked(flags, mask, 0xfff, tcp_flag_name));
        }
    }
}

/// The text of `ct_state` bits joined by `|`, as connection-tracking output has it.
pub fn ct_state_to_string(state: u8) -> String {
    format_flags(state.into(), ct_state_name, '|')
}

/// Whether an ICMPv6 type is a neighbour solicitation or advertisement.
pub fn is_nd_type(icmp_type: u16) -> bool {
    matches!(icmp_type, icmp6::NEIGHBOR_SOLICIT | icmp6::NEIGHBOR_ADVERT)
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&key_to_string(self, &crate::field::NoNames))
    }
}

impl std::fmt::Debug for crate::key::Mask {
    /// The words that have a bit set.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.0.words().iter().enumerate().filter(|(_, word)| **word != 0);
        f.debug_map().entries(words.map(|(place, word)| (place, format!("{:#018x}", word.to_be())))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::NoNames;

    fn text(fields: &[(Field, &str)]) -> String {
        let mut m = FullMatch::default();
        for (field, value) in fields {
            let (value, mask) = field.parse(value, &NoNames).unwrap();
            field.set_match(&mut m, &value, &mask);
        }
        match_to_string(&m, Some(100), &NoNames)
    }

    #[test]
    fn matches_print_as_ovs_prints_them() {
        use Field::*;
        for (fields, out) in [
            (&[][..], "priority=100"),
            (
                &[(InPort, "LOCAL"), (EthType, "0x800"), (IpProto, "6"), (TcpDst, "80")],
                "priority=100,tcp,in_port=LOCAL,tp_dst=80",
            ),
            (
                &[(EthType, "0x86dd"), (IpProto, "58"), (Icmpv6Type, "135")],
                "priority=100,icmp6,icmp_type=135",
            ),
            (&[(VlanTci, "0x0000/0x1fff")], "priority=100,vlan_tci=0x0000/0x1fff"),
            (&[(DlVlan, "9"), (DlVlanPcp, "3")], "priority=100,dl_vlan=9,dl_vlan_pcp=3"),
            (&[(VlanTci, "0")], "priority=100,vlan_tci=0x0000"),
            (
                &[(EthType, "0x806"), (ArpOp, "1"), (ArpTpa, "10.0.0.0/8")],
                "priority=100,arp,arp_tpa=10.0.0.0/8,arp_op=1",
            ),
            (
                &[(EthType, "0x1234"), (Reg3, "0"), (Reg4, "1/0xf")],
                "priority=100,reg3=0,reg4=0x1/0xf,dl_type=0x1234",
            ),
            (
                &[(EthType, "0x8847"), (MplsLabel, "7"), (MplsBos, "1")],
                "priority=100,mpls,mpls_label=7,mpls_bos=1",
            ),
            (
                &[(EthType, "0x800"), (IpFrag, "first"), (IpDscp, "4"), (IpEcn, "1")],
                "priority=100,ip,nw_tos=4,nw_ecn=1,nw_frag=first",
            ),
            (
                &[(CtState, "+trk+new-inv"), (CtZone, "5"), (CtLabel, "0x1/0x3")],
                "priority=100,ct_state=+new-inv+trk,ct_zone=5,ct_label=0x1/0x3",
            ),
        ] {
            assert_eq!(text(fields), out);
        }
    }

    #[test]
    fn keys_print_what_their_packet_has() {
        let mut key = Key { in_port: 1, ..Key::default() };
        key.dl_type = ethertype::ARP.into();
        key.nw_proto = 1;
        assert_eq!(
            key_to_string(&key, &NoNames),
            "arp,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,arp_spa=0.0.0.0,\
             arp_tpa=0.0.0.0,arp_op=1,arp_sha=00:00:00:00:00:00,arp_tha=00:00:00:00:00:00"
        );
    }
}
