//! The threads that make passes: `revalidator1`, which leads, and helpers.
//!
//! The leader begins a pass when it is due, when something changed, or when somebody asks, and works on it with its helpers: all
//! meet before the dump, between dump and sweep, and after it. Nobody waits for them but a command that pauses them.
//! The leader sleeps by the injected clock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

use daemon::clock::thread_waker;

use super::pass::{Pass, Shown};
use super::{Flows, STEP, Settings};
use crate::backer::Backer;

/// What a thread does when a pass is over.
type Done = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Gate {
    paused: bool,
    /// A pass is under way.
    running: bool,
    /// Passes that ended.
    passes: u64,
    /// Who waits for the end of a pass, by its number among `passes`.
    waiting: Vec<(u64, Done)>,
}

/// The threads of one datapath; none until they are started.
#[derive(Default)]
pub struct Threads {
    gate: Mutex<Gate>,
    changed: Condvar,
    /// A pass shall begin whether it is due or not.
    asked: AtomicBool,
    /// The leader was woken and has not looked yet.
    woken: AtomicBool,
    leader: Mutex<Option<Thread>>,
    crew: Mutex<Vec<JoinHandle<()>>>,
    exit: Arc<AtomicBool>,
    count: AtomicUsize,
}

/// What a leader shares with its helpers.
struct Crew {
    meet: Barrier,
    /// `None` means that it is over.
    pass: Mutex<Option<Arc<Pass>>>,
    size: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crew {
    fn set(&self, pass: Option<Arc<Pass>>) {
        *lock(&self.pass) = pass;
    }

    fn pass(&self) -> Option<Arc<Pass>> {
        lock(&self.pass).clone()
    }

    /// One thread's part of a pass.
    fn work(&self, backer: &Backer, pass: &Pass, part: usize, shown: &mut Shown) {
        let flows = &backer.flows;
        while !flows.threads.exit.load(Ordering::Relaxed) && pass.step(flows, backer, shown, STEP) {}
        self.meet.wait();
        if !flows.threads.exit.load(Ordering::Relaxed) {
            pass.sweep(flows, backer, part, self.size);
        }
        self.meet.wait();
    }

    fn help(&self, backer: &Backer, part: usize) {
        let mut shown = Shown::default();
        loop {
            self.meet.wait();
            let Some(pass) = self.pass() else { return };
            self.work(backer, &pass, part, &mut shown);
        }
    }
}

impl Threads {
    /// How many threads there are; none where `main` makes the passes.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether `main` makes the passes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether passes were stopped.
    pub fn is_paused(&self) -> bool {
        lock(&self.gate).paused
    }

    /// Makes the leader look whether there is something to do.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Some(leader) = &*lock(&self.leader)
        {
            leader.unpark();
        }
    }

    /// Stops passes, and returns when none is under way; or lets them go on.
    pub fn pause(&self, paused: bool) {
        let mut gate = lock(&self.gate);
        gate.paused = paused;
        while paused && gate.running {
            gate = self.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        drop(gate);
        self.wake();
    }

    /// Has a pass made, and `done` called when one that begins from now on has ended.
    pub fn after_pass(&self, done: Done) {
        let mut gate = lock(&self.gate);
        let number = gate.passes + 1 + u64::from(gate.running);
        gate.waiting.push((number, done));
        drop(gate);
        self.asked.store(true, Ordering::Release);
        self.wake();
    }

    /// Starts `size` threads.
    pub fn start(&self, backer: &Arc<Backer>, size: usize) {
        self.exit.store(false, Ordering::Relaxed);
        let crew = Arc::new(Crew { meet: Barrier::new(size), pass: Mutex::new(None), size });
        let mut threads = lock(&self.crew);
        for part in 0..size {
            let (crew, backer) = (Arc::clone(&crew), Arc::clone(backer));
            let thread = std::thread::Builder::new().name(format!("revalidator{}", part + 1));
            let started = thread.spawn(move || match part {
                0 => lead(&backer, &crew),
                _ => crew.help(&backer, part),
            });
            match started {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    // A crew that is not whole would wait for ever.
                    tracing::error!(target: "ovs_thread", "failed to start a revalidator: {error}");
                    std::process::abort();
                }
            }
        }
        *lock(&self.leader) = threads.first().map(|thread| thread.thread().clone());
        self.count.store(size, Ordering::Relaxed);
    }

    /// Ends the threads; returns when they have ended.
    pub fn stop(&self) {
        self.exit.store(true, Ordering::Relaxed);
        self.woken.store(false, Ordering::Relaxed);
        self.wake();
        for thread in std::mem::take(&mut *lock(&self.crew)) {
            // One that panicked has said so.
            let _ = thread.join();
        }
        *lock(&self.leader) = None;
        self.count.store(0, Ordering::Relaxed);
    }

