//! One OpenFlow connection over a stream of bytes, sans I/O: framing, version negotiation, and the queue of messages to
//! send.

use std::collections::VecDeque;

use openflow::error::OfError;
use openflow::header::{self, Header, LEN, Type};
use openflow::msg::hello::{Hello, Versions};
use openflow::names::Names;
use openflow::print;
use openflow::version::Version;

/// Why a connection is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The peer closed it between messages.
    Closed,
    /// An error of the system, or of the protocol, in words.
    Failed(String),
}

impl End {
    /// As the `last_error` of the database names it.
    pub fn text(&self) -> &str {
        match self {
            Self::Closed => "End of file",
            Self::Failed(text) => text,
        }
    }
}

/// What messages in the queue are, to count each kind by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Plain,
    /// An answer to a request; too many of these stop the reading of requests.
    Reply,
    PacketIn,
    /// What a flow monitor tells.
    Monitor,
}

/// How much of one kind is in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Backlog {
    pub messages: usize,
    pub bytes: usize,
}

enum State {
    /// The peer has not said hello.
    Greeting,
    Open(Version),
    /// Versions do not go together; over when the error is sent.
    Refusing,
}

/// Text of a protocol error.
const BAD_PROTOCOL: &str = "Protocol error";
const RESET: &str = "Connection reset by peer";

/// A connection.
pub struct Vconn {
    name: String,
    allowed: Versions,
    state: State,
    inbox: Vec<u8>,
    /// How much of `inbox` has been taken.
    taken: usize,
    outbox: VecDeque<(Vec<u8>, Kind)>,
    /// How much of the outbox's front has been sent.
    sent: usize,
    backlogs: [Backlog; 4],
    end: Option<End>,
}

impl Vconn {
    /// A connection that has just been made. It says hello.
    pub fn new(name: String, allowed: Versions, xid: u32) -> Self {
        let mut this = Self {
            name,
            allowed,
            state: State::Greeting,
            inbox: Vec::new(),
            taken: 0,
            outbox: VecDeque::new(),
            sent: 0,
            backlogs: [Backlog::default(); 4],
            end: None,
        };
        this.send(Hello::encode(allowed, xid), Kind::Plain);
        this
    }

    /// What logs call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that was agreed on.
    pub fn version(&self) -> Option<Version> {
        match self.state {
            State::Open(version) => Some(version),
            State::Greeting | State::Refusing => None,
        }
    }

