//! `ovs_meter`: meters of a datapath (`linux/openvswitch.h`).

use flow::attr::{Attr, Writer};
use flow::id::DpMeter;
use sys::errno::Errno;

use super::dp::words;
use super::genl::{Family, Genl, collect, required};
use crate::netlink::Message;
use crate::{Error, MeterBand, MeterConfig, MeterFeatures, MeterStats};

mod cmd {
    pub const FEATURES: u8 = 1;
    pub const SET: u8 = 2;
    pub const DEL: u8 = 3;
    pub const GET: u8 = 4;
}

pub(super) mod attr {
    pub const ID: u16 = 1;
    pub const KBPS: u16 = 2;
    pub const STATS: u16 = 3;
    pub const BANDS: u16 = 4;
    pub const MAX_METERS: u16 = 7;
    pub const MAX_BANDS: u16 = 8;
    /// One more than the last that is read.
    pub const N: usize = 9;
}

mod band {
    pub const UNSPEC: u16 = 0;
    pub const TYPE: u16 = 1;
    pub const RATE: u16 = 2;
    pub const BURST: u16 = 3;
    pub const STATS: u16 = 4;
    /// One more than the last that is read.
    pub const N: usize = 5;
}

/// The only type of band that the kernel has.
const DROP: u32 = 1;

/// The meters of one datapath.
#[derive(Clone, Copy)]
pub(super) struct Meters<'a> {
    pub genl: &'a Genl,
    pub family: Family,
    pub dp: u32,
}

impl Meters<'_> {
    fn ask<T>(
        &self,
        command: u8,
        fill: impl FnOnce(&mut Writer),
        read: impl FnOnce(&[Option<Attr<'_>>; attr::N], &Message<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.genl.ask(self.family, (command, self.dp), 0, fill, |message| {
            let (_, _, attrs) = self.family.open(message)?;
            read(&collect::<{ attr::N }>(attrs)?, message)
        })
    }

    pub(super) fn features(&self) -> Result<MeterFeatures, Error> {
        let asked = self.ask(cmd::FEATURES, |_| {}, decode_features);
        asked.inspect_err(|_| {
            tracing::info!(
                target: "dpif_netlink", rl = "1,5",
                "dpif_netlink_meter_transact OVS_METER_CMD_FEATURES failed"
            );
        })
    }

    pub(super) fn set(&self, meter: DpMeter, config: &MeterConfig) -> Result<(), Error> {
        let answered = self
            .ask(cmd::SET, |attrs| encode(meter, config, attrs), |found, _| id(found))
            .inspect_err(|_| {
                tracing::info!(
                    target: "dpif_netlink", rl = "1,5",
                    "dpif_netlink_meter_transact OVS_METER_CMD_SET failed"
                );
            })?;
        if answered != Some(meter) {
            other_meter();
        }
        Ok(())
    }

    pub(super) fn get(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        self.stats(cmd::GET, "get", meter)
    }

    pub(super) fn del(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        self.stats(cmd::DEL, "del", meter)
    }

    fn stats(&self, command: u8, verb: &str, meter: DpMeter) -> Result<MeterStats, Error> {
        let fill = |attrs: &mut Writer| attrs.put_u32(attr::ID, meter.0);
        let asked = self.ask(command, fill, |found, _| Ok((id(found)?, decode_stats(found)?)));
        let (answered, stats) = asked.inspect_err(|error| {
            if error.errno() == Errno::ENOENT {
                tracing::debug!(
                    target: "dpif_netlink", rl = "1,5", "dpif_netlink_meter_transact {verb} failed: {error}"
                );
            } else {
                tracing::warn!(
                    target: "dpif_netlink", rl = "1,5", "dpif_netlink_meter_transact {verb} failed: {error}"
                );
            }
        })?;
        if answered.is_some_and(|answered| answered != meter) {
            other_meter();
            return Err(Errno::EINVAL.into());
        }
        Ok(stats)
    }

    /// Whether the kernel forgets the numbers of meters, as those from 4.15 to 4.17 do. The numbers fit into the smallest
    /// table without wrapping, and are beyond what is used in practice.
    pub(super) fn broken(&self) -> bool {
        let probes = [DpMeter(1021), DpMeter(1022)];
        if probes.iter().any(|meter| self.get(*meter).is_ok()) {
            return false;
        }
        let config = MeterConfig { pktps: false, burst: false, bands: vec![MeterBand { rate: 1, burst: 0 }] };
        for meter in probes {
            // What it says is looked at below.
            let _ = self.set(meter, &config);
        }
        if probes.iter().any(|meter| self.get(*meter).is_err()) {
            tracing::info!(target: "dpif_netlink", "The kernel module has a broken meter implementation.");
            return true;
        }
        for meter in probes {
            let _ = self.del(meter);
        }
        false
    }
}

fn other_meter() {
    tracing::info!(target: "dpif_netlink", rl = "1,5", "Kernel returned a different meter id than requested");
}

