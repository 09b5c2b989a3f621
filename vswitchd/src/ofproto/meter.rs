//! Meters: OpenFlow's side of what the datapath enforces.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow::id::DpMeter;
use flow::time::Instant;
use openflow::error::OfError;
use openflow::msg::flow_removed::RemovedReason;
use openflow::msg::meter::{MeterCommand, MeterConfig, MeterFeatures, MeterMod};

use super::event::{Event, Requester};
use super::switch::Ofproto;

/// The highest number that a meter can have.
pub const MAX_METER: u32 = 0xffff_0000;
/// The meter of packets that take the slow path.
pub const SLOWPATH_METER: u32 = 0xffff_fffd;
/// The meter of packets to controllers.
pub const CONTROLLER_METER: u32 = 0xffff_fffe;
/// All meters, in delete and statistics requests.
pub const ALL_METERS: u32 = 0xffff_ffff;

/// The datapath's meters.
pub trait DatapathMeters {
    /// What the datapath can do.
    fn features(&self) -> MeterFeatures;

    /// Makes a meter, or changes `meter`.
    ///
    /// # Errors
    ///
    /// Why the datapath refuses.
    fn set(&mut self, meter: Option<DpMeter>, config: &MeterConfig) -> Result<DpMeter, OfError>;

    /// Takes a meter away.
    fn delete(&mut self, meter: DpMeter);
}

/// A meter.
#[derive(Clone, Debug)]
pub struct Meter {
    pub config: MeterConfig,
    pub datapath: DpMeter,
    pub created: Instant,
}

/// The meters of a bridge.
#[derive(Default)]
pub(super) struct Meters(BTreeMap<u32, Meter>);

impl Ofproto {
    /// Carries a meter mod out.
    ///
    /// # Errors
    ///
    /// What OpenFlow calls the reason that it cannot be done.
    pub fn meter_mod(
        &mut self,
        request: &MeterMod,
        datapath: &mut dyn DatapathMeters,
        by: Option<Requester>,
        now: Instant,
    ) -> Result<(), OfError> {
        let config = &request.meter;
        if request.command != MeterCommand::Delete {
            check(config, &datapath.features())?;
        }
        let had = self.meters.0.get(&config.meter_id).map(|meter| (meter.datapath, meter.created));
        match (request.command, had) {
            (MeterCommand::Add, Some(_)) => return Err(OfError::MmfcMeterExists),
            (MeterCommand::Modify, None) => return Err(OfError::MmfcUnknownMeter),
            (MeterCommand::Add | MeterCommand::Modify, had) => {
                let id = datapath.set(had.map(|(id, _)| id), config)?;
                let created = had.map_or(now, |(_, created)| created);
                let meter = Meter { config: config.clone(), datapath: id, created };
                self.meters.0.insert(config.meter_id, meter);
                self.share_meters();
            }
            (MeterCommand::Delete, _) => self.delete_meters(config.meter_id, datapath),
        }
        if let Some(by) = by {
            self.tell(Event::MeterModded { request: Box::new(request.clone()), by });
        }
        Ok(())
    }

    /// Deletes a meter, or all, and the flows that use them.
    pub fn delete_meters(&mut self, id: u32, datapath: &mut dyn DatapathMeters) {
        let ids: Vec<u32> = match id {
            ALL_METERS => self.meters.0.keys().copied().collect(),
            id => self.meters.0.contains_key(&id).then_some(id).into_iter().collect(),
        };
        for id in ids {
            let Some(meter) = self.meters.0.remove(&id) else { continue };
            let flows = self.index.by_meter.get(&id);
            let flows: Vec<_> = flows.map(|flows| flows.values().cloned().collect()).unwrap_or_default();
            self.delete_rules(&flows, RemovedReason::MeterDelete, None);
            datapath.delete(meter.datapath);
        }
        self.share_meters();
    }

    fn share_meters(&self) {
        let all = self.meters.0.iter().map(|(&id, meter)| (id, meter.datapath)).collect();
        self.tables().meters.store(Arc::new(all));
        self.tables().note_change();
    }

    /// The meters that there are, by number, or the one of that number.
    ///
    /// # Errors
    ///
    /// If there is none of that number.
    pub fn meters(&self, id: u32) -> Result<Vec<&Meter>, OfError> {
        match id {
            ALL_METERS => Ok(self.meters.0.values().collect()),
            id => self.meters.0.get(&id).map(|meter| vec![meter]).ok_or(OfError::MmfcUnknownMeter),
        }
    }

    /// How many flows use a meter.
    pub fn meter_references(&self, id: u32) -> usize {
        self.index.by_meter.get(&id).map_or(0, BTreeMap::len)
    }
}

fn check(config: &MeterConfig, features: &MeterFeatures) -> Result<(), OfError> {
    let id = config.meter_id;
    let numbered = (1..=MAX_METER).contains(&id) || matches!(id, SLOWPATH_METER | CONTROLLER_METER);
    if features.max_meters == 0 || !numbered {
        Err(OfError::MmfcInvalidMeter)
    } else if config.bands.len() > usize::from(features.max_bands) {
        Err(OfError::MmfcOutOfBands)
    } else {
        Ok(())
    }
}
