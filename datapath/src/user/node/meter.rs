//! Meters: token buckets, in thousandths of a packet or in bits.
//!
//! **Uses** lengths. **Next** the program's next step, for the packets that pass.

use std::sync::{Arc, PoisonError};

use flow::drop::DatapathDrop;
use flow::id::DpMeter;
use flow::time::Instant;

use crate::user::batch::Packet;
use crate::user::worker::Worker;
use crate::{MeterConfig, MeterStats};

/// Meters of a datapath.
pub const MAX_METERS: u32 = 1 << 18;
/// Bands of a meter.
pub const MAX_BANDS: usize = 8;

/// A meter at work.
pub struct Meter {
    config: MeterConfig,
    /// Milliseconds; when the buckets were filled last.
    filled: u64,
    buckets: Vec<u64>,
    stats: MeterStats,
}

impl Meter {
    /// A meter whose buckets are full.
    pub fn new(mut config: MeterConfig, now: Instant) -> Self {
        for band in &mut config.bands {
            if band.burst == 0 {
                band.burst = band.rate;
            }
        }
        let buckets = config.bands.iter().map(|band| u64::from(band.burst) * 1000).collect();
        let stats = MeterStats { bands: vec![(0, 0); config.bands.len()], ..MeterStats::default() };
        Self { config, filled: now.millis(), buckets, stats }
    }

    /// The counters.
    pub fn stats(&self) -> MeterStats {
        self.stats.clone()
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.millis().saturating_sub(self.filled);
        self.filled = self.filled.max(now.millis());
        for (bucket, band) in self.buckets.iter_mut().zip(&self.config.bands) {
            let more = passed.saturating_mul(u64::from(band.rate));
            *bucket = bucket.saturating_add(more).min(u64::from(band.burst) * 1000);
        }
    }

    /// Takes packets of these lengths; for each whether it passes.
    pub fn pass(&mut self, lengths: &[u32], now: Instant) -> Vec<bool> {
        self.fill(now);
        self.stats.packets += lengths.len() as u64;
        let bytes: u64 = lengths.iter().map(|&len| u64::from(len)).sum();
        self.stats.bytes += bytes;
        let pktps = self.config.pktps;
        let volume = |len: u32| if pktps { 1000 } else { u64::from(len) * 8 };
        let total: u64 = lengths.iter().map(|&len| volume(len)).sum();
        let mut fired: Vec<Option<usize>> = vec![None; lengths.len()];
        for (n, band) in self.config.bands.iter().enumerate() {
            if let Some(left) = self.buckets[n].checked_sub(total) {
                self.buckets[n] = left;
                continue;
            }
            for (fired, &len) in fired.iter_mut().zip(lengths) {
                match self.buckets[n].checked_sub(volume(len)) {
                    Some(left) => self.buckets[n] = left,
                    // Of the bands that a packet exceeds the one with the highest rate is its.
                    None if fired.is_none_or(|other| band.rate > self.config.bands[other].rate) => {
                        *fired = Some(n)
                    }
                    None => {}
                }
            }
        }
        for (band, &len) in fired.iter().zip(lengths).filter_map(|(band, len)| Some((band.as_ref()?, len))) {
            self.stats.bands[*band].0 += 1;
            self.stats.bands[*band].1 += u64::from(len);
        }
        fired.iter().map(Option::is_none).collect()
    }
}

/// Polices packets; those that pass, or `None` if all do.
pub fn police(worker: &mut Worker, meter: DpMeter, packets: &[Packet], members: &[u16]) -> Option<Vec<u16>> {
    let meter = worker.shared.meters.load().get(&meter.0).map(Arc::clone)?;
    let lengths: Vec<u32> = members.iter().map(|&at| packets[usize::from(at)].len).collect();
    let passed = meter.lock().unwrap_or_else(PoisonError::into_inner).pass(&lengths, worker.now);
    let kept: Vec<u16> =
        members.iter().zip(&passed).filter(|&(_, &passed)| passed).map(|(&at, _)| at).collect();
    worker.stats.drop(DatapathDrop::Meter, members.len() - kept.len());
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MeterBand;

    #[test]
    fn buckets_fill_and_empty() {
        let bands = vec![MeterBand { rate: 1, burst: 1 }, MeterBand { rate: 2, burst: 0 }];
        let config = MeterConfig { pktps: true, burst: true, bands };
        let mut meter = Meter::new(config, Instant::ZERO);
        assert_eq!(meter.pass(&[60; 4], Instant::ZERO), [true, false, false, false]);
        assert_eq!(meter.stats().bands, [(1, 60), (2, 120)]);
        assert_eq!(meter.pass(&[60], Instant::from_millis(999)), [false]);
        assert_eq!(meter.pass(&[60], Instant::from_millis(1000)), [true]);
        assert_eq!((meter.stats().packets, meter.stats().bytes), (6, 360));
    }

    #[test]
    fn kilobits() {
        let bands = vec![MeterBand { rate: 1, burst: 0 }];
        let mut meter = Meter::new(MeterConfig { pktps: false, burst: false, bands }, Instant::ZERO);
        assert_eq!(meter.pass(&[100, 25, 1], Instant::ZERO), [true, true, false]);
    }
}
