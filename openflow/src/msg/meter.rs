//! Meters: their modification, configuration, statistics and features. OpenFlow 1.3 and later.
//! Spec: OpenFlow 1.3 sections 7.3.4.4 and 7.3.5.11 to 7.3.5.13.

use super::{Age, bit_names, open, w};
use crate::error::OfError;
use crate::header::{self, Multipart, Raw};
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};

/// The greatest number of an ordinary meter.
pub const MAX: u32 = 0xffff_0000;
/// Meters with a meaning of their own.
pub const SLOWPATH: u32 = 0xffff_fffd;
pub const CONTROLLER: u32 = 0xffff_fffe;
pub const ALL: u32 = 0xffff_ffff;

bitflags::bitflags! {
    /// A meter's flags; unknown ones are kept.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct MeterFlags: u16 {
        const KBPS = 1 << 0;
        const PKTPS = 1 << 1;
        const BURST = 1 << 2;
        const STATS = 1 << 3;
        const _ = !0;
    }
}

const FLAG_NAMES: &[(u32, &str)] = &[(1, "kbps"), (2, "pktps"), (4, "burst"), (8, "stats")];

/// What happens to packets above a band's rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum BandType {
    Drop = 1,
    DscpRemark = 2,
}

/// A band of a meter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Band {
    pub kind: BandType,
    /// In kbit/s or packets/s, by the meter's flags.
    pub rate: u32,
    /// In kbit or packets.
    pub burst_size: u32,
    /// By how many drop precedence levels to lower, if remarking.
    pub prec_level: u8,
}

const BAND_LEN: usize = 16;

impl Band {
    fn read_all(mut reader: Reader<'_>) -> Result<Vec<Self>, OfError> {
        let mut bands = Vec::new();
        while !reader.is_empty() {
            let mut band = reader.sub(BAND_LEN)?;
            let kind = band.u16()?;
            if usize::from(band.u16()?) != BAND_LEN {
                return Err(OfError::BrcBadLen);
            }
            let kind = match kind {
                1 => BandType::Drop,
                2 => BandType::DscpRemark,
                _ => return Err(OfError::MmfcBadBand),
            };
            let (rate, burst_size, level) = (band.u32()?, band.u32()?, band.u8()?);
            let prec_level = if kind == BandType::DscpRemark { level } else { 0 };
            bands.push(Self { kind, rate, burst_size, prec_level });
        }
        Ok(bands)
    }

    fn put_all(bands: &[Self], msg: &mut Vec<u8>) {
        for band in bands {
            msg.u16(band.kind as u16)
                .u16(16)
                .u32(band.rate)
                .u32(band.burst_size)
                .u8(band.prec_level)
                .zeros(3);
        }
    }

    /// Appends the band on a line of its own, which is not ended.
    pub fn text(&self, flags: MeterFlags, out: &mut String) {
        let kind = match self.kind {
            BandType::Drop => "drop",
            BandType::DscpRemark => "dscp_remark",
        };
        w!(out, "\ntype={kind} rate={}", self.rate);
        if flags.contains(MeterFlags::BURST) {
            w!(out, " burst_size={}", self.burst_size);
        }
        if self.kind == BandType::DscpRemark {
            w!(out, " prec_level={}", self.prec_level);
        }
    }
}

/// `meter=1`, `meter:slowpath`.
pub fn id_text(id: u32, separator: char) -> String {
    match id {
        0..=MAX => format!("meter{separator}{id}"),
        SLOWPATH => format!("meter{separator}slowpath"),
        CONTROLLER => format!("meter{separator}controller"),
        ALL => format!("meter{separator}all"),
        _ => format!("meter{separator}unknown"),
    }
}

/// A meter's configuration.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MeterConfig {
    pub meter_id: u32,
    pub flags: MeterFlags,
    pub bands: Vec<Band>,
}

