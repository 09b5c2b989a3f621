//! Eviction: which flow goes when a full table gets another one.
//!
//! Flows with a timeout are in groups, by the values of the fields that the table's configuration names. The largest
//! group loses its least important flow that has the shortest time to live.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flow::field::Subfield;
use flow::time::Instant;

use super::rule::Rule;

/// Who wants eviction: it is on if either does.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wanted {
    pub by_config: bool,
    pub by_openflow: bool,
}

impl Wanted {
    /// Whether flows are evicted.
    pub fn any(self) -> bool {
        self.by_config || self.by_openflow
    }
}

/// Lower goes first: importance, then the time of expiry (in 1024 ms), then age.
type Rank = (u16, u64, u64);

/// The values of a group's fields; none for a field that the flow's protocol lacks.
type GroupKey = Vec<Option<Vec<u8>>>;

/// Flows that can be evicted.
#[derive(Default)]
pub struct Eviction {
    pub wanted: Wanted,
    fields: Vec<Subfield>,
    groups: HashMap<GroupKey, BTreeMap<Rank, Arc<Rule>>>,
    ranks: HashMap<u64, (GroupKey, Rank)>,
}

impl Eviction {
    /// Changes the fields that make groups; `rules` are the table's rules.
    pub fn configure(&mut self, wanted: Wanted, fields: &[Subfield], rules: &[Arc<Rule>]) {
        let same = self.wanted.any() == wanted.any() && self.fields == fields;
        self.wanted = wanted;
        if same {
            return;
        }
        self.fields = fields.to_vec();
        self.groups.clear();
        self.ranks.clear();
        for rule in rules {
            self.add(rule);
        }
    }

    /// The fields that make groups.
    pub fn fields(&self) -> &[Subfield] {
        &self.fields
    }

    /// Takes up a rule, if it has a timeout and eviction is on.
    pub fn add(&mut self, rule: &Arc<Rule>) {
        if !self.wanted.any() || !rule.expires() {
            return;
        }
        let group = self.group_of(rule);
        let rank = rank(rule);
        self.groups.entry(group.clone()).or_default().insert(rank, Arc::clone(rule));
        self.ranks.insert(rule.serial, (group, rank));
    }

    /// Lets go of a rule.
    pub fn remove(&mut self, rule: &Rule) {
        let Some((group, rank)) = self.ranks.remove(&rule.serial) else { return };
        if let Some(rules) = self.groups.get_mut(&group) {
            rules.remove(&rank);
            if rules.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// Ranks every rule anew, as traffic moved the times of expiry.
    pub fn refresh(&mut self, rules: &[Arc<Rule>]) {
        if self.wanted.any() {
            self.groups.clear();
            self.ranks.clear();
            for rule in rules {
                self.add(rule);
            }
        }
    }

    /// The rule to evict; `None` if none can be.
    pub fn choose(&self) -> Option<Arc<Rule>> {
        if !self.wanted.any() {
            return None;
        }
        let largest = self.groups.values().max_by_key(|rules| rules.len())?;
        largest.values().next().cloned()
    }

    fn group_of(&self, rule: &Rule) -> GroupKey {
        let key = rule.matching.key.expand();
        let value = |subfield: &Subfield| {
            subfield.field.prereqs_ok(&key).then(|| subfield.get(&key).bytes().to_vec())
        };
        self.fields.iter().map(value).collect()
    }
}

fn rank(rule: &Rule) -> Rank {
    let after = |since: Instant, timeout: u16| match timeout {
        0 => u64::MAX,
        timeout => since.millis() + u64::from(timeout) * 1000,
    };
    let hard = after(rule.modified(), rule.hard_timeout());
    let idle = after(rule.usage().used, rule.idle_timeout());
    (rule.importance, hard.min(idle) >> 10, rule.serial)
}
