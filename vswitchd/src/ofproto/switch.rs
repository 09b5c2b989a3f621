//! One bridge's switch, as its one writer (`main`) holds it. Sans I/O: requests go in, [`Event`]s come out.
//!
//! A change goes in steps. *Start* puts new rules in, invisible yet, and gives old ones an end; what fails there
//! leaves no trace. *Publish* makes the next version visible. *Finish* tells monitors and hands the old rules to
//! [`Ofproto::run`], which takes them apart once no reader can see them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flow::field::Subfield;
use flow::id::{GroupId, TableId};
use flow::key::Key;
use flow::mini::{FullMatch, Match};
use flow::time::Instant;
use openflow::action::{Controller, OfAction};
use openflow::error::OfError;
use openflow::msg::flow_mod::FlowFlags;
use openflow::msg::flow_removed::RemovedReason;
use openflow::msg::switch::FragHandling;

use super::book::{Book, NamedBy};
use super::classifier::PrefixField;
use super::event::{Event, FlowChange, Requester};
use super::evict::Wanted;
use super::group::Group;
use super::identity::Identity;
use super::journal::{Announced, RuleChange};
use super::meter::Meters;
use super::port::Ports;
use super::rule::{Rule, Template};
use super::table::{INTERNAL, N_TABLES, Tables};
use super::tlv::TlvUses;
use super::version::{Retired, Version};

/// A table's settings from the database (`Flow_Table`).
#[derive(Default)]
pub struct TableConfig {
    pub name: Option<String>,
    /// `None` for no limit.
    pub max_flows: Option<u32>,
    /// Whether a full table evicts flows, rather than refuse new ones.
    pub evict: bool,
    /// The fields whose values make eviction groups.
    pub groups: Vec<Subfield>,
    /// The fields that have prefix tries; `None` for the default ones.
    pub prefixes: Option<Vec<&'static PrefixField>>,
}

/// One bridge's switch.
pub struct Ofproto {
    name: String,
    tables: Arc<Tables>,
    books: Box<[Book]>,
    pub(super) index: Index,
    pub(super) leaving: Leaving,
    retired: Retired,
    pub(super) announced: Announced,
    pub(super) meters: Meters,
    pub(super) ports: Ports,
    pub(super) identity: Identity,
    /// Tables whose list of subtables may have to be published.
    changed: BTreeSet<TableId>,
    next_serial: u64,
    monitor_seqno: u64,
    refresh_eviction_at: Instant,
    events: Vec<Event>,
}

/// Rules by what they are asked for.
#[derive(Default)]
pub(super) struct Index {
    cookies: BTreeMap<(u64, u64), Arc<Rule>>,
    expirable: BTreeMap<u64, Arc<Rule>>,
    pub(super) by_group: HashMap<GroupId, BTreeMap<u64, Arc<Rule>>>,
    pub(super) by_meter: HashMap<u32, BTreeMap<u64, Arc<Rule>>>,
    /// How many `learn` actions with `delete_learned` name a cookie in a table.
    learned: HashMap<(u64, TableId), usize>,
    pub(super) tlv_uses: TlvUses,
}

/// What was removed and may still be in use.
#[derive(Default)]
pub(super) struct Leaving {
    /// Waiting for readers of versions in which they were visible.
    rules: VecDeque<(Version, Arc<Rule>)>,
    pub(super) groups: VecDeque<(Version, Arc<Group>)>,
    /// Out of the tables; waiting for datapath flows to hand in the last counts.
    dying: Vec<Arc<Rule>>,
}

/// `OFPR_IMPLICIT_MISS`: a packet-in because no flow matched, not even a table-miss one.
const IMPLICIT_MISS: u8 = 7;
/// How often [`Ofproto::run`] wants to be called while rules are leaving.
const LEAVING_POLL: Duration = Duration::from_millis(10);
/// How often the ranks of flows in full tables are computed anew.
const EVICTION_REFRESH: Duration = Duration::from_secs(1);

impl Ofproto {
    /// A switch with empty tables, but for its own rules.
    pub fn new(name: &str, now: Instant) -> Self {
        let mut this = Self {
            name: name.to_owned(),
            tables: Arc::default(),
            books: (0..N_TABLES).map(|id| Book::new(TableId(id))).collect(),
            index: Index::default(),
            leaving: Leaving::default(),
            retired: Retired::default(),
            announced: Announced::default(),
            meters: Meters::default(),
            ports: Ports::default(),
            identity: Identity::default(),
            changed: BTreeSet::new(),
            next_serial: 0,
            monitor_seqno: 1,
            refresh_eviction_at: now,
            events: Vec::new(),
        };
        this.add_internal_rules(now);
        this
    }

