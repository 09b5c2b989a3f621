//! Pieces of a [`Key`] as the structures of attributes, both ways: the correspondence that reading, writing and
//! committing share.

use super::TunnelAttr;
use super::attrs::*;
use super::tunnel::ErspanOpts;
use crate::key::{Key, TUN_METADATA_BYTES, Tunnel, frag, tnl_flags};
use zerocopy::big_endian::{U16, U32};

/// Fragment state as the datapath has it; a mask is all or nothing, for the datapath's is an enumeration.
pub(super) fn frag_to_odp(nw_frag: u8, is_mask: bool) -> u8 {
    match nw_frag & frag::MASK {
        bits if is_mask => {
            if bits & frag::ANY != 0 {
                u8::MAX
            } else {
                0
            }
        }
        bits if bits & frag::ANY == 0 => frag_type::NONE,
        bits if bits & frag::LATER != 0 => frag_type::LATER,
        _ => frag_type::FIRST,
    }
}

/// The reverse of [`frag_to_odp`]; `None` for a kind that does not exist.
pub(super) fn frag_from_odp(kind: u8, is_mask: bool) -> Option<u8> {
    match kind {
        0 => Some(0),
        _ if is_mask => Some(frag::MASK),
        frag_type::FIRST => Some(frag::ANY),
        frag_type::LATER => Some(frag::MASK),
        _ => None,
    }
}

pub(super) fn ethernet(key: &Key) -> EthernetKey {
    EthernetKey { src: key.dl_src, dst: key.dl_dst }
}

pub(super) fn put_ethernet(eth: &EthernetKey, key: &mut Key) {
    (key.dl_src, key.dl_dst) = (eth.src, eth.dst);
}

pub(super) fn ipv4(key: &Key, is_mask: bool) -> Ipv4Key {
    Ipv4Key {
        src: key.nw_src,
        dst: key.nw_dst,
        proto: key.nw_proto,
        tos: key.nw_tos,
        ttl: key.nw_ttl,
        frag: frag_to_odp(key.nw_frag, is_mask),
    }
}

/// All but the fragment state.
pub(super) fn put_ipv4(ip: &Ipv4Key, key: &mut Key) {
    (key.nw_src, key.nw_dst) = (ip.src, ip.dst);
    (key.nw_proto, key.nw_tos, key.nw_ttl) = (ip.proto, ip.tos, ip.ttl);
}

pub(super) fn ipv6(key: &Key, is_mask: bool) -> Ipv6Key {
    Ipv6Key {
        src: key.ipv6_src,
        dst: key.ipv6_dst,
        label: key.ipv6_label,
        proto: key.nw_proto,
        tclass: key.nw_tos,
        hlimit: key.nw_ttl,
        frag: frag_to_odp(key.nw_frag, is_mask),
    }
}

/// All but the fragment state.
pub(super) fn put_ipv6(ip: &Ipv6Key, key: &mut Key) {
    (key.ipv6_src, key.ipv6_dst, key.ipv6_label) = (ip.src, ip.dst, ip.label);
    (key.nw_proto, key.nw_tos, key.nw_ttl) = (ip.proto, ip.tclass, ip.hlimit);
}

/// An ARP opcode is 8 bits in a key: a full mask of them is a full mask of the 16.
pub(super) fn arp(key: &Key) -> ArpKey {
    let op = if key.nw_proto == u8::MAX { u16::MAX } else { key.nw_proto.into() };
    ArpKey {
        sip: key.nw_src,
        tip: key.nw_dst,
        op: U16::new(op),
        sha: key.arp_sha,
        tha: key.arp_tha,
        pad: [0; 2],
    }
}

pub(super) fn put_arp(arp: &ArpKey, key: &mut Key) {
    (key.nw_src, key.nw_dst) = (arp.sip, arp.tip);
    key.nw_proto = arp.op.get() as u8;
    (key.arp_sha, key.arp_tha) = (arp.sha, arp.tha);
}

pub(super) fn ports(key: &Key) -> PortsKey {
    PortsKey { src: key.tp_src, dst: key.tp_dst }
}

pub(super) fn put_ports(ports: &PortsKey, key: &mut Key) {
    (key.tp_src, key.tp_dst) = (ports.src, ports.dst);
}

pub(super) fn icmp(key: &Key) -> IcmpKey {
    IcmpKey { kind: key.tp_src.get() as u8, code: key.tp_dst.get() as u8 }
}

pub(super) fn put_icmp(icmp: &IcmpKey, key: &mut Key) {
    (key.tp_src, key.tp_dst) = (U16::new(icmp.kind.into()), U16::new(icmp.code.into()));
}

pub(super) fn nd(key: &Key) -> NdKey {
    NdKey { target: key.nd_target, sll: key.arp_sha, tll: key.arp_tha }
}

pub(super) fn put_nd(nd: &NdKey, key: &mut Key) {
    (key.nd_target, key.arp_sha, key.arp_tha) = (nd.target, nd.sll, nd.tll);
}

