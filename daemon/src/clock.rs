//! Real, stopped and warped time.
//!
//! One [`SystemClock`] serves a process. Sleepers register a waker with a deadline; one thread, started at the first
//! sleep, wakes them when real time gets there, and a warp wakes them at once. While the clock is stopped only warps
//! move it, so that tests see time pass in steps that they choose.

use flow::time::{Clock, Instant, WallTime};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time as the process sees it.
#[derive(Clone, Default)]
pub struct SystemClock(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when an earlier deadline comes in.
    earlier: Condvar,
}

#[derive(Default)]
struct State {
    /// Where a stopped clock stands.
    stopped: Option<Instant>,
    /// How far warps have moved a running clock.
    offset: Duration,
    /// By the address of what their wakers wake.
    sleepers: HashMap<usize, (Instant, Waker)>,
    /// The sleepers by deadline.
    order: BTreeSet<(Instant, usize)>,
    has_thread: bool,
}

impl State {
    fn now(&self) -> Instant {
        self.stopped.unwrap_or_else(|| real_now() + self.offset)
    }

    fn wake_due(&mut self) {
        let now = self.now();
        while let Some(&(deadline, place)) = self.order.first()
            && deadline <= now
        {
            self.order.pop_first();
            if let Some((_, waker)) = self.sleepers.remove(&place) {
                waker.wake();
            }
        }
    }
}

fn real_now() -> Instant {
    Instant::from_nanos(sys::process::monotonic_nanos())
}

/// The machine's wall-clock time, whatever a test did to the monotonic one.
pub fn real_wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl SystemClock {
    /// A running clock.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Freezes the monotonic time where it is (`time/stop`).
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = Some(state.now());
    }

    /// Whether [`SystemClock::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped.is_some()
    }

    /// Moves the monotonic time ahead and wakes whoever waited for what has now come.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        match &mut state.stopped {
            Some(at) => *at = *at + by,
            None => state.offset += by,
        }
        state.wake_due();
    }

    /// Waits until `deadline`, as a future.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        sleep_until(Arc::new(self.clone()), deadline)
    }

    /// The thread that wakes sleepers when real time gets to their deadlines.
    fn serve(shared: &Shared) {
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            state.wake_due();
            let next = state.order.first().map_or(Instant::NEVER, |(deadline, _)| *deadline);
            state = if state.stopped.is_some() || next == Instant::NEVER {
                shared.earlier.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let left = next.since(state.now());
                shared.earlier.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        self.lock().now()
    }

    fn wall(&self) -> WallTime {
        real_wall()
    }

    fn wait(&self, deadline: Instant, waker: &Waker) {
        let mut state = self.lock();
        // What a waker points to is what tells tasks and threads apart.
        let place = waker.data().addr();
        if let Some((former, _)) = state.sleepers.get(&place) {
            let former = *former;
            if former == deadline {
                return;
            }
            state.order.remove(&(former, place));
            state.sleepers.remove(&place);
        }
        if deadline <= state.now() {
            waker.wake_by_ref();
            return;
        }
        if deadline == Instant::NEVER {
            return;
        }
        let is_first = state.order.first().is_none_or(|(first, _)| deadline < *first);
        state.order.insert((deadline, place));
        state.sleepers.insert(place, (deadline, waker.clone()));
        if !state.has_thread {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("clock".to_owned());
            state.has_thread = thread.spawn(move || Self::serve(&shared)).is_ok();
        }
        // The thread sleeps until the first deadline: waking it for a later one would be for nothing.
        if is_first {
            self.0.earlier.notify_one();
        }
    }
}

/// Completes when the clock reaches a deadline.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    clock: Arc<dyn Clock>,
    deadline: Instant,
}

/// Waits for `deadline` on any clock, as a future. Of the sleeps of one task the clock keeps the last one polled; a task
/// that waits for several deadlines computes the earliest.
pub fn sleep_until(clock: Arc<dyn Clock>, deadline: Instant) -> Sleep {
    Sleep { clock, deadline }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.deadline {
            return Poll::Ready(());
        }
        self.clock.wait(self.deadline, cx.waker());
        Poll::Pending
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker that unparks the calling thread: what a plain thread gives to [`Clock::wait`] before it parks.
pub fn thread_waker() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

/// A wall-clock time in UTC with milliseconds: `2026-11-21 19:52:41.123`.
pub fn utc_text(time: WallTime) -> String {
    let secs = i64::try_from(time.0 / 1000).unwrap_or(i64::MAX);
    let at = sys::process::civil(secs, true);
    let (date, clock) = ((at.year, at.month, at.day), (at.hour, at.minute, at.second));
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}",
        date.0,
        date.1,
        date.2,
        clock.0,
        clock.1,
        clock.2,
        time.0 % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_clock_moves_by_warps_alone() {
        let clock = SystemClock::new();
        clock.stop();
        let start = clock.now();
        std::thread::sleep(Duration::from_millis(3));
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now().since(start), Duration::from_secs(5));
    }

    #[test]
    fn a_warp_wakes_a_parked_thread() {
        let clock = SystemClock::new();
        clock.stop();
        let deadline = clock.now() + Duration::from_secs(1000);
        let sleeper = std::thread::spawn({
            let clock = clock.clone();
            move || {
                let waker = thread_waker();
                while clock.now() < deadline {
                    clock.wait(deadline, &waker);
                    std::thread::park();
                }
            }
        });
        clock.advance(Duration::from_secs(1000));
        sleeper.join().unwrap();
    }

    #[test]
    fn real_time_wakes_a_parked_thread() {
        let clock = SystemClock::new();
        let deadline = clock.now() + Duration::from_millis(5);
        let waker = thread_waker();
        while clock.now() < deadline {
            clock.wait(deadline, &waker);
            std::thread::park();
        }
    }
}
