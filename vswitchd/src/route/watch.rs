//! The kernel's network as the main loop sees it: takes changes from the thread that listens, as many as a round may.

use std::task::Waker;
use std::time::Duration;

use datapath::linux::monitor::{Counts, Interest, Monitor};
use datapath::linux::state::{Change, LinkNews};
use datapath::netdev::Netdevs;

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
        Self { router: Router::default(), monitor: Some(monitor), links: Vec::new() }
    }

    /// Takes over changes. Whether there are more.
    pub fn run(&mut self) -> bool {
        for _ in 0..ROUND_BATCHES {
            let Some(batch) = self.monitor.as_ref().and_then(Monitor::take) else { return false };
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

    /// What the thread did.
    pub fn counts(&self) -> Counts {
        self.monitor.as_ref().map(Monitor::counts).unwrap_or_default()
    }
}