pub(super) fn nd_ext(key: &Key) -> NdExtKey {
    NdExtKey { reserved: key.igmp_group_ip4, options_type: key.tcp_flags.get() as u8, pad: [0; 3] }
}

pub(super) fn put_nd_ext(ext: &NdExtKey, key: &mut Key) {
    key.igmp_group_ip4 = ext.reserved;
    key.tcp_flags = U16::new(ext.options_type.into());
}

pub fn ct_tuple4(key: &Key) -> CtTuple4Key {
    CtTuple4Key {
        src: key.ct_nw_src,
        dst: key.ct_nw_dst,
        src_port: key.ct_tp_src,
        dst_port: key.ct_tp_dst,
        proto: key.ct_nw_proto,
        pad: [0; 3],
    }
}

pub(super) fn put_ct_tuple4(tuple: &CtTuple4Key, key: &mut Key) {
    (key.ct_nw_src, key.ct_nw_dst, key.ct_nw_proto) = (tuple.src, tuple.dst, tuple.proto);
    (key.ct_tp_src, key.ct_tp_dst) = (tuple.src_port, tuple.dst_port);
}

pub fn ct_tuple6(key: &Key) -> CtTuple6Key {
    CtTuple6Key {
        src: key.ct_ipv6_src,
        dst: key.ct_ipv6_dst,
        src_port: key.ct_tp_src,
        dst_port: key.ct_tp_dst,
        proto: key.ct_nw_proto,
        pad: [0; 3],
    }
}

pub(super) fn put_ct_tuple6(tuple: &CtTuple6Key, key: &mut Key) {
    (key.ct_ipv6_src, key.ct_ipv6_dst, key.ct_nw_proto) = (tuple.src, tuple.dst, tuple.proto);
    (key.ct_tp_src, key.ct_tp_dst) = (tuple.src_port, tuple.dst_port);
}

/// NSH attributes of a key; of a mask, the context is always there.
pub fn nsh(key: &Key, is_mask: bool) -> NshKey {
    let nsh = &key.nsh;
    let base =
        NshBase { flags: nsh.flags, ttl: nsh.ttl, mdtype: nsh.mdtype, np: nsh.np, path_hdr: nsh.path_hdr };
    NshKey { base: Some(base), md1: (is_mask || nsh.mdtype == 1).then_some(nsh.context), md2: None }
}

/// Sets what `attrs` has.
pub fn put_nsh(attrs: &NshKey, key: &mut Key) {
    if let Some(base) = &attrs.base {
        let nsh = &mut key.nsh;
        (nsh.flags, nsh.ttl, nsh.mdtype, nsh.np) = (base.flags, base.ttl, base.mdtype, base.np);
        nsh.path_hdr = base.path_hdr;
    }
    if let Some(context) = attrs.md1 {
        key.nsh.context = context;
    }
}

