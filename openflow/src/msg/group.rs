//! Groups: their modification, description, statistics and features.
//! Spec: OpenFlow 1.1 section A.3.4.2 to OpenFlow 1.5 sections 7.3.4.3 and 7.3.5.8 to 7.3.5.11; `NXT_GROUP_MOD`;
//! Netronome's selection method property.

use super::{open, put_port32, read_port32, w};
use crate::action::{self, Decode, OfAction};
use crate::error::OfError;
use crate::header::{self, Multipart, Raw};
use crate::names::Names;
use crate::oxm;
use crate::prop::{self, Prop, PropType, Props};
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::field::{Field, Value};
use flow::id::{GroupId, OfPort};
use std::sync::Arc;

mod stats;

pub use stats::{GroupFeatures, GroupStats};

/// The greatest number of a group.
pub const MAX_GROUP: GroupId = GroupId(0xffff_ff00);
/// Every group.
pub const ALL_GROUPS: GroupId = GroupId(0xffff_fffc);
/// Any group, or none.
pub const ANY_GROUP: GroupId = GroupId(u32::MAX);

/// Bucket ids with a meaning of their own.
pub const MAX_BUCKET: u32 = 0xffff_ff00;
pub const FIRST_BUCKET: u32 = 0xffff_fffd;
pub const LAST_BUCKET: u32 = 0xffff_fffe;
pub const ALL_BUCKETS: u32 = 0xffff_ffff;

const NTR_VENDOR: u32 = 0x0000_154d;
/// A number that OVS 2.4 used by mistake.
const NTR_COMPAT_VENDOR: u32 = 0x0000_1540;
const NTR_SELECTION_METHOD: u32 = 1;
const PROP_WEIGHT: u16 = 0;
const PROP_WATCH_PORT: u16 = 1;
const PROP_WATCH_GROUP: u16 = 2;

/// `ALL`, `ANY` or the number.
pub fn group_name(group: GroupId) -> String {
    match group {
        ALL_GROUPS => "ALL".to_owned(),
        ANY_GROUP => "ANY".to_owned(),
        _ => group.to_string(),
    }
}

/// How a group chooses among its buckets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum GroupType {
    All = 0,
    Select = 1,
    Indirect = 2,
    FastFailover = 3,
}

impl GroupType {
    const ALL: [Self; 4] = [Self::All, Self::Select, Self::Indirect, Self::FastFailover];

    fn from_wire(number: u8) -> Result<Self, OfError> {
        Self::ALL.get(usize::from(number)).copied().ok_or(OfError::GmfcBadType)
    }

    /// `all`, `select`, `indirect`, `ff`.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Select => "select",
            Self::Indirect => "indirect",
            Self::FastFailover => "ff",
        }
    }
}

/// What a group-mod does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum GroupCommand {
    Add = 0,
    Modify = 1,
    Delete = 2,
    InsertBucket = 3,
    RemoveBucket = 5,
    /// OVS's own.
    AddOrModify = 0x8000,
}

impl GroupCommand {
    fn from_wire(number: u16) -> Result<Self, OfError> {
        Ok(match number {
            0 => Self::Add,
            1 => Self::Modify,
            2 => Self::Delete,
            3 => Self::InsertBucket,
            5 => Self::RemoveBucket,
            0x8000 => Self::AddOrModify,
            _ => return Err(OfError::GmfcBadCommand),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Modify => "MOD",
            Self::Delete => "DEL",
            Self::InsertBucket => "INSERT_BUCKET",
            Self::RemoveBucket => "REMOVE_BUCKET",
            Self::AddOrModify => "ADD_OR_MOD",
        }
    }
}

/// A bucket of a group.
#[derive(Clone, PartialEq, Debug)]
pub struct Bucket {
    /// Above [`MAX_BUCKET`]: to be chosen.
    pub bucket_id: u32,
    /// Relative, in select groups.
    pub weight: u16,
    /// Whether the bucket is live depends on these; [`OfPort::NONE`] and [`ANY_GROUP`]: on nothing.
    pub watch_port: OfPort,
    pub watch_group: GroupId,
    pub actions: Arc<[OfAction]>,
}

impl Bucket {
    /// Whether it watches a port or a group.
    pub fn has_liveness(&self) -> bool {
        self.watch_port != OfPort::NONE || self.watch_group != ANY_GROUP
    }

