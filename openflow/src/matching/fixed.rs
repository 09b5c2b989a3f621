//! The fixed structures: OpenFlow 1.0's of 40 bytes, OpenFlow 1.1's of 88.

use super::{FullMatch, require_ethernet};
use crate::error::OfError;
use crate::msg::{put_port32, read_port32, w};
use crate::names::Names;
use crate::wire::{Put, Reader};
use flow::id::OfPort;
use flow::key::VLAN_CFI;
use flow::proto::{ethertype, ip};
use std::net::Ipv4Addr;

mod wild10 {
    pub const IN_PORT: u32 = 1 << 0;
    pub const DL_VLAN: u32 = 1 << 1;
    pub const DL_SRC: u32 = 1 << 2;
    pub const DL_DST: u32 = 1 << 3;
    pub const DL_TYPE: u32 = 1 << 4;
    pub const NW_PROTO: u32 = 1 << 5;
    pub const TP_SRC: u32 = 1 << 6;
    pub const TP_DST: u32 = 1 << 7;
    /// How many low bits of the address are not looked at, 6 bits each.
    pub const NW_SRC_SHIFT: u32 = 8;
    pub const NW_DST_SHIFT: u32 = 14;
    pub const DL_VLAN_PCP: u32 = 1 << 20;
    pub const NW_TOS: u32 = 1 << 21;
}

mod wild11 {
    pub const IN_PORT: u32 = 1 << 0;
    pub const DL_VLAN: u32 = 1 << 1;
    pub const DL_VLAN_PCP: u32 = 1 << 2;
    pub const DL_TYPE: u32 = 1 << 3;
    pub const NW_TOS: u32 = 1 << 4;
    pub const NW_PROTO: u32 = 1 << 5;
    pub const TP_SRC: u32 = 1 << 6;
    pub const TP_DST: u32 = 1 << 7;
    pub const MPLS_LABEL: u32 = 1 << 8;
    pub const MPLS_TC: u32 = 1 << 9;
}

/// Every wildcard bit of OpenFlow 1.0: a match with none of them is exact.
pub const WILDCARDS10: u32 = (1 << 22) - 1;

/// OpenFlow 1.0's VLAN id for "no tag".
const VLAN_NONE10: u16 = 0xffff;
const VLAN_ANY11: u16 = 0xfffe;
const VLAN_NONE11: u16 = 0xffff;
const VID: u16 = 0x0fff;
const PCP: u16 = 0xe000;
const DSCP: u8 = 0xfc;
const LEN11: usize = 88;

/// The mask of an address of which `wild` low bits are not looked at.
fn netmask(wild: u32) -> u32 {
    u32::MAX.checked_shl(wild & 0x3f).unwrap_or(0)
}

/// OpenFlow 1.0's structure as it is.
struct Fields10 {
    wildcards: u32,
    in_port: u16,
    dl_src: [u8; 6],
    dl_dst: [u8; 6],
    dl_vlan: u16,
    dl_vlan_pcp: u8,
    dl_type: u16,
    nw_tos: u8,
    nw_proto: u8,
    nw_src: u32,
    nw_dst: u32,
    tp_src: u16,
    tp_dst: u16,
}

impl Fields10 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let (wildcards, in_port) = (reader.u32()?, reader.u16()?);
        let (dl_src, dl_dst) = (reader.array()?, reader.array()?);
        let (dl_vlan, dl_vlan_pcp) = (reader.u16()?, reader.u8()?);
        reader.skip(1)?;
        let (dl_type, nw_tos, nw_proto) = (reader.u16()?, reader.u8()?, reader.u8()?);
        reader.skip(2)?;
        let (nw_src, nw_dst) = (reader.u32()?, reader.u32()?);
        let (tp_src, tp_dst) = (reader.u16()?, reader.u16()?);
        #[rustfmt::skip]
        let this = Self {
            wildcards, in_port, dl_src, dl_dst, dl_vlan, dl_vlan_pcp, dl_type, nw_tos, nw_proto, nw_src, nw_dst,
            tp_src, tp_dst,
        };
        Ok(this)
    }

    fn has(&self, wildcard: u32) -> bool {
        self.wildcards & wildcard == 0
    }

    fn masks(&self) -> (u32, u32) {
        (netmask(self.wildcards >> wild10::NW_SRC_SHIFT), netmask(self.wildcards >> wild10::NW_DST_SHIFT))
    }
}

