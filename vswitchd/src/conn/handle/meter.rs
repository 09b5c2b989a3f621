//! Meter mods, and what is told of meters.

use openflow::header::{Header, Multipart};
use openflow::msg::Age;
use openflow::msg::meter::{self, MeterMod, MeterStats};

use super::{Outcome, Request};

impl Request<'_> {
    pub(super) fn meter_mod(&mut self, msg: &[u8]) -> Outcome {
        self.not_secondary()?;
        let request = MeterMod::decode(msg)?;
        let by = self.requester(msg);
        self.switch.meter_mod(&request, self.outside.meters(), by, self.now)
    }

    pub(super) fn meter_stats(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let wanted = meter::decode_request(msg)?;
        let mut replies = Multipart::reply_to(header)?;
        for meter in self.switch.meters(wanted)? {
            let Some(counted) = self.outside.meter_stats(meter.datapath) else { continue };
            let id = meter.config.meter_id;
            let stats = MeterStats {
                meter_id: id,
                flow_count: u32::try_from(self.switch.meter_references(id)).unwrap_or(u32::MAX),
                packet_in_count: counted.packets,
                byte_in_count: counted.bytes,
                age: Age::new(std::time::Duration::from_millis(
                    self.now.millis().saturating_sub(meter.created.millis()),
                )),
                bands: counted.bands,
            };
            stats.push(&mut replies);
        }
        self.replies(replies.finish());
        Ok(())
    }

    pub(super) fn meter_configs(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let wanted = meter::decode_request(msg)?;
        let mut replies = Multipart::reply_to(header)?;
        for meter in self.switch.meters(wanted)? {
            meter.config.push(&mut replies);
        }
        self.replies(replies.finish());
        Ok(())
    }

    pub(super) fn meter_features(&mut self, header: &Header) -> Outcome {
        let features = self.outside.meters().features();
        self.reply(features.encode(header.version()?, header.xid));
        Ok(())
    }
}
