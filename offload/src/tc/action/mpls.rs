//! `mpls`: pushing, popping and changing labels (`linux/tc_act/tc_mpls.h`).

use flow::attr::{Attr, AttrError, Writer};

use super::{Gen, word};

const PARMS: u16 = 2;
const PROTO: u16 = 4;
const LABEL: u16 = 5;
const TC: u16 = 6;
const TTL: u16 = 7;
const BOS: u16 = 8;

/// Parts of a label stack entry; `None` for what is left as it is, or chosen by the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Parts {
    /// 20 bits.
    pub label: Option<u32>,
    /// 3 bits.
    pub tc: Option<u8>,
    pub ttl: Option<u8>,
    /// 1 bit.
    pub bos: Option<u8>,
}

/// What becomes of a packet's labels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mpls {
    /// The EtherType that remains.
    Pop(u16),
    /// Under an EtherType of MPLS; behind the Ethernet header.
    Push(u16, Parts),
    Modify(Parts),
    DecTtl,
    /// As `Push`, in front of the Ethernet header.
    MacPush(u16, Parts),
}

impl Mpls {
    const fn number(self) -> u32 {
        match self {
            Self::Pop(_) => 1,
            Self::Push(..) => 2,
            Self::Modify(_) => 3,
            Self::DecTtl => 4,
            Self::MacPush(..) => 5,
        }
    }

    pub(super) fn encode(self, generic: Gen, out: &mut Writer) {
        out.put(PARMS, &generic.bytes(&self.number().to_ne_bytes()));
        let (proto, parts) = match self {
            Self::Pop(proto) => (Some(proto), Parts::default()),
            Self::Push(proto, parts) | Self::MacPush(proto, parts) => (Some(proto), parts),
            Self::Modify(parts) => (None, parts),
            Self::DecTtl => (None, Parts::default()),
        };
        proto.into_iter().for_each(|proto| out.put(PROTO, &proto.to_be_bytes()));
        parts.label.into_iter().for_each(|label| out.put_u32(LABEL, label));
        for (kind, part) in [(TC, parts.tc), (TTL, parts.ttl), (BOS, parts.bos)] {
            part.into_iter().for_each(|part| out.put_u8(kind, part));
        }
    }

    pub(super) fn decode(options: &Attr<'_>, parms: &Attr<'_>, rest: &[u8]) -> Result<Self, AttrError> {
        let (mut proto, mut parts) = (0, Parts::default());
        for attr in options.nested() {
            let attr = attr?;
            match attr.kind {
                PROTO => proto = attr.be16()?.get(),
                LABEL => parts.label = Some(attr.u32()? & 0xf_ffff),
                TC => parts.tc = Some(attr.u8()? & 7),
                TTL => parts.ttl = Some(attr.u8()?),
                BOS => parts.bos = Some(attr.u8()? & 1),
                _ => {}
            }
        }
        Ok(match word(parms, rest, 0)? {
            1 => Self::Pop(proto),
            2 => Self::Push(proto, parts),
            3 => Self::Modify(parts),
            4 => Self::DecTtl,
            5 => Self::MacPush(proto, parts),
            _ => return Err(parms.invalid("unknown action of mpls")),
        })
    }
}
