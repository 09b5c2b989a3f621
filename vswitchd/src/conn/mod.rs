//! OpenFlow connections of bridges: controllers that a bridge connects to, and whoever connects to it.
//!
//! In the order to read it:
//!
//! * [`vconn`]: one connection over a stream of bytes; [`rconn`]: its life, over and over.
//! * [`peer`]: what is known of who is connected. [`manager`]: all connections of a bridge.
//! * [`assemble`]: requests in several parts. [`handle`]: requests, one family a file; [`outside`]: what they need besides
//!   the switch.
//! * [`notify`], [`packet_in`], [`monitor`]: what peers are told unasked; [`pinsched`]: limits on that.
//!
//! All of these are sans I/O. [`Conns`] has the sockets: [`Conns::ready`] moves bytes, [`Conns::run`] has them understood.

pub mod vconn;
pub mod rconn;
pub mod assemble;
pub mod pinsched;
pub mod peer;
pub mod manager;
pub mod monitor;
pub mod handle;
pub mod outside;
pub mod notify;
pub mod packet_in;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use daemon::stream::{Listener, Network, Stream};
use flow::time::Instant;
use openflow::msg::hello::Versions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::backer::{self, Backers};
use crate::bridge::remote::{Connections, ControllerStatus, Remote, RemoteKind};
use crate::bridge::{Bridge, Bridges};
use manager::{ConnId, Manager, Wish};
use outside::{DpMeters, Place};
use vconn::{End, Vconn};

/// Requests that one round handles.
const BUDGET: usize = 1000;
/// Input that waits to be understood; no more is read then, unless a message needs it.
const MAX_UNREAD: usize = 64 * 1024;
/// How much is read at once.
const READ: usize = 32 * 1024;
/// The port of OpenFlow, where a name gives none.
const PORT: u16 = daemon::stream::OPENFLOW_PORT;

/// A socket that listens.
enum Ear {
    Direct(Listener),
    /// A handshake takes time, so that a task accepts.
    Task(JoinHandle<()>),
}

impl Drop for Ear {
    fn drop(&mut self) {
        if let Self::Task(task) = self {
            task.abort();
        }
    }
}

/// Something that came from the network.
enum Arrival {
    /// A peer connected to the bridge at the target, or it could not.
    Accepted(String, String, io::Result<Stream>),
    /// The connection of that bridge is made, or cannot be.
    Connected(String, ConnId, io::Result<Stream>),
}

/// The connections of a bridge, with their sockets.
struct Plugged {
    manager: Manager,
    ears: BTreeMap<String, Ear>,
    streams: BTreeMap<ConnId, Stream>,
    /// The target at which listeners-in connect.
    snoop: String,
}

/// The OpenFlow connections of all bridges.
pub struct Conns {
    network: Network,
    plugged: BTreeMap<String, Plugged>,
    next_id: ConnId,
    /// Numbers peers that have no address.
    next_anonymous: u32,
    arrived: Vec<Arrival>,
    sender: mpsc::UnboundedSender<Arrival>,
    receiver: mpsc::UnboundedReceiver<Arrival>,
    /// The meters of each datapath type that are in use.
    meters: BTreeMap<String, BTreeSet<u32>>,
    /// Whether actions for debugging are accepted.
    pub debug: bool,
    /// Whether the database may name only Unix sockets of the run directory.
    pub confined: bool,
    /// How long a bundle may stay as it is.
    bundle_idle: Duration,
}

/// Whether a bridge may use this target. Who may write the database must not thereby reach any Unix socket of the
/// machine, or put a socket over any file: refused targets are told of.
fn is_safe(bridge: &str, target: &str, run_dir: &Path) -> bool {
    let dir = run_dir.display();
    let instead = format!(
        "or connect to \"unix:{dir}/{bridge}.mgmt\" (which is always available without special configuration)."
    );
    if target.starts_with("unix:") {
        let allowed = format!("unix:{dir}/");
        let safe = !target.contains('/') || target.starts_with(&allowed);
        if !safe {
            tracing::error!(
                target: "bridge", rl = "1,5",
                "bridge {bridge}: Not connecting to socket controller \"{target}\" due to possibility for remote \
                 exploit.  Instead, specify socket in permitted directory \"{allowed}\" {instead}"
            );
        }
        return safe;
    }
    if target.starts_with("punix:") {
        let allowed = format!("punix:{dir}/{bridge}.");
        let safe = target.strip_prefix(&allowed).is_some_and(|rest| !rest.contains('/'));
        if !safe {
            tracing::error!(
                target: "bridge", rl = "1,5",
                "bridge {bridge}: Not adding Unix domain socket controller \"{target}\" due to possibility of \
                 overwriting local files. Instead, specify path in permitted format \"{allowed}*\" {instead}"
            );
        }
        return safe;
    }
    true
}

