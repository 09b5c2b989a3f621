//! Attributes as a [`Key`], or as a [`Mask`] over a key already read.
//!
//! Each attribute is either expected (the attributes read so far call for it) or not, and present or not; the
//! difference is the [`Fitness`]. Attributes of numbers beyond ours are ignored: a newer kernel's.

use super::TunnelAttr;
use super::attrs::{ArpKey, Ipv4Key, Ipv6Key, KeyAttr, NshKey, code};
use super::rows::{self, Len};
use super::{Fitness, RawKey, RawMask, convert};
use crate::attr::{Attr, AttrError, Attrs};
use crate::field::Prereq;
use crate::id::DpPort;
use crate::key::{Key, MAX_MPLS, MAX_VLANS, Mask, VLAN_CFI, frag};
use crate::proto::{PT_ETH, PT_NS_ETHERTYPE, ethertype, ip, pt_of_ethertype};
use crate::stack::MPLS_BOS;
use crate::wildcards;
use thiserror::Error;
use zerocopy::big_endian::{U16, U32};

/// Why attributes are no key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A known attribute has another size.
    #[error("attribute {name} has length {got} but should have length {want}")]
    Length { name: &'static str, got: usize, want: usize },
    /// Twice the same attribute.
    #[error("duplicate {name} attribute in flow key")]
    Duplicate { name: &'static str },
    /// The bytes end within an attribute.
    #[error("trailing garbage in flow key")]
    Garbage,
    /// An Ethernet type that is a length.
    #[error("invalid Ethertype {0} in flow key")]
    Ethertype(u16),
    /// A mask that matches on some bits of "no Ethernet type".
    #[error("can't bitwise match non-Ethernet II \"Ethertype\" {key:#x} (with mask {mask:#x})")]
    PartialEthertype { key: u16, mask: u16 },
    /// A frame without Ethernet type needs an exact mask of it.
    #[error("mask expected for non-Ethernet II frame")]
    NoEthertypeMask,
    /// A tag that is neither absent nor present.
    #[error("OVS_KEY_ATTR_VLAN 0x{0:04x} is nonzero but CFI bit is not set")]
    Cfi(u16),
    /// A tunnel without TTL.
    #[error("tunnel options missing TTL")]
    NoTtl,
    /// A fragment kind that does not exist.
    #[error("{name} has invalid nw_frag {kind:#x}")]
    Frag { name: &'static str, kind: u8 },
    /// An opcode beyond 8 bits.
    #[error("unsupported ARP opcode {0} in flow key")]
    ArpOpcode(u16),
    /// A bottom-of-stack bit above the bottom.
    #[error("MPLS BOS set in non-innermost label")]
    Bos,
    /// A context that the header cannot have.
    #[error("OVS_NSH_KEY_ATTR_MD1 present but declared mdtype {0} is not 1 (NSH_M_TYPE1)")]
    NshMd1(u8),
    /// A mask beyond L2 with a partial Ethernet type.
    #[error("unexpected L3 matching with masked Ethertype {key:#x}/{mask:#x}")]
    MaskedEthertype { key: u16, mask: u16 },
    /// A mask of ports with a partial protocol.
    #[error("flow matches on L4 ports but does not define an L4 protocol")]
    MaskedProto,
    /// A mask of neighbor discovery with a partial type.
    #[error("ICMP src mask should be (0xff) but is actually ({0:#x})")]
    MaskedIcmp(u16),
    /// Anything else within an attribute.
    #[error("{0}")]
    Attr(#[from] AttrError),
}

type Result<T> = std::result::Result<T, KeyError>;

/// Reads a key. Bytes that no datapath may send are an error.
pub fn key_to_flow(raw: &RawKey) -> Result<(Key, Fitness)> {
    key_to_flow_limited(raw, MAX_VLANS)
}

/// As [`key_to_flow`], looking at `vlan_limit` tags only.
pub fn key_to_flow_limited(raw: &RawKey, vlan_limit: usize) -> Result<(Key, Fitness)> {
    let mut key = Key::default();
    let fitness = Importer { flow: &mut key, src: None, vlan_limit }.all(raw.attrs())?;
    Ok((key, fitness))
}

/// As [`key_to_flow`], into a key that is all zeros. After an error it is of no use.
pub fn read_key(attrs: Attrs<'_>, key: &mut Key) -> Result<Fitness> {
    Importer { flow: key, src: None, vlan_limit: MAX_VLANS }.all(attrs)
}

/// Reads the mask that belongs to `key`. An empty mask is exact.
pub fn mask_to_flow(raw: &RawMask, key: &Key) -> Result<(Mask, Fitness)> {
    if raw.0.is_empty() {
        return Ok((wildcards::for_packet(key), Fitness::Perfect));
    }
    let mut mask = Mask::default();
    let fitness = Importer { flow: &mut mask.0, src: Some(key), vlan_limit: MAX_VLANS }.all(raw.attrs())?;
    Ok((mask, fitness))
}

const SLOTS: usize = code::MAX as usize + 1;

/// The attributes of one level, each with whether it was called for.
#[derive(Default)]
struct Found<'a> {
    attrs: [Option<Attr<'a>>; SLOTS],
    present: u32,
    expected: u32,
}

impl<'a> Found<'a> {
    /// Takes the attributes of a level, and forgets those before.
    fn read(&mut self, attrs: Attrs<'a>) -> Result<()> {
        let found = self;
        (found.attrs, found.present, found.expected) = ([None; SLOTS], 0, 0);
        for attr in attrs {
            let attr = attr.map_err(|_| KeyError::Garbage)?;
            let Some(slot) = found.attrs.get_mut(usize::from(attr.kind)) else { continue };
            if let Some(row) = rows::find(attr.kind) {
                let (name, got) = (row.name, attr.data.len());
                if let Len::Exact(want) = row.len
                    && want != got
                {
                    return Err(KeyError::Length { name, got, want });
                }
                if slot.is_some() {
                    return Err(KeyError::Duplicate { name });
                }
            }
            *slot = Some(attr);
            found.present |= 1 << attr.kind;
        }
        Ok(())
    }

    fn has(&self, code: u16) -> bool {
        self.present & 1 << code != 0
    }

    fn expect(&mut self, code: u16) {
        self.expected |= 1 << code;
    }

    /// The attribute, expected by being there.
    fn take(&mut self, code: u16) -> Option<Attr<'a>> {
        self.expected |= self.present & 1 << code;
        self.peek(code)
    }

    /// The attribute, expected or not.
    fn peek(&self, code: u16) -> Option<Attr<'a>> {
        self.attrs.get(usize::from(code)).copied().flatten()
    }

    /// Whether the attribute is there and not all zeros.
    fn nonzero(&self, code: u16) -> bool {
        let attr = self.attrs.get(usize::from(code)).and_then(Option::as_ref);
        attr.is_some_and(|attr| attr.data.iter().any(|&byte| byte != 0))
    }

    fn fitness(&self) -> Fitness {
        if self.expected & !self.present != 0 {
            Fitness::TooLittle
        } else if self.present & !self.expected != 0 {
            Fitness::TooMuch
        } else {
            Fitness::Perfect
        }
    }
}

struct Importer<'s> {
    /// All zeros at first.
    flow: &'s mut Key,
    /// The key that a mask belongs to; `None` if a key is read.
    src: Option<&'s Key>,
    vlan_limit: usize,
}

