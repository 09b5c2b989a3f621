//! Group mods: add, modify, delete, and bucket by bucket.

use std::sync::Arc;

use flow::id::GroupId;
use flow::time::Instant;
use openflow::error::OfError;
use openflow::msg::flow_removed::RemovedReason;
use openflow::msg::group::{Bucket, GroupCommand, GroupMod, GroupProps, GroupType};

use super::event::{Event, Requester};
use super::group::{ALL_GROUPS, Group, MAX_GROUP, selection};
use super::rule::Rule;
use super::switch::Ofproto;
use super::version::Version;

/// Bucket numbers of insert and remove commands that are not numbers (`OFPG15_BUCKET_*`).
const BUCKET_MAX: u32 = 0xffff_ff00;
const BUCKET_FIRST: u32 = 0xffff_fffd;
const BUCKET_LAST: u32 = 0xffff_fffe;
const BUCKET_ALL: u32 = 0xffff_ffff;

/// A group mod on its way.
pub struct GroupOp {
    request: GroupMod,
    version: Version,
    new: Option<Arc<Group>>,
    /// Groups that go, each with the flows that go with it.
    old: Vec<(Arc<Group>, Vec<Arc<Rule>>)>,
}

impl GroupOp {
    /// A group mod that is not started.
    pub fn new(request: GroupMod) -> Self {
        Self { request, version: Version::NEVER, new: None, old: Vec::new() }
    }

    /// The version in which it becomes visible.
    pub fn version(&self) -> Version {
        self.version
    }
}

impl Ofproto {
    /// Carries a group mod out.
    ///
    /// # Errors
    ///
    /// What OpenFlow calls the reason that it cannot be done; nothing is changed then.
    pub fn group_mod(
        &mut self,
        request: GroupMod,
        by: Option<Requester>,
        now: Instant,
    ) -> Result<(), OfError> {
        let mut op = GroupOp::new(request);
        self.start_group_mod(&mut op, self.next_version(), now)?;
        self.publish(op.version);
        self.finish_group_mod(op, by);
        self.tell(Event::MonitorFlush);
        Ok(())
    }

    /// Makes the changes, to be visible in `version`.
    ///
    /// # Errors
    ///
    /// Why they cannot be made; none is then.
    pub fn start_group_mod(
        &mut self,
        op: &mut GroupOp,
        version: Version,
        now: Instant,
    ) -> Result<(), OfError> {
        op.version = version;
        self.announced.any(version);
        let exists = self.tables().group(Version::LATEST, op.request.group_id).is_some();
        match op.request.command {
            GroupCommand::Add => self.start_add_group(op, now),
            GroupCommand::AddOrModify if !exists => self.start_add_group(op, now),
            GroupCommand::AddOrModify
            | GroupCommand::Modify
            | GroupCommand::InsertBucket
            | GroupCommand::RemoveBucket => self.start_modify_group(op, now),
            GroupCommand::Delete => {
                self.start_delete_groups(op);
                Ok(())
            }
        }
    }

    fn start_add_group(&mut self, op: &mut GroupOp, now: Instant) -> Result<(), OfError> {
        let GroupMod { group_id, kind, props, buckets, .. } = &op.request;
        if self.tables().group(Version::LATEST, *group_id).is_some() {
            return Err(OfError::GmfcGroupExists);
        }
        if *group_id > MAX_GROUP {
            return Err(OfError::GmfcInvalidGroup);
        }
        if *kind == GroupType::Select {
            tracing::debug!(target: "ofproto_dpif", "Constructing select group {group_id}");
        }
        let group = Group::new(*group_id, *kind, props.clone(), buckets.clone(), op.version, now);
        self.install_group(op, group);
        Ok(())
    }

    fn start_modify_group(&mut self, op: &mut GroupOp, now: Instant) -> Result<(), OfError> {
        let GroupMod { command, group_id, command_bucket_id, .. } = op.request;
        let old = self.tables().group(Version::LATEST, group_id).ok_or(OfError::GmfcUnknownGroup)?;
        let by_bucket = matches!(command, GroupCommand::InsertBucket | GroupCommand::RemoveBucket);
        let (kind, props): (GroupType, GroupProps) = match by_bucket {
            true => (old.kind, old.props.clone()),
            false => (op.request.kind, op.request.props.clone()),
        };
        let buckets = match command {
            GroupCommand::InsertBucket => inserted(&old.buckets, &op.request.buckets, command_bucket_id)?,
            GroupCommand::RemoveBucket => without(&old.buckets, command_bucket_id)?,
            _ => op.request.buckets.clone(),
        };
        if kind == GroupType::Select {
            tell_construction(group_id, &props, &op.request.buckets);
            tracing::debug!(target: "ofproto_dpif", "Modifying select group {group_id}");
        }
        let mut group = Group::new(group_id, kind, props, buckets, op.version, now);
        group.created = old.created;
        old.span.end(op.version);
        op.old.push((old, Vec::new()));
        self.install_group(op, group);
        Ok(())
    }

