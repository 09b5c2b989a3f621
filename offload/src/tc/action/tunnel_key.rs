//! `tunnel_key`: by what a packet will be encapsulated (`linux/tc_act/tc_tunnel_key.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flow::attr::{Attr, AttrError, Writer};

use super::{Gen, word};
use crate::tc::options::SetOpts;

const PARMS: u16 = 2;
const IPV4_SRC: u16 = 3;
const IPV4_DST: u16 = 4;
const IPV6_SRC: u16 = 5;
const IPV6_DST: u16 = 6;
const KEY_ID: u16 = 7;
const DST_PORT: u16 = 9;
const NO_CSUM: u16 = 10;
const ENC_OPTS: u16 = 11;
const TOS: u16 = 12;
const TTL: u16 = 13;
/// Since Linux 6.12.
const NO_FRAG: u16 = 14;

const SET: u32 = 1;
const RELEASE: u32 = 2;

/// An outer header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelSet {
    pub id: Option<u32>,
    /// Of the same family as `dst`, and not unspecified.
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    pub dst_port: Option<u16>,
    /// The outer UDP checksum is left out.
    pub no_csum: bool,
    pub no_frag: bool,
    pub tos: Option<u8>,
    pub ttl: Option<u8>,
    pub opts: Option<SetOpts>,
}

impl Default for TunnelSet {
    fn default() -> Self {
        let (id, src, dst, dst_port, tos, ttl, opts) = (None, None, None, None, None, None, None);
        Self { id, src, dst, dst_port, no_csum: true, no_frag: false, tos, ttl, opts }
    }
}

fn put_addr(out: &mut Writer, addr: Option<IpAddr>, v4: u16, v6: u16) {
    match addr {
        Some(IpAddr::V4(addr)) => out.put(v4, &addr.octets()),
        Some(IpAddr::V6(addr)) => out.put(v6, &addr.octets()),
        None => {}
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

pub(super) fn encode(set: Option<&TunnelSet>, generic: Gen, out: &mut Writer) {
    let number = if set.is_some() { SET } else { RELEASE };
    out.put(PARMS, &generic.bytes(&number.to_ne_bytes()));
    let Some(set) = set else { return };
    // The kernel wants both addresses, and chooses the source if that is none.
    put_addr(out, set.src.or_else(|| set.dst.map(unspecified)), IPV4_SRC, IPV6_SRC);
    put_addr(out, set.dst, IPV4_DST, IPV6_DST);
    set.id.into_iter().for_each(|id| out.put(KEY_ID, &id.to_be_bytes()));
    set.dst_port.into_iter().for_each(|port| out.put(DST_PORT, &port.to_be_bytes()));
    out.put_u8(NO_CSUM, set.no_csum.into());
    if set.no_frag {
        out.put_flag(NO_FRAG);
    }
    set.tos.into_iter().for_each(|tos| out.put_u8(TOS, tos));
    set.ttl.into_iter().for_each(|ttl| out.put_u8(TTL, ttl));
    if let Some(opts) = &set.opts {
        out.nest_flagged(ENC_OPTS, |nest| opts.encode(nest));
    }
}

pub(super) fn decode(
    options: &Attr<'_>,
    parms: &Attr<'_>,
    rest: &[u8],
) -> Result<Option<Box<TunnelSet>>, AttrError> {
    match word(parms, rest, 0)? {
        SET => {}
        RELEASE => return Ok(None),
        _ => return Err(parms.invalid("unknown action of tunnel_key")),
    }
    let mut set = TunnelSet { no_csum: false, ..TunnelSet::default() };
    for attr in options.nested() {
        let attr = attr?;
        let v4 = || Ok::<_, AttrError>(Some(IpAddr::V4(Ipv4Addr::from(attr.array::<4>()?))));
        let v6 = || Ok::<_, AttrError>(Some(IpAddr::V6(Ipv6Addr::from(attr.array::<16>()?))));
        match attr.kind {
            IPV4_SRC => set.src = v4()?,
            IPV4_DST => set.dst = v4()?,
            IPV6_SRC => set.src = v6()?,
            IPV6_DST => set.dst = v6()?,
            KEY_ID => set.id = Some(attr.be32()?.get()),
            DST_PORT => set.dst_port = Some(attr.be16()?.get()),
            NO_CSUM => set.no_csum = attr.u8()? != 0,
            NO_FRAG => set.no_frag = true,
            TOS => set.tos = Some(attr.u8()?),
            TTL => set.ttl = Some(attr.u8()?),
            ENC_OPTS => set.opts = SetOpts::decode(&attr)?,
            _ => {}
        }
    }
    set.src = set.src.filter(|src| !src.is_unspecified());
    Ok(Some(Box::new(set)))
}
