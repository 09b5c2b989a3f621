//! The OpenFlow connections of one bridge, sans I/O: who connects, which roles peers have, and what is done in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flow::time::Instant;
use openflow::header::Header;
use openflow::msg::hello::Versions;
use openflow::msg::role::{Role, RoleReason, RoleStatus};
use openflow::protocol::Protocols;

use super::handle::{Outside, Request};
use super::peer::Peer;
use super::rconn::{Rconn, Settings};
use super::vconn::{Kind, Vconn};
use crate::bridge::remote::{Connections, ControllerStatus, Remote, RemoteKind};
use crate::ofproto::Ofproto;

/// A connection's number, unlike that of any other.
pub type ConnId = u64;

/// A connection of a bridge, made or to be made.
pub struct Link {
    pub id: ConnId,
    /// The remote that it is of.
    pub target: String,
    pub rconn: Rconn,
    /// The peer, while connected.
    pub peer: Option<Box<Peer>>,
    /// Copies of all messages go to these connections.
    pub snoopers: Vec<(ConnId, Vconn)>,
    /// Whether something was sent since the last round.
    pub wrote: bool,
}

/// Something for the owner of sockets to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Connect to a target, for the connection of that number.
    Connect(ConnId, String),
    /// Listen at a target.
    Listen(String),
    /// Stop listening.
    Deafen(String),
}

/// Most requests that one connection gets done before the others have their turn.
const TURN: usize = 50;
/// Most answers that may wait to be sent before no more requests are taken.
const MAX_REPLIES: usize = 100;
/// Most listeners-in of one connection.
const MAX_SNOOPERS: usize = 8;

/// The connections of a bridge.
pub struct Manager {
    bridge: String,
    remotes: BTreeMap<String, Remote>,
    versions: Versions,
    pub links: Vec<Link>,
    /// The greatest election that a controller has claimed a role by.
    pub election: Option<u64>,
    pub wishes: Vec<Wish>,
    /// How long a bundle may stay as it is.
    pub bundle_idle: Duration,
    /// Whether there are controllers to work for, and whether the bridge is to forward by itself without.
    mode: (bool, bool),
}

impl Manager {
    /// No connections, yet.
    pub fn new(bridge: &str) -> Self {
        Self {
            bridge: bridge.to_owned(),
            remotes: BTreeMap::new(),
            versions: Versions::ALL,
            links: Vec::new(),
            election: None,
            wishes: Vec::new(),
            bundle_idle: super::handle::bundle::IDLE,
            mode: (false, false),
        }
    }

    /// Brings the connections in line with the configuration. `next_id` numbers new ones. Says whether what controllers
    /// did is to be undone, because controllers came or went.
    pub fn configure(&mut self, connections: &Connections, next_id: &mut ConnId, now: Instant) -> bool {
        let versions = match connections.versions.is_empty() {
            true => Versions::ALL,
            false => connections.versions.iter().copied().collect(),
        };
        let anew = std::mem::replace(&mut self.versions, versions) != versions;
        let wanted: BTreeSet<_> = connections.remotes.iter().map(|remote| remote.target.as_str()).collect();
        let gone: Vec<_> =
            self.remotes.keys().filter(|target| !wanted.contains(target.as_str())).cloned().collect();
        for target in gone {
            if let Some(remote) = self.remotes.remove(&target) {
                let kind = kind_name(remote.kind);
                tracing::info!(target: "connmgr", "{}: removed {kind} controller \"{target}\"", self.bridge);
            }
            self.drop_links(&target);
        }
        for remote in &connections.remotes {
            let target = &remote.target;
            if let Some(known) = self.remotes.get_mut(target) {
                *known = remote.clone();
                if anew {
                    tracing::info!(
                        target: "connmgr",
                        "{}: Changes to controller \"{target}\" expects re-initialization: Re-initializing now.",
                        self.bridge
                    );
                    self.drop_links(target);
                    self.begin(remote, next_id, now);
                } else {
                    self.update_links(remote, now);
                }
            } else {
                self.begin(remote, next_id, now);
            }
        }
        let controlled = self.remotes.values().any(|remote| remote.kind == RemoteKind::Primary);
        let (was_controlled, was_standalone) =
            std::mem::replace(&mut self.mode, (controlled, connections.standalone));
        controlled != was_controlled || !controlled && was_standalone != connections.standalone
    }

