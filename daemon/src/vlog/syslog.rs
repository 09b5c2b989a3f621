//! Where syslog lines go: the local daemon's socket as the C library writes to it, a socket of the user's choice, or a
//! UDP address. A line that cannot be sent is lost, as with `syslog(3)`.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;

/// A way to send lines (`--syslog-method`).
#[derive(Debug, Default)]
pub enum Method {
    /// `libc`: `/dev/log`, with the prefix that `syslog(3)` adds.
    #[default]
    Libc,
    /// `null`: nowhere.
    Null,
    /// `unix:FILE`.
    Unix(String),
    /// `udp:IP:PORT`.
    Udp(SocketAddr),
}

impl Method {
    /// Reads `libc`, `null`, `unix:FILE` or `udp:IP:PORT`.
    ///
    /// # Errors
    /// OVS's words for an unusable one.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.to_owned()));
        }
        if let Some(address) = text.strip_prefix("udp:") {
            return address
                .parse()
                .map(Self::Udp)
                .map_err(|_| format!("failed to connect to syslog udp {address}"));
        }
        match text {
            "libc" => Ok(Self::Libc),
            "null" => Ok(Self::Null),
            _ => Err(format!("unsupported syslog method '{text}'")),
        }
    }

    /// Sends one line; `prefix` is what a method that is not the C library's puts before it.
    pub fn send(&self, priority: u32, app: &str, stamp: &str, prefix: &str, line: &str) {
        let datagram = |path: &str, text: String| {
            UnixDatagram::unbound().and_then(|socket| socket.send_to(text.as_bytes(), path)).map(drop)
        };
        let _ = match self {
            Self::Null => Ok(()),
            Self::Libc => datagram("/dev/log", format!("<{priority}>{stamp} {app}: {line}")),
            Self::Unix(path) => datagram(path, format!("{prefix}{line}")),
            Self::Udp(to) => send_udp(to, &format!("{prefix}{line}")),
        };
    }
}

/// Sends a line to a UDP address (`--syslog-target`, and the method `udp:`).
pub fn send_udp(to: &SocketAddr, text: &str) -> std::io::Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any)?.send_to(text.as_bytes(), to).map(drop)
}
