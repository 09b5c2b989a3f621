//! Netlink messages over [`sys::netlink`] sockets: requests one by one and in batches, dumps, acknowledgements with the
//! kernel's own words (RFC 3549, `linux/netlink.h`).
//!
//! A request runs inside the `send` that brings it. So requests of a batch ask for no acknowledgement: when everything that
//! waits was read, those that nobody complained of have succeeded. Complaints and replies are matched by sequence number.
//! When the kernel could not deliver something (`ENOBUFS`), requests without an answer have an unknown outcome
//! ([`Outcome::Unknown`]); requests that only read are sent again, the rest is the caller's to read back.
//!
//! Nothing here trusts a length: what is malformed is a [`Malformed`] with its offset, and becomes `EPROTO`.

use std::sync::{Mutex, PoisonError};

use flow::attr::{AttrError, Attrs, Writer, align};

use sys::errno::Errno;
use sys::netlink::{Mailbox, Socket};

use crate::Error;

/// Flags of messages (`NLM_F_*`).
pub mod flag {
    use netlink_packet_core as core;

    pub const REQUEST: u16 = core::NLM_F_REQUEST;
    pub const MULTI: u16 = core::NLM_F_MULTIPART;
    pub const ACK: u16 = core::NLM_F_ACK;
    /// The change is told to the sender, too.
    pub const ECHO: u16 = core::NLM_F_ECHO;
    /// Something changed while the dump went on.
    pub const DUMP_INTR: u16 = core::NLM_F_DUMP_INTR;
    pub const DUMP: u16 = core::NLM_F_DUMP;
    pub const CREATE: u16 = core::NLM_F_CREATE;
    pub const EXCL: u16 = core::NLM_F_EXCL;
    pub const REPLACE: u16 = core::NLM_F_REPLACE;
    /// Of an error: the request is not repeated beyond its header.
    pub const CAPPED: u16 = 0x100;
    /// Of an error: attributes follow.
    pub const ACK_TLVS: u16 = 0x200;
}

/// Message types below the families' (`NLMSG_*`).
mod kind {
    use netlink_packet_core as core;

    pub const NOOP: u16 = core::NLMSG_NOOP;
    pub const ERROR: u16 = core::NLMSG_ERROR;
    pub const DONE: u16 = core::NLMSG_DONE;
    pub const OVERRUN: u16 = core::NLMSG_OVERRUN;
    /// The least that is not netlink's own (`NLMSG_MIN_TYPE`).
    pub const OTHERS: u16 = 0x10;
}

/// Attributes of errors (`NLMSGERR_ATTR_*`).
mod extack {
    pub const MSG: u16 = 1;
    pub const OFFSET: u16 = 2;
}

/// Bytes of a message's header.
pub const HEADER: usize = 16;

/// Requests in a batch, at most: 256 on a default buffer lost half of the answers.
pub const MAX_BATCH: usize = 64;

/// Answers that there is room for at first, where none is asked for.
const FEW: usize = 4;

/// Bytes of a batch, at most, unless one request alone is longer.
pub const MAX_BATCH_BYTES: usize = 64 << 10;

/// A message that is not one; `at` counts from the start of the datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than a header.
    #[error("netlink message header truncated at offset {at}")]
    Truncated { at: usize },
    /// The length is below that of a header or beyond the end.
    #[error("netlink message at offset {at} has bad length {len}")]
    BadLength { at: usize, len: usize },
    /// The payload is shorter than what every message of its kind starts with.
    #[error("netlink message at offset {at} has {got} bytes of payload, less than {want}")]
    Short { at: usize, want: usize, got: usize },
    /// The message is of another family or command than it should be.
    #[error("netlink message at offset {at} has unexpected type {kind} or command {command}")]
    Unexpected { at: usize, kind: u16, command: u8 },
    #[error("{0}")]
    Attribute(#[from] AttrError),
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        tracing::debug!(target: "netlink_socket", rl = "60,600", "{malformed}");
        Self::Malformed(malformed.to_string().into())
    }
}

impl From<AttrError> for Error {
    fn from(error: AttrError) -> Self {
        Malformed::from(error).into()
    }
}