    /// Begins a pass unless passes are stopped.
    fn enter(&self) -> bool {
        let mut gate = lock(&self.gate);
        gate.running = !gate.paused;
        gate.running
    }

    /// Ends a pass, and calls who waited for it.
    fn leave(&self) {
        let mut gate = lock(&self.gate);
        gate.running = false;
        gate.passes += 1;
        let passes = gate.passes;
        let (due, rest) = std::mem::take(&mut gate.waiting).into_iter().partition(|(n, _)| *n <= passes);
        gate.waiting = rest;
        drop(gate);
        self.changed.notify_all();
        due.into_iter().for_each(|(_, done): (_, Done)| done());
    }
}

/// The leader's life.
fn lead(backer: &Backer, crew: &Crew) {
    let (flows, threads, clock) = (&backer.flows, &backer.flows.threads, &backer.clock);
    let (waker, mut shown) = (thread_waker(), Shown::default());
    while !threads.exit.load(Ordering::Relaxed) {
        threads.woken.store(false, Ordering::Release);
        let now = clock.now();
        backer.recirc.run(now);
        let due = flows.due(backer.seq(), now);
        let asked = threads.asked.load(Ordering::Acquire);
        if (asked || due <= now) && threads.enter() {
            threads.asked.store(false, Ordering::Release);
            let pass = Arc::new(Pass::begin(flows, backer, clock.now()));
            crew.set(Some(Arc::clone(&pass)));
            crew.meet.wait();
            crew.work(backer, &pass, 0, &mut shown);
            flows.finish(backer, &pass);
            threads.leave();
            continue;
        }
        let paused = threads.is_paused();
        if !paused {
            clock.wait(due, &waker);
        }
        std::thread::park();
    }
    crew.set(None);
    crew.meet.wait();
}

/// How many handlers and revalidators there are to be: as many as are asked for, else by the number of cores.
pub fn numbers(
    required: Option<usize>,
    handlers: Option<usize>,
    revalidators: Option<usize>,
) -> (usize, usize) {
    let cores = sys::cpu::cores().len().max(2);
    numbers_for(cores, required, handlers, revalidators)
}

fn numbers_for(
    cores: usize,
    required: Option<usize>,
    handlers: Option<usize>,
    revalidators: Option<usize>,
) -> (usize, usize) {
    if let Some(required) = required {
        let base = if required == 0 { cores } else { required };
        return (required, revalidators.unwrap_or(base / 4 + 1));
    }
    let revalidators = revalidators.unwrap_or_else(|| match handlers {
        Some(handlers) => cores.saturating_sub(handlers).max(1),
        None => cores / 4 + 1,
    });
    let handlers = handlers.unwrap_or_else(|| cores.saturating_sub(revalidators).max(1));
    (handlers, revalidators)
}

impl Flows {
    /// Has threads make passes, as many as the settings say; `main` need not any more.
    pub(crate) fn staff(&self, backer: &Arc<Backer>) {
        let Settings { handlers, revalidators, .. } = self.settings();
        let wishes = Some((handlers, revalidators));
        if std::mem::replace(&mut self.state().staffed, wishes) == wishes {
            return;
        }
        let required = backer.datapath.handlers_required();
        let (handlers, size) = numbers(required, handlers, revalidators);
        if self.threads.len() == size && self.state().handlers == handlers {
            return;
        }
        let verb = if required.is_some() { "Overriding" } else { "Setting" };
        tracing::info!(
            target: "ofproto_dpif_upcall",
            "{verb} n-handler-threads to {handlers}, setting n-revalidator-threads to {size}"
        );
        tracing::info!(target: "ofproto_dpif_upcall", "Starting {} threads", handlers + size);
        if let Err(error) = backer.datapath.set_handlers(handlers) {
            tracing::error!(
                target: "ofproto_dpif_upcall",
                "failed to configure handlers in dpif {}@{}: {error}", backer.kind(), backer.datapath.name()
            );
            return;
        }
        if !self.threads.is_empty() {
            self.threads.stop();
        }
        self.threads.start(backer, size);
        self.state().handlers = handlers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_by_cores_and_wishes() {
        assert_eq!(numbers_for(8, None, None, None), (5, 3));
        assert_eq!(numbers_for(8, None, Some(6), None), (6, 2));
        assert_eq!(numbers_for(8, None, None, Some(1)), (7, 1));
        assert_eq!(numbers_for(2, None, Some(9), None), (9, 1));
        assert_eq!(numbers_for(8, Some(4), Some(9), None), (4, 2));
        assert_eq!(numbers_for(8, Some(4), None, Some(7)), (4, 7));
    }
}
