//! Where each flow is, and if it is in software, why.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datapath::Error;
use datapath::flow::FlowStats;
use flow::id::{DpPort, Ufid};
use flow::time::Instant;

use crate::room::{self, Pace};
use crate::rule::Unsupported;
use crate::tc::action::ActStats;
use crate::tc::filter::Id;
use crate::tc::{Hook, On};

/// Why a flow is not in hardware.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Reason {
    /// Rules do not have what it takes.
    #[error("{0}")]
    Unsupported(#[from] Unsupported),
    /// Packets come in by a port that has no rules.
    #[error("port {0} has no rules")]
    Port(DpPort),
    /// Packets that rules do not send to a chain never come there.
    #[error("no rule leads to recirculation id {0:#x}")]
    Chain(u32),
    /// The kernel or its driver refused, in its own words if it had any.
    #[error("{}", refusal(.errno, .text))]
    Refused { errno: i32, text: String },
    #[error("no priority is left")]
    Priorities,
    /// It had a rule, and another flow has more packets.
    #[error("a busier flow has its room in hardware")]
    Displaced,
    /// The device was asked, and lacks something that the rule has.
    #[error("missing in hardware: {0}: {1}")]
    Lacks(&'static str, String),
    /// Its key is not one that we understand.
    #[error("{0}")]
    Key(String),
    /// It is not to be in hardware. This and what follows is of rules that the kernel has, and of flows that nobody tried.
    #[error("tc-policy is skip_hw")]
    Policy,
    /// Hardware refused, in its own words; the kernel took the rule.
    #[error("refused: {0}")]
    Declined(Box<str>),
    /// No hardware takes rules of that device. Rules of a tunnel device are never for hardware alone: the kernel refuses it
    /// of devices that are no NIC's own.
    #[error("no hardware takes rules of {0}")]
    NoHardware(String),
    /// Hardware has it not, and was not heard to say why: an earlier process asked.
    #[error("hardware did not say why")]
    Unsaid,
    #[error("its rule is about to take over")]
    Moving,
    #[error("it was there before flows were offloaded")]
    Before,
}

fn refusal(errno: &i32, text: &str) -> String {
    let errno = sys::errno::Errno(*errno);
    if text.is_empty() { format!("refused: {errno}") } else { format!("refused: {text} ({errno})") }
}

impl From<&Error> for Reason {
    fn from(error: &Error) -> Self {
        Self::Refused { errno: error.errno().0, text: error.detail().unwrap_or_default().to_owned() }
    }
}

impl Reason {
    /// Whether room was all that it lacked.
    pub fn is_no_room(&self) -> bool {
        use sys::errno::Errno;
        match self {
            Self::Displaced => true,
            Self::Refused { errno, .. } => matches!(Errno(*errno), Errno::ENOSPC | Errno::ENOMEM),
            _ => false,
        }
    }

    /// After how long what failed `tries` times may succeed.
    pub fn again_after(&self, tries: u32) -> Option<Duration> {
        use sys::errno::Errno;
        let may_pass = match self {
            Self::Chain(_) | Self::Displaced => true,
            // What a device cannot do it will not do later; what it has no room for, it may.
            Self::Refused { errno, .. } => !matches!(Errno(*errno), Errno::EOPNOTSUPP | Errno::EINVAL),
            Self::Unsupported(_) | Self::Port(_) | Self::Priorities | Self::Lacks(..) | Self::Key(_) => false,
            Self::Policy | Self::Declined(_) | Self::NoHardware(_) => false,
            Self::Unsaid | Self::Moving | Self::Before => false,
        };
        may_pass.then(|| room::FIRST_RETRY.saturating_mul(1 << tries.min(16)).min(room::LAST_RETRY))
    }
}

/// A flow that has a rule.
#[derive(Clone, Copy, Debug)]
pub struct Hard {
    pub id: Id,
    /// The chain that its rule leads to.
    pub goto: Option<u32>,
    /// The group that its rule samples to.
    pub group: Option<u32>,
    /// Its rule tells of an inner tag at which the flow does not look, as rules must of every tag that there is.
    pub loose: bool,
    /// Packets and bytes that were counted before the rule was there.
    pub base: (u64, u64),
    /// The greatest that was ever told.
    pub stats: FlowStats,
    /// Since when it has one.
    pub since: Instant,
    pub pace: Pace,
}

impl Hard {
    /// The chain of its device that its rule leads to.
    pub fn leads_to(&self) -> Option<(On, Hook, u32)> {
        self.goto.map(|chain| (self.id.on, self.id.hook, chain))
    }

    /// Takes up what the rule counted, and gives the flow's counters. Counters never go back: what hardware tells late or
    /// not at all leaves the flow as it was.
    pub fn count(&mut self, counted: &ActStats, now: Instant) -> FlowStats {
        let packets = self.base.0.saturating_add(counted.packets);
        let bytes = self.base.1.saturating_add(counted.bytes);
        let used = match counted.idle {
            Some(hundredths) if packets > 0 => {
                Some(now - Duration::from_millis(hundredths.saturating_mul(10)))
            }
            // Terse dumps do not say when; it was since the last one.
            None if packets > self.stats.packets => Some(now),
            _ => None,
        };
        let stats = &mut self.stats;
        stats.packets = stats.packets.max(packets);
        stats.bytes = stats.bytes.max(bytes);
        stats.used = stats.used.max(used);
        self.pace.see(stats.packets, now);
        *stats
    }
}

/// A flow that is in software.
#[derive(Clone, Debug)]
pub struct Soft {
    pub why: Reason,
    pub tries: u32,
    /// When to try again.
    pub again: Option<Instant>,
    /// Packets and bytes that its rule counted and nobody was told of.
    pub carried: (u64, u64),
    pub pace: Pace,
}

impl Soft {
    /// Whether its counters are looked at.
    fn is_followed(&self) -> bool {
        self.again.is_some() || self.carried != (0, 0)
    }
}

/// A flow that waits for hardware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    pub ufid: Ufid,
    pub tries: u32,
    /// Packets a second.
    pub rate: u64,
}