    fn read_all11(mut reader: Reader<'_>, version: Version) -> Result<Vec<Self>, OfError> {
        let mut buckets = Vec::new();
        while !reader.is_empty() {
            let (head, len, body) = split_bucket(&mut reader, 16)?;
            let mut head = head;
            head.skip(2)?;
            let weight = head.u16()?;
            let mut port = head.sub(4)?;
            let watch_group = GroupId(head.u32()?);
            let actions = action::decode_list(&body[..len], &mut Decode::new(version))?.into();
            let watch_port = read_port32(&mut port).map_err(|_| OfError::GmfcBadWatch)?;
            let bucket_id = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
            buckets.push(Self { bucket_id, weight, watch_port, watch_group, actions });
        }
        Ok(buckets)
    }

    fn read_all15(mut reader: Reader<'_>, version: Version, select: bool) -> Result<Vec<Self>, OfError> {
        let mut buckets: Vec<Self> = Vec::new();
        while !reader.is_empty() {
            buckets.push(Self::read15(&mut reader, version, select)?);
        }
        let mut ids: Vec<_> = buckets.iter().map(|bucket| bucket.bucket_id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(bad_bucket("Duplicate bucket id"));
        }
        Ok(buckets)
    }

    fn read15(reader: &mut Reader<'_>, version: Version, select: bool) -> Result<Self, OfError> {
        let (mut head, len, body) = split_bucket(reader, 8)?;
        head.skip(2)?;
        let actions_len = usize::from(head.u16()?);
        let bucket_id = head.u32()?;
        let actions = body[..len].get(..actions_len).ok_or_else(|| {
            let what = format!(
                "OpenFlow message bucket actions length {actions_len} exceeds remaining bucket data size {len}"
            );
            bad_bucket(&what)
        })?;
        let actions = action::decode_list(actions, &mut Decode::new(version))?.into();
        let weight = u16::from(select);
        let mut this = Self { bucket_id, weight, watch_port: OfPort::NONE, watch_group: ANY_GROUP, actions };
        let mut watch_port = None;
        for prop in Props::new(&body[actions_len..len]) {
            let prop = prop?;
            match prop.kind {
                PropType::Standard(PROP_WEIGHT) => this.weight = prop.u16()?,
                PropType::Standard(PROP_WATCH_PORT) => watch_port = Some(prop.array::<4>()?),
                PropType::Standard(PROP_WATCH_GROUP) => this.watch_group = GroupId(prop.u32()?),
                _ => prop.unknown(false, "group bucket")?,
            }
        }
        if let Some(port) = watch_port {
            this.watch_port = read_port32(&mut Reader::new(&port)).map_err(|_| OfError::GmfcBadWatch)?;
        }
        if bucket_id > MAX_BUCKET {
            return Err(bad_bucket(&format!("bucket id ({bucket_id}) is out of range")));
        }
        Ok(this)
    }

    fn put11(&self, version: Version, msg: &mut Vec<u8>) {
        let start = msg.len();
        msg.u16(0).u16(self.weight);
        put_port32(msg, self.watch_port);
        msg.u32(self.watch_group.0).zeros(4);
        action::encode_list(&self.actions, version, msg);
        let len = u16::try_from(msg.len() - start).unwrap_or(u16::MAX);
        set_u16(msg, start, len);
    }

