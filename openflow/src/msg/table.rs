//! How tables are configured: misses (OpenFlow 1.1 and 1.2), eviction and vacancy events (1.4 and later).
//! Spec: OpenFlow 1.1 section A.3.4.3; OpenFlow 1.4 sections 7.3.4.1, 7.3.5.17 and 7.4.5.

use super::{bit_names, open, w};
use crate::error::OfError;
use crate::header::{self, Multipart, Raw};
use crate::names::Names;
use crate::prop::{self, Prop, PropType, Props};
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::id::TableId;

const OFPTC14_EVICTION: u32 = 1 << 2;
const OFPTC14_VACANCY_EVENTS: u32 = 1 << 3;
const PROP_EVICTION: u16 = 2;
const PROP_VACANCY: u16 = 3;

/// What happens to packets that match no flow of a table.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
pub enum TableMiss {
    /// Whatever the version and the rest of the configuration say.
    #[default]
    Default,
    Controller,
    Continue,
    Drop,
}

impl TableMiss {
    /// `default`, `controller`, `continue`, `drop`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Controller => "controller",
            Self::Continue => "continue",
            Self::Drop => "drop",
        }
    }

    /// From a `config` word, which tells it in OpenFlow 1.1 and 1.2 only.
    pub fn from_config(config: u32, version: Version) -> Self {
        if !matches!(version, Version::V11 | Version::V12) {
            return Self::Default;
        }
        match config & 3 {
            0 => Self::Controller,
            1 => Self::Continue,
            2 => Self::Drop,
            _ => {
                tracing::warn!(target: "ofp_table", "bad table miss config {config}");
                Self::Controller
            }
        }
    }
}

fn on_off(setting: Option<bool>) -> &'static str {
    match setting {
        None => "default",
        Some(true) => "on",
        Some(false) => "off",
    }
}

/// Thresholds, in percent of free entries, that make a table's status be told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Vacancy {
    pub down: u8,
    pub up: u8,
    /// What is free now; 0 in requests.
    pub now: u8,
}

impl Vacancy {
    fn read(prop: &Prop<'_>) -> Result<Self, OfError> {
        let [down, up, now, _] = prop.array()?;
        Ok(Self { down, up, now })
    }

    fn put(self, msg: &mut Vec<u8>) {
        prop::put_std(msg, PROP_VACANCY, |msg| {
            msg.bytes(&[self.down, self.up, self.now, 0]);
        });
    }
}

/// The `config` word of table mods, features and descriptions.
pub(crate) fn config_word(
    miss: TableMiss,
    eviction: Option<bool>,
    vacancy: Option<bool>,
    version: Version,
) -> u32 {
    match version {
        Version::V10 | Version::V13 => 0,
        Version::V11 | Version::V12 => match miss {
            TableMiss::Default | TableMiss::Controller => 0,
            TableMiss::Continue => 1,
            TableMiss::Drop => 2,
        },
        Version::V14 | Version::V15 => {
            let eviction = if eviction == Some(true) { OFPTC14_EVICTION } else { 0 };
            eviction | if vacancy == Some(true) { OFPTC14_VACANCY_EVENTS } else { 0 }
        }
    }
}

/// A flag of a `config` word that OpenFlow 1.4 and later have.
fn flag14(config: u32, flag: u32, version: Version) -> Option<bool> {
    (version >= Version::V14).then_some(config & flag != 0)
}

/// A table-mod message. `None` where the message does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableMod {
    /// 255 for all tables.
    pub table_id: TableId,
    pub miss: TableMiss,
    pub eviction: Option<bool>,
    /// Bits of `OFPTMPEF14_*`.
    pub eviction_flags: Option<u32>,
    pub vacancy: Option<bool>,
    pub thresholds: Vacancy,
}