/// Labels travel in the kernel's byte order, a key has them big-endian.
pub fn label_to_odp(label: [u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(label).to_ne_bytes()
}

/// The reverse of [`label_to_odp`].
pub fn label_from_odp(label: [u8; 16]) -> [u8; 16] {
    u128::from_ne_bytes(label).to_be_bytes()
}

/// The attributes of a tunnel, in the order in which they are written.
///
/// `src` is the key's tunnel if `tunnel` is a mask. Only options that fit `kind` (`vxlan`, `geneve`, …) are written if
/// it is given.
pub fn tunnel_to_attrs(tunnel: &Tunnel, src: &Tunnel, kind: Option<&str>) -> Vec<TunnelAttr> {
    let mut attrs = Vec::new();
    let flag = |bit| tunnel.flags & bit != 0;
    let wants = |names: &[&str]| kind.is_none_or(|kind| names.contains(&kind));
    let mut put = |present: bool, attr: TunnelAttr| {
        if present {
            attrs.push(attr);
        }
    };
    put(tunnel.id.get() != 0 || flag(tnl_flags::KEY), TunnelAttr::Id(tunnel.id));
    put(tunnel.ip_src.get() != 0, TunnelAttr::Ipv4Src(tunnel.ip_src));
    put(tunnel.ip_dst.get() != 0, TunnelAttr::Ipv4Dst(tunnel.ip_dst));
    put(tunnel.ipv6_src != [0; 16], TunnelAttr::Ipv6Src(tunnel.ipv6_src));
    put(tunnel.ipv6_dst != [0; 16], TunnelAttr::Ipv6Dst(tunnel.ipv6_dst));
    put(tunnel.tos != 0, TunnelAttr::Tos(tunnel.tos));
    put(true, TunnelAttr::Ttl(tunnel.ttl));
    put(flag(tnl_flags::DONT_FRAGMENT), TunnelAttr::DontFragment);
    put(flag(tnl_flags::CSUM), TunnelAttr::Csum);
    put(tunnel.tp_src.get() != 0, TunnelAttr::TpSrc(tunnel.tp_src));
    put(tunnel.tp_dst.get() != 0, TunnelAttr::TpDst(tunnel.tp_dst));
    put(flag(tnl_flags::OAM), TunnelAttr::Oam);
    let gbp = u32::from(tunnel.gbp_flags) << 16 | u32::from(tunnel.gbp_id.get());
    put(wants(&["vxlan"]) && gbp != 0, TunnelAttr::VxlanGbp(gbp));
    let raw = src.flags & tnl_flags::RAW_OPTS != 0;
    let options = match std::ptr::eq(tunnel, src) {
        true => crate::tlv::wire_options(tunnel),
        // A mask has as many bytes as the key, of which only the raw form tells.
        false if raw => tunnel.opts[..(src.opt_present as usize).min(TUN_METADATA_BYTES)].to_vec(),
        false => Vec::new(),
    };
    put(wants(&["geneve"]) && (raw || !options.is_empty()), TunnelAttr::Geneve(options));
    put(wants(&["erspan", "ip6erspan"]) && matches!(tunnel.erspan_ver, 1 | 2), erspan(tunnel));
    put(
        wants(&["gtpu"]) && tunnel.gtpu_flags != 0 && tunnel.gtpu_msgtype != 0,
        TunnelAttr::Gtpu([tunnel.gtpu_flags, tunnel.gtpu_msgtype]),
    );
    attrs
}

fn erspan(tunnel: &Tunnel) -> TunnelAttr {
    let mut opts = ErspanOpts { version: tunnel.erspan_ver.into(), data: [0; 8] };
    if tunnel.erspan_ver == 1 {
        opts.data[..4].copy_from_slice(&tunnel.erspan_idx.to_be_bytes());
    } else {
        opts.data[6] = tunnel.erspan_hwid >> 4 & 3;
        opts.data[7] = tunnel.erspan_hwid << 4 | (tunnel.erspan_dir & 1) << 3;
    }
    TunnelAttr::Erspan(opts)
}

/// Stores one attribute of a tunnel; false if it is not one that a key can have.
pub(super) fn put_tunnel(attr: &TunnelAttr, tunnel: &mut Tunnel, is_mask: bool) -> bool {
    match attr {
        TunnelAttr::Id(id) => {
            tunnel.id = *id;
            tunnel.flags |= tnl_flags::KEY;
        }
        TunnelAttr::Ipv4Src(ip) => tunnel.ip_src = *ip,
        TunnelAttr::Ipv4Dst(ip) => tunnel.ip_dst = *ip,
        TunnelAttr::Ipv6Src(ip) => tunnel.ipv6_src = *ip,
        TunnelAttr::Ipv6Dst(ip) => tunnel.ipv6_dst = *ip,
        TunnelAttr::Tos(tos) => tunnel.tos = *tos,
        TunnelAttr::Ttl(ttl) => tunnel.ttl = *ttl,
        TunnelAttr::DontFragment => tunnel.flags |= tnl_flags::DONT_FRAGMENT,
        TunnelAttr::Csum => tunnel.flags |= tnl_flags::CSUM,
        TunnelAttr::Oam => tunnel.flags |= tnl_flags::OAM,
        TunnelAttr::TpSrc(port) => tunnel.tp_src = *port,
        TunnelAttr::TpDst(port) => tunnel.tp_dst = *port,
        TunnelAttr::VxlanGbp(raw) => {
            tunnel.gbp_id = U16::new(*raw as u16);
            tunnel.gbp_flags = (*raw >> 16) as u8;
        }
        TunnelAttr::Geneve(opts) => return put_geneve(opts, tunnel, is_mask),
        TunnelAttr::Erspan(opts) => put_erspan(opts, tunnel, is_mask),
        TunnelAttr::Gtpu([flags, kind]) => (tunnel.gtpu_flags, tunnel.gtpu_msgtype) = (*flags, *kind),
        TunnelAttr::Pad(_) | TunnelAttr::Unknown(..) => return false,
    }
    true
}

fn put_geneve(opts: &[u8], tunnel: &mut Tunnel, is_mask: bool) -> bool {
    let Some(room) = tunnel.opts.get_mut(..opts.len()) else { return false };
    room.copy_from_slice(opts);
    tunnel.flags |= tnl_flags::RAW_OPTS;
    // The length matters always: options that merely begin alike are others.
    tunnel.opt_present = if is_mask { 0xff } else { opts.len() as u64 };
    true
}

fn put_erspan(opts: &ErspanOpts, tunnel: &mut Tunnel, is_mask: bool) {
    tunnel.erspan_ver = opts.version as u8;
    let [a, b, c, d, _, _, high, low] = opts.data;
    if opts.version == 1 || is_mask {
        tunnel.erspan_idx = U32::from_bytes([a, b, c, d]).get();
    }
    if opts.version == 2 || is_mask {
        tunnel.erspan_dir = low >> 3 & 1;
        tunnel.erspan_hwid = (high & 3) << 4 | low >> 4;
    }
}