    fn put15(&self, bucket_id: u32, kind: GroupType, version: Version, msg: &mut Vec<u8>) {
        let start = msg.len();
        msg.u32(0).u32(bucket_id);
        action::encode_list(&self.actions, version, msg);
        let actions_len = u16::try_from(msg.len() - start - 8).unwrap_or(u16::MAX);
        if kind == GroupType::Select || self.weight != 0 {
            prop::put_u16(msg, PROP_WEIGHT, self.weight);
        }
        if self.watch_port != OfPort::NONE {
            prop::put_std(msg, PROP_WATCH_PORT, |msg| put_port32(msg, self.watch_port));
        }
        if self.watch_group != ANY_GROUP {
            prop::put_u32(msg, PROP_WATCH_GROUP, self.watch_group.0);
        }
        let len = u16::try_from(msg.len() - start).unwrap_or(u16::MAX);
        set_u16(msg, start, len);
        set_u16(msg, start + 2, actions_len);
    }

    /// Appends the bucket; `version` says whether ids are told.
    pub fn text(&self, kind: Option<GroupType>, version: Version, names: &Names, out: &mut String) {
        out.push_str("bucket=");
        if matches!(version, Version::V10 | Version::V15) {
            match self.bucket_id {
                FIRST_BUCKET => out.push_str("bucket_id:first,"),
                LAST_BUCKET => out.push_str("bucket_id:last,"),
                ALL_BUCKETS => out.push_str("bucket_id:all,"),
                id => {
                    w!(out, "bucket_id:{id},");
                }
            }
        }
        if self.weight != u16::from(kind == Some(GroupType::Select)) {
            w!(out, "weight:{},", self.weight);
        }
        if self.watch_port != OfPort::NONE {
            w!(out, "watch_port:{},", names.port(self.watch_port));
        }
        if self.watch_group != ANY_GROUP {
            w!(out, "watch_group:{},", self.watch_group);
        }
        w!(out, "actions={}", action::text(&self.actions, names));
    }
}

fn bad_bucket(why: &str) -> OfError {
    tracing::warn!(target: "ofp_group", "{why}");
    OfError::GmfcBadBucket
}

/// Splits off one bucket: its fixed part, and the length and bytes of the rest.
fn split_bucket<'a>(reader: &mut Reader<'a>, fixed: usize) -> Result<(Reader<'a>, usize, &'a [u8]), OfError> {
    let left = reader.len();
    let whole = reader.rest();
    if left < fixed {
        return Err(bad_bucket(&format!("buckets end with {left} leftover bytes")));
    }
    let len = usize::from(u16::from_be_bytes([whole[0], whole[1]]));
    if len < fixed {
        return Err(bad_bucket(&format!("OpenFlow message bucket length {len} is not valid")));
    }
    let bucket = reader.bytes(len).map_err(|_| {
        bad_bucket(&format!(
            "OpenFlow message bucket length {len} exceeds remaining buckets data size {left}"
        ))
    })?;
    Ok((Reader::new(&bucket[..fixed]), len - fixed, &bucket[fixed..]))
}

/// How a select group selects; the default is as the switch likes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct GroupProps {
    /// Empty, `hash` or `dp_hash`.
    pub selection_method: String,
    pub selection_method_param: u64,
    /// Fields to hash, with masks.
    pub fields: Vec<(Field, Value)>,
}

impl GroupProps {
    fn read(bytes: &[u8], kind: u8, command: GroupCommand) -> Result<Self, OfError> {
        let mut props = Self::default();
        for prop in Props::new(bytes) {
            let prop = prop?;
            match prop.kind {
                PropType::Experimenter {
                    vendor: NTR_VENDOR | NTR_COMPAT_VENDOR,
                    kind: NTR_SELECTION_METHOD,
                } => {
                    props.read_method(&prop, kind, command)?;
                }
                _ => prop.unknown(false, "group")?,
            }
        }
        Ok(props)
    }

