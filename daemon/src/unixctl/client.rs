//! The connecting side, blocking: what `ovs-appctl` and tests use.

use crate::jsonrpc::{Message, Parser};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a command got no answer.
#[derive(Error, Debug)]
pub enum ClientError {
    /// The socket failed or ended.
    #[error("{}", crate::error_text(.0))]
    Io(#[from] io::Error),
    /// The server's bytes are no JSON-RPC.
    #[error("{0}")]
    Protocol(#[from] crate::jsonrpc::Error),
}

/// A connection to a control socket.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    parser: Parser,
    next_id: u64,
}

impl Client {
    /// Connects to the socket `path`.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        Ok(Self { stream, path: path.to_owned(), parser: Parser::new(), next_id: 0 })
    }

    /// Where the server is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a command: the outer result is the transport's, the inner one the server's.
    ///
    /// # Errors
    /// [`ClientError`] if there is no answer.
    pub fn call(&mut self, method: &str, args: &[&str]) -> Result<Result<Value, Value>, ClientError> {
        let params = args.iter().map(|&arg| Value::from(arg)).collect();
        let request = Message::request(method, params, self.next_id);
        self.next_id += 1;
        self.stream.write_all(request.to_string().as_bytes())?;
        let mut bytes = [0; 65536];
        loop {
            match self.parser.next_message()? {
                Some(Message::Reply { result, .. }) => return Ok(Ok(result)),
                Some(Message::Error { error, .. }) => return Ok(Err(error)),
                Some(_) => {}
                None => match self.stream.read(&mut bytes)? {
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    n => self.parser.feed(&bytes[..n]),
                },
            }
        }
    }
}