impl Conns {
    /// No connections. Within a runtime.
    pub fn new(network: Network) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            network: Network { default_port: PORT, ..network },
            plugged: BTreeMap::new(),
            next_id: 1,
            next_anonymous: 0,
            arrived: Vec::new(),
            sender,
            receiver,
            meters: BTreeMap::new(),
            debug: false,
            confined: true,
            bundle_idle: handle::bundle::IDLE,
        }
    }

    /// Brings a bridge's connections in line with the configuration. What is to listen does when this returns.
    pub fn configure(&mut self, bridge: &mut Bridge, connections: &Connections, now: Instant) {
        let name = &bridge.name.clone();
        let socket = |kind| format!("punix:{}/{name}.{kind}", self.network.run_dir.display());
        let mut all = connections.clone();
        if self.confined {
            all.remotes.retain(|remote| is_safe(name, &remote.target, &self.network.run_dir));
        }
        all.remotes.insert(0, management(socket("mgmt"), connections.queue_size));
        let snoop = socket("snoop");
        let fresh = || Plugged {
            manager: Manager::new(name),
            ears: BTreeMap::new(),
            streams: BTreeMap::new(),
            snoop: snoop.clone(),
        };
        let plugged = self.plugged.entry(name.clone()).or_insert_with(fresh);
        plugged.manager.bundle_idle = self.bundle_idle;
        if plugged.manager.configure(&all, &mut self.next_id, now) {
            bridge.ofproto.flush();
            delete_meters(&mut self.meters, bridge);
        }
        if !plugged.ears.contains_key(&snoop) {
            plugged.manager.wishes.push(Wish::Listen(snoop));
        }
        self.grant(name, now);
        self.publish_wants(bridge);
    }

    /// Says how long a bundle may stay as it is before it is dropped; `None` for the default.
    pub fn set_bundle_idle(&mut self, idle: Option<Duration>) {
        self.bundle_idle = idle.unwrap_or(handle::bundle::IDLE);
        for plugged in self.plugged.values_mut() {
            plugged.manager.bundle_idle = self.bundle_idle;
        }
    }

    /// Ends a bridge's connections.
    pub fn disconnect(&mut self, bridge: &str) {
        self.plugged.remove(bridge);
    }

    /// Deletes all meters of a bridge.
    pub fn delete_meters(&mut self, bridge: &mut Bridge) {
        delete_meters(&mut self.meters, bridge);
    }

    /// How many connections there are, and how many messages wait in them.
    pub fn sizes(&self) -> (usize, usize) {
        let links = || self.plugged.values().flat_map(|plugged| &plugged.manager.links);
        (links().count(), links().map(manager::Link::backlog).sum())
    }

    /// Drops and makes anew the connections of a bridge, or of all (`bridge/reconnect`).
    pub fn reconnect(&mut self, bridge: Option<&str>, now: Instant) {
        for (name, plugged) in &mut self.plugged {
            if bridge.is_none_or(|bridge| bridge == name) {
                plugged.manager.reconnect(now);
            }
        }
    }

    /// How a bridge's controllers fare, by target.
    pub fn controllers(&self, bridge: &str, now: Instant) -> BTreeMap<String, ControllerStatus> {
        self.plugged.get(bridge).map(|plugged| plugged.manager.status(now)).unwrap_or_default()
    }

    /// Does for a bridge's connections what they cannot do by themselves.
    fn grant(&mut self, bridge: &str, now: Instant) {
        let Some(plugged) = self.plugged.get_mut(bridge) else { return };
        for wish in std::mem::take(&mut plugged.manager.wishes) {
            match wish {
                Wish::Deafen(target) => _ = plugged.ears.remove(&target),
                Wish::Listen(target) => match self.network.listen(&target) {
                    Ok(listener) => {
                        let ear = match target.starts_with("pssl:") {
                            true => Ear::Task(tokio::spawn(accept_all(
                                listener,
                                bridge.to_owned(),
                                target.clone(),
                                self.sender.clone(),
                            ))),
                            false => Ear::Direct(listener),
                        };
                        plugged.ears.insert(target, ear);
                    }
                    Err(error) => {
                        let text = daemon::error_text(&error);
                        tracing::error!(target: "connmgr", "failed to listen on {target}: {text}");
                    }
                },
                Wish::Connect(id, target) => {
                    let (network, sender, bridge) =
                        (self.network.clone(), self.sender.clone(), bridge.to_owned());
                    tokio::spawn(async move {
                        let stream = network.connect(&target).await;
                        // Nobody minds if the program ends meanwhile.
                        _ = sender.send(Arrival::Connected(bridge, id, stream));
                    });
                }
            }
        }
        let live: BTreeSet<_> = plugged
            .manager
            .links
            .iter()
            .flat_map(|link| {
                let own = link.rconn.vconn.as_ref().map(|_| link.id);
                own.into_iter().chain(link.snoopers.iter().map(|(id, _)| *id))
            })
            .collect();
        plugged.streams.retain(|id, _| live.contains(id));
        // A connection whose stream is gone for good is over.
        for link in &mut plugged.manager.links {
            if let Some(vconn) = link.rconn.vconn.as_mut().filter(|_| !plugged.streams.contains_key(&link.id))
            {
                vconn.finish(End::Failed("Connection reset by peer".to_owned()));
                _ = link.rconn.receive(now);
            }
        }
    }

    /// Moves bytes until there is something for [`Self::run`]. May be dropped at any time.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(Some(arrival)) = self.receiver.poll_recv(cx) {
            self.arrived.push(arrival);
        }
        let mut ready = false;
        for (bridge, plugged) in &mut self.plugged {
            for (target, ear) in &plugged.ears {
                if let Ear::Direct(listener) = ear {
                    while let Poll::Ready(accepted) = poll_accept(listener, cx) {
                        let failed = accepted.is_err();
                        self.arrived.push(Arrival::Accepted(bridge.clone(), target.clone(), accepted));
                        if failed {
                            break;
                        }
                    }
                }
            }
            ready |= plugged.poll(cx);
        }
        if ready || !self.arrived.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Has everything understood and answered that was received, and does what is due. Gives when to come again, if
    /// nothing is received before; no later than `now` if there is more at once.
    pub fn run(&mut self, bridges: &mut Bridges, backers: &Backers, now: Instant) -> Instant {
        for arrival in std::mem::take(&mut self.arrived) {
            self.welcome(arrival, now);
        }
        let (mut budget, mut next) = (BUDGET, Instant::NEVER);
        let names: Vec<_> = self.plugged.keys().cloned().collect();
        for name in names {
            let Some(bridge) = bridges.get_mut(&name) else { continue };
            let Some(plugged) = self.plugged.get_mut(&name) else { continue };
            let meters = self.meters.entry(bridge.kind.clone()).or_default();
            let backer = backers.0.get(&bridge.kind);
            let mut place = Place::new(bridge.id, &bridge.ports, &*bridge.datapath, backer, meters);
            place.debug = self.debug;
            let due = plugged.manager.run(&mut bridge.ofproto, &mut place, &mut budget, now);
            next = next.min(due);
            plugged.manager.tell(&mut bridge.ofproto, now);
            self.publish_wants(bridge);
            self.grant(&name, now);
        }
        next
    }

    /// Tells peers what happened in the switches.
    pub fn tell(&mut self, bridges: &mut Bridges, now: Instant) {
        for bridge in bridges.iter_mut() {
            if let Some(plugged) = self.plugged.get_mut(&bridge.name) {
                plugged.manager.tell(&mut bridge.ofproto, now);
            }
        }
    }

    /// Sends a packet to the controllers of its bridge.
    pub fn packet_in(&mut self, bridges: &mut Bridges, packet: &backer::PacketIn, now: Instant) {
        let Some(bridge) = bridges.by_id_mut(packet.bridge) else { return };
        if let Some(plugged) = self.plugged.get_mut(&bridge.name) {
            let _options = flow::tlv::enter(bridge.ofproto.tables().tlvs());
            plugged.manager.packet_in(packet, now);
        }
    }

    /// Tells translation what connections want.
    fn publish_wants(&self, bridge: &Bridge) {
        let Some(plugged) = self.plugged.get(&bridge.name) else { return };
        bridge.packet_in_on_miss.store(plugged.manager.wants_misses(), Ordering::Relaxed);
        bridge.controller_alive.store(plugged.manager.is_controlled(), Ordering::Relaxed);
    }

    fn welcome(&mut self, arrival: Arrival, now: Instant) {
        match arrival {
            Arrival::Accepted(_, _, Err(error)) => {
                let text = daemon::error_text(&error);
                tracing::warn!(target: "connmgr", rl = "1,5", "accept failed ({text})");
            }
            Arrival::Accepted(bridge, target, Ok(stream)) => {
                let peer = stream.peer().unwrap_or_else(|| {
                    self.next_anonymous += 1;
                    format!("unix#{}", self.next_anonymous - 1)
                });
                let Some(plugged) = self.plugged.get_mut(&bridge) else { return };
                let id = match target == plugged.snoop {
                    true => plugged.snoop(peer, &mut self.next_id),
                    false => plugged.manager.accept(&target, &peer, &mut self.next_id, now),
                };
                if let Some(id) = id {
                    plugged.streams.insert(id, stream);
                }
            }
            Arrival::Connected(bridge, id, result) => {
                let Some(plugged) = self.plugged.get_mut(&bridge) else { return };
                let Some(link) = plugged.manager.link_mut(id) else { return };
                match result {
                    Ok(stream) if link.rconn.awaits_stream() => {
                        let target = link.target.clone();
                        link.rconn.connected(target);
                        plugged.streams.insert(id, stream);
                    }
                    Err(error) if link.rconn.awaits_stream() => {
                        let at_once = link.target.starts_with("unix:");
                        link.rconn.refused(&daemon::error_text(&error), at_once, now);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The next peer that connects. (A future of it could not be dropped without losing the wake-up.)
fn poll_accept(listener: &Listener, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
    match listener {
        Listener::Unix { listener, .. } => {
            listener.poll_accept(cx).map(|accepted| Ok(Stream::Unix(accepted?.0)))
        }
        Listener::Tcp { listener, .. } => listener.poll_accept(cx).map(|accepted| {
            let (stream, _) = accepted?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }),
    }
}

/// Deletes all meters of a bridge; `used` are those of each type of datapath.
fn delete_meters(used: &mut BTreeMap<String, BTreeSet<u32>>, bridge: &mut Bridge) {
    let used = used.entry(bridge.kind.clone()).or_default();
    let mut meters = DpMeters::new(&*bridge.datapath, used);
    bridge.ofproto.delete_meters(openflow::msg::meter::ALL, &mut meters);
}

/// The socket by which `ovs-ofctl` talks with a bridge.
fn management(target: String, queue_size: usize) -> Remote {
    Remote {
        target,
        kind: RemoteKind::Service,
        max_backoff: Duration::ZERO,
        probe_interval: Some(Duration::from_secs(60)),
        in_band: false,
        async_messages: true,
        rate_limit: 0,
        burst_limit: 0,
        queue_size,
        dscp: 0,
    }
}

/// Accepts for as long as somebody wants to know.
async fn accept_all(
    listener: Listener,
    bridge: String,
    target: String,
    sender: mpsc::UnboundedSender<Arrival>,
) {
    loop {
        let accepted = listener.accept().await;
        if sender.send(Arrival::Accepted(bridge.clone(), target.clone(), accepted)).is_err() {
            return;
        }
    }
}

impl Plugged {
    /// Lets a connection listen in on a controller's.
    fn snoop(&mut self, peer: String, next_id: &mut ConnId) -> Option<ConnId> {
        let id = *next_id;
        *next_id += 1;
        self.manager.snoop(id, Vconn::new(peer, Versions::ALL, 1)).then_some(id)
    }

    /// Moves bytes; says whether something is to be understood.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ready = false;
        for link in &mut self.manager.links {
            if let (Some(vconn), Some(stream)) = (&mut link.rconn.vconn, self.streams.get_mut(&link.id)) {
                link.wrote |= poll_write(vconn, stream, cx);
                poll_read(vconn, stream, cx);
            }
            ready |= link.is_ready();
            link.snoopers.retain_mut(|(id, vconn)| {
                let Some(stream) = self.streams.get_mut(id) else { return false };
                poll_write(vconn, stream, cx);
                poll_read(vconn, stream, cx);
                // What a listener-in says does not matter.
                vconn.discard_input();
                !vconn.is_ended()
            });
        }
        ready
    }
}

/// Sends what can be sent; says whether anything was.
fn poll_write(vconn: &mut Vconn, stream: &mut Stream, cx: &mut Context<'_>) -> bool {
    let mut wrote = false;
    while !vconn.is_ended() && !vconn.output().is_empty() {
        match Pin::new(&mut *stream).poll_write(cx, vconn.output()) {
            Poll::Ready(Ok(n)) => {
                vconn.advance(n);
                wrote = true;
            }
            Poll::Ready(Err(error)) => vconn.finish(End::Failed(daemon::error_text(&error))),
            Poll::Pending => return wrote,
        }
    }
    if wrote {
        _ = Pin::new(stream).poll_flush(cx);
    }
    wrote
}

/// Receives what there is, unless enough waits already.
fn poll_read(vconn: &mut Vconn, stream: &mut Stream, cx: &mut Context<'_>) {
    while !vconn.is_ended() && (vconn.unread() < MAX_UNREAD || !vconn.has_input()) {
        let mut bytes = [0; READ];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return,
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => vconn.finish(End::Closed),
            Poll::Ready(Ok(())) => vconn.feed(buffer.filled()),
            Poll::Ready(Err(error)) => vconn.finish(End::Failed(daemon::error_text(&error))),
        }
    }
}
