//! What changed since flows were found right, as far as it is known which flows it can concern.
//!
//! To translate every flow again for each rule that comes or goes is what passes would spend their time on. A changed rule
//! concerns a flow if some packet of the flow meets it: if its translation asked the rule's table, and nothing that all the
//! flow's packets have in common excludes the rule ([`crate::xlate::asked`]). All other flows are right as they are: what they
//! met is what they would meet, and their masks hold what decided it.
//!
//! Of a flow that a change concerns, the lookups before the first one that it concerns give what they gave
//! ([`crate::xlate::past`]). So does that one, but for the rule, if what changed is the very rule that it met: then it meets the
//! one that came in its place. If that does the same, as where somebody adds rules again that are there, so does the flow, whose
//! packets are counted elsewhere.
//!
//! A flow may stay with a wider mask than a translation would give it now, for that would look at bits that exclude the new
//! rule, and there are others that do.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use flow::id::TableId;
use smallvec::SmallVec;

use crate::backer::Moment;
use crate::ofproto::journal::RuleChange;
use crate::ofproto::{Rule, Tables, Version};
use crate::reval::ukey::{State, Ukey};
use crate::xlate::asked::{Asked, Wanted};
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
    moment: Option<Arc<Moment>>,
    /// By [`Moment::seq`], oldest first.
    since: Vec<(u64, Option<Vec<Changed>>)>,
}

/// A rule that changed.
struct Changed {
    change: Arc<RuleChange>,
    tables: Arc<Tables>,
    wants: Box<[Wanted]>,
    /// What is there of its match and priority now, once somebody has asked.
    heir: OnceLock<Option<Arc<Rule>>>,
}

/// Effects of a flow, by place, in which another rule is met that does the same.
pub(super) type Heirs<'a> = SmallVec<[(usize, &'a Arc<Rule>); 2]>;

/// What news mean for a flow.
pub(super) enum Concern<'a> {
    /// Nothing that changed concerns it: it is right.
    None,
    /// It does what is right, but for whom its packets are counted.
    Heirs(Heirs<'a>),
    /// So many of its effects come out the same, from the first on; in the next one this rule is met, if one is told.
    After(usize, Option<&'a Arc<Rule>>),
    /// It is not known.
    Unknown,
}

/// How a change concerns a lookup.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It met the rule that changed.
    Met,
    /// It may meet it.
    MayMeet,
}

impl History {
    /// Takes in the beginning of a pass; gives what is new to it.
    pub fn begin(&self, moment: Moment) -> News {
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What the others read is not to live longer than it has to.
        past.retain(|earlier| moment.has_configuration_of(earlier));
        if past.len() == MEMORY {
            past.remove(0);
        }
        let moment = Arc::new(moment);
        let since = past.iter().map(|earlier| (earlier.seq, changes(&moment, earlier))).collect();
        past.push(Arc::clone(&moment));
        News { moment: Some(moment), since }
    }
}

/// The rules that changed between two moments, each match once; `None` if that is not known or too much.
fn changes(now: &Moment, earlier: &Moment) -> Option<Vec<Changed>> {
    let mut all: Vec<Changed> = Vec::new();
    for (tables, change) in now.rules_since(earlier)? {
        // Mostly another rule comes in the place of one that goes.
        if all.iter().any(|known| known.change == change && Arc::ptr_eq(&known.tables, &tables)) {
            continue;
        }
        if all.len() == MANY {
            return None;
        }
        all.push(Changed { wants: Wanted::all(&change.matching), change, tables, heir: OnceLock::new() });
    }
    Some(all)
}

impl News {
    /// What changed means for a flow that was right as of `seq`.
    pub fn concern(&self, seq: u64, ukey: &Ukey, state: &State) -> Concern<'_> {
        let is_later = self.moment.as_ref().is_none_or(|moment| seq > moment.seq);
        if state.teaching || state.kept.counts_rules || is_later {
            return Concern::Unknown;
        }
        // What changed before the flow was found right is in vain considered again, but does no harm.
        let since = self.since.iter().rev().find(|(since, _)| *since <= seq);
        let Some(changes) = since.and_then(|(_, changes)| changes.as_ref()) else { return Concern::Unknown };
        let mut heirs = Heirs::new();
        for (n, effect) in state.kept.effects.iter().enumerate() {
            let mut its = changes.iter().filter_map(|changed| {
                let way = changed.concerns(effect, ukey, state)?;
                Some((changed, way))
            });
            if let Some((changed, way)) = its.next() {
                let heir = if way == Way::Met && its.next().is_none() { self.heir(changed) } else { None };
                match heir.filter(|heir| effect.met().is_some_and(|met| met.acts_as(heir))) {
                    Some(heir) => heirs.push((n, heir)),
                    None => {
                        return heirs
                            .first()
                            .map_or(Concern::After(n, heir), |&(n, heir)| Concern::After(n, Some(heir)));
                    }
                }
            }
        }
        if heirs.is_empty() { Concern::None } else { Concern::Heirs(heirs) }
    }

    /// The rule that is met in the place of the changed one, where that was met.
    fn heir<'a>(&self, changed: &'a Changed) -> Option<&'a Arc<Rule>> {
        let Changed { change, tables, heir, .. } = changed;
        let find = || {
            let table = tables.table(change.table)?;
            table.plain_rule(&change.matching, change.priority?, self.version_of(tables)?)
        };
        heir.get_or_init(find).as_ref()
    }

    /// The version of a bridge's tables all changes of which are among the news.
    pub fn version_of(&self, tables: &Arc<Tables>) -> Option<Version> {
        self.moment.as_ref()?.version_of(tables)
    }
}

impl Changed {
    /// How a lookup of a flow may have another result since; `None` if it has not.
    fn concerns(&self, effect: &Effect, ukey: &Ukey, state: &State) -> Option<Way> {
        let concerns = |tables: &Arc<Tables>, table: TableId, met: Option<&Rule>, asked: &Asked| {
            if table != self.change.table || !Arc::ptr_eq(tables, &self.tables) {
                None
            } else if met.is_some_and(|met| self.change.is_of(met)) {
                Some(Way::Met)
            } else {
                (!asked.excludes(&self.wants, &ukey.key, &state.mask)).then_some(Way::MayMeet)
            }
        };
        match effect {
            Effect::Met { rule, tables, table, asked } => concerns(tables, *table, Some(rule), asked),
            Effect::Missed { tables, table, asked } => concerns(tables, *table, None, asked),
            _ => None,
        }
    }
}
