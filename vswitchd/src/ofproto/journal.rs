//! What changed of a bridge's tables lately, so that who keeps translations can tell which of them no change concerns.
//!
//! Every change has a number. Of changes of rules it is known which packets they can concern: those that are looked up in the
//! rule's table and match it. Whatever else changes may concern every translation. Few changes are remembered: of what is
//! forgotten nothing is known.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow::id::TableId;
use flow::mini::Match;

use super::rule::Rule;
use super::version::Version;

/// Changes that are remembered.
const MEMORY: usize = 256;

/// A rule came or went, or another came in its place: only packets that match it in its table are concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleChange {
    pub table: TableId,
    pub matching: Match,
    /// Of that rule; `None` if other rules with this match may be met from now on.
    pub priority: Option<i32>,
}

impl RuleChange {
    /// The change of a rule.
    pub fn of(rule: &Rule) -> Self {
        Self { table: rule.table, matching: rule.matching.clone(), priority: Some(rule.priority) }
    }

    /// Rules of a table changed places.
    pub fn of_order(table: TableId) -> Self {
        Self { table, matching: Match::default(), priority: None }
    }

    /// Whether it was this rule that changed, or one that came in its place or had it before.
    pub fn is_of(&self, rule: &Rule) -> bool {
        (self.table, self.priority) == (rule.table, Some(rule.priority)) && self.matching == rule.matching
    }
}

/// The changes of one bridge's tables.
pub struct Journal {
    count: AtomicU64,
    /// The latest version of which all is noted.
    version: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    /// Of changes up to this one nothing is known.
    unknown: u64,
    /// The later ones that are known to concern some packets only, by number, in order.
    changes: VecDeque<(u64, Arc<RuleChange>)>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), version: AtomicU64::new(Version::MIN.0), recent: Mutex::default() }
    }
}

impl Journal {
    /// The latest version of which every change is noted. A version is published first, and noted then.
    pub fn version(&self) -> Version {
        Version(self.version.load(Ordering::Acquire))
    }

    /// The number of the latest change.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change that may concern every translation.
    pub fn note_any(&self) {
        let mut recent = self.recent();
        let number = self.count() + 1;
        recent.changes.clear();
        recent.unknown = number;
        self.count.store(number, Ordering::Release);
    }

    /// Notes that rules changed.
    pub fn note_rules(&self, changes: Vec<RuleChange>) {
        let mut recent = self.recent();
        let number = self.count() + 1;
        recent.changes.extend(changes.into_iter().map(|change| (number, Arc::new(change))));
        while recent.changes.len() > MEMORY
            && let Some((forgotten, _)) = recent.changes.pop_front()
        {
            recent.unknown = forgotten;
        }
        self.count.store(number, Ordering::Release);
    }

    /// The rules that changed after change `from`, up to change `to`; `None` if that is not known, or not all.
    pub fn between(&self, from: u64, to: u64) -> Option<Vec<Arc<RuleChange>>> {
        let recent = self.recent();
        let wanted = recent.changes.iter().filter(|(number, _)| (from + 1..=to).contains(number));
        (recent.unknown <= from).then(|| wanted.map(|(_, change)| Arc::clone(change)).collect())
    }
}

/// The writer's side: changes that are not visible yet, by the version in which they will be. `None`: something that may
/// concern every translation, or too much to remember.
#[derive(Default)]
pub(super) struct Announced(BTreeMap<Version, Option<Vec<RuleChange>>>);

impl Announced {
    /// Something that may concern every translation will change.
    pub fn any(&mut self, version: Version) {
        self.0.insert(version, None);
    }

    /// A rule will change.
    pub fn rule(&mut self, version: Version, change: RuleChange) {
        let changes = self.0.entry(version).or_insert_with(|| Some(Vec::new()));
        match changes {
            Some(all) if all.len() < MEMORY => all.push(change),
            _ => *changes = None,
        }
    }

    /// Notes what is visible in `version`.
    pub fn come_true(&mut self, version: Version, journal: &Journal) {
        let later = self.0.split_off(&version.next());
        let visible = std::mem::replace(&mut self.0, later);
        match visible.into_values().collect::<Option<Vec<_>>>() {
            Some(changes) => journal.note_rules(changes.concat()),
            None => journal.note_any(),
        }
        journal.version.store(version.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(table: u8) -> RuleChange {
        RuleChange::of_order(TableId(table))
    }

    fn between(journal: &Journal, from: u64, to: u64) -> Option<Vec<u8>> {
        let changes = journal.between(from, to)?;
        Some(changes.iter().map(|change| change.table.0).collect())
    }

    #[test]
    fn changes_are_known_from_the_last_that_concerns_all() {
        let journal = Journal::default();
        journal.note_rules(vec![change(1), change(2)]);
        journal.note_rules(Vec::new());
        journal.note_rules(vec![change(3)]);
        assert_eq!((journal.count(), between(&journal, 0, 3)), (3, Some(vec![1, 2, 3])));
        assert_eq!((between(&journal, 1, 3), between(&journal, 0, 2)), (Some(vec![3]), Some(vec![1, 2])));
        journal.note_any();
        assert_eq!((between(&journal, 3, 4), between(&journal, 4, 4)), (None, Some(vec![])));
        journal.note_rules(vec![change(4)]);
        assert_eq!((between(&journal, 3, 5), between(&journal, 4, 5)), (None, Some(vec![4])));
    }

    #[test]
    fn of_what_is_forgotten_nothing_is_known() {
        let journal = Journal::default();
        journal.note_rules(vec![change(1), change(2)]);
        journal.note_rules(vec![change(3); MEMORY - 1]);
        assert_eq!(between(&journal, 0, 2), None);
        assert_eq!(between(&journal, 1, 2), Some(vec![3; MEMORY - 1]));
        journal.note_rules(vec![change(4); MEMORY + 1]);
        assert_eq!((between(&journal, 2, 3), between(&journal, 3, 3)), (None, Some(vec![])));
    }

    #[test]
    fn what_is_announced_comes_true_with_its_version() {
        let (journal, mut announced) = (Journal::default(), Announced::default());
        announced.rule(Version(3), change(3));
        announced.rule(Version(2), change(2));
        announced.any(Version(4));
        announced.rule(Version(4), change(4));
        announced.come_true(Version(2), &journal);
        assert_eq!((between(&journal, 0, 1), journal.version()), (Some(vec![2]), Version(2)));
        announced.come_true(Version(3), &journal);
        assert_eq!(between(&journal, 1, 2), Some(vec![3]));
        announced.come_true(Version(5), &journal);
        assert_eq!((journal.count(), between(&journal, 2, 3)), (3, None));
    }
}