impl Importer<'_> {
    /// The key that decides what is expected.
    fn key(&self) -> &Key {
        self.src.unwrap_or(&*self.flow)
    }

    fn is_mask(&self) -> bool {
        self.src.is_some()
    }

    fn all(&mut self, attrs: Attrs<'_>) -> Result<Fitness> {
        let mut found = Found::default();
        found.read(attrs)?;
        self.metadata(&mut found)?;
        self.conntrack(&mut found)?;
        self.tunnel(&mut found)?;
        self.frame(&mut found)?;
        self.ethertype(&mut found)?;
        let tagged = match self.src {
            Some(key) => key.vlans[0].tci.get() & VLAN_CFI != 0,
            None => ethertype::is_vlan(self.flow.dl_type.get()),
        };
        if tagged {
            return self.vlans(&mut found);
        }
        if self.is_mask() {
            // No mask of the tag means that there must be none.
            (self.flow.vlans[0].tpid, self.flow.vlans[0].tci) = (U16::MAX_VALUE, U16::MAX_VALUE);
            if let Some(attr) = found.take(code::VLAN) {
                self.flow.vlans[0].tci = attr.be16()?;
            }
        }
        Ok(self.beyond_l2(&mut found)?.unwrap_or_else(|| found.fitness()))
    }

    fn metadata(&mut self, found: &mut Found<'_>) -> Result<()> {
        match found.take(code::RECIRC_ID) {
            Some(attr) => self.flow.recirc_id = attr.u32()?,
            _ if self.is_mask() => self.flow.recirc_id = u32::MAX,
            _ => {}
        }
        if let Some(attr) = found.take(code::DP_HASH) {
            self.flow.dp_hash = attr.u32()?;
        }
        if let Some(attr) = found.take(code::PRIORITY) {
            self.flow.skb_priority = attr.u32()?;
        }
        if let Some(attr) = found.take(code::SKB_MARK) {
            self.flow.pkt_mark = attr.u32()?;
        }
        match found.take(code::IN_PORT) {
            Some(attr) => self.flow.in_port = attr.u32()?,
            _ if !self.is_mask() => self.flow.in_port = DpPort::NONE.0,
            _ => {}
        }
        Ok(())
    }

    fn conntrack(&mut self, found: &mut Found<'_>) -> Result<()> {
        let flow = &mut *self.flow;
        if let Some(attr) = found.take(code::CT_STATE) {
            flow.ct_state = attr.u32()? as u8;
        }
        if let Some(attr) = found.take(code::CT_ZONE) {
            flow.ct_zone = attr.u16()?;
        }
        if let Some(attr) = found.take(code::CT_MARK) {
            flow.ct_mark = attr.u32()?;
        }
        if let Some(attr) = found.take(code::CT_LABELS) {
            flow.ct_label = convert::label_from_odp(attr.array()?);
        }
        if let Some(attr) = found.take(code::CT_ORIG_TUPLE_IPV4) {
            convert::put_ct_tuple4(&attr.read()?, flow);
        }
        if let Some(attr) = found.take(code::CT_ORIG_TUPLE_IPV6) {
            convert::put_ct_tuple6(&attr.read()?, flow);
        }
        Ok(())
    }

    fn tunnel(&mut self, found: &mut Found<'_>) -> Result<()> {
        let Some(attr) = found.peek(code::TUNNEL) else { return Ok(()) };
        let attrs = TunnelAttr::decode_all(attr.nested())?;
        let is_mask = self.is_mask();
        if !attrs.iter().any(|attr| matches!(attr, TunnelAttr::Ttl(_))) {
            return Err(KeyError::NoTtl);
        }
        let known =
            attrs.iter().filter(|attr| convert::put_tunnel(attr, &mut self.flow.tunnel, is_mask)).count();
        if known == attrs.len() {
            found.expect(code::TUNNEL);
        }
        Ok(())
    }

    /// Packet type and Ethernet addresses.
    fn frame(&mut self, found: &mut Found<'_>) -> Result<()> {
        match found.take(code::PACKET_TYPE) {
            Some(attr) => {
                let kind = attr.be32()?;
                self.flow.packet_type = kind;
                if self.key().packet_type.get() >> 16 == PT_NS_ETHERTYPE {
                    self.flow.dl_type = U16::new(kind.get() as u16);
                }
            }
            _ if !self.is_mask() => self.flow.packet_type = U32::new(PT_ETH),
            _ => {}
        }
        if let Some(attr) = found.take(code::ETHERNET) {
            convert::put_ethernet(&attr.read()?, self.flow);
            if !self.is_mask() {
                self.flow.packet_type = U32::new(PT_ETH);
            }
        } else if let Some(attr) = found.take(code::ETHERTYPE) {
            let kind = attr.be16()?;
            if self.is_mask() {
                return Ok(());
            }
            self.flow.packet_type = U32::new(pt_of_ethertype(kind.get()));
        }
        Ok(())
    }

    fn ethertype(&mut self, found: &mut Found<'_>) -> Result<()> {
        let src = self.src.map(|key| (key.dl_type.get(), key.packet_type.get()));
        match (found.take(code::ETHERTYPE), src) {
            (Some(attr), src) => {
                let kind = attr.be16()?;
                self.flow.dl_type = kind;
                match src {
                    None if kind.get() < ethertype::MIN => return Err(KeyError::Ethertype(kind.get())),
                    Some((key, _)) if key < ethertype::MIN && kind != U16::MAX_VALUE => {
                        return Err(KeyError::PartialEthertype { key, mask: kind.get() });
                    }
                    _ => {}
                }
            }
            (None, None) => {
                // Without an Ethernet type, the attribute of a well-known protocol tells it.
                self.flow.dl_type = U16::new(match () {
                    () if found.has(code::IPV4) => ethertype::IPV4,
                    () if found.has(code::IPV6) => ethertype::IPV6,
                    () if found.has(code::MPLS) => ethertype::MPLS,
                    () => ethertype::NONE,
                });
            }
            (None, Some((_, packet_type))) if packet_type != PT_ETH => self.flow.dl_type = U16::MAX_VALUE,
            (None, Some((key, _))) if key < ethertype::MIN => return Err(KeyError::NoEthertypeMask),
            (None, Some(_)) => {}
        }
        Ok(())
    }

    fn vlans(&mut self, found: &mut Found<'_>) -> Result<Fitness> {
        let mut depth = 0;
        while depth < self.vlan_limit.min(MAX_VLANS) {
            let more = match self.src {
                Some(key) => key.vlans[depth].tci.get() & VLAN_CFI != 0,
                None => ethertype::is_vlan(self.flow.dl_type.get()),
            };
            if !more {
                break;
            }
            if !self.is_mask() {
                found.expect(code::VLAN);
                found.expect(code::ENCAP);
            }
            let tci = found.take(code::VLAN).map_or(Ok(U16::ZERO), |attr| attr.be16())?;
            let encap = found.attrs[usize::from(code::ENCAP)];
            found.expected |= found.present & 1 << code::ENCAP;
            // The Ethernet type read last is the tag's; the inner one follows.
            (self.flow.vlans[depth].tpid, self.flow.vlans[depth].tci) = (self.flow.dl_type, tci);
            self.flow.dl_type = U16::ZERO;
            let Some(encap) = encap else {
                return Ok(if self.is_mask() { found.fitness() } else { Fitness::TooLittle });
            };
            if !self.is_mask() {
                if !found.has(code::VLAN) {
                    return Ok(Fitness::TooLittle);
                }
                if tci == U16::ZERO {
                    // A tag cut off after its Ethernet type.
                    let fitness = found.fitness();
                    let more = fitness == Fitness::Perfect && !encap.data.is_empty();
                    return Ok(if more { Fitness::TooMuch } else { fitness });
                }
                if tci.get() & VLAN_CFI == 0 {
                    return Err(KeyError::Cfi(tci.get()));
                }
            }
            found.read(encap.nested())?;
            self.ethertype(found)?;
            if let Some(fitness) = self.beyond_l2(found)? {
                return Ok(fitness);
            }
            depth += 1;
        }
        Ok(found.fitness())
    }

    /// What follows the Ethernet type. A fitness that is decided already is returned.
    fn beyond_l2(&mut self, found: &mut Found<'_>) -> Result<Option<Fitness>> {
        let dl_type = self.key().dl_type.get();
        let l3 = match dl_type {
            ethertype::MPLS | ethertype::MPLS_MCAST => return self.mpls(found),
            ethertype::IPV4 => code::IPV4,
            ethertype::IPV6 => code::IPV6,
            ethertype::ARP | ethertype::RARP => code::ARP,
            ethertype::NSH => code::NSH,
            _ => return Ok(None),
        };
        if !self.is_mask() {
            found.expect(l3);
        }
        if let Some(attr) = found.peek(l3) {
            self.network(&attr)?;
            if self.is_mask() {
                if found.nonzero(l3) && self.flow.dl_type != U16::MAX_VALUE {
                    return Err(KeyError::MaskedEthertype { key: dl_type, mask: self.flow.dl_type.get() });
                }
                found.expect(l3);
            }
        }
        let key = self.key();
        if ethertype::is_ip(dl_type) && key.nw_frag & frag::LATER == 0 {
            self.transport(dl_type, found)?;
        }
        Ok(None)
    }

    fn network(&mut self, attr: &Attr<'_>) -> Result<()> {
        let is_mask = self.is_mask();
        let fragment =
            |name, kind| convert::frag_from_odp(kind, is_mask).ok_or(KeyError::Frag { name, kind });
        match attr.kind {
            code::IPV4 => {
                let ip: Ipv4Key = attr.read()?;
                convert::put_ipv4(&ip, self.flow);
                self.flow.nw_frag = fragment("OVS_KEY_ATTR_IPV4", ip.frag)?;
            }
            code::IPV6 => {
                let ip: Ipv6Key = attr.read()?;
                convert::put_ipv6(&ip, self.flow);
                self.flow.nw_frag = fragment("OVS_KEY_ATTR_IPV6", ip.frag)?;
            }
            code::ARP => {
                let arp: ArpKey = attr.read()?;
                if !is_mask && arp.op.get() > 0xff {
                    return Err(KeyError::ArpOpcode(arp.op.get()));
                }
                convert::put_arp(&arp, self.flow);
            }
            code::NSH => {
                let nsh = NshKey::decode(attr.nested())?;
                convert::put_nsh(&nsh, self.flow);
                let mdtype = self.flow.nsh.mdtype;
                if !is_mask && nsh.md1.is_some() && mdtype != 1 {
                    return Err(KeyError::NshMd1(mdtype));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn mpls(&mut self, found: &mut Found<'_>) -> Result<Option<Fitness>> {
        if !self.is_mask() {
            found.expect(code::MPLS);
        }
        let Some(KeyAttr::Mpls(labels)) =
            found.take(code::MPLS).map(|attr| KeyAttr::decode(&attr)).transpose()?
        else {
            return Ok(None);
        };
        for (slot, label) in self.flow.mpls_lse[..MAX_MPLS].iter_mut().zip(&labels) {
            *slot = *label;
        }
        if labels.len() > MAX_MPLS {
            return Ok(Some(Fitness::TooMuch));
        }
        if !self.is_mask() {
            let bottom = |label: &U32| label.get() & MPLS_BOS != 0;
            if labels[..labels.len() - 1].iter().any(bottom) {
                return Err(KeyError::Bos);
            }
            if labels.len() < MAX_MPLS && !labels.last().is_some_and(bottom) {
                return Ok(Some(Fitness::TooLittle));
            }
        }
        Ok(None)
    }

    fn transport(&mut self, dl_type: u16, found: &mut Found<'_>) -> Result<()> {
        let l4 = match (self.key().nw_proto, dl_type) {
            (ip::TCP, _) => code::TCP,
            (ip::UDP, _) => code::UDP,
            (ip::SCTP, _) => code::SCTP,
            (ip::ICMP, ethertype::IPV4) => code::ICMP,
            (ip::ICMPV6, ethertype::IPV6) => code::ICMPV6,
            _ => return Ok(()),
        };
        if !self.is_mask() {
            found.expect(l4);
        }
        let attr = found.peek(l4);
        match &attr {
            Some(attr) if matches!(l4, code::ICMP | code::ICMPV6) => {
                convert::put_icmp(&attr.read()?, self.flow);
            }
            Some(attr) => convert::put_ports(&attr.read()?, self.flow),
            None => {}
        }
        if l4 == code::TCP
            && let Some(attr) = found.take(code::TCP_FLAGS)
        {
            self.flow.tcp_flags = attr.be16()?;
        }
        if l4 == code::ICMPV6 && attr.is_some() && Prereq::Nd.holds(self.key(), None) {
            self.neighbor_discovery(found)?;
        }
        if self.is_mask() && attr.is_some() {
            let ports = self.flow.tp_src.get() != 0 || self.flow.tp_dst.get() != 0;
            if ports && self.flow.nw_proto != u8::MAX {
                return Err(KeyError::MaskedProto);
            }
            found.expect(l4);
        }
        Ok(())
    }

    fn neighbor_discovery(&mut self, found: &mut Found<'_>) -> Result<()> {
        if !self.is_mask() {
            found.expect(code::ND);
        }
        let (kind, subtype) = (self.flow.tp_src.get(), self.flow.tp_dst.get());
        if let Some(attr) = found.take(code::ND) {
            convert::put_nd(&attr.read()?, self.flow);
            if self.is_mask() && found.nonzero(code::ND) && kind != 0xff {
                return Err(KeyError::MaskedIcmp(kind));
            }
        }
        if let Some(attr) = found.take(code::ND_EXTENSIONS) {
            convert::put_nd_ext(&attr.read()?, self.flow);
            if self.is_mask() && found.nonzero(code::ND_EXTENSIONS) && (kind, subtype) != (0xff, 0xff) {
                return Err(KeyError::MaskedIcmp(kind));
            }
        }
        Ok(())
    }
}
