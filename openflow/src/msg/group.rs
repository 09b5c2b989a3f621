//! Groups: their modification, description, statistics and features.

use crate::action::OfAction;
use flow::field::{Field, Value};
use flow::id::{GroupId, OfPort};
use std::sync::Arc;

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

/// How a group chooses among its buckets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum GroupType {
    All = 0,
    Select = 1,
    Indirect = 2,
    FastFailover = 3,
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
