//! A JSON-RPC connection that is made again whenever it breaks.
//!
//! The owner calls [`Session::run`] when [`Session::deadline`] has come or [`Session::next`] gave something, and gets
//! what happened as [`Event`]s. A task for each connection moves bytes; it and the owner are joined by bounded channels.

use crate::jsonrpc::{Message, Parser};
use crate::reconnect::{Action, Reconnect, State};
use crate::stream::{Network, Stream};
use flow::time::Instant;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Messages that may wait for the owner, and for the peer; with more of the latter the connection is dropped.
const QUEUE: usize = 1024;

/// What happened on a session.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// There is a connection, a new one.
    Connected,
    /// It has gone.
    Disconnected,
    /// The peer sent this. Echo requests and their replies are dealt with already.
    Message(Value),
}

/// What a connection's task tells.
#[derive(Debug)]
pub enum Input {
    /// Connected.
    Up,
    /// Received.
    Message(Value),
    /// Failed or ended; none for a peer that closed.
    Down(Option<String>),
}

struct Link {
    task: JoinHandle<()>,
    input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Message>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that is made again whenever it breaks.
pub struct Session {
    network: Network,
    reconnect: Reconnect,
    link: Option<Link>,
    /// Taken off the link, not yet looked at.
    arrived: VecDeque<Input>,
}

impl Session {
    /// A session with the active remote `name` (`unix:…`, `tcp:…`, `ssl:…`).
    pub fn new(network: Network, name: &str, now: Instant) -> Self {
        let mut reconnect = Reconnect::new(name, now);
        reconnect.enable(now);
        if name.starts_with("unix:") {
            reconnect.set_probe_interval(std::time::Duration::ZERO);
        }
        Self { network, reconnect, link: None, arrived: VecDeque::new() }
    }

    /// How the connection fares.
    pub const fn reconnect(&mut self) -> &mut Reconnect {
        &mut self.reconnect
    }

    /// Whether there is a connection.
    pub const fn is_connected(&self) -> bool {
        self.reconnect.is_connected()
    }

    /// When [`Session::run`] has something to do, if nothing arrives.
    pub fn deadline(&self) -> Instant {
        if self.arrived.is_empty() { self.reconnect.deadline() } else { Instant::ZERO }
    }

    /// Waits until something arrives, and keeps it for [`Session::run`]. May be dropped at any time.
    pub async fn next(&mut self) {
        if !self.arrived.is_empty() {
            return;
        }
        match &mut self.link {
            Some(link) => {
                let input = link.input.recv().await.unwrap_or(Input::Down(None));
                self.arrived.push_back(input);
            }
            None => std::future::pending().await,
        }
    }

    /// Does what is due and gives what happened, at most `budget` events at once.
    pub fn run(&mut self, now: Instant, budget: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < budget
            && let Some(input) = self.take_input()
        {
            events.extend(self.handle(input, now));
        }
        match self.reconnect.run(now) {
            None => {}
            Some(Action::Connect) => self.connect(now),
            Some(Action::Probe) => self.send(Message::Request {
                method: "echo".to_owned(),
                params: Vec::new(),
                id: "echo".into(),
            }),
            Some(Action::Disconnect) => events.extend(self.drop_link(None, now)),
        }
        events
    }

    fn take_input(&mut self) -> Option<Input> {
        self.arrived.pop_front().or_else(|| self.link.as_mut()?.input.try_recv().ok())
    }

    /// Sends `message`, if there is a connection.
    pub fn send(&mut self, message: Message) {
        if let Some(link) = &self.link
            && link.output.try_send(message).is_err()
        {
            let text =
                format!("{}: sending backlog exceeded maximum number of messages", self.reconnect.name());
            tracing::warn!(target: "jsonrpc", "{text}, disconnecting");
            self.arrived.push_back(Input::Down(Some("Message too long".to_owned())));
        }
    }

    /// Sends a message that is JSON already.
    pub fn send_json(&mut self, value: Value) {
        match Message::from_json(value) {
            Ok(message) => self.send(message),
            Err(error) => tracing::error!(target: "jsonrpc", "{}: {error}", self.reconnect.name()),
        }
    }

