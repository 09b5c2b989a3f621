//! Rules, groups and meters as statistics messages, removals and monitor updates tell them.

use std::sync::Arc;

use flow::id::GroupId;
use flow::time::Instant;
use openflow::error::OfError;
use openflow::msg::Age;
use openflow::msg::flow_removed::{FlowRemoved, RemovedReason};
use openflow::msg::flow_stats::{FlowStats, FlowStatsRequest};
use openflow::msg::group::{GroupDesc, GroupStats};
use openflow::msg::monitor::{FullUpdate, UpdateEvent};

use super::group::Group;
use super::rule::{Rule, Usage};
use super::select::Criteria;
use super::stats::age;
use super::switch::Ofproto;

impl Rule {
    /// The flow as statistics tell it.
    pub fn flow_stats(&self, now: Instant) -> FlowStats {
        let ages = self.ages(now);
        FlowStats {
            matching: self.matching.clone(),
            cookie: self.cookie,
            table_id: self.table,
            priority: self.wire_priority(),
            idle_timeout: self.idle_timeout(),
            hard_timeout: self.hard_timeout(),
            importance: self.importance,
            flags: self.flags,
            age: Age::new(ages.duration),
            idle_age: Some(ages.idle.into()),
            hard_age: Some(ages.hard.into()),
            packet_count: ages.usage.packets,
            byte_count: ages.usage.bytes,
            actions: Arc::clone(&self.actions),
        }
    }

    /// The message that the flow is gone.
    pub fn removed_message(&self, reason: RemovedReason, usage: &Usage, at: Instant) -> FlowRemoved {
        FlowRemoved {
            matching: self.matching.clone(),
            priority: self.wire_priority(),
            cookie: self.cookie,
            reason: reason as u8,
            table_id: self.table,
            age: Age::new(age(self.created, at)),
            idle_timeout: self.idle_timeout(),
            hard_timeout: self.hard_timeout(),
            packet_count: usage.packets,
            byte_count: usage.bytes,
        }
    }

    /// What a flow monitor is told of the flow.
    pub fn update(&self, event: UpdateEvent, reason: u16, with_actions: bool) -> FullUpdate {
        FullUpdate {
            event,
            reason,
            idle_timeout: self.idle_timeout(),
            hard_timeout: self.hard_timeout(),
            table_id: self.table,
            priority: self.wire_priority(),
            cookie: self.cookie,
            matching: self.matching.clone(),
            actions: if with_actions { Arc::clone(&self.actions) } else { Arc::from([]) },
        }
    }

    /// The priority where only those that OpenFlow knows have room.
    fn wire_priority(&self) -> u16 {
        u16::try_from(self.priority).unwrap_or(u16::MAX)
    }
}

impl Group {
    fn stats(&self, references: usize, now: Instant) -> GroupStats {
        let (packet_count, byte_count) = self.totals();
        GroupStats {
            group_id: self.id,
            ref_count: u32::try_from(references).unwrap_or(u32::MAX),
            packet_count,
            byte_count,
            age: Age::new(age(self.created, now)),
            buckets: self.bucket_totals().collect(),
        }
    }
}

impl Ofproto {
    /// The flows that a request for flow or aggregate statistics asks for.
    ///
    /// # Errors
    ///
    /// As [`Ofproto::select`].
    pub fn requested_flows(&self, request: &FlowStatsRequest) -> Result<Vec<Arc<Rule>>, OfError> {
        let criteria = Criteria {
            matching: request.matching.clone(),
            cookie: request.cookie,
            cookie_mask: request.cookie_mask,
            out_port: request.out_port,
            out_group: request.out_group,
            ..Criteria::all(request.table_id)
        };
        self.select(&criteria, false)
    }

    /// Statistics of a group, or of all.
    pub fn group_stats(&self, id: GroupId, now: Instant) -> Vec<GroupStats> {
        self.groups(id).iter().map(|group| group.stats(self.group_references(group.id), now)).collect()
    }

    /// Descriptions of a group, or of all.
    pub fn group_descs(&self, id: GroupId) -> Vec<GroupDesc> {
        let groups = self.groups(id);
        let desc = |group: &Arc<Group>| GroupDesc {
            group_id: group.id,
            kind: group.kind,
            buckets: group.buckets.to_vec(),
            props: group.props.clone(),
        };
        groups.iter().map(desc).collect()
    }
}
