//! The control socket: JSON-RPC on `<rundir>/<program>.<pid>.ctl`.
//!
//! Connections are tasks that pass each [`Request`] over a bounded channel to the owner of the state, who looks it up
//! in [`Commands`]. A handler answers at once or keeps the request's [`Responder`] for later; a connection has at most one
//! request open. `--format` is a `set-options` request that precedes the command and is the connection's state.

mod builtin;
mod client;
mod server;

pub use builtin::{Exit, Host, Services, Warp, builtins, exit, time_commands};
pub use client::{Client, ClientError};
pub use server::Server;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// What a handler answers.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Plain text, for people.
    Text(String),
    /// JSON: what `--format json` shows. Text clients see it as JSON text.
    Json(Value),
    /// The handler kept [`Request::defer`]'s responder and will answer through it.
    Deferred,
}

impl Reply {
    /// An empty answer.
    pub const fn empty() -> Self {
        Self::Text(String::new())
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What comes of a request: JSON, which is a string for text, or an error's text.
type Outcome = Result<Value, String>;
type Answerer = oneshot::Sender<Outcome>;

/// Answers one request, once; later answers are ignored. Dropped unanswered, the connection is closed.
#[derive(Clone, Debug)]
pub struct Responder {
    sender: Arc<Mutex<Option<Answerer>>>,
    json: bool,
}

impl Responder {
    fn send(&self, body: Result<Value, String>) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            match &body {
                Ok(body) => tracing::debug!(target: "unixctl", "replying with success: {body}"),
                Err(text) => tracing::debug!(target: "unixctl", "replying with error: \"{text}\""),
            }
            // The client may have left, which is its own affair.
            let _ = sender.send(body);
        }
    }

    /// Answers with success or an error text.
    pub fn respond(&self, outcome: Result<Reply, String>) {
        match outcome {
            Ok(Reply::Deferred) => {}
            Ok(Reply::Text(text)) if self.json => {
                self.send(Ok(json!({"reply": text, "reply-format": "plain"})));
            }
            Ok(Reply::Text(text)) => self.send(Ok(text.into())),
            Ok(Reply::Json(value)) if self.json => self.send(Ok(value)),
            Ok(Reply::Json(value)) => self.send(Ok(value.to_string().into())),
            Err(text) => self.send(Err(text)),
        }
    }

    /// Answers with success.
    pub fn reply(&self, reply: impl Into<Reply>) {
        self.respond(Ok(reply.into()));
    }

    /// Answers with an error.
    pub fn error(&self, text: impl Into<String>) {
        self.respond(Err(text.into()));
    }
}

/// What a connection remembers between its requests.
#[derive(Debug, Default)]
struct Session {
    json: AtomicBool,
}

/// A command with its arguments, as a client sent it.
#[derive(Debug)]
pub struct Request {
    /// The command's name.
    pub method: String,
    /// Its arguments, the name not included.
    pub args: Vec<String>,
    session: Arc<Session>,
    responder: Responder,
}

impl Request {
    /// Whether the client asked for JSON.
    pub fn is_json(&self) -> bool {
        self.responder.json
    }

    /// Argument `i`, or the empty text: handlers have had their number of arguments checked.
    pub fn arg(&self, i: usize) -> &str {
        self.args.get(i).map_or("", String::as_str)
    }

    /// Argument `i` if it was given.
    pub fn opt(&self, i: usize) -> Option<&str> {
        self.args.get(i).map(String::as_str)
    }

    /// Who answers, for handlers that answer [`Reply::Deferred`].
    pub fn defer(&self) -> Responder {
        self.responder.clone()
    }

    /// A request that did not come from a socket, and where its answer arrives.
    pub fn detached(method: &str, args: &[&str]) -> (Self, oneshot::Receiver<Outcome>) {
        let args = args.iter().map(|&a| a.to_owned()).collect();
        Self::on_session(method.to_owned(), args, Arc::default())
    }

    fn on_session(
        method: String,
        args: Vec<String>,
        session: Arc<Session>,
    ) -> (Self, oneshot::Receiver<Outcome>) {
        let (sender, receiver) = oneshot::channel();
        let json = session.json.load(Ordering::Relaxed);
        let responder = Responder { sender: Arc::new(Mutex::new(Some(sender))), json };
        (Self { method, args, session, responder }, receiver)
    }
}

/// A row of a command table; `S` is the state that handlers work on.
pub struct Command<S> {
    /// The name that clients use.
    pub name: &'static str,
    /// Its arguments, as `list-commands` shows them.
    pub usage: &'static str,
    /// The fewest arguments that it takes.
    pub min: usize,
    /// The most.
    pub max: usize,
    /// What it does.
    pub run: fn(&mut S, &Request) -> Result<Reply, String>,
    /// It is not listed.
    pub hidden: bool,
}