    /// Takes in what was received.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.inbox.drain(..std::mem::take(&mut self.taken));
        }
        self.inbox.extend_from_slice(bytes);
    }

    /// Says that nothing more will be received or can be sent.
    pub fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Whether [`Self::receive`] gives something without more input.
    pub fn has_input(&self) -> bool {
        self.end.is_some() || self.frame().is_some() || self.is_refused()
    }

    /// Forgets what was received.
    pub fn discard_input(&mut self) {
        self.taken = self.inbox.len();
    }

    /// How much input waits.
    pub fn unread(&self) -> usize {
        self.inbox.len() - self.taken
    }

    /// Whether nothing more will be received or can be sent.
    pub fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    fn is_refused(&self) -> bool {
        matches!(self.state, State::Refusing) && self.outbox.is_empty()
    }

    /// The length of the message at the front of the input, if it is all there, or is said to be shorter than it can
    /// be.
    fn frame(&self) -> Option<usize> {
        let rest = &self.inbox[self.taken..];
        let len = (rest.len() >= LEN).then(|| header::stated_len(rest))?;
        (rest.len() >= len).then_some(len)
    }

    fn pull(&mut self) -> Result<Option<Vec<u8>>, End> {
        let failed = || Err(End::Failed(BAD_PROTOCOL.to_owned()));
        let Some(len) = self.frame() else {
            return match &self.end {
                None => Ok(None),
                Some(End::Closed) if self.unread() > 0 => {
                    tracing::error!(target: "vconn_stream", rl = "1,5", "connection dropped mid-packet");
                    failed()
                }
                Some(end) => Err(end.clone()),
            };
        };
        if len < LEN {
            tracing::error!(
                target: "vconn_stream", rl = "1,5",
                "received too-short ofp_header ({len} bytes)"
            );
            return failed();
        }
        let msg = self.inbox[self.taken..self.taken + len].to_vec();
        self.taken += len;
        self.log("received", &msg);
        Ok(Some(msg))
    }

    fn log(&self, what: &str, msg: &[u8]) {
        if tracing::event_enabled!(target: "vconn", tracing::Level::DEBUG) {
            let text = print::to_string(msg, &Names::default(), 1);
            tracing::debug!(target: "vconn", rl = "600,600", "{}: {what}: {}", self.name, text.trim_end());
        }
    }

    /// The next message, once versions are agreed on. Hellos that belong to the agreement are not given.
    ///
    /// # Errors
    ///
    /// The connection is over.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, End> {
        loop {
            match self.state {
                State::Refusing if self.is_refused() => return Err(End::Failed(BAD_PROTOCOL.to_owned())),
                State::Refusing => return self.end.clone().map_or(Ok(None), Err),
                State::Greeting => match self.pull() {
                    Ok(Some(msg)) => self.greet(&msg)?,
                    Ok(None) => return Ok(None),
                    Err(End::Closed) => return Err(End::Failed(RESET.to_owned())),
                    Err(end) => return Err(end),
                },
                State::Open(version) => match self.pull()? {
                    Some(msg) if self.check_version(&msg, version) => return Ok(Some(msg)),
                    Some(_) => {}
                    None => return Ok(None),
                },
            }
        }
    }

    fn greet(&mut self, msg: &[u8]) -> Result<(), End> {
        if !Header::peek(msg).is_ok_and(|header| header.kind() == Type::Hello) {
            let text = print::to_string(msg, &Names::default(), 1);
            tracing::warn!(
                target: "vconn", rl = "600,600",
                "{}: received message while expecting hello: {text}", self.name
            );
            return Err(End::Failed(BAD_PROTOCOL.to_owned()));
        }
        let hello = Hello::decode(msg);
        if !hello.understood {
            let dump = hex_dump(msg);
            tracing::warn!(target: "vconn", rl = "600,600", "{}: unknown data in hello:\n{dump}", self.name);
        }
        let (ours, theirs) = (in_words(self.allowed), in_words(hello.versions));
        let common = Versions(self.allowed.0 & hello.versions.0);
        let name = &self.name;
        if let Some(version) = common.greatest() {
            tracing::debug!(
                target: "vconn",
                "{name}: negotiated OpenFlow version 0x{:02x} (we support {ours}, peer supports {theirs})",
                version.wire()
            );
            self.state = State::Open(version);
        } else {
            tracing::warn!(
                target: "vconn", rl = "600,600",
                "{name}: version negotiation failed (we support {ours}, peer supports {theirs})"
            );
            let text = format!("We support {ours}, you support {theirs}, no common versions.");
            let version = hello.versions.greatest().unwrap_or(Version::V10);
            self.send(OfError::HfcIncompatible.encode(version, 0, text.as_bytes()), Kind::Plain);
            self.state = State::Refusing;
        }
        Ok(())
    }

    /// Whether a message may have the version that it has; if not, the peer is told.
    fn check_version(&mut self, msg: &[u8], version: Version) -> bool {
        let exempt = |header: Header| {
            matches!(header.kind(), Type::Hello | Type::Error | Type::EchoRequest | Type::EchoReply)
        };
        if msg[0] == version.wire() || Header::peek(msg).is_ok_and(exempt) {
            return true;
        }
        tracing::error!(
            target: "vconn", rl = "600,600",
            "{}: received OpenFlow version 0x{:02x} != expected {:02x}", self.name, msg[0], version.wire()
        );
        self.send(OfError::BrcBadVersion.reply_to(msg), Kind::Plain);
        false
    }

    /// Queues a message.
    pub fn send(&mut self, msg: Vec<u8>, kind: Kind) {
        self.log("sent (Success)", &msg);
        let backlog = &mut self.backlogs[kind as usize];
        backlog.messages += 1;
        backlog.bytes += msg.len();
        self.outbox.push_back((msg, kind));
    }

    /// How much of a kind is in the queue.
    pub fn backlog(&self, kind: Kind) -> Backlog {
        self.backlogs[kind as usize]
    }

    /// The number of messages in the queue.
    pub fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// What is to be sent next; empty for nothing.
    pub fn output(&self) -> &[u8] {
        self.outbox.front().map_or(&[], |(msg, _)| &msg[self.sent..])
    }

    /// Says that this many bytes of [`Self::output`] were sent.
    pub fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.outbox.front().is_some_and(|(msg, _)| self.sent >= msg.len())
            && let Some((msg, kind)) = self.outbox.pop_front()
        {
            self.sent = 0;
            let backlog = &mut self.backlogs[kind as usize];
            backlog.messages -= 1;
            backlog.bytes -= msg.len();
        }
    }
}

/// A set of versions as logs tell it.
fn in_words(versions: Versions) -> String {
    let top = |set: u32| format!("0x{:02x}", 31 - set.leading_zeros());
    match versions.0 {
        0 => "no versions".to_owned(),
        set if set.is_power_of_two() => format!("version {}", top(set)),
        set if ((set >> 1) + 1).is_power_of_two() => format!("version {} and earlier", top(set)),
        _ => format!("versions {}", versions.text()),
    }
}