pub(super) fn id(found: &[Option<Attr<'_>>; attr::N]) -> Result<Option<DpMeter>, Error> {
    Ok(found[usize::from(attr::ID)].map(|attr| attr.u32()).transpose()?.map(DpMeter))
}

fn encode(meter: DpMeter, config: &MeterConfig, attrs: &mut Writer) {
    attrs.put_u32(attr::ID, meter.0);
    if !config.pktps {
        attrs.put_flag(attr::KBPS);
    }
    attrs.nest(attr::BANDS, |bands| {
        for one in &config.bands {
            bands.nest(band::UNSPEC, |nest| {
                nest.put_u32(band::TYPE, DROP);
                nest.put_u32(band::RATE, one.rate);
                nest.put_u32(band::BURST, if config.burst { one.burst } else { one.rate });
            });
        }
    });
}

pub(super) fn decode_features(
    found: &[Option<Attr<'_>>; attr::N],
    message: &Message<'_>,
) -> Result<MeterFeatures, Error> {
    let at = message.at + crate::netlink::HEADER + super::genl::HEADER;
    let within = flow::attr::Attrs::new_at(&[], at);
    let number = |kind: u16| required(found[usize::from(kind)], kind, within)?.u32();
    Ok(MeterFeatures {
        max_meters: number(attr::MAX_METERS)?,
        max_bands: u8::try_from(number(attr::MAX_BANDS)?).unwrap_or(u8::MAX),
    })
}

pub(super) fn decode_stats(found: &[Option<Attr<'_>>; attr::N]) -> Result<MeterStats, Error> {
    let at = |kind: u16| found[usize::from(kind)];
    let Some(stats) = at(attr::STATS) else { return Ok(MeterStats::default()) };
    let [packets, bytes] = words(&stats)?;
    let mut bands = Vec::new();
    for one in at(attr::BANDS).iter().flat_map(Attr::nested) {
        let found = collect::<{ band::N }>(one?.nested())?;
        let [packets, bytes] = found[usize::from(band::STATS)].map_or(Ok([0; 2]), |attr| words(&attr))?;
        bands.push((packets, bytes));
    }
    Ok(MeterStats { packets, bytes, bands })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{FAMILY, message, put_raw};
    use crate::netlink::Messages;
    use proptest::prelude::*;

    fn read<T>(
        datagram: &[u8],
        read: impl FnOnce(&[Option<Attr<'_>>; attr::N], &Message<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let message = Messages::new(datagram).next().unwrap().unwrap();
        let (_, _, attrs) = FAMILY.open(&message)?;
        read(&collect(attrs)?, &message)
    }

    #[test]
    fn configurations_are_written() {
        let bands = vec![MeterBand { rate: 5, burst: 7 }, MeterBand { rate: 6, burst: 8 }];
        let written = |pktps, burst| {
            let mut attrs = Writer::new();
            encode(DpMeter(3), &MeterConfig { pktps, burst, bands: bands.clone() }, &mut attrs);
            let words = attrs.into_bytes();
            words.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect::<Vec<_>>()
        };
        let head = |kind: u32, len: u32| len | kind << 16;
        let band = |rate, burst| [head(0, 28), head(1, 8), 1, head(2, 8), rate, head(3, 8), burst];
        let kbps = [&[head(1, 8), 3, head(2, 4), head(4, 60)][..], &band(5, 5), &band(6, 6)].concat();
        assert_eq!(written(false, false), kbps);
        let pktps = [&[head(1, 8), 3, head(4, 60)][..], &band(5, 7), &band(6, 8)].concat();
        assert_eq!(written(true, true), pktps);
    }

    #[test]
    fn counters_are_read() {
        let counters = |packets: u64, bytes: u64| [packets.to_ne_bytes(), bytes.to_ne_bytes()].concat();
        let datagram = message(cmd::GET, 7, |attrs| {
            attrs.put_u32(attr::ID, 3);
            attrs.put(attr::STATS, &counters(1, 2));
            attrs.nest(attr::BANDS, |bands| {
                bands.nest(band::UNSPEC, |nest| nest.put(band::STATS, &counters(3, 4)));
                bands.nest(band::UNSPEC, |_| {});
            });
        });
        let stats = MeterStats { packets: 1, bytes: 2, bands: vec![(3, 4), (0, 0)] };
        assert_eq!(
            read(&datagram, |found, _| Ok((id(found)?, decode_stats(found)?))),
            Ok((Some(DpMeter(3)), stats))
        );
        let features = message(cmd::FEATURES, 7, |attrs| {
            attrs.put_u32(attr::MAX_METERS, 200_000);
            attrs.put_u32(attr::MAX_BANDS, 1);
        });
        assert_eq!(read(&features, decode_features), Ok(MeterFeatures { max_meters: 200_000, max_bands: 1 }));
        let lacking = message(cmd::FEATURES, 7, |attrs| attrs.put_u32(attr::MAX_METERS, 1));
        let error = read(&lacking, decode_features).unwrap_err();
        assert_eq!(error.detail(), Some("attribute 8 is missing in the attribute at offset 24"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn arbitrary_attributes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let all = message(cmd::GET, 7, |attrs| put_raw(attrs, &bytes));
            let _ = read(&all, |found, _| decode_stats(found));
            let _ = read(&all, decode_features);
            let bands = message(cmd::GET, 7, |attrs| {
                attrs.put(attr::STATS, &[0; 16]);
                attrs.put(attr::BANDS, &bytes);
            });
            let _ = read(&bands, |found, _| decode_stats(found));
        }
    }
}