    fn read_method(&mut self, prop: &Prop<'_>, kind: u8, command: GroupCommand) -> Result<(), OfError> {
        let refuse = |why: &str| {
            tracing::warn!(target: "ofp_group", "{why}");
            Err(OfError::BpcBadValue)
        };
        if GroupType::from_wire(kind)? != GroupType::Select {
            return refuse("ntr selection method property is only allowed for select groups");
        }
        if !matches!(command, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify) {
            return refuse(
                "ntr selection method property is only allowed for add and delete group modifications",
            );
        }
        let mut value = Reader::new(prop.aligned_value()?);
        let (Ok(method), Ok(param)) = (value.array::<16>(), value.u64()) else {
            let len = prop.whole.len();
            tracing::warn!(target: "ofp_group", "ntr selection method property length {len} is not valid");
            return Err(OfError::BpcBadLen);
        };
        let Some(end) = method.iter().position(|&byte| byte == 0) else {
            return refuse("ntr selection method is not null terminated");
        };
        let method = String::from_utf8_lossy(&method[..end]).into_owned();
        if method != "hash" && method != "dp_hash" {
            return refuse(&format!("ntr selection method '{method}' is not supported"));
        }
        if !value.is_empty() && method != "hash" {
            return refuse(&format!("ntr selection method {method} does not support fields"));
        }
        self.fields = read_fields(value.rest()).inspect_err(|_| {
            tracing::warn!(target: "ofp_group", "ntr selection method fields are invalid");
        })?;
        (self.selection_method, self.selection_method_param) = (method, param);
        Ok(())
    }

    fn put(&self, version: Version, msg: &mut Vec<u8>) {
        if self.selection_method.is_empty() {
            return;
        }
        prop::put(msg, PropType::Experimenter { vendor: NTR_VENDOR, kind: NTR_SELECTION_METHOD }, |msg| {
            msg.zeros(4).name(&self.selection_method, 16).u64(self.selection_method_param);
            for (field, mask) in &self.fields {
                oxm::put_entry(msg, *field, version.wire(), mask, &Value::ones(field.n_bytes()));
            }
        });
    }

    fn text(&self, out: &mut String) {
        if self.selection_method.is_empty() {
            return;
        }
        w!(out, ",selection_method={}", self.selection_method);
        if self.selection_method_param != 0 {
            w!(out, ",selection_method_param={}", self.selection_method_param);
        }
        match &self.fields[..] {
            [] => {}
            [_] => {
                w!(out, ",fields={}", fields_text(&self.fields));
            }
            _ => {
                w!(out, ",fields({})", fields_text(&self.fields));
            }
        }
    }
}

/// Reads a list of fields, each with the mask of its bits that count.
fn read_fields(bytes: &[u8]) -> Result<Vec<(Field, Value)>, OfError> {
    let mut reader = Reader::new(bytes);
    let mut fields: Vec<(Field, Value)> = Vec::new();
    while !reader.is_empty() {
        let entry = oxm::read_entry(&mut reader, None, false, oxm::Place::Match)?;
        let field = entry.field?;
        if fields.iter().any(|(seen, _)| *seen == field) {
            return Err(OfError::BmcDupField);
        }
        if !field.mask_ok(&entry.value) {
            return Err(OfError::BmcBadMask);
        }
        fields.push((field, entry.value));
    }
    fields.sort_by_key(|(field, _)| *field);
    Ok(fields)
}

/// `ip_dst,tcp_src=0xff`: a mask is told if it is not exact.
fn fields_text(fields: &[(Field, Value)]) -> String {
    let one = |(field, mask): &(Field, Value)| {
        let mut text = field.name().to_owned();
        if !mask.is_ones() {
            text.push('=');
            field.format(mask, None, &flow::field::NoNames, &mut text);
        }
        text
    };
    fields.iter().map(one).collect::<Vec<_>>().join(",")
}

/// A group-mod message.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupMod {
    pub command: GroupCommand,
    pub kind: GroupType,
    pub group_id: GroupId,
    /// Which bucket to insert behind, or to remove.
    pub command_bucket_id: u32,
    pub buckets: Vec<Bucket>,
    pub props: GroupProps,
}