/// Reads OpenFlow 1.0's match.
///
/// # Errors
/// `OFPBRC_BAD_LEN` if it is cut off.
pub fn read10(reader: &mut Reader<'_>) -> Result<FullMatch, OfError> {
    let fields = Fields10::read(reader)?;
    let mut full = FullMatch::default();
    let m = &mut full.mask.0;
    let (src, dst) = fields.masks();
    if fields.has(wild10::IN_PORT) {
        m.in_port = 0xffff;
    }
    if fields.has(wild10::DL_SRC) {
        m.dl_src = [0xff; 6];
    }
    if fields.has(wild10::DL_DST) {
        m.dl_dst = [0xff; 6];
    }
    if fields.has(wild10::DL_TYPE) {
        m.dl_type = u16::MAX.into();
    }
    if fields.has(wild10::NW_TOS) {
        m.nw_tos = DSCP;
    }
    if fields.has(wild10::NW_PROTO) {
        m.nw_proto = u8::MAX;
    }
    (m.nw_src, m.nw_dst) = (src.into(), dst.into());
    if fields.has(wild10::TP_SRC) {
        m.tp_src = u16::MAX.into();
    }
    if fields.has(wild10::TP_DST) {
        m.tp_dst = u16::MAX.into();
    }
    vlan10(&fields, &mut full);
    let k = &mut full.key;
    (k.dl_src, k.dl_dst, k.dl_type) = (fields.dl_src, fields.dl_dst, fields.dl_type.into());
    (k.nw_src, k.nw_dst) = (fields.nw_src.into(), fields.nw_dst.into());
    (k.nw_tos, k.nw_proto) = (fields.nw_tos & DSCP, fields.nw_proto);
    (k.tp_src, k.tp_dst, k.in_port) = (fields.tp_src.into(), fields.tp_dst.into(), fields.in_port.into());
    let packet =
        WILDCARDS10 & !(wild10::IN_PORT | 0x3f << wild10::NW_SRC_SHIFT | 0x3f << wild10::NW_DST_SHIFT);
    if fields.wildcards & packet != packet || src != 0 || dst != 0 {
        require_ethernet(&mut full);
    }
    full.normalize();
    Ok(full)
}

fn vlan10(fields: &Fields10, full: &mut FullMatch) {
    let (key, mask) = (&mut full.key.vlans[0].tci, &mut full.mask.0.vlans[0].tci);
    if fields.has(wild10::DL_VLAN) && fields.dl_vlan == VLAN_NONE10 {
        // No tag: a priority that is asked for as well can never be there, and is not looked at.
        *mask = u16::MAX.into();
        return;
    }
    let vid = if fields.has(wild10::DL_VLAN) { VID | VLAN_CFI } else { 0 };
    let pcp = if fields.has(wild10::DL_VLAN_PCP) { PCP | VLAN_CFI } else { 0 };
    let tci = (fields.dl_vlan & VID) | (u16::from(fields.dl_vlan_pcp) << 13) | VLAN_CFI;
    *mask = (vid | pcp).into();
    *key = (tci & (vid | pcp)).into();
}

/// How many low bits of an address are not looked at.
fn wild_bits(mask: u32) -> u32 {
    mask.trailing_zeros()
}

/// Appends a match as OpenFlow 1.0's, which leaves out what that cannot tell.
pub fn put10(full: &FullMatch, out: &mut Vec<u8>) {
    let (k, m) = (&full.key, &full.mask.0);
    let wild = |is: bool, bit: u32| if is { bit } else { 0 };
    let mut wildcards = wild(m.in_port == 0, wild10::IN_PORT)
        | wild(m.dl_type.get() == 0, wild10::DL_TYPE)
        | wild(m.nw_proto == 0, wild10::NW_PROTO)
        | wild(m.nw_tos & DSCP == 0, wild10::NW_TOS)
        | wild(m.tp_src.get() == 0, wild10::TP_SRC)
        | wild(m.tp_dst.get() == 0, wild10::TP_DST)
        | wild(m.dl_src == [0; 6], wild10::DL_SRC)
        | wild(m.dl_dst == [0; 6], wild10::DL_DST)
        | wild_bits(m.nw_src.get()) << wild10::NW_SRC_SHIFT
        | wild_bits(m.nw_dst.get()) << wild10::NW_DST_SHIFT;
    let (tci, tci_mask) = (k.vlans[0].tci.get(), m.vlans[0].tci.get());
    let (mut vid, mut pcp) = (0, 0);
    if tci_mask & VLAN_CFI != 0 && tci & VLAN_CFI == 0 {
        vid = VLAN_NONE10;
    } else {
        wildcards |=
            wild(tci_mask & VID == 0, wild10::DL_VLAN) | wild(tci_mask & PCP == 0, wild10::DL_VLAN_PCP);
        vid = if tci_mask & VID == 0 { vid } else { tci & VID };
        pcp = if tci_mask & PCP == 0 { pcp } else { (tci >> 13) as u8 };
    }
    out.u32(wildcards).u16(k.in_port as u16).bytes(&k.dl_src).bytes(&k.dl_dst).u16(vid).u8(pcp).zeros(1);
    out.u16(k.dl_type.get()).u8(k.nw_tos & DSCP).u8(k.nw_proto).zeros(2);
    out.u32(k.nw_src.get()).u32(k.nw_dst.get()).u16(k.tp_src.get()).u16(k.tp_dst.get());
}