impl TableMod {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, version, mut body) = open(msg, &[Raw::Ofpt11TableMod, Raw::Ofpt14TableMod])?;
        let table_id = TableId(body.u8()?);
        body.skip(3)?;
        let config = body.u32()?;
        let mut this = Self {
            table_id,
            miss: TableMiss::from_config(config, version),
            eviction: flag14(config, OFPTC14_EVICTION, version),
            eviction_flags: None,
            vacancy: flag14(config, OFPTC14_VACANCY_EVENTS, version),
            thresholds: Vacancy::default(),
        };
        for prop in Props::new(body.rest()) {
            let prop = prop?;
            match prop.kind {
                PropType::Standard(PROP_EVICTION) => this.eviction_flags = Some(prop.u32()?),
                PropType::Standard(PROP_VACANCY) => this.thresholds = checked_thresholds(&prop)?,
                _ => return Err(OfError::BrcBadType),
            }
        }
        Ok(this)
    }

    /// The message; OpenFlow 1.0 has none.
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let raw = match version {
            Version::V10 => return None,
            Version::V11 | Version::V12 | Version::V13 => Raw::Ofpt11TableMod,
            Version::V14 | Version::V15 => Raw::Ofpt14TableMod,
        };
        let mut msg = header::start(raw, version, xid);
        msg.u8(self.table_id.0).zeros(3).u32(config_word(self.miss, self.eviction, self.vacancy, version));
        if version >= Version::V14 {
            if let Some(flags) = self.eviction_flags {
                prop::put_u32(&mut msg, PROP_EVICTION, flags);
            }
            if self.vacancy == Some(true) {
                Vacancy { now: 0, ..self.thresholds }.put(&mut msg);
            }
        }
        header::finish(&mut msg);
        Some(msg)
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        if self.table_id.0 == 0xff {
            out.push_str(" table_id: ALL_TABLES");
        } else {
            w!(out, " table_id={}", names.table(self.table_id));
        }
        if self.miss != TableMiss::Default {
            w!(out, ", flow_miss_config={}", self.miss.name());
        }
        if self.eviction.is_some() {
            w!(out, ", eviction={}", on_off(self.eviction));
        }
        if let Some(flags) = self.eviction_flags {
            out.push_str("eviction_flags=");
            eviction_flags_text(Some(flags), out);
        }
        if self.vacancy.is_some() {
            w!(out, ", vacancy={}", on_off(self.vacancy));
            if self.vacancy == Some(true) {
                w!(out, " vacancy:{},{}", self.thresholds.down, self.thresholds.up);
            }
        }
    }
}

fn checked_thresholds(prop: &Prop<'_>) -> Result<Vacancy, OfError> {
    let thresholds = Vacancy::read(prop)?;
    let wrong = if thresholds.down > thresholds.up {
        "Value of vacancy_down is greater than vacancy_up"
    } else if thresholds.up > 100 {
        "Vacancy threshold percentage should not be greater than 100"
    } else if thresholds.now != 0 {
        "Vacancy value should be zero for table-mod messages"
    } else {
        return Ok(thresholds);
    };
    tracing::warn!(target: "ofp_table", "{wrong}");
    Err(OfError::BpcBadValue)
}

fn eviction_flags_text(flags: Option<u32>, out: &mut String) {
    match flags {
        Some(flags) => bit_names(out, flags, &[(1, "OTHER"), (2, "IMPORTANCE"), (4, "LIFETIME")], '|'),
        None => out.push_str("(default)"),
    }
}

/// A table's description; OpenFlow 1.4 and later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableDesc {
    pub table_id: TableId,
    pub eviction: Option<bool>,
    pub eviction_flags: Option<u32>,
    pub vacancy: Option<bool>,
    pub thresholds: Vacancy,
}

impl TableDesc {
    fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let len = usize::from(reader.u16()?);
        let mut entry = reader.sub(len.checked_sub(2).ok_or(OfError::BrcBadLen)?)?;
        let table_id = TableId(entry.u8()?);
        entry.skip(1)?;
        let config = entry.u32()?;
        let mut this = Self {
            table_id,
            eviction: flag14(config, OFPTC14_EVICTION, version),
            eviction_flags: None,
            vacancy: flag14(config, OFPTC14_VACANCY_EVENTS, version),
            thresholds: Vacancy::default(),
        };
        for prop in Props::new(entry.rest()) {
            let prop = prop?;
            match prop.kind {
                PropType::Standard(PROP_EVICTION) => this.eviction_flags = Some(prop.u32()?),
                PropType::Standard(PROP_VACANCY) => this.thresholds = Vacancy::read(&prop)?,
                _ => prop.unknown(true, "table_desc")?,
            }
        }
        Ok(this)
    }

    /// The tables of a reply. An error that comes after some leaves them.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let mut read = || {
            let (_, version, mut body) =
                open(msg, &[Raw::Ofpst14TableDescRequest, Raw::Ofpst14TableDescReply])?;
            while !body.is_empty() {
                list.push(Self::read(version, &mut body)?);
            }
            Ok(())
        };
        let result = read();
        (list, result)
    }

    /// The description as it is in replies and status messages. `whole`: with thresholds even if there are no
    /// vacancy events.
    fn entry(&self, version: Version, whole: bool) -> Vec<u8> {
        let mut entry = Vec::new();
        entry.zeros(2).u8(self.table_id.0).zeros(1);
        entry.u32(config_word(TableMiss::Default, self.eviction, self.vacancy, version));
        if whole || self.eviction_flags.is_some() {
            prop::put_u32(&mut entry, PROP_EVICTION, self.eviction_flags.unwrap_or(u32::MAX));
        }
        if whole || self.vacancy == Some(true) {
            self.thresholds.put(&mut entry);
        }
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        set_u16(&mut entry, 0, len);
        entry
    }

    /// Adds the description to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        replies.push(&self.entry(replies.version(), false));
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        w!(out, "\n  table {}:\n", names.table(self.table_id));
        w!(out, "   eviction={} eviction_flags=", on_off(self.eviction));
        eviction_flags_text(self.eviction_flags, out);
        w!(out, "\n   vacancy={}", on_off(self.vacancy));
        if self.vacancy == Some(true) {
            let Vacancy { down, up, now } = self.thresholds;
            w!(out, " vacancy_down={down}% vacancy_up={up}% vacancy={now}%");
        }
        out.push('\n');
    }
}