    /// The bridge's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tables, to share with readers.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// How many rules its tables have.
    pub fn n_rules(&self) -> usize {
        self.books.iter().map(|book| book.n_flows as usize).sum()
    }

    /// A table's books.
    pub fn book(&self, table: TableId) -> &Book {
        &self.books[usize::from(table.0)]
    }

    pub(super) fn book_mut(&mut self, table: TableId) -> &mut Book {
        &mut self.books[usize::from(table.0)]
    }

    /// The tables that OpenFlow sees.
    pub fn visible_tables(&self) -> impl Iterator<Item = TableId> {
        self.books.iter().filter(|book| !book.is_hidden()).map(|book| book.id)
    }

    /// What happened since the last time, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn tell_change(&mut self, rule: &Arc<Rule>, change: FlowChange, by: Option<Requester>) {
        if !rule.is_hidden() {
            self.monitor_seqno += 1;
            rule.note_change(&change, self.monitor_seqno);
            self.tell(Event::FlowChanged { rule: Arc::clone(rule), change, by });
        }
    }

    /// The sequence number of the latest change that flow monitors are told. A monitor that was paused at one gets
    /// the rules whose [`Rule::added_at`] or [`Rule::modified_at`] is later.
    pub fn monitor_seqno(&self) -> u64 {
        self.monitor_seqno
    }

    /// Changes what becomes of IP fragments. Reassembly is refused.
    pub fn set_fragments(&mut self, fragments: FragHandling) {
        if fragments == FragHandling::Reassemble {
            tracing::warn!(
                target: "ofproto", rl = "1,5",
                "{}: unsupported fragment handling mode {}", self.name, fragments.name()
            );
        } else {
            self.tables.set_fragments(fragments);
        }
    }

    /// The version that the next publication will have.
    pub fn next_version(&self) -> Version {
        self.tables.version().next()
    }

    /// Makes everything up to `version` visible, if it is not.
    pub(super) fn publish(&mut self, version: Version) {
        self.publish_lists();
        if version > self.tables.version() {
            self.tables.versions.publish(version, &mut self.retired);
            self.announced.come_true(version, &self.tables.journal);
        }
    }

    /// Announces that a rule comes, or goes, in `version`.
    pub(super) fn announce(&mut self, version: Version, rule: &Rule) {
        self.announced.rule(version, RuleChange::of(rule));
    }

    /// Makes new masks known to readers; what they hold stays invisible until its version.
    pub(super) fn publish_lists(&mut self) {
        for table in std::mem::take(&mut self.changed) {
            if let Some(table) = self.tables.table(table) {
                table.classifier.publish();
            }
        }
    }

    pub(super) fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    /// Puts a rule into its table and the index; it is visible from `version` on.
    pub(super) fn install(&mut self, rule: &Arc<Rule>, version: Version) {
        self.enter(rule);
        self.announce(version, rule);
        if let Some(table) = self.tables.table(rule.table) {
            if table.classifier.insert(Arc::clone(rule)) {
                // Which of two rules of equal priority a packet meets that matches both may be another now.
                self.announced.rule(version, RuleChange::of_order(rule.table));
            }
            self.changed.insert(rule.table);
        }
    }

    /// Takes a rule that no version sees out of its table.
    pub(super) fn uninstall(&mut self, rule: &Arc<Rule>) {
        if let Some(table) = self.tables.table(rule.table) {
            table.classifier.remove(rule);
            self.changed.insert(rule.table);
        }
    }

    /// Enters a rule into the index, its table's eviction, and what it refers to.
    pub(super) fn enter(&mut self, rule: &Arc<Rule>) {
        self.book_mut(rule.table).eviction.add(rule);
        let Index { cookies, expirable, by_group, by_meter, tlv_uses, .. } = &mut self.index;
        tlv_uses.came(rule);
        cookies.insert((rule.cookie, rule.serial), Arc::clone(rule));
        if rule.expires() {
            expirable.insert(rule.serial, Arc::clone(rule));
        }
        for group in rule.groups() {
            by_group.entry(group).or_default().insert(rule.serial, Arc::clone(rule));
        }
        if let Some(meter) = openflow::action::meter(&rule.actions) {
            by_meter.entry(meter).or_default().insert(rule.serial, Arc::clone(rule));
        }
    }

    /// Takes a rule out of where [`Self::enter`] put it.
    pub(super) fn leave(&mut self, rule: &Rule) {
        self.book_mut(rule.table).eviction.remove(rule);
        let Index { cookies, expirable, by_group, by_meter, tlv_uses, .. } = &mut self.index;
        tlv_uses.went(rule);
        cookies.remove(&(rule.cookie, rule.serial));
        expirable.remove(&rule.serial);
        for group in rule.groups() {
            drop_from(by_group, &group, rule.serial);
        }
        if let Some(meter) = openflow::action::meter(&rule.actions) {
            drop_from(by_meter, &meter, rule.serial);
        }
    }

    /// Rules of that cookie, the oldest first.
    pub(super) fn with_cookie(&self, cookie: u64) -> impl Iterator<Item = &Arc<Rule>> {
        self.index.cookies.range((cookie, 0)..=(cookie, u64::MAX)).map(|(_, rule)| rule)
    }

    /// Counts the `learn` actions with `delete_learned` of a rule that came.
    pub(super) fn learners_came(&mut self, actions: &[OfAction]) {
        for target in deleting_learns(actions) {
            *self.index.learned.entry(target).or_default() += 1;
        }
    }

    /// As [`Self::learners_came`] for a rule that went; returns the cookies and tables that lost their last one.
    pub(super) fn learners_went(&mut self, actions: &[OfAction]) -> Vec<(u64, TableId)> {
        let mut orphaned = Vec::new();
        for target in deleting_learns(actions) {
            let Some(count) = self.index.learned.get_mut(&target) else { continue };
            *count -= 1;
            if *count == 0 {
                self.index.learned.remove(&target);
                orphaned.push(target);
            }
        }
        orphaned
    }

    /// Says that a rule was removed in `version` and may be taken out when nobody sees it.
    pub(super) fn retire(&mut self, version: Version, rule: &Arc<Rule>) {
        self.leaving.rules.push_back((version, Arc::clone(rule)));
    }

    /// Does what time and the progress of readers allow: takes removed rules out, tells of those that are gone,
    /// refreshes eviction. Call it once a loop and by [`Self::deadline`].
    pub fn run(&mut self, now: Instant) {
        let quiet = self.tables.versions.quiet(&mut self.retired);
        while let Some((_, rule)) = self.leaving.rules.pop_front_if(|(version, _)| *version <= quiet) {
            self.uninstall(&rule);
            self.leaving.dying.push(rule);
        }
        while let Some((_, group)) = self.leaving.groups.pop_front_if(|(version, _)| *version <= quiet) {
            self.tables.groups.remove(&group);
        }
        self.publish_lists();
        let gone = self.leaving.dying.extract_if(.., |rule| Arc::strong_count(rule) == 1).collect::<Vec<_>>();
        for rule in gone {
            if let Some(reason) = rule.removed().filter(|_| rule.flags.contains(FlowFlags::SEND_FLOW_REM))
                && !rule.is_hidden()
            {
                let usage = rule.usage();
                self.tell(Event::FlowRemoved { rule, reason, usage, at: now });
            }
        }
        if now >= self.refresh_eviction_at {
            self.refresh_eviction_at = now + EVICTION_REFRESH;
            self.refresh_eviction();
        }
    }

    /// When [`Self::run`] has something to do.
    pub fn deadline(&self, now: Instant) -> Instant {
        let Leaving { rules, groups, dying } = &self.leaving;
        if !(rules.is_empty() && groups.is_empty() && dying.is_empty()) {
            now + LEAVING_POLL
        } else if self.books.iter().any(|book| book.eviction.wanted.any()) {
            self.refresh_eviction_at
        } else {
            Instant::NEVER
        }
    }

    fn refresh_eviction(&mut self) {
        for book in self.books.iter_mut().filter(|book| book.eviction.wanted.any()) {
            if book.n_flows > 100_000 {
                tracing::warn!(
                    target: "ofproto", rl = "1,1",
                    "Table {} has an excessive number of rules: {}", book.id, book.n_flows
                );
            }
            book.eviction.refresh(&rules_of(&self.tables, book.id));
        }
    }

    /// Removes the flows whose time is over. To be called when the datapath's counters are up to date.
    pub fn expire(&mut self, now: Instant) {
        let overdue: Vec<_> = self
            .index
            .expirable
            .values()
            .filter_map(|rule| rule.overdue(now).map(|reason| (Arc::clone(rule), reason)))
            .collect();
        for (rule, reason) in overdue {
            if rule.is_live() {
                self.delete_rules(&[rule], reason, None);
            }
        }
    }

    /// Brings a rule's timeouts down, as `fin_timeout` asks.
    pub fn reduce_timeouts(&mut self, rule: &Arc<Rule>, idle: u16, hard: u16) {
        if (idle, hard) != (0, 0) && rule.is_live() {
            rule.reduce_timeouts(idle, hard);
            self.index.expirable.insert(rule.serial, Arc::clone(rule));
        }
    }

    /// Sets a table up as the database says.
    pub fn configure_table(&mut self, id: TableId, config: &TableConfig) {
        let book = &mut self.books[usize::from(id.0)];
        book.set_name(config.name.as_deref(), NamedBy::Config);
        if book.is_readonly() {
            return;
        }
        if let Some(table) = self.tables.table(id) {
            match &config.prefixes {
                Some(fields) => _ = table.classifier.set_prefixes(fields),
                None => _ = table.classifier.set_prefixes(&PrefixField::defaults()),
            }
        }
        self.tables.note_change();
        let wanted = Wanted { by_config: config.evict, ..book.eviction.wanted };
        book.eviction.configure(wanted, &config.groups, &rules_of(&self.tables, id));
        book.max_flows = config.max_flows.unwrap_or(u32::MAX);
        self.evict_excess(id);
    }

    fn evict_excess(&mut self, id: TableId) {
        let mut victims = Vec::new();
        let book = self.book_mut(id);
        for _ in book.max_flows..book.n_flows {
            let Some(victim) = book.eviction.choose() else { break };
            book.eviction.remove(&victim);
            victims.push(victim);
        }
        self.delete_rules(&victims, RemovedReason::Eviction, None);
    }

    /// Removes every flow and group that OpenFlow put there, for instance when a controller takes over.
    pub fn flush(&mut self) {
        for id in self.visible_tables().collect::<Vec<_>>() {
            let rules = rules_of(&self.tables, id);
            self.delete_rules(&rules, RemovedReason::Delete, None);
        }
        self.delete_all_groups();
    }

    /// The rules that are in a table, hidden ones too, in the order in which dumps show them.
    pub fn rules(&self, id: TableId) -> Vec<Arc<Rule>> {
        rules_of(&self.tables, id)
    }

    /// Adds one of the switch's own rules, or replaces it.
    ///
    /// # Errors
    ///
    /// As any flow mod.
    pub fn add_own_rule(
        &mut self,
        table: TableId,
        matching: &FullMatch,
        priority: i32,
        actions: Vec<OfAction>,
        now: Instant,
    ) -> Result<Arc<Rule>, OfError> {
        self.add_template(
            Template {
                table,
                priority,
                matching: Match::new(matching),
                cookie: 0,
                idle_timeout: 0,
                hard_timeout: 0,
                importance: 0,
                flags: FlowFlags::empty(),
                actions: actions.into(),
                tlvs: 0,
            },
            now,
        )
    }

    /// Removes one of the switch's own rules.
    pub fn delete_own_rule(&mut self, rule: &Arc<Rule>) {
        if rule.is_live() {
            self.delete_rules(std::slice::from_ref(rule), RemovedReason::Delete, None);
        }
    }

    fn add_internal_rules(&mut self, now: Instant) {
        let by_reg0 = |id: u32| {
            let mut m = FullMatch::default();
            (m.key.regs[0], m.mask.0.regs[0]) = (id, u32::MAX);
            m
        };
        let to_controller =
            OfAction::Controller(Box::new(Controller { reason: IMPLICIT_MISS, ..Controller::default() }));
        let mut add = |m: &FullMatch, priority, actions| {
            self.add_own_rule(INTERNAL, m, priority, actions, now).expect("the internal table has room")
        };
        let miss = add(&by_reg0(1), 0, vec![to_controller]);
        let no_packet_in = add(&by_reg0(2), 0, Vec::new());
        let drop_fragments = add(&by_reg0(3), 0, Vec::new());
        // What has no recirculation id has no business in this table.
        let mut unrecirculated = FullMatch::new(&Key::default(), &flow::key::Mask::default());
        unrecirculated.mask.0.recirc_id = u32::MAX;
        add(&unrecirculated, 2, Vec::new());
        let internal = &self.tables.internal;
        internal.miss.store(Some(miss));
        internal.no_packet_in.store(Some(no_packet_in));
        internal.drop_fragments.store(Some(drop_fragments));
    }
}

fn rules_of(tables: &Tables, id: TableId) -> Vec<Arc<Rule>> {
    tables
        .table(id)
        .map(|table| table.classifier.matching(&[], &Key::default(), Version::LATEST))
        .unwrap_or_default()
}

fn drop_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeMap<u64, Arc<Rule>>>, key: &K, serial: u64) {
    if let Some(rules) = map.get_mut(key) {
        rules.remove(&serial);
        if rules.is_empty() {
            map.remove(key);
        }
    }
}

/// The cookie and table of each `learn` action whose learned flows go when the last of its kind goes.
fn deleting_learns(actions: &[OfAction]) -> impl Iterator<Item = (u64, TableId)> {
    actions.iter().filter_map(|action| match action {
        OfAction::Learn(learn) if learn.delete_learned => Some((learn.cookie, learn.table)),
        _ => None,
    })
}
