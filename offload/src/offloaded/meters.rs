//! Meters as limits that rules share. The kernel's own meter limits what stays in its datapath.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use datapath::{MeterConfig, MeterStats};
use flow::id::DpMeter;

use super::Shared;
use crate::ports::limit_of;
use crate::rule::Surroundings;
use crate::tc::action::Police;

/// The limit that a meter is; `None` for one that no limit is like.
fn limit(meter: DpMeter, config: &MeterConfig) -> Option<Police> {
    let index = limit_of(meter)?;
    let [band] = *config.bands else { return None };
    let burst = if band.burst == 0 { band.rate } else { band.burst };
    let (rate, burst) = (u64::from(band.rate), u64::from(burst));
    if rate == 0 {
        return None;
    }
    // Kilobits are eighths of thousands of bytes.
    Some(match config.pktps {
        true => Police::limit(index, true, rate, burst),
        false => Police::limit(index, false, rate * 1000 / 8, burst * 1000 / 8),
    })
}

impl Shared {
    fn configs(&self) -> MutexGuard<'_, std::collections::BTreeMap<DpMeter, MeterConfig>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the limits of meters that were there before flows went to devices.
    pub(super) fn limit_all(&self) {
        let configs = self.configs().clone();
        configs.iter().for_each(|(meter, config)| self.make_limit(*meter, config));
    }

    fn make_limit(&self, meter: DpMeter, config: &MeterConfig) {
        let wanted = limit(meter, config);
        if let Some(limit) = &wanted
            && self.ports.police(meter).is_none()
        {
            // An earlier process may have left one that was for rules of another policy, and would stay so. One that rules
            // have stays.
            let _ = self.table.unlimit(limit.index);
        }
        let made = wanted.map(|limit| self.table.limit(&limit, self.flags.load(Ordering::Relaxed)));
        if let Some(Err(error)) = &made {
            tracing::info!(target: "dpif_offload_tc", "meter {meter} has no policer: {error}");
        }
        self.ports.set_limited(meter, matches!(made, Some(Ok(()))));
    }

    pub(super) fn meter_set(&self, meter: DpMeter, config: &MeterConfig) {
        self.configs().insert(meter, config.clone());
        if self.is_on() {
            self.make_limit(meter, config);
        }
    }

    /// What a meter counted, and its limit.
    pub(super) fn meter_get(&self, meter: DpMeter, mut stats: MeterStats) -> MeterStats {
        let Some(index) = self.ports.police(meter) else { return stats };
        let Ok(counted) = self.table.limited(index) else { return stats };
        stats.packets += counted.packets;
        stats.bytes += counted.bytes;
        if let Some(band) = stats.bands.first_mut() {
            band.0 += counted.drops;
        }
        stats
    }

    pub(super) fn meter_del(&self, meter: DpMeter, stats: MeterStats) -> MeterStats {
        self.configs().remove(&meter);
        let stats = self.meter_get(meter, stats);
        if let Some(index) = self.ports.police(meter) {
            self.ports.set_limited(meter, false);
            if let Err(error) = self.table.unlimit(index) {
                tracing::debug!(target: "dpif_offload_tc", "meter {meter}: its policer stays: {error}");
            }
        }
        stats
    }
}
