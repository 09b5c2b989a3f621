//! A JSON-RPC connection that asks one thing at a time.

use std::collections::VecDeque;
use std::io;

use daemon::jsonrpc::Parser;
use daemon::stream::{Network, Stream};
use ovsdb::json;
use ovsdb::transact::random_uuid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An open connection.
pub struct Rpc {
    stream: Stream,
    parser: Parser,
    next_id: u64,
    /// The remote's name.
    pub name: String,
    /// Notifications that came while a reply was awaited.
    early: VecDeque<Value>,
}

/// Text for `PROGRAM: TEXT` on standard error, before status 1.
pub type Fatal = String;

/// Several remotes in an order of chance, so that clients spread over the servers of a cluster.
pub fn shuffled<'a>(remotes: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut remotes: Vec<&str> = remotes.collect();
    remotes.sort_by_cached_key(|_| random_uuid());
    remotes
}

impl Rpc {
    /// Connects to the first of `remotes` that answers and, if a database is `wanted`, serves it: whose member of a
    /// cluster is connected and, with `leader_only`, leads it.
    pub async fn open(
        network: &Network,
        remotes: &[&str],
        wanted: Option<&str>,
        leader_only: bool,
    ) -> Result<Self, Fatal> {
        let mut why = String::new();
        for remote in remotes {
            match network.connect(remote).await {
                Ok(stream) => {
                    let mut rpc = Self::on(stream, remote);
                    match wanted {
                        Some(database) if !rpc.serves(database, leader_only).await => {}
                        _ => return Ok(rpc),
                    }
                }
                Err(error) => {
                    why = format!("failed to connect to \"{remote}\" ({})", daemon::error_text(&error))
                }
            }
        }
        if remotes.len() > 1 { Err("no servers were available".to_owned()) } else { Err(why) }
    }

    /// Talks over a stream to the remote called `name`.
    pub fn on(stream: Stream, name: &str) -> Self {
        Self { stream, parser: Parser::new(), next_id: 0, name: name.to_owned(), early: VecDeque::new() }
    }

    /// The stream, if its server serves a database as [`Rpc::open`] wants it.
    pub async fn into_serving(mut self, database: &str, leader_only: bool) -> Option<Stream> {
        self.serves(database, leader_only).await.then_some(self.stream)
    }

    /// Whether the server serves a database as [`Rpc::open`] wants it. One without a database `_Server` is too old for
    /// clusters and does.
    async fn serves(&mut self, database: &str, leader_only: bool) -> bool {
        let select = json!({"op": "select", "table": "Database", "where": [["name", "==", database]]});
        let reply = match self.call("transact", json!(["_Server", select])).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => return true,
            Err(_) => return false,
        };
        let row = &reply[0]["rows"][0];
        row.is_object()
            && (row["model"] == "standalone"
                || (row["connected"] == true && (!leader_only || row["leader"] == true)))
    }

    /// Sends a request and returns its id.
    pub async fn send(&mut self, method: &str, params: &Value) -> Result<u64, Fatal> {
        let id = self.next_id;
        self.next_id += 1;
        let message = json!({"method": method, "params": params, "id": id});
        self.write(&message).await.map_err(|error| self.lost(&error))?;
        Ok(id)
    }

    async fn write(&mut self, message: &Value) -> io::Result<()> {
        self.stream.write_all(json::text(message).as_bytes()).await?;
        self.stream.flush().await
    }

    fn lost(&self, error: &io::Error) -> Fatal {
        format!("{}: receive failed ({})", self.name, daemon::error_text(error))
    }

    /// The next message; echo requests are answered here.
    pub async fn receive(&mut self) -> Result<Value, Fatal> {
        match self.early.pop_front() {
            Some(message) => Ok(message),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Value, Fatal> {
        loop {
            let next = self.parser.next_value().map_err(|error| format!("{}: {error}", self.name))?;
            match next {
                Some(message) if message["method"] == "echo" => {
                    let reply = json!({"result": message["params"], "error": null, "id": message["id"]});
                    self.write(&reply).await.map_err(|error| self.lost(&error))?;
                }
                Some(message) => return Ok(message),
                None => {
                    let mut buffer = vec![0; 65536];
                    match self.stream.read(&mut buffer).await {
                        Ok(0) => return Err(format!("{}: receive failed (End of file)", self.name)),
                        Ok(n) => self.parser.feed(&buffer[..n]),
                        Err(error) => return Err(self.lost(&error)),
                    }
                }
            }
        }
    }

    /// Sends a request and returns its reply: the result, or the error that the server sent.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Result<Value, Value>, Fatal> {
        let id = self.send(method, &params).await?;
        loop {
            let message = self.read().await?;
            if message["id"].as_u64() != Some(id) || message.get("method").is_some() {
                self.early.push_back(message);
                continue;
            }
            return Ok(match &message["error"] {
                Value::Null => Ok(message["result"].clone()),
                error => Err(error.clone()),
            });
        }
    }

    /// Like [`Self::call`], for a request that must succeed.
    pub async fn transact(&mut self, method: &str, params: Value) -> Result<Value, Fatal> {
        let reply = self.call(method, params).await?;
        reply.map_err(|error| format!("transaction returned error: {}", json::text(&error)))
    }
}
