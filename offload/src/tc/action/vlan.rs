//! `vlan`: pushing, popping and changing tags; and Ethernet headers (`linux/tc_act/tc_vlan.h`).

use flow::attr::{Attr, AttrError, Writer};
use flow::key::EthAddr;

use super::{Gen, word};

const PARMS: u16 = 2;
const VLAN_ID: u16 = 3;
const PROTOCOL: u16 = 4;
const PRIORITY: u16 = 6;
const ETH_DST: u16 = 7;
const ETH_SRC: u16 = 8;

/// What becomes of a packet's tags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Vlan {
    Pop,
    Push(Tag),
    /// Changes the outermost tag.
    Modify(Tag),
    PopEth,
    PushEth {
        dst: EthAddr,
        src: EthAddr,
    },
}

/// A tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Tag {
    /// The EtherType of the tag; `None` for 802.1Q.
    pub tpid: Option<u16>,
    /// 12 bits.
    pub id: u16,
    /// 3 bits; `None` for 0, or when a tag is changed for what it has.
    pub priority: Option<u8>,
}

impl Tag {
    fn encode(self, out: &mut Writer) {
        out.put_u16(VLAN_ID, self.id);
        self.tpid.into_iter().for_each(|tpid| out.put(PROTOCOL, &tpid.to_be_bytes()));
        self.priority.into_iter().for_each(|priority| out.put_u8(PRIORITY, priority));
    }
}

impl Vlan {
    const fn number(self) -> u32 {
        match self {
            Self::Pop => 1,
            Self::Push(_) => 2,
            Self::Modify(_) => 3,
            Self::PopEth => 4,
            Self::PushEth { .. } => 5,
        }
    }

    pub(super) fn encode(self, generic: Gen, out: &mut Writer) {
        out.put(PARMS, &generic.bytes(&self.number().to_ne_bytes()));
        match self {
            Self::Pop | Self::PopEth => {}
            Self::Push(tag) | Self::Modify(tag) => tag.encode(out),
            Self::PushEth { dst, src } => {
                out.put(ETH_DST, &dst);
                out.put(ETH_SRC, &src);
            }
        }
    }

    pub(super) fn decode(options: &Attr<'_>, parms: &Attr<'_>, rest: &[u8]) -> Result<Self, AttrError> {
        let (mut tag, mut dst, mut src) = (Tag::default(), EthAddr::default(), EthAddr::default());
        for attr in options.nested() {
            let attr = attr?;
            match attr.kind {
                VLAN_ID => tag.id = attr.u16()? & 0xfff,
                PROTOCOL => tag.tpid = Some(attr.be16()?.get()),
                PRIORITY => tag.priority = Some(attr.u8()? & 7),
                ETH_DST => dst = attr.array()?,
                ETH_SRC => src = attr.array()?,
                _ => {}
            }
        }
        Ok(match word(parms, rest, 0)? {
            1 => Self::Pop,
            2 => Self::Push(tag),
            3 => Self::Modify(tag),
            4 => Self::PopEth,
            5 => Self::PushEth { dst, src },
            _ => return Err(parms.invalid("unknown action of vlan")),
        })
    }
}
