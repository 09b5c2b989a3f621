//! The thread that keeps [`State`] current, and the end of it that the main loop holds.
//!
//! The thread first listens, then lists: what changes while it lists is announced and applied after. When the kernel
//! says that it dropped announcements (`ENOBUFS`), those that are left are thrown away and everything is listed again; the
//! difference is what the main loop is told. Announcements come in bursts: the thread reads all there are before it hands anything over.
//!
//! What is handed over waits in a queue of [`QUEUE`] batches of up to [`BATCH`] changes. While that is full, changes stay
//! with the thread, where those to one object become one.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sys::errno::Errno;
use sys::netlink::{Mailbox, NETLINK_ROUTE, Socket};
use sys::poll::{Bell, wait_readable};

use super::rtnl::{Messages, Rtnl};
use super::state::{Change, State};
use super::{addr, link, route, rule};
use crate::Error;

/// Changes that are handed over at a time.
pub const BATCH: usize = 512;
/// Batches that wait for the main loop.
pub const QUEUE: usize = 16;
/// Datagrams taken with one system call.
const SLOTS: usize = 32;
/// Datagrams that are applied before changes are handed over.
const BURST: usize = 4096;
/// Bytes of announcements that may wait (`SO_RCVBUFFORCE`).
const RECEIVE_BUFFER: usize = 32 << 20;
/// Reading all routes again takes at most one part in this many of the thread's time.
const RELOAD_SHARE: u32 = 8;
/// The least time between two readings of all routes.
const RELOAD_PAUSE: Duration = Duration::from_millis(20);
/// Links that vanished and are remembered, in case they come back.
const MAX_VANISHED: usize = 1024;
/// How long the thread waits after an error that will not go away at once.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread and the main loop share.
#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// Told when `settled` is.
    settled: Condvar,
}

#[derive(Default)]
struct Inner {
    batches: VecDeque<Vec<Change>>,
    waker: Option<Waker>,
    /// How often the main loop asked the thread to catch up, and which of these is answered.
    asked: u64,
    answered: u64,
    stop: bool,
    counts: Counts,
    links: HashMap<Arc<str>, LinkVersion>,
    /// Links that vanished, longest ago first, [`MAX_VANISHED`] at most.
    vanished: VecDeque<Arc<str>>,
    clock: u64,
}

/// What a monitor tells of, beside links.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Interest {
    /// Routes, with addresses and rules.
    pub routes: bool,
}

/// What devices ask of their links.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LinkVersion {
    /// Changes whenever the link does; never 0.
    pub version: u64,
    /// How often it began or ceased to run since the thread is there.
    pub resets: u64,
    present: bool,
}

/// What the thread did, for `memory/show`-like commands and tests.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct Counts {
    /// Announcements read.
    pub announcements: u64,
    /// Times that the kernel dropped some.
    pub overruns: u64,
    /// Times that routes were listed.
    pub dumps: u64,
    /// Routes remembered.
    pub routes: u64,
    /// Routes beyond [`super::state::MAX_ROUTES`].
    pub refused: u64,
    /// Most batches that ever waited.
    pub longest_queue: u64,
}

impl Shared {
    /// Locks; a panic elsewhere while the lock was held leaves whole what is under it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The main loop's end. The thread ends with it.
pub struct Monitor {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// Tells devices, from any thread, when their links change; see [`Monitor::versions`].
#[derive(Clone)]
pub struct Versions(Arc<Shared>);

impl Versions {
    /// How things stand with a link; all zeroes for one that was never there.
    pub fn get(&self, name: &str) -> LinkVersion {
        self.0.lock().links.get(name).copied().unwrap_or_default()
    }
}

impl Monitor {
    /// Starts the thread, in the caller's network namespace.
    ///
    /// # Errors
    /// If there is no netlink, or no thread to be had.
    pub fn start(interest: Interest) -> Result<Self, Error> {
        let mut thread = Thread {
            events: Socket::open(NETLINK_ROUTE)?,
            mailbox: Mailbox::new(SLOTS),
            rtnl: Rtnl::open()?,
            state: State::new(),
            shared: Arc::new(Shared::default()),
            bell: Arc::new(Bell::new()?),
            reload_at: None,
            everything: true,
            interest,
        };
        thread.listen()?;
        let (shared, bell) = (Arc::clone(&thread.shared), Arc::clone(&thread.bell));
        let spawned = std::thread::Builder::new().name("netlink".to_owned()).spawn(move || thread.run());
        let thread = spawned.map_err(Errno::from)?;
        Ok(Self { shared, bell, thread: Some(thread) })
    }