/// Why a table's status is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TableReason {
    VacancyDown = 3,
    VacancyUp = 4,
}

/// A table-status message; OpenFlow 1.4 and later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableStatus {
    pub reason: TableReason,
    pub desc: TableDesc,
}

impl TableStatus {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, version, mut body) = open(msg, &[Raw::Ofpt14TableStatus])?;
        let reason = match body.u8()? {
            3 => TableReason::VacancyDown,
            4 => TableReason::VacancyUp,
            _ => return Err(OfError::BpcBadValue),
        };
        body.skip(7)?;
        Ok(Self { reason, desc: TableDesc::read(version, &mut body)? })
    }

    /// The message; `None` in versions that have none.
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        if version < Version::V14 {
            return None;
        }
        let mut msg = header::start(Raw::Ofpt14TableStatus, version, xid);
        msg.u8(self.reason as u8).zeros(7).bytes(&self.desc.entry(version, true));
        header::finish(&mut msg);
        Some(msg)
    }

    pub fn text(&self, names: &Names, out: &mut String) {
        out.push_str(match self.reason {
            TableReason::VacancyDown => " reason=VACANCY_DOWN",
            TableReason::VacancyUp => " reason=VACANCY_UP",
        });
        out.push_str("\ntable_desc:-");
        self.desc.text(names, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_mods_go_both_ways() {
        let mut sent = TableMod {
            table_id: TableId(2),
            miss: TableMiss::Drop,
            eviction: None,
            eviction_flags: None,
            vacancy: None,
            thresholds: Vacancy::default(),
        };
        assert_eq!(sent.encode(Version::V10, 1), None);
        let msg = sent.encode(Version::V11, 1).expect("OpenFlow 1.1 has it");
        assert_eq!(TableMod::decode(&msg), Ok(sent));
        sent.miss = TableMiss::Default;
        (sent.eviction, sent.vacancy) = (Some(false), Some(true));
        sent.thresholds = Vacancy { down: 20, up: 80, now: 0 };
        let mut msg = sent.encode(Version::V14, 1).expect("OpenFlow 1.4 has it");
        assert_eq!(TableMod::decode(&msg), Ok(sent));
        msg[20] = 81;
        assert_eq!(TableMod::decode(&msg), Err(OfError::BpcBadValue));
    }

    #[test]
    fn status_goes_both_ways() {
        let desc = TableDesc {
            table_id: TableId(7),
            eviction: Some(true),
            eviction_flags: Some(5),
            vacancy: Some(true),
            thresholds: Vacancy { down: 20, up: 80, now: 50 },
        };
        let sent = TableStatus { reason: TableReason::VacancyUp, desc };
        let msg = sent.encode(Version::V15, 0).expect("OpenFlow 1.5 has it");
        assert_eq!(TableStatus::decode(&msg), Ok(sent));
        let mut out = String::new();
        sent.text(&Names::default(), &mut out);
        assert_eq!(
            out,
            " reason=VACANCY_UP\ntable_desc:-\n  table 7:\n   eviction=on eviction_flags=OTHER|LIFETIME\n   \
             vacancy=on vacancy_down=20% vacancy_up=80% vacancy=50%\n"
        );
    }
}
