//! What tables can do, and their statistics: before OpenFlow 1.3 one message has both.
//! Spec: OpenFlow 1.0 section 5.3.5, 1.2 section A.3.6.3, 1.3 sections 7.3.5.4 and 7.3.5.5.

mod text;

pub use text::{features_text, listing_text, stats_text};

use super::table::TableMiss;
use super::{actions_from_bits, actions_to_bits, open};
use crate::error::OfError;
use crate::header::{Multipart, Raw};
use crate::instruction::Instruction;
use crate::oxm;
use crate::prop::{self, Prop, PropType, Props};
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::field::Field;
use flow::id::TableId;
use std::collections::BTreeSet;

/// A set of fields.
pub type Fields = BTreeSet<Field>;

/// What actions may be in an action set, or be applied.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ActionFeatures {
    /// Bits of OVS's order of action names (see the message that has them on the wire).
    pub actions: u32,
    pub set_fields: Fields,
}

/// What instructions a flow may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstructionFeatures {
    /// Tables that `goto_table` may name: bit N of 255.
    pub next: [u64; 4],
    /// Bit N: the instruction N of [`Instruction`].
    pub instructions: u32,
    pub write: ActionFeatures,
    pub apply: ActionFeatures,
}

impl Default for InstructionFeatures {
    fn default() -> Self {
        let none = ActionFeatures::default();
        Self { next: [0; 4], instructions: 0, write: none.clone(), apply: none }
    }
}

impl InstructionFeatures {
    /// Whether `goto_table` may name the table.
    pub fn has_next(&self, table: u8) -> bool {
        self.next[usize::from(table / 64)] & (1 << (table % 64)) != 0
    }

    /// Lets `goto_table` name the table.
    pub fn add_next(&mut self, table: u8) {
        self.next[usize::from(table / 64)] |= 1 << (table % 64);
    }
}

/// What a request does with features.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub enum FeaturesCommand {
    #[default]
    Replace = 0,
    Modify = 1,
    Enable = 2,
    Disable = 3,
}

/// A table's features.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableFeatures {
    pub table_id: TableId,
    pub command: FeaturesCommand,
    pub name: String,
    pub metadata_match: u64,
    pub metadata_write: u64,
    pub miss_config: TableMiss,
    /// Known from OpenFlow 1.4 on.
    pub eviction: Option<bool>,
    pub vacancy_events: Option<bool>,
    pub max_entries: u32,
    /// Whether the message had any property.
    pub any_properties: bool,
    pub nonmiss: InstructionFeatures,
    pub miss: InstructionFeatures,
    /// Fields that can be matched, matched with a mask, and left out.
    pub matched: Fields,
    pub masked: Fields,
    pub wildcarded: Fields,
}

/// Properties by type, those of misses one more.
mod tfp {
    pub const INSTRUCTIONS: u16 = 0;
    pub const NEXT_TABLES: u16 = 2;
    pub const WRITE_ACTIONS: u16 = 4;
    pub const APPLY_ACTIONS: u16 = 6;
    pub const MATCH: u16 = 8;
    pub const WILDCARDS: u16 = 10;
    pub const WRITE_SETFIELD: u16 = 12;
    pub const APPLY_SETFIELD: u16 = 14;
    /// Bits of those that must be there.
    pub const REQUIRED: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 12 | 1 << 14;
}

const FIXED_LEN: usize = 64;
const EVICTION: u32 = 1 << 2;
const VACANCY_EVENTS: u32 = 1 << 3;

impl TableFeatures {
    fn blank(table_id: TableId) -> Self {
        Self {
            table_id,
            command: FeaturesCommand::Replace,
            name: String::new(),
            metadata_match: 0,
            metadata_write: 0,
            miss_config: TableMiss::Default,
            eviction: None,
            vacancy_events: None,
            max_entries: 0,
            any_properties: false,
            nonmiss: InstructionFeatures::default(),
            miss: InstructionFeatures::default(),
            matched: Fields::new(),
            masked: Fields::new(),
            wildcarded: Fields::new(),
        }
    }