/// One message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// The family's id, or a type below 16.
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub pid: u32,
    /// Offset of the header from the start of the datagram.
    pub at: usize,
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// What an error, an acknowledgement or the end of a dump says: `None` for other messages, `Some(Ok)` for success.
    pub fn verdict(&self) -> Option<Result<(), Refusal>> {
        if self.kind != kind::ERROR && self.kind != kind::DONE {
            return None;
        }
        let code = self.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        if code == 0 {
            return Some(Ok(()));
        }
        let errno = Errno(code.checked_neg().filter(|errno| *errno > 0).unwrap_or(Errno::EPROTO.0));
        let (text, offset) = self.explanation();
        Some(Err(Refusal { errno, text, offset }))
    }

    /// The kernel's words and the offset that it objects to, from an extended acknowledgement.
    fn explanation(&self) -> (Option<Box<str>>, Option<u32>) {
        if self.flags & flag::ACK_TLVS == 0 {
            return (None, None);
        }
        let mut tail = self.payload.get(4..).unwrap_or_default();
        if self.kind == kind::ERROR {
            let request = tail.first_chunk().map_or(0, |len| u32::from_ne_bytes(*len) as usize);
            let skip = if self.flags & flag::CAPPED != 0 { HEADER } else { request };
            tail = tail.get(align(skip.min(tail.len()))..).unwrap_or_default();
        }
        let attrs = Attrs::new(tail);
        let text = attrs.find(extack::MSG).and_then(|attr| attr.str().ok()).map(Into::into);
        let offset = attrs.find(extack::OFFSET).and_then(|attr| attr.u32().ok());
        (text, offset)
    }

    /// An error about a payload that is too short.
    pub fn short(&self, want: usize) -> Malformed {
        Malformed::Short { at: self.at, want, got: self.payload.len() }
    }
}

/// The messages of a datagram; ends after the first malformed one.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Messages<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    #[inline]
    fn step(&mut self) -> Result<Message<'a>, Malformed> {
        let at = self.at;
        let Some(header) = self.data.first_chunk::<HEADER>() else {
            return Err(Malformed::Truncated { at });
        };
        let word = |n: usize| u32::from_ne_bytes([header[n], header[n + 1], header[n + 2], header[n + 3]]);
        let len = word(0) as usize;
        let payload = self.data.get(HEADER..len).ok_or(Malformed::BadLength { at, len })?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            seq: word(8),
            pid: word(12),
            at,
            payload,
        };
        let whole = align(len).min(self.data.len());
        self.data = &self.data[whole..];
        self.at += whole;
        Ok(message)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.data.is_empty() {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.data = &[];
        }
        Some(step)
    }
}

/// A request that the kernel refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub errno: Errno,
    /// The kernel's words, if it had any.
    pub text: Option<Box<str>>,
    /// The offset in the request that the kernel objects to.
    pub offset: Option<u32>,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal.text {
            Some(text) => Self::Refused { errno: refusal.errno, text },
            None => Self::Os(refusal.errno),
        }
    }
}

/// Requests, one after another, ready to be sent.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: usize,
    /// Whether any asks for an answer by its flags.
    curious: bool,
}

impl Batch {
    /// Requests that it holds.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a request of `bytes` more bytes has room.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.count == 0 || (self.count < MAX_BATCH && self.bytes.len() + bytes <= MAX_BATCH_BYTES)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.curious) = (0, false);
    }

    /// Appends a request of `kind` (the family's id): `head` is what stands before its attributes, which `fill` writes.
    /// Sequence number and port id are filled in when it is sent.
    pub fn push(&mut self, kind: u16, flags: u16, head: &[u8], fill: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        let mut header = [0; HEADER];
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(head);
        self.bytes.resize(align(self.bytes.len()), 0);
        let mut writer = Writer::after(std::mem::take(&mut self.bytes));
        fill(&mut writer);
        self.bytes = writer.into_bytes();
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.count += 1;
        self.curious |= flags & (flag::ECHO | flag::ACK) != 0;
    }

    /// Numbers the requests from `seq` up.
    fn number(&mut self, seq: u32, pid: u32) {
        let (mut at, mut seq) = (0, seq);
        while let Some(len) = self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let len = u32::from_ne_bytes(*len) as usize;
            self.bytes[at + 8..at + 12].copy_from_slice(&seq.to_ne_bytes());
            self.bytes[at + 12..at + 16].copy_from_slice(&pid.to_ne_bytes());
            at += len.max(HEADER);
            seq = seq.wrapping_add(1);
        }
    }
}

