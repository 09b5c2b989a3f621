//! What groups counted, and what the switch's groups can do.
//! Spec: OpenFlow 1.1 section A.5.6 to OpenFlow 1.5 sections 7.3.5.9 and 7.3.5.11.

use super::super::{Age, action_names, open, w};
use crate::error::OfError;
use crate::header::{self, Header, Multipart, Raw};
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::id::GroupId;

/// A group's statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStats {
    pub group_id: GroupId,
    pub ref_count: u32,
    pub packet_count: u64,
    pub byte_count: u64,
    /// Not in OpenFlow 1.1 and 1.2.
    pub age: Age,
    /// Packets and bytes of each bucket.
    pub buckets: Vec<(u64, u64)>,
}

impl GroupStats {
    /// The groups of a reply. An error that comes after some leaves them.
    pub fn decode_reply(msg: &[u8]) -> (Vec<Self>, Result<(), OfError>) {
        let mut list = Vec::new();
        let mut read = || {
            let raws = [Raw::NxstGroupReply, Raw::Ofpst11GroupReply, Raw::Ofpst13GroupReply];
            let (header, _, mut body) = open(msg, &raws)?;
            while !body.is_empty() {
                list.push(Self::read(header.raw != Raw::Ofpst11GroupReply, &mut body)?);
            }
            Ok(())
        };
        let result = read();
        (list, result)
    }

    fn read(aged: bool, body: &mut Reader<'_>) -> Result<Self, OfError> {
        let len = usize::from(body.clone().u16()?);
        let mut entry = body.sub(len)?;
        entry.skip(4)?;
        let (group_id, ref_count) = (GroupId(entry.u32()?), entry.u32()?);
        entry.skip(4)?;
        let (packet_count, byte_count) = (entry.u64()?, entry.u64()?);
        let age = if aged { Age::read(&mut entry)? } else { Age::UNKNOWN };
        let mut buckets = Vec::new();
        while !entry.is_empty() {
            buckets.push((entry.u64()?, entry.u64()?));
        }
        Ok(Self { group_id, ref_count, packet_count, byte_count, age, buckets })
    }

    /// Adds the statistics to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        let mut entry = Vec::new();
        entry.u16(0).zeros(2).u32(self.group_id.0).u32(self.ref_count).zeros(4);
        entry.u64(self.packet_count).u64(self.byte_count);
        if !matches!(replies.version(), Version::V11 | Version::V12) {
            self.age.put(&mut entry);
        }
        for (packets, bytes) in &self.buckets {
            entry.u64(*packets).u64(*bytes);
        }
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        set_u16(&mut entry, 0, len);
        replies.push(&entry);
    }

    fn text(&self, out: &mut String) {
        w!(out, "\n group_id={},", self.group_id);
        if self.age.sec != u32::MAX {
            w!(out, "duration={},", self.age);
        }
        let Self { ref_count, packet_count, byte_count, .. } = self;
        w!(out, "ref_count={ref_count},packet_count={packet_count},byte_count={byte_count}");
        for (n, (packets, bytes)) in self.buckets.iter().enumerate() {
            if *packets != u64::MAX {
                w!(out, ",bucket{n}:packet_count={packets},byte_count={bytes}");
            }
        }
    }

    /// Appends the text of a reply.
    pub fn reply_text(msg: &[u8], out: &mut String) -> Result<(), OfError> {
        let (list, result) = Self::decode_reply(msg);
        for stats in list {
            stats.text(out);
        }
        if result.is_err() {
            out.push_str(" ***parse error***");
        }
        result
    }
}

/// What the switch's groups can do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GroupFeatures {
    /// Bit N: group type N.
    pub types: u32,
    pub capabilities: u32,
    /// By type.
    pub max_groups: [u32; 4],
    /// Bits of action types, by group type.
    pub actions: [u32; 4],
}

impl GroupFeatures {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::NxstGroupFeaturesReply, Raw::Ofpst12GroupFeaturesReply])?;
        let mut this = Self { types: body.u32()?, capabilities: body.u32()?, ..Self::default() };
        for word in this.max_groups.iter_mut().chain(&mut this.actions) {
            *word = body.u32()?;
        }
        Ok(this)
    }

    /// The reply to `request`.
    pub fn encode_reply(&self, request: &[u8]) -> Result<Vec<u8>, OfError> {
        let header = Header::peek(request)?;
        let version = header.version()?;
        let raw = header.raw.stat_reply(version).ok_or(OfError::BrcBadStat)?;
        let mut msg = header::start(raw, version, header.xid);
        msg.u32(self.types).u32(self.capabilities);
        for word in self.max_groups.iter().chain(&self.actions) {
            msg.u32(*word);
        }
        header::finish(&mut msg);
        Ok(msg)
    }

    pub fn text(&self, version: Version, out: &mut String) {
        let (types, capabilities) = (self.types, self.capabilities);
        w!(out, "\n Group table:\n    Types:  0x{types:x}\n    Capabilities:  0x{capabilities:x}\n");
        for (n, name) in ["all", "select", "indirect", "fast failover"].into_iter().enumerate() {
            if types & (1 << n) != 0 {
                let max = if self.max_groups[n] == 0 {
                    "0".to_owned()
                } else {
                    format!("{:#x}", self.max_groups[n])
                };
                w!(out, "    {name} group:\n       max_groups={max}\n");
                w!(out, "       actions: {}\n", action_names(self.actions[n], version));
            }
        }
    }
}