impl<S> Command<S> {
    /// A row.
    pub const fn new(
        name: &'static str,
        usage: &'static str,
        min: usize,
        max: usize,
        run: fn(&mut S, &Request) -> Result<Reply, String>,
    ) -> Self {
        Self { name, usage, min, max, run, hidden: false }
    }

    /// The row of a command that works but is not listed.
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }
}

impl<S> Clone for Command<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Command<S> {}

/// The commands that a program serves, by name.
pub struct Commands<S> {
    rows: BTreeMap<&'static str, Command<S>>,
}

impl<S> Default for Commands<S> {
    fn default() -> Self {
        Self { rows: BTreeMap::new() }
    }
}

impl<S> Commands<S> {
    /// No commands. [`builtins`] has those of every daemon.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds rows; a later one replaces an earlier one of the same name.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Command<S>>) {
        for row in rows {
            self.rows.insert(row.name, row);
        }
    }

    /// The rows by name.
    pub fn iter(&self) -> impl Iterator<Item = &Command<S>> {
        self.rows.values()
    }

    /// Looks `request` up, checks its number of arguments, runs it and answers it.
    pub fn dispatch(&self, state: &mut S, request: &Request) {
        tracing::debug!(target: "unixctl", "received request {}{:?}", request.method, request.args);
        request.responder.respond(self.run(state, request));
    }

    fn run(&self, state: &mut S, request: &Request) -> Result<Reply, String> {
        let Request { method, args, .. } = request;
        if method == "list-commands" {
            too_many(method, args.len(), 0)?;
            return Ok(if request.is_json() { Reply::Json(self.list_json()) } else { self.list().into() });
        }
        let Some(row) = self.rows.get(method.as_str()) else {
            return Err(format!(
                "\"{method}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
            ));
        };
        if args.len() < row.min {
            return Err(format!("\"{method}\" command requires at least {} arguments", row.min));
        }
        too_many(method, args.len(), row.max)?;
        (row.run)(state, request)
    }

    fn listed(&self) -> impl Iterator<Item = &Command<S>> {
        self.rows.values().filter(|row| !row.hidden)
    }

    fn list_json(&self) -> Value {
        let names = self.listed().map(|row| (row.name.to_owned(), Value::from(row.usage)));
        Value::Object(names.chain([("list-commands".to_owned(), Value::from(""))]).collect())
    }

    fn list(&self) -> String {
        let mut names: Vec<(&str, &str)> = self.listed().map(|row| (row.name, row.usage)).collect();
        names.push(("list-commands", ""));
        names.sort_unstable();
        names.dedup_by_key(|(name, _)| *name);
        let mut text = "The available commands are:\n".to_owned();
        for (name, usage) in names {
            text += &format!("  {name:<23} {usage}\n");
        }
        text
    }
}

fn too_many(method: &str, given: usize, max: usize) -> Result<(), String> {
    if given > max {
        return Err(format!("\"{method}\" command takes at most {max} arguments"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(count: &mut u32, request: &Request) -> Result<Reply, String> {
        *count += 1;
        Ok(request.args.join(" ").into())
    }

    fn call(method: &str, args: &[&str]) -> Result<Value, String> {
        let mut commands = Commands::new();
        commands.add([Command::new("echo", "[arg ...]", 1, 2, echo)]);
        let (request, mut answer) = Request::detached(method, args);
        commands.dispatch(&mut 0, &request);
        answer.try_recv().unwrap()
    }

    #[test]
    fn commands_are_found_counted_and_run() {
        assert_eq!(call("echo", &["a", "b"]), Ok("a b".into()));
        let texts = [
            ("echo", &[][..], "\"echo\" command requires at least 1 arguments"),
            ("echo", &["1", "2", "3"], "\"echo\" command takes at most 2 arguments"),
            (
                "nope",
                &[],
                "\"nope\" is not a valid command (use \"list-commands\" to see a list of valid commands)",
            ),
            ("list-commands", &["x"], "\"list-commands\" command takes at most 0 arguments"),
        ];
        for (method, args, text) in texts {
            assert_eq!(call(method, args), Err(text.to_owned()));
        }
    }

    #[test]
    fn the_list_is_ovs_s() {
        let list =
            "The available commands are:\n  echo                    [arg ...]\n  list-commands           \n";
        assert_eq!(call("list-commands", &[]), Ok(list.into()));
    }
}