/// Where a flow is.
#[derive(Clone, Debug)]
pub enum Place {
    Hard(Hard),
    Soft(Soft),
}

const SHARDS: usize = 16;

type Shard = HashMap<Ufid, Place>;

/// Where flows are, by UFID.
#[derive(Default)]
pub struct Places {
    shards: [Mutex<Shard>; SHARDS],
    /// Flows in software whose counters are looked at.
    followed: AtomicUsize,
}

/// Locks; nothing panics while the lock is held.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first `most` by `order`, in that order.
fn first<T, K: Ord>(mut all: Vec<T>, most: usize, order: impl Fn(&T) -> K) -> Vec<T> {
    if all.len() > most && most > 0 {
        all.select_nth_unstable_by_key(most - 1, &order);
    }
    all.truncate(most);
    all.sort_by_key(order);
    all
}

impl Places {
    fn shard(&self, ufid: Ufid) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(ufid.0[15]) % SHARDS])
    }

    /// A place is taken or left.
    fn follow(&self, place: Option<&Place>, on: bool) {
        if matches!(place, Some(Place::Soft(soft)) if soft.is_followed()) {
            let add = if on { 1 } else { usize::MAX };
            self.followed.fetch_add(add, Ordering::Relaxed);
        }
    }

    /// Whether counters of flows in software are looked at.
    pub fn is_following(&self) -> bool {
        self.followed.load(Ordering::Relaxed) != 0
    }

    pub fn get(&self, ufid: Ufid) -> Option<Place> {
        self.shard(ufid).get(&ufid).cloned()
    }

    pub fn hard(&self, ufid: Ufid) -> Option<Hard> {
        match self.shard(ufid).get(&ufid) {
            Some(Place::Hard(hard)) => Some(*hard),
            _ => None,
        }
    }

    /// Why a flow is in the inner datapath.
    pub fn why(&self, ufid: Ufid) -> Reason {
        match self.shard(ufid).get(&ufid) {
            Some(Place::Soft(soft)) => soft.why.clone(),
            Some(Place::Hard(_)) => Reason::Moving,
            None => Reason::Before,
        }
    }

    pub fn insert(&self, ufid: Ufid, place: Place) -> Option<Place> {
        let mut shard = self.shard(ufid);
        self.follow(Some(&place), true);
        let old = shard.insert(ufid, place);
        self.follow(old.as_ref(), false);
        old
    }

    pub fn remove(&self, ufid: Ufid) -> Option<Place> {
        let mut shard = self.shard(ufid);
        let old = shard.remove(&ufid);
        self.follow(old.as_ref(), false);
        old
    }

    /// A flow with this rule is in software from now on; whether it still had it.
    pub fn displace(&self, ufid: Ufid, id: &Id, soft: Soft) -> bool {
        let mut shard = self.shard(ufid);
        let there = matches!(shard.get(&ufid), Some(Place::Hard(hard)) if hard.id == *id);
        if there {
            let place = Place::Soft(soft);
            self.follow(Some(&place), true);
            shard.insert(ufid, place);
        }
        there
    }

    /// A flow stays in software for this reason, and what is known of it remains.
    pub fn keep_why(&self, ufid: Ufid, why: Reason, tries: u32, again: Option<Instant>) {
        let mut shard = self.shard(ufid);
        let (carried, pace) = match shard.get(&ufid) {
            Some(Place::Soft(soft)) => (soft.carried, soft.pace),
            _ => Default::default(),
        };
        let place = Place::Soft(Soft { why, tries, again, carried, pace });
        self.follow(Some(&place), true);
        self.follow(shard.insert(ufid, place).as_ref(), false);
    }

    /// Adds what the rule that a flow in software had counted and did not tell, and takes up how many packets it has.
    pub fn see(&self, ufid: Ufid, stats: &mut FlowStats, now: Instant) {
        if let Some(Place::Soft(soft)) = self.shard(ufid).get_mut(&ufid)
            && soft.is_followed()
        {
            stats.packets += soft.carried.0;
            stats.bytes += soft.carried.1;
            soft.pace.see(stats.packets, now);
        }
    }

    /// What the rule that a flow in software had counted and did not tell.
    pub fn carried(&self, ufid: Ufid) -> (u64, u64) {
        match self.shard(ufid).get(&ufid) {
            Some(Place::Soft(soft)) => soft.carried,
            _ => (0, 0),
        }
    }

    /// Takes up what a flow's rule counted; `None` if the flow has none of that name.
    pub fn count(&self, ufid: Ufid, id: &Id, counted: &ActStats, now: Instant) -> Option<FlowStats> {
        match self.shard(ufid).get_mut(&ufid) {
            Some(Place::Hard(hard)) if hard.id == *id => Some(hard.count(counted, now)),
            _ => None,
        }
    }

    /// Forgets the flows of which `gone` says so, and gives them.
    pub fn take(&self, gone: impl Fn(&Place) -> bool) -> Vec<(Ufid, Place)> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = taken.len();
            taken.extend(shard.extract_if(|_, place| gone(place)));
            taken[before..].iter().for_each(|(_, place)| self.follow(Some(place), false));
        }
        taken
    }

    /// Of the flows in software of which `whether` says so those with the most packets, up to `most`.
    fn busiest(&self, most: usize, whether: impl Fn(&Soft) -> bool) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        for shard in &self.shards {
            waiting.extend(lock(shard).iter().filter_map(|(ufid, place)| match place {
                Place::Soft(soft) if whether(soft) => {
                    let rate = soft.pace.rate().unwrap_or_default();
                    Some(Waiting { ufid: *ufid, tries: soft.tries, rate })
                }
                _ => None,
            }));
        }
        first(waiting, most, |waiting| Reverse(waiting.rate))
    }

    /// Up to `most` flows whose time to be tried again has come, those with the most packets first.
    pub fn due(&self, now: Instant, most: usize) -> Vec<Waiting> {
        if !self.is_following() {
            return Vec::new();
        }
        self.busiest(most, |soft| soft.again.is_some_and(|again| again <= now))
    }

    /// Up to `most` flows that lack nothing but room, those with the most packets first.
    pub fn hottest(&self, most: usize) -> Vec<Waiting> {
        self.busiest(most, |soft| soft.why.is_no_room())
    }

    /// Up to `most` flows that have had a rule since `before` on which no others depend, those with the fewest packets first.
    pub fn coldest(&self, before: Instant, most: usize) -> Vec<(Ufid, u64, Hard)> {
        let mut cold = Vec::new();
        for shard in &self.shards {
            cold.extend(lock(shard).iter().filter_map(|(ufid, place)| match place {
                Place::Hard(hard) if hard.since <= before && hard.goto.is_none() && hard.id.chain == 0 => {
                    hard.pace.rate().map(|rate| (*ufid, rate, *hard))
                }
                _ => None,
            }));
        }
        first(cold, most, |(_, rate, _)| *rate)
    }

    /// How many flows have a rule.
    pub fn hard_count(&self) -> usize {
        let hard = |place: &&Place| matches!(place, Place::Hard(_));
        self.shards.iter().map(|shard| lock(shard).values().filter(hard).count()).sum()
    }

    /// Flows with a rule, and those in software by reason.
    pub fn tally(&self) -> (usize, BTreeMap<String, usize>) {
        let (mut hard, mut soft) = (0, BTreeMap::new());
        for shard in &self.shards {
            for place in lock(shard).values() {
                match place {
                    Place::Hard(_) => hard += 1,
                    Place::Soft(place) => *soft.entry(place.why.to_string()).or_default() += 1,
                }
            }
        }
        (hard, soft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hard() -> Hard {
        let id = Id { on: On::Device(1), hook: Hook::Ingress, chain: 0, prio: 5, protocol: 0x800, handle: 1 };
        let (stats, since, pace) = (FlowStats::default(), Instant::ZERO, Pace::default());
        Hard { id, goto: None, group: None, loose: false, base: (10, 1000), stats, since, pace }
    }

    fn counted(packets: u64, idle: Option<u64>) -> ActStats {
        ActStats { packets, bytes: packets * 100, idle, ..ActStats::default() }
    }

    #[test]
    fn counters_never_go_back() {
        let mut flow = hard();
        let at = |secs: u64| Instant::from_nanos(secs * 1_000_000_000);
        let told = flow.count(&counted(5, None), at(10));
        assert_eq!((told.packets, told.bytes, told.used), (15, 1500, Some(at(10))));
        // Late or lost: as it was.
        assert_eq!(flow.count(&counted(2, None), at(20)), told);
        assert_eq!(flow.count(&counted(5, None), at(30)), told);
        // Told exactly, a second ago.
        let told = flow.count(&counted(6, Some(100)), at(40));
        assert_eq!((told.packets, told.used), (16, Some(at(39))));
    }

    #[test]
    fn what_may_pass_is_tried_again_less_and_less_often() {
        let again = |reason: Reason, tries| reason.again_after(tries).map(|after| after.as_secs());
        let full = |errno: sys::errno::Errno| Reason::Refused { errno: errno.0, text: String::new() };
        let errno = sys::errno::Errno::ENOSPC;
        assert_eq!(
            [0, 1, 5, 6, 7, 99].map(|tries| again(full(errno), tries)),
            [1, 2, 32, 64, 64, 64].map(Some)
        );
        assert_eq!(again(full(sys::errno::Errno::EOPNOTSUPP), 0), None);
        assert_eq!(again(Reason::Port(DpPort(1)), 0), None);
        assert_eq!(again(Reason::Chain(7), 1), Some(2));
    }
}
