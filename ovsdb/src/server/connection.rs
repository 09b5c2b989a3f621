//! The tasks that move bytes: one a connection, one a listener, one a remote that is connected to.
//!
//! They hold no state of the database: they pass [`Event`]s over a bounded channel to the owner of the server, and write
//! what it sends them. A connection is not read while there is something to write to it, so that a client that does not
//! listen cannot ask for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daemon::clock::SystemClock;
use daemon::jsonrpc::Parser;
use daemon::stream::{Listener, Network, Stream};
use flow::time::{Clock, Instant};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::SessionId;

/// Messages that may wait to be written to one client; with more, it is disconnected.
pub const BACKLOG_LIMIT: usize = 20_000;
/// Events that may wait for the server.
pub const EVENT_LIMIT: usize = 256;
/// The first pause between attempts to connect.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The id of our own probes.
const PROBE_ID: &str = "echo";

/// What the tasks tell.
#[derive(Debug)]
pub enum Event {
    /// A remote has a connection.
    Connected(Opened),
    /// An attempt to connect failed.
    Unreachable { remote: String, error: String },
    /// A message arrived.
    Message(SessionId, Value),
    /// A connection ended.
    Ended(SessionId, String),
}

/// A connection without a session yet.
#[derive(Debug)]
pub struct Opened {
    /// The remote that it belongs to.
    pub remote: String,
    /// The connection.
    pub stream: Stream,
    /// Dropped when the session ends; whoever made the connection may wait for that.
    pub done: Option<oneshot::Sender<()>>,
}

/// Sends messages to a connection's task.
#[derive(Debug)]
pub struct Outbox {
    sender: mpsc::UnboundedSender<Value>,
    waiting: Arc<AtomicUsize>,
}

impl Outbox {
    /// Sends a message; false if too many wait.
    pub fn send(&self, message: Value) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= BACKLOG_LIMIT {
            return false;
        }
        // A task that ended reports that by itself.
        let _ = self.sender.send(message);
        true
    }
}

/// What a connection's task works with.
pub struct Conversation {
    session: SessionId,
    stream: Stream,
    inbox: mpsc::UnboundedReceiver<Value>,
    waiting: Arc<AtomicUsize>,
    events: mpsc::Sender<Event>,
    clock: SystemClock,
    probe: Option<Duration>,
}

/// Starts the task of a connection. Dropping the outbox closes it.
pub fn start(
    session: SessionId,
    opened: Opened,
    events: mpsc::Sender<Event>,
    clock: SystemClock,
    probe: Option<Duration>,
) -> Outbox {
    let (sender, inbox) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let Opened { stream, done, .. } = opened;
    let outbox = Outbox { sender, waiting: waiting.clone() };
    let conversation = Conversation { session, stream, inbox, waiting, events, clock, probe };
    tokio::spawn(async move {
        conversation.run().await;
        drop(done);
    });
    outbox
}

impl Conversation {
    async fn run(mut self) {
        let reason = self.converse().await;
        // The owner may have ended first.
        let _ = self.events.send(Event::Ended(self.session, reason)).await;
    }

    /// Moves messages until the connection ends, and says why it did.
    async fn converse(&mut self) -> String {
        let mut parser = Parser::new();
        let mut buffer = vec![0_u8; 1 << 16];
        let mut silent_since = self.clock.now();
        let mut probed = false;
        loop {
            let deadline =
                self.probe.map_or(Instant::NEVER, |probe| silent_since + probe * if probed { 2 } else { 1 });
            tokio::select! {
                biased;
                message = self.inbox.recv() => {
                    let Some(message) = message else { return "closed".to_owned() };
                    if let Err(error) = self.write(&message).await {
                        return daemon::error_text(&error);
                    }
                }
                read = self.stream.read(&mut buffer) => {
                    silent_since = self.clock.now();
                    probed = false;
                    match read {
                        Ok(0) => return "connection closed by peer".to_owned(),
                        Ok(n) => parser.feed(&buffer[..n]),
                        Err(error) => return daemon::error_text(&error),
                    }
                    if let Err(reason) = self.deliver(&mut parser).await {
                        return reason;
                    }
                }
                () = self.clock.sleep_until(deadline) => {
                    if probed {
                        return "no response to inactivity probe".to_owned();
                    }
                    probed = true;
                    let probe = json!({ "id": PROBE_ID, "method": "echo", "params": [] });
                    if let Err(error) = self.write_one(&probe).await {
                        return daemon::error_text(&error);
                    }
                }
            }
        }
    }

    /// Passes on the complete messages.
    async fn deliver(&self, parser: &mut Parser) -> Result<(), String> {
        loop {
            match parser.next_value() {
                Ok(Some(message)) => {
                    let answers_probe = message.get("method").is_none() && message["id"] == PROBE_ID;
                    if !answers_probe
                        && self.events.send(Event::Message(self.session, message)).await.is_err()
                    {
                        return Err("closed".to_owned());
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Writes a message and those that wait behind it.
    async fn write(&mut self, first: &Value) -> std::io::Result<()> {
        self.write_one(first).await?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        while let Ok(message) = self.inbox.try_recv() {
            self.write_one(&message).await?;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.stream.flush().await
    }

    async fn write_one(&mut self, message: &Value) -> std::io::Result<()> {
        self.stream.write_all(message.to_string().as_bytes()).await
    }
}

/// Accepts connections until the task is aborted.
pub async fn listen(remote: String, listener: Listener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let opened = Opened { remote: remote.clone(), stream, done: None };
                if events.send(Event::Connected(opened)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let error = daemon::error_text(&error);
                tracing::warn!(target: "ovsdb_jsonrpc_server", rate = 1, burst = 5, "{remote}: accept failed: {error}");
                // An error that stays, such as too many open files, must not spin.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Connects, and again whenever the connection has ended, until the task is aborted.
pub async fn connect(
    remote: String,
    network: Network,
    clock: SystemClock,
    max_backoff: Duration,
    events: mpsc::Sender<Event>,
) {
    let mut backoff = MIN_BACKOFF.min(max_backoff);
    loop {
        tracing::info!(target: "reconnect", "{remote}: connecting...");
        let event = match network.connect(&remote).await {
            Ok(stream) => {
                tracing::info!(target: "reconnect", "{remote}: connected");
                let (done, ended) = oneshot::channel();
                let opened = Opened { remote: remote.clone(), stream, done: Some(done) };
                let began = clock.now();
                if events.send(Event::Connected(opened)).await.is_err() {
                    return;
                }
                // An error means that the sender was dropped, which is the news.
                let _ = ended.await;
                if clock.now().since(began) >= backoff {
                    backoff = MIN_BACKOFF.min(max_backoff);
                }
                None
            }
            Err(error) => {
                let error = daemon::error_text(&error);
                tracing::info!(target: "reconnect", "{remote}: connection attempt failed ({error})");
                Some(Event::Unreachable { remote: remote.clone(), error })
            }
        };
        if let Some(event) = event
            && events.send(event).await.is_err()
        {
            return;
        }
        if backoff >= Duration::from_secs(2) {
            let seconds = backoff.as_secs();
            tracing::info!(target: "reconnect", "{remote}: waiting {seconds} seconds before reconnect");
        }
        clock.sleep_until(clock.now() + backoff).await;
        backoff = (backoff * 2).min(max_backoff.max(MIN_BACKOFF));
    }
}
