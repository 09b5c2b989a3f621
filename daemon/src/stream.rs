//! Byte streams by name: `unix:FILE`, `tcp:HOST:PORT`, `ssl:HOST:PORT` connect; `punix:FILE`, `ptcp:[PORT][:HOST]`,
//! `pssl:[PORT][:HOST]` listen. IPv6 addresses stand in brackets; relative files are in the run directory.

pub mod tls;
mod subject;

use crate::dirs::Dirs;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use thiserror::Error;
use tls::Tls;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, tcp, unix};

/// The port of OVSDB, where a name gives none.
pub const OVSDB_PORT: u16 = 6640;
/// The port of OpenFlow, where a name gives none.
pub const OPENFLOW_PORT: u16 = 6653;

/// Why a name is no stream's.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum TargetError {
    /// It begins with no known method. OVS reports `EAFNOSUPPORT`.
    #[error("Address family not supported by protocol")]
    Unknown,
    /// The address or port is not one.
    #[error("{0}: bad peer name format")]
    Address(String),
}

impl From<TargetError> for io::Error {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Unknown => Self::from_raw_os_error(libc::EAFNOSUPPORT),
            TargetError::Address(_) => Self::from_raw_os_error(libc::EINVAL),
        }
    }
}

/// Where to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// `unix:FILE`.
    Unix(PathBuf),
    /// `tcp:HOST[:PORT]`.
    Tcp(String, Option<u16>),
    /// `ssl:HOST[:PORT]`.
    Ssl(String, Option<u16>),
}

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Passive {
    /// `punix:FILE`.
    Unix(PathBuf),
    /// `ptcp:[PORT][:HOST]`.
    Tcp(Option<u16>, IpAddr),
    /// `pssl:[PORT][:HOST]`.
    Ssl(Option<u16>, IpAddr),
}

fn method(name: &str) -> (&str, &str) {
    name.split_once(':').unwrap_or((name, ""))
}

/// Whether `name` is a target's, active or passive, whatever follows the method.
pub fn is_known_target(name: &str) -> bool {
    let (method, _) = method(name);
    name.contains(':') && matches!(method, "unix" | "tcp" | "ssl" | "punix" | "ptcp" | "pssl")
}

/// Splits `HOST:PORT`, `[HOST]:PORT` or either without a port.
fn host_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    Some((host.to_owned(), port))
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(name: &str) -> Result<Self, TargetError> {
        let bad = || TargetError::Address(name.to_owned());
        match method(name) {
            ("unix", path) => Ok(Self::Unix(path.into())),
            ("tcp", rest) => host_port(rest)
                .filter(|(host, _)| !host.is_empty())
                .map(|(h, p)| Self::Tcp(h, p))
                .ok_or_else(bad),
            ("ssl", rest) => host_port(rest)
                .filter(|(host, _)| !host.is_empty())
                .map(|(h, p)| Self::Ssl(h, p))
                .ok_or_else(bad),
            _ => Err(TargetError::Unknown),
        }
    }
}

fn port_host(text: &str) -> Option<(Option<u16>, IpAddr)> {
    let (port, host) = text.split_once(':').unwrap_or((text, ""));
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { IpAddr::from([0, 0, 0, 0]) } else { host.parse().ok()? };
    Some((port, host))
}

impl FromStr for Passive {
    type Err = TargetError;

    fn from_str(name: &str) -> Result<Self, TargetError> {
        let bad = || TargetError::Address(name.to_owned());
        match method(name) {
            ("punix", path) => Ok(Self::Unix(path.into())),
            ("ptcp", rest) => port_host(rest).map(|(port, host)| Self::Tcp(port, host)).ok_or_else(bad),
            ("pssl", rest) => port_host(rest).map(|(port, host)| Self::Ssl(port, host)).ok_or_else(bad),
            _ => Err(TargetError::Unknown),
        }
    }
}

/// What connecting and listening need to know besides the name.
#[derive(Clone)]
pub struct Network {
    /// Where relative files are.
    pub run_dir: PathBuf,
    /// The port where a name gives none.
    pub default_port: u16,
    /// Keys and certificates.
    pub tls: Tls,
}

