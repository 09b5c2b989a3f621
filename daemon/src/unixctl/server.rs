//! The listening side: one task that accepts, one a connection.

use super::{Request, Session};
use crate::jsonrpc::{Message, Parser};
use crate::stream::Listener;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// How many requests may wait for the owner of the state.
const QUEUE: usize = 64;

/// A bound control socket. [`Server::start`] it within a runtime; drop it to remove the socket.
pub struct Server {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    in_flight: Arc<AtomicUsize>,
}

impl Server {
    /// Binds `path`, replacing a socket that nobody serves any more.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let listener = Listener::bind_unix(path)?;
        Ok(Self { listener, path: path.to_owned(), in_flight: Arc::default() })
    }

    /// Where clients find it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves connections from now on; what they ask for arrives on the returned channel.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub fn start(&self) -> io::Result<mpsc::Receiver<Request>> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let in_flight = Arc::clone(&self.in_flight);
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(serve(stream, sender.clone(), Arc::clone(&in_flight)));
                    }
                    Err(error) => {
                        let text = crate::error_text(&error);
                        tracing::warn!(target: "unixctl", rate = 5, burst = 5, "accept failed: {text}");
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        Ok(receiver)
    }

    /// Lets the connections write the answers that were given, before the process ends.
    pub async fn flush(&self) {
        for _ in 0..10_000 {
            if self.in_flight.load(Ordering::Relaxed) == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Counts a request as open until its answer was written.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(mut stream: UnixStream, sender: mpsc::Sender<Request>, in_flight: Arc<AtomicUsize>) {
    let mut parser = Parser::new();
    let session = Arc::new(Session::default());
    let mut bytes = [0; 4096];
    loop {
        match parser.next_message() {
            Ok(Some(Message::Request { method, params, id })) => {
                let open = InFlight::new(&in_flight);
                let Some(answer) = answer(method, params, &session, &sender).await else { return };
                let message = match answer {
                    Ok(result) => Message::Reply { result, id },
                    Err(error) => Message::Error { error: error.into(), id },
                };
                if stream.write_all(message.to_string().as_bytes()).await.is_err() {
                    return;
                }
                drop(open);
            }
            Ok(Some(other)) => {
                let kind = other.kind();
                tracing::warn!(target: "unixctl", rate = 5, burst = 5, "unix: received unexpected {kind} message");
                return;
            }
            Ok(None) => match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(n) => parser.feed(&bytes[..n]),
            },
            Err(error) => {
                tracing::warn!(target: "jsonrpc", rate = 5, burst = 5, "unix: {error}");
                return;
            }
        }
    }
}

/// Has the owner answer a request; none if the connection should close.
async fn answer(
    method: String,
    params: Vec<Value>,
    session: &Arc<Session>,
    sender: &mpsc::Sender<Request>,
) -> Option<Result<Value, String>> {
    let mut args = Vec::with_capacity(params.len());
    for param in params {
        match param {
            Value::String(arg) => args.push(arg),
            _ => return Some(Err(format!("\"{method}\" command has non-string argument"))),
        }
    }
    let (request, answer) = Request::on_session(method, args, Arc::clone(session));
    sender.send(request).await.ok()?;
    answer.await.ok()
}
