//! Locks (RFC 7047 section 4.1.8): a queue of sessions each; the first owns it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::SessionId;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Waiter {
    session: SessionId,
    /// It came by `steal`; when it is robbed itself, it does not wait on.
    thief: bool,
}

/// All locks.
#[derive(Debug, Default)]
pub(super) struct Locks {
    queues: BTreeMap<String, VecDeque<Waiter>>,
    /// Who asked and did not unlock yet.
    asked: BTreeSet<(SessionId, String)>,
}

impl Locks {
    /// True if the session asked for the lock and did not unlock it since.
    pub(super) fn involves(&self, name: &str, session: SessionId) -> bool {
        self.asked.contains(&(session, name.to_owned()))
    }

    /// The locks that the session owns.
    pub(super) fn owned_by(&self, session: SessionId) -> BTreeSet<String> {
        let mine =
            self.queues.iter().filter(|(_, queue)| queue.front().is_some_and(|w| w.session == session));
        mine.map(|(name, _)| name.clone()).collect()
    }

    /// Queues the session; true if it owns the lock now.
    pub(super) fn lock(&mut self, name: &str, session: SessionId) -> bool {
        self.asked.insert((session, name.to_owned()));
        let queue = self.queues.entry(name.to_owned()).or_default();
        queue.push_back(Waiter { session, thief: false });
        queue.len() == 1
    }

    /// Makes the session the owner; the former one is returned.
    pub(super) fn steal(&mut self, name: &str, session: SessionId) -> Option<SessionId> {
        self.asked.insert((session, name.to_owned()));
        let queue = self.queues.entry(name.to_owned()).or_default();
        let victim = queue.front().copied();
        if victim.is_some_and(|victim| victim.thief) {
            queue.pop_front();
        }
        queue.push_front(Waiter { session, thief: true });
        victim.map(|victim| victim.session)
    }

    /// Takes the session out of the queue; the session that owns the lock now because of that is returned.
    pub(super) fn unlock(&mut self, name: &str, session: SessionId) -> Option<SessionId> {
        self.asked.remove(&(session, name.to_owned()));
        let queue = self.queues.get_mut(name)?;
        let owned = queue.front().is_some_and(|waiter| waiter.session == session);
        queue.retain(|waiter| waiter.session != session);
        let next = queue.front().map(|waiter| waiter.session);
        if next.is_none() {
            self.queues.remove(name);
        }
        next.filter(|_| owned)
    }

    /// The names of the locks that the session asked for.
    pub(super) fn of(&self, session: SessionId) -> Vec<String> {
        self.asked.iter().filter(|(asker, _)| *asker == session).map(|(_, name)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_and_theft() {
        let [a, b, c] = [1, 2, 3].map(SessionId);
        let mut locks = Locks::default();
        assert!(locks.lock("l", a));
        assert!(!locks.lock("l", b));
        assert_eq!(locks.steal("l", c), Some(a));
        assert_eq!(locks.owned_by(c), BTreeSet::from(["l".to_owned()]));
        assert_eq!(locks.unlock("l", c), Some(a));
        assert_eq!(locks.unlock("l", a), Some(b));
        assert_eq!(locks.unlock("l", b), None);
        assert!(!locks.involves("l", b));
    }

    #[test]
    fn a_robbed_thief_does_not_wait() {
        let [a, b] = [1, 2].map(SessionId);
        let mut locks = Locks::default();
        assert_eq!(locks.steal("l", a), None);
        assert_eq!(locks.steal("l", b), Some(a));
        assert_eq!(locks.unlock("l", b), None);
        assert!(locks.involves("l", a));
    }
}
