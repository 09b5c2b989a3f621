//! Frames to and from other programs over stream sockets, for dummy ports: two bytes of length, big-endian, then the
//! frame. Passive ends (`punix:`, `ptcp:`) serve any number of peers; an active end (`unix:`, `tcp:`) connects again and again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sys::poll::{Bell, wait_readable};

/// What takes received frames.
pub type Deliver = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Peers of one passive end.
const MAX_PEERS: usize = 16;
/// How long a peer may keep a sender waiting before it is dropped.
const PATIENCE: Duration = Duration::from_millis(50);
/// From one attempt to connect to the next.
const RETRY: Duration = Duration::from_millis(100);

enum Peer {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Peer {
    fn connect(target: &str) -> std::io::Result<Self> {
        if let Some(path) = target.strip_prefix("unix:") {
            return UnixStream::connect(path).map(Self::Unix);
        }
        let address = target.strip_prefix("tcp:").ok_or(std::io::ErrorKind::Unsupported)?;
        TcpStream::connect(address).map(Self::Tcp)
    }

    fn duplicate(&self) -> std::io::Result<Self> {
        match self {
            Self::Unix(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.try_clone().map(Self::Unix)
            }
            Self::Tcp(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.try_clone().map(Self::Tcp)
            }
        }
    }

    fn read_exact(&mut self, to: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.read_exact(to),
            Self::Tcp(stream) => stream.read_exact(to),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tcp(stream) => stream.write_all(bytes),
        }
    }

    fn shutdown(&self) {
        // A peer that is gone already is what was wanted.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Reads frames until the peer is gone or breaks the format.
    fn read_frames(&mut self, deliver: &Deliver) {
        let mut frame = Vec::new();
        loop {
            let mut len = [0; 2];
            if self.read_exact(&mut len).is_err() {
                return;
            }
            let len = usize::from(u16::from_be_bytes(len));
            frame.resize(len, 0);
            if len < MIN_FRAME || self.read_exact(&mut frame).is_err() {
                return;
            }
            deliver(&frame);
        }
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    fn bind(target: &str) -> std::io::Result<Self> {
        if let Some(path) = target.strip_prefix("punix:") {
            // A socket that an earlier process left is in the way and answers nobody.
            let _ = std::fs::remove_file(path);
            return UnixListener::bind(path).map(Self::Unix);
        }
        let address = target.strip_prefix("ptcp:").ok_or(std::io::ErrorKind::Unsupported)?;
        let (port, host) = address.split_once(':').unwrap_or((address, "0.0.0.0"));
        TcpListener::bind(format!("{host}:{port}")).map(Self::Tcp)
    }

    fn accept(&self) -> std::io::Result<Peer> {
        match self {
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Peer::Unix(stream)),
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Peer::Tcp(stream)),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Unix(listener) => listener.as_raw_fd(),
            Self::Tcp(listener) => listener.as_raw_fd(),
        }
    }
}

struct Shared {
    peers: Mutex<Vec<Peer>>,
    stop: AtomicBool,
    bell: Bell,
    deliver: Deliver,
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Adds a peer for sending and gives its reading half.
    fn join(&self, peer: Peer) -> Option<Peer> {
        let reader = peer.duplicate().ok()?;
        let mut peers = self.peers();
        if peers.len() >= MAX_PEERS || self.stopped() {
            return None;
        }
        peers.push(peer);
        Some(reader)
    }
}

/// One end, active or passive. Closed when dropped.
pub struct Streams {
    /// The target as configured, `unix:…`, `ptcp:…`.
    pub target: String,
    active: bool,
    shared: Arc<Shared>,
}

impl Streams {
    /// Listens on `target` and gives received frames to `deliver`.
    pub fn listen(target: &str, deliver: Deliver) -> std::io::Result<Self> {
        let listener = Listener::bind(target)?;
        Self::start(target, false, deliver, move |shared| {
            while !shared.stopped() {
                if wait_readable(&[listener.as_raw_fd(), shared.bell.as_raw_fd()], RETRY)
                    && !shared.stopped()
                    && let Ok(peer) = listener.accept()
                    && let Some(mut reader) = shared.join(peer)
                {
                    let deliver = Arc::clone(&shared.deliver);
                    std::thread::spawn(move || reader.read_frames(&deliver));
                }
            }
        })
    }

    /// Connects to `target`, now and whenever the connection is lost.
    pub fn connect(target: &str, deliver: Deliver) -> std::io::Result<Self> {
        let to = target.to_owned();
        Self::start(target, true, deliver, move |shared| {
            while !shared.stopped() {
                if let Ok(peer) = Peer::connect(&to)
                    && let Some(mut reader) = shared.join(peer)
                {
                    reader.read_frames(&shared.deliver);
                    shared.peers().clear();
                }
                wait_readable(&[shared.bell.as_raw_fd()], RETRY);
            }
        })
    }

    fn start(
        target: &str,
        active: bool,
        deliver: Deliver,
        run: impl FnOnce(&Shared) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            peers: Mutex::default(),
            stop: AtomicBool::new(false),
            bell: Bell::new()?,
            deliver,
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("stream".into()).spawn(move || run(&theirs))?;
        Ok(Self { target: target.to_owned(), active, shared })
    }

    /// Whether this end connects by itself.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Whether anybody is at the other end.
    pub fn is_connected(&self) -> bool {
        !self.shared.peers().is_empty()
    }

    /// Sends a frame to all peers; one that does not take it is dropped.
    pub fn send(&self, frame: &[u8]) {
        let Ok(len) = u16::try_from(frame.len()) else { return };
        let message = [&len.to_be_bytes()[..], frame].concat();
        self.shared.peers().retain_mut(|peer| {
            let sent = peer.write_all(&message).is_ok();
            if !sent {
                peer.shutdown();
            }
            sent
        });
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.peers().drain(..).for_each(|peer| peer.shutdown());
        self.shared.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross() {
        let path = std::env::temp_dir().join(format!("turnout-stream-{}", std::process::id()));
        let (tell, told) = std::sync::mpsc::channel();
        let deliver: Deliver = Arc::new(move |frame: &[u8]| tell.send(frame.to_vec()).unwrap());
        let passive = Streams::listen(&format!("punix:{}", path.display()), deliver).unwrap();
        let active = Streams::connect(&format!("unix:{}", path.display()), Arc::new(|_: &[u8]| ())).unwrap();
        while !active.is_connected() {
            std::thread::yield_now();
        }
        active.send(&[7; 60]);
        assert_eq!(told.recv_timeout(Duration::from_secs(5)).unwrap(), [7; 60]);
        assert!(passive.is_connected() && active.is_active() && !passive.is_active());
        drop(active);
        std::fs::remove_file(path).unwrap();
    }
}
