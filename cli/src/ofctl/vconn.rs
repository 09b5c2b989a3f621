//! One OpenFlow connection, used by one thread that waits for each answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use daemon::stream::{Network, OPENFLOW_PORT, Stream};
use openflow::header::{self, Header, Raw, Type};
use openflow::msg::hello::{self, Hello, Versions};
use openflow::version::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::options::Options;

/// The least length of a message: its header.
const HEADER: usize = 8;

/// A connection that has agreed on a version.
pub struct Vconn {
    runtime: tokio::runtime::Runtime,
    stream: Stream,
    received: Vec<u8>,
    name: String,
    version: Version,
    xids: Xids,
}

/// The transaction ids of a run, over all its connections.
#[derive(Clone)]
pub struct Xids(Arc<AtomicU32>);

impl Default for Xids {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Xids {
    /// A transaction id that has not been used.
    pub fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Why an exchange failed, in the words of the system.
#[derive(Debug, thiserror::Error)]
pub enum VconnError {
    #[error("{}", daemon::error_text(.0))]
    Io(#[from] io::Error),
    /// The peer does not keep to the protocol.
    #[error("Protocol error")]
    Protocol,
    #[error("End of file")]
    Eof,
}

type Result<T> = std::result::Result<T, VconnError>;

impl Vconn {
    /// Connects to `name`, a `METHOD:ADDRESS`, without saying hello.
    ///
    /// # Errors
    /// The system's.
    pub fn open(name: &str, options: &Options, xids: &Xids) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tls = daemon::stream::tls::Tls::new(options.common.tls.clone());
        let network = Network { run_dir: options.dirs.run.clone(), default_port: OPENFLOW_PORT, tls };
        let stream = runtime.block_on(network.connect(name))?;
        Ok(Self {
            runtime,
            stream,
            received: Vec::new(),
            name: name.to_owned(),
            version: Version::V10,
            xids: xids.clone(),
        })
    }

    /// Agrees on a version that is among `ours`.
    ///
    /// # Errors
    /// If there is none, or the peer says something else.
    pub fn negotiate(&mut self, ours: Versions) -> Result<()> {
        let xid = self.next_xid();
        self.send(&hello::Hello::encode(ours, xid))?;
        let message = self.receive()?;
        if Header::peek(&message).map(|header| header.kind()).ok() != Some(Type::Hello) {
            let text = openflow::print::to_string(&message, &Default::default(), 1);
            tracing::warn!(
                target: "vconn",
                "{}: received message while expecting hello: {}", self.name, text.trim_end()
            );
            return Err(VconnError::Protocol);
        }
        let theirs = Hello::decode(&message).versions;
        let common = Versions(ours.0 & theirs.0);
        let Some(version) = common.greatest() else {
            self.refuse(ours, theirs)?;
            return Err(VconnError::Protocol);
        };
        tracing::debug!(
            target: "vconn",
            "{}: negotiated OpenFlow version {} (we support {}, peer supports {})",
            self.name, number(version), versions_text(ours), versions_text(theirs)
        );
        self.version = version;
        Ok(())
    }

    fn refuse(&mut self, ours: Versions, theirs: Versions) -> Result<()> {
        tracing::warn!(
            target: "vconn",
            "{}: version negotiation failed (we support {}, peer supports {})",
            self.name, versions_text(ours), versions_text(theirs)
        );
        let text = format!(
            "We support {}, you support {}, no common versions.",
            versions_text(ours),
            versions_text(theirs)
        );
        let version = ours.greatest().unwrap_or(Version::V10);
        let xid = self.next_xid();
        self.send(&openflow::error::OfError::HfcIncompatible.encode(version, xid, text.as_bytes()))
    }

    /// The version agreed on.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The name that was connected to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A transaction id that has not been used.
    pub fn next_xid(&mut self) -> u32 {
        self.xids.next()
    }

    /// The runtime, for who waits for more than this connection.
    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The system's.
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        let sent = self.runtime.block_on(async {
            self.stream.write_all(message).await?;
            self.stream.flush().await
        });
        log_sent(&self.name, message, &sent);
        Ok(sent?)
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// The system's, or a message that is none.
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        let Self { runtime, stream, received, name, .. } = self;
        let message = runtime.block_on(read_message(stream, received))?;
        log_received(name, &message);
        Ok(message)
    }

