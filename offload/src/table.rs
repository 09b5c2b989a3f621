//! Where rules are: the kernel, by pipelined requests, or a table in memory that stands for it in tests.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use datapath::Error;
use datapath::linux::hook::{Hooks, User};
use datapath::linux::rtnl::Rtnl;
use datapath::netlink::{Batch, Client, DumpState, Outcome, Pool};
use sys::errno::Errno;
use sys::netlink::NETLINK_ROUTE;

use crate::tc::action::{ActStats, Police, TcAction};
use crate::tc::filter::{self, Filter, Id};
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

/// Rules of devices. Any number of threads may ask.
pub trait Table: Send + Sync {
    /// Does all of `jobs` in order; one result each.
    fn submit(&self, jobs: &[Job<'_>]) -> Vec<Done>;

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

    /// Makes a limit that rules can share, or gives it other parameters.
    ///
    /// # Errors
    /// The kernel's.
    fn limit(&self, police: &Police) -> Result<(), Error>;

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
}

/// The kernel's rules. Each thread that asks has a socket for itself meanwhile.
pub struct Netlink {
    pool: Arc<Pool>,
    hooks: Arc<Hooks>,
}

/// Bytes of the longest request there is, about: all keys and a full list of actions.
const LONG: usize = 8 << 10;

fn push(batch: &mut Batch, job: &Job<'_>) {
    match *job {
        Job::Put { ref id, key, actions, flags, replace } => {
            filter::push_put(batch, id, key, actions, flags, replace);
        }
        Job::Del(ref id) => filter::push_del(batch, id),
        Job::Get(ref id) => filter::push_get(batch, id),
    }
}

fn read(payload: &[u8]) -> Done {
    Ok(filter::decode(payload)?.map(Box::new))
}

impl Netlink {
    /// Rules hang from what `hooks` own.
    pub fn new(hooks: Arc<Hooks>) -> Self {
        Self { pool: Arc::new(Pool::new(NETLINK_ROUTE)), hooks }
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

    fn send(client: &mut Client, jobs: &[Job<'_>], results: &mut Vec<Done>) {
        let mut batch = Batch::default();
        let first = results.len();
        jobs.iter().for_each(|job| push(&mut batch, job));
        results.resize_with(first + jobs.len(), || Err(Errno::EIO.into()));
        let mut unknown = VecDeque::new();
        let sent = client.transact_batch(&mut batch, &mut |at, outcome| {
            let Some(result) = results.get_mut(first + at) else { return };
            *result = match outcome {
                Outcome::Done => Ok(None),
                Outcome::Reply(message) => read(message.payload),
                Outcome::Refused(refusal) => Err(refusal.into()),
                Outcome::Unknown => {
                    unknown.push_back(at);
                    Err(Errno::ENOBUFS.into())
                }
            };
        });
        if let Err(error) = sent {
            results[first..].fill(Err(error));
            return;
        }
        for at in unknown {
            results[first + at] = Self::read_back(client, &jobs[at]);
        }
    }

    /// Finds out what became of a request whose answer was lost.
    fn read_back(client: &mut Client, job: &Job<'_>) -> Done {
        let (Job::Put { id, .. } | Job::Del(id) | Job::Get(id)) = job;
        let mut batch = Batch::default();
        filter::push_get(&mut batch, id);
        let mut found: Done = Err(Errno::ENOBUFS.into());
        client.transact_batch(&mut batch, &mut |_, outcome| {
            found = match outcome {
                Outcome::Reply(message) => read(message.payload),
                Outcome::Refused(refusal) => Err(refusal.into()),
                Outcome::Done | Outcome::Unknown => Err(Errno::ENOBUFS.into()),
            };
        })?;
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
        let mut results = Vec::with_capacity(jobs.len());
        // What fits in one message to the kernel, if each were as long as can be.
        for jobs in jobs.chunks(datapath::netlink::MAX_BATCH_BYTES / LONG * 4) {
            match self.pool.take() {
                Ok(mut client) => {
                    Self::send(&mut client, jobs, &mut results);
                    self.pool.give_back(client);
                }
                Err(errno) => results.extend(jobs.iter().map(|_| Err(errno.into()))),
            }
        }
        results
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

    fn limit(&self, police: &Police) -> Result<(), Error> {
        limit::put(&mut Rtnl::open()?, police)
    }

    fn unlimit(&self, index: u32) -> Result<(), Error> {
        limit::del(&mut Rtnl::open()?, index)
    }

    fn limited(&self, index: u32) -> Result<ActStats, Error> {
        limit::get(&mut Rtnl::open()?, index)
    }

    fn detach(&self, ifindex: u32, hook: Hook) -> Result<(), Error> {
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

impl Rules for Walk {
    fn next(&mut self, each: &mut dyn FnMut(Filter)) -> Result<bool, Error> {
        let Some(client) = &mut self.client else { return Ok(false) };
        let more = client.dump_next(&mut self.state, &mut |message| {
            if message.kind == filter::RTM_NEWTFILTER
                && let Some(filter) = filter::decode(message.payload)?
            {
                each(filter);
            }
            Ok(())
        });
        if !matches!(more, Ok(true)) {
            self.client.take().into_iter().for_each(|client| self.pool.give_back(client));
        }
        more
    }
}
