//! When to connect, to probe and to give up: the state machine of every long-lived connection.
//!
//! The owner tells what happened (`connecting`, `connected`, `disconnected`, …), and [`Reconnect::run`] says what to do
//! next. A connection that fails is tried again after a back-off that doubles from the least to the greatest; one that is
//! silent for a probe interval is probed, and dropped if it stays silent for another.
//!
//! ```text
//! Void ─enable─▶ Backoff ─run─▶ Connecting ─connected─▶ Active ─silence─▶ Idle
//!                  ▲  └──────▶ Listening ─────────────▶  │ ◀──activity───┘ │
//!                  └──────────────── disconnected ───────┴─────────────────┘
//! ```

use flow::time::Instant;
use std::time::Duration;

/// Back-off of the first failure.
pub const MIN_BACKOFF: Duration = Duration::from_millis(1000);
/// Back-off at most.
pub const MAX_BACKOFF: Duration = Duration::from_millis(8000);
/// Silence before a probe.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(5000);

/// What the owner should do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Connect (or listen), then tell of it.
    Connect,
    /// Drop the connection or the attempt, then tell of it.
    Disconnect,
    /// Send something that the peer must answer.
    Probe,
}

/// Where the machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Disabled.
    Void,
    /// Waiting to connect.
    Backoff,
    /// The system is connecting.
    Connecting,
    /// Connected; the peer was heard lately.
    Active,
    /// Connected; a probe is out.
    Idle,
    /// Should drop the connection.
    Reconnect,
    /// Waiting for the peer to connect.
    Listening,
}

impl State {
    /// As OVS and the `Controller` table name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Void => "VOID",
            Self::Backoff => "BACKOFF",
            Self::Connecting => "CONNECTING",
            Self::Active => "ACTIVE",
            Self::Idle => "IDLE",
            Self::Reconnect => "RECONNECT",
            Self::Listening => "LISTENING",
        }
    }

    const fn is_connected(self) -> bool {
        matches!(self, Self::Active | Self::Idle)
    }
}

/// Numbers that the database and tests show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Connections plus disconnections.
    pub seqno: u32,
    /// Attempts.
    pub attempted: u32,
    /// Attempts that succeeded.
    pub successful: u32,
    /// Since the last connection, if there was one.
    pub since_connect: Option<Duration>,
    /// Since the last disconnection, if there was one.
    pub since_disconnect: Option<Duration>,
    /// All connections together.
    pub connected: Duration,
    /// The present back-off.
    pub backoff: Duration,
    /// In the present state.
    pub in_state: Duration,
}

/// One connection's machine.
#[derive(Clone, Debug)]
pub struct Reconnect {
    name: String,
    min_backoff: Duration,
    max_backoff: Duration,
    probe_interval: Duration,
    passive: bool,
    is_quiet: bool,
    max_tries: Option<u32>,
    free_tries: u32,
    state: State,
    entered: Instant,
    backoff: Duration,
    last_activity: Instant,
    last_connected: Option<Instant>,
    last_disconnected: Option<Instant>,
    /// When receiving was last tried, so that a busy process does not take its own slowness for the peer's silence.
    receive_attempted: Instant,
    connected_before: Duration,
    attempted: u32,
    successful: u32,
    seqno: u32,
}

