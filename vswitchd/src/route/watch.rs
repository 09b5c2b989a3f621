//! The kernel's network as the main loop sees it: takes changes from the thread that listens, as many as a round may.

use std::fmt;
use std::task::Waker;
use std::time::Duration;

use datapath::linux::monitor::{BATCH, Counts, Interest, Monitor, QUEUE};
use datapath::linux::state::{Change, LinkNews};
use datapath::netdev::Netdevs;
use serde::Serialize;

use super::Router;

/// Batches of changes ([`datapath::linux::monitor::BATCH`] each) that one round takes: some 2 000 routes, a few
/// milliseconds.
pub const ROUND_BATCHES: usize = 4;
/// How long a command waits for what the kernel announced before it.
const SETTLE: Duration = Duration::from_millis(20);

/// The kernel's network.
#[derive(Default)]
pub struct Watch {
    pub router: Router,
    /// `None` where there is no netlink.
    monitor: Option<Monitor>,
    /// Links that changed or vanished.
    links: Vec<LinkNews>,
    largest_round: u64,
}

/// How the kernel's network is followed, for `netlink/show`.
#[derive(Serialize)]
pub struct Shown {
    #[serde(flatten)]
    thread: Counts,
    /// Most changes that one round of the main loop took over.
    largest_round: u64,
    /// Most that one round may.
    round_limit: u64,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, largest_round, round_limit } = self;
        let Counts { announcements, overruns, dumps, routes, refused, longest_queue } = thread;
        writeln!(f, "announcements:{announcements} overruns:{overruns} dumps:{dumps}")?;
        writeln!(f, "routes:{routes} refused:{refused}")?;
        writeln!(f, "queue:{longest_queue} of {QUEUE} batches of {BATCH}")?;
        writeln!(f, "round:{largest_round} of {round_limit} changes")
    }
}

impl Watch {
    /// Begins to listen, for links, and for routes if `routes`. `waker` is rung when something changed; devices opened from
    /// now on ask the thread whether they did.
    pub fn start(routes: bool, netdevs: &Netdevs, waker: &Waker) -> Self {
        let monitor = match Monitor::start(Interest { routes }) {
            Ok(monitor) => monitor,
            Err(error) => {
                tracing::warn!(target: "netlink_notifier", "the kernel's links and routes are not known ({error})");
                return Self::default();
            }
        };
        monitor.wake_by(waker);
        netdevs.watch_links(monitor.versions());
        Self { monitor: Some(monitor), ..Self::default() }
    }

    /// Takes over changes. Whether there are more.
    pub fn run(&mut self) -> bool {
        let mut taken = 0;
        for _ in 0..ROUND_BATCHES {
            let Some(batch) = self.monitor.as_ref().and_then(Monitor::take) else { return false };
            taken += batch.len() as u64;
            self.largest_round = self.largest_round.max(taken);
            for change in batch {
                match change {
                    Change::Link(news) => self.links.push(news),
                    change => self.router.apply(change),
                }
            }
        }
        true
    }

    /// Takes over what the kernel announced before this, as far as that takes little time.
    pub fn settle(&mut self) {
        if self.monitor.as_ref().is_some_and(|monitor| monitor.settle(SETTLE)) {
            self.run();
        }
    }

    /// Links that changed since this was last asked.
    pub fn take_links(&mut self) -> Vec<LinkNews> {
        std::mem::take(&mut self.links)
    }

    /// What was done so far.
    pub fn show(&self) -> Shown {
        Shown {
            thread: self.monitor.as_ref().map(Monitor::counts).unwrap_or_default(),
            largest_round: self.largest_round,
            round_limit: (ROUND_BATCHES * BATCH) as u64,
        }
    }
}
