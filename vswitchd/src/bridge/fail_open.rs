//! Failing open: a standalone bridge that has lost its controllers for long forwards by itself until one is back.

use std::sync::Arc;
use std::time::Duration;

use flow::id::TableId;
use flow::mini::FullMatch;
use flow::time::Instant;
use openflow::action::{OfAction, Output};

use super::remote::{Connections, RemoteKind};
use super::{Bridge, Bridges, Outside};
use crate::ofproto::Rule;

/// The priority of the rule that forwards: above every controller's.
const PRIORITY: i32 = 0x00f0_f0f0;
/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the log tells that nothing has changed.
const REMINDER: Duration = Duration::from_secs(60);

/// How a bridge stands to its controllers.
#[derive(Default)]
pub(super) struct FailOpen {
    /// How long without controllers; `None` if the bridge never fails open.
    patience: Option<Duration>,
    lonely_since: Option<Instant>,
    rule: Option<Arc<Rule>>,
    told: Instant,
}

impl FailOpen {
    /// Takes over who the controllers are: each must have had the time for a probe, an answer and a new connection.
    pub fn configure(&mut self, connections: &Connections) {
        let primary = connections.remotes.iter().filter(|remote| remote.kind == RemoteKind::Primary);
        let longest = primary.map(|remote| remote.probe_interval.unwrap_or_default()).max();
        self.patience = longest.filter(|_| connections.standalone).map(|probe| probe * 3);
        if self.patience.is_none() {
            self.lonely_since = None;
        }
    }
}

impl Bridges {
    /// Looks at every bridge's controllers; when to do so again.
    pub(super) fn run_fail_open(&mut self, outside: &dyn Outside, now: Instant) -> Instant {
        let mut any = false;
        for bridge in self.bridges.values_mut() {
            let watched = bridge.fail_open.patience.is_some();
            any |= watched;
            if watched || bridge.fail_open.rule.is_some() {
                let connected = outside.controllers(&bridge.name).values().any(|status| status.connected);
                bridge.run_fail_open(connected, now);
            }
        }
        if any { now + INTERVAL } else { Instant::NEVER }
    }
}

impl Bridge {
    fn run_fail_open(&mut self, connected: bool, now: Instant) {
        let Some(patience) = self.fail_open.patience.filter(|_| !connected) else {
            self.fail_open.lonely_since = None;
            if let Some(rule) = self.fail_open.rule.take() {
                tracing::warn!(target: "fail_open", "No longer in fail-open mode");
                self.ofproto.delete_own_rule(&rule);
            }
            return;
        };
        let since = *self.fail_open.lonely_since.get_or_insert(now);
        let lonely = now.since(since);
        let secs = lonely.as_secs();
        if secs == 0 || lonely < patience {
            return;
        }
        if self.fail_open.rule.is_none() {
            tracing::warn!(
                target: "fail_open",
                "Could not connect to controller (or switch failed controller's post-connection admission \
                 control policy) for {secs} seconds, failing open"
            );
            self.fail_open.told = now;
            self.ofproto.flush();
            let normal = OfAction::Output(Output { port: flow::id::OfPort::NORMAL, max_len: 0 });
            let everything = FullMatch::default();
            self.fail_open.rule =
                self.ofproto.add_own_rule(TableId(0), &everything, PRIORITY, vec![normal], now).ok();
        } else if now.since(self.fail_open.told) > REMINDER {
            self.fail_open.told = now;
            tracing::info!(
                target: "fail_open",
                "Still in fail-open mode after {secs} seconds disconnected from controller"
            );
        }
    }
}
