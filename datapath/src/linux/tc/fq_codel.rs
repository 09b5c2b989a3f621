//! `linux-fq_codel`: fair queueing with controlled delay (tc-fq_codel(8)).

use flow::attr::{Attr, Writer};

use super::{Details, Rows, positive};

const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_LIMIT: u16 = 2;
const TCA_FQ_CODEL_INTERVAL: u16 = 3;
const TCA_FQ_CODEL_FLOWS: u16 = 5;
const TCA_FQ_CODEL_QUANTUM: u16 = 6;

/// The discipline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FqCodel {
    /// Delay that is acceptable, in microseconds.
    pub target: u32,
    /// Packets that may wait.
    pub limit: u32,
    /// Microseconds over which the least delay is looked for.
    pub interval: u32,
    /// Queues that flows are dealt out to.
    pub flows: u32,
    /// Bytes that a flow sends before the next one does.
    pub quantum: u32,
}

impl FqCodel {
    /// What is not given, or zero, is 5 ms, 10240 packets, 1 s, 1024 queues, 1514 bytes.
    pub fn parse(details: &Details) -> Self {
        let given = |key, default| positive(details, key).unwrap_or(default);
        Self {
            target: given("target", 5000),
            limit: given("limit", 10240),
            interval: given("interval", 1_000_000),
            flows: given("flows", 1024),
            quantum: given("quantum", 1514),
        }
    }

    /// Writes what goes into `TCA_OPTIONS`.
    pub fn put_options(&self, options: &mut Writer) {
        options.put_u32(TCA_FQ_CODEL_TARGET, self.target);
        options.put_u32(TCA_FQ_CODEL_LIMIT, self.limit);
        options.put_u32(TCA_FQ_CODEL_INTERVAL, self.interval);
        options.put_u32(TCA_FQ_CODEL_FLOWS, self.flows);
        options.put_u32(TCA_FQ_CODEL_QUANTUM, self.quantum);
    }

    /// From the kernel.
    pub fn decode(options: &Attr<'_>) -> Option<Self> {
        let word = |kind| options.nested().find(kind)?.u32().ok();
        Some(Self {
            target: word(TCA_FQ_CODEL_TARGET)?,
            limit: word(TCA_FQ_CODEL_LIMIT)?,
            interval: word(TCA_FQ_CODEL_INTERVAL)?,
            flows: word(TCA_FQ_CODEL_FLOWS)?,
            quantum: word(TCA_FQ_CODEL_QUANTUM)?,
        })
    }

    /// As the database words it.
    pub fn rows(&self) -> Rows {
        vec![
            ("target", self.target.into()),
            ("limit", self.limit.into()),
            ("interval", self.interval.into()),
            ("flows", self.flows.into()),
            ("quantum", self.quantum.into()),
        ]
    }
}
