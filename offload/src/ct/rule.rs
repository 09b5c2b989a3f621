//! One rule of a connection: from being wanted to being gone.
//!
//! ```text
//!            Sent            Done
//! Wanted ──────────▶ Pushing ────▶ InHardware ──Doom──▶ Doomed ──Sent──▶ Deleting ──Done, Absent──▶ Gone
//!   ▲ ▲  Refused        │ failed, no answer   Missing│     ▲   failed, no answer │
//!   │ └─────────────────┤                     ┌──────┘     └─────────────────────┘
//!   │ Absent            ▼      Sent           ▼
//!   └──────────────── Unsure ────▶ Reading ◀──┘
//! ```
//!
//! What a request did whose answer does not come is not guessed: the device is read. A rule is gone when the device said
//! so, and not before; one that is doomed while its push is out waits for what becomes of the push.

use std::time::Duration;

use flow::time::Instant;

/// How long a request may be out. One that is not answered by then was done or never will be.
pub const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The first pause before something is tried again, and the longest; they double.
const PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(8);
/// Refusals after which a rule is not tried again.
pub const MAX_REFUSALS: u32 = 6;

/// Names a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Ticket(pub u64);

/// Where a rule is on its way. Times say when it goes on if nothing happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not in the device.
    Wanted(Instant),
    Pushing(Ticket, Instant),
    /// Nobody knows whether it is in the device.
    Unsure(Instant),
    Reading(Ticket, Instant),
    InHardware,
    /// In the device, as far as is known, and to be deleted.
    Doomed(Instant),
    Deleting(Ticket, Instant),
    /// The device does not have it and will not get it.
    Gone,
}

/// What a device said to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was done; to a read: the rule is there.
    Done,
    /// There is no such rule.
    Absent,
    /// There is such a rule already, or one that matches the same.
    Exists,
    /// It was not done, and why.
    Refused(String),
    /// It was not done, and never will be.
    Never(String),
    /// Nobody knows whether it was done.
    Failed(String),
    /// The device itself is gone, and its rules with it.
    NoDevice,
}

/// What happens to a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Its request went out.
    Sent(Ticket),
    /// Its request was answered.
    Answered(Answer),
    /// It is not wanted any more.
    Doom,
    /// The time of its state is over.
    Late,
    /// A walk over the device did not find it.
    Missing,
}

/// What to ask the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum What {
    Insert,
    Read,
    Delete,
}

/// What an event means to those who count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Nothing,
    /// It came into the device.
    Pushed,
    /// It will be tried again.
    Refused(String),
    /// It was refused too often, or there is no device; it is gone.
    GaveUp(String),
    /// A deletion was not done, or not for sure; it is repeated.
    DeleteFailed(String),
    /// It was there, and somebody took it.
    Vanished,
    /// It left the device, or never came there.
    Gone,
}

/// A rule on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    pub state: State,
    /// It is to be deleted as soon as it is known what became of it.
    pub doomed: bool,
    /// It was in the device at some time.
    pub was_in: bool,
    refusals: u32,
    failures: u32,
}

fn pause(tries: u32) -> Duration {
    PAUSE.saturating_mul(1 << tries.min(8)).min(MAX_PAUSE)
}

impl Progress {
    /// A rule that is to be pushed.
    pub const fn wanted(now: Instant) -> Self {
        Self { state: State::Wanted(now), doomed: false, was_in: false, refusals: 0, failures: 0 }
    }

    /// A rule in the device that nobody wants.
    pub const fn orphan(now: Instant) -> Self {
        Self { state: State::Doomed(now), doomed: true, was_in: true, refusals: 0, failures: 0 }
    }

    /// When it goes on by itself: by [`Progress::request`], or by [`Event::Late`] if that is nothing.
    pub const fn due(&self) -> Option<Instant> {
        match self.state {
            State::Wanted(at)
            | State::Pushing(_, at)
            | State::Unsure(at)
            | State::Reading(_, at)
            | State::Doomed(at)
            | State::Deleting(_, at) => Some(at),
            State::InHardware | State::Gone => None,
        }
    }

