//! `linux-netem`: a worse network than there is (tc-netem(8)).

use flow::attr::Attr;

use super::psched::Psched;
use super::{Details, Rows, number};

/// Packets that may wait, unless told.
const DEFAULT_LIMIT: u32 = 1000;

/// The discipline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Netem {
    /// Added delay, in microseconds.
    pub latency: u32,
    /// Packets that may wait.
    pub limit: u32,
    /// Packets lost, in percent, at most 100.
    pub loss: u32,
    /// By how much the delay varies, in microseconds.
    pub jitter: u32,
}

impl Netem {
    /// More than 100 % of loss is all.
    pub fn parse(details: &Details) -> Self {
        let given = |key| number(details, key).map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
        let loss = given("loss");
        if loss > 100 {
            tracing::warn!(
                target: "netdev_linux", rl = "5,20",
                "loss should be a percentage value between 0 to 100, loss was {loss}"
            );
        }
        Self {
            latency: given("latency"),
            limit: Some(given("limit")).filter(|limit| *limit > 0).unwrap_or(DEFAULT_LIMIT),
            loss: loss.min(100),
            jitter: given("jitter"),
        }
    }

    /// `struct tc_netem_qopt`: times in ticks, loss in parts of 2³² - 1.
    pub fn options(&self, psched: Psched) -> Vec<u8> {
        let loss = u64::from(u32::MAX) * u64::from(self.loss) / 100;
        let (latency, jitter) = (psched.ticks_of_us(self.latency), psched.ticks_of_us(self.jitter));
        [latency, self.limit, loss as u32, 0, 0, jitter].map(u32::to_ne_bytes).concat()
    }

    /// From the kernel.
    pub fn decode(options: &Attr<'_>, psched: Psched) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*options.data.get(at..)?.first_chunk()?));
        Some(Self {
            latency: psched.us_of_ticks(word(0)?),
            limit: word(4)?,
            loss: (f64::from(word(8)?) * 100.0 / f64::from(u32::MAX)).round() as u32,
            jitter: psched.us_of_ticks(word(20)?),
        })
    }

    /// As the database words it.
    pub fn rows(&self) -> Rows {
        vec![
            ("latency", self.latency.into()),
            ("limit", self.limit.into()),
            ("loss", self.loss.into()),
            ("jitter", self.jitter.into()),
        ]
    }
}
