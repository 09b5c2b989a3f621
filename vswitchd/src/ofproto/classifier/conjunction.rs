//! Conjunctive matches: flows that only together, one a dimension, make a match.
//!
//! A flow with `conjunction(id, k/n)` actions is a *soft* match: what it leads to is decided by whether flows of the
//! same priority cover all `n` clauses of some id. If they do, the packet is looked up again with `conj_id` set.

use std::collections::HashMap;
use std::sync::Arc;

use flow::key::Key;

use super::subtable::Subtable;
use super::{Classifier, Entry, Looked};
use crate::ofproto::version::Version;

/// One `conjunction` action: clause `clause` (from 0) of the `n_clauses` of `id`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conjunction {
    pub id: u32,
    pub clause: u8,
    /// 2 to 64.
    pub n_clauses: u8,
}

/// A soft match, and where it was found.
pub(super) struct Soft<R> {
    pub rule: Arc<R>,
    pub subtable: Arc<Subtable<R>>,
}

impl<R: Entry> Soft<R> {
    fn priority(&self) -> i32 {
        self.rule.priority()
    }

    /// The next rule of the same match but a lower priority.
    fn fall_back(self, version: Version, key: &Key) -> Option<Self> {
        let rule = self.subtable.next_best(version, key, &self.rule)?;
        Some(Self { rule, ..self })
    }
}

/// Which clauses of each id are met so far; all bits set is a match. Bits from `n_clauses` on are set at the start.
#[derive(Default)]
struct Clauses(HashMap<u32, u64>);

impl Clauses {
    /// Adds the conjunctions of one soft match, of `limit` in all; returns the id that it completes.
    fn add(&mut self, conjunctions: &[Conjunction], limit: usize) -> Option<u32> {
        for conjunction in conjunctions.iter().filter(|c| usize::from(c.n_clauses) <= limit) {
            let unused = u64::MAX.checked_shl(conjunction.n_clauses.into()).unwrap_or(0);
            let met = self.0.entry(conjunction.id).or_insert(unused);
            *met |= 1u64.checked_shl(conjunction.clause.into()).unwrap_or(0);
            if *met == u64::MAX {
                return Some(conjunction.id);
            }
        }
        None
    }
}

impl<R: Entry> Classifier<R> {
    /// Decides between `soft` matches and the best `hard` one. `flows` receives the conjunctive flows that matched.
    pub(super) fn resolve(
        &self,
        version: Version,
        key: &Key,
        mut wildcards: Option<&mut Looked>,
        mut soft: Vec<Soft<R>>,
        mut hard: Option<Arc<R>>,
        flows: Option<&mut Vec<Arc<R>>>,
    ) -> Option<Arc<R>> {
        loop {
            let floor = hard.as_ref().map(|rule| rule.priority());
            swap_retain(&mut soft, |soft| floor.is_none_or(|floor| soft.priority() > floor));
            let Some(top) = soft.iter().map(Soft::priority).max() else { return hard };
            if let Some((rule, id)) = self.complete(version, key, wildcards.as_deref_mut(), &soft, top) {
                if let Some(flows) = flows {
                    flows.extend(parts(&soft, top, id));
                }
                return Some(rule);
            }
            // None of the highest priority is a real match; rules of the same match and a lower priority may be.
            let mut lower = Vec::with_capacity(soft.len());
            for soft in soft {
                if soft.priority() != top {
                    lower.push(soft);
                    continue;
                }
                let Some(next) = soft.fall_back(version, key) else { continue };
                if !next.rule.conjunctions().is_empty() {
                    lower.push(next);
                } else if hard.as_ref().is_none_or(|rule| next.priority() > rule.priority()) {
                    hard = Some(next.rule);
                }
            }
            soft = lower;
        }
    }

    /// The rule for the first conjunction that the soft matches of priority `top` complete and that leads somewhere.
    fn complete(
        &self,
        version: Version,
        key: &Key,
        mut wildcards: Option<&mut Looked>,
        soft: &[Soft<R>],
        top: i32,
    ) -> Option<(Arc<R>, u32)> {
        let best = || soft.iter().filter(|soft| soft.priority() == top).map(|soft| soft.rule.conjunctions());
        let limit = best().count();
        let mut clauses = Clauses::default();
        for conjunctions in best() {
            let Some(id) = clauses.add(conjunctions, limit) else { continue };
            let key = Key { conj_id: id, ..*key };
            if let Some(rule) = self.lookup_hard(version, &key, wildcards.as_deref_mut()) {
                return Some((rule, id));
            }
        }
        None
    }
}

/// The rules among `soft` that take part in conjunction `id` at priority `top`.
fn parts<R: Entry>(soft: &[Soft<R>], top: i32, id: u32) -> impl Iterator<Item = Arc<R>> {
    let takes_part =
        move |soft: &&Soft<R>| soft.priority() == top && soft.rule.conjunctions().iter().any(|c| c.id == id);
    soft.iter().filter(takes_part).map(|soft| Arc::clone(&soft.rule))
}

/// Keeps what `keep` says, filling holes from the end: the order decides which of several complete conjunctions
/// wins, and this is the order that OVS has.
fn swap_retain<T>(items: &mut Vec<T>, keep: impl Fn(&T) -> bool) {
    let mut i = 0;
    while i < items.len() {
        if keep(&items[i]) {
            i += 1;
        } else {
            items.swap_remove(i);
        }
    }
}