/// OpenFlow 1.0's structure as text in its own terms.
pub fn text10(bytes: &[u8], names: &Names, verbosity: i32) -> String {
    let Ok(f) = Fields10::read(&mut Reader::new(bytes)) else { return String::new() };
    let mut out = String::new();
    let arp = matches!(f.dl_type, ethertype::ARP | ethertype::RARP);
    let (named_type, named_proto) = protocol10(&f, &mut out);
    let mut put = |name: &str, wildcard: u32, value: String| {
        if f.has(wildcard) {
            w!(&mut out, "{name}={value},");
        } else if verbosity >= 2 {
            w!(&mut out, "{name}=*,");
        }
    };
    let mac = |addr: [u8; 6]| addr.map(|byte| format!("{byte:02x}")).join(":");
    put("in_port", wild10::IN_PORT, names.port(OfPort(f.in_port)).to_string());
    put("dl_vlan", wild10::DL_VLAN, f.dl_vlan.to_string());
    put("dl_vlan_pcp", wild10::DL_VLAN_PCP, f.dl_vlan_pcp.to_string());
    put("dl_src", wild10::DL_SRC, mac(f.dl_src));
    put("dl_dst", wild10::DL_DST, mac(f.dl_dst));
    if !named_type {
        put("dl_type", wild10::DL_TYPE, format!("0x{:04x}", f.dl_type));
    }
    for (name, addr, shift) in
        [("nw_src", f.nw_src, wild10::NW_SRC_SHIFT), ("nw_dst", f.nw_dst, wild10::NW_DST_SHIFT)]
    {
        let wild = (f.wildcards >> shift) & 0x3f;
        let suffix = if wild == 0 { String::new() } else { format!("/{}", 32_u32.saturating_sub(wild)) };
        put(
            name,
            if wild >= 32 { u32::MAX << shift & f.wildcards } else { 0 },
            format!("{}{suffix}", Ipv4Addr::from(addr)),
        );
    }
    if !named_proto {
        put(if arp { "arp_op" } else { "nw_proto" }, wild10::NW_PROTO, f.nw_proto.to_string());
    }
    put("nw_tos", wild10::NW_TOS, f.nw_tos.to_string());
    let icmp = f.nw_proto == ip::ICMP;
    put(if icmp { "icmp_type" } else { "tp_src" }, wild10::TP_SRC, f.tp_src.to_string());
    put(if icmp { "icmp_code" } else { "tp_dst" }, wild10::TP_DST, f.tp_dst.to_string());
    out.pop();
    out
}

/// Appends the name of the protocol, and says whether it tells the EtherType and the IP protocol.
fn protocol10(f: &Fields10, out: &mut String) -> (bool, bool) {
    if !f.has(wild10::DL_TYPE) {
        return (false, false);
    }
    let (name, proto) = match (f.dl_type, f.nw_proto) {
        (ethertype::IPV4, ip::ICMP) if f.has(wild10::NW_PROTO) => ("icmp", true),
        (ethertype::IPV4, ip::TCP) if f.has(wild10::NW_PROTO) => ("tcp", true),
        (ethertype::IPV4, ip::UDP) if f.has(wild10::NW_PROTO) => ("udp", true),
        (ethertype::IPV4, ip::SCTP) if f.has(wild10::NW_PROTO) => ("sctp", true),
        (ethertype::IPV4, _) => ("ip", false),
        (ethertype::ARP, _) => ("arp", false),
        (ethertype::RARP, _) => ("rarp", false),
        (ethertype::MPLS, _) => ("mpls", false),
        (ethertype::MPLS_MCAST, _) => ("mplsm", false),
        _ => return (false, false),
    };
    w!(out, "{name},");
    (true, proto)
}