    /// The tables of a request or reply; what is not known is an error unless `loose`. An error that comes after some
    /// tables leaves them.
    pub fn decode_all(msg: &[u8], loose: bool) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let mut read = || {
            let raws = [Raw::Ofpst13TableFeaturesRequest, Raw::Ofpst13TableFeaturesReply];
            let (_, version, mut body) = open(msg, &raws)?;
            while !body.is_empty() {
                list.push(Self::read(version, &mut body, loose)?);
            }
            Ok(())
        };
        let result = read();
        (list, result)
    }

    fn read(version: Version, body: &mut Reader<'_>, loose: bool) -> Result<Self, OfError> {
        let bad_len = |_| OfError::BpcBadLen;
        let len = usize::from(body.clone().u16().map_err(bad_len)?);
        if len < FIXED_LEN || !len.is_multiple_of(8) {
            return Err(OfError::BpcBadLen);
        }
        let mut entry = body.sub(len).map_err(bad_len)?;
        entry.skip(2)?;
        let mut this = Self::blank(TableId(entry.u8()?));
        let command = entry.u8()?;
        if version >= Version::V15 {
            this.command = match command {
                0 => FeaturesCommand::Replace,
                1 => FeaturesCommand::Modify,
                2 => FeaturesCommand::Enable,
                3 => FeaturesCommand::Disable,
                _ => return Err(OfError::TffcBadCommand),
            };
        }
        if this.table_id.0 == 0xff {
            return Err(OfError::TffcBadTable);
        }
        entry.skip(4)?;
        this.name = entry.name::<32>()?;
        (this.metadata_match, this.metadata_write) = (entry.u64()?, entry.u64()?);
        let capabilities = entry.u32()?;
        if version >= Version::V14 {
            this.eviction = Some(capabilities & EVICTION != 0);
            this.vacancy_events = Some(capabilities & VACANCY_EVENTS != 0);
        }
        this.max_entries = entry.u32()?;
        this.read_props(version, entry.rest(), loose)?;
        Ok(this)
    }

    fn read_props(&mut self, version: Version, bytes: &[u8], loose: bool) -> Result<(), OfError> {
        self.any_properties = !bytes.is_empty();
        let mut seen = 0_u32;
        for prop in Props::new(bytes) {
            let prop = prop?;
            if let PropType::Standard(kind @ 0..32) = prop.kind {
                if seen & (1 << kind) != 0 {
                    return Err(OfError::TffcBadFeatures);
                }
                seen |= 1 << kind;
            }
            self.read_prop(version, &prop, loose)?;
        }
        let missing = !seen & tfp::REQUIRED;
        if missing != 0 && (self.any_properties || version < Version::V15) {
            let (count, first) = (missing.count_ones(), missing.trailing_zeros());
            tracing::warn!(
                target: "ofp_table",
                "table features message missing {count} required properties, including property {first}"
            );
            return Err(OfError::TffcBadFeatures);
        }
        if self.any_properties {
            self.copy_to_miss(seen);
        }
        self.reconcile();
        Ok(())
    }

    /// What is told of flows holds of misses, too, unless told apart.
    fn copy_to_miss(&mut self, seen: u32) {
        let apart = |kind: u16| seen & (1 << (kind + 1)) != 0;
        let (from, to) = (&self.nonmiss, &mut self.miss);
        if !apart(tfp::INSTRUCTIONS) {
            to.instructions = from.instructions;
        }
        if !apart(tfp::NEXT_TABLES) {
            to.next = from.next;
        }
        for (from, to, actions, fields) in [
            (&from.write, &mut to.write, tfp::WRITE_ACTIONS, tfp::WRITE_SETFIELD),
            (&from.apply, &mut to.apply, tfp::APPLY_ACTIONS, tfp::APPLY_SETFIELD),
        ] {
            if !apart(actions) {
                to.actions = from.actions;
            }
            if !apart(fields) {
                to.set_fields.clone_from(&from.set_fields);
            }
        }
    }

    /// What may be masked may be matched and left out; what cannot be matched cannot be left out.
    fn reconcile(&mut self) {
        self.matched.extend(&self.masked);
        self.wildcarded.extend(&self.masked);
        self.wildcarded.retain(|field| self.matched.contains(field));
    }

    fn read_prop(&mut self, version: Version, prop: &Prop<'_>, loose: bool) -> Result<(), OfError> {
        let PropType::Standard(kind @ 0..16) = prop.kind else {
            return prop.unknown(loose, "table features");
        };
        let features = if kind % 2 == 1 { &mut self.miss } else { &mut self.nonmiss };
        match kind & !1 {
            tfp::INSTRUCTIONS => features.instructions = read_instructions(prop.value(), loose)?,
            tfp::NEXT_TABLES => {
                for &table in prop.value() {
                    if table == 0xff {
                        return Err(OfError::BpcBadValue);
                    }
                    features.add_next(table);
                }
            }
            tfp::WRITE_ACTIONS => features.write.actions = read_actions(prop.value(), version)?,
            tfp::APPLY_ACTIONS => features.apply.actions = read_actions(prop.value(), version)?,
            tfp::WRITE_SETFIELD => features.write.set_fields = read_fields(prop.value(), loose)?,
            tfp::APPLY_SETFIELD => features.apply.set_fields = read_fields(prop.value(), loose)?,
            tfp::MATCH if kind == tfp::MATCH => {
                (self.matched, self.masked) = read_masked_fields(prop.value(), loose)?;
            }
            tfp::WILDCARDS if kind == tfp::WILDCARDS => self.wildcarded = read_fields(prop.value(), loose)?,
            _ => prop.unknown(loose, "table features")?,
        }
        Ok(())
    }

    /// Numbers and names of a reply's tables, without a look at the rest, which is long.
    pub fn names(msg: &[u8]) -> Result<Vec<(TableId, String)>, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::Ofpst13TableFeaturesReply])?;
        let mut names = Vec::new();
        while !body.is_empty() {
            let len = body.rest().first_chunk().map_or(0, |&len| usize::from(u16::from_be_bytes(len)));
            if len < FIXED_LEN {
                return Err(OfError::BrcBadLen);
            }
            let mut entry = Reader::new(body.bytes(len).map_err(|_| OfError::BrcBadLen)?);
            entry.skip(2)?;
            let table = TableId(entry.u8()?);
            entry.skip(5)?;
            names.push((table, entry.name::<32>()?));
        }
        Ok(names)
    }

    /// Adds the features to a request or to the replies to one.
    pub fn push(&self, replies: &mut Multipart) {
        let version = replies.version();
        let mut entry = Vec::new();
        entry
            .u16(0)
            .u8(self.table_id.0)
            .u8(if version >= Version::V15 { self.command as u8 } else { 0 })
            .zeros(4);
        entry.name(&self.name, 32).u64(self.metadata_match).u64(self.metadata_write);
        let mut capabilities = 0;
        if version >= Version::V14 {
            capabilities |= if self.eviction == Some(true) { EVICTION } else { 0 };
            capabilities |= if self.vacancy_events == Some(true) { VACANCY_EVENTS } else { 0 };
        }
        entry.u32(capabilities).u32(self.max_entries);
        if self.any_properties {
            put_instructions(&mut entry, &self.nonmiss, 0, version);
            put_instructions(&mut entry, &self.miss, 1, version);
            put_fields(&mut entry, tfp::MATCH, &self.matched, Some(&self.masked), version);
            put_fields(&mut entry, tfp::WILDCARDS, &self.wildcarded, None, version);
        }
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        set_u16(&mut entry, 0, len);
        replies.push(&entry);
    }
}