    fn drop_links(&mut self, target: &str) {
        self.links.retain(|link| link.target != target);
        if !is_active(target) {
            self.wishes.push(Wish::Deafen(target.to_owned()));
        }
    }

    fn update_links(&mut self, remote: &Remote, now: Instant) {
        let settings = self.settings(remote);
        for link in self.links.iter_mut().filter(|link| link.target == remote.target) {
            link.rconn.set(settings, now);
            if let Some(peer) = &mut link.peer {
                peer.set(remote, now);
            }
        }
    }

    fn settings(&self, remote: &Remote) -> Settings {
        Settings { versions: self.versions, max_backoff: remote.max_backoff, probe: remote.probe_interval }
    }

    fn begin(&mut self, remote: &Remote, next_id: &mut ConnId, now: Instant) {
        let target = &remote.target;
        if is_active(target) {
            let rconn = Rconn::active(format!("{}<->{target}", self.bridge), self.settings(remote), now);
            self.add_link(next_id, target, rconn);
        } else if is_passive(target) {
            self.wishes.push(Wish::Listen(target.clone()));
        } else {
            tracing::warn!(
                target: "connmgr", rl = "1,5",
                "{}: unsupported controller \"{target}\"", self.bridge
            );
            return;
        }
        self.remotes.insert(target.clone(), remote.clone());
        let kind = kind_name(remote.kind);
        tracing::info!(target: "connmgr", "{}: added {kind} controller \"{target}\"", self.bridge);
    }

    fn add_link(&mut self, next_id: &mut ConnId, target: &str, rconn: Rconn) -> ConnId {
        let id = *next_id;
        *next_id += 1;
        let target = target.to_owned();
        self.links.push(Link { id, target, rconn, peer: None, snoopers: Vec::new(), wrote: false });
        id
    }

    /// Takes a connection that a peer made to a listening target. Gives its number, unless the target is gone.
    pub fn accept(&mut self, target: &str, peer: &str, next_id: &mut ConnId, now: Instant) -> Option<ConnId> {
        let remote = self.remotes.get(target)?.clone();
        let name = format!("{}<->{peer}", self.bridge);
        let rconn = Rconn::accepted(name, peer.to_owned(), self.settings(&remote), now);
        let id = self.add_link(next_id, target, rconn);
        if let Some(link) = self.links.last_mut() {
            link.peer = Some(Box::new(Peer::new(&remote, now)));
        }
        Some(id)
    }

    /// Lets a connection listen in on a controller's: the one whose role is the greatest. Says whether there is one.
    pub fn snoop(&mut self, id: ConnId, vconn: Vconn) -> bool {
        let rank = |link: &&mut Link| match &link.peer {
            None => 0,
            Some(peer) => match peer.role {
                Role::Primary => 3,
                Role::Equal => 2,
                Role::Secondary | Role::NoChange => 1,
            },
        };
        let Some(link) = self.links.iter_mut().filter(|link| is_active(&link.target)).max_by_key(rank) else {
            tracing::info!(target: "connmgr", rl = "1,5", "no controller connection to snoop");
            return false;
        };
        let has_room = link.snoopers.len() < MAX_SNOOPERS;
        if has_room {
            tracing::info!(target: "rconn", "new monitor connection from {}", vconn.name());
            link.snoopers.push((id, vconn));
        } else {
            tracing::debug!(
                target: "rconn", "too many monitor connections, discarding {}", vconn.name()
            );
        }
        has_room
    }