/// What became of a request of a batch.
pub enum Outcome<'a> {
    /// It was done, and nothing more was said.
    Done,
    /// It was done, and the kernel has this to say. Only who asks for an acknowledgement hears it.
    Warned(Box<str>),
    /// It was done, and this is the answer.
    Reply(Message<'a>),
    Refused(Refusal),
    /// The answer was lost: it was done or not.
    Unknown,
}

/// A socket with its memory, for requests. One request or dump at a time.
pub struct Client {
    socket: Socket,
    mailbox: Mailbox,
    seq: u32,
    batch: Batch,
    settled: [bool; MAX_BATCH],
    unread_dump: bool,
}

impl Client {
    /// Opens a socket of a protocol ([`sys::netlink::NETLINK_GENERIC`], …).
    pub fn open(protocol: isize) -> Result<Self, Errno> {
        Ok(Self {
            socket: Socket::open(protocol)?,
            mailbox: Mailbox::new(MAX_BATCH),
            seq: 1,
            batch: Batch::default(),
            settled: [false; MAX_BATCH],
            unread_dump: false,
        })
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sequence numbers for `n` requests; never 0, which is that of events.
    fn allocate(&mut self, n: usize) -> u32 {
        let n = n as u32;
        if self.seq.checked_add(n).is_none() {
            self.seq = 1;
        }
        let first = self.seq;
        self.seq += n;
        first
    }

    /// Makes sure that answers of an earlier, unfinished dump are not in the way.
    fn tidy(&mut self) {
        if std::mem::take(&mut self.unread_dump) {
            self.socket.drain();
        }
    }

    /// Sends what `fill` wrote as one request and returns the reply's payload, if there was one.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Os`] with what the kernel said. A lost answer is `ENOBUFS`.
    pub fn transact(
        &mut self,
        kind: u16,
        flags: u16,
        head: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        batch.push(kind, flags, head, fill);
        let mut result = Ok(None);
        let sent = self.transact_batch(&mut batch, &mut |_, outcome| match outcome {
            Outcome::Done | Outcome::Warned(_) => {}
            Outcome::Reply(message) => result = Ok(Some(message.payload.to_vec())),
            Outcome::Refused(refusal) => result = Err(refusal.into()),
            Outcome::Unknown => result = Err(Errno::ENOBUFS.into()),
        });
        self.batch = batch;
        sent?;
        result
    }

    /// Sends a batch and tells `tell` what became of each request, by its place. A request that asked for an
    /// acknowledgement beside its reply is told of once, with its reply.
    ///
    /// # Errors
    /// If the batch could not be sent: then nothing of it was done, and `tell` was not called.
    pub fn transact_batch(
        &mut self,
        batch: &mut Batch,
        tell: &mut dyn FnMut(usize, Outcome<'_>),
    ) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        self.tidy();
        let n = batch.len().min(MAX_BATCH);
        let base = self.allocate(batch.len());
        batch.number(base, self.socket.pid());
        self.settled = [false; MAX_BATCH];
        let mut lost = false;
        match self.socket.send(batch.bytes()) {
            Ok(()) => {}
            // The kernel worked on it, but an answer did not fit.
            Err(Errno::ENOBUFS) => lost = true,
            Err(errno) => return Err(errno.into()),
        }
        // Mostly nothing comes where nothing was asked for, and to make room for much costs.
        let mut room = if batch.curious { n } else { n.min(FEW) };
        // Each pass takes something off the socket, of which there is a bounded lot: every request has few answers.
        loop {
            match self.mailbox.receive_some(&self.socket, room) {
                Ok(0) => break,
                Ok(_) => room = n,
                Err(Errno::ENOBUFS | Errno::EMSGSIZE) => {
                    lost = true;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            }
            for datagram in self.mailbox.iter() {
                settle(datagram, base, &mut self.settled[..n], tell);
            }
        }
        if lost {
            tracing::debug!(target: "netlink_socket", rl = "60,600", "receive buffer overflow, {n} requests");
        }
        for place in (0..n).filter(|place| !self.settled[*place]) {
            tell(place, if lost { Outcome::Unknown } else { Outcome::Done });
        }
        Ok(())
    }

    /// Begins a dump; [`Client::dump_next`] brings it.
    pub fn dump_start(
        &mut self,
        kind: u16,
        head: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> Result<DumpState, Error> {
        self.tidy();
        self.batch.clear();
        self.batch.push(kind, flag::DUMP | flag::ACK, head, fill);
        let seq = self.allocate(1);
        let mut batch = std::mem::take(&mut self.batch);
        batch.number(seq, self.socket.pid());
        let sent = self.socket.send(batch.bytes());
        self.batch = batch;
        sent?;
        self.unread_dump = true;
        Ok(DumpState { seq, done: false, interrupted: false })
    }

    /// Gives the next messages of a dump to `each`; returns whether there may be more.
    ///
    /// # Errors
    /// What the kernel said, what `each` said, or `ENOBUFS` if parts were lost. The dump is over then.
    pub fn dump_next(
        &mut self,
        dump: &mut DumpState,
        each: impl FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        if dump.done {
            return Ok(false);
        }
        let result = self.dump_read(dump, each);
        if !matches!(result, Ok(true)) {
            dump.done = true;
        }
        if matches!(result, Ok(false)) {
            self.unread_dump = false;
        }
        result
    }

    fn dump_read(
        &mut self,
        dump: &mut DumpState,
        mut each: impl FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        // The kernel never blocks while it dumps: when nothing waits, nothing will come.
        if self.mailbox.receive_some(&self.socket, 1)? == 0 {
            return Err(Errno::EPROTO.into());
        }
        for datagram in self.mailbox.iter() {
            for message in Messages::new(datagram) {
                let message = message?;
                if message.seq != dump.seq {
                    tracing::debug!(
                        target: "netlink_socket", rl = "60,600",
                        "ignoring seq {:#x} != expected {:#x}", message.seq, dump.seq
                    );
                    continue;
                }
                dump.interrupted |= message.flags & flag::DUMP_INTR != 0;
                if message.kind >= kind::OTHERS {
                    each(message)?;
                    continue;
                }
                match message.verdict() {
                    Some(Ok(())) if message.kind == kind::DONE => return Ok(false),
                    Some(Ok(())) => {}
                    Some(Err(refusal)) => return Err(refusal.into()),
                    None if message.kind == kind::OVERRUN => return Err(Errno::ENOBUFS.into()),
                    None if message.kind == kind::NOOP => {}
                    None => each(message)?,
                }
            }
        }
        Ok(true)
    }

    /// A whole dump. It is begun again, a few times, when something changed meanwhile; `restart` is called before each.
    pub fn dump(
        &mut self,
        kind: u16,
        head: &[u8],
        fill: &dyn Fn(&mut Writer),
        restart: &mut dyn FnMut(),
        each: &mut dyn FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for attempt in 0.. {
            restart();
            let mut state = self.dump_start(kind, head, fill)?;
            while self.dump_next(&mut state, &mut *each)? {}
            if !state.interrupted || attempt >= DUMP_RETRIES {
                break;
            }
        }
        Ok(())
    }
}

/// How often an interrupted dump is begun again; after that what it gave is taken as it is.
const DUMP_RETRIES: u32 = 4;

/// Where a dump is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DumpState {
    seq: u32,
    done: bool,
    /// Something changed while the dump went on: parts may be missing or twice there.
    pub interrupted: bool,
}

/// Matches the messages of a datagram with the requests from `base` up, of which those in `settled` had their answer.
pub fn settle(datagram: &[u8], base: u32, settled: &mut [bool], tell: &mut dyn FnMut(usize, Outcome<'_>)) {
    for message in Messages::new(datagram) {
        let message = match message {
            Ok(message) => message,
            Err(malformed) => {
                tracing::debug!(target: "netlink_socket", rl = "60,600", "{malformed}");
                return;
            }
        };
        let place = message.seq.wrapping_sub(base) as usize;
        let Some(slot) = settled.get_mut(place) else {
            tracing::debug!(target: "netlink_socket", rl = "60,600", "ignoring unexpected seq {:#x}", message.seq);
            continue;
        };
        if std::mem::replace(slot, true) {
            continue;
        }
        match message.verdict() {
            None => tell(place, Outcome::Reply(message)),
            Some(Ok(())) => tell(place, message.explanation().0.map_or(Outcome::Done, Outcome::Warned)),
            Some(Err(refusal)) => {
                let words = refusal.text.as_deref().map_or_else(|| refusal.errno.to_string(), str::to_owned);
                tracing::debug!(
                    target: "netlink_socket", rl = "60,600",
                    "received NAK error={} - {words}", refusal.errno.0
                );
                tell(place, Outcome::Refused(refusal));
            }
        }
    }
}

/// Clients of one protocol, lent to whoever needs one.
pub struct Pool {
    protocol: isize,
    free: Mutex<Vec<Client>>,
}

/// Clients that a pool keeps.
const MAX_FREE: usize = 16;

impl Pool {
    pub const fn new(protocol: isize) -> Self {
        Self { protocol, free: Mutex::new(Vec::new()) }
    }

    /// A client, whose it is until it is given back by [`Pool::give_back`] or dropped.
    pub fn take(&self) -> Result<Client, Errno> {
        let client = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        client.map_or_else(|| Client::open(self.protocol), Ok)
    }

    pub fn give_back(&self, client: Client) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MAX_FREE {
            free.push(client);
        }
    }

    /// Lends a client to `work`.
    pub fn with<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, Error>) -> Result<T, Error> {
        let mut client = self.take()?;
        let result = work(&mut client);
        self.give_back(client);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sys::netlink::NETLINK_GENERIC;

    /// The controller of generic netlink families, and its request for one of them.
    const CONTROLLER: u16 = 16;
    const GET_FAMILY: [u8; 4] = [3, 1, 0, 0];
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;

    #[test]
    fn a_request_is_answered_or_refused() {
        let mut client = Client::open(NETLINK_GENERIC).unwrap();
        let ask = |client: &mut Client, name: &str| {
            client.transact(CONTROLLER, 0, &GET_FAMILY, |attrs| attrs.put_str(FAMILY_NAME, name))
        };
        let reply = ask(&mut client, "nlctrl").unwrap().unwrap();
        assert_eq!(Attrs::new(&reply[4..]).find(FAMILY_ID).unwrap().u16(), Ok(CONTROLLER));
        assert_eq!(ask(&mut client, "no such one").unwrap_err().errno(), Errno::ENOENT);
        // Without a name the kernel has nothing to look for.
        let refused = client.transact(CONTROLLER, 0, &GET_FAMILY, |_| {}).unwrap_err();
        assert_eq!(refused.errno(), Errno::EINVAL);
    }

    #[test]
    fn a_batch_is_matched_by_sequence() {
        let mut client = Client::open(NETLINK_GENERIC).unwrap();
        let mut batch = Batch::default();
        for name in ["nlctrl", "none", "nlctrl"] {
            batch.push(CONTROLLER, 0, &GET_FAMILY, |attrs| attrs.put_str(FAMILY_NAME, name));
        }
        let mut told = Vec::new();
        let mut tell = |place, outcome: Outcome<'_>| {
            told.push((
                place,
                match outcome {
                    Outcome::Reply(message) => message.kind.to_string(),
                    Outcome::Refused(refusal) => refusal.errno.to_string(),
                    Outcome::Done => "done".to_owned(),
                    Outcome::Warned(words) => words.into(),
                    Outcome::Unknown => "unknown".to_owned(),
                },
            ));
        };
        client.transact_batch(&mut batch, &mut tell).unwrap();
        let expected = [(0, "16"), (1, "No such file or directory"), (2, "16")];
        assert_eq!(told, expected.map(|(place, text)| (place, text.to_owned())));
    }

    #[test]
    fn a_dump_ends() {
        let mut client = Client::open(NETLINK_GENERIC).unwrap();
        let mut ids = Vec::new();
        let mut each = |message: Message<'_>| {
            ids.push(Attrs::new(&message.payload[4..]).find(FAMILY_ID).unwrap().u16()?);
            Ok(())
        };
        client.dump(CONTROLLER, &GET_FAMILY, &|_| {}, &mut || {}, &mut each).unwrap();
        assert!(ids.contains(&CONTROLLER));
        // An unfinished one is not in the way of the next request.
        client.dump_start(CONTROLLER, &GET_FAMILY, |_| {}).unwrap();
        assert!(
            client.transact(CONTROLLER, 0, &GET_FAMILY, |attrs| attrs.put_str(FAMILY_NAME, "nlctrl")).is_ok()
        );
    }

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_kernel_s_words_are_read() {
        // An error of -22 for a request of which the header is left, then "no" and offset 20.
        let kind = u32::from(kind::ERROR) | u32::from(flag::CAPPED | flag::ACK_TLVS) << 16;
        let mut datagram = bytes(&[52, kind, 7, 9, -22i32 as u32, 100, 0, 0, 0]);
        let mut attrs = Writer::new();
        attrs.put_str(extack::MSG, "no");
        attrs.put_u32(extack::OFFSET, 20);
        datagram.extend(attrs.into_bytes());
        let message = Messages::new(&datagram).next().unwrap().unwrap();
        let refusal = Refusal { errno: Errno::EINVAL, text: Some("no".into()), offset: Some(20) };
        assert_eq!(message.verdict(), Some(Err(refusal.clone())));
        let error = Error::from(refusal);
        assert_eq!((error.to_string(), error.detail()), ("Invalid argument".to_owned(), Some("no")));
    }

