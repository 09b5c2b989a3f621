//! Where rules are: the kernel, by pipelined requests, or a table in memory that stands for it in tests.

pub mod lanes;

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datapath::Error;
use datapath::linux::hook::{Hooks, User};
use datapath::linux::link;
use datapath::linux::rtnl::Rtnl;
use datapath::netlink::{Batch, Client, DumpState, Pool};
use flow::attr::AttrError;
use sys::errno::Errno;
use sys::netlink::NETLINK_ROUTE;

use lanes::{Lanes, Raw};

use crate::tc::action::{ActStats, Police, TcAction};
use crate::tc::filter::{self, Filter, Glance, Id};
use crate::tc::key::FlowerKey;
use crate::tc::{Hook, On, limit};

/// A request.
#[derive(Clone, Copy, Debug)]
pub enum Job<'a> {
    Put {
        id: Id,
        key: &'a FlowerKey,
        actions: &'a [TcAction],
        /// Of [`filter::cls`].
        flags: u32,
        /// In place of the rule of this name.
        replace: bool,
    },
    Del(Id),
    Get(Id),
}

/// What became of a request: for [`Job::Get`], with the rule.
pub type Done = Result<Option<Box<Filter>>, Error>;

/// Requests that are under way.
pub enum Begun {
    /// They are not any more.
    Done(Vec<Done>),
    /// Shares of them, that are as long as this, were handed to [`lanes`].
    Sent { lens: Vec<(usize, usize)>, from: Receiver<lanes::Share> },
}