    /// Registers what is woken when there are changes.
    pub fn wake_by(&self, waker: &Waker) {
        self.shared.lock().waker = Some(waker.clone());
    }

    /// The next changes, at most [`BATCH`] of them; `None` when there are none for now.
    pub fn take(&self) -> Option<Vec<Change>> {
        let mut inner = self.shared.lock();
        let was_full = inner.batches.len() >= QUEUE;
        let batch = inner.batches.pop_front();
        if was_full {
            self.bell.ring();
        }
        batch
    }

    /// Waits until the thread has read all that the kernel had announced when this was called, and handed it over as far as
    /// the queue has room, but no longer than `limit`. Whether it has.
    pub fn settle(&self, limit: Duration) -> bool {
        let mut inner = self.shared.lock();
        inner.asked += 1;
        let asked = inner.asked;
        self.bell.ring();
        let waited = self.shared.settled.wait_timeout_while(inner, limit, |inner| inner.answered < asked);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// For devices that want to know when their links change.
    pub fn versions(&self) -> Versions {
        Versions(Arc::clone(&self.shared))
    }

    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Thread {
    /// Announcements come here.
    events: Socket,
    mailbox: Mailbox,
    /// Requests go here.
    rtnl: Rtnl,
    state: State,
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    /// Before this, routes are not read again.
    reload_at: Option<Instant>,
    interest: Interest,
    /// Everything is to be listed: at the start, and after announcements were lost.
    everything: bool,
}

impl Thread {
    fn listen(&mut self) -> Result<(), Errno> {
        self.events.set_receive_buffer(RECEIVE_BUFFER);
        let mut groups = vec![link::RTNLGRP_LINK];
        if self.interest.routes {
            groups.extend([addr::RTNLGRP_IFADDR, route::RTNLGRP_ROUTE, rule::RTNLGRP_RULE].concat());
        }
        groups.into_iter().try_for_each(|group| self.events.join(group))
    }

    fn run(&mut self) {
        loop {
            let asked = {
                let inner = self.shared.lock();
                if inner.stop {
                    return;
                }
                inner.asked
            };
            // What came before this was asked is read now.
            let drained = self.read();
            let listed = self.list();
            self.hand_over();
            let idle = drained && listed.is_ok();
            if idle {
                self.answer(asked);
            }
            if let Err(error) = &listed {
                tracing::warn!(target: "netlink_socket", rl = "1,5", "listing routes failed ({error})");
            }
            let timeout = if !drained { Duration::ZERO } else { self.pause(listed.is_err()) };
            wait_readable(&[self.events.as_raw_fd(), self.bell.as_raw_fd()], timeout);
            self.bell.hear();
        }
    }

    /// How long there is nothing to do if nothing happens.
    fn pause(&self, failed: bool) -> Duration {
        if failed {
            return RETRY;
        }
        let due = self.reload_at.filter(|_| self.interest.routes && self.state.needs_routes());
        due.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()))
    }

    fn answer(&self, asked: u64) {
        let mut inner = self.shared.lock();
        if inner.answered < asked {
            inner.answered = asked;
            self.shared.settled.notify_all();
        }
    }

