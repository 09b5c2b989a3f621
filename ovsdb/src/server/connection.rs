//! The tasks that move bytes: one a connection, one a listener, one a remote that is connected to.
//!
//! They hold no state of the database: they pass [`Event`]s over a bounded channel to the owner of the server, and write
//! what it leaves in their [`Outbox`]. A connection is not read while there is something to write to it, so that a client
//! that does not listen cannot ask for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daemon::clock::SystemClock;
use daemon::jsonrpc::{Error, Parser};
use daemon::stream::{Listener, Network, ReadHalf, Stream, WriteHalf};
use flow::time::{Clock, Instant};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};

use super::SessionId;
pub use super::outbox::Outbox;
use super::outbox::{Drain, Load, outbox};
use crate::json::{Doc, Json, Node};

/// What a connection may take of the server's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of messages that may wait behind the one that is being written; with more, the client is disconnected.
    pub backlog: usize,
    /// Bytes of a message that arrives.
    pub request: usize,
    /// Bytes of unfinished messages of all clients together.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { backlog: 64 << 20, request: 128 << 20, requests: 512 << 20 }
    }
}

/// Events that may wait for the server.
pub const EVENT_LIMIT: usize = 64;
/// Bytes that are read at once of a client that is quiet, and of one that sends much.
const READ_SIZES: (usize, usize) = (1 << 10, 1 << 17);
/// A client is quiet again after so many reads that a small buffer would have done for.
const SMALL_READS: u32 = 16;
/// How long a client may take for its last messages once the server has ended the session.
const PARTING: Duration = Duration::from_secs(5);
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
    /// Messages arrived.
    Messages(SessionId, Doc),
    /// A connection ended.
    Ended(SessionId, String),
}

/// A connection without a session yet.
#[derive(Debug)]
pub struct Opened {
    /// The remote that it belongs to, or the source.
    pub remote: String,
    /// The database that follows the source; none for a remote.
    pub follower: Option<Arc<str>>,
    /// The connection.
    pub stream: Stream,
    /// Dropped when the session ends; whoever made the connection may wait for that.
    pub done: Option<oneshot::Sender<()>>,
}

/// True for the answer to a probe of ours.
pub fn answers_probe(message: Node<'_>) -> bool {
    let is_ours = |id: Node<'_>| id.as_str() == Some(PROBE_ID);
    message.member("id").is_some_and(is_ours) && message.member("method").is_none()
}

/// What all connections share.
#[derive(Clone)]
pub struct Shared {
    /// Where news goes.
    pub events: mpsc::Sender<Event>,
    /// The time.
    pub clock: SystemClock,
    /// What each may take.
    pub limits: Limits,
    /// Bytes of unfinished messages of all clients.
    pub unfinished: Arc<AtomicUsize>,
}

/// What a connection's task works with.
struct Conversation {
    session: SessionId,
    reader: ReadHalf,
    drain: Drain,
    end: oneshot::Receiver<()>,
    /// Until when the last messages may take, once the session has ended.
    parting: Option<Instant>,
    shared: Shared,
    probe: Option<Duration>,
    parser: Parser,
    /// What of [`Shared::unfinished`] is this connection's.
    unfinished: usize,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.shared.unfinished.fetch_sub(self.unfinished, Ordering::Relaxed);
    }
}