impl MeterConfig {
    /// The meters of a configuration reply.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let result = Self::read_reply(msg, &mut list);
        (list, result)
    }

    fn read_reply(msg: &[u8], list: &mut Vec<Self>) -> Result<(), OfError> {
        let (_, _, mut body) = open(msg, &[Raw::Ofpst13MeterConfigReply])?;
        while !body.is_empty() {
            let mut head = body.sub(8)?;
            let len = usize::from(head.u16()?).checked_sub(8).ok_or(OfError::BrcBadLen)?;
            let flags = MeterFlags::from_bits_retain(head.u16()?);
            let meter_id = head.u32()?;
            list.push(Self { meter_id, flags, bands: Band::read_all(body.sub(len)?)? });
        }
        Ok(())
    }

    /// Adds the configuration to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        let mut entry = Vec::new();
        entry.u16(0).u16(self.flags.bits()).u32(self.meter_id);
        Band::put_all(&self.bands, &mut entry);
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        set_u16(&mut entry, 0, len);
        replies.push(&entry);
    }

    pub fn text(&self, out: &mut String) {
        w!(out, "{} ", id_text(self.meter_id, '='));
        let flags = u32::from(self.flags.bits());
        for (_, name) in FLAG_NAMES.iter().filter(|(bit, _)| flags & bit != 0) {
            w!(out, "{name} ");
        }
        if flags & !0xf != 0 {
            w!(out, "flags:{:#x} ", flags & !0xf);
        }
        out.push_str("bands=");
        for band in &self.bands {
            band.text(self.flags, out);
        }
        out.push('\n');
    }
}

/// What a meter-mod does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum MeterCommand {
    Add = 0,
    Modify = 1,
    Delete = 2,
}

/// A meter-mod message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterMod {
    pub command: MeterCommand,
    pub meter: MeterConfig,
}

impl MeterMod {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::Ofpt13MeterMod])?;
        let command = match body.u16()? {
            0 => MeterCommand::Add,
            1 => MeterCommand::Modify,
            2 => MeterCommand::Delete,
            _ => return Err(OfError::MmfcBadCommand),
        };
        let flags = MeterFlags::from_bits_retain(body.u16()?);
        let meter_id = body.u32()?;
        if command == MeterCommand::Delete {
            return Ok(Self { command, meter: MeterConfig { meter_id, ..MeterConfig::default() } });
        }
        if flags.contains(MeterFlags::KBPS | MeterFlags::PKTPS) {
            return Err(OfError::MmfcBadFlags);
        }
        Ok(Self { command, meter: MeterConfig { meter_id, flags, bands: Band::read_all(body)? } })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let flags = if self.command == MeterCommand::Delete { MeterFlags::empty() } else { self.meter.flags };
        let mut msg = header::start(Raw::Ofpt13MeterMod, version, xid);
        msg.u16(self.command as u16).u16(flags.bits()).u32(self.meter.meter_id);
        Band::put_all(&self.meter.bands, &mut msg);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        out.push_str(match self.command {
            MeterCommand::Add => " ADD ",
            MeterCommand::Modify => " MOD ",
            MeterCommand::Delete => " DEL ",
        });
        self.meter.text(out);
    }
}

/// A request for one meter's (or all meters') configuration (`Raw::Ofpst13MeterConfigRequest`) or statistics
/// (`Raw::Ofpst13MeterRequest`).
pub fn request(raw: Raw, version: Version, xid: u32, meter_id: u32) -> Vec<u8> {
    let mut msg = header::start(raw, version, xid);
    msg.u32(meter_id).zeros(4);
    header::finish(&mut msg);
    msg
}

/// Which meter a request asks for.
pub fn decode_request(msg: &[u8]) -> Result<u32, OfError> {
    open(msg, &[Raw::Ofpst13MeterRequest, Raw::Ofpst13MeterConfigRequest])?.2.u32()
}

/// A meter's statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterStats {
    pub meter_id: u32,
    pub flow_count: u32,
    pub packet_in_count: u64,
    pub byte_in_count: u64,
    pub age: Age,
    /// Packets and bytes that each band caught.
    pub bands: Vec<(u64, u64)>,
}