    /// Applies what the kernel announced, up to a burst. Whether that was all.
    fn read(&mut self) -> bool {
        let mut rules_moved = false;
        let mut read = 0;
        let drained = loop {
            match self.mailbox.receive(&self.events) {
                Ok(0) => break true,
                Ok(n) => {
                    read += n;
                    for message in
                        self.mailbox.iter().flat_map(|bytes| Messages::new(bytes).map_while(Result::ok))
                    {
                        rules_moved |= self.state.announce(&message);
                    }
                }
                Err(errno) => {
                    // Also for an announcement too long to be read: something was lost.
                    tracing::debug!(target: "netlink_notifier", "netlink receive buffer overflowed ({errno})");
                    self.shared.lock().counts.overruns += 1;
                    self.everything = true;
                    // The kernel drops announcements, and says so no more, until there is none left to read.
                    self.events.drain();
                    break true;
                }
            }
            if read >= BURST {
                break false;
            }
        };
        self.shared.lock().counts.announcements += read as u64;
        if rules_moved {
            match rule::list(&mut self.rtnl) {
                Ok(rules) => self.state.load_rules(rules),
                Err(_) => self.everything = true,
            }
        }
        drained
    }

    /// Lists what has to be listed again.
    fn list(&mut self) -> Result<(), Error> {
        if self.everything {
            self.state.load_links(&link::list(&mut self.rtnl)?);
            if !self.interest.routes {
                self.everything = false;
                return Ok(());
            }
            self.state.load_addresses(&addr::list(&mut self.rtnl)?);
            self.state.load_rules(rule::list(&mut self.rtnl)?);
            self.list_routes()?;
            self.everything = false;
            return Ok(());
        }
        if !self.interest.routes {
            return Ok(());
        }
        if self.state.needs_addresses() {
            self.state.load_addresses(&addr::list(&mut self.rtnl)?);
        }
        if self.state.needs_routes() && self.reload_at.is_none_or(|at| Instant::now() >= at) {
            self.list_routes()?;
        }
        Ok(())
    }

    fn list_routes(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        let mut all = Vec::new();
        for v6 in [false, true] {
            match self.rtnl.dump(route::RTM_GETROUTE, &route::dump_request(v6), &|_| {}, route::Route::decode)
            {
                Ok(routes) => all.extend(routes),
                // A kernel without this family.
                Err(error) if matches!(error.errno(), Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) => {}
                Err(error) => return Err(error),
            }
        }
        self.state.load_routes(all);
        self.shared.lock().counts.dumps += 1;
        let pause = (began.elapsed() * RELOAD_SHARE).max(RELOAD_PAUSE);
        self.reload_at = Some(Instant::now() + pause);
        Ok(())
    }

    /// Gives the main loop as much as it has room for.
    fn hand_over(&mut self) {
        let mut woken = None;
        while self.state.has_changes() {
            if self.shared.lock().batches.len() >= QUEUE {
                break;
            }
            let batch = self.state.take(BATCH);
            if batch.is_empty() {
                continue;
            }
            let mut inner = self.shared.lock();
            for change in &batch {
                inner.note(change);
            }
            inner.batches.push_back(batch);
            inner.counts.longest_queue = inner.counts.longest_queue.max(inner.batches.len() as u64);
            woken = inner.waker.clone();
        }
        {
            let mut inner = self.shared.lock();
            inner.counts.routes = self.state.len() as u64;
            inner.counts.refused = self.state.refused;
        }
        if let Some(waker) = woken {
            waker.wake();
        }
    }
}

impl Inner {
    fn note(&mut self, change: &Change) {
        let Change::Link(news) = change else { return };
        self.clock += 1;
        let link = self.links.entry(Arc::clone(&news.name)).or_default();
        link.version = self.clock;
        link.resets += u64::from(news.resets);
        if std::mem::replace(&mut link.present, news.index.is_some()) && news.index.is_none() {
            self.vanished.push_back(Arc::clone(&news.name));
        }
        while self.vanished.len() > MAX_VANISHED
            && let Some(name) = self.vanished.pop_front()
        {
            self.links.extract_if(|other, link| *other == name && !link.present).count();
        }
    }
}
