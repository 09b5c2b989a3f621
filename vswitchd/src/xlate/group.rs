//! Groups.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flow::drop::DropReason;
use flow::field::NoNames;
use flow::hash::{self, HashFields};
use flow::id::{GroupId, OfPort};
use openflow::msg::group::{ANY_GROUP, Bucket, GroupType};

use super::ctx::Ctx;
use super::effect::Effect;
use super::report::Kind;
use crate::ofproto::Group;
use crate::ofproto::group::Selection;

/// Longest chain of groups that watch groups.
const MAX_LIVENESS: usize = 128;

impl Ctx<'_> {
    /// The `group` action. False if there is no such group.
    pub(super) fn group(&mut self, id: GroupId, last: bool) -> bool {
        if !self.may_recurse() {
            return true;
        }
        let Some(group) = self.bridge.tables.group(self.version(), id) else {
            self.warn(format_args!("output to nonexistent group {id}"));
            return false;
        };
        match group.kind {
            GroupType::All | GroupType::Indirect => {
                let count = group.buckets.len();
                for (i, bucket) in group.buckets.iter().enumerate() {
                    self.bucket(bucket, last && i + 1 == count);
                }
                self.effect(Effect::Group { group, bucket: None });
            }
            GroupType::Select => {
                let chosen = self.select(&group);
                self.chosen_bucket(group, chosen, last);
            }
            GroupType::FastFailover => {
                let chosen = self.first_live(&group, 0);
                self.chosen_bucket(group, chosen, last);
            }
        }
        true
    }

    fn chosen_bucket(&mut self, group: Arc<Group>, chosen: Option<usize>, last: bool) {
        match chosen.and_then(|i| group.buckets.get(i)) {
            Some(bucket) => {
                self.detail(format_args!("using bucket {}", bucket.bucket_id));
                self.bucket(bucket, last);
                self.effect(Effect::Group { group, bucket: chosen });
            }
            None if !self.freezing => self.detail("no live bucket"),
            None => {}
        }
    }

    /// Does a bucket's actions on a copy of the packet.
    fn bucket(&mut self, bucket: &Bucket, last: bool) {
        let outer = self.place;
        self.place = self.report(Kind::Bucket, format_args!("bucket {}", bucket.bucket_id));
        let (key, was_mpls) = (*self.key, self.was_mpls);
        let list = openflow::action::set::execution_order(&bucket.actions);
        self.depth += 1;
        self.actions(&list, last, true);
        self.depth -= 1;
        if self.freezing {
            self.finish_freezing();
        }
        (*self.key, self.was_mpls, self.exit) = (key, was_mpls, false);
        if matches!(self.error, Some(DropReason::TooManyMplsLabels | DropReason::UnsupportedPacketType)) {
            self.error = None;
        }
        self.place = outer;
    }

    fn is_live(&mut self, group: &Group, bucket: &Bucket, depth: usize) -> bool {
        if depth >= MAX_LIVENESS {
            self.error(format_args!("bucket chaining exceeded {MAX_LIVENESS} links"));
            return false;
        }
        if group.kind == GroupType::Select && bucket.weight == 0 {
            return false;
        }
        if !bucket.has_liveness() {
            return true;
        }
        let by_port = match bucket.watch_port {
            OfPort::NONE => false,
            OfPort::CONTROLLER => self.bridge.controller_alive.load(Ordering::Relaxed),
            port => self.port(port).is_some_and(|port| port.may_enable),
        };
        by_port || (bucket.watch_group != ANY_GROUP && self.is_group_live(bucket.watch_group, depth + 1))
    }

    fn is_group_live(&mut self, id: GroupId, depth: usize) -> bool {
        let group = self.bridge.tables.group(self.version(), id);
        group.is_some_and(|group| self.first_live(&group, depth).is_some())
    }

    fn first_live(&mut self, group: &Group, depth: usize) -> Option<usize> {
        for (i, bucket) in group.buckets.iter().enumerate() {
            if self.is_live(group, bucket, depth) {
                return Some(i);
            }
            self.report_not_live(bucket);
        }
        None
    }

    fn report_not_live(&mut self, bucket: &Bucket) {
        let mut why = String::new();
        if bucket.watch_port != OfPort::NONE {
            why.push_str("port ");
            flow::field::format_port(bucket.watch_port, &NoNames, &mut why);
        }
        if bucket.watch_group != ANY_GROUP {
            why.push_str(if why.is_empty() { "port " } else { " and port " });
            why.push_str(&bucket.watch_group.to_string());
        }
        self.detail(format_args!("bucket {}: not live due to {why}", bucket.bucket_id));
    }

    /// The live bucket of the highest score: a hash, times its weight.
    fn best_live(&mut self, group: &Group, basis: u32) -> Option<usize> {
        let mut best = None;
        let mut best_score = 0;
        for (i, bucket) in group.buckets.iter().enumerate() {
            if !self.is_live(group, bucket, 0) {
                self.report_not_live(bucket);
                continue;
            }
            let score = (hash::int(bucket.bucket_id, basis) & 0xffff) * u32::from(bucket.weight);
            if score >= best_score {
                (best, best_score) = (Some(i), score);
            }
            self.detail(format_args!("bucket {}: score {score}", bucket.bucket_id));
        }
        best
    }

    fn select(&mut self, group: &Group) -> Option<usize> {
        if self.was_mpls {
            self.trigger_freeze();
            return None;
        }
        match &group.selection {
            Selection::Default => {
                HashFields::SymmetricL4.mask(self.key, &mut self.wc);
                self.best_live(group, hash::symmetric_l4(self.key, 0))
            }
            Selection::Fields => {
                let basis = self.hash_fields(group);
                self.best_live(group, basis)
            }
            Selection::DpHash { algorithm, basis, buckets } => {
                self.select_by_dp_hash(group, (*algorithm, *basis), buckets)
            }
        }
    }

    fn hash_fields(&mut self, group: &Group) -> u32 {
        let mut basis = hash::finish(hash::add64(0, group.props.selection_method_param), 8);
        for (field, mask) in &group.props.fields {
            if !field.prereqs_ok_masking(self.key, &mut self.wc) {
                continue;
            }
            let value = field.get(self.key).and(mask);
            basis = hash::bytes(value.bytes(), basis);
            if field.is_tun_metadata() {
                basis = hash::int(if field.is_set(self.key) { 0xc2b7_3583 } else { 0xe90f_1258 }, basis);
            }
            field.mask_bits(&mut self.wc, mask);
        }
        basis
    }

    /// The datapath computes the hash; a packet that has none yet comes back with it.
    fn select_by_dp_hash(&mut self, group: &Group, hash: (u32, u32), buckets: &[u16]) -> Option<usize> {
        if self.key.dp_hash == 0 {
            let known = self.features().is_none_or(|features| hash.0 <= features.max_hash_alg);
            self.rehash = Some((if known { hash.0 } else { flow::action::hash_alg::L4 }, hash.1));
            self.trigger_freeze();
            self.detail("selection method in use: dp_hash, recirculating");
            return None;
        }
        let mask = buckets.len() - 1;
        self.wc.0.dp_hash |= mask as u32;
        for i in 0..buckets.len() {
            let bucket = usize::from(buckets[(self.key.dp_hash as usize + i) & mask]);
            if group.buckets.get(bucket).is_some_and(|live| self.is_live(group, live, 0)) {
                return Some(bucket);
            }
        }
        None
    }
}
