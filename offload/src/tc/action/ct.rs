//! `ct`: the connection tracker (`linux/tc_act/tc_ct.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flow::attr::{Attr, AttrError, Writer};

use super::Gen;

const PARMS: u16 = 1;
const ACTION: u16 = 3;
const ZONE: u16 = 4;
const MARK: u16 = 5;
const MARK_MASK: u16 = 6;
const LABELS: u16 = 7;
const LABELS_MASK: u16 = 8;
const NAT_IPV4_MIN: u16 = 9;
const NAT_IPV4_MAX: u16 = 10;
const NAT_IPV6_MIN: u16 = 11;
const NAT_IPV6_MAX: u16 = 12;
const NAT_PORT_MIN: u16 = 13;
const NAT_PORT_MAX: u16 = 14;

/// Bits of [`ACTION`].
mod bit {
    pub const COMMIT: u16 = 1;
    pub const FORCE: u16 = 2;
    pub const CLEAR: u16 = 4;
    pub const NAT: u16 = 8;
    pub const NAT_SRC: u16 = 16;
    pub const NAT_DST: u16 = 32;
}

/// Which addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NatSide {
    /// Whichever the connection says.
    Existing,
    Src,
    Dst,
}

/// Translation of addresses; without a range the kernel chooses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CtNat {
    pub side: NatSide,
    /// Least and greatest, of one family.
    pub addrs: Option<(IpAddr, IpAddr)>,
    pub ports: Option<(u16, u16)>,
}

/// What the tracker does with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Ct {
    pub commit: bool,
    pub force: bool,
    /// Forgets what the tracker said of the packet.
    pub clear: bool,
    pub zone: Option<u16>,
    /// Value and mask.
    pub mark: Option<(u32, u32)>,
    /// Value and mask, in the kernel's order.
    pub labels: Option<([u8; 16], [u8; 16])>,
    pub nat: Option<CtNat>,
}

impl Ct {
    fn bits(&self) -> u16 {
        let side = match self.nat.map(|nat| nat.side) {
            None => 0,
            Some(NatSide::Existing) => bit::NAT,
            Some(NatSide::Src) => bit::NAT | bit::NAT_SRC,
            Some(NatSide::Dst) => bit::NAT | bit::NAT_DST,
        };
        let own = [(self.commit, bit::COMMIT), (self.force, bit::FORCE), (self.clear, bit::CLEAR)];
        own.iter().filter(|(on, _)| *on).fold(side, |bits, (_, bit)| bits | bit)
    }

    pub(super) fn encode(&self, generic: Gen, out: &mut Writer) {
        out.put(PARMS, &generic.bytes(&[]));
        out.put_u16(ACTION, self.bits());
        self.zone.into_iter().for_each(|zone| out.put_u16(ZONE, zone));
        if let Some((mark, mask)) = self.mark {
            out.put_u32(MARK, mark);
            out.put_u32(MARK_MASK, mask);
        }
        if let Some((labels, mask)) = &self.labels {
            out.put(LABELS, labels);
            out.put(LABELS_MASK, mask);
        }
        let Some(nat) = self.nat else { return };
        match nat.addrs {
            Some((IpAddr::V4(min), IpAddr::V4(max))) => {
                out.put(NAT_IPV4_MIN, &min.octets());
                out.put(NAT_IPV4_MAX, &max.octets());
            }
            Some((IpAddr::V6(min), IpAddr::V6(max))) => {
                out.put(NAT_IPV6_MIN, &min.octets());
                out.put(NAT_IPV6_MAX, &max.octets());
            }
            _ => {}
        }
        if let Some((min, max)) = nat.ports {
            out.put(NAT_PORT_MIN, &min.to_be_bytes());
            out.put(NAT_PORT_MAX, &max.to_be_bytes());
        }
    }

    pub(super) fn decode(options: &Attr<'_>) -> Result<Self, AttrError> {
        let mut ct = Self::default();
        let (mut bits, mut mark_mask, mut labels_mask) = (0, u32::MAX, [0xff; 16]);
        let (mut min, mut max, mut port_min, mut port_max) = (None, None, None, None);
        for attr in options.nested() {
            let attr = attr?;
            let v4 = || Ok::<_, AttrError>(Some(IpAddr::V4(Ipv4Addr::from(attr.array::<4>()?))));
            let v6 = || Ok::<_, AttrError>(Some(IpAddr::V6(Ipv6Addr::from(attr.array::<16>()?))));
            match attr.kind {
                ACTION => bits = attr.u16()?,
                ZONE => ct.zone = Some(attr.u16()?),
                MARK => ct.mark = Some((attr.u32()?, mark_mask)),
                MARK_MASK => mark_mask = attr.u32()?,
                LABELS => ct.labels = Some((attr.array()?, labels_mask)),
                LABELS_MASK => labels_mask = attr.array()?,
                NAT_IPV4_MIN => min = v4()?,
                NAT_IPV4_MAX => max = v4()?,
                NAT_IPV6_MIN => min = v6()?,
                NAT_IPV6_MAX => max = v6()?,
                NAT_PORT_MIN => port_min = Some(attr.be16()?.get()),
                NAT_PORT_MAX => port_max = Some(attr.be16()?.get()),
                _ => {}
            }
        }
        ct.mark = ct.mark.map(|(mark, _)| (mark, mark_mask));
        ct.labels = ct.labels.map(|(labels, _)| (labels, labels_mask));
        (ct.commit, ct.force, ct.clear) =
            (bits & bit::COMMIT != 0, bits & bit::FORCE != 0, bits & bit::CLEAR != 0);
        if bits & bit::NAT != 0 {
            let side = match (bits & bit::NAT_SRC != 0, bits & bit::NAT_DST != 0) {
                (true, _) => NatSide::Src,
                (_, true) => NatSide::Dst,
                _ => NatSide::Existing,
            };
            let range = |min: Option<IpAddr>, max: Option<IpAddr>| {
                let min = min?;
                let max = max.unwrap_or(min);
                (min.is_ipv4() == max.is_ipv4()).then_some((min, max))
            };
            let ports = port_min.map(|min| (min, port_max.unwrap_or(min)));
            ct.nat = Some(CtNat { side, addrs: range(min, max), ports });
        }
        Ok(ct)
    }
}