/// Rules of devices. Any number of threads may ask.
pub trait Table: Send + Sync {
    /// Does all of `jobs` in order; one result each. Without jobs nobody is asked.
    fn submit(&self, jobs: &[Job<'_>]) -> Vec<Done>;

    /// Begins to do all of `jobs`.
    fn begin(&self, jobs: &[Job<'_>]) -> Begun {
        Begun::Done(self.submit(jobs))
    }

    /// Waits until the same jobs are done that were begun with; one result each.
    fn end(&self, begun: Begun, _jobs: &[Job<'_>]) -> Vec<Done> {
        match begun {
            Begun::Done(results) => results,
            Begun::Sent { lens, .. } => unanswered(lens.iter().map(|(_, len)| len).sum()),
        }
    }

    /// What was said when a rule was put that is in the kernel alone, if anything: why hardware did not take it.
    fn words(&self, _: &Id) -> Option<Box<str>> {
        None
    }

    /// Begins to tell the rules of a device.
    ///
    /// # Errors
    /// The kernel's: the device is gone.
    fn dump(&self, on: On, hook: Hook, terse: bool) -> Result<Box<dyn Rules>, Error>;

    /// Has a device take rules. Those that are there already stay.
    ///
    /// # Errors
    /// The kernel's: the device is gone, or takes none.
    fn attach(&self, ifindex: u32, hook: Hook) -> Result<(), Error>;

    /// The switch that a device is a port of, as hardware says; empty if it is none.
    fn switch(&self, _name: &str) -> Vec<u8> {
        Vec::new()
    }

    /// Makes a limit that rules with these flags can share, or gives it other parameters.
    ///
    /// # Errors
    /// The kernel's.
    fn limit(&self, police: &Police, rules: u32) -> Result<(), Error>;

    /// Removes a limit.
    ///
    /// # Errors
    /// The kernel's: rules have it.
    fn unlimit(&self, index: u32) -> Result<(), Error>;

    /// What a limit counted.
    ///
    /// # Errors
    /// The kernel's: there is none.
    fn limited(&self, index: u32) -> Result<ActStats, Error>;

    /// Takes all rules of a device. One that is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    fn detach(&self, ifindex: u32, hook: Hook) -> Result<(), Error>;
}

/// A walk over rules.
pub trait Rules: Send {
    /// Gives some rules to `each`; whether there may be more.
    ///
    /// # Errors
    /// The kernel's; the walk is over then.
    fn next(&mut self, each: &mut dyn FnMut(Filter)) -> Result<bool, Error>;

    /// Likewise with what a terse walk tells.
    ///
    /// # Errors
    /// As for [`Self::next`].
    fn glance(&mut self, each: &mut dyn FnMut(&Glance)) -> Result<bool, Error> {
        self.next(&mut |filter| each(&Glance::of(&filter)))
    }
}

/// The kernel's rules. Each thread that asks has a socket for itself meanwhile, and more than that for many requests ([`lanes`]).
pub struct Netlink {
    pool: Arc<Pool>,
    lanes: Lanes,
    hooks: Arc<Hooks>,
    /// What was said of rules that are there.
    words: Mutex<HashMap<Id, Box<str>>>,
}

/// Bytes of the longest request there is, about: all keys and a full list of actions.
const LONG: usize = 8 << 10;
/// Requests of one message to the kernel.
const FULL: usize = datapath::netlink::MAX_BATCH_BYTES / LONG * 4;
/// Requests for which another socket is worth its while.
const SHARE: usize = 8;

fn push(batch: &mut Batch, job: &Job<'_>) {
    match *job {
        Job::Put { ref id, key, actions, flags, replace } => {
            filter::push_put(batch, id, key, actions, flags, replace);
        }
        Job::Del(ref id) => filter::push_del(batch, id),
        Job::Get(ref id) => filter::push_get(batch, id),
    }
}

fn batch(jobs: &[Job<'_>]) -> Batch {
    let mut batch = Batch::default();
    jobs.iter().for_each(|job| push(&mut batch, job));
    batch
}

const fn id_of<'a>(job: &'a Job<'_>) -> &'a Id {
    let (Job::Put { id, .. } | Job::Del(id) | Job::Get(id)) = job;
    id
}

/// Where jobs can be cut so that those about one rule stay together: up to `most` of them, and no fewer than one.
fn cut(jobs: &[Job<'_>], most: usize) -> usize {
    let mut at = most.min(jobs.len());
    while at > 1 && at < jobs.len() && id_of(&jobs[at - 1]) == id_of(&jobs[at]) {
        at -= 1;
    }
    at
}

/// Jobs cut into pieces of up to `most`: where each begins, and how long it is.
fn pieces(jobs: &[Job<'_>], most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = cut(&jobs[at..], most);
        at += len;
        (len > 0).then_some((at - len, len))
    })
}

/// Jobs that are sent at a time: one message on each socket.
fn rounds(jobs: &[Job<'_>]) -> impl Iterator<Item = (usize, usize)> {
    pieces(jobs, FULL * (lanes::LANES + 1))
}

/// What each socket gets of a round.
fn shares<'a>(jobs: &'a [Job<'a>]) -> impl Iterator<Item = (usize, &'a [Job<'a>])> {
    let even = jobs.len().div_ceil(lanes::LANES + 1);
    pieces(jobs, even.clamp(SHARE, FULL)).map(|(at, len)| (at, &jobs[at..at + len]))
}

/// What becomes of requests of which nothing is heard.
fn unanswered(n: usize) -> Vec<Done> {
    (0..n).map(|_| Err(Errno::EIO.into())).collect()
}

/// What each socket gets of a round, written.
fn written(jobs: &[Job<'_>]) -> Vec<((usize, usize), Batch)> {
    shares(jobs).map(|(at, share)| ((at, share.len()), batch(share))).collect()
}

impl Netlink {
    /// Rules hang from what `hooks` own.
    pub fn new(hooks: Arc<Hooks>) -> Self {
        Self {
            pool: Arc::new(Pool::new(NETLINK_ROUTE)),
            lanes: Lanes::default(),
            hooks,
            words: Mutex::default(),
        }
    }

    /// Locks; nothing panics while the lock is held.
    fn all_words(&self) -> MutexGuard<'_, HashMap<Id, Box<str>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was said of a rule, and forgets what was said of the one before it.
    fn keep_words(&self, job: &Job<'_>, raw: &mut Raw) {
        let said = match raw {
            Raw::Warned(words) => Some(std::mem::take(words)),
            _ => None,
        };
        match (job, said) {
            (Job::Put { id, .. }, Some(words)) => {
                self.all_words().insert(*id, words);
            }
            (Job::Put { id, .. } | Job::Del(id), _) => {
                self.all_words().remove(id);
            }
            (Job::Get(_), _) => {}
        }
    }

    /// Deletes all rules of a device, priority by priority.
    fn clear(&self, ifindex: u32, hook: Hook) -> Result<(), Error> {
        let mut lots = BTreeSet::new();
        let mut rules = self.dump(On::Device(ifindex), hook, true)?;
        while rules.next(&mut |filter| lots.extend([Id { handle: 0, ..filter.id }]))? {}
        let jobs: Vec<_> = lots.into_iter().map(Job::Del).collect();
        let bad = |error: &Error| !matches!(error.errno(), Errno::ENOENT | Errno::EINVAL | Errno::ENODEV);
        self.submit(&jobs).into_iter().filter_map(Result::err).find(bad).map_or(Ok(()), Err)
    }

    /// Hands shares to lanes: where each begins, how long it is, and from where their results come.
    fn hand_out(
        &self,
        written: Vec<((usize, usize), Batch)>,
    ) -> (Vec<(usize, usize)>, Receiver<lanes::Share>) {
        let lens = written.iter().map(|(share, _)| *share).collect();
        (lens, self.lanes.submit(written.into_iter().map(|((at, _), batch)| (at, batch)).collect()))
    }

    /// Takes up what became of all shares that were handed out.
    fn collect(
        &self,
        jobs: &[Job<'_>],
        lens: &[(usize, usize)],
        from: &Receiver<lanes::Share>,
        results: &mut [Done],
    ) {
        for (at, done) in from {
            if let Some(share) = lens.iter().find(|share| share.0 == at) {
                self.settle(jobs, *share, done, results);
            }
        }
    }

    /// Takes up what became of a share of `jobs`.
    fn settle(
        &self,
        jobs: &[Job<'_>],
        (first, len): (usize, usize),
        done: Result<Vec<Raw>, Error>,
        results: &mut [Done],
    ) {
        match done {
            Err(error) => results[first..first + len].fill(Err(error)),
            Ok(raws) => {
                for (at, mut raw) in raws.into_iter().enumerate().map(|(n, raw)| (first + n, raw)) {
                    self.keep_words(&jobs[at], &mut raw);
                    results[at] = match raw {
                        Raw::Done | Raw::Warned(_) => Ok(None),
                        Raw::Told(filter) => Ok(filter),
                        Raw::Failed(error) => Err(error),
                        Raw::Unknown => self.read_back(&jobs[at]),
                    };
                }
            }
        }
    }

    /// Finds out what became of a request whose answer was lost.
    fn read_back(&self, job: &Job<'_>) -> Done {
        let mut batch = Batch::default();
        filter::push_get(&mut batch, id_of(job));
        let mut found: Done = Err(Errno::ENOBUFS.into());
        if let Some(raw) = self.pool.with(|client| lanes::send(client, &mut batch))?.pop() {
            found = match raw {
                Raw::Told(filter) => Ok(filter),
                Raw::Failed(error) => Err(error),
                Raw::Done | Raw::Warned(_) | Raw::Unknown => Err(Errno::ENOBUFS.into()),
            };
        }
        match (job, found) {
            (Job::Get(_), found) => found,
            (Job::Put { key, .. }, Ok(Some(there))) if there.key == **key => Ok(None),
            (Job::Del(_), Err(error)) if error.errno() == Errno::ENOENT => Ok(None),
            _ => Err(Errno::ENOBUFS.into()),
        }
    }
}

impl Table for Netlink {
    fn submit(&self, jobs: &[Job<'_>]) -> Vec<Done> {
        let mut results = unanswered(jobs.len());
        for (first, len) in rounds(jobs) {
            let jobs = &jobs[first..first + len];
            let results = &mut results[first..first + len];
            let mut written = written(jobs);
            let Some((own, mut batch)) = written.pop() else { continue };
            let (lens, from) = self.hand_out(written);
            let done = self.pool.with(|client| lanes::send(client, &mut batch));
            self.settle(jobs, own, done, results);
            self.collect(jobs, &lens, &from, results);
        }
        results
    }

    fn begin(&self, jobs: &[Job<'_>]) -> Begun {
        let mut rounds = rounds(jobs);
        if rounds.next().is_none() || rounds.next().is_some() {
            return Begun::Done(self.submit(jobs));
        }
        let (lens, from) = self.hand_out(written(jobs));
        Begun::Sent { lens, from }
    }

    fn end(&self, begun: Begun, jobs: &[Job<'_>]) -> Vec<Done> {
        match begun {
            Begun::Done(results) => results,
            Begun::Sent { lens, from } => {
                let mut results = unanswered(jobs.len());
                self.collect(jobs, &lens, &from, &mut results);
                results
            }
        }
    }

    fn words(&self, id: &Id) -> Option<Box<str>> {
        self.all_words().get(id).cloned()
    }

    fn dump(&self, on: On, hook: Hook, terse: bool) -> Result<Box<dyn Rules>, Error> {
        let mut client = self.pool.take()?;
        let head = filter::dump_header(on, hook);
        let state =
            client.dump_start(filter::RTM_GETTFILTER, &head, |attrs| filter::put_dump(attrs, terse))?;
        Ok(Box::new(Walk { pool: Arc::clone(&self.pool), client: Some(client), state }))
    }

    fn attach(&self, ifindex: u32, hook: Hook) -> Result<(), Error> {
        self.hooks.hold(&mut Rtnl::open()?, ifindex, User::Rules, hook).map(|_| ())
    }

    fn switch(&self, name: &str) -> Vec<u8> {
        let link = Rtnl::open().and_then(|mut rtnl| link::get(&mut rtnl, name));
        link.map(|link| link.switch).unwrap_or_default()
    }

    fn limit(&self, police: &Police, rules: u32) -> Result<(), Error> {
        limit::put(&mut Rtnl::open()?, police, rules)
    }

    fn unlimit(&self, index: u32) -> Result<(), Error> {
        limit::del(&mut Rtnl::open()?, index)
    }

    fn limited(&self, index: u32) -> Result<ActStats, Error> {
        limit::get(&mut Rtnl::open()?, index)
    }

    fn detach(&self, ifindex: u32, hook: Hook) -> Result<(), Error> {
        self.all_words().retain(|id, _| (id.on, id.hook) != (On::Device(ifindex), hook));
        if self.hooks.release(&mut Rtnl::open()?, ifindex, User::Rules, hook)? {
            return Ok(());
        }
        match self.clear(ifindex, hook) {
            Err(error) if error.errno() == Errno::ENODEV => Ok(()),
            cleared => cleared,
        }
    }
}

/// A walk over the kernel's rules.
struct Walk {
    pool: Arc<Pool>,
    client: Option<Client>,
    state: DumpState,
}

impl Walk {
    /// Gives some of what `read` reads to `each`; whether there may be more.
    fn read<T>(
        &mut self,
        read: impl Fn(&[u8]) -> Result<Option<T>, AttrError>,
        mut each: impl FnMut(T),
    ) -> Result<bool, Error> {
        let Some(client) = &mut self.client else { return Ok(false) };
        let more = client.dump_next(&mut self.state, |message| {
            if message.kind == filter::RTM_NEWTFILTER
                && let Some(rule) = read(message.payload)?
            {
                each(rule);
            }
            Ok(())
        });
        if !matches!(more, Ok(true)) {
            self.client.take().into_iter().for_each(|client| self.pool.give_back(client));
        }
        more
    }
}

impl Rules for Walk {
    fn next(&mut self, each: &mut dyn FnMut(Filter)) -> Result<bool, Error> {
        self.read(filter::decode, each)
    }

    fn glance(&mut self, each: &mut dyn FnMut(&Glance)) -> Result<bool, Error> {
        self.read(Glance::read, |glance| each(&glance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A request that no kernel grants: about the rule `handle` of a device that takes none, or of one that is not there.
    fn refused(handle: u32) -> Job<'static> {
        let ifindex = if handle.is_multiple_of(3) { 1 } else { i32::MAX as u32 };
        let on = On::Device(ifindex);
        Job::Get(Id { on, hook: Hook::Ingress, chain: 0, prio: 5, protocol: 0x800, handle })
    }

    fn errnos(done: &[Done]) -> Vec<Errno> {
        done.iter().map(|done| done.as_ref().unwrap_err().errno()).collect()
    }

    #[test]
    fn what_lanes_were_given_is_answered_in_order_and_by_lot() {
        let table = Netlink::new(Arc::default());
        let one_by_one = |lot: &[Job<'_>]| -> Vec<Done> {
            lot.iter().flat_map(|job| table.submit(std::slice::from_ref(job))).collect()
        };
        // None, one, what one socket takes, what all do, and what does so in two rounds.
        let lens = [0, 1, SHARE, FULL * 2 + 1, FULL * (lanes::LANES + 1) + 3];
        let mut jobs = (1..).map(refused);
        let lots = lens.map(|len| jobs.by_ref().take(len).collect::<Vec<_>>());
        let expected = lots.each_ref().map(|lot| errnos(&one_by_one(lot)));
        assert_eq!(lots.each_ref().map(|lot| errnos(&table.submit(lot))), expected);
        // Beside each other, the last that began first; nobody waits for one of them.
        let mut begun: Vec<_> = lots.iter().map(|lot| (lot, table.begin(lot))).collect();
        drop(table.begin(&lots[3]));
        for expected in expected.iter().rev() {
            let (lot, begun) = begun.pop().unwrap();
            assert_eq!(errnos(&table.end(begun, lot)), *expected);
        }
    }

    #[test]
    fn what_was_given_to_lanes_is_done_though_nobody_waits() {
        let lot: Vec<_> = (1..100).map(refused).collect();
        let table = Netlink::new(Arc::default());
        let Begun::Sent { lens, from } = table.begin(&lot) else { panic!("done already") };
        drop(table);
        let mut told: Vec<_> = from.iter().map(|(at, done)| (at, done.unwrap().len())).collect();
        told.sort_unstable();
        assert_eq!(told, lens);
    }

    proptest! {
        #[test]
        fn shares_are_all_jobs_in_order_and_keep_those_of_one_rule_together(
            runs in proptest::collection::vec(1..=2u32, 0..300),
        ) {
            let id = |handle| Id {
                on: On::Device(1), hook: Hook::Ingress, chain: 0, prio: 5, protocol: 0x800, handle,
            };
            let jobs: Vec<_> = (1..).zip(&runs)
                .flat_map(|(handle, times)| (0..*times).map(move |_| Job::Get(id(handle))))
                .collect();
            let mut seen = Vec::new();
            for (first, len) in rounds(&jobs) {
                prop_assert_eq!(first, seen.len());
                let round = &jobs[first..first + len];
                let mut last = None;
                let mut n = 0;
                for (at, share) in shares(round) {
                    prop_assert_eq!(first + at, seen.len());
                    prop_assert!(!share.is_empty() && share.len() <= FULL);
                    prop_assert!(last != Some(id_of(&share[0]).handle));
                    last = share.last().map(|job| id_of(job).handle);
                    seen.extend(share.iter().map(|job| id_of(job).handle));
                    n += 1;
                }
                prop_assert!(n <= lanes::LANES + 3);
            }
            let all: Vec<_> = jobs.iter().map(|job| id_of(job).handle).collect();
            prop_assert_eq!(seen, all);
        }
    }
}