impl Network {
    /// Without keys, in the environment's run directory, for OVSDB.
    pub fn from_env() -> Self {
        Self { run_dir: Dirs::from_env().run, default_port: OVSDB_PORT, tls: Tls::default() }
    }

    /// Connects to `name`.
    ///
    /// # Errors
    /// The system's; `EAFNOSUPPORT` for an unknown method.
    pub async fn connect(&self, name: &str) -> io::Result<Stream> {
        match name.parse::<Target>()? {
            Target::Unix(path) => Ok(Stream::Unix(UnixStream::connect(self.run_dir.join(path)).await?)),
            Target::Tcp(host, port) => Ok(Stream::Tcp(self.connect_tcp(&host, port).await?)),
            Target::Ssl(host, port) => {
                let tcp = self.connect_tcp(&host, port).await?;
                Ok(Stream::Tls(Box::new(self.tls.connect(tcp, &host).await?)))
            }
        }
    }

    async fn connect_tcp(&self, host: &str, port: Option<u16>) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((host, port.unwrap_or(self.default_port))).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Listens at `name`. Within a runtime.
    ///
    /// # Errors
    /// The system's; `EAFNOSUPPORT` for an unknown method.
    pub fn listen(&self, name: &str) -> io::Result<Listener> {
        match name.parse::<Passive>()? {
            Passive::Unix(path) => {
                let path = self.run_dir.join(path);
                let listener = Listener::bind_unix(&path)?;
                Ok(Listener::Unix { listener: UnixListener::from_std(listener)?, path })
            }
            Passive::Tcp(port, host) => {
                let listener = self.bind_tcp(host, port)?;
                tell_chosen_port(name, port, &listener);
                Ok(Listener::Tcp { listener, tls: None })
            }
            Passive::Ssl(port, host) => {
                let listener = self.bind_tcp(host, port)?;
                tell_chosen_port(name, port, &listener);
                Ok(Listener::Tcp { listener, tls: Some(self.tls.clone()) })
            }
        }
    }

    fn bind_tcp(&self, host: IpAddr, port: Option<u16>) -> io::Result<TcpListener> {
        let socket =
            if host.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(host, port.unwrap_or(self.default_port)))?;
        socket.listen(64)
    }
}

/// Says which port the kernel chose, if it was to choose.
fn tell_chosen_port(name: &str, wanted: Option<u16>, listener: &TcpListener) {
    let target = name.split_once(':').map_or(name, |(_, target)| target);
    if let (Some(0), Ok(address)) = (wanted, listener.local_addr()) {
        tracing::info!(target: "socket_util", "{target}: listening on port {}", address.port());
    }
}

/// A connected stream.
pub enum Stream {
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
    /// Over TLS over TCP.
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to `name` without keys, in the environment's run directory; programs with keys use
    /// [`Network::connect`].
    ///
    /// # Errors
    /// As [`Network::connect`].
    pub async fn connect(name: &str) -> io::Result<Self> {
        Network::from_env().connect(name).await
    }

    /// The address of the peer as OVS names it: `tcp:1.2.3.4:5`, `ssl:…`, and none for a Unix socket.
    pub fn peer(&self) -> Option<String> {
        let (method, address) = match self {
            Self::Unix(_) => return None,
            Self::Tcp(tcp) => ("tcp", tcp.peer_addr().ok()?),
            Self::Tls(tls) => ("ssl", tls.get_ref().0.peer_addr().ok()?),
        };
        Some(format!("{method}:{address}"))
    }

    /// Who the peer is by its certificate: the common name in it. The certificate was checked when the stream began.
    pub fn peer_name(&self) -> Option<String> {
        let Self::Tls(tls) = self else { return None };
        subject::common_name(tls.get_ref().1.peer_certificates()?.first()?)
    }

    /// Our own address, if it is an Internet one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            Self::Tls(tls) => tls.get_ref().0.local_addr().ok(),
        }
    }
}

impl Stream {
    /// One half to read from and one to write to.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Tls(stream) => {
                let (read, write) = tokio::io::split(*stream);
                (ReadHalf::Tls(read), WriteHalf::Tls(write))
            }
        }
    }
}