impl GroupMod {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (header, version, mut body) =
            open(msg, &[Raw::Ofpt11GroupMod, Raw::Ofpt15GroupMod, Raw::NxtGroupMod])?;
        let command = body.u16()?;
        let kind = body.u8()?;
        body.skip(1)?;
        let group_id = GroupId(body.u32()?);
        if header.raw == Raw::Ofpt11GroupMod {
            let buckets = Bucket::read_all11(body, version)?;
            // OpenFlow 1.3.5 and later forbid deletions to have buckets.
            if version >= Version::V13 && command == GroupCommand::Delete as u16 && !buckets.is_empty() {
                return Err(OfError::GmfcInvalidGroup);
            }
            let props = GroupProps::default();
            return Self::checked(command, kind, group_id, ALL_BUCKETS, buckets, props);
        }
        let buckets_len = usize::from(body.u16()?);
        body.skip(2)?;
        let command_bucket_id = body.u32()?;
        if !bucket_id_fits(command, command_bucket_id) {
            return Err(bad_bucket(&format!(
                "group command bucket id ({command_bucket_id}) is out of range"
            )));
        }
        let buckets = Bucket::read_all15(body.sub(buckets_len)?, version, kind == GroupType::Select as u8)?;
        let props = match GroupCommand::from_wire(command) {
            Ok(command) => GroupProps::read(body.rest(), kind, command)?,
            Err(_) => GroupProps::default(),
        };
        Self::checked(command, kind, group_id, command_bucket_id, buckets, props)
    }

    fn checked(
        command: u16,
        kind: u8,
        group_id: GroupId,
        command_bucket_id: u32,
        buckets: Vec<Bucket>,
        props: GroupProps,
    ) -> Result<Self, OfError> {
        let kind = GroupType::from_wire(kind)?;
        if kind == GroupType::Indirect && command != GroupCommand::Delete as u16 && buckets.len() != 1 {
            return Err(OfError::GmfcInvalidGroup);
        }
        let command = GroupCommand::from_wire(command)?;
        if command == GroupCommand::RemoveBucket && !buckets.is_empty() {
            return Err(OfError::GmfcBadBucket);
        }
        for bucket in &buckets {
            if bucket.weight != 0 && kind != GroupType::Select && command != GroupCommand::InsertBucket {
                return Err(OfError::GmfcInvalidGroup);
            }
            match kind {
                GroupType::All | GroupType::Indirect if bucket.has_liveness() => {
                    return Err(OfError::GmfcWatchUnsupported);
                }
                GroupType::FastFailover if !bucket.has_liveness() => return Err(OfError::GmfcInvalidGroup),
                _ => {}
            }
        }
        Ok(Self { command, kind, group_id, command_bucket_id, buckets, props })
    }

    /// The message. Before OpenFlow 1.5 (but not in 1.0, where Nicira's form is used), there are no commands for single
    /// buckets: `None` for those.
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let raw = match version {
            Version::V10 => Raw::NxtGroupMod,
            Version::V15 => Raw::Ofpt15GroupMod,
            _ => return self.encode11(version, xid),
        };
        let mut msg = header::start(raw, version, xid);
        msg.u16(self.command as u16).u8(self.kind as u8).zeros(1).u32(self.group_id.0);
        let len_at = msg.len();
        msg.u16(0).zeros(2).u32(self.command_bucket_id);
        let start = msg.len();
        for (bucket, id) in self.buckets.iter().zip(assign_ids(&self.buckets)) {
            bucket.put15(id, self.kind, version, &mut msg);
        }
        let len = u16::try_from(msg.len() - start).unwrap_or(u16::MAX);
        set_u16(&mut msg, len_at, len);
        self.props.put(version, &mut msg);
        header::finish(&mut msg);
        Some(msg)
    }

    fn encode11(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        if matches!(self.command, GroupCommand::InsertBucket | GroupCommand::RemoveBucket) {
            return None;
        }
        let mut msg = header::start(Raw::Ofpt11GroupMod, version, xid);
        msg.u16(self.command as u16).u8(self.kind as u8).zeros(1).u32(self.group_id.0);
        for bucket in &self.buckets {
            bucket.put11(version, &mut msg);
        }
        header::finish(&mut msg);
        Some(msg)
    }

    pub fn text(&self, version: Version, names: &Names, out: &mut String) {
        w!(out, "\n {} ", self.command.name());
        let told_as = match self.command {
            GroupCommand::InsertBucket | GroupCommand::RemoveBucket
                if matches!(version, Version::V10 | Version::V15) =>
            {
                Some(self.command_bucket_id)
            }
            _ => None,
        };
        if let Some(id) = told_as {
            match id {
                FIRST_BUCKET => out.push_str("command_bucket_id:first,"),
                LAST_BUCKET => out.push_str("command_bucket_id:last,"),
                ALL_BUCKETS => out.push_str("command_bucket_id:all,"),
                _ => {
                    w!(out, "command_bucket_id:{id},");
                }
            }
        }
        let kind = told_as.is_none().then_some(self.kind);
        group_text(self.group_id, kind, self.kind, &self.buckets, &self.props, version, names, out);
    }
}