    /// What to ask the device.
    pub const fn request(&self) -> Option<What> {
        match self.state {
            State::Wanted(_) => Some(What::Insert),
            State::Unsure(_) => Some(What::Read),
            State::Doomed(_) => Some(What::Delete),
            State::Pushing(..)
            | State::Reading(..)
            | State::Deleting(..)
            | State::InHardware
            | State::Gone => None,
        }
    }

    /// The request that is out.
    pub const fn ticket(&self) -> Option<Ticket> {
        match self.state {
            State::Pushing(ticket, _) | State::Reading(ticket, _) | State::Deleting(ticket, _) => {
                Some(ticket)
            }
            _ => None,
        }
    }

    pub const fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event, now: Instant) -> Outcome {
        let (state, outcome) = self.next(event, now);
        self.state = state;
        // Who knows what became of a doomed rule goes on to delete it.
        match self.state {
            State::Wanted(_) if self.doomed => self.state = State::Gone,
            State::InHardware | State::Unsure(_) if self.doomed => self.state = State::Doomed(now),
            _ => {}
        }
        match (&self.state, outcome) {
            (State::Gone, Outcome::Nothing | Outcome::Refused(_)) => Outcome::Gone,
            (_, outcome) => outcome,
        }
    }

    fn next(&mut self, event: Event, now: Instant) -> (State, Outcome) {
        use State as S;
        let out = |ticket| (ticket, now + ANSWER_TIME);
        match (self.state, event) {
            (S::Wanted(_), Event::Sent(ticket)) => (S::Pushing(ticket, out(ticket).1), Outcome::Nothing),
            (S::Unsure(_), Event::Sent(ticket)) => (S::Reading(ticket, out(ticket).1), Outcome::Nothing),
            (S::Doomed(_), Event::Sent(ticket)) => (S::Deleting(ticket, out(ticket).1), Outcome::Nothing),
            (S::Pushing(..), Event::Answered(answer)) => self.pushed(answer, now),
            (S::Reading(..), Event::Answered(answer)) => self.read(answer, now),
            (S::Deleting(..), Event::Answered(answer)) => self.deleted(answer, now),
            (state, Event::Doom) => {
                self.doomed = true;
                match state {
                    // A read says nothing that the deletion does not say, too.
                    S::Reading(..) => (S::Doomed(now), Outcome::Nothing),
                    state => (state, Outcome::Nothing),
                }
            }
            (S::Pushing(..), Event::Late) => (S::Unsure(now), Outcome::Nothing),
            (S::Reading(..), Event::Late) => (S::Unsure(now + self.again()), Outcome::Nothing),
            (S::Deleting(..), Event::Late) => {
                (S::Doomed(now + self.again()), Outcome::DeleteFailed("no answer".to_owned()))
            }
            (S::InHardware, Event::Missing) => (S::Unsure(now), Outcome::Nothing),
            (state, Event::Sent(_) | Event::Answered(_) | Event::Late | Event::Missing) => {
                (state, Outcome::Nothing)
            }
        }
    }

    /// The pause after one failure more.
    fn again(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        pause(self.failures - 1)
    }

    fn pushed(&mut self, answer: Answer, now: Instant) -> (State, Outcome) {
        match answer {
            Answer::Done => {
                (self.was_in, self.refusals, self.failures) = (true, 0, 0);
                (State::InHardware, Outcome::Pushed)
            }
            Answer::Refused(why) => self.refused(why, now),
            Answer::Never(why) => (State::Gone, Outcome::GaveUp(why)),
            Answer::Exists | Answer::Failed(_) => (State::Unsure(now), Outcome::Nothing),
            Answer::Absent | Answer::NoDevice => (State::Gone, Outcome::GaveUp("no device".to_owned())),
        }
    }

    fn refused(&mut self, why: String, now: Instant) -> (State, Outcome) {
        self.refusals += 1;
        if self.refusals >= MAX_REFUSALS {
            (State::Gone, Outcome::GaveUp(why))
        } else {
            (State::Wanted(now + pause(self.refusals - 1)), Outcome::Refused(why))
        }
    }

    fn read(&mut self, answer: Answer, now: Instant) -> (State, Outcome) {
        match answer {
            Answer::Done if self.was_in => (State::InHardware, Outcome::Nothing),
            Answer::Done => {
                self.was_in = true;
                (State::InHardware, Outcome::Pushed)
            }
            Answer::Absent if self.was_in => (State::Gone, Outcome::Vanished),
            Answer::NoDevice => (State::Gone, Outcome::GaveUp("no device".to_owned())),
            // Another rule matches the same: one that is about to go.
            Answer::Absent | Answer::Exists => self.refused("a rule like it is there".to_owned(), now),
            Answer::Refused(_) | Answer::Never(_) | Answer::Failed(_) => {
                (State::Unsure(now + self.again()), Outcome::Nothing)
            }
        }
    }

    fn deleted(&mut self, answer: Answer, now: Instant) -> (State, Outcome) {
        match answer {
            Answer::Done | Answer::Absent | Answer::NoDevice => (State::Gone, Outcome::Gone),
            Answer::Exists => (State::Doomed(now + self.again()), Outcome::DeleteFailed(String::new())),
            Answer::Refused(why) | Answer::Never(why) | Answer::Failed(why) => {
                (State::Doomed(now + self.again()), Outcome::DeleteFailed(why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1000);

    fn after(events: &[Event]) -> (Progress, Vec<Outcome>) {
        let mut progress = Progress::wanted(NOW);
        let outcomes = events.iter().map(|event| progress.on(event.clone(), NOW)).collect();
        (progress, outcomes)
    }

    fn sent(n: u64) -> Event {
        Event::Sent(Ticket(n))
    }

    fn said(answer: Answer) -> Event {
        Event::Answered(answer)
    }

    #[test]
    fn a_rule_comes_and_goes() {
        let (progress, outcomes) =
            after(&[sent(1), said(Answer::Done), Event::Doom, sent(2), said(Answer::Done)]);
        assert!(progress.is_gone());
        use Outcome as O;
        assert_eq!(outcomes, [O::Nothing, O::Pushed, O::Nothing, O::Nothing, O::Gone]);
    }

    #[test]
    fn what_is_doomed_on_its_way_is_deleted_once_it_is_there() {
        let (progress, _) = after(&[sent(1), Event::Doom]);
        assert_eq!(progress.ticket(), Some(Ticket(1)));
        let (progress, _) = after(&[sent(1), Event::Doom, said(Answer::Done)]);
        assert_eq!(progress.state, State::Doomed(NOW));
        let (progress, _) = after(&[sent(1), Event::Doom, Event::Late]);
        assert_eq!(progress.state, State::Doomed(NOW));
        let (progress, outcomes) = after(&[sent(1), Event::Doom, said(Answer::Refused("full".into()))]);
        assert!(progress.is_gone());
        assert_eq!(outcomes[2], Outcome::Gone);
        assert!(after(&[Event::Doom]).0.is_gone());
    }

    #[test]
    fn a_push_without_answer_is_looked_for() {
        let lost = [sent(1), Event::Late, sent(2)];
        let (progress, _) = after(&lost);
        assert_eq!(progress.state, State::Reading(Ticket(2), NOW + ANSWER_TIME));
        let with = |answer| after(&[&lost[..], &[said(answer)]].concat()).0.state;
        assert_eq!(with(Answer::Done), State::InHardware);
        assert_eq!(with(Answer::Absent), State::Wanted(NOW + PAUSE));
        assert_eq!(with(Answer::NoDevice), State::Gone);
    }

    #[test]
    fn refusals_end() {
        let refusal = [sent(1), said(Answer::Refused("full".into()))];
        let refusals = vec![refusal; MAX_REFUSALS as usize].concat();
        let (progress, outcomes) = after(&refusals);
        assert!(progress.is_gone());
        assert_eq!(outcomes.last(), Some(&Outcome::GaveUp("full".into())));
        assert_eq!(outcomes[1], Outcome::Refused("full".into()));
    }

    #[test]
    fn deletions_are_repeated() {
        let begun = [sent(1), said(Answer::Done), Event::Doom, sent(2)];
        for (event, why) in [(said(Answer::Failed("busy".into())), "busy"), (Event::Late, "no answer")] {
            let (progress, outcomes) = after(&[&begun[..], &[event]].concat());
            assert_eq!(progress.state, State::Doomed(NOW + PAUSE));
            assert_eq!(outcomes[4], Outcome::DeleteFailed(why.into()));
        }
    }
}
