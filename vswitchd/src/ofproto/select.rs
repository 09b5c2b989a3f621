//! Which rules a flow mod or a statistics request means.

use std::sync::Arc;

use flow::id::{GroupId, OfPort, TableId};
use flow::mini::Match;
use openflow::error::OfError;

use super::rule::{ANY_GROUP, MAX_PRIORITY, Rule, match_words};
use super::switch::Ofproto;
use super::table::ALL_TABLES;
use super::version::Version;

/// What a rule must be like.
#[derive(Clone, Debug)]
pub struct Criteria {
    /// One table, or [`ALL_TABLES`] for every visible one.
    pub table: TableId,
    pub matching: Match,
    /// For strict selection; above [`MAX_PRIORITY`] hidden rules are meant too.
    pub priority: i32,
    pub version: Version,
    pub cookie: u64,
    pub cookie_mask: u64,
    /// A port that the rule outputs to, or [`OfPort::NONE`].
    pub out_port: OfPort,
    /// A group that the rule sends to, or [`ANY_GROUP`].
    pub out_group: GroupId,
    /// Whether rules of tables that OpenFlow cannot change are meant too.
    pub readonly: bool,
}

impl Criteria {
    /// Every rule of `table` that OpenFlow sees, as of now.
    pub fn all(table: TableId) -> Self {
        Self {
            table,
            matching: Match::default(),
            priority: 0,
            version: Version::LATEST,
            cookie: 0,
            cookie_mask: 0,
            out_port: OfPort::NONE,
            out_group: ANY_GROUP,
            readonly: true,
        }
    }

    fn covers(&self, rule: &Rule) -> bool {
        self.fits(rule) && rule.span.contains(self.version)
    }

    fn fits(&self, rule: &Rule) -> bool {
        (self.table == rule.table || self.table == ALL_TABLES)
            && rule.outputs_to(self.out_port)
            && rule.outputs_to_group(self.out_group)
            && (rule.cookie ^ self.cookie) & self.cookie_mask == 0
            && (!rule.is_hidden() || self.priority > MAX_PRIORITY)
    }

    /// Whether a rule is meant, seen loosely and whatever its version.
    pub(super) fn covers_any_version(&self, rule: &Rule) -> bool {
        self.loosely(rule) && self.fits(rule)
    }

    /// Whether a rule's match is at least as specific as the one asked for.
    fn loosely(&self, rule: &Rule) -> bool {
        let Match { key, mask } = &self.matching;
        rule.matching.mask.covers(mask)
            && mask.iter().all(|(i, bits)| rule.matching.key.get(i) & bits == key.get(i))
    }

    fn strictly(&self, rule: &Rule) -> bool {
        self.priority == rule.priority && self.matching == rule.matching
    }
}

impl Ofproto {
    /// The rules that `criteria` mean: equal match and priority if `strict`, else all that are as specific.
    ///
    /// # Errors
    ///
    /// If only rules that OpenFlow cannot change are meant.
    pub fn select(&self, criteria: &Criteria, strict: bool) -> Result<Vec<Arc<Rule>>, OfError> {
        let mut found = self.candidates(criteria, strict);
        found.retain(|rule| criteria.covers(rule));
        let n = found.len();
        if !criteria.readonly {
            found.retain(|rule| !self.book(rule.table).is_readonly());
        }
        if n > 0 && found.is_empty() { Err(OfError::BrcEperm) } else { Ok(found) }
    }

    fn candidates(&self, criteria: &Criteria, strict: bool) -> Vec<Arc<Rule>> {
        if criteria.cookie_mask == u64::MAX {
            let of_match = |rule: &&Arc<Rule>| match strict {
                true => criteria.strictly(rule),
                false => criteria.loosely(rule),
            };
            return self.with_cookie(criteria.cookie).filter(of_match).cloned().collect();
        }
        let (mask, key) = match_words(&criteria.matching);
        let mut found = Vec::new();
        for (id, table) in self.tables().iter() {
            let meant =
                if criteria.table == ALL_TABLES { !self.book(id).is_hidden() } else { id == criteria.table };
            if !meant {
                continue;
            }
            if strict {
                found.extend(table.classifier.find_exactly(&mask, &key, criteria.priority, criteria.version));
            } else {
                found.extend(table.classifier.matching(&mask, &key, criteria.version));
            }
        }
        found
    }
}