/// Starts the task of a connection. Dropping the outbox closes it.
pub fn start(session: SessionId, opened: Opened, shared: Shared, probe: Option<Duration>) -> Outbox {
    let Opened { stream, done, .. } = opened;
    let (reader, writer) = stream.split();
    let (outbox, drain, end) = outbox(writer, shared.limits.backlog);
    let conversation = Conversation {
        session,
        reader,
        drain,
        end,
        parting: None,
        probe,
        parser: Parser::with_limit(shared.limits.request),
        shared,
        unfinished: 0,
    };
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
        let _ = self.shared.events.send(Event::Ended(self.session, reason)).await;
    }

    /// Moves messages until the connection ends, and says why it did.
    async fn converse(&mut self) -> String {
        let clock = self.shared.clock.clone();
        let mut buffer = vec![0_u8; READ_SIZES.0];
        let mut small_reads = 0;
        let mut silent_since = clock.now();
        let mut probed = false;
        loop {
            let deadline =
                self.probe.map_or(Instant::NEVER, |probe| silent_since + probe * if probed { 2 } else { 1 });
            tokio::select! {
                biased;
                () = self.drain.wait() => match self.write_rest().await {
                    Ok(true) => {}
                    Ok(false) => return "closed".to_owned(),
                    Err(error) => return daemon::error_text(&error),
                },
                read = self.reader.read(&mut buffer) => {
                    silent_since = clock.now();
                    probed = false;
                    let n = match read {
                        Ok(0) => return "connection closed by peer".to_owned(),
                        Ok(n) => n,
                        Err(error) => return daemon::error_text(&error),
                    };
                    self.parser.feed(&buffer[..n]);
                    if let Err(reason) = self.deliver().await {
                        return reason;
                    }
                    // Ten thousand quiet clients must not have ten thousand large buffers.
                    small_reads = if n < READ_SIZES.0 { small_reads + 1 } else { 0 };
                    if n == buffer.len() && n < READ_SIZES.1 {
                        buffer = vec![0; READ_SIZES.1];
                    } else if small_reads > SMALL_READS && buffer.len() > READ_SIZES.0 {
                        buffer = vec![0; READ_SIZES.0];
                    }
                }
                () = clock.sleep_until(deadline), if self.probe.is_some() => {
                    if probed {
                        return "no response to inactivity probe".to_owned();
                    }
                    probed = true;
                    let probe = json!({ "id": PROBE_ID, "method": "echo", "params": [] });
                    if let Err(error) = self.write_own(&probe.to_string()).await {
                        return daemon::error_text(&error);
                    }
                }
            }
        }
    }

    /// Passes on the complete messages.
    async fn deliver(&mut self) -> Result<(), String> {
        let (texts, ends, cut) = self.parser.take_texts();
        let (messages, mut error) = match Doc::read(texts, &ends) {
            Ok(messages) => (messages, cut),
            Err((messages, fault)) => (messages, Some(Error::from(&fault))),
        };
        if error.is_none() {
            error = self.count_unfinished().err();
        }
        // What came before an error still counts.
        if messages.root().is_some()
            && self.shared.events.send(Event::Messages(self.session, messages)).await.is_err()
        {
            return Err("closed".to_owned());
        }
        let Some(error) = error else { return Ok(()) };
        if let Error::TooLong(_) = error {
            // The client learns why; if it does not read, then not.
            let reply = json!({ "id": null, "result": null, "error": error.to_string() });
            self.parting = Some(self.shared.clock.now() + PARTING);
            let _ = self.write_own(&reply.to_string()).await;
        }
        Err(error.to_string())
    }

    /// Keeps the total of unfinished messages.
    fn count_unfinished(&mut self) -> Result<(), Error> {
        let (before, after) = (self.unfinished, self.parser.pending());
        self.unfinished = after;
        let total = &self.shared.unfinished;
        if after <= before {
            total.fetch_sub(before - after, Ordering::Relaxed);
            return Ok(());
        }
        let others = total.fetch_add(after - before, Ordering::Relaxed) - before;
        let limit = self.shared.limits.requests;
        // A client with little on the way is not the one that takes the room.
        if others + after > limit && after > READ_SIZES.1 {
            return Err(Error::TooLong(limit.saturating_sub(others)));
        }
        Ok(())
    }

    /// Writes what the owner could not; false once that was the last.
    async fn write_rest(&mut self) -> std::io::Result<bool> {
        loop {
            match self.drain.take() {
                Load::Text(text, writer) => self.write_patiently(&text, writer).await?,
                Load::Nothing => return Ok(true),
                Load::Closed => return Ok(false),
            }
        }
    }

    /// Writes a message of our own, behind what waits.
    async fn write_own(&mut self, text: &str) -> std::io::Result<()> {
        self.write_rest().await?;
        match self.drain.take_writer() {
            Some(writer) => self.write_patiently(text.as_bytes(), writer).await,
            None => Ok(()),
        }
    }

    /// Writes a text. Once the session has ended, the client has not long to take it.
    async fn write_patiently(&mut self, text: &[u8], mut writer: WriteHalf) -> std::io::Result<()> {
        let clock = self.shared.clock.clone();
        {
            let write = writer.write_all(text);
            tokio::pin!(write);
            let mut is_written = false;
            if self.parting.is_none() {
                tokio::select! {
                    biased;
                    written = &mut write => {
                        written?;
                        is_written = true;
                    }
                    _ = &mut self.end => self.parting = Some(clock.now() + PARTING),
                }
            }
            if !is_written {
                tokio::select! {
                    biased;
                    written = &mut write => written?,
                    () = clock.sleep_until(self.parting.unwrap_or(Instant::ZERO)) => {
                        return Err(std::io::ErrorKind::TimedOut.into());
                    }
                }
            }
        }
        self.drain.give_back(writer);
        Ok(())
    }
}

/// Accepts connections until the task is aborted.
pub async fn listen(remote: String, listener: Listener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let opened = Opened { remote: remote.clone(), follower: None, stream, done: None };
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

/// Connects to one of the targets in `remote`, and to the next whenever the connection has ended, until the task is
/// aborted.
pub async fn connect(
    remote: String,
    follower: Option<Arc<str>>,
    network: Network,
    clock: SystemClock,
    max_backoff: Duration,
    events: mpsc::Sender<Event>,
) {
    let mut backoff = MIN_BACKOFF.min(max_backoff);
    for target in remote.split(',').cycle() {
        tracing::info!(target: "reconnect", "{target}: connecting...");
        let event = match network.connect(target).await {
            Ok(stream) => {
                tracing::info!(target: "reconnect", "{target}: connected");
                let (done, ended) = oneshot::channel();
                let follower = follower.clone();
                let opened = Opened { remote: remote.clone(), follower, stream, done: Some(done) };
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
                tracing::info!(target: "reconnect", "{target}: connection attempt failed ({error})");
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
            tracing::info!(target: "reconnect", "{target}: waiting {seconds} seconds before reconnect");
        }
        clock.sleep_until(clock.now() + backoff).await;
        backoff = (backoff * 2).min(max_backoff.max(MIN_BACKOFF));
    }
}