    fn handle(&mut self, input: Input, now: Instant) -> Option<Event> {
        match input {
            Input::Up => {
                self.reconnect.connected(now);
                Some(Event::Connected)
            }
            Input::Down(error) => self.drop_link(error.as_deref(), now),
            Input::Message(value) => {
                self.reconnect.activity(now);
                if value.get("method").is_some_and(|m| m == "echo") {
                    let (params, id) = (value.get("params").cloned(), value.get("id").cloned());
                    self.send(Message::Reply {
                        result: params.unwrap_or(json!([])),
                        id: id.unwrap_or_default(),
                    });
                    return None;
                }
                let is_echo = value.get("id").is_some_and(|id| id == "echo");
                (!is_echo).then_some(Event::Message(value))
            }
        }
    }

    fn drop_link(&mut self, error: Option<&str>, now: Instant) -> Option<Event> {
        let was_connected = self.reconnect.is_connected();
        let was_up = was_connected || self.reconnect.state() == State::Reconnect;
        self.link = None;
        self.arrived.clear();
        self.reconnect.disconnected(now, error);
        was_up.then_some(Event::Disconnected)
    }

    fn connect(&mut self, now: Instant) {
        let (to_owner, input) = mpsc::channel(QUEUE);
        let (output, from_owner) = mpsc::channel(QUEUE);
        let (network, name) = (self.network.clone(), self.reconnect.name().to_owned());
        let task = tokio::spawn(async move {
            let end = match network.connect(&name).await {
                Ok(stream) => {
                    if to_owner.send(Input::Up).await.is_err() {
                        return;
                    }
                    carry(stream, &name, &to_owner, from_owner).await
                }
                Err(error) => Some(crate::error_text(&error)),
            };
            // The owner may have gone on to another connection.
            let _ = to_owner.send(Input::Down(end)).await;
        });
        self.link = Some(Link { task, input, output });
        self.reconnect.connecting(now);
    }
}

/// Moves messages both ways until the stream ends; why it did, unless the peer just closed.
async fn carry(
    mut stream: Stream,
    name: &str,
    to_owner: &mpsc::Sender<Input>,
    mut from_owner: mpsc::Receiver<Message>,
) -> Option<String> {
    let mut parser = Parser::new();
    let mut bytes = vec![0; 65536];
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let writing = async {
        while let Some(message) = from_owner.recv().await {
            writer.write_all(message.to_string().as_bytes()).await?;
            writer.flush().await?;
        }
        Ok::<_, io::Error>(())
    };
    let reading = async {
        loop {
            match parser.next_value() {
                Ok(Some(value)) => {
                    if to_owner.send(Input::Message(value)).await.is_err() {
                        return None;
                    }
                }
                Ok(None) => match reader.read(&mut bytes).await {
                    Ok(0) => return None,
                    Ok(n) => parser.feed(&bytes[..n]),
                    Err(error) => return Some(crate::error_text(&error)),
                },
                Err(error) => {
                    tracing::warn!(target: "jsonrpc", rate = 5, burst = 5, "{name}: {error}");
                    return Some("Protocol error".to_owned());
                }
            }
        }
    };
    tokio::select! {
        end = reading => end,
        Err(error) = writing => Some(crate::error_text(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::testing::Sandbox;
    use flow::time::Clock;

    #[test]
    fn a_session_connects_talks_and_sees_the_end() {
        let sandbox = Sandbox::new().unwrap();
        let mut network = Network::from_env();
        network.run_dir = sandbox.dir().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = SystemClock::new();
            let listener = network.listen("punix:s").unwrap();
            tokio::spawn(async move {
                let mut stream = listener.accept().await.unwrap();
                stream
                    .write_all(br#"{"id":7,"method":"echo","params":[1]}{"id":1,"result":2,"error":null}"#)
                    .await
                    .unwrap();
                let mut answer = [0; 200];
                let n = stream.read(&mut answer).await.unwrap();
                assert_eq!(&answer[..n], br#"{"error":null,"id":7,"result":[1]}"#);
            });
            let mut session = Session::new(network.clone(), "unix:s", clock.now());
            let mut events = session.run(clock.now(), 10);
            while events.len() < 3 {
                session.next().await;
                events.extend(session.run(clock.now(), 10));
            }
            let message = json!({"id": 1, "result": 2, "error": null});
            assert_eq!(events, [Event::Connected, Event::Message(message), Event::Disconnected]);
        });
    }
}