fn bucket_id_fits(command: u16, id: u32) -> bool {
    match GroupCommand::from_wire(command) {
        Ok(GroupCommand::InsertBucket) => id <= MAX_BUCKET || matches!(id, FIRST_BUCKET | LAST_BUCKET),
        Ok(GroupCommand::RemoveBucket) => {
            id <= MAX_BUCKET || matches!(id, FIRST_BUCKET | LAST_BUCKET | ALL_BUCKETS)
        }
        _ => id == ALL_BUCKETS,
    }
}

/// Ids for buckets: those without get the least free ones.
fn assign_ids(buckets: &[Bucket]) -> Vec<u32> {
    let mut taken: std::collections::BTreeSet<u32> = buckets.iter().map(|bucket| bucket.bucket_id).collect();
    let mut next = 0;
    let mut assign = |bucket: &Bucket| {
        if bucket.bucket_id <= MAX_BUCKET {
            return bucket.bucket_id;
        }
        while !taken.insert(next) {
            next += 1;
        }
        next
    };
    buckets.iter().map(&mut assign).collect()
}

/// A group with some of its buckets as text, with their numbers and ports by number.
pub fn to_text(id: GroupId, kind: GroupType, props: &GroupProps, buckets: &[Bucket]) -> String {
    let mut out = String::new();
    group_text(id, Some(kind), kind, buckets, props, Version::V15, &Names::default(), &mut out);
    out
}

#[expect(clippy::too_many_arguments, reason = "what a group's text is made of")]
fn group_text(
    id: GroupId,
    told: Option<GroupType>,
    kind: GroupType,
    buckets: &[Bucket],
    props: &GroupProps,
    version: Version,
    names: &Names,
    out: &mut String,
) {
    w!(out, "group_id={id}");
    if let Some(kind) = told {
        w!(out, ",type={}", kind.name());
    }
    props.text(out);
    for bucket in buckets {
        out.push(',');
        bucket.text(Some(kind), version, names, out);
    }
}

/// A request for the description of a group: all of them in OpenFlow 1.1 to 1.4.
pub fn desc_request(version: Version, xid: u32, group: GroupId) -> Vec<u8> {
    let raw = match version {
        Version::V10 => Raw::NxstGroupDescRequest,
        Version::V15 => Raw::Ofpst15GroupDescRequest,
        _ => return header::bare(Raw::Ofpst11GroupDescRequest, version, xid),
    };
    id_request(raw, version, xid, group)
}

/// A request for the statistics of a group, or of all.
pub fn stats_request(version: Version, xid: u32, group: GroupId) -> Vec<u8> {
    let raw = if version == Version::V10 { Raw::NxstGroupRequest } else { Raw::Ofpst11GroupRequest };
    id_request(raw, version, xid, group)
}

