//! What changed since flows were found right, as far as it is known which flows it can concern.
//!
//! To translate every flow again for each rule that comes or goes is what passes would spend their time on. A changed rule
//! concerns a flow if some packet of the flow meets it: if its translation asked the rule's table, and nothing that all the
//! flow's packets have in common excludes the rule ([`crate::xlate::asked`]). All other flows are right as they are: what they
//! met is what they would meet, and their masks hold what decided it.
//!
//! A flow may stay with a wider mask than a translation would give it now, for that would look at bits that exclude the new
//! rule, and there are others that do.

use std::sync::{Arc, Mutex, PoisonError};

use crate::backer::Moment;
use crate::ofproto::Tables;
use crate::ofproto::journal::RuleChange;
use crate::reval::ukey::{State, Ukey};
use crate::xlate::effect::Effect;

/// Passes whose beginnings are remembered.
const MEMORY: usize = 4;
/// To see whether more rules than this concern a flow is as much work as to translate it.
const MANY: usize = 64;

/// The beginnings of the last passes, oldest first.
#[derive(Default)]
pub(super) struct History(Mutex<Vec<Arc<Moment>>>);

/// What changed between some passes' beginnings and that of another.
#[derive(Default)]
pub(super) struct News {
    /// As of when it is.
    seq: u64,
    /// By [`Moment::seq`], oldest first.
    since: Vec<(u64, Option<Changes>)>,
}

type Changes = Vec<(Arc<Tables>, Arc<RuleChange>)>;

impl History {
    /// Takes in the beginning of a pass; gives what is new to it.
    pub fn begin(&self, moment: Moment) -> News {
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What the others read is not to live longer than it has to.
        past.retain(|earlier| moment.has_configuration_of(earlier));
        if past.len() == MEMORY {
            past.remove(0);
        }
        let since = past.iter().map(|earlier| {
            let changes = moment.rules_since(earlier).filter(|changes| changes.len() <= MANY);
            (earlier.seq, changes)
        });
        let news = News { seq: moment.seq, since: since.collect() };
        past.push(Arc::new(moment));
        news
    }
}

impl News {
    /// Whether a flow that was right as of `seq` still is, for nothing that changed concerns it.
    pub fn spare(&self, seq: u64, ukey: &Ukey, state: &State) -> bool {
        if state.teaching || state.kept.counts_rules || seq > self.seq {
            return false;
        }
        // What changed before the flow was found right is in vain considered again, but does no harm.
        let Some((_, changes)) = self.since.iter().rev().find(|(since, _)| *since <= seq) else {
            return false;
        };
        changes.as_ref().is_some_and(|changes| {
            changes.iter().all(|(tables, change)| !concerns(tables, change, ukey, state))
        })
    }
}

fn concerns(changed: &Arc<Tables>, change: &RuleChange, ukey: &Ukey, state: &State) -> bool {
    state.kept.effects.iter().any(|effect| match effect {
        Effect::Met { tables, table, asked, .. } | Effect::Missed { tables, table, asked } => {
            *table == change.table
                && Arc::ptr_eq(tables, changed)
                && !asked.excludes(&change.matching, &ukey.key, &state.mask)
        }
        _ => false,
    })
}
