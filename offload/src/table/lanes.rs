//! Requests on several sockets at a time. The kernel works on a socket's requests one after another and sleeps where the
//! device does; what is on other sockets goes on meanwhile.
//!
//! A lane is a thread with a socket of its own, for as long as the table lives. Whoever submits a lot keeps a share for itself.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use datapath::Error;
use datapath::netlink::{Batch, Client, Outcome};
use sys::errno::Errno;
use sys::netlink::NETLINK_ROUTE;

use crate::tc::filter::{self, Filter};

/// Lanes beside those who submit.
pub const LANES: usize = 7;

/// What became of a request.
pub enum Raw {
    Done,
    /// It was done, and these are the kernel's words.
    Warned(Box<str>),
    Told(Option<Box<Filter>>),
    Failed(Error),
    /// The answer was lost.
    Unknown,
}

/// What became of a share: the place of its first request, and each one's result.
pub type Share = (usize, Result<Vec<Raw>, Error>);

/// Requests on their way to a lane.
struct Work {
    at: usize,
    batch: Batch,
    to: Sender<Share>,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    ended: bool,
}

#[derive(Default)]
struct Road {
    queue: Mutex<Queue>,
    news: Condvar,
}

impl Road {
    /// Locks; nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next work; `None` at the end.
    fn next(&self) -> Option<Work> {
        let mut queue = self.lock();
        loop {
            if let Some(work) = queue.work.pop_front() {
                return Some(work);
            }
            if queue.ended {
                return None;
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The lanes. They are opened when they are needed first.
#[derive(Default)]
pub struct Lanes {
    road: Arc<Road>,
    threads: Mutex<Option<Vec<JoinHandle<()>>>>,
}

/// Sends a batch; what became of each request.
///
/// # Errors
/// Nothing was sent.
pub fn send(client: &mut Client, batch: &mut Batch) -> Result<Vec<Raw>, Error> {
    let mut raws: Vec<_> = (0..batch.len()).map(|_| Raw::Unknown).collect();
    client.transact_batch(batch, &mut |at, outcome| {
        let Some(raw) = raws.get_mut(at) else { return };
        *raw = match outcome {
            Outcome::Done => Raw::Done,
            Outcome::Warned(words) => Raw::Warned(words),
            Outcome::Reply(message) => match filter::decode(message.payload) {
                Ok(told) => Raw::Told(told.map(Box::new)),
                Err(error) => Raw::Failed(error.into()),
            },
            Outcome::Refused(refusal) => Raw::Failed(refusal.into()),
            Outcome::Unknown => Raw::Unknown,
        };
    })?;
    Ok(raws)
}

fn drive(road: &Road) {
    let mut client: Option<Client> = None;
    while let Some(Work { at, mut batch, to }) = road.next() {
        let done = match &mut client {
            Some(client) => send(client, &mut batch),
            none => match Client::open(NETLINK_ROUTE) {
                Ok(opened) => send(none.insert(opened), &mut batch),
                Err(errno) => Err(errno.into()),
            },
        };
        // Who submitted waits as long as there is an answer to wait for.
        let _ = to.send((at, done));
    }
}

impl Lanes {
    /// Lanes that run; fewer than [`LANES`] if there can be no more threads.
    fn open(&self) -> usize {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = threads.get_or_insert_with(|| {
            let lane = |number: usize| {
                let road = Arc::clone(&self.road);
                let thread = std::thread::Builder::new().name(format!("offload{}", number + 1));
                thread.spawn(move || drive(&road)).ok()
            };
            (0..LANES).map_while(lane).collect()
        });
        opened.len()
    }

    /// Hands shares to lanes; what they give back comes by the receiver, one for each.
    pub fn submit(&self, shares: Vec<(usize, Batch)>) -> Receiver<Share> {
        let (to, from) = channel();
        if self.open() == 0 {
            for (at, _) in shares {
                let _ = to.send((at, Err(Errno::EAGAIN.into())));
            }
            return from;
        }
        let work = shares.into_iter().map(|(at, batch)| Work { at, batch, to: to.clone() });
        self.road.lock().work.extend(work);
        self.road.news.notify_all();
        from
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.road.lock().ended = true;
        self.road.news.notify_all();
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        for thread in threads.into_iter().flatten() {
            let _ = thread.join();
        }
    }
}