    #[test]
    fn what_was_done_may_come_with_words() {
        let kind = u32::from(kind::ERROR) | u32::from(flag::CAPPED | flag::ACK_TLVS) << 16;
        let mut datagram = bytes(&[48, kind, 7, 9, 0, 100, 0, 0, 0]);
        let mut attrs = Writer::new();
        attrs.put_str(extack::MSG, "no room");
        datagram.extend(attrs.into_bytes());
        let mut told = Vec::new();
        settle(&datagram, 7, &mut [false], &mut |place, outcome| {
            let Outcome::Warned(words) = outcome else { panic!("no words") };
            told.push((place, words.into_string()));
        });
        assert_eq!(told, [(0, "no room".to_owned())]);
    }

    #[test]
    fn malformed_messages_are_named() {
        let first = |datagram: &[u8]| Messages::new(datagram).find_map(Result::err);
        assert_eq!(first(&[1, 2, 3]), Some(Malformed::Truncated { at: 0 }));
        assert_eq!(first(&bytes(&[15, 0, 0, 0])), Some(Malformed::BadLength { at: 0, len: 15 }));
        assert_eq!(
            first(&bytes(&[16, 0, 0, 0, 99, 0, 0, 0])),
            Some(Malformed::BadLength { at: 16, len: 99 })
        );
        assert_eq!(first(&bytes(&[16, 0, 0, 0, 0])), Some(Malformed::Truncated { at: 16 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn arbitrary_bytes_do_not_panic(mut datagram in proptest::collection::vec(any::<u8>(), 0..96), len: bool) {
            if len && datagram.len() >= HEADER {
                let len = (datagram.len() as u32).to_ne_bytes();
                datagram[..4].copy_from_slice(&len);
                datagram[4..6].copy_from_slice(&kind::ERROR.to_ne_bytes());
            }
            for message in Messages::new(&datagram).flatten() {
                let _ = message.verdict();
            }
            settle(&datagram, 0, &mut [false; 4], &mut |_, _| {});
        }
    }
}
