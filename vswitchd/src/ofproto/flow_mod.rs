//! Flow mods: add, modify, delete, loosely and strictly, in steps that a bundle can take together and take back.

use std::sync::Arc;

use flow::id::TableId;
use flow::mini::FullMatch;
use flow::time::Instant;
use openflow::action::{self, OfAction};
use openflow::error::OfError;
use openflow::msg::flow_mod::{FlowCommand, FlowFlags, FlowMod};
use openflow::msg::flow_removed::RemovedReason;

use super::event::{Event, FlowChange, Requester};
use super::rule::{ANY_GROUP, Heritage, Rule, Template, match_words};
use super::select::Criteria;
use super::switch::Ofproto;
use super::table::ALL_TABLES;
use super::version::Version;

/// A flow mod on its way: made by [`Ofproto::prepare_flow_mod`], then started, then finished or reverted.
pub struct FlowOp {
    command: FlowCommand,
    template: Option<Template>,
    criteria: Option<Criteria>,
    modify_cookie: bool,
    /// Whether a modification that finds nothing adds.
    may_add: bool,
    keep_counts: bool,
    version: Version,
    /// Rules that go. For additions and modifications, each with the new rule at the same index.
    old: Vec<Arc<Rule>>,
    new: Vec<Arc<Rule>>,
    /// The one old rule makes room for another flow.
    evicted: bool,
}

impl FlowOp {
    /// What kind of flow mod it is.
    pub fn command(&self) -> FlowCommand {
        self.command
    }

    /// The version in which it becomes visible.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The rules that it puts in.
    pub fn added(&self) -> &[Arc<Rule>] {
        &self.new
    }

    fn is_delete(&self) -> bool {
        matches!(self.command, FlowCommand::Delete | FlowCommand::DeleteStrict)
    }

    fn is_strict(&self) -> bool {
        matches!(self.command, FlowCommand::ModifyStrict | FlowCommand::DeleteStrict)
    }
}

impl Ofproto {
    /// Carries a flow mod out.
    ///
    /// # Errors
    ///
    /// What OpenFlow calls the reason that it cannot be done; nothing is changed then.
    pub fn flow_mod(
        &mut self,
        request: &FlowMod,
        by: Option<Requester>,
        now: Instant,
    ) -> Result<(), OfError> {
        let mut op = self.prepare_flow_mod(request)?;
        self.start_flow_mod(&mut op, self.next_version(), now)?;
        self.publish(op.version);
        self.finish_flow_mod(op, by);
        self.tell(Event::MonitorFlush);
        Ok(())
    }

