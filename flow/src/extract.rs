//! Frame to key: what can be parsed of a packet, layer by layer, as OVS does it.
//!
//! Parsing stops where a layer is truncated or does not make sense; the layers before it stay in the key, the rest is zero.
//! Nothing here fails: [`Layout`] says how far it went, and why it went no further.
//!
//! References: IEEE 802.3, 802.1Q, RFC 791, 826, 2460, 3032, 4443, 4861, 8300.

use crate::key::{EthAddr, Ipv6, Key, MAX_MPLS, MAX_VLANS, Tunnel, VLAN_CFI, Vlan, frag};
use crate::proto::{self, ethertype, icmp6, ip};

/// The original direction's addresses and ports of the connection that a packet belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtTuple {
    V4 { src: u32, dst: u32, tp_src: u16, tp_dst: u16, proto: u8 },
    V6 { src: Ipv6, dst: Ipv6, tp_src: u16, tp_dst: u16, proto: u8 },
}

/// What is known of a packet besides its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata {
    pub in_port: u32,
    pub recirc_id: u32,
    pub dp_hash: u32,
    pub skb_priority: u32,
    pub pkt_mark: u32,
    /// Bits of [`proto::ct`]; without any, the rest of connection tracking is not looked at.
    pub ct_state: u8,
    pub ct_zone: u16,
    pub ct_mark: u32,
    /// Big-endian.
    pub ct_label: [u8; 16],
    pub ct_tuple: Option<CtTuple>,
    /// [`proto::PT_ETH`] or an EtherType's packet type.
    pub packet_type: u32,
    pub tunnel: Option<Box<Tunnel>>,
    /// How many VLAN tags to parse: the switch's `vlan-limit`.
    pub vlan_limit: u8,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            in_port: 0,
            recirc_id: 0,
            dp_hash: 0,
            skb_priority: 0,
            pkt_mark: 0,
            ct_state: 0,
            ct_zone: 0,
            ct_mark: 0,
            ct_label: [0; 16],
            ct_tuple: None,
            packet_type: proto::PT_ETH,
            tunnel: None,
            vlan_limit: MAX_VLANS as u8,
        }
    }
}

impl Metadata {
    /// The metadata of a packet that came in by a port, and nothing else.
    pub fn from_port(in_port: u32) -> Self {
        Self { in_port, ..Self::default() }
    }

    /// The metadata part of a key.
    pub fn from_key(key: &Key) -> Self {
        // A key of metadata alone has no EtherType.
        let v6 = match key.dl_type.get() {
            0 => key.ct_ipv6_src != [0; 16] || key.ct_ipv6_dst != [0; 16],
            dl_type => dl_type == ethertype::IPV6,
        };
        let tuple = match (key.ct_nw_proto, v6) {
            (0, _) => None,
            (proto, true) => Some(CtTuple::V6 {
                src: key.ct_ipv6_src,
                dst: key.ct_ipv6_dst,
                tp_src: key.ct_tp_src.get(),
                tp_dst: key.ct_tp_dst.get(),
                proto,
            }),
            (proto, false) => Some(CtTuple::V4 {
                src: key.ct_nw_src.get(),
                dst: key.ct_nw_dst.get(),
                tp_src: key.ct_tp_src.get(),
                tp_dst: key.ct_tp_dst.get(),
                proto,
            }),
        };
        Self {
            in_port: key.in_port,
            recirc_id: key.recirc_id,
            dp_hash: key.dp_hash,
            skb_priority: key.skb_priority,
            pkt_mark: key.pkt_mark,
            ct_state: key.ct_state,
            ct_zone: key.ct_zone,
            ct_mark: key.ct_mark,
            ct_label: key.ct_label,
            ct_tuple: tuple,
            packet_type: key.packet_type.get(),
            tunnel: key.tunnel.is_set().then(|| Box::new(key.tunnel)),
            vlan_limit: MAX_VLANS as u8,
        }
    }
}

impl Tunnel {
    /// Whether a packet came through a tunnel: it then has an outer destination.
    pub fn is_set(&self) -> bool {
        self.ip_dst.get() != 0 || self.ipv6_dst != [0; 16]
    }
}