/// The types in a list of 4-byte headers (their lengths count).
fn read_types(bytes: &[u8]) -> impl Iterator<Item = Result<u16, OfError>> {
    Props::new(bytes).aligned_to(1).experimenters_from(0x1_0000).map(|prop| prop.map(|prop| prop.raw_kind))
}

fn read_actions(bytes: &[u8], version: Version) -> Result<u32, OfError> {
    let mut bits = 0;
    for kind in read_types(bytes) {
        let kind = kind?;
        bits |= if kind < 32 { 1 << kind } else { 0 };
    }
    Ok(actions_from_bits(bits, version))
}

fn read_instructions(bytes: &[u8], loose: bool) -> Result<u32, OfError> {
    let mut set = 0;
    for kind in read_types(bytes) {
        let kind = kind?;
        match Instruction::ALL.iter().find(|instruction| instruction.wire() == kind) {
            Some(instruction) => set |= 1 << *instruction as u32,
            None if loose => {}
            None if kind == 0xffff => return Err(OfError::BicBadExperimenter),
            None => return Err(OfError::BicUnknownInst),
        }
    }
    Ok(set)
}

fn read_masked_fields(bytes: &[u8], loose: bool) -> Result<(Fields, Fields), OfError> {
    let (mut exact, mut masked) = (Fields::new(), Fields::new());
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let header = oxm::Header::read(&mut reader)?;
        match header.find() {
            Some(field) if header.has_mask => masked.insert(field),
            Some(field) => exact.insert(field),
            None if loose => continue,
            None => return Err(OfError::BmcBadField),
        };
    }
    Ok((exact, masked))
}