    /// The connection of that number.
    pub fn link_mut(&mut self, id: ConnId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    /// Lets every connection do what is due. Gives when there is more, if nothing is received before: `now` if at
    /// once. `budget` is how many requests may still be done in this round.
    pub fn run(
        &mut self,
        switch: &mut Ofproto,
        outside: &mut dyn Outside,
        budget: &mut usize,
        now: Instant,
    ) -> Instant {
        let mut more = false;
        for index in 0..self.links.len() {
            more |= self.run_link(index, switch, outside, budget, now);
        }
        self.links.retain(|link| !link.rconn.is_over());
        let idle = self.bundle_idle;
        let next = self.links.iter().map(|link| link.deadline(idle)).fold(Instant::NEVER, Instant::min);
        if more { now } else { next }
    }

    fn run_link(
        &mut self,
        index: usize,
        switch: &mut Ofproto,
        outside: &mut dyn Outside,
        budget: &mut usize,
        now: Instant,
    ) -> bool {
        let link = &mut self.links[index];
        link.send_due_packet_ins(now);
        if std::mem::take(&mut link.wrote) {
            link.rconn.sent(now);
        }
        if link.rconn.run(now) {
            self.wishes.push(Wish::Connect(link.id, link.target.clone()));
        }
        let mut done = 0;
        let debug = outside.debug();
        let mut request = Request { manager: self, index, switch, outside, now, debug };
        loop {
            if !request.go_on() {
                return request.link().may_send();
            }
            if !request.link().may_receive() {
                break;
            }
            if done >= TURN || *budget == 0 {
                return true;
            }
            let Some(msg) = request.manager.receive(index, now) else { break };
            done += 1;
            *budget -= 1;
            request.take(msg);
        }
        request.look_after();
        self.end_link(index, now);
        false
    }

    /// The next message of a connection; sees to the peer's coming.
    fn receive(&mut self, index: usize, now: Instant) -> Option<Vec<u8>> {
        let link = &mut self.links[index];
        let msg = link.rconn.receive(now);
        if link.rconn.is_connected() {
            if link.peer.is_none()
                && let Some(remote) = self.remotes.get(&link.target)
            {
                link.peer = Some(Box::new(Peer::new(remote, now)));
            }
            if let (Some(peer), Some(version)) = (&mut link.peer, link.rconn.version())
                && peer.protocol.is_empty()
            {
                peer.protocol = Protocols::initial(version);
            }
        }
        if let Some(msg) = &msg {
            copy_to(&mut link.snoopers, msg);
        }
        msg
    }

    /// Forgets the peer of a connection that is no more.
    fn end_link(&mut self, index: usize, now: Instant) {
        let link = &mut self.links[index];
        let gone = link.rconn.is_over() || is_active(&link.target) && !link.rconn.is_connected();
        if gone
            && let Some(mut peer) = link.peer.take()
            && let Some(report) = peer.mods.report(now)
        {
            tracing::info!(target: "connmgr", "{}: {report}", link.rconn.name());
        }
    }

    /// Gives a role to a peer; there is at most one primary.
    pub fn set_role(&mut self, index: usize, role: Role) {
        let had = self.links[index].peer.as_ref().map(|peer| peer.role);
        if role == Role::Primary && had != Some(role) {
            let status = RoleStatus {
                role: Role::Secondary,
                reason: Some(RoleReason::PrimaryRequest),
                generation_id: self.election,
            };
            for link in &mut self.links {
                let Some(peer) = link.peer.as_mut().filter(|peer| peer.role == Role::Primary) else {
                    continue;
                };
                peer.role = Role::Secondary;
                if let Some(msg) = peer.version().and_then(|version| status.encode(version, 0)) {
                    link.send(msg, Kind::Plain);
                }
            }
        }
        if let Some(peer) = &mut self.links[index].peer {
            peer.role = role;
        }
    }

    /// Whether some peer wants packets that no flow matches.
    pub fn wants_misses(&self) -> bool {
        self.links.iter().filter_map(|link| link.peer.as_ref()).any(|peer| peer.wants_misses())
    }

    /// Whether a controller that the bridge works for is connected.
    pub fn is_controlled(&self) -> bool {
        let primary = |link: &&Link| link.peer.as_ref().is_some_and(|peer| peer.kind == RemoteKind::Primary);
        self.links.iter().any(|link| primary(&link) && link.rconn.is_connected())
    }

    /// Makes every connection end and be made again.
    pub fn reconnect(&mut self, now: Instant) {
        for index in 0..self.links.len() {
            self.links[index].rconn.reconnect(now);
            self.end_link(index, now);
        }
        self.links.retain(|link| !link.rconn.is_over());
    }

    /// How the controllers that are connected to fare.
    pub fn status(&self, now: Instant) -> BTreeMap<String, ControllerStatus> {
        let active = self.links.iter().filter(|link| is_active(&link.target));
        active
            .map(|link| {
                let role = link.peer.as_ref().map(|peer| match peer.role {
                    Role::Primary => "master",
                    Role::Secondary => "slave",
                    Role::Equal | Role::NoChange => "other",
                });
                let status = link.rconn.status(now);
                (link.target.clone(), ControllerStatus { connected: link.rconn.is_connected(), role, status })
            })
            .collect()
    }
}

impl Link {
    /// Queues a message.
    pub fn send(&mut self, msg: Vec<u8>, kind: Kind) {
        if self.rconn.is_connected() {
            copy_to(&mut self.snoopers, &msg);
        }
        self.rconn.send(msg, kind);
    }

