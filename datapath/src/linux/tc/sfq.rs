//! `linux-sfq`: stochastic fairness (tc-sfq(8)).

use flow::attr::Attr;

use super::{Details, Facts, Rows, positive};

/// How often flows are dealt out anew, unless told.
const DEFAULT_PERTURB: u32 = 10;

/// The discipline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sfq {
    /// Bytes that a flow sends before the next one does.
    pub quantum: u32,
    /// Seconds after which flows are dealt out anew.
    pub perturb: u32,
}

impl Sfq {
    /// The quantum is one frame unless told.
    pub fn parse(details: &Details, facts: &Facts) -> Self {
        let given = |key| positive(details, key);
        Self {
            quantum: given("quantum").or(facts.mtu).unwrap_or(0),
            perturb: given("perturb").unwrap_or(DEFAULT_PERTURB),
        }
    }

    /// `struct tc_sfq_qopt`; what is zero is the kernel's to choose.
    pub fn options(&self) -> Vec<u8> {
        [self.quantum, self.perturb, 0, 0, 0].map(u32::to_ne_bytes).concat()
    }

    /// From the kernel.
    pub fn decode(options: &Attr<'_>) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*options.data.get(at..)?.first_chunk()?));
        Some(Self { quantum: word(0)?, perturb: word(4)? })
    }

    /// As the database words it.
    pub fn rows(&self) -> Rows {
        vec![("quantum", self.quantum.into()), ("perturb", self.perturb.into())]
    }
}