fn read_fields(bytes: &[u8], loose: bool) -> Result<Fields, OfError> {
    let (exact, masked) = read_masked_fields(bytes, loose)?;
    if masked.is_empty() { Ok(exact) } else { Err(OfError::BmcBadMask) }
}

fn put_types(msg: &mut Vec<u8>, kind: u16, types: impl Iterator<Item = u16>) {
    prop::put_std(msg, kind, |msg| {
        for kind in types {
            msg.u16(kind).u16(4);
        }
    });
}

fn put_fields(msg: &mut Vec<u8>, kind: u16, fields: &Fields, masked: Option<&Fields>, version: Version) {
    prop::put_std(msg, kind, |msg| {
        for &field in fields {
            let is_masked = masked.is_some_and(|masked| masked.contains(&field));
            oxm::put_header_len(msg, field, version.wire(), is_masked, field.n_bytes());
        }
    });
}

fn put_instructions(msg: &mut Vec<u8>, features: &InstructionFeatures, miss: u16, version: Version) {
    let has = |instruction: &&Instruction| {
        features.instructions & (1 << **instruction as u32) != 0 && instruction.exists_in(version)
    };
    let mut types: Vec<_> =
        Instruction::ALL.iter().filter(has).map(|instruction| instruction.wire()).collect();
    types.sort_unstable();
    put_types(msg, tfp::INSTRUCTIONS + miss, types.into_iter());
    prop::put_std(msg, tfp::NEXT_TABLES + miss, |msg| {
        msg.extend((0..255).filter(|&table| features.has_next(table)));
    });
    for (actions, kind, fields) in [
        (&features.write, tfp::WRITE_ACTIONS, tfp::WRITE_SETFIELD),
        (&features.apply, tfp::APPLY_ACTIONS, tfp::APPLY_SETFIELD),
    ] {
        let bits = actions_to_bits(actions.actions, version);
        put_types(msg, kind + miss, (0..32).filter(|bit| bits & (1 << bit) != 0));
        put_fields(msg, fields + miss, &actions.set_fields, None, version);
    }
}

/// A table's statistics.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TableStats {
    pub table_id: TableId,
    pub active_count: u32,
    pub lookup_count: u64,
    pub matched_count: u64,
}

/// Bits of OpenFlow 1.0's wildcards, and of 1.1's match, for fields.
const OF10_FIELDS: [(u32, Field); 12] = [
    (1 << 0, Field::InPort),
    (1 << 1, Field::VlanVid),
    (1 << 2, Field::EthSrc),
    (1 << 3, Field::EthDst),
    (1 << 4, Field::EthType),
    (1 << 5, Field::IpProto),
    (1 << 6, Field::TcpSrc),
    (1 << 7, Field::TcpDst),
    (0x3f << 8, Field::Ipv4Src),
    (0x3f << 14, Field::Ipv4Dst),
    (1 << 20, Field::VlanPcp),
    (1 << 21, Field::IpDscp),
];

const OF11_FIELDS: [(u32, Field); 15] = [
    (1 << 0, Field::InPort),
    (1 << 1, Field::VlanVid),
    (1 << 2, Field::VlanPcp),
    (1 << 3, Field::EthType),
    (1 << 4, Field::IpDscp),
    (1 << 5, Field::IpProto),
    (1 << 6, Field::TcpSrc),
    (1 << 7, Field::TcpDst),
    (1 << 8, Field::MplsLabel),
    (1 << 9, Field::MplsTc),
    (1 << 11, Field::EthSrc),
    (1 << 12, Field::EthDst),
    (1 << 13, Field::Ipv4Src),
    (1 << 14, Field::Ipv4Dst),
    (1 << 15, Field::Metadata),
];