    /// Whether requests are taken: not while too many answers wait.
    pub fn may_receive(&self) -> bool {
        self.may_send() && self.peer.as_ref().is_none_or(|peer| peer.dump.is_none())
    }

    /// Whether [`Manager::run`] has something to do now.
    pub fn is_ready(&self) -> bool {
        let Some(vconn) = &self.rconn.vconn else { return false };
        let Some(peer) = &self.peer else { return vconn.has_input() };
        let resumes = peer.monitors.paused.is_some() && vconn.backlog(Kind::Monitor).messages == 0;
        let dumps = peer.dump.is_some() && (self.may_send() || vconn.is_ended());
        self.may_receive() && vconn.has_input() || resumes || dumps
    }

    /// Whether there is room for more answers.
    pub fn may_send(&self) -> bool {
        self.rconn.vconn.as_ref().is_none_or(|vconn| vconn.backlog(Kind::Reply).messages < MAX_REPLIES)
    }

    /// How many messages wait to be sent, or for their turn to be.
    pub fn backlog(&self) -> usize {
        let queued = self.rconn.vconn.as_ref().map_or(0, Vconn::queued);
        let held = self.peer.iter().flat_map(|peer| peer.schedulers.iter().flatten());
        queued + held.map(|scheduler| scheduler.queued() as usize).sum::<usize>()
    }

    fn send_due_packet_ins(&mut self, now: Instant) {
        let Some(peer) = &mut self.peer else { return };
        let due: Vec<_> =
            peer.schedulers.iter_mut().flatten().flat_map(|scheduler| scheduler.run(now)).collect();
        due.into_iter().for_each(|msg| self.send_packet_in(msg));
    }

    /// Queues a packet-in that limits allow, if there is room.
    pub fn send_packet_in(&mut self, msg: Vec<u8>) {
        let (Some(peer), Some(vconn)) = (&self.peer, &self.rconn.vconn) else { return };
        if vconn.backlog(Kind::PacketIn).messages < peer.queue_size {
            self.send(msg, Kind::PacketIn);
        } else {
            tracing::info!(
                target: "connmgr", rate = 5, burst = 5,
                "{}: dropping packet-in due to queue overflow", self.rconn.name()
            );
        }
    }

    /// When there is something to do, if nothing is received and sent before.
    fn deadline(&self, bundle_idle: Duration) -> Instant {
        let mut next = self.rconn.deadline();
        if let Some(peer) = &self.peer {
            next = next.min(peer.assembler.deadline()).min(peer.mods.deadline());
            next = next.min(super::handle::bundle::deadline(&peer.bundles, bundle_idle));
            next = peer
                .schedulers
                .iter()
                .flatten()
                .map(|scheduler| scheduler.deadline())
                .fold(next, Instant::min);
        }
        next
    }
}

fn copy_to(snoopers: &mut [(ConnId, Vconn)], msg: &[u8]) {
    for (_, snooper) in snoopers {
        snooper.send(msg.to_vec(), Kind::Plain);
    }
}

fn kind_name(kind: RemoteKind) -> &'static str {
    match kind {
        RemoteKind::Primary => "primary",
        RemoteKind::Service => "service",
    }
}

/// Whether a target is one to connect to.
pub fn is_active(target: &str) -> bool {
    ["tcp:", "ssl:", "unix:"].iter().any(|scheme| target.starts_with(scheme))
}

/// Whether a target is one to listen at.
fn is_passive(target: &str) -> bool {
    ["ptcp:", "pssl:", "punix:"].iter().any(|scheme| target.starts_with(scheme))
}

/// What logs call the kind of a message.
pub fn message_name(msg: &[u8]) -> &'static str {
    Header::peek(msg).map_or("invalid", |header| header.raw.name())
}
