//! `police`: limits, shared by rules by their index (`struct tc_police`).

use flow::attr::{Attr, AttrError, Writer};

use super::Control;

const TBF: u16 = 1;
const RATE: u16 = 2;
const RESULT: u16 = 5;
const RATE64: u16 = 8;
const PKTRATE64: u16 = 10;
const PKTBURST64: u16 = 11;
/// Bytes of `struct tc_police`.
const PARMS: usize = 56;
/// Where in it the rate is (`struct tc_ratespec`).
const RATESPEC: usize = 20;
/// Bytes of the table of times that the kernel asks for with every rate, and no longer looks at.
const RATE_TABLE: usize = 1024;
/// Nanoseconds in a tick of the packet scheduler.
const TICK: u64 = 64;

/// A limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Police {
    /// By which rules share it; 0 for one of the rule's own.
    pub index: u32,
    /// What happens beyond the limit: `None` for what the limit that is there already says.
    pub exceed: Option<Exceed>,
    /// Bytes, the longest packet that conforms; 0 for any.
    pub mtu: u32,
    /// Bytes a second, and the time that a burst takes at that rate, in ticks.
    pub bytes: Option<(u64, u32)>,
    /// Packets a second, and the time that a burst takes at that rate, in ticks.
    pub packets: Option<(u64, u64)>,
}

/// What happens to packets beyond a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Exceed(pub Control);

impl Police {
    /// Only the index of one that is there.
    pub fn by_index(index: u32) -> Self {
        Self { index, ..Self::default() }
    }

    /// A limit of bytes and a burst of bytes, or of packets and packets, a second. What is beyond is dropped.
    pub fn limit(index: u32, packets: bool, rate: u64, burst: u64) -> Self {
        let nanos = u128::from(burst) * 1_000_000_000 / u128::from(rate.max(1));
        let ticks = u64::try_from(nanos / u128::from(TICK)).unwrap_or(u64::MAX);
        let limit = Self { index, exceed: Some(Exceed(Control::Shot)), ..Self::default() };
        if packets {
            Self { packets: Some((rate, ticks)), ..limit }
        } else {
            Self { bytes: Some((rate, u32::try_from(ticks).unwrap_or(u32::MAX))), ..limit }
        }
    }

    /// `control` is for packets within the limit.
    pub(crate) fn encode(&self, control: Control, out: &mut Writer) {
        let mut parms = [0; PARMS];
        let mut put = |at: usize, word: u32| parms[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        put(0, self.index);
        put(4, self.exceed.map_or(Control::Shot, |exceed| exceed.0).code() as u32);
        put(16, self.mtu);
        if let Some((rate, ticks)) = self.bytes {
            put(12, ticks);
            put(RATESPEC + 8, u32::try_from(rate).unwrap_or(u32::MAX));
            // Link layer Ethernet, and a cell of 8 bytes for the table that nobody reads.
            parms[RATESPEC] = 3;
            parms[RATESPEC + 1] = 1;
        }
        out.put(TBF, &parms);
        if let Some((rate, _)) = self.bytes {
            out.put(RATE, &[0; RATE_TABLE]);
            if rate > u64::from(u32::MAX) {
                out.put_u64(RATE64, rate);
            }
        }
        if let Some((rate, burst)) = self.packets {
            out.put_u64(PKTRATE64, rate);
            out.put_u64(PKTBURST64, burst);
        }
        if self.exceed.is_some() {
            out.put_u32(RESULT, control.code() as u32);
        }
    }

    pub(super) fn decode(options: &Attr<'_>, parms: &Attr<'_>) -> Result<(Self, Control), AttrError> {
        let word = |at: usize| {
            let bytes = parms.data.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or_else(|| parms.wrong_size(PARMS))
        };
        let mut police = Self { index: word(0)?, mtu: word(16)?, ..Self::default() };
        let (mut rate, ticks) = (u64::from(word(RATESPEC + 8)?), word(12)?);
        let (mut packets, mut packet_burst, mut control) = (None, 0, Control::Pipe);
        for attr in options.nested() {
            let attr = attr?;
            match attr.kind {
                RATE64 => rate = attr.u64()?,
                PKTRATE64 => packets = Some(attr.u64()?),
                PKTBURST64 => packet_burst = attr.u64()?,
                RESULT => {
                    control = Control::of(attr.u32()? as i32);
                    police.exceed = Some(Exceed(Control::of(word(4)? as i32)));
                }
                _ => {}
            }
        }
        police.packets = packets.map(|rate| (rate, packet_burst));
        police.bytes = (rate > 0).then_some((rate, ticks));
        Ok((police, control))
    }
}
