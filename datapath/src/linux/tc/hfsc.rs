//! `linux-hfsc`: the hierarchical fair service curve (tc-hfsc(8)), with linear curves. Rates are bytes a second here and
//! bits a second in the database; the kernel's are of 32 bits.

use flow::attr::{Attr, Writer};

use super::{Details, Facts, Rows, number};

const TCA_HFSC_RSC: u16 = 1;
const TCA_HFSC_FSC: u16 = 2;
const TCA_HFSC_USC: u16 = 3;
/// The queue of packets that choose none.
const DEFAULT_CLASS: u16 = 1;

/// The discipline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hfsc {
    pub max_rate: u32,
}

fn fit(rate: u64) -> u32 {
    u32::try_from(rate).unwrap_or(u32::MAX)
}

impl Hfsc {
    /// Without a rate, the device's speed.
    pub fn parse(details: &Details, facts: &Facts) -> Self {
        let wanted = number(details, "max-rate").map(|bits| fit(bits / 8)).filter(|rate| *rate > 0);
        Self { max_rate: wanted.unwrap_or_else(|| fit(facts.bytes_per_second())) }
    }

    /// `struct tc_hfsc_qopt`.
    pub fn options() -> [u8; 2] {
        DEFAULT_CLASS.to_ne_bytes()
    }

    /// The class of the whole device.
    pub fn whole_class(&self) -> HfscClass {
        HfscClass { min_rate: self.max_rate, max_rate: self.max_rate }
    }
}

/// A class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HfscClass {
    /// What it gets in any case.
    pub min_rate: u32,
    /// What it gets at most.
    pub max_rate: u32,
}

impl HfscClass {
    /// Rates are no more than those of the device.
    pub fn parse(details: &Details, hfsc: &Hfsc) -> Self {
        let min_rate = number(details, "min-rate").map_or(0, |bits| fit(bits / 8)).max(1).min(hfsc.max_rate);
        let max_rate = number(details, "max-rate").map_or(hfsc.max_rate, |bits| fit(bits / 8));
        Self { min_rate, max_rate: max_rate.max(min_rate).min(hfsc.max_rate) }
    }

    /// Writes three `struct tc_service_curve`: real time, fair share, upper limit.
    pub fn put_options(&self, options: &mut Writer) {
        let curve = |rate: u32| [0, 0, rate].map(u32::to_ne_bytes).concat();
        options.put(TCA_HFSC_RSC, &curve(self.min_rate));
        options.put(TCA_HFSC_FSC, &curve(self.min_rate));
        options.put(TCA_HFSC_USC, &curve(self.max_rate));
    }

    /// From the kernel; nothing for curves that are not such as we write.
    pub fn decode(options: &Attr<'_>) -> Option<Self> {
        let refused = |why: &str| {
            tracing::warn!(target: "netdev_linux", rl = "5,20", "failed to parse HFSC class options{why}");
        };
        let curve = |kind| {
            let curve = options.nested().find(kind)?.array::<12>().ok()?;
            let (bent, rate) = curve.split_at(8);
            Some((bent == [0; 8], u32::from_ne_bytes(rate.try_into().ok()?)))
        };
        let curves = [TCA_HFSC_RSC, TCA_HFSC_FSC, TCA_HFSC_USC].map(curve);
        let [Some((rt, real)), Some((ls, fair)), Some((ul, upper))] = curves else {
            refused("");
            return None;
        };
        if !(rt && ls && ul) {
            refused(". Non-linear service curves are not supported.");
        } else if real != fair {
            refused(". Real-time service curves are not supported ");
        } else if real > upper {
            refused(". Min-rate service curve is greater than the max-rate service curve.");
        } else {
            return Some(Self { min_rate: fair, max_rate: upper });
        }
        None
    }

    /// As the database words it: bits a second.
    pub fn rows(&self) -> Rows {
        let mut rows = vec![("min-rate", u64::from(self.min_rate) * 8)];
        if self.max_rate != self.min_rate {
            rows.push(("max-rate", u64::from(self.max_rate) * 8));
        }
        rows
    }

    /// For the log.
    pub fn text(&self) -> String {
        format!("min-rate {}bps, max-rate {}bps", self.min_rate, self.max_rate)
    }
}