impl Reconnect {
    /// A disabled machine for the connection `name`.
    pub fn new(name: &str, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            min_backoff: MIN_BACKOFF,
            max_backoff: MAX_BACKOFF,
            probe_interval: PROBE_INTERVAL,
            passive: false,
            is_quiet: false,
            max_tries: None,
            free_tries: 0,
            state: State::Void,
            entered: now,
            backoff: Duration::ZERO,
            last_activity: now,
            last_connected: None,
            last_disconnected: None,
            receive_attempted: Instant::NEVER,
            connected_before: Duration::ZERO,
            attempted: 0,
            successful: 0,
            seqno: 0,
        }
    }

    /// The connection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the machine is.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Logs at `DBG` what would be `INFO` or `WARN`.
    pub fn set_quiet(&mut self, is_quiet: bool) {
        self.is_quiet = is_quiet;
    }

    /// Bounds of the back-off; zero means 1 ms.
    pub fn set_backoff(&mut self, min: Duration, max: Duration) {
        self.min_backoff = min.max(Duration::from_millis(1));
        self.max_backoff = if max.is_zero() { MAX_BACKOFF } else { max }.max(self.min_backoff);
        if self.state == State::Backoff && self.backoff > self.max_backoff {
            self.backoff = self.max_backoff;
        }
    }

    /// Silence before a probe; zero means never, and less than a second means a second.
    pub fn set_probe_interval(&mut self, interval: Duration) {
        self.probe_interval =
            if interval.is_zero() { interval } else { interval.max(Duration::from_millis(1000)) };
    }

    /// The silence before a probe.
    pub const fn probe_interval(&self) -> Duration {
        self.probe_interval
    }

    /// How many more times to connect; none for ever.
    pub fn set_max_tries(&mut self, tries: Option<u32>) {
        self.max_tries = tries;
    }

    /// How many more times to connect; none for ever.
    pub const fn max_tries(&self) -> Option<u32> {
        self.max_tries
    }

    /// How many attempts may follow each other without back-off (one for each member of a cluster).
    pub fn set_free_tries(&mut self, tries: u32) {
        self.free_tries = tries;
    }

    /// Whether the peer connects to us.
    pub const fn is_passive(&self) -> bool {
        self.passive
    }

    /// Has the peer connect to us, or us to it.
    pub fn set_passive(&mut self, passive: bool, now: Instant) {
        if self.passive != passive {
            self.passive = passive;
            let wrong = matches!((passive, self.state), (true, State::Connecting | State::Reconnect))
                || (!passive && self.state == State::Listening && self.may_retry());
            if wrong {
                self.enter(State::Backoff, now);
                self.backoff = Duration::ZERO;
            }
        }
    }

    /// Whether there is, or should be, a connection.
    pub fn is_enabled(&self) -> bool {
        self.state != State::Void
    }

    /// Starts connecting, if disabled.
    pub fn enable(&mut self, now: Instant) {
        if self.state == State::Void && self.may_retry() {
            self.enter(State::Backoff, now);
            self.backoff = Duration::ZERO;
        }
    }

    /// Stops connecting.
    pub fn disable(&mut self, now: Instant) {
        if self.state != State::Void {
            self.enter(State::Void, now);
        }
    }

    /// Drops a connection or an attempt, to start anew.
    pub fn force(&mut self, now: Instant) {
        if matches!(self.state, State::Connecting | State::Active | State::Idle) {
            self.enter(State::Reconnect, now);
        }
    }

    /// Ends a wait at once, and begins the next back-off at its least.
    pub fn skip_backoff(&mut self) {
        if self.state == State::Backoff {
            self.backoff = Duration::ZERO;
        }
    }

    /// Whether there is a connection.
    pub const fn is_connected(&self) -> bool {
        self.state.is_connected()
    }

    fn may_retry(&self) -> bool {
        self.max_tries != Some(0)
    }

    /// A connection or an attempt has ended; `error` says why, if there is a why (`End of file` is told apart by the
    /// owner giving no error for a peer that closed).
    pub fn disconnected(&mut self, now: Instant, error: Option<&str>) {
        if matches!(self.state, State::Backoff | State::Void) {
            return;
        }
        self.tell_end(error);
        if self.state.is_connected() {
            self.last_disconnected = Some(now);
        }
        let was_up = self.state.is_connected() || self.state == State::Reconnect && self.is_last_up();
        self.backoff = self.next_backoff(now, was_up);
        if let Some(tries) = &mut self.max_tries {
            *tries = tries.saturating_sub(1);
        }
        let next = if self.may_retry() { State::Backoff } else { State::Void };
        self.enter(next, now);
    }

    fn is_last_up(&self) -> bool {
        self.last_connected.is_some() && self.last_connected > self.last_disconnected
    }

    fn next_backoff(&mut self, now: Instant, was_up: bool) -> Duration {
        if self.free_tries > 1 {
            self.free_tries -= 1;
            return Duration::ZERO;
        }
        let lasted = self.last_connected.filter(|_| was_up).map(|at| self.last_activity.since(at));
        let least = if self.passive { Duration::ZERO } else { self.min_backoff };
        let doubled = if self.backoff < self.min_backoff { self.min_backoff } else { self.backoff * 2 };
        match lasted {
            Some(lasted) if self.passive || lasted >= self.backoff && !self.backoff.is_zero() => least,
            _ if self.passive && was_up => least,
            _ => {
                let next = doubled.min(self.max_backoff);
                self.tell_backoff(next, now);
                next
            }
        }
    }

    fn tell_backoff(&self, next: Duration, _: Instant) {
        if self.is_quiet || self.backoff < self.min_backoff {
            return;
        }
        let (name, secs) = (&self.name, next.as_secs_f64());
        let what = if self.passive { "trying to listen again" } else { "reconnect" };
        if self.backoff * 2 < self.max_backoff {
            tracing::info!(target: "reconnect", "{name}: waiting {secs} seconds before {what}");
        } else if self.backoff < self.max_backoff {
            let what = if self.passive { "try to listen" } else { "reconnect" };
            tracing::info!(target: "reconnect", "{name}: continuing to {what} in the background but suppressing further logging");
        }
    }

    fn tell_end(&self, error: Option<&str>) {
        let name = &self.name;
        match (self.state, error) {
            (State::Active | State::Idle, Some(error)) => {
                self.say(true, &format!("{name}: connection dropped ({error})"));
            }
            (State::Active | State::Idle, None) => {
                self.say(false, &format!("{name}: connection closed by peer"))
            }
            (State::Reconnect, _) => self.say(false, &format!("{name}: connection dropped")),
            (State::Listening, Some(error)) => {
                self.say(true, &format!("{name}: error listening for connections ({error})"));
            }
            (State::Listening, None) => self.say(false, &format!("{name}: error listening for connections")),
            _ if self.backoff < self.max_backoff => {
                let kind = if self.passive { "listen" } else { "connection" };
                let text = match error {
                    Some(error) => format!("{name}: {kind} attempt failed ({error})"),
                    None => format!("{name}: {kind} attempt timed out"),
                };
                self.say(false, &text);
            }
            _ => {}
        }
    }

    fn say(&self, warn: bool, text: &str) {
        match (self.is_quiet, warn) {
            (true, _) => tracing::debug!(target: "reconnect", "{text}"),
            (false, true) => tracing::warn!(target: "reconnect", "{text}"),
            (false, false) => tracing::info!(target: "reconnect", "{text}"),
        }
    }

    /// The system has begun to connect.
    pub fn connecting(&mut self, now: Instant) {
        if self.state != State::Connecting {
            if self.backoff < self.max_backoff {
                self.say(false, &format!("{}: connecting...", self.name));
            }
            self.enter(State::Connecting, now);
        }
    }

    /// The system listens for the peer.
    pub fn listening(&mut self, now: Instant) {
        if self.state != State::Listening {
            self.say(false, &format!("{}: listening...", self.name));
            self.enter(State::Listening, now);
        }
    }

    /// There is a connection.
    pub fn connected(&mut self, now: Instant) {
        if self.state.is_connected() {
            return;
        }
        self.connecting_silently(now);
        self.say(false, &format!("{}: connected", self.name));
        self.enter(State::Active, now);
        self.last_connected = Some(now);
    }

    fn connecting_silently(&mut self, now: Instant) {
        if self.state != State::Connecting {
            self.enter(State::Connecting, now);
        }
    }

    /// An attempt has failed.
    pub fn connect_failed(&mut self, now: Instant, error: Option<&str>) {
        self.connecting_silently(now);
        self.disconnected(now, error);
    }

    /// Something came from the peer.
    pub fn activity(&mut self, now: Instant) {
        if self.state != State::Active {
            self.enter(State::Active, now);
        }
        self.last_activity = now;
    }

    /// Receiving was tried; [`Instant::NEVER`] turns the check off.
    pub fn receive_attempted(&mut self, now: Instant) {
        self.receive_attempted = now;
    }

    fn enter(&mut self, state: State, now: Instant) {
        if self.state == State::Connecting {
            self.attempted += 1;
            self.successful += u32::from(state == State::Active);
        }
        let (was, is) = (self.state.is_connected(), state.is_connected());
        if was != is {
            if let (true, Some(at)) = (was, self.last_connected) {
                self.connected_before += now.since(at);
            }
            self.seqno += 1;
        }
        tracing::debug!(target: "reconnect", "{}: entering {}", self.name, state.name());
        self.state = state;
        self.entered = now;
    }

    /// When [`Reconnect::run`] will next ask for something, if nothing happens.
    pub fn deadline(&self) -> Instant {
        match self.state {
            State::Void | State::Listening => Instant::NEVER,
            State::Backoff => self.entered + self.backoff,
            State::Connecting => self.entered + self.backoff.max(Duration::from_millis(1000)),
            State::Active if self.probe_interval.is_zero() => Instant::NEVER,
            State::Active => {
                let base = self.last_activity.max(self.entered);
                let expires = base + self.probe_interval;
                let tried = self.receive_attempted;
                if tried >= expires { expires } else { expires.max(tried + Duration::from_millis(1)) }
            }
            State::Idle if self.probe_interval.is_zero() => Instant::NEVER,
            State::Idle => {
                let expires = self.entered + self.probe_interval;
                let tried = self.receive_attempted;
                if tried >= expires { expires } else { expires.max(tried + Duration::from_millis(1)) }
            }
            State::Reconnect => self.entered,
        }
    }

    /// What to do now, if anything.
    pub fn run(&mut self, now: Instant) -> Option<Action> {
        if now < self.deadline() {
            return None;
        }
        match self.state {
            State::Void | State::Listening => None,
            State::Backoff => Some(Action::Connect),
            State::Connecting | State::Reconnect => Some(Action::Disconnect),
            State::Active | State::Idle if self.receive_attempted < self.expiry() => None,
            State::Active => {
                let idle = now.since(self.last_activity.max(self.entered)).as_millis();
                tracing::debug!(target: "reconnect", "{}: idle {idle} ms, sending inactivity probe", self.name);
                self.enter(State::Idle, now);
                Some(Action::Probe)
            }
            State::Idle => {
                let secs = now.since(self.entered).as_secs_f64();
                let text = format!(
                    "{}: no response to inactivity probe after {secs} seconds, disconnecting",
                    self.name
                );
                if self.is_quiet {
                    tracing::debug!(target: "reconnect", "{text}");
                } else {
                    tracing::error!(target: "reconnect", "{text}");
                }
                Some(Action::Disconnect)
            }
        }
    }

    fn expiry(&self) -> Instant {
        let base =
            if self.state == State::Active { self.last_activity.max(self.entered) } else { self.entered };
        base + self.probe_interval
    }

    /// The numbers.
    pub fn stats(&self, now: Instant) -> Stats {
        let running = self.last_connected.filter(|_| self.is_connected()).map(|at| now.since(at));
        Stats {
            seqno: self.seqno,
            attempted: self.attempted,
            successful: self.successful,
            since_connect: self.last_connected.map(|at| now.since(at)),
            since_disconnect: self.last_disconnected.map(|at| now.since(at)),
            connected: self.connected_before + running.unwrap_or_default(),
            backoff: self.backoff,
            in_state: now.since(self.entered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn new() -> Reconnect {
        let mut r = Reconnect::new("remote", at(1000));
        r.enable(at(1000));
        r
    }

    #[test]
    fn a_silent_peer_is_probed_then_dropped() {
        let mut r = new();
        assert_eq!(r.run(at(1000)), Some(Action::Connect));
        r.connected(at(1000));
        assert_eq!((r.deadline(), r.run(at(5999))), (at(6000), None));
        assert_eq!(r.run(at(6000)), Some(Action::Probe));
        assert_eq!(r.deadline(), at(11000));
        assert_eq!(r.run(at(11000)), Some(Action::Disconnect));
        r.disconnected(at(11000), None);
        assert_eq!((r.state(), r.deadline()), (State::Backoff, at(12000)));
        assert_eq!((r.stats(at(11000)).successful, r.stats(at(11000)).seqno), (1, 2));
    }

    #[test]
    fn a_busy_receiver_is_not_a_silent_peer() {
        let mut r = new();
        r.connected(at(1000));
        r.receive_attempted(at(1000));
        assert_eq!(r.run(at(6000)), None);
        r.receive_attempted(at(6000));
        assert_eq!(r.run(at(6001)), Some(Action::Probe));
    }

    #[test]
    fn failures_back_off_to_the_greatest() {
        let mut r = new();
        let mut now = 1000;
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert_eq!(r.run(at(now)), Some(Action::Connect));
            r.connecting(at(now));
            now = r.deadline().millis();
            assert_eq!(r.run(at(now)), Some(Action::Disconnect));
            r.connect_failed(at(now), Some("Connection refused"));
            waits.push(r.deadline().millis() - now);
            now = r.deadline().millis();
        }
        assert_eq!(waits, [1000, 2000, 4000, 8000, 8000, 8000]);
    }

    #[test]
    fn tries_run_out() {
        let mut r = new();
        r.set_max_tries(Some(1));
        r.connecting(at(1000));
        r.connect_failed(at(1000), None);
        assert_eq!((r.state(), r.max_tries()), (State::Void, Some(0)));
        r.enable(at(1001));
        assert_eq!(r.state(), State::Void);
    }

    #[test]
    fn forcing_drops_an_active_connection() {
        let mut r = new();
        r.connected(at(1000));
        r.force(at(2000));
        assert_eq!(r.run(at(2000)), Some(Action::Disconnect));
    }
}