/// Sixteen bytes a line, in hexadecimal and as characters.
fn hex_dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (i, line) in bytes.chunks(16).enumerate() {
        let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let (left, right) = hex.split_at(hex.len().min(8));
        let middle = if right.is_empty() { String::new() } else { format!("-{}", right.join(" ")) };
        let chars: String =
            line.iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { b as char } else { '.' }).collect();
        out += &format!("{:08x}  {:<47} |{chars}|\n", i * 16, left.join(" ") + &middle);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::header::{Raw, bare};
    use proptest::prelude::*;

    fn sent(vconn: &mut Vconn) -> Vec<String> {
        let mut texts = Vec::new();
        while !vconn.output().is_empty() {
            let msg = vconn.output().to_vec();
            texts.push(print::to_string(&msg, &Names::default(), 1).trim_end().to_owned());
            vconn.advance(msg.len());
        }
        texts
    }

    fn connection() -> Vconn {
        let mut vconn = Vconn::new("peer".to_owned(), Versions::ALL, 1);
        assert_eq!(
            sent(&mut vconn),
            ["OFPT_HELLO (OF1.5) (xid=0x1):\n version bitmap: 0x01, 0x02, 0x03, 0x04, 0x05, 0x06"]
        );
        vconn
    }

    #[test]
    fn the_greatest_common_version_is_spoken() {
        let mut vconn = connection();
        let hello = Hello::encode([Version::V10, Version::V13].into_iter().collect(), 7);
        vconn.feed(&hello[..5]);
        assert_eq!(vconn.receive(), Ok(None));
        vconn.feed(&hello[5..]);
        assert_eq!((vconn.receive(), vconn.version()), (Ok(None), Some(Version::V13)));
        let request = bare(Raw::OfptFeaturesRequest, Version::V13, 8);
        vconn.feed(&request);
        assert_eq!(vconn.receive(), Ok(Some(request)));
    }

    #[test]
    fn a_peer_without_a_common_version_is_told() {
        let mut vconn = Vconn::new("peer".to_owned(), [Version::V13].into_iter().collect(), 1);
        sent(&mut vconn);
        vconn.feed(&[1, 0, 0, 8, 0, 0, 0, 5]);
        assert_eq!(vconn.receive(), Ok(None));
        assert_eq!(
            sent(&mut vconn),
            ["OFPT_ERROR (xid=0x0): OFPHFC_INCOMPATIBLE\n\
              We support version 0x04, you support version 0x01, no common versions."]
        );
        assert_eq!(vconn.receive(), Err(End::Failed(BAD_PROTOCOL.to_owned())));
    }

    #[test]
    fn messages_of_another_version_are_refused() {
        let mut vconn = connection();
        vconn.feed(&Hello::encode(Versions::ALL, 7));
        vconn.feed(&bare(Raw::OfptFeaturesRequest, Version::V10, 8));
        assert_eq!(vconn.receive(), Ok(None));
        let told = sent(&mut vconn);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("OFPT_ERROR (xid=0x8): OFPBRC_BAD_VERSION"), "{told:?}");
    }

    #[test]
    fn the_end_comes_after_what_was_received() {
        let mut vconn = connection();
        vconn.feed(&Hello::encode(Versions::ALL, 7));
        let barrier = bare(Raw::Ofpt11BarrierRequest, Version::V15, 8);
        vconn.feed(&barrier);
        vconn.finish(End::Closed);
        assert_eq!(vconn.receive(), Ok(Some(barrier)));
        assert_eq!(vconn.receive(), Err(End::Closed));
    }

    #[test]
    fn the_queue_is_counted_by_kind() {
        let mut vconn = connection();
        vconn.send(vec![0; 10], Kind::Reply);
        vconn.send(vec![0; 20], Kind::PacketIn);
        vconn.advance(4);
        assert_eq!(vconn.backlog(Kind::Reply), Backlog { messages: 1, bytes: 10 });
        vconn.advance(6);
        assert_eq!(vconn.backlog(Kind::Reply), Backlog::default());
        assert_eq!((vconn.backlog(Kind::PacketIn).bytes, vconn.output().len()), (20, 20));
    }

    #[test]
    fn sets_of_versions_in_words() {
        assert_eq!(in_words(Versions(0)), "no versions");
        assert_eq!(in_words(Versions(1 << 4)), "version 0x04");
        assert_eq!(in_words(Versions(0x1e)), "version 0x04 and earlier");
        assert_eq!(in_words(Versions(0x12)), "versions 0x01, 0x04");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_received_panics(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let mut vconn = Vconn::new("peer".to_owned(), Versions::ALL, 1);
            for chunk in chunks {
                vconn.feed(&chunk);
                while let Ok(Some(_)) = vconn.receive() {}
            }
            vconn.finish(End::Closed);
            while let Ok(Some(_)) = vconn.receive() {}
        }
    }
}