/// Reads OpenFlow 1.1's match; `len` is the length that it states.
pub(super) fn read11_standard(reader: &mut Reader<'_>, len: usize) -> Result<FullMatch, OfError> {
    let mut r = reader.sub(LEN11).ok().filter(|_| len == LEN11).ok_or(OfError::BmcBadLen)?;
    r.skip(4)?;
    let mut in_port = r.sub(4)?;
    let wildcards = r.u32()?;
    let has = |bit: u32| wildcards & bit == 0;
    let mut full = FullMatch::default();
    if has(wild11::IN_PORT) {
        let port = read_port32(&mut in_port).map_err(|_| OfError::BmcBadValue)?;
        (full.key.in_port, full.mask.0.in_port) = (port.0.into(), 0xffff);
    }
    let mut mac =
        || -> Result<([u8; 6], [u8; 6]), OfError> { Ok((r.array()?, r.array::<6>()?.map(|byte| !byte))) };
    let ((src, src_mask), (dst, dst_mask)) = (mac()?, mac()?);
    if src_mask != [0; 6] || dst_mask != [0; 6] {
        (full.key.dl_src, full.mask.0.dl_src) = (src, src_mask);
        (full.key.dl_dst, full.mask.0.dl_dst) = (dst, dst_mask);
        require_ethernet(&mut full);
    }
    let (vid, pcp) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    if has(wild11::DL_VLAN) {
        vlan11(vid, has(wild11::DL_VLAN_PCP).then_some(pcp), &mut full)?;
        require_ethernet(&mut full);
    }
    let dl_type = r.u16()?;
    if has(wild11::DL_TYPE) {
        (full.key.dl_type, full.mask.0.dl_type) = (dl_type.into(), u16::MAX.into());
        require_ethernet(&mut full);
    }
    l3_11(&mut r, wildcards, &mut full)?;
    full.normalize();
    Ok(full)
}

fn vlan11(vid: u16, pcp: Option<u8>, full: &mut FullMatch) -> Result<(), OfError> {
    let (key, mask) = (&mut full.key.vlans[0].tci, &mut full.mask.0.vlans[0].tci);
    let (tci, bits) = match vid {
        VLAN_NONE11 => {
            *mask = u16::MAX.into();
            return Ok(());
        }
        VLAN_ANY11 => (VLAN_CFI, VLAN_CFI),
        0..4096 => (VLAN_CFI | vid, VLAN_CFI | VID),
        _ => return Err(OfError::BmcBadValue),
    };
    let (pcp, pcp_mask) = match pcp {
        Some(pcp) if pcp > 7 => return Err(OfError::BmcBadValue),
        Some(pcp) => (u16::from(pcp) << 13, PCP),
        None => (0, 0),
    };
    *key = (tci | pcp).into();
    *mask = (bits | pcp_mask).into();
    Ok(())
}

