//! What a flow monitor is told of flows that are there: at first, and after a pause.

use std::sync::Arc;

use flow::id::{GroupId, OfPort, TableId};
use flow::mini::Match;
use openflow::error::OfError;

use super::rule::Rule;
use super::select::Criteria;
use super::switch::Ofproto;

/// The flows that a monitor watches.
#[derive(Clone, Debug)]
pub struct Watched {
    pub table: TableId,
    pub matching: Match,
    pub out_port: OfPort,
    pub out_group: GroupId,
}

/// Why a flow that is there is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresh {
    /// The monitor is new.
    Initial,
    /// It came after the pause began.
    Added,
    /// It was modified after the pause began.
    Modified,
}

impl Watched {
    /// Whether a rule is one of them, now that it is in its table.
    pub fn covers(&self, rule: &Rule) -> bool {
        !rule.is_hidden() && self.criteria().covers_any_version(rule)
    }

    fn criteria(&self) -> Criteria {
        Criteria {
            matching: self.matching.clone(),
            out_port: self.out_port,
            out_group: self.out_group,
            ..Criteria::all(self.table)
        }
    }
}

impl Ofproto {
    /// The watched flows that are there, each with the reason to tell it: all of them, or those that changed after
    /// the sequence number `since` ([`Ofproto::monitor_seqno`] when the monitor was paused).
    ///
    /// # Errors
    ///
    /// If there is no such table.
    pub fn refresh(
        &self,
        watched: &Watched,
        since: Option<u64>,
    ) -> Result<Vec<(Arc<Rule>, Refresh)>, OfError> {
        let rules = self.select(&watched.criteria(), false)?;
        let reason = |rule: &Rule| match since {
            None => Some(Refresh::Initial),
            Some(seqno) if rule.added_at() > seqno => Some(Refresh::Added),
            Some(seqno) if rule.modified_at() > seqno => Some(Refresh::Modified),
            Some(_) => None,
        };
        Ok(rules.into_iter().filter_map(|rule| reason(&rule).map(|reason| (rule, reason))).collect())
    }
}
