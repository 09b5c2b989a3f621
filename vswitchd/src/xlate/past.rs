//! Translating a packet again of which it is known what its last translation did: what comes out the same is neither looked up
//! nor kept anew.
//!
//! A translation follows from the packet, the configuration and the rules that it meets. So as long as the effects of one that
//! is made again are those that it had before, it stands where the last one stood; and if nothing changed but rules, none of
//! which the next lookup can meet, that lookup gives what it gave. Then the rule is taken from the effect. If the only one that
//! it can meet is what came in the place of the rule that it met, it meets that.
//!
//! What such a lookup looked at is not in the mask then, though in that of the last time. Who translates again must take
//! the result only if it looked at nothing that the last one did not. Masks also say which bits of a field actions set:
//! whether they did is told with the result ([`crate::xlate::Output::guessed`]).

use std::sync::Arc;

use flow::id::TableId;

use super::asked::Asked;
use super::ctx::Ctx;
use super::effect::Effect;
use crate::ofproto::{Rule, Tables, Version};

/// What an earlier translation of the packet did.
pub struct Past<'a> {
    pub effects: &'a [Effect],
    /// So many of the effects come out the same, from the first on: no change concerns them.
    pub stands: usize,
    /// The rule that is met in the next one, where another one was.
    pub heir: Option<&'a Arc<Rule>>,
    /// In which version of a bridge's tables that is so.
    pub as_of: &'a dyn Fn(&Arc<Tables>) -> Option<Version>,
}

impl Ctx<'_> {
    /// Keeps an effect of this translation.
    pub fn effect(&mut self, effect: Effect) {
        if self.then().is_some_and(|then| then.is_same(&effect)) {
            self.same += 1;
        } else {
            self.effects.push(effect);
        }
    }

    /// The effect that comes next if this translation goes the way of the last one.
    fn then(&self) -> Option<&Effect> {
        let past = self.past.filter(|_| self.effects.is_empty())?;
        past.effects.get(self.same)
    }

    /// The rule that a lookup in a table of the present bridge met before, if it is met again.
    pub(super) fn met_before(&mut self, table: TableId) -> Option<Arc<Rule>> {
        let past = self.past.filter(|past| self.same <= past.stands)?;
        let Effect::Met { rule, tables, table: then, asked } = self.then()? else { return None };
        if *then != table
            || !Arc::ptr_eq(tables, &self.bridge.tables)
            || (past.as_of)(tables) != Some(self.version())
        {
            return None;
        }
        let (asked, heir) = (*asked, past.heir);
        if self.same < past.stands {
            let rule = Arc::clone(rule);
            (self.same, self.blind) = (self.same + 1, true);
            return Some(rule);
        }
        let rule = Arc::clone(heir?);
        self.blind = true;
        self.met(&rule, table, asked);
        Some(rule)
    }

    /// Keeps that a rule was met in a table of the present bridge.
    pub(super) fn met(&mut self, rule: &Arc<Rule>, table: TableId, asked: Asked) {
        let same = match self.then() {
            Some(Effect::Met { rule: met, tables, table: then, asked: before }) => {
                Arc::ptr_eq(met, rule)
                    && Arc::ptr_eq(tables, &self.bridge.tables)
                    && (*then, *before) == (table, asked)
            }
            _ => false,
        };
        if same {
            self.same += 1;
            return;
        }
        let (rule, tables) = (Arc::clone(rule), Arc::clone(&self.bridge.tables));
        self.effects.push(Effect::Met { rule, tables, table, asked });
    }
}
