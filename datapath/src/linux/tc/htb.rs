//! `linux-htb`: the hierarchical token bucket (tc-htb(8), `linux/pkt_sched.h`). Rates are bytes a second here and bits a
//! second in the database.

use flow::attr::{Attr, Writer};

use super::psched::{Psched, rate_spec};
use super::{Details, Facts, Rows, number};

const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_CTAB: u16 = 3;
const TCA_HTB_RTAB: u16 = 4;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
/// The version of the kernel's interface.
const VERSION: u32 = 3;
/// Rate divided by quantum.
const RATE_TO_QUANTUM: u32 = 10;
/// The queue of packets that choose none.
const DEFAULT_CLASS: u32 = 1;
/// Room for headers beside the payload of the longest frame.
const HEADERS: u64 = 64;

/// The discipline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Htb {
    pub max_rate: u64,
}

impl Htb {
    /// Without a rate, the device's speed.
    pub fn parse(details: &Details, facts: &Facts) -> Self {
        let wanted = number(details, "max-rate").map(|bits| bits / 8).filter(|rate| *rate > 0);
        Self { max_rate: wanted.unwrap_or_else(|| facts.bytes_per_second()) }
    }

    /// Writes `struct tc_htb_glob`.
    pub fn put_options(options: &mut Writer) {
        let words = [VERSION, RATE_TO_QUANTUM, DEFAULT_CLASS, 0, 0];
        options.put(TCA_HTB_INIT, &words.map(u32::to_ne_bytes).concat());
    }

    /// The class of the whole device.
    pub fn whole_class(&self) -> HtbClass {
        HtbClass { min_rate: self.max_rate, max_rate: self.max_rate, burst: 0, priority: 0 }
    }
}

/// A class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HtbClass {
    /// What it gets in any case.
    pub min_rate: u64,
    /// What it gets at most.
    pub max_rate: u64,
    /// Bytes that it may send at once.
    pub burst: u32,
    /// Lower ones get what is left first.
    pub priority: u32,
}

impl HtbClass {
    /// A class sends nothing with a rate below one frame a second; its rates are no more than those of the device.
    pub fn parse(details: &Details, htb: &Htb, facts: &Facts) -> Self {
        let mtu = u64::from(facts.mtu.unwrap_or(0));
        let min_rate = (number(details, "min-rate").unwrap_or(0) / 8).max(mtu).min(htb.max_rate);
        let max_rate =
            number(details, "max-rate").filter(|bits| *bits > 0).map_or(htb.max_rate, |bits| bits / 8);
        let max_rate = max_rate.max(min_rate).min(htb.max_rate);
        let burst = (number(details, "burst").unwrap_or(0) / 8).max(mtu + HEADERS);
        let burst = u32::try_from(burst).unwrap_or(u32::MAX);
        let priority = number(details, "priority").and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        Self { min_rate, max_rate, burst, priority }
    }

    /// Writes `struct tc_htb_opt`, 64-bit rates if there must be, and rate tables.
    pub fn put_options(&self, options: &mut Writer, mtu: u32, psched: Psched) {
        for (kind, rate) in [(TCA_HTB_RATE64, self.min_rate), (TCA_HTB_CEIL64, self.max_rate)] {
            if rate > u32::MAX.into() {
                options.put_u64(kind, rate);
            }
        }
        // At least one frame at a time.
        let quantum = if self.min_rate / u64::from(RATE_TO_QUANTUM) < mtu.into() { mtu } else { 0 };
        let buffer = |rate| psched.buffer(rate, mtu, self.burst.into());
        let words = [buffer(self.min_rate), buffer(self.max_rate), quantum, 0, self.priority];
        let mut parms = [rate_spec(self.min_rate, mtu), rate_spec(self.max_rate, mtu)].concat();
        parms.extend(words.into_iter().flat_map(u32::to_ne_bytes));
        options.put(TCA_HTB_PARMS, &parms);
        psched.put_table(options, TCA_HTB_RTAB, self.min_rate, mtu);
        psched.put_table(options, TCA_HTB_CTAB, self.max_rate, mtu);
    }

    /// From the kernel.
    pub fn decode(options: &Attr<'_>, psched: Psched) -> Option<Self> {
        let options = options.nested();
        let parms = options.find(TCA_HTB_PARMS)?.data;
        let word = |at: usize| Some(u32::from_ne_bytes(*parms.get(at..)?.first_chunk()?));
        let wide = |kind| options.find(kind).and_then(|attr| attr.u64().ok());
        let min_rate = wide(TCA_HTB_RATE64).unwrap_or(word(8)?.into());
        let max_rate = wide(TCA_HTB_CEIL64).unwrap_or(word(20)?.into());
        let burst = u32::try_from(psched.bytes(min_rate, word(24)?)).unwrap_or(u32::MAX);
        Some(Self { min_rate, max_rate, burst, priority: word(40)? })
    }

    /// As the database words it: bits and bits a second.
    pub fn rows(&self) -> Rows {
        let mut rows = vec![("min-rate", self.min_rate.saturating_mul(8))];
        if self.max_rate != self.min_rate {
            rows.push(("max-rate", self.max_rate.saturating_mul(8)));
        }
        rows.push(("burst", u64::from(self.burst) * 8));
        if self.priority != 0 {
            rows.push(("priority", self.priority.into()));
        }
        rows
    }

    /// For the log.
    pub fn text(&self) -> String {
        let Self { min_rate, max_rate, burst, priority } = self;
        format!("min_rate={min_rate} max_rate={max_rate} burst={burst} prio={priority}")
    }
}