fn fields_to_bits(fields: &Fields, rows: &[(u32, Field)]) -> u32 {
    rows.iter().filter(|(_, field)| fields.contains(field)).fold(0, |bits, (bit, _)| bits | bit)
}

fn fields_from_bits(bits: u32, rows: &[(u32, Field)]) -> Fields {
    rows.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, field)| *field).collect()
}

/// OpenFlow 1.2's bitmap: bit N is OXM field N.
fn fields_to_oxm_bits(fields: &Fields) -> u64 {
    let ids = fields.iter().filter_map(|field| field.oxm(Version::V12.wire()));
    ids.filter(|oxm| oxm.class == 0x8000).fold(0, |bits, oxm| bits | 1 << (oxm.field & 63))
}

fn fields_from_oxm_bits(bits: u64) -> Fields {
    let known = |field: &Field| {
        let oxms = field.info().oxms.iter();
        oxms.filter(|oxm| oxm.class == 0x8000).any(|oxm| oxm.since <= Version::V12.wire())
    };
    let fields = (0..64).filter(|bit| bits & (1 << bit) != 0);
    fields.filter_map(|bit| Field::from_oxm(0x8000, bit, 0)).filter(known).collect()
}

fn instruction_bits(set: u32, version: Version) -> u32 {
    let has = |i: &&Instruction| set & (1 << **i as u32) != 0 && i.exists_in(version);
    Instruction::ALL.iter().filter(has).fold(0, |bits, i| bits | 1 << i.wire())
}

fn instructions_from_bits(bits: u32, version: Version) -> u32 {
    let has = |i: &&Instruction| bits & (1 << i.wire()) != 0 && i.exists_in(version);
    Instruction::ALL.iter().filter(has).fold(0, |set, i| set | 1 << *i as u32)
}

impl TableStats {
    /// The tables of a reply, with what features it tells. An error that comes after some tables leaves them.
    pub fn decode_reply(msg: &[u8]) -> (Vec<(Self, TableFeatures)>, Result<(), OfError>) {
        let mut list = Vec::new();
        let mut read = || {
            let raws = [
                Raw::Ofpst10TableReply,
                Raw::Ofpst11TableReply,
                Raw::Ofpst12TableReply,
                Raw::Ofpst13TableReply,
            ];
            let (_, version, mut body) = open(msg, &raws)?;
            while !body.is_empty() {
                list.push(Self::read(version, &mut body)?);
            }
            Ok(())
        };
        let result = read();
        (list, result)
    }

    fn read(version: Version, body: &mut Reader<'_>) -> Result<(Self, TableFeatures), OfError> {
        let table_id = TableId(body.u8()?);
        body.skip(if version >= Version::V13 || version == Version::V10 { 3 } else { 7 })?;
        let mut features = TableFeatures::blank(table_id);
        match version {
            Version::V10 => {
                features.name = body.name::<32>()?;
                features.matched = fields_from_bits(body.u32()?, &OF10_FIELDS);
                features.wildcarded = features.matched.clone();
                features.max_entries = body.u32()?;
            }
            Version::V11 => features.read11(body)?,
            Version::V12 => features.read12(body)?,
            Version::V13 | Version::V14 | Version::V15 => {}
        }
        let (active_count, lookup_count, matched_count) = (body.u32()?, body.u64()?, body.u64()?);
        Ok((Self { table_id, active_count, lookup_count, matched_count }, features))
    }

