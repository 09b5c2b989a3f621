//! `linux-codel`: controlled delay (tc-codel(8)).

use flow::attr::{Attr, Writer};

use super::{Details, Rows, positive};

const TCA_CODEL_TARGET: u16 = 1;
const TCA_CODEL_LIMIT: u16 = 2;
const TCA_CODEL_INTERVAL: u16 = 3;

/// The discipline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Codel {
    /// Delay that is acceptable, in microseconds.
    pub target: u32,
    /// Packets that may wait.
    pub limit: u32,
    /// Microseconds over which the least delay is looked for.
    pub interval: u32,
}

impl Codel {
    /// What is not given, or zero, is 5 ms, 10240 packets, 100 ms.
    pub fn parse(details: &Details) -> Self {
        let given = |key, default| positive(details, key).unwrap_or(default);
        Self {
            target: given("target", 5000),
            limit: given("limit", 10240),
            interval: given("interval", 100_000),
        }
    }

    /// Writes what goes into `TCA_OPTIONS`.
    pub fn put_options(&self, options: &mut Writer) {
        options.put_u32(TCA_CODEL_TARGET, self.target);
        options.put_u32(TCA_CODEL_LIMIT, self.limit);
        options.put_u32(TCA_CODEL_INTERVAL, self.interval);
    }

    /// From the kernel.
    pub fn decode(options: &Attr<'_>) -> Option<Self> {
        let word = |kind| options.nested().find(kind)?.u32().ok();
        Some(Self {
            target: word(TCA_CODEL_TARGET)?,
            limit: word(TCA_CODEL_LIMIT)?,
            interval: word(TCA_CODEL_INTERVAL)?,
        })
    }

    /// As the database words it.
    pub fn rows(&self) -> Rows {
        vec![("target", self.target.into()), ("limit", self.limit.into()), ("interval", self.interval.into())]
    }
}