/// Why parsing stopped early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Shorter than an Ethernet header.
    Ethernet,
    Ipv4TooShort,
    Ipv4Length,
    Ipv6TooShort,
    Ipv6Length,
    Ipv6Extension,
}

/// Where the layers of a frame begin.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Layout {
    /// The first MPLS label.
    pub l2_5: Option<u16>,
    pub l3: Option<u16>,
    pub l4: Option<u16>,
    /// Bytes after the end of the IP packet.
    pub l2_pad: u16,
    /// Why parsing stopped early, if it did.
    pub malformed: Option<Malformed>,
}

/// Bytes not yet parsed, and where in the frame they begin.
struct Rest<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn pull(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.data.split_at_checked(n)?;
        self.data = tail;
        self.at += n;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.pull(N)?.try_into().ok()
    }

    fn ofs(&self) -> Option<u16> {
        u16::try_from(self.at).ok()
    }

    /// Drops all but the first `n` bytes; gives how many there were more.
    fn trim(&mut self, n: usize) -> u16 {
        let pad = self.data.len().saturating_sub(n);
        self.data = &self.data[..n.min(self.data.len())];
        u16::try_from(pad).unwrap_or(u16::MAX)
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

fn mac(bytes: &[u8], at: usize) -> EthAddr {
    let mut out = [0; 6];
    if let Some(bytes) = bytes.get(at..at + 6) {
        out.copy_from_slice(bytes);
    }
    out
}

fn ipv6_at(bytes: &[u8], at: usize) -> Ipv6 {
    let mut out = [0; 16];
    if let Some(bytes) = bytes.get(at..at + 16) {
        out.copy_from_slice(bytes);
    }
    out
}

/// Parses `frame`, whose metadata is `meta`, into `key`, which is overwritten.
pub fn extract(frame: &[u8], meta: &Metadata, key: &mut Key) -> Layout {
    *key = Key::default();
    extract_into(frame, meta, key)
}

/// As [`extract`], into a key that is all zeros.
pub fn extract_into(frame: &[u8], meta: &Metadata, key: &mut Key) -> Layout {
    metadata(meta, key);
    let mut layout = Layout::default();
    let mut rest = Rest { data: frame, at: 0 };
    if meta.packet_type == proto::PT_ETH {
        if ethernet(&mut rest, meta.vlan_limit, key).is_none() {
            layout.malformed = Some(Malformed::Ethernet);
            return layout;
        }
    } else {
        key.dl_type = (meta.packet_type as u16).into();
    }
    let dl_type = key.dl_type.get();
    if ethertype::is_mpls(dl_type) {
        layout.l2_5 = rest.ofs();
        mpls(&mut rest, key);
    }
    layout.l3 = rest.ofs();
    let parsed = match dl_type {
        ethertype::IPV4 => ipv4(&mut rest, meta, key, &mut layout),
        ethertype::IPV6 => ipv6(&mut rest, meta, key, &mut layout),
        ethertype::ARP | ethertype::RARP => return arp(&mut rest, key).map_or(layout, |()| layout),
        ethertype::NSH => return nsh(&mut rest, key).map_or(layout, |()| layout),
        _ => return layout,
    };
    match parsed {
        Ok(()) => {
            layout.l4 = rest.ofs();
            l4(&mut rest, meta, key);
        }
        Err(why) => layout.malformed = Some(why),
    }
    layout
}

fn metadata(meta: &Metadata, key: &mut Key) {
    if let Some(tunnel) = meta.tunnel.as_ref().filter(|tunnel| tunnel.is_set()) {
        key.tunnel = **tunnel;
    }
    key.skb_priority = meta.skb_priority;
    key.pkt_mark = meta.pkt_mark;
    key.dp_hash = meta.dp_hash;
    key.in_port = meta.in_port;
    key.recirc_id = meta.recirc_id;
    key.packet_type = meta.packet_type.into();
    if meta.ct_state != 0 {
        (key.ct_state, key.ct_zone, key.ct_mark) = (meta.ct_state, meta.ct_zone, meta.ct_mark);
        key.ct_label = meta.ct_label;
    }
}

fn ethernet(rest: &mut Rest<'_>, vlan_limit: u8, key: &mut Key) -> Option<()> {
    if rest.data.len() < 14 {
        return None;
    }
    let macs = rest.pull(12)?;
    (key.dl_dst, key.dl_src) = (mac(macs, 0), mac(macs, 6));
    for vlan in key.vlans.iter_mut().take(usize::from(vlan_limit)) {
        if !ethertype::is_vlan(be16(rest.data, 0)) || rest.data.len() < 6 {
            break;
        }
        let tag = rest.pull(4)?;
        *vlan = Vlan { tpid: be16(tag, 0).into(), tci: (be16(tag, 2) | VLAN_CFI).into() };
    }
    key.dl_type = ethertype_of(rest).into();
    Some(())
}

/// The EtherType, of Ethernet II or of LLC/SNAP.
fn ethertype_of(rest: &mut Rest<'_>) -> u16 {
    let dl_type = rest.pull(2).map_or(0, |bytes| be16(bytes, 0));
    if dl_type >= ethertype::MIN {
        return dl_type;
    }
    match rest.data {
        [0xaa, 0xaa, 0x03, 0, 0, 0, _, _, ..] => {
            let snap = rest.pull(8).map_or(0, |bytes| be16(bytes, 6));
            if snap >= ethertype::MIN { snap } else { ethertype::NONE }
        }
        _ => ethertype::NONE,
    }
}

fn mpls(rest: &mut Rest<'_>, key: &mut Key) {
    let mut count = 0;
    while let Some(bytes) = rest.pull(4) {
        let lse = be32(bytes, 0);
        if count < MAX_MPLS {
            key.mpls_lse[count] = lse.into();
        }
        count += 1;
        if lse & 0x100 != 0 {
            break;
        }
    }
}

fn ipv4(rest: &mut Rest<'_>, meta: &Metadata, key: &mut Key, layout: &mut Layout) -> Result<(), Malformed> {
    let head = rest.data.get(..20).ok_or(Malformed::Ipv4TooShort)?;
    let (ihl, total) = (usize::from(head[0] & 0xf) * 4, usize::from(be16(head, 2)));
    let size = rest.data.len();
    if ihl < 20 || size < ihl || total > size || ihl > total || size - total > usize::from(u16::MAX) {
        return Err(Malformed::Ipv4Length);
    }
    layout.l2_pad = rest.trim(total);
    (key.nw_src, key.nw_dst) = (be32(head, 12).into(), be32(head, 16).into());
    if let (true, Some(CtTuple::V4 { src, dst, proto, .. })) = (meta.ct_state != 0, meta.ct_tuple) {
        (key.ct_nw_proto, key.ct_nw_src, key.ct_nw_dst) = (proto, src.into(), dst.into());
    }
    (key.nw_tos, key.nw_ttl, key.nw_proto) = (head[1], head[8], head[9]);
    let off = be16(head, 6);
    if off & 0x3fff != 0 {
        key.nw_frag = frag::ANY | if off & 0x1fff != 0 { frag::LATER } else { 0 };
    }
    rest.pull(ihl);
    Ok(())
}

fn ipv6(rest: &mut Rest<'_>, meta: &Metadata, key: &mut Key, layout: &mut Layout) -> Result<(), Malformed> {
    let size = rest.data.len();
    let head = rest.pull(40).ok_or(Malformed::Ipv6TooShort)?;
    let plen = usize::from(be16(head, 4));
    if plen + 40 > size || size - (plen + 40) > usize::from(u16::MAX) {
        return Err(Malformed::Ipv6Length);
    }
    layout.l2_pad = rest.trim(plen);
    (key.ipv6_src, key.ipv6_dst) = (ipv6_at(head, 8), ipv6_at(head, 24));
    if let (true, Some(CtTuple::V6 { src, dst, proto, .. })) = (meta.ct_state != 0, meta.ct_tuple) {
        (key.ct_nw_proto, key.ct_ipv6_src, key.ct_ipv6_dst) = (proto, src, dst);
    }
    let flow = be32(head, 0);
    let (proto, nw_frag) = ipv6_extensions(rest, head[6]).ok_or(Malformed::Ipv6Extension)?;
    (key.nw_tos, key.nw_ttl, key.nw_proto, key.nw_frag) = ((flow >> 20) as u8, head[7], proto, nw_frag);
    key.ipv6_label = (flow & 0xf_ffff).into();
    Ok(())
}

/// Skips extension headers; gives the protocol that follows and the fragment bits. A later fragment ends the walk: what
/// follows it is payload.
fn ipv6_extensions(rest: &mut Rest<'_>, mut proto: u8) -> Option<(u8, u8)> {
    let mut nw_frag = 0;
    loop {
        let ext = match proto {
            ip::HOPOPTS | ip::ROUTING | ip::DSTOPTS | ip::AH | ip::FRAGMENT => rest.data.get(..8)?,
            _ => return Some((proto, nw_frag)),
        };
        let len = usize::from(ext[1]);
        match std::mem::replace(&mut proto, ext[0]) {
            ip::AH => rest.pull((len + 2) * 4)?,
            ip::FRAGMENT => {
                rest.pull(8)?;
                let off = be16(ext, 2);
                if off != 0 {
                    nw_frag = frag::ANY;
                }
                if off & 0xfff8 != 0 {
                    return Some((ip::FRAGMENT, nw_frag | frag::LATER));
                }
                ext
            }
            _ => rest.pull((len + 1) * 8)?,
        };
    }
}

fn arp(rest: &mut Rest<'_>, key: &mut Key) -> Option<()> {
    let arp: &[u8; 28] = rest.array()?;
    if be16(arp, 0) != 1 || be16(arp, 2) != ethertype::IPV4 || arp[4] != 6 || arp[5] != 4 {
        return None;
    }
    (key.nw_src, key.nw_dst) = (be32(arp, 14).into(), be32(arp, 24).into());
    // Only the low 8 bits of an operation can be matched; a larger one is none.
    key.nw_proto = u8::try_from(be16(arp, 6)).unwrap_or(0);
    (key.arp_sha, key.arp_tha) = (mac(arp, 8), mac(arp, 18));
    Some(())
}

fn nsh(rest: &mut Rest<'_>, key: &mut Key) -> Option<()> {
    let head = rest.data.get(..8)?;
    let bits = be16(head, 0);
    let length = usize::from(bits & 0x3f) * 4;
    if length > rest.data.len() || bits >> 14 != 0 {
        return None;
    }
    let (mdtype, np) = (head[2], head[3]);
    match mdtype {
        1 if length != 24 => return None,
        2 if length < 8 => return None,
        _ => {}
    }
    let nsh = &mut key.nsh;
    nsh.flags = ((bits & 0x3000) >> 12) as u8;
    nsh.ttl = ((bits & 0x0fc0) >> 6) as u8;
    (nsh.mdtype, nsh.np, nsh.path_hdr) = (mdtype, np, be32(head, 4).into());
    if mdtype == 1 {
        nsh.context = std::array::from_fn(|i| be32(rest.data, 8 + 4 * i).into());
    }
    rest.pull(length).map(|_| ())
}

fn l4(rest: &mut Rest<'_>, meta: &Metadata, key: &mut Key) {
    let ported = matches!(key.ct_nw_proto, ip::TCP | ip::UDP | ip::SCTP | ip::ICMP | ip::ICMPV6);
    if key.nw_frag & frag::LATER != 0 {
        let nd = key.ct_nw_proto == ip::ICMPV6 && icmpv6_is_nd(rest.data);
        if ported && !nd {
            ct_ports(meta, key);
        }
        return;
    }
    let data = rest.data;
    let with_ports = match key.nw_proto {
        ip::TCP => {
            let header = usize::from(data.get(12).map_or(0, |b| b >> 4)) * 4;
            let whole = data.len() >= 20 && header >= 20 && data.len() >= header;
            if whole {
                key.tcp_flags = (be16(data, 12) & 0xfff).into();
            }
            whole
        }
        ip::UDP => data.len() >= 8,
        ip::SCTP => data.len() >= 12,
        ip::ICMP => return icmp(data, meta, key),
        ip::IGMP if data.len() >= 8 => {
            (key.tp_src, key.tp_dst) = (u16::from(data[0]).into(), u16::from(data[1]).into());
            key.igmp_group_ip4 = be32(data, 4).into();
            false
        }
        ip::ICMPV6 => return icmpv6(rest, meta, key),
        _ => false,
    };
    if with_ports {
        (key.tp_src, key.tp_dst) = (be16(data, 0).into(), be16(data, 2).into());
        ct_ports(meta, key);
    }
}

fn ct_ports(meta: &Metadata, key: &mut Key) {
    let ours = if key.dl_type.get() == ethertype::IPV6 {
        matches!(meta.ct_tuple, Some(CtTuple::V6 { .. }))
    } else {
        matches!(meta.ct_tuple, Some(CtTuple::V4 { .. }))
    };
    if !ours || key.ct_nw_proto == 0 {
        return;
    }
    if let Some(CtTuple::V4 { tp_src, tp_dst, .. } | CtTuple::V6 { tp_src, tp_dst, .. }) = meta.ct_tuple {
        (key.ct_tp_src, key.ct_tp_dst) = (tp_src.into(), tp_dst.into());
    }
}

fn icmp(data: &[u8], meta: &Metadata, key: &mut Key) {
    if data.len() >= 8 {
        (key.tp_src, key.tp_dst) = (u16::from(data[0]).into(), u16::from(data[1]).into());
        ct_ports(meta, key);
    }
}

fn icmpv6_is_nd(data: &[u8]) -> bool {
    matches!(data, [ty, 0, ..] if matches!(u16::from(*ty), icmp6::NEIGHBOR_SOLICIT | icmp6::NEIGHBOR_ADVERT))
}

fn icmpv6(rest: &mut Rest<'_>, meta: &Metadata, key: &mut Key) {
    let Some(head) = rest.pull(8) else { return };
    (key.tp_src, key.tp_dst) = (u16::from(head[0]).into(), u16::from(head[1]).into());
    if !icmpv6_is_nd(head) {
        return ct_ports(meta, key);
    }
    key.igmp_group_ip4 = be32(head, 4).into();
    let Some(target) = rest.pull(16) else { return };
    key.nd_target = ipv6_at(target, 0);
    if nd_options(rest, key).is_none() {
        // An option given twice: nothing of the options or the target is to be trusted.
        (key.nd_target, key.arp_sha, key.arp_tha) = ([0; 16], [0; 6], [0; 6]);
    }
}

/// The link-layer addresses among the options; `None` if one is given twice.
fn nd_options(rest: &mut Rest<'_>, key: &mut Key) -> Option<()> {
    while rest.data.len() >= 8 {
        let (option, len) = (rest.data[0], usize::from(rest.data[1]) * 8);
        if len == 0 || len > rest.data.len() {
            break;
        }
        let slot = match option {
            icmp6::OPT_SOURCE_LLA if len == 8 => Some(&mut key.arp_sha),
            icmp6::OPT_TARGET_LLA if len == 8 => Some(&mut key.arp_tha),
            _ => None,
        };
        if let Some(slot) = slot {
            if *slot != [0; 6] {
                return None;
            }
            *slot = mac(rest.data, 2);
            if key.tcp_flags.get() == 0 {
                key.tcp_flags = u16::from(option).into();
            }
        }
        rest.pull(len);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::key_to_string;
    use crate::field::NoNames;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn text(frame: &str) -> String {
        let mut key = Key::default();
        extract(&hex(frame), &Metadata::from_port(1), &mut key);
        key_to_string(&key, &NoNames)
    }

    const MACS: &str = "50540000000a 505400000009 ";

    #[test]
    fn layers_become_fields() {
        let l2 = "in_port=1,vlan_tci=0x0000,dl_src=50:54:00:00:00:09,dl_dst=50:54:00:00:00:0a,";
        for (frame, expected) in [
            (
                "0800 45000028 00004000 40060000 0a000001 0a000002 1f900050 00000000 00000000 50120000 00000000",
                format!(
                    "tcp,{l2}nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,tp_src=8080,tp_dst=80,tcp_flags=syn|ack"
                ),
            ),
            (
                "0806 0001080006040001 505400000009 0a000001 000000000000 0a000002",
                format!(
                    "arp,{l2}arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_op=1,arp_sha=50:54:00:00:00:09,arp_tha=00:00:00:00:00:00"
                ),
            ),
            ("0026 4242030000000000", format!("{l2}dl_type=0x05ff")),
            (
                "0800 4500001c 00000005 40110000 0a000001 0a000002 0001000200080000",
                format!("udp,{l2}nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=later"),
            ),
            ("8847 00001140 0800", format!("mpls,{l2}mpls_label=1,mpls_tc=0,mpls_ttl=64,mpls_bos=1")),
        ] {
            assert_eq!(text(&format!("{MACS}{frame}")), expected);
        }
    }

    #[test]
    fn vlans_and_snap() {
        let mut key = Key::default();
        let frame = hex(&format!("{MACS} 88a8 0064 8100 60c8 0010 aaaa03000000 0806"));
        let layout = extract(&frame, &Metadata::default(), &mut key);
        assert_eq!(
            (key.vlans[0].tci.get(), key.vlans[1].tci.get(), key.dl_type.get()),
            (0x1064, 0x70c8, 0x806)
        );
        assert_eq!(layout.l3, Some(30));
    }

    /// A slow twin for the ports of IPv4: by position, one condition after the other.
    fn twin_ports(frame: &[u8]) -> Option<(u16, u16)> {
        let at = |i: usize| usize::from(*frame.get(i).unwrap_or(&0));
        let word = |i: usize| (at(i) << 8) | at(i + 1);
        if frame.len() < 34 || word(12) != 0x800 {
            return None;
        }
        let (header, total) = ((at(14) & 15) * 4, word(16));
        let sane = header >= 20 && total >= header && frame.len() - 14 >= total && frame.len() - 14 >= header;
        let l4 = total.wrapping_sub(header);
        let udp = at(23) == 17 && word(20) & 0x1fff == 0 && l4 >= 8;
        (sane && udp).then(|| (word(14 + header) as u16, word(16 + header) as u16))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_bytes_parse(bytes in proptest::collection::vec(any::<u8>(), 0..120), pt in 0u32..3, ty in prop::sample::select(vec![0x800u16, 0x806, 0x86dd, 0x8100, 0x88a8, 0x8847, 0x894f, 0x40])) {
            let mut frame = bytes;
            if frame.len() > 14 {
                frame[12..14].copy_from_slice(&ty.to_be_bytes());
            }
            let packet_type = if pt == 0 { 0 } else { proto::pt_of_ethertype(ty) };
            let mut key = Key::default();
            let layout = extract(&frame, &Metadata { packet_type, ..Metadata::default() }, &mut key);
            prop_assert!(layout.l4.is_none_or(|at| usize::from(at) <= frame.len()));
            key_to_string(&key, &NoNames);
        }

        #[test]
        fn udp_ports_agree_with_the_twin(mut bytes in proptest::collection::vec(any::<u8>(), 14..80), total in 20u16..70) {
            bytes[12..14].copy_from_slice(&[8, 0]);
            if bytes.len() > 34 {
                bytes[14] = 0x40 | (bytes[14] & 0x7);
                bytes[16..18].copy_from_slice(&total.to_be_bytes());
                bytes[20..22].copy_from_slice(&[0, 0]);
                bytes[23] = 17;
            }
            let mut key = Key::default();
            extract(&bytes, &Metadata::default(), &mut key);
            let ports = (key.tp_src.get(), key.tp_dst.get());
            prop_assert_eq!(ports, twin_ports(&bytes).unwrap_or((0, 0)));
        }
    }
}