    /// Adds the statistics, and what features the version tells with them, to the replies to a request.
    pub fn push(&self, features: &TableFeatures, replies: &mut Multipart) {
        let version = replies.version();
        let mut entry = Vec::new();
        entry.u8(self.table_id.0).zeros(if version >= Version::V13 || version == Version::V10 {
            3
        } else {
            7
        });
        match version {
            Version::V10 => {
                let absent = |(_, field): &&(u32, Field)| {
                    !features.matched.contains(field) || features.wildcarded.contains(field)
                };
                let wildcards = OF10_FIELDS.iter().filter(absent).fold(0, |bits, (bit, _)| bits | bit);
                entry.name(&features.name, 32).u32(wildcards).u32(features.max_entries);
            }
            Version::V11 => features.put11(&mut entry),
            Version::V12 => features.put12(&mut entry),
            Version::V13 | Version::V14 | Version::V15 => {}
        }
        entry.u32(self.active_count).u64(self.lookup_count).u64(self.matched_count);
        replies.push(&entry);
    }
}

impl TableFeatures {
    fn read11(&mut self, body: &mut Reader<'_>) -> Result<(), OfError> {
        self.name = body.name::<32>()?;
        self.wildcarded = fields_from_bits(body.u32()?, &OF11_FIELDS);
        self.matched = fields_from_bits(body.u32()?, &OF11_FIELDS);
        self.matched.extend(&self.wildcarded);
        self.nonmiss.instructions = instructions_from_bits(body.u32()?, Version::V11);
        self.nonmiss.write.actions = actions_from_bits(body.u32()?, Version::V11);
        self.nonmiss.apply.actions = actions_from_bits(body.u32()?, Version::V11);
        self.miss = self.nonmiss.clone();
        self.miss_config = TableMiss::from_config(body.u32()?, Version::V11);
        self.max_entries = body.u32()?;
        Ok(())
    }

    fn put11(&self, entry: &mut Vec<u8>) {
        let absent =
            |(_, field): &&(u32, Field)| !self.matched.contains(field) || self.wildcarded.contains(field);
        let wildcards = OF11_FIELDS.iter().filter(absent).fold(0, |bits, (bit, _)| bits | bit);
        entry.name(&self.name, 32).u32(wildcards).u32(fields_to_bits(&self.matched, &OF11_FIELDS));
        entry.u32(instruction_bits(self.nonmiss.instructions, Version::V11));
        entry.u32(actions_to_bits(self.nonmiss.write.actions, Version::V11));
        entry.u32(actions_to_bits(self.nonmiss.apply.actions, Version::V11));
        entry
            .u32(super::table::config_word(self.miss_config, None, None, Version::V11))
            .u32(self.max_entries);
    }

    fn read12(&mut self, body: &mut Reader<'_>) -> Result<(), OfError> {
        self.name = body.name::<32>()?;
        self.matched = fields_from_oxm_bits(body.u64()?);
        self.wildcarded = fields_from_oxm_bits(body.u64()?);
        self.matched.extend(&self.wildcarded);
        self.nonmiss.write.actions = actions_from_bits(body.u32()?, Version::V12);
        self.nonmiss.apply.actions = actions_from_bits(body.u32()?, Version::V12);
        self.nonmiss.write.set_fields = fields_from_oxm_bits(body.u64()?);
        self.nonmiss.apply.set_fields = fields_from_oxm_bits(body.u64()?);
        (self.metadata_match, self.metadata_write) = (body.u64()?, body.u64()?);
        self.nonmiss.instructions = instructions_from_bits(body.u32()?, Version::V12);
        self.miss = self.nonmiss.clone();
        self.miss_config = TableMiss::from_config(body.u32()?, Version::V12);
        self.max_entries = body.u32()?;
        Ok(())
    }

    fn put12(&self, entry: &mut Vec<u8>) {
        entry.name(&self.name, 32);
        entry.u64(fields_to_oxm_bits(&self.matched)).u64(fields_to_oxm_bits(&self.wildcarded));
        entry.u32(actions_to_bits(self.nonmiss.write.actions, Version::V12));
        entry.u32(actions_to_bits(self.nonmiss.apply.actions, Version::V12));
        entry.u64(fields_to_oxm_bits(&self.nonmiss.write.set_fields));
        entry.u64(fields_to_oxm_bits(&self.nonmiss.apply.set_fields));
        entry.u64(self.metadata_match).u64(self.metadata_write);
        entry.u32(instruction_bits(self.nonmiss.instructions, Version::V12));
        entry
            .u32(super::table::config_word(self.miss_config, None, None, Version::V12))
            .u32(self.max_entries);
    }
}
