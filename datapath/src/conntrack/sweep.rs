//! Expiry: connections that are over are swept out, a slice at a time, by a thread of their own.

use super::conn::Dir;
use super::tracker::{SHARDS, Tracker};
use ::flow::time::{Clock, Instant};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// Slots looked at with a shard's lock held, and in one go.
const SLICE: usize = 512;
const MAX_SLOTS: usize = 1 << 18;
/// When the sweep goes on that did not get to the end.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a sweep is, and what it has done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sweep {
    shard: usize,
    slot: usize,
    /// Connections looked at, and ended.
    pub looked: usize,
    pub cleaned: usize,
}

impl Tracker {
    /// Takes out what is over at `now`, going on where `sweep` is, in up to `budget` slots. Whether all was looked at.
    pub fn sweep(&self, sweep: &mut Sweep, now: Instant, mut budget: usize) -> bool {
        while let Ok(shard) = u8::try_from(sweep.shard) {
            if budget == 0 {
                return false;
            }
            let slice = SLICE.min(budget);
            budget -= slice;
            let next = self.table(shard).sweep(sweep.slot, slice, |conn, dir| {
                sweep.looked += usize::from(dir == Dir::Orig);
                let over = !conn.is_live(now);
                if over {
                    sweep.cleaned += usize::from(dir == Dir::Orig);
                    self.kill(conn);
                }
                over
            });
            match next {
                Some(slot) => sweep.slot = slot,
                None => (sweep.shard, sweep.slot) = (sweep.shard + 1, 0),
            }
        }
        debug_assert_eq!(sweep.shard, SHARDS);
        true
    }
}

/// The thread that sweeps a tracker until it is dropped.
pub struct Cleaner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Cleaner {
    pub fn start(tracker: &Arc<Tracker>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, tracker) = (Arc::clone(&stop), Arc::clone(tracker));
        let thread =
            std::thread::Builder::new().name("ct_clean".to_owned()).spawn(move || run(&tracker, &theirs))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A sweep that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn run(tracker: &Tracker, stop: &AtomicBool) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let clock: &dyn Clock = &*tracker.clock;
    let mut sweep = Sweep::default();
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        let (looked, cleaned) = (sweep.looked, sweep.cleaned);
        let done = tracker.sweep(&mut sweep, now, MAX_SLOTS);
        tracing::debug!(
            target: "conntrack",
            "conntrack cleaned {} entries out of {} entries in {} msec",
            sweep.cleaned - cleaned, sweep.looked - looked, clock.now().since(now).as_millis()
        );
        let pause = if done {
            sweep = Sweep::default();
            Duration::from_millis(tracker.sweep_ms.load(Ordering::Relaxed).into())
        } else {
            PAUSE
        };
        let next = now + pause;
        clock.wait(next, &waker);
        while !stop.load(Ordering::Relaxed) && clock.now() < next {
            std::thread::park();
        }
    }
}
