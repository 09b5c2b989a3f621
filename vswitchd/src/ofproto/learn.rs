//! What the `learn` action does to the tables.

use flow::time::Instant;
use openflow::error::OfError;
use openflow::msg::flow_mod::{FlowCommand, FlowFlags, FlowMod};

use super::event::Event;
use super::rule::{Rule, STATE_FLAGS, match_words};
use super::select::Criteria;
use super::switch::Ofproto;
use super::table::ALL_TABLES;
use super::version::Version;

impl Ofproto {
    /// Makes sure that the flow is there that a `learn` action asks for, as of `used`: refreshes it if it is there,
    /// adds or modifies it otherwise. With a `limit` that is not 0, it is not added if the table has so many flows of
    /// its cookie. Returns whether the flow is there.
    ///
    /// Asking again is how statistics keep a learned flow alive; what is older than another flow of the same match
    /// does nothing.
    ///
    /// # Errors
    ///
    /// As flow mods.
    pub fn learn(
        &mut self,
        request: &FlowMod,
        limit: u32,
        used: Instant,
        now: Instant,
    ) -> Result<bool, OfError> {
        if request.command != FlowCommand::ModifyStrict
            || request.table_id == ALL_TABLES
            || request.flags.contains(FlowFlags::RESET_COUNTS)
            || request.buffer_id != u32::MAX
        {
            return Err(OfError::FmfcUnknown);
        }
        if let Some(rule) = self.same_match(request) {
            if is_same(&rule, request) {
                rule.set_modified(used);
                return Ok(true);
            }
            if rule.modified() > used {
                return Ok(true);
            }
        }
        if limit != 0 && self.learned(request) >= limit as usize {
            tracing::info!(
                target: "ofproto", rl = "1,5",
                "Learn limit for flow {} reached.", request.new_cookie.swap_bytes()
            );
            return Ok(false);
        }
        let mut op = self.prepare_flow_mod(request)?;
        self.start_flow_mod(&mut op, self.next_version(), now)?;
        for rule in op.added() {
            rule.set_modified(used);
        }
        self.publish(op.version());
        self.finish_flow_mod(op, None);
        self.tell(Event::MonitorFlush);
        Ok(true)
    }

    fn same_match(&self, request: &FlowMod) -> Option<std::sync::Arc<Rule>> {
        let (mask, key) = match_words(&request.matching);
        let table = self.tables().table(request.table_id)?;
        table.classifier.find_exactly(&mask, &key, request.priority.into(), Version::LATEST)
    }

    fn learned(&self, request: &FlowMod) -> usize {
        let criteria = Criteria {
            cookie: request.new_cookie,
            cookie_mask: u64::MAX,
            readonly: false,
            ..Criteria::all(request.table_id)
        };
        self.select(&criteria, false).map_or(0, |rules| rules.len())
    }
}

/// Whether a rule is what the request would make.
fn is_same(rule: &Rule, request: &FlowMod) -> bool {
    rule.idle_timeout() == request.idle_timeout
        && rule.hard_timeout() == request.hard_timeout
        && rule.importance == request.importance
        && rule.flags == request.flags & STATE_FLAGS
        && (!request.modify_cookie || request.new_cookie == rule.cookie)
        && rule.actions[..] == request.actions[..]
}
