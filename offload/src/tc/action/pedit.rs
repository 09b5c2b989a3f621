//! `pedit`: changes of header bytes, in words of 32 bits (`linux/tc_act/tc_pedit.h`).

use flow::attr::{Attr, AttrError, Writer};

use super::Gen;

pub(super) const PARMS_EX: u16 = 4;
const KEYS_EX: u16 = 5;
const KEY_EX: u16 = 6;
const KEY_EX_HTYPE: u16 = 1;
const KEY_EX_CMD: u16 = 2;
/// Bytes of `struct tc_pedit_key`.
const KEY: usize = 24;
/// Bytes behind `tc_gen` before the keys: their number, flags, padding.
const COUNT: usize = 4;

/// Which header an offset counts from (`TCA_PEDIT_KEY_EX_HDR_TYPE_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Header {
    /// The network header, whatever it is.
    Network,
    Eth,
    Ipv4,
    Ipv6,
    Tcp,
    Udp,
}

impl Header {
    const ALL: [Self; 6] = [Self::Network, Self::Eth, Self::Ipv4, Self::Ipv6, Self::Tcp, Self::Udp];
}

/// A change of a word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeditKey {
    pub header: Header,
    /// The value is added to the word and does not replace it.
    pub add: bool,
    /// Offset of the word in the header, a multiple of four.
    pub at: u32,
    pub value: [u8; 4],
    /// Bits that change.
    pub mask: [u8; 4],
}

pub(super) fn encode(keys: &[PeditKey], generic: Gen, out: &mut Writer) {
    let mut more = vec![keys.len() as u8, 0, 0, 0];
    for key in keys {
        let keep = key.mask.map(|byte| !byte);
        more.extend(keep);
        more.extend(key.value);
        more.extend(key.at.to_ne_bytes());
        more.extend([0; KEY - 12]);
    }
    out.put(PARMS_EX, &generic.bytes(&more));
    out.nest_flagged(KEYS_EX, |nest| {
        for key in keys {
            nest.nest_flagged(KEY_EX, |nest| {
                nest.put_u16(KEY_EX_HTYPE, key.header as u16);
                nest.put_u16(KEY_EX_CMD, key.add.into());
            });
        }
    });
}

pub(super) fn decode(options: &Attr<'_>, parms: &Attr<'_>, rest: &[u8]) -> Result<Vec<PeditKey>, AttrError> {
    let (head, rest) = rest.split_first_chunk::<COUNT>().ok_or_else(|| parms.wrong_size(24))?;
    let mut extended = options.nested().find(KEYS_EX).map(|keys| keys.nested());
    let mut keys = Vec::new();
    for key in rest.chunks_exact(KEY).take(head[0].into()) {
        let word = |at: usize| [key[at], key[at + 1], key[at + 2], key[at + 3]];
        let (header, add) = match extended.as_mut().and_then(Iterator::next) {
            Some(attr) => decode_extended(&attr?)?,
            None => (Header::Network, false),
        };
        let mask = word(0).map(|byte| !byte);
        keys.push(PeditKey { header, add, at: u32::from_ne_bytes(word(8)), value: word(4), mask });
    }
    if keys.len() != usize::from(head[0]) {
        return Err(parms.wrong_size(20 + COUNT + KEY * usize::from(head[0])));
    }
    Ok(keys)
}

fn decode_extended(attr: &Attr<'_>) -> Result<(Header, bool), AttrError> {
    let (mut header, mut add) = (Header::Network, false);
    for part in attr.nested() {
        let part = part?;
        match part.kind {
            KEY_EX_HTYPE => {
                let known = Header::ALL.get(usize::from(part.u16()?));
                header = *known.ok_or_else(|| part.invalid("unknown type of header"))?;
            }
            KEY_EX_CMD => add = part.u16()? == 1,
            _ => {}
        }
    }
    Ok((header, add))
}