    fn install_group(&mut self, op: &mut GroupOp, group: Group) {
        let group = Arc::new(group);
        self.tables().groups.insert(Arc::clone(&group));
        op.new = Some(group);
    }

    fn start_delete_groups(&mut self, op: &mut GroupOp) {
        let groups = match op.request.group_id {
            ALL_GROUPS => self.tables().groups.all(Version::LATEST),
            id => self.tables().group(Version::LATEST, id).into_iter().collect(),
        };
        for group in groups {
            let flows = self.index.by_group.get(&group.id);
            let flows: Vec<_> = flows.map(|flows| flows.values().cloned().collect()).unwrap_or_default();
            self.start_delete(&flows, op.version);
            group.span.end(op.version);
            op.old.push((group, flows));
        }
    }

    /// Takes back what [`Self::start_group_mod`] did.
    pub fn revert_group_mod(&mut self, op: GroupOp) {
        if let Some(group) = &op.new {
            self.tables().groups.remove(group);
        }
        for (group, flows) in op.old {
            group.span.restore();
            self.revert_delete(&flows);
        }
    }

    /// Tells of the changes, once they are published, and lets the old groups go.
    pub fn finish_group_mod(&mut self, op: GroupOp, by: Option<Requester>) {
        let existed = !op.old.is_empty();
        for (group, flows) in op.old {
            self.finish_delete(&flows, op.version, RemovedReason::GroupDelete, None);
            self.leaving.groups.push_back((op.version, group));
        }
        if let Some(by) = by {
            self.tell(Event::GroupModded { request: Box::new(op.request), existed, by });
        }
    }

    /// Deletes every group, and the flows that use one.
    pub(super) fn delete_all_groups(&mut self) {
        let mut op = GroupOp::new(GroupMod {
            command: GroupCommand::Delete,
            kind: GroupType::All,
            group_id: ALL_GROUPS,
            command_bucket_id: BUCKET_ALL,
            buckets: Vec::new(),
            props: GroupProps::default(),
        });
        op.version = self.next_version();
        self.announced.any(op.version);
        self.start_delete_groups(&mut op);
        self.publish(op.version);
        self.finish_group_mod(op, None);
    }

    /// The groups that there are, by number, or the one of that number.
    pub fn groups(&self, id: flow::id::GroupId) -> Vec<Arc<Group>> {
        match id {
            ALL_GROUPS => self.tables().groups.all(Version::LATEST),
            id => self.tables().group(Version::LATEST, id).into_iter().collect(),
        }
    }

    /// How many flows use a group.
    pub fn group_references(&self, id: flow::id::GroupId) -> usize {
        self.index.by_group.get(&id).map_or(0, |flows| flows.len())
    }
}

/// `new` put into `old`: at the front, at the end, or behind the bucket numbered `after`.
fn inserted(old: &[Bucket], new: &[Bucket], after: u32) -> Result<Vec<Bucket>, OfError> {
    let at = match after {
        BUCKET_LAST => old.len(),
        BUCKET_FIRST => 0,
        id if id <= BUCKET_MAX => {
            let found = old.iter().position(|bucket| bucket.bucket_id == id);
            1 + found.ok_or(OfError::GmfcUnknownBucket)?
        }
        _ => 0,
    };
    let all: Vec<_> = old[..at].iter().chain(new).chain(&old[at..]).cloned().collect();
    let mut ids: Vec<_> = all.iter().map(|bucket| bucket.bucket_id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        tracing::info!(target: "ofproto", rl = "1,5", "Duplicate bucket id");
        return Err(OfError::GmfcBucketExists);
    }
    Ok(all)
}

/// `old` without the bucket that `which` names.
fn without(old: &[Bucket], which: u32) -> Result<Vec<Bucket>, OfError> {
    let skip = match which {
        BUCKET_ALL => return Ok(Vec::new()),
        BUCKET_FIRST => 0,
        BUCKET_LAST => old.len().wrapping_sub(1),
        id => old.iter().position(|bucket| bucket.bucket_id == id).ok_or(OfError::GmfcUnknownBucket)?,
    };
    Ok(old.iter().enumerate().filter(|&(i, _)| i != skip).map(|(_, bucket)| bucket.clone()).collect())
}
/// Tells the log how buckets would be picked if there were only those of a request: OVS makes a group of them first.
fn tell_construction(id: GroupId, props: &GroupProps, buckets: &[Bucket]) {
    tracing::debug!(target: "ofproto_dpif", "Constructing select group {id}");
    if tracing::enabled!(target: "ofproto_dpif", tracing::Level::DEBUG) {
        let _ = selection(props, buckets);
    }
}
