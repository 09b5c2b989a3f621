//! Controllers and other OpenFlow connections: rows of the `Controller` table, and the fail mode.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::id::{OfPort, TableId};
use flow::mini::FullMatch;
use flow::time::Instant;
use openflow::action::{OfAction, Output};
use openflow::version::Version;
use ovsdb::idl::{Idl, Record};

use super::{Bridge, Outside};

/// Whom a connection is with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemoteKind {
    /// A controller that the bridge works for.
    Primary,
    /// Whoever connects.
    Service,
}

/// One target to connect to or to listen on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remote {
    pub target: String,
    pub kind: RemoteKind,
    pub max_backoff: Duration,
    /// Silence after which the peer is probed; `None` for never.
    pub probe_interval: Option<Duration>,
    pub in_band: bool,
    /// Whether asynchronous messages are sent before the controller asks for them.
    pub async_messages: bool,
    /// Packet-ins a second that are sent on, and how many may come at once; 0 for no limit.
    pub rate_limit: u32,
    pub burst_limit: u32,
    /// Packet-ins that wait for a slow peer.
    pub queue_size: usize,
    pub dscp: u8,
}

/// A bridge's connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connections {
    /// Versions that may be spoken; empty for the default ones.
    pub versions: Vec<Version>,
    /// Controllers, and what listens besides `<bridge>.mgmt` and `<bridge>.snoop`, which every bridge has.
    pub remotes: Vec<Remote>,
    /// Queue of packet-ins of connections that nobody configured.
    pub queue_size: usize,
    /// Whether the bridge is to forward by itself while no controller is connected.
    pub standalone: bool,
}

/// How a controller fares: the status columns of `Controller`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ControllerStatus {
    pub connected: bool,
    /// `other`, `master` or `slave`.
    pub role: Option<&'static str>,
    pub status: BTreeMap<String, String>,
}

const DEFAULT_QUEUE: usize = 100;
const MAX_BACKOFF: Duration = Duration::from_secs(8);
const PROBE: Duration = Duration::from_secs(5);
/// CS6, for control traffic.
const DEFAULT_DSCP: u8 = 48;

impl Bridge {
    pub(super) fn configure_remotes(
        &mut self,
        idl: &Idl,
        row: Record<'_>,
        outside: &mut dyn Outside,
        now: Instant,
    ) {
        let mut connections = self.connections(idl, row);
        if outside.is_restoring() {
            connections.remotes.clear();
        }
        let alone =
            connections.standalone && !connections.remotes.iter().any(|r| r.kind == RemoteKind::Primary);
        self.fail_open.configure(&connections);
        outside.connect(self, &connections);
        if self.alone != Some(alone) {
            let first = self.alone.replace(alone).is_none();
            if !first || alone {
                self.ofproto.flush();
            }
            if alone {
                self.forward_alone(now);
            }
        }
    }

    /// Lets every packet take its normal way, as a bridge without controllers does.
    fn forward_alone(&mut self, now: Instant) {
        let normal = OfAction::Output(Output { port: OfPort::NORMAL, max_len: 0 });
        let added = self.ofproto.add_own_rule(TableId(0), &FullMatch::default(), 0, vec![normal], now);
        if let Err(error) = added {
            tracing::warn!(target: "bridge", "bridge {}: cannot forward by itself ({})", self.name, error.name());
        }
    }

    fn connections(&self, idl: &Idl, row: Record<'_>) -> Connections {
        let queue_size = queue_size(row.key("other_config", "controller-queue-size"));
        let standalone = row.str("fail_mode").is_none_or(|mode| mode == "standalone");
        let versions = row.get("protocols").strings().filter_map(Version::from_name).collect();
        let in_band = row.key("other_config", "disable-in-band") != Some("true");
        let mut remotes: Vec<Remote> = Vec::new();
        for controller in row.get("controller").uuids().filter_map(|uuid| idl.row("Controller", uuid)) {
            let remote = remote(controller, in_band, queue_size);
            if remotes.iter().any(|other| other.target == remote.target) {
                tracing::warn!(
                    target: "bridge", rl = "1,5",
                    "bridge {}: Duplicate controllers \"{}\".", self.name, remote.target
                );
            } else {
                remotes.push(remote);
            }
        }
        Connections { versions, remotes, queue_size, standalone }
    }
}

/// The length of a queue of packet-ins, from 1 to 512.
fn queue_size(text: Option<&str>) -> usize {
    text.and_then(|text| text.parse().ok()).filter(|size| (1..=512).contains(size)).unwrap_or(DEFAULT_QUEUE)
}

fn remote(row: Record<'_>, may_be_in_band: bool, bridge_queue: usize) -> Remote {
    let target = row.str("target").unwrap_or_default().to_owned();
    let kind = match row.str("type") {
        Some("primary") => RemoteKind::Primary,
        Some(_) => RemoteKind::Service,
        None if is_active(&target) => RemoteKind::Primary,
        None => RemoteKind::Service,
    };
    let millis = |column| row.integer(column).and_then(|ms| u64::try_from(ms).ok());
    let probe = match millis("inactivity_probe") {
        None => Some(PROBE),
        Some(0) => None,
        Some(ms) => Some(Duration::from_secs((ms / 1000).max(1))),
    };
    let limit = |column| row.integer(column).and_then(|limit| u32::try_from(limit).ok()).unwrap_or(0);
    let dscp = row.key("other_config", "dscp").and_then(|text| text.parse().ok());
    let own_queue = row.integer("controller_queue_size").and_then(|size| usize::try_from(size).ok());
    Remote {
        target,
        kind,
        max_backoff: millis("max_backoff").map_or(MAX_BACKOFF, |ms| Duration::from_secs(ms / 1000)),
        probe_interval: probe,
        in_band: may_be_in_band && row.str("connection_mode").is_none_or(|mode| mode == "in-band"),
        async_messages: row.bool("enable_async_messages") != Some(false),
        rate_limit: limit("controller_rate_limit"),
        burst_limit: limit("controller_burst_limit"),
        queue_size: own_queue.unwrap_or(bridge_queue),
        dscp: dscp.filter(|dscp| *dscp < 64).unwrap_or(DEFAULT_DSCP),
    }
}

/// Whether a target is one to connect to, not to listen on.
fn is_active(target: &str) -> bool {
    ["tcp:", "ssl:", "unix:"].iter().any(|scheme| target.starts_with(scheme))
}