/// The rest of OpenFlow 1.1's match, from the IP fields on.
fn l3_11(r: &mut Reader<'_>, wildcards: u32, full: &mut FullMatch) -> Result<(), OfError> {
    let has = |bit: u32| wildcards & bit == 0;
    let (tos, proto) = (r.u8()?, r.u8()?);
    let addrs = [r.u32()?, r.u32()?, r.u32()?, r.u32()?];
    let (tp_src, tp_dst, label, tc) = (r.u16()?, r.u16()?, r.u32()?, r.u8()?);
    r.skip(3)?;
    let (metadata, metadata_mask) = (r.u64()?, !r.u64()?);
    let (k, m) = (&mut full.key, &mut full.mask.0);
    let dl_type = k.dl_type.get();
    let v4 = dl_type == ethertype::IPV4;
    if v4 && has(wild11::NW_TOS) {
        if tos & !DSCP != 0 {
            return Err(OfError::BmcBadValue);
        }
        (k.nw_tos, m.nw_tos) = (tos, DSCP);
    }
    if v4 || matches!(dl_type, ethertype::ARP | ethertype::RARP) {
        if has(wild11::NW_PROTO) {
            (k.nw_proto, m.nw_proto) = (proto, u8::MAX);
        }
        (k.nw_src, m.nw_src) = (addrs[0].into(), (!addrs[1]).into());
        (k.nw_dst, m.nw_dst) = (addrs[2].into(), (!addrs[3]).into());
    }
    let icmp = k.nw_proto == ip::ICMP;
    if v4 && (icmp || matches!(k.nw_proto, ip::TCP | ip::UDP | ip::SCTP)) {
        for (port, wildcard, key, mask) in [
            (tp_src, wild11::TP_SRC, &mut k.tp_src, &mut m.tp_src),
            (tp_dst, wild11::TP_DST, &mut k.tp_dst, &mut m.tp_dst),
        ] {
            if has(wildcard) {
                if icmp && port > 0xff {
                    return Err(OfError::BmcBadField);
                }
                (*key, *mask) = (port.into(), u16::MAX.into());
            }
        }
    }
    if ethertype::is_mpls(dl_type) {
        let (mut lse, mut lse_mask) = (0, 0);
        if has(wild11::MPLS_LABEL) {
            (lse, lse_mask) = (label << 12, 0xffff_f000);
        }
        if has(wild11::MPLS_TC) {
            (lse, lse_mask) = (lse | u32::from(tc & 7) << 9, lse_mask | 0xe00);
        }
        (k.mpls_lse[0], m.mpls_lse[0]) = (lse.into(), lse_mask.into());
    }
    (k.metadata, m.metadata) = (metadata.into(), metadata_mask.into());
    Ok(())
}

/// Appends a match as OpenFlow 1.1's structure, which leaves out what that cannot tell.
pub fn put11_standard(full: &FullMatch, out: &mut Vec<u8>) {
    let (k, m) = (&full.key, &full.mask.0);
    let wild = |is: bool, bit: u32| if is { bit } else { 0 };
    let lse_mask = m.mpls_lse[0].get();
    let mut wildcards = wild(m.in_port == 0, wild11::IN_PORT)
        | wild(m.dl_type.get() == 0, wild11::DL_TYPE)
        | wild(m.nw_tos & DSCP == 0, wild11::NW_TOS)
        | wild(m.nw_proto == 0, wild11::NW_PROTO)
        | wild(m.tp_src.get() == 0, wild11::TP_SRC)
        | wild(m.tp_dst.get() == 0, wild11::TP_DST)
        | wild(lse_mask & 0xffff_f000 == 0, wild11::MPLS_LABEL)
        | wild(lse_mask & 0xe00 == 0, wild11::MPLS_TC);
    let (tci, tci_mask) = (k.vlans[0].tci.get(), m.vlans[0].tci.get());
    let (mut vid, mut pcp) = (0, 0);
    if tci_mask == 0 {
        wildcards |= wild11::DL_VLAN | wild11::DL_VLAN_PCP;
    } else if tci_mask & VLAN_CFI != 0 && tci & VLAN_CFI == 0 {
        vid = VLAN_NONE11;
        wildcards |= wild11::DL_VLAN_PCP;
    } else {
        vid = if tci_mask & VID == 0 { VLAN_ANY11 } else { tci & VID };
        wildcards |= wild(tci_mask & PCP == 0, wild11::DL_VLAN_PCP);
        pcp = if tci_mask & PCP == 0 { pcp } else { (tci >> 13) as u8 };
    }
    out.u16(super::OFPMT_STANDARD).u16(LEN11 as u16);
    if m.in_port == 0 {
        out.u32(0);
    } else {
        put_port32(out, OfPort(k.in_port as u16));
    }
    out.u32(wildcards).bytes(&k.dl_src).bytes(&m.dl_src.map(|byte| !byte));
    out.bytes(&k.dl_dst).bytes(&m.dl_dst.map(|byte| !byte)).u16(vid).u8(pcp).zeros(1);
    out.u16(k.dl_type.get()).u8(k.nw_tos & DSCP & m.nw_tos).u8(k.nw_proto & m.nw_proto);
    out.u32(k.nw_src.get()).u32(!m.nw_src.get()).u32(k.nw_dst.get()).u32(!m.nw_dst.get());
    out.u16(k.tp_src.get()).u16(k.tp_dst.get());
    let lse = k.mpls_lse[0].get();
    out.u32((lse & lse_mask) >> 12).u8(((lse & lse_mask) >> 9 & 7) as u8).zeros(3);
    out.u64(k.metadata.get()).u64(!m.metadata.get());
}
