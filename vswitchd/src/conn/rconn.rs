//! The life of a connection with a peer: when it is made, probed, given up and made again. Sans I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::time::Instant;
use openflow::header::{Header, Type};
use openflow::msg::hello::{Versions, echo_request};
use openflow::version::Version;

use super::vconn::{End, Kind, Vconn};

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Waiting to be made again.
    Backoff,
    /// Being made, or agreeing on a version.
    Connecting,
    Active,
    /// Silent for long; probed.
    Idle,
    /// Over, and not to be made again.
    Disconnected,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Backoff => "BACKOFF",
            Self::Connecting => "CONNECTING",
            Self::Active => "ACTIVE",
            Self::Idle => "IDLE",
            Self::Disconnected => "DISCONNECTED",
        }
    }
}

/// How a connection is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Versions that may be spoken.
    pub versions: Versions,
    pub max_backoff: Duration,
    /// Silence after which the peer is probed; `None` for never.
    pub probe: Option<Duration>,
}

const SECOND: Duration = Duration::from_secs(1);
/// When a deadline is seen this much too late, we were not listening meanwhile: what the peer said may wait to be read.
const STALL: Duration = Duration::from_millis(100);
/// The shortest silence before a probe.
const LEAST_PROBE: Duration = Duration::from_secs(5);
/// After this long the peer must have accepted us.
const ADMISSION: Duration = Duration::from_secs(30);

/// A connection.
pub struct Rconn {
    /// What logs call it: `bridge<->target`.
    name: String,
    /// Whether it is made again when it breaks.
    reliable: bool,
    settings: Settings,
    state: State,
    entered: Instant,
    /// The state was given its time once more, because we came late ourselves.
    pardoned: bool,
    backoff: Duration,
    backoff_until: Instant,
    last_activity: Instant,
    connected_at: Option<Instant>,
    disconnected_at: Option<Instant>,
    last_error: Option<End>,
    /// Whether the peer seems to have accepted us.
    admitted: bool,
    pub vconn: Option<Vconn>,
    next_xid: u32,
}

impl Rconn {
    /// A connection that is to be made, at once.
    pub fn active(name: String, settings: Settings, now: Instant) -> Self {
        Self { backoff: Duration::ZERO, ..Self::new(name, true, settings, now) }
    }

    /// A connection that a peer made, called `vconn`.
    pub fn accepted(name: String, vconn: String, settings: Settings, now: Instant) -> Self {
        let mut this = Self::new(name, false, settings, now);
        this.vconn = Some(Vconn::new(vconn, settings.versions, this.next_xid));
        this.next_xid += 1;
        this.enter(State::Connecting, now);
        this
    }

    fn new(name: String, reliable: bool, settings: Settings, now: Instant) -> Self {
        Self {
            name,
            reliable,
            settings: Settings { probe: settings.probe.map(|probe| probe.max(LEAST_PROBE)), ..settings },
            state: State::Backoff,
            entered: now,
            pardoned: false,
            backoff: Duration::ZERO,
            backoff_until: Instant::ZERO,
            last_activity: now,
            connected_at: None,
            disconnected_at: None,
            last_error: None,
            admitted: false,
            vconn: None,
            next_xid: 1,
        }
    }