    /// Splits the connection into what a loop selects on.
    pub fn parts(&mut self) -> (&tokio::runtime::Runtime, &mut Stream, &mut Vec<u8>) {
        (&self.runtime, &mut self.stream, &mut self.received)
    }

    /// Sends a request and waits for its reply, or an error that has its transaction id.
    ///
    /// # Errors
    /// The system's.
    pub fn transact(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        let xid = header::xid(request);
        self.send(request)?;
        self.receive_xid(xid)
    }

    /// Waits for a message with a transaction id; others are passed over.
    ///
    /// # Errors
    /// The system's.
    pub fn receive_xid(&mut self, xid: u32) -> Result<Vec<u8>> {
        loop {
            let message = self.receive()?;
            if header::xid(&message) == xid {
                return Ok(message);
            }
            tracing::debug!(
                target: "vconn",
                "{}: received reply with xid {:08x} != expected {xid:08x}", self.name, header::xid(&message)
            );
        }
    }

    /// Sends a request that is answered only by an error, and gives that error, if any.
    ///
    /// # Errors
    /// The system's.
    pub fn transact_noreply(&mut self, request: &[u8]) -> Result<Option<Vec<u8>>> {
        let request_xid = header::xid(request);
        let barrier_xid = self.next_xid();
        let barrier = header::bare(barrier_raw(self.version), self.version, barrier_xid);
        self.send(request)?;
        self.send(&barrier)?;
        let mut answer = None;
        loop {
            let message = self.receive()?;
            match header::xid(&message) {
                xid if xid == request_xid => answer = Some(message),
                xid if xid == barrier_xid => return Ok(answer),
                xid => tracing::debug!(
                    target: "vconn",
                    "{}: reply with xid {xid:08x} doesn't match request xid {request_xid:08x} or barrier xid \
                     {barrier_xid:08x}",
                    self.name
                ),
            }
        }
    }
}

/// The barrier request of a version.
pub fn barrier_raw(version: Version) -> Raw {
    if version == Version::V10 { Raw::Ofpt10BarrierRequest } else { Raw::Ofpt11BarrierRequest }
}

fn number(version: Version) -> String {
    format!("0x{:02x}", version.wire())
}

fn text_of(message: &[u8]) -> String {
    let text = openflow::print::to_string(message, &Default::default(), 1);
    text.trim_end().to_owned()
}

/// `version 0x04`, `version 0x06 and earlier`, `versions 0x01, 0x04`.
fn versions_text(versions: Versions) -> String {
    let bits = versions.0;
    match versions.greatest() {
        _ if bits == 0 => "no versions".to_owned(),
        Some(greatest) if bits.is_power_of_two() => format!("version {}", number(greatest)),
        Some(greatest) if ((bits >> 1) + 1).is_power_of_two() => {
            format!("version {} and earlier", number(greatest))
        }
        _ => format!("versions {}", versions.text()),
    }
}

/// Tells of a message that was sent; the text is made only if it is wanted.
pub fn log_sent(name: &str, message: &[u8], sent: &io::Result<()>) {
    let how = |sent: &io::Result<()>| sent.as_ref().err().map_or("Success".to_owned(), daemon::error_text);
    tracing::debug!(
        target: "vconn", rl = "600,600",
        "{name}: sent ({}): {}", how(sent), text_of(message)
    );
}

/// Tells of a message that was received; the text is made only if it is wanted.
pub fn log_received(name: &str, message: &[u8]) {
    tracing::debug!(
        target: "vconn", rl = "600,600",
        "{name}: received: {}", text_of(message)
    );
}

/// Reads one message; what comes after it stays in `received`.
pub async fn read_message(stream: &mut Stream, received: &mut Vec<u8>) -> Result<Vec<u8>> {
    loop {
        if received.len() >= HEADER {
            let len = header::stated_len(received);
            if len < HEADER {
                tracing::error!(target: "vconn", "received too-short ofp_header ({len} bytes)");
                return Err(VconnError::Protocol);
            }
            if received.len() >= len {
                let rest = received.split_off(len);
                return Ok(std::mem::replace(received, rest));
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await? {
            0 => return Err(VconnError::Eof),
            n => received.extend_from_slice(&chunk[..n]),
        }
    }
}