/// The half of a stream that is read.
pub enum ReadHalf {
    /// Of a Unix socket.
    Unix(unix::OwnedReadHalf),
    /// Of a TCP connection.
    Tcp(tcp::OwnedReadHalf),
    /// Of a TLS connection.
    Tls(tokio::io::ReadHalf<tokio_rustls::TlsStream<TcpStream>>),
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

/// The half of a stream that is written.
pub enum WriteHalf {
    /// Of a Unix socket.
    Unix(unix::OwnedWriteHalf),
    /// Of a TCP connection.
    Tcp(tcp::OwnedWriteHalf),
    /// Of a TLS connection.
    Tls(tokio::io::WriteHalf<tokio_rustls::TlsStream<TcpStream>>),
}

impl WriteHalf {
    /// Writes what the peer takes at once, and says how much that was.
    ///
    /// # Errors
    /// The system's: `WouldBlock` if it takes nothing now; always over TLS, which has to be written by a task.
    pub fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, bytes) {
            (Self::Unix(s), [one]) => s.try_write(one),
            (Self::Tcp(s), [one]) => s.try_write(one),
            (Self::Unix(s), several) => s.try_write_vectored(several),
            (Self::Tcp(s), several) => s.try_write_vectored(several),
            (Self::Tls(_), _) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes all.
    ///
    /// # Errors
    /// The system's.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(s) => s.write_all(bytes).await,
            Self::Tcp(s) => s.write_all(bytes).await,
            Self::Tls(s) => {
                s.write_all(bytes).await?;
                s.flush().await
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.peer()).finish()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// A listening socket. A Unix one removes its file when dropped.
pub enum Listener {
    /// `punix:`.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Its file.
        path: PathBuf,
    },
    /// `ptcp:`, and `pssl:` if there are keys.
    Tcp {
        /// The socket.
        listener: TcpListener,
        /// The keys.
        tls: Option<Tls>,
    },
}

impl Listener {
    /// Binds a Unix socket that owner and group may use, replacing a file that is there.
    ///
    /// # Errors
    /// The system's, which is also logged.
    pub fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        let mask = sys::process::umask(0o027);
        let listener = std::os::unix::net::UnixListener::bind(path);
        sys::process::umask(mask);
        let listener = listener.inspect_err(|error| {
            let text = crate::error_text(error);
            tracing::error!(target: "stream_unix", "{}: binding failed: {text}", path.display());
        })?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// The next connection. A TLS one is returned when its handshake is done.
    ///
    /// # Errors
    /// The system's; the listener goes on.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Tcp { listener, tls } => {
                let (tcp, _) = listener.accept().await?;
                tcp.set_nodelay(true)?;
                match tls {
                    None => Ok(Stream::Tcp(tcp)),
                    Some(tls) => Ok(Stream::Tls(Box::new(tls.accept(tcp).await?))),
                }
            }
        }
    }

    /// The bound TCP port.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Unix { .. } => None,
            Self::Tcp { listener, .. } => listener.local_addr().ok().map(|address| address.port()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!("unix:db.sock".parse(), Ok(Target::Unix("db.sock".into())));
        assert_eq!("tcp:1.2.3.4:5".parse(), Ok(Target::Tcp("1.2.3.4".into(), Some(5))));
        assert_eq!("ssl:[::1]:5".parse(), Ok(Target::Ssl("::1".into(), Some(5))));
        assert_eq!("tcp:host".parse(), Ok(Target::Tcp("host".into(), None)));
        assert_eq!("ptcp:".parse(), Ok(Passive::Tcp(None, IpAddr::from([0, 0, 0, 0]))));
        assert_eq!("ptcp:0:127.0.0.1".parse(), Ok(Passive::Tcp(Some(0), IpAddr::from([127, 0, 0, 1]))));
        assert_eq!("pssl:1:[::1]".parse(), Ok(Passive::Ssl(Some(1), "::1".parse().unwrap())));
        assert_eq!("nope".parse::<Target>(), Err(TargetError::Unknown));
        assert!("tcp::6640".parse::<Target>().is_err());
        assert!(is_known_target("pssl:") && !is_known_target("unix") && !is_known_target("db:x"));
    }
}