impl MeterStats {
    /// The meters of a statistics reply.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let result = Self::read_reply(msg, &mut list);
        (list, result)
    }

    fn read_reply(msg: &[u8], list: &mut Vec<Self>) -> Result<(), OfError> {
        let (_, _, mut body) = open(msg, &[Raw::Ofpst13MeterReply])?;
        while !body.is_empty() {
            let mut head = body.sub(40)?;
            let meter_id = head.u32()?;
            let len = usize::from(head.u16()?).checked_sub(40).ok_or(OfError::BrcBadLen)?;
            head.skip(6)?;
            let (flow_count, packet_in_count, byte_in_count) = (head.u32()?, head.u64()?, head.u64()?);
            let age = Age::read(&mut head)?;
            let mut rest = body.sub(len)?;
            let mut bands = Vec::new();
            while !rest.is_empty() {
                bands.push((rest.u64()?, rest.u64()?));
            }
            list.push(Self { meter_id, flow_count, packet_in_count, byte_in_count, age, bands });
        }
        Ok(())
    }

    /// Adds the statistics to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        let mut entry = Vec::new();
        let len = u16::try_from(40 + self.bands.len() * 16).unwrap_or(u16::MAX);
        entry.u32(self.meter_id).u16(len).zeros(6).u32(self.flow_count);
        entry.u64(self.packet_in_count).u64(self.byte_in_count);
        self.age.put(&mut entry);
        for (packets, bytes) in &self.bands {
            entry.u64(*packets).u64(*bytes);
        }
        replies.push(&entry);
    }

    pub fn text(&self, out: &mut String) {
        w!(out, "{} flow_count:{} ", id_text(self.meter_id, ':'), self.flow_count);
        w!(out, "packet_in_count:{} byte_in_count:{} ", self.packet_in_count, self.byte_in_count);
        w!(out, "duration:{} bands:\n", self.age);
        for (n, (packets, bytes)) in self.bands.iter().enumerate() {
            w!(out, "{n}: packet_count:{packets} byte_count:{bytes}\n");
        }
    }
}

/// What the switch's meters can do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MeterFeatures {
    pub max_meters: u32,
    /// Bit N for band type N.
    pub band_types: u32,
    /// Bits of [`MeterFlags`].
    pub capabilities: u32,
    pub max_bands: u8,
    pub max_color: u8,
}

impl MeterFeatures {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::Ofpst13MeterFeaturesReply])?;
        Ok(Self {
            max_meters: body.u32()?,
            band_types: body.u32()?,
            capabilities: body.u32()?,
            max_bands: body.u8()?,
            max_color: body.u8()?,
        })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut msg = header::start(Raw::Ofpst13MeterFeaturesReply, version, xid);
        msg.u32(self.max_meters).u32(self.band_types).u32(self.capabilities);
        msg.u8(self.max_bands).u8(self.max_color).zeros(2);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        w!(
            out,
            "\nmax_meter:{} max_bands:{} max_color:{}\n",
            self.max_meters,
            self.max_bands,
            self.max_color
        );
        out.push_str("band_types: ");
        bit_names(out, self.band_types, &[(1 << 1, "drop"), (1 << 2, "dscp_remark")], ' ');
        out.push_str("\ncapabilities: ");
        bit_names(out, self.capabilities, FLAG_NAMES, ' ');
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> MeterConfig {
        MeterConfig {
            meter_id: 5,
            flags: MeterFlags::KBPS | MeterFlags::BURST | MeterFlags::STATS,
            bands: vec![Band { kind: BandType::Drop, rate: 1024, burst_size: 128, prec_level: 0 }],
        }
    }

    #[test]
    fn meter_mods_go_both_ways_and_are_checked() {
        let sent = MeterMod { command: MeterCommand::Add, meter: meter() };
        let mut msg = sent.encode(Version::V13, 2);
        assert_eq!(MeterMod::decode(&msg), Ok(sent.clone()));
        let mut out = String::new();
        sent.text(&mut out);
        assert_eq!(out, " ADD meter=5 kbps burst stats bands=\ntype=drop rate=1024 burst_size=128\n");
        msg[11] |= 2;
        assert_eq!(MeterMod::decode(&msg), Err(OfError::MmfcBadFlags));
        msg[9] = 3;
        assert_eq!(MeterMod::decode(&msg), Err(OfError::MmfcBadCommand));
    }

    #[test]
    fn replies_go_both_ways() {
        let mut replies = Multipart::new(Raw::Ofpst13MeterConfigReply, Version::V13, 2);
        meter().push(&mut replies);
        assert_eq!(MeterConfig::decode_reply(&replies.finish()[0]), (vec![meter()], Ok(())));
        let stats = MeterStats {
            meter_id: 5,
            flow_count: 1,
            packet_in_count: 2,
            byte_in_count: 3,
            age: Age { sec: 4, nsec: 0 },
            bands: vec![(5, 6)],
        };
        let mut replies = Multipart::new(Raw::Ofpst13MeterReply, Version::V13, 2);
        stats.push(&mut replies);
        assert_eq!(MeterStats::decode_reply(&replies.finish()[0]), (vec![stats], Ok(())));
    }
}