    /// What logs call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether messages can be sent and received.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Active | State::Idle)
    }

    /// Whether it will never be connected again.
    pub fn is_over(&self) -> bool {
        self.state == State::Disconnected
    }

    /// The version spoken.
    pub fn version(&self) -> Option<Version> {
        self.vconn.as_ref().and_then(Vconn::version)
    }

    /// Whether the peer seems to have accepted us.
    pub fn is_admitted(&self, now: Instant) -> bool {
        self.is_connected()
            && (self.admitted || self.connected_at.is_some_and(|since| now.since(since) >= ADMISSION))
    }

    /// Changes what may change while connected.
    pub fn set(&mut self, settings: Settings, now: Instant) {
        let probe = settings.probe.map(|probe| probe.max(LEAST_PROBE));
        let max_backoff = settings.max_backoff.max(SECOND);
        if self.state == State::Backoff && self.backoff > max_backoff {
            self.backoff = max_backoff;
            self.backoff_until = self.backoff_until.min(now + max_backoff);
        }
        self.settings = Settings { probe, max_backoff, ..settings };
    }

    fn enter(&mut self, state: State, now: Instant) {
        tracing::debug!(target: "rconn", "{}: entering {}", self.name, state.name());
        self.state = state;
        self.entered = now;
        self.pardoned = false;
    }

    fn logs_attempts(&self) -> bool {
        self.backoff < self.settings.max_backoff
    }

    /// When [`Self::run`] has something to do, if nothing is received.
    pub fn deadline(&self) -> Instant {
        let after = match self.state {
            State::Backoff => self.backoff,
            State::Connecting => self.backoff.max(SECOND),
            State::Active => match self.settings.probe {
                Some(probe) => return self.last_activity.max(self.entered) + probe,
                None => return Instant::NEVER,
            },
            State::Idle => match self.settings.probe {
                Some(probe) => probe,
                None => return Instant::NEVER,
            },
            State::Disconnected => return Instant::NEVER,
        };
        self.entered + after
    }

    /// Does what time asks for. Gives whether a stream is to be made now.
    pub fn run(&mut self, now: Instant) -> bool {
        if now < self.deadline() {
            return false;
        }
        let name = &self.name;
        match self.state {
            State::Backoff => {
                if self.logs_attempts() {
                    tracing::info!(target: "rconn", "{name}: connecting...");
                }
                self.backoff_until = now + self.backoff;
                self.enter(State::Connecting, now);
                return true;
            }
            State::Connecting if !self.pardoned && now.since(self.deadline()) >= STALL => {
                self.pardoned = true;
                self.entered = now;
            }
            State::Connecting => {
                if self.logs_attempts() {
                    tracing::info!(target: "rconn", "{name}: connection timed out");
                }
                self.backoff_until = Instant::NEVER;
                self.disconnect(Some(End::Failed("Connection timed out".to_owned())), now);
            }
            State::Active => self.probe(now),
            State::Idle => {
                let secs = now.since(self.entered).as_secs();
                tracing::error!(
                    target: "rconn",
                    "{name}: no response to inactivity probe after {secs} seconds, disconnecting"
                );
                self.disconnect(Some(End::Failed("Connection timed out".to_owned())), now);
            }
            State::Disconnected => {}
        }
        false
    }

    fn probe(&mut self, now: Instant) {
        let secs = now.since(self.last_activity.max(self.entered)).as_secs();
        tracing::debug!(target: "rconn", "{}: idle {secs} seconds, sending inactivity probe", self.name);
        self.enter(State::Idle, now);
        let xid = self.next_xid;
        self.next_xid = self.next_xid.wrapping_add(1);
        if let Some(version) = self.version() {
            self.send(echo_request(version, xid), Kind::Plain);
        }
    }

    /// Whether [`Self::run`] asked for a stream, and still wants it.
    pub fn awaits_stream(&self) -> bool {
        self.state == State::Connecting && self.vconn.is_none()
    }

    /// The stream that [`Self::run`] asked for is there; messages will go by `vconn`.
    pub fn connected(&mut self, vconn: String) {
        self.vconn = Some(Vconn::new(vconn, self.settings.versions, self.next_xid));
        self.next_xid = self.next_xid.wrapping_add(1);
    }

    /// The stream that [`Self::run`] asked for cannot be made; `at_once` if that was clear without waiting.
    pub fn refused(&mut self, error: &str, at_once: bool, now: Instant) {
        let name = &self.name;
        if at_once {
            tracing::warn!(target: "rconn", "{name}: connection failed ({error})");
            self.backoff_until = Instant::NEVER;
        } else if self.logs_attempts() {
            tracing::info!(target: "rconn", "{name}: connection failed ({error})");
        }
        self.disconnect(Some(End::Failed(error.to_owned())), now);
    }

    /// The next message. Also sees whether versions are agreed on, and whether the connection ended.
    pub fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !matches!(self.state, State::Connecting | State::Active | State::Idle) {
            return None;
        }
        let received = self.vconn.as_mut()?.receive();
        if self.state == State::Connecting {
            self.agree(&received, now);
        } else if let Err(end) = &received {
            self.report(end);
            self.disconnect(Some(end.clone()), now);
        }
        let msg = received.ok().flatten()?;
        let header = Header::peek(&msg);
        self.admitted |= header.is_ok_and(|header| is_admission(header.kind()));
        self.last_activity = now;
        if self.state == State::Idle {
            self.enter(State::Active, now);
        }
        Some(msg)
    }

    fn agree(&mut self, received: &Result<Option<Vec<u8>>, End>, now: Instant) {
        let name = &self.name;
        match received {
            Err(end) => {
                if self.logs_attempts() {
                    tracing::info!(target: "rconn", "{name}: connection failed ({})", end.text());
                }
                self.disconnect(Some(end.clone()), now);
            }
            Ok(_) if self.version().is_some() => {
                if self.reliable {
                    tracing::info!(target: "rconn", "{name}: connected");
                } else {
                    tracing::debug!(target: "rconn", "{name}: connected");
                }
                self.admitted = false;
                self.enter(State::Active, now);
                self.connected_at = Some(now);
            }
            Ok(_) => {}
        }
    }

    fn report(&self, end: &End) {
        let name = &self.name;
        match end {
            End::Closed if self.reliable => {
                tracing::info!(target: "rconn", "{name}: connection closed by peer");
            }
            End::Closed => tracing::debug!(target: "rconn", "{name}: connection closed by peer"),
            End::Failed(error) => tracing::warn!(target: "rconn", "{name}: connection dropped ({error})"),
        }
    }

    /// Queues a message, if there is a connection.
    pub fn send(&mut self, msg: Vec<u8>, kind: Kind) {
        if self.is_connected()
            && let Some(vconn) = &mut self.vconn
        {
            vconn.send(msg, kind);
        }
    }

    /// Notes that something was sent.
    pub fn sent(&mut self, now: Instant) {
        self.last_activity = now;
    }

    /// Ends the connection, to be made again at once.
    pub fn reconnect(&mut self, now: Instant) {
        if matches!(self.state, State::Connecting | State::Active | State::Idle) {
            tracing::info!(target: "rconn", "{}: disconnecting", self.name);
            self.disconnect(None, now);
        }
    }

    fn disconnect(&mut self, end: Option<End>, now: Instant) {
        self.last_error = end;
        self.vconn = None;
        if !self.reliable {
            self.disconnected_at = Some(now);
            self.enter(State::Disconnected, now);
            return;
        }
        if self.state != State::Backoff {
            self.disconnected_at = Some(now);
        }
        let name = &self.name;
        if now >= self.backoff_until {
            self.backoff = SECOND;
        } else if self.backoff < self.settings.max_backoff / 2 {
            self.backoff = (self.backoff * 2).max(SECOND);
            tracing::info!(
                target: "rconn",
                "{name}: waiting {} seconds before reconnect", self.backoff.as_secs()
            );
        } else {
            if self.logs_attempts() {
                tracing::info!(
                    target: "rconn",
                    "{name}: continuing to retry connections in the background but suppressing further logging"
                );
            }
            self.backoff = self.settings.max_backoff;
        }
        self.backoff_until = now + self.backoff;
        self.enter(State::Backoff, now);
    }

    /// How it fares, for the `status` column of the database.
    pub fn status(&self, now: Instant) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::new();
        pairs.insert("state".to_owned(), self.state.name().to_owned());
        if let Some(error) = &self.last_error {
            pairs.insert("last_error".to_owned(), error.text().to_owned());
        }
        let mut ago = |key: &str, at: Option<Instant>| {
            if let Some(at) = at {
                pairs.insert(key.to_owned(), now.since(at).as_secs().to_string());
            }
        };
        ago("sec_since_connect", self.connected_at);
        ago("sec_since_disconnect", self.disconnected_at);
        pairs
    }
}