    /// Checks a flow mod by itself, not against what the tables hold.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn prepare_flow_mod(&self, request: &FlowMod) -> Result<FlowOp, OfError> {
        let delete = matches!(request.command, FlowCommand::Delete | FlowCommand::DeleteStrict);
        let template = if delete { None } else { Some(self.template(request)?) };
        if !delete && request.buffer_id != u32::MAX {
            return Err(OfError::BrcBufferUnknown);
        }
        let strict = matches!(request.command, FlowCommand::ModifyStrict | FlowCommand::DeleteStrict);
        let criteria = Criteria {
            matching: request.matching.clone(),
            priority: if strict { request.priority.into() } else { 0 },
            cookie: request.cookie,
            cookie_mask: request.cookie_mask,
            out_port: request.out_port,
            out_group: request.out_group,
            readonly: request.flags.contains(FlowFlags::NO_READONLY),
            ..Criteria::all(request.table_id)
        };
        let criteria = match request.command {
            FlowCommand::Add => None,
            FlowCommand::Modify | FlowCommand::ModifyStrict => {
                Some(Criteria { out_port: flow::id::OfPort::NONE, out_group: ANY_GROUP, ..criteria })
            }
            FlowCommand::Delete | FlowCommand::DeleteStrict => Some(criteria),
        };
        Ok(FlowOp {
            command: request.command,
            template,
            criteria,
            modify_cookie: request.modify_cookie,
            may_add: request.new_cookie != u64::MAX && request.cookie_mask == 0,
            keep_counts: !request.flags.contains(FlowFlags::RESET_COUNTS),
            version: Version::NEVER,
            old: Vec::new(),
            new: Vec::new(),
            evicted: false,
        })
    }

    fn template(&self, request: &FlowMod) -> Result<Template, OfError> {
        let table = match request.table_id {
            ALL_TABLES => TableId(0),
            table => table,
        };
        if self.book(table).is_readonly() && !request.flags.contains(FlowFlags::NO_READONLY) {
            return Err(OfError::BrcEperm);
        }
        let full = request.matching.expand();
        if !request.flags.contains(FlowFlags::HIDDEN_FIELDS) && touches_hidden(&full) {
            tracing::warn!(
                target: "ofproto", rl = "1,5",
                "{}: (add_flow) only internal flows can set non-default values to hidden fields", self.name()
            );
            return Err(OfError::BrcEperm);
        }
        Ok(Template {
            table,
            priority: request.priority.into(),
            matching: request.matching.clone(),
            cookie: request.new_cookie,
            idle_timeout: request.idle_timeout,
            hard_timeout: request.hard_timeout,
            importance: request.importance,
            flags: request.flags,
            actions: Arc::clone(&request.actions),
            tlvs: request.tlvs_used | full.key.tunnel.opt_present,
        })
    }

    /// Adds the switch's own flow, at once.
    pub(super) fn add_template(&mut self, template: Template, now: Instant) -> Result<Arc<Rule>, OfError> {
        let mut op = FlowOp {
            command: FlowCommand::Add,
            template: Some(template),
            criteria: None,
            modify_cookie: false,
            may_add: false,
            keep_counts: true,
            version: Version::NEVER,
            old: Vec::new(),
            new: Vec::new(),
            evicted: false,
        };
        self.start_flow_mod(&mut op, self.next_version(), now)?;
        self.publish(op.version);
        let rule = op.new.first().cloned().ok_or(OfError::FmfcUnknown)?;
        self.finish_flow_mod(op, None);
        self.tell(Event::MonitorFlush);
        Ok(rule)
    }

    /// Makes the changes, to be visible in `version`.
    ///
    /// # Errors
    ///
    /// Why they cannot be made; none is then.
    pub fn start_flow_mod(&mut self, op: &mut FlowOp, version: Version, now: Instant) -> Result<(), OfError> {
        op.version = version;
        let found = match &op.criteria {
            Some(criteria) => self.select(criteria, op.is_strict())?,
            None => Vec::new(),
        };
        if op.is_delete() {
            self.start_delete(&found, version);
            op.old = found;
            return Ok(());
        }
        let Some(template) = op.template.take() else { return Ok(()) };
        if op.command == FlowCommand::Add || found.is_empty() && op.may_add {
            return self.start_add(op, template, now);
        }
        if found.is_empty() {
            return Ok(());
        }
        self.check_actions(&template.actions)?;
        for old in found {
            let like = Template {
                table: old.table,
                priority: old.priority,
                matching: old.matching.clone(),
                ..template.clone()
            };
            self.start_replace(op, like, Some(old), now);
        }
        Ok(())
    }

    fn start_add(&mut self, op: &mut FlowOp, template: Template, now: Instant) -> Result<(), OfError> {
        self.check_actions(&template.actions)?;
        let (mask, key) = match_words(&template.matching);
        let tables = Arc::clone(self.tables());
        let Some(table) = tables.table(template.table) else { return Err(OfError::BrcBadTableId) };
        let classifier = &table.classifier;
        let mut old = classifier.find_exactly(&mask, &key, template.priority, Version::LATEST);
        if old.is_some() {
            op.modify_cookie = true;
        } else {
            if template.flags.contains(FlowFlags::CHECK_OVERLAP)
                && classifier.overlaps(&mask, &key, template.priority, Version::LATEST)
            {
                return Err(OfError::FmfcOverlap);
            }
            if self.book(template.table).is_full() {
                let victim = self.book(template.table).eviction.choose().ok_or(OfError::FmfcTableFull)?;
                victim.set_removed(Some(RemovedReason::Eviction));
                op.evicted = true;
                old = Some(victim);
            }
        }
        self.start_replace(op, template, old, now);
        Ok(())
    }

    /// Puts a rule in, in the place of `old` if there is one.
    fn start_replace(&mut self, op: &mut FlowOp, template: Template, old: Option<Arc<Rule>>, now: Instant) {
        let serial = self.serial();
        let heritage = old.as_deref().filter(|_| !op.evicted).map(|rule| Heritage {
            rule,
            keep_counts: op.keep_counts,
            same_flow: op.command != FlowCommand::Add,
            keep_cookie: !op.modify_cookie || template.cookie == u64::MAX,
        });
        let new = Arc::new(Rule::new(template, serial, op.version, now, heritage.as_ref()));
        match old {
            Some(old) => {
                old.span.end(op.version);
                self.announce(op.version, &old);
                self.leave(&old);
                op.old.push(old);
            }
            None => self.book_mut(new.table).n_flows += 1,
        }
        self.install(&new, op.version);
        op.new.push(new);
    }

    /// Gives rules an end.
    pub(super) fn start_delete(&mut self, rules: &[Arc<Rule>], version: Version) {
        for rule in rules {
            self.book_mut(rule.table).n_flows -= 1;
            rule.span.end(version);
            self.announce(version, rule);
            self.leave(rule);
        }
    }

    /// Takes back the end that [`Self::start_delete`] gave.
    pub(super) fn revert_delete(&mut self, rules: &[Arc<Rule>]) {
        for rule in rules {
            self.book_mut(rule.table).n_flows += 1;
            rule.span.restore();
            self.enter(rule);
        }
    }

    /// Takes back what [`Self::start_flow_mod`] did.
    pub fn revert_flow_mod(&mut self, op: FlowOp) {
        if op.is_delete() {
            self.revert_delete(&op.old);
            return;
        }
        for (i, new) in op.new.iter().enumerate() {
            match op.old.get(i) {
                Some(old) => {
                    old.set_removed(None);
                    old.span.restore();
                    self.enter(old);
                }
                None => self.book_mut(new.table).n_flows -= 1,
            }
            self.leave(new);
            self.uninstall(new);
        }
    }

    /// Tells of the changes, once they are published, and lets the old rules go.
    pub fn finish_flow_mod(&mut self, op: FlowOp, by: Option<Requester>) {
        if op.is_delete() {
            self.finish_delete(&op.old, op.version, RemovedReason::Delete, by);
            return;
        }
        let mut orphaned = Vec::new();
        for (i, new) in op.new.iter().enumerate() {
            self.learners_came(&new.actions);
            let Some(old) = op.old.get(i) else {
                self.tell_change(new, FlowChange::Added, by);
                self.tell_vacancy(new.table);
                continue;
            };
            orphaned.extend(self.learners_went(&old.actions));
            if op.evicted {
                self.tell_change(old, FlowChange::Removed(RemovedReason::Eviction), by);
            } else {
                self.tell_replaced(op.command, old, new, by);
            }
            self.retire(op.version, old);
        }
        self.delete_learned(orphaned);
    }

    fn tell_replaced(&mut self, command: FlowCommand, old: &Rule, new: &Arc<Rule>, by: Option<Requester>) {
        let old_actions = (old.actions != new.actions).then(|| Arc::clone(&old.actions));
        if command == FlowCommand::Add {
            self.tell_change(new, FlowChange::Replaced { old_actions }, by);
        } else if old_actions.is_some() || old.cookie != new.cookie {
            self.tell_change(new, FlowChange::Modified { old_actions }, by);
        }
    }

    pub(super) fn finish_delete(
        &mut self,
        rules: &[Arc<Rule>],
        version: Version,
        reason: RemovedReason,
        by: Option<Requester>,
    ) {
        let mut orphaned = Vec::new();
        for rule in rules {
            rule.set_removed(Some(reason));
            self.tell_change(rule, FlowChange::Removed(reason), by);
            self.tell_vacancy(rule.table);
            orphaned.extend(self.learners_went(&rule.actions));
            self.retire(version, rule);
        }
        self.delete_learned(orphaned);
    }

    /// Deletes rules at once.
    pub(super) fn delete_rules(&mut self, rules: &[Arc<Rule>], reason: RemovedReason, by: Option<Requester>) {
        if rules.is_empty() {
            return;
        }
        let version = self.next_version();
        self.start_delete(rules, version);
        self.publish(version);
        self.finish_delete(rules, version, reason, by);
        self.tell(Event::MonitorFlush);
    }

    /// Deletes the flows that `learn` actions made which are no more.
    fn delete_learned(&mut self, orphaned: Vec<(u64, TableId)>) {
        for (cookie, table) in orphaned {
            let criteria =
                Criteria { cookie, cookie_mask: u64::MAX, readonly: false, ..Criteria::all(table) };
            let rules = self.select(&criteria, false).unwrap_or_default();
            self.delete_rules(&rules, RemovedReason::Delete, None);
        }
    }

    fn tell_vacancy(&mut self, table: TableId) {
        if let Some(reason) = self.book_mut(table).crossed() {
            self.tell(Event::TableStatus { table, reason });
        }
    }

    /// Whether the meters and groups that actions name exist.
    ///
    /// # Errors
    ///
    /// What does not.
    pub fn check_actions(&self, actions: &[OfAction]) -> Result<(), OfError> {
        for action in action::flattened(actions) {
            match action {
                OfAction::Meter(id) if self.tables().meter(*id).is_none() => {
                    return Err(OfError::MmfcInvalidMeter);
                }
                OfAction::Group(id) if self.tables().group(Version::LATEST, *id).is_none() => {
                    return Err(OfError::BacBadOutGroup);
                }
                OfAction::Controller(controller) => self.check_controller_meter(controller.meter),
                _ => {}
            }
        }
        Ok(())
    }

    fn check_controller_meter(&self, id: u32) {
        if id != 0 && self.tables().meter(id).is_none() {
            tracing::info!(
                target: "ofproto", rl = "1,5",
                "{}: controller action specified an unknown meter id: {id}", self.name()
            );
        }
    }
}

/// Whether a match is on what only the switch itself may match: a recirculation id other than 0, or a hash.
fn touches_hidden(FullMatch { key, mask }: &FullMatch) -> bool {
    let recirc_id = mask.0.recirc_id;
    mask.0.dp_hash != 0 || recirc_id != 0 && (recirc_id != u32::MAX || key.recirc_id != 0)
}
