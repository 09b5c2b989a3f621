//! Worker threads. The only place here where a thread waits, and where cycles are told apart into idle and busy.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use sys::cpu;
use sys::poll::{Bell, wait_or_broken, wait_readable};

use super::node::rx;
use super::ports::Port;
use super::worker::{Cell, Worker};
use crate::{Error, PmdId};

/// Rounds without a packet before the thread sleeps until a port has one.
const SPIN: u32 = 64;
/// Longest sleep; what rings no bell is seen after it.
const SLEEP: Duration = Duration::from_millis(100);
/// Longest sleep while a device is broken.
const BROKEN_SLEEP: Duration = Duration::from_millis(1);

/// A receive queue that a worker polls.
#[derive(Clone)]
pub struct Queue {
    pub port: Arc<Port>,
    pub queue: usize,
    /// Cycles spent on its packets.
    pub cycles: Arc<AtomicU64>,
}

/// A worker thread.
pub struct Pmd {
    pub cell: Arc<Cell>,
    pub core: u32,
    pub numa: u32,
    pub queues: ArcSwap<Vec<Queue>>,
    bell: Bell,
    stop: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Pmd {
    /// Starts a thread on `core`.
    pub fn start(worker: Worker, core: u32, numa: u32) -> Result<Arc<Self>, Error> {
        let pmd = Arc::new(Self {
            cell: Arc::new(Cell::new(worker)),
            core,
            numa,
            queues: ArcSwap::default(),
            bell: Bell::new()?,
            stop: AtomicBool::new(false),
            thread: Mutex::new(None),
        });
        let theirs = Arc::clone(&pmd);
        let thread =
            std::thread::Builder::new().name(format!("pmd-c{core:02}")).spawn(move || theirs.run())?;
        *pmd.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(pmd)
    }

    /// Who this is.
    pub fn id(&self) -> PmdId {
        PmdId(self.core)
    }

    /// Gives the thread other queues to poll.
    pub fn assign(&self, queues: Vec<Queue>) {
        self.queues.store(Arc::new(queues));
        self.bell.ring();
    }

    /// Ends the thread and waits for it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }

    fn run(&self) {
        if let Err(error) = cpu::bind(self.core) {
            tracing::debug!(target: "ovs_numa", "core {}: cannot bind ({error})", self.core);
        }
        let mut idle = 0;
        while !self.stop.load(Ordering::Acquire) {
            let queues = self.queues.load();
            match self.cell.with(|worker| poll(worker, &queues)) {
                Some(0) => idle += 1,
                Some(_) => idle = 0,
                None => std::thread::yield_now(),
            }
            if idle >= SPIN || queues.is_empty() {
                self.sleep(&queues);
                idle = 0;
            }
        }
    }

    /// Sleeps until there is something to do; not at all if a port cannot tell.
    fn sleep(&self, queues: &[Queue]) {
        let mut fds = vec![self.bell.as_raw_fd()];
        for queue in queues {
            match queue.port.io.readable(queue.queue) {
                Some(fd) => fds.push(fd),
                None => return std::thread::yield_now(),
            }
        }
        if !wait_or_broken(&fds, SLEEP).is_empty() {
            // A device that is gone stays readable for ever; only the bell can tell of anything better.
            wait_readable(&fds[..1], BROKEN_SLEEP);
        }
        self.bell.hear();
    }
}

/// Polls each queue once; how many packets there were.
pub fn poll(worker: &mut Worker, queues: &[Queue]) -> usize {
    let mut total = 0;
    worker.refresh();
    let mut began = cpu::tsc();
    for queue in queues {
        let mut vector = worker.vector();
        let n = rx::receive(worker, &queue.port, queue.queue, &mut vector);
        if n > 0 {
            worker.process(vector);
        } else {
            worker.recycle(vector);
        }
        let now = cpu::tsc();
        let cycles = now.wrapping_sub(began);
        if n > 0 {
            worker.stats.busy_cycles += cycles;
            queue.cycles.store(queue.cycles.load(Ordering::Relaxed) + cycles, Ordering::Relaxed);
        } else {
            worker.stats.idle_cycles += cycles;
        }
        (total, began) = (total + n, now);
    }
    total
}