/// Whether a message of that kind shows that the peer has accepted us: everything but what anybody is told.
fn is_admission(kind: Type) -> bool {
    !matches!(
        kind,
        Type::Hello
            | Type::Error
            | Type::EchoRequest
            | Type::EchoReply
            | Type::FeaturesRequest
            | Type::GetConfigRequest
            | Type::SetConfig
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::header::{Raw, bare};
    use openflow::msg::hello::Hello;

    const SETTINGS: Settings =
        Settings { versions: Versions::ALL, max_backoff: Duration::from_secs(8), probe: Some(LEAST_PROBE) };

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    fn greet(rconn: &mut Rconn, now: Instant) {
        rconn.vconn.as_mut().unwrap().feed(&Hello::encode(Versions::ALL, 1));
        assert_eq!(rconn.receive(now), None);
        assert!(rconn.is_connected());
    }

    #[test]
    fn a_controller_is_tried_again_with_longer_pauses() {
        let mut rconn = Rconn::active("br0<->tcp:1".into(), SETTINGS, at(100));
        let mut tried = Vec::new();
        for secs in 100..140 {
            if rconn.run(at(secs)) {
                tried.push(secs);
                rconn.refused("Connection refused", false, at(secs));
            }
        }
        assert_eq!(tried, [100, 101, 103, 107, 115, 123, 131, 139]);
        assert_eq!(rconn.status(at(140))["last_error"], "Connection refused");
    }

    #[test]
    fn silence_is_probed_and_then_ends_the_connection() {
        let mut rconn = Rconn::active("br0<->tcp:1".into(), SETTINGS, at(0));
        assert!(rconn.run(at(0)));
        rconn.connected("tcp:1".into());
        greet(&mut rconn, at(0));
        assert_eq!(rconn.deadline(), at(5));
        rconn.run(at(5));
        assert_eq!(rconn.status(at(5))["state"], "IDLE");
        let reply = openflow::msg::hello::echo_reply(Version::V15, &echo_request(Version::V15, 2));
        rconn.vconn.as_mut().unwrap().feed(&reply);
        assert_eq!(rconn.receive(at(6)), Some(reply));
        assert_eq!(rconn.status(at(6))["state"], "ACTIVE");
        rconn.run(at(11));
        rconn.run(at(16));
        assert!(!rconn.is_connected());
        assert_eq!(rconn.status(at(18))["sec_since_disconnect"], "2");
    }

    #[test]
    fn a_peer_does_not_pay_for_our_own_stall() {
        let accepted = || Rconn::accepted("br0<->unix#0".into(), "unix#0".into(), SETTINGS, at(0));
        let mut rconn = accepted();
        rconn.run(at(3));
        greet(&mut rconn, at(3));
        let mut rconn = accepted();
        rconn.run(at(3));
        rconn.run(at(4));
        assert!(rconn.is_over());
        let mut rconn = accepted();
        rconn.run(at(1));
        assert!(rconn.is_over());
    }

    #[test]
    fn an_accepted_connection_ends_once() {
        let mut rconn = Rconn::accepted("br0<->unix#0".into(), "unix#0".into(), SETTINGS, at(0));
        greet(&mut rconn, at(0));
        let vconn = rconn.vconn.as_mut().unwrap();
        let request = bare(Raw::Ofpt11BarrierRequest, Version::V15, 2);
        vconn.feed(&request);
        vconn.finish(End::Closed);
        assert_eq!(rconn.receive(at(0)), Some(request));
        assert!(rconn.is_admitted(at(0)));
        assert_eq!(rconn.receive(at(0)), None);
        assert!(rconn.is_over() && rconn.deadline() == Instant::NEVER);
    }
}