/// A request for the features of groups.
pub fn features_request(version: Version, xid: u32) -> Vec<u8> {
    let nx = version < Version::V12;
    header::bare(
        if nx { Raw::NxstGroupFeaturesRequest } else { Raw::Ofpst12GroupFeaturesRequest },
        version,
        xid,
    )
}

fn id_request(raw: Raw, version: Version, xid: u32, group: GroupId) -> Vec<u8> {
    let mut msg = header::start(raw, version, xid);
    msg.u32(group.0).zeros(4);
    header::finish(&mut msg);
    msg
}

/// Which group a request for description or statistics asks for.
pub fn decode_request(msg: &[u8]) -> Result<GroupId, OfError> {
    const RAWS: &[Raw] = &[
        Raw::NxstGroupDescRequest,
        Raw::Ofpst11GroupDescRequest,
        Raw::Ofpst15GroupDescRequest,
        Raw::NxstGroupRequest,
        Raw::Ofpst11GroupRequest,
    ];
    let (header, _, mut body) = open(msg, RAWS)?;
    if header.raw == Raw::Ofpst11GroupDescRequest { Ok(ALL_GROUPS) } else { body.u32().map(GroupId) }
}

/// A group's description.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupDesc {
    pub group_id: GroupId,
    pub kind: GroupType,
    pub buckets: Vec<Bucket>,
    pub props: GroupProps,
}

impl GroupDesc {
    /// The groups of a reply. An error that comes after some leaves them.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let mut read = || {
            let (_, version, mut body) = open(msg, &[Raw::NxstGroupDescReply, Raw::Ofpst11GroupDescReply])?;
            while !body.is_empty() {
                list.push(Self::read(version, &mut body)?);
            }
            Ok(())
        };
        let result = read();
        (list, result)
    }

    fn read(version: Version, body: &mut Reader<'_>) -> Result<Self, OfError> {
        let len = usize::from(body.clone().u16()?);
        let mut entry = body.sub(len)?;
        entry.skip(2)?;
        let kind = entry.u8()?;
        entry.skip(1)?;
        let group_id = GroupId(entry.u32()?);
        if !matches!(version, Version::V10 | Version::V15) {
            let buckets = Bucket::read_all11(entry, version)?;
            return Ok(Self {
                group_id,
                kind: GroupType::from_wire(kind)?,
                buckets,
                props: GroupProps::default(),
            });
        }
        let buckets_len = usize::from(entry.u16()?);
        entry.skip(6)?;
        let buckets = Bucket::read_all15(entry.sub(buckets_len)?, version, kind == GroupType::Select as u8)?;
        let props = GroupProps::read(entry.rest(), kind, GroupCommand::Add)?;
        Ok(Self { group_id, kind: GroupType::from_wire(kind)?, buckets, props })
    }

    /// Adds the description to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        let version = replies.version();
        let mut entry = Vec::new();
        entry.u16(0).u8(self.kind as u8).zeros(1).u32(self.group_id.0);
        if matches!(version, Version::V10 | Version::V15) {
            entry.zeros(8);
            for bucket in &self.buckets {
                bucket.put15(bucket.bucket_id, self.kind, version, &mut entry);
            }
            let len = u16::try_from(entry.len() - 16).unwrap_or(u16::MAX);
            set_u16(&mut entry, 8, len);
            self.props.put(version, &mut entry);
        } else {
            for bucket in &self.buckets {
                bucket.put11(version, &mut entry);
            }
        }
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        set_u16(&mut entry, 0, len);
        replies.push(&entry);
    }

    pub fn text(&self, version: Version, names: &Names, out: &mut String) {
        group_text(
            self.group_id,
            Some(self.kind),
            self.kind,
            &self.buckets,
            &self.props,
            version,
            names,
            out,
        );
    }
}
